"""Judges of labels: classifiers that learn expressions from real people within seconds, each blind
to some of them.

Histograms of oriented gradients (Dalal & Triggs 2005), principal components, and a logistic
regression. On people never seen it reads as well as a small convolutional network of some minutes,
and it asks for no weights. It judges whether pictures show what others of their label show; it does
not know what a person feels.
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
from mien.progress import many, track
from mien.seeds import rng

FOLDS = 5
SIDE, CELL, BINS = 48, 8, 9  # pixels of the picture and of a cell, and directions
COMPONENTS = 60
STRENGTH = 0.1  # inverse of the regularisation
MOST = 6000  # images that a judge learns from; of more, so many are drawn, class by class


@dataclass(frozen=True)
class Judges:
    """Judges of `classes`, of which number k saw no image of the people (clips, images: `unit`) of
    fold k.

    `fold` is the fold of each image that they were made from, -1 for the images of classes that no
    judge could learn, because they stand in one group.
    """

    classes: tuple[str, ...]
    models: tuple[Pipeline, ...]
    fold: Int[np.ndarray, " n"]
    unit: str
    groups: tuple[str, ...]  # of each image

    @property
    def knows(self) -> Bool[np.ndarray, "judges c"]:
        """Which judge was shown which class: not one that only the people kept from it show."""
        places = np.arange(len(self.classes))
        return np.array([np.isin(places, model.classes_) for model in self.models])


def judges(faces: Faces, classes: Sequence[str] | None = None) -> Judges:
    """Return judges of real `faces`, five or as many as there are subjects (clips, images where
    those are not known).

    A class (of `classes`, or all) is judged if it occurs in two groups or more. Raises DataError
    unless there are two such classes.
    """
    unit, groups = grouped(faces)
    emotions = faces.index["emotion"].to_numpy(dtype=str)
    wanted = [name for name in faces.classes if classes is None or name in classes]
    learnt = tuple(name for name in wanted if len(set(groups[emotions == name])) > 1)
    kept = np.isin(emotions, learnt)
    if len(learnt) < 2:
        raise DataError(
            f"judges need two classes or more that two {unit}s or more show, and of "
            f"{many(len(faces), 'image')} "
            f"{'only ' + learnt[0] if learnt else 'no class'} is; give a larger set of real faces"
        )
    shown = faces.select(kept)
    seen, labels = gradients(shown.images), shown.labels(learnt)
    parts = np.full(len(faces), -1, dtype=np.int64)
    folds = min(FOLDS, len(set(groups[kept])))
    models = []
    with track("training judges", folds) as bar:
        for number, (fit, asked) in enumerate(GroupKFold(folds).split(seen, groups=groups[kept])):
            parts[np.flatnonzero(kept)[asked]] = number
            models.append(_fit(seen[fit], labels[fit], number))
            bar.update(number + 1)
    return Judges(learnt, tuple(models), parts, unit, tuple(groups))


def ask(panel: Judges, faces: Faces) -> Float[np.ndarray, "judges n c"]:
    """Return what each judge thinks of each image: probabilities over the classes."""
    seen = gradients(faces.images)
    return np.stack([_probabilities(model, seen, panel) for model in panel.models])


def unseen(panel: Judges, faces: Faces) -> Float[np.ndarray, "n c"]:
    """Return what the one judge that saw nothing of its group thinks of each image that they were
    made from.

    nan where there is none: the image's class could not be learnt.
    """
    found = np.full((len(faces), len(panel.classes)), np.nan)
    seen = gradients(faces.images)
    for number, model in enumerate(panel.models):
        rows = np.flatnonzero(panel.fold == number)
        found[rows] = _probabilities(model, seen[rows], panel)
    return found


def gradients(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n d"]:
    """Return histograms of oriented gradients, float32 [n, 900], of the images in grey at 48 x
    48.
    """
    describe = cv2.HOGDescriptor(
        (SIDE, SIDE), (2 * CELL, 2 * CELL), (CELL, CELL), (CELL, CELL), BINS
    )
    found = np.zeros((len(images), describe.getDescriptorSize()), np.float32)
    for place, image in enumerate(np.asarray(images)):
        grey = image[0] if len(image) == 1 else image.mean(axis=0).astype(np.uint8)
        if grey.shape != (SIDE, SIDE):
            grey = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        found[place] = np.ravel(describe.compute(np.ascontiguousarray(grey)))
    return found


def grouped(faces: Faces) -> tuple[str, np.ndarray]:
    """Return what is kept together, subjects if all are known, else clips or images, and each
    image's own.
    """
    index = faces.index
    if (index["subject"] != "").all():
        return "subject", index["subject"].to_numpy(dtype=str)
    clips = index["clip"].where(index["clip"] != "", index["key"]).to_numpy(dtype=str)
    return ("clip" if (index["clip"] != "").all() else "image"), clips


def _fit(seen: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], number: int) -> Pipeline:
    rows = _some(labels, number)
    components = min(COMPONENTS, len(rows) - 1, seen.shape[1])
    return make_pipeline(
        StandardScaler(),
        PCA(components, random_state=0),
        LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500),
    ).fit(seen[rows], labels[rows])


def _some(labels: Int[np.ndarray, " n"], number: int) -> Int[np.ndarray, " m"]:
    """Return all rows, or of more than MOST an equal share a class as far as it goes."""
    if len(labels) <= MOST:
        return np.arange(len(labels))
    share = MOST // len(set(labels))
    dealer = rng("judges", number, len(labels))
    return np.sort(
        np.concatenate(
            [dealer.permutation(np.flatnonzero(labels == one))[:share] for one in np.unique(labels)]
        )
    )


def _probabilities(
    model: Pipeline, seen: Float[np.ndarray, "n d"], panel: Judges
) -> Float[np.ndarray, "n c"]:
    found = np.zeros((len(seen), len(panel.classes)))
    if len(seen):
        found[:, model.classes_] = model.predict_proba(seen)
    return found
