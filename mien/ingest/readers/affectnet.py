"""AffectNet (Mollahosseini et al. 2019), both forms, without subjects.

As released in 2017:
    Manually_Annotated_file_lists/{training,validation}.csv    subDirectory_filePath, face_x, ...
    Manually_Annotated_Images/689/737db2...363ca.jpg           a photograph with its background;
                                                               the list says where the face is
As released in March 2021 (val_set has the same layout):
    train_set/images/0.jpg                                     a face, already cut out
    train_set/annotations/0_exp.npy                            its expression, a number
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mien.errors import DataError
from mien.findings import Finding
from mien.ingest.emotions import LEFT_OUT
from mien.ingest.folders import IMAGE_SUFFIXES, FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import ImageRow, Losses, make_listing, report_faults
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms
from mien.pictures import Box

READER = Reader(
    dataset="affectnet",
    title="AffectNet",
    needs=(
        "FOLDER with Manually_Annotated_file_lists/training.csv and "
        "Manually_Annotated_Images/689/....jpg (2017), or train_set/images/0.jpg and "
        "train_set/annotations/0_exp.npy (2021)"
    ),
    subjects="nowhere: pictures from the web",
    clips="nowhere: single photographs",
    licence="AffectNet agreement: research only, no redistribution",
    terms=make_request_terms("AffectNet", "given to heads of laboratories only"),
    citation=(
        "Mollahosseini A, Hasani B, Mahoor MH (2019) AffectNet: A Database for Facial Expression, "
        "Valence, and Arousal Computing in the Wild. IEEE Transactions on Affective Computing "
        "10(1): 18-31"
    ),
    obtain="ask for it with the form at mohammadmahoor.com/affectnet",
    labels={
        "0": "neutral",
        "1": "happiness",
        "2": "sadness",
        "3": "surprise",
        "4": "fear",
        "5": "disgust",
        "6": "anger",
        "7": "contempt",
        "8": LEFT_OUT,  # none of these
        "9": LEFT_OUT,  # uncertain
        "10": LEFT_OUT,  # no face
    },
)

LIST_COLUMNS = (
    "subdirectory_filepath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)

AFFECTNET_FAULT_MESSAGES = {
    "row without file": "rows or annotations of images that do not exist: {}",
    "misplaced image": "images not at {{train,val}}_set/images/N.jpg, left out: {}",
    "repeated image": (
        "images with the same folder and name as another, which was read; left out: {}"
    ),
    "file without row": "images that no list names, left out: {}",
    "unusable annotation": "images without a usable annotation NNN_exp.npy, left out: {}",
    "unusable row": "rows whose expression is not a number from 0 to 10, left out: {}",
    "contradiction": (
        "rows that give an image another expression than an earlier one; the images are left out: "
        "{}"
    ),
    "repeated row": "rows that repeat an image with the same expression; the first was read: {}",
    "no face box": "images without the position of the face, read without cropping: {}",
    "other table": "tables that are not read: {}",
}

_CROPPED = re.compile(r"((?:.*/)?(train|val)_set)/images/([0-9]{1,9})\.[a-z]+", re.IGNORECASE)

_LIST = re.compile(r"(?:.*/)?(training|validation)\.csv", re.IGNORECASE)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the images that show one of the eight expressions.

    Keys begin with the official partition. In the form of 2017, faces are cut out of their
    photographs by the boxes of the list. Raises DataError as `make_listing` does, or if a list
    cannot be read.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".csv", ".npy"})
    lists = [path for path in paths if _LIST.fullmatch(path)]
    cropped = [match for match in map(_CROPPED.fullmatch, paths) if match]

    # The two releases have different layouts; cropped images mark that of 2021.
    if cropped:
        rows, used, faults, losses, read = _read_annotations(root, cropped, paths)
        faults["other table"] = [path for path in paths if path.lower().endswith(".csv")]
    else:
        rows, faults, losses, read = _read_lists(root, lists, paths)
        used = lists
        faults["other table"] = [
            path for path in paths if path.lower().endswith(".csv") and path not in lists
        ]

    # Report faults, and how many images each official partition has.
    findings += report_faults(
        faults, AFFECTNET_FAULT_MESSAGES, ["repeated row", "other table"], losses
    )
    if rows:
        counts = Counter(row.key.split("/")[0] for row in rows)
        message = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
        findings.append(
            Finding("note", "official partition", ".", f"{message}; each key begins with it")
        )
    return make_listing(
        root, rows, findings, spec, READER, [root / path for path in used], annotation_rows=read
    )


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is AffectNet: annotations (2021) or lists (2017)."""
    path = look.find_first(r"(.*/)?(train|val)_set/annotations/[0-9]+_exp\.npy") or look.find_first(
        r"(.*/)?Manually_Annotated_file_lists/(training|validation)\.csv"
    )
    return f"{path} has its annotations" if path else None


# As released in March 2021


def _read_annotations(
    root: Path, images: Sequence[re.Match[str]], paths: Sequence[str]
) -> tuple[list[ImageRow], list[str], dict[str, list[str]], Losses, dict[str, str]]:
    """Return rows, their annotations, faults, losses, and the key of each annotation's image."""
    rows: list[ImageRow] = []
    faults: dict[str, list[str]] = {}
    losses = Losses()
    annotations = {path for path in paths if path.lower().endswith("_exp.npy")}
    read = dict.fromkeys(sorted(annotations), "")
    used: list[str] = []

    # Join each image with its annotation.
    for image in images:
        path = f"{image[1]}/annotations/{image[3]}_exp.npy"
        code = _read_expression(root / path) if path in read else ""
        annotations.discard(path)
        if code not in READER.labels:
            faults.setdefault("unusable annotation", []).append(image[0])
            losses.add("unusable annotation", [image[0]], [path] if path in read else [])
            continue
        used.append(path)
        rows.append(ImageRow(image[0], f"{image[2].lower()}/{int(image[3])}", code))
        read[path] = rows[-1].key

    # Report annotations and images that belong to no pair.
    faults["row without file"] = sorted(annotations)
    losses.add("row without file", rows=sorted(annotations))
    stray = sorted(set(_select_images(paths)) - {image[0] for image in images})
    faults["misplaced image"] = stray
    losses.add("misplaced image", stray)
    return rows, used, faults, losses, read


def _read_expression(path: Path) -> str:
    """Return the number in a file, which some copies store as text; empty if there is none."""
    try:
        content = np.load(path, allow_pickle=False)
        return str(int(content.item()))
    except Exception:  # a damaged file fails in many ways
        return ""


# As released in 2017


def _select_images(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not path.lower().endswith((".csv", ".npy"))]


def _read_lists(
    root: Path, lists: Sequence[str], paths: Sequence[str]
) -> tuple[list[ImageRow], dict[str, list[str]], Losses, dict[str, str]]:
    """Return the rows of listed images, faults, losses, and the image key of each row read."""
    images: dict[str, str] = {}
    faults: dict[str, list[str]] = {}
    losses = Losses()

    def add_fault(kind: str, name: str, row: str) -> None:
        faults.setdefault(kind, []).append(name)
        losses.add(kind, rows=[row])

    # Find the images by the name that the lists use for them.
    for path in _select_images(paths):
        if images.setdefault(_shorten_path(path), path) != path:
            faults.setdefault("repeated image", []).append(path)
            losses.add("repeated image", [path])

    # Take the first row of each image; later rows must agree with it.
    rows: dict[str, ImageRow] = {}
    read: dict[str, str] = {}
    refused: dict[str, str] = {}  # images of rows that cannot be used
    contradictory: dict[str, list[str]] = {}
    first_rows: dict[str, str] = {}
    for table in lists:
        partition = Path(table).stem.lower()
        for number, (name, code, box) in _read_rows(root / table):
            row = f"{table}, row {number}"
            path = images.get(_shorten_path(name))
            read[row] = f"{partition}/{name}"
            if path is None:
                add_fault("row without file", name, row)
            elif code not in READER.labels:
                add_fault("unusable row", name, row)
                refused[path] = "unusable row"
            elif path in rows:
                is_equal = rows[path].raw_label == code
                add_fault("repeated row" if is_equal else "contradiction", path, row)
                if not is_equal:
                    contradictory.setdefault(path, []).append(row)
            else:
                rows[path] = ImageRow(path, f"{partition}/{name}", code, box=box)
                first_rows[path] = row
                if box is None and READER.labels[code] != LEFT_OUT:
                    faults.setdefault("no face box", []).append(name)

    # Report the images that are left out.
    losses.add("contradiction", contradictory, [first_rows[path] for path in contradictory])
    losses.add("unusable row", [path for path in refused if path not in rows])
    faults["file without row"] = sorted(set(images.values()) - set(rows) - set(refused))
    losses.add("file without row", faults["file without row"])
    return [row for path, row in rows.items() if path not in contradictory], faults, losses, read


def _shorten_path(path: str) -> str:
    """Return the last folder and the file name, by which the lists identify an image."""
    return "/".join(path.lower().replace("\\", "/").split("/")[-2:])


def _read_rows(table: Path) -> Iterator[tuple[int, tuple[str, str, Box | None]]]:
    """Yield the number of each row, from 1, with its image, code and face box.

    A list without a header has the columns of the others.
    """
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = (
                (number, line) for number, line in enumerate(csv.reader(file), start=1) if any(line)
            )

            # The first line is the header, or already a row.
            first, header = next(lines, (1, []))
            names = [name.strip().lower() for name in header]
            headerless = (
                LIST_COLUMNS[0] not in names
                and len(header) == len(LIST_COLUMNS)
                and "/" in header[0]
            )
            if headerless:
                yield first, _parse_row(dict(zip(LIST_COLUMNS, header, strict=True)))

            # Stop if a needed column is missing.
            missing = (
                []
                if headerless
                else [name for name in ("expression", LIST_COLUMNS[0]) if name not in names]
            )
            if missing:
                raise DataError(
                    f"{table} must have the columns {', '.join(LIST_COLUMNS)}, and lacks "
                    f"{', '.join(missing)}"
                )

            # Read the other rows.
            for number, line in lines:
                yield (
                    number,
                    _parse_row(
                        dict(zip(LIST_COLUMNS if headerless else names, line, strict=False))
                    ),
                )
    except (OSError, csv.Error) as error:
        raise DataError(
            f"{table} must be a CSV file, and cannot be read as one: {error}; copy it again"
        ) from None


def _parse_row(cells: dict[str, str]) -> tuple[str, str, Box | None]:
    numbers = [cells.get(name, "").strip() for name in LIST_COLUMNS[1:5]]
    box: Box | None = None
    if all(re.fullmatch(r"-?[0-9]{1,6}(\.[0-9]+)?", number) for number in numbers):
        left, top, width, height = (int(float(number)) for number in numbers)
        box = (left, top, width, height) if width > 0 and height > 0 else None
    return cells.get(LIST_COLUMNS[0], "").strip(), cells.get("expression", "").strip(), box
