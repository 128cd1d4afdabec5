"""Multiplicity: how many false warnings the tests of an audit give together.

Each test alone warns by chance for 1 in 40 databases (a 95 % interval, of which one end counts). A
dozen of them would warn for every fourth database that copies nothing. So their p-values are
adjusted for their number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import norm

# databases without copies that may get a warning from any of the tests: at most this share
FALSE_WARNING_RATE = 0.05

MIN_DEVIATION = 1e-12  # smaller deviations are rounding errors

END_QUANTILE = 0.975  # of the normal distribution: the upper end of a 95 % interval


@dataclass(frozen=True)
class JointTests:
    """The tests of an audit that are judged together: how many there are."""

    tests: int

    def convert_to_json(self) -> dict[str, Any]:
        """Return the number of tests, the adjustment, and the rate of false warnings with it and
        without it, if the tests were independent.
        """
        alone = 1 - END_QUANTILE
        return {
            "tests": self.tests,
            "adjustment": "Holm 1979",
            "false_warning_rate": FALSE_WARNING_RATE if self.tests else 0.0,
            "unadjusted_rate": round(1 - (1 - alone) ** self.tests, 3),
        }


def measure_p_value(value: float, end: float | None, limit: float, sign: int) -> float:
    """Return the p-value of a number beyond a limit: above it, or below it if `sign` is -1.

    `end` is the end of the number's 95 % interval that is nearer to values within the limit. The
    number is taken to be normally distributed, with the deviation that this end says; so p is
    below 0.025 exactly if the whole interval is beyond the limit. A number without an interval is
    certain: p is 0 or 1.
    """
    beyond = (value - limit) * sign
    if end is None or not math.isfinite(end) or (value - end) * sign <= 0:
        return 0.0 if beyond > 0 else 1.0
    deviation = max((value - end) * sign / norm.ppf(END_QUANTILE), MIN_DEVIATION)
    return float(norm.sf(beyond / deviation))


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979, Scand. J. Statist. 6, 65-70).

    If all that have an adjusted p below a rate are called false, no true hypothesis is among them
    with probability of at least 1 less the rate, however the tests depend on each other. No
    adjusted p becomes smaller if some p becomes larger.
    """
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = least
    return adjusted
