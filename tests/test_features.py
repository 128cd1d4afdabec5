"""Feature spaces: what an image is does not hang on its company, the filter counts, and work is not
done twice.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import keep, people
from safetensors.torch import save_file

from mien.audit import features
from mien.audit.features import NETWORKS, Space
from mien.audit.specs import OFFLINE_SPACES, SpaceName
from mien.classifiers import pretrained
from mien.classifiers.predict import predict_classes, start_network
from mien.errors import WeightsError
from mien.faces import Faces
from mien.runs.store import Run, Store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def train(home: Store) -> Run:
    return keep(people(range(12), clips=1), home, "train")


def opened(name: SpaceName, train: Run, home: Store, **options) -> Space:
    return features.open_space(name, train, home, device="cpu", **options)


@pytest.mark.parametrize("name", OFFLINE_SPACES)
def test_an_image_has_the_same_features_alone_as_in_company(
    name: SpaceName, train: Run, home: Store
):
    space, images = opened(name, train, home), np.asarray(Faces.load(train.path).images)
    whole = space.extract(images)
    assert whole.dtype == np.float32 and len(whole) == len(images)
    assert np.allclose(space.extract(images[7:8]), whole[7:8], atol=1e-4)
    assert len(np.unique(whole.round(4), axis=0)) == len(images)
    assert len(space.extract(images[:0])) == 0


def test_pixels_are_grey_values_and_large_images_become_small():
    grey = np.full((1, 1, 20, 20), 51, np.uint8)
    assert (
        np.allclose(features.make_pixel_space((1, 20, 20)).extract(grey), 0.2)
        and features.make_pixel_space((1, 20, 20)).size is None
    )
    red = np.zeros((1, 3, 64, 64), np.uint8)
    red[:, 0] = 255
    found = features.make_pixel_space((3, 64, 64)).extract(red)
    assert found.shape == (1, 32 * 32) and np.allclose(
        found, 76 / 255
    )  # the luma of pure red, ITU-R BT.601


def test_the_filter_is_part_of_the_space():
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    box, lanczos = (features.make_pixel_space((1, 64, 64), filter) for filter in ("box", "lanczos"))
    assert not np.allclose(box.extract(images), lanczos.extract(images), atol=0.02)
    assert "box" in box.about and "lanczos" in lanczos.about


def test_the_judge_is_trained_once_and_tells_people_it_never_saw(train: Run, home: Store):
    judge = features.load_judge(train, home, "cpu")
    unseen = people(range(20, 26))
    right = predict_classes(judge, unseen).argmax(axis=1) == unseen.number_labels(judge.classes)
    assert right.mean() > 0.6  # of three classes
    before = home.list_names()
    assert (
        features.load_judge(train, home, "cpu").spec == judge.spec and home.list_names() == before
    )


def test_random_convolutions_know_no_labels_and_the_axes_are_the_training_sides(train: Run):
    images = np.asarray(Faces.load(train.path).images)
    found = features.make_random_space(images).extract(images)
    assert found.shape == (len(images), 64) and np.allclose(found.mean(axis=0), 0, atol=1e-2)
    spread = found.std(axis=0)
    assert (np.diff(spread) < 1e-3).all()  # the widest axis first
    assert np.allclose(np.corrcoef(found[:, :8].T), np.eye(8), atol=0.02)


def test_features_of_a_run_are_kept_for_the_next_audit(train: Run, home: Store):
    made = keep(people(range(40, 42)), home, "made")
    (first,), about = features.extract_features([made], train, "random", home, device="cpu")
    before = home.list_names()
    (again,), same = features.extract_features([made], train, "random", home, device="cpu")
    assert (first == again).all() and about == same and home.list_names() == before
    features.extract_features([made], train, "random", home, filter="box", device="cpu")
    assert len(home.list_names()) == len(before) + 1
    found, _ = features.load_features(["pixels", "random"], train, made, made, home, device="cpu")
    assert len(found["random"].train) == 108 and (found["random"].synthetic == first).all()
    assert found["pixels"].test.shape == (36, 32 * 32)


def test_a_network_is_read_from_a_file_or_it_says_what_to_bring(
    train: Run, home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(NETWORKS, "dinov2", NETWORKS["dinov2"].model_copy(update={"size": 28}))  # type: ignore[arg-type]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    network = start_network(
        NETWORKS["dinov2"].model_copy(update={"weights": "none"}), ["none"], 0, None
    ).network
    tensors = {
        name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head")
    }
    save_file(tensors, tmp_path / "dino.safetensors")
    images = np.asarray(Faces.load(train.path).images[:3])
    for weights in (
        str(tmp_path / "dino.safetensors"),
        pretrained.import_weights(tmp_path / "dino.safetensors", home),
    ):
        found = opened("dinov2", train, home, weights=weights).extract(images)
        assert found.shape == (3, 384) and np.isfinite(found).all()
    with pytest.raises(WeightsError, match=r"the space dinov2: .* no file .*weights dinov2=FILE"):
        opened("dinov2", train, home, weights=str(tmp_path / "absent"))
    torch.save({"odd": torch.zeros(2)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="must hold the weights of vit_small_patch14_dinov2"):
        opened("dinov2", train, home, weights=str(tmp_path / "odd.pth"))
