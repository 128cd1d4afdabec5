"""Audits: whether a synthetic database is good, new, and shows what its labels say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    print_wrapped,
    show_next,
)
from mien.errors import UsageError

if TYPE_CHECKING:
    from mien.features import SpaceName

FEW = 3000  # images below which starting workers takes longer than the work
SHOWN = 12  # checks that are printed, the worst first
COLUMN = 13  # characters that an outcome takes on the terminal


@app.command("audit")
def audit_command(
    synthetic: Annotated[
        str, typer.Argument(help="Synthetic faces: a run, an alias, or a folder of class folders.")
    ],
    train: Annotated[
        str | None,
        typer.Option(
            help="The real faces that its generator was trained on, the same.", metavar="DATASET"
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Real faces of held-out people: the yardstick.", metavar="DATASET"),
    ] = None,
    spaces: Annotated[
        str, typer.Option(help="Spaces to compare in: pixels, random, judge, inception, dinov2.")
    ] = "pixels,random,judge",
    filter: Annotated[
        str, typer.Option(help="How images are resized: box, bilinear, bicubic or lanczos.")
    ] = "bilinear",
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A file of weights, such as dinov2=FILE; may be repeated."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="A TOML file that changes what warns and what fails.", metavar="FILE"),
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
    """Ask of a synthetic database: is it good, is it new, does it show what its label says, and
    would we know?

    Each side is a set of the store or a plain folder. Without --test, what needs held-out people
    cannot be told.

    Writes audit.json and a page that opens without a network. The exit code is 4 if it fails, or if
    there is too little to tell. What is measured is kept: other thresholds are answered at once,
    and a command that was stopped goes on with the part at hand.
    """
    from mien import audit as module
    from mien import engine as engines
    from mien import features
    from mien.audit import given
    from mien.classifiers import adopt
    from mien.faces import Faces
    from mien.spec import read_spec

    # All that may be wrong is asked about before anything is read.
    if train is None:
        raise UsageError(
            "--train must name the real faces that the generator was trained on: a run, an alias "
            "or a folder; without "
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
    how = given.reading(
        [*names][1:], subject_pattern or [], clip_pattern or [], pairs(map or [], "--map"), size
    )
    sides = given.look(names, how, home)

    # Folders are read into the store, and then the audit is of runs.
    for name, file in files.items():
        features.require_weights(name, file, home)
    asked["weights"] = {name: adopt(file, home) for name, file in files.items()}
    runs = given.as_sides(sides, given.read(sides, how, home), home)
    spec = read_spec(
        module.AuditSpec, {**asked, **{side: one.name for side, one in runs.items()}}, "audit"
    )
    few = sum(len(Faces.load(one.path)) for one in runs.values()) < FEW
    if engine == "local" and workers is None and few:
        workers = 0
    where = engines.engine(engine, workers, device=device)
    run = module.run(spec, home, alias=alias, device=device, engine=where)
    told = run.json("audit.json")
    _print_checks(told["checks"])
    _print_answer(told)
    print(f"{run.name}{f' ({alias})' if alias else ''}: {run.summary['holds']}")
    print(f"the page: {run.path / 'index.html'}")
    _refuse(told)
    show_next(["mien", "publish", "build", synthetic, "--out", "release"], store)


def _refuse(told: dict[str, Any]) -> None:
    """Raise AuditFailed unless the verdict is pass or warn, with the reason."""
    from mien.errors import AuditFailed

    if told["verdict"] == "fail":
        failed = [check["name"] for check in told["checks"] if check["verdict"] == "fail"]
        raise AuditFailed(
            f"the audit failed on {', '.join(dict.fromkeys(failed))}; the page says why, and "
            "--thresholds FILE sets "
            "other limits"
        )
    if told["verdict"] == "cannot tell":
        open_questions = [one for one in told["questions"] if one["verdict"] == "cannot tell"]
        most = max(open_questions, key=lambda one: one["people"])
        others = [one["enough"] for one in open_questions if one["enough"] and not one["people"]]
        enough = "; ".join(dict.fromkeys([*([most["enough"]] if most["people"] else []), *others]))
        raise AuditFailed(
            f"the audit cannot tell: {' '.join(one['title'] for one in open_questions)} "
            f"{f'Enough would be: {enough}' if enough else 'The page says why'}"
        )


def _print_answer(told: dict[str, Any]) -> None:
    """Print what is missing or was changed, and the answer to each question with its reason."""
    for note in told["notes"]:
        print_wrapped("note".ljust(COLUMN), note)
    for change in told["thresholds_changed"]:
        print_wrapped(
            "changed".ljust(COLUMN),
            f"{change['text']}{' (looser than the default)' * change['looser']}",
        )
    for one in told["questions"]:
        enough = f". Enough would be: {one['enough']}" if one["enough"] else ""
        print_wrapped(one["verdict"].ljust(COLUMN), f"{one['title']} {one['why']}{enough}")


def _files(named: dict[str, str], spaces: str) -> "dict[SpaceName, Path]":
    """Return the files of weights by space; raises UsageError for a space that takes none, or is
    not asked for.
    """
    from mien.features import NETWORKS

    asked = {name.strip() for name in spaces.split(",")}
    for name in named:
        if name not in NETWORKS:
            raise UsageError(
                f"--weights must name a space that takes a file: {', '.join(NETWORKS)}; given: "
                f"'{name}'"
            )
        if name not in asked:
            raise UsageError(
                f"--weights {name}=FILE needs the space {name} in --spaces, which are {spaces}"
            )
    return {name: Path(named[name]) for name in NETWORKS if name in named}


def _print_checks(checks: list[dict[str, Any]]) -> None:
    """Print the checks that do not pass, the first twelve: the name, never broken, then the number
    and its limits.
    """
    from mien.audit.page import number

    beyond = [check for check in checks if check["verdict"] != "pass"]
    whole = {(check["name"], check["note"]) for check in beyond if not check["part"]}
    # A class that lacks what the whole set lacks tells nothing more.
    shown = [
        one
        for one in beyond
        if not (one["part"] and one["note"] and (one["name"], one["note"]) in whole)
    ]
    for check in shown[:SHOWN]:
        name = f"{check['name']} ({check['part']})" if check["part"] else check["name"]
        bounds = (
            "" if check["low"] is None else f" [{number(check['low'])}, {number(check['high'])}]"
        )
        against = "" if check["reference"] is None else f" against {number(check['reference'])}"
        value = "" if check["value"] is None else f" {number(check['value'])}{bounds}{against};"
        print_wrapped(
            check["verdict"].ljust(COLUMN), f"{name}{value} {check['note'] or check['threshold']}"
        )
    if len(beyond) > min(len(shown), SHOWN):
        print(
            f"and {len(beyond) - min(len(shown), SHOWN)} more checks that do not pass; the page "
            "has them all"
        )
