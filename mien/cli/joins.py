"""The command that joins several sets."""

from typing import Annotated

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    AliasOption,
    StoreOption,
    app,
    open_store,
    read_same_subject,
    show_run,
)
from mien.cli.following import show_next_after_preprocess


@app.command(short_help="Join several datasets into one.")
def join(
    datasets: Annotated[
        list[str], typer.Argument(help="Two or more runs or aliases that hold faces.")
    ],
    classes: Annotated[
        str,
        typer.Option(
            help="common: the classes that all sets have; union: the classes of any set; megc2019: "
            "negative, positive, surprise."
        ),
    ] = "common",
    same_subject: Annotated[
        list[str] | None,
        typer.Option(help="Two names of one person, such as casme2:sub01=mine:1. Repeatable."),
    ] = None,
    subjects_as_written: Annotated[
        bool,
        typer.Option(
            "--subjects-as-written",
            help="1, 01 and S1 of a dataset are different people, not one person.",
        ),
    ] = False,
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Join several datasets, for tests on a held-out dataset (split --by dataset).

    The dataset's name is put in front of each subject, so that equal names of different datasets
    stay different people.
    """
    from mien.prepare import joins
    from mien.prepare.specs import JoinSpec
    from mien.runs.spec import read_spec

    home = open_store(store)
    run_names = tuple(home.run(dataset).name for dataset in datasets)
    fields = {
        "faces": run_names,
        "classes": classes,
        "same_subject": read_same_subject(same_subject or []),
    }
    fields["subjects_as_written"] = subjects_as_written
    spec = read_spec(JoinSpec, fields, "join")
    run = joins.run_join(spec, home, alias=alias)
    show_run(run, alias)
    show_next_after_preprocess(run, home, store)
