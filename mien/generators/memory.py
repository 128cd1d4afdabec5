"""How large a piece of a batch may be for a step of training to stay within so much memory, found
by trying.
"""

import math
import sys
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mien.errors import UsageError
from mien.generators.means import shown

CONTEXT = 5 * 10**8  # what driver and kernels take of a card beside torch's tensors
SPARE = 1.5  # on a processor: workspace of convolutions, and what the allocator cannot use again


@runtime_checkable
class Work(Protocol):
    """What is asked of a training; see `diffusion.Training`."""

    where: torch.device
    size: int

    def attempt(self, size: int) -> None:
        """Work on a piece of so many images as a step would, and change nothing."""
        ...

    def coming(self, size: int) -> int:
        """Return the bytes of what a step in pieces of `size` will keep, and has not made yet."""
        ...


def sizes(largest: int) -> list[int]:
    """Return the pieces that are tried: `largest`, and all smaller powers of two. Few, so that a
    choice stays.
    """
    return [
        largest,
        *(2**power for power in range(int(math.log2(largest)), -1, -1) if 2**power < largest),
    ]


def fitting(work: Work, budget: int, threads: int) -> int:
    """Return the largest piece, no larger than the training's own, with which a step stays within
    `budget` bytes.

    `threads` pieces are worked on side by side. The need is measured for one and two images, and is
    a line from there; on a card what the line says is then tried. Raises UsageError if one image at
    a time is too much.
    """
    one, two = (peak(work, size, threads) for size in (1, min(2, work.size)))
    each = max(0, two - one)
    for size in sizes(work.size):
        if one + (size - 1) * each <= budget and (
            work.where.type != "cuda" or peak(work, size, threads) <= budget
        ):
            return size
    raise UsageError(
        f"--memory must be {shown(one)} or more for this training, with which it works on one "
        "image at a time; given: "
        f"{shown(budget)}. Take more, or a smaller preset"
    )


def peak(work: Work, size: int, threads: int) -> int | float:
    """Return how many bytes a step takes at its height, in pieces of `size` images; infinite if the
    card has fewer.
    """
    if work.where.type != "cuda":
        return held() + work.coming(size) + int(SPARE * threads * kept(work, size))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        work.attempt(size)
    except torch.cuda.OutOfMemoryError:
        return math.inf
    finally:
        torch.cuda.empty_cache()
    return CONTEXT + torch.cuda.max_memory_reserved() + work.coming(size)


def held() -> int:
    """Return the most bytes that this process has held so far."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # what getrusage says there can be that of the process which started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # which Windows has not got

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def kept(work: Work, size: int) -> int:
    """Return how many bytes a piece keeps from its way forward for its way back."""
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        work.attempt(size)
    return sum(found.values())
