"""Distances between sets of features: Fréchet, kernel, precision and recall.

Read every number on the scale from real against real images (the floor) to held-out people.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mien.errors import DataError
from mien.runs.progress import quantify

DISTANCE_ROWS = 512  # rows whose distances are in memory at once


def compute_frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Return the Fréchet distance of the Gaussians that fit two sets of features.

    As in Heusel et al. 2017 (arXiv:1706.08500): |mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a
    S_b)^(1/2)), covariances with n - 1. It is biased upwards for few images, by about the same
    amount for equal numbers. Raises DataError for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise DataError(
            f"a Fréchet distance needs at least two images per side; given: {len(a)} and {len(b)}"
        )
    cov_a, cov_b = (np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b))
    means = (x.mean(axis=0, dtype=np.float64) for x in (a, b))
    return float(compute_gaussian_distance(next(means), cov_a, next(means), cov_b))


def compute_gaussian_distance(
    mean_a: Float[np.ndarray, "*some d"],
    cov_a: Float[np.ndarray, "*some d d"],
    mean_b: Float[np.ndarray, "*some d"],
    cov_b: Float[np.ndarray, "*some d d"],
) -> Float[np.ndarray, "*some"]:
    """Return the squared Fréchet distance of Gaussians, by their means and covariances."""
    # tr (S_a S_b)^(1/2) is the sum of singular values of S_a^(1/2) S_b^(1/2): real by construction,
    # and never negative.
    roots = np.linalg.svd(
        _take_matrix_root(cov_a) @ _take_matrix_root(cov_b), compute_uv=False
    ).sum(axis=-1)
    gap = np.square(mean_a - mean_b).sum(axis=-1)
    spread = np.trace(cov_a, axis1=-2, axis2=-1) + np.trace(cov_b, axis1=-2, axis2=-1)
    return np.asarray(gap + spread - 2 * roots)


def _take_matrix_root(matrix: Float[np.ndarray, "*some d d"]) -> Float[np.ndarray, "*some d d"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def compute_kernel_distance(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    weights_a: Float[np.ndarray, "draws n"],
    weights_b: Float[np.ndarray, "draws m"],
) -> tuple[float, Float[np.ndarray, " draws"]]:
    """Return the kernel distance of two sets of features, and that of each resample of them.

    It is the unbiased estimate of MMD² with the cubic kernel (x·y / d + 1)³, as in Bińkowski et al.
    2018 (arXiv:1801.01401, section 4); no image is paired with itself. `weights_a` and `weights_b`
    say how often each row is in each resample. The mean over draws of two sets from one source is 0
    at any size, so the distance may be negative. Raises DataError for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise DataError(
            f"a kernel distance needs at least two images per side; given: {len(a)} and {len(b)}"
        )
    aa, bb, ab = (compute_cubic_kernel(x, y) for x, y in ((a, a), (b, b), (a, b)))
    value = _compute_weighted_mmd(aa, bb, ab, np.ones((1, len(aa))), np.ones((1, len(bb))))
    return float(value[0]), _compute_weighted_mmd(aa, bb, ab, weights_a, weights_b)


def _compute_weighted_mmd(
    aa: Float[np.ndarray, "n n"],
    bb: Float[np.ndarray, "m m"],
    ab: Float[np.ndarray, "n m"],
    weights_a: Float[np.ndarray, "draws n"],
    weights_b: Float[np.ndarray, "draws m"],
) -> Float[np.ndarray, " draws"]:
    """Return the unbiased MMD² of each resample, from the kernel of all pairs of rows."""
    between = np.einsum("dm,dm->d", weights_a @ ab, weights_b) / (
        weights_a.sum(axis=1) * weights_b.sum(axis=1)
    )
    return _average_within(aa, weights_a) + _average_within(bb, weights_b) - 2 * between


def _average_within(
    gram: Float[np.ndarray, "n n"], weights: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Return the mean of a kernel over pairs of different rows, in each resample."""
    squares = np.square(weights)
    pairs = np.square(weights.sum(axis=1)) - squares.sum(axis=1)
    return (np.einsum("dn,dn->d", weights @ gram, weights) - squares @ np.diag(gram)) / pairs


def compute_cubic_kernel(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Return the cubic kernel (x·y / d + 1)³ of each pair of rows."""
    base = a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1
    return base * base * base


@dataclass(frozen=True)
class Neighbours:
    """Which images are within the k-nearest-neighbour distance ("reach") of which others.

    `near_real` [synthetic]: within reach of a real image; `reach_counts` [synthetic]: of how many;
    `near_synthetic` [real]: within reach of a synthetic image; `covered` [real]: a synthetic image
    is within its reach. The reach of an image is its distance to the k-th nearest image of its own
    side. The means of these are precision (`near_real`), recall (`near_synthetic`), density
    (`reach_counts` / k) and coverage (`covered`).
    """

    k: int
    near_real: Bool[np.ndarray, " m"]
    reach_counts: Int[np.ndarray, " m"]
    near_synthetic: Bool[np.ndarray, " n"]
    covered: Bool[np.ndarray, " n"]

    @property
    def density(self) -> Float[np.ndarray, " m"]:
        """The contribution of each generated image to density."""
        return self.reach_counts / self.k


def find_neighbours(
    real: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "m d"], k: int
) -> Neighbours:
    """Return which images are within reach of which, for precision, recall, density and coverage.

    Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv:1904.06991), density and
    coverage those of Naeem et al. 2020 (arXiv:2002.09797). Frames of one clip shrink the reach:
    pass one image per clip. A distance equal to a reach counts as within it. Raises DataError
    unless there are more than k images per side.
    """
    if min(len(real), len(synthetic)) <= k:
        raise DataError(
            f"precision and recall need more than {quantify(k, 'image')} per side; given: "
            f"{len(real)} and {len(synthetic)}"
        )

    # The reach of every image of both sides
    real_reach, synthetic_reach = measure_reach(real, k), measure_reach(synthetic, k)

    # Compare each distance between the sides with the reach of either end
    reach_counts = np.zeros(len(synthetic), dtype=np.int64)
    near_synthetic, covered = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for first, block in iterate_distances(real, synthetic):
        rows = slice(first, first + len(block))
        within = block <= real_reach[rows, None]
        reach_counts += within.sum(axis=0)
        covered[rows] = within.any(axis=1)
        near_synthetic[rows] = (block <= synthetic_reach[None]).any(axis=1)
    return Neighbours(k, reach_counts > 0, reach_counts, near_synthetic, covered)


def measure_reach(rows: Float[np.ndarray, "n d"], k: int) -> Float[np.ndarray, " n"]:
    """Return the distance of each row to its k-th nearest other row."""
    return np.concatenate(
        [np.partition(block, k, axis=1)[:, k] for _, block in iterate_distances(rows, rows)]
    )


def compute_mean_similarity(
    rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]
) -> float:
    """Return the mean cosine of all pairs of different rows, as directions from `centre`.

    It is 0 at random, and 1 if all rows are in one direction. Raises DataError for fewer than two
    rows.
    """
    if len(rows) < 2:
        raise DataError(f"a similarity of pairs needs at least two images; given: {len(rows)}")
    directions = compute_directions(rows, centre)
    total = directions.sum(axis=0)
    return float((total @ total - len(directions)) / (len(directions) * (len(directions) - 1)))


def compute_vendi_score(rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]) -> float:
    """Return the Vendi score: the effective number of different images.

    It is the exponential of the entropy of the eigenvalues of K / n, where K holds the cosines of
    all pairs as directions from `centre` (Friedman & Dieng 2023, arXiv:2210.02410). It ranges from
    1 (all the same) to n (all at right angles). Raises DataError for no rows.
    """
    if not len(rows):
        raise DataError("a Vendi score needs at least one image; given: none")
    directions = compute_directions(rows, centre)
    # Both products have the same eigenvalues, except zeros: take the smaller one
    gram = (
        directions @ directions.T
        if len(directions) < directions.shape[1]
        else directions.T @ directions
    )
    values = np.linalg.eigvalsh(gram / len(directions))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def compute_directions(
    rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "n d"]:
    """Return the rows as directions of length 1 from `centre`."""
    offsets = rows.astype(np.float64) - centre
    return offsets / np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), 1e-12)


def iterate_distances(
    a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"]
) -> Iterator[tuple[int, Float[np.ndarray, "_ n"]]]:
    """Yield the Euclidean distances of rows of `a` to all rows of `b`, a block of rows at a time.

    Each block comes with the position of its first row.
    """
    b = b.astype(np.float64)
    squares = np.square(b).sum(axis=1)
    for first in range(0, len(a), DISTANCE_ROWS):
        rows = a[first : first + DISTANCE_ROWS].astype(np.float64)
        products = np.square(rows).sum(axis=1)[:, None] + squares[None] - 2 * rows @ b.T
        yield first, np.sqrt(products.clip(0))
