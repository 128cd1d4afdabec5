"""Findings: what a stage met and reports, and how a message lists names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class Finding:
    """One irregularity in a folder: `kind` in two or three words, `where` relative to
    the folder, `what` in a sentence.

    It names everything that is left out because of it: `pictures` as `Listing.names` calls them,
    `rows` by their names in `Listing.read`, and `files` that are neither. `gone` has clips
    and keys: rows that give them are left out too. The accounts use `kind` as the
    reason; if there are several reasons, the first counts. What another part of the reader keeps is
    not left out.
    """

    severity: Severity
    kind: str
    where: str
    what: str
    pictures: tuple[str, ...] = field(default=(), compare=False, repr=False)
    gone: tuple[str, ...] = field(default=(), compare=False, repr=False)
    rows: tuple[str, ...] = field(default=(), compare=False, repr=False)
    files: tuple[str, ...] = field(default=(), compare=False, repr=False)


def list_some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names, and the number of the others."""
    rest_count = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest_count} more" if rest_count > 0 else "")


def find_consecutive_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last number of each run of consecutive numbers; `numbers` are
    sorted.
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
