"""Inputs: each equals scikit-image's own, and stands for what it says."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.exposure import equalize_adapthist
from skimage.feature import hog as skimage_hog
from skimage.feature import local_binary_pattern
from skimage.filters import laplace
from skimage.util import compare_images

from mien.prepare.inputs import (
    INPUTS,
    MID_GREY,
    compute_clahe,
    compute_hog,
    compute_laplacian,
    compute_lbp,
    compute_onset_difference,
    find_resting_values,
    stack_inputs,
)

SHAPES = [(48, 48), (56, 40), (51, 30), (8, 8)]


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A picture with few sharp edges, as faces have."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return np.asarray(cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC))


PICTURES = [(make, shape) for make in (noise, smooth) for shape in SHAPES]


@pytest.mark.parity
@pytest.mark.parametrize("make, shape", PICTURES)
def test_laplacian_is_that_of_scikit_image(make, shape: tuple[int, int]):
    picture = make(shape)
    theirs = np.clip(MID_GREY + laplace(picture.astype(np.float64)), 0, 255)
    assert np.array_equal(compute_laplacian(picture), theirs.astype(np.uint8))


@pytest.mark.parity
@pytest.mark.parametrize("make, shape", PICTURES)
def test_local_binary_patterns_are_those_of_scikit_image(make, shape: tuple[int, int]):
    picture = make(shape)
    assert np.array_equal(compute_lbp(picture), local_binary_pattern(picture, 8, 1))


@pytest.mark.parity
@pytest.mark.parametrize("make, shape", PICTURES)
def test_hog_image_is_that_of_scikit_image(make, shape: tuple[int, int]):
    picture = make(shape)
    _, theirs = skimage_hog(picture, 9, (8, 8), (1, 1), visualize=True)
    ours = compute_hog(picture).astype(int)
    assert ours.max() == 255 and np.abs(ours - theirs / theirs.max() * 255).max() <= 0.51


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(4))
def test_contrast_is_evened_out_as_scikit_image_does_it(seed: int):
    low, high = smooth((64, 64), seed).min(), smooth((64, 64), seed).max()
    picture = ((smooth((64, 64), seed) - low) * (255.0 / (high - low))).round().astype(np.uint8)
    theirs = equalize_adapthist(picture, kernel_size=16, clip_limit=2 / 256, nbins=256) * 255
    # scikit-image stretches first, and cuts and pads a little otherwise
    ours = compute_clahe(picture)
    assert (
        np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.96 and np.abs(ours - theirs).mean() < 15
    )


def test_contrast_is_lifted_where_it_is_low_and_not_beyond_the_limit():
    low = smooth((64, 64)) // 8 + 100
    assert 1.3 * low.std() < compute_clahe(low).std() < 8 * low.std()
    assert np.ptp(compute_clahe(np.full((64, 64), 77, np.uint8))) == 0


@pytest.mark.parity
def test_difference_from_the_onset_is_that_of_scikit_image():
    one, other = smooth((48, 48), 1), smooth((48, 48), 2)
    shown = compute_onset_difference(one, other).astype(int)
    theirs = compare_images(one, other, method="diff") * 255
    inside = (shown > 0) & (shown < 255)
    assert inside.mean() > 0.3 and np.allclose(np.abs(shown - MID_GREY)[inside], theirs[inside])


def test_no_change_is_mid_grey_and_one_level_is_one_level():
    onset = smooth((48, 48)) // 2 + 60
    assert np.all(compute_onset_difference(onset, onset) == MID_GREY)
    lighter = onset.copy()
    lighter[10:20, 10:20] += 3
    shown = compute_onset_difference(lighter, onset)
    assert np.all(shown[10:20, 10:20] == MID_GREY + 3) and np.all(shown[:10] == MID_GREY)
    assert (
        compute_onset_difference(np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)).min()
        == 255
    )


def test_an_even_picture_has_no_edges_and_no_directions():
    even = np.full((48, 48), 90, np.uint8)
    assert np.all(compute_laplacian(even) == MID_GREY) and not compute_hog(even).any()
    assert np.all(compute_lbp(even)[1:-1, 1:-1] == 255)


def test_a_vertical_edge_gives_vertical_strokes():
    edge = np.zeros((48, 48), np.uint8)
    edge[:, 28:] = 200
    star = compute_hog(edge)[16:24, 24:32]
    rows, columns = np.nonzero(star == 255)
    assert np.ptp(rows) == 5 and np.ptp(columns) == 1


@pytest.mark.parametrize("name", ["hog", "lbp"])
def test_what_light_leaves_alone_stays_under_other_light(name: str):
    picture = smooth((48, 48)) // 3 * 2  # even numbers, so that half of the light loses nothing
    halved = (picture // 2).astype(np.uint8)
    one, other = (INPUTS[name].show(light, light).astype(int) for light in (picture, halved))
    assert np.mean(np.abs(one - other) <= 4) > 0.97
    assert INPUTS[name].rest is None


def test_inputs_stand_beside_each_other_in_the_order_asked_for():
    grey = np.stack([smooth((16, 16), seed) for seed in range(3)])
    onsets = np.stack([grey[0]] * 3)
    shown = stack_inputs(grey, onsets, ["hog", "gray", "onset-difference"])
    assert shown.shape == (3, 3, 16, 16) and np.array_equal(shown[:, 1], grey)
    assert np.all(shown[0, 2] == MID_GREY) and np.array_equal(shown[2, 0], compute_hog(grey[2]))
    assert find_resting_values(["hog", "gray", "onset-difference"]) == (None, 0, MID_GREY)
    assert find_resting_values(["red", "green", "blue"]) == (0, 0, 0)


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_keeps_the_size_and_leaves_the_image_alone(name: str):
    grey = smooth((24, 32))
    before = grey.copy()
    shown = INPUTS[name].show(grey, before)
    assert shown.shape == grey.shape and shown.dtype == np.uint8 and np.array_equal(grey, before)


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_depends_on_the_onset_frame_only_if_it_says_so(name: str):
    grey, one, other = (smooth((24, 32), seed) for seed in range(3))
    same = np.array_equal(INPUTS[name].show(grey, one), INPUTS[name].show(grey, other))
    assert same is not INPUTS[name].clips


@pytest.mark.parametrize("name", [name for name in INPUTS if INPUTS[name].rest is not None])
def test_half_the_light_halves_the_distance_from_the_value_that_rests(name: str):
    grey, onset = (smooth((24, 32), seed) // 8 * 2 + 90 for seed in range(2))
    rest = INPUTS[name].rest
    bright, dim = (
        INPUTS[name].show(grey // share, onset // share).astype(int) - rest for share in (1, 2)
    )
    assert np.ptp(bright) > 20 and np.abs(bright - 2 * dim).max() <= 8


def test_help_and_documentation_name_every_input():
    docs = Path(__file__).parent.parent / "docs"
    help_text = " ".join((docs / "cli.md").read_text(encoding="utf-8").split())
    assert f"comma-separated: {', '.join(INPUTS)}." in help_text
    table = (docs / "inputs.md").read_text(encoding="utf-8").partition("| input |")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [f"`{name}`" for name in INPUTS]
