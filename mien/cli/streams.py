"""Standard output that is closed, on a full disk, ASCII only, or not read."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any

from mien.outside import is_disk_full, show_controls


class GuardedStream:
    """A stream whose reader may have closed it, or whose disk may be full, without a traceback.

    Output that cannot be written is dropped, and the work goes on; `flush_fault` holds the reason,
    except for a closed pipe. Control characters are made visible, except those in
    `keep`; rich writes to `terminal`, which lets its own pass (see mien.runs.progress).
    """

    def __init__(self, stream: Any, keep: str = "\n\t") -> None:
        self._stream, self._keep = stream, keep
        self.terminal, self.fault = _UnfilteredStream(self), ""

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        return self.forward(show_controls(text, self._keep))

    def forward(self, text: str) -> int:
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
        # Otherwise the text still in the buffer would fail again at exit.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            todo = (
                "free some space, or redirect the output"
                if is_disk_full(error)
                else "redirect the output"
            )
            self.fault = f"standard output must be writable, and is not ({error.strerror}); {todo}"


class _UnfilteredStream:
    """A guarded stream that writes texts as they are."""

    def __init__(self, guarded: GuardedStream) -> None:
        self._guarded, self.write = guarded, guarded.forward

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guarded, name)


def reopen_closed_streams() -> None:
    """Open the standard streams that the shell has closed (`>&-`), on the null device.

    Otherwise a file opened later would get the number of a standard stream.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)


def flush_fault() -> str:
    """Flush standard output, and return why it could not be written; empty if it could."""
    sys.stdout.flush()
    return getattr(sys.stdout, "fault", "")


@contextmanager
def guard_streams() -> Iterator[None]:
    """Guard standard output and standard error in this context."""
    before = sys.stdout, sys.stderr
    for name, handle, stream in (("stdout", 1, sys.stdout), ("stderr", 2, sys.stderr)):
        if stream is None:  # closed when Python started
            stream = open(handle, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
        # Progress bars of downloads, on standard error, need the carriage return.
        setattr(sys, name, GuardedStream(stream, "\n\t" if handle == 1 else "\n\t\r"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
