"""The demo: the whole pipeline on drawn faces, up to a report."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mien.generators import presets
from mien.generators.generate import generate_database, order_database
from mien.generators.train import train_generator
from mien.ingest.run import run_ingest
from mien.prepare import splits
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec, SplitSpec
from mien.report.terminal import print_table
from mien.report.write import write_report
from mien.runs.local import Local
from mien.runs.progress import format_duration, say, track
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store
from mien.study.file import read_study
from mien.study.run import run_study
from mien.toy import dataset

# Few people, with equal numbers of clips per expression: minutes of training can learn these
SUBJECTS, CLIPS = 14, 196

SYNTHETIC_IMAGES = 1050

GUIDANCE = 2.5  # short training leaves labels weak; `mien generate` uses none by default

STAGE_SECONDS = {  # each stage, and the seconds that it took on two cores
    "draw faces": 23,
    "read them": 9,
    "choose frames and split by subject": 1,
    "train a diffusion model": 254,
    "generate a database": 33,
    "train and test classifiers": 178,
    "write the report": 1,
}

STUDY_TOML = f"""\
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
counts = "balanced:{SYNTHETIC_IMAGES}"

[classifier]
epochs = 20

[generator]
preset = "smoke"

[generate]
guidance = {GUIDANCE}
"""

Result = TypeVar("Result")


class StageClock:
    """Reports each stage and the time left, estimated from the stages that are done."""

    def __init__(self) -> None:
        self.stage_seconds: dict[str, float] = {}

    def run_stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Return the result of `work`, the stage `name`; it is reported and timed."""
        names = list(STAGE_SECONDS)
        planned = sum(STAGE_SECONDS[done] for done in self.stage_seconds)
        slower = sum(self.stage_seconds.values()) / planned if planned else 1.0
        remaining = slower * sum(STAGE_SECONDS[later] for later in names[names.index(name) :])
        say(
            f"[{names.index(name) + 1}/{len(names)}] {name} "
            f"(about {format_duration(remaining)} left in total)"
        )
        start = time.monotonic()
        result = work()
        self.stage_seconds[name] = time.monotonic() - start
        return result


def run(folder: Path, device: str = "auto") -> Path:
    """Draw, read, train, generate, classify and report in `folder`; return the path of the report.

    Stages that an earlier run has finished are not repeated.
    """
    # The stages, in the order of the pipeline
    clock, store = StageClock(), Store(folder / "store")
    drawn_folder = folder / "drawn"
    clock.run_stage("draw faces", lambda: _draw_faces(drawn_folder))
    ingested = clock.run_stage(
        "read them", lambda: run_ingest("casme2", drawn_folder, store, name="drawn", alias="drawn")
    )
    train_side = clock.run_stage(
        "choose frames and split by subject", lambda: _choose_and_split(ingested, store)
    )
    generator = clock.run_stage(
        "train a diffusion model", lambda: _train(train_side, store, device)
    )
    synthetic = clock.run_stage("generate a database", lambda: _generate(generator, store, device))
    clock.run_stage("train and test classifiers", lambda: _run_study(folder, store, device))
    path = clock.run_stage(
        "write the report", lambda: write_report("demo", store, folder / "report")
    )

    # How long each took, and what to look at
    for name, seconds in clock.stage_seconds.items():
        say(f"  {name:<38}{format_duration(seconds):>12}")
    say(f"  {'in total':<38}{format_duration(sum(clock.stage_seconds.values())):>12}")
    print_table("demo", store)
    print(f"the generated faces: {synthetic.path / 'sheet.png'}")
    print(f"the report:          {path}")
    return path


def _draw_faces(folder: Path) -> None:
    with track("drawing clips", CLIPS) as bar:
        dataset.draw(
            folder, SUBJECTS, CLIPS, balance="even", progress=lambda done, total: bar.update(done)
        )


def _choose_and_split(read: Run, store: Store) -> Run:
    spec = read_spec(PreprocessSpec, {"faces": read.name, "frames": "apex"}, "demo")
    faces = run_preprocess(spec, store, alias="faces")
    fold = {"faces": faces.name, "by": "subject", "folds": 5, "number": 0, "seed": 0}
    splits.run_split(read_spec(SplitSpec, {**fold, "side": "test"}, "demo"), store, alias="test")
    return splits.run_split(
        read_spec(SplitSpec, {**fold, "side": "train"}, "demo"), store, alias="train"
    )


def _train(faces: Run, store: Store, device: str) -> Run:
    return train_generator(
        presets.read_preset("smoke", faces.name, {}), store, alias="generator", device=device
    )


def _generate(generator: Run, store: Store, device: str) -> Run:
    spec = order_database(generator, f"balanced:{SYNTHETIC_IMAGES}", store, guidance=GUIDANCE)
    return generate_database(spec, store, alias="synthetic", device=device)


def _run_study(folder: Path, store: Store, device: str) -> None:
    path = folder / "demo.toml"
    path.write_text(STUDY_TOML, encoding="utf-8")
    run_study(read_study(path, store), store, device=device, engine=Local(device=device))
