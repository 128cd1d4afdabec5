"""What a reviewer names: runs of the store, or plain folders, which are read into the store
first.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from mien import ingest
from mien.errors import DataError, StoreError, UsageError
from mien.faces import UNKNOWN, Faces
from mien.outside import expanded
from mien.progress import say
from mien.spec import Spec
from mien.store import RUN_NAME, Run, Store

Side = str  # one of SIDES
SIDES = ("synthetic", "train", "test")
PATTERNS = ("subject_pattern", "clip_pattern")


class FolderSpec(Spec):
    """A folder that was read as one side of an audit.

    Where it is `synthetic`, its images count as generated, by nobody knows what. `people_of` is the
    dataset that its subjects' names belong to: equal names on two sides are one person.
    """

    stage: ClassVar[str] = "folder"
    faces: str
    synthetic: bool = False
    people_of: str = ""


@dataclass(frozen=True)
class Given:
    """A side as a user names it; `folder` is None where the name stands for a run."""

    side: Side
    name: str
    folder: Path | None

    @property
    def label(self) -> str:
        """What to call it: the folder's own name, or the name of the run."""
        return (
            self.name
            if self.folder is None
            else self.folder.resolve().name or str(self.folder.resolve())
        )


@dataclass(frozen=True)
class Reading:
    """How folders are read: patterns by side, class names to fold, and the size, None for the usual
    one.
    """

    subject_pattern: Mapping[Side, str] = field(default_factory=dict)
    clip_pattern: Mapping[Side, str] = field(default_factory=dict)
    map: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None

    @property
    def asked(self) -> list[str]:
        """The options that were given, as the command line calls them."""
        return [
            f"--{name.replace('_', '-')}"
            for name in (*PATTERNS, "map", "size")
            if getattr(self, name)
        ]

    def of(self, side: Side) -> dict[str, Any]:
        """Return the options with which the folder of a side is read."""
        found: dict[str, Any] = {
            name: getattr(self, name)[side] for name in PATTERNS if side in getattr(self, name)
        }
        return (
            found
            | ({"map": dict(self.map)} if self.map else {})
            | ({"size": self.size} if self.size else {})
        )


def reading(
    sides: Iterable[Side],
    subject_pattern: Sequence[str] = (),
    clip_pattern: Sequence[str] = (),
    map: Mapping[str, str] | None = None,
    size: int | None = None,
) -> Reading:
    """Return how the folders of some real `sides` are read.

    A pattern is for all of them, or begins with the one that it is for, such as `train:(s[0-9]+)_`.
    Raises UsageError for another side, or two patterns for one.
    """
    patterns = {name: {} for name in PATTERNS}
    sides = list(sides)
    for name, texts in zip(PATTERNS, (subject_pattern, clip_pattern), strict=True):
        option = "--" + name.replace("_", "-")
        for text in (texts,) if isinstance(texts, str) else texts:
            head, _, rest = text.partition(":")
            if head in SIDES and head not in sides:
                raise UsageError(
                    f"{option} is for {' or '.join(sides)}, whose people are real; given: '{text}'"
                )
            for side in [head] if head in sides else sides:
                if side in patterns[name]:
                    raise UsageError(
                        f"{option} must be given once for a side, and is given twice for {side}; "
                        "write each as "
                        f"{side}:PATTERN"
                    )
                patterns[name][side] = rest if head in sides else text
    return Reading(**patterns, map=map or {}, size=size)


def look(names: Mapping[Side, str], how: Reading, store: Store) -> list[Given]:
    """Return what each side is named as; nothing is read yet, so that a mistake is told before long
    work.

    Raises StoreError for a name that is neither a run nor a folder, UsageError for a set named
    twice, or an option for folders where there is none, DataError for a folder without files.
    """
    found = [Given(side, name, _folder(name, store)) for side, name in names.items()]
    _refuse_twice(found, store)
    folders = [one for one in found if one.folder is not None]
    for one in folders:
        if one.folder is not None and not any(path.is_file() for path in one.folder.rglob("*")):
            raise DataError(
                f"{one.name} must be a folder of images, and holds no file; check the path"
            )
    stored = [one.name for one in found if one.folder is None]
    if how.asked and not folders:
        told = (
            f"{' and '.join(stored)} {'is' if len(stored) == 1 else 'are'} in the store "
            "already; leave it out"
        )
        raise UsageError(f"{', '.join(how.asked)} says how a folder is read, and {told}")
    for one in (one for one in found if one.folder is None):
        for name in PATTERNS:
            if list(getattr(how, name)) == [one.side]:
                told = (
                    f"--{name.replace('_', '-')} says how a folder is read, and {one.name} is "
                    "in the store already"
                )
                raise UsageError(f"{told}; leave it out")
    return found


def read(
    given: Sequence[Given], how: Reading, store: Store, ghosts: Side = "synthetic"
) -> dict[Side, Run]:
    """Return the run of each side; folders are read into the store, and nothing in them is changed.

    The side of `ghosts` shows no people, and nobody misses their names.

    A folder gets the size and colour of the stored sets beside it. A reader for the layout of a
    known dataset is used where there is one and no pattern is given, else that for class folders. A
    synthetic folder counts as generated by nobody knows what, and has no people.

    Raises DataError for a folder that cannot be read, or beside a set of other channels than
    pictures have.
    """
    stored = {one.side: store.run(one.name) for one in given if one.folder is None}
    folders = {one.side: one.folder for one in given if one.folder is not None}
    form = _form([*stored.values()]) if folders else {}
    datasets = _datasets(folders)
    readers = {side: _reader(folder, how.of(side)) for side, folder in folders.items()}
    found: dict[Side, Run] = {}
    for one in given:
        if one.folder is None:
            found[one.side] = stored[one.side]
            continue
        options = {**form, **how.of(one.side)}
        usual = (
            {"no subjects"} if one.side == ghosts else set()
        )  # who is drawn by a generator is nobody
        name = datasets[one.side]
        found[one.side] = ingest.run(
            readers[one.side], one.folder, store, name=name, expected=usual, **options
        )
    return found


def as_sides(given: Sequence[Given], runs: Mapping[Side, Run], store: Store) -> dict[Side, Run]:
    """Return the runs of an audit's sides: synthetic folders as synthetic, real ones with names of
    the same people.
    """
    found = dict(runs)
    real = {one.side: one for one in given if one.side != "synthetic"}
    people = _people(
        [runs[side] for side in sorted(real, key=lambda side: real[side].folder is not None)]
    )
    for one in given:
        if one.folder is None:
            continue
        if one.side == "synthetic":
            found[one.side] = synthetic(runs[one.side], store)
        elif people and set(Faces.load(runs[one.side].path).index["dataset"]) != {people}:
            found[one.side] = _made(FolderSpec(faces=runs[one.side].name, people_of=people), store)
    return found


def synthetic(run: Run, store: Store) -> Run:
    """Return the images of a folder as synthetic ones of an unknown generator, of no person and no
    clip.
    """
    if (Faces.load(run.path).index["source"] != "real").all():
        return run
    say(
        "images of a synthetic folder count as made by an unknown generator; they cannot be "
        "published"
    )
    return _made(FolderSpec(faces=run.name, synthetic=True), store)


# Names


def _folder(name: str, store: Store) -> Path | None:
    """Return the folder that `name` is, nothing if it is a run; raises StoreError if it is neither.

    A run's name or alias goes before a folder, and that before the beginning of a run's name.
    """
    path = expanded(Path(name))
    if RUN_NAME.match(name) or name in store.aliases():
        if path.is_dir():
            say(
                f"{name} is read from the store, where it is an alias; ./{name}/ would be the "
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
                f"'{name}' must be a run, an alias or a folder of images, and is a file; name its "
                "folder"
            ) from None
        raise StoreError(f"{error}. Nor is there a folder of this name") from None
    return None


def _refuse_twice(given: Sequence[Given], store: Store) -> None:
    places = [one.folder.resolve() if one.folder else store.resolve(one.name) for one in given]
    for number, one in enumerate(places):
        for before, other in enumerate(places[:number]):
            names = (
                f"{given[before].name} ({given[before].side}) and {given[number].name} "
                f"({given[number].side})"
            )
            if one == other:
                raise UsageError(
                    f"each side must be a set of its own, and {names} are the same; name another"
                )
            if (
                isinstance(one, Path)
                and isinstance(other, Path)
                and (one in other.parents or other in one.parents)
            ):
                raise UsageError(
                    f"each side must be a folder of its own, and of {names} one lies in the other"
                )


# Reading


def _reader(folder: Path, options: Mapping[str, Any]) -> str:
    if any(name in options for name in PATTERNS):
        return "folder"
    found = ingest.recognise(folder)
    if len(found) > 1:
        raise DataError(
            f"{folder} could be read by {len(found)} readers: {', '.join(found)}; read it with "
            "`mien ingest READER "
            f"{folder} --as NAME`, and name that"
        )
    return next(iter(found), "folder")


def _form(stored: Sequence[Run]) -> dict[str, Any]:
    """Return the size and colour of the stored sets, which folders beside them are read in."""
    for run in stored:
        faces = Faces.load(run.path)
        channels, height, _ = faces.size
        if faces.channels or channels not in (1, 3):
            raise DataError(
                f"a folder is read as pictures, and {run.name} shows {', '.join(faces.shown)}; "
                "name the set that it "
                "was made from"
            )
        return {"size": height, "colour": "grey" if channels == 1 else "rgb"}
    return {}


def _datasets(folders: Mapping[Side, Path]) -> dict[Side, str]:
    """Return what the dataset of each folder is called: its own name, with the side where two are
    called alike.
    """
    names = {side: ingest.slug(folder.resolve().name) for side, folder in folders.items()}
    alike = len(set(names.values())) < len(names)
    return {
        side: f"{name[: 39 - len(side)]}-{side}" if alike else name for side, name in names.items()
    }


def _people(runs: Sequence[Run]) -> str:
    """Return the dataset that the names of people on all sides belong to, nothing if there is no
    one such.
    """
    own = set(Faces.load(runs[0].path).index["dataset"]) if len(runs) > 1 else set()
    return next(iter(own)) if len(own) == 1 else ""


def _made(spec: FolderSpec, store: Store) -> Run:
    def build(out: Path, scratch: Path) -> None:
        faces = Faces.load(store.run(spec.faces).path)
        columns: dict[str, Any] = {}
        for column in ("subject", "clip"):
            names = [name.partition(":")[2] for name in faces.index[column]]
            named = [
                "" if spec.synthetic or not name else f"{spec.people_of}:{name}" for name in names
            ]
            columns[column] = pd.Series(named, dtype="str")
        if spec.synthetic:
            columns["source"] = pd.Series([UNKNOWN] * len(faces), dtype="str")
        found = replace(faces, index=faces.index.assign(**columns))
        found.save(out)
        counts = found.counts().to_dict("records")
        kind = "synthetic images of an unknown generator" if spec.synthetic else "images"
        summary = {"holds": f"{len(found):,} {kind}", "counts": counts}
        (out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")

    return store.make(spec, build)
