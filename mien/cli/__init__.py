"""The command line: one short command per stage, in the order of the pipeline.

Each command parses its options, calls one library function, and prints. This is the only package
that imports inside functions, so that `mien --help` starts at once.
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

from mien.cli import (
    advice,
    audits,
    data,
    doctor,
    joins,
    leaks,
    releases,
    runs,
    stages,
    streams,
    studies,
    studio,
)
from mien.cli.base import DEFAULT_STORE, app
from mien.errors import MienError, UsageError
from mien.outside import describe_system_error, is_disk_full, show_controls

__all__ = [
    "advice",
    "app",
    "audits",
    "data",
    "doctor",
    "joins",
    "leaks",
    "main",
    "releases",
    "runs",
    "stages",
    "studies",
    "studio",
]

FAULT, USAGE, INTERRUPTED = MienError.exit_code, UsageError.exit_code, 130

MESSAGE_CHARACTERS = 4000  # characters of a message

OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "std::bad_alloc",
)


def main() -> None:
    """Run the command line; an error is one message on stderr and an exit code.

    The codes are those of `mien.cli.base.CODES`.
    """
    streams.reopen_closed_streams()
    with streams.guard_streams():
        code = _run_command()
        if code == INTERRUPTED:
            print(
                "mien: stopped; run the same command again to resume from the last checkpoint",
                file=sys.stderr,
            )
            # If the interrupt passed through exec of a text, as libraries do while they are
            # imported, Python would end with the signal and not with the code, until another exec
            # of a text ends well.
            exec("")
        if fault := streams.flush_fault():
            _print_error(fault)
            code = code or USAGE
        sys.stderr.flush()
    sys.exit(code)


def _run_command() -> int:
    """Run the command, print what went wrong, and return the exit code."""
    try:
        return app(standalone_mode=False) or 0
    except typer.TyperException as error:
        text = io.StringIO()
        show = getattr(error, "show", None)  # prints the usage line too
        show(file=text) if show else print(f"Error: {error.message}", file=text)
        print(text.getvalue(), file=sys.stderr, end="")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("MIEN_DEBUG"):
            print("".join(traceback.format_exception(error)), file=sys.stderr, end="")
        text, code = _explain(error)
        _print_error(text)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message for an error, and the exit code."""
    # Errors of mien carry their own message and code; those of the system are a matter of usage.
    if isinstance(error, MienError):
        return str(error), error.exit_code
    if is_disk_full(error):
        return describe_system_error(
            error if isinstance(error, OSError) else OSError(str(error)), _find_fullest_disk()
        ), USAGE
    if isinstance(error, OSError):
        return describe_system_error(error), USAGE

    # Errors that libraries raise for reasons outside mien: memory, links, nesting.
    name, reason = type(error).__name__, str(error).strip().partition("\n")[0]
    if (
        isinstance(error, MemoryError)
        or "OutOfMemory" in name
        or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
    ):
        how = (
            "close other programs, or use fewer --workers, smaller images or smaller batches "
            "(train: --memory)"
        )
        return f"there is not enough memory ({reason or name}); {how}", USAGE
    # Python below 3.13 reports ELOOP so.
    if isinstance(error, RuntimeError) and "Symlink loop" in str(error):
        path = str(error).partition("from ")[2].strip("'")
        return describe_system_error(OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)), USAGE
    if isinstance(error, RecursionError):
        return "an input is nested too deeply to be read; nest it less deeply", USAGE

    return (
        f"a fault in mien itself: {name}{f': {reason}' if reason else ''}. Please report it with "
        "the command and what `mien --traceback COMMAND ...` prints",
        FAULT,
    )


def _print_error(text: str) -> None:
    """Print an error on stderr; the middle of a very long message is left out."""
    shortened = (
        text
        if len(text) <= MESSAGE_CHARACTERS
        else f"{text[: MESSAGE_CHARACTERS // 2]} ... {text[-MESSAGE_CHARACTERS // 2 :]}"
    )
    print(show_controls(f"mien: {shortened}"), file=sys.stderr)


def _find_fullest_disk() -> str:
    """Return the path whose disk has the least free space, of those the command may write to."""
    free_bytes: dict[str, int] = {}
    paths = [
        Path(os.environ.get("MIEN_STORE") or DEFAULT_STORE),
        Path.cwd(),
        Path(tempfile.gettempdir()),
    ]
    for path in [*paths, *(Path(text.rpartition("=")[2]) for text in sys.argv[1:])]:
        with suppress(OSError, ValueError, RuntimeError):
            absolute = path.expanduser().absolute()
            folder = next(folder for folder in (absolute, *absolute.parents) if folder.exists())
            free_bytes.setdefault(str(absolute), shutil.disk_usage(folder).free)
    return min(free_bytes, key=lambda path: free_bytes[path], default="")
