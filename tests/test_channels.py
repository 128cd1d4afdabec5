"""Channels and what a generator saw stay with faces, whatever is made of them."""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import keep, people

from mien import faces
from mien.audit import plain_folders
from mien.audit.labels.review import Decisions, apply_decisions
from mien.audit.leakage.sides import ComparedSides
from mien.audit.part import make_empty_side
from mien.faces import Faces
from mien.prepare import inputs, joins, splits, views
from mien.prepare.preprocess import preprocess, run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec
from mien.runs.store import Store
from mien.study.controls import permute_labels

MIEN = Path(__file__).parent.parent / "mien"
INPUT = ("gray", "laplacian")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("channels") / "store")


@pytest.fixture(scope="module")
def shown(store: Store) -> Faces:
    """Drawn people seen in two channels, some of which a generator saw."""
    plain = keep(people(range(4), clips=1, frames=2), store, "plain")
    run = run_preprocess(PreprocessSpec(faces=plain.name, frames="all", input=INPUT), store)
    found = Faces.load(run.path)
    seen = pd.DataFrame(
        {"key": ["a"], "subject": ["b"], "clip": ["c"], "dataset": ["d"]}, dtype="str"
    )
    return replace(found, seen=seen)


def reviewed(shown: Faces, store: Store) -> Faces:
    run = keep(shown, store, "to-review")
    keys = shown.index["key"].tolist()[:2]
    table = pd.DataFrame(
        {"key": keys, "decision": ["reject", "accept"], "relabel": ["", ""], "note": ["", ""]}
    )
    return Faces.load(apply_decisions(Decisions(run.name, table), store).path)


def joined(shown: Faces, store: Store) -> Faces:
    names = []
    for name in ("one", "two"):
        columns = {
            column: (name + ":" + shown.index[column].str.partition(":")[2]).astype("str")
            for column in ("subject", "clip")
        }
        index = shown.index.assign(key=name + "/" + shown.index["key"], dataset=name, **columns)
        names.append(
            keep(
                replace(shown, index=index.astype(shown.index.dtypes.to_dict())),
                store,
                f"join-{name}",
            ).name
        )
    return Faces.load(joins.run_join(JoinSpec(faces=tuple(names)), store).path)


def sided(shown: Faces, store: Store) -> Faces:
    run = keep(shown, store, "side")
    return ComparedSides(run, run, None, True, ("a", "b")).load_faces()[0]


def foldered(shown: Faces, store: Store) -> Faces:
    return Faces.load(plain_folders.mark_synthetic(keep(shown, store, "folder"), store).path)


def viewed(shown: Faces, store: Store) -> Faces:
    return Faces.load(views.make_view(store.run("plain"), {"input": list(INPUT)}, store).path)


WAYS: dict[str, Callable[[Faces, Store], Faces]] = {
    "select": lambda shown, store: shown.select(np.arange(3)),
    "concat": lambda shown, store: faces.concatenate(
        [shown.select(np.arange(2)), shown.select(np.arange(2, 5))]
    ),
    "save and load": lambda shown, store: Faces.load(keep(shown, store, "saved").path),
    "preprocess": lambda shown, store: preprocess(
        shown, PreprocessSpec(faces="", frames="all", size=16, classes="casme2-5")
    ),
    "split": lambda shown, store: shown.select(splits.split(shown, "subject", 2, 0, 0).train),
    "permuted labels": lambda shown, store: permute_labels(shown, 0),
    "review": reviewed,
    "join": joined,
    "sides": sided,
    "synthetic folder": foldered,
    "view": viewed,
    "nobody held out": lambda shown, store: make_empty_side(shown),
}


@pytest.mark.parametrize("way", WAYS)
def test_channels_are_still_named(shown: Faces, store: Store, way: str):
    found = WAYS[way](shown, store)
    assert found.channels == INPUT and set(INPUT) <= set(inputs.INPUTS)
    if way != "view":  # which begins with the plain pictures
        assert found.seen is not None and found.seen["subject"].tolist()[:1] == ["b"]


def test_faces_are_made_of_faces_in_one_way():
    """A call of Faces with another's images forgets what it does not name; dataclasses.replace does
    not.
    """
    wrong = []
    for path in sorted(MIEN.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Faces"
            ):
                continue
            first = node.args[:1] or [
                keyword.value for keyword in node.keywords if keyword.arg == "images"
            ]
            named = len(node.args) > 3 or any(
                keyword.arg == "channels" for keyword in node.keywords
            )
            within = [
                part.attr
                for one in first
                for part in ast.walk(one)
                if isinstance(part, ast.Attribute)
            ]
            if "images" in within and not named:
                wrong.append(f"{path.relative_to(MIEN)}:{node.lineno}")
    assert not wrong
