"""The work of a network per image, and the speed of this machine at such work.

Two quantities are counted, without real weights: products (multiply-adds of convolutions, linear
layers and attention), and numbers (all values that operations write to memory). The time of each is
measured once per device, in a second or two.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mien.runs import devices

BACKWARD_PASSES = 2  # the work of a backward pass, in forward passes

OPTIMISER_NUMBERS = 12  # numbers that an optimiser step reads or writes for each trained weight

# pixels, channels and images of the networks that are timed
TIMED_SIZE, TIMED_WIDTH, TIMED_BATCH = (32, 64, 8)

SPENT_S = 0.5  # how long each of the two networks is timed, at least three passes


@dataclass(frozen=True)
class StepTimes:
    """The seconds that each of several equal steps of a training took on this machine."""

    seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean number of seconds of a step."""
        return sum(self.seconds) / len(self.seconds)

    @property
    def fastest(self) -> float:
        """The shortest time of a step, as a share of the mean, up to 1."""
        return min(self.seconds) / self.mean

    @property
    def slowest(self) -> float:
        """The longest time of a step, as a multiple of the mean, from 1."""
        return max(self.seconds) / self.mean


def time_steps(
    step: Callable[[int], object], wait: Callable[[], None], most_s: float, least_steps: int
) -> StepTimes:
    """Return how long `step(1)`, `step(2)`, ... take; `step(0)` comes before, to warm up.

    `wait` waits until the device has finished. There are `least_steps` steps, and more until
    `most_s` seconds have passed.
    """
    step(0)
    wait()
    began, seconds = time.monotonic(), list[float]()
    while len(seconds) < least_steps or time.monotonic() - began < most_s:
        start = time.monotonic()
        step(len(seconds) + 1)
        wait()
        seconds.append(time.monotonic() - start)
    return StepTimes(tuple(seconds))


@dataclass(frozen=True)
class Workload:
    """The work of one image in a forward pass.

    `learnt_products` and `learnt_numbers` are the part in layers that are trained, and `weights` is
    the number of trained weights.
    """

    products: float
    numbers: float
    learnt_products: float
    learnt_numbers: float
    weights: int


@dataclass(frozen=True)
class Rates:
    """The seconds that a product and a number take."""

    product: float
    number: float

    def estimate_prediction_seconds(self, work: Workload) -> float:
        """Return the seconds of an image in prediction."""
        return work.products * self.product + work.numbers * self.number

    def estimate_training_seconds(self, work: Workload, batch: int) -> float:
        """Return the seconds of an image in training, with its share of a step of the optimiser."""
        backwards = work.learnt_products * self.product + work.learnt_numbers * self.number
        return (
            self.estimate_prediction_seconds(work)
            + BACKWARD_PASSES * backwards
            + OPTIMISER_NUMBERS * work.weights * self.number / batch
        )


class _Counter(TorchDispatchMode):
    """Counts the work of operations; `learns` says whether the current layer is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.learns = True
        self.products = {True: 0.0, False: 0.0}
        self.numbers = {True: 0.0, False: 0.0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and count its work."""
        out = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.products[self.learns] += counted(*args, **(kwargs or {}), out_val=out) / 2
        if not getattr(func, "is_view", False):
            self.numbers[self.learns] += sum(
                leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)
            )
        return out


def count_work(
    network: nn.Module, images: int, *inputs: Tensor, frozen_modules: Collection[nn.Module] = ()
) -> Workload:
    """Return the work per image of `network` for `inputs` of a number of `images`.

    The device meta is the fastest. `frozen_modules` are those that are not trained; operations
    from the start of such a module to that of the next trained one count as not trained.
    """
    # A hook at each module with weights says whether it is trained
    counter = _Counter()

    def make_hook(learns: bool) -> Callable[..., None]:
        def note(*_: Any) -> None:
            counter.learns = learns

        return note

    frozen_ids = {id(module) for module in frozen_modules}
    marked = [
        module
        for module in network.modules()
        if frozen_modules and list(module.parameters(recurse=False))
    ]
    hooks = [
        module.register_forward_pre_hook(make_hook(id(module) not in frozen_ids))
        for module in marked
    ]

    # One forward pass, counted
    try:
        with counter, torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()

    # Per image
    products, numbers = counter.products, counter.numbers
    return Workload(
        products=sum(products.values()) / images,
        numbers=sum(numbers.values()) / images,
        learnt_products=products[True] / images,
        learnt_numbers=numbers[True] / images,
        weights=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
    )


def measure_rates(device: str = "auto", threads: int = 1) -> Rates:
    """Return the speed of this machine.

    Two small stacks of layers are trained for about half a second each: convolutions, which do many
    products, and normalisations, which mostly write numbers.
    """
    torch_device = devices.find_device(device)
    size, batch = (
        (TIMED_SIZE, TIMED_BATCH)
        if torch_device.type == "cpu"
        else (4 * TIMED_SIZE, 4 * TIMED_BATCH)
    )
    convolved = nn.Sequential(
        *(nn.Conv2d(TIMED_WIDTH, TIMED_WIDTH, 3, padding=1) for _ in range(4))
    )
    written = nn.Sequential(
        *(layer for _ in range(4) for layer in (nn.BatchNorm2d(TIMED_WIDTH), nn.ReLU()))
    )

    # The work and the seconds of each
    with torch.device("meta"):
        works = [
            count_work(network.to("meta"), batch, torch.empty(batch, TIMED_WIDTH, size, size))
            for network in (convolved, written)
        ]
    with (
        devices.isolate_randomness(torch_device),
        devices.limit_cores(threads if torch_device.type == "cpu" else None),
    ):
        images = torch.rand(batch, TIMED_WIDTH, size, size, device=torch_device)
        timed = [
            _measure_seconds(network.to_empty(device=torch_device), images, torch_device)
            for network in (convolved, written)
        ]

    # Solve for the seconds of a number, then for those of a product
    heavy, light = (seconds / (batch * (1 + BACKWARD_PASSES)) for seconds in timed)
    number = light / works[1].numbers
    return Rates(max(heavy - number * works[0].numbers, 0.1 * heavy) / works[0].products, number)


def _measure_seconds(network: nn.Module, images: Tensor, torch_device: torch.device) -> float:
    """Return the seconds of a forward and backward pass.

    It is the shortest of several passes, which other programs disturbed least.
    """
    durations: list[float] = []
    began = time.monotonic()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    while len(durations) < 3 or time.monotonic() - began < SPENT_S:
        start = time.monotonic()
        network(images.requires_grad_()).sum().backward()
        if torch_device.type == "cuda":
            torch.cuda.synchronize(torch_device)
        durations.append(time.monotonic() - start)
    return min(durations)
