"""Sheets that come with datasets: workbooks and CSV files as text, with their header and columns found."""

import csv
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl

from mien.errors import DataError
from mien.ingest import Finding, some

Cells = list[list[str]]
Columns = dict[str, tuple[str, ...]]  # what we call a column -> how sheets spell it, in small letters and digits alone
MAX_CELLS = 5_000_000  # a damaged or hostile workbook may hold any number
MAX_BYTES = 200_000_000  # of a file, or of what is packed in a workbook
_NUMBER = re.compile(r"^[0-9]{1,9}(\.0+)?$")


@dataclass(frozen=True)
class Table:
    """The rows of a sheet below its header, with where each column is."""

    sheet: Path
    cells: Cells
    head: int  # the row of the header, from 0; -1 where there is none
    places: dict[str, list[int]]  # a header may stand twice

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the number of each row that is not empty, as people count, and its text by column."""
        for line, row in enumerate(self.cells[self.head + 1 :], start=self.head + 2):
            values = {name: _cell(row, places[0]) for name, places in self.places.items() if places}
            if any(values.values()):
                yield line, values

    def all(self, line: int, column: str) -> list[str]:
        """Return what a row has in each of the places where `column` stands."""
        return [_cell(self.cells[line - 1], place) for place in self.places.get(column, ())]


def find_sheet(
    root: Path, tree: Path, pattern: re.Pattern[str], wanted: str | None, usual: str
) -> tuple[Path, Finding]:
    """Return the sheet whose name `pattern` matches: in `root`, or between it and `tree`, or up to two folders above.

    Among several the newest date in a name wins, then the highest version. Raises DataError if there is none, or none
    called `wanted`; `usual` is the name that it has in the release.
    """
    places = [root, *(place for place in tree.parents if place.is_relative_to(root)), tree]
    places += [place for place in sorted(root.iterdir()) if place.is_dir() and not place.is_symlink()]
    if tree == root:
        places += list(root.parents)[:2]
    files = {path: None for place in places for path in _files(place) if pattern.match(path.name)}
    sheets = sorted(files, key=lambda path: _age(path.name), reverse=True)
    if wanted is not None:
        sheets = [path for path in sheets if path.name.lower() == wanted.lower()]
    if not sheets:
        names = ", ".join(path.name for path in files)
        raise DataError(
            f"{root} must hold the coding sheet {wanted or usual}, "
            f"and {'has only ' + names if names else 'has none'}; it comes with the release: put it beside {tree.name}"
        )
    others = [path.name for path in sheets[1:]]
    what = f"labels were read from it{f', and not from {some(others)}' if others else ''}"
    return sheets[0], Finding("note", "sheet", sheets[0].name, what)


def pages(sheet: Path) -> dict[str, Cells]:
    """Return the cells of each page as text, by the page's title in the order of the workbook; a CSV file has one.

    Raises DataError if the sheet cannot be read.
    """
    if sheet.suffix.lower() == ".xls":
        raise DataError(
            f"{sheet} must be a sheet in .xlsx or .csv, and is in the old .xls; open it and save it as .xlsx"
        )
    try:
        _check_size(sheet.stat().st_size)
        if sheet.suffix.lower() == ".csv":
            return {"": [[cell.strip() for cell in row] for row in _csv(sheet.read_bytes())]}
        with zipfile.ZipFile(sheet) as packed:
            _check_size(sum(each.file_size for each in packed.infolist()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles, which nobody needs here
            book = openpyxl.load_workbook(sheet, data_only=True, read_only=True)
        try:
            return {page.title: _page(page.iter_rows(values_only=True)) for page in book.worksheets}
        finally:
            book.close()
    except Exception as error:  # a damaged workbook fails in many ways
        raise DataError(f"{sheet} must be a sheet that can be read, and is not: {error}; copy it anew") from None


def table(sheet: Path, columns: Columns, optional: Iterable[str] = ()) -> Table:
    """Return the table below the row that has the most of `columns`, on any page; notes may stand above it.

    Raises DataError if a column that is not optional is missing.
    """
    best = max((_headed(sheet, cells, columns) for cells in pages(sheet).values()), key=_columns, default=None)
    needed = {column: known[0] for column, known in columns.items() if column not in set(optional)}
    places = best.places if best else {}
    missing = [name for column, name in needed.items() if not places.get(column)]
    if best is None or missing:
        has = ", ".join(cell for cell in best.cells[best.head] if cell) if best and best.cells else ""
        raise DataError(
            f"{sheet} must have the columns {', '.join(needed.values())}; {', '.join(missing)} is missing, it has "
            f"{has[:300] or 'none'}. Take the sheet of the release as it came"
        )
    return best


def number(text: str) -> int | None:
    """Return a frame's number, or None where a cell has none, such as '/'."""
    return int(text.split(".")[0]) if _NUMBER.match(text) else None


def _headed(sheet: Path, cells: Cells, columns: Columns) -> Table:
    """Return the table below the row, among the first, that has the most of the columns."""
    headers = [[re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in row] for row in cells[:200]]
    tables = []
    for head, names in enumerate(headers):
        places: dict[str, list[int]] = {}
        for column, known in columns.items():
            spelling = next((spelling for spelling in known if spelling in names), None)
            places[column] = [place for place, name in enumerate(names) if name == spelling]
        tables.append(Table(sheet, cells, head, places))
    return max(tables, key=_columns, default=Table(sheet, cells, 0, {}))


def _columns(found: Table) -> int:
    return sum(map(bool, found.places.values()))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.name.isprintable() and not path.name.startswith(("~$", ".")) and path.is_file()
        )
    except OSError:  # a folder above, or one of others, that we may not read
        return []


def _age(name: str) -> tuple[bool, str, str, bool]:
    date = re.search(r"[0-9]{8}", name)
    version = re.search(r"v([0-9]+)", name, re.IGNORECASE)
    form = name.lower().rsplit(".", 1)[1]
    return form != "xls", date[0] if date else "", version[1].zfill(4) if version else "", form == "xlsx"


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"it must have at most {MAX_BYTES:,} bytes, and unpacked it has {size:,}")


def _page(rows: Iterable[Sequence[Any]]) -> Cells:
    cells: Cells = []
    count = 0
    for row in rows:
        texts = [_text(cell) for cell in row]
        count += sum(map(bool, texts))
        if count > MAX_CELLS:
            raise DataError(f"it must have at most {MAX_CELLS:,} cells, and has more")
        cells.append(texts if any(texts) else [])  # some sheets are formatted down to their millionth row
    return cells


def _csv(content: bytes) -> Iterable[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("gb18030")  # what Excel writes in Chinese
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    return csv.reader(lines, delimiter=separator)


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _cell(row: Sequence[str], place: int) -> str:
    return row[place] if place < len(row) else ""
