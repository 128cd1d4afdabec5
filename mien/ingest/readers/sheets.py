"""Sheets of datasets: workbooks and CSV files, with header and columns.

A spreadsheet may hide what its author has withdrawn, and may show other values than it stores. So a
hidden page gives no labels, two pages that contradict each other are refused, and other
irregularities are reported.
"""

import csv
import posixpath
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openpyxl
from openpyxl.utils import get_column_letter, range_boundaries

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.copied_files import find_copies
from mien.runs.progress import quantify
from mien.runs.spec import suggest

Cells = list[list[str]]

# The name of a column -> its spellings in sheets, as lower-case letters and digits only.
ColumnSpellings = dict[str, tuple[str, ...]]

MAX_SHEET_CELLS = 5_000_000  # a damaged or hostile workbook may hold any number

MAX_FILLED_ROWS = 50_000  # rows that are not empty; the largest set of clips has some thousands

MAX_LINES = 1_048_576  # rows of a page, in any spreadsheet program

MAX_SHEET_BYTES = 200_000_000  # of a file, or of the unpacked content of a workbook

MAX_PAGE_BYTES = 30_000_000  # bytes of the pages in a workbook, unpacked

_WHOLE_NUMBER = re.compile(r"^[0-9]{1,9}(\.0+)?$")

_WHOLE_WHOLE_NUMBER = re.compile(r"^([0-9]{1,15})\.0+$")

_DATE = re.compile(
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}([ "
    r"T][0-9:.]+)?|[0-9]{1,2}-[A-Za-z]{3}(-[0-9]{2,4})?|[A-Za-z]{3}-[0-9]{2}"
    r"|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4})$"
)

# Characters that are not visible.
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))

_SHEET_SUFFIXES = (".xlsx", ".xlsm", ".csv", ".tsv")


@dataclass(frozen=True)
class SheetPage:
    """One page of a workbook: its cells as text, and which of them are hidden, merged or not
    stored. Row and column numbers are from 0.
    """

    title: str
    cells: Cells
    visible: bool = True
    hidden_rows: frozenset[int] = frozenset()
    hidden_columns: frozenset[int] = frozenset()
    filtered: bool = False
    # Ranges over several rows; in `cells`, all their cells have the value of the first one.
    merged: tuple[str, ...] = ()
    # The cells with formulas whose last value is not stored.
    unstored: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class SheetTable:
    """The rows of a sheet below its header, the positions of its columns, and findings about the
    page.
    """

    sheet: Path
    cells: Cells
    header_row: int  # the row of the header, from 0; -1 if there is none
    positions: dict[str, list[int]]  # column numbers; a header may occur twice
    page: SheetPage | None = None
    findings: tuple[Finding, ...] = ()

    def iterate_rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the number of each row that is not empty, from 1, and its text by column.

        Whole numbers are written without a point, whatever the type of their cells.
        """
        for line, row in enumerate(self.cells[self.header_row + 1 :], start=self.header_row + 2):
            if any(row):
                yield (
                    line,
                    {
                        name: _normalise_number(_get_cell(row, positions[0]))
                        for name, positions in self.positions.items()
                        if positions
                    },
                )

    def read_texts(self, line: int, column: str) -> list[str]:
        """Return a row's text in each of the positions of `column`."""
        row = self.cells[line - 1]
        return [
            _normalise_number(_get_cell(row, position))
            for position in self.positions.get(column, ())
        ]

    def read_text(self, line: int) -> str:
        """Return the text of all cells in a row."""
        return " | ".join(cell for cell in self.cells[line - 1] if cell)

    def repeats_header(self, line: int) -> bool:
        """Return whether a row repeats the header."""
        if self.header_row < 0:
            return False
        header, row = (
            {_normalise_header(cell) for cell in self.cells[number]} - {""}
            for number in (self.header_row, line - 1)
        )
        return len(row) > 1 and row <= header


def parse_page(sheet: str | None) -> str | None:
    """Return the page that `FILE#PAGE` names."""
    return sheet.rpartition("#")[2] if sheet and "#" in sheet else None


def find_sheet(
    root: Path, tree: Path, pattern: re.Pattern[str], sheet: str | None, usual: str
) -> tuple[Path, Finding]:
    """Return the sheet whose name `pattern` matches: in `root`, or between it and `tree`,
    or up to two folders above.

    Of several sheets the one with the newest date in its name is chosen, then the one with the
    highest version, and an original rather than its copy. A sheet that is `sheet`, by its name or
    as NAME#PAGE, may have any name. Raises DataError if there is no sheet; `usual` is its name in
    the release.
    """
    # The folders in which a release may hold its sheet.
    folders = [root, *(folder for folder in tree.parents if folder.is_relative_to(root)), tree]
    folders += [path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink()]
    if tree == root:
        folders += list(root.parents)[:2]
    files = {path: None for folder in folders for path in _list_files(folder)}

    # Choose the newest revision, or the file that the user names.
    candidates = [
        path
        for path in files
        if _is_named_like_sheet(path, pattern) and path.suffix.lower() in (*_SHEET_SUFFIXES, ".xls")
    ]
    doubles = find_copies(str(path) for path in candidates)
    sheets = sorted(
        candidates,
        key=lambda path: (str(path) not in doubles, *_rank_revision(path.name)),
        reverse=True,
    )
    name = sheet.rpartition("#")[0] if sheet and "#" in sheet else sheet
    if name:
        names = {text.lower() for text in (sheet, name) if text}
        sheets = [path for path in files if path.name.lower() in names]
    if not sheets:
        alike = [path for path in files if _is_named_like_sheet(path, pattern)]
        raise _make_no_sheet_error(root, tree, name or usual, candidates, alike)

    other_names = [path.name for path in sheets[1:]]
    not_read = f", and not from {list_some(other_names)}" if other_names else ""
    message = f"labels were read from it{not_read}"
    return sheets[0], Finding("note", "sheet", sheets[0].name, message)


def _is_named_like_sheet(path: Path, pattern: re.Pattern[str]) -> bool:
    """Return whether a file is named as a sheet is, whatever its form."""
    return bool(pattern.match(f"{path.name[: len(path.name) - len(path.suffix)]}.xlsx"))


def _make_no_sheet_error(
    root: Path, tree: Path, name: str, files: Sequence[Path], alike: Sequence[Path]
) -> DataError:
    other_sheets = [
        path.name
        for path in alike
        if path not in files and path.suffix.lower() in (".ods", ".xlsb", ".numbers")
    ]
    if other_sheets:
        return DataError(
            f"{root} must hold the coding sheet {name}, and has {list_some(other_sheets)}; save it "
            "as .xlsx or .csv"
        )
    names = list_some([path.name for path in files])
    hint = suggest(name, [path.name for path in files])
    return DataError(
        f"{root} must hold the coding sheet {name}, and has "
        f"{'only ' + names if names else 'none'}.{hint} It comes with the release: put it next to "
        f"{tree.name}"
    )


def read_pages(sheet: Path) -> list[SheetPage]:
    """Return the pages of a workbook in its order; a CSV file has one, whose title is empty.

    The form of a file is known from its first bytes. Raises DataError if the sheet cannot be read.
    """
    try:
        # A suffix may be wrong, so the first bytes decide.
        _check_size(sheet.stat().st_size)
        with sheet.open("rb") as file:
            begin = file.read(8)
        if begin.startswith(b"PK"):
            return _read_workbook(sheet)
        if begin.startswith(b"\xd0\xcf\x11\xe0") or sheet.suffix.lower() == ".xls":
            raise _OldFormatError
        if sheet.suffix.lower() in (".xlsx", ".xlsm"):
            raise DataError("it is not a workbook; copy it again")
        cells = _limit_rows(
            [_convert_cell_to_text(cell) for cell in row] for row in _read_csv(sheet.read_bytes())
        )
        return [SheetPage("", cells)]

    # Every error says which sheet it is about, and what to do.
    except _OldFormatError:
        raise DataError(
            f"{sheet} must be a sheet in .xlsx or .csv, and is in the old .xls; open it and save "
            "it as .xlsx (a workbook that is locked by a password looks the same)"
        ) from None
    except DataError as error:
        raise DataError(f"{sheet} must be a sheet that can be read, and is not: {error}") from None
    except Exception as error:  # a damaged workbook fails in many ways
        raise DataError(
            f"{sheet} must be a sheet that can be read, and is not: {error}; copy it again"
        ) from None


class _OldFormatError(Exception):
    """The sheet is in a format from before 2007."""


def read_sheet_table(
    sheet: Path,
    columns: ColumnSpellings,
    optional: Iterable[str] = (),
    page: str | None = None,
    repeats: Collection[str] = (),
) -> SheetTable:
    """Return the table below the row that has the most of `columns`, on the visible page that
    has them.

    Notes may precede the table. `page` names another page; `repeats` are columns
    that may occur twice with different values. Raises DataError if a column that is not optional is
    missing, if several pages have the columns and do not say the same, if a column occurs twice
    with different values, or if a formula's value is not stored.
    """
    needed = {
        column: spellings[0] for column, spellings in columns.items() if column not in set(optional)
    }
    tables = [_find_header(sheet, candidate, columns) for candidate in _select_pages(sheet, page)]
    complete = [table for table in tables if all(table.positions.get(column) for column in needed)]
    if not complete:
        raise _make_missing_columns_error(sheet, tables, needed)
    chosen = choose_page(sheet, complete, page)
    require_stored_values(chosen, needed)
    return replace(
        chosen,
        findings=(
            *chosen.findings,
            *_check_repeated_columns(chosen, repeats, columns),
            *report_hidden(chosen),
        ),
    )


def choose_page(sheet: Path, tables: Sequence[SheetTable], page: str | None) -> SheetTable:
    """Return the table of the visible page; of several that say the same, the one with the most
    rows.

    Its findings name the page. Raises DataError if only hidden pages have a table, or if several
    contradict each other.
    """
    # A hidden page is read only if the user names it: its author may have withdrawn it.
    visible = [
        table for table in tables if page is not None or table.page is None or table.page.visible
    ]
    if not visible:
        raise DataError(
            f"{sheet} must have its table on a visible page, and has it on a hidden one: "
            f"{list_some([_format_page_title(table) for table in tables])}. Unhide it, or name it "
            "with "
            f"--sheet '{sheet.name}#PAGE'"
        )

    # Other pages must say the same.
    best = max(visible, key=lambda table: sum(1 for _ in table.iterate_rows()))
    findings = [
        _compare_pages(sheet, best, other_page) for other_page in visible if other_page is not best
    ]

    titles = [_format_page_title(table) for table in tables if table not in visible]
    if titles:
        message = f"hidden pages with the same columns, not read: {len(titles)}"
        findings.append(
            Finding("note", "hidden page", f"{sheet.name}: {list_some(titles)}", message)
        )
    if len(tables) > 1:
        where = f"{sheet.name}: {_format_page_title(best)}"
        findings.append(Finding("note", "page", where, "labels were read from this page"))
    return replace(best, findings=(*best.findings, *findings))


def parse_number(text: str) -> int | None:
    """Return a frame's number, or None if a cell has none, such as '/'."""
    return int(text.split(".")[0]) if _WHOLE_NUMBER.match(text) else None


def is_date(text: str) -> bool:
    """Return whether a cell holds a date, which spreadsheets make of names such as 2-3."""
    return bool(_DATE.match(text))


# Pages and columns


def _select_pages(sheet: Path, page: str | None) -> list[SheetPage]:
    candidates = read_pages(sheet)
    if page is None:
        return candidates
    chosen = [
        candidate
        for candidate in candidates
        if candidate.title.strip().lower() == page.strip().lower()
    ]
    if not chosen:
        titles = [candidate.title for candidate in candidates]
        raise DataError(
            f"{sheet} must have the page '{page}', and has "
            f"{list_some([title or '(no pages)' for title in titles], 12)}.{suggest(page, titles)}"
        )
    return chosen


def _make_missing_columns_error(
    sheet: Path, tables: Sequence[SheetTable], needed: dict[str, str]
) -> DataError:
    best = max(
        tables,
        key=lambda table: (table.page is None or table.page.visible, _count_columns(table)),
        default=None,
    )
    missing = [
        name for column, name in needed.items() if not best or not best.positions.get(column)
    ]
    has = (
        ", ".join(cell for cell in best.cells[best.header_row] if cell)
        if best and best.cells
        else ""
    )
    return DataError(
        f"{sheet} must have the columns {', '.join(needed.values())}; {', '.join(missing)} is "
        f"missing, it has {has[:300] or 'none'}. Use the sheet of the release, unchanged"
    )


def _format_page_title(table: SheetTable) -> str:
    return table.page.title if table.page else ""


def _compare_pages(sheet: Path, best: SheetTable, other_page: SheetTable) -> Finding:
    """Return the finding that another page has no more than the one that is read.

    Raises DataError if the other page contradicts it, or has clips of its own.
    """
    # Count the clips that differ between the two pages, and how.
    mine, theirs = _group_by_clip(best), _group_by_clip(other_page)
    shared = mine.keys() & theirs.keys()
    unequal = [name for name in shared if mine[name] != theirs[name]]
    labels = [
        name for name in unequal if _collect_labels(mine[name]) != _collect_labels(theirs[name])
    ]
    only_best = len(mine.keys() - theirs.keys())
    only_other = len(theirs.keys() - mine.keys())
    if unequal or only_other:
        raise DataError(
            f"{sheet} must have one page of labels, and has two with the same columns that differ: "
            f"'{_format_page_title(best)}' ({quantify(len(mine), 'clip')}) and "
            f"'{_format_page_title(other_page)}' "
            f"({quantify(len(theirs), 'clip')}); {len(labels)} have another label, "
            f"{len(unequal) - len(labels)} other frames or units, {only_best} are only in the "
            f"first and {only_other} only in the second. Name the right one: --sheet "
            f"'{sheet.name}#PAGE'"
        )

    # A page that lacks clips may be an older revision.
    lacks = f", and lacks {only_best} of its clips" if only_best else ""
    message = f"it says the same as '{_format_page_title(best)}', which was read{lacks}"
    severity = "warning" if only_best else "note"
    return Finding(
        severity, "second page", f"{sheet.name}: {_format_page_title(other_page)}", message
    )


def _group_by_clip(table: SheetTable) -> dict[tuple[str, ...], set[tuple[tuple[str, str], ...]]]:
    """Return the different rows of a page by subject and clip."""
    by_clip: dict[tuple[str, ...], set[tuple[tuple[str, str], ...]]] = {}
    for _, values in table.iterate_rows():
        name = tuple(values.get(column, "").lower().lstrip("0") for column in ("subject", "clip"))
        if all(name):
            by_clip.setdefault(name, set()).add(
                tuple(sorted((column, text.lower()) for column, text in values.items()))
            )
    return by_clip


def _collect_labels(rows: set[tuple[tuple[str, str], ...]]) -> set[str]:
    return {
        text
        for values in rows
        for column, text in values
        if column in ("emotion", "category", "kind")
    }


def _find_header(sheet: Path, page: SheetPage, columns: ColumnSpellings) -> SheetTable:
    """Return the table below the row, among the first 200, that has the most of the columns.

    A hidden column is used only if no visible one has the same header.
    """
    headers = [[_normalise_header(cell) for cell in row] for row in page.cells[:200]]
    tables = []
    for head, names in enumerate(headers):
        positions: dict[str, list[int]] = {}
        for column, spellings in columns.items():
            spelling = next((spelling for spelling in spellings if spelling in names), None)
            matching = [index for index, name in enumerate(names) if name == spelling]
            visible = [index for index in matching if index not in page.hidden_columns]
            positions[column] = visible or matching
        tables.append(SheetTable(sheet, page.cells, head, positions, page))
    return max(tables, key=_count_columns, default=SheetTable(sheet, page.cells, 0, {}, page))


def _check_repeated_columns(
    table: SheetTable, repeats: Collection[str], columns: ColumnSpellings
) -> list[Finding]:
    """Return findings about a second column that could be meant.

    Raises DataError if a column occurs twice with different values.
    """
    findings = []
    titles = table.cells[table.header_row]
    header = [_normalise_header(cell) for cell in titles]
    body = [row for row in table.cells[table.header_row + 1 :] if any(row)]
    for column, positions in table.positions.items():
        if column in repeats or not positions:
            continue

        # Two columns under one header: which is right cannot be known.
        unequal = [
            row
            for row in body
            if len({_normalise_number(_get_cell(row, index)) for index in positions}) > 1
        ]
        if unequal:
            letters = " and ".join(get_column_letter(index + 1) for index in positions)
            raise DataError(
                f"{table.sheet} must have one column {titles[positions[0]]}, and has "
                f"{len(positions)} ({letters}), which differ in {quantify(len(unequal), 'row')}; "
                "delete or rename the wrong one"
            )

        # Two columns whose headers both mean this one: the first spelling was read.
        spellings = [spelling for spelling in columns.get(column, ()) if spelling in header]
        for spelling in spellings[1:]:
            position = header.index(spelling)
            differing = sum(
                _normalise_number(_get_cell(row, position)).lower()
                != _normalise_number(_get_cell(row, positions[0])).lower()
                for row in body
            )
            if differing and column == "emotion":
                message = (
                    f"labels were read from {titles[positions[0]]}, and not from "
                    f"{titles[position]}: they differ in {quantify(differing, 'row')}"
                )
                findings.append(Finding("warning", "second column", table.sheet.name, message))
    return findings


def report_hidden(sheet: SheetTable) -> list[Finding]:
    """Return findings about rows, columns and cells that are hidden or merged, and were read."""
    page = sheet.page
    if page is None:
        return []
    where = f"{sheet.sheet.name}{f': {page.title}' if page.title else ''}"
    findings = []

    # Hidden rows: a filter hides them for the moment, an author perhaps to withdraw them.
    inside = [row for row in sorted(page.hidden_rows) if sheet.header_row < row < len(sheet.cells)]
    rows = [str(row + 1) for row in inside if any(sheet.cells[row])]
    if rows:
        how = "by a filter" if page.filtered else "by hand"
        message = (
            f"rows that are hidden {how}, and were read nevertheless: {len(rows)}; delete them if "
            "they do not count"
        )
        findings.append(
            Finding("warning", "hidden rows", f"{where}, row {list_some(rows)}", message)
        )

    # Hidden columns, if no visible one has the same header.
    used = {index for positions in sheet.positions.values() for index in positions[:1]}
    letters = [get_column_letter(index + 1) for index in sorted(page.hidden_columns & used)]
    if letters:
        message = f"hidden columns that were read, because no other has their names: {len(letters)}"
        findings.append(
            Finding("warning", "hidden column", f"{where}, column {list_some(letters)}", message)
        )

    if page.merged:
        message = f"merged cells, whose value was used for each of their rows: {len(page.merged)}"
        findings.append(
            Finding("note", "merged cells", f"{where}, {list_some(list(page.merged))}", message)
        )
    return findings


def require_stored_values(sheet: SheetTable, needed: Collection[str]) -> None:
    """Raise DataError if a formula in a column that is needed has no stored value."""
    page = sheet.page
    used = {index for column in needed for index in sheet.positions[column][:1]}
    unstored = sorted(page.unstored if page else ())
    missing = [(row, index) for row, index in unstored if row > sheet.header_row and index in used]
    if missing:
        names = list_some([f"{get_column_letter(index + 1)}{row + 1}" for row, index in missing])
        raise DataError(
            f"{sheet.sheet} must have values in its cells, and {len(missing)} hold formulas whose "
            f"values are not stored: {names}. Open it in a spreadsheet program and save it, or "
            "write the numbers themselves"
        )


def _count_columns(table: SheetTable) -> int:
    return sum(map(bool, table.positions.values()))


# Files


def _list_files(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.name.isprintable() and not path.name.startswith(("~$", ".")) and path.is_file()
        )
    except OSError:  # a folder above the root, or of another user, may not be readable
        return []


def _rank_revision(name: str) -> tuple[bool, str, str, bool]:
    date = re.search(r"(?<![0-9])(19|20)[0-9]{2}[-_.]?[01][0-9][-_.]?[0-3][0-9](?![0-9])", name)
    version = re.search(r"v([0-9]+)", name, re.IGNORECASE)
    form = name.lower().rsplit(".", 1)[1]
    day = re.sub("[^0-9]", "", date[0]) if date else ""
    return form != "xls", day, version[1].zfill(4) if version else "", form == "xlsx"


def _check_size(size: int, limit: int = MAX_SHEET_BYTES, unit: str = "") -> None:
    if size > limit:
        raise DataError(
            f"it must have at most {limit:,} bytes{unit}, and unpacked it has {size:,}; copy its "
            "table into a new sheet"
        )


def _read_workbook(sheet: Path) -> list[SheetPage]:
    with sheet.open("rb") as file, zipfile.ZipFile(file) as packed:
        # Check the unpacked sizes first: a small hostile file may unpack to any size.
        entries = packed.infolist()
        _check_size(sum(entry.file_size for entry in entries))
        in_pages = [entry for entry in entries if entry.filename.startswith("xl/worksheets/")]
        _check_size(sum(entry.file_size for entry in in_pages), MAX_PAGE_BYTES, " of pages")

        # The reader for large files gives values only; hidden and merged cells come from the XML.
        parts = _list_page_files(packed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles, which are not needed
            book = openpyxl.load_workbook(file, data_only=True, read_only=True)
        try:
            pages = []
            for worksheet in book.worksheets:
                worksheet.reset_dimensions()  # the size that a page states may be wrong
                cells = _limit_rows(_convert_cells_to_text(worksheet.iter_rows(values_only=True)))
                page = SheetPage(worksheet.title, cells, worksheet.sheet_state == "visible")
                if page.title in parts:
                    with packed.open(parts[page.title]) as part:
                        page = _add_page_marks(page, part)
                pages.append(page)
            return pages
        finally:
            book.close()


def _convert_cells_to_text(rows: Iterable[Sequence[Any]]) -> Iterator[list[str]]:
    return ([_convert_cell_to_text(cell) for cell in row] for row in rows)


def _limit_rows(rows: Iterable[list[str]]) -> Cells:
    """Return the rows without empty ones at the end.

    Raises DataError as soon as there are too many.
    """
    cells: Cells = []
    count, full, empty = 0, 0, list[str]()
    for line, texts in enumerate(rows):
        # Stop before a hostile sheet fills the memory.
        filled = sum(map(bool, texts))
        count, full = count + filled, full + bool(filled)
        if count > MAX_SHEET_CELLS:
            raise DataError(
                f"it must have at most {MAX_SHEET_CELLS:,} cells, and has more; copy its table "
                "into a new sheet"
            )
        if full > MAX_FILLED_ROWS or line >= MAX_LINES:
            raise DataError(
                f"it must have at most {MAX_FILLED_ROWS:,} rows, and has more; copy its table into "
                "a new sheet"
            )

        # Empty rows share one list: some sheets are formatted down to their millionth row.
        cells.append(texts if filled else empty)
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _list_page_files(packed: zipfile.ZipFile) -> dict[str, str]:
    """Return the path in the workbook of each page's file, by the page's title."""
    try:
        book = ElementTree.fromstring(packed.read("xl/workbook.xml"))
        links = ElementTree.fromstring(packed.read("xl/_rels/workbook.xml.rels"))
    except (KeyError, ElementTree.ParseError):
        return {}
    targets = {link.get("Id"): link.get("Target", "") for link in links}
    paths = {}
    for page in book.iter():
        if _strip_namespace(page) == "sheet":
            identity = next((value for name, value in page.items() if name.endswith("}id")), None)
            target = targets.get(identity, "")
            path = (
                target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")
            )
            if path in packed.namelist():
                paths[page.get("name", "")] = path
    return paths


def _add_page_marks(page: SheetPage, file: Any) -> SheetPage:
    """Return the page with the hidden and merged cells and the formulas that its XML file
    declares; merged cells are filled.
    """
    rows: set[int] = set()
    columns: set[int] = set()
    merged: list[str] = []
    unstored: set[tuple[int, int]] = set()
    filtered = False

    # Elements end after their children, so a row's cells are read before it is cleared.
    for _, element in ElementTree.iterparse(file):
        tag = _strip_namespace(element)
        if tag == "row":
            if element.get("hidden") in ("1", "true") and element.get("r", "").isdigit():
                rows.add(int(element.get("r", "")) - 1)
            element.clear()
        elif tag == "col" and element.get("hidden") in ("1", "true"):
            first, last = int(element.get("min", 1)), int(element.get("max", 1))
            columns |= set(range(first - 1, min(last, 16_384)))
        elif tag == "filterColumn":
            filtered = True
        elif tag == "mergeCell":
            merged.append(element.get("ref", ""))
        elif tag == "c":
            inside = {_strip_namespace(child): child.text for child in element}
            if "f" in inside and inside.get("v") is None and element.get("r"):
                left, top, _, _ = range_boundaries(element.get("r", ""))
                unstored.add((int(top or 1) - 1, int(left or 1) - 1))

    # Only merged ranges over several rows matter: a table is read row by row.
    tall = tuple(ref for ref in sorted(merged) if _fill_merged(page.cells, ref))
    return replace(
        page,
        hidden_rows=frozenset(rows),
        hidden_columns=frozenset(columns),
        filtered=filtered,
        merged=tall,
        unstored=frozenset(unstored),
    )


def _fill_merged(cells: Cells, ref: str) -> bool:
    """Give each row of a merged range the value of its first row, and return whether the range
    covers several rows of the table.
    """
    left, top, right, bottom = (int(bound or 1) - 1 for bound in range_boundaries(ref))
    if bottom == top or left != right or top >= len(cells) or not _get_cell(cells[top], left):
        return False
    for row in cells[top + 1 : bottom + 1]:
        if any(row):
            row.extend([""] * (left + 1 - len(row)))
            row[left] = row[left] or cells[top][left]
    return True


def _strip_namespace(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _read_csv(content: bytes) -> Iterable[list[str]]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # Excel calls it Unicode text
        text = content.decode("utf-16")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("gb18030")  # Excel writes it in Chinese
    lines = text.splitlines()
    if lines and re.fullmatch(r"sep=.", lines[0].strip(), re.IGNORECASE):
        return csv.reader(lines[1:], delimiter=lines[0].strip()[-1])
    separator = max(
        ",;\t", key=lambda mark: max((line.count(mark) for line in lines[:50]), default=0)
    )
    return csv.reader(lines, delimiter=separator)


def _convert_cell_to_text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = "" if cell is None else str(cell)
    return (
        text.strip()
        if text.isascii()
        else unicodedata.normalize("NFC", text.translate(_INVISIBLE)).strip()
    )


def _normalise_number(text: str) -> str:
    """Return a whole number without its decimal point and in ASCII digits; other text as it is."""
    if not text.isascii():
        wide = unicodedata.normalize("NFKC", text)
        text = wide if re.fullmatch(r"[0-9]+(\.0+)?", wide) else text
    match = _WHOLE_WHOLE_NUMBER.match(text)
    return match[1] if match else text


def _normalise_header(cell: str) -> str:
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def _get_cell(row: Sequence[str], index: int) -> str:
    return row[index] if index < len(row) else ""
