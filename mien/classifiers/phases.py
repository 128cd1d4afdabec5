"""Phases of a training: its images, its updates and their learning rate."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from mien.classifiers.networks import choose_batch_rows
from mien.classifiers.specs import ClassifierSpec, TrainingUse
from mien.errors import DataError
from mien.seeds import derive_seed


@dataclass(frozen=True)
class Phase:
    """Updates on the images at `rows`, in which a row may occur more than once.

    It is made of the `steps` updates from number `first` on. The learning rate is multiplied by
    `rate`, and falls to zero along a cosine over the phase.
    """

    rows: Int[np.ndarray, " m"]
    first: int
    steps: int
    batch: int
    seed: int
    rate: float = 1.0

    @property
    def steps_per_epoch(self) -> int:
        """The number of updates in which each row has its turn, but for an incomplete batch."""
        return len(self.rows) // self.batch

    @property
    def epochs(self) -> int:
        """The number of epochs; the last may be incomplete."""
        return math.ceil(self.steps / self.steps_per_epoch)

    def choose_rows(self, step: int) -> Int[np.ndarray, " batch"]:
        """Return the images of an update, which has this number in the whole training."""
        index = choose_batch_rows(
            len(self.rows), self.batch, step - self.first, self.steps_per_epoch, self.seed
        )
        return self.rows[index]

    def compute_learning_rate(self, step: int, learning_rate: float) -> float:
        """Return the learning rate of an update of a training with this largest rate."""
        share = (step - self.first) / self.steps
        return learning_rate * self.rate * 0.5 * (1 + math.cos(math.pi * share))


def plan_phases(
    is_synthetic: Bool[np.ndarray, " n"], spec: ClassifierSpec, use: TrainingUse | None, seed: int
) -> tuple[Phase, ...]:
    """Return the phases of a training on n images: one, or a pretraining and what follows it.

    Raises DataError if a training on synthetic images, then on real ones lacks either, or has only
    one update.
    """
    n = len(is_synthetic)
    batch = min(spec.batch, n)
    steps = spec.count_steps(n)
    if use is None or not use.pretrain:
        return (Phase(np.arange(n), 0, steps, batch, seed),)

    # Both kinds of images are needed
    synthetic, real = np.flatnonzero(is_synthetic), np.flatnonzero(~is_synthetic)
    if not len(synthetic) or not len(real):
        lacking = "synthetic" if not len(synthetic) else "real"
        raise DataError(
            "a pretraining on synthetic images needs synthetic and real training images; there "
            f"are no {lacking} ones. Add some, or use another way"
        )

    if steps < 2:
        raise DataError(
            "a pretraining and what follows it need two updates or more; there is one. Train longer"
        )

    # Real images are repeated, so that `keep` of an epoch after the pretraining is synthetic
    before = min(max(1, round(use.pretrain * steps)), steps - 1)
    rows = real
    if use.keep:
        repeats = max(1, round(len(synthetic) * (1 - use.keep) / (use.keep * len(real))))
        rows = np.concatenate([np.tile(real, repeats), synthetic])
    return (
        Phase(synthetic, 0, before, min(batch, len(synthetic)), seed),
        Phase(
            rows,
            before,
            steps - before,
            min(batch, len(rows)),
            derive_seed("fine-tuning", seed),
            use.rate or 1.0,
        ),
    )
