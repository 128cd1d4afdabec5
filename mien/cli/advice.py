"""The command that advises whether to add synthetic faces: `mien advise`."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    DeviceOption,
    JsonOption,
    StoreOption,
    WorkersOption,
    app,
    open_store,
    print_json,
    show_next,
)


@app.command()
def advise(
    training_set: Annotated[
        str, typer.Argument(help="The run or alias of the real faces that you train on.")
    ],
    minutes: Annotated[
        float, typer.Option(help="About how long the comparison may take on this machine.")
    ] = 20.0,
    classifier: Annotated[
        list[str] | None,
        typer.Option(help="A network to train: tiny (the default), or any of timm. Repeatable."),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="What networks start from: imagenet, none, or a file; by default as in a study."
        ),
    ] = "",
    folds: Annotated[
        int, typer.Option(help="The number of parts of the people; each is held out in turn.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="The seed of folds, trainings and images.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the advice to this HTML file.", metavar="PAGE")
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Advise whether to train on synthetic faces too, and how.

    People of the training set are held out in turn, and eight ways of training are compared on
    them: three without synthetic faces and five with them (six ways on clips and other inputs,
    which allow no strong augmentation). The minutes decide how many folds,
    trials, updates and images there are. The answer is add, do not add, or cannot tell. The study
    behind it has the alias advise-NAME. The same command resumes an interrupted comparison.
    """
    from mien.errors import UsageError

    # Check the names before slow libraries are loaded
    home = open_store(store, training_set)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UsageError(f"--out must be a file in a folder that exists; given: {out}")

    from mien.report.advise.request import Request
    from mien.report.advise.run import ask_advice
    from mien.report.advise.words import describe_advice, make_facts, render_page
    from mien.runs.engine import make_engine
    from mien.runs.files import write_file

    request = Request(training_set, minutes, tuple(classifier or ("tiny",)), weights, folds, seed)
    engine = make_engine("local", workers, device=device)
    advice = ask_advice(request, home, device=device, engine=engine)
    if out is not None:
        write_file(out, render_page(advice))
    if as_json:
        print_json(make_facts(advice))
        return
    print(describe_advice(advice))
    if out is not None:
        print(out)
    show_next(["mien", "report", advice.study.title], store)
