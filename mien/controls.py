"""Controls: what is reached without learning what a face shows. A number means something where it
stands above them.

Majority is a constant answer. A nearest neighbour on raw pixels learns nothing, and under a random
split of video frames it finds the frame before. Labels permuted over clips hold no signal at all:
what is right then was remembered. The fourth, the copycat, is a generator and lives with the
generators.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mien import seeds
from mien.errors import DataError
from mien.faces import Faces

Baseline = Literal["majority", "nearest"]
BASELINES: tuple[Baseline, ...] = ("majority", "nearest")


def predict(
    baseline: Baseline, train: Faces, test: Faces, classes: Sequence[str]
) -> Float[np.ndarray, "n classes"]:
    """Return float32 [n, classes]: 1 for the class that the baseline gives each image of `test`,
    else 0.

    `majority` always answers the commonest class of the training images (of equals the first in
    `classes`). `nearest` gives the class of the training image whose pixels are nearest, by
    Euclidean distance.

    Raises DataError without training images, or if the images of both sides differ in size.
    """
    if not len(train):
        raise DataError(f"the {baseline} control needs training images, and was given none")
    if train.size != test.size:
        raise DataError(
            f"training and test images must have one size; given: {train.size} and {test.size}"
        )
    labels = train.labels(classes)
    found = (
        _commonest(labels, len(test), len(classes))
        if baseline == "majority"
        else _nearest(train, labels, test)
    )
    return np.eye(len(classes), dtype=np.float32)[found]


def _commonest(labels: Int[np.ndarray, " m"], n: int, classes: int) -> Int[np.ndarray, " n"]:
    return np.full(n, np.bincount(labels, minlength=classes).argmax(), dtype=np.int64)


def _nearest(train: Faces, labels: Int[np.ndarray, " m"], test: Faces) -> Int[np.ndarray, " n"]:
    if not len(test):
        return np.zeros(0, dtype=np.int64)
    from sklearn.neighbors import KNeighborsClassifier  # takes seconds to load, and few need it

    model = KNeighborsClassifier(n_neighbors=1, algorithm="brute").fit(_pixels(train), labels)
    return np.asarray(model.predict(_pixels(test)), dtype=np.int64)


def _pixels(faces: Faces) -> Float[np.ndarray, "n pixels"]:
    return faces.images.reshape(len(faces), -1).astype(np.float32) / 255


def permuted(faces: Faces, seed: int) -> Faces:
    """Return `faces` with their labels dealt out anew over clips, so that nothing a face shows goes
    with its label.

    All frames of a clip keep one label, and as many clips as before have each. A photograph that
    belongs to no clip is a clip of its own. Who gets what is a function of names and the seed; the
    order of the rows plays no part.
    """
    index = faces.index
    clips = (
        index["clip"].where(index["clip"] != "", index["key"]) + "\x1f" + index["emotion"]
    )  # a clip may show two
    units = pd.Series(index["emotion"].to_numpy(), index=clips).groupby(level=0).first()
    dealt = seeds.rng("permuted", seed).permutation(units.to_numpy())
    given = dict(zip(units.index, dealt, strict=True))
    return replace(
        faces, index=index.assign(emotion=pd.Series([given[clip] for clip in clips], dtype="str"))
    )
