"""Centres of classes: the mean face and offsets, which are given to a network.

It is the mean face, and for each class an offset from it. Labels come late in a training: what an
expression changes is a small share of what differs between faces, so the loss hardly depends on it.
With its offset a class is right on average from the first step on, and the network learns the
difference from that.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from mien.faces import EMOTIONS, Faces, name_units

# A class's offset and a subject's mean are estimates of random effects, shrunk towards zero by the
# ratio of the variance within them to the variance between them: to n / (n + ratio) of their value
# for n images. What expressions change is some 5 % of the variance of faces, and what subjects
# change about half.
CLASS_RATIO, SUBJECT_RATIO = 10.0, 1.0

# Fewer subjects than this have no class offset: it would be their faces, rather than an expression
MIN_OFFSET_SUBJECTS = 5

BLOCK_IMAGES = 1024  # images that are converted to numbers at once


def compute_centres(
    faces: Faces, residual: bool, class_offsets: bool
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "labels c h w"], float]:
    """Return the mean face, the offset of each class, and the deviation of all pixels from both.

    All three are on the scale from -1 to 1. The offsets have a row for each position in EMOTIONS,
    and a last one for no label, which is zero. Unless `class_offsets`, all are zero. Unless
    `residual`, the mean face is zero, and the deviation is around the mean of all pixels.
    """
    mean = _average(faces.images, np.full((1, len(faces)), 1 / len(faces)))[0]
    offsets = np.zeros((len(EMOTIONS) + 1, len(mean)))
    labels = faces.number_labels()
    if class_offsets:
        offsets[:-1] = estimate_offsets(faces, labels)
    centres = (mean if residual else np.full_like(mean, mean.mean())) + offsets

    # The deviation, block by block
    squares = 0.0
    for first in range(0, len(faces), BLOCK_IMAGES):
        rows = slice(first, first + BLOCK_IMAGES)
        squares += float(np.square(_scale(faces.images[rows]) - centres[labels[rows]]).sum())
    variance = squares / (len(faces) * len(mean))

    face = mean if residual else np.zeros_like(mean)
    shape = faces.images.shape[1:]
    return (
        torch.from_numpy(face).float().reshape(shape),
        torch.from_numpy(offsets).float().reshape(-1, *shape),
        max(variance, 1e-6) ** 0.5,
    )


def estimate_offsets(
    faces: Faces, labels: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, "emotions pixels"]:
    """Return what each class adds to a face, with the effect of the subjects taken out.

    The model is x = mean + subject + class + rest, with normal effects, solved for the classes
    (Henderson 1975, "Best linear unbiased estimation and prediction under a selection model"). So a
    class that only some subjects show has little of these subjects in it. The rows of classes that
    fewer than MIN_OFFSET_SUBJECTS subjects show are zero; an image of an unknown subject counts as
    a subject of its own.
    """
    # How many images each subject shows of each class that has an offset
    units, counts = _count_images(faces, labels)
    wide = (counts > 0).sum(axis=0) >= MIN_OFFSET_SUBJECTS
    counts *= wide
    offsets = np.zeros((len(EMOTIONS), int(np.prod(faces.size))))
    if not wide.any():
        return offsets

    # Henderson's equations with the subjects eliminated: A offsets = weights x
    images = np.bincount(units)
    shares = counts / (images + SUBJECT_RATIO)[:, None]  # of a subject's mean in each class
    left = np.diag(counts.sum(axis=0) + CLASS_RATIO) - counts.T @ shares
    weights = np.eye(len(EMOTIONS))[labels] * wide - shares[units]
    weights -= weights.mean(axis=0)  # of images minus the mean face
    right = _average(faces.images, weights.T)
    offsets[wide] = np.linalg.solve(left[np.ix_(wide, wide)], right[wide])
    return offsets


def name_classes_without_offset(faces: Faces) -> str:
    """Return a sentence that names the classes of too few subjects for an offset; else ""."""
    _, counts = _count_images(faces, faces.number_labels())
    subjects = {name: int((counts[:, EMOTIONS.index(name)] > 0).sum()) for name in faces.classes}
    few = [f"{name} ({count})" for name, count in subjects.items() if count < MIN_OFFSET_SUBJECTS]
    return (
        f"without the offset of its class, because fewer than {MIN_OFFSET_SUBJECTS} subjects show "
        f"it: {', '.join(few)}"
        if few
        else ""
    )


def _count_images(
    faces: Faces, labels: Int64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "subjects emotions"]]:
    """Return the number of each image's subject, and how many images each shows of each class."""
    _, units = np.unique(name_units(faces.index, "subject").to_numpy(), return_inverse=True)
    counts = np.zeros((units.max() + 1, len(EMOTIONS)))
    np.add.at(counts, (units, labels), 1)
    return units, counts


def _average(
    images: UInt8[np.ndarray, "n c h w"], weights: Float[np.ndarray, "k n"]
) -> Float[np.ndarray, "k pixels"]:
    """Return the sum of all images, on the scale from -1 to 1, with each row of `weights`."""
    total = np.zeros((len(weights), int(np.prod(images.shape[1:]))))
    for first in range(0, len(images), BLOCK_IMAGES):
        rows = slice(first, first + BLOCK_IMAGES)
        total += weights[:, rows] @ _scale(images[rows])
    return total


def _scale(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n pixels"]:
    return images.reshape(len(images), -1) / 127.5 - 1


def make_zero_offsets(mean: Float[Tensor, "c h w"]) -> Float[Tensor, "labels c h w"]:
    """Return the offsets of a generator without class offsets."""
    return mean.new_zeros(len(EMOTIONS) + 1, *mean.shape)
