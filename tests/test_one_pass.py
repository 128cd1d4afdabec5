"""Generators that make an image in one pass: what they share, and the arithmetic of each."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch.distributions import Normal, kl_divergence
from worlds import HAPPY, ONE_PASS, Stop, same_weights, toy, training_of

from mien.errors import DataError, TrainingError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators import vae
from mien.generators.diffusion.resources import Resources
from mien.generators.kinds import GENERATORS, fit_generator, sample_generator
from mien.generators.one_pass import fit
from mien.generators.one_pass.mixture import LatentMixture, fit_mixtures
from mien.generators.one_pass.model import OnePass
from mien.generators.presets import CPU_SPEEDS, PRESETS, estimate_cpu_seconds, read_preset
from mien.generators.specs import KIND_FACTS, OnePassSpec, VaeSpec
from mien.publish.lineage import STATED_SPEC_FIELDS
from mien.runs import checkpoints
from mien.seeds import make_rng

pytestmark = pytest.mark.usefixtures("one_thread")

EACH = pytest.mark.parametrize("kind", ONE_PASS)
AFRAID = EMOTIONS.index("fear")


def one_pass(kind: str, folder: Path, faces: Faces | None = None, **fields: Any) -> OnePass:
    """The trained generator of a kind, tiny."""
    folder.mkdir(exist_ok=True)
    spec = training_of(kind, **fields)
    generator = fit_generator(toy() if faces is None else faces, spec, folder, device="cpu")
    assert isinstance(generator, OnePass)
    return generator


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnePass]:
    return {kind: one_pass(kind, tmp_path_factory.mktemp(kind)) for kind in ONE_PASS}


# What they share


@EACH
def test_an_interrupted_training_ends_with_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: dict[str, OnePass]
):
    monkeypatch.setattr(fit, "SAVE_INTERVAL_S", 0.0)
    save = checkpoints.save_checkpoint

    def save_and_stop(folder: Path, tensors: Any, state: Any) -> None:
        save(folder, tensors, state)
        if state["step"] in (2, 4):
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", save_and_stop)
        for _ in range(2):
            with pytest.raises(Stop):
                one_pass(kind, tmp_path)
    torch.manual_seed(99)
    resumed = one_pass(kind, tmp_path)
    assert same_weights(resumed.network, trained[kind].network)
    assert resumed.losses.equals(trained[kind].losses) and resumed.facts == trained[kind].facts
    with pytest.raises(UsageError, match="empty folder"):
        one_pass(kind, tmp_path, seed=1)


@EACH
def test_the_number_of_cores_changes_nothing(kind: str, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(fit.ROWS_OF_PIECE, "cpu", 5)  # so that there are several pieces
    made = []
    for count in (1, 3):
        torch.set_num_threads(count)
        made.append(one_pass(kind, tmp_path / str(count), images_seen=36))
    assert same_weights(made[0].network, made[1].network)


@EACH
def test_an_image_is_the_same_alone_and_in_company(kind: str, trained: dict[str, OnePass]):
    labels, numbers = np.array([HAPPY, AFRAID] * 10), np.arange(100, 120)
    together = sample_generator(trained[kind], labels, numbers)
    assert (sample_generator(trained[kind], labels[17:18], numbers[17:18])[0] == together[17]).all()
    order = make_rng("order").permutation(20)[:16]
    drawn = sample_generator(trained[kind], labels[order], numbers[order])
    assert (drawn == together[order]).all()
    assert len({image.tobytes() for image in together}) == 20


@EACH
@pytest.mark.parametrize(("channels", "size"), [(3, 24), (2, 16)])
def test_any_channels_and_sizes_are_learnt(kind: str, channels: int, size: int, tmp_path: Path):
    faces = toy(8, size, channels)
    made = one_pass(kind, tmp_path, faces, images_seen=24)
    drawn = sample_generator(made, np.array([HAPPY]), np.arange(1))
    assert drawn.shape == (1, channels, size, size)
    with pytest.raises(DataError, match="multiples of 4"):
        one_pass(kind, tmp_path, toy(size=18))


@EACH
def test_labels_matter_after_training(kind: str, tmp_path: Path):
    made = one_pass(kind, tmp_path, images_seen=720, learning_rate=8e-3)
    drawn = sample_generator(made, np.array([HAPPY] * 8 + [AFRAID] * 8), np.arange(16))
    assert drawn[:8].mean() > drawn[8:].mean() + 60


@EACH
def test_a_loss_that_is_no_number_stops_the_training(kind: str, tmp_path: Path, monkeypatch):
    def descend(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(fit.OnePassTraining, "descend", descend)
    with pytest.raises(TrainingError, match="in 5 steps in a row"):
        one_pass(kind, tmp_path)


@EACH
def test_a_training_that_diverges_is_refused(kind: str, tmp_path: Path):
    with pytest.raises(TrainingError, match="learning_rate"):
        one_pass(kind, tmp_path, learning_rate=1e5, images_seen=480)


def test_an_update_with_infinite_gradients_changes_nothing():
    spec = training_of("vae")
    assert isinstance(spec, VaeSpec)
    training = vae.make_training(toy(), spec, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in training.collect_tensors().items()}
    weight = next(training.networks["autoencoder"].parameters())

    def compute(rows: slice) -> torch.Tensor:
        total = sum(each.square().sum() for each in training.networks["autoencoder"].parameters())
        return (total + weight.square().sum() * float("inf")).expand(rows.stop - rows.start)

    with ThreadPoolExecutor(1) as pool:
        assert training.descend("autoencoder", 0, compute, pool) is None
    assert all(torch.equal(before[name], each) for name, each in training.collect_tensors().items())


@EACH
def test_what_only_diffusion_models_can_do_is_refused(kind: str, tmp_path: Path):
    spec = training_of(kind)
    with pytest.raises(UsageError, match=f"need a diffusion model, and a {kind} generator"):
        fit_generator(toy(), spec, tmp_path, device="cpu", resources=Resources(memory=10**9))
    with pytest.raises(DataError, match="two different images or more"):
        fit_generator(toy().select(np.arange(1)), spec, tmp_path, device="cpu")


@EACH
def test_its_preset_has_a_known_speed_and_about_a_million_weights(kind: str):
    spec = read_preset(kind, "f")
    assert isinstance(spec, OnePassSpec) and spec.kind == kind and kind in CPU_SPEEDS
    seconds = estimate_cpu_seconds(spec, (1, 48, 48), 1)
    assert seconds == pytest.approx(spec.images_seen / CPU_SPEEDS[kind])
    other = spec.model_copy(update={"net": spec.net.model_copy(update={"width": 16})})
    assert estimate_cpu_seconds(other, (1, 48, 48), 1) is None
    count = GENERATORS[kind].count_workload
    assert count is not None and kind in PRESETS
    work = count(spec, (1, 48, 48))
    assert 4e5 < work.weights < 4e6 and work.products > 1e7


def list_fields(model: type[BaseModel]) -> set[str]:
    """The names of the fields of a spec, and of the specs within it."""
    fields = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields |= list_fields(field.annotation)
    return fields


def test_a_release_states_every_setting_of_the_training_of_its_generator():
    for facts in KIND_FACTS.values():
        assert list_fields(facts.spec) - STATED_SPEC_FIELDS == set()


# The variational autoencoder


def test_the_divergence_is_that_of_torch_and_groups_have_free_bits():
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(5, 8, generator=rng)
    log_variances = torch.randn(5, 8, generator=rng)
    expected = kl_divergence(Normal(means, (log_variances / 2).exp()), Normal(0, 1))
    whole = vae.compute_divergence(means, log_variances, 0.0)
    assert torch.allclose(whole, expected.sum(dim=1), atol=1e-5)

    # A group with less than its free bits counts as these, and has no gradient
    groups = expected.unflatten(1, (2, vae.GROUP)).sum(dim=2)
    limit = float(groups.median())
    free = vae.compute_divergence(means, log_variances, limit)
    assert torch.allclose(free, groups.clamp(min=limit).sum(dim=1), atol=1e-5)
    assert not torch.allclose(free, whole)
    still = torch.zeros(1, 8, requires_grad=True)
    vae.compute_divergence(still, torch.zeros(1, 8), 0.25).sum().backward()
    assert still.grad is not None and (still.grad == 0).all()


def test_the_difference_of_gradients_is_that_of_numpy():
    rng = make_rng("edges")
    one, two = (rng.normal(size=(3, 2, 6, 5)).astype(np.float32) for _ in range(2))
    expected = [
        sum(np.abs(np.diff(a, axis=axis) - np.diff(b, axis=axis)).mean() for axis in (1, 2))
        for a, b in zip(one, two, strict=True)
    ]
    found = vae.compute_edge_difference(torch.from_numpy(one), torch.from_numpy(two))
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def mixture_spec(**fields: Any) -> VaeSpec:
    spec = training_of("vae", **fields)
    assert isinstance(spec, VaeSpec)
    return spec


def test_a_mixture_finds_two_groups_and_draws_their_moments():
    rng = make_rng("mixture")
    latents = rng.normal(size=(400, 3)) * [1, 0.5, 2] + np.repeat([[-6, 0, 0], [6, 0, 0]], 200, 0)
    labels, clips = np.full(400, HAPPY), [f"clip {number // 2}" for number in range(400)]
    spec = mixture_spec(net={"latent": 3}, components=2, prior=1e-6)
    variances = np.full((400, 3), 0.25)
    (found,) = fit_mixtures(latents, variances, labels, clips, spec).values()
    assert found.weights == pytest.approx([0.5, 0.5], abs=0.01)
    assert sorted(found.means[:, 0]) == pytest.approx([-6, 6], abs=0.2)

    # Drawn numbers have the moments of the latent numbers, with their own variances added
    mixture = LatentMixture(3, 2)
    mixture.fill(HAPPY, found)
    noise = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    drawn = mixture(noise, torch.full((20_000,), HAPPY), 1.0).numpy()
    expected = np.cov(latents, rowvar=False) + np.diag([0.25] * 3)
    assert np.allclose(np.cov(drawn, rowvar=False), expected, atol=0.05 * expected.max())
    halved = mixture(noise, torch.full((20_000,), HAPPY), 0.5).numpy()
    assert halved[drawn[:, 0] > 0].std(axis=0) == pytest.approx(
        drawn[drawn[:, 0] > 0].std(axis=0) / 2, rel=0.02
    )


def test_no_component_describes_fewer_clips_than_asked_however_far_apart_they_are():
    """An image far from all others would have a component of its own otherwise."""
    rng = make_rng("lonely")
    latents = rng.normal(size=(60, 2))
    latents[:5] += 40  # five frames of one clip
    clips = ["alone"] * 5 + [f"clip {number}" for number in range(55)]
    labels, variances = np.full(60, HAPPY), np.zeros((60, 2))
    spec = mixture_spec(net={"latent": 2}, components=4, least_clips=10)
    (found,) = fit_mixtures(latents, variances, labels, clips, spec).values()
    assert all(np.linalg.norm(mean - 40) > 20 for mean in found.means)
    (loose,) = fit_mixtures(latents, variances, labels, [*map(str, range(60))], spec).values()
    assert len(loose.weights) >= len(found.weights)


def test_the_covariance_of_a_component_is_drawn_to_that_of_all_classes():
    rng = make_rng("shrinkage")
    latents = np.concatenate([rng.normal(size=(90, 3)), np.repeat([[5.0, 5, 5]], 10, axis=0)])
    labels = np.array([HAPPY] * 90 + [AFRAID] * 10)
    clips = [str(number) for number in range(100)]
    spec = mixture_spec(net={"latent": 3}, components=1, prior=30.0)
    found = fit_mixtures(latents, np.zeros((100, 3)), labels, clips, spec)
    pooled = np.cov(latents[:90], rowvar=False, bias=True) * 90 / 100
    expected = (10 * 0 + 30 * pooled) / 40
    assert np.allclose(found[AFRAID].covariances[0], expected, atol=1e-3)


def test_the_active_numbers_and_components_are_in_the_summary(trained: dict[str, OnePass]):
    made = trained["vae"]
    line = GENERATORS["vae"].summarise(made)
    assert f"{made.facts['active']} of 4 latent numbers in use" in line
    assert made.facts["components"] == {"fear": 1, "happiness": 1}
