"""What counts as a copy, also changed, and which images of a set are copies.

Two pictures are the same if their detail (everything finer than the light on a face) is the same
after one is shifted onto the other. So a copy is found even if it was resized, mirrored, shifted by
some pixels, encoded again, or has a little noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image

from mien.audit.inverted_lists import EXACT_ROWS, NEAREST_LISTS, InvertedLists, choose_nearest_lists
from mien.audit.memorisation.search import MATCH_WIDTH, iterate_least_distances, soften
from mien.faces import Faces, name_distinct_units

MIN_COPY_PIXELS = 12  # pixels per side; smaller pictures are copies only if their pixels are equal

SMALL_COPY_PIXELS = 24  # pixels per side; smaller pictures are copies only if almost equal

# pixels, of a picture 48 wide, that are left out on all sides, so that it can shift by as many
BORDER_PIXELS = 6

# waves per side that count as light and are removed: brightness changes no finer waves
LIGHT_WAVES = 3

COARSE_WAVES = 8  # waves per side in the coarse pass

FINE_WAVES = 16  # waves per side in the second pass

# real images of a block on which all whole-pixel shifts are tried, for each image
CANDIDATES_PER_IMAGE = 48

# the same in a large block of real images, which has more images that are alike
CANDIDATES_IN_LISTS = 192

FINALISTS_PER_IMAGE = 3  # real images on which half-pixel shifts are tried, for each image

SHIFTED_IMAGES_AT_ONCE = 32  # images whose shifts are tried together

COARSE_LIKENESS = 0.7  # likeness in the coarse pass from which two pictures are compared in full

# a copy's likeness may be less than 1 by this much: at most, at least
MAX_LIKENESS_GAP, MIN_LIKENESS_GAP = (0.05, 0.002)

# a copy's distance from likeness 1, over that of the likest image of another clip
MAX_GAP_RATIO = 0.25

ROUGH_LIKENESS = 0.88  # likeness from which other resizing filters are tried on the original

BLANK_DEVIATION = 1.5 / 255  # deviation of the detail below which a picture counts as blank

COPY_BLOCK_IMAGES = 8192  # images per side that are compared together

LISTED_BLOCK_IMAGES = 2**17  # real images that are compared together if they are in inverted lists

PAIRS_AT_ONCE = 256  # pairs that are compared in full together

BARRED_DISTANCE = np.float32(9)  # more than any squared distance of rows of length 1

BarredClips = tuple[np.ndarray, np.ndarray]
"""The clips of the images of two blocks: images of one clip are not compared."""

COPY_COLUMNS = {
    "image": "str",
    "original": "str",
    "kind": "str",
    "likeness": "float64",
    "mirrored": "bool",
    "down": "float64",
    "right": "float64",
}


def find_copies(synthetic: Faces, real: Faces) -> pd.DataFrame:
    """Return the images of `synthetic` that are images of `real`: one row each, with its best
    original.

    Columns: image and original, their keys; kind: `exact` (equal pixels), else the differences, of
    `recoloured`, `resized`, `mirrored`, `moved`, with commas, or `altered` if it is none of
    these (encoded again, noise, light); likeness, 1 for equal pictures; the image fits its original
    after it is mirrored, if `mirrored`, and then shifted by (`down`, `right`) pixels of a picture
    48 wide.

    Sizes and channels may differ: both are compared in grey, at the smaller size, at most 48 pixels
    per side. Likeness is the correlation of everything finer than the light on a face, over shifts
    by up to about a tenth of a side. An image is a copy if its likeness is less than 1 by no more
    than a quarter of the same gap of the likest image of any other clip (which the original is
    compared with in the same way), and by no more than 0.05 (0.002 below 24 pixels per side); it is
    always a copy if the gap is no more than 0.002. So `real` itself shows how alike people are.
    Pictures of less than 12 pixels per side are copies only if their pixels are equal. Memory is
    bounded, and the order of rows has no influence.
    """
    # Equal pixels first; the others need enough pixels
    exact = _find_exact(synthetic, real)
    remaining = np.flatnonzero(~synthetic.index["key"].isin(exact["image"]).to_numpy())
    form = tuple(
        min(MATCH_WIDTH, *sides) for sides in zip(synthetic.size[1:], real.size[1:], strict=True)
    )
    if not len(remaining) or not len(real) or min(form) < MIN_COPY_PIXELS:
        return exact

    # The likest real image of each image, if it is like enough
    alignment = Alignment(*form)
    synthetic_channels, real_channels = _find_common_channels(synthetic, real)
    pictures = _Pictures(synthetic, alignment, synthetic_channels, remaining)
    originals = _Pictures(real, alignment, real_channels)
    pairs = _find_likest(pictures, originals)
    max_gap = MAX_LIKENESS_GAP if min(form) >= SMALL_COPY_PIXELS else MIN_LIKENESS_GAP
    pairs = pairs[pairs["likeness"] >= 1 - max_gap]

    # A copy is more like its original than pictures of other clips are
    if len(pairs):
        gaps = _compute_allowed_gaps(pairs["b"].to_numpy(), originals)
        pairs = pairs[pairs["likeness"] >= 1 - gaps]
    return _merge_tables(exact, pairs, synthetic, real)


def _compute_allowed_gaps(
    positions: Int[np.ndarray, " n"], real: "_Pictures"
) -> Float[np.ndarray, " n"]:
    """Return how far below 1 the likeness of a copy of each of these real images may be."""
    # The likest image of another clip
    originals, original_number = np.unique(positions, return_inverse=True)
    clips = np.unique(name_distinct_units(real.faces.index, "clip"), return_inverse=True)[1]
    likest = _find_likest(
        _Pictures(real.faces, real.alignment, real.channels, originals), real, clips
    )

    # A share of its distance from 1, within limits
    likeness_of = (
        pd.Series(likest["likeness"].to_numpy(), likest["a"].to_numpy())
        .reindex(originals)
        .fillna(-1.0)
        .to_numpy()
    )
    return np.clip((1 - likeness_of) * MAX_GAP_RATIO, MIN_LIKENESS_GAP, MAX_LIKENESS_GAP)[
        original_number
    ]


@dataclass(frozen=True)
class Alignment:
    """How pictures of `height` and `width` pixels are shifted onto each other."""

    height: int
    width: int

    @property
    def border(self) -> int:
        """Pixels that are left out on all sides."""
        return max(2, round(min(self.height, self.width) * BORDER_PIXELS / MATCH_WIDTH))

    @property
    def coarse_shifts(self) -> list[tuple[int, int]]:
        """Shifts two pixels apart.

        Every shift within the border is within a pixel of one of these, except for the last pixel.
        """
        farthest = (self.border - 1) // 2 * 2
        steps = range(-farthest, farthest + 1, 2)
        return [(down, right) for down in steps for right in steps]

    @property
    def whole_shifts(self) -> list[tuple[int, int]]:
        """All shifts within the border, by whole pixels."""
        steps = range(1 - self.border, self.border)
        return [(down, right) for down in steps for right in steps]

    def cut_border(
        self, soft: Float32[np.ndarray, "n height width"], down: int = 0, right: int = 0
    ) -> Float32[np.ndarray, "n h w"]:
        """Return pictures without their border, shifted by (`down`, `right`) pixels."""
        rim = self.border
        return soft[
            :, rim - down : self.height - rim - down, rim - right : self.width - rim - right
        ]


def _describe_by_waves(
    inside: Float32[np.ndarray, "n h w"], count: int
) -> Float32[np.ndarray, "n k"]:
    """Return the first `count` waves per side, without light, as rows of length 1.

    Rows of blank pictures are 0.
    """
    _, height, width = inside.shape
    waves = _make_cosine_matrix(height, count) @ inside @ _make_cosine_matrix(width, count).T
    waves[:, :LIGHT_WAVES, :LIGHT_WAVES] = 0
    return _normalise_rows(waves, BLANK_DEVIATION / 2 * (height * width) ** 0.5)


def _describe_by_pixels(inside: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n d"]:
    """Return pictures without their light as rows of length 1; rows of blank pictures are 0."""
    _, height, width = inside.shape
    down, across = _make_cosine_matrix(height, LIGHT_WAVES), _make_cosine_matrix(width, LIGHT_WAVES)
    detail = inside - down.T @ (down @ inside @ across.T) @ across
    return _normalise_rows(detail, BLANK_DEVIATION * (height * width) ** 0.5)


def _normalise_rows(
    pictures: Float32[np.ndarray, "n h w"], least: float
) -> Float32[np.ndarray, "n d"]:
    """Return pictures as rows of length 1; rows shorter than `least` become zero."""
    rows = pictures.reshape(len(pictures), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths < least, np.float32(0), rows / np.maximum(lengths, np.float32(1e-9)))


@lru_cache(maxsize=64)
def _make_cosine_matrix(length: int, count: int) -> Float32[np.ndarray, "count length"]:
    """Return the first rows of the orthonormal DCT-II matrix."""
    angles = (2 * np.arange(length) + 1) * np.pi / (2 * length)
    rows = np.cos(np.arange(min(count, length))[:, None] * angles[None]) * (2 / length) ** 0.5
    rows[0] /= 2**0.5
    return rows.astype(np.float32)


class _Pictures:
    """Images of a set, at `positions` in it, in the form in which they are compared."""

    def __init__(
        self,
        faces: Faces,
        alignment: Alignment,
        channels: Sequence[int],
        positions: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        self.faces, self.alignment, self.channels = faces, alignment, channels
        if positions is None:
            self.positions = np.arange(len(faces))
        else:  # in the order of their keys
            keys = faces.index["key"].to_numpy()[positions]
            self.positions = positions[np.argsort(keys, kind="stable")]

    def __len__(self) -> int:
        return len(self.positions)

    def soften(self, positions: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n height width"]:
        """Return the images at some positions of the set in the form in which they are compared."""
        form = self.alignment.height, self.alignment.width
        blocks = [
            soften(self.read_grey(positions[first : first + 512])[:, None], form)
            for first in range(0, max(1, len(positions)), 512)
        ]
        return np.concatenate(blocks)

    def read_grey(self, positions: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n h w"]:
        """Return the images at some positions of the set in grey, at their own size."""
        return compute_luminance(np.asarray(self.faces.images[positions])[:, list(self.channels)])


def compute_luminance(images: UInt8[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Return images in grey: the luma of red, green and blue (ITU-R 601), else the mean.

    A single channel is returned as it is; of other channels the mean is taken.
    """
    if images.shape[1] == 1:
        return images[:, 0]
    weights = (
        (0.299, 0.587, 0.114) if images.shape[1] == 3 else (1 / images.shape[1],) * images.shape[1]
    )
    return np.tensordot(images, np.array(weights, np.float32), (1, 0)).round().astype(np.uint8)


def _find_common_channels(synthetic: Faces, real: Faces) -> tuple[list[int], list[int]]:
    """Return the channels of both sides that are compared: those that both show, else all."""
    shared = [name for name in synthetic.shown if name in real.shown]
    if synthetic.shown == real.shown or not shared:
        return [*range(synthetic.size[0])], [*range(real.size[0])]
    return [synthetic.shown.index(name) for name in shared], [
        real.shown.index(name) for name in shared
    ]


# Searching


def _find_likest(
    synthetic: _Pictures, real: _Pictures, clips: Int[np.ndarray, " n"] | None = None
) -> pd.DataFrame:
    """Return the likest real image of each image, and how the image fits it.

    Columns: a, the image's position; b, the real image's; likeness, mirrored, down and right.
    Images without a likely candidate are left out. A coarse pass lists real images for each image,
    as it is and mirrored; on these all shifts are tried. If `clips` names the clip of each image of
    the set, both sides are of this set, and images of one clip are not compared.
    """
    # Compare each block with each block, as it is and mirrored
    tables = [_make_empty_pairs()]
    for originals in _prepare_originals(real):
        for positions in _split_positions(synthetic.positions, COPY_BLOCK_IMAGES):
            images = synthetic.soften(positions)
            barred = None if clips is None else (clips[positions], clips[originals.positions])
            for mirrored in (False, True):
                view = np.ascontiguousarray(images[:, :, ::-1]) if mirrored else images
                fitted = _fit_to_real(view, originals, synthetic.alignment, barred)
                positions_in_set = {
                    "a": positions[fitted["a"]],
                    "b": originals.positions[fitted["b"]],
                }
                tables.append(fitted.assign(**positions_in_set, mirrored=mirrored))

    # Try rough filters on the likest pairs of all blocks
    best = _keep_best(pd.concat(tables, ignore_index=True), real, FINALISTS_PER_IMAGE)
    return _keep_best(_try_rough_filters(best, synthetic, real), real, 1)


def _split_positions(positions: Int[np.ndarray, " n"], size: int) -> list[Int[np.ndarray, " _"]]:
    """Return the positions in blocks of images that are compared together."""
    return [positions[first : first + size] for first in range(0, len(positions), size)]


@dataclass(frozen=True)
class _Originals:
    """A block of real images, at `positions` in their set, as few and as more waves.

    If the set is large, `lists` holds the few waves in inverted lists.
    """

    real: _Pictures
    positions: Int[np.ndarray, " n"]
    coarse: Float32[np.ndarray, "n k"]
    fine: Float32[np.ndarray, "n k2"]
    lists: InvertedLists | None

    def soften(self, numbers: Int[np.ndarray, " p"]) -> Float32[np.ndarray, "p height width"]:
        """Return images of the block in the form in which they are compared."""
        needed, number = np.unique(numbers, return_inverse=True)
        return self.real.soften(self.positions[needed])[number]


def _prepare_originals(real: _Pictures) -> Iterator[_Originals]:
    """Yield the real images in blocks: small ones, all of whose images are compared, or large ones
    in inverted lists.
    """
    is_large = len(real) > EXACT_ROWS
    size = LISTED_BLOCK_IMAGES if is_large else COPY_BLOCK_IMAGES
    for positions in _split_positions(real.positions, size):
        waves = []
        for batch in _split_positions(positions, COPY_BLOCK_IMAGES):
            inside = real.alignment.cut_border(real.soften(batch))
            waves.append([_describe_by_waves(inside, n) for n in (COARSE_WAVES, FINE_WAVES)])
        coarse, fine = (np.concatenate(blocks) for blocks in zip(*waves, strict=True))
        lists = InvertedLists.make(coarse) if is_large else None
        yield _Originals(real, positions, coarse, fine, lists)


def _keep_best(ranked: pd.DataFrame, real: _Pictures, count: int) -> pd.DataFrame:
    """Return the likest `count` pairs of each image; of equal likeness, the first by key."""
    keys = real.faces.index["key"].to_numpy()[ranked["b"].to_numpy(dtype=np.int64)]
    ranked = ranked.assign(key=keys).sort_values(
        ["a", "likeness", "key"], ascending=[True, False, True], kind="stable"
    )
    return ranked.groupby("a").head(count).drop(columns="key").reset_index(drop=True)


def _fit_to_real(
    queries: Float32[np.ndarray, "m height width"],
    originals: _Originals,
    alignment: Alignment,
    barred: BarredClips | None,
) -> pd.DataFrame:
    """Return the likest real images of each image, and how it fits them, to half a pixel."""
    # Few waves and shifts on all real images
    listed = _list_candidates(queries, originals, alignment, barred)

    # All whole-pixel shifts on the listed images, then half pixels on the best of these
    tables = [_make_empty_pairs()]
    for batch in _split_rows(len(listed), SHIFTED_IMAGES_AT_ONCE):
        pairs, shifts = _try_shifts(queries, originals.fine, listed[batch], alignment)
        for chunk in _split_rows(len(pairs), PAIRS_AT_ONCE):
            images, numbers = pairs[chunk].T
            likeness, fitted_shifts = _fit_by_half_pixels(
                queries[images], originals.soften(numbers), shifts[chunk], alignment
            )
            columns = {"mirrored": False, "down": fitted_shifts[:, 0], "right": fitted_shifts[:, 1]}
            tables.append(
                pd.DataFrame({"a": images, "b": numbers, "likeness": likeness, **columns})
            )
    return pd.concat(tables, ignore_index=True)


def _try_shifts(
    queries: Float32[np.ndarray, "m height width"],
    real_waves: Float32[np.ndarray, "n k"],
    listed: Int[np.ndarray, "i l1"],
    alignment: Alignment,
) -> tuple[Int[np.ndarray, "p 2"], Int[np.ndarray, "p 2"]]:
    """Return the pairs of images and likest listed ones, with the shift by which they fit best.

    A row of `listed` holds the position of an image, and those of the real images listed for it.
    """
    # The likeness of each listed image under every shift
    images, candidates = listed[:, 0], listed[:, 1:]
    shifts = np.array(alignment.whole_shifts)
    views = [
        _describe_by_waves(alignment.cut_border(queries[images], *shift), FINE_WAVES)
        for shift in alignment.whole_shifts
    ]
    likeness = np.stack(views, axis=1) @ real_waves[candidates].transpose(0, 2, 1)

    # The best shift for each, and the best of them
    shift, best = likeness.argmax(axis=1), likeness.max(axis=1)
    order = np.argsort(-best, axis=1, kind="stable")[:, :FINALISTS_PER_IMAGE]
    pairs = [
        np.repeat(images, order.shape[1]),
        np.take_along_axis(candidates, order, axis=1).reshape(-1),
    ]
    return np.stack(pairs, axis=1), shifts[np.take_along_axis(shift, order, axis=1).reshape(-1)]


def _list_candidates(
    queries: Float32[np.ndarray, "m height width"],
    originals: _Originals,
    alignment: Alignment,
    barred: BarredClips | None,
) -> Int[np.ndarray, "i l1"]:
    """Return each image that is roughly like a real one, with its nearest real images.

    A row holds the position of the image, then those of the real images, the nearest first.
    """
    most = CANDIDATES_PER_IMAGE if originals.lists is None else CANDIDATES_IN_LISTS
    number = min(most, len(originals.positions))
    listed = [np.zeros((0, number + 1), dtype=np.int64)]
    for first, positions, block in _iterate_near_originals(queries, originals, alignment, barred):
        # The nearest real images of each image, except barred ones
        near = np.argpartition(block, number - 1, axis=1)[:, :number]
        least = np.take_along_axis(block, near, axis=1)
        near = np.take_along_axis(near, np.argsort(least, axis=1, kind="stable"), axis=1)
        if positions is not None:
            near = np.take_along_axis(positions, near, axis=1)
        # Rows have length 1, so half of a squared distance is 1 less the likeness
        like = np.flatnonzero(least.min(axis=1) <= 2 - 2 * COARSE_LIKENESS)
        # A barred image is no candidate
        near = np.where(np.sort(least, axis=1) < BARRED_DISTANCE, near, near[:, :1])
        listed.append(np.concatenate([first + like[:, None], near[like]], axis=1))
    return np.concatenate(listed)


def _iterate_near_originals(
    queries: Float32[np.ndarray, "m height width"],
    originals: _Originals,
    alignment: Alignment,
    barred: BarredClips | None,
) -> Iterator[tuple[int, Int[np.ndarray, "_ w"] | None, Float32[np.ndarray, "_ w"]]]:
    """Yield squared distances of images to real ones, a block of images at a time.

    Each block comes with the position of its first image and the numbers of the real images, None
    if these are all of them. Barred images are BARRED_DISTANCE or more away.
    """

    def shift_views(batch: slice) -> Iterator[Float32[np.ndarray, "_ k"]]:
        return (
            _describe_by_waves(alignment.cut_border(queries[batch], *shift), COARSE_WAVES)
            for shift in alignment.coarse_shifts
        )

    # All real images
    lists = originals.lists
    if lists is None:
        for first, block in iterate_least_distances(len(queries), shift_views, originals.coarse):
            if barred is not None:
                is_barred = barred[0][first : first + len(block), None] == barred[1][None]
                block[is_barred] = BARRED_DISTANCE
            yield first, None, block
        return

    # Those in the nearest lists
    clip_of_list = None if barred is None else lists.find_owner(barred[1])

    def choose(first: int, distances: Float32[np.ndarray, "b l"]) -> Int[np.ndarray, "b chosen"]:
        if barred is not None and clip_of_list is not None:
            own = barred[0][first : first + len(distances), None]
            distances[own == clip_of_list[None]] = np.inf
        return choose_nearest_lists(distances, NEAREST_LISTS)

    for first, positions, block in lists.iterate_near(
        len(queries), shift_views, choose, NEAREST_LISTS
    ):
        if barred is not None:
            is_barred = barred[0][first : first + len(block), None] == barred[1][positions]
            block[is_barred] = BARRED_DISTANCE
        yield first, positions, block


def _split_rows(count: int, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, count, size))


def _fit_by_half_pixels(
    queries: Float32[np.ndarray, "p height width"],
    real_images: Float32[np.ndarray, "p height width"],
    shifts: Int[np.ndarray, "p 2"],
    alignment: Alignment,
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p 2"]]:
    """Return likeness and best shift, within a pixel of `shifts`, in steps of half a pixel."""
    fixed = _describe_by_pixels(alignment.cut_border(real_images))
    best_likeness, best_shift = np.full(len(queries), -1.0), np.zeros((len(queries), 2))
    padded = _cut_with_margin(queries, shifts, alignment)
    for y in range(5):
        for x in range(5):
            shifted = _shift_half_pixels(_shift_half_pixels(padded, y, 1), x, 2)
            likeness = (_describe_by_pixels(shifted) * fixed).sum(axis=1)
            is_better = likeness > best_likeness
            best_likeness[is_better] = likeness[is_better]
            best_shift[is_better] = 1 - y / 2, 1 - x / 2
    return best_likeness, shifts + best_shift


def _cut_with_margin(
    queries: Float32[np.ndarray, "p height width"],
    shifts: Int[np.ndarray, "p 2"],
    alignment: Alignment,
) -> Float32[np.ndarray, "p h2 w2"]:
    """Return shifted pictures without their border, except one pixel on each side."""
    rim, image_numbers = alignment.border - 1, np.arange(len(queries))
    down = np.arange(alignment.height - 2 * rim)[None] + rim - shifts[:, :1]
    across = np.arange(alignment.width - 2 * rim)[None] + rim - shifts[:, 1:]
    return queries[image_numbers[:, None, None], down[:, :, None], across[:, None, :]]


def _shift_half_pixels(
    wide: Float32[np.ndarray, "n h w"], step: int, axis: int
) -> Float32[np.ndarray, "n h1 w1"]:
    """Return pictures two pixels shorter along an axis, from `step` half pixels on."""
    length = wide.shape[axis] - 2
    first, half = divmod(step, 2)
    sides = wide.take(range(first, first + length), axis)
    return (sides + wide.take(range(first + 1, first + 1 + length), axis)) / 2 if half else sides


def _make_empty_pairs() -> pd.DataFrame:
    types = {
        "a": "int64",
        "b": "int64",
        **{name: COPY_COLUMNS[name] for name in ("likeness", "mirrored", "down", "right")},
    }
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})


# Filters


def _try_rough_filters(pairs: pd.DataFrame, synthetic: _Pictures, real: _Pictures) -> pd.DataFrame:
    """Return pairs with their likeness if the original is resized by the filter that fits best.

    Filters that use only some pixels, or whole ones, let fine detail alias, which depends on where
    the original was: so it is also shifted before it is resized.
    """
    # Only images of another size can have been resized by another filter
    if synthetic.faces.size[1:] == real.faces.size[1:]:
        return pairs

    # Pairs that are nearly alike, but not yet almost equal
    likeness = pairs["likeness"].to_numpy(dtype=np.float64, copy=True)
    candidates = np.flatnonzero((likeness >= ROUGH_LIKENESS) & (likeness < 1 - MIN_LIKENESS_GAP))
    for batch in _split_rows(len(candidates), PAIRS_AT_ONCE):
        rows = candidates[batch]
        rough_likeness = _fit_roughly_resized(pairs.iloc[rows], synthetic, real)
        likeness[rows] = np.maximum(likeness[rows], rough_likeness)
    return pairs.assign(likeness=likeness)


def _fit_roughly_resized(
    pairs: pd.DataFrame, synthetic: _Pictures, real: _Pictures
) -> Float[np.ndarray, " p"]:
    """Return the best likeness of each image to its original, resized by each rough filter."""
    # The images as they fit their originals, which keep their own size
    alignment, size = synthetic.alignment, (synthetic.faces.size[1], synthetic.faces.size[2])
    views = synthetic.soften(pairs["a"].to_numpy())
    views = np.where(pairs["mirrored"].to_numpy()[:, None, None], views[:, :, ::-1], views)
    grey, shifts = real.read_grey(pairs["b"].to_numpy()), pairs[["down", "right"]].to_numpy()
    scale = np.array(grey.shape[1:]) / (alignment.height, alignment.width)

    # Resize each original by each filter, also after moving it
    best = np.full(len(pairs), -1.0)
    for extra_shifts in (np.zeros_like(shifts), -shifts):
        pixel_shifts = (extra_shifts * scale).round().astype(np.int64).tolist()
        shifted = [
            np.roll(image, pixels, (0, 1)) for image, pixels in zip(grey, pixel_shifts, strict=True)
        ]
        farthest = alignment.border - 1
        start = np.round(shifts + extra_shifts).clip(-farthest, farthest).astype(np.int64)
        for resize in ROUGH_FILTERS:
            resized = np.stack([resize(image, size) for image in shifted])
            soft = soften(resized[:, None], (alignment.height, alignment.width))
            best = np.maximum(best, _fit_by_half_pixels(views, soft, start, alignment)[0])
    return best


def _make_pillow_filter(
    resampling: Image.Resampling,
) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    return lambda image, size: np.asarray(
        Image.fromarray(image).resize((size[1], size[0]), resampling)
    )


def _make_opencv_filter(interpolation: int) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    return lambda image, size: np.asarray(
        cv2.resize(image, size[::-1], interpolation=interpolation)
    )


ROUGH_FILTERS = (
    *(
        _make_pillow_filter(Image.Resampling[name])
        for name in ("NEAREST", "BOX", "BILINEAR", "LANCZOS")
    ),
    *(
        _make_opencv_filter(interpolation)
        for interpolation in (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
    ),
)

# Tables


def _find_exact(synthetic: Faces, real: Faces) -> pd.DataFrame:
    """Return the images with the pixels of a real image: the first such image by key."""
    if synthetic.size != real.size:
        return _make_table([])
    first = (
        real.index[["key", "sha256"]].sort_values("key", kind="stable").drop_duplicates("sha256")
    )
    pairs = synthetic.index[["key", "sha256"]].merge(first, on="sha256", suffixes=("", "_real"))
    renamed = pairs.rename(columns={"key": "image", "key_real": "original"})
    return _make_table(
        renamed.assign(kind="exact", likeness=1.0, mirrored=False, down=0.0, right=0.0)
    )


def _merge_tables(
    exact: pd.DataFrame, pairs: pd.DataFrame, synthetic: Faces, real: Faces
) -> pd.DataFrame:
    """Return one table of all copies, in the order of their keys."""
    # What sets each image apart from its original
    pairs = pairs.reset_index(drop=True)
    differ = {
        "recoloured": synthetic.shown != real.shown,
        "resized": synthetic.size[1:] != real.size[1:],
    }
    apart = [name for name, true in differ.items() if true]
    kinds = []
    for row in pairs.to_dict("records"):
        shifted = max(abs(row["down"]), abs(row["right"])) >= (1 if apart else 0.5)
        kind = [*apart, *(["mirrored"] if row["mirrored"] else []), *(["moved"] if shifted else [])]
        kinds.append(", ".join(kind) or "altered")

    # Keys, and shifts in pixels of a picture 48 wide
    images, originals = (
        faces.index["key"].to_numpy()[pairs[column].to_numpy(dtype=np.int64)]
        for faces, column in ((synthetic, "a"), (real, "b"))
    )
    scale = MATCH_WIDTH / min(MATCH_WIDTH, synthetic.size[1], real.size[1])
    near_copies = pairs.assign(image=images, original=originals, kind=pd.Series(kinds, dtype="str"))
    near_copies = near_copies.assign(
        down=near_copies["down"] * scale, right=near_copies["right"] * scale
    )
    return _make_table(
        pd.concat([exact, _make_table(near_copies)]).sort_values(
            "image", kind="stable", ignore_index=True
        )
    )


def _make_table(rows: "pd.DataFrame | list[object]") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COPY_COLUMNS)).astype(COPY_COLUMNS)
