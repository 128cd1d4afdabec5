"""Verdict: what was measured, held against thresholds. Parts measure, this judges, and both can be read.

A check fails where the whole interval of its number lies beyond the limit, so that no lack of images fails a set; it
warns where the number itself does.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mien.errors import SpecError
from mien.spec import Strict, nearest, read_spec, read_toml
from mien.stats import Record

Outcome = Literal["pass", "warn", "fail"]
ORDER: tuple[Outcome, ...] = ("pass", "warn", "fail")
FAMILIES = ("fidelity", "variety", "memorisation", "labels", "nuisance", "leakage")
DEFAULTS = Path(__file__).with_name("thresholds.toml")


class Threshold(Strict):
    """Limits of one number; thresholds.toml says what each field means."""

    side: Literal["above", "below"]
    warn: float | None = None
    fail: float | None = None
    against: Literal["", "heldout", "floor", "train", "chance"] = ""
    by: Literal["ratio", "difference"] = "ratio"
    each: bool = False
    least: int = Field(default=20, ge=1)
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _means_something(self) -> "Threshold":
        if self.warn is None and self.fail is None:
            raise ValueError("warn or fail must be given; `off = true` takes a check away")
        if self.warn is not None and self.fail is not None and (self.fail - self.warn) * self.sign < 0:
            raise ValueError(f"fail must lie {self.side} warn, or at it")
        if not self.against and self.by != "ratio":
            raise ValueError("by must be left alone where the number stands against no other")
        return self

    @property
    def sign(self) -> int:
        """1 where what is above is bad, -1 where what is below is."""
        return 1 if self.side == "above" else -1

    @property
    def text(self) -> str:
        """The limits in words."""
        what = {
            "": "",
            "heldout": "people never seen",
            "floor": "real against real",
            "train": "real images",
            "chance": "is expected by chance",
        }
        unit = f" times that of {what[self.against]}" if self.by == "ratio" else f" more than {what[self.against]}"
        limits = [f"{verb} {self.side} {limit:g}" for verb, limit in (("fails", self.fail), ("warns", self.warn))
                  if limit is not None]  # fmt: skip
        return " and ".join(limits) + (unit if self.against else "")


@dataclass(frozen=True)
class Check:
    """One number, judged: `value` with its interval as measured, `relative` to `reference` where it stands against one.

    `value` is None where nothing was measured under that name.
    """

    name: str
    family: str
    part: str
    verdict: Outcome
    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    reference: float | None
    relative: float | None
    threshold: str
    reason: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)


# Thresholds


def thresholds(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the fields of each threshold by metric: the defaults, with what a user's file changes, adds or takes away.

    Raises SpecError, which names file and place, for anything in the file that does not hold.
    """
    known = read_toml(DEFAULTS)
    given = read_toml(file) if file is not None else {}
    for metric, fields in given.items():
        _known_metric(metric, fields, list(known), str(file))
        off = fields.pop("off", False)
        if not isinstance(off, bool):
            raise SpecError(f"{file}: {metric}.off must be true or false (given: {off!r})")
        if off:
            known.pop(metric, None)
            continue
        reason = {} if metric in known else {"reason": f"asked for in {Path(file or '').name}"}
        known[metric] = {**reason, **known.get(metric, {}), **fields}
    for metric, fields in known.items():
        read_spec(Threshold, fields, f"{file or DEFAULTS.name}: {metric}")
    return known


def _known_metric(metric: str, fields: Any, known: list[str], file: str) -> None:
    if not isinstance(fields, dict):
        raise SpecError(f'{file}: a threshold must be a table, ["{metric}"], and is {fields!r}')
    family, dot, _ = metric.partition(".")
    if family not in FAMILIES or not dot:
        quoted = f' Its name must be in quotes: ["{metric}.{next(iter(fields), "")}"].' if family in FAMILIES else ""
        raise SpecError(
            f"{file}: there is no number '{metric}'.{quoted or nearest(metric, known)} Names are FAMILY.NAME or "
            f"FAMILY.NAME.SPACE, with a family of {', '.join(FAMILIES)}"
        )


# Judging


def judge(records: Sequence[Record], limits: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Return a check for each threshold, and for each class where it says so, the worst first.

    A threshold under whose name nothing was measured warns: a gate that is not looked at must not pass in silence.
    """
    by_name = {(one.metric, one.part): one for one in records}
    checks = []
    for metric, fields in limits.items():
        limit = read_spec(Threshold, dict(fields), metric)
        own = [one for one in records if one.metric == metric and (limit.each or not one.part)]
        checks += [_check(one, by_name, limit) for one in own] or [_absent(metric, limit)]
    return sorted(checks, key=lambda check: -ORDER.index(check.verdict))


def worst(checks: Iterable[Check]) -> Outcome:
    """Return the verdict on all: the worst of them."""
    found = {ORDER.index(check.verdict) for check in checks}
    return ORDER[max(found, default=0)]


def _check(one: Record, by_name: Mapping[tuple[str, str], Record], limit: Threshold) -> Check:
    if not math.isfinite(one.value):
        return replace(_absent(one.metric, limit), part=one.part, n=one.n)
    name = _other(one.metric, limit.against)
    part = "" if limit.against == "chance" else one.part
    other = by_name.get((name, part)) if limit.against else None
    if limit.against and other is None:
        return _told(one, limit, "warn", note=f"nothing to hold it against: no {name}")
    value, low, high = (_relative(number, other, limit) for number in (one.value, one.low, one.high))
    bound = (low if limit.side == "above" else high) if one.low is not None else value
    outcome: Outcome = "pass"
    note = ""
    if limit.fail is not None and _beyond(bound, limit.fail, limit):
        outcome = "fail"
    elif any(_beyond(value, number, limit) for number in (limit.warn, limit.fail) if number is not None):
        outcome = "warn"
    if outcome == "fail" and one.n < limit.least:
        outcome, note = "warn", f"n is below {limit.least}, too few to fail"
    relative = value if other is not None else None
    return _told(one, limit, outcome, other.value if other is not None else None, relative, note)


def _beyond(value: float | None, number: float, limit: Threshold) -> bool:
    return value is not None and (value - number) * limit.sign > 0


def _other(metric: str, against: str) -> str:
    """Return the name of what a number stands against: fidelity.frechet.judge -> fidelity.frechet_heldout.judge.

    Chance is one for a family: memorisation.copied.pixels -> memorisation.chance.
    """
    family, name, *space = metric.split(".")
    if against == "chance":
        return f"{family}.chance"
    return ".".join([family, f"{name}_{against}", *space])


def _relative(value: float | None, other: Record | None, limit: Threshold) -> float | None:
    if value is None or other is None:
        return value
    return value - other.value if limit.by == "difference" else value / max(other.value, 1e-12)


def _told(
    one: Record,
    limit: Threshold,
    outcome: Outcome,
    reference: float | None = None,
    relative: float | None = None,
    note: str = "",
) -> Check:
    return Check(
        one.metric, one.metric.partition(".")[0], one.part, outcome, one.value, one.low, one.high, one.n, one.unit,
        reference, relative, limit.text, limit.reason, note,
    )  # fmt: skip


def _absent(metric: str, limit: Threshold) -> Check:
    family = metric.partition(".")[0]
    note = "nothing was measured under this name"
    return Check(metric, family, "", "warn", None, None, None, 0, "", None, None, limit.text, limit.reason, note)
