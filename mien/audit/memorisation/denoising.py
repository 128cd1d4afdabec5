"""Membership by the generator: it denoises its training images better.

A diffusion model that remembers an image estimates it from a noisy one with less error than it does
an image of the same source that it never saw (Carlini et al. 2023, arXiv:2301.13188; Duan et al.
2023, arXiv:2302.01316). Some images are easier than others, whoever saw them, so the error is
corrected by what images like this one have among held-out people: a quantile regression on simple
features (Tang et al. 2024, arXiv:2312.05140), fitted without the image's own person.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from sklearn.linear_model import QuantileRegressor
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from mien.audit.labels.nuisance import measure_features
from mien.audit.memorisation.membership import MembershipScores
from mien.generators import scaling
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.unet import condition_on_units
from mien.generators.kinds import GENERATORS
from mien.seeds import make_rng

NOISE_SHARES = (0.1, 0.2, 0.4, 0.8)  # noise levels, as shares of the standard deviation of images

NOISES = 4  # noises at each level; every second is the one before with the sign changed

DENOISED_TOGETHER = 32  # noisy images that pass through the network at once

DIFFICULTY_FOLDS = 5  # folds of the held-out people that a regression is fitted without

MIN_FITTED_IMAGES = 20  # held-out images that a regression needs; with fewer, the median serves

REGRESSION_PENALTY = 1e-3  # of the weights of the regression, which keeps few images from a fit


@dataclass(frozen=True)
class RealImages:
    """Real images of one side, with their labels and whom they show.

    `units` are the numbers for their action units, None for a generator without action units.
    """

    images: UInt8[np.ndarray, "n c h w"]
    labels: Int[np.ndarray, " n"]
    people: np.ndarray
    units: Float[np.ndarray, "n units"] | None = None


def measure_errors(generator: Diffusion, real: RealImages) -> Float[np.ndarray, "n levels"]:
    """Return the logarithm of the mean squared error with which each image is denoised.

    It is measured at each of NOISE_SHARES of the generator's sigma_data, as the mean over four
    noises, which are the same for all images.
    """
    # The noises
    make_denoiser = GENERATORS[generator.spec.kind].make_denoiser
    assert make_denoiser is not None, "the caller asks for a kind with a denoiser"
    half = make_rng("membership", "noise").standard_normal(
        (NOISES // 2, *real.images.shape[1:]), dtype=np.float32
    )
    noises = torch.from_numpy(np.stack([half, -half], axis=1).reshape(-1, *half.shape[1:]))

    # The error of each image at each level, over all noises
    errors = np.zeros((len(real.images), len(NOISE_SHARES)))
    for first in range(0, len(real.images), DENOISED_TOGETHER):
        rows = slice(first, first + DENOISED_TOGETHER)
        x0 = scaling.scale_for_model(real.images[rows]).to(generator.device)
        labels = torch.from_numpy(np.asarray(real.labels[rows])).to(generator.device)
        units = None if real.units is None else torch.from_numpy(real.units[rows]).to(x0)
        denoise = make_denoiser(generator, condition_on_units(generator.network, units))
        for place, share in enumerate(NOISE_SHARES):
            sigma = x0.new_full((len(x0),), share * generator.sigma_data)
            for noise in noises.to(generator.device):
                with torch.inference_mode():
                    estimate = denoise(x0 + sigma[:, None, None, None] * noise, sigma, labels)
                squares = (estimate - x0).square().mean(dim=(1, 2, 3))
                errors[rows, place] += squares.double().cpu().numpy() / NOISES
    return np.log(errors + 1e-12)


def score_denoising(
    generator: Diffusion, members: RealImages, outsiders: RealImages
) -> dict[str, MembershipScores]:
    """Return how much each image looks like a training image: overall, and at each noise level.

    The score is minus the error beyond what is expected of an image as difficult as this one, in
    median absolute deviations of held-out images. The overall score, `generator`, is the mean over
    the levels, which are named `level_10` and so on, in percent of sigma_data. `outsiders` must be
    of two people or more.
    """
    errors = [measure_errors(generator, side) for side in (members, outsiders)]
    features = [_describe_difficulty(side.images) for side in (members, outsiders)]
    corrected = [
        _correct_errors(
            errors[0][:, place], errors[1][:, place], features[0], features[1], outsiders.people
        )
        for place in range(len(NOISE_SHARES))
    ]

    # At each level, and the mean over the levels
    by_name = {
        f"level_{100 * share:.0f}": level
        for share, level in zip(NOISE_SHARES, corrected, strict=True)
    }
    of_members, of_outsiders = (
        np.mean([level[side] for level in corrected], axis=0) for side in (0, 1)
    )
    by_name = {"generator": (of_members, of_outsiders), **by_name}
    return {
        name: MembershipScores(of_member, of_outsider, members.people, outsiders.people)
        for name, (of_member, of_outsider) in by_name.items()
    }


def _describe_difficulty(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n 4"]:
    """Return brightness, contrast, sharpness and the spread of the border of each image."""
    features = measure_features(images)
    simple = [features[name] for name in ("brightness", "contrast", "sharpness")]
    spread = features["border"].std(axis=1, keepdims=True)
    return np.concatenate([*simple, spread], axis=1).astype(np.float64)


def _correct_errors(
    member_errors: Float[np.ndarray, " n"],
    outsider_errors: Float[np.ndarray, " m"],
    member_features: Float[np.ndarray, "n d"],
    outsider_features: Float[np.ndarray, "m d"],
    outsider_people: np.ndarray,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Return minus the errors beyond those expected of images as difficult.

    Each held-out image is compared with a regression that was fitted without its person, and each
    training image with the mean of these regressions.
    """
    # Expected errors, without the own person
    groups = outsider_people.astype(str)
    folds = GroupKFold(min(DIFFICULTY_FOLDS, len(set(groups.tolist()))))
    expected = np.zeros(len(outsider_errors))
    expected_of_members = []
    for others, own in folds.split(outsider_features, groups=groups):
        if len(others) < MIN_FITTED_IMAGES:
            expected[own] = np.median(outsider_errors[others])
            expected_of_members.append(np.full(len(member_errors), expected[own][0]))
            continue
        scaler = StandardScaler().fit(outsider_features[others])
        model = QuantileRegressor(quantile=0.5, alpha=REGRESSION_PENALTY, solver="highs")
        model.fit(scaler.transform(outsider_features[others]), outsider_errors[others])
        expected[own] = model.predict(scaler.transform(outsider_features[own]))
        expected_of_members.append(model.predict(scaler.transform(member_features)))

    # What is left, in median absolute deviations
    left = outsider_errors - expected
    left_of_members = member_errors - np.mean(expected_of_members, axis=0)
    scale = float(np.median(np.abs(left - np.median(left)))) or 1.0
    return -left_of_members / scale, -left / scale
