"""Every ancestral step, held against the DDPMScheduler of diffusers on shared noise."""

import warnings
from typing import Any

import pytest
import torch

from mien.generators import ddpm

pytestmark = pytest.mark.parity

STEPS = 1000


def scheduler(variance: str, clip: bool, exact: bool = True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        made = DDPMScheduler(
            num_train_timesteps=STEPS,
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule="linear",
            variance_type="fixed_small" if variance == "posterior" else "fixed_large",
            clip_sample=clip,
        )
    made.set_timesteps(STEPS)
    # its own single precision loses four digits of 1 - abar at small t; the equations are what is
    # compared
    if exact:
        made.betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
        made.alphas = 1 - made.betas
        made.alphas_cumprod = torch.cumprod(made.alphas, dim=0)
    return made


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("clip", [False, True])
def test_each_reverse_step_is_that_of_diffusers(variance, clip: bool):
    other, schedule = scheduler(variance, clip), ddpm.make_linear_schedule(STEPS, 1e-4, 0.02)
    generator = torch.Generator().manual_seed(0)
    for t in range(STEPS, 0, -1):
        x, predicted = (
            torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2)
        )
        seed = int(torch.randint(2**31, (), generator=generator))
        theirs = other.step(predicted, t - 1, x, generator=torch.Generator().manual_seed(seed))[0]
        z = torch.randn(
            2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        root = schedule.abar[t] ** 0.5
        noise = predicted
        if clip:
            x0 = ((x - (1 - root**2) ** 0.5 * predicted) / root).clamp(-1, 1)
            noise = (x - root * x0) / (1 - root**2) ** 0.5
        ours = ddpm.step_backward(schedule, x, t, noise, z, variance)
        assert torch.allclose(ours, theirs, atol=1e-8), t


def test_the_whole_chain_is_that_of_diffusers():
    other, schedule = (
        scheduler("posterior", clip=True, exact=False),
        ddpm.make_linear_schedule(STEPS, 1e-4, 0.02),
    )
    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def predict(x, t: float):
        return torch.tanh(x) * (0.5 + 0.4 * t / STEPS)

    theirs, streams = start, torch.Generator().manual_seed(1)
    for t in range(STEPS, 0, -1):
        theirs = other.step(predict(theirs, t), t - 1, theirs, generator=streams)[0]

    def denoise(x, sigma):
        t = ddpm.find_time(schedule, sigma)[0].item()
        s = sigma[:, None, None, None]
        return (x - s * predict(x / (1 + s**2).sqrt(), t)).clamp(-1, 1)

    streams = torch.Generator().manual_seed(1)

    def draw():
        return torch.randn(start.shape, generator=streams)

    ours = ddpm.run_chain(schedule, denoise, start, draw, "posterior", torch.zeros(1, 4, 4))
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_noising_is_that_of_diffusers():
    other, schedule = (
        scheduler("posterior", clip=False),
        ddpm.make_linear_schedule(STEPS, 1e-4, 0.02),
    )
    generator = torch.Generator().manual_seed(0)
    x0, noise = (
        torch.randn(6, 1, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    t: Any = torch.tensor([1, 2, 250, 500, 999, 1000])
    assert torch.allclose(
        ddpm.add_noise(schedule, x0, t, noise), other.add_noise(x0, noise, t - 1), atol=1e-12
    )
