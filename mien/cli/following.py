"""The line `next: mien ...` after each stage, with the aliases of the user."""

from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli.base import show_next

if TYPE_CHECKING:
    from mien.runs.store import Run, Store


def show_next_after_ingest(run: "Run", home: "Store", store: Path) -> None:
    """After ingest: choose frames if clips have an apex; otherwise split the set."""
    from mien.faces import Faces

    if "apex" in set(Faces.load(run.path).index["phase"]):
        alias = propose_alias("faces", run, home)
        show_next(["mien", "preprocess", find_short_name(run.name, home), "--as", alias], store)
    else:
        show_next_after_preprocess(run, home, store)


def show_next_after_preprocess(run: "Run", home: "Store", store: Path) -> None:
    """After preprocess or join: split by the largest unit of which the set has two or more."""
    from mien.faces import Faces

    index = Faces.load(run.path).index
    by = next((unit for unit in ("subject", "clip") if len(set(index[unit]) - {""}) > 1), "frame")
    alias = propose_alias("fold", run, home, "-train")
    show_next(["mien", "split", find_short_name(run.name, home), "--by", by, "--as", alias], store)


def show_next_after_split(train: "Run", home: "Store", store: Path) -> None:
    """After split: train a generator on the training side.

    The usual preset needs weeks without a GPU, so a smaller one is named then.
    """
    from mien.runs.machine import list_nvidia_cards

    preset = [] if list_nvidia_cards() else ["--preset", "nano"]
    alias = propose_alias("generator", train, home)
    name = find_short_name(train.name, home)
    show_next(["mien", "train", name, *preset, "--as", alias], store)


def show_next_after_train(run: "Run", home: "Store", store: Path) -> None:
    """After train: generate as many images as there were training images."""
    show_next(
        [
            "mien",
            "generate",
            find_short_name(run.name, home),
            "--counts",
            "like",
            "--as",
            propose_alias("synthetic", run, home),
        ],
        store,
    )


def show_next_after_generate(run: "Run", home: "Store", store: Path) -> None:
    """After generate: audit against the training images and the held-out subjects, if any."""
    generator = home.run(str(run.spec["generator"]))
    _show_audit(run, home.run(str(generator.spec["faces"])), home, store)


def show_next_after_filter(run: "Run", home: "Store", store: Path) -> None:
    """After filter: audit against the faces that the judges learnt from."""
    _show_audit(run, home.run(str(run.spec["training"])), home, store)


def _show_audit(database: "Run", learnt: "Run", home: "Store", store: Path) -> None:
    """Show the command that audits a database, with the test side of `learnt` if there is one."""
    from mien.prepare.splits import find_test_side

    command = [
        "mien",
        "audit",
        find_short_name(database.name, home),
        "--train",
        find_short_name(learnt.name, home),
    ]
    test_side = find_test_side(learnt, home)
    show_next(
        [*command, *(["--test", find_short_name(test_side, home)] if test_side else [])], store
    )


def propose_alias(name: str, parent: "Run", home: "Store", ending: str = "") -> str:
    """Return an alias for a run made of `parent`: `name`, or with a number if it names another.

    An alias would silently change what it names. `ending` is what a command appends to it.
    """
    aliases = home.read_aliases()
    for number in range(1, len(aliases) + 2):
        alias = name if number == 1 else f"{name}-{number}"
        named_run = aliases.get(f"{alias}{ending}")
        if named_run is None:
            return alias
        if home.is_done(named_run) and parent.name in home.run(named_run).spec.values():
            return alias
    return name


def find_short_name(name: str, home: "Store") -> str:
    """Return the alias of a run (the last of several), or the run's name if it has no alias."""
    aliases = [alias for alias, target in home.read_aliases().items() if target == name]
    return aliases[-1] if aliases else name
