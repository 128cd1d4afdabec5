"""Export meets the store: a generator becomes a folder that needs no mien."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.errors import UsageError
from mien.export.one_pass import has_mean_face, list_one_pass_files, write_one_pass
from mien.export.program import (
    describe_classes,
    describe_mean,
    describe_provenance,
    hash_program_files,
    save_program,
    write_json,
    write_page,
)
from mien.export.revealed_faces import MeanFaceOwners, find_owners, select_trained
from mien.faces import EMOTIONS
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.samplers import Denoiser
from mien.generators.diffusion.unet import NO_LABEL, condition_on_units
from mien.generators.kinds import GENERATORS, load_generator
from mien.generators.one_pass.model import OnePass
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import KIND_FACTS, OnePassSpec
from mien.generators.student import Student
from mien.generators.units import KnownUnits
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import say
from mien.runs.spec import suggest
from mien.runs.store import Run

FORMATS = ("program", "diffusers")

PROGRAM_FILE = "denoiser.pt2"

EXPORT_FOLDER = Path(__file__).parent


class DenoiserProgram(nn.Module):
    """The denoiser D(x, sigma, labels) -> x0 of a trained generator as one module, on images.

    If the network is conditioned on action units, these are a fourth input (see `describe_units`).
    """

    mean: Tensor
    offsets: Tensor

    def __init__(self, generator: Diffusion) -> None:
        super().__init__()
        self.generator, self.network = generator, generator.network
        self.register_buffer("mean", generator.mean)
        self.register_buffer("offsets", generator.offsets)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, " n"],
        labels: Int[Tensor, " n"],
        units: Float[Tensor, "n units"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Return the expected clean images of `x` = x0 + sigma * noise, about in [-1, 1]."""
        generator = replace(self.generator, mean=self.mean, offsets=self.offsets)
        return get_denoiser(generator, condition_on_units(self.network, units))(x, sigma, labels)


def export(run: Run, out: Path, form: str = "program", allow_face: bool = False) -> Path:
    """Write the generator of a run to the folder `out`, and return the folder.

    The folder appears complete or not at all. Both formats have the denoiser, or the network that
    makes an image in one pass, as a program of torch.export; `diffusers` adds the noise schedule as
    a scheduler of diffusers. A message says whose mean face is exported with it.

    Raises UsageError for an unknown format, a kind that cannot be exported, an `out` that is not
    empty, and, unless `allow_face`, a mean face that is in effect that of one person.
    """
    # A known format, and a kind of generator that has it
    if form not in FORMATS:
        raise UsageError(
            f"the format must be one of {', '.join(FORMATS)}; given: "
            f"'{form}'.{suggest(form, [*FORMATS])}"
        )
    kind = str(run.spec.get("kind"))
    if kind in GENERATORS and kind not in list_exportable():
        raise UsageError(
            f"`mien export` must name a network ({' or '.join(list_exportable())}), and {run.name} "
            f"is a {kind}, which {KIND_FACTS[kind].not_exported}; `mien generate` draws from it"
        )
    script = EXPORT_FOLDER / f"scheduled_{kind}.py"
    if form == "diffusers" and kind in GENERATORS and not script.exists():
        raise UsageError(
            f"the format 'diffusers' needs a scheduler of diffusers, and a {kind} generator has "
            "none; use the format 'program'"
        )
    if form == "diffusers" and "action_units" in (run.spec.get("condition") or ()):
        raise UsageError(
            f"{run.name} is conditioned on action units, and the scripts of the format "
            "'diffusers' pass only the emotion; use the format 'program'"
        )
    out = require_free(out)

    # The mean face must not be that of one person
    generator = load_generator(run, "cpu")
    owners = find_owners(select_trained(generator, run))
    _require_several(run, owners, allow_face)
    if isinstance(generator, OnePass):
        if has_mean_face(generator):
            say(f"the network contains the mean face of {owners.text}, and leaves the store")
        with write_whole_folder(out) as folder:
            write_one_pass(generator, run, folder)
        return out
    assert isinstance(generator, Diffusion)  # as every kind with a denoiser is
    if generator.mean.any():
        say(
            f"mean.npy is the mean face of {owners.text}, and leaves the store with the "
            "network, which contains it too"
        )

    # The files of the folder
    with write_whole_folder(out) as folder:
        write_program(generator, folder / PROGRAM_FILE)
        np.save(folder / "mean.npy", generator.mean.numpy(), allow_pickle=False)
        shutil.copyfile(EXPORT_FOLDER / "sample.py", folder / "sample.py")
        if form == "diffusers":
            (folder / "scheduler").mkdir()
            write_json(
                folder / "scheduler" / "scheduler_config.json",
                get_noise_schedule(generator).scheduler,
            )
            shutil.copyfile(script, folder / "sample_diffusers.py")
        about = describe(generator, run, folder, form)
        write_json(folder / "export.json", about)
        (folder / "README.md").write_text(write_readme(about), encoding="utf-8")
    return out


def list_exportable() -> list[str]:
    """Return the kinds of generator that can be exported: those with a network."""
    return [
        name
        for name, kind in GENERATORS.items()
        if kind.make_denoiser is not None or issubclass(KIND_FACTS[name].spec, OnePassSpec)
    ]


def get_denoiser(generator: Diffusion, network: nn.Module) -> Denoiser:
    """Return the denoiser of a trained network."""
    denoiser = GENERATORS[generator.spec.kind].make_denoiser
    assert denoiser is not None  # as `list_exportable` says
    return denoiser(generator, network)


def get_noise_schedule(generator: Diffusion) -> NoiseSchedule:
    """Return the noise levels of a generator, and the scheduler of diffusers with them."""
    schedule = GENERATORS[generator.spec.kind].make_noise_schedule
    assert schedule is not None  # as `list_exportable` says
    return schedule(generator)


def _require_several(run: Run, owners: MeanFaceOwners, allowed: bool) -> None:
    """Raise UsageError if the mean face is in effect that of one person, unless that is allowed."""
    if owners.one and not allowed:
        count = round(owners.share * owners.images)
        raise UsageError(
            "a generator that is exported must have learnt from several people. Of the "
            f"training images of {run.name}, {count:,} of {owners.images:,} show one "
            f"{owners.unit}: "
            "mean.npy, and the images that the network draws, would show that person's face. Train "
            "it on more people, or give --allow-face if that person agreed to it"
        )


def write_program(generator: Diffusion, path: Path) -> None:
    """Write the denoiser as a program of torch.export, for any number of images."""
    x = torch.zeros(2, *generator.size)
    labels = torch.full((2,), EMOTIONS.index(generator.classes[0]))
    given_units = () if generator.units is None else (torch.zeros(2, generator.units.width),)
    save_program(DenoiserProgram(generator), (x, torch.ones(2), labels, *given_units), path)


def describe_units(known: KnownUnits) -> dict[str, Any]:
    """Return the field of export.json on the action units that condition the denoiser.

    Its fourth input has a column for each of `columns`: the first is 1 where units are given, and
    the others are strengths from 0 to 1. `classes` has the rows that each class was trained with,
    and the share of each.
    """
    return {
        "columns": ["given", *known.columns],
        "typical": list(known.typical),
        "classes": {
            name: [
                {
                    "share": share,
                    "row": [round(float(value), 4) for value in known.encode([text])[0]],
                }
                for text, share in shares.items()
            ]
            for name, shares in known.classes.items()
        },
    }


def describe(generator: Diffusion, run: Run, folder: Path, form: str) -> dict[str, Any]:
    """Return the content of export.json: classes, noise levels, sampler, licence and provenance."""
    # How to call the denoiser, and how to draw images with it
    schedule = get_noise_schedule(generator)
    spec = generator.network_spec if isinstance(generator, Student) else generator.spec
    about: dict[str, Any] = {
        "format": form,
        "kind": generator.spec.kind,
        "licence": generator.licence,
        "classes": describe_classes(generator),
        "null_label": None if schedule.levels or spec.label_drop == 0 else NO_LABEL,
        "size": list(generator.size),
        "sigma": {"low": schedule.low, "high": schedule.high, "data": generator.sigma_data},
        "sampler": {
            "name": "dpmpp2m",
            "steps": SAMPLERS["dpmpp2m"].steps,
            "rho": 7.0,
            "start": schedule.start,
            "clip_x0": True,
        },
    }
    if schedule.levels:
        about["sampler"] |= {
            "name": "euler",
            "steps": schedule.steps,
            "levels": list(schedule.levels),
        }
    if form == "diffusers":
        about["scheduler"] = {"class": schedule.scheduler["_class_name"], "steps": schedule.steps}

    # Whose faces it shows, and where it comes from
    about |= describe_provenance(generator, run, bool(generator.mean.any()))
    about["class_offsets"] = spec.class_offsets
    if generator.units is not None:
        about["units"] = describe_units(generator.units)

    # The files as they were written
    about["sha256"] = hash_program_files(folder, (PROGRAM_FILE, "mean.npy"))
    return about


def list_files(about: Mapping[str, Any]) -> dict[str, str]:
    """Return a description of each file of an exported folder."""
    # The files of every folder
    if "noise" in about:
        return list_one_pass_files(about)
    mean = describe_mean(about) or "zero"
    files = {
        PROGRAM_FILE: (
            "the denoiser, a program of torch.export: D(x [n, c, h, w], sigma [n], labels [n]) -> "
            "x0"
        ),
        "mean.npy": f"where images start: {mean}",
        "export.json": "classes and their labels, noise levels, licence, provenance",
        "sample.py": "draws images, and needs only torch and numpy",
    }

    if "units" in about:
        files[PROGRAM_FILE] = files[PROGRAM_FILE].replace(
            "labels [n])", "labels [n], units [n, u])"
        )
        files["export.json"] += ", action units"

    # Those with the scheduler of diffusers
    if about["format"] == "diffusers":
        files[PROGRAM_FILE] += (
            "; it is not a UNet2DModel of diffusers, because the network adds the class before "
            "the last layer of its embedding and scales the sum of every block by sqrt(1/2)"
        )
        files["scheduler/"] = (
            f"the noise schedule, which loads with diffusers' {about['scheduler']['class']}"
        )
        files["sample_diffusers.py"] = "draws images with that scheduler and the denoiser"

    return files


def write_readme(about: Mapping[str, Any]) -> str:
    """Return README.md of an exported folder."""
    # The parts that depend on the generator
    drawn_by, default = about["sampler"]["name"], KIND_FACTS[about["kind"]].sampler
    labels = ", ".join(f"{name} {label}" for name, label in about["classes"].items())
    null = about["null_label"]
    free = (
        f"Label {null} means no label, for guidance: D_{null} + w (D_label - D_{null})."
        if null is not None
        else "It was trained only on images with a label, so guidance by label is not possible."
    )
    face = ", and contains the mean face of its training images, as `mean.npy` does"
    face += ", and what each expression changes in it" if about["class_offsets"] else ""

    units = about.get("units", {}).get("columns", [])
    inputs = ", units" if units else ""
    given_units = (
        f"""units is float32 [n, {len(units)}]: 1 if action units are given, then the strength, from
0 to 1, of {", ".join(units[1:])}; all zero: they are unknown. `export.json` has the rows
that each class was trained with. `sample.py --units 12:0.8,6:0.5` orders units.
"""
        if units
        else ""
    )

    # The page
    use = f"""\
```python
import torch

denoise = torch.export.load("{PROGRAM_FILE}").module()
# float32 [n, {", ".join(map(str, about["size"]))}], float32 [n], int64 [n]; any n
x0 = denoise(x, sigma, labels{inputs})
```

Pixels are between -1 (black) and 1 (white); x = x0 + sigma * noise, for sigma from
{about["sigma"]["low"]:.4g} to {about["sigma"]["high"]:.4g}.
The labels are {labels}; there are no others.
{free}
{given_units}"""
    tools = (
        f"`sample.py` draws with the sampler {drawn_by}; the default of mien itself is {default}."
    )
    return write_page(about, list_files(about), use, tools, face if about["mean_face"] else "")
