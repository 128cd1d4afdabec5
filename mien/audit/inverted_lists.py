"""Inverted lists: near rows of a large set, found among a few of its rows.

The rows are divided into lists of rows that are close to each other, and only the lists whose
centres are nearest to an image are searched (Jégou et al. 2011, section IV-A). All distances to
the rows of these lists are computed, so the lists decide only which rows are looked at. The time
for n images and n rows grows with n to the power of 1.5, where a search of all pairs needs n².
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

# with at most so many rows, all pairs are compared: if an image is compared in many views, such as
# shifted and mirrored, and if it is compared in one
EXACT_ROWS, EXACT_FEATURE_ROWS = (10_000, 50_000)

# rows of a list: at least, and as a multiple of the square root of the number of rows
MIN_LIST_ROWS, LIST_ROWS_PER_ROOT = (64, 0.4)

# rows of a list that its centre is computed from, and steps of k-means
SAMPLED_ROWS, MEANS_STEPS = (64, 5)

ASSIGNED_ROWS = 4096  # rows that are compared with all centres at once

# lists that are searched: the nearest of all, and the nearest of each of three further groups
NEAREST_LISTS, GROUP_LISTS = (20, (12, 6, 4))

LISTED_DISTANCES = 2**23  # distances in memory at once

NO_LIST = -1  # in place of the number of a list: none

Views = Callable[[slice], Iterable[Float32[np.ndarray, "_ k"]]]
"""Returns the rows of a slice of images, once for each view, such as mirrored or shifted."""

ListChoice = Callable[[int, Float32[np.ndarray, "b lists"]], Int[np.ndarray, "b chosen"]]
"""Returns the lists to search, by the position of the first image and distances to centres."""


@dataclass(frozen=True)
class InvertedLists:
    """The rows of a set in lists of about equal length.

    `members` are the positions of the rows of each list, and `lengths` how many there are; the
    rest of a list repeats its first row. `columns` holds the rows of each list as columns, with a
    last row of ones, and `squares` their squared lengths, infinite beyond the end of a list.
    `centres` holds the mean of each list as a column in the same way.
    """

    members: Int[np.ndarray, "lists size"]
    lengths: Int[np.ndarray, " lists"]
    columns: Float32[np.ndarray, "lists k1 size"]
    squares: Float32[np.ndarray, "lists size"]
    centres: Float32[np.ndarray, "k1 lists"]
    centre_squares: Float32[np.ndarray, " lists"]

    @classmethod
    def make(
        cls, rows: Float32[np.ndarray, "n k"], groups: Int[np.ndarray, " n"] | None = None
    ) -> "InvertedLists":
        """Divide rows into lists.

        Rows of a group, such as the images of a subject, get lists of their own if they fill one.
        """
        size = max(MIN_LIST_ROWS, int(LIST_ROWS_PER_ROOT * len(rows) ** 0.5))
        groups = np.zeros(len(rows), dtype=np.int64) if groups is None else groups
        lists = [
            positions
            for start in _list_groups(groups, size)
            for positions in _gather_near_rows(rows, start, size)
        ]

        # Lists as arrays of one length
        lengths = np.array([len(positions) for positions in lists])
        members = np.stack([np.resize(positions, lengths.max()) for positions in lists])
        is_filled = np.arange(members.shape[1])[None] < lengths[:, None]
        squares = np.where(is_filled, np.square(rows).sum(axis=1)[members], np.float32(np.inf))
        columns = np.ones((len(lists), rows.shape[1] + 1, members.shape[1]), dtype=np.float32)
        columns[:, :-1] = rows[members].transpose(0, 2, 1)

        centres = np.stack([rows[positions].mean(axis=0) for positions in lists], axis=1)
        return cls(
            members,
            lengths,
            columns,
            squares,
            np.concatenate([centres, np.ones((1, len(lists)), dtype=np.float32)]),
            np.square(centres).sum(axis=0),
        )

    def find_owner(self, codes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " lists"]:
        """Return the code that all rows of each list have; for a list of several codes, -1 less its
        number.
        """
        own = codes[self.members]
        return np.where((own == own[:, :1]).all(axis=1), own[:, 0], -1 - np.arange(len(own)))

    def iterate_near(
        self, count: int, make_views: Views, choose: ListChoice, chosen_lists: int
    ) -> Iterator[tuple[int, Int[np.ndarray, "b w"], Float32[np.ndarray, "b w"]]]:
        """Yield the rows in the chosen lists of `count` images, with their least squared distances
        over the views.

        `choose` returns `chosen_lists` lists for each image, or NO_LIST. Images come in blocks,
        with the position of the first one. The distance of what is no row is infinite.
        """
        size = self.members.shape[1]
        block_images = max(64, LISTED_DISTANCES // (chosen_lists * size))
        for first in range(0, count, block_images):
            # All views of each image, next to each other
            views = np.stack(
                [extend_rows(rows) for rows in make_views(slice(first, first + block_images))],
                axis=1,
            )
            chosen = choose(first, self._measure_to_centres(views))
            near = np.full((*chosen.shape, size), np.inf, dtype=np.float32)

            # One list after the other, with all images that chose it
            order = np.argsort(chosen, axis=None, kind="stable")
            bounds = np.searchsorted(chosen.ravel()[order], np.arange(len(self.members) + 1))
            for number in np.flatnonzero(np.diff(bounds)):
                image, slot = np.divmod(order[bounds[number] : bounds[number + 1]], chosen.shape[1])
                products = np.matmul(
                    views[image].reshape(-1, views.shape[2]), self.columns[number]
                ).reshape(len(image), -1, size)
                near[image, slot] = products.min(axis=1) + self.squares[number]
            yield first, self.members[chosen].reshape(len(views), -1), near.reshape(len(views), -1)

    def _measure_to_centres(
        self, views: Float32[np.ndarray, "b views k1"]
    ) -> Float32[np.ndarray, "b lists"]:
        """Return the least squared distance of each image to the centre of each list."""
        nearest = np.full((len(views), len(self.centre_squares)), np.inf, dtype=np.float32)
        for view in range(views.shape[1]):
            np.minimum(nearest, views[:, view] @ self.centres, out=nearest)
        return nearest + self.centre_squares


def extend_rows(rows: Float32[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k1"]:
    """Return -2 times the rows, with the square of their length as the last column.

    Their product with rows that end in a 1 is the squared distance without the square of the
    latter.
    """
    return np.concatenate([-2 * rows, np.square(rows).sum(axis=1, keepdims=True)], axis=1)


def choose_nearest_lists(
    distances: Float32[np.ndarray, "b lists"], count: int
) -> Int[np.ndarray, "b count"]:
    """Return the nearest lists of each image.

    NO_LIST is in place of those that are missing or barred; barred ones are infinitely far.
    """
    available = min(count, distances.shape[1])
    nearest = np.argpartition(distances, available - 1, axis=1)[:, :available]
    is_near = np.isfinite(np.take_along_axis(distances, nearest, axis=1))
    chosen = np.full((len(distances), count), NO_LIST)
    chosen[:, :available] = np.where(is_near, nearest, NO_LIST)
    return chosen


CHOSEN_LISTS = NEAREST_LISTS + sum(GROUP_LISTS)  # lists of an image, at most


def choose_lists_of_groups(
    distances: Float32[np.ndarray, "b lists"], owner: Int[np.ndarray, " lists"]
) -> Int[np.ndarray, "b chosen"]:
    """Return the nearest lists of each image, and the nearest ones of further groups.

    `owner` is the group of each list (`InvertedLists.find_owner`). The lists of a group are barred
    when those of the next are chosen, so that a large group does not hide the others. `distances`
    is overwritten.
    """
    chosen = [choose_nearest_lists(distances, NEAREST_LISTS)]
    for count in GROUP_LISTS:
        nearest = distances.argmin(axis=1)
        distances[owner[None] == owner[nearest][:, None]] = np.inf
        chosen.append(choose_nearest_lists(distances, count))

    # A list is searched once
    ordered = np.sort(np.concatenate(chosen, axis=1), axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = NO_LIST
    return ordered


def _list_groups(groups: Int[np.ndarray, " n"], size: int) -> list[Int[np.ndarray, " _"]]:
    """Return the positions of the rows of each group that fills a list, and all others together."""
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    large = [part for part in parts if len(part) >= size]
    others = np.flatnonzero(counts[codes] < size)
    return [*large, *([others] if len(others) else [])]


def _gather_near_rows(
    rows: Float32[np.ndarray, "n k"], positions: Int[np.ndarray, " m"], size: int
) -> list[Int[np.ndarray, " _"]]:
    """Return positions in lists of at most `size` rows that are close to each other.

    A few steps of k-means (Lloyd 1982) start from halved sets; a list that becomes too long is
    halved again.
    """
    # Centres, from some of the rows
    step = max(1, size // SAMPLED_ROWS)
    sample = positions[::step]
    parts = _halve(rows, sample, max(1, size // step))
    for _ in range(MEANS_STEPS):
        centres = np.stack([rows[part].mean(axis=0) for part in parts])
        parts = _assign_to_nearest(rows, sample, centres)

    # All rows, by these centres
    centres = np.stack([rows[part].mean(axis=0) for part in parts])
    return [
        short
        for part in _assign_to_nearest(rows, positions, centres)
        for short in _halve(rows, part, size)
    ]


def _assign_to_nearest(
    rows: Float32[np.ndarray, "n k"],
    positions: Int[np.ndarray, " m"],
    centres: Float32[np.ndarray, "c k"],
) -> list[Int[np.ndarray, " _"]]:
    """Return the positions of the rows that are nearest to each centre, without empty ones."""
    squares = np.square(centres).sum(axis=1)
    nearest = np.concatenate(
        [
            (squares - 2 * rows[batch] @ centres.T).argmin(axis=1)
            for batch in np.split(positions, range(ASSIGNED_ROWS, len(positions), ASSIGNED_ROWS))
        ]
    )
    order = np.argsort(nearest, kind="stable")
    counts = np.bincount(nearest)
    return np.split(positions[order], np.cumsum(counts[counts > 0])[:-1])


def _halve(
    rows: Float[np.ndarray, "n k"], positions: Int[np.ndarray, " m"], size: int
) -> list[Int[np.ndarray, " _"]]:
    """Return positions in lists of at most `size`, halved by the most varied number of the rows."""
    if len(positions) <= size:
        return [positions]
    own = rows[positions]
    order = np.argsort(own[:, own.var(axis=0).argmax()], kind="stable")
    halves = np.split(positions[order], [len(order) // 2])
    return [part for half in halves for part in _halve(rows, half, size)]
