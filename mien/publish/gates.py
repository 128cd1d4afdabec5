"""Gates: what a release must pass, and the written reasons of people who opened one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mien import licences
from mien.errors import GateRefused
from mien.progress import say
from mien.publish.origin import Origin, unaudited
from mien.publish.questions import Answers, Override, overrides
from mien.store import Run, Store

Outcome = Literal["passed", "private", "overridden", "refused"]
VERDICTS = ("pass", "warn", "cannot tell", "fail")  # that a check of an audit may have


@dataclass(frozen=True)
class Gate:
    """One gate: `text` says what was found. `private`: it may stay shut while a release is kept to
    oneself.
    """

    name: str
    open: bool
    text: str
    private: bool = True


@dataclass(frozen=True)
class Decision:
    """How a gate came out, and who opened it if somebody did."""

    gate: str
    outcome: Outcome
    text: str
    override: Override | None = None


def judged(
    origin: Origin, answers: Answers, audits: list[tuple[Run, dict[str, Any]]], private: bool
) -> tuple[Decision, ...]:
    """Return how each gate comes out; raises GateRefused with every gate that stays shut.

    A private release may keep gates shut that are about passing it on. An override that no gate
    needs is said aloud.
    """
    opened = overrides(answers)
    found = tuple(_decide(gate, opened, private) for gate in gates(origin, answers, audits))
    require(found)
    for name in opened.keys() - {one.gate for one in found if one.outcome == "overridden"}:
        say(f"the override of the gate '{name}' is not needed, and not printed")
    return found


def gates(
    origin: Origin, answers: Answers, audits: list[tuple[Run, dict[str, Any]]]
) -> tuple[Gate, ...]:
    """Return all gates that can be judged before a release is written."""
    return (
        _withdrawn(origin), _sources(origin), _licence(origin, answers), _subjects(origin), _audit(origin, audits)
    )  # fmt: skip


def require(decisions: Iterable[Decision]) -> None:
    """Raise GateRefused if a gate stays shut."""
    shut = [one for one in decisions if one.outcome == "refused"]
    if shut:
        lines = "\n".join(f"  {one.gate}: {one.text}" for one in shut)
        raise GateRefused(
            f"refused by {len(shut)} gate{'s' * (len(shut) > 1)}:\n{lines}\n"
            "`--private` builds what stays with you, where that is allowed; an [[override]] in "
            "dataset.toml opens a "
            "gate for a reason that the card prints"
        )


def _decide(gate: Gate, opened: Mapping[str, Override], private: bool) -> Decision:
    if gate.open:
        return Decision(gate.name, "passed", gate.text)
    if gate.name in opened:
        return Decision(gate.name, "overridden", gate.text, opened[gate.name])
    return Decision(gate.name, "private" if private and gate.private else "refused", gate.text)


def _withdrawn(origin: Origin) -> Gate:
    gone = [
        f"{one.terms.name} was {one.terms.withdrawn}"
        for one in origin.sources
        if one.terms.withdrawn
    ]
    return Gate(
        "withdrawn",
        not gone,
        "; ".join(gone) or "no source was withdrawn by its owners",
        private=False,
    )


def _sources(origin: Origin) -> Gate:
    if not origin.sources:
        text = (
            f"no run of `mien ingest` stands behind {origin.run.name}, so nobody knows whose "
            "faces it learnt from"
        )
        return Gate("sources", False, text)
    shut = [one for one in origin.sources if one.terms.derived != "yes"]
    told = [
        (
            f"{one.dataset} ({one.terms.name}): derived data {_may(one.terms.derived)} "
            f"({one.terms.source})"
        )
        for one in shut or origin.sources
    ]
    return Gate(
        "sources", not shut, "; ".join(told), private=all(one.terms.derived != "no" for one in shut)
    )


def _may(derived: str) -> str:
    return {
        "yes": "may be passed on",
        "no": "must not be passed on",
        "unknown": "may be passed on or not, which is not known",
    }[derived]


def _licence(origin: Origin, answers: Answers) -> Gate:
    ours = answers.dataset.asks
    lost = licences.looser(ours, {one.dataset: one.terms.conditions for one in origin.sources})
    if lost:
        return Gate(
            "licence",
            False,
            f"{answers.dataset.licence} is looser than its sources allow: {'; '.join(lost)}",
        )
    return Gate("licence", True, f"{answers.dataset.licence} asks for no less than the sources do")


def _subjects(origin: Origin) -> Gate:
    shown = [f"{one.blocked} of {one.dataset}" for one in origin.sources if one.blocked]
    if shown:
        text = (
            f"generators saw people of whom nothing may be published: {', '.join(shown)}; train "
            "without them, since an "
            "image may resemble them"
        )
        return Gate("subjects", False, text)
    return Gate("subjects", True, "no generator saw a person whom a source keeps from publication")


def _audit(origin: Origin, audits: list[tuple[Run, dict[str, Any]]]) -> Gate:
    """Return the gate of the audit that decides, the last one: its verdict, its limits and whom it
    looked at.
    """
    if not audits:
        text = (
            f"{origin.run.name} was not audited, or not with exactly this content "
            f"({origin.run.content[:12]})"
        )
        return Gate("audit", False, f"{text}: run `mien audit` on it")
    run, said = audits[-1]
    verdict, checks = str(said.get("verdict")), said.get("checks", [])
    failed = list(
        dict.fromkeys(str(one.get("name")) for one in checks if one.get("verdict") == "fail")
    )
    strange = [str(one.get("verdict")) for one in checks if one.get("verdict") not in VERDICTS]
    untold = any(one.get("verdict") == "cannot tell" for one in said.get("questions", []))
    loosened = [
        _changed(one) for one in said.get("thresholds_changed", []) if one.get("looser", True)
    ]

    # Whatever keeps it shut, in full
    against = unaudited(origin, run, Store(run.path.parents[1]))
    shut = [
        *([f"failed: {', '.join(failed[:8])}"] if failed else []),
        *([_untold(said)] if untold else []),
        *([f"it holds verdicts that are not known: {', '.join(strange[:3])}"] if strange else []),
        *([] if checks else ["it holds no check"]),
        *(
            [f"its limits are looser than the default ones: {', '.join(loosened)}"]
            if loosened
            else []
        ),
        *([against] if against else []),
    ]
    earlier = [f"{one.name} says {told.get('verdict')}" for one, told in audits[:-1]]
    text = "; ".join(
        [
            f"{run.name} says {verdict}",
            *shut,
            *([f"others: {', '.join(earlier)}"] if earlier else []),
        ]
    )
    return Gate("audit", verdict in ("pass", "warn") and not shut, text)


def _untold(said: Mapping[str, Any]) -> str:
    """Say why an audit cannot tell, and what would be enough."""
    open_ones = [one for one in said.get("questions", []) if one.get("verdict") == "cannot tell"]
    told = [f"{one.get('title')} {one.get('why')}" for one in open_ones]
    enough = list(dict.fromkeys(str(one["enough"]) for one in open_ones if one.get("enough")))
    return "; ".join([*told, *([f"enough would be {', '.join(enough)}"] if enough else [])])


def _changed(one: Mapping[str, Any]) -> str:
    """Return a changed limit in words."""
    if one.get("field") == "off":
        return f"{one.get('metric')} was taken away"
    return (
        f"{one.get('metric')}: {one.get('field')} was {one.get('default')}, is {one.get('given')}"
    )
