"""Studies: planned, run, watched and reported."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.base import (
    STORE,
    DeviceOption,
    EngineOption,
    GpusOption,
    StoreOption,
    WorkersOption,
    app,
    open_store,
    show_next,
)
from mien.errors import TrialsFailed

if TYPE_CHECKING:
    from mien.store import Store

study_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(study_app, name="study", help="Plan and run a study: settings, classifiers, trials.")

OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help=(
            "A part of the study, such as setting=real_to_real,classifier=vgg16; also ablation, "
            "control, trial, fold."
        ),
    ),
]


@study_app.command("plan")
def study_plan(
    study: Annotated[Path, typer.Argument(help="A study file (TOML).")],
    only: OnlyOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Say as well how long it takes with so many jobs at a time, such as a card each."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Time a batch of each network here, in place of an estimate."
        ),
    ] = False,
    device: DeviceOption = "auto",
    store: StoreOption = STORE,
) -> None:
    """Say what a study would train, what of it is done, and how long the rest should take on this
    machine.

    The time is estimated from what each network takes, in seconds and right to a factor of two;
    --measure times a batch of each, which can take minutes, and is remembered. The exit code is 2
    if weights are missing.
    """
    from mien import cost
    from mien import study as module

    home = open_store(store)
    resolved = module.read(study, home)
    wanted = module.parse_only(only or [], resolved)
    plan = module.plan(resolved, home)
    rows = module.chosen(plan.rows, wanted)
    print(module.describe(plan), flush=True)
    why = module.explain([row for row in rows if row.spec.name not in plan.done], wanted)
    if why:
        print(why)
    print(cost.describe(cost.costs(plan, rows, home, device, measure), device))
    if workers is not None:
        print(cost.side_by_side(plan, rows, home, device, workers))
    module.require_weights([row for row in rows if row.spec.name not in plan.done])
    show_next(["mien", "study", "run", str(study)], store)


@study_app.command("run")
def study_run(
    study: Annotated[Path, typer.Argument(help="A study file (TOML).")],
    only: OnlyOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    gpus_per_trial: GpusOption = 1.0,
    device: DeviceOption = "auto",
    store: StoreOption = STORE,
) -> None:
    """Run what is missing of a study, each job in a process of its own.

    A failed trial does not stop the others; the exit code is 5 then. Ctrl-C lets what runs keep its
    checkpoints, a second one stops at once; the same command goes on. Several commands, on several
    machines with one store, share it.
    """
    from mien import engine as engines
    from mien import report as reports
    from mien import study as module

    home = open_store(store)
    resolved = module.read(study, home)
    wanted = module.parse_only(only or [], resolved)
    try:
        where = engines.engine(engine, workers, gpus_per_trial, device)
        module.run(resolved, home, device=device, only=wanted, engine=where)
    except TrialsFailed:
        reports.show(resolved.title, home)
        raise
    reports.show(resolved.title, home)
    show_next(["mien", "report", resolved.title], store)


@study_app.command("status")
def study_status(
    study: Annotated[str, typer.Argument(help="A study's name, or its file.")],
    store: StoreOption = STORE,
) -> None:
    """Say how far a study is, also while it runs elsewhere."""
    from mien import results

    home = open_store(store)
    print(results.status(_recorded(study, home), home))


@app.command()
def report(
    studies: Annotated[
        list[str], typer.Argument(help="Names of studies, or their files: one report of all.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A folder; report-NAME by default.", metavar="DIR")
    ] = None,
    real_faces: Annotated[
        bool | None,
        typer.Option(
            "--real-faces/--no-real-faces",
            help=(
                "Put pictures of some real people into the page; by default only if all their "
                "licences are free."
            ),
            show_default=False,
        ),
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Write the report of one or more studies: HTML, Markdown, LaTeX and CSV.

    It is made from what is there, also while a study runs; the HTML file opens without a network.
    Given the same study under several protocols, it sets them side by side, beside the published
    numbers.
    """
    from mien import folders
    from mien import report as module

    if out is not None:
        folders.fillable(out)
    home = open_store(store)
    names = [_recorded(name, home) for name in studies]
    page = module.make(names, home, out, real_faces)
    for name in names:
        module.show(name, home)
    print(page)


def _recorded(name: str, home: "Store") -> str:
    """Return the study's name, or the run of its file."""
    if not name.endswith(".toml"):
        return name
    from mien import study

    return study.recorded(Path(name), home)
