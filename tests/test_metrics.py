"""Scores: known answers, parity with scikit-learn, and pooling before any ratio."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
)

from mien import metrics, published
from mien.errors import DataError

NAMES = ("a", "b", "c", "d")


def draws(seed: int, n: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    return true, np.where(rng.random(n) < 0.6, true, rng.integers(0, classes, n))


def per_class(measure: Any, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return measure(true, predicted, average=None)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_those_of_scikit_learn(seed: int):
    true, predicted = draws(seed)
    ours = metrics.score(metrics.count_confusion(true, predicted, 4), NAMES)
    assert ours.confusion.tolist() == confusion_matrix(true, predicted).tolist()
    assert ours.accuracy == pytest.approx(accuracy_score(true, predicted))
    assert ours.uf1 == pytest.approx(f1_score(true, predicted, average="macro"))
    assert ours.uar == pytest.approx(balanced_accuracy_score(true, predicted))
    assert ours.f1 == pytest.approx(per_class(f1_score, true, predicted))
    assert ours.recall == pytest.approx(per_class(recall_score, true, predicted))
    assert (ours.n, ours.left_out) == (200, ())


@pytest.mark.parity
def test_a_class_without_a_true_sample_is_left_out_as_scikit_learn_does_when_told():
    true, predicted = draws(0)
    predicted = predicted[true != 2]
    true = true[true != 2]
    ours = metrics.score(metrics.count_confusion(true, predicted, 4), NAMES)
    assert ours.left_out == ("c",)
    assert np.isnan(ours.recall[2])
    assert ours.uf1 == pytest.approx(f1_score(true, predicted, labels=[0, 1, 3], average="macro"))
    assert ours.uar == pytest.approx(
        recall_score(true, predicted, labels=[0, 1, 3], average="macro")
    )


def score_commonest(counts: dict[str, int]) -> metrics.Scores:
    true = np.repeat(np.arange(len(counts)), list(counts.values()))
    commonest = np.full(len(true), np.argmax(list(counts.values())))
    return metrics.score(metrics.count_confusion(true, commonest, len(counts)), list(counts))


def test_constant_answer_on_the_clips_of_casme_ii():
    scores = score_commonest(published.CLIPS_PER_CLASS)
    assert scores.n == 255
    assert scores.accuracy == scores.majority == pytest.approx(0.388, abs=5e-4)
    assert scores.uar == pytest.approx(1 / 7)
    assert scores.uf1 == pytest.approx(2 * 99 / (99 + 255) / 7)


def test_constant_answer_on_the_five_class_task_gives_the_floor_known_from_the_literature():
    five = {
        name: n for name, n in published.CLIPS_PER_CLASS.items() if name not in ("sadness", "fear")
    }
    scores = score_commonest(five)
    assert (scores.accuracy, scores.uf1) == (
        pytest.approx(0.402, abs=5e-4),
        pytest.approx(0.115, abs=5e-4),
    )


def test_counts_are_pooled_before_f1():
    folds = [np.array([[4, 0], [0, 0]]), np.array([[0, 0], [2, 2]])]
    pooled = metrics.score(np.sum(folds, axis=0), ("a", "b"))
    assert pooled.uf1 == pytest.approx((2 * 4 / (4 + 6) + 2 * 2 / (4 + 2)) / 2)
    mean_of_folds = np.mean([metrics.score(fold, ("a", "b")).uf1 for fold in folds])
    assert abs(pooled.uf1 - mean_of_folds) > 0.05


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 12))
def test_scores_do_not_depend_on_how_images_fall_into_folds(seed: int, n: int, folds: int):
    # Any partition, also with empty folds and with folds that lack a class
    true, predicted = draws(seed, n)
    fold = np.random.default_rng(seed).integers(0, folds, n)
    whole = metrics.score(metrics.count_confusion(true, predicted, 4), NAMES)
    counts = [
        metrics.count_confusion(true[fold == number], predicted[fold == number], 4)
        for number in range(folds)
    ]
    pooled = metrics.score(np.sum(counts, axis=0), NAMES)

    # The same from tables of predictions, in the order of the folds
    frames = metrics.make_predictions(
        [f"image{number}" for number in range(n)], [""] * n, true, np.eye(4)[predicted], NAMES
    )
    tables = [frames[fold == number] for number in range(folds)]
    from_tables = metrics.score_table(pd.concat(tables), NAMES)
    assert from_tables is not None
    for metric in metrics.SCORES:
        assert pooled.get(metric) == from_tables.get(metric) == whole.get(metric)

    # The same from groups, as the intervals over people see them
    by_fold = metrics.count_grouped_confusion(fold, true, predicted, folds, 4)
    assert (by_fold == np.array(counts)).all()


def table(
    true: list[int],
    probabilities: list[list[float]],
    clips: list[str],
    keys: list[str] | None = None,
):
    keys = keys or [f"image{number}" for number in range(len(true))]
    return metrics.make_predictions(
        keys, clips, np.array(true), np.array(probabilities, dtype=np.float32), ("a", "b")
    )


def test_a_clip_gets_the_mean_of_its_frames_probabilities():
    frames = table(
        [0, 0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]], ["x", "x", "x", "y"]
    )
    images = metrics.score_table(frames, ("a", "b"))
    clips = metrics.score_table(frames, ("a", "b"), "clips")
    assert images is not None and clips is not None
    assert (images.accuracy, images.n) == (0.5, 4)
    assert (clips.accuracy, clips.n) == (1.0, 2)  # the vote of frames would have lost clip x


def test_clip_scores_do_not_depend_on_the_order_of_frames():
    rng = np.random.default_rng(0)
    p = rng.random(40)
    frames = table(
        [0] * 20 + [1] * 20,
        [[float(x), float(1 - x)] for x in p],
        [f"clip{number // 4}" for number in range(40)],
    )
    shuffled = frames.sample(frac=1, random_state=1).reset_index(drop=True)
    first, second = (metrics.merge_into_clips(one, ("a", "b")) for one in (frames, shuffled))
    assert first[["clip", "true", "predicted"]].equals(second[["clip", "true", "predicted"]])
    assert first["p_a"].to_numpy() == pytest.approx(second["p_a"].to_numpy())


def test_images_without_a_clip_have_no_clip_scores():
    assert metrics.score_table(table([0], [[1.0, 0.0]], [""]), ("a", "b"), "clips") is None


def test_an_image_that_was_predicted_twice_is_refused():
    with pytest.raises(DataError, match="'k' was predicted more than once"):
        metrics.score_table(table([0, 0], [[1.0, 0.0]] * 2, ["", ""], ["k", "k"]), ("a", "b"))


def test_an_empty_test_set_is_refused():
    with pytest.raises(DataError, match="at least one sample"):
        metrics.score(np.zeros((2, 2), dtype=np.int64), ("a", "b"))


def test_a_class_number_out_of_range_is_refused():
    with pytest.raises(DataError, match="predicted classes must be 0 to 1"):
        metrics.count_confusion(np.array([0]), np.array([2]), 2)


def test_perfect_and_worst_answers():
    true = np.array([0, 1, 2, 3])
    assert metrics.score(metrics.count_confusion(true, true, 4), NAMES).uf1 == 1.0
    assert metrics.score(metrics.count_confusion(true, (true + 1) % 4, 4), NAMES).uf1 == 0.0
