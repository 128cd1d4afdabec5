"""The audit of a synthetic database.

It asks four questions: is the database good, is it new, does it show what its labels say, and would
we know? Each check is a number with an interval, compared with thresholds.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from PIL import Image
from pydantic import Field, field_validator

from mien.audit import matches, page, parts, verdict
from mien.audit.parts import Given, Measured, PartName
from mien.audit.search import subjects_of
from mien.audit.verdict import Check, HeldOut, Outcome, Question, thresholds
from mien.engine import Engine, Local, error_of, work
from mien.errors import DataError
from mien.faces import Faces
from mien.features import OFFLINE, Sides, SpaceName
from mien.figures import side_by_side
from mien.preprocess import Filter
from mien.progress import many
from mien.spec import Spec
from mien.stats import Record
from mien.store import Run, Store

__all__ = ["Audit", "AuditSpec", "Check", "Outcome", "audit", "run", "thresholds"]

SIDES = ("synthetic", "train", "test")
PICTURES: Mapping[PartName, str] = {"memorisation": "strips"}  # the name of a part's picture
# the families of the numbers that a part measures
FAMILIES: Mapping[PartName, tuple[str, ...]] = {
    "fidelity": ("fidelity", "variety"),
    "memorisation": ("memorisation",),
    "labels": ("labels", "nuisance"),
    "leakage": ("leakage",),
}


class AuditSpec(Spec):
    """An audit of a synthetic run against real training images and held-out people.

    `synthetic`, `train` and `test` are runs of faces. `thresholds` holds all limits by metric
    (`verdict.thresholds`), so that another file of thresholds is another audit. `weights` name
    files for spaces that need them (`classifiers.adopt`). An empty `test` says that nobody was held
    out; numbers that need such people are not measured then.
    """

    stage: ClassVar[str] = "audit"
    version: int = 2
    synthetic: str
    train: str
    test: str = ""
    thresholds: dict[str, dict[str, Any]]
    spaces: tuple[SpaceName, ...] = OFFLINE
    filter: Filter = "bilinear"
    weights: dict[str, str] = Field(default_factory=dict)

    @field_validator("spaces")
    @classmethod
    def _some_space(cls, spaces: tuple[SpaceName, ...]) -> tuple[SpaceName, ...]:
        if not spaces or len(set(spaces)) < len(spaces):
            raise ValueError("spaces must name one or more spaces, each once")
        return spaces


COUNTED = {"fail": "failed", "cannot tell": "cannot tell", "warn": "warn", "pass": "passed"}


@dataclass
class Audit:
    """All measured numbers, the checks on them, and notes on what could not be measured.

    `rows` has one row per synthetic image, with everything that was measured on it; `pictures`
    holds the pictures of the parts by name.
    """

    records: list[Record]
    checks: list[Check]
    notes: list[str]
    rows: pd.DataFrame
    pictures: dict[str, Image.Image]

    @property
    def verdict(self) -> Outcome:
        """The worst answer to a question."""
        return verdict.worst(self.checks)

    @property
    def questions(self) -> list[Question]:
        """The questions about the database, and the answers that the checks give."""
        return verdict.answer(self.checks)


def audit(
    train: Faces,
    test: Faces | None,
    made: Faces,
    spaces: Mapping[str, Sides],
    limits: Mapping[str, Mapping[str, Any]],
) -> Audit:
    """Return all measures of `made` against training images and held-out people, with the verdict.

    `spaces` holds the features of the three sides by space. Without `test` nobody was held out, and
    numbers that need such people are not measured. A part that cannot be measured leaves a note,
    and its checks cannot tell. Raises DataError if a side is empty, or the sides do not fit
    together.
    """
    _require_fit(train, test, made)
    test = parts.nobody(train) if test is None else test
    data = Given(train, test, made, spaces, lambda: matches.find(train, test, made))
    measured: dict[PartName, Measured] = {part: parts.measure(part, data) for part in parts.PARTS}
    measured["leakage"] = parts.with_seen(measured["leakage"], made, train, test)
    return judged(measured, made, limits, held_out(train, test))


def judged(
    measured: Mapping[PartName, Measured],
    made: Faces,
    limits: Mapping[str, Mapping[str, Any]],
    people: HeldOut | None,
) -> Audit:
    """Return the audit of `made` from the measurements of its parts.

    `people` are the held-out people; None if their number plays no part.
    """
    # One row per image, with the columns of every part
    rows = made.index[["key", "emotion"]].reset_index(drop=True)
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
        for family in FAMILIES[part]
    }
    pictures = {
        PICTURES[part]: measurement.picture
        for part, measurement in measured.items()
        if measurement.picture is not None
    }
    checks = verdict.judge(records, limits, people, missing)
    return Audit(records, checks, notes, rows, pictures)


def held_out(train: Faces, test: Faces) -> HeldOut:
    """Return how many people of `test` are known and are not among those of `train`."""
    is_known = test.index["subject"] != ""
    people = set(test.index.loc[is_known, "subject"]) - set(subjects_of(train.index))
    return HeldOut(len(people), int((~is_known).sum()))


def _require_fit(train: Faces, test: Faces | None, made: Faces) -> None:
    # Images on every side, real ones on the real sides
    sides = {"synthetic": made, "training": train, **({} if test is None else {"test": test})}
    for name, faces in sides.items():
        if not len(faces):
            raise DataError(f"an audit needs images on every side; the {name} side has none")
    train.require_real("the training side of an audit")
    if test is not None:
        test.require_real("the test side of an audit")

    # One size, and no class that the training side lacks
    if len({faces.size for faces in sides.values()}) > 1:
        sizes = ", ".join(f"{name} {list(faces.size)}" for name, faces in sides.items())
        raise DataError(
            f"all sides of an audit need one size; given: {sizes}. Preprocess them to the same size"
        )
    unknown = sorted(set(made.classes) - set(train.classes))
    if unknown:
        raise DataError(
            "the training side needs all classes of the synthetic side; it lacks "
            f"{', '.join(unknown)}. Name the set that the generator was trained on, or merge "
            "classes with `mien preprocess --classes`"
        )


# Runs


def run(
    spec: AuditSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    engine: Engine | None = None,
) -> Run:
    """Return the run of an audit.

    It holds audit.json, records.parquet, rows.parquet, index.html and its pictures. Its parts are
    runs too (`parts`), made by `engine`, in this process by default. A failed audit is a run like
    any other: audit.json holds the verdict. Raises MienError, with the message and exit code of the
    failed job, if a part could not be made.
    """
    # The names of the runs are part of the audit's name
    runs = {side: store.run(name) for side in SIDES if (name := getattr(spec, side))}
    spec = spec.model_copy(update={side: side_run.name for side, side_run in runs.items()})
    plan = parts.plan(spec.synthetic, spec.train, spec.test, spec.spaces, spec.filter, spec.weights)

    def build(out: Path, scratch: Path) -> None:
        # Load the sides, and check that they fit together
        faces = {side: Faces.load(side_run.path) for side, side_run in runs.items()}
        made, train = faces["synthetic"], faces["train"]
        _require_fit(train, faces.get("test"), made)
        test = faces.get("test", parts.nobody(train))

        # Make the parts that the store lacks
        jobs = parts.jobs(plan, store, device)
        failures = work(jobs, store, engine or Local(0)) if jobs else {}
        for name, text in failures.items():  # the others may only have waited for the first
            raise error_of(store, name, text)

        # Judge what the parts measured
        part_runs: dict[PartName, Run] = {
            part: parts.run(part_spec, store, device) for part, part_spec in plan.items()
        }
        measured: dict[PartName, Measured] = {
            part: parts.read(part_run) for part, part_run in part_runs.items()
        }
        measured["leakage"] = parts.with_seen(measured["leakage"], made, train, test)
        result = judged(measured, made, spec.thresholds, held_out(train, test))
        about = part_runs["fidelity"].json("notes.json")["spaces"]
        write(
            result,
            spec,
            {"made": made, "train": train, "test": test},
            runs["synthetic"].content,
            about,
            out,
        )

    return store.make(spec, build, alias)


def write(
    found: Audit,
    spec: AuditSpec,
    sides: Mapping[str, Faces],
    content: str,
    about: Mapping[str, str],
    out: Path,
) -> None:
    """Write the files of an audit into a folder.

    `about` describes each space in words, and `content` is the content digest of the synthetic run.
    """
    made, train = sides["made"], sides["train"]
    contents = {
        "verdict": found.verdict,
        "questions": [asdict(item) for item in found.questions],
        "thresholds_changed": [item.as_json() for item in verdict.changes(spec.thresholds)],
        "synthetic": spec.synthetic,
        "content": content,
        "train": spec.train,
        "test": spec.test,
        "images": {name: len(faces) for name, faces in sides.items()},
        "spaces": dict(about),
        "checks": [check.as_json() for check in found.checks],
        "notes": found.notes,
    }

    (out / "audit.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    pd.DataFrame([asdict(item) for item in found.records]).to_parquet(
        out / "records.parquet", index=False
    )
    found.rows.to_parquet(out / "rows.parquet", index=False)

    # Pictures, and the page that shows them
    pictures = {"sheet": side_by_side(train, made), **found.pictures}
    suspects = page.suspects(found.rows, made)
    if suspects is not None:
        pictures["suspects"] = suspects
    for name, picture in pictures.items():
        picture.save(out / f"{name}.png")
    (out / "index.html").write_text(
        page.render(contents, found.records, found.rows, pictures), encoding="utf-8"
    )

    # The summary line that `mien ls` shows
    counts = {name: sum(check.verdict == name for check in found.checks) for name in verdict.ORDER}
    count_texts = [f"{counts[name]} {word}" for name, word in COUNTED.items()]
    images = many(len(made), "image")
    holds = (
        f"audit of {images}: {found.verdict}; of {many(len(found.checks), 'check')} "
        f"{', '.join(count_texts)}"
    )
    (out / "summary.json").write_text(json.dumps({"holds": holds}) + "\n", encoding="utf-8")
