"""PARTS: the parts of an audit, each measured as a run of its own.

Each is a run of its own, so measurements do not depend on limits.

The verdict reads the runs of the parts and judges, so other thresholds measure nothing again, and
an audit that was stopped resumes with the part that it was at. An engine runs the parts in
parallel, each on one core, so that no number depends on how many cores there are.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits

from mien.audit import features, fidelity
from mien.audit.features import SpaceFeatures
from mien.audit.labels import nuisance
from mien.audit.labels.measure import Labels, measure_labels
from mien.audit.leakage.measure import measure_leakage
from mien.audit.memorisation import matches
from mien.audit.memorisation.matches import Matches
from mien.audit.memorisation.measure import draw_strips, measure_copies, measure_memorisation
from mien.audit.specs import FeaturesSpec, JudgeSpec, MatchesSpec, PartName, PartSpec, SpaceName
from mien.errors import DataError, LeakageError
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.pictures import Filter
from mien.prepare import splits
from mien.runs import devices
from mien.runs.jobs import Job
from mien.runs.progress import count_of, say
from mien.runs.store import Run, RunSummary, Store
from mien.stats import Record

PARTS: tuple[PartName, ...] = get_args(PartName)

# parts that need held-out people
PARTS_OF_HELD_OUT: tuple[PartName, ...] = ("memorisation", "leakage")

NOBODY_HELD_OUT = (
    "nobody was held out, so there is nothing to compare with; name real images of people whom "
    "the generator never saw with --test"
)

Result = TypeVar("Result")


@dataclass
class PartResult:
    """What a part measured: numbers, notes on what could not be measured, and results per image.

    `rows` has one row per synthetic image: its key, and the part's own columns. `picture`
    illustrates the part, if it has a picture.
    """

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    picture: Image.Image | None = None


@dataclass(frozen=True)
class PartInput:
    """The input of a part: the faces of three sides, their features by space, and their matches.

    `find` returns the matches of the images in pixels; it is called only if a part needs them.
    """

    train: Faces
    test: Faces
    made: Faces
    spaces: Mapping[str, SpaceFeatures]
    find: Callable[[], Matches]


def empty_side(train: Faces) -> Faces:
    """Return an empty held-out side in the form of the training images."""
    return train.select(np.zeros(0, dtype=np.int64))


def measure_part(part: PartName, given: PartInput) -> PartResult:
    """Return what a part measures; if the data do not allow a measurement, a note says so."""
    say(f"audit: {part}")
    measured = PartResult()
    if part in PARTS_OF_HELD_OUT and not len(given.test):
        measured.notes.append(f"{part}: {NOBODY_HELD_OUT}")
        return measured
    with threadpool_limits(1), devices.limit_cores(1):
        _MEASURES[part](measured, given)
    return measured


def _measure_fidelity(measured: PartResult, given: PartInput) -> None:
    measured.records += fidelity.measure(given.train, given.test, given.made, given.spaces)
    measured.notes += fidelity.explain_too_few(given.train, given.test, given.made)


def _measure_memorisation(measured: PartResult, given: PartInput) -> None:
    train, test, made = given.train, given.test, given.made
    # Pixels are always compared, from the matches
    others = {name: sides for name, sides in given.spaces.items() if name != "pixels"}
    result = _try_measure(
        measured,
        "memorisation",
        lambda: measure_memorisation(train, test, made, others, given.find),
    )
    if result is not None:
        measured.records += result.records
        measured.notes += result.notes
        measured.rows = result.rows.drop(columns="emotion")
        measured.picture = draw_strips(made, train, result)
    else:  # report at least what needs no held-out people
        measured.records, rows = measure_copies(made, train)
        measured.rows = rows.drop(columns="emotion")


def _measure_labels(measured: PartResult, given: PartInput) -> None:
    made, train = given.made, given.train
    result = _try_measure(measured, "labels", lambda: measure_labels(made, train, given.test))
    if result is not None:
        measured.records += [*result.records, *_rescale_agreement(result)]
        measured.notes += [
            f"{finding.kind} {finding.where}".strip() + f": {finding.what}"
            for finding in result.findings
        ]
        measured.rows = result.rows.drop(columns="emotion")
    for suffix, faces in (("", made), ("_train", train)):
        records = (
            _try_measure(measured, "nuisance", lambda faces=faces: nuisance.measure_nuisance(faces))
            or ()
        )
        measured.records += [replace(record, metric=record.metric + suffix) for record in records]


def _rescale_agreement(result: Labels) -> list[Record]:
    """Return agreement on a scale from chance (0) to what the judges reach on real people (1).

    The first record is the length of that scale: the judges' ceiling less chance.
    """
    overall = {record.metric: record for record in result.records if not record.part}
    agreement, ceiling = overall.get("labels.agreement"), overall.get("labels.ceiling")
    if agreement is None or ceiling is None:
        return []
    classes = sum(record.metric == "labels.ceiling" for record in result.records) - 1
    chance = 1 / max(2, classes)
    scale = _rescale_record(ceiling, "labels.ceiling_above_chance", chance, 1.0)
    if scale.value <= 0:
        return [scale]
    return [scale, _rescale_record(agreement, "labels.kept", chance, scale.value)]


def _rescale_record(record: Record, name: str, zero: float, unit: float) -> Record:
    """Return a record under another name, on a scale with the origin `zero` and the unit `unit`."""
    low, high = (
        None if bound is None else (bound - zero) / unit for bound in (record.low, record.high)
    )
    return Record(name, (record.value - zero) / unit, record.n, record.unit, low, high)


def _measure_leakage(measured: PartResult, given: PartInput) -> None:
    result = measure_leakage(given.train, given.test)
    measured.records += result.records
    measured.notes += [
        f"{finding.kind} {finding.where}".strip() + f": {finding.what}"
        for finding in result.findings
    ]


def add_generator_overlap(leaks: PartResult, made: Faces, train: Faces, test: Faces) -> PartResult:
    """Return the leakage of the real sides, and how much of `test` and beyond `train` was seen.

    "Seen" means seen by the generator. The leakage of the real sides is measured once for all
    databases that are audited against them.
    """
    measured = replace(leaks, records=[*leaks.records], notes=[*leaks.notes])
    if not len(test):
        return measured

    # Nothing can be compared for a generator that nobody knows
    if (made.index["source"] == UNKNOWN_SOURCE).any():
        measured.notes.append("what the generator saw: the generator of these images is not known")
        return measured

    # Held-out people whom the generator was trained on
    seen = _try_measure(
        measured, "what the generator saw", lambda: splits.measure_overlap(made, test)
    )
    if seen is not None:
        share = float(max(seen["frames_share"], seen["subjects_share"]))
        measured.records.append(
            Record("leakage.generator_saw", share, len(test), unit="share of test images")
        )

    # Training images of the generator that `train` lacks
    unseen = _try_measure(
        measured,
        "whether --train is what the generator saw",
        lambda: splits.find_seen_beyond(made, train),
    )
    if unseen is not None:
        total = len(made.seen) if made.seen is not None else 0
        unit = "share of the images that the generator saw"
        measured.records.append(
            Record("leakage.other_training", len(unseen) / max(1, total), total, unit=unit)
        )
        if len(unseen):
            measured.notes.append(
                f"--train is not what the generator was trained on: it lacks {len(unseen):,} of "
                f"{count_of(total, 'image')} that the generator saw, so copies of these cannot be "
                "found. Name the set that it was trained on"
            )
    return measured


_MEASURES: Mapping[PartName, Callable[[PartResult, PartInput], None]] = {
    "fidelity": _measure_fidelity,
    "memorisation": _measure_memorisation,
    "labels": _measure_labels,
    "leakage": _measure_leakage,
}


def _try_measure(measured: PartResult, what: str, work: Callable[[], Result]) -> Result | None:
    """Return the result of `work`; if the data do not allow it, add a note and return None."""
    try:
        return work()
    except (DataError, LeakageError) as error:
        measured.notes.append(f"{what}: {error}")
        return None


# Runs


def plan_parts(
    synthetic: str,
    train: str,
    test: str,
    spaces: tuple[SpaceName, ...],
    filter: Filter,
    weights: Mapping[str, str],
) -> dict[PartName, PartSpec]:
    """Return the spec of each part of an audit of these runs of faces."""
    real, made = {"train": train, "test": test}, {"synthetic": synthetic}
    options = {"spaces": spaces, "filter": filter, "weights": dict(weights)}
    needs: dict[PartName, dict[str, Any]] = {
        "fidelity": {**made, **options},
        "memorisation": {**made, **options, "version": 2},  # copies are found directly
        "labels": made,
        "leakage": {},
    }
    return {
        part: PartSpec.model_validate({"part": part, **real, **fields})
        for part, fields in needs.items()
    }


def list_jobs(plan: Mapping[PartName, PartSpec], store: Store, device: str = "auto") -> list[Job]:
    """Return the jobs that make the parts that the store lacks, and everything that they need.

    These are the judge, features and matches. Jobs that take long, and jobs that others wait for,
    are first.
    """
    # Blocks of matches; the parts of held-out people need them
    spec = plan["fidelity"]
    made_blocks, test_blocks, train_blocks = (
        _list_block_jobs(spec, store) if spec.test else ([], [], [])
    )

    # The judge, and the features of each side in each space
    judge_jobs, feature_jobs = [], []
    for name in spec.spaces:
        if name == "pixels":  # images are as fast to read as stored features
            continue
        after = ()
        if name == "judge":
            judge = JudgeSpec(faces=spec.train).name
            after = (judge,)
            judge_jobs = [
                Job(judge, "the judge", train_judge_job, {"faces": spec.train, "device": device})
            ]
        for side, faces in (
            ("synthetic", spec.synthetic),
            ("training", spec.train),
            ("held-out", spec.test),
        ):
            if not faces:
                continue
            features_spec = FeaturesSpec(
                faces=faces,
                space=name,
                train=spec.train,
                filter=spec.filter,
                weights=spec.weights.get(name, ""),
            )
            arguments = {"spec": features_spec.model_dump(mode="json"), "device": device}
            feature_jobs.append(
                Job(
                    features_spec.name,
                    f"features of the {side} images ({name})",
                    extract_features_job,
                    arguments,
                    after,
                )
            )

    # The parts, after what they need
    feature_runs, match_runs = (
        tuple(job.run for job in feature_jobs),
        tuple(job.run for job in train_blocks),
    )
    needs: dict[PartName, tuple[str, ...]] = {
        "fidelity": feature_runs,
        "memorisation": (*feature_runs, *match_runs),
    }
    part_jobs = {
        part: Job(
            part_spec.name,
            part,
            make_part_job,
            {"spec": part_spec.model_dump(mode="json"), "device": device},
            needs.get(part, ()),
        )
        for part, part_spec in plan.items()
    }

    # Drop what the store has, and what only stored parts would need
    last_jobs = (part_jobs[part] for part in ("memorisation", "labels", "fidelity"))
    all_jobs = [
        *judge_jobs,
        part_jobs["leakage"],
        *made_blocks,
        *test_blocks,
        *train_blocks,
        *feature_jobs,
        *last_jobs,
    ]
    # two sides may be one run
    missing = {job.run: job for job in all_jobs if not store.done(job.run)}
    wanted = {part_spec.name for part_spec in plan.values()}
    for job in reversed(missing.values()):
        if job.run in wanted:
            wanted |= set(job.after)
    return [job for job in missing.values() if job.run in wanted]


def _list_block_jobs(spec: PartSpec, store: Store) -> tuple[list[Job], list[Job], list[Job]]:
    """Return the jobs that match the synthetic, held-out and training images."""
    blocks = matches.plan_blocks(
        *(store.run(name) for name in (spec.train, spec.test, spec.synthetic))
    )
    sides = ((blocks.made, "synthetic"), (blocks.test, "held-out"), (blocks.within, "training"))
    made, held, within = (
        [_block_job(block_spec, side) for block_spec in specs] for specs, side in sides
    )
    return made, held, within


def _block_job(spec: MatchesSpec, side: str) -> Job:
    label = f"nearest images of {side} images {spec.first + 1:,} to {spec.last:,}"
    return Job(
        spec.name, label, match_block_job, {"spec": spec.model_dump(mode="json")}, spec.nearest_of
    )


def train_judge_job(store: Store, faces: str, device: str) -> str:
    """Train the judge on a run of real faces; return a line about it."""
    features.load_judge(store.run(faces), store, device)
    return "trained"


def extract_features_job(store: Store, spec: dict[str, Any], device: str) -> str:
    """Make a run of features; return a line about it."""
    given = FeaturesSpec.model_validate(spec)
    return str(features.load_or_extract(given, store, device).summary["holds"])


def match_block_job(store: Store, spec: dict[str, Any]) -> str:
    """Make a block of matches; return a line about it, or why the data allow none."""
    with threadpool_limits(1):
        try:
            return str(matches.run(MatchesSpec.model_validate(spec), store).summary["holds"])
        except DataError as error:
            return str(error)


def make_part_job(store: Store, spec: dict[str, Any], device: str) -> str:
    """Make the run of a part; return a line about it."""
    return str(run_part(PartSpec.model_validate(spec), store, device).summary["holds"])


def run_part(spec: PartSpec, store: Store, device: str = "auto") -> Run:
    """Return the run of a part: records.parquet, rows.parquet, notes.json and its picture."""
    train, made = store.run(spec.train), store.run(spec.synthetic or spec.train)
    test = store.run(spec.test) if spec.test else None

    def build(out: Path, scratch: Path) -> RunSummary:
        # Load what the part looks at
        options = {"filter": spec.filter, "weights": spec.weights, "device": device}
        spaces, about = features.load_features(spec.spaces, train, test, made, store, **options)
        real, synthetic = Faces.load(train.path), Faces.load(made.path)
        held = empty_side(real) if test is None else Faces.load(test.path)
        synthetic = synthetic if spec.synthetic else empty_side(synthetic)
        # Without held-out people, no part asks for matches
        find = partial(matches.load_or_make, train, test or train, made, store)

        # Measure
        measured = measure_part(spec.part, PartInput(real, held, synthetic, spaces, find))

        # Write numbers, rows, notes and the picture
        pd.DataFrame([asdict(one) for one in measured.records]).to_parquet(
            out / "records.parquet", index=False
        )
        measured.rows.to_parquet(out / "rows.parquet", index=False)
        notes = {"notes": measured.notes, "spaces": dict(about)}
        (out / "notes.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
        if measured.picture is not None:
            measured.picture.save(out / "picture.png")
        return {"holds": f"{spec.part}: {len(measured.records)} numbers"}

    return store.make(spec, build)


def read(run: Run) -> PartResult:
    """Return what a stored run of a part measured."""
    picture = run.path / "picture.png"
    return PartResult(
        [
            _read_record(row)
            for row in pd.read_parquet(run.file("records.parquet")).to_dict("records")
        ],
        run.json("notes.json")["notes"],
        pd.read_parquet(run.file("rows.parquet")),
        Image.open(picture, formats=("PNG",)).copy() if picture.is_file() else None,
    )


def _read_record(row: Mapping[Any, Any]) -> Record:
    bounds = {name: None if pd.isna(row[name]) else row[name] for name in ("low", "high")}
    return Record(**{**row, **bounds})
