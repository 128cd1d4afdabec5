"""The datasets that mien can read, and what each reader needs."""

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.base import JsonOption, app, print_json

if TYPE_CHECKING:
    from mien.ingest.reader import Reader

NAME_COLUMN_WIDTH = 16  # columns for a reader's name


@app.command(short_help="List the datasets that mien can read.")
def readers(
    name: Annotated[str | None, typer.Argument(help="A reader, to show all about it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the datasets that mien can read: the files needed, the licence, how to obtain it."""
    from mien.ingest.readers import READERS
    from mien.ingest.run import describe_reader

    if as_json:
        if name is not None:
            describe_reader(name)  # raises SpecError for an unknown name
        chosen = {key: READERS[key] for key in ([name] if name else READERS)}
        print_json({"readers": [_list_reader_facts(key, chosen[key].READER) for key in chosen]})
        return
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


def _list_reader_facts(name: str, about: "Reader") -> dict[str, Any]:
    """Return what `mien readers --json` prints of a reader."""
    return {
        "name": name,
        "title": about.title,
        "needs": about.needs,
        "subjects": about.subjects,
        "clips": about.clips,
        "licence": about.licence,
        "obtain": about.obtain,
        "citation": about.citation,
        "labels": about.labels,
        "options": list(about.options),
        "parts": about.parts,
    }


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
