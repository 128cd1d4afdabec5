"""Augmentation as in the preprint (Section 2.3), for a whole batch at once.

"Rotated 15 degrees and horizontally flipped", "width shift and height shift with the range settings
of 0.1", brightness "between the range of 0.8 to 1.2", fill mode "nearest", "rescaled to 1/255":
these words have the meaning that they have in Keras's ImageDataGenerator. Rotation, shift and
resizing are one bilinear interpolation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mien.classifiers.channels import NO_MOTION
from mien.classifiers.specs import AugmentSpec
from mien.seeds import make_rng


@dataclass(frozen=True)
class AugmentParameters:
    """The changes of each of n images.

    `angle` is in degrees, counter-clockwise; `right` and `down` are the shifts as shares of width
    and height; `brightness` is a factor; `flip` says which images are mirrored, before all else.
    """

    angle: Float[np.ndarray, " n"]
    right: Float[np.ndarray, " n"]
    down: Float[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    flip: Bool[np.ndarray, " n"]


def draw_parameters(spec: AugmentSpec, n: int, seed: int, step: int) -> AugmentParameters:
    """Return the parameters of the n images of a step, which depend only on seed and step."""
    draw = make_rng("augment", seed, step)
    return AugmentParameters(
        draw.uniform(-spec.rotation, spec.rotation, n),
        draw.uniform(-spec.shift, spec.shift, n),
        draw.uniform(-spec.shift, spec.shift, n),
        draw.uniform(*spec.brightness, n),
        (draw.random(n) < 0.5) & spec.flip,
    )


def augment(
    images: UInt8[Tensor, "n c h w"],
    how: AugmentParameters,
    size: int,
    resting_values: Sequence[int | None] = (0,),
    flows: Sequence[tuple[int, int]] = (),
) -> Float[Tensor, "n c size size"]:
    """Return the images changed as `how` says, `size` pixels wide and high, in [0, 1].

    `resting_values` has, for each channel or once for all, the value that brightness does not
    change, 0 for photographs; the brightness of a channel with None stays the same. Outside the
    image its border is repeated. Images larger than `size` are first reduced, with antialiasing.
    `flows` has the positions of the two channels of each optical flow, to the right and down, whose
    vectors are mirrored and rotated with the image.
    """
    # Rotate, shift, mirror and resize in one interpolation
    x = images.float() / 255
    if max(images.shape[2:]) > size:
        x = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    matrix = torch.from_numpy(_make_matrices(how)).to(x)
    grid = functional.affine_grid(matrix, [len(x), x.shape[1], size, size], align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    for right, down in flows:
        x[:, right], x[:, down] = _turn_vectors(x[:, right], x[:, down], how)

    # Multiply the distance of each value from its rest by the brightness
    rest_value = x.new_tensor([(value or 0) / 255 for value in resting_values])[:, None, None]
    is_lit = torch.tensor([value is not None for value in resting_values], device=x.device)[
        :, None, None
    ]
    factor = torch.where(is_lit, torch.from_numpy(how.brightness).to(x)[:, None, None, None], 1)
    return (rest_value + (x - rest_value) * factor).clamp(0, 1)


def _turn_vectors(
    right: Float[Tensor, "n h w"], down: Float[Tensor, "n h w"], how: AugmentParameters
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Return the two channels of an optical flow whose vectors are mirrored, then rotated.

    In the channels, NO_MOTION is no displacement. A rotation by the angle a, counter-clockwise,
    turns the vector (right, down) into (right cos a + down sin a, down cos a - right sin a).
    Vectors that become too long are clipped later.
    """
    angle = torch.from_numpy(how.angle * math.pi / 180).to(right)[:, None, None]
    mirror = torch.from_numpy(np.where(how.flip, -1.0, 1.0)).to(right)[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    across, along = mirror * (right - NO_MOTION), down - NO_MOTION
    return NO_MOTION + across * cos + along * sin, NO_MOTION + along * cos - across * sin


def _make_matrices(how: AugmentParameters) -> Float[np.ndarray, "n 2 3"]:
    """Return the matrices that map output pixels to input pixels, in coordinates from -1 to 1.

    They undo the shift, then the rotation, then the mirroring. An image that is shifted right by a
    share s of its width is read s further left, which is 2 s in these coordinates.
    """
    angle = how.angle * math.pi / 180
    cos, sin = np.cos(angle), np.sin(angle)
    mirror = np.where(how.flip, -1.0, 1.0)
    right, down = 2 * how.right, 2 * how.down
    across = np.stack([mirror * cos, -mirror * sin, mirror * (-cos * right + sin * down)], axis=1)
    along = np.stack([sin, cos, -sin * right - cos * down], axis=1)
    return np.stack([across, along], axis=1)
