"""Recognition: power on real pairs, a threshold, faces that show a person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from mien.audit.memorisation.people import ImagePeople
from mien.stats import Interval, draw_resamples, make_interval

LEVELS = {0.001: 1000, 0.01: 100}
"""Shares of pairs of different people beyond a threshold, and the pairs of images they need."""

MAX_PEOPLE = 100  # people of each side that are paired, at most

RESAMPLES_AT_ONCE = 100

MAX_ROWS = 1024  # images that are compared with all training images at once


@dataclass(frozen=True)
class RealFaces:
    """Real images of one side as vectors of length 1 (or 0), with their people and sources.

    The images of each person follow each other.
    """

    vectors: Float32[np.ndarray, "n d"]
    people: ImagePeople
    sources: np.ndarray

    @classmethod
    def of(
        cls, vectors: Float[np.ndarray, "n d"], names: Sequence[str], sources: Sequence[str]
    ) -> "RealFaces":
        """Return the images of these people, sorted by person."""
        order = np.argsort(np.asarray(names, dtype=str), kind="stable")
        return cls(
            normalise(vectors)[order],
            ImagePeople.of(np.asarray(names, dtype=str)[order]),
            np.asarray(sources, dtype=str)[order],
        )

    def take_people(self, count: int) -> "RealFaces":
        """Return the images of `count` people, evenly spaced among all."""
        chosen = np.linspace(0, self.people.count - 1, count).astype(np.int64)
        kept = np.isin(self.people.codes, chosen)
        names = np.char.zfill(self.people.codes[kept].astype(str), 9)  # in the same order
        return RealFaces(self.vectors[kept], ImagePeople.of(names), self.sources[kept])

    def sum_by_person(self) -> Float[np.ndarray, "people n"]:
        """Return the matrix that takes the mean over the images of each person."""
        matrix = np.zeros((self.people.count, len(self.people.codes)), dtype=np.float32)
        matrix[self.people.codes, np.arange(len(self.people.codes))] = self.people.weights
        return matrix

    def list_pairs_of_each_person(self) -> list[Float[np.ndarray, " pairs"]]:
        """Return the similarities of all pairs of images of each person."""
        pairs = []
        for code in range(self.people.count):
            own = self.vectors[self.people.codes == code]
            pairs.append((own @ own.T)[np.triu_indices(len(own), 1)])
        return pairs


@dataclass(frozen=True)
class RealPairs:
    """Pairs of real images: of one person, and of a training person and a held-out person.

    `same` holds the similarities of the pairs of each person, first those of the training side.
    `different` holds those of training and held-out images, and `weights` what each counts, so
    that each pair of people counts the same; pairs of two sources count nothing.
    """

    train: RealFaces
    test: RealFaces
    same: list[Float[np.ndarray, " pairs"]]
    different: Float[np.ndarray, "n m"]
    weights: Float[np.ndarray, "n m"]

    @classmethod
    def of(cls, train: RealFaces, test: RealFaces) -> "RealPairs":
        """Return the pairs of as many training people as held-out people, 100 at most."""
        count = min(train.people.count, test.people.count, MAX_PEOPLE)
        sides = train.take_people(count), test.take_people(count)
        is_one_source = sides[0].sources[:, None] == sides[1].sources[None]
        if not is_one_source.any():  # folders are read as sources of their own
            is_one_source[:] = True
        weights = sides[0].people.weights[:, None] * sides[1].people.weights[None] * is_one_source
        same = [pair for side in sides for pair in side.list_pairs_of_each_person()]
        return cls(*sides, same, sides[0].vectors @ sides[1].vectors.T, weights)

    @property
    def people_with_pairs(self) -> int:
        """The number of people with two images or more."""
        return sum(len(pairs) > 0 for pairs in self.same)

    @property
    def count(self) -> int:
        """The number of pairs of images of different people."""
        return int((self.weights > 0).sum())


def normalise(vectors: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Return the vectors with length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def measure_power(pairs: RealPairs) -> Interval:
    """Return the AUC of pairs of one person against pairs of different people.

    It is the chance that a pair of one person is more similar; 0.5 is chance. Each person, and each
    pair of people, counts the same. The interval is over resamples of the people of both sides.
    """
    # For each person, and each pair of others: how often the person's own pairs are more similar
    means = [side.sum_by_person() for side in (pairs.train, pairs.test)]
    counted = (pairs.weights > 0).astype(np.float32)
    is_pair = np.sign(means[0]) @ counted @ np.sign(means[1]).T > 0
    own = np.flatnonzero([len(values) > 0 for values in pairs.same])
    wins = np.zeros((len(own), *is_pair.shape), dtype=np.float32)
    for row, person in enumerate(own):
        for value in pairs.same[person]:
            more = (value > pairs.different) + (value == pairs.different) / 2
            wins[row] += means[0] @ more.astype(np.float32) @ means[1].T * is_pair
        wins[row] /= len(pairs.same[person])
    value = float(wins.sum() / (len(own) * is_pair.sum()))

    # The same in resamples of the people
    times = [
        draw_resamples(side.people.count, "recogniser", name).astype(np.float32)
        for side, name in ((pairs.train, "in"), (pairs.test, "out"))
    ]
    resampled = []
    for first in range(0, len(times[0]), RESAMPLES_AT_ONCE):
        some = [side[first : first + RESAMPLES_AT_ONCE] for side in times]
        of_person = np.concatenate(some, axis=1)[:, own]
        won = (of_person @ wins.reshape(len(own), -1)).reshape(-1, *is_pair.shape)
        total = of_person.sum(axis=1) * np.einsum("da,ab,db->d", some[0], is_pair, some[1])
        summed = np.einsum("dab,da,db->d", won, some[0], some[1])
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without pairs has no AUC
            resampled.append(np.where(total > 0, summed / total, np.nan))
    return make_interval(value, np.concatenate(resampled))


def find_threshold(pairs: RealPairs, share: float) -> float | None:
    """Return the similarity that at most a share of the pairs of different people exceed.

    It is None if so few pairs cannot resolve this share: 0.1 % needs 1,000, 1 % needs 100.
    """
    if pairs.count < LEVELS[share]:
        return None
    is_pair = pairs.weights > 0
    values, weights = pairs.different[is_pair], pairs.weights[is_pair]
    order = np.argsort(-values, kind="stable")
    beyond = np.cumsum(weights[order]) > share * weights.sum()
    return float(values[order][beyond.argmax()])


def find_most_similar(
    vectors: Float[np.ndarray, "n d"], train: Float32[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the similarity of each image to the most similar training image, and its position."""
    rows = normalise(vectors)
    best, nearest = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for first in range(0, len(rows), MAX_ROWS):
        similarity = rows[first : first + MAX_ROWS] @ train.T
        nearest.append(similarity.argmax(axis=1))
        best.append(similarity.max(axis=1))
    return np.concatenate(best), np.concatenate(nearest)


def exceed(values: Float[np.ndarray, " n"], threshold: float) -> Bool[np.ndarray, " n"]:
    """Return which similarities exceed a threshold, beyond errors of rounding."""
    return values > threshold + 1e-6
