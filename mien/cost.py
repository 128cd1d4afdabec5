"""Costs: how long a study should take on this machine, from the time of one batch of each of its networks."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from mien import classifiers, generators, seeds, splits, training
from mien.classifiers import ClassifierSpec, Speed
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
    found = [_database(one, faces, plan, store, device) for one in plan.databases if one.generate.name in needed]
    sizes = _Sizes(plan, faces)
    parts: dict[str, list[float]] = defaultdict(list)
    for row in todo.values():
        if isinstance(row.spec.classifier, ClassifierSpec):
            label = f"{row.classifier} {row.ablation}{f', control {row.control}' if row.control else ''}"
            parts[label].append(_trial(row, row.spec.classifier, sizes, faces, plan, store, device))
    generating = [one for one in found if one > 0]
    lines = [Cost("generators and databases", len(generating), sum(generating))] if generating else []
    return lines + [Cost(label, len(seconds), sum(seconds)) for label, seconds in parts.items()]


def describe(found: list[Cost], device: str = "auto") -> str:
    """Return the costs as lines, with their sum."""
    if not found:
        return "nothing is left to do"
    where = training.device(device).type
    lines = [f"  {one.what:<36}{one.runs:>5} runs{duration(one.seconds):>16}" for one in found]
    whole = f"  {'in all':<36}{sum(one.runs for one in found):>5} runs{duration(sum(c.seconds for c in found)):>16}"
    return "\n".join([f"to do on this machine ({where}), from the time of one batch:", *lines, whole])


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


def _database(one: Database, faces: Faces, plan: Plan, store: Store, device: str) -> float:
    """Return the seconds that are left of training a generator and drawing its database."""
    spec, kind = one.train, generators.GENERATORS[one.train.kind]
    speed_of = kind.speed
    if one.generate.name in plan.done or speed_of is None or not isinstance(spec, generators.TrainSpec):
        return 0.0
    key = f"generator-speed-{spec.model_copy(update={'faces': plan.study.faces}).digest()}"

    def measure() -> float:
        say(f"timing one batch of {spec.kind}")
        return speed_of(faces, spec, device)

    speed = store.memo(f"{key}-{training.device(device).type}", measure)
    calls = kind.steps(spec, one.generate) * CALLS.get(one.generate.sampler, 1)
    calls *= 2 if one.generate.guidance > 1 else 1
    drawn = sum(one.generate.counts.values()) * calls / PASSES
    return ((0 if spec.name in plan.done else spec.updates * spec.batch) + drawn) / speed
