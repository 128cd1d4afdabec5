"""What the store holds: listed, shown, checked, deleted."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.base import (
    STORE,
    StoreOption,
    app,
    holds,
    open_store,
    print_table,
    show_accounts,
    show_details,
    show_run,
)
from mien.progress import many

if TYPE_CHECKING:
    from mien.store import Run, Store


LOOKED_AT = ("index.html", "report.html", "sheet.png")
WAIT_S = 2.0  # for a viewer that cannot start
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@app.command("ls")
def list_runs(
    stage: Annotated[str | None, typer.Argument(help="Only runs of this stage.")] = None,
    store: StoreOption = STORE,
) -> None:
    """List the runs of the store, oldest first."""
    from rich.table import Table

    from mien.store import Run

    home = open_store(store)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("alias", "run", "made"):
        table.add_column(column, no_wrap=True, overflow="ignore")
    table.add_column("holds", overflow="fold", min_width=20)
    named: dict[str, list[str]] = {}
    for alias, name in home.aliases().items():
        named.setdefault(name, []).append(alias)
    lines = "\n" if sys.stdout.isatty() else " "
    for name in home.names():
        run = Run(name, home.root / "runs" / name)
        if stage is None or run.stage == stage:
            made = str(run.about.get("made", ""))[:16].replace("T", " ")
            table.add_row(lines.join(named.get(name, [])), name, made, holds(run))
    print_table(table)
    if not table.row_count:
        there = ", ".join(sorted({name.rsplit("-", 1)[0] for name in home.names()}))
        print(
            (
                f"no runs{f' of {stage}' if stage else ''} in "
                f"{home.root}{f'; it has runs of {there}' * bool(there)}"
            ),
            file=sys.stderr,
        )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A run, an alias, or the beginning of a run's name.")],
    look: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Open what people look at (its page, or its sheet of faces) in MIEN_VIEWER, "
            "BROWSER or the "
            "system's viewer.",
        ),
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Say what a run is: counts, parents, files, spec."""
    home = open_store(store)
    run = home.run(name)
    if look:
        _open(run)
        return
    show_run(run, None)
    show_accounts(run)
    show_details(run, home)
    found = _looked_at(run)
    if found is not None:
        print(f"look at  {found}")


def _looked_at(run: "Run") -> Path | None:
    """Return the page or the sheet of a run, which people look at, or None if it has neither."""
    return next((run.path / one for one in LOOKED_AT if one in run.manifest["files"]), None)


def _open(run: "Run") -> None:
    """Open the page or the sheet of a run; where there is no viewer, say where it lies."""
    from mien.errors import UsageError

    path = _looked_at(run)
    if path is None:
        more = "; `mien report NAME` writes the page of a study" if run.stage == "study" else ""
        more = (
            "; `mien export` writes faces as pictures"
            if "index.parquet" in run.manifest["files"]
            else more
        )
        raise UsageError(
            f"{run.name} must hold one of {', '.join(LOOKED_AT)} to be looked at, and holds "
            f"none{more}"
        )
    print(path)
    command = _viewer()
    if command is None:
        print(
            (
                "there is no viewer here (no MIEN_VIEWER, no BROWSER, no desktop); open that file "
                "yourself"
            ),
            file=sys.stderr,
        )
    elif not _started([*command, str(path)]):
        print(
            (
                f"{command[0]} did not open it; open that file yourself, or name a viewer in "
                "MIEN_VIEWER"
            ),
            file=sys.stderr,
        )


def _viewer() -> list[str] | None:
    """Return the command that opens a file here: of MIEN_VIEWER, BROWSER, or the system; None where
    there is none.
    """
    told = os.environ.get("MIEN_VIEWER") or os.environ.get("BROWSER", "").split(os.pathsep)[0]
    if told:
        return shlex.split(told.replace("%s", "").strip())
    system = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    desktop = (
        sys.platform in ("darwin", "win32")
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    )
    return [system] if desktop and shutil.which(system) else None


def _started(command: list[str]) -> bool:
    """Start a viewer; whether it runs, or ended well within a second or two."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return process.wait(WAIT_S) == 0
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False


@app.command()
def verify(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A run or alias, or a picture file; all runs by default.", metavar="[WHAT]"
        ),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(help="For a picture: the release to look for it in.", metavar="DIR"),
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Check every file of a run against its sha256; or say whether a picture is one of ours.

    A picture is known by the mark in its file, or, when that is gone, by its pixels in the registry
    of a release.
    """
    from mien.errors import DataError, UsageError

    home = open_store(store)
    if name is not None and _a_picture(name, home):
        from mien import publish

        known = publish.identify(Path(name), registry)
        if known.ours == "no":
            raise DataError(f"{name} is not known to be one of ours: {known.text}")
        print(
            f"{name}: {'one of ours' if known.ours == 'yes' else 'likely one of ours'}: "
            f"{known.text}"
        )
        return
    if registry is not None:
        raise UsageError(
            f"--registry must stand with a picture file, and {name or 'nothing'} is none"
        )
    if name:
        _verify_one(home.resolve(name), home)
    else:
        _verify_all(home)


def _verify_one(name: str, home: "Store") -> None:
    """Print what is wrong with a run; raises StoreError if anything is."""
    from mien.errors import StoreError
    from mien.store import Run

    if not home.done(name):
        raise StoreError(f"{name} must be a finished run in {home.root}, and is not")
    run = Run(name, home.root / "runs" / name)
    faults = home.faults(run, thorough=True)
    print(f"{name}: {'; '.join(faults) if faults else 'as it was made'}")
    if faults:
        raise StoreError(f"{name} is not as it was made. {_todo(run, faults)}")


def _verify_all(home: "Store") -> None:
    """Print what is wrong with each run and alias; raises StoreError if a run is not as it was
    made.
    """
    from mien.errors import StoreError
    from mien.store import GRAVE, Run

    todo, names, broken = [], home.names(), home.broken()
    for name in broken:
        deleted = GRAVE.match(name)
        what = (
            "a run whose deletion was cut short" if deleted else f"not a whole run: {_lack(name)}"
        )
        print(f"{name}: {what}")
        how = (
            "`mien rm` of any run ends its deletion"
            if deleted
            else "delete it, or move it out of the store"
        )
        todo.append(f"{name}: {how}")
    for name in names:
        run = Run(name, home.root / "runs" / name)
        faults = home.faults(run, thorough=True)
        print(f"{name}: {'; '.join(faults) if faults else 'as it was made'}")
        todo += [f"{name}: {_todo(run, faults)}"] * bool(faults)
    for alias, target in home.aliases().items():
        if not home.done(target):
            print(f"alias {alias}: names {target}, which is not there")
    for alias, fault in home.broken_aliases().items():
        print(f"alias {alias}: {fault}; delete it from {home.root / 'aliases'}")
    if foreign := home.foreign():
        print(f"passed over, for systems and file servers leave them: {', '.join(foreign)}")
    if todo:
        raise StoreError(
            (
                f"{len(todo)} of {many(len(names) + len(broken), 'run')} "
                f"{'is' if len(todo) == 1 else 'are'} not as made.\n"
            )
            + "\n".join(todo)
        )


def _lack(name: str) -> str:
    """Say why what lies among the runs is none."""
    from mien.spec import RUN_NAME

    return "manifest.json is missing" if RUN_NAME.match(name) else "its name is no run's"


def _todo(run: "Run", faults: list[str]) -> str:
    """Say what to do about a run with these faults."""
    from mien.store import STRANGE

    if all(fault.endswith(STRANGE) for fault in faults):
        return f"Move what does not belong to it out of {run.path}"
    return run.mend


def _a_picture(name: str, home: "Store") -> bool:
    """Whether `name` is a file, or would be a picture, and not what the store knows by that
    name.
    """
    named = Path(name).is_file() or Path(name).suffix.lower() in PICTURES
    return named and name not in home.aliases() and not home.done(name)


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A run or alias that nothing else was made from.")],
    store: StoreOption = STORE,
) -> None:
    """Delete a run that nothing else was made from, and the aliases that name it.

    Stopped at any moment, the same command ends it.
    """
    for gone in open_store(store).remove(name):
        print(f"deleted {gone}")
