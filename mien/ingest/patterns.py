"""Regular expressions of users: a search ends soon, or with a clear message."""

import time
from collections.abc import Sequence

import regex

from mien.errors import DataError

MAX_PATTERN_CHARS = 1_000  # most characters of a pattern

SEARCH_SECONDS = 1.0  # most seconds for one search

ALL_SEARCHES_SECONDS = 5.0  # most seconds for all searches of a set, plus one millisecond per text

PatternMatch = regex.Match[str]


def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Return a user's pattern, compiled; raises ValueError with the reason if it is invalid."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(
            f"must have {MAX_PATTERN_CHARS:,} characters or fewer, and has {len(pattern):,}"
        )
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError) as error:
        raise ValueError(f"must be a regular expression, and is not: {error}") from None
    except (RecursionError, OverflowError, MemoryError):
        raise ValueError(
            "must be a regular expression of ordinary size: it nests or repeats too much"
        ) from None


def search_all(pattern: str, texts: Sequence[str], noun: str) -> list[PatternMatch | None]:
    """Return the first match in each text of a pattern that `compile_pattern` accepts, or None.

    Raises DataError, in which `noun` names the pattern, if the search takes too long.
    """
    search = compile_pattern(pattern).search
    deadline = time.monotonic() + ALL_SEARCHES_SECONDS + 0.001 * len(texts)
    matches: list[PatternMatch | None] = []
    for text in texts:
        try:
            matches.append(search(text, timeout=SEARCH_SECONDS))
        except (TimeoutError, RecursionError, MemoryError):
            raise _make_slow_error(pattern, text, noun) from None
        if time.monotonic() > deadline:
            raise _make_slow_error(pattern, text, noun)
    return matches


def _make_slow_error(pattern: str, text: str, noun: str) -> DataError:
    return DataError(
        f"{noun} must be searched quickly, and '{pattern[:100]}' takes too long on "
        f"'{text[-100:]}': it repeats a repetition, as (a+)+ does; write it with one repetition, "
        "such as (a+)"
    )
