"""The demo: the whole pipeline on drawn faces, from an empty folder to a report."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mien import generators, ingest, preprocess, report, splits, study
from mien.engine import Local
from mien.ingest import toy
from mien.progress import duration, say, track
from mien.spec import read_spec
from mien.store import Run, Store

# Few people, with equal numbers of clips per expression: minutes of training can learn these
SUBJECTS, CLIPS = 14, 196
IMAGES = 1050
GUIDANCE = 2.5  # short training leaves labels weak; `mien generate` uses none by default
STAGES = {  # each stage, and the seconds that it took on two cores
    "draw faces": 23,
    "read them": 9,
    "choose frames and split by subject": 1,
    "train a diffusion model": 254,
    "generate a database": 33,
    "train and test classifiers": 178,
    "write the report": 1,
}
STUDY = f"""\
# What `mien demo` runs. The tests use people whom neither the generator nor the classifier saw.
name = "demo"
faces = "faces"
protocol = "subject"
folds = 5
only_folds = [0]
trials = 2
settings = [
    "real_to_real", "synthetic_to_synthetic", "real_to_synthetic", "synthetic_to_real",
    "both_to_real",
]
classifiers = ["tiny"]
controls = ["nearest", "permuted", "copycat"]
counts = "balanced:{IMAGES}"

[classifier]
epochs = 20

[generator]
preset = "smoke"

[generate]
guidance = {GUIDANCE}
"""

Result = TypeVar("Result")


class Clock:
    """Reports each stage and the time left, estimated from the stages that are done."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Return the result of `work`, the stage `name`; it is reported and timed."""
        names = list(STAGES)
        planned = sum(STAGES[done] for done in self.taken)
        slower = sum(self.taken.values()) / planned if planned else 1.0
        remaining = slower * sum(STAGES[later] for later in names[names.index(name) :])
        say(
            f"[{names.index(name) + 1}/{len(names)}] {name} "
            f"(about {duration(remaining)} left in total)"
        )
        start = time.monotonic()
        result = work()
        self.taken[name] = time.monotonic() - start
        return result


def run(folder: Path, device: str = "auto") -> Path:
    """Draw, read, train, generate, classify and report in `folder`; return the path of the report.

    Stages that an earlier run has finished are not repeated.
    """
    clock, store = Clock(), Store(folder / "store")
    drawn_folder = folder / "drawn"
    clock.stage("draw faces", lambda: _draw(drawn_folder))
    ingested = clock.stage(
        "read them", lambda: ingest.run("casme2", drawn_folder, store, name="drawn", alias="drawn")
    )
    train_side = clock.stage("choose frames and split by subject", lambda: _choose(ingested, store))
    generator = clock.stage("train a diffusion model", lambda: _train(train_side, store, device))
    synthetic = clock.stage("generate a database", lambda: _generate(generator, store, device))
    clock.stage("train and test classifiers", lambda: _study(folder, store, device))
    path = clock.stage("write the report", lambda: report.make("demo", store, folder / "report"))
    for name, seconds in clock.taken.items():
        say(f"  {name:<38}{duration(seconds):>12}")
    say(f"  {'in total':<38}{duration(sum(clock.taken.values())):>12}")
    report.show("demo", store)
    print(f"the generated faces: {synthetic.path / 'sheet.png'}")
    print(f"the report:          {path}")
    return path


def _draw(folder: Path) -> None:
    with track("drawing clips", CLIPS) as bar:
        toy.draw(
            folder, SUBJECTS, CLIPS, balance="even", progress=lambda done, total: bar.update(done)
        )


def _choose(read: Run, store: Store) -> Run:
    spec = read_spec(preprocess.PreprocessSpec, {"faces": read.name, "frames": "apex"}, "demo")
    faces = preprocess.run(spec, store, alias="faces")
    fold = {"faces": faces.name, "by": "subject", "folds": 5, "number": 0, "seed": 0}
    splits.run(read_spec(splits.SplitSpec, {**fold, "side": "test"}, "demo"), store, alias="test")
    return splits.run(
        read_spec(splits.SplitSpec, {**fold, "side": "train"}, "demo"), store, alias="train"
    )


def _train(faces: Run, store: Store, device: str) -> Run:
    return generators.train(
        generators.preset("smoke", faces.name, {}), store, alias="generator", device=device
    )


def _generate(generator: Run, store: Store, device: str) -> Run:
    spec = generators.order(generator, f"balanced:{IMAGES}", store, guidance=GUIDANCE)
    return generators.generate(spec, store, alias="synthetic", device=device)


def _study(folder: Path, store: Store, device: str) -> None:
    path = folder / "demo.toml"
    path.write_text(STUDY, encoding="utf-8")
    study.run(study.read(path, store), store, device=device, engine=Local(device=device))
