"""FER2013 (Goodfellow et al. 2013): 35,887 grey faces from web searches.

    fer2013.csv                      emotion,pixels,Usage: 0..6, 2,304 numbers, Training ...
    train/angry/Training_3908.jpg    the form of mirrors; the name says the usage, not the folder

There are seven classes, and the subjects are unknown. Kaggle's icml_face_data.csv is a copy with
blanks in its header.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.folders import IMAGE_SUFFIXES, FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import (
    ImageRow,
    make_listing,
    make_no_images_error,
    match_paths,
    name_picture,
    report_incomplete_release,
)
from mien.ingest.specs import IngestSpec
from mien.licences import Terms
from mien.pictures import Picture

READER = Reader(
    dataset="fer2013",
    title="FER2013",
    needs="FOLDER with fer2013.csv (emotion,pixels,Usage), or {train,test}/angry/Training_NNN.jpg",
    subjects="nowhere: pictures from web searches",
    clips="nowhere: single photographs",
    licence="unknown: pictures from web searches, of which nobody cleared the rights",
    terms=Terms(
        "FER2013", source="gathered from the web; no licence of the pictures' owners is known"
    ),
    other_names=("fer",),
    citation=(
        "Goodfellow IJ, Erhan D, Carrier PL, et al. (2013) Challenges in Representation Learning: "
        "A report on three machine learning contests. ICONIP 2013, LNCS 8228, 117-124"
    ),
    obtain=(
        "download it from Kaggle: "
        "c/challenges-in-representation-learning-facial-expression-recognition-challenge"
    ),
    labels={
        "0": "anger",
        "1": "disgust",
        "2": "fear",
        "3": "happiness",
        "4": "sadness",
        "5": "surprise",
        "6": "neutral",
        "angry": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happiness",
        "sad": "sadness",
        "surprise": "surprise",
        "neutral": "neutral",
    },
    parts={
        "all": "the whole set",
        "training": "the contest's training set",
        "publictest": "its public test set, which many take for validation",
        "privatetest": "its private test set",
    },
)

FER2013_RELEASED_IMAGES, PIXELS_PER_SIDE = 35_887, 48

USAGES = {"training": "Training", "publictest": "PublicTest", "privatetest": "PrivateTest"}

_CLASSES = "|".join(label for label in READER.labels if label.isalpha())

_FER2013_IMAGE_PATTERN = re.compile(
    r"(?:(?:.*/)?(train|test|val|valid|validation)/|(?:.*/)?)"
    rf"({_CLASSES})/((Training|PublicTest|PrivateTest)_([0-9]+))\.[a-z]+",
    re.IGNORECASE,
)


class PixelRow(NamedTuple):
    """One row of the table; `position` is its number, from 0 below the header."""

    position: int
    emotion: str
    pixels: str
    usage: str


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the images of the table if there is one, otherwise those of the folders.

    Keys begin with the official usage. Raises DataError as `make_listing` does, or if the table
    cannot be read.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".csv"})
    tables = [path for path in paths if path.lower().endswith(".csv") and find_columns(root / path)]
    part = spec.part or "all"
    images = [path for path in paths if not path.lower().endswith(".csv")]
    rows_by_table: dict[str, Sequence[int]] = {}
    read: dict[str, str] = {}

    # A table with other columns or separators is an error, not a set without a table.
    _refuse_other_forms(
        root, [path for path in paths if path.lower().endswith(".csv") and path not in tables]
    )

    # Read the table if there is one, otherwise the image files.
    if tables:
        table = min(tables, key=lambda path: ("fer2013" not in path.lower(), path.count("/"), path))
        rows, table_findings, count = _read_table(root, table)
        rows_by_table[table] = range(count)
        table_findings.append(
            Finding(
                "note",
                "table",
                table,
                f"images were read from it{_mention_other_tables(tables, table)}",
            )
        )
        table_findings += report_ignored_images(images, table)
        read = {name_row(table, position): "" for position in rows_by_table[table]}
        read |= {name_row(table, row.place): row.key for row in rows}
    else:
        rows, table_findings = _read_folders(images)

    # Select the usage that is asked for, and report how many images each has.
    usages = Counter(row.key.split("/")[0] for row in rows)
    selected = [row for row in rows if part in ("all", row.key.split("/")[0].lower())]
    counts = ", ".join(f"{usage or 'none'} {count:,}" for usage, count in sorted(usages.items()))
    if rows:
        table_findings.append(
            Finding("note", "official partition", ".", f"{counts}; each key begins with it")
        )
    if rows and not selected:
        raise make_no_images_error(
            root,
            READER,
            [Finding("warning", "part", part, f"no image has this usage; found: {counts}")],
        )
    if len(selected) < len(rows):
        message = f"images of other usages than '{part}', left out: {len(rows) - len(selected)}"
        other_rows = [row for row in rows if part != row.key.split("/")[0].lower()]
        lost_images, lost_keys = (
            tuple(map(name_picture, other_rows)),
            tuple(row.key for row in other_rows),
        )
        table_findings.append(
            Finding("note", "other usage", ".", message, pictures=lost_images, gone=lost_keys)
        )
    table_findings += report_incomplete_release(len(rows), FER2013_RELEASED_IMAGES, "images")
    return make_listing(
        root,
        selected,
        [*findings, *table_findings],
        spec,
        READER,
        unpack=unpack,
        part=part,
        annotation_rows=read,
        picture_positions=rows_by_table,
    )


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is FER2013: its table, or an image named after its usage.

    A folder that also has the votes of FER+ is FER+.
    """
    if look.find_first(r"(.*/)?fer2013new\.csv"):
        return None
    table = look.find_first(r"(.*/)?(fer2013|icml_face_data)\.csv")
    image = look.find_first(_FER2013_IMAGE_PATTERN.pattern)
    if table:
        return f"{table} has the name of its table"
    return f"{image} is named after its usage" if image else None


def find_columns(table: Path) -> dict[str, int]:
    """Return the columns of emotion, pixels and usage; empty if the table is not FER2013's."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = [
                name.strip().lower() for name in next(csv.reader([file.readline(10_000)]), [])
            ]
    except (OSError, csv.Error):
        return {}
    columns = {
        name: header.index(name) for name in ("emotion", "pixels", "usage") if name in header
    }
    return columns if {"emotion", "pixels"} <= set(columns) else {}


def _refuse_other_forms(root: Path, tables: Sequence[str]) -> None:
    """Raise DataError if a file with the name of the table does not have its columns."""
    for path in tables:
        if PurePosixPath(path).name.lower() not in ("fer2013.csv", "icml_face_data.csv"):
            continue
        with (root / path).open("rb") as file:
            line = file.readline(200).decode("utf-8-sig", errors="replace").strip()
        if line.lower().replace(" ", "").startswith(("emotion;pixels", "emotion\tpixels")):
            mark = "semicolons" if ";" in line else "tabs"
            raise DataError(
                f"{root / path} must have commas between its columns, and has {mark}; save it with "
                "commas"
            )
        raise DataError(
            f"{root / path} must begin with the columns emotion,pixels,Usage, and begins with "
            f"'{line[:80]}'; copy it again"
        )


def read_entries(table: Path) -> Iterator[PixelRow]:
    """Yield the rows of a table one by one; raises DataError if it cannot be read to its end."""
    column_numbers = find_columns(table)
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file)
            next(lines)
            for position, line in enumerate(line for line in lines if line):
                cells = {
                    name: line[column].strip() if column < len(line) else ""
                    for name, column in column_numbers.items()
                }
                yield PixelRow(position, cells["emotion"], cells["pixels"], cells.get("usage", ""))
    except (OSError, csv.Error) as error:
        raise DataError(
            f"{table} must be a CSV file, and cannot be read as one: {error}; copy it again"
        ) from None


def unpack(path: Path, positions: Sequence[int]) -> Iterator[Picture | DataError]:
    """Yield the pictures in the rows with the numbers `positions`, in ascending order."""
    remaining = iter(positions)
    position = next(remaining, None)
    for entry in read_entries(path):
        if entry.position == position:
            yield parse_pixels(entry, path)
            position = next(remaining, None)


def parse_pixels(entry: PixelRow, path: Path) -> Picture | DataError:
    """Return the picture of a row, uint8 [48, 48], or the error that it has."""
    try:
        values = np.array(entry.pixels.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        values = np.empty(0, np.int64)
    if len(values) != PIXELS_PER_SIDE * PIXELS_PER_SIDE or values.min() < 0 or values.max() > 255:
        return DataError(
            f"{path}#{entry.position} must have {PIXELS_PER_SIDE * PIXELS_PER_SIDE} numbers from "
            "0 to "
            "255, and does not"
        )
    return values.astype(np.uint8).reshape(PIXELS_PER_SIDE, PIXELS_PER_SIDE)


def name_row(table: str, position: int) -> str:
    """Return the name of a row in the accounts; `position` counts from 0 below the header."""
    return f"{table}, row {position + 2}"


def report_ignored_images(images: Sequence[str], table: str) -> list[Finding]:
    """Return a note about image files next to a table that holds the pictures, if there are any."""
    message = f"image files next to {table}, which holds the pictures, ignored: {len(images)}"
    return (
        [Finding("note", "beside the table", list_some(images), message, pictures=tuple(images))]
        if images
        else []
    )


def _read_table(root: Path, table: str) -> tuple[list[ImageRow], list[Finding], int]:
    """Return the rows with a label, the findings about the table, and its number of rows."""
    rows: list[ImageRow] = []
    unusable: list[int] = []
    labels_by_picture: dict[bytes, set[str]] = {}
    count = 0

    # Read the rows, and note in which usages each picture occurs.
    for entry in read_entries(root / table):
        count += 1
        if entry.emotion not in READER.labels:
            unusable.append(entry.position)
            continue
        usage = USAGES.get(entry.usage.lower(), "")
        labels_by_picture.setdefault(hashlib.sha256(entry.pixels.encode()).digest(), set()).add(
            usage
        )
        rows.append(
            ImageRow(
                table,
                f"{usage or 'unknown'}/{entry.position:05d}",
                entry.emotion,
                place=entry.position,
            )
        )

    # Report rows without a label, pictures in several usages, and rows without a usage.
    findings = []
    if unusable:
        message = (
            f"rows whose emotion is not a number from 0 to 6, left out: {len(unusable)}; their "
            "numbers, from 0"
        )
        lost_images = tuple(f"{table}#{position}" for position in unusable)
        row_names = tuple(name_row(table, position) for position in unusable)
        numbers = list_some([str(position) for position in unusable])
        findings.append(
            Finding(
                "warning", "unusable row", numbers, message, pictures=lost_images, rows=row_names
            )
        )
    shared = sum(len(usages) > 1 for usages in labels_by_picture.values())
    if shared:
        message = (
            f"pictures with copies, pixel by pixel, in more than one usage: {shared}; they must "
            "not count as unseen in a test"
        )
        findings.append(Finding("warning", "copies across usages", table, message))
    unknown = sum(row.key.startswith("unknown/") for row in rows)
    if unknown:
        findings.append(
            Finding(
                "warning",
                "no usage",
                table,
                f"rows that do not say to which set they belong: {unknown}",
            )
        )
    return rows, findings, count


def _read_folders(images: Sequence[str]) -> tuple[list[ImageRow], list[Finding]]:
    """Return a row for each image file with a usage in its name, and findings about the files."""
    matched, findings = match_paths(
        images,
        _FER2013_IMAGE_PATTERN,
        "{train,test}/CLASS/{Training,PublicTest,PrivateTest}_NNN.jpg",
    )

    # Report images whose folder is that of another set.
    misfiled = [
        image[0]
        for image in matched
        if image[1] and (image[1].lower() == "train") != (image[4].lower() == "training")
    ]
    if misfiled:
        message = (
            "images whose name and folder disagree about the set; the name was used: "
            f"{len(misfiled)}"
        )
        findings.append(Finding("warning", "wrong folder", list_some(misfiled), message))

    # Leave out names that are in more than one class.
    rows = [
        ImageRow(image[0], f"{USAGES[image[4].lower()]}/{int(image[5])}", image[2])
        for image in matched
    ]
    classes: dict[str, set[str]] = {}
    for row in rows:
        classes.setdefault(row.key, set()).add(row.raw_label.lower())
    contradictory = {key for key, labels in classes.items() if len(labels) > 1}
    if contradictory:
        message = f"names that occur in more than one class, left out: {len(contradictory)}"
        lost_images = tuple(row.path for row in rows if row.key in contradictory)
        findings.append(
            Finding(
                "warning",
                "contradiction",
                list_some(sorted(contradictory)),
                message,
                pictures=lost_images,
            )
        )
    return [row for row in rows if row.key not in contradictory], findings


def _mention_other_tables(tables: Sequence[str], table: str) -> str:
    """Return the end of a sentence that names the tables which were not read."""
    other_tables = [path for path in tables if path != table]
    return f", and not from {list_some(other_tables)}" if other_tables else ""
