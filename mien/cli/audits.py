"""The command that audits a synthetic database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    AliasOption,
    ClipOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    MapOption,
    SizeOption,
    StoreOption,
    SubjectOption,
    WorkersOption,
    app,
    open_store,
    print_json,
    print_wrapped,
    read_pairs,
    run_facts,
    show_next,
    show_run,
)
from mien.errors import UsageError

if TYPE_CHECKING:
    from mien.audit.specs import SpaceName


SHOWN_CHECKS = 12  # the most checks that are printed, the worst first

OUTCOME_COLUMN_WIDTH = 13  # width of the column of outcomes on the terminal, in characters


@app.command("audit", short_help="Judge a synthetic database: is it good enough to release?")
def audit_command(
    synthetic: Annotated[
        str, typer.Argument(help="Synthetic faces: a run, an alias, or a folder of class folders.")
    ],
    train: Annotated[
        str | None,
        typer.Option(
            help="The real faces that its generator was trained on: a run, an alias or a folder.",
            metavar="DATASET",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Real faces of held-out subjects, for comparison.", metavar="DATASET"),
    ] = None,
    spaces: Annotated[
        str,
        typer.Option(
            help="The feature spaces: pixels, random, judge, inception, dinov2; comma-separated."
        ),
    ] = "pixels,random,judge",
    filter: Annotated[
        str, typer.Option(help="The filter for resizing: box, bilinear, bicubic or lanczos.")
    ] = "bilinear",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="The file of weights of a feature space, such as dinov2=FILE. Repeatable."
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="A network of your own that recognises people, as NAME=FILE.toml: the audit looks "
            "for training people with it. The file states network, weights and size.",
            metavar="NAME=FILE",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with other thresholds for warnings and failures.", metavar="FILE"
        ),
    ] = None,
    subject_pattern: SubjectOption = None,
    clip_pattern: ClipOption = None,
    map: MapOption = None,
    size: SizeOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Audit a synthetic database: is it realistic, new and correctly labelled, and could we tell?

    Each set is a run of the store or a plain folder. Without --test, the questions that need
    held-out subjects cannot be answered.

    The command writes audit.json and a page that opens without a network. The exit code is 4 if the
    audit fails, or if the data are too few to tell. Measurements are kept: with other thresholds
    the answer comes at once, and a stopped command resumes where it was stopped.
    """
    from mien.audit import plain_folders
    from mien.audit.memorisation.recogniser_file import read_recogniser
    from mien.audit.specs import AuditSpec
    from mien.runs.spec import read_spec

    # Check everything that the user gave before any data are read, and most of it before torch is
    # loaded.
    if train is None:
        raise UsageError(
            "--train must name the real faces that the generator was trained on: a run, an alias "
            "or a folder; without them the audit cannot look for copies. Give --train"
        )
    home = open_store(store)
    files = _read_weight_files(read_pairs(weights or [], "--weights"), spaces)
    named_spaces = read_pairs(space or [], "--space")
    recogniser = read_recogniser({name: Path(file) for name, file in named_spaces.items()})
    request: dict[str, Any] = {
        "spaces": [name.strip() for name in spaces.split(",")],
        "filter": filter,
        "thresholds": {},
    }
    read_spec(AuditSpec, {**request, "synthetic": synthetic, "train": train}, "audit")
    names = {"synthetic": synthetic, "train": train, **({} if test is None else {"test": test})}
    how = plain_folders.make_reading(
        [*names][1:],
        subject_pattern or [],
        clip_pattern or [],
        read_pairs(map or [], "--map"),
        size,
    )
    sides = plain_folders.find_sides(names, how, home)

    from mien.audit import verdict
    from mien.audit.features import require_weights
    from mien.audit.memorisation.recogniser import import_recogniser
    from mien.audit.run import choose_worker_count, run_audit
    from mien.classifiers.pretrained import import_weights
    from mien.runs.engine import make_engine

    request["thresholds"] = verdict.read_thresholds(thresholds)

    # Read folders into the store, so that each set is a run.
    for name, file in files.items():
        require_weights(name, file, home)
    request["weights"] = {name: import_weights(file, home) for name, file in files.items()}
    if recogniser is not None:
        request["recogniser"] = import_recogniser(recogniser, home).model_dump()
    runs = plain_folders.mark_sides(sides, plain_folders.read_sides(sides, how, home), home)
    run_names = {side: run.name for side, run in runs.items()}
    spec = read_spec(AuditSpec, {**request, **run_names}, "audit")

    # Measure, in this process if starting workers would take longer than the work.
    if engine == "local":
        workers = choose_worker_count(runs.values(), workers)
    chosen_engine = make_engine(engine, workers, device=device)
    run = run_audit(spec, home, alias=alias, device=device, engine=chosen_engine)

    # Print the answers, and exit with 4 unless the verdict allows a release.
    audit = run.read_json("audit.json")
    if as_json:
        print_json(
            {**run_facts(run, home.read_aliases()), "page": str(run.path / "index.html"), **audit}
        )
        _require_passed(audit)
        return
    _print_checks(audit["checks"])
    _print_answer(audit)
    print(f"{run.name}{f' ({alias})' if alias else ''}: {run.summary['holds']}")
    print(f"the page: {run.path / 'index.html'}")
    _require_passed(audit)
    show_next(["mien", "publish", "build", synthetic, "--out", "release"], store)


@app.command("map", short_help="Place real and synthetic faces in a plane, for the studio.")
def map_command(
    synthetic: Annotated[str, typer.Argument(help="A run or alias of synthetic faces.")],
    train: Annotated[
        str | None,
        typer.Option(
            help="The real faces that its generator was trained on; by default those that the "
            "store knows.",
            metavar="DATASET",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Real faces of held-out subjects; by default the other side of the split.",
            metavar="DATASET",
        ),
    ] = None,
    space: Annotated[
        str,
        typer.Option(
            help="The feature space: judge, random, pixels, inception or dinov2. With judge, a "
            "small classifier also judges the label of each face."
        ),
    ] = "judge",
    points: Annotated[
        int, typer.Option(help="The most faces of each side, evenly spaced in their set.")
    ] = 2000,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Place real, held-out and synthetic faces in a plane, for the page Map of `mien studio`.

    The axes are those on which the features of the training faces vary most. Each face also has the
    distance to its nearest training face.
    """
    from mien.audit.origin import find_real_sides
    from mien.audit.specs import MapSpec
    from mien.runs.spec import read_spec

    # The sides that were not named, and the spec
    home = open_store(store)
    database = home.run(synthetic)
    sides = (train, test) if train is not None else find_real_sides(database, home)
    fields = {
        "synthetic": database.name,
        "train": home.run(str(sides[0])).name,
        "test": home.run(name).name if (name := test or sides[1]) else "",
        "space": space,
        "points": points,
    }
    spec = read_spec(MapSpec, fields, "map")

    from mien.audit.features import require_hub_weights
    from mien.audit.mapping import make_map

    # Missing weights are refused here, with what this command can do without them
    if not home.is_done(spec.name):
        require_hub_weights(
            [spec.space], "For a map, give --space judge, random or pixels, which need no weights"
        )
    show_run(make_map(spec, home, alias=alias, device=device), alias)
    show_next(["mien", "studio"], store)


def _require_passed(audit: dict[str, Any]) -> None:
    """Raise AuditFailed unless the verdict is pass or warn, with the reason."""
    from mien.errors import AuditFailed

    if audit["verdict"] == "fail":
        failed = [check["name"] for check in audit["checks"] if check["verdict"] == "fail"]
        raise AuditFailed(
            f"the audit failed on {', '.join(dict.fromkeys(failed))}; the page says why, and "
            "--thresholds FILE sets other limits"
        )
    if audit["verdict"] == "cannot tell":
        # Say how much data would be enough: the largest number of people, and all other needs.
        unanswered = [
            question for question in audit["questions"] if question["verdict"] == "cannot tell"
        ]
        most = max(unanswered, key=lambda question: question["people"])
        other_remedies = [
            question["enough"]
            for question in unanswered
            if question["enough"] and not question["people"]
        ]
        enough = "; ".join(
            dict.fromkeys([*([most["enough"]] if most["people"] else []), *other_remedies])
        )
        raise AuditFailed(
            f"the audit cannot tell: {' '.join(question['title'] for question in unanswered)} "
            f"{f'Enough would be: {enough}' if enough else 'The page says why'}"
        )


def _print_answer(audit: dict[str, Any]) -> None:
    """Print notes and changed thresholds, and the answer to each question with its reason."""
    for note in audit["notes"]:
        print_wrapped("note".ljust(OUTCOME_COLUMN_WIDTH), note)
    for change in audit["thresholds_changed"]:
        print_wrapped(
            "changed".ljust(OUTCOME_COLUMN_WIDTH),
            f"{change['text']}{' (looser than the default)' * change['looser']}",
        )
    for question in audit["questions"]:
        enough = f". Enough would be: {question['enough']}" if question["enough"] else ""
        print_wrapped(
            question["verdict"].ljust(OUTCOME_COLUMN_WIDTH),
            f"{question['title']} {question['why']}{enough}",
        )


def _read_weight_files(named: dict[str, str], spaces: str) -> "dict[SpaceName, Path]":
    """Return the file of weights of each space.

    Raises UsageError for a space that takes no file, or that --spaces does not name.
    """
    if not named:
        return {}  # without loading torch
    from mien.audit.features import NETWORKS

    space_names = {name.strip() for name in spaces.split(",")}
    for name in named:
        if name not in NETWORKS:
            raise UsageError(
                f"--weights must name a space that takes a file: {', '.join(NETWORKS)}; given: "
                f"'{name}'"
            )
        if name not in space_names:
            raise UsageError(
                f"--weights {name}=FILE needs the space {name} in --spaces; given: {spaces}"
            )
    return {name: Path(named[name]) for name in NETWORKS if name in named}


def _print_checks(checks: list[dict[str, Any]]) -> None:
    """Print the first checks that do not pass: the name, the number and its limits."""
    from mien.audit.page import format_number

    # Select them; a class is not listed for a note that the complete set has too.
    not_passed = [check for check in checks if check["verdict"] != "pass"]
    notes_of_set = {(check["name"], check["note"]) for check in not_passed if not check["part"]}
    listed_checks = [
        check
        for check in not_passed
        if not (check["part"] and check["note"] and (check["name"], check["note"]) in notes_of_set)
    ]

    # Print them, each with the value, its interval, and what it is compared with.
    for check in listed_checks[:SHOWN_CHECKS]:
        name = f"{check['name']} ({check['part']})" if check["part"] else check["name"]
        bounds = (
            ""
            if check["low"] is None
            else f" [{format_number(check['low'])}, {format_number(check['high'])}]"
        )
        against = (
            "" if check["reference"] is None else f" against {format_number(check['reference'])}"
        )
        value = (
            "" if check["value"] is None else f" {format_number(check['value'])}{bounds}{against};"
        )
        print_wrapped(
            check["verdict"].ljust(OUTCOME_COLUMN_WIDTH),
            f"{name}{value} {check['note'] or check['threshold']}",
        )
    hidden_count = len(not_passed) - min(len(listed_checks), SHOWN_CHECKS)
    if hidden_count > 0:
        print(f"and {hidden_count} more checks that do not pass; the page lists all of them")
