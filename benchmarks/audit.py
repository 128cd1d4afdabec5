"""What an audit costs: time of each part and peak memory against the number of images.

    python benchmarks/audit.py FOLDER --images 1000 3000 10000 30000 100000 --plot
    docs/audit-scale.png python benchmarks/audit.py FOLDER --pairs 15464:17124

Faces are drawn, 26 people in clips of about 67 frames as in CASME II, 48 x 48, and moved, lit and
given noise image by image. Each size is one `mien audit` on an empty store, in a process of its
own: the workers start, the judge is trained, features are extracted. N images are as many synthetic
ones, as many training images, and a fifth as many of held-out people. The machine's load counts:
processor seconds are told beside seconds on the clock.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from mien import seeds
from mien.faces import Faces, make_index
from mien.ingest.toy.head import DrawnHead, Pose, apply_pose, invent_identity
from mien.runs.spec import Spec
from mien.runs.store import Store

SIDE, FRAMES = 48, 67
CANVAS = (136, 112)
EXPRESSIONS = {
    "disgust": {"9": 1.0, "4": 1.0},
    "happiness": {"6": 1.0, "12": 1.0},
    "others": {"14": 1.0, "4": 0.6},
    "repression": {"15": 1.0, "17": 1.0},
    "surprise": {"1": 1.0, "2": 1.0, "5": 1.0},
}
PARTS = ("judge", "features", "matches", "fidelity", "memorisation", "labels", "leakage")


def main() -> None:
    """Print a table, and draw the plot if a file is named."""
    parser = argparse.ArgumentParser(description="What an audit costs.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="*", default=[])
    parser.add_argument(
        "--pairs", nargs="*", default=[], help="synthetic:training, such as 15464:17124"
    )
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--workers", type=int, default=2, help="0: all in this process")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        made, train = map(int, given.one.split(":"))
        print(json.dumps(measure(made, train, given.workers)))
        return
    sizes = [f"{n}:{n}" for n in given.images] + given.pairs
    found = [measured(size, given.folder, given.workers) for size in sizes]
    columns = ("synthetic", "training", "clock s", "processor s", "peak GB", *PARTS)
    print(f"{os.cpu_count()} cores, {given.workers} workers\n\n| {' | '.join(columns)} |")
    print("| --: | --: | --: | --: | --: |" + " --: |" * len(PARTS))
    for one in found:
        parts = " | ".join(f"{one['parts'][part]:.1f}" for part in PARTS)
        line = (
            f"{one['made']:,} | {one['train']:,} | {one['clock']:.0f} | {one['cpu']:.0f} | "
            f"{one['peak_gb']:.2f}"
        )
        print(f"| {line} | {parts} |")
    if given.plot:
        plot([one for one in found if one["made"] == one["train"]], given.plot)


def measured(size: str, folder: Path, workers: int) -> dict:
    """Return the measurement of a size, from the folder if it is there, else by a process of its
    own.
    """
    kept = folder / f"audit-{size.replace(':', '-')}-{workers}.json"
    if not kept.exists():
        command = [sys.executable, __file__, str(folder), "--one", size, "--workers", str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kept.write_text(done.stdout.strip().splitlines()[-1] + "\n", encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def measure(made: int, train: int, workers: int) -> dict:
    """Return seconds by part and peak memory of an audit of so many images, from a store that holds
    images alone.
    """
    from mien.audit import verdict
    from mien.audit.run import run_audit
    from mien.audit.specs import AuditSpec
    from mien.runs.local import Local

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for name, people, count in (
            ("train", range(26), train),
            ("test", range(30, 38), max(200, train // 5)),
            ("made", range(40, 66), made),
        ):
            keep(draw(name, people, count), store, name)
        spec = AuditSpec(
            synthetic="made", train="train", test="test", thresholds=verdict.read_thresholds()
        )
        with Peak() as peak:
            clock, cpu = time.perf_counter(), worked()
            run = run_audit(spec, store, device="cpu", engine=Local(workers))
            clock = time.perf_counter() - clock
        parts = dict.fromkeys(PARTS, 0.0)
        for one in (store.run(name) for name in store.list_names()):
            part = one.spec["part"] if one.stage == "measures" else one.stage
            if part in parts:
                parts[part] += one.seconds
        return {
            "made": made,
            "train": train,
            "clock": clock,
            "workers": workers,
            "cpu": worked() - cpu,
            "peak_gb": peak.gb,
            "parts": parts,
            "verdict": run.read_json("audit.json")["verdict"],
        }


def keep(faces: Faces, store: Store, alias: str) -> None:
    """Store faces under a name."""
    store.make(Drawn(side=alias, images=len(faces)), lambda out, scratch: faces.save(out), alias)


class Drawn(Spec):
    """The drawn faces of a measurement."""

    stage: ClassVar[str] = "drawn"
    side: str
    images: int


class Peak:
    """The most memory that this process and those below it had together, looked at five times a
    second.
    """

    gb = 0.0

    def __enter__(self) -> "Peak":
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.gb = max(self.gb, sum(map(own_bytes, below(os.getpid()))) / 1e9)


def below(pid: int) -> list[int]:
    """Return a process and all that it, or those, have started."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            found += [int(child) for task in Path(f"/proc/{one}/task").iterdir()
                      for child in (task / "children").read_text().split()]  # fmt: skip
    return found


def worked() -> float:
    """Return the processor seconds of this process and of all that it has started."""
    fields = [
        Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        for one in below(os.getpid())
    ]
    return sum(int(number) for field in fields for number in field[11:15]) / os.sysconf(
        "SC_CLK_TCK"
    )


def own_bytes(pid: int) -> int:
    """Return the memory of a process, what it shares with others counted in part."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return 0


def draw(name: str, people: range, count: int) -> Faces:
    """Return `count` drawn faces of these people in clips."""
    heads = [DrawnHead(invent_identity(1, person), CANVAS) for person in people]
    canvases = [[head.draw(units) for units in EXPRESSIONS.values()] for head in heads]
    emotions = list(EXPRESSIONS)
    images: UInt8[np.ndarray, "n c h w"] = np.empty((count, 1, SIDE, SIDE), dtype=np.uint8)
    rows = []
    for place in range(count):
        clip, frame = divmod(place, FRAMES)
        rng = seeds.make_rng("scale", name, clip)
        person, shown = int(rng.integers(len(heads))), int(rng.integers(len(emotions)))
        home = rng.normal(0, (2, 2, 2, 0.03))
        x, y, angle, scale = home + seeds.make_rng("scale", name, clip, frame).normal(
            0, (0.5, 0.5, 0.3, 0.005)
        )
        moved = apply_pose(canvases[person][shown], Pose(x, y, angle, 1 + scale), CANVAS)
        small = cv2.resize(
            cv2.cvtColor(moved, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA
        )
        images[place, 0] = (small + rng.normal(0, 3, small.shape)).clip(0, 255)
        rows.append((f"{name}:{person}", f"{name}:{clip}", frame, emotions[shown]))
    subject, clip, frame, emotion = zip(*rows, strict=True)
    known = {} if name == "made" else {"subject": subject, "clip": clip, "frame": frame}
    keys = [f"{name}/{place}" for place in range(count)]
    return Faces(
        images, make_index(images, key=keys, dataset=name, emotion=emotion, licence="CC0", **known)
    )


def plot(found: list[dict], path: Path) -> None:
    """Draw time and memory against the number of images, both axes logarithmic."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    n = [one["made"] for one in found]
    for part in PARTS:
        left.loglog(n, [one["parts"][part] for one in found], marker=".", linewidth=1, label=part)
    left.loglog(n, [one["clock"] for one in found], "k-o", markersize=4, label="all")
    right.loglog(n, [one["peak_gb"] for one in found], "k-o", markersize=4)
    right.yaxis.set_major_formatter(ScalarFormatter())
    right.yaxis.set_minor_formatter(NullFormatter())
    right.set_yticks([1, 2, 5, 10])
    for axes, label in ((left, "seconds on the clock"), (right, "peak memory, GB")):
        axes.set_xlabel("synthetic images = training images")
        axes.set_ylabel(label)
        axes.grid(which="major", linewidth=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=7, ncols=2, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
