"""Collapse: whether a generator draws the same face again and again.

It is noticed while the generator learns. Precision and variety are measured for each class, on
small versions of the images, so that a check takes a second. They are no measure of quality: the
audit has those.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CHECKS = 8  # how often a training is checked

CHECKED_IMAGES = 24  # images of a class that are drawn, and real ones they are compared with

FEWEST_IMAGES = 8  # real images of a class; fewer say nothing about its variety

SMALL_SIDE = 12  # height and width of the small versions in pixels, at most

NEIGHBOURS = 3  # the radius around a real image reaches to its third neighbour

LEAST_VARIETY = 0.5  # of the variety of real images; below it a class has collapsed

LEAST_PRECISION = 0.1  # below it, the images of a class are unlike real ones

COLLAPSE_COLUMNS = ["step", "images_seen", "emotion", "precision", "variety"]


def shrink(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Return small versions of images as vectors: means over squares of pixels."""
    height, width = (min(SMALL_SIDE, side) for side in x.shape[2:])
    return F.adaptive_avg_pool2d(x, (height, width)).flatten(1)


def measure_precision(drawn: Float[Tensor, "n c h w"], real: Float[Tensor, "m c h w"]) -> float:
    """Return the share of drawn images that lie among the real ones.

    A drawn image does if it is nearer to a real image than that image's third nearest real
    neighbour is (Kynkäänniemi et al. 2019, arXiv:1904.06991, Eq. 1). Needs four real images.
    """
    seen, known = shrink(drawn), shrink(real)
    among = torch.cdist(known, known).sort(dim=1).values
    radii = among[:, NEIGHBOURS]  # the first of each row is the image itself
    return float((torch.cdist(seen, known) <= radii).any(dim=1).float().mean())


def measure_variety(drawn: Float[Tensor, "n c h w"], real: Float[Tensor, "m c h w"]) -> float:
    """Return the mean distance between two drawn images, divided by that between two real ones.

    It is 1 if drawn images differ as much as real ones, and 0 if they are all equal. It is not a
    number if the real ones are all equal.
    """
    distances = [float(torch.pdist(shrink(images)).mean()) for images in (drawn, real)]
    return distances[0] / distances[1] if distances[1] > 0 else float("nan")


def find_collapsed(rows: Sequence[Sequence[Any]]) -> dict[str, list[str]]:
    """Return the classes that have collapsed by the last check, and those unlike real images.

    `rows` are those of COLLAPSE_COLUMNS, the last check last.
    """
    last = [row for row in rows if row[0] == rows[-1][0]]
    return {
        "collapsed": [row[2] for row in last if row[4] < LEAST_VARIETY],
        "unlike": [row[2] for row in last if row[3] < LEAST_PRECISION],
    }


def describe_collapse(facts: Mapping[str, Sequence[str]]) -> str:
    """Return the warnings about classes in words; "no class has collapsed" if there are none."""
    parts = []
    if facts["collapsed"]:
        parts.append(f"warning: collapsed in {', '.join(facts['collapsed'])}")
    if facts["unlike"]:
        parts.append(f"warning: unlike real images in {', '.join(facts['unlike'])}")
    return ", ".join(parts) or "no class has collapsed"
