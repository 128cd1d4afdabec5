"""The decoder of vae and imle, and the encoder of vae.

A decoder goes from latent numbers to an image, and an encoder back. Both are built of the blocks of
the diffusion models' U-Net: convolutions whose scale and shift depend on a condition.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mien.faces import EMOTIONS
from mien.generators.diffusion.transforms import MOVES
from mien.generators.diffusion.unet import Block, make_group_norm, set_to_zero
from mien.generators.specs import DecoderNetSpec

BASE_CHANNELS = 16  # channels between the latent numbers and the coarsest level


class CodeConditions(nn.Module):
    """The embedding of class, augmentation and latent numbers in one vector of `width` numbers.

    `moves` says whether augmentations are a condition, and `latent` is how many latent numbers are.
    """

    def __init__(self, width: int, moves: bool, latent: int = 0) -> None:
        super().__init__()
        self.label = nn.Embedding(len(EMOTIONS) + 1, width)
        self.moves = nn.Linear(len(MOVES), width, bias=False) if moves else None
        self.latent = nn.Linear(latent, width, bias=False) if latent else None
        self.mix = nn.Linear(width, width)

    def forward(
        self,
        labels: Int[Tensor, " n"],
        augmentations: Float[Tensor, "n moves"] | None = None,
        latents: Float[Tensor, "n latent"] | None = None,
    ) -> Float[Tensor, "n width"]:
        """Return the condition of each image; None means no augmentation."""
        condition = self.label(labels)
        if self.moves is not None and augmentations is not None:
            condition = condition + self.moves(augmentations)
        if self.latent is not None:
            condition = condition + self.latent(latents)
        return F.silu(self.mix(F.silu(condition)))


class Decoder(nn.Module):
    """A network from `spec.latent` numbers and a label to an image of `size` (c, h, w).

    An untrained one returns zero. `moves` says whether augmentations are a condition.
    """

    def __init__(self, size: tuple[int, int, int], spec: DecoderNetSpec, moves: bool) -> None:
        super().__init__()
        channels, height, width = size
        widths = [spec.width * factor for factor in spec.multipliers]
        condition = 4 * spec.width
        self.coarse = (BASE_CHANNELS, height // spec.divisor, width // spec.divisor)
        self.embed = CodeConditions(condition, moves, spec.latent)
        self.spread = nn.Linear(spec.latent, BASE_CHANNELS * self.coarse[1] * self.coarse[2])
        self.stem = nn.Conv2d(BASE_CHANNELS, widths[-1], 3, padding=1)
        self.levels = make_levels(widths[::-1], spec.blocks, condition)
        self.norm = make_group_norm(widths[0])
        self.last = set_to_zero(nn.Conv2d(widths[0], channels * spec.patch**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(spec.patch)

    def forward(
        self,
        latents: Float[Tensor, "n latent"],
        labels: Int[Tensor, " n"],
        augmentations: Float[Tensor, "n moves"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Return an image for each row of `latents` and label, a position in EMOTIONS."""
        condition = self.embed(labels, augmentations, latents)
        x = self.stem(self.spread(latents).unflatten(1, self.coarse))

        # From the coarsest level to the finest
        for level, blocks in enumerate(self.levels):
            if level > 0:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, condition)
        return self.shuffle(self.last(F.silu(self.norm(x))))


class ImageEncoder(nn.Module):
    """A network from an image of `size` (c, h, w) and a label to a normal distribution.

    The distribution is over `spec.latent` numbers, each with a mean and the logarithm of its
    variance. An untrained one returns zero for all.
    """

    def __init__(self, size: tuple[int, int, int], spec: DecoderNetSpec, moves: bool) -> None:
        super().__init__()
        channels, height, width = size
        widths = [spec.width * factor for factor in spec.multipliers]
        condition = 4 * spec.width
        coarse_pixels = (height // spec.divisor) * (width // spec.divisor)
        self.embed = CodeConditions(condition, moves)
        self.unshuffle = nn.PixelUnshuffle(spec.patch)
        self.stem = nn.Conv2d(channels * spec.patch**2, widths[0], 3, padding=1)
        self.levels = make_levels(widths, spec.blocks, condition)
        self.norm = make_group_norm(widths[-1])
        self.narrow = nn.Conv2d(widths[-1], BASE_CHANNELS, 1)
        self.last = nn.Linear(BASE_CHANNELS * coarse_pixels, 2 * spec.latent)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        augmentations: Float[Tensor, "n moves"] | None = None,
    ) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n latent"]]:
        """Return means and logarithms of variances for images `x` with unit variance."""
        condition = self.embed(labels, augmentations)
        x = self.stem(self.unshuffle(x))

        # From the finest level to the coarsest
        for level, blocks in enumerate(self.levels):
            if level > 0:
                x = F.avg_pool2d(x, 2)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, condition)
        features = F.silu(self.narrow(F.silu(self.norm(x)))).flatten(1)
        means, log_variances = self.last(features).chunk(2, dim=1)
        return means, log_variances.clamp(-12, 6)


def make_levels(widths: Sequence[int], blocks: int, condition: int) -> nn.ModuleList:
    """Return the blocks of each level, whose channels are `widths` in this order.

    `condition` is the number of channels of the condition.
    """
    levels, before = nn.ModuleList(), widths[0]
    for width in widths:
        level = nn.ModuleList()
        for _ in range(blocks):
            level.append(Block(before, width, condition, dropout=0.0, attention=False))
            before = width
        levels.append(level)
    return levels


def start_shuffled(layer: nn.Conv2d, patch: int) -> None:
    """Set random weights that are equal for all pixels of a patch, which PixelShuffle spreads.

    Otherwise images begin with a pattern of squares (Aitken et al. 2017, arXiv:1707.02937).
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:: patch**2].repeat_interleave(patch**2, dim=0))


class Generating(nn.Module, ABC):
    """The base of the networks that make an image in one pass, from unit noise and a label.

    `noise_size` is how many random numbers an image takes. Such a network is what a trained
    generator keeps, and what is exported.
    """

    noise_size: int

    @abstractmethod
    def forward(
        self, noise: Float[Tensor, "n noise"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return images about in [-1, 1]; a label is a position in EMOTIONS."""
