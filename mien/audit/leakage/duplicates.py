"""Near duplicates: one picture in both sets, moved, noisy, relit or mirrored.

Candidates come from perceptual hashes and from the nearest neighbours among small pictures; the
pixels decide.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

from mien.faces import Faces, find_first_known
from mien.hashes import NEAR_DUPLICATE_BITS, compute_hamming_distances, compute_perceptual_hash

DUPLICATE_BLOCK_IMAGES = 512  # pictures or pairs that are compared together

DUPLICATE_DISTANCES = 2**23  # distances in memory at once

# of 64, up to which pixels are compared: a move by a pixel changes six to ten
MAX_HASH_BITS = 2 * NEAR_DUPLICATE_BITS

CANDIDATES_BY_HASH = 4  # candidates per picture by its hash, the nearest first

# candidates by small pictures: other frames of the clip may be nearer than a moved copy
CANDIDATES_BY_PIXELS = 3

# pixels per side of small pictures, and of those whose pixels are compared
THUMB_WIDTH, DUPLICATE_WIDTH = (16, 48)

DUPLICATE_MOVE_PIXELS = 2  # pixels of LOOK by which a picture may be moved

# with at least so many people, their mean face is subtracted before the comparison
MIN_PEOPLE_FOR_MEAN_FACE = 5

# correlation from which two are one picture: with similar hashes, and without
NEAR_CORRELATION, NEAR_CORRELATION_UNHASHED = 0.85, 0.94

# correlation of small pictures from which two of one person count as neighbouring frames
NEIGHBOURING_FRAMES_CORRELATION = 0.98

DUPLICATE_COLUMNS = {
    "test": "str",
    "train": "str",
    "kind": "str",  # exact or near
    "mirrored": "bool",
    "bits": "int64",  # between the hashes
    "correlation": "float64",
    "test_subject": "str",
    "train_subject": "str",
}


def find_duplicates(
    test: Faces, train: Faces, other_people: bool = False, near: bool = True
) -> pd.DataFrame:
    """Return the pairs of a test and a training image that are one picture (COLUMNS).

    Exact duplicates have equal pixels (sha256); each test image is listed with the first of them.
    Near duplicates have hashes at most 8 bits apart and a correlation of at least 0.85, or are
    among the nearest three with at least 0.94; the training image may be mirrored. The correlation
    is of pixels at 48 x 48 in grey, over moves by up to 2 pixels in each direction, after each
    picture is brought to the same brightness and contrast and the mean face of all people is
    subtracted: aligned faces of strangers correlate highly by the mean face alone. Up to 7 pairs
    per test image and mirroring are kept.

    With `other_people`, only pairs of two known, different subjects are compared; without `near`,
    only exact duplicates are, which costs next to nothing. Memory is bounded: up to 512 test images
    are compared at a time. The order of the rows has no influence.
    """
    # Equal pixels
    test, train = sort_by_key(test), sort_by_key(train)
    if not len(test) or not len(train):
        return _make_table([])
    exact = _find_exact(test, train, other_people)
    if not near:
        return _make_table(_add_names(exact, test, train))

    # Other candidates, decided by their pixels
    pairs = _find_candidates(test, train, other_people)
    pairs = pairs[~pairs.set_index(["a", "b"]).index.isin(exact.set_index(["a", "b"]).index)]
    near_pairs = pairs.assign(correlation=_correlate_pairs(test, train, pairs), kind="near")
    least = np.where(
        near_pairs["bits"] <= MAX_HASH_BITS, NEAR_CORRELATION, NEAR_CORRELATION_UNHASHED
    )
    accepted = pd.concat([exact, near_pairs[near_pairs["correlation"] >= least]], ignore_index=True)
    accepted = accepted.sort_values(
        ["a", "correlation", "b"], ascending=[True, False, True], ignore_index=True
    )
    return _make_table(_add_names(accepted.drop_duplicates(["a", "b"]), test, train))


def sort_by_key(faces: Faces) -> Faces:
    """Return the faces in the order of their keys."""
    return faces.select(np.argsort(faces.index["key"].to_numpy(), kind="stable"))


def make_thumbs(
    images: UInt8[np.ndarray, "n c h w"], mirrored: bool = False
) -> Float[np.ndarray, "n d"]:
    """Return the images in grey at 16 x 16, float32 [n, 256], each with mean 0 and length 1."""
    return _standardise(_resize_grey(images, THUMB_WIDTH, mirrored))


def _find_exact(test: Faces, train: Faces, other_people: bool) -> pd.DataFrame:
    """Return the pairs with equal pixels as positions in `test` (a) and in `train` (b).

    The other columns hold what is the same for all such pairs.
    """
    sides = {
        "a": pd.DataFrame(
            {
                "a": np.arange(len(test)),
                "sha256": test.index["sha256"],
                "who": test.index["subject"],
            }
        ),
        "b": pd.DataFrame(
            {
                "b": np.arange(len(train)),
                "sha256": train.index["sha256"],
                "who": train.index["subject"],
            }
        ),
    }

    # The first training image with the same pixels, per person if asked for
    columns = ["sha256", "who"] if other_people else ["sha256"]
    first = sides["b"].drop_duplicates(columns)
    pairs = sides["a"].merge(first, on="sha256", suffixes=("", "_b"))
    if other_people:
        pairs = pairs[
            (pairs["who"] != pairs["who_b"]) & (pairs["who"] != "") & (pairs["who_b"] != "")
        ]
    same_size = test.size == train.size
    return pairs[["a", "b"]].assign(bits=0, mirrored=False, correlation=1.0, kind="exact")[
        : None if same_size else 0
    ]


def _find_candidates(test: Faces, train: Faces, other_people: bool) -> pd.DataFrame:
    """Return the pairs whose pixels are worth comparing: a, b, bits, mirrored."""
    hashes, small = compute_perceptual_hash(np.asarray(train.images)), make_thumbs(train.images)
    people = [faces.index["subject"].to_numpy() for faces in (test, train)]
    candidates = []
    rows_at_once = max(1, min(DUPLICATE_BLOCK_IMAGES, DUPLICATE_DISTANCES // len(train)))

    # Compare a block of test images with all training images, as they are and mirrored
    for first in range(0, len(test), rows_at_once):
        rows = slice(first, first + rows_at_once)
        barred = _bar_same_person(people[0][rows], people[1]) if other_people else None
        for mirrored in (False, True):
            images = np.asarray(test.images[rows])
            images = images[..., ::-1] if mirrored else images
            bits = compute_hamming_distances(compute_perceptual_hash(images), hashes)
            far = -(make_thumbs(images) @ small.T)
            if barred is not None:
                bits[barred], far[barred] = 65, 2
            candidates += [
                (first + a, b, int(bits[a, b]), mirrored) for a, b in _choose_pairs(bits, far)
            ]
    return pd.DataFrame(candidates, columns=["a", "b", "bits", "mirrored"])


def _bar_same_person(
    test: Shaped[np.ndarray, " m"], train: Shaped[np.ndarray, " n"]
) -> Bool[np.ndarray, "m n"]:
    """Return which pairs may not be compared: those of one person, or of an unknown one."""
    return (test[:, None] == train[None]) | (test == "")[:, None] | (train == "")[None]


def _choose_pairs(
    bits: UInt8[np.ndarray, "m n"], far: Float[np.ndarray, "m n"]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs with the nearest hashes, and with each row's nearest neighbours.

    `far` is overwritten.
    """
    for a, (row, distances) in enumerate(zip(bits, far, strict=True)):
        chosen = np.flatnonzero(row <= MAX_HASH_BITS)
        # Of equal hashes, the first counts
        chosen = set(chosen[np.argsort(row[chosen], kind="stable")[:CANDIDATES_BY_HASH]].tolist())
        for _ in range(CANDIDATES_BY_PIXELS):
            b = int(distances.argmin())
            if distances[b] <= 1:  # barred pairs are farther away
                chosen.add(b)
                distances[b] = np.inf
        yield from ((a, b) for b in sorted(chosen))


def _correlate_pairs(test: Faces, train: Faces, pairs: pd.DataFrame) -> Float[np.ndarray, " p"]:
    """Return the highest correlation of each pair over small moves."""
    common = _average_face(test, train)
    inner = slice(DUPLICATE_MOVE_PIXELS, DUPLICATE_WIDTH - DUPLICATE_MOVE_PIXELS)
    correlations = np.zeros(len(pairs))
    for first in range(0, len(pairs), DUPLICATE_BLOCK_IMAGES):
        # Both pictures of each pair, in one order
        batch = pairs.iloc[first : first + DUPLICATE_BLOCK_IMAGES]
        a = np.concatenate(
            [
                _read_standardised(test, batch[batch["mirrored"] == mirrored]["a"], mirrored)
                for mirrored in (False, True)
            ]
        )
        order = np.argsort(batch["mirrored"].to_numpy(), kind="stable")
        b = _read_standardised(train, batch["b"].iloc[order], False)
        fixed = _standardise((b - common)[:, inner, inner].reshape(len(b), -1))

        # The best correlation over all moves
        best = np.full(len(batch), -1.0)
        for y in range(2 * DUPLICATE_MOVE_PIXELS + 1):
            for x in range(2 * DUPLICATE_MOVE_PIXELS + 1):
                moved = (
                    a[
                        :,
                        y : y + DUPLICATE_WIDTH - 2 * DUPLICATE_MOVE_PIXELS,
                        x : x + DUPLICATE_WIDTH - 2 * DUPLICATE_MOVE_PIXELS,
                    ]
                    - common[inner, inner]
                )
                best = np.maximum(best, _correlate_rows(moved.reshape(len(a), -1), fixed))
        correlations[first + order] = best
    return correlations


def _correlate_rows(
    rows: Float[np.ndarray, "n d"], fixed: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " n"]:
    """Return the correlation of each row with its partner, which has mean 0 and length 1 (or 0)."""
    squares = np.einsum("ij,ij->i", rows, rows) - np.square(rows.sum(axis=1)) / rows.shape[1]
    return np.einsum("ij,ij->i", rows, fixed) / np.sqrt(np.maximum(squares, 1e-6))


def _average_face(test: Faces, train: Faces) -> Float[np.ndarray, "h w"]:
    """Return the mean face of the people, weighted equally; black if they are too few."""
    sums: dict[str, tuple[np.ndarray, int]] = {}
    for faces in (test, train):
        people = find_first_known(faces.index, "subject", "key").to_numpy()
        for first in range(0, len(faces), DUPLICATE_BLOCK_IMAGES):
            looks = _read_standardised(
                faces, np.arange(first, min(first + DUPLICATE_BLOCK_IMAGES, len(faces))), False
            )
            for person, look in zip(
                people[first : first + DUPLICATE_BLOCK_IMAGES], looks, strict=True
            ):
                total, n = sums.get(person, (0, 0))
                sums[person] = (total + look, n + 1)
    if len(sums) < MIN_PEOPLE_FOR_MEAN_FACE:
        return np.zeros((DUPLICATE_WIDTH, DUPLICATE_WIDTH), np.float32)
    return np.stack([total / n for total, n in sums.values()]).mean(axis=0).astype(np.float32)


def _read_standardised(
    faces: Faces, positions: "pd.Series | np.ndarray", mirrored: bool
) -> Float[np.ndarray, "n h w"]:
    rows = np.asarray(positions, dtype=np.int64)
    return _standardise(_resize_grey(faces.images[rows], DUPLICATE_WIDTH, mirrored)).reshape(
        len(rows), DUPLICATE_WIDTH, DUPLICATE_WIDTH
    )


def _resize_grey(
    images: UInt8[np.ndarray, "n c h w"], width: int, mirrored: bool
) -> Float[np.ndarray, "n d"]:
    grey_rows = np.zeros((len(images), width * width), np.float32)
    for row, image in enumerate(np.asarray(images)):
        grey = image[0] if len(image) == 1 else image.mean(axis=0).astype(np.uint8)
        if grey.shape != (width, width):
            grey = np.asarray(
                Image.fromarray(grey).resize((width, width), Image.Resampling.BILINEAR)
            )
        grey_rows[row] = (grey[:, ::-1] if mirrored else grey).ravel()
    return grey_rows


def _standardise(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return rows of mean 0 and length 1; a constant row becomes 0 and correlates with nothing."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-3)


def _add_names(pairs: pd.DataFrame, test: Faces, train: Faces) -> pd.DataFrame:
    test_rows, train_rows = (
        test.index.iloc[pairs["a"].to_list()],
        train.index.iloc[pairs["b"].to_list()],
    )
    names = {
        "test": test_rows["key"],
        "train": train_rows["key"],
        "test_subject": test_rows["subject"],
        "train_subject": train_rows["subject"],
    }
    return pairs.assign(**{name: values.to_numpy() for name, values in names.items()})


def _make_table(pairs: "pd.DataFrame | list[object]") -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=list(DUPLICATE_COLUMNS)).astype(DUPLICATE_COLUMNS)
