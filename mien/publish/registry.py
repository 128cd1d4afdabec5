"""The registry: fingerprints that recognise a picture whose mark is lost."""

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
from mien.hashes import NEAR_DUPLICATE_BITS, compute_hamming_distances, compute_perceptual_hash
from mien.pages.escape import make_printable
from mien.publish import marks
from mien.runs.progress import quantify

REGISTRY_FILE = "registry.parquet"

PHASH_DIGITS = re.compile(r"[0-9a-f]{16}")

MIN_BYTES_PER_ROW = 20  # fewest bytes of a row, because digests cannot be compressed

REGISTRY_COLUMNS = ("image_id", "split", "label", "sha256", "pixels_sha256", "phash")


@dataclass(frozen=True)
class Identification:
    """What is known about a picture: whether it is one of ours, which image, and why."""

    from_this_release: Literal["yes", "likely", "no"]
    image: str
    text: str


def write_registry(folder: Path, rows: pd.DataFrame) -> None:
    """Write registry.parquet: one row per image, in the order of the release."""
    form = pa.schema([(name, pa.string()) for name in REGISTRY_COLUMNS])
    table = pa.Table.from_pandas(
        rows.loc[:, list(REGISTRY_COLUMNS)], form, preserve_index=False
    ).replace_schema_metadata()
    pq.write_table(table, folder / REGISTRY_FILE, compression="snappy")


def read_registry(folder: Path) -> pd.DataFrame:
    """Return the registry of a release; `folder` may be the file itself.

    Raises DataError if it cannot be read, or is not a registry.
    """
    # The number of rows is checked before memory is taken for them
    path = folder if folder.suffix == ".parquet" else folder / REGISTRY_FILE
    try:
        rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
        if rows * MIN_BYTES_PER_ROW > size:
            raise ValueError(
                f"it says that it has {quantify(rows, 'row')}, in {quantify(size, 'byte')}"
            )
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises anything on damaged files
        raise DataError(
            f"{path} must be the registry of a release, and cannot be read: {error}"
        ) from None

    # Columns of text, with hashes as hexadecimal digits
    if list(table.columns) != list(REGISTRY_COLUMNS):
        raise DataError(
            f"{path} must have the columns {', '.join(REGISTRY_COLUMNS)}; "
            f"it has {', '.join(table.columns)}"
        )
    for column in REGISTRY_COLUMNS:
        invalid = [value for value in table[column] if not isinstance(value, str)]
        if not invalid and column == "phash":
            invalid = [text for text in table[column] if not PHASH_DIGITS.fullmatch(text)]
        if invalid:
            required = "16 hexadecimal digits" if column == "phash" else "a text"
            raise DataError(
                f"{path} must have {required} in each row of {column}, and has "
                f"{make_printable(repr(invalid[0])[:60])}"
            )
    return table


def identify(path: Path, folder: Path | None = None) -> Identification:
    """Return whether the picture in a file is one of ours, by its mark and by a registry.

    `folder` is a release or its registry, if one is given. Anyone can write a mark, so it counts
    only where the pixels are those that it was written for, and, where a registry is given, only
    if that has these pixels too. The registry is searched for the file's sha256, for its pixels,
    and for images whose perceptual hash is at most 4 of 64 bits away, which is a likeness and no
    proof. Raises DataError if a file cannot be read.
    """
    # Without a registry, only the mark counts
    picture = marks.read_file(path)
    table = read_registry(folder) if folder is not None else None
    if picture.mark is not None and table is None:
        return _identify_by_mark(picture.mark, picture)
    if table is None:
        declared = "; its XMP says that a machine made it" if picture.declared else ""
        return Identification(
            "no", "", f"no mark of mien{declared}; --registry RELEASE searches for its pixels"
        )

    # With one, the registry decides, and a mark that disagrees is reported
    identification = _identify_by_registry(path, picture, table)
    if picture.mark is None:
        return identification
    if identification.from_this_release != "yes":
        text = (
            f"{identification.text}; it has a mark that says {picture.mark.image}, and that proves "
            "nothing"
        )
        return Identification(identification.from_this_release, identification.image, text)
    if identification.image != picture.mark.image:
        text = f"{identification.text}; its mark says {picture.mark.image}, and is wrong"
        return Identification("yes", identification.image, text)
    return identification


def _identify_by_mark(mark: marks.Mark, picture: marks.MarkedPicture) -> Identification:
    content = (
        f"image {mark.image} of {mark.run}, expression label {mark.label}, seed {mark.seed}, "
        f"licence {mark.licence}"
    )
    if not picture.fits:
        text = f"its mark says {content}, and was written for other pixels: altered, or forged"
        return Identification("no", "", text)
    return Identification("yes", mark.image, f"marked: {content}")


def _identify_by_registry(
    path: Path, picture: marks.MarkedPicture, table: pd.DataFrame
) -> Identification:
    """Return what the registry knows about a picture: by file, by pixels, then by likeness."""
    # The same file, or the same pixels; grey images may have been saved as RGB
    same_pixels = "the same pixels in another file" + ("" if picture.mark else ", its mark is lost")
    for column, value, reason in (
        ("sha256", hashlib.sha256(path.read_bytes()).hexdigest(), "the same file, byte for byte"),
        ("pixels_sha256", picture.pixels, same_pixels),
        (
            "pixels_sha256",
            marks.hash_pixels(picture.image[:1]) if picture.grey else "",
            same_pixels,
        ),
    ):
        matches = table.loc[table[column] == value]
        if len(matches):
            row = matches.iloc[0]
            text = f"image {row['image_id']} ({row['label']}): {reason}"
            return Identification("yes", row["image_id"], text)

    # A perceptual hash that is near
    ours = np.array([int(text, 16) for text in table["phash"]], dtype=np.uint64)
    distances = compute_hamming_distances(compute_perceptual_hash(picture.image[None]), ours)[0]
    near = np.flatnonzero(distances <= NEAR_DUPLICATE_BITS)
    if len(near):
        best = int(near[np.argmin(distances[near])])
        name = table["image_id"].iloc[best]
        text = (
            f"looks like image {name} ({distances[best]} of 64 bits apart, "
            f"{quantify(len(near), 'such image')}): a likeness, no proof"
        )
        return Identification("likely", name, text)
    nearest = f"; the nearest is {distances.min()} of 64 bits apart" if len(distances) else ""
    return Identification("no", "", f"not in the registry{nearest}")
