"""The files of shards, and how many images there are so far."""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien.generators.orders import plan_database
from mien.generators.specs import GenerateSpec
from mien.runs.files import write_whole
from mien.runs.store import Store

SHARD_FILE = re.compile(r"images-([0-9]{7,})-([0-9]{7,})\.npy\Z")


def write_shard(path: Path, shard: UInt8[np.ndarray, "n c h w"]) -> None:
    """Write the images of a shard, preceded by their sha256."""
    buffer = io.BytesIO()
    np.save(buffer, shard, allow_pickle=False)
    content = buffer.getvalue()
    write_whole(path, hashlib.sha256(content).digest() + content)


def get_shard_path(scratch: Path, rows: slice) -> Path:
    """Return the path of the shard of the images in `rows`."""
    return scratch / f"images-{rows.start:07d}-{rows.stop:07d}.npy"


def read_shard(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n c h w"] | None:
    """Return the images of a shard, or None if the file is missing or damaged.

    The file is as `write_shard` writes it, and its images must have `shape`.
    """
    shard = _load_intact(path)
    if shard is None:
        return None
    return shard if shard.shape == shape and shard.dtype == np.uint8 else None


@dataclass(frozen=True)
class Drawing:
    """How far a database is drawn: `done` of `total` images, and whether a process draws now.

    `finished` says that the run is in the store.
    """

    run: str
    total: int
    done: int
    finished: bool
    under_way: bool


def read_drawing(spec: GenerateSpec, store: Store) -> Drawing:
    """Return how far the database of a spec is drawn, from the files in the store."""
    total = sum(spec.counts.values())
    if store.is_done(spec.name):
        return Drawing(spec.name, total, total, finished=True, under_way=False)

    # Shards of several sizes may overlap, if the device changed
    covered = np.zeros(total, dtype=bool)
    for rows, _ in _list_shards(store.root / "work" / spec.name / "scratch"):
        covered[rows] = True
    under_way = store.is_being_made(spec.name)
    return Drawing(spec.name, total, int(covered.sum()), finished=False, under_way=under_way)


def load_drawn(
    spec: GenerateSpec, store: Store, most: int
) -> list[tuple[int, str, UInt8[np.ndarray, "c h w"]]]:
    """Return up to `most` images of an unfinished database: position, emotion and image of each.

    They are evenly spaced over the shards that are on the disk. A damaged shard is passed over.
    """
    index, _, _ = plan_database(spec)
    images: dict[int, np.ndarray] = {}
    for rows, path in _list_shards(store.root / "work" / spec.name / "scratch"):
        shard = _load_intact(path)
        if shard is not None and len(shard) == rows.stop - rows.start:
            images |= dict(zip(range(rows.start, rows.stop), shard, strict=True))
    positions = sorted(place for place in images if place < len(index))
    chosen = np.linspace(0, len(positions) - 1, min(most, len(positions))).round().astype(int)
    return [(positions[n], index[positions[n]][1], images[positions[n]]) for n in chosen]


def _list_shards(scratch: Path) -> Iterator[tuple[slice, Path]]:
    """Yield the rows and the path of each shard that was written into a folder, in order."""
    paths = sorted(scratch.iterdir()) if scratch.is_dir() else []
    for path in paths:
        if match := SHARD_FILE.match(path.name):
            yield slice(int(match[1]), int(match[2])), path


def _load_intact(path: Path) -> UInt8[np.ndarray, "n c h w"] | None:
    """Return the images of a shard of any shape, or None if the file is missing or damaged."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        return np.load(io.BytesIO(content[32:]), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
