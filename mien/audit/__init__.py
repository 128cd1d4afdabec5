"""The audit of a synthetic database: is it good, is it new, does it show what its label says, and
would we know?
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
PICTURES: Mapping[PartName, str] = {
    "memorisation": "strips"
}  # what the picture of a part is called
FAMILIES: Mapping[PartName, tuple[str, ...]] = {
    "fidelity": ("fidelity", "variety"),
    "memorisation": ("memorisation",),
    "labels": ("labels", "nuisance"),
    "leakage": ("leakage",),
}  # of the numbers that a part measures


class AuditSpec(Spec):
    """An audit: a synthetic run against the real training images and people never seen, each a run
    of faces.

    `thresholds` are the limits by metric (`verdict.thresholds`); they stand here whole, so that
    another file of thresholds is another audit. `weights` name files for spaces that need them
    (`classifiers.adopt`). An empty `test` says that nobody was held out; what needs such people is
    not measured then.
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
            raise ValueError("spaces must name one or more, each once")
        return spaces


COUNTED = {"fail": "failed", "cannot tell": "cannot tell", "warn": "warn", "pass": "passed"}


@dataclass
class Audit:
    """What was measured, what the verdict is, and the notes on what could not be measured.

    `rows` has a row for each synthetic image, with all that was found about it; `pictures` those of
    the parts by name.
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
        """What is asked of a database, and what the checks answer."""
        return verdict.answer(self.checks)


def audit(
    train: Faces,
    test: Faces | None,
    made: Faces,
    spaces: Mapping[str, Sides],
    limits: Mapping[str, Mapping[str, Any]],
) -> Audit:
    """Return all measures of `made` against real training images and held-out people, and the
    verdict.

    `spaces` are features of the three sides by space. Without `test` nobody was held out, and what
    needs such people is not measured. A part that cannot be measured leaves a note, and its checks
    cannot tell. Raises DataError if a side is empty, or the sides do not fit.
    """
    _require_fit(train, test, made)
    test = parts.nobody(train) if test is None else test
    given = Given(train, test, made, spaces, lambda: matches.find(train, test, made))
    measured: dict[PartName, Measured] = {part: parts.measure(part, given) for part in parts.PARTS}
    measured["leakage"] = parts.with_seen(measured["leakage"], made, train, test)
    return judged(measured, made, limits, held_out(train, test))


def judged(
    measured: Mapping[PartName, Measured],
    made: Faces,
    limits: Mapping[str, Mapping[str, Any]],
    people: HeldOut | None,
) -> Audit:
    """Return the audit of `made` whose parts were measured: all that they found, and the verdict on
    it.

    `people` says how many people were held out.
    """
    rows = made.index[["key", "emotion"]].reset_index(drop=True)
    for one in measured.values():
        if len(one.rows):
            rows = rows.merge(one.rows, on="key", how="left", validate="one_to_one")
    records = [record for one in measured.values() for record in one.records]
    notes = [note for one in measured.values() for note in one.notes]
    missing = {
        family: one.notes[0]
        for part, one in measured.items()
        if one.notes
        for family in FAMILIES[part]
    }
    pictures = {
        PICTURES[part]: one.picture for part, one in measured.items() if one.picture is not None
    }
    checks = verdict.judge(records, limits, people, missing)
    return Audit(records, checks, notes, rows, pictures)


def held_out(train: Faces, test: Faces) -> HeldOut:
    """Return how many people of `test` are known and are not among those of `train`."""
    known = test.index["subject"] != ""
    people = set(test.index.loc[known, "subject"]) - set(subjects_of(train.index))
    return HeldOut(len(people), int((~known).sum()))


def _require_fit(train: Faces, test: Faces | None, made: Faces) -> None:
    sides = {"synthetic": made, "training": train, **({} if test is None else {"test": test})}
    for name, faces in sides.items():
        if not len(faces):
            raise DataError(f"an audit needs images on every side, and the {name} side has none")
    train.require_real("the training side of an audit")
    if test is not None:
        test.require_real("the test side of an audit")
    if len({faces.size for faces in sides.values()}) > 1:
        sizes = ", ".join(f"{name} {list(faces.size)}" for name, faces in sides.items())
        raise DataError(
            f"all sides of an audit must have one size; given: {sizes}. Preprocess them to the "
            "same size"
        )
    unknown = sorted(set(made.classes) - set(train.classes))
    if unknown:
        raise DataError(
            "the training side must have the classes of the synthetic one, and lacks "
            f"{', '.join(unknown)}; name the "
            "set that its generator was trained on, or fold classes with `mien preprocess "
            "--classes`"
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
    """Return the run of an audit: audit.json, records.parquet, rows.parquet, index.html and its
    pictures.

    Its parts are runs too (`parts`), made by `engine`, in this process by default. Whether the
    database passed is in it: a failed audit is a run like any other. Raises MienError, with what it
    said and the exit code of that, where a part could not be made.
    """
    runs = {side: store.run(name) for side in SIDES if (name := getattr(spec, side))}
    spec = spec.model_copy(update={side: one.name for side, one in runs.items()})
    plan = parts.plan(spec.synthetic, spec.train, spec.test, spec.spaces, spec.filter, spec.weights)

    def build(out: Path, scratch: Path) -> None:
        faces = {side: Faces.load(one.path) for side, one in runs.items()}
        made, train = faces["synthetic"], faces["train"]
        _require_fit(train, faces.get("test"), made)
        test = faces.get("test", parts.nobody(train))
        todo = parts.jobs(plan, store, device)
        failures = work(todo, store, engine or Local(0)) if todo else {}
        for name, text in failures.items():  # the first is what the others wait for
            raise error_of(store, name, text)
        there: dict[PartName, Run] = {
            part: parts.run(one, store, device) for part, one in plan.items()
        }
        measured: dict[PartName, Measured] = {part: parts.read(one) for part, one in there.items()}
        measured["leakage"] = parts.with_seen(measured["leakage"], made, train, test)
        found = judged(measured, made, spec.thresholds, held_out(train, test))
        about = there["fidelity"].json("notes.json")["spaces"]
        write(
            found,
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
    """Write the files of an audit into a folder; `about` says what each space is, `content` is the
    synthetic run's.
    """
    made, train = sides["made"], sides["train"]
    told = {
        "verdict": found.verdict,
        "questions": [asdict(one) for one in found.questions],
        "thresholds_changed": [one.as_json() for one in verdict.changes(spec.thresholds)],
        "synthetic": spec.synthetic,
        "content": content,
        "train": spec.train,
        "test": spec.test,
        "images": {name: len(faces) for name, faces in sides.items()},
        "spaces": dict(about),
        "checks": [check.as_json() for check in found.checks],
        "notes": found.notes,
    }
    (out / "audit.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    pd.DataFrame([asdict(one) for one in found.records]).to_parquet(
        out / "records.parquet", index=False
    )
    found.rows.to_parquet(out / "rows.parquet", index=False)
    pictures = {"sheet": side_by_side(train, made), **found.pictures}
    suspects = page.suspects(found.rows, made)
    if suspects is not None:
        pictures["suspects"] = suspects
    for name, picture in pictures.items():
        picture.save(out / f"{name}.png")
    (out / "index.html").write_text(
        page.render(told, found.records, found.rows, pictures), encoding="utf-8"
    )
    counts = {name: sum(check.verdict == name for check in found.checks) for name in verdict.ORDER}
    told_of = [f"{counts[name]} {word}" for name, word in COUNTED.items()]
    images = many(len(made), "image")
    holds = (
        f"audit of {images}: {found.verdict}; of {many(len(found.checks), 'check')} "
        f"{', '.join(told_of)}"
    )
    (out / "summary.json").write_text(json.dumps({"holds": holds}) + "\n", encoding="utf-8")
