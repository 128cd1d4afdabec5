"""What fits into a number of minutes: folds, trials, updates and images."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from mien.errors import UsageError
from mien.report.advise.arms import WAYS
from mien.runs.progress import quantify
from mien.runs.workload import Rates
from mien.study.cost import UnitCosts

PLANNED_SHARE = 0.8  # of the minutes; what was measured can be too fast by as much

# The least that says something: fewer updates learn nothing, and shorter trainings draw noise
LEAST_UPDATES, LEAST_IMAGES_SEEN = 100, 8_000

# What is aimed at before further folds are given up
DECENT_UPDATES, DECENT_IMAGES_SEEN, DECENT_RATIO = 200, 20_000, 1.0

RATIOS = (0.5, 1.0, 2.0, 4.0, 8.0)  # the largest number of synthetic images per real one

MOST_TRIALS = 5

GROWTH = 1.3  # the factor by which updates and images seen grow in each round

REFERENCE_RATES, REFERENCE_GPU_RATES = Rates(5e-11, 2.5e-9), Rates(2.5e-12, 1.25e-10)
"""The speeds by which too few minutes are refused, in seconds of a product and of a number: of one
core of a small virtual machine, as measured, and of a GPU that is assumed to be 20 times as fast.
"""

# Seconds beside the work that is measured: loading of a trial, and judges of a filter
TRIAL_S, FILTER_S, FILTERED_IMAGE_S = 1.0, 4.0, 0.002


@dataclass(frozen=True)
class Size:
    """The size of a task: training and tested images of a fold, and folds that there are.

    `least_folds` have enough people for an answer. `updates` are enough for a training, and
    `images_seen` for a generator.
    """

    train: int
    test: int
    folds: int
    updates: int
    images_seen: int
    least_folds: int = 1


@dataclass(frozen=True)
class Budget:
    """What is done within a number of minutes.

    `folds` are tested, each with a generator that sees `images_seen` images and draws `ratio` per
    real training image. Each way of training is tried `trials` times with `updates` updates.
    """

    folds: int
    trials: int
    updates: int
    images_seen: int
    ratio: float


def estimate_seconds(budget: Budget, size: Size, costs: UnitCosts, workers: int) -> float:
    """Return the seconds that a budget's work takes with so many workers at a time."""
    # One generator for each fold; more workers than folds do not help it
    drawn = math.ceil(budget.ratio * size.train)
    generator_s = budget.images_seen * costs.seen + drawn * costs.drawn
    generators_s = budget.folds * generator_s / min(workers, budget.folds)

    # One filter for each fold, and the trials of all ways
    filters_s = budget.folds * (FILTER_S + FILTERED_IMAGE_S * (drawn + size.train))
    ways = Counter(way.ablation for way in WAYS.values())
    trial_s = sum(
        ways[ablation]
        * (TRIAL_S + budget.updates * update_s + size.test * costs.predicted[name, ablation])
        for (name, ablation), update_s in costs.updates.items()
    )
    return generators_s + (filters_s + budget.folds * budget.trials * trial_s) / workers


def find_least_budget(size: Size) -> Budget:
    """Return the smallest budget that says something."""
    return Budget(
        size.least_folds,
        1,
        min(LEAST_UPDATES, size.updates),
        min(LEAST_IMAGES_SEEN, size.images_seen),
        RATIOS[0],
    )


def require_minutes(minutes: float, size: Size, costs: UnitCosts, workers: int) -> None:
    """Raise UsageError, with the smallest number that is enough, if minutes are too few.

    `costs` are those at a reference speed (REFERENCE_RATES), so that the same minutes are refused
    or accepted however busy the machine is.
    """
    least = find_least_budget(size)
    needed = estimate_seconds(least, size, costs, workers) / 60 / PLANNED_SHARE
    if minutes < needed:
        raise UsageError(
            f"--minutes must be {_round_up(needed):g} or more for these faces: as long takes the "
            f"smallest comparison ({quantify(least.folds, 'fold')}, {least.updates} updates, a "
            f"generator that sees {least.images_seen:,} images) on "
            f"{quantify(workers, 'worker')} of the reference speed; given: {minutes:g}"
        )


def fit_budget(minutes: float, size: Size, costs: UnitCosts, workers: int) -> Budget:
    """Return the largest budget whose work takes PLANNED_SHARE of so many minutes.

    All folds are tested if they can be, since certainty comes from people, and never fewer than
    `least_folds`. Then the training of generators, updates, trials and images grow in turn. If even
    the least budget takes longer, it is returned.
    """

    def fits(budget: Budget) -> bool:
        return estimate_seconds(budget, size, costs, workers) <= 60 * minutes * PLANNED_SHARE

    # As many folds as possible, decently, or else with the least
    least = find_least_budget(size)
    decent = Budget(
        size.least_folds,
        1,
        min(DECENT_UPDATES, size.updates),
        min(DECENT_IMAGES_SEEN, size.images_seen),
        DECENT_RATIO,
    )
    fitting = [
        budget
        for start in (decent, least)
        for folds in range(size.folds, size.least_folds - 1, -1)
        if fits(budget := replace(start, folds=folds))
    ]
    if not fitting:
        return least

    # Grow in turn
    budget, grown = fitting[0], True
    while grown:
        grown = False
        for step in _list_steps(size):
            larger = step(budget)
            if larger != budget and fits(larger):
                budget, grown = larger, True
    return budget


def _list_steps(size: Size) -> list[Callable[[Budget], Budget]]:
    """Return the functions that make a budget a little larger, in their order."""

    def train_generators_longer(budget: Budget) -> Budget:
        images_seen = min(size.images_seen, _grow(budget.images_seen))
        return replace(budget, images_seen=images_seen)

    def update_more(budget: Budget) -> Budget:
        return replace(budget, updates=min(size.updates, _grow(budget.updates)))

    def try_more(budget: Budget) -> Budget:
        return replace(budget, trials=min(MOST_TRIALS, budget.trials + 1))

    def draw_more(budget: Budget) -> Budget:
        larger = [ratio for ratio in RATIOS if ratio > budget.ratio]
        return replace(budget, ratio=larger[0] if larger else budget.ratio)

    return [train_generators_longer, update_more, try_more, train_generators_longer, draw_more]


def _grow(number: int) -> int:
    return math.ceil(number * GROWTH)


def _round_up(minutes: float) -> float:
    """Return minutes, rounded up to a tenth below ten and to a whole number above."""
    return math.ceil(minutes * 10) / 10 if minutes < 10 else math.ceil(minutes)
