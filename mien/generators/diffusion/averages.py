"""Averages of the weights over training (Karras et al. 2024, post-hoc EMA)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

# Averages


class Average:
    """The power-function average of a module's parameters.

    Source: Karras et al. 2024 (arXiv:2312.02696), Eq. 127. `width` is its standard deviation as a
    share of the training so far, so the first weights are forgotten in short and in long trainings;
    0 keeps only the last weights. Integer buffers are copied.
    """

    def __init__(self, module: nn.Module, width: float) -> None:
        self.width, self.exponent = width, find_exponent(width) if width > 0 else 0.0
        self.tensors = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Add the parameters after step 0, 1, 2...

        beta = (1 - 1/t)^(exponent + 1) with t = step + 1.
        """
        beta = (1 - 1 / (step + 1)) ** (self.exponent + 1) if self.width > 0 else 0.0
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - beta)
            else:
                self.tensors[name].copy_(tensor)


def find_exponent(width: float) -> float:
    """Return the exponent of the power-function average with a relative standard deviation `width`.

    `width` is below 0.288. Solves width = sqrt(g + 1) / ((g + 2) sqrt(g + 3)) for g by bisection
    (Karras et al. 2024, Eq. 126).
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        too_wide = (middle + 1) ** 0.5 / ((middle + 2) * (middle + 3) ** 0.5) > width
        low, high = (middle, high) if too_wide else (low, middle)
    return (low + high) / 2


def blend(
    profiles: Sequence[tuple[int, float]], profile: tuple[int, float]
) -> Float64[np.ndarray, " k"]:
    """Return the coefficients of the kept averages, (step, width), whose sum is the `profile` one.

    Source: Karras et al. 2024, appendix C. An average of width w at step t weighs the weights at
    step s by (g + 1) s^g / t^(g + 1), g = power(w). The coefficients are the least-squares fit to
    the wanted profile.
    """
    steps = np.array([step for step, _ in [*profiles, profile]], dtype=np.float64)
    powers = np.array([find_exponent(width) for _, width in [*profiles, profile]])
    earlier = np.minimum(steps[:, None], steps[None])
    exponents = powers[:, None] + powers[None] + 1
    logs = (
        exponents * np.log(earlier)
        - (powers + 1)[:, None] * np.log(steps)[:, None]
        - (powers + 1) * np.log(steps)
    )
    products = (powers + 1)[:, None] * (powers + 1) / exponents * np.exp(logs)
    return np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=None)[0]
