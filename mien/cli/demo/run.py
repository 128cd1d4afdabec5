"""The demo is run: five stages, from drawn people to findings and a report."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mien.classifiers.baselines import BASELINES
from mien.cli.demo.findings import list_lines, read_findings
from mien.cli.demo.pictures import write_pictures
from mien.cli.demo.plan import FRAMES_STUDY, PEOPLE_STUDY, PLAN, DemoPlan
from mien.errors import TrialsFailed
from mien.generators.generate import generate_database
from mien.generators.specs import GeneratorSpec
from mien.generators.train import train_generator
from mien.ingest.run import run_ingest
from mien.ingest.toy import dataset
from mien.pages.planes import FaceMap
from mien.prepare import splits
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec, SplitSpec
from mien.report.maps import map_faces
from mien.report.write import write_report
from mien.runs.engine import run_jobs
from mien.runs.jobs import Engine, Job
from mien.runs.local import Local
from mien.runs.progress import format_duration, say, track
from mien.runs.spec import read_spec
from mien.runs.store import Store
from mien.study.file import read_study
from mien.study.plan import plan_study
from mien.study.results import StudyResults
from mien.study.run import list_study_jobs, run_study
from mien.study.specs import StudyPlan, StudySpec

STAGE_SECONDS = {  # each stage, and the seconds that its processor time needs on two free cores
    "draw people": 14,
    "read and divide them": 9,
    "train a generator, and classifiers without it": 150,
    "generate faces; train classifiers with them": 32,
    "write findings, pictures and report": 9,
}

StageResult = TypeVar("StageResult")


class StageClock:
    """Reports each stage and the time left, estimated from the stages that are done."""

    def __init__(self) -> None:
        self.stage_seconds: dict[str, float] = {}

    def run_stage(self, number: int, work: Callable[[], StageResult]) -> StageResult:
        """Return the result of `work`, stage `number` (from 1); it is reported and timed."""
        names = list(STAGE_SECONDS)
        name = names[number - 1]

        # How much slower than planned; a stage that an earlier run had done says nothing about it
        taken = {
            done: seconds
            for done, seconds in self.stage_seconds.items()
            if seconds > STAGE_SECONDS[done] / 10
        }
        planned = sum(STAGE_SECONDS[done] for done in taken)
        slower = sum(taken.values()) / planned if planned else 1.0
        remaining = slower * sum(STAGE_SECONDS[later] for later in names[number - 1 :])
        say(f"[{number}/{len(names)}] {name} (about {format_duration(remaining)} left)")

        # The work itself
        start = time.monotonic()
        result = work()
        self.stage_seconds[name] = time.monotonic() - start
        return result


def run(
    folder: Path, device: str = "auto", plan: DemoPlan = PLAN, engine: Engine | None = None
) -> Path:
    """Draw people, train, generate, compare and report in `folder`; return the report's path.

    `engine` says where trainings are done; None is one process per core or GPU. Stages that an
    earlier run has finished are not repeated. At the end eight lines are printed: the findings, the
    path of the report, and the next command. A line on stderr says how to open the studio. Raises
    TrialsFailed if a training failed.
    """
    # The stages; all that needs no generated face is done while the generator is trained
    clock, store = StageClock(), Store(folder / "store")
    engine = engine or Local(device=device)
    clock.run_stage(1, lambda: _draw_people(folder / "drawn", plan))
    clock.run_stage(2, lambda: _read_and_divide(folder / "drawn", store, plan))
    studies = _write_studies(folder, store, plan)
    clock.run_stage(3, lambda: _train(studies, store, device, engine))
    clock.run_stage(4, lambda: _generate_and_compare(studies, store, device, engine))
    report = clock.run_stage(5, lambda: _report(folder, store))

    # How long each took, and what they found
    for name, seconds in clock.stage_seconds.items():
        say(f"  {name:<54}{format_duration(seconds):>12}")
    say(f"  {'in all':<54}{format_duration(sum(clock.stage_seconds.values())):>12}")
    print("\n".join(list_lines(read_findings(store), _shorten(report))), flush=True)
    say(f"in a browser: mien studio --store {_shorten(store.root)}   (needs 'mien[studio]')")
    return report


def _draw_people(folder: Path, plan: DemoPlan) -> None:
    with track("drawing clips", plan.clips) as bar:
        dataset.draw(
            folder,
            plan.people,
            plan.clips,
            balance="even",
            progress=lambda done, total: bar.update(done),
            window=plan.window,
        )


def _read_and_divide(folder: Path, store: Store, plan: DemoPlan) -> None:
    """Read and crop the faces, and name the sides that the study with held-out people uses."""
    crop = {"margin": plan.margin, "misses": "centre"}
    form: dict[str, Any] = {"size": plan.size, "colour": plan.colour}
    read = run_ingest("casme2", folder, store, name="drawn", alias="drawn", crop=crop, **form)
    frames = {"faces": read.name, "frames": "apex", "window": plan.window}
    faces = run_preprocess(read_spec(PreprocessSpec, frames, "demo"), store, alias="faces")
    fold = {"faces": faces.name, "by": "subject", "folds": 2, "number": 0, "seed": 0}
    for side in ("train", "test"):
        spec = read_spec(SplitSpec, {**fold, "side": side}, "demo")
        splits.run_split(spec, store, alias=side)


def _write_studies(folder: Path, store: Store, plan: DemoPlan) -> list[StudySpec]:
    """Write the study files into the folder, and return their specs."""
    files = {FRAMES_STUDY: plan.frames_study, PEOPLE_STUDY: plan.people_study}
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return [read_study(folder / f"{name}.toml", store) for name in files]


def _train(studies: Sequence[StudySpec], store: Store, device: str, engine: Engine) -> None:
    """Train the generator, and meanwhile everything that does not need its faces."""
    plans = [plan_study(study, store) for study in studies]
    jobs = [job for plan in plans for job in _list_missing_jobs(plan, store, device, engine)]

    # Everything waits that needs the generator, directly or through its database
    generator = _find_people_generator(plans[-1])
    waiting = {generator.name}
    for job in jobs:
        if waiting.intersection(job.after):
            waiting.add(job.run)
    waiting.remove(generator.name)
    ready = [job for job in jobs if job.run not in waiting]

    # Baselines come first: what they load, beside the generator's training, is more than 1 GB
    baselines = {
        row.spec.name for plan in plans for row in plan.rows if row.classifier in BASELINES
    }
    first = select_with_needs(ready, baselines)
    _do_all(first, store, engine)
    _do_all([job for job in ready if job not in first], store, engine)
    train_generator(generator, store, alias="generator", device=device)


def select_with_needs(jobs: Sequence[Job], wanted: Collection[str]) -> list[Job]:
    """Return the jobs of the `wanted` runs and those that they need, in the same order.

    Each of `jobs` comes after those that it needs.
    """
    needed = set(wanted)
    for job in reversed(jobs):
        if job.run in needed:
            needed.update(job.after)
    return [job for job in jobs if job.run in needed]


def _do_all(jobs: Sequence[Job], store: Store, engine: Engine) -> None:
    failed = run_jobs(jobs, store, engine)
    if failed:
        error = next(iter(failed.values()))
        raise TrialsFailed(f"{len(failed)} trainings failed; the first error: {error}")


def _find_people_generator(plan: StudyPlan) -> GeneratorSpec:
    return plan.databases[0].train


def _list_missing_jobs(plan: StudyPlan, store: Store, device: str, engine: Engine) -> list[Job]:
    missing = {row.spec.name: row for row in plan.rows if row.spec.name not in plan.done}
    return list_study_jobs(plan, list(missing.values()), store, device, engine.slots)


def _generate_and_compare(
    studies: Sequence[StudySpec], store: Store, device: str, engine: Engine
) -> None:
    """Generate the synthetic faces, and finish both studies."""
    for study in studies:
        run_study(study, store, device=device, engine=engine)
    database = plan_study(studies[-1], store).databases[0]
    generate_database(database.generate, store, alias="synthetic", device=device)


def _report(folder: Path, store: Store) -> Path:
    write_pictures(folder / "pictures", store)
    studies = [PEOPLE_STUDY, FRAMES_STUDY]
    return write_report(studies, store, folder / "report", map_faces=_map_generated_faces)


def _map_generated_faces(study: StudyResults, store: Store) -> FaceMap | None:
    """Return the map of the generator's faces; those of the other study are copies."""
    return map_faces(study, store) if study.title == PEOPLE_STUDY else None


def _shorten(path: Path) -> str:
    """Return the shorter form of a path: from the root, or from the current folder."""
    return min(str(path.resolve()), os.path.relpath(path), key=len)
