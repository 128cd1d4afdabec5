"""FER2013 (Goodfellow et al. 2013): 35,887 faces from web searches, 48x48 grey, seven classes,
nobody known.

    fer2013.csv                                 emotion,pixels,Usage: 0..6, 2,304 numbers, Training ...
    train/angry/Training_3908.jpg               as mirrors write it; the name says the usage, whatever the folder

The copy of Kaggle's icml_face_data.csv has blanks in its header.
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
from mien.ingest import IMAGE_SUFFIXES, Finding, IngestSpec, Listing, Look, Reader, some, walk
from mien.ingest.rows import Row, empty, listing, matches, picture_name, whole
from mien.preprocess import Picture

READER = Reader(
    dataset="fer2013",
    title="FER2013",
    needs="FOLDER with fer2013.csv (emotion,pixels,Usage), or {train,test}/angry/Training_NNN.jpg",
    subjects="nowhere: pictures from web searches",
    clips="nowhere: single photographs",
    licence="unknown: pictures from web searches, of which nobody cleared the rights",
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

IMAGES, SIDE = 35_887, 48
USAGES = {"training": "Training", "publictest": "PublicTest", "privatetest": "PrivateTest"}
_CLASSES = "|".join(label for label in READER.labels if label.isalpha())
_IMAGE = re.compile(
    rf"(?:(?:.*/)?(train|test|val|valid|validation)/|(?:.*/)?)({_CLASSES})/((Training|PublicTest|PrivateTest)_([0-9]+))\.[a-z]+",
    re.IGNORECASE,
)


class Entry(NamedTuple):
    """One row of the table; `place` counts its rows from 0."""

    place: int
    emotion: str
    pixels: str
    usage: str


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the images of the table if there is one, else those of the folders; keys begin with
    the official usage.

    Raises DataError as `listing` does, or if the table cannot be read.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".csv"})
    tables = [path for path in paths if path.lower().endswith(".csv") and columns(root / path)]
    part = spec.part or "all"
    images = [path for path in paths if not path.lower().endswith(".csv")]
    held: dict[str, Sequence[int]] = {}
    read: dict[str, str] = {}
    _refuse_other_forms(
        root, [path for path in paths if path.lower().endswith(".csv") and path not in tables]
    )
    if tables:
        table = min(tables, key=lambda path: ("fer2013" not in path.lower(), path.count("/"), path))
        rows, told, count = _from_table(root, table)
        held[table] = range(count)
        told.append(
            Finding("note", "table", table, f"images were read from it{_others(tables, table)}")
        )
        told += beside(images, table)
        read = {row_name(table, place): "" for place in held[table]}
        read |= {row_name(table, row.place): row.key for row in rows}
    else:
        rows, told = _from_folders(images)
    found = Counter(row.key.split("/")[0] for row in rows)
    kept = [row for row in rows if part in ("all", row.key.split("/")[0].lower())]
    counts = ", ".join(f"{usage or 'none'} {count:,}" for usage, count in sorted(found.items()))
    if rows:
        told.append(
            Finding("note", "official partition", ".", f"{counts}; it stands in front of each key")
        )
    if rows and not kept:
        raise empty(
            root,
            READER,
            [Finding("warning", "part", part, f"no image has this usage; found: {counts}")],
        )
    if len(kept) < len(rows):
        what = f"images of other usages than '{part}', left out: {len(rows) - len(kept)}"
        others = [row for row in rows if part != row.key.split("/")[0].lower()]
        lost, gone = tuple(map(picture_name, others)), tuple(row.key for row in others)
        told.append(Finding("note", "other usage", ".", what, pictures=lost, gone=gone))
    told += whole(len(rows), IMAGES, "images")
    return listing(
        root, kept, [*findings, *told], spec, READER, unpack=unpack, part=part, read=read, held=held
    )


def recognise(look: Look) -> str | None:
    """Say by what the folder is FER2013: a table of pixels, or images named after their usage; FER+
    has one more.
    """
    if look.first(r"(.*/)?fer2013new\.csv"):
        return None
    table = look.first(r"(.*/)?(fer2013|icml_face_data)\.csv")
    image = look.first(_IMAGE.pattern)
    if table:
        return f"{table} has its name"
    return f"{image} is named after its usage" if image else None


def columns(table: Path) -> dict[str, int]:
    """Return where emotion, pixels and usage stand in a table; empty if it is none of FER2013's."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            head = [name.strip().lower() for name in next(csv.reader([file.readline(10_000)]), [])]
    except (OSError, csv.Error):
        return {}
    places = {name: head.index(name) for name in ("emotion", "pixels", "usage") if name in head}
    return places if {"emotion", "pixels"} <= set(places) else {}


def _refuse_other_forms(root: Path, others: Sequence[str]) -> None:
    """Raise DataError if a file that is called as the table is has not its columns, and say what it
    has.
    """
    for path in others:
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


def entries(table: Path) -> Iterator[Entry]:
    """Yield the rows of a table, one at a time; raises DataError if it cannot be read to its
    end.
    """
    places = columns(table)
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file)
            next(lines)
            for place, line in enumerate(line for line in lines if line):
                cells = {
                    name: line[at].strip() if at < len(line) else "" for name, at in places.items()
                }
                yield Entry(place, cells["emotion"], cells["pixels"], cells.get("usage", ""))
    except (OSError, csv.Error) as error:
        raise DataError(
            f"{table} must be a table in CSV, and is not: {error}; copy it again"
        ) from None


def unpack(path: Path, places: Sequence[int]) -> Iterator[Picture | DataError]:
    """Yield the pictures in the rows at `places`, which rise."""
    wanted = iter(places)
    place = next(wanted, None)
    for entry in entries(path):
        if entry.place == place:
            yield pixels(entry, path)
            place = next(wanted, None)


def pixels(entry: Entry, path: Path) -> Picture | DataError:
    """Return the picture of a row, uint8 [48, 48], or what is wrong with it."""
    try:
        values = np.array(entry.pixels.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        values = np.empty(0, np.int64)
    if len(values) != SIDE * SIDE or values.min() < 0 or values.max() > 255:
        return DataError(
            f"{path}#{entry.place} must have {SIDE * SIDE} numbers from 0 to 255, and has not"
        )
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def row_name(table: str, place: int) -> str:
    """Return what a row of a table is called in the accounts; `place` counts from 0 below the
    header.
    """
    return f"{table}, row {place + 2}"


def beside(images: Sequence[str], table: str) -> list[Finding]:
    """Return what is said of picture files beside a table that has the pictures."""
    what = f"picture files beside {table}, which has the pictures, passed over: {len(images)}"
    return (
        [Finding("note", "beside the table", some(images), what, pictures=tuple(images))]
        if images
        else []
    )


def _from_table(root: Path, table: str) -> tuple[list[Row], list[Finding], int]:
    """Return the rows with a label, what is to be said of the table, and how many rows it has."""
    rows: list[Row] = []
    unusable: list[int] = []
    seen: dict[bytes, set[str]] = {}
    count = 0
    for entry in entries(root / table):
        count += 1
        if entry.emotion not in READER.labels:
            unusable.append(entry.place)
            continue
        usage = USAGES.get(entry.usage.lower(), "")
        seen.setdefault(hashlib.sha256(entry.pixels.encode()).digest(), set()).add(usage)
        rows.append(
            Row(table, f"{usage or 'unknown'}/{entry.place:05d}", entry.emotion, place=entry.place)
        )
    findings = []
    if unusable:
        what = (
            f"rows whose emotion is no number from 0 to 6, left out: {len(unusable)}; counted from "
            "0 they are these"
        )
        lost = tuple(f"{table}#{place}" for place in unusable)
        named = tuple(row_name(table, place) for place in unusable)
        where = some([str(place) for place in unusable])
        findings.append(Finding("warning", "unusable row", where, what, pictures=lost, rows=named))
    shared = sum(len(usages) > 1 for usages in seen.values())
    if shared:
        what = (
            f"pictures that stand, pixel by pixel, in more than one usage: {shared}; a test on "
            "them is no test"
        )
        findings.append(Finding("warning", "copies across usages", table, what))
    unknown = sum(row.key.startswith("unknown/") for row in rows)
    if unknown:
        findings.append(
            Finding(
                "warning",
                "no usage",
                table,
                f"rows that do not say which set they are of: {unknown}",
            )
        )
    return rows, findings, count


def _from_folders(images: Sequence[str]) -> tuple[list[Row], list[Finding]]:
    found, findings = matches(
        images, _IMAGE, "{train,test}/CLASS/{Training,PublicTest,PrivateTest}_NNN.jpg"
    )
    torn = [
        image[0]
        for image in found
        if image[1] and (image[1].lower() == "train") != (image[4].lower() == "training")
    ]
    if torn:
        what = (
            "images whose name says another set than their folder; the name was believed: "
            f"{len(torn)}"
        )
        findings.append(Finding("warning", "wrong folder", some(torn), what))
    rows = [
        Row(image[0], f"{USAGES[image[4].lower()]}/{int(image[5])}", image[2]) for image in found
    ]
    classes: dict[str, set[str]] = {}
    for row in rows:
        classes.setdefault(row.key, set()).add(row.raw_label.lower())
    twice = {key for key, labels in classes.items() if len(labels) > 1}
    if twice:
        what = f"names that stand in more than one class, left out: {len(twice)}"
        lost = tuple(row.path for row in rows if row.key in twice)
        findings.append(
            Finding("warning", "contradiction", some(sorted(twice)), what, pictures=lost)
        )
    return [row for row in rows if row.key not in twice], findings


def _others(tables: Sequence[str], table: str) -> str:
    others = [path for path in tables if path != table]
    return f", and not from {some(others)}" if others else ""
