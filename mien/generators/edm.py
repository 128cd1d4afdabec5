"""EDM: preconditioning, loss and noise levels of Karras et al. 2022 (arXiv:2206.00364)."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, nn

from mien.faces import Faces
from mien.generators import diffusion
from mien.generators.diffusion import Generator, Objective
from mien.generators.samplers import SAMPLERS, Denoiser, Draw, bind, karras_levels, wide
from mien.generators.specs import SamplerSpec, TrainSpec

LOW, HIGH = 0.002, 80.0
STEPS = {"dpmpp2m": 16, "unipc": 16, "heun": 18, "euler": 50, "ancestral": 100}


def preconditioning(
    sigma: Float[Tensor, "*n"], sigma_data: float
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return c_skip, c_out, c_in and c_noise (Table 1), which give input and target of the network unit variance."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4


def denoised(
    network: nn.Module,
    x: Float[Tensor, "n c h w"],
    sigma: Float[Tensor, " n"],
    labels: Int[Tensor, " n"],
    mirrored: Float[Tensor, " n"],
    sigma_data: float,
    rng: torch.Generator | None = None,
) -> Float[Tensor, "n c h w"]:
    """Return D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Eq. 7)."""
    c_skip, c_out, c_in, c_noise = preconditioning(sigma, sigma_data)
    return wide(c_skip) * x + wide(c_out) * network(wide(c_in) * x, c_noise, labels, mirrored, rng)


def loss(
    p_mean: float,
    p_std: float,
    network: nn.Module,
    x0: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    mirrored: Float[Tensor, " n"],
    sigma_data: float,
    rng: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the mean of lambda(sigma) |D(x0 + sigma n; sigma) - x0|^2, ln sigma ~ N(p_mean, p_std^2) (Eq. 2, Table 1).

    lambda = 1 / c_out^2. The levels of a batch are spread evenly over the distribution (Kingma et al. 2021,
    arXiv:2107.00630, appendix I), which makes the loss less noisy and leaves its expectation.
    """
    count = len(x0)
    spread = torch.arange(count, device=x0.device) + torch.rand(count, device=x0.device, generator=rng)
    sigma = (p_mean + p_std * torch.special.ndtri((spread / count).clamp(1e-6, 1 - 1e-6))).exp()
    x = x0 + wide(sigma) * torch.randn(x0.shape, device=x0.device, generator=rng)
    error = denoised(network, x, sigma, labels, mirrored, sigma_data, rng) - x0
    return (error / wide(preconditioning(sigma, sigma_data)[1])).square().mean()


def objective(spec: TrainSpec) -> Objective:
    """Return the loss of a training."""
    return partial(loss, spec.p_mean, spec.p_std)


def fit(faces: Faces, spec: TrainSpec, scratch: Path, device: str = "auto", label: str = "training") -> Generator:
    """Train a denoiser on `faces`; see `diffusion.fit`."""
    return diffusion.fit(faces, spec, scratch, objective(spec), device, label)


def speed(faces: Faces, spec: TrainSpec, device: str = "auto") -> float:
    """Return how many images a second training takes in on this machine."""
    return diffusion.speed(faces, spec, objective(spec), device)


def denoiser(generator: Generator) -> Denoiser:
    """Return D(x, sigma, labels) of a trained generator, in the space of images: mean + D'(x - mean)."""

    def denoise(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        straight = torch.zeros_like(sigma)
        inner = denoised(generator.network, x - generator.mean, sigma, labels, straight, generator.sigma_data)
        return generator.mean + inner

    return denoise


def sample(
    generator: Generator, labels: Int64[np.ndarray, " n"], seeds: Int64[np.ndarray, " n"], how: SamplerSpec
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a place in EMOTIONS) and seed; see `diffusion.draw_images`."""
    levels = karras_levels(steps(generator.spec, how), LOW, HIGH)
    solve = SAMPLERS[how.sampler]
    if how.sampler == "ancestral":
        solve = partial(solve, variance=how.variance)

    def walk(denoise: Denoiser, noise: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return solve(partial(bind, denoise, labels), generator.mean + levels[0] * noise, levels, draw)

    return diffusion.draw_images(generator, denoiser(generator), walk, labels, seeds, how)


def steps(spec: TrainSpec, how: SamplerSpec) -> int:
    """Return the number of steps that a sampler takes."""
    return STEPS[how.sampler] if how.steps is None else how.steps
