"""The command line: one short command a stage, in the order of the pipeline.

Commands parse, call one library function, and print. This is the one package that imports inside functions, so that
`mien --help` starts in a blink.
"""

import errno
import sys

import typer

from mien.cli import data, stages, joins, audits, leaks, studies, releases, runs  # isort: skip  # the order of `mien --help`
from mien.cli.base import app
from mien.errors import MienError

__all__ = ["app", "audits", "data", "joins", "leaks", "main", "releases", "runs", "stages", "studies"]

INTERRUPTED = 130


def main() -> None:
    """Run the command line; an error is one message on stderr and an exit code.

    0 done, 1 a fault in mien, 2 something in the command or its input, 3 a gate refused a release, 4 an audit failed,
    5 some trials failed, 130 interrupted.
    """
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        usage = getattr(error, "show", None)  # prints the usage line too
        usage() if usage else print(f"Error: {error.message}", file=sys.stderr)
        code = error.exit_code
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        todo = {errno.ENOSPC: "make room", errno.ENOENT: "check the path"}.get(error.errno, "choose another folder")
        print(f"mien: {error.filename}: {error.strerror}; {todo}", file=sys.stderr)
        code = 1
    if code == INTERRUPTED:
        print("mien: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
    sys.exit(code)
