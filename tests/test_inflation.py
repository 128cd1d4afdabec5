"""Inflation: an epoch that is chosen on the test subjects scores more than an honest one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import DataError
from mien.study.inflation import CHOICES, measure_inflation

CLASSES = ("fear", "happiness")


def test_known_choices_of_epochs():
    """Subject a is right after the first epoch, b after the second; the last epoch counts."""
    true = np.array([0, 0, 1, 1])
    answers = np.array(
        [
            [0, 0, 0, 0],  # a right, b wrong
            [1, 1, 1, 1],  # a wrong, b right
            [1, 0, 0, 0],  # a half right, b wrong
        ]
    )
    found = measure_inflation(true, answers, answers[-1], ["a", "a", "b", "b"], CLASSES)
    accuracies = {name: found.scores[name]["accuracy"] for name in CHOICES}
    assert accuracies == {"honest": 0.25, "pooled": 0.5, "by_subject": 1.0, "by_score": 1.0}
    assert (found.n, found.subjects, found.epochs) == (4, 2, 3)


def test_accuracy_and_f1_may_come_from_different_epochs():
    true = np.array([0, 0, 0, 0, 0, 1])
    answers = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]])  # more accurate, and fairer
    found = measure_inflation(true, answers, answers[0], ["a"] * 6, CLASSES)
    assert found.scores["by_subject"] == found.scores["honest"]
    assert found.scores["by_score"]["accuracy"] == pytest.approx(5 / 6)
    assert found.scores["by_score"]["uar"] == pytest.approx((3 / 5 + 1) / 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5))
def test_choosing_on_the_test_subjects_never_lowers_the_accuracy(
    seed: int, epochs: int, people: int
):
    draw = np.random.default_rng(seed)
    subjects = [f"s{number}" for number in range(people) for _ in range(4)]
    true = draw.integers(0, 2, len(subjects))
    answers = draw.integers(0, 2, (epochs, len(subjects)))
    scores = measure_inflation(true, answers, answers[-1], subjects, CLASSES).scores
    accuracies = [scores[name]["accuracy"] for name in CHOICES]
    assert accuracies == sorted(accuracies)
    if epochs == 1:
        assert len(set(accuracies)) == 1


def test_chance_alone_looks_like_skill_when_the_epoch_is_chosen_for_each_subject():
    """Answers at random are right half of the time; the best of 50 epochs for 26 people is not."""
    draw = np.random.default_rng(0)
    subjects = [f"s{number}" for number in range(26) for _ in range(8)]
    true = draw.integers(0, 2, len(subjects))
    answers = draw.integers(0, 2, (50, len(subjects)))
    scores = measure_inflation(true, answers, answers[-1], subjects, CLASSES).scores
    assert abs(scores["honest"]["accuracy"] - 0.5) < 0.08
    assert scores["by_subject"]["accuracy"] > 0.8


def test_numbers_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match="2 epochs of 3 images, 3 labels, 2 subjects"):
        measure_inflation(
            np.zeros(3, dtype=np.int64),
            np.zeros((2, 3), dtype=np.int64),
            np.zeros(3, dtype=np.int64),
            ["a", "b"],
            CLASSES,
        )
