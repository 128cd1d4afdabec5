"""Whether any way of using synthetic faces exceeds the best cheap alternative."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mien.report.answers import (
    Answer,
    Conclusion,
    correct_by_holm,
    decide,
    describe_basis,
    describe_design,
    describe_people,
    find_seen_people,
    leave_open,
)
from mien.report.arms import ALTERNATIVES, ReportArm, choose_classifiers, compares_uses, list_arms
from mien.report.sentences import format_gap, format_signed
from mien.report.words import format_classifier
from mien.runs.progress import quantify
from mien.study.best import BestComparison, compare_best, score_recall
from mien.study.cells import ResultCell
from mien.study.results import StudyResults

RARE_IMAGES = 50  # a class with fewer real training images, the mean over folds, is reported apart


@dataclass(frozen=True)
class Contest:
    """The best way of using synthetic faces beside the best alternative, of one share of people.

    `classifiers` are pooled. `ways` and `alternatives` are the arms that all of them have finished,
    and `unfinished` is the number of the others.
    """

    classifiers: list[str]
    ways: list[ReportArm]
    alternatives: list[ReportArm]
    unfinished: int
    comparison: BestComparison

    @property
    def way(self) -> ReportArm:
        """The way with the highest UAR."""
        return self.ways[self.comparison.way]

    @property
    def alternative(self) -> ReportArm:
        """The alternative with the highest UAR."""
        return self.alternatives[self.comparison.alternative]

    @property
    def cell(self) -> ResultCell:
        """The cell of the best way and the first classifier; the others have the same people."""
        return self.way.cells[self.classifiers[0]]


def hold_contest(study: StudyResults, people: float | None = None) -> Contest | None:
    """Return the comparison of all ways with all alternatives, or None if one side is not done."""
    arms = [arm for arm in list_arms(study, people) if arm.kind in ("way", *ALTERNATIVES)]
    classifiers = choose_classifiers(study, arms)
    finished = [arm for arm in arms if classifiers and arm.finished_for(classifiers)]
    ways = [arm for arm in finished if arm.kind == "way"]
    alternatives = [arm for arm in finished if arm.kind in ALTERNATIVES]
    if not ways or not alternatives:
        return None
    sides = [
        [score_recall(arm.list_cells(classifiers)) for arm in compared]
        for compared in (ways, alternatives)
    ]
    draw = ways[0].cells[classifiers[0]].draw
    comparison = compare_best(sides[0], sides[1], draw)
    return Contest(classifiers, ways, alternatives, len(arms) - len(finished), comparison)


def ask_if_a_way_is_best(study: StudyResults) -> list[Conclusion]:
    """Return whether the best way exceeds the best cheap alternative, for studies of ways."""
    if not compares_uses(study):
        return []
    if seen := find_seen_people(study, "ways"):
        return [seen]
    if lacking := _find_lacking(study):
        return [leave_open(study, "ways", f"the study lacks {lacking} in its file")]
    contest = hold_contest(study)
    if contest is None:
        return [leave_open(study, "ways", "no way and no alternative has all of its trials yet")]

    # The answer, and what was compared
    cell, comparison = contest.cell, contest.comparison
    answer, _ = decide_contest(contest)
    lead = {"yes": "Yes: ", "no": "No, it is worse: ", "cannot tell": "Cannot tell: "}[answer]
    sentence = f"{lead}{describe_contest(study, contest)}"
    names = _list_classifier_gaps(study, contest)
    without = (
        [f"without {quantify(contest.unfinished, 'arm')} that are not done yet"]
        if contest.unfinished
        else []
    )
    return [
        Conclusion(
            "ways",
            answer,
            f"{sentence} {describe_rare_classes(study, contest)}".strip(),
            ", ".join([describe_basis(study, cell, names), *without]),
            describe_design(study),
            comparison.gap,
            len(cell.units),
            cell.grouped,
            study.title,
        )
    ]


def ask_where_a_way_helps(study: StudyResults) -> list[Conclusion]:
    """Return with which numbers of real training people a way exceeds all alternatives.

    It is asked of studies with shares of the people. The answer at each number is that of
    `decide_contest`, with a p that is also corrected for the number of shares (Holm 1979).
    """
    shares = sorted(study.spec.get("people", []))
    if len(shares) < 2:
        return []
    if seen := find_seen_people(study, "people"):
        return [seen]
    held = {share: hold_contest(study, None if share == 1 else share) for share in shares}
    contests = {share: contest for share, contest in held.items() if contest is not None}
    if len(contests) < 2:
        return [leave_open(study, "people", "fewer than two numbers of people are done yet")]
    ps = correct_by_holm([contest.comparison.p for contest in contests.values()])

    # The answer at each number, with its difference
    answers: dict[str, Answer] = {}
    details = []
    for (share, contest), p in zip(contests.items(), ps, strict=True):
        size = study.count_training(None if share == 1 else share)
        corrected = replace(contest, comparison=replace(contest.comparison, p=p))
        name = f"{size.people:.0f} people ({size.images:,.0f} images)"
        answers[name] = decide_contest(corrected)[0]
        way = replace(contest.way, arm=replace(contest.way.arm, people=None))
        details.append(f"{name} {format_gap(contest.comparison.gap, p)} ({way.name(study)})")

    # One answer for all
    distinct = set(answers.values())
    answer: Answer = "yes" if "yes" in distinct else "no" if distinct == {"no"} else "cannot tell"
    cell = next(iter(contests.values())).cell
    sentence = (
        f"{describe_range(answers)} Differences in UAR by {cell.level[:-1]} of the best way from "
        f"the best alternative: {'; '.join(details)} ({describe_people(study, cell)}; corrected "
        "for the choice of the best and for the numbers that were tried)."
    )
    return [
        Conclusion(
            "people",
            answer,
            sentence,
            describe_basis(study, cell),
            describe_design(study),
            None,
            len(cell.units),
            cell.grouped,
            study.title,
        )
    ]


def describe_range(answers: Mapping[str, Answer]) -> str:
    """Return in one sentence with which numbers of people, from the smallest on, a way helps."""
    names, values = list(answers), list(answers.values())
    helps = [value == "yes" for value in values]
    if not any(helps):
        if set(values) == {"no"}:
            return "No: it does harm at every number that was tried."
        return "Cannot tell: at no number that was tried is the gain certain."
    if all(helps):
        return f"Yes: it helps at every number that was tried, {names[0]} to {names[-1]}."
    ends = helps.index(False)
    if ends and not any(helps[ends:]):
        harm = set(values[ends:]) == {"no"}
        rest = "it does harm" if harm else "no gain is certain"
        return f"Yes, with up to {names[ends - 1]}; from {names[ends]} on {rest}."
    certain = [name for name, value in answers.items() if value == "yes"]
    return f"Yes, but only with {join_words(certain)} of the numbers that were tried."


def _find_lacking(study: StudyResults) -> str:
    """Return what the comparison needs and the study lacks, in words, or ""."""
    kinds = {arm.kind for arm in list_arms(study)}
    lacking = [
        label
        for label, present in (
            ("real + synthetic → real", "way" in kinds),
            ("real → real", "real" in kinds),
        )
        if not present
    ]
    return f"{' and '.join(lacking)}; add it to `settings`" if lacking else ""


def decide_contest(contest: Contest) -> tuple[Answer, str]:
    """Return whether the best way exceeds all alternatives, and the reason if it cannot be told."""
    comparison = contest.comparison
    answer, reason = decide(comparison.gap, comparison.p, contest.cell)
    if answer == "yes" and not comparison.above_all:
        return "cannot tell", "; another alternative may be as good"
    if answer == "no" and not comparison.below_all:
        return "cannot tell", "; another way may be as good"
    return answer, reason


def describe_contest(study: StudyResults, contest: Contest) -> str:
    """Return in a sentence by how much the best way differs from the best alternative.

    It begins with the name of the way, and says why nothing can be told, if that is so.
    """
    cell, comparison = contest.cell, contest.comparison
    _, reason = decide_contest(contest)
    return (
        f"{contest.way.name(study)}, the best of {quantify(len(contest.ways), 'way')}, "
        f"differs in UAR by {cell.level[:-1]} from {contest.alternative.name(study)}, the best of "
        f"{quantify(len(contest.alternatives), 'alternative')}, by "
        f"{format_gap(comparison.gap, comparison.p)} ({describe_people(study, cell)}, "
        f"{quantify(len(cell.done), 'trial')}; corrected for the choice of the best{reason})."
    )


def _list_classifier_gaps(study: StudyResults, contest: Contest) -> list[str]:
    """Return each pooled classifier with its own difference, or [] for a single one."""
    if len(contest.classifiers) == 1:
        return []
    return [
        f"{format_classifier(study, name)} "
        + format_signed(
            contest.way.cells[name].average_trials("uar")
            - contest.alternative.cells[name].average_trials("uar")
        )
        for name in contest.classifiers
    ]


def list_rare_classes(study: StudyResults) -> dict[str, float]:
    """Return the classes with fewer than RARE_IMAGES real training images, with their numbers."""
    by_class = study.count_training().by_class
    return {name: number for name, number in by_class.items() if number < RARE_IMAGES}


def describe_rare_classes(study: StudyResults, contest: Contest) -> str:
    """Return what the best way changes in the recall of rare classes, or "" if there are none."""
    rare = list_rare_classes(study)
    cell = contest.cell
    chosen = np.array([name in rare for name in study.classes])
    if not (chosen & (cell.counts.sum(axis=(0, 1, 3)) > 0)).any():
        return ""
    if chosen.all():
        return f"All classes have fewer than {RARE_IMAGES} real training images."

    # The same two arms, by the mean recall of these classes
    ways, alternatives = (
        [score_recall(arm.list_cells(contest.classifiers), chosen) for arm in compared]
        for compared in (contest.ways, contest.alternatives)
    )
    positions = (contest.comparison.way, contest.comparison.alternative)
    comparison = compare_best(ways, alternatives, cell.draw, positions)
    answer, reason = decide(comparison.gap, comparison.p, cell)
    lead = {"yes": "It helps rare classes", "no": "It harms rare classes"}.get(
        answer, "For rare classes it cannot be told"
    )
    names = join_words([f"{name} {number:.0f}" for name, number in rare.items()])
    return (
        f"{lead}: the mean recall of those with fewer than {RARE_IMAGES} real training images "
        f"({names}) changes by {format_gap(comparison.gap, comparison.p)}"
        f"{reason.replace(';', ',')}."
    )


def join_words(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
