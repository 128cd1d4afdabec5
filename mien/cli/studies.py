"""Studies: their plan, their run, their status and their report."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    DeviceOption,
    EngineOption,
    GpusOption,
    JsonOption,
    StoreOption,
    WorkersOption,
    app,
    open_store,
    print_json,
    show_next,
)
from mien.errors import TrialsFailed, UsageError

if TYPE_CHECKING:
    from mien.runs.store import Store
    from mien.study.cost import Cost, Duration
    from mien.study.specs import StudyPlan, TrialRow


study_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

app.add_typer(study_app, name="study", help="Plan and run a study: settings, classifiers, trials.")

StudyArgument = Annotated[
    str, typer.Argument(help="A study file (TOML), or a study that comes with mien, as in list.")
]

OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help=(
            "Only a part of the study, such as setting=real_to_real,classifier=vgg16; the keys "
            "are setting, classifier, ablation, control, trial and fold."
        ),
    ),
]


@study_app.command("list", short_help="List the studies that come with mien.")
def study_list(as_json: JsonOption = False) -> None:
    """List the studies that come with mien, with their files, which you can copy and change."""
    from mien.study.fields import describe_study, list_studies

    studies = [
        {"name": name, "about": describe_study(path), "path": str(path)}
        for name, path in list_studies().items()
    ]
    if as_json:
        print_json({"studies": studies})
        return
    for study in studies:
        print(f"{study['name']:<10} {study['about']}\n{'':<10} {study['path']}")


@study_app.command("plan", short_help="List what a study would train, and how long it takes.")
def study_plan(
    study: StudyArgument,
    only: OnlyOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Also estimate the time with so many parallel jobs, for example one on each GPU."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Time batches of each network on this machine instead of estimating."
        ),
    ] = False,
    no_timing: Annotated[
        bool,
        typer.Option("--no-timing", help="Stop after the counts, without an estimate of the time."),
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """List what a study would train, what is done, and how long the rest would take here.

    The time is a range. The estimate takes seconds and is accurate to a factor of two. --measure
    times some batches of each network, which can take minutes, and keeps the result; the range is
    then that from the fastest to the slowest batch. The exit code is 2 if weights are missing.
    """
    from mien.study.fields import find_study, require_readable

    # What is wrong with options and file alone is said before torch is loaded
    if no_timing and (measure or workers is not None):
        raise UsageError("--no-timing leaves out all times; omit it, or --measure and --workers")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be 1 or more; given: {workers}")
    home = open_store(store)
    require_readable(study, home)
    path = find_study(study)

    # Read the study, and select the trials that --only names
    from mien.study.file import read_study
    from mien.study.plan import describe_frozen_layers, describe_plan, plan_study
    from mien.study.select import explain_generators, parse_only, select_rows

    resolved = read_study(path, home, check=False)
    selection = parse_only(only or [], resolved)
    plan = plan_study(resolved, home)
    rows = select_rows(plan.rows, selection)

    # Print the trials first: to build the networks takes seconds, and to time them minutes.
    missing = [row for row in rows if row.spec.name not in plan.done]
    if not as_json:
        print(describe_plan(plan), flush=True)
        if why := explain_generators(missing, selection):
            print(why, flush=True)

    # Networks, image sizes and weights are checked before the estimate, which can take minutes.
    from mien.study.cost import (
        describe_costs,
        describe_workers,
        estimate_costs,
        estimate_with_workers,
    )
    from mien.study.run import require_weights

    read_study(path, home)
    if not as_json and (frozen := describe_frozen_layers(plan)):
        print(frozen, flush=True)
    require_weights(missing)
    costs = None if no_timing else estimate_costs(plan, rows, home, device, measure)
    with_workers = None
    if workers is not None:
        with_workers = estimate_with_workers(plan, rows, home, device, workers)
    if as_json:
        print_json(_plan_facts(plan, rows, costs, workers, with_workers))
    elif costs is not None:
        print(describe_costs(costs, device))
        if workers is not None and with_workers is not None:
            print(describe_workers(workers, *with_workers))

    if not as_json:
        chosen = [word for text in only or [] for word in ("--only", text)]
        show_next(["mien", "study", "run", study, *chosen], store)


def _plan_facts(
    plan: "StudyPlan",
    rows: "Sequence[TrialRow]",
    costs: "Sequence[Cost] | None",
    workers: int | None,
    with_workers: "tuple[Duration, float] | None",
) -> dict[str, Any]:
    """Return a plan and its costs as `mien study plan --json` prints them."""
    from mien.study.cost import sum_costs
    from mien.study.plan import count_runs

    selected = dict.fromkeys(row.spec.name for row in rows)
    facts: dict[str, Any] = {
        "study": plan.study.title,
        "run": plan.study.name,
        "runs": [
            {"kind": kind, "total": total, "done": done, "failed": failed}
            for kind, (total, done, failed) in count_runs(plan).items()
        ],
        "selected_trials": len(selected),
        "selected_trials_done": sum(name in plan.done for name in selected),
        "costs": None
        if costs is None
        else [
            {
                "what": cost.label,
                "runs": cost.runs,
                **_make_range_facts(cost.duration),
                "timed": cost.duration.timed,
            }
            for cost in costs
        ],
        **_make_range_facts(None if costs is None else sum_costs(costs)),
        "errors": sorted(set(plan.failed.values())),
        "workers": None,
    }
    if with_workers is not None:
        elapsed, busy = with_workers
        facts["workers"] = {"number": workers, **_make_range_facts(elapsed), "busy": busy}
    return facts


def _make_range_facts(duration: "Duration | None") -> dict[str, float | None]:
    """Return the expected seconds of work and the ends of their range, for `--json`."""
    if duration is None:
        return {"seconds": None, "least_seconds": None, "most_seconds": None}
    return {
        "seconds": duration.seconds,
        "least_seconds": duration.least,
        "most_seconds": duration.most,
    }


@study_app.command("run", short_help="Run the missing trials of a study.")
def study_run(
    study: Annotated[
        str,
        typer.Argument(
            help="A study file (TOML), a study that comes with mien, or a study of the store."
        ),
    ],
    only: OnlyOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    gpus_per_trial: GpusOption = 1.0,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Run the missing trials of a study, each job in a process of its own.

    A failed trial does not stop the others; the exit code is then 5. Ctrl-C lets running jobs save
    their checkpoints; a second Ctrl-C stops at once. The same command resumes. Several commands, on
    several machines with one store, share the work.
    """
    from mien.study.fields import require_readable

    # What is wrong with the file alone is said before torch is loaded
    home = open_store(store)
    require_readable(study, home)

    from mien.report.terminal import print_table
    from mien.runs.engine import make_engine
    from mien.study.file import read_named_study
    from mien.study.run import run_study
    from mien.study.select import parse_only

    resolved = read_named_study(study, home)
    selection = parse_only(only or [], resolved)
    try:
        chosen_engine = make_engine(engine, workers, gpus_per_trial, device)
        run_study(resolved, home, device=device, only=selection, engine=chosen_engine)
    except TrialsFailed:
        print_table(resolved.title, home)
        raise
    print_table(resolved.title, home)
    show_next(["mien", "report", resolved.title], store)


@study_app.command("status", short_help="Show the progress of a study.")
def study_status(
    study: Annotated[str, typer.Argument(help="A study's name, or its file.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a study, also while another command runs it."""
    from mien.study.status import describe_progress, read_progress

    home = open_store(store)
    progress = read_progress(_resolve_study(study, home), home)
    if as_json:
        facts = asdict(progress)
        for counted in ("cells", "controls", "databases"):
            facts[counted] = dict(zip(("done", "total"), facts[counted], strict=True))
        print_json(facts)
    else:
        print(describe_progress(progress))


@app.command(short_help="Write the report of one or more studies.")
def report(
    studies: Annotated[
        list[str], typer.Argument(help="Names or files of studies, for one report of all.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; by default report-NAME.", metavar="DIR"),
    ] = None,
    real_faces: Annotated[
        bool | None,
        typer.Option(
            "--real-faces/--no-real-faces",
            help=(
                "Show pictures of some real people on the page; by default only if all their "
                "licences are free."
            ),
            show_default=False,
        ),
    ] = None,
    face_map: Annotated[
        bool,
        typer.Option(
            "--map/--no-map",
            help=(
                "Map real and synthetic faces in the plane; the first time, this trains a small "
                "classifier."
            ),
        ),
    ] = True,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the report of one or more studies: HTML, Markdown, LaTeX and CSV.

    It begins with what was found. It covers the trials done so far, also while a study runs. The
    HTML file opens without a network. For the same study under several protocols, the report
    compares them with each other and with the published numbers.
    """
    from mien.report.terminal import print_table
    from mien.report.write import write_report
    from mien.runs.folders import require_fillable
    from mien.runs.progress import say
    from mien.study.results import StudyResults

    if out is not None:
        require_fillable(out)
    home = open_store(store)
    names = [_resolve_study(name, home) for name in studies]
    for name in names:
        if not StudyResults(name, home).done:
            say(
                f"no trial of {name} is done yet, so its tables are empty; `mien study run` goes on"
            )
    map_faces = None
    if face_map:
        from mien.report.maps import map_faces
    page = write_report(names, home, out, real_faces, map_faces)
    for name in names:
        print_table(name, home)
    print(page)


def _resolve_study(name: str, home: "Store") -> str:
    """Return `name` itself, or the run of the study for a study file.

    Raises StoreError for a study that comes with mien and was never run.
    """
    from mien.errors import StoreError
    from mien.study.fields import list_studies

    if name.endswith(".toml"):
        from mien.study.file import find_recorded_run

        return find_recorded_run(Path(name), home)
    if name in list_studies() and name not in home.read_aliases():
        raise StoreError(
            f"the study {name} has not been run in {home.root}; run it: mien study run {name}"
        )
    return name
