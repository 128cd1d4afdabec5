"""Whether two names stand for one person: told where they lie nearer to each other than different
people ever do.

People look alike, in groups: by sex, age, skin, glasses, light. So chance is not asked how near two
strangers lie; the other pairs of names of the same set are, which are different people but for a
few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from mien.audit.duplicates import SAME, SMALL, thumbs
from mien.faces import Faces
from mien.seeds import rng

KEPT = 40  # directions of the pixels in which people are compared
SHRUNK = 0.1  # of the mean variance that is added to each direction
SURE = 0.05  # p below which nearest pairs stand apart from all others
MOST = 3  # pairs that may stand apart together
TAILS = (
    8,
    16,
    32,
)  # pairs behind them by which it is judged how far the nearest of different people would lie
LIKE_ONE = 0.9  # quantile of people against themselves up to which two names are like one person
# clips or photographs beyond the first of a person, of all people together, to learn what does not
# tell them
FREE = 10
LEAST = 6  # names of two clips or photographs or more
DEALT = 60  # people who are compared with themselves, at most
NOTHING = 1e-9  # below which there is no distance
FOUND = 0.5  # share of people dealt to two names that must be found for silence to mean something

Places = Int[np.ndarray, " p"]
COLUMNS = {
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
    """What is compared: the mean of each clip, or a photograph; `thumbs` are [n, 256]."""

    thumbs: Float[np.ndarray, "n d"]
    subjects: Int[np.ndarray, " n"]  # places in `names`
    names: tuple[str, ...]

    @property
    def counts(self) -> Int[np.ndarray, " s"]:
        """How many each name has."""
        return np.bincount(self.subjects, minlength=len(self.names))


@dataclass(frozen=True)
class Doubles:
    """The pairs of names that look like one person, and how much finding none would mean.

    `names` are those with two clips or photographs or more, which alone are compared; `single` are
    the others. Of `dealt` people whose own clips were dealt to two names, `found` would have been
    told; `dealt` is 0 where there is too little to compare at all.
    """

    pairs: pd.DataFrame
    names: int
    single: int
    dealt: int
    found: int

    @property
    def silent(self) -> bool:
        """Whether nothing follows from it that no pair was told."""
        return not self.dealt or self.found < FOUND * self.dealt


def doubles(*parts: Faces) -> Doubles:
    """Return the pairs of subjects of all `parts` that look like one person.

    One row a pair, in `pairs`: a, b, evidence "nearness", `number` of their clips or photographs,
    their distance, how far one person's own halves usually lie apart, the distance of the nearest
    pair not told, and p.

    Distances are of the means of two names' clips (photographs) over what the numbers of these let
    expect, where what varies within people counts little: principal components of small grey
    pictures, whitened by the covariance within subjects (the within-class covariance normalisation
    of Hatch et al. 2006). Near zero, distances of pairs follow a power law, so their logarithms
    have an exponential tail whose normalised spacings are alike (Rényi 1953). Up to three pairs are
    told together that lie further ahead of all others than these spacings explain: p is the largest
    over tails of 8, 16 and 32 pairs. Where people come in groups that look alike, the tail is made
    of such pairs, and a pair must lie nearer than those. It must also lie no further apart than 9
    of 10 people from themselves, when their clips are dealt to two names.

    It sees nothing of people with one clip or photograph.
    """
    units = _units(parts)
    several = int((units.counts > 1).sum())
    single = len(units.names) - several
    if (units.counts - 1).clip(0).sum() < FREE or several < LEAST:
        return Doubles(_table([]), several, single, 0, 0)
    rows = _components(units)
    own = _own(rows, units)
    limit = float(np.quantile(own, LIKE_ONE))
    a, b, distances = _pairs(rows, units)
    told, p, reach = _apart(-np.log(distances))
    found = [
        (units.names[a[place]], units.names[b[place]], "nearness", int(units.counts[[a[place], b[place]]].sum()),
         distances[place], float(np.median(own)), distances[told], p)
        for place in range(told) if distances[place] <= limit
    ]  # fmt: skip
    return Doubles(
        _table(found), several, single, len(own), int((own <= min(limit, np.exp(-reach))).sum())
    )


def _table(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.sort_values(["distance", "a", "b"], ignore_index=True)


# How far ahead of all others


def _apart(ahead: Float[np.ndarray, " n"]) -> tuple[int, float, float]:
    """Return how many of the first values stand apart from the rest, their p, and from where one
    alone would.

    `ahead` falls.
    """
    told, sure = 0, 1.0
    for place in range(1, MOST + 1):
        tails = _tails(ahead[place:])
        p = max(
            (1 + (ahead[place - 1] - ahead[place]) / mean / count) ** -count
            for mean, count in tails
        )
        if p < SURE:
            told, sure = place, float(p)
    widest = max(mean * count * (SURE ** (-1 / count) - 1) for mean, count in _tails(ahead[told:]))
    return told, sure, float(ahead[told] + widest)


def _tails(ahead: Float[np.ndarray, " n"]) -> list[tuple[float, int]]:
    """Return the mean normalised spacing of the first so many values, and how many these are.

    Where the tail is exponential, spacing i, times i, is exponential with one mean. That mean is
    known from so many alone, so the next value ahead of them follows a Pareto law in place of the
    exponential one.
    """
    found = []
    for tail in TAILS:
        count = min(tail, len(ahead) - 1)
        spacings = np.arange(1, count + 1) * -np.diff(ahead[: count + 1])
        found.append((max(float(spacings.mean()), 1e-9), count))
    return found


# Distances


def _pairs(
    rows: Float[np.ndarray, "n k"], units: Units
) -> tuple[Places, Places, Float[np.ndarray, " p"]]:
    """Return the pairs of names with two clips or more each, the nearest first: both places, and
    the distance.
    """
    space = rows @ _whitening(rows, units.subjects)
    means, counts = _means(space, units.subjects), units.counts
    several = np.flatnonzero(counts > 1)
    one, other = np.triu_indices(len(several), 1)
    a, b = several[one], several[other]
    squares = np.square(means).sum(axis=1)
    far = (
        (squares[a] + squares[b] - 2 * (means @ means.T)[a, b])
        / (1 / counts[a] + 1 / counts[b])
        / space.shape[1]
    )
    order = np.argsort(far, kind="stable")
    return a[order], b[order], np.maximum(far[order], NOTHING)


def _own(rows: Float[np.ndarray, "n k"], units: Units) -> Float[np.ndarray, " s"]:
    """Return how far each person lies from themselves, when their clips are dealt to two names."""
    found = []
    for who in np.flatnonzero(units.counts > 1)[:DEALT]:
        mine = np.flatnonzero(units.subjects == who)
        mine = rng("two names", units.names[who]).permutation(mine)
        half = len(mine) // 2
        subjects = units.subjects.copy()
        subjects[mine[:half]] = len(units.names)
        root = _whitening(rows, subjects)
        apart = (rows[mine[:half]].mean(axis=0) - rows[mine[half:]].mean(axis=0)) @ root
        found.append(np.square(apart).sum() / (1 / half + 1 / (len(mine) - half)) / len(root))
    return np.array(found)


def _means(
    rows: Float[np.ndarray, "n k"], subjects: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "s k"]:
    sums = np.zeros((int(subjects.max()) + 1, rows.shape[1]))
    np.add.at(sums, subjects, rows)
    return sums / np.bincount(subjects)[:, None]


def _whitening(
    rows: Float[np.ndarray, "n k"], subjects: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "k k"]:
    """Return the matrix that makes the variation within subjects the same in all directions."""
    apart = rows - _means(rows, subjects)[subjects]
    within = apart.T @ apart / max(1, len(rows) - len(set(subjects.tolist())))
    within += SHRUNK * max(float(np.trace(within)), NOTHING) / len(within) * np.eye(len(within))
    return np.linalg.cholesky(np.linalg.inv(within))


def _components(units: Units) -> Float[np.ndarray, "n k"]:
    """Return the units in the directions in which they vary most."""
    whole = units.thumbs.astype(np.float64) - units.thumbs.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(whole.T @ whole)
    return (
        whole @ vectors[:, ::-1][:, : max(1, min(KEPT, int((values > 1e-9 * values.max()).sum())))]
    )


# What is compared


def _units(parts: Sequence[Faces]) -> Units:
    """Real images of known people, once each, as means of clips; photographs that are nearly equal
    count once.
    """
    table = pd.concat([_known(faces) for faces in parts], ignore_index=True).drop_duplicates("key")
    table = table.sort_values("key", ignore_index=True)
    small = np.array(table["thumb"].tolist(), dtype=np.float32).reshape(len(table), SMALL * SMALL)
    owner = _owners(table, small)
    order, place = np.unique(owner, return_inverse=True)
    sums = np.zeros((len(order), small.shape[1]))
    np.add.at(sums, place, small)
    means = sums / np.bincount(place, minlength=len(order))[:, None]
    names, subjects = np.unique([one.split("\x1f")[0] for one in order], return_inverse=True)
    return Units(means.astype(np.float32), subjects.astype(np.int64), tuple(map(str, names)))


def _owners(table: pd.DataFrame, small: Float[np.ndarray, "n d"]) -> np.ndarray:
    """Return what each image is part of: its clip, or where it has none the first of those that are
    nearly it.

    Photographs that are nearly equal are frames of an unmarked clip, perhaps.
    """
    owner = table["subject"] + "\x1f" + table["clip"].where(table["clip"] != "", table["key"])
    names = owner.to_numpy(dtype=object)
    for _, rows in table[table["clip"] == ""].groupby("subject", sort=True):
        places = rows.index.to_numpy()
        if len(places) > 1:
            _, group = connected_components(small[places] @ small[places].T >= SAME, directed=False)
            _, first = np.unique(group, return_index=True)
            names[places] = names[places[first[group]]]
    return names.astype(str)


def _known(faces: Faces) -> pd.DataFrame:
    known = (faces.index["subject"] != "") & (faces.index["source"] == "real")
    small = thumbs(faces.images[np.flatnonzero(known)])
    return faces.index.loc[known, ["key", "subject", "clip"]].assign(thumb=list(small))
