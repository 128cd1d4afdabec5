"""Albums: faces as PNG files in one folder per class, with a table.

The file of a synthetic picture is marked as synthetic, as in a release. A picture of a real face,
or a copy of one, leaves the store only on request.
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
from mien.ingest.readers.casme2 import FREE_LICENCE
from mien.pages import escape
from mien.pages.sheets import find_channels_of_inputs, write_moving_picture
from mien.publish import marks
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import quantify, say, track
from mien.runs.spec import list_parents
from mien.runs.store import Run, Store
from mien.study.sources import find_ancestors, find_licence

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
    """What was written: the folder, images per class, and how many were withheld as copies of
    training faces.
    """

    folder: Path
    counts: dict[str, int]
    kept_back: int


def write_album(run: Run, store: Store, out: Path, real: bool = False) -> WrittenAlbum:
    """Write the faces of a run to the folder `out`: CLASS/NAME.png for each, and metadata.csv.

    If the channels of an image are not colours, each channel is a file of its own, such as
    NAME.t0.png, and a further column of the table, `channel`, has its name. Clips are also written
    to motion/CLASS/NAME.webp, which shows the moments of the first input one after the other.
    Without `real` no original leaves the store, be it recorded or drawn: copies of the generator's
    training faces are counted, but not written.

    Raises UsageError if the run has no faces, if they are real and `real` is false, if no image
    remains, or if `out` is not empty; no files are written in these cases.
    """
    # Faces that may leave the store
    out = require_free(out)
    if "index.parquet" not in run.manifest["files"]:
        raise UsageError(
            f"pictures must come from a run of faces, and {run.name} has none; `mien ls` lists "
            "the runs"
        )
    faces = Faces.load(run.path)
    if not real and (faces.index["source"] == "real").any():
        count = quantify(int((faces.index["source"] == "real").sum()), "image")
        if are_drawn(run, store):
            raise UsageError(
                f"{run.name} holds {count} of drawn faces, which show nobody and are free; they "
                "are originals all the same, and leave the store only with --real"
            )
        raise UsageError(
            f"{run.name} holds {count} of real people, which leave the store only with --real; if "
            "you give it, keep to the licence of the dataset and to what the people agreed to"
        )
    is_shown = np.ones(len(faces), dtype=bool) if real else ~find_copied_images(faces, store)
    if not is_shown.any():
        whose = "copies of training faces, which leave the store only with --real"
        raise UsageError(f"all {quantify(len(faces), 'image')} of {run.name} are {whose}")

    # Their pictures, and the table
    shown_faces = faces.select(is_shown)
    with write_whole_folder(out) as folder:
        _write_pictures(shown_faces, run, folder)
    emotions = shown_faces.index["emotion"]
    counts = {name: int((emotions == name).sum()) for name in shown_faces.classes}
    return WrittenAlbum(out, counts, int((~is_shown).sum()))


def are_drawn(run: Run, store: Store) -> bool:
    """Whether all originals behind a run are drawn faces, which show nobody (`mien toy`)."""
    try:
        ingested = [origin for origin in find_ancestors(run, store) if origin.stage == "ingest"]
    except StoreError:
        return False
    return bool(ingested) and all(
        origin.spec["reader"] == "casme2"
        and find_licence(Faces.load(origin.path).index) == FREE_LICENCE
        for origin in ingested
    )


def find_copied_images(faces: Faces, store: Store) -> Bool[np.ndarray, " n"]:
    """Return which images are copies of what the generators behind them were trained on."""
    copied = np.zeros(len(faces), dtype=bool)
    for source in sorted(set(faces.index["source"])):
        from_source = (faces.index["source"] == source).to_numpy()
        for name in _list_training_sets(str(source), store):
            say(f"looking for copies of {name}")
            table = find_copies(faces.select(from_source), Faces.load(store.run(name).path))
            copied |= from_source & faces.index["key"].isin(set(table["image"])).to_numpy()
    return copied


def _list_training_sets(source: str, store: Store) -> list[str]:
    """Return the runs of faces that the models behind a run of faces were trained on.

    What is no longer in this store cannot be compared with, and is left out.
    """
    names, waiting, training_sets = set[str](), [source], set[str]()
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        try:
            run = store.run(name)
        except StoreError:
            continue
        if "index.parquet" not in run.manifest["files"] and "faces" in run.spec:
            training_sets.add(str(run.spec["faces"]))
        waiting += list_parents(run.spec)
    return sorted(name for name in training_sets if store.is_done(name))


def _write_pictures(faces: Faces, run: Run, folder: Path) -> None:
    rows = faces.index.to_dict("records")
    names = _make_unique([f"{row['emotion']}/{_make_file_name(str(row['key']))}" for row in rows])
    lines = []
    with track("writing pictures", len(faces)) as bar:
        for position, (name, row) in enumerate(zip(names, rows, strict=True)):
            for channel, image in _split_channels(faces, position):
                ending = f".{_make_file_name(channel)}" if channel else ""
                path = folder / f"{name}{ending}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(_encode_png(image, row, run))
                facts = {column: row[column] for column in ALBUM_COLUMNS[1:]}
                facts |= {"channel": channel} if faces.channels else {}
                lines.append({"file_name": path.relative_to(folder).as_posix(), **facts})
            if len(faces.moments) > 1:
                _write_motion(faces, position, folder / "motion" / f"{name}.webp")
            bar.update(position + 1)
    columns = [*ALBUM_COLUMNS, *(["channel"] if faces.channels else [])]
    escape.write_csv(pd.DataFrame(lines, columns=columns), folder / "metadata.csv")


def _write_motion(faces: Faces, position: int, path: Path) -> None:
    """Write a clip as an animated picture of its first input, marked unless it is of a real
    person.
    """
    first_input = next(iter(find_channels_of_inputs(faces).values()))
    image = np.asarray(faces.images[position])
    is_real = faces.index["source"].iloc[position] == "real"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_moving_picture(
        [Image.fromarray(image[channel]).convert("RGB") for channel in first_input],
        path,
        "" if is_real else marks.make_xmp_packet("mien", __version__),
    )


def _make_unique(names: list[str]) -> list[str]:
    """Return the names, with a number after a name that occurred before, in any case."""
    used, unique = set[str](), []
    for name in names:
        free, number = name, 2
        while free.lower() in used:
            free, number = f"{name}-{number}", number + 1
        used.add(free.lower())
        unique.append(free)
    return unique


def _make_file_name(key: str) -> str:
    """Return a key as a file name that every system accepts, without its run or dataset."""
    return (
        re.sub(r"[^A-Za-z0-9._-]+", "-", key.partition("/")[2] or key).strip("-.")[-120:] or "image"
    )


def _split_channels(
    faces: Faces, position: int
) -> Iterator[tuple[str, UInt8[np.ndarray, "c h w"]]]:
    """Yield the pictures of an image, each with the name of the channel that it shows.

    A grey or coloured image is one picture; of any other image each channel is one.
    """
    image = np.asarray(faces.images[position])
    if not faces.channels and len(image) in (1, 3):
        yield "", image
        return
    for channel_name, channel in zip(faces.shown, image, strict=True):
        yield channel_name, channel[None]


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
        pixels=marks.hash_pixels(image)[: marks.MARK_DIGITS],
    )
    return marks.encode_png(image, mark, "mien", __version__)
