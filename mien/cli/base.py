"""What all commands share: the application, options of one meaning, and how runs are printed."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import __version__
from mien.errors import SpecError, UsageError
from mien.outside import visible
from mien.progress import many

if TYPE_CHECKING:
    from mien.store import Run, Store

CODES = (
    "Exit codes: 0 done, 1 a fault in mien or a training that diverged, 2 something in the "
    "command, its input or the "
    "machine, 3 a gate refused a release, 4 an audit failed, 5 some trials failed, 130 interrupted."
)

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


def _named(alias: str | None) -> str | None:
    """Refuse what cannot be an alias, before anything else is done."""
    if alias is not None:
        from mien.store import require_alias

        require_alias(alias)
    return alias


def _there(device: str) -> str:
    """Refuse a device that this machine does not have, before anything else is done."""
    if device not in ("auto", "cpu"):
        from mien import training

        training.device(device)
    return device


StoreOption = Annotated[
    Path,
    typer.Option(
        "--store", envvar="MIEN_STORE", help="The folder that holds all runs.", metavar="DIR"
    ),
]
AliasOption = Annotated[
    str | None,
    typer.Option("--as", help="A readable name for the result.", metavar="NAME", callback=_named),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, one card such as cuda:1, or mps.", callback=_there)
]
EngineOption = Annotated[
    str,
    typer.Option(
        help="local: processes of this machine; ray: a cluster (RAY_ADDRESS), with 'mien[ray]'."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="How many jobs at a time; by default what fits. 0: all in this process, for debuggers."
    ),
]
GpusOption = Annotated[
    float, typer.Option(help="How much of a graphics card each job gets: 0.5 lets two share one.")
]
SubjectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--subject-pattern",
        help=(
            "Folders: a regular expression; its first group in the path is the subject. For one "
            "side: train:REGEX."
        ),
        metavar="[SIDE:]REGEX",
    ),
]
ClipOption = Annotated[
    list[str] | None,
    typer.Option("--clip-pattern", help="Folders: the same, for the clip.", metavar="[SIDE:]REGEX"),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="Folders: a class name to fold, such as joy=happiness; may be repeated."
    ),
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        help="Folders: height and width to resize to; 48, or those of a stored set beside it.",
    ),
]
STORE = Path("mien-store")
_OWN_STORE = (
    Path(os.environ["MIEN_STORE"]) if os.environ.get("MIEN_STORE") else None
)  # what the user's shell says


def print_version(wanted: bool) -> bool:
    """Print the version, if it was asked for, and stop."""
    if wanted:
        print(f"mien {__version__}")
        raise typer.Exit
    return wanted


@app.callback(epilog=CODES)
def options(
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="The folder that holds all runs (or MIEN_STORE).", metavar="DIR"
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=print_version, help="Print the version and stop."
        ),
    ] = False,
    trace: Annotated[
        bool,
        typer.Option(
            "--traceback", help="Print where in the code an error arose (or MIEN_DEBUG=1)."
        ),
    ] = False,
) -> None:
    """Build synthetic facial-expression databases and prove what they are worth.

    toy -> ingest -> preprocess -> split -> train -> generate -> study -> report; `mien demo` does
    all of it.
    """
    if store is not None:
        os.environ["MIEN_STORE"] = str(store)
    if trace:
        os.environ["MIEN_DEBUG"] = "1"


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """Return {"joy": "happiness"} for ["joy=happiness"]; raises UsageError on anything else."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{option} must be given as NAME=VALUE; given: '{text}'")
        found[key.strip()] = value.strip()
    return found


def same_people(texts: list[str]) -> dict[str, str]:
    """Return {"anna_k": "AnnaK"} for ["AnnaK=anna_k"]; raises UsageError on anything else."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, other = text.partition("=")
        if not (name and equals and other):
            raise UsageError(f"--same-subject must be given as NAME=OTHER; given: '{text}'")
        while found.get(other, name) != name:  # who is somebody already is so by any name
            other = found[other]
        if other != name:
            found[other] = name
    return found


def fields(texts: list[str]) -> dict[str, Any]:
    """Return the spec fields that `--set` gives: values are read as TOML, and as text where they
    are none.

    A dot leads into a nested table: net.width=64.
    """
    import tomllib

    found: dict[str, Any] = {}
    for path, text in pairs(texts, "--set").items():
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        except (ValueError, RecursionError):  # thousands of digits, or of brackets
            raise SpecError(
                f"--set {path}: the value must be one of TOML, and is too long or too nested"
            ) from None
        *tables, last = path.split(".")
        place = found
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise SpecError(
                    f"--set {path}: '{table}' was given a value already, and cannot have fields"
                )
        place[last] = value
    return found


def show_run(run: "Run", alias: str | None) -> None:
    """Print a run's name, what it holds, and its counts a class."""
    from rich.table import Table

    print(f"{run.name}{f' ({alias})' if alias else ''}: {holds(run)}")
    counts = run.summary.get("counts")
    if counts:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in counts[0]:
            table.add_column(column, justify="left" if column == "class" else "right")
        for row in counts:
            table.add_row(
                *(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values())
            )
        print_table(table)


def show_accounts(run: "Run") -> None:
    """Print for pictures and rows that were read how many were kept, and why each other was not."""
    for what, account in run.summary.get("accounts", {}).items():
        left = account["left out"]
        reasons = "; ".join(f"{reason} {count:,}" for reason, count in left.items())
        lost = sum(left.values())
        total = (
            f"{account['found']:,} = {account['kept']:,} kept + {lost:,} left out"
            if account["kept"]
            else f"{lost:,}"
        )
        print(f"{what + ':':<12} {total}{f' ({reasons})' if reasons else ''}")
    if any(account["left out"] for account in run.summary.get("accounts", {}).values()):
        print(f"left_out.csv in {run.name} names each picture and row that was left out")


def show_details(run: "Run", home: "Store") -> None:
    """Print where a run is, what it was made from and how, and its files."""
    import json

    from mien.spec import parents

    about = run.about
    print(f"folder   {run.path}")
    print(f"content  {run.content}")
    took = f"in {about.get('seconds', 0):.0f} s on {about.get('machine', 'an unknown machine')}"
    print(f"made     {about.get('made', 'unknown')} {took}")
    named = {target: alias for alias, target in home.aliases().items()}
    for parent in parents(run.spec):
        print(f"parent   {parent}{f' ({named[parent]})' if parent in named else ''}")
    for name, known in run.manifest["files"].items():
        print(f"file     {name}  {many(known['size'], 'byte')}")
    print(json.dumps(run.spec, indent=2))


def holds(run: "Run") -> str:
    """Say in a few words what a run holds."""
    about = run.summary
    if "holds" in about:
        return str(about["holds"])
    total = next((row for row in about.get("counts", []) if row["class"] == "total"), None)
    if total is None:
        return run.stage
    parts = [
        many(total[f"{name}s"], name) for name in ("image", "clip", "subject") if total[f"{name}s"]
    ]
    return ", ".join(parts)


def open_store(path: Path) -> "Store":
    """Return the store at `path`."""
    from mien.store import Store

    return Store(path)


def print_wrapped(head: str, text: str, indent: int | None = None) -> None:
    """Print `head` and a text after it, in as many lines as the terminal's width asks for, broken
    at spaces.

    Further lines begin below the text, or `indent` characters from the left. Where no terminal says
    how wide it is, the text is one line.
    """
    import shutil
    import textwrap

    columns = shutil.get_terminal_size((0, 0)).columns
    if not columns:
        print(f"{head}{text}".rstrip())
        return
    further = " " * (len(head) if indent is None else indent)
    lines = textwrap.wrap(
        text,
        max(40, columns),
        initial_indent=head,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
    print("\n".join(lines) if lines else head.rstrip())


def print_table(table: Any) -> None:
    """Print a table of rich, as wide as the terminal; elsewhere as wide as it is.

    Texts in it are printed as they are: nothing in them is read as rich's markup, and control
    characters are visible.
    """
    from mien.progress import console

    for column in table.columns:
        column.header = _shown(column.header)
        column._cells = [_shown(cell) for cell in column._cells]
    if sys.stdout.isatty():
        console().print(table)
        return
    with (wide := console(width=1000)).capture() as captured:
        wide.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_next(command: Sequence[str], store: Path | None = None) -> None:
    """Print what comes next in the pipeline, as a command that can be pasted; with the store, if it
    is no usual one.
    """
    named = store is not None and store not in (STORE, _OWN_STORE)
    words = [*command, *(["--store", str(store)] if named else [])]
    print(
        f"next: {' '.join(word if word.startswith('<') else shlex.quote(word) for word in words)}"
    )


def _shown(cell: Any) -> Any:
    """Return a cell of a table with its control characters made visible."""
    from rich.text import Text

    if isinstance(cell, Text) and not cell.spans:
        return Text(visible(cell.plain, keep=""), style=cell.style)
    return visible(cell, keep="") if isinstance(cell, str) else cell
