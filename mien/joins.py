"""Joining: several sets become one, with people kept apart by their dataset's name and classes that all understand."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mien.errors import DataError
from mien.faces import Faces, concat
from mien.preprocess import FOLDED, fold_classes, write
from mien.progress import say
from mien.spec import Spec, parents
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

    `common` are the classes that all sets show, `union` all that any shows, and `megc2019` the three of MEGC 2019.
    """

    stage: ClassVar[str] = "join"
    faces: tuple[str, ...] = Field(min_length=2)
    classes: Classes = "common"


def join(parts: Sequence[Faces], classes: Classes = "common", readers: dict[str, str] | None = None) -> Faces:
    """Return the images of all `parts`, with the emotions that `classes` leaves.

    `readers` says which reader read each dataset: MEGC 2019 folds each its own way. Emotions that a set has folded to
    negative, positive and surprise already stay so.

    Raises DataError if sizes or channels differ, an image stands in two parts, no emotion is common, or nothing is
    left.
    """
    if classes == "megc2019":
        parts = [_as_megc(part, readers or {}) for part in parts]
    shared = [
        key for key, times in Counter(key for part in parts for key in set(part.index["key"])).items() if times > 1
    ]
    if shared:
        raise DataError(
            f"sets to be joined must not share images, and {len(shared):,} stand in two, such as {min(shared)}; name "
            "sets that do not overlap"
        )
    whole = concat(parts)
    if classes != "common":
        return whole
    common = set.intersection(*(set(part.classes) for part in parts))
    if not common:
        shown = "; ".join(", ".join(part.classes) for part in parts)
        raise DataError(f"the sets must have some class in common, and have none: {shown}; use classes = 'union'")
    return whole.select(whole.index["emotion"].isin(sorted(common)).to_numpy(dtype=bool))


def run(spec: JoinSpec, store: Store, *, alias: str | None = None) -> Run:
    """Make the run of `spec` in `store`: faces, sheet.png and summary.json; what is left out is told on stderr.

    Raises DataError if two different datasets have one name, or one dataset two, since then two people would be one, or
    one person two.
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
    _tell(parts, whole)

    def build(out: Path, scratch: Path) -> None:
        table = whole.index.groupby("dataset")["emotion"].value_counts().unstack(fill_value=0)
        write(whole, out, {"datasets": table.to_dict("index"), "left_out": sum(map(len, parts)) - len(whole)})

    return store.make(spec, build, alias)


def _as_megc(part: Faces, readers: dict[str, str]) -> Faces:
    """Return the faces of a part in the classes of MEGC 2019, each of its datasets folded its own way."""
    folded = []
    for name in sorted(set(part.index["dataset"])):
        side = part.select((part.index["dataset"] == name).to_numpy(dtype=bool))
        if set(side.classes) & FOLDED:  # labelled like that, as SMIC is; what 4DME has beside is left out
            side = side.select(side.index["emotion"].isin(THREE).to_numpy(dtype=bool))
        folded.append(fold_classes(side, MEGC.get(readers.get(name, ""), MEGC_OTHERS)))
    return concat(folded)


def _origins(run: Run, faces: Faces, store: Store) -> dict[str, Origin]:
    """Return where each dataset in a run comes from; one that was not ingested comes from the run that began it."""
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
                f"each dataset must have a name of its own, and two different ones are called '{name}': the person "
                f"{name}:1 would be somebody else in each; ingest one again with another --name"
            )
        if names.setdefault(origin, name) != name:
            raise DataError(
                f"each person must have one name, and the same files were ingested as '{names[origin]}' and as "
                f"'{name}': everybody would stand there as two; join one of them"
            )


def _tell(parts: Sequence[Faces], whole: Faces) -> None:
    """Say what was left out, and which pictures stand in several datasets."""
    shown = [set(part.classes) for part in parts]
    lost = sum(map(len, parts)) - len(whole)
    if lost:
        gone = sorted(set.union(*shown) - set(whole.classes))
        say(f"{lost:,} images are left out, of classes that are not kept: {', '.join(gone)}")
    pairs = whole.index.drop_duplicates(["sha256", "dataset"])
    twins = int(pairs["sha256"].duplicated().sum())
    if twins:
        say(f"{twins:,} pictures are equal, pixel by pixel, in several datasets: the same people may stand in them")
