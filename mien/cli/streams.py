"""Standard output and standard error as they may be: closed, full, ASCII only, or read by nobody
any more.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any

from mien.outside import no_room, visible


class Guarded:
    """A stream whose reader may be gone, or whose disk may be full, without a traceback.

    What nobody reads any more, or what finds no room, is dropped, and the work goes on; `fault`
    says why in the end, unless it is only that nobody reads. Control characters become visible, but
    for those of `keep`; rich, whose own have to pass, writes to `terminal` (see mien.progress).
    """

    def __init__(self, stream: Any, keep: str = "\n\t") -> None:
        self._stream, self._keep = stream, keep
        self.terminal, self.fault = _Unfiltered(self), ""

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        return self.pass_on(visible(text, self._keep))

    def pass_on(self, text: str) -> int:
        """Write a text as it is; return its length."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Send what was written so far."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        with suppress(
            OSError, ValueError
        ):  # what is still in the buffer must not fail again at the end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            todo = (
                "make room there, or send it elsewhere" if no_room(error) else "send it elsewhere"
            )
            self.fault = f"standard output must be writable, and is not ({error.strerror}); {todo}"


class _Unfiltered:
    """A guarded stream whose texts are written as they are."""

    def __init__(self, guarded: Guarded) -> None:
        self._guarded, self.write = guarded, guarded.pass_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guarded, name)


def open_closed() -> None:
    """Open what the shell has closed (`>&-`), so that no file of ours gets the number of a standard
    stream.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)


def fault() -> str:
    """Send what standard output holds, and return what kept it from being written, nothing if that
    went well.
    """
    sys.stdout.flush()
    return getattr(sys.stdout, "fault", "")


@contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and standard error inside."""
    before = sys.stdout, sys.stderr
    for name, handle, stream in (("stdout", 1, sys.stdout), ("stderr", 2, sys.stderr)):
        if stream is None:  # closed when Python started
            stream = open(handle, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
        setattr(
            sys, name, Guarded(stream, "\n\t" if handle == 1 else "\n\t\r")
        )  # bars of a download go back to a line
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
