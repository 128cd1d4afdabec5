"""Student: a generator that learnt to draw in one to four steps.

The teacher's sampler is a function from noise to an image, since it adds no noise on its way. The
student has the same network, and begins with the teacher's averaged weights. It learns this
function from images that the teacher drew, each with its noise (knowledge distillation, Luhman &
Luhman 2021, arXiv:2101.02388), so guidance is part of what it learns, and no real image is used.

All of its predictions are of the final image. A prediction at the highest noise level is a first
image; Euler's step then adds the same noise to it again, at a lower level, and the next prediction
corrects it. So the image after k steps does not depend on how many follow, and one network serves
every number of steps. The student is trained on its own earlier steps, as in SFD (Zhou et al. 2024,
arXiv:2409.19681), and learns to correct its own errors. The loss is the mean absolute difference
from the image of the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from mien.errors import UsageError
from mien.faces import Faces
from mien.generators import scaling
from mien.generators.base import read_generator, write_generator
from mien.generators.diffusion import heldout
from mien.generators.diffusion.draw import NoiseStreams, draw_from_levels
from mien.generators.diffusion.fit import DiffusionTraining, fit_diffusion
from mien.generators.diffusion.heldout import ChosenWeights
from mien.generators.diffusion.model import (
    Diffusion,
    count_parameters,
    describe_units,
    load_centres,
    prepare_for_inference,
    save_centres,
)
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.objective import Batch, Objective
from mien.generators.diffusion.processes import SINGLE, ProcessGroup
from mien.generators.diffusion.samplers import Denoiser, repeat_level
from mien.generators.diffusion.transforms import MOVES
from mien.generators.diffusion.unet import ConditionedOnUnits, UNet
from mien.generators.specs import (
    KIND_FACTS,
    MAX_STUDENT_STEPS,
    SamplerSpec,
    StudentSpec,
    TrainSpec,
    count_steps,
)
from mien.generators.units import KnownUnits, read_units
from mien.runs import checkpoints, devices
from mien.runs.progress import quantify
from mien.runs.store import Run
from mien.seeds import derive_seed

TEACHERS = {
    name: import_module(f"mien.generators.{name}")
    for name, facts in KIND_FACTS.items()
    if issubclass(facts.spec, TrainSpec) and not facts.chain
}
"""The module of each kind of generator that can be distilled.

The network of a ddpm predicts the noise, so the error of its image is sigma times as large: at the
highest noise level, where a student begins, it could not be learnt.
"""

# The noise levels of the steps after the first, in standard deviations of the faces
LATER_LEVELS = (2.5, 1.2, 0.6)

# How often each step is trained: most images are drawn in one step or two
STEP_SHARES = (0.4, 0.4, 0.1, 0.1)


@dataclass(frozen=True)
class Student(Diffusion):
    """A distilled generator. `network_spec` is the training of its teacher, whose shape it has."""

    spec: StudentSpec  # pyright: ignore[reportIncompatibleVariableOverride]
    network_spec: TrainSpec

    @property
    def as_teacher(self) -> Diffusion:
        """The same network as a generator of the teacher's kind, which knows its conditioning."""
        content = {field.name: getattr(self, field.name) for field in fields(Diffusion)}
        return Diffusion(**{**content, "spec": self.network_spec})


# Noise levels


def list_levels(teacher: Diffusion) -> list[float]:
    """Return the noise levels of the four steps, from the highest to the lowest."""
    schedule = TEACHERS[teacher.spec.kind].make_noise_schedule(teacher)
    return [schedule.high, *(factor * teacher.sigma_data for factor in LATER_LEVELS)]


def find_step(shares: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the step, 0 to 3, at each share in [0, 1) of their distribution."""
    ends = torch.tensor(STEP_SHARES, device=shares.device).cumsum(0)
    return torch.bucketize(shares, ends[:-1], right=True).float()


# Training


def compute_losses(
    teacher: Diffusion, network: nn.Module, batch: Batch, sigma_data: float, masks: Sequence[Tensor]
) -> Float[Tensor, " n"]:
    """Return the mean absolute difference of each image from that of the teacher.

    The levels of `batch` are the number of the step, 0 to 3; the student makes the earlier steps
    itself, without a gradient. `sigma_data` and `masks` are not used.
    """
    schedule = TEACHERS[teacher.spec.kind].make_noise_schedule(teacher)
    denoise = TEACHERS[teacher.spec.kind].make_denoiser(teacher, network)
    levels = list_levels(teacher)

    # Images at the level of their step: those whose step comes later go on
    x = teacher.mean + schedule.start * batch.noise
    with torch.no_grad():
        for step in range(int(batch.levels.max())):
            rows = batch.levels > step
            early = x[rows]
            conditioned = isinstance(network, ConditionedOnUnits)
            some = network.select(rows) if conditioned else network
            denoise_some = TEACHERS[teacher.spec.kind].make_denoiser(teacher, some)
            clean = denoise_some(early, repeat_level(levels[step], early), batch.labels[rows])
            clean = clean.clamp(-1, 1)
            x = x.clone()
            x[rows] = clean + levels[step + 1] / levels[step] * (early - clean)

    # The prediction of each
    sigma = torch.tensor(levels, device=x.device)[batch.levels.long()]
    error = denoise(x, sigma, batch.labels) - teacher.mean - batch.x0
    return error.abs().mean(dim=(1, 2, 3))


class StudentTraining(DiffusionTraining):
    """A running distillation: the images of the teacher, with their noise, are learnt.

    It is a DiffusionTraining that begins with the weights of `teacher`.
    """

    def __init__(
        self,
        teacher: Diffusion,
        faces: Faces,
        spec: TrainSpec,
        objective: Objective,
        torch_device: torch.device,
        group: ProcessGroup = SINGLE,
    ) -> None:
        self.teacher = teacher
        super().__init__(faces, spec, objective, torch_device, group)
        self.mean, self.offsets = teacher.mean, teacher.offsets
        self.sigma_data = teacher.sigma_data
        self.network.load_state_dict(teacher.network.state_dict())
        for average in self.averages.values():
            average.tensors = {
                name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()
            }
        self.seeds = faces.index["seed"].to_numpy(dtype=np.int64)
        if self.known_units is not None:
            numbers = self.known_units.encode_images(faces.number_labels(), self.seeds)
            self.units = torch.from_numpy(numbers).to(torch_device)

    def learn_units(self, faces: Faces) -> KnownUnits | None:
        """Return the action units that condition the teacher."""
        return self.teacher.units

    def make_batch(self, number: int) -> Batch:
        """Return batch `number`: images of the teacher, the noise of each, and the step to learn.

        It is a function of only the seed and the number.
        """
        spec, count, device = self.spec, self.spec.batch, self.torch_device
        rng = torch.Generator(device).manual_seed(derive_seed("step", spec.seed, number))
        rows = torch.randint(len(self.images), (count,), device=device, generator=rng)
        shares = torch.rand(count, device=device, generator=rng)
        shares = (torch.arange(count, device=device) + shares) / count
        shares = shares[torch.randperm(count, device=device, generator=rng)]
        size = (self.images.shape[1], self.images.shape[2], self.images.shape[3])
        noise = NoiseStreams(self.seeds[rows.cpu().numpy()], count, size, device).draw()
        x0 = scaling.scale_for_model(self.images[rows]) - self.mean
        no_moves = x0.new_zeros(count, len(MOVES))
        levels = self.objective.compute_levels(shares)
        units = None if self.units is None else self.units[rows]
        return Batch(x0, self.labels[rows], no_moves, levels, noise, units)


def fit(
    teacher: Diffusion,
    lessons: Faces,
    spec: StudentSpec,
    scratch: Path,
    device: str = "auto",
    label: str = "distilling",
) -> Student:
    """Return the student of a teacher that drew `lessons`, whose index has the seed of each image.

    It resumes from a checkpoint in the folder `scratch` if there is one. Raises TrainingError if
    the loss explodes or is not a number.
    """
    # The training of the teacher, without what is for real images
    training = teacher.spec.model_copy(
        update={
            "net": teacher.spec.net.model_copy(update={"dropout": 0.0}),
            "held_out": 0.0,
            "early": 0.0,
            "precision": "float32",
            "class_offsets": False,
            "muon": None,
            **spec.model_dump(
                include={"images_seen", "batch", "learning_rate", "warmup", "decay", "ema", "seed"}
            ),
        }
    )

    # The loop of all diffusion generators, with other batches
    objective = Objective(partial(compute_losses, teacher), find_step, spread=True)
    made = fit_diffusion(
        lessons,
        training,
        scratch,
        objective,
        device,
        label,
        make_training=partial(StudentTraining, teacher),
    )

    # A student knows what its teacher knows, and says whose images that has seen
    content = {field.name: getattr(made, field.name) for field in fields(Diffusion)}
    inherited = {name: getattr(teacher, name) for name in ("classes", "seen", "licence")}
    return Student(**{**content, **inherited, "spec": spec}, network_spec=teacher.spec)


# Drawing


def make_denoiser(generator: Diffusion, network: nn.Module) -> Denoiser:
    """Return the prediction of the final image by the student, as a denoiser on images."""
    assert isinstance(generator, Student)
    teacher = generator.as_teacher
    return TEACHERS[teacher.spec.kind].make_denoiser(teacher, network)


def sample(
    generator: Student,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed: see `draw_images`.

    Raises UsageError for more than four steps, levels of its own, or a guidance that it has not
    learnt.
    """
    steps = count_steps(generator.spec, how)
    if steps > MAX_STUDENT_STEPS or how.levels:
        raise UsageError(
            f"a student draws in 1 to {MAX_STUDENT_STEPS} steps, at the levels that it has learnt; "
            f"given: {steps} steps{' and levels' if how.levels else ''}"
        )
    if how.guidance not in (1.0, generator.spec.guidance):
        raise UsageError(
            f"a student draws with the guidance of its teacher, {generator.spec.guidance:g}, which "
            f"it has learnt and which cannot be changed; given: {how.guidance:g}"
        )
    plain = how.model_copy(update={"guidance": 1.0, "guide": "label"})
    levels = [*list_levels(generator.as_teacher)[:steps], 0.0]
    start = TEACHERS[generator.network_spec.kind].make_noise_schedule(generator.as_teacher).start
    return draw_from_levels(generator, make_denoiser, levels, start, labels, seeds, plain)


def make_noise_schedule(generator: Student) -> NoiseSchedule:
    """Return the noise levels of the student; no scheduler of diffusers has them."""
    teacher = generator.as_teacher
    schedule = TEACHERS[teacher.spec.kind].make_noise_schedule(teacher)
    levels = tuple(list_levels(teacher))
    return NoiseSchedule(
        schedule.low, schedule.high, schedule.start, {}, generator.spec.steps, levels
    )


# Files


def save(generator: Student, out: Path) -> None:
    """Write a student: its weights, its statistics, the images that its teacher learnt from."""
    checkpoints.save_weights(out / "generator.safetensors", generator.network.state_dict())
    content: dict[str, Any] = {
        "sigma_data": generator.sigma_data,
        "parameters": count_parameters(generator),
        "teacher": generator.spec.teacher,
        "network": generator.network_spec.model_dump(mode="json"),
        **describe_units(generator),
    }
    write_generator(generator, out, content)
    save_centres(generator, out)


def load(run: Run, spec: StudentSpec, device: str = "auto") -> Student:
    """Return the student of a run, on `device`."""
    torch_device = devices.find_device(device)
    content, about = read_generator(run)
    network_spec, units = TrainSpec.model_validate(about["network"]), read_units(about)
    network = UNet(about["size"][0], network_spec.net, units=units.width if units else 0)
    checkpoints.load_weights(run.find_file("generator.safetensors"), network)

    mean, offsets = load_centres(run, torch_device)
    updates = max(1, round(spec.images_seen / spec.batch))
    return Student(
        spec=spec,
        network=prepare_for_inference(network.to(torch_device)),
        early=None,
        sigma_data=about["sigma_data"],
        mean=mean,
        offsets=offsets,
        levels=heldout.make_empty_table(),
        chosen=ChosenWeights(updates, spec.ema, None),
        network_spec=network_spec,
        units=units,
        **content,
    )


def summarise(generator: Student) -> str:
    """Return a one-line summary of a student."""
    return (
        f"student of {generator.spec.teacher}, {count_parameters(generator) / 1e6:.2f} million "
        f"parameters, {quantify(generator.spec.images_seen, 'image')} seen, loss "
        f"{generator.losses['loss'].iloc[-1]:.4f}"
    )
