"""Advice in words: the answer, its basis, and what a better one would need."""

import math
from typing import Any

from mien.pages.html import render_html
from mien.report.advise.arms import WAYS
from mien.report.advise.rule import count_people_needed
from mien.report.advise.run import FoundAdvice
from mien.report.worth import describe_contest
from mien.runs.progress import quantify
from mien.stats import Interval
from mien.study.cells import MIN_PEOPLE

MINUS_SIGN = "\u2212"


def describe_answer(advice: FoundAdvice) -> str:
    """Return the answer in a few sentences, with the difference as the report on the study says it.

    Each difference has its interval, p, people and trials.
    """
    decision = advice.decision
    way, difference = (
        advice.describe_way(decision.chosen),
        describe_contest(advice.study, advice.contest),
    )
    difference = difference[:1].upper() + difference[1:]
    if decision.answer == "add":
        return f"Yes: {way}. {difference}"
    if decision.answer == "do not add":
        return f"Do not add synthetic faces: {way}. {difference}"
    steps = _list_next_steps(advice)
    return f"Cannot tell. {difference} {steps} Until then, {way}, without synthetic faces."


def _list_next_steps(advice: FoundAdvice) -> str:
    """Return in sentences what would allow an answer."""
    decision, people = advice.decision, advice.people
    more = (
        "More --minutes allow more trials."
        if advice.is_whole
        else "More --minutes test the people of all folds."
    )
    if people < MIN_PEOPLE:
        return f"{MIN_PEOPLE} people or more are needed. {more}"
    if decision.at_chance:
        return f"No way of training was better than guessing: give more faces. {more}"
    needed = count_people_needed(decision, people)
    return f"About {needed:,} people would be enough. {more}" if needed else more


def describe_advice(advice: FoundAdvice) -> str:
    """Return the answer, and a line for each way of training, the best first."""
    decision = advice.decision
    width = max(len(WAYS[name].label) for name in WAYS)
    lines = [describe_answer(advice), ""]
    lines += [
        f"  {row['label']:<{width}}  UAR {row['uar']}  "
        f"{'advised' if row['way'] == decision.chosen else ''}".rstrip()
        for row in list_rows(advice)
    ]
    lines += [f"  {WAYS[name].label:<{width}}  failed" for name in advice.missing]
    return "\n".join([*lines, "", describe_basis(advice)])


def describe_basis(advice: FoundAdvice) -> str:
    """Return the basis of the answer: study, folds, trials, updates, generators and seed."""
    spec = advice.study.spec
    updates = next(iter(next(iter(spec["classifiers"].values())).values()))["updates"]
    generator = spec["generator"]
    return (
        f"Intervals are 95 % intervals over people. {advice.study.title}: protocol subject, "
        f"{len(spec['tested_folds'])} of {quantify(spec['folds'], 'fold')} tested, "
        f"{quantify(advice.trials, 'trial')}, {updates:,} updates for every way, classifiers "
        f"{', '.join(spec['classifiers'])}, generators that saw {generator['images_seen']:,} "
        f"images, seed {spec['seed']}."
    )


def list_rows(advice: FoundAdvice) -> list[dict[str, Any]]:
    """Return the ways of training with their UAR in per cent as text, the best first."""
    ordered = sorted(advice.scores, key=lambda score: -score.value)
    return [
        {
            "way": score.way,
            "label": WAYS[score.way].label,
            "what": advice.describe_way(score.way),
            "synthetic": not WAYS[score.way].is_cheap,
            "uar": f"{format_number(score.value)} % ({_format_range(score.interval)})",
            "sd": "" if math.isnan(score.sd) else format_number(score.sd),
        }
        for score in ordered
    ]


def make_facts(advice: FoundAdvice) -> dict[str, Any]:
    """Return the advice as `mien advise --json` prints it; UAR and gains are from -1 to 1."""
    # The answer and its numbers
    decision = advice.decision
    open_question = decision.answer == "cannot tell"
    needed = count_people_needed(decision, advice.people) if open_question else None
    answer = {
        "answer": decision.answer,
        "advice": advice.describe_way(decision.chosen),
        "way": decision.chosen,
        "text": describe_answer(advice),
        "best_with_synthetic": decision.best,
        "best_without_synthetic": decision.rival,
        "gain": decision.gain.value,
        "gain_low": decision.gain.low,
        "gain_high": decision.gain.high,
        "p": decision.p,
        "people": advice.people,
        "people_needed": needed,
    }

    # What was tried
    ways = [
        {
            "way": score.way,
            "uar": score.value,
            "low": score.interval.low,
            "high": score.interval.high,
            "sd": score.sd,
        }
        for score in advice.scores
    ]
    return {**answer, "trials": advice.trials, "study": advice.study.title, "ways": ways}


def render_page(advice: FoundAdvice) -> str:
    """Return the advice as an HTML page that opens without a network."""
    content = {
        "name": advice.study.title.removeprefix("advise-"),
        "answer": describe_answer(advice),
        "certain": advice.decision.answer != "cannot tell",
        "rows": list_rows(advice),
        "chosen": advice.decision.chosen,
        "missing": [WAYS[name].label for name in advice.missing],
        "basis": describe_basis(advice),
        "study": advice.study.title,
    }
    return render_html("advice.html", content)


def format_number(share: float) -> str:
    """Return a share from -1 to 1 in points, with one decimal."""
    return f"{100 * share:.1f}".replace("-", MINUS_SIGN)


def _format_range(interval: Interval) -> str:
    return f"{format_number(interval.low)} to {format_number(interval.high)}"
