"""Reviewers: each decision is saved at once, can be undone, and is compared with another's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from worlds import blobs, keep

from mien.audit.labels.review import apply_decisions, make_queue, read_decisions
from mien.audit.labels.reviewers import Review, compare_reviewers, list_reviewers
from mien.errors import DataError, StoreError, UsageError
from mien.faces import Faces
from mien.metrics import compute_kappa
from mien.runs.store import Run, Store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run]:
    """A store with a queue of 12 doubtful labels of blobs."""
    store = Store(tmp_path_factory.mktemp("reviewers") / "store")
    faces = keep(blobs(48), store, "blobs")
    return store, make_queue(faces, store, number=12)


def test_each_decision_is_saved_and_applied_as_a_table(home: tuple[Store, Run]):
    store, queue = home
    review = Review(queue, "ada", store)
    keys = [row.key for row in review.rows]
    other = next(name for name in ("fear", "sadness") if name != review.rows[1].emotion)
    review.decide(keys[0], "accept")
    review.decide(keys[1], "relabel", other)
    review.decide(keys[2], "reject", note="no face")
    review.decide(keys[3], "relabel", review.rows[3].emotion)

    # Another object, as after a restart, sees the same
    rows = Review(queue, "ada", store).rows
    assert [row.decision for row in rows[:5]] == ["accept", "relabel", "reject", "accept", ""]
    assert [row.answer for row in rows[1:3]] == [other, "reject"] and rows[2].note == "no face"

    # The library takes the table as it takes one that a person filled in
    run = apply_decisions(read_decisions(review.path), store)
    assert run.summary["decisions"] == {"accept": 2, "relabel": 1, "reject": 1}
    labels = Faces.load(run.path).index.set_index("key")["emotion"]
    assert labels[keys[1]] == other and keys[2] not in labels


def test_undo_brings_back_what_a_decision_replaced(home: tuple[Store, Run]):
    store, queue = home
    review = Review(queue, "undoer", store)
    key = review.rows[0].key
    assert review.undo() is None
    review.decide(key, "reject")
    review.decide(key, "accept", note="after all")
    undone = review.undo()
    assert undone is not None and (undone.decision, undone.note) == ("reject", "")
    undone = review.undo()
    assert undone is not None and undone.decision == "" and review.undo() is None


def test_wrong_decisions_names_and_runs_have_one_message(home: tuple[Store, Run]):
    store, queue = home
    review = Review(queue, "ben", store)
    with pytest.raises(DataError, match="has no image 'nobody'"):
        review.decide("nobody", "accept")
    with pytest.raises(DataError, match="accept, reject, relabel"):
        review.decide(review.rows[0].key, "maybe")
    with pytest.raises(DataError, match="relabel must be one of"):
        review.decide(review.rows[0].key, "relabel", "joyful rage")
    for name in ("../ada", "", "a/b", "a" * 41, ".hidden", "x\n"):
        with pytest.raises(UsageError, match="name of a reviewer"):
            Review(queue, name, store)
    with pytest.raises(StoreError, match="is none"):
        Review(store.run("blobs"), "ben", store)
    assert not review.path.exists()


def test_kappa_of_two_reviewers_has_its_n_and_an_interval(home: tuple[Store, Run]):
    store, queue = home
    one, two = Review(queue, "cleo", store), Review(queue, "dan", store)
    keys = [row.key for row in one.rows]
    answers = {"cleo": "aaraaraaar", "dan": "aaraaaraar"}
    for review, text in ((one, answers["cleo"]), (two, answers["dan"])):
        for key, letter in zip(keys, text, strict=False):
            review.decide(key, {"a": "accept", "r": "reject"}[letter])
    one.decide(keys[10], "accept")  # decided by one alone, and so not compared
    agreement = compare_reviewers(one.rows, two.rows)
    assert (agreement.n, agreement.same) == (10, 8)
    assert agreement.differing == (keys[5], keys[6])
    expected = cohen_kappa_score(
        [row.answer for row in one.rows[:10]], [row.answer for row in two.rows[:10]]
    )
    assert agreement.kappa.value == pytest.approx(expected)
    assert agreement.kappa.low < agreement.kappa.value < agreement.kappa.high <= 1
    assert {"cleo", "dan"} <= set(list_reviewers(queue, store))


def test_kappa_says_nothing_without_shared_images_or_with_one_answer_only(home: tuple[Store, Run]):
    store, queue = home
    one, two = Review(queue, "eve", store), Review(queue, "fay", store)
    assert compare_reviewers(one.rows, two.rows).n == 0
    for review in (one, two):
        for row in review.rows[:3]:
            review.decide(row.key, "reject")
    agreement = compare_reviewers(one.rows, two.rows)
    assert (agreement.n, agreement.same) == (3, 3) and np.isnan(agreement.kappa.value)


def test_kappa_equals_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    for _ in range(20):
        first, second = draw.integers(0, 4, (2, 30))
        counts = np.zeros((4, 4))
        np.add.at(counts, (first, second), 1)
        assert compute_kappa(counts) == pytest.approx(cohen_kappa_score(first, second))


def test_a_table_edited_by_hand_is_kept(home: tuple[Store, Run], tmp_path: Path):
    store, queue = home
    review = Review(queue, "gil", store)
    keys = [row.key for row in review.rows]
    review.decide(keys[0], "accept")
    table = pd.read_csv(review.path, dtype="str", keep_default_na=False)
    table.loc[4, "decision"] = "reject"
    table.to_csv(review.path, index=False)
    review.decide(keys[1], "accept")
    assert [row.decision for row in review.rows[:5]] == ["accept", "accept", "", "", "reject"]
