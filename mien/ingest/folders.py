"""Folders of a dataset: which files are pictures, and which are passed over."""

import os
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.outside import expand_home, read_file
from mien.pictures import HEADER_BYTES, recognise_format
from mien.runs.spec import RUN_NAME

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

# Suffixes of picture formats that are not read: leaving one out is a warning, not a note.
UNREAD_SUFFIXES = frozenset(
    {
        ".avif",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg_large",
        ".jpg_large",
        ".jxl",
        ".pjpeg",
    }
    | {".pnm", ".tga"}
)

STORE_PARTS = frozenset(
    {"aliases", "commands", "memo", "releases", "reviews", "runs", "studio", "work"}
)

# What readers share


@dataclass(frozen=True)
class FolderGlance:
    """A glance at a folder: the names of what it holds at all depths, relative to it; names of
    folders end in '/'.
    """

    root: Path
    names: tuple[str, ...]

    def find_first(self, pattern: str) -> str | None:
        """Return the first name that a regular expression matches in full, ignoring case, or
        None.
        """
        matches = re.compile(pattern, re.IGNORECASE).fullmatch
        return next((name for name in self.names if matches(name)), None)


def look_at(root: Path, depth: int = 7) -> FolderGlance:
    """Return a look at `root`: all names at the top, and a few of each kind in the folders
    below.

    At most 20,000 names are read, however large a release is. What cannot be read is passed over,
    because `scan` will report it, and links to folders are not followed.
    """
    return FolderGlance(root, tuple(islice(_iterate_names(root, "", depth), 20_000)))


def walk(root: Path, suffixes: Set[str] = IMAGE_SUFFIXES) -> tuple[list[str], list[Finding]]:
    """Return the files below `root` with one of `suffixes` (images), and what was passed
    over.

    Paths are relative to `root`, in the order of names. Hidden files are not reported.
    Links to folders, and links that lead out of `root`, are not followed.
    """
    images: list[str] = []
    foreign: dict[str, list[str]] = {}
    unread: dict[str, list[str]] = {}
    unusual: dict[str, list[str]] = {}
    links: list[str] = []
    nameless: list[str] = []
    special: list[str] = []

    # Every file belongs to exactly one group; the order of the tests matters.
    for path, entry in iterate_files(root, ""):
        suffix = PurePosixPath(path).suffix.lower()
        if not path.isprintable():  # not UTF-8, or control characters: no table could hold it
            nameless.append(escape_unprintable(path))
        elif entry.is_symlink() and not _leads_inside(root, root / path):
            links.append(path)
        elif not entry.is_file():  # opening a pipe would block for ever
            special.append(path)
        elif suffix in suffixes:
            images.append(path)
        elif suffixes >= IMAGE_SUFFIXES and _begins_like_picture(suffix, entry):
            images.append(path)
            unusual.setdefault(suffix or "no suffix", []).append(path)
        elif is_picture(path, entry):
            unread.setdefault(suffix or "no suffix", []).append(path)
        else:
            foreign.setdefault(suffix or "no suffix", []).append(path)

    # Images with an unusual suffix are read, and reported.
    by_content = [
        Finding(
            "note",
            "pictures by content",
            list_some(names),
            f"files that are images by their content ({suffix}), read: {len(names)}",
        )
        for suffix, names in sorted(unusual.items())
    ]
    return images, [
        *by_content,
        *_report_passed_over(foreign, unread),
        *_report_not_opened(links, special, nameless),
    ]


def _begins_like_picture(suffix: str, entry: os.DirEntry[str]) -> bool:
    """Return whether a file begins like a readable picture, whatever its suffix."""
    try:
        if not entry.is_file():
            return False
        with Path(entry).open("rb") as file:
            return bool(recognise_format(file.read(HEADER_BYTES), suffix))
    except OSError:
        return False


def is_picture(path: str, entry: os.DirEntry[str], holders: Set[str] = frozenset()) -> bool:
    """Return whether a file should be a picture: by its suffix, or else by its first bytes."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES or suffix in holders:
        return True
    return entry.is_file(follow_symlinks=False) and _begins_like_picture(suffix, entry)


def escape_unprintable(path: str) -> str:
    """Return a path in printable form: parts that cannot be printed are escaped."""
    if path.isprintable():
        return path
    return "/".join(name if name.isprintable() else ascii(name)[1:-1] for name in path.split("/"))


def _report_passed_over(
    foreign: dict[str, list[str]], unread: dict[str, list[str]]
) -> list[Finding]:
    """Return findings for files whose suffix is not that of a picture, and for pictures in forms
    that are not read.
    """
    findings = []
    for suffix, names in sorted(foreign.items()):
        message = f"files that are not images by their suffix ({suffix}), passed over: {len(names)}"
        findings.append(
            Finding("note", "foreign files", list_some(names), message, files=tuple(names))
        )

    for suffix, names in sorted(unread.items()):
        if suffix in IMAGE_SUFFIXES:
            message = f"images of a kind not in this set ({suffix}), passed over: {len(names)}"
            findings.append(
                Finding("note", "foreign files", list_some(names), message, pictures=tuple(names))
            )
            continue
        message = (
            f"images whose form or suffix is not supported ({suffix}), left out: {len(names)}; "
            "rename those that are JPEG to .jpg, and save others as PNG"
        )
        findings.append(
            Finding("warning", "unread form", list_some(names), message, pictures=tuple(names))
        )
    return findings


def _report_not_opened(links: list[str], special: list[str], nameless: list[str]) -> list[Finding]:
    """Return findings for files that are not opened, whatever they hold."""
    groups = (
        (
            "links",
            links,
            f"links that lead out of the folder, or to a folder, not followed: {len(links)}",
        ),
        ("special files", special, f"pipes, sockets or devices, not opened: {len(special)}"),
        (
            "unprintable names",
            nameless,
            f"files with names that cannot be printed, left out: {len(nameless)}; rename them",
        ),
    )
    return [
        Finding("warning", kind, list_some(names), message, pictures=tuple(names))
        for kind, names, message in groups
        if names
    ]


def read_table_text(table: Path) -> tuple[str, str]:
    """Return the text of a CSV file and its separator: a comma, a semicolon or a tab, judged by the
    first line.

    It may be in UTF-8 or, with a byte-order mark, in UTF-16. Raises DataError if it cannot be read.
    """
    content = read_file(table, "a table in CSV")
    try:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table} must be a table in CSV and UTF-8, and is not: {error}; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(
            f"{table} must be a table in CSV and UTF-8, and holds NUL bytes; save it as UTF-8"
        )
    first = next((line for line in text.splitlines() if line.strip()), "")
    return text, max(",;\t", key=first.count)


def find_last_number(path: str) -> int:
    """Return the last whole number in a file's stem, -1 if there is none.

    It is the frame's number in every public set.
    """
    numbers = re.findall(r"[0-9]+", PurePosixPath(path).stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 16 else -1


def make_dataset_name(name: str) -> str:
    """Return a folder's name in the form of a dataset's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40].rstrip("-") or "folder"


def require_folder(root: Path) -> Path:
    """Return the absolute path of a folder; raises DataError unless it is one."""
    root = expand_home(Path(root))
    if not root.is_dir():
        raise DataError(
            f"{root} must be a folder that holds a dataset, and "
            f"{'is a file' if root.exists() else 'does not exist'}"
        )
    return root.resolve()


def _iterate_names(root: Path, below: str, depth: int) -> Iterable[str]:
    try:
        with os.scandir(root / below) as reader:
            entries = sorted(reader, key=lambda entry: entry.name)
    except OSError:
        return
    visible = [
        entry for entry in entries if entry.name.isprintable() and not entry.name.startswith(".")
    ]
    folders = [entry.name for entry in visible if entry.is_dir(follow_symlinks=False)]
    folders = [name for name in folders if not _belongs_to_store(root / below, name)]
    files = [entry.name for entry in visible if entry.is_file(follow_symlinks=False)]
    folders_above = below.count("/")
    yield from (below + name for name in files[: 200 if folders_above < 2 else 5])
    for position, name in enumerate(folders[:200]):
        yield f"{below}{name}/"
        if depth and position < (20 if folders_above == 0 else 3 if folders_above > 2 else 8):
            yield from _iterate_names(root, f"{below}{name}/", depth - 1)


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store of mien's: its `runs` or `work` holds names of
    runs.
    """
    for folder_name in ("runs", "work"):
        try:
            with os.scandir(folder / folder_name) as entries:
                if any(RUN_NAME.match(entry.name.removesuffix(".claim")) for entry in entries):
                    return True
        except OSError:
            continue
    return False


def _belongs_to_store(folder: Path, name: str) -> bool:
    """Return whether the entry `name` of a folder is a store, or a part of one."""
    return is_store(folder / name) or (name in STORE_PARTS and is_store(folder))


def iterate_files(root: Path, below: str) -> Iterable[tuple[str, os.DirEntry[str]]]:
    """Yield all files that are not hidden, and links to folders, in the order of names.

    No store of mien's is entered. Folders may be nested to any depth: there is no recursion.
    """
    waiting = [iter(_list_folder(root, below))]
    while waiting:
        path, entry = next(waiting[-1], ("", None))
        if entry is None:
            waiting.pop()
        elif not entry.is_dir(follow_symlinks=False):
            yield path, entry
        elif not _belongs_to_store((root / path).parent, entry.name):
            waiting.append(iter(_list_folder(root, path)))


def _list_folder(root: Path, below: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return the entries of a folder that are not hidden, each with its path, in the order of
    names.
    """
    try:
        with os.scandir(root / below) as reader:
            inside = sorted(reader, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{root / below} must be a folder that can be read: {error.strerror}"
        ) from None
    return [
        (f"{below}/{entry.name}" if below else entry.name, entry)
        for entry in inside
        if entry.name[0] != "."
    ]


def _leads_inside(root: Path, path: Path) -> bool:
    """Return whether a link leads to a file below `root`, which is resolved."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False
