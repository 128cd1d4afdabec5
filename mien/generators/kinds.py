"""GENERATORS: the kinds of generator, and what each of them can do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from torch import nn

from mien.errors import UsageError
from mien.faces import Faces
from mien.generators import resampling
from mien.generators.base import Generator
from mien.generators.diffusion.fit import count_workload, fit_diffusion, measure_training_speed
from mien.generators.diffusion.model import Diffusion, load_diffusion, save_diffusion, summarise
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.resources import DEFAULT, Resources
from mien.generators.diffusion.samplers import Denoiser
from mien.generators.one_pass.fit import fit_one_pass, measure_one_pass_speed
from mien.generators.one_pass.model import (
    OnePass,
    load_one_pass,
    sample_one_pass,
    save_one_pass,
    summarise_one_pass,
)
from mien.generators.specs import (
    KIND_FACTS,
    GeneratorSpec,
    KindFacts,
    OnePassSpec,
    SamplerSpec,
    TrainSpec,
    read_training,
)
from mien.runs.store import Run
from mien.runs.workload import StepTimes, Workload


@dataclass(frozen=True)
class GeneratorKind:
    """What a kind of generator does; KIND_FACTS has what is known of it.

    - `fit(faces, spec, scratch, device, label, means)` returns a trained Generator.
    - `sample(generator, labels, seeds, how)` returns images, uint8 [n, c, h, w].
    - `save(generator, folder)` writes a generator, and `load(run, spec, device)` reads it.
    - `summarise(generator)` returns a one-line summary of it.
    - `measure_speed(faces, spec, device)` measures how long steps of a training take.
    - `count_workload(spec, size)` counts the work per image.
    - `make_denoiser(generator, network)` returns the denoiser of a trained network.
    - `make_noise_schedule(generator)` returns the noise levels of an exported generator.

    `measure_speed` and `count_workload` are None for a kind that is not trained in steps, or is
    distilled, and the last two for a kind without a denoiser.
    """

    fit: Callable[..., Generator]
    sample: Callable[..., UInt8[np.ndarray, "n c h w"]]
    save: Callable[..., None]
    load: Callable[..., Generator]
    summarise: Callable[..., str]
    measure_speed: Callable[[Faces, Any, str], StepTimes] | None = None
    count_workload: Callable[[Any, tuple[int, int, int]], Workload] | None = None
    make_denoiser: Callable[[Diffusion, nn.Module], Denoiser] | None = None
    make_noise_schedule: Callable[[Diffusion], NoiseSchedule] | None = None


def _make_kind(name: str, facts: KindFacts) -> GeneratorKind:
    """Return what a kind does, from the module of its name."""
    module = import_module(f"mien.generators.{name}")
    if issubclass(facts.spec, TrainSpec):
        return _make_diffusion_kind(module)
    if issubclass(facts.spec, OnePassSpec):
        return _make_one_pass_kind(module)
    if facts.distilled:
        return _make_distilled_kind(module)
    if facts.moves and facts.sampler != "direct":
        return _make_moving_kind(module)
    if facts.resamples and not facts.moves:
        return _make_direct_kind(resampling, resampling.make_sample(module.make_image))
    return _make_direct_kind(module, module.sample)


def _make_diffusion_kind(kind: Any) -> GeneratorKind:
    def fit(
        faces: Faces, spec: TrainSpec, scratch: Path, device: str, label: str, resources: Resources
    ) -> Diffusion:
        return fit_diffusion(
            faces, spec, scratch, kind.make_objective(spec), device, label, resources
        )

    def measure_speed(faces: Faces, spec: TrainSpec, device: str) -> StepTimes:
        return measure_training_speed(faces, spec, kind.make_objective(spec), device)

    return GeneratorKind(
        fit,
        kind.sample,
        save_diffusion,
        load_diffusion,
        summarise,
        measure_speed,
        count_workload,
        kind.make_denoiser,
        kind.make_noise_schedule,
    )


def _make_one_pass_kind(kind: Any) -> GeneratorKind:
    def fit(
        faces: Faces,
        spec: OnePassSpec,
        scratch: Path,
        device: str,
        label: str,
        resources: Resources,
    ) -> OnePass:
        return fit_one_pass(faces, spec, scratch, kind.make_training, device, label, resources)

    def load(run: Run, spec: OnePassSpec, device: str) -> OnePass:
        return load_one_pass(run, spec, kind.make_network, device)

    def summarise(generator: OnePass) -> str:
        return summarise_one_pass(generator, kind.describe(generator.facts, generator.spec))

    def measure_speed(faces: Faces, spec: OnePassSpec, device: str) -> StepTimes:
        return measure_one_pass_speed(faces, spec, kind.make_training, device)

    return GeneratorKind(
        fit, sample_one_pass, save_one_pass, load, summarise, measure_speed, kind.count_workload
    )


def _make_distilled_kind(kind: Any) -> GeneratorKind:
    def fit(
        faces: Faces,
        spec: GeneratorSpec,
        scratch: Path,
        device: str,
        label: str,
        resources: Resources,
    ) -> Generator:
        raise UsageError(
            f"a {spec.kind} is made from a trained generator; use `mien distill GENERATOR` instead"
        )

    return GeneratorKind(
        fit,
        kind.sample,
        kind.save,
        kind.load,
        kind.summarise,
        make_denoiser=kind.make_denoiser,
        make_noise_schedule=kind.make_noise_schedule,
    )


def _make_moving_kind(kind: Any) -> GeneratorKind:
    return GeneratorKind(
        kind.fit,
        kind.sample,
        kind.save,
        kind.load,
        kind.summarise,
        kind.measure_speed,
        kind.count_workload,
    )


def _make_direct_kind(kind: Any, sample: Callable[..., np.ndarray]) -> GeneratorKind:
    def fit(
        faces: Faces,
        spec: GeneratorSpec,
        scratch: Path,
        device: str,
        label: str,
        resources: Resources,
    ) -> Generator:
        if resources != DEFAULT:
            raise UsageError(
                "--memory, --tensorboard and several processes need a generator that is trained "
                f"in steps, and a {spec.kind} generator is not; omit them"
            )
        return kind.fit(faces, spec, scratch, device, label)

    return GeneratorKind(fit, sample, kind.save, kind.load, kind.summarise)


GENERATORS: Mapping[str, GeneratorKind] = {
    name: _make_kind(name, facts) for name, facts in KIND_FACTS.items()
}


def fit_generator(
    faces: Faces,
    spec: GeneratorSpec,
    scratch: Path,
    *,
    device: str = "auto",
    label: str = "training",
    resources: Resources = DEFAULT,
) -> Generator:
    """Return a generator that is trained on `faces`.

    The training resumes exactly from the last checkpoint in the folder `scratch`, if there is one.
    Raises DataError if the images do not fit the network, TrainingError if the loss explodes or is
    not a number.
    """
    return GENERATORS[spec.kind].fit(faces, spec, scratch, device, label, resources)


def sample_generator(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    *,
    sampler: SamplerSpec | None = None,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed.

    An image is bit for bit the same whatever other images are drawn with it. `sampler` None is the
    default sampler of the generator's kind. Raises UsageError for a class that the generator was
    not trained on, and for a sampler that its kind cannot use.
    """
    facts = KIND_FACTS[generator.spec.kind]
    how = sampler or SamplerSpec(sampler=facts.sampler)
    if not facts.can_use(how.sampler):
        raise UsageError(
            f"a {generator.spec.kind} generator cannot use the sampler '{how.sampler}'; omit it"
        )
    return GENERATORS[generator.spec.kind].sample(generator, labels, seeds, how)


def save_generator(generator: Generator, out: Path) -> None:
    """Write a generator to a folder."""
    GENERATORS[generator.spec.kind].save(generator, out)


def load_generator(run: Run, device: str = "auto") -> Generator:
    """Return the generator of a run; raises UsageError if the run is not a trained generator."""
    if "generator.json" not in run.manifest["files"]:
        raise UsageError(f"{run.name} is not a trained generator; `mien ls generator` lists them")
    spec = read_training(
        {name: value for name, value in run.spec.items() if name != "stage"}, run.name
    )
    return GENERATORS[spec.kind].load(run, spec, device)
