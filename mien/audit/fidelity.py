"""Fidelity: how close synthetic images are to real ones, and how varied.

Each number is measured three times at the same size, always against one half of the real training
images: on synthetic images (`fidelity.frechet.judge`), on the other half
(`fidelity.frechet_floor.judge`: the bias of small samples), and on held-out people
(`fidelity.frechet_heldout.judge`). Read the first on the scale from the second to the third.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from mien import stats
from mien.audit import distances
from mien.audit.features import SpaceFeatures, find_principal_axes
from mien.audit.part import Part, PartInput, PartResult
from mien.faces import Faces
from mien.seeds import derive_seed, make_rng
from mien.stats import Record

MAX_IMAGES_PER_SIDE = 2000  # images per side at most, in an order drawn by their keys

MIN_IMAGES_PER_SIDE = 10  # images per side that a number needs

# axes on which Fréchet distances are taken, if the space has more: with more axes than images,
# bias dominates
FRECHET_AXES = 32

NEIGHBOUR_RANK = 5  # neighbours, for precision, recall, density and coverage

FIDELITY_RESAMPLES = 200  # resamples of a bootstrap

Vectors = Float[np.ndarray, "n d"]

Resampled = Float[np.ndarray, " draws"]

Places = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class OrderedSide:
    """The images of one side in an order drawn by their keys, with their clips and bootstrap units.

    The unit is the person, the clip if people are not known, or the image if clips are not known
    either.
    """

    order: Int[np.ndarray, " n"]
    emotion: Shaped[np.ndarray, " n"]
    clip: Shaped[np.ndarray, " n"]
    unit: Shaped[np.ndarray, " n"]

    @classmethod
    def of(cls, faces: Faces) -> "OrderedSide":
        """Return `faces` as a side."""
        index = faces.index
        clip, unit = faces.units("clip"), faces.units("subject")
        order = np.argsort([derive_seed("audit", key) for key in index["key"]], kind="stable")
        return cls(
            order, *(column.to_numpy(dtype=object) for column in (index["emotion"], clip, unit))
        )

    def images(self, part: str) -> Places:
        """Return the images of a class in the drawn order; all images for an empty name."""
        return self.order[self.emotion[self.order] == part] if part else self.order

    def list_one_per_clip(self, part: str) -> Places:
        """Return the first image of each clip in the drawn order."""
        places = self.images(part)
        _, first = np.unique(self.clip[places].astype(str), return_index=True)
        return places[np.sort(first)]

    def weights(self, places: Places, *names: str) -> Float[np.ndarray, "draws _"]:
        """Return how often each image occurs in each resample of the units, with replacement."""
        units, owner = np.unique(self.unit[places].astype(str), return_inverse=True)
        counts = make_rng("audit", "bootstrap", *names).multinomial(
            len(units), np.full(len(units), 1 / len(units)), FIDELITY_RESAMPLES
        )
        return counts[:, owner].astype(np.float64)


@dataclass(frozen=True)
class Sample:
    """Images of a side in a space, and their weights in each bootstrap resample."""

    rows: Vectors
    weights: Float[np.ndarray, "draws n"]


def measure(
    train: Faces, test: Faces, made: Faces, features: Mapping[str, SpaceFeatures]
) -> tuple[Record, ...]:
    """Return distances, precision, recall, density, coverage and variety in each space.

    Each is measured over all images and per class. Distances are of up to 2,000 images per side, in
    equal number; neighbours and variety are of one image per clip. The intervals are of a bootstrap
    over people (clips or images, if those are not known) on both sides, centred on the value; the
    resamples do not change who is a neighbour of whom. A class with fewer than 10 images per side
    has no number.
    """
    three = tuple(OrderedSide.of(faces) for faces in (train, test, made))
    records: list[Record] = []
    for space, space_sides in features.items():
        flat = _project_on_axes(space_sides)
        centre = space_sides.train.mean(axis=0, dtype=np.float64)
        for part in ("", *made.classes):
            for suffix, ground, asked in _pair_samples(
                three, [side.images(part) for side in three], flat
            ):
                records += _measure_distances(ground, asked, suffix, space, part)
            for suffix, ground, asked in _pair_samples(
                three, [side.list_one_per_clip(part) for side in three], space_sides
            ):
                records += _measure_neighbours(ground, asked, suffix, space, part)
                records += _measure_variety(asked, centre, suffix, space, part)
    return tuple(records)


def explain_too_few(train: Faces, test: Faces, made: Faces) -> list[str]:
    """Return sentences that name what is too few for distances or neighbours, if anything is."""
    sides = {
        "training": (train, 2 * MIN_IMAGES_PER_SIDE),
        "held-out": (test, MIN_IMAGES_PER_SIDE),
        "synthetic": (made, MIN_IMAGES_PER_SIDE),
    }
    notes = []
    for what, count in (("images", _count_images), ("clips", _count_clips)):
        short = [
            f"{count(faces)} {side} {what} ({needed} are needed)"
            for side, (faces, needed) in sides.items()
            if count(faces) < needed
        ]
        if short:
            measures = (
                "distances" if what == "images" else "precision, recall, coverage and variety"
            )
            notes.append(f"too few for {measures}: {', '.join(short)}")
    return notes


def _count_images(faces: Faces) -> int:
    return len(faces)


def _count_clips(faces: Faces) -> int:
    return len(OrderedSide.of(faces).list_one_per_clip(""))


def _project_on_axes(sides: SpaceFeatures) -> SpaceFeatures:
    """Return features on the axes of most variance, and each image's distance from these axes.

    Without the distance, noise that no real image has would go unnoticed.
    """
    if sides.train.shape[1] <= FRECHET_AXES:
        return sides
    centre, axes = find_principal_axes(sides.train, FRECHET_AXES)

    def flat(rows: Vectors) -> Float[np.ndarray, "n _"]:
        centred = rows - centre
        coordinates = centred @ axes
        residual = np.square(centred).sum(axis=1) - np.square(coordinates).sum(axis=1)
        return np.column_stack([coordinates, np.sqrt(residual.clip(0))])

    return SpaceFeatures(*(flat(rows) for rows in (sides.train, sides.test, sides.made)))


def _pair_samples(
    three: Sequence[OrderedSide], places: Sequence[Places], sides: SpaceFeatures
) -> Iterator[tuple[str, Sample, Sample]]:
    """Yield each comparison with one half of the training images: its suffix and its two parts.

    `three` and `places` are of the training, held-out and synthetic images. All parts of a
    comparison have the same number of images.
    """
    # The same number of images for all comparisons
    (real, heldout, synthetic), (train, test, made) = three, places
    count = min(
        len(train) // 2,
        MAX_IMAGES_PER_SIDE,
        *(len(images) for images in (test, made) if len(images) >= MIN_IMAGES_PER_SIDE),
    )
    if min(len(made), count) < MIN_IMAGES_PER_SIDE:
        return

    # Compare synthetic, other real, and held-out images with one half of the real ones
    ground = _make_sample(real, train[:count], sides.train, "ground")
    yield "", ground, _make_sample(synthetic, made[:count], sides.made, "made")
    yield "_floor", ground, _make_sample(real, train[count : 2 * count], sides.train, "floor")
    if len(test) >= MIN_IMAGES_PER_SIDE:
        yield "_heldout", ground, _make_sample(heldout, test[:count], sides.test, "heldout")


def _make_sample(side: OrderedSide, places: Places, rows: Vectors, name: str) -> Sample:
    return Sample(np.asarray(rows[places]), side.weights(places, name))


def _make_record(
    name: str,
    space: str,
    part: str,
    n: int,
    value: float,
    drawn: Resampled | None = None,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Record:
    """Return a record with its bootstrap interval, shifted so that its mean is the value.

    Resamples with replacement hold an image twice, which makes distances larger than those of the
    images themselves; the shift takes this bias off.
    """
    if drawn is not None:
        drawn = (drawn - np.nanmean(drawn) + value).clip(*limits)
    return Record.of(f"{name}.{space}", stats.interval(value, drawn), n, "images a side", part)


# Distances


def _measure_distances(
    ground: Sample, asked: Sample, suffix: str, space: str, part: str
) -> list[Record]:
    n = len(asked.rows)
    frechet = distances.compute_frechet_distance(ground.rows, asked.rows)
    return [
        _make_record(
            f"fidelity.frechet{suffix}",
            space,
            part,
            n,
            frechet,
            _resample_frechet(ground, asked),
            (0.0, np.inf),
        ),
        _make_record(
            f"fidelity.kernel{suffix}",
            space,
            part,
            n,
            *distances.compute_kernel_distance(
                ground.rows, asked.rows, ground.weights, asked.weights
            ),
        ),
    ]


def _resample_frechet(a: Sample, b: Sample) -> Resampled:
    return distances.compute_gaussian_distance(*_resample_moments(a), *_resample_moments(b))


def _resample_moments(
    part: Sample,
) -> tuple[Float[np.ndarray, "draws d"], Float[np.ndarray, "draws d d"]]:
    """Return the mean and covariance of each resample."""
    rows = part.rows.astype(np.float64)
    totals = part.weights.sum(axis=1)
    means = part.weights @ rows / totals[:, None]
    products = np.stack([(rows * weights[:, None]).T @ rows for weights in part.weights])
    centred = products - totals[:, None, None] * means[:, :, None] * means[:, None, :]
    return means, centred / (totals - 1)[:, None, None]


# Neighbours and variety


def _measure_neighbours(
    ground: Sample, asked: Sample, suffix: str, space: str, part: str
) -> list[Record]:
    near = distances.find_neighbours(ground.rows, asked.rows, NEIGHBOUR_RANK)
    measured = (
        ("fidelity.precision", near.near_real, asked, 1.0),
        ("fidelity.density", near.density, asked, np.inf),
        ("variety.recall", near.near_made, ground, 1.0),
        ("variety.coverage", near.covered, ground, 1.0),
    )
    return [
        _make_record(
            name + suffix,
            space,
            part,
            len(asked.rows),
            float(values.mean()),
            _resample_mean(values, side.weights),
            (0.0, upper),
        )
        for name, values, side, upper in measured
    ]


def _resample_mean(
    values: Shaped[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"]
) -> Resampled:
    return weights @ values / weights.sum(axis=1)


def _measure_variety(
    asked: Sample, centre: Float[np.ndarray, " d"], suffix: str, space: str, part: str
) -> list[Record]:
    n = len(asked.rows)
    unit = distances.compute_directions(asked.rows, centre)
    similarity = distances.compute_mean_similarity(asked.rows, centre)
    squares = np.square(asked.weights).sum(axis=1)
    sums = np.square(asked.weights @ unit).sum(axis=1)
    drawn = (sums - squares) / (np.square(asked.weights.sum(axis=1)) - squares)
    return [
        _make_record(f"variety.similarity{suffix}", space, part, n, similarity, drawn),
        _make_record(
            f"variety.vendi{suffix}",
            space,
            part,
            n,
            distances.compute_vendi_score(asked.rows, centre),
        ),
    ]


# The part of an audit

MEANINGS = {
    "fidelity.frechet": (
        "Fréchet distance of Gaussians fitted to features: to the 32 axes on which real images "
        "vary most, and to the distance from these axes. 0 means the same."
    ),
    "fidelity.kernel": (
        "Unbiased MMD² with the kernel (x·y/d + 1)³; about 0, or negative, for two draws of one "
        "source."
    ),
    "fidelity.precision": (
        "Share of synthetic images within reach (5th nearest neighbour) of a real one."
    ),
    "fidelity.density": (
        "The number of real images within whose reach a synthetic image is, over 5; about 1 for "
        "real images."
    ),
    "variety.recall": "Share of real images within reach of a synthetic image.",
    "variety.coverage": "Share of real images with a synthetic image within their reach.",
    "variety.similarity": (
        "Mean cosine of all pairs, as seen from the mean real image; 1 means that all images are "
        "the same."
    ),
    "variety.vendi": (
        "Effective number of different images (Vendi score, the exponential of an entropy)."
    ),
}


def measure_part(given: PartInput) -> PartResult:
    """Return the numbers of fidelity and variety, and notes on what is too few for them."""
    sides = given.train, given.test, given.made
    records = measure(*sides, given.spaces)
    return PartResult([*records], explain_too_few(*sides))


PART = Part(
    measure_part,
    question="Is it good?",
    families=("fidelity", "variety"),
    meanings=MEANINGS,
    needs_spaces=True,
)
