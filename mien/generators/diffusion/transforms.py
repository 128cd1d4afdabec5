"""Augmentations of training images that do not leak into generated images.

The network gets the parameters of each augmentation as an input, and zeros when it samples (Karras
et al. 2020, arXiv:2006.06676, and 2022, arXiv:2206.00364, appendix F.2). The ranges keep faces
plausible: rotations of at most 15 degrees, never upside down.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

MOVES = ("mirror", "right", "down", "zoom", "stretch", "turn", "light", "contrast")
"""The parameters of an augmentation: mirror is 0 or 1, the others are in units of REACH."""

# Standard deviations, except for turn, which is the half width of a uniform distribution. Units:
# right and down are shares of width and height; zoom is a power of 2 of the size, and stretch of
# width to height; turn is in radians; light is on the scale -1..1; contrast is a power of 2.
AUGMENTATION_RANGES = {
    "right": 1 / 8,
    "down": 1 / 8,
    "zoom": 0.2,
    "stretch": 0.1,
    "turn": math.pi / 12,
    "light": 0.1,
    "contrast": 0.3,
}


def draw(count: int, mirror: bool, chance: float, rng: torch.Generator) -> Float[Tensor, "n moves"]:
    """Return random augmentation parameters for `count` images.

    With `mirror`, an image is mirrored with probability 1/2; each other move happens with
    probability `chance`.
    """
    torch_device = rng.device
    flips = (torch.rand(count, device=torch_device, generator=rng) < 0.5).float() * float(mirror)
    if chance == 0:
        return F.pad(flips[:, None], (0, len(MOVES) - 1))
    sizes = torch.randn(count, len(MOVES), device=torch_device, generator=rng)
    turns = 2 * torch.rand(count, device=torch_device, generator=rng) - 1
    sizes[:, MOVES.index("turn")] = turns
    happens = torch.rand(count, len(MOVES), device=torch_device, generator=rng) < chance
    augmentations = sizes * happens
    augmentations[:, 0] = flips
    return augmentations


def apply(
    x: Float[Tensor, "n c h w"], augmentations: Float[Tensor, "n moves"]
) -> Float[Tensor, "n c h w"]:
    """Return the images after their augmentations; outside an image its border is repeated."""
    # Mirroring needs no interpolation
    if not augmentations[:, 1:].any():
        return torch.where(augmentations[:, 0, None, None, None] > 0, x.flip(-1), x)

    # The parameters in their units; coordinates run from -1 to 1 along both sides of an image,
    # whatever their lengths, so rotations need the ratio of height to width
    by = {
        name: augmentations[:, column] * AUGMENTATION_RANGES[name]
        for column, name in enumerate(MOVES)
        if column
    }
    wide, high = 2 ** (by["zoom"] + by["stretch"] / 2), 2 ** (by["zoom"] - by["stretch"] / 2)
    cos, sin = by["turn"].cos(), by["turn"].sin()
    mirror = 1 - 2 * augmentations[:, 0]
    ratio = x.shape[2] / x.shape[3]

    # The inverse affine map, from a pixel of the new image to its origin: shift back, rotate back,
    # scale back, mirror
    right, down = 2 * by["right"], 2 * by["down"]
    across = (
        torch.stack([cos, sin * ratio, -(cos * right + sin * ratio * down)], dim=1)
        * (mirror / wide)[:, None]
    )
    along = (
        torch.stack([-sin / ratio, cos, sin / ratio * right - cos * down], dim=1) / high[:, None]
    )
    grid = F.affine_grid(torch.stack([across, along], dim=1), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    # Contrast and brightness
    gain, light = 2 ** by["contrast"], by["light"]
    return moved * gain[:, None, None, None] + light[:, None, None, None]
