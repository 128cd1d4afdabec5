"""What readers of micro-expressions share: a sheet with onset, apex and offset of each clip,
folders with its frames.

A sheet and a tree seldom agree in all. What does not fit together is reported and left out, and
known flaws are mended by patches, each only where its fault is there. Labels come from the sheet,
never from folders.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mien import facs
from mien.errors import DataError
from mien.ingest import (
    Finding,
    IngestSpec,
    Listing,
    Reader,
    label,
    last_number,
    no_dataset,
    some,
    walk,
)
from mien.ingest.copies import copies
from mien.ingest.rows import copied
from mien.ingest.sheets import Columns, Table, dated, find_sheet, number, page_of, table
from mien.progress import many

RECORDINGS = 3  # of _rank
DENSE = 0.9  # from so many files for each number on, files are counted one by one
Frames = dict[int, str]  # a frame's number -> its path
Homes = dict[tuple[str, str], Frames]  # by subject and folder, in lower case


@dataclass(frozen=True)
class Clip:
    """One expression, as the sheet has it."""

    subject: str  # sub01
    name: str  # EP02_01f
    onset: int
    apex: int | None
    offset: int
    action_units: str
    raw_label: str
    homes: tuple[str, ...] = ()  # the folders that may hold its frames, beside one of its own name

    @property
    def key(self) -> str:
        """Return what stands for the clip in keys: sub01/EP02_01f."""
        return f"{self.subject}/{self.name}"

    @property
    def middle(self) -> int:
        """Return the frame half-way between onset and offset."""
        return (self.onset + self.offset) // 2


@dataclass(frozen=True)
class Patch:
    """The repair of one row that is known to be wrong, made only where the fault is there."""

    fault: str
    reason: str
    wrong: Callable[[Clip, Frames], bool]
    right: Callable[[Clip, Frames], dict[str, int]]  # fields of Clip


# By subject and clip, never by row number: rows differ between copies. Each repair is told in the
# findings.
Patches = Mapping[tuple[str, str], Patch]


def no_apex(reason: str) -> Patch:
    """Return the patch that puts a missing apex in the middle."""
    return Patch(
        "no apex", reason, lambda clip, _: clip.apex is None, lambda clip, _: {"apex": clip.middle}
    )


def apex_at_onset(reason: str) -> Patch:
    """Return the patch that puts an apex that is the onset in the middle."""
    return Patch(
        "apex at onset",
        reason,
        lambda clip, _: clip.apex == clip.onset,
        lambda clip, _: {"apex": clip.middle},
    )


def ends_at(last: int, reason: str) -> Patch:
    """Return the patch for a clip of which no file after frame `last` was released."""
    return Patch(
        "files end early",
        reason,
        lambda clip, frames: bool(frames) and max(frames) == last < clip.offset,
        lambda clip, frames: {"offset": last},
    )


def corrected(field: str, wrong: int, right: int, reason: str) -> Patch:
    """Return the patch that replaces one wrong number in the sheet."""
    return Patch(
        f"{field} is {wrong}",
        reason,
        lambda clip, _: getattr(clip, field) == wrong,
        lambda clip, _: {field: right},
    )


@dataclass(frozen=True)
class Layout:
    """How a release lies on the disk, and how its sheet is written."""

    tail: re.Pattern[
        str
    ]  # of a path, from the subject's folder on, with the groups subject and clip
    form: str  # the same for people
    sheet: re.Pattern[str]
    usual: str  # what the sheet is called in the release
    columns: Columns
    subject: Callable[[str], str]  # brings what `tail` finds to one form
    shared: bool = False  # a folder is a video that holds several clips, or none
    optional: tuple[str, ...] = ()  # columns, beside the action units
    beside: str = ""  # what is in the path of images that are not of this kind, and passed over
    counted: bool = False  # the sheet counts the files of each clip, from 1


def scan_release(
    root: Path,
    spec: IngestSpec,
    reader: Reader,
    layout: Layout,
    clip: Callable[[dict[str, str]], Clip],
    patches: Patches | None = None,
    part: str | None = None,
) -> Listing:
    """Return the frames between onset and offset of each clip that is both in the sheet and on the
    disk.

    `root` is the release's folder, or the one that holds the subjects; the sheet may then lie one
    or two folders above. The newest revision of the sheet is read unless `spec.sheet` names
    another. A frame's phase is empty, not guessed, where the apex is not known. `clip` makes a clip
    of a row's text, or raises ValueError to say why it cannot.

    Raises DataError if there is no tree of frames, no sheet, a column is missing, or an emotion is
    unknown.
    """
    tree, findings = find_tree(root, layout.tail, reader, f"has no images at {layout.form}")
    sheet, told = find_sheet(root, tree, layout.sheet, spec.sheet, layout.usual)
    found = table(sheet, layout.columns, ["action_units", *layout.optional], page_of(spec.sheet))
    findings += found.findings
    if not found.places["action_units"]:
        findings.append(
            Finding("note", "no action units", sheet.name, "the sheet has no column for them")
        )
    rows, notes, told_of = usable_rows(found)
    clips, doubts, read = read_clips(sheet.name, rows, clip, patches or {})
    images, passed = walk(tree)
    kept, others = without(images, layout.beside)
    homes, strays = by_folder(kept, layout.tail, layout.subject, layout.form)
    sure = (
        layout.counted
        or spec.numbers == "sheet"
        or _rank(root, tree.relative_to(root).as_posix()) == RECORDINGS
    )
    frames, more = assemble(
        clips, homes, patches or {}, f"{tree} and {sheet}", shared=layout.shared, sure=sure
    )
    labelled, left_out = label(frames, spec, str(sheet))
    findings += [told, *notes, *doubts, *passed, *others, *strays, *more, *left_out]
    return Listing(
        tree, labelled, (sheet,), tuple(findings), reader.licence, part, read=told_of | read
    )


# The tree


def find_tree(
    root: Path, tail: re.Pattern[str], reader: Reader, lacking: str
) -> tuple[Path, list[Finding]]:
    """Return the folder below which images lie as `tail` says: cropped faces rather than whole
    frames.

    `tail` matches the end of a path from the subject's folder on. Raises DataError if no image lies
    so.
    """
    found: dict[str, int] = {}
    for path in walk(root)[0]:
        match = tail.search(path)
        if match:
            above = path[: match.start()].strip("/")
            found[above] = found.get(above, 0) + 1
    if not found:
        raise no_dataset(root, reader, lacking)
    trees = sorted(
        found, key=lambda above: (_rank(root, above), above.count("/") + bool(above), above)
    )
    others = [above or "." for above in trees[1:]]
    where = trees[0] or "."
    what = f"the frames were read here{f', and not in {some(others)}' if others else ''}"
    findings = [Finding("note", "tree", where, what)]
    if _rank(root, trees[0]) > 1:
        findings.append(
            Finding("warning", "not cropped", where, "frames are whole, not cropped to faces")
        )
    return root / trees[0], findings


def without(images: Sequence[str], beside: str) -> tuple[list[str], list[Finding]]:
    """Return the images that have no `beside` in their path, and how many do."""
    kept = [path for path in images if not beside or beside not in path.lower()]
    if len(kept) == len(images):
        return kept, []
    others = tuple(path for path in images if beside in path.lower())
    what = f"images of another kind, passed over: {len(others)}"
    return kept, [Finding("note", "other images", beside.strip("/"), what, pictures=others)]


def by_folder(
    images: Sequence[str], tail: re.Pattern[str], subject: Callable[[str], str], layout: str
) -> tuple[Homes, list[Finding]]:
    """Return the frames by subject and folder, in order, and what lies elsewhere or has the number
    of another.

    `tail` has the groups subject and clip; `subject` brings what it finds to one form.
    """
    homes: dict[tuple[str, str], dict[int, list[str]]] = {}
    stray, twice = [], []
    doubles = copies(images)
    for path in images:
        match = tail.match(path)
        frame = last_number(path)
        if path in doubles:
            continue
        if match is None or frame < 0:
            stray.append(path)
            continue
        home = (subject(match["subject"]), match["clip"].lower())
        homes.setdefault(home, {}).setdefault(frame, []).append(path)

    # Of several files with one number, the one that is named as most of the folder's are.
    chosen: Homes = {}
    for home, numbered in homes.items():
        usual = Counter(_series(path) for paths in numbered.values() for path in paths)
        ordered = {
            frame: sorted(paths, key=lambda path: -usual[_series(path)])
            for frame, paths in numbered.items()
        }
        chosen[home] = {frame: paths[0] for frame, paths in sorted(ordered.items())}
        twice += [path for paths in ordered.values() for path in paths[1:]]
    findings = copied(doubles)
    if stray:
        what = f"images not at {layout}, left out: {len(stray)}"
        findings.append(
            Finding("warning", "misplaced image", some(stray), what, pictures=tuple(stray))
        )
    if twice:
        what = f"images with the frame number of another in the same clip, left out: {len(twice)}"
        findings.append(
            Finding("warning", "repeated frame", some(twice), what, pictures=tuple(twice))
        )
    return chosen, findings


def _series(path: str) -> tuple[str, str]:
    """Return what a frame's name has before its number, and its suffix."""
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    return stem.rstrip("0123456789").lower(), suffix.lower()


# The sheet


def usable_rows(
    found: Table,
) -> tuple[list[tuple[int, dict[str, str]]], list[Finding], dict[str, str]]:
    """Return the rows of a table that say something of a clip, what the others are, and how the
    accounts call those.
    """
    rows, findings, read = [], [], {}
    for line, values in found.rows():
        name = f"{found.sheet.name}, row {line}"
        filled = [column for column, text in values.items() if text]
        if found.heads(line):
            findings.append(
                Finding("note", "repeated header", name, "it is the header once more", rows=(name,))
            )
        elif len(filled) < 2 and not {"onset", "offset"} & set(filled):
            what = f"it is no clip, but a note: {found.text(line)[:200]}"
            findings.append(Finding("note", "note in the sheet", name, what, rows=(name,)))
        else:
            rows.append((line, values))
            continue
        read[name] = ""
    return rows, findings, read


def read_clips(
    sheet: str,
    rows: Iterable[tuple[int, dict[str, str]]],
    clip: Callable[[dict[str, str]], Clip],
    patches: Patches,
) -> tuple[list[Clip], list[Finding], dict[str, str]]:
    """Return the usable rows of the sheet in the order of subject and clip, what is wrong with the
    others, and which clip each row gives.

    Faults that a row shows by itself are mended.
    """
    clips: dict[tuple[str, str], Clip] = {}
    torn: set[tuple[str, str]] = set()
    findings = []
    read: dict[str, str] = {}
    for line, values in rows:
        row = f"{sheet}, row {line}"
        row = row if row not in read else f"{row}, again"
        read[row] = ""
        try:
            made, mended = _patched(clip(values), {}, patches)
            if made.offset < made.onset:
                given = f"{made.onset}, {made.offset}"
                raise ValueError(f"onset and offset must be frame numbers in order; given: {given}")
        except ValueError as error:
            what = f"{error}; the clip was left out"
            findings.append(
                Finding("warning", "unusable row", f"{sheet}, row {line}", what, rows=(row,))
            )
            continue
        read[row] = made.key
        if dated(made.action_units):
            what = (
                f"its action units are a date ({made.action_units}), which a spreadsheet made "
                "of them; left empty"
            )
            findings.append(Finding("warning", "date for action units", made.key, what))
            made = replace(made, action_units="")
        known = (made.subject, made.name.lower())
        if known not in clips:
            clips[known] = made
            findings += mended
        elif clips[known] != made:
            torn.add(known)
        else:
            findings.append(
                Finding(
                    "note", "repeated row", made.key, f"{sheet} has it twice, alike", rows=(row,)
                )
            )
    for known in sorted(torn):
        where = clips.pop(known).key
        what = f"{sheet} has it twice, with different values; left out"
        lost = tuple(row for row, key in read.items() if key.lower() == where.lower())
        findings.append(Finding("warning", "contradiction", where, what, rows=lost))
    ordered = sorted(
        clips.values(), key=lambda made: (made.subject, _homes(made)[-1], made.onset, made.name)
    )
    return ordered, findings, read


def row_clip(values: dict[str, str], subject: str | None) -> Clip:
    """Return the clip that a row with clip, onset, apex, offset, action_units and emotion
    describes.

    Raises ValueError if the row cannot be used.
    """
    for name in ("subject", "clip", "onset", "apex", "offset", "emotion"):
        if dated(values.get(name, "")):
            raise ValueError(
                f"its {name} is a date ({values[name]}), which spreadsheets make of names such as "
                "2-3"
            )
    if subject is None or not values["clip"]:
        raise ValueError(
            f"it must name a subject and a clip, and says '{values['subject']}' and "
            f"'{values['clip']}'"
        )
    onset, offset = number(values["onset"]), number(values["offset"])
    if onset is None or offset is None:
        raise ValueError(
            f"onset and offset must be frame numbers; given: {values['onset']}, {values['offset']}"
        )
    if not values["emotion"]:
        raise ValueError("it has no emotion")
    if "/" in values["clip"] or not values["clip"].isprintable():
        raise ValueError(f"a clip's name must be that of a folder, and is {values['clip']!r}")
    apex = number(values.get("apex", ""))
    units = values.get("action_units", "")
    return Clip(subject, values["clip"], onset, apex, offset, units, values["emotion"])


# Clips and their frames


def assemble(
    clips: Sequence[Clip],
    homes: Homes,
    patches: Patches,
    where: str,
    shared: bool = False,
    apexes: bool = True,
    sure: bool = False,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the frames between onset and offset of each clip that has some, and all that does not
    fit together.

    A frame within two clips stands in both. Where folders are `shared`, one may hold several clips
    or none. Without `apexes` the set has none, and none is missed. `sure` says that files have the
    sheet's numbers although they begin with 0 or 1. Raises DataError if nothing is left; `where`
    names the tree and the sheet.
    """
    findings: list[Finding] = []
    rows: list[dict[str, object]] = []
    used: set[tuple[str, str]] = set()
    for clip in clips:
        home = next((home for home in _homes(clip) if home in homes), None)
        if home is None:
            what = "in the sheet, not on the disk; left out"
            findings.append(
                Finding("warning", "clip not on disk", clip.key, what, gone=(clip.key,))
            )
            continue
        used.add(home)
        whole = not shared or home[1] == clip.name.lower()
        frames, told = _numbered(clip, homes[home], sure) if whole else (homes[home], [])
        if not frames:
            findings += told
            continue
        mended, more = _mend(clip, frames, patches, apexes)
        findings += [*told, *more, *_gaps(mended, frames, whole)]
        rows += _rows(mended, frames)
    findings += _unused([frames for home, frames in homes.items() if home not in used], shared)
    found = pd.DataFrame(rows)
    if shared:
        findings += _between(found, homes, used)
    if len(found):
        findings += _in_two_clips(found)
    findings += _unread_units(clips)
    if found.empty:
        told = "; ".join(
            f"{each.where}: {each.what}" for each in findings if each.severity == "warning"
        )[:600]
        raise DataError(f"{where} must name the same clips and frames, and share none: {told}")
    return found, findings


def ranges(numbers: Sequence[int], limit: int = 6) -> str:
    """Return sorted numbers as 3-7, 9."""
    runs: list[list[int]] = []
    for each in numbers:
        if runs and each == runs[-1][1] + 1:
            runs[-1][1] = each
        else:
            runs.append([each, each])
    return some([f"{low}-{high}" if high > low else str(low) for low, high in runs], limit)


def _homes(clip: Clip) -> list[tuple[str, str]]:
    return [(clip.subject, home.lower()) for home in (clip.name, *clip.homes)]


def _numbered(clip: Clip, frames: Frames, sure: bool) -> tuple[Frames, list[Finding]]:
    """Return the frames by the sheet's numbers: some releases count the files of a clip from 0 or 1
    anew.

    Files that may be counted anew, of which nobody knows where they begin, are none of the clip's:
    then nothing is returned, and a finding that says so.
    """
    first, last, length = min(frames), max(frames), clip.offset - clip.onset + 1
    if first not in (0, 1) or first == clip.onset:
        return frames, []
    if len(frames) == length == last - first + 1:
        what = (
            f"files are counted from {first}, which is taken to be the sheet's {clip.onset}, "
            f"for there are {length}"
        )
        moved = {frame - first + clip.onset: path for frame, path in frames.items()}
        return moved, [Finding("note", "files counted anew", clip.key, what)]
    if sure or len(frames) < DENSE * (last - first + 1):
        return frames, []
    what = (
        f"files are counted from {first} to {last}, and the sheet has {clip.onset}-{clip.offset}, "
        f"{many(length, 'frame')}: "
        "which file is which frame is not known; left out. If the files have the sheet's numbers, "
        "give --numbers sheet"
    )
    lost = tuple(frames.values())
    return {}, [
        Finding("warning", "unknown numbers", clip.key, what, pictures=lost, gone=(clip.key,))
    ]


def _patched(clip: Clip, frames: Frames, patches: Patches) -> tuple[Clip, list[Finding]]:
    patch = patches.get((clip.subject, clip.name))
    if patch is None or not patch.wrong(clip, frames):
        return clip, []
    changes = patch.right(clip, frames)
    told = ", ".join(f"{name} is now {value}" for name, value in changes.items())
    what = f"{patch.fault}: {patch.reason}; {told}"
    return replace(clip, **changes), [Finding("warning", "patched", clip.key, what)]


def _mend(clip: Clip, frames: Frames, patches: Patches, apexes: bool) -> tuple[Clip, list[Finding]]:
    """Return the clip as far as it can be put right, and what was found."""
    clip, findings = _patched(clip, frames, patches)
    if clip.apex is None and apexes:
        what = "the sheet has no apex for it; its frames have no phase but onset and offset"
        findings.append(Finding("warning", "no apex", clip.key, what))
    if clip.apex == clip.onset:
        findings.append(
            Finding(
                "warning", "apex at onset", clip.key, f"both are frame {clip.onset}, says the sheet"
            )
        )
    if clip.apex is not None and not clip.onset <= clip.apex <= clip.offset:
        what = f"apex {clip.apex} is not within {clip.onset}-{clip.offset}; it is taken as unknown"
        findings.append(Finding("warning", "apex outside", clip.key, what))
        clip = replace(clip, apex=None)
    return clip, findings


def _gaps(clip: Clip, frames: Frames, whole: bool) -> list[Finding]:
    """Say which frames of the sheet have no file, and which files of a folder for this clip alone
    it does not cover.
    """
    length = clip.offset - clip.onset + 1
    there = {frame for frame in frames if clip.onset <= frame <= clip.offset}
    findings = []
    if len(there) < length:
        what = (
            f"{(lacking := length - len(there))} of {many(length, 'frame')} "
            f"{'has' if lacking == 1 else 'have'} no file"
        )
        if length < 100_000:
            what += f": {ranges([frame for frame in range(clip.onset, clip.offset + 1) if frame not in there])}"
        if not there:
            what += f"; the files are numbered {ranges(sorted(frames))}, so the clip is left out"
        gone = () if there else (clip.key,)
        findings.append(Finding("warning", "missing frames", clip.key, what, gone=gone))
    extra = sorted(set(frames) - there)
    if extra and whole:
        what = (
            f"files outside onset-offset {clip.onset}-{clip.offset}, left out: {ranges(extra)} "
            f"({len(extra)} in all)"
        )
        lost = tuple(frames[frame] for frame in extra)
        findings.append(Finding("warning", "extra frames", clip.key, what, pictures=lost))
    return findings


def _unused(folders: Sequence[Frames], shared: bool) -> list[Finding]:
    """Say which folders no row of the sheet speaks of."""
    names = [next(iter(frames.values())).rsplit("/", 1)[0] for frames in folders]
    if shared and names:
        what = f"folders of which the sheet names no clip, left out: {len(names)}"
        lost = tuple(path for frames in folders for path in frames.values())
        return [Finding("note", "clip not in the sheet", some(names), what, pictures=lost)]
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


def _between(found: pd.DataFrame, homes: Homes, used: set[tuple[str, str]]) -> list[Finding]:
    """Say how many frames of videos that hold several clips lie in none of them."""
    kept = set(found["path"]) if len(found) else set()
    lost = tuple(path for home in sorted(used) for path in homes[home].values() if path not in kept)
    what = f"frames of videos outside the onset and offset of every clip, left out: {len(lost):,}"
    folders = sorted({path.rpartition("/")[0] for path in lost})
    return (
        [Finding("note", "outside every clip", some(folders), what, pictures=lost)] if lost else []
    )


def _unread_units(clips: Sequence[Clip]) -> list[Finding]:
    """Say which words among the action units are none; the text is kept as it is."""
    unread = {clip.key: facs.parse(clip.action_units).unread for clip in clips}
    return [
        Finding(
            "note", "action units not understood", key, f"kept as text, but no unit: {some(words)}"
        )
        for key, words in unread.items()
        if words
    ]


def _rows(clip: Clip, frames: Frames) -> list[dict[str, object]]:
    return [
        {
            "path": path,
            "key": f"{clip.key}/{frame}",
            "subject": clip.subject,
            "clip": clip.key,
            "frame": frame,
            "phase": _phase(clip, frame),
            "raw_label": clip.raw_label,
            "action_units": clip.action_units,
        }
        for frame, path in frames.items()
        if clip.onset <= frame <= clip.offset
    ]


def _phase(clip: Clip, frame: int) -> str:
    if frame == clip.apex:  # first, for clips whose apex is their onset or offset
        return "apex"
    if frame == clip.onset:
        return "onset"
    if frame == clip.offset:
        return "offset"
    if clip.apex is None:
        return ""
    return "rise" if frame < clip.apex else "fall"


def _in_two_clips(table: pd.DataFrame) -> list[Finding]:
    """Say which images stand in more than one clip, and which of them with different labels."""
    shared = table[table["path"].duplicated(keep=False)]
    if shared.empty:
        return []
    clips = sorted(set(shared["clip"]))
    unequal = int((shared.groupby("path")["raw_label"].nunique() > 1).sum())
    what = (
        f"images within the onset and offset of more than one clip: {shared['path'].nunique():,}, "
        "of "
        f"{many(len(clips), 'clip')}; they stand in "
        f"each{f', {unequal:,} of them with different labels' if unequal else ''}. A split by "
        "clip may part them, one by subject never does"
    )
    return [Finding("warning", "overlapping clips", some(clips), what)]


def _rank(root: Path, above: str) -> int:
    """By its name: 0 for cropped faces, 2 for whole frames of clips, 3 for whole recordings; 1 if
    it tells nothing.
    """
    text = (above or root.name).lower()
    return next(
        (rank for rank, word in ((0, "crop"), (2, "select"), (3, "raw")) if word in text), 1
    )
