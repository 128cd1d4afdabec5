"""Rectified flow: known answers from Gaussians, whose velocity is a formula."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from worlds import HAPPY, company, spec_of

from mien.errors import SpecError
from mien.generators import rectified
from mien.generators.diffusion.objective import Batch
from mien.generators.diffusion.samplers import euler, make_karras_levels
from mien.generators.diffusion.transforms import MOVES
from mien.generators.kinds import sample_generator
from mien.generators.presets import read_preset
from mien.generators.specs import SamplerSpec, TrainSpec

S = 0.6  # the data are N(0, S^2)
TIMES = (0.02, 0.3, 0.5, 0.9, 0.98)


class PerfectVelocity(nn.Module):
    """E[eps - x0 | x_t] for data that are N(0, S^2); the noise input is logit(t) / 4."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # a generator is on the device of its weights

    def forward(self, x, noise_input, labels, moves, masks=()):
        t = torch.sigmoid(4 * noise_input)[:, None, None, None]
        return (t - (1 - t) * S**2) / ((1 - t) ** 2 * S**2 + t**2) * x


@pytest.fixture(scope="module")
def perfect():
    """A generator with the perfect network, around a mean face of zero."""
    generator = company("rectified")
    mean = torch.zeros_like(generator.mean)
    return replace(generator, network=PerfectVelocity(), mean=mean)


@pytest.mark.parametrize("t", TIMES)
def test_the_perfect_velocity_gives_the_denoiser_in_closed_form(perfect, t: float):
    denoise = rectified.make_denoiser(perfect, perfect.network)
    x = torch.randn(5, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    sigma = t / (1 - t)
    clean = denoise(x, torch.full((5,), sigma), torch.zeros(5, dtype=torch.int64))
    assert torch.allclose(clean, x * S**2 / (S**2 + sigma**2), rtol=1e-4, atol=1e-5)


def test_the_denoiser_works_on_differences_from_the_mean_face(perfect):
    mean = torch.linspace(-1, 1, 576).reshape(1, 24, 24)
    denoise = rectified.make_denoiser(replace(perfect, mean=mean), perfect.network)
    clean = denoise(mean[None], torch.full((1,), 3.0), torch.zeros(1, dtype=torch.int64))
    assert torch.allclose(clean[0], mean)


@pytest.mark.parametrize("t", TIMES)
def test_the_least_loss_is_the_variance_of_the_velocity(t: float):
    """Var(eps - x0 | x_t) = S^2 / ((1 - t)^2 S^2 + t^2) for data that are N(0, S^2)."""
    rng, n = torch.Generator().manual_seed(1), 64
    x0, noise = (
        S * torch.randn(n, 1, 24, 24, generator=rng),
        torch.randn(n, 1, 24, 24, generator=rng),
    )
    labels, moves = torch.zeros(n, dtype=torch.int64), torch.zeros(n, len(MOVES))
    batch = Batch(x0, labels, moves, torch.full((n,), t / (1 - t)), noise)
    losses = rectified.compute_losses(PerfectVelocity(), batch, 1.0, ())
    assert losses.shape == (n,)
    assert losses.mean().item() == pytest.approx(S**2 / ((1 - t) ** 2 * S**2 + t**2), rel=0.02)


def test_time_is_logit_normal_in_training():
    objective = rectified.make_objective(spec_of("rectified", p_mean=-0.5, p_std=0.8))
    shares = (torch.arange(10_000) + 0.5) / 10_000
    logits = rectified.convert_to_time(objective.compute_levels(shares)).logit()
    assert logits.mean().item() == pytest.approx(-0.5, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, rel=0.01)


def test_euler_on_noise_levels_takes_the_steps_of_euler_on_time(perfect):
    levels = make_karras_levels(7, 0.002, 80.0)
    x = 80 * torch.randn(3, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    denoise = rectified.make_denoiser(perfect, perfect.network)
    none = torch.zeros(3, dtype=torch.int64)
    ours = euler(lambda x, sigma: denoise(x, sigma, none), x, levels)

    times = [sigma / (1 + sigma) for sigma in levels]
    x_t = (1 - times[0]) * x
    for t, after in pairwise(times):
        each = torch.full((3,), t)
        velocity = rectified.predict_velocity(
            perfect.network, x_t, each, none, torch.zeros(3, len(MOVES))
        )
        x_t = x_t + (after - t) * velocity
    assert torch.allclose(ours, x_t, atol=1e-5)


def test_images_of_the_perfect_network_have_the_spread_of_the_data(perfect):
    labels, numbers = np.full(16, HAPPY), np.arange(16)
    how = SamplerSpec(steps=40, clip_x0=False)
    images = sample_generator(perfect, labels, numbers, sampler=how) / 127.5 - 1
    expected = torch.randn(100_000, generator=torch.Generator().manual_seed(3)).mul(S).clamp(-1, 1)
    assert images.std() == pytest.approx(float(expected.std()), rel=0.03)


def test_the_preset_is_the_training_of_nano_with_another_objective():
    flow, nano = read_preset("rectified", "faces"), read_preset("nano", "faces")
    assert isinstance(flow, TrainSpec) and isinstance(nano, TrainSpec)
    assert flow.kind == "rectified" and flow.model_copy(update={"kind": "edm"}) == nano


def test_fields_of_other_kinds_are_refused():
    with pytest.raises(SpecError, match="beta_last applies only to kind 'ddpm'"):
        read_preset("rectified", "faces", {"beta_last": 0.5})
    with pytest.raises(SpecError, match="p_mean applies only to kind 'edm' and 'rectified'"):
        read_preset("paper", "faces", {"p_mean": 0.0})
