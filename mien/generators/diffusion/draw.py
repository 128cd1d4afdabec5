"""Drawing images: noise goes through a sampler, from one stream per image."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from mien.errors import UsageError
from mien.generators import scaling
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.samplers import (
    SOLVERS,
    Bound,
    Denoiser,
    Draw,
    autoguide,
    bind,
    clip,
    guide,
)
from mien.generators.diffusion.unet import NO_LABEL, condition_on_units
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import SamplerSpec
from mien.generators.units import require_known_units
from mien.runs import devices

# Sampling batches always have this size, the last one is padded: the arithmetic of an image must
# not depend on the number of images.
SAMPLING_BATCH = {"cpu": 8, "cuda": 256, "mps": 64}

MakeDenoiser = Callable[[Diffusion, nn.Module], Denoiser]
"""Returns the denoiser of a trained network; each kind has its own."""

Walk = Callable[[Bound, Tensor, Draw], Tensor]
"""(denoiser with its labels, unit noise [n, c, h, w], draw) -> images in [-1, 1]."""


def guide_denoiser(
    generator: Diffusion,
    make_denoiser: MakeDenoiser,
    how: SamplerSpec,
    units: Float[Tensor, "n units"] | None = None,
) -> Denoiser:
    """Return the denoiser of a generator with the guidance and clipping that a sampler asks for.

    `units` are the numbers for the action units of the images. Raises UsageError for
    guide 'early' if the generator has no copy from early in its training.
    """
    denoise = make_denoiser(generator, condition_on_units(generator.network, units))
    early = generator.early
    worse = None if early is None else make_denoiser(generator, condition_on_units(early, units))

    # Guidance within an interval of noise levels
    if how.guidance > 1:
        low, high = (
            how.guidance_low * generator.sigma_data,
            how.guidance_high * generator.sigma_data,
        )
        if how.guide == "label":
            denoise = guide(denoise, NO_LABEL, how.guidance, low, high)
        elif worse is None:
            raise UsageError(
                "guide 'early' needs a generator with a copy from early in its training, and this "
                "one has none; train it with early > 0"
            )
        else:
            denoise = autoguide(denoise, worse, how.guidance, low, high)

    # Clipping
    return clip(denoise) if how.clip_x0 else denoise


def choose_levels(how: SamplerSpec, usual: list[float]) -> list[float]:
    """Return the noise levels of a sampler, then 0: its own, or the `usual` ones.

    Raises UsageError for levels that are only named by the run that has found them.
    """
    if not how.levels:
        return usual
    if isinstance(how.levels, str):
        raise UsageError(
            f"levels must be numbers to draw with; read those of the run {how.levels} first"
        )
    return [*how.levels, 0.0]


def draw_from_levels(
    generator: Diffusion,
    make_denoiser: MakeDenoiser,
    levels: Sequence[float],
    start: float,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed: see `draw_images`.

    The solver of `how` walks down the noise levels, from the mean face plus `start` times unit
    noise. `make_denoiser` is that of the generator's kind.
    """
    # From the highest noise level down to an image
    solve = SOLVERS[how.sampler]
    if SAMPLERS[how.sampler].adds_noise:
        solve = partial(solve, variance=how.variance)

    def walk(bound: Bound, noise: Tensor, draw: Draw) -> Tensor:
        return solve(bound, generator.mean + start * noise, levels, draw)

    return draw_images(generator, make_denoiser, walk, labels, seeds, how)


def draw_images(
    generator: Diffusion,
    make_denoiser: MakeDenoiser,
    walk: Walk,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed.

    All noise of an image comes from its own seed, so the image is bit for bit the same whatever
    other images are drawn with it. `how` has the guidance, and the action units if they are
    ordered; else they follow from label and seed (see `KnownUnits.choose_texts`). Raises UsageError
    for a class that the generator was not trained on, and for units that it does not know.
    """
    generator.require_known(labels)
    units = encode_image_units(generator, labels, seeds, how)

    # Batches of a fixed size, the last one padded
    torch_device, size = generator.device, SAMPLING_BATCH[generator.device.type]
    padded = np.full(-(-len(labels) // size) * size, NO_LABEL, dtype=np.int64)
    padded[: len(labels)] = labels

    def draw_batch(first: int) -> UInt8[np.ndarray, "n c h w"]:
        streams = NoiseStreams(seeds[first : first + size], size, generator.size, torch_device)
        conditions = torch.from_numpy(padded[first : first + size]).to(torch_device)
        conditioned = None if units is None else units[first : first + size]
        if conditioned is not None:
            conditioned = F.pad(conditioned, (0, 0, 0, size - len(conditioned))).to(torch_device)
        denoise = guide_denoiser(generator, make_denoiser, how, conditioned)
        with torch.inference_mode():
            bound = partial(bind, denoise, conditions)
            return scaling.scale_to_bytes(walk(bound, streams.draw(), streams.draw))

    firsts = range(0, len(labels), size)
    with devices.open_workers(torch_device, len(firsts)) as pool:
        batches = list(pool.map(draw_batch, firsts))
    empty = np.empty((0, *generator.size), dtype=np.uint8)
    return np.concatenate([empty, *batches])[: len(labels)]


def encode_image_units(
    generator: Diffusion,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> Float[Tensor, "n units"] | None:
    """Return the numbers for the action units of images; None if the generator takes none.

    Raises UsageError for ordered units that it does not know.
    """
    require_known_units(generator.units, how)
    if generator.units is None:
        return None
    return torch.from_numpy(generator.units.encode_images(labels, seeds, how))


class NoiseStreams:
    """A stream of noise for each image of a padded batch, in arrays of the shape `size`.

    It is drawn on the CPU, so that all devices get the same noise.
    """

    def __init__(
        self,
        seeds: Int64[np.ndarray, " n"],
        batch: int,
        size: tuple[int, ...],
        torch_device: torch.device,
    ) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.shape, self.torch_device = (batch, *size), torch_device

    def draw(self) -> Float[Tensor, "batch ..."]:
        """Return the next unit noise of each image; zeros where the batch is padded."""
        noise = torch.zeros(self.shape)
        for row, generator in enumerate(self.generators):
            noise[row].normal_(generator=generator)
        return noise.to(self.torch_device)
