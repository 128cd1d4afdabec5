"""Local datasets of Hugging Face, read without its library.

    data/train-00000-of-00001.parquet       a column of pictures; the schema names the features
    train/data-00000-of-00001.arrow         the output of Dataset.save_to_disk
    train/metadata.{csv,jsonl,parquet}      an image folder: file_name, and columns
    train/CLASS/picture.png                 an image folder: the folders' names are the classes

Pictures in a table are decoded from its bytes, a few at a time, and are never written to the disk.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mien import pictures
from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.folders import (
    IMAGE_SUFFIXES,
    FolderGlance,
    find_last_number,
    read_table_text,
    walk,
)
from mien.ingest.reader import TABLE_SUFFIXES, WHOLE_FILE, Listing, Reader, Unpack
from mien.ingest.readers.rows import (
    ImageRow,
    Losses,
    make_listing,
    make_no_images_error,
    name_picture,
    report_faults,
)
from mien.ingest.specs import IngestSpec
from mien.pictures import Picture
from mien.runs.spec import suggest

READER = Reader(
    dataset="",
    title="a dataset of Hugging Face",
    needs=(
        "FOLDER with *.parquet or *.arrow that hold pictures, or an image folder with "
        "metadata.{csv,jsonl,parquet}"
    ),
    subjects="a column `subject`, or --subject-column",
    clips="a column `clip`, or --clip-column",
    licence="unknown",
    terms=None,
    citation="",
    obtain="download one, such as with `hf download --repo-type dataset NAME --local-dir FOLDER`",
    labels={},
    options=("label_column", "subject_column", "clip_column", "frame_column", "image_column"),
    generic=True,
)


# An identifier of a licence, as SPDX and the hub write it.
LICENCE_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+ -]{0,47}")

UNKNOWN_LICENCE = "unknown"

USUAL_LABEL_COLUMNS = ("label", "labels", "emotion", "expression")

HUGGINGFACE_FAULT_MESSAGES = {
    "row without file": "rows whose picture is in neither the table nor the folder, left out: {}",
    "row without label": "rows without a label, left out: {}",
    "file without row": "images without a row or a class, left out: {}",
}

_SPLIT = re.compile(
    r"(?:.*/)?(train|training|test|testing|val|valid|validation)(?:[-./].*|$)", re.IGNORECASE
)

_METADATA = re.compile(r"(?:(.*)/)?metadata\.(csv|jsonl|parquet)", re.IGNORECASE)

_ROWS_PER_BATCH = 16  # rows of pictures that are in memory at the same time


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table by their meaning; `names` are the names of the classes that
    its label numbers stand for.
    """

    image: str | None
    label: str | None
    names: tuple[str, ...]
    subject: str | None
    clip: str | None
    frame: str | None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the pictures of all tables if any holds pictures, else those of the image folder.

    Labels are the names of the features' classes where the schema has them. A key is the file's
    path and the row. Raises DataError as `make_listing` does, or if a table is damaged or lacks a
    column.
    """
    # Find the tables that hold pictures.
    paths, findings = walk(root, IMAGE_SUFFIXES | TABLE_SUFFIXES | {".csv", ".jsonl"})
    findings = [
        finding
        for finding in findings
        if finding.kind != "foreign files" or "README" not in finding.where
    ]
    tables = [path for path in paths if PurePosixPath(path).suffix.lower() in TABLE_SUFFIXES]
    schemas = {path: _read_schema(root / path) for path in tables}
    named = {path: _find_columns(schema, spec, root / path) for path, schema in schemas.items()}
    pictured = {path: columns for path, columns in named.items() if columns.image}

    # Read the rows of these tables, or those of an image folder.
    take = partial(unpack, image_column=spec.image_column)
    read: dict[str, str] = {}  # the key that each row gives
    rows_by_table: dict[str, Sequence[int]] = {}  # the rows of each table that hold pictures
    if pictured:
        rows: list[ImageRow] = []
        used: list[str] = []
        for path, columns in pictured.items():
            table_rows, doubts = _read_table(root, path, columns, set(paths), read, rows_by_table)
            rows += table_rows
            findings += doubts
        rows, repeated = _leave_out_copied_tables(root, rows, take)
        findings += repeated
        findings += _report_stray_files(paths, rows)
    else:
        rows, doubts, used = _read_image_folder(root, paths, spec, read)
        findings += doubts
    if not rows:
        raise make_no_images_error(root, READER, findings)

    # Report what the dataset says about its splits and its licence.
    findings += _report_splits(rows)
    readme, licence = read_licence(root)
    if licence == UNKNOWN_LICENCE:
        message = (
            "its line `license:` holds no identifier such as cc-by-4.0, so the licence is "
            "unknown; --licence sets it"
        )
        findings.append(Finding("warning", "licence", "README.md", message))

    listing = make_listing(
        root,
        rows,
        findings,
        spec,
        READER,
        [*readme, *(root / path for path in used)],
        take,
        annotation_rows=read,
        picture_positions=rows_by_table,
    )
    return listing if licence is None else Listing(**{**vars(listing), "licence": licence})


def _report_splits(rows: Sequence[ImageRow]) -> list[Finding]:
    """Return a note with the number of images in each split, if there are any splits."""
    counts = Counter(
        match[1].lower() if (match := _SPLIT.fullmatch(row.path)) else "none" for row in rows
    )
    if set(counts) == {"none"}:
        return []
    splits = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return [Finding("note", "splits", ".", f"{splits}; read as one set")]


def recognise(look: FolderGlance) -> str | None:
    """Return the reason why the folder is a dataset of Hugging Face: tables named as the library
    names them, or an image folder's metadata.
    """
    name = look.find_first(
        r"(.*/)?[^/]*[0-9]{5}-of-[0-9]{5}[^/]*\.(parquet|arrow)"
    ) or look.find_first(
        r"(.*/)?(dataset_info\.json|dataset_dict\.json|metadata\.jsonl|metadata\.parquet)"
    )
    if name is None:
        name = look.find_first(
            r"(train|test|val|valid|validation)/metadata\.csv"
        ) or look.find_first(r"[^/]+\.parquet")
    return f"{name} is a file that its library writes" if name else None


def unpack(
    path: Path, positions: Sequence[int], image_column: str | None = None
) -> Iterator[Picture | DataError]:
    """Yield the pictures in the rows `positions` of a table, in rising order: the bytes of
    each, or the error about it.
    """
    column = _find_image_column(_read_schema(path), image_column, path)
    remaining = iter(positions)
    position, start = next(remaining, None), 0
    for batch in _iterate_batches(path, [column or ""]):
        while position is not None and position < start + batch.num_rows:
            value = batch.column(0)[position - start].as_py()
            content = value.get("bytes") if isinstance(value, dict) else value
            yield content or DataError(f"{path}#{position} must hold a picture, and is empty")
            position = next(remaining, None)
        start += batch.num_rows
        if position is None:
            return


# Tables


def _iterate_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield a table in pieces of a few rows; raises DataError if it is damaged."""
    try:
        if path.suffix.lower() == ".parquet":
            # Without these two options, pyarrow reads a whole row group, possibly gigabytes, before
            # it yields the first batch.
            with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                yield from file.iter_batches(
                    batch_size=_ROWS_PER_BATCH, columns=None if columns is None else list(columns)
                )
            return
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                chosen = batch if columns is None else batch.select(list(columns))
                for start in range(0, batch.num_rows, _ROWS_PER_BATCH):
                    yield chosen.slice(start, _ROWS_PER_BATCH)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _make_damaged_error(path, error) from None


def _read_schema(path: Path) -> pa.Schema:
    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            return stream.schema
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _make_damaged_error(path, error) from None


def _make_damaged_error(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"{path} must be a table in Parquet or Arrow that can be read, and is not: {reason}; copy "
        "it again"
    )


def _read_features(schema: pa.Schema) -> dict[str, Any]:
    """Return the library's description of each column; empty if it wrote none."""
    try:
        return dict(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}


def _find_image_column(schema: pa.Schema, column: str | None, path: Path) -> str | None:
    """Return the column of pictures, None if there is none.

    The library describes it as one, or its first cell that is not empty holds a picture. Raises
    DataError if there are several and none is `column`.
    """
    # Columns that are described as pictures, then those that begin with one.
    kinds = {
        name: feature.get("_type")
        for name, feature in _read_features(schema).items()
        if isinstance(feature, dict)
    }
    images = [
        name
        for name in schema.names
        if kinds.get(name) == "Image" or _is_picture_struct(schema.field(name).type)
    ]
    candidates = [
        name for name in schema.names if name not in images and _is_binary(schema.field(name).type)
    ]
    images += [name for name in candidates if _begins_as_a_picture(path, name)]

    # The user's choice, whatever its case.
    if column is not None and images:
        lower = {name.lower(): name for name in images}
        if column.lower() not in lower:
            raise DataError(
                f"image_column must name a column of pictures, and '{column}' is not one; {path} "
                f"has pictures in {', '.join(images)}"
            )
        return lower[column.lower()]
    if len(images) > 1:
        raise DataError(
            f"{path} must have one column of pictures, and has {len(images)}: {', '.join(images)}. "
            "Name one with --image-column, and ingest the others separately"
        )
    return images[0] if images else None


def _begins_as_a_picture(path: Path, column: str) -> bool:
    """Return whether the first cell of a column that is not empty holds a picture."""
    for batch in _iterate_batches(path, [column]):
        for value in batch.column(0):
            content = value.as_py()
            if content:
                return bool(pictures.recognise_format(content[: pictures.HEADER_BYTES])) or content[
                    :2
                ] in (b"P5", b"P6")
    return False


def _find_columns(schema: pa.Schema, spec: IngestSpec, path: Path) -> TableColumns:
    # The column of the labels: named by the user, usual, or of the type ClassLabel
    features = _read_features(schema)
    kinds = {
        name: feature.get("_type")
        for name, feature in features.items()
        if isinstance(feature, dict)
    }
    classes = [name for name in schema.names if kinds.get(name) == "ClassLabel"]
    label = _choose_column(
        schema.names, spec and spec.label_column, [*USUAL_LABEL_COLUMNS, *classes], "label_column"
    )

    # The names of the classes, if the file declares them
    named = features.get(label or "", {})
    names = named.get("names") if isinstance(named, dict) else None
    return TableColumns(
        image=_find_image_column(schema, spec.image_column, path),
        label=label,
        names=tuple(map(str, names)) if isinstance(names, list) else (),
        subject=_choose_column(
            schema.names, spec and spec.subject_column, ["subject"], "subject_column"
        ),
        clip=_choose_column(schema.names, spec and spec.clip_column, ["clip"], "clip_column"),
        frame=_choose_column(schema.names, spec and spec.frame_column, ["frame"], "frame_column"),
    )


def _leave_out_copied_tables(
    root: Path, rows: Sequence[ImageRow], take: Unpack
) -> tuple[list[ImageRow], list[Finding]]:
    """Return the rows without those of copied tables: tables of which at least 90 % of the pictures
    are in earlier tables, with the same labels.
    """
    # Only pictures inside tables can be copied in this way.
    tables: dict[str, list[ImageRow]] = {}
    for row in rows:
        if row.place != WHOLE_FILE:
            tables.setdefault(row.path, []).append(row)
    if len(tables) < 2:
        return list(rows), []

    # Compare each table with those before it, by the hashes of its pictures.
    earlier_hashes: set[tuple[bytes, str]] = set()
    copied: set[str] = set()
    for path, inside in sorted(tables.items()):
        content = take(root / path, [row.place for row in inside])
        hashes = [
            (sha256(picture).digest() if isinstance(picture, bytes) else b"", row.raw_label)
            for row, picture in zip(inside, content, strict=True)
        ]
        repeated = [
            row for row, row_hash in zip(inside, hashes, strict=True) if row_hash in earlier_hashes
        ]
        if len(repeated) >= 0.9 * len(inside):
            copied |= {name_picture(row) for row in repeated}
        else:
            earlier_hashes.update(hashes)
    if not copied:
        return list(rows), []

    names = tuple(sorted(copied))
    message = (
        "pictures that another table holds too, byte for byte and with the same label, left out: "
        f"{len(copied)}"
    )
    finding = Finding("warning", "copied table", list_some(names), message, pictures=names)
    return [row for row in rows if name_picture(row) not in copied], [finding]


def _is_picture_struct(data_type: pa.DataType) -> bool:
    return pa.types.is_struct(data_type) and any(
        data_type.field(index).name == "bytes" for index in range(data_type.num_fields)
    )


def _is_binary(data_type: pa.DataType) -> bool:
    return pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)


def _choose_column(
    columns: list[str], column: str | None, usual: Sequence[str], option: str
) -> str | None:
    """Return the column that is wanted, or the first of the usual ones that exists."""
    lower = {name.lower(): name for name in reversed(columns)}
    if column is not None and column.lower() not in lower:
        raise DataError(
            f"{option} must name a column, and '{column}' is not one; "
            f"{_describe_columns(columns)}.{suggest(column, columns)}"
        )
    return (
        lower[column.lower()]
        if column
        else next((lower[name] for name in usual if name in lower), None)
    )


def _describe_columns(columns: Sequence[str]) -> str:
    return f"the columns are {', '.join(columns)}" if columns else "it has no columns"


def _report_stray_files(paths: Sequence[str], rows: Sequence[ImageRow]) -> list[Finding]:
    """Return a finding about picture files that no row of the tables points to."""
    pointed = {row.path for row in rows}
    stray = tuple(
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES and path not in pointed
    )
    if not stray:
        return []
    message = f"picture files that no row of the tables points to, left out: {len(stray)}"
    return [Finding("warning", "file without row", list_some(stray), message, pictures=stray)]


def _read_table(
    root: Path,
    path: str,
    columns: TableColumns,
    files: set[str],
    annotation_rows: dict[str, str],
    picture_positions: dict[str, Sequence[int]],
) -> tuple[list[ImageRow], list[Finding]]:
    """Return the rows of a table that have a label, and findings about the others.

    A picture that the table only points to must be below the root. `annotation_rows` and
    `picture_positions` are extended by this table's rows, as in Listing.
    """
    schema = _read_schema(root / path)
    if columns.label is None:
        raise DataError(
            f"{root / path} must have a column with the classes "
            f"({', '.join(USUAL_LABEL_COLUMNS)}), but {_describe_columns(schema.names)}. "
            "Name it with --label-column"
        )

    # The pictures themselves are not needed here: only whether a row points to a file.
    needed_columns = [
        name for name in (columns.label, columns.subject, columns.clip, columns.frame) if name
    ]
    rows: list[ImageRow] = []
    faults: dict[str, list[str]] = {}
    position = 0
    stem = path.removesuffix(PurePosixPath(path).suffix)
    pointers = _iterate_targets(root / path, columns.image or "", schema)
    losses = Losses()
    outside: set[int] = set()

    # Every row becomes a Row or a fault.
    for batch in _iterate_batches(root / path, needed_columns):
        for values in batch.to_pylist():
            code = _parse_label(values[columns.label], columns.names)
            target = next(pointers)
            key = f"{stem}/{position}"
            row_name = f"{path}, row {position}"
            annotation_rows[row_name] = key
            if target is not None:
                outside.add(position)
            if code is None:
                faults.setdefault("row without label", []).append(key)
                losses.add("row without label", [f"{path}#{position}"], [row_name])
            elif target is None:
                rows.append(_make_row(path, key, code, values, columns, position, position))
            elif (file := _find_target(path, target, files)) is not None:
                rows.append(_make_row(file, key, code, values, columns, position, WHOLE_FILE))
            else:
                faults.setdefault("row without file", []).append(f"{key} ({target})")
                losses.add("row without file", [f"{path}#{position}"], [row_name])
            position += 1
    picture_positions[path] = [number for number in range(position) if number not in outside]
    return rows, report_faults(faults, HUGGINGFACE_FAULT_MESSAGES, losses=losses)


def _iterate_targets(path: Path, image: str, schema: pa.Schema) -> Iterator[str | None]:
    """Yield for each row the file that it points to, None if it holds the bytes itself."""
    data_type = schema.field(image).type
    linked = pa.types.is_struct(data_type) and any(
        data_type.field(index).name == "path" for index in range(data_type.num_fields)
    )
    if not linked or _holds_all_bytes(path, image):
        yield from repeat(None)
        return
    for batch in _iterate_batches(path, [image]):
        values = batch.column(0)
        empty_rows = values.field("bytes").is_null().to_pylist()
        targets = values.field("path").to_pylist()
        yield from (
            target if bare and target else None
            for bare, target in zip(empty_rows, targets, strict=True)
        )


def _holds_all_bytes(path: Path, image: str) -> bool:
    """Return whether a Parquet file's statistics say that no picture's bytes are missing, so that
    the rows need not be read.
    """
    if path.suffix.lower() != ".parquet":
        return False
    metadata = pq.read_metadata(path)
    columns = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    if f"{image}.bytes" not in columns:
        return False
    index = columns.index(f"{image}.bytes")
    statistics = [
        metadata.row_group(group).column(index).statistics
        for group in range(metadata.num_row_groups)
    ]
    return all(entry is not None and entry.null_count == 0 for entry in statistics)


def _find_target(table: str, target: str, files: set[str]) -> str | None:
    """Return the file below the root that a table's path names: relative to the table, or to the
    root.
    """
    for folder in (PurePosixPath(table).parent, PurePosixPath()):
        path = (folder / target.replace("\\", "/")).as_posix()
        if path in files:
            return path
    return None


def _parse_label(value: Any, names: tuple[str, ...]) -> str | None:
    """Return a label as text: the class's name if numbers have names; None for a missing label,
    which the library writes as -1.
    """
    if value is None or value == "" or (names and value == -1):
        return None
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return (
        str(int(value))
        if isinstance(value, float) and value.is_integer()
        else str(value).strip() or None
    )


def _make_row(
    path: str,
    key: str,
    label: str,
    values: dict[str, Any],
    columns: TableColumns,
    number: int,
    position: int,
) -> ImageRow:
    def read_cell(column: str | None) -> str:
        value = values.get(column) if column else None
        return "" if value is None else str(value).strip()

    subject, clip, frame = (
        read_cell(columns.subject),
        read_cell(columns.clip),
        read_cell(columns.frame),
    )
    return ImageRow(
        path=path,
        key=key,
        raw_label=label,
        subject=subject,
        clip=(f"{subject}/{clip}" if subject else clip) if clip else "",
        frame=_parse_frame(frame, number) if clip else -1,
        phase="" if clip else "still",
        place=position,
    )


def _parse_frame(text: str, number: int) -> int:
    """Return the frame number in a cell, or the row's number if the cell has none."""
    return int(float(text)) if re.fullmatch(r"[0-9]{1,15}(\.0+)?", text) else number


# Image folders


def _read_image_folder(
    root: Path, paths: Sequence[str], spec: IngestSpec, read: dict[str, str]
) -> tuple[list[ImageRow], list[Finding], list[str]]:
    """Return the images that metadata files name, else those in class folders; findings; and the
    metadata files.
    """
    # Tell pictures from metadata files
    images = {
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() not in {*TABLE_SUFFIXES, ".csv", ".jsonl"}
    }
    tables = [match for match in map(_METADATA.fullmatch, paths) if match]

    # Rows of the metadata files, else of the folders of classes
    faults: dict[str, list[str]] = {}
    losses = Losses()
    rows: list[ImageRow] = []
    for table in tables:
        rows += _read_metadata_rows(root, table, images, spec, faults, losses, read)
    if not tables:
        rows = [ImageRow(path, path, path.split("/")[-2]) for path in sorted(images) if "/" in path]
        rows = [row for row in rows if not _SPLIT.fullmatch(row.raw_label)]

    # Every picture without a row is a finding
    faults["file without row"] = sorted(
        images - {row.path for row in rows} - set(faults.get("row without label", ()))
    )
    losses.add("file without row", faults["file without row"])
    return (
        rows,
        report_faults(faults, HUGGINGFACE_FAULT_MESSAGES, losses=losses),
        [table[0] for table in tables],
    )


def _read_metadata_rows(
    root: Path,
    table: re.Match[str],
    images: set[str],
    spec: IngestSpec,
    faults: dict[str, list[str]],
    losses: Losses,
    read: dict[str, str],
) -> list[ImageRow]:
    # Find the columns, which may differ between the lines of a JSON file.
    lines = _read_metadata_lines(root / table[0])
    names = list(dict.fromkeys(name for line in lines for name in line))
    files = _choose_column(names, spec.image_column, ["file_name"], "image_column")
    _require_one_picture(root / table[0], table[1] or "", lines, images, files, spec.image_column)
    label = _choose_column(names, spec.label_column, USUAL_LABEL_COLUMNS, "label_column")
    if lines and (files is None or label is None):
        raise DataError(
            f"{root / table[0]} must have the columns file_name and "
            f"{' or '.join(USUAL_LABEL_COLUMNS)}; {_describe_columns(names)}"
        )
    columns = TableColumns(
        image=None,
        label=label,
        names=(),
        subject=_choose_column(names, spec.subject_column, ["subject"], "subject_column"),
        clip=_choose_column(names, spec.clip_column, ["clip"], "clip_column"),
        frame=_choose_column(names, spec.frame_column, ["frame"], "frame_column"),
    )

    # Every line becomes a Row or a fault; paths are relative to the table.
    rows: list[ImageRow] = []
    for number, line in enumerate(lines, start=2):
        name = str(line.get(files or "") or "")
        path = (PurePosixPath(table[1] or "") / name.replace("\\", "/")).as_posix()
        code = _parse_label(line.get(label or ""), ())
        row_name = f"{table[0]}, row {number}"
        read[row_name] = path
        if path not in images:
            faults.setdefault("row without file", []).append(f"{table[0]}: {name}")
            losses.add("row without file", rows=[row_name])
        elif code is None:
            faults.setdefault("row without label", []).append(path)
            losses.add("row without label", [path], [row_name])
        else:
            rows.append(
                _make_row(
                    path, path, code, line, columns, max(find_last_number(path), 0), WHOLE_FILE
                )
            )
    return rows


def _require_one_picture(
    table: Path,
    folder: str,
    lines: Sequence[dict[str, Any]],
    images: set[str],
    files: str | None,
    column: str | None,
) -> None:
    """Raise DataError if several columns of a table name pictures, and the user names none of
    them.
    """
    names = [
        name
        for name in dict.fromkeys(name for line in lines[:100] for name in line)
        if isinstance(name, str)
    ]
    naming = [
        name
        for name in names
        if any(
            (PurePosixPath(folder) / str(line.get(name) or "-")).as_posix() in images
            for line in lines[:100]
        )
    ]
    if column is None and len(naming) > 1:
        raise DataError(
            f"{table} must name one picture per row, and has {len(naming)} columns that name "
            f"pictures: {', '.join(naming)}. Name one with --image-column, and ingest the others "
            "separately"
        )


def _read_metadata_lines(table: Path) -> list[dict[str, Any]]:
    """Return the rows of a metadata file; raises DataError if it cannot be read."""
    if table.suffix.lower() == ".parquet":
        return [line for batch in _iterate_batches(table) for line in batch.to_pylist()]
    try:
        content, separator = read_table_text(table)
        if table.suffix.lower() == ".csv":
            return [
                dict(line) for line in csv.DictReader(content.splitlines(), delimiter=separator)
            ]
        lines = [json.loads(line) for line in content.splitlines() if line.strip()]
    except (ValueError, csv.Error, RecursionError) as error:
        raise DataError(
            f"{table} must be a table that can be read, and is not: {error}; copy it again"
        ) from None
    if not all(isinstance(line, dict) for line in lines):
        raise DataError(
            f"{table} must have an object in each line, and has other things; copy it again"
        )
    return lines


def read_licence(root: Path) -> tuple[list[Path], str | None]:
    """Return the dataset's card and the licence that it states: UNKNOWN if that is no identifier,
    None if it states none.
    """
    card = root / "README.md"
    try:
        content = (
            card.read_text(encoding="utf-8", errors="replace")[:100_000] if card.is_file() else ""
        )
    except OSError:
        return [], None
    front = re.match(r"---\s*\n(.*?)\n---", content, re.DOTALL)
    line = re.search(r"^licen[sc]e:[ \t]*([^\n]+)", front[1], re.MULTILINE) if front else None
    if not line:
        return [], None
    licence = re.sub(r"\s+#.*", "", line[1]).strip().strip("'\"").strip()
    return [card], f"{licence}, says its card" if LICENCE_IDENTIFIER.fullmatch(
        licence
    ) else UNKNOWN_LICENCE
