"""Muon, an optimiser: steps of equal size in all directions of a matrix.

The method is that of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon). The weights of
a convolution are one matrix with a row for each of its outputs.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM = 0.95

ITERATIONS = 5  # of Newton and Schulz

# An odd polynomial a s + b s^3 + c s^5 that moves each singular value near 1 in few iterations
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Gradient descent with Nesterov momentum, whose steps have singular values of about 1.

    The size of a step is the learning rate times the square root of rows over columns, where there
    are more rows.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Change all weights by one step along their gradients; there must be no `closure`."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                state = self.state[weights]
                if not state:
                    state["momentum"] = torch.zeros_like(weights)
                momentum = state["momentum"].mul_(MOMENTUM).add_(weights.grad, alpha=1 - MOMENTUM)
                direction = weights.grad.lerp(momentum, MOMENTUM).flatten(1)
                rows, columns = direction.shape
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                weights.add_(orthogonalise(direction).view_as(weights), alpha=-size)


def orthogonalise(matrix: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """Return the matrix with the same singular vectors, and singular values of about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide is matrix else x.T


def takes_muon(weights: nn.Parameter) -> bool:
    """Return whether weights are those of a 3x3 convolution between features.

    Those from or to an image are too narrow: their directions are few, and Adam suits them.
    """
    return weights.ndim == 4 and weights.shape[-1] == 3 and min(weights.shape[:2]) >= 8
