"""RAF-DB, basic emotions (Li et al. 2017): 15,339 faces from the web.

basic/EmoLabel/list_patition_label.txt         train_00001.jpg 5 (the misspelling is official)
basic/Image/aligned/train_00001_aligned.jpg    100x100, eyes aligned
basic/Image/original/train_00001.jpg           as found on the web
DATASET/train/5/train_00001_aligned.jpg        the form of mirrors: labels are the folders' names

About forty people labelled each face.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mien.findings import Finding
from mien.ingest.folders import IMAGE_SUFFIXES, FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import (
    ImageRow,
    Losses,
    make_listing,
    match_paths,
    read_annotation,
    report_faults,
    report_incomplete_release,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="rafdb",
    title="RAF-DB, basic",
    needs="FOLDER with EmoLabel/list_patition_label.txt and Image/aligned/train_00001_aligned.jpg",
    subjects="nowhere: pictures from the web",
    clips="nowhere: single photographs",
    licence=(
        "RAF-DB terms: non-commercial research, no redistribution; its sibling forbids the use of "
        "derived data"
    ),
    terms=make_request_terms(
        "RAF-DB", "whdeng.cn: no redistribution of images or of derived data", derived="no"
    ),
    other_names=("raf",),
    citation=(
        "Li S, Deng W, Du J (2017) Reliable Crowdsourcing and Deep Locality-Preserving Learning "
        "for Expression Recognition in the Wild. CVPR 2017, 2852-2861"
    ),
    obtain="ask for it with the form at whdeng.cn/RAF/model1.html",
    labels={
        "1": "surprise",
        "2": "fear",
        "3": "disgust",
        "4": "happiness",
        "5": "sadness",
        "6": "anger",
        "7": "neutral",
    },
    parts={
        "aligned": "faces cut out and aligned by the owners",
        "original": "pictures as found on the web",
    },
)

RAFDB_RELEASED_IMAGES = 15_339

RAFDB_FAULT_MESSAGES = {
    "file without row": "images without a label, left out: {}",
    "row without file": "rows of the list without an image: {}",
    "wrong folder": (
        "images whose folder and list entry disagree about the class; the list was used: {}"
    ),
    "unusable row": (
        "lines of the list that are not a name and a number from 1 to 7, left out: {}; by their "
        "numbers"
    ),
    "repeated row": "lines of the list that repeat an earlier one, by their numbers: {}",
    "contradiction": "names with more than one label in the list, left out: {}",
}

_RAFDB_IMAGE_PATTERN = re.compile(
    r"(.*/)?((train|test)_([0-9]{1,6}))(_aligned)?\.[a-z]+", re.IGNORECASE
)

_LIST_PATTERN = re.compile(r"(.*/)?list_par?tition_label\.txt", re.IGNORECASE)

# of mirrors: image,label
_TABLE_PATTERN = re.compile(r"(.*/)?(train|test)_labels\.csv", re.IGNORECASE)

_LINE_PATTERN = re.compile(
    r"((train|test)_[0-9]{1,6})(?:_aligned)?\.[a-z]+[\s,]+([0-9]{1,3})", re.IGNORECASE
)

_FOLDER_PATTERN = re.compile(r"(?:.*/)?([1-7])/[^/]+")


class ListLine(NamedTuple):
    """One line of the list."""

    row: str  # its name in the accounts
    name: str  # the image's, without a suffix; empty if the line is unusable
    code: str  # a label, 1 to 7; empty if the line is unusable


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the images of one part, by default the aligned ones.

    Keys begin with the official partition. Labels come from the list, or without one from the
    folders called 1 to 7. Raises DataError as `make_listing` does.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".txt", ".csv"})
    lists = [path for path in paths if _LIST_PATTERN.fullmatch(path)][:1] or [
        path for path in paths if _TABLE_PATTERN.fullmatch(path)
    ]
    images = [path for path in paths if not path.lower().endswith((".txt", ".csv"))]

    # Select the part: the one asked for, or the first that exists.
    matched, stray_findings = match_paths(
        images, _RAFDB_IMAGE_PATTERN, "{train,test}_NNNNN[_aligned].jpg"
    )
    available = [
        part for part in READER.parts if any(_name_part(image) == part for image in matched)
    ]
    part = spec.part or (available or list(READER.parts))[0]
    if spec.part is None and len(available) > 1:
        findings.append(
            Finding("note", "part", part, f"was read, and not {', '.join(available[1:])}")
        )
    if part == "original":
        findings.append(
            Finding("warning", "not cropped", ".", "pictures are whole, not cropped to faces")
        )

    # Label the images of that part, by the list if there is one.
    faults: dict[str, list[str]] = {}
    losses = Losses()
    lines = (
        [line for table in lists for line in _read_lines(root, table, faults, losses)]
        if lists
        else None
    )
    rows = _label_images(
        [image for image in matched if _name_part(image) == part], lines, faults, losses
    )

    # Report what was left out, and how many images each official partition has.
    other_images = tuple(image[0] for image in matched if _name_part(image) != part)
    findings += [
        *_report_partitions(part, other_images, [row.key for row in rows], bool(lists)),
        *stray_findings,
        *report_faults(faults, RAFDB_FAULT_MESSAGES, ["repeated row"], losses),
        *report_incomplete_release(len(rows), RAFDB_RELEASED_IMAGES, "images"),
    ]

    # Account for every line of the list.
    read = {line.row: _make_key(line.name) for line in lines or ()}
    return make_listing(
        root,
        rows,
        findings,
        spec,
        READER,
        [root / path for path in lists],
        part=part,
        annotation_rows=read,
    )


def _report_partitions(
    part: str, other_images: tuple[str, ...], keys: Sequence[str], has_list: bool
) -> Iterator[Finding]:
    """Yield what there is to say of the other part, the official partitions, and the labels."""
    if other_images:
        message = f"images of the part that was not read, left out: {len(other_images)}"
        yield Finding("note", "other part", part, message, pictures=other_images)
    if keys:
        counts = Counter(key.split("/")[0] for key in keys)
        message = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
        yield Finding("note", "official partition", ".", f"{message}; each key begins with it")
    if not has_list:
        message = "without a list, the labels are the folders' names"
        yield Finding("note", "labels of folders", ".", message)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is RAF-DB: its list, or an image in a folder 1 to 7."""
    table = look.find_first(_LIST_PATTERN.pattern)
    if table:
        return f"{table} is its list of labels"
    image = look.find_first(r"(.*/)?(train|test)/[1-7]/(train|test)_[0-9]{5}(_aligned)?\.[a-z]+")
    return f"{image} has the name of one of its images" if image else None


def _name_part(image: re.Match[str]) -> str:
    return "aligned" if image[5] else "original"


def _make_key(name: str) -> str:
    return name.replace("_", "/", 1)


def _label_images(
    images: list[re.Match[str]],
    lines: list[ListLine] | None,
    faults: dict[str, list[str]],
    losses: Losses,
) -> list[ImageRow]:
    """Return the images that have a label: from the list if there is one, else from the folder."""
    # Collect the labels of each name; a name needs exactly one.
    usable = [line for line in lines or () if line.name]
    labels: dict[str, set[str]] = {}
    for line in usable:
        labels.setdefault(line.name, set()).add(line.code)
    contradictory = {name for name, codes in labels.items() if len(codes) > 1}

    # Label each image; the list is believed where the folder contradicts it.
    rows: list[ImageRow] = []
    for image in images:
        folder = _FOLDER_PATTERN.fullmatch(image[0])
        folder_code = folder[1] if folder else None
        name = image[2].lower()
        codes = {folder_code or ""} - {""} if lines is None else labels.get(name, set())
        if len(codes) != 1:
            kind = "contradiction" if codes else "file without row"
            if not codes:
                faults.setdefault(kind, []).append(image[0])
            losses.add(kind, [image[0]])
            continue
        (code,) = codes
        if folder_code is not None and folder_code != code:
            faults.setdefault("wrong folder", []).append(image[0])
        rows.append(ImageRow(image[0], _make_key(name), code))

    # Report names with several labels, and lines without an image.
    faults["contradiction"] = sorted(contradictory)
    losses.add("contradiction", rows=[line.row for line in usable if line.name in contradictory])
    names = {image[2].lower() for image in images}
    faults["row without file"] = sorted(set(labels) - names)
    losses.add("row without file", rows=[line.row for line in usable if line.name not in names])
    return rows


def _read_lines(
    root: Path, table: str, faults: dict[str, list[str]], losses: Losses
) -> list[ListLine]:
    """Return the lines of the list, and record their faults; unusable lines have no code."""
    lines: list[ListLine] = []
    earlier_lines: set[tuple[str, str]] = set()
    for number, content in enumerate(read_annotation(root / table).splitlines(), start=1):
        if not content.strip() or (number == 1 and content.strip().lower() == "image,label"):
            continue
        row = f"{table}, row {number}"
        match = _LINE_PATTERN.fullmatch(content.strip())
        if match is None or match[3] not in READER.labels:
            faults.setdefault("unusable row", []).append(str(number))
            losses.add("unusable row", rows=[row])
            lines.append(ListLine(row, "", ""))
            continue
        entry = (match[1].lower(), match[3])
        if entry in earlier_lines:
            faults.setdefault("repeated row", []).append(str(number))
            losses.add("repeated row", rows=[row])
        earlier_lines.add(entry)
        lines.append(ListLine(row, *entry))
    return lines
