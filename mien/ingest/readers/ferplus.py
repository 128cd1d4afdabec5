"""FER+ (Barsoum et al. 2016): ten people's votes on each face of FER2013.

    fer2013new.csv                 Usage,Image name,neutral,happiness,...,contempt,unknown,NF: the
                                   number of votes for each
    fer2013.csv                    the pictures: the same rows in the same order; only the order
                                   joins the two tables
    FER2013Train/fer0000000.png    or the pictures as files, by image name; FER2013Valid and
                                   FER2013Test have the others

The label is the majority's, by the rule of the paper's own code: single votes count as errors and
are dropped, and one class must have more than half of the remaining votes.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mien.errors import DataError
from mien.findings import Finding
from mien.ingest.emotions import LEFT_OUT
from mien.ingest.folders import IMAGE_SUFFIXES, FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers import fer2013
from mien.ingest.readers.rows import (
    ImageRow,
    Losses,
    make_listing,
    make_no_images_error,
    match_paths,
    report_faults,
)
from mien.ingest.specs import IngestSpec
from mien.licences import Terms
from mien.runs.progress import quantify

CLASSES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "nf",
)

NO_MAJORITY = "no majority"

READER = Reader(
    dataset="ferplus",
    title="FER+",
    needs=(
        "FOLDER with fer2013new.csv, and next to it fer2013.csv or "
        "FER2013{Train,Valid,Test}/fer0000000.png"
    ),
    subjects="nowhere: pictures from web searches",
    clips="nowhere: single photographs",
    licence="labels MIT; pictures unknown: from web searches, of which nobody cleared the rights",
    terms=Terms(
        "FER+", source="gathered from the web; no licence of the pictures' owners is known"
    ),
    other_names=("fer+",),
    citation=(
        "Barsoum E, Zhang C, Canton Ferrer C, Zhang Z (2016) Training Deep Networks for Facial "
        "Expression Recognition with Crowd-Sourced Label Distribution. ICMI 2016, 279-283"
    ),
    obtain="take the labels from github.com/microsoft/FERPlus and the pictures as for fer2013",
    labels={
        **{name: name for name in CLASSES[:8]},
        "unknown": LEFT_OUT,
        "nf": LEFT_OUT,  # not a face
        NO_MAJORITY: LEFT_OUT,
    },
)

FERPLUS_FAULT_MESSAGES = {
    "file without row": "pictures without votes, left out: {}",
    "contradiction": "pictures whose name is in several rows that disagree, left out: {}",
    "row without file": "rows with votes on pictures that do not exist: {}",
}

MIN_ROWS_TO_TEST_AGREEMENT = 100  # rows that the two tables need before their agreement is tested

# The share of rows in which FER2013's label is FER+'s first must reach this: it is 0.63 when the
# tables are aligned, and 0.18 when they are shifted by one row.
MIN_AGREEMENT = 0.4

_FERPLUS_IMAGE_PATTERN = re.compile(
    r"(?:.*/)?FER2013(Train|Valid|Test)/(fer[0-9]{7})\.[a-z]+", re.IGNORECASE
)

_USAGE_OF_FOLDER = {"train": "Training", "valid": "PublicTest", "test": "PrivateTest"}


class Vote(NamedTuple):
    """One row of FER+; `name` is empty where its authors dropped the picture."""

    usage: str
    name: str
    counts: tuple[int, ...]
    row: str  # its name in the accounts


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the pictures whose majority is an emotion; keys begin with the official usage.

    Pictures whose majority is "unknown" or "not a face", pictures without a majority, and rows
    without an image name are left out and counted. Raises DataError as `make_listing` does, if a
    table is damaged, or if the rows of the two tables do not belong together.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".csv"})
    tables = [path for path in paths if path.lower().endswith(".csv")]
    votes = next(
        (path for path in tables if path.lower().rsplit("/", 1)[-1] == "fer2013new.csv"), None
    )
    if votes is None:
        raise make_no_images_error(root, READER)

    # Read the votes, and find the pictures: a table, or files.
    cast = _read_votes(root / votes)
    pictures = next((path for path in tables if fer2013.find_columns(root / path)), None)
    images = [path for path in paths if not path.lower().endswith(".csv")]
    nameless = _report_nameless_rows(cast, votes, pictures)

    # Join votes and pictures: by position with a table, by name with files.
    if pictures is not None:
        rows, more_findings = _join_by_position(root, cast, votes, pictures)
        more_findings += fer2013.report_ignored_images(images, pictures)
        rows_by_table = {pictures: range(len(cast))}
        read = {vote.row: "" for vote in cast} | {cast[row.place].row: row.key for row in rows}
    else:
        rows, more_findings, read = _join_by_name(cast, votes, images)
        rows_by_table = {}
    findings += [*more_findings, *nameless]
    return make_listing(
        root,
        rows,
        findings,
        spec,
        READER,
        [root / votes],
        fer2013.unpack,
        annotation_rows=read,
        picture_positions=rows_by_table,
    )


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is FER+: its table of votes."""
    table = look.find_first(r"(.*/)?fer2013new\.csv")
    return f"{table} has the name of its table" if table else None


def find_majority(counts: Sequence[int]) -> str:
    """Return the class with more than half of the votes, without single ones, or UNDECIDED.

    `counts` are the votes for each of CLASSES, in their order. The rule is mode "majority" of the
    code of Barsoum et al. (2016).
    """
    repeated = [count if count > 1 else 0 for count in counts]
    largest = max(repeated, default=0)
    return CLASSES[repeated.index(largest)] if largest > sum(repeated) / 2 else NO_MAJORITY


def _read_votes(table: Path) -> list[Vote]:
    """Return the rows of the table of votes; raises DataError if it is damaged."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(line)]
    except (OSError, csv.Error) as error:
        raise DataError(
            f"{table} must be a CSV file, and cannot be read as one: {error}; copy it again"
        ) from None
    header = [name.lower() for name in lines[0]] if lines else []
    needed = ("usage", "image name", *CLASSES)
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(
            f"{table} must have the columns {', '.join(needed)}; {', '.join(missing)} are missing"
        )
    columns = [header.index(name) for name in needed]
    return [
        _parse_vote(line, columns, number, table) for number, line in enumerate(lines[1:], start=2)
    ]


def _report_nameless_rows(cast: list[Vote], votes: str, pictures: str | None) -> list[Finding]:
    """Return a note about rows whose pictures the authors of FER+ dropped, if there are any."""
    positions = [position for position, vote in enumerate(cast) if not vote.name]
    message = (
        "rows without an image name, whose pictures the authors dropped; left out: "
        f"{len(positions)}"
    )
    lost_images = tuple(f"{pictures}#{position}" for position in positions) if pictures else ()
    rows = tuple(cast[position].row for position in positions)
    return (
        [Finding("note", "dropped row", votes, message, pictures=lost_images, rows=rows)]
        if positions
        else []
    )


def _parse_vote(line: list[str], columns: list[int], number: int, table: Path) -> Vote:
    usage, name, *counts = (line[column] if column < len(line) else "" for column in columns)
    if not all(re.fullmatch(r"[0-9]{1,3}(\.0+)?", count) for count in counts):
        raise DataError(
            f"{table}, row {number}: votes must be whole numbers, and are {', '.join(counts)}"
        )
    return Vote(
        usage, name, tuple(int(float(count)) for count in counts), f"{table.name}, row {number}"
    )


def _join_by_position(
    root: Path, cast: list[Vote], votes: str, pictures: str
) -> tuple[list[ImageRow], list[Finding]]:
    """Return a row for each named vote; its picture has the same row number in FER2013's table."""
    entries = [(entry.emotion, entry.usage) for entry in fer2013.read_entries(root / pictures)]
    _check_alignment(cast, entries, root / votes, root / pictures)

    # Rows without a name are pictures that the authors dropped.
    rows = [
        ImageRow(
            pictures,
            f"{vote.usage}/{Path(vote.name).stem}#{position}",
            find_majority(vote.counts),
            place=position,
        )
        for position, vote in enumerate(cast)
        if vote.name
    ]
    return rows, [
        Finding(
            "note",
            "joined by position",
            pictures,
            f"row by row with {votes}: {quantify(len(cast), 'row')}",
        )
    ]


def _check_alignment(
    cast: list[Vote], entries: list[tuple[str, str]], votes: Path, pictures: Path
) -> None:
    """Raise DataError if the rows of the two tables do not belong together."""
    remedy = "use both files as they were released, with all rows in their order"

    # Both tables must have the same rows, with the same usage in each.
    if len(cast) != len(entries):
        raise DataError(
            f"{votes} has {quantify(len(cast), 'row')} and {pictures} {len(entries)}, and must "
            f"have as many: {remedy}"
        )
    for position, (vote, (_, usage)) in enumerate(zip(cast, entries, strict=True)):
        if usage and vote.usage.lower() != usage.lower():
            raise DataError(
                f"{votes} and {pictures} must say the same usage in each row, and in row "
                f"{position + 2} say '{vote.usage}' and '{usage}': {remedy}"
            )

    # The labels must agree more often than those of shifted rows would.
    labels = [fer2013.READER.labels.get(emotion) for emotion, _ in entries]
    alike = sum(
        find_first_choice(vote.counts) == label for vote, label in zip(cast, labels, strict=True)
    )
    if len(cast) >= MIN_ROWS_TO_TEST_AGREEMENT and alike < MIN_AGREEMENT * len(cast):
        raise DataError(
            f"{votes} and {pictures} must be about the same pictures row by row, and agree in "
            f"{alike} of {len(cast)} labels only: {remedy}"
        )


def find_first_choice(counts: Sequence[int]) -> str:
    """Return the class with the most votes, the first of CLASSES if several have."""
    return CLASSES[max(range(len(counts)), key=lambda number: counts[number])]


def _join_by_name(
    cast: list[Vote], votes: str, images: Sequence[str]
) -> tuple[list[ImageRow], list[Finding], dict[str, str]]:
    """Return a row for each picture with votes, findings, and the image key of each table row."""
    matched, findings = match_paths(
        images, _FERPLUS_IMAGE_PATTERN, "FER2013{Train,Valid,Test}/fer0000000.png"
    )

    # Group the votes by the key of their picture.
    votes_of_key: dict[str, list[Vote]] = {}
    for vote in cast:
        usage = next(
            (usage for usage in _USAGE_OF_FOLDER.values() if usage.lower() == vote.usage.lower()),
            vote.usage,
        )
        votes_of_key.setdefault(f"{usage}/{Path(vote.name).stem.lower()}", []).append(vote)

    # Give each picture its majority; votes on one picture must agree.
    rows: list[ImageRow] = []
    faults: dict[str, list[str]] = {}
    losses = Losses()
    for image in matched:
        key = f"{_USAGE_OF_FOLDER[image[1].lower()]}/{image[2].lower()}"
        image_votes = votes_of_key.get(key, [])
        labels = {find_majority(vote.counts) for vote in image_votes}
        if len(labels) == 1:
            rows.append(ImageRow(image[0], key, labels.pop()))
        else:
            kind = "contradiction" if labels else "file without row"
            faults.setdefault(kind, []).append(image[0])
            losses.add(kind, [image[0]], [vote.row for vote in image_votes])

    # Report votes on pictures that do not exist.
    absent = {
        key: image_votes for key, image_votes in votes_of_key.items() if not key.endswith("/")
    }
    for image in matched:
        absent.pop(f"{_USAGE_OF_FOLDER[image[1].lower()]}/{image[2].lower()}", None)
    if absent:
        faults["row without file"] = [
            vote.row for image_votes in absent.values() for vote in image_votes
        ]
        losses.add("row without file", rows=faults["row without file"])
    read = {vote.row: key for key, image_votes in votes_of_key.items() for vote in image_votes}
    return (
        rows,
        [*findings, *report_faults(faults, FERPLUS_FAULT_MESSAGES, losses=losses)],
        {vote.row: read[vote.row] for vote in cast},
    )
