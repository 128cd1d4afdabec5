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
from mien.audit.features import SpaceFeatures, Vectors, find_principal_axes
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


Resampled = Float[np.ndarray, " draws"]

ImagePositions = Int[np.ndarray, " _"]


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
        clip, unit = faces.name_units("clip"), faces.name_units("subject")
        order = np.argsort([derive_seed("audit", key) for key in index["key"]], kind="stable")
        return cls(
            order, *(column.to_numpy(dtype=object) for column in (index["emotion"], clip, unit))
        )

    def list_images(self, emotion: str) -> ImagePositions:
        """Return the images of a class in the drawn order; all images for an empty name."""
        return self.order[self.emotion[self.order] == emotion] if emotion else self.order

    def list_one_per_clip(self, emotion: str) -> ImagePositions:
        """Return the first image of each clip in the drawn order, as `list_images` does."""
        positions = self.list_images(emotion)
        _, first = np.unique(self.clip[positions].astype(str), return_index=True)
        return positions[np.sort(first)]

    def resample(self, positions: ImagePositions, *names: str) -> Float[np.ndarray, "draws _"]:
        """Return how often each image occurs in each resample of the units, with replacement."""
        units, owner = np.unique(self.unit[positions].astype(str), return_inverse=True)
        counts = make_rng("audit", "bootstrap", *names).multinomial(
            len(units), np.full(len(units), 1 / len(units)), FIDELITY_RESAMPLES
        )
        return counts[:, owner].astype(np.float64)


@dataclass(frozen=True)
class Sample:
    """Images of a side in a space, and how often each is in each bootstrap resample."""

    vectors: Vectors
    weights: Float[np.ndarray, "draws n"]


@dataclass(frozen=True)
class SamplePair:
    """A sample, and the reference that it is compared with: one half of the training images.

    `suffix` says in the names of numbers what is compared: nothing for synthetic images, `_floor`
    for the other half of the training images, `_heldout` for held-out people. `emotion` is the
    class, empty if the images are of all classes.
    """

    reference: Sample
    compared: Sample
    suffix: str
    space: str
    emotion: str

    def make_record(
        self,
        name: str,
        value: float,
        resampled: Resampled | None = None,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> Record:
        """Return a record with its bootstrap interval, shifted so that its mean is the value.

        Resamples with replacement hold an image twice, which makes distances larger than those of
        the images themselves; the shift takes this bias off. The interval is within `bounds`, the
        least and the largest value that is possible.
        """
        if resampled is not None:
            resampled = (resampled - np.nanmean(resampled) + value).clip(*bounds)
        return Record.of(
            f"{name}{self.suffix}.{self.space}",
            stats.make_interval(value, resampled),
            len(self.compared.vectors),
            "images a side",
            self.emotion,
        )


def measure_fidelity(
    train: Faces, test: Faces, synthetic: Faces, features: Mapping[str, SpaceFeatures]
) -> tuple[Record, ...]:
    """Return distances, precision, recall, density, coverage and variety in each space.

    Each is measured over all images and per class. Distances are of up to 2,000 images per side, in
    equal number; neighbours and variety are of one image per clip. The intervals are of a bootstrap
    over people (clips or images, if those are not known) on both sides, centred on the value; the
    resamples do not change who is a neighbour of whom. A class with fewer than 10 images per side
    has no number.
    """
    sides = [OrderedSide.of(faces) for faces in (train, test, synthetic)]
    records: list[Record] = []
    for space, vectors in features.items():
        projected = _project_on_axes(vectors)
        centre = vectors.train.mean(axis=0, dtype=np.float64)
        for emotion in ("", *synthetic.classes):
            images = [side.list_images(emotion) for side in sides]
            for pair in _make_sample_pairs(sides, images, projected, space, emotion):
                records += _measure_distances(pair)
            images = [side.list_one_per_clip(emotion) for side in sides]
            for pair in _make_sample_pairs(sides, images, vectors, space, emotion):
                records += _measure_neighbours(pair)
                records += _measure_variety(pair, centre)
    return tuple(records)


def explain_too_few(train: Faces, test: Faces, synthetic: Faces) -> list[str]:
    """Return sentences that name what is too few for distances or neighbours, if anything is."""
    sides = {
        "training": (train, 2 * MIN_IMAGES_PER_SIDE),
        "held-out": (test, MIN_IMAGES_PER_SIDE),
        "synthetic": (synthetic, MIN_IMAGES_PER_SIDE),
    }
    notes = []
    for counted, count in (("images", _count_images), ("clips", _count_clips)):
        too_few = [
            f"{count(faces)} {name} {counted} ({needed} are needed)"
            for name, (faces, needed) in sides.items()
            if count(faces) < needed
        ]
        if too_few:
            measures = (
                "distances" if counted == "images" else "precision, recall, coverage and variety"
            )
            notes.append(f"too few for {measures}: {', '.join(too_few)}")
    return notes


def _count_images(faces: Faces) -> int:
    return len(faces)


def _count_clips(faces: Faces) -> int:
    return len(OrderedSide.of(faces).list_one_per_clip(""))


# What is compared


def _project_on_axes(vectors: SpaceFeatures) -> SpaceFeatures:
    """Return features on the axes of most variance, and each image's distance from these axes.

    Without the distance, noise that no real image has would go unnoticed.
    """
    if vectors.train.shape[1] <= FRECHET_AXES:
        return vectors
    centre, axes = find_principal_axes(vectors.train, FRECHET_AXES)

    def project(rows: Vectors) -> Float[np.ndarray, "n _"]:
        centred = rows - centre
        coordinates = centred @ axes
        residual = np.square(centred).sum(axis=1) - np.square(coordinates).sum(axis=1)
        return np.column_stack([coordinates, np.sqrt(residual.clip(0))])

    return SpaceFeatures(
        *(project(rows) for rows in (vectors.train, vectors.test, vectors.synthetic))
    )


def _make_sample_pairs(
    sides: Sequence[OrderedSide],
    images: Sequence[ImagePositions],
    vectors: SpaceFeatures,
    space: str,
    emotion: str,
) -> Iterator[SamplePair]:
    """Yield synthetic, other training, and held-out images, each with the reference.

    `sides` and `images` are of the training, held-out and synthetic images. All samples have the
    same number of images.
    """
    # The same number of images for all pairs
    train, test, synthetic = images
    count = min(
        len(train) // 2,
        MAX_IMAGES_PER_SIDE,
        *(
            len(positions)
            for positions in (test, synthetic)
            if len(positions) >= MIN_IMAGES_PER_SIDE
        ),
    )
    if min(len(synthetic), count) < MIN_IMAGES_PER_SIDE:
        return

    # The samples that are compared with the first half of the training images
    train_side, test_side, synthetic_side = sides
    reference = _make_sample(train_side, train[:count], vectors.train, "ground")
    other_half = train[count : 2 * count]
    samples = {
        "": _make_sample(synthetic_side, synthetic[:count], vectors.synthetic, "made"),
        "_floor": _make_sample(train_side, other_half, vectors.train, "floor"),
    }
    if len(test) >= MIN_IMAGES_PER_SIDE:
        samples["_heldout"] = _make_sample(test_side, test[:count], vectors.test, "heldout")
    for suffix, sample in samples.items():
        yield SamplePair(reference, sample, suffix, space, emotion)


def _make_sample(
    ordered: OrderedSide, positions: ImagePositions, vectors: Vectors, name: str
) -> Sample:
    return Sample(np.asarray(vectors[positions]), ordered.resample(positions, name))


# Distances


def _measure_distances(pair: SamplePair) -> list[Record]:
    reference, compared = pair.reference, pair.compared
    frechet = distances.compute_frechet_distance(reference.vectors, compared.vectors)
    resampled_frechet = distances.compute_gaussian_distance(
        *_resample_moments(reference), *_resample_moments(compared)
    )
    kernel, resampled_kernel = distances.compute_kernel_distance(
        reference.vectors, compared.vectors, reference.weights, compared.weights
    )
    return [
        pair.make_record("fidelity.frechet", frechet, resampled_frechet, (0.0, np.inf)),
        pair.make_record("fidelity.kernel", kernel, resampled_kernel),
    ]


def _resample_moments(
    sample: Sample,
) -> tuple[Float[np.ndarray, "draws d"], Float[np.ndarray, "draws d d"]]:
    """Return the mean and covariance of each resample."""
    rows = sample.vectors.astype(np.float64)
    totals = sample.weights.sum(axis=1)
    means = sample.weights @ rows / totals[:, None]
    products = np.stack([(rows * weights[:, None]).T @ rows for weights in sample.weights])
    centred = products - totals[:, None, None] * means[:, :, None] * means[:, None, :]
    return means, centred / (totals - 1)[:, None, None]


# Neighbours and variety


def _measure_neighbours(pair: SamplePair) -> list[Record]:
    reference, compared = pair.reference, pair.compared
    near = distances.find_neighbours(reference.vectors, compared.vectors, NEIGHBOUR_RANK)
    measured = (
        ("fidelity.precision", near.near_real, compared, 1.0),
        ("fidelity.density", near.density, compared, np.inf),
        ("variety.recall", near.near_synthetic, reference, 1.0),
        ("variety.coverage", near.covered, reference, 1.0),
    )
    return [
        pair.make_record(
            name, float(values.mean()), _resample_mean(values, sample.weights), (0.0, largest)
        )
        for name, values, sample, largest in measured
    ]


def _resample_mean(
    values: Shaped[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"]
) -> Resampled:
    return weights @ values / weights.sum(axis=1)


def _measure_variety(pair: SamplePair, centre: Float[np.ndarray, " d"]) -> list[Record]:
    # The mean cosine of all pairs, in each resample: the sum over all pairs less each with itself
    vectors, weights = pair.compared.vectors, pair.compared.weights
    directions = distances.compute_directions(vectors, centre)
    squares = np.square(weights).sum(axis=1)
    sums = np.square(weights @ directions).sum(axis=1)
    resampled = (sums - squares) / (np.square(weights.sum(axis=1)) - squares)

    similarity = distances.compute_mean_similarity(vectors, centre)
    vendi = distances.compute_vendi_score(vectors, centre)
    return [
        pair.make_record("variety.similarity", similarity, resampled),
        pair.make_record("variety.vendi", vendi),
    ]


# The part of an audit

FIDELITY_MEANINGS = {
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


def measure_part(part_input: PartInput) -> PartResult:
    """Return the numbers of fidelity and variety, and notes on what is too few for them."""
    sides = part_input.train, part_input.test, part_input.require_synthetic()
    records = measure_fidelity(*sides, part_input.spaces)
    return PartResult([*records], explain_too_few(*sides))


PART = Part(
    measure_part,
    question="Is it good?",
    families=("fidelity", "variety"),
    meanings=FIDELITY_MEANINGS,
    needs_spaces=True,
)
