"""What mien can read: the readers, and what each needs."""

import sys
from typing import Annotated

import typer

from mien.cli.base import app, print_table


@app.command()
def readers(name: Annotated[str | None, typer.Argument(help="One reader, to be shown whole.")] = None) -> None:
    """List the datasets that can be read: what each needs, its licence, how to obtain it."""
    from rich.table import Table
    from rich.text import Text

    from mien import ingest

    if name is not None:
        for title, text in ingest.describe(name):
            print(f"{title:<10}{text}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("reader", "dataset", "needs", "licence", "obtain"):
        table.add_column(column, overflow="fold")
    for each, module in ingest.READERS.items():
        about = module.READER
        table.add_row(*map(Text, (each, about.title, about.needs, about.licence, about.obtain)))
    print_table(table)
    print("`mien readers NAME` shows one whole, `mien ingest auto FOLDER` finds the one for a folder", file=sys.stderr)
