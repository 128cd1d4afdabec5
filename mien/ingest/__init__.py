"""Readers: a dataset's folder on disk becomes Faces, with a report of everything odd that was met
on the way.

A reader is a module with three names: READER says what it is for, `recognise(look)` tells its
layout at a glance, and `scan(root, spec)` lists the images of a folder with what is known of each.
It decodes nothing; decoding is the same for all. A folder is only read. READERS, at the end, names
them all.
"""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256 as digest
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from mien import crops, facs, patterns, pictures
from mien.crops import CropSpec, Place
from mien.errors import DataError, SpecError, UsageError
from mien.escape import write_csv
from mien.faces import EMOTIONS, Faces, make_index
from mien.licences import recorded
from mien.outside import expanded, read_file
from mien.preprocess import (
    FRAMES,
    MIN_SIDE,
    TRANSPARENT,
    Colour,
    Filter,
    Picture,
    decode,
    open_picture,
    write,
)
from mien.progress import many, say, track
from mien.spec import RUN_NAME, Spec, nearest, read_spec
from mien.spellings import clean
from mien.store import Run, Store, sha256

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
# Pictures by their suffix, in forms that are not read: their loss is a warning, that of a shortcut
# a note.
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
AUTO = "auto"  # instead of a reader's name
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}\Z")

# What datasets and people call the emotions, in lower case.
ALIASES = {
    "afraid": "fear",
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "happyiness": "happiness",  # sic, in CAS(ME)^2
    "joy": "happiness",
    "neutrality": "neutral",
    "other": "others",
    "repressed": "repression",
    "sad": "sadness",
    "scared": "fear",
    "surprised": "surprise",
}

LEFT_OUT = (
    ""  # what a label becomes that is no single emotion: its images are left out, and it is said
)

STORE_PARTS = frozenset({"aliases", "memo", "runs", "work"})

WHOLE = -1  # in place of a picture's place inside a file: the file is the picture
AHEAD = 64  # pictures taken out of files before they are decoded, at most
Unpack = Callable[[Path, Sequence[int]], Iterator[Picture | DataError]]

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class Reader:
    """What a reader is for: shown to people, and where defaults come from."""

    dataset: str  # the default name of what it reads; empty: the folder's own name
    title: str  # what people call the set
    needs: str  # FOLDER with ...
    subjects: str  # where they come from: "the sheet"
    clips: str
    licence: str
    citation: str  # empty only where there is nothing to cite
    obtain: str
    labels: dict[str, str]  # what the source writes, in lower case -> one of EMOTIONS, or LEFT_OUT
    options: tuple[
        str, ...
    ] = ()  # the fields of IngestSpec that it takes beside those that all take
    parts: dict[str, str] = field(
        default_factory=dict
    )  # of which `part` is one, the usual one first -> what it is
    generic: bool = False  # any folder of images: `auto` thinks of it last
    holders: frozenset[str] = (
        frozenset()
    )  # suffixes of files with many pictures that are all to be accounted for: .avi


@dataclass(frozen=True)
class Finding:
    """One odd thing about a folder: `kind` in two or three words, `where` relative to it, `what` in
    a sentence.

    What is left out for it is named to the last: `pictures` as `Listing.names` calls them, `rows`
    by their names in `Listing.read`, and `files` that are neither. `gone` has clips and keys: rows
    that give them are left out with them. `kind` is then the reason that the accounts give; of
    several reasons the first counts, and what another part of the reader keeps is not left out.
    """

    severity: Severity
    kind: str
    where: str
    what: str
    pictures: tuple[str, ...] = field(default=(), compare=False, repr=False)
    gone: tuple[str, ...] = field(default=(), compare=False, repr=False)
    rows: tuple[str, ...] = field(default=(), compare=False, repr=False)
    files: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Listing:
    """The images of a folder, before any is decoded.

    `rows` has one row an image: path and key relative to `root`, subject and clip without the
    dataset's name, and frame, phase, emotion, raw_label, action_units as in faces.COLUMNS.
    `annotations` are the other files that it rests on, such as the sheet. `part` is which of the
    reader's parts was read.

    Many pictures may lie in one file, such as a video or a table. The column `place` then says
    which of them a row is, or WHOLE, and `unpack` yields those at the given places of a file, in
    that order, or the complaint about one; it holds no more than a few at a time. A column `box`
    may have the face's left, top, width and height in the picture, or None, a column `white` the
    value that is white in a picture of more than 8 bits. `held` has the places of all pictures in
    each such file.

    `read` has all rows of sheets, tables and annotations: what each is called ("casme2.csv, row
    12"), and the clip or key that it gives, or nothing. Each is kept, because that clip or key is
    there, or is in `Finding.rows`. `disk` and `at` are filled in by `scan` alone: the pictures
    below the folder that was given, and where `root` is in it.
    """

    root: Path
    rows: pd.DataFrame
    annotations: tuple[Path, ...]
    findings: tuple[Finding, ...]
    licence: str
    part: str | None = None
    unpack: Unpack | None = None
    read: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, Sequence[int]] = field(default_factory=dict)
    disk: tuple[str, ...] = ()
    at: str = "."

    def paths(self) -> list[Path]:
        """Return the path of each row's image, or of the file that it lies in."""
        return [self.root / path for path in self.rows["path"]]

    def names(self) -> list[str]:
        """Return what each image is called: its path, and behind a '#' its place inside that
        file.
        """
        return names_of(self.rows)


def names_of(rows: pd.DataFrame) -> list[str]:
    """Return what the images of some rows of a listing are called."""
    if "place" not in rows:
        return list(rows["path"])
    places = zip(rows["path"], rows["place"], strict=True)
    return [path if place == WHOLE else f"{path}#{place}" for path, place in places]


class IngestSpec(Spec):
    """A dataset's folder as its files make it, wherever it stands, and the form that its images
    get.
    """

    stage: ClassVar[str] = "ingest"
    version: int = 2
    reader: str
    fingerprint: str  # of the files: see `fingerprint`
    dataset: str  # in front of keys, subjects and clips
    size: int = Field(default=48, ge=MIN_SIDE, le=1024)
    colour: Colour = "grey"
    filter: Filter = "bilinear"
    crop: CropSpec | None = None  # None: the whole image
    licence: str | None = None  # None: what the reader knows
    map: dict[str, str] = Field(
        default_factory=dict
    )  # a class name of the source -> one of EMOTIONS
    part: str | None = None  # one of the reader's parts; None: the first that is there
    sheet: str | None = (
        # the file name of the sheet with the labels, and #PAGE of a workbook; None: the newest
        None
    )
    numbers: Literal["sheet"] | None = (
        None  # clips: files have the sheet's numbers though they begin with 0 or 1
    )
    subject_pattern: str | None = (
        None  # folder: regular expressions, searched in the path of each file
    )
    clip_pattern: str | None = None
    label_column: str | None = None  # folder: the columns of metadata.csv
    subject_column: str | None = None
    clip_column: str | None = None
    frame_column: str | None = None
    same_subject: dict[str, str] = Field(
        default_factory=dict
    )  # a subject's name as written -> another name of theirs
    subjects_as_written: bool = (
        False  # spellings are never one person's, unless `same_subject` says so
    )
    image_column: str | None = None  # which of several columns of pictures
    white: float | None = Field(
        default=None, gt=0
    )  # what is white in pictures of more than 8 bits; None: see pictures

    @field_validator("dataset")
    @classmethod
    def _short_name(cls, dataset: str) -> str:
        if not DATASET.match(dataset):
            raise ValueError(
                "a dataset's name must be up to 40 letters, digits and '-', and begin with no '-'"
            )
        return dataset

    @field_validator("map")
    @classmethod
    def _to_emotions(cls, names: dict[str, str]) -> dict[str, str]:
        for given, emotion in names.items():
            if emotion not in EMOTIONS:
                hint = nearest(emotion, list(EMOTIONS))
                raise ValueError(
                    f"'{given}' must be mapped to one of {', '.join(EMOTIONS)}, not "
                    f"'{emotion}'.{hint}"
                )
        return {_plain(given): emotion for given, emotion in names.items()}

    @field_validator("subject_pattern", "clip_pattern")
    @classmethod
    def _with_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        if not patterns.compiled(pattern).groups:
            raise ValueError(
                "must have a group, in parentheses, around what it is to find, such as '(s[0-9]+)_'"
            )
        return pattern

    @model_validator(mode="after")
    def _options_of_the_reader(self) -> "IngestSpec":
        if self.reader not in READERS:
            raise SpecError(
                f"there is no reader '{self.reader}'.{nearest(self.reader, list(READERS))} "
                f"{_readers()}"
            )
        options = READERS[self.reader].READER.options
        others = {name for module in READERS.values() for name in module.READER.options} - set(
            options
        )
        idle = sorted(name for name in others if getattr(self, name) is not None)
        if idle:
            raise SpecError(
                f"the reader {self.reader} takes {', '.join(options)}, and not {', '.join(idle)}"
            )
        parts = READERS[self.reader].READER.parts
        if self.part is not None and self.part not in parts:
            has = f"has the parts {', '.join(parts)}" if parts else "has no parts"
            raise SpecError(
                f"the reader {self.reader} {has}, and not "
                f"'{self.part}'.{nearest(self.part, list(parts))}"
            )
        for what in ("subject", "clip"):
            if getattr(self, f"{what}_pattern") and getattr(self, f"{what}_column"):
                raise SpecError(
                    f"the {what} comes from a pattern or from a column: give one of the two"
                )
        return self


def ingest(
    spec: IngestSpec,
    root: Path,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
    crop_model: Path | None = None,
) -> Faces:
    """Return the images below `root` as Faces, decoded by `workers` threads (None: one a core).

    Raises DataError if the files are not those of the spec's fingerprint, or if an image cannot be
    read; with `skip_unreadable` such images are left out, unless none is left.
    """
    listing = depths.measured(scan(spec, root), spec.white)
    found = fingerprint(listing, workers, skip_unreadable)
    if found != spec.fingerprint:
        raise DataError(
            f"{root} must hold the files of fingerprint {spec.fingerprint[:12]}, and holds those "
            f"of {found[:12]}: it "
            "has changed, or is another dataset; ingest it anew"
        )
    shown, places, _ = _found(listing, spec, workers, crop_model, None)
    faces, unread = read_listing(shown, spec, workers, skip_unreadable, places)
    findings = [*listing.findings, *accounts.faceless(listing, shown), *unread]
    accounts.close(listing, READERS[spec.reader].READER, faces, findings)
    return faces


def scan(spec: IngestSpec, root: Path) -> Listing:
    """Return what the spec's reader finds below `root`; raises DataError if that is no dataset of
    its kind.

    All pictures and rows are accounted for: one that the reader neither lists nor names is a
    finding.
    """
    about = READERS[spec.reader].READER
    listing = persons.folded(READERS[spec.reader].scan(_folder(root), spec), spec)
    listing = accounts.check(listing, _folder(root), about)
    others = [part for part in READERS[spec.reader].READER.parts if part != listing.part]
    if not others or any(finding.kind == "part" for finding in listing.findings):
        return listing
    note = Finding(
        "note", "part", str(listing.part), f"it was read; --part names another: {', '.join(others)}"
    )
    return replace(listing, findings=(note, *listing.findings))


def recognise(root: Path) -> dict[str, str]:
    """Return the readers whose layout the folder has, each with the reason; those for any folder
    only if no other does.

    Names of files and folders are looked at, and no image is opened. Raises DataError if `root` is
    no folder.
    """
    look = glance(_folder(root))
    reasons = {name: module.recognise(look) for name, module in READERS.items()}
    found = {name: reason for name, reason in reasons.items() if reason}
    return {
        name: reason for name, reason in found.items() if not READERS[name].READER.generic
    } or found


def the_reader(root: Path) -> tuple[str, str]:
    """Return the one reader whose layout the folder has, and why; raises DataError if there is
    none, or several.
    """
    found = recognise(root)
    if not found:
        here = some(sorted(path.name for path in _folder(root).iterdir()), 8)
        raise DataError(
            f"{root} must have the layout of a dataset that mien reads, and has none of them; "
            "found: "
            f"{here or 'nothing'}. `mien readers` lists what each needs"
        )
    if len(found) > 1:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.items())
        raise DataError(
            f"{root} must have one layout, and could be read by {len(found)} readers. {reasons}. "
            "Name one"
        )
    return next(iter(found.items()))


def fingerprint(listing: Listing, workers: int | None = None, skip_unreadable: bool = False) -> str:
    """Return the sha256 over relative name and content of every image listed and every annotation
    file.

    All bytes are read: one pass over the files, which then stay in the system's cache for decoding.
    Neither the place of the folder nor dates count, nor do files that no result rests on. Raises
    DataError if a file cannot be read, unless it is an image and `skip_unreadable`: then it counts
    as one that cannot.
    """
    paths = list(dict.fromkeys([*listing.paths(), *listing.annotations]))
    inside = [path.is_relative_to(listing.root) for path in paths]
    names = [
        path.relative_to(listing.root).as_posix() if below else path.name
        for path, below in zip(paths, inside, strict=True)
    ]
    with ThreadPoolExecutor(_threads(workers)) as pool, track("checking files", len(paths)) as bar:
        lines = []
        images = set(listing.paths()) if skip_unreadable else set[Path]()
        for name, content in zip(
            names, pool.map(lambda path: _content(path, path in images), paths), strict=True
        ):
            lines.append(f"{name}\0{content}\n")
            if len(lines) % 100 == 0:
                bar.update(len(lines))
    return digest("".join(sorted(lines)).encode()).hexdigest()


def run(
    reader: str,
    root: Path,
    store: Store,
    *,
    name: str | None = None,
    alias: str | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    crop_model: Path | None = None,
    expected: Set[str] = frozenset(),
    **options: Any,
) -> Run:
    """Make the run of the dataset at `root` in `store`: faces, sheet.png, findings.csv, labels.csv
    and summary.json.

    left_out.csv names each picture and each row that did not become an image, with its reason;
    summary.json has the sums. labels.csv says what each label of the source became, and
    action_units.parquet has the units of each clip, a row a unit (`facs.units`), where the source
    has any.

    With a crop it has crops.csv, misses.csv and crops.png too, which say what was found where;
    `crop_model` is YuNet's file.

    The reader "auto" is the one whose layout the folder has. `name` is the dataset's name (by
    default the reader's, or the folder's); `options` are other fields of IngestSpec. What was odd
    is told on stderr, but for the kinds that are `expected`. Neither `workers` nor
    `skip_unreadable` names the run: they do not change what the images become.

    Raises SpecError for an unknown option, DataError for a folder that is not as it must be.
    """
    root = expanded(Path(root))
    if reader == AUTO:
        reader, reason = the_reader(root)
        say(f"{root} is read by {reader}: {reason}")
    usual = reader in READERS and READERS[reader].READER.dataset
    dataset = name if name is not None else usual or slug(root.resolve().name)
    given = {"reader": reader, "dataset": dataset, "fingerprint": "", **options}
    draft = read_spec(IngestSpec, given, f"ingest {reader}")
    listing = depths.measured(scan(draft, root), draft.white)
    files = fingerprint(listing, workers, skip_unreadable)
    spec = draft.model_copy(update={"fingerprint": files, "part": listing.part})
    _tell([finding for finding in listing.findings if finding.kind not in expected])

    def build(out: Path, scratch: Path) -> None:
        shown, places, about_crop = _found(listing, spec, workers, crop_model, out)
        faces, unread = read_listing(shown, spec, workers, skip_unreadable, places)
        _tell(unread)
        about = READERS[reader].READER
        findings = [*listing.findings, *accounts.faceless(listing, shown), *unread]
        columns = ["severity", "kind", "where", "what"]
        told = [[getattr(finding, column) for column in columns] for finding in findings]
        write_csv(pd.DataFrame(told, columns=columns), out / "findings.csv")
        ledgers = accounts.close(listing, about, faces, findings, out)
        summary = {
            "dataset": spec.dataset,
            "named": _named_by(name, reader),
            "licence": faces.index["licence"].iloc[0],
            "citation": about.citation
            if spec.licence is None and listing.licence == about.licence
            else "",
            "findings": dict(Counter(finding.kind for finding in findings)),
            "accounts": accounts.summary(ledgers),
            **about_crop,
            "terms": recorded(reader, spec.dataset, spec.licence, spec.licence or listing.licence),
        }
        write(faces, out, summary)
        _write_labels(faces, out)

    made = store.make(spec, build)
    if not skip_unreadable:
        _require_all_read(made)
    if alias is not None:
        store.name(alias, made.name)
    return made


def _require_all_read(made: Run) -> None:
    """Raise DataError if images were left out of a run because they could not be read."""
    if not made.summary.get("findings", {}).get("unreadable image"):
        return
    table = pd.read_csv(made.file("findings.csv"), dtype=str, keep_default_na=False)
    lost = [str(name) for name in table["where"][table["kind"] == "unreadable image"]]
    raise DataError(
        f"each image must be one that can be read, and {some(lost)} cannot: {made.name}, made of "
        "these files with "
        "--skip-unreadable, is without them. What to do: mend or remove them, or give "
        "--skip-unreadable again"
    )


def _named_by(name: str | None, reader: str) -> str:
    """Say whence a dataset has its name: by hand, from its reader, or from its folder, which may
    name people.
    """
    return "hand" if name else "reader" if READERS[reader].READER.dataset else "folder"


def describe(name: str) -> list[tuple[str, str]]:
    """Return all that is known of a reader, as titled lines; raises SpecError if there is none of
    that name.
    """
    if name not in READERS:
        raise SpecError(
            f"there is no reader '{name}'.{nearest(name, list(READERS))} Readers: "
            f"{', '.join(READERS)}"
        )
    about = READERS[name].READER
    options = [f"--{option.replace('_', '-')}" for option in about.options]
    lines = [
        ("reader", name),
        ("dataset", about.title),
        ("needs", about.needs),
        ("subjects", f"from {about.subjects}"),
        ("clips", f"from {about.clips}"),
        *(("part", f"{part}: {what}") for part, what in about.parts.items()),
        *((("options", ", ".join(options)),) if options else ()),
        ("licence", about.licence),
        ("obtain", about.obtain),
        *((("cite", about.citation),) if about.citation else ()),
        *(("label", f"{raw} -> {emotion or 'left out'}") for raw, emotion in about.labels.items()),
    ]
    if not about.labels:
        lines.append(("label", f"any of {', '.join(EMOTIONS)}"))
    return [
        *lines,
        (
            "label",
            f"any set: {', '.join(f'{raw} -> {emotion}' for raw, emotion in ALIASES.items())}",
        ),
    ]


# What readers share


@dataclass(frozen=True)
class Look:
    """A glance at a folder: the names of what lies in it and below, relative to it; folders end in
    '/'.
    """

    root: Path
    names: tuple[str, ...]

    def first(self, pattern: str) -> str | None:
        """Return the first name that a regular expression matches as a whole, whatever its case; or
        None.
        """
        matches = re.compile(pattern, re.IGNORECASE).fullmatch
        return next((name for name in self.names if matches(name)), None)


def glance(root: Path, depth: int = 7) -> Look:
    """Return a look at `root`: all names at the top, and a few of each kind in every folder of the
    first few below.

    However large a release is, some thousand names are looked at. What cannot be read is passed
    over, for `scan` will say so, and links to folders are not followed.
    """
    return Look(root, tuple(islice(_glance(root, "", depth), 20_000)))


def walk(root: Path, suffixes: Set[str] = IMAGE_SUFFIXES) -> tuple[list[str], list[Finding]]:
    """Return the files below `root` with one of `suffixes` (images), and what was passed over.

    Paths are relative to it, in the order of names.
    Hidden files are no finding. Links to folders, and links that lead out of `root`, are not
    followed.
    """
    images: list[str] = []
    foreign: dict[str, list[str]] = {}
    unread: dict[str, list[str]] = {}
    unusual: dict[str, list[str]] = {}
    links: list[str] = []
    nameless: list[str] = []
    special: list[str] = []
    for path, entry in entries(root, ""):
        suffix = PurePosixPath(path).suffix.lower()
        if not path.isprintable():  # not UTF-8, or control characters: no table could hold it
            nameless.append(shown(path))
        elif entry.is_symlink() and not _inside(root, root / path):
            links.append(path)
        elif not entry.is_file():  # to open a pipe would wait for ever
            special.append(path)
        elif suffix in suffixes:
            images.append(path)
        elif suffixes >= IMAGE_SUFFIXES and _pictured(suffix, entry):
            images.append(path)
            unusual.setdefault(suffix or "no suffix", []).append(path)
        elif pictorial(path, entry):
            unread.setdefault(suffix or "no suffix", []).append(path)
        else:
            foreign.setdefault(suffix or "no suffix", []).append(path)
    by_content = [
        Finding(
            "note",
            "pictures by content",
            some(names),
            f"images for what they hold ({suffix}), read: {len(names)}",
        )
        for suffix, names in sorted(unusual.items())
    ]
    return images, [
        *by_content,
        *_passed_over(foreign, unread),
        *_not_opened(links, special, nameless),
    ]


def _pictured(suffix: str, entry: os.DirEntry[str]) -> bool:
    """Whether a file begins as a picture does that can be read, whatever its suffix."""
    try:
        if not entry.is_file():
            return False
        with Path(entry).open("rb") as file:
            return bool(pictures.kind(file.read(pictures.HEAD), suffix))
    except OSError:
        return False


def pictorial(path: str, entry: os.DirEntry[str], holders: Set[str] = frozenset()) -> bool:
    """Whether a file is, or should be, a picture: by its suffix, or without one by its first
    bytes.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES or suffix in holders:
        return True
    return entry.is_file(follow_symlinks=False) and _pictured(suffix, entry)


def shown(path: str) -> str:
    """Return a path as it can be printed: parts that cannot are escaped."""
    if path.isprintable():
        return path
    return "/".join(part if part.isprintable() else ascii(part)[1:-1] for part in path.split("/"))


def _passed_over(foreign: dict[str, list[str]], unread: dict[str, list[str]]) -> list[Finding]:
    """Return what is said of files that are no pictures by their suffix, and of pictures in forms
    that are not read.
    """
    findings = []
    for suffix, names in sorted(foreign.items()):
        what = f"no images by their suffix ({suffix}), passed over: {len(names)}"
        findings.append(Finding("note", "foreign files", some(names), what, files=tuple(names)))
    for suffix, names in sorted(unread.items()):
        if suffix in IMAGE_SUFFIXES:
            what = f"images, which this set does not have ({suffix}), passed over: {len(names)}"
            findings.append(
                Finding("note", "foreign files", some(names), what, pictures=tuple(names))
            )
            continue
        what = (
            f"images in a form, or with a suffix, that is not read ({suffix}), left out: "
            f"{len(names)}; rename those "
            "that are JPEG to .jpg, and save others as PNG"
        )
        findings.append(Finding("warning", "unread form", some(names), what, pictures=tuple(names)))
    return findings


def _not_opened(links: list[str], special: list[str], nameless: list[str]) -> list[Finding]:
    """Return what is said of files that are not opened, whatever they hold."""
    said = (
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
        Finding("warning", kind, some(names), what, pictures=tuple(names))
        for kind, names, what in said
        if names
    ]


def table_text(table: Path) -> tuple[str, str]:
    """Return the text of a CSV file, and what separates its cells: a comma, a semicolon or a tab,
    by its first line.

    It may be in UTF-8 or, with a byte-order mark, in UTF-16. Raises DataError if it cannot be read.
    """
    data = read_file(table, "a table in CSV")
    try:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if wide else "utf-8-sig")
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


def no_dataset(root: Path, reader: Reader, lacking: str = "") -> DataError:
    """Return the error that says what a folder must hold to be read, what it holds, and how to
    obtain the set.
    """
    here = some(sorted(ascii(path.name)[1:-1] for path in root.iterdir()), 8)
    return DataError(
        f"{root} must hold "
        f"{reader.needs.removeprefix('FOLDER with ')}{f', and {lacking}' if lacking else ''}; "
        "found: "
        f"{here or 'nothing'}. To obtain the set, {reader.obtain}"
    )


def label(rows: pd.DataFrame, spec: IngestSpec, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the rows with the emotion of their `raw_label`, by the spec's map and the reader's
    table.

    Images whose label is no single emotion are left out, unless the map says what they are. Raises
    DataError as `fold_all` does, or if none is left.
    """
    emotions = fold_all(rows["raw_label"], spec.map, where, READERS[spec.reader].READER.labels)
    labelled = rows.assign(emotion=[emotions[raw] for raw in rows["raw_label"]])
    lost = labelled["emotion"] == LEFT_OUT
    findings = []
    for raw, images in labelled[lost].groupby("raw_label"):
        what = (
            f"'{raw}' is no single emotion; left out: {many(len(images), 'image')}; --map "
            f"'{raw}=EMOTION' would "
            "keep them"
        )
        where = some(sorted(set(images["clip"]) - {""})) or "."
        gone = (*images["key"], *sorted(set(images["clip"]) - {""}))
        findings.append(
            Finding(
                "warning",
                "no single emotion",
                where,
                what,
                pictures=tuple(names_of(images)),
                gone=gone,
            )
        )
    if lost.all():
        raise DataError(
            f"{where}: some label must be an emotion, and none is: {some(sorted(emotions), 20)}"
        )
    return labelled[~lost].reset_index(drop=True), findings


def fold(raw: str, names: dict[str, str], labels: dict[str, str] | None = None) -> str | None:
    """Return the emotion that a source's label stands for, or None if it is not known.

    By `names`, then by the reader's own table, then by ALIASES, whatever its case. Several emotions
    joined by "+" are no single one: LEFT_OUT.
    """
    plain = _plain(raw)
    known = {**ALIASES, **(labels or {}), **names}
    if (
        plain not in known
        and "+" in plain
        and all(fold(part, names, labels) for part in plain.split("+"))
    ):
        return LEFT_OUT
    emotion = known.get(plain, plain)
    return emotion if emotion in EMOTIONS or (emotion == LEFT_OUT != plain) else None


def fold_all(
    labels: Iterable[str], names: dict[str, str], where: str, table: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the emotion of each label; raises DataError if one is unknown, or if a name to be
    mapped is not there.
    """
    labels = sorted(set(labels))
    folded = {label: fold(label, names, table) for label in labels}
    unknown = [label for label, emotion in folded.items() if emotion is None]
    if unknown:
        near = {label: nearest(_plain(label), [*EMOTIONS, *ALIASES]) for label in unknown[:5]}
        alone = len(unknown) == 1
        hints = "".join(
            f"{hint if alone else f' {label}:{hint}'}" for label, hint in near.items() if hint
        )
        raise DataError(
            f"{where}: the classes must be among {', '.join(EMOTIONS)}, and {some(unknown)} "
            f"{'is' if len(unknown) == 1 else 'are'} not; found: {some(labels, 20)}.{hints} "
            f"Say what they stand for with --map {unknown[0]}=EMOTION, or move them out of the "
            "folder"
        )
    idle = sorted(set(names) - {_plain(label) for label in labels})
    if idle:
        raise DataError(
            f"{where}: --map names {some(idle)}, which is not there; found: {some(labels, 20)}"
        )
    return {label: emotion for label, emotion in folded.items() if emotion is not None}


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def last_number(path: str) -> int:
    """Return the last whole number in a file's stem, which is the frame's in every public set; -1
    if there is none.
    """
    found = re.findall(r"[0-9]+", PurePosixPath(path).stem)
    return int(found[-1]) if found and len(found[-1]) < 16 else -1


def slug(name: str) -> str:
    """Return a folder's name as a dataset may be called."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40].rstrip("-") or "folder"


def _folder(root: Path) -> Path:
    root = expanded(Path(root))
    if not root.is_dir():
        raise DataError(
            f"{root} must be a folder that holds a dataset, and is "
            f"{'a file' if root.exists() else 'not there'}"
        )
    return root.resolve()


def _glance(root: Path, below: str, depth: int) -> Iterable[str]:
    try:
        with os.scandir(root / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    sound = [
        entry for entry in entries if entry.name.isprintable() and not entry.name.startswith(".")
    ]
    folders = [entry.name for entry in sound if entry.is_dir(follow_symlinks=False)]
    folders = [name for name in folders if not _own(root / below, name)]
    files = [entry.name for entry in sound if entry.is_file(follow_symlinks=False)]
    level = below.count("/")
    yield from (below + name for name in files[: 200 if level < 2 else 5])
    for place, name in enumerate(folders[:200]):
        yield f"{below}{name}/"
        if depth and place < (20 if level == 0 else 3 if level > 2 else 8):
            yield from _glance(root, f"{below}{name}/", depth - 1)


def is_store(folder: Path) -> bool:
    """Whether a folder is a store of mien's, whatever it is called: its runs, or what is at work,
    have runs' names.
    """
    for part in ("runs", "work"):
        try:
            with os.scandir(folder / part) as found:
                if any(RUN_NAME.match(entry.name.removesuffix(".claim")) for entry in found):
                    return True
        except OSError:
            continue
    return False


def _own(folder: Path, name: str) -> bool:
    """Whether what is called so in a folder is a store, or a part of one."""
    return is_store(folder / name) or (name in STORE_PARTS and is_store(folder))


def entries(root: Path, below: str) -> Iterable[tuple[str, os.DirEntry[str]]]:
    """Yield all files that are not hidden, and links to folders, in the order of names; no store of
    mien's is entered.

    However deep folders lie in each other, none waits on Python's own stack.
    """
    waiting = [iter(_scanned(root, below))]
    while waiting:
        path, entry = next(waiting[-1], ("", None))
        if entry is None:
            waiting.pop()
        elif not entry.is_dir(follow_symlinks=False):
            yield path, entry
        elif not _own((root / path).parent, entry.name):
            waiting.append(iter(_scanned(root, path)))


def _scanned(root: Path, below: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return what is in a folder and not hidden, by its path, in the order of names."""
    try:
        with os.scandir(root / below) as found:
            inside = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{root / below} must be a folder that can be read: {error.strerror}"
        ) from None
    return [
        (f"{below}/{entry.name}" if below else entry.name, entry)
        for entry in inside
        if entry.name[0] != "."
    ]


def _inside(root: Path, path: Path) -> bool:
    """Whether a link leads to a file below `root`, which is resolved."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def _plain(label: str) -> str:
    """Return a label as it is compared: nothing that cannot be seen makes it another one, nor does
    0.0 instead of 0.
    """
    text = clean(label).lower()
    return text.split(".")[0] if re.fullmatch(r"[0-9]{1,9}\.0+", text) else text


def _readers() -> str:
    return "Readers: " + "; ".join(
        f"{name}: {module.READER.needs}" for name, module in READERS.items()
    )


def _write_labels(faces: Faces, out: Path) -> None:
    """Write labels.csv, what each label of the source became, and action_units.parquet if there are
    any.
    """
    index = faces.index.assign(
        clip=faces.index["clip"].where(faces.index["clip"] != "", faces.index["key"])
    )
    folded = index.groupby(["raw_label", "emotion"], as_index=False).agg(
        images=("key", "size"), clips=("clip", "nunique")
    )
    write_csv(folded, out / "labels.csv")
    units = facs.units(faces)
    if len(units):
        units.to_parquet(out / "action_units.parquet", index=False)


# Decoding


Places = (
    list[Place | None] | None
)  # where the face of each image is; nothing where whole images are read


def _found(
    listing: Listing, spec: IngestSpec, workers: int | None, model: Path | None, out: Path | None
) -> tuple[Listing, Places, dict[str, Any]]:
    """Return the listing without what is skipped for want of a face, where faces are, and a summary
    of the search.

    In `out` it is reported, image by image. An image that cannot be read is left for decoding to
    complain about.
    """
    if spec.crop is None:
        return listing, None, {}
    rows = listing.rows
    colour: Colour = "rgb" if spec.crop.detector == "yunet" else "grey"

    def open_listed(number: int) -> np.ndarray | None:
        alone = replace(listing, rows=rows.iloc[[number]])
        (_, picture), box = (
            next(iter(_pictures(alone))),
            rows["box"].iloc[number] if "box" in rows else None,
        )
        white = _whites(alone)[0]
        try:
            return (
                None
                if isinstance(picture, DataError)
                else open_picture(picture, colour, box=box, white=white)
            )
        except DataError:
            return None

    clips, frames = list(rows["clip"]), list(rows["frame"])
    places = crops.find_all(
        len(rows), clips, frames, open_listed, spec.crop, model, _threads(workers)
    )
    keys = [f"{spec.dataset}/{key}" for key in rows["key"]]
    found = crops.table(keys, list(rows["emotion"]), places)
    crops.tell(found, spec.size, spec.crop.margin)
    if spec.crop.misses == "fail":
        crops.require_found(found)
    if out is not None:
        crops.report(found, places, open_listed, spec.crop.margin, out)
    kept = np.array(
        [spec.crop.misses != "skip" or kind != "missed" for kind in found["kind"]], dtype=bool
    )
    if not kept.any():
        raise DataError(
            f"some image must show a face, and none of {len(rows):,} does; they may be cut out "
            "already"
        )
    shown = replace(listing, rows=rows[kept].reset_index(drop=True))
    return (
        shown,
        [place for place, stays in zip(places, kept, strict=True) if stays],
        {"crop": crops.counted(found)},
    )


def read_listing(
    listing: Listing,
    spec: IngestSpec,
    workers: int | None,
    skip_unreadable: bool,
    places: Places = None,
) -> tuple[Faces, list[Finding]]:
    """Return the faces, and findings about images that were left out, are alike, or were not shown
    whole.
    """
    images, faults, remarks = _decode_all(listing, spec, workers, places)
    if faults and not (skip_unreadable and len(faults) < len(images)):
        more = f" There are {len(faults)} such images of {len(images)}." if len(faults) > 1 else ""
        remedy = (
            "mend or remove them"
            if len(faults) == len(images)
            else "mend them, or leave out with --skip-unreadable"
        )
        raise DataError(f"{'; '.join(list(faults.values())[:3])}.{more} What to do: {remedy}")
    sound = np.array([place not in faults for place in range(len(images))], dtype=bool)
    rows = listing.rows[sound]
    kept = images if not faults else images[sound]
    index = make_index(
        kept,
        key=[f"{spec.dataset}/{key}" for key in rows["key"]],
        dataset=spec.dataset,
        subject=[f"{spec.dataset}:{subject}" if subject else "" for subject in rows["subject"]],
        clip=[f"{spec.dataset}:{clip}" if clip else "" for clip in rows["clip"]],
        frame=list(rows["frame"]),
        phase=list(rows["phase"]),
        emotion=list(rows["emotion"]),
        raw_label=list(rows["raw_label"]),
        action_units=list(rows["action_units"]),
        licence=spec.licence or listing.licence,
        **{column: list(rows[column]) for column in ("source", "seed") if column in rows},
    )
    names = listing.names()
    findings = [
        Finding(
            "warning",
            "unreadable image",
            names[place],
            f"left out: {_portable(fault, listing.root)}",
            pictures=(names[place],),
        )
        for place, fault in faults.items()
    ]
    return Faces(kept, index), [*findings, *_remarked(names, remarks), *_alike(index)]


def _portable(fault: str, root: Path) -> str:
    """Return a complaint without what is of this machine or this moment: the folder's place, and
    places in memory.
    """
    return re.sub(
        r" (at|object at) 0x[0-9a-fA-F]+", "", fault.replace(f"{root}/", "").replace(str(root), ".")
    )


def _remarked(names: Sequence[str], remarks: dict[int, list[str]]) -> list[Finding]:
    """Return what decoding had to say of pictures that it could read."""
    said = {
        FRAMES: "pictures of several frames or pages, of which the first was taken",
        TRANSPARENT: "pictures with transparent parts, which became black",
    }
    findings = []
    for kind, words in said.items():
        found = [names[row] for row, words in sorted(remarks.items()) if kind in words]
        if found:
            findings.append(Finding("note", kind, some(found), f"{words}: {len(found)}"))
    return findings


def _decode_all(
    listing: Listing, spec: IngestSpec, workers: int | None, places: Places
) -> tuple[np.ndarray, dict[int, str], dict[int, list[str]]]:
    """Return the images [n, c, h, w], and by place the complaint about each that could not be read
    and all remarks.

    Threads do it: Pillow lets go of the interpreter while it decodes and resizes, and each thread
    holds one image.
    """
    count = len(listing.rows)
    images = np.zeros((count, 1 if spec.colour == "grey" else 3, spec.size, spec.size), np.uint8)
    names = listing.names()
    boxes = list(listing.rows["box"]) if "box" in listing.rows else [None] * count
    faces, margin = places or [None] * count, spec.crop.margin if spec.crop else 0.0
    whites, remarks = _whites(listing), dict[int, list[str]]()

    def work(row: int, picture: Picture | DataError) -> tuple[int, str]:
        try:
            if isinstance(picture, DataError):
                raise picture
            name = f"{listing.root}/{names[row]}"
            how = {
                "box": boxes[row],
                "face": faces[row],
                "margin": margin,
                "white": whites[row],
                "name": name,
            }
            images[row] = decode(
                picture, spec.size, spec.colour, spec.filter, **how, remarks=(found := [])
            )
            if found:
                remarks[row] = found
        except DataError as error:
            return row, str(error)
        return row, ""

    faults = {}
    with ThreadPoolExecutor(_threads(workers)) as pool, track("decoding images", count) as bar:
        for done, (row, fault) in enumerate(_in_order(pool, work, _pictures(listing)), start=1):
            if fault:
                faults[row] = fault
            if done % 100 == 0:
                bar.update(done)
    return images, dict(sorted(faults.items())), remarks


def _whites(listing: Listing) -> list[float | None]:
    """Return the value that is white in each picture, None where it has 8 bits."""
    given = listing.rows["white"] if "white" in listing.rows else [None] * len(listing.rows)
    return [None if value is None or np.isnan(value) else float(value) for value in given]


def _pictures(listing: Listing) -> Iterator[tuple[int, Picture | DataError]]:
    """Yield each row's number with its picture: the path, or what is taken out of the file at that
    path.
    """
    places = np.asarray(
        listing.rows.get("place", np.full(len(listing.rows), WHOLE)), dtype=np.int64
    )
    paths = listing.paths()
    inside: dict[Path, list[int]] = {}
    for row, path in enumerate(paths):
        if places[row] == WHOLE or listing.unpack is None:
            yield row, path
        else:
            inside.setdefault(path, []).append(row)
    for path, rows in inside.items():
        rows.sort(key=lambda row: places[row])
        if listing.unpack is not None:
            yield from zip(
                rows, listing.unpack(path, [int(places[row]) for row in rows]), strict=True
            )


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[int, Picture | DataError], tuple[int, str]],
    pictures: Iterable[tuple[int, Picture | DataError]],
) -> Iterator[tuple[int, str]]:
    """Yield what `work` returns for each picture, with no more than AHEAD of them waiting."""
    waiting: deque[Future[tuple[int, str]]] = deque()
    for row, picture in pictures:
        waiting.append(pool.submit(work, row, picture))
        if len(waiting) >= AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _alike(index: pd.DataFrame) -> list[Finding]:
    """Say which pictures came out equal, pixel by pixel, and yet are said to show different people
    or emotions.
    """
    twins: dict[str, list[int]] = {}
    for place, content in enumerate(index["sha256"]):
        twins.setdefault(content, []).append(place)
    groups = [places for places in twins.values() if len(places) > 1]
    findings = []
    said = list(zip(index["subject"], index["emotion"], strict=True))
    agreeing = [places for places in groups if len({said[place] for place in places}) == 1]
    if agreeing:
        where = some(
            [
                " = ".join(str(index["key"].iloc[place]) for place in places[:3])
                for places in agreeing
            ],
            2,
        )
        what = (
            "pictures that are there more than once, pixel by pixel, and were kept: "
            f"{len(agreeing)}"
        )
        findings.append(Finding("note", "equal images", where, what))
    for column in ("subject", "emotion"):
        values, keys = list(index[column]), list(index["key"])
        unequal = [places for places in groups if len({values[place] for place in places}) > 1]
        if unequal:
            what = (
                f"pictures that stand there under more than one {column}: {len(unequal)}; "
                "which is right is not known"
            )
            where = some([" = ".join(keys[place] for place in places) for places in unequal], 2)
            findings.append(Finding("warning", f"equal images, unequal {column}s", where, what))
    return findings


def _content(path: Path, may_fail: bool = False) -> str:
    try:
        return sha256(path)
    except OSError as error:
        if may_fail:
            return "unreadable"
        raise DataError(f"{path} must be a file that can be read: {error.strerror}") from None


def _threads(workers: int | None) -> int:
    if workers is not None and workers < 1:
        raise UsageError(
            f"workers must be 1 or more, not {workers}; leave it out to use every core"
        )
    return workers or os.cpu_count() or 1


def _tell(findings: Sequence[Finding], limit: int = 12) -> None:
    for finding in findings[:limit]:
        say(f"{finding.severity}: {finding.where}: {finding.what}")
    if len(findings) > limit:
        say(f"and {len(findings) - limit} more; findings.csv in the run has them all")


from mien.ingest import (  # noqa: E402  the readers use what stands above
    accounts,
    affectnet,
    casme,
    casme2,
    casme_cubed,
    casme_squared,
    ckplus,
    ckplus48,
    depths,
    fer2013,
    ferplus,
    folder,
    fourdme,
    huggingface,
    jaffe,
    kdef,
    mmew,
    mmi,
    oulu_casia,
    persons,
    rafdb,
    samm,
    smic,
)

READERS = {
    "casme": casme,
    "casme2": casme2,
    "casme_squared": casme_squared,
    "casme_cubed": casme_cubed,
    "samm": samm,
    "smic": smic,
    "mmew": mmew,
    "fourdme": fourdme,
    "ckplus": ckplus,
    "ckplus48": ckplus48,
    "jaffe": jaffe,
    "kdef": kdef,
    "oulu_casia": oulu_casia,
    "mmi": mmi,
    "fer2013": fer2013,
    "ferplus": ferplus,
    "rafdb": rafdb,
    "affectnet": affectnet,
    "huggingface": huggingface,
    "folder": folder,
}
