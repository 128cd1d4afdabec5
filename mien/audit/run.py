"""The audit meets the store: parts are measured, and a verdict is given."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from mien.audit import features, verdict
from mien.audit.leakage.part import add_generator_overlap
from mien.audit.origin import find_generator_run
from mien.audit.page import choose_map_space, draw_suspects, render
from mien.audit.part import PartResult, make_empty_side, require_one_form
from mien.audit.parts import (
    PARTS,
    holds_clips,
    list_jobs,
    plan_parts,
    read,
    require_weights,
    run_part,
)
from mien.audit.specs import AuditSpec, PartName
from mien.audit.verdict import Check, HeldOut, Outcome, Question
from mien.errors import DataError
from mien.faces import Faces, name_distinct_units
from mien.pages.planes import FaceMap, choose_points, place_faces
from mien.pages.sheets import draw_side_by_side
from mien.runs.engine import run_jobs
from mien.runs.jobs import Engine, restore_error
from mien.runs.local import Local
from mien.runs.progress import quantify, say
from mien.runs.store import Run, RunSummary, Store
from mien.stats import Record

AUDIT_SIDES = ("synthetic", "train", "test")

FEW_IMAGES = 3000  # images below which starting workers takes longer than the work

VERDICT_WORDS = {"fail": "failed", "cannot tell": "cannot tell", "warn": "warn", "pass": "passed"}


@dataclass
class AuditMeasurements:
    """All measured numbers, the checks on them, and notes on what could not be measured.

    `rows` has one row per synthetic image, with everything that was measured on it; `pictures`
    holds the pictures of the parts by name. `clips` says that movement was audited too.
    """

    records: list[Record]
    checks: list[Check]
    notes: list[str]
    rows: pd.DataFrame
    pictures: dict[str, Image.Image]
    clips: bool = False

    @property
    def verdict(self) -> Outcome:
        """The worst answer to a question."""
        return verdict.find_worst_verdict(self.checks, self.clips)

    @property
    def questions(self) -> list[Question]:
        """The questions about the database, and the answers that the checks give."""
        return verdict.answer_questions(self.checks, self.clips)


def judge_parts(
    measured: Mapping[PartName, PartResult],
    synthetic: Faces,
    limits: Mapping[str, Mapping[str, Any]],
    people: HeldOut | None,
) -> AuditMeasurements:
    """Return the audit of `synthetic` from the measurements of its parts.

    `people` are the held-out people; None if their number plays no part.
    """
    # One row per image, with the columns of every part
    rows = synthetic.index[["key", "emotion"]].reset_index(drop=True)
    for measurement in measured.values():
        if len(measurement.rows):
            rows = rows.merge(measurement.rows, on="key", how="left", validate="one_to_one")

    # Check the numbers of all parts; a part with notes explains what is missing
    records = [record for measurement in measured.values() for record in measurement.records]
    notes = [note for measurement in measured.values() for note in measurement.notes]
    missing = {
        family: measurement.notes[0]
        for part, measurement in measured.items()
        if measurement.notes
        for family in PARTS[part].families
    }
    pictures = {
        PARTS[part].picture: measurement.picture
        for part, measurement in measured.items()
        if measurement.picture is not None
    }
    checks = verdict.judge(records, limits, people, missing)
    clips = any(PARTS[part].needs_clips for part in measured)
    return AuditMeasurements(records, checks, notes, rows, pictures, clips)


def count_held_out(train: Faces, test: Faces) -> HeldOut:
    """Return how many people of `test` are known and are not among those of `train`."""
    is_known = test.index["subject"] != ""
    people = set(test.index.loc[is_known, "subject"]) - set(
        name_distinct_units(train.index, "subject")
    )
    return HeldOut(len(people), int((~is_known).sum()))


def _report_real_images(run: Run) -> None:
    """Say so if images of the synthetic side were not generated."""
    sources = Faces.load(run.path).index["source"]
    real = int((sources == "real").sum())
    if real:
        count = "all" if real == len(sources) else f"{real:,} of"
        say(
            f"{count} {quantify(len(sources), 'image')} of {run.name} are real faces, and the "
            "audit judges them as if a generator had drawn them; name a synthetic database to "
            "judge one"
        )


def _require_fit(train: Faces, test: Faces | None, synthetic: Faces) -> None:
    # Images on every side, real ones on the real sides
    sides = {"synthetic": synthetic, "training": train, **({} if test is None else {"test": test})}
    for name, faces in sides.items():
        if not len(faces):
            raise DataError(f"an audit needs images on every side; the {name} side has none")
    train.require_real("the training side of an audit")
    if test is not None:
        test.require_real("the test side of an audit")

    # One size, the same channels, and no class that the training side lacks
    require_one_form(sides)
    unknown = sorted(set(synthetic.classes) - set(train.classes))
    if unknown:
        raise DataError(
            "the training side needs all classes of the synthetic side; it lacks "
            f"{', '.join(unknown)}. Name the set that the generator was trained on, or merge "
            "classes with `mien preprocess --classes`"
        )


# Runs


def choose_worker_count(runs: Iterable[Run], workers: int | None) -> int | None:
    """Return the number of workers for an audit of these sets, `workers` if it is given.

    It is 0, which means this process, if starting workers would take longer than the work, and else
    None, which leaves the choice to the engine.
    """
    if workers is not None:
        return workers
    return 0 if sum(len(Faces.load(run.path)) for run in runs) < FEW_IMAGES else None


def run_audit(
    spec: AuditSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    engine: Engine | None = None,
) -> Run:
    """Return the run of an audit.

    It holds audit.json, records.parquet, rows.parquet, index.html and its pictures. Its parts are
    runs too (`parts`), made by `engine`, in this process by default. A failed audit is a run
    like any other: audit.json holds the verdict. Raises MienError, with the message and exit code
    of the failed job, if a part could not be made.
    """
    # The names of the runs are part of the audit's name
    runs = {side: store.run(name) for side in AUDIT_SIDES if (name := getattr(spec, side))}
    train_faces = Faces.load(runs["train"].path)
    names = {side: side_run.name for side, side_run in runs.items()}
    clips = holds_clips(Faces.load(runs["synthetic"].path))
    recognises = spec.recogniser is not None
    thresholds = verdict.select_thresholds(spec.thresholds, clips, recognises)
    known = {"channels": train_faces.channels, "clips": clips, "thresholds": thresholds}
    spec = spec.model_copy(update={**names, **known})
    _report_real_images(runs["synthetic"])
    plan = plan_parts(
        *(spec.synthetic, spec.train, spec.test),
        *(spec.spaces, spec.filter, spec.weights, spec.channels, len(train_faces)),
        clips=spec.clips,
        generator=find_generator_run(runs["synthetic"], store),
        recogniser=spec.recogniser,
    )

    def build(out: Path, scratch: Path) -> RunSummary:
        # Load the sides, and check that they fit together
        faces = {side: Faces.load(side_run.path) for side, side_run in runs.items()}
        synthetic, train = faces["synthetic"], faces["train"]
        _require_fit(train, faces.get("test"), synthetic)
        test = faces.get("test", make_empty_side(train))

        # Make the parts that the store lacks
        jobs = list_jobs(plan, store, device)
        require_weights(jobs)
        failures = run_jobs(jobs, store, engine or Local(0)) if jobs else {}
        for name, text in failures.items():  # the others may only have waited for the first
            raise restore_error(store, name, text)

        # Judge what the parts measured
        part_runs: dict[PartName, Run] = {
            part: run_part(part_spec, store, device) for part, part_spec in plan.items()
        }
        measured: dict[PartName, PartResult] = {
            part: read(part_run) for part, part_run in part_runs.items()
        }
        measured["leakage"] = add_generator_overlap(measured["leakage"], synthetic, train, test)
        result = judge_parts(measured, synthetic, spec.thresholds, count_held_out(train, test))
        about = next(
            part_runs[name].read_json("notes.json")["spaces"]
            for name, part in PARTS.items()
            if part.needs_spaces
        )
        if spec.recogniser is not None:
            about = {**about, spec.recogniser.space: spec.recogniser.about}
        return write_audit(
            result,
            spec,
            {"made": synthetic, "train": train, "test": test},
            runs["synthetic"].content,
            about,
            out,
            _map_sides(spec, faces, runs, store, device),
        )

    return store.make(spec, build, alias)


def _map_sides(
    spec: AuditSpec, faces: Mapping[str, Faces], runs: Mapping[str, Run], store: Store, device: str
) -> FaceMap | None:
    """Return the map of the faces of all sides, None if training faces vary on no two axes.

    Its features are those that the parts have measured.
    """
    space = choose_map_space(spec.spaces)
    options = {"filter": spec.filter, "weights": spec.weights, "device": device}
    sides = runs["train"], runs.get("test"), runs["synthetic"]
    measured, _ = features.load_features((space,), *sides, store, **options)
    own = measured[space]
    centre, axes = features.find_principal_axes(own.train, 2)
    if axes.shape[1] < 2:
        return None

    # Some faces of each side
    groups = {"real training": ("train", own.train)}
    if "test" in faces:
        groups["real held-out"] = ("test", own.test)
    groups["synthetic"] = ("synthetic", own.synthetic)
    chosen = {group: choose_points(len(rows)) for group, (_, rows) in groups.items()}
    return place_faces(
        {group: faces[side].select(chosen[group]) for group, (side, _) in groups.items()},
        {group: rows[chosen[group]] for group, (_, rows) in groups.items()},
        centre,
        axes,
    )


def write_audit(
    measurements: AuditMeasurements,
    spec: AuditSpec,
    sides: Mapping[str, Faces],
    content: str,
    about: Mapping[str, str],
    out: Path,
    face_map: FaceMap | None = None,
) -> RunSummary:
    """Write the files of an audit into a folder; return the line that `mien ls` shows.

    `about` describes each space in words, and `content` is the content digest of the synthetic run.
    `face_map` is the map on the page, if there is one.
    """
    synthetic, train = sides["made"], sides["train"]
    contents = {
        "verdict": measurements.verdict,
        "questions": [asdict(question) for question in measurements.questions],
        "thresholds_changed": [
            question.convert_to_json()
            for question in verdict.find_changes(
                spec.thresholds, spec.clips, spec.recogniser is not None
            )
        ],
        "synthetic": spec.synthetic,
        "content": content,
        "train": spec.train,
        "test": spec.test,
        "images": {name: len(faces) for name, faces in sides.items()},
        "spaces": dict(about),
        "tests": verdict.count_tests(measurements.checks).convert_to_json(),
        "checks": [check.convert_to_json() for check in measurements.checks],
        "notes": measurements.notes,
    }

    (out / "audit.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    pd.DataFrame([asdict(question) for question in measurements.records]).to_parquet(
        out / "records.parquet", index=False
    )
    measurements.rows.to_parquet(out / "rows.parquet", index=False)

    # Pictures, and the page that shows them
    pictures = {"sheet": draw_side_by_side(train, synthetic), **measurements.pictures}
    suspects = draw_suspects(measurements.rows, synthetic)
    if suspects is not None:
        pictures["suspects"] = suspects
    for name, picture in pictures.items():
        picture.save(out / f"{name}.png")
    (out / "index.html").write_text(
        render(contents, measurements.records, measurements.rows, pictures, face_map),
        encoding="utf-8",
    )

    # The verdict in one line
    counts = {
        name: sum(check.verdict == name for check in measurements.checks) for name in verdict.ORDER
    }
    count_texts = [f"{counts[name]} {word}" for name, word in VERDICT_WORDS.items()]
    images, checks = quantify(len(synthetic), "image"), quantify(len(measurements.checks), "check")
    holds = f"audit of {images}: {measurements.verdict}; of {checks} {', '.join(count_texts)}"
    return {"holds": holds}
