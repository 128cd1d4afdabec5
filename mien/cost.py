"""Costs: how long a study should take on this machine.

What a network takes is counted, and how fast such work is done here is measured once, in a second
or two: networks and ablations stand in the right proportion to each other, and the whole is right
to a factor of two. Asked to, it times a batch of each network instead; what was timed once is kept
in the store, and used from then on.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from mien import classifiers, generators, seeds, splits, study, training, workload
from mien.classifiers import ClassifierSpec, Speed
from mien.engine import Job
from mien.errors import UsageError
from mien.faces import Faces
from mien.progress import duration, many, say
from mien.store import Store
from mien.study import Database, Plan, Row
from mien.trials import HELD_OUT, PARTS, Source
from mien.workload import Rates, Workload

CALLS = {"heun": 2}  # calls of the network a step, where it is not one
PASSES = 3  # a training step costs a forward pass and two more backwards
WITHIN = 2  # an estimate may be wrong by this factor, either way
LOWER = 0.5  # what a training in half the width takes of the time


@dataclass(frozen=True)
class Cost:
    """What one kind of work takes: `seconds` for all `runs` of it that are still to do; timed, or
    else estimated.
    """

    what: str
    runs: int
    seconds: float
    timed: bool = False


class NotTimed(Exception):
    """A speed was asked for that nobody measured here."""


def costs(
    plan: Plan, rows: list[Row], store: Store, device: str = "auto", measure: bool = False
) -> list[Cost]:
    """Return what the given rows of a plan, with the databases that they need, should still take on
    this machine.

    With `measure` each network is timed once a store and device, on a batch of random images with
    random weights. Reading, drawing of figures, nearest neighbours and copies are not counted: they
    take seconds. A sampled image is taken to cost a third of a training image for each call of the
    network.
    """
    if measure:
        _time_all(plan, rows, store, device)
    faces = Faces.load(store.run(plan.study.faces).path)
    todo = {row.spec.name: row for row in rows if row.spec.name not in plan.done}
    needed = {row.spec.synthetic for row in todo.values()}
    found = [
        _generating(one, faces, plan, store, device)
        for one in plan.databases
        if one.generate.name in needed
    ]
    sizes = _Sizes(plan, faces)
    parts: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row in todo.values():
        if isinstance(row.spec.classifier, ClassifierSpec):
            label = (
                f"{row.classifier} "
                f"{row.ablation}{f', control {row.control}' if row.control else ''}"
            )
            parts[label].append(_trial(row, row.spec.classifier, sizes, faces, plan, store, device))
    generating = [
        (learning + drawing, timed) for learning, drawing, timed in found if learning + drawing > 0
    ]
    parts = {"generators and databases": generating, **parts} if generating else parts
    return [
        Cost(label, len(each), sum(seconds for seconds, _ in each), all(timed for _, timed in each))
        for label, each in parts.items()
    ]


def durations(
    jobs: Sequence[Job], plan: Plan, rows: list[Row], store: Store, device: str = "auto"
) -> dict[str, float]:
    """Return how many seconds each job of a study should take on this machine, by the run that it
    makes.

    What `costs` leaves out takes none. Parts of a database take their share of it, and to put them
    together nothing.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    sizes, found = _Sizes(plan, faces), dict.fromkeys((job.run for job in jobs), 0.0)
    for one in plan.databases:
        learning, drawing, _ = _generating(one, faces, plan, store, device)
        images = sum(one.generate.counts.values())
        found |= {name: learning for name in found if name == one.train.name}
        parts = {
            job.run: job.arguments for job in jobs if job.run.startswith(f"{one.generate.name}.")
        }
        shares = {name: (told["last"] - told["first"]) / images for name, told in parts.items()}
        for name, share in (shares or {one.generate.name: 1.0}).items():
            found |= {name: drawing * share} if name in found else {}
    for row in rows:
        if row.spec.name in found and isinstance(row.spec.classifier, ClassifierSpec):
            found[row.spec.name] = _trial(
                row, row.spec.classifier, sizes, faces, plan, store, device
            )[0]
    return found


def schedule(
    jobs: Sequence[Job], seconds: Mapping[str, float], slots: int
) -> dict[str, tuple[float, float]]:
    """Return when each job begins and ends, with so many at a time and the order of
    `engine.work`.
    """
    known = {job.run for job in jobs}
    left, spans = list(jobs), dict[str, tuple[float, float]]()
    now, running = 0.0, list[tuple[float, str]]()
    while left or running:
        ended = {run for run, (_, end) in spans.items() if end <= now}
        for job in list(left):
            if len(running) < slots and all(
                name in ended or name not in known for name in job.after
            ):
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
    where, whole = training.device(device).type, sum(one.seconds for one in found)
    guessed = not all(one.timed for one in found)
    how = (
        (
            "estimated from what each network takes: half or twice as long is possible; --measure "
            "times a batch of each"
        )
        if guessed
        else "from the time of one batch"
    )
    wide = max(len(one.what) for one in found)
    lines = [_line(one.what, wide, one.runs, one.seconds, not one.timed) for one in found]
    span = f" ({rough(whole / WITHIN)} to {rough(whole * WITHIN)})" if guessed else ""
    total = _line("in all", wide, sum(one.runs for one in found), whole, guessed) + span
    return "\n".join(
        [f"to do on this machine ({where}), one run after the other,", f"{how}:", *lines, total]
    )


def _line(what: str, wide: int, runs: int, seconds: float, guessed: bool) -> str:
    return (
        f"  {what:<{wide}}{many(runs, 'run'):>11}  "
        f"{'about ' + rough(seconds) if guessed else duration(seconds):>14}"
    )


def rough(seconds: float) -> str:
    """Return a time to two digits, in the largest unit that fits: `42 s`, `13 min`, `120 h`, `25
    days`.
    """
    for unit, size, most in (("s", 1, 99), ("min", 60, 99), ("h", 3600, 72)):
        if seconds <= most * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(value: float) -> str:
    whole = float(f"{value:.2g}")
    return f"{whole:,.0f}" if whole >= 1 or not whole else "under 1"


def side_by_side(plan: Plan, rows: list[Row], store: Store, device: str, slots: int) -> str:
    """Say how long a study takes with so many jobs at a time, and how much of it each of them
    waits.
    """
    if slots < 1:
        raise UsageError(f"there must be one worker or more; given: {slots}")
    missing = list({row.spec.name: row for row in rows if row.spec.name not in plan.done}.values())
    jobs = study.jobs(plan, missing, store, device, slots)
    seconds = durations(jobs, plan, rows, store, device)
    whole = max((end for _, end in schedule(jobs, seconds, slots).values()), default=0.0)
    busy = sum(seconds.values()) / (whole * slots) if whole else 1.0
    return (
        f"  with {slots} at a time, each as fast: about {rough(whole)}, of which each works "
        f"{busy:.0%}"
    )


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


def _trial(
    row: Row,
    spec: ClassifierSpec,
    sizes: _Sizes,
    faces: Faces,
    plan: Plan,
    store: Store,
    device: str,
) -> tuple[float, bool]:
    """Return the seconds of a trial, and whether they come from a measurement."""
    speed, timed = _speed(spec, len(plan.study.classes), faces.size, store, device)
    learnt = sum(sizes.of(row, source)[0] for source in PARTS[row.spec.train])
    tested = sum(sizes.of(row, source)[1] for source in row.spec.tests)
    return spec.epochs * learnt * (
        1 - spec.validation
    ) / speed.train + tested / speed.predict, timed


Image = tuple[int, int, int]


def _speed(
    spec: ClassifierSpec, classes: int, image: Image, store: Store, device: str
) -> tuple[Speed, bool]:
    """Return the speed of a network here, and whether it was measured; estimated where it never
    was.

    What is measured is the plain network: frozen and augmented ones are as much faster or slower as
    they have work.
    """
    plain = _plain(spec)
    rates = _rates(store, device, spec.threads)
    own, other = _expected(spec, classes, image, rates), _expected(plain, classes, image, rates)
    try:
        measured = Speed(
            *(
                store.memo(f"{_key(plain, classes, image, device)}-{part}", _refuse)
                for part in PARTS_TIMED
            )
        )
    except NotTimed:
        return own, False
    return Speed(measured.train * own.train / other.train, measured.predict), True


PARTS_TIMED = ("train", "predict")


def _plain(spec: ClassifierSpec) -> ClassifierSpec:
    changes = {"epochs": 1, "weights": "none", "validation": 0.0, "augment": None, "freeze": 0.0}
    return spec.model_copy(update=changes)


def _key(plain: ClassifierSpec, classes: int, image: Image, device: str) -> str:
    where = training.device(device).type
    return f"speed-{seeds.seed(plain.model_dump_json()):x}-{classes}-{'x'.join(map(str, image))}-{where}"


def _refuse() -> float:
    raise NotTimed


def _expected(spec: ClassifierSpec, classes: int, image: Image, rates: Rates) -> Speed:
    """Return the speed that a network should have."""
    work = _workload(
        spec.model_copy(update={"weights": "none", "epochs": 1}).model_dump_json(), classes, image
    )
    return Speed(1 / rates.learning(work, spec.batch), 1 / rates.predicting(work))


@cache
def _workload(spec: str, classes: int, image: Image) -> Workload:
    return classifiers.workload(ClassifierSpec.model_validate_json(spec), classes, image)


def _rates(store: Store, device: str, threads: int) -> Rates:
    """Return how fast this machine works, measured the first time that it is asked for."""
    key = f"rates-{training.device(device).type}-{threads}"
    measured: list[Rates] = []

    def measure(part: str) -> float:
        if not measured:
            measured.append(workload.measure(device, threads))
        return float(getattr(measured[0], part))

    return Rates(
        *(
            store.memo(f"{key}-{part}", lambda part=part: measure(part))
            for part in ("product", "number")
        )
    )


def _time_all(plan: Plan, rows: list[Row], store: Store, device: str) -> None:
    """Time a batch of each network that some rows need, unless that was done, and say what is being
    timed.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    classes = len(plan.study.classes)
    todo = {row.spec.name: row.spec for row in rows if row.spec.name not in plan.done}.values()
    plain = [_plain(one.classifier) for one in todo if isinstance(one.classifier, ClassifierSpec)]
    networks = {_key(one, classes, faces.size, device): one for one in plain}
    needed = {one.synthetic for one in todo}
    learning = {
        _generator_key(one, plan, device): one
        for one in plan.databases
        if one.generate.name in needed - plan.done
    }
    total, number = len(networks) + len(learning), 0
    for key, one in networks.items():
        number += 1
        measured: list[Speed] = []

        def measure(
            part: str,
            one: ClassifierSpec = one,
            measured: list[Speed] = measured,
            number: int = number,
        ) -> float:
            if not measured:
                say(f"timing {one.name}, {number} of {total}")
                measured.append(classifiers.speed(one, classes, faces.size, device))
            return float(getattr(measured[0], part))

        for part in PARTS_TIMED:
            store.memo(f"{key}-{part}", lambda part=part, measure=measure: measure(part))
    for key, made in learning.items():
        number += 1
        speed_of = generators.GENERATORS[made.train.kind].speed
        if speed_of is not None:
            say(f"timing the training of a generator ({made.train.kind}), {number} of {total}")
            store.memo(
                key, lambda made=made, speed_of=speed_of: speed_of(faces, made.train, device)
            )


def _generator_key(one: Database, plan: Plan, device: str) -> str:
    spec = one.train.model_copy(update={"faces": plan.study.faces})
    return f"generator-speed-{spec.digest()}-{training.device(device).type}"


def _generating(
    one: Database, faces: Faces, plan: Plan, store: Store, device: str
) -> tuple[float, float, bool]:
    """Return the seconds that are left of training a generator, those of drawing, and whether they
    were measured.
    """
    spec, kind = one.train, generators.GENERATORS[one.train.kind]
    if (
        one.generate.name in plan.done
        or kind.workload is None
        or not isinstance(spec, generators.TrainSpec)
    ):
        return 0.0, 0.0, True
    timed = True
    try:
        speed = store.memo(_generator_key(one, plan, device), _refuse)
    except NotTimed:
        timed, where = False, training.device(device)
        each = _rates(store, device, 1).learning(kind.workload(spec, faces.size), spec.batch)
        lower = 1.0 if spec.precision == "float32" else LOWER
        speed = generators.side_by_side(spec, where) / (each * lower)
    calls = kind.steps(spec, one.generate) * CALLS.get(one.generate.sampler, 1)
    calls *= 2 if one.generate.guidance > 1 else 1
    drawn = sum(one.generate.counts.values()) * calls / PASSES
    return (
        0.0 if spec.name in plan.done else spec.updates * spec.batch / speed,
        drawn / speed,
        timed,
    )
