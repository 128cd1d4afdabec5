"""A training that is shared by several processes, which torchrun starts.

Each process works on its share of the pieces of every batch, and all add up the same sums in the
same order (see `sums`), so each has the same weights as a single process would have. The first
process writes to the store and prints; the others follow it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from mien.errors import UsageError
from mien.generators.diffusion import sums
from mien.generators.diffusion.sums import Node
from mien.runs import devices, progress

# How long a process waits for the others: the first may wait for a run that another command makes.
# A process that has died is noticed at once.
PROCESS_TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class ProcessGroup:
    """Process `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def assign_pieces(self, count: int, rank: int | None = None) -> range:
        """Return which of `count` pieces process `rank` works on; None means this process."""
        rank = self.rank if rank is None else rank
        return range(count * rank // self.size, count * (rank + 1) // self.size)

    def broadcast(self, value: Any) -> Any:
        """Return, in all processes, the `value` of the first one."""
        if self.size == 1:
            return value
        message = [value if self.is_first else None]
        dist.broadcast_object_list(message, src=0, device=torch.device("cpu"))
        return message[0]

    def gather_sums(self, nodes: list[Node], count: int) -> list[Node]:
        """Return the nodes of all `count` pieces, given the `nodes` of this process's share.

        Both are lists as `sums.append_node` leaves them.
        """
        if self.size == 1:
            return nodes
        gathered: list[Node] = []
        for rank in range(self.size):
            # The shape of the nodes of that process: which sums it holds, without their tensors
            outlines: list[Node] = []
            for index in self.assign_pieces(count, rank):
                sums.append_node(outlines, Node(0, index, []))

            # Its tensors, sent to all
            for number, outline in enumerate(outlines):
                tensors = (
                    nodes[number].tensors
                    if rank == self.rank
                    else [torch.empty_like(tensor) for tensor in nodes[0].tensors]
                )
                sums.append_node(
                    gathered, Node(outline.level, outline.index, broadcast_from(tensors, rank))
                )
        return gathered


SINGLE = ProcessGroup()


def broadcast_from(parts: Sequence[Tensor], rank: int) -> list[Tensor]:
    """Return, in every process, the tensors of process `rank`.

    In the other processes only the shapes of `parts` matter.
    """
    flat = torch.cat([tensor.reshape(-1) for tensor in parts])
    dist.broadcast(flat, src=rank)
    sizes = [tensor.numel() for tensor in parts]
    return [
        values.reshape(tensor.shape)
        for values, tensor in zip(flat.split(sizes), parts, strict=True)
    ]


@contextmanager
def join_process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Yield the group of processes that torchrun started; without it, this process alone.

    Raises UsageError on a device that cannot be shared, and for more processes than GPUs.
    """
    # torchrun sets WORLD_SIZE
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield SINGLE
        return

    # A GPU for each process
    torch_device = devices.find_device(device)
    if torch_device.type == "mps":
        raise UsageError(
            "several processes need a CPU or NVIDIA GPUs, and the device is mps; use --device cpu"
        )
    if torch_device.type == "cuda":
        local, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= cards:
            raise UsageError(
                f"each process needs a GPU of its own, and this machine has {cards}; start at most "
                f"{cards} processes"
            )
        torch.cuda.set_device(local)

    # Only the first process prints
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch_device.type == "cuda" else "gloo", timeout=PROCESS_TIMEOUT
    )
    group = ProcessGroup(dist.get_rank(), dist.get_world_size())
    try:
        with progress.mute_progress(not group.is_first):
            yield group
    finally:
        dist.destroy_process_group()
