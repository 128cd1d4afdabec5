"""What pictures look like: each measure on real and synthetic faces.

For each measure M there are

    pictures.mean.M, pictures.spread.M   the mean and the standard deviation, also of real training
                                         images (`_train`) and of held-out people (`_heldout`)
    pictures.distance.M                  how far the distribution is from that of one half of the
                                         real people, in standard deviations of real images
                                         (Wasserstein's distance); also of held-out people, and of
                                         the other half of the real people (`_floor`)
    pictures.association.M               how much M tells of the class, from 0 to 1; also in real
                                         images, and under permuted labels (`_floor`)

and over all measures `pictures.shortcut`, the largest excess of a synthetic association over the
real one, with the largest one between two halves of the real people (`_floor`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mien.audit.variety.association import associate, divide_into_bins
from mien.audit.variety.measures import MEASURES, measure_pictures
from mien.audit.variety.sides import MIN_IMAGES, Half, VarietySide, count_compared
from mien.stats import Interval, Record, make_interval

SIDE_SUFFIXES = ("_train", "_heldout", "")  # of the real, held-out and synthetic side

EXCESS_PERCENT = 95  # percentile of the differences of halves that is the floor of `shortcut`

Values = Mapping[str, Float[np.ndarray, " n"]]


@dataclass(frozen=True)
class MeasuredSide:
    """A side with the values of each measure; `suffix` says in the names of numbers which it is."""

    side: VarietySide
    values: Values
    suffix: str


def measure_sides(
    pictures: Sequence[np.ndarray], sides: Sequence[VarietySide]
) -> list[MeasuredSide]:
    """Return the real, held-out and synthetic side with their measures; sides too small are left
    out.

    `pictures` are the pictures of all images of each side.
    """
    # The measures of each side
    measured = [
        MeasuredSide(side, measure_pictures(images[side.positions]), suffix)
        for images, side, suffix in zip(pictures, sides, SIDE_SUFFIXES, strict=True)
        if len(side) >= MIN_IMAGES
    ]

    # Angles of a whole turn are measured from the mean direction of the first side
    centres = {
        name: _find_mean_direction(measured[0].values[name])
        for name, measure in MEASURES.items()
        if measure.period and measured and name in measured[0].values
    }
    return [
        MeasuredSide(
            one.side,
            {
                name: _unwrap(values, centres[name]) if name in centres else values
                for name, values in one.values.items()
            },
            one.suffix,
        )
        for one in measured
    ]


def _find_mean_direction(degrees: Float[np.ndarray, " n"]) -> float:
    angles = np.radians(degrees)
    return float(np.degrees(np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())))


def _unwrap(degrees: Float[np.ndarray, " n"], centre: float) -> Float[np.ndarray, " n"]:
    """Return angles within half a turn of `centre`."""
    return centre + (degrees - centre + 180) % 360 - 180


def measure_means(measured: Sequence[MeasuredSide]) -> list[Record]:
    """Return the mean and spread of each measure on each side, and its mean per class.

    Intervals are over people, or images of synthetic faces.
    """
    records = []
    for one in measured:
        side = one.side
        weights = side.ordered.resample(side.positions, "variety", one.suffix)
        totals = weights.sum(axis=1)
        for name, values in one.values.items():
            # The mean and the standard deviation, in each resample too
            means = weights @ values / totals
            squares = weights @ np.square(values) / totals - np.square(means)
            for metric, value, resampled in (
                ("mean", values.mean(), means),
                ("spread", values.std(), np.sqrt(squares.clip(0))),
            ):
                interval = make_interval(float(value), resampled)
                records.append(_make_record(metric, one.suffix, name, interval, len(side)))

            # The mean of each class
            for emotion in np.unique(side.emotions):
                of_class = values[side.emotions == emotion]
                mean = Interval(float(of_class.mean()), np.nan, np.nan)
                records.append(
                    _make_record("mean", one.suffix, name, mean, len(of_class), str(emotion))
                )
    return records


def measure_distances(measured: Sequence[MeasuredSide], halves: Sequence[Half]) -> list[Record]:
    """Return how far each side is from one half of the real people, and from the other half.

    The first side is the real one. All sets have equal numbers of images. The value is the mean
    over the divisions of the people, and the bounds are their 2.5th and 97.5th percentile.
    """
    real, *others = measured
    count = count_compared(list(halves), *(one.side for one in others))
    records = []
    for name, values in real.values.items():
        scale = float(values.std()) or 1.0
        references = [np.sort(values[half.one[:count]]) for half in halves]
        compared = {"_floor": [values[half.other[:count]] for half in halves]}
        compared |= {one.suffix: [one.values[name][:count]] * len(halves) for one in others}
        for suffix, sets in compared.items():
            distances = np.array(
                [
                    np.abs(np.sort(other) - reference).mean() / scale
                    for other, reference in zip(sets, references, strict=True)
                ]
            )
            interval = make_interval(float(distances.mean()), distances)
            records.append(_make_record("distance", suffix, name, interval, count))
    return records


def measure_associations(
    measured: Sequence[MeasuredSide], people: Sequence[np.ndarray], halves: Sequence[Half]
) -> list[Record]:
    """Return how much each measure, and the person, tells of the class, and the largest excess.

    `people` names the person behind each image of each side: of synthetic faces the nearest
    training person. Classes that a side lacks play no part in that side.
    """
    # The association of each side
    sides = [
        _Labelled.of(one, names, one.suffix) for one, names in zip(measured, people, strict=True)
    ]
    found = {one.suffix: side.associate() for one, side in zip(measured, sides, strict=True)}
    records = []
    for one in measured:
        for name, (value, floor) in found[one.suffix].items():
            interval = Interval(value, np.nan, np.nan)
            records.append(_make_record("association", one.suffix, name, interval, len(one.side)))
            if not one.suffix:
                at_chance = Interval(floor, np.nan, np.nan)
                records.append(
                    _make_record("association", "_floor", name, at_chance, len(one.side))
                )

    # The largest excess over real images, and between halves of the real people
    if not halves or "" not in found:
        return [record for record in records if np.isfinite(record.value)]
    excess = _find_largest_excess(found[""], found["_train"])
    between_halves = [
        _find_largest_excess(*(sides[0].select(places).associate() for places in pair))
        for half in halves
        for pair in ((half.one, half.other),)
    ]
    floor = float(np.percentile(between_halves, EXCESS_PERCENT))
    for suffix, value in (("", excess), ("_floor", floor)):
        interval = Interval(value, np.nan, np.nan)
        records.append(
            Record.of(f"pictures.shortcut{suffix}", interval, len(measured[-1].side), "images")
        )
    return [record for record in records if np.isfinite(record.value)]


@dataclass(frozen=True)
class _Labelled:
    """The numbers of a side in bins, and the class of each image; `draw` names the permutations."""

    bins: Mapping[str, Int[np.ndarray, " n"]]
    labels: Int[np.ndarray, " n"]
    draw: str

    @classmethod
    def of(cls, one: MeasuredSide, people: np.ndarray, draw: str) -> "_Labelled":
        """Return the numbers of a side, and the person of each image, in bins."""
        bins = {name: divide_into_bins(values) for name, values in one.values.items()}
        bins["person"] = np.unique(people.astype(str), return_inverse=True)[1].astype(np.int64)
        labels = np.unique(one.side.emotions.astype(str), return_inverse=True)[1]
        return cls(bins, labels.astype(np.int64), draw)

    def select(self, places: Int[np.ndarray, " m"]) -> "_Labelled":
        """Return the same of some of the images."""
        bins = {name: values[places] for name, values in self.bins.items()}
        return _Labelled(bins, self.labels[places], self.draw)

    def associate(self) -> dict[str, tuple[float, float]]:
        """Return the association of each number with the class, and its floor."""
        return associate(self.bins, self.labels, self.draw)


def _find_largest_excess(
    one: Mapping[str, tuple[float, float]], other: Mapping[str, tuple[float, float]]
) -> float:
    return max(one[name][0] - max(0.0, other[name][0]) for name in one if name in other)


def _make_record(
    metric: str, suffix: str, name: str, interval: Interval, n: int, part: str = ""
) -> Record:
    return Record.of(f"pictures.{metric}{suffix}.{name}", interval, n, "images", part)
