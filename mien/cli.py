"""The command line: one short command a stage, in the order of the pipeline.

Commands parse, call one library function, and print. This is the one module that imports inside functions, so that
`mien --help` starts in a blink.
"""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import __version__
from mien.errors import MienError, SpecError, TrialsFailed, UsageError

if TYPE_CHECKING:
    from mien.store import Run, Store

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
study_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="MIEN_STORE", help="The folder that holds all runs.", metavar="DIR")
]
AliasOption = Annotated[str | None, typer.Option("--as", help="A readable name for the result.", metavar="NAME")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="A part of the study, such as setting=real_to_real,classifier=vgg16; also ablation, control, trial, fold.",
    ),
]
STORE = Path("mien-store")
INTERRUPTED = 130


def print_version(wanted: bool) -> bool:
    """Print the version, if it was asked for, and stop."""
    if wanted:
        print(f"mien {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    store: Annotated[
        Path | None, typer.Option("--store", help="The folder that holds all runs (or MIEN_STORE).", metavar="DIR")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Build synthetic facial-expression databases and prove what they are worth.

    toy -> ingest -> preprocess -> split -> train -> generate -> study -> report; `mien demo` does all of it.
    """
    if store is not None:
        os.environ["MIEN_STORE"] = str(store)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where its dataset, store and report go.")] = Path("mien-demo"),
    device: DeviceOption = "auto",
) -> None:
    """Do all of it on drawn faces, in some minutes.

    Faces are drawn and become a dataset, a diffusion model is trained on it and makes a synthetic database, classifiers
    are trained on both, and a report tells what came out. Stopped, the same command continues.
    """
    from mien import demo as module

    module.run(folder, device)


@app.command()
def toy(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    subjects: Annotated[int, typer.Option(help="How many people are drawn.")] = 26,
    clips: Annotated[int, typer.Option(help="How many clips they show in all.")] = 255,
    seed: Annotated[int, typer.Option(help="Another seed draws other people.")] = 0,
    balance: Annotated[
        str, typer.Option(help="casme2: the sheet's class proportions; even: equal classes.")
    ] = "casme2",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
) -> None:
    """Draw a dataset in CASME II's own layout.

    The faces are nobody's, and free to use (CC0).
    """
    from mien.ingest import toy as module
    from mien.progress import track

    with track("drawing clips", clips) as bar:
        drawn = module.draw(folder, subjects, clips, seed, workers, balance, lambda done, total: bar.update(done))
    print(f"{folder}: {drawn.subjects} people, {drawn.clips} clips, {drawn.images:,} images")
    print(f"next: mien ingest casme2 {folder} --name drawn --as drawn")


@app.command()
def ingest(
    reader: Annotated[str, typer.Argument(help="casme2, or folder for class folders and metadata.csv.")],
    folder: Annotated[Path, typer.Argument(help="The dataset's folder; it is only read.")],
    name: Annotated[str | None, typer.Option(help="The dataset's name, in keys and subjects.")] = None,
    size: Annotated[int, typer.Option(help="Height and width to resize to, in pixels.")] = 48,
    colour: Annotated[str, typer.Option(help="grey or rgb.")] = "grey",
    filter: Annotated[str, typer.Option(help="box, bilinear, bicubic or lanczos; all antialiased.")] = "bilinear",
    subject_pattern: Annotated[
        str | None, typer.Option(help="folder: a regular expression; its first group in the path is the subject.")
    ] = None,
    clip_pattern: Annotated[
        str | None, typer.Option(help="folder: a regular expression; its first group in the path is the clip.")
    ] = None,
    map: Annotated[
        list[str] | None, typer.Option(help="A class name to fold, such as joy=happiness; may be repeated.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="folder: the column of metadata.csv with the class.")] = None,
    subject_column: Annotated[str | None, typer.Option(help="folder: the column with the subject.")] = None,
    clip_column: Annotated[str | None, typer.Option(help="folder: the column with the clip.")] = None,
    frame_column: Annotated[str | None, typer.Option(help="folder: the column with the frame's number.")] = None,
    sheet: Annotated[
        str | None, typer.Option(help="casme2: the coding sheet's file name; the newest by default.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="What the images may be used for, where mien cannot know.")
    ] = None,
    skip_unreadable: Annotated[bool, typer.Option(help="Leave unreadable images out, and report them.")] = False,
    workers: Annotated[int | None, typer.Option(help="Threads; by default one a core.")] = None,
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Read a licensed dataset folder into the store."""
    from mien import ingest as module

    folds = pairs(map or [], "--map")
    run = module.run(
        reader,
        folder,
        _store(store),
        name=name,
        size=size,
        colour=colour,
        filter=filter,
        subject_pattern=subject_pattern,
        clip_pattern=clip_pattern,
        label_column=label_column,
        subject_column=subject_column,
        clip_column=clip_column,
        frame_column=frame_column,
        sheet=sheet,
        licence=licence,
        map=folds,
        skip_unreadable=skip_unreadable,
        workers=workers,
        alias=alias,
    )
    show_run(run, alias)


@app.command()
def preprocess(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds faces.")],
    frames: Annotated[str, typer.Option(help="apex: a window around each clip's apex; all.")] = "apex",
    window: Annotated[int, typer.Option(help="Frames on either side of the apex.")] = 5,
    every: Annotated[int, typer.Option(help="Keep every n-th frame of a clip.")] = 1,
    size: Annotated[int | None, typer.Option(help="Height and width to resize to; as they are by default.")] = None,
    filter: Annotated[str, typer.Option(help="box, bilinear, bicubic or lanczos; all antialiased.")] = "bilinear",
    classes: Annotated[str, typer.Option(help="Fold to a class set: preprint-7, casme2-5 or megc2019-3.")] = "",
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Choose frames of each clip, resize, and fold classes."""
    from mien import preprocess as module
    from mien.spec import read_spec

    home = _store(store)
    data = {"faces": home.run(dataset).name, "frames": frames, "window": window, "every": every, "size": size}
    spec = read_spec(module.PreprocessSpec, {**data, "filter": filter, "classes": classes}, "preprocess")
    show_run(module.run(spec, home, alias=alias), alias)


@app.command()
def split(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds faces.")],
    by: Annotated[str, typer.Option(help="What stays together: subject, clip or frame.")] = "subject",
    folds: Annotated[int, typer.Option(help="How many folds; the test side is one of them.")] = 5,
    number: Annotated[int, typer.Option(help="Which fold is the test side, from 0.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed makes other folds.")] = 0,
    alias: Annotated[
        str | None, typer.Option("--as", help="NAME-train and NAME-test are what the sides are called.", metavar="NAME")
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Split a dataset into a training and a test side.

    The sides share no subject; with --by clip or --by frame, no clip or no frame.
    """
    from mien import splits as module
    from mien.spec import read_spec

    home = _store(store)
    data = {"faces": home.run(dataset).name, "by": by, "folds": folds, "number": number, "seed": seed}
    for side in ("train", "test"):
        named = f"{alias}-{side}" if alias else None
        spec = read_spec(module.SplitSpec, {**data, "side": side}, "split")
        show_run(module.run(spec, home, alias=named), named)


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds the training faces.")],
    preset: Annotated[
        str,
        typer.Option(
            help="nano (processor minutes), tiny (a night), base (a card of 6 GB; also called default), large (a data "
            "centre's card); paper, the preprint's equations; smoke, for tests; gaussian or copycat, for comparison."
        ),
    ] = "default",
    minutes: Annotated[float | None, typer.Option(help="Train for about so long on this machine.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any field of the preset, such as batch=32; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed trains another network.")] = 0,
    memory: Annotated[
        str | None,
        typer.Option(help="Stay within so much memory, such as 6GB, by working on less of a batch at a time."),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="Show the training in TensorBoard: pip install 'mien[tensorboard]'.", metavar="DIR"),
    ] = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Train a generator: a class-conditional diffusion model, unless the preset is one that others are compared with.

    Stopped, the same command continues from the last checkpoint, and ends with the same weights. Several processes
    share the work under torch's launcher: torchrun --nproc-per-node 2 -m mien train ...
    """
    from mien import generators as module

    home, given = _store(store), fields(settings or [])
    for name in ("faces", "seed"):
        if name in given:
            raise UsageError(f"{name} must not be given by --set: mien train DATASET --seed N says it")
    limit = module.bytes_of(memory) if memory is not None else None
    spec = module.preset(preset, home.run(dataset).name, {**given, "seed": seed})
    if "precision" not in given:
        spec = module.suited(spec, device)
    with module.joined(device) as crew:
        if minutes is not None and crew.size > 1:
            raise UsageError("--minutes must stand with one process; give several --set images_seen=N")
        if minutes is not None:
            spec = module.calibrated(spec, minutes, home, device=device)
        run = module.train(spec, home, alias=alias, device=device, means=module.Means(limit, crew, tensorboard))
        if crew.leads:
            show_run(run, alias)


@app.command()
def generate(
    generator: Annotated[str, typer.Argument(help="A run or alias of a trained generator.")],
    counts: Annotated[
        str, typer.Option(help="preprint, like:DATASET, balanced:N (in all), or happiness=100,fear=50.")
    ] = "preprint",
    steps: Annotated[int | None, typer.Option(help="Sampling steps; the model's own number by default.")] = None,
    sampler: Annotated[str | None, typer.Option(help="dpmpp2m, unipc, heun, euler or ancestral.")] = None,
    guidance: Annotated[float, typer.Option(help="1 = none, which is best for training classifiers.")] = 1.0,
    guide: Annotated[
        str, typer.Option(help="What guidance leads away from: label (what has none), or early (a less trained copy).")
    ] = "label",
    seed: Annotated[int, typer.Option(help="Another seed makes other images.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processor cores to work on; all by default.")] = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Make a synthetic database with exact counts a class.

    Each image has a seed of its own and can be made again alone. Stopped, the same command continues.
    """
    from mien import generators as module

    home = _store(store)
    run = home.run(generator)
    how = {"steps": steps, "sampler": sampler, "guidance": guidance, "guide": guide}
    spec = module.order(run, counts, home, seed=seed, **how)
    show_run(module.generate(spec, home, alias=alias, device=device, workers=workers), alias)


@app.command()
def export(
    generator: Annotated[str, typer.Argument(help="A run or alias of a trained generator.")],
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet, or is empty.", metavar="DIR")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="program: for torch and numpy alone; diffusers: its scheduler, too.", metavar="FORMAT"
        ),
    ] = "program",
    store: StoreOption = STORE,
) -> None:
    """Write a generator to a folder that draws without mien.

    The denoiser becomes a program of torch.export. Classes of diffusers cannot hold the network, but one of its
    schedulers holds the noise schedule: --format diffusers adds it. The licence goes with the folder.
    """
    import json

    from mien import export as module

    folder = module.export(_store(store).run(generator), out, form)
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    print(f"{folder}: {about['kind']}, {', '.join(about['classes'])}")
    for name, text in module.parts(about).items():
        print(f"  {name}: {text}")
    print(f"licence of what it learnt from, which goes with it: {about['licence']}")


@study_app.command("plan")
def study_plan(
    study: Annotated[Path, typer.Argument(help="A study file (TOML).")],
    only: OnlyOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = STORE,
) -> None:
    """Say what a study would train, what of it is done, and how long the rest should take on this machine.

    The time is worked out from one batch of each network, timed here the first time.
    """
    from mien import cost
    from mien import study as module

    home = _store(store)
    resolved = module.read(study, home)
    wanted = module.parse_only(only or [], resolved)
    plan = module.plan(resolved, home)
    rows = module.chosen(plan.rows, wanted)
    print(module.describe(plan), flush=True)
    why = module.explain([row for row in rows if row.spec.name not in plan.done], wanted)
    if why:
        print(why)
    print(cost.describe(cost.costs(plan, rows, home, device), device))


@study_app.command("run")
def study_run(
    study: Annotated[Path, typer.Argument(help="A study file (TOML).")],
    only: OnlyOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = STORE,
) -> None:
    """Run what is missing of a study.

    A failed trial does not stop the others; the exit code is 5 then.
    """
    from mien import report as reports
    from mien import study as module

    home = _store(store)
    resolved = module.read(study, home)
    wanted = module.parse_only(only or [], resolved)
    try:
        module.run(resolved, home, device=device, only=wanted)
    except TrialsFailed:
        reports.show(resolved.title, home)
        raise
    reports.show(resolved.title, home)


@study_app.command("status")
def study_status(
    study: Annotated[str, typer.Argument(help="A study's name, or its file.")], store: StoreOption = STORE
) -> None:
    """Say how far a study is, also while it runs elsewhere."""
    from mien import results

    home = _store(store)
    print(results.status(_recorded(study, home), home))


@app.command()
def report(
    studies: Annotated[list[str], typer.Argument(help="Names of studies, or their files: one report of all.")],
    out: Annotated[Path | None, typer.Option(help="A folder; report-NAME by default.", metavar="DIR")] = None,
    store: StoreOption = STORE,
) -> None:
    """Write the report of one or more studies: HTML, Markdown, LaTeX and CSV.

    It is made from what is there, also while a study runs; the HTML file opens without a network. Given the same
    study under several protocols, it sets them side by side, beside the published numbers.
    """
    from mien import report as module

    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder, and {out} is a file; give another path")
    home = _store(store)
    names = [_recorded(name, home) for name in studies]
    page = module.make(names, home, out)
    for name in names:
        module.show(name, home)
    print(page)


@app.command("ls")
def list_runs(
    stage: Annotated[str | None, typer.Argument(help="Only runs of this stage.")] = None, store: StoreOption = STORE
) -> None:
    """List the runs of the store, oldest first."""
    from rich.table import Table

    from mien.store import Run

    home = _store(store)
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
    _print(table)
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
    home = _store(store)
    run = home.run(name)
    show_run(run, None)
    show_details(run, home)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="A run or alias; all runs by default.")] = None,
    store: StoreOption = STORE,
) -> None:
    """Check every file of a run against its sha256."""
    from mien.errors import StoreError
    from mien.store import Run

    home = _store(store)
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


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A run or alias that nothing else was made from.")],
    store: StoreOption = STORE,
) -> None:
    """Delete a run that nothing else was made from."""
    for gone in _store(store).remove(name):
        print(f"deleted {gone}")


app.add_typer(study_app, name="study", help="Plan and run a study: settings, classifiers, trials.")


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """Return {"joy": "happiness"} for ["joy=happiness"]; raises UsageError on anything else."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{option} must be given as NAME=VALUE; given: '{text}'")
        found[key.strip()] = value.strip()
    return found


def fields(texts: list[str]) -> dict[str, Any]:
    """Return the spec fields that `--set` gives: values are read as TOML, and as text where they are none.

    A dot leads into a nested table: net.width=64.
    """
    import tomllib

    found: dict[str, Any] = {}
    for path, text in pairs(texts, "--set").items():
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *tables, last = path.split(".")
        place = found
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise SpecError(f"--set {path}: '{table}' was given a value already, and cannot have fields")
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
            table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
        _print(table)


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
        print(f"file     {name}  {known['size']:,} bytes")
    print(json.dumps(run.spec, indent=2))


def holds(run: "Run") -> str:
    """Say in a few words what a run holds."""
    about = run.summary
    if "holds" in about:
        return str(about["holds"])
    total = next((row for row in about.get("counts", []) if row["class"] == "total"), None)
    if total is None:
        return run.stage
    parts = [f"{total[name]:,} {name}" for name in ("images", "clips", "subjects") if total[name]]
    return ", ".join(parts)


def _recorded(name: str, home: "Store") -> str:
    """Return the study's name, or the run of its file."""
    if not name.endswith(".toml"):
        return name
    from mien import study

    return study.recorded(Path(name), home)


def _store(path: Path) -> "Store":
    from mien.store import Store

    return Store(path)


def _print(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def main() -> None:
    """Run the command line; an error is one message on stderr and an exit code.

    0 done, 1 a fault in mien, 2 something in the command or its input, 5 some trials failed, 130 interrupted.
    """
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        usage = getattr(error, "show", None)  # prints the usage line too
        usage() if usage else print(f"Error: {error.message}", file=sys.stderr)
        code = error.exit_code
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        todo = {errno.ENOSPC: "make room", errno.ENOENT: "check the path"}.get(error.errno, "choose another folder")
        print(f"mien: {error.filename}: {error.strerror}; {todo}", file=sys.stderr)
        code = 1
    if code == INTERRUPTED:
        print("mien: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
