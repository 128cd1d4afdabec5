"""The networks of the gan: residual convolutions without any normalisation.

They follow R3GAN (Huang et al. 2024, arXiv:2501.05441, Section 4), with plain convolutions in place
of grouped ones, which are faster on a CPU.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mien.faces import EMOTIONS
from mien.generators.diffusion.unet import set_to_zero
from mien.generators.one_pass.decoder import Generating
from mien.generators.specs import DecoderNetSpec, GanSpec

FEWEST_CHANNELS = 8  # before the last layer

LABEL_DEVIATION = 0.3  # of the numbers that stand for a class, where those of the noise have 1

SLOPE = 0.2  # of the leaky ReLU below zero


class PlainBlock(nn.Module):
    """Two convolutions with a skip connection; the second starts at zero.

    The first starts with variance preserved, divided by `depth`, the number of blocks of the
    network, so that the sum over all blocks does not grow (Zhang et al. 2019, arXiv:1901.09321).
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = set_to_zero(nn.Conv2d(width, width, 3, padding=1))
        start_layer(self.conv1, gain=depth**-0.5)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the features after this block."""
        return x + self.conv2(activate(self.conv1(activate(x))))


class GanNetwork(Generating):
    """The network that draws, from unit noise and a label; the mean face is added to its output."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: GanSpec, size: tuple[int, int, int]) -> None:
        super().__init__()
        net, (channels, height, width) = spec.net, size
        widths, coarse = list_widths(net), (height // net.divisor, width // net.divisor)
        self.noise_size = net.latent
        self.label = nn.Embedding(len(EMOTIONS), net.latent)
        self.basis = nn.Parameter(torch.randn(widths[0], *coarse))
        self.mix = nn.Linear(2 * net.latent, widths[0])
        self.levels, self.narrow = make_plain_levels(widths, net.blocks)
        # Interpolated to full resolution: PixelShuffle left a pattern of squares in the images
        self.patch, last_width = net.patch, max(FEWEST_CHANNELS, widths[-1] // 2)
        self.spread = nn.Conv2d(widths[-1], last_width, 1)
        self.last = nn.Conv2d(last_width, channels, 3, padding=1)
        for layer in (self.mix, self.spread, self.last):
            start_layer(layer)
        nn.init.normal_(self.label.weight, std=LABEL_DEVIATION)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(()))

    def forward(
        self, noise: Float[Tensor, "n noise"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return images about in [-1, 1] for unit noise and labels."""
        return self.mean + self.deviation * self.draw(noise, labels, 1.0)

    def draw(
        self, noise: Float[Tensor, "n noise"], labels: Int[Tensor, " n"], share: float
    ) -> Float[Tensor, "n c h w"]:
        """Return images without the mean face, with unit variance.

        `share` is how much the class counts, from 0 to 1.
        """
        code = torch.cat([noise, share * self.label(labels)], dim=1)
        x = self.basis * self.mix(code)[:, :, None, None]

        # From the coarsest level to the finest
        for blocks, narrow in zip(self.levels, self.narrow, strict=True):
            if not isinstance(narrow, nn.Identity):
                x = F.interpolate(narrow(x), scale_factor=2.0, mode="bilinear")
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x)
        x = self.spread(activate(x))
        if self.patch > 1:
            x = F.interpolate(x, scale_factor=float(self.patch), mode="bilinear")
        return self.last(activate(x))


class Critic(nn.Module):
    """A network from an image to a number that is higher for real images.

    The number is w f + share e(label) f for the features f of the image, so that the class counts
    by a projection (Miyato & Koyama 2018, arXiv:1802.05637, Eq. 4).
    """

    def __init__(self, size: tuple[int, int, int], spec: DecoderNetSpec) -> None:
        super().__init__()
        channels, height, width = size
        widths, coarse = list_widths(spec)[::-1], (height // spec.divisor, width // spec.divisor)
        self.unshuffle = nn.PixelUnshuffle(spec.patch)
        self.stem = nn.Conv2d(channels * spec.patch**2, widths[0], 3, padding=1)
        self.levels, self.widen = make_plain_levels(widths, spec.blocks)
        self.basis = nn.Parameter(torch.randn(widths[-1], *coarse) / math.prod(coarse) ** 0.5)
        self.mix = nn.Linear(widths[-1], widths[-1])
        self.head = nn.Linear(widths[-1], 1)
        self.label = nn.Embedding(len(EMOTIONS), widths[-1])
        for layer in (self.stem, self.mix, self.head):
            start_layer(layer)
        nn.init.normal_(self.label.weight, std=widths[-1] ** -0.5)

    def forward(
        self, x: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], share: float
    ) -> Float[Tensor, " n"]:
        """Return a number for each image; `share` is how much the class counts, from 0 to 1."""
        x = self.stem(self.unshuffle(x))
        for blocks, widen in zip(self.levels, self.widen, strict=True):
            if not isinstance(widen, nn.Identity):
                x = widen(F.avg_pool2d(x, 2))
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x)
        features = activate(self.mix((activate(x) * self.basis).sum(dim=(2, 3))))
        return self.head(features)[:, 0] + share * (self.label(labels) * features).sum(dim=1)


def list_widths(spec: DecoderNetSpec) -> list[int]:
    """Return the channels of each level, from the coarsest to the finest."""
    return [spec.width * factor for factor in reversed(spec.multipliers)]


def make_plain_levels(widths: list[int], blocks: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Return the blocks of each level, and the layer that changes the width before each level."""
    depth = len(widths) * blocks
    levels = nn.ModuleList(
        nn.ModuleList(PlainBlock(width, depth) for _ in range(blocks)) for width in widths
    )
    changes = nn.ModuleList([nn.Identity()])
    for before, width in pairwise(widths):
        layer = nn.Conv2d(before, width, 1, bias=False)
        start_layer(layer)
        changes.append(layer)
    return levels, changes


def start_layer(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """Set random weights that keep the variance of features, times `gain` squared; no bias."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    with torch.no_grad():
        layer.weight.mul_(gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def activate(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Return the leaky ReLU of features, scaled to keep their variance."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2 / (1 + SLOPE**2))
