"""What engines cost and gain, and how long the large studies would take on many cards.

    python benchmarks/engine.py overhead            200 jobs that do nothing, on each engine
    python benchmarks/engine.py speed  one small study: here, in 1 and 2 workers, on Ray
    python benchmarks/engine.py speed --epochs 60   the same with trials ten times as long
    python benchmarks/engine.py plan --rate 300  both studies of the preprint, on 1 to 64 GPUs
    python benchmarks/engine.py plan --speeds vgg16=3.2 resnet50=19.5 inception_v3=27.2 \
        generator=8.8

`plan` times a batch of each network here, as `mien study plan` does, or takes images a second of
training that were measured elsewhere. It works through the studies' own jobs in the engine's order:
whenever a card is free, the first job that has all it needs. `--rate` says how many times faster
than what was timed a card is taken to be; with 1 the times are those measured.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from idle import nothing

from mien.classifiers.speed import NetworkTiming, Speed
from mien.faces import Faces, make_index
from mien.ingest.run import run_ingest
from mien.ingest.toy import dataset
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.published import CLIPS_PER_CLASS, TABLE_1
from mien.runs.engine import run_jobs
from mien.runs.jobs import Engine, Job
from mien.runs.local import Local
from mien.runs.ray import Ray
from mien.runs.spec import read_spec
from mien.runs.store import Store
from mien.seeds import make_rng
from mien.study import cost
from mien.study.file import read_study
from mien.study.plan import plan_study
from mien.study.run import list_study_jobs, run_study
from mien.study.specs import StudyPlan, TrialSpec

STUDIES = Path(__file__).parent.parent / "mien" / "study" / "shipped"
JOBS, SUBJECTS, APEX = 200, 26, 9  # APEX: frames of a clip around its apex
SMALL = """
name = "small"
faces = "faces"
protocol = "subject"
folds = 2
trials = 4
settings = ["real_to_real", "synthetic_to_real", "both_to_real"]
classifiers = ["tiny"]
counts = "balanced:140"

[classifier]
epochs = {epochs}

[generator]
preset = "smoke"
images_seen = 800
"""


def overhead(folder: Path) -> None:
    """Print how long jobs that do nothing take on each engine, its start apart."""
    print(f"| engine | start | {JOBS} jobs | each |\n| --- | --- | --- | --- |")
    for name in ENGINES:
        start, seconds = alone(idle_jobs, name, folder / name.replace(" ", "-"))
        print(
            f"| {name} | {start:.1f} s | {seconds:.2f} s | {1000 * seconds / JOBS:.1f} ms |",
            flush=True,
        )


def alone(measure: Callable[..., Any], *given: Any) -> Any:
    """Measure in a process of its own, so that no engine finds started what another one needed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *given).result()


def idle_jobs(name: str, folder: Path) -> tuple[float, float]:
    """Return the seconds that an engine needs to start, and then to do jobs that do nothing."""
    store = Store(folder)
    where, start = started(name, store)
    began = time.monotonic()
    run_jobs([job(str(number)) for number in range(JOBS)], store, where)
    return start, time.monotonic() - began


def started(name: str, store: Store) -> tuple[Engine, float]:
    """Return an engine of which each worker has done a first job, and the seconds that this
    took.
    """
    began = time.monotonic()
    where = ENGINES[name]()
    run_jobs([job(f"first {number}") for number in range(where.slots)], store, where)
    return where, time.monotonic() - began


def job(name: str) -> Job:
    """Return a job that makes nothing."""
    return Job(name, name, nothing)


ENGINES = {
    "this process": lambda: Local(0),
    "1 worker": lambda: Local(1),
    "2 workers": lambda: Local(2),
    "Ray, 2 workers": lambda: Ray(workers=2),
}


def speed(folder: Path, epochs: int) -> None:
    """Print how long a small study of drawn faces takes on each engine, its start apart."""
    dataset.draw(folder / "drawn", 6, 28, balance="even")
    print("| engine | start | study | against this process |\n| --- | --- | --- | --- |")
    first, contents = 0.0, []
    for name in ENGINES:
        start, seconds, content = alone(
            small_study, name, folder / name.replace(" ", "-"), folder / "drawn", epochs
        )
        first = first or seconds
        contents.append(content)
        print(f"| {name} | {start:.1f} s | {seconds:.1f} s | {first / seconds:.2f} |", flush=True)
    print(
        f"{len(contents[0])} runs each; equal results: "
        f"{all(each == contents[0] for each in contents)}"
    )


def small_study(
    name: str, folder: Path, drawn: Path, epochs: int
) -> tuple[float, float, dict[str, str]]:
    """Return the seconds that an engine needs to start, and then for a study, and what was made."""
    store, home = Store(folder / "store"), folder / "small.toml"
    read = run_ingest("casme2", drawn, store, name="drawn", alias="drawn")
    apex = read_spec(PreprocessSpec, {"faces": read.name, "frames": "apex"}, "benchmark")
    run_preprocess(apex, store, alias="faces")
    home.write_text(SMALL.format(epochs=epochs))
    where, start = started(name, store)
    began = time.monotonic()
    run_study(read_study(home, store), store, device="cpu", engine=where)
    return (
        start,
        time.monotonic() - began,
        {run: store.run(run).content for run in store.list_names()},
    )


class Told(Store):
    """A store that was told the speeds which it would else measure."""

    def __init__(self, root: Path, speeds: dict[str, float]) -> None:
        super().__init__(root)
        self.speeds = speeds

    def measure_once(self, key: str, measure: Callable[[], float]) -> float:
        """Return the speed of generators, if it was told."""
        known = key.startswith("generator-speed") and "generator" in self.speeds
        return self.speeds["generator"] if known else super().measure_once(key, measure)


def told(speeds: dict[str, float]) -> None:
    """Let costs be worked out from the speeds of classifiers that were told; to predict takes a
    third of learning.
    """
    measured = cost._find_speed

    def speed(timing: NetworkTiming, *rest: Any) -> tuple[Speed, bool]:
        known = speeds.get(timing.spec.name)
        return (
            (Speed(known, cost.FORWARD_PASSES_PER_STEP * known), True)
            if known
            else measured(timing, *rest)
        )

    cost._find_speed = speed


def plan(folder: Path, rate: float, cards: list[int], speeds: dict[str, float]) -> None:
    """Print how long the large studies would take, and where the time goes."""
    store = Told(folder / "store", speeds)
    told(speeds)
    for name, alias in (("preprint", "frames"), ("honest", "faces")):
        faces = like_casme2(
            TABLE_1 if name == "preprint" else {key: n * APEX for key, n in CLIPS_PER_CLASS.items()}
        )
        keep(faces, store, alias)
        spec = read_study(STUDIES / f"{name}.toml", store)
        todo = plan_study(spec, store)
        rows = list({row.spec.name: row for row in todo.rows}.values())
        print(
            f"\n{name}: {len(faces):,} faces\n| cards | hours | work in all, hours | each works | "
            "last generator ends |"
        )
        print("| --- | --- | --- | --- | --- |")
        jobs: list[Job] = []
        seconds: dict[str, float] = {}
        for slots in cards:
            jobs = list_study_jobs(todo, rows, store, "cpu", slots)
            seconds = {
                run: time.seconds / rate
                for run, time in cost.estimate_durations(jobs, todo, rows, store, "cpu").items()
            }
            spans = cost.simulate_schedule(jobs, seconds, slots)
            whole, total = max(end for _, end in spans.values()), sum(seconds.values())
            learnt = max(spans[one.train.name][1] for one in todo.databases)
            figures = (
                f"{whole / 3600:.2f} | {total / 3600:.2f} | {total / whole / slots:.0%} | "
                f"{learnt / 3600:.2f}"
            )
            print(f"| {slots} | {figures} |", flush=True)
        for what, found in where_it_goes(todo, jobs, seconds).items():
            share, longest = sum(found) / sum(seconds.values()), max(found) / 60
            print(
                f"  {what}: {len(found)} jobs, {sum(found) / 3600:.3f} h, {share:.1%}, the longest "
                f"{longest:.1f} min"
            )


def where_it_goes(
    todo: StudyPlan, jobs: list[Job], seconds: dict[str, float]
) -> dict[str, list[float]]:
    """Return the seconds of each job, by its kind."""
    found: dict[str, list[float]] = defaultdict(list)
    learnt = {one.train.name for one in todo.databases}
    specs: dict[str, TrialSpec] = {row.spec.name: row.spec for row in todo.rows}
    for each in jobs:
        made = specs.get(each.run)
        kind = "generators" if each.run in learnt else "databases" if made is None else made.called
        if seconds[each.run]:
            found[kind].append(seconds[each.run])
    return found


def like_casme2(counts: dict[str, int]) -> Faces:
    """Return noise of as many frames, clips and subjects as CASME II has."""
    total = sum(counts.values())
    images = make_rng("benchmark").integers(0, 256, (total, 1, 48, 48), dtype=np.uint8)
    emotions = [name for name, count in counts.items() for _ in range(count)]
    clip = [
        n * CLIPS_PER_CLASS[name] // count for name, count in counts.items() for n in range(count)
    ]
    index = make_index(
        images,
        key=[str(number) for number in range(total)],
        emotion=emotions,
        clip=[f"{name} {number}" for name, number in zip(emotions, clip, strict=True)],
        subject=[f"s{number % SUBJECTS:02d}" for number in clip],
    )
    return Faces(images, index)


def keep(faces: Faces, store: Store, alias: str) -> None:
    """Put faces into a store."""
    spec = read_spec(PreprocessSpec, {"faces": f"noise-{len(faces):012x}"}, "benchmark")
    store.make(spec, lambda out, scratch: faces.save(out), alias)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description="What engines cost and gain.")
    parser.add_argument("what", choices=("overhead", "speed", "plan"))
    parser.add_argument("--epochs", type=int, default=6, help="of each trial of the small study")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="how many times faster than this machine a card is"
    )
    parser.add_argument("--cards", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--speeds",
        nargs="*",
        default=[],
        metavar="NAME=N",
        help="images a second of training, told",
    )
    given = parser.parse_args()
    speeds = {name: float(number) for name, number in (text.split("=") for text in given.speeds)}
    with tempfile.TemporaryDirectory(prefix="mien-engine-") as folder:
        if given.what == "plan":
            plan(Path(folder), given.rate, given.cards, speeds)
        elif given.what == "speed":
            speed(Path(folder), given.epochs)
        else:
            overhead(Path(folder))


if __name__ == "__main__":
    main()
