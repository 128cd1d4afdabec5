"""A trained generator in one pass: saved, loaded and applied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64, UInt8

from mien.faces import EMOTIONS
from mien.generators import scaling
from mien.generators.base import Generator, read_generator, write_generator
from mien.generators.diffusion.draw import SAMPLING_BATCH, NoiseStreams
from mien.generators.one_pass.decoder import Generating
from mien.generators.specs import OnePassSpec, SamplerSpec
from mien.runs import checkpoints, devices, progress
from mien.runs.store import Run

MakeNetwork = Callable[[Any, tuple[int, int, int]], Generating]
"""From a spec and the size of the images (c, h, w) to a network with any weights."""


@dataclass(frozen=True)
class OnePass(Generator):
    """A trained generator that makes an image in one pass.

    `network` makes images of unit noise and labels. `facts` says what the training found, as JSON,
    and `tables` has its tables.
    """

    spec: OnePassSpec
    network: Generating
    facts: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device


def sample_one_pass(
    generator: OnePass,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed.

    All noise of an image comes from its own seed, so the image is bit for bit the same whatever
    other images are drawn with it. Raises UsageError for a class that the generator was not trained
    on.
    """
    generator.require_known(labels)

    # Batches of a fixed size, the last one padded
    torch_device, size = generator.device, SAMPLING_BATCH[generator.device.type]
    padded = np.full(
        -(-len(labels) // size) * size, EMOTIONS.index(generator.classes[0]), dtype=np.int64
    )
    padded[: len(labels)] = labels

    def draw_batch(first: int) -> UInt8[np.ndarray, "n c h w"]:
        shape = (generator.network.noise_size,)
        streams = NoiseStreams(seeds[first : first + size], size, shape, torch_device)
        conditions = torch.from_numpy(padded[first : first + size]).to(torch_device)
        with torch.inference_mode():
            return scaling.scale_to_bytes(generator.network(streams.draw(), conditions))

    firsts = range(0, len(labels), size)
    with devices.open_workers(torch_device, len(firsts)) as pool:
        batches = list(pool.map(draw_batch, firsts))
    empty = np.empty((0, *generator.size), dtype=np.uint8)
    return np.concatenate([empty, *batches])[: len(labels)]


def save_one_pass(generator: OnePass, out: Path) -> None:
    """Write a generator: its weights, its facts and tables, its training images and its losses."""
    checkpoints.save_weights(out / "generator.safetensors", generator.network.state_dict())
    fields = {"parameters": count_weights(generator), "facts": dict(generator.facts)}
    write_generator(generator, out, {**fields, "tables": sorted(generator.tables)})
    for name, table in generator.tables.items():
        table.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")


def load_one_pass(
    run: Run, spec: OnePassSpec, make_network: MakeNetwork, device: str = "auto"
) -> OnePass:
    """Return the generator of a run, on `device`."""
    torch_device = devices.find_device(device)
    fields, about = read_generator(run)
    network = make_network(spec, fields["size"])
    checkpoints.load_weights(run.find_file("generator.safetensors"), network)
    return OnePass(
        spec=spec,
        network=network.to(torch_device).eval().requires_grad_(False),
        facts=about["facts"],
        tables={name: pd.read_csv(run.find_file(f"{name}.csv")) for name in about["tables"]},
        **fields,
    )


def count_weights(generator: OnePass) -> int:
    """Return the number of parameters of the network that draws."""
    return sum(parameter.numel() for parameter in generator.network.parameters())


def summarise_one_pass(generator: OnePass, found: str) -> str:
    """Return a one-line summary of a trained generator; `found` says what is special to it."""
    size, images_seen = count_weights(generator), generator.spec.updates * generator.spec.batch
    text = (
        f"{generator.spec.kind}, {size / 1e6:.2f} million parameters, "
        f"{progress.quantify(images_seen, 'image')} seen"
    )
    if len(generator.losses):
        text += f", loss {generator.losses['loss'].iloc[-1]:.4f}"
    return f"{text}, {found}" if found else text
