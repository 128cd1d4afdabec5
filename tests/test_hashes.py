"""Perceptual hashes of drawn faces: little changes leave them, other faces do not."""

import numpy as np
import pytest
from PIL import Image

from mien.hashes import NEAR_DUPLICATE_BITS, compute_perceptual_hash, hamming_distances
from mien.seeds import make_rng


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Blobs of light, as different from each other as faces are."""
    rough = make_rng("blobs").integers(0, 256, (40, 6, 6), dtype=np.uint8)
    pictures = [Image.fromarray(each).resize((48, 48), Image.Resampling.BICUBIC) for each in rough]
    return np.stack([np.asarray(picture)[None] for picture in pictures])


def test_equal_pictures_have_equal_hashes_whatever_stands_beside_them(faces: np.ndarray):
    assert compute_perceptual_hash(faces[7:8])[0] == compute_perceptual_hash(faces)[7]


@pytest.mark.parametrize("change", ["brighter", "noisy", "smaller"])
def test_a_small_change_moves_few_bits(faces: np.ndarray, change: str):
    if change == "brighter":
        changed = (faces * 0.8 + 20).astype(np.uint8)
    elif change == "noisy":
        changed = (
            (faces + make_rng("noise").normal(0, 3, faces.shape)).clip(0, 255).astype(np.uint8)
        )
    else:
        changed = np.stack(
            [np.asarray(Image.fromarray(face[0]).resize((36, 36)))[None] for face in faces]
        )
    apart = hamming_distances(compute_perceptual_hash(faces), compute_perceptual_hash(changed))
    assert np.diag(apart).max() <= NEAR_DUPLICATE_BITS


def test_other_pictures_are_half_of_the_bits_away(faces: np.ndarray):
    apart = hamming_distances(compute_perceptual_hash(faces), compute_perceptual_hash(faces))
    others = apart[~np.eye(len(faces), dtype=bool)]
    assert others.min() > NEAR_DUPLICATE_BITS and 28 < others.mean() < 36


def test_bits_apart_counts_bits():
    assert hamming_distances(
        np.array([0b1011], np.uint64), np.array([0b0001, 0b1011], np.uint64)
    ).tolist() == [[2, 0]]


def test_no_pictures_have_no_hashes():
    assert compute_perceptual_hash(np.zeros((0, 1, 48, 48), np.uint8)).shape == (0,)
