"""The sets that an audit is given: runs, or plain folders that are ingested."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mien.audit.specs import FolderSpec
from mien.errors import DataError, StoreError, UsageError
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.ingest.folders import make_dataset_name
from mien.ingest.run import find_fitting_readers, run_ingest
from mien.outside import expand_home
from mien.runs.progress import say
from mien.runs.spec import RUN_NAME
from mien.runs.store import Run, RunSummary, Store

Side = str  # one of SIDES

SIDE_NAMES = ("synthetic", "train", "test")

PATTERN_OPTIONS = ("subject_pattern", "clip_pattern")


@dataclass(frozen=True)
class NamedSide:
    """A side as a user names it; `folder` is None if the name is that of a run."""

    side: Side
    name: str
    folder: Path | None

    @property
    def label(self) -> str:
        """The label of the side: the folder's own name, or the name of the run."""
        return (
            self.name
            if self.folder is None
            else self.folder.resolve().name or str(self.folder.resolve())
        )


@dataclass(frozen=True)
class Reading:
    """How folders are read: patterns by side, class names to merge, and the size.

    The size None means the default size.
    """

    subject_pattern: Mapping[Side, str] = field(default_factory=dict)
    clip_pattern: Mapping[Side, str] = field(default_factory=dict)
    map: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None

    @property
    def given_options(self) -> list[str]:
        """The options that were given, as the command line calls them."""
        return [
            f"--{name.replace('_', '-')}"
            for name in (*PATTERN_OPTIONS, "map", "size")
            if getattr(self, name)
        ]

    def list_options(self, side: Side) -> dict[str, Any]:
        """Return the options for reading the folder of a side."""
        options: dict[str, Any] = {
            name: getattr(self, name)[side]
            for name in PATTERN_OPTIONS
            if side in getattr(self, name)
        }
        return (
            options
            | ({"map": dict(self.map)} if self.map else {})
            | ({"size": self.size} if self.size else {})
        )


def make_reading(
    sides: Iterable[Side],
    subject_pattern: Sequence[str] = (),
    clip_pattern: Sequence[str] = (),
    map: Mapping[str, str] | None = None,
    size: int | None = None,
) -> Reading:
    """Return how the folders of real `sides` are read.

    A pattern is for all of them, or begins with the one that it is for, such as `train:(s[0-9]+)_`.
    Raises UsageError for another side, or two patterns for one side.
    """
    patterns = {name: {} for name in PATTERN_OPTIONS}
    sides = list(sides)
    for name, texts in zip(PATTERN_OPTIONS, (subject_pattern, clip_pattern), strict=True):
        option = "--" + name.replace("_", "-")
        for text in (texts,) if isinstance(texts, str) else texts:
            side_name, _, pattern = text.partition(":")
            if side_name in SIDE_NAMES and side_name not in sides:
                raise UsageError(
                    f"{option} is for {' or '.join(sides)}, whose people are real; given: '{text}'"
                )
            for side in [side_name] if side_name in sides else sides:
                if side in patterns[name]:
                    raise UsageError(
                        f"{option} must be given once per side, and is given twice for {side}; "
                        "write each as SIDE:PATTERN"
                    )
                patterns[name][side] = pattern if side_name in sides else text
    return Reading(**patterns, map=map or {}, size=size)


def find_sides(names: Mapping[Side, str], reading: Reading, store: Store) -> list[NamedSide]:
    """Return what each side names; nothing is read yet, so that mistakes are found early.

    Raises StoreError for a name that is neither a run nor a folder, UsageError for a set named
    twice, or an option for folders if there is no folder, DataError for a folder without files.
    """
    named_sides = [NamedSide(side, name, _find_folder(name, store)) for side, name in names.items()]
    _refuse_twice(named_sides, store)

    # Folders need files
    folders = [named for named in named_sides if named.folder is not None]
    for named in folders:
        if named.folder is not None and not any(path.is_file() for path in named.folder.rglob("*")):
            raise DataError(
                f"{named.name} must be a folder of images, and it holds no file; check the path"
            )

    # Options for folders need a folder
    stored = [named.name for named in named_sides if named.folder is None]
    if reading.given_options and not folders:
        message = (
            f"{' and '.join(stored)} {'is' if len(stored) == 1 else 'are'} in the store already; "
            f"omit {' and '.join(reading.given_options)}"
        )
        raise UsageError(
            f"{', '.join(reading.given_options)} says how a folder is read, and {message}"
        )
    for named in (named for named in named_sides if named.folder is None):
        for name in PATTERN_OPTIONS:
            if list(getattr(reading, name)) == [named.side]:
                message = (
                    f"--{name.replace('_', '-')} says how a folder is read, and {named.name} is in "
                    "the store already"
                )
                raise UsageError(f"{message}; omit it")
    return named_sides


def read_sides(
    named_sides: Sequence[NamedSide],
    reading: Reading,
    store: Store,
    unnamed_side: Side = "synthetic",
) -> dict[Side, Run]:
    """Return the run of each side; folders are read into the store, and they are not changed.

    A folder gets the size and colour of the stored sets that it is compared with. It is read by the
    reader for the layout of a known dataset, if there is one and no pattern is given, else by the
    one for class folders. The side of `unnamed_side` shows no people, so no warning says that their
    names are missing.

    Raises DataError for a folder that cannot be read, or if a stored set has other channels than
    pictures have.
    """
    # Folders are read in the form of the stored sets
    stored = {named.side: store.run(named.name) for named in named_sides if named.folder is None}
    folders = {named.side: named.folder for named in named_sides if named.folder is not None}
    form = _find_stored_form([*stored.values()]) if folders else {}
    datasets = _name_datasets(folders)
    readers = {
        side: _choose_reader(folder, reading.list_options(side)) for side, folder in folders.items()
    }

    # Read each folder
    runs: dict[Side, Run] = {}
    for named in named_sides:
        if named.folder is None:
            runs[named.side] = stored[named.side]
            continue
        options = {**form, **reading.list_options(named.side)}
        # A generator draws nobody, so nobody's name is missing
        expected = {"no subjects"} if named.side == unnamed_side else set()
        name = datasets[named.side]
        runs[named.side] = run_ingest(
            readers[named.side], named.folder, store, name=name, expected=expected, **options
        )
    return runs


def mark_sides(
    named_sides: Sequence[NamedSide], runs: Mapping[Side, Run], store: Store
) -> dict[Side, Run]:
    """Return the runs of an audit's sides; folders are marked as synthetic or renamed.

    Subjects of real folders get the names of the same people as those of the other real side.
    """
    side_runs = dict(runs)
    real = {named.side: named for named in named_sides if named.side != "synthetic"}
    people = _find_common_dataset(
        [runs[side] for side in sorted(real, key=lambda side: real[side].folder is not None)]
    )

    for named in named_sides:
        if named.folder is None:
            continue
        if named.side == "synthetic":
            side_runs[named.side] = mark_synthetic(runs[named.side], store)
        elif people and set(Faces.load(runs[named.side].path).index["dataset"]) != {people}:
            side_runs[named.side] = _make_folder_run(
                FolderSpec(faces=runs[named.side].name, people_of=people), store
            )
    return side_runs


def mark_synthetic(run: Run, store: Store) -> Run:
    """Return the images of a folder as images of an unknown generator, of no person and no clip."""
    if (Faces.load(run.path).index["source"] != "real").all():
        return run
    say(
        "images of a synthetic folder count as made by an unknown generator; they cannot be "
        "published"
    )
    return _make_folder_run(FolderSpec(faces=run.name, synthetic=True), store)


# Names


def _find_folder(name: str, store: Store) -> Path | None:
    """Return the folder that `name` is, None if it is a run; raises StoreError if it is neither.

    A run's name or alias has priority over a folder, and a folder over the beginning of a run's
    name.
    """
    path = expand_home(Path(name))
    if RUN_NAME.match(name) or name in store.read_aliases():
        if path.is_dir():
            say(
                f"{name} is read from the store, where it is an alias; give ./{name}/ to read the "
                "folder"
            )
        return None
    if path.is_dir():
        return path
    try:
        store.resolve(name)
    except StoreError as error:
        if path.exists():
            raise StoreError(
                f"'{name}' must be a run, an alias or a folder of images, and it is a file; name "
                "its folder"
            ) from None
        raise StoreError(f"{error}. There is no folder of this name either") from None
    return None


def _refuse_twice(named_sides: Sequence[NamedSide], store: Store) -> None:
    paths = [
        named.folder.resolve() if named.folder else store.resolve(named.name)
        for named in named_sides
    ]
    for number, path in enumerate(paths):
        for earlier, other_path in enumerate(paths[:number]):
            first, second = named_sides[earlier], named_sides[number]
            names = f"{first.name} ({first.side}) and {second.name} ({second.side})"

            # One set on two sides, or one folder inside another
            if path == other_path:
                raise UsageError(
                    f"each side must be a set of its own, and {names} are the same; name another"
                )
            if (
                isinstance(path, Path)
                and isinstance(other_path, Path)
                and (path in other_path.parents or other_path in path.parents)
            ):
                raise UsageError(
                    f"each side must be a folder of its own, and of {names} one is in the other"
                )


# Reading


def _choose_reader(folder: Path, options: Mapping[str, Any]) -> str:
    if any(name in options for name in PATTERN_OPTIONS):
        return "folder"
    readers = find_fitting_readers(folder)
    if len(readers) > 1:
        raise DataError(
            f"{folder} could be read by {len(readers)} readers: {', '.join(readers)}; read it with "
            f"`mien ingest READER {folder} --as NAME`, and name that"
        )
    return next(iter(readers), "folder")


def _find_stored_form(stored: Sequence[Run]) -> dict[str, Any]:
    """Return the size and colour of the stored sets, in which folders are read."""
    for run in stored:
        faces = Faces.load(run.path)
        channels, height, _ = faces.size
        if faces.channels or channels not in (1, 3):
            raise DataError(
                f"a folder is read as pictures, and {run.name} shows {', '.join(faces.shown)}; "
                "name the set that it was made from"
            )
        return {"size": height, "colour": "grey" if channels == 1 else "rgb"}
    return {}


def _name_datasets(folders: Mapping[Side, Path]) -> dict[Side, str]:
    """Return the name of each folder's dataset: the folder's, with the side if two are equal."""
    names = {side: make_dataset_name(folder.resolve().name) for side, folder in folders.items()}
    alike = len(set(names.values())) < len(names)
    return {
        side: f"{name[: 39 - len(side)]}-{side}" if alike else name for side, name in names.items()
    }


def _find_common_dataset(runs: Sequence[Run]) -> str:
    """Return the dataset that the names of people on all sides belong to; empty if none."""
    datasets = set(Faces.load(runs[0].path).index["dataset"]) if len(runs) > 1 else set()
    return next(iter(datasets)) if len(datasets) == 1 else ""


def _make_folder_run(spec: FolderSpec, store: Store) -> Run:
    def build(out: Path, scratch: Path) -> RunSummary:
        faces = Faces.load(store.run(spec.faces).path)
        columns: dict[str, Any] = {}
        for column in ("subject", "clip"):
            names = [name.partition(":")[2] for name in faces.index[column]]
            full_names = [
                "" if spec.synthetic or not name else f"{spec.people_of}:{name}" for name in names
            ]
            columns[column] = pd.Series(full_names, dtype="str")
        if spec.synthetic:
            columns["source"] = pd.Series([UNKNOWN_SOURCE] * len(faces), dtype="str")
        changed = replace(faces, index=faces.index.assign(**columns))
        changed.save(out)
        counts = changed.count_images().to_dict("records")
        kind = "synthetic images of an unknown generator" if spec.synthetic else "images"
        return {"holds": f"{len(changed):,} {kind}", "counts": counts}

    return store.make(spec, build)
