"""Accounts: whatever happens to a tree, every picture and row is kept, or named with a reason;
nothing is silent.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from trees import WRITERS, Tree
from trees.damage import images

from mien.errors import MienError
from mien.ingest import accounting
from mien.ingest.decoding import read_listing
from mien.ingest.reader import Listing
from mien.ingest.readers import READERS
from mien.ingest.run import scan_folder
from mien.ingest.specs import IngestSpec
from mien.runs.spec import read_spec

SIZE = 16
PICTURES = {
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}
TABLES = ("fer2013.csv", ".parquet")  # tables that have the pictures themselves
PROPERTY_SEEDS = 3


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    return {
        name: write(tmp_path_factory.mktemp(name) / "release") for name, write in WRITERS.items()
    }


def spec_for(name: str, tree: Tree) -> IngestSpec:
    return read_spec(
        IngestSpec,
        {"reader": name, "dataset": "set", "fingerprint": "", "size": SIZE, **tree.options},
        "test",
    )


def on_disk(root: Path, *holders: str) -> int:
    """How many picture files lie below a folder, counted without mien."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in PICTURES | set(holders))
    return sum(not path.is_dir() and not path.name.startswith(".") for path in found)


def csv_rows(path: Path) -> int:
    """How many rows a CSV file has below its header, counted without mien."""
    with path.open(newline="", encoding="utf-8") as file:
        return sum(any(line) for line in csv.reader(file)) - 1


def book_rows(path: Path, head: str) -> int:
    """How many rows the first page of a workbook has below the one with `head`; all, where it is
    empty.
    """
    rows = [
        [cell for cell in row if cell is not None]
        for row in openpyxl.load_workbook(path).worksheets[0].values
    ]
    full = [row for row in rows if row]
    return len(full) - (
        next(place for place, row in enumerate(full) if row[0] == head) + 1 if head else 0
    )


def rows_on_disk(name: str, root: Path) -> int | None:
    """How many rows of annotations a reader's tree has, counted without mien; None where it has
    none.
    """
    if name in ("casme", "casme2", "casme_cubed", "samm", "mmew", "fourdme"):
        sheet = next(path for path in sorted(root.rglob("*.xlsx")) if "MaE" not in path.name)
        return book_rows(sheet, "sub_ID'" if name == "fourdme" else "Subject")
    if name == "casme_squared":
        return book_rows(next(root.rglob("*.xlsx")), "")
    if name == "ckplus":
        return len(list(root.rglob("*_emotion.txt")))
    if name == "mmi":
        return sum(len(path.stem) == len("S001-001") for path in root.rglob("S*.xml"))
    if name == "fer2013":
        return csv_rows(next(root.rglob("fer2013.csv")))
    if name == "ferplus":
        return csv_rows(next(root.rglob("fer2013new.csv")))
    if name == "rafdb":
        return len(next(root.rglob("list_patition_label.txt")).read_text().split("\n")) - 1
    if name == "affectnet":
        return sum(csv_rows(path) for path in root.rglob("Manually_Annotated_file_lists/*.csv"))
    return None


def close(name: str, tree: Tree, root: Path) -> tuple[dict[str, accounting.Ledger], Listing]:
    """Read a tree and return its accounts by what they are about."""
    about = READERS[name].READER
    spec = spec_for(name, tree)
    listing = scan_folder(spec, root)
    faces, unread = read_listing(listing, spec, workers=1, skip_unreadable=True)
    ledgers = accounting.close(listing, about, faces, [*listing.findings, *unread])
    return {ledger.noun: ledger for ledger in ledgers}, listing


def sums_hold(name: str, tree: Tree, root: Path) -> str:
    """Check the accounts of a tree against what lies on the disk."""
    try:
        ledgers, listing = close(name, tree, root)
    except MienError as error:
        assert error.exit_code == 2
        return "refused"
    for ledger in ledgers.values():
        assert accounting.NO_REASON not in ledger.left_out.values(), (
            ledger.noun,
            ledger.count_reasons(),
            ledger.left_out,
        )
    videos = ledgers["videos"].total if "videos" in ledgers else 0
    inside = sum(map(len, listing.picture_positions.values()))
    files = on_disk(root, *READERS[name].READER.holders)
    assert ledgers["pictures"].total - inside + videos == files, ledgers["pictures"]
    rows = rows_on_disk(name, root)
    if rows is not None:
        assert ledgers["rows"].total == rows, ledgers["rows"]
    return "read"


def hurt(root: Path, chance: np.random.Generator) -> None:
    """Delete pictures, add copies and foreign ones, move some to where others are, spoil some, and
    add other files.
    """
    there = images(root)
    folders = sorted({path.parent for path in there}) or [root]
    for path in there:
        fate = chance.random()
        if fate < 0.1:
            path.unlink()
        elif fate < 0.15:
            shutil.copy(path, path.with_name(f"{path.stem} copy 2{path.suffix}"))
        elif fate < 0.2:
            other = folders[int(chance.integers(len(folders)))] / path.name
            if not other.exists():
                shutil.copy(path, other)
        elif fate < 0.25:
            path.write_bytes(b"no picture")
        elif fate < 0.3:
            path.rename(path.with_suffix(".jfif"))
    for folder in folders:
        if chance.random() < 0.3:
            (folder / "Thumbs.db").write_bytes(b"of a system")
            (folder / "holiday 7.png").write_bytes(b"\x89PNG\r\n")
    for path in sorted([*root.rglob("*.csv"), *root.rglob("*list_patition_label.txt")]):
        if path.name != "fer2013.csv":
            lines = path.read_text(encoding="utf-8").splitlines()
            body = [
                line for line in lines[1:] for _ in range(int(chance.choice([0, 1, 1, 1, 1, 2])))
            ]
            path.write_text("\n".join([lines[0], *body]) + "\n", encoding="utf-8")
    for path in sorted(root.rglob("*.xlsx")):
        book = openpyxl.load_workbook(path)
        page = book.worksheets[0]
        lines = [[cell.value for cell in row] for row in page.iter_rows()]
        for line in lines[1:]:
            if any(isinstance(cell, int) for cell in line) and chance.random() < 0.3:
                changed = (
                    [cell if chance.random() < 0.9 else 7 for cell in line]
                    if chance.random() < 0.5
                    else line
                )
                page.append(changed)
        book.save(path)


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.parametrize("seed", range(PROPERTY_SEEDS))
def test_every_picture_and_row_of_a_damaged_tree_is_kept_or_named(
    name: str, seed: int, trees: dict[str, Tree], tmp_path: Path
):
    root = shutil.copytree(trees[name].root, tmp_path / "release")
    hurt(root, np.random.default_rng(seed))
    sums_hold(name, trees[name], root)


@pytest.mark.parametrize("name", list(READERS))
def test_every_picture_and_row_of_a_sound_tree_is_kept_or_named(name: str, trees: dict[str, Tree]):
    assert sums_hold(name, trees[name], trees[name].root) == "read"
