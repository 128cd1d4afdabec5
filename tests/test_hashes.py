"""Perceptual hashes of drawn faces: little changes leave them, other faces do not."""

import numpy as np
import pytest
from PIL import Image

from mien.hashes import (
    NEAR_DUPLICATE_BITS,
    compute_hamming_distances,
    compute_perceptual_hash,
    count_bits_to_nearest,
    count_bits_to_nearest_other,
    hash_images,
)
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
    apart = compute_hamming_distances(
        compute_perceptual_hash(faces), compute_perceptual_hash(changed)
    )
    assert np.diag(apart).max() <= NEAR_DUPLICATE_BITS


def test_other_pictures_are_half_of_the_bits_away(faces: np.ndarray):
    apart = compute_hamming_distances(
        compute_perceptual_hash(faces), compute_perceptual_hash(faces)
    )
    others = apart[~np.eye(len(faces), dtype=bool)]
    assert others.min() > NEAR_DUPLICATE_BITS and 28 < others.mean() < 36


def test_bits_apart_counts_bits():
    assert compute_hamming_distances(
        np.array([0b1011], np.uint64), np.array([0b0001, 0b1011], np.uint64)
    ).tolist() == [[2, 0]]


def test_no_pictures_have_no_hashes():
    assert compute_perceptual_hash(np.zeros((0, 1, 48, 48), np.uint8)).shape == (0,)


def test_a_mirrored_picture_is_as_near_as_the_picture_itself(faces: np.ndarray):
    known = hash_images(faces[:20])
    assert not count_bits_to_nearest(faces[:20, :, :, ::-1], known).any()
    assert count_bits_to_nearest(faces[20:], known).min() > NEAR_DUPLICATE_BITS


def test_a_picture_is_not_its_own_nearest_other():
    hashes = np.array([0b1011, 0b0001, 0b0001, 0b1111], np.uint64)
    assert count_bits_to_nearest_other(hashes).tolist() == [1, 0, 0, 1]
    assert count_bits_to_nearest_other(hashes[:1]).tolist() == [65]


def test_more_pictures_than_are_hashed_at_once_have_the_same_hashes(faces: np.ndarray):
    many = np.concatenate([faces] * 30)
    assert (hash_images(many) == np.tile(hash_images(faces), 30)).all()
    assert not count_bits_to_nearest(many, hash_images(faces)).any()
    assert not count_bits_to_nearest_other(hash_images(many)).any()
