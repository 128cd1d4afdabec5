"""Held-out people as the yardstick: what is usual among faces that no generator has seen, and how
sure that is.

Each person weighs the same, however many images there are of them, and intervals are over draws of
people: frames of one face say little more than the first.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from mien.stats import DRAWS, Interval, around, draws

ALARM = 0.01  # the share of held-out people's images that alarms may be wrong about
FAR = (
    0.001  # the chance that a face of one more such person is taken for that of a training subject
)
NORMAL = 1.96  # deviations on either side of a 95 % interval
CELLS = 2**22  # numbers that are held at once

Share = TypeVar("Share", float, np.ndarray)


@dataclass(frozen=True)
class Level:
    """A number measured on held-out people, and what it is in each draw of them (nothing for a
    single person).
    """

    value: float
    drawn: Float[np.ndarray, " draws"] | None

    @property
    def interval(self) -> Interval:
        """The number with its 95 % interval."""
        return around(self.value, self.drawn)


@dataclass(frozen=True)
class People:
    """Who is seen in each of n images: `codes` from 0, and how many people; draws differ from side
    to side.
    """

    codes: Int[np.ndarray, " n"]
    count: int
    side: str

    @classmethod
    def of(cls, names: np.ndarray, side: str = "held-out") -> "People":
        """Return the people of images whose subjects are named."""
        found, codes = np.unique(names, return_inverse=True)
        return cls(codes.astype(np.int64), len(found), side)

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """What each image weighs, so that every person weighs 1."""
        return 1 / np.bincount(self.codes, minlength=self.count)[self.codes]

    def draws(self) -> Int[np.ndarray, "draws people"] | None:
        """Return how often each person is drawn in each draw; nothing for a single person."""
        return draws(self.count, self.side) if self.count > 1 else None

    def mean(self, values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"]) -> Level:
        """Return the mean over people of the mean over their images."""
        each = np.bincount(self.codes, self.weights * values, self.count)
        drawn = self.draws()
        # Rounded, so that a share of all is 1 in every draw, and no gap is due to the order of
        # sums.
        return Level(
            float(each.mean().round(12)),
            None if drawn is None else (drawn @ each / self.count).round(12),
        )

    def quantile(self, values: Float[np.ndarray, " n"], share: float) -> Level:
        """Return the least value that more than `share` of the images, each person weighing the
        same, do not exceed.
        """
        order = np.argsort(values, kind="stable")
        ranked, weights, codes = (
            values[order],
            self.weights[order].astype(np.float32),
            self.codes[order],
        )

        def at(times: np.ndarray) -> Float[np.ndarray, " some"]:
            heaped = np.cumsum(times[:, codes] * weights, axis=1)
            return ranked[(heaped > share * self.count).argmax(axis=1)]

        whole = float(at(np.ones((1, self.count)))[0])
        drawn = self.draws()
        if drawn is None:
            return Level(whole, None)
        rows = max(1, CELLS // len(values))
        return Level(
            whole,
            np.concatenate([at(drawn[first : first + rows]) for first in range(0, DRAWS, rows)]),
        )

    def chance(self, share: Share) -> Share:
        """Return the most that is expected below `quantile(..., share)` of images of people who are
        like these.

        It is more than `share`, since one more person may resemble a training subject more than all
        of these few: were that person one of them, at most `share` of the weight of the others, and
        all of the person's own, would lie below.
        """
        return (share * self.count + 1) / (self.count + 1)

    def expected(self, usual: Level) -> Level:
        """Return the most that is expected of a share which these people have: `chance` of it, in
        each draw as well.

        Few people who all share nothing say little of the next one, and drawing them anew again and
        again says no more.
        """
        return Level(
            self.chance(usual.value), None if usual.drawn is None else self.chance(usual.drawn)
        )

    def far_below(self, ratios: Float[np.ndarray, " n"]) -> float:
        """Return a ratio of nearest to next distance that one more person like these lies below by
        a chance of 0.001.

        Where faces are strewn evenly, -log of such a ratio is exponential, with the inverse of
        their dimension as mean (Facco et al. 2017, arXiv:1803.06992). The mean is measured on
        `count` people, so a further one lies beyond x means with the probability (1 + x / count) **
        -count: the fewer people there are, the farther the bound lies.
        """
        reach = self.count * (FAR ** (-1 / self.count) - 1)
        return float(np.exp(-reach * self.mean(-np.log(np.maximum(ratios, 1e-6))).value))


@dataclass(frozen=True)
class Made:
    """Generated images in groups: those nearest to one training subject, who may well show one
    person, go together.
    """

    groups: People

    @classmethod
    def of(cls, subjects: np.ndarray) -> "Made":
        """Return the groups of images whose nearest training subjects are named."""
        return cls(People.of(subjects, "made"))

    def below(
        self,
        values: Float[np.ndarray, " n"],
        level: Level,
        of: Bool[np.ndarray, " n"] | None = None,
    ) -> Interval:
        """Return the share of `values`, or of those that `of` names, below a level; its interval is
        over draws of both.

        Held-out people are drawn for the level, and groups of images for the share.
        """
        of = np.ones(len(values), dtype=bool) if of is None else of
        value = float((values[of] < level.value).mean())
        times = self.groups.draws()
        if level.drawn is None or times is None:
            return Interval(value, float("nan"), float("nan"))
        order = np.argsort(level.drawn, kind="stable")
        # An image lies below all drawn levels from its own rank among them on.
        rank = np.searchsorted(level.drawn[order], values[of], side="right")
        counts = np.zeros((self.groups.count, len(order) + 1))
        np.add.at(counts, (self.groups.codes[of], rank), 1)
        sizes = counts.sum(axis=1)
        hits = counts.cumsum(axis=1)[:, :-1]
        ranked = times[order]
        with np.errstate(invalid="ignore"):  # a draw without any image of a class has no share
            return around(value, np.einsum("bg,gb->b", ranked, hits) / (ranked @ sizes))

    def share(self, values: Bool[np.ndarray, " n"]) -> Level:
        """Return the share of `values` that hold, and what it is in draws of the groups."""
        value, times = float(values.mean()), self.groups.draws()
        if times is None:
            return Level(value, None)
        hits, sizes = (
            np.bincount(self.groups.codes, weights, self.groups.count) for weights in (values, None)
        )
        return Level(value, times @ hits / (times @ sizes))

    def gap(self, values: Bool[np.ndarray, " n"], level: Level) -> Interval:
        """Return how far the share of `values` that hold lies above the share among held-out
        people.
        """
        own = self.share(values)
        drawn = None if own.drawn is None or level.drawn is None else own.drawn - level.drawn
        return around(own.value - level.value, drawn)


def rare(values: Bool[np.ndarray, " n"]) -> Interval:
    """Return the share of `values` that hold, with Wilson's 95 % interval, which is sound for a few
    of many.
    """
    n, share = len(values), float(values.mean())
    middle = (share + NORMAL**2 / (2 * n)) / (1 + NORMAL**2 / n)
    half = NORMAL / (1 + NORMAL**2 / n) * (share * (1 - share) / n + (NORMAL / (2 * n)) ** 2) ** 0.5
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))
