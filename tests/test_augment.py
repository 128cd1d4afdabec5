"""Augmentation: what neutral parameters leave, what each one moves, and parity with SciPy in
Keras's convention.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from mien.classifiers.augment import AugmentParameters, augment, draw_parameters
from mien.classifiers.channels import find_flow_pairs
from mien.classifiers.specs import AugmentSpec
from mien.prepare.flow import FLOW_CHANNELS, FlowSpec, show_flow
from mien.prepare.inputs import find_resting_values


def pictures(
    n: int = 3, height: int = 24, width: int = 24, seed: int = 0
) -> UInt8[Tensor, "n 1 h w"]:
    """Smooth pictures, so that interpolation is well posed."""
    noise = np.random.default_rng(seed).random((n, 1, height, width))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    return torch.from_numpy((255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8))


def neutral(n: int) -> AugmentParameters:
    return AugmentParameters(
        np.zeros(n), np.zeros(n), np.zeros(n), np.ones(n), np.zeros(n, dtype=bool)
    )


@pytest.mark.parametrize("size", [24, 40, 160])
def test_neutral_parameters_leave_plain_resizing(size: int):
    x = pictures()
    expected = functional.interpolate(
        x.float() / 255, size=(size, size), mode="bilinear", antialias=True
    )
    assert torch.allclose(augment(x, neutral(3), size), expected, atol=1e-5)


def test_larger_pictures_are_reduced_with_antialiasing():
    x = pictures(height=60, width=50)
    expected = functional.interpolate(
        x.float() / 255, size=(20, 20), mode="bilinear", antialias=True
    )
    assert torch.allclose(augment(x, neutral(3), 20), expected, atol=1e-5)


def test_a_flip_mirrors():
    x = pictures()
    flipped = augment(x, replace(neutral(3), flip=np.array([True, False, True])), 24)
    plain = x.float() / 255
    assert torch.allclose(flipped[0], plain[0].flip(2), atol=1e-5)
    assert torch.allclose(flipped[1], plain[1], atol=1e-5)


def test_a_shift_moves_by_its_share_and_repeats_the_border():
    x = pictures()
    moved = augment(x, replace(neutral(3), right=np.full(3, 2 / 24), down=np.full(3, -1 / 24)), 24)
    plain = x.float() / 255
    assert torch.allclose(moved[:, :, :-1, 2:], plain[:, :, 1:, :-2], atol=1e-4)
    assert torch.allclose(moved[:, :, :-1, 0], plain[:, :, 1:, 0], atol=1e-4)
    assert torch.allclose(moved[:, :, -1, 2:], plain[:, :, -1, :-2], atol=1e-4)


def test_a_quarter_turn_is_counter_clockwise():
    x = pictures()
    turned = augment(x, replace(neutral(3), angle=np.full(3, 90.0)), 24)
    assert torch.allclose(turned, torch.rot90(x.float() / 255, 1, (2, 3)), atol=1e-4)


def test_brightness_is_a_factor_that_stops_at_white():
    x = pictures()
    bright = augment(x, replace(neutral(3), brightness=np.array([0.8, 1.0, 1.2])), 24)
    plain = x.float() / 255
    assert torch.allclose(bright[0], 0.8 * plain[0], atol=1e-5)
    assert torch.allclose(bright[2], (1.2 * plain[2]).clamp(max=1), atol=1e-5)
    assert bright.max() <= 1


def test_an_image_does_not_depend_on_its_companions():
    x, how = pictures(5), draw_parameters(AugmentSpec(), 5, 0, 0)
    one = AugmentParameters(
        *(getattr(how, name)[2:3] for name in ("angle", "right", "down", "brightness", "flip"))
    )
    assert torch.allclose(augment(x, how, 40)[2:3], augment(x[2:3], one, 40), atol=1e-6)


def test_each_image_has_parameters_of_its_own_within_the_ranges():
    how = draw_parameters(AugmentSpec(), 4000, 3, 7)
    for name, low, high in (
        ("angle", -15, 15),
        ("right", -0.1, 0.1),
        ("down", -0.1, 0.1),
        ("brightness", 0.8, 1.2),
    ):
        drawn = getattr(how, name)
        assert (
            low <= drawn.min() < low + 0.01 * (high - low)
            and high - 0.01 * (high - low) < drawn.max() <= high
        )
        assert len(np.unique(drawn)) == 4000
        assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert how.flip.mean() == pytest.approx(0.5, abs=0.03)
    assert not draw_parameters(AugmentSpec(flip=False), 50, 0, 0).flip.any()


def test_parameters_follow_seed_and_step():
    first, again, other = (draw_parameters(AugmentSpec(), 8, 1, step) for step in (2, 2, 3))
    assert np.array_equal(first.angle, again.angle) and not np.array_equal(first.angle, other.angle)


@pytest.mark.parity
def test_it_is_what_kerass_affine_transform_does():
    x, spec = pictures(6, seed=5), AugmentSpec(flip=False, brightness=(1.0, 1.0))
    how = draw_parameters(spec, 6, 11, 0)
    ours = augment(x, how, 24)[:, 0].numpy()
    for image, result, angle, right, down in zip(
        x[:, 0], ours, how.angle, how.right, how.down, strict=True
    ):
        expected = keras(image.numpy() / 255, angle, right, down)
        assert np.abs(result - expected).max() < 2e-3


def keras(image: np.ndarray, angle: float, right: float, down: float) -> np.ndarray:
    """Keras's apply_affine_transform in numpy and SciPy: (row, column) about the centre, order 1,
    nearest.
    """
    theta, (height, width) = np.deg2rad(angle), image.shape
    turn = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
    centre = np.array([height - 1, width - 1]) / 2
    moved = np.array([down * height, right * width])
    offset: Any = centre - turn @ (centre + moved)  # an array, whatever SciPy's stubs say
    return ndimage.affine_transform(image, turn, offset, order=1, mode="nearest")


# Optical flow


def arrows(right: int, down: int, size: int = 8) -> UInt8[Tensor, "1 3 h w"]:
    """One image whose points all moved alike, with a strain that grows to the right."""
    strain = torch.arange(size).expand(size, size) * 20
    return torch.stack(
        [torch.full((size, size), 128 + right), torch.full((size, size), 128 + down), strain]
    )[None].byte()


def change(images: UInt8[Tensor, "n 3 h w"], **changes: Any) -> Tensor:
    how = replace(neutral(len(images)), **{key: np.array([one]) for key, one in changes.items()})
    rests = find_resting_values(FLOW_CHANNELS)
    return augment(images, how, images.shape[2], rests, find_flow_pairs(FLOW_CHANNELS))[0] * 255


def test_a_mirrored_movement_to_the_right_is_one_to_the_left():
    right, down, strain = change(arrows(50, -30), flip=True)
    assert torch.allclose(right, torch.full((8, 8), 128.0 - 50), atol=1e-3)
    assert torch.allclose(down, torch.full((8, 8), 128.0 - 30), atol=1e-3)
    assert torch.allclose(strain, arrows(0, 0)[0, 2].float().flip(1), atol=1e-3)


@pytest.mark.parametrize(
    ("moved", "expected"), [((60, 0), (0, -60)), ((0, 60), (60, 0)), ((0, -60), (-60, 0))]
)
def test_a_quarter_turn_turns_the_movement_too(moved: tuple[int, int], expected: tuple[int, int]):
    """Counter-clockwise: what moved to the right moves up, and what moved down moves right."""
    right, down, _ = change(arrows(*moved), angle=90.0)
    assert torch.allclose(right, torch.full((8, 8), 128.0 + expected[0]), atol=1e-3)
    assert torch.allclose(down, torch.full((8, 8), 128.0 + expected[1]), atol=1e-3)


def test_a_face_that_is_mirrored_has_the_flow_of_the_mirrored_clip():
    """The flow of two mirrored frames is the mirrored flow of the frames."""
    y, x = np.mgrid[:64, :64]
    onset, apex = (
        (128 + 60 * np.sin(x / 5 + shift) * np.cos(y / 7)).astype(np.uint8) for shift in (0, -0.2)
    )
    shown = [show_flow(a, b, FlowSpec())[0] for a, b in ((onset, apex),)]
    mirrored = [show_flow(a[:, ::-1], b[:, ::-1], FlowSpec())[0] for a, b in ((onset, apex),)]
    found = change(torch.from_numpy(np.stack(shown)), flip=True)
    inner = np.s_[:, 16:-16, 16:-16]
    apart = np.abs(found.numpy()[inner] - mirrored[0][inner])
    unmirrored = np.abs(np.stack(shown)[0][..., ::-1][inner] - mirrored[0].astype(float)[inner])
    assert apart.mean() < 2 and unmirrored[0].mean() > 10


def test_brightness_does_not_change_a_flow():
    images = arrows(50, -30)
    assert torch.allclose(change(images, brightness=1.2), images[0].float(), atol=1e-3)


def test_the_flow_of_each_moment_of_a_clip_is_mirrored():
    shown = tuple(f"{name}-t{moment}" for moment in range(2) for name in FLOW_CHANNELS)
    assert find_flow_pairs(shown) == [(0, 1), (3, 4)]
    images = torch.cat([arrows(50, 0), arrows(-20, 0)], dim=1)
    how = replace(neutral(1), flip=np.array([True]))
    found = augment(images, how, 8, find_resting_values(shown), find_flow_pairs(shown))[0] * 255
    assert found[0].mean() == pytest.approx(78, abs=0.01)
    assert found[3].mean() == pytest.approx(148, abs=0.01)
