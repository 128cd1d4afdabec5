"""The training loop of generators that make an image in one pass."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.errors import TrainingError, UsageError
from mien.faces import Faces
from mien.generators import scaling
from mien.generators.base import describe_origins
from mien.generators.diffusion import sums
from mien.generators.diffusion.averages import Average
from mien.generators.diffusion.batches import compute_chances, compute_learning_rate, draw_batch
from mien.generators.diffusion.centre import compute_centres
from mien.generators.diffusion.fit import (
    MAX_LOSS_RATIO,
    PIECE_IMAGES,
    describe_repeats,
    require_side,
    require_two_images,
)
from mien.generators.diffusion.losses import EXPLODED_RATIO, LossWatch
from mien.generators.diffusion.model import prepare_for_inference
from mien.generators.diffusion.processes import SINGLE
from mien.generators.diffusion.resources import DEFAULT, Resources
from mien.generators.diffusion.tensorboard import open_log
from mien.generators.one_pass.decoder import Generating
from mien.generators.one_pass.model import OnePass
from mien.generators.specs import OnePassSpec
from mien.runs import checkpoints, devices, progress, stopping
from mien.runs.workload import StepTimes, time_steps
from mien.seeds import derive_seed

SAVE_INTERVAL_S = 30.0  # time between checkpoints; no result depends on it

SPEED_S = 8.0  # how long the speed of training is measured

LEAST_TIMED_STEPS = 3  # steps of a training that are timed at least, even if they take longer

AnyOnePassSpec = TypeVar("AnyOnePassSpec", bound=OnePassSpec)

ComputeLosses = Callable[[slice], Float[Tensor, " n"]]
"""From rows of a batch to the loss of each."""


@dataclass(frozen=True)
class FinishedTraining:
    """What a finished training made: the network, and facts and tables for its summary.

    `facts` are written as JSON; `tables` are written as CSV files under their names.
    """

    network: Generating
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


class OnePassTraining(ABC, Generic[AnyOnePassSpec]):
    """A running training: data, networks, averages and optimisers, advanced one step at a time.

    A kind of generator adds its networks by `add_network`, and says what a step does. A loss of
    `exploded_ratio` times its early median ends the training.
    """

    exploded_ratio: float = EXPLODED_RATIO

    def __init__(self, faces: Faces, spec: AnyOnePassSpec, torch_device: torch.device) -> None:
        # Only images that a network can learn from
        require_two_images(faces, spec.faces)
        require_side(*faces.size[1:], spec.net.divisor)

        # The data, on the device
        self.faces, self.spec, self.torch_device = faces, spec, torch_device
        self.images = torch.from_numpy(np.array(faces.images)).to(torch_device)
        self.labels = torch.from_numpy(faces.number_labels()).to(torch_device)
        self.chances = compute_chances(faces.index, spec.balance, spec.clip_first)
        mean, _, self.sigma_data = compute_centres(faces, residual=True, class_offsets=False)
        self.mean = mean.to(torch_device)

        # Networks are added by the kinds of generator
        self.networks: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Adam] = {}
        self.averages: dict[str, Average] = {}
        torch.manual_seed(derive_seed("network", spec.seed))

    # What each kind of generator says

    @abstractmethod
    def make_step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make step `number` and return its loss; None if loss or gradient is not finite."""

    @abstractmethod
    def finish(self, say: Callable[[str], None]) -> FinishedTraining:
        """Return what the training made, from the averages; `say` prints a text for people."""

    def collect_extra(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs beside those of networks and optimisers."""
        return {}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `collect_extra` returned."""

    def collect_notes(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside tensors, as JSON."""
        return {}

    def restore_notes(self, notes: Mapping[str, Any]) -> None:
        """Restore what `collect_notes` returned."""

    # What they share

    def add_network(
        self,
        name: str,
        network: nn.Module,
        betas: tuple[float, float] = (0.9, 0.99),
        averaged: bool = True,
    ) -> None:
        """Add a network to train with Adam; `averaged` keeps the average of its weights."""
        network = network.to(self.torch_device).train()
        self.networks[name] = network
        self.optimisers[name] = torch.optim.Adam(
            network.parameters(),
            lr=self.spec.learning_rate,
            betas=betas,
            fused=self.torch_device.type != "mps",
        )
        if averaged:
            self.averages[name] = Average(network, self.spec.ema)

    def draw_rows(self, number: int) -> tuple[Int[Tensor, " n"], torch.Generator]:
        """Return the row numbers of batch `number`, and what draws its random numbers.

        Both are a function of only the seed and the number.
        """
        rows = draw_batch(self.chances, self.spec.batch, self.spec.seed, number)
        rng = torch.Generator(self.torch_device)
        rng.manual_seed(derive_seed("step", self.spec.seed, number))
        return torch.from_numpy(rows).to(self.torch_device), rng

    def scale_rows(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Return images without the mean face, with unit variance over all pixels."""
        return (scaling.scale_for_model(self.images[rows]) - self.mean) / self.sigma_data

    def descend(
        self,
        name: str,
        number: int,
        compute_losses: ComputeLosses,
        pool: ThreadPoolExecutor,
        max_norm: float | None = 1.0,
    ) -> float | None:
        """Make an update of a network in step `number`, and return the mean loss of the batch.

        The result is None, and no weight changes, if loss or gradient is not finite. Gradients are
        clipped to `max_norm`.
        """
        # Loss and gradient of the batch: pieces in parallel, summed in order
        parameters, count = list(self.networks[name].parameters()), self.spec.batch

        def compute_gradient(rows: slice) -> tuple[Tensor, ...]:
            loss = compute_losses(rows).sum() / count
            return loss.detach(), *torch.autograd.grad(loss, parameters)

        nodes: list[sums.Node] = []
        for index, tensors in enumerate(pool.map(compute_gradient, self.list_pieces())):
            sums.append_node(nodes, sums.Node(0, index, tensors))
        loss, *gradients = sums.add_up(nodes)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

        # Skip the update if a number is not finite
        norm = nn.utils.clip_grad_norm_(parameters, max_norm or float("inf"))
        if not torch.isfinite(loss + norm):
            return None

        # Update weights and average
        for group in self.optimisers[name].param_groups:
            group["lr"] = self.compute_rate(number)
        self.optimisers[name].step()
        if name in self.averages:
            self.averages[name].update(self.networks[name], number)
        return loss.item()

    def compute_rate(self, number: int) -> float:
        """Return the learning rate of step `number`."""
        spec = self.spec
        return compute_learning_rate(
            number, spec.updates, spec.learning_rate, spec.warmup, spec.decay
        )

    def list_pieces(self) -> Sequence[slice]:
        """Return the rows of each piece of a batch."""
        batch, size = self.spec.batch, PIECE_IMAGES[self.torch_device.type]
        return [slice(first, min(first + size, batch)) for first in range(0, batch, size)]

    def load_averages(self) -> None:
        """Replace the weights of each network by their average, where one is kept."""
        for name, average in self.averages.items():
            self.networks[name].load_state_dict(average.tensors)
            prepare_for_inference(self.networks[name])

    def collect_tensors(self) -> dict[str, Tensor]:
        """Return all tensors of a checkpoint."""
        groups: dict[str, Mapping[str, Tensor]] = {"extra": self.collect_extra()}
        for name, network in self.networks.items():
            groups[f"network {name}"] = network.state_dict()
            groups[f"optimiser {name}"] = checkpoints.pack_optimiser(self.optimisers[name])
        for name, average in self.averages.items():
            groups[f"average {name}"] = average.tensors
        return checkpoints.pack_groups(groups, "/")

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `collect_tensors` returned."""
        placed = {name: tensor.to(self.torch_device) for name, tensor in tensors.items()}
        empty = ("extra", *(f"optimiser {name}" for name in self.networks))
        groups = checkpoints.unpack_groups(placed, "/", empty)
        for name, network in self.networks.items():
            network.load_state_dict(groups[f"network {name}"])
            checkpoints.unpack_optimiser(self.optimisers[name], groups[f"optimiser {name}"])
        for name, average in self.averages.items():
            average.tensors = groups[f"average {name}"]
        self.restore_extra(groups["extra"])


MakeTraining = Callable[[Faces, Any, torch.device], OnePassTraining[Any]]
"""From faces, a spec and a device to a training that begins."""


def fit_one_pass(
    faces: Faces,
    spec: OnePassSpec,
    scratch: Path,
    make_training: MakeTraining,
    device: str = "auto",
    label: str = "training",
    resources: Resources = DEFAULT,
) -> OnePass:
    """Train networks on `faces` and return the generator.

    It resumes from a checkpoint in the folder `scratch` if there is one. Raises DataError if the
    images do not fit the network, UsageError for --memory and for several processes and if the
    checkpoint is of another training, and TrainingError if the loss explodes or is not a number.
    """
    if resources.memory is not None or resources.group is not SINGLE:
        raise UsageError(
            f"--memory and several processes need a diffusion model, and a {spec.kind} generator "
            "is none; omit them"
        )
    torch_device = devices.find_device(device)
    with devices.isolate_randomness(torch_device):
        # Set up the training, or resume from the last checkpoint
        training = make_training(faces, spec, torch_device)
        shown = spec.updates * spec.batch
        progress.say(describe_repeats(faces, shown, training.chances))
        origin = derive_seed(spec.digest(), *faces.index["sha256"], *faces.index["emotion"])
        state = _resume(training, scratch, origin, label)
        start = state.get("step", 0)
        every = max(1, spec.updates // 100)
        loss_watch = LossWatch(every, spec.batch, state, training.exploded_ratio)

        # Train step by step; the losses are logged as they come
        saved = time.monotonic()
        with (
            devices.open_workers(torch_device, len(training.list_pieces())) as pool,
            devices.make_repeatable(torch_device, spec.deterministic),
            stopping.defer_signals(),
            progress.track(label, shown) as tracker,
            open_log(resources.tensorboard, spec.name, start * spec.batch + 1) as tensorboard,
        ):
            tracker.update(start * spec.batch, loss_watch.note)
            for step in range(start, spec.updates):
                loss = training.make_step(step, pool)
                if loss is None:
                    loss_watch.skip(step)
                else:
                    loss_watch.record(step, loss)
                    tensorboard.log_losses(loss_watch.rows, training.compute_rate(step))
                tracker.update((step + 1) * spec.batch, loss_watch.note)

                # Save a checkpoint from time to time, and before stopping
                if stopping.stop_requested() or time.monotonic() - saved >= SAVE_INTERVAL_S:
                    saved = time.monotonic()
                    state = {"step": step + 1, "origin": origin, "notes": training.collect_notes()}
                    checkpoints.save_checkpoint(
                        scratch, training.collect_tensors(), {**state, **loss_watch.state}
                    )
                    stopping.raise_if_asked()

        # Refuse a training that failed; then make the generator from the averages
        loss_watch.end(spec.updates)
        if loss_watch.skipped:
            progress.say(
                f"{label}: {loss_watch.skipped} of {progress.quantify(spec.updates, 'step')} were "
                "skipped, because their loss was not a number"
            )
        last = loss_watch.rows[-1][2] if loss_watch.rows else 0.0
        require_sound_weights(training, last, loss_watch.first)
        training.load_averages()
        outcome = training.finish(lambda text: progress.say(f"{label}: {text}"))
    return OnePass(
        spec=spec,
        network=outcome.network.to(torch_device).eval().requires_grad_(False),
        facts=outcome.facts,
        tables=outcome.tables,
        losses=loss_watch.make_table(),
        run="",
        **describe_origins(faces),
    )


def require_sound_weights(training: OnePassTraining[Any], last: float, first: float) -> None:
    """Raise TrainingError if a weight is not finite, or the `last` loss far above the `first`."""
    finite = all(
        bool(torch.isfinite(tensor).all())
        for average in training.averages.values()
        for tensor in average.tensors.values()
    )
    if not finite or last >= MAX_LOSS_RATIO * max(first, 1.0):
        raise TrainingError(
            f"the loss must fall, and is {last:.4g} at the end, with weights that are "
            f"{'' if finite else 'not '}finite; it was {first:.4g} at the start. Lower "
            "learning_rate"
        )


def _resume(
    training: OnePassTraining[Any], scratch: Path, origin: int, label: str
) -> dict[str, Any]:
    """Restore the last checkpoint in `scratch`, and return its state; without one it is empty.

    Raises UsageError if it is of a training of another `origin`.
    """
    checkpoint = checkpoints.load_checkpoint(scratch)
    if checkpoint is None:
        return {}
    tensors, state = checkpoint
    checkpoints.require_origin(state, origin, scratch)
    training.restore(tensors)
    training.restore_notes(state["notes"])
    progress.say(f"{label}: resuming from step {state['step']} of {training.spec.updates}")
    return state


def measure_one_pass_speed(
    faces: Faces, spec: OnePassSpec, make_training: MakeTraining, device: str = "auto"
) -> StepTimes:
    """Return how long steps of a training take on this machine, measured for SPEED_S seconds."""
    torch_device = devices.find_device(device)
    with devices.isolate_randomness(torch_device):
        training = make_training(faces, spec, torch_device)
        with devices.open_workers(torch_device, len(training.list_pieces())) as pool:
            return time_steps(
                lambda step: training.make_step(step, pool),
                lambda: devices.wait_for_device(torch_device),
                SPEED_S,
                LEAST_TIMED_STEPS,
            )
