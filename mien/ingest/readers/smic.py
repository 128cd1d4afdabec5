"""SMIC (Li et al. 2013): 16 people, three cameras (HS, VIS, NIR).

    SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image000001.bmp
                                      trimmed to the expression; the folder is the label
    HS_long/SMIC-HS-E/s03/s3_sur_01/image308866.jpg
                                      with the frames before and after the expression
    SMIC-HS-E_annotation.xlsx         Subject, Filename, OnsetF, OffsetF, Emotion

No sheet has apexes or action units. A row may name a second expression in the same video.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.emotions import label_rows
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader, make_dataset_error
from mien.ingest.readers.clips import (
    ClipFolders,
    SheetClip,
    find_tree,
    group_by_folder,
    join_clips_and_frames,
    leave_out_others,
    parse_clip_row,
    read_clips,
    select_clip_rows,
)
from mien.ingest.readers.sheets import (
    ColumnSpellings,
    SheetTable,
    find_sheet,
    parse_number,
    parse_page,
    read_sheet_table,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="smic",
    title="SMIC",
    needs=(
        "FOLDER with HS/s1/micro/LABEL/s1_ne_01/reg_imageN.bmp (or VIS, NIR), or with "
        "SMIC-HS-E/s03/s3_sur_01/imageN.jpg and SMIC-HS-E_annotation.xlsx"
    ),
    subjects="folders",
    clips="folders, or the sheet",
    licence="SMIC agreement: research only, no redistribution",
    terms=make_request_terms("SMIC", "the form of the University of Oulu"),
    citation=(
        "Li X, Pfister T, Huang X, Zhao G, Pietikäinen M (2013) A Spontaneous Micro-expression "
        "Database: Inducement, Collection and Baseline. IEEE FG 2013"
    ),
    obtain="sign the form of the University of Oulu",
    labels={"negative": "negative", "positive": "positive", "surprise": "surprise"},
    options=("sheet",),
    parts={
        "HS": "trimmed clips of the fast camera, 100 frames per second",
        "VIS": "trimmed clips of the ordinary camera, 25 frames per second",
        "NIR": "trimmed clips of the near-infrared camera, 25 frames per second",
        "HS-E": "longer videos of the fast camera, with a sheet",
        "VIS-E": "longer videos of the ordinary camera, with a sheet",
        "NIR-E": "longer videos of the near-infrared camera, with a sheet",
    },
)

LABEL_OF_CODE = {"ne": "negative", "po": "positive", "sur": "surprise"}  # in the names of clips

SMIC_SHEET_COLUMNS: ColumnSpellings = {
    "subject": ("subject",),
    "clip": ("filename",),
    "onset": ("onsetf", "onsetframe", "onset"),
    "offset": ("offsetf", "offsetframe", "offset"),
    "onset 2": ("onset2", "onsetf2", "onset2f", "2ndonset", "secondonset", "onsetf1"),
    "offset 2": ("offset2", "offsetf2", "offset2f", "2ndoffset", "secondoffset", "offsetf1"),
    "emotion": ("emotion",),
}

_TRIMMED_PATTERN = r"s0*(?P<subject>[0-9]{1,3})/micro/(?P<label>[a-z]+)/(?P<clip>[^/]+)/[^/]+$"

_LONG_PATTERN = r"s0*(?P<subject>[0-9]{1,3})/(?P<clip>s[0-9]+_[a-z]+_[0-9]+)/[^/]+$"


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is SMIC: a path s1/micro/LABEL, or SMIC-HS-E."""
    path = look.find_first(
        r"(.*/)?s[0-9]+/micro/(negative|positive|surprise)/.*"
    ) or look.find_first(
        r"(.*/)?(smic[-_](hs|vis|nir)[-_]e/.*|s[0-9]+/s[0-9]+_(ne|po|sur)_[0-9]+/.*)"
    )
    return f"{path} has the names of its folders" if path else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of one part: `spec.part`, or the first that exists.

    Trimmed clips have all their frames, longer videos those from onset to offset. No apex is
    guessed.

    Raises DataError if the part does not exist, or for the longer videos if the sheet or one of
    its columns is missing.
    """
    # Select the part: the one asked for, or the first that exists.
    images = walk(root)[0]
    available = [
        part
        for part in READER.parts
        if any(_make_pattern(part, root).search(path) for path in images)
    ]
    if not available:
        raise make_dataset_error(
            root, READER, "has neither sN/micro nor SMIC-HS-E below a folder called HS, VIS or NIR"
        )
    part = spec.part or available[0]
    if part not in available:
        raise DataError(
            f"{root} must hold the part {part} of SMIC, and holds {', '.join(available)}; name one "
            "of them"
        )

    # Read it, and report the other parts.
    listing = (
        _scan_long_videos(root, spec, part)
        if part.endswith("-E")
        else _scan_trimmed_clips(root, spec, part)
    )
    other_parts = [other_part for other_part in available if other_part != part]
    choice = f", not {list_some(other_parts, 6)}; --part selects another" if other_parts else ""
    message = f"it was read{choice}"
    apex_note = (
        "SMIC has no apexes: only onset and offset are marked, and `--frames all` keeps all frames"
    )
    notes = (Finding("note", "part", part, message), Finding("note", "no apexes", ".", apex_note))
    return replace(listing, findings=(*notes, *listing.findings))


def _make_pattern(part: str, root: Path) -> re.Pattern[str]:
    """Return the pattern of a part's paths, from the subject to their end.

    The folder above it, which names the camera, may be `root` itself.
    """
    camera = part.removesuffix("-E")
    if part == camera:
        above = rf"(?<=\b{camera}/){'|^' if root.name.upper() == camera else ''}"
        return re.compile(rf"(?:{above}){_TRIMMED_PATTERN}", re.IGNORECASE)
    inside = re.search(
        rf"smic[-_]{camera}[-_]e$",
        "/".join(root.parts[-2:]).removesuffix(f"/{camera}"),
        re.IGNORECASE,
    )
    above = (
        rf"(?<=smic[-_]{camera}[-_]e/)|(?<=smic[-_]{camera}[-_]e/{camera}/){'|^' if inside else ''}"
    )
    return re.compile(rf"(?:{above}){_LONG_PATTERN}", re.IGNORECASE)


def _format_subject(number: str) -> str:
    return f"s{int(number):02d}"


# Trimmed clips


def _scan_trimmed_clips(root: Path, spec: IngestSpec, part: str) -> Listing:
    """Return the frames of trimmed clips, with the labels of their folders."""
    # Find the frames of each clip, without those that show no micro-expression.
    folder_pattern = _make_pattern(part, root)
    tree, findings = find_tree(root, folder_pattern, READER, f"has no {part}")
    images, other_files = walk(tree)
    micro, non_micro = leave_out_others(images, "/non_micro/")
    frames_by_folder, strays = group_by_folder(
        micro,
        re.compile(_TRIMMED_PATTERN, re.IGNORECASE),
        _format_subject,
        "sN/micro/LABEL/CLIP/...N.suffix",
    )

    # Read each folder as a clip, and label its frames.
    clips, contradictions = _read_folders(frames_by_folder)
    frames, clip_faults = join_clips_and_frames(
        list(clips),
        {home: frames_by_folder[home] for home in clips.values()},
        {},
        str(tree),
        apexes=False,
    )
    labelled, left_out = label_rows(frames, spec, READER, str(tree))
    return Listing(
        tree,
        labelled,
        (),
        (*findings, *other_files, *non_micro, *strays, *contradictions, *clip_faults, *left_out),
        READER.licence,
        part,
    )


def _read_folders(
    frames_by_folder: ClipFolders,
) -> tuple[dict[SheetClip, tuple[str, str]], list[Finding]]:
    """Return a clip for each folder whose name and label agree, and a warning about the others."""
    # A clip's name has a code for its label, which must be that of its folder.
    clips, contradictory, lost_images = {}, [], []
    for (subject, name), frames in frames_by_folder.items():
        labels = {path.split("/")[-3] for path in frames.values()}
        coded = re.fullmatch(r"s0*([0-9]+)_([a-z]+)_[0-9]+", name)
        agree = (
            coded
            and _format_subject(coded[1]) == subject
            and {LABEL_OF_CODE.get(coded[2])} == {label.lower() for label in labels}
        )
        if agree:
            clips[SheetClip(subject, name, min(frames), None, max(frames), "", labels.pop())] = (
                subject,
                name,
            )
        else:
            contradictory.append(f"{subject}/{'|'.join(sorted(labels))}/{name}")
            lost_images += frames.values()

    # Report the clips that contradict their folder.
    if not contradictory:
        return clips, []
    message = (
        "clips whose name and folder disagree about the subject or label, left out: "
        f"{len(contradictory)}"
    )
    where, pictures = list_some(contradictory), tuple(lost_images)
    return clips, [Finding("warning", "contradiction", where, message, pictures=pictures)]


# Longer videos


def _scan_long_videos(root: Path, spec: IngestSpec, part: str) -> Listing:
    """Return the frames of the expressions that the sheet marks in longer videos."""
    # Find the tree of videos and their sheet.
    folder_pattern = _make_pattern(part, root)
    tree, findings = find_tree(root, folder_pattern, READER, f"has no {part}")
    usual = f"SMIC-{part}_annotation.xlsx"
    sheet, sheet_finding = find_sheet(
        root, tree, re.compile(rf"^smic[-_]{part}.*\.(xlsx?|csv)$", re.I), spec.sheet, usual
    )

    # Read each expression in the sheet as a clip.
    optional = ["onset 2", "offset 2"]
    codes = read_sheet_table(
        sheet, SMIC_SHEET_COLUMNS, optional, parse_page(spec.sheet), ["onset", "offset", *optional]
    )
    usable, notes, skipped = select_clip_rows(codes)
    clips, row_faults, read = read_clips(
        sheet.name, _split_expressions(codes, usable), _parse_clip, {}
    )

    # Find the frames of each clip, and label them.
    images, other_files = walk(tree)
    frames_by_folder, strays = group_by_folder(
        images,
        re.compile(_LONG_PATTERN, re.IGNORECASE),
        _format_subject,
        "s03/s3_sur_01/...N.suffix",
    )
    frames, clip_faults = join_clips_and_frames(
        clips, frames_by_folder, {}, f"{tree} and {sheet}", shared=True, apexes=False
    )
    labelled, left_out = label_rows(frames, spec, READER, str(sheet))
    findings += [
        sheet_finding,
        *codes.findings,
        *notes,
        *row_faults,
        *other_files,
        *strays,
        *clip_faults,
        *left_out,
    ]
    return Listing(
        tree,
        labelled,
        (sheet,),
        tuple(findings),
        READER.licence,
        part,
        annotation_rows=skipped | read,
    )


def _split_expressions(
    codes: SheetTable, rows: list[tuple[int, dict[str, str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of the sheet, and a row CLIP-2 for its second expression, if it has one."""
    for line, values in rows:
        yield line, {**values, "home": values["clip"]}
        onsets = [*codes.read_texts(line, "onset")[1:], values.get("onset 2", "")]
        offsets = [*codes.read_texts(line, "offset")[1:], values.get("offset 2", "")]
        later = [
            pair for pair in zip(onsets, offsets, strict=False) if parse_number(pair[0]) is not None
        ]
        for position, (onset, offset) in enumerate(later, start=2):
            name = f"{values['clip']}-{position}"
            yield (
                line,
                {**values, "home": values["clip"], "clip": name, "onset": onset, "offset": offset},
            )


def _parse_clip(values: dict[str, str]) -> SheetClip:
    subject = re.fullmatch(r"s?0*([0-9]{1,3})", values["subject"], re.IGNORECASE)
    clip = parse_clip_row(values, _format_subject(subject[1]) if subject else None)
    coded = re.match(r"s0*([0-9]+)_([a-z]+)", clip.name.lower())
    if (
        coded is None
        or _format_subject(coded[1]) != clip.subject
        or LABEL_OF_CODE.get(coded[2]) != clip.raw_label.lower()
    ):
        raise ValueError(
            f"clip {clip.name}, subject {values['subject']} and emotion '{clip.raw_label}' must "
            "agree"
        )
    return replace(clip, candidate_folders=(values["home"],))
