"""The copycat: a generator that learns its images by heart. It hands them out again, moved by a
pixel and with noise.

What a classifier reaches when trained on its images is what copies are worth; a generator that
claims more than copying must do better on people who were never seen.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from mien import seeds
from mien.errors import DataError
from mien.faces import Faces
from mien.generators import base
from mien.generators.specs import CopycatSpec, SamplerSpec
from mien.progress import many
from mien.store import Run


@dataclass(frozen=True)
class Copycat(base.Generator):
    """Training images, uint8 [n, c, h, w], with the place in EMOTIONS of each."""

    spec: CopycatSpec
    images: UInt8[np.ndarray, "n c h w"]
    labels: Int64[np.ndarray, " n"]


def fit(
    faces: Faces, spec: CopycatSpec, scratch: Path, device: str = "auto", label: str = "training"
) -> Copycat:
    """Take in the images of `faces`; raises DataError if there are none."""
    if not len(faces):
        raise DataError(f"the copycat must have images to copy, and {spec.faces} has none")
    return Copycat(
        spec=spec, images=np.array(faces.images), labels=faces.labels(), losses=base.no_losses(), run="",
        **base.origins(faces),
    )  # fmt: skip


def sample(
    generator: Copycat,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return a copy of a training image of each label, drawn with replacement by its seed, as
    learning by heart would.

    It is moved by up to `shift` pixels either way (the border is repeated), and Gaussian noise of
    deviation `noise` is added, where 1 is the step from black to white.
    """
    generator.require_known(labels)
    places = {label: np.flatnonzero(generator.labels == label) for label in set(labels.tolist())}
    made = [
        _copy(generator, places[label], number)
        for label, number in zip(labels.tolist(), numbers, strict=True)
    ]
    return np.stack(made) if made else np.empty((0, *generator.size), dtype=np.uint8)


def _copy(
    generator: Copycat, places: Int64[np.ndarray, " m"], number: np.int64
) -> UInt8[np.ndarray, "c h w"]:
    rng, spec = seeds.rng("copycat", int(number)), generator.spec
    image = generator.images[places[rng.integers(len(places))]]
    down, right = rng.integers(0, 2 * spec.shift + 1, 2)
    _, height, width = image.shape
    wide = np.pad(image, ((0, 0), (spec.shift, spec.shift), (spec.shift, spec.shift)), mode="edge")
    moved = wide[:, down : down + height, right : right + width]
    return (
        np.clip(moved + rng.normal(0, 255 * spec.noise, moved.shape), 0, 255)
        .round()
        .astype(np.uint8)
    )


def save(generator: Copycat, out: Path) -> None:
    """Write the images beside what all generators have."""
    base.save(generator, out, {})
    np.save(out / "copied.npy", generator.images, allow_pickle=False)
    np.save(out / "labels.npy", generator.labels, allow_pickle=False)


def load(run: Run, spec: CopycatSpec, device: str = "auto") -> Copycat:
    """Return the copycat that a run holds."""
    fields, _ = base.load(run)
    images, labels = (
        np.load(run.file(name), allow_pickle=False) for name in ("copied.npy", "labels.npy")
    )
    return Copycat(spec=spec, images=images, labels=labels, **fields)


def holds(generator: Copycat) -> str:
    """Return a line on what was learnt."""
    return f"copycat of {many(len(generator.images), 'image')}"
