"""At which share of copies each test of memorisation fires, and how often it fires where there are
none.

    python benchmarks/audit_power.py power --sets 5 --clean 20

Drawn people: some to learn from, others held out, and for each clean set some more whom nobody has
seen. Into a clean set go copies of training images, of one kind at a time:

    exact      as they are
    shifted    moved by 1 or 2 pixels either way
    noisy      with noise of deviation 0.05, where 1 is the step from black to white
    mirrored   left for right
    copycat    moved by up to a pixel, with that noise, as the control of the studies does
    blended    the mean of two frames of one clip
    all        mirrored, moved by up to 2 pixels, noisy
    person     exact copies of one subject alone

A test fires where the 95 % interval is beyond what is expected of held-out people: shares of
alarms above the record `chance`, shares of extreme images above 0.001, gaps and C_T on their side
of 0, the AUC above 0.5. Beside the tests stands the answer of an audit to "Is it new?" by the
default thresholds. One exact copy is enough, and one subject that is named. What was finished
lies in the folder, and is not done again.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mien import seeds
from mien.audit import verdict
from mien.audit.features import SpaceFeatures
from mien.audit.memorisation.measure import measure_memorisation
from mien.audit.memorisation.people import EXTREME_CHANCE
from mien.classifiers.fit import fit_network
from mien.classifiers.predict import TrainedNetwork, extract_features, load_network, save_network
from mien.classifiers.specs import ClassifierSpec
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.gaussian import fit, sample
from mien.generators.specs import GaussianSpec, SamplerSpec
from mien.ingest.toy.dataset import ACTION_UNIT_WEIGHTS
from mien.ingest.toy.head import DrawnHead, Pose, apply_pose, invent_identity
from mien.stats import Record

KINDS = ("exact", "shifted", "noisy", "mirrored", "copycat", "blended", "all", "person")
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1)
DRAWN = (102, 84)  # height and width that people are drawn at, before they become 48 x 48
NOISE = 0.05
SEEDS = 1000  # of people, that a seed of the whole has for its own
LIMITS: dict[str, float | None] = {
    "exact": 0,
    "copied": None,  # what is expected by chance
    "person": None,
    "extreme": EXTREME_CHANCE,
    "identity": None,
    "identity_extreme": EXTREME_CHANCE,
    "near_gap": 0,
    "authentic_gap": 0,
    "ct": 0,
    "membership": 0.5,
}
BELOW = ("authentic_gap", "ct")


def people(seed: int, numbers: Iterable[int], clips: int = 4, frames: int = 8) -> Faces:
    """Return drawn people, each in some clips of an expression that rises, as grey faces of 48
    pixels a side.
    """
    images, rows = [], []
    for number in numbers:
        head = DrawnHead(invent_identity(seed, number), DRAWN)
        neutral = head.draw({})
        for clip in range(clips):
            rng = seeds.make_rng("people", seed, number, clip)
            emotion = list(ACTION_UNIT_WEIGHTS)[(clip + number) % len(ACTION_UNIT_WEIGHTS)]
            units = str(rng.choice(list(ACTION_UNIT_WEIGHTS[emotion])))
            apex = head.draw({unit: float(rng.uniform(0.7, 1)) for unit in units.split("+")})
            home = rng.normal(0, (0.3, 0.3, 0.5, 0.004))
            for frame in range(frames):
                part = 0.4 + 0.6 * frame / max(1, frames - 1)
                x, y, angle, scale = (home + rng.normal(0, (0.1, 0.1, 0.1, 0.0006))).tolist()
                face = cv2.addWeighted(neutral, 1 - part, apex, part, 0)
                picture = Image.fromarray(
                    apply_pose(face, Pose(x, y, angle, 1 + scale), DRAWN)
                ).convert("L")
                grey = np.asarray(picture.resize((48, 48), Image.Resampling.LANCZOS))
                images.append(_rounded(grey + rng.normal(0, 1, grey.shape))[None])
                name = f"{seed}-{number}"
                rows.append(
                    (
                        f"drawn/{name}/{clip}/{frame}",
                        f"drawn:{name}",
                        f"drawn:{name}/{clip}",
                        frame,
                        emotion,
                    )
                )
    keys, subjects, names, places, emotions = (list(column) for column in zip(*rows, strict=True))
    pixels = np.stack(images)
    about = {"subject": subjects, "clip": names, "frame": places, "emotion": emotions}
    return Faces(pixels, make_index(pixels, key=keys, dataset="drawn", licence="CC0", **about))


def copies(
    train: Faces, kind: str, count: int, seed: int
) -> tuple[UInt8[np.ndarray, "n c h w"], list[str]]:
    """Return so many copies of training images, spread over subjects, and the emotions of their
    originals.
    """
    rng = seeds.make_rng("copies", kind, seed)
    subjects = train.index["subject"].to_numpy()
    turns = rng.permutation(len(train.subjects))
    if kind == "person":
        turns = turns[:1]
    places = [
        int(rng.choice(np.flatnonzero(subjects == train.subjects[turns[turn % len(turns)]])))
        for turn in range(count)
    ]
    made = [_copy(train, place, kind, rng) for place in places]
    emotions = train.index["emotion"].iloc[places].tolist()
    return np.stack(made) if made else np.zeros((0, *train.size), dtype=np.uint8), emotions


def _copy(
    train: Faces, place: int, kind: str, rng: np.random.Generator
) -> UInt8[np.ndarray, "c h w"]:
    image = train.images[place].astype(np.float64)
    if kind == "blended":
        clip = train.index["clip"]
        others = np.flatnonzero(
            (clip == clip.iloc[place]).to_numpy() & (np.arange(len(train)) != place)
        )
        image = (image + train.images[rng.choice(others)]) / 2
    if kind in ("mirrored", "all"):
        image = image[:, :, ::-1]
    reach = {"shifted": 2, "all": 2, "copycat": 1}.get(kind, 0)
    down, right = rng.integers(-reach, reach + 1, 2)
    if kind == "shifted" and not (down or right):
        down = 1
    wide = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    _, height, width = image.shape
    image = wide[:, reach - down : reach - down + height, reach - right : reach - right + width]
    if kind in ("noisy", "all", "copycat"):
        image = image + rng.normal(0, 255 * NOISE, image.shape)
    return _rounded(image)


def _rounded(image: np.ndarray) -> UInt8[np.ndarray, "..."]:
    return image.clip(0, 255).round().astype(np.uint8)


def as_made(images: UInt8[np.ndarray, "n c h w"], emotions: list[str]) -> Faces:
    """Return images as a generator's, whose subjects nobody knows."""
    keys = [f"made/{place}" for place in range(len(images))]
    return Faces(images, make_index(images, key=keys, emotion=emotions, source="made"))


def planted(train: Faces, clean: Faces, kind: str, count: int, seed: int) -> Faces:
    """Return clean images, so many of which copies have replaced, spread over the set."""
    images, emotions = np.array(clean.images), clean.index["emotion"].tolist()
    places = seeds.make_rng("planted", kind, seed).permutation(len(clean))[:count]
    images[places], copied = copies(train, kind, count, seed)
    for place, emotion in zip(places.tolist(), copied, strict=True):
        emotions[place] = emotion
    return as_made(images, emotions)


def fired(records: Iterable[Record]) -> dict[str, bool]:
    """Return for each test over the whole set whether it fires, and for `subject` whether anybody
    is named.
    """
    records = list(records)
    chance = next(record.value for record in records if record.metric == "memorisation.chance")
    told = {"subject": any(record.metric == "memorisation.subject" for record in records)}
    for record in records:
        name = record.metric.split(".")[1]
        if name in LIMITS and not record.part:
            limit = LIMITS[name]
            told[record.metric.removeprefix("memorisation.")] = _beyond(
                record, chance if limit is None else limit
            )
    return told


def _beyond(record: Record, limit: float) -> bool:
    """Whether the record's interval, or its value where there is none, lies beyond a limit: below
    it for BELOW.
    """
    if record.metric.split(".")[1] in BELOW:
        return (record.value if record.high is None else record.high) < limit
    return (record.value if record.low is None else record.low) > limit


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="At which share of copies each test of memorisation fires."
    )
    parser.add_argument("folder", type=Path, help="where results are kept")
    parser.add_argument("--images", type=int, default=1000, help="of a synthetic set")
    parser.add_argument(
        "--people", type=int, nargs=2, default=(24, 16), help="to learn from, and held out"
    )
    parser.add_argument(
        "--sets", type=int, default=5, help="sets with copies, of each kind and share"
    )
    parser.add_argument("--clean", type=int, default=20, help="sets without")
    parser.add_argument("--seed", type=int, default=0, help="of the people that are drawn")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    learnt, held = given.people
    bench = _Bench(given.folder, learnt, held, given.images, given.seed)
    print(
        f"{len(bench.train)} images of {learnt} drawn people to learn from, {len(bench.test)} of "
        f"{held} held out, {given.images} synthetic images a set, {given.sets} sets with copies a "
        f"cell, {given.clean} without, seed {given.seed}",
        flush=True,
    )
    free = [bench.told("clean", 0, seed) for seed in range(given.clean)]
    gaussian = [bench.told("gaussian", 0, seed) for seed in range(given.sets)]
    shares = " | ".join(f"{100 * share:g} %" for share in SHARES)
    print(
        f"false alarms\n| test | other people, of {given.clean} | Gaussian, of {given.sets} |\n| "
        "--- | --: | --: |"
    )
    for test in free[0]:
        print(f"| {test} | {_count(free, test)} | {_count(gaussian, test)} |")
    print(f"answers, clean: {bench.answers('clean', 0, given.clean)}")
    print(f"answers, Gaussian: {bench.answers('gaussian', 0, given.sets)}")
    for kind in given.kinds:
        counts = [max(1, round(share * given.images)) for share in SHARES]
        rows = [[bench.told(kind, count, seed) for seed in range(given.sets)] for count in counts]
        print(f"\n{kind}: fires, of {given.sets} sets\n| test | {shares} |")
        print(f"| --- {'| --: ' * len(SHARES)}|", flush=True)
        for test in free[0]:
            print(f"| {test} | {' | '.join(str(_count(row, test)) for row in rows)} |")
        for count in counts:
            print(f"answers, {count} copies: {bench.answers(kind, count, given.sets)}")


def _count(found: list[dict[str, bool]], test: str) -> int:
    return sum(told.get(test, False) for told in found)


@lru_cache(maxsize=8)
def strangers(seed: int, images: int) -> Faces:
    """Return so many images of people who are in no other set."""
    return people(100 + seed, range(-(-images // 32))).select(np.arange(images))


class _Bench:
    """Drawn people, a judge trained on the first, and a Gaussian of them."""

    def __init__(self, folder: Path, learnt: int, held: int, images: int, seed: int) -> None:
        self.folder, self.images, self.base = folder, images, SEEDS * seed
        self.train, self.test = people(self.base, range(learnt)), people(self.base + 1, range(held))
        self.name = f"{learnt}-{held}-{images}-{seed}"
        self.judge = self._judge()
        self.seen = [extract_features(self.judge, faces) for faces in (self.train, self.test)]

    def _judge(self) -> TrainedNetwork:
        kept = self.folder / f"judge-{self.name}"
        if not (kept / "classifier.json").exists():
            given = {"name": "tiny", "size": 48, "epochs": 20, "weights": "none", "batch": 32}
            spec = ClassifierSpec.model_validate(given)
            save_network(fit_network(self.train, spec, self.train.classes, 0, device="cpu"), kept)
        return load_network(kept, "cpu")

    def answers(self, kind: str, count: int, sets: int) -> dict[str, int]:
        """Return how often an audit of so many sets gives each answer to "Is it new?"."""
        limits = {
            metric: fields
            for metric, fields in verdict.read_thresholds().items()
            if metric.startswith("memorisation.")
        }
        held_out = verdict.HeldOut(len(self.test.subjects))
        return Counter(
            question.verdict
            for seed in range(sets)
            for question in verdict.answer_questions(
                verdict.judge(self.records(kind, count, seed), limits, held_out)
            )
            if "memorisation" in verdict.QUESTIONS[question.title]
        )

    def told(self, kind: str, count: int, seed: int) -> dict[str, bool]:
        """Return which tests fire on a set."""
        return fired(self.records(kind, count, seed))

    def records(self, kind: str, count: int, seed: int) -> list[Record]:
        """Return what was measured on a set; it is kept."""
        kept = self.folder / f"{self.name}-{kind}-{count}-{seed}.json"
        if not kept.exists():
            made = self.made(kind, count, seed)
            sides = SpaceFeatures(self.seen[0], self.seen[1], extract_features(self.judge, made))
            found = measure_memorisation(self.train, self.test, made, {"judge": sides})
            kept.write_text(json.dumps([asdict(record) for record in found.records]))
        return [Record(**fields) for fields in json.loads(kept.read_text())]

    def made(self, kind: str, count: int, seed: int) -> Faces:
        """Return a synthetic set: other people with so many copies, or what a Gaussian draws."""
        if kind == "gaussian":
            spec = GaussianSpec(kind="gaussian", faces="drawn")
            model = fit(self.train, spec, self.folder)
            labels = np.array([EMOTIONS.index(name) for name in self.train.classes], dtype=np.int64)
            labels = np.resize(labels, self.images)
            numbers = np.arange(self.images, dtype=np.int64) + self.images * (self.base + seed)
            drawn = sample(model, labels, numbers, SamplerSpec())
            return as_made(drawn, [EMOTIONS[label] for label in labels])
        seed += self.base
        return planted(self.train, strangers(seed, self.images), kind, count, seed)


if __name__ == "__main__":
    main()
