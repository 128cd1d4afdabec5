"""What generators are worth at equal cost: distances, agreement, copies, and what classifiers learn
from their images.

    python benchmarks/quality.py bench --seconds 1050
    python benchmarks/quality.py bench --seconds 1050 --sides edm gaussian copycat
    python benchmarks/quality.py bench --seconds 200 --families --seeds 0 1 2
    python benchmarks/quality.py bench --families --stored STORE TRAIN TEST

Each side learns from the same drawn people for the same processor seconds of one core (floors learn
in one go), draws as many images of each emotion, and is judged by a classifier that was trained on
those people, and by how well another, trained on its images alone, does on people whom nobody has
seen.

    edm        the preset nano, cut to the time
    edm-g2     the same, with guidance 2 by the label
    edm-auto   the same, with guidance 2 by an early moment of its training
    ddpm       the preprint's equations on the same network, clipped, `--ancestral` steps
    diffusers  UNet2DModel with the recipe of diffusers' own example (AdamW, cosine, EMA), drawn by
               DPM-Solver++ with 20 steps
    diffusers-fast    the same at ten times its learning rate, which suits so short a training
    gaussian, copycat    floors
    edm-x10    the same as edm, ten times as many images
    real       as many images of the people that all learn from
    real-all   all images of those people

With `--families` the sides are every kind of generator and diffusers' recipe, each with its own
preset (and ddpm with the network of nano), and `families.png` shows some images of each. `--seeds`
are seeds of generators: numbers are then means, with the deviation of each.

What was finished lies in the folder, and is not done again.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from bench import (
    Bench,
    Clock,
    as_faces,
    count_copies,
    figures,
    prepare,
    prepare_stored,
    score,
    some,
    wanted,
)
from PIL import Image

from mien import seeds
from mien.classifiers.networks import load_timm
from mien.faces import EMOTIONS, Faces
from mien.generators import presets, scaling
from mien.generators.diffusion.fit import DiffusionTraining
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.specs import (
    KIND_FACTS,
    GeneratorSpec,
    OnePassSpec,
    SamplerSpec,
    SteppedSpec,
    TrainSpec,
)
from mien.generators.train import train_generator
from mien.runs import devices

# A student needs a trained teacher, and a generator of movement draws clips
_OTHERS = ("student", "motion")
FAMILIES = ("real", *(kind for kind in KIND_FACTS if kind not in _OTHERS), "diffusers-fast")
OWN_SIDES = (
    "real",
    "real-all",
    "edm",
    "edm-x10",
    "edm-g2",
    "edm-auto",
    "ddpm",
    "diffusers",
    "diffusers-fast",
    "gaussian",
    "copycat",
)
SIDES = tuple(dict.fromkeys([*OWN_SIDES, *FAMILIES]))
GUIDED: dict[str, dict[str, Any]] = {
    "edm": {},
    "edm-x10": {},
    "edm-g2": {"guidance": 2.0},
    "edm-auto": {"guidance": 2.0, "guide": "early"},
}
UPDATES = 1000  # of every classifier, however many images it learns from
WIDTHS = (32, 64, 64)  # of diffusers' network: 1.2 million weights, about those of nano


def main() -> None:
    """Print a row a side."""
    parser = argparse.ArgumentParser(description="What generators are worth at equal cost.")
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument(
        "--seconds", type=float, default=1050.0, help="processor seconds of training a side"
    )
    parser.add_argument("--images", type=int, default=700)
    parser.add_argument(
        "--ancestral", type=int, default=1000, help="steps of the ddpm's reverse chain"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the generators")
    parser.add_argument("--scores", type=int, default=3, help="classifiers trained on each side")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=list(OWN_SIDES), choices=SIDES)
    parser.add_argument("--families", action="store_true", help="all kinds of generator")
    parser.add_argument(
        "--stored",
        nargs=3,
        metavar=("STORE", "TRAIN", "TEST"),
        help="two sets of grey faces of 48x48 with different people, instead of drawn people",
    )
    given = parser.parse_args()
    if given.families:
        given.sides = list(FAMILIES)
    bench = _prepare(given.folder, given.stored)
    print(
        f"{len(bench.train):,} images of {len(bench.train.subjects)} people to learn from, "
        f"{len(bench.test):,} of {len(bench.test.subjects)} others; {given.seconds:g} processor "
        f"seconds a side, {given.images} images, seeds {given.seeds}, torch {torch.__version__}",
        flush=True,
    )
    floor = (
        figures(bench, some(bench.train, given.images, 1)),
        figures(bench, some(bench.test, given.images, 1)),
    )
    print(
        f"real people that all learn from: {_text(floor[0])}\nheld-out people:                 "
        f"{_text(floor[1])}"
    )
    print(
        "| side | images learnt | s an image | FD unseen | FD train | precision | recall | "
        "agreement | copies | copies by the audit | CAS |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |", flush=True)
    how = (given.folder, given.seconds, given.images, given.ancestral, given.scores)
    jobs = [(side, *how, seed) for side in given.sides for seed in given.seeds]
    measure = partial(_measure, given.stored)
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        results = pool.map(measure, jobs)
        for side in given.sides:
            print(_row(side, [next(results) for _ in given.seeds]), flush=True)
    if given.families:
        _draw_families(given.folder, [_name(*job) for job in jobs if job[-1] == given.seeds[0]])


def _prepare(folder: Path, stored: list[str] | None) -> Bench:
    """Return the drawn people of a benchmark, or the two stored sets that take their place."""
    if stored is None:
        return prepare(folder)
    store, train, test = stored
    return prepare_stored(folder, Path(store), train, test)


def _text(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in found.items())


def _name(
    side: str, folder: Path, seconds: float, count: int, ancestral: int, scores: int, seed: int
) -> Path:
    """Return the path of what is kept of a side, without its suffix."""
    return folder / f"{side}-{seconds:g}s-{count}-{ancestral}-{seed}"


def _measure(
    stored: list[str] | None, job: tuple[str, Path, float, int, int, int, int]
) -> dict[str, Any]:
    """Return the numbers of a side, which are kept in the folder with the first of its images."""
    side, folder, seconds, count, ancestral, scores, seed = job
    torch.set_num_threads(1)
    kept = _name(*job).with_name(f"{_name(*job).name}.json")
    found = json.loads(kept.read_text()) if kept.exists() else {}
    if len(found.get("cas", ())) < scores or "audited" not in found:
        bench = _prepare(folder, stored)
        made, learnt, cost = _made(side, bench, folder, seconds, count, ancestral, seed)
        _draw(made).save(kept.with_suffix(".png"))
        cas = score(bench, made, UPDATES, scores)
        audited = count_copies(bench, made)
        found = {"learnt": learnt, "cost": cost, "cas": cas, "audited": audited}
        found |= figures(bench, made)
        kept.write_text(json.dumps(found))
    return found


def _row(side: str, of_seeds: list[dict[str, Any]]) -> str:
    """Return a row of the table: means over seeds of the generator, with their deviations."""

    def join(name: str, digits: int = 2) -> str:
        values = [found[name] for found in of_seeds]
        text = f"{statistics.mean(values):.{digits}f}"
        return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"

    cas = [100 * value for found in of_seeds for value in found["cas"]]
    spread = f" ± {statistics.stdev(cas):.1f}" if len(cas) > 1 else ""
    names = ("fd_test", "fd_train", "precision", "recall", "agreement")
    learnt = round(statistics.mean(found["learnt"] for found in of_seeds))
    cells = [
        side,
        f"{learnt:,}",
        join("cost", 4),
        *(join(name) for name in names),
        join("copies", 3),
        join("audited", 3),
        f"{statistics.mean(cas):.1f}{spread} ({len(cas)})",
    ]
    return f"| {' | '.join(cells)} |"


def _draw(made: Faces, each: int = 4) -> Image.Image:
    """Return the first images of each class, in a row for each."""
    emotions = made.index["emotion"].to_numpy()
    rows = [
        np.concatenate(list(made.images[np.flatnonzero(emotions == name)[:each], 0]), axis=1)
        for name in made.classes
    ]
    return Image.fromarray(np.concatenate(rows))


def _draw_families(folder: Path, names: list[Path]) -> None:
    """Write families.png: the images of each side next to each other, in the order of the table."""
    sheets = [np.asarray(Image.open(f"{name}.png")) for name in names]
    gap = np.full((sheets[0].shape[0], 6), 255, np.uint8)
    parts = [part for sheet in sheets for part in (sheet, gap)][:-1]
    Image.fromarray(np.concatenate(parts, axis=1)).save(folder / "families.png")


def _made(
    side: str, bench: Bench, folder: Path, seconds: float, count: int, ancestral: int, seed: int
) -> tuple[Faces, int, float]:
    """Return the images of a side, how many it has learnt from, and the processor seconds that an
    image took.
    """
    if side.startswith("real"):
        return (
            bench.train if side == "real-all" else some(bench.train, count, seed),
            len(bench.train),
            0.0,
        )
    count *= 10 if side == "edm-x10" else 1
    labels = wanted(bench.train.classes, count)
    numbers = np.array(
        [seeds.derive_seed("benchmark", seed, place) for place in range(count)], dtype=np.int64
    )
    if side.startswith("diffusers"):
        return _diffusers(bench, folder / f"{side}-{seconds:g}s-{seed}.pt", seconds, labels, seed)
    spec = _spec(side, bench, seconds, seed)
    generator = load_generator(train_generator(spec, bench.store, device="cpu"), "cpu")
    how = None
    if side in GUIDED:
        how = SamplerSpec.model_validate({"sampler": "dpmpp2m", **GUIDED[side]})
    elif side == "ddpm":
        how = SamplerSpec(sampler="ancestral", steps=ancestral)
    clock = Clock()
    images = sample_generator(generator, labels, numbers, sampler=how)
    learnt = spec.updates * spec.batch if isinstance(spec, SteppedSpec) else len(bench.train)
    return as_faces(images, labels), learnt, clock.seconds / count


def _spec(side: str, bench: Bench, seconds: float, seed: int) -> GeneratorSpec:
    """Return a training of the wanted length: its speed is measured first, in processor seconds of
    one core.
    """
    changes: dict[str, Any] = {"seed": seed}
    if side in KIND_FACTS and not issubclass(KIND_FACTS[side].spec, SteppedSpec):
        return presets.read_preset(side, bench.name)
    if side == "ddpm":
        net = presets.PRESETS["nano"]["net"]
        changes |= {
            "kind": "ddpm",
            "p_mean": TrainSpec.model_fields["p_mean"].default,
            "net": {**net, "dropout": 0.0},
        }
        changes |= {"learning_rate": 1e-3}
    name = side if side in presets.PRESETS else "nano"
    spec = presets.read_preset(name, bench.name, changes)
    assert isinstance(spec, SteppedSpec)
    speed = bench.store.measure_once(f"benchmark-{spec.digest()}", lambda: _speed(spec, bench))
    return spec.model_copy(
        update={"images_seen": max(1, round(speed * seconds / spec.batch)) * spec.batch}
    )


def _speed(spec: SteppedSpec, bench: Bench) -> float:
    """Return images a processor second of one core."""
    module, where = import_module(f"mien.generators.{spec.kind}"), torch.device("cpu")
    make_step: Callable[[int, ThreadPoolExecutor], Any]
    if isinstance(spec, OnePassSpec):
        make_step = module.make_training(bench.train, spec, where).make_step
    else:
        assert isinstance(spec, TrainSpec)
        objective = module.make_objective(spec)
        make_step = DiffusionTraining(bench.train, spec, objective, where).make_step
    with devices.open_workers(where, 1) as pool:
        make_step(0, pool)
        clock, steps = Clock(), 0
        while clock.seconds < 10:
            steps += 1
            make_step(steps, pool)
        return steps * spec.batch / clock.seconds


def _diffusers(
    bench: Bench, kept: Path, seconds: float, labels: np.ndarray, seed: int
) -> tuple[Faces, int, float]:
    """Train and draw with diffusers: the loop of its unconditional example, with class labels and
    one channel.
    """
    load_timm()  # makes torchvision importable, which diffusers imports
    import diffusers
    from diffusers.training_utils import EMAModel

    highest = 1e-3 if "fast" in kept.name else 1e-4
    torch.manual_seed(seed)
    network, theirs = unet(), cast(Any, diffusers)
    schedule = theirs.DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=highest, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    average = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )
    x0, shown = (
        scaling.scale_for_model(bench.train.images),
        torch.from_numpy(bench.train.number_labels()),
    )
    clock, steps, batch = Clock(), 0, 16
    while clock.seconds < seconds:
        done = clock.seconds / seconds  # the example's warm-up of 500 steps, then half a cosine
        rate = min(1.0, (steps + 1) / 500) * 0.5 * (1 + np.cos(np.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = highest * rate
        rows = torch.randint(len(x0), (batch,))
        noise, t = torch.randn(batch, *x0.shape[1:]), torch.randint(1000, (batch,))
        clean = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, x0[rows], x0[rows].flip(-1))
        predicted = network(schedule.add_noise(clean, noise, t), t, class_labels=shown[rows]).sample
        optimiser.zero_grad()
        (predicted - noise).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.step(network.parameters())
        steps += 1
    average.copy_to(network.parameters())
    torch.save(network.state_dict(), kept)
    network.eval()
    solver = theirs.DPMSolverMultistepScheduler.from_config(schedule.config)
    clock, parts = Clock(), []
    with torch.inference_mode():
        for part in torch.from_numpy(labels).split(8):
            solver.set_timesteps(20)
            x = torch.randn(len(part), *x0.shape[1:])
            for t in solver.timesteps:
                x = solver.step(network(x, t, class_labels=part).sample, t, x).prev_sample
            parts.append(scaling.scale_to_bytes(x))
    return as_faces(np.concatenate(parts), labels), steps * batch, clock.seconds / len(labels)


def unet() -> Any:
    """Return diffusers' network for grey faces of 48x48 with class labels."""
    import diffusers

    return cast(Any, diffusers).UNet2DModel(
        sample_size=48,
        in_channels=1,
        out_channels=1,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        num_class_embeds=len(EMOTIONS),
    )


if __name__ == "__main__":
    main()
