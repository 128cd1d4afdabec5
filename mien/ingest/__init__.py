"""Readers: they turn a dataset's folder into Faces, with a report of all irregularities.

A reader is a module with three names: READER describes it, `recognise(look)` detects its layout
from the names of files, and `scan(root, spec)` lists the images of a folder with their labels. It
decodes nothing: decoding is the same for all readers. A folder is never written to. READERS, at the
end, names all readers.
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
AUTO = "auto"  # instead of a reader's name
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}\Z")

# Other names of the emotions, in datasets and in use, in lower case.
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

LEFT_OUT = ""  # in place of an emotion: the label is not a single one, and its images are left out

STORE_PARTS = frozenset({"aliases", "memo", "runs", "work"})

WHOLE = -1  # in place of a picture's position in a file: the file is the picture
AHEAD = 64  # at most so many pictures are extracted from files before they are decoded
Unpack = Callable[[Path, Sequence[int]], Iterator[Picture | DataError]]

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class Reader:
    """What a reader is for: shown to users, and the source of defaults."""

    dataset: str  # the default name of what it reads; empty: the folder's own name
    title: str  # the usual name of the set
    needs: str  # FOLDER with ...
    subjects: str  # where they come from: "the sheet"
    clips: str
    licence: str
    citation: str  # empty only where there is nothing to cite
    obtain: str
    labels: dict[str, str]  # the source's label in lower case -> one of EMOTIONS, or LEFT_OUT
    # The fields of IngestSpec that this reader takes in addition to those that all readers take.
    options: tuple[str, ...] = ()
    # The values of `part`, the usual one first, each with its description.
    parts: dict[str, str] = field(default_factory=dict)
    generic: bool = False  # it reads any folder of images: `auto` tries it last
    # Suffixes of files that hold many pictures, all of which must be accounted for: .avi
    holders: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """One irregularity in a folder: `kind` in two or three words, `where` relative to the folder,
    `what` in a sentence.

    It names everything that is left out because of it: `pictures` as `Listing.names` calls them,
    `rows` by their names in `Listing.read`, and `files` that are neither. `gone` has clips and
    keys: rows that give them are left out too. The accounts use `kind` as the reason; if there are
    several reasons, the first counts. What another part of the reader keeps is not left out.
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

    `rows` has one row per image: path and key relative to `root`, subject and clip without the
    dataset's name, and frame, phase, emotion, raw_label, action_units as in faces.COLUMNS.
    `annotations` are the other files that the listing depends on, such as the sheet. `part` says
    which of the reader's parts was read.

    One file may hold many pictures, such as a video or a table. The column `place` then has the
    position of a row's picture in its file, or WHOLE. `unpack` yields the pictures at the given
    positions of a file, in that order, or the error about one; it holds only a few at a time. A
    column `box` may have the face's left, top, width and height in the picture, or None. A column
    `white` may have the value that is white in a picture of more than 8 bits. `held` has the
    positions of all pictures in each such file.

    `read` has all rows of sheets, tables and annotations: the name of each ("casme2.csv, row 12"),
    and the clip or key that it gives, or an empty text. A row is kept if its clip or key is listed,
    and is otherwise in `Finding.rows`. Only `scan` fills in `disk` and `at`: the pictures below the
    folder that was given, and the path of `root` in that folder.
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
        """Return the path of each row's image, or of the file that holds it."""
        return [self.root / path for path in self.rows["path"]]

    def names(self) -> list[str]:
        """Return the name of each image: its path, and after a '#' its position in that file."""
        return names_of(self.rows)


def names_of(rows: pd.DataFrame) -> list[str]:
    """Return the names of the images in some rows of a listing."""
    if "place" not in rows:
        return list(rows["path"])
    positions = zip(rows["path"], rows["place"], strict=True)
    return [path if position == WHOLE else f"{path}#{position}" for path, position in positions]


class IngestSpec(Spec):
    """A dataset's folder, identified by its files and not by its location, and the form that its
    images get.
    """

    stage: ClassVar[str] = "ingest"
    version: int = 2
    reader: str
    fingerprint: str  # of the files: see `fingerprint`
    dataset: str  # the prefix of keys, subjects and clips
    size: int = Field(default=48, ge=MIN_SIDE, le=1024)
    colour: Colour = "grey"
    filter: Filter = "bilinear"
    crop: CropSpec | None = None  # None: the whole image
    licence: str | None = None  # None: the licence that the reader knows
    # A class name of the source -> one of EMOTIONS.
    map: dict[str, str] = Field(default_factory=dict)
    part: str | None = None  # one of the reader's parts; None: the first one in the folder
    # The file name of the sheet with the labels, and #PAGE of a workbook; None: the newest sheet.
    sheet: str | None = None
    # Clips: files have the sheet's frame numbers, even if they begin with 0 or 1.
    numbers: Literal["sheet"] | None = None
    # Folder: regular expressions that are searched in the path of each file.
    subject_pattern: str | None = None
    clip_pattern: str | None = None
    label_column: str | None = None  # folder: the columns of metadata.csv
    subject_column: str | None = None
    clip_column: str | None = None
    frame_column: str | None = None
    # A subject's name as written -> another name of the same person.
    same_subject: dict[str, str] = Field(default_factory=dict)
    # Different spellings are different people, unless `same_subject` says otherwise.
    subjects_as_written: bool = False
    image_column: str | None = None  # the column of pictures, if there are several
    # The value that is white in pictures of more than 8 bits; None: see the module pictures.
    white: float | None = Field(default=None, gt=0)

    @field_validator("dataset")
    @classmethod
    def _short_name(cls, dataset: str) -> str:
        if not DATASET.match(dataset):
            raise ValueError(
                "a dataset's name must have at most 40 letters, digits and '-', and must not begin "
                "with '-'"
            )
        return dataset

    @field_validator("map")
    @classmethod
    def _to_emotions(cls, names: dict[str, str]) -> dict[str, str]:
        for label, emotion in names.items():
            if emotion not in EMOTIONS:
                hint = nearest(emotion, list(EMOTIONS))
                raise ValueError(
                    f"'{label}' must be mapped to one of {', '.join(EMOTIONS)}, not "
                    f"'{emotion}'.{hint}"
                )
        return {_plain(label): emotion for label, emotion in names.items()}

    @field_validator("subject_pattern", "clip_pattern")
    @classmethod
    def _with_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        if not patterns.compiled(pattern).groups:
            raise ValueError(
                "must have a group, in parentheses, around the text to extract, such as "
                "'(s[0-9]+)_'"
            )
        return pattern

    @model_validator(mode="after")
    def _options_of_the_reader(self) -> "IngestSpec":
        if self.reader not in READERS:
            raise SpecError(
                f"there is no reader '{self.reader}'.{nearest(self.reader, list(READERS))} "
                f"{_readers()}"
            )

        # An option that only other readers take would be ignored silently.
        options = READERS[self.reader].READER.options
        others = {name for module in READERS.values() for name in module.READER.options} - set(
            options
        )
        ignored = sorted(name for name in others if getattr(self, name) is not None)
        if ignored:
            raise SpecError(
                f"the reader {self.reader} takes {', '.join(options) or 'no options of its own'}, "
                f"and does not take {', '.join(ignored)}"
            )

        parts = READERS[self.reader].READER.parts
        if self.part is not None and self.part not in parts:
            has = f"has the parts {', '.join(parts)}" if parts else "has no parts"
            raise SpecError(
                f"the reader {self.reader} {has}, and does not have "
                f"'{self.part}'.{nearest(self.part, list(parts))}"
            )

        for column in ("subject", "clip"):
            if getattr(self, f"{column}_pattern") and getattr(self, f"{column}_column"):
                raise SpecError(
                    f"the {column} comes from a pattern or from a column: give only one of the two"
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
    """Return the images below `root` as Faces, decoded by `workers` threads (None: one per core).

    Raises DataError if the files are not those of the spec's fingerprint, or if an image cannot be
    read. With `skip_unreadable` such images are left out, unless no image would remain.
    """
    listing = depths.measured(scan(spec, root), spec.white)
    actual = fingerprint(listing, workers, skip_unreadable)
    if actual != spec.fingerprint:
        raise DataError(
            f"{root} must hold the files of fingerprint {spec.fingerprint[:12]}, and holds those "
            f"of {actual[:12]}: it has changed, or is another dataset; ingest it again"
        )
    with_faces, places, _ = _found(listing, spec, workers, crop_model, None)
    faces, unread = read_listing(with_faces, spec, workers, skip_unreadable, places)
    findings = [*listing.findings, *accounts.faceless(listing, with_faces), *unread]
    accounts.close(listing, READERS[spec.reader].READER, faces, findings)
    return faces


def scan(spec: IngestSpec, root: Path) -> Listing:
    """Return the images that the spec's reader lists below `root`.

    All pictures and rows are accounted for: one that the reader neither lists nor names becomes a
    finding. Raises DataError if `root` is not a dataset of the reader's kind.
    """
    about = READERS[spec.reader].READER
    listing = persons.folded(READERS[spec.reader].scan(_folder(root), spec), spec)
    listing = accounts.check(listing, _folder(root), about)
    other_parts = [part for part in about.parts if part != listing.part]
    if not other_parts or any(finding.kind == "part" for finding in listing.findings):
        return listing
    message = f"this part was read; --part selects another: {', '.join(other_parts)}"
    note = Finding("note", "part", str(listing.part), message)
    return replace(listing, findings=(note, *listing.findings))


def recognise(root: Path) -> dict[str, str]:
    """Return the readers whose layout the folder has, each with the reason.

    Readers of any folder are included only if no other reader fits. Only the names of files and
    folders are read; no image is opened. Raises DataError if `root` is not a folder.
    """
    look = glance(_folder(root))
    reasons = {name: module.recognise(look) for name, module in READERS.items()}
    fitting = {name: reason for name, reason in reasons.items() if reason}
    return {
        name: reason for name, reason in fitting.items() if not READERS[name].READER.generic
    } or fitting


def the_reader(root: Path) -> tuple[str, str]:
    """Return the one reader whose layout the folder has, and the reason.

    Raises DataError if no reader fits, or if several do.
    """
    fitting = recognise(root)
    if not fitting:
        contents = some(sorted(path.name for path in _folder(root).iterdir()), 8)
        raise DataError(
            f"{root} must have the layout of a dataset that mien reads, and no reader recognises "
            f"it; found: {contents or 'nothing'}. `mien readers` lists what each needs"
        )
    if len(fitting) > 1:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in fitting.items())
        raise DataError(
            f"{root} must have the layout of one reader, and {len(fitting)} readers recognise it. "
            f"{reasons}. Name the reader to use"
        )
    return next(iter(fitting.items()))


def fingerprint(listing: Listing, workers: int | None = None, skip_unreadable: bool = False) -> str:
    """Return the sha256 over relative name and content of every image listed and every annotation
    file.

    All bytes are read in one pass over the files, which then stay in the system's cache for
    decoding. The folder's location, dates, and files that no result depends on do not count.
    Raises DataError if a file cannot be read, unless it is an image and `skip_unreadable` is set:
    then it counts as unreadable.
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
    """Return the run of the dataset at `root`, made in `store` if it is not there yet.

    It has the faces, sheet.png, findings.csv, labels.csv, left_out.csv and summary.json.
    left_out.csv names each picture and each row that did not become an image, with its reason;
    summary.json has the totals. labels.csv says which emotion each label of the source became.
    action_units.parquet has the units of each clip, one row per unit (`facs.units`), if the source
    has any. With a crop, crops.csv, misses.csv and crops.png say where faces were found;
    `crop_model` is YuNet's file.

    The reader "auto" is the one whose layout the folder has. `name` is the dataset's name (by
    default the reader's, or the folder's); `options` are other fields of IngestSpec. Findings are
    printed on stderr, except those of the kinds in `expected`. Neither `workers` nor
    `skip_unreadable` is part of the run's name: they do not change what the images become.

    Raises SpecError for an unknown option, and DataError for a folder that cannot be ingested.
    """
    root = expanded(Path(root))
    if reader == AUTO:
        reader, reason = the_reader(root)
        say(f"{root} is read by {reader}: {reason}")

    # The fingerprint is part of the run's name, and needs the listing, which needs a spec.
    usual = reader in READERS and READERS[reader].READER.dataset
    dataset = name if name is not None else usual or slug(root.resolve().name)
    fields = {"reader": reader, "dataset": dataset, "fingerprint": "", **options}
    draft = read_spec(IngestSpec, fields, f"ingest {reader}")
    listing = depths.measured(scan(draft, root), draft.white)
    files = fingerprint(listing, workers, skip_unreadable)
    spec = draft.model_copy(update={"fingerprint": files, "part": listing.part})
    _tell([finding for finding in listing.findings if finding.kind not in expected])

    def build(out: Path, scratch: Path) -> None:
        # Decode the images, without those in which no face was found.
        with_faces, places, about_crop = _found(listing, spec, workers, crop_model, out)
        faces, unread = read_listing(with_faces, spec, workers, skip_unreadable, places)
        _tell(unread)

        # Report every irregularity, and account for every picture and row.
        about = READERS[reader].READER
        findings = [*listing.findings, *accounts.faceless(listing, with_faces), *unread]
        _write_findings(findings, out)
        ledgers = accounts.close(listing, about, faces, findings, out)

        # The reader's citation holds only for the release whose licence it knows.
        cited = spec.licence is None and listing.licence == about.licence
        summary = {
            "dataset": spec.dataset,
            "named": _named_by(name, reader),
            "licence": faces.index["licence"].iloc[0],
            "citation": about.citation if cited else "",
            "findings": dict(Counter(finding.kind for finding in findings)),
            "accounts": accounts.summary(ledgers),
            **about_crop,
            "terms": recorded(reader, spec.dataset, spec.licence, spec.licence or listing.licence),
        }
        write(faces, out, summary)
        _write_labels(faces, out)

    # An earlier call with skip_unreadable may have made the run with images missing.
    made = store.make(spec, build)
    if not skip_unreadable:
        _require_all_read(made)
    if alias is not None:
        store.name(alias, made.name)
    return made


def _write_findings(findings: Sequence[Finding], out: Path) -> None:
    columns = ["severity", "kind", "where", "what"]
    lines = [[getattr(finding, column) for column in columns] for finding in findings]
    write_csv(pd.DataFrame(lines, columns=columns), out / "findings.csv")


def _require_all_read(made: Run) -> None:
    """Raise DataError if images were left out of a run because they could not be read."""
    if not made.summary.get("findings", {}).get("unreadable image"):
        return
    table = pd.read_csv(made.file("findings.csv"), dtype=str, keep_default_na=False)
    unread = [str(name) for name in table["where"][table["kind"] == "unreadable image"]]
    raise DataError(
        f"every image must be readable, and {some(unread)} cannot be read: {made.name}, which was "
        "made from these files with --skip-unreadable, does not contain them. Replace or remove "
        "these files, or give --skip-unreadable again"
    )


def _named_by(name: str | None, reader: str) -> str:
    """Return the source of a dataset's name: by hand, its reader, or its folder, which may name
    people.
    """
    return "hand" if name else "reader" if READERS[reader].READER.dataset else "folder"


def describe(name: str) -> list[tuple[str, str]]:
    """Return all facts about a reader as lines, each with a title.

    Raises SpecError if there is no reader of that name.
    """
    if name not in READERS:
        raise SpecError(
            f"there is no reader '{name}'.{nearest(name, list(READERS))} Readers: "
            f"{', '.join(READERS)}"
        )
    about = READERS[name].READER
    options = [f"--{option.replace('_', '-')}" for option in about.options]

    # Facts that not every reader has get a line only where they exist.
    lines = [
        ("reader", name),
        ("dataset", about.title),
        ("needs", about.needs),
        ("subjects", f"from {about.subjects}"),
        ("clips", f"from {about.clips}"),
        *(("part", f"{part}: {description}") for part, description in about.parts.items()),
        *((("options", ", ".join(options)),) if options else ()),
        ("licence", about.licence),
        ("obtain", about.obtain),
        *((("cite", about.citation),) if about.citation else ()),
        *(("label", f"{raw} -> {emotion or 'left out'}") for raw, emotion in about.labels.items()),
    ]
    if not about.labels:
        lines.append(("label", f"any of {', '.join(EMOTIONS)}"))

    # The labels that every reader understands come last.
    aliases = ", ".join(f"{raw} -> {emotion}" for raw, emotion in ALIASES.items())
    return [*lines, ("label", f"any set: {aliases}")]


# What readers share


@dataclass(frozen=True)
class Look:
    """A glance at a folder: the names of what it holds at all depths, relative to it; names of
    folders end in '/'.
    """

    root: Path
    names: tuple[str, ...]

    def first(self, pattern: str) -> str | None:
        """Return the first name that a regular expression matches in full, ignoring case, or
        None.
        """
        matches = re.compile(pattern, re.IGNORECASE).fullmatch
        return next((name for name in self.names if matches(name)), None)


def glance(root: Path, depth: int = 7) -> Look:
    """Return a look at `root`: all names at the top, and a few of each kind in the folders below.

    At most 20,000 names are read, however large a release is. What cannot be read is passed over,
    because `scan` will report it, and links to folders are not followed.
    """
    return Look(root, tuple(islice(_glance(root, "", depth), 20_000)))


def walk(root: Path, suffixes: Set[str] = IMAGE_SUFFIXES) -> tuple[list[str], list[Finding]]:
    """Return the files below `root` with one of `suffixes` (images), and what was passed over.

    Paths are relative to `root`, in the order of names. Hidden files are not reported. Links to
    folders, and links that lead out of `root`, are not followed.
    """
    images: list[str] = []
    foreign: dict[str, list[str]] = {}
    unread: dict[str, list[str]] = {}
    unusual: dict[str, list[str]] = {}
    links: list[str] = []
    nameless: list[str] = []
    special: list[str] = []

    # Every file belongs to exactly one group; the order of the tests matters.
    for path, entry in entries(root, ""):
        suffix = PurePosixPath(path).suffix.lower()
        if not path.isprintable():  # not UTF-8, or control characters: no table could hold it
            nameless.append(shown(path))
        elif entry.is_symlink() and not _inside(root, root / path):
            links.append(path)
        elif not entry.is_file():  # opening a pipe would block for ever
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

    # Images with an unusual suffix are read, and reported.
    by_content = [
        Finding(
            "note",
            "pictures by content",
            some(names),
            f"files that are images by their content ({suffix}), read: {len(names)}",
        )
        for suffix, names in sorted(unusual.items())
    ]
    return images, [
        *by_content,
        *_passed_over(foreign, unread),
        *_not_opened(links, special, nameless),
    ]


def _pictured(suffix: str, entry: os.DirEntry[str]) -> bool:
    """Return whether a file begins like a readable picture, whatever its suffix."""
    try:
        if not entry.is_file():
            return False
        with Path(entry).open("rb") as file:
            return bool(pictures.kind(file.read(pictures.HEAD), suffix))
    except OSError:
        return False


def pictorial(path: str, entry: os.DirEntry[str], holders: Set[str] = frozenset()) -> bool:
    """Return whether a file should be a picture: by its suffix, or else by its first bytes."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES or suffix in holders:
        return True
    return entry.is_file(follow_symlinks=False) and _pictured(suffix, entry)


def shown(path: str) -> str:
    """Return a path in printable form: parts that cannot be printed are escaped."""
    if path.isprintable():
        return path
    return "/".join(part if part.isprintable() else ascii(part)[1:-1] for part in path.split("/"))


def _passed_over(foreign: dict[str, list[str]], unread: dict[str, list[str]]) -> list[Finding]:
    """Return findings for files whose suffix is not that of a picture, and for pictures in forms
    that are not read.
    """
    findings = []
    for suffix, names in sorted(foreign.items()):
        message = f"files that are not images by their suffix ({suffix}), passed over: {len(names)}"
        findings.append(Finding("note", "foreign files", some(names), message, files=tuple(names)))

    for suffix, names in sorted(unread.items()):
        if suffix in IMAGE_SUFFIXES:
            message = f"images of a kind not in this set ({suffix}), passed over: {len(names)}"
            findings.append(
                Finding("note", "foreign files", some(names), message, pictures=tuple(names))
            )
            continue
        message = (
            f"images whose form or suffix is not supported ({suffix}), left out: {len(names)}; "
            "rename those that are JPEG to .jpg, and save others as PNG"
        )
        findings.append(
            Finding("warning", "unread form", some(names), message, pictures=tuple(names))
        )
    return findings


def _not_opened(links: list[str], special: list[str], nameless: list[str]) -> list[Finding]:
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
        Finding("warning", kind, some(names), message, pictures=tuple(names))
        for kind, names, message in groups
        if names
    ]


def table_text(table: Path) -> tuple[str, str]:
    """Return the text of a CSV file and its separator: a comma, a semicolon or a tab, judged by the
    first line.

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
    """Return the error that says what a folder must hold, what it holds, and how to obtain the
    set.
    """
    contents = some(sorted(ascii(path.name)[1:-1] for path in root.iterdir()), 8)
    return DataError(
        f"{root} must hold {reader.needs.removeprefix('FOLDER with ')}"
        f"{f', and {lacking}' if lacking else ''}; found: {contents or 'nothing'}. To obtain the "
        f"set, {reader.obtain}"
    )


def label(rows: pd.DataFrame, spec: IngestSpec, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the rows with the emotion of their `raw_label`, by the spec's map and the reader's
    table.

    Images whose label is not a single emotion are left out, unless the map gives them one. Raises
    DataError as `fold_all` does, or if no image remains.
    """
    emotions = fold_all(rows["raw_label"], spec.map, where, READERS[spec.reader].READER.labels)
    labelled = rows.assign(emotion=[emotions[raw] for raw in rows["raw_label"]])
    ambiguous = labelled["emotion"] == LEFT_OUT
    if ambiguous.all():
        raise DataError(
            f"{where}: at least one label must be an emotion, and none is: "
            f"{some(sorted(emotions), 20)}"
        )

    # One finding per label, so that --map can be given for each.
    findings = []
    for raw, images in labelled[ambiguous].groupby("raw_label"):
        message = (
            f"'{raw}' is not a single emotion; left out: {many(len(images), 'image')}; --map "
            f"'{raw}=EMOTION' would keep them"
        )
        clips = sorted(set(images["clip"]) - {""})
        findings.append(
            Finding(
                "warning",
                "no single emotion",
                some(clips) or ".",
                message,
                pictures=tuple(names_of(images)),
                gone=(*images["key"], *clips),
            )
        )
    return labelled[~ambiguous].reset_index(drop=True), findings


def fold(raw: str, names: dict[str, str], labels: dict[str, str] | None = None) -> str | None:
    """Return the emotion that a source's label stands for, or None if it is not known.

    It is looked up in `names`, then in the reader's own table, then in ALIASES, ignoring case.
    Several emotions joined by "+" are not a single one: LEFT_OUT.
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
    """Return the emotion of each label.

    Raises DataError if a label is unknown, or if `names` maps a label that does not occur.
    """
    labels = sorted(set(labels))
    folded = {label: fold(label, names, table) for label in labels}

    # Unknown labels: name them all, with what the first few may be misspellings of.
    unknown = [label for label, emotion in folded.items() if emotion is None]
    if unknown:
        near = {label: nearest(_plain(label), [*EMOTIONS, *ALIASES]) for label in unknown[:5]}
        single = len(unknown) == 1
        hints = "".join(
            f"{hint if single else f' {label}:{hint}'}" for label, hint in near.items() if hint
        )
        raise DataError(
            f"{where}: the classes must be among {', '.join(EMOTIONS)}, and {some(unknown)} "
            f"{'is' if single else 'are'} not; found: {some(labels, 20)}.{hints} "
            f"Say what they stand for with --map {unknown[0]}=EMOTION, or move them out of the "
            "folder"
        )

    # A mapped name that does not occur is most likely misspelt.
    unused = sorted(set(names) - {_plain(label) for label in labels})
    if unused:
        raise DataError(
            f"{where}: --map must name labels of the dataset, and {some(unused)} does not occur; "
            f"found: {some(labels, 20)}"
        )
    return {label: emotion for label, emotion in folded.items() if emotion is not None}


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names, and the number of the others."""
    others = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {others} more" if others > 0 else "")


def last_number(path: str) -> int:
    """Return the last whole number in a file's stem, -1 if there is none.

    It is the frame's number in every public set.
    """
    numbers = re.findall(r"[0-9]+", PurePosixPath(path).stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 16 else -1


def slug(name: str) -> str:
    """Return a folder's name in the form of a dataset's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40].rstrip("-") or "folder"


def _folder(root: Path) -> Path:
    root = expanded(Path(root))
    if not root.is_dir():
        raise DataError(
            f"{root} must be a folder that holds a dataset, and "
            f"{'is a file' if root.exists() else 'does not exist'}"
        )
    return root.resolve()


def _glance(root: Path, below: str, depth: int) -> Iterable[str]:
    try:
        with os.scandir(root / below) as reader:
            entries = sorted(reader, key=lambda entry: entry.name)
    except OSError:
        return
    visible = [
        entry for entry in entries if entry.name.isprintable() and not entry.name.startswith(".")
    ]
    folders = [entry.name for entry in visible if entry.is_dir(follow_symlinks=False)]
    folders = [name for name in folders if not _own(root / below, name)]
    files = [entry.name for entry in visible if entry.is_file(follow_symlinks=False)]
    level = below.count("/")
    yield from (below + name for name in files[: 200 if level < 2 else 5])
    for position, name in enumerate(folders[:200]):
        yield f"{below}{name}/"
        if depth and position < (20 if level == 0 else 3 if level > 2 else 8):
            yield from _glance(root, f"{below}{name}/", depth - 1)


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store of mien's: its `runs` or `work` holds names of runs."""
    for part in ("runs", "work"):
        try:
            with os.scandir(folder / part) as entries:
                if any(RUN_NAME.match(entry.name.removesuffix(".claim")) for entry in entries):
                    return True
        except OSError:
            continue
    return False


def _own(folder: Path, name: str) -> bool:
    """Return whether the entry `name` of a folder is a store, or a part of one."""
    return is_store(folder / name) or (name in STORE_PARTS and is_store(folder))


def entries(root: Path, below: str) -> Iterable[tuple[str, os.DirEntry[str]]]:
    """Yield all files that are not hidden, and links to folders, in the order of names.

    No store of mien's is entered. Folders may be nested to any depth: there is no recursion.
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


def _inside(root: Path, path: Path) -> bool:
    """Return whether a link leads to a file below `root`, which is resolved."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def _plain(label: str) -> str:
    """Return a label in the form for comparison: without invisible characters, in lower case, and
    0.0 as 0.
    """
    text = clean(label).lower()
    return text.split(".")[0] if re.fullmatch(r"[0-9]{1,9}\.0+", text) else text


def _readers() -> str:
    return "Readers: " + "; ".join(
        f"{name}: {module.READER.needs}" for name, module in READERS.items()
    )


def _write_labels(faces: Faces, out: Path) -> None:
    """Write labels.csv, which says what each label became, and action_units.parquet if there are
    any units.
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


# The place of the face in each image; None if whole images are read.
Places = list[Place | None] | None


def _found(
    listing: Listing, spec: IngestSpec, workers: int | None, model: Path | None, out: Path | None
) -> tuple[Listing, Places, dict[str, Any]]:
    """Return the listing without the images that are skipped because they show no face, the places
    of the faces, and a summary of the search.

    A report on every image goes to `out`. An image that cannot be read stays, so that decoding
    raises its error.
    """
    if spec.crop is None:
        return listing, None, {}

    # Open each image as the detector needs it.
    rows = listing.rows
    colour: Colour = "rgb" if spec.crop.detector == "yunet" else "grey"

    def open_listed(number: int) -> np.ndarray | None:
        single = replace(listing, rows=rows.iloc[[number]])
        _, picture = next(iter(_pictures(single)))
        box = rows["box"].iloc[number] if "box" in rows else None
        white = _whites(single)[0]
        if isinstance(picture, DataError):
            return None
        try:
            return open_picture(picture, colour, box=box, white=white)
        except DataError:
            return None

    # Find the faces, and report where they are before any image is left out.
    clips, frames = list(rows["clip"]), list(rows["frame"])
    places = crops.find_all(
        len(rows), clips, frames, open_listed, spec.crop, model, _threads(workers)
    )
    keys = [f"{spec.dataset}/{key}" for key in rows["key"]]
    table = crops.table(keys, list(rows["emotion"]), places)
    crops.tell(table, spec.size, spec.crop.margin)
    if spec.crop.misses == "fail":
        crops.require_found(table)
    if out is not None:
        crops.report(table, places, open_listed, spec.crop.margin, out)

    # Leave out the images without a face if the spec says so.
    stays = np.array(
        [spec.crop.misses != "skip" or kind != "missed" for kind in table["kind"]], dtype=bool
    )
    if not stays.any():
        raise DataError(
            f"at least one image must show a face, and none of {len(rows):,} does; they may be cut "
            "out already"
        )
    with_faces = replace(listing, rows=rows[stays].reset_index(drop=True))
    return (
        with_faces,
        [place for place, in_result in zip(places, stays, strict=True) if in_result],
        {"crop": crops.counted(table)},
    )


def read_listing(
    listing: Listing,
    spec: IngestSpec,
    workers: int | None,
    skip_unreadable: bool,
    places: Places = None,
) -> tuple[Faces, list[Finding]]:
    """Return the faces, and findings about images that were left out, that are equal, or of which
    only a part was used.

    Raises DataError if an image cannot be read; with `skip_unreadable` only if none can.
    """
    images, faults, remarks = _decode_all(listing, spec, workers, places)
    if faults and not (skip_unreadable and len(faults) < len(images)):
        more = f" There are {len(faults)} such images of {len(images)}." if len(faults) > 1 else ""
        remedy = (
            "replace or remove them"
            if len(faults) == len(images)
            else "replace them, or leave them out with --skip-unreadable"
        )
        raise DataError(f"{'; '.join(list(faults.values())[:3])}.{more} What to do: {remedy}")

    # Names of different datasets must stay distinct, so all get the dataset's name in front.
    readable = np.array([row not in faults for row in range(len(images))], dtype=bool)
    rows = listing.rows[readable]
    decoded = images if not faults else images[readable]
    index = make_index(
        decoded,
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
            names[row],
            f"left out: {_portable(fault, listing.root)}",
            pictures=(names[row],),
        )
        for row, fault in faults.items()
    ]
    return Faces(decoded, index), [*findings, *_remarked(names, remarks), *_alike(index)]


def _portable(fault: str, root: Path) -> str:
    """Return an error's text without what differs between machines and runs: the folder's path, and
    addresses in memory.
    """
    return re.sub(
        r" (at|object at) 0x[0-9a-fA-F]+", "", fault.replace(f"{root}/", "").replace(str(root), ".")
    )


def _remarked(names: Sequence[str], remarks: dict[int, list[str]]) -> list[Finding]:
    """Return findings for the remarks of decoding on pictures that it could read."""
    messages = {
        FRAMES: "pictures of several frames or pages, of which the first was taken",
        TRANSPARENT: "pictures with transparent parts, which became black",
    }
    findings = []
    for kind, message in messages.items():
        where = [names[row] for row, kinds in sorted(remarks.items()) if kind in kinds]
        if where:
            findings.append(Finding("note", kind, some(where), f"{message}: {len(where)}"))
    return findings


def _decode_all(
    listing: Listing, spec: IngestSpec, workers: int | None, places: Places
) -> tuple[np.ndarray, dict[int, str], dict[int, list[str]]]:
    """Return the images [n, c, h, w], and by row number the error of each unreadable image and the
    remarks on all others.

    Threads are enough: Pillow releases the interpreter lock while it decodes and resizes. Each
    thread holds one image.
    """
    count = len(listing.rows)
    images = np.zeros((count, 1 if spec.colour == "grey" else 3, spec.size, spec.size), np.uint8)
    names = listing.names()
    boxes = list(listing.rows["box"]) if "box" in listing.rows else [None] * count
    faces, margin = places or [None] * count, spec.crop.margin if spec.crop else 0.0
    whites, remarks = _whites(listing), dict[int, list[str]]()

    # A thread writes only to the rows of its own pictures, so no lock is needed.
    def work(row: int, picture: Picture | DataError) -> tuple[int, str]:
        try:
            if isinstance(picture, DataError):
                raise picture
            found: list[str] = []
            images[row] = decode(
                picture,
                spec.size,
                spec.colour,
                spec.filter,
                box=boxes[row],
                face=faces[row],
                margin=margin,
                white=whites[row],
                name=f"{listing.root}/{names[row]}",
                remarks=found,
            )
            if found:
                remarks[row] = found
        except DataError as error:
            return row, str(error)
        return row, ""

    # Decode in parallel, and collect the errors instead of stopping at the first.
    faults = {}
    with ThreadPoolExecutor(_threads(workers)) as pool, track("decoding images", count) as bar:
        for done, (row, fault) in enumerate(_in_order(pool, work, _pictures(listing)), start=1):
            if fault:
                faults[row] = fault
            if done % 100 == 0:
                bar.update(done)
    return images, dict(sorted(faults.items())), remarks


def _whites(listing: Listing) -> list[float | None]:
    """Return the value that is white in each picture, None for pictures of 8 bits."""
    whites = listing.rows["white"] if "white" in listing.rows else [None] * len(listing.rows)
    return [None if value is None or np.isnan(value) else float(value) for value in whites]


def _pictures(listing: Listing) -> Iterator[tuple[int, Picture | DataError]]:
    """Yield each row's number with its picture: the path, or the content extracted from the file at
    that path.
    """
    positions = np.asarray(
        listing.rows.get("place", np.full(len(listing.rows), WHOLE)), dtype=np.int64
    )
    paths = listing.paths()
    inside: dict[Path, list[int]] = {}
    for row, path in enumerate(paths):
        if positions[row] == WHOLE or listing.unpack is None:
            yield row, path
        else:
            inside.setdefault(path, []).append(row)
    for path, rows in inside.items():
        rows.sort(key=lambda row: positions[row])
        if listing.unpack is not None:
            yield from zip(
                rows, listing.unpack(path, [int(positions[row]) for row in rows]), strict=True
            )


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[int, Picture | DataError], tuple[int, str]],
    pictures: Iterable[tuple[int, Picture | DataError]],
) -> Iterator[tuple[int, str]]:
    """Yield what `work` returns for each picture, with at most AHEAD pictures waiting."""
    waiting: deque[Future[tuple[int, str]]] = deque()
    for row, picture in pictures:
        waiting.append(pool.submit(work, row, picture))
        if len(waiting) >= AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _alike(index: pd.DataFrame) -> list[Finding]:
    """Return findings about images that are equal, pixel by pixel, and among them those with
    different subjects or emotions.
    """
    twins: dict[str, list[int]] = {}
    for row, content in enumerate(index["sha256"]):
        twins.setdefault(content, []).append(row)
    groups = [rows for rows in twins.values() if len(rows) > 1]
    keys = list(index["key"])
    findings = []

    # Equal images of one subject and emotion are kept: they may be repeated on purpose.
    labels = list(zip(index["subject"], index["emotion"], strict=True))
    agreeing = [rows for rows in groups if len({labels[row] for row in rows}) == 1]
    if agreeing:
        where = some([" = ".join(str(keys[row]) for row in rows[:3]) for rows in agreeing], 2)
        message = f"images that occur more than once, pixel by pixel, kept: {len(agreeing)}"
        findings.append(Finding("note", "equal images", where, message))

    # Where the labels differ, at least one of them is wrong.
    for column in ("subject", "emotion"):
        values = list(index[column])
        unequal = [rows for rows in groups if len({values[row] for row in rows}) > 1]
        if unequal:
            message = (
                f"images that occur with more than one {column}: {len(unequal)}; which one is "
                "right is not known"
            )
            where = some([" = ".join(keys[row] for row in rows) for rows in unequal], 2)
            findings.append(Finding("warning", f"equal images, unequal {column}s", where, message))
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
        raise UsageError(f"workers must be 1 or more, not {workers}; omit it to use every core")
    return workers or os.cpu_count() or 1


def _tell(findings: Sequence[Finding], limit: int = 12) -> None:
    for finding in findings[:limit]:
        say(f"{finding.severity}: {finding.where}: {finding.what}")
    if len(findings) > limit:
        say(f"and {len(findings) - limit} more; findings.csv in the run has them all")


from mien.ingest import (  # noqa: E402  the readers use what is defined above
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
