"""Albums: faces as PNG files in one folder per class, with a table.

A synthetic picture is marked as one in its own file, as in a release. A picture of a real face, or
a copy of one, leaves the store only where that is asked for.
"""

import io
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8
from PIL import Image

from mien import __version__
from mien.audit.memorisation.copies import find_copies
from mien.errors import StoreError, UsageError
from mien.faces import Faces
from mien.pages import escape
from mien.publish import marks
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import count_of, say, track
from mien.runs.store import Run, Store

ALBUM_COLUMNS = (
    "file_name",
    "key",
    "emotion",
    "source",
    "seed",
    "dataset",
    "subject",
    "clip",
    "frame",
    "phase",
    "licence",
)


@dataclass(frozen=True)
class WrittenAlbum:
    """What was written: the folder, images per class, and how many were withheld because they show
    real people.
    """

    folder: Path
    counts: dict[str, int]
    kept_back: int


def write_album(run: Run, store: Store, out: Path, real: bool = False) -> WrittenAlbum:
    """Write the faces of a run to the folder `out`: CLASS/NAME.png for each, and metadata.csv.

    Of images with several channels that are no colours, each channel is a file of its own. Without
    `real` nothing leaves the store that shows a real person: copies of the generator's training
    faces stay back, and are counted.

    Raises UsageError if the run holds no faces, if they are real and `real` was not said, if
    nothing would be left, or if `out` is not free; nothing is left behind then.
    """
    out = require_free(out)
    if "index.parquet" not in run.manifest["files"]:
        raise UsageError(
            f"pictures must come from a run of faces, and {run.name} is none; see `mien ls`"
        )
    faces = Faces.load(run.path)
    if not real and (faces.index["source"] == "real").any():
        count = int((faces.index["source"] == "real").sum())
        raise UsageError(
            f"{run.name} holds {count_of(count, 'image')} of real people, which stay in the store "
            "unless --real says that they may leave it; then keep to the licence of the set and "
            "to what the people agreed to"
        )
    shown = np.ones(len(faces), dtype=bool) if real else ~_find_copies(faces, store)
    if not shown.any():
        whose = "copies of real faces, which stay in the store unless --real is said"
        raise UsageError(f"all {count_of(len(faces), 'image')} of {run.name} are {whose}")
    kept = faces.select(shown)
    with write_whole_folder(out) as folder:
        _write_pictures(kept, run, folder)
    counts = {name: int((kept.index["emotion"] == name).sum()) for name in kept.classes}
    return WrittenAlbum(out, counts, int((~shown).sum()))


def _find_copies(faces: Faces, store: Store) -> Bool[np.ndarray, " n"]:
    """Return which images are copies of what their generators were trained on."""
    found = np.zeros(len(faces), dtype=bool)
    for source in sorted(set(faces.index["source"])):
        try:
            made = store.run(str(source))
            learnt = store.run(str(store.run(str(made.spec["generator"])).spec["faces"]))
        except (StoreError, KeyError):
            continue  # not made here: there is nothing to compare with
        say(f"looking for copies of {learnt.name}")
        theirs = (faces.index["source"] == source).to_numpy()
        table = find_copies(faces.select(theirs), Faces.load(learnt.path))
        found |= theirs & faces.index["key"].isin(set(table["image"])).to_numpy()
    return found


def _write_pictures(faces: Faces, run: Run, folder: Path) -> None:
    rows = faces.index.to_dict("records")
    names = _make_unique([f"{row['emotion']}/{_make_file_name(str(row['key']))}" for row in rows])
    lines = []
    with track("writing pictures", len(faces)) as bar:
        for place, (name, row) in enumerate(zip(names, rows, strict=True)):
            for ending, image in _split_channels(faces, place):
                path = folder / f"{name}{ending}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(_encode_png(image, row, run))
                told = {column: row[column] for column in ALBUM_COLUMNS[1:]}
                lines.append({"file_name": path.relative_to(folder).as_posix(), **told})
            bar.update(place + 1)
    escape.write_csv(pd.DataFrame(lines, columns=list(ALBUM_COLUMNS)), folder / "metadata.csv")


def _make_unique(names: list[str]) -> list[str]:
    """Return the names, those that came before (in any case) with a number behind them."""
    taken, found = set[str](), []
    for name in names:
        free, number = name, 2
        while free.lower() in taken:
            free, number = f"{name}-{number}", number + 1
        taken.add(free.lower())
        found.append(free)
    return found


def _make_file_name(key: str) -> str:
    """Return a key as a file name that every system takes, without the run or dataset that it
    begins with.
    """
    return (
        re.sub(r"[^A-Za-z0-9._-]+", "-", key.partition("/")[2] or key).strip("-.")[-120:] or "image"
    )


def _split_channels(faces: Faces, place: int) -> Iterator[tuple[str, UInt8[np.ndarray, "c h w"]]]:
    """Yield an image with what its file's name ends in: itself if it is grey or coloured, else each
    channel.
    """
    image = np.asarray(faces.images[place])
    if not faces.channels and len(image) in (1, 3):
        yield "", image
        return
    for called, channel in zip(faces.shown, image, strict=True):
        yield f".{_make_file_name(called)}", channel[None]


def _encode_png(image: UInt8[np.ndarray, "c h w"], row: dict[Hashable, Any], run: Run) -> bytes:
    """Return an image as a PNG file, marked unless it is of a real person."""
    if row["source"] == "real":
        buffer = io.BytesIO()
        Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(
            buffer, "PNG"
        )
        return buffer.getvalue()
    mark = marks.Mark(
        image=str(row["key"]),
        run=str(row["source"]) or run.name,
        seed=int(row["seed"]),
        label=str(row["emotion"]),
        licence=str(row["licence"]),
        pixels=marks.pixel_digest(image)[: marks.MARK_DIGITS],
    )
    return marks.encode_png(image, mark, "mien", __version__)
