"""A local dataset of Hugging Face, as its `datasets` library and its hub write them, read without
that library.

    data/train-00000-of-00001.parquet       pictures in a column, with the features' names in the schema
    train/data-00000-of-00001.arrow         what Dataset.save_to_disk writes
    train/metadata.{csv,jsonl,parquet}      an image folder: file_name, and columns
    train/CLASS/picture.png                 an image folder: classes are the folders' names

Pictures in a table are decoded from its bytes, a few at a time, and never touch the disk.
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
from mien.ingest import (
    IMAGE_SUFFIXES,
    WHOLE,
    Finding,
    IngestSpec,
    Listing,
    Look,
    Reader,
    Unpack,
    last_number,
    some,
    table_text,
    walk,
)
from mien.ingest.rows import Losses, Row, empty, listing, picture_name, told
from mien.preprocess import Picture
from mien.spec import nearest

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
    citation="",
    obtain="download one, such as with `hf download --repo-type dataset NAME --local-dir FOLDER`",
    labels={},
    options=("label_column", "subject_column", "clip_column", "frame_column", "image_column"),
    generic=True,
)

TABLES = frozenset({".parquet", ".arrow"})
IDENTIFIER = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.+ -]{0,47}"
)  # of a licence, as SPDX and the hub write it
UNKNOWN = "unknown"
LABELS = ("label", "labels", "emotion", "expression")
SAID = {
    ("row without file"): (
        "rows whose picture is neither in the table nor in the folder, left out: {}"
    ),
    "row without label": "rows without a label, left out: {}",
    "file without row": "images without a row or a class, left out: {}",
}
_SPLIT = re.compile(
    r"(?:.*/)?(train|training|test|testing|val|valid|validation)(?:[-./].*|$)", re.IGNORECASE
)
_METADATA = re.compile(r"(?:(.*)/)?metadata\.(csv|jsonl|parquet)", re.IGNORECASE)
_AT_ONCE = 16  # rows of pictures that are in memory together


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what; `names` are those of the classes that numbers stand
    for.
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
    path and the row. Raises DataError as `listing` does, or if a table is damaged or lacks a
    column.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | TABLES | {".csv", ".jsonl"})
    findings = [
        found for found in findings if found.kind != "foreign files" or "README" not in found.where
    ]
    tables = [path for path in paths if PurePosixPath(path).suffix.lower() in TABLES]
    schemas = {path: _schema(root / path) for path in tables}
    named = {path: _columns(schema, spec, root / path) for path, schema in schemas.items()}
    pictured = {path: columns for path, columns in named.items() if columns.image}
    take = partial(unpack, image_column=spec.image_column)
    read: dict[str, str] = {}  # the key that each row gives
    held: dict[str, Sequence[int]] = {}  # the rows of each table that hold pictures
    if pictured:
        rows: list[Row] = []
        used: list[str] = []
        for path, columns in pictured.items():
            more, doubts = _from_table(root, path, columns, set(paths), read, held)
            rows += more
            findings += doubts
        rows, again = _once(root, rows, take)
        findings += again
        findings += _beside_tables(paths, rows)
    else:
        rows, doubts, used = _from_folder(root, paths, spec, read)
        findings += doubts
    if not rows:
        raise empty(root, READER, findings)
    counts = Counter(
        match[1].lower() if (match := _SPLIT.fullmatch(row.path)) else "none" for row in rows
    )
    if set(counts) != {"none"}:
        what = (
            f"{', '.join(f'{name} {count:,}' for name, count in sorted(counts.items()))}; read "
            "as one set"
        )
        findings.append(Finding("note", "splits", ".", what))
    readme, licence = _licence(root)
    if licence == UNKNOWN:
        what = (
            "its line `license:` holds no identifier such as cc-by-4.0, so nothing is known; "
            "--licence says it"
        )
        findings.append(Finding("warning", "licence", "README.md", what))
    made = listing(
        root,
        rows,
        findings,
        spec,
        READER,
        [*readme, *(root / path for path in used)],
        take,
        read=read,
        held=held,
    )
    return made if licence is None else Listing(**{**vars(made), "licence": licence})


def recognise(look: Look) -> str | None:
    """Say by what the folder is a dataset of Hugging Face: tables as it names them, or an image
    folder's metadata.
    """
    found = look.first(r"(.*/)?[^/]*[0-9]{5}-of-[0-9]{5}[^/]*\.(parquet|arrow)") or look.first(
        r"(.*/)?(dataset_info\.json|dataset_dict\.json|metadata\.jsonl|metadata\.parquet)"
    )
    if found is None:
        found = look.first(r"(train|test|val|valid|validation)/metadata\.csv") or look.first(
            r"[^/]+\.parquet"
        )
    return f"{found} is what its library writes" if found else None


def unpack(
    path: Path, places: Sequence[int], image_column: str | None = None
) -> Iterator[Picture | DataError]:
    """Yield the pictures in the rows at `places`, which rise, of a table; their bytes, or what is
    wrong with them.
    """
    column = _image(_schema(path), image_column, path)
    wanted = iter(places)
    place, start = next(wanted, None), 0
    for batch in _batches(path, [column or ""]):
        while place is not None and place < start + batch.num_rows:
            value = batch.column(0)[place - start].as_py()
            content = value.get("bytes") if isinstance(value, dict) else value
            yield content or DataError(f"{path}#{place} must hold a picture, and is empty")
            place = next(wanted, None)
        start += batch.num_rows
        if place is None:
            return


# Tables


def _batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield a table in pieces of a few rows; raises DataError if it is damaged."""
    try:
        if path.suffix.lower() == ".parquet":
            # Without these two, pyarrow reads a whole group of rows before it gives the first:
            # gigabytes, in some.
            with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                yield from file.iter_batches(
                    batch_size=_AT_ONCE, columns=None if columns is None else list(columns)
                )
            return
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                chosen = batch if columns is None else batch.select(list(columns))
                for start in range(0, batch.num_rows, _AT_ONCE):
                    yield chosen.slice(start, _AT_ONCE)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None


def _schema(path: Path) -> pa.Schema:
    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            return stream.schema
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"{path} must be a table in Parquet or Arrow that can be read, and is not: {reason}; copy "
        "it again"
    )


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return what the library has noted of each column; empty if it wrote nothing."""
    try:
        return dict(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}


def _image(schema: pa.Schema, given: str | None, path: Path) -> str | None:
    """Return the column of pictures, None if there is none; raises DataError if there are several
    and none is named.

    It is one that the library has noted as such, or whose first cell that is not empty holds a
    picture.
    """
    kinds = {
        name: each.get("_type")
        for name, each in _features(schema).items()
        if isinstance(each, dict)
    }
    images = [
        name
        for name in schema.names
        if kinds.get(name) == "Image" or _struct(schema.field(name).type)
    ]
    maybe = [
        name for name in schema.names if name not in images and _binary(schema.field(name).type)
    ]
    images += [name for name in maybe if _begins_as_a_picture(path, name)]
    if given is not None and images:
        lower = {name.lower(): name for name in images}
        if given.lower() not in lower:
            has = f"{path} has pictures in {', '.join(images)}"
            raise DataError(
                f"image_column must name a column of pictures, and '{given}' is none; {has}"
            )
        return lower[given.lower()]
    if len(images) > 1:
        raise DataError(
            f"{path} must have one column of pictures, and has {len(images)}: "
            f"{', '.join(images)}. Name the one that "
            "is meant with --image-column, and ingest the others on their own"
        )
    return images[0] if images else None


def _begins_as_a_picture(path: Path, column: str) -> bool:
    """Whether the first cell of a column that is not empty holds a picture."""
    for batch in _batches(path, [column]):
        for value in batch.column(0):
            content = value.as_py()
            if content:
                return bool(pictures.kind(content[: pictures.HEAD])) or content[:2] in (
                    b"P5",
                    b"P6",
                )
    return False


def _columns(schema: pa.Schema, spec: IngestSpec, path: Path) -> Columns:
    features = _features(schema)
    kinds = {
        name: feature.get("_type")
        for name, feature in features.items()
        if isinstance(feature, dict)
    }
    classes = [name for name in schema.names if kinds.get(name) == "ClassLabel"]
    label = _chosen(schema.names, spec and spec.label_column, [*LABELS, *classes], "label_column")
    named = features.get(label or "", {})
    names = named.get("names") if isinstance(named, dict) else None
    return Columns(
        image=_image(schema, spec.image_column, path),
        label=label,
        names=tuple(map(str, names)) if isinstance(names, list) else (),
        subject=_chosen(schema.names, spec and spec.subject_column, ["subject"], "subject_column"),
        clip=_chosen(schema.names, spec and spec.clip_column, ["clip"], "clip_column"),
        frame=_chosen(schema.names, spec and spec.frame_column, ["frame"], "frame_column"),
    )


def _once(root: Path, rows: Sequence[Row], take: Unpack) -> tuple[list[Row], list[Finding]]:
    """Return the rows without those of tables that hold, but for a tenth at most, what earlier
    tables do.
    """
    tables: dict[str, list[Row]] = {}
    for row in rows:
        if row.place != WHOLE:
            tables.setdefault(row.path, []).append(row)
    if len(tables) < 2:
        return list(rows), []
    seen: set[tuple[bytes, str]] = set()
    lost: set[str] = set()
    for path, inside in sorted(tables.items()):
        content = take(root / path, [row.place for row in inside])
        prints = [
            (sha256(picture).digest() if isinstance(picture, bytes) else b"", row.raw_label)
            for row, picture in zip(inside, content, strict=True)
        ]
        again = [row for row, known in zip(inside, prints, strict=True) if known in seen]
        if len(again) >= 0.9 * len(inside):
            lost |= {picture_name(row) for row in again}
        else:
            seen.update(prints)
    if not lost:
        return list(rows), []
    names = tuple(sorted(lost))
    what = (
        "pictures that another table holds too, byte for byte and with the same label, left "
        f"out: {len(lost)}"
    )
    told = Finding("warning", "copied table", some(names), what, pictures=names)
    return [row for row in rows if picture_name(row) not in lost], [told]


def _struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(
        kind.field(place).name == "bytes" for place in range(kind.num_fields)
    )


def _binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _chosen(there: list[str], given: str | None, usual: Sequence[str], option: str) -> str | None:
    """Return the column that is named, or the first of the usual ones that is there."""
    lower = {name.lower(): name for name in reversed(there)}
    if given is not None and given.lower() not in lower:
        raise DataError(
            f"{option} must name a column, and '{given}' is none; "
            f"{_has(there)}.{nearest(given, there)}"
        )
    return (
        lower[given.lower()]
        if given
        else next((lower[name] for name in usual if name in lower), None)
    )


def _has(there: Sequence[str]) -> str:
    return f"there are {', '.join(there) or 'none'}"


def _beside_tables(paths: Sequence[str], rows: Sequence[Row]) -> list[Finding]:
    """Return what is said of picture files that no row of the tables points to."""
    pointed = {row.path for row in rows}
    lost = tuple(
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES and path not in pointed
    )
    what = f"picture files that no row of the tables points to, left out: {len(lost)}"
    return [Finding("warning", "file without row", some(lost), what, pictures=lost)] if lost else []


def _from_table(
    root: Path,
    path: str,
    columns: Columns,
    files: set[str],
    read: dict[str, str],
    held: dict[str, Sequence[int]],
) -> tuple[list[Row], list[Finding]]:
    """Return the rows of a table that have a label; a picture that the table only points to must
    lie below the root.
    """
    schema = _schema(root / path)
    if columns.label is None:
        raise DataError(
            f"{root / path} must have a column with the classes ({', '.join(LABELS)}), and has "
            "none; "
            f"{_has(schema.names)}. Name it with --label-column"
        )
    wanted = [
        name for name in (columns.label, columns.subject, columns.clip, columns.frame) if name
    ]
    rows: list[Row] = []
    faults: dict[str, list[str]] = {}
    place = 0
    stem = path.removesuffix(PurePosixPath(path).suffix)
    pointers = _pointers(root / path, columns.image or "", schema)
    losses = Losses()
    outside: set[int] = set()
    for batch in _batches(root / path, wanted):
        for values in batch.to_pylist():
            code = _label(values[columns.label], columns.names)
            target = next(pointers)
            key = f"{stem}/{place}"
            row_name = f"{path}, row {place}"
            read[row_name] = key
            if target is not None:
                outside.add(place)
            if code is None:
                faults.setdefault("row without label", []).append(key)
                losses.add("row without label", [f"{path}#{place}"], [row_name])
            elif target is None:
                rows.append(_row(path, key, code, values, columns, place, place))
            elif (found := _beside(path, target, files)) is not None:
                rows.append(_row(found, key, code, values, columns, place, WHOLE))
            else:
                faults.setdefault("row without file", []).append(f"{key} ({target})")
                losses.add("row without file", [f"{path}#{place}"], [row_name])
            place += 1
    held[path] = [number for number in range(place) if number not in outside]
    return rows, told(faults, SAID, losses=losses)


def _pointers(path: Path, image: str, schema: pa.Schema) -> Iterator[str | None]:
    """Yield for each row the file that it points to, if it holds no bytes itself."""
    kind = schema.field(image).type
    linked = pa.types.is_struct(kind) and any(
        kind.field(place).name == "path" for place in range(kind.num_fields)
    )
    if not linked or _all_inside(path, image):
        yield from repeat(None)
        return
    for batch in _batches(path, [image]):
        values = batch.column(0)
        empty_rows = values.field("bytes").is_null().to_pylist()
        targets = values.field("path").to_pylist()
        yield from (
            target if bare and target else None
            for bare, target in zip(empty_rows, targets, strict=True)
        )


def _all_inside(path: Path, image: str) -> bool:
    """Whether a Parquet file says of itself that no picture's bytes are missing, so that none has
    to be looked at.
    """
    if path.suffix.lower() != ".parquet":
        return False
    about = pq.read_metadata(path)
    columns = [about.schema.column(place).path for place in range(about.num_columns)]
    if f"{image}.bytes" not in columns:
        return False
    place = columns.index(f"{image}.bytes")
    notes = [
        about.row_group(group).column(place).statistics for group in range(about.num_row_groups)
    ]
    return all(note is not None and note.null_count == 0 for note in notes)


def _beside(table: str, target: str, files: set[str]) -> str | None:
    """Return the file below the root that a table's path means: relative to the table, or to the
    root.
    """
    for folder in (PurePosixPath(table).parent, PurePosixPath()):
        path = (folder / target.replace("\\", "/")).as_posix()
        if path in files:
            return path
    return None


def _label(value: Any, names: tuple[str, ...]) -> str | None:
    """Return a label as text: the class's name if numbers have names; None for none, which the
    library writes as -1.
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


def _row(
    path: str,
    key: str,
    label: str,
    values: dict[str, Any],
    columns: Columns,
    number: int,
    place: int,
) -> Row:
    def cell(column: str | None) -> str:
        value = values.get(column) if column else None
        return "" if value is None else str(value).strip()

    subject, clip, frame = cell(columns.subject), cell(columns.clip), cell(columns.frame)
    return Row(
        path=path,
        key=key,
        raw_label=label,
        subject=subject,
        clip=(f"{subject}/{clip}" if subject else clip) if clip else "",
        frame=_frame(frame, number) if clip else -1,
        phase="" if clip else "still",
        place=place,
    )


def _frame(text: str, number: int) -> int:
    """Return the frame that a cell gives, or the row's number where it gives none."""
    return int(float(text)) if re.fullmatch(r"[0-9]{1,15}(\.0+)?", text) else number


# Image folders


def _from_folder(
    root: Path, paths: Sequence[str], spec: IngestSpec, read: dict[str, str]
) -> tuple[list[Row], list[Finding], list[str]]:
    """Return the images that metadata files name, else those below folders of classes."""
    images = {
        path
        for path in paths
        if PurePosixPath(path).suffix.lower() not in {*TABLES, ".csv", ".jsonl"}
    }
    tables = [match for match in map(_METADATA.fullmatch, paths) if match]
    faults: dict[str, list[str]] = {}
    losses = Losses()
    rows: list[Row] = []
    for table in tables:
        rows += _from_metadata(root, table, images, spec, faults, losses, read)
    if not tables:
        rows = [Row(path, path, path.split("/")[-2]) for path in sorted(images) if "/" in path]
        rows = [row for row in rows if not _SPLIT.fullmatch(row.raw_label)]
    faults["file without row"] = sorted(
        images - {row.path for row in rows} - set(faults.get("row without label", ()))
    )
    losses.add("file without row", faults["file without row"])
    return rows, told(faults, SAID, losses=losses), [table[0] for table in tables]


def _from_metadata(
    root: Path,
    table: re.Match[str],
    images: set[str],
    spec: IngestSpec,
    faults: dict[str, list[str]],
    losses: Losses,
    read: dict[str, str],
) -> list[Row]:
    lines = _metadata(root / table[0])
    there = list(dict.fromkeys(name for line in lines for name in line))
    files = _chosen(there, spec.image_column, ["file_name"], "image_column")
    _require_one_picture(root / table[0], table[1] or "", lines, images, files, spec.image_column)
    label = _chosen(there, spec.label_column, LABELS, "label_column")
    if lines and (files is None or label is None):
        raise DataError(
            f"{root / table[0]} must have the columns file_name and {' or '.join(LABELS)}; "
            f"{_has(there)}"
        )
    columns = Columns(
        image=None,
        label=label,
        names=(),
        subject=_chosen(there, spec.subject_column, ["subject"], "subject_column"),
        clip=_chosen(there, spec.clip_column, ["clip"], "clip_column"),
        frame=_chosen(there, spec.frame_column, ["frame"], "frame_column"),
    )
    rows: list[Row] = []
    for number, line in enumerate(lines, start=2):
        name = str(line.get(files or "") or "")
        path = (PurePosixPath(table[1] or "") / name.replace("\\", "/")).as_posix()
        code = _label(line.get(label or ""), ())
        row_name = f"{table[0]}, row {number}"
        read[row_name] = path
        if path not in images:
            faults.setdefault("row without file", []).append(f"{table[0]}: {name}")
            losses.add("row without file", rows=[row_name])
        elif code is None:
            faults.setdefault("row without label", []).append(path)
            losses.add("row without label", [path], [row_name])
        else:
            rows.append(_row(path, path, code, line, columns, max(last_number(path), 0), WHOLE))
    return rows


def _require_one_picture(
    table: Path,
    folder: str,
    lines: Sequence[dict[str, Any]],
    images: set[str],
    files: str | None,
    given: str | None,
) -> None:
    """Raise DataError if several columns of a table name pictures, and no one has said which is
    meant.
    """
    there = [
        name
        for name in dict.fromkeys(name for line in lines[:100] for name in line)
        if isinstance(name, str)
    ]
    naming = [
        name
        for name in there
        if any(
            (PurePosixPath(folder) / str(line.get(name) or "-")).as_posix() in images
            for line in lines[:100]
        )
    ]
    if given is None and len(naming) > 1:
        raise DataError(
            f"{table} must name one picture a row, and has {len(naming)} columns that name some: "
            f"{', '.join(naming)}. "
            "Name the one that is meant with --image-column, and ingest the others on their own"
        )


def _metadata(table: Path) -> list[dict[str, Any]]:
    """Return the rows of a metadata file; raises DataError if it cannot be read."""
    if table.suffix.lower() == ".parquet":
        return [line for batch in _batches(table) for line in batch.to_pylist()]
    try:
        content, separator = table_text(table)
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


def _licence(root: Path) -> tuple[list[Path], str | None]:
    """Return what the dataset's card says of its licence, and the card."""
    card = root / "README.md"
    try:
        content = (
            card.read_text(encoding="utf-8", errors="replace")[:100_000] if card.is_file() else ""
        )
    except OSError:
        return [], None
    front = re.match(r"---\s*\n(.*?)\n---", content, re.DOTALL)
    found = re.search(r"^licen[sc]e:[ \t]*([^\n]+)", front[1], re.MULTILINE) if front else None
    if not found:
        return [], None
    said = re.sub(r"\s+#.*", "", found[1]).strip().strip("'\"").strip()
    return [card], f"{said}, says its card" if IDENTIFIER.fullmatch(said) else UNKNOWN
