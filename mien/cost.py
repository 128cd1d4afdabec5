"""Costs: how long a study should take on this machine, from the time of one batch of each of its networks."""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from mien import classifiers, generators, seeds, splits, study, training
from mien.classifiers import ClassifierSpec, Speed
from mien.engine import Job
from mien.errors import UsageError
from mien.faces import Faces
from mien.progress import duration, say
from mien.store import Store
from mien.study import Database, Plan, Row
from mien.trials import HELD_OUT, PARTS, Source

CALLS = {"heun": 2}  # calls of the network a step, where it is not one
PASSES = 3  # a training step costs a forward pass and two more backwards


@dataclass(frozen=True)
class Cost:
    """What one kind of work takes: `seconds` for all `runs` of it that are still to do."""

    what: str
    runs: int
    seconds: float


def costs(plan: Plan, rows: list[Row], store: Store, device: str = "auto") -> list[Cost]:
    """Return what the given rows of a plan, with the databases that they need, should still take on this machine.

    Each network is timed once a store and device, on a batch of random images with random weights. Reading, drawing of
    figures, nearest neighbours and copies are not counted: they take seconds. A sampled image is taken to cost a third
    of a training image for each call of the network.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    todo = {row.spec.name: row for row in rows if row.spec.name not in plan.done}
    needed = {row.spec.synthetic for row in todo.values()}
    found = [sum(_generating(one, faces, plan, store, device)) for one in plan.databases if one.generate.name in needed]
    sizes = _Sizes(plan, faces)
    parts: dict[str, list[float]] = defaultdict(list)
    for row in todo.values():
        if isinstance(row.spec.classifier, ClassifierSpec):
            label = f"{row.classifier} {row.ablation}{f', control {row.control}' if row.control else ''}"
            parts[label].append(_trial(row, row.spec.classifier, sizes, faces, plan, store, device))
    generating = [one for one in found if one > 0]
    lines = [Cost("generators and databases", len(generating), sum(generating))] if generating else []
    return lines + [Cost(label, len(seconds), sum(seconds)) for label, seconds in parts.items()]


def durations(jobs: Sequence[Job], plan: Plan, rows: list[Row], store: Store, device: str = "auto") -> dict[str, float]:
    """Return how many seconds each job of a study should take on this machine, by the run that it makes.

    What `costs` leaves out takes none. Parts of a database take their share of it, and to put them together nothing.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    sizes, found = _Sizes(plan, faces), dict.fromkeys((job.run for job in jobs), 0.0)
    for one in plan.databases:
        learning, drawing = _generating(one, faces, plan, store, device)
        images = sum(one.generate.counts.values())
        found |= {name: learning for name in found if name == one.train.name}
        parts = {job.run: job.arguments for job in jobs if job.run.startswith(f"{one.generate.name}.")}
        shares = {name: (told["last"] - told["first"]) / images for name, told in parts.items()}
        for name, share in (shares or {one.generate.name: 1.0}).items():
            found |= {name: drawing * share} if name in found else {}
    for row in rows:
        if row.spec.name in found and isinstance(row.spec.classifier, ClassifierSpec):
            found[row.spec.name] = _trial(row, row.spec.classifier, sizes, faces, plan, store, device)
    return found


def schedule(jobs: Sequence[Job], seconds: Mapping[str, float], slots: int) -> dict[str, tuple[float, float]]:
    """Return when each job begins and ends, with so many at a time and the order of `engine.work`."""
    known = {job.run for job in jobs}
    left, spans = list(jobs), dict[str, tuple[float, float]]()
    now, running = 0.0, list[tuple[float, str]]()
    while left or running:
        ended = {run for run, (_, end) in spans.items() if end <= now}
        for job in list(left):
            if len(running) < slots and all(name in ended or name not in known for name in job.after):
                left.remove(job)
                spans[job.run] = now, now + seconds[job.run]
                heapq.heappush(running, (spans[job.run][1], job.run))
        now = running[0][0]
        while running and running[0][0] <= now:
            heapq.heappop(running)
    return spans


def describe(found: list[Cost], device: str = "auto") -> str:
    """Return the costs as lines, with their sum."""
    if not found:
        return "nothing is left to do"
    where = training.device(device).type
    lines = [f"  {one.what:<36}{one.runs:>5} runs{duration(one.seconds):>16}" for one in found]
    whole = f"  {'in all':<36}{sum(one.runs for one in found):>5} runs{duration(sum(c.seconds for c in found)):>16}"
    return "\n".join([f"to do on this machine ({where}), from the time of one batch:", *lines, whole])


def side_by_side(plan: Plan, rows: list[Row], store: Store, device: str, slots: int) -> str:
    """Say how long a study takes with so many jobs at a time, and how much of it each of them waits."""
    if slots < 1:
        raise UsageError(f"there must be one worker or more; given: {slots}")
    missing = list({row.spec.name: row for row in rows if row.spec.name not in plan.done}.values())
    jobs = study.jobs(plan, missing, store, device, slots)
    seconds = durations(jobs, plan, rows, store, device)
    whole = max((end for _, end in schedule(jobs, seconds, slots).values()), default=0.0)
    busy = sum(seconds.values()) / (whole * slots) if whole else 1.0
    return f"  with {slots} at a time, each as fast{duration(whole):>31}, of which each works {busy:.0%}"


class _Sizes:
    """How many images each side of a trial holds."""

    def __init__(self, plan: Plan, faces: Faces) -> None:
        self.study, self.faces = plan.study, faces
        self.made = {one.generate.name: sum(one.generate.counts.values()) for one in plan.databases}
        copies = [one.copycat.generate for one in plan.databases if one.copycat]
        self.made |= {one.name: sum(one.counts.values()) for one in copies}
        self.real = cache(self._real)

    def _real(self, fold: int) -> tuple[int, int]:
        study = self.study
        side = splits.split(self.faces, study.protocol, study.folds, fold, study.seed)
        return int(side.train.sum()), int(side.test.sum())

    def of(self, row: Row, source: Source) -> tuple[int, int]:
        """Return the number of training and test images of a source."""
        if source == "real":
            return self.real(row.fold)
        whole = self.made[row.spec.synthetic if source == "synthetic" else row.spec.copycat]
        return whole - whole // HELD_OUT, whole // HELD_OUT


def _trial(row: Row, spec: ClassifierSpec, sizes: _Sizes, faces: Faces, plan: Plan, store: Store, device: str) -> float:
    speed = _speed(spec, len(plan.study.classes), faces.size, store, device)
    learnt = sum(sizes.of(row, source)[0] for source in PARTS[row.spec.train])
    tested = sum(sizes.of(row, source)[1] for source in row.spec.tests)
    return spec.epochs * learnt * (1 - spec.validation) / speed.train + tested / speed.predict


def _speed(spec: ClassifierSpec, classes: int, image: tuple[int, int, int], store: Store, device: str) -> Speed:
    """Return the speed of a network here, measured the first time that it is asked for."""
    same = spec.model_copy(update={"epochs": 1, "weights": "none", "validation": 0.0})
    where = training.device(device).type
    key = f"speed-{seeds.seed(same.model_dump_json()):x}-{classes}-{'x'.join(map(str, image))}-{where}"
    measured: list[Speed] = []

    def measure(part: str) -> float:
        if not measured:
            say(f"timing one batch of {spec.name}")
            measured.append(classifiers.speed(same, classes, image, device))
        return float(getattr(measured[0], part))

    return Speed(*(store.memo(f"{key}-{part}", lambda part=part: measure(part)) for part in ("train", "predict")))


def _generating(one: Database, faces: Faces, plan: Plan, store: Store, device: str) -> tuple[float, float]:
    """Return the seconds that are left of training a generator, and those of drawing its database."""
    spec, kind = one.train, generators.GENERATORS[one.train.kind]
    speed_of = kind.speed
    if one.generate.name in plan.done or speed_of is None or not isinstance(spec, generators.TrainSpec):
        return 0.0, 0.0
    key = f"generator-speed-{spec.model_copy(update={'faces': plan.study.faces}).digest()}"

    def measure() -> float:
        say(f"timing one batch of {spec.kind}")
        return speed_of(faces, spec, device)

    speed = store.memo(f"{key}-{training.device(device).type}", measure)
    calls = kind.steps(spec, one.generate) * CALLS.get(one.generate.sampler, 1)
    calls *= 2 if one.generate.guidance > 1 else 1
    drawn = sum(one.generate.counts.values()) * calls / PASSES
    return 0.0 if spec.name in plan.done else spec.updates * spec.batch / speed, drawn / speed
