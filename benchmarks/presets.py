"""What each preset costs: parameters, arithmetic, memory, and images a second in training and in
drawing.

    python benchmarks/presets.py
    python benchmarks/presets.py --presets base large --device cuda --steps 20 --batch 0

Each preset runs in a fresh process, on grey noise of 48x48; speed does not depend on what images
show:

    parameters  numbers that the network learns
    MACs        multiplications of one call of the network for one image, as torch counts them
    memory      the peak of one training step: on a GPU what torch allocates, else process growth
    training    images a second, over --steps steps after a first one that is not counted
    drawing     images per second at 16 steps of the default sampler, from --calls steps of it
    15,464      the time in which that draws the preprint's Table 2
    share       arithmetic of training per second, over that of a large bf16 matrix product here

--batch cuts the training batch, so that a processor gets through the large ones; 0 leaves it as the
preset has it. On a machine without a card the last column is empty, and what a card would be asked
is printed below the table.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mien.faces import EMOTIONS, Faces, make_index
from mien.generators import edm, presets
from mien.generators.base import describe_origins, make_empty_losses
from mien.generators.diffusion import heldout, memory, precision
from mien.generators.diffusion.draw import SAMPLING_BATCH
from mien.generators.diffusion.fit import DiffusionTraining
from mien.generators.diffusion.model import Diffusion, count_parameters, prepare_for_inference
from mien.generators.diffusion.transforms import MOVES
from mien.generators.diffusion.unet import UNet
from mien.generators.kinds import GENERATORS
from mien.generators.specs import SamplerSpec, TrainSpec
from mien.runs import devices

SIDE, IMAGES, STEPS = 48, 1024, 16
WANTED = 15_464  # the preprint's Table 2
PRESETS = ("nano", "tiny", "base", "large")
# a step of training is three calls of arithmetic: forward, and backward to inputs and to weights
BACKWARD = 3
MATRIX = 8192


def faces(count: int = IMAGES) -> Faces:
    """Return grey noise in the shape of faces, of 26 people."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)
    index = make_index(
        images,
        key=[str(number) for number in range(count)],
        subject=[f"noise:{number % 26}" for number in range(count)],
        emotion=[EMOTIONS[number % 7] for number in range(count)],
        licence="CC0",
    )
    return Faces(images, index)


def spec_of(name: str, batch: int, device: str) -> TrainSpec:
    """Return the training of a preset as this device does it, with at most `batch` images a step
    unless that is 0.
    """
    spec = precision.suit_device(presets.read_preset(name, "faces-000000000000"), device)
    if not isinstance(spec, TrainSpec):
        sys.exit(f"{name} does not learn in steps")
    return spec.model_copy(update={"batch": min(spec.batch, batch or spec.batch)})


def macs(spec: TrainSpec) -> int:
    """Return the multiplications of one call of the network for one image."""
    network = prepare_for_inference(UNet(1, spec.net))
    told = torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.zeros(1, len(MOVES))
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, SIDE, SIDE), *told)
    return counter.get_total_flops() // 2


def matrix_rate(where: torch.device) -> float:
    """Return the floating-point operations a second of a large bf16 matrix product on a card."""
    one, two = (torch.randn(MATRIX, MATRIX, device=where, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.monotonic()
        for _ in range(10):
            torch.matmul(one, two)
        torch.cuda.synchronize()
        best = max(best, 10 * 2 * MATRIX**3 / (time.monotonic() - began))
    return best


def wait(where: torch.device) -> None:
    """Return when the device has done all that it was asked."""
    if where.type == "cuda":
        torch.cuda.synchronize()


def grown(where: torch.device, before: int) -> int:
    """Return the most bytes that were held at once, above `before`."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return memory.read_peak_rss() - before


def measure(name: str, batch: int, steps: int, calls: int, device: str) -> dict[str, Any]:
    """Return the figures of one preset; for a process of its own, since memory is the most that it
    ever held.
    """
    where, shown, spec = devices.find_device(device), faces(), spec_of(name, batch, device)
    objective = edm.make_objective(spec)
    before = memory.read_peak_rss()
    work = DiffusionTraining(shown, spec, objective, where)
    with devices.open_workers(where, work.piece_count) as pool:
        work.make_step(0, pool)
        wait(where)
        most = grown(where, before)
        began = time.monotonic()
        for step in range(1, steps + 1):
            work.make_step(step, pool)
        wait(where)
        learnt = steps * spec.batch / (time.monotonic() - began)
    generator = Diffusion(
        spec=spec,
        network=prepare_for_inference(work.network),
        early=None,
        sigma_data=work.sigma_data,
        mean=work.mean,
        offsets=work.offsets,
        levels=heldout.make_empty_table(),
        chosen=heldout.ChosenWeights(1, spec.ema, None),
        losses=make_empty_losses(),
        run="",
        **describe_origins(shown),
    )
    count = SAMPLING_BATCH[where.type] * (torch.get_num_threads() if where.type == "cpu" else 1)
    labels, numbers = np.zeros(count, dtype=np.int64), np.arange(count)
    how = SamplerSpec(sampler="dpmpp2m", steps=calls)
    times = []
    for _ in range(2):  # the first prepares
        began = time.monotonic()
        GENERATORS[spec.kind].sample(generator, labels, numbers, how)
        times.append(time.monotonic() - began)
    found: dict[str, Any] = {
        "preset": name,
        "parameters": count_parameters(generator),
        "macs": macs(spec),
        "batch": spec.batch,
        "memory": most,
        "training": learnt,
        "drawing": count / (times[-1] * STEPS / calls),
    }
    if where.type == "cuda":
        found["share"] = learnt * found["macs"] * 2 * BACKWARD / matrix_rate(where)
    return found


def row(found: dict[str, Any]) -> str:
    """Return a row of the table."""
    share = f"{found['share']:.0%}" if "share" in found else ""
    cells = [
        found["preset"],
        f"{found['parameters'] / 1e6:.2f} M",
        f"{found['macs'] / 1e9:.2f} G",
        f"{found['batch']}",
        f"{found['memory'] / 1e9:.2f} GB",
        f"{found['training']:.1f}",
        f"{found['drawing']:.2f}",
        f"{WANTED / found['drawing']:,.0f} s",
        share,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a row a preset."""
    parser = argparse.ArgumentParser(description="What each preset costs.")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--batch", type=int, default=None, help="images a step at most; 0: as the preset has it"
    )
    parser.add_argument("--steps", type=int, default=2, help="steps of training that are timed")
    parser.add_argument("--calls", type=int, default=2, help="steps of the sampler that are timed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    where = devices.find_device(given.device)
    batch = given.batch if given.batch is not None else (0 if where.type == "cuda" else 32)
    if given.one:
        print(json.dumps(measure(given.one, batch, given.steps, given.calls, given.device)))
        return
    card = (
        torch.cuda.get_device_name()
        if where.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    print(
        f"torch {torch.__version__}, {where.type}, {card}; {given.steps} training steps, "
        f"{given.calls} drawing steps"
    )
    print(
        "| preset | parameters | MACs | batch | memory | training, images/s | drawing, images/s | "
        "15,464 | share |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |", flush=True)
    for name in given.presets:
        command = [sys.executable, str(Path(__file__)), "--one", name, "--device", given.device]
        command += ["--batch", str(batch), "--steps", str(given.steps), "--calls", str(given.calls)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(row(json.loads(done.stdout.splitlines()[-1])), flush=True)
    if where.type != "cuda":
        print(
            "no card here. On one, `--device cuda --steps 20` would measure whole batches of each "
            "preset: the memory"
        )
        print(
            "that torch allocates in a step, images a second, and their share of the rate of an "
            "8192x8192 bf16 product"
        )


if __name__ == "__main__":
    main()
