"""BASELINES: classifiers that are no networks, such as a nearest neighbour.

A result means something only if it is above them. Majority is a constant answer. A nearest
neighbour on raw pixels learns nothing about expressions, and under a random split of video frames
it finds the frame before. Both are controls of studies; a baseline that is no control can be
listed among the classifiers of a study, next to the networks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mien.classifiers.curves import EpochScores
from mien.errors import DataError
from mien.faces import Faces


class Baseline(ABC):
    """A classifier that is no network, after its training on `faces`.

    A member has the two methods `learn` and `predict_known`. `label` is its printed name, and
    `seeded` says whether its answers depend on the seed; without it, all trials of a study that
    have the same images are one.

    A baseline with `shows`, a text that says what it does, is a control of every study; another one
    can be listed among the classifiers of a study. `constant` says whether it gives one answer to
    all images. `short` is its printed name in other controls, for which it is trained like the
    classifiers of the study; a baseline without it is not.

    Raises DataError without training images.
    """

    label: ClassVar[str]
    seeded: ClassVar[bool] = False
    shows: ClassVar[str] = ""
    constant: ClassVar[bool] = False
    short: ClassVar[str] = ""

    def __init__(self, faces: Faces, classes: Sequence[str], seed: int = 0) -> None:
        if not len(faces):
            raise DataError(f"{self.label} needs training images; it was given none")
        self.classes, self.size = tuple(classes), faces.size
        self.learn(faces, faces.labels(classes), seed)

    @property
    def facts(self) -> dict[str, Any]:
        """What the summary of a trial says about the training: nothing."""
        return {}

    @property
    def curve(self) -> tuple[EpochScores, ...]:
        """The scores of each epoch of the training, which has none."""
        return ()

    def predict(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return float32 probabilities, one row per image and one column per class.

        Raises DataError if the images have another size than the training images.
        """
        if self.size != faces.size:
            raise DataError(
                f"training and test images must have one size; given: {self.size} and {faces.size}"
            )
        if not len(faces):
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        return self.predict_known(faces).astype(np.float32)

    @abstractmethod
    def learn(self, faces: Faces, labels: Int[np.ndarray, " n"], seed: int) -> None:
        """Learn from one image or more, whose labels are positions in `classes`."""

    @abstractmethod
    def predict_known(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return probabilities of one image or more, which have the size of the training images."""

    def make_certain(self, predicted: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n classes"]:
        """Return 1 for the predicted class of each image, else 0."""
        return np.eye(len(self.classes), dtype=np.float32)[predicted]


class Majority(Baseline):
    """The commonest class of the training images, always; of equals the first in `classes`."""

    label = "majority class"
    shows = "always the commonest class of the training images"
    constant = True

    def learn(self, faces: Faces, labels: Int[np.ndarray, " n"], seed: int) -> None:
        """Count the labels."""
        self.commonest = int(np.bincount(labels).argmax())

    def predict_known(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return 1 for the commonest class."""
        return self.make_certain(np.full(len(faces), self.commonest, dtype=np.int64))


class Nearest(Baseline):
    """The class of the training image whose pixels are nearest, by Euclidean distance."""

    label = "1-nearest neighbour"
    shows = "the class of the training image whose pixels are nearest; nothing else is learnt"
    short = "1-NN"

    def learn(self, faces: Faces, labels: Int[np.ndarray, " n"], seed: int) -> None:
        """Keep the training images."""
        from sklearn.neighbors import KNeighborsClassifier  # takes seconds to load

        model = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
        self.model = model.fit(flatten_pixels(faces), labels)

    def predict_known(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return 1 for the class of the nearest training image."""
        predicted = self.model.predict(flatten_pixels(faces))
        return self.make_certain(np.asarray(predicted, dtype=np.int64))


def flatten_pixels(faces: Faces) -> Float[np.ndarray, "n pixels"]:
    """Return the images as rows of float32 numbers from 0 to 1."""
    return faces.images.reshape(len(faces), -1).astype(np.float32) / 255


BASELINES: Mapping[str, type[Baseline]] = {"majority": Majority, "nearest": Nearest}
"""The classifiers that are no networks: one more is a class and an entry here."""
