"""What a reader is, and the listing that it makes of a folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.licences import Terms
from mien.pictures import Picture

# Files that hold many pictures, each encoded as in a file of its own.
TABLE_SUFFIXES = frozenset({".parquet", ".arrow"})

WHOLE_FILE = -1  # in place of a picture's position in a file: the file is the picture

Unpack = Callable[[Path, Sequence[int]], Iterator[Picture | DataError]]


@dataclass(frozen=True)
class Reader:
    """What a reader is for: shown to users, and the source of defaults."""

    dataset: str  # the default name of what it reads; empty: the folder's own name
    title: str  # the usual name of the set
    needs: str  # FOLDER with ...
    subjects: str  # where they come from: "the sheet"
    clips: str
    licence: str
    terms: Terms | None  # what its owners allow; None: only the licence of what is read says
    citation: str  # empty only where there is nothing to cite
    obtain: str
    labels: dict[str, str]  # the source's label in lower case -> one of EMOTIONS, or LEFT_OUT
    # Names of the set besides those of reader and dataset, in lower case: ck+ for ckplus.
    other_names: tuple[str, ...] = ()
    # The fields of IngestSpec that this reader takes in addition to those that all readers take.
    options: tuple[str, ...] = ()
    # The values of `part`, the usual one first, each with its description.
    parts: dict[str, str] = field(default_factory=dict)
    generic: bool = False  # it reads any folder of images: `auto` tries it last
    # Suffixes of files that hold many pictures, all of which must be accounted for: .avi
    holders: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Listing:
    """The images of a folder, before any is decoded.

    `rows` has one row per image: path and key relative to `root`, subject and clip without
    the dataset's name, and frame, phase, emotion, raw_label, action_units as in faces.COLUMNS.
    `annotations` are the other files that the listing depends on, such as the sheet. `part` says
    which of the reader's parts was read.

    One file may hold many pictures, such as a video or a table. The column `place` then has the
    position of a row's picture in its file, or WHOLE_FILE. `unpack` yields the pictures at given
    positions of a file, in that order, or the error about one; it holds only a few at a time.
    `picture_positions` has the positions of all pictures in each such file. A column `box` may have
    the face's left, top, width and height in the picture, or None. A column `white` may have the
    value that is white in a picture of more than 8 bits.

    `annotation_rows` has all rows of sheets, tables and annotations: the name of each
    ("casme2.csv, row 12"), and the clip or key that it gives, or an empty text. A row is kept if
    its clip or key is listed, and is otherwise in `Finding.rows`. Only `scan` fills in
    `picture_files` and `root_in_folder`: the pictures below the folder that was given, and the path
    of `root` in that folder. `channels` names the channels that each picture shows as a strip
    (mien.prepare.strips), as the pictures of a release of clips do; it is empty otherwise.
    """

    root: Path
    rows: pd.DataFrame
    annotations: tuple[Path, ...]
    findings: tuple[Finding, ...]
    licence: str
    part: str | None = None
    unpack: Unpack | None = None
    annotation_rows: Mapping[str, str] = field(default_factory=dict)
    picture_positions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    picture_files: tuple[str, ...] = ()
    root_in_folder: str = "."
    channels: tuple[str, ...] = ()

    def list_paths(self) -> list[Path]:
        """Return the path of each row's image, or of the file that holds it."""
        return [self.root / path for path in self.rows["path"]]

    def list_names(self) -> list[str]:
        """Return the name of each image: its path, and after a '#' its position in that file."""
        return list_picture_names(self.rows)

    def group_by_file(self) -> tuple[list[int], dict[Path, list[int]]]:
        """Return the rows whose file is a picture, and those in each file of many pictures.

        The rows in one file are in the order of their pictures.
        """
        if "place" not in self.rows or self.unpack is None:
            return list(range(len(self.rows))), {}
        positions = np.asarray(self.rows["place"], dtype=np.int64)
        files: list[int] = []
        inside: dict[Path, list[int]] = {}
        for row, path in enumerate(self.list_paths()):
            if positions[row] == WHOLE_FILE:
                files.append(row)
            else:
                inside.setdefault(path, []).append(row)
        return files, {
            path: sorted(rows, key=lambda row: positions[row]) for path, rows in inside.items()
        }

    def extract(self, path: Path, rows: Sequence[int]) -> Iterator[tuple[int, Picture | DataError]]:
        """Yield some rows of a file of many pictures, each with its picture or the error."""
        if self.unpack is not None:
            positions = np.asarray(self.rows["place"], dtype=np.int64)[list(rows)].tolist()
            yield from zip(rows, self.unpack(path, positions), strict=True)


def list_picture_names(rows: pd.DataFrame) -> list[str]:
    """Return the names of the images in some rows of a listing."""
    if "place" not in rows:
        return list(rows["path"])
    positions = zip(rows["path"], rows["place"], strict=True)
    return [
        path if position == WHOLE_FILE else f"{path}#{position}" for path, position in positions
    ]


def make_dataset_error(root: Path, reader: Reader, lacking: str = "") -> DataError:
    """Return the error that says what a folder must hold, what it holds, and how to obtain the
    set.
    """
    contents = list_some(sorted(ascii(path.name)[1:-1] for path in root.iterdir()), 8)
    return DataError(
        f"{root} must hold "
        f"{reader.needs.removeprefix('FOLDER with ')}{f', and {lacking}' if lacking else ''}; "
        f"found: {contents or 'nothing'}. To obtain the set, {reader.obtain}"
    )
