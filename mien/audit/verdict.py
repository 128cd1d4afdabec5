"""Verdict: pass, warn, cannot tell or fail, by the limits of thresholds.toml.

A check fails if the whole interval of its number is beyond the limit, so that no lack of images
fails a set. It warns if the number itself is; a check that is a test warns only on evidence that is
strong for so many tests (`mien.audit.multiplicity`). It cannot tell if the evidence is missing:
nothing was measured, too few people were held out, or part of the interval is beyond the failing
limit. A pass is never the absence of evidence.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mien.audit.multiplicity import FALSE_WARNING_RATE, JointTests, adjust_p_values, measure_p_value
from mien.audit.part import Part
from mien.audit.parts import PARTS
from mien.errors import SpecError
from mien.findings import list_some
from mien.runs.spec import Strict, read_spec, read_toml, suggest
from mien.stats import Record

Outcome = Literal["pass", "warn", "cannot tell", "fail"]

ORDER: tuple[Outcome, ...] = ("pass", "warn", "cannot tell", "fail")


def group_families(parts: Iterable[Part]) -> dict[str, tuple[str, ...]]:
    """Return the families of each question, in the order of the parts; parts can share one."""
    families: dict[str, tuple[str, ...]] = {}
    for part in parts:
        families[part.question] = (*families.get(part.question, ()), *part.families)
    return families


QUESTIONS = group_families(PARTS.values())

FAMILIES = tuple(family for families in QUESTIONS.values() for family in families)

CLIP_FAMILIES = frozenset(
    family for part in PARTS.values() if part.needs_clips for family in part.families
)
"""The families that only an audit of whole clips has."""

RECOGNISER_FAMILIES = frozenset(
    family for part in PARTS.values() if part.needs_recogniser for family in part.families
)
"""The families that only an audit with a user's recogniser has."""

MAX_NAMED_CHECKS = 4  # checks that a sentence names, at most

DEFAULT_THRESHOLDS = Path(__file__).with_name("thresholds.toml")


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
    tested: bool = False
    least: int = Field(default=20, ge=1)
    needed: bool = True
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _require_limits(self) -> "Threshold":
        if self.warn is None and self.fail is None and self.cannot_tell is None:
            raise ValueError(
                "warn, fail or cannot_tell must be given; `off = true` removes a check"
            )
        if (
            self.warn is not None
            and self.fail is not None
            and (self.fail - self.warn) * self.sign < 0
        ):
            raise ValueError(f"fail must be {self.side} warn, or equal to it")
        if self.tested and self.warn is None:
            raise ValueError("tested needs warn: the value that the number is tested against")
        if not self.against and self.by != "ratio":
            raise ValueError("by needs against: remove by, or say what the number is compared with")
        return self

    @property
    def sign(self) -> int:
        """1 if numbers above the limits are bad, -1 if numbers below are."""
        return 1 if self.side == "above" else -1

    @property
    def text(self) -> str:
        """The limits in words."""
        references = {
            "": "",
            "heldout": "held-out people",
            "floor": "real images against real images",
            "train": "real images",
            "chance": "is expected by chance",
        }
        unit = (
            f" times that of {references[self.against]}"
            if self.by == "ratio"
            else f" more than {references[self.against]}"
        )
        warns = "warns on evidence" if self.tested else "warns"
        verbs = {"fails": self.fail, "cannot tell": self.cannot_tell, warns: self.warn}
        limits = [
            f"{verb} {self.side} {limit:g}" for verb, limit in verbs.items() if limit is not None
        ]
        return " and ".join(limits) + (unit if self.against else "")


@dataclass(frozen=True)
class Check:
    """The verdict on one number, with the number, its interval and its limits.

    `value`, `low` and `high` are as measured; `relative` is the value compared
    with `reference`, if the threshold names one. `value` is None if nothing was measured under that
    name. `note` says what is missing if the check cannot tell, and `enough` what would suffice;
    `people` is the number of held-out people that are needed, if there are fewer. `adjusted_p` is
    the p-value of a test, adjusted for the number of tests; None for other checks.
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
    adjusted_p: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the check is a test with strong evidence for a number beyond its limit."""
        return self.adjusted_p is not None and self.adjusted_p < FALSE_WARNING_RATE

    def convert_to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


# Thresholds


def read_thresholds(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the fields of each threshold by metric: the defaults, as changed by a user's file.

    The file may change, add or remove thresholds. Raises SpecError, which names the file and the
    entry, for anything in the file that is not valid.
    """
    entries = read_toml(DEFAULT_THRESHOLDS)
    changed = read_toml(file) if file is not None else {}

    # Apply the user's entries to the defaults
    for metric, fields in changed.items():
        _require_known_metric(metric, fields, list(entries), str(file))
        off = fields.pop("off", False)
        if not isinstance(off, bool):
            raise SpecError(f"{file}: {metric}.off must be true or false (given: {off!r})")
        if off:
            entries.pop(metric, None)
            continue
        reason = {} if metric in entries else {"reason": f"asked for in {Path(file or '').name}"}
        entries[metric] = {**reason, **entries.get(metric, {}), **fields}

    # Check every threshold, whichever file it comes from
    for metric, fields in entries.items():
        read_spec(Threshold, fields, f"{file or DEFAULT_THRESHOLDS.name}: {metric}")
    return entries


@dataclass(frozen=True)
class ThresholdChange:
    """A limit that differs from the default: `default` and `given` are None if the field is absent.

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
            return f"{self.metric}: the check was removed"
        return (
            f"{self.metric}: {self.field} was {_format_value(self.default)}, is "
            f"{_format_value(self.given)}"
        )

    def convert_to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, and the change in words."""
        return {**asdict(self), "text": self.text}


def select_thresholds(
    limits: Mapping[str, Mapping[str, Any]], clips: bool, recogniser: bool = True
) -> dict[str, dict[str, Any]]:
    """Return the thresholds of an audit.

    Of images that are not `clips`, they are those for all images. An audit without a user's
    `recogniser` has no thresholds for its numbers.
    """
    unused = (frozenset() if clips else CLIP_FAMILIES) | (
        frozenset() if recogniser else RECOGNISER_FAMILIES
    )
    return {
        metric: dict(fields)
        for metric, fields in limits.items()
        if metric.partition(".")[0] not in unused
    }


def find_changes(
    limits: Mapping[str, Mapping[str, Any]], clips: bool = True, recogniser: bool = True
) -> list[ThresholdChange]:
    """Return how `limits` differ from the defaults; changes that make passing easier are first.

    For an audit of images that are not `clips`, those of movement are not compared, and without a
    `recogniser` those of its numbers are not.
    """
    differences = []
    defaults = select_thresholds(read_toml(DEFAULT_THRESHOLDS), clips, recogniser)
    limits = select_thresholds(limits, clips, recogniser)
    for metric in sorted({*defaults, *limits}):
        default, fields_given = defaults.get(metric), limits.get(metric)

        # A check that was removed
        if fields_given is None:
            differences.append(ThresholdChange(metric, "off", False, True, looser=True))
            continue

        # Fields that were changed, of a default or a new check
        fields = sorted({*(default or {}), *fields_given} - {"reason"})
        for field in fields:
            old, new = (default or {}).get(field), fields_given.get(field)
            if old != new:
                differences.append(
                    ThresholdChange(
                        metric,
                        field,
                        old,
                        new,
                        default is not None and _is_looser(field, old, new, default),
                    )
                )
    return sorted(differences, key=lambda change: not change.looser)


def _is_looser(field: str, old: Any, new: Any, default: Mapping[str, Any]) -> bool:
    """Return whether a changed field of a default threshold makes passing easier.

    A change that is not known to be stricter counts as easier.
    """
    if field in ("warn", "fail", "cannot_tell"):
        if old is None or new is None:
            return new is None
        return (new - old) * (1 if default["side"] == "above" else -1) > 0
    if field == "least":
        return new is None or (old is not None and new > old) or (old is None and new > 20)
    if field == "people":
        return (new or 0) < (old or 0)
    if field == "each":
        return not new
    if field == "tested":
        return bool(new)
    if field == "wide":
        return ORDER.index(new or "cannot tell") < ORDER.index(old or "cannot tell")
    return True


def _format_value(value: Any) -> str:
    return (
        "not given" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _require_known_metric(metric: str, fields: Any, metrics: list[str], file: str) -> None:
    if not isinstance(fields, dict):
        raise SpecError(f'{file}: a threshold must be a table, ["{metric}"]; given: {fields!r}')
    family, dot, _ = metric.partition(".")
    if family not in FAMILIES or not dot:
        quoted = (
            f' Its name must be in quotes: ["{metric}.{next(iter(fields), "")}"].'
            if family in FAMILIES
            else ""
        )
        raise SpecError(
            f"{file}: there is no number '{metric}'.{quoted or suggest(metric, metrics)} Names are "
            f"FAMILY.NAME or FAMILY.NAME.SPACE, with a family of {', '.join(FAMILIES)}"
        )


# Judging


@dataclass(frozen=True)
class HeldOut:
    """The held-out people of an audit: how many are known.

    `unknown` counts the held-out images whose person is not known.
    """

    people: int
    unknown: int = 0

    @property
    def text(self) -> str:
        """The number of held-out people, in words."""
        if not self.people and self.unknown:
            return "it is not known whom the held-out images show"
        subject = {0: "no people were", 1: "1 person was"}.get(
            self.people, f"{self.people} people were"
        )
        return f"{subject} held out"


@dataclass(frozen=True)
class Question:
    """One question of the audit: its outcome, the reason in one sentence, and what would suffice.

    `people` is the number of held-out people that are needed, if there are fewer; else 0.
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
    """Return a check for each threshold, and for each class if it says so; the worst are first.

    `held_out` is the number of people that the numbers rest on; None if that plays no part.
    `missing` says by family why some of its numbers could not be measured. A threshold
    under whose name nothing was measured cannot tell, unless it is not `needed`: a gate without
    evidence must not pass in silence.
    """
    by_name = {(record.metric, record.part): record for record in records}
    all_limits = {
        metric: read_spec(Threshold, dict(fields), metric) for metric, fields in limits.items()
    }
    judged_records = {
        metric: [
            record
            for record in records
            if record.metric == metric and (limit.each or not record.part)
        ]
        for metric, limit in all_limits.items()
    }

    # All tests together, then each check
    adjusted = _adjust_tests(judged_records, all_limits, by_name)
    checks = []
    for metric, limit in all_limits.items():
        reason = (missing or {}).get(metric.partition(".")[0], "")
        if not judged_records[metric] and not limit.needed:
            continue
        judged = [
            _judge_record(record, by_name, limit, adjusted.get((metric, record.part)))
            for record in judged_records[metric]
        ] or [_make_absent_check(metric, limit, reason)]
        checks += [_require_people(check, limit, held_out) for check in judged]
    return sorted(checks, key=lambda check: -ORDER.index(check.verdict))


def _adjust_tests(
    judged_records: Mapping[str, Sequence[Record]],
    limits: Mapping[str, Threshold],
    by_name: Mapping[tuple[str, str], Record],
) -> dict[tuple[str, str], float]:
    """Return the adjusted p-value of each number that is tested, by its metric and part."""
    p_values = {}
    for metric, limit in limits.items():
        for record in judged_records[metric] if limit.tested else ():
            reference = _find_reference(record, by_name, limit)
            if math.isfinite(record.value) and (reference is not None or not limit.against):
                value, end = (
                    _compare_with(number, reference, limit)
                    for number in (
                        record.value,
                        record.low if limit.side == "above" else record.high,
                    )
                )
                if value is not None and limit.warn is not None:
                    p_value = measure_p_value(value, end, limit.warn, limit.sign)
                    p_values[metric, record.part] = p_value
    return dict(zip(p_values, adjust_p_values([*p_values.values()]), strict=True))


def count_tests(checks: Iterable[Check]) -> JointTests:
    """Return the tests among the checks, which were judged together."""
    return JointTests(sum(check.adjusted_p is not None for check in checks))


def answer_questions(checks: Sequence[Check], clips: bool = False) -> list[Question]:
    """Return the outcome of each question of QUESTIONS, with the reason and what would suffice.

    The question about movement is asked of `clips` only.

    A question without checks cannot be answered. A single class that cannot be judged counts as a
    warning, since the check over all classes uses the same images; in a test it does so only on
    evidence.
    """
    return [
        _answer_question(title, [check for check in checks if check.family in families])
        for title, families in QUESTIONS.items()
        if clips or not CLIP_FAMILIES.issuperset(families)
    ]


def find_worst_verdict(checks: Sequence[Check], clips: bool = False) -> Outcome:
    """Return the verdict: the worst answer to any question."""
    return ORDER[max(ORDER.index(question.verdict) for question in answer_questions(checks, clips))]


def _answer_question(title: str, checks: Sequence[Check]) -> Question:
    if not checks:
        return Question(title, "cannot tell", "no check is left", "keep the default thresholds")

    # The outcome, and the checks that decide it
    weights = [_weigh_check(check) for check in checks]
    outcome = ORDER[max(ORDER.index(weight) for weight in weights)]
    deciding = [check for check, weight in zip(checks, weights, strict=True) if weight == outcome]

    # Why, in one sentence
    names = list(dict.fromkeys(check.name for check in deciding))
    named = list_some(names, MAX_NAMED_CHECKS)
    if outcome == "pass":
        count = len(checks)
        return Question(title, outcome, f"{count} check{'s' * (count != 1)} passed")
    if outcome in ("fail", "warn"):
        return Question(title, outcome, f"beyond the limits of {named}")

    # What is missing, and what would suffice
    notes = list(dict.fromkeys(check.note for check in deciding if check.note))
    people = max(check.people for check in deciding)
    enough = list(
        dict.fromkeys(check.enough for check in deciding if check.enough and not check.people)
    )
    enough = [*([say_how_to_hold_out(people)] if people else []), *enough[:2]]
    return Question(
        title,
        outcome,
        f"{notes[0] if notes else 'too little'} ({named})",
        "; ".join(enough),
        people,
    )


def _weigh_check(check: Check) -> Outcome:
    if check.part and check.verdict == "cannot tell":
        return "pass" if check.adjusted_p is not None and not check.is_significant else "warn"
    return check.verdict


def _judge_record(
    record: Record,
    by_name: Mapping[tuple[str, str], Record],
    limit: Threshold,
    adjusted_p: float | None,
) -> Check:
    if not math.isfinite(record.value):
        return replace(_make_absent_check(record.metric, limit), part=record.part, n=record.n)

    # The number that it is compared with
    reference = _find_reference(record, by_name, limit)
    if limit.against and reference is None:
        name = _name_reference(record.metric, limit.against)
        note = f"it has nothing to be compared with: no {name}"
        return _make_check(
            record, limit, "cannot tell", note=note, enough="a larger set of real images"
        )

    # Compare the number and its interval with the limits
    value, low, high = (
        _compare_with(number, reference, limit)
        for number in (record.value, record.low, record.high)
    )
    ends = (low, high) if limit.side == "above" else (high, low)
    least_beyond, most_beyond = (value, value) if record.low is None else ends
    outcome, note, enough = _find_outcome(
        record, value, least_beyond, most_beyond, limit, adjusted_p
    )
    check = _make_check(
        record,
        limit,
        outcome,
        None if reference is None else reference.value,
        None if reference is None else value,
        note,
        enough,
    )
    return replace(check, adjusted_p=adjusted_p)


def _find_outcome(
    record: Record,
    value: float | None,
    least_beyond: float | None,
    most_beyond: float | None,
    limit: Threshold,
    adjusted_p: float | None,
) -> tuple[Outcome, str, str]:
    """Return the outcome of a check, what is missing, and what would suffice.

    `value` is the number as it is compared with the limits. `least_beyond` and `most_beyond` are
    the ends of its interval that are least and most beyond them.
    """
    # Fail by the whole interval, warn by the number itself or on evidence
    outcome: Outcome = "pass"
    if limit.fail is not None and _is_beyond(least_beyond, limit.fail, limit):
        outcome = "fail"
    elif limit.tested:
        outcome = "warn" if (adjusted_p or 0.0) < FALSE_WARNING_RATE else "pass"
    elif any(
        _is_beyond(value, number, limit)
        for number in (limit.warn, limit.fail)
        if number is not None
    ):
        outcome = "warn"

    # Cannot tell: by its own limit, or because n is too small or the interval too wide
    if (
        limit.cannot_tell is not None
        and outcome != "fail"
        and _is_beyond(value, limit.cannot_tell, limit)
    ):
        return "cannot tell", limit.reason, "a larger set of real images"
    if outcome == "fail" and record.n < limit.least:
        note = f"n is {record.n}, too few to fail"
        return "cannot tell", note, f"n of {limit.least} or more"
    if (
        outcome != "fail"
        and limit.wide != "pass"
        and _spans_failing_limit(least_beyond, most_beyond, limit)
    ):
        note = "the interval reaches from values that do not fail to values that fail"
        enough = "more images and held-out people, so that the interval is narrower"
        return limit.wide, note, enough
    if limit.tested and _spans_failing_limit(least_beyond, most_beyond, limit):
        return outcome, "alone, it cannot exclude values that fail", ""
    return outcome, "", ""


def _spans_failing_limit(
    least_beyond: float | None, most_beyond: float | None, limit: Threshold
) -> bool:
    """Return whether an interval reaches from values that do not fail to values that fail.

    The warning limit plays no part: else a looser one could turn a warning into "cannot tell".
    """
    if limit.fail is None:
        return False
    return not _is_beyond(least_beyond, limit.fail, limit) and _is_beyond(
        most_beyond, limit.fail, limit
    )


def _require_people(check: Check, limit: Threshold, held_out: HeldOut | None) -> Check:
    """Return the check, which cannot tell if fewer people were held out than its threshold needs.

    It may still fail: the limits allow for what is likely with so few people.
    """
    if held_out is None or held_out.people >= limit.people or check.verdict == "fail":
        return check
    note = f"{held_out.text}, and {limit.people} are needed"
    enough = say_how_to_hold_out(limit.people)
    return replace(check, verdict="cannot tell", note=note, enough=enough, people=limit.people)


def say_how_to_hold_out(people: int) -> str:
    """Return, in words, how to hold out so many people."""
    return f"at least {people} held-out people (`mien split --folds 2` holds out half)"


def _is_beyond(value: float | None, number: float, limit: Threshold) -> bool:
    return value is not None and (value - number) * limit.sign > 0


def _find_reference(
    record: Record, by_name: Mapping[tuple[str, str], Record], limit: Threshold
) -> Record | None:
    """Return the number that a number is compared with; None if there is none."""
    if not limit.against:
        return None
    part = "" if limit.against == "chance" else record.part
    return by_name.get((_name_reference(record.metric, limit.against), part))


def _name_reference(metric: str, against: str) -> str:
    """Return the name of the number that a number is compared with.

    fidelity.frechet.judge against heldout is fidelity.frechet_heldout.judge. Chance is one number
    per family: memorisation.copied.pixels against chance is memorisation.chance.
    """
    family, name, *space = metric.split(".")
    if against == "chance":
        return f"{family}.chance"
    return ".".join([family, f"{name}_{against}", *space])


def _compare_with(value: float | None, reference: Record | None, limit: Threshold) -> float | None:
    if value is None or reference is None:
        return value
    return (
        value - reference.value if limit.by == "difference" else value / max(reference.value, 1e-12)
    )


def _make_check(
    record: Record,
    limit: Threshold,
    outcome: Outcome,
    reference: float | None = None,
    relative: float | None = None,
    note: str = "",
    enough: str = "",
) -> Check:
    return Check(
        name=record.metric,
        family=record.metric.partition(".")[0],
        part=record.part,
        verdict=outcome,
        value=record.value,
        low=record.low,
        high=record.high,
        n=record.n,
        unit=record.unit,
        reference=reference,
        relative=relative,
        threshold=limit.text,
        reason=limit.reason,
        note=note,
        enough=enough,
    )


def _make_absent_check(metric: str, limit: Threshold, why: str = "") -> Check:
    # Why there is no number, and what would give one
    family, _, name = metric.partition(".")
    note = f"nothing was measured under this name{f': {why}' if why else ''}"
    space = name.partition(".")[2]
    enough = f"a larger set{f', and the space {space} among --spaces' if space else ''}"

    return Check(
        name=metric,
        family=family,
        part="",
        verdict="cannot tell",
        value=None,
        low=None,
        high=None,
        n=0,
        unit="",
        reference=None,
        relative=None,
        threshold=limit.text,
        reason=limit.reason,
        note=note,
        enough=enough,
    )
