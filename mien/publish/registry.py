"""The registry: fingerprints of every image of a release, by which a picture is known whose mark is
gone.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mien.errors import DataError
from mien.escape import printable
from mien.hashes import NEAR, bits_apart, perceptual_hash
from mien.progress import many
from mien.publish import marks

FILE = "registry.parquet"
PHASH = re.compile(r"[0-9a-f]{16}")
LEAST = 20  # bytes that a row takes, whose digests no program makes shorter
COLUMNS = ("image_id", "split", "label", "sha256", "pixels_sha256", "phash")


@dataclass(frozen=True)
class Known:
    """What is known of a picture: whether it is one of ours, which, and how that is known."""

    ours: Literal["yes", "likely", "no"]
    image: str
    text: str


def write(folder: Path, rows: pd.DataFrame) -> None:
    """Write registry.parquet: one row an image, in the order of the release."""
    form = pa.schema([(name, pa.string()) for name in COLUMNS])
    table = pa.Table.from_pandas(
        rows.loc[:, list(COLUMNS)], form, preserve_index=False
    ).replace_schema_metadata()
    pq.write_table(table, folder / FILE, compression="snappy")


def load(folder: Path) -> pd.DataFrame:
    """Return the registry of a release; `folder` may be the file itself. Raises DataError if there
    is none.
    """
    path = folder if folder.suffix == ".parquet" else folder / FILE
    try:
        rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
        if rows * LEAST > size:
            raise ValueError(f"it says that it has {many(rows, 'row')}, in {many(size, 'byte')}")
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises anything on damaged files
        raise DataError(
            f"{path} must be the registry of a release, and cannot be read: {error}"
        ) from None
    if list(table.columns) != list(COLUMNS):
        raise DataError(
            f"{path} must have the columns {', '.join(COLUMNS)}; it has {', '.join(table.columns)}"
        )
    for column in COLUMNS:
        wrong = [value for value in table[column] if not isinstance(value, str)]
        wrong = wrong or [
            text for text in table[column] if column == "phash" and not PHASH.fullmatch(text)
        ]
        if wrong:
            must = "16 hexadecimal digits" if column == "phash" else "a text"
            raise DataError(
                f"{path} must have {must} in each row of {column}, and has "
                f"{printable(repr(wrong[0])[:60])}"
            )
    return table


def identify(path: Path, folder: Path | None = None) -> Known:
    """Say whether the picture in a file is one of ours: by its mark, and by the registry in
    `folder` if one is given.

    A mark says what its writer wants it to say: it is believed where the pixels are those that it
    was written for, and where a registry is given, only if that has them too. Without a mark the
    registry is asked for the file's sha256, its pixels, and for images whose perceptual hash is at
    most 4 of 64 bits away, which is a likeness and no proof.
    """
    seen = marks.read_file(path)
    table = load(folder) if folder is not None else None
    if seen.mark is not None and table is None:
        return _by_mark(seen.mark, seen)
    if table is None:
        more = "; its XMP says that a machine made it" if seen.declared else ""
        return Known(
            "no",
            "",
            f"no mark of mien{more}; with --registry RELEASE it is looked for by its pixels",
        )
    known = _by_registry(path, seen, table)
    if seen.mark is not None and known.ours == "yes" and known.image != seen.mark.image:
        return Known(
            "yes",
            known.image,
            f"{known.text}; its mark says {seen.mark.image} and is not to be believed",
        )
    if seen.mark is not None and known.ours != "yes":
        return Known(
            known.ours,
            known.image,
            f"{known.text}; it bears a mark that says {seen.mark.image}, and that proves nothing",
        )
    return known


def _by_mark(mark: marks.Mark, seen: marks.Seen) -> Known:
    told = (
        f"image {mark.image} of {mark.run}, expression label {mark.label}, seed {mark.seed}, "
        f"licence {mark.licence}"
    )
    if not seen.fits:
        return Known(
            "no",
            "",
            (
                f"its mark says {told}, and was written for other pixels: altered, or put there by "
                "hand"
            ),
        )
    return Known("yes", mark.image, f"marked: {told}")


def _by_registry(path: Path, seen: marks.Seen, table: pd.DataFrame) -> Known:
    other = "the same pixels in another file" + ("" if seen.mark else ", its mark is gone")
    for column, value, how in (
        ("sha256", hashlib.sha256(path.read_bytes()).hexdigest(), "the same file, byte for byte"),
        ("pixels_sha256", seen.pixels, other),
        ("pixels_sha256", marks.pixels_of(seen.image[:1]) if seen.grey else "", other),
    ):
        found = table.loc[table[column] == value]
        if len(found):
            row = found.iloc[0]
            return Known("yes", row["image_id"], f"image {row['image_id']} ({row['label']}): {how}")
    ours = np.array([int(text, 16) for text in table["phash"]], dtype=np.uint64)
    apart = bits_apart(perceptual_hash(seen.image[None]), ours)[0]
    near = np.flatnonzero(apart <= NEAR)
    if len(near):
        best = int(near[np.argmin(apart[near])])
        name = table["image_id"].iloc[best]
        text = (
            f"looks like image {name} ({apart[best]} of 64 bits apart, "
            f"{many(len(near), 'such image')}): a "
            "likeness, no proof"
        )
        return Known("likely", name, text)
    least = f"; the nearest is {apart.min()} of 64 bits apart" if len(apart) else ""
    return Known("no", "", f"not in the registry{least}")
