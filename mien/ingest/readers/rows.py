"""What readers of photographs share: rows from file names, and findings."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.copied_files import find_copies
from mien.ingest.emotions import LEFT_OUT, find_emotion, label_rows
from mien.ingest.reader import WHOLE_FILE, Listing, Reader, Unpack, make_dataset_error
from mien.ingest.specs import IngestSpec
from mien.pictures import Box

# FACS intensities by the numbers 0 (not scored) to 5
INTENSITY_LETTERS = ("", "A", "B", "C", "D", "E")


@dataclass(frozen=True)
class ImageRow:
    """One image, as a row of Listing.rows before its label is mapped to an emotion."""

    path: str
    key: str
    raw_label: str
    subject: str = ""
    clip: str = ""
    frame: int = -1
    phase: str = "still"
    action_units: str = ""
    place: int = WHOLE_FILE  # the picture's position in the file, if the file is not the picture
    box: Box | None = None  # the face's left, top, width and height, if the source states them


def match_paths(
    paths: Sequence[str], pattern: re.Pattern[str], layout: str
) -> tuple[list[re.Match[str]], list[Finding]]:
    """Return the match of each path that fits, and findings about the others."""
    candidates = [(path, pattern.fullmatch(path)) for path in paths]
    stray = [path for path, match in candidates if match is None]
    findings = report_copies(doubles := find_copies(paths) & set(stray))
    stray = [path for path in stray if path not in doubles]
    if stray:
        message = f"images not at {layout}, left out: {len(stray)}"
        findings.append(
            Finding("warning", "misplaced image", list_some(stray), message, pictures=tuple(stray))
        )
    return [match for _, match in candidates if match is not None], findings


def report_copies(doubles: Iterable[str]) -> list[Finding]:
    """Return a finding about files that are copies of others by their names."""
    names = sorted(doubles)
    if not names:
        return []
    message = f"copies of images, by their names, left out: {len(names)}"
    return [Finding("warning", "copy", list_some(names), message, pictures=tuple(names))]


def assign_phases(frames: dict[int, str]) -> dict[int, tuple[str, str]]:
    """Return path and phase by frame number, in order, of a clip that goes from a neutral face to
    its apex.
    """
    first, last = min(frames), max(frames)
    phases = dict.fromkeys(frames, "rise") | {first: "onset"} | {last: "apex"}
    return {number: (frames[number], phases[number]) for number in sorted(frames)}


def make_listing(
    root: Path,
    rows: Sequence[ImageRow],
    findings: Sequence[Finding],
    spec: IngestSpec,
    about: Reader,
    annotations: Sequence[Path] = (),
    unpack: Unpack | None = None,
    part: str | None = None,
    annotation_rows: Mapping[str, str] | None = None,
    picture_positions: Mapping[str, Sequence[int]] | None = None,
) -> Listing:
    """Return the rows as a Listing, sorted by clip and frame, with unique keys and emotions for
    labels.

    Raises DataError if there are no rows, or none with an emotion.
    """
    # Leave out images whose labels contradict each other.
    if not rows:
        raise make_no_images_error(root, about, findings)
    rows, contradictions = _leave_out_contradictions(rows, spec, about)
    if not rows:
        raise make_no_images_error(root, about, contradictions)

    # Of several images with one key, keep the first.
    first: dict[str, ImageRow] = {}
    repeated = sorted(
        name_picture(row) for row in rows if first.setdefault(row.key, row) is not row
    )
    ordered = sorted(
        first.values(), key=lambda row: (row.subject, row.clip, row.frame, row.path, row.place)
    )
    table, unlabelled = label_rows(
        pd.DataFrame([vars(row) for row in ordered]), spec, about, str(root)
    )

    # Report what was left out, and what looks wrong.
    reported = [*findings, *contradictions, *unlabelled]
    if repeated:
        message = (
            f"images that occur more than once under one name, the first was used: {len(repeated)}"
        )
        reported.append(
            Finding(
                "warning", "repeated image", list_some(repeated), message, pictures=tuple(repeated)
            )
        )
    reported += report_other_folders(table)
    if not any(table["subject"]):
        message = "this set has no subjects, so no result on it can be subject-independent"
        reported.append(Finding("warning", "no subjects", ".", message))
    return Listing(
        root,
        table,
        tuple(annotations),
        tuple(reported),
        about.licence,
        part,
        unpack,
        annotation_rows=annotation_rows or {},
        picture_positions=picture_positions or {},
    )


def _leave_out_contradictions(
    rows: Sequence[ImageRow], spec: IngestSpec, about: Reader
) -> tuple[list[ImageRow], list[Finding]]:
    """Return the rows without images that occur with several labels, and a finding about these."""
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        labels_of.setdefault(row.key, set()).add(
            find_emotion(row.raw_label, spec.map, about.labels) or row.raw_label
        )
    contradicted = {key for key, labels in labels_of.items() if len(labels) > 1}
    if not contradicted:
        return list(rows), []
    agreeing = [row for row in rows if row.key not in contradicted]
    names = tuple(sorted({name_picture(row) for row in rows if row.key in contradicted}))
    message = (
        f"images that occur under several labels, left out: {len(contradicted)}; which label is "
        "right is not known"
    )
    left_out = tuple(sorted(contradicted))
    finding = Finding(
        "warning", "contradiction", list_some(names), message, pictures=names, gone=left_out
    )
    return agreeing, [finding]


def name_picture(row: ImageRow) -> str:
    """Return the name of a row's image, as in Listing.names."""
    return row.path if row.place == WHOLE_FILE else f"{row.path}#{row.place}"


def report_other_folders(table: pd.DataFrame) -> list[Finding]:
    """Return a finding about images in a folder that is named after another emotion than theirs."""
    unequal = []
    for path, emotion in zip(table["path"], table["emotion"], strict=True):
        named = find_emotion(path.split("/")[-2], {}) if "/" in path else None
        if named not in (None, LEFT_OUT, emotion):
            unequal.append(path)
    if not unequal:
        return []
    message = (
        "images in a folder named after another emotion than their label, of which the label was "
        f"used: {len(unequal)}"
    )
    return [Finding("warning", "folder of another label", list_some(unequal), message)]


def make_no_images_error(root: Path, about: Reader, findings: Sequence[Finding] = ()) -> DataError:
    """Return the error for a folder without a usable image, with the warnings that give the
    reasons.
    """
    reasons = "; ".join(
        f"{finding.where}: {finding.what}" for finding in findings if finding.severity == "warning"
    )[:600]
    return make_dataset_error(
        root, about, f"has no such image that can be used{f' ({reasons})' if reasons else ''}"
    )


@dataclass
class Losses:
    """The pictures and rows that a reader leaves out, by the kind of fault, as in `Finding`."""

    pictures: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, pictures: Iterable[str] = (), rows: Iterable[str] = ()) -> None:
        """Note that pictures and rows are left out because of a kind of fault."""
        self.pictures.setdefault(kind, []).extend(pictures)
        self.rows.setdefault(kind, []).extend(rows)


def report_faults(
    faults: Mapping[str, Sequence[str]],
    messages: Mapping[str, str],
    notes: Sequence[str] = (),
    losses: Losses | None = None,
) -> list[Finding]:
    """Return a finding for each kind of fault that occurred, with the message that `messages`
    has for it.

    `{}` in a message becomes the number of cases. `losses` has the pictures and rows that each kind
    leaves out; kinds in `notes` are notes, not warnings.
    """
    left_out = losses or Losses()
    return [
        Finding(
            "note" if kind in notes else "warning",
            kind,
            list_some(faults[kind]),
            message.format(len(faults[kind])),
            pictures=tuple(left_out.pictures.get(kind, ())),
            rows=tuple(left_out.rows.get(kind, ())),
        )
        for kind, message in messages.items()
        if faults.get(kind)
    ]


def report_incomplete_release(count: int, released: int, noun: str) -> list[Finding]:
    """Return a note if a copy has fewer or more of something than the release."""
    if count == released:
        return []
    message = f"{count} {noun}, where the release has {released}"
    return [Finding("note", "not the whole release", ".", message)]


def read_annotation(path: Path) -> str:
    """Return the content of a small annotation file, at most its first million bytes; empty if it
    cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(1_000_000).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""
