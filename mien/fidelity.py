"""How near generated images come to real ones, in any space of features: distances, coverage, and copying.

A value means something between two others: that of real images against real ones (the floor), and that of people who
were never seen.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from mien.errors import DataError

BLOCK = 512  # rows whose distances are held at once


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Return the Fréchet distance of the Gaussians that fit two sets of features.

    As in Heusel et al. 2017 (arXiv:1706.08500): |mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), covariances
    with n - 1. It is too large for few images, by about the same for equal numbers. Raises DataError for fewer than two
    rows.
    """
    if min(len(a), len(b)) < 2:
        raise DataError(f"a Fréchet distance needs two images or more a side; given: {len(a)} and {len(b)}")
    one, two = (np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b))
    gap = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    # The root's trace is the sum of singular values of root(S_a) root(S_b): real by construction, and never below zero.
    roots = np.linalg.svd(_root(one) @ _root(two), compute_uv=False)
    return float(gap @ gap + np.trace(one) + np.trace(two) - 2 * roots.sum())


def _root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def precision_recall(real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "m d"], k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    Precision is the share of `made` within the distance of any real image to its k-th nearest real one, recall the same
    with the sides exchanged. Frames of one clip shrink these distances: give one image a clip.

    Raises DataError unless there are more than k images a side.
    """
    if min(len(real), len(made)) <= k:
        raise DataError(f"precision and recall need more than {k} images a side; given: {len(real)} and {len(made)}")
    return _covered(real, made, k), _covered(made, real, k)


def _covered(ground: Float[np.ndarray, "n d"], asked: Float[np.ndarray, "m d"], k: int) -> float:
    """Return the share of `asked` that lies within the k-th nearest neighbour's distance of any row of `ground`."""
    radii = np.concatenate([np.partition(block, k, axis=1)[:, k] for _, block in distances(ground, ground)])
    return float(np.mean(np.concatenate([(block <= radii[None]).any(axis=1) for _, block in distances(asked, ground)])))


def copied(made: Float[np.ndarray, "m d"], real: Float[np.ndarray, "n d"], clips: list[str]) -> Float[np.ndarray, " m"]:
    """Return for each image the distance to the nearest real one over that to the nearest of another clip.

    Near 0 it is a copy, or between frames of one clip; near 1 it is no nearer to that clip than to others. Compared
    with the second nearest image, as usual, a blend of two frames of one clip would look new. Raises DataError unless
    there are two clips.
    """
    owner = np.array(clips)
    if len(set(clips)) < 2:
        raise DataError("copies are told by the nearest clip and the next, and there is only one clip")
    found = []
    for _, block in distances(made, real):
        nearest = block.argmin(axis=1)
        others = np.where(owner[nearest][:, None] == owner[None], np.inf, block).min(axis=1)
        found.append(block.min(axis=1) / np.maximum(others, 1e-12))
    return np.concatenate(found) if found else np.zeros(0)


def distances(
    a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"]
) -> Iterator[tuple[int, Float[np.ndarray, "_ n"]]]:
    """Yield the Euclidean distances of rows of `a` to all of `b`: some rows at a time, with the first one's place."""
    b = b.astype(np.float64)
    squares = np.square(b).sum(axis=1)
    for first in range(0, len(a), BLOCK):
        part = a[first : first + BLOCK].astype(np.float64)
        products = np.square(part).sum(axis=1)[:, None] + squares[None] - 2 * part @ b.T
        yield first, np.sqrt(products.clip(0))
