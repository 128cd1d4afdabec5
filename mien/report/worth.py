"""Whether any way of using synthetic faces exceeds the best cheap alternative."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.report.answers import (
    Answer,
    Conclusion,
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
    arms = [one for one in list_arms(study, people) if one.kind in ("way", *ALTERNATIVES)]
    classifiers = choose_classifiers(study, arms)
    finished = [one for one in arms if classifiers and one.finished_for(classifiers)]
    ways = [one for one in finished if one.kind == "way"]
    alternatives = [one for one in finished if one.kind in ALTERNATIVES]
    if not ways or not alternatives:
        return None
    sides = [
        [score_recall(one.list_cells(classifiers)) for one in side] for side in (ways, alternatives)
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
    answer, reason = decide_contest(contest)
    lead = {"yes": "Yes: ", "no": "No, it is worse: ", "cannot tell": "Cannot tell: "}[answer]
    sentence = (
        f"{lead}{contest.way.name(study)}, the best of {quantify(len(contest.ways), 'way')}, "
        f"differs in UAR by {cell.level[:-1]} from {contest.alternative.name(study)}, the best of "
        f"{quantify(len(contest.alternatives), 'alternative')}, by "
        f"{format_gap(comparison.gap, comparison.p)} ({describe_people(study, cell)}, "
        f"{quantify(len(cell.done), 'trial')}; corrected for the choice of the best{reason})."
    )
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


def _find_lacking(study: StudyResults) -> str:
    """Return what the comparison needs and the study lacks, in words, or ""."""
    kinds = {one.kind for one in list_arms(study)}
    lacking = [
        label
        for label, found in (
            ("real + synthetic → real", "way" in kinds),
            ("real → real", "real" in kinds),
        )
        if not found
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
        [score_recall(one.list_cells(contest.classifiers), chosen) for one in side]
        for side in (contest.ways, contest.alternatives)
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
