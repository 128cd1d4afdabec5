"""Clips in the layout of a published set: frames, and a coding sheet.

Readers of that set read them, without a change. The frames of synthetic clips and the sheet are
marked as synthetic, where those readers do not look. A clip of a real person, or a copy of one,
leaves the store only on request.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
from jaxtyping import UInt8

from mien import __version__
from mien.errors import DataError, UsageError
from mien.export.album import are_drawn, find_copied_images
from mien.export.clip_layouts import CLIP_LAYOUTS, CodedClip, PublishedLayout
from mien.faces import Faces
from mien.findings import list_some
from mien.generators.clips.database import CLIPS_FILE
from mien.ingest.readers.casme2 import FREE_LICENCE
from mien.pages import escape
from mien.pages.workbooks import pack_workbook
from mien.publish import marks
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import quantify, track
from mien.runs.spec import suggest
from mien.runs.store import Run, Store

FIRST_SYNTHETIC_SUBJECT = 501
"""The number of the first synthetic subject: nobody in a published set has so high a number."""

README, PROVENANCE = "readme.txt", "provenance.csv"

SHEET_DATE = datetime(2014, 5, 8)  # stored in the sheet, so that equal clips give equal bytes

PROVENANCE_COLUMNS = ("key", "subject", "clip", "frame", "phase", "source", "seed", "licence")


@dataclass(frozen=True)
class WrittenClips:
    """What was written: the folder, clips per class, subjects, frames, and what was left out.

    `kept_back`: clips that show copies of training faces. `outside`: frames before the onset or
    after the offset.
    """

    folder: Path
    counts: dict[str, int]
    subjects: int
    frames: int
    kept_back: int
    outside: int


@dataclass(frozen=True)
class _PlacedClip:
    """A clip, and the rows and file numbers of its frames, from onset to offset."""

    coded: CodedClip
    is_real: bool
    rows: list[int]
    numbers: list[int]


def write_clips(
    run: Run, store: Store, out: Path, layout_name: str, real: bool = False
) -> WrittenClips:
    """Write the clips of a run to the folder `out`, in one of CLIP_LAYOUTS.

    Each row of the run is a frame; it names its clip, and a clip whose subject is not known gets a
    subject of its own. Frames are JPEG files of the highest quality, because the published sets
    have such files. Beside the layout's files there are readme.txt and provenance.csv, which has
    the key, the generator's run and the seed of each frame. The folder appears complete or not at
    all, and equal clips give equal bytes.

    Raises UsageError if the layout is unknown, the run has no clips of frames, its clips are real
    and `real` is false, or `out` is not empty. Raises DataError if the layout cannot hold them.
    """
    # Clips that may leave the store
    layout = _find_layout(layout_name)
    out = require_free(out)
    faces = _load_frames(run)
    originals = faces.index["source"] == "real"
    if originals.any() and not real:
        whose = (
            "drawn faces, which are originals, and"
            if are_drawn(run, store)
            else "real people, which"
        )
        raise UsageError(
            f"{run.name} holds {quantify(int(originals.sum()), 'frame')} of {whose} leave the "
            "store only with --real; keep to the licence of the dataset"
        )
    copied = set() if real else _find_copied_clips(faces, store)
    placed, outside = _place_clips(faces, layout, copied)
    if not placed:
        raise UsageError(
            f"all {quantify(len(copied), 'clip')} of {run.name} show copies of training faces, "
            "which leave the store only with --real"
        )

    # Their frames, the sheet, and where they come from
    with write_whole_folder(out) as folder:
        files = _write_frames(faces, placed, layout, run, folder)
        described = [clip.coded for clip in placed]
        readme = _write_readme_text(faces, placed, layout, run)
        (folder / README).write_text(readme, encoding="utf-8")
        sheet = _make_sheet(described, layout, readme)
        (folder / layout.sheet).write_bytes(sheet)
        rows = [row for clip in placed for row in clip.rows]
        table = faces.index.iloc[rows][list(PROVENANCE_COLUMNS)].reset_index(drop=True)
        table.insert(0, "file_name", files)
        table = _add_intensities(table, run)
        escape.write_csv(table, folder / PROVENANCE)

    emotions = faces.index["emotion"].iloc[[clip.rows[0] for clip in placed]]
    return WrittenClips(
        folder=out,
        counts={name: int((emotions == name).sum()) for name in faces.classes},
        subjects=len({clip.subject for clip in described}),
        frames=len(files),
        kept_back=len(copied),
        outside=outside,
    )


# What may be written


def _find_layout(name: str) -> PublishedLayout:
    """Return the layout of a name; raises UsageError if there is none."""
    if name not in CLIP_LAYOUTS:
        raise UsageError(
            f"clips can have the format {', '.join(CLIP_LAYOUTS)}; given: "
            f"'{name}'.{suggest(name, [*CLIP_LAYOUTS])}"
        )
    return CLIP_LAYOUTS[name]


def _load_frames(run: Run) -> Faces:
    """Return the frames of a run; raises UsageError if its rows are not frames of clips."""
    if "index.parquet" not in run.manifest["files"]:
        raise UsageError(
            f"clips must come from a run of faces, and {run.name} has none; `mien ls` lists the "
            "runs"
        )
    faces = Faces.load(run.path)
    if faces.moments:
        raise UsageError(
            "each row of a run must be one frame of a clip, and each row of "
            f"{run.name} is a whole clip of {len(faces.moments)} moments; generate clips of frames "
            "with `mien generate`, or preprocess without --clips"
        )
    faces.require_pictures(f"the frames of clips, and so those of {run.name},")

    # Each frame is in one clip, at one place
    index = faces.index
    lost = int(((index["clip"] == "") | (index["frame"] < 0)).sum())
    if lost:
        raise UsageError(
            f"each image must name its clip and its frame, and {lost:,} of {len(faces):,} of "
            f"{run.name} do not; omit --format to export them as single pictures"
        )
    repeated = index.duplicated(["clip", "frame"])
    if repeated.any():
        example = index["key"][repeated].iloc[0]
        raise DataError(f"each frame of a clip must be there once; {example} repeats another one")
    mixed = index.groupby("clip")[["emotion", "subject"]].nunique().max(axis=1)
    if (mixed > 1).any():
        names = list_some([str(name) for name in mixed.index[mixed > 1]])
        raise DataError(f"a clip must have one label and one subject; these have several: {names}")
    return faces


def _find_copied_clips(faces: Faces, store: Store) -> set[str]:
    """Return the clips whose first frame or apex is a copy of a training face."""
    index = faces.index
    first = ~index.sort_values("frame", kind="stable").duplicated("clip").sort_index()
    looked_at = (first | (index["phase"] == "apex")) & (index["source"] != "real")
    shown = faces.select(looked_at.to_numpy(dtype=bool))
    return set(shown.index["clip"][find_copied_images(shown, store)])


# The place of each frame


def _place_clips(
    faces: Faces, layout: PublishedLayout, left_out: set[str]
) -> tuple[list[_PlacedClip], int]:
    """Return the clips in the order of subject and name, and the number of frames outside them.

    Raises DataError if the layout has no label for an emotion, or no room for the subjects.
    """
    # Words for the emotions
    lacking = [name for name in faces.classes if name not in layout.labels]
    if lacking:
        others = [
            name for name, other in CLIP_LAYOUTS.items() if not set(lacking) - {*other.labels}
        ]
        has_them = f"; these formats have all: {', '.join(others)}" if others else ""
        raise DataError(
            f"{layout.title} must have a label for each emotion, and it has no label for "
            f"{', '.join(lacking)}{has_them}"
        )

    # Numbers for the people, apart for real and synthetic ones
    index = faces.index.assign(row=np.arange(len(faces)))
    index = index[~index["clip"].isin(left_out)]
    people = index["subject"].where(index["subject"] != "", index["clip"])
    numbers = _number_people(people, index["source"] == "real", layout)

    # The clips of each person, from onset to offset
    placed: list[_PlacedClip] = []
    clip_counts: dict[int, int] = {}
    outside = 0
    ordered = index.assign(person=people.map(numbers)).sort_values(
        ["person", "clip", "frame"], kind="stable"
    )
    for _, frames in ordered.groupby(["person", "clip"], sort=False):
        person = int(frames["person"].iloc[0])
        clip_counts[person] = clip_counts.get(person, 0) + 1
        clip = _place_clip(frames, person, clip_counts[person], layout)
        outside += len(frames) - len(clip.rows)
        placed.append(clip)
    if max(clip_counts.values(), default=0) > layout.max_clips:
        raise DataError(
            f"a subject of {layout.title} can have at most {layout.max_clips:,} clips, and one of "
            f"these has {max(clip_counts.values()):,}; use another format, such as casme2"
        )
    return placed, outside


def _number_people(
    people: pd.Series, is_real: pd.Series, layout: PublishedLayout
) -> Mapping[str, int]:
    """Return the number of each person: from 1 for real ones, from 501 for synthetic ones."""
    real_names, synthetic_names = (
        sorted(set(people[chosen]), key=_split_name) for chosen in (is_real, ~is_real)
    )
    numbers = {name: 1 + place for place, name in enumerate(real_names)}
    first = FIRST_SYNTHETIC_SUBJECT
    numbers |= {name: first + place for place, name in enumerate(synthetic_names)}
    too_many_real = len(real_names) >= first
    if too_many_real or max(numbers.values(), default=0) > layout.max_subject:
        room = first - 1 if too_many_real else layout.max_subject - first + 1
        raise DataError(
            f"the layout of {layout.title} has room for {room:,} subjects of a kind, and there are "
            f"{len(real_names):,} real and {len(synthetic_names):,} synthetic ones; use casme2"
        )
    return numbers


def _split_name(name: str) -> list[tuple[int, str]]:
    """Return a key by which sub2 comes before sub10."""
    parts = "".join(c if c.isdigit() else f" {c} " for c in name).split()
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _place_clip(
    frames: pd.DataFrame, person: int, number: int, layout: PublishedLayout
) -> _PlacedClip:
    """Return a clip and its frames from onset to offset; `frames` are in the order of time.

    Without a marked onset the first frame is the onset, and without an offset the last frame is.
    """
    # Onset, apex and offset of the run's own numbers
    found = {
        phase: [int(frame) for frame in frames["frame"][frames["phase"] == phase]]
        for phase in ("onset", "apex", "offset")
    }
    onset = (found["onset"] or [int(frames["frame"].iloc[0])])[0]
    offset = (found["offset"] or [int(frames["frame"].iloc[-1])])[-1]
    inside = frames[(frames["frame"] >= onset) & (frames["frame"] <= offset)]
    apex = next((frame for frame in found["apex"] if onset <= frame <= offset), None)

    # Frames are counted from 1 where the layout does so, or where there would be a frame 0
    shift = 1 - onset if layout.is_counted or onset < 1 else 0
    coded = CodedClip(
        subject=person,
        number=number,
        label=layout.labels[str(frames["emotion"].iloc[0])],
        action_units=str(frames["action_units"].iloc[0]),
        onset=onset + shift,
        apex=None if apex is None else apex + shift,
        offset=offset + shift,
    )
    numbers = [int(frame) + shift for frame in inside["frame"]]
    is_real = bool((frames["source"] == "real").all())
    return _PlacedClip(coded, is_real, [int(row) for row in inside["row"]], numbers)


# Files


def _write_frames(
    faces: Faces, placed: Sequence[_PlacedClip], layout: PublishedLayout, run: Run, folder: Path
) -> list[str]:
    """Write the frames, one at a time, and return their paths below `folder`, in order."""
    files: list[str] = []
    with track("writing frames", sum(len(clip.rows) for clip in placed)) as bar:
        for clip in placed:
            name = layout.name(clip.coded)
            place = layout.folder(clip.coded, name)
            (folder / place).mkdir(parents=True, exist_ok=True)
            facts = faces.index.iloc[clip.rows].to_dict("records")
            for row, number, fact in zip(clip.rows, clip.numbers, facts, strict=True):
                path = f"{place}/{layout.file(clip.coded, name, number)}"
                image = _fit_colours(np.asarray(faces.images[row]), layout)
                (folder / path).write_bytes(_encode_frame(image, fact, run))
                files.append(path)
            bar.update(len(files))
    return files


def _fit_colours(image: UInt8[np.ndarray, "c h w"], layout: PublishedLayout) -> np.ndarray:
    """Return a frame with as many channels as the layout's files; three of a grey one are equal."""
    if len(image) == 1 and not layout.is_grey:
        return np.repeat(image, 3, axis=0)
    return image


def _encode_frame(
    image: UInt8[np.ndarray, "c h w"], row: Mapping[Hashable, object], run: Run
) -> bytes:
    """Return a frame as a JPEG file, marked unless it is of a real person."""
    if row["source"] == "real":
        return marks.encode_plain_jpeg(image)
    mark = marks.Mark(
        image=str(row["key"]),
        run=str(row["source"]) or run.name,
        seed=int(str(row["seed"])),
        label=str(row["emotion"]),
        licence=str(row["licence"]),
        pixels="",
    )
    return marks.encode_jpeg(image, mark, "mien", __version__)


def _add_intensities(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return the provenance with the intensity and the frames a second of each clip, if known.

    A generator of movement writes them to clips.csv.
    """
    if CLIPS_FILE not in run.manifest["files"]:
        return table
    clips = pd.read_csv(run.find_file(CLIPS_FILE))
    columns = [name for name in ("intensity", "fps") if name in clips]
    return table.merge(clips[["clip", *columns]], on="clip", how="left", validate="many_to_one")


def _make_sheet(clips: Sequence[CodedClip], layout: PublishedLayout, readme: str) -> bytes:
    """Return the coding sheet: the layout's page first, and the readme as a second page."""
    book = openpyxl.Workbook()
    page = book.worksheets[0]
    page.title = "Sheet1"
    page.append(list(layout.head))
    for clip in clips:
        page.append([_make_cell(cell) for cell in layout.row(clip, layout.name(clip))])

    # Where readers of the sheet do not look
    about = book.create_sheet("About")
    for line in readme.splitlines():
        about.append([line])
    book.properties.title = book.properties.subject = readme.splitlines()[0]
    book.properties.creator = f"mien {__version__}"
    return pack_workbook(book, SHEET_DATE)


def _make_cell(cell: str | int | None) -> str | int | None:
    """Return a cell that no spreadsheet runs as a formula."""
    return escape.escape_cell(cell) if isinstance(cell, str) else cell


def _write_readme_text(
    faces: Faces, placed: Sequence[_PlacedClip], layout: PublishedLayout, run: Run
) -> str:
    """Return the readme: who is shown, on the first lines, then the licence and the files."""
    # Who is shown
    real_count = sum(clip.is_real for clip in placed)
    synthetic_count = len(placed) - real_count
    frames = sum(len(clip.rows) for clip in placed)
    who = (
        [
            f"EVERYTHING IN THIS FOLDER IS SYNTHETIC: a machine made all "
            f"{quantify(len(placed), 'clip')} ({quantify(frames, 'frame')}).",
            "Nobody in it exists, and nobody showed these expressions.",
        ]
        if not real_count
        else [
            f"{quantify(real_count, 'recorded or drawn clip')} and "
            f"{quantify(synthetic_count, 'synthetic clip')}, {quantify(frames, 'frame')}.",
            f"Subjects from {FIRST_SYNTHETIC_SUBJECT} on are synthetic: they do not exist.",
        ]
    )

    # A free licence is named by its own name only where all clips have it, for readers look for it
    licences = sorted(set(faces.index["licence"].iloc[[clip.rows[0] for clip in placed]]))
    stated = (
        licences
        if licences == [FREE_LICENCE]
        else ["free (CC0)" if name == FREE_LICENCE else str(name) for name in licences]
    )

    # The text
    lines = [
        *who,
        f"Only the layout is that of {layout.title}: its folders, file names and coding sheet.",
        "",
        f"Made by mien {__version__} from the run {run.name}.",
        f"Licence: {' and '.join(stated)}",
        f"Frame numbers count frames of the clips; {layout.title} has {layout.rate} a second.",
        f"Synthetic subjects have the numbers from {FIRST_SYNTHETIC_SUBJECT} on, so that none is "
        f"taken for a person of {layout.title}.",
        f"{PROVENANCE} has the image key, the generator's run and the seed of each frame, and the "
        "intensity of its clip if the generator was asked for one.",
        "The files of synthetic frames say so in their XMP (IPTC DigitalSourceType) and comment.",
        "The labels name expressions; they do not say what anybody feels.",
    ]
    return "\n".join(lines) + "\n"
