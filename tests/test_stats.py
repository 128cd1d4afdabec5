"""Statistics: intervals cover what they should, comparisons are paired, and p is that of all
flips.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from mien import metrics, stats

CLASSES = ("fear", "happiness", "sadness")
ACCURACY = metrics.make_measure("accuracy")


def answers(true: np.ndarray, given: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """One trial's counts [1, groups, c, c] of single answers; each is a group of its own unless
    groups are given.
    """
    places = np.arange(len(true)) if groups is None else groups
    counts = np.zeros((int(places.max()) + 1, len(CLASSES), len(CLASSES)))
    np.add.at(counts, (places, true, given), 1)
    return counts[None]


def some(seed: int, groups: int = 20, trials: int = 2) -> np.ndarray:
    """Counts of an answerer that is right more often than not."""
    rng = np.random.default_rng(seed)
    return rng.poisson(1 + 3 * np.eye(3), (trials, groups, 3, 3)).astype(float)


def interval(counts: np.ndarray, metric: str = "accuracy", *names: str) -> stats.Interval:
    measure = metrics.make_measure(metric)
    return stats.make_interval(
        stats.average_over_trials(counts, measure), stats.bootstrap(counts, measure, *names)
    )


# Measures of many matrices at once


@pytest.mark.parity
@pytest.mark.parametrize("metric", metrics.SCORES)
def test_measures_of_many_matrices_are_the_scores_of_each(metric: str):
    counts = some(0)[0]
    counts[3, 1] = 0  # a class without a true sample is left out of UF1 and UAR
    counts[4, :, 2] = 0  # a class that is never answered is not
    expected = [metrics.score(one.astype(np.int64), CLASSES).get(metric) for one in counts]
    np.testing.assert_allclose(metrics.make_measure(metric)(counts), expected)


def test_a_matrix_without_a_sample_has_no_score():
    for metric in metrics.SCORES:
        assert np.isnan(metrics.make_measure(metric)(np.zeros((1, 3, 3)))).all()


# Intervals


@pytest.mark.parity
@pytest.mark.parametrize("metric", metrics.SCORES)
def test_the_interval_of_single_images_is_that_of_scipy(metric: str):
    rng = np.random.default_rng(1)
    true = rng.integers(0, 3, 150)
    given = np.where(rng.random(150) < 0.6, true, rng.integers(0, 3, 150))

    def statistic(true: np.ndarray, given: np.ndarray) -> float:
        return metrics.score(metrics.count_confusion(true, given, 3), CLASSES).get(metric)

    theirs = scipy.stats.bootstrap(
        (true, given),
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=rng,
    ).confidence_interval
    ours = interval(answers(true, given), metric)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)
    assert ours.value == pytest.approx(statistic(true, given))


def test_the_interval_covers_the_truth_about_95_times_in_100():
    covered = []
    for number in range(400):
        rng = np.random.default_rng(number)
        # 40 people, some easy and some hard: on average 0.6
        share = np.repeat(rng.beta(6, 4, 40), 12)
        true = np.zeros(len(share), dtype=np.int64)
        given = (rng.random(len(share)) > share).astype(np.int64)
        found = interval(answers(true, given, np.repeat(np.arange(40), 12)))
        covered.append(found.low <= 0.6 <= found.high)
    assert 0.91 < np.mean(covered) < 0.98


def test_images_of_one_person_count_for_less_than_as_many_people():
    true = np.zeros(200, dtype=np.int64)
    people = np.arange(200) // 20
    given = (people % 2).astype(np.int64)  # all images of a person are right, or none
    apart, together = interval(answers(true, given)), interval(answers(true, given, people))
    assert apart.value == together.value == 0.5
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_ratios_are_formed_after_counts_are_summed():
    counts = np.zeros((1, 2, 3, 3))
    # one person with 90 right images, one with 10 wrong ones
    counts[0, 0, 0, 0], counts[0, 1, 0, 1] = (90, 10)
    assert stats.average_over_trials(counts, ACCURACY) == 0.9  # and not the mean over people, 0.5
    drawn = stats.bootstrap(counts, ACCURACY)
    assert drawn is not None
    assert sorted(set(drawn.round(6))) == [0, 0.9, 1]


def test_the_mean_is_that_of_the_trials_scores():
    counts = some(2)
    each = [metrics.score(one.sum(axis=0).astype(np.int64), CLASSES).uf1 for one in counts]
    assert stats.average_over_trials(counts, metrics.make_measure("uf1")) == pytest.approx(
        np.mean(each)
    )


def test_where_people_are_alike_each_draw_is_the_mean_of_the_trials_scores():
    counts = np.repeat(some(8, groups=1, trials=2), 3, axis=1)
    drawn = stats.bootstrap(counts, metrics.make_measure("uf1"))
    assert drawn == pytest.approx(
        np.full(
            stats.BOOTSTRAP_RESAMPLES,
            stats.average_over_trials(counts, metrics.make_measure("uf1")),
        )
    )


def test_more_frames_of_the_same_people_change_nothing():
    few, many = interval(some(3), "uf1"), interval(7 * some(3), "uf1")
    assert (few.value, few.low, few.high) == pytest.approx((many.value, many.low, many.high))


def test_a_single_person_bounds_nothing():
    found = interval(some(4, groups=1))
    assert found.value == stats.average_over_trials(some(4, groups=1), ACCURACY)
    assert np.isnan([found.low, found.high]).all()


def test_an_interval_is_the_same_each_time_and_holds_the_value():
    first = interval(some(5))
    stats.draw_resamples.cache_clear()
    assert interval(some(5)) == first
    assert first.low < first.value < first.high


# Comparisons


def gap(
    ours: np.ndarray, theirs: np.ndarray, names: Sequence[str] = ("same", "same")
) -> stats.Interval:
    first, second = (
        stats.bootstrap(one, ACCURACY, name)
        for one, name in zip((ours, theirs), names, strict=True)
    )
    assert first is not None and second is not None
    return stats.make_interval(
        stats.average_over_trials(ours, ACCURACY) - stats.average_over_trials(theirs, ACCURACY),
        first - second,
    )


def test_equal_answers_differ_by_nothing():
    assert gap(some(6), some(6)) == stats.Interval(0.0, 0.0, 0.0)
    assert stats.test_by_sign_flips(np.zeros(9)) == stats.test_by_sign_flips(np.zeros(40)) == 1


def test_a_constant_gap_is_found_though_people_differ_more_than_that():
    people = np.repeat(np.arange(20), 10)
    true = np.zeros(200, dtype=np.int64)
    worse = (np.arange(200) % 10 >= people % 10).astype(np.int64)  # from 0 to 9 of 10 images right
    better = worse.copy()
    better[(np.arange(200) % 10) == people % 10] = 0  # one more of each person's
    ours, theirs = (answers(true, given, people) for given in (better, worse))
    paired, apart = gap(ours, theirs), gap(ours, theirs, ("ours", "theirs"))
    assert (paired.low, paired.high) == pytest.approx((0.1, 0.1))
    assert apart.low < 0 < apart.high  # drawn apart, as different images are, the same gap drowns
    assert paired.value == pytest.approx(apart.value)


def test_draws_of_other_groups_are_others():
    assert (stats.draw_resamples(9, "a") != stats.draw_resamples(9, "b")).any()
    assert (stats.draw_resamples(9, "a").sum(axis=1) == 9).all()


# Flips


@pytest.mark.parametrize(
    ("gaps", "p"),
    [([1, 1, 1], 2 / 8), ([3, -1], 1), ([2, 1, -1], 4 / 8 + 2 / 8), ([5] * 12, 2 / 4096), ([4], 1)],
)
def test_p_of_a_few_people_is_that_of_all_flips(gaps: list[float], p: float):
    assert stats.test_by_sign_flips(np.array(gaps, dtype=float)) == p


def test_p_is_the_same_for_either_side():
    gaps = np.random.default_rng(0).normal(0.7, 1, 30)
    assert stats.test_by_sign_flips(gaps) == pytest.approx(stats.test_by_sign_flips(-gaps))
    assert stats.test_by_sign_flips(gaps) < 0.1
    assert (
        stats.test_by_sign_flips(np.full(30, 0.2)) == 1 / 10_001
    )  # never nothing: what was seen is one of the flips


@pytest.mark.parity
@pytest.mark.parametrize("groups", [8, 25])
def test_p_is_that_of_scipy(groups: int):
    gaps = np.random.default_rng(groups).normal(0.4, 1, groups)
    theirs = scipy.stats.permutation_test(
        (gaps,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert stats.test_by_sign_flips(gaps) == pytest.approx(
        theirs.pvalue, abs=1e-9 if groups <= stats.MAX_GROUPS_FOR_ALL_FLIPS else 0.015
    )


def test_p_is_small_by_chance_about_5_times_in_100():
    values = [
        stats.test_by_sign_flips(np.random.default_rng(number).normal(0, 1, 10))
        for number in range(600)
    ]
    assert 0.025 < np.mean(np.array(values) <= 0.05) < 0.075


# Records


def test_a_record_keeps_the_bounds_that_could_be_drawn_and_has_none_for_the_others():
    bounded = stats.Record.of("a.b", stats.Interval(0.5, 0.0, 0.75), 7, "images", "fear")
    assert bounded == stats.Record("a.b", 0.5, 7, "images", 0.0, 0.75, part="fear")
    alone = stats.Record.of("a.b", stats.make_interval(0.5, None), 1)
    assert (alone.low, alone.high, alone.unit, alone.part) == (None, None, "", "")
