"""The best of many arms against the best of others, corrected for the choice.

The best of several noisy numbers is too high by chance, so a way that was chosen among many looks
better than it is. Here all ways are resampled together, and each is compared with the largest
deviation of all of them (Westfall and Young 1993, the single-step max statistic).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mien import stats
from mien.stats import ConfusionScore, Interval
from mien.study.cells import ResultCell

INTERVAL_PERCENT = 95.0


@dataclass(frozen=True)
class RecallScore:
    """The mean recall of some classes, from 0 to 1, over people who are the same for all arms.

    - `draws` are its values in the bootstrap draws of the people; None without two people.
    - `parts` are what each person adds to it: their sum is the value.
    """

    value: float
    draws: Float[np.ndarray, " draws"] | None
    parts: Float[np.ndarray, " g"]


@dataclass(frozen=True)
class BestComparison:
    """The difference between the best way and the best alternative.

    - `way` and `alternative` are their positions.
    - `gap` is the difference of their recalls with its interval: the lower bound is corrected for
      the number of ways, and the upper one for that of the alternatives.
    - `p` is that of sign flips over people, corrected in the same way.
    - `above_all` says whether the way exceeds each of the alternatives, and `below_all` whether
      each of the ways is below the alternative, by corrected intervals that exclude zero.
    """

    way: int
    alternative: int
    gap: Interval
    p: float
    above_all: bool
    below_all: bool


def score_recall(
    cells: Sequence[ResultCell], chosen: Bool[np.ndarray, " c"] | None = None
) -> RecallScore:
    """Return the mean recall of the chosen classes (None: all), averaged over cells.

    The cells are those of several classifiers on the same tests. With all classes it is UAR.
    """
    is_chosen = np.ones(cells[0].counts.shape[-1], bool) if chosen is None else chosen
    measure = make_recall_measure(is_chosen)
    draws = [stats.bootstrap(cell.counts, measure, cell.draw) for cell in cells]
    known = [drawn for drawn in draws if drawn is not None]
    return RecallScore(
        float(np.mean([stats.average_over_trials(cell.counts, measure) for cell in cells])),
        np.mean(known, axis=0) if len(known) == len(draws) else None,
        np.mean([divide_recall(cell, is_chosen) for cell in cells], axis=0),
    )


def make_recall_measure(chosen: Bool[np.ndarray, " c"]) -> ConfusionScore:
    """Return a function that gives the mean recall of some classes of many confusion matrices.

    Classes without a true sample are left out; it is nan where there is no other.
    """

    def measure(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        correct = np.einsum("...ii->...i", counts)[..., chosen]
        true = counts.sum(axis=-1)[..., chosen]
        recall = np.where(true > 0, correct / np.maximum(true, 1e-9), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return recall.sum(axis=-1) / (true > 0).sum(axis=-1)

    return measure


def divide_recall(
    cell: ResultCell, chosen: Bool[np.ndarray, " c"] | None = None
) -> Float[np.ndarray, " g"]:
    """Return what each person adds to the mean recall of the chosen classes (None: all).

    A right answer about a class adds 1 / (classes x images of that class in all tests), so the sum
    over people is the mean recall. The mean over trials is returned.
    """
    columns = slice(None) if chosen is None else chosen
    counts = cell.counts.astype(np.float64)
    correct = np.einsum("tgii->tgi", counts)[..., columns]
    true = counts.sum(axis=(1, 3))[:, None, columns]
    classes = np.maximum((true > 0).sum(axis=-1), 1)
    shares = np.where(true > 0, correct / np.maximum(true, 1e-9), 0.0)
    return (shares.sum(axis=-1) / classes).mean(axis=0)


def compare_best(
    ways: Sequence[RecallScore],
    alternatives: Sequence[RecallScore],
    draw: str,
    positions: tuple[int, int] | None = None,
) -> BestComparison:
    """Return the difference between the best of `ways` and the best of `alternatives`.

    The best are those of the highest values, unless `positions` names them. A way is better than
    the best alternative only if it is better than each, so its p is the largest over the
    alternatives (Berger 1982); for each of them, p is the share of sign flips in which any way
    deviates as far. So neither is too small because of a choice. `draw` is the name of the draws.
    """
    way, alternative = positions or (
        int(np.argmax([score.value for score in ways])),
        int(np.argmax([score.value for score in alternatives])),
    )
    gaps = np.array([[ours.value - theirs.value for theirs in alternatives] for ours in ways])
    value = float(gaps[way, alternative])

    # Bounds, and the p of the chosen way among all ways (or of the alternative among its like)
    low, high = _bound_gaps(gaps, ways, alternatives)
    parts = [
        np.array([score.parts for score in family_scores]) for family_scores in (ways, alternatives)
    ]
    differences = parts[0][:, None] - parts[1][None]
    if value >= 0:
        p = max(_test_largest(family, way, draw) for family in differences.swapaxes(0, 1))
    else:
        p = max(_test_largest(family, alternative, draw) for family in differences)
    return BestComparison(
        way,
        alternative,
        Interval(value, float(low[way, alternative]), float(high[way, alternative])),
        p,
        bool((low[way] > 0).all()),
        bool((high[:, alternative] < 0).all()),
    )


def _bound_gaps(
    gaps: Float[np.ndarray, "k a"], ways: Sequence[RecallScore], alternatives: Sequence[RecallScore]
) -> tuple[Float[np.ndarray, "k a"], Float[np.ndarray, "k a"]]:
    """Return the lower bounds of differences over all ways, and the upper ones over alternatives.

    Bounds are as many standard errors away as the largest deviation of all ways (or alternatives)
    has in 95 % of the bootstrap draws; nan without draws.
    """
    ours = [score.draws for score in ways if score.draws is not None]
    theirs = [score.draws for score in alternatives if score.draws is not None]
    if len(ours) < len(ways) or len(theirs) < len(alternatives):
        return np.full(gaps.shape, math.nan), np.full(gaps.shape, math.nan)
    drawn = np.array(ours)[:, None] - np.array(theirs)[None]
    drawn = drawn[:, :, ~np.isnan(drawn).any(axis=(0, 1))]  # a draw may lack all of rare classes
    errors = drawn.std(axis=2)
    deviations = np.abs(drawn - gaps[:, :, None]) / np.maximum(errors, 1e-12)[:, :, None]

    # The farthest way in each draw, for each alternative; then the farthest alternative
    of_ways, of_alternatives = (
        np.percentile(deviations.max(axis=axis), INTERVAL_PERCENT, axis=1) for axis in (0, 1)
    )
    return gaps - of_ways[None] * errors, gaps + of_alternatives[:, None] * errors


def _test_largest(family: Float[np.ndarray, "m g"], number: int, draw: str) -> float:
    """Return the p of one of several differences, given what each person adds to each of them.

    It is the share of sign flips in which any of them deviates as far. The signs of a person are
    the same for all, and differences are divided by their size over people, which no flip changes.
    """
    sizes = np.sqrt((family**2).sum(axis=1, keepdims=True))
    scaled = family / np.where(sizes > 0, sizes, 1)
    signs = stats.draw_signs(family.shape[1], draw).astype(np.float64)
    largest = np.abs(scaled @ signs.T).max(axis=0)
    return float((largest >= abs(scaled[number].sum()) - 1e-12).mean())
