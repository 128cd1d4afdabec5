"""The command line: one short command a stage, in the order of the pipeline.

Commands parse, call one library function, and print. This is the one package that imports inside
functions, so that `mien --help` starts in a blink.
"""

import errno
import io
import os
import shutil
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

import typer

# isort: skip  # the order of `mien --help`
from mien.cli import audits, data, joins, leaks, releases, runs, stages, streams, studies
from mien.cli.base import STORE, app
from mien.errors import MienError, UsageError
from mien.outside import no_room, told, visible

__all__ = [
    "app",
    "audits",
    "data",
    "joins",
    "leaks",
    "main",
    "releases",
    "runs",
    "stages",
    "studies",
]

FAULT, USAGE, INTERRUPTED = MienError.exit_code, UsageError.exit_code, 130
LONGEST = 4000  # characters of a message
NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "std::bad_alloc",
)


def main() -> None:
    """Run the command line; an error is one message on stderr and an exit code.

    The codes are those of `mien.cli.base.CODES`.
    """
    streams.open_closed()
    with streams.guarded():
        code = _code()
        if code == INTERRUPTED:
            print(
                "mien: stopped; the same command goes on from the last checkpoint", file=sys.stderr
            )
        if fault := streams.fault():
            _complain(fault)
            code = code or USAGE
        sys.stderr.flush()
    sys.exit(code)


def _code() -> int:
    """Run the command, say what went wrong, and return the exit code."""
    try:
        return app(standalone_mode=False) or 0
    except typer.TyperException as error:
        shown = io.StringIO()
        show = getattr(error, "show", None)  # prints the usage line too
        show(file=shown) if show else print(f"Error: {error.message}", file=shown)
        print(shown.getvalue(), file=sys.stderr, end="")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("MIEN_DEBUG"):
            print("".join(traceback.format_exception(error)), file=sys.stderr, end="")
        text, code = _explained(error)
        _complain(text)
        return code


def _explained(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if isinstance(error, MienError):
        return str(error), error.exit_code
    if no_room(error):
        return told(error if isinstance(error, OSError) else OSError(str(error)), _fullest()), USAGE
    if isinstance(error, OSError):
        return told(error), USAGE
    name, reason = type(error).__name__, str(error).strip().partition("\n")[0]
    if (
        isinstance(error, MemoryError)
        or "OutOfMemory" in name
        or any(text in str(error) for text in NO_MEMORY)
    ):
        how = (
            "close other programs, give fewer --workers, or smaller images or batches (train: "
            "--memory)"
        )
        return f"there is not enough memory ({reason or name}); {how}", USAGE
    if isinstance(error, RuntimeError) and "Symlink loop" in str(
        error
    ):  # how Python below 3.13 says ELOOP
        return told(
            OSError(
                errno.ELOOP, os.strerror(errno.ELOOP), str(error).partition("from ")[2].strip("'")
            )
        ), USAGE
    if isinstance(error, RecursionError):
        return "something that was given is nested too deeply to be read; make it flatter", USAGE
    return (
        f"a fault in mien itself: {name}{f': {reason}' if reason else ''}. Please report it with "
        "the command and what "
        "`mien --traceback COMMAND ...` prints",
        FAULT,
    )


def _complain(text: str) -> None:
    """Print an error on stderr; what was given may be endless, and is not repeated at length."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    print(visible(f"mien: {shown}"), file=sys.stderr)


def _fullest() -> str:
    """Return the path, of those that the command may write to, whose disk has the least room."""
    rooms: dict[str, int] = {}
    places = [Path(os.environ.get("MIEN_STORE") or STORE), Path.cwd(), Path(tempfile.gettempdir())]
    for place in [*places, *(Path(text.rpartition("=")[2]) for text in sys.argv[1:])]:
        with suppress(OSError, ValueError, RuntimeError):
            path = place.expanduser().absolute()
            there = next(folder for folder in (path, *path.parents) if folder.exists())
            rooms.setdefault(str(path), shutil.disk_usage(there).free)
    return min(rooms, key=lambda path: rooms[path], default="")
