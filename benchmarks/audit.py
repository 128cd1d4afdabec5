"""What an audit costs: time of each part and peak memory against the number of images.

    python benchmarks/audit.py FOLDER --images 1000 3000 10000 30000 100000 --plot docs/audit-scale.png
    python benchmarks/audit.py FOLDER --pairs 15464:17124

Faces are drawn, 26 people in clips of about 67 frames as in CASME II, 48 x 48, and moved, lit and given noise image by
image. Each size runs in a process of its own, with the judge trained and features extracted anew; N images are as many
synthetic ones, as many training images, and a fifth as many of people never seen. The machine's load counts: processor
seconds are told beside seconds on the clock.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from mien import drawing, seeds
from mien.faces import Faces, make_index

SIDE, FRAMES = 48, 67
CANVAS = (136, 112)
EXPRESSIONS = {
    "disgust": {"9": 1.0, "4": 1.0},
    "happiness": {"6": 1.0, "12": 1.0},
    "others": {"14": 1.0, "4": 0.6},
    "repression": {"15": 1.0, "17": 1.0},
    "surprise": {"1": 1.0, "2": 1.0, "5": 1.0},
}
PARTS = ("features", "fidelity", "memorisation", "labels", "leakage")


def main() -> None:
    """Print a table, and draw the plot if a file is named."""
    parser = argparse.ArgumentParser(description="What an audit costs.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="*", default=[])
    parser.add_argument("--pairs", nargs="*", default=[], help="synthetic:training, such as 15464:17124")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        print(json.dumps(measure(*(int(part) for part in given.one.split(":")))))
        return
    sizes = [f"{n}:{n}" for n in given.images] + given.pairs
    found = [measured(size, given.folder) for size in sizes]
    print(f"{os.cpu_count()} cores\n\n| synthetic | training | clock s | processor s | peak GB | {' | '.join(PARTS)} |")
    print("| --: | --: | --: | --: | --: |" + " --: |" * len(PARTS))
    for one in found:
        parts = " | ".join(f"{one['parts'][part]:.1f}" for part in PARTS)
        line = f"{one['made']:,} | {one['train']:,} | {one['clock']:.0f} | {one['cpu']:.0f} | {one['peak_gb']:.2f}"
        print(f"| {line} | {parts} |")
    if given.plot:
        plot([one for one in found if one["made"] == one["train"]], given.plot)


def measured(size: str, folder: Path) -> dict:
    """Return the measurement of a size, from the folder if it is there, else by a process of its own."""
    kept = folder / f"audit-{size.replace(':', '-')}.json"
    if not kept.exists():
        command = [sys.executable, __file__, str(folder), "--one", size]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kept.write_text(done.stdout.strip().splitlines()[-1] + "\n", encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def measure(made: int, train: int) -> dict:
    """Return seconds by part and peak memory of an audit of so many images."""
    from mien import audit, features
    from mien.audit import verdict
    from mien.features import Sides

    drawn = {name: draw(name, people, count) for name, people, count in (
        ("train", range(26), train), ("test", range(30, 38), max(200, train // 5)), ("made", range(40, 66), made),
    )}  # fmt: skip
    before = peak()
    parts, clock, cpu = {}, time.perf_counter(), time.process_time()

    def done(part: str) -> None:
        parts[part] = time.perf_counter() - clock - sum(parts.values())

    judge = features.train_judge(drawn["train"], device="cpu")
    size = drawn["train"].size
    spaces = [features.pixels(size), features.convolved(drawn["train"].images), features.judged(judge)]
    sides = {
        one.name: Sides(*(one.extract(drawn[name].images) for name in ("train", "test", "made"))) for one in spaces
    }
    done("features")
    found = audit.Audit(rows=drawn["made"].index[["key", "emotion"]])
    for part, work in audit.STEPS.items():
        work(found, drawn["train"], drawn["test"], drawn["made"], sides)
        done(part)
    found.checks = verdict.judge(found.records, audit.thresholds())
    return {
        "made": made, "train": train, "clock": time.perf_counter() - clock, "cpu": time.process_time() - cpu,
        "peak_gb": peak(), "before_gb": before, "parts": parts, "verdict": found.verdict,
    }  # fmt: skip


def peak() -> float:
    """Return the most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def draw(name: str, people: range, count: int) -> Faces:
    """Return `count` drawn faces of these people in clips."""
    heads = [drawing.Head(drawing.identity(1, person), CANVAS) for person in people]
    canvases = [[head.draw(units) for units in EXPRESSIONS.values()] for head in heads]
    emotions = list(EXPRESSIONS)
    images: UInt8[np.ndarray, "n c h w"] = np.empty((count, 1, SIDE, SIDE), dtype=np.uint8)
    rows = []
    for place in range(count):
        clip, frame = divmod(place, FRAMES)
        rng = seeds.rng("scale", name, clip)
        person, shown = int(rng.integers(len(heads))), int(rng.integers(len(emotions)))
        home = rng.normal(0, (2, 2, 2, 0.03))
        x, y, angle, scale = home + seeds.rng("scale", name, clip, frame).normal(0, (0.5, 0.5, 0.3, 0.005))
        moved = drawing.moved(canvases[person][shown], drawing.Pose(x, y, angle, 1 + scale), CANVAS)
        small = cv2.resize(cv2.cvtColor(moved, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        images[place, 0] = (small + rng.normal(0, 3, small.shape)).clip(0, 255)
        rows.append((f"{name}:{person}", f"{name}:{clip}", frame, emotions[shown]))
    subject, clip, frame, emotion = zip(*rows, strict=True)
    known = {} if name == "made" else {"subject": subject, "clip": clip, "frame": frame}
    keys = [f"{name}/{place}" for place in range(count)]
    return Faces(images, make_index(images, key=keys, dataset=name, emotion=emotion, licence="CC0", **known))


def plot(found: list[dict], path: Path) -> None:
    """Draw time and memory against the number of images, both axes logarithmic."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    n = [one["made"] for one in found]
    for part in PARTS:
        left.loglog(n, [one["parts"][part] for one in found], marker=".", linewidth=1, label=part)
    left.loglog(n, [one["clock"] for one in found], "k-o", markersize=4, label="all")
    right.loglog(n, [one["peak_gb"] for one in found], "k-o", markersize=4)
    for axes, label in ((left, "seconds on the clock"), (right, "peak memory, GB")):
        axes.set_xlabel("synthetic images = training images")
        axes.set_ylabel(label)
        axes.grid(which="major", linewidth=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
