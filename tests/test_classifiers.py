"""Classifiers: they learn, go on exactly, answer alike in any batch, and say what weights they
lack.
"""

import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from sklearn.metrics import log_loss, recall_score
from worlds import CLASSES, blobs, show_as, tiny

from mien.classifiers import fit, pretrained, speed
from mien.classifiers.curves import write_curve
from mien.classifiers.fit import ClassifierTraining, fit_network, hold_out, make_loss
from mien.classifiers.networks import build_network, build_outline, find_frozen_layers, name_head
from mien.classifiers.predict import (
    TrainedNetwork,
    extract_features,
    load_network,
    predict_classes,
    save_network,
    start_network,
)
from mien.classifiers.specs import OWN_NETWORKS, ClassifierSpec, WeightsSpec
from mien.errors import DataError, SpecError, TrainingError, WeightsError
from mien.faces import Faces
from mien.prepare.flow import FLOW_CHANNELS
from mien.runs import checkpoints, devices
from mien.runs.spec import read_spec
from mien.runs.store import Store

torch.set_num_threads(
    1
)  # networks this small lose more to threads than they gain, on a busy machine tenfold


def weights(classifier: TrainedNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.fixture(scope="module")
def trained() -> TrainedNetwork:
    return fit_network(blobs(), tiny(), CLASSES, seed=0, device="cpu")


def test_it_learns_where_the_blob_is(trained: TrainedNetwork):
    unseen = blobs(80, seed=1)
    probabilities = predict_classes(trained, unseen)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert (probabilities.argmax(axis=1) == unseen.number_labels(CLASSES)).mean() > 0.9


def test_shuffled_labels_teach_nothing():
    faces = blobs(192)
    index = faces.index.assign(
        emotion=np.random.default_rng(0).permutation(faces.index["emotion"].to_numpy())
    )
    classifier = fit_network(Faces(faces.images, index), tiny(), CLASSES, seed=0, device="cpu")
    unseen = blobs(80, seed=1)
    assert (
        predict_classes(classifier, unseen).argmax(axis=1) == unseen.number_labels(CLASSES)
    ).mean() < 0.6


def test_predictions_do_not_depend_on_the_batch_or_the_order(trained: TrainedNetwork):
    faces = blobs(40, seed=2)
    whole = predict_classes(trained, faces)
    assert predict_classes(trained, faces, batch=7) == pytest.approx(whole, abs=1e-5)
    order = np.random.default_rng(0).permutation(len(faces))
    assert predict_classes(trained, faces.select(order)) == pytest.approx(whole[order], abs=1e-5)
    assert predict_classes(trained, faces.select(np.zeros(40, dtype=bool))).shape == (0, 4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    faces = blobs(32)
    one, two, three = (
        fit_network(faces, tiny(epochs=1), CLASSES, seed, device="cpu") for seed in (5, 5, 6)
    )
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(three))


def test_training_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit_network(blobs(32), tiny(epochs=1), CLASSES, 0, device="cpu")
    assert torch.equal(torch.rand(2), expected)


class Stop(Exception):
    pass


def test_a_stopped_training_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    faces, spec = blobs(192), tiny(epochs=8, augment={}, freeze=0.3, validation=0.2)
    whole = fit_network(faces, spec, CLASSES, 7, device="cpu")
    monkeypatch.setattr(fit, "CHECKPOINT_EVERY_S", 0.0)
    save, saved = checkpoints.save_checkpoint, []

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) % 7 == 0:
            raise Stop

    monkeypatch.setattr(checkpoints, "save_checkpoint", save_and_stop)
    stops = 0
    while True:
        try:
            result = fit_network(faces, spec, CLASSES, 7, tmp_path, "cpu")
            break
        except Stop:
            stops += 1
    assert stops > 1
    assert same(weights(result), weights(whole))
    assert result.curve == whole.curve and len(whole.curve) == 8


def test_a_learning_curve_has_loss_and_accuracy_of_each_epoch(tmp_path: Path):
    # The same steps, with loss and accuracy of each batch computed by another library
    faces, spec = blobs(70), tiny(epochs=3, batch=16, validation=0.2)
    shown, held = hold_out(faces, 0.2, 5)
    assert held is not None
    work = ClassifierTraining(start_network(spec, CLASSES, 5, None), shown, 5, torch.device("cpu"))
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    step_of = work.update_weights

    def watch(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng():
            given = deepcopy(work.network).train()(x).detach().softmax(dim=1).double().numpy()
        answers.append((labels.numpy(), given / given.sum(axis=1, keepdims=True)))
        return step_of(x, labels)

    work.update_weights = watch
    expected = []
    with devices.isolate_randomness(torch.device("cpu")), devices.limit_cores(1):
        for step in range(work.steps):
            work.make_step(step)
            if (step + 1) % work.phase.steps_per_epoch == 0:
                loss = np.mean([log_loss(*one, labels=range(len(CLASSES))) for one in answers])
                right = np.mean([np.mean(true == given.argmax(1)) for true, given in answers])
                chosen = predict_classes(work.classifier, held).argmax(axis=1)
                expected.append((loss, right, np.mean(chosen == held.number_labels(CLASSES))))
                answers.clear()
    assert work.phase.steps_per_epoch > 1

    # The curve has these numbers, and its file has them with six digits
    found = fit_network(faces, spec, CLASSES, 5, device="cpu").curve
    rows = [(one.loss, one.accuracy, one.validation_accuracy) for one in found]
    assert [one.epoch for one in found] == [1, 2, 3]
    assert np.array(rows, dtype=float) == pytest.approx(np.array(expected), rel=1e-4)
    write_curve(found, tmp_path / "curve.csv")
    written = pd.read_csv(tmp_path / "curve.csv")
    assert written.to_numpy() == pytest.approx(
        np.array([(number, *row) for number, row in enumerate(rows, 1)], dtype=float), rel=1e-5
    )


def test_without_validation_images_a_curve_has_no_validation_accuracy(
    trained: TrainedNetwork, tmp_path: Path
):
    write_curve(trained.curve, tmp_path / "curve.csv")
    head, *rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert head == "epoch,loss,accuracy,validation_accuracy"
    assert len(rows) == trained.spec.epochs and all(row.endswith(",") for row in rows)
    assert trained.curve[-1].loss < trained.curve[0].loss
    assert trained.curve[-1].accuracy > trained.curve[0].accuracy


def test_saved_and_loaded_it_answers_the_same(trained: TrainedNetwork, tmp_path: Path):
    save_network(trained, tmp_path)
    again = load_network(tmp_path, "cpu")
    faces = blobs(24, seed=3)
    assert np.array_equal(predict_classes(again, faces), predict_classes(trained, faces))
    assert (again.spec, again.classes, again.origin) == (trained.spec, CLASSES, "none")


def test_a_training_that_diverges_is_stopped():
    with pytest.raises(TrainingError, match="lower its learning_rate"):
        fit_network(blobs(64), tiny(optimiser="sgd", learning_rate=1e18), CLASSES, 0, device="cpu")


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="two images"):
        fit_network(blobs(8).select(np.array([0])), tiny(), CLASSES, 0)


def test_images_of_any_size_and_colour_are_taken(trained: TrainedNetwork):
    grey = blobs(24, size=32, seed=4)
    colour = Faces(np.repeat(grey.images, 3, axis=1), grey.index)
    first, second = predict_classes(trained, grey), predict_classes(trained, colour)
    assert first == pytest.approx(second, abs=1e-5)
    assert (first.argmax(axis=1) == grey.number_labels(CLASSES)).mean() > 0.9


# Augmentation, freezing, choosing an epoch


def test_augmentation_changes_training_and_not_prediction():
    faces = blobs(64)
    plain, moved = (
        fit_network(faces, tiny(epochs=1, augment=how), CLASSES, 0, device="cpu")
        for how in (None, {})
    )
    assert not same(weights(plain), weights(moved))
    swapped = replace(moved, network=plain.network)
    assert np.array_equal(predict_classes(swapped, faces), predict_classes(plain, faces))


def test_each_class_weighs_as_much_in_the_loss_with_class_weights():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])  # classes 2 and 4 have no image
    answers = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 5)))
    loss = make_loss(labels, weighted_classes=5)

    # By hand: n / (k n_c) is 10 / (3 * 6) for the first class, and so on; the mean weight is 1
    factors = np.array([10 / 18] * 6 + [10 / 9] * 3 + [10 / 3])
    odds = np.exp(answers.numpy())
    entropies = -np.log(odds / odds.sum(axis=1, keepdims=True))[np.arange(10), labels.numpy()]
    assert factors.mean() == pytest.approx(1)
    assert loss(answers.float(), labels).item() == pytest.approx((factors * entropies).mean())

    # In a batch, each image keeps the weight that it has in the whole training set
    batch = [0, 1, 9]
    expected = (factors * entropies)[batch].mean()
    assert loss(answers[batch].float(), labels[batch]).item() == pytest.approx(expected)


def test_class_weights_change_a_training_only_where_classes_are_uneven():
    even, weighted = blobs(48), {"epochs": 2, "class_weights": True}
    assert even.index["emotion"].value_counts().nunique() == 1  # as many images of each class
    uneven = even.select(np.arange(len(even)) > 5)
    for faces, equal in ((even, True), (uneven, False)):
        plain, other = (
            fit_network(faces, tiny(**fields), CLASSES, 0, device="cpu")
            for fields in ({"epochs": 2}, weighted)
        )
        assert same(weights(plain), weights(other)) == equal
        assert (plain.curve == other.curve) == equal


def test_class_weights_are_refused_where_action_units_are_the_target():
    with pytest.raises(SpecError, match="must not have class_weights = true if action units are"):
        fit_network(blobs(), tiny(class_weights=True), CLASSES, 0, device="cpu", units=(1, 12))


def test_frozen_layers_stay_as_they_were_and_the_others_learn():
    spec = tiny(epochs=1, freeze=0.6)
    before = weights(start_network(spec, CLASSES, 0, None))
    after = weights(fit_network(blobs(64), spec, CLASSES, 0, device="cpu"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        f"{layer}.{part}"
        for layer in ("features.7", "features.8", "head")
        for part in ("weight", "bias")
    }
    found = find_frozen_layers(spec, len(CLASSES))
    assert found is not None and found.layers == ("features.0", "features.3")
    kept = sum(before[name].numel() for name in before if name not in moved)
    assert found.weights == pytest.approx(kept / sum(tensor.numel() for tensor in before.values()))


def test_frozen_batch_norm_keeps_its_running_statistics():
    spec = ClassifierSpec(name="resnet18", size=32, weights="none", epochs=1, batch=8, freeze=0.5)
    before = weights(start_network(spec, CLASSES, 0, None))
    after = weights(fit_network(blobs(32), spec, CLASSES, 0, device="cpu"))
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {
        "bn1.running_mean",
        "bn1.running_var",
        "bn1.num_batches_tracked",
        "layer1.0.bn2.weight",
    } <= still
    assert not still & {"layer4.1.bn2.running_mean", "layer4.1.conv2.weight", "fc.weight"}


@pytest.mark.parametrize(
    ("name", "layers", "of", "share"),
    [("vgg16", 4, 16, 0.0019), ("resnet50", 16, 54, 0.0285), ("inception_v3", 28, 95, 0.0918)],
)
def test_thirty_per_cent_of_the_layers_of_the_three_networks(
    name: str, layers: int, of: int, share: float | None
):
    found = find_frozen_layers(ClassifierSpec(name=name, freeze=0.3), 7)
    assert found is not None
    assert (len(found.layers), found.all_layers) == (layers, of)
    if share is not None:
        assert found.weights == pytest.approx(share, abs=5e-5)
    assert f"{layers} of {of} layers" in found.text and found.layers[0] in found.text


def test_without_freezing_nothing_is_frozen():
    assert find_frozen_layers(tiny(), 4) is None
    none = find_frozen_layers(tiny(freeze=0.1), 4)
    assert none is not None and (none.layers, none.weights) == ((), 0)


def test_validation_people_are_not_learnt_from_and_choose_the_epoch():
    faces = blobs(96, noise=60)
    shown, held = hold_out(faces, 0.3, 0)
    assert held is not None and not set(shown.subjects) & set(held.subjects)
    assert (len(held.subjects), len(shown) + len(held)) == (2, len(faces))
    spec = tiny(epochs=12, validation=0.3)
    chosen = fit_network(faces, spec, CLASSES, 0, device="cpu")
    scores = []
    for epoch in range(1, 13):
        scores.append(_uar_after(epoch, spec, shown, held))
    assert chosen.epoch == int(np.argmax(scores)) + 1
    assert fit_network(faces, tiny(epochs=2), CLASSES, 0, device="cpu").epoch == 2


def _uar_after(epoch: int, spec: ClassifierSpec, shown: Faces, held: Faces) -> float:
    """What the network scores on `held` after so many epochs of the same training."""
    work = ClassifierTraining(start_network(spec, CLASSES, 0, None), shown, 0, torch.device("cpu"))
    with devices.isolate_randomness(torch.device("cpu")), devices.limit_cores(1):
        for step in range(epoch * work.phase.steps_per_epoch):
            work.make_step(step)
        found = predict_classes(work.classifier, held).argmax(axis=1)
    return recall_score(held.number_labels(CLASSES), found, average="macro")


def test_photographs_of_unknown_people_are_held_out_one_by_one():
    faces = blobs(40)
    index = faces.index.assign(subject="", clip="")
    shown, held = hold_out(Faces(faces.images, index), 0.25, 1)
    assert held is not None and (len(shown), len(held)) == (30, 10)
    with pytest.raises(DataError, match="at least two subjects, clips or images"):
        hold_out(faces.select(np.array([0])), 0.25, 1)


def test_speed_is_that_of_the_network():
    small, large = (
        speed.measure_speed(tiny(size=size, batch=32), 4, (1, 48, 48), "cpu") for size in (16, 96)
    )
    assert small.train > 3 * large.train > 0
    assert small.predict > 0.3 * small.train  # a busy machine can be slow at the wrong moment


# Specifications


def test_defaults_depend_on_the_network():
    assert (ClassifierSpec(name="vgg16").size, ClassifierSpec(name="vgg16").weights) == (
        160,
        "imagenet",
    )
    own = ClassifierSpec.model_validate({"name": "tiny"})
    assert (own.size, own.weights) == (48, "none")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "vgg16", "epoch": 3}, "Did you mean 'epochs'"),
        ({"name": "inception_v3", "size": 48}, "75 or more"),
        ({"name": "tiny", "weights": "imagenet"}, "has no ImageNet weights"),
        ({"name": "vgg16", "weights": "file:abc"}, "64 hexadecimal"),
        ({"name": "vgg16", "epochs": 0}, "greater than or equal to 1"),
        ({"name": "vgg16", "freeze": 1}, "less than 1"),
        ({"name": "vgg16", "augment": {"shifts": 0.1}}, "Did you mean 'shift'"),
        ({"name": "vgg16", "augment": {"brightness": [1.2, 0.8]}}, "the smaller one first"),
    ],
)
def test_wrong_specifications_are_refused(wrong: dict[str, Any], message: str):
    with pytest.raises((SpecError, ValidationError), match=message):
        ClassifierSpec.model_validate(wrong)


def test_an_unknown_network_is_refused_with_the_nearest_known_one():
    spec = ClassifierSpec(name="resnet5O", weights="none")
    with pytest.raises(SpecError, match="Did you mean 'resnet50'"):
        pretrained.check_all({"resnet5O": spec})
    with pytest.raises(SpecError, match="neither"):
        pretrained.check_all({"mine": ClassifierSpec(name="resnet50.nobody", weights="none")})


# timm's networks and their weights


@pytest.mark.parametrize(
    ("name", "size", "outputs"), [("vgg16", 32, 7), ("resnet50", 32, 5), ("inception_v3", 75, 3)]
)
def test_the_three_networks_give_one_probability_a_class(name: str, size: int, outputs: int):
    spec = ClassifierSpec(name=name, size=size, weights="none")
    network, mean, std = build_network(spec, outputs)
    names = tuple(f"class {number}" for number in range(outputs))
    classifier = TrainedNetwork(network, spec, names, mean, std, "none")
    probabilities = predict_classes(classifier, blobs(2))
    assert probabilities.shape == (2, outputs)
    assert predict_classes(classifier, blobs(2), batch=1) == pytest.approx(probabilities, abs=1e-4)
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert mean == ((0.5,) * 3 if name == "inception_v3" else (0.485, 0.456, 0.406))


def resnet_file(path: Path, classes: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(11)
    network, _, _ = build_network(ClassifierSpec(name="resnet18", size=32, weights="none"), classes)
    state = {
        name: tensor + 1 if name == "fc.bias" else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(
        {"state_dict": state}, path
    )
    return state


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weights_file_is_loaded_but_for_a_head_of_other_classes(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
):
    path = tmp_path / f"mine{suffix}"
    state = resnet_file(path, 9)
    spec = ClassifierSpec(name="resnet18", size=32, weights=str(path))
    start = start_network(spec, CLASSES, 0, None)
    loaded = weights(start)
    assert all(
        torch.equal(loaded[name], state[name]) for name in state if not name.startswith("fc.")
    )
    assert loaded["fc.weight"].shape == (4, 512)
    assert "its head" in capfd.readouterr().err
    assert start.origin.startswith(f"file (mine{suffix}, sha256 ")


def test_a_head_of_as_many_classes_is_kept(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    state = resnet_file(path, 4)
    spec = ClassifierSpec(name="resnet18", size=32, weights=str(path))
    loaded = weights(start_network(spec, CLASSES, 0, None))
    assert torch.equal(loaded["fc.bias"], state["fc.bias"])


def test_a_file_for_another_network_is_refused(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    resnet_file(path, 4)
    spec = ClassifierSpec(name="resnet34", size=32, weights=str(path))
    with pytest.raises(WeightsError, match=r"must hold the weights of resnet34 .* it lacks"):
        start_network(spec, CLASSES, 0, None)
    path.write_bytes(b"not a file of tensors at all")
    with pytest.raises(WeightsError, match=r"must be a .safetensors or .pth file"):
        start_network(spec, CLASSES, 0, None)


def test_the_store_keeps_a_weights_file_by_its_content(tmp_path: Path):
    path, store = tmp_path / "mine.safetensors", Store(tmp_path / "store")
    resnet_file(path, 4)
    name = pretrained.import_weights(path, store)
    spec = ClassifierSpec(name="resnet18", size=32, weights=name)
    assert name == pretrained.hash_file_name(path)
    kept = pretrained.find_imported_weights(spec, store)
    path.unlink()
    assert kept is not None
    assert start_network(spec, CLASSES, 0, kept).origin.startswith("file (mine.safetensors, sha256")
    assert pretrained.find_imported_weights(tiny(), store) is None
    other = tmp_path / "other"
    other.write_bytes(b"other")
    for wrong in (None, other):
        with pytest.raises(WeightsError, match="Give that file"):
            start_network(spec, CLASSES, 0, wrong)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"there is no file .*nowhere"):
        pretrained.hash_file_name(tmp_path / "nowhere")


@pytest.mark.parametrize("names", [["vgg16"], ["resnet50", "inception_v3", "vit_tiny_patch16_224"]])
@pytest.mark.parametrize("fetch", [False, True])
@pytest.mark.parametrize("how", ["offline", "no such host"])
def test_without_a_network_the_error_says_at_once_which_files_to_bring(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    names: list[str],
    fetch: bool,
    how: str,
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", how == "offline")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    build_outline(ClassifierSpec(name="resnet18", weights="none"), 2)  # timm is loaded
    began = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        pretrained.require_hub_weights(
            [ClassifierSpec(name=name, weights="imagenet") for name in names], fetch
        )
    assert time.monotonic() - began < 4 and capfd.readouterr().err == ""
    for part in (
        *(f"timm/{name}." for name in names),
        "model.safetensors",
        'weights = "FILE"',
        'weights = "none"',
        f"must be in {tmp_path}",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ViT", "vit_tiny_patch16_224"),
        ("Efficient-Net", "efficientnet_b0"),
        ("ConvNeXt", "convnext_tiny"),
        ("resnet5O", "resnet50"),
        ("mobilenetv3", "mobilenetv3_large_100"),
    ],
)
def test_an_unknown_network_is_refused_with_names_that_contain_it(name: str, near: str):
    with pytest.raises(SpecError, match=rf"'{name}' is neither.*{near}"):
        pretrained.check_all({"a": ClassifierSpec(name="resnet18"), "b": ClassifierSpec(name=name)})


def test_a_size_that_the_network_cannot_take_is_refused():
    with pytest.raises(SpecError, match="size must be one that the network can take; 20 is not"):
        pretrained.check_all({"convnext_tiny": ClassifierSpec(name="convnext_tiny", size=20)})


def test_a_specification_is_read_with_its_place_in_complaints():
    class Holder(WeightsSpec):
        classifier: ClassifierSpec

    with pytest.raises(SpecError, match=r"study.toml: classifier.size"):
        read_spec(Holder, {"sha256": "0", "classifier": {"name": "vgg16", "size": 2}}, "study.toml")


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_every_network_of_mien_builds_scores_and_gives_features(name: str):
    own = OWN_NETWORKS[name]
    spec = ClassifierSpec.model_validate({"name": name, "size": own.smallest_px})
    shown = {"images": tuple("abcde"), "flow": FLOW_CHANNELS, "clips": ("t0", "t1", "t2")}[
        own.takes
    ]
    network, mean, std = build_network(spec, 3, shown)
    assert len(mean) == len(std) == len(shown)
    assert own.first_layer in network.state_dict()
    assert any(key.startswith(name_head(network)) for key in network.state_dict())

    # Logits and features of the smallest image that it can take
    pictures = torch.rand(2, len(shown), own.smallest_px, own.smallest_px)
    assert network(pictures).shape == (2, 3)
    faces = blobs(8) if own.takes == "images" else show_as(blobs(8), shown)
    classifier = start_network(spec, CLASSES, 0, None, faces.shown)
    features = extract_features(classifier, faces)
    assert len(features) == len(faces) and np.isfinite(features).all()

    # Its own defaults, and no weights of ImageNet
    assert ClassifierSpec.model_validate({"name": name}).size == own.defaults["size"]
    with pytest.raises(ValueError, match="ImageNet"):
        ClassifierSpec(name=name, weights="imagenet")
