"""All that mien claims about a GPU, measured in at most eight minutes: tests, speeds and memory.

    make gpu
    python benchmarks/gpu.py --out FOLDER           # tables to FOLDER, not to docs/benchmarks.md
    python benchmarks/gpu.py --device cpu --scale small --out FOLDER    # the same program, tiny

Without a card it says what it would do. Each section is a process of its own with a time limit, so
one that fails or takes too long leaves the others alone: its table then holds the error. The
sections are ordered by what they would tell if the time ran out.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- gpu: written by `make gpu` -->", "<!-- gpu: end -->"

TOTAL_S = 480
GIB = 2**30
BASE_LIMIT_BYTES = 5 * GIB  # what `base` may take of a card of 6 GB, at a batch of 128

PREPRINT_IMAGES = 15_464  # Table 2 of the preprint


@dataclass(frozen=True)
class Scale:
    """How much is measured: `full` on a card, `small` to see that the program itself works."""

    presets: tuple[str, ...]
    batch: int  # of the presets at most; 0 is the preset's own
    steps: int
    networks: tuple[str, ...]
    size: int  # pixels of the classifiers
    classifier_batch: int
    rounds: int
    preset: str  # of the generator whose database is timed
    images_seen: int
    images: int
    trial_networks: tuple[str, ...]
    epochs: int
    people: int
    clips: int


SCALES = {
    "full": Scale(
        presets=("nano", "tiny", "base", "large"),
        batch=0,
        steps=20,
        networks=("resnet50", "inception_v3", "vgg16"),
        size=160,
        classifier_batch=64,
        rounds=3,
        preset="base",
        images_seen=12_800,
        images=PREPRINT_IMAGES,
        trial_networks=("vgg16", "resnet50", "inception_v3"),
        epochs=2,
        people=12,
        clips=84,
    ),
    "small": Scale(
        presets=("nano",),
        batch=2,
        steps=1,
        networks=("tiny",),
        size=16,
        classifier_batch=4,
        rounds=1,
        preset="smoke",
        images_seen=64,
        images=14,
        trial_networks=("tiny",),
        epochs=1,
        people=4,
        clips=14,
    ),
}


# The sections. Each prints Markdown.


def run_tests(device: str, scale: Scale) -> None:
    """Run the tests that need a card."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n0", "-p", "no:cacheprovider"]
    command += ["--tb=short", str(ROOT / "tests" / "test_gpu.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    print(f"`pytest -m gpu`: {lines[-1].strip('= ') if lines else 'no output'}")
    if done.returncode not in (0, 5):
        print("\n```\n" + "\n".join(lines[-60:]) + "\n```")


def measure_presets(device: str, scale: Scale) -> None:
    """Print the cost of each preset, and whether `base` fits a small card."""
    out = _run_benchmark(
        "presets.py",
        *("--presets", *scale.presets, "--device", device),
        *("--batch", str(scale.batch), "--steps", str(scale.steps), "--calls", "4"),
    )
    print(out.strip())
    match = re.search(r"^\| base \|[^|]*\|[^|]*\| (\d+) \| ([\d.]+) GB", out, re.MULTILINE)
    if match:
        held = float(match[2]) * 1e9
        fits = "within" if held <= BASE_LIMIT_BYTES else "MORE than"
        print(f"\n`base` at a batch of {match[1]} allocates {held / GIB:.2f} GiB: {fits} 5 GiB.")


def compare_precisions(device: str, scale: Scale) -> None:
    """Print the speed, memory and loss of a training in each precision."""
    import presets
    import torch

    from mien.generators import edm
    from mien.generators.diffusion.fit import DiffusionTraining
    from mien.runs import devices

    where, steps = devices.find_device(device), max(2, 5 * scale.steps)
    print(f"Preset `{scale.preset}`, {steps} steps on grey noise, after one that is not counted.\n")
    print("| precision | images/s | memory | loss at the end |\n| --- | --: | --: | --: |")
    base = presets.spec_of(scale.preset, scale.batch, device)
    narrow = ("bf16", "fp16") if where.type == "cuda" else ()
    for precision in ("float32", *narrow):
        spec = base.model_copy(update={"precision": precision})
        if where.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        work = DiffusionTraining(presets.faces(), spec, edm.make_objective(spec), where)
        losses = []
        with devices.open_workers(where, work.piece_count) as pool:
            work.make_step(0, pool)
            presets.wait(where)
            began = time.monotonic()
            losses = [work.make_step(step, pool) for step in range(1, steps + 1)]
            presets.wait(where)
        speed = steps * spec.batch / (time.monotonic() - began)
        memory = f"{presets.grown(where, 0) / GIB:.2f} GiB"
        last = statistics.mean([loss for loss in losses if loss is not None][-20:])
        print(f"| {precision} | {speed:,.0f} | {memory} | {last:.4f} |", flush=True)


def make_database(device: str, scale: Scale) -> None:
    """Train a generator for a short time, and draw the preprint's database with it."""
    with _drawn_faces(scale) as folder:
        options = ["--preset", scale.preset, "--device", device, "--as", "generator"]
        options += ["--set", f"images_seen={scale.images_seen}"]
        trained = _time(lambda: _mien(folder, "train", "faces", *options))
        counts = "preprint" if scale.images == PREPRINT_IMAGES else f"balanced:{scale.images}"
        options = ["--counts", counts, "--device", device, "--as", "synthetic"]
        drawn = _time(lambda: _mien(folder, "generate", "generator", *options))
        summary = json.loads((_find_run(folder, "generate") / "summary.json").read_text())
    print(
        f"`mien train --preset {scale.preset}`, {scale.images_seen:,} images seen: {trained:.0f} s."
        f" `mien generate --counts {counts}`: {drawn:.0f} s for "
        f"{summary.get('images', scale.images):,} images, with 16 steps each, loading included "
        f"({scale.images / drawn:,.0f} images per second)."
    )


def share_a_card(device: str, scale: Scale) -> None:
    """Time two trials on one card, one after the other and at the same time."""
    seconds = {}
    with _drawn_faces(scale) as folder:
        for name, share, workers in (("alone", 1.0, 1), ("shared", 0.5, 2)):
            path = _write_study(folder, name, scale, settings=["real_to_real"], trials=2)
            options = ["--device", device, "--workers", str(workers)]
            options += ["--gpus-per-trial", str(share)] if device != "cpu" else []
            call = ["study", "run", path.name, *options]
            seconds[name] = _time(lambda call=call: _mien(folder, *call))
    print(
        f"Two trials of `{scale.networks[0]}` at {scale.size} pixels: {seconds['alone']:.0f} s one "
        f"after the other, {seconds['shared']:.0f} s at the same time with `--gpus-per-trial 0.5` "
        f"(ratio {seconds['alone'] / seconds['shared']:.2f}; starting a process is included)."
    )


def measure_classifiers(device: str, scale: Scale) -> None:
    """Print the speed of the classifiers' training against the bare step."""
    out = _run_benchmark(
        "training.py",
        *("--networks", *scale.networks, "--device", device, "--size", str(scale.size)),
        *("--batch", str(scale.classifier_batch), "--steps", str(scale.steps)),
        *("--rounds", str(scale.rounds)),
    )
    print(out.strip())


def run_preprint_trial(device: str, scale: Scale) -> None:
    """Run one shortened trial of the preprint with each of its networks, from random weights."""
    with _drawn_faces(scale) as folder:
        settings = ["real_to_real", "synthetic_to_synthetic"]
        path = _write_study(
            folder, "preprint-short", scale, settings=settings, networks=scale.trial_networks
        )
        call = ["study", "run", path.name, "--device", device]
        seconds = _time(lambda: _mien(folder, *call))
        table = _mien(folder, "report", "preprint-short", "--out", "report")
        rows = (folder / "report" / "tables.csv").exists()
    print(
        f"One trial with {', '.join(scale.trial_networks)}, {' and '.join(settings)}, "
        f"{scale.epochs} epochs at {scale.size} pixels from random weights: {seconds:.0f} s with "
        f"generator and database{'' if rows else '; THE REPORT IS MISSING: ' + table[-200:]}. So "
        "short a training says nothing about accuracy."
    )


@dataclass(frozen=True)
class Section:
    """One part of the benchmark: its title, its limit in seconds, and its function."""

    title: str
    limit: int
    measure: Callable[[str, Scale], None]


SECTIONS: dict[str, Section] = {
    "tests": Section("Tests", 150, run_tests),
    "presets": Section("Presets", 150, measure_presets),
    "precision": Section("Precision", 60, compare_precisions),
    "database": Section("The preprint's database", 120, make_database),
    "classifiers": Section("Classifiers against the bare step", 90, measure_classifiers),
    "sharing": Section("Two trials share a card", 90, share_a_card),
    "trial": Section("A shortened trial of the preprint", 120, run_preprint_trial),
}


# What the sections share


def _run_benchmark(name: str, *arguments: str) -> str:
    """Return the output of another benchmark; exit with its error if it fails."""
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    return _checked(command, ROOT)


def _mien(folder: Path, *arguments: str) -> str:
    """Return the output of a command of mien in `folder`; exit with its error if it fails."""
    return _checked([sys.executable, "-m", "mien", *arguments], folder)


def _checked(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "MIEN_STORE": str(folder / "store")}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def _drawn_faces(scale: Scale) -> Iterator[Path]:
    """Yield a folder whose store has apex frames of drawn people under the name `faces`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = ["--subjects", str(scale.people), "--clips", str(scale.clips)]
        _mien(folder, "toy", "drawn", *people, "--balance", "even")
        _mien(folder, "ingest", "casme2", "drawn", "--as", "drawn")
        _mien(folder, "preprocess", "drawn", "--frames", "apex", "--as", "faces")
        yield folder


def _write_study(
    folder: Path,
    name: str,
    scale: Scale,
    settings: list[str],
    trials: int = 1,
    networks: tuple[str, ...] = (),
) -> Path:
    """Return the path of a study file with these settings."""
    path = folder / f"{name}.toml"
    path.write_text(f"""\
name = "{name}"
faces = "faces"
protocol = "frame"
trials = {trials}
settings = {json.dumps(settings)}
classifiers = {json.dumps(list(networks or scale.networks[:1]))}
counts = "balanced:{min(700, scale.images)}"
seed = {len(name)}

[classifier]
weights = "none"
size = {scale.size}
batch = {scale.classifier_batch}
epochs = {scale.epochs}

[generator]
preset = "{scale.preset}"
images_seen = {scale.images_seen}
""")
    return path


def _find_run(folder: Path, stage: str) -> Path:
    """Return the folder of the only run of a stage."""
    return next((folder / "store" / "runs").glob(f"{stage}-*"))


def _time(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


# The whole


def describe_machine(device: str) -> str:
    """Return the date, the machine, the commit and the versions, for the head of the tables."""
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    card = "no card"
    if device != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        card = f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"
    return (
        f"**{datetime.date.today().isoformat()}**, {card}, {os.cpu_count()} cores; commit "
        f"`{commit.stdout.strip() or 'unknown'}`, torch {torch.__version__}."
    )


def run_section(name: str, device: str, scale: str, seconds: float) -> str:
    """Return the Markdown of a section, which has at most `seconds`."""
    section = SECTIONS[name]
    limit = min(section.limit, seconds)
    command = [sys.executable, str(Path(__file__)), "--section", name]
    command += ["--device", device, "--scale", scale]
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its own processes end with it
    )
    try:
        text, errors = process.communicate(timeout=limit)
        if process.returncode:
            text += f"\n\nThis section failed:\n\n```\n{errors.strip()[-3000:]}\n```"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        text += f"\n\nThis section was stopped after {limit:.0f} s."
    return f"### {section.title}\n\n{text.strip()}\n\n({time.monotonic() - began:.0f} s)\n"


def write_tables(text: str, page: Path = PAGE) -> None:
    """Replace the tables between the marks of `page`, which needs both."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(
            f"{page} must contain the lines '{BEGIN}' and '{END}'; write them where the tables "
            "belong"
        )
    page.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run all sections and write their tables, or say what would be run."""
    parser = argparse.ArgumentParser(description="What mien does on a GPU.")
    parser.add_argument("--device", default="cuda", help="cuda, one GPU such as cuda:1, or cpu")
    parser.add_argument("--scale", default="full", choices=list(SCALES))
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--out", type=Path, help="a folder for gpu.md, instead of the docs")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.section:
        SECTIONS[given.section].measure(given.device, SCALES[given.scale])
        return

    # Without a card, say what would be run
    import torch

    if given.device != "cpu" and not torch.cuda.is_available():
        print("torch finds no NVIDIA card here, so nothing was measured. On a card this would run:")
        for name in given.sections:
            section = SECTIONS[name]
            purpose = (section.measure.__doc__ or "").split("\n")[0]
            print(f"  {name:<12} at most {section.limit:>3} s  {purpose}")
        print(f"in all at most {TOTAL_S} s, and write the tables into docs/benchmarks.md")
        return

    # Run the sections, and keep what there is after each
    deadline = time.monotonic() + TOTAL_S
    text = describe_machine(given.device) + "\n\n"
    for name in given.sections:
        text += run_section(name, given.device, given.scale, max(1.0, deadline - time.monotonic()))
        print(text.rpartition("### ")[2], flush=True)
        text += "\n"
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / "gpu.md").write_text(text, encoding="utf-8")
        else:
            write_tables(text)


if __name__ == "__main__":
    main()
