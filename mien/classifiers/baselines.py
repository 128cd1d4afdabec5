"""Baselines: the scores that are possible without learning what a face shows.

A result means something only if it is above them. Majority is a constant answer. A nearest
neighbour on raw pixels learns nothing, and under a random split of video frames it finds the frame
before. Labels that are permuted over clips hold no signal at all: an answer that is right then was
remembered. The fourth control, the copycat, is a generator and is among the generators.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from mien.classifiers.specs import Baseline
from mien.errors import DataError
from mien.faces import Faces


def predict(
    baseline: Baseline, train: Faces, test: Faces, classes: Sequence[str]
) -> Float[np.ndarray, "n classes"]:
    """Return float32 [n, classes]: 1 for the predicted class of each image of `test`, else 0.

    `majority` always answers the commonest class of the training images (of equals the first in
    `classes`). `nearest` gives the class of the training image whose pixels are nearest, by
    Euclidean distance.

    Raises DataError without training images, or if training and test images differ in size.
    """
    if not len(train):
        raise DataError(f"the {baseline} control needs training images; it was given none")
    if train.size != test.size:
        raise DataError(
            f"training and test images must have one size; given: {train.size} and {test.size}"
        )
    labels = train.labels(classes)
    predicted = PREDICTORS[baseline](train, labels, test)
    return np.eye(len(classes), dtype=np.float32)[predicted]


def _predict_commonest(
    train: Faces, labels: Int[np.ndarray, " m"], test: Faces
) -> Int[np.ndarray, " n"]:
    return np.full(len(test), np.bincount(labels).argmax(), dtype=np.int64)


def _predict_nearest(
    train: Faces, labels: Int[np.ndarray, " m"], test: Faces
) -> Int[np.ndarray, " n"]:
    if not len(test):
        return np.zeros(0, dtype=np.int64)
    from sklearn.neighbors import KNeighborsClassifier  # takes seconds to load, and is seldom used

    model = KNeighborsClassifier(n_neighbors=1, algorithm="brute").fit(
        _flatten_pixels(train), labels
    )
    return np.asarray(model.predict(_flatten_pixels(test)), dtype=np.int64)


PREDICTORS: dict[Baseline, Callable[[Faces, np.ndarray, Faces], np.ndarray]] = {
    "majority": _predict_commonest,
    "nearest": _predict_nearest,
}
"""From training images, their class numbers and test images to a class number for each of these."""


def _flatten_pixels(faces: Faces) -> Float[np.ndarray, "n pixels"]:
    return faces.images.reshape(len(faces), -1).astype(np.float32) / 255
