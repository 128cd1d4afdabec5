"""Synthetic pictures in a listing, known by their mark or their release."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.reader import Listing
from mien.runs.spec import RUN_NAME

UNKNOWN_GENERATOR = "a generator that is not known"

MARK_SEARCH_BYTES = 8192  # a mark is searched in so many bytes at the beginning of a picture

MAX_FOLDERS_ABOVE = 5  # a release is searched in so many folders above the one that is read

# the text chunk of a PNG file, or the comment of a JPEG file
_MARK = re.compile(rb"(?:tEXtmien\0|\xff\xfe[\s\S]{2}synthetic, made by mien )(\{[^\0]{0,2000}?\})")

_SYNTHETIC_DECLARATIONS = (
    b"digitalsourcetype/trainedAlgorithmicMedia",
    b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
)


def read_mark(head: bytes) -> tuple[str, int] | None:
    """Return the run and seed in a picture's mark, or None if nothing says that it is synthetic.

    `head` are the picture's first HEAD bytes. A declaration that names no run of mien's gives
    UNKNOWN and -1.
    """
    match = _MARK.search(head)
    if match:
        try:
            mark = json.loads(match[1])
        except (ValueError, RecursionError):
            mark = None
        if (
            isinstance(mark, dict)
            and isinstance(mark.get("run"), str)
            and isinstance(mark.get("seed"), int)
        ):
            return mark["run"] if RUN_NAME.match(mark["run"]) else UNKNOWN_GENERATOR, mark["seed"]
    return (
        (UNKNOWN_GENERATOR, -1) if any(text in head for text in _SYNTHETIC_DECLARATIONS) else None
    )


def add_sources(listing: Listing, marked: Mapping[int, tuple[str, int]]) -> Listing:
    """Return the listing with the columns `source` and `seed`, and a finding, if any
    picture is synthetic.

    `marked` has the run and seed of each row whose picture bears a mark. A picture without a
    mark that is in a release of mien's gets the run of that release.
    """
    origins = [
        marked.get(row) or _find_release(path, listing.root)
        for row, path in enumerate(listing.list_paths())
    ]
    synthetic = [name for name, origin in zip(listing.list_names(), origins, strict=True) if origin]
    if not synthetic:
        return listing
    runs = sorted({origin[0] for origin in origins if origin})
    message = (
        "pictures made by a machine, by their marks or their release, kept as synthetic: "
        f"{len(synthetic):,}, from {list_some(runs)}"
    )
    finding = Finding("warning", "made by a machine", list_some(synthetic), message)
    source = pd.Series([origin[0] if origin else "real" for origin in origins], dtype="str")
    seeds = pd.Series([origin[1] if origin else -1 for origin in origins], dtype="int64")
    rows = listing.rows.reset_index(drop=True).assign(source=source, seed=seeds)
    return replace(listing, rows=rows, findings=(*listing.findings, finding))


def find_release_channels(listing: Listing) -> Listing:
    """Return the listing with the channels that the strips of a release show, if it has any.

    Its release.json then counts as an annotation. Raises DataError if pictures of several releases,
    or other pictures, are next to strips.
    """
    described = {_find_release_file(path, listing.root) for path in listing.list_paths()}
    channels = {() if path is None else _read_release_channels(path) for path in described}
    if channels <= {()}:
        return listing
    if len(described) > 1 or None in described:
        raise DataError(
            f"{listing.root} must have the pictures of one release only, because some of them are "
            "strips of channels, and has others; read the folder of each release by itself"
        )
    (names,) = channels
    annotations = [*listing.annotations, *(path for path in described if path is not None)]
    return replace(listing, channels=names, annotations=tuple(dict.fromkeys(annotations)))


def _find_release(path: Path, root: Path) -> tuple[str, int] | None:
    """Return the run of the release that holds a file, or None if it is in no release."""
    file = _find_release_file(path, root)
    return None if file is None else (_read_release_run(file), -1)


def _find_release_file(path: Path, root: Path) -> Path | None:
    """Return the release.json of the release that holds a file, at or below `root` or up to ABOVE
    folders above it.
    """
    inside = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    for folder in list(path.parents)[: len(inside) + 1 + MAX_FOLDERS_ABOVE]:
        for name in ("provenance/release.json", "release.json"):
            if _read_release_run(folder / name):
                return folder / name
    return None


@cache
def _read_release(path: Path) -> dict[str, Any]:
    """Return what a release.json says; empty if the file is none."""
    try:
        release = json.loads(path.read_bytes()[:4_000_000]) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(release, dict) or not isinstance(release.get("run"), str):
        return {}
    return release if "mien" in release and "content" in release else {}


def _read_release_run(path: Path) -> str:
    """Return the run that the release of a release.json contains; empty if it is none."""
    run = _read_release(path).get("run", "")
    return run if not run or RUN_NAME.match(run) else UNKNOWN_GENERATOR


def _read_release_channels(path: Path) -> tuple[str, ...]:
    """Return the channels that the pictures of a release show; empty for plain pictures."""
    channels = _read_release(path).get("channels", [])
    is_list = isinstance(channels, list) and all(isinstance(name, str) for name in channels)
    return tuple(channels) if is_list else ()
