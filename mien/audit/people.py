"""Held-out people as the yardstick: what is usual among faces that no generator has seen, and how sure that is.

Each person weighs the same, however many images there are of them, and intervals are over draws of people: frames of one
face say little more than the first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mien.seeds import rng
from mien.stats import DRAWS, Interval, around, draws

ALARM = 0.01  # the share of a held-out person's images that alarms may be wrong about
CELLS = 2**22  # numbers that are held at once


@dataclass(frozen=True)
class Level:
    """A number measured on held-out people, and what it is in each draw of them (nothing for a single person)."""

    value: float
    drawn: Float[np.ndarray, " draws"] | None

    @property
    def interval(self) -> Interval:
        """The number with its 95 % interval."""
        return around(self.value, self.drawn)


@dataclass(frozen=True)
class People:
    """Who is seen in each of n images: `codes` from 0, and how many `people` there are."""

    codes: Int[np.ndarray, " n"]
    count: int

    @classmethod
    def of(cls, names: np.ndarray) -> "People":
        """Return the people of images whose subjects are named."""
        found, codes = np.unique(names, return_inverse=True)
        return cls(codes.astype(np.int64), len(found))

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """What each image weighs, so that every person weighs 1."""
        return 1 / np.bincount(self.codes, minlength=self.count)[self.codes]

    def draws(self) -> Int[np.ndarray, "draws people"] | None:
        """Return how often each person is drawn in each draw; nothing for a single person."""
        return draws(self.count, "held-out people") if self.count > 1 else None

    def mean(self, values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"]) -> Level:
        """Return the mean over people of the mean over their images."""
        each = np.bincount(self.codes, self.weights * values, self.count)
        drawn = self.draws()
        return Level(float(each.mean()), None if drawn is None else drawn @ each / self.count)

    def quantile(self, values: Float[np.ndarray, " n"], share: float) -> Level:
        """Return the least value that more than `share` of the images, each person weighing the same, do not exceed."""
        order = np.argsort(values, kind="stable")
        ranked, weights, codes = values[order], self.weights[order].astype(np.float32), self.codes[order]

        def at(times: np.ndarray) -> Float[np.ndarray, " some"]:
            heaped = np.cumsum(times[:, codes] * weights, axis=1)
            return ranked[(heaped > share * self.count).argmax(axis=1)]

        whole = float(at(np.ones((1, self.count)))[0])
        drawn = self.draws()
        if drawn is None:
            return Level(whole, None)
        rows = max(1, CELLS // len(values))
        return Level(whole, np.concatenate([at(drawn[first : first + rows]) for first in range(0, DRAWS, rows)]))


def below(values: Float[np.ndarray, " n"], level: Level, *names: str, redrawn: bool = True) -> Interval:
    """Return the share of `values` below a level of held-out people.

    The interval is over draws of the people, and of the values as well unless they are not to be `redrawn`: a single
    image that lies below in every draw then counts for certain.
    """
    ranked = np.sort(values)

    def share(limits: float | Float[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        return np.searchsorted(ranked, limits, side="left") / max(1, len(ranked))

    value = float(share(level.value))
    if level.drawn is None:
        return Interval(value, float("nan"), float("nan"))
    shares = share(level.drawn)
    return around(value, _again(shares, len(ranked), *names) if redrawn else shares)


def gap(values: Bool[np.ndarray, " n"], level: Level, *names: str) -> Interval:
    """Return how far the share of `values` that hold lies above the share among held-out people."""
    share = float(values.mean())
    if level.drawn is None:
        return Interval(share - level.value, float("nan"), float("nan"))
    return around(share - level.value, _again(np.full(DRAWS, share), len(values), *names) - level.drawn)


def share(values: Bool[np.ndarray, " n"], *names: str) -> Interval:
    """Return the share of `values` that hold, with the interval over draws of them."""
    value = float(values.mean())
    return around(value, _again(np.full(DRAWS, value), len(values), *names))


def _again(shares: Float[np.ndarray, " draws"], n: int, *names: str) -> Float[np.ndarray, " draws"]:
    """Return what the shares are when their n images are drawn anew."""
    return rng("made anew", n, *names).binomial(n, shares) / max(1, n)


def resampled(measure: Callable[[Float[np.ndarray, "draws people"]], Float[np.ndarray, " draws"]], people: People) -> Level:
    """Return a measure of how often each person is counted: once each, and as often as each draw has them."""
    value = float(measure(np.ones((1, people.count)))[0])
    drawn = people.draws()
    return Level(value, None if drawn is None else measure(drawn.astype(np.float64)))
