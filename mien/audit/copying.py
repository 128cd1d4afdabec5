"""Two published tests of copying, made for video: authenticity, and the test of data copying
C_T.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from sklearn.cluster import KMeans

from mien.audit.people import Level, People
from mien.audit.search import Match
from mien.seeds import seed

PER_CELL = 3  # held-out people a cell of C_T, so that most cells have some
CELLS = 10  # of C_T at most
FEWEST = 10  # images a side that a cell of C_T needs to count


def authentic(found: Match, own: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " m"]:
    """Return which images are authentic (Alaa et al. 2022, arXiv:2102.08921): no nearer to training
    than its own.

    `own` is the distance of each training image to the nearest one outside its own clip. The paper
    leaves out the image alone; among frames of video that calls copies authentic, since their
    originals' neighbours are nearer still.
    """
    return found.distance > own[found.nearest]


def cells(train: Float[np.ndarray, "n d"], people: int) -> Int[np.ndarray, " n"]:
    """Return the cell of each training image, by k-means: one cell for three held-out people, 10 at
    most.
    """
    number = min(CELLS, max(1, people // PER_CELL), len(train))
    model = KMeans(number, random_state=seed("cells", number) % 2**32)
    return np.asarray(model.fit_predict(train.astype(np.float32)), dtype=np.int64)


def c_t(
    made: Match, test: Match, cell: Int[np.ndarray, " n"], people: People, groups: People
) -> Level:
    """Return C_T (Meehan et al. 2020, arXiv:2004.05675): far below 0 where images are nearer to
    training than others.

    In each cell the distances of generated images to training are held against those of held-out
    people's, by the z of Mann and Whitney's U without a correction for ties; the mean is weighted
    by the cells' share of held-out images. An image lies in the cell of its nearest training image.
    Cells with fewer than ten images of either side are left out; nan if that leaves none. z takes
    images for independent, which frames are not: judge by what it is in draws of `people`, who are
    held out, and of the `groups` of generated images.
    """
    parts = []
    for number in range(int(cell.max()) + 1):
        here, there = (np.flatnonzero(cell[found.nearest] == number) for found in (made, test))
        if min(len(here), len(there)) >= FEWEST:
            above = _pairs(
                made.distance[here], groups.codes[here], test.distance[there], people.codes[there]
            )
            parts.append(
                _Cell(above, np.bincount(groups.codes[here]), np.bincount(people.codes[there]))
            )
    if not parts:
        return Level(float("nan"), None)
    times = groups.draws(), people.draws()
    drawn = None if times[0] is None or times[1] is None else _score(parts, times[0], times[1])
    once = np.ones((1, groups.count)), np.ones((1, people.count))
    return Level(float(_score(parts, *once)[0]), drawn)


@dataclass(frozen=True)
class _Cell:
    """`above[p, g]` pairs of an image of person p and one of group g, the latter farther; and
    images of each.
    """

    above: Float[np.ndarray, "people groups"]
    made: Int[np.ndarray, " groups"]
    test: Int[np.ndarray, " people"]


def _pairs(
    made: Float[np.ndarray, " m"],
    groups: Int[np.ndarray, " m"],
    test: Float[np.ndarray, " n"],
    people: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "people groups"]:
    """Return how many pairs of each person and group have the generated image farther; equals count
    half.
    """
    found = np.zeros((int(people.max()) + 1, int(groups.max()) + 1))
    for group in np.unique(groups):
        ranked = np.sort(made[groups == group])
        nearer = np.searchsorted(ranked, test, side="left") + np.searchsorted(
            ranked, test, side="right"
        )
        found[:, group] = np.bincount(people, len(ranked) - nearer / 2, len(found))
    return found


def _score(
    cells: list[_Cell],
    groups: Num[np.ndarray, "draws groups"],
    people: Num[np.ndarray, "draws people"],
) -> Float[np.ndarray, " draws"]:
    """Return C_T for each draw of groups and people; z keeps the cell's own numbers of images."""
    total, weight = np.zeros(len(groups)), np.zeros(len(groups))
    for cell in cells:
        one, two = groups[:, : len(cell.made)], people[:, : len(cell.test)]
        m, n = one @ cell.made, two @ cell.test
        pairs = np.maximum(m * n, 1)
        share = np.where(m * n > 0, ((two @ cell.above) * one).sum(axis=1) / pairs, 0.5)
        before, behind = int(cell.made.sum()), int(cell.test.sum())
        z = (share - 0.5) / ((before + behind + 1) / (12 * before * behind)) ** 0.5
        total, weight = total + z * n, weight + n
    return total / np.maximum(weight, 1)
