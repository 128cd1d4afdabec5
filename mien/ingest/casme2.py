"""CASME II (Yan et al. 2014): frames of micro-expressions and their coding sheet, in any of the layouts it is found in.

    Cropped/sub01/EP02_01f/reg_img46.jpg      46 is the frame's number in the recording, and in the sheet
    CASME2-coding-20140508.xlsx               Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame, Action Units, ...

Labels come from the sheet alone, never from folders; what does not fit together is reported, and left out.
"""

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import openpyxl
import pandas as pd

from mien.errors import DataError
from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, label, last_number, no_dataset, some, walk

READER = Reader(
    dataset="casme2",
    title="CASME II",
    needs="FOLDER with Cropped/subNN/EPxx_yy/reg_imgN.jpg and CASME2-coding-*.xlsx",
    licence="CASME II agreement: research only, no redistribution",
    citation=(
        "Yan W-J, Li X, Wang S-J, Zhao G, Liu Y-J, Chen Y-H, Fu X (2014) CASME II: An Improved Spontaneous "
        "Micro-Expression Database and the Baseline Evaluation. PLoS ONE 9(1): e86041"
    ),
    obtain="sign the agreement at http://casme.psych.ac.cn/casme/e2; `mien toy` draws faces in its layout",
    subjects="the sheet",
    clips="the sheet",
    labels={
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "others": "others",
        "repression": "repression",
        "sadness": "sadness",
        "surprise": "surprise",
    },
    options=("sheet",),
)

BLOCKED = ("sub12", "sub22")  # their owners' terms: never to be published
FREE = "CC0 1.0"  # what the readme of a drawn set in this layout says

COLUMNS = {
    "subject": ("subject",),
    "clip": ("filename",),
    "onset": ("onsetframe", "onset"),
    "apex": ("apexframe", "apex"),
    "offset": ("offsetframe", "offset"),
    "action_units": ("actionunits", "actionunit", "au"),
    "emotion": ("estimatedemotion", "emotion"),
}
_SHEET = re.compile(r"^casme2[-_ ]?coding.*\.(xlsx|csv)$", re.IGNORECASE)
_SUBJECT_FOLDER = re.compile(r"^sub[-_ ]?0*([0-9]{1,4})$", re.IGNORECASE)
_SUBJECT_CELL = re.compile(r"^(?:s|sub|subject)?[-_ ]?0*([0-9]{1,4})(?:\.0+)?$", re.IGNORECASE)
_NUMBER = re.compile(r"^[0-9]{1,9}(\.0+)?$")


@dataclass(frozen=True)
class Clip:
    """One row of the sheet."""

    subject: str  # sub01
    name: str  # EP02_01f
    onset: int
    apex: int | None
    offset: int
    action_units: str
    raw_label: str

    @property
    def folder(self) -> str:
        """Return what stands for the clip in keys: sub01/EP02_01f."""
        return f"{self.subject}/{self.name}"


Fault = Literal["no apex", "apex at onset", "files end early"]


@dataclass(frozen=True)
class Patch:
    """The repair of one row that is known to be wrong, made only where the fault is there."""

    fault: Fault
    reason: str


# By subject and clip, never by row number: rows differ between copies. Each repair is told in the findings.
PATCHES = {
    ("sub04", "EP12_01f"): Patch(
        "no apex", "the sheet has '/'; the middle of the clip is taken, as other readers of the set do"
    ),
    ("sub05", "EP09_05f"): Patch(
        "apex at onset", "an expression cannot peak where it begins; the middle of the clip is taken"
    ),
    ("sub16", "EP01_08"): Patch("files end early", "the release has no later files; the last one is taken as offset"),
}
_ENDS_AT = {("sub16", "EP01_08"): 96}


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames between onset and offset of each clip that is both in the sheet and on the disk.

    `root` is the release's folder, or the one that holds subNN; the sheet may then lie one or two folders above. The
    newest revision of the sheet is read unless `spec.sheet` names another. A frame's phase is empty, not guessed, where
    the apex is not known.

    Raises DataError if there is no tree of frames, no sheet, a column is missing, or an emotion is unknown.
    """
    tree, findings = _tree(root)
    sheet, told = _sheet(root, tree, spec.sheet)
    clips, doubts = _clips(sheet)
    images, passed = walk(tree)
    findings += [*told, *doubts, *passed]
    folders, strays = _by_clip(images)
    findings += strays
    rows = []
    for clip in clips:
        frames = folders.pop((clip.subject, clip.name.lower()), None)
        if frames is None:
            findings.append(
                Finding("warning", "clip not on disk", clip.folder, "in the sheet, not on the disk; left out")
            )
            continue
        mended, more = _mend(clip, frames)
        findings += more
        rows += _rows(mended, frames)
    findings += [
        Finding(
            "warning", "clip not in the sheet", next(iter(frames.values())).rsplit("/", 1)[0], "has no label; left out"
        )
        for frames in folders.values()
    ]
    if not rows:
        raise DataError(f"{tree} and {sheet} must name the same clips and frames, and share none: {_listed(findings)}")
    table = pd.DataFrame(rows)
    table, left_out = label(table, spec, str(sheet))
    findings += left_out
    readme = _free(root, tree)
    if readme is None and spec.licence is None:
        findings += _blocked(table)
    annotations = (sheet,) if readme is None else (sheet, readme)
    return Listing(tree, table, annotations, tuple(findings), READER.licence if readme is None else FREE)


def recognise(look: Look) -> str | None:
    """Say by what the folder is CASME II: its sheet, or clips called subNN/EPxx_yy."""
    sheet = look.first(r"(.*/)?casme2[-_ ]?coding[^/]*\.(xlsx|csv)")
    if sheet:
        return f"{sheet} is its coding sheet"
    clip = look.first(r"(.*/)?sub[0-9]+/EP[0-9]+_[0-9]+f?/(reg_)?img[0-9]+\.[a-z]+")
    return f"{clip} is named as its frames are" if clip else None


# The tree


def _tree(root: Path) -> tuple[Path, list[Finding]]:
    """Return the folder that holds subNN: cropped faces rather than the selected frames, and those before any other."""
    found = sorted(_holders(root, 3), key=lambda path: (_rank(path, root), len(path.parts), path.name))
    if not found:
        raise no_dataset(root, READER, "has no folder with subNN in it")
    tree = found[0]
    others = [_relative(path, root) for path in found[1:]]
    what = f"the frames were read here{f', and not in {some(others)}' if others else ''}"
    findings = [Finding("note", "tree", _relative(tree, root), what)]
    if _rank(tree, root) == 1:
        findings.append(
            Finding("warning", "not cropped", _relative(tree, root), "frames are whole, not cropped to faces")
        )
    return tree, findings


def _holders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders, down to a depth, of which some child is called subNN."""
    below = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    if any(_SUBJECT_FOLDER.match(path.name) for path in below):
        yield folder
    elif depth:
        for path in below:
            if not path.name.startswith("."):
                yield from _holders(path, depth - 1)


def _rank(tree: Path, root: Path) -> int:
    """0 for cropped faces, 1 for whole frames as far as the names tell; a folder of another name passes for cropped."""
    names = [tree.name, *(tree.relative_to(root).parts if tree != root else ())]
    text = "/".join(names).lower()
    return 0 if "crop" in text else 1 if "raw" in text else 0


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _by_clip(images: Sequence[str]) -> tuple[dict[tuple[str, str], dict[int, str]], list[Finding]]:
    """Return the images by (subject, clip in lower case), then by frame number, in order."""
    folders: dict[tuple[str, str], dict[int, str]] = {}
    stray, twice = [], []
    for path in images:
        parts = path.split("/")
        subject = _SUBJECT_FOLDER.match(parts[0])
        number = last_number(path)
        if len(parts) != 3 or subject is None or number < 0:
            stray.append(path)
            continue
        frames = folders.setdefault((_subject(subject[1]), parts[1].lower()), {})
        if number in frames:
            twice.append(path)
        else:
            frames[number] = path
    findings = []
    if stray:
        what = f"images not at subNN/CLIP/...N.suffix, left out: {len(stray)}"
        findings.append(Finding("warning", "misplaced image", some(stray), what))
    if twice:
        what = f"images with the frame number of another in the same clip, left out: {len(twice)}"
        findings.append(Finding("warning", "repeated frame", some(twice), what))
    return {clip: dict(sorted(frames.items())) for clip, frames in folders.items()}, findings


def _subject(number: str) -> str:
    return f"sub{int(number):02d}"


# The sheet


def _sheet(root: Path, tree: Path, wanted: str | None) -> tuple[Path, list[Finding]]:
    """Return the coding sheet: the newest date in a name wins, a name without a date comes last."""
    places = [root, *(place for place in tree.parents if place.is_relative_to(root)), tree]
    if tree == root:
        places += list(root.parents)[:2]
    found = {path: None for place in places for path in sorted(place.iterdir()) if _SHEET.match(path.name)}
    sheets = sorted(found, key=lambda path: (_date(path.name), path.suffix.lower() == ".xlsx"), reverse=True)
    if wanted is not None:
        sheets = [path for path in sheets if path.name.lower() == wanted.lower()]
    if not sheets:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{root} must hold the coding sheet {wanted or 'CASME2-coding-20140508.xlsx (or another date, or .csv)'}, "
            f"and {'has only ' + names if names else 'has none'}; it comes with the release: put it beside {tree.name}"
        )
    others = [path.name for path in sheets[1:]]
    what = f"labels were read from it{f', and not from {some(others)}' if others else ''}"
    return sheets[0], [Finding("note", "sheet", sheets[0].name, what)]


def _date(name: str) -> str:
    found = re.search(r"[0-9]{8}", name)
    return found[0] if found else ""


def _cells(sheet: Path) -> list[list[str]]:
    """Return the sheet's cells as text."""
    try:
        if sheet.suffix.lower() == ".csv":
            return [[cell.strip() for cell in row] for row in _csv(sheet.read_bytes())]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles, which nobody needs here
            book = openpyxl.load_workbook(sheet, data_only=True)
        pages = sorted(book.worksheets, key=lambda page: page.title.lower() != "sheet1")
        return [[_text(cell) for cell in row] for page in pages for row in page.iter_rows(values_only=True)]
    except Exception as error:  # a damaged workbook fails in many ways
        raise DataError(f"{sheet} must be a sheet that can be read, and is not: {error}; copy it anew") from None


def _csv(content: bytes) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("gb18030")  # what Excel writes in Chinese
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    return list(csv.reader(lines, delimiter=separator))


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _clips(sheet: Path) -> tuple[list[Clip], list[Finding]]:
    """Return the usable rows of the sheet in the order of subject and clip, and what is wrong with the others."""
    cells = _cells(sheet)
    head, places = _head(cells, sheet)
    clips: dict[tuple[str, str], Clip] = {}
    torn: set[tuple[str, str]] = set()
    findings = []
    for line, row in enumerate(cells[head + 1 :], start=head + 2):
        values = {name: row[place] if place < len(row) else "" for name, place in places.items()}
        if not any(values.values()):
            continue
        try:
            clip = _clip(values)
        except ValueError as error:
            where = f"{sheet.name}, row {line}"
            findings.append(Finding("warning", "unusable row", where, f"{error}; the clip was left out"))
            continue
        known = (clip.subject, clip.name.lower())
        if clips.setdefault(known, clip) != clip:
            torn.add(known)
        elif clips[known] is not clip:
            findings.append(Finding("note", "repeated row", clip.folder, f"{sheet.name} has it twice, alike"))
    for known in sorted(torn):
        where = clips.pop(known).folder
        what = f"{sheet.name} has it twice, with different values; left out"
        findings.append(Finding("warning", "contradiction", where, what))
    return [clips[known] for known in sorted(clips)], findings


def _head(cells: Sequence[Sequence[str]], sheet: Path) -> tuple[int, dict[str, int]]:
    """Return which row is the header, and where each column is."""
    headers = [[re.sub(r"[^a-z]", "", cell.lower()) for cell in row] for row in cells]
    head = next((line for line, names in enumerate(headers) if {"subject", "filename"} <= set(names)), 0)
    names = headers[head] if headers else []
    places: dict[str, int] = {}
    for column, spellings in COLUMNS.items():
        place = next((names.index(spelling) for spelling in spellings if spelling in names), None)
        if place is None and column != "action_units":
            has = ", ".join(cell for cell in cells[head] if cell) if cells else ""
            raise DataError(
                f"{sheet} must have the columns Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame and Estimated "
                f"Emotion; {spellings[0]} is missing, it has {has or 'none'}. Take the sheet of the release as it came"
            )
        if place is not None:
            places[column] = place
    return head, places


def _clip(values: dict[str, str]) -> Clip:
    """Return a row as a clip; raises ValueError if it cannot be used."""
    subject = _SUBJECT_CELL.match(values["subject"])
    if subject is None or not values["clip"]:
        raise ValueError(f"it must name a subject and a clip, and says '{values['subject']}' and '{values['clip']}'")
    onset, offset = _number(values["onset"]), _number(values["offset"])
    if onset is None or offset is None or offset < onset:
        raise ValueError(
            f"onset and offset must be frame numbers in order; given: {values['onset']}, {values['offset']}"
        )
    if not values["emotion"]:
        raise ValueError("it has no emotion")
    units = values.get("action_units", "")
    apex = _number(values["apex"])
    return Clip(_subject(subject[1]), values["clip"], onset, apex, offset, units, values["emotion"])


def _number(text: str) -> int | None:
    return int(text.split(".")[0]) if _NUMBER.match(text) else None


# Clips and their frames


def _mend(clip: Clip, frames: dict[int, str]) -> tuple[Clip, list[Finding]]:
    """Return the clip as far as it can be put right, and what was found."""
    findings = []
    known = (clip.subject, clip.name)
    patch = PATCHES.get(known)
    if patch is not None and patch.fault in _faults(clip, frames):
        middle = (clip.onset + clip.offset) // 2
        changes = {"offset": max(frames)} if patch.fault == "files end early" else {"apex": middle}
        clip = replace(clip, **changes)
        told = ", ".join(f"{name} is now {value}" for name, value in changes.items())
        findings.append(Finding("warning", "patched", clip.folder, f"{patch.fault}: {patch.reason}; {told}"))
    faults = _faults(clip, frames)
    if "no apex" in faults:
        what = "the sheet has no apex for it; its frames have no phase but onset and offset"
        findings.append(Finding("warning", "no apex", clip.folder, what))
    if "apex at onset" in faults:
        findings.append(
            Finding("warning", "apex at onset", clip.folder, f"both are frame {clip.onset}, says the sheet")
        )
    if clip.apex is not None and not clip.onset <= clip.apex <= clip.offset:
        what = f"apex {clip.apex} is not within {clip.onset}-{clip.offset}; it is taken as unknown"
        findings.append(Finding("warning", "apex outside", clip.folder, what))
        clip = replace(clip, apex=None)
    return clip, [*findings, *_gaps(clip, frames)]


def _faults(clip: Clip, frames: dict[int, str]) -> set[Fault]:
    faults: set[Fault] = set()
    if clip.apex is None:
        faults.add("no apex")
    if clip.apex == clip.onset:
        faults.add("apex at onset")
    if max(frames) == _ENDS_AT.get((clip.subject, clip.name)) and max(frames) < clip.offset:
        faults.add("files end early")
    return faults


def _gaps(clip: Clip, frames: dict[int, str]) -> list[Finding]:
    """Say which frames of the sheet have no file, and which files the sheet does not cover."""
    said = set(range(clip.onset, clip.offset + 1))
    absent, extra = sorted(said - set(frames)), sorted(set(frames) - said)
    findings = []
    if absent:
        what = f"{len(absent)} of {len(said)} frames have no file: {_ranges(absent)}"
        if len(absent) == len(said):
            what += f"; the files are numbered {_ranges(sorted(frames))}, so the clip is left out"
        findings.append(Finding("warning", "missing frames", clip.folder, what))
    if extra:
        what = (
            f"files outside onset-offset {clip.onset}-{clip.offset}, left out: {_ranges(extra)} ({len(extra)} in all)"
        )
        findings.append(Finding("warning", "extra frames", clip.folder, what))
    return findings


def _rows(clip: Clip, frames: dict[int, str]) -> list[dict[str, object]]:
    return [
        {
            "path": path,
            "key": f"{clip.folder}/{number}",
            "subject": clip.subject,
            "clip": clip.folder,
            "frame": number,
            "phase": _phase(clip, number),
            "raw_label": clip.raw_label,
            "action_units": clip.action_units,
        }
        for number, path in frames.items()
        if clip.onset <= number <= clip.offset
    ]


def _phase(clip: Clip, number: int) -> str:
    if number == clip.apex:  # first, for clips whose apex is their onset or offset
        return "apex"
    if number == clip.onset:
        return "onset"
    if number == clip.offset:
        return "offset"
    if clip.apex is None:
        return ""
    return "rise" if number < clip.apex else "fall"


def _ranges(numbers: Sequence[int], limit: int = 6) -> str:
    """Return sorted numbers as 3-7, 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return some([f"{low}-{high}" if high > low else str(low) for low, high in runs], limit)


# Licence


def _free(root: Path, tree: Path) -> Path | None:
    """Return the readme of a drawn set, which says that it is in the public domain."""
    for place in dict.fromkeys([root, tree, tree.parent]):
        readme = place / "readme.txt"
        if readme.is_file() and FREE in readme.read_text(encoding="utf-8", errors="replace")[:10_000]:
            return readme
    return None


def _blocked(table: pd.DataFrame) -> list[Finding]:
    there = sorted(set(table["subject"]) & set(BLOCKED))
    if not there:
        return []
    what = "images of these subjects must never be published, nor synthetic ones that resemble them"
    return [Finding("warning", "not to be published", ", ".join(there), what)]


def _listed(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{found.where}: {found.what}" for found in findings if found.severity == "warning")[:600]
