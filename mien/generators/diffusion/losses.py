"""Watching the loss: a training that diverges is stopped and says so."""

from typing import Any

import numpy as np
import pandas as pd

from mien.errors import TrainingError

# A training ends with an error
MAX_BAD_STEPS = 5  # after this many steps in a row without a finite loss,

MAX_BAD_SHARE = 0.1  # if more than this share of its steps have no finite loss,

EXPLODED_RATIO = 5.0  # or if the loss exceeds this many times its early median,

EARLY_ROWS = 5  # the median of this many first rows of the loss table

# Watching over the loss


class LossWatch:
    """The loss table of a training, and the rules that end it with an error.

    `ratio` is how often its early median the loss may be. `rows` are (step, images seen, mean loss
    since the last row). `state` is the part of a
    checkpoint that belongs to this object.
    """

    def __init__(
        self,
        every: int,
        batch: int,
        state: dict[str, Any] | None = None,
        ratio: float = EXPLODED_RATIO,
    ) -> None:
        self.every, self.batch, self.ratio = every, batch, ratio
        state = state or {}
        self.rows: list[list[float]] = state.get("rows", [])
        self.total, self.count = state.get("total", 0.0), state.get("count", 0)
        self.bad, self.skipped = state.get("bad", 0), state.get("skipped", 0)

    @property
    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        return {name: getattr(self, name) for name in ("rows", "total", "count", "bad", "skipped")}

    @property
    def note(self) -> str:
        """The last loss as text; empty before the first row."""
        return f"loss {self.rows[-1][2]:.4f}" if self.rows else ""

    @property
    def first(self) -> float:
        """The first loss of the table, 0 if there is none yet."""
        return float(self.rows[0][2]) if self.rows else 0.0

    def skip(self, step: int) -> None:
        """Count a step whose loss or gradient is not finite.

        Raises TrainingError after MAX_BAD_STEPS such steps in a row.
        """
        self.bad, self.skipped = self.bad + 1, self.skipped + 1
        if self.bad >= MAX_BAD_STEPS:
            raise TrainingError(
                f"the loss must be a number, and was not one in {self.bad} steps in a row up to "
                f"step {step}; lower learning_rate, or look for broken images"
            )

    def end(self, steps: int) -> None:
        """Raise TrainingError if more than MAX_BAD_SHARE of all `steps` were skipped."""
        if self.skipped > MAX_BAD_SHARE * steps:
            raise TrainingError(
                "the loss must be a number in nine of ten steps, and was not one in "
                f"{self.skipped} of {steps}; lower learning_rate, or look for broken images"
            )

    def record(self, step: int, loss: float) -> None:
        """Record the loss of a good step; raises TrainingError if the loss explodes."""
        self.bad = 0
        self.total, self.count = self.total + loss, self.count + 1
        if (step + 1) % self.every:
            return
        self.rows.append([step + 1, (step + 1) * self.batch, self.total / self.count])
        self.total, self.count = 0.0, 0
        early = float(np.median([row[2] for row in self.rows[:EARLY_ROWS]]))
        if len(self.rows) > EARLY_ROWS and self.rows[-1][2] > self.ratio * early:
            raise TrainingError(
                f"the loss must fall, and rose to {self.rows[-1][2]:.4g} at step {step + 1} from "
                f"{early:.4g} at the start; lower learning_rate"
            )

    def make_table(self) -> pd.DataFrame:
        """Return the loss table."""
        table = pd.DataFrame(self.rows, columns=["step", "images_seen", "loss"])
        return table.astype({"step": "int64", "images_seen": "int64", "loss": "float64"})
