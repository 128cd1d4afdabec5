"""DDPM: the diffusion model of the preprint's Section 2.4, equation by equation (Ho et al. 2020,
arXiv:2006.11239).

    (1) q(x_t | x_{t-1}) = N(x_t; sqrt(1 - beta_t) x_{t-1}, beta_t I)                      the forward step
    (2) q(x_t | x_0) = N(x_t; sqrt(abar_t) x_0, (1 - abar_t) I)                            its closed form
    (3) x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,  eps ~ N(0, I)                      the sampling equation
    (4) p(x_{t-1} | x_t) = N(x_{t-1}; mu(x_t, t), sigma_t^2 I)                             the reverse Gaussian
    (5) L_simple = E |eps - eps_theta(x_t, t)|^2                                           the loss
    (6) x_{t-1} = (x_t - (1 - alpha_t) / sqrt(1 - abar_t) eps_theta(x_t, t)) / sqrt(alpha_t) +
    sigma_t z

with alpha_t = 1 - beta_t and abar_t = alpha_1 ... alpha_t. The preprint prints (2) as q(x_t |
x_{t-1}), names a learnt variance in (4) while (5) trains none, and gives neither T nor beta: here
beta rises linearly from 1e-4 to 0.02 in T = 1000 steps, as in Ho et al., and sigma_t^2 is that of
the posterior or beta_t.

Seen from the samplers, x_t / sqrt(abar_t) = x_0 + sigma_t eps with sigma_t = sqrt((1 - abar_t) /
abar_t): the network is a denoiser like any other, and t(sigma), read between the steps, lets every
fast solver run it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64, UInt8
from torch import Tensor, nn

from mien.generators import diffusion
from mien.generators.diffusion import Diffusion
from mien.generators.edm import STEPS
from mien.generators.moves import MOVES
from mien.generators.objective import Batch, Objective
from mien.generators.samplers import (
    SAMPLERS,
    Bound,
    Denoiser,
    Draw,
    bind,
    karras_levels,
    level,
    wide,
)
from mien.generators.specs import SamplerSpec, TrainSpec

LOST = 32.0  # deviations of the faces; see `ends`


@dataclass(frozen=True)
class Schedule:
    """beta_t and abar_t for t = 0..T; at t = 0 nothing is noisy: beta_0 = 0, abar_0 = 1."""

    beta: Float64[np.ndarray, " levels"]
    abar: Float64[np.ndarray, " levels"]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.beta) - 1

    @property
    def sigma(self) -> Float64[np.ndarray, " levels"]:
        """The noise level at each t, sqrt((1 - abar_t) / abar_t)."""
        return np.sqrt((1 - self.abar) / self.abar)


def linear(steps: int, first: float, last: float) -> Schedule:
    """Return the schedule whose beta rises linearly from `first` at t = 1 to `last` at t = T =
    `steps`.
    """
    beta = np.concatenate([[0.0], np.linspace(first, last, steps)])
    return Schedule(beta, np.cumprod(1 - beta))


def forward_step(
    schedule: Schedule, x: Float[Tensor, "n c h w"], t: int, noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """Return x_t from x_{t-1} and unit noise (Equation 1)."""
    beta = float(schedule.beta[t])
    return (1 - beta) ** 0.5 * x + beta**0.5 * noise


def closed_form(
    schedule: Schedule,
    x0: Float[Tensor, "n c h w"],
    t: Int[Tensor, " n"],
    noise: Float[Tensor, "n c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return x_t from x_0 and unit noise (Equations 2 and 3), for a t of each image."""
    kept, added = np.sqrt(schedule.abar), np.sqrt(1 - schedule.abar)
    signal, spread = (
        torch.from_numpy(part).to(x0.dtype).to(x0.device)[t] for part in (kept, added)
    )
    return wide(signal) * x0 + wide(spread) * noise


def reverse_update(
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
    return mean + reverse_variance(schedule, t, variance) ** 0.5 * z


def reverse_variance(schedule: Schedule, t: int, variance: Literal["posterior", "beta"]) -> float:
    """Return sigma_t^2: beta_t (1 - abar_{t-1}) / (1 - abar_t), that of the posterior, or beta_t; 0
    at t = 1.

    The last step adds no noise in either case, as in Ho et al., Algorithm 2.
    """
    if t == 1:
        return 0.0
    share = (1 - schedule.abar[t - 1]) / (1 - schedule.abar[t]) if variance == "posterior" else 1.0
    return float(schedule.beta[t] * share)


def errors(
    schedule: Schedule, network: nn.Module, batch: Batch, sigma_data: float, drops: Sequence[Tensor]
) -> Float[Tensor, " n"]:
    """Return the squared error of the predicted noise of each image, a mean over pixels: L_simple
    (Equation 5).

    The levels of `batch` are t; `sigma_data` plays no part.
    """
    t = batch.levels
    x = closed_form(schedule, batch.x0, t.long(), batch.noise)
    predicted = network(x, scaled(schedule, t), batch.labels, batch.moves, drops)
    return (batch.noise - predicted).square().mean(dim=(1, 2, 3))


def times(schedule: Schedule, shares: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the t in 1..T that stands at each share in [0, 1): t is uniform."""
    return (shares * schedule.steps).floor() + 1


def scaled(schedule: Schedule, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return t in 1..T on the scale of the network's noise level, -1..1."""
    return 2 * (t - 1) / (schedule.steps - 1) - 1


def t_of(schedule: Schedule, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the t at which the noise level is sigma, read between the steps on a scale of ln
    sigma; within 1..T.
    """
    known = torch.from_numpy(np.log(schedule.sigma[1:])).to(sigma.dtype).to(sigma.device)
    wanted = sigma.log().clamp(known[0], known[-1])
    after = torch.searchsorted(known, wanted).clamp(1, schedule.steps - 1)
    share = (wanted - known[after - 1]) / (known[after] - known[after - 1])
    return after + share


def objective(spec: TrainSpec) -> Objective:
    """Return what training minimises."""
    schedule = linear(spec.steps, spec.beta_first, spec.beta_last)
    return Objective(partial(errors, schedule), partial(times, schedule), spread=False)


def denoiser(generator: Diffusion, network: nn.Module) -> Denoiser:
    """Return D(x, sigma, labels) = x - sigma eps(x / sqrt(1 + sigma^2), t(sigma)), in the space of
    images.
    """
    schedule = linear(generator.spec.steps, generator.spec.beta_first, generator.spec.beta_last)

    def denoise(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        seen, still = (
            wide((1 + sigma**2).rsqrt()) * (x - generator.mean),
            x.new_zeros(x.shape[0], len(MOVES)),
        )
        return x - wide(sigma) * network(
            seen, scaled(schedule, t_of(schedule, sigma)), labels, still
        )

    return denoise


def sample(
    generator: Diffusion,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a place in EMOTIONS) and seed; see `diffusion.draw_images`.

    The ancestral sampler with all T steps is the preprint's reverse update. With fewer it walks
    down the same chain at every few steps, and other samplers solve the ODE on a rho = 7 grid
    between the `ends`.
    """
    schedule = linear(generator.spec.steps, generator.spec.beta_first, generator.spec.beta_last)
    count = steps(generator.spec, how)
    solve, levels = SAMPLERS[how.sampler], karras_levels(count, *ends(generator))
    if how.sampler == "ancestral":
        solve, levels = partial(solve, variance=how.variance), some_levels(schedule, count)

    def walk(denoise: Denoiser, noise: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        bound = partial(bind, denoise, labels)
        if how.sampler == "ancestral" and count == schedule.steps:
            return chain(schedule, bound, noise, draw, how.variance, generator.mean)
        return solve(bound, generator.mean + (1 + levels[0] ** 2) ** 0.5 * noise, levels, draw)

    return diffusion.draw_images(generator, denoiser, walk, labels, seeds, how)


def ends(generator: Diffusion) -> tuple[float, float]:
    """Return the noise levels between which the ODE is solved: sigma_1, and where faces are lost in
    noise.

    A network that predicts noise says x0 = x - sigma * noise, so its errors grow with sigma: above
    LOST deviations of the faces around their mean, where there is nothing to see, they do harm
    alone. Without a mean face taken off, the network has to find that first, and the walk begins at
    sigma_T.
    """
    schedule = linear(generator.spec.steps, generator.spec.beta_first, generator.spec.beta_last)
    low, high = float(schedule.sigma[1]), float(schedule.sigma[-1])
    return low, min(high, LOST * generator.sigma_data) if generator.spec.residual else high


def chain(
    schedule: Schedule,
    denoise: Bound,
    x: Float[Tensor, "n c h w"],
    draw: Draw,
    variance: Literal["posterior", "beta"],
    mean: Float[Tensor, "c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return x_0 from x_T ~ N(0, I) by the reverse update at t = T, ..., 1 (Equation 6).

    The predicted noise is what the denoiser, which may be clipped or guided, takes away: (x_t -
    sqrt(abar_t) x_0) / sqrt(1 - abar_t). `mean` is added to what the chain, which knows only
    differences from it, makes.
    """
    for t in range(schedule.steps, 0, -1):
        root = float(schedule.abar[t]) ** 0.5
        x0 = denoise(mean + x / root, level(float(schedule.sigma[t]), x)) - mean
        predicted = (x - root * x0) / (1 - root**2) ** 0.5
        z = draw() if t > 1 else torch.zeros_like(x)
        x = reverse_update(schedule, x, t, predicted, z, variance)
    return mean + x


def some_levels(schedule: Schedule, count: int) -> list[float]:
    """Return the noise levels of about `count` evenly spaced t from T down to 1, then 0."""
    places = np.unique(
        np.linspace(1, schedule.steps, min(count, schedule.steps)).round().astype(int)
    )[::-1]
    return [*schedule.sigma[places if count > 1 else [schedule.steps]].tolist(), 0.0]


def steps(spec: TrainSpec, how: SamplerSpec) -> int:
    """Return the number of steps that a sampler takes: as in edm, but all T of the ancestral
    one.
    """
    if how.steps is not None:
        return how.steps
    return spec.steps if how.sampler == "ancestral" else STEPS[how.sampler]
