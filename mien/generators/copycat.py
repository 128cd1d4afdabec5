"""The copycat: a generator that memorises its training images.

It returns them again, shifted by up to a few pixels and with noise. A classifier trained on its
images shows what copies are worth; a generator that does more than copy must do better on held-out
people.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

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
from mien.generators.specs import CopycatSpec, SamplerSpec
from mien.runs.progress import count_of
from mien.runs.store import Run


@dataclass(frozen=True)
class Copycat(Generator):
    """A trained copycat: its training images, uint8 [n, c, h, w], and their labels.

    A label is a position in EMOTIONS.
    """

    spec: CopycatSpec
    images: UInt8[np.ndarray, "n c h w"]
    labels: Int64[np.ndarray, " n"]


def fit(
    faces: Faces, spec: CopycatSpec, scratch: Path, device: str = "auto", label: str = "training"
) -> Copycat:
    """Return the copycat of the images of `faces`; raises DataError if there are none."""
    if not len(faces):
        raise DataError(f"the copycat needs images to copy, and {spec.faces} has none")
    return Copycat(
        spec=spec,
        images=np.array(faces.images),
        labels=faces.labels(),
        losses=make_empty_losses(),
        run="",
        **describe_origins(faces),
    )


def sample(
    generator: Copycat,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return, for each label and seed, a copy of a training image of that label.

    The image is drawn with replacement by the seed and shifted by up to `shift` pixels in each
    direction (the border is repeated). Gaussian noise with standard deviation `noise` is added,
    where 1 is the step from black to white.
    """
    generator.require_known(labels)
    rows = {label: np.flatnonzero(generator.labels == label) for label in set(labels.tolist())}
    copies = [
        _copy(generator, rows[label], number)
        for label, number in zip(labels.tolist(), numbers, strict=True)
    ]
    return np.stack(copies) if copies else np.empty((0, *generator.size), dtype=np.uint8)


def _copy(
    generator: Copycat, rows: Int64[np.ndarray, " m"], number: np.int64
) -> UInt8[np.ndarray, "c h w"]:
    rng, spec = seeds.make_rng("copycat", int(number)), generator.spec
    image = generator.images[rows[rng.integers(len(rows))]]
    down, right = rng.integers(0, 2 * spec.shift + 1, 2)
    _, height, width = image.shape
    padded = np.pad(
        image, ((0, 0), (spec.shift, spec.shift), (spec.shift, spec.shift)), mode="edge"
    )
    moved = padded[:, down : down + height, right : right + width]
    return (
        np.clip(moved + rng.normal(0, 255 * spec.noise, moved.shape), 0, 255)
        .round()
        .astype(np.uint8)
    )


def save(generator: Copycat, out: Path) -> None:
    """Write the images, and the files that all generators have."""
    write_generator(generator, out, {})
    np.save(out / "copied.npy", generator.images, allow_pickle=False)
    np.save(out / "labels.npy", generator.labels, allow_pickle=False)


def load(run: Run, spec: CopycatSpec, device: str = "auto") -> Copycat:
    """Return the copycat of a run."""
    fields, _ = read_generator(run)
    images, labels = (
        np.load(run.file(name), allow_pickle=False) for name in ("copied.npy", "labels.npy")
    )
    return Copycat(spec=spec, images=images, labels=labels, **fields)


def summary_line(generator: Copycat) -> str:
    """Return a one-line summary of a trained generator."""
    return f"copycat of {count_of(len(generator.images), 'image')}"
