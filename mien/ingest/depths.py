"""Pictures of more than 8 bits in a listing: what is white in each, decided for the whole set, and
what is told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mien import pictures
from mien.errors import DataError
from mien.ingest import WHOLE, Finding, Listing, makers, some
from mien.pictures import FULL, Depth

TABLES = frozenset(
    {".parquet", ".arrow"}
)  # files of encoded pictures; videos and sheets of pixels have 8 bits


def measured(listing: Listing, white: float | None) -> Listing:
    """Return the listing with the column `white`, if any picture has more than 8 bits, and with
    what is to be said.

    `white` is what a user says it is, in pictures whose files do not say it. Pictures that cannot
    be read are left to decoding.
    """
    depths, marked = _looked_at(listing)
    listing = makers.traced(listing, marked)
    if not depths:
        return listing
    found = pictures.whites(list(depths.values()))
    if white is not None:
        pairs = zip(depths.values(), found, strict=True)
        found = [white if each.declared is None else known for each, known in pairs]
    chosen = dict(zip(depths, found, strict=True))
    column = np.array([chosen.get(row, np.nan) for row in range(len(listing.rows))])
    return replace(
        listing,
        rows=listing.rows.assign(white=column),
        findings=(*listing.findings, *_told(listing.names(), depths, chosen, white)),
    )


def _told(
    names: Sequence[str], depths: dict[int, Depth], chosen: dict[int, float], white: float | None
) -> list[Finding]:
    """Return which value is white in how many pictures, and how that is known."""
    groups: dict[tuple[float, bool], list[str]] = {}
    for row, known in chosen.items():
        groups.setdefault((known, depths[row].declared is not None), []).append(names[row])
    guesses = len({known for known, declared in groups if not declared})
    findings = []
    for (known, declared), inside in sorted(groups.items()):
        if declared and known == FULL:
            continue  # nothing had to be found out
        how = "as their files say" if declared else "as --white says"
        guessed = not declared and white is None
        if guessed:
            differ = ", which differ" if guesses > 1 else ""
            how = f"by their highest values{differ}; --white VALUE says otherwise"
        what = f"pictures of more than 8 bits in which {known:,.0f} is white, {how}: {len(inside)}"
        severe = guessed and (known != FULL or guesses > 1)
        findings.append(
            Finding("warning" if severe else "note", "more than 8 bits", some(inside), what)
        )
    turned = [names[row] for row, each in depths.items() if each.inverted]
    if turned:
        what = (
            f"pictures in which 0 is white, as their files say, and that were turned: {len(turned)}"
        )
        findings.append(Finding("note", "zero is white", some(turned), what))
    return findings


def _looked_at(listing: Listing) -> tuple[dict[int, Depth], dict[int, tuple[str, int]]]:
    """Return, by the row's number, what pictures of more than 8 bits tell of their values, and who
    made which.
    """
    depths, marked = dict[int, Depth](), dict[int, tuple[str, int]]()
    for row, picture in _encoded(listing):
        try:
            head = picture[: makers.HEAD] if isinstance(picture, bytes) else _head(picture)
            found = pictures.depth(picture) if pictures.may_be_deep(head) else None
        except (DataError, OSError):
            continue
        if found is not None:
            depths[row] = found
        maker = makers.maker(head)
        if maker is not None:
            marked[row] = maker
    return depths, marked


def _encoded(listing: Listing) -> Iterator[tuple[int, Path | bytes]]:
    """Yield each row's number with its picture's file, or the bytes of one that lies in a table."""
    places = list(listing.rows["place"]) if "place" in listing.rows else [WHOLE] * len(listing.rows)
    inside: dict[Path, list[int]] = {}
    for row, path in enumerate(listing.paths()):
        if places[row] == WHOLE or listing.unpack is None:
            yield row, path
        elif path.suffix.lower() in TABLES:
            inside.setdefault(path, []).append(row)
    for path, rows in inside.items():
        rows.sort(key=lambda row: places[row])
        if listing.unpack is None:
            continue
        try:
            taken = zip(rows, listing.unpack(path, [int(places[row]) for row in rows]), strict=True)
            yield from ((row, picture) for row, picture in taken if isinstance(picture, bytes))
        except (DataError, pa.ArrowException, OSError):
            continue


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(makers.HEAD)
