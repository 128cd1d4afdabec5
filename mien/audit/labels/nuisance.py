"""Nuisance leakage: labels predicted from features that show no expression.

A set whose fear is dark and whose happiness is bright can be classified without looking at the
faces, and a generator learns that too. Some of it belongs to the expression: an open mouth is dark.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mien import metrics, stats
from mien.errors import DataError
from mien.faces import Faces, find_known_unit, name_units
from mien.runs.progress import quantify
from mien.seeds import derive_seed, make_rng
from mien.stats import Record

MAX_FOLDS = 5  # of the cross-validation, at most

PERMUTATIONS = 1000  # permutations of the labels

MAX_CLIPS = 3000  # clips or photographs that are used, at most; they are drawn at random

BORDER_SHARE = 1 / 12  # width of the border, as a share of the side

BORDER_PIECES = 4  # of the border, per side


def measure_nuisance(faces: Faces) -> tuple[Record, ...]:
    """Return how well brightness, contrast, sharpness and border pixels predict the label.

    Each is used by itself, and all together. Records for each: `nuisance.NAME`, the mean recall
    over classes (UAR) of a logistic regression with balanced classes on people that it was not
    fitted to (five folds by subject, or by clip if some subjects are not known; a photograph
    without a clip is a clip of its own), with its 95 % interval over them, and the recall of each
    class as its part; and `nuisance.NAME_chance`, the score of the same answers when labels are
    permuted over the clips of each fold: the mean of 1,000 permutations, with their 2.5th and
    97.5th percentile. n counts clips (or photographs), each the mean over its frames; at most 3,000
    are drawn.

    Raises DataError unless there are two classes, and two subjects (or clips) to divide.
    """
    # Classes, groups and folds
    table, values = _make_units(faces)
    classes = sorted(set(table["emotion"]))
    unit = find_known_unit(table)  # the subject, or else the clip
    groups = table[unit]
    folds = min(MAX_FOLDS, groups.nunique())
    if len(classes) < 2 or folds < 2:
        raise DataError(
            "nuisance leakage needs two classes and two subjects (or clips) or more; given: "
            f"{quantify(len(classes), 'class')}, "
            f"{quantify(groups.nunique(), unit)}"
        )

    # Predict each label from each feature, out of fold
    true = np.searchsorted(classes, table["emotion"].to_numpy(dtype=str))
    fold_of = _assign_folds(groups.to_numpy(dtype=str), folds)
    meaning = f"mean recall, interval over {unit}s"
    group_names, group = np.unique(groups.to_numpy(dtype=str), return_inverse=True)
    records = []
    for name, columns in {**values, "all": np.concatenate(list(values.values()), axis=1)}.items():
        predicted = _predict_out_of_fold(columns, true, fold_of)
        counts = metrics.count_grouped_confusion(
            group, true, predicted, len(group_names), len(classes)
        )[None]
        draw = f"{derive_seed('nuisance', *sorted(set(groups))):x}"

        # The score over all classes and of each class, and what chance gives
        for class_number, class_name in ((None, ""), *enumerate(classes)):
            measure = (
                metrics.make_measure("uar") if class_number is None else _make_recall(class_number)
            )
            interval = stats.make_interval(
                stats.average_over_trials(counts, measure), stats.bootstrap(counts, measure, draw)
            )
            n = len(table) if class_number is None else int((true == class_number).sum())
            records.append(Record.of(f"nuisance.{name}", interval, n, meaning, class_name))
        chance = _score_permuted(true, predicted, fold_of, len(classes), name)
        records.append(Record.of(f"nuisance.{name}_chance", chance, len(table), meaning))
    return tuple(records)


def measure_features(images: UInt8[np.ndarray, "n c h w"]) -> dict[str, Float[np.ndarray, "n _"]]:
    """Return features that show no expression: brightness, contrast, sharpness and border.

    Brightness and contrast are mean and standard deviation of the grey values; sharpness is the
    logarithm of the mean square of the Laplacian; the border is the means of sixteen pieces of the
    outer twelfth. Each is an array [n, columns].
    """
    # The Laplacian of the grey values
    grey = np.asarray(images, dtype=np.float32).mean(axis=1) / 255
    _, h, w = grey.shape
    inner = grey[:, 1:-1, 1:-1]
    edges = (
        grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    )

    # The means of the pieces of the border
    down, across = max(1, round(h * BORDER_SHARE)), max(1, round(w * BORDER_SHARE))
    strips = (grey[:, :down].mean(axis=1), grey[:, -down:].mean(axis=1))
    strips += (grey[:, :, :across].mean(axis=2), grey[:, :, -across:].mean(axis=2))
    border_means = [
        section.mean(axis=1)
        for strip in strips
        for section in np.array_split(strip, BORDER_PIECES, axis=1)
    ]
    return {
        "brightness": grey.mean(axis=(1, 2))[:, None],
        "contrast": grey.std(axis=(1, 2))[:, None],
        "sharpness": np.log(np.square(edges).mean(axis=(1, 2)) + 1e-6)[:, None],
        "border": np.stack(border_means, axis=1),
    }


def _make_units(faces: Faces) -> tuple[pd.DataFrame, Mapping[str, Float[np.ndarray, "n _"]]]:
    """Return one row per clip (and emotion) or photograph, with the mean measures of its frames.

    The rows are in the order of the clips' names.
    """
    # Photographs without a clip are clips of their own; draw from too many
    index = faces.index[["key", "subject", "clip", "emotion"]].reset_index(drop=True)
    index["clip"] = name_units(index, "clip")
    names = index["clip"] + "\x1f" + index["emotion"]
    clip_names = np.array(sorted(set(names)), dtype=str)
    if len(clip_names) > MAX_CLIPS:
        clip_names = np.sort(
            make_rng("nuisance", len(clip_names)).choice(clip_names, MAX_CLIPS, replace=False)
        )

    # Average the measures over the frames of each clip
    rows = np.flatnonzero(names.isin(set(clip_names)))
    clip_number = np.searchsorted(clip_names, names.iloc[rows].to_numpy(dtype=str))
    counts = np.bincount(clip_number, minlength=len(clip_names))[:, None]
    values = {}
    for name, columns in measure_features(faces.images[rows]).items():
        sums = np.zeros((len(clip_names), columns.shape[1]))
        np.add.at(sums, clip_number, columns)
        values[name] = sums / counts

    # One row per clip, in the same order
    table = (
        index.iloc[rows]
        .assign(place=clip_number)
        .drop_duplicates("place")
        .sort_values("place", ignore_index=True)
    )
    return table, values


def _assign_folds(groups: np.ndarray, folds: int) -> Int[np.ndarray, " n"]:
    """Return the fold of each unit; no group is in two folds."""
    fold = np.zeros(len(groups), dtype=np.int64)
    for number, (_, rows) in enumerate(GroupKFold(folds).split(groups, groups=groups)):
        fold[rows] = number
    return fold


def _predict_out_of_fold(
    columns: Float[np.ndarray, "n d"], true: Int[np.ndarray, " n"], fold_of: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Return the class of each unit, predicted by a model that saw no unit of its fold."""
    predicted = np.zeros(len(true), dtype=np.int64)
    for fold in np.unique(fold_of):
        in_fold = fold_of == fold
        if len(set(true[~in_fold])) < 2:
            predicted[in_fold] = true[~in_fold][0]
            continue
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
        )
        predicted[in_fold] = model.fit(columns[~in_fold], true[~in_fold]).predict(columns[in_fold])
    return predicted


def _make_recall(class_number: int) -> stats.ConfusionScore:
    """Return a function that gives the recall of a class for each confusion matrix.

    It is nan if the class has no sample.
    """

    def score_recall(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return counts[..., class_number, class_number] / counts[..., class_number, :].sum(
                axis=-1
            )

    return score_recall


def _score_permuted(
    true: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    fold_of: Int[np.ndarray, " n"],
    classes: int,
    name: str,
) -> stats.Interval:
    """Return the score of the same answers under permuted labels, with a 95 % interval.

    The value is the mean of the permutations; the bounds are their 2.5th and 97.5th percentile.
    """
    generator = make_rng("dealt", name, len(true))
    rows_of_fold = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
    scores = np.zeros(PERMUTATIONS)
    totals = np.maximum(1, np.bincount(true, minlength=classes))
    for draw in range(PERMUTATIONS):
        permuted = true.copy()
        for rows in rows_of_fold:
            permuted[rows] = generator.permutation(true[rows])
        correct = np.bincount(predicted[permuted == predicted], minlength=classes)
        scores[draw] = (correct / totals).mean()
    low, high = np.percentile(scores, [stats.TAIL_PERCENT, 100 - stats.TAIL_PERCENT])
    return stats.Interval(float(scores.mean()), float(low), float(high))
