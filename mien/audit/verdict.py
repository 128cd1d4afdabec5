"""Verdict: what was measured, held against thresholds. Parts measure, this judges, and both can be
read.

A check fails where the whole interval of its number lies beyond the limit, so that no lack of
images fails a set; it warns where the number itself does. It cannot tell where the evidence is
missing: nothing was measured, too few people were held out, or the interval reaches from good to
bad. A pass is never the absence of evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mien.errors import SpecError
from mien.spec import Strict, nearest, read_spec, read_toml
from mien.stats import Record

Outcome = Literal["pass", "warn", "cannot tell", "fail"]
ORDER: tuple[Outcome, ...] = ("pass", "warn", "cannot tell", "fail")
FAMILIES = ("fidelity", "variety", "memorisation", "labels", "nuisance", "leakage")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "Is it good?": ("fidelity", "variety"),
    "Is it new?": ("memorisation",),
    "Does it show what its label says?": ("labels", "nuisance"),
    "Would we know?": ("leakage",),
}
NAMED = 4  # checks that a sentence names
DEFAULTS = Path(__file__).with_name("thresholds.toml")


class Threshold(Strict):
    """Limits of one number; thresholds.toml says what each field means."""

    side: Literal["above", "below"]
    warn: float | None = None
    fail: float | None = None
    cannot_tell: float | None = None
    people: int = Field(default=0, ge=0)
    against: Literal["", "heldout", "floor", "train", "chance"] = ""
    by: Literal["ratio", "difference"] = "ratio"
    each: bool = False
    wide: Literal["cannot tell", "warn", "pass"] = "cannot tell"
    least: int = Field(default=20, ge=1)
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _means_something(self) -> "Threshold":
        if self.warn is None and self.fail is None and self.cannot_tell is None:
            raise ValueError(
                "warn, fail or cannot_tell must be given; `off = true` takes a check away"
            )
        if (
            self.warn is not None
            and self.fail is not None
            and (self.fail - self.warn) * self.sign < 0
        ):
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
            "heldout": "held-out people",
            "floor": "real images against real images",
            "train": "real images",
            "chance": "is expected by chance",
        }
        unit = (
            f" times that of {what[self.against]}"
            if self.by == "ratio"
            else f" more than {what[self.against]}"
        )
        verbs = {"fails": self.fail, "cannot tell": self.cannot_tell, "warns": self.warn}
        limits = [
            f"{verb} {self.side} {limit:g}" for verb, limit in verbs.items() if limit is not None
        ]
        return " and ".join(limits) + (unit if self.against else "")


@dataclass(frozen=True)
class Check:
    """One number, judged: `value` with its interval as measured, `relative` to `reference` if it
    has one.

    `value` is None where nothing was measured under that name. `note` says what is missing where
    the check cannot tell, and `enough` what would be enough; `people` is how many held-out people
    are needed where there are fewer.
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
    enough: str = ""
    people: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)


# Thresholds


def thresholds(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the fields of each threshold by metric: the defaults, with what a user's file changes,
    adds or takes away.

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


@dataclass(frozen=True)
class Change:
    """A limit that is not the default one: `default` and `given` are None where the check has no
    such field.

    `looser` says whether a set could pass with it that would not pass by default.
    """

    metric: str
    field: str
    default: Any
    given: Any
    looser: bool

    @property
    def text(self) -> str:
        """The change in words."""
        if self.field == "off":
            return f"{self.metric}: the check was taken away"
        return f"{self.metric}: {self.field} was {_shown(self.default)}, is {_shown(self.given)}"

    def as_json(self) -> dict[str, Any]:
        """Return its fields, and what it says in words."""
        return {**asdict(self), "text": self.text}


def changes(limits: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Return what in `limits` differs from the default thresholds, those that make passing easier
    first.
    """
    found = []
    defaults = read_toml(DEFAULTS)
    for metric in sorted({*defaults, *limits}):
        known, given = defaults.get(metric), limits.get(metric)
        if given is None:
            found.append(Change(metric, "off", False, True, looser=True))
            continue
        fields = sorted({*(known or {}), *given} - {"reason"})
        for field in fields:
            was, now = (known or {}).get(field), given.get(field)
            if was != now:
                found.append(
                    Change(
                        metric,
                        field,
                        was,
                        now,
                        known is not None and _looser(field, was, now, known),
                    )
                )
    return sorted(found, key=lambda change: not change.looser)


def _looser(field: str, was: Any, now: Any, known: Mapping[str, Any]) -> bool:
    """Whether a changed field of a default threshold makes passing easier; what is not known to be
    stricter does.
    """
    if field in ("warn", "fail", "cannot_tell"):
        if was is None or now is None:
            return now is None
        return (now - was) * (1 if known["side"] == "above" else -1) > 0
    if field == "least":
        return now is None or (was is not None and now > was) or (was is None and now > 20)
    if field == "people":
        return (now or 0) < (was or 0)
    if field == "each":
        return not now
    if field == "wide":
        return ORDER.index(now or "cannot tell") < ORDER.index(was or "cannot tell")
    return True


def _shown(value: Any) -> str:
    return (
        "not given" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _known_metric(metric: str, fields: Any, known: list[str], file: str) -> None:
    if not isinstance(fields, dict):
        raise SpecError(f'{file}: a threshold must be a table, ["{metric}"], and is {fields!r}')
    family, dot, _ = metric.partition(".")
    if family not in FAMILIES or not dot:
        quoted = (
            f' Its name must be in quotes: ["{metric}.{next(iter(fields), "")}"].'
            if family in FAMILIES
            else ""
        )
        raise SpecError(
            f"{file}: there is no number '{metric}'.{quoted or nearest(metric, known)} Names are "
            "FAMILY.NAME or "
            f"FAMILY.NAME.SPACE, with a family of {', '.join(FAMILIES)}"
        )


# Judging


@dataclass(frozen=True)
class HeldOut:
    """The held-out people of an audit: how many are known, and of how many images the person is
    not.
    """

    people: int
    unknown: int = 0

    @property
    def text(self) -> str:
        """How many there are, in words."""
        if not self.people and self.unknown:
            return "it is not known whom the held-out images show"
        whom = {0: "no people were", 1: "1 person was"}.get(
            self.people, f"{self.people} people were"
        )
        return f"{whom} held out"


@dataclass(frozen=True)
class Question:
    """One question of the audit: its outcome, why in one sentence, and what would be enough to
    tell.

    `people` is how many held-out people are needed where there are fewer, else 0.
    """

    title: str
    verdict: Outcome
    why: str
    enough: str = ""
    people: int = 0


def judge(
    records: Sequence[Record],
    limits: Mapping[str, Mapping[str, Any]],
    held_out: "HeldOut | None" = None,
    missing: Mapping[str, str] | None = None,
) -> list[Check]:
    """Return a check for each threshold, and for each class where it says so, the worst first.

    `held_out` says how many people the numbers rest on, None that they rest on nobody. `missing`
    says by family why some of its numbers could not be measured. A threshold under whose name
    nothing was measured cannot tell: a gate that nobody could look at must not pass in silence.
    """
    by_name = {(one.metric, one.part): one for one in records}
    checks = []
    for metric, fields in limits.items():
        limit = read_spec(Threshold, dict(fields), metric)
        own = [one for one in records if one.metric == metric and (limit.each or not one.part)]
        why = (missing or {}).get(metric.partition(".")[0], "")
        found = [_check(one, by_name, limit) for one in own] or [_absent(metric, limit, why)]
        checks += [_with_people(check, limit, held_out) for check in found]
    return sorted(checks, key=lambda check: -ORDER.index(check.verdict))


def answer(checks: Sequence[Check]) -> list[Question]:
    """Return the outcome of each question of QUESTIONS, with the reason and what would be enough to
    tell.

    A question of which no check is left cannot be answered. A single class of which nothing can be
    told counts as a warning, since the check over all classes looks at the same images.
    """
    return [_question(title, [one for one in checks if one.family in families])
            for title, families in QUESTIONS.items()]  # fmt: skip


def worst(checks: Sequence[Check]) -> Outcome:
    """Return the verdict: the worst answer to a question."""
    return ORDER[max(ORDER.index(one.verdict) for one in answer(checks))]


def _question(title: str, checks: Sequence[Check]) -> Question:
    if not checks:
        return Question(
            title, "cannot tell", "no check is left", "leave the default thresholds in place"
        )

    # The outcome, and the checks that decide it
    weights = [_weight(check) for check in checks]
    outcome = ORDER[max(ORDER.index(weight) for weight in weights)]
    deciding = [check for check, weight in zip(checks, weights, strict=True) if weight == outcome]

    # Why, in one sentence
    names = list(dict.fromkeys(check.name for check in deciding))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    named = ", ".join(names[:NAMED]) + more
    if outcome == "pass":
        count = len(checks)
        return Question(title, outcome, f"{count} check{'s' * (count != 1)} passed")
    if outcome in ("fail", "warn"):
        return Question(title, outcome, f"beyond the limits of {named}")
    notes = list(dict.fromkeys(check.note for check in deciding if check.note))
    people = max(check.people for check in deciding)
    enough = list(
        dict.fromkeys(check.enough for check in deciding if check.enough and not check.people)
    )
    enough = [*([more_people(people)] if people else []), *enough[:2]]
    return Question(
        title,
        outcome,
        f"{notes[0] if notes else 'too little'} ({named})",
        "; ".join(enough),
        people,
    )


def _weight(check: Check) -> Outcome:
    return "warn" if check.part and check.verdict == "cannot tell" else check.verdict


def _check(one: Record, by_name: Mapping[tuple[str, str], Record], limit: Threshold) -> Check:
    if not math.isfinite(one.value):
        return replace(_absent(one.metric, limit), part=one.part, n=one.n)

    # What it stands against
    name = _other(one.metric, limit.against)
    part = "" if limit.against == "chance" else one.part
    other = by_name.get((name, part)) if limit.against else None
    if limit.against and other is None:
        return _told(one, limit, "cannot tell", note=("it has nothing to be compared with: no " "" "" "" "" "" f"{name}"),
                     enough="a larger set of real images")  # fmt: skip

    # The number and its interval, held against the limits
    value, low, high = (
        _relative(number, other, limit) for number in (one.value, one.low, one.high)
    )
    ends = (low, high) if limit.side == "above" else (high, low)
    least_beyond, most_beyond = (value, value) if one.low is None else ends
    outcome: Outcome = "pass"
    note = enough = ""
    if limit.fail is not None and _beyond(least_beyond, limit.fail, limit):
        outcome = "fail"
    elif any(
        _beyond(value, number, limit) for number in (limit.warn, limit.fail) if number is not None
    ):
        outcome = "warn"
    if (
        limit.cannot_tell is not None
        and outcome != "fail"
        and _beyond(value, limit.cannot_tell, limit)
    ):
        outcome, note, enough = "cannot tell", limit.reason, "a larger set of real images"
    elif outcome == "fail" and one.n < limit.least:
        outcome = "cannot tell"
        note, enough = f"n is {one.n}, too few to fail", f"n of {limit.least} or more"
    elif outcome != "fail" and limit.wide != "pass" and _spans(least_beyond, most_beyond, limit):
        outcome, enough = (
            limit.wide,
            "more images and held-out people, so that the interval is narrower",
        )
        note = "the interval reaches from good to bad"

    relative = value if other is not None else None
    return _told(
        one, limit, outcome, other.value if other is not None else None, relative, note, enough
    )


def _spans(least_beyond: float | None, most_beyond: float | None, limit: Threshold) -> bool:
    """Whether an interval reaches from where nothing warns to where the check would fail."""
    if limit.fail is None:
        return False
    mild = limit.fail if limit.warn is None else limit.warn
    return not _beyond(least_beyond, mild, limit) and _beyond(most_beyond, limit.fail, limit)


def _with_people(check: Check, limit: Threshold, held_out: HeldOut | None) -> Check:
    """Return the check, which cannot tell where fewer people were held out than its threshold
    needs.

    It may still fail: limits are of what so few people make likely.
    """
    if held_out is None or held_out.people >= limit.people or check.verdict == "fail":
        return check
    note = f"{held_out.text}, and {limit.people} are needed"
    enough = more_people(limit.people)
    return replace(check, verdict="cannot tell", note=note, enough=enough, people=limit.people)


def more_people(people: int) -> str:
    """Return how so many held-out people are had, in words."""
    return f"at least {people} held-out people (`mien split --folds 2` holds out half)"


def _beyond(value: float | None, number: float, limit: Threshold) -> bool:
    return value is not None and (value - number) * limit.sign > 0


def _other(metric: str, against: str) -> str:
    """Return the name of what a number stands against: fidelity.frechet.judge ->
    fidelity.frechet_heldout.judge.

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
    enough: str = "",
) -> Check:
    return Check(
        one.metric, one.metric.partition(".")[0], one.part, outcome, one.value, one.low, one.high, one.n, one.unit,
        reference, relative, limit.text, limit.reason, note, enough,
    )  # fmt: skip


def _absent(metric: str, limit: Threshold, why: str = "") -> Check:
    family, _, rest = metric.partition(".")
    note = f"nothing was measured under this name{f': {why}' if why else ''}"
    space = rest.partition(".")[2]
    enough = f"a larger set{f', and the space {space} among --spaces' if space else ''}"
    return Check(metric, family, "", "cannot tell", None, None, None, 0, "", None, None, limit.text, limit.reason,
                 note, enough)  # fmt: skip
