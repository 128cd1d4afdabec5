"""How much work a network is: what an image takes, counted without any weights, and how fast such
work is done here.

Two things are counted: products (multiply-adds of convolutions, linear layers and attention), and
numbers (all that operations write, which the memory must carry). How long each takes is measured
once a device, in a second or two.
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

from mien import training

BACKWARDS = 2  # a layer that learns is gone through so many more times, backwards
OPTIMISER = 12  # numbers that a step reads or writes for each weight that it changes
SIDE, WIDTH, BATCH = 32, 64, 8  # pixels, channels and images of what is timed
SPENT_S = 0.5  # how long each of the two is timed, at least two times over


@dataclass(frozen=True)
class Workload:
    """What one image takes in a forward pass, and the part of it that learns; `weights` are those
    that learn.
    """

    products: float
    numbers: float
    learnt_products: float
    learnt_numbers: float
    weights: int


@dataclass(frozen=True)
class Rates:
    """Seconds that a product and a number take in training or prediction."""

    product: float
    number: float

    def predicting(self, work: Workload) -> float:
        """Return the seconds of an image in prediction."""
        return work.products * self.product + work.numbers * self.number

    def learning(self, work: Workload, batch: int) -> float:
        """Return the seconds of an image in training, with its share of a step of the optimiser."""
        backwards = work.learnt_products * self.product + work.learnt_numbers * self.number
        return (
            self.predicting(work)
            + BACKWARDS * backwards
            + OPTIMISER * work.weights * self.number / batch
        )


class _Counter(TorchDispatchMode):
    """Counts what operations do; `learns` says of which kind those are that come now."""

    def __init__(self) -> None:
        super().__init__()
        self.learns = True
        self.products = {True: 0.0, False: 0.0}
        self.numbers = {True: 0.0, False: 0.0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do one operation, and count it."""
        out = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.products[self.learns] += counted(*args, **(kwargs or {}), out_val=out) / 2
        if not getattr(func, "is_view", False):
            self.numbers[self.learns] += sum(
                one.numel() for one in tree_leaves(out) if isinstance(one, Tensor)
            )
        return out


def count(
    network: nn.Module, images: int, *inputs: Tensor, still: Collection[nn.Module] = ()
) -> Workload:
    """Return what an image takes in a network, which gets `inputs` of so many `images`; best on the
    device meta.

    `still` are modules that do not learn: what comes from the first of them up to the next that
    learns is not gone through backwards.
    """
    counter = _Counter()

    def passes(learns: bool) -> Callable[..., None]:
        def note(*_: Any) -> None:
            counter.learns = learns

        return note

    frozen = {id(module) for module in still}
    marked = [
        module for module in network.modules() if still and list(module.parameters(recurse=False))
    ]
    hooks = [
        module.register_forward_pre_hook(passes(id(module) not in frozen)) for module in marked
    ]
    try:
        with counter, torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    products, numbers = counter.products, counter.numbers
    return Workload(
        products=sum(products.values()) / images,
        numbers=sum(numbers.values()) / images,
        learnt_products=products[True] / images,
        learnt_numbers=numbers[True] / images,
        weights=sum(one.numel() for one in network.parameters() if one.requires_grad),
    )


def measure(device: str = "auto", threads: int = 1) -> Rates:
    """Return how fast work is done here: two small stacks of layers are trained for about half a
    second each.
    """
    where = training.device(device)
    side, batch = (SIDE, BATCH) if where.type == "cpu" else (4 * SIDE, 4 * BATCH)
    convolved = nn.Sequential(*(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(4)))
    written = nn.Sequential(
        *(layer for _ in range(4) for layer in (nn.BatchNorm2d(WIDTH), nn.ReLU()))
    )
    with torch.device("meta"):
        works = [
            count(one.to("meta"), batch, torch.empty(batch, WIDTH, side, side))
            for one in (convolved, written)
        ]
    with training.own_randomness(where), training.cores(threads if where.type == "cpu" else None):
        images = torch.rand(batch, WIDTH, side, side, device=where)
        timed = [
            _seconds(one.to_empty(device=where), images, where) for one in (convolved, written)
        ]
    heavy, light = (seconds / (batch * (1 + BACKWARDS)) for seconds in timed)
    number = light / works[1].numbers
    return Rates(max(heavy - number * works[0].numbers, 0.1 * heavy) / works[0].products, number)


def _seconds(network: nn.Module, images: Tensor, where: torch.device) -> float:
    """Return the seconds of a pass forwards and backwards, the shortest of some: what a free
    machine takes.
    """
    taken: list[float] = []
    began = time.monotonic()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    while len(taken) < 3 or time.monotonic() - began < SPENT_S:
        start = time.monotonic()
        network(images.requires_grad_()).sum().backward()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        taken.append(time.monotonic() - start)
    return min(taken)
