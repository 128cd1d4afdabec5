"""What a diffusion model is trained on: noisy images, and the loss of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """The input of a loss: images, their labels, augmentations, noise levels and noise.

    `x0` has n images [n, c, h, w] minus the mean face. `labels` are positions in EMOTIONS or
    NO_LABEL, `moves` has the columns of `transforms.MOVES`, `levels` is t (ddpm) or sigma
    (the other kinds), and `noise` has unit variance. `units` are the numbers for the
    action units of each image (see `mien.generators.units`), None for a network that takes none.
    """

    x0: Tensor
    labels: Tensor
    moves: Tensor
    levels: Tensor
    noise: Tensor
    units: Tensor | None = None

    def select(self, rows: slice) -> "Batch":
        """Return the batch of the images in `rows`."""
        return Batch(
            self.x0[rows],
            self.labels[rows],
            self.moves[rows],
            self.levels[rows],
            self.noise[rows],
            None if self.units is None else self.units[rows],
        )


@dataclass(frozen=True)
class Objective:
    """The loss that a training minimises.

    `compute_losses` maps (network, batch, sigma_data, dropout masks) to the loss of each image.
    `compute_levels` maps shares [n] in [0, 1) to the quantiles of the distribution of noise levels.
    A batch covers the shares evenly if `spread`, else at random.
    """

    compute_losses: Callable[[nn.Module, Batch, float, Sequence[Tensor]], Tensor]
    compute_levels: Callable[[Tensor], Tensor]
    spread: bool
