"""Stopping: long work checks for a request to stop, and saves its state first."""

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
    """Ask the work of this process to save its state, and to end by raising `reason`."""
    _reasons.append(reason)


def withdraw_stop(reason: BaseException) -> None:
    """Withdraw a request to stop, if it was made."""
    _reasons[:] = [other for other in _reasons if other is not reason]


def stop_requested() -> bool:
    """Whether the work of this process was asked to stop."""
    return bool(_reasons)


def raise_if_asked() -> None:
    """Raise the reason to stop, if there is one; callers have saved their state before."""
    if _reasons:
        raise _reasons[0]


@contextmanager
def defer_signals(deferred: bool = True) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into requests to stop in this context; the second one stops at once.

    Signals that this process ignores, as a background process may, stay ignored.
    """
    # Only the main thread may set handlers, and only the outermost context does
    main = threading.current_thread() is threading.main_thread()
    if not (deferred and main) or any(
        signal.getsignal(number) is _handle_signal for number in DEFERRED_SIGNALS
    ):
        yield
        return

    # Defer the signals that have their default handlers
    before = {number: signal.getsignal(number) for number in DEFERRED_SIGNALS}
    for number in DEFERRED_SIGNALS:
        if before[number] in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handle_signal)

    # Do the work, and restore the handlers
    try:
        yield
        raise_if_asked()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _reasons[:] = [reason for reason in _reasons if not isinstance(reason, KeyboardInterrupt)]


def _handle_signal(number: int, frame: Any) -> None:
    if any(isinstance(reason, KeyboardInterrupt) for reason in _reasons):
        raise KeyboardInterrupt
    request_stop(KeyboardInterrupt())
    os.write(2, b"stopping as soon as what is done so far is kept; once more stops at once\n")
