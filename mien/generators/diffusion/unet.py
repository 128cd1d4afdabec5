"""The network of all diffusion generators: a conditional residual U-Net.

Its conditions are the noise level, the class, the augmentation, and action units if it takes
them. It follows the DDPM++ network of
Song et al. 2021 (arXiv:2011.13456) as used by Karras et al. 2022 (arXiv:2206.00364), with scale and
shift conditioning (Dhariwal & Nichol 2021, arXiv:2105.05233) and a space-to-depth stem.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mien.faces import EMOTIONS
from mien.generators.diffusion.transforms import MOVES
from mien.generators.specs import NetSpec

NO_LABEL = len(EMOTIONS)  # the row of the class embedding that means "no label"


class UNet(nn.Module):
    """A U-Net for images of `channels` channels, which takes `units` numbers for action units.

    The input has `given` further channels, which are known and not drawn. The last layer of each
    block and of the network start at zero, so an untrained network returns zero.
    """

    def __init__(self, channels: int, spec: NetSpec, given: int = 0, units: int = 0) -> None:
        super().__init__()
        widths = [spec.width * factor for factor in spec.multipliers]
        condition = 4 * spec.width
        self.embed = Conditions(condition)
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(spec.patch), nn.PixelShuffle(spec.patch)
        self.stem = nn.Conv2d((channels + given) * spec.patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()

        # The way down; `skips` are the widths of the features that the way up gets as well
        skips, width = [widths[0]], widths[0]
        for level, level_width in enumerate(widths):
            attends = level in spec.attention
            blocks = nn.ModuleList()
            for _ in range(spec.blocks):
                blocks.append(Block(width, level_width, condition, spec.dropout, attends))
                width = level_width
                skips.append(width)
            self.down.append(blocks)
            if level < len(widths) - 1:
                skips.append(width)  # after halving the resolution
        self.middle = Block(width, width, condition, spec.dropout, attention=True)

        # The way up, which takes the skips from the last to the first
        for level, level_width in reversed(list(enumerate(widths))):
            attends = level in spec.attention
            blocks = nn.ModuleList()
            for _ in range(spec.blocks + 1):
                blocks.append(
                    Block(width + skips.pop(), level_width, condition, spec.dropout, attends)
                )
                width = level_width
            self.up.append(blocks)

        # From features to an image
        self.norm = make_group_norm(width)
        self.last = set_to_zero(nn.Conv2d(width, channels * spec.patch**2, 3, padding=1))
        self.dropout, self.patch = spec.dropout, spec.patch

        # Last, so that all other weights begin as in a network without units
        self.embed.add_units(units)

    def draw_dropout_masks(
        self, count: int, height: int, width: int, rng: torch.Generator
    ) -> list[Bool[Tensor, "n c _ _"]]:
        """Return random dropout masks for `count` images, one per block; none without dropout."""
        last, masks = len(self.down) - 1, []
        order = [
            *enumerate(self.down),
            (last, [self.middle]),
            *((last - k, blocks) for k, blocks in enumerate(self.up)),
        ]
        for level, blocks in order if self.dropout > 0 else ():
            factor = self.patch * 2**level
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                shape = (count, block.width, height // factor, width // factor)
                masks.append(draw_mask(shape, 1 - self.dropout, rng))
        return masks

    def forward(
        self,
        x: Float[Tensor, "n c_in h w"],
        noise: Float[Tensor, " n"],
        labels: Int[Tensor, " n"],
        augmentations: Float[Tensor, "n moves"],
        masks: Sequence[Bool[Tensor, "n _ _ _"]] = (),
        units: Float[Tensor, "n units"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Return the output of the network for `x`, whose last channels are the given ones.

        `noise` is the noise level on a scale of about -1.5 to 1.5, `labels` are positions in
        EMOTIONS or NO_LABEL, `augmentations` are those of `transforms.MOVES`, all zero for
        unchanged images. `masks`, in training only, are the masks that `draw_dropout_masks`
        returns. `units`, for a network that takes them, has zeros where they are unknown.
        """
        remaining = iter(masks)
        condition = self.embed(noise, labels, augmentations, units)
        x = self.stem(self.unshuffle(x))

        # Down to the coarsest level, keeping the features of every block
        skips = [x]
        for level, blocks in enumerate(self.down):
            if level > 0:
                x = F.avg_pool2d(x, 2)
                skips.append(x)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, condition, next(remaining, None))
                skips.append(x)
        x = self.middle(x, condition, next(remaining, None))

        # Up again, with those features
        for level, blocks in enumerate(self.up):
            if level > 0:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(torch.cat([x, skips.pop()], dim=1), condition, next(remaining, None))
        return self.shuffle(self.last(F.silu(self.norm(x))))


class ConditionedOnUnits(nn.Module):
    """A network with the action units of the images that it is going to see.

    `units` has a row for each image, zeros where they are unknown. The images that follow these
    in a longer batch are shown without units: in guidance, these are the images without a label.
    """

    def __init__(self, network: nn.Module, units: Float[Tensor, "n units"]) -> None:
        super().__init__()
        self.network, self.units = network, units

    def select(self, rows: Bool[Tensor, " n"]) -> "ConditionedOnUnits":
        """Return the same network with the units of some of the images."""
        return ConditionedOnUnits(self.network, self.units[rows])

    def forward(
        self,
        x: Float[Tensor, "m c_in h w"],
        noise: Float[Tensor, " m"],
        labels: Int[Tensor, " m"],
        augmentations: Float[Tensor, "m moves"],
        masks: Sequence[Bool[Tensor, "m _ _ _"]] = (),
    ) -> Float[Tensor, "m c h w"]:
        """Return the output of the network for `x`, as UNet does."""
        units = F.pad(self.units, (0, 0, 0, x.shape[0] - self.units.shape[0]))
        return self.network(x, noise, labels, augmentations, masks, units)


def condition_on_units(network: nn.Module, units: Float[Tensor, "n units"] | None) -> nn.Module:
    """Return `network` with the action units of the images that it is going to see, if any."""
    return network if units is None else ConditionedOnUnits(network, units)


class Conditions(nn.Module):
    """The embedding of noise level, class and augmentation in one vector of `width` numbers.

    With `add_units` it has that of action units as well.
    """

    frequencies: Tensor
    units: nn.Linear | None

    def __init__(self, width: int) -> None:
        super().__init__()
        # Wavelengths from 4 units down to 1/32 of a unit; all noise levels span about 2 units.
        self.register_buffer(
            "frequencies", 2 * math.pi * 2.0 ** torch.linspace(-2, 5, 32), persistent=False
        )
        self.noise = nn.Linear(64, width)
        self.label = nn.Embedding(len(EMOTIONS) + 1, width)
        self.moves = nn.Linear(len(MOVES), width, bias=False)
        self.mix = nn.Linear(width, width)
        self.units = None

    def add_units(self, count: int) -> None:
        """Add an embedding of `count` numbers that describe action units, if there are any."""
        if count:
            self.units = nn.Linear(count, self.mix.in_features, bias=False)
            nn.init.normal_(self.units.weight)  # as the embedding of a class

    def forward(
        self,
        noise: Float[Tensor, " n"],
        labels: Int[Tensor, " n"],
        augmentations: Float[Tensor, "n moves"],
        units: Float[Tensor, "n units"] | None = None,
    ) -> Float[Tensor, "n width"]:
        """Return the condition of each image."""
        waves = noise[:, None] * self.frequencies
        condition = self.noise(torch.cat([waves.cos(), waves.sin()], dim=1))
        condition = condition + self.label(labels) + self.moves(augmentations)
        if self.units is not None and units is not None:
            condition = condition + self.units(units)
        return F.silu(self.mix(F.silu(condition)))


class Block(nn.Module):
    """Two convolutions with a skip connection, then attention if `attention`.

    `in_width`, `out_width` and `condition` are the numbers of channels of input, output and
    condition.
    """

    def __init__(
        self, in_width: int, out_width: int, condition: int, dropout: float, attention: bool
    ) -> None:
        super().__init__()
        self.norm1, self.conv1 = (
            make_group_norm(in_width),
            nn.Conv2d(in_width, out_width, 3, padding=1),
        )
        self.tell = nn.Linear(condition, 2 * out_width)
        self.norm2, self.conv2 = (
            make_group_norm(out_width),
            set_to_zero(nn.Conv2d(out_width, out_width, 3, padding=1)),
        )
        self.dropout, self.width = dropout, out_width
        self.skip = nn.Identity() if in_width == out_width else nn.Conv2d(in_width, out_width, 1)
        self.attention = Attention(out_width) if attention else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "n in_width h w"],
        condition: Float[Tensor, "n width"],
        keep: Bool[Tensor, "n out_width h w"] | None = None,
    ) -> Float[Tensor, "n out_width h w"]:
        """Return the features after this block; `keep` is the dropout mask, None for no
        dropout.
        """
        y = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.tell(condition)[:, :, None, None].chunk(2, dim=1)
        y = F.silu(torch.addcmul(shift, self.norm2(y), scale + 1))
        if keep is not None:
            y = y * keep / (1 - self.dropout)
        y = self.conv2(y)
        return self.attention((self.skip(x) + y) * math.sqrt(0.5))


class Attention(nn.Module):
    """Self-attention over all positions, in heads of about 64 channels, with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(
            heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0
        )
        self.norm = make_group_norm(width)
        self.ask = nn.Conv2d(width, 3 * width, 1)
        self.give = set_to_zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the features after attention over all positions."""
        n, c, h, w = x.shape
        projected = self.ask(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w)
        # In this memory order every image begins at a full vector. Without it, on a CPU, the last
        # bits of an image depended on its position in the batch (seen with 9 positions).
        q, k, v = projected.permute(1, 0, 2, 4, 3).contiguous()
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(n, c, h, w)
        return (x + self.give(attended)) * math.sqrt(0.5)


def draw_mask(shape: tuple[int, ...], chance: float, rng: torch.Generator) -> Bool[Tensor, "..."]:
    """Return a random mask, each of whose values is True with probability `chance`.

    Four values share one random number of 64 bits, because random numbers are what a mask costs. So
    `chance` is rounded to a multiple of 1/65,536.
    """
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=rng.device)
    words.random_(-(2**63), None, generator=rng)
    parts = words.view(torch.int16)[:count].view(shape)  # each from -32,768 to 32,767
    return parts < round(chance * 65_536) - 32_768


def make_group_norm(channels: int) -> nn.GroupNorm:
    """Return a group norm of at most 32 groups, each of at least 4 channels where possible."""
    groups = next(
        groups for groups in range(max(1, min(32, channels // 4)), 0, -1) if channels % groups == 0
    )
    return nn.GroupNorm(groups, channels)


def set_to_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Return `layer` with its weights and bias set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
