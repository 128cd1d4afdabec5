"""Motion: a generator of movement, from a neutral face to its apex.

It holds two networks. One draws neutral faces, from the onsets of the training clips, so that no
real face is needed. The other draws the difference between apex and onset, given the neutral face
and the emotion. Such a difference is a few grey levels, so it is multiplied by a gain that gives it
the standard deviation of faces; without it, the loss would hardly depend on it. The networks and
their training are those of `edm`. How a movement rises and decays is in clips/timing.py.

For comparison, one network can draw onset and difference at once (`form` joint), or all moments of
a clip (`form` frames).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, nn

from mien.errors import UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators import edm, scaling
from mien.generators.base import describe_origins, read_generator, write_generator
from mien.generators.clips.pairs import Pairs, collect_pairs, list_clips
from mien.generators.clips.seeds import draw_intensities, find_person_seeds
from mien.generators.clips.timing import MotionTiming, MovingGenerator, fit_timing
from mien.generators.diffusion import fit as loop
from mien.generators.diffusion import heldout
from mien.generators.diffusion.centre import MIN_OFFSET_SUBJECTS
from mien.generators.diffusion.draw import (
    SAMPLING_BATCH,
    NoiseStreams,
    choose_levels,
    encode_image_units,
)
from mien.generators.diffusion.heldout import ChosenWeights
from mien.generators.diffusion.model import (
    Diffusion,
    count_parameters,
    describe_units,
    prepare_for_inference,
)
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.processes import SINGLE, ProcessGroup
from mien.generators.diffusion.resources import DEFAULT, Resources
from mien.generators.diffusion.samplers import SOLVERS, Denoiser, bind, guide, make_karras_levels
from mien.generators.diffusion.unet import NO_LABEL, UNet, condition_on_units
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import MotionSpec, SamplerSpec, TrainSpec, count_steps
from mien.generators.units import KnownUnits, read_units
from mien.prepare.clips import PAIR, name_moments
from mien.prepare.preprocess import preprocess
from mien.prepare.specs import PreprocessSpec
from mien.runs import checkpoints, devices
from mien.runs.progress import quantify
from mien.runs.store import Run
from mien.runs.workload import StepTimes, Workload, count_work, time_steps

NEUTRAL = EMOTIONS.index("neutral")

# The variance of movements within a class, in units of that between classes: the offset of a class
# of n clips is n / (n + ratio) of its mean. What an expression changes is a large share of how
# movements differ, and a small one of how faces do (see diffusion/centre.py).
MOVEMENT_RATIO = 2.0


@dataclass(frozen=True)
class Motion(MovingGenerator):
    """A trained generator of movement.

    `neutral` draws neutral faces; it is None where `movement` draws the onset, too. The first
    channel of `movement` is the difference between apex and onset, as a share of 127.5 grey levels,
    times `gain`; with the form frames its channels are the moments of a clip, and the gain is 1.
    """

    spec: MotionSpec
    neutral: Diffusion | None
    movement: Diffusion
    gain: float

    @property
    def units(self) -> KnownUnits | None:
        """The action units that condition the movement, or None."""
        return self.movement.units


class GivenNetwork(nn.Module):
    """A network whose last input channels are the same at every noise level.

    `given` has n images; a batch of 2n images, as guidance makes it, gets each of them twice.
    """

    def __init__(self, network: nn.Module, given: Float[Tensor, "n k h w"]) -> None:
        super().__init__()
        self.network, self.given = network, given

    def forward(self, x: Float[Tensor, "m c h w"], *conditions: Any) -> Float[Tensor, "m c h w"]:
        """Return the output of the network for `x` and what is given with it."""
        given = self.given.repeat(len(x) // len(self.given), 1, 1, 1)
        return self.network(torch.cat([x, given], dim=1), *conditions)


# Training


def compute_losses(
    network: nn.Module, batch: Batch, sigma_data: float, masks: Sequence[Tensor]
) -> Float[Tensor, " n"]:
    """Return the loss of `edm` for the first channel of each image, given the others without
    noise.
    """
    given = GivenNetwork(network, batch.x0[:, 1:])
    first = replace(batch, x0=batch.x0[:, :1], noise=batch.noise[:, :1])
    return edm.compute_losses(given, first, sigma_data, masks)


class MotionTraining(loop.DiffusionTraining):
    """A running training on pairs: the difference is multiplied by a gain, the onset is given.

    With `joint` the onset is learnt, too. `faces` are the pairs as Pairs.encode returns them.
    """

    def __init__(
        self,
        pairs: Pairs,
        joint: bool,
        faces: Faces,
        spec: TrainSpec,
        objective: Objective,
        torch_device: torch.device,
        group: ProcessGroup = SINGLE,
    ) -> None:
        self.joint = joint
        super().__init__(faces, spec, objective, torch_device, group)
        mean, offsets, gain, self.sigma_data = scale_pairs(pairs, spec.class_offsets)
        self.mean, self.offsets = mean.to(torch_device), offsets.to(torch_device)
        self.values = stack_pairs(pairs, gain).to(torch_device)

    def make_network(self, channels: int) -> UNet:
        """Return the untrained network: of two channels, or of one with another one given."""
        return make_network(self.spec, self.joint, self.known_units)

    def take_images(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Return differences, times the gain, and onsets."""
        return self.values[rows]


def make_network(spec: TrainSpec, joint: bool, units: KnownUnits | None) -> UNet:
    """Return an untrained network of movement, which `units` condition if there are any."""
    channels, given = (2, 0) if joint else (1, 1)
    return UNet(channels, spec.net, given=given, units=units.width if units else 0)


def stack_pairs(pairs: Pairs, gain: float) -> Float[Tensor, "n 2 h w"]:
    """Return the difference of each pair, as a share of 127.5 grey levels, times `gain`, and the
    onset on the scale from -1 to 1.
    """
    values = np.stack([gain * pairs.differences / 127.5, pairs.onsets / 127.5 - 1], axis=1)
    return torch.from_numpy(values.astype(np.float32))


def scale_pairs(
    pairs: Pairs, class_offsets: bool
) -> tuple[Float[Tensor, "2 h w"], Float[Tensor, "labels 2 h w"], float, float]:
    """Return mean, offset of each class, gain and standard deviation of pairs.

    Mean and offsets are those of the values that `stack_pairs` returns. The gain gives the
    difference, beside the mean and the offset of its class, the standard deviation of the onsets;
    onsets have no offsets. Without `class_offsets` all offsets are zero.
    """
    # What each class adds to the mean movement, shrunk towards zero where it has few clips
    plain = stack_pairs(pairs, 1.0)
    mean, labels = plain.mean(dim=0), pairs.number_labels()
    offsets = plain.new_zeros(len(EMOTIONS) + 1, *plain.shape[1:])
    for label in set(labels.tolist()) if class_offsets else ():
        rows = torch.from_numpy(labels == label)
        subjects = pairs.index["subject"][labels == label].nunique()
        if subjects >= MIN_OFFSET_SUBJECTS:
            count = int(rows.sum())
            share = count / (count + MOVEMENT_RATIO)
            offsets[label, 0] = share * (plain[rows, 0].mean(dim=0) - mean[0])

    # What is left of the difference is made as strong as what is left of the onset
    beside = plain - mean - offsets[torch.from_numpy(labels)]
    difference, onset = (float(beside[:, channel].square().mean() ** 0.5) for channel in (0, 1))
    gain = onset / max(difference, 1e-6)
    mean[0] *= gain
    offsets[:, 0] *= gain
    return mean, offsets, gain, max(onset, 1e-3)


def fit(
    faces: Faces,
    spec: MotionSpec,
    scratch: Path,
    device: str = "auto",
    label: str = "training",
    resources: Resources = DEFAULT,
) -> Motion:
    """Return the generator that is trained on `faces`, grey frames of whole clips.

    It resumes from a checkpoint in the folder `scratch` if there is one. Raises DataError if the
    faces do not have two clips with onset and apex, TrainingError if a loss explodes.
    """
    # The pairs, and how the clips move over time
    pairs = collect_pairs(faces, spec.fps, spec.faces)
    timing = fit_timing(list(list_clips(faces)), pairs, spec.fps)
    trainings = spec.make_trainings()
    origins = {**describe_origins(faces), "classes": pairs.encode().classes}

    def train(name: str, shown: Faces, objective: Objective, what: str, **how: Any) -> Diffusion:
        folder = scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        text = f"{label}, {what}"
        return loop.fit_diffusion(
            shown, trainings[name], folder, objective, device, text, resources, **how
        )

    # All moments of a clip at once, or neutral faces and then movements
    movement = edm.make_objective(trainings["movement"])
    if spec.form == "frames":
        shown = preprocess(faces, PreprocessSpec(faces=spec.faces, clips=spec.moments))
        drawn = train("movement", shown, movement, "clips")
        origins |= {"classes": drawn.classes, "size": drawn.size, "channels": drawn.channels}
        origins["losses"] = drawn.losses
        return Motion(
            spec, neutral=None, movement=drawn, gain=1.0, timing=timing, run="", **origins
        )
    neutral = None
    if "neutral" in trainings:
        objective = edm.make_objective(trainings["neutral"])
        neutral = train("neutral", pairs.show_onsets(), objective, "neutral faces")
    joint = spec.form == "joint"
    drawn = train(
        "movement",
        pairs.encode(),
        movement if joint else replace(movement, compute_losses=compute_losses),
        "movements",
        make_training=partial(MotionTraining, pairs, joint),
    )
    gain = scale_pairs(pairs, spec.class_offsets)[2]
    origins |= {"size": (2, *faces.size[1:]), "channels": name_moments(PAIR)}
    origins["losses"] = drawn.losses
    return Motion(
        spec, neutral=neutral, movement=drawn, gain=gain, timing=timing, run="", **origins
    )


def measure_speed(faces: Faces, spec: MotionSpec, device: str = "auto") -> StepTimes:
    """Return how long steps of a training take on this machine, measured for some seconds."""
    torch_device = devices.find_device(device)
    training = spec.make_trainings()["movement"]
    pairs = collect_pairs(faces, spec.fps, spec.faces)
    objective = replace(edm.make_objective(training), compute_losses=compute_losses)
    with devices.isolate_randomness(torch_device):
        running = MotionTraining(pairs, False, pairs.encode(), training, objective, torch_device)
        with devices.open_workers(torch_device, running.piece_count) as pool:
            return time_steps(
                lambda step: running.make_step(step, pool),
                lambda: devices.wait_for_device(torch_device),
                loop.MEASURE_S,
                loop.MIN_TIMED_STEPS,
            )


def count_workload(spec: MotionSpec, size: tuple[int, int, int]) -> Workload:
    """Return the work per training image of `size` (c, h, w), whose channels do not matter."""
    with torch.device("meta"):
        network = UNet(1, spec.net, given=1).eval()
        noise, labels = torch.empty(2), torch.zeros(2, dtype=torch.int64)
        augmentations = torch.empty(2, len(edm.MOVES))
        images = torch.empty(2, 2, *size[1:])
        return count_work(network, 2, images, noise, labels, augmentations)


# Drawing


def sample(
    generator: Motion,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return onset and apex, or all moments, of a clip for each label and seed.

    A label is a position in EMOTIONS. The first half of a seed says whose face it is (see
    clips/seeds.py), so that clips of one person have one neutral face.
    """
    generator.require_known(labels)
    intensities = draw_intensities(seeds, how)[:, None, None, None]
    if generator.spec.form == "frames":
        moments = edm.sample(generator.movement, labels, seeds, how).astype(np.float32)
        return _round(moments[:, :1] + intensities * (moments - moments[:, :1]))

    # The neutral faces, each once
    plain = how.model_copy(update={"guidance": 1.0, "guide": "label", "units": None})
    onsets = None
    if generator.neutral is not None:
        people, whose = np.unique(find_person_seeds(seeds), return_inverse=True)
        classes = np.full(len(people), NEUTRAL, dtype=np.int64)
        onsets = edm.sample(generator.neutral, classes, people, plain)[whose]

    # The movement of each, in grey levels
    drawn = draw_movements(generator, onsets, labels, seeds, how)
    first = 127.5 * (drawn[:, 1:] + 1) if onsets is None else onsets.astype(np.float32)
    difference = 127.5 / generator.gain * drawn[:, :1]
    return _round(np.concatenate([first, first + intensities * difference], axis=1))


def draw_movements(
    generator: Motion,
    onsets: UInt8[np.ndarray, "n 1 h w"] | None,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> Float[np.ndarray, "n c h w"]:
    """Return the difference of each clip, given its onset, as `stack_pairs` scales it.

    Without onsets, each is drawn with its difference, as the second channel. All noise of a clip
    comes from its seed. Predictions are not clipped, because a difference has no limits.
    """
    model, size = generator.movement, SAMPLING_BATCH[generator.movement.device.type]
    channels = 2 if onsets is None else 1
    shape = (channels, *model.size[1:])
    usual = make_karras_levels(count_steps(generator.spec, how), edm.SIGMA_LOW, edm.SIGMA_HIGH)
    levels = choose_levels(how, usual)
    solve = SOLVERS[how.sampler]
    if SAMPLERS[how.sampler].adds_noise:
        solve = partial(solve, variance=how.variance)

    # Batches of a fixed size, the last one padded
    padding = -len(labels) % size
    padded = np.pad(labels, (0, padding), constant_values=NO_LABEL)
    units = encode_image_units(model, labels, seeds, how)
    if units is not None:
        units = torch.cat([units, units.new_zeros(padding, units.shape[1])]).to(model.device)
    given = None
    if onsets is not None:
        centred = scaling.scale_for_model(onsets).to(model.device) - model.mean[1:]
        given = torch.cat([centred, centred.new_zeros(padding, *centred.shape[1:])])

    def draw_batch(first: int) -> Float[np.ndarray, "n c h w"]:
        rows = slice(first, first + size)
        network = condition_on_units(model.network, None if units is None else units[rows])
        network = network if given is None else GivenNetwork(network, given[rows])
        denoise = _guide(model, _make_denoiser(model, network, channels), how)
        streams = NoiseStreams(seeds[rows], size, shape, model.device)
        conditions = torch.from_numpy(padded[rows]).to(model.device)
        with torch.inference_mode():
            start = model.mean[:channels] + levels[0] * streams.draw()
            made = solve(partial(bind, denoise, conditions), start, levels, streams.draw)
        return made.float().cpu().numpy()

    firsts = range(0, len(labels), size)
    with devices.open_workers(model.device, len(firsts)) as pool:
        batches = list(pool.map(draw_batch, firsts))
    empty = np.empty((0, *shape), dtype=np.float32)
    return np.concatenate([empty, *batches])[: len(labels)]


def _guide(model: Diffusion, denoise: Denoiser, how: SamplerSpec) -> Denoiser:
    """Return `denoise` with the guidance of a sampler, and without clipping."""
    if how.guide != "label":
        raise UsageError(
            f"a generator of movement has no copy from early in its training, which guide "
            f"'{how.guide}' needs; use guide 'label'"
        )
    if how.guidance == 1:
        return denoise
    low, high = (limit * model.sigma_data for limit in (how.guidance_low, how.guidance_high))
    return guide(denoise, NO_LABEL, how.guidance, low, high)


def _make_denoiser(model: Diffusion, network: nn.Module, channels: int) -> Denoiser:
    """Return the denoiser of the first `channels` channels of a model."""
    first = replace(model, mean=model.mean[:channels], offsets=model.offsets[:, :channels])
    return edm.make_denoiser(first, network)


def _round(values: Float[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    """Return grey levels as bytes; raises TrainingError if one is not a number."""
    return scaling.scale_to_bytes(torch.from_numpy(values) / 127.5 - 1)


# Files


def save(generator: Motion, out: Path) -> None:
    """Write a generator: its networks, their statistics, the timing, and what it was trained on."""
    networks = {"neutral": generator.neutral, "movement": generator.movement}
    about = {}
    for name, model in networks.items():
        if model is None:
            continue
        checkpoints.save_weights(out / f"{name}.safetensors", model.network.state_dict())
        for part, values in (("mean", model.mean), ("offsets", model.offsets)):
            np.save(out / f"{name}-{part}.npy", values.cpu().numpy(), allow_pickle=False)
        about[name] = {
            "training": model.spec.model_dump(mode="json"),
            "classes": list(model.classes),
            "size": list(model.size),
            "sigma_data": model.sigma_data,
            "parameters": count_parameters(model),
            "loss": float(model.losses["loss"].iloc[-1]),
        }
    content = {"networks": about, "gain": generator.gain, "timing": generator.timing.to_json()}
    write_generator(generator, out, {**content, **describe_units(generator.movement)})


def load(run: Run, spec: MotionSpec, device: str = "auto") -> Motion:
    """Return the generator of a run, on `device`."""
    torch_device = devices.find_device(device)
    fields, about = read_generator(run)

    models = {name: _load_model(run, spec, name, torch_device) for name in about["networks"]}
    timing = MotionTiming.from_json(about["timing"])
    return Motion(
        spec=spec,
        neutral=models.get("neutral"),
        movement=models["movement"],
        gain=about["gain"],
        timing=timing,
        **fields,
    )


def _load_model(run: Run, spec: MotionSpec, name: str, torch_device: torch.device) -> Diffusion:
    """Return the network `name` of a run, with its statistics."""
    fields, about = read_generator(run)
    facts = about["networks"][name]
    training = TrainSpec.model_validate(facts["training"])
    size = (int(facts["size"][0]), int(facts["size"][1]), int(facts["size"][2]))

    # A network of the form that was trained
    is_paired = name == "movement" and spec.form != "frames"
    units = read_units(about) if name == "movement" else None
    network = (
        make_network(training, spec.form == "joint", units)
        if is_paired
        else UNet(size[0], training.net, units=units.width if units else 0)
    )
    checkpoints.load_weights(run.find_file(f"{name}.safetensors"), network)
    mean, offsets = (
        torch.from_numpy(np.load(run.find_file(f"{name}-{part}.npy"), allow_pickle=False))
        for part in ("mean", "offsets")
    )
    own = {"classes": tuple(facts["classes"]), "size": size, "channels": ()}
    return Diffusion(
        spec=training,
        network=prepare_for_inference(network.to(torch_device)),
        early=None,
        sigma_data=facts["sigma_data"],
        mean=mean.to(torch_device),
        offsets=offsets.to(torch_device),
        levels=heldout.make_empty_table(),
        chosen=ChosenWeights(training.updates, training.ema, None),
        units=units,
        **{**fields, **own},
    )


def summarise(generator: Motion) -> str:
    """Return a one-line summary of a trained generator."""
    models = [model for model in (generator.neutral, generator.movement) if model is not None]
    count = sum(count_parameters(model) for model in models)
    losses = " and ".join(f"{float(model.losses['loss'].iloc[-1]):.4f}" for model in models)
    return (
        f"{generator.spec.kind} ({generator.spec.form}), {count / 1e6:.2f} million parameters, "
        f"{quantify(generator.spec.images_seen, 'image')} seen, loss {losses}"
    )
