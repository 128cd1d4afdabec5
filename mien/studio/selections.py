"""Selections: which images a page shows, in which order; exports."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from mien.errors import UsageError
from mien.export.album import write_album
from mien.faces import EMOTIONS
from mien.pages import escape
from mien.prepare.preprocess import keep_arrays
from mien.runs.progress import quantify
from mien.runs.store import Run, Store
from mien.studio.sets import FaceSet, ImageTables

KEPT_ORDER = "position"

POSITIONS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")  # 9, or 3-7

LISTED_COLUMNS = ("key", "emotion", "subject", "clip", "frame", "phase", "source", "licence")


@dataclass(frozen=True)
class ImageQuery:
    """What a gallery shows: the filters, the column that sorts, and the direction.

    An empty filter passes all images. Several filters pass the images that pass each of them.
    `only` names positions of one set, as RUN:3-7,9.
    """

    emotion: str = ""
    subject: str = ""
    clip: str = ""
    phase: str = ""
    flag: str = ""
    split: str = ""
    tag: str = ""
    key: str = ""
    only: str = ""
    sort: str = KEPT_ORDER
    descending: bool = False

    def encode(self, **changes: object) -> str:
        """Return the query as the end of an address, with some values changed."""
        fields = {
            **{name: value for name, value in vars(self).items() if value not in ("", False)},
            **changes,
        }
        if fields.get("sort") == KEPT_ORDER:
            del fields["sort"]
        if "descending" in fields:
            fields["descending"] = "1"
        return urlencode({name: str(value) for name, value in fields.items() if value != ""})


@dataclass(frozen=True)
class FoundImages:
    """The positions of the images that a query finds, in their order, and what sorted them."""

    positions: Int[np.ndarray, " k"]
    values: np.ndarray | None = field(default=None)


def find_images(
    face_set: FaceSet, tables: ImageTables, tags: Mapping[str, Sequence[str]], query: ImageQuery
) -> FoundImages:
    """Return the images of a set that a query finds.

    Images without a value of the column that sorts come last, in both directions. Raises UsageError
    for a flag, a split, a tag or a column that the set does not have.
    """
    # The filters
    passes = np.ones(len(face_set), dtype=bool)
    columns = face_set.columns
    for name in ("emotion", "subject", "clip", "phase"):
        if value := getattr(query, name):
            passes &= columns[name] == value
    if query.flag:
        passes &= _look_up(tables.flags, query.flag, "flag")
    if query.split:
        passes &= _look_up(tables.splits, query.split, "split")
    if query.tag:
        passes &= np.isin(columns["key"], list(_look_up(tags, query.tag, "tag")))
    if query.only:
        passes &= _find_named(query.only, face_set)
    if query.key:
        text = query.key.lower()
        passes &= np.array([text in key.lower() for key in columns["key"]], dtype=bool)
    positions = np.flatnonzero(passes)

    # The order: numbers by value, classes by their own order
    if query.sort == KEPT_ORDER:
        return FoundImages(positions[::-1] if query.descending else positions)
    if query.sort == "emotion":
        values = np.array([EMOTIONS.index(name) for name in columns["emotion"][positions]])
    elif query.sort in ("subject", "clip", "key"):
        values = columns[query.sort][positions]
        order = np.argsort(values.astype(str), kind="stable")
        return FoundImages(positions[order[::-1] if query.descending else order])
    else:
        values = _look_up(tables.numbers, query.sort, "column")[positions]
    keys = -values if query.descending else values
    order = np.argsort(keys, kind="stable")  # NaN comes last
    shown = None if query.sort == "emotion" else values[order]
    return FoundImages(positions[order], shown)


def _find_named(only: str, face_set: FaceSet) -> Bool[np.ndarray, " n"]:
    """Return which images `only` names, as RUN:3-7,9; all if they are of another set.

    Raises UsageError for anything else, and for positions that the set does not have.
    """
    run, _, text = only.partition(":")
    named = np.zeros(len(face_set), dtype=bool)
    if run != face_set.name:
        return ~named
    for part in text.split(","):
        if not (match := POSITIONS.fullmatch(part)):
            raise UsageError(
                f"only must be positions, such as {face_set.name}:3-7,9; given: '{part[:40]}'"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < len(face_set):
            raise UsageError(
                f"only must be positions from 0 to {len(face_set) - 1:,}; given: '{part}'"
            )
        named[first : last + 1] = True
    return named


def _look_up(known: Mapping[str, object], name: str, noun: str) -> np.ndarray:
    """Return what has a name; raises UsageError, with the known names, if nothing has it."""
    if name not in known:
        names = ", ".join(known) or "none"
        raise UsageError(f"this set has no {noun} '{name}'; it has: {names}")
    return np.asarray(known[name])


# Where selected images go


def make_list(face_set: FaceSet, tables: ImageTables, positions: Int[np.ndarray, " k"]) -> str:
    """Return selected images as CSV: their keys, labels and sources, and all their numbers."""
    rows = pd.DataFrame({name: face_set.columns[name][positions] for name in LISTED_COLUMNS})
    for columns in (tables.numbers, tables.flags, tables.texts):
        for name, values in columns.items():
            rows[name] = values[positions]
    return escape.format_csv(rows)


def keep_selection(
    face_set: FaceSet, positions: Int[np.ndarray, " k"], alias: str, store: Store
) -> Run:
    """Return selected images as a run of the store, under an alias if it is not empty.

    The images keep their keys, sources and licences, and what their generators have seen.
    """
    run = keep_arrays(face_set.faces.select(np.sort(positions)), store)
    if alias:
        store.set_alias(alias, run.name, silent=True)
    return run


def export_selection(
    face_set: FaceSet, positions: Int[np.ndarray, " k"], folder: str, store: Store
) -> str:
    """Write selected images to a new folder, as `mien export` does; return what was written.

    Raises UsageError for real faces, which leave the store only by `mien export --real`, and for a
    folder that is not empty.
    """
    if not folder.strip():
        raise UsageError("a folder must have a name; give a path that does not exist yet")
    if face_set.is_real[positions].any():
        raise UsageError(
            "real faces leave the store only by the command `mien export RUN FOLDER --real`; keep "
            "the selection as a new run, and export that"
        )
    run = keep_selection(face_set, positions, "", store)
    written = write_album(run, store, Path(folder))
    count = quantify(sum(written.counts.values()), "picture")
    kept = f"; {quantify(written.kept_back, 'copy', 'copies')} of training faces stay in the store"
    return f"{count} in {written.folder}{kept if written.kept_back else ''}"


def choose_positions(face_set: FaceSet, given: Sequence[int]) -> Int[np.ndarray, " k"]:
    """Return given positions without repetition; raises UsageError if one is not in the set."""
    positions = np.array(list(dict.fromkeys(given)), dtype=np.int64)
    if not len(positions) or positions.min() < 0 or positions.max() >= len(face_set):
        raise UsageError(f"select one or more of the {len(face_set):,} images of this set first")
    return positions


def require_known_query(
    query: ImageQuery, tables: ImageTables, tags: Mapping[str, object]
) -> ImageQuery:
    """Return a query without the filters and the order that a set does not have."""
    changes: dict[str, str] = {}
    for name, known in (("flag", tables.flags), ("split", tables.splits), ("tag", tags)):
        if getattr(query, name) not in ("", *known):
            changes[name] = ""
    if query.sort not in (KEPT_ORDER, "emotion", "subject", "clip", "key", *tables.numbers):
        changes["sort"] = KEPT_ORDER
    return replace(query, **changes)
