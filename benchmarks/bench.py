"""What the benchmarks of generators share: drawn people, a judge who knows them, and the figures of
a set of images.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien.audit import distances
from mien.audit.memorisation.measure import measure_memorisation
from mien.audit.memorisation.search import make_owners, match_features
from mien.classifiers.fit import fit_network
from mien.classifiers.predict import (
    TrainedNetwork,
    extract_features,
    load_network,
    predict_classes,
    save_network,
)
from mien.classifiers.specs import ClassifierSpec
from mien.faces import EMOTIONS, Faces, make_index, name_distinct_units
from mien.ingest.run import run_ingest
from mien.ingest.toy import dataset
from mien.prepare import splits
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec, SplitSpec
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

SUBJECTS, CLIPS = 26, 364
RARE = 20  # images of a class, below which it is left out
COPY = 1 / 3  # nearer to its clip than this share of the way to the next: a copy


@dataclass(frozen=True)
class Bench:
    """People to learn from, held-out people, and a classifier trained on the first."""

    store: Store
    train: Faces
    test: Faces
    name: str  # of the run that holds the first
    judge: TrainedNetwork


def prepare(folder: Path, subjects: int = SUBJECTS, clips: int = CLIPS) -> Bench:
    """Draw the people of a benchmark in `folder`, unless they are there, and train the judge."""
    store = Store(folder / "store")
    halves = draw_halves(folder, store, subjects, clips)
    return train_judge(folder, store, halves["train"], halves["test"])


def prepare_stored(folder: Path, store: Path, train: str, test: str) -> Bench:
    """Return a benchmark on two sets of a store, with people that are in one of them only.

    Classes with fewer than `RARE` training images are neither drawn nor tested.
    """
    stored = Store(store)
    return train_judge(folder, stored, stored.run(train), stored.run(test))


def draw_halves(folder: Path, store: Store, subjects: int, clips: int) -> dict[str, Run]:
    """Draw people in `folder`, and return the people to learn from and those held out."""
    drawn = folder / "drawn"
    if not drawn.exists():
        dataset.draw(drawn, subjects, clips, balance="even")
    read = run_ingest("casme2", drawn, store, name="drawn", alias="drawn")
    chosen = run_preprocess(
        read_spec(PreprocessSpec, {"faces": read.name, "frames": "apex"}, "benchmark"), store
    )
    halves = {}
    for side in ("train", "test"):
        fields = {
            "faces": chosen.name,
            "by": "subject",
            "folds": 5,
            "number": 0,
            "seed": 0,
            "side": side,
        }
        halves[side] = splits.run_split(read_spec(SplitSpec, fields, "benchmark"), store)
    return halves


def train_judge(folder: Path, store: Store, train_run: Run, test_run: Run) -> Bench:
    """Return the people of both runs with a classifier of the first, which is kept in `folder`."""
    train, test = (Faces.load(run.path) for run in (train_run, test_run))
    emotions = train.index["emotion"]
    frequent = [name for name in train.classes if (emotions == name).sum() >= RARE]
    train, test = (
        faces.select(np.flatnonzero(faces.index["emotion"].isin(frequent).to_numpy()))
        for faces in (train, test)
    )
    kept = folder / "judge"
    if not (kept / "classifier.json").exists():
        save_network(fit_network(train, learner(train, 30), train.classes, 0, device="cpu"), kept)
    return Bench(store, train, test, train_run.name, load_network(kept, "cpu"))


def learner(faces: Faces, epochs: int) -> ClassifierSpec:
    """Return the classifier that all sides train, as long on however many images."""
    return ClassifierSpec.model_validate(
        {"name": "tiny", "size": 48, "epochs": epochs, "weights": "none", "batch": 32}
    )


def wanted(classes: tuple[str, ...], count: int) -> np.ndarray:
    """Return `count` labels (places in EMOTIONS), as even as can be."""
    return np.array(
        [EMOTIONS.index(classes[place % len(classes)]) for place in range(count)], dtype=np.int64
    )


def as_faces(images: UInt8[np.ndarray, "n c h w"], labels: np.ndarray) -> Faces:
    """Return generated images with what they were asked to show."""
    keys = [f"made/{place}" for place in range(len(images))]
    return Faces(
        images, make_index(images, key=keys, emotion=[EMOTIONS[label] for label in labels])
    )


def some(faces: Faces, count: int, seed: int = 0) -> Faces:
    """Return at most `count` images, as even over classes as can be, none of them twice."""
    rng, places = np.random.default_rng(seed), []
    for number, emotion in enumerate(faces.classes):
        there = np.flatnonzero((faces.index["emotion"] == emotion).to_numpy())
        each = count // len(faces.classes) + (number < count % len(faces.classes))
        places.append(rng.choice(there, min(each, len(there)), replace=False))
    return faces.select(np.concatenate(places))


def figures(bench: Bench, made: Faces) -> dict[str, float]:
    """Return the figures of a set of images, in the judge's features.

    `fd_test` and `fd_train` are Fréchet distances to held-out people and to those that were
    learnt from, `precision` and `recall` against one image a clip of the latter, `agreement` the
    share of labels that the judge shares, `copies` the share of images that lie within a third of
    the way from a clip to the next.
    """
    seen = extract_features(bench.judge, made)
    train, test = (extract_features(bench.judge, faces) for faces in (bench.train, bench.test))
    index = bench.train.index
    clips, subjects = (name_distinct_units(index, unit) for unit in ("clip", "subject"))
    first = np.unique(clips, return_index=True)[1]  # images without a clip are a clip each
    near = distances.find_neighbours(train[first], seen, 3)
    answers = predict_classes(bench.judge, made).argmax(axis=1)
    pixels = [
        faces.images.reshape(len(faces), -1).astype(np.float32) / 255
        for faces in (made, bench.train)
    ]
    owners = make_owners(clips, subjects)
    ratios = match_features(pixels[0], pixels[1], owners).ratio_clip
    return {
        "fd_test": distances.compute_frechet_distance(seen, test),
        "fd_train": distances.compute_frechet_distance(seen, train),
        "precision": float(near.near_real.mean()),
        "recall": float(near.near_synthetic.mean()),
        "agreement": float(np.mean(answers == made.number_labels(bench.judge.classes))),
        "copies": float(np.mean(ratios < COPY)),
    }


def count_copies(bench: Bench, made: Faces) -> float:
    """Return the audit's share of images that are nearer to one clip than chance allows."""
    measured = measure_memorisation(bench.train, bench.test, made, {})
    found = {record.metric: record.value for record in measured.records if not record.part}
    return float(found["memorisation.copied.pixels"])


def score(bench: Bench, train: Faces, updates: int, seeds: int = 3) -> list[float]:
    """Return the accuracy on held-out people of classifiers trained on `train`, one per seed, for
    so many updates.
    """
    epochs = max(1, round(updates / max(1, len(train) // 32)))
    found = []
    for seed in range(seeds):
        fitted = fit_network(train, learner(train, epochs), bench.train.classes, seed, device="cpu")
        answers = predict_classes(fitted, bench.test).argmax(axis=1)
        found.append(float(np.mean(answers == bench.test.number_labels(bench.train.classes))))
    return found


class Clock:
    """Processor seconds of this process, whatever else runs here."""

    def __init__(self) -> None:
        self.began = time.process_time()

    @property
    def seconds(self) -> float:
        """How many have passed."""
        return time.process_time() - self.began
