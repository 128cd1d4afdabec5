"""What readers of clips share: a sheet of clips, and folders of frames.

A sheet and a tree of folders rarely agree completely. What does not agree is reported and left out.
Known flaws are repaired, each only if its fault is present. Labels come from the sheet, never from
folders.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mien.errors import DataError
from mien.findings import Finding, find_consecutive_runs, list_some
from mien.ingest.copied_files import find_copies
from mien.ingest.emotions import label_rows
from mien.ingest.folders import find_last_number, walk
from mien.ingest.reader import Listing, Reader, make_dataset_error
from mien.ingest.readers.rows import report_copies
from mien.ingest.readers.sheets import (
    ColumnSpellings,
    SheetTable,
    find_sheet,
    is_date,
    parse_number,
    parse_page,
    read_sheet_table,
)
from mien.ingest.specs import IngestSpec
from mien.prepare import facs
from mien.runs.progress import quantify

RECORDINGS_RANK = 3  # the rank (see `_rank_folder`) of whole recordings

MIN_FILES_PER_NUMBER = 0.9  # files per number, from which on they count as numbered one by one

Frames = dict[int, str]  # a frame's number -> its path

ClipFolders = dict[tuple[str, str], Frames]  # by subject and folder, in lower case

# The columns of the usual coding sheet of micro-expressions, by their titles in lower-case letters.
ONSET_APEX_COLUMNS = {
    "subject": ("subject",),
    "clip": ("filename",),
    "onset": ("onsetframe", "onset"),
    "apex": ("apexframe", "apex"),
    "offset": ("offsetframe", "offset"),
    "action_units": ("actionunits", "au"),
    "emotion": ("estimatedemotion", "emotion"),
}


@dataclass(frozen=True)
class SheetClip:
    """One expression, as the sheet describes it."""

    subject: str  # sub01
    name: str  # EP02_01f
    onset: int
    apex: int | None
    offset: int
    action_units: str
    raw_label: str
    candidate_folders: tuple[
        str, ...
    ] = ()  # folders that may hold its frames, other than one of its own name

    @property
    def key(self) -> str:
        """Return the clip's part of keys: sub01/EP02_01f."""
        return f"{self.subject}/{self.name}"

    @property
    def middle(self) -> int:
        """Return the frame half-way between onset and offset."""
        return (self.onset + self.offset) // 2


@dataclass(frozen=True)
class RowRepair:
    """The repair of one row that is known to be wrong, applied only if the fault is present."""

    fault: str
    reason: str
    is_needed: Callable[[SheetClip, Frames], bool]
    repair: Callable[[SheetClip, Frames], dict[str, int]]  # fields of SheetClip


# By subject and clip, never by row number: rows differ between copies. The findings report each
# repair.
RowRepairs = Mapping[tuple[str, str], RowRepair]


def repair_missing_apex(reason: str) -> RowRepair:
    """Return the repair that sets a missing apex to the middle of the clip."""
    return RowRepair(
        "no apex", reason, lambda clip, _: clip.apex is None, lambda clip, _: {"apex": clip.middle}
    )


def repair_apex_at_onset(reason: str) -> RowRepair:
    """Return the repair that moves an apex at the onset to the middle of the clip."""
    return RowRepair(
        "apex at onset",
        reason,
        lambda clip, _: clip.apex == clip.onset,
        lambda clip, _: {"apex": clip.middle},
    )


def repair_early_end(last: int, reason: str) -> RowRepair:
    """Return the repair for a clip whose files after frame `last` were not released."""
    return RowRepair(
        "files end early",
        reason,
        lambda clip, frames: bool(frames) and max(frames) == last < clip.offset,
        lambda clip, frames: {"offset": last},
    )


def repair_number(field: str, wrong: int, right: int, reason: str) -> RowRepair:
    """Return the repair that replaces one wrong number in the sheet."""
    return RowRepair(
        f"{field} is {wrong}",
        reason,
        lambda clip, _: getattr(clip, field) == wrong,
        lambda clip, _: {field: right},
    )


@dataclass(frozen=True)
class ClipLayout:
    """The layout of a release on the disk, and the form of its sheet."""

    # Matches the end of a path, from the subject's folder on, with the groups subject and clip.
    folder_pattern: re.Pattern[str]
    form: str  # the same, as messages show it
    sheet: re.Pattern[str]
    usual: str  # the name of the sheet in the release
    columns: ColumnSpellings
    subject: Callable[[str], str]  # normalises the subject that `folder_pattern` finds
    shared: bool = False  # a folder is a video that holds several clips, or none
    optional: tuple[str, ...] = ()  # columns that may be missing, in addition to the action units
    beside: str = ""  # part of the paths of images of another kind, which are passed over
    counted: bool = False  # the sheet counts the files of each clip, from 1


def scan_release(
    root: Path,
    spec: IngestSpec,
    reader: Reader,
    layout: ClipLayout,
    clip: Callable[[dict[str, str]], SheetClip],
    row_repairs: RowRepairs | None = None,
    part: str | None = None,
) -> Listing:
    """Return the frames between onset and offset of each clip that is both in the sheet and on the
    disk.

    `root` is the release's folder, or the folder of the subjects; the sheet may then be one
    or two folders above. The newest revision of the sheet is read unless `spec.sheet` names
    another. If the apex is not known, a frame's phase is empty, not guessed. `clip` makes a clip
    from a row's text, or raises ValueError with the reason why it cannot.

    Raises DataError if there is no tree of frames or no sheet, if a column is missing, or if an
    emotion is unknown.
    """
    # Find the images and the sheet.
    tree, findings = find_tree(
        root, layout.folder_pattern, reader, f"has no images at {layout.form}"
    )
    sheet, choice = find_sheet(root, tree, layout.sheet, spec.sheet, layout.usual)
    sheet_table = read_sheet_table(
        sheet, layout.columns, ["action_units", *layout.optional], parse_page(spec.sheet)
    )
    findings += sheet_table.findings
    if not sheet_table.positions["action_units"]:
        message = "the sheet has no column of action units"
        findings.append(Finding("note", "no action units", sheet.name, message))

    # Read the clips from the sheet and the frames from the disk, independently of each other.
    rows, notes, other_rows = select_clip_rows(sheet_table)
    clips, doubts, clip_rows = read_clips(sheet.name, rows, clip, row_repairs or {})
    images, passed_over = walk(tree)
    images, other_findings = leave_out_others(images, layout.beside)
    frames_by_folder, strays = group_by_folder(
        images, layout.folder_pattern, layout.subject, layout.form
    )

    # Bring the two together, and report where they differ.
    sure = (
        layout.counted
        or spec.numbers == "sheet"
        or _rank_folder(root, tree.relative_to(root).as_posix()) == RECORDINGS_RANK
    )
    frames, differences = join_clips_and_frames(
        clips,
        frames_by_folder,
        row_repairs or {},
        f"{tree} and {sheet}",
        shared=layout.shared,
        sure=sure,
    )
    labelled, unlabelled = label_rows(frames, spec, reader, str(sheet))
    findings += [choice, *notes, *doubts, *passed_over, *other_findings, *strays]
    findings += [*differences, *unlabelled]
    return Listing(
        tree,
        labelled,
        (sheet,),
        tuple(findings),
        reader.licence,
        part,
        annotation_rows=other_rows | clip_rows,
    )


# The tree


def find_tree(
    root: Path, folder_pattern: re.Pattern[str], reader: Reader, lacking: str
) -> tuple[Path, list[Finding]]:
    """Return the folder below which images have a layout: cropped faces rather than whole frames.

    `folder_pattern` matches the end of a path from the subject's folder on. Raises DataError if no
    image has this layout.
    """
    # Count the images of each folder that could be the tree.
    counts: dict[str, int] = {}
    for path in walk(root)[0]:
        match = folder_pattern.search(path)
        if match:
            above = path[: match.start()].strip("/")
            counts[above] = counts.get(above, 0) + 1
    if not counts:
        raise make_dataset_error(root, reader, lacking)

    # Prefer cropped faces, then the folder nearest to the root.
    trees = sorted(
        counts, key=lambda above: (_rank_folder(root, above), above.count("/") + bool(above), above)
    )
    other_trees = [above or "." for above in trees[1:]]
    where = trees[0] or "."
    message = (
        "the frames were read from this "
        f"folder{f', and not from {list_some(other_trees)}' if other_trees else ''}"
    )
    findings = [Finding("note", "tree", where, message)]
    if _rank_folder(root, trees[0]) > 1:
        findings.append(
            Finding("warning", "not cropped", where, "frames are whole, not cropped to faces")
        )
    return root / trees[0], findings


def leave_out_others(images: Sequence[str], beside: str) -> tuple[list[str], list[Finding]]:
    """Return the images that do not have `beside` in their path, and a finding about the others."""
    remaining = [path for path in images if not beside or beside not in path.lower()]
    if len(remaining) == len(images):
        return remaining, []
    left_out = tuple(path for path in images if beside in path.lower())
    message = f"images of another kind, passed over: {len(left_out)}"
    return remaining, [
        Finding("note", "other images", beside.strip("/"), message, pictures=left_out)
    ]


def group_by_folder(
    images: Sequence[str],
    folder_pattern: re.Pattern[str],
    subject: Callable[[str], str],
    layout: str,
) -> tuple[ClipFolders, list[Finding]]:
    """Return the frames by subject and folder, in order, and findings about misplaced images and
    repeated frame numbers.

    `folder_pattern` has the groups subject and clip; `subject` normalises the subject.
    """
    # Sort the images into folders, without copies and images in other places.
    frames_by_folder: dict[tuple[str, str], dict[int, list[str]]] = {}
    stray, repeated = [], []
    doubles = find_copies(images)
    for path in images:
        match = folder_pattern.match(path)
        frame = find_last_number(path)
        if path in doubles:
            continue
        if match is None or frame < 0:
            stray.append(path)
            continue
        home = (subject(match["subject"]), match["clip"].lower())
        frames_by_folder.setdefault(home, {}).setdefault(frame, []).append(path)

    # Of several files with one number, choose the one that is named as most of the folder's are.
    chosen: ClipFolders = {}
    for home, numbered in frames_by_folder.items():
        usual = Counter(_name_series(path) for paths in numbered.values() for path in paths)
        ordered = {
            frame: sorted(paths, key=lambda path: -usual[_name_series(path)])
            for frame, paths in numbered.items()
        }
        chosen[home] = {frame: paths[0] for frame, paths in sorted(ordered.items())}
        repeated += [path for paths in ordered.values() for path in paths[1:]]

    # Report the images that are left out.
    findings = report_copies(doubles)
    if stray:
        message = f"images not at {layout}, left out: {len(stray)}"
        findings.append(
            Finding("warning", "misplaced image", list_some(stray), message, pictures=tuple(stray))
        )
    if repeated:
        message = (
            f"images with the frame number of another in the same clip, left out: {len(repeated)}"
        )
        findings.append(
            Finding(
                "warning", "repeated frame", list_some(repeated), message, pictures=tuple(repeated)
            )
        )
    return chosen, findings


def _name_series(path: str) -> tuple[str, str]:
    """Return the part of a frame's name before its number, and its suffix."""
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    return stem.rstrip("0123456789").lower(), suffix.lower()


# The sheet


def select_clip_rows(
    sheet: SheetTable,
) -> tuple[list[tuple[int, dict[str, str]]], list[Finding], dict[str, str]]:
    """Return the rows of a table that describe clips, and of the other rows findings and their
    names in the accounts.
    """
    rows, findings, read = [], [], {}
    for line, values in sheet.iterate_rows():
        name = f"{sheet.sheet.name}, row {line}"
        filled = [column for column, text in values.items() if text]
        if sheet.repeats_header(line):
            message = "it repeats the header"
            findings.append(Finding("note", "repeated header", name, message, rows=(name,)))
        elif len(filled) < 2 and not {"onset", "offset"} & set(filled):
            message = f"it is a note, not a clip: {sheet.read_text(line)[:200]}"
            findings.append(Finding("note", "note in the sheet", name, message, rows=(name,)))
        else:
            rows.append((line, values))
            continue
        read[name] = ""
    return rows, findings, read


def read_clips(
    sheet: str,
    rows: Iterable[tuple[int, dict[str, str]]],
    clip: Callable[[dict[str, str]], SheetClip],
    row_repairs: RowRepairs,
) -> tuple[list[SheetClip], list[Finding], dict[str, str]]:
    """Return the usable rows of the sheet in the order of subject and clip, findings about the
    others, and the clip that each row gives.

    Known faults that the row itself reveals are repaired.
    """
    clips: dict[tuple[str, str], SheetClip] = {}
    contradicted: set[tuple[str, str]] = set()
    findings = []
    read: dict[str, str] = {}
    for line, values in rows:
        # Every row is accounted for by its name, even if rows of two pages have one number.
        row = f"{sheet}, row {line}"
        row = row if row not in read else f"{row}, again"
        read[row] = ""
        try:
            described, repairs = _apply_row_repair(clip(values), {}, row_repairs)
            if described.offset < described.onset:
                raise ValueError(
                    f"onset and offset must be frame numbers in order; given: {described.onset}, "
                    f"{described.offset}"
                )
        except ValueError as error:
            message = f"{error}; the clip was left out"
            findings.append(
                Finding("warning", "unusable row", f"{sheet}, row {line}", message, rows=(row,))
            )
            continue
        read[row] = described.key

        # Spreadsheets turn action units such as 4-7 into dates.
        if is_date(described.action_units):
            message = (
                f"its action units are a date ({described.action_units}), which a spreadsheet made "
                "of them; left empty"
            )
            findings.append(Finding("warning", "date for action units", described.key, message))
            described = replace(described, action_units="")

        # A second row for a clip is harmless if it says the same.
        identity = (described.subject, described.name.lower())
        if identity not in clips:
            clips[identity] = described
            findings += repairs
        elif clips[identity] != described:
            contradicted.add(identity)
        else:
            message = f"{sheet} has it twice, with the same values"
            findings.append(Finding("note", "repeated row", described.key, message, rows=(row,)))

    # Clips whose rows differ are left out: which row is right is not known.
    for identity in sorted(contradicted):
        where = clips.pop(identity).key
        message = f"{sheet} has it twice, with different values; left out"
        clip_rows = tuple(row for row, key in read.items() if key.lower() == where.lower())
        findings.append(Finding("warning", "contradiction", where, message, rows=clip_rows))
    ordered = sorted(
        clips.values(),
        key=lambda clip: (clip.subject, _list_candidate_folders(clip)[-1], clip.onset, clip.name),
    )
    return ordered, findings, read


def parse_clip_row(values: dict[str, str], subject: str | None) -> SheetClip:
    """Return the clip that a row with clip, onset, apex, offset, action_units and emotion
    describes.

    Raises ValueError if the row cannot be used.
    """
    # Spreadsheets turn names and numbers such as 2-3 into dates.
    for name in ("subject", "clip", "onset", "apex", "offset", "emotion"):
        if is_date(values.get(name, "")):
            raise ValueError(
                f"its {name} is a date ({values[name]}), which spreadsheets make of names such as "
                "2-3"
            )

    # Subject, clip, onset, offset and emotion are required; apex and action units are not.
    if subject is None or not values["clip"]:
        raise ValueError(
            f"it must name a subject and a clip, and has '{values['subject']}' and "
            f"'{values['clip']}'"
        )
    onset, offset = parse_number(values["onset"]), parse_number(values["offset"])
    if onset is None or offset is None:
        raise ValueError(
            f"onset and offset must be frame numbers; given: {values['onset']}, {values['offset']}"
        )
    if not values["emotion"]:
        raise ValueError("it has no emotion")
    if "/" in values["clip"] or not values["clip"].isprintable():
        raise ValueError(f"a clip's name must be that of a folder, and is {values['clip']!r}")

    apex = parse_number(values.get("apex", ""))
    units = values.get("action_units", "")
    return SheetClip(subject, values["clip"], onset, apex, offset, units, values["emotion"])


# Clips and their frames


def join_clips_and_frames(
    clips: Sequence[SheetClip],
    frames_by_folder: ClipFolders,
    row_repairs: RowRepairs,
    where: str,
    shared: bool = False,
    apexes: bool = True,
    sure: bool = False,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the frames between onset and offset of each clip that has any, and findings about all
    that does not agree.

    A frame within two clips gets a row in both. If folders are `shared`, one may hold several
    clips or none. Without `apexes` the set has no apexes, and none is reported missing. `sure` says
    that files have the sheet's numbers even if they begin with 0 or 1. Raises DataError if no frame
    remains; `where` names the tree and the sheet.
    """
    # Take the frames of each clip from the first of its folders that exists.
    findings: list[Finding] = []
    rows: list[dict[str, object]] = []
    used: set[tuple[str, str]] = set()
    for clip in clips:
        home = next(
            (home for home in _list_candidate_folders(clip) if home in frames_by_folder), None
        )
        if home is None:
            message = "in the sheet, not on the disk; left out"
            findings.append(
                Finding("warning", "clip not on disk", clip.key, message, gone=(clip.key,))
            )
            continue
        used.add(home)
        own_folder = not shared or home[1] == clip.name.lower()
        frames, renumbered = (
            _renumber(clip, frames_by_folder[home], sure)
            if own_folder
            else (frames_by_folder[home], [])
        )
        if not frames:
            findings += renumbered
            continue
        repaired, repairs = _repair(clip, frames, row_repairs, apexes)
        findings += [*renumbered, *repairs, *_report_gaps(repaired, frames, own_folder)]
        rows += _make_frame_rows(repaired, frames)

    # Report frames of no clip, frames of several clips, and unreadable action units.
    findings += _report_unused_folders(
        [frames for home, frames in frames_by_folder.items() if home not in used], shared
    )
    listed = pd.DataFrame(rows)
    if shared:
        findings += _report_between_clips(listed, frames_by_folder, used)
    if len(listed):
        findings += _report_overlaps(listed)
    findings += _report_unread_units(clips)

    if listed.empty:
        reasons = "; ".join(
            f"{finding.where}: {finding.what}"
            for finding in findings
            if finding.severity == "warning"
        )[:600]
        raise DataError(
            f"{where} must name the same clips and frames, and have none in common: {reasons}"
        )
    return listed, findings


def format_ranges(numbers: Sequence[int], limit: int = 6) -> str:
    """Return sorted numbers as text, with ranges: 3-7, 9."""
    runs = find_consecutive_runs(numbers)
    return list_some([f"{low}-{high}" if high > low else str(low) for low, high in runs], limit)


def _list_candidate_folders(clip: SheetClip) -> list[tuple[str, str]]:
    return [(clip.subject, home.lower()) for home in (clip.name, *clip.candidate_folders)]


def _renumber(clip: SheetClip, frames: Frames, sure: bool) -> tuple[Frames, list[Finding]]:
    """Return the frames by the sheet's numbers: some releases count the files of each clip from 0
    or 1.

    If the files may be counted so, but it is not known at which frame they begin, no frame is
    returned, and a finding that says so.
    """
    # The files have the sheet's numbers if they begin with any other number.
    first, last, length = min(frames), max(frames), clip.offset - clip.onset + 1
    if first not in (0, 1) or first == clip.onset:
        return frames, []

    # As many files as frames: the first file is the onset.
    if len(frames) == length == last - first + 1:
        message = (
            f"files are counted from {first}, which is taken to be the sheet's {clip.onset}, "
            f"because there are {length} of each"
        )
        shifted = {frame - first + clip.onset: path for frame, path in frames.items()}
        return shifted, [Finding("note", "files counted anew", clip.key, message)]

    # Files with large gaps between their numbers were selected from a recording, not counted.
    if sure or len(frames) < MIN_FILES_PER_NUMBER * (last - first + 1):
        return frames, []
    message = (
        f"files are counted from {first} to {last}, and the sheet has {clip.onset}-{clip.offset}, "
        f"{quantify(length, 'frame')}: which file is which frame is not known; left out. If the "
        "files have the sheet's numbers, give --numbers sheet"
    )
    pictures = tuple(frames.values())
    return {}, [
        Finding(
            "warning", "unknown numbers", clip.key, message, pictures=pictures, gone=(clip.key,)
        )
    ]


def _apply_row_repair(
    clip: SheetClip, frames: Frames, row_repairs: RowRepairs
) -> tuple[SheetClip, list[Finding]]:
    row_repair = row_repairs.get((clip.subject, clip.name))
    if row_repair is None or not row_repair.is_needed(clip, frames):
        return clip, []
    changes = row_repair.repair(clip, frames)
    new_values = ", ".join(f"{name} is now {value}" for name, value in changes.items())
    message = f"{row_repair.fault}: {row_repair.reason}; {new_values}"
    return replace(clip, **changes), [Finding("warning", "patched", clip.key, message)]


def _repair(
    clip: SheetClip, frames: Frames, row_repairs: RowRepairs, apexes: bool
) -> tuple[SheetClip, list[Finding]]:
    """Return the clip with what can be repaired, and findings about its faults."""
    clip, findings = _apply_row_repair(clip, frames, row_repairs)
    if clip.apex is None and apexes:
        message = "the sheet has no apex for it; its frames have no phase except onset and offset"
        findings.append(Finding("warning", "no apex", clip.key, message))
    if clip.apex == clip.onset:
        message = f"both are frame {clip.onset} in the sheet"
        findings.append(Finding("warning", "apex at onset", clip.key, message))
    if clip.apex is not None and not clip.onset <= clip.apex <= clip.offset:
        message = (
            f"apex {clip.apex} is not within {clip.onset}-{clip.offset}; it is taken as unknown"
        )
        findings.append(Finding("warning", "apex outside", clip.key, message))
        clip = replace(clip, apex=None)
    return clip, findings


def _report_gaps(clip: SheetClip, frames: Frames, own_folder: bool) -> list[Finding]:
    """Return findings about frames of the sheet without a file, and about files of the clip's own
    folder outside onset and offset.
    """
    # Frames without a file, listed unless the sheet's numbers are absurdly far apart.
    length = clip.offset - clip.onset + 1
    present = {frame for frame in frames if clip.onset <= frame <= clip.offset}
    findings = []
    if len(present) < length:
        lacking = length - len(present)
        message = (
            f"{lacking} of {quantify(length, 'frame')} {'has' if lacking == 1 else 'have'} no file"
        )
        if length < 100_000:
            missing = [
                frame for frame in range(clip.onset, clip.offset + 1) if frame not in present
            ]
            message += f": {format_ranges(missing)}"
        if not present:
            message += (
                f"; the files are numbered {format_ranges(sorted(frames))}, so the clip is left out"
            )
        left_out = () if present else (clip.key,)
        findings.append(Finding("warning", "missing frames", clip.key, message, gone=left_out))

    # In a shared folder, files outside this clip may belong to another.
    extra = sorted(set(frames) - present)
    if extra and own_folder:
        message = (
            f"files outside onset-offset {clip.onset}-{clip.offset}, left out: "
            f"{format_ranges(extra)} ({len(extra)} in all)"
        )
        pictures = tuple(frames[frame] for frame in extra)
        findings.append(Finding("warning", "extra frames", clip.key, message, pictures=pictures))
    return findings


def _report_unused_folders(folders: Sequence[Frames], shared: bool) -> list[Finding]:
    """Return findings about the folders that no row of the sheet names."""
    names = [next(iter(frames.values())).rsplit("/", 1)[0] for frames in folders]
    if shared and names:
        message = f"folders of which the sheet names no clip, left out: {len(names)}"
        pictures = tuple(path for frames in folders for path in frames.values())
        return [
            Finding("note", "clip not in the sheet", list_some(names), message, pictures=pictures)
        ]
    return [
        Finding(
            "warning",
            "clip not in the sheet",
            name,
            "no usable row of the sheet names it; left out",
            pictures=tuple(frames.values()),
        )
        for name, frames in zip(names, folders, strict=True)
    ]


def _report_between_clips(
    listed: pd.DataFrame, frames_by_folder: ClipFolders, used: set[tuple[str, str]]
) -> list[Finding]:
    """Return a finding about the frames of shared folders that are in none of their clips."""
    in_clips = set(listed["path"]) if len(listed) else set()
    pictures = tuple(
        path
        for home in sorted(used)
        for path in frames_by_folder[home].values()
        if path not in in_clips
    )
    if not pictures:
        return []
    message = (
        f"frames of videos outside the onset and offset of every clip, left out: {len(pictures):,}"
    )
    folders = sorted({path.rpartition("/")[0] for path in pictures})
    return [Finding("note", "outside every clip", list_some(folders), message, pictures=pictures)]


def _report_unread_units(clips: Sequence[SheetClip]) -> list[Finding]:
    """Return findings about words that are not action units; the text stays as it is."""
    unread = {clip.key: facs.parse_units(clip.action_units).unread for clip in clips}
    return [
        Finding(
            "note",
            "action units not understood",
            key,
            f"kept as text, but not action units: {list_some(words)}",
        )
        for key, words in unread.items()
        if words
    ]


def _make_frame_rows(clip: SheetClip, frames: Frames) -> list[dict[str, object]]:
    return [
        {
            "path": path,
            "key": f"{clip.key}/{frame}",
            "subject": clip.subject,
            "clip": clip.key,
            "frame": frame,
            "phase": _find_phase(clip, frame),
            "raw_label": clip.raw_label,
            "action_units": clip.action_units,
        }
        for frame, path in frames.items()
        if clip.onset <= frame <= clip.offset
    ]


def _find_phase(clip: SheetClip, frame: int) -> str:
    if frame == clip.apex:  # first, for clips whose apex is their onset or offset
        return "apex"
    if frame == clip.onset:
        return "onset"
    if frame == clip.offset:
        return "offset"
    if clip.apex is None:
        return ""
    return "rise" if frame < clip.apex else "fall"


def _report_overlaps(table: pd.DataFrame) -> list[Finding]:
    """Return a finding about images in more than one clip, with the number of those whose labels
    differ.
    """
    shared = table[table["path"].duplicated(keep=False)]
    if shared.empty:
        return []
    clips = sorted(set(shared["clip"]))
    unequal = int((shared.groupby("path")["raw_label"].nunique() > 1).sum())
    message = (
        f"images within the onset and offset of more than one clip: {shared['path'].nunique():,}, "
        f"of {quantify(len(clips), 'clip')}; each clip gets a "
        f"copy{f', {unequal:,} of them with different labels' if unequal else ''}. A split by clip "
        "may separate the copies; a split by subject never does"
    )
    return [Finding("warning", "overlapping clips", list_some(clips), message)]


def _rank_folder(root: Path, above: str) -> int:
    """Return a folder's rank by its name: 0 for cropped faces, 2 for whole frames of clips, 3 for
    whole recordings, and 1 if the name does not tell.
    """
    text = (above or root.name).lower()
    return next(
        (rank for rank, word in ((0, "crop"), (2, "select"), (3, "raw")) if word in text), 1
    )
