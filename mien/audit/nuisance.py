"""Nuisance leakage: how well a label can be told from what is no expression.

A set whose fear is dark and whose happiness is bright can be classified without a look at the
faces, and a generator learns that with the rest. Some of it is the expression's own: an open mouth
is dark.
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
from mien.faces import Faces
from mien.progress import many
from mien.seeds import rng, seed
from mien.stats import Record

FOLDS = 5
DEALT = 1000  # times that labels are dealt out anew
MOST = 3000  # clips or photographs that are looked at; of more, so many are drawn
RIM = 1 / 12  # of a side: how wide the border is
PIECES = 4  # of the border, a side
WIDTH = 48  # pixels at which sharpness is comparable between sets


def nuisance(faces: Faces) -> tuple[Record, ...]:
    """Return how well brightness, contrast, sharpness and border pixels, each alone and all
    together, tell the label.

    Records for each: `nuisance.NAME`, the mean recall over classes (UAR) of a logistic regression
    with balanced classes on people that it was not fitted to (five folds by subject, by clip where
    subjects are not all known; a photograph that belongs to no clip is a clip of its own), with its
    95 % interval over them, and the recall of each class as its part; and `nuisance.NAME_chance`,
    what the same answers score when labels are dealt out anew over the clips of each fold: the mean
    of 1,000 permutations, between their 2.5th and 97.5th percentile. n counts clips (or
    photographs), of which the mean over frames is taken; of more than 3,000 so many are drawn.

    Raises DataError unless there are two classes, and two subjects (or clips) to divide.
    """
    table, values = _units(faces)
    classes = sorted(set(table["emotion"]))
    known = bool((table["subject"] != "").all())
    groups = table["subject"] if known else table["clip"]
    folds = min(FOLDS, groups.nunique())
    if len(classes) < 2 or folds < 2:
        raise DataError(
            "what tells labels apart can be measured with two classes and two subjects (or clips) "
            "or more; given: "
            f"{many(len(classes), 'class')}, "
            f"{many(groups.nunique(), 'subject' if known else 'clip')}"
        )
    true = np.searchsorted(classes, table["emotion"].to_numpy(dtype=str))
    parts = _parts(groups.to_numpy(dtype=str), folds)
    unit = f"mean recall, interval over {'subjects' if known else 'clips'}"
    records = []
    for name, columns in {**values, "all": np.concatenate(list(values.values()), axis=1)}.items():
        found = _out_of_fold(columns, true, parts)
        counts = _counts(true, found, groups.to_numpy(dtype=str), len(classes))
        draw = f"{seed('nuisance', *sorted(set(groups))):x}"
        for place, part in ((None, ""), *enumerate(classes)):
            measure = metrics.measure("uar") if place is None else _recall(place)
            around = stats.around(stats.mean(counts, measure), stats.drawn(counts, measure, draw))
            low, high = (None if np.isnan(bound) else bound for bound in (around.low, around.high))
            n = len(table) if place is None else int((true == place).sum())
            records.append(Record(f"nuisance.{name}", around.value, n, unit, low, high, part=part))
        chance = _chance(true, found, parts, len(classes), name)
        records.append(
            Record(
                f"nuisance.{name}_chance", chance.value, len(table), unit, chance.low, chance.high
            )
        )
    return tuple(records)


def measures(images: UInt8[np.ndarray, "n c h w"]) -> dict[str, Float[np.ndarray, "n _"]]:
    """Return what shows no expression of each image, as columns: brightness, contrast, sharpness,
    border.

    Brightness and contrast are mean and standard deviation of the grey values; sharpness is the
    logarithm of the mean square of the Laplacian; the border is the means of sixteen pieces of the
    outer twelfth.
    """
    grey = np.asarray(images, dtype=np.float32).mean(axis=1) / 255
    _, h, w = grey.shape
    inner = grey[:, 1:-1, 1:-1]
    edges = (
        grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    )
    down, across = max(1, round(h * RIM)), max(1, round(w * RIM))
    strips = (grey[:, :down].mean(axis=1), grey[:, -down:].mean(axis=1))
    strips += (grey[:, :, :across].mean(axis=2), grey[:, :, -across:].mean(axis=2))
    pieces = [
        part.mean(axis=1) for strip in strips for part in np.array_split(strip, PIECES, axis=1)
    ]
    return {
        "brightness": grey.mean(axis=(1, 2))[:, None],
        "contrast": grey.std(axis=(1, 2))[:, None],
        "sharpness": np.log(np.square(edges).mean(axis=(1, 2)) + 1e-6)[:, None],
        "border": np.stack(pieces, axis=1),
    }


def _units(faces: Faces) -> tuple[pd.DataFrame, Mapping[str, Float[np.ndarray, "n _"]]]:
    """Return one row a clip (and emotion) or photograph, in the order of names, with the mean of
    its frames.
    """
    index = faces.index[["key", "subject", "clip", "emotion"]].reset_index(drop=True)
    index["clip"] = index["clip"].where(index["clip"] != "", index["key"])
    names = index["clip"] + "\x1f" + index["emotion"]
    every = np.array(sorted(set(names)), dtype=str)
    if len(every) > MOST:
        every = np.sort(rng("nuisance", len(every)).choice(every, MOST, replace=False))
    rows = np.flatnonzero(names.isin(set(every)))
    place = np.searchsorted(every, names.iloc[rows].to_numpy(dtype=str))
    counts = np.bincount(place, minlength=len(every))[:, None]
    values = {}
    for name, columns in measures(faces.images[rows]).items():
        sums = np.zeros((len(every), columns.shape[1]))
        np.add.at(sums, place, columns)
        values[name] = sums / counts
    table = (
        index.iloc[rows]
        .assign(place=place)
        .drop_duplicates("place")
        .sort_values("place", ignore_index=True)
    )
    return table, values


def _parts(groups: np.ndarray, folds: int) -> Int[np.ndarray, " n"]:
    """Return the fold of each unit; no group stands in two."""
    part = np.zeros(len(groups), dtype=np.int64)
    for number, (_, rows) in enumerate(GroupKFold(folds).split(groups, groups=groups)):
        part[rows] = number
    return part


def _out_of_fold(
    columns: Float[np.ndarray, "n d"], true: Int[np.ndarray, " n"], parts: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Return the class that each unit is given by a model that saw no unit of its fold."""
    found = np.zeros(len(true), dtype=np.int64)
    for part in np.unique(parts):
        asked = parts == part
        if len(set(true[~asked])) < 2:
            found[asked] = true[~asked][0]
            continue
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
        )
        found[asked] = model.fit(columns[~asked], true[~asked]).predict(columns[asked])
    return found


def _counts(
    true: Int[np.ndarray, " n"], found: Int[np.ndarray, " n"], groups: np.ndarray, classes: int
) -> Float[np.ndarray, "1 g c c"]:
    names, place = np.unique(groups, return_inverse=True)
    counts = np.zeros((1, len(names), classes, classes))
    np.add.at(counts[0], (place, true, found), 1)
    return counts


def _recall(place: int) -> stats.Measure:
    """Return what gives the recall of one class for each confusion matrix, nan where it has no
    sample.
    """

    def of(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return counts[..., place, place] / counts[..., place, :].sum(axis=-1)

    return of


def _chance(
    true: Int[np.ndarray, " n"],
    found: Int[np.ndarray, " n"],
    parts: Int[np.ndarray, " n"],
    classes: int,
    name: str,
) -> stats.Interval:
    """Return the score of the same answers under permuted labels: mean, 2.5th and 97.5th
    percentile.
    """
    dealer = rng("dealt", name, len(true))
    of_part = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    scores = np.zeros(DEALT)
    totals = np.maximum(1, np.bincount(true, minlength=classes))
    for draw in range(DEALT):
        dealt = true.copy()
        for rows in of_part:
            dealt[rows] = dealer.permutation(true[rows])
        right = np.bincount(found[dealt == found], minlength=classes)
        scores[draw] = (right / totals).mean()
    low, high = np.percentile(scores, [stats.TAIL, 100 - stats.TAIL])
    return stats.Interval(float(scores.mean()), float(low), float(high))
