"""Regular expressions that users give: whatever they hold, they end soon, with one message if they
cannot be used.
"""

import time
from collections.abc import Sequence

import regex

from mien.errors import DataError

LONGEST = 1_000  # characters of a pattern
EACH_S = 1.0  # seconds of a processor that one search may take
SET_S = 5.0  # seconds that all searches of a set may take, beside a millisecond a text

Match = regex.Match[str]


def compiled(pattern: str) -> regex.Pattern[str]:
    """Return a user's pattern, compiled; raises ValueError, which says what is wrong with it, if
    that cannot be.
    """
    if len(pattern) > LONGEST:
        raise ValueError(f"must have {LONGEST:,} characters or fewer, and has {len(pattern):,}")
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError) as error:
        raise ValueError(f"must be a regular expression, and is not: {error}") from None
    except (RecursionError, OverflowError, MemoryError):
        raise ValueError(
            "must be a regular expression of ordinary size: it nests or repeats too much"
        ) from None


def search_all(pattern: str, texts: Sequence[str], what: str) -> list[Match | None]:
    """Return what a pattern that `compiled` takes finds first in each text, nothing where it finds
    nothing.

    Raises DataError, where `what` names the pattern, if that takes longer than any useful pattern
    does.
    """
    search = compiled(pattern).search
    ends = time.monotonic() + SET_S + 0.001 * len(texts)
    found: list[Match | None] = []
    for text in texts:
        try:
            found.append(search(text, timeout=EACH_S))
        except (TimeoutError, RecursionError, MemoryError):
            raise _endless(pattern, text, what) from None
        if time.monotonic() > ends:
            raise _endless(pattern, text, what)
    return found


def _endless(pattern: str, text: str, what: str) -> DataError:
    return DataError(
        f"{what} must be searched quickly, and '{pattern[:100]}' takes too long on "
        f"'{text[-100:]}': it repeats what "
        "repeats itself, as (a+)+ does; write it with one repetition, such as (a+)"
    )
