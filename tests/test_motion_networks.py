"""Networks of motion: their layers, what they look at, and which faces they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spots import apexes, table
from torch import Tensor, nn
from worlds import CLASSES, blobs, show_as

from mien.classifiers import pretrained, speed
from mien.classifiers.channels import (
    find_centre_and_scale,
    find_flow_pairs,
    read_clip_channels,
    require_input,
)
from mien.classifiers.fit import ClassifierTraining, fit_network
from mien.classifiers.networks import build_network, find_frozen_layers
from mien.classifiers.predict import load_network, predict_classes, save_network, start_network
from mien.classifiers.specs import OWN_NETWORKS, ClassifierSpec
from mien.errors import DataError
from mien.prepare.flow import FLOW_CHANNELS as FLOW
from mien.prepare.inputs import find_resting_values
from mien.runs.store import Store
from mien.study.cost import estimate_costs
from mien.study.file import require_classifiers, resolve
from mien.study.plan import plan_study
from mien.study.run import run_study

CLIP = ("t0", "t1", "t2")
FLOW_NETWORKS = [name for name, own in OWN_NETWORKS.items() if own.takes == "flow"]
CLIP_NETWORKS = [name for name, own in OWN_NETWORKS.items() if own.takes == "clips"]
MOTION_NETWORKS = [*FLOW_NETWORKS, *CLIP_NETWORKS]
SHOWN = {**dict.fromkeys(FLOW_NETWORKS, FLOW), **dict.fromkeys(CLIP_NETWORKS, CLIP)}


def make_spec(name: str, **changes: Any) -> ClassifierSpec:
    return ClassifierSpec.model_validate({"name": name, **changes})


def build(name: str, shown: tuple[str, ...] = (), classes: int = 3, **changes: Any) -> Any:
    torch.manual_seed(0)
    network, _, _ = build_network(make_spec(name, **changes), classes, shown or SHOWN[name])
    return network.eval()


def count_weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def draw_images(name: str, shown: tuple[str, ...] = ()) -> Tensor:
    size = make_spec(name).size
    return torch.rand(2, len(shown or SHOWN[name]), size, size) * 2 - 1


# Layers


@pytest.mark.parametrize(
    ("name", "weights"),
    [("off_apexnet", 2_664_475), ("ststnet", 1_683), ("sssnet", 1_349_251), ("cnn_lstm", 200_515)],
)
def test_a_network_has_as_many_weights_as_its_layers_say(name: str, weights: int):
    shown = SHOWN[name] if name in FLOW_NETWORKS else tuple(f"t{moment}" for moment in range(8))
    assert count_weights(build(name, shown)) == weights
    assert f"{weights:,}" in str(type(build(name, shown)).__doc__)


def test_the_number_of_weights_of_ststnet_is_that_of_its_paper():
    network = build("ststnet")
    convolved = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    plain = sum(count_weights(module) for module in [*convolved, network.head])
    assert plain == 1_651 and 0.00165e6 < plain <= 0.00167e6
    assert network.head.in_features == 400


def test_a_factorised_convolution_has_about_the_weights_of_a_full_one():
    network = build("cnn3d")
    space, time = (network.blocks[0].layers[place].weight for place in (0, 3))
    full = 16 * 16 * 3 * 3 * 3
    assert space.shape[2:] == (1, 3, 3) and time.shape[2:] == (3, 1, 1)
    assert 0.95 * full < space.numel() + time.numel() <= full


def test_the_patches_of_vivit_fill_the_image():
    with pytest.raises(ValueError, match="multiple of 8 for vivit; given: 50"):
        make_spec("vivit", size=50)
    assert build("vivit", size=24).spatial.positions.shape == (1, 9, 64)


@pytest.mark.parametrize("name", MOTION_NETWORKS)
def test_every_weight_is_learnt(name: str):
    network = build(name)
    network(draw_images(name)).square().sum().backward()
    without = [key for key, one in network.named_parameters() if one.grad is None]
    assert not without
    unmoved = [key for key, one in network.named_parameters() if not one.grad.abs().sum() > 0]
    assert not [key for key in unmoved if not key.endswith("bias")]


@pytest.mark.parametrize("name", MOTION_NETWORKS)
def test_equal_seeds_give_equal_weights_and_others_do_not(name: str):
    one, again, other = (
        start_network(make_spec(name), CLASSES, seed, None, SHOWN[name]).network.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[key], again[key]) for key in one)
    first = OWN_NETWORKS[name].first_layer
    assert not torch.equal(one[first], other[first])


# What a network looks at


def test_off_apexnet_looks_at_both_displacements_and_not_at_the_strain():
    network, images = build("off_apexnet"), draw_images("off_apexnet")
    plain = network(images)
    for channel, name in enumerate(FLOW):
        changed = images.clone()
        changed[:, channel] = -changed[:, channel]
        assert torch.equal(network(changed), plain) is (name == "strain")


@pytest.mark.parametrize("name", ["ststnet", "sssnet"])
def test_two_networks_look_at_the_strain(name: str):
    network, images = build(name), draw_images(name)
    plain = network(images)
    images[:, 2] = -images[:, 2]
    assert not torch.allclose(network(images), plain, atol=1e-6)


@pytest.mark.parametrize("name", CLIP_NETWORKS)
def test_the_order_of_time_matters(name: str):
    network, images = build(name), draw_images(name)
    assert not torch.allclose(network(images), network(images[:, [2, 1, 0]]), atol=1e-6)


@pytest.mark.parametrize("name", CLIP_NETWORKS)
@pytest.mark.parametrize("moments", [2, 5])
def test_the_channels_of_a_moment_stay_together(name: str, moments: int):
    """Grey frames are those of a network of three channels that has a third of each weight."""
    grey = tuple(f"t{moment}" for moment in range(moments))
    colour = tuple(f"{name}-{moment}" for moment in grey for name in FLOW)
    narrow, wide = build(name, grey), build(name, colour)
    first = OWN_NETWORKS[name].first_layer
    weights = narrow.state_dict()
    if name == "cnn3d":  # whose first layer has another number of maps
        assert wide(draw_images(name, colour)).shape == (2, 3)
        return
    wide.load_state_dict({**weights, first: weights[first].repeat(1, 3, 1, 1) / 3})
    images = draw_images(name, grey)
    repeated = images.repeat_interleave(3, dim=1)
    assert torch.allclose(wide(repeated), narrow(images), atol=1e-5)


# Channels


def test_channels_are_read_as_a_clip():
    clip = read_clip_channels(("t0", "t1", "t2"))
    assert clip is not None and clip.moments == ("t0", "t1", "t2") and clip.inputs == ("gray",)
    pair = read_clip_channels(("onset", "apex"))
    assert pair is not None and pair.moments == ("onset", "apex")
    flow = read_clip_channels(tuple(f"{name}-t{moment}" for moment in (1, 2) for name in FLOW))
    assert flow is not None and flow.moments == ("t1", "t2") and flow.inputs == FLOW
    edges = read_clip_channels(("onset-difference-t0", "onset-difference-t1"))
    assert edges is not None and edges.inputs == ("onset-difference",)
    for shown in (
        ("gray",),
        ("red", "green", "blue"),
        ("t0",),
        ("onset-difference", "hog"),
        ("gray", "t0", "t1"),
        ("hog-t0", "hog-t1", "lbp-t0", "lbp-t1"),
        ("hog-t0", "lbp-t0", "lbp-t1", "hog-t1"),
    ):
        assert read_clip_channels(shown) is None


def test_each_channel_is_normalised_and_relit_as_what_it_shows():
    shown = ("t0", "hog-t0", "laplacian", "flow-right-t1", "flow-down-t1", "strain-t1", "red")
    assert find_resting_values(shown) == (0, None, 128, None, None, None, 0)
    assert find_flow_pairs(shown) == [(3, 4)]
    assert find_flow_pairs(FLOW) == [(0, 1)] and find_flow_pairs(("red", "green", "blue")) == []
    mean, deviation = find_centre_and_scale(FLOW)
    none, most = np.array([128, 128, 0]) / 255, np.array([255, 255, 255]) / 255
    assert (none - mean) / deviation == pytest.approx([0, 0, 0])
    assert (most - mean) / deviation == pytest.approx([1, 1, 1])


# What a network refuses


@pytest.mark.parametrize(
    ("name", "shown", "message"),
    [
        ("sssnet", ("gray",), "takes optical flow .* gray; .*`mien preprocess SET --input flow`"),
        ("sssnet", CLIP, "takes optical flow .* show t0, t1, t2; "),
        ("ststnet", ("flow-down", "flow-right", "strain"), "takes optical flow"),
        ("cnn_lstm", ("gray",), "takes clips .* show gray; .*mien preprocess SET --clips 8"),
        ("vivit", FLOW, "takes clips .* show flow-right, flow-down, strain; "),
        ("cnn3d", ("red", "green", "blue"), "takes clips .* show red, green, blue; "),
    ],
)
def test_faces_that_a_network_cannot_take_are_refused_at_once(
    name: str, shown: tuple[str, ...], message: str
):
    faces = blobs(8) if shown == ("gray",) else show_as(blobs(8), shown)
    for fails in (
        lambda: fit_network(faces, make_spec(name), CLASSES, 0, device="cpu"),
        lambda: pretrained.check_all({name: make_spec(name)}, shown={name: shown}),
    ):
        with pytest.raises(DataError, match=f"classifier {name} {message}"):
            fails()


@pytest.mark.parametrize("name", ["tiny", "test_resnet"])
@pytest.mark.parametrize("shown", [FLOW, CLIP, ("t0", "t1"), ("gray",)])
def test_other_networks_take_flow_and_clips(name: str, shown: tuple[str, ...]):
    spec = make_spec(name, size=32, weights="none", epochs=1, batch=8)
    require_input(name, spec, shown)
    faces = blobs(8) if shown == ("gray",) else show_as(blobs(8), shown)
    fitted = fit_network(faces, spec, CLASSES, 0, device="cpu")
    assert predict_classes(fitted, faces).shape == (8, len(CLASSES))


def test_a_network_of_clips_answers_only_for_clips_of_as_many_moments(tmp_path: Path):
    spec = make_spec("cnn_transformer", size=16, epochs=1, batch=8)
    faces = show_as(blobs(8), CLIP)
    fitted = fit_network(faces, spec, CLASSES, 0, device="cpu")
    save_network(fitted, tmp_path)
    again = load_network(tmp_path, "cpu")
    assert np.array_equal(predict_classes(again, faces), predict_classes(fitted, faces))
    with pytest.raises(DataError, match="was trained on the channels t0, t1, t2; these faces show"):
        predict_classes(again, show_as(blobs(8), ("t0", "t1")))
    with pytest.raises(DataError, match="takes clips"):
        predict_classes(again, blobs(8))


# Freezing and speed


def test_what_is_frozen_and_how_long_it_takes_depends_on_the_channels():
    spec = make_spec("cnn_lstm", size=16, freeze=0.5)
    grey, flow = CLIP, tuple(f"{name}-{moment}" for moment in CLIP for name in FLOW)
    frozen = [find_frozen_layers(spec, 3, shown) for shown in (grey, flow)]
    assert [one and one.layers for one in frozen] == [("trunk.layers.0", "trunk.layers.5")] * 2
    assert frozen[0] and frozen[1] and frozen[0].weights < frozen[1].weights
    narrow, wide = (speed.count_work(spec, 3, shown).products for shown in (grey, flow))
    first = 3 * 12 * 12 * 32 * 5 * 5  # products of the first layer for one channel at three moments
    assert wide - narrow == pytest.approx(2 * first)


def test_a_frozen_memory_stays_as_it_was():
    spec = make_spec("cnn_lstm", size=16, epochs=1, batch=8, freeze=0.8)
    faces = show_as(blobs(16), CLIP)
    work = ClassifierTraining(
        start_network(spec, CLASSES, 0, None, CLIP), faces, 0, torch.device("cpu")
    )
    before = {key: value.clone() for key, value in work.network.state_dict().items()}
    work.make_step(0)
    after = work.network.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", ["sssnet", "cnn3d"])
def test_a_network_of_motion_is_timed(name: str):
    spec = make_spec(name, size=16, batch=8)
    found = speed.measure_speed(spec, 3, (len(SHOWN[name]), 16, 16), "cpu", SHOWN[name])
    assert found.train > 0 and found.predict > 0


def test_the_page_of_classifiers_has_a_row_for_each_network():
    page = Path(__file__).parent.parent / "docs" / "classifiers.md"
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines()]
    table = {row[0].strip("| `"): row for row in rows if len(row) == 5}
    for name, own in OWN_NETWORKS.items():
        shown = (
            SHOWN["sssnet"] if own.takes != "clips" else tuple(f"t{moment}" for moment in range(8))
        )
        _, sees, pixels, weights, _ = table[name]
        assert {"images": "any", "flow": "optical flow", "clips": "clips"}[own.takes] in sees
        assert int(pixels) == make_spec(name).size
        assert int(weights.replace(",", "")) == count_weights(build(name, shown))


# Studies


def test_a_study_plans_a_network_of_flow_only_for_flow(tmp_path: Path):
    store = Store(tmp_path / "store")
    apexes(store, "a")
    fields = {"size": 16, "epochs": 1, "batch": 8}
    grey = resolve(table(classifiers=["sssnet"], classifier=fields), store)
    with pytest.raises(DataError, match=r"sssnet, plain takes optical flow .* show gray"):
        require_classifiers(grey, {}, store)
    with pytest.raises(DataError, match="classifier sssnet, plain takes optical flow"):
        run_study(grey, store, device="cpu")

    # With an input of its own it is planned, timed, and trained next to a network of frames
    own = {**fields, "sssnet": {"input": ["flow"]}, "svm": {"input": ["flow"]}}
    both = table(classifiers=["tiny", "sssnet", "svm"], classifier=own, trials=1)
    study = resolve(both, store)
    require_classifiers(study, {}, store)
    plan = plan_study(study, store)
    costs = estimate_costs(plan, list(plan.rows), store, device="cpu")
    assert {cost.label for cost in costs} >= {"tiny plain", "sssnet plain"}
    run_study(study, store, device="cpu")
    assert len(plan_study(study, store).done) == len({row.spec.name for row in plan.rows})
