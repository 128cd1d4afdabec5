"""Progress of long work on stderr: a bar on a terminal, else single lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

_trackers: list["Tracker"] = []  # the work of this process, the outermost first


@dataclass(frozen=True)
class Reached:
    """How far work has come: `done` of `total` units, a note, and the seconds left, if known."""

    label: str
    done: int
    total: int
    note: str = ""
    seconds_left: float | None = None


class Tracker:
    """What the work in `track` reports to: how much is done, and a short note such as the loss."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = show_controls(label, keep=""), total
        self._began = self._last = time.monotonic()
        self._first: int | None = None
        self._done, self._note = 0, ""
        self._bar: Progress | None = None

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` of `total` is done."""
        now, note = time.monotonic(), show_controls(note, keep="")
        if self._first is None:
            self._first = done
        self._done, self._note = done, note
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, note=note)
        elif now - self._last >= LINE_EVERY_S and not _muted[-1]:
            self._last = now
            seconds = self._estimate_seconds_left()
            time_left = "" if seconds is None else f", {format_duration(seconds)} left"
            print(
                f"{self.label}: {done}/{self.total}{time_left}{'  ' + note if note else ''}",
                file=sys.stderr,
                flush=True,
            )

    def _estimate_seconds_left(self) -> float | None:
        """Return how long the rest takes at the rate so far; None if nothing was done yet."""
        rate = (self._done - (self._first or 0)) / max(time.monotonic() - self._began, 1e-9)
        return (self.total - self._done) / rate if rate > 0 else None

    def read(self) -> Reached:
        """Return how far this work has come."""
        seconds = self._estimate_seconds_left()
        return Reached(self.label, self._done, self.total, self._note, seconds)


def read_progress() -> Reached | None:
    """Return how far the innermost work of this process has come, None if it reports to nobody."""
    return _trackers[-1].read() if _trackers else None


@contextmanager
def track(label: str, total: int) -> Iterator[Tracker]:
    """Show the progress of `total` units of work under `label`."""
    tracker = Tracker(label, total)
    _trackers.append(tracker)
    try:
        with _show_bar(tracker):
            yield tracker
    finally:
        _trackers.remove(tracker)


@contextmanager
def _show_bar(tracker: Tracker) -> Iterator[None]:
    """Show a bar for a tracker in this context, if there is a terminal."""
    if not CONSOLE.is_terminal or _muted[-1]:
        yield
        return
    label_column, note_column = (
        TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}")
    )
    columns = (label_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note_column)
    with Progress(*columns, console=CONSOLE, transient=True) as bar:
        bar.add_task(tracker.label, total=tracker.total, note="")
        tracker._bar = bar
        yield


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
