"""With what a training is done. None of it is part of a spec: it changes a result in the order of
sums, if at all.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mien.errors import UsageError
from mien.generators.crew import ALONE, Crew

UNITS = {"mb": 10**6, "gb": 10**9, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Means:
    """What a training may use.

    `memory` is in bytes, all there is if None; `crew` are the processes that share the work;
    `tensorboard` is where the files for TensorBoard go, if any.
    """

    memory: int | None = None
    crew: Crew = ALONE
    tensorboard: Path | None = None


PLAIN = Means()


def bytes_of(text: str) -> int:
    """Return the number of bytes that `6GB` or `800 MiB` stands for; raises UsageError for what is
    no such size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]+)\s*", text.lower())
    if not found or found[2] not in UNITS or not float(found[1]) > 0:
        raise UsageError(
            "--memory must be a size with its unit (MB, GB, MiB or GiB), as in 6GB or 800MB; "
            f"given: '{text}'"
        )
    return int(float(found[1]) * UNITS[found[2]])


def shown(size: int | float) -> str:
    """Return a number of bytes as people read it: `1.5 GB`, `800 MB`."""
    return f"{size / 10**9:.2f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"
