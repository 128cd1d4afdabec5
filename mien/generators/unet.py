"""The network of all diffusion generators: a residual U-Net that is told noise level, class, and
how a face was moved.

After the DDPM++ network of Song et al. 2021 (arXiv:2011.13456) as used by Karras et al. 2022
(arXiv:2206.00364), with scale and shift conditioning (Dhariwal & Nichol 2021, arXiv:2105.05233) and
a space-to-depth stem.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mien.faces import EMOTIONS
from mien.generators.moves import MOVES
from mien.generators.specs import NetSpec

NULL = len(EMOTIONS)  # the row of the class table that stands for "no label"


class UNet(nn.Module):
    """A U-Net for images of `channels` channels.

    The last layers of blocks and of the whole start at zero, so that an untrained network returns
    zero.
    """

    def __init__(self, channels: int, spec: NetSpec) -> None:
        super().__init__()
        widths = [spec.width * factor for factor in spec.multipliers]
        told = 4 * spec.width
        self.embed = Conditions(told)
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(spec.patch), nn.PixelShuffle(spec.patch)
        self.stem = nn.Conv2d(channels * spec.patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, width = [widths[0]], widths[0]
        for level, wanted in enumerate(widths):
            blocks = nn.ModuleList()
            for _ in range(spec.blocks):
                blocks.append(Block(width, wanted, told, spec.dropout, level in spec.attention))
                width = wanted
                kept.append(width)
            self.down.append(blocks)
            if level < len(widths) - 1:
                kept.append(width)  # after halving the side
        self.middle = Block(width, width, told, spec.dropout, attention=True)
        for level, wanted in reversed(list(enumerate(widths))):
            blocks = nn.ModuleList()
            for _ in range(spec.blocks + 1):
                blocks.append(
                    Block(width + kept.pop(), wanted, told, spec.dropout, level in spec.attention)
                )
                width = wanted
            self.up.append(blocks)
        self.norm = group_norm(width)
        self.last = zeroed(nn.Conv2d(width, channels * spec.patch**2, 3, padding=1))
        self.dropout, self.patch = spec.dropout, spec.patch

    def drops(
        self, count: int, height: int, width: int, rng: torch.Generator
    ) -> list[Bool[Tensor, "n c _ _"]]:
        """Return which features dropout keeps of `count` images, block by block; nothing without
        dropout.
        """
        last, found = len(self.down) - 1, []
        order = [
            *enumerate(self.down),
            (last, [self.middle]),
            *((last - k, blocks) for k, blocks in enumerate(self.up)),
        ]
        for level, blocks in order if self.dropout > 0 else ():
            side = self.patch * 2**level
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                shape = (count, block.width, height // side, width // side)
                kept = torch.empty(shape, dtype=torch.bool, device=rng.device)
                found.append(kept.bernoulli_(1 - self.dropout, generator=rng))
        return found

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        noise: Float[Tensor, " n"],
        labels: Int[Tensor, " n"],
        moves: Float[Tensor, "n moves"],
        drops: Sequence[Bool[Tensor, "n _ _ _"]] = (),
    ) -> Float[Tensor, "n c h w"]:
        """Return what the network makes of `x`.

        `noise` is the noise level on a scale of about -1.5 to 1.5, `labels` are places in EMOTIONS
        or NULL, `moves` what was done to the images (see `moves.MOVES`), all zero for faces as they
        are. `drops`, in training, is what the method of that name returns.
        """
        keep = iter(drops)
        told = self.embed(noise, labels, moves)
        x = self.stem(self.unshuffle(x))
        kept = [x]
        for level, blocks in enumerate(self.down):
            if level > 0:
                x = F.avg_pool2d(x, 2)
                kept.append(x)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, told, next(keep, None))
                kept.append(x)
        x = self.middle(x, told, next(keep, None))
        for level, blocks in enumerate(self.up):
            if level > 0:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(torch.cat([x, kept.pop()], dim=1), told, next(keep, None))
        return self.shuffle(self.last(F.silu(self.norm(x))))


class Conditions(nn.Module):
    """One vector of `width` numbers for noise level, class and moves."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # Waves of 4 units down to 1/32 of a unit, on a scale where all noise levels span about 2
        # units.
        self.register_buffer(
            "frequencies", 2 * math.pi * 2.0 ** torch.linspace(-2, 5, 32), persistent=False
        )
        self.noise = nn.Linear(64, width)
        self.label = nn.Embedding(len(EMOTIONS) + 1, width)
        self.moves = nn.Linear(len(MOVES), width, bias=False)
        self.mix = nn.Linear(width, width)

    def forward(
        self, noise: Float[Tensor, " n"], labels: Int[Tensor, " n"], moves: Float[Tensor, "n moves"]
    ) -> Float[Tensor, "n width"]:
        """Return what the blocks are told."""
        waves = noise[:, None] * self.frequencies
        told = self.noise(torch.cat([waves.cos(), waves.sin()], dim=1))
        told = told + self.label(labels) + self.moves(moves)
        return F.silu(self.mix(F.silu(told)))


class Block(nn.Module):
    """Two convolutions beside a skip, then attention where asked."""

    def __init__(self, given: int, wanted: int, told: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(given), nn.Conv2d(given, wanted, 3, padding=1)
        self.tell = nn.Linear(told, 2 * wanted)
        self.norm2, self.conv2 = group_norm(wanted), zeroed(nn.Conv2d(wanted, wanted, 3, padding=1))
        self.dropout, self.width = dropout, wanted
        self.skip = nn.Identity() if given == wanted else nn.Conv2d(given, wanted, 1)
        self.attention = Attention(wanted) if attention else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "n given h w"],
        told: Float[Tensor, "n width"],
        keep: Bool[Tensor, "n wanted h w"] | None = None,
    ) -> Float[Tensor, "n wanted h w"]:
        """Return the features after this block; in training, dropout leaves those that `keep`
        says.
        """
        y = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.tell(told)[:, :, None, None].chunk(2, dim=1)
        y = F.silu(torch.addcmul(shift, self.norm2(y), scale + 1))
        if keep is not None:
            y = y * keep / (1 - self.dropout)
        y = self.conv2(y)
        return self.attention((self.skip(x) + y) * math.sqrt(0.5))


class Attention(nn.Module):
    """Every place looks at every place, in heads of about 64 channels, beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(
            heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0
        )
        self.norm = group_norm(width)
        self.ask = nn.Conv2d(width, 3 * width, 1)
        self.give = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the features after all places have looked at each other."""
        n, c, h, w = x.shape
        asked = self.ask(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w)
        # In this order in memory every image begins at a full vector. Without it, on a processor,
        # the last bits of an image came to depend on its place in the batch (seen with 9 places).
        q, k, v = asked.permute(1, 0, 2, 4, 3).contiguous()
        seen = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(n, c, h, w)
        return (x + self.give(seen)) * math.sqrt(0.5)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group norm of at most 32 groups of at least 4 channels, for any number of
    channels.
    """
    groups = next(
        groups for groups in range(max(1, min(32, channels // 4)), 0, -1) if channels % groups == 0
    )
    return nn.GroupNorm(groups, channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Return `layer` with its weights and bias set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
