"""Audits: whether a synthetic database is good, new, and shows what its labels say."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli.base import (
    STORE,
    AliasOption,
    ClipOption,
    DeviceOption,
    EngineOption,
    MapOption,
    SizeOption,
    StoreOption,
    SubjectOption,
    WorkersOption,
    app,
    open_store,
    pairs,
    print_table,
    show_next,
)
from mien.errors import UsageError

FEW = 3000  # images below which starting workers takes longer than the work
SHOWN = 12  # checks that are printed, the worst first


@app.command("audit")
def audit_command(
    synthetic: Annotated[str, typer.Argument(help="Synthetic faces: a run, an alias, or a folder of class folders.")],
    train: Annotated[
        str | None, typer.Option(help="The real faces that its generator was trained on, the same.", metavar="DATASET")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Real faces of people never seen: the yardstick.", metavar="DATASET")
    ] = None,
    spaces: Annotated[
        str, typer.Option(help="Spaces to compare in: pixels, random, judge, inception, dinov2.")
    ] = "pixels,random,judge",
    filter: Annotated[
        str, typer.Option(help="How images are resized: box, bilinear, bicubic or lanczos.")
    ] = "bilinear",
    weights: Annotated[
        list[str] | None, typer.Option(help="A file of weights, such as dinov2=FILE; may be repeated.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="A TOML file that changes what warns and what fails.", metavar="FILE")
    ] = None,
    subject_pattern: SubjectOption = None,
    clip_pattern: ClipOption = None,
    map: MapOption = None,
    size: SizeOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Ask of a synthetic database: is it good, is it new, does it show what its label says, and would we know?

    Each side is a set of the store or a plain folder. Without --test, what needs people never seen cannot be told.

    Writes audit.json and a page that opens without a network. The exit code is 4 if it fails. What is measured is kept:
    other thresholds are answered at once, and a command that was stopped goes on with the part at hand.
    """
    from mien import audit as module
    from mien import engine as engines
    from mien.audit import given
    from mien.classifiers import adopt
    from mien.errors import AuditFailed
    from mien.faces import Faces
    from mien.spec import read_spec

    # All that may be wrong is asked about before anything is read.
    if train is None:
        raise UsageError(
            "--train must name the real faces that the generator was trained on: a run, an alias or a folder; without "
            "them nothing can be said about copies. Give --train"
        )
    home = open_store(store)
    limits, files = module.thresholds(thresholds), _files(pairs(weights or [], "--weights"), spaces)
    asked = {
        "spaces": [name.strip() for name in spaces.split(",")],
        "filter": filter,
        "thresholds": limits,
    }
    read_spec(module.AuditSpec, {**asked, "synthetic": synthetic, "train": train}, "audit")
    names = {"synthetic": synthetic, "train": train, **({} if test is None else {"test": test})}
    how = given.reading([*names][1:], subject_pattern or [], clip_pattern or [], pairs(map or [], "--map"), size)
    sides = given.look(names, how, home)

    # Folders are read into the store, and then the audit is of runs.
    asked["weights"] = {name: adopt(file, home) for name, file in files.items()}
    runs = given.as_sides(sides, given.read(sides, how, home), home)
    spec = read_spec(module.AuditSpec, {**asked, **{side: one.name for side, one in runs.items()}}, "audit")
    few = sum(len(Faces.load(one.path)) for one in runs.values()) < FEW
    if engine == "local" and workers is None and few:
        workers = 0
    where = engines.engine(engine, workers, device=device)
    run = module.run(spec, home, alias=alias, device=device, engine=where)
    told = run.json("audit.json")
    _print_checks(told["checks"])
    print(f"{run.name}{f' ({alias})' if alias else ''}: {run.summary['holds']}")
    print(f"the page: {run.path / 'index.html'}")
    if told["verdict"] == "fail":
        failed = [check["name"] for check in told["checks"] if check["verdict"] == "fail"]
        raise AuditFailed(
            f"the audit failed on {', '.join(dict.fromkeys(failed))}; the page says why, and --thresholds FILE sets "
            "other limits"
        )
    show_next(["mien", "publish", "build", synthetic, "--out", "release"], store)


def _files(named: dict[str, str], spaces: str) -> dict[str, Path]:
    """Return the files of weights by space; raises UsageError for a space that takes none, or is not asked for."""
    from mien.features import NETWORKS

    asked = {name.strip() for name in spaces.split(",")}
    for name in named:
        if name not in NETWORKS:
            raise UsageError(f"--weights must name a space that takes a file: {', '.join(NETWORKS)}; given: '{name}'")
        if name not in asked:
            raise UsageError(f"--weights {name}=FILE needs the space {name} in --spaces, which are {spaces}")
    return {name: Path(file) for name, file in named.items()}


def _print_checks(checks: list[dict[str, Any]]) -> None:
    """Print the checks that do not pass, the first twelve."""
    from rich.table import Table

    from mien.audit.page import number

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "check", "class", "number", "95 %", "against", "limits"):
        table.add_column(column)
    shown = [check for check in checks if check["verdict"] != "pass"]
    for check in shown[:SHOWN]:
        bounds = "" if check["low"] is None else f"{number(check['low'])} to {number(check['high'])}"
        against = "" if check["reference"] is None else number(check["reference"])
        limits = check["note"] or check["threshold"]
        table.add_row(check["verdict"], check["name"], check["part"], number(check["value"]), bounds, against, limits)
    if shown:
        print_table(table)
    if len(shown) > SHOWN:
        print(f"and {len(shown) - SHOWN} more")
