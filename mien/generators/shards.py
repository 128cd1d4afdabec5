"""Shards: a database is drawn in pieces, so that a stopped command resumes."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from mien.generators.base import Generator
from mien.generators.kinds import sample_generator
from mien.generators.shard_files import get_shard_path, read_shard, write_shard
from mien.generators.specs import SamplerSpec
from mien.runs import devices, progress, stopping

# Images that are written at once, a multiple of diffusion.BATCH
SHARD_IMAGES = {"cpu": 64, "cuda": 512, "mps": 128}


def make_shards(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
    scratch: Path,
    device: str = "auto",
    shard: int | None = None,
    guidance: Float64[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label and seed, in shards; finished ones in `scratch` are reused.

    `guidance` is that of each image; None is that of `how` for all.

    The images are in a file in `scratch`, which is memory-mapped only after all are written: on a
    full disk, writing to a mapped file would end the process without a message.
    """
    # The head of the file, then the images shard by shard
    guidance = np.full(len(labels), how.guidance) if guidance is None else guidance
    path, size = scratch / "images.npy", shard or SHARD_IMAGES[devices.find_device(device).type]
    head = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *generator.size)}
    with (
        path.open("wb") as file,
        progress.track("generating", len(labels)) as tracker,
        stopping.defer_signals(),
    ):
        np.lib.format.write_array_header_1_0(file, head)
        for first in range(0, len(labels), size):
            rows = slice(first, min(first + size, len(labels)))
            shard_path = get_shard_path(scratch, rows)
            images = make_shard(
                generator, labels[rows], numbers[rows], how, shard_path, guidance[rows]
            )
            file.write(np.ascontiguousarray(images).data)
            tracker.update(rows.stop)
            stopping.raise_if_asked()

    # The whole database, without taking memory
    return np.load(path, mmap_mode="r", allow_pickle=False)


def make_shard(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
    path: Path,
    guidance: Float64[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label and seed, read from the file `path` if it is complete.

    Otherwise the images are drawn, and written to the file. `guidance` is that of each image; None
    is that of `how` for all.
    """
    shard = read_shard(path, (len(labels), *generator.size))
    if shard is None:
        shard = np.empty((len(labels), *generator.size), dtype=np.uint8)
        each = np.full(len(labels), how.guidance) if guidance is None else guidance
        for value in np.unique(each):
            guided, rows = how.model_copy(update={"guidance": float(value)}), each == value
            shard[rows] = sample_generator(generator, labels[rows], numbers[rows], sampler=guided)
        write_shard(path, shard)
    return shard
