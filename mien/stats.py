"""Measured numbers and their spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Record:
    """One measured number: `low` and `high` bound its interval where there is one, `n` says how many it rests on."""

    metric: str
    value: float
    n: int
    unit: str = ""
    low: float | None = None
    high: float | None = None
    run: str = ""


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1) of `n` numbers; the deviation of a single number is nan."""

    mean: float
    sd: float
    n: int


def summary(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation (n - 1) and n of `values`, which must not be empty."""
    array = np.asarray(values, dtype=np.float64)
    return Summary(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan"), len(array))
