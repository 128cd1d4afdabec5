"""A trained diffusion model: its networks, saved and loaded."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.generators.base import Generator, read_generator, write_generator
from mien.generators.diffusion import heldout
from mien.generators.diffusion.centre import make_zero_offsets
from mien.generators.diffusion.heldout import ChosenWeights
from mien.generators.diffusion.unet import UNet
from mien.generators.specs import TrainSpec
from mien.generators.units import KnownUnits, read_units
from mien.runs import checkpoints, devices, progress
from mien.runs.store import Run

EARLY_WEIGHTS, OFFSETS = "early.safetensors", "offsets.npy"


@dataclass(frozen=True)
class Diffusion(Generator):
    """A trained diffusion model.

    `network` has the averaged weights, `early` those of an early step of the training, or None.
    `mean` is what is subtracted from every image (the mean face, or zero), `offsets` what is
    subtracted for each label as well, and `sigma_data` is the standard deviation of the difference.
    `levels` has the loss at each noise level during training
    (see `heldout.LEVEL_COLUMNS`), and `chosen` the step and the width of the average of the
    weights. `units` are the action units that condition the network, or None.
    """

    spec: TrainSpec
    network: nn.Module
    early: nn.Module | None
    sigma_data: float
    mean: Tensor
    offsets: Tensor
    levels: pd.DataFrame
    chosen: ChosenWeights
    units: KnownUnits | None = field(default=None, kw_only=True)

    def find_centres(self, labels: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Return what the network learnt the difference from, for each label."""
        return self.mean + self.offsets[labels]

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device


def prepare_for_inference(network: nn.Module) -> nn.Module:
    """Return `network` in evaluation mode: without dropout and gradients."""
    return network.eval().requires_grad_(False)


# Files


def save_diffusion(generator: Diffusion, out: Path) -> None:
    """Write a generator: its weights, its statistics, its training images and its losses."""
    checkpoints.save_weights(out / "generator.safetensors", generator.network.state_dict())
    if generator.early is not None:
        checkpoints.save_weights(out / EARLY_WEIGHTS, generator.early.state_dict())
    fields = {
        "sigma_data": generator.sigma_data,
        "parameters": count_parameters(generator),
        "chosen": asdict(generator.chosen),
        **describe_units(generator),
    }
    write_generator(generator, out, fields)
    save_centres(generator, out)
    if len(generator.levels):
        generator.levels.to_csv(out / "levels.csv", index=False, lineterminator="\n")
        (out / "levels.svg").write_text(
            heldout.draw_chart(generator.levels, generator.chosen), encoding="utf-8"
        )


def describe_units(generator: Diffusion) -> dict[str, Any]:
    """Return the entry of generator.json on action units; none if it takes no units."""
    return {} if generator.units is None else {"units": asdict(generator.units)}


def count_parameters(generator: Diffusion) -> int:
    """Return the number of parameters of the network."""
    return sum(parameter.numel() for parameter in generator.network.parameters())


def summarise(generator: Diffusion) -> str:
    """Return a one-line summary of a trained generator."""
    size, images_seen = count_parameters(generator), generator.spec.updates * generator.spec.batch
    text = (
        f"{generator.spec.kind}, {size / 1e6:.2f} million parameters, "
        f"{progress.quantify(images_seen, 'image')} seen"
    )
    text += f", loss {generator.losses['loss'].iloc[-1]:.4f}"
    return text + (
        f", {generator.chosen.describe(generator.spec)}" if len(generator.levels) else ""
    )


def load_diffusion(run: Run, spec: TrainSpec, device: str = "auto") -> Diffusion:
    """Return the generator of a run, on `device`."""
    torch_device = devices.find_device(device)
    fields, about = read_generator(run)
    files, units = run.manifest["files"], read_units(about)

    def load_network(name: str) -> nn.Module:
        unet = UNet(about["size"][0], spec.net, units=units.width if units else 0)
        checkpoints.load_weights(run.find_file(name), unet)
        return prepare_for_inference(unet.to(torch_device))

    mean, offsets = load_centres(run, torch_device)
    return Diffusion(
        spec=spec,
        network=load_network("generator.safetensors"),
        early=load_network(EARLY_WEIGHTS) if EARLY_WEIGHTS in files else None,
        sigma_data=about["sigma_data"],
        mean=mean,
        offsets=offsets,
        levels=pd.read_csv(run.find_file("levels.csv"))
        if "levels.csv" in files
        else heldout.make_empty_table(),
        chosen=ChosenWeights(**about["chosen"]),
        units=units,
        **fields,
    )


def save_centres(generator: Diffusion, out: Path) -> None:
    """Write the mean face, and the offsets of the classes if there are any."""
    np.save(out / "mean.npy", generator.mean.cpu().numpy(), allow_pickle=False)
    if generator.offsets.any():
        np.save(out / OFFSETS, generator.offsets.cpu().numpy(), allow_pickle=False)


def load_centres(run: Run, torch_device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mean face and the offsets that `save_centres` wrote."""

    def load_array(name: str) -> Tensor:
        return torch.from_numpy(np.load(run.find_file(name), allow_pickle=False)).to(torch_device)

    mean = load_array("mean.npy")
    has_offsets = OFFSETS in run.manifest["files"]
    return mean, load_array(OFFSETS) if has_offsets else make_zero_offsets(mean)
