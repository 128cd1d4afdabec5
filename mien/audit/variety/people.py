"""The people behind synthetic faces: how many, and whom they cover.

    people.effective   effective number of training people behind the images: the exponential of
                       the entropy of the nearest person (also per class); `_train` is that of the
                       real images, by whom they show, and `_heldout` that of held-out images
    people.largest     share of the images of the most frequent of these people
    people.used        effective number as a share of the people, over random halves of the training
                       people; `_floor` is that of the other half of them
    people.coverage    share of held-out images that have a synthetic image as near as every second
                       image of one half of the real people has one of the other half (also per
                       class, and in dark, middle and bright light); `_train` is the same with real
                       training images in place of the synthetic ones; `_floor`, about a half, is
                       that of the halves

The nearest person is that of the nearest training image, in the principal components that the
search for copies uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.spatial.distance import cdist

from mien.audit.labels.measure import compute_effective_number
from mien.audit.memorisation.people import ImagePeople
from mien.audit.memorisation.search import Coarse, soften
from mien.audit.variety.sides import MIN_IMAGES, Half, VarietySide, count_compared
from mien.faces import name_distinct_units
from mien.stats import Record, make_interval

REACH_PERCENT = 50  # percentile of the distances between halves within which an image is covered

LIGHT_BINS = ("dark", "middle", "bright")  # thirds of the held-out images by brightness


@dataclass(frozen=True)
class NearestRows:
    """The nearest row of each of some rows: its place, and its distance."""

    place: Int[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]


def find_nearest(
    queries: Float32[np.ndarray, "n d"], references: Float32[np.ndarray, "m d"]
) -> NearestRows:
    """Return the nearest of `references` to each of `queries`, by Euclidean distance."""
    distances = cdist(queries, references)
    place = distances.argmin(axis=1)
    return NearestRows(place, distances[np.arange(len(place)), place])


@dataclass(frozen=True)
class PeopleBehind:
    """The records, and the name of the nearest training person of each synthetic image."""

    records: list[Record]
    nearest: np.ndarray


def measure_people(sides: Sequence[VarietySide], halves: Sequence[Half]) -> PeopleBehind:
    """Return whom the images of the training, held-out and synthetic side show.

    Sides with fewer than 10 images have no numbers. Raises DataError below 8 pixels per side.
    """
    # All sides in one space, and the nearest of all training images to those of the other sides
    train, test, synthetic = sides
    soft = soften(train.faces.images)
    coarse = Coarse.fit(soft)
    real = coarse(soft)
    rows = [real[train.positions]]
    rows += [
        coarse(soften(side.faces.images[side.positions])) if len(side) else real[:0]
        for side in (test, synthetic)
    ]
    people = name_distinct_units(train.faces.index, "subject")
    named = [train.people, *(people[find_nearest(row, real).place] for row in rows[1:])]

    # The people behind each side, and behind each class
    records = []
    for names, side, suffix in zip(named, sides, ("_train", "_heldout", ""), strict=True):
        if len(side) < MIN_IMAGES:
            continue
        records += _count_people(names, suffix, "")
        for emotion in np.unique(side.emotions.astype(str)) if suffix != "_heldout" else ():
            records += _count_people(names[side.emotions == emotion], suffix, str(emotion))

    # What needs halves of the real people
    if halves and len(synthetic) >= MIN_IMAGES:
        count = count_compared(list(halves), test, synthetic)
        records += _measure_used(train, rows[0], rows[2][:count], halves, count)
        if len(test) >= MIN_IMAGES:
            records += _measure_coverage(test, rows, halves, count)
    return PeopleBehind(records, named[2])


def _count_people(names: np.ndarray, suffix: str, emotion: str) -> list[Record]:
    counts = np.unique(names.astype(str), return_counts=True)[1]
    numbers = {
        "effective": compute_effective_number(counts.tolist()),
        "largest": counts.max() / counts.sum(),
    }
    return [
        Record(f"people.{name}{suffix}", float(value), len(names), "images", part=emotion)
        for name, value in numbers.items()
    ]


def _measure_used(
    train: VarietySide,
    train_rows: Float32[np.ndarray, "n d"],
    synthetic_rows: Float32[np.ndarray, "k d"],
    halves: Sequence[Half],
    count: int,
) -> list[Record]:
    """Return the share of one half of the people who are in effect nearest to as many images."""
    shares: dict[str, list[float]] = {"": [], "_floor": []}
    for half in halves:
        people = train.people[half.one]
        for suffix, queries in (("", synthetic_rows), ("_floor", train_rows[half.other[:count]])):
            names = people[find_nearest(queries, train_rows[half.one]).place]
            counts = np.unique(names.astype(str), return_counts=True)[1]
            shares[suffix].append(
                compute_effective_number(counts.tolist()) / len(set(people.tolist()))
            )
    return [
        Record.of(
            f"people.used{suffix}",
            make_interval(float(np.mean(values)), np.array(values)),
            count,
            "images",
        )
        for suffix, values in shares.items()
    ]


def _measure_coverage(
    test: VarietySide,
    rows: Sequence[Float32[np.ndarray, "_ d"]],
    halves: Sequence[Half],
    count: int,
) -> list[Record]:
    train_rows, test_rows, synthetic_rows = rows

    # The reach of real images, and which held-out images are within it
    covered: dict[str, list[np.ndarray]] = {"": [], "_train": []}
    floors = []
    for half in halves:
        one = train_rows[half.one[:count]]
        between = find_nearest(train_rows[half.other[:count]], one).distance
        reach = np.percentile(between, REACH_PERCENT)
        floors.append(float((between <= reach).mean()))
        for suffix, references in (("", synthetic_rows[:count]), ("_train", one)):
            covered[suffix].append(find_nearest(test_rows, references).distance <= reach)

    # The share over all held-out people, of each class, and in each light
    groups = _group_held_out(test)
    records = [Record("people.coverage_floor", float(np.mean(floors)), count, "images")]
    for suffix, flags in covered.items():
        share = np.mean(flags, axis=0)
        for (space, emotion), chosen in groups.items():
            people = ImagePeople.of(test.people[chosen].astype(str))
            interval = people.estimate_mean(share[chosen]).interval
            metric = f"people.coverage{suffix}{space}"
            records.append(
                Record.of(metric, interval, int(chosen.sum()), "held-out images", emotion)
            )
    return records


def _group_held_out(test: VarietySide) -> Mapping[tuple[str, str], np.ndarray]:
    """Return which held-out images are in each group, by the ending of its name and its class."""
    images = test.faces.images[test.positions]
    brightness = np.asarray(images, dtype=np.float32).mean(axis=(1, 2, 3))
    third = np.searchsorted(np.quantile(brightness, (1 / 3, 2 / 3)), brightness)
    groups = {("", ""): np.ones(len(test), dtype=bool)}
    groups |= {(f".{name}", ""): third == place for place, name in enumerate(LIGHT_BINS)}
    groups |= {("", str(name)): test.emotions == name for name in np.unique(test.emotions)}
    return {group: chosen for group, chosen in groups.items() if chosen.any()}
