"""What all diffusion generators share: the trained thing, its training loop, and drawing images
from it.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from mien import progress, seeds, stopping, training
from mien.errors import DataError, TrainingError, UsageError
from mien.faces import Faces
from mien.generators import base, board, heldout, memory, moves, precision, sums
from mien.generators.crew import ALONE, Crew
from mien.generators.heldout import Chosen
from mien.generators.means import PLAIN, Means, shown
from mien.generators.objective import Batch, Objective
from mien.generators.samplers import Denoiser, Draw, autoguided, clipped, guided
from mien.generators.specs import SamplerSpec, TrainSpec
from mien.generators.unet import NULL, UNet
from mien.store import Run, sha256
from mien.workload import Workload, count

CHECKPOINT_S = 30.0  # time between checkpoints; no result depends on it
MEASURE_S = 8.0  # how long the speed of training is measured
CLIP_NORM = 1.0  # of the gradient
ASTRAY = 100.0  # times the first loss: no training that learns anything ends there
# Images always pass through the network in batches of this size, the last one padded: the
# arithmetic of one image must not depend on how many others were asked for.
BATCH = {"cpu": 8, "cuda": 256, "mps": 64}
# A training batch is cut into pieces of this size or, where memory is short, smaller ones, worked
# on side by side and summed in order: how many cores there are does not matter.
PIECE = {"cpu": 8, "cuda": 1 << 20, "mps": 1 << 20}
DROPPED = {
    "cpu": 8,
    "cuda": 16,
    "mps": 16,
}  # images whose dropout is drawn together, whatever piece they are in
EARLY = "early.safetensors"


Walk = Callable[[Denoiser, Tensor, Tensor, Draw], Tensor]
"""(denoiser, unit noise [n, c, h, w], labels [n], draw) -> images in [-1, 1]."""


@dataclass(frozen=True)
class Diffusion(base.Generator):
    """A trained diffusion model.

    `network` holds the averaged weights, `early` those of an early moment of the training, if kept.
    `mean` is what was taken off every image before training (the mean face, or zero) and
    `sigma_data` the standard deviation of the rest. `levels` has the loss at each noise level
    during training (see `heldout.COLUMNS`), `chosen` the step and the width of the average that the
    weights are of.
    """

    spec: TrainSpec
    network: nn.Module
    early: nn.Module | None
    sigma_data: float
    mean: Tensor
    levels: pd.DataFrame
    chosen: Chosen

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


# Training


class Training:
    """A training under way: data, network, averages and optimiser, and one step at a time.

    `size` is how many images make a piece of a batch; `crew` are the processes that share the
    pieces.
    """

    def __init__(
        self,
        faces: Faces,
        spec: TrainSpec,
        objective: Objective,
        where: torch.device,
        crew: Crew = ALONE,
    ) -> None:
        if not len(faces):
            raise DataError(f"a generator needs images to learn from, and {spec.faces} has none")
        if (faces.images == faces.images[0]).all():
            shown = "1 image" if len(faces) == 1 else f"{len(faces):,} images that are all equal"
            raise DataError(
                f"a generator needs two different images or more to learn from, and {spec.faces} "
                "has "
                f"{shown}; give it more"
            )
        channels, height, width = faces.size
        training.require_side(height, width, spec.net.divisor)
        self.spec, self.objective, self.where, self.crew = spec, objective, where, crew
        self.size = min(
            PIECE[where.type], -(-spec.batch // (1 if where.type == "cpu" else crew.size))
        )
        self.images = torch.from_numpy(np.array(faces.images)).to(where)
        self.labels = torch.from_numpy(faces.labels()).to(where)
        self.chances = training.chances(faces.index, spec.balance, spec.clip_first)
        mean, self.sigma_data = statistics(faces.images, spec.residual)
        self.mean = mean.to(where)
        torch.manual_seed(seeds.seed("network", spec.seed))
        self.network = UNet(channels, spec.net).to(where).train()
        self.asked, self.scaler = (
            precision.lowered(self.network, spec),
            precision.scaler(spec, where),
        )
        widths = dict.fromkeys([spec.ema, *(heldout.TRACKED if spec.held_out else ())])
        self.averages = {width: training.Average(self.network, width) for width in widths}
        self.optimiser = torch.optim.Adam(
            self.network.parameters(),
            lr=spec.learning_rate,
            betas=(0.9, 0.99),
            fused=where.type != "mps",
        )

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.averages[self.spec.ema].tensors

    def step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make step `number` and return its loss; None, with nothing changed, if loss or gradient
        is not finite.

        A gradient that overflows for its scale alone (see `precision`) changes nothing but the
        scale, and is no fault.
        """
        spec = self.spec
        batch = self.batch(number)
        rows = [
            slice(first, min(first + self.size, spec.batch))
            for first in range(0, spec.batch, self.size)
        ]
        nodes: list[sums.Node] = []
        share = self.crew.share(len(rows))
        done = pool.map(partial(self.piece, batch, number), [rows[place] for place in share])
        for place, parts in zip(share, done, strict=True):
            sums.put(nodes, sums.Node(0, place, parts))
        loss, *gradients = sums.total(self.crew.whole(nodes, len(rows)))
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        scale = self.scaler.get_scale()
        self.scaler.update()
        if not torch.isfinite(loss + norm):
            return loss.item() if scale > 1 and torch.isfinite(loss) else None
        for group in self.optimiser.param_groups:
            group["lr"] = training.learning_rate(
                number, spec.updates, spec.learning_rate, spec.warmup, spec.decay
            )
        self.optimiser.step()
        for average in self.averages.values():
            average.update(self.network, number)
        return loss.item()

    @property
    def pieces(self) -> int:
        """Into how many pieces a batch is cut."""
        return -(-self.spec.batch // self.size)

    def batch(self, number: int) -> Batch:
        """Return batch `number`, a function of the seed and the number alone."""
        spec, count, where = self.spec, self.spec.batch, self.where
        places = torch.from_numpy(training.batch(self.chances, count, spec.seed, number)).to(where)
        rng = torch.Generator(where).manual_seed(seeds.seed("step", spec.seed, number))
        done = moves.draw(count, spec.mirror, spec.moves, rng)
        x0 = moves.apply(training.to_model(self.images[places]) - self.mean, done)
        unlabelled = torch.rand(count, device=where, generator=rng) < spec.label_drop
        shares = torch.rand(count, device=where, generator=rng)
        if self.objective.spread:
            shares = (torch.arange(count, device=where) + shares) / count
            shares = shares[torch.randperm(count, device=where, generator=rng)]
        noise = torch.randn(x0.shape, device=where, generator=rng)
        labels = self.labels[places].masked_fill(unlabelled, NULL)
        return Batch(x0, labels, done, self.objective.levels(shares), noise)

    def piece(self, batch: Batch, number: int, rows: slice) -> tuple[Tensor, ...]:
        """Return what a part of batch `number` adds to its loss, and to the gradient of each
        parameter.
        """
        drops = self.drops(number, rows)
        loss = (
            self.objective.errors(self.asked, batch.part(rows), self.sigma_data, drops).sum()
            / self.spec.batch
        )
        return loss.detach(), *torch.autograd.grad(
            self.scaler.scale(loss), list(self.network.parameters())
        )

    def drops(self, number: int, rows: slice) -> list[Tensor]:
        """Return which features dropout keeps of some images of batch `number`, the same in pieces
        of any size.
        """
        together = DROPPED[self.where.type]
        found: list[list[Tensor]] = []
        for first in range(rows.start // together * together, rows.stop, together):
            rng = torch.Generator(self.where)
            rng.manual_seed(seeds.seed("dropout", self.spec.seed, number, first // together))
            count = min(together, self.spec.batch - first)
            part = slice(max(0, rows.start - first), rows.stop - first)
            height, width = self.images.shape[2:]
            found.append([kept[part] for kept in self.network.drops(count, height, width, rng)])
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def attempt(self, size: int) -> None:
        """Work on a piece of so many images as a step would, and change nothing."""
        self.piece(self.batch(0), 0, slice(0, size))

    def require_sound(self, first: float) -> None:
        """Raise TrainingError if the network, as it is to be kept, errs beyond all bounds on a part
        of a batch.

        A last step can lead astray without being noticed in any loss. `first` is the first loss of
        the training.
        """
        loss = float(self.piece(self.batch(0), 0, slice(0, self.size))[0])
        if not loss < ASTRAY * max(first, 1.0):
            raise TrainingError(
                f"the loss must fall, and is {loss:.4g} at the end; it was {first:.4g} in the "
                "beginning. Lower "
                "learning_rate"
            )

    def coming(self, size: int) -> int:
        """Return the bytes of what a step in pieces of `size` will keep, and has not made yet.

        That is the optimiser's state, and gradients that wait for their neighbours.
        """
        weights = sum(
            parameter.numel() * parameter.element_size() for parameter in self.network.parameters()
        )
        kept = 0 if self.optimiser.state else 2
        return weights * (kept + 1 + (self.spec.batch // size).bit_length())

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint has to hold."""
        parts = {
            "network": self.network.state_dict(),
            "optimiser": training.pack_optimiser(self.optimiser),
            "scaler": precision.pack(self.scaler),
            **{f"average {width:g}": average.tensors for width, average in self.averages.items()},
        }
        return {
            f"{part}/{name}": tensor
            for part, named in parts.items()
            for name, tensor in named.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` returned."""
        parts: dict[str, dict[str, Tensor]] = {"optimiser": {}, "scaler": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor.to(self.where)
        self.network.load_state_dict(parts["network"])
        for width, average in self.averages.items():
            average.tensors = parts[f"average {width:g}"]
        training.unpack_optimiser(self.optimiser, parts["optimiser"])
        precision.unpack(self.scaler, parts["scaler"])


def fit(
    faces: Faces,
    spec: TrainSpec,
    scratch: Path,
    objective: Objective,
    device: str = "auto",
    label: str = "training",
    means: Means = PLAIN,
) -> Diffusion:
    """Train a network on `faces` and return the generator; goes on from a checkpoint in `scratch`
    if there is one.

    In a crew, all that is written and chosen is the first process's, and only what it returns is
    meant.

    Raises DataError if the images do not fit the network or nobody can be held out, TrainingError
    if the loss explodes or is no number.
    """
    where = training.device(device)
    with training.own_randomness(where):
        rest, held = heldout.parted(faces, spec)
        crew = means.crew
        work = Training(rest, spec, objective, where, crew)
        if work.pieces < crew.size:
            raise UsageError(
                f"each process must have a piece of the batch, and a batch of {spec.batch} makes "
                f"{work.pieces}; "
                f"start no more than {work.pieces} processes"
            )
        progress.say(repeats(rest, work))
        origin = seeds.seed(spec.digest(), *faces.index["sha256"], *faces.index["emotion"])
        first, state = 0, {}
        kept = crew.agree(training.load_checkpoint(scratch) if crew.leads else None)
        if kept is not None:
            tensors, state = kept
            if state["origin"] != origin:
                raise UsageError(
                    f"{scratch} must hold checkpoints of this training only; give it an empty "
                    "folder"
                )
            work.restore(tensors)
            first = state["step"]
            progress.say(f"{label}: going on from step {first} of {spec.updates}")
        elif crew.leads:
            for path in kept_weights(scratch):  # of a training whose checkpoints are gone
                path.unlink()
        beside: dict[str, str] = state.get("beside", {})
        watch = training.LossWatch(max(1, spec.updates // 100), spec.batch, state)
        aside = (
            heldout.Watch(rest, held, spec, work, scratch, state)
            if held is not None and crew.leads
            else None
        )
        if means.memory is not None:
            work.size = crew.agree(memory.fitting(work, means.memory, threads(work)))
            progress.say(
                f"{label}: {work.size} of {progress.many(spec.batch, 'image')} at a time, to stay "
                "within "
                f"{shown(means.memory)}"
            )
        work.size = min(work.size, state.get("piece", work.size))  # goes on to the same bits
        early = round(spec.early * spec.updates)
        saved = time.monotonic()
        total = spec.updates * spec.batch
        folder = means.tensorboard if crew.leads else None
        with (
            training.workers(where, work.pieces) as pool,
            training.repeatable(where, spec.deterministic),
            stopping.heeded(crew.size == 1),
            progress.track(label, total) as tracker,
            board.opened(folder, spec.name, first * spec.batch + 1) as shows,
        ):
            tracker.update(first * spec.batch, watch.note)
            for step in range(first, spec.updates):
                loss = work.step(step, pool)
                if loss is None:
                    watch.skip(step)
                else:
                    watch.take(step, loss)
                    shows.losses(watch.rows, work.optimiser.param_groups[0]["lr"])
                if step + 1 == early and crew.leads:
                    training.save_weights(scratch / EARLY, work.average)
                if aside is not None and step + 1 in aside.moments:
                    aside.take(step + 1, pool)
                    shows.levels(aside.rows[-heldout.LEVELS :])
                tracker.update((step + 1) * spec.batch, watch.note)
                if (stopping.asked() or time.monotonic() - saved >= CHECKPOINT_S) and crew.leads:
                    saved = time.monotonic()
                    state = {"step": step + 1, "origin": origin, "piece": work.size}
                    new = [path for path in kept_weights(scratch) if path.name not in beside]
                    beside |= {path.name: sha256(path) for path in new}
                    state |= {**watch.state, **(aside.state if aside else {}), "beside": beside}
                    training.save_checkpoint(scratch, work.tensors(), state)
                    stopping.obey()
            weights, chosen = work.average, Chosen(spec.updates, spec.ema, None)
            if aside is not None:
                weights, chosen = aside.choose(pool)
                progress.say(f"{label}: {chosen.text(spec)}")
    watch.end(spec.updates)
    if watch.skipped:
        progress.say(
            f"{label}: {watch.skipped} of {progress.many(spec.updates, 'step')} were skipped, "
            "their loss was not "
            "a number"
        )
    work.network.load_state_dict(weights)
    work.require_sound(watch.first)
    before = None
    if early and crew.leads:
        before = UNet(faces.size[0], spec.net)
        training.load_weights(scratch / EARLY, before)
    return Diffusion(
        spec=spec,
        network=still(work.network),
        early=before and still(before.to(where)),
        sigma_data=work.sigma_data,
        mean=work.mean,
        losses=watch.table(),
        levels=aside.table() if aside else heldout.no_table(),
        chosen=chosen,
        run="",
        **base.origins(faces),
    )


def kept_weights(scratch: Path) -> list[Path]:
    """Return the files of weights that a training keeps beside its checkpoints."""
    return [*scratch.glob(EARLY), *scratch.glob("snapshot-*.safetensors")]


def still(network: nn.Module) -> nn.Module:
    """Return a network ready to be asked: without dropout and gradients."""
    return network.eval().requires_grad_(False)


def speed(faces: Faces, spec: TrainSpec, objective: Objective, device: str = "auto") -> float:
    """Return how many images a second a training takes in on this machine."""
    where = training.device(device)
    with training.own_randomness(where):
        work = Training(faces, spec, objective, where)
        with training.workers(where, work.pieces) as pool:
            work.step(0, pool)  # the first step is slower
            began, steps = time.monotonic(), 0
            while steps < 2 or time.monotonic() - began < MEASURE_S:
                steps += 1
                work.step(steps, pool)
            return steps * spec.batch / (time.monotonic() - began)


def workload(spec: TrainSpec, size: tuple[int, int, int]) -> Workload:
    """Return what an image of this size (c, h, w) takes in the network of a spec."""
    with torch.device("meta"):
        network = UNet(size[0], spec.net).eval()
        told = torch.empty(2), torch.zeros(2, dtype=torch.int64), torch.empty(2, len(moves.MOVES))
        return count(network, 2, torch.empty(2, *size), *told)


def side_by_side(spec: TrainSpec, where: torch.device) -> int:
    """Return how many pieces of a batch are worked on side by side on a device."""
    pieces = -(-spec.batch // min(PIECE[where.type], spec.batch))
    return max(1, min(torch.get_num_threads(), pieces)) if where.type == "cpu" else 1


def threads(work: Training) -> int:
    """Return how many pieces are worked on side by side."""
    return min(torch.get_num_threads(), work.pieces) if work.where.type == "cpu" else 1


def statistics(
    images: UInt8[np.ndarray, "n c h w"], residual: bool
) -> tuple[Float[Tensor, "c h w"], float]:
    """Return the mean face (zero unless `residual`) and the standard deviation of all pixels around
    it, in [-1, 1].
    """
    pixels = images.reshape(len(images), -1)
    total, squares = np.zeros(pixels.shape[1]), np.zeros(pixels.shape[1])
    for part in np.array_split(pixels, max(1, len(pixels) // 1024)):
        scaled = part / 127.5 - 1
        total += scaled.sum(axis=0)
        squares += np.square(scaled).sum(axis=0)
    mean = total / len(pixels)
    centre = mean if residual else mean.mean()
    variance = float((squares / len(pixels) - 2 * centre * mean + centre**2).mean())
    face = (
        torch.from_numpy(mean if residual else np.zeros_like(mean))
        .float()
        .reshape(images.shape[1:])
    )
    return face, max(variance, 1e-6) ** 0.5


def repeats(faces: Faces, work: Training) -> str:
    """Return a line that says how often training shows each image of a class: what it may learn by
    heart.
    """
    shown = work.spec.updates * work.spec.batch
    emotions = faces.index["emotion"].to_numpy()
    parts = []
    for name in faces.classes:
        of = emotions == name
        parts.append(f"{name} {of.sum():,} x {shown * work.chances[of].sum() / of.sum():.1f}")
    return (
        f"learning from {progress.many(len(faces), 'image')}, each shown (images x times): "
        f"{', '.join(parts)}"
    )


# Drawing


def draw_images(
    generator: Diffusion,
    denoiser: Callable[[Diffusion, nn.Module], Denoiser],
    walk: Walk,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a place in EMOTIONS) and seed.

    All noise of an image comes from its own seed, so it is bit for bit the same alone or among any
    others. Raises UsageError for a class that the generator never saw, or guidance by an early
    moment that it did not keep.
    """
    generator.require_known(labels)
    if how.sampler == "direct":
        raise UsageError(
            f"a generator of kind {generator.spec.kind} must be drawn from in steps, and the "
            "sampler is 'direct'"
        )
    denoise = denoiser(generator, generator.network)
    if how.guidance > 1:
        low, high = (
            how.guidance_low * generator.sigma_data,
            how.guidance_high * generator.sigma_data,
        )
        if how.guide == "label":
            denoise = guided(denoise, NULL, how.guidance, low, high)
        elif generator.early is None:
            raise UsageError(
                "guide 'early' must stand with a generator that kept an early moment; train it "
                "with early > 0"
            )
        else:
            denoise = autoguided(
                denoise, denoiser(generator, generator.early), how.guidance, low, high
            )
    if how.clip_x0:
        denoise = clipped(denoise)
    where, size = generator.device, BATCH[generator.device.type]
    padded = np.full(-(-len(labels) // size) * size, NULL, dtype=np.int64)
    padded[: len(labels)] = labels

    def batch(first: int) -> UInt8[np.ndarray, "n c h w"]:
        streams = Streams(seeds[first : first + size], size, generator.size, where)
        told = torch.from_numpy(padded[first : first + size]).to(where)
        with torch.inference_mode():
            return training.from_model(walk(denoise, streams.draw(), told, streams.draw))

    firsts = range(0, len(labels), size)
    with training.workers(where, len(firsts)) as pool:
        parts = list(pool.map(batch, firsts))
    empty = np.empty((0, *generator.size), dtype=np.uint8)
    return np.concatenate([empty, *parts])[: len(labels)]


class Streams:
    """A stream of noise for each image of a padded batch, drawn on the processor so that devices
    agree on it.
    """

    def __init__(
        self,
        seeds: Int64[np.ndarray, " n"],
        batch: int,
        size: tuple[int, int, int],
        where: torch.device,
    ) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.shape, self.where = (batch, *size), where

    def draw(self) -> Float[Tensor, "batch c h w"]:
        """Return the next unit noise of each image; zeros where the batch is padded."""
        noise = torch.zeros(self.shape)
        for place, generator in enumerate(self.generators):
            noise[place].normal_(generator=generator)
        return noise.to(self.where)


# Files


def save(generator: Diffusion, out: Path) -> None:
    """Write a generator: its weights, what it measured and saw, and its loss tables."""
    training.save_weights(out / "generator.safetensors", generator.network.state_dict())
    if generator.early is not None:
        training.save_weights(out / EARLY, generator.early.state_dict())
    more = {
        "sigma_data": generator.sigma_data,
        "parameters": parameters(generator),
        "chosen": asdict(generator.chosen),
    }
    base.save(generator, out, more)
    np.save(out / "mean.npy", generator.mean.cpu().numpy(), allow_pickle=False)
    if len(generator.levels):
        generator.levels.to_csv(out / "levels.csv", index=False, lineterminator="\n")
        (out / "levels.svg").write_text(
            heldout.chart(generator.levels, generator.chosen), encoding="utf-8"
        )


def parameters(generator: Diffusion) -> int:
    """Return how many numbers the network has learnt."""
    return sum(parameter.numel() for parameter in generator.network.parameters())


def holds(generator: Diffusion) -> str:
    """Return a line on what was learnt."""
    size, seen = parameters(generator), generator.spec.updates * generator.spec.batch
    text = (
        f"{generator.spec.kind}, {size / 1e6:.2f} million parameters, "
        f"{progress.many(seen, 'image')} seen"
    )
    text += f", loss {generator.losses['loss'].iloc[-1]:.4f}"
    return text + (f", {generator.chosen.text(generator.spec)}" if len(generator.levels) else "")


def load(run: Run, spec: TrainSpec, device: str = "auto") -> Diffusion:
    """Return the generator that a run holds, on `device`."""
    where = training.device(device)
    fields, about = base.load(run)
    there = run.manifest["files"]

    def network(name: str) -> nn.Module:
        found = UNet(about["size"][0], spec.net)
        training.load_weights(run.file(name), found)
        return still(found.to(where))

    return Diffusion(
        spec=spec,
        network=network("generator.safetensors"),
        early=network(EARLY) if EARLY in there else None,
        sigma_data=about["sigma_data"],
        mean=torch.from_numpy(np.load(run.file("mean.npy"), allow_pickle=False)).to(where),
        levels=pd.read_csv(run.file("levels.csv")) if "levels.csv" in there else heldout.no_table(),
        chosen=Chosen(**about["chosen"]),
        **fields,
    )
