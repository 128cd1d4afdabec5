"""DDPM: the diffusion model of the preprint's Section 2.4, by its equations.

After Ho et al. 2020 (arXiv:2006.11239):

    (1) forward step       q(x_t | x_{t-1}) = N(x_t; sqrt(1 - beta_t) x_{t-1}, beta_t I)
    (2) its closed form    q(x_t | x_0) = N(x_t; sqrt(abar_t) x_0, (1 - abar_t) I)
    (3) sampling equation  x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,  eps ~ N(0, I)
    (4) reverse Gaussian   p(x_{t-1} | x_t) = N(x_{t-1}; mu(x_t, t), sigma_t^2 I)
    (5) loss               L_simple = E |eps - eps_theta(x_t, t)|^2
    (6) reverse update     x_{t-1} = (x_t - (1 - alpha_t) / sqrt(1 - abar_t) eps_theta(x_t, t))
                                     / sqrt(alpha_t) + sigma_t z

with alpha_t = 1 - beta_t and abar_t = alpha_1 ... alpha_t. The preprint prints (2) as q(x_t |
x_{t-1}), names a learnt variance in (4) while (5) does not train one, and gives neither T nor beta.
Here beta rises linearly from 1e-4 to 0.02 in T = 1000 steps, as in Ho et al., and sigma_t^2 is the
posterior variance or beta_t.

For the samplers, x_t / sqrt(abar_t) = x_0 + sigma_t eps with sigma_t = sqrt((1 - abar_t) /
abar_t), so the network is a denoiser like any other. t(sigma), interpolated between the steps, lets
every fast solver run it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64, UInt8
from torch import Tensor, nn

from mien.generators.diffusion.draw import choose_levels, draw_from_levels, draw_images
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.samplers import (
    Bound,
    Denoiser,
    Draw,
    broadcast_over_images,
    make_karras_levels,
    repeat_level,
)
from mien.generators.diffusion.transforms import MOVES
from mien.generators.specs import SamplerSpec, TrainSpec, count_steps

LOST_DEVIATIONS = 32.0  # in standard deviations of the faces; see `find_noise_range`


@dataclass(frozen=True)
class Schedule:
    """beta_t and abar_t for t = 0..T; t = 0 is without noise: beta_0 = 0, abar_0 = 1."""

    beta: Float64[np.ndarray, " levels"]
    abar: Float64[np.ndarray, " levels"]

    @property
    def steps(self) -> int:
        """The number of steps, T."""
        return len(self.beta) - 1

    @property
    def sigma(self) -> Float64[np.ndarray, " levels"]:
        """The noise level at each t, sqrt((1 - abar_t) / abar_t)."""
        return np.sqrt((1 - self.abar) / self.abar)


def make_linear_schedule(steps: int, beta_first: float, beta_last: float) -> Schedule:
    """Return the schedule whose beta rises linearly from `beta_first` (t = 1) to `beta_last`."""
    beta = np.concatenate([[0.0], np.linspace(beta_first, beta_last, steps)])
    return Schedule(beta, np.cumprod(1 - beta))


def add_noise(
    schedule: Schedule,
    x0: Float[Tensor, "n c h w"],
    t: Int[Tensor, " n"],
    noise: Float[Tensor, "n c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return x_t from x_0 and unit noise (Equations 2 and 3), with one t per image."""
    roots = np.sqrt(schedule.abar), np.sqrt(1 - schedule.abar)
    signal, spread = (torch.from_numpy(factors).to(x0.dtype).to(x0.device)[t] for factors in roots)
    return broadcast_over_images(signal) * x0 + broadcast_over_images(spread) * noise


def step_backward(
    schedule: Schedule,
    x: Float[Tensor, "n c h w"],
    t: int,
    predicted: Float[Tensor, "n c h w"],
    z: Float[Tensor, "n c h w"],
    variance: Literal["posterior", "beta"] = "posterior",
) -> Float[Tensor, "n c h w"]:
    """Return x_{t-1} from x_t, the predicted noise and unit noise z (Equations 4 and 6)."""
    beta, abar = float(schedule.beta[t]), float(schedule.abar[t])
    mean = (x - beta / (1 - abar) ** 0.5 * predicted) / (1 - beta) ** 0.5
    return mean + get_reverse_variance(schedule, t, variance) ** 0.5 * z


def get_reverse_variance(
    schedule: Schedule, t: int, variance: Literal["posterior", "beta"]
) -> float:
    """Return sigma_t^2: that of the posterior, beta_t (1 - abar_{t-1}) / (1 - abar_t), or beta_t.

    At t = 1 it is 0 in both cases: the last step adds no noise (Ho et al., Algorithm 2).
    """
    if t == 1:
        return 0.0
    share = (1 - schedule.abar[t - 1]) / (1 - schedule.abar[t]) if variance == "posterior" else 1.0
    return float(schedule.beta[t] * share)


def compute_losses(
    schedule: Schedule, network: nn.Module, batch: Batch, sigma_data: float, masks: Sequence[Tensor]
) -> Float[Tensor, " n"]:
    """Return L_simple of each image: the mean squared error of the predicted noise (Equation 5).

    The levels of `batch` are t; `sigma_data` is not used.
    """
    t = batch.levels
    x = add_noise(schedule, batch.x0, t.long(), batch.noise)
    predicted = network(x, scale_time(schedule, t), batch.labels, batch.moves, masks)
    return (batch.noise - predicted).square().mean(dim=(1, 2, 3))


def convert_to_times(schedule: Schedule, shares: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the t in 1..T at each share in [0, 1) of its uniform distribution."""
    return (shares * schedule.steps).floor() + 1


def scale_time(schedule: Schedule, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return t in 1..T on the scale of the noise input of the network, -1..1."""
    return 2 * (t - 1) / (schedule.steps - 1) - 1


def find_time(schedule: Schedule, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the t at which the noise level is sigma, interpolated in ln sigma; within 1..T."""
    grid = torch.from_numpy(np.log(schedule.sigma[1:])).to(sigma.dtype).to(sigma.device)
    log_sigma = sigma.log().clamp(grid[0], grid[-1])
    after = torch.searchsorted(grid, log_sigma).clamp(1, schedule.steps - 1)
    share = (log_sigma - grid[after - 1]) / (grid[after] - grid[after - 1])
    return after + share


def make_objective(spec: TrainSpec) -> Objective:
    """Return the loss that training minimises."""
    schedule = make_linear_schedule(spec.steps, spec.beta_first, spec.beta_last)
    return Objective(
        partial(compute_losses, schedule), partial(convert_to_times, schedule), spread=False
    )


def make_denoiser(generator: Diffusion, network: nn.Module) -> Denoiser:
    """Return D(x, sigma, labels) = x - sigma eps(x / sqrt(1 + sigma^2), t(sigma)) on images."""
    schedule = make_linear_schedule(
        generator.spec.steps, generator.spec.beta_first, generator.spec.beta_last
    )

    def denoise(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        x_t = broadcast_over_images((1 + sigma**2).rsqrt()) * (x - generator.find_centres(labels))
        t = scale_time(schedule, find_time(schedule, sigma))
        no_moves = x.new_zeros(x.shape[0], len(MOVES))
        return x - broadcast_over_images(sigma) * network(x_t, t, labels, no_moves)

    return denoise


def sample(
    generator: Diffusion,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed: see `draw_images`.

    The ancestral sampler with all T steps is the preprint's reverse update. With fewer steps it
    uses evenly spaced steps of the same chain. The other samplers solve the ODE on a rho = 7 grid
    of noise levels within `find_noise_range`.
    """
    # The chain itself
    spec, count = generator.spec, count_steps(generator.spec, how)
    schedule = make_linear_schedule(spec.steps, spec.beta_first, spec.beta_last)
    if how.sampler == "ancestral" and count == schedule.steps:

        def walk(bound: Bound, noise: Tensor, draw: Draw) -> Tensor:
            return run_chain(schedule, bound, noise, draw, how.variance, generator.mean)

        return draw_images(generator, make_denoiser, walk, labels, seeds, how)

    # Another walk from the highest noise level down to an image
    levels = (
        space_levels(schedule, count)
        if how.sampler == "ancestral"
        else choose_levels(how, make_karras_levels(count, *find_noise_range(generator)))
    )
    start = (1 + levels[0] ** 2) ** 0.5
    return draw_from_levels(generator, make_denoiser, levels, start, labels, seeds, how)


def find_noise_range(generator: Diffusion) -> tuple[float, float]:
    """Return the lowest and the highest noise level at which the ODE is solved.

    The lowest is sigma_1. A network that predicts noise gives x0 = x - sigma * noise, so its errors
    grow with sigma. Above LOST standard deviations of the faces around their mean, where no face is
    visible, these errors only do harm, and the solution starts there. If the mean face is not
    subtracted (`residual` false), the network has to find it first, and it starts at sigma_T.
    """
    schedule = make_linear_schedule(
        generator.spec.steps, generator.spec.beta_first, generator.spec.beta_last
    )
    low, high = float(schedule.sigma[1]), float(schedule.sigma[-1])
    return low, min(
        high, LOST_DEVIATIONS * generator.sigma_data
    ) if generator.spec.residual else high


def run_chain(
    schedule: Schedule,
    denoise: Bound,
    x: Float[Tensor, "n c h w"],
    draw: Draw,
    variance: Literal["posterior", "beta"],
    mean: Float[Tensor, "c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return x_0 from x_T ~ N(0, I) by the reverse update at t = T, ..., 1 (Equation 6).

    The predicted noise follows from the denoiser, which may be clipped or guided: (x_t -
    sqrt(abar_t) x_0) / sqrt(1 - abar_t). The chain works on differences from the mean face `mean`,
    which is added at the end.
    """
    for t in range(schedule.steps, 0, -1):
        root = float(schedule.abar[t]) ** 0.5
        x0 = denoise(mean + x / root, repeat_level(float(schedule.sigma[t]), x)) - mean
        predicted = (x - root * x0) / (1 - root**2) ** 0.5
        z = draw() if t > 1 else torch.zeros_like(x)
        x = step_backward(schedule, x, t, predicted, z, variance)
    return mean + x


def space_levels(schedule: Schedule, count: int) -> list[float]:
    """Return the noise levels of about `count` evenly spaced t from T down to 1, then 0."""
    t = np.unique(np.linspace(1, schedule.steps, min(count, schedule.steps)).round().astype(int))[
        ::-1
    ]
    return [*schedule.sigma[t if count > 1 else [schedule.steps]].tolist(), 0.0]


def make_noise_schedule(generator: Diffusion) -> NoiseSchedule:
    """Return the noise levels of the chain of Ho et al. 2020, also for diffusers."""
    spec = generator.spec
    low, high = find_noise_range(generator)
    scheduler = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": spec.steps,
        "beta_schedule": "linear",
        "beta_start": spec.beta_first,
        "beta_end": spec.beta_last,
        "prediction_type": "sample",  # the denoiser predicts x0
        "variance_type": "fixed_small",
        # What has to be clipped is the image, not its difference from the mean face
        "clip_sample": False,
        "timestep_spacing": "linspace",
    }
    return NoiseSchedule(low, high, (1 + high**2) ** 0.5, scheduler, spec.steps)
