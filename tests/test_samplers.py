"""Samplers and equations: known answers from Gaussians, whose perfect denoiser is a formula."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mien.generators import ddpm, edm
from mien.generators.diffusion import samplers
from mien.generators.diffusion.samplers import SOLVERS, ancestral, make_karras_levels
from mien.generators.sampler_table import SAMPLERS

S = 0.6  # the data are N(0, S^2)


def perfect(x, sigma):
    return x * (S**2 / (S**2 + sigma**2))[:, None, None, None].to(x.dtype)


def error(sampler: str, steps: int) -> float:
    """The distance from the known end of the ODE, x sqrt(S^2 + low^2) / sqrt(S^2 + high^2)."""
    levels = make_karras_levels(steps, 0.05, 5.0)[:-1]
    x = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    end = 3.0 * math.sqrt((S**2 + levels[-1] ** 2) / (S**2 + levels[0] ** 2))
    return abs(SOLVERS[sampler](perfect, x, levels).item() - end)


@pytest.mark.parametrize(
    ("sampler", "order"), [("euler", 1), ("heun", 2), ("dpmpp2m", 2), ("unipc", 3)]
)
def test_a_sampler_converges_at_its_order(sampler: str, order: int):
    steps = [64, 128, 256, 512]
    slope = -np.polyfit(np.log(steps), np.log([error(sampler, n) for n in steps]), 1)[0]
    assert slope == pytest.approx(order, abs=0.2)


NOISELESS = [name for name, facts in SAMPLERS.items() if not facts.adds_noise]


@pytest.mark.parametrize("sampler", NOISELESS)
def test_a_deterministic_sampler_makes_the_right_spread(sampler: str):
    noise = torch.randn(
        2000, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    x = SOLVERS[sampler](perfect, noise * 80, make_karras_levels(160, 0.002, 80.0))
    assert x.std().item() == pytest.approx(S, rel=0.03)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_facts_of_a_sampler_are_those_of_its_function(sampler: str):
    """Its calls per step, and whether it draws noise: both counted."""
    calls, draws = [], []

    def denoise(x, sigma):
        calls.append(1)
        return perfect(x, sigma)

    def draw():
        draws.append(1)
        return torch.zeros(1, 1, 1, 1)

    SOLVERS[sampler](denoise, torch.ones(1, 1, 1, 1), make_karras_levels(6, 0.05, 5.0), draw)
    facts = SAMPLERS[sampler]
    assert len(calls) == facts.calls * 6 - (facts.calls - 1)  # the last step is Euler's
    assert len(draws) == (5 if facts.adds_noise else 0)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_the_ancestral_sampler_makes_the_right_spread(variance):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(2000, 1, 2, 2, dtype=torch.float64, generator=generator)

    x = ancestral(perfect, draw() * 80, make_karras_levels(400, 0.002, 80.0), draw, variance)
    assert x.std().item() == pytest.approx(S, rel=0.04)


def test_the_ancestral_sampler_asks_for_its_noise():
    with pytest.raises(ValueError, match="draw"):
        ancestral(perfect, torch.zeros(1, 1, 1, 1), [1.0, 0.0])


def test_noise_levels_fall_from_high_to_low_and_end_at_zero():
    levels = make_karras_levels(18, 0.002, 80.0)
    assert len(levels) == 19
    assert levels[0] == pytest.approx(80) and levels[17] == pytest.approx(0.002) and levels[18] == 0
    assert levels == sorted(levels, reverse=True)
    assert levels[9] == pytest.approx(
        1.9233, rel=1e-3
    )  # golden: ((80^(1/7) + 9/17 (0.002^(1/7) - 80^(1/7)))^7
    assert make_karras_levels(1, 0.002, 80.0) == [80.0, 0.0]


def test_guidance_works_within_its_interval_only():
    def denoise(x, sigma, labels):
        return labels[:, None, None, None].float().expand_as(x)

    guide = samplers.guide(denoise, null=0, weight=3.0, low=0.5, high=2.0)
    x, labels = torch.zeros(4, 1, 2, 2), torch.full((4,), 2)
    for sigma, value in [(0.4, 2.0), (0.5, 6.0), (2.0, 6.0), (2.1, 2.0)]:
        assert (guide(x, torch.full((4,), sigma), labels) == value).all()


def test_the_preconditioning_keeps_unit_variance():
    sigma_data, sigma = 0.45, torch.logspace(-2.5, 1.8, 12)
    c_skip, c_out, c_in, c_noise = edm.precondition(sigma, sigma_data)
    generator = torch.Generator().manual_seed(0)
    x0 = sigma_data * torch.randn(400_000, generator=generator)
    noise = torch.randn(400_000, generator=generator)
    for k, level in enumerate(sigma):
        x = x0 + level * noise
        target = (x0 - c_skip[k] * x) / c_out[k]
        assert (c_in[k] * x).std() == pytest.approx(1, abs=0.01)
        assert target.std() == pytest.approx(1, abs=0.01)
        assert (
            abs((target * x).mean() / x.std()) < 0.01
        )  # what the skip leaves is not to be read off x
    assert torch.allclose(c_noise * 4, sigma.log())


# The preprint's equations

SCHEDULE = ddpm.make_linear_schedule(1000, 1e-4, 0.02)


def test_the_schedule_has_the_published_ends():
    assert SCHEDULE.sigma[1] == pytest.approx(0.0100, abs=1e-4)
    assert SCHEDULE.sigma[-1] == pytest.approx(157.4, abs=0.1)
    assert SCHEDULE.abar[0] == 1 and SCHEDULE.steps == 1000


@pytest.mark.parametrize("t", [1, 500, 1000])
def test_the_closed_form_has_the_moments_of_equation_2(t: int):
    x0 = torch.full((40_000, 1, 1, 1), 0.7)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
    x = ddpm.add_noise(SCHEDULE, x0, torch.full((len(x0),), t), noise)
    spread = math.sqrt(1 - SCHEDULE.abar[t])
    assert x.mean().item() == pytest.approx(math.sqrt(SCHEDULE.abar[t]) * 0.7, abs=4 * spread / 200)
    assert x.std().item() == pytest.approx(spread, rel=0.02)


def test_the_iterated_chain_equals_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    x = torch.full((20_000, 1, 1, 1), 0.9)
    for t in range(1, 301):
        beta, noise = float(SCHEDULE.beta[t]), torch.randn(x.shape, generator=generator)
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * noise  # Equation 1
    spread = math.sqrt(1 - SCHEDULE.abar[300])
    assert x.mean().item() == pytest.approx(
        math.sqrt(SCHEDULE.abar[300]) * 0.9, abs=4 * spread / 141
    )
    assert x.std().item() == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("t", [2, 17, 500, 1000])
def test_a_reverse_step_is_the_gaussian_posterior_when_the_noise_is_exact(t: int):
    generator = torch.Generator().manual_seed(t)
    x0 = torch.rand(8, 1, 3, 3, dtype=torch.float64, generator=generator) * 2 - 1
    noise, z = (torch.randn(x0.shape, dtype=torch.float64, generator=generator) for _ in range(2))
    abar, before, beta = SCHEDULE.abar[t], SCHEDULE.abar[t - 1], SCHEDULE.beta[t]
    x = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise
    # Bayes: precision and mean of q(x_{t-1} | x_t, x_0) from q(x_t | x_{t-1}) and q(x_{t-1} | x_0)
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (math.sqrt(1 - beta) / beta * x + math.sqrt(before) / (1 - before) * x0) / precision
    got = ddpm.step_backward(SCHEDULE, x, t, noise, z)
    assert torch.allclose(got, mean + z / math.sqrt(precision), atol=1e-10)


def test_the_beta_variance_is_beta_and_the_last_step_adds_no_noise():
    zero, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    step = ddpm.step_backward(SCHEDULE, zero, 40, zero, one, "beta")
    assert step.item() == pytest.approx(math.sqrt(SCHEDULE.beta[40]))
    assert ddpm.step_backward(SCHEDULE, zero, 1, zero, one, "beta").item() == 0


def test_t_of_sigma_is_the_inverse_of_sigma_of_t_and_smooth_between():
    t = ddpm.find_time(SCHEDULE, torch.from_numpy(SCHEDULE.sigma[1:]))
    assert torch.allclose(t, torch.arange(1, 1001, dtype=torch.float64), atol=1e-9)
    between = ddpm.find_time(
        SCHEDULE, torch.tensor([float(np.sqrt(SCHEDULE.sigma[40] * SCHEDULE.sigma[41]))])
    )
    assert between.item() == pytest.approx(40.5, abs=0.01)
    assert ddpm.find_time(SCHEDULE, torch.tensor([1e-6, 1e6])).tolist() == [1.0, 1000.0]


class Wavy(nn.Module):
    """A stand-in for a trained noise predictor: smooth in x, and it shows which t it was told."""

    def forward(self, x, noise, labels, moves):
        return 0.9 * torch.tanh(x) + 0.1 * noise[:, None, None, None]


def test_the_denoiser_view_agrees_with_the_noise_view():
    """D(x, sigma_t) and eps(x_t, t) give the same x0, and the sampler in sigma is the chain in
    t.
    """
    schedule, mean = (
        ddpm.make_linear_schedule(60, 1e-3, 0.3),
        torch.zeros(1, 4, 4, dtype=torch.float64),
    )
    network = Wavy()

    def denoise(x, sigma):
        seen = x / (1 + sigma**2).sqrt()[:, None, None, None]
        t = ddpm.find_time(schedule, sigma)
        return x - sigma[:, None, None, None] * network(
            seen, ddpm.scale_time(schedule, t), None, None
        )

    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for t in (1, 30, 60):
        noise = network(
            x,
            ddpm.scale_time(schedule, torch.full((3,), float(t), dtype=torch.float64)),
            None,
            None,
        )
        x0 = (x - math.sqrt(1 - schedule.abar[t]) * noise) / math.sqrt(schedule.abar[t])
        sigma = torch.full((3,), schedule.sigma[t], dtype=torch.float64)
        assert torch.allclose(denoise(x / math.sqrt(schedule.abar[t]), sigma), x0, atol=1e-8)

    def draws():
        generator = torch.Generator().manual_seed(2)
        return lambda: torch.randn(x.shape, dtype=torch.float64, generator=generator)

    for variance in ("posterior", "beta"):
        by_t = ddpm.run_chain(schedule, denoise, x, draws(), variance, mean)
        start = x * math.sqrt(1 + schedule.sigma[-1] ** 2)
        by_sigma = ancestral(denoise, start, ddpm.space_levels(schedule, 60), draws(), variance)
        assert torch.allclose(by_t, by_sigma, atol=1e-9)


def test_fewer_levels_are_spread_over_the_whole_chain():
    levels = ddpm.space_levels(SCHEDULE, 5)
    assert len(levels) == 6 and levels[-1] == 0
    assert levels[0] == SCHEDULE.sigma[1000] and levels[-2] == SCHEDULE.sigma[1]
    assert ddpm.space_levels(SCHEDULE, 1) == [SCHEDULE.sigma[1000], 0.0]
