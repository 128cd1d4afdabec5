"""The two sides that are compared: stored sets, plain folders, or one of either that a table or folders divide."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien import ingest
from mien.errors import DataError, StoreError, UsageError
from mien.escape import bare
from mien.faces import Faces
from mien.ingest import some
from mien.progress import say
from mien.spec import nearest
from mien.store import Run, Store

NAME_COLUMNS = ("key", "file", "file_name", "filename", "path", "image", "name")
SIDE_COLUMNS = ("side", "split", "subset", "set", "partition", "usage")
WORDS = {"training": "train", "testing": "test", "valid": "val", "validation": "val"}
"""What sides are called, by what else they are called."""


@dataclass(frozen=True)
class Sides:
    """What is compared: two runs, which may be one; then `table` says which key is on which side.

    `one_dataset` says that names mean the same people on both sides, whatever the datasets are called.
    """

    train: Run
    test: Run
    table: pd.DataFrame | None
    one_dataset: bool

    @property
    def digest(self) -> str:
        """The sha256 of the table, empty where there is none."""
        if self.table is None:
            return ""
        lines = sorted(f"{key}\t{side}\n" for key, side in zip(self.table["key"], self.table["side"], strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def faces(self) -> tuple[Faces, Faces]:
        """Return the training and the test side."""
        train, test = (Faces.load(run.path) for run in (self.train, self.test))
        if self.table is not None:
            on = {side: set(self.table["key"][self.table["side"] == side]) for side in ("train", "test")}
            train = train.select(train.index["key"].isin(on["train"]).to_numpy(dtype=bool))
            test = test.select(test.index["key"].isin(on["test"]).to_numpy(dtype=bool))
        return (_short(train), _short(test)) if self.one_dataset else (train, test)


def find(
    train: str,
    test: str | None,
    store: Store,
    *,
    split: Path | None = None,
    between: str = "train:test",
    one_dataset: bool = False,
    **options: Any,
) -> Sides:
    """Return the two sides that a user names.

    `train` and `test` are runs, aliases or folders; a folder is read into the store first, by the reader `folder` with
    `options` (subject_pattern, map, size, ...). Without `test`, `train` is divided by the CSV file `split`, which has a
    column with keys or file names and one with sides, or else by folders called train and test above its classes.
    `between` names the two sides that are compared, such as train:val.

    Raises UsageError if the two sides are not told, DataError for a table that does not fit, StoreError for a name
    that is neither in the store nor a folder.
    """
    given = {name: value for name, value in options.items() if value}
    if test is not None and split is not None:
        raise UsageError("--split divides one set, and two were given; leave out TEST or --split")
    first, second = _between(between)
    named = [train] if test is None else [train, test]
    folders = [_folder(name, store) for name in named]
    if given and not any(folders):
        raise UsageError(
            f"{', '.join('--' + name.replace('_', '-') for name in given)} says how a folder is read, and "
            f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} in the store already; leave it out"
        )
    datasets = [_dataset(folder) if folder else "" for folder in folders]
    if len(set(datasets)) < len(datasets) and all(datasets):
        datasets = [f"{name[:34]}-{side}" for name, side in zip(datasets, ("train", "test"), strict=True)]
    stored = [store.run(name) for name, folder in zip(named, folders, strict=True) if folder is None]
    if stored and any(folders):  # a folder is read in the form of the set that it is compared with
        channels, height, _ = Faces.load(stored[0].path).size
        given = {"size": height, "colour": "grey" if channels == 1 else "rgb", **given}
    runs = [
        ingest.run("folder", folder, store, name=dataset, **given) if folder else store.run(name)
        for name, folder, dataset in zip(named, folders, datasets, strict=True)
    ]
    if test is not None:
        return Sides(runs[0], runs[1], None, one_dataset or any(folders))
    keys = list(Faces.load(runs[0].path).index["key"])
    table = _read(split, keys) if split is not None else _by_folder(keys, train)
    return Sides(runs[0], runs[0], _two(table, first, second, len(keys)), one_dataset)


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the column names, in lower case, and the rows of a CSV file, separated by commas or, as some programs
    write it, by semicolons; empty rows are left out.

    Raises DataError if it cannot be read, or has no row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = ";" if first.count(";") > first.count(",") else ","
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [[bare(cell).strip() for cell in line] for line in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a table in CSV and UTF-8 that can be read, and is not: {error}") from None
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise DataError(f"{path} must have a line of column names and a row an image, and has {len(lines)} lines")
    head = [cell.lower() for cell in lines[0]]
    return head, [line + [""] * (len(head) - len(line)) for line in lines[1:]]


# Names


def _between(text: str) -> tuple[str, str]:
    names = [_side(name) for name in text.split(":")]
    if len(names) != 2 or "" in names or names[0] == names[1]:
        raise UsageError(f"--between must name two sides, such as train:val; given: '{text}'")
    return names[0], names[1]


def _folder(name: str, store: Store) -> Path | None:
    """Return the folder that `name` is, nothing if it is in the store; raises StoreError if it is neither."""
    path = Path(name).expanduser()
    try:
        store.resolve(name)
    except StoreError as error:
        if path.is_dir():
            return path
        raise StoreError(f"{error}. Nor is there a folder of this name") from None
    return None


def _dataset(folder: Path) -> str:
    return ingest.slug(folder.resolve().name)


def _short(faces: Faces) -> Faces:
    """Return the faces with subjects and clips without the name of their dataset."""
    plain = {
        column: pd.Series([name.partition(":")[2] or name for name in faces.index[column]], dtype="str")
        for column in ("subject", "clip")
    }
    return Faces(faces.images, faces.index.assign(**plain), faces.seen)


# Tables


def _read(path: Path, keys: list[str]) -> pd.DataFrame:
    """Return key and side of each row of a CSV file; a file name stands for the one key that it ends."""
    head, lines = read_table(path)
    name, side = (_column(head, wanted, path) for wanted in (NAME_COLUMNS, SIDE_COLUMNS))
    blank = [number for number, line in enumerate(lines, start=2) if not (line[name] and line[side])]
    if blank:
        raise DataError(f"{path}: each row must have a name and a side, and row {blank[0]} lacks one; mend it")
    found, lost = _matched([line[name] for line in lines], keys)
    if lost:
        raise DataError(
            f"{path} must name images of the set, each by what only its key ends in, and {len(lost)} of {len(lines)} "
            f"names fit no key or several, such as {some(lost, 3)}; keys there are like {some(keys, 2)}. Give keys, or "
            "paths below the folder"
        )
    return pd.DataFrame({"key": found, "side": [_side(line[side]) for line in lines]}, dtype="str").drop_duplicates()


def _column(head: list[str], wanted: tuple[str, ...], path: Path) -> int:
    for name in wanted:
        if name in head:
            return head.index(name)
    hint = "".join(nearest(name, list(wanted)) for name in head[:1])
    raise DataError(f"{path} must have a column {' or '.join(wanted)}; it has {', '.join(head)}.{hint}")


def _matched(names: list[str], keys: list[str]) -> tuple[list[str], list[str]]:
    """Return the key of each name, which is a key or the end of one, and the names of none or of several."""
    ends: dict[str, str] = {}
    for key in keys:
        parts = key.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            ends[end] = key if end not in ends else ""
    ends |= {key: key for key in keys}
    plain = [name.replace("\\", "/").removeprefix("./") for name in names]
    found = [ends.get(name, "") for name in plain]
    return found, [name for name, key in zip(names, found, strict=True) if not key]


def _by_folder(keys: list[str], name: str) -> pd.DataFrame:
    """Return the sides that folders above the classes tell: dataset/train/fear/1.png."""
    sides = [_side(key.split("/")[1]) if key.count("/") > 1 else "" for key in keys]
    if not {"train", "test", "val"} & set(sides):
        raise UsageError(
            f"leakage is between two sides: give two sets (mien leakage TRAIN TEST), or divide {name} with --split "
            "FILE.csv (columns file or key, and side), or by folders called train and test above its classes"
        )
    return pd.DataFrame({"key": keys, "side": sides}, dtype="str")


def _two(table: pd.DataFrame, first: str, second: str, total: int) -> pd.DataFrame:
    """Return the rows of the two sides, called train and test; what else there is, is told."""
    there = sorted(set(table["side"]) - {""})
    missing = [side for side in (first, second) if side not in there]
    if missing:
        raise DataError(
            f"the sides must be called {first} and {second}, and there is no {missing[0]}; found: {some(there, 8)}. "
            "--between A:B names the two that are compared"
        )
    kept = table[table["side"].isin([first, second])]
    rest = total - kept["key"].nunique()
    if rest:
        say(f"{rest} of {total} images are neither {first} nor {second}, and are left out")
    return kept.assign(side=np.where(kept["side"] == first, "train", "test")).reset_index(drop=True)


def _side(text: str) -> str:
    plain = text.strip().lower()
    return WORDS.get(plain, plain)
