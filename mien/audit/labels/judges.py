"""Judges of labels: classifiers that learn from real people within seconds.

Each judge learns nothing from some of these people. It is made of histograms of oriented gradients
(Dalal & Triggs 2005), principal components, and a logistic regression. On held-out people it is as
accurate as a small convolutional network that trains for minutes, and it needs no weights. It
judges whether pictures show what others with their label show; it does not know what a person
feels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mien.errors import DataError
from mien.faces import Faces
from mien.runs.progress import quantify, track
from mien.seeds import make_rng

MAX_JUDGES = 5  # judges of a panel, at most

# pixels per side of the picture and of a cell; directions of gradients
HOG_WIDTH, HOG_CELL, HOG_BINS = (48, 8, 9)

GRADIENT_COMPONENTS = 60  # principal components of the gradients, at most

INVERSE_REGULARISATION = 0.1  # inverse of the regularisation

# images that a judge learns from, at most; they are drawn class by class
MAX_IMAGES_PER_JUDGE = 6000


@dataclass(frozen=True)
class Judges:
    """A panel of judges of `classes`: judge k learnt nothing from the people of fold k.

    If people are not known, `unit` says what is kept together instead: clips or images.
    `fold` is the fold of each image that the panel learnt from, -1 for images of classes that
    no judge could learn, because only one group shows them.
    """

    classes: tuple[str, ...]
    models: tuple[Pipeline, ...]
    fold: Int[np.ndarray, " n"]
    unit: str
    groups: tuple[str, ...]  # of each image

    @property
    def knows(self) -> Bool[np.ndarray, "judges c"]:
        """Which judge learnt which class: a class of only held-out people is unknown to a judge."""
        class_numbers = np.arange(len(self.classes))
        return np.array([np.isin(class_numbers, model.classes_) for model in self.models])


def train_judges(faces: Faces, classes: Sequence[str] | None = None) -> Judges:
    """Return a panel of judges of real `faces`: five, or as many as there are subjects.

    Clips or images take the place of subjects that are not known. A class (of `classes`, or all) is
    judged if it occurs in at least two groups. Raises DataError unless there are two such classes.
    """
    # The classes that can be judged: those of two groups or more
    unit, names = faces.find_independent_units()
    groups = names.to_numpy(dtype=str)
    emotions = faces.index["emotion"].to_numpy(dtype=str)
    candidates = [name for name in faces.classes if classes is None or name in classes]
    learnt = tuple(name for name in candidates if len(set(groups[emotions == name])) > 1)
    learnable = np.isin(emotions, learnt)
    if len(learnt) < 2:
        raise DataError(
            f"judges need two classes or more that two {unit}s or more show; in "
            f"{quantify(len(faces), 'image')}, {'only ' + learnt[0] if learnt else 'no class'} is "
            "such a class. Give a larger set of real faces"
        )

    # Train one judge per fold, without the groups of that fold
    learnt_faces = faces.select(learnable)
    features, labels = describe_gradients(learnt_faces.images), learnt_faces.number_labels(learnt)
    fold = np.full(len(faces), -1, dtype=np.int64)
    folds = min(MAX_JUDGES, len(set(groups[learnable])))
    models = []
    with track("training judges", folds) as bar:
        for number, (fit, fold_rows) in enumerate(
            GroupKFold(folds).split(features, groups=groups[learnable])
        ):
            fold[np.flatnonzero(learnable)[fold_rows]] = number
            models.append(_fit_judge(features[fit], labels[fit], number))
            bar.update(number + 1)
    return Judges(learnt, tuple(models), fold, unit, tuple(groups))


def predict_by_judge(panel: Judges, faces: Faces) -> Float[np.ndarray, "judges n c"]:
    """Return the probabilities over the classes that each judge gives each image."""
    features = describe_gradients(faces.images)
    return np.stack([_predict(model, features, panel) for model in panel.models])


def predict_with_components(
    panel: Judges, faces: Faces
) -> tuple[Float[np.ndarray, "judges n c"], Float[np.ndarray, "judges n d"]]:
    """Return the probabilities of each judge, and the components that it computes them from.

    The components are float32: standardised gradients, projected on the principal components of
    the people that the judge learnt from. If one judge has fewer than others, zeros follow.
    """
    features = describe_gradients(faces.images)
    width = max(model.named_steps["pca"].n_components_ for model in panel.models)
    probabilities = np.zeros((len(panel.models), len(faces), len(panel.classes)))
    components = np.zeros((len(panel.models), len(faces), width), np.float32)
    for number, model in enumerate(panel.models if len(faces) else ()):
        projected = model[:-1].transform(features)
        probabilities[number][:, model.classes_] = model[-1].predict_proba(projected)
        components[number, :, : projected.shape[1]] = projected
    return probabilities, components


def predict_out_of_fold(panel: Judges, faces: Faces) -> Float[np.ndarray, "n c"]:
    """Return out-of-fold probabilities: each image is judged by the judge not trained on its group.

    `faces` are those that the panel learnt from. The probabilities are nan if the image's class
    could not be learnt.
    """
    probabilities = np.full((len(faces), len(panel.classes)), np.nan)
    features = describe_gradients(faces.images)
    for number, model in enumerate(panel.models):
        rows = np.flatnonzero(panel.fold == number)
        probabilities[rows] = _predict(model, features[rows], panel)
    return probabilities


def describe_gradients(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n d"]:
    """Return histograms of oriented gradients of the images in grey at 48 x 48: float32 [n, d]."""
    describe = cv2.HOGDescriptor(
        (HOG_WIDTH, HOG_WIDTH),
        (2 * HOG_CELL, 2 * HOG_CELL),
        (HOG_CELL, HOG_CELL),
        (HOG_CELL, HOG_CELL),
        HOG_BINS,
    )
    descriptors = np.zeros((len(images), describe.getDescriptorSize()), np.float32)
    for row, image in enumerate(np.asarray(images)):
        grey = image[0] if len(image) == 1 else image.mean(axis=0).astype(np.uint8)
        if grey.shape != (HOG_WIDTH, HOG_WIDTH):
            grey = np.asarray(
                Image.fromarray(grey).resize((HOG_WIDTH, HOG_WIDTH), Image.Resampling.BILINEAR)
            )
        descriptors[row] = np.ravel(describe.compute(np.ascontiguousarray(grey)))
    return descriptors


def _fit_judge(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], number: int
) -> Pipeline:
    rows = _sample_rows(labels, number)
    components = min(GRADIENT_COMPONENTS, len(rows) - 1, features.shape[1])
    return make_pipeline(
        StandardScaler(),
        PCA(components, random_state=0),
        LogisticRegression(C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=500),
    ).fit(features[rows], labels[rows])


def _sample_rows(labels: Int[np.ndarray, " n"], number: int) -> Int[np.ndarray, " m"]:
    """Return all rows, or up to MOST of them: an equal share per class, as far as there are any."""
    if len(labels) <= MAX_IMAGES_PER_JUDGE:
        return np.arange(len(labels))
    share = MAX_IMAGES_PER_JUDGE // len(set(labels))
    generator = make_rng("judges", number, len(labels))
    return np.sort(
        np.concatenate(
            [
                generator.permutation(np.flatnonzero(labels == label))[:share]
                for label in np.unique(labels)
            ]
        )
    )


def _predict(
    model: Pipeline, features: Float[np.ndarray, "n d"], panel: Judges
) -> Float[np.ndarray, "n c"]:
    probabilities = np.zeros((len(features), len(panel.classes)))
    if len(features):
        probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
