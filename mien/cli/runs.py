"""The runs of the store: listed, shown, verified, deleted."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    app,
    describe_content,
    open_store,
    print_json,
    print_table,
    run_facts,
    show_accounts,
    show_details,
    show_run,
)
from mien.runs.progress import quantify

if TYPE_CHECKING:
    from mien.runs.store import Run, Store


# what `show --open` opens, the first found
VIEWABLE_FILES = ("index.html", "report.html", "sheet.png")

VIEWER_START_S = 2.0  # how long to wait whether a viewer fails to start

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@app.command("ls")
def list_runs(
    stage: Annotated[str | None, typer.Argument(help="List only runs of this stage.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also list the runs that mien made for other runs.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """List the runs of the store, oldest first.

    Runs without an alias that mien made for other runs, such as the trials of a study or the parts
    of an audit, are listed with --all or by their stage.
    """
    from rich.table import Table

    from mien.runs.store import Run
    from mien.study.made_for_others import find_made_for_others

    if as_json:
        _list_as_json(open_store(store), stage)
        return

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
    hidden = set() if everything or stage else find_made_for_others(home) - set(aliases_of)
    for name in home.list_names():
        if name in hidden:
            continue
        run = Run(name, home.root / "runs" / name)
        if stage is None or run.stage == stage:
            finished_at = str(run.about.get("made", ""))[:16].replace("T", " ")
            table.add_row(
                separator.join(aliases_of.get(name, [])), name, finished_at, describe_content(run)
            )
    print_table(table)
    if hidden:
        verb = "was" if len(hidden) == 1 else "were"
        print(
            f"{quantify(len(hidden), 'run')} that {verb} made for other runs: not listed; "
            "`mien ls --all` lists all",
            file=sys.stderr,
        )

    # An empty table is explained: perhaps the stage is misspelt, or this is another store.
    if not table.row_count:
        stages = ", ".join(sorted({name.rsplit("-", 1)[0] for name in home.list_names()}))
        others = f"; it has runs of {stages}" if stages else ""
        print(
            f"no runs{f' of {stage}' if stage else ''} in {home.root}"
            f"{others if home.root.is_dir() else ', which does not exist'}",
            file=sys.stderr,
        )


def _list_as_json(home: "Store", stage: str | None) -> None:
    """Print the runs of a store, or those of a stage, as JSON."""
    from mien.runs.store import Run

    aliases = home.read_aliases()
    runs = [Run(name, home.root / "runs" / name) for name in home.list_names()]
    print_json(
        {
            "store": str(home.root),
            "runs": [run_facts(run, aliases) for run in runs if stage in (None, run.stage)],
        }
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
    as_json: JsonOption = False,
) -> None:
    """Show a run: its counts, parents, files and spec."""
    from mien.errors import UsageError

    if look and as_json:
        raise UsageError("--open shows a picture or a page, and --json is for programs; omit one")
    home = open_store(store)
    run = home.run(name)
    if as_json:
        _show_as_json(run, home)
        return
    if look:
        _open(run)
        return
    show_run(run, None)
    show_accounts(run)
    show_details(run, home)
    path = _find_viewable(run)
    if path is not None:
        print(f"look at  {path}")


def _show_as_json(run: "Run", home: "Store") -> None:
    """Print everything that the store knows about a run as JSON."""
    from mien.runs.spec import list_parents

    page = _find_viewable(run)
    about = run.about
    print_json(
        {
            **run_facts(run, home.read_aliases()),
            "content": run.content,
            "machine": about.get("machine"),
            "versions": about.get("versions", {}),
            "command": about.get("command"),
            "parents": list(list_parents(run.spec)),
            "files": run.manifest["files"],
            "counts": run.summary.get("counts", []),
            "accounts": run.summary.get("accounts", {}),
            "page": None if page is None else str(page),
            "spec": run.spec,
        }
    )


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
        hint = "; `mien report NAME` writes the page of a study" if run.stage == "study" else ""
        hint = (
            "; `mien export` writes faces as pictures"
            if "index.parquet" in run.manifest["files"]
            else hint
        )
        raise UsageError(
            f"--open needs a run with one of {', '.join(VIEWABLE_FILES)}, and {run.name} has "
            f"none{hint}"
        )

    # Open it; the path is printed in any case.
    print(path)
    command = _find_viewer()
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


def _find_viewer() -> list[str] | None:
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


@app.command(short_help="Check every file of a run against its sha256.")
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
    as_json: JsonOption = False,
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
        identification = identify(Path(name), registry)
        if as_json:
            facts = {
                "ours": identification.from_this_release,
                "image": identification.image,
                "text": identification.text,
            }
            print_json({"file": name, **facts})
        if identification.from_this_release == "no":
            raise DataError(f"{name} is not known to be one of ours: {identification.text}")
        if not as_json:
            ours = (
                "one of ours" if identification.from_this_release == "yes" else "likely one of ours"
            )
            print(f"{name}: {ours}: {identification.text}")
        return
    if registry is not None:
        raise UsageError(
            f"--registry needs an image file; given: {name or 'nothing'}. Omit --registry"
        )

    # A run, or all of them: compare every file with its sha256.
    if name:
        _verify_one(home.resolve(name), home, as_json)
    else:
        _verify_all(home, as_json)


@dataclass(frozen=True)
class RunState:
    """Whether a run is as it was made: its faults, which are none if it is, and what to do."""

    name: str
    faults: list[str]
    remedy: str

    def describe(self) -> str:
        """Return the state as a line."""
        return f"{self.name}: {'; '.join(self.faults) if self.faults else 'as it was made'}"


def _read_state(name: str, home: "Store") -> RunState:
    """Return the state of a finished run, of which every file is read."""
    from mien.runs.store import Run

    run = Run(name, home.root / "runs" / name)
    faults = home.find_faults(run, thorough=True)
    return RunState(name, faults, _advise(run, faults) if faults else "")


def _read_states(home: "Store") -> Iterator[RunState]:
    """Yield the state of each folder among the runs, first of those that are no finished runs."""
    from mien.runs.store import DELETED_PATTERN

    for name in home.find_broken_runs():
        if DELETED_PATTERN.match(name):
            remedy = "`mien rm` of any run completes its deletion"
            yield RunState(name, ["a run whose deletion was interrupted"], remedy)
        else:
            fault = f"not a complete run: {_explain_broken(name)}"
            yield RunState(name, [fault], "delete it, or move it out of the store")
    for name in home.list_names():
        yield _read_state(name, home)


def _verify_one(name: str, home: "Store", as_json: bool) -> None:
    """Print whether a run is as it was made; raises StoreError if it is not."""
    from mien.errors import StoreError

    if not home.is_done(name):
        raise StoreError(
            f"{name} must be a finished run in {home.root}, and is not; `mien ls` lists the "
            "finished runs"
        )
    state = _read_state(name, home)
    if as_json:
        print_json(_list_state_facts([state], {}, []))
    else:
        print(state.describe())
    if state.faults:
        raise StoreError(f"{name} is not as it was made. {state.remedy}")


def _verify_all(home: "Store", as_json: bool) -> None:
    """Print the state of each run and each faulty alias; raises StoreError if a run was changed."""
    from mien.errors import StoreError

    # Each run, as soon as it is read.
    states = []
    for state in _read_states(home):
        states.append(state)
        if not as_json:
            print(state.describe())

    # Aliases and foreign files are reported, but are no error.
    aliases = {
        alias: f"names {target}, which is not in the store"
        for alias, target in home.read_aliases().items()
        if not home.is_done(target)
    }
    for alias, fault in home.find_broken_aliases().items():
        aliases[alias] = f"{fault}; delete it from {home.root / 'aliases'}"
    foreign = home.find_foreign_files()
    if as_json:
        print_json(_list_state_facts(states, aliases, foreign))
    else:
        for alias, fault in aliases.items():
            print(f"alias {alias}: {fault}")
        if foreign:
            print(f"ignored, left by operating systems or file servers: {', '.join(foreign)}")

    # The exit code, with what to do about each.
    todo = [f"{state.name}: {state.remedy}" for state in states if state.faults]
    if todo:
        count = f"{len(todo)} of {quantify(len(states), 'run')}"
        be = "is" if len(todo) == 1 else "are"
        raise StoreError("\n".join([f"{count} {be} not as made.", *todo]))


def _list_state_facts(
    states: Sequence[RunState], aliases: dict[str, str], foreign: list[str]
) -> dict[str, Any]:
    """Return what `mien verify --json` prints of runs."""
    return {
        "as_made": not any(state.faults for state in states),
        "runs": [asdict(state) for state in states],
        "aliases": [{"alias": alias, "fault": fault} for alias, fault in aliases.items()],
        "find_foreign_files": foreign,
    }


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


@app.command("rm", short_help="Delete a run from which no other run was made.")
def remove(
    name: Annotated[str, typer.Argument(help="A run or alias from which no other run was made.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Delete a run from which no other run was made, and the aliases that name it.

    If the command is interrupted, run it again to complete the deletion.
    """
    for path in open_store(store).remove(name):
        print(f"deleted {path}")
