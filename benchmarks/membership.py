"""Whether the audit tells who was trained on, by the generator and by the published images.

    python benchmarks/membership.py --passes 200 3200 --clean 20

A diffusion model is trained on drawn people for each number of passes over their images, and the
audit's part on membership compares them with held-out people. Positive controls are a training far
too long, a generator of the kind `imle`, which approaches every training image, and a database with
planted copies. Negative controls are sets of further people in the place of the training people.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from audit_power import people as draw_people

from mien.audit.memorisation.matches import find_matches
from mien.audit.memorisation.membership_part import measure_part
from mien.audit.part import PartInput
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.base import Generator
from mien.generators.kinds import fit_generator, sample_generator
from mien.generators.specs import GeneratorSpec, read_training
from mien.prepare.preprocess import reform

SIZE = 16  # pixels per side

PEOPLE = (20, 20)  # to learn from, and held out

NET = {"width": 16, "multipliers": [1], "attention": [], "dropout": 0.0}

DECODER = {"width": 16}

METRICS = (
    "auc.generator",
    "people.generator",
    "found_5.generator",
    "auc.density",
    "people.density",
)


def draw_small(seed: int, count: int) -> Faces:
    """Return drawn people, two photographs of each."""
    faces = draw_people(seed, range(count), 2, 1)
    return replace(faces, images=reform(faces.images, SIZE, "grey", "box"))


def train(faces: Faces, passes: int, kind: str, seed: int) -> Generator:
    """Return a generator after so many passes over the images."""
    fields = {
        **{"kind": kind, "faces": "drawn", "batch": 20, "seed": seed},
        "images_seen": passes * len(faces),
    }
    if kind == "edm":
        fields |= {"net": NET, "moves": 0.0, "label_drop": 0.0, "held_out": 0}
    else:
        fields |= {"net": DECODER}
    spec: GeneratorSpec = read_training(fields, "the benchmark")
    with tempfile.TemporaryDirectory() as scratch:
        return fit_generator(faces, spec, Path(scratch), device="cpu")


def draw_database(generator: Generator, count: int) -> Faces:
    """Return images that the generator draws, of all its classes in turn."""
    numbers = np.array([EMOTIONS.index(name) for name in generator.classes], dtype=np.int64)
    labels = np.resize(numbers, count)
    images = sample_generator(generator, labels, np.arange(count, dtype=np.int64))
    return as_made(images, [EMOTIONS[label] for label in labels])


def as_made(images: np.ndarray, emotions: list[str]) -> Faces:
    """Return images as those of a generator."""
    keys = [f"made/{place}" for place in range(len(images))]
    return Faces(images, make_index(images, key=keys, emotion=emotions, source="made"))


def plant(database: Faces, faces: Faces, share: float) -> Faces:
    """Return a database of which a share are training images."""
    places = np.random.default_rng(0).permutation(len(database))[: round(share * len(database))]
    images = np.array(database.images)
    images[places] = faces.images[np.arange(len(places)) % len(faces)]
    return as_made(images, database.index["emotion"].tolist())


def measure(members: Faces, outsiders: Faces, database: Faces, generator: Generator) -> list[str]:
    """Return the numbers of METRICS, as texts."""
    given = PartInput(
        members,
        outsiders,
        database,
        {},
        lambda: find_matches(members, outsiders, database),
        lambda: replace(generator, seen=members.index[["key", "subject", "clip", "dataset"]]),
    )
    found = {record.metric: record for record in measure_part(given).records}
    records = [found.get(f"membership.{name}") for name in METRICS]
    return [
        "-" if record is None else _write(record.value, record.low, record.high)
        for record in records
    ]


def _write(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Who can tell training images.")
    parser.add_argument("--passes", type=int, nargs="+", default=[100, 400, 1600])
    parser.add_argument("--images", type=int, default=400, help="synthetic images of a database")
    parser.add_argument("--clean", type=int, default=20, help="pairs of further people")
    parser.add_argument("--seed", type=int, default=0, help="another one draws everybody anew")
    given = parser.parse_args()

    faces, outsiders = (
        draw_small(1000 * given.seed + place, count) for place, count in enumerate(PEOPLE)
    )
    learnt, held = PEOPLE
    print(f"{len(faces)} images of {learnt} people, {len(outsiders)} of {held}, seed {given.seed}")
    print(f"| generator | {' | '.join(METRICS)} |\n| --- {'| --: ' * len(METRICS)}|", flush=True)
    for passes in given.passes:
        generator = train(faces, passes, "edm", given.seed)
        database = draw_database(generator, given.images)
        _print_row(f"edm, {passes} passes", measure(faces, outsiders, database, generator))
        if passes == given.passes[0]:
            planted = plant(database, faces, 0.2)
            _print_row("the same, 20 % copies", measure(faces, outsiders, planted, generator))
            _print_clean(generator, database, given.clean, given.seed)
    imle = train(faces, given.passes[-1], "imle", given.seed)
    _print_row("imle", measure(faces, outsiders, draw_database(imle, given.images), imle))


def _print_clean(generator: Generator, database: Faces, count: int, seed: int) -> None:
    """Print how often further people in place of the training people are beyond the limits."""
    aucs = []
    for number in range(count):
        fresh = [
            draw_small(1000 * seed + 100 + 2 * number + side, size)
            for side, size in enumerate(PEOPLE)
        ]
        texts = measure(fresh[0], fresh[1], database, generator)
        aucs.append([float(texts[place].split()[0]) for place in (0, 3)])
    for name, values in zip(("generator", "density"), np.array(aucs).T, strict=True):
        beyond = int((values > 0.75).sum())
        spread = f"{values.mean():.2f} ± {values.std():.2f}"
        print(f"clean: {name} {spread}, {beyond} of {count} above 0.75", flush=True)


def _print_row(title: str, texts: list[str]) -> None:
    print(f"| {title} | {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
