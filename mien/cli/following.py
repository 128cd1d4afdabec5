"""What comes next in the pipeline, in the names that the user gave: a line `next: mien ...` after
each stage.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli.base import show_next

if TYPE_CHECKING:
    from mien.store import Run, Store


def after_faces(run: "Run", home: "Store", store: Path) -> None:
    """After ingest: frames are chosen, where clips have an apex; else the set is split."""
    from mien.faces import Faces

    if "apex" in set(Faces.load(run.path).index["phase"]):
        show_next(["mien", "preprocess", called(run.name, home), "--as", "faces"], store)
    else:
        after_chosen(run, home, store)


def after_chosen(run: "Run", home: "Store", store: Path) -> None:
    """After preprocess or join: the set is split by the largest unit that it knows two or more
    of.
    """
    from mien.faces import Faces

    index = Faces.load(run.path).index
    by = next((unit for unit in ("subject", "clip") if len(set(index[unit]) - {""}) > 1), "frame")
    show_next(["mien", "split", called(run.name, home), "--by", by, "--as", "fold"], store)


def after_split(train: "Run", home: "Store", store: Path) -> None:
    """After split: a generator learns the training side."""
    show_next(["mien", "train", called(train.name, home), "--as", "generator"], store)


def after_training(run: "Run", home: "Store", store: Path) -> None:
    """After train: as many images are drawn as were learnt from."""
    show_next(
        ["mien", "generate", called(run.name, home), "--counts", "like", "--as", "synthetic"], store
    )


def after_drawing(run: "Run", home: "Store", store: Path) -> None:
    """After generate: an audit against what the generator saw and, if they were split off, people
    it never saw.
    """
    generator = home.run(str(run.spec["generator"]))
    learnt = home.run(str(generator.spec["faces"]))
    command = ["mien", "audit", called(run.name, home), "--train", called(learnt.name, home)]
    other = unseen(learnt, home)
    show_next([*command, *(["--test", called(other, home)] if other else [])], store)


def unseen(train: "Run", home: "Store") -> str:
    """Return the run of the test side of the split whose training side a run is; nothing if there
    is none.
    """
    from mien.spec import read_spec
    from mien.splits import SplitSpec

    if train.stage != "split" or train.spec.get("side") != "train":
        return ""
    fields = {name: value for name, value in train.spec.items() if name != "stage"}
    other = read_spec(SplitSpec, {**fields, "side": "test"}, train.name).name
    return other if home.done(other) else ""


def called(name: str, home: "Store") -> str:
    """Return the name that the user gave a run, the newest of several, or the run's own."""
    aliases = [alias for alias, target in home.aliases().items() if target == name]
    return aliases[-1] if aliases else name
