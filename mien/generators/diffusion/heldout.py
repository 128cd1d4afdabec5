"""Held-out people: the losses of a model on training and held-out faces.

Where the two losses diverge, the network begins to memorise its training faces, long after its
images have become good (Bonnaire et al. 2025, arXiv:2505.17638). So the length of a training, and
the width of the average of its weights, are chosen afterwards by the loss on held-out people.
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

from mien import seeds
from mien.errors import DataError
from mien.faces import Faces
from mien.generators import scaling
from mien.generators.diffusion.averages import Average, blend
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.transforms import MOVES
from mien.generators.diffusion.unet import UNet, condition_on_units
from mien.generators.specs import TrainSpec
from mien.generators.units import KnownUnits
from mien.pages import charts
from mien.runs import checkpoints
from mien.runs.progress import quantify

MEASUREMENTS = 16  # how often a training is measured, and a snapshot saved

NOISE_LEVELS = 6  # noise levels, the medians of as many equal shares of the training distribution

PROBE_IMAGES = 96  # images of the training faces and of the held-out faces that are measured

PROBE_BATCH = 16  # images that pass through the network at once

TRACKED_WIDTHS = (0.05, 0.1)  # widths of the saved averages: any other width follows from them

CANDIDATE_WIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2)

LEVEL_COLUMNS = ["step", "images_seen", "share", "level", "train", "held_out"]


@dataclass(frozen=True)
class ChosenWeights:
    """The chosen weights: their step, the width of their average, and their held-out loss.

    `loss` is None if no people were held out.
    """

    step: int
    width: float
    loss: float | None

    def describe(self, spec: TrainSpec) -> str:
        """Return the choice as a sentence."""
        weights = (
            f"weights after step {self.step:,} of {spec.updates:,}, averaged over {self.width:.0%} "
            "of the training"
        )
        return (
            weights
            if self.loss is None
            else f"{weights}: the lowest loss on held-out people, {self.loss:.4f}"
        )


@runtime_checkable
class MeasuredTraining(Protocol):
    """The part of a running training that this module uses; see `fit.DiffusionTraining`."""

    torch_device: torch.device
    sigma_data: float
    mean: Tensor
    offsets: Tensor
    objective: Objective
    averages: dict[float, Average]
    known_units: KnownUnits | None

    def make_network(self, channels: int) -> UNet:
        """Return a network for images of so many channels, with random weights."""
        ...

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights."""
        ...


def hold_out(faces: Faces, spec: TrainSpec) -> tuple[Faces, Faces | None]:
    """Return the faces to train on, and those of the held-out people; None without held-out people.

    A subject is not held out if no other subject shows one of its emotions. Raises DataError if
    the subject of an image is unknown, or if no subject can be held out.
    """
    if spec.held_out == 0:
        return faces, None
    if "" in set(faces.index["subject"]):
        raise DataError(
            "held_out needs a known subject for every image; set held_out=0 to train on all images"
        )

    # Subjects in random order, as long as every emotion remains among the others
    count = max(1, round(spec.held_out * len(faces.subjects)))
    order = seeds.make_rng("held out", spec.seed).permutation(len(faces.subjects))
    aside: Bool[np.ndarray, " n"] = np.zeros(len(faces), dtype=bool)
    subjects_aside = 0
    for subject in (faces.subjects[number] for number in order):
        larger = aside | (faces.index["subject"] == subject).to_numpy()
        complete = set(faces.index.loc[~larger, "emotion"]) == set(faces.classes)
        if subjects_aside < count and complete:
            aside, subjects_aside = larger, subjects_aside + 1
    if not subjects_aside:
        raise DataError(
            "held_out must leave every emotion to a subject who is not held out, and that is "
            f"impossible with {quantify(len(faces.subjects), 'subject')}; set held_out=0 to train "
            "on all images"
        )
    return faces.select(~aside), faces.select(aside)


class HeldOutWatch:
    """Measures a running training, and chooses its weights at the end.

    Snapshots of the averaged weights go to the folder `scratch`. `state` is the part of a
    checkpoint that belongs to this object.
    """

    def __init__(
        self,
        shown: Faces,
        held: Faces,
        spec: TrainSpec,
        training: MeasuredTraining,
        scratch: Path,
        state: Mapping[str, Any],
    ) -> None:
        self.spec, self.training, self.scratch = spec, training, scratch
        self.measured_steps = sorted(
            {max(1, round((k + 1) / MEASUREMENTS * spec.updates)) for k in range(MEASUREMENTS)}
        )
        self.rows: list[list[float]] = [
            row for row in state.get("levels", []) if row[0] <= state["step"]
        ]
        self.network = training.make_network(shown.size[0]).to(training.torch_device).eval()
        self.shares = (torch.arange(NOISE_LEVELS, dtype=torch.float32) + 0.5) / NOISE_LEVELS
        self.levels = training.objective.compute_levels(self.shares)
        self.probes = {
            "train": self._make_probe(shown, "train"),
            "held_out": self._make_probe(held, "held out"),
        }

    def _make_probe(self, faces: Faces, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return images minus their centres, their labels, noise and action units of each image.

        The noise is the same at every noise level.
        """
        rng = seeds.make_rng("probe", self.spec.seed, name)
        rows = rng.permutation(len(faces))[:PROBE_IMAGES]
        noise = rng.standard_normal((len(rows), *faces.size), dtype=np.float32)
        labels = torch.from_numpy(faces.number_labels()[rows]).to(self.training.torch_device)
        x0 = (
            scaling.scale_for_model(faces.images[rows]).to(self.training.torch_device)
            - self.training.mean
            - self.training.offsets[labels]
        )
        known, units = self.training.known_units, None
        if known is not None:
            numbers = known.encode_faces(faces)[rows]
            units = torch.from_numpy(numbers).to(self.training.torch_device)
        return x0, labels, torch.from_numpy(noise).to(self.training.torch_device), units

    @property
    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        return {"levels": self.rows}

    def measure(self, step: int, pool: ThreadPoolExecutor) -> None:
        """Measure the averaged weights after `step`, and save snapshots of all averages."""
        losses = self.measure_losses(self.training.average, pool)
        for number, (share, sigma) in enumerate(
            zip(self.shares.tolist(), self.levels.tolist(), strict=True)
        ):
            values = [float(losses[name][number]) for name in self.probes]
            self.rows.append([step, step * self.spec.batch, share, sigma, *values])
        for width in TRACKED_WIDTHS:
            checkpoints.save_weights(
                self._name_snapshot(step, width), self.training.averages[width].tensors
            )

    def _name_snapshot(self, step: int, width: float) -> Path:
        return self.scratch / f"snapshot-{step:09d}-{width:g}.safetensors"

    def measure_losses(
        self, weights: dict[str, Tensor], pool: ThreadPoolExecutor
    ) -> dict[str, Float64[np.ndarray, " levels"]]:
        """Return the mean loss of training and held-out faces at each noise level."""
        # Small pieces of the probes, for the threads of the pool
        self.network.load_state_dict(weights)
        network: nn.Module = self.network
        jobs = [
            (name, number, first)
            for name, (x0, *_) in self.probes.items()
            for number in range(NOISE_LEVELS)
            for first in range(0, len(x0), PROBE_BATCH)
        ]

        def compute_loss(job: tuple[str, int, int]) -> float:
            name, number, first = job
            x0, labels, noise, units = (
                None if probe is None else probe[first : first + PROBE_BATCH]
                for probe in self.probes[name]
            )
            assert x0 is not None and labels is not None and noise is not None
            levels = self.levels[number].to(x0).expand(len(x0))
            with torch.inference_mode():
                no_moves = x0.new_zeros(len(x0), len(MOVES))
                batch = Batch(x0, labels, no_moves, levels, noise, units)
                return float(
                    self.training.objective.compute_losses(
                        condition_on_units(network, units), batch, self.training.sigma_data, ()
                    ).sum()
                )

        # Their sums, in the order of the jobs
        sums = {name: np.zeros(NOISE_LEVELS) for name in self.probes}
        for (name, number, _), loss in zip(jobs, pool.map(compute_loss, jobs), strict=True):
            sums[name][number] += loss
        return {name: totals / len(self.probes[name][0]) for name, totals in sums.items()}

    def choose(self, pool: ThreadPoolExecutor) -> tuple[dict[str, Tensor], ChosenWeights]:
        """Return the averaged weights with the lowest held-out loss, and which they are.

        The loss is a mean over noise levels. First the step is chosen, for the average with the
        width of the spec; then the width at that step.
        """
        losses: dict[int, float] = {}
        for row in self.rows:
            losses[int(row[0])] = (
                losses.get(int(row[0]), 0.0) + row[LEVEL_COLUMNS.index("held_out")]
            )
        step = min(losses, key=lambda moment: losses[moment])
        candidates: list[tuple[float, float, dict[str, Tensor]]] = []
        for width in CANDIDATE_WIDTHS:
            weights = self.combine_snapshots(step, width)
            loss = float(self.measure_losses(weights, pool)["held_out"].mean())
            candidates.append((loss, width, weights))
        loss, width, weights = min(candidates, key=lambda candidate: candidate[0])
        return weights, ChosenWeights(step, width, loss)

    def combine_snapshots(self, step: int, width: float) -> dict[str, Tensor]:
        """Return the weights after `step`, averaged over `width` of the training until then.

        They are a linear combination of the snapshots.
        """
        snapshots = [
            (moment, tracked)
            for moment in self.measured_steps
            if moment <= step
            for tracked in TRACKED_WIDTHS
        ]
        shares = blend(snapshots, (step, width))
        combined: dict[str, Tensor] = {}
        for share, (moment, tracked) in zip(shares, snapshots, strict=True):
            for name, tensor in checkpoints.read_weights(
                self._name_snapshot(moment, tracked)
            ).items():
                added = tensor.double() * float(share)
                combined[name] = combined[name] + added if name in combined else added
        return {
            name: tensor.float().to(self.training.torch_device) for name, tensor in combined.items()
        }

    def make_table(self) -> pd.DataFrame:
        """Return all measurements: a row per measured step and noise level."""
        return pd.DataFrame(self.rows, columns=LEVEL_COLUMNS).astype(
            {"step": "int64", "images_seen": "int64"}
        )


def make_empty_table() -> pd.DataFrame:
    """Return the empty table of a training without held-out people."""
    return pd.DataFrame(columns=LEVEL_COLUMNS)


def draw_chart(table: pd.DataFrame, chosen: ChosenWeights) -> str:
    """Return an SVG chart of the losses on training and held-out faces at each noise level."""
    images_seen = [float(count) for count in table["images_seen"].drop_duplicates()]
    curves = {}
    for sigma, rows in table.groupby("level", sort=False):
        curves[f"{sigma:.2g}"] = (rows["train"].tolist(), rows["held_out"].tolist())
    chosen_at = table.loc[table["step"] == chosen.step, "images_seen"].tolist()
    return charts.draw_loss_curves(
        "Loss at each noise level",
        "noise level",
        images_seen,
        curves,
        float(chosen_at[0]) if chosen_at else None,
    )
