"""Stopping: long work looks for a request to end, and first keeps what it has."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C, and what batch systems send before they kill
DEFERRED_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_reasons: list[BaseException] = []


def request_stop(reason: BaseException) -> None:
    """Ask the work of this process to keep what it has, and to end with `reason`."""
    _reasons.append(reason)


def withdraw_stop(reason: BaseException) -> None:
    """Take back what was asked, if it was."""
    _reasons[:] = [each for each in _reasons if each is not reason]


def stop_requested() -> bool:
    """Whether the work of this process is to end."""
    return bool(_reasons)


def raise_if_asked() -> None:
    """Raise the reason to end, if there is one: to be called when all is kept."""
    if _reasons:
        raise _reasons[0]


@contextmanager
def signals_deferred(wanted: bool = True) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait inside until the work has kept what it has; the second one ends
    it at once.

    Signals that this process ignores, as one in the background may, stay ignored.
    """
    main = threading.current_thread() is threading.main_thread()
    if not (wanted and main) or any(
        signal.getsignal(number) is _on_signal for number in DEFERRED_SIGNALS
    ):
        yield
        return
    before = {number: signal.getsignal(number) for number in DEFERRED_SIGNALS}
    for number in DEFERRED_SIGNALS:
        if before[number] in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _on_signal)
    try:
        yield
        raise_if_asked()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _reasons[:] = [each for each in _reasons if not isinstance(each, KeyboardInterrupt)]


def _on_signal(number: int, frame: Any) -> None:
    if any(isinstance(each, KeyboardInterrupt) for each in _reasons):
        raise KeyboardInterrupt
    request_stop(KeyboardInterrupt())
    os.write(2, b"stopping as soon as what is done so far is kept; once more stops at once\n")
