"""The two sides of a comparison: stored sets, folders, or parts of one set.

A table, or folders called train and test, divides one set into parts.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mien.audit import plain_folders
from mien.errors import DataError, UsageError
from mien.faces import Faces
from mien.findings import list_some
from mien.outside import read_text
from mien.pages.escape import unescape_cell
from mien.runs.progress import quantify, say
from mien.runs.spec import suggest
from mien.runs.store import Run, Store

NAME_COLUMNS = ("key", "file", "file_name", "filename", "path", "image", "name")

SIDE_COLUMNS = ("side", "split", "subset", "set", "partition", "usage")

SIDE_SYNONYMS = {"training": "train", "testing": "test", "valid": "val", "validation": "val"}
"""The names of sides, by their synonyms."""


@dataclass(frozen=True)
class ComparedSides:
    """Two runs to compare, or one run that `table` divides: it says which key is on which side.

    If `one_dataset` is true, equal names are the same people on both sides, whatever their datasets
    are called. `names` are the labels of the sides.
    """

    train: Run
    test: Run
    table: pd.DataFrame | None
    one_dataset: bool
    names: tuple[str, str]

    @property
    def digest(self) -> str:
        """The sha256 of the table, empty if there is no table."""
        if self.table is None:
            return ""
        lines = sorted(
            f"{key}\t{side}\n"
            for key, side in zip(self.table["key"], self.table["side"], strict=True)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def load_faces(self) -> tuple[Faces, Faces]:
        """Return the training and the test side."""
        train, test = (Faces.load(run.path) for run in (self.train, self.test))
        if self.table is not None:
            keys_of = {
                side: set(self.table["key"][self.table["side"] == side])
                for side in ("train", "test")
            }
            train = train.select(train.index["key"].isin(keys_of["train"]).to_numpy(dtype=bool))
            test = test.select(test.index["key"].isin(keys_of["test"]).to_numpy(dtype=bool))
        return (_drop_dataset(train), _drop_dataset(test)) if self.one_dataset else (train, test)


def find_compared_sides(
    train: str,
    test: str | None,
    store: Store,
    *,
    split: Path | None = None,
    between: str = "train:test",
    one_dataset: bool = False,
    synthetic: bool = False,
    subject_pattern: Sequence[str] = (),
    clip_pattern: Sequence[str] = (),
    map: Mapping[str, str] | None = None,
    size: int | None = None,
) -> ComparedSides:
    """Return the two sides that a user names.

    `train` and `test` are runs, aliases or folders; a folder is read into the store first
    (`plain_folders.read_sides`). Without `test`, `train` is divided by the CSV file `split`, which
    has a column with keys or file names and one with sides, or else by folders called train and
    test above its classes. `between` names the two sides that are compared, such as train:val.
    Patterns are for both sides, or begin with the one that they are for, as in `train:(s[0-9]+)_`.
    The images of a folder `test` that is `synthetic` count as generated, and show no person.

    Raises UsageError if the options do not name two sides, DataError for a table that does not fit,
    StoreError for a name that is neither in the store nor a folder.
    """
    # Options that contradict each other
    if test is not None and split is not None:
        raise UsageError("--split divides one set, and two were given; omit TEST or --split")
    if test is None and synthetic:
        raise UsageError(
            "--synthetic is about the second set, and only one was given; name the synthetic set "
            "after it"
        )

    # Read the sets that are folders
    first, second = _parse_between(between)
    real: tuple[plain_folders.Side, ...] = (
        ("train",) if test is None or synthetic else ("train", "test")
    )
    options = plain_folders.make_reading(real, subject_pattern, clip_pattern, map, size)
    named: dict[plain_folders.Side, str] = (
        {"train": train} if test is None else {"train": train, "test": test}
    )
    named_sides = plain_folders.find_sides(named, options, store)
    folders = [named_side for named_side in named_sides if named_side.folder is not None]
    if synthetic and named_sides[1].folder is None:
        raise UsageError(
            f"--synthetic is about a folder, and {test} is in the store already; omit --synthetic"
        )
    runs = plain_folders.read_sides(named_sides, options, store, "test" if synthetic else "")

    # Two sets
    labels = tuple(named_side.label for named_side in named_sides)
    if test is not None:
        test_run = plain_folders.mark_synthetic(runs["test"], store) if synthetic else runs["test"]
        return ComparedSides(
            runs["train"], test_run, None, one_dataset or bool(folders), (labels[0], labels[1])
        )

    # One set, divided by a table or by folders
    keys = list(Faces.load(runs["train"].path).index["key"])
    table = _read_division(split, keys) if split is not None else _divide_by_folder(keys, train)
    divided = _select_two(table, first, second, len(keys))
    names = (f"{labels[0]} ({first})", f"{labels[0]} ({second})")
    return ComparedSides(runs["train"], runs["train"], divided, one_dataset, names)


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the column names, in lower case, and the rows of a CSV file.

    Cells are separated by commas or, as some programs write it, by semicolons; empty rows are left
    out. Raises DataError if the file cannot be read, or has no row.
    """
    try:
        text = read_text(path, "a table in CSV")
        first = text.partition("\n")[0]
        separator = ";" if first.count(";") > first.count(",") else ","
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [[unescape_cell(cell).strip() for cell in line] for line in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a readable table in CSV and UTF-8: {error}") from None
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise DataError(
            f"{path} needs a line of column names and a row per image; it has "
            f"{quantify(len(lines), 'line')}"
        )
    columns = [cell.lower() for cell in lines[0]]
    return columns, [line + [""] * (len(columns) - len(line)) for line in lines[1:]]


# Names


def _parse_between(text: str) -> tuple[str, str]:
    names = [_normalise_side(name) for name in text.split(":")]
    if len(names) != 2 or "" in names or names[0] == names[1]:
        raise UsageError(f"--between must name two sides, such as train:val; given: '{text}'")
    return names[0], names[1]


def _drop_dataset(faces: Faces) -> Faces:
    """Return the faces with the dataset's name removed from their subjects and clips."""
    plain = {
        column: pd.Series(
            [name.partition(":")[2] or name for name in faces.index[column]], dtype="str"
        )
        for column in ("subject", "clip")
    }
    return replace(faces, index=faces.index.assign(**plain))


# Tables


def _read_division(path: Path, keys: list[str]) -> pd.DataFrame:
    """Return the key and side of each row of a CSV file.

    A file name means the only key that ends with it.
    """
    # The columns with names and sides
    columns, lines = read_table(path)
    name_column, side_column = (
        _find_column(columns, usual_names, path) for usual_names in (NAME_COLUMNS, SIDE_COLUMNS)
    )
    blank = [
        number
        for number, line in enumerate(lines, start=2)
        if not (line[name_column] and line[side_column])
    ]
    if blank:
        raise DataError(
            f"{path}: each row needs a name and a side; row {blank[0]} lacks one. Complete it"
        )

    # Match each name to the only key that ends with it
    matched, unmatched = match_names([line[name_column] for line in lines], keys)
    if unmatched:
        raise DataError(
            f"{path} must name images of the set, each by the end of one key; {len(unmatched)} of "
            f"{len(lines)} names fit no key or several, such as {list_some(unmatched, 3)}. Keys "
            f"are like {list_some(keys, 2)}. Give keys, or paths below the folder"
        )
    return pd.DataFrame(
        {"key": matched, "side": [_normalise_side(line[side_column]) for line in lines]},
        dtype="str",
    ).drop_duplicates()


def _find_column(columns: list[str], usual_names: tuple[str, ...], path: Path) -> int:
    for name in usual_names:
        if name in columns:
            return columns.index(name)
    hint = "".join(suggest(name, list(usual_names)) for name in columns[:1])
    raise DataError(
        f"{path} needs a column {' or '.join(usual_names)}; it has {', '.join(columns)}.{hint}"
    )


def match_names(names: list[str], keys: list[str]) -> tuple[list[str], list[str]]:
    """Match each name to the one key that ends with it; also return names without such a key."""
    key_of_end: dict[str, str] = {}
    for key in keys:
        parts = key.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            key_of_end[end] = key if end not in key_of_end else ""
    key_of_end |= {key: key for key in keys}
    plain = [name.replace("\\", "/").removeprefix("./") for name in names]
    matched = [key_of_end.get(name, "") for name in plain]
    return matched, [name for name, key in zip(names, matched, strict=True) if not key]


def _divide_by_folder(keys: list[str], name: str) -> pd.DataFrame:
    """Return the sides by the folders above the classes, as in dataset/train/fear/1.png."""
    sides = [_normalise_side(key.split("/")[1]) if key.count("/") > 1 else "" for key in keys]
    if not {"train", "test", "val"} & set(sides):
        raise UsageError(
            f"leakage needs two sides: give two sets (mien leakage TRAIN TEST), or divide {name} "
            "with --split FILE.csv (columns file or key, and side), or by folders called train "
            "and test above its classes"
        )
    return pd.DataFrame({"key": keys, "side": sides}, dtype="str")


def _select_two(table: pd.DataFrame, first: str, second: str, total: int) -> pd.DataFrame:
    """Return the rows of the two sides, called train and test; report images of other sides."""
    existing = sorted(set(table["side"]) - {""})
    missing = [side for side in (first, second) if side not in existing]
    if missing:
        raise DataError(
            f"the sides must be called {first} and {second}, and there is no {missing[0]}; found: "
            f"{list_some(existing, 8)}. --between A:B names the two sides to compare"
        )
    rows = table[table["side"].isin([first, second])]
    left_out = total - rows["key"].nunique()
    if left_out:
        say(
            f"{left_out:,} of {quantify(total, 'image')} {'is' if left_out == 1 else 'are'} "
            f"neither {first} nor {second}, and {'was' if left_out == 1 else 'were'} left out"
        )
    return rows.assign(side=np.where(rows["side"] == first, "train", "test")).reset_index(drop=True)


def _normalise_side(text: str) -> str:
    plain = text.strip().lower()
    return SIDE_SYNONYMS.get(plain, plain)
