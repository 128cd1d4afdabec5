"""CLASSIFIERS: what every classifier keeps, whether it is a network or not."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from worlds import CLASSES, blobs, show_as

from mien.classifiers import fit
from mien.classifiers.baselines import BASELINES
from mien.classifiers.kinds import CLASSIFIERS, FittedClassifier, find_timing, fit_classifier
from mien.classifiers.networks import require_known_network
from mien.classifiers.specs import OWN_NETWORKS, AnyClassifier, ClassifierSpec
from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.prepare.flow import FLOW_CHANNELS
from mien.runs import checkpoints
from mien.runs.spec import read_spec
from mien.runs.store import Store
from mien.study.specs import TrialSpec

# Every entry of the table, and a network of timm, which is known by its name alone
FIELDS: dict[str, Any] = {"weights": "none", "epochs": 10, "batch": 16, "learning_rate": 5e-3}
SLOW: dict[str, dict[str, Any]] = {  # members that learn slowly
    "ststnet": {"epochs": 30},
    "cnn_lstm": {"epochs": 20},
    "vivit": {"epochs": 40, "learning_rate": 2e-3},
}


def make_spec(name: str, size: int) -> ClassifierSpec:
    return ClassifierSpec.model_validate(
        {"name": name, "size": size, **FIELDS, **SLOW.get(name, {})}
    )


MEMBERS: dict[str, AnyClassifier] = {
    **{name: make_spec(name, size=16) for name in OWN_NETWORKS},
    **{name: name for name in BASELINES},
    "test_resnet": make_spec("test_resnet", size=32),
}
SHOWN = {"images": ("gray",), "flow": FLOW_CHANNELS, "clips": ("t0", "t1")}
each = pytest.mark.parametrize("name", MEMBERS)
UNITS = {"fear": "1+4+20", "happiness": "6+12", "sadness": "1+15", "surprise": "1+2+26"}
CONSTANT = {"majority"}  # the members that give one answer to all images


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def fit_member(
    name: str, faces: Faces, store: Store, scratch: Path | None = None
) -> FittedClassifier:
    given = see(name, faces)
    return fit_classifier(given, MEMBERS[name], CLASSES, 3, store, scratch=scratch, device="cpu")


def see(name: str, faces: Faces) -> Faces:
    """Return faces as the member takes them; action units show the class as the images do."""
    if name in BASELINES and BASELINES[name].reads_units:
        units = faces.index["emotion"].map(UNITS)
        return replace(faces, index=faces.index.assign(action_units=units))
    own = OWN_NETWORKS.get(name)
    return faces if own is None else show_as(faces, SHOWN[own.takes])


@pytest.fixture(scope="module")
def sides() -> tuple[Faces, Faces]:
    """Training and test faces whose class a blob shows; of the first class most are trained on."""
    train, test = blobs(96, seed=1), blobs(40, seed=2)
    rare = (train.index["emotion"] != CLASSES[0]) & (np.arange(len(train)) < 24)
    return train.select(~rare.to_numpy()), test


@pytest.fixture(scope="module")
def answers(store: Store, sides: tuple[Faces, Faces]) -> dict[str, np.ndarray]:
    """The probabilities that each member gives to the test faces."""
    train, test = sides
    return {name: fit_member(name, train, store).predict(see(name, test)) for name in MEMBERS}


def test_the_contract_is_tested_for_each_member():
    assert set(CLASSIFIERS) < set(MEMBERS)


@each
def test_a_member_learns_faces_that_can_be_told_apart(
    name: str, answers: dict[str, np.ndarray], sides: tuple[Faces, Faces]
):
    true = sides[1].number_labels(CLASSES)
    right = np.mean(answers[name].argmax(axis=1) == true)
    assert right == np.mean(true == 0) if name in CONSTANT else right > 0.9


@each
def test_a_member_gives_a_probability_to_each_class(
    name: str, answers: dict[str, np.ndarray], sides: tuple[Faces, Faces]
):
    found = answers[name]
    assert found.shape == (len(sides[1]), len(CLASSES)) and found.dtype == np.float32
    assert found.min() >= 0 and found.sum(axis=1) == pytest.approx(np.ones(len(found)), abs=1e-5)


@each
def test_a_member_takes_no_test_images_and_refuses_no_training_images(
    name: str, store: Store, sides: tuple[Faces, Faces]
):
    train, _ = sides
    nothing = train.select(np.zeros(len(train), dtype=bool))
    few = train.select(np.arange(8))
    assert fit_member(name, few, store).predict(see(name, nothing)).shape == (0, len(CLASSES))
    with pytest.raises(DataError, match="was given"):
        fit_member(name, nothing, store)


class Stop(Exception):
    """A stop in the middle of a training."""


@each
def test_a_member_answers_the_same_after_a_stop(
    name: str,
    store: Store,
    sides: tuple[Faces, Faces],
    answers: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # A network stops after a checkpoint; a baseline saves none, and begins again
    save, saved = checkpoints.save_checkpoint, []

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) == 8:
            raise Stop

    with monkeypatch.context() as changed:
        changed.setattr(fit, "CHECKPOINT_EVERY_S", 0.0)
        changed.setattr(checkpoints, "save_checkpoint", save_and_stop)
        with nullcontext() if name in BASELINES else pytest.raises(Stop):
            fit_member(name, sides[0], store, tmp_path)
    again = fit_member(name, sides[0], store, tmp_path)
    assert np.array_equal(again.predict(see(name, sides[1])), answers[name])


@each
def test_only_trainings_in_steps_are_timed(name: str):
    assert (find_timing(MEMBERS[name]) is None) is (name in BASELINES)


def test_a_baseline_is_known_by_its_name_and_an_unknown_name_gets_the_nearest_one():
    trial = {
        "faces": "faces-000000000000", "synthetic": "", "copycat": "", "by": "subject", "folds": 2,
        "number": 0, "split_seed": 0, "train": "real", "tests": ["real"], "classes": CLASSES,
        "trial": 0, "seed": 0,
    }  # fmt: skip
    assert read_spec(TrialSpec, {**trial, "classifier": "nearest"}, "trial").called == "nearest"
    with pytest.raises(SpecError, match=r"'nearst'\. Did you mean 'nearest'"):
        read_spec(TrialSpec, {**trial, "classifier": "nearst"}, "trial")
    with pytest.raises(SpecError, match=r"'nearst' is neither\. Did you mean 'nearest'"):
        require_known_network(["nearst"])
    with pytest.raises(SpecError, match="nearest is no network and has no fields"):
        read_spec(ClassifierSpec, {"name": "nearest"}, "classifier")


# The linear support vector machine


def test_a_linear_svm_answers_as_that_of_liblinear_for_two_classes():
    """Parity with another solver, where a hyperplane divides the training images."""
    train, test = blobs(80, seed=3, noise=10), blobs(40, seed=4, noise=10)
    pair = CLASSES[:2]
    one, two = (
        faces.select(faces.index["emotion"].isin(pair).to_numpy()) for faces in (train, test)
    )
    fitted = BASELINES["svm"](one, pair)
    scaler = StandardScaler().fit(one.images.reshape(len(one), -1))
    other = LinearSVC(C=28, loss="hinge", max_iter=1_000_000).fit(
        scaler.transform(one.images.reshape(len(one), -1)), one.number_labels(pair)
    )
    expected = other.predict(scaler.transform(two.images.reshape(len(two), -1)))
    assert np.mean(fitted.predict(two).argmax(axis=1) == expected) > 0.95


def test_a_linear_svm_gives_nothing_to_a_class_without_training_images():
    faces = blobs(24)
    known = faces.select((faces.index["emotion"] != CLASSES[1]).to_numpy())
    found = BASELINES["svm"](known, CLASSES).predict(faces)
    assert (found[:, 1] == 0).all() and found.sum(axis=1) == pytest.approx(np.ones(24))
    one = faces.select((faces.index["emotion"] == CLASSES[2]).to_numpy())
    assert (BASELINES["svm"](one, CLASSES).predict(faces)[:, 2] == 1).all()


def test_a_linear_svm_does_not_see_how_large_a_channel_is_shown():
    """Features are standardised: a flow on another scale gives the same answers."""
    faces = show_as(blobs(48, noise=10), ("flow-right", "flow-down", "strain"))
    images = faces.images.copy()
    images[:, 0] = images[:, 0] // 4 * 2
    images[:, 1] = images[:, 0] // 2 + 20
    narrow = replace(faces, images=images)
    images = images.copy()
    images[:, 1] = images[:, 0]
    wide = replace(faces, images=images)
    first, second = (BASELINES["svm"](one, CLASSES).predict(one) for one in (narrow, wide))
    assert first == pytest.approx(second, abs=0.02)
