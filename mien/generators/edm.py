"""EDM: preconditioning, loss and noise levels of Karras et al. 2022.

The paper is arXiv:2206.00364.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, nn

from mien.generators.diffusion.draw import choose_levels, draw_from_levels
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.samplers import Denoiser, broadcast_over_images, make_karras_levels
from mien.generators.diffusion.transforms import MOVES
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import SamplerSpec, TrainSpec, count_steps

SIGMA_LOW, SIGMA_HIGH = 0.002, 80.0


def precondition(
    sigma: Float[Tensor, "*n"], sigma_data: float
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return c_skip, c_out, c_in and c_noise (Table 1).

    With them the input and the target of the network have unit variance.
    """
    total = sigma**2 + sigma_data**2
    return (
        sigma_data**2 / total,
        sigma * sigma_data / total.sqrt(),
        1 / total.sqrt(),
        sigma.log() / 4,
    )


def apply_denoiser(
    network: nn.Module,
    x: Float[Tensor, "n c h w"],
    sigma: Float[Tensor, " n"],
    labels: Int[Tensor, " n"],
    augmentations: Float[Tensor, "n moves"],
    sigma_data: float,
    masks: Sequence[Tensor] = (),
) -> Float[Tensor, "n c h w"]:
    """Return D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Eq. 7)."""
    c_skip, c_out, c_in, c_noise = precondition(sigma, sigma_data)
    return broadcast_over_images(c_skip) * x + broadcast_over_images(c_out) * network(
        broadcast_over_images(c_in) * x, c_noise, labels, augmentations, masks
    )


def compute_losses(
    network: nn.Module, batch: Batch, sigma_data: float, masks: Sequence[Tensor]
) -> Float[Tensor, " n"]:
    """Return the loss lambda(sigma) |D(x0 + sigma n; sigma) - x0|^2 of each image (Eq. 2, Table 1).

    It is a mean over pixels. lambda = 1 / c_out^2; the levels of `batch` are sigma.
    """
    sigma = batch.levels
    x = batch.x0 + broadcast_over_images(sigma) * batch.noise
    error = (
        apply_denoiser(network, x, sigma, batch.labels, batch.moves, sigma_data, masks) - batch.x0
    )
    return (
        (error / broadcast_over_images(precondition(sigma, sigma_data)[1]))
        .square()
        .mean(dim=(1, 2, 3))
    )


def convert_to_sigmas(
    p_mean: float, p_std: float, shares: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Return the quantiles of sigma at `shares`, where ln sigma ~ N(p_mean, p_std^2) (Table 1)."""
    return (p_mean + p_std * torch.special.ndtri(shares.clamp(1e-6, 1 - 1e-6))).exp()


def make_objective(spec: TrainSpec) -> Objective:
    """Return the loss that training minimises.

    The noise levels of a batch are spread evenly over their distribution (Kingma et al. 2021,
    arXiv:2107.00630, appendix I), which reduces the variance of the loss and keeps its expectation.
    """
    return Objective(
        compute_losses, partial(convert_to_sigmas, spec.p_mean, spec.p_std), spread=True
    )


def make_denoiser(generator: Diffusion, network: nn.Module) -> Denoiser:
    """Return the denoiser of a trained `network` on images: c + D(x - c, sigma, labels).

    The centre c is that of each label (see diffusion/centre.py).
    """

    def denoise(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        no_moves = x.new_zeros(x.shape[0], len(MOVES))
        centres = generator.find_centres(labels)
        return centres + apply_denoiser(
            network, x - centres, sigma, labels, no_moves, generator.sigma_data
        )

    return denoise


def sample(
    generator: Diffusion,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed: see `draw_images`."""
    usual = make_karras_levels(count_steps(generator.spec, how), SIGMA_LOW, SIGMA_HIGH)
    levels = choose_levels(how, usual)
    return draw_from_levels(generator, make_denoiser, levels, levels[0], labels, seeds, how)


def make_noise_schedule(generator: Diffusion) -> NoiseSchedule:
    """Return the noise levels and the sampler of Karras et al. 2022, also for diffusers."""
    scheduler = {
        "_class_name": "EDMDPMSolverMultistepScheduler",
        "sigma_min": SIGMA_LOW,
        "sigma_max": SIGMA_HIGH,
        "sigma_data": generator.sigma_data,
        "sigma_schedule": "karras",
        "rho": 7.0,
        # The name in diffusers for a network with the preconditioning of Karras et al.
        "prediction_type": "epsilon",
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "solver_order": 2,
        "lower_order_final": False,
        "final_sigmas_type": "zero",
    }
    steps = SAMPLERS["dpmpp2m"].steps
    return NoiseSchedule(SIGMA_LOW, SIGMA_HIGH, SIGMA_HIGH, scheduler, steps)
