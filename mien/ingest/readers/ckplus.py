"""CK+ (Lucey et al. 2010): sequences from neutral to peak, coded in FACS.

cohn-kanade-images/S005/001/S005_001_00000011.png
Emotion/S005/001/S005_001_00000011_emotion.txt    one number, "   3.0000000e+00";
                                                  327 of 593 sequences have one
FACS/S005/001/S005_001_00000011_facs.txt          a line for each action unit: its number and its
                                                  intensity
"""

import re
from pathlib import Path

from mien.findings import Finding, list_some
from mien.ingest.folders import IMAGE_SUFFIXES, FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import (
    INTENSITY_LETTERS,
    ImageRow,
    Losses,
    assign_phases,
    make_listing,
    match_paths,
    read_annotation,
    report_faults,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="ckplus",
    title="CK+, original tree",
    needs=(
        "FOLDER with cohn-kanade-images/S005/001/S005_001_00000011.png and "
        "Emotion/S005/001/..._emotion.txt, FACS/"
    ),
    subjects="the names of the files",
    clips="the names of the files",
    licence="CK+ agreement: non-commercial research, no redistribution",
    terms=make_request_terms("CK+", "the agreement with CMU and Pitt"),
    other_names=("ck", "ck+"),
    citation=(
        "Lucey P, Cohn JF, Kanade T, Saragih J, Ambadar Z, Matthews I (2010) The Extended "
        "Cohn-Kanade Dataset (CK+): A complete dataset for action unit and emotion-specified "
        "expression. CVPR Workshops, 94-101"
    ),
    obtain=(
        "sign the agreement of the Affect Analysis Group, University of Pittsburgh: "
        "jeffcohn.net/Resources"
    ),
    labels={
        "0": "neutral",
        "1": "anger",
        "2": "contempt",
        "3": "disgust",
        "4": "fear",
        "5": "happiness",
        "6": "sadness",
        "7": "surprise",
    },
)

CKPLUS_FAULT_MESSAGES = {
    "no emotion": "sequences without an emotion, left out: {}; of the release's 593, 327 have one",
    "unusable emotion": "sequences whose emotion is not one number from 0 to 7, left out: {}",
    "peak is not last": (
        "sequences whose coded frame is not their last; the last is used as the apex: {}"
    ),
    "unusable FACS": "sequences whose action units cannot be read and are left empty: {}",
    "no images": "emotions of sequences without images: {}",
    "repeated image": ("images that occur more than once under one name; the first was read: {}"),
}

_CKPLUS_IMAGE_PATTERN = re.compile(
    r"(?:.*/)?S([0-9]{3,4})_([0-9]{3})_([0-9]{1,8})\.[a-z]+", re.IGNORECASE
)

_ANNOTATION_PATTERN = re.compile(
    r"(?:.*/)?S([0-9]{3,4})_([0-9]{3})_([0-9]{1,8})_(emotion|facs)\.txt", re.IGNORECASE
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of each sequence that has an emotion.

    The first frame is the onset, the last the apex. Most folders of Emotion are empty; their
    sequences are counted and left out. Action units are those of the peak, `1C+2C+25`: a letter
    for each intensity that was scored.
    Raises DataError as `make_listing` does.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".txt"})
    texts = [path for path in paths if path.lower().endswith(".txt")]

    # Group images by clip and frame number, and annotations by clip.
    images, stray = match_paths(
        [path for path in paths if not path.lower().endswith(".txt")],
        _CKPLUS_IMAGE_PATTERN,
        "S005/001/S005_001_NNNNNNNN.png",
    )
    emotions, codings = _group_by_clip(texts, "emotion"), _group_by_clip(texts, "facs")
    clips: dict[str, dict[int, str]] = {}
    faults: dict[str, list[str]] = {}
    losses = Losses()
    for image in images:
        if clips.setdefault(_name_clip(image), {}).setdefault(int(image[3]), image[0]) != image[0]:
            faults.setdefault("repeated image", []).append(image[0])
            losses.add("repeated image", [image[0]])

    # Give each clip its emotion and action units; leave out those without an emotion.
    read = {path: clip for clip, files in emotions.items() for path in files}
    rows: list[ImageRow] = []
    used: list[str] = []
    for clip, frames in sorted(clips.items()):
        files = emotions.pop(clip, {})
        codes = {_parse_emotion(read_annotation(root / path)) for path in files}
        code = codes.pop() if len(codes) == 1 else None
        if code is None:
            kind = "unusable emotion" if files else "no emotion"
            faults.setdefault(kind, []).append(clip)
            losses.add(kind, frames.values(), files)
            continue
        if set(files.values()) != {max(frames)}:
            faults.setdefault("peak is not last", []).append(clip)
        coded = {
            _parse_action_units(read_annotation(root / path)) for path in codings.get(clip, {})
        } or {""}
        units = coded.pop() if len(coded) == 1 else None
        if units is None:
            faults.setdefault("unusable FACS", []).append(clip)
            units = ""
        used += [*files, *codings.get(clip, {})]
        rows += [
            ImageRow(
                path, f"{clip}/{number}", str(code), clip.split("/")[0], clip, number, phase, units
            )
            for number, (path, phase) in assign_phases(frames).items()
        ]

    # Report emotions without images.
    if emotions:
        faults["no images"] = sorted(emotions)
        losses.add("no images", rows=[path for files in emotions.values() for path in files])
    findings += [
        *stray,
        *report_faults(faults, CKPLUS_FAULT_MESSAGES, ["no emotion"], losses),
        *_report_foreign_files(texts),
    ]
    return make_listing(
        root, rows, findings, spec, READER, [root / path for path in used], annotation_rows=read
    )


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is CK+: an image named after subject and sequence."""
    image = look.find_first(r"(.*/)?S([0-9]{3})/([0-9]{3})/S\2_\3_[0-9]{8}\.[a-z]+")
    return f"{image} has the name of one of its frames" if image else None


def _report_foreign_files(texts: list[str]) -> list[Finding]:
    """Return a note about text files whose names are not those of annotations, if there are any."""
    foreign = [path for path in texts if not _ANNOTATION_PATTERN.fullmatch(path)]
    message = f"text files that are not named as annotations, ignored: {len(foreign)}"
    return (
        [Finding("note", "foreign files", list_some(foreign), message, files=tuple(foreign))]
        if foreign
        else []
    )


def _name_clip(match: re.Match[str]) -> str:
    return f"S{int(match[1]):03d}/{match[2]}"


def _group_by_clip(texts: list[str], kind: str) -> dict[str, dict[str, int]]:
    """Return the files of one kind (emotion or facs) by clip, each with the frame that it codes."""
    files: dict[str, dict[str, int]] = {}
    for match in map(_ANNOTATION_PATTERN.fullmatch, texts):
        if match and match[4].lower() == kind:
            files.setdefault(_name_clip(match), {})[match[0]] = int(match[3])
    return files


def _parse_numbers(content: str) -> list[float] | None:
    try:
        return [float(word) for word in content.split()]
    except ValueError:
        return None


def _parse_emotion(content: str) -> int | None:
    """Return the code in an emotion file, 0 to 7; None if it is not one such number."""
    numbers = _parse_numbers(content)
    return (
        int(numbers[0])
        if numbers and len(numbers) == 1 and numbers[0] in range(len(READER.labels))
        else None
    )


def _parse_action_units(content: str) -> str | None:
    """Return pairs of numbers as action units with their intensity; None if they are not pairs."""
    numbers = _parse_numbers(content)
    if (
        numbers is None
        or len(numbers) % 2
        or any(not number.is_integer() or number < 0 for number in numbers)
    ):
        return None
    pairs = [
        (int(unit), int(intensity))
        for unit, intensity in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    if any(intensity >= len(INTENSITY_LETTERS) for _, intensity in pairs):
        return None
    return "+".join(f"{unit}{INTENSITY_LETTERS[intensity]}" for unit, intensity in pairs)
