"""The runs of the store: listed, shown, verified, deleted."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    StoreOption,
    app,
    describe_content,
    open_store,
    print_table,
    show_accounts,
    show_details,
    show_run,
)
from mien.runs.progress import count_of

if TYPE_CHECKING:
    from mien.runs.store import Run, Store


# what `show --open` opens, the first found
VIEWABLE_FILES = ("index.html", "report.html", "sheet.png")

VIEWER_START_S = 2.0  # how long to wait whether a viewer fails to start

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@app.command("ls")
def list_runs(
    stage: Annotated[str | None, typer.Argument(help="List only runs of this stage.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """List the runs of the store, oldest first."""
    from rich.table import Table

    from mien.runs.store import Run

    # The columns: names are never broken, descriptions may be.
    home = open_store(store)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("alias", "run", "made"):
        table.add_column(column, no_wrap=True, overflow="ignore")
    table.add_column("holds", overflow="fold", min_width=20)

    # The rows: one per run of the stage, with all its aliases.
    aliases_of: dict[str, list[str]] = {}
    for alias, name in home.read_aliases().items():
        aliases_of.setdefault(name, []).append(alias)
    separator = "\n" if sys.stdout.isatty() else " "
    for name in home.list_names():
        run = Run(name, home.root / "runs" / name)
        if stage is None or run.stage == stage:
            made = str(run.about.get("made", ""))[:16].replace("T", " ")
            table.add_row(
                separator.join(aliases_of.get(name, [])), name, made, describe_content(run)
            )
    print_table(table)

    # An empty table is explained: perhaps the stage is misspelt, or this is another store.
    if not table.row_count:
        stages = ", ".join(sorted({name.rsplit("-", 1)[0] for name in home.list_names()}))
        print(
            f"no runs{f' of {stage}' if stage else ''} in "
            f"{home.root}{f'; it has runs of {stages}' * bool(stages)}",
            file=sys.stderr,
        )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A run, an alias, or the beginning of a run's name.")],
    look: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Open its page or its sheet of faces, in MIEN_VIEWER, BROWSER or the system's "
            "viewer.",
        ),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show a run: its counts, parents, files and spec."""
    home = open_store(store)
    run = home.run(name)
    if look:
        _open(run)
        return
    show_run(run, None)
    show_accounts(run)
    show_details(run, home)
    path = _find_viewable(run)
    if path is not None:
        print(f"look at  {path}")


def _find_viewable(run: "Run") -> Path | None:
    """Return the path of the page or the sheet of faces of a run, or None if it has neither."""
    return next((run.path / name for name in VIEWABLE_FILES if name in run.manifest["files"]), None)


def _open(run: "Run") -> None:
    """Print the path of the page or the sheet of a run, and open it if there is a viewer.

    Raises UsageError if the run has neither.
    """
    from mien.errors import UsageError

    # Find the file; if there is none, name the command that makes one.
    path = _find_viewable(run)
    if path is None:
        more = "; `mien report NAME` writes the page of a study" if run.stage == "study" else ""
        more = (
            "; `mien export` writes faces as pictures"
            if "index.parquet" in run.manifest["files"]
            else more
        )
        raise UsageError(
            f"--open needs a run with one of {', '.join(VIEWABLE_FILES)}, and {run.name} has "
            f"none{more}"
        )

    # Open it; the path is printed in any case.
    print(path)
    command = _viewer_command()
    if command is None:
        print(
            "no viewer was found (MIEN_VIEWER, BROWSER or a desktop); open that file yourself",
            file=sys.stderr,
        )
    elif not _start_viewer([*command, str(path)]):
        print(
            f"{command[0]} did not open it; open that file yourself, or set MIEN_VIEWER to a "
            "viewer",
            file=sys.stderr,
        )


def _viewer_command() -> list[str] | None:
    """Return the command that opens files: MIEN_VIEWER, BROWSER, the system's, or None."""
    setting = os.environ.get("MIEN_VIEWER") or os.environ.get("BROWSER", "").split(os.pathsep)[0]
    if setting:
        return shlex.split(setting.replace("%s", "").strip())
    system = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    desktop = (
        sys.platform in ("darwin", "win32")
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    )
    return [system] if desktop and shutil.which(system) else None


def _start_viewer(command: list[str]) -> bool:
    """Start a viewer; return whether it still runs after WAIT_S, or has ended with code 0."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return process.wait(VIEWER_START_S) == 0
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False


@app.command()
def verify(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A run, an alias or an image file; by default all runs.", metavar="[WHAT]"
        ),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            help="For an image file: the folder of the release to look in.", metavar="DIR"
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Check every file of a run against its sha256, or say whether mien generated an image.

    An image is recognised by the mark in its file, or, if that was removed, by its pixels in the
    registry of a release.
    """
    from mien.errors import DataError, UsageError
    from mien.publish.registry import identify

    # An image file: say whether it is known.
    home = open_store(store)
    if name is not None and _is_image_file(name, home):
        known = identify(Path(name), registry)
        if known.ours == "no":
            raise DataError(f"{name} is not known to be one of ours: {known.text}")
        print(
            f"{name}: {'one of ours' if known.ours == 'yes' else 'likely one of ours'}: "
            f"{known.text}"
        )
        return
    if registry is not None:
        raise UsageError(
            f"--registry needs an image file; given: {name or 'nothing'}. Omit --registry"
        )

    # A run, or all of them: compare every file with its sha256.
    if name:
        _verify_one(home.resolve(name), home)
    else:
        _verify_all(home)


def _verify_one(name: str, home: "Store") -> None:
    """Print whether a run is as it was made; raises StoreError if it is not."""
    from mien.errors import StoreError
    from mien.runs.store import Run

    if not home.is_done(name):
        raise StoreError(f"{name} must be a finished run in {home.root}, and is not")
    run = Run(name, home.root / "runs" / name)
    faults = home.find_faults(run, thorough=True)
    print(f"{name}: {'; '.join(faults) if faults else 'as it was made'}")
    if faults:
        raise StoreError(f"{name} is not as it was made. {_advise(run, faults)}")


def _verify_all(home: "Store") -> None:
    """Print the state of each run and each faulty alias; raises StoreError if a run was changed."""
    from mien.errors import StoreError
    from mien.runs.store import DELETED_PATTERN, Run

    # Folders among the runs that are not finished runs.
    todo, names, broken = [], home.list_names(), home.find_broken_runs()
    for name in broken:
        if DELETED_PATTERN.match(name):
            fault = "a run whose deletion was interrupted"
            remedy = "`mien rm` of any run completes its deletion"
        else:
            fault = f"not a complete run: {_explain_broken(name)}"
            remedy = "delete it, or move it out of the store"
        print(f"{name}: {fault}")
        todo.append(f"{name}: {remedy}")

    # Finished runs: every file is read.
    for name in names:
        run = Run(name, home.root / "runs" / name)
        faults = home.find_faults(run, thorough=True)
        print(f"{name}: {'; '.join(faults) if faults else 'as it was made'}")
        todo += [f"{name}: {_advise(run, faults)}"] * bool(faults)

    # Aliases and foreign files are reported, but are no error.
    for alias, target in home.read_aliases().items():
        if not home.is_done(target):
            print(f"alias {alias}: names {target}, which is not in the store")
    for alias, fault in home.find_broken_aliases().items():
        print(f"alias {alias}: {fault}; delete it from {home.root / 'aliases'}")
    if foreign := home.find_foreign_files():
        print(f"ignored, left by operating systems or file servers: {', '.join(foreign)}")
    if todo:
        count = f"{len(todo)} of {count_of(len(names) + len(broken), 'run')}"
        be = "is" if len(todo) == 1 else "are"
        raise StoreError("\n".join([f"{count} {be} not as made.", *todo]))


def _explain_broken(name: str) -> str:
    """Return why a folder among the runs is not a run."""
    from mien.runs.spec import RUN_NAME

    return "manifest.json is missing" if RUN_NAME.match(name) else "its name is not that of a run"


def _advise(run: "Run", faults: list[str]) -> str:
    """Return what to do about a run with these faults."""
    from mien.runs.store import FOREIGN_ENTRY_FAULTS

    if all(fault.endswith(FOREIGN_ENTRY_FAULTS) for fault in faults):
        return f"Move the files that do not belong to it out of {run.path}"
    return run.advice


def _is_image_file(name: str, home: "Store") -> bool:
    """Whether `name` is a file or named like an image, and is not a run or alias of the store."""
    is_file = Path(name).is_file() or Path(name).suffix.lower() in PICTURE_SUFFIXES
    return is_file and name not in home.read_aliases() and not home.is_done(name)


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A run or alias from which no other run was made.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Delete a run from which no other run was made, and the aliases that name it.

    If the command is interrupted, run it again to complete the deletion.
    """
    for path in open_store(store).remove(name):
        print(f"deleted {path}")
