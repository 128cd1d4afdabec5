"""BASELINES: the classifiers that are no networks, and their table.

A result means something only if it is above them. Majority is a constant answer. A nearest
neighbour on raw pixels learns nothing about expressions, and under a random split of video frames
it finds the frame before. Both are controls of studies; a baseline that is no control can be
listed among the classifiers of a study, next to the networks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mien.classifiers.curves import EpochScores
from mien.errors import DataError
from mien.faces import Faces
from mien.prepare.action_units import encode_units, name_columns, require_units

SVM_SIZE, SVM_C = 28, 28.0  # of the linear SVM: pixels per side, and the weight of errors


class Baseline(ABC):
    """A classifier that is no network, after its training on `faces`.

    A member has the two methods `learn` and `predict_known`. `label` is its printed name, and
    `seeded` says whether its answers depend on the seed; without it, all trials of a study that
    have the same images are one.

    A baseline with `shows`, a text that says what it does, is a control of every study; another one
    can be listed among the classifiers of a study. `constant` says whether it gives one answer to
    all images. `short` is its printed name in other controls, for which it is trained like the
    classifiers of the study; a baseline without it is not. `reads_units` says that it reads the
    coded action units in place of the images.

    Raises DataError without training images.
    """

    label: ClassVar[str]
    seeded: ClassVar[bool] = False
    shows: ClassVar[str] = ""
    constant: ClassVar[bool] = False
    short: ClassVar[str] = ""
    reads_units: ClassVar[bool] = False

    def __init__(self, faces: Faces, classes: Sequence[str], seed: int = 0) -> None:
        if not len(faces):
            raise DataError(f"{self.label} needs training images; it was given none")
        self.classes, self.size = tuple(classes), faces.size
        self.learn(faces, faces.number_labels(classes), seed)

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


class LinearSvm(Baseline):
    """A linear support vector machine on standardised features of 28 x 28 pixels.

    Each channel is resized to 28 x 28 pixels, and each of its values is divided by its deviation
    over the training images, after its mean was subtracted. For each class a hyperplane divides its
    images from the others, with C = 28 (Cortes and Vapnik 1995), found without randomness. On the
    optical flow from onset to apex this is the linear baseline of Varanka et al. (2023), "Data
    leakage and evaluation issues in micro-expression analysis". The training takes a second for
    some hundred clips; its time grows with the square of their number.

    Probabilities are the softmax of the decision values. They order the classes as these do, and
    are not calibrated. A class without training images has the probability 0.
    """

    label = "linear SVM"

    def learn(self, faces: Faces, labels: Int[np.ndarray, " n"], seed: int) -> None:
        """Fit a hyperplane for each class of the training images."""
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC  # takes seconds to load

        self.present, positions = np.unique(labels, return_inverse=True)
        if len(self.present) > 1:
            model = make_pipeline(
                StandardScaler(), OneVsRestClassifier(SVC(kernel="linear", C=SVM_C))
            )
            self.model = model.fit(flatten_pixels(_shrink(faces, SVM_SIZE)), positions)

    def predict_known(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return the softmax of the decision values, and 0 for classes without training images."""
        probabilities = np.zeros((len(faces), len(self.classes)))
        if len(self.present) == 1:
            probabilities[:, self.present] = 1.0
            return probabilities
        values = self.model.decision_function(flatten_pixels(_shrink(faces, SVM_SIZE)))
        if values.ndim == 1:  # of two classes, the value of the second
            values = np.stack([-values, values], axis=1)
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        probabilities[:, self.present] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities


def _shrink(faces: Faces, size: int) -> Faces:
    """Return the faces with images of size x size pixels, bilinear and antialiased."""
    import torch
    from torch.nn import functional

    if faces.size[1:] == (size, size):
        return faces
    images = torch.from_numpy(np.array(faces.images)).float()
    resized = functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return replace(faces, images=resized.round().clamp(0, 255).byte().numpy())


class UnitsOnly(Baseline):
    """The class by the action units of each clip alone: a logistic regression, without images.

    It says what the labels of a set follow from the units that were coded. The penalty is
    scikit-learn's own (L2, C = 1), each clip weighs as much as any other, and a class without
    training images gets the probability 0.

    Raises DataError if a dataset of the training images has no action units.
    """

    label = "action units alone"
    shows = (
        "a logistic regression on the coded action units of each clip, which sees no image; it is "
        "an upper reference: a classifier of images with a higher score uses other information too"
    )
    reads_units = True

    def learn(self, faces: Faces, labels: Int[np.ndarray, " n"], seed: int) -> None:
        """Fit the regression."""
        from sklearn.linear_model import LogisticRegression  # takes seconds to load

        require_units(faces, self.label)
        texts = list(faces.index["action_units"])
        self.columns = name_columns(texts)
        self.present = np.unique(labels)
        if len(self.present) > 1:
            clips = faces.name_units("clip")
            weights = 1 / clips.map(clips.value_counts()).to_numpy()
            model = LogisticRegression(max_iter=1000)
            self.model = model.fit(encode_units(texts, self.columns), labels, weights)

    def predict_known(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return the probabilities of the regression."""
        if len(self.present) == 1:
            return self.make_certain(np.full(len(faces), self.present[0]))
        probabilities = np.zeros((len(faces), len(self.classes)), dtype=np.float32)
        units = encode_units(list(faces.index["action_units"]), self.columns)
        probabilities[:, self.present] = self.model.predict_proba(units)
        return probabilities


def flatten_pixels(faces: Faces) -> Float[np.ndarray, "n pixels"]:
    """Return the images as rows of float32 numbers from 0 to 1."""
    return faces.images.reshape(len(faces), -1).astype(np.float32) / 255


BASELINES: Mapping[str, type[Baseline]] = {
    "majority": Majority,
    "nearest": Nearest,
    "svm": LinearSvm,
    "units_only": UnitsOnly,
}
"""The classifiers that are no networks: one more is a class and an entry here."""
