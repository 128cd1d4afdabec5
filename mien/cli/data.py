"""The datasets that mien can read, and what each reader needs."""

import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer

from mien.cli.base import app

NAME_COLUMN_WIDTH = 16  # columns for a reader's name


@app.command()
def readers(
    name: Annotated[str | None, typer.Argument(help="A reader, to show all about it.")] = None,
) -> None:
    """List the datasets that mien can read: the files needed, the licence, how to obtain it."""
    from mien.ingest.readers import READERS
    from mien.ingest.run import describe_reader

    if name is not None:
        for title, text in describe_reader(name):
            print(f"{title:<10}{text}")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for reader_name, module in READERS.items():
        about = module.READER
        print(f"{reader_name:<{NAME_COLUMN_WIDTH}}{about.title}")
        for title, text in (
            ("needs", about.needs),
            ("licence", about.licence),
            ("obtain", about.obtain),
        ):
            print(textwrap.fill(text, max(width, 40), **_fill_options(title)))
    print(
        "`mien readers NAME` shows all about a reader; `mien ingest auto FOLDER` recognises the "
        "reader for a folder",
        file=sys.stderr,
    )


def _fill_options(title: str) -> dict[str, Any]:
    """Return the options of textwrap for a text under a reader's name, with its title in front.

    Paths and addresses are not broken.
    """
    lead = " " * NAME_COLUMN_WIDTH
    return {
        "initial_indent": f"{lead}{title:<9}",
        "subsequent_indent": f"{lead}{'':<9}",
        "break_long_words": False,
        "break_on_hyphens": False,
    }
