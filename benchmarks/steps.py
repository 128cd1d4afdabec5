"""What few steps cost and what they are worth: a generator and its student at 1 to 16 steps.

    mien distill generator --as fast
    python benchmarks/steps.py mien-store generator fast --test fold-test

Each row draws `--images` images in equal classes for each of `--seeds` seeds, on one core, with the
guidance that the student has learnt. The judge is a small classifier that was trained on the
training faces of the generator; figures are mean ± sd over seeds. What was measured is kept in the
folder `--kept`, and is not measured again.

    FD unseen    Fréchet distance to held-out people, in the judge's features
    FD train     the same to the training people
    precision    share of images that lie among training images (one of each clip)
    recall       share of training images (one of each clip) that lie among the images
    agreement    share of labels that the judge shares
    copies       share of images that lie within a third of the way from a clip to the next
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from bench import Bench, Clock, as_faces, figures, some, wanted

from mien import seeds
from mien.audit import features
from mien.faces import Faces
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.specs import SamplerSpec
from mien.runs.store import Run, Store

NAMES = ("fd_test", "fd_train", "precision", "recall", "agreement", "copies")


def main() -> None:
    """Print a row for each number of steps of the generator and of its student."""
    parser = argparse.ArgumentParser(description="What few steps cost and what they are worth.")
    parser.add_argument("store", type=Path)
    parser.add_argument("teacher", help="the run or alias of a generator")
    parser.add_argument("student", help="the run or alias of its student")
    parser.add_argument("--test", required=True, help="faces of held-out people")
    parser.add_argument("--images", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--kept", type=Path, default=Path("bench-steps"))
    given = parser.parse_args()
    torch.set_num_threads(1)

    # The people, and the judge
    store = Store(given.store)
    teacher, student = store.run(given.teacher), store.run(given.student)
    train, test = (store.run(name) for name in (teacher.spec["faces"], given.test))
    judge = features.load_judge(train, store, "cpu")
    bench = Bench(store, Faces.load(train.path), Faces.load(test.path), train.name, judge)
    guidance = float(student.spec["guidance"])
    print(
        f"{len(bench.train):,} images of {len(bench.train.subjects)} people to learn from, "
        f"{len(bench.test):,} of {len(bench.test.subjects)} others; {given.images} images for each "
        f"of {given.seeds} seeds, guidance {guidance:g}, torch {torch.__version__}"
    )
    floor = figures(bench, some(bench.train, given.images, 1))
    print("training people:", ", ".join(f"{name} {floor[name]:.3g}" for name in NAMES))

    # A row for each number of steps
    print("| generator | steps | CPU s an image | FD unseen | FD train | precision | recall | "
          "agreement | copies |")  # fmt: skip
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |", flush=True)
    given.kept.mkdir(parents=True, exist_ok=True)
    for name, run, sampler in (("teacher", teacher, "dpmpp2m"), ("student", student, "euler")):
        for steps in given.steps:
            if name == "student" and steps > 4:
                continue
            how = SamplerSpec(sampler=sampler, steps=steps, guidance=guidance)
            found = [
                _measure(bench, run, how, given.images, seed, given.kept)
                for seed in range(given.seeds)
            ]
            cells = [_show([one[field] for one in found]) for field in NAMES]
            cost = statistics.mean(one["cost"] for one in found)
            print(f"| {name} | {steps} | {cost:.4f} | {' | '.join(cells)} |", flush=True)


def _show(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {spread:.3f}"


def _measure(
    bench: Bench, run: Run, how: SamplerSpec, count: int, seed: int, kept: Path
) -> dict[str, float]:
    """Return the figures of `count` images, and the processor seconds that each took."""
    path = kept / f"{run.name}-{how.digest()}-{count}-{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    generator, labels = load_generator(run, "cpu"), wanted(bench.train.classes, count)
    numbers = np.array(
        [seeds.derive_seed("steps", seed, place) for place in range(count)], dtype=np.int64
    )
    clock = Clock()
    images = sample_generator(generator, labels, numbers, sampler=how)
    cost = clock.seconds / count
    found = {**figures(bench, as_faces(images, labels)), "cost": cost}
    path.write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
