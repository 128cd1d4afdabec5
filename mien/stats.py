"""Measured numbers and their spread: over trials, and over the people that were tested."""

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, Num

from mien.seeds import rng

DRAWS = 2000  # of a bootstrap
FLIPS = 10_000  # of a permutation test where all are too many
EXACT = 12  # groups up to which all flips are tried
TAIL = 2.5  # per cent on either side of an interval

Measure = Callable[[Float[np.ndarray, "*some c c"]], Float[np.ndarray, "*some"]]
"""What gives a number for each confusion matrix (rows = true), such as `metrics.measure("uf1")`."""


@dataclass(frozen=True)
class Record:
    """One measured number: `low` and `high` bound its interval where there is one, `n` says how
    many it rests on.

    `part` is what of the whole it speaks of, such as a class; empty for all of it.
    """

    metric: str
    value: float
    n: int
    unit: str = ""
    low: float | None = None
    high: float | None = None
    run: str = ""
    part: str = ""


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1) of `n` numbers; the deviation of a single number is
    nan.
    """

    mean: float
    sd: float
    n: int


@dataclass(frozen=True)
class Interval:
    """A number with the bounds of its 95 % interval, which are nan where nothing could be drawn."""

    value: float
    low: float
    high: float


def summary(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation (n - 1) and n of `values`, which must not be empty."""
    array = np.asarray(values, dtype=np.float64)
    return Summary(
        float(array.mean()),
        float(array.std(ddof=1)) if len(array) > 1 else float("nan"),
        len(array),
    )


@lru_cache(maxsize=4)
def draws(groups: int, *names: str | int) -> Int[np.ndarray, "draws groups"]:
    """Return how often each group is drawn when as many are drawn with replacement, 2,000 times
    over.

    Equal names give equal draws, which makes comparisons on the same groups paired.
    """
    found = rng("bootstrap", groups, *names).multinomial(groups, np.full(groups, 1 / groups), DRAWS)
    return found.astype(np.int16)


def drawn(
    counts: Num[np.ndarray, "t g c c"], measure: Measure, *names: str | int
) -> Float[np.ndarray, " draws"] | None:
    """Return a measure of each draw of the groups, the mean over trials; nothing where a single
    group can be drawn.

    `counts` are the confusion matrices of each trial and group (a subject). They are summed before
    any ratio is formed.
    """
    trials, groups, classes, _ = counts.shape
    if groups < 2:
        return None
    flat = counts.transpose(1, 0, 2, 3).reshape(groups, -1).astype(np.float32)
    whole = (draws(groups, *names).astype(np.float32) @ flat).reshape(
        DRAWS, trials, classes, classes
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any image has no score
        return np.nanmean(measure(whole.astype(np.float64)), axis=1)


def around(value: float, found: Float[np.ndarray, " draws"] | None) -> Interval:
    """Return a value with the 2.5th and 97.5th percentile of what was drawn."""
    if found is None:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(found, [TAIL, 100 - TAIL])
    return Interval(value, float(low), float(high))


def mean(counts: Num[np.ndarray, "t g c c"], measure: Measure) -> float:
    """Return the mean over trials of a measure of the summed counts."""
    return float(np.nanmean(measure(counts.sum(axis=1, dtype=np.float64))))


def sign_flip(gaps: Float[np.ndarray, " g"], *names: str | int) -> float:
    """Return the two-sided p of the mean gap of paired groups being zero: their signs are flipped
    at random.

    Up to twelve groups all flips are tried, else 10,000 (Fisher's randomisation test).
    """
    if len(gaps) <= EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=len(gaps))))
    else:
        drawn = rng("flips", len(gaps), *names).integers(0, 2, (FLIPS, len(gaps))) * 2 - 1
        signs = np.concatenate([np.ones((1, len(gaps)), dtype=drawn.dtype), drawn])
    sums = np.abs(signs @ gaps)
    return float((sums >= abs(gaps.sum()) - 1e-12).mean())
