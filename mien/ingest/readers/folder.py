"""Any folder of images: one folder per class, or a metadata.csv."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path, PurePosixPath

import pandas as pd

from mien.errors import DataError
from mien.findings import Finding, Severity, list_some
from mien.ingest import patterns
from mien.ingest.emotions import find_emotion, label_rows
from mien.ingest.folders import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    FolderGlance,
    find_last_number,
    is_store,
    iterate_files,
    read_table_text,
    walk,
)
from mien.ingest.reader import Listing, Reader
from mien.ingest.specs import IngestSpec
from mien.runs.progress import quantify
from mien.runs.spec import suggest

READER = Reader(
    dataset="",
    title="any folder of images",
    needs=(
        "FOLDER/[train|val|test/]CLASS/... with images, or FOLDER/metadata.csv with file_name and "
        "expression"
    ),
    licence="unknown",
    terms=None,
    citation="",
    obtain="any images of faces that you have and may use",
    subjects="--subject-pattern or a column",
    clips="--clip-pattern or a column",
    labels={},
    generic=True,
    options=(
        "subject_pattern",
        "clip_pattern",
        "label_column",
        "subject_column",
        "clip_column",
        "frame_column",
    ),
)

METADATA_FILE = "metadata.csv"

SPLIT_FOLDERS = frozenset({"test", "testing", "train", "training", "val", "valid", "validation"})

FILE_COLUMNS = ("file_name", "filename", "file", "path", "image")

TABLE_LABEL_COLUMNS = ("expression", "emotion", "label")


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the images below `root`, with subjects and clips if columns or patterns give
    them.

    A key is the path, suffix included, so equal names in two folders stay apart. Folders named
    train, val and test may contain the class folders; they make no difference.

    Raises DataError for a folder without images, an unknown class, a metadata.csv that lacks a
    column or names a file outside the folder, or a pattern that matches nothing.
    """
    # A metadata.csv names the images; without one, their folders name the classes.
    images, findings = walk(root)
    table = next(
        (
            path
            for path in sorted(root.iterdir())
            if path.name.lower() == METADATA_FILE and path.is_file()
        ),
        None,
    )
    if table is None:
        _refuse_columns(spec)
        rows, findings_of_rows = _read_class_folders(root, images)
        read = {}
    else:
        rows, findings_of_rows, read = _read_metadata(root, table, images, spec)
        findings = [finding for finding in findings if finding.where != table.name]
    if rows.empty:
        raise DataError(
            f"{root} must hold images that have a class ({READER.needs}); "
            f"{_describe_contents(root, images, findings_of_rows)}"
        )
    findings += findings_of_rows

    # Extract subjects and clips from the paths.
    for column, pattern in (("subject", spec.subject_pattern), ("clip", spec.clip_pattern)):
        if pattern:
            rows[column], unmatched = _search_pattern(rows["path"].tolist(), pattern, column)
            findings += unmatched

    # Map the labels to emotions, and report what looks wrong.
    rows, unlabelled = label_rows(rows, spec, READER, str(table or root))
    findings += unlabelled
    _number_clips(rows)
    findings += _report_doubts(rows)
    annotations = () if table is None else (table,)
    return Listing(root, rows, annotations, tuple(findings), READER.licence, annotation_rows=read)


def recognise(look: FolderGlance) -> str | None:
    """Return the reason why the folder has images with classes: a metadata.csv, or folders named
    after emotions.
    """
    table = look.find_first(re.escape(METADATA_FILE))
    if table:
        return f"{table} names the images"
    suffixes = IMAGE_SUFFIXES | UNREAD_SUFFIXES
    paths = [
        name.lower().split("/")
        for name in look.names
        if PurePosixPath(name).suffix.lower() in suffixes
    ]
    classes = {
        parts[1] if parts[0] in SPLIT_FOLDERS else parts[0]
        for parts in paths
        if len(parts) > 1 + (parts[0] in SPLIT_FOLDERS)
    }
    emotions = sorted(name for name in classes if find_emotion(name, {}))
    return f"class folders {list_some(emotions)}" if emotions else None


# Class folders


def _read_class_folders(root: Path, images: Sequence[str]) -> tuple[pd.DataFrame, list[Finding]]:
    # The class is the first folder of a path, after that of the split.
    labels: dict[str, str] = {}
    stray = []
    for path in images:
        parts = path.split("/")
        below = parts[1:] if parts[0].lower() in SPLIT_FOLDERS else parts
        if len(below) > 1:
            labels[path] = below[0]
        else:
            stray.append(path)
    findings = []
    if stray:
        message = f"images in no class folder, left out: {len(stray)}"
        findings.append(
            Finding("warning", "no class", list_some(stray), message, pictures=tuple(stray))
        )

    # A class without images may be a failed copy.
    used = {path.rsplit("/", 1)[0] + "/" for path in images if "/" in path}
    empty = [
        name
        for name in _list_class_folders(root)
        if not any(folder.startswith(f"{name}/") for folder in used)
    ]
    if empty:
        message = f"class folders without images: {len(empty)}"
        findings.append(Finding("warning", "empty folder", list_some(empty), message))

    # Splits on the disk are not used: they may share people.
    splits = sorted(
        {path.split("/")[0] for path in labels}
        & {name for name in _list_folders(root) if name.lower() in SPLIT_FOLDERS}
    )
    if splits:
        message = "read as one set; `mien split` decides which images are used to train and to test"
        findings.append(Finding("note", "split folders", list_some(splits), message))
    return _make_rows(list(labels), list(labels.values())), findings


def _list_folders(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not is_store(path)
    )


def _list_class_folders(root: Path) -> list[str]:
    names = []
    for name in _list_folders(root):
        names += (
            [f"{name}/{below}" for below in _list_folders(root / name)]
            if name.lower() in SPLIT_FOLDERS
            else [name]
        )
    return names


def _make_rows(paths: list[str], labels: list[str]) -> pd.DataFrame:
    rows = pd.DataFrame({"path": paths, "key": paths, "raw_label": labels}, dtype="str")
    return rows.assign(subject="", clip="", frame=-1, phase="still", action_units="")


# metadata.csv


def _read_metadata(
    root: Path, table: Path, images: Sequence[str], spec: IngestSpec
) -> tuple[pd.DataFrame, list[Finding], dict[str, str]]:
    columns = _read_table(table)
    files = _get_column(columns, None, FILE_COLUMNS, table)
    labels = _get_column(columns, spec.label_column, TABLE_LABEL_COLUMNS, table)
    paths = [_check_inside(name, line, table) for line, name in enumerate(files, start=2)]
    usable, findings = _select_rows(paths, labels, images, table.name)
    rows = _make_rows([paths[index] for index in usable], [labels[index] for index in usable])
    for field, column in (
        ("subject", spec.subject_column),
        ("clip", spec.clip_column),
        ("frame", spec.frame_column),
    ):
        if column or field in columns:
            texts = _get_column(columns, column, (field,), table)
            rows[field] = [
                _parse_frame(texts[index], table) if field == "frame" else texts[index]
                for index in usable
            ]
    return rows, findings, {_name_row(table.name, index): path for index, path in enumerate(paths)}


def _read_table(table: Path) -> dict[str, list[str]]:
    """Return the columns of a CSV file by name, in lower case.

    Any line ending is accepted, and empty lines are skipped.
    """
    try:
        text, separator = read_table_text(table)
        reader = csv.reader(StringIO(text, newline=None), delimiter=separator, strict=True)
        lines = [[cell.strip() for cell in line] for line in reader]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{table} must be a table in CSV and UTF-8, and is not: {error}") from None
    head, *body = [line for line in lines if any(line)] or [[]]
    uneven = next((line for line in body if len(line) > len(head)), None)
    if uneven is not None:
        raise DataError(
            f"{table} must have {len(head)} cells in each line, as in the first, and one line has "
            f"{len(uneven)}: {','.join(uneven)[:200]}; correct it, and put names with commas in "
            "quotes"
        )
    padded = [line + [""] * (len(head) - len(line)) for line in body]
    return {
        name.lower(): [line[index] for line in padded]
        for index, name in reversed(list(enumerate(head)))
    }


def _get_column(
    columns: dict[str, list[str]], column: str | None, usual: Sequence[str], table: Path
) -> list[str]:
    names = (column.strip().lower(),) if column else usual
    for name in names:
        if name in columns:
            return columns[name]
    has = sorted(columns)
    hint = suggest(names[0], has)
    raise DataError(
        f"{table} must have a column {' or '.join(names)}; it has {', '.join(has) or 'none'}.{hint}"
    )


def _check_inside(name: str, line: int, table: Path) -> str:
    """Return a file name with '/' between its parts; raises DataError if it leads out of the
    folder.
    """
    components = [component for component in name.replace("\\", "/").split("/") if component != "."]
    if not components or "" in components or ".." in components or ":" in components[0]:
        raise DataError(
            f"{table}, row {line}: a file name must lead to a file inside the folder, and is "
            f"'{name}'; correct the row"
        )
    return "/".join(components)


def _select_rows(
    paths: Sequence[str], labels: Sequence[str], images: Sequence[str], table: str
) -> tuple[list[int], list[Finding]]:
    """Return the indices of the rows that have an image and one label, in the order of paths, and
    findings about the others.
    """
    # Paths in several rows: the rows may agree or contradict each other.
    present = set(images)
    first: dict[str, int] = {}
    contradicted, repeated = set(), set()
    for index, path in enumerate(paths):
        if first.setdefault(path, index) != index:
            (repeated if labels[index] == labels[first[path]] else contradicted).add(path)
    missing = set(paths) - present
    blank = {path for path, label in zip(paths, labels, strict=True) if not label} - contradicted

    # The order is that of the report, and of the accounts: the first reason of a path counts.
    kinds: tuple[tuple[Severity, str, set[str], str], ...] = (
        ("warning", "row without file", missing, "named by a row, but no such image; left out"),
        ("warning", "row without label", blank, "without a label; left out"),
        (
            "warning",
            "contradiction",
            contradicted,
            "in several rows with different labels; left out",
        ),
        (
            "note",
            "repeated row",
            repeated - contradicted,
            "in several rows that agree; the first was used",
        ),
        ("warning", "file without row", present - set(paths), "without a row; left out"),
    )

    # A repeated row is left out, but its picture is not.
    rows = {
        kind: [
            _name_row(table, index)
            for index, path in enumerate(paths)
            if path in names and kind != "repeated row"
        ]
        for _, kind, names, _ in kinds
    }
    rows["repeated row"] = [
        _name_row(table, index) for index, path in enumerate(paths) if first[path] != index
    ]
    findings = [
        Finding(
            severity,
            kind,
            table,
            f"{message}: {list_some(sorted(names))} ({len(names)} in all)",
            pictures=tuple(sorted(names)) if severity == "warning" else (),
            rows=tuple(rows.get(kind, ())),
        )
        for severity, kind, names, message in kinds
        if names
    ]
    usable = sorted(set(first) - missing - blank - contradicted)
    return [first[path] for path in usable], findings


def _name_row(table: str, index: int) -> str:
    return f"{table}, row {index + 2}"


def _parse_frame(text: str, table: Path) -> int:
    if not text:
        return -1
    if not re.fullmatch(r"[0-9]{1,15}(\.0+)?", text):
        raise DataError(f"{table}: a frame must be a whole number or empty, and one is '{text}'")
    return int(text.split(".")[0])


def _refuse_columns(spec: IngestSpec) -> None:
    for option in ("label_column", "subject_column", "clip_column", "frame_column"):
        if getattr(spec, option):
            raise DataError(
                f"{option} names a column of {METADATA_FILE}, and the folder has no such file"
            )


# Subjects and clips


def _search_pattern(
    paths: Sequence[str], pattern: str, noun: str
) -> tuple[list[str], list[Finding]]:
    """Return the text that the pattern finds in each path, empty if it finds nothing, and findings
    about that.

    The pattern is searched in the paths below the folder. If it finds more in the bare names of the
    files, as one that begins with ^ does, it is searched in the names of all files.
    """
    # Search paths and names, and use what finds more.
    values = _extract_groups(paths, pattern, noun)
    in_names = _extract_groups([path.rpartition("/")[2] for path in paths], pattern, noun)
    by_name = sum(map(bool, in_names)) > sum(map(bool, values))
    if by_name:
        values = in_names
    unmatched = [path for path, value in zip(paths, values, strict=True) if not value]
    if len(unmatched) == len(paths):
        raise DataError(
            f"the {noun} pattern '{pattern}' must find the {noun} in the path of a file or in its "
            f"name, and finds it in none of {len(paths)}, such as '{paths[0]}'"
        )

    # Report both: a pattern that fits only some files is most likely wrong.
    findings = []
    if by_name:
        message = (
            f"the {noun} pattern was searched in the names of the files, where it finds more than "
            "in their paths"
        )
        findings.append(Finding("note", f"{noun} pattern", ".", message))
    if unmatched:
        message = (
            f"the {noun} pattern finds nothing in {len(unmatched)} of "
            f"{quantify(len(paths), 'path')}; their {noun} is unknown"
        )
        findings.append(Finding("warning", f"no {noun}", list_some(unmatched), message))
    return values, findings


def _extract_groups(texts: Sequence[str], pattern: str, group_name: str) -> list[str]:
    """Return the text of the pattern's group named `group_name`, or of its first group, in each
    text; empty if the pattern does not match.
    """
    group: str | int = (
        group_name if group_name in patterns.compile_pattern(pattern).groupindex else 1
    )
    matches = patterns.search_all(pattern, texts, f"the {group_name} pattern")
    return [(match.group(group) or "") if match else "" for match in matches]


def _number_clips(rows: pd.DataFrame) -> None:
    """Put the subject in front of each clip's name, and number its frames by their names if no
    column does.
    """
    pairs = zip(rows["subject"], rows["clip"], strict=True)
    rows["clip"] = [f"{subject}/{clip}" if subject and clip else clip for subject, clip in pairs]
    moving = rows["clip"] != ""
    rows["phase"] = ["" if in_clip else "still" for in_clip in moving]  # unknown within a clip
    numbers = zip(rows["path"], rows["frame"], moving, strict=True)
    rows["frame"] = [
        find_last_number(path) if in_clip and frame < 0 else frame
        for path, frame, in_clip in numbers
    ]


def _report_doubts(rows: pd.DataFrame) -> list[Finding]:
    findings = []
    if not any(rows["subject"]):
        message = (
            "no subject is known, so no result can be subject-independent; give --subject-pattern "
            "or a column of subjects"
        )
        findings.append(Finding("warning", "no subjects", ".", message))
    emotions_of: dict[str, set[str]] = {}
    for clip, emotion in zip(rows["clip"], rows["emotion"], strict=True):
        emotions_of.setdefault(clip, set()).add(emotion)
    mixed = [clip for clip, emotions in emotions_of.items() if clip and len(emotions) > 1]
    if mixed:
        message = (
            f"clips with images of several classes: {len(mixed)}; check the pattern or the column "
            "of clips"
        )
        findings.append(Finding("warning", "clip of several classes", list_some(mixed), message))
    return findings


def _describe_contents(root: Path, images: Sequence[str], findings: Sequence[Finding]) -> str:
    """Return a description of a folder that has no usable image."""
    if findings and images:
        return (
            f"found {quantify(len(images), 'image')}, none of which is usable: {findings[0].what}"
        )
    suffixes = Counter(PurePosixPath(path).suffix for path, _ in iterate_files(root, ""))
    contents = list_some(
        [
            f"{quantify(count, 'file')} {suffix or 'without suffix'}"
            for suffix, count in suffixes.most_common()
        ]
    )
    links = sum(entry.is_symlink() for _, entry in iterate_files(root, ""))
    about_links = (
        f", {'of which 1 is a link' if links == 1 else f'of which {links} are links'}: those that "
        "lead out of the folder, or to a folder, are not followed"
    )
    return f"found {contents or 'nothing'}{about_links if links else ''}"
