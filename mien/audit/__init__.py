"""The audit of a synthetic database: is it good, is it new, does it show what its label says, and would we know?"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
from pydantic import Field, field_validator

from mien import features, splits
from mien.audit import fidelity, labels, leakage, memorisation, nuisance, page, verdict
from mien.audit.labels import Labels
from mien.audit.memorisation import Memorisation
from mien.audit.verdict import Check, Outcome, thresholds
from mien.errors import DataError, LeakageError
from mien.faces import Faces
from mien.features import OFFLINE, Sides, SpaceName
from mien.figures import side_by_side
from mien.preprocess import Filter
from mien.progress import say
from mien.spec import Spec
from mien.stats import Record
from mien.store import Run, Store

__all__ = ["Audit", "AuditSpec", "Check", "Outcome", "audit", "run", "thresholds"]

Result = TypeVar("Result")


class AuditSpec(Spec):
    """An audit: a synthetic run against the real training images and people never seen, each a run of faces.

    `thresholds` are the limits by metric (`verdict.thresholds`); they stand here whole, so that another file of
    thresholds is another audit. `weights` name files for spaces that need them (`classifiers.adopt`).
    """

    stage: ClassVar[str] = "audit"
    synthetic: str
    train: str
    test: str
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


@dataclass
class Audit:
    """What was measured, what the verdict is, and the notes on what could not be measured.

    `rows` has a row for each synthetic image, with all that was found about it.
    """

    records: list[Record] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    copies: Memorisation | None = None
    shown: Labels | None = None

    @property
    def verdict(self) -> Outcome:
        """The worst of the checks."""
        return verdict.worst(self.checks)


def audit(
    train: Faces,
    test: Faces,
    made: Faces,
    spaces: Mapping[str, Sides],
    limits: Mapping[str, Mapping[str, Any]],
) -> Audit:
    """Return all measures of `made` against real training images and people never seen, and the verdict.

    `spaces` are features of the three sides by space. A part that cannot be measured leaves a note, and its checks
    warn. Raises DataError if a side is empty, or the sides do not fit.
    """
    _require_fit(train, test, made)
    found = Audit(rows=made.index[["key", "emotion"]].reset_index(drop=True))
    for name, step in STEPS.items():
        say(f"audit: {name}")
        step(found, train, test, made, spaces)
    found.checks = verdict.judge(found.records, limits)
    return found


def _require_fit(train: Faces, test: Faces, made: Faces) -> None:
    sides = {"synthetic": made, "training": train, "test": test}
    for name, faces in sides.items():
        if not len(faces):
            raise DataError(f"an audit needs images on every side, and the {name} side has none")
    if len({faces.size for faces in sides.values()}) > 1:
        sizes = ", ".join(f"{name} {list(faces.size)}" for name, faces in sides.items())
        raise DataError(f"all sides of an audit must have one size; given: {sizes}. Preprocess them to the same size")
    unknown = sorted(set(made.classes) - set(train.classes))
    if unknown:
        raise DataError(
            f"the training side must have the classes of the synthetic one, and lacks {', '.join(unknown)}; name the "
            "set that its generator was trained on, or fold classes with `mien preprocess --classes`"
        )


def _fidelity(found: Audit, train: Faces, test: Faces, made: Faces, spaces: Mapping[str, Sides]) -> None:
    found.records += fidelity.measure(train, test, made, spaces)


def _memorisation(found: Audit, train: Faces, test: Faces, made: Faces, spaces: Mapping[str, Sides]) -> None:
    others = {name: sides for name, sides in spaces.items() if name != "pixels"}  # pixels are always looked at
    copies = _tried(found, "memorisation", lambda: memorisation.measure(train, test, made, others))
    if copies is None:
        return
    found.copies = copies
    found.records += copies.records
    found.notes += copies.notes
    found.rows = found.rows.merge(copies.rows.drop(columns="emotion"), on="key", how="left", validate="one_to_one")


def _labels(found: Audit, train: Faces, test: Faces, made: Faces, spaces: Mapping[str, Sides]) -> None:
    shown = _tried(found, "labels", lambda: labels.labels(made, train, test))
    if shown is not None:
        found.shown = shown
        found.records += [*shown.records, *_kept(shown)]
        found.notes += [f"{one.kind} {one.where}".strip() + f": {one.what}" for one in shown.findings]
        own = shown.rows.drop(columns="emotion")
        found.rows = found.rows.merge(own, on="key", how="left", validate="one_to_one")
    for suffix, faces in (("", made), ("_train", train)):
        measured = _tried(found, "nuisance", partial(nuisance.nuisance, faces)) or ()
        found.records += [replace(one, metric=one.metric + suffix) for one in measured]


def _kept(shown: Labels) -> list[Record]:
    """Return agreement from chance (0) to what the judges reach on real people (1), and that less chance."""
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
    """Return a record under another name on a scale of which `zero` is 0 and `unit` the length of 1."""
    low, high = (None if bound is None else (bound - zero) / unit for bound in (one.low, one.high))
    return Record(name, (one.value - zero) / unit, one.n, one.unit, low, high)


def _leakage(found: Audit, train: Faces, test: Faces, made: Faces, spaces: Mapping[str, Sides]) -> None:
    leaks = leakage.leakage(train, test)
    found.records += leaks.records
    found.notes += [f"{one.kind} {one.where}".strip() + f": {one.what}" for one in leaks.findings]
    seen = _tried(found, "what the generator saw", lambda: splits.overlap(made, test))
    if seen is not None:
        share = float(max(seen["frames_share"], seen["subjects_share"]))
        found.records.append(Record("leakage.generator_saw", share, len(test), unit="share of test images"))


STEPS: Mapping[str, Callable[[Audit, Faces, Faces, Faces, Mapping[str, Sides]], None]] = {
    "fidelity": _fidelity,
    "memorisation": _memorisation,
    "labels": _labels,
    "leakage": _leakage,
}
"""What adds its records to an audit, by name."""


def _tried(found: Audit, what: str, work: Callable[[], Result]) -> Result | None:
    """Return what a part measures, or nothing, with a note, where the data do not allow it."""
    try:
        return work()
    except (DataError, LeakageError) as error:
        found.notes.append(f"{what}: {error}")
        return None


# Runs


def run(spec: AuditSpec, store: Store, *, alias: str | None = None, device: str = "auto") -> Run:
    """Return the run of an audit: audit.json, records.parquet, rows.parquet, index.html and its pictures.

    Whether the database passed is in it: a failed audit is a run like any other.
    """
    runs = [store.run(name) for name in (spec.synthetic, spec.train, spec.test)]
    made_run, train_run, test_run = runs
    spec = spec.model_copy(update=dict(zip(("synthetic", "train", "test"), (one.name for one in runs), strict=True)))

    def build(out: Path, scratch: Path) -> None:
        made, train, test = (Faces.load(one.path) for one in runs)
        _require_fit(train, test, made)
        spaces, about = features.sides(
            spec.spaces, train_run, test_run, made_run, store, filter=spec.filter, weights=spec.weights, device=device
        )
        found = audit(train, test, made, spaces, spec.thresholds)
        write(found, spec, {"made": made, "train": train, "test": test}, made_run.content, about, out)

    return store.make(spec, build, alias)


def write(
    found: Audit, spec: AuditSpec, sides: Mapping[str, Faces], content: str, about: Mapping[str, str], out: Path
) -> None:
    """Write the files of an audit into a folder; `about` says what each space is, `content` is the synthetic run's."""
    made, train = sides["made"], sides["train"]
    told = {
        "verdict": found.verdict,
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
    pd.DataFrame([asdict(one) for one in found.records]).to_parquet(out / "records.parquet", index=False)
    found.rows.to_parquet(out / "rows.parquet", index=False)
    pictures = {"sheet": side_by_side(train, made)}
    if found.copies is not None:
        pictures["strips"] = memorisation.strips(made, train, found.copies)
    suspects = page.suspects(found.rows, made)
    if suspects is not None:
        pictures["suspects"] = suspects
    for name, picture in pictures.items():
        picture.save(out / f"{name}.png")
    (out / "index.html").write_text(page.render(told, found.records, found.rows, pictures), encoding="utf-8")
    failed = sum(check.verdict == "fail" for check in found.checks)
    warned = sum(check.verdict == "warn" for check in found.checks)
    holds = (
        f"audit of {len(made):,} images: {found.verdict}, {len(found.checks)} checks, {failed} failed, {warned} warn"
    )
    (out / "summary.json").write_text(json.dumps({"holds": holds}) + "\n", encoding="utf-8")
