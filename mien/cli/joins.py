"""Sets put together."""

from typing import Annotated

import typer

from mien.cli.base import STORE, AliasOption, StoreOption, app, open_store, same_people, show_run
from mien.cli.following import after_chosen


@app.command()
def join(
    datasets: Annotated[
        list[str], typer.Argument(help="Runs or aliases that hold faces, two or more.")
    ],
    classes: Annotated[
        str,
        typer.Option(
            help="common: those of all sets; union: of any; megc2019: negative, positive, surprise."
        ),
    ] = "common",
    same_subject: Annotated[
        list[str] | None,
        typer.Option(help="Two names of one person, such as casme2:sub01=mine:1; may be repeated."),
    ] = None,
    subjects_as_written: Annotated[
        bool,
        typer.Option(
            "--subjects-as-written", help="1, 01 and S1 of a dataset are different people, not one."
        ),
    ] = False,
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Put several datasets together, for tests on a dataset that was never seen (--by dataset).

    Each keeps its name in front of its subjects, so nobody is taken for somebody else.
    """
    from mien import joins as module
    from mien.spec import read_spec

    home = open_store(store)
    named = tuple(home.run(dataset).name for dataset in datasets)
    data = {"faces": named, "classes": classes, "same_subject": same_people(same_subject or [])}
    data["subjects_as_written"] = subjects_as_written
    spec = read_spec(module.JoinSpec, data, "join")
    made = module.run(spec, home, alias=alias)
    show_run(made, alias)
    after_chosen(made, home, store)
