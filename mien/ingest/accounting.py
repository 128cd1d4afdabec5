"""Accounting: every picture and row is kept, or left out for a stated reason.

A reader's findings name the pictures and rows that it leaves out (`Finding.pictures`,
`Finding.rows`), and its listing names the rows that it has read. This module counts the files on
the disk itself: a picture that is neither kept nor named is reported as a fault of the reader.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from mien.faces import Faces
from mien.findings import Finding, find_consecutive_runs, list_some
from mien.ingest.folders import escape_unprintable, is_picture, iterate_files
from mien.ingest.reader import Listing, Reader
from mien.pages.escape import write_csv
from mien.runs.progress import say

NO_REASON = "no reason given"

OUTSIDE_TREE = "outside the folder that was read"

PICTURES_LEFT_OUT = "its pictures were left out"

LEFT_OUT_FILE = "left_out.csv"

MIN_RANGE_LENGTH = 3  # so many consecutive numbers, or more, become a range


@dataclass(frozen=True)
class Ledger:
    """The account of all things of one kind: how many were kept, and why each other one was not."""

    noun: str  # pictures, rows, videos, other files
    kept: int
    left_out: Mapping[str, str]  # the name of each thing that was left out -> the reason

    @property
    def total(self) -> int:
        """Return the number of all things of this kind."""
        return self.kept + len(self.left_out)

    def count_reasons(self) -> dict[str, int]:
        """Return how many were left out for each reason, the most frequent first."""
        counts = Counter(self.left_out.values())
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def check_listing(listing: Listing, root: Path, about: Reader) -> Listing:
    """Return the listing with all pictures below `root`, and findings about those that its
    reader does not mention.
    """
    # List the pictures on the disk, whatever the reader lists.
    root = root.resolve()
    disk = tuple(
        escape_unprintable(path)
        for path, entry in iterate_files(root, "")
        if is_picture(path, entry, about.holders)
    )
    tree = listing.root.resolve()
    at = tree.relative_to(root).as_posix() if tree.is_relative_to(root) else "."
    complete = replace(listing, picture_files=disk, root_in_folder=at)

    # Report those without a reason (a fault of the reader), and those in other folders.
    findings = list(listing.findings)
    for ledger in settle(complete, about, None, findings):
        unnamed = f"{ledger.noun} passed over without a reason, which is a fault of the reader"
        elsewhere = f"{ledger.noun} in other folders than the one that was read, left out"
        for reason, message in ((NO_REASON, unnamed), (OUTSIDE_TREE, elsewhere)):
            names = [name for name, why in ledger.left_out.items() if why == reason]
            if names:
                severity = "warning" if reason == NO_REASON else "note"
                message = f"{message}: {len(names):,}"
                findings.append(Finding(severity, reason, list_some(names), message))
    return replace(complete, findings=tuple(findings))


def settle(
    listing: Listing, about: Reader, keys: Collection[str] | None, findings: Sequence[Finding]
) -> tuple[Ledger, ...]:
    """Return the accounts of pictures, videos, rows and other files, without kinds of which there
    are none.

    `keys` are those of the images that became Faces, without the dataset's name; None: all of the
    listing's.
    """
    # What was kept, and the first reason for each picture that was left out.
    stays = [keys is None or key in keys for key in listing.rows["key"]]
    kept_names = {
        _join_tree_path(listing.root_in_folder, name)
        for name, in_result in zip(listing.list_names(), stays, strict=True)
        if in_result
    }
    left: dict[str, str] = {}
    for finding in findings:
        for picture in finding.pictures:
            left.setdefault(_join_tree_path(listing.root_in_folder, picture), finding.kind)

    # A file that holds many pictures counts by its pictures; a video that was not opened, as one.
    held = {
        _join_tree_path(listing.root_in_folder, path): positions
        for path, positions in listing.picture_positions.items()
    }
    inside = [f"{path}#{position}" for path, positions in held.items() for position in positions]
    files = [name for name in listing.picture_files if name not in held]
    pictures = [name for name in files if not _has_suffix(name, about.holders)]
    videos = [name for name in files if _has_suffix(name, about.holders)]
    opened = sum(_has_suffix(name, about.holders) for name in held)

    given_names = set(listing.rows["key"][stays]) | set(listing.rows["clip"][stays])
    other_reasons = {
        _join_tree_path(listing.root_in_folder, name): finding.kind
        for finding in findings
        for name in finding.files
    }
    ledgers = (
        _settle_files("pictures", [*pictures, *inside], kept_names, left, listing.root_in_folder),
        replace(
            _settle_files("videos", videos, kept_names, left, listing.root_in_folder), kept=opened
        ),
        _settle_rows(listing, given_names, findings),
        Ledger("other files", 0, other_reasons),
    )
    return tuple(ledger for ledger in ledgers if ledger.total)


def close(
    listing: Listing,
    about: Reader,
    faces: Faces,
    findings: Sequence[Finding],
    out: Path | None = None,
) -> tuple[Ledger, ...]:
    """Return the final accounts of all pictures and rows, and write left_out.csv into `out`.

    A warning is printed about those that were left out without a reason.
    """
    keys = {key.split("/", 1)[1] for key in faces.index["key"]}
    ledgers = settle(listing, about, keys, findings)
    if out is not None:
        write_csv(make_left_out_table(ledgers, listing), out / LEFT_OUT_FILE)
    for ledger in ledgers:
        unexplained = [name for name, reason in ledger.left_out.items() if reason == NO_REASON]
        if unexplained:
            say(
                f"warning: {ledger.noun} left out for no reason that the reader gives: "
                f"{list_some(unexplained)}"
            )
    return ledgers


def report_faceless(listing: Listing, with_faces: Listing) -> list[Finding]:
    """Return a finding about the images of `listing` that are not in `with_faces`, because no face
    was found in them.
    """
    names = sorted(set(listing.list_names()) - set(with_faces.list_names()))
    if not names:
        return []
    message = f"images in which no face was found, left out: {len(names)}; misses.csv lists them"
    return [Finding("warning", "no face found", list_some(names), message, pictures=tuple(names))]


def summarise_ledgers(ledgers: Sequence[Ledger]) -> dict[str, Any]:
    """Return the accounts in the form of summary.json."""
    return {
        ledger.noun: {
            "found": ledger.total,
            "kept": ledger.kept,
            "left out": ledger.count_reasons(),
        }
        for ledger in ledgers
    }


def make_left_out_table(ledgers: Sequence[Ledger], listing: Listing) -> pd.DataFrame:
    """Return left_out.csv: what, reason, where, count and `of`, the clip or picture that a row is
    about.

    Consecutive numbers in one folder are one line: `sub01/EP02_01f/img[1-45].jpg`, 45.
    """
    lines = []
    for ledger in ledgers:
        by_reason: dict[str, list[str]] = {}
        for name, reason in ledger.left_out.items():
            by_reason.setdefault(reason, []).append(name)
        for reason in sorted(by_reason):
            rows = ledger.noun == "rows"
            parts = (
                [(name, 1) for name in by_reason[reason]]
                if rows
                else compress_names(by_reason[reason])
            )
            lines += [
                (ledger.noun, reason, where, count, listing.annotation_rows.get(where, ""))
                for where, count in parts
            ]
    return pd.DataFrame(lines, columns=["what", "reason", "where", "count", "of"])


def compress_names(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return sorted names, each with the number of names that it stands for: names that differ only
    in a number become a range.
    """
    # Group the names by what surrounds their last number, and by its width if zeros pad it.
    runs: dict[tuple[str, str, int], list[int]] = {}
    ranges: list[tuple[str, int]] = []
    for name in names:
        folder, _, last = name.rpartition("/")
        suffix = "" if "#" in last else PurePosixPath(last).suffix
        match = re.fullmatch(r"(.*?)([0-9]{1,15})([^0-9]*)", last.removesuffix(suffix), re.DOTALL)
        if match is None:
            ranges.append((name, 1))
            continue
        width = len(match[2]) if match[2].startswith("0") and len(match[2]) > 1 else 0
        head = f"{folder}/{match[1]}" if folder else match[1]
        runs.setdefault((head, match[3] + suffix, width), []).append(int(match[2]))

    # Short runs stay single names.
    for (head, tail, width), numbers in runs.items():
        for low, high in find_consecutive_runs(sorted(numbers)):
            if high - low + 1 >= MIN_RANGE_LENGTH:
                ranges.append((f"{head}[{low:0{width}d}-{high:0{width}d}]{tail}", high - low + 1))
            else:
                ranges += [
                    (f"{head}{number:0{width}d}{tail}", 1) for number in range(low, high + 1)
                ]
    return sorted(ranges)


def _settle_files(
    noun: str, names: Sequence[str], kept_names: set[str], left: Mapping[str, str], at: str
) -> Ledger:
    inside = "" if at == "." else f"{at}/"
    reasons = {
        name: left.get(name) or (NO_REASON if name.startswith(inside) else OUTSIDE_TREE)
        for name in sorted(names)
        if name not in kept_names
    }
    return Ledger(noun, len(names) - len(reasons), reasons)


def _settle_rows(listing: Listing, kept_names: set[str], findings: Sequence[Finding]) -> Ledger:
    """Return the account of the rows that were read; a row whose pictures were all left out is left
    out with them.
    """
    reasons: dict[str, str] = {}
    gone: dict[str, str] = {}
    for finding in findings:
        for row in finding.rows:
            reasons.setdefault(row, finding.kind)
        for name in finding.gone:
            gone.setdefault(name, finding.kind)
    left = {}
    for row, gives in listing.annotation_rows.items():
        if row in reasons:
            left[row] = reasons[row]
        elif gives not in kept_names:
            left[row] = gone.get(gives, PICTURES_LEFT_OUT if gives else NO_REASON)
    return Ledger("rows", len(listing.annotation_rows) - len(left), left)


def _has_suffix(name: str, suffixes: Collection[str]) -> bool:
    return PurePosixPath(name).suffix.lower() in suffixes


def _join_tree_path(at: str, name: str) -> str:
    """Return a name of the tree `at` as a name of the folder that was given."""
    return posixpath.normpath(f"{at}/{name}")
