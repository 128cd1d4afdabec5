"""The path of a rectified flow, held against diffusers' FlowMatchEulerDiscreteScheduler."""

from typing import Any

import pytest
import torch

from mien.classifiers.networks import load_timm
from mien.generators import rectified
from mien.generators.diffusion.samplers import euler, make_karras_levels

pytestmark = pytest.mark.parity


def make_scheduler() -> Any:
    """The scheduler with the settings of `rectified.make_noise_schedule`."""
    load_timm()  # makes torchvision importable, which diffusers imports
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


def test_each_step_is_that_of_diffusers():
    def predict(x_t, t: float):
        return torch.tanh(3 * x_t) * (0.5 + t)

    # Ours, in noise levels: x0 = x_t - t v
    levels = make_karras_levels(12, 0.002, 80.0)

    def denoise(x, sigma):
        t = float(sigma[0] / (1 + sigma[0]))
        return (1 - t) * x - t * predict((1 - t) * x, t)

    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    ours = euler(denoise, 81 * start, levels)

    # Theirs, in t
    scheduler = make_scheduler()
    scheduler.set_timesteps(sigmas=[sigma / (1 + sigma) for sigma in levels[:-1]])
    theirs = start
    for time, t in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        theirs = scheduler.step(predict(theirs, float(t)), time, theirs, return_dict=False)[0]
    assert torch.allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.75])
def test_noise_is_added_as_in_diffusers(t: float):
    scheduler = make_scheduler()
    x0, noise = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    time = scheduler.timesteps[torch.isclose(scheduler.timesteps, torch.tensor(1000 * t))]
    theirs = scheduler.scale_noise(x0, time.expand(3), noise)
    assert torch.allclose(rectified.mix_noise(x0, noise, torch.full((3,), t)), theirs, atol=1e-6)
