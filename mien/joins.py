"""Joining: several sets become one, with people kept apart by their dataset's name and classes that
all understand.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from mien.errors import DataError
from mien.faces import Faces, concat
from mien.preprocess import FOLDED, fold_classes, write
from mien.progress import say
from mien.spec import Spec, parents
from mien.spellings import People, listed, people, renamed
from mien.store import Run, Store

Classes = Literal["common", "union", "megc2019"]

MEGC = {"casme2": "megc2019-3"}
"""How MEGC 2019 folds the emotions of what a reader read: a name of faces.CLASS_SETS."""
MEGC_OTHERS = "megc2019-wide"
THREE = ("negative", "positive", "surprise")

Origin = tuple[str, str]
"""Where a dataset comes from: its reader and the fingerprint of its files."""


class JoinSpec(Spec):
    """Several runs of faces put together, and the classes that they are brought to.

    `common` are the classes that all sets show, `union` all that any shows, and `megc2019` the
    three of MEGC 2019.
    """

    stage: ClassVar[str] = "join"
    faces: tuple[str, ...] = Field(min_length=2)
    classes: Classes = "common"
    same_subject: dict[str, str] = Field(
        default_factory=dict
    )  # dataset:name of a subject -> another name of theirs
    subjects_as_written: bool = (
        False  # spellings are never one person's, unless `same_subject` says so
    )


def join(
    parts: Sequence[Faces], classes: Classes = "common", readers: dict[str, str] | None = None
) -> Faces:
    """Return the images of all `parts`, with the emotions that `classes` leaves.

    `readers` says which reader read each dataset: MEGC 2019 folds each its own way. Emotions that a
    set has folded to negative, positive and surprise already stay so.

    Raises DataError if sizes or channels differ, an image stands in two parts, no emotion is
    common, or nothing is left.
    """
    if classes == "megc2019":
        parts = [_as_megc(part, readers or {}) for part in parts]
    shared = [
        key
        for key, times in Counter(key for part in parts for key in set(part.index["key"])).items()
        if times > 1
    ]
    if shared:
        raise DataError(
            f"sets to be joined must not share images, and {len(shared):,} "
            f"{'stands' if len(shared) == 1 else 'stand'} in two, such as {min(shared)}; name sets "
            "that do not overlap"
        )
    made = [bool((part.index["source"] != "real").any()) for part in parts]
    if (
        any(made)
        and any(lacks and part.seen is None for lacks, part in zip(made, parts, strict=True))
        and not all(made)
    ):
        number = made.index(True)
        raise DataError(
            "real and synthetic pictures must be joined with what the generator has seen, and set "
            f"{number + 1} of {len(parts)} holds generated pictures without it, as a release does; "
            "join sets of real pictures"
        )
    whole = concat(parts)
    if classes != "common":
        return whole
    common = set.intersection(*(set(part.classes) for part in parts))
    if not common:
        shown = "; ".join(", ".join(part.classes) for part in parts)
        raise DataError(
            f"the sets must have some class in common, and have none: {shown}; use classes = "
            "'union'"
        )
    return whole.select(whole.index["emotion"].isin(sorted(common)).to_numpy(dtype=bool))


def run(spec: JoinSpec, store: Store, *, alias: str | None = None) -> Run:
    """Make the run of `spec` in `store`: faces, sheet.png and summary.json; what is left out is
    told on stderr.

    Raises DataError if two different datasets have one name, or one dataset two, since then two
    people would be one, or one person two.
    """
    runs = [store.run(name) for name in spec.faces]
    spec = spec.model_copy(update={"faces": tuple(run.name for run in runs)})
    if len(set(spec.faces)) < len(runs):
        raise DataError(f"sets to be joined must be different runs; given: {', '.join(spec.faces)}")
    parts = [Faces.load(run.path) for run in runs]
    origins = [_origins(run, part, store) for run, part in zip(runs, parts, strict=True)]
    _require_own_names(origins)
    readers = {name: origin[0] for found in origins for name, origin in found.items()}
    whole = join(parts, spec.classes, readers)
    whole, known = _one_name_each(whole, spec)
    _tell(parts, whole, known)

    def build(out: Path, scratch: Path) -> None:
        table = whole.index.groupby("dataset")["emotion"].value_counts().unstack(fill_value=0)
        write(
            whole,
            out,
            {"datasets": table.to_dict("index"), "left_out": sum(map(len, parts)) - len(whole)},
        )

    return store.make(spec, build, alias)


def _as_megc(part: Faces, readers: dict[str, str]) -> Faces:
    """Return the faces of a part in the classes of MEGC 2019, each of its datasets folded its own
    way.
    """
    folded = []
    for name in sorted(set(part.index["dataset"])):
        side = part.select((part.index["dataset"] == name).to_numpy(dtype=bool))
        if (
            set(side.classes) & FOLDED
        ):  # labelled like that, as SMIC is; what 4DME has beside is left out
            side = side.select(side.index["emotion"].isin(THREE).to_numpy(dtype=bool))
        folded.append(fold_classes(side, MEGC.get(readers.get(name, ""), MEGC_OTHERS)))
    return concat(folded)


def _origins(run: Run, faces: Faces, store: Store) -> dict[str, Origin]:
    """Return where each dataset in a run comes from; one that was not ingested comes from the run
    that began it.
    """
    found: dict[str, Origin] = {}
    begun, todo = run.name, [run.name]
    while todo:
        begun = todo.pop()
        spec = store.run(begun).spec
        todo += [name for name in parents({**spec, "stage": ""}) if store.done(name)]
        if "fingerprint" in spec:
            found[str(spec["dataset"])] = (str(spec["reader"]), str(spec["fingerprint"]))
    return {name: found.get(name, ("", begun)) for name in sorted(set(faces.index["dataset"]))}


def _require_own_names(origins: Sequence[dict[str, Origin]]) -> None:
    """Raise DataError if a name means two datasets, or a dataset has two names."""
    named: dict[str, Origin] = {}
    names: dict[Origin, str] = {}
    for name, origin in (pair for found in origins for pair in found.items()):
        if named.setdefault(name, origin) != origin:
            raise DataError(
                "each dataset must have a name of its own, and two different ones are called "
                f"'{name}': the person {name}:1 would be somebody else in each; ingest one again "
                "with another --name"
            )
        if names.setdefault(origin, name) != name:
            raise DataError(
                "each person must have one name, and the same files were ingested as "
                f"'{names[origin]}' and as '{name}': everybody would stand there as two; join one "
                "of them"
            )


def _one_name_each(whole: Faces, spec: JoinSpec) -> tuple[Faces, People]:
    """Return the faces with one name for each person, as far as spellings within a dataset and the
    spec tell.
    """
    index, seen = whole.index, whole.seen
    counts = Counter(index["subject"])
    if seen is not None:
        counts.update(dict.fromkeys(seen["subject"], 0))
    known = people(counts, spec.same_subject, spec.subjects_as_written)
    if all(old == new for old, new in known.names.items()):
        return whole, known
    seen = None if seen is None else _renamed(seen, known)
    return replace(whole, index=_renamed(index, known), seen=seen), known


def _renamed(table: pd.DataFrame, known: People) -> pd.DataFrame:
    subjects = [known.names.get(name, "") for name in table["subject"]]
    triples = zip(table["clip"], table["subject"], subjects, strict=True)
    clips = [renamed(clip, old, new) for clip, old, new in triples]
    return table.assign(
        subject=pd.Series(subjects, dtype="str"), clip=pd.Series(clips, dtype="str")
    )


def _tell(parts: Sequence[Faces], whole: Faces, known: People) -> None:
    """Say what was left out, which pictures stand in several datasets, and whose names are one or
    look alike.
    """
    keys = set(whole.index["key"])
    lost = Counter(
        emotion
        for part in parts
        for key, emotion in zip(part.index["key"], part.index["emotion"], strict=True)
        if key not in keys
    )
    if lost:
        are = "image is" if lost.total() == 1 else "images are"
        gone = ", ".join(f"{name} {count:,}" for name, count in sorted(lost.items()))
        say(f"{lost.total():,} {are} left out, of classes that are not kept: {gone}")
    if known.folded:
        say(f"taken for one person, --subjects-as-written tells them apart: {listed(known.folded)}")
    if known.alike:
        say(
            "names that look alike, --same-subject NAME=OTHER says that two are one person's: "
            f"{listed(known.alike)}"
        )
    pairs = whole.index.drop_duplicates(["sha256", "dataset"])
    twins = int(pairs["sha256"].duplicated().sum())
    if twins:
        are = "picture is" if twins == 1 else "pictures are"
        say(
            f"{twins:,} {are} equal, pixel by pixel, in several datasets: the same people may "
            "stand in them"
        )
