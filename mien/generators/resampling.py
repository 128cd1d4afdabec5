"""Resampling: generators that make each image of their training images.

Such a generator keeps its training images and learns nothing. Its kind is a module with one
function, `make_image`, and an entry in KIND_FACTS that says what its images are; the files, the
seeds and the checks are the same for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Num, UInt8

from mien import seeds
from mien.errors import DataError
from mien.faces import Faces
from mien.generators.base import (
    Generator,
    describe_origins,
    make_empty_losses,
    read_generator,
    write_generator,
)
from mien.generators.specs import GeneratorSpec, SamplerSpec
from mien.runs.progress import quantify
from mien.runs.store import Run


@dataclass(frozen=True)
class Resampler(Generator):
    """Training images, uint8 [n, c, h, w], and their labels, which are positions in EMOTIONS."""

    images: UInt8[np.ndarray, "n c h w"]
    labels: Int64[np.ndarray, " n"]


MakeImage = Callable[
    [UInt8[np.ndarray, "n c h w"], Int64[np.ndarray, " m"], Any, np.random.Generator],
    Num[np.ndarray, "c h w"],
]
"""From all training images, the rows of one class, the spec and a random number generator to one
image of that class, whose values are rounded and clipped to 0 to 255.
"""


def fit(
    faces: Faces, spec: GeneratorSpec, scratch: Path, device: str = "auto", label: str = "training"
) -> Resampler:
    """Return the generator that keeps the images of `faces`; raises DataError if there are none."""
    if not len(faces):
        raise DataError(f"the {spec.kind} needs images to copy, and {spec.faces} has none")
    return Resampler(
        spec=spec,
        images=np.array(faces.images),
        labels=faces.number_labels(),
        losses=make_empty_losses(),
        run="",
        **describe_origins(faces),
    )


def make_sample(make_image: MakeImage) -> Callable[..., UInt8[np.ndarray, "n c h w"]]:
    """Return the function that draws images from a Resampler, given that of a single image."""

    def sample(
        generator: Resampler,
        labels: Int64[np.ndarray, " n"],
        numbers: Int64[np.ndarray, " n"],
        how: SamplerSpec,
    ) -> UInt8[np.ndarray, "n c h w"]:
        """Return an image for each label and seed; it depends on no other image."""
        generator.require_known(labels)
        rows = {label: np.flatnonzero(generator.labels == label) for label in set(labels.tolist())}
        images = np.empty((len(labels), *generator.size), dtype=np.uint8)
        for position, (label, number) in enumerate(zip(labels.tolist(), numbers, strict=True)):
            rng = seeds.make_rng(generator.spec.kind, int(number))
            image = make_image(generator.images, rows[label], generator.spec, rng)
            images[position] = np.clip(image, 0, 255).round()
        return images

    return sample


def save(generator: Resampler, out: Path) -> None:
    """Write the images, and the files that all generators have."""
    write_generator(generator, out, {})
    np.save(out / "copied.npy", generator.images, allow_pickle=False)
    np.save(out / "labels.npy", generator.labels, allow_pickle=False)


def load(run: Run, spec: GeneratorSpec, device: str = "auto") -> Resampler:
    """Return the generator of a run."""
    fields, _ = read_generator(run)
    images, labels = (
        np.load(run.find_file(name), allow_pickle=False) for name in ("copied.npy", "labels.npy")
    )
    return Resampler(spec=spec, images=images, labels=labels, **fields)


def summarise(generator: Resampler) -> str:
    """Return a one-line summary of a trained generator."""
    return f"{generator.spec.kind} of {quantify(len(generator.images), 'image')}"
