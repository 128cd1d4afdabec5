"""Two published tests of copying, made for video: authenticity, and the test of data copying C_T."""

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.cluster import KMeans

from mien.audit.people import Level, People, resampled
from mien.audit.search import Match
from mien.seeds import seed

PER_CELL = 3  # held-out people a cell of C_T, so that most cells have some
CELLS = 10  # of C_T at most
FEWEST = 10  # images a side that a cell of C_T needs to count


def authentic(found: Match, own: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " m"]:
    """Return which images are authentic (Alaa et al. 2022, arXiv:2102.08921): no nearer to a training image than others.

    `own` is the distance of each training image to the nearest one outside its own clip. The paper leaves out the image
    alone; among frames of video that calls copies authentic, since their originals' neighbours are nearer still.
    """
    return found.distance > own[found.nearest]


def cells(train: Float[np.ndarray, "n d"], people: int) -> Int[np.ndarray, " n"]:
    """Return the cell of each training image, by k-means: one cell for three held-out people, 10 at most."""
    number = min(CELLS, max(1, people // PER_CELL), len(train))
    model = KMeans(number, n_init=2, random_state=seed("cells", number) % 2**32)
    return np.asarray(model.fit_predict(train.astype(np.float32)), dtype=np.int64)


def c_t(made: Match, test: Match, cell: Int[np.ndarray, " n"], people: People) -> Level:
    """Return C_T (Meehan et al. 2020, arXiv:2004.05675): far below 0 where images are nearer to training than others.

    In each cell the distances of generated images to training are held against those of held-out people's, by the z of
    Mann and Whitney's U without a correction for ties; the mean is weighted by the cells' share of held-out images. An
    image lies in the cell of its nearest training image. Cells with fewer than ten images of either side are left out; nan
    if that leaves none. z takes images for independent, which frames are not: judge by the interval, over people.
    """
    weights, scores = np.zeros(0), np.zeros((people.count, 0))
    counts = np.zeros((people.count, 0))
    deviations = []
    for number in range(int(cell.max()) + 1):
        here, there = (np.flatnonzero(cell[found.nearest] == number) for found in (made, test))
        m, n = len(here), len(there)
        if min(m, n) < FEWEST:
            continue
        above = _share_above(made.distance[here], test.distance[there])
        codes = people.codes[there]
        scores = np.c_[scores, np.bincount(codes, above, people.count)]
        counts = np.c_[counts, np.bincount(codes, minlength=people.count)]
        weights = np.r_[weights, n]
        deviations.append(((m + n + 1) / (12 * m * n)) ** 0.5)
    if not len(weights):
        return Level(float("nan"), None)

    def measure(times: Float[np.ndarray, "draws people"]) -> Float[np.ndarray, " draws"]:
        images = times @ counts
        z = (times @ scores / np.maximum(images, 1) - 0.5) / np.array(deviations)
        return (z * images).sum(axis=1) / images.sum(axis=1)

    return resampled(measure, people)


def _share_above(made: Float[np.ndarray, " m"], test: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return for each held-out image the share of generated ones that are farther than it; equals count half."""
    ranked = np.sort(made)
    nearer = np.searchsorted(ranked, test, side="left") + np.searchsorted(ranked, test, side="right")
    return 1 - nearer / (2 * len(made))
