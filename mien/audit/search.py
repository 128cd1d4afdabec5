"""The nearest training image of each image: in pixels, also mirrored and moved, and in any space of
features.

Beside the nearest of all stands the nearest outside its clip, and outside its subject. The
neighbours of a video frame are the frames beside it, so the second nearest image says nothing: a
blend of two frames of one clip would look new.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int, UInt8

from mien.errors import DataError

SIDE = 48  # pixels a side that images are compared at; larger ones are brought down to it
# deviation of the Gaussian that takes noise off before images are compared, in those pixels
BLUR = 1.0
REACH = 2  # pixels that an image may have been moved by
STEPS = (-REACH, 0, REACH)  # moves tried in the coarse pass
WAVES = 64  # principal components of the coarse pass
FRAMES, CLIPS, SUBJECTS = 4, 5, 3  # on the short list: of the nearest clip, and beyond it
CELLS, ROWS = 2**21, 64  # distances that are held at once, but those of so many images at least
TILE = 4096  # images of the coarse pass whose distances stay near the processor
EXACT = 64  # images whose moves are tried at once


@dataclass(frozen=True)
class Owners:
    """Which clip and subject each training image belongs to.

    `order` sorts the images so that a subject's and a clip's stand together; `clip` and `subject`
    are, in that order, the bounds [first, last + 1] of the run that each image stands in. A
    photograph without a clip is a clip of its own, and a clip of unknown subject a subject of its
    own.
    """

    order: Int[np.ndarray, " n"]
    clip: Int[np.ndarray, "n 2"]
    subject: Int[np.ndarray, "n 2"]

    @property
    def places(self) -> Int[np.ndarray, " n"]:
        """Where each image stands in `order`."""
        places = np.empty_like(self.order)
        places[self.order] = np.arange(len(self.order))
        return places


def clips_of(index: pd.DataFrame) -> np.ndarray:
    """Return the clip of each row, an object array; a photograph that belongs to none is a clip of
    its own.
    """
    return np.where(index["clip"] == "", "\x1f" + index["key"], index["clip"]).astype(object)


def subjects_of(index: pd.DataFrame) -> np.ndarray:
    """Return the subject of each row, an object array; where nobody is known, each clip has a
    subject of its own.
    """
    return np.where(index["subject"] == "", "\x1f" + clips_of(index), index["subject"]).astype(
        object
    )


def owners(clips: np.ndarray, subjects: np.ndarray) -> Owners:
    """Return who owns the images whose clips and subjects are named. Raises DataError unless there
    are two clips.
    """
    clip, subject = (np.unique(names, return_inverse=True)[1] for names in (clips, subjects))
    if len(clip) == 0 or clip.max() == 0:
        raise DataError(
            "a copy is told by the nearest clip and the next, so the faces trained on must be of "
            "two clips or more; "
            f"given: {min(1, len(clip))}. Audit against all that the generator was trained on"
        )
    order = np.lexsort((clip, subject))
    joint = subject[order] * (clip.max() + 1) + clip[order]
    return Owners(order, _runs(joint), _runs(subject[order]))


def _runs(codes: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n 2"]:
    """Return for each place the bounds of the run of equal codes that it stands in."""
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    run = np.cumsum(np.r_[False, codes[1:] != codes[:-1]])
    return np.stack([starts, np.r_[starts[1:], len(codes)]], axis=1)[run]


@dataclass(frozen=True)
class Match:
    """For each image its nearest training image.

    `nearest` is its place in the training set and `distance` how far it is; `outside_clip` and
    `outside_subject` are the distances to the nearest that belongs to another clip and to another
    subject, `next_clip` the place of the former; without another subject the distance is infinite.
    The image must be moved by (`down`, `right`) pixels, after mirroring where `mirrored`, to lie on
    the training image.
    """

    nearest: Int[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    next_clip: Int[np.ndarray, " n"]
    outside_clip: Float[np.ndarray, " n"]
    outside_subject: Float[np.ndarray, " n"]
    mirrored: Bool[np.ndarray, " n"]
    down: Int[np.ndarray, " n"]
    right: Int[np.ndarray, " n"]

    @property
    def ratio_clip(self) -> Float[np.ndarray, " n"]:
        """The distance over that to another clip: near 0 for a copy, near 1 for what is no nearer
        than to others.
        """
        return self.distance / np.maximum(self.outside_clip, 1e-9)

    @property
    def ratio_subject(self) -> Float[np.ndarray, " n"]:
        """The distance over that to another subject."""
        return self.distance / np.maximum(self.outside_subject, 1e-9)


# In a space of features


def match(
    asked: Float[np.ndarray, "m d"],
    train: Float[np.ndarray, "n d"],
    who: Owners,
    own: Int[np.ndarray, " m"] | None = None,
) -> Match:
    """Return the nearest rows of `train` by Euclidean distance.

    With `own`, the place in `train` of each asked row, the clip that it belongs to is left out.
    """
    middle = train.mean(axis=0)
    train, asked = (
        np.ascontiguousarray(part - middle, dtype=np.float32) for part in (train, asked)
    )
    places = who.places
    found = [np.zeros((0, 3), dtype=np.int64)]
    for first, block in distances(asked, train[who.order]):
        if own is not None:
            _forget(block, who.clip[places[own[first : first + len(block)]]])
        nearest = block.argmin(axis=1)
        _forget(block, who.clip[nearest])
        clip = block.argmin(axis=1)
        _forget(block, who.subject[nearest])
        found.append(np.stack([nearest, clip, block.argmin(axis=1)], axis=1))
    picked = np.concatenate(found)
    far = [np.sqrt(_squares(asked, train, who.order[picked[:, column]])) for column in range(3)]
    nearest, clip, subject = picked.T
    still = np.zeros(len(asked), dtype=np.int64)
    alone = who.subject[nearest, 0] == who.subject[subject, 0]
    return Match(
        who.order[nearest],
        far[0],
        who.order[clip],
        far[1],
        np.where(alone, np.inf, far[2]),
        still > 0,
        still,
        still,
    )


def distances(
    asked: Float32[np.ndarray, "m d"], train: Float32[np.ndarray, "n d"]
) -> Iterator[tuple[int, Float32[np.ndarray, "_ n"]]]:
    """Yield squared Euclidean distances of rows of `asked` to all of `train`, less the square of
    each asked row.

    Some rows come at a time, with the first one's place; a block may be written to, until the next
    is asked for.
    """
    squares = np.square(train).sum(axis=1)
    rows = max(ROWS, CELLS // max(1, len(train)))
    held = np.empty((min(rows, len(asked)), len(train)), dtype=np.float32)
    for first in range(0, len(asked), rows):
        part = asked[first : first + rows]
        block = np.matmul(-2 * part, train.T, out=held[: len(part)])
        block += squares
        yield first, block


def _squares(
    asked: Float32[np.ndarray, "m d"],
    train: Float32[np.ndarray, "n d"],
    places: Int[np.ndarray, " m"],
) -> Float[np.ndarray, " m"]:
    """Return the squared distance of each row to one row of `train`, from differences, so that
    equal rows are at 0.
    """
    found = np.empty(len(asked))
    rows = max(1, CELLS // max(1, asked.shape[1]))
    for first in range(0, len(asked), rows):
        part = slice(first, first + rows)
        found[part] = np.square(asked[part] - train[places[part]]).sum(axis=1, dtype=np.float64)
    return found


def _forget(block: Float32[np.ndarray, "m n"], bounds: Int[np.ndarray, "m 2"]) -> None:
    """Put out of reach, in each row of distances, what stands within its bounds."""
    for row, (first, last) in zip(block, bounds.tolist(), strict=True):
        row[first:last] = np.inf


# In pixels


def soften(
    images: UInt8[np.ndarray, "n c h w"], form: tuple[int, int] = (SIDE, SIDE)
) -> Float32[np.ndarray, "n side wide"]:
    """Return images as they are compared: grey, at most `form` pixels high and wide, and blurred,
    in [0, 1].

    Noise of every pixel on its own is taken off so; what makes a face itself is coarser. Raises
    DataError below 8 pixels a side.
    """
    _, _, height, width = images.shape
    if min(height, width) < 8:
        raise DataError(
            "images must have 8 pixels a side or more to be compared when moved; given: "
            f"{height}x{width}"
        )
    down, across = _blur(height, form[0]), _blur(width, form[1])
    soft = np.empty((len(images), len(down), len(across)), dtype=np.float32)
    for first in range(0, len(images), 1024):
        part = slice(first, first + 1024)
        soft[part] = (
            down
            @ (np.asarray(images[part]).mean(axis=1, dtype=np.float32) / np.float32(255))
            @ across.T
        )
    return soft


def _blur(length: int, most: int) -> Float32[np.ndarray, "side length"]:
    """Return the matrix that brings a line of pixels down to at most `most` and blurs it; its
    border is repeated.
    """
    side = min(length, most)
    spread = BLUR * length / side
    reach = int(4 * spread) + 1
    places = np.arange(-reach, length + reach)
    middles = (np.arange(side) + 0.5) * length / side - 0.5
    weights = np.exp(-0.5 * np.square((places[None] - middles[:, None]) / spread))
    matrix = np.zeros((side, length))
    np.add.at(
        matrix.T, places.clip(0, length - 1), (weights / weights.sum(axis=1, keepdims=True)).T
    )
    return matrix.astype(np.float32)


def plain(
    soft: Float32[np.ndarray, "n side wide"], down: int = 0, right: int = 0
) -> Float32[np.ndarray, "n d"]:
    """Return the inside of each image, moved by so many pixels, as a row of mean 0 and length 1.

    So brightness and contrast play no part, and half of a squared distance is one less the
    correlation.
    """
    _, height, width = soft.shape
    inside = soft[:, REACH - down : height - REACH - down, REACH - right : width - REACH - right]
    rows = inside.reshape(len(soft), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))


@dataclass(frozen=True)
class Coarse:
    """A few numbers an image that tell which others may be near: principal components of every
    other pixel.

    `middle` [d] and `waves` [d, k] are measured on training images.
    """

    middle: Float32[np.ndarray, " d"]
    waves: Float32[np.ndarray, "d k"]

    @classmethod
    def fit(cls, soft: Float32[np.ndarray, "n side wide"]) -> "Coarse":
        """Measure the components on up to 4,096 images, evenly spaced."""
        some = soft[:: -(-len(soft) // 4096)]
        rows = cls._rows(some, 0, 0)
        middle = rows.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov(rows - middle, rowvar=False).astype(np.float64))
        return cls(middle, np.ascontiguousarray(vectors[:, ::-1][:, :WAVES], dtype=np.float32))

    @staticmethod
    def _rows(
        soft: Float32[np.ndarray, "n side wide"], down: int, right: int
    ) -> Float32[np.ndarray, "n d"]:
        _, height, width = soft.shape
        inside = soft[
            :, REACH - down : height - REACH - down : 2, REACH - right : width - REACH - right : 2
        ]
        rows = inside.reshape(len(soft), -1)
        rows = rows - rows.mean(axis=1, keepdims=True)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))

    def __call__(
        self, soft: Float32[np.ndarray, "n side wide"], down: int = 0, right: int = 0
    ) -> Float32[np.ndarray, "n k"]:
        """Return the components of softened images that were moved by so many pixels."""
        return (self._rows(soft, down, right) - self.middle) @ self.waves


def match_pixels(
    asked: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    who: Owners,
    coarse: Coarse,
    own: Int[np.ndarray, " m"] | None = None,
) -> Match:
    """Return the nearest softened images of `train`, each asked image also mirrored and moved by up
    to 2 pixels.

    The distance is that of `plain` rows. A coarse pass over all, in few components and moves of two
    pixels, gives each image a short list of a dozen: frames of the nearest clip, the nearest clips,
    and subjects beyond the first. All 50 ways to lie on each of these are then tried in full. With
    `own`, the clip of that place in `train` is left out.
    """
    listed = _short_lists(asked, train, who, coarse, own)
    return _try_all(asked, train, who, listed)


def _short_lists(
    asked: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    who: Owners,
    coarse: Coarse,
    own: Int[np.ndarray, " m"] | None,
) -> Int[np.ndarray, "m listed"]:
    """Return for each image places, in the owners' order, of training images that may be nearest;
    some come twice.
    """
    known = coarse(train)[who.order]
    places, width = who.places, FRAMES + CLIPS + SUBJECTS - 1
    found = [np.zeros((0, width), dtype=np.int64)]
    for first, block in _coarse_distances(asked, known, coarse):
        if own is not None:
            _forget(block, who.clip[places[own[first : first + len(block)]]])
        found.append(_candidates(block, who))
    return np.concatenate(found)


def _coarse_distances(
    asked: Float32[np.ndarray, "m side wide"], known: Float32[np.ndarray, "n k"], coarse: Coarse
) -> Iterator[tuple[int, Float32[np.ndarray, "_ n"]]]:
    """Yield the least squared distances over mirroring and coarse moves, as `least_distances`
    does.
    """

    def ways(part: slice) -> Iterator[Float32[np.ndarray, "_ k"]]:
        sides = asked[part], asked[part][:, :, ::-1]
        return (coarse(seen, down, right) for seen in sides for down in STEPS for right in STEPS)

    return least_distances(len(asked), ways, known)


def least_distances(
    count: int,
    ways: Callable[[slice], Iterable[Float32[np.ndarray, "_ k"]]],
    known: Float32[np.ndarray, "n k"],
) -> Iterator[tuple[int, Float32[np.ndarray, "_ n"]]]:
    """Yield the least squared distance of each of `count` images to all of `known`, over the ways
    to see an image.

    `ways` gives the rows of some images, once for each way. Some images come at a time, with the
    first one's place; a block may be written to, until the next is asked for.
    """
    rows = max(ROWS, CELLS // max(1, len(known)))
    turned = np.concatenate([known.T, np.ones((1, len(known)), dtype=np.float32)])
    squares = np.square(known).sum(axis=1)
    held, tried = (
        np.empty((min(rows, count), wide), dtype=np.float32) for wide in (len(known), TILE)
    )
    for first in range(0, count, rows):
        seen = [_doubled(each) for each in ways(slice(first, first + rows))]
        best = held[: len(seen[0])]
        best.fill(np.inf)
        for start in range(0, len(known), TILE):
            there, least = (side[:, start : start + TILE] for side in (turned, best))
            block = tried[: len(best), : there.shape[1]]
            for components in seen:
                np.matmul(components, there, out=block)
                np.minimum(least, block, out=least)
        best += squares
        yield first, best


def _doubled(rows: Float32[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k1"]:
    """Return -2 times the rows, with the square of their length behind."""
    return np.concatenate([-2 * rows, np.square(rows).sum(axis=1, keepdims=True)], axis=1)


def _candidates(block: Float32[np.ndarray, "m n"], who: Owners) -> Int[np.ndarray, "m listed"]:
    """Return the short list of each row of distances, which are used up."""
    nearest = block.argmin(axis=1)
    columns = []
    for row, (first, last) in zip(block, who.clip[nearest].tolist(), strict=True):
        frames = first + np.argsort(row[first:last], kind="stable")[:FRAMES]
        columns.append(np.resize(frames, FRAMES))
    listed = [*np.stack(columns).T]
    for bounds, times in ((who.clip, CLIPS - 1), (who.subject, SUBJECTS)):
        place = nearest
        for _ in range(times):
            _forget(block, bounds[place])
            place = block.argmin(axis=1)
            left = np.isfinite(np.take_along_axis(block, place[:, None], axis=1)[:, 0])
            place = np.where(left, place, nearest)
            listed.append(place)
    return np.stack(listed, axis=1)


def _try_all(
    asked: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    who: Owners,
    listed: Int[np.ndarray, "m listed"],
) -> Match:
    """Return the match among each image's short list, all moves tried."""
    moves = [
        (down, right) for down in range(-REACH, REACH + 1) for right in range(-REACH, REACH + 1)
    ]
    count = listed.shape[1]
    least = np.empty((len(asked), count))
    way = np.empty((len(asked), count), dtype=np.int64)
    for first in range(0, len(asked), EXACT):
        part = slice(first, first + EXACT)
        seen = np.stack([plain(asked[part], *move) for move in moves], axis=1)
        there = train[who.order[listed[part]].reshape(-1)]
        both = [plain(there), plain(np.ascontiguousarray(there[:, :, ::-1]))]
        known = np.concatenate([rows.reshape(len(seen), count, -1) for rows in both], axis=1)
        products = (seen @ known.transpose(0, 2, 1)).reshape(len(seen), len(moves), 2, count)
        flat = products.transpose(0, 3, 2, 1).reshape(len(seen), count, -1)
        way[part] = flat.argmax(axis=2)
        least[part] = np.sqrt(np.maximum(2 - 2 * flat.max(axis=2).astype(np.float64), 0))
    return _best(who, listed, least, way, moves)


def _best(
    who: Owners,
    listed: Int[np.ndarray, "m listed"],
    least: Float[np.ndarray, "m listed"],
    way: Int[np.ndarray, "m listed"],
    moves: list[tuple[int, int]],
) -> Match:
    """Return the match of each row of a short list, whose least distances and ways to get there are
    known.
    """
    rows = np.arange(len(listed))

    def outside(
        bounds: Int[np.ndarray, "n 2"],
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        far = np.where(bounds[listed, 0] == bounds[nearest, 0][:, None], np.inf, least)
        place = far.argmin(axis=1)
        return listed[rows, place], far[rows, place]

    first = least.argmin(axis=1)
    nearest = listed[rows, first]
    next_clip, outside_clip = outside(who.clip)
    _, outside_subject = outside(who.subject)
    mirrored, move = np.divmod(way[rows, first], len(moves))
    down, right = np.array(moves)[move].T
    return Match(
        nearest=who.order[nearest],
        distance=least[rows, first],
        next_clip=who.order[next_clip],
        outside_clip=outside_clip,
        outside_subject=outside_subject,
        mirrored=mirrored == 1,
        down=down,
        right=np.where(mirrored == 1, -right, right),  # tried on the mirrored training image
    )
