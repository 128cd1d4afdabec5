"""Costs: how long a study should take on this machine.

The operations of each network are counted, and the speed of this machine is measured once, in a
second or two. That gives networks and ablations in the right proportion to each other, and totals
within a factor of two. With `measure` a batch of each network is timed instead; measured speeds are
kept in the store and used from then on.
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

CALLS = {"heun": 2}  # calls of the network per step of a sampler, if not one
PASSES = 3  # a training step costs a forward pass, and a backward pass that counts as two
WITHIN = 2  # an estimate may be wrong by this factor, in both directions
LOWER = 0.5  # the share of the time that training in half precision takes


@dataclass(frozen=True)
class Cost:
    """The `seconds` that all `runs` of one kind that are still to do take, timed or estimated."""

    what: str
    runs: int
    seconds: float
    timed: bool = False


class NotTimed(Exception):
    """The speed was not measured on this machine."""


def costs(
    plan: Plan, rows: list[Row], store: Store, device: str = "auto", measure: bool = False
) -> list[Cost]:
    """Return the costs on this machine of the rows of a plan and the databases that they need.

    Runs that are done cost nothing. With `measure` each network is timed once per store and device,
    on a batch of random images with random weights. Reading, figures, nearest neighbours and copies
    are not counted, since they take seconds. Each network call for a sampled image is counted as a
    third of a training image.
    """
    if measure:
        _time_all(plan, rows, store, device)
    faces = Faces.load(store.run(plan.study.faces).path)
    todo = {row.spec.name: row for row in rows if row.spec.name not in plan.done}

    # Generators and databases, as one kind
    needed = {row.spec.synthetic for row in todo.values()}
    by_database = [
        _generating(database, faces, plan, store, device)
        for database in plan.databases
        if database.generate.name in needed
    ]
    generating = [
        (training_s + sampling_s, timed)
        for training_s, sampling_s, timed in by_database
        if training_s + sampling_s > 0
    ]

    # Trials, by classifier, ablation and control
    sizes = _Sizes(plan, faces)
    trials: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row in todo.values():
        if isinstance(row.spec.classifier, ClassifierSpec):
            control = f", control {row.control}" if row.control else ""
            trials[f"{row.classifier} {row.ablation}{control}"].append(
                _trial(row, row.spec.classifier, sizes, faces, plan, store, device)
            )

    kinds = {"generators and databases": generating, **trials} if generating else trials
    return [
        Cost(label, len(runs), sum(seconds for seconds, _ in runs), all(timed for _, timed in runs))
        for label, runs in kinds.items()
    ]


def durations(
    jobs: Sequence[Job], plan: Plan, rows: list[Row], store: Store, device: str = "auto"
) -> dict[str, float]:
    """Return the seconds that each job of a study should take on this machine, by its run.

    Jobs that `costs` does not count take 0 s. Each part of a database takes its share of the time,
    and joining the parts takes none.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    sizes, seconds = _Sizes(plan, faces), dict.fromkeys((job.run for job in jobs), 0.0)

    # Generators, and databases or their parts
    for database in plan.databases:
        training_s, sampling_s, _ = _generating(database, faces, plan, store, device)
        images = sum(database.generate.counts.values())
        if database.train.name in seconds:
            seconds[database.train.name] = training_s
        shares = {
            job.run: (job.arguments["last"] - job.arguments["first"]) / images
            for job in jobs
            if job.run.startswith(f"{database.generate.name}.")
        }
        for name, share in (shares or {database.generate.name: 1.0}).items():
            if name in seconds:
                seconds[name] = sampling_s * share

    # Trials
    for row in rows:
        if row.spec.name in seconds and isinstance(row.spec.classifier, ClassifierSpec):
            trial = _trial(row, row.spec.classifier, sizes, faces, plan, store, device)
            seconds[row.spec.name] = trial[0]
    return seconds


def schedule(
    jobs: Sequence[Job], seconds: Mapping[str, float], slots: int
) -> dict[str, tuple[float, float]]:
    """Return when each job begins and ends, in seconds, with `slots` at a time.

    The order is that of `engine.work`.
    """
    known = {job.run for job in jobs}
    waiting, spans = list(jobs), dict[str, tuple[float, float]]()
    now, running = 0.0, list[tuple[float, str]]()
    while waiting or running:
        # Start each job that has a free slot and whose requirements are done
        ended = {run for run, (_, end) in spans.items() if end <= now}
        for job in list(waiting):
            if len(running) < slots and all(
                name in ended or name not in known for name in job.after
            ):
                waiting.remove(job)
                spans[job.run] = now, now + seconds[job.run]
                heapq.heappush(running, (spans[job.run][1], job.run))

        # Go on to the time at which the next job ends
        now = running[0][0]
        while running and running[0][0] <= now:
            heapq.heappop(running)
    return spans


def describe(found: list[Cost], device: str = "auto") -> str:
    """Return the costs as lines, with their sum."""
    if not found:
        return "nothing is left to do"
    where, seconds = training.device(device).type, sum(cost.seconds for cost in found)
    estimated = not all(cost.timed for cost in found)
    basis = (
        "estimated from the operations of each network: half or twice as long is possible; "
        "--measure times a batch of each"
        if estimated
        else "from the time of one batch"
    )

    # A line per kind, and the total
    width = max(len(cost.what) for cost in found)
    lines = [_line(cost.what, width, cost.runs, cost.seconds, not cost.timed) for cost in found]
    span = f" ({rough(seconds / WITHIN)} to {rough(seconds * WITHIN)})" if estimated else ""
    total = _line("in all", width, sum(cost.runs for cost in found), seconds, estimated) + span
    return "\n".join(
        [f"to do on this machine ({where}), one run after the other,", f"{basis}:", *lines, total]
    )


def _line(label: str, width: int, runs: int, seconds: float, estimated: bool) -> str:
    """Return a line with the number of runs and the time of one kind of work."""
    return (
        f"  {label:<{width}}{many(runs, 'run'):>11}  "
        f"{'about ' + rough(seconds) if estimated else duration(seconds):>14}"
    )


def rough(seconds: float) -> str:
    """Return a time with two digits in the largest unit that fits: `42 s`, `13 min`, `25 days`."""
    for unit, size, most in (("s", 1, 99), ("min", 60, 99), ("h", 3600, 72)):
        if seconds <= most * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 1 or not rounded else "under 1"


def side_by_side(plan: Plan, rows: list[Row], store: Store, device: str, slots: int) -> str:
    """Return how long a study takes with `slots` jobs at a time, and how busy each of them is."""
    if slots < 1:
        raise UsageError(f"the number of workers must be 1 or more; given: {slots}")
    missing = list({row.spec.name: row for row in rows if row.spec.name not in plan.done}.values())
    jobs = study.jobs(plan, missing, store, device, slots)
    seconds = durations(jobs, plan, rows, store, device)
    elapsed = max((end for _, end in schedule(jobs, seconds, slots).values()), default=0.0)
    busy = sum(seconds.values()) / (elapsed * slots) if elapsed else 1.0
    return (
        f"  with {slots} at a time, each as fast: about {rough(elapsed)}, of which each works "
        f"{busy:.0%}"
    )


class _Sizes:
    """The number of training and test images of each trial."""

    def __init__(self, plan: Plan, faces: Faces) -> None:
        self.study, self.faces = plan.study, faces
        specs = [database.generate for database in plan.databases]
        specs += [database.copycat.generate for database in plan.databases if database.copycat]
        self.made = {spec.name: sum(spec.counts.values()) for spec in specs}
        self.real = cache(self._real)

    def _real(self, fold: int) -> tuple[int, int]:
        """Return the number of real training and test images of a fold."""
        study = self.study
        split = splits.split(self.faces, study.protocol, study.folds, fold, study.seed)
        return int(split.train.sum()), int(split.test.sum())

    def of(self, row: Row, source: Source) -> tuple[int, int]:
        """Return the number of training and test images of a source."""
        if source == "real":
            return self.real(row.fold)
        images = self.made[row.spec.synthetic if source == "synthetic" else row.spec.copycat]
        tested = images // HELD_OUT
        return images - tested, tested


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
    train = sum(sizes.of(row, source)[0] for source in PARTS[row.spec.train])
    test = sum(sizes.of(row, source)[1] for source in row.spec.tests)
    train_s = spec.epochs * train * (1 - spec.validation) / speed.train
    return train_s + test / speed.predict, timed


Image = tuple[int, int, int]


def _speed(
    spec: ClassifierSpec, classes: int, image: Image, store: Store, device: str
) -> tuple[Speed, bool]:
    """Return the speed of a network on this machine, and whether it was measured.

    Only the plain network is measured: the speeds of frozen and augmented ones follow from it in
    proportion to their operations. If it was not measured, the speed is an estimate.
    """
    plain = _plain(spec)
    rates = _rates(store, device, spec.threads)
    expected = _expected(spec, classes, image, rates)
    expected_plain = _expected(plain, classes, image, rates)
    try:
        measured = Speed(
            *(
                store.memo(f"{_key(plain, classes, image, device)}-{activity}", _refuse)
                for activity in PARTS_TIMED
            )
        )
    except NotTimed:
        return expected, False
    train = measured.train * expected.train / expected_plain.train
    return Speed(train, measured.predict), True


PARTS_TIMED = ("train", "predict")


def _plain(spec: ClassifierSpec) -> ClassifierSpec:
    """Return the plain network of a classifier, which is the same for all its ablations."""
    changes = {"epochs": 1, "weights": "none", "validation": 0.0, "augment": None, "freeze": 0.0}
    return spec.model_copy(update=changes)


def _key(plain: ClassifierSpec, classes: int, image: Image, device: str) -> str:
    """Return the name under which the store keeps the speed of a network."""
    where, size = training.device(device).type, "x".join(map(str, image))
    return f"speed-{seeds.seed(plain.model_dump_json()):x}-{classes}-{size}-{where}"


def _refuse() -> float:
    raise NotTimed


def _expected(spec: ClassifierSpec, classes: int, image: Image, rates: Rates) -> Speed:
    """Return the speed that a network should have, by its operations."""
    counted = spec.model_copy(update={"weights": "none", "epochs": 1})
    work = _workload(counted.model_dump_json(), classes, image)
    return Speed(1 / rates.learning(work, spec.batch), 1 / rates.predicting(work))


@cache
def _workload(spec: str, classes: int, image: Image) -> Workload:
    return classifiers.workload(ClassifierSpec.model_validate_json(spec), classes, image)


def _rates(store: Store, device: str, threads: int) -> Rates:
    """Return the speed of this machine, measured only if the store does not have it yet."""
    key = f"rates-{training.device(device).type}-{threads}"
    measured: list[Rates] = []

    def measure(field: str) -> float:
        if not measured:
            measured.append(workload.measure(device, threads))
        return float(getattr(measured[0], field))

    return Rates(
        *(
            store.memo(f"{key}-{field}", lambda field=field: measure(field))
            for field in ("product", "number")
        )
    )


def _time_all(plan: Plan, rows: list[Row], store: Store, device: str) -> None:
    """Time a batch of each network that the rows need and the store has no speed of yet."""
    faces = Faces.load(store.run(plan.study.faces).path)
    classes = len(plan.study.classes)
    todo = {row.spec.name: row.spec for row in rows if row.spec.name not in plan.done}.values()

    # What is to be timed: each plain network once, and each needed generator
    plain = [
        _plain(trial.classifier) for trial in todo if isinstance(trial.classifier, ClassifierSpec)
    ]
    networks = {_key(spec, classes, faces.size, device): spec for spec in plain}
    needed = {trial.synthetic for trial in todo}
    databases = {
        _generator_key(database, plan, device): database
        for database in plan.databases
        if database.generate.name in needed - plan.done
    }
    total = len(networks) + len(databases)

    # Networks: a single measurement gives both speeds
    for number, (key, spec) in enumerate(networks.items(), start=1):
        measured: list[Speed] = []

        def measure(
            activity: str,
            spec: ClassifierSpec = spec,
            measured: list[Speed] = measured,
            number: int = number,
        ) -> float:
            if not measured:
                say(f"timing {spec.name}, {number} of {total}")
                measured.append(classifiers.speed(spec, classes, faces.size, device))
            return float(getattr(measured[0], activity))

        for activity in PARTS_TIMED:
            store.memo(
                f"{key}-{activity}",
                lambda activity=activity, measure=measure: measure(activity),
            )

    # Generators
    for number, (key, database) in enumerate(databases.items(), start=len(networks) + 1):
        train = database.train
        speed_of = generators.GENERATORS[train.kind].speed
        if speed_of is not None:
            say(f"timing the training of a generator ({train.kind}), {number} of {total}")
            store.memo(key, lambda train=train, speed_of=speed_of: speed_of(faces, train, device))


def _generator_key(database: Database, plan: Plan, device: str) -> str:
    """Return the name under which the store keeps the speed of a generator."""
    spec = database.train.model_copy(update={"faces": plan.study.faces})
    return f"generator-speed-{spec.digest()}-{training.device(device).type}"


def _generating(
    database: Database, faces: Faces, plan: Plan, store: Store, device: str
) -> tuple[float, float, bool]:
    """Return the seconds to train a generator, those to sample, and whether they were measured."""
    spec, kind = database.train, generators.GENERATORS[database.train.kind]
    if (
        database.generate.name in plan.done
        or kind.workload is None
        or not isinstance(spec, generators.TrainSpec)
    ):
        return 0.0, 0.0, True

    # Training images per second, measured or else estimated
    timed = True
    try:
        speed = store.memo(_generator_key(database, plan, device), _refuse)
    except NotTimed:
        timed, where = False, training.device(device)
        image_s = _rates(store, device, 1).learning(kind.workload(spec, faces.size), spec.batch)
        lower = 1.0 if spec.precision == "float32" else LOWER
        speed = generators.side_by_side(spec, where) / (image_s * lower)

    # Sampling, as the number of training images that would take as long
    calls = kind.steps(spec, database.generate) * CALLS.get(database.generate.sampler, 1)
    calls *= 2 if database.generate.guidance > 1 else 1
    sampled = sum(database.generate.counts.values()) * calls / PASSES
    training_s = 0.0 if spec.name in plan.done else spec.updates * spec.batch / speed
    return training_s, sampled / speed, timed
