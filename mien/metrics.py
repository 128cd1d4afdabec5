"""Scores: accuracy, UF1 and UAR from counts that are pooled over folds first.

UF1 and UAR are the means over classes of F1 and of recall (See et al. 2019, MEGC). True positives,
false positives and false negatives are summed over all folds before any ratio is formed: the mean
of per-fold F1 is another number, bounded below 1 wherever a fold lacks a class. A class without a
true sample in the pooled test set has no recall, and is left out of both means; `Scores.left_out`
names it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mien.errors import DataError

METRICS = ("accuracy", "uf1", "uar")
LEVELS = ("images", "clips")
"""What can be scored: each image by itself, or each clip by the mean of its frames'
probabilities.
"""


@dataclass(frozen=True)
class Scores:
    """The scores of one pooled test set; all in [0, 1].

    `confusion` is int [classes, classes], rows = true. `recall` and `f1` are float [classes], nan
    for the classes of `left_out`, which have no true sample. `n` counts what was scored. `majority`
    is the share of the commonest class: what a constant answer gets.
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

    def of(self, metric: str) -> float:
        """Return the score that `metric` names: accuracy, uf1 or uar."""
        return {"accuracy": self.accuracy, "uf1": self.uf1, "uar": self.uar}[metric]


def confusion(
    true: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "c c"]:
    """Return how often each class (row) was taken for each (column); both arguments hold class
    numbers.
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


def score(counts: Int[np.ndarray, "c c"], classes: Sequence[str]) -> Scores:
    """Return the scores of a confusion matrix (rows = true), which may be the sum of those of many
    folds.

    Raises DataError if it is empty.
    """
    n = int(counts.sum())
    if n == 0:
        raise DataError(
            "a test set must hold at least one sample to be scored, and this one is empty"
        )
    right, true, given = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there = true > 0
    recall = np.where(there, right / np.maximum(true, 1), np.nan)
    f1 = np.where(
        there, 2 * right / np.maximum(true + given, 1), np.nan
    )  # 2 TP + FP + FN = true + given
    return Scores(
        tuple(classes),
        counts,
        float(right.sum() / n),
        float(f1[there].mean()),
        float(recall[there].mean()),
        recall,
        f1,
        float(true.max() / n),
        n,
        tuple(name for name, is_there in zip(classes, there, strict=True) if not is_there),
    )


def measure(metric: str) -> Callable[[Float[np.ndarray, "*some c c"]], Float[np.ndarray, "*some"]]:
    """Return what scores many confusion matrices at once: accuracy, uf1 or uar of each, nan for an
    empty one.

    The scores are those of `score`; classes without a true sample are left out.
    """

    def of(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        right, true, given = (
            np.einsum("...ii->...i", counts),
            counts.sum(axis=-1),
            counts.sum(axis=-2),
        )
        there = true > 0
        below = {"uf1": true + given, "uar": true}
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "accuracy":
                return right.sum(axis=-1) / true.sum(axis=-1)
            ratio = np.where(there, (2 if metric == "uf1" else 1) * right / below[metric], 0)
            return ratio.sum(axis=-1) / there.sum(axis=-1)

    return of


def pool(folds: Iterable[Int[np.ndarray, "c c"]], classes: Sequence[str]) -> Scores:
    """Return the scores of the summed confusion matrices of all folds."""
    return score(np.sum(list(folds), axis=0), classes)


def predictions(
    keys: Sequence[str],
    clips: Sequence[str],
    true: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n c"],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return the table of predictions: key, clip, true, predicted (names) and a column `p_class`
    for each class.
    """
    names = np.asarray(classes, dtype=object)
    table = pd.DataFrame({"key": list(keys), "clip": list(clips), "true": names[true]})
    table["predicted"] = names[probabilities.argmax(axis=1)]
    columns = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
    return pd.concat([table, columns], axis=1)


def to_clips(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
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


def score_table(
    table: pd.DataFrame, classes: Sequence[str], level: str = "images"
) -> Scores | None:
    """Return the scores of a table of predictions, at the level of images or of clips.

    Predictions of many folds may stand in one table: their counts are pooled. Nothing where no clip
    is known. Raises DataError if an image was predicted twice, which would count it twice.
    """
    twice = table.loc[table["key"].duplicated(), "key"].tolist()
    if twice:
        raise DataError(
            f"each image must be predicted once in a pooled test set, and '{twice[0]}' was twice"
        )
    part = table if level == "images" else to_clips(table, classes)
    if not len(part):
        return None
    number = {name: place for place, name in enumerate(classes)}
    true, predicted = (
        np.array([number[name] for name in part[column]]) for column in ("true", "predicted")
    )
    return score(confusion(true, predicted, len(classes)), classes)


def majority(counts: dict[str, int]) -> Scores:
    """Return what the constant answer "the commonest class" scores on `counts` samples a class."""
    classes = list(counts)
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    matrix[:, int(np.argmax(list(counts.values())))] = list(counts.values())
    return score(matrix, classes)
