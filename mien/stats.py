"""Means with spread over trials, and intervals by bootstrap over people."""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, Num

from mien.seeds import make_rng

BOOTSTRAP_RESAMPLES = 2000  # resamples of a bootstrap

RANDOM_SIGN_FLIPS = 10_000  # random sign flips, where trying all of them would be too many

MAX_GROUPS_FOR_ALL_FLIPS = 12  # up to so many groups, all sign flips are tried

TAIL_PERCENT = 2.5  # percentage outside the interval, on each side

ConfusionScore = Callable[[Float[np.ndarray, "*some c c"]], Float[np.ndarray, "*some"]]
"""A function that scores confusion matrices (rows = true), such as
`metrics.make_measure("uf1")`.
"""


@dataclass(frozen=True)
class Record:
    """One measured number, with the bounds of its interval where there is one.

    `n` is the sample size that the number rests on. `part` names the group that it is about, such
    as a class; it is empty if the number is about everything.
    """

    metric: str
    value: float
    n: int
    unit: str = ""
    low: float | None = None
    high: float | None = None
    run: str = ""
    part: str = ""

    @classmethod
    def of(
        cls, metric: str, interval: "Interval", n: int, unit: str = "", part: str = ""
    ) -> "Record":
        """Return the record of a value with its interval; a bound that is nan becomes None."""
        low, high = (
            None if math.isnan(bound) else bound for bound in (interval.low, interval.high)
        )
        return cls(metric, interval.value, n, unit, low, high, part=part)


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1) of `n` numbers; the deviation of one number is nan."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True)
class Interval:
    """A number with the bounds of its 95 % interval, which are nan if nothing could be drawn."""

    value: float
    low: float
    high: float


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation (n - 1) and n of `values`, which must not be empty."""
    array = np.asarray(values, dtype=np.float64)
    return Summary(
        float(array.mean()),
        float(array.std(ddof=1)) if len(array) > 1 else float("nan"),
        len(array),
    )


@lru_cache(maxsize=4)
def draw_resamples(groups: int, *names: str | int) -> Int[np.ndarray, "draws groups"]:
    """Return how often each group is drawn in each of 2,000 bootstrap resamples.

    Each resample draws as many groups as there are, with replacement. Equal names give equal
    resamples, which makes comparisons of the same groups paired.
    """
    resamples = make_rng("bootstrap", groups, *names).multinomial(
        groups, np.full(groups, 1 / groups), BOOTSTRAP_RESAMPLES
    )
    return resamples.astype(np.int16)


def bootstrap(
    counts: Num[np.ndarray, "t g c c"], measure: ConfusionScore, *names: str | int
) -> Float[np.ndarray, " draws"] | None:
    """Return the measure in each bootstrap resample of the groups, averaged over trials.

    `counts` are the confusion matrices of each trial and group (a subject). They are summed before
    any ratio is formed. Returns None if there are fewer than two groups.
    """
    trials, groups, classes, _ = counts.shape
    if groups < 2:
        return None

    # Sum the confusion matrices of the groups in each resample
    flat = counts.transpose(1, 0, 2, 3).reshape(groups, -1).astype(np.float32)
    summed = (draw_resamples(groups, *names).astype(np.float32) @ flat).reshape(
        BOOTSTRAP_RESAMPLES, trials, classes, classes
    )

    # Score each resample, and average over trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without images has no score
        return np.nanmean(measure(summed.astype(np.float64)), axis=1)


def make_interval(value: float, resampled: Float[np.ndarray, " draws"] | None) -> Interval:
    """Return a value with the 2.5th and 97.5th percentile of its bootstrap resamples."""
    if resampled is None:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(resampled, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return Interval(value, float(low), float(high))


def average_over_trials(counts: Num[np.ndarray, "t g c c"], measure: ConfusionScore) -> float:
    """Return the mean over trials of a measure of the summed counts."""
    return float(np.nanmean(measure(counts.sum(axis=1, dtype=np.float64))))


def test_by_sign_flips(gaps: Float[np.ndarray, " g"], *names: str | int) -> float:
    """Return the two-sided p of the hypothesis that the mean gap of paired groups is zero.

    The signs of the gaps are flipped at random (Fisher's randomisation test): all flips for up to
    twelve groups, else 10,000.
    """
    sums = np.abs(draw_signs(len(gaps), *names) @ gaps)
    return float((sums >= abs(gaps.sum()) - 1e-12).mean())


def draw_signs(groups: int, *names: str | int) -> Int[np.ndarray, "flips groups"]:
    """Return the signs, 1 or -1, that flips give to each group.

    They are all flips of up to twelve groups, else 10,000 random ones after one without a change.
    Equal names give equal flips, so that differences can be compared with each other.
    """
    if groups <= MAX_GROUPS_FOR_ALL_FLIPS:
        return np.array(list(itertools.product((1, -1), repeat=groups)))
    flips = make_rng("flips", groups, *names).integers(0, 2, (RANDOM_SIGN_FLIPS, groups)) * 2 - 1
    return np.concatenate([np.ones((1, groups), dtype=flips.dtype), flips])
