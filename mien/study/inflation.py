"""Inflation: what epochs chosen on the test subjects would have scored.

Published code of the field chooses the epoch by the score on the subject that it tests: HTNet once
for each subject, MMNet even apart for accuracy and for F1. Such a number says how high a curve
climbs by chance. mien trains for a fixed number of epochs, or chooses the epoch on subjects of the
training side, and prints the other numbers beside the honest one, marked as inflated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mien import metrics
from mien.errors import DataError

EPOCHS_FILE = "epochs.npy"

CHOICES: Mapping[str, str] = {
    "honest": "the epoch was fixed, or chosen on training subjects",
    "pooled": "one epoch, chosen on all test subjects together",
    "by_subject": "an epoch for each test subject, chosen on this subject",
    "by_score": "an epoch for each test subject and each score, chosen on this subject",
}
"""How an epoch can be chosen; all but the first are inflated."""


@dataclass(frozen=True)
class Inflation:
    """The scores of one training under each of CHOICES: accuracy, uf1 and uar, from 0 to 1.

    `n` counts the test images, of so many `subjects`, after each of so many `epochs`.
    """

    scores: Mapping[str, Mapping[str, float]]
    n: int
    subjects: int
    epochs: int


def measure_inflation(
    true: Int[np.ndarray, " n"],
    answers: Int[np.ndarray, "epochs n"],
    chosen: Int[np.ndarray, " n"],
    subjects: Sequence[str],
    classes: Sequence[str],
) -> Inflation:
    """Return what test images score with the epoch `chosen` honestly, and chosen on themselves.

    All numbers are class numbers: `true` labels, `answers` after each epoch, and the answers that
    the study counts. `pooled` takes the epoch with the highest accuracy on all images, the earliest
    of equals; `by_subject` takes the epoch with the highest accuracy for each subject. `by_score`
    takes another epoch for each subject and score: for uf1 the one with the highest F1 (the mean
    over the subject's own classes), for uar the one with the highest recall.

    Raises DataError if the numbers of images differ or no epoch is given.
    """
    epochs, n = answers.shape
    if not epochs or not n or not len(true) == len(chosen) == len(subjects) == n:
        raise DataError(
            f"answers after one epoch or more need as many labels and subjects as images; given: "
            f"{epochs} epochs of {n} images, {len(true)} labels, {len(subjects)} subjects"
        )
    everyone = np.arange(n)
    people = [np.flatnonzero(np.asarray(subjects) == name) for name in sorted(set(subjects))]

    def score_epochs(rows: np.ndarray, metric: str) -> np.ndarray:
        """Return the score of some images after each epoch."""
        counts = np.stack(
            [metrics.count_confusion(true[rows], after[rows], len(classes)) for after in answers]
        )
        return metrics.make_measure(metric)(counts.astype(np.float64))

    def choose(groups: Sequence[np.ndarray], metric: str) -> np.ndarray:
        """Return the answers of all images, each group's after its own best epoch."""
        picked = np.empty(n, dtype=np.int64)
        for rows in groups:
            picked[rows] = answers[int(np.argmax(score_epochs(rows, metric)))][rows]
        return picked

    def score(picked: np.ndarray) -> dict[str, float]:
        scores = metrics.score(metrics.count_confusion(true, picked, len(classes)), classes)
        return {metric: scores.get(metric) for metric in metrics.SCORES}

    return Inflation(
        {
            "honest": score(np.asarray(chosen, dtype=np.int64)),
            "pooled": score(choose([everyone], "accuracy")),
            "by_subject": score(choose(people, "accuracy")),
            "by_score": {
                metric: score(choose(people, metric))[metric] for metric in metrics.SCORES
            },
        },
        n,
        len(people),
        epochs,
    )


def read_epochs(folder: Path) -> Int[np.ndarray, "epochs n"] | None:
    """Return the class numbers that a trial predicted after each epoch, or None if it kept none.

    The columns are the rows of its predictions on real images. Raises DataError for a damaged file.
    """
    path = folder / EPOCHS_FILE
    if not path.exists():
        return None
    try:
        answers = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be an array of NumPy: {error}") from None
    return answers.astype(np.int64)
