"""From noise to images: noise levels, solvers and guidance, for any denoiser.

A denoiser gives the expected clean image of a noisy one, x = x0 + sigma * noise. A sampler walks
down an array of noise levels; neither knows the other, so every sampler runs every model.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.generators.sampler_table import SAMPLERS

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""D(x [n, c, h, w], sigma [n], labels [n]) -> x0 [n, c, h, w]."""

Bound = Callable[[Tensor, Tensor], Tensor]
"""A denoiser with its labels: D(x, sigma) -> x0."""

Draw = Callable[[], Tensor]
"""Returns fresh unit noise [n, c, h, w], each image's from its own generator."""


def make_karras_levels(steps: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """Return `steps` noise levels from `high` to `low`, then 0.

    Source: Karras et al. 2022 (arXiv:2206.00364), Eq. 5.
    """
    if steps == 1:
        return [high, 0.0]
    ends = high ** (1 / rho), low ** (1 / rho)
    return [(ends[0] + i / (steps - 1) * (ends[1] - ends[0])) ** rho for i in range(steps)] + [0.0]


def euler(
    denoise: Bound, x: Float[Tensor, "n ..."], levels: Sequence[float], draw: Draw | None = None
) -> Float[Tensor, "n ..."]:
    """Integrate the probability-flow ODE dx/dsigma = (x - D) / sigma with Euler's method; order 1.

    `x` is at noise level `levels[0]`; nothing is drawn.
    """
    for sigma, after in pairwise(levels):
        x = x + (after - sigma) * (x - denoise(x, repeat_level(sigma, x))) / sigma
    return x


def heun(
    denoise: Bound, x: Float[Tensor, "n ..."], levels: Sequence[float], draw: Draw | None = None
) -> Float[Tensor, "n ..."]:
    """Integrate the probability-flow ODE with Heun's method (Karras et al. 2022, Algorithm 1).

    Its order is 2. It calls the denoiser twice per step; the last step, to zero noise, is Euler's.
    Nothing is drawn.
    """
    for sigma, after in pairwise(levels):
        slope = (x - denoise(x, repeat_level(sigma, x))) / sigma
        guess = x + (after - sigma) * slope
        if after > 0:
            slope_after = (guess - denoise(guess, repeat_level(after, x))) / after
            guess = x + (after - sigma) * (slope + slope_after) / 2
        x = guess
    return x


def dpmpp2m(
    denoise: Bound, x: Float[Tensor, "n ..."], levels: Sequence[float], draw: Draw | None = None
) -> Float[Tensor, "n ..."]:
    """Integrate with DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, Algorithm 2).

    Its order is 2, with one call of the denoiser per step. With lambda = -ln sigma, h = the step in
    lambda and r = the last h over this one, D = (1 + 1/2r) D_now - 1/2r D_last and x <-
    (sigma_after / sigma) x + (1 - sigma_after / sigma) D. The first step and that to zero noise are
    of first order. Nothing is drawn.
    """
    last, last_h = None, 0.0
    for sigma, after in pairwise(levels):
        clean = denoise(x, repeat_level(sigma, x))
        guess = clean
        if after > 0:
            h = math.log(sigma / after)
            if last is not None:
                guess = clean + (clean - last) * (h / (2 * last_h))
            last, last_h = clean, h
        x = (after / sigma) * x + (1 - after / sigma) * guess
    return x


def unipc(
    denoise: Bound, x: Float[Tensor, "n ..."], levels: Sequence[float], draw: Draw | None = None
) -> Float[Tensor, "n ..."]:
    """Integrate with UniPC-2 (Zhao et al. 2023, arXiv:2302.04867, Algorithms 5 and 7, B2(h)).

    Its order is 3, with one call of the denoiser per step. A predictor of second order takes the
    step, and the prediction of the denoiser at its end corrects it, so that a call serves both this
    step and the next. It uses data prediction and lambda = -ln sigma. The last step, to zero noise,
    is of first order. Nothing is drawn.
    """
    clean = denoise(x, repeat_level(levels[0], x))
    # The prediction before this one, and the step in lambda between them
    before: tuple[Tensor, float] | None = None
    for sigma, after in pairwise(levels):
        if after == 0:
            return clean
        h = math.log(sigma / after)
        gain = math.expm1(-h)
        base = (after / sigma) * x - gain * clean
        slope = None if before is None else (before[0] - clean) * (-h / before[1])
        guess = base if slope is None else base - gain / 2 * slope
        new = denoise(guess, repeat_level(after, x))
        x = base - gain * _correct(new - clean, slope, h, 0.0 if before is None else -before[1] / h)
        before, clean = (clean, h), new
    return x


def _correct(ahead: Tensor, slope: Tensor | None, h: float, ratio: float) -> Tensor:
    """Return the weighted sum of differences that UniC adds, its weights solving R rho = b (Eq. 9).

    `ahead` is the difference from the current prediction to that at the end of the step. `slope` is
    the difference to the previous prediction, divided by `ratio`, the position of the previous
    prediction in units of the step.
    """
    if slope is None:
        return ahead / 2
    gain = math.expm1(-h)
    first = (gain / -h - 1) / gain
    second = 2 * ((gain / -h - 1) / -h - 0.5) / gain
    weight = (first - second) / (1 - ratio)
    return weight * slope + (first - weight) * ahead


def ancestral(
    denoise: Bound,
    x: Float[Tensor, "n ..."],
    levels: Sequence[float],
    draw: Draw | None = None,
    variance: Literal["posterior", "beta"] = "posterior",
) -> Float[Tensor, "n ..."]:
    """Sample the reverse Markov chain (Ho et al. 2020, arXiv:2006.11239, Eq. 7).

    Each step adds fresh noise. In noise-added space the Gaussian posterior of x at level s,
    given x at level t and x0, has mean x0 + (s^2 / t^2) (x - x0) and variance s^2 (t^2 - s^2) /
    t^2. `variance` "beta" takes the forward step's instead, (t^2 - s^2) (1 + s^2) / (1 + t^2). On
    the levels of a DDPM schedule this is the DDPM chain itself.
    """
    if draw is None:
        raise ValueError("the ancestral sampler adds noise at each step, so `draw` must be given")
    for sigma, after in pairwise(levels):
        x0 = denoise(x, repeat_level(sigma, x))
        x = x0 + (after / sigma) ** 2 * (x - x0)
        if after > 0:
            spread = sigma**2 - after**2
            spread *= (
                (after / sigma) ** 2 if variance == "posterior" else (1 + after**2) / (1 + sigma**2)
            )
            x = x + spread**0.5 * draw()
    return x


def guide(denoise: Denoiser, null: int, weight: float, low: float, high: float) -> Denoiser:
    """Return a denoiser with classifier-free guidance where `low` <= sigma <= `high`.

    `null` is the label that means no label. D = D_null + weight (D_label - D_null) (Ho & Salimans
    2022, arXiv:2207.12598), within an interval of noise levels (Kynkaanniemi et al. 2024,
    arXiv:2404.07724). Both predictions come from one call with a doubled batch. All images of a
    batch must be at one noise level.
    """

    def guide(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        if not low <= float(sigma[0]) <= high:
            return denoise(x, sigma, labels)
        both_labels = torch.cat([labels, torch.full_like(labels, null)])
        labelled, free = denoise(torch.cat([x, x]), torch.cat([sigma, sigma]), both_labels).chunk(2)
        return free + weight * (labelled - free)

    return guide


def autoguide(
    denoise: Denoiser, worse: Denoiser, weight: float, low: float, high: float
) -> Denoiser:
    """Return a denoiser with autoguidance by a worse one where `low` <= sigma <= `high`.

    D = D_worse + weight (D - D_worse), where D_worse is a less trained copy with the same labels
    (Karras et al. 2024, arXiv:2406.02507). All images of a batch must be at one noise level.
    """

    def guide(
        x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        good = denoise(x, sigma, labels)
        if not low <= float(sigma[0]) <= high:
            return good
        bad = worse(x, sigma, labels)
        return bad + weight * (good - bad)

    return guide


def clip(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """Return a denoiser whose predictions stay within the range of images."""
    return lambda x, sigma, labels: denoise(x, sigma, labels).clamp(low, high)


def repeat_level(sigma: float, like: Tensor) -> Float[Tensor, " n"]:
    """Return one noise level for each image of `like`."""
    return like.new_full((len(like),), sigma)


def broadcast_over_images(values: Float[Tensor, " n"]) -> Float[Tensor, "n 1 1 1"]:
    """Return one number per image in a shape that broadcasts over images."""
    return values[:, None, None, None]


def bind(
    denoise: Denoiser,
    labels: Int[Tensor, " n"],
    x: Float[Tensor, "n c h w"],
    sigma: Float[Tensor, " n"],
) -> Float[Tensor, "n c h w"]:
    """Return D(x, sigma, labels); a partial with the first two arguments is a `Bound`."""
    return denoise(x, sigma, labels)


SOLVERS: dict[str, Callable[..., Tensor]] = {name: globals()[name] for name in SAMPLERS}
"""The function of each sampler, which has the name of its entry in SAMPLERS."""
