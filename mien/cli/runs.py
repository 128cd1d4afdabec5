"""What the store holds: listed, shown, checked, deleted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.base import STORE, StoreOption, app, holds, open_store, print_table, show_accounts, show_details, show_run

if TYPE_CHECKING:
    from mien.store import Store


PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@app.command("ls")
def list_runs(
    stage: Annotated[str | None, typer.Argument(help="Only runs of this stage.")] = None, store: StoreOption = STORE
) -> None:
    """List the runs of the store, oldest first."""
    from rich.table import Table

    from mien.store import Run

    home = open_store(store)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "alias", "holds", "made"):
        table.add_column(column, no_wrap=True)
    named: dict[str, list[str]] = {}
    for alias, name in home.aliases().items():
        named.setdefault(name, []).append(alias)
    for name in home.names():
        run = Run(name, home.root / "runs" / name)
        if stage is None or run.stage == stage:
            table.add_row(
                name, " ".join(named.get(name, [])), holds(run), str(run.about.get("made", ""))[:16].replace("T", " ")
            )
    print_table(table)
    if not table.row_count:
        there = ", ".join(sorted({name.rsplit("-", 1)[0] for name in home.names()}))
        print(
            f"no runs{f' of {stage}' if stage else ''} in {home.root}{f'; it has runs of {there}' * bool(there)}",
            file=sys.stderr,
        )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A run, an alias, or the beginning of a run's name.")],
    store: StoreOption = STORE,
) -> None:
    """Say what a run is: counts, parents, files, spec."""
    home = open_store(store)
    run = home.run(name)
    show_run(run, None)
    show_accounts(run)
    show_details(run, home)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="A run or alias, or a picture file; all runs by default.", metavar="[WHAT]")
    ] = None,
    registry: Annotated[
        Path | None, typer.Option(help="For a picture: the release to look for it in.", metavar="DIR")
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Check every file of a run against its sha256; or say whether a picture is one of ours.

    A picture is known by the mark in its file, or, when that is gone, by its pixels in the registry of a release.
    """
    from mien.errors import DataError, StoreError, UsageError
    from mien.store import Run

    home = open_store(store)
    if name is not None and _a_picture(name, home):
        from mien import publish

        known = publish.identify(Path(name), registry)
        if known.ours == "no":
            raise DataError(f"{name} is not known to be one of ours: {known.text}")
        print(f"{name}: {'one of ours' if known.ours == 'yes' else 'likely one of ours'}: {known.text}")
        return
    if registry is not None:
        raise UsageError(f"--registry must stand with a picture file, and {name or 'nothing'} is none")
    names = [home.resolve(name)] if name else home.names()
    if name and not home.done(names[0]):
        raise StoreError(f"{names[0]} must be a finished run in {home.root}, and is not")
    broken = [] if name else home.broken()
    for each in broken:
        print(f"{each}: not a whole run, manifest.json is missing")
    altered = len(broken)
    for each in names:
        run = Run(each, home.root / "runs" / each)
        faults = home.faults(run, thorough=True)
        altered += bool(faults)
        print(f"{each}: {'; '.join(faults) if faults else 'as it was made'}")
    lost = [alias for alias, target in home.aliases().items() if not home.done(target)]
    for alias in lost if name is None else []:
        print(f"alias {alias}: names {home.aliases()[alias]}, which is not there")
    if altered:
        total = len(names) + len(broken)
        raise StoreError(f"{altered} of {total} runs were altered; delete their folders and make them again")


def _a_picture(name: str, home: "Store") -> bool:
    """Whether `name` is a file, or would be a picture, and not what the store knows by that name."""
    named = Path(name).is_file() or Path(name).suffix.lower() in PICTURES
    return named and name not in home.aliases() and not home.done(name)


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A run or alias that nothing else was made from.")],
    store: StoreOption = STORE,
) -> None:
    """Delete a run that nothing else was made from."""
    for gone in open_store(store).remove(name):
        print(f"deleted {gone}")
