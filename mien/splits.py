"""Splits: which images train and which test, with frames, clips, subjects or whole datasets kept
together.

Who lands where is a function of names and the seed: the order of the rows plays no part.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import Field

from mien.errors import DataError, LeakageError, UsageError
from mien.faces import Faces
from mien.figures import class_sheet
from mien.progress import many, say
from mien.seeds import seed as seed_of
from mien.spec import Spec
from mien.spellings import listed, people, person
from mien.store import Run, Store

By = Literal["frame", "clip", "subject", "dataset"]
Texts = Shaped[np.ndarray, " n"]


class SplitSpec(Spec):
    """One side of one fold of a set."""

    stage: ClassVar[str] = "split"
    faces: str  # the run that is split
    by: By
    folds: int = Field(ge=2)
    number: int = Field(ge=0)  # which fold is tested
    side: Literal["train", "test"]
    seed: int = 0


@dataclass(frozen=True)
class Fold:
    """Which images train and which test: two boolean masks [n], of which just one is true for each
    image.
    """

    train: Bool[np.ndarray, " n"]
    test: Bool[np.ndarray, " n"]


def split(faces: Faces, by: By, folds: int, number: int, seed: int) -> Fold:
    """Return fold `number`, from 0, of `folds`: its test side is one part of `faces`, its training
    side all others.

    The parts are disjoint and cover everything. By frame they are a stratified random split: images
    are dealt out class by class, so that sizes differ by one at most. By clip, subject or dataset,
    whole groups are dealt out, large shares of a class first, each to the part where classes pile
    up least; this is greedy, not optimal. A photograph that belongs to no clip is a clip of its
    own. As many folds as subjects is leave-one-subject-out, as many as datasets
    leave-one-dataset-out, in the order of names.

    Raises DataError if a subject or dataset is not known or there are fewer groups than folds;
    UsageError for a wrong number.
    """
    if folds < 2 or not 0 <= number < folds:
        raise UsageError(
            f"folds must be 2 or more and number from 0 to folds - 1; given: {folds} folds, number "
            f"{number}"
        )
    groups = _groups(faces, by)
    if by == "subject":
        groups = _people(groups)
    names = sorted(set(groups))
    if len(names) < folds:
        remedy = (
            "join another one with `mien join`"
            if by == "dataset" and len(names) < 2
            else "or more faces"
        )
        raise DataError(
            f"{folds} folds by {by} need as many {by}s, and these faces have {len(names)}; use "
            f"{max(2, len(names))} folds or fewer, {remedy}"
        )
    if len(names) == folds:
        part = {name: place for place, name in enumerate(names)}
    elif by == "frame":
        part = _deal_images(faces, folds, seed)
    else:
        part = _deal_groups(groups, faces.labels(), folds, seed)
    test = np.array([part[name] for name in groups]) == number
    return Fold(~test, test)


def usual_folds(faces: Faces, by: str) -> int:
    """Return how many folds are usual: one for each dataset by dataset, else five."""
    return max(2, len(set(faces.index["dataset"]))) if by == "dataset" else 5


def missing(faces: Faces, fold: Fold) -> tuple[str, ...]:
    """Return the classes that occur in `faces` and not on the training side: no classifier can
    learn them there.
    """
    trained = set(faces.index["emotion"][fold.train])
    return tuple(emotion for emotion in faces.classes if emotion not in trained)


def overlap(seen: pd.DataFrame | Faces, test: Faces) -> dict[str, int | float]:
    """Return how much of `test` was seen: shared frames (keys), clips and subjects, and the share
    of images of each.

    `seen` is the training set, or a table with key, subject and clip. What is not known is not
    counted.
    """
    counts: dict[str, int | float] = {}
    bys: tuple[By, ...] = ("frame", "clip", "subject")
    for by in bys:
        names, affected = shared(seen, test, by)
        counts |= {
            f"{by}s": len(names),
            f"{by}s_share": float(affected.mean()) if len(test) else 0.0,
        }
    return counts


def shared(
    seen: pd.DataFrame | Faces, test: Faces, by: By
) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """Return the frames (keys), clips, subjects or datasets of `test` that were seen, sorted, and
    the images affected.

    `seen` is the training set, or a table with key, subject and clip. What is not known is not
    counted.
    """
    known = set(_exposure(seen)["key" if by == "frame" else by]) - {""}
    return _shared(test, by, known)


def beyond(made: Faces, train: Faces) -> pd.DataFrame:
    """Return key, subject and clip of the images that the generators of `made` saw and `train` does
    not hold.

    They are told by key: a generator may have seen less than `train` holds, never more. Real images
    stand for none. Raises DataError if synthetic images do not say what their generator saw.
    """
    synthetic = ~_real(made)
    if not synthetic.any():
        return pd.DataFrame({"key": [], "subject": [], "clip": []}, dtype="str")
    seen = _exposure(made.select(synthetic)) if made.seen is None else made.seen
    return pd.DataFrame(seen.loc[~seen["key"].isin(train.index["key"]), ["key", "subject", "clip"]])


def require_unseen(
    seen: pd.DataFrame | Faces, test: Faces, by: Literal["clip", "subject", "dataset"]
) -> None:
    """Raise LeakageError if `test` holds a clip, subject or dataset that training has seen.

    `seen` is the training set, or a table with key, subject and clip, and dataset where it is
    known. A synthetic image stands for all that its generator was trained on. By subject or
    dataset, an image where it is unknown is an error too, on either side: nothing can be shown
    about it. By clip, a photograph that belongs to no clip is known by its key.
    """
    table, shown = _exposure(seen), _exposure(test)
    if by != "clip":
        _require_known(table, by, "the training side")
        _require_known(shown, by, "the test side")
    found, affected = _shared(test, by, set(_units(table, by)))
    if found:
        total = len(set(_units(shown, by)))
        raise LeakageError(
            f"the test side must hold no {by} that training has seen, and {len(found)} of its "
            f"{total} were seen: {_some(found)} ({int(affected.sum())} of "
            f"{many(len(test), 'test image')}). Split by {by} with `mien split`, and train "
            "classifier and generator on the training side of the same fold"
        )


def run(spec: SplitSpec, store: Store, *, alias: str | None = None) -> Run:
    """Make the run of `spec` in `store`: one side as faces, sheet.png and summary.json.

    A class that is missing from the training side is told, on stderr.
    """
    parent = store.run(spec.faces)
    spec = spec.model_copy(update={"faces": parent.name})
    faces = Faces.load(parent.path)
    fold = split(faces, spec.by, spec.folds, spec.number, spec.seed)
    lacking = missing(faces, fold)
    alike = people(Counter(faces.index["subject"])).alike if spec.by == "subject" else []
    if alike and spec.side == "train":
        say(
            "names that look alike are taken for different people, and may stand on both sides: "
            f"{listed(alike)}"
        )
    if lacking and spec.side == "train":
        say(f"fold {spec.number} by {spec.by} has no {', '.join(lacking)} on its training side")

    def build(out: Path, scratch: Path) -> None:
        side = faces.select(fold.train if spec.side == "train" else fold.test)
        side.save(out)
        class_sheet(side).save(out / "sheet.png")
        summary = {
            "images": len(side),
            "shape": list(side.size),
            "counts": side.counts().to_dict("records"),
            "missing_from_training": list(lacking),
            "overlap": overlap(faces.select(fold.train), faces.select(fold.test)),
        }
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    return store.make(spec, build, alias)


# Dealing out


def _groups(faces: Faces, by: By) -> Texts:
    """Return the name of the group that each image belongs to."""
    groups = _units(faces.index, by)
    unknown = _units(faces.index, "frame")[groups == ""]
    if len(unknown):
        remedy = (
            "ingest them with --name"
            if by == "dataset"
            else "ingest with --subject-pattern or a subject column"
        )
        raise DataError(
            f"a split by {by} needs the {by} of every image, and {len(unknown)} of {len(faces)} "
            f"have none, such as {unknown[0]}; {remedy}, or split by clip or frame"
        )
    return groups


def _people(subjects: Texts) -> Texts:
    """Return the names of subjects, all spellings of one person's by the first: nobody stands on
    both sides.
    """
    called: dict[str, str] = {}
    for name in sorted(set(subjects)):
        called.setdefault(person(name), name)
    return np.array([called[person(name)] for name in subjects], dtype=object)


def _units(table: pd.DataFrame, by: By) -> Texts:
    """Return the unit of each row: its key, its clip (its key where it has none), its subject or
    its dataset.
    """
    keys = np.asarray(table["key"], dtype=object)
    if by == "frame":
        return keys
    names = np.asarray(table[by], dtype=object)
    return np.where(names == "", keys, names) if by == "clip" else names


def _draw(name: str, seed: int) -> str:
    """Return a random-looking text that depends on the name and the seed alone: what ties are
    broken by.
    """
    return hashlib.sha256(f"{seed_of('split', seed)}\x1f{name}".encode()).hexdigest()


def _deal_images(faces: Faces, folds: int, seed: int) -> dict[str, int]:
    """Images in the order of class and draw go round the folds, as cards do."""
    pairs = zip(faces.labels(), faces.index["key"], strict=True)
    order = sorted((int(label), _draw(key, seed), key) for label, key in pairs)
    return {key: place % folds for place, (_, _, key) in enumerate(order)}


def _deal_groups(
    groups: Texts, labels: Int[np.ndarray, " n"], folds: int, seed: int
) -> dict[str, int]:
    """Each group goes where it raises the sum over folds and classes of (share of the class in the
    fold)² least.

    Shares, not counts: a rare class weighs as much as a common one. An empty fold always costs
    least, so none stays empty. Groups come by size, to a power of two, so that the seed has a say
    among those of like size.
    """
    counts = pd.crosstab(groups, labels)
    shares = dict(
        zip(counts.index, (counts / counts.sum()).to_numpy(dtype=np.float64), strict=True)
    )
    order = sorted(
        shares,
        key=lambda name: (-math.floor(math.log2((shares[name] ** 2).sum())), _draw(name, seed)),
    )
    held: Float[np.ndarray, "folds classes"] = np.zeros((folds, counts.shape[1]))
    part = {}
    for name in order:
        cost = (2 * held * shares[name]).sum(axis=1)
        part[name] = min(
            range(folds), key=lambda fold: (round(float(cost[fold]), 12), held[fold].sum(), fold)
        )
        held[part[name]] += shares[name]
    return part


# Leakage


def _exposure(faces: pd.DataFrame | Faces) -> pd.DataFrame:
    """Return key, subject, clip and dataset of each real image that `faces` show or come from."""
    columns = ["key", "subject", "clip"]
    known = [*columns, "dataset"]  # which what was generated by an older mien does not tell
    if isinstance(faces, pd.DataFrame):
        lacking = [name for name in columns if name not in faces.columns]
        if lacking:
            raise DataError(
                f"what was seen must have the columns {', '.join(columns)}, and lacks "
                f"{', '.join(lacking)}"
            )
        return faces.reindex(columns=known, fill_value="")
    real = _real(faces)
    own = pd.DataFrame(faces.index[real], columns=known)
    if real.all():
        return own
    if faces.seen is None:
        raise DataError(
            f"synthetic faces must say what their generator has seen, and {int((~real).sum())} of "
            f"these {len(faces)} do not; generate them again, with `mien generate`"
        )
    return pd.concat([own, faces.seen.reindex(columns=known, fill_value="")], ignore_index=True)


def _real(faces: Faces) -> Bool[np.ndarray, " n"]:
    return np.asarray(faces.index["source"], dtype=object) == "real"


def _shared(test: Faces, by: By, known: set[str]) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """Return the units of `test` that are in `known`, sorted, and which of its images they
    affect.
    """
    real = _real(test)
    own = _units(test.index, by)
    who = {name: person(name) if by == "subject" else name for name in {*own, *known}}
    met = {who[name] for name in known}
    affected = np.array([who[name] in met for name in own], dtype=bool) & real
    found = set(own[affected])
    if not real.all():
        there = _units(_exposure(test.select(~real)), by)
        copied = {
            name for name in there if (person(name) if by == "subject" else name) in met and name
        }
        found |= copied
        affected |= ~real & bool(copied)
    return sorted(found), affected


def _require_known(table: pd.DataFrame, by: Literal["subject", "dataset"], side: str) -> None:
    unknown = int((_units(table, by) == "").sum())
    if unknown:
        remedy = (
            "ingest with --subject-pattern or a subject column, or ask for clips instead"
            if by == "subject"
            else "ingest them with --name, and generate synthetic ones again"
        )
        raise LeakageError(
            f"{by}s must be known to show that none was seen, and {unknown} of "
            f"{many(len(table), 'image')} of {side} {'has' if unknown == 1 else 'have'} none; "
            f"{remedy}"
        )


def _some(names: Sequence[str], limit: int = 5) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
