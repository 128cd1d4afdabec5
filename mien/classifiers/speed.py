"""How fast a network is on this machine, and how much work it is."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from mien.classifiers.channels import name_network_channels
from mien.classifiers.fit import (
    FURTHER_STRONG_WRITES,
    WRITES_PER_AUGMENTED_NUMBER,
    WRITES_PER_NUMBER,
    ClassifierTraining,
)
from mien.classifiers.networks import build_outline, freeze_layers
from mien.classifiers.predict import predict_classes, set_precision, start_network
from mien.classifiers.specs import OWN_NETWORKS, ClassifierSpec
from mien.faces import EMOTIONS, Faces, make_index
from mien.runs import devices
from mien.runs.workload import StepTimes, Workload, time_steps
from mien.runs.workload import count_work as work_of
from mien.seeds import make_rng

# Each batch is timed so many times, and small ones for so many seconds
TIMED_STEPS, TIMED_S = 3, 0.3

TIMED_BATCHES_ON_CPU = (2, 6)  # batch sizes at which a large network is timed on a processor


@dataclass(frozen=True)
class Speed:
    """Images per second in training and in prediction.

    `fastest` and `slowest` are the shortest and the longest time of a timed batch, relative to the
    mean; both are 1 if nothing was timed.
    """

    train: float
    predict: float
    fastest: float = 1.0
    slowest: float = 1.0


@dataclass(frozen=True)
class NetworkTiming:
    """How long a network takes on this machine, by a count of its operations or by the clock."""

    spec: ClassifierSpec

    def count_trained(self, images: int) -> float:
        """Return how many images all steps of a training on `images` see together.

        Some of the images are held out by `validation`, and no step sees these.
        """
        shown = images * (1 - self.spec.validation)
        if self.spec.updates is None:
            return self.spec.epochs * shown
        return self.spec.updates * min(self.spec.batch, shown)

    @property
    def plain(self) -> "NetworkTiming":
        """The plain network, which is the same for all ablations; only this one is measured."""
        changes = {
            "epochs": 1,
            "updates": None,
            "weights": "none",
            "validation": 0.0,
            "augment": None,
            "strong": None,
            "freeze": 0.0,
        }
        return NetworkTiming(self.spec.model_copy(update=changes))

    @property
    def key(self) -> str:
        """A text that differs if the network or its training does."""
        return self.spec.model_dump_json()

    def count_work(self, classes: int, shown: tuple[str, ...]) -> Workload:
        """Return the work per image that shows the channels `shown`."""
        # Weights and epochs change nothing, so that equal work is counted only once
        counted = self.spec.model_copy(update={"weights": "none", "epochs": 1, "updates": None})
        return _count_once(counted.model_dump_json(), classes, shown)

    def measure(
        self,
        classes: int,
        image: tuple[int, int, int],
        device: str = "auto",
        shown: tuple[str, ...] = (),
    ) -> Speed:
        """Return the speed on this machine; see `measure_speed`."""
        return measure_speed(self.spec, classes, image, device, shown)


@cache
def _count_once(spec: str, classes: int, shown: tuple[str, ...]) -> Workload:
    return count_work(ClassifierSpec.model_validate_json(spec), classes, shown)


# Speed


def count_work(spec: ClassifierSpec, classes: int, shown: tuple[str, ...]) -> Workload:
    """Return the work per image that shows the channels `shown`, resized, frozen and augmented as
    the spec says.
    """
    shown = name_network_channels(shown)
    network = build_outline(spec, classes, shown)
    frozen_modules = freeze_layers(network, spec.freeze)
    images = torch.empty(2, len(shown), spec.size, spec.size, device="meta")
    network_work = work_of(network, 2, images, frozen_modules=frozen_modules)

    # The preparation of the image: resized, normalised, and augmented if the spec says so
    writes = WRITES_PER_NUMBER if spec.augment is None else WRITES_PER_AUGMENTED_NUMBER
    if spec.strong is not None:
        writes += FURTHER_STRONG_WRITES
    prepared = len(shown) * spec.size**2 * writes
    return replace(network_work, numbers=network_work.numbers + prepared)


def measure_speed(
    spec: ClassifierSpec,
    classes: int,
    image: tuple[int, int, int],
    device: str = "auto",
    shown: tuple[str, ...] = (),
) -> Speed:
    """Return the speed of a network on this machine, for images of size (c, h, w).

    `shown` has the names of the c channels, which plain pictures do not need. The weights are
    random, and some batches are timed. On a processor a large network is timed on small batches of
    two sizes, which takes seconds: the constant cost of a step (the optimiser) and the cost of each
    further image give the time of a whole batch.
    """
    torch_device = devices.find_device(device)
    small = spec.name in OWN_NETWORKS and OWN_NETWORKS[spec.name].small
    counts = TIMED_BATCHES_ON_CPU if torch_device.type == "cpu" and not small else (spec.batch,)
    timings = [
        _time_batch(spec, classes, image, shown, torch_device, min(count, spec.batch))
        for count in counts
    ]
    (small, *small_times), (large, *large_times) = timings[0], timings[-1]
    small_seconds, large_seconds = (
        [times.mean for times in both] for both in (small_times, large_times)
    )
    both_times = [*small_times, *large_times]
    spread = {
        "fastest": min(times.fastest for times in both_times),
        "slowest": max(times.slowest for times in both_times),
    }
    if small == large:
        return Speed(*(large / seconds for seconds in large_seconds), **spread)

    # Extrapolate to the whole batch; noise must not make a further image free
    per_image = [
        max(later - sooner, 0.1 * later) / (large - small)
        for sooner, later in zip(small_seconds, large_seconds, strict=True)
    ]
    batch_seconds = [
        seconds + image_seconds * (spec.batch - large)
        for image_seconds, seconds in zip(per_image, large_seconds, strict=True)
    ]
    return Speed(*(spec.batch / seconds for seconds in batch_seconds), **spread)


def _time_batch(
    spec: ClassifierSpec,
    classes: int,
    image: tuple[int, int, int],
    shown: tuple[str, ...],
    torch_device: torch.device,
    count: int,
) -> tuple[int, StepTimes, StepTimes]:
    """Return `count`, and how long training steps and predictions with so many images take."""
    # Random images, with the classes in turn
    spec = spec.model_copy(update={"weights": "none", "batch": count})
    names = EMOTIONS[:classes]
    images = make_rng("speed").integers(0, 256, (count, *image), dtype=np.uint8)
    key = [str(number) for number in range(count)]
    index = make_index(images, key=key, emotion=[names[n % classes] for n in range(count)])
    faces = Faces(images, index, None, shown)

    with devices.isolate_randomness(torch_device), set_precision(spec, torch_device):
        training = ClassifierTraining(
            start_network(spec, names, 0, None, faces.shown), faces, 0, torch_device
        )
        train, predict = (
            time_steps(step, lambda: devices.wait_for_device(torch_device), TIMED_S, TIMED_STEPS)
            for step in (
                lambda _: training.make_step(0),
                lambda _: predict_classes(training.classifier, faces),
            )
        )
        return count, train, predict
