"""Costs: how long a study should take on this machine.

The operations of each network are counted, and the speed of this machine is measured once, in a
second or two. That gives networks and ablations in the right proportion to each other, and totals
within a factor of two. With `measure` some batches of each network are timed instead, and the
slowest and the fastest of them give a range; measured speeds are kept in the store and used from
then on.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mien import seeds
from mien.classifiers.channels import read_clip_channels
from mien.classifiers.kinds import find_timing
from mien.classifiers.speed import NetworkTiming, Speed
from mien.errors import UsageError
from mien.faces import Faces
from mien.generators.diffusion.fit import count_parallel_pieces
from mien.generators.kinds import GENERATORS
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import OnePassSpec, SteppedSpec, TrainSpec, count_steps
from mien.prepare import splits
from mien.runs import devices, workload
from mien.runs.jobs import Job
from mien.runs.progress import format_duration, format_roughly, quantify, say
from mien.runs.store import Store
from mien.runs.workload import Rates, StepTimes
from mien.study.run import list_study_jobs
from mien.study.settings import SOURCES_OF, SYNTHETIC_TEST_DIVISOR, Source
from mien.study.specs import Database, StudyPlan, TrialRow

# a training step costs a forward pass, and a backward pass that counts as two
FORWARD_PASSES_PER_STEP = 3

ESTIMATE_FACTOR = 2  # an estimate may be wrong by this factor, in both directions

HALF_PRECISION_TIME = 0.5  # the share of the time that training in half precision takes


@dataclass(frozen=True)
class Duration:
    """How long work takes: the expected `seconds`, and a range of them.

    If the work was `timed`, the ends of the range are `fastest` and `slowest`, relative to
    `seconds`, as the fastest and the slowest batch were; else an estimate may be wrong by
    ESTIMATE_FACTOR in both directions.
    """

    seconds: float = 0.0
    least: float = 0.0
    most: float = 0.0
    timed: bool = True

    @classmethod
    def of_batches(cls, seconds: float, fastest: float, slowest: float) -> "Duration":
        """Return a measured duration, whose batches took `fastest` to `slowest` of their mean."""
        return cls(seconds, seconds * fastest, seconds * slowest)

    @classmethod
    def of_estimate(cls, seconds: float) -> "Duration":
        """Return an estimated duration."""
        return cls(seconds, seconds / ESTIMATE_FACTOR, seconds * ESTIMATE_FACTOR, False)

    def __add__(self, other: "Duration") -> "Duration":
        """Return how long both take, one after the other; the ends of the ranges are added too."""
        return Duration(
            self.seconds + other.seconds,
            self.least + other.least,
            self.most + other.most,
            self.timed and other.timed,
        )

    def scale(self, times: float) -> "Duration":
        """Return the duration of so many times the work."""
        return Duration(self.seconds * times, self.least * times, self.most * times, self.timed)


@dataclass(frozen=True)
class Cost:
    """How long all `runs` of one kind that are still to do take, timed or estimated."""

    label: str
    runs: int
    duration: Duration


@dataclass(frozen=True)
class UnitCosts:
    """The seconds of one core, or of one GPU, that each unit of a study's work takes.

    `seen` is an image in the training of a generator, and `drawn` one that it draws. `updates` has
    an optimiser step of each classifier under each ablation, and `predicted` an image that the
    classifier names the emotion of.
    """

    seen: float
    drawn: float
    updates: Mapping[tuple[str, str], float]
    predicted: Mapping[tuple[str, str], float]


class NotTimed(Exception):
    """The speed was not measured on this machine."""


def estimate_costs(
    plan: StudyPlan, rows: list[TrialRow], store: Store, device: str = "auto", measure: bool = False
) -> list[Cost]:
    """Return the costs on this machine of the rows of a plan and the databases that they need.

    Runs that are done cost nothing. With `measure` each network is timed once per store and device,
    on batches of random images with random weights. Reading, figures, nearest neighbours and copies
    are not counted, since they take seconds. Each network call for a sampled image is counted as a
    third of a training image.
    """
    if measure:
        _time_all(plan, rows, store, device)
    faces = Faces.load(store.run(plan.study.faces).path)
    todo = {row.spec.name: row for row in rows if row.spec.name not in plan.done}

    # Generators and databases, as one kind
    needed = {name for row in todo.values() for name in row.spec.databases.values()}
    by_database = [
        _estimate_database(database, faces, plan, store, device)
        for database in plan.all_databases
        if any(used.name in needed for used in database.all_used)
    ]
    generating = [
        training + sampling for training, sampling in by_database if (training + sampling).seconds
    ]

    # Trials, by classifier, ablation and control
    sizes = _Sizes(plan, faces)
    trials: dict[str, list[Duration]] = defaultdict(list)
    for row in todo.values():
        timing = find_timing(row.spec.classifier)
        if timing is not None:
            control = f", control {row.control}" if row.control else ""
            trials[f"{row.classifier} {row.ablation}{control}"].append(
                _estimate_trial(row, timing, sizes, faces, plan, store, device)
            )

    kinds = {"generators and databases": generating, **trials} if generating else trials
    return [
        Cost(label, len(durations), sum(durations, Duration()))
        for label, durations in kinds.items()
    ]


def measure_unit_costs(plan: StudyPlan, store: Store, device: str = "auto") -> UnitCosts:
    """Return what each unit of a study's work takes, measured once per store and device.

    What is done counts like what is to do, so that the numbers stay the same. The study must have
    a generator that trains in steps.
    """
    plan = replace(plan, done=frozenset(), failed={})
    _time_all(plan, list(plan.rows), store, device)
    faces, database = Faces.load(store.run(plan.study.faces).path), plan.databases[0]
    training, sampling = _estimate_database(database, faces, plan, store, device)
    train, drawn = database.train, sum(database.generate.counts.values())
    seen, cores = 1, 1
    if isinstance(train, SteppedSpec):
        seen = train.updates * train.batch
        cores = count_parallel_pieces(train, devices.find_device(device))

    # Each classifier under each ablation
    updates, predicted = {}, {}
    for row in plan.rows:
        position, timing = (row.classifier, row.ablation), find_timing(row.spec.classifier)
        if timing is None or position in updates:
            continue
        image, shown = _find_image(row, faces, plan)
        speed, _ = _find_speed(timing, plan.study.outputs, image, shown, store, device)
        updates[position] = timing.spec.batch / speed.train
        predicted[position] = 1 / speed.predict
    seen_s, drawn_s = cores * training.seconds / seen, cores * sampling.seconds / drawn
    return UnitCosts(seen_s, drawn_s, updates, predicted)


def estimate_unit_costs(plan: StudyPlan, store: Store, rates: Rates) -> UnitCosts:
    """Return what each unit of a study's work takes at the speed `rates`, by its operations.

    Nothing is measured, so that the numbers are the same on every machine. The study must have a
    generator that trains in steps.
    """
    faces, database = Faces.load(store.run(plan.study.faces).path), plan.databases[0]
    seen_s = drawn_s = 0.0
    if isinstance(database.train, SteppedSpec):
        seen_s = _estimate_trained_image(database.train, faces.size, rates)
        drawn_s = seen_s * _count_calls(database) / FORWARD_PASSES_PER_STEP

    # Each classifier under each ablation
    updates, predicted = {}, {}
    for row in plan.rows:
        position, timing = (row.classifier, row.ablation), find_timing(row.spec.classifier)
        if timing is None or position in updates:
            continue
        _, shown = _find_image(row, faces, plan)
        speed = _estimate_speed(timing, plan.study.outputs, shown, rates)
        updates[position] = timing.spec.batch / speed.train
        predicted[position] = 1 / speed.predict
    return UnitCosts(seen_s, drawn_s, updates, predicted)


def estimate_image_seconds(
    spec: SteppedSpec, size: tuple[int, int, int], store: Store, device: str = "auto"
) -> float:
    """Return the seconds of one core, or one GPU, that an image takes in the training of a
    generator, by its operations.

    Raises KeyError for a kind that does not train in steps.
    """
    return _estimate_trained_image(spec, size, _find_rates(store, device, 1))


def _estimate_trained_image(spec: SteppedSpec, size: tuple[int, int, int], rates: Rates) -> float:
    count = GENERATORS[spec.kind].count_workload
    if count is None:
        raise KeyError(spec.kind)
    image_s = rates.estimate_training_seconds(count(spec, size), spec.batch)
    is_full = not isinstance(spec, TrainSpec) or spec.precision == "float32"
    lower = 1.0 if is_full else HALF_PRECISION_TIME
    return image_s * lower


def estimate_durations(
    jobs: Sequence[Job], plan: StudyPlan, rows: list[TrialRow], store: Store, device: str = "auto"
) -> dict[str, Duration]:
    """Return how long each job of a study should take on this machine, by its run.

    Jobs that `estimate_costs` does not count take 0 s. Each part of a database takes its share of
    the time, and joining the parts takes none.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    sizes, durations = _Sizes(plan, faces), dict.fromkeys((job.run for job in jobs), Duration())

    # Generators, and databases or their parts
    for database in plan.all_databases:
        training, sampling = _estimate_database(database, faces, plan, store, device)
        images = sum(database.generate.counts.values())
        if database.train.name in durations:
            durations[database.train.name] = training
        shares = {
            job.run: (job.arguments["last"] - job.arguments["first"]) / images
            for job in jobs
            if job.run.startswith(f"{database.generate.name}.")
        }
        for name, share in (shares or {database.generate.name: 1.0}).items():
            if name in durations:
                durations[name] = sampling.scale(share)

    # Trials
    for row in rows:
        timing = find_timing(row.spec.classifier)
        if row.spec.name in durations and timing is not None:
            durations[row.spec.name] = _estimate_trial(
                row, timing, sizes, faces, plan, store, device
            )
    return durations


def simulate_schedule(
    jobs: Sequence[Job], seconds: Mapping[str, float], slots: int
) -> dict[str, tuple[float, float]]:
    """Return when each job begins and ends, in seconds, with `slots` at a time.

    The order is that of `engine.run_jobs`.
    """
    job_runs = {job.run for job in jobs}
    waiting, spans = list(jobs), dict[str, tuple[float, float]]()
    now, running = 0.0, list[tuple[float, str]]()
    while waiting or running:
        # Start each job that has a free slot and whose requirements are done
        ended = {run for run, (_, end) in spans.items() if end <= now}
        for job in list(waiting):
            if len(running) < slots and all(
                name in ended or name not in job_runs for name in job.after
            ):
                waiting.remove(job)
                spans[job.run] = now, now + seconds[job.run]
                heapq.heappush(running, (spans[job.run][1], job.run))

        # Go on to the time at which the next job ends
        now = running[0][0]
        while running and running[0][0] <= now:
            heapq.heappop(running)
    return spans


def describe_costs(costs: list[Cost], device: str = "auto") -> str:
    """Return the costs as lines, with their sum, each as a range of times."""
    if not costs:
        return "nothing is left to do"
    where, total = devices.find_device(device).type, sum_costs(costs)
    basis = (
        "from the times of the fastest and the slowest of some batches"
        if total.timed
        else "estimated from the operations of each network: half or twice as long is possible; "
        "--measure times some batches of each"
    )

    # A line per kind, and the total
    width = max(len(cost.label) for cost in costs)
    lines = [_format_line(cost.label, width, cost.runs, cost.duration) for cost in costs]
    in_all = _format_line("in all", width, sum(cost.runs for cost in costs), total)
    return "\n".join(
        [f"to do on this machine ({where}), one run after the other,", f"{basis}:", *lines, in_all]
    )


def sum_costs(costs: Iterable[Cost]) -> Duration:
    """Return how long everything takes, one run after the other."""
    return sum((cost.duration for cost in costs), Duration())


def _format_line(label: str, width: int, runs: int, duration: Duration) -> str:
    """Return a line with the number of runs and the time of one kind of work."""
    return f"  {label:<{width}}{quantify(runs, 'run'):>11}  {format_range(duration)}"


def format_range(duration: Duration) -> str:
    """Return a duration in words, as `between 2 h 10 min and 3 h 0 min`.

    Estimates have two digits. Where both ends read the same, there is one: `about 5 s`.
    """
    form = format_duration if duration.timed else format_roughly
    least, most = form(duration.least), form(duration.most)
    return f"about {least}" if least == most else f"between {least} and {most}"


def estimate_with_workers(
    plan: StudyPlan, rows: list[TrialRow], store: Store, device: str, slots: int
) -> tuple[Duration, float]:
    """Return how long a study takes with `slots` jobs at a time, and how busy each worker is.

    The second number is the share of the time in which a worker works, from 0 to 1. Raises
    UsageError for less than one worker.
    """
    if slots < 1:
        raise UsageError(f"the number of workers must be 1 or more; given: {slots}")
    missing = list({row.spec.name: row for row in rows if row.spec.name not in plan.done}.values())
    jobs = list_study_jobs(plan, missing, store, device, slots)
    durations = estimate_durations(jobs, plan, rows, store, device)

    # The schedule with the expected times, and with those at both ends of the ranges
    ends = [
        _find_end(
            jobs, {run: getattr(duration, field) for run, duration in durations.items()}, slots
        )
        for field in ("seconds", "least", "most")
    ]
    elapsed = Duration(*ends, timed=all(duration.timed for duration in durations.values()))
    work = sum(duration.seconds for duration in durations.values())
    return elapsed, work / (elapsed.seconds * slots) if elapsed.seconds else 1.0


def _find_end(jobs: Sequence[Job], seconds: Mapping[str, float], slots: int) -> float:
    """Return when the last of the jobs ends, in seconds."""
    return max((end for _, end in simulate_schedule(jobs, seconds, slots).values()), default=0.0)


def describe_workers(slots: int, elapsed: Duration, busy: float) -> str:
    """Return in a line what `estimate_with_workers` found for `slots` workers."""
    return (
        f"  with {slots} at a time, each as fast: {format_range(elapsed)}, of which each works "
        f"{busy:.0%}"
    )


class _Sizes:
    """The number of training and test images of each trial."""

    def __init__(self, plan: StudyPlan, faces: Faces) -> None:
        self.study, self.faces = plan.study, faces
        self.made = {
            used.name: sum(used.generate.counts.values())
            for database in plan.all_databases
            for used in database.all_used
        }
        self.real = cache(self._count_real)

    def _count_real(self, fold: int, people: float | None) -> tuple[int, int]:
        """Return the number of real training and test images of a fold."""
        study = self.study
        split = splits.split(self.faces, study.protocol, study.folds, fold, study.seed)
        train = splits.keep_people(self.faces, split.train, people, study.seed)
        return int(train.sum()), int(split.test.sum())

    def count_images(self, row: TrialRow, source: Source) -> tuple[int, int]:
        """Return the number of training and test images of a source."""
        if source == "real":
            return self.real(row.fold, row.arm.people)
        images = self.made[row.spec.databases[source]]
        if row.spec.has_own_use:
            ratio = row.arm.ratio
            most = (
                images if ratio is None else round(ratio * self.real(row.fold, row.arm.people)[0])
            )
            return min(images, most), 0
        tested = images // SYNTHETIC_TEST_DIVISOR
        return images - tested, tested


def _estimate_trial(
    row: TrialRow,
    timing: NetworkTiming,
    sizes: _Sizes,
    faces: Faces,
    plan: StudyPlan,
    store: Store,
    device: str,
) -> Duration:
    """Return how long a trial takes."""
    image, shown = _find_image(row, faces, plan)
    speed, timed = _find_speed(timing, plan.study.outputs, image, shown, store, device)
    train = sum(sizes.count_images(row, source)[0] for source in SOURCES_OF[row.spec.train])
    test = sum(sizes.count_images(row, source)[1] for source in row.spec.tests)
    seconds = timing.count_trained(train) / speed.train + test / speed.predict
    if timed:
        return Duration.of_batches(seconds, speed.fastest, speed.slowest)
    return Duration.of_estimate(seconds)


Image = tuple[int, int, int]


def _find_image(row: TrialRow, faces: Faces, plan: StudyPlan) -> tuple[Image, tuple[str, ...]]:
    """Return the size of the images that a trial sees, and the names of their channels.

    An ablation with another input shows the images of the study with other channels.
    """
    shown = plan.shown[row.spec.faces]
    return (len(shown), *faces.size[1:]), shown


def _find_speed(
    timing: NetworkTiming,
    classes: int,
    image: Image,
    shown: tuple[str, ...],
    store: Store,
    device: str,
) -> tuple[Speed, bool]:
    """Return the speed of a network on this machine, and whether it was measured.

    Only the plain network is measured: the speeds of frozen and augmented ones follow from it in
    proportion to their operations. If it was not measured, the speed is an estimate.
    """
    plain = timing.plain
    rates = _find_rates(store, device, timing.spec.threads)
    expected = _estimate_speed(timing, classes, shown, rates)
    expected_plain = _estimate_speed(plain, classes, shown, rates)
    try:
        measured = Speed(
            *(
                store.measure_once(
                    f"{_make_key(plain, classes, image, shown, device)}-{field}", _refuse
                )
                for field in TIMED_FIELDS
            )
        )
    except NotTimed:
        return expected, False
    train = measured.train * expected.train / expected_plain.train
    return replace(measured, train=train), True


# What the store keeps of a timed network, and of a timed training of a generator
TIMED_FIELDS = ("train", "predict", "fastest", "slowest")
TIMED_GENERATOR_FIELDS = ("mean", "fastest", "slowest")


def _make_key(
    plain: NetworkTiming, classes: int, image: Image, shown: tuple[str, ...], device: str
) -> str:
    """Return the name under which the store keeps the speed of a network.

    Clips with as many channels can differ in their moments, so that the names count too.
    """
    where, size = devices.find_device(device).type, "x".join(map(str, image))
    clip = read_clip_channels(shown)
    moments = "" if clip is None else f"-{len(clip.moments)}"
    return f"speed-{seeds.derive_seed(plain.key):x}-{classes}-{size}{moments}-{where}"


def _refuse() -> float:
    raise NotTimed


def _estimate_speed(
    timing: NetworkTiming, classes: int, shown: tuple[str, ...], rates: Rates
) -> Speed:
    """Return the speed that a network should have, by its operations."""
    work = timing.count_work(classes, shown)
    return Speed(
        1 / rates.estimate_training_seconds(work, timing.spec.batch),
        1 / rates.estimate_prediction_seconds(work),
    )


def _find_rates(store: Store, device: str, threads: int) -> Rates:
    """Return the speed of this machine, measured only if the store does not have it yet."""
    key = f"rates-{devices.find_device(device).type}-{threads}"
    measured: list[Rates] = []

    def measure(field: str) -> float:
        if not measured:
            say("measuring how fast this machine computes, with two small networks (1 to 2 s)")
            measured.append(workload.measure_rates(device, threads))
        return float(getattr(measured[0], field))

    return Rates(
        *(
            store.measure_once(f"{key}-{field}", lambda field=field: measure(field))
            for field in ("product", "number")
        )
    )


def _time_all(plan: StudyPlan, rows: list[TrialRow], store: Store, device: str) -> None:
    """Time batches of each network that the rows need and the store has no speed of yet.

    What is timed is written to standard error: the network, its size and its batches.
    """
    faces = Faces.load(store.run(plan.study.faces).path)
    classes = plan.study.outputs
    todo = {row.spec.name: row for row in rows if row.spec.name not in plan.done}.values()

    # What is to be timed: each plain network and input once, and each needed generator
    networks = {}
    for row in todo:
        timing = find_timing(row.spec.classifier)
        if timing is not None:
            seen = _find_image(row, faces, plan)
            networks[_make_key(timing.plain, classes, *seen, device)] = (timing.plain, *seen)
    needed = {name for row in todo for name in row.spec.databases.values()}
    databases = {
        _make_generator_key(database, plan, device): database
        for database in plan.all_databases
        if database.generate.name in needed - plan.done
        and GENERATORS[database.train.kind].measure_speed is not None
    }
    total = len(networks) + len(databases)

    # Networks: a single measurement gives all numbers
    for number, (key, (timing, image, shown)) in enumerate(networks.items(), start=1):

        def measure(
            timing: NetworkTiming = timing,
            image: Image = image,
            shown: tuple[str, ...] = shown,
            number: int = number,
        ) -> Speed:
            spec = timing.spec
            say(
                f"timing {spec.name} ({number} of {total}): training and prediction, images of "
                f"{spec.size} x {spec.size}, batch {spec.batch}"
            )
            return timing.measure(classes, image, device, shown)

        _keep_measured(store, key, TIMED_FIELDS, measure)

    # Generators
    for number, (key, database) in enumerate(databases.items(), start=len(networks) + 1):
        train = database.train
        time_training = GENERATORS[train.kind].measure_speed
        if time_training is not None and isinstance(train, TrainSpec | OnePassSpec):

            def time_generator(
                train: TrainSpec | OnePassSpec = train,
                number: int = number,
                time_training: Callable[..., StepTimes] = time_training,
            ) -> StepTimes:
                height, width = faces.size[1:]
                say(
                    f"timing the training of a generator ({number} of {total}): {train.kind}, "
                    f"width {train.net.width}, images of {height} x {width}, batch {train.batch}"
                )
                return time_training(faces, train, device)

            _keep_measured(store, key, TIMED_GENERATOR_FIELDS, time_generator)


def _keep_measured(
    store: Store, key: str, fields: Sequence[str], measure: Callable[[], object]
) -> None:
    """Keep the fields of what `measure` returns in the store, unless it has them all."""
    measured: list[object] = []

    def read(field: str) -> float:
        if not measured:
            measured.append(measure())
        return float(getattr(measured[0], field))

    for field in fields:
        store.measure_once(f"{key}-{field}", lambda field=field: read(field))


def _make_generator_key(database: Database, plan: StudyPlan, device: str) -> str:
    """Return the name under which the store keeps the speed of a generator."""
    spec = database.train.model_copy(update={"faces": plan.study.faces})
    return f"generator-step-{spec.digest()}-{devices.find_device(device).type}"


def _estimate_database(
    database: Database, faces: Faces, plan: StudyPlan, store: Store, device: str
) -> tuple[Duration, Duration]:
    """Return how long it takes to train a generator, and to sample from it."""
    spec, kind = database.train, GENERATORS[database.train.kind]
    if (
        database.generate.name in plan.done
        or kind.count_workload is None
        or not isinstance(spec, SteppedSpec)
    ):
        return Duration(), Duration()

    # A training image, measured or else estimated
    key = _make_generator_key(database, plan, device)
    try:
        mean, fastest, slowest = (
            store.measure_once(f"{key}-{field}", _refuse) for field in TIMED_GENERATOR_FIELDS
        )
        per_image = Duration.of_batches(mean / spec.batch, fastest, slowest)
    except NotTimed:
        pieces = count_parallel_pieces(spec, devices.find_device(device))
        image_s = estimate_image_seconds(spec, faces.size, store, device)
        per_image = Duration.of_estimate(image_s / pieces)

    # Sampling, as the number of training images that would take as long
    drawn = sum(database.generate.counts.values())
    sampled = drawn * _count_calls(database) / FORWARD_PASSES_PER_STEP
    trained = 0.0 if spec.name in plan.done else float(spec.updates * spec.batch)
    return per_image.scale(trained), per_image.scale(sampled)


def _count_calls(database: Database) -> float:
    """Return how often the network is called for an image that is drawn."""
    generate = database.generate
    sampler = SAMPLERS.get(generate.sampler)  # None: one pass
    calls = count_steps(database.train, generate) * (sampler.calls if sampler else 1)
    scales = [generate.guidance, generate.guidance_mix]
    calls_of_scales = [2 if scale > 1 else 1 for scale in scales if scale is not None]
    return calls * sum(calls_of_scales) / len(calls_of_scales)
