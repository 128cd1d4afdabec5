"""Export meets the store: a generator becomes a folder that needs no mien."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien import __version__
from mien.errors import UsageError
from mien.export.revealed_faces import MeanFaceOwners, find_owners, select_trained
from mien.faces import EMOTIONS
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.noise_schedule import NoiseSchedule
from mien.generators.diffusion.samplers import Denoiser
from mien.generators.diffusion.unet import NO_LABEL
from mien.generators.kinds import GENERATORS, load_generator
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import KIND_FACTS
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import say
from mien.runs.spec import suggest
from mien.runs.store import Run

FORMATS = ("program", "diffusers")

PROGRAM_FILE = "denoiser.pt2"

EXPORT_FOLDER = Path(__file__).parent


class DenoiserProgram(nn.Module):
    """The denoiser D(x, sigma, labels) -> x0 of a trained generator as one module, on images."""

    mean: Tensor

    def __init__(self, generator: Diffusion) -> None:
        super().__init__()
        self.generator, self.network = generator, generator.network
        self.register_buffer("mean", generator.mean)

    def forward(
        self, x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return the expected clean images of `x` = x0 + sigma * noise, about in [-1, 1]."""
        generator = replace(self.generator, mean=self.mean)
        return get_denoiser(generator, self.network)(x, sigma, labels)


def export(run: Run, out: Path, form: str = "program", allow_face: bool = False) -> Path:
    """Write the generator of a run to the folder `out`, and return the folder.

    The folder appears complete or not at all. Both formats have the denoiser as a program of
    torch.export; `diffusers` adds the noise schedule as a scheduler of diffusers. A message says
    whose mean face is exported with it.

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
    out = require_free(out)

    # The mean face must not be that of one person
    generator = load_generator(run, "cpu")
    assert isinstance(generator, Diffusion)  # as every kind with a denoiser is
    owners = find_owners(select_trained(generator, run))
    _require_several(run, owners, allow_face)
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
    """Return the kinds of generator that can be exported: those with a denoiser."""
    return [name for name, kind in GENERATORS.items() if kind.make_denoiser is not None]


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
    # `len(x)` in the traced code would fix the number of images
    x = torch.zeros(2, *generator.size)
    batch = torch.export.Dim("n", min=1)
    exported = torch.export.export(
        DenoiserProgram(generator).eval(),
        (x, torch.ones(2), torch.full((2,), EMOTIONS.index(generator.classes[0]))),
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
    )

    # Without the paths of the code on this machine, and without a pickle
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)
    exported.example_inputs = None  # they would be pickled
    torch.export.save(exported, path)


def describe(generator: Diffusion, run: Run, folder: Path, form: str) -> dict[str, Any]:
    """Return the content of export.json: classes, noise levels, sampler, licence and provenance."""
    # How to call the denoiser, and how to draw images with it
    schedule, seen = get_noise_schedule(generator), generator.seen
    subjects, clips = (
        int(seen.loc[seen[name] != "", name].nunique()) for name in ("subject", "clip")
    )
    about: dict[str, Any] = {
        "format": form,
        "kind": generator.spec.kind,
        "licence": generator.licence,
        "classes": {name: EMOTIONS.index(name) for name in generator.classes},
        "null_label": NO_LABEL if generator.spec.label_drop > 0 else None,
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
    if form == "diffusers":
        about["scheduler"] = {"class": schedule.scheduler["_class_name"], "steps": schedule.steps}

    # Whose faces it shows, and where it comes from
    about["mean_face"] = (
        find_owners(select_trained(generator, run)).recorded if generator.mean.any() else None
    )
    about["provenance"] = {
        "run": run.name,
        "content": run.content,
        "trained_on": {
            "run": generator.spec.faces,
            "images": len(seen),
            "subjects": subjects,
            "clips": clips,
        },
        "spec": generator.spec.model_dump(mode="json"),
        "mien": __version__,
        "torch": torch.__version__,
    }

    # The files as they were written
    about["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (PROGRAM_FILE, "mean.npy")
    }
    return about


def list_files(about: Mapping[str, Any]) -> dict[str, str]:
    """Return a description of each file of an exported folder."""
    # The files of every folder
    owners = about["mean_face"]
    mean = "zero"
    if owners:
        counts = owners["images"], owners["subjects"], owners["unknown_subjects"]
        mean = f"the mean face of {MeanFaceOwners(*counts).text}"
    files = {
        PROGRAM_FILE: (
            "the denoiser, a program of torch.export: D(x [n, c, h, w], sigma [n], labels [n]) -> "
            "x0"
        ),
        "mean.npy": f"where images start: {mean}",
        "export.json": "classes and their labels, noise levels, licence, provenance",
        "sample.py": "draws images, and needs only torch and numpy",
    }

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
    first, origin = next(iter(about["classes"])), about["provenance"]
    trained = ", ".join(
        f"{origin['trained_on'][name]:,} {name}" for name in ("images", "subjects", "clips")
    )
    drawn_by, default = about["sampler"]["name"], KIND_FACTS[about["kind"]].sampler
    files = "\n".join(f"- `{name}`: {text}" for name, text in list_files(about).items())
    labels = ", ".join(f"{name} {label}" for name, label in about["classes"].items())
    null = about["null_label"]
    free = (
        f"Label {null} means no label, for guidance: D_{null} + w (D_label - D_{null})."
        if null is not None
        else "It was trained only on images with a label, so guidance by label is not possible."
    )
    face = ", and contains the mean face of its training images, as `mean.npy` does"
    face = face if about["mean_face"] else ""

    # The page
    return f"""\
# A generator of facial expressions

Exported by mien {origin["mien"]} from the run {origin["run"]} (kind {about["kind"]}; content
{origin["content"][:12]}). It was trained on {origin["trained_on"]["run"]}: {trained}.

**Licence of its training images: {about["licence"]}.** The licence applies to this folder and to
every image that is drawn with it. The network may have memorised some of its training
images{face}. Its labels name facial expressions, not what a person feels.

{files}

## Use

    python sample.py {first} --count 8

```python
import torch

denoise = torch.export.load("{PROGRAM_FILE}").module()
# float32 [n, {", ".join(map(str, about["size"]))}], float32 [n], int64 [n]; any n
x0 = denoise(x, sigma, labels)
```

Pixels are between -1 (black) and 1 (white); x = x0 + sigma * noise, for sigma from
{about["sigma"]["low"]:.4g} to {about["sigma"]["high"]:.4g}.
The labels are {labels}; there are no others.
{free}

`sample.py` draws with the sampler {drawn_by}; the default of mien itself is {default}.

The program was exported for a CPU. For another device, change the result of `torch.export.load`
before `.module()`: `from torch.export.passes import move_to_device_pass`, then
`move_to_device_pass(program, "cuda")`.

## Before you open it

`torch.export.load` may unpickle parts of a file, and so run code that a stranger put there. This
file was written without any pickle. Its sha256 is in `export.json`, but whoever can change one of
the two files can change the other. Load it only if you trust its source. It was written by torch
{origin["torch"]}; other versions may not be able to read it.
"""


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with one field per line."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
