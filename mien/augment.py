"""Augmentation as the preprint describes it (Section 2.3), a whole batch at once, on the device.

"Rotated 15 degrees and horizontally flipped", "width shift and height shift with the range settings
of 0.1", brightness "between the range of 0.8 to 1.2", fill mode "nearest", "rescaled to 1/255":
read as Keras's generator of the same words means them. Turning, moving and resizing are one
bilinear interpolation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from mien.seeds import rng
from mien.spec import Strict

BRIGHTEST = 10  # at ten times its light a face is white


class AugmentSpec(Strict):
    """The ranges that each image's parameters are drawn from, evenly.

    `rotation` is in degrees, either way; `shift` a share of width and of height, either way;
    `brightness` two factors; `flip` mirrors half of the images.
    """

    rotation: float = Field(default=15.0, ge=0, le=180)
    shift: float = Field(default=0.1, ge=0, lt=1)
    brightness: tuple[float, float] = (0.8, 1.2)
    flip: bool = True

    @field_validator("brightness")
    @classmethod
    def _rises(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1] <= BRIGHTEST:
            raise ValueError(
                f"brightness must be two factors above 0 and up to {BRIGHTEST}, the smaller one "
                "first"
            )
        return pair


@dataclass(frozen=True)
class Parameters:
    """What is done to each of n images.

    `angle` is in degrees, counter-clockwise; `right` and `down` are shares of width and height that
    the picture moves; `brightness` is a factor; `flip` mirrors it first.
    """

    angle: Float[np.ndarray, " n"]
    right: Float[np.ndarray, " n"]
    down: Float[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    flip: Bool[np.ndarray, " n"]


def parameters(spec: AugmentSpec, n: int, seed: int, step: int) -> Parameters:
    """Return the parameters of the n images of a step: a function of the seed and the step
    alone.
    """
    draw = rng("augment", seed, step)
    return Parameters(
        draw.uniform(-spec.rotation, spec.rotation, n),
        draw.uniform(-spec.shift, spec.shift, n),
        draw.uniform(-spec.shift, spec.shift, n),
        draw.uniform(*spec.brightness, n),
        (draw.random(n) < 0.5) & spec.flip,
    )


def augment(
    images: UInt8[Tensor, "n c h w"], how: Parameters, size: int, rests: Sequence[int | None] = (0,)
) -> Float[Tensor, "n c size size"]:
    """Return the images turned, moved, mirrored and lit as `how` says, `size` pixels wide and high,
    in [0, 1].

    `rests` has for each channel, or for all, the value that light leaves as it is, 0 for pictures;
    a channel of None is not lit. What lies outside the picture repeats its border. Images larger
    than `size` are first reduced, with antialiasing.
    """
    x = images.float() / 255
    if max(images.shape[2:]) > size:
        x = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    matrix = torch.from_numpy(_matrices(how)).to(x)
    grid = functional.affine_grid(matrix, [len(x), x.shape[1], size, size], align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    rest = x.new_tensor([(value or 0) / 255 for value in rests])[:, None, None]
    lit = torch.tensor([value is not None for value in rests], device=x.device)[:, None, None]
    light = torch.where(lit, torch.from_numpy(how.brightness).to(x)[:, None, None, None], 1)
    return (rest + (x - rest) * light).clamp(0, 1)


def _matrices(how: Parameters) -> Float[np.ndarray, "n 2 3"]:
    """Return where each output pixel comes from, in coordinates from -1 to 1: first moved back,
    then turned, mirrored.

    A picture that moves right by a share s of its width is read s to the left, which is 2 s in
    these coordinates.
    """
    angle = how.angle * math.pi / 180
    cos, sin = np.cos(angle), np.sin(angle)
    mirror = np.where(how.flip, -1.0, 1.0)
    right, down = 2 * how.right, 2 * how.down
    across = np.stack([mirror * cos, -mirror * sin, mirror * (-cos * right + sin * down)], axis=1)
    along = np.stack([sin, cos, -sin * right - cos * down], axis=1)
    return np.stack([across, along], axis=1)
