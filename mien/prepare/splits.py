"""Split meets the store: a training and a test side that share nobody.

A split depends only on names and the seed, not on the order of the rows.
"""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from mien.errors import DataError, LeakageError, UsageError
from mien.faces import Faces, name_units
from mien.findings import list_some
from mien.pages.sheets import draw_class_sheet
from mien.prepare.specs import SplitSpec, Unit
from mien.runs.progress import quantify, say
from mien.runs.spec import read_spec
from mien.runs.store import Run, RunSummary, Store
from mien.seeds import derive_seed, make_rng
from mien.spellings import format_groups, identify_people, identify_person

Texts = Shaped[np.ndarray, " n"]


@dataclass(frozen=True)
class Fold:
    """The images of the two sides: boolean masks [n], of which exactly one is true per image."""

    train: Bool[np.ndarray, " n"]
    test: Bool[np.ndarray, " n"]


def split(faces: Faces, by: Unit, folds: int, number: int, seed: int) -> Fold:
    """Return fold `number` (from 0) of `folds`: one part of `faces` is its test side.

    The parts are disjoint and cover all images. By frame, they are a stratified random split:
    images are assigned in turn, class by class, so that the sizes differ by at most one. By clip,
    subject or dataset, whole groups are assigned, those with large shares of a class first, each to
    the part where it raises the concentration of classes least; this is greedy, not optimal. A
    photograph without a clip counts as a clip. As many folds as subjects is leave-one-subject-out,
    as many as datasets leave-one-dataset-out, in the order of names.

    Raises DataError if a subject or dataset is unknown or there are fewer groups than folds;
    UsageError for invalid numbers.
    """
    if folds < 2 or not 0 <= number < folds:
        raise UsageError(
            f"folds must be 2 or more and number from 0 to folds - 1; given: {folds} folds, number "
            f"{number}"
        )

    # Group the images, and check that there are enough groups.
    groups = _group_images(faces, by)
    if by == "subject":
        groups = _unify_spellings(groups)
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

    # Assign the groups to the parts.
    if len(names) == folds:
        part_of = {name: position for position, name in enumerate(names)}
    elif by == "frame":
        part_of = _assign_images(faces, folds, seed)
    else:
        part_of = _assign_groups(groups, faces.number_labels(), folds, seed)
    test = np.array([part_of[name] for name in groups]) == number
    return Fold(~test, test)


def keep_people(
    faces: Faces, train: Bool[np.ndarray, " n"], share: float | None, seed: int
) -> Bool[np.ndarray, " n"]:
    """Return the images of a training side that belong to a share of its people.

    At least two people are kept. A smaller share of the same side and seed keeps some of the people
    of a larger one. None is all of them.

    Raises DataError if a subject is unknown.
    """
    if share is None:
        return train
    subjects = faces.index["subject"].to_numpy(dtype=str)
    unknown = int((subjects[train] == "").sum())
    if unknown:
        raise DataError(
            "subjects must be known where a share of the people is kept, and "
            f"{quantify(unknown, 'training image')} has none; ingest with --subject-pattern or a "
            "subject column"
        )
    names = sorted(set(subjects[train]))
    kept = max(2, round(share * len(names)))
    order = make_rng("people", seed).permutation(len(names))[:kept]
    return train & np.isin(subjects, [names[index] for index in order])


def choose_fold_count(faces: Faces, by: str) -> int:
    """Return the default number of folds: the number of datasets by dataset, otherwise five."""
    return max(2, len(set(faces.index["dataset"]))) if by == "dataset" else 5


def find_missing_classes(faces: Faces, fold: Fold) -> tuple[str, ...]:
    """Return the classes of `faces` without an image on the training side, in their order."""
    trained = set(faces.index["emotion"][fold.train])
    return tuple(emotion for emotion in faces.classes if emotion not in trained)


def measure_overlap(seen: pd.DataFrame | Faces, test: Faces) -> dict[str, int | float]:
    """Return the numbers of frames (keys), clips and subjects of `test` that training has seen.

    Each has the share of test images that it affects, as `frames_share` and so on. `seen` is the
    training set, or a table with key, subject and clip. Unknown clips and subjects do not count.
    """
    counts: dict[str, int | float] = {}
    bys: tuple[Unit, ...] = ("frame", "clip", "subject")
    for by in bys:
        names, affected = find_shared(seen, test, by)
        counts |= {
            f"{by}s": len(names),
            f"{by}s_share": float(affected.mean()) if len(test) else 0.0,
        }
    return counts


def find_shared(
    seen: pd.DataFrame | Faces, test: Faces, by: Unit
) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """Return the units of `test` that training has seen, sorted, and the mask of their images.

    A unit is a frame (key), clip, subject or dataset, as `by` says. `seen` is the training set, or
    a table with key, subject and clip. Unknown units do not count.
    """
    seen_names = set(_list_seen_images(seen)["key" if by == "frame" else by]) - {""}
    return _find_shared(test, by, seen_names)


def find_seen_beyond(database: Faces, train: Faces) -> pd.DataFrame:
    """Return the images that the generators of `database` saw and `train` does not hold.

    The table has key, subject and clip; images are compared by key. A valid result is empty: a
    generator may have seen fewer images than `train` holds, but no others. Real images in
    `database` do not count. Raises DataError if synthetic images have no record of what their
    generator saw.
    """
    synthetic = ~_is_real(database)
    if not synthetic.any():
        return pd.DataFrame({"key": [], "subject": [], "clip": []}, dtype="str")
    seen = _list_seen_images(database.select(synthetic)) if database.seen is None else database.seen
    return pd.DataFrame(seen.loc[~seen["key"].isin(train.index["key"]), ["key", "subject", "clip"]])


def require_unseen(
    seen: pd.DataFrame | Faces, test: Faces, by: Literal["clip", "subject", "dataset"]
) -> None:
    """Raise LeakageError if `test` holds a clip, subject or dataset that training has seen.

    `seen` is the training set, or a table with key, subject and clip, and dataset where it is
    known. A synthetic image counts as all images that its generator was trained on. By subject or
    dataset, it is also an error if that of an image is unknown, on either side, because nothing can
    be shown about such an image. By clip, a photograph without a clip is identified by its key.
    """
    training_table, test_table = _list_seen_images(seen), _list_seen_images(test)
    if by != "clip":
        _require_known(training_table, by, "the training side")
        _require_known(test_table, by, "the test side")
    seen_units, affected = _find_shared(test, by, set(_read_units(training_table, by)))
    if seen_units:
        total = len(set(_read_units(test_table, by)))
        raise LeakageError(
            f"the test side must hold no {by} that training has seen, and {len(seen_units)} of its "
            f"{total} were seen: {list_some(seen_units)} ({int(affected.sum())} of "
            f"{quantify(len(test), 'test image')}). Split by {by} with `mien split`, and train "
            "classifier and generator on the training side of the same fold"
        )


def run_split(spec: SplitSpec, store: Store, *, alias: str | None = None) -> Run:
    """Return the run of `spec` in `store`: one side as faces, sheet.png and summary.json.

    Classes that are missing from the training side are reported on stderr.
    """
    parent = store.run(spec.faces)
    spec = spec.model_copy(update={"faces": parent.name})
    faces = Faces.load(parent.path)
    fold = split(faces, spec.by, spec.folds, spec.number, spec.seed)

    # Warn about subjects with similar names, and about classes without training images.
    missing_classes = find_missing_classes(faces, fold)
    alike = identify_people(Counter(faces.index["subject"])).alike if spec.by == "subject" else []
    if alike and spec.side == "train":
        say(
            "similar names are treated as different people, who may be on both sides: "
            f"{format_groups(alike)}"
        )
    if missing_classes and spec.side == "train":
        say(
            f"the training side of fold {spec.number} by {spec.by} has no "
            f"{', '.join(missing_classes)}"
        )

    def build(out: Path, scratch: Path) -> RunSummary:
        train = keep_people(faces, fold.train, spec.people, spec.seed)
        faces_of_side = faces.select(train if spec.side == "train" else fold.test)
        faces_of_side.save(out)
        draw_class_sheet(faces_of_side).save(out / "sheet.png")
        return {
            "images": len(faces_of_side),
            "shape": list(faces_of_side.size),
            "counts": faces_of_side.count_images().to_dict("records"),
            "missing_from_training": list(missing_classes),
            "overlap": measure_overlap(faces.select(fold.train), faces.select(fold.test)),
        }

    return store.make(spec, build, alias)


# Assigning groups to folds


def _group_images(faces: Faces, by: Unit) -> Texts:
    """Return the name of each image's group; raises DataError if that of an image is unknown."""
    groups = _read_units(faces.index, by)
    unknown = _read_units(faces.index, "frame")[groups == ""]
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


def _unify_spellings(subjects: Texts) -> Texts:
    """Return the subjects with one name for all spellings of a person, the first in order.

    Otherwise a person with two spellings could be on both sides.
    """
    person_of = {name: identify_person(name) for name in sorted(set(subjects))}
    first_name: dict[str, str] = {}
    for name, person in person_of.items():
        first_name.setdefault(person, name)
    return np.array([first_name[person_of[name]] for name in subjects], dtype=object)


def _read_units(table: pd.DataFrame, by: Unit) -> Texts:
    """Return the unit of each row: its key, clip (or key if it has none), subject or dataset."""
    if by == "clip":
        return name_units(table, "clip").to_numpy(dtype=object)
    return np.asarray(table["key" if by == "frame" else by], dtype=object)


def _draw_tie_breaker(name: str, seed: int) -> str:
    """Return a pseudorandom text that depends only on the name and the seed, to break ties."""
    return hashlib.sha256(f"{derive_seed('split', seed)}\x1f{name}".encode()).hexdigest()


def _assign_images(faces: Faces, folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each key: images in order of class and draw go to the folds in turn."""
    pairs = zip(faces.number_labels(), faces.index["key"], strict=True)
    order = sorted((int(label), _draw_tie_breaker(key, seed), key) for label, key in pairs)
    return {key: position % folds for position, (_, _, key) in enumerate(order)}


def _assign_groups(
    groups: Texts, labels: Int[np.ndarray, " n"], folds: int, seed: int
) -> dict[str, int]:
    """Return the fold of each group, assigned greedily so that classes are spread evenly.

    Each group goes to the fold where it raises the sum over folds and classes of (share of the
    class in the fold)² least. Shares, not counts, give a rare class the same weight as a common
    one. An empty fold always costs least, so no fold remains empty. Groups are sorted by size,
    rounded to a power of two, so that the seed decides the order of groups of similar size.
    """
    # The share of each class that a group holds, and the order of groups
    names, group_of = np.unique(groups, return_inverse=True)
    classes, class_of = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_of, class_of), 1)
    shares = dict(zip(names.tolist(), counts / counts.sum(axis=0), strict=True))
    order = sorted(
        shares,
        key=lambda name: (
            -math.floor(math.log2((shares[name] ** 2).sum())),
            _draw_tie_breaker(name, seed),
        ),
    )

    # Each group goes to the fold where it costs least
    fold_shares: Float[np.ndarray, "folds classes"] = np.zeros((folds, len(classes)))
    fold_of = {}
    for name in order:
        cost = (2 * fold_shares * shares[name]).sum(axis=1)
        fold_of[name] = min(
            range(folds),
            key=lambda fold: (round(float(cost[fold]), 12), fold_shares[fold].sum(), fold),
        )
        fold_shares[fold_of[name]] += shares[name]
    return fold_of


# Leakage


def _list_seen_images(faces: pd.DataFrame | Faces) -> pd.DataFrame:
    """Return key, subject, clip and dataset of each real image in `faces` or behind them.

    The images behind synthetic faces are those that their generators were trained on.
    """
    columns = ["key", "subject", "clip"]
    seen_columns = [*columns, "dataset"]  # the last is empty for images of an older mien

    # A table says itself what was seen.
    if isinstance(faces, pd.DataFrame):
        missing_columns = [name for name in columns if name not in faces.columns]
        if missing_columns:
            raise DataError(
                f"the table of what was seen must have the columns {', '.join(columns)}, and lacks "
                f"{', '.join(missing_columns)}"
            )
        return faces.reindex(columns=seen_columns, fill_value="")

    # Real images count themselves, and synthetic ones what their generators saw.
    real = _is_real(faces)
    images = pd.DataFrame(faces.index[real], columns=seen_columns)
    if real.all():
        return images
    if faces.seen is None:
        raise DataError(
            f"synthetic faces must say what their generator has seen, and {int((~real).sum())} of "
            f"these {len(faces)} do not; generate them again, with `mien generate`"
        )
    return pd.concat(
        [images, faces.seen.reindex(columns=seen_columns, fill_value="")], ignore_index=True
    )


def _is_real(faces: Faces) -> Bool[np.ndarray, " n"]:
    return np.asarray(faces.index["source"], dtype=object) == "real"


def _find_shared(
    test: Faces, by: Unit, seen_names: set[str]
) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """Return the units of `test` that are in `seen_names`, sorted, and the mask of their images."""
    real = _is_real(test)
    units = _read_units(test.index, by)
    identity = {
        name: identify_person(name) if by == "subject" else name for name in {*units, *seen_names}
    }
    known_identities = {identity[name] for name in seen_names}
    affected = np.array([identity[name] in known_identities for name in units], dtype=bool) & real
    seen_units = set(units[affected])
    if not real.all():
        source_units = _read_units(_list_seen_images(test.select(~real)), by)
        seen_sources = {
            name
            for name in source_units
            if (identify_person(name) if by == "subject" else name) in known_identities and name
        }
        seen_units |= seen_sources
        affected |= ~real & bool(seen_sources)
    return sorted(seen_units), affected


def _require_known(table: pd.DataFrame, by: Literal["subject", "dataset"], side: str) -> None:
    unknown = int((_read_units(table, by) == "").sum())
    if unknown:
        remedy = (
            "ingest with --subject-pattern or a subject column, or ask for clips instead"
            if by == "subject"
            else "ingest them with --name, and generate synthetic ones again"
        )
        raise LeakageError(
            f"{by}s must be known to show that none was seen, and {unknown} of "
            f"{quantify(len(table), 'image')} of {side} {'has' if unknown == 1 else 'have'} none; "
            f"{remedy}"
        )


def find_test_side(train: Run, store: Store) -> str:
    """Return the name of the test side of the split of which `train` is the training side.

    The name is empty if `train` is not a training side, or if its test side is not in the store.
    """
    if train.stage != "split" or train.spec.get("side") != "train":
        return ""
    fields = {name: value for name, value in train.spec.items() if name != "stage"}
    test_side = read_spec(SplitSpec, {**fields, "side": "test"}, train.name).name
    return test_side if store.is_done(test_side) else ""
