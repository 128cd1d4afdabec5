"""Several processes on one training, as torch's own launcher starts them: `torchrun
--nproc-per-node 2 -m mien train`.

Each works on its share of the pieces of every batch, and all add up the same sums in the same order
(see `sums`), so each holds the same weights as a process alone. The first one writes to the store
and speaks; the others follow it.
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

from mien import progress, training
from mien.errors import UsageError
from mien.generators import sums
from mien.generators.sums import Node

PATIENCE = timedelta(
    days=30
)  # one may wait for a run that somebody else makes; a dead one is noticed at once


@dataclass(frozen=True)
class Crew:
    """Process `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, count: int, rank: int | None = None) -> range:
        """Return which of `count` pieces a process works on: this one, unless another is named."""
        of = self.rank if rank is None else rank
        return range(count * of // self.size, count * (of + 1) // self.size)

    def agree(self, what: Any) -> Any:
        """Return what the first process says, in all of them."""
        if self.size == 1:
            return what
        said = [what if self.leads else None]
        dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def whole(self, nodes: list[Node], count: int) -> list[Node]:
        """Return what `sums.put` leaves of `count` pieces, given what it left of this process's
        share.
        """
        if self.size == 1:
            return nodes
        found: list[Node] = []
        for rank in range(self.size):
            places: list[Node] = []
            for place in self.share(count, rank):
                sums.put(places, Node(0, place, []))
            for number, place in enumerate(places):
                parts = (
                    nodes[number].parts
                    if rank == self.rank
                    else [torch.empty_like(part) for part in nodes[0].parts]
                )
                sums.put(found, Node(place.level, place.index, told(parts, rank)))
        return found


ALONE = Crew()


def told(parts: Sequence[Tensor], rank: int) -> list[Tensor]:
    """Return, in every process, the tensors of process `rank`; the others give some of the same
    shapes.
    """
    flat = torch.cat([part.reshape(-1) for part in parts])
    dist.broadcast(flat, src=rank)
    sizes = [part.numel() for part in parts]
    return [piece.reshape(part.shape) for piece, part in zip(flat.split(sizes), parts, strict=True)]


@contextmanager
def joined(device: str = "auto") -> Iterator[Crew]:
    """Yield the crew that the launcher's environment tells of; this process alone without one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    where = training.device(device)
    if where.type == "mps":
        raise UsageError(
            "several processes must work on processors or NVIDIA's cards; use --device cpu"
        )
    if where.type == "cuda":
        local, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= cards:
            raise UsageError(
                f"each process must have a card of its own, and there are {cards}; start no more "
                "than that"
            )
        torch.cuda.set_device(local)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo", timeout=PATIENCE
    )
    crew = Crew(dist.get_rank(), dist.get_world_size())
    try:
        with progress.hushed(not crew.leads):
            yield crew
    finally:
        dist.destroy_process_group()
