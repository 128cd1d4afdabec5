"""Answers to questions about studies: estimate, decision and design."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mien import stats
from mien.report.words import format_classifier
from mien.runs.progress import quantify
from mien.stats import Interval
from mien.study.best import divide_recall
from mien.study.cells import MIN_PEOPLE, SIGNIFICANT_P, ResultCell
from mien.study.results import StudyResults

HELD_OUT_PROTOCOLS = ("subject", "dataset")  # under them nobody of the tests was in training


Question = Literal["synthetic", "copies", "ways", "people", "controls", "split", "units"]


Answer = Literal["yes", "no", "cannot tell"]


STUDY_QUESTIONS: dict[Question, str] = {
    "synthetic": "Does adding synthetic faces help?",
    "copies": "Does it help more than copies?",
    "ways": "Is any way of using synthetic faces better than the best cheap alternative?",
    "people": "With how many real people do synthetic faces help?",
    "controls": "Is any result above its controls?",
    "split": "Would a random split look better?",
    "units": "Are action units recognised?",
}
"""The questions in the order in which reports answer them.

The last one is for studies whose target is action units, and the others are for emotions. `ways` is
for studies that compare ways of use, ratios or shares of the people, and `people` for the shares.
"""


@dataclass(frozen=True)
class Conclusion:
    """The answer of studies to one question.

    - `question` is its key in STUDY_QUESTIONS, and `asked` the question in words.
    - `answer` is yes, no, or cannot tell; the sentence then says why.
    - `sentence` says the answer with the estimate, its interval, and the number of people.
    - `basis` says on which classifiers and tests the sentence rests, and `design` on which study,
      protocol, folds, trials and seed.
    - `estimate` is a difference from -1 to 1 with its 95 % interval over tested people: in UAR for
      ways of use, in mean F1 for action units, else in accuracy. None if nothing was measured.
    - `n` is the number of tested people, or of clips or images (`unit`) if people are unknown.
    - `study` is the title of the study, "" if there is none.
    """

    question: Question
    answer: Answer
    sentence: str
    basis: str = ""
    design: str = ""
    estimate: Interval | None = None
    n: int = 0
    unit: str = "subject"
    study: str = ""

    @property
    def asked(self) -> str:
        """The question in words."""
        return STUDY_QUESTIONS[self.question]


def find_seen_people(study: StudyResults, question: Question) -> Conclusion | None:
    """Return that nothing can be said if the people of the tests were also in training."""
    if study.protocol in HELD_OUT_PROTOCOLS:
        return None
    return leave_open(
        study,
        question,
        "the people of its tests were also in training; a study with "
        '`protocol = "subject"` can answer this',
    )


def leave_open(study: StudyResults, question: Question, reason: str) -> Conclusion:
    """Return that a study has no numbers for a question, with the reason."""
    sentence = f"Cannot tell: {reason}."
    design = describe_design(study)
    return Conclusion(question, "cannot tell", sentence, design=design, study=study.title)


def pool_pairs(
    pairs: Sequence[tuple[ResultCell, ResultCell]], metric: str = "accuracy"
) -> tuple[Interval, float]:
    """Return the mean difference in a metric of pairs of cells with its interval, and its p.

    The metric is accuracy or uar. Draws of people are shared by all cells with the same people, so
    differences are paired by person. p is that of a sign-flip test over people, nan if two cells
    differ in their people.
    """
    values = [ours.average_trials(metric) - theirs.average_trials(metric) for ours, theirs in pairs]
    draws = [
        first - second
        for ours, theirs in pairs
        if (first := ours.bootstrap(metric)) is not None
        and (second := theirs.bootstrap(metric)) is not None
    ]
    pooled = np.mean(draws, axis=0) if len(draws) == len(pairs) else None

    # The sign flips need the same people on all sides
    divide = {"accuracy": _count_right, "uar": divide_recall}[metric]
    units = {cell.units for pair in pairs for cell in pair}
    p = math.nan
    if len(units) == 1:
        gaps = np.mean([divide(ours) - divide(theirs) for ours, theirs in pairs], axis=0)
        p = stats.test_by_sign_flips(gaps, pairs[0][0].draw)
    return stats.make_interval(float(np.mean(values)), pooled), p


def _count_right(cell: ResultCell) -> np.ndarray:
    """Return the right answers of each person, float [groups]: the mean over trials."""
    return np.einsum("tgii->g", cell.counts, dtype=np.float64) / len(cell.counts)


def decide(gap: Interval, p: float, cell: ResultCell) -> tuple[Answer, str]:
    """Return the answer of a difference, and the reason if it cannot be told."""
    if cell.grouped != "subject":
        return "cannot tell", "; it is not known which images are of one person"
    if len(cell.units) < MIN_PEOPLE:
        return "cannot tell", f"; fewer than {MIN_PEOPLE} cannot give p below {SIGNIFICANT_P}"
    if gap.low <= 0 <= gap.high or math.isnan(gap.low):
        return "cannot tell", "; the interval includes zero"
    if not p < SIGNIFICANT_P:
        return "cannot tell", f"; p is not below {SIGNIFICANT_P}"
    return ("yes" if gap.low > 0 else "no"), ""


def describe_people(study: StudyResults, cell: ResultCell) -> str:
    """Return the tested people of a cell in words, or the clips or images if they are unknown."""
    held_out = "held-out " if study.protocol in HELD_OUT_PROTOCOLS else ""
    if cell.grouped != "subject":
        return f"the {held_out}{quantify(len(cell.units), cell.grouped)}"
    people = "person" if len(cell.units) == 1 else "people"
    return f"{len(cell.units):,} {held_out}{people}"


def describe_basis(study: StudyResults, cell: ResultCell, classifiers: Iterable[str] = ()) -> str:
    """Return the classifiers and the tests of a conclusion."""
    pooled = list(classifiers)
    who = f"mean of {', '.join(pooled)}" if pooled else format_classifier(study, cell.classifier)
    return f"{who}, {quantify(cell.n, cell.level[:-1])}"


def describe_design(study: StudyResults) -> str:
    """Return title, protocol, tested folds, trials and seed of a study in one line."""
    spec = study.spec
    tested = len(spec["tested_folds"])
    folds = (
        f"{tested} of {quantify(spec['folds'], 'fold')}"
        if tested < spec["folds"]
        else quantify(spec["folds"], "fold")
    )
    if study.protocol == "frame":
        folds = f"1 in {spec['folds']} images tested"
    return (
        f"study {study.title}, protocol {study.protocol}, {folds}, "
        f"{quantify(spec['trials'], 'trial')}, seed {spec['seed']}"
    )


def correct_by_holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm (1979), in their order; nan becomes 1."""
    known = [1.0 if math.isnan(p) else p for p in ps]
    corrected, largest = [1.0] * len(known), 0.0
    for rank, position in enumerate(sorted(range(len(known)), key=known.__getitem__)):
        largest = max(largest, min(1.0, known[position] * (len(known) - rank)))
        corrected[position] = largest
    return corrected
