"""The noise schedule of a trained network, as other programs need it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels of a network, and the scheduler of diffusers that has the same levels.

    Noise levels are between `low` and `high`. Images start at the mean face plus `start` times unit
    noise. `steps` is the default number of steps of `scheduler`. `levels` are those of a student,
    which draws in k steps with Euler's method at the first k of them; others have none.
    """

    low: float
    high: float
    start: float
    scheduler: Mapping[str, Any]
    steps: int
    levels: tuple[float, ...] = ()
