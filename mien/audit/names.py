"""Whether two names stand for one person: told by nearest neighbours that cross between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import poisson

from mien.audit.duplicates import SAME, SMALL, thumbs
from mien.faces import Faces

BLOCK = 512  # rows whose neighbours are looked for at once
KEPT = 10  # directions of the pixels in which people are compared
SHRUNK = 0.5  # of the mean variance that is added to each direction
SURE = 0.001  # chance of a false accusation over all pairs of people, by neighbours
ALIKE = 0.5  # crossings between two names over those within each, per picture, from which they count as one person
FREE = 10  # clips or photographs beyond the first of a person, of all people together, to learn what does not tell them

COLUMNS = {"a": "str", "b": "str", "evidence": "str", "crossings": "int64", "of": "int64", "p": "float64"}


@dataclass(frozen=True)
class Units:
    """What is compared: the mean of each clip, or a photograph; `thumbs` are [n, 256]."""

    thumbs: Float[np.ndarray, "n d"]
    subjects: Int[np.ndarray, " n"]  # places in `names`
    names: tuple[str, ...]


def crossing(*parts: Faces) -> pd.DataFrame:
    """Return the pairs of subjects of all `parts` whose nearest neighbours cross as if both were one person.

    One row a pair: `a`, `b`, evidence "neighbours", `crossings` of so many clips or photographs (`of`), and `p`. Each
    clip (its mean) or photograph looks for the nearest other one, among all people, in a space where what varies within
    people counts little (principal components of small grey pictures, whitened by the covariance within subjects; the
    within-class covariance normalisation of Hatch et al. 2006). Were two names two people, a neighbour would
    cross to a given other name by chance alone: as often as any clip leaves its own person, spread over all others by
    their number of clips. A pair is told where more cross than that (Poisson, Bonferroni over pairs, 0.1 %) and where a
    crossing is at least half as frequent, per picture that could be hit, as staying is.

    It sees nothing of people with one clip or photograph, and little of those with two or three.
    """
    units = _units(parts)
    counts = np.bincount(units.subjects, minlength=len(units.names))
    if (counts - 1).clip(0).sum() < FREE or len(units.names) < 3:
        return _table([])
    hits = _hits(units, _space(units))
    return _table(_accused(hits, counts, units.names))


def _accused(hits: Int[np.ndarray, "s s"], counts: Int[np.ndarray, " s"], names: tuple[str, ...]) -> list[tuple]:
    several = counts > 1
    total = counts.sum()
    left = hits[several].sum() - np.diag(hits)[several].sum()
    leaving = np.where(several, left / max(1, hits[several].sum()), 1.0)  # who has one picture must leave
    pairs = len(names) * (len(names) - 1) / 2
    found = []
    for a, b in np.argwhere(np.triu(hits + hits.T, 1) > 0):
        both = counts[a] + counts[b]
        crossed = int(hits[a, b] + hits[b, a])
        chance = leaving[a] * counts[a] * counts[b] / (total - counts[a])
        chance += leaving[b] * counts[b] * counts[a] / (total - counts[b])
        p = min(1.0, pairs * float(poisson.sf(crossed - 1, chance)))
        stayed = int(hits[a, a] + hits[b, b])
        within = counts[a] * (counts[a] - 1) + counts[b] * (counts[b] - 1)
        across = crossed / (2 * counts[a] * counts[b])
        if p < SURE and min(counts[a], counts[b]) > 1 and across >= ALIKE * stayed / within:
            found.append((names[a], names[b], "neighbours", crossed, int(both), p))
    return found


def _table(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.sort_values(["p", "a", "b"], ignore_index=True)


def _units(parts: Sequence[Faces]) -> Units:
    """Real images of known people, once each, as means of clips."""
    table = pd.concat([_known(faces) for faces in parts], ignore_index=True).drop_duplicates("key")
    small = np.array(table["thumb"].tolist(), dtype=np.float32).reshape(len(table), SMALL * SMALL)
    owner = table["subject"] + "\x1f" + table["clip"].where(table["clip"] != "", table["key"])
    order, place = np.unique(owner.to_numpy(dtype=str), return_inverse=True)
    sums = np.zeros((len(order), small.shape[1]))
    np.add.at(sums, place, small)
    means = sums / np.bincount(place, minlength=len(order))[:, None]
    names, subjects = np.unique([one.split("\x1f")[0] for one in order], return_inverse=True)
    return Units(means.astype(np.float32), subjects.astype(np.int64), tuple(map(str, names)))


def _known(faces: Faces) -> pd.DataFrame:
    known = (faces.index["subject"] != "") & (faces.index["source"] == "real")
    small = thumbs(faces.images[np.flatnonzero(known)])
    return faces.index.loc[known, ["key", "subject", "clip"]].assign(thumb=list(small))


def _space(units: Units) -> Float[np.ndarray, "n k"]:
    """Return the units where within-subject variation is the same in all directions."""
    whole = units.thumbs.astype(np.float64) - units.thumbs.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(whole.T @ whole)
    kept = whole @ vectors[:, ::-1][:, : min(KEPT, int((values > 1e-9 * values.max()).sum()))]
    counts = np.bincount(units.subjects, minlength=len(units.names))
    sums = np.zeros((len(units.names), kept.shape[1]))
    np.add.at(sums, units.subjects, kept)
    apart = kept - (sums / counts[:, None])[units.subjects]
    within = apart.T @ apart / max(1, (counts - 1).sum())
    within += SHRUNK * np.trace(within) / len(within) * np.eye(len(within))
    root = np.linalg.cholesky(np.linalg.inv(within))
    return (kept @ root).astype(np.float32)


def _hits(units: Units, space: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "s s"]:
    """Return how many units of each subject (row) have their nearest other unit in each subject (column).

    A photograph that is nearly another of the same person, a frame of an unmarked clip perhaps, is passed over.
    """
    squares = np.square(space).sum(axis=1)
    hits = np.zeros((len(units.names), len(units.names)), dtype=np.int64)
    for first in range(0, len(space), BLOCK):
        rows = slice(first, first + BLOCK)
        far = squares[None] - 2 * space[rows] @ space.T
        own: Bool[np.ndarray, "m n"] = units.subjects[rows][:, None] == units.subjects[None]
        far[own & (units.thumbs[rows] @ units.thumbs.T >= SAME)] = np.inf
        np.fill_diagonal(far[:, first:], np.inf)
        np.add.at(hits, (units.subjects[rows], units.subjects[far.argmin(axis=1)]), 1)
    return hits
