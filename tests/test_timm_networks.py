"""Networks of timm at sizes of their own choice, and real ImageNet weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images
from spots import apexes, table
from worlds import CLASSES, blobs

from mien.classifiers import pretrained
from mien.classifiers.fit import ClassifierTraining, fit_network
from mien.classifiers.networks import build_network, find_frozen_layers
from mien.classifiers.predict import forward, predict_classes, start_network
from mien.classifiers.specs import ClassifierSpec, select_networks
from mien.errors import SpecError
from mien.runs.store import Store
from mien.study.file import read_study_fields, resolve
from mien.study.results import StudyResults
from mien.study.run import run_study

VIT, COATNET, CONVNEXT = "vit_tiny_patch16_224", "coatnet_nano_rw_224", "convnext_atto"
REAL_WEIGHTS = (
    Path(__file__).parents[2] / "shared" / "data" / "weights" / "efficientnet_lite0.safetensors"
)


def make_spec(name: str, size: int, **changes: Any) -> ClassifierSpec:
    return ClassifierSpec.model_validate({"name": name, "size": size, "weights": "none", **changes})


# Sizes


@pytest.mark.parametrize(
    ("name", "size"), [(VIT, 48), (VIT, 96), (VIT, 160), (COATNET, 64), (CONVNEXT, 48)]
)
def test_networks_with_attention_learn_and_predict_at_small_sizes(name: str, size: int):
    faces = blobs(4)
    fitted = fit_network(faces, make_spec(name, size, epochs=1, batch=2), CLASSES, 0, device="cpu")
    found = predict_classes(fitted, faces)
    assert found.shape == (4, len(CLASSES)) and np.isfinite(found).all()


@pytest.mark.parametrize("name", [VIT, COATNET, CONVNEXT])
@pytest.mark.parametrize("size", [64, 96, 160])
def test_networks_with_attention_are_built_at_usual_sizes(name: str, size: int):
    pretrained.check_all({name: make_spec(name, size)})


@pytest.mark.parametrize(
    ("name", "size", "near"),
    [(COATNET, 48, "32 or 64"), (COATNET, 100, "96 or 128"), ("test_vit", 50, "32 or 64")],
)
def test_a_size_that_a_network_cannot_take_is_refused_with_the_nearest_ones(
    name: str, size: int, near: str
):
    with pytest.raises(SpecError, match=rf"{name}: size must .* {size} is not .*; choose {near}$"):
        pretrained.check_all({name: make_spec(name, size)})


def test_a_transformer_a_hybrid_and_a_convolutional_network_are_compared_in_one_study(
    tmp_path: Path,
):
    store, path = Store(tmp_path / "store"), tmp_path / "three.toml"
    apexes(store, "a")
    fields = table(
        name="three",
        classifiers=[VIT, COATNET, CONVNEXT],
        classifier={"weights": "none", "size": 48, "epochs": 1, "batch": 4},
        trials=1,
    ).model_dump(exclude_defaults=True)
    with pytest.raises(SpecError, match=rf"{COATNET}, plain: size must .* choose 32 or 64"):
        read_study_fields(fields, store, path)
    fields["classifier"][COATNET] = {"size": 32}
    run_study(read_study_fields(fields, store, path), store, device="cpu")
    cells = StudyResults("three", store).cells
    assert [cell.whole for cell in cells] == [True] * 6  # by image and by clip


# Weights whose position embeddings are of another size


@pytest.mark.parametrize("size", [48, 96])
def test_position_embeddings_of_a_file_are_resampled_to_the_size(tmp_path: Path, size: int):
    torch.manual_seed(1)
    network, _, _ = build_network(make_spec("test_vit", 160), 4)
    given = network.state_dict()
    path = tmp_path / "vit.safetensors"
    save_file(given, path)

    # The position embeddings change smoothly over the image, so that resampling keeps them
    tokens, width = given["pos_embed"].shape[1:]
    prefix = tokens - 100  # tokens that stand for no patch
    ramp = torch.linspace(-1, 1, 10)
    grid = ramp[:, None].expand(10, 10).reshape(1, 100, 1).expand(1, 100, width)
    given["pos_embed"] = torch.cat([given["pos_embed"][:, :prefix], grid], dim=1).contiguous()
    save_file(given, path)

    spec = make_spec("test_vit", size, weights=str(path))
    pretrained.check_all({"a": spec}, {str(path): path})
    loaded = start_network(spec, CLASSES, 0, None).network.state_dict()
    side = size // 16
    resampled = loaded["pos_embed"][0, prefix:].reshape(side, side, width)
    assert (resampled.diff(dim=0) > 0).all()  # it still grows from top to bottom
    assert resampled.diff(dim=1).abs().max() < 1e-4  # and is equal from left to right
    assert torch.equal(loaded["blocks.0.attn.qkv.weight"], given["blocks.0.attn.qkv.weight"])


# Real weights


@pytest.fixture(scope="module")
def real_weights() -> Path:
    if not REAL_WEIGHTS.exists():
        pytest.skip(
            f"this needs ImageNet weights in ../shared/data/weights/{REAL_WEIGHTS.name}, which are "
            "no part of the project"
        )
    return REAL_WEIGHTS


@pytest.fixture(scope="module")
def from_study(
    real_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ClassifierSpec, Path]:
    """The spec of a network that a study file starts from real weights, and its file."""
    store = Store(tmp_path_factory.mktemp("weights") / "store")
    apexes(store, "a")
    fields = {"size": 64, "epochs": 1, "batch": 2, "freeze": 0.3, "weights": str(real_weights)}
    study = table(classifiers=["tf_efficientnet_lite0"], classifier=fields)
    found = select_networks(resolve(study, store).classifiers["tf_efficientnet_lite0"])
    spec = found["plain"]
    file = pretrained.find_imported_weights(spec, store)
    assert file is not None and spec.weights == pretrained.hash_file_name(real_weights)
    return spec, file


def test_all_but_the_head_of_real_weights_fits(from_study: tuple[ClassifierSpec, Path]):
    spec, file = from_study
    pretrained.check_all({"network": spec}, {spec.weights: file})
    given = load_file(file)
    loaded = start_network(spec, CLASSES, 0, file).network.state_dict()
    assert set(loaded) == set(given)
    other = {name for name in loaded if not torch.equal(loaded[name], given[name])}
    assert other == {"classifier.weight", "classifier.bias"}
    assert len(given["classifier.bias"]) == 1000 and len(loaded["classifier.bias"]) == len(CLASSES)


def test_thirty_per_cent_of_the_layers_of_real_weights_stay(
    from_study: tuple[ClassifierSpec, Path],
):
    spec, file = from_study
    frozen = find_frozen_layers(spec, len(CLASSES))
    assert frozen is not None and len(frozen.layers) == int(0.3 * frozen.all_layers)
    work = ClassifierTraining(
        start_network(spec, CLASSES, 0, file), blobs(4), 0, torch.device("cpu")
    )
    before = {name: value.clone() for name, value in work.network.state_dict().items()}
    work.make_step(0)
    after = work.network.state_dict()
    still = {name.rpartition(".")[0] for name in before if torch.equal(before[name], after[name])}
    assert set(frozen.layers) <= still
    weights = {name for name, one in work.network.named_parameters() if one.requires_grad}
    moved = {name for name in weights if not torch.equal(before[name], after[name])}
    assert moved == weights and not any(name.startswith(frozen.layers) for name in moved)


def test_real_weights_see_more_in_photographs_than_random_ones(
    from_study: tuple[ClassifierSpec, Path],
):
    """Random weights give nearly the same features to a temple and to a flower."""
    spec, file = from_study
    images = np.stack([np.moveaxis(one, 2, 0) for one in load_sample_images().images])
    real = start_network(spec, CLASSES, 0, file)
    random = start_network(spec.model_copy(update={"weights": "none"}), CLASSES, 0, None)
    of_real, of_random = (forward(network, images) for network in (real, random))
    assert of_real.shape == of_random.shape == (2, 1280)
    assert not np.allclose(of_real, of_random, atol=0.1)
    alike = [np.corrcoef(found)[0, 1] for found in (of_real, of_random)]
    assert alike[0] < 0.5 < 0.9 < alike[1]
