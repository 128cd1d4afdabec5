"""Sheets that come with datasets: workbooks and CSV files as text, with their page, header and
columns found.

What a spreadsheet hides may be what its author took back, and what it shows may not be what it
stores. So a hidden page gives no labels, two pages that contradict each other are refused, and all
else that is not what it seems is told.
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
from mien.ingest import Finding, some
from mien.ingest.copies import copies
from mien.progress import many
from mien.spec import nearest

Cells = list[list[str]]
Columns = dict[
    str, tuple[str, ...]
]  # what we call a column -> how sheets spell it, in small letters and digits alone
MAX_CELLS = 5_000_000  # a damaged or hostile workbook may hold any number
MAX_ROWS = 50_000  # that are not empty; the largest set of clips has some thousands
MAX_LINES = 1_048_576  # of a page, in any program
MAX_BYTES = 200_000_000  # of a file, or of what is packed in a workbook
MAX_PAGES = 30_000_000  # bytes of the pages in a workbook, unpacked
_NUMBER = re.compile(r"^[0-9]{1,9}(\.0+)?$")
_WHOLE = re.compile(r"^([0-9]{1,15})\.0+$")
_DATE = re.compile(
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}([ "
    r"T][0-9:.]+)?|[0-9]{1,2}-[A-Za-z]{3}(-[0-9]{2,4})?|[A-Za-z]{3}-[0-9]{2}"
    r"|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4})$"
)
_UNSEEN = dict.fromkeys(
    map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad")
)  # characters that are not shown
_FORMS = (".xlsx", ".xlsm", ".csv", ".tsv")


@dataclass(frozen=True)
class Page:
    """One page of a workbook: its cells as text, and what of it is hidden, merged or not stored.
    Places are from 0.
    """

    title: str
    cells: Cells
    visible: bool = True
    hidden_rows: frozenset[int] = frozenset()
    hidden_columns: frozenset[int] = frozenset()
    filtered: bool = False
    merged: tuple[
        str, ...
    ] = ()  # ranges over several rows, whose cells all have the first one's value here
    unstored: frozenset[tuple[int, int]] = (
        frozenset()
    )  # formulas without the value that they had last


@dataclass(frozen=True)
class Table:
    """The rows of a sheet below its header, with where each column is, and what is odd about the
    page.
    """

    sheet: Path
    cells: Cells
    head: int  # the row of the header, from 0; -1 where there is none
    places: dict[str, list[int]]  # a header may stand twice
    page: Page | None = None
    findings: tuple[Finding, ...] = ()

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the number of each row that is not empty, as people count, and its text by column.

        Whole numbers are written without a point, whatever the type of their cells.
        """
        for line, row in enumerate(self.cells[self.head + 1 :], start=self.head + 2):
            if any(row):
                yield (
                    line,
                    {
                        name: _plain(_cell(row, places[0]))
                        for name, places in self.places.items()
                        if places
                    },
                )

    def all(self, line: int, column: str) -> list[str]:
        """Return what a row has in each of the places where `column` stands."""
        return [_plain(_cell(self.cells[line - 1], place)) for place in self.places.get(column, ())]

    def text(self, line: int) -> str:
        """Return all that stands in a row."""
        return " | ".join(cell for cell in self.cells[line - 1] if cell)

    def heads(self, line: int) -> bool:
        """Whether a row repeats the header."""
        if self.head < 0:
            return False
        header, row = (
            {_key(cell) for cell in self.cells[place]} - {""} for place in (self.head, line - 1)
        )
        return len(row) > 1 and row <= header


def page_of(wanted: str | None) -> str | None:
    """Return the page that `FILE#PAGE` names."""
    return wanted.rpartition("#")[2] if wanted and "#" in wanted else None


def find_sheet(
    root: Path, tree: Path, pattern: re.Pattern[str], wanted: str | None, usual: str
) -> tuple[Path, Finding]:
    """Return the sheet whose name `pattern` matches: in `root`, or between it and `tree`, or up to
    two folders above.

    Among several the newest date in a name wins, then the highest version, and a copy stands behind
    its original. One that is `wanted`, by its name or as NAME#PAGE, may have any name. Raises
    DataError if there is none; `usual` is the name that it has in the release.
    """
    places = [root, *(place for place in tree.parents if place.is_relative_to(root)), tree]
    places += [
        place for place in sorted(root.iterdir()) if place.is_dir() and not place.is_symlink()
    ]
    if tree == root:
        places += list(root.parents)[:2]
    every = {path: None for place in places for path in _files(place)}
    files = [
        path for path in every if _named(path, pattern) and path.suffix.lower() in (*_FORMS, ".xls")
    ]
    doubles = copies(str(path) for path in files)
    sheets = sorted(
        files, key=lambda path: (str(path) not in doubles, *_age(path.name)), reverse=True
    )
    name = wanted.rpartition("#")[0] if wanted and "#" in wanted else wanted
    if name:
        asked = {wanted, name}
        sheets = [
            path for path in every if path.name.lower() in {each.lower() for each in asked if each}
        ]
    if not sheets:
        raise _no_sheet(
            root, tree, name or usual, files, [path for path in every if _named(path, pattern)]
        )
    others = [path.name for path in sheets[1:]]
    what = f"labels were read from it{f', and not from {some(others)}' if others else ''}"
    return sheets[0], Finding("note", "sheet", sheets[0].name, what)


def _named(path: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a file is called as a sheet is, whatever its form."""
    return bool(pattern.match(f"{path.name[: len(path.name) - len(path.suffix)]}.xlsx"))


def _no_sheet(
    root: Path, tree: Path, name: str, files: Sequence[Path], alike: Sequence[Path]
) -> DataError:
    others = [
        path.name
        for path in alike
        if path not in files and path.suffix.lower() in (".ods", ".xlsb", ".numbers")
    ]
    if others:
        return DataError(
            f"{root} must hold the coding sheet {name}, and has {some(others)}; save it as .xlsx "
            "or .csv"
        )
    names = some([path.name for path in files])
    hint = nearest(name, [path.name for path in files])
    return DataError(
        f"{root} must hold the coding sheet {name}, and has "
        f"{'only ' + names if names else 'none'}.{hint} It comes "
        f"with the release: put it beside {tree.name}"
    )


def pages(sheet: Path) -> list[Page]:
    """Return the pages of a workbook in its order; a CSV file has one, whose title is empty.

    What a file is, its first bytes say. Raises DataError if the sheet cannot be read.
    """
    try:
        _check_size(sheet.stat().st_size)
        with sheet.open("rb") as file:
            begin = file.read(8)
        if begin.startswith(b"PK"):
            return _workbook(sheet)
        if begin.startswith(b"\xd0\xcf\x11\xe0") or sheet.suffix.lower() == ".xls":
            raise _Old
        if sheet.suffix.lower() in (".xlsx", ".xlsm"):
            raise DataError("it is not a workbook; copy it again")
        cells = _limited([_text(cell) for cell in row] for row in _csv(sheet.read_bytes()))
        return [Page("", cells)]
    except _Old:
        raise DataError(
            f"{sheet} must be a sheet in .xlsx or .csv, and is in the old .xls; open it and save "
            "it as .xlsx "
            "(a workbook that is locked by a password looks the same)"
        ) from None
    except DataError as error:
        raise DataError(f"{sheet} must be a sheet that can be read, and is not: {error}") from None
    except Exception as error:  # a damaged workbook fails in many ways
        raise DataError(
            f"{sheet} must be a sheet that can be read, and is not: {error}; copy it again"
        ) from None


class _Old(Exception):
    """The sheet is in a form of before 2007."""


def table(
    sheet: Path,
    columns: Columns,
    optional: Iterable[str] = (),
    page: str | None = None,
    repeats: Collection[str] = (),
) -> Table:
    """Return the table below the row that has the most of `columns`, on the visible page that has
    them.

    Notes may stand above it. `page` names another page; `repeats` are columns that may stand twice
    with other values. Raises DataError if a column that is not optional is missing, if several
    pages have them and do not say the same, if a column stands twice and says two things, or if a
    formula's value is not stored.
    """
    needed = {column: known[0] for column, known in columns.items() if column not in set(optional)}
    found = [_headed(sheet, each, columns) for each in _pages_of(sheet, page)]
    whole = [each for each in found if all(each.places.get(column) for column in needed)]
    if not whole:
        raise _lacking(sheet, found, needed)
    chosen = one_page(sheet, whole, page)
    stored(chosen, needed)
    return replace(
        chosen, findings=(*chosen.findings, *_twice(chosen, repeats, columns), *hidden(chosen))
    )


def one_page(sheet: Path, tables: Sequence[Table], page: str | None) -> Table:
    """Return the table of the visible page, of several that say the same the one with the most
    rows, and say so.

    Raises DataError if only hidden pages have one, or if several contradict each other.
    """
    shown = [each for each in tables if page is not None or each.page is None or each.page.visible]
    if not shown:
        raise DataError(
            f"{sheet} must have its table on a page that is shown, and has it on a hidden one: "
            f"{some([_title(each) for each in tables])}. Show it, or name it with --sheet "
            f"'{sheet.name}#PAGE'"
        )
    best = max(shown, key=lambda each: sum(1 for _ in each.rows()))
    findings = []
    for other in shown:
        if other is not best:
            findings.append(_compared(sheet, best, other))
    hidden = [_title(each) for each in tables if each not in shown]
    if hidden:
        what = f"hidden pages with the same columns, not read: {len(hidden)}"
        findings.append(Finding("note", "hidden page", f"{sheet.name}: {some(hidden)}", what))
    if len(tables) > 1:
        findings.append(
            Finding(
                "note", "page", f"{sheet.name}: {_title(best)}", "labels were read from this page"
            )
        )
    return replace(best, findings=(*best.findings, *findings))


def number(text: str) -> int | None:
    """Return a frame's number, or None where a cell has none, such as '/'."""
    return int(text.split(".")[0]) if _NUMBER.match(text) else None


def dated(text: str) -> bool:
    """Whether a cell holds a date, which spreadsheets make of names such as 2-3."""
    return bool(_DATE.match(text))


# Pages and columns


def _pages_of(sheet: Path, page: str | None) -> list[Page]:
    found = pages(sheet)
    if page is None:
        return found
    chosen = [each for each in found if each.title.strip().lower() == page.strip().lower()]
    if not chosen:
        titles = [each.title for each in found]
        raise DataError(
            f"{sheet} must have the page '{page}', and has "
            f"{some([title or '(no pages)' for title in titles], 12)}."
            f"{nearest(page, titles)}"
        )
    return chosen


def _lacking(sheet: Path, found: Sequence[Table], needed: dict[str, str]) -> DataError:
    best = max(
        found,
        key=lambda each: (each.page is None or each.page.visible, _columns(each)),
        default=None,
    )
    missing = [name for column, name in needed.items() if not best or not best.places.get(column)]
    has = ", ".join(cell for cell in best.cells[best.head] if cell) if best and best.cells else ""
    return DataError(
        f"{sheet} must have the columns {', '.join(needed.values())}; {', '.join(missing)} is "
        "missing, it has "
        f"{has[:300] or 'none'}. Take the sheet of the release as it came"
    )


def _title(found: Table) -> str:
    return found.page.title if found.page else ""


def _compared(sheet: Path, best: Table, other: Table) -> Finding:
    """Say that another page has no more than the one that is read; raises DataError if it says
    something else.
    """
    mine, theirs = _by_clip(best), _by_clip(other)
    shared = mine.keys() & theirs.keys()
    unequal = [name for name in shared if mine[name] != theirs[name]]
    labels = [name for name in unequal if _labels(mine[name]) != _labels(theirs[name])]
    alone = theirs.keys() - mine.keys()
    if unequal or alone:
        raise DataError(
            f"{sheet} must say one thing, and has two pages with the columns that differ: "
            f"'{_title(best)}' "
            f"({many(len(mine), 'clip')}) and '{_title(other)}' ({many(len(theirs), 'clip')}); "
            f"{len(labels)} have "
            "another label, "
            f"{len(unequal) - len(labels)} other frames or units, "
            f"{len(mine.keys() - theirs.keys())} are only in the "
            f"first and {len(alone)} only in the second. Name the right one: --sheet "
            f"'{sheet.name}#PAGE'"
        )
    fewer = len(mine.keys() - theirs.keys())
    what = (
        f"it says the same as '{_title(best)}', which was "
        f"read{f', and lacks {fewer} of its clips' if fewer else ''}"
    )
    return Finding(
        "warning" if fewer else "note", "second page", f"{sheet.name}: {_title(other)}", what
    )


def _by_clip(found: Table) -> dict[tuple[str, ...], set[tuple[tuple[str, str], ...]]]:
    """Return what a page says by subject and clip."""
    said: dict[tuple[str, ...], set[tuple[tuple[str, str], ...]]] = {}
    for _, values in found.rows():
        name = tuple(values.get(column, "").lower().lstrip("0") for column in ("subject", "clip"))
        if all(name):
            said.setdefault(name, set()).add(
                tuple(sorted((column, text.lower()) for column, text in values.items()))
            )
    return said


def _labels(said: set[tuple[tuple[str, str], ...]]) -> set[str]:
    return {
        text
        for values in said
        for column, text in values
        if column in ("emotion", "category", "kind")
    }


def _headed(sheet: Path, page: Page, columns: Columns) -> Table:
    """Return the table below the row, among the first, that has the most of the columns; hidden
    ones if no other.
    """
    headers = [[_key(cell) for cell in row] for row in page.cells[:200]]
    tables = []
    for head, names in enumerate(headers):
        places: dict[str, list[int]] = {}
        for column, known in columns.items():
            spelling = next((spelling for spelling in known if spelling in names), None)
            there = [place for place, name in enumerate(names) if name == spelling]
            places[column] = [place for place in there if place not in page.hidden_columns] or there
        tables.append(Table(sheet, page.cells, head, places, page))
    return max(tables, key=_columns, default=Table(sheet, page.cells, 0, {}, page))


def _twice(found: Table, repeats: Collection[str], columns: Columns) -> list[Finding]:
    """Say which columns might be another's; raises DataError if one stands twice and says two
    things.
    """
    findings = []
    header = [_key(cell) for cell in found.cells[found.head]]
    body = [row for row in found.cells[found.head + 1 :] if any(row)]
    for column, places in found.places.items():
        if column in repeats or not places:
            continue
        unequal = [row for row in body if len({_plain(_cell(row, place)) for place in places}) > 1]
        if unequal:
            name = found.cells[found.head][places[0]]
            letters = " and ".join(get_column_letter(place + 1) for place in places)
            raise DataError(
                f"{found.sheet} must have one column {name}, and has {len(places)} ({letters}), "
                "which differ in "
                f"{many(len(unequal), 'row')}; delete or rename the wrong one"
            )
        spellings = [spelling for spelling in columns.get(column, ()) if spelling in header]
        for spelling in spellings[1:]:
            place = header.index(spelling)
            differ = sum(
                _plain(_cell(row, place)).lower() != _plain(_cell(row, places[0])).lower()
                for row in body
            )
            if differ and column == "emotion":
                heads = found.cells[found.head]
                what = (
                    f"labels were read from {heads[places[0]]}, and not from {heads[place]}: they "
                    "differ in "
                    f"{many(differ, 'row')}"
                )
                findings.append(Finding("warning", "second column", found.sheet.name, what))
    return findings


def hidden(found: Table) -> list[Finding]:
    """Say what of the page is hidden or merged, and read all the same."""
    page = found.page
    if page is None:
        return []
    where = f"{found.sheet.name}{f': {page.title}' if page.title else ''}"
    inside = [place for place in sorted(page.hidden_rows) if found.head < place < len(found.cells)]
    rows = [place + 1 for place in inside if any(found.cells[place])]
    used = {place for places in found.places.values() for place in places[:1]}
    letters = [get_column_letter(place + 1) for place in sorted(page.hidden_columns & used)]
    findings = []
    if rows:
        why = "by a filter" if page.filtered else "by hand"
        what = (
            f"rows that are hidden {why}, and were read all the same: {len(rows)}; delete them "
            "if they do not count"
        )
        findings.append(
            Finding(
                "warning", "hidden rows", f"{where}, row {some([str(row) for row in rows])}", what
            )
        )
    if letters:
        what = f"hidden columns that were read, for no other has their names: {len(letters)}"
        findings.append(
            Finding("warning", "hidden column", f"{where}, column {some(letters)}", what)
        )
    if page.merged:
        what = f"merged cells, whose value was taken for each of their rows: {len(page.merged)}"
        findings.append(
            Finding("note", "merged cells", f"{where}, {some(list(page.merged))}", what)
        )
    return findings


def stored(found: Table, needed: Collection[str]) -> None:
    """Raise DataError if a formula in a column that is needed has no stored value."""
    page = found.page
    places = {place for column in needed for place in found.places[column][:1]}
    unstored = sorted(page.unstored if page else ())
    lost = [(row, place) for row, place in unstored if row > found.head and place in places]
    if lost:
        names = some([f"{get_column_letter(place + 1)}{row + 1}" for row, place in lost])
        raise DataError(
            f"{found.sheet} must have values in its cells, and {len(lost)} hold formulas whose "
            "values are not stored: "
            f"{names}. Open it in a spreadsheet program and save it, or write the numbers "
            "themselves"
        )


def _columns(found: Table) -> int:
    return sum(map(bool, found.places.values()))


# Files


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
    date = re.search(r"(?<![0-9])(19|20)[0-9]{2}[-_.]?[01][0-9][-_.]?[0-3][0-9](?![0-9])", name)
    version = re.search(r"v([0-9]+)", name, re.IGNORECASE)
    form = name.lower().rsplit(".", 1)[1]
    day = re.sub("[^0-9]", "", date[0]) if date else ""
    return form != "xls", day, version[1].zfill(4) if version else "", form == "xlsx"


def _check_size(size: int, limit: int = MAX_BYTES, what: str = "") -> None:
    if size > limit:
        raise DataError(
            f"it must have at most {limit:,} bytes{what}, and unpacked it has {size:,}; copy its "
            "table into a new sheet"
        )


def _workbook(sheet: Path) -> list[Page]:
    with sheet.open("rb") as file, zipfile.ZipFile(file) as packed:
        _check_size(sum(each.file_size for each in packed.infolist()))
        inside = [each for each in packed.infolist() if each.filename.startswith("xl/worksheets/")]
        _check_size(sum(each.file_size for each in inside), MAX_PAGES, " of pages")
        parts = _parts(packed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles, which nobody needs here
            book = openpyxl.load_workbook(file, data_only=True, read_only=True)
        try:
            found = []
            for page in book.worksheets:
                page.reset_dimensions()  # what a page says of its size may be anything
                cells = _limited(_texts(page.iter_rows(values_only=True)))
                bare = Page(page.title, cells, page.sheet_state == "visible")
                if page.title in parts:
                    with packed.open(parts[page.title]) as part:
                        bare = _marked(bare, part)
                found.append(bare)
            return found
        finally:
            book.close()


def _texts(rows: Iterable[Sequence[Any]]) -> Iterator[list[str]]:
    return ([_text(cell) for cell in row] for row in rows)


def _limited(rows: Iterable[list[str]]) -> Cells:
    """Return the rows without empty ones at the end; raises DataError if there are too many, as
    soon as that is so.
    """
    cells: Cells = []
    count, full, nothing = 0, 0, list[str]()
    for line, texts in enumerate(rows):
        filled = sum(map(bool, texts))
        count, full = count + filled, full + bool(filled)
        if count > MAX_CELLS:
            raise DataError(
                f"it must have at most {MAX_CELLS:,} cells, and has more; copy its table into a "
                "new sheet"
            )
        if full > MAX_ROWS or line >= MAX_LINES:
            raise DataError(
                f"it must have at most {MAX_ROWS:,} rows, and has more; copy its table into a new "
                "sheet"
            )
        cells.append(
            texts if filled else nothing
        )  # some sheets are formatted down to their millionth row
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _parts(packed: zipfile.ZipFile) -> dict[str, str]:
    """Return in which file of a workbook each page is."""
    try:
        book = ElementTree.fromstring(packed.read("xl/workbook.xml"))
        links = ElementTree.fromstring(packed.read("xl/_rels/workbook.xml.rels"))
    except (KeyError, ElementTree.ParseError):
        return {}
    targets = {link.get("Id"): link.get("Target", "") for link in links}
    found = {}
    for page in book.iter():
        if _tag(page) == "sheet":
            identity = next((value for name, value in page.items() if name.endswith("}id")), None)
            target = targets.get(identity, "")
            path = (
                target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")
            )
            if path in packed.namelist():
                found[page.get("name", "")] = path
    return found


def _marked(page: Page, file: Any) -> Page:
    """Return the page with what its file says of hidden and merged cells, and of formulas; merged
    cells are filled.
    """
    rows: set[int] = set()
    columns: set[int] = set()
    merged: list[str] = []
    unstored: set[tuple[int, int]] = set()
    filtered = False
    for _, each in ElementTree.iterparse(file):
        tag = _tag(each)
        if tag == "row":
            if each.get("hidden") in ("1", "true") and each.get("r", "").isdigit():
                rows.add(int(each.get("r", "")) - 1)
            each.clear()
        elif tag == "col" and each.get("hidden") in ("1", "true"):
            columns |= set(range(int(each.get("min", 1)) - 1, min(int(each.get("max", 1)), 16_384)))
        elif tag == "filterColumn":
            filtered = True
        elif tag == "mergeCell":
            merged.append(each.get("ref", ""))
        elif tag == "c":
            inside = {_tag(one): one.text for one in each}
            if "f" in inside and inside.get("v") is None and each.get("r"):
                left, top, _, _ = range_boundaries(each.get("r", ""))
                unstored.add((int(top or 1) - 1, int(left or 1) - 1))
    tall = tuple(ref for ref in sorted(merged) if _fill(page.cells, ref))
    return replace(
        page,
        hidden_rows=frozenset(rows),
        hidden_columns=frozenset(columns),
        filtered=filtered,
        merged=tall,
        unstored=frozenset(unstored),
    )


def _fill(cells: Cells, ref: str) -> bool:
    """Give each row of a merged range the value of its first; returns whether it has several rows
    in the table.
    """
    left, top, right, bottom = (int(each or 1) - 1 for each in range_boundaries(ref))
    if bottom == top or left != right or top >= len(cells) or not _cell(cells[top], left):
        return False
    for row in cells[top + 1 : bottom + 1]:
        if any(row):
            row.extend([""] * (left + 1 - len(row)))
            row[left] = row[left] or cells[top][left]
    return True


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _csv(content: bytes) -> Iterable[list[str]]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # what Excel calls Unicode text
        text = content.decode("utf-16")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("gb18030")  # what Excel writes in Chinese
    lines = text.splitlines()
    if lines and re.fullmatch(r"sep=.", lines[0].strip(), re.IGNORECASE):
        return csv.reader(lines[1:], delimiter=lines[0].strip()[-1])
    separator = max(
        ",;\t", key=lambda mark: max((line.count(mark) for line in lines[:50]), default=0)
    )
    return csv.reader(lines, delimiter=separator)


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = "" if cell is None else str(cell)
    return (
        text.strip()
        if text.isascii()
        else unicodedata.normalize("NFC", text.translate(_UNSEEN)).strip()
    )


def _plain(text: str) -> str:
    """Return a whole number without its point, in the digits that all programs know."""
    if not text.isascii():
        wide = unicodedata.normalize("NFKC", text)
        text = wide if re.fullmatch(r"[0-9]+(\.0+)?", wide) else text
    whole = _WHOLE.match(text)
    return whole[1] if whole else text


def _key(cell: str) -> str:
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def _cell(row: Sequence[str], place: int) -> str:
    return row[place] if place < len(row) else ""
