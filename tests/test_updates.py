"""A number of optimiser updates takes the place of epochs, whatever the number of images is."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import recall_score
from worlds import CLASSES, SMALL_FIELDS, blobs, fit_with_stops, keep, same_weights, table

from mien.classifiers.fit import ClassifierTraining, fit_network, hold_out
from mien.classifiers.predict import predict_classes, start_network
from mien.classifiers.specs import ClassifierSpec, select_networks
from mien.errors import SpecError
from mien.faces import Faces
from mien.runs import devices
from mien.runs.store import Store
from mien.study import cost
from mien.study.file import resolve
from mien.study.plan import plan_study

CPU = torch.device("cpu")


def tiny(**changes: Any) -> ClassifierSpec:
    return ClassifierSpec.model_validate({"name": "tiny", "size": 16, "batch": 16, **changes})


def start(faces: Faces, spec: ClassifierSpec) -> ClassifierTraining:
    return ClassifierTraining(start_network(spec, CLASSES, 0, None), faces, 0, CPU)


def test_as_many_updates_as_some_epochs_have_give_the_same_bits():
    faces = blobs(70)  # 4 steps an epoch, and 6 images over
    by_epochs = fit_network(faces, tiny(epochs=3), CLASSES, 5, device="cpu")
    by_updates = fit_network(faces, tiny(updates=12), CLASSES, 5, device="cpu")
    assert same_weights(by_epochs.network, by_updates.network)
    assert by_epochs.curve == by_updates.curve and by_updates.epoch == 3


@pytest.mark.parametrize("n", [5, 40, 96])
def test_small_and_large_sets_take_the_same_number_of_steps(
    n: int, monkeypatch: pytest.MonkeyPatch
):
    taken, rates = [], []
    step_of = ClassifierTraining.make_step

    def count(work: ClassifierTraining, step: int) -> torch.Tensor:
        taken.append(step)
        scores = step_of(work, step)
        rates.append(work.optimiser.param_groups[0]["lr"])
        return scores

    monkeypatch.setattr(ClassifierTraining, "make_step", count)
    fit_network(blobs(n), tiny(updates=9, learning_rate=1.0e-3), CLASSES, 0, device="cpu")
    assert taken == list(range(9))
    cosine = 0.5e-3 * (1 + np.cos(np.pi * np.arange(9) / 9))
    assert rates == pytest.approx(cosine)


def test_a_partial_last_epoch_is_scored_and_can_be_chosen():
    faces = blobs(96, noise=40)
    shown, held = hold_out(faces, 0.3, 0)
    assert held is not None
    spec = tiny(updates=10, validation=0.3)
    work = start(shown, spec)
    assert work.phase.steps_per_epoch == 4
    uars = []
    with devices.isolate_randomness(CPU), devices.limit_cores(1):
        for step in range(10):
            work.make_step(step)
            if step in (3, 7, 9):
                found = predict_classes(work.classifier, held).argmax(axis=1)
                uars.append(recall_score(held.number_labels(CLASSES), found, average="macro"))
    last = deepcopy(work.network)

    watched: list[int] = []
    chosen = fit_network(
        faces, spec, CLASSES, 0, device="cpu", watch=lambda _, epoch: watched.append(epoch)
    )
    assert watched == [one.epoch for one in chosen.curve] == [1, 2, 3]
    assert all(one.validation_accuracy is not None for one in chosen.curve)
    assert chosen.epoch == int(np.argmax(uars)) + 1 == 3  # the partial one is the best here
    assert same_weights(chosen.network, last)


def test_a_training_that_was_stopped_in_its_partial_epoch_goes_on_exactly(tmp_path: Path):
    faces, spec = blobs(64), tiny(updates=11)
    whole = fit_network(faces, spec, CLASSES, 3, device="cpu")
    resumed = fit_with_stops(faces, spec, 3, tmp_path, (10,))
    assert same_weights(whole.network, resumed.network) and whole.curve == resumed.curve


# Specifications


def test_updates_and_epochs_together_are_refused():
    with pytest.raises(ValidationError, match=r"either updates or epochs.*Remove one"):
        tiny(updates=10, epochs=3)


def test_a_specification_with_updates_omits_epochs_and_others_stay_as_they_were():
    spec = tiny(updates=10)
    fields = spec.model_dump(mode="json")
    assert fields["updates"] == 10 and "epochs" not in fields
    assert ClassifierSpec.model_validate_json(spec.model_dump_json()) == spec
    assert "updates" not in tiny(epochs=3).model_dump(mode="json")


# In a study


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    return store


def test_the_more_special_table_says_how_long_the_training_is(store: Store):
    study = table(
        classifiers=["tiny", "long"],
        classifier={**SMALL_FIELDS, "long": {"name": "tiny", "updates": 50}},
        ablations=["plain", "short"],
        ablation={"short": {"updates": 7}},
    )
    networks = resolve(study, store).classifiers
    lengths = [
        (one.updates, one.updates is None and one.epochs)
        for name in ("tiny", "long")
        for one in select_networks(networks[name]).values()
    ]
    assert lengths == [(None, 3), (7, False), (50, False), (7, False)]
    both = table(ablations=["short"], ablation={"short": {"updates": 7, "epochs": 2}})
    with pytest.raises(SpecError, match="short: either updates or epochs"):
        resolve(both, store)


def test_inflation_compares_epochs_which_folds_with_updates_may_not_share(store: Store):
    study = table(inflation=True, ablations=["short"], ablation={"short": {"updates": 7}})
    with pytest.raises(SpecError, match=r"tiny, short, has updates = 7\. Set epochs"):
        resolve(study, store)


def test_the_cost_of_updates_does_not_depend_on_the_number_of_images(store: Store):
    keep(blobs(192), store, "more")
    seconds = {}
    for faces in ("blobs", "more"):
        for length in ({"updates": 600}, {"epochs": 100}):
            fields = {key: value for key, value in SMALL_FIELDS.items() if key != "epochs"}
            study = resolve(table(faces=faces, trials=1, classifier={**fields, **length}), store)
            plan = plan_study(study, store)
            seconds[faces, *length] = cost.sum_costs(
                cost.estimate_costs(plan, list(plan.rows), store, "cpu")
            ).seconds
    assert seconds["more", "updates"] == pytest.approx(seconds["blobs", "updates"], rel=0.05)
    assert seconds["more", "epochs"] == pytest.approx(2 * seconds["blobs", "epochs"], rel=0.05)
