"""Held-out people: the loss of a diffusion model at each noise level, on faces that it learns from
and on others.

Where the two part, the network begins to know its training faces by heart; it does so long after
faces have become good (Bonnaire et al. 2025, arXiv:2505.17638). So the length of a training, and
the width of the average of its weights, are chosen afterwards by what they are worth on people whom
the training did not see.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from mien import charts, seeds, training
from mien.errors import DataError
from mien.faces import Faces
from mien.generators.moves import MOVES
from mien.generators.objective import Batch, Objective
from mien.generators.specs import TrainSpec
from mien.generators.unet import UNet
from mien.progress import many

MOMENTS = 16  # of a training at which it is measured, and a snapshot kept
LEVELS = 6  # noise levels, in the middle of as many equal shares of those that training draws
PROBES = 96  # images a side
PIECE = 16  # images that pass the network at once
TRACKED = (0.05, 0.1)  # widths of the averages that are kept: any other can be worked out of them
WIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2)
COLUMNS = ["step", "images_seen", "share", "level", "train", "held_out"]


@dataclass(frozen=True)
class Chosen:
    """The step after which the weights were taken, the width of their average, and their loss on
    held-out people.
    """

    step: int
    width: float
    loss: float | None

    def text(self, spec: TrainSpec) -> str:
        """Return it as a sentence for people."""
        what = (
            f"weights after step {self.step:,} of {spec.updates:,}, averaged over "
            f"{self.width:.0%} of the training"
        )
        return (
            what
            if self.loss is None
            else f"{what}: the least loss on held-out people, {self.loss:.4f}"
        )


@runtime_checkable
class Work(Protocol):
    """What is asked of a training under way; see `diffusion.Training`."""

    where: torch.device
    sigma_data: float
    mean: Tensor
    objective: Objective
    averages: dict[float, training.Average]

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights."""
        ...


def parted(faces: Faces, spec: TrainSpec) -> tuple[Faces, Faces | None]:
    """Return the faces to be shown, and those of the people who are held out, if any are.

    Nobody is held out who alone shows an emotion. Raises DataError unless subjects are known and
    there are enough.
    """
    if spec.held_out == 0:
        return faces, None
    if "" in set(faces.index["subject"]):
        raise DataError(
            "held_out must stand with faces whose subjects are all known; set held_out=0 to show "
            "them all"
        )
    wanted = max(1, round(spec.held_out * len(faces.subjects)))
    order = seeds.rng("held out", spec.seed).permutation(len(faces.subjects))
    aside: Bool[np.ndarray, " n"] = np.zeros(len(faces), dtype=bool)
    taken = 0
    for subject in (faces.subjects[place] for place in order):
        more = aside | (faces.index["subject"] == subject).to_numpy()
        if taken < wanted and set(faces.index.loc[~more, "emotion"]) == set(faces.classes):
            aside, taken = more, taken + 1
    if not taken:
        raise DataError(
            "held_out must leave every emotion to somebody else, and none of "
            f"{many(len(faces.subjects), 'subject')} can "
            "be spared; set held_out=0 to show them all"
        )
    return faces.select(~aside), faces.select(aside)


class Watch:
    """Measures a training under way, keeps snapshots of its averages in a folder, and chooses among
    them at the end.

    `state` is what a checkpoint has to keep.
    """

    def __init__(
        self,
        shown: Faces,
        held: Faces,
        spec: TrainSpec,
        work: Work,
        scratch: Path,
        state: Mapping[str, Any],
    ) -> None:
        self.spec, self.work, self.scratch = spec, work, scratch
        self.moments = sorted(
            {max(1, round((k + 1) / MOMENTS * spec.updates)) for k in range(MOMENTS)}
        )
        self.rows: list[list[float]] = [
            row for row in state.get("levels", []) if row[0] <= state["step"]
        ]
        self.network = UNet(shown.size[0], spec.net).to(work.where).eval()
        self.shares = (torch.arange(LEVELS, dtype=torch.float32) + 0.5) / LEVELS
        self.levels = work.objective.levels(self.shares)
        self.sides = {
            "train": self._probe(shown, "train"),
            "held_out": self._probe(held, "held out"),
        }

    def _probe(self, faces: Faces, side: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return images around the mean face, their labels, and a noise for each image, the same at
        every level.
        """
        rng = seeds.rng("probe", self.spec.seed, side)
        places = rng.permutation(len(faces))[:PROBES]
        noise = rng.standard_normal((len(places), *faces.size), dtype=np.float32)
        x0 = training.to_model(faces.images[places]).to(self.work.where) - self.work.mean
        labels = torch.from_numpy(faces.labels()[places]).to(self.work.where)
        return x0, labels, torch.from_numpy(noise).to(self.work.where)

    @property
    def state(self) -> dict[str, Any]:
        """What it needs to go on, as JSON."""
        return {"levels": self.rows}

    def take(self, step: int, pool: ThreadPoolExecutor) -> None:
        """Measure the averaged weights after `step`, and keep snapshots of all averages."""
        found = self.losses(self.work.average, pool)
        for place, (share, level) in enumerate(
            zip(self.shares.tolist(), self.levels.tolist(), strict=True)
        ):
            losses = [float(found[side][place]) for side in self.sides]
            self.rows.append([step, step * self.spec.batch, share, level, *losses])
        for width in TRACKED:
            training.save_weights(self._snapshot(step, width), self.work.averages[width].tensors)

    def _snapshot(self, step: int, width: float) -> Path:
        return self.scratch / f"snapshot-{step:09d}-{width:g}.safetensors"

    def losses(
        self, weights: dict[str, Tensor], pool: ThreadPoolExecutor
    ) -> dict[str, Float64[np.ndarray, " levels"]]:
        """Return the mean loss of each side at each noise level."""
        self.network.load_state_dict(weights)
        network: nn.Module = self.network
        jobs = [
            (side, place, first)
            for side, (x0, _, _) in self.sides.items()
            for place in range(LEVELS)
            for first in range(0, len(x0), PIECE)
        ]

        def one(job: tuple[str, int, int]) -> float:
            side, place, first = job
            x0, labels, noise = (part[first : first + PIECE] for part in self.sides[side])
            levels = self.levels[place].to(x0).expand(len(x0))
            with torch.inference_mode():
                batch = Batch(x0, labels, x0.new_zeros(len(x0), len(MOVES)), levels, noise)
                return float(
                    self.work.objective.errors(network, batch, self.work.sigma_data, ()).sum()
                )

        sums = {side: np.zeros(LEVELS) for side in self.sides}
        for (side, place, _), value in zip(jobs, pool.map(one, jobs), strict=True):
            sums[side][place] += value
        return {side: found / len(self.sides[side][0]) for side, found in sums.items()}

    def choose(self, pool: ThreadPoolExecutor) -> tuple[dict[str, Tensor], Chosen]:
        """Return the averaged weights with the least loss on held-out people, a mean over levels,
        and which they are.

        First the step is chosen, for the average that training watched; then the width at that
        step.
        """
        losses: dict[int, float] = {}
        for row in self.rows:
            losses[int(row[0])] = losses.get(int(row[0]), 0.0) + row[COLUMNS.index("held_out")]
        step = min(losses, key=lambda moment: losses[moment])
        found: list[tuple[float, float, dict[str, Tensor]]] = []
        for width in WIDTHS:
            weights = self.average(step, width)
            found.append((float(self.losses(weights, pool)["held_out"].mean()), width, weights))
        loss, width, weights = min(found, key=lambda one: one[0])
        return weights, Chosen(step, width, loss)

    def average(self, step: int, width: float) -> dict[str, Tensor]:
        """Return the weights after `step`, averaged over `width` of the training so far, out of the
        snapshots.
        """
        kept = [
            (moment, tracked) for moment in self.moments if moment <= step for tracked in TRACKED
        ]
        parts = training.blend(kept, (step, width))
        whole: dict[str, Tensor] = {}
        for share, (moment, tracked) in zip(parts, kept, strict=True):
            for name, tensor in training.read_weights(self._snapshot(moment, tracked)).items():
                added = tensor.double() * float(share)
                whole[name] = whole[name] + added if name in whole else added
        return {name: tensor.float().to(self.work.where) for name, tensor in whole.items()}

    def table(self) -> pd.DataFrame:
        """Return all that was measured: a row a moment and noise level."""
        return pd.DataFrame(self.rows, columns=COLUMNS).astype(
            {"step": "int64", "images_seen": "int64"}
        )


def no_table() -> pd.DataFrame:
    """Return the table of a training that held nobody out."""
    return pd.DataFrame(columns=COLUMNS)


def chart(table: pd.DataFrame, chosen: Chosen) -> str:
    """Return the losses at each noise level over the training as SVG, those of held-out people
    beside the others.
    """
    seen = [float(count) for count in table["images_seen"].drop_duplicates()]
    curves = {}
    for level, part in table.groupby("level", sort=False):
        curves[f"{level:.2g}"] = (part["train"].tolist(), part["held_out"].tolist())
    at = table.loc[table["step"] == chosen.step, "images_seen"].tolist()
    return charts.gaps(
        "Loss at each noise level", "noise level", seen, curves, float(at[0]) if at else None
    )
