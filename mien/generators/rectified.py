"""Rectified flow: straight paths from noise to images (Liu et al. 2023).

Liu et al. 2023 (arXiv:2209.03003) and Lipman et al. 2023 (arXiv:2210.02747) join each image with
noise by a straight line and train a network to predict its direction:

    (1) path        x_t = (1 - t) x_0 + t eps,  eps ~ N(0, I),  0 <= t <= 1
    (2) velocity    dx_t / dt = eps - x_0
    (3) loss        E |eps - x_0 - v(x_t, t)|^2

Images are drawn by the ODE dx / dt = v(x, t), from t = 1 down to 0. As in Esser et al. 2024
(arXiv:2403.03206, Section 3.1), t is logit-normal in training.

It is a change of variables of the diffusion of `edm`: x_t / (1 - t) = x_0 + sigma eps with sigma =
t / (1 - t), so that ln sigma is the logit of t, and the velocity gives a denoiser, x_0 = x_t - t v.
Here x_0 is the difference from the mean face. Every sampler of mien therefore draws with it, and
Euler's method on noise levels takes the same steps as Euler's method on t.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, nn

from mien.generators.diffusion.draw import choose_levels, draw_from_levels
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.samplers import Denoiser, broadcast_over_images, make_karras_levels
from mien.generators.diffusion.transforms import MOVES
from mien.generators.edm import SIGMA_HIGH, SIGMA_LOW, convert_to_sigmas
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import SamplerSpec, TrainSpec, count_steps


def convert_to_time(sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return t = sigma / (1 + sigma), in [0, 1)."""
    return sigma / (1 + sigma)


def mix_noise(
    x0: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], t: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Return x_t = (1 - t) x_0 + t eps (Equation 1)."""
    return broadcast_over_images(1 - t) * x0 + broadcast_over_images(t) * noise


def predict_velocity(
    network: nn.Module,
    x_t: Float[Tensor, "n c h w"],
    t: Float[Tensor, " n"],
    labels: Int[Tensor, " n"],
    moves: Float[Tensor, "n moves"],
    masks: Sequence[Tensor] = (),
) -> Float[Tensor, "n c h w"]:
    """Return v(x_t, t); the noise input of the network is logit(t) / 4 = ln(sigma) / 4."""
    return network(x_t, t.logit() / 4, labels, moves, masks)


def compute_losses(
    network: nn.Module, batch: Batch, sigma_data: float, masks: Sequence[Tensor]
) -> Float[Tensor, " n"]:
    """Return the loss |eps - x_0 - v(x_t, t)|^2 of each image, a mean over pixels (Equation 3).

    The levels of `batch` are sigma; `sigma_data` is not used.
    """
    t = convert_to_time(batch.levels)
    x_t = mix_noise(batch.x0, batch.noise, t)
    velocity = predict_velocity(network, x_t, t, batch.labels, batch.moves, masks)
    return (batch.noise - batch.x0 - velocity).square().mean(dim=(1, 2, 3))


def make_objective(spec: TrainSpec) -> Objective:
    """Return the loss that training minimises.

    logit(t) = ln sigma is normal with the mean `p_mean` and the deviation `p_std`. As in edm, the
    noise levels of a batch are spread evenly over their distribution.
    """
    return Objective(
        compute_losses, partial(convert_to_sigmas, spec.p_mean, spec.p_std), spread=True
    )


def make_denoiser(generator: Diffusion, network: nn.Module) -> Denoiser:
    """Return the denoiser of a trained `network` on images: c + x_t - t v(x_t, t).

    The centre c is that of each label (see diffusion/centre.py).
    """

    def denoise(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        t = convert_to_time(sigma)
        centres = generator.find_centres(labels)
        x_t = broadcast_over_images(1 - t) * (x - centres)
        no_moves = x.new_zeros(x.shape[0], len(MOVES))
        velocity = predict_velocity(network, x_t, t, labels, no_moves)
        return centres + x_t - broadcast_over_images(t) * velocity

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
    """Return the noise levels, and Euler's method on t as a scheduler of diffusers.

    The scheduler calls t its sigma, and starts at t = 1, where x_t is unit noise.
    """
    scheduler = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 1.0,
    }
    return NoiseSchedule(SIGMA_LOW, SIGMA_HIGH, SIGMA_HIGH, scheduler, SAMPLERS["euler"].steps)
