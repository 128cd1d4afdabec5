"""Noise levels for a trained network, found by dynamic programming.

A fine trajectory of the sampler shows where few large steps would go wrong. The levels are those
whose steps deviate least from it in sum, as in GITS (Chen et al. 2024, arXiv:2405.11326): the
trajectories of a network resemble each other, so few images are enough to choose for all.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mien.generators.diffusion.draw import (
    MakeDenoiser,
    NoiseStreams,
    encode_image_units,
    guide_denoiser,
)
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.samplers import Bound, bind, dpmpp2m, make_karras_levels
from mien.generators.specs import SamplerSpec

# Each step starts where the errors of the earlier ones have led, so a step counts this many times
# as much as the one before it (gamma of GITS, Section 3.3)
LATER_COUNTS = 1.15

BATCH_IMAGES = 8  # trajectories that are in memory at once


def find_levels(
    generator: Diffusion,
    make_denoiser: MakeDenoiser,
    noise_range: tuple[float, float, float],
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
    steps: int,
    fine: int,
) -> list[float]:
    """Return `steps` noise levels, from the highest to the lowest, rounded to six digits.

    The fine trajectories are those of DPM-Solver++(2M) with `fine` levels of Karras et al. 2022
    within `noise_range`, which is the lowest level, the highest, and the factor of the noise in
    which images start.
    """
    low, high, start = noise_range
    grid = make_karras_levels(fine, low, high)
    costs = np.zeros((fine + 1, fine + 1))
    for first in range(0, len(labels), BATCH_IMAGES):
        rows = slice(first, first + BATCH_IMAGES)
        streams = NoiseStreams(seeds[rows], len(labels[rows]), generator.size, generator.device)
        units = encode_image_units(generator, labels[rows], seeds[rows], how)
        conditioned = None if units is None else units.to(generator.device)
        guided = guide_denoiser(generator, make_denoiser, how, conditioned)
        bound = partial(bind, guided, torch.from_numpy(labels[rows]).to(generator.device))
        with torch.inference_mode():
            x = generator.mean + start * streams.draw()
            costs += add_up_deviations(*record_trajectory(bound, x, grid), grid)
    places = choose_places(costs / len(labels), steps, LATER_COUNTS)
    return [float(f"{grid[place]:.6g}") for place in places]


def record_trajectory(
    denoise: Bound, x: Float[Tensor, "n c h w"], levels: Sequence[float]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images at each level, and the predictions of the denoiser at each but the last."""
    states: list[Tensor] = []
    predictions: list[Tensor] = []

    def record(x: Tensor, sigma: Tensor) -> Tensor:
        states.append(x)
        predictions.append(denoise(x, sigma))
        return predictions[-1]

    end = dpmpp2m(record, x, levels)
    return [*states, end], predictions


def add_up_deviations(
    states: Sequence[Float[Tensor, "n c h w"]],
    predictions: Sequence[Float[Tensor, "n c h w"]],
    levels: Sequence[float],
) -> Float64[np.ndarray, "m m"]:
    """Return how far Euler's step from level i to level j misses the trajectory.

    Entry [i, j] with i < j is the sum of the Euclidean distances of all images; all others are 0.
    """
    count = len(levels)
    missed = np.zeros((count, count))
    for i in range(count - 1):
        after = torch.tensor(levels[i + 1 :]).to(states[i])[:, None, None, None, None]
        step = predictions[i] + after / levels[i] * (states[i] - predictions[i])
        gaps = (step - torch.stack(list(states[i + 1 :]))).flatten(2).norm(dim=2)
        missed[i, i + 1 :] = gaps.double().sum(dim=1).cpu().numpy()
    return missed


def choose_places(
    costs: Float64[np.ndarray, "m m"], steps: int, later_counts: float = 1.0
) -> list[int]:
    """Return the levels at which `steps` steps begin that lead from level 0 to m - 1 at least cost.

    `costs` [i, j] is the cost of a step from level i to level j. A step counts `later_counts`
    times as much as the one before it. Found by dynamic programming over the number of steps left.
    """
    # best[k, i]: the least cost of k steps from level i to the end
    last = len(costs) - 1
    best = np.full((steps + 1, last + 1), np.inf)
    following = np.zeros((steps + 1, last + 1), dtype=np.int64)
    best[0, last] = 0.0
    for left in range(1, steps + 1):
        for i in range(last):
            totals = costs[i, i + 1 :] + later_counts * best[left - 1, i + 1 :]
            place = int(np.argmin(totals))
            best[left, i], following[left, i] = totals[place], i + 1 + place

    # Follow the best choices from the first level
    places = [0]
    for left in range(steps, 1, -1):
        places.append(int(following[left, places[-1]]))
    return places
