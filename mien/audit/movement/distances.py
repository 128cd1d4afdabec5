"""Energy distance between sets of clips, over resamples of people.

Clips of one person are alike, so distances within a set count pairs of different people only. The
estimate then does not depend on how many clips each person has, and is 0 on average for two samples
of one population.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mien.seeds import make_rng
from mien.stats import Interval, draw_resamples, make_interval

MIN_GROUP_PEOPLE = 3  # on each side, for a distance

HALVINGS = 20  # of real people into two halves


@dataclass(frozen=True)
class Group:
    """Some clips: a point [features] for each, and the number of its person."""

    points: Float[np.ndarray, "n features"]
    people: Int[np.ndarray, " n"]

    def select(self, which: np.ndarray) -> "Group":
        """Return the clips that a mask marks."""
        return Group(self.points[which], self.people[which])


def number_people(names: np.ndarray) -> tuple[Int[np.ndarray, " n"], int]:
    """Return the number of each clip's person, from 0, and how many people there are."""
    found, codes = np.unique(names.astype(str), return_inverse=True)
    return codes.astype(np.int64), len(found)


def scale_points(
    points: Float[np.ndarray, "n features"], reference: Float[np.ndarray, "m features"]
) -> Float[np.ndarray, "n features"]:
    """Return points in units of the standard deviation of `reference`, feature by feature.

    A feature that hardly varies counts in units of a fifth of the usual deviation.
    """
    spread = reference.std(axis=0)
    return points / np.maximum(spread, max(0.2 * float(np.median(spread)), 1e-9))


def measure_distance(
    first: Sequence[Group],
    second: Sequence[Group],
    counts: tuple[int, int],
    draw_names: tuple[str, str],
) -> tuple[list[Interval], Interval]:
    """Return the energy coefficient of each pair of groups, and of their mean, with intervals.

    The coefficient is (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / (2 E|X - Y|), the energy distance of
    Székely and Rizzo (2013), Eq. 1, as a share of its largest value: 0 if both sets are samples of
    one population, 1 if they are two single points. Groups are the classes; `counts` are the people
    of both sides over all of them. A pair with fewer than MIN_GROUP_PEOPLE on a side is nan,
    and is not in the mean. Intervals are over resamples of the people of both sides.
    """
    times = [
        np.concatenate([np.ones((1, count), dtype=np.int64), draw_resamples(count, name)])
        for count, name in zip(counts, draw_names, strict=True)
    ]
    values = np.array(
        [_compare_groups(x, y, times[0], times[1]) for x, y in zip(first, second, strict=True)]
    ).reshape(len(first), -1)
    each = [make_interval(float(row[0]), None if np.isnan(row[0]) else row[1:]) for row in values]
    known = values[np.isfinite(values[:, 0])]
    if not len(known):
        return each, Interval(float("nan"), float("nan"), float("nan"))
    means = average_known(known)
    return each, make_interval(float(means[0]), means[1:])


def average_known(rows: Float[np.ndarray, "k draws"]) -> Float[np.ndarray, " draws"]:
    """Return the mean of the finite numbers of each column; nan where there are none."""
    is_known = np.isfinite(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_known, rows, 0).sum(axis=0) / is_known.sum(axis=0)


def measure_halves(
    groups: Sequence[Group], count: int, name: str
) -> Float[np.ndarray, " halvings"]:
    """Return the mean coefficient between halves of real people, for each of some halvings."""
    found = []
    for number in range(HALVINGS):
        order = make_rng("halves of people", name, number).permutation(count)
        is_first = np.isin(np.arange(count), order[: count // 2])
        pairs = [
            (group.select(is_first[group.people]), group.select(~is_first[group.people]))
            for group in groups
        ]
        whole = np.ones((1, count), dtype=np.int64)
        values = [_compare_groups(x, y, whole, whole)[0] for x, y in pairs]
        if np.isfinite(values).any():
            found.append(float(average_known(np.array(values)[:, None])[0]))
    return np.array(found)


def _compare_groups(
    x: Group, y: Group, x_times: Int[np.ndarray, "draws p"], y_times: Int[np.ndarray, "draws q"]
) -> Float[np.ndarray, " draws"]:
    """Return the energy coefficient in each resample; nan where a side has too few people."""
    draws = len(x_times)
    if min(len(set(x.people.tolist())), len(set(y.people.tolist()))) < MIN_GROUP_PEOPLE:
        return np.full(draws, np.nan)
    across = _average_pairs(x, y, x_times, y_times, is_within=False)
    within = [
        _average_pairs(group, group, times, times, is_within=True)
        for group, times in ((x, x_times), (y, y_times))
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (2 * across - within[0] - within[1]) / (2 * across)


def _average_pairs(
    x: Group,
    y: Group,
    x_times: Int[np.ndarray, "draws p"],
    y_times: Int[np.ndarray, "draws q"],
    is_within: bool,
) -> Float[np.ndarray, " draws"]:
    """Return the mean distance of pairs in each resample; within a set, of different people."""
    squares = (x.points**2).sum(1)[:, None] + (y.points**2).sum(1) - 2 * x.points @ y.points.T
    distances = np.sqrt(np.maximum(squares, 0))

    # Sums and numbers of the pairs of each two people
    shape = (x_times.shape[1], y_times.shape[1])
    sums, numbers = np.zeros(shape), np.zeros(shape)
    places = np.ix_(x.people, y.people)
    np.add.at(sums, (x.people[:, None], y.people[None]), distances)
    np.add.at(numbers, places, 1.0)
    if is_within:
        np.fill_diagonal(sums, 0)
        np.fill_diagonal(numbers, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((x_times @ sums) * y_times).sum(1) / ((x_times @ numbers) * y_times).sum(1)
