"""What all diffusion generators share: the trained thing, its training loop, and drawing images from it."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from mien import progress, seeds, training
from mien.errors import DataError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.samplers import Denoiser, Draw, clipped, guided
from mien.generators.specs import SamplerSpec, TrainSpec
from mien.generators.unet import NULL, UNet
from mien.store import Run

CHECKPOINT_S = 30.0  # time between checkpoints; no result depends on it
MEASURE_S = 8.0  # how long the speed of training is measured
CLIP_NORM = 1.0  # of the gradient
# Images always pass through the network in batches of this size, the last one padded: the arithmetic of one image
# must not depend on how many others were asked for.
BATCH = {"cpu": 8, "cuda": 256, "mps": 64}
# A training batch is cut into pieces of this size, worked on side by side and summed in order: how many cores there are
# does not matter.
PIECE = {"cpu": 8, "cuda": 1 << 20, "mps": 1 << 20}
SEEN = ["key", "subject", "clip"]

Objective = Callable[[nn.Module, Tensor, Tensor, Tensor, float, torch.Generator], Tensor]
"""(network, x0 [n, c, h, w], labels [n], mirrored [n], sigma_data, rng) -> the loss, a number."""

Walk = Callable[[Denoiser, Tensor, Tensor, Draw], Tensor]
"""(denoiser, unit noise [n, c, h, w], labels [n], draw) -> images in [-1, 1]."""


@dataclass(frozen=True)
class Generator:
    """A trained generator.

    `network` holds the averaged weights. `mean` is what was taken off every image before training (the mean face, or
    zero) and `sigma_data` the standard deviation of the rest. `classes` are the emotions seen, `seen` has key, subject
    and clip of every training image, `losses` the columns step, images_seen and loss.
    """

    spec: TrainSpec
    network: nn.Module
    classes: tuple[str, ...]
    size: tuple[int, int, int]
    sigma_data: float
    mean: Tensor
    seen: pd.DataFrame
    licence: str
    losses: pd.DataFrame
    run: str = ""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


# Training


class Training:
    """A training under way: data, network, average and optimiser, and one step at a time."""

    def __init__(self, faces: Faces, spec: TrainSpec, objective: Objective, where: torch.device) -> None:
        if not len(faces):
            raise DataError(f"a generator needs images to learn from, and {spec.faces} has none")
        channels, height, width = faces.size
        training.require_side(height, width, spec.net.divisor)
        self.spec, self.objective, self.where = spec, objective, where
        self.images = torch.from_numpy(np.array(faces.images)).to(where)
        self.labels = torch.from_numpy(faces.labels()).to(where)
        self.chances = training.chances(faces.index, spec.balance, spec.clip_first)
        mean, self.sigma_data = statistics(faces.images, spec.residual)
        self.mean = mean.to(where)
        torch.manual_seed(seeds.seed("network", spec.seed))
        self.network = UNet(channels, spec.net).to(where).train()
        self.average = training.Average(self.network, spec.ema)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=spec.learning_rate, betas=(0.9, 0.99), fused=where.type != "mps"
        )

    def step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make step `number` and return its loss; None, with nothing changed, if loss or gradient is not finite."""
        spec = self.spec
        places = torch.from_numpy(training.batch(self.chances, spec.batch, spec.seed, number)).to(self.where)
        pieces = places.split(PIECE[self.where.type])
        done = list(pool.map(partial(self.piece, number), range(len(pieces)), pieces))
        loss = torch.stack([part for part, _ in done]).sum()
        for parameter, *gradients in zip(self.network.parameters(), *(part for _, part in done), strict=True):
            parameter.grad = torch.stack(gradients).sum(dim=0) if len(gradients) > 1 else gradients[0]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        if not torch.isfinite(loss + norm):
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = training.learning_rate(number, spec.updates, spec.learning_rate, spec.warmup, spec.decay)
        self.optimiser.step()
        self.average.update(self.network, number)
        return loss.item()

    def piece(self, number: int, part: int, places: Int64[Tensor, " n"]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what a part of batch `number` adds to its loss and gradient."""
        spec, count = self.spec, len(places)
        rng = torch.Generator(self.where).manual_seed(seeds.seed("step", spec.seed, number, part))
        x0 = training.to_model(self.images[places]) - self.mean
        mirrored = torch.zeros(count, device=self.where)
        if spec.mirror:
            mirrored = (torch.rand(count, device=self.where, generator=rng) < 0.5).float()
            x0 = torch.where(mirrored[:, None, None, None] > 0, x0.flip(-1), x0)
        unlabelled = torch.rand(count, device=self.where, generator=rng) < spec.label_drop
        labels = self.labels[places].masked_fill(unlabelled, NULL)
        loss = self.objective(self.network, x0, labels, mirrored, self.sigma_data, rng) * (count / spec.batch)
        return loss.detach(), torch.autograd.grad(loss, list(self.network.parameters()))

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint has to hold."""
        parts = {
            "network": self.network.state_dict(),
            "average": self.average.tensors,
            "optimiser": training.pack_optimiser(self.optimiser),
        }
        return {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` returned."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = tensor.to(self.where)
        self.network.load_state_dict(parts["network"])
        self.average.tensors = parts["average"]
        training.unpack_optimiser(self.optimiser, parts["optimiser"])


def fit(
    faces: Faces, spec: TrainSpec, scratch: Path, objective: Objective, device: str = "auto", label: str = "training"
) -> Generator:
    """Train a network on `faces` and return the generator; goes on from a checkpoint in `scratch` if there is one.

    Raises DataError if the images do not fit the network, TrainingError if the loss explodes or is no number.
    """
    where = training.device(device)
    with training.own_randomness(where):
        work = Training(faces, spec, objective, where)
        progress.say(repeats(faces, work))
        origin = seeds.seed(spec.digest(), *faces.index["sha256"], *faces.index["emotion"])
        first, state = 0, {}
        kept = training.load_checkpoint(scratch)
        if kept is not None:
            tensors, state = kept
            if state["origin"] != origin:
                raise UsageError(f"{scratch} must hold checkpoints of this training only; give it an empty folder")
            work.restore(tensors)
            first = state["step"]
            progress.say(f"{label}: going on from step {first} of {spec.updates}")
        watch = training.LossWatch(max(1, spec.updates // 100), spec.batch, state)
        saved = time.monotonic()
        total = spec.updates * spec.batch
        with training.workers(where, pieces(spec, where)) as pool, progress.track(label, total) as tracker:
            tracker.update(first * spec.batch, watch.note)
            for step in range(first, spec.updates):
                loss = work.step(step, pool)
                if loss is None:
                    watch.skip(step)
                else:
                    watch.take(step, loss)
                tracker.update((step + 1) * spec.batch, watch.note)
                if time.monotonic() - saved >= CHECKPOINT_S:
                    saved = time.monotonic()
                    state = {"step": step + 1, "origin": origin, **watch.state}
                    training.save_checkpoint(scratch, work.tensors(), state)
    if watch.skipped:
        progress.say(f"{label}: {watch.skipped} steps were skipped, their loss was not a number")
    work.network.load_state_dict(work.average.tensors)
    return finished(work, faces, watch.table())


def finished(work: Training, faces: Faces, losses: pd.DataFrame) -> Generator:
    """Return the generator that a training has made."""
    seen = faces.index.loc[:, SEEN]
    if faces.seen is not None:  # trained on synthetic faces: what their generator saw, this one has seen too
        seen = pd.concat([seen, faces.seen.loc[:, SEEN]]).drop_duplicates()
    return Generator(
        spec=work.spec,
        network=work.network.eval().requires_grad_(False),
        classes=faces.classes,
        size=faces.size,
        sigma_data=work.sigma_data,
        mean=work.mean,
        seen=seen.reset_index(drop=True),
        licence=" and ".join(sorted(set(faces.index["licence"]))),
        losses=losses,
    )


def speed(faces: Faces, spec: TrainSpec, objective: Objective, device: str = "auto") -> float:
    """Return how many images a second a training takes in on this machine."""
    where = training.device(device)
    with training.own_randomness(where), training.workers(where, pieces(spec, where)) as pool:
        work = Training(faces, spec, objective, where)
        work.step(0, pool)  # the first step is slower
        began, steps = time.monotonic(), 0
        while steps < 2 or time.monotonic() - began < MEASURE_S:
            steps += 1
            work.step(steps, pool)
        return steps * spec.batch / (time.monotonic() - began)


def pieces(spec: TrainSpec, where: torch.device) -> int:
    """Return into how many pieces a batch is cut."""
    return -(-spec.batch // PIECE[where.type])


def statistics(images: UInt8[np.ndarray, "n c h w"], residual: bool) -> tuple[Float[Tensor, "c h w"], float]:
    """Return the mean face (zero unless `residual`) and the standard deviation of all pixels around it, in [-1, 1]."""
    pixels = images.reshape(len(images), -1)
    total, squares = np.zeros(pixels.shape[1]), np.zeros(pixels.shape[1])
    for part in np.array_split(pixels, max(1, len(pixels) // 1024)):
        scaled = part / 127.5 - 1
        total += scaled.sum(axis=0)
        squares += np.square(scaled).sum(axis=0)
    mean = total / len(pixels)
    centre = mean if residual else mean.mean()
    variance = float((squares / len(pixels) - 2 * centre * mean + centre**2).mean())
    face = torch.from_numpy(mean if residual else np.zeros_like(mean)).float().reshape(images.shape[1:])
    return face, max(variance, 1e-6) ** 0.5


def repeats(faces: Faces, work: Training) -> str:
    """Return a line that says how often training shows each image of a class: what it may learn by heart."""
    shown = work.spec.updates * work.spec.batch
    emotions = faces.index["emotion"].to_numpy()
    parts = []
    for name in faces.classes:
        of = emotions == name
        parts.append(f"{name} {of.sum():,} x {shown * work.chances[of].sum() / of.sum():.1f}")
    return f"learning from {len(faces):,} images, each shown (images x times): {', '.join(parts)}"


# Drawing


def draw_images(
    generator: Generator,
    denoise: Denoiser,
    walk: Walk,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a place in EMOTIONS) and seed.

    All noise of an image comes from its own seed, so it is bit for bit the same alone or among any others. Raises
    UsageError for a class that the generator never saw.
    """
    unknown = sorted({EMOTIONS[label] for label in labels} - set(generator.classes))
    if unknown:
        raise UsageError(
            f"the generator must have seen what it draws, and never saw {', '.join(unknown)}; "
            f"it knows {', '.join(generator.classes)}"
        )
    if how.guidance > 1:
        low, high = how.guidance_low * generator.sigma_data, how.guidance_high * generator.sigma_data
        denoise = guided(denoise, NULL, how.guidance, low, high)
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
    """A stream of noise for each image of a padded batch, drawn on the processor so that devices agree on it."""

    def __init__(
        self, seeds: Int64[np.ndarray, " n"], batch: int, size: tuple[int, int, int], where: torch.device
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


def save(generator: Generator, out: Path) -> None:
    """Write a generator: its weights, what it measured and saw, and its loss table."""
    training.save_weights(out / "generator.safetensors", generator.network)
    about = {
        "classes": list(generator.classes),
        "size": list(generator.size),
        "sigma_data": generator.sigma_data,
        "licence": generator.licence,
        "parameters": parameters(generator),
    }
    training.write_whole(out / "generator.json", (json.dumps(about, indent=1) + "\n").encode())
    np.save(out / "mean.npy", generator.mean.cpu().numpy(), allow_pickle=False)
    generator.seen.to_parquet(out / "seen.parquet", index=False)
    generator.losses.to_csv(out / "loss.csv", index=False, lineterminator="\n")


def parameters(generator: Generator) -> int:
    """Return how many numbers the network has learnt."""
    return sum(parameter.numel() for parameter in generator.network.parameters())


def load(run: Run, device: str = "auto") -> Generator:
    """Return the generator that a run holds, on `device`."""
    where = training.device(device)
    spec = TrainSpec.model_validate({name: value for name, value in run.spec.items() if name != "stage"})
    about = run.json("generator.json")
    network = UNet(about["size"][0], spec.net)
    training.load_weights(run.file("generator.safetensors"), network)
    return Generator(
        spec=spec,
        network=network.to(where).eval().requires_grad_(False),
        classes=tuple(about["classes"]),
        size=tuple(about["size"]),
        sigma_data=about["sigma_data"],
        mean=torch.from_numpy(np.load(run.file("mean.npy"), allow_pickle=False)).to(where),
        seen=pd.read_parquet(run.file("seen.parquet")),
        licence=about["licence"],
        losses=pd.read_csv(run.file("loss.csv")),
        run=run.name,
    )
