"""Learning curves of networks: loss and accuracy in each epoch of a training."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

CURVE_FILE = "curve.csv"


@dataclass(frozen=True)
class EpochScores:
    """What a training reached in one epoch, counted from 1.

    - `loss` is the mean cross-entropy over the images of the epoch, in nats, and `accuracy` the
      share of them that was answered right, from 0 to 1. Both are taken during training: on
      augmented images, with dropout, while the weights change.
    - `validation_accuracy` is that of the images that choose the epoch (the spec's `validation`),
      after the epoch; None without such images. Test images have no part in a curve.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_accuracy: float | None = None


@dataclass
class CurveRecorder:
    """A learning curve while a training runs; `state` goes into checkpoints."""

    done: list[EpochScores] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def add_steps(self, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        """Add the steps of the running epoch, with one loss and one accuracy for each."""
        self.losses += losses
        self.accuracies += accuracies

    def end_epoch(self, epoch: int, validation_accuracy: float | None) -> None:
        """Turn the steps so far into the scores of an epoch."""
        n = len(self.losses)
        loss, accuracy = sum(self.losses) / n, sum(self.accuracies) / n
        self.done.append(EpochScores(epoch, loss, accuracy, validation_accuracy))
        self.losses, self.accuracies = [], []

    @property
    def state(self) -> dict[str, Any]:
        """The curve as JSON, from which `restore` continues."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the curve of a state."""
        self.done = [EpochScores(**scores) for scores in state["done"]]
        self.losses, self.accuracies = list(state["losses"]), list(state["accuracies"])


def write_curve(curve: Sequence[EpochScores], path: Path) -> None:
    """Write a curve as CSV: a row per epoch, numbers with six digits, "" where there is none."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.name for column in fields(EpochScores))
        for scores in curve:
            numbers = (scores.loss, scores.accuracy, scores.validation_accuracy)
            writer.writerow(
                [scores.epoch, *("" if value is None else f"{value:.6g}" for value in numbers)]
            )
