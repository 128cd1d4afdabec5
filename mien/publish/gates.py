"""Gates: what a release must pass, and written reasons for opening one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mien import licences
from mien.errors import GateRefused
from mien.generators.specs import KIND_FACTS
from mien.publish.origin import Origin, explain_mismatch
from mien.publish.questions import Answers, Override, group_overrides
from mien.runs.progress import say
from mien.runs.store import Run, Store

GateOutcome = Literal["passed", "private", "overridden", "refused"]

# The checks of an audit that say whether images are copies, compared with chance
ANSWER_PREFIX = "memorisation.copied"

CHECK_VERDICTS = ("pass", "warn", "cannot tell", "fail")  # of a check of an audit


@dataclass(frozen=True)
class Gate:
    """A gate and whether it is open; `text` says why.

    `private`: it may stay shut in a private build.
    """

    name: str
    open: bool
    text: str
    private: bool = True


@dataclass(frozen=True)
class Decision:
    """The outcome of a gate, and the override that opened it, if there is one."""

    gate: str
    outcome: GateOutcome
    text: str
    override: Override | None = None


def judge(
    origin: Origin, answers: Answers, audits: list[tuple[Run, dict[str, Any]]], private: bool
) -> tuple[Decision, ...]:
    """Return the decision on each gate; raises GateRefused with every gate that stays shut.

    In a private build, gates that are about passing it on may stay shut. An override that no gate
    needs is reported.
    """
    opened = group_overrides(answers)
    decisions = tuple(
        _decide(gate, opened, private) for gate in list_gates(origin, answers, audits)
    )
    require_open(decisions)

    used = {decision.gate for decision in decisions if decision.outcome == "overridden"}
    for name in opened.keys() - used:
        say(f"the override of the gate '{name}' is not needed, and is not printed")
    return decisions


def list_gates(
    origin: Origin, answers: Answers, audits: list[tuple[Run, dict[str, Any]]]
) -> tuple[Gate, ...]:
    """Return all gates that can be judged before a release is written."""
    return (
        _judge_withdrawn(origin),
        _judge_sources(origin),
        _judge_licence(origin, answers),
        _judge_subjects(origin),
        _judge_audit(origin, audits),
        *_judge_memorisation(origin, audits),
    )


def require_open(decisions: Iterable[Decision]) -> None:
    """Raise GateRefused if a gate stays shut."""
    shut = [decision for decision in decisions if decision.outcome == "refused"]
    if shut:
        lines = "\n".join(f"  {decision.gate}: {decision.text}" for decision in shut)
        raise GateRefused(
            f"refused by {len(shut)} gate{'s' * (len(shut) > 1)}:\n{lines}\n"
            "`--private` builds a release for yourself, where that is allowed; an [[override]] in "
            "dataset.toml opens a gate for a reason that the card prints"
        )


def _decide(gate: Gate, opened: Mapping[str, Override], private: bool) -> Decision:
    if gate.open:
        return Decision(gate.name, "passed", gate.text)
    if gate.name in opened:
        return Decision(gate.name, "overridden", gate.text, opened[gate.name])
    return Decision(gate.name, "private" if private and gate.private else "refused", gate.text)


def _judge_withdrawn(origin: Origin) -> Gate:
    terms = [source.terms for source in origin.sources if source.terms.withdrawn]
    text = "; ".join(f"{source_terms.name} was {source_terms.withdrawn}" for source_terms in terms)
    return Gate(
        "withdrawn", not terms, text or "no source was withdrawn by its owners", private=False
    )


def _judge_sources(origin: Origin) -> Gate:
    if not origin.sources:
        text = (
            f"{origin.run.name} does not come from any run of `mien ingest`, so it is not known "
            "whose faces it was learnt from"
        )
        return Gate("sources", False, text)

    # Name the sources that shut the gate, or all if it is open
    shut = [source for source in origin.sources if source.terms.derived != "yes"]
    lines = [
        (
            f"{source.dataset} ({source.terms.name}): derived data "
            f"{_describe_permission(source.terms.derived)} ({source.terms.source})"
        )
        for source in shut or origin.sources
    ]
    forbidden = any(source.terms.derived == "no" for source in shut)
    return Gate("sources", not shut, "; ".join(lines), private=not forbidden)


def _describe_permission(derived: str) -> str:
    return {
        "yes": "may be passed on",
        "no": "must not be passed on",
        "unknown": "may or may not be passed on: that is not known",
    }[derived]


def _judge_licence(origin: Origin, answers: Answers) -> Gate:
    ours = answers.dataset.asks
    missing = licences.find_missing_conditions(
        ours, {source.dataset: source.terms.conditions for source in origin.sources}
    )
    if missing:
        return Gate(
            "licence",
            False,
            f"{answers.dataset.licence} is looser than its sources allow: {'; '.join(missing)}",
        )
    return Gate("licence", True, f"{answers.dataset.licence} asks for no less than the sources do")


def _judge_subjects(origin: Origin) -> Gate:
    blocked = [
        f"{source.blocked} of {source.dataset}" for source in origin.sources if source.blocked
    ]
    if blocked:
        text = (
            f"the generators saw people of whom nothing may be published: {', '.join(blocked)}; "
            "train without them, since an image may resemble them"
        )
        return Gate("subjects", False, text)
    return Gate("subjects", True, "no generator saw a person whose images must not be published")


def _judge_audit(origin: Origin, audits: list[tuple[Run, dict[str, Any]]]) -> Gate:
    """Return the gate of the last audit, which decides: verdict, limits and training set."""
    if not audits:
        text = (
            f"{origin.run.name} was not audited, or not with exactly this content "
            f"({origin.run.content[:12]})"
        )
        return Gate("audit", False, f"{text}: run `mien audit` on it")

    # The audit that decides
    run, audit = audits[-1]
    verdict = str(audit.get("verdict"))
    obstacles = _find_obstacles(audit)
    mismatch = explain_mismatch(origin, run, Store(run.path.parents[1]))
    if mismatch:
        obstacles.append(mismatch)

    # Name the earlier audits, so that none is hidden
    earlier = [
        f"{earlier_audit.name} says {contents.get('verdict')}"
        for earlier_audit, contents in audits[:-1]
    ]
    earlier_text = [f"others: {', '.join(earlier)}"] if earlier else []
    text = "; ".join([f"{run.name} says {verdict}", *obstacles, *earlier_text])
    return Gate("audit", verdict in ("pass", "warn") and not obstacles, text)


def _judge_memorisation(
    origin: Origin, audits: list[tuple[Run, dict[str, Any]]]
) -> tuple[Gate, ...]:
    """Return the gate of generators whose images approach every training image; else none.

    No written reason opens it: what such a generator copied must have been measured. What the
    answer is, is a matter of the gate of the audit.
    """
    kinds = {name: str(run.spec["kind"]) for name, run in origin.generators.items()}
    approaching = [f"{name} ({kind})" for name, kind in kinds.items() if is_approaching(kind)]
    if not approaching:
        return ()

    # What the last audit says of copies, compared with chance
    who = f"the images of {' and '.join(approaching)} approach every training image"
    checks = audits[-1][1].get("checks", []) if audits else []
    if answer := answers_memorisation(checks):
        text = f"{who}; {audits[-1][0].name} answers whether they are copies: {answer}"
        return (Gate("memorisation", True, text, private=False),)
    text = (
        f"{who}, so an audit must answer whether they are copies (a check of {ANSWER_PREFIX} that "
        "is not 'cannot tell'): run `mien audit` on it with held-out people. No reason opens this "
        "gate"
    )
    return (Gate("memorisation", False, text, private=False),)


def answers_memorisation(checks: Sequence[Mapping[str, Any]]) -> str:
    """Return the first verdict of an audit's checks on copies; empty if none could tell."""
    verdicts = [
        str(check.get("verdict"))
        for check in checks
        if str(check.get("name")).startswith(ANSWER_PREFIX)
    ]
    return next((verdict for verdict in verdicts if verdict in ("pass", "warn", "fail")), "")


def is_approaching(kind: str) -> bool:
    """Return whether a kind of generator brings an image close to every training image."""
    return kind in KIND_FACTS and KIND_FACTS[kind].approaches


def _find_obstacles(audit: Mapping[str, Any]) -> list[str]:
    """Return everything in an audit that keeps its gate shut, in words."""
    checks, obstacles = audit.get("checks", []), []
    failed = [str(check.get("name")) for check in checks if check.get("verdict") == "fail"]
    if failed:
        obstacles.append(f"failed: {', '.join(list(dict.fromkeys(failed))[:8])}")
    if any(question.get("verdict") == "cannot tell" for question in audit.get("questions", [])):
        obstacles.append(_describe_unanswered(audit))

    # What this version does not know, or what is missing, is not passed
    unknown = [
        str(check.get("verdict")) for check in checks if check.get("verdict") not in CHECK_VERDICTS
    ]
    if unknown:
        obstacles.append(f"it holds verdicts that are not known: {', '.join(unknown[:3])}")
    if not checks:
        obstacles.append("it holds no check")

    # Limits that somebody loosened
    loosened = [
        _describe_change(change)
        for change in audit.get("thresholds_changed", [])
        if change.get("looser", True)
    ]
    if loosened:
        obstacles.append(f"its limits are looser than the default ones: {', '.join(loosened)}")
    return obstacles


def _describe_unanswered(contents: Mapping[str, Any]) -> str:
    """Return why an audit cannot answer some of its questions, and what would be enough."""
    unanswered = [
        question
        for question in contents.get("questions", [])
        if question.get("verdict") == "cannot tell"
    ]
    reasons = [f"{question.get('title')} {question.get('why')}" for question in unanswered]
    enough = [str(question["enough"]) for question in unanswered if question.get("enough")]
    if enough:
        reasons.append(f"enough would be {', '.join(dict.fromkeys(enough))}")
    return "; ".join(reasons)


def _describe_change(change: Mapping[str, Any]) -> str:
    """Return a changed limit in words."""
    if change.get("field") == "off":
        return f"{change.get('metric')} was removed"
    field, default = change.get("field"), change.get("default")
    return f"{change.get('metric')}: {field} was {default}, is {change.get('given')}"
