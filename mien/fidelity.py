"""How near generated images come to real ones, in any space of features: distances, coverage,
variety, and copying.

A value means something between two others: that of real images against real ones (the floor), and
that of people who were never seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mien.errors import DataError
from mien.progress import many

BLOCK = 512  # rows whose distances are held at once


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Return the Fréchet distance of the Gaussians that fit two sets of features.

    As in Heusel et al. 2017 (arXiv:1706.08500): |mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a
    S_b)^(1/2)), covariances with n - 1. It is too large for few images, by about the same for equal
    numbers. Raises DataError for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise DataError(
            f"a Fréchet distance needs two images or more a side; given: {len(a)} and {len(b)}"
        )
    one, two = (np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b))
    means = (x.mean(axis=0, dtype=np.float64) for x in (a, b))
    return float(gaussian_distance(next(means), one, next(means), two))


def gaussian_distance(
    mean_a: Float[np.ndarray, "*some d"],
    cov_a: Float[np.ndarray, "*some d d"],
    mean_b: Float[np.ndarray, "*some d"],
    cov_b: Float[np.ndarray, "*some d d"],
) -> Float[np.ndarray, "*some"]:
    """Return the squared Fréchet distance of Gaussians, by their means and covariances."""
    # The root's trace is the sum of singular values of root(S_a) root(S_b): real by construction,
    # and never below zero.
    roots = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum(axis=-1)
    gap = np.square(mean_a - mean_b).sum(axis=-1)
    spread = np.trace(cov_a, axis1=-2, axis2=-1) + np.trace(cov_b, axis1=-2, axis2=-1)
    return np.asarray(gap + spread - 2 * roots)


def _root(matrix: Float[np.ndarray, "*some d d"]) -> Float[np.ndarray, "*some d d"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Return the kernel distance of two sets of features: the unbiased estimate of MMD² (Bińkowski
    et al. 2018).

    With the cubic kernel (x·y / d + 1)³ (arXiv:1801.01401, section 4). Its mean over draws of two
    sets from one source is 0 at any size, so it may be below 0. Raises DataError for fewer than two
    rows.
    """
    if min(len(a), len(b)) < 2:
        raise DataError(
            f"a kernel distance needs two images or more a side; given: {len(a)} and {len(b)}"
        )
    return float(_apart(cubic(a, a)) + _apart(cubic(b, b)) - 2 * cubic(a, b).mean())


def _apart(gram: Float[np.ndarray, "n n"]) -> float:
    """Return the mean of a kernel over pairs of different rows."""
    return (gram.sum() - np.trace(gram)) / (len(gram) * (len(gram) - 1))


def cubic(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Return the cubic kernel (x·y / d + 1)³ of each pair of rows."""
    base = a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1
    return base * base * base


def precision_recall(
    real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "m d"], k: int = 3
) -> tuple[float, float]:
    """Return improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    Precision is the share of `made` within the distance of any real image to its k-th nearest real
    one, recall the same with the sides exchanged. Frames of one clip shrink these distances: give
    one image a clip.

    Raises DataError unless there are more than k images a side.
    """
    found = neighbours(real, made, k)
    return float(found.typical.mean()), float(found.reached.mean())


@dataclass(frozen=True)
class Neighbours:
    """What lies within whose k nearest neighbours.

    `typical` [made]: within reach of a real image; `around` [made]: of how many; `reached` [real]:
    within reach of an image made; `covered` [real]: an image made lies within its reach. Reach is
    the distance to the k-th nearest of the own side. Means: of `typical` precision, of `reached`
    recall, of `around` over k density, of `covered` coverage.
    """

    k: int
    typical: Bool[np.ndarray, " m"]
    around: Int[np.ndarray, " m"]
    reached: Bool[np.ndarray, " n"]
    covered: Bool[np.ndarray, " n"]

    @property
    def density(self) -> Float[np.ndarray, " m"]:
        """Density's part of each image made."""
        return self.around / self.k


def neighbours(
    real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "m d"], k: int
) -> Neighbours:
    """Return who lies within whose k nearest neighbours, for precision, recall, density and
    coverage.

    The last two are those of Naeem et al. 2020 (arXiv:2002.09797). What lies just at a reach lies
    within it. Raises DataError unless there are more than k images a side.
    """
    if min(len(real), len(made)) <= k:
        raise DataError(
            f"precision and recall need more than {many(k, 'image')} a side; given: {len(real)} "
            f"and {len(made)}"
        )
    own, theirs = reach(real, k), reach(made, k)
    around = np.zeros(len(made), dtype=np.int64)
    reached, covered = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for first, block in distances(real, made):
        rows = slice(first, first + len(block))
        within = block <= own[rows, None]
        around += within.sum(axis=0)
        covered[rows] = within.any(axis=1)
        reached[rows] = (block <= theirs[None]).any(axis=1)
    return Neighbours(k, around > 0, around, reached, covered)


def reach(rows: Float[np.ndarray, "n d"], k: int) -> Float[np.ndarray, " n"]:
    """Return the distance of each row to the k-th nearest of the others."""
    return np.concatenate(
        [np.partition(block, k, axis=1)[:, k] for _, block in distances(rows, rows)]
    )


def similarity(rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]) -> float:
    """Return the mean cosine of all pairs of different rows as seen from `centre`: 0 at random, 1
    for one direction.

    Raises DataError for fewer than two rows.
    """
    if len(rows) < 2:
        raise DataError(f"a similarity of pairs needs two images or more; given: {len(rows)}")
    ways = directions(rows, centre)
    total = ways.sum(axis=0)
    return float((total @ total - len(ways)) / (len(ways) * (len(ways) - 1)))


def vendi(rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]) -> float:
    """Return the Vendi score (Friedman & Dieng 2023, arXiv:2210.02410): how many different images
    there are in effect.

    From 1, all the same, to n, all at right angles: the exponential of the entropy of the
    eigenvalues of K / n, K being the cosines of all pairs as seen from `centre`. Raises DataError
    for no rows.
    """
    if not len(rows):
        raise DataError("a Vendi score needs an image or more, and was given none")
    ways = directions(rows, centre)
    gram = (
        ways @ ways.T if len(ways) < ways.shape[1] else ways.T @ ways
    )  # the same eigenvalues but for zeros
    values = np.linalg.eigvalsh(gram / len(ways))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def directions(
    rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "n d"]:
    """Return the rows as directions of length 1 from `centre`."""
    ways = rows.astype(np.float64) - centre
    return ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-12)


def copied(
    made: Float[np.ndarray, "m d"], real: Float[np.ndarray, "n d"], clips: list[str]
) -> Float[np.ndarray, " m"]:
    """Return for each image the distance to the nearest real one over that to the nearest of
    another clip.

    Near 0 it is a copy, or between frames of one clip; near 1 it is no nearer to that clip than to
    others. Compared with the second nearest image, as usual, a blend of two frames of one clip
    would look new. Raises DataError unless there are two clips.
    """
    owner = np.array(clips)
    if len(set(clips)) < 2:
        raise DataError(
            "copies are told by the nearest clip and the next, and there is only one clip"
        )
    found = []
    for _, block in distances(made, real):
        nearest = block.argmin(axis=1)
        others = np.where(owner[nearest][:, None] == owner[None], np.inf, block).min(axis=1)
        found.append(block.min(axis=1) / np.maximum(others, 1e-12))
    return np.concatenate(found) if found else np.zeros(0)


def distances(
    a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"]
) -> Iterator[tuple[int, Float[np.ndarray, "_ n"]]]:
    """Yield the Euclidean distances of rows of `a` to all of `b`: some rows at a time, with the
    first one's place.
    """
    b = b.astype(np.float64)
    squares = np.square(b).sum(axis=1)
    for first in range(0, len(a), BLOCK):
        part = a[first : first + BLOCK].astype(np.float64)
        products = np.square(part).sum(axis=1)[:, None] + squares[None] - 2 * part @ b.T
        yield first, np.sqrt(products.clip(0))
