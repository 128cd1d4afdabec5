"""What two sets share, and labels that somebody should look at."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mien.cli.base import (
    STORE,
    AliasOption,
    ClipOption,
    MapOption,
    SizeOption,
    StoreOption,
    SubjectOption,
    app,
    open_store,
    pairs,
    print_wrapped,
    show_run,
)
from mien.errors import AuditFailed, UsageError

review_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command()
def leakage(
    train: Annotated[
        str, typer.Argument(help="A run or alias of faces, or a folder of class folders.")
    ],
    test: Annotated[str | None, typer.Argument(help="The same, for the test side.")] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            help="Divide one set: a CSV file with columns key or file, and side.",
            metavar="FILE.csv",
        ),
    ] = None,
    between: Annotated[
        str, typer.Option(help="The two sides of --split, such as train:val.")
    ] = "train:test",
    by: Annotated[
        Literal["subject", "clip", "frame"],
        typer.Option(help="What the sides are said not to share."),
    ] = "subject",
    one_dataset: Annotated[
        bool,
        typer.Option(
            "--one-dataset", help="Equal names are one person in both sets; so for folders."
        ),
    ] = False,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic", help="The second set is a folder of synthetic faces, which show nobody."
        ),
    ] = False,
    subject_pattern: SubjectOption = None,
    clip_pattern: ClipOption = None,
    map: MapOption = None,
    size: SizeOption = None,
    fail: Annotated[
        bool, typer.Option("--fail", help="Exit with 4 if a test image was seen against --by.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Copy the report, pictures included, to a new folder.", metavar="DIR"),
    ] = None,
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Say what a test set shares with its training set, and what remembering scores.

    People, clips, frames, equal and nearly equal pictures, people with two names, and how well
    brightness or borders alone tell the label.
    """
    from mien import folders
    from mien.audit import leakage as module
    from mien.audit import sides
    from mien.progress import many

    out = folders.free(out) if out is not None else None
    home = open_store(store)
    found = sides.find(
        train,
        test,
        home,
        split=split,
        between=between,
        one_dataset=one_dataset,
        synthetic=synthetic,
        subject_pattern=subject_pattern or [],
        clip_pattern=clip_pattern or [],
        map=pairs(map or [], "--map"),
        size=size,
    )
    run = module.run(found, home, by, alias=alias)
    for line in module.told(run):
        text = line.lstrip()
        head = " " * (len(line) - len(text))
        print_wrapped(head, text, 2 * len(head))
    print(module.hand_out(run, out))
    told = run.json("leakage.json")
    affected, seen = told["affected"], many(told["affected"], told["what"])
    if fail and affected:
        raise AuditFailed(
            f"{seen} {'was' if affected == 1 else 'were'} seen in training, and --fail allows "
            f"none (--by {by})"
        )


app.add_typer(review_app, name="review", help="Look at doubtful labels, and bring decisions back.")


@review_app.command("queue")
def review_queue(
    dataset: Annotated[str, typer.Argument(help="A run or alias of faces, synthetic or real.")],
    out: Annotated[Path, typer.Option(help="The table to fill in.", metavar="FILE.csv")] = Path(
        "queue.csv"
    ),
    judges: Annotated[
        str | None,
        typer.Option(
            help="Real faces that judges learn from, best of people the generator never saw."
        ),
    ] = None,
    number: Annotated[int, typer.Option(help="How many images, the most doubtful first.")] = 100,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Let pictures of real people leave the store, too.")
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Write the most doubtful labels to a CSV file, with a page of their pictures beside it.

    A real set is judged by classifiers that saw none of the same person; a synthetic one needs
    --judges.
    """
    from mien.audit import review

    if number < 1:
        raise UsageError(f"--number must be 1 or more; given: {number}")
    review.require_free(out)
    home = open_store(store)
    run = review.queue(home.run(dataset), home, home.run(judges) if judges else None, number)
    for path in review.hand_out(run, out, home, pictures):
        print(path)
    print(f"pictures: {run.path / 'index.html'}")


@review_app.command("apply")
def review_apply(
    table: Annotated[
        Path, typer.Argument(help="The table of mien review queue, filled in.", metavar="FILE.csv")
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--set", help="The set it is about, where no column says so.", metavar="SET"),
    ] = None,
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Make a new set from decisions: accept, reject, or relabel.

    The set itself stays as it is; to undo a review, go on with that.
    """
    from mien.audit import review

    home = open_store(store)
    decisions = review.read(table, dataset)
    run = review.apply(decisions, home, alias=alias)
    show_run(run, alias)
    told = ", ".join(f"{count} {name}" for name, count in sorted(run.summary["decisions"].items()))
    print(f"decisions: {told}; as it was, the set is still {home.resolve(decisions.faces)}")
