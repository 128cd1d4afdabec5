"""PARTS: the parts of an audit, each measured as a run of its own.

Each is a run of its own, so measurements do not depend on limits.

The verdict reads the runs of the parts and judges, so other thresholds measure nothing again, and
an audit that was stopped resumes with the part that it was at. An engine runs the parts in
parallel, each on one core, so that no number depends on how many cores there are.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits

from mien.audit import features, fidelity
from mien.audit.inverted_lists import EXACT_ROWS
from mien.audit.labels import part as labels
from mien.audit.leakage import part as leakage
from mien.audit.memorisation import matches, membership_part, recogniser_part
from mien.audit.memorisation import part as memorisation
from mien.audit.memorisation.recogniser import open_recogniser
from mien.audit.movement import part as movement
from mien.audit.movement.clips import count_whole_clips
from mien.audit.part import (
    Part,
    PartInput,
    PartResult,
    find_no_generator,
    find_no_recogniser,
    make_empty_side,
)
from mien.audit.specs import (
    FeaturesSpec,
    JudgeSpec,
    MatchesSpec,
    PartName,
    PartSpec,
    RecogniserSpec,
    SpaceName,
)
from mien.audit.variety import part as variety
from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.generators.kinds import load_generator
from mien.pictures import Filter
from mien.runs import devices
from mien.runs.jobs import Job
from mien.runs.progress import say
from mien.runs.spec import suggest
from mien.runs.store import Run, RunSummary, Store
from mien.stats import Record

PARTS: Mapping[PartName, Part] = {
    "fidelity": fidelity.PART,
    "memorisation": memorisation.PART,
    "labels": labels.PART,
    "leakage": leakage.PART,
    "variety": variety.PART,
    "movement": movement.PART,
    "membership": membership_part.PART,
    "recogniser": recogniser_part.PART,
}
"""The parts of an audit, by the names that their specs have."""

MIN_WHOLE_CLIPS = 2  # from so many synthetic clips on, their movement is measured

NOBODY_HELD_OUT = (
    "nobody was held out, so there is nothing to compare with; name real images of people whom "
    "the generator never saw with --test"
)


def find_part(name: PartName) -> Part:
    """Return the part of a name; raises SpecError, with the nearest name, if there is none."""
    if name not in PARTS:
        raise SpecError(
            f"part must be one of {', '.join(PARTS)}; given: '{name}'.{suggest(name, list(PARTS))}"
        )
    return PARTS[name]


def measure_part(name: PartName, part_input: PartInput) -> PartResult:
    """Return what a part measures; if the data do not allow a measurement, a note says so."""
    part = find_part(name)
    say(f"audit: {name}")
    if part.needs_held_out and not len(part_input.test):
        measure, notes = part.measure_alone, [f"{name}: {NOBODY_HELD_OUT}"]
    else:
        measure, notes = part.measure, []
    with threadpool_limits(1), devices.limit_cores(1):
        measured = measure(part_input) if measure else PartResult()
    return replace(measured, notes=[*notes, *measured.notes])


def holds_clips(synthetic: Faces) -> bool:
    """Return whether an audit of these images has the parts that need clips."""
    return count_whole_clips(synthetic) >= MIN_WHOLE_CLIPS


# Runs


def plan_parts(
    synthetic: str,
    train: str,
    test: str,
    spaces: tuple[SpaceName, ...],
    filter: Filter,
    weights: Mapping[str, str],
    channels: tuple[str, ...] = (),
    train_count: int = 0,
    clips: bool = False,
    generator: str = "",
    recogniser: RecogniserSpec | None = None,
) -> dict[PartName, PartSpec]:
    """Return the spec of each part of an audit of these runs of faces.

    `channels` are the names of the channels of the training faces, and `train_count` is the number
    of these: many are searched by inverted lists. `clips` says that the synthetic images are whole
    clips; other images have no part that needs them. `generator` is the run of the generator, empty
    if it is not in the store. `recogniser` is the user's network that recognises people; without
    one no part looks for people with it.
    """
    spaces_options = {"spaces": spaces, "filter": filter, "weights": dict(weights)}
    return {
        name: PartSpec.model_validate(
            {
                "part": name,
                "train": train,
                "test": test,
                "version": part.version,
                **({"synthetic": synthetic} if part.needs_synthetic else {}),
                **(spaces_options if part.needs_spaces else {}),
                **({"channels": channels} if part.sees_channels else {}),
                **({"generator": generator} if part.needs_generator else {}),
                **({"recogniser": recogniser} if part.needs_recogniser else {}),
                **({"by_lists": train_count > EXACT_ROWS} if part.needs_matches else {}),
            }
        )
        for name, part in PARTS.items()
        if (clips or not part.needs_clips) and (recogniser or not part.needs_recogniser)
    }


def require_weights(jobs: Iterable[Job]) -> None:
    """Raise WeightsError unless the weights that these jobs extract features with are at hand."""
    specs = [
        FeaturesSpec.model_validate(job.arguments["spec"])
        for job in jobs
        if job.make is extract_features_job
    ]
    features.require_hub_weights(spec.space for spec in specs if not spec.weights)


def list_jobs(plan: Mapping[PartName, PartSpec], store: Store, device: str = "auto") -> list[Job]:
    """Return the jobs that make the parts that the store lacks, and everything that they need.

    These are the judge, features and matches. Jobs that take long, and jobs that others wait for,
    are first.
    """
    # Blocks of matches, which the parts of held-out people need; the judge and the features
    spec = next(plan[name] for name, part in PARTS.items() if part.needs_spaces)
    synthetic_blocks, test_blocks, train_blocks = (
        _list_block_jobs(spec, store) if spec.test else ([], [], [])
    )
    judge_jobs = _list_judge_jobs(spec, device)
    feature_jobs = _list_feature_jobs(spec, device)

    # The parts, after what they need
    feature_runs = tuple(job.run for job in feature_jobs)
    match_runs = tuple(job.run for job in train_blocks)
    part_jobs: dict[PartName, Job] = {
        name: Job(
            part_spec.name,
            name,
            make_part_job,
            {"spec": part_spec.model_dump(mode="json"), "device": device},
            (
                *(feature_runs if PARTS[name].needs_spaces else ()),
                *(match_runs if PARTS[name].needs_matches else ()),
            ),
        )
        for name, part_spec in plan.items()
    }

    # Parts of the real sides first, since they wait for nothing; then those that take longest
    first_jobs = [job for name, job in part_jobs.items() if not PARTS[name].needs_synthetic]
    last_jobs = [
        part_jobs[name]
        for name in sorted(
            part_jobs, key=lambda name: (not PARTS[name].needs_matches, PARTS[name].needs_spaces)
        )
        if PARTS[name].needs_synthetic
    ]
    jobs = [
        *judge_jobs,
        *first_jobs,
        *synthetic_blocks,
        *test_blocks,
        *train_blocks,
        *feature_jobs,
        *last_jobs,
    ]
    return _drop_unneeded(jobs, {part_spec.name for part_spec in plan.values()}, store)


def _list_judge_jobs(spec: PartSpec, device: str) -> list[Job]:
    """Return the job that trains the judge, if its space is among those of the audit."""
    if "judge" not in spec.spaces:
        return []
    arguments = {"faces": spec.train, "device": device}
    return [Job(JudgeSpec(faces=spec.train).name, "the judge", train_judge_job, arguments)]


def _list_feature_jobs(spec: PartSpec, device: str) -> list[Job]:
    """Return the jobs that extract the features of each side in each space."""
    sides = {"synthetic": spec.synthetic, "training": spec.train, "held-out": spec.test}
    jobs = []
    for space in spec.spaces:
        if space == "pixels":  # images are as fast to read as stored features
            continue
        after = (JudgeSpec(faces=spec.train).name,) if space == "judge" else ()
        for side, faces in sides.items():
            if not faces:
                continue
            features_spec = FeaturesSpec(
                faces=faces,
                space=space,
                train=spec.train,
                filter=spec.filter,
                weights=spec.weights.get(space, ""),
            )
            label = f"features of the {side} images ({space})"
            arguments = {"spec": features_spec.model_dump(mode="json"), "device": device}
            jobs.append(Job(features_spec.name, label, extract_features_job, arguments, after))
    return jobs


def _drop_unneeded(jobs: Sequence[Job], part_runs: set[str], store: Store) -> list[Job]:
    """Return the jobs without those that the store has, and what only stored parts would need."""
    # Two sides may be one run
    missing = {job.run: job for job in jobs if not store.is_done(job.run)}
    needed_runs = set(part_runs)
    for job in reversed(missing.values()):
        if job.run in needed_runs:
            needed_runs |= set(job.after)
    return [job for job in missing.values() if job.run in needed_runs]


def _list_block_jobs(spec: PartSpec, store: Store) -> tuple[list[Job], list[Job], list[Job]]:
    """Return the jobs that match the synthetic, held-out and training images."""
    blocks = matches.plan_blocks(
        *(store.run(name) for name in (spec.train, spec.test, spec.synthetic))
    )
    sides = (
        (blocks.synthetic, "synthetic"),
        (blocks.test, "held-out"),
        (blocks.within, "training"),
    )
    synthetic, test, train = (
        [_make_block_job(block_spec, side) for block_spec in specs] for specs, side in sides
    )
    return synthetic, test, train


def _make_block_job(spec: MatchesSpec, side: str) -> Job:
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
    features_spec = FeaturesSpec.model_validate(spec)
    return str(features.load_or_extract(features_spec, store, device).summary["holds"])


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
    """Return the run of a part: records.parquet, rows.parquet, notes.json and its picture.

    Raises SpecError if PARTS has no such part.
    """
    find_part(spec.part)
    train_run, test_run = store.run(spec.train), store.run(spec.test) if spec.test else None
    synthetic_run = store.run(spec.synthetic or spec.train)

    def build(out: Path, scratch: Path) -> RunSummary:
        # Load what the part looks at
        options = {"filter": spec.filter, "weights": spec.weights, "device": device}
        spaces, about = features.load_features(
            spec.spaces, train_run, test_run, synthetic_run, store, **options
        )
        train = Faces.load(train_run.path)
        test = make_empty_side(train) if test_run is None else Faces.load(test_run.path)
        synthetic = Faces.load(synthetic_run.path) if spec.synthetic else None
        # Without held-out people, no part asks for matches
        find = partial(matches.load_or_make, train_run, test_run or train_run, synthetic_run, store)

        # Measure
        find_generator = (
            partial(load_generator, store.run(spec.generator), device)
            if spec.generator
            else find_no_generator
        )
        find_recogniser = (
            partial(open_recogniser, spec.recogniser, store, device)
            if spec.recogniser
            else find_no_recogniser
        )
        own = {spec.recogniser.space: spec.recogniser.about} if spec.recogniser else {}
        sides = PartInput(train, test, synthetic, spaces, find, find_generator, find_recogniser)
        measured = measure_part(spec.part, sides)

        # Write numbers, rows, notes and the picture
        pd.DataFrame([asdict(record) for record in measured.records]).to_parquet(
            out / "records.parquet", index=False
        )
        measured.rows.to_parquet(out / "rows.parquet", index=False)
        notes = {"notes": measured.notes, "spaces": {**about, **own}}
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
            for row in pd.read_parquet(run.find_file("records.parquet")).to_dict("records")
        ],
        run.read_json("notes.json")["notes"],
        pd.read_parquet(run.find_file("rows.parquet")),
        Image.open(picture, formats=("PNG",)).copy() if picture.is_file() else None,
    )


def _read_record(row: Mapping[Any, Any]) -> Record:
    bounds = {name: None if pd.isna(row[name]) else row[name] for name in ("low", "high")}
    return Record(**{**row, **bounds})
