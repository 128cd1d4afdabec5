"""What each preset costs at each size of the images: images a second of one core, and memory.

    python benchmarks/sizes.py
    python benchmarks/sizes.py --presets nano --sizes 96 --colours grey rgb --seconds 5

Presets are fitted to the size as `mien train` does it. Each is timed in a process of its own, on
noise, with one thread: images per second of processor time in training, so that other work on the
machine counts little, and the growth of the process. A batch has at most --batch images. `imle` is
left out, because its steps differ: some of them match images with draws.
"""

import argparse
import multiprocessing
import time
from importlib import import_module

import numpy as np
import torch

from mien.faces import EMOTIONS, Faces, make_index
from mien.generators import presets
from mien.generators.diffusion import memory
from mien.generators.diffusion.fit import DiffusionTraining
from mien.generators.specs import SteppedSpec, TrainSpec
from mien.runs import devices

MIN_STEPS = 2  # timed steps, at least


def make_faces(size: tuple[int, int, int]) -> Faces:
    """Return noise in the shape of faces of seven emotions."""
    images = np.random.default_rng(0).integers(0, 256, (112, *size), dtype=np.uint8)
    emotions = [EMOTIONS[number % 7] for number in range(len(images))]
    names = [str(number) for number in range(len(images))]
    people = [f"noise:{number % 16}" for number in range(len(images))]
    return Faces(images, make_index(images, key=names, subject=people, emotion=emotions))


def measure(name: str, size: tuple[int, int, int], batch: int, seconds: float) -> None:
    """Print a row of the table: preset, size, weights, images a second, memory."""
    # The training, on a processor of one thread
    torch.set_num_threads(1)
    spec, cpu = presets.read_preset(name, "faces-000000000000", None, size), torch.device("cpu")
    assert isinstance(spec, SteppedSpec)
    spec = spec.model_copy(update={"batch": min(spec.batch, batch)})
    kind, before = import_module(f"mien.generators.{spec.kind}"), memory.read_peak_rss()
    if isinstance(spec, TrainSpec):
        spec = spec.model_copy(update={"precision": "float32"})
        training = DiffusionTraining(make_faces(size), spec, kind.make_objective(spec), cpu)
        networks = [training.network]
    else:
        training = kind.make_training(make_faces(size), spec, cpu)
        networks = list(training.networks.values())

    # Its steps, after one that is not counted
    with devices.open_workers(cpu, 1) as pool:
        training.make_step(0, pool)
        began, steps = time.process_time(), 0
        while steps < MIN_STEPS or time.process_time() - began < seconds:
            steps += 1
            training.make_step(steps, pool)
        speed = steps * spec.batch / (time.process_time() - began)
    grown = memory.read_peak_rss() - before
    weights = sum(p.numel() for network in networks for p in network.parameters())
    shape = f"{size[1]} {'rgb' if size[0] == 3 else 'grey'}"
    print(f"| {name} | {shape} | {weights / 1e6:.2f} M | {speed:.3g} | {grown / 1e9:.2f} GB |")


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description="Measure presets at several sizes.")
    options.add_argument("--presets", nargs="+", default=["nano", "tiny", "base", "vae", "gan"])
    options.add_argument("--sizes", nargs="+", type=int, default=[48, 64, 96, 128])
    options.add_argument("--colours", nargs="+", default=["grey"], choices=["grey", "rgb"])
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--seconds", type=float, default=2.0, help="of processor time")
    given = options.parse_args()

    print("| preset | images | weights | images a second and core | memory |")
    print("| --- | --- | --: | --: | --: |", flush=True)
    for name in given.presets:
        for side in given.sizes:
            for colour in given.colours:
                size = (3 if colour == "rgb" else 1, side, side)
                arguments = (name, size, given.batch, given.seconds)
                process = multiprocessing.get_context("fork").Process(
                    target=measure, args=arguments
                )
                process.start()
                process.join()


if __name__ == "__main__":
    main()
