"""The largest piece of a batch whose training step fits into memory."""

import math
import sys
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mien.errors import UsageError
from mien.generators.diffusion.resources import format_bytes

# Bytes that driver and kernels take on a GPU, in addition to the tensors of torch
GPU_CONTEXT_BYTES = 5 * 10**8

# Factor on a CPU, for the workspace of convolutions and for fragmentation of the allocator
CPU_SPARE_FACTOR = 1.5


@runtime_checkable
class TriedTraining(Protocol):
    """The part of a training that this module uses; see `fit.DiffusionTraining`."""

    torch_device: torch.device
    piece_size: int

    def rehearse_step(self, size: int) -> None:
        """Do the work of a step on a piece of `size` images, without changing any state."""
        ...

    def count_bytes_to_allocate(self, size: int) -> int:
        """Return the bytes that a step in pieces of `size` will allocate and has not yet."""
        ...


def list_sizes(largest: int) -> list[int]:
    """Return the sizes that are tried, from the largest: `largest` and all smaller powers of two.

    They are few, so that the choice is the same when the measured memory varies a little.
    """
    return [
        largest,
        *(2**power for power in range(int(math.log2(largest)), -1, -1) if 2**power < largest),
    ]


def find_piece_size(training: TriedTraining, budget: int, threads: int) -> int:
    """Return the largest piece with which a step stays within `budget` bytes.

    It has at most `training.piece_size` images.

    `threads` pieces are processed in parallel. The memory is measured for one and for two
    images and extrapolated linearly; on a GPU the extrapolated size is then tried. Raises
    UsageError if one image at a time needs more than `budget`.
    """
    smallest, double = (
        measure_peak(training, size, threads) for size in (1, min(2, training.piece_size))
    )
    per_image = max(0, double - smallest)
    for size in list_sizes(training.piece_size):
        if smallest + (size - 1) * per_image <= budget and (
            training.torch_device.type != "cuda" or measure_peak(training, size, threads) <= budget
        ):
            return size
    raise UsageError(
        f"--memory must be {format_bytes(smallest)} or more for this training, which is what one "
        f"image at a time needs; given: {format_bytes(budget)}. Give more, or use a smaller preset"
    )


def measure_peak(training: TriedTraining, size: int, threads: int) -> int | float:
    """Return the peak memory of a step in pieces of `size` images, in bytes.

    It is infinite if the GPU has less.
    """
    if training.torch_device.type != "cuda":
        return (
            read_peak_rss()
            + training.count_bytes_to_allocate(size)
            + int(CPU_SPARE_FACTOR * threads * measure_saved_bytes(training, size))
        )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        training.rehearse_step(size)
    except torch.cuda.OutOfMemoryError:
        return math.inf
    finally:
        torch.cuda.empty_cache()
    return (
        GPU_CONTEXT_BYTES
        + torch.cuda.max_memory_reserved()
        + training.count_bytes_to_allocate(size)
    )


def read_peak_rss() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    # Not getrusage on Linux: it can report the peak of the parent process
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # does not exist on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def measure_saved_bytes(training: TriedTraining, size: int) -> int:
    """Return how many bytes the forward pass of a piece saves for its backward pass."""
    sizes_by_address: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes_by_address[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        training.rehearse_step(size)
    return sum(sizes_by_address.values())
