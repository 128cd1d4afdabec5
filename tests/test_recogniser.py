"""A recogniser of one's own finds training people in synthetic faces, or says it has no power."""

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from worlds import inside, keep

from mien.audit import verdict
from mien.audit.features import Space
from mien.audit.memorisation.recogniser_part import measure_part
from mien.audit.memorisation.recognition import RealFaces, RealPairs, find_threshold, measure_power
from mien.audit.part import PartInput, PartResult
from mien.audit.parts import plan_parts
from mien.audit.run import judge_parts
from mien.audit.specs import AuditSpec, RecogniserSpec
from mien.classifiers.networks import Tiny
from mien.faces import Faces, make_index
from mien.runs.store import Store

SIZE, CLASSES = 16, ("anger", "happiness")


@cache
def portraits(first: int, last: int, images: int = 4) -> Faces:
    """People as drawn patterns, each with noise of its own in each clip."""
    pictures, rows = [], []
    for number in range(first, last):
        pattern = np.random.default_rng([7, number]).uniform(40, 215, (1, 4, 4))
        pattern = pattern.repeat(4, axis=1).repeat(4, axis=2)
        for clip in range(images):
            noise = np.random.default_rng([8, number, clip]).normal(0, 12, pattern.shape)
            pictures.append((pattern + noise).clip(0, 255).astype(np.uint8))
            rows.append((f"p{number:03d}", f"p{number:03d}/{clip}", CLASSES[clip % 2]))
    pixels = np.stack(pictures)
    subjects, clips, emotions = (list(column) for column in zip(*rows, strict=True))
    columns = {"subject": subjects, "clip": clips, "emotion": emotions}
    index = make_index(pixels, key=clips, dataset="drawn", licence="CC0", **columns)
    return Faces(pixels, index)


def knowing(images: np.ndarray) -> np.ndarray:
    """The code of the person, by a fixed linear map: the pattern, which nothing else changes."""
    mean = images.mean(axis=1).reshape(len(images), 4, 4, 4, 4).mean(axis=(2, 4))
    return (mean.reshape(len(images), -1) - 127.5).astype(np.float32)


def guessing(images: np.ndarray) -> np.ndarray:
    """Noise that differs from image to image, whoever is shown."""
    rows = [np.random.default_rng(image.ravel().tolist()).normal(size=16) for image in images]
    return np.stack(rows).astype(np.float32)


def look(synthetic: Faces, extract=knowing, test: Faces | None = None) -> PartResult:
    space = Space("own", "", extract, "rgb", SIZE)
    sides = portraits(0, 20), portraits(20, 40) if test is None else test, synthetic
    given = PartInput(*sides, {}, lambda: pytest.fail("no matches"), find_recogniser=lambda: space)
    return measure_part(given)


def answers(measured: PartResult, synthetic: Faces) -> dict[str, str]:
    limits = verdict.read_thresholds()
    own = {name: fields for name, fields in limits.items() if name.startswith("recogniser.")}
    people = verdict.HeldOut(20)
    judged = judge_parts({"recogniser": measured}, synthetic, own, people)
    return {check.name: check.verdict for check in judged.checks}


def values(measured: PartResult) -> dict[str, float]:
    return {record.metric: record.value for record in measured.records}


def test_training_people_are_found_and_fresh_people_are_not():
    planted, fresh = portraits(0, 20, images=6), portraits(60, 80)
    found, free = look(planted), look(fresh)
    assert values(found)["recogniser.auc"] > 0.99
    assert values(found)["recogniser.shown_01"] > 0.95
    assert values(found)["recogniser.shown_01_heldout"] < 0.1
    assert answers(found, planted) == {"recogniser.auc": "pass", "recogniser.gap": "fail"}
    assert values(free)["recogniser.shown_01"] < 0.15
    assert answers(free, fresh) == {"recogniser.auc": "pass", "recogniser.gap": "pass"}

    # The rows name the right people, and the pairs are shown
    own = found.rows["key"].str.split("/").str[0]
    assert (found.rows["recognised_as"].str.split("/").str[0] == own).mean() > 0.95
    assert found.rows["recogniser_alarm"].mean() > 0.95
    assert found.picture is not None and found.picture.height > 12 * 3 * SIZE


def test_a_few_planted_people_are_a_warning_or_worse():
    mixed = portraits(60, 80)
    some = portraits(0, 20, images=2).select(np.arange(24))
    both = Faces(np.concatenate([mixed.images, some.images]), _join(mixed, some))
    assert answers(look(both), both)["recogniser.gap"] in ("warn", "cannot tell", "fail")


def _join(one: Faces, other: Faces) -> pd.DataFrame:
    return pd.concat([one.index, other.index], ignore_index=True)


def test_a_network_without_power_says_so_and_raises_no_alarm():
    planted = portraits(0, 20)
    measured = look(planted, guessing)
    assert set(values(measured)) == {"recogniser.auc"}
    assert 0.3 < values(measured)["recogniser.auc"] < 0.7
    assert "no power on these faces" in measured.notes[0] and measured.picture is None
    checks = answers(measured, planted)
    assert checks == {"recogniser.auc": "cannot tell", "recogniser.gap": "cannot tell"}


def test_too_few_people_or_single_images_are_said():
    few = look(portraits(60, 80), test=portraits(20, 23))
    assert not few.records and "3 held-out people" in few.notes[0]


def test_power_and_threshold_are_those_of_all_pairs_counted_by_hand():
    rng = np.random.default_rng(0)
    names = np.repeat(["a", "b", "c", "d"], 3)
    sides = [RealFaces.of(rng.normal(size=(12, 3)), list(names), ["x"] * 12) for _ in range(2)]
    pairs = RealPairs.of(*sides)
    different = (sides[0].vectors @ sides[1].vectors.T).ravel()
    same = np.concatenate([part for side in sides for part in side.list_pairs_of_each_person()])
    auc = measure_power(pairs)
    assert auc.value == pytest.approx((same[:, None] > different[None]).mean(), abs=1e-5)
    assert auc.low < auc.value < auc.high
    limit = find_threshold(pairs, 0.01)
    assert (different > limit).sum() == 1 and find_threshold(pairs, 0.001) is None


def test_pairs_of_two_sources_do_not_count():
    rng = np.random.default_rng(1)
    names = [f"{number // 2:02d}" for number in range(40)]
    sources = ["x" if number < 20 else "y" for number in range(40)]
    sides = [RealFaces.of(rng.normal(size=(40, 4)), names, sources) for _ in range(2)]
    assert RealPairs.of(*sides).count == 2 * 20 * 20


# The command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three sets, and files of the project's small network and of others."""
    folder = tmp_path_factory.mktemp("recogniser")
    store = Store(folder / "store")
    for alias, people in {"train": (0, 12), "test": (20, 32), "planted": (0, 10)}.items():
        keep(portraits(*people, images=3), store, alias)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(Tiny(8).state_dict(), folder / "tiny.safetensors")
    (folder / "pickled.bin").write_bytes(pickle.dumps({"weights": [1.0]}))
    write_file(folder / "own.toml", "tiny.safetensors")
    return folder


def write_file(path: Path, weights: str, **fields: object) -> None:
    lines = {"network": "tiny", "weights": weights, "size": SIZE, **fields}
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))


def audit(folder: Path, space: str, *more: str, code: int) -> str:
    sides = ("planted", "--train", "train", "--test", "test", "--device", "cpu")
    return inside(folder, "audit", *sides, "--space", space, *more, code=code)


def audit_json(folder: Path, space: str) -> dict[str, Any]:
    text = audit(folder, space, "--spaces", "pixels", "--json", code=4)
    return json.JSONDecoder().raw_decode(text[text.index("{") :])[0]


def test_the_command_finds_planted_people_with_the_network_of_a_file(place: Path):
    write_file(place / "own.toml", "tiny.safetensors", mean=[0.5] * 3, std=[0.5] * 3, output="head")
    first = audit_json(place, f"own={place / 'own.toml'}")
    checks = {check["name"]: check["verdict"] for check in first["checks"]}
    assert checks["recogniser.auc"] == "pass" and checks["recogniser.gap"] == "fail"
    assert "recogniser tiny in 16 x 16 pixels" in first["spaces"]["own"]
    page = Path(first["page"])
    assert "What the recogniser finds most similar" in page.read_text(encoding="utf-8")
    assert not first["thresholds_changed"]

    # The same file elsewhere is the same audit
    other = place / "elsewhere"
    other.mkdir()
    (other / "moved.safetensors").write_bytes((place / "tiny.safetensors").read_bytes())
    same = {"mean": [0.5] * 3, "std": [0.5] * 3, "output": "head"}
    write_file(other / "own.toml", "moved.safetensors", **same)
    again = audit_json(place, f"own={other / 'own.toml'}")
    assert again["page"] == first["page"]


@pytest.mark.parametrize(
    ("weights", "said"),
    [("absent.safetensors", "no file"), ("pickled.bin", "pickle"), ("own.toml", "own.toml")],
)
def test_a_file_that_holds_no_weights_is_refused_at_once(place: Path, weights: str, said: str):
    write_file(place / "wrong.toml", weights)
    before = Store(place / "store").list_names()
    assert said in audit(place, f"own={place / 'wrong.toml'}", code=2)
    assert Store(place / "store").list_names() == before


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("own=net.pt2", "can run code"),
        ("own=absent.toml", "absent.toml"),
        ("judge=own.toml", "differ from"),
        ("own", "NAME=VALUE"),
    ],
)
def test_a_space_that_cannot_be_read_is_refused_in_one_message(place: Path, space: str, said: str):
    name, equals, file = space.partition("=")
    text = audit(place, f"{name}{equals}{place / file if file else ''}", code=2)
    assert said in " ".join(text.split())


def test_the_terminal_the_page_and_audit_json_say_that_a_network_has_no_power(place: Path):
    blank = {name: torch.zeros_like(value) for name, value in Tiny(8).state_dict().items()}
    save_file(blank, place / "blank.safetensors")
    write_file(place / "blank.toml", "blank.safetensors")
    space = f"blank={place / 'blank.toml'}"
    text = " ".join(audit(place, space, "--spaces", "pixels", code=4).split())
    said = "the space blank has no power on these faces (AUC 0.50"
    assert said in text
    content = audit_json(place, space)
    assert said in " ".join(content["notes"])
    checks = {check["name"]: check["verdict"] for check in content["checks"]}
    assert {checks["recogniser.auc"], checks["recogniser.gap"]} == {"cannot tell"}
    page = Path(content["page"]).read_text(encoding="utf-8")
    assert said in page and "What the recogniser finds most similar" not in page


def test_an_audit_without_a_recogniser_has_none_of_its_limits_and_parts():
    known = verdict.read_thresholds()
    plain = verdict.select_thresholds(known, clips=True, recogniser=False)
    assert set(known) - set(plain) == {"recogniser.auc", "recogniser.gap"}
    assert verdict.find_changes(plain, clips=True, recogniser=False) == []
    names = ("a-0000000000", "b-0000000000")
    spec = {"synthetic": names[0], "train": names[1], "thresholds": plain}
    assert "recogniser" not in AuditSpec.model_validate(spec).model_dump()
    own = RecogniserSpec(space="own", network="tiny", weights="file:0", size=16)
    plans = [
        set(plan_parts(*names, "", ("pixels",), "bilinear", {}, recogniser=given))
        for given in (None, own)
    ]
    assert plans[1] - plans[0] == {"recogniser"}
