"""Leakage between two sets, and the review of doubtful labels."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    AliasOption,
    ClipOption,
    JsonOption,
    MapOption,
    SizeOption,
    StoreOption,
    SubjectOption,
    app,
    open_store,
    print_json,
    print_wrapped,
    read_pairs,
    run_facts,
    show_next,
    show_run,
)
from mien.errors import AuditFailed, UsageError

review_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command(short_help="Report what a test set shares with its training set.")
def leakage(
    train: Annotated[
        str, typer.Argument(help="A run or alias of faces, or a folder of class folders.")
    ],
    test: Annotated[str | None, typer.Argument(help="The same, for the test set.")] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            help="Divide one set by a CSV file with the columns side, and key or file.",
            metavar="FILE.csv",
        ),
    ] = None,
    between: Annotated[
        str, typer.Option(help="The two sides of --split, such as train:val.")
    ] = "train:test",
    by: Annotated[
        Literal["subject", "clip", "frame"],
        typer.Option(help="The unit that the two sets should not share."),
    ] = "subject",
    one_dataset: Annotated[
        bool,
        typer.Option(
            "--one-dataset",
            help="Equal names in both sets are one person; always so if a set is a folder.",
        ),
    ] = False,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic", help="The second set is a folder of synthetic faces, of no real person."
        ),
    ] = False,
    subject_pattern: SubjectOption = None,
    clip_pattern: ClipOption = None,
    map: MapOption = None,
    size: SizeOption = None,
    fail: Annotated[
        bool,
        typer.Option(
            "--fail", help="Exit with 4 if the training set contains the --by unit of a test image."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Copy the report, including its pictures, to a new folder.", metavar="DIR"
        ),
    ] = None,
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Report what a test set shares with its training set, and the score of memorising alone.

    It looks for shared people, clips and frames, for equal and nearly equal images, for people with
    two names, and for how well brightness or image borders alone predict the label.
    """
    from mien.audit.leakage.run import copy_report, list_leakage_lines, run_leakage
    from mien.audit.leakage.sides import find_compared_sides
    from mien.runs.folders import require_free
    from mien.runs.progress import quantify

    out = require_free(out) if out is not None else None
    home = open_store(store)

    # Find the two sets, and compare them.
    comparison = find_compared_sides(
        train,
        test,
        home,
        split=split,
        between=between,
        one_dataset=one_dataset,
        synthetic=synthetic,
        subject_pattern=subject_pattern or [],
        clip_pattern=clip_pattern or [],
        map=read_pairs(map or [], "--map"),
        size=size,
    )
    run = run_leakage(comparison, home, by, alias=alias)

    # Print the report, and exit with 4 if --fail demands it.
    report, page = run.read_json("leakage.json"), copy_report(run, out)
    if as_json:
        print_json({**run_facts(run, home.read_aliases()), "page": str(page), **report})
    else:
        for line in list_leakage_lines(run):
            text = line.lstrip()
            head = " " * (len(line) - len(text))
            print_wrapped(head, text, 2 * len(head))
        print(page)
    affected, affected_text = report["affected"], quantify(report["affected"], report["what"])
    if fail and affected:
        raise AuditFailed(
            f"{affected_text} {'was' if affected == 1 else 'were'} seen in training, and --fail "
            f"allows none (--by {by})"
        )


app.add_typer(
    review_app, name="review", help="List doubtful labels for review, and apply the decisions."
)


@review_app.command("queue", short_help="Write the most doubtful labels to a CSV file.")
def review_queue(
    dataset: Annotated[str, typer.Argument(help="A run or alias of faces, synthetic or real.")],
    out: Annotated[
        Path, typer.Option(help="The table to write, for you to fill in.", metavar="FILE.csv")
    ] = Path("queue.csv"),
    judges: Annotated[
        str | None,
        typer.Option(
            help="Real faces to train the judges on, best of subjects held out from the generator."
        ),
    ] = None,
    number: Annotated[
        int, typer.Option(help="How many images to list, the most doubtful first.")
    ] = 100,
    store_only: Annotated[
        bool,
        typer.Option(
            "--store-only", help="Write no table: the queue is reviewed in `mien studio`."
        ),
    ] = False,
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Copy pictures of real people out of the store as well."),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the most doubtful labels to a CSV file, and next to it a page with their pictures.

    Each image of a real set is judged by classifiers that were not trained on the same person; a
    synthetic set needs --judges.
    """
    from mien.audit.labels.review import copy_queue, make_queue, require_free_queue

    if number < 1:
        raise UsageError(f"--number must be 1 or more; given: {number}")
    if not store_only:
        require_free_queue(out)
    home = open_store(store)
    run = make_queue(home.run(dataset), home, home.run(judges) if judges else None, number)
    if store_only:
        print(f"{run.name}: {run.summary['holds']}")
        show_next(["mien", "studio"], store)
        return
    for path in copy_queue(run, out, home, pictures):
        print(path)
    print(f"pictures: {run.path / 'index.html'}")


@review_app.command("apply", short_help="Make a new set from the decisions of a review.")
def review_apply(
    table: Annotated[
        Path,
        typer.Argument(help="The table of `mien review queue`, filled in.", metavar="FILE.csv"),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--set", help="The set that was reviewed, if the table does not name it.", metavar="SET"
        ),
    ] = None,
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a new set from the decisions of a review: accept, reject, or relabel.

    The original set does not change; to undo a review, use the original set.
    """
    from mien.audit.labels.review import apply_decisions, read_decisions

    home = open_store(store)
    decisions = read_decisions(table, dataset)
    run = apply_decisions(decisions, home, alias=alias)
    show_run(run, alias)
    counts = ", ".join(
        f"{count} {name}" for name, count in sorted(run.summary["decisions"].items())
    )
    print(f"decisions: {counts}; the original set is {home.resolve(decisions.faces)}")
