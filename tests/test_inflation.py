"""Inflation: an epoch that is chosen on the test subjects scores more than an honest one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from worlds import SMALL_FIELDS, blobs, keep, table

from mien.classifiers.baselines import Nearest
from mien.errors import DataError
from mien.report.chosen_epochs import describe_inflation, make_inflation_table
from mien.report.write import write_report
from mien.runs.store import Store
from mien.study.file import resolve
from mien.study.inflation import CHOICES, measure_inflation, read_epochs
from mien.study.plan import plan_study
from mien.study.predictions import read_predictions
from mien.study.results import StudyResults
from mien.study.run import run_study
from mien.study.specs import StudySpec
from mien.study.trials import EpochAnswers, load_train_and_tests, run_trial

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


# In a study


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StudySpec]:
    store = Store(tmp_path_factory.mktemp("inflation") / "store")
    keep(blobs(), store, "blobs")
    study = resolve(table(inflation=True, controls=["nearest"]), store)
    run_study(study, store, device="cpu")
    return store, study


def test_a_trial_keeps_its_answers_after_each_epoch(watched: tuple[Store, StudySpec]):
    store, study = watched
    for row in plan_study(study, store).rows:
        run = store.run(row.spec.name)
        answers = read_epochs(run.path)
        if row.control:
            assert answers is None
            continue
        predictions = read_predictions(run)
        assert answers is not None and len(answers) == SMALL_FIELDS["epochs"]
        # the last epoch is the one that counts, since no epoch is chosen on held-out images
        last = [study.classes[number] for number in answers[-1]]
        assert last == list(predictions["predicted"])


def test_a_training_that_resumes_has_the_answers_of_all_epochs(
    watched: tuple[Store, StudySpec], tmp_path: Path
):
    """A second process does the epochs after the checkpoint, one of them again."""
    store, study = watched
    row = next(row for row in plan_study(study, store).rows if not row.control)
    train, tests = load_train_and_tests(row.spec, store)
    network = Nearest(train, row.spec.classes)
    for epochs in ((1, 2), (2, 3)):
        kept = EpochAnswers(tests["real"], tmp_path)
        for epoch in epochs:
            kept.add(network, epoch)
    answers = kept.collect()
    assert answers.shape == (3, len(tests["real"])) and answers.dtype == np.int16
    assert (answers == network.predict(tests["real"]).argmax(axis=1)).all()


def test_keeping_answers_changes_nothing_in_the_training(watched: tuple[Store, StudySpec]):
    store, study = watched
    row = next(row for row in plan_study(study, store).rows if not row.control)
    plain = run_trial(row.spec.model_copy(update={"keeps_epochs": False}), store, "cpu")
    assert read_predictions(plain).equals(read_predictions(store.run(row.spec.name)))


def test_the_report_prints_the_inflated_scores_beside_the_honest_one(
    watched: tuple[Store, StudySpec], tmp_path: Path
):
    results = StudyResults("small", watched[0])
    (trials,) = results.inflation.values()
    assert len(trials) == 2 and trials[0].n == len(blobs())
    honest = results.find_cell("real_to_real", "tiny")
    assert honest is not None
    assert np.isclose(
        honest.average_trials("uar"), np.mean([one.scores["honest"]["uar"] for one in trials])
    )

    shown = make_inflation_table(results)
    assert shown is not None
    labels = [line.entries[0].text for line in shown.lines]
    assert labels[0] == "tiny" and labels[1] == "honest"
    assert all(text.startswith("inflated: ") for text in labels[2:])
    (sentence,) = describe_inflation(results)
    assert "with an honest epoch. Inflated," in sentence
    write_report(["small"], watched[0], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "What an epoch chosen on the test subjects would have claimed" in page


def test_inflation_needs_held_out_people():
    for fields in ({"protocol": "frame"}, {"settings": ["synthetic_to_real"]}):
        with pytest.raises(ValidationError, match="inflation needs the setting real_to_real"):
            table(inflation=True, **fields)
