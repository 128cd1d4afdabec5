"""Progress of long work on stderr: a bar on a terminal, else single lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mien.outside import show_controls


class _Terminal:
    """A standard stream, whatever it is when it is written to, as rich needs it.

    The command line lets no control characters through its streams, but for those of rich itself,
    which go by the stream's `terminal`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        stream = getattr(sys, self._name)
        return getattr(getattr(stream, "terminal", stream), attribute)


def make_console(stream: str = "stdout", width: int | None = None) -> Console:
    """Return a console of rich for `stdout` or `stderr` that takes texts as they are: no markup, no
    emoji codes.
    """
    file: Any = _Terminal(stream)
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


CONSOLE = make_console("stderr")

LINE_EVERY_S = 15.0

_muted = [False]  # whether this process prints nothing


class Tracker:
    """What the work in `track` reports to: how much is done, and a short note such as the loss."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = show_controls(label, keep=""), total
        self._began = self._last = time.monotonic()
        self._first: int | None = None
        self._bar: Progress | None = None

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` of `total` is done."""
        now, note = time.monotonic(), show_controls(note, keep="")
        if self._first is None:
            self._first = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, note=note)
        elif now - self._last >= LINE_EVERY_S and not _muted[-1]:
            self._last = now
            rate = (done - self._first) / (now - self._began)
            time_left = f", {format_duration((self.total - done) / rate)} left" if rate > 0 else ""
            print(
                f"{self.label}: {done}/{self.total}{time_left}{'  ' + note if note else ''}",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def track(label: str, total: int) -> Iterator[Tracker]:
    """Show the progress of `total` units of work under `label`."""
    tracker = Tracker(label, total)
    if CONSOLE.is_terminal and not _muted[-1]:
        label_column, note_column = (
            TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}")
        )
        columns = (
            label_column,
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            note_column,
        )
        with Progress(*columns, console=CONSOLE, transient=True) as bar:
            bar.add_task(tracker.label, total=total, note="")
            tracker._bar = bar
            yield tracker
    else:
        yield tracker


def say(text: str) -> None:
    """Print a text for people, with its control characters visible."""
    if not _muted[-1]:
        CONSOLE.print(show_controls(text), soft_wrap=True)


@contextmanager
def mute_progress(muted: bool = True) -> Iterator[None]:
    """Print nothing in this context, if `muted`: another process prints the same."""
    _muted.append(muted)
    try:
        yield
    finally:
        _muted.pop()


def format_duration(seconds: float) -> str:
    """Return a time in words: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{whole_seconds} s"
    if whole_seconds < 3600:
        return f"{whole_seconds // 60} min {whole_seconds % 60} s"
    return f"{whole_seconds // 3600} h {whole_seconds % 3600 // 60} min"


def format_roughly(seconds: float) -> str:
    """Return a time with two digits in the largest unit that fits: `42 s`, `13 min`, `25 days`."""
    for symbol, factor, most in (("s", 1, 99), ("min", 60, 99), ("h", 3600, 72)):
        if seconds <= most * factor:
            return f"{_format_two_digits(seconds / factor)} {symbol}"
    return f"{_format_two_digits(seconds / 86400)} days"


def quantify(number: int, name: str, several: str = "") -> str:
    """Return a number of things: `1 clip`, `2,000 clips`, `3 classes`, `2 copies`; `several` is an
    irregular plural.
    """
    return f"{number:,} {name if number == 1 else several or form_plural(name)}"


def form_plural(name: str) -> str:
    """Return the regular plural of a noun: clips, classes, studies."""
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def _format_two_digits(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 1 or not rounded else "under 1"
