"""Whether the audit tells who was trained on, by the generator and by the published images.

    python benchmarks/membership.py --passes 50 500 --clean 20 --sets 20

A diffusion model is trained on drawn people for each number of passes over their images, and the
audit's part on membership compares them with held-out people. Positive controls are a training far
too long, a generator of the kind `imle`, which approaches every training image, and a database with
planted copies. Negative controls are sets of further people in the place of the training people
and of the held-out people. The generator `imle` is compared with several sets of held-out people.
"""

import argparse
import tempfile
import time
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
from mien.stats import Record

SIZE = 16  # pixels per side

PEOPLE = (20, 20)  # to learn from, and held out

NET = {"width": 16, "multipliers": [1], "attention": [], "dropout": 0.0}

DECODER = {"width": 16}

LIMITS = (0.65, 0.75)  # an earlier limit of the check, and the limit

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


def measure(
    members: Faces, outsiders: Faces, database: Faces, generator: Generator
) -> dict[str, Record]:
    """Return the numbers of membership by name, without the first word of the name."""
    given = PartInput(
        members,
        outsiders,
        database,
        {},
        lambda: find_matches(members, outsiders, database),
        lambda: replace(generator, seen=members.index[["key", "subject", "clip", "dataset"]]),
    )
    return {
        record.metric.removeprefix("membership."): record for record in measure_part(given).records
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Who can tell training images.")
    parser.add_argument("--passes", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--kinds", nargs="+", choices=["edm", "imle"], default=["edm", "imle"])
    parser.add_argument("--images", type=int, default=400, help="synthetic images of a database")
    parser.add_argument("--clean", type=int, default=20, help="pairs of further people")
    parser.add_argument("--sets", type=int, default=20, help="further sets of held-out people")
    parser.add_argument("--seed", type=int, default=0, help="of the people that are drawn")
    given = parser.parse_args()

    # The people, and the heads of the columns
    faces, outsiders = (
        draw_small(1000 * given.seed + place, count) for place, count in enumerate(PEOPLE)
    )
    learnt, held = PEOPLE
    print(f"{len(faces)} images of {learnt} people, {len(outsiders)} of {held}, seed {given.seed}")
    print(f"| generator | {' | '.join(METRICS)} |\n| --- {'| --: ' * len(METRICS)}|", flush=True)

    # Diffusion models, the first of them also with copies and with further people
    clean: list[str] = []
    for passes in given.passes if "edm" in given.kinds else []:
        generator = train(faces, passes, "edm", given.seed)
        database = draw_database(generator, given.images)
        _print_row(f"edm, {passes} passes", measure(faces, outsiders, database, generator))
        if passes == given.passes[0]:
            planted = plant(database, faces, 0.2)
            _print_row("the same, 20 % copies", measure(faces, outsiders, planted, generator))
            clean = _list_clean(generator, database, given.clean, given.seed)

    # A generator that approaches every training image, beside several sets of held-out people
    of_imle: list[str] = []
    if "imle" in given.kinds:
        imle = train(faces, given.passes[-1], "imle", given.seed)
        database = draw_database(imle, given.images)
        title = f"imle, {given.passes[-1]} passes"
        _print_row(title, measure(faces, outsiders, database, imle))
        further = [draw_small(1000 * given.seed + 500 + n, held) for n in range(given.sets)]
        found = [measure(faces, others, database, imle) for others in further]
        of_imle = _list_spread(title, found)
    for line in [*clean, *of_imle]:
        print(line)
    print(f"{time.process_time():.0f} CPU-seconds")


def _list_clean(generator: Generator, database: Faces, count: int, seed: int) -> list[str]:
    """Return how far further people in the place of both sides are told, by metric."""
    found = []
    for number in range(count):
        fresh = [
            draw_small(1000 * seed + 100 + 2 * number + side, size)
            for side, size in enumerate(PEOPLE)
        ]
        found.append(measure(fresh[0], fresh[1], database, generator))
    return _list_spread("clean", found)


def _list_spread(title: str, found: list[dict[str, Record]]) -> list[str]:
    """Return a line for each metric: mean and deviation, and how many are above the limit."""
    lines = []
    for name in METRICS:
        values = np.array([records[name].value for records in found if name in records])
        if len(values):
            above = ", ".join(f"{(values > limit).sum()} above {limit}" for limit in LIMITS)
            spread = f"{values.mean():.2f} ± {values.std():.2f}"
            lines.append(f"{title}: {name} {spread}, of {len(values)} sets {above}")
    return lines


def _print_row(title: str, records: dict[str, Record]) -> None:
    texts = [_write(records[name]) if name in records else "-" for name in METRICS]
    print(f"| {title} | {' | '.join(texts)} |", flush=True)


def _write(record: Record) -> str:
    if record.low is None or record.high is None:
        return f"{record.value:.2f}"
    return f"{record.value:.2f} [{record.low:.2f}, {record.high:.2f}]"


if __name__ == "__main__":
    main()
