"""Judges of labels: classifiers that learn from real people within seconds.

Each judge learns nothing from some of these people. It is made of histograms of oriented gradients
(Dalal & Triggs 2005), principal components, and a logistic regression. On held-out people it is as
accurate as a small convolutional network that trains for minutes, and it needs no weights. It
judges whether pictures show what others with their label show; it does not know what a person
feels. Of clips and optical flow it sees every channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from mien.errors import DataError
from mien.faces import Faces
from mien.findings import list_some
from mien.prepare.inputs import INPUTS
from mien.runs.progress import quantify, track
from mien.seeds import make_rng
from mien.strips import split_channel

if TYPE_CHECKING:
    import sklearn.pipeline

MAX_JUDGES = 5  # judges of a panel, at most

# pixels per side of the picture and of a cell; directions of gradients
HOG_WIDTH, HOG_CELL, HOG_BINS = (48, 8, 9)

# The other parameters of cv2.HOGDescriptor, at its defaults, up to the one for signed gradients:
# the aperture and sigma of a smoothing, L2-Hys and its limit, gamma correction, and levels
HOG_DEFAULTS = (1, -1.0, cv2.HOGDESCRIPTOR_L2HYS, 0.2, False, cv2.HOGDESCRIPTOR_DEFAULT_NLEVELS)

GRADIENT_COMPONENTS = 60  # principal components of the gradients, at most

INVERSE_REGULARISATION = 0.1  # inverse of the regularisation

# images that a judge learns from, at most; they are drawn class by class
MAX_IMAGES_PER_JUDGE = 6000


@dataclass(frozen=True)
class Judges:
    """A panel of judges of `classes`: judge k learnt nothing from the people of fold k.

    If people are not known, `unit` says what is kept together instead: clips or images.
    `fold` is the fold of each image that the panel learnt from, -1 for images of classes that
    no judge could learn, because only one group shows them. `channels` are those of the faces that
    the panel learnt from, empty for plain pictures.
    """

    classes: tuple[str, ...]
    models: tuple["sklearn.pipeline.Pipeline", ...]
    fold: Int[np.ndarray, " n"]
    unit: str
    groups: tuple[str, ...]  # of each image
    channels: tuple[str, ...] = ()

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
    from sklearn.model_selection import GroupKFold  # takes a second to load

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
    features = describe_gradients(learnt_faces.images, faces.channels)
    labels = learnt_faces.number_labels(learnt)
    fold = np.full(len(faces), -1, dtype=np.int64)
    folds = min(MAX_JUDGES, len(set(groups[learnable])))
    models = []
    with track("training judges", folds) as bar:
        for number, (fit, fold_rows) in enumerate(
            GroupKFold(folds).split(features, groups=groups[learnable])
        ):
            fold[np.flatnonzero(learnable)[fold_rows]] = number
            models.append(fit_judge(features[fit], labels[fit], number))
            bar.update(number + 1)
    return Judges(learnt, tuple(models), fold, unit, tuple(groups), faces.channels)


def predict_by_judge(panel: Judges, faces: Faces) -> Float[np.ndarray, "judges n c"]:
    """Return the probabilities over the classes that each judge gives each image."""
    features = _describe_faces(panel, faces)
    return np.stack([_predict(model, features, panel) for model in panel.models])


def predict_with_components(
    panel: Judges, faces: Faces
) -> tuple[Float[np.ndarray, "judges n c"], Float[np.ndarray, "judges n d"]]:
    """Return the probabilities of each judge, and the components that it computes them from.

    The components are float32: standardised gradients, projected on the principal components of
    the people that the judge learnt from. If one judge has fewer than others, zeros follow.
    """
    features = _describe_faces(panel, faces)
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
    features = _describe_faces(panel, faces)
    for number, model in enumerate(panel.models):
        rows = np.flatnonzero(panel.fold == number)
        probabilities[rows] = _predict(model, features[rows], panel)
    return probabilities


def describe_gradients(
    images: UInt8[np.ndarray, "n c h w"], channels: Sequence[str] = ()
) -> Float[np.ndarray, "n d"]:
    """Return histograms of oriented gradients of the images at 48 x 48 pixels: float32 [n, d].

    Plain pictures, which have no names of `channels`, are described in grey. Of all other images
    each channel is described. Optical flow and other movement have signed gradients (from 0 to 360
    degrees), since a movement up and one down differ only in these. What a clip shows at its first
    moment says who it is, so of its appearance only the changes since then are described.
    """
    if not channels:
        return _describe_planes(images)
    pairs = [split_channel(name) for name in channels]
    is_clip = len({moment for _, moment in pairs}) > 1
    parts: list[np.ndarray] = []
    first: dict[str, np.ndarray] = {}  # of each input that shows no movement
    for number, (shown, _) in enumerate(pairs):
        moves = shown in INPUTS and INPUTS[shown].clips
        described = _describe_planes(images[:, [number]], signed=moves)
        if moves or not is_clip:
            parts.append(described)
        elif shown in first:
            parts.append(described - first[shown])
        else:
            first[shown] = described
    return np.concatenate(parts, axis=1)


def _describe_faces(panel: Judges, faces: Faces) -> Float[np.ndarray, "n d"]:
    """Return what the judges of a panel see of `faces`; raises DataError for other channels."""
    if panel.channels and faces.size[0] != len(panel.channels):
        raise DataError(
            f"judges that learnt from the channels {list_some(list(panel.channels), 4)} need faces "
            f"that show the same; given: {list_some(list(faces.shown), 4)}"
        )
    return describe_gradients(faces.images, panel.channels)


def _describe_planes(
    images: UInt8[np.ndarray, "n c h w"], signed: bool = False
) -> Float[np.ndarray, "n d"]:
    """Return the histograms of images in grey (the mean over their channels).

    Directions of gradients are from 0 to 360 degrees if they are signed, else from 0 to 180.
    """
    describe = cv2.HOGDescriptor(
        (HOG_WIDTH, HOG_WIDTH),
        (2 * HOG_CELL, 2 * HOG_CELL),
        (HOG_CELL, HOG_CELL),
        (HOG_CELL, HOG_CELL),
        HOG_BINS,
        *HOG_DEFAULTS,
        signed,
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


def fit_judge(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], number: int
) -> "sklearn.pipeline.Pipeline":
    """Return a judge that has learnt labels from features of gradients.

    `number` says which images it learns from, where there are more than MAX_IMAGES_PER_JUDGE.
    """
    from sklearn.decomposition import PCA  # takes a second to load, which few commands need
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = _sample_rows(labels, number)
    components = min(GRADIENT_COMPONENTS, len(rows) - 1, features.shape[1])
    return make_pipeline(
        StandardScaler(),
        PCA(components, random_state=0),
        LogisticRegression(C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=500),
    ).fit(features[rows], labels[rows])


def _sample_rows(labels: Int[np.ndarray, " n"], number: int) -> Int[np.ndarray, " m"]:
    """Return all rows, or MAX_IMAGES_PER_JUDGE of them.

    Each class has an equal share, as far as it has as many.
    """
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
    model: "sklearn.pipeline.Pipeline", features: Float[np.ndarray, "n d"], panel: Judges
) -> Float[np.ndarray, "n c"]:
    probabilities = np.zeros((len(features), len(panel.classes)))
    if len(features):
        probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
