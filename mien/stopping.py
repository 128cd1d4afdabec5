"""Stopping: long work looks now and then whether it is to end, and keeps what it has before it
does.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HEEDED = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what batch systems send before they kill
_reasons: list[BaseException] = []


def ask(reason: BaseException) -> None:
    """Ask the work of this process to keep what it has, and to end with `reason`."""
    _reasons.append(reason)


def withdraw(reason: BaseException) -> None:
    """Take back what was asked, if it was."""
    _reasons[:] = [each for each in _reasons if each is not reason]


def asked() -> bool:
    """Whether the work of this process is to end."""
    return bool(_reasons)


def obey() -> None:
    """Raise the reason to end, if there is one: to be called when all is kept."""
    if _reasons:
        raise _reasons[0]


@contextmanager
def heeded(wanted: bool = True) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait inside until the work has kept what it has; the second one ends
    it at once.

    Signals that this process ignores, as one in the background may, stay ignored.
    """
    main = threading.current_thread() is threading.main_thread()
    if not (wanted and main) or any(signal.getsignal(number) is _note for number in HEEDED):
        yield
        return
    before = {number: signal.getsignal(number) for number in HEEDED}
    for number in HEEDED:
        if before[number] in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _note)
    try:
        yield
        obey()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _reasons[:] = [each for each in _reasons if not isinstance(each, KeyboardInterrupt)]


def _note(number: int, frame: Any) -> None:
    if any(isinstance(each, KeyboardInterrupt) for each in _reasons):
        raise KeyboardInterrupt
    ask(KeyboardInterrupt())
    os.write(2, b"stopping as soon as what is done so far is kept; once more stops at once\n")
