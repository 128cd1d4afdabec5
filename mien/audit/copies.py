"""Copies: which images of a set are real ones, found directly, whoever was held out.

Two pictures are one where what is finer than the light on a face is the same in both, after one is
laid on the other. So a copy is found though it was resized, mirrored, moved by some pixels, encoded
again, or bears a little noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image

from mien.audit.search import SIDE, clips_of, least_distances, soften
from mien.faces import Faces

LEAST, SMALL = (
    12,
    24,
)  # pixels a side: below, pictures are told by equal pixels alone, and by no more than resizing
BORDER = (
    6  # pixels of SIDE that are left out on all sides, so that one picture may be moved by as many
)
LIGHT = 3  # waves a side that are taken off as light: a change of brightness moves no finer ones
WAVES = 8  # waves a side of the coarse pass
FINE = 16  # waves a side of the second pass
LISTED, FINALISTS = (
    48,
    3,
)  # real images of a block on which all moves are tried for each image, and half pixels
IMAGES = 32  # whose moves are tried together
LIKELY = 0.7  # likeness in the coarse pass from which two pictures are compared in full
SHORT, TINY = 0.05, 0.002  # by which a copy's likeness may fall short of 1, at most, and at least
PART = (
    0.25  # of what the likest image of another clip falls short by, up to which an image is a copy
)
ROUGH = 0.88  # likeness from which it is tried whether a rough filter has resized the original
FLAT = 1.5 / 255  # deviation of what is finer than the light, below which a picture shows nothing
BLOCK = 8192  # images a side that are compared together
PAIRS = 256  # pairs that are compared in full together

FAR = np.float32(9)  # a squared distance of rows of length 1 that none has

Barred = tuple[np.ndarray, np.ndarray]
"""Codes of the images of two sides: where they are equal, two are not compared."""

COLUMNS = {
    "image": "str",
    "original": "str",
    "kind": "str",
    "likeness": "float64",
    "mirrored": "bool",
    "down": "float64",
    "right": "float64",
}


def copies(made: Faces, real: Faces) -> pd.DataFrame:
    """Return the images of `made` that are images of `real`: one row each, with its likest
    original.

    Columns: image and original, their keys; kind: `exact` (equal pixels), else what sets them
    apart, of `recoloured`, `resized`, `mirrored`, `moved`, with commas, or `altered` where it is
    none of these (encoded again, noise, light); likeness, 1 for equal pictures; the image must be
    mirrored where `mirrored`, then moved by (`down`, `right`) pixels of a picture 48 wide, to lie
    on its original.

    Sizes and channels may differ: both are compared grey, at the smaller size, 48 pixels a side at
    most. Likeness is the correlation of what is finer than the light on a face, over moves by up to
    about a tenth of a side. An image is a copy where its likeness falls short of 1 by a quarter at
    most of what the likest image of any other clip does, which the original is compared with in the
    same way, and by 0.05 at most (0.002 below 24 pixels a side); and always where it does so by
    0.002 at most. So how alike people are is measured on `real` itself. Pictures of less than 12
    pixels a side are told by equal pixels alone. Memory is bounded, and the order of rows plays no
    part.
    """
    exact = _exact(made, real)
    left = np.flatnonzero(~made.index["key"].isin(exact["image"]).to_numpy())
    side = tuple(min(SIDE, *sides) for sides in zip(made.size[1:], real.size[1:], strict=True))
    if not len(left) or not len(real) or min(side) < LEAST:
        return exact
    views, frame = _views(made, real), Frame(*side)
    pictures, known = _Pictures(made, frame, views[0], left), _Pictures(real, frame, views[1])
    found = _likest(pictures, known, frame)
    found = found[found["likeness"] >= 1 - (SHORT if min(side) >= SMALL else TINY)]
    if len(found):
        found = found[found["likeness"] >= 1 - _room(found["b"].to_numpy(), known, frame)]
    return _named(exact, found, made, real)


def _room(
    places: Int[np.ndarray, " n"], real: "_Pictures", frame: "Frame"
) -> Float[np.ndarray, " n"]:
    """Return by how much a copy of each of these real images may fall short of a likeness of 1."""
    asked, back = np.unique(places, return_inverse=True)
    clips = np.unique(clips_of(real.faces.index), return_inverse=True)[1]
    others = _likest(
        _Pictures(real.faces, frame, real.view, asked), real, frame, (clips[asked], clips)
    )
    own = (
        pd.Series(others["likeness"].to_numpy(), others["a"].to_numpy())
        .reindex(asked)
        .fillna(-1.0)
        .to_numpy()
    )
    return np.clip((1 - own) * PART, TINY, SHORT)[back]


@dataclass(frozen=True)
class Frame:
    """How pictures of `height` and `width` pixels are laid on each other."""

    height: int
    width: int

    @property
    def border(self) -> int:
        """Pixels left out on all sides."""
        return max(2, round(min(self.height, self.width) * BORDER / SIDE))

    @property
    def moves(self) -> list[tuple[int, int]]:
        """Moves of the coarse pass, two pixels apart: none within the border, but for its last
        pixel, is farther.
        """
        most = (self.border - 1) // 2 * 2
        steps = range(-most, most + 1, 2)
        return [(down, right) for down in steps for right in steps]

    def inner(
        self, soft: Float32[np.ndarray, "n height width"], down: int = 0, right: int = 0
    ) -> Float32[np.ndarray, "n h w"]:
        """Return pictures without their border, moved."""
        rim = self.border
        return soft[
            :, rim - down : self.height - rim - down, rim - right : self.width - rim - right
        ]

    def coarse(self, inner: Float32[np.ndarray, "n h w"], count: int) -> Float32[np.ndarray, "n k"]:
        """Return so many waves a side of pictures as rows of length 1; what shows nothing has
        length 0.
        """
        waves = _cosines(inner.shape[1], count) @ inner @ _cosines(inner.shape[2], count).T
        waves[:, :LIGHT, :LIGHT] = 0
        return _rows(waves, FLAT / 2 * (inner.shape[1] * inner.shape[2]) ** 0.5)

    def fine(self, inner: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n d"]:
        """Return pictures without their light as rows of length 1; what shows nothing has length
        0.
        """
        down, across = (_cosines(side, LIGHT) for side in inner.shape[1:])
        return _rows(
            inner - down.T @ (down @ inner @ across.T) @ across,
            FLAT * (inner.shape[1] * inner.shape[2]) ** 0.5,
        )


def _rows(pictures: Float32[np.ndarray, "n h w"], least: float) -> Float32[np.ndarray, "n d"]:
    rows = pictures.reshape(len(pictures), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths < least, np.float32(0), rows / np.maximum(lengths, np.float32(1e-9)))


@lru_cache(maxsize=64)
def _cosines(length: int, count: int) -> Float32[np.ndarray, "count length"]:
    """Return the first rows of the orthonormal DCT-II matrix."""
    places = (2 * np.arange(length) + 1) * np.pi / (2 * length)
    rows = np.cos(np.arange(min(count, length))[:, None] * places[None]) * (2 / length) ** 0.5
    rows[0] /= 2**0.5
    return rows.astype(np.float32)


class _Pictures:
    """Images of a set, by their places in it, in blocks as they are compared."""

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
        """Return a block of them as they are compared."""
        return self.of(self.places[first:last])

    def of(self, places: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n height width"]:
        """Return the images at some places of the set as they are compared."""
        form = self.frame.height, self.frame.width
        parts = [
            soften(self.grey(places[one : one + 512])[:, None], form)
            for one in range(0, max(1, len(places)), 512)
        ]
        return np.concatenate(parts)

    def grey(self, places: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n h w"]:
        """Return the images at some places of the set, turned grey, at their own size."""
        return luminance(np.asarray(self.faces.images[places])[:, list(self.view)])


def luminance(images: UInt8[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Return images of one channel, or of red, green and blue (ITU-R 601); of other channels the
    mean.
    """
    if images.shape[1] == 1:
        return images[:, 0]
    weights = (
        (0.299, 0.587, 0.114) if images.shape[1] == 3 else (1 / images.shape[1],) * images.shape[1]
    )
    return np.tensordot(images, np.array(weights, np.float32), (1, 0)).round().astype(np.uint8)


def _views(made: Faces, real: Faces) -> tuple[list[int], list[int]]:
    """Return the channels of both that are compared: those that show the same, else all, turned
    grey.
    """
    both = [name for name in made.shown if name in real.shown]
    if made.shown == real.shown or not both:
        return [*range(made.size[0])], [*range(real.size[0])]
    return [made.shown.index(name) for name in both], [real.shown.index(name) for name in both]


# Searching


def _likest(
    made: _Pictures, real: _Pictures, frame: Frame, barred: Barred | None = None
) -> pd.DataFrame:
    """Return the likest real image of each image: its place (a), that one's (b), and how it lies on
    it.

    Images that are like none are left out. A coarse pass lists real images for each, as it is and
    mirrored; on these all moves are tried.
    """
    parts = [_nothing()]
    for first in range(0, len(made), BLOCK):
        asked = made.soft(first, first + BLOCK)
        for begin in range(0, len(real), BLOCK):
            known = real.soft(begin, begin + BLOCK)
            codes = (
                None
                if barred is None
                else (barred[0][first : first + BLOCK], barred[1][begin : begin + BLOCK])
            )
            for mirrored in (False, True):
                seen = np.ascontiguousarray(asked[:, :, ::-1]) if mirrored else asked
                found = _fitted(seen, known, frame, codes)
                places = {
                    "a": made.places[first + found["a"]],
                    "b": real.places[begin + found["b"]],
                }
                parts.append(found.assign(**places, mirrored=mirrored))
    best = _best(pd.concat(parts, ignore_index=True), real, FINALISTS)
    return (
        _best(_roughly(best, made, real, frame), real, 1)
        if barred is None
        else _best(best, real, 1)
    )


def _best(found: pd.DataFrame, real: _Pictures, count: int) -> pd.DataFrame:
    """Return the likest pairs of each image, so many; of two as like, the first by key."""
    keys = real.faces.index["key"].to_numpy()[found["b"].to_numpy(dtype=np.int64)]
    found = found.assign(key=keys).sort_values(
        ["a", "likeness", "key"], ascending=[True, False, True], kind="stable"
    )
    return found.groupby("a").head(count).drop(columns="key").reset_index(drop=True)


def _fitted(
    asked: Float32[np.ndarray, "m height width"],
    known: Float32[np.ndarray, "n height width"],
    frame: Frame,
    barred: Barred | None,
) -> pd.DataFrame:
    """Return the likest real images of each image, and how it lies on them, to half a pixel."""
    listed = _listed(asked, frame.coarse(frame.inner(known), WAVES), frame, barred)
    rows, parts = frame.coarse(frame.inner(known), FINE), [_nothing()]
    for first in range(0, len(listed), IMAGES):
        part = listed[first : first + IMAGES]
        pairs, moves = _tried(asked, rows, part, frame)
        for some in _slices(len(pairs)):
            one, other = pairs[some].T
            told, way = _finely(asked[one], known[other], moves[some], frame)
            ways = {"mirrored": False, "down": way[:, 0], "right": way[:, 1]}
            parts.append(pd.DataFrame({"a": one, "b": other, "likeness": told, **ways}))
    return pd.concat(parts, ignore_index=True)


def _tried(
    asked: Float32[np.ndarray, "m height width"],
    rows: Float32[np.ndarray, "n k"],
    listed: Int[np.ndarray, "i l1"],
    frame: Frame,
) -> tuple[Int[np.ndarray, "p 2"], Int[np.ndarray, "p 2"]]:
    """Return the pairs of images and likest listed ones, with the move by which the first lies best
    on the second.

    A row of `listed` is the place of an image, and those of the real ones that are listed for it.
    """
    images, others = listed[:, 0], listed[:, 1:]
    most = range(1 - frame.border, frame.border)
    every = np.array([(down, right) for down in most for right in most])
    seen = np.stack(
        [frame.coarse(frame.inner(asked[images], *move), FINE) for move in every.tolist()], axis=1
    )
    products = seen @ rows[others].transpose(0, 2, 1)
    move, best = products.argmax(axis=1), products.max(axis=1)
    place = np.argsort(-best, axis=1, kind="stable")[:, :FINALISTS]
    pairs = [
        np.repeat(images, place.shape[1]),
        np.take_along_axis(others, place, axis=1).reshape(-1),
    ]
    return np.stack(pairs, axis=1), every[np.take_along_axis(move, place, axis=1).reshape(-1)]


def _listed(
    asked: Float32[np.ndarray, "m height width"],
    rows: Float32[np.ndarray, "n k"],
    frame: Frame,
    barred: Barred | None,
) -> Int[np.ndarray, "i l1"]:
    """Return the place of each image that is roughly like a real one, and the places of the real
    ones nearest to it.
    """

    def ways(part: slice) -> Iterator[Float32[np.ndarray, "_ k"]]:
        return (frame.coarse(frame.inner(asked[part], *move), WAVES) for move in frame.moves)

    number = min(LISTED, len(rows))
    found = [np.zeros((0, number + 1), dtype=np.int64)]
    for first, block in least_distances(len(asked), ways, rows):
        if barred is not None:
            block[barred[0][first : first + len(block), None] == barred[1][None]] = FAR
        near = np.argpartition(block, number - 1, axis=1)[:, :number]
        least = np.take_along_axis(block, near, axis=1)
        near = np.take_along_axis(near, np.argsort(least, axis=1, kind="stable"), axis=1)
        # Rows are of length 1, and half of a squared distance is one less the likeness.
        like = np.flatnonzero(least.min(axis=1) <= 2 - 2 * LIKELY)
        near = np.where(
            np.sort(least, axis=1) < FAR, near, near[:, :1]
        )  # a barred one is no candidate
        found.append(np.concatenate([first + like[:, None], near[like]], axis=1))
    return np.concatenate(found)


def _slices(count: int) -> Iterator[slice]:
    return (slice(first, first + PAIRS) for first in range(0, count, PAIRS))


def _finely(
    asked: Float32[np.ndarray, "p height width"],
    known: Float32[np.ndarray, "p height width"],
    moves: Int[np.ndarray, "p 2"],
    frame: Frame,
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p 2"]]:
    """Return likeness and move, of those within a pixel of `moves` either way, in steps of half a
    pixel.
    """
    fixed, likeness, best = (
        frame.fine(frame.inner(known)),
        np.full(len(asked), -1.0),
        np.zeros((len(asked), 2)),
    )
    wide = _near(asked, moves, frame)
    for y in range(5):
        for x in range(5):
            found = (frame.fine(_between(_between(wide, y, 1), x, 2)) * fixed).sum(axis=1)
            better = found > likeness
            likeness[better], best[better] = found[better], (1 - y / 2, 1 - x / 2)
    return likeness, moves + best


def _near(
    asked: Float32[np.ndarray, "p height width"], moves: Int[np.ndarray, "p 2"], frame: Frame
) -> Float32[np.ndarray, "p h2 w2"]:
    """Return pictures moved, without their border but for a pixel on each side."""
    rim, each = frame.border - 1, np.arange(len(asked))
    down = np.arange(frame.height - 2 * rim)[None] + rim - moves[:, :1]
    across = np.arange(frame.width - 2 * rim)[None] + rim - moves[:, 1:]
    return asked[each[:, None, None], down[:, :, None], across[:, None, :]]


def _between(
    wide: Float32[np.ndarray, "n h w"], step: int, axis: int
) -> Float32[np.ndarray, "n h1 w1"]:
    """Return pictures two pixels shorter along an axis, `step` half pixels from their first one."""
    length = wide.shape[axis] - 2
    place, half = divmod(step, 2)
    part = wide.take(range(place, place + length), axis)
    return (part + wide.take(range(place + 1, place + 1 + length), axis)) / 2 if half else part


def _nothing() -> pd.DataFrame:
    kinds = {
        "a": "int64",
        "b": "int64",
        **{name: COLUMNS[name] for name in ("likeness", "mirrored", "down", "right")},
    }
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


# Filters


def _roughly(found: pd.DataFrame, made: _Pictures, real: _Pictures, frame: Frame) -> pd.DataFrame:
    """Return pairs with their likeness where the original is resized by the filter that makes it
    likest.

    Filters that take single pixels, or whole ones, let fine detail fold over, and what they took
    hangs on where the original lay: so it is also moved before it is resized.
    """
    size = (made.faces.size[1], made.faces.size[2])
    if size == real.faces.size[1:]:
        return found
    likeness = found["likeness"].to_numpy(dtype=np.float64, copy=True)
    asked = np.flatnonzero((likeness >= ROUGH) & (likeness < 1 - TINY))
    for part in _slices(len(asked)):
        rows = found.iloc[asked[part]]
        seen = made.of(rows["a"].to_numpy())
        seen = np.where(rows["mirrored"].to_numpy()[:, None, None], seen[:, :, ::-1], seen)
        grey, moves = real.grey(rows["b"].to_numpy()), rows[["down", "right"]].to_numpy()
        scale = np.array(grey.shape[1:]) / (frame.height, frame.width)
        for before in (np.zeros_like(moves), -moves):
            shifts = (before * scale).round().astype(np.int64)
            moved = [
                np.roll(image, shift, (0, 1))
                for image, shift in zip(grey, shifts.tolist(), strict=True)
            ]
            way = np.round(moves + before).clip(1 - frame.border, frame.border - 1).astype(np.int64)
            for rough in FILTERS:
                resized = np.stack([rough(image, size) for image in moved])
                told, _ = _finely(
                    seen, soften(resized[:, None], (frame.height, frame.width)), way, frame
                )
                likeness[asked[part]] = np.maximum(likeness[asked[part]], told)
    return found.assign(likeness=likeness)


def _pillows(kind: Image.Resampling) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    return lambda image, size: np.asarray(Image.fromarray(image).resize((size[1], size[0]), kind))


def _opencvs(kind: int) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    return lambda image, size: np.asarray(cv2.resize(image, size[::-1], interpolation=kind))


FILTERS = (
    *(_pillows(Image.Resampling[kind]) for kind in ("NEAREST", "BOX", "BILINEAR", "LANCZOS")),
    *(_opencvs(kind) for kind in (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)),
)


# Tables


def _exact(made: Faces, real: Faces) -> pd.DataFrame:
    """Return the images whose pixels are those of a real one, with the first such by key."""
    if made.size != real.size:
        return _table([])
    first = (
        real.index[["key", "sha256"]].sort_values("key", kind="stable").drop_duplicates("sha256")
    )
    pairs = made.index[["key", "sha256"]].merge(first, on="sha256", suffixes=("", "_real"))
    named = pairs.rename(columns={"key": "image", "key_real": "original"})
    return _table(named.assign(kind="exact", likeness=1.0, mirrored=False, down=0.0, right=0.0))


def _named(exact: pd.DataFrame, found: pd.DataFrame, made: Faces, real: Faces) -> pd.DataFrame:
    """Return one table of all copies, in the order of their keys."""
    found = found.reset_index(drop=True)
    differ = {"recoloured": made.shown != real.shown, "resized": made.size[1:] != real.size[1:]}
    apart = [name for name, true in differ.items() if true]
    kinds = []
    for row in found.to_dict("records"):
        moved = max(abs(row["down"]), abs(row["right"])) >= (1 if apart else 0.5)
        told = [*apart, *(["mirrored"] if row["mirrored"] else []), *(["moved"] if moved else [])]
        kinds.append(", ".join(told) or "altered")
    images, originals = (
        faces.index["key"].to_numpy()[found[column].to_numpy(dtype=np.int64)]
        for faces, column in ((made, "a"), (real, "b"))
    )
    scale = SIDE / min(SIDE, made.size[1], real.size[1])
    more = found.assign(image=images, original=originals, kind=pd.Series(kinds, dtype="str"))
    more = more.assign(down=more["down"] * scale, right=more["right"] * scale)
    return _table(
        pd.concat([exact, _table(more)]).sort_values("image", kind="stable", ignore_index=True)
    )


def _table(found: "pd.DataFrame | list[object]") -> pd.DataFrame:
    return pd.DataFrame(found, columns=list(COLUMNS)).astype(COLUMNS)
