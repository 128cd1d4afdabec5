"""What counts as a copy, also changed, and which images of a set are copies.

Two pictures are the same if their detail (everything finer than the light on a face) is the same
after one is moved onto the other. So a copy is found even if it was resized, mirrored, moved by
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

from mien.audit.memorisation.search import MATCH_SIDE, iterate_least_distances, soften
from mien.faces import Faces, name_distinct_units

MIN_SIDE = 12  # pixels per side; smaller pictures are copies only if their pixels are equal

SMALL_SIDE = 24  # pixels per side; smaller pictures are copies only if almost equal

# pixels of SIDE that are left out on all sides, so that a picture can move by as many
BORDER_PIXELS = 6

# waves per side that count as light and are removed: brightness moves no finer waves
LIGHT_WAVES = 3

COARSE_WAVES = 8  # waves per side in the coarse pass

FINE_WAVES = 16  # waves per side in the second pass

# real images of a block on which all whole-pixel moves are tried, for each image
CANDIDATES_PER_IMAGE = 48

FINALISTS_PER_IMAGE = 3  # real images on which half-pixel moves are tried, for each image

MOVED_IMAGES_AT_ONCE = 32  # images whose moves are tried together

COARSE_LIKENESS = 0.7  # likeness in the coarse pass from which two pictures are compared in full

# a copy's likeness may be less than 1 by this much: at most, at least
MAX_LIKENESS_GAP, MIN_LIKENESS_GAP = (0.05, 0.002)

# a copy's distance from likeness 1, over that of the likest image of another clip
MAX_GAP_RATIO = 0.25

ROUGH_LIKENESS = 0.88  # likeness from which other resizing filters are tried on the original

BLANK_DEVIATION = 1.5 / 255  # deviation of the detail below which a picture counts as blank

COPY_BLOCK_IMAGES = 8192  # images per side that are compared together

PAIRS_AT_ONCE = 256  # pairs that are compared in full together

BARRED_DISTANCE = np.float32(9)  # more than any squared distance of rows of length 1

BarredCodes = tuple[np.ndarray, np.ndarray]
"""Codes of the images of two sides: images with equal codes are not compared."""

COPY_COLUMNS = {
    "image": "str",
    "original": "str",
    "kind": "str",
    "likeness": "float64",
    "mirrored": "bool",
    "down": "float64",
    "right": "float64",
}


def find_copies(made: Faces, real: Faces) -> pd.DataFrame:
    """Return the images of `made` that are images of `real`: one row each, with its best original.

    Columns: image and original, their keys; kind: `exact` (equal pixels), else the differences, of
    `recoloured`, `resized`, `mirrored`, `moved`, with commas, or `altered` if it is none of
    these (encoded again, noise, light); likeness, 1 for equal pictures; the image fits its original
    after it is mirrored, if `mirrored`, and then moved by (`down`, `right`) pixels of a picture 48
    wide.

    Sizes and channels may differ: both are compared in grey, at the smaller size, at most 48 pixels
    per side. Likeness is the correlation of everything finer than the light on a face, over moves
    by up to about a tenth of a side. An image is a copy if its likeness is less than 1 by no more
    than a quarter of the same gap of the likest image of any other clip (which the original is
    compared with in the same way), and by no more than 0.05 (0.002 below 24 pixels per side); it is
    always a copy if the gap is no more than 0.002. So `real` itself shows how alike people are.
    Pictures of less than 12 pixels per side are copies only if their pixels are equal. Memory is
    bounded, and the order of rows has no influence.
    """
    # Equal pixels first; the others need enough pixels
    exact = _find_exact(made, real)
    remaining = np.flatnonzero(~made.index["key"].isin(exact["image"]).to_numpy())
    form = tuple(
        min(MATCH_SIDE, *sides) for sides in zip(made.size[1:], real.size[1:], strict=True)
    )
    if not len(remaining) or not len(real) or min(form) < MIN_SIDE:
        return exact

    # The likest real image of each image, if it is like enough
    views, frame = _common_channels(made, real), Frame(*form)
    pictures, originals = (
        _Pictures(made, frame, views[0], remaining),
        _Pictures(real, frame, views[1]),
    )
    pairs = _find_likest(pictures, originals, frame)
    pairs = pairs[
        pairs["likeness"] >= 1 - (MAX_LIKENESS_GAP if min(form) >= SMALL_SIDE else MIN_LIKENESS_GAP)
    ]
    if len(pairs):
        pairs = pairs[
            pairs["likeness"] >= 1 - _allowed_gap(pairs["b"].to_numpy(), originals, frame)
        ]
    return _merge_tables(exact, pairs, made, real)


def _allowed_gap(
    places: Int[np.ndarray, " n"], real: "_Pictures", frame: "Frame"
) -> Float[np.ndarray, " n"]:
    """Return how far below 1 the likeness of a copy of each of these real images may be."""
    # The likest image of another clip
    originals, original_number = np.unique(places, return_inverse=True)
    clips = np.unique(name_distinct_units(real.faces.index, "clip"), return_inverse=True)[1]
    others = _find_likest(
        _Pictures(real.faces, frame, real.view, originals), real, frame, (clips[originals], clips)
    )

    # A share of its distance from 1, within limits
    likeness_of = (
        pd.Series(others["likeness"].to_numpy(), others["a"].to_numpy())
        .reindex(originals)
        .fillna(-1.0)
        .to_numpy()
    )
    return np.clip((1 - likeness_of) * MAX_GAP_RATIO, MIN_LIKENESS_GAP, MAX_LIKENESS_GAP)[
        original_number
    ]


@dataclass(frozen=True)
class Frame:
    """How pictures of `height` and `width` pixels are moved onto each other."""

    height: int
    width: int

    @property
    def border(self) -> int:
        """Pixels that are left out on all sides."""
        return max(2, round(min(self.height, self.width) * BORDER_PIXELS / MATCH_SIDE))

    @property
    def moves(self) -> list[tuple[int, int]]:
        """Moves of the coarse pass, two pixels apart.

        Every move within the border is within a pixel of one of these, except for the last pixel.
        """
        farthest = (self.border - 1) // 2 * 2
        steps = range(-farthest, farthest + 1, 2)
        return [(down, right) for down in steps for right in steps]

    def inner(
        self, soft: Float32[np.ndarray, "n height width"], down: int = 0, right: int = 0
    ) -> Float32[np.ndarray, "n h w"]:
        """Return pictures without their border, moved by (`down`, `right`) pixels."""
        rim = self.border
        return soft[
            :, rim - down : self.height - rim - down, rim - right : self.width - rim - right
        ]

    def coarse(self, inner: Float32[np.ndarray, "n h w"], count: int) -> Float32[np.ndarray, "n k"]:
        """Return the first `count` waves per side, without light, as rows of length 1.

        Rows of blank pictures are 0.
        """
        waves = (
            _cosine_matrix(inner.shape[1], count) @ inner @ _cosine_matrix(inner.shape[2], count).T
        )
        waves[:, :LIGHT_WAVES, :LIGHT_WAVES] = 0
        return _normalise_rows(
            waves, BLANK_DEVIATION / 2 * (inner.shape[1] * inner.shape[2]) ** 0.5
        )

    def fine(self, inner: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n d"]:
        """Return pictures without their light as rows of length 1; rows of blank pictures are 0."""
        down, across = (_cosine_matrix(side, LIGHT_WAVES) for side in inner.shape[1:])
        return _normalise_rows(
            inner - down.T @ (down @ inner @ across.T) @ across,
            BLANK_DEVIATION * (inner.shape[1] * inner.shape[2]) ** 0.5,
        )


def _normalise_rows(
    pictures: Float32[np.ndarray, "n h w"], least: float
) -> Float32[np.ndarray, "n d"]:
    """Return pictures as rows of length 1; rows shorter than `least` become zero."""
    rows = pictures.reshape(len(pictures), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths < least, np.float32(0), rows / np.maximum(lengths, np.float32(1e-9)))


@lru_cache(maxsize=64)
def _cosine_matrix(length: int, count: int) -> Float32[np.ndarray, "count length"]:
    """Return the first rows of the orthonormal DCT-II matrix."""
    places = (2 * np.arange(length) + 1) * np.pi / (2 * length)
    rows = np.cos(np.arange(min(count, length))[:, None] * places[None]) * (2 / length) ** 0.5
    rows[0] /= 2**0.5
    return rows.astype(np.float32)


class _Pictures:
    """Images of a set, by their positions in it, in the form in which they are compared."""

    def __init__(
        self, faces: Faces, frame: Frame, view: Sequence[int], places: np.ndarray | None = None
    ) -> None:
        every = np.arange(len(faces)) if places is None else places
        keys = faces.index["key"].to_numpy()[every]
        self.faces, self.frame, self.view = faces, frame, view
        self.places = every[np.argsort(keys, kind="stable")] if places is None else every

    def __len__(self) -> int:
        return len(self.places)

    def soft(self, first: int, last: int) -> Float32[np.ndarray, "n height width"]:
        """Return a block of images in the form in which they are compared."""
        return self.of(self.places[first:last])

    def of(self, places: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n height width"]:
        """Return the images at some positions of the set in the form in which they are compared."""
        form = self.frame.height, self.frame.width
        blocks = [
            soften(self.grey(places[first : first + 512])[:, None], form)
            for first in range(0, max(1, len(places)), 512)
        ]
        return np.concatenate(blocks)

    def grey(self, places: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n h w"]:
        """Return the images at some positions of the set in grey, at their own size."""
        return luminance(np.asarray(self.faces.images[places])[:, list(self.view)])


def luminance(images: UInt8[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Return images in grey: the luma of red, green and blue (ITU-R 601), else the mean.

    A single channel is returned as it is; of other channels the mean is taken.
    """
    if images.shape[1] == 1:
        return images[:, 0]
    weights = (
        (0.299, 0.587, 0.114) if images.shape[1] == 3 else (1 / images.shape[1],) * images.shape[1]
    )
    return np.tensordot(images, np.array(weights, np.float32), (1, 0)).round().astype(np.uint8)


def _common_channels(made: Faces, real: Faces) -> tuple[list[int], list[int]]:
    """Return the channels of both sides that are compared: those that both show, else all."""
    shared = [name for name in made.shown if name in real.shown]
    if made.shown == real.shown or not shared:
        return [*range(made.size[0])], [*range(real.size[0])]
    return [made.shown.index(name) for name in shared], [real.shown.index(name) for name in shared]


# Searching


def _find_likest(
    made: _Pictures, real: _Pictures, frame: Frame, barred: BarredCodes | None = None
) -> pd.DataFrame:
    """Return the likest real image of each image, and how the image fits it.

    Columns: a, the image's position; b, the real image's; likeness, mirrored, down and right.
    Images without a likely candidate are left out. A coarse pass lists real images for each image,
    as it is and mirrored; on these all moves are tried.
    """
    # Compare each block with each block, as it is and mirrored
    parts = [_empty_pairs()]
    for first in range(0, len(made), COPY_BLOCK_IMAGES):
        images = made.soft(first, first + COPY_BLOCK_IMAGES)
        for begin in range(0, len(real), COPY_BLOCK_IMAGES):
            originals = real.soft(begin, begin + COPY_BLOCK_IMAGES)
            codes = (
                None
                if barred is None
                else (
                    barred[0][first : first + COPY_BLOCK_IMAGES],
                    barred[1][begin : begin + COPY_BLOCK_IMAGES],
                )
            )
            for mirrored in (False, True):
                view = np.ascontiguousarray(images[:, :, ::-1]) if mirrored else images
                fitted = _fit_to_known(view, originals, frame, codes)
                places = {
                    "a": made.places[first + fitted["a"]],
                    "b": real.places[begin + fitted["b"]],
                }
                parts.append(fitted.assign(**places, mirrored=mirrored))

    # Try rough filters on the likest pairs of all blocks
    best = _keep_best(pd.concat(parts, ignore_index=True), real, FINALISTS_PER_IMAGE)
    return (
        _keep_best(_try_rough_filters(best, made, real, frame), real, 1)
        if barred is None
        else _keep_best(best, real, 1)
    )


def _keep_best(ranked: pd.DataFrame, real: _Pictures, count: int) -> pd.DataFrame:
    """Return the likest `count` pairs of each image; of equal likeness, the first by key."""
    keys = real.faces.index["key"].to_numpy()[ranked["b"].to_numpy(dtype=np.int64)]
    ranked = ranked.assign(key=keys).sort_values(
        ["a", "likeness", "key"], ascending=[True, False, True], kind="stable"
    )
    return ranked.groupby("a").head(count).drop(columns="key").reset_index(drop=True)


def _fit_to_known(
    asked: Float32[np.ndarray, "m height width"],
    known: Float32[np.ndarray, "n height width"],
    frame: Frame,
    barred: BarredCodes | None,
) -> pd.DataFrame:
    """Return the likest real images of each image, and how it fits them, to half a pixel."""
    listed = _list_candidates(asked, frame.coarse(frame.inner(known), COARSE_WAVES), frame, barred)
    rows, parts = frame.coarse(frame.inner(known), FINE_WAVES), [_empty_pairs()]

    # Whole-pixel moves on all listed images, then half pixels on the best
    for first in range(0, len(listed), MOVED_IMAGES_AT_ONCE):
        batch = listed[first : first + MOVED_IMAGES_AT_ONCE]
        pairs, moves = _try_moves(asked, rows, batch, frame)
        for batch_pairs in _slices(len(pairs)):
            one, other = pairs[batch_pairs].T
            likeness, shifts = _fit_by_half_pixels(
                asked[one], known[other], moves[batch_pairs], frame
            )
            columns = {"mirrored": False, "down": shifts[:, 0], "right": shifts[:, 1]}
            parts.append(pd.DataFrame({"a": one, "b": other, "likeness": likeness, **columns}))
    return pd.concat(parts, ignore_index=True)


def _try_moves(
    asked: Float32[np.ndarray, "m height width"],
    rows: Float32[np.ndarray, "n k"],
    listed: Int[np.ndarray, "i l1"],
    frame: Frame,
) -> tuple[Int[np.ndarray, "p 2"], Int[np.ndarray, "p 2"]]:
    """Return the pairs of images and likest listed ones, with the move by which they fit best.

    A row of `listed` holds the position of an image, and those of the real images listed for it.
    """
    # The likeness of each listed image under every move
    images, others = listed[:, 0], listed[:, 1:]
    steps = range(1 - frame.border, frame.border)
    moves = np.array([(down, right) for down in steps for right in steps])
    components = np.stack(
        [frame.coarse(frame.inner(asked[images], *move), FINE_WAVES) for move in moves.tolist()],
        axis=1,
    )
    products = components @ rows[others].transpose(0, 2, 1)

    # The best move for each, and the best of them
    move, best = products.argmax(axis=1), products.max(axis=1)
    order = np.argsort(-best, axis=1, kind="stable")[:, :FINALISTS_PER_IMAGE]
    pairs = [
        np.repeat(images, order.shape[1]),
        np.take_along_axis(others, order, axis=1).reshape(-1),
    ]
    return np.stack(pairs, axis=1), moves[np.take_along_axis(move, order, axis=1).reshape(-1)]


def _list_candidates(
    asked: Float32[np.ndarray, "m height width"],
    rows: Float32[np.ndarray, "n k"],
    frame: Frame,
    barred: BarredCodes | None,
) -> Int[np.ndarray, "i l1"]:
    """Return each image that is roughly like a real one, with its nearest real images.

    A row holds the position of the image, then those of the real images, the nearest first.
    """

    def ways(batch: slice) -> Iterator[Float32[np.ndarray, "_ k"]]:
        return (
            frame.coarse(frame.inner(asked[batch], *move), COARSE_WAVES) for move in frame.moves
        )

    # The nearest real images of each image, except barred ones
    number = min(CANDIDATES_PER_IMAGE, len(rows))
    listed = [np.zeros((0, number + 1), dtype=np.int64)]
    for first, block in iterate_least_distances(len(asked), ways, rows):
        if barred is not None:
            block[barred[0][first : first + len(block), None] == barred[1][None]] = BARRED_DISTANCE
        near = np.argpartition(block, number - 1, axis=1)[:, :number]
        least = np.take_along_axis(block, near, axis=1)
        near = np.take_along_axis(near, np.argsort(least, axis=1, kind="stable"), axis=1)
        # Rows have length 1, so half of a squared distance is 1 less the likeness
        like = np.flatnonzero(least.min(axis=1) <= 2 - 2 * COARSE_LIKENESS)
        # A barred image is no candidate
        near = np.where(np.sort(least, axis=1) < BARRED_DISTANCE, near, near[:, :1])
        listed.append(np.concatenate([first + like[:, None], near[like]], axis=1))
    return np.concatenate(listed)


def _slices(count: int) -> Iterator[slice]:
    return (slice(first, first + PAIRS_AT_ONCE) for first in range(0, count, PAIRS_AT_ONCE))


def _fit_by_half_pixels(
    asked: Float32[np.ndarray, "p height width"],
    known: Float32[np.ndarray, "p height width"],
    moves: Int[np.ndarray, "p 2"],
    frame: Frame,
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p 2"]]:
    """Return likeness and best move, within a pixel of `moves`, in steps of half a pixel."""
    fixed, likeness, best = (
        frame.fine(frame.inner(known)),
        np.full(len(asked), -1.0),
        np.zeros((len(asked), 2)),
    )
    padded = _cut_with_margin(asked, moves, frame)
    for y in range(5):
        for x in range(5):
            likeness_here = (
                frame.fine(_shift_half_pixels(_shift_half_pixels(padded, y, 1), x, 2)) * fixed
            ).sum(axis=1)
            better = likeness_here > likeness
            likeness[better], best[better] = likeness_here[better], (1 - y / 2, 1 - x / 2)
    return likeness, moves + best


def _cut_with_margin(
    asked: Float32[np.ndarray, "p height width"], moves: Int[np.ndarray, "p 2"], frame: Frame
) -> Float32[np.ndarray, "p h2 w2"]:
    """Return moved pictures without their border, except one pixel on each side."""
    rim, image_numbers = frame.border - 1, np.arange(len(asked))
    down = np.arange(frame.height - 2 * rim)[None] + rim - moves[:, :1]
    across = np.arange(frame.width - 2 * rim)[None] + rim - moves[:, 1:]
    return asked[image_numbers[:, None, None], down[:, :, None], across[:, None, :]]


def _shift_half_pixels(
    wide: Float32[np.ndarray, "n h w"], step: int, axis: int
) -> Float32[np.ndarray, "n h1 w1"]:
    """Return pictures two pixels shorter along an axis, from `step` half pixels on."""
    length = wide.shape[axis] - 2
    whole, half = divmod(step, 2)
    sides = wide.take(range(whole, whole + length), axis)
    return (sides + wide.take(range(whole + 1, whole + 1 + length), axis)) / 2 if half else sides


def _empty_pairs() -> pd.DataFrame:
    kinds = {
        "a": "int64",
        "b": "int64",
        **{name: COPY_COLUMNS[name] for name in ("likeness", "mirrored", "down", "right")},
    }
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


# Filters


def _try_rough_filters(
    found: pd.DataFrame, made: _Pictures, real: _Pictures, frame: Frame
) -> pd.DataFrame:
    """Return pairs with their likeness if the original is resized by the filter that fits best.

    Filters that use only some pixels, or whole ones, let fine detail alias, which depends on where
    the original was: so it is also moved before it is resized.
    """
    # Only images of another size can have been resized by another filter
    size = (made.faces.size[1], made.faces.size[2])
    if size == real.faces.size[1:]:
        return found

    # Pairs that are nearly alike, but not yet almost equal
    likeness = found["likeness"].to_numpy(dtype=np.float64, copy=True)
    candidates = np.flatnonzero((likeness >= ROUGH_LIKENESS) & (likeness < 1 - MIN_LIKENESS_GAP))
    for batch in _slices(len(candidates)):
        rows = found.iloc[candidates[batch]]
        views = made.of(rows["a"].to_numpy())
        views = np.where(rows["mirrored"].to_numpy()[:, None, None], views[:, :, ::-1], views)

        # Resize the original by each filter, also after moving it
        grey, moves = real.grey(rows["b"].to_numpy()), rows[["down", "right"]].to_numpy()
        scale = np.array(grey.shape[1:]) / (frame.height, frame.width)
        for shift_before in (np.zeros_like(moves), -moves):
            shifts = (shift_before * scale).round().astype(np.int64)
            moved = [
                np.roll(image, shift, (0, 1))
                for image, shift in zip(grey, shifts.tolist(), strict=True)
            ]
            start = (
                np.round(moves + shift_before)
                .clip(1 - frame.border, frame.border - 1)
                .astype(np.int64)
            )
            for rough in ROUGH_FILTERS:
                resized = np.stack([rough(image, size) for image in moved])
                fine_likeness, _ = _fit_by_half_pixels(
                    views, soften(resized[:, None], (frame.height, frame.width)), start, frame
                )
                likeness[candidates[batch]] = np.maximum(likeness[candidates[batch]], fine_likeness)
    return found.assign(likeness=likeness)


def _pillow_filter(kind: Image.Resampling) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    return lambda image, size: np.asarray(Image.fromarray(image).resize((size[1], size[0]), kind))


def _opencv_filter(kind: int) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    return lambda image, size: np.asarray(cv2.resize(image, size[::-1], interpolation=kind))


ROUGH_FILTERS = (
    *(_pillow_filter(Image.Resampling[kind]) for kind in ("NEAREST", "BOX", "BILINEAR", "LANCZOS")),
    *(_opencv_filter(kind) for kind in (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)),
)

# Tables


def _find_exact(made: Faces, real: Faces) -> pd.DataFrame:
    """Return the images with the pixels of a real image: the first such image by key."""
    if made.size != real.size:
        return _make_table([])
    first = (
        real.index[["key", "sha256"]].sort_values("key", kind="stable").drop_duplicates("sha256")
    )
    pairs = made.index[["key", "sha256"]].merge(first, on="sha256", suffixes=("", "_real"))
    renamed = pairs.rename(columns={"key": "image", "key_real": "original"})
    return _make_table(
        renamed.assign(kind="exact", likeness=1.0, mirrored=False, down=0.0, right=0.0)
    )


def _merge_tables(
    exact: pd.DataFrame, found: pd.DataFrame, made: Faces, real: Faces
) -> pd.DataFrame:
    """Return one table of all copies, in the order of their keys."""
    # What sets each image apart from its original
    found = found.reset_index(drop=True)
    differ = {"recoloured": made.shown != real.shown, "resized": made.size[1:] != real.size[1:]}
    apart = [name for name, true in differ.items() if true]
    kinds = []
    for row in found.to_dict("records"):
        moved = max(abs(row["down"]), abs(row["right"])) >= (1 if apart else 0.5)
        kind = [*apart, *(["mirrored"] if row["mirrored"] else []), *(["moved"] if moved else [])]
        kinds.append(", ".join(kind) or "altered")

    # Keys, and moves in pixels of a picture 48 wide
    images, originals = (
        faces.index["key"].to_numpy()[found[column].to_numpy(dtype=np.int64)]
        for faces, column in ((made, "a"), (real, "b"))
    )
    scale = MATCH_SIDE / min(MATCH_SIDE, made.size[1], real.size[1])
    near_copies = found.assign(image=images, original=originals, kind=pd.Series(kinds, dtype="str"))
    near_copies = near_copies.assign(
        down=near_copies["down"] * scale, right=near_copies["right"] * scale
    )
    return _make_table(
        pd.concat([exact, _make_table(near_copies)]).sort_values(
            "image", kind="stable", ignore_index=True
        )
    )


def _make_table(found: "pd.DataFrame | list[object]") -> pd.DataFrame:
    return pd.DataFrame(found, columns=list(COPY_COLUMNS)).astype(COPY_COLUMNS)
