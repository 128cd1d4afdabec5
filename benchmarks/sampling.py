"""What samplers cost and what they are worth: the same trained weights under ours and under
diffusers' schedulers.

    python benchmarks/quality.py bench --seconds 1050 --sides edm ddpm
    python benchmarks/sampling.py bench --seconds 1050

Three tables, on the generators that benchmarks/quality.py has trained in the same folder:

    the same weights, other samplers    figures, mean ± sd over seeds, processor seconds per image
    the cost of a bar of quality        the cheapest sampler as good as 1000 steps, in seed noise
    the same steps, other loops         time of a loop over its network calls, and over diffusers'

What was drawn is kept in the folder, and is not drawn again. Both sides of each ratio run in turn
in one process on one core, without drawing or saving of images.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import Bench, Clock, as_faces, figures, prepare, wanted
from quality import _spec
from torch import Tensor

from mien import seeds
from mien.generators import ddpm, edm, scaling
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.samplers import SOLVERS, bind, make_karras_levels
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.specs import SamplerSpec
from mien.generators.train import train_generator

BATCH = 8
REFERENCE = "mien ancestral, the reference"
OURS = (
    ("dpmpp2m", 5),
    ("dpmpp2m", 8),
    ("dpmpp2m", 10),
    ("dpmpp2m", 16),
    ("dpmpp2m", 20),
    ("dpmpp2m", 35),
    ("unipc", 5),
    ("unipc", 8),
    ("unipc", 10),
    ("unipc", 16),
    ("heun", 18),
    ("euler", 50),
)
THEIRS = {
    "ddpm": (
        ("DDIMScheduler", 50),
        ("DPMSolverMultistepScheduler", 10),
        ("DPMSolverMultistepScheduler", 20),
    ),
    "edm": (("EDMDPMSolverMultistepScheduler", 10), ("EDMDPMSolverMultistepScheduler", 20)),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What samplers cost and what they are worth.")
    parser.add_argument("folder", type=Path, help="that of benchmarks/quality.py")
    parser.add_argument(
        "--seconds", type=float, default=1050.0, help="of training, as it was given there"
    )
    parser.add_argument("--images", type=int, default=210)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["edm", "ddpm"], choices=["edm", "ddpm"])
    parser.add_argument(
        "--long", type=int, default=1000, help="steps of the reference; 0 leaves it out"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    bench = prepare(given.folder)
    print(
        f"{given.images} images a seed, {given.seeds} seeds (1 for the reference), torch "
        f"{torch.__version__}"
    )
    for kind in given.kinds:
        generator = load_generator(
            train_generator(_spec(kind, bench, given.seconds, 0), bench.store), "cpu"
        )
        assert isinstance(generator, Diffusion)
        kept = given.folder / f"sampling-{kind}-{given.seconds:g}s-{given.images}.json"
        _worth(bench, generator, kept, given.images, given.seeds, given.long)
        _loops(bench, generator)


def _worth(
    bench: Bench, generator: Diffusion, kept: Path, count: int, repeats: int, long: int
) -> None:
    """Print what each sampler reaches with the same weights, and what the quality of the slowest
    costs.
    """
    kind = generator.spec.kind
    print(
        f"\n{kind}\n\n| sampler | steps | calls | CPU s an image | FD unseen | FD train | "
        "agreement |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: |", flush=True)
    labels = wanted(bench.train.classes, count)
    rows: list[tuple[str, int, int, Callable[[int], np.ndarray]]] = [
        (
            f"mien {name}",
            steps,
            steps * (2 if name == "heun" else 1) - (name == "heun"),
            partial(
                _ours,
                generator,
                labels,
                SamplerSpec.model_validate({"sampler": name, "steps": steps}),
            ),
        )
        for name, steps in OURS
    ]
    rows += [
        (f"diffusers {name}", steps, steps, partial(_theirs, generator, labels, name, steps))
        for name, steps in THEIRS[kind]
    ]
    if long:
        how = SamplerSpec(sampler="ancestral", steps=long)
        rows.append((REFERENCE, long, long, partial(_ours, generator, labels, how)))
    done: dict[str, dict[str, list[float]]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, steps, calls, draw in rows:
        found = done.setdefault(
            f"{name} {steps}", {"seconds": [], "fd_test": [], "fd_train": [], "agreement": []}
        )
        for seed in range(len(found["seconds"]), 1 if name == REFERENCE else repeats):
            clock = Clock()
            images = draw(seed)
            found["seconds"].append(clock.seconds / count)
            for key, value in figures(bench, as_faces(images, labels)).items():
                if key in found:
                    found[key].append(value)
            kept.write_text(json.dumps(done))
        numbers = " | ".join(_spread(found[key]) for key in ("fd_test", "fd_train", "agreement"))
        print(
            f"| {name} | {steps} | {calls} | {statistics.mean(found['seconds']):.3f} | {numbers} |",
            flush=True,
        )
    if long:
        _bar(done, f"{REFERENCE} {long}")


def _bar(done: dict[str, dict[str, list[float]]], reference: str) -> None:
    """Print the cheapest way of ours to the distance of the reference, give or take two deviations
    over seeds.
    """
    noise = statistics.median(
        statistics.stdev(one["fd_test"]) for one in done.values() if len(one["fd_test"]) > 1
    )
    bar = done[reference]["fd_test"][0] + 2 * noise
    cost = {name: statistics.mean(one["seconds"]) for name, one in done.items()}
    good = [
        name
        for name, one in done.items()
        if statistics.mean(one["fd_test"]) <= bar and name.startswith("mien")
    ]
    best = min(good, key=lambda name: cost[name])
    print(
        f"\nno farther than {reference} plus two deviations ({bar:.2f}): {best} is the cheapest, "
        f"{cost[reference] / cost[best]:.0f} times cheaper",
        flush=True,
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}" + (
        f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    )


def _ours(generator: Diffusion, labels: np.ndarray, how: SamplerSpec, seed: int) -> np.ndarray:
    numbers = np.array(
        [seeds.derive_seed("benchmark", seed, place) for place in range(len(labels))],
        dtype=np.int64,
    )
    return sample_generator(generator, labels, numbers, sampler=how)


def _theirs(
    generator: Diffusion, labels: np.ndarray, name: str, steps: int, seed: int
) -> np.ndarray:
    """Draw with a scheduler of diffusers, clipped where it can be, as ours are."""
    torch.manual_seed(seed)
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(labels).split(BATCH):
            noise = torch.randn(len(part), *generator.size)
            parts.append(scaling.scale_to_bytes(_their_loop(generator, name, steps)(noise, part)))
    return np.concatenate(parts)


def _their_loop(generator: Diffusion, name: str, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return diffusers' way from noise to images, on our network."""
    import diffusers

    spec, still = generator.spec, torch.zeros(BATCH, generator.network.embed.moves.in_features)  # pyright: ignore
    if spec.kind == "edm":
        kept: Any = getattr(diffusers, name)(
            sigma_min=edm.SIGMA_LOW,
            sigma_max=edm.SIGMA_HIGH,
            sigma_data=generator.sigma_data,
            prediction_type="epsilon",
        )

        def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return generator.network(x, t.expand(len(x)), labels, still[: len(x)])
    else:
        clip = {"clip_sample": True} if name == "DDIMScheduler" else {}
        kept = getattr(diffusers, name)(
            num_train_timesteps=spec.steps,
            beta_start=spec.beta_first,
            beta_end=spec.beta_last,
            beta_schedule="linear",
            **clip,
        )
        schedule = ddpm.make_linear_schedule(spec.steps, spec.beta_first, spec.beta_last)

        def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return generator.network(
                x, ddpm.scale_time(schedule, t.float() + 1).expand(len(x)), labels, still[: len(x)]
            )

    def loop(noise: Tensor, labels: Tensor) -> Tensor:
        kept.set_timesteps(steps)
        x = noise * kept.init_noise_sigma
        for t in kept.timesteps:
            x = kept.step(network(kept.scale_model_input(x, t), t, labels), t, x).prev_sample
        return x + generator.find_centres(labels)

    return loop


def _loops(bench: Bench, generator: Diffusion, steps: int = 20, repeats: int = 7) -> None:
    """Print how long a loop takes beside its network calls alone, and beside diffusers' loop."""
    labels = torch.from_numpy(wanted(bench.train.classes, BATCH))
    noise = torch.randn(BATCH, *generator.size)
    kind = edm if generator.spec.kind == "edm" else ddpm
    levels = make_karras_levels(steps, edm.SIGMA_LOW, edm.SIGMA_HIGH)
    denoise = kind.make_denoiser(generator, generator.network)
    still = torch.zeros(BATCH, generator.network.embed.moves.in_features)  # pyright: ignore
    told = torch.zeros(BATCH)
    name = THEIRS[generator.spec.kind][-1][0]
    sides: dict[str, Callable[[], object]] = {
        "bare": lambda: [generator.network(noise, told, labels, still) for _ in range(steps)],
        "mien": lambda: SOLVERS["dpmpp2m"](
            partial(bind, denoise, labels), levels[0] * noise, levels
        ),
        "theirs": lambda: _their_loop(generator, name, steps)(noise, labels),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for side, work in sides.items():
                clock = Clock()
                work()
                if turn:
                    taken[side].append(clock.seconds)
    ratios = {
        side: statistics.median(_ratios(taken["mien"], taken[side])) for side in ("bare", "theirs")
    }
    print(
        f"\nloop of {steps} steps over its network calls alone: {ratios['bare']:.3f}; over "
        f"diffusers' {name} on the same network: {ratios['theirs']:.3f} (medians of {repeats} "
        "turns)",
        flush=True,
    )


def _ratios(ours: list[float], theirs: list[float]) -> Iterator[float]:
    return (a / b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
