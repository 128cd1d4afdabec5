"""Inflated scores: the claims of epochs chosen on the test subjects."""

import numpy as np

from mien.pages.tables import ReportTable, make_row
from mien.report.comparison import METRICS
from mien.report.words import format_classifier, format_score
from mien.runs.progress import quantify
from mien.study.inflation import CHOICES, Inflation
from mien.study.results import StudyResults

HONEST = "honest"

INFLATED_MARK = "inflated: "

LABELS = {
    "honest": "honest",
    "pooled": f"{INFLATED_MARK}epoch chosen on all test subjects",
    "by_subject": f"{INFLATED_MARK}epoch chosen on each test subject",
    "by_score": f"{INFLATED_MARK}epoch chosen on each test subject, for each score",
}


def make_inflation_table(study: StudyResults) -> ReportTable | None:
    """Return the scores with each choice of the epoch, or None if no trial kept its epochs."""
    if not study.inflation:
        return None
    rows = []
    for (classifier, ablation), trials in study.inflation.items():
        rows.append(make_row(_name_training(study, classifier, ablation), kind="group"))
        rows += [
            make_row(
                LABELS[choice],
                *(format_score(average(trials, choice, metric), metric) for metric in METRICS),
            )
            for choice in CHOICES
        ]

    trials = next(iter(study.inflation.values()))
    first = trials[0]
    note = (
        "Published code often chooses the epoch by the score on the subjects that it tests. These "
        "are the same trainings under each choice, by image: means over "
        f"{quantify(len(trials), 'trial')}, {quantify(first.n, 'test image')} of "
        f"{quantify(first.subjects, 'subject')}. Only the honest rows say what to expect of a new "
        "person."
    )
    return ReportTable(
        "What an epoch chosen on the test subjects would have claimed",
        ("real → real", "accuracy, %", "UF1", "UAR"),
        tuple(rows),
        note,
    )


def describe_inflation(study: StudyResults) -> list[str]:
    """Return a sentence for each training whose trials kept their epochs."""
    sentences = []
    for (classifier, ablation), trials in study.inflation.items():
        uar = {choice: format_score(average(trials, choice, "uar"), "uar") for choice in CHOICES}
        name = _name_training(study, classifier, ablation)
        sentences.append(
            f"{name}: UAR {uar[HONEST]} with an honest epoch. Inflated, with an epoch chosen on "
            f"the test subjects: {uar['pooled']} on all together, {uar['by_subject']} on each, "
            f"{uar['by_score']} on each and for each score."
        )
    return sentences


def average(trials: list[Inflation], choice: str, metric: str) -> float:
    """Return the mean of a score over trials."""
    return float(np.mean([trial.scores[choice][metric] for trial in trials]))


def _name_training(study: StudyResults, classifier: str, ablation: str) -> str:
    name = format_classifier(study, classifier)
    return name if len(study.ablations) == 1 else f"{name}, {ablation}"
