"""What readers of photographs share: rows that come from names, and what is said of files that fit
none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mien.errors import DataError
from mien.ingest import (
    LEFT_OUT,
    WHOLE,
    Finding,
    IngestSpec,
    Listing,
    Reader,
    Unpack,
    fold,
    label,
    no_dataset,
    some,
)
from mien.ingest.copies import copies
from mien.preprocess import Box

LEVELS = ("", "A", "B", "C", "D", "E")  # FACS intensities by the numbers 0 (not scored) to 5


@dataclass(frozen=True)
class Row:
    """One image, as Listing.rows has it before its label is folded."""

    path: str
    key: str
    raw_label: str
    subject: str = ""
    clip: str = ""
    frame: int = -1
    phase: str = "still"
    action_units: str = ""
    place: int = WHOLE  # where the picture is inside the file, if the file is not the picture
    box: Box | None = None  # the face's left, top, width and height, where the source has marked it


def matches(
    paths: Sequence[str], pattern: re.Pattern[str], layout: str
) -> tuple[list[re.Match[str]], list[Finding]]:
    """Return the match of each path that fits, and what is to be said of the others."""
    found = [(path, pattern.fullmatch(path)) for path in paths]
    stray = [path for path, match in found if match is None]
    findings = copied(doubles := copies(paths) & set(stray))
    stray = [path for path in stray if path not in doubles]
    if stray:
        what = f"images not at {layout}, left out: {len(stray)}"
        findings.append(
            Finding("warning", "misplaced image", some(stray), what, pictures=tuple(stray))
        )
    return [match for _, match in found if match is not None], findings


def copied(doubles: Iterable[str]) -> list[Finding]:
    """Return what is said of files that are copies of others by their names."""
    names = sorted(doubles)
    what = f"copies of images, by their names, left out: {len(names)}"
    return [Finding("warning", "copy", some(names), what, pictures=tuple(names))] if names else []


def climb(frames: dict[int, str]) -> dict[int, tuple[str, str]]:
    """Return path and phase by frame number, in order, of a clip that goes from a neutral face up
    to its apex.
    """
    first, last = min(frames), max(frames)
    phases = dict.fromkeys(frames, "rise") | {first: "onset"} | {last: "apex"}
    return {number: (frames[number], phases[number]) for number in sorted(frames)}


def listing(
    root: Path,
    rows: Sequence[Row],
    findings: Sequence[Finding],
    spec: IngestSpec,
    about: Reader,
    annotations: Sequence[Path] = (),
    unpack: Unpack | None = None,
    part: str | None = None,
    read: Mapping[str, str] | None = None,
    held: Mapping[str, Sequence[int]] | None = None,
) -> Listing:
    """Return the rows as a Listing, by clip and frame, each key once, labels folded.

    Raises DataError if there are none, or none with an emotion.
    """
    if not rows:
        raise empty(root, about, findings)
    rows, torn = _agreeing(rows, spec, about)
    if not rows:
        raise empty(root, about, torn)
    first: dict[str, Row] = {}
    twice = sorted(picture_name(row) for row in rows if first.setdefault(row.key, row) is not row)
    ordered = sorted(
        first.values(), key=lambda row: (row.subject, row.clip, row.frame, row.path, row.place)
    )
    table, left_out = label(pd.DataFrame([vars(row) for row in ordered]), spec, str(root))
    more = [*findings, *torn, *left_out]
    if twice:
        what = (
            "images that stand there more than once under one name, the first was taken: "
            f"{len(twice)}"
        )
        more.append(Finding("warning", "repeated image", some(twice), what, pictures=tuple(twice)))
    more += folders_of_others(table)
    if not any(table["subject"]):
        what = "nobody knows who is who in this set, so no result on it can be subject-independent"
        more.append(Finding("warning", "no subjects", ".", what))
    return Listing(
        root,
        table,
        tuple(annotations),
        tuple(more),
        about.licence,
        part,
        unpack,
        read=read or {},
        held=held or {},
    )


def _agreeing(
    rows: Sequence[Row], spec: IngestSpec, about: Reader
) -> tuple[list[Row], list[Finding]]:
    """Return the rows without images that stand there under several labels, and what is said of
    these.
    """
    shown: dict[str, set[str]] = {}
    for row in rows:
        shown.setdefault(row.key, set()).add(
            fold(row.raw_label, spec.map, about.labels) or row.raw_label
        )
    torn = {key for key, labels in shown.items() if len(labels) > 1}
    if not torn:
        return list(rows), []
    kept = [row for row in rows if row.key not in torn]
    lost = tuple(sorted({picture_name(row) for row in rows if row.key in torn}))
    what = (
        f"images that stand there under several labels, left out: {len(torn)}; which is right "
        "is not known"
    )
    told = [
        Finding(
            "warning", "contradiction", some(lost), what, pictures=lost, gone=tuple(sorted(torn))
        )
    ]
    return kept, told


def picture_name(row: Row) -> str:
    """Return what the image of a row is called, as Listing.names does."""
    return row.path if row.place == WHOLE else f"{row.path}#{row.place}"


def folders_of_others(table: pd.DataFrame) -> list[Finding]:
    """Say which images lie in a folder that is called as another emotion than theirs is."""
    unequal = []
    for path, emotion in zip(table["path"], table["emotion"], strict=True):
        named = fold(path.split("/")[-2], {}) if "/" in path else None
        if named not in (None, LEFT_OUT, emotion):
            unequal.append(path)
    what = (
        "images in a folder that is called as another emotion than their label, which was "
        f"believed: {len(unequal)}"
    )
    return [Finding("warning", "folder of another label", some(unequal), what)] if unequal else []


def empty(root: Path, about: Reader, findings: Sequence[Finding] = ()) -> DataError:
    """Return the complaint about a folder in which no image is usable, with the warnings that say
    why.
    """
    why = "; ".join(
        f"{found.where}: {found.what}" for found in findings if found.severity == "warning"
    )[:600]
    return no_dataset(
        root, about, f"has no such image that can be used{f' ({why})' if why else ''}"
    )


@dataclass
class Losses:
    """What a reader leaves out, by the kind of fault: all pictures and rows, as `Finding` has
    them.
    """

    pictures: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, pictures: Iterable[str] = (), rows: Iterable[str] = ()) -> None:
        """Note that pictures and rows are left out for a kind of fault."""
        self.pictures.setdefault(kind, []).extend(pictures)
        self.rows.setdefault(kind, []).extend(rows)


def told(
    faults: Mapping[str, Sequence[str]],
    said: Mapping[str, str],
    notes: Sequence[str] = (),
    losses: Losses | None = None,
) -> list[Finding]:
    """Return a finding for each kind of fault that was met, in the words that `said` has for its
    number of cases.

    What each leaves out is in `losses`.
    """
    lost = losses or Losses()
    return [
        Finding(
            "note" if kind in notes else "warning",
            kind,
            some(faults[kind]),
            words.format(len(faults[kind])),
            pictures=tuple(lost.pictures.get(kind, ())),
            rows=tuple(lost.rows.get(kind, ())),
        )
        for kind, words in said.items()
        if faults.get(kind)
    ]


def whole(found: int, released: int, what: str) -> list[Finding]:
    """Say so if a copy has fewer or more of something than the release is known to have."""
    if found == released:
        return []
    return [
        Finding(
            "note",
            "not the whole release",
            ".",
            f"{found} {what}, where the release has {released}",
        )
    ]


def text(path: Path) -> str:
    """Return the content of a small annotation file, its first million bytes at most; empty if it
    cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(1_000_000).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""
