"""Pictures of more than 8 bits: one value is white for the whole set."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mien import pictures
from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest import synthetic_marks
from mien.ingest.reader import TABLE_SUFFIXES, Listing
from mien.pictures import WHITE_OF_16_BITS, ValueRange


def add_white_values(listing: Listing, white: float | None) -> Listing:
    """Return the listing with the column `white`, if any picture has more than 8 bits, and with
    findings about it.

    `white` is the user's value for pictures whose files do not state one. Pictures that cannot be
    read are left to decoding.
    """
    depths, marked = _inspect_pictures(listing)
    listing = synthetic_marks.add_sources(listing, marked)
    if not depths:
        return listing
    whites = pictures.choose_whites(list(depths.values()))
    if white is not None:
        pairs = zip(depths.values(), whites, strict=True)
        whites = [white if depth.declared is None else declared for depth, declared in pairs]
    chosen = dict(zip(depths, whites, strict=True))
    column = np.array([chosen.get(row, np.nan) for row in range(len(listing.rows))])
    return replace(
        listing,
        rows=listing.rows.assign(white=column),
        findings=(*listing.findings, *_report_depths(listing.list_names(), depths, chosen, white)),
    )


def _report_depths(
    names: Sequence[str],
    depths: dict[int, ValueRange],
    chosen: dict[int, float],
    white: float | None,
) -> list[Finding]:
    """Return findings about the value that is white, the number of pictures that have it, and its
    source.
    """
    # Group the pictures by that value, and by whether their files declare it.
    groups: dict[tuple[float, bool], list[str]] = {}
    for row, white_value in chosen.items():
        groups.setdefault((white_value, depths[row].declared is not None), []).append(names[row])
    guesses = len({white_value for white_value, declared in groups if not declared})

    # A guess needs a warning if it is unusual, or if guesses differ.
    findings = []
    for (white_value, declared), inside in sorted(groups.items()):
        if declared and white_value == WHITE_OF_16_BITS:
            continue  # the usual case
        source = "as their files declare" if declared else "as --white sets it"
        guessed = not declared and white is None
        if guessed:
            differ = ", which differ" if guesses > 1 else ""
            source = f"by their highest values{differ}; --white VALUE sets another"
        message = (
            f"pictures of more than 8 bits in which {white_value:,.0f} is white, {source}: "
            f"{len(inside)}"
        )
        severe = guessed and (white_value != WHITE_OF_16_BITS or guesses > 1)
        findings.append(
            Finding("warning" if severe else "note", "more than 8 bits", list_some(inside), message)
        )

    inverted = [names[row] for row, depth in depths.items() if depth.inverted]
    if inverted:
        message = (
            "pictures in which 0 is white, as their files declare, and that were inverted: "
            f"{len(inverted)}"
        )
        findings.append(Finding("note", "zero is white", list_some(inverted), message))
    return findings


def _inspect_pictures(listing: Listing) -> tuple[dict[int, ValueRange], dict[int, tuple[str, int]]]:
    """Return, by row number, the depth of each picture of more than 8 bits, and the run and seed of
    each picture with a mark.
    """
    depths, marked = dict[int, ValueRange](), dict[int, tuple[str, int]]()
    for row, picture in _iterate_encoded(listing):
        try:
            head = (
                picture[: synthetic_marks.MARK_SEARCH_BYTES]
                if isinstance(picture, bytes)
                else _read_head(picture)
            )
            depth = pictures.read_value_range(picture) if pictures.may_be_deep(head) else None
        except (DataError, OSError):
            continue
        if depth is not None:
            depths[row] = depth
        maker = synthetic_marks.read_mark(head)
        if maker is not None:
            marked[row] = maker
    return depths, marked


def _iterate_encoded(listing: Listing) -> Iterator[tuple[int, Path | bytes]]:
    """Yield each row's number with its picture's file, or the bytes of a picture in a table."""
    files, inside = listing.group_by_file()
    paths = listing.list_paths()
    yield from ((row, paths[row]) for row in files)
    for path, rows in inside.items():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            continue  # videos and tables of pixels have 8 bits
        try:
            pairs = listing.extract(path, rows)
            yield from ((row, picture) for row, picture in pairs if isinstance(picture, bytes))
        except (DataError, pa.ArrowException, OSError):
            continue


def _read_head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(synthetic_marks.MARK_SEARCH_BYTES)
