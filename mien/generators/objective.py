"""What a diffusion model is trained on: a batch of noisy images, and the loss of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """What a loss is worked out from: n images [n, c, h, w] around the mean face, what each is, and
    its noise.

    `labels` are places in EMOTIONS or NULL, `moves` as in `moves.MOVES`, `levels` sigma or t,
    `noise` of unit variance.
    """

    x0: Tensor
    labels: Tensor
    moves: Tensor
    levels: Tensor
    noise: Tensor

    def part(self, rows: slice) -> "Batch":
        """Return some of the images."""
        return Batch(
            self.x0[rows], self.labels[rows], self.moves[rows], self.levels[rows], self.noise[rows]
        )


@dataclass(frozen=True)
class Objective:
    """What a training minimises.

    `errors` gives the loss of each image from (network, batch, sigma_data, `UNet.drops`); `levels`
    the noise levels at shares [n] in [0, 1) of their distribution, which a batch covers evenly if
    `spread`, else at random.
    """

    errors: Callable[[nn.Module, Batch, float, Sequence[Tensor]], Tensor]
    levels: Callable[[Tensor], Tensor]
    spread: bool
