"""The resources of a training: memory, processes and TensorBoard.

They are not part of a spec: if they change a result at all, then only by the order of sums.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mien.errors import UsageError
from mien.generators.diffusion.processes import SINGLE, ProcessGroup

BYTES_OF_UNIT = {"mb": 10**6, "gb": 10**9, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Resources:
    """The resources that a training may use.

    `memory` is in bytes, None means no limit; `group` is the processes that share the work;
    `tensorboard` is the folder of the files for TensorBoard, None writes none.
    """

    memory: int | None = None
    group: ProcessGroup = SINGLE
    tensorboard: Path | None = None


DEFAULT = Resources()


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a size such as `6GB` or `800 MiB`.

    Raises UsageError if `text` is not a number above 0 with a unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]+)\s*", text.lower())
    if not match or match[2] not in BYTES_OF_UNIT or not float(match[1]) > 0:
        raise UsageError(
            "--memory must be a size with its unit (MB, GB, MiB or GiB), as in 6GB or 800MB; "
            f"given: '{text}'"
        )
    return int(float(match[1]) * BYTES_OF_UNIT[match[2]])


def format_bytes(size: int | float) -> str:
    """Return a number of bytes in readable form: `1.50 GB`, `800 MB`."""
    return f"{size / 10**9:.2f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"
