"""Perceptual hashes: 64 bits of a picture that small changes hardly affect."""

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import Image

# Pixels per side before the cosine transform, and frequencies per side that are kept.
HASH_IMAGE_PIXELS, HASH_FREQUENCIES = 32, 8

NEAR_DUPLICATE_BITS = 4  # the largest distance, in bits of 64, between near duplicates

IMAGES_HASHED_AT_ONCE = 1024  # images whose cosine transforms are in memory at once

HASHES_COMPARED_AT_ONCE = 512  # hashes that are compared with all others at once


def compute_perceptual_hash(images: UInt8[np.ndarray, "n c h w"]) -> UInt64[np.ndarray, " n"]:
    """Return the 64-bit hash of each image.

    A bit says whether a low frequency of the cosine transform is above their median, as in pHash
    (Zauner 2010, section 3.2.1): grey, 32 x 32, DCT-II, frequencies 1 to 8 of either axis.
    """
    if not len(images):
        return np.zeros(0, dtype=np.uint64)
    waves = _compute_cosine_rows()
    low = (waves @ _shrink(images) @ waves.T).reshape(len(images), -1)
    bits = (low > np.median(low, axis=1, keepdims=True)).astype(np.uint64)
    return (bits << np.arange(HASH_FREQUENCIES * HASH_FREQUENCIES, dtype=np.uint64)).sum(
        axis=1, dtype=np.uint64
    )


def compute_hamming_distances(
    a: UInt64[np.ndarray, " m"], b: UInt64[np.ndarray, " n"]
) -> UInt8[np.ndarray, "m n"]:
    """Return the Hamming distances of two lists of hashes, 0 to 64."""
    return np.bitwise_count(a[:, None] ^ b[None])


def hash_images(images: UInt8[np.ndarray, "n c h w"]) -> UInt64[np.ndarray, " n"]:
    """Return the hash of each of many images, in bounded memory."""
    hashes = [
        compute_perceptual_hash(np.asarray(images[first : first + IMAGES_HASHED_AT_ONCE]))
        for first in range(0, len(images), IMAGES_HASHED_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *hashes])


def count_bits_to_nearest(
    images: UInt8[np.ndarray, "n c h w"], hashes: UInt64[np.ndarray, " m"]
) -> UInt8[np.ndarray, " n"]:
    """Return the bits between each image's hash, mirrored or not, and the nearest known hash.

    `hashes` must not be empty.
    """
    views = [hash_images(images), hash_images(images[:, :, :, ::-1])]
    least = [np.zeros(0, dtype=np.uint8)]
    for first in range(0, len(images), HASHES_COMPARED_AT_ONCE):
        batch = slice(first, first + HASHES_COMPARED_AT_ONCE)
        least.append(
            np.minimum(
                *(compute_hamming_distances(view[batch], hashes).min(axis=1) for view in views)
            )
        )
    return np.concatenate(least)


def count_bits_to_nearest_other(hashes: UInt64[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Return the bits between each hash and the nearest other one; 65 if there is no other."""
    least = [np.zeros(0, dtype=np.uint8)]
    for first in range(0, len(hashes), HASHES_COMPARED_AT_ONCE):
        bits = compute_hamming_distances(hashes[first : first + HASHES_COMPARED_AT_ONCE], hashes)
        bits[np.arange(len(bits)), first + np.arange(len(bits))] = 65
        least.append(bits.min(axis=1))
    return np.concatenate(least)


def _shrink(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n side side"]:
    """Return grey images at 32 x 32, equal to those that Pillow resizes one by one."""
    grey = images[:, 0] if images.shape[1] == 1 else images.mean(axis=1).astype(np.uint8)
    return _narrow(_narrow(grey).swapaxes(1, 2)).swapaxes(1, 2).astype(np.float64)


def _narrow(images: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h side"]:
    """Return images 32 pixels wide.

    Pillow resizes all of them as one tall picture, which is ten times as fast as one by one.
    """
    n, height, _ = images.shape
    stacked = Image.fromarray(images.reshape(n * height, -1))
    return np.asarray(
        stacked.resize((HASH_IMAGE_PIXELS, n * height), Image.Resampling.BILINEAR)
    ).reshape(n, height, HASH_IMAGE_PIXELS)


def _compute_cosine_rows() -> np.ndarray:
    """Return the rows of the DCT-II matrix for frequencies 1 to KEPT.

    Without frequency 0, a change of brightness has no effect.
    """
    angles = (2 * np.arange(HASH_IMAGE_PIXELS) + 1) * np.pi / (2 * HASH_IMAGE_PIXELS)
    return np.cos(np.arange(1, HASH_FREQUENCIES + 1)[:, None] * angles[None])
