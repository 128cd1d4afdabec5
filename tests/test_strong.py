"""Strong augmentation: each picture has its own operations, and labels are mixed with images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import log_softmax
from worlds import CLASSES, blobs, fit_with_stops, keep, same_weights, show_as, table, tiny

from mien.classifiers import pretrained
from mien.classifiers.fit import ClassifierTraining, fit_network
from mien.classifiers.predict import start_network
from mien.classifiers.specs import ClassifierSpec, StrongSpec, select_networks
from mien.classifiers.speed import NetworkTiming
from mien.classifiers.strong import make_mix, require_labels, vary_pictures
from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.runs import checkpoints, devices
from mien.runs.store import Store
from mien.study.file import resolve

CPU = torch.device("cpu")


def vary(faces: Faces, seed: int = 0, **fields: Any) -> np.ndarray:
    checkpoints.begin_step(seed, 0)
    return vary_pictures(torch.from_numpy(faces.images), StrongSpec(**fields)).numpy()


# Operations


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_pictures_are_changed_in_different_ways(channels: int):
    one = np.random.default_rng(0).integers(0, 256, (1, channels, 20, 14), dtype=np.uint8)
    pictures = torch.from_numpy(one.repeat(60, axis=0))
    checkpoints.begin_step(0, 0)
    varied = vary_pictures(pictures, StrongSpec())
    assert (varied.shape, varied.dtype) == (pictures.shape, torch.uint8)
    assert len({picture.numpy().tobytes() for picture in varied}) > 40


def test_without_operations_half_of_the_pictures_are_mirrored_and_the_rest_stay():
    faces = blobs(200)
    varied = vary(faces, operations=0)
    mirrored = (varied == faces.images[..., ::-1]).all(axis=(1, 2, 3))
    stayed = (varied == faces.images).all(axis=(1, 2, 3))
    assert (mirrored ^ stayed).all()
    assert 70 < mirrored.sum() < 130


def test_a_step_has_its_own_changes_and_the_same_ones_again():
    faces = blobs(24)
    first = vary(faces, seed=1)
    assert np.array_equal(vary(faces, seed=1), first)
    assert not np.array_equal(vary(faces, seed=2), first)


def test_a_larger_magnitude_changes_pictures_more():
    faces = blobs(200)
    weak, strong = (
        np.abs(vary(faces, magnitude=size).astype(int) - vary(faces, operations=0)).mean()
        for size in (1, 30)
    )
    assert strong > 1.5 * weak > 0


# Mixup


def test_images_and_labels_are_mixed_by_the_same_share():
    x, labels = torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    mix = make_mix(StrongSpec(mixup=0.4), 3)
    assert mix is not None
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        mixed, target = mix(x, labels)
        share = float(target[1, 1])  # the neighbour in front of image 1 is of another class
        before = np.roll(x.numpy(), 1, axis=0)
        assert mixed.numpy() == pytest.approx(share * x.numpy() + (1 - share) * before, abs=1e-5)
        hot = np.eye(3)[labels.numpy()]
        expected = share * hot + (1 - share) * np.roll(hot, 1, axis=0)
        assert target.numpy() == pytest.approx(expected, abs=1e-5)
        shares.append(share)
    # Of Beta(0.4, 0.4), 61 % are below 0.2 or above 0.8, and half are below 0.5
    assert 0.4 < np.mean([abs(share - 0.5) > 0.3 for share in shares]) < 0.85
    assert 0.3 < np.mean([share < 0.5 for share in shares]) < 0.7


def test_without_mixup_there_is_nothing_to_mix():
    assert make_mix(None, 3) is None and make_mix(StrongSpec(mixup=0), 3) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_measures_the_loss_and_accuracy_of_mixed_labels(weighted: bool):
    faces = blobs(64).select(np.arange(64) % 4 < np.where(np.arange(64) < 32, 2, 4))
    counts = np.bincount(faces.number_labels(CLASSES))
    factors = len(faces) / (4 * counts) if weighted else np.ones(4)
    spec = tiny(strong={"mixup": 5.0}, batch=32, class_weights=weighted)
    work = ClassifierTraining(start_network(spec, CLASSES, 0, None), faces, 0, CPU)
    answers, targets = [], []
    step_of = work.update_weights

    def watch(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng():
            answers.append(work.network.train()(x).detach().double().numpy())
        targets.append(labels.double().numpy())
        return step_of(x, labels)

    work.update_weights = watch
    with devices.isolate_randomness(CPU):
        loss, accuracy = work.make_step(0).tolist()
    (answer,), (target,) = answers, targets
    assert target.shape == (32, len(CLASSES)) and target.sum(axis=1) == pytest.approx(1)
    assert ((target > 0).sum(axis=1) == 2).any()
    expected = -(target * factors * log_softmax(answer, axis=1)).sum(axis=1).mean()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert accuracy == pytest.approx(np.mean(answer.argmax(axis=1) == target.argmax(axis=1)))


# Trainings


def test_a_strong_training_differs_from_plain_and_augmented_ones_and_combines_with_both():
    faces = blobs(32)
    specs = [tiny(epochs=1, **each) for each in ({}, {"strong": {}}, {"augment": {}, "strong": {}})]
    plain, strong, both = (fit_network(faces, spec, CLASSES, 0, device="cpu") for spec in specs)
    again = fit_network(faces, specs[1], CLASSES, 0, device="cpu")
    assert same_weights(strong.network, again.network)
    assert not same_weights(strong.network, plain.network) and not same_weights(
        strong.network, both.network
    )


def test_a_stopped_strong_training_goes_on_exactly(tmp_path: Path):
    faces, spec = show_as(blobs(48), ("red", "green", "blue")), tiny(epochs=2, strong={})
    whole = fit_network(faces, spec, CLASSES, 3, device="cpu")
    resumed = fit_with_stops(faces, spec, 3, tmp_path, (4,))
    assert same_weights(whole.network, resumed.network) and whole.curve == resumed.curve


def test_a_strong_training_is_more_work_than_a_plain_one():
    plain, strong = (NetworkTiming(tiny(strong=how)).count_work(4, ("gray",)) for how in (None, {}))
    assert strong.numbers > plain.numbers
    assert NetworkTiming(tiny(strong={})).plain == NetworkTiming(tiny()).plain


# Refusals


@pytest.mark.parametrize(
    "channels", [("flow-right", "flow-down", "strain"), ("gray-t0", "gray-t1"), ("hog",)]
)
def test_channels_other_than_those_of_pictures_are_refused(channels: tuple[str, ...]):
    faces = show_as(blobs(32), channels)
    with pytest.raises(DataError, match="needs plain grey or colour pictures"):
        fit_network(faces, tiny(strong={}), CLASSES, 0, device="cpu")
    with pytest.raises(DataError, match="classifier tiny, strong has strong augmentation"):
        pretrained.check_all({"tiny, strong": tiny(strong={})}, shown={"tiny, strong": channels})


def test_mixed_labels_of_action_units_are_refused():
    with pytest.raises(ValidationError, match=r"strong.mixup must be 0 with units = true"):
        tiny(strong={}, units=True)
    with pytest.raises(SpecError, match=r"tiny must have strong.mixup = 0 if action units"):
        require_labels(tiny(strong={}), (1, 2), "tiny")
    require_labels(tiny(strong={"mixup": 0}), (1, 2))


def test_strong_is_an_ablation_and_a_field_that_is_omitted_where_it_is_not_given(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    networks = select_networks(
        resolve(table(ablations=["plain", "strong"]), store).classifiers["tiny"]
    )
    assert networks["strong"].strong == StrongSpec(operations=2, magnitude=9, mixup=0.2)
    assert "strong" not in networks["plain"].model_dump(mode="json")
    assert (
        ClassifierSpec.model_validate_json(networks["strong"].model_dump_json())
        == (networks["strong"])
    )
