"""What mien can read: the readers, and what each needs."""

import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer

from mien.cli.base import app

LEAD = 16  # columns for a reader's name


@app.command()
def readers(
    name: Annotated[str | None, typer.Argument(help="One reader, to be shown whole.")] = None,
) -> None:
    """List the datasets that can be read: what each needs, its licence, how to obtain it."""
    from mien import ingest

    if name is not None:
        for title, text in ingest.describe(name):
            print(f"{title:<10}{text}")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for each, module in ingest.READERS.items():
        about = module.READER
        print(f"{each:<{LEAD}}{about.title}")
        for title, text in (
            ("needs", about.needs),
            ("licence", about.licence),
            ("obtain", about.obtain),
        ):
            print(textwrap.fill(text, max(width, 40), **_under(title)))
    print(
        "`mien readers NAME` shows one whole, `mien ingest auto FOLDER` finds the one for a folder",
        file=sys.stderr,
    )


def _under(title: str) -> dict[str, Any]:
    """Return how a text stands under a reader's name, with its title in front; paths and addresses
    stay whole.
    """
    lead = " " * LEAD
    return {
        "initial_indent": f"{lead}{title:<9}",
        "subsequent_indent": f"{lead}{'':<9}",
        "break_long_words": False,
        "break_on_hyphens": False,
    }
