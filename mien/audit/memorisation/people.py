"""The scale of memorisation: how close held-out people are to training people.

Each person weighs the same, however many images there are of them, and intervals are over resamples
of people: frames of one face say little more than the first.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from mien.stats import BOOTSTRAP_RESAMPLES, Interval, draw_resamples, make_interval

ALARM_SHARE = 0.01  # share of held-out images that raise a false alarm

# chance that a face of one more held-out person is taken for that of a training subject
EXTREME_CHANCE = 0.001

NORMAL_DEVIATIONS = 1.96  # standard deviations on either side of a 95 % interval

MAX_NUMBERS = 2**22  # numbers in memory at once

ShareOrShares = TypeVar("ShareOrShares", float, np.ndarray)


@dataclass(frozen=True)
class Estimate:
    """A number measured on held-out people, and its value in each resample of them.

    `resamples` is None for a single person.
    """

    value: float
    resamples: Float[np.ndarray, " draws"] | None

    @property
    def interval(self) -> Interval:
        """The number with its 95 % interval."""
        return make_interval(self.value, self.resamples)


@dataclass(frozen=True)
class ImagePeople:
    """Who is in each of n images: `codes` from 0, and the number of people.

    `draw_name` names the random draws: people of different sides are resampled independently.
    """

    codes: Int[np.ndarray, " n"]
    count: int
    draw_name: str

    @classmethod
    def of(cls, names: np.ndarray, draw_name: str = "held-out") -> "ImagePeople":
        """Return the people of images whose subjects are named."""
        people, codes = np.unique(names, return_inverse=True)
        return cls(codes.astype(np.int64), len(people), draw_name)

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """The weight of each image, so that every person weighs 1."""
        return 1 / np.bincount(self.codes, minlength=self.count)[self.codes]

    def resample(self) -> Int[np.ndarray, "draws people"] | None:
        """Return how often each person is drawn in each resample; None for a single person."""
        return draw_resamples(self.count, self.draw_name) if self.count > 1 else None

    def estimate_mean(self, values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"]) -> Estimate:
        """Return the mean over people of the mean over their images."""
        means_of_people = np.bincount(self.codes, self.weights * values, self.count)
        resamples = self.resample()
        # Rounded, so that a share of all is 1 in every draw, and no gap is due to the order of
        # sums.
        return Estimate(
            float(means_of_people.mean().round(12)),
            None if resamples is None else (resamples @ means_of_people / self.count).round(12),
        )

    def estimate_quantile(self, values: Float[np.ndarray, " n"], share: float) -> Estimate:
        """Return the least value that more than `share` of the images do not exceed.

        Each person weighs the same, however many images there are of them.
        """
        order = np.argsort(values, kind="stable")
        ranked, weights, codes = (
            values[order],
            self.weights[order].astype(np.float32),
            self.codes[order],
        )

        # The weights of the images, cumulated in the order of their values
        def find_quantile(times: np.ndarray) -> Float[np.ndarray, " some"]:
            cumulated = np.cumsum(times[:, codes] * weights, axis=1)
            return ranked[(cumulated > share * self.count).argmax(axis=1)]

        # On all people, then on each resample, a few at a time
        overall = float(find_quantile(np.ones((1, self.count)))[0])
        resamples = self.resample()
        if resamples is None:
            return Estimate(overall, None)
        rows = max(1, MAX_NUMBERS // len(values))
        return Estimate(
            overall,
            np.concatenate(
                [
                    find_quantile(resamples[first : first + rows])
                    for first in range(0, BOOTSTRAP_RESAMPLES, rows)
                ]
            ),
        )

    def bound_share(self, share: ShareOrShares) -> ShareOrShares:
        """Return the upper bound of the share expected below `estimate_quantile(..., share)`.

        It is for images of further people like these. It is more than `share`, since one more
        person may resemble a training subject more than all of these few: were that person one of
        them, at most `share` of the weight of the others, and all of the person's own, would be
        below.
        """
        return (share * self.count + 1) / (self.count + 1)

    def bound_estimate(self, estimate: Estimate) -> Estimate:
        """Return the upper bound of a share that was measured on these people, as `bound_share`.

        It is bounded in each resample too.
        If few people all share nothing, that says little of the next person, and resampling them
        says no more.
        """
        return Estimate(
            self.bound_share(estimate.value),
            None if estimate.resamples is None else self.bound_share(estimate.resamples),
        )

    def find_extreme_ratio(self, ratios: Float[np.ndarray, " n"]) -> float:
        """Return a ratio of nearest to next distance that one more person is rarely below.

        The chance is 0.001. If faces are spread evenly, -log of such a ratio is exponential, with
        the inverse of their dimension as mean (Facco et al. 2017, arXiv:1803.06992). The mean is
        measured on `count` people, so a further person is beyond x means with the probability (1 +
        x / count) ** -count: the fewer people there are, the farther away the bound is.
        """
        reach = self.count * (EXTREME_CHANCE ** (-1 / self.count) - 1)
        return float(np.exp(-reach * self.estimate_mean(-np.log(np.maximum(ratios, 1e-6))).value))


@dataclass(frozen=True)
class SyntheticGroups:
    """Generated images in groups: images nearest to one training subject are one group.

    They may well show one person, so a resample draws them together.
    """

    groups: ImagePeople

    @classmethod
    def of(cls, subjects: np.ndarray) -> "SyntheticGroups":
        """Return the groups of images, by the names of their nearest training subjects."""
        return cls(ImagePeople.of(subjects, "made"))

    def estimate_share_below(
        self,
        values: Float[np.ndarray, " n"],
        bound: Estimate,
        is_counted: Bool[np.ndarray, " n"] | None = None,
    ) -> Interval:
        """Return the share of `values`, or of those that `is_counted` marks, below a level.

        Its interval is over resamples of held-out people for the level, and of groups of images for
        the share.
        """
        if is_counted is None:
            is_counted = np.ones(len(values), dtype=bool)
        value = float((values[is_counted] < bound.value).mean())
        times = self.groups.resample()
        if bound.resamples is None or times is None:
            return Interval(value, float("nan"), float("nan"))

        # In the order of the resampled levels, count the images below each
        order = np.argsort(bound.resamples, kind="stable")
        # An image is below all resampled levels from its own rank among them upwards
        rank = np.searchsorted(bound.resamples[order], values[is_counted], side="right")
        counts = np.zeros((self.groups.count, len(order) + 1))
        np.add.at(counts, (self.groups.codes[is_counted], rank), 1)
        sizes = counts.sum(axis=1)
        hits = counts.cumsum(axis=1)[:, :-1]

        # The share in each resample of groups, each with its own level
        ranked = times[order]
        with np.errstate(invalid="ignore"):  # a resample without images of a class has no share
            return make_interval(value, np.einsum("bg,gb->b", ranked, hits) / (ranked @ sizes))

    def estimate_share(self, values: Bool[np.ndarray, " n"]) -> Estimate:
        """Return the share of true `values`, with its value in resamples of the groups."""
        value, times = float(values.mean()), self.groups.resample()
        if times is None:
            return Estimate(value, None)
        hits, sizes = (
            np.bincount(self.groups.codes, weights, self.groups.count) for weights in (values, None)
        )
        return Estimate(value, times @ hits / (times @ sizes))

    def estimate_gap(self, values: Bool[np.ndarray, " n"], heldout_share: Estimate) -> Interval:
        """Return the share of true `values` less the share among held-out people."""
        synthetic_share = self.estimate_share(values)
        gaps = (
            None
            if synthetic_share.resamples is None or heldout_share.resamples is None
            else synthetic_share.resamples - heldout_share.resamples
        )
        return make_interval(synthetic_share.value - heldout_share.value, gaps)


def compute_wilson_interval(values: Bool[np.ndarray, " n"]) -> Interval:
    """Return the share of true `values` with Wilson's 95 % interval, which suits rare events."""
    n, share = len(values), float(values.mean())
    middle = (share + NORMAL_DEVIATIONS**2 / (2 * n)) / (1 + NORMAL_DEVIATIONS**2 / n)
    half = (
        NORMAL_DEVIATIONS
        / (1 + NORMAL_DEVIATIONS**2 / n)
        * (share * (1 - share) / n + (NORMAL_DEVIATIONS / (2 * n)) ** 2) ** 0.5
    )
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))
