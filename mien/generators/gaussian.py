"""A Gaussian in pixel space: a mean face and a covariance per class.

It is the baseline of every quality measure: it has no model of a face, so a result that it reaches
(a Fréchet distance, an accuracy on held-out people) does not need one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from safetensors.numpy import load_file
from safetensors.numpy import save as pack

from mien import seeds
from mien.errors import DataError
from mien.faces import EMOTIONS, Faces
from mien.generators.base import (
    Generator,
    describe_origins,
    make_empty_losses,
    read_generator,
    write_generator,
)
from mien.generators.specs import GaussianSpec, SamplerSpec
from mien.runs.files import write_whole
from mien.runs.progress import quantify
from mien.runs.store import Run


@dataclass(frozen=True)
class Gaussian(Generator):
    """A trained Gaussian.

    For each emotion it has the mean [d] of its images in [0, 1] and a root [r, d] of their
    covariance, which is root.T @ root.
    """

    spec: GaussianSpec
    means: dict[str, Float32[np.ndarray, " d"]]
    roots: dict[str, Float32[np.ndarray, "_ d"]]


def fit(
    faces: Faces, spec: GaussianSpec, scratch: Path, device: str = "auto", label: str = "training"
) -> Gaussian:
    """Return the Gaussian with the mean and covariance of each class of `faces`.

    With fewer images than pixels the covariance is singular, and samples stay in the span of the
    images. Raises DataError if there are no images.
    """
    if not len(faces):
        raise DataError(f"a Gaussian needs images to be fitted to, and {spec.faces} has none")
    means, roots = {}, {}
    for emotion in faces.classes:
        images = faces.images[(faces.index["emotion"] == emotion).to_numpy()]
        flat = images.reshape(len(images), -1).astype(np.float32) / 255
        means[emotion] = flat.mean(axis=0)
        roots[emotion] = compute_root(flat - means[emotion])
    return Gaussian(
        spec=spec,
        means=means,
        roots=roots,
        losses=make_empty_losses(),
        run="",
        **describe_origins(faces),
    )


def compute_root(centred: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "_ d"]:
    """Return R [min(n, d), d] with R.T @ R the sample covariance (n - 1) of centred rows."""
    n, d = centred.shape
    scaled = centred / np.float32(max(1, n - 1) ** 0.5)
    if n <= d:
        return scaled
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    return (np.sqrt(values.clip(0))[:, None] * vectors.T).astype(np.float32)


def sample(
    generator: Gaussian,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed, clipped to [0, 255]."""
    generator.require_known(labels)
    images = np.empty((len(labels), *generator.size), dtype=np.uint8)
    for position, (label, number) in enumerate(zip(labels.tolist(), numbers.tolist(), strict=True)):
        mean, spread = generator.means[EMOTIONS[label]], generator.roots[EMOTIONS[label]]
        noise = seeds.make_rng("gaussian", number).standard_normal(len(spread), dtype=np.float32)
        image = (mean + noise @ spread).clip(0, 1)
        images[position] = (255 * image).round().reshape(generator.size)
    return images


def save(generator: Gaussian, out: Path) -> None:
    """Write means and roots, and the files that all generators have."""
    write_generator(generator, out, {})
    moments = {"mean": generator.means, "root": generator.roots}
    tensors = {
        f"{moment}/{name}": array
        for moment, arrays in moments.items()
        for name, array in arrays.items()
    }
    write_whole(
        out / "generator.safetensors",
        pack({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}),
    )


def load(run: Run, spec: GaussianSpec, device: str = "auto") -> Gaussian:
    """Return the Gaussian of a run."""
    fields, _ = read_generator(run)
    tensors = load_file(run.find_file("generator.safetensors"))
    means, roots = (
        {
            name.removeprefix(prefix): array
            for name, array in tensors.items()
            if name.startswith(prefix)
        }
        for prefix in ("mean/", "root/")
    )
    return Gaussian(spec=spec, means=means, roots=roots, **fields)


def summarise(generator: Gaussian) -> str:
    """Return a one-line summary of a trained generator."""
    ranks = ", ".join(f"{name} {len(spread):,}" for name, spread in generator.roots.items())
    return (
        f"Gaussians in {quantify(generator.means[generator.classes[0]].size, 'pixel')}, of rank "
        f"{ranks}"
    )
