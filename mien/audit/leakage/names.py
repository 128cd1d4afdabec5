"""Whether two names of a set belong to one person, by their pictures.

People look alike, in groups: by sex, age, skin, glasses, light. So the scale is not how near two
strangers are by chance; it is the other pairs of names in the same set, nearly all of which are
different people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from mien.audit.leakage.duplicates import NEIGHBOURING_FRAMES_CORRELATION, THUMB_WIDTH, make_thumbs
from mien.faces import Faces, name_units
from mien.seeds import make_rng

NAME_COMPONENTS = 40  # principal components of the pixels in which people are compared

WHITENING_SHRINKAGE = 0.1  # of the mean variance, added to each component

MAX_P = 0.05  # p below which the nearest pairs are separated from all others

MAX_PAIRS_TOGETHER = 3  # pairs that may be separated together

TAIL_PAIRS = (8, 16, 32)  # following pairs that show how near the nearest different people would be

# quantile of people's distances to themselves up to which names are like one person
LIKE_ONE_QUANTILE = 0.9

# clips or photographs beyond the first of each person, in total, from which the variation within
# people can be learnt
MIN_FREE_UNITS = 10

MIN_NAMES = 6  # names with at least two clips or photographs

MAX_DIVIDED_PEOPLE = 60  # people who are compared with themselves, at most

MIN_DISTANCE = 1e-9  # smaller distances count as 0

# share of people divided between two names that must be found, or else none is evidence
MIN_FOUND_SHARE = 0.5

PairPlaces = Int[np.ndarray, " p"]

DOUBLE_COLUMNS = {
    "a": "str",
    "b": "str",
    "evidence": "str",
    "number": "int64",
    "distance": "float64",
    "usual": "float64",
    "nearest": "float64",
    "p": "float64",
}


@dataclass(frozen=True)
class Units:
    """The units of comparison: the mean of each clip, or a photograph; `thumbs` are [n,
    256].
    """

    thumbs: Float[np.ndarray, "n d"]
    subjects: Int[np.ndarray, " n"]  # places in `names`
    names: tuple[str, ...]

    @property
    def counts(self) -> Int[np.ndarray, " s"]:
        """The number of units of each name."""
        return np.bincount(self.subjects, minlength=len(self.names))


@dataclass(frozen=True)
class Doubles:
    """The pairs of names that look like one person, and whether finding none would mean anything.

    `names` counts the names with at least two clips or photographs, which are compared;
    `single` counts the others. Of `divided` people whose own clips were divided between two names,
    `found` would have been reported; `divided` is 0 if there is too little to compare at all.
    """

    pairs: pd.DataFrame
    names: int
    single: int
    divided: int
    found: int

    @property
    def is_inconclusive(self) -> bool:
        """Whether nothing follows if no pair was reported."""
        return not self.divided or self.found < MIN_FOUND_SHARE * self.divided


def find_doubles(*parts: Faces) -> Doubles:
    """Return the pairs of subjects of all `parts` that look like one person.

    `pairs` has one row per pair: a, b, evidence "nearness", `number` of their clips or
    photographs, their distance, how far one person's own halves usually are from each other, the
    distance of the nearest pair that is not reported, and p.

    Distances are between the means of two names' clips (photographs), relative to what their
    numbers let expect; variation within people counts little: principal components of small grey
    pictures are whitened by the covariance within subjects (the within-class covariance
    normalisation of Hatch et al. 2006). Near zero, distances of pairs follow a power law, so their
    logarithms have an exponential tail whose normalised spacings have one distribution (Rényi
    1953). Up to three pairs are reported together if they are farther ahead of all others than
    these spacings explain: p is the largest over tails of 8, 16 and 32 pairs. If people come in
    groups that look alike, the tail consists of such pairs, and a pair must be nearer than those.
    It must also be no farther apart than 9 of 10 people from themselves, when their clips are
    divided between two names.

    People with a single clip or photograph are not compared.
    """
    # Too few names or clips cannot be compared
    units = _make_units(parts)
    comparable = int((units.counts > 1).sum())
    single = len(units.names) - comparable
    if (units.counts - 1).clip(0).sum() < MIN_FREE_UNITS or comparable < MIN_NAMES:
        return Doubles(_make_table([]), comparable, single, 0, 0)

    # Distances of people from themselves, and of all pairs of names
    rows = _project_on_components(units)
    self_distances = _measure_distances_to_self(rows, units)
    limit = float(np.quantile(self_distances, LIKE_ONE_QUANTILE))
    a, b, distances = _measure_pairs(rows, units)

    # The pairs that are far ahead of all others, and like one person
    pair_count, p, reach = count_separated(-np.log(distances))
    found_pairs = [
        (
            units.names[a[rank]],
            units.names[b[rank]],
            "nearness",
            int(units.counts[[a[rank], b[rank]]].sum()),
            distances[rank],
            float(np.median(self_distances)),
            distances[pair_count],
            p,
        )
        for rank in range(pair_count)
        if distances[rank] <= limit
    ]
    return Doubles(
        _make_table(found_pairs),
        comparable,
        single,
        len(self_distances),
        int((self_distances <= min(limit, np.exp(-reach))).sum()),
    )


def _make_table(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(DOUBLE_COLUMNS)).astype(DOUBLE_COLUMNS)
    return table.sort_values(["distance", "a", "b"], ignore_index=True)


# How far ahead of all others


def count_separated(lead: Float[np.ndarray, " n"]) -> tuple[int, float, float]:
    """Return how many first values are separated from the others, their p, and a threshold.

    One value alone would be separated from the threshold on. `lead` falls.
    """
    pair_count, p_value = 0, 1.0
    for rank in range(1, MAX_PAIRS_TOGETHER + 1):
        tails = _measure_tails(lead[rank:])
        p = max(
            (1 + (lead[rank - 1] - lead[rank]) / mean / count) ** -count for mean, count in tails
        )
        if p < MAX_P:
            pair_count, p_value = rank, float(p)
    widest = max(
        mean * count * (MAX_P ** (-1 / count) - 1)
        for mean, count in _measure_tails(lead[pair_count:])
    )
    return pair_count, p_value, float(lead[pair_count] + widest)


def _measure_tails(lead: Float[np.ndarray, " n"]) -> list[tuple[float, int]]:
    """Return the mean normalised spacing of the first values of each tail, and their number.

    If the tail is exponential, spacing i, times i, is exponential with one mean. That mean is
    estimated from the tail, so the next value ahead of it follows a Pareto law instead of the
    exponential one.
    """
    tails = []
    for tail in TAIL_PAIRS:
        count = min(tail, len(lead) - 1)
        spacings = np.arange(1, count + 1) * -np.diff(lead[: count + 1])
        tails.append((max(float(spacings.mean()), 1e-9), count))
    return tails


# Distances


def _measure_pairs(
    rows: Float[np.ndarray, "n k"], units: Units
) -> tuple[PairPlaces, PairPlaces, Float[np.ndarray, " p"]]:
    """Return the pairs of names with at least two clips each, and their distances.

    The nearest pair is first.
    """
    # The mean of each name in whitened components
    space = rows @ _compute_whitening_matrix(rows, units.subjects)
    means, counts = _average_per_subject(space, units.subjects), units.counts

    # Distances of all pairs, relative to what the numbers of clips let expect
    comparable = np.flatnonzero(counts > 1)
    first, second = np.triu_indices(len(comparable), 1)
    a, b = comparable[first], comparable[second]
    squares = np.square(means).sum(axis=1)
    distances = (
        (squares[a] + squares[b] - 2 * (means @ means.T)[a, b])
        / (1 / counts[a] + 1 / counts[b])
        / space.shape[1]
    )
    order = np.argsort(distances, kind="stable")
    return a[order], b[order], np.maximum(distances[order], MIN_DISTANCE)


def _measure_distances_to_self(
    rows: Float[np.ndarray, "n k"], units: Units
) -> Float[np.ndarray, " s"]:
    """Return the distance of each person from themselves.

    It is measured by dividing the person's clips between two names.
    """
    self_distances = []
    for person in np.flatnonzero(units.counts > 1)[:MAX_DIVIDED_PEOPLE]:
        # Divide the person's clips at random between two names
        units_of_person = np.flatnonzero(units.subjects == person)
        units_of_person = make_rng("two names", units.names[person]).permutation(units_of_person)
        half = len(units_of_person) // 2
        subjects = units.subjects.copy()
        subjects[units_of_person[:half]] = len(units.names)

        # The distance between the two, as between any names
        root = _compute_whitening_matrix(rows, subjects)
        difference = (
            rows[units_of_person[:half]].mean(axis=0) - rows[units_of_person[half:]].mean(axis=0)
        ) @ root
        self_distances.append(
            np.square(difference).sum() / (1 / half + 1 / (len(units_of_person) - half)) / len(root)
        )
    return np.array(self_distances)


def _average_per_subject(
    rows: Float[np.ndarray, "n k"], subjects: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "s k"]:
    sums = np.zeros((int(subjects.max()) + 1, rows.shape[1]))
    np.add.at(sums, subjects, rows)
    return sums / np.bincount(subjects)[:, None]


def _compute_whitening_matrix(
    rows: Float[np.ndarray, "n k"], subjects: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "k k"]:
    """Return the matrix that makes the variation within subjects equal in all directions."""
    deviations = rows - _average_per_subject(rows, subjects)[subjects]
    within = deviations.T @ deviations / max(1, len(rows) - len(set(subjects.tolist())))
    within += (
        WHITENING_SHRINKAGE
        * max(float(np.trace(within)), MIN_DISTANCE)
        / len(within)
        * np.eye(len(within))
    )
    return np.linalg.cholesky(np.linalg.inv(within))


def _project_on_components(units: Units) -> Float[np.ndarray, "n k"]:
    """Return the units in their principal components."""
    centred = units.thumbs.astype(np.float64) - units.thumbs.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return (
        centred
        @ vectors[:, ::-1][
            :, : max(1, min(NAME_COMPONENTS, int((values > 1e-9 * values.max()).sum())))
        ]
    )


# What is compared


def _make_units(parts: Sequence[Faces]) -> Units:
    """Return the units of real images of known people: means of clips, or photographs.

    Each key counts once, and so do photographs that are nearly equal.
    """
    table = pd.concat(
        [_list_known_images(faces) for faces in parts], ignore_index=True
    ).drop_duplicates("key")
    table = table.sort_values("key", ignore_index=True)
    thumbnails = np.array(table["thumb"].tolist(), dtype=np.float32).reshape(
        len(table), THUMB_WIDTH * THUMB_WIDTH
    )

    # The mean picture of each unit
    owner = _name_units_of_images(table, thumbnails)
    order, unit_numbers = np.unique(owner, return_inverse=True)
    sums = np.zeros((len(order), thumbnails.shape[1]))
    np.add.at(sums, unit_numbers, thumbnails)
    means = sums / np.bincount(unit_numbers, minlength=len(order))[:, None]
    names, subjects = np.unique(
        [owner_name.split("\x1f")[0] for owner_name in order], return_inverse=True
    )
    return Units(means.astype(np.float32), subjects.astype(np.int64), tuple(map(str, names)))


def _name_units_of_images(table: pd.DataFrame, small: Float[np.ndarray, "n d"]) -> np.ndarray:
    """Return the unit of each image: its clip, else the first photograph that is nearly the same.

    Photographs of a person that are nearly equal may be frames of a clip without a name.
    """
    owner = table["subject"] + "\x1f" + name_units(table, "clip")
    names = owner.to_numpy(dtype=object)
    for _, rows in table[table["clip"] == ""].groupby("subject", sort=True):
        positions = rows.index.to_numpy()
        if len(positions) > 1:
            _, group = connected_components(
                small[positions] @ small[positions].T >= NEIGHBOURING_FRAMES_CORRELATION,
                directed=False,
            )
            _, first = np.unique(group, return_index=True)
            names[positions] = names[positions[first[group]]]
    return names.astype(str)


def _list_known_images(faces: Faces) -> pd.DataFrame:
    is_known = (faces.index["subject"] != "") & (faces.index["source"] == "real")
    thumbnails = make_thumbs(faces.images[np.flatnonzero(is_known)])
    return faces.index.loc[is_known, ["key", "subject", "clip"]].assign(thumb=list(thumbnails))
