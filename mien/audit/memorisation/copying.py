"""Two published tests of copying, for video: authenticity, and the test C_T."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from sklearn.cluster import KMeans

from mien.audit.memorisation.people import Estimate, ImagePeople
from mien.audit.memorisation.search import Match
from mien.seeds import derive_seed

PEOPLE_PER_REGION = 3  # held-out people per region of C_T, so that most regions have some

MAX_REGIONS = 10  # regions of C_T, at most

MIN_IMAGES_PER_REGION = 10  # images per side that a region of C_T needs


def find_authentic(
    match: Match, nearest_outside_clip: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " m"]:
    """Return which images are authentic (Alaa et al. 2022, arXiv:2102.08921).

    An image is authentic if it is farther from its nearest training image than that image is from
    others. `nearest_outside_clip` is the distance of each training image to the nearest one outside
    its own clip. The paper leaves out only the image itself; among frames of video that calls
    copies authentic, since the neighbours of their originals are nearer still.
    """
    return match.distance > nearest_outside_clip[match.nearest]


def assign_regions(train: Float[np.ndarray, "n d"], people: int) -> Int[np.ndarray, " n"]:
    """Return the region of each training image, by k-means: one region per three held-out people.

    There are ten regions at most.
    """
    number = min(MAX_REGIONS, max(1, people // PEOPLE_PER_REGION), len(train))
    model = KMeans(number, random_state=derive_seed("cells", number) % 2**32)
    return np.asarray(model.fit_predict(train.astype(np.float32)), dtype=np.int64)


def measure_c_t(
    synthetic: Match,
    test: Match,
    region: Int[np.ndarray, " n"],
    people: ImagePeople,
    groups: ImagePeople,
) -> Estimate:
    """Return C_T, which is far below 0 if images are too near to training images.

    It is the data-copying test of Meehan et al. 2020 (arXiv:2004.05675), whose cells are called
    regions here. In each region the distances of generated images to training images are compared
    with those of held-out images, by the z of Mann and Whitney's U without a correction for ties;
    the mean is weighted by the regions' shares of held-out images. An image is in the region of its
    nearest training image. Cells with fewer than ten images of either side are left out; C_T is nan
    if that leaves none. z treats images as independent, which frames are not: judge by its values
    in resamples of the held-out `people` and of the `groups` of generated images.
    """
    # The pairs of distances in each region that has enough images
    counted_regions = []
    for number in range(int(region.max()) + 1):
        synthetic_rows, test_rows = (
            np.flatnonzero(region[match.nearest] == number) for match in (synthetic, test)
        )
        if min(len(synthetic_rows), len(test_rows)) >= MIN_IMAGES_PER_REGION:
            farther = _count_farther_pairs(
                synthetic.distance[synthetic_rows],
                groups.codes[synthetic_rows],
                test.distance[test_rows],
                people.codes[test_rows],
            )
            counted_regions.append(
                _RegionPairs(
                    farther,
                    np.bincount(groups.codes[synthetic_rows]),
                    np.bincount(people.codes[test_rows]),
                )
            )
    if not counted_regions:
        return Estimate(float("nan"), None)

    # C_T in each resample, and once on all
    times = groups.resample(), people.resample()
    resampled = (
        None
        if times[0] is None or times[1] is None
        else _score_c_t(counted_regions, times[0], times[1])
    )
    once = np.ones((1, groups.count)), np.ones((1, people.count))
    return Estimate(float(_score_c_t(counted_regions, *once)[0]), resampled)


@dataclass(frozen=True)
class _RegionPairs:
    """The pairs and images of a region.

    `above[p, g]` counts pairs of an image of person p and a farther one of group g; `synthetic` and
    `test` count the images of each group and person.
    """

    farther: Float[np.ndarray, "people groups"]
    synthetic: Int[np.ndarray, " groups"]
    test: Int[np.ndarray, " people"]


def _count_farther_pairs(
    synthetic: Float[np.ndarray, " m"],
    groups: Int[np.ndarray, " m"],
    test: Float[np.ndarray, " n"],
    people: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "people groups"]:
    """Return per person and group the number of pairs with a farther generated image.

    Pairs with equal distances count half.
    """
    pairs_of = np.zeros((int(people.max()) + 1, int(groups.max()) + 1))
    for group in np.unique(groups):
        ranked = np.sort(synthetic[groups == group])
        nearer = np.searchsorted(ranked, test, side="left") + np.searchsorted(
            ranked, test, side="right"
        )
        pairs_of[:, group] = np.bincount(people, len(ranked) - nearer / 2, len(pairs_of))
    return pairs_of


def _score_c_t(
    regions: list[_RegionPairs],
    groups: Num[np.ndarray, "draws groups"],
    people: Num[np.ndarray, "draws people"],
) -> Float[np.ndarray, " draws"]:
    """Return C_T for each resample of groups and people.

    The denominator of z keeps the region's own numbers of images.
    """
    total, weight = np.zeros(len(groups)), np.zeros(len(groups))
    for region in regions:
        # The share of pairs with a farther generated image, from the resampled counts
        group_counts, person_counts = (
            groups[:, : len(region.synthetic)],
            people[:, : len(region.test)],
        )
        m, n = group_counts @ region.synthetic, person_counts @ region.test
        pairs = np.maximum(m * n, 1)
        share = np.where(
            m * n > 0, ((person_counts @ region.farther) * group_counts).sum(axis=1) / pairs, 0.5
        )

        # The z of Mann and Whitney, weighted by the region's held-out images
        synthetic_count, test_count = int(region.synthetic.sum()), int(region.test.sum())
        z = (share - 0.5) / (
            (synthetic_count + test_count + 1) / (12 * synthetic_count * test_count)
        ) ** 0.5
        total, weight = total + z * n, weight + n
    return total / np.maximum(weight, 1)
