"""The four parts of an audit, each a run of its own: what they measure is kept, whatever the limits
are.

The verdict reads the runs of the parts and judges, so other thresholds measure nothing anew, and an
audit that was stopped goes on with the part at hand. An engine does the parts side by side, each on
one core, so that no number depends on how many there are.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field
from threadpoolctl import threadpool_limits

from mien import features, splits, training
from mien.audit import fidelity, labels, leakage, matches, memorisation, nuisance
from mien.audit.labels import Labels
from mien.audit.matches import Matches, MatchesSpec
from mien.engine import Job
from mien.errors import DataError, LeakageError
from mien.faces import UNKNOWN, Faces
from mien.features import FeaturesSpec, JudgeSpec, Sides, SpaceName
from mien.preprocess import Filter
from mien.progress import many, say
from mien.spec import Spec
from mien.stats import Record
from mien.store import Run, Store

PartName = Literal["fidelity", "memorisation", "labels", "leakage"]
PARTS: tuple[PartName, ...] = get_args(PartName)
OF_HELD_OUT: tuple[PartName, ...] = (
    "memorisation",
    "leakage",
)  # parts that measure nothing without held-out people
ALONE = (
    "nobody was held out, so nothing says what held-out people would show; name real images of "
    "people that the "
    "generator never saw with --test"
)

Result = TypeVar("Result")


class PartSpec(Spec):
    """One part of an audit; `spaces`, `filter` and `weights` are those of the audit where it
    compares features.

    Leakage is that of the real sides, whatever is synthetic. An empty `test` says that nobody was
    held out.
    """

    stage: ClassVar[str] = "measures"
    part: PartName
    synthetic: str = ""
    train: str
    test: str = ""
    spaces: tuple[SpaceName, ...] = ()
    filter: Filter = "bilinear"
    weights: dict[str, str] = Field(default_factory=dict)


@dataclass
class Measured:
    """What a part found: its numbers, notes on what could not be measured, what holds of each
    image, and a picture.

    `rows` has one row a synthetic image: its key, and the part's own columns.
    """

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    picture: Image.Image | None = None


@dataclass(frozen=True)
class Given:
    """What parts look at: faces of three sides, their features by space, and in pixels what finds
    their matches.
    """

    train: Faces
    test: Faces
    made: Faces
    spaces: Mapping[str, Sides]
    find: Callable[[], Matches]


def nobody(train: Faces) -> Faces:
    """Return the people held out where there are none: no image, in the form of the training
    images.
    """
    return train.select(np.zeros(0, dtype=np.int64))


def measure(part: PartName, given: Given) -> Measured:
    """Return what a part finds in generated faces; what the data do not allow to be measured leaves
    a note.
    """
    say(f"audit: {part}")
    found = Measured()
    if part in OF_HELD_OUT and not len(given.test):
        found.notes.append(f"{part}: {ALONE}")
        return found
    with threadpool_limits(1), training.cores(1):
        _MEASURES[part](found, given)
    return found


def _fidelity(found: Measured, given: Given) -> None:
    found.records += fidelity.measure(given.train, given.test, given.made, given.spaces)
    found.notes += fidelity.lacking(given.train, given.test, given.made)


def _memorisation(found: Measured, given: Given) -> None:
    train, test, made = given.train, given.test, given.made
    others = {
        name: sides for name, sides in given.spaces.items() if name != "pixels"
    }  # pixels are always looked at
    copies = _tried(
        found, "memorisation", lambda: memorisation.measure(train, test, made, others, given.find)
    )
    if copies is not None:
        found.records += copies.records
        found.notes += copies.notes
        found.rows = copies.rows.drop(columns="emotion")
        found.picture = memorisation.strips(made, train, copies)
    else:  # what needs nobody held out is told all the same
        found.records, rows = memorisation.direct(made, train)
        found.rows = rows.drop(columns="emotion")


def _labels(found: Measured, given: Given) -> None:
    made, train = given.made, given.train
    shown = _tried(found, "labels", lambda: labels.labels(made, train, given.test))
    if shown is not None:
        found.records += [*shown.records, *_kept(shown)]
        found.notes += [
            f"{one.kind} {one.where}".strip() + f": {one.what}" for one in shown.findings
        ]
        found.rows = shown.rows.drop(columns="emotion")
    for suffix, faces in (("", made), ("_train", train)):
        tells = _tried(found, "nuisance", lambda faces=faces: nuisance.nuisance(faces)) or ()
        found.records += [replace(one, metric=one.metric + suffix) for one in tells]


def _kept(shown: Labels) -> list[Record]:
    """Return agreement from chance (0) to what the judges reach on real people (1), and that less
    chance.
    """
    whole = {one.metric: one for one in shown.records if not one.part}
    agreed, most = whole.get("labels.agreement"), whole.get("labels.ceiling")
    if agreed is None or most is None:
        return []
    classes = sum(one.metric == "labels.ceiling" for one in shown.records) - 1
    chance = 1 / max(2, classes)
    room = _moved(most, "labels.ceiling_above_chance", chance, 1.0)
    if room.value <= 0:
        return [room]
    return [room, _moved(agreed, "labels.kept", chance, room.value)]


def _moved(one: Record, name: str, zero: float, unit: float) -> Record:
    """Return a record under another name on a scale of which `zero` is 0 and `unit` the length of
    1.
    """
    low, high = (None if bound is None else (bound - zero) / unit for bound in (one.low, one.high))
    return Record(name, (one.value - zero) / unit, one.n, one.unit, low, high)


def _leakage(found: Measured, given: Given) -> None:
    leaks = leakage.leakage(given.train, given.test)
    found.records += leaks.records
    found.notes += [f"{one.kind} {one.where}".strip() + f": {one.what}" for one in leaks.findings]


def with_seen(leaks: Measured, made: Faces, train: Faces, test: Faces) -> Measured:
    """Return the leakage of the real sides, with how much the generator saw of `test`, and of what
    `train` lacks.

    The real sides alone decide the rest, which is measured once for all databases that are audited
    against them.
    """
    found = replace(leaks, records=[*leaks.records], notes=[*leaks.notes])
    if not len(test):
        return found
    if (made.index["source"] == UNKNOWN).any():
        found.notes.append(
            "what the generator saw: it is not known which generator made these images"
        )
        return found
    seen = _tried(found, "what the generator saw", lambda: splits.overlap(made, test))
    if seen is not None:
        share = float(max(seen["frames_share"], seen["subjects_share"]))
        found.records.append(
            Record("leakage.generator_saw", share, len(test), unit="share of test images")
        )
    other = _tried(
        found, "whether --train is what the generator saw", lambda: splits.beyond(made, train)
    )
    if other is not None:
        total = len(made.seen) if made.seen is not None else 0
        unit = "share of the images that the generator saw"
        found.records.append(
            Record("leakage.other_training", len(other) / max(1, total), total, unit=unit)
        )
        if len(other):
            found.notes.append(
                f"--train is not what the generator was trained on: it lacks {len(other):,} of "
                f"{many(total, 'image')} "
                "that the generator saw, so copies of these cannot be found. Name the set that it "
                "was trained on"
            )
    return found


_MEASURES: Mapping[PartName, Callable[[Measured, Given], None]] = {
    "fidelity": _fidelity,
    "memorisation": _memorisation,
    "labels": _labels,
    "leakage": _leakage,
}


def _tried(found: Measured, what: str, work: Callable[[], Result]) -> Result | None:
    """Return what a part measures, or nothing, with a note, where the data do not allow it."""
    try:
        return work()
    except (DataError, LeakageError) as error:
        found.notes.append(f"{what}: {error}")
        return None


# Runs


def plan(
    synthetic: str,
    train: str,
    test: str,
    spaces: tuple[SpaceName, ...],
    filter: Filter,
    weights: Mapping[str, str],
) -> dict[PartName, PartSpec]:
    """Return the spec of each part of an audit of these runs of faces."""
    real, made = {"train": train, "test": test}, {"synthetic": synthetic}
    seen = {"spaces": spaces, "filter": filter, "weights": dict(weights)}
    needs: dict[PartName, dict[str, Any]] = {
        "fidelity": {**made, **seen},
        "memorisation": {**made, **seen, "version": 2},  # copies are found directly
        "labels": made,
        "leakage": {},
    }
    return {
        part: PartSpec.model_validate({"part": part, **real, **more})
        for part, more in needs.items()
    }


def jobs(plan: Mapping[PartName, PartSpec], store: Store, device: str = "auto") -> list[Job]:
    """Return what makes the parts that the store lacks: themselves, and the judge, features and
    matches that they need.

    What takes longest, and what others wait for, comes first.
    """
    spec = plan["fidelity"]
    asked, held, within = _blocks(spec, store) if spec.test else ([], [], [])
    judging, looking = [], []
    for name in spec.spaces:
        if name == "pixels":  # they are read as fast as they would be from the store
            continue
        after = ()
        if name == "judge":
            judge = JudgeSpec(faces=spec.train).name
            after = (judge,)
            judging = [Job(judge, "the judge", teach, {"faces": spec.train, "device": device})]
        for side, faces in (
            ("synthetic", spec.synthetic),
            ("training", spec.train),
            ("held-out", spec.test),
        ):
            if not faces:
                continue
            given = FeaturesSpec(
                faces=faces,
                space=name,
                train=spec.train,
                filter=spec.filter,
                weights=spec.weights.get(name, ""),
            )
            told = {"spec": given.model_dump(mode="json"), "device": device}
            looking.append(
                Job(given.name, f"features of the {side} images ({name})", extract, told, after)
            )
    seen, matched = tuple(job.run for job in looking), tuple(job.run for job in within)
    needed: dict[PartName, tuple[str, ...]] = {"fidelity": seen, "memorisation": (*seen, *matched)}
    told = {
        part: Job(
            one.name,
            part,
            make,
            {"spec": one.model_dump(mode="json"), "device": device},
            needed.get(part, ()),
        )
        for part, one in plan.items()
    }
    last = (told[part] for part in ("memorisation", "labels", "fidelity"))
    every = [*judging, told["leakage"], *asked, *held, *within, *looking, *last]
    found = {job.run: job for job in every if not store.done(job.run)}  # two sides may be one run
    wanted = {one.name for one in plan.values()}
    for job in reversed(found.values()):
        if job.run in wanted:
            wanted |= set(job.after)
    return [job for job in found.values() if job.run in wanted]


def _blocks(spec: PartSpec, store: Store) -> tuple[list[Job], list[Job], list[Job]]:
    """Return the jobs that match synthetic, held-out and training images."""
    blocks = matches.plan(*(store.run(name) for name in (spec.train, spec.test, spec.synthetic)))
    sides = ((blocks.made, "synthetic"), (blocks.test, "held-out"), (blocks.within, "training"))
    made, held, within = ([_block(one, side) for one in some] for some, side in sides)
    return made, held, within


def _block(spec: MatchesSpec, side: str) -> Job:
    label = f"what {side} images {spec.first + 1:,} to {spec.last:,} lie nearest to"
    return Job(spec.name, label, match, {"spec": spec.model_dump(mode="json")}, spec.nearest_of)


def teach(store: Store, faces: str, device: str) -> str:
    """Train the judge on a run of real faces; return what to say of it."""
    features.judge(store.run(faces), store, device)
    return "trained"


def extract(store: Store, spec: dict[str, Any], device: str) -> str:
    """Make a run of features; return what to say of it."""
    given = FeaturesSpec.model_validate(spec)
    return str(features.keep(given, store, device).summary["holds"])


def match(store: Store, spec: dict[str, Any]) -> str:
    """Make a block of matches; return what to say of it, also where the data allow none, which the
    part then tells.
    """
    with threadpool_limits(1):
        try:
            return str(matches.run(MatchesSpec.model_validate(spec), store).summary["holds"])
        except DataError as error:
            return str(error)


def make(store: Store, spec: dict[str, Any], device: str) -> str:
    """Make the run of a part; return what to say of it."""
    return str(run(PartSpec.model_validate(spec), store, device).summary["holds"])


def run(spec: PartSpec, store: Store, device: str = "auto") -> Run:
    """Return the run of a part: records.parquet, rows.parquet, notes.json, and picture.png where it
    has one.
    """
    train, made = store.run(spec.train), store.run(spec.synthetic or spec.train)
    test = store.run(spec.test) if spec.test else None

    def build(out: Path, scratch: Path) -> None:
        how = {"filter": spec.filter, "weights": spec.weights, "device": device}
        spaces, about = features.sides(spec.spaces, train, test, made, store, **how)
        real, drawn = Faces.load(train.path), Faces.load(made.path)
        held = nobody(real) if test is None else Faces.load(test.path)
        drawn = drawn if spec.synthetic else nobody(drawn)
        find = partial(
            matches.kept, train, test or train, made, store
        )  # it is not asked for where nobody is held out
        found = measure(spec.part, Given(real, held, drawn, spaces, find))
        pd.DataFrame([asdict(one) for one in found.records]).to_parquet(
            out / "records.parquet", index=False
        )
        found.rows.to_parquet(out / "rows.parquet", index=False)
        told = {"notes": found.notes, "spaces": dict(about)}
        (out / "notes.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        if found.picture is not None:
            found.picture.save(out / "picture.png")
        holds = f"{spec.part}: {len(found.records)} numbers"
        (out / "summary.json").write_text(json.dumps({"holds": holds}) + "\n", encoding="utf-8")

    return store.make(spec, build)


def read(run: Run) -> Measured:
    """Return what a run of a part holds."""
    picture = run.path / "picture.png"
    return Measured(
        [_record(row) for row in pd.read_parquet(run.file("records.parquet")).to_dict("records")],
        run.json("notes.json")["notes"],
        pd.read_parquet(run.file("rows.parquet")),
        Image.open(picture, formats=("PNG",)).copy() if picture.is_file() else None,
    )


def _record(row: Mapping[Any, Any]) -> Record:
    bounds = {name: None if pd.isna(row[name]) else row[name] for name in ("low", "high")}
    return Record(**{**row, **bounds})
