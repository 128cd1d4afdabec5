"""Scores: accuracy, UF1 and UAR from counts that are pooled over folds first.

UF1 and UAR are the means over classes of F1 and of recall (See et al. 2019, MEGC). True positives,
false positives and false negatives are summed over all folds before any ratio is formed: the mean
of per-fold F1 is another number, bounded below 1 wherever a fold lacks a class. A class without a
true sample in the pooled test set has no recall, and is left out of both means; `Scores.left_out`
names it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mien.errors import DataError

SCORES = ("accuracy", "uf1", "uar")

SCORED_UNITS = ("images", "clips")
"""What is scored: each image, or each clip by the mean of its frames' probabilities."""


@dataclass(frozen=True)
class Scores:
    """The scores of one pooled test set; all in [0, 1].

    `confusion` is int [classes, classes], rows = true. `recall` and `f1` are float [classes],
    nan for the classes of `left_out`, which have no true sample. `n` counts the scored samples.
    `majority` is the share of the commonest class: the accuracy of a constant answer.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    accuracy: float
    uf1: float
    uar: float
    recall: np.ndarray
    f1: np.ndarray
    majority: float
    n: int
    left_out: tuple[str, ...]

    def get(self, metric: str) -> float:
        """Return the score that `metric` names: accuracy, uf1 or uar."""
        return {"accuracy": self.accuracy, "uf1": self.uf1, "uar": self.uar}[metric]


def count_confusion(
    true: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "c c"]:
    """Return the confusion matrix: how often each true class (row) was predicted as each class.

    Both arguments hold class numbers. Raises DataError for a number outside 0 to `classes` - 1.
    """
    for name, values in (("true", true), ("predicted", predicted)):
        if len(values) and not (values.min() >= 0 and values.max() < classes):
            raise DataError(
                f"{name} classes must be 0 to {classes - 1}; given: {values.min()} to "
                f"{values.max()}"
            )
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )


def count_grouped_confusion(
    group: Int[np.ndarray, " n"],
    true: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    groups: int,
    classes: int,
) -> Float[np.ndarray, "g c c"]:
    """Return the confusion matrix of each group of samples, whose numbers are in `group`."""
    counts = np.zeros((groups, classes, classes))
    np.add.at(counts, (group, true, predicted), 1)
    return counts


def compute_kappa(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
    """Return Cohen's kappa (1960) of two people's answers: agreement beyond chance, 1 at most.

    `counts` says how often one gave each answer (row) where the other gave each (column). kappa is
    (p_o - p_e) / (1 - p_e) with the share p_o of equal answers, and the share p_e that is expected
    if each keeps to how often they give each answer. It is nan where nothing was answered, or where
    both always give one answer, so that chance alone would agree.
    """
    total = counts.sum(axis=(-2, -1), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        equal = np.trace(counts, axis1=-2, axis2=-1) / total
        expected = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / total**2
        return np.where(expected < 1, (equal - expected) / (1 - expected), np.nan)


def score(counts: Int[np.ndarray, "c c"], classes: Sequence[str]) -> Scores:
    """Return the scores of a confusion matrix (rows = true), such as the sum over folds.

    Raises DataError if the matrix is empty.
    """
    n = int(counts.sum())
    if n == 0:
        raise DataError("a test set needs at least one sample to be scored; given: none")

    # Recall and F1 of the classes that have a true sample: 2 TP / (2 TP + FP + FN)
    correct, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    has_samples = true > 0
    recall = np.where(has_samples, correct / np.maximum(true, 1), np.nan)
    f1 = np.where(has_samples, 2 * correct / np.maximum(true + predicted, 1), np.nan)

    # The means over these classes; the others are named
    return Scores(
        tuple(classes),
        counts,
        float(correct.sum() / n),
        float(f1[has_samples].mean()),
        float(recall[has_samples].mean()),
        recall,
        f1,
        float(true.max() / n),
        n,
        tuple(name for name, is_there in zip(classes, has_samples, strict=True) if not is_there),
    )


def make_measure(
    metric: str,
) -> Callable[[Float[np.ndarray, "*some c c"]], Float[np.ndarray, "*some"]]:
    """Return a function that gives the accuracy, uf1 or uar of many confusion matrices at once.

    The scores are those of `score`: classes without a true sample are left out, and an empty matrix
    scores nan.
    """

    def measure(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        correct, true, predicted = (
            np.einsum("...ii->...i", counts),
            counts.sum(axis=-1),
            counts.sum(axis=-2),
        )
        has_samples = true > 0
        denominators = {"uf1": true + predicted, "uar": true}
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "accuracy":
                return correct.sum(axis=-1) / true.sum(axis=-1)
            ratio = np.where(
                has_samples, (2 if metric == "uf1" else 1) * correct / denominators[metric], 0
            )
            return ratio.sum(axis=-1) / has_samples.sum(axis=-1)

    return measure


def make_predictions(
    keys: Sequence[str],
    clips: Sequence[str],
    true: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n c"],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return the table of predictions.

    Its columns are key, clip, true, predicted (class names), and the probability `p_class` of each
    class.
    """
    names = np.asarray(classes, dtype=object)
    table = pd.DataFrame({"key": list(keys), "clip": list(clips), "true": names[true]})
    table["predicted"] = names[probabilities.argmax(axis=1)]
    columns = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
    return pd.concat([table, columns], axis=1)


def merge_into_clips(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the predictions of clips: the mean of the probabilities of their frames.

    Images without a clip are left out. A clip whose frames show more than one emotion counts once
    for each.
    """
    columns = [f"p_{name}" for name in classes]
    frames = table[table["clip"] != ""]
    clips = pd.DataFrame(frames.groupby(["clip", "true"], sort=True)[columns].mean()).reset_index()
    clips["predicted"] = np.asarray(classes, dtype=object)[clips[columns].to_numpy().argmax(axis=1)]
    clips["key"] = clips["clip"]
    return pd.DataFrame(clips[["key", "clip", "true", "predicted", *columns]])


def require_single_predictions(table: pd.DataFrame) -> None:
    """Raise DataError if a table of predictions holds an image twice: it would count twice."""
    if not table["key"].is_unique:
        repeated = table.loc[table["key"].duplicated(), "key"].iloc[0]
        raise DataError(
            f"each image must be predicted once in a pooled test set; '{repeated}' was predicted "
            "more than once"
        )


def score_table(
    table: pd.DataFrame, classes: Sequence[str], level: str = "images"
) -> Scores | None:
    """Return the scores of a table of predictions, at the level of images or of clips.

    The table may hold the predictions of many folds: their counts are pooled. Returns None if the
    level is clips and no clip is known. Raises DataError if an image was predicted twice, since it
    would count twice.
    """
    require_single_predictions(table)
    scored = table if level == "images" else merge_into_clips(table, classes)
    if not len(scored):
        return None

    # Count each class pair once over all folds
    number = {name: position for position, name in enumerate(classes)}
    true, predicted = (
        np.array([number[name] for name in scored[column].to_numpy(dtype=object)])
        for column in ("true", "predicted")
    )
    return score(count_confusion(true, predicted, len(classes)), classes)
