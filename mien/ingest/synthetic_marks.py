"""Synthetic pictures in a listing, known by their mark or their release."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from mien.findings import Finding, list_some
from mien.ingest.reader import Listing
from mien.runs.spec import RUN_NAME

UNKNOWN_GENERATOR = "a generator that is not known"

MARK_SEARCH_BYTES = 8192  # a mark is searched in so many bytes at the beginning of a picture

MAX_FOLDERS_ABOVE = 5  # a release is searched in so many folders above the one that is read

_MARK = re.compile(rb"tEXtmien\0(\{[^\0]{0,2000}?\})")

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


def _find_release(path: Path, root: Path) -> tuple[str, int] | None:
    """Return the run of the release that holds a file, at or below `root` or up to ABOVE
    folders above it.
    """
    inside = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    for folder in list(path.parents)[: len(inside) + 1 + MAX_FOLDERS_ABOVE]:
        run = _read_release_run(folder)
        if run:
            return run, -1
    return None


@cache
def _read_release_run(folder: Path) -> str:
    """Return the run that the release in this folder contains; empty if it is not a release."""
    for name in ("provenance/release.json", "release.json"):
        path = folder / name
        try:
            release = json.loads(path.read_bytes()[:4_000_000]) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            continue
        if (
            isinstance(release, dict)
            and isinstance(release.get("run"), str)
            and "mien" in release
            and "generators" in release
        ):
            return release["run"] if RUN_NAME.match(release["run"]) else UNKNOWN_GENERATOR
    return ""
