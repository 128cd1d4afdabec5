"""Damage that trees suffer on their way from a release to a disk, each kind as a function of the
tree and of chance.
"""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image

Chance = np.random.Generator
SHEETS = {".xlsx", ".csv", ".txt", ".xml"}
HOLDERS = {".avi", ".npy", ".parquet"}  # what else holds labels, or pictures
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}


def pick(paths: list[Path], chance: Chance) -> list[Path]:
    """Return some of the paths: one, or up to three."""
    if not paths:
        return []
    count = int(chance.integers(1, min(3, len(paths)) + 1))
    return [paths[place] for place in sorted(chance.choice(len(paths), count, replace=False))]


def images(root: Path) -> list[Path]:
    """Return the image files of a tree."""
    return sorted(
        path for path in root.rglob("*") if path.suffix.lower() in IMAGES and path.is_file()
    )


def sheets(root: Path) -> list[Path]:
    """Return the annotation files of a tree."""
    return sorted(
        path for path in root.rglob("*") if path.suffix.lower() in SHEETS and path.is_file()
    )


def holders(root: Path) -> list[Path]:
    """Return the files, images aside, that a tree rests on."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SHEETS | HOLDERS and path.is_file()
    )


def books(root: Path) -> list[Path]:
    """Return the workbooks of a tree."""
    return [path for path in sheets(root) if path.suffix == ".xlsx"]


def folders(root: Path) -> list[Path]:
    """Return the folders of a tree that hold images."""
    return sorted({path.parent for path in images(root)} - {root})


def edit_head(root: Path, chance: Chance, change: Callable[[str], str | None]) -> None:
    """Change one cell of a header: the first row that is full of text."""
    for path in pick(books(root), chance):
        book = openpyxl.load_workbook(path)
        rows = [
            row
            for row in book.worksheets[0].iter_rows()
            if sum(isinstance(cell.value, str) for cell in row) > 4
        ]
        if rows:
            cells = [cell for cell in rows[0] if cell.value]
            cell = cells[int(chance.integers(len(cells)))]
            cell.value = change(str(cell.value))  # pyright: ignore[reportAttributeAccessIssue]
            book.save(path)


def edit_cells(root: Path, chance: Chance, change: Callable[[object], object]) -> None:
    """Change every cell of one workbook."""
    for path in pick(books(root), chance):
        book = openpyxl.load_workbook(path)
        for page in book.worksheets:
            for row in page.iter_rows():
                for cell in row:
                    cell.value = change(cell.value)  # pyright: ignore[reportAttributeAccessIssue]
        book.save(path)


def rename(path: Path, name: str) -> None:
    """Rename a file or a folder, unless the name is taken."""
    if not (path.parent / name).exists():
        path.rename(path.parent / name)


def renumber(root: Path, chance: Chance, width: int) -> None:
    """Pad the last number in the names of images to a width, after all padding was taken away."""
    for path in images(root):
        head = path.stem.rstrip("0123456789")
        digits = path.stem[len(head) :]
        if digits:
            rename(path, f"{head}{int(digits):0{width}d}{path.suffix}")


def bomb(path: Path) -> None:
    """Write a PNG of some hundred bytes that says it has 12 gigapixels, and one pixel's worth of
    data.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 120_000, 100_000, 8, 0, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(bytes(100_000))),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def large(path: Path) -> None:
    """Write a picture of 81 megapixels in some kilobytes."""
    Image.new("1", (9_000, 9_000)).save(path, "PNG")


def no_sheets(root: Path, chance: Chance) -> None:
    for path in holders(root):
        path.unlink()


def cut_sheet(root: Path, chance: Chance) -> None:
    for path in pick(holders(root), chance):
        content = path.read_bytes()
        path.write_bytes(content[: int(chance.integers(max(len(content), 1)))])


def spoilt_sheet(root: Path, chance: Chance) -> None:
    for path in pick(sheets(root), chance):
        content = bytearray(path.read_bytes())
        for place in chance.integers(0, max(len(content), 1), 20 if content else 0):
            content[place] ^= int(chance.integers(1, 256))
        path.write_bytes(bytes(content))


def numbers_as_text(root: Path, chance: Chance) -> None:
    edit_cells(root, chance, lambda value: f" {value} " if isinstance(value, int) else value)


def numbers_as_fractions(root: Path, chance: Chance) -> None:
    edit_cells(root, chance, lambda value: float(value) if isinstance(value, int) else value)


def blank_cells(root: Path, chance: Chance) -> None:
    edit_cells(root, chance, lambda value: None if chance.random() < 0.05 else value)


def shuffled_rows(root: Path, chance: Chance) -> None:
    for path in books(root):
        book = openpyxl.load_workbook(path)
        page = book.worksheets[0]
        rows = [[cell.value for cell in row] for row in page.iter_rows()]
        head = max(
            range(len(rows)), key=lambda line: sum(isinstance(cell, str) for cell in rows[line]) > 5
        )
        body = rows[head + 1 :]
        order = chance.permutation(len(body))
        for line, place in enumerate(order, start=head + 2):
            for column, value in enumerate(body[place], start=1):
                page.cell(line, column).value = value
        book.save(path)


def foreign_files(root: Path, chance: Chance) -> None:
    for folder in [root, *pick(folders(root), chance)]:
        for name in (
            "Thumbs.db",
            "._img1.jpg",
            "Desktop - Shortcut.lnk",
            "notes.txt",
            ".DS_Store",
            "no suffix",
        ):
            (folder / name).write_bytes(b"\0\1\2 of another kind")


def foreign_images(root: Path, chance: Chance) -> None:
    for folder in [root, *pick(folders(root), chance)]:
        Image.fromarray(chance.integers(0, 256, (30, 30), dtype=np.uint8)).save(
            folder / "holiday.png"
        )


def no_images(root: Path, chance: Chance) -> None:
    for path in images(root):
        path.unlink()


def lost_images(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        path.unlink()


def lost_folder(root: Path, chance: Chance) -> None:
    for path in pick(folders(root), chance)[:1]:
        shutil.rmtree(path)


def cut_image(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        content = path.read_bytes()
        path.write_bytes(content[: int(chance.integers(len(content)))])


def text_as_image(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        path.write_text("<html>404 not found</html>")


def image_bomb(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        bomb(path)


def large_image(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance)[:1]:
        large(path)


def tiny_image(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        Image.new("L", (1, 4_000)).save(path, "PNG")


def folder_as_image(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        path.unlink()
        path.mkdir()


def pipe_as_image(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        path.unlink()
        os.mkfifo(path)


def pipe_as_sheet(root: Path, chance: Chance) -> None:
    for path in pick(holders(root), chance):
        path.unlink()
        os.mkfifo(path)


def link_out(root: Path, chance: Chance) -> None:
    outside = root.parent / "outside.png"
    Image.new("L", (30, 30)).save(outside)
    for path in pick(images(root), chance):
        path.unlink()
        path.symlink_to(outside)


def link_in_circles(root: Path, chance: Chance) -> None:
    for folder in pick(folders(root), chance):
        (folder / "again").symlink_to(root)
        (folder / "self.jpg").symlink_to("self.jpg")
        (folder / "nowhere.jpg").symlink_to("not there")


def bad_file_name(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        os.rename(path, os.fsencode(path.parent) + b"/\xff\xfe" + os.fsencode(path.name))  # noqa: PTH104


def bad_folder_name(root: Path, chance: Chance) -> None:
    for path in pick(folders(root), chance)[:1]:
        os.rename(path, os.fsencode(path.parent) + b"/\xe9t\xe9")  # noqa: PTH104


def control_characters(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        rename(path, f"line\nbreak\t{path.name}")


def padded_numbers(root: Path, chance: Chance) -> None:
    renumber(root, chance, 8)


def unpadded_numbers(root: Path, chance: Chance) -> None:
    renumber(root, chance, 1)


def upper_case(root: Path, chance: Chance) -> None:
    for path in images(root):
        rename(path, path.name.upper())
    for path in sorted(folders(root), key=lambda folder: -len(folder.parts)):
        rename(path, path.name.upper())


def copied_folder(root: Path, chance: Chance) -> None:
    for path in pick(folders(root), chance):
        shutil.copytree(path, path.parent / f"{path.name} - Copy")


def copied_images(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        shutil.copy(path, path.parent / f"{path.stem} (1){path.suffix}")


def other_suffix(root: Path, chance: Chance) -> None:
    for path in pick(images(root), chance):
        rename(path, f"{path.stem}.dat")


def deeper(root: Path, chance: Chance) -> None:
    moved = root.parent / "moved"
    root.rename(moved)
    (root / "a copy of" / "the release").mkdir(parents=True)
    for path in moved.iterdir():
        path.rename(root / "a copy of" / "the release" / path.name)


def renamed_column(root: Path, chance: Chance) -> None:
    edit_head(root, chance, lambda text: f"{text} (new)")


def lost_column(root: Path, chance: Chance) -> None:
    edit_head(root, chance, lambda text: None)


Damage = Callable[[Path, Chance], None]
DAMAGES: dict[str, Damage] = {
    each.__name__: each
    for each in (
        *(
            no_sheets,
            cut_sheet,
            spoilt_sheet,
            renamed_column,
            lost_column,
            numbers_as_text,
            numbers_as_fractions,
        ),
        *(
            blank_cells,
            shuffled_rows,
            pipe_as_sheet,
            foreign_files,
            foreign_images,
            no_images,
            lost_images,
            lost_folder,
        ),
        *(
            cut_image,
            text_as_image,
            image_bomb,
            large_image,
            tiny_image,
            folder_as_image,
            pipe_as_image,
            link_out,
        ),
        *(
            link_in_circles,
            bad_file_name,
            bad_folder_name,
            control_characters,
            padded_numbers,
            unpadded_numbers,
        ),
        *(upper_case, copied_folder, copied_images, other_suffix, deeper),
    )
}
HARMLESS = (
    "foreign_files",
    "shuffled_rows",
    "numbers_as_text",
    "numbers_as_fractions",
    "link_in_circles",
)
