"""What all commands share: the application, common options, printed runs."""

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import __version__
from mien.errors import SpecError, UsageError
from mien.outside import show_controls
from mien.runs.contents import describe_content
from mien.runs.progress import quantify

if TYPE_CHECKING:
    from mien.runs.store import Run, Store


EXIT_CODES_HELP = (
    "Exit codes: 0 success; 1 a fault in mien, or training diverged; 2 a problem with the "
    "command, its input or the machine; 3 a gate refused a release; 4 an audit failed; 5 some "
    "trials failed; 130 interrupted."
)

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


def _check_alias(alias: str | None) -> str | None:
    """Check an alias before any other work; raises StoreError if it is not valid."""
    if alias is not None:
        from mien.runs.store import require_alias

        require_alias(alias)
    return alias


def _check_device(device: str) -> str:
    """Check before any other work that this machine has a device; raises UsageError if not."""
    if device not in ("auto", "cpu"):
        from mien.runs import devices

        devices.find_device(device)
    return device


StoreOption = Annotated[
    Path,
    typer.Option(
        "--store", envvar="MIEN_STORE", help="The folder that holds all runs.", metavar="DIR"
    ),
]

AliasOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="A readable name (alias) for the result.",
        metavar="NAME",
        callback=_check_alias,
    ),
]

DeviceOption = Annotated[
    str,
    typer.Option(
        help="The device: auto, cpu, cuda, one GPU such as cuda:1, or mps.", callback=_check_device
    ),
]

EngineOption = Annotated[
    str,
    typer.Option(
        help="local: processes on this machine; ray: a Ray cluster (RAY_ADDRESS; needs "
        "'mien[ray]')."
    ),
]

WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Number of parallel jobs; by default as many as fit. 0 runs all in this process, for "
        "debugging."
    ),
]

GpusOption = Annotated[
    float, typer.Option(help="Share of a GPU for each job; with 0.5, two jobs share one GPU.")
]

SubjectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--subject-pattern",
        help=(
            "For folders: a regular expression; its first group, matched in the path, is the "
            "subject. train:REGEX applies to one side only."
        ),
        metavar="[SIDE:]REGEX",
    ),
]

ClipOption = Annotated[
    list[str] | None,
    typer.Option(
        "--clip-pattern",
        help="For folders: the same as --subject-pattern, for the clip.",
        metavar="[SIDE:]REGEX",
    ),
]

MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="For folders: map a class name to a class of mien, such as joy=happiness. Repeatable.",
    ),
]

SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        help="For folders: height and width to resize to, in pixels; by default those of the sets "
        "from the store, or 48.",
    ),
]

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print JSON for programs, and nothing else, on standard output."),
]

DEFAULT_STORE = Path("mien-store")

# from the environment of the user's shell, before --store changes it
_STORE_FROM_ENVIRONMENT = Path(os.environ["MIEN_STORE"]) if os.environ.get("MIEN_STORE") else None


def print_version(wanted: bool) -> bool:
    """Print the version and exit if `wanted`."""
    if wanted:
        print(f"mien {__version__}")
        raise typer.Exit
    return wanted


@app.callback(epilog=EXIT_CODES_HELP)
def read_global_options(
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="The folder that holds all runs (or set MIEN_STORE).", metavar="DIR"
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=print_version, help="Print the version and exit."
        ),
    ] = False,
    trace: Annotated[
        bool,
        typer.Option("--traceback", help="Print the traceback of an error (or set MIEN_DEBUG=1)."),
    ] = False,
) -> None:
    """Build synthetic facial-expression databases and measure what they are worth.

    The stages: toy -> ingest -> preprocess -> split -> train -> generate -> study -> report.
    `mien demo` runs all of them.
    """
    if store is not None:
        os.environ["MIEN_STORE"] = str(store)
    if trace:
        os.environ["MIEN_DEBUG"] = "1"


def read_pairs(texts: list[str], option: str) -> dict[str, str]:
    """Return {"joy": "happiness"} for ["joy=happiness"]; raises UsageError on anything else."""
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{option} must be given as NAME=VALUE; given: '{text}'")
        values[key.strip()] = value.strip()
    return values


def read_same_subject(texts: list[str]) -> dict[str, str]:
    """Return {"anna_k": "AnnaK"} for ["AnnaK=anna_k"]; raises UsageError on anything else."""
    main_names: dict[str, str] = {}
    for text in texts:
        name, equals, other_name = text.partition("=")
        if not (name and equals and other_name):
            raise UsageError(f"--same-subject must be given as NAME=OTHER; given: '{text}'")
        # If the other name already belongs to somebody, all names of that person are merged.
        while main_names.get(other_name, name) != name:
            other_name = main_names[other_name]
        if other_name != name:
            main_names[other_name] = name
    return main_names


def read_set_options(texts: list[str]) -> dict[str, Any]:
    """Return the spec fields that `--set` gives, each value read as TOML, or else as text.

    A dot leads into a nested table: net.width=64. Raises SpecError if a value cannot be read.
    """
    import tomllib

    fields: dict[str, Any] = {}
    for path, text in read_pairs(texts, "--set").items():
        # Read the value: TOML, or plain text where it is not TOML.
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        except (ValueError, RecursionError):  # thousands of digits or brackets
            raise SpecError(
                f"--set {path}: the value must be valid TOML, and is too long or nested too deeply"
            ) from None

        # Put it into the nested table that the dots lead to.
        *tables, field = path.split(".")
        target = fields
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise SpecError(
                    f"--set {path}: '{table}' was given a value already, and cannot have fields"
                )
        target[field] = value
    return fields


def show_run(run: "Run", alias: str | None) -> None:
    """Print a run's name, what it holds, and its counts per class."""
    from rich.table import Table

    print(f"{run.name}{f' ({alias})' if alias else ''}: {describe_content(run)}")
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
    """Print how many images and rows were kept, and how many were left out for which reason."""
    accounts = run.summary.get("accounts", {})
    for source, account in accounts.items():
        skipped = account["left out"]
        reasons = "; ".join(f"{reason} {count:,}" for reason, count in skipped.items())
        skipped_count = sum(skipped.values())
        total = (
            f"{account['found']:,} = {account['kept']:,} kept + {skipped_count:,} left out"
            if account["kept"]
            else f"{skipped_count:,}"
        )
        print(f"{source + ':':<12} {total}{f' ({reasons})' if reasons else ''}")
    if any(account["left out"] for account in accounts.values()):
        print(f"left_out.csv in {run.name} lists each image and row that was left out")


def show_details(run: "Run", home: "Store") -> None:
    """Print a run's folder, how it was made, its parents, its files and its spec."""
    import json

    from mien.runs.spec import list_parents

    about = run.about
    print(f"folder   {run.path}")
    print(f"content  {run.content}")
    took = f"in {about.get('seconds', 0):.0f} s on {about.get('machine', 'an unknown machine')}"
    print(f"made     {about.get('made', 'unknown')} {took}")
    alias_of = {target: alias for alias, target in home.read_aliases().items()}
    for parent in list_parents(run.spec):
        print(f"parent   {parent}{f' ({alias_of[parent]})' if parent in alias_of else ''}")
    for name, record in run.manifest["files"].items():
        print(f"file     {name}  {quantify(record['size'], 'byte')}")
    print(json.dumps(run.spec, indent=2))


def open_store(path: Path, *names: str) -> "Store":
    """Return the store at `path`.

    Raises StoreError if one of `names` is no run or alias in it. Commands call this before they
    load what takes seconds, so that a wrong name is refused at once.
    """
    from mien.runs.store import Store

    store = Store(path)
    for name in names:
        store.run(name)
    return store


def print_wrapped(head: str, text: str, indent: int | None = None) -> None:
    """Print `head` and then `text`, wrapped at spaces to the width of the terminal.

    Further lines begin below the text, or `indent` characters from the left. Without a terminal,
    the text is one line.
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


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII; numbers that are not finite become null."""
    import json

    print(json.dumps(_replace_infinite(value), indent=2, allow_nan=False))


def _replace_infinite(value: Any) -> Any:
    """Return a value of JSON with None for each number that is not finite."""
    if isinstance(value, dict):
        return {key: _replace_infinite(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_infinite(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_facts(run: "Run", aliases: Mapping[str, str]) -> dict[str, Any]:
    """Return what `--json` says of a run; `aliases` are those of its store."""
    about = run.about
    return {
        "name": run.name,
        "aliases": [alias for alias, target in aliases.items() if target == run.name],
        "stage": run.stage,
        "holds": describe_content(run),
        "made": about.get("made"),
        "seconds": about.get("seconds"),
        "path": str(run.path),
    }


def print_table(table: Any) -> None:
    """Print a rich Table, at most as wide as the terminal; without one, at its full width.

    Texts in it are printed literally: rich's markup is off, and control characters are made
    visible.
    """
    from mien.runs.progress import make_console

    for column in table.columns:
        column.header = _make_cell_visible(column.header)
        column._cells = [_make_cell_visible(cell) for cell in column._cells]
    if sys.stdout.isatty():
        make_console().print(table)
        return
    with (wide := make_console(width=1000)).capture() as captured:
        wide.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_next(command: Sequence[str], store: Path | None = None) -> None:
    """Print the next command of the pipeline, ready to paste.

    It names the store unless that is the default or the one of MIEN_STORE.
    """
    names_store = store is not None and store not in (DEFAULT_STORE, _STORE_FROM_ENVIRONMENT)
    words = [*command, *(["--store", str(store)] if names_store else [])]
    print(
        f"next: {' '.join(word if word.startswith('<') else shlex.quote(word) for word in words)}"
    )


def _make_cell_visible(cell: Any) -> Any:
    """Return a cell of a table with its control characters made visible."""
    from rich.text import Text

    if isinstance(cell, Text) and not cell.spans:
        return Text(show_controls(cell.plain, keep=""), style=cell.style)
    return show_controls(cell, keep="") if isinstance(cell, str) else cell
