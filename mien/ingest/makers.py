"""Pictures that a machine made: known by the mark in the file, or by the release that they lie
in.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from mien.ingest import Finding, Listing, some
from mien.spec import RUN_NAME

UNKNOWN = "a generator that is not known"
HEAD = 8192  # bytes of a picture in which a mark is looked for
ABOVE = 5  # folders above the one that is read, in which a release is looked for
_MARK = re.compile(rb"tEXtmien\0(\{[^\0]{0,2000}?\})")
_DECLARED = (
    b"digitalsourcetype/trainedAlgorithmicMedia",
    b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
)


def maker(head: bytes) -> tuple[str, int] | None:
    """Return the run and seed that a picture's mark names, or None if nothing says that a machine
    made it.
    """
    found = _MARK.search(head)
    if found:
        try:
            mark = json.loads(found[1])
        except (ValueError, RecursionError):
            mark = None
        if (
            isinstance(mark, dict)
            and isinstance(mark.get("run"), str)
            and isinstance(mark.get("seed"), int)
        ):
            return mark["run"] if RUN_NAME.match(mark["run"]) else UNKNOWN, mark["seed"]
    return (UNKNOWN, -1) if any(text in head for text in _DECLARED) else None


def traced(listing: Listing, marked: Mapping[int, tuple[str, int]]) -> Listing:
    """Return the listing with the columns `source` and `seed`, if a machine made any picture, and
    what is to be said.

    `marked` has the run and seed of each row whose picture bears a mark. One without a mark, in a
    folder that is a release of mien's or lies in one, is of the release's run.
    """
    found = [
        marked.get(row) or _released(path, listing.root) for row, path in enumerate(listing.paths())
    ]
    made = [name for name, known in zip(listing.names(), found, strict=True) if known]
    if not made:
        return listing
    runs = sorted({known[0] for known in found if known})
    what = (
        "pictures that a machine made, by their marks or their release, kept as synthetic: "
        f"{len(made):,}, of "
    )
    told = Finding("warning", "made by a machine", some(made), what + some(runs))
    source = pd.Series([known[0] if known else "real" for known in found], dtype="str")
    seeds = pd.Series([known[1] if known else -1 for known in found], dtype="int64")
    rows = listing.rows.reset_index(drop=True).assign(source=source, seed=seeds)
    return replace(listing, rows=rows, findings=(*listing.findings, told))


def _released(path: Path, root: Path) -> tuple[str, int] | None:
    """Return the run of the release that a file lies in, at or below `root` or a few folders above
    it.
    """
    inside = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    for folder in list(path.parents)[: len(inside) + 1 + ABOVE]:
        run = _run_of(folder)
        if run:
            return run, -1
    return None


@cache
def _run_of(folder: Path) -> str:
    """Return the run that the release in this folder hands out; empty if it is none."""
    for name in ("provenance/release.json", "release.json"):
        path = folder / name
        try:
            told = json.loads(path.read_bytes()[:4_000_000]) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            continue
        if (
            isinstance(told, dict)
            and isinstance(told.get("run"), str)
            and "mien" in told
            and "generators" in told
        ):
            return told["run"] if RUN_NAME.match(told["run"]) else UNKNOWN
    return ""
