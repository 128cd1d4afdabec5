"""The search for the nearest training image, in shifted pixels or in features.

Next to the nearest of all come the nearest outside its clip, and outside its subject. The
neighbours of a video frame are the frames next to it, so the second nearest image says nothing: a
blend of two frames of one clip would look new.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from mien.audit.inverted_lists import (
    CHOSEN_LISTS,
    EXACT_FEATURE_ROWS,
    InvertedLists,
    choose_lists_of_groups,
    extend_rows,
)
from mien.errors import DataError

MATCH_WIDTH = 48  # pixels per side at which images are compared; larger ones are shrunk to it

# standard deviation, in those pixels, of the Gaussian that removes noise before the comparison
BLUR_PIXELS = 1.0

MATCH_SHIFT_PIXELS = 2  # pixels that an image may have been shifted by

COARSE_SHIFTS = (-MATCH_SHIFT_PIXELS, 0, MATCH_SHIFT_PIXELS)  # shifts tried in the coarse pass

COARSE_STEP = 2  # of so many pixels in each direction, the coarse pass looks at one

COARSE_COMPONENTS = 64  # principal components of the coarse pass

# on the short list: frames of the nearest clip, clips, subjects
LISTED_FRAMES, LISTED_CLIPS, LISTED_SUBJECTS = (4, 5, 3)

NEAR_IMAGES = 128  # images in the nearest lists that the short list is picked from

LISTED_WIDTH = LISTED_FRAMES + LISTED_CLIPS + LISTED_SUBJECTS - 1  # images on the short list

# distances in memory at once, and the images that they are of, at least
SEARCH_DISTANCES, MIN_ROWS = (2**21, 64)

TILE_IMAGES = 4096  # images of the coarse pass whose distances fit into the processor's cache

EXACT_BATCH_IMAGES = 64  # images whose shifts are tried at once


@dataclass(frozen=True)
class Owners:
    """Which clip and subject each training image belongs to.

    `order` sorts the images so that those of a subject, and of a clip, are next to each other;
    `clip` and `subject` are, in that order, the bounds [first, last + 1] of the clip and the
    subject that each image is in. A photograph without a clip is a clip of its own, and a clip of
    an unknown subject a subject of its own.
    """

    order: Int[np.ndarray, " n"]
    clip: Int[np.ndarray, "n 2"]
    subject: Int[np.ndarray, "n 2"]

    @property
    def positions(self) -> Int[np.ndarray, " n"]:
        """The position of each image in `order`."""
        positions = np.empty_like(self.order)
        positions[self.order] = np.arange(len(self.order))
        return positions


def make_owners(clips: np.ndarray, subjects: np.ndarray) -> Owners:
    """Return the owners of images, by the names of their clips and subjects.

    Raises DataError unless there are two clips.
    """
    clip, subject = (np.unique(names, return_inverse=True)[1] for names in (clips, subjects))
    if len(clip) == 0 or clip.max() == 0:
        raise DataError(
            "a copy is recognised by the nearest clip and the next, so the training faces must be "
            f"of two clips or more; given: {min(1, len(clip))}. Audit against all images that the "
            "generator was trained on"
        )
    order = np.lexsort((clip, subject))
    joint = subject[order] * (clip.max() + 1) + clip[order]
    return Owners(order, _find_run_bounds(joint), _find_run_bounds(subject[order]))


def _find_run_bounds(codes: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n 2"]:
    """Return for each position the bounds of the run of equal codes that it is in."""
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    run = np.cumsum(np.r_[False, codes[1:] != codes[:-1]])
    return np.stack([starts, np.r_[starts[1:], len(codes)]], axis=1)[run]


@dataclass(frozen=True)
class Match:
    """The nearest training image of each image.

    `nearest` is its position in the training set and `distance` its distance; `outside_clip` and
    `outside_subject` are the distances to the nearest image of another clip and of another subject,
    `next_clip` the position of the former; without another subject the distance is infinite. The
    image fits the training image after it is mirrored, if `mirrored`, and then shifted by (`down`,
    `right`) pixels.
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
        """The distance over that to another clip: near 0 for a copy, near 1 if it is no nearer."""
        return self.distance / np.maximum(self.outside_clip, 1e-9)

    @property
    def ratio_subject(self) -> Float[np.ndarray, " n"]:
        """The distance over that to another subject."""
        return self.distance / np.maximum(self.outside_subject, 1e-9)


# In a space of features


def match_features(
    queries: Float[np.ndarray, "m d"],
    train: Float[np.ndarray, "n d"],
    owners: Owners,
    positions_in_train: Int[np.ndarray, " m"] | None = None,
) -> Match:
    """Return the nearest rows of `train` by Euclidean distance.

    `positions_in_train` is the position in `train` of each row of `queries`; with it, the row's own
    clip is left out. Up to EXACT_FEATURE_ROWS rows of `train`, all of them are compared; of more,
    those in the nearest lists.
    """
    # Centre the rows, so that small differences keep their digits
    middle = train.mean(axis=0)
    train, queries = (
        np.ascontiguousarray(rows - middle, dtype=np.float32) for rows in (train, queries)
    )

    # The nearest row, the nearest of another clip, and the nearest of another subject
    arguments = queries, train[owners.order], owners, positions_in_train
    pick = _pick_nearest if len(train) <= EXACT_FEATURE_ROWS else _pick_by_lists
    picked = pick(*arguments)

    # Their exact distances; a single subject has no other subject
    distances_to = [
        np.sqrt(_measure_exact_squares(queries, train, owners.order[picked[:, column]]))
        for column in range(3)
    ]
    nearest, clip, subject = picked.T
    no_shift = np.zeros(len(queries), dtype=np.int64)
    same_subject = owners.subject[nearest, 0] == owners.subject[subject, 0]
    return Match(
        owners.order[nearest],
        distances_to[0],
        owners.order[clip],
        distances_to[1],
        np.where(same_subject, np.inf, distances_to[2]),
        no_shift > 0,
        no_shift,
        no_shift,
    )


def _pick_nearest(
    queries: Float32[np.ndarray, "m d"],
    ordered: Float32[np.ndarray, "n d"],
    owners: Owners,
    positions_in_train: Int[np.ndarray, " m"] | None,
) -> Int[np.ndarray, "m 3"]:
    """Return the nearest row of `ordered`, the nearest of another clip, and of another subject.

    `ordered` are the training rows in the owners' order.
    """
    positions = owners.positions
    nearest_blocks = [np.zeros((0, 3), dtype=np.int64)]
    for first, block in iterate_squared_distances(queries, ordered):
        if positions_in_train is not None:
            _bar_bounds(
                block, owners.clip[positions[positions_in_train[first : first + len(block)]]]
            )
        nearest = block.argmin(axis=1)
        _bar_bounds(block, owners.clip[nearest])
        clip = block.argmin(axis=1)
        _bar_bounds(block, owners.subject[nearest])
        nearest_blocks.append(np.stack([nearest, clip, block.argmin(axis=1)], axis=1))
    return np.concatenate(nearest_blocks)


def _pick_by_lists(
    queries: Float32[np.ndarray, "m d"],
    ordered: Float32[np.ndarray, "n d"],
    owners: Owners,
    positions_in_train: Int[np.ndarray, " m"] | None,
) -> Int[np.ndarray, "m 3"]:
    """Return the rows that `_pick_nearest` returns, from the nearest lists.

    A row whose lists show no other clip or subject is compared with all.
    """
    # The nearest rows in the nearest lists
    lists = InvertedLists.make(ordered, owners.subject[:, 0])
    own_clip = _find_own_clip(owners, positions_in_train)
    picked, is_complete = [np.zeros((0, 3), dtype=np.int64)], [np.zeros(0, dtype=bool)]
    for _, positions, distances in _iterate_near(
        lists, len(queries), lambda batch: [queries[batch]], owners, own_clip
    ):
        rows, columns = np.arange(len(positions)), [distances.argmin(axis=1)]
        complete = np.ones(len(positions), dtype=bool)
        for owner in (owners.clip, owners.subject):
            codes = owner[positions, 0]
            distances[codes == codes[rows, columns[0]][:, None]] = np.inf
            columns.append(distances.argmin(axis=1))
            if owner[0, 1] < len(owner):  # there is another one
                complete &= np.isfinite(distances[rows, columns[-1]])
        is_complete.append(complete)
        picked.append(np.take_along_axis(positions, np.stack(columns, axis=1), axis=1))

    # The others among all rows
    found, lacking = np.concatenate(picked), np.flatnonzero(~np.concatenate(is_complete))
    if len(lacking):
        own = None if positions_in_train is None else positions_in_train[lacking]
        found[lacking] = _pick_nearest(queries[lacking], ordered, owners, own)
    return found


def iterate_squared_distances(
    queries: Float32[np.ndarray, "m d"], train: Float32[np.ndarray, "n d"]
) -> Iterator[tuple[int, Float32[np.ndarray, "_ n"]]]:
    """Yield squared Euclidean distances of rows of `queries` to `train`, a block of rows at a time.

    The square of each asked row is left out. Each block comes with the position of its first row;
    it may be overwritten, and is valid until the next block is asked for.
    """
    squares = np.square(train).sum(axis=1)
    rows = max(MIN_ROWS, SEARCH_DISTANCES // max(1, len(train)))
    buffer = np.empty((min(rows, len(queries)), len(train)), dtype=np.float32)
    for first in range(0, len(queries), rows):
        batch = queries[first : first + rows]
        block = np.matmul(-2 * batch, train.T, out=buffer[: len(batch)])
        block += squares
        yield first, block


def _measure_exact_squares(
    queries: Float32[np.ndarray, "m d"],
    train: Float32[np.ndarray, "n d"],
    positions: Int[np.ndarray, " m"],
) -> Float[np.ndarray, " m"]:
    """Return the squared distance of each row to one row of `train`.

    It is computed from differences, so that equal rows are at 0.
    """
    squares = np.empty(len(queries))
    rows = max(1, SEARCH_DISTANCES // max(1, queries.shape[1]))
    for first in range(0, len(queries), rows):
        batch = slice(first, first + rows)
        squares[batch] = np.square(queries[batch] - train[positions[batch]]).sum(
            axis=1, dtype=np.float64
        )
    return squares


def _bar_bounds(block: Float32[np.ndarray, "m n"], bounds: Int[np.ndarray, "m 2"]) -> None:
    """Set the distances within the bounds of each row to infinity."""
    for row, (first, last) in zip(block, bounds.tolist(), strict=True):
        row[first:last] = np.inf


# In pixels


def soften(
    images: UInt8[np.ndarray, "n c h w"], form: tuple[int, int] = (MATCH_WIDTH, MATCH_WIDTH)
) -> Float32[np.ndarray, "n side wide"]:
    """Return images in the form in which they are compared: grey, blurred, in [0, 1].

    They are at most `form` pixels high and wide. Blurring removes noise of single pixels; the
    features of a face are coarser. Raises DataError below 8 pixels per side.
    """
    _, _, height, width = images.shape
    if min(height, width) < 8:
        raise DataError(
            "images need at least 8 pixels per side to be compared when shifted; given: "
            f"{height}x{width}"
        )
    down, across = _make_blur_matrix(height, form[0]), _make_blur_matrix(width, form[1])
    soft = np.empty((len(images), len(down), len(across)), dtype=np.float32)
    for first in range(0, len(images), 1024):
        batch = slice(first, first + 1024)
        soft[batch] = (
            down
            @ (np.asarray(images[batch]).mean(axis=1, dtype=np.float32) / np.float32(255))
            @ across.T
        )
    return soft


def _make_blur_matrix(length: int, most: int) -> Float32[np.ndarray, "side length"]:
    """Return the matrix that shrinks a line of pixels to at most `most` and blurs it.

    The pixels at its ends are repeated beyond them.
    """
    shrunk_length = min(length, most)
    spread = BLUR_PIXELS * length / shrunk_length
    reach = int(4 * spread) + 1
    positions = np.arange(-reach, length + reach)
    middles = (np.arange(shrunk_length) + 0.5) * length / shrunk_length - 0.5
    weights = np.exp(-0.5 * np.square((positions[None] - middles[:, None]) / spread))
    matrix = np.zeros((shrunk_length, length))
    np.add.at(
        matrix.T, positions.clip(0, length - 1), (weights / weights.sum(axis=1, keepdims=True)).T
    )
    return matrix.astype(np.float32)


def normalise_inside(
    soft: Float32[np.ndarray, "n side wide"], down: int = 0, right: int = 0, step: int = 1
) -> Float32[np.ndarray, "n d"]:
    """Return the inside of each shifted image as a row of mean 0 and length 1.

    Of every `step` pixels in each direction, one is taken.
    So brightness and contrast have no influence, and half of a squared distance is 1 less the
    correlation.
    """
    _, height, width = soft.shape
    inside = soft[
        :,
        MATCH_SHIFT_PIXELS - down : height - MATCH_SHIFT_PIXELS - down : step,
        MATCH_SHIFT_PIXELS - right : width - MATCH_SHIFT_PIXELS - right : step,
    ]
    rows = inside.reshape(len(soft), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))


@dataclass(frozen=True)
class Coarse:
    """A few numbers per image that find candidates: principal components of every other pixel.

    `middle` [d] and `waves` [d, k] are measured on training images.
    """

    middle: Float32[np.ndarray, " d"]
    waves: Float32[np.ndarray, "d k"]

    @classmethod
    def fit(cls, soft: Float32[np.ndarray, "n side wide"]) -> "Coarse":
        """Measure the components on up to 4,096 images, evenly spaced."""
        sample = soft[:: -(-len(soft) // 4096)]
        rows = normalise_inside(sample, step=COARSE_STEP)
        middle = rows.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov(rows - middle, rowvar=False).astype(np.float64))
        return cls(
            middle, np.ascontiguousarray(vectors[:, ::-1][:, :COARSE_COMPONENTS], dtype=np.float32)
        )

    def __call__(
        self, soft: Float32[np.ndarray, "n side wide"], down: int = 0, right: int = 0
    ) -> Float32[np.ndarray, "n k"]:
        """Return the components of softened images that were shifted by so many pixels."""
        return (normalise_inside(soft, down, right, COARSE_STEP) - self.middle) @ self.waves


def match_pixels(
    queries: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    owners: Owners,
    coarse: Coarse,
    positions_in_train: Int[np.ndarray, " m"] | None = None,
    lists: InvertedLists | None = None,
) -> Match:
    """Return the nearest softened images of `train`, for images also mirrored and shifted.

    Shifts are by up to 2 pixels, and the distance is that of the rows of `normalise_inside`. A
    coarse pass over all, in few components and shifts of two pixels, gives each image a short list
    of a dozen: frames of the nearest clip, the nearest clips, and further subjects. All 50
    combinations of mirroring and moving are then tried on each of these. `positions_in_train` is
    the position in `train` of each asked image; with it, the image's own clip is left out. With
    `lists` (`list_coarsely`), the coarse pass looks only at the lists of training images that are
    nearest, those of further subjects included.
    """
    arguments = queries, train, owners, coarse, positions_in_train
    listed = _list_candidates(*arguments) if lists is None else _list_by_lists(*arguments, lists)
    return _match_candidates(queries, train, owners, listed)


def list_coarsely(
    train: Float32[np.ndarray, "n side wide"], owners: Owners, coarse: Coarse
) -> InvertedLists:
    """Return softened training images in inverted lists, as positions in the owners' order."""
    return InvertedLists.make(coarse(train)[owners.order], owners.subject[:, 0])


def _list_candidates(
    queries: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    owners: Owners,
    coarse: Coarse,
    positions_in_train: Int[np.ndarray, " m"] | None,
) -> Int[np.ndarray, "m listed"]:
    """Return for each image the training images that may be nearest; some occur twice.

    They are positions in the owners' order.
    """
    train_components = coarse(train)[owners.order]
    positions = owners.positions
    lists = [np.zeros((0, LISTED_WIDTH), dtype=np.int64)]
    for first, block in _iterate_coarse_distances(queries, train_components, coarse):
        if positions_in_train is not None:
            _bar_bounds(
                block, owners.clip[positions[positions_in_train[first : first + len(block)]]]
            )
        lists.append(_pick_candidates(block, owners))
    return np.concatenate(lists)


def _list_by_lists(
    queries: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    owners: Owners,
    coarse: Coarse,
    positions_in_train: Int[np.ndarray, " m"] | None,
    lists: InvertedLists,
) -> Int[np.ndarray, "m listed"]:
    """Return the short list of each image as `_list_candidates` does, from the nearest lists.

    An image whose lists show too few other clips and subjects is compared with all training images.
    """
    # From the nearest lists
    listed = [np.zeros((0, LISTED_WIDTH), dtype=np.int64)]
    is_complete = [np.zeros(0, dtype=bool)]
    own_clip = _find_own_clip(owners, positions_in_train)
    for _, positions, distances in _iterate_near(
        lists, len(queries), _make_coarse_views(queries, coarse), owners, own_clip
    ):
        picked, enough = _pick_from_near(positions, distances, owners)
        listed.append(picked)
        is_complete.append(enough)
    # The others from all training images
    found, lacking = np.concatenate(listed), np.flatnonzero(~np.concatenate(is_complete))
    if len(lacking):
        own = None if positions_in_train is None else positions_in_train[lacking]
        found[lacking] = _list_candidates(queries[lacking], train, owners, coarse, own)
    return found


def _find_own_clip(
    owners: Owners, positions_in_train: Int[np.ndarray, " m"] | None
) -> Int[np.ndarray, " m"] | None:
    """Return the code of the clip of each asked training image: the first position of its clip."""
    if positions_in_train is None:
        return None
    return owners.clip[owners.positions[positions_in_train], 0]


def _iterate_near(
    lists: InvertedLists,
    count: int,
    make_views: Callable[[slice], Iterable[Float32[np.ndarray, "_ k"]]],
    owners: Owners,
    own_clip: Int[np.ndarray, " m"] | None,
) -> Iterator[tuple[int, Int[np.ndarray, "_ w"], Float32[np.ndarray, "_ w"]]]:
    """Yield the training images in the nearest lists of each image, as positions in the owners'
    order, with their squared distances; those of the image's own clip are infinitely far.
    """
    subject, clip = (lists.find_owner(codes[:, 0]) for codes in (owners.subject, owners.clip))

    def choose(first: int, distances: Float32[np.ndarray, "b l"]) -> Int[np.ndarray, "b chosen"]:
        if own_clip is not None:
            own = own_clip[first : first + len(distances)]
            distances[clip[None] == own[:, None]] = np.inf
        return choose_lists_of_groups(distances, subject)

    for first, positions, distances in lists.iterate_near(count, make_views, choose, CHOSEN_LISTS):
        if own_clip is not None:
            own = own_clip[first : first + len(positions)]
            distances[owners.clip[positions, 0] == own[:, None]] = np.inf
        yield first, positions, distances


def _pick_from_near(
    positions: Int[np.ndarray, "m w"], distances: Float32[np.ndarray, "m w"], owners: Owners
) -> tuple[Int[np.ndarray, "m listed"], Bool[np.ndarray, " m"]]:
    """Return the short list of each row, and whether it has all other clips and subjects that it
    should have.

    `distances` is overwritten.
    """
    # Frames of the nearest clip are among the nearest images
    rows = np.arange(len(positions))
    near, near_distances = _keep_nearest(positions, distances, NEAR_IMAGES)
    nearest = near[rows, near_distances.argmin(axis=1)]
    clip = owners.clip[nearest, 0][:, None]
    in_clip = np.where(owners.clip[near, 0] == clip, near_distances, np.inf)
    frames = np.argsort(in_clip, axis=1, kind="stable")[:, :LISTED_FRAMES]
    is_frame = np.isfinite(np.take_along_axis(in_clip, frames, axis=1))
    frames = np.take_along_axis(near, frames, axis=1)
    columns = [*np.where(is_frame, frames, nearest[:, None]).T]

    # The nearest of other clips, then of other subjects, after the nearest clip is left out. Where
    # there are too few in the set, none is lacking
    distances[owners.clip[positions, 0] == clip] = np.inf
    near, near_distances = _keep_nearest(positions, distances, NEAR_IMAGES, CHOSEN_LISTS)
    is_complete = np.ones(len(positions), dtype=bool)
    for owner, times in ((owners.clip, LISTED_CLIPS - 1), (owners.subject, LISTED_SUBJECTS)):
        codes, candidate = owner[near, 0], nearest
        others = len(np.unique(owner[:, 0])) - 2  # besides the nearest and the image's own
        for number in range(times):
            near_distances[codes == owner[candidate, 0][:, None]] = np.inf
            column = near_distances.argmin(axis=1)
            is_finite = np.isfinite(near_distances[rows, column])
            candidate = np.where(is_finite, near[rows, column], nearest)
            is_complete &= is_finite | (number >= others)
            columns.append(candidate)
    return np.stack(columns, axis=1), is_complete


def _keep_nearest(
    positions: Int[np.ndarray, "m w"],
    distances: Float32[np.ndarray, "m w"],
    count: int,
    parts: int = 0,
) -> tuple[Int[np.ndarray, "m kept"], Float32[np.ndarray, "m kept"]]:
    """Return the nearest `count` columns of each row, and the nearest of each of so many parts."""
    kept = np.argpartition(distances, min(count, distances.shape[1] - 1), axis=1)[:, :count]
    if parts:
        divided = distances.reshape(len(distances), parts, -1)
        best = divided.argmin(axis=2) + np.arange(parts) * divided.shape[2]
        # One that is kept twice does no harm
        kept = np.concatenate([kept, best], axis=1)
    return np.take_along_axis(positions, kept, axis=1), np.take_along_axis(distances, kept, axis=1)


def _iterate_coarse_distances(
    queries: Float32[np.ndarray, "m side wide"],
    train_components: Float32[np.ndarray, "n k"],
    coarse: Coarse,
) -> Iterator[tuple[int, Float32[np.ndarray, "_ n"]]]:
    """Yield the least squared distances over mirroring and coarse shifts
    (`iterate_least_distances`).
    """
    return iterate_least_distances(
        len(queries), _make_coarse_views(queries, coarse), train_components
    )


def _make_coarse_views(
    queries: Float32[np.ndarray, "m side wide"], coarse: Coarse
) -> Callable[[slice], Iterator[Float32[np.ndarray, "_ k"]]]:
    """Return what gives the components of a slice of images, mirrored and shifted in all ways."""

    def make_views(batch: slice) -> Iterator[Float32[np.ndarray, "_ k"]]:
        views = queries[batch], queries[batch][:, :, ::-1]
        return (
            coarse(view, down, right)
            for view in views
            for down in COARSE_SHIFTS
            for right in COARSE_SHIFTS
        )

    return make_views


def iterate_least_distances(
    count: int,
    make_views: Callable[[slice], Iterable[Float32[np.ndarray, "_ k"]]],
    train_components: Float32[np.ndarray, "n k"],
) -> Iterator[tuple[int, Float32[np.ndarray, "_ n"]]]:
    """Yield the least squared distance of each of `count` images to `train_components`, over its
    views.

    `make_views` returns the rows of a slice of images, once for each view (such as mirrored or
    shifted). Images come in blocks, with the position of the first one; a block may be overwritten,
    and is valid until the next is asked for.
    """
    # Append a column, so that one product gives distances
    rows = max(MIN_ROWS, SEARCH_DISTANCES // max(1, len(train_components)))
    turned = np.concatenate(
        [train_components.T, np.ones((1, len(train_components)), dtype=np.float32)]
    )
    squares = np.square(train_components).sum(axis=1)
    buffer, scratch = (
        np.empty((min(rows, count), wide), dtype=np.float32)
        for wide in (len(train_components), TILE_IMAGES)
    )

    # Take the least over all views, tile by tile
    for first in range(0, count, rows):
        views = [extend_rows(view_rows) for view_rows in make_views(slice(first, first + rows))]
        best = buffer[: len(views[0])]
        best.fill(np.inf)
        for start in range(0, len(train_components), TILE_IMAGES):
            tile, least = (columns[:, start : start + TILE_IMAGES] for columns in (turned, best))
            block = scratch[: len(best), : tile.shape[1]]
            for components in views:
                np.matmul(components, tile, out=block)
                np.minimum(least, block, out=least)
        best += squares
        yield first, best


def _pick_candidates(
    block: Float32[np.ndarray, "m n"], owners: Owners
) -> Int[np.ndarray, "m listed"]:
    """Return the short list of each row of distances, which are overwritten."""
    # Frames of the nearest clip
    nearest = block.argmin(axis=1)
    columns = []
    for row, (first, last) in zip(block, owners.clip[nearest].tolist(), strict=True):
        frames = first + np.argsort(row[first:last], kind="stable")[:LISTED_FRAMES]
        columns.append(np.resize(frames, LISTED_FRAMES))
    listed = [*np.stack(columns).T]

    # The nearest of other clips, then of other subjects
    for bounds, times in ((owners.clip, LISTED_CLIPS - 1), (owners.subject, LISTED_SUBJECTS)):
        candidate = nearest
        for _ in range(times):
            _bar_bounds(block, bounds[candidate])
            candidate = block.argmin(axis=1)
            is_finite = np.isfinite(np.take_along_axis(block, candidate[:, None], axis=1)[:, 0])
            candidate = np.where(is_finite, candidate, nearest)
            listed.append(candidate)
    return np.stack(listed, axis=1)


def _match_candidates(
    queries: Float32[np.ndarray, "m side wide"],
    train: Float32[np.ndarray, "n side wide"],
    owners: Owners,
    listed: Int[np.ndarray, "m listed"],
) -> Match:
    """Return the match from each image's short list, with all shifts tried."""
    shifts = [
        (down, right)
        for down in range(-MATCH_SHIFT_PIXELS, MATCH_SHIFT_PIXELS + 1)
        for right in range(-MATCH_SHIFT_PIXELS, MATCH_SHIFT_PIXELS + 1)
    ]
    count = listed.shape[1]
    least = np.empty((len(queries), count))
    view = np.empty((len(queries), count), dtype=np.int64)

    # The best view and its distance, for each image on the short list
    for first in range(0, len(queries), EXACT_BATCH_IMAGES):
        batch = slice(first, first + EXACT_BATCH_IMAGES)
        views = np.stack([normalise_inside(queries[batch], *shift) for shift in shifts], axis=1)
        listed_images = train[owners.order[listed[batch]].reshape(-1)]
        mirrorings = [
            normalise_inside(listed_images),
            normalise_inside(np.ascontiguousarray(listed_images[:, :, ::-1])),
        ]
        candidate_rows = np.concatenate(
            [rows.reshape(len(views), count, -1) for rows in mirrorings], axis=1
        )
        products = (views @ candidate_rows.transpose(0, 2, 1)).reshape(
            len(views), len(shifts), 2, count
        )
        likeness = products.transpose(0, 3, 2, 1).reshape(len(views), count, -1)
        view[batch] = likeness.argmax(axis=2)
        least[batch] = np.sqrt(np.maximum(2 - 2 * likeness.max(axis=2).astype(np.float64), 0))
    return _pick_best(owners, listed, least, view, shifts)


def _pick_best(
    owners: Owners,
    listed: Int[np.ndarray, "m listed"],
    least: Float[np.ndarray, "m listed"],
    view: Int[np.ndarray, "m listed"],
    shifts: list[tuple[int, int]],
) -> Match:
    """Return the match of each row of a short list, by least distances and their views."""
    rows = np.arange(len(listed))

    def find_outside(
        bounds: Int[np.ndarray, "n 2"],
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        distance_outside = np.where(bounds[listed, 0] == bounds[nearest, 0][:, None], np.inf, least)
        column = distance_outside.argmin(axis=1)
        return listed[rows, column], distance_outside[rows, column]

    # The nearest, and the nearest of another clip and of another subject
    first = least.argmin(axis=1)
    nearest = listed[rows, first]
    next_clip, outside_clip = find_outside(owners.clip)
    _, outside_subject = find_outside(owners.subject)

    # How the image fits the nearest
    mirrored, shift = np.divmod(view[rows, first], len(shifts))
    down, right = np.array(shifts)[shift].T
    return Match(
        nearest=owners.order[nearest],
        distance=least[rows, first],
        next_clip=owners.order[next_clip],
        outside_clip=outside_clip,
        outside_subject=outside_subject,
        mirrored=mirrored == 1,
        down=down,
        right=np.where(mirrored == 1, -right, right),  # tried on the mirrored training image
    )
