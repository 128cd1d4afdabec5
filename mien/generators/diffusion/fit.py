"""The training loop of diffusion generators."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from mien.errors import DataError, TrainingError, UsageError
from mien.faces import Faces
from mien.generators import scaling
from mien.generators.base import describe_origins
from mien.generators.diffusion import heldout, memory, precision, sums, transforms
from mien.generators.diffusion.averages import Average
from mien.generators.diffusion.batches import compute_chances, compute_learning_rate, draw_batch
from mien.generators.diffusion.centre import compute_centres, name_classes_without_offset
from mien.generators.diffusion.heldout import ChosenWeights
from mien.generators.diffusion.losses import LossWatch
from mien.generators.diffusion.model import EARLY_WEIGHTS, Diffusion, prepare_for_inference
from mien.generators.diffusion.muon import Muon, takes_muon
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.processes import SINGLE, ProcessGroup
from mien.generators.diffusion.resources import DEFAULT, Resources, format_bytes
from mien.generators.diffusion.tensorboard import open_log
from mien.generators.diffusion.unet import NO_LABEL, UNet, condition_on_units
from mien.generators.specs import SteppedSpec, TrainSpec
from mien.generators.units import KnownUnits, learn_units
from mien.runs import checkpoints, devices, progress, stopping
from mien.runs.files import hash_file
from mien.runs.workload import StepTimes, Workload, count_work, time_steps
from mien.seeds import derive_seed

CHECKPOINT_S = 30.0  # time between checkpoints; no result depends on it

MEASURE_S = 8.0  # how long the speed of training is measured

MIN_TIMED_STEPS = 3  # steps of a training that are timed at least, even if they take longer

MAX_GRADIENT_NORM = 1.0  # the largest norm of a gradient

# a final loss of this many times the first one means that training has failed
MAX_LOSS_RATIO = 100.0

# A training batch is cut into pieces of this size, or smaller ones if memory is short. They are
# processed in parallel and summed in order, so the result does not depend on the number of cores.
PIECE_IMAGES = {"cpu": 8, "cuda": 1 << 20, "mps": 1 << 20}

# Images whose dropout masks are drawn together, whatever piece they are in
DROPOUT_GROUP = {"cpu": 8, "cuda": 16, "mps": 16}

# The share of images that are shown without their action units, with and without their label. Both
# are dropped together often enough for guidance, which leads away from images without either.
UNITS_DROP, UNITS_DROP_UNLABELLED = 0.2, 0.5

# Training


class DiffusionTraining:
    """A running training: data, network, averages and optimiser, advanced one step at a time.

    `piece_size` is the number of images in a piece of a batch, and `group` the processes that
    share the pieces.
    """

    def __init__(
        self,
        faces: Faces,
        spec: TrainSpec,
        objective: Objective,
        torch_device: torch.device,
        group: ProcessGroup = SINGLE,
    ) -> None:
        # Only images that a network can learn from
        require_two_images(faces, spec.faces)
        channels, height, width = faces.size
        require_side(height, width, spec.net.divisor)

        # The data, on the device
        self.spec, self.objective, self.torch_device, self.group = (
            spec,
            objective,
            torch_device,
            group,
        )
        self.piece_size = min(
            PIECE_IMAGES[torch_device.type],
            -(-spec.batch // (1 if torch_device.type == "cpu" else group.size)),
        )
        self.known_units = self.learn_units(faces)
        self.units = (
            torch.from_numpy(self.known_units.encode_faces(faces)).to(torch_device)
            if self.known_units
            else None
        )
        self.images = torch.from_numpy(np.array(faces.images)).to(torch_device)
        self.labels = torch.from_numpy(faces.number_labels()).to(torch_device)
        self.chances = compute_chances(faces.index, spec.balance, spec.clip_first)
        mean, offsets, self.sigma_data = compute_centres(faces, spec.residual, spec.class_offsets)
        self.mean, self.offsets = mean.to(torch_device), offsets.to(torch_device)

        # The network, its averages and the optimisers
        torch.manual_seed(derive_seed("network", spec.seed))
        self.network = self.make_network(channels).to(torch_device).train()
        self.forward_network, self.scaler = (
            precision.lower_precision(self.network, spec),
            precision.make_scaler(spec, torch_device),
        )
        widths = dict.fromkeys([spec.ema, *(heldout.TRACKED_WIDTHS if spec.held_out else ())])
        self.averages = {width: Average(self.network, width) for width in widths}
        self.optimisers = make_optimisers(self.network, spec)

    def learn_units(self, faces: Faces) -> KnownUnits | None:
        """Return the action units that condition the network, or None.

        Raises DataError if they have to, and none is coded.
        """
        spec = self.spec
        return learn_units(faces, spec.balance, spec.clip_first) if spec.takes_units else None

    def make_network(self, channels: int) -> UNet:
        """Return a network for images of so many channels, with random weights."""
        units = self.known_units.width if self.known_units else 0
        return UNet(channels, self.spec.net, units=units)

    def take_images(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Return the training images in `rows`, on the scale of the model."""
        return scaling.scale_for_model(self.images[rows])

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.averages[self.spec.ema].tensors

    def make_step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make step `number` and return its loss; None if loss or gradient is not finite.

        In that case no weight changes. A gradient that overflows only because of the loss scale
        (see `precision`) changes only the scale, and the loss is returned.
        """
        spec = self.spec

        # Loss and gradient of the batch: pieces in parallel, summed in order over all processes
        batch = self.make_batch(number)
        rows = [
            slice(first, min(first + self.piece_size, spec.batch))
            for first in range(0, spec.batch, self.piece_size)
        ]
        nodes: list[sums.Node] = []
        share = self.group.assign_pieces(len(rows))
        piece_gradients = pool.map(
            partial(self.compute_gradient, batch, number), [rows[index] for index in share]
        )
        for index, tensors in zip(share, piece_gradients, strict=True):
            sums.append_node(nodes, sums.Node(0, index, tensors))
        loss, *gradients = sums.add_up(self.group.gather_sums(nodes, len(rows)))
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient

        # Clip the gradient; skip the step if it is not finite
        for optimiser in self.optimisers.values():
            self.scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        scale = self.scaler.get_scale()
        self.scaler.update()
        if not torch.isfinite(loss + norm):
            return loss.item() if scale > 1 and torch.isfinite(loss) else None

        # Update weights and averages
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = compute_learning_rate(
                    number, spec.updates, group["peak"], spec.warmup, spec.decay
                )
            optimiser.step()
        for average in self.averages.values():
            average.update(self.network, number)
        return loss.item()

    @property
    def piece_count(self) -> int:
        """The number of pieces of a batch."""
        return -(-self.spec.batch // self.piece_size)

    def make_batch(self, number: int) -> Batch:
        """Return batch `number`, a function of only the seed and the number."""
        spec, count, torch_device = self.spec, self.spec.batch, self.torch_device
        rows = torch.from_numpy(draw_batch(self.chances, count, spec.seed, number)).to(torch_device)
        rng = torch.Generator(torch_device).manual_seed(derive_seed("step", spec.seed, number))
        augmentations = transforms.draw(count, spec.mirror, spec.moves, rng)
        unlabelled = torch.rand(count, device=torch_device, generator=rng) < spec.label_drop
        labels = self.labels[rows].masked_fill(unlabelled, NO_LABEL)
        centres = self.mean + self.offsets[labels]
        x0 = transforms.apply(self.take_images(rows) - centres, augmentations)
        shares = torch.rand(count, device=torch_device, generator=rng)
        if self.objective.spread:
            shares = (torch.arange(count, device=torch_device) + shares) / count
            shares = shares[torch.randperm(count, device=torch_device, generator=rng)]
        noise = torch.randn(x0.shape, device=torch_device, generator=rng)
        levels = self.objective.compute_levels(shares)

        # Units are dropped as well, and more often where the label is
        units = None
        if self.units is not None:
            chance = torch.where(unlabelled, UNITS_DROP_UNLABELLED, UNITS_DROP)
            kept = torch.rand(count, device=torch_device, generator=rng) >= chance
            units = self.units[rows] * kept[:, None]
        return Batch(x0, labels, augmentations, levels, noise, units)

    def compute_gradient(self, batch: Batch, number: int, rows: slice) -> tuple[Tensor, ...]:
        """Return the loss of `rows` of batch `number`, and its gradient for each parameter.

        Both are contributions to a mean over the batch; the gradient has the scale of
        `make_scaler`.
        """
        masks, piece = self.draw_dropout_masks(number, rows), batch.select(rows)
        network = condition_on_units(self.forward_network, piece.units)
        loss = (
            self.objective.compute_losses(network, piece, self.sigma_data, masks).sum()
            / self.spec.batch
        )
        return loss.detach(), *torch.autograd.grad(
            self.scaler.scale(loss), list(self.network.parameters())
        )

    def draw_dropout_masks(self, number: int, rows: slice) -> list[Tensor]:
        """Return the dropout masks of `rows` of batch `number`, one per block of the network.

        The mask of an image does not depend on the size of the pieces.
        """
        together = DROPOUT_GROUP[self.torch_device.type]
        masks: list[list[Tensor]] = []
        for first in range(rows.start // together * together, rows.stop, together):
            rng = torch.Generator(self.torch_device)
            rng.manual_seed(derive_seed("dropout", self.spec.seed, number, first // together))
            count = min(together, self.spec.batch - first)
            own_rows = slice(max(0, rows.start - first), rows.stop - first)
            height, width = self.images.shape[2:]
            masks.append(
                [
                    mask[own_rows]
                    for mask in self.network.draw_dropout_masks(count, height, width, rng)
                ]
            )
        return [torch.cat(of_block) for of_block in zip(*masks, strict=True)]

    def rehearse_step(self, size: int) -> None:
        """Do the work of a step on a piece of `size` images, without changing any state."""
        self.compute_gradient(self.make_batch(0), 0, slice(0, size))

    def require_sound(self, first: float) -> None:
        """Raise TrainingError if the final weights have a loss of more than MAX_LOSS_RATIO times
        `first`.

        `first` is the first loss of the training. The last step can fail without showing in any
        loss of the training, so the loss is measured again, on a piece of a batch.
        """
        loss = float(self.compute_gradient(self.make_batch(0), 0, slice(0, self.piece_size))[0])
        if not loss < MAX_LOSS_RATIO * max(first, 1.0):
            raise TrainingError(
                f"the loss must fall, and is {loss:.4g} at the end; it was {first:.4g} at the "
                "start. Lower learning_rate"
            )

    def count_bytes_to_allocate(self, size: int) -> int:
        """Return the bytes that a step in pieces of `size` will allocate and has not yet.

        They are for the state of the optimisers, and for gradients that wait to be summed.
        """
        weights = sum(
            parameter.numel() * parameter.element_size() for parameter in self.network.parameters()
        )
        moments = 0 if self.optimisers["optimiser"].state else 2  # of Adam; Muon has one
        return weights * (moments + 1 + (self.spec.batch // size).bit_length())

    def collect_tensors(self) -> dict[str, Tensor]:
        """Return all tensors of a checkpoint, with names such as `network/stem.weight`."""
        groups = {
            "network": self.network.state_dict(),
            "scaler": precision.pack_scaler(self.scaler),
            **{
                name: checkpoints.pack_optimiser(optimiser)
                for name, optimiser in self.optimisers.items()
            },
            **{f"average {width:g}": average.tensors for width, average in self.averages.items()},
        }
        return checkpoints.pack_groups(groups, "/")

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `collect_tensors` returned."""
        placed = {name: tensor.to(self.torch_device) for name, tensor in tensors.items()}
        groups = checkpoints.unpack_groups(placed, "/", (*self.optimisers, "scaler"))
        self.network.load_state_dict(groups["network"])
        for width, average in self.averages.items():
            average.tensors = groups[f"average {width:g}"]
        for name, optimiser in self.optimisers.items():
            checkpoints.unpack_optimiser(optimiser, groups[name])
        precision.unpack_scaler(self.scaler, groups["scaler"])


def fit_diffusion(
    faces: Faces,
    spec: TrainSpec,
    scratch: Path,
    objective: Objective,
    device: str = "auto",
    label: str = "training",
    resources: Resources = DEFAULT,
    make_training: Callable[..., DiffusionTraining] = DiffusionTraining,
) -> Diffusion:
    """Train a network on `faces` and return the generator.

    `make_training` makes the running training; it has the arguments of DiffusionTraining.

    It resumes from a checkpoint in the folder `scratch` if there is one. With several processes
    (`resources.group`), only the first one writes, chooses the weights, and returns a valid result.

    Raises DataError if the images do not fit the network or no subject can be held out, UsageError
    if there are more processes than pieces of a batch or the checkpoint is of another training, and
    TrainingError if the loss explodes or is not a number.
    """
    torch_device = devices.find_device(device)
    with devices.isolate_randomness(torch_device):
        # Hold people out, and set up the training of all others
        shown_faces, held_out_faces = heldout.hold_out(faces, spec)
        group = resources.group
        training = make_training(shown_faces, spec, objective, torch_device, group)
        if training.piece_count < group.size:
            raise UsageError(
                f"each process needs a piece of the batch, and a batch of {spec.batch} has "
                f"{progress.quantify(training.piece_count, 'piece')}; start at most "
                f"{progress.quantify(training.piece_count, 'process')}"
            )
        shown = spec.updates * spec.batch
        if spec.class_offsets and (text := name_classes_without_offset(shown_faces)):
            progress.say(text)
        progress.say(describe_repeats(shown_faces, shown, training.chances))

        # Resume from the last checkpoint, if there is one
        labels = faces.index["emotion"]
        coding = faces.index["action_units"] if training.known_units else ()
        origin = derive_seed(spec.digest(), *faces.index["sha256"], *labels, *coding)
        state = _resume(training, scratch, origin, label)
        start = state.get("step", 0)
        digests: dict[str, str] = state.get("beside", {})  # of the weights next to the checkpoint

        # What watches the loss, on the training faces and on held-out people
        loss_watch = LossWatch(max(1, spec.updates // 100), spec.batch, state)
        held_out_watch = (
            heldout.HeldOutWatch(shown_faces, held_out_faces, spec, training, scratch, state)
            if held_out_faces is not None and group.is_first
            else None
        )

        # Choose the largest pieces that the memory allows; a resumed training keeps their size,
        # because the bits of its sums depend on it
        if resources.memory is not None:
            training.piece_size = group.broadcast(
                memory.find_piece_size(training, resources.memory, count_threads(training))
            )
            progress.say(
                f"{label}: {training.piece_size} of {progress.quantify(spec.batch, 'image')} at a "
                f"time, to stay within {format_bytes(resources.memory)}"
            )
        training.piece_size = min(training.piece_size, state.get("piece", training.piece_size))

        # Train step by step; the losses are logged as they come
        early_step = round(spec.early * spec.updates)
        saved = time.monotonic()
        total = spec.updates * spec.batch
        folder = resources.tensorboard if group.is_first else None
        with (
            devices.open_workers(torch_device, training.piece_count) as pool,
            devices.make_repeatable(torch_device, spec.deterministic),
            stopping.defer_signals(group.size == 1),
            progress.track(label, total) as tracker,
            open_log(folder, spec.name, start * spec.batch + 1) as tensorboard,
        ):
            tracker.update(start * spec.batch, loss_watch.note)
            for step in range(start, spec.updates):
                loss = training.make_step(step, pool)
                if loss is None:
                    loss_watch.skip(step)
                else:
                    loss_watch.record(step, loss)
                    tensorboard.log_losses(
                        loss_watch.rows, training.optimisers["optimiser"].param_groups[0]["lr"]
                    )

                # Keep a copy of the weights at an early step, for autoguidance
                if step + 1 == early_step and group.is_first:
                    checkpoints.save_weights(scratch / EARLY_WEIGHTS, training.average)

                # Measure the losses on held-out people
                if held_out_watch is not None and step + 1 in held_out_watch.measured_steps:
                    held_out_watch.measure(step + 1, pool)
                    tensorboard.log_levels(held_out_watch.rows[-heldout.NOISE_LEVELS :])
                tracker.update((step + 1) * spec.batch, loss_watch.note)

                # Save a checkpoint from time to time, and before stopping
                if (
                    stopping.stop_requested() or time.monotonic() - saved >= CHECKPOINT_S
                ) and group.is_first:
                    saved = time.monotonic()
                    state = {"step": step + 1, "origin": origin, "piece": training.piece_size}
                    new = [path for path in list_weight_files(scratch) if path.name not in digests]
                    digests |= {path.name: hash_file(path) for path in new}
                    state |= loss_watch.state
                    state |= held_out_watch.state if held_out_watch else {}
                    state["beside"] = digests
                    checkpoints.save_checkpoint(scratch, training.collect_tensors(), state)
                    stopping.raise_if_asked()

            # Choose the weights: the last average, or the best one on held-out people
            weights, chosen = training.average, ChosenWeights(spec.updates, spec.ema, None)
            if held_out_watch is not None:
                weights, chosen = held_out_watch.choose(pool)
                progress.say(f"{label}: {chosen.describe(spec)}")

    # Refuse a training whose loss or weights are not sound
    loss_watch.end(spec.updates)
    if loss_watch.skipped:
        progress.say(
            f"{label}: {loss_watch.skipped} of {progress.quantify(spec.updates, 'step')} were "
            "skipped, because their loss was not a number"
        )
    training.network.load_state_dict(weights)
    training.require_sound(loss_watch.first)

    # The generator, with the copy for autoguidance
    early_network = None
    if early_step and group.is_first:
        early_network = training.make_network(faces.size[0])
        checkpoints.load_weights(scratch / EARLY_WEIGHTS, early_network)
    return Diffusion(
        spec=spec,
        network=prepare_for_inference(training.network),
        early=early_network and prepare_for_inference(early_network.to(torch_device)),
        sigma_data=training.sigma_data,
        mean=training.mean,
        offsets=training.offsets,
        losses=loss_watch.make_table(),
        levels=held_out_watch.make_table() if held_out_watch else heldout.make_empty_table(),
        chosen=chosen,
        units=training.known_units,
        run="",
        **describe_origins(faces),
    )


def _resume(training: DiffusionTraining, scratch: Path, origin: int, label: str) -> dict[str, Any]:
    """Restore the last checkpoint in `scratch`, and return its state; without one it is empty.

    The first process reads the checkpoint, and the others get it from there. Raises UsageError if
    it is of a training of another `origin`.
    """
    group = training.group
    checkpoint = group.broadcast(checkpoints.load_checkpoint(scratch) if group.is_first else None)
    if checkpoint is None:
        if group.is_first:
            for path in list_weight_files(scratch):  # of a training whose checkpoints are gone
                path.unlink()
        return {}
    tensors, state = checkpoint
    checkpoints.require_origin(state, origin, scratch)

    training.restore(tensors)
    progress.say(f"{label}: resuming from step {state['step']} of {training.spec.updates}")
    return state


def list_weight_files(scratch: Path) -> list[Path]:
    """Return the files of weights that a training saves next to its checkpoints."""
    return [*scratch.glob(EARLY_WEIGHTS), *scratch.glob("snapshot-*.safetensors")]


def measure_training_speed(
    faces: Faces, spec: TrainSpec, objective: Objective, device: str = "auto"
) -> StepTimes:
    """Return how long steps of a training take on this machine, measured for MEASURE_S seconds."""
    torch_device = devices.find_device(device)
    with devices.isolate_randomness(torch_device):
        training = DiffusionTraining(faces, spec, objective, torch_device)
        with devices.open_workers(torch_device, training.piece_count) as pool:
            return time_steps(
                lambda step: training.make_step(step, pool),
                lambda: devices.wait_for_device(torch_device),
                MEASURE_S,
                MIN_TIMED_STEPS,
            )


def count_workload(spec: TrainSpec, size: tuple[int, int, int]) -> Workload:
    """Return the work per image of `size` (c, h, w) in the network of a spec."""
    with torch.device("meta"):
        network = UNet(size[0], spec.net).eval()
        noise, labels = torch.empty(2), torch.zeros(2, dtype=torch.int64)
        augmentations = torch.empty(2, len(transforms.MOVES))
        return count_work(network, 2, torch.empty(2, *size), noise, labels, augmentations)


def count_parallel_pieces(spec: SteppedSpec, torch_device: torch.device) -> int:
    """Return how many pieces of a batch a device processes in parallel."""
    pieces = -(-spec.batch // min(PIECE_IMAGES[torch_device.type], spec.batch))
    return max(1, min(torch.get_num_threads(), pieces)) if torch_device.type == "cpu" else 1


def count_threads(training: DiffusionTraining) -> int:
    """Return how many pieces a training processes in parallel."""
    return (
        min(torch.get_num_threads(), training.piece_count)
        if training.torch_device.type == "cpu"
        else 1
    )


def make_optimisers(network: nn.Module, spec: TrainSpec) -> dict[str, torch.optim.Optimizer]:
    """Return the optimisers of a training by name: Adam, and Muon where the spec asks for it.

    Adam is the "optimiser", a name that checkpoints hold. Each group of weights has its highest
    learning rate as `peak`.
    """
    parameters = list(network.parameters())
    device = parameters[0].device.type
    matrices = [weights for weights in parameters if takes_muon(weights)] if spec.muon else []
    ids = {id(weights) for weights in matrices}
    adam = torch.optim.Adam(
        [weights for weights in parameters if id(weights) not in ids],
        lr=spec.learning_rate,
        betas=(0.9, 0.99),
        fused=device != "mps",
    )
    adam.param_groups[0]["peak"] = spec.learning_rate
    if spec.muon is None or not matrices:
        return {"optimiser": adam}
    muon = Muon(matrices, spec.muon)
    muon.param_groups[0]["peak"] = spec.muon
    return {"optimiser": adam, "muon": muon}


def describe_repeats(faces: Faces, total: int, chances: Float64[np.ndarray, " n"]) -> str:
    """Return a line that says how often a training of `total` images shows each image of a class.

    `chances` are those of each image to be drawn next. Images that are shown very often may be
    memorised.
    """
    emotions = faces.index["emotion"].to_numpy()
    classes = []
    for name in faces.classes:
        images = emotions == name
        repeat = total * chances[images].sum() / images.sum()
        classes.append(f"{name} {images.sum():,} x {repeat:.1f}")
    return (
        f"learning from {progress.quantify(len(faces), 'image')}, each shown (images x times): "
        f"{', '.join(classes)}"
    )


def require_two_images(faces: Faces, name: str) -> None:
    """Raise DataError unless `faces`, of the run `name`, has two images that differ."""
    if not len(faces):
        raise DataError(f"a generator needs images to learn from, and {name} has none")
    if (faces.images == faces.images[0]).all():
        content = "1 image" if len(faces) == 1 else f"{len(faces):,} images that are all equal"
        raise DataError(
            f"a generator needs two different images or more to learn from, and {name} has "
            f"{content}; give it more"
        )


def require_side(height: int, width: int, divisor: int) -> None:
    """Raise DataError unless height and width are multiples of `divisor`."""
    if height % divisor or width % divisor:
        raise DataError(
            f"height and width must be multiples of {divisor} for this network, and the images are "
            f"{height}x{width}; resize them, or give the network fewer multipliers"
        )
