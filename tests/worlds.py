"""Small worlds that the tests share: faces, stores, studies, generators, and commands."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mien.classifiers import fit
from mien.classifiers.fit import fit_network
from mien.classifiers.predict import TrainedNetwork
from mien.classifiers.specs import ClassifierSpec
from mien.cli import main
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.base import describe_origins
from mien.generators.diffusion import heldout
from mien.generators.diffusion.centre import compute_centres
from mien.generators.diffusion.losses import LossWatch
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.unet import UNet
from mien.generators.kinds import fit_generator
from mien.generators.presets import PRESETS
from mien.generators.specs import (
    KIND_FACTS,
    DecoderNetSpec,
    GeneratorSpec,
    NetSpec,
    OnePassSpec,
    SteppedSpec,
    TrainSpec,
    read_training,
)
from mien.prepare import splits
from mien.runs import checkpoints
from mien.runs.spec import Spec
from mien.runs.store import Run, Store
from mien.seeds import derive_seed, make_rng
from mien.study import trials
from mien.study.databases import list_databases
from mien.study.fields import StudyFile
from mien.study.file import resolve
from mien.study.plan import plan_rows, plan_study, write_study
from mien.study.predictions import PREDICTIONS_FILE
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS
from mien.study.specs import StudySpec, TrialRow, TrialSpec

# Commands

TINY_TRAINING = [
    "net.width=8",
    "net.multipliers=[1]",
    "net.attention=[]",
    "batch=8",
    "images_seen=160",
]

STUDY_TEXT = """
name = "tiny-study"
faces = "faces"
protocol = "subject"
folds = 2
trials = 1
settings = ["real_to_real", "synthetic_to_real"]
classifiers = ["tiny"]
controls = ["nearest", "copycat"]
counts = "balanced:14"

[classifier]
epochs = 1

[generator]
preset = "smoke"
images_seen = 64
batch = 8
net = { width = 8, multipliers = [1], attention = [] }
"""


def mien(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a command in `folder`, expect its exit code, and return what it printed."""
    done = start(folder, *arguments)
    out, err = done.communicate(timeout=200)
    assert done.returncode == code, out + err
    assert "Traceback" not in err
    return out + err


def inside(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a command in this process, which has loaded torch already, expect its exit code, and
    return what it printed.
    """
    ended, text = run_inside(folder, *arguments)
    assert ended == code, text
    return text


def run_inside(folder: Path, *arguments: str, columns: int = 120) -> tuple[int, str]:
    """Run a command in this process, in a terminal of so many columns; return its exit code and
    what it printed.
    """
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
        patch.chdir(folder)
        patch.setenv("MIEN_STORE", str(folder / "store"))
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "argv", ["mien", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert "Traceback" not in out.getvalue()
    return int(ended.value.code or 0), out.getvalue()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in `folder` and do not wait for it."""
    environment = {**os.environ, "MIEN_STORE": str(folder / "store"), "COLUMNS": "120"}
    return subprocess.Popen(
        [sys.executable, "-m", "mien", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a background job may ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def settings(*texts: str) -> list[str]:
    """The options that set each of these fields."""
    return [part for text in texts for part in ("--set", text)]


# Faces whose emotion a classifier learns

CLASSES = ("fear", "happiness", "sadness", "surprise")

PLACES = ((4, 4), (4, 12), (12, 4), (12, 12))  # where the blob of each class is: row, column


def blobs(
    n: int = 96, size: int = 16, seed: int = 0, subjects: int = 6, noise: float = 25
) -> Faces:
    """Faces whose emotion is the place of a bright blob; each subject has a clip of each class."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % len(CLASSES)
    subject = np.arange(n) // len(CLASSES) % subjects
    rows, columns = np.mgrid[:size, :size]
    images = rng.normal(90, noise, (n, 1, size, size))
    for image, place in zip(images, label, strict=True):
        y, x = (part * size / 16 + rng.normal(0, 0.5) for part in PLACES[place])
        image += 120 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (size / 6) ** 2)
    images = images.clip(0, 255).astype(np.uint8)
    clip = [f"blobs:s{who}/{CLASSES[place]}" for who, place in zip(subject, label, strict=True)]
    index = make_index(
        images,
        key=[f"blobs/{clip[number]}/{number}" for number in range(n)],
        dataset="blobs",
        subject=[f"blobs:s{who}" for who in subject],
        clip=clip,
        frame=list(range(n)),
        phase="apex",
        emotion=[CLASSES[place] for place in label],
        licence="CC0-1.0",
    )
    return Faces(images, index)


def show_as(faces: Faces, shown: tuple[str, ...]) -> Faces:
    """Grey faces whose only channel is shown as each of the channels `shown`."""
    return Faces(np.repeat(faces.images, len(shown), axis=1), faces.index, None, shown)


def tiny(**changes: Any) -> ClassifierSpec:
    """A classifier that learns `blobs` in a second."""
    return ClassifierSpec.model_validate(
        {"name": "tiny", "size": 16, "epochs": 6, "batch": 16, **changes}
    )


# Faces whose emotion a generator learns

TINY_NET = NetSpec(width=8, multipliers=(1, 2), blocks=1, patch=2, attention=(1,), dropout=0.1)

TINY_DIFFUSION = {"net": TINY_NET, "images_seen": 72, "batch": 12, "learning_rate": 2e-3}

TINY_DECODER = DecoderNetSpec(width=8, multipliers=(1, 2), latent=4)

# Settings of the trainings of these tests, where the defaults of a kind would be slow
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "ddpm": {"kind": "ddpm", "steps": 12, "beta_last": 0.5},
    "edm": {"kind": "edm"},
    "imle": {"matched": 24, "repeats": 2},
}

HAPPY = EMOTIONS.index("happiness")


def toy(each: int = 12, size: int = 16, channels: int = 1) -> Faces:
    """Bright images for happiness, dark ones for fear, in clips of four."""
    rng = np.random.default_rng(0)
    bright = np.repeat([200, 50], each)
    images = (
        bright[:, None, None, None] + rng.normal(0, 12, (2 * each, channels, size, size))
    ).clip(0, 255)
    numbers = np.arange(2 * each)
    index = make_index(
        images.astype(np.uint8),
        key=[f"toy/{n}" for n in numbers],
        dataset="toy",
        subject=[f"toy:{n // 8}" for n in numbers],
        clip=[f"toy:{n // 4}" for n in numbers],
        emotion=["happiness"] * each + ["fear"] * each,
        licence="CC0",
    )
    return Faces(images.astype(np.uint8), index)


def crowd() -> Faces:
    """Eight people, each both bright and dark, so that any of them can be spared."""
    faces = toy(24)
    subjects = [f"toy:{n % 8}" for n in range(len(faces))]
    return Faces(faces.images, faces.index.assign(subject=subjects, clip=faces.index["key"]))


def spec_of(kind: str, **fields) -> TrainSpec:
    """The training of a tiny diffusion model."""
    own = OWN_FIELDS.get(kind, {"kind": kind})
    return TrainSpec.model_validate(
        {"faces": "faces-000000000000", **TINY_DIFFUSION, **own, **fields}
    )


def fitted(faces: Faces, spec: TrainSpec, folder: Path) -> Diffusion:
    """The diffusion model that `spec` makes of `faces`."""
    made = fit_generator(faces, spec, folder, device="cpu")
    assert isinstance(made, Diffusion)
    return made


ONE_PASS = [name for name, facts in KIND_FACTS.items() if issubclass(facts.spec, OnePassSpec)]


def training_of(kind: str, **fields: Any) -> GeneratorSpec:
    """The training of a generator of any kind, tiny if it is trained in steps."""
    facts, given = KIND_FACTS[kind], {"faces": "faces-000000000000", "kind": kind}
    if issubclass(facts.spec, SteppedSpec):
        own = {"net": TINY_DECODER} if issubclass(facts.spec, OnePassSpec) else {}
        given |= {**TINY_DIFFUSION, **own, **OWN_FIELDS.get(kind, {})}
    return read_training({**given, **fields}, "test")


DIFFUSIONS = {
    name: import_module(f"mien.generators.{name}")
    for name, facts in KIND_FACTS.items()
    if issubclass(facts.spec, TrainSpec)
}


def lively(net: UNet) -> UNet:
    """The network with random weights in the layers that begin at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.abs().sum() == 0:
                parameter.normal_(0, 0.1, generator=generator)
    return net.eval()


def company(kind: str) -> Diffusion:
    """A generator with a network of the size of the demo's, and random weights."""
    faces = toy(size=24)
    spec = spec_of(kind, net=NetSpec.model_validate(PRESETS["smoke"]["net"]))
    mean, offsets, deviation = compute_centres(faces, residual=True, class_offsets=False)
    torch.manual_seed(0)
    network = lively(UNet(1, spec.net))
    torch.manual_seed(1)
    early = lively(UNet(1, spec.net))
    losses, chosen = LossWatch(1, 1).make_table(), heldout.ChosenWeights(1, 0.1, None)
    return Diffusion(
        spec=spec,
        network=network,
        early=early,
        sigma_data=deviation,
        mean=mean,
        offsets=offsets,
        levels=heldout.make_empty_table(),
        chosen=chosen,
        losses=losses,
        run="",
        **describe_origins(faces),
    )


MOVED = {"happiness": 2.0, "fear": -2.0}  # pixels that the mouth of a clip moves to the right


def films(
    subjects: int = 6, clips: int = 2, size: int = 16, noise: float = 1.0, rise: int = 8
) -> Faces:
    """Whole clips in grey: a bright mouth moves to the right (happiness) or to the left (fear).

    It does so in `rise` frames, linearly, and returns in twice as many; clips differ in strength.
    Each subject has a background of its own, and each frame sensor noise.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    images, table = [], []
    for subject in range(subjects):
        face = 90 + 60 * np.sin(rows / 3 + subject) * np.cos(columns / 4 - subject)
        for emotion, moved in MOVED.items():
            for clip in range(clips):
                strength = rng.uniform(0.5, 1.5)
                for frame in range(3 * rise + 1):
                    share = strength * min(frame / rise, (3 * rise - frame) / (2 * rise))
                    mouth = columns - size / 2 - share * moved * size / 16
                    bright = 100 * np.exp(-((rows - 0.7 * size) ** 2 + mouth**2) / (size / 6) ** 2)
                    images.append(face + bright + rng.normal(0, noise, (size, size)))
                    phase = {0: "onset", rise: "apex", 3 * rise: "offset"}.get(frame, "rise")
                    table.append((f"films:s{subject}", f"{emotion}{clip}", frame, phase, emotion))
    pixels = np.array(images).round().clip(0, 255).astype(np.uint8)[:, None]
    who, names, frames, phases, emotions = zip(*table, strict=True)
    clip_names = [f"{one}/{name}" for one, name in zip(who, names, strict=True)]
    index = make_index(
        pixels,
        key=[f"{clip}/{frame}" for clip, frame in zip(clip_names, frames, strict=True)],
        dataset="films",
        subject=list(who),
        clip=clip_names,
        frame=list(frames),
        phase=list(phases),
        emotion=list(emotions),
        action_units=["12" if emotion == "happiness" else "20" for emotion in emotions],
        licence="CC0",
    )
    return Faces(pixels, index)


class FacesSpec(Spec):
    """Faces for a generator, in a store."""

    stage = "toyfaces"


def same_weights(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Stop(Exception):
    """Ends a training from within."""


def fit_with_stops(
    faces: Faces, spec: ClassifierSpec, seed: int, folder: Path, stops: tuple[int, ...], **how: Any
) -> TrainedNetwork:
    """Train a network that stops after the checkpoint of each of these steps, and goes on."""
    save = checkpoints.save_checkpoint
    for stop in stops:

        def save_and_stop(folder: Path, tensors: Any, state: Any, stop: int = stop) -> None:
            save(folder, tensors, dict(state))
            if state["step"] == stop:
                raise Stop

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit, "CHECKPOINT_EVERY_S", 0.0)
            patch.setattr(checkpoints, "save_checkpoint", save_and_stop)
            with pytest.raises(Stop):
                fit_network(faces, spec, CLASSES, seed, folder, "cpu", **how)
    return fit_network(faces, spec, CLASSES, seed, folder, "cpu", **how)


# Studies

FOUR_SETTINGS = ["real_to_real", "synthetic_to_synthetic", "real_to_synthetic", "synthetic_to_real"]

SMALL_CLASSIFIER = {"name": "tiny", "size": 16, "epochs": 3, "batch": 16}

SMALL_FIELDS = {key: value for key, value in SMALL_CLASSIFIER.items() if key != "name"}

SMALL_NET = {"width": 8, "multipliers": [1], "blocks": 1, "patch": 2, "attention": []}


class MadeSpec(Spec):
    """Faces for a study, in a store."""

    stage: ClassVar[str] = "made"
    what: str


def keep(faces: Faces, store: Store, alias: str) -> Run:
    """Put faces into the store under an alias."""
    return store.make(
        MadeSpec(what=f"{alias} {len(faces)}"), lambda out, scratch: faces.save(out), alias
    )


def table(**changes: Any) -> StudyFile:
    """A study of blobs that takes a second or two."""
    common = {
        "name": "small",
        "faces": "blobs",
        "protocol": "subject",
        "folds": 2,
        "trials": 2,
        "settings": ["real_to_real"],
        "classifiers": ["tiny"],
        "classifier": SMALL_FIELDS,
        "generator": {"preset": "smoke", "images_seen": 64, "batch": 16, "net": SMALL_NET},
        "generate": {"steps": 2},
    }
    return StudyFile.model_validate({**common, **changes})


def failing(**changes: Any) -> StudyFile:
    """A study whose second classifier diverges."""
    wild = {"name": "tiny", "optimiser": "sgd", "learning_rate": 1e18}
    return table(
        classifiers=["wild", "tiny"], classifier={**SMALL_FIELDS, "wild": wild}, trials=1, **changes
    )


# Studies whose answers are drawn by lot

FIVE_SETTINGS = [*FOUR_SETTINGS, "both_to_real"]

# of still images without action units
ALL_CONTROLS = [
    name for name, control in CONTROLS.items() if not (control.needs_movement or control.ceiling)
]

Skill = Callable[[TrialRow, str], float]
"""How often the trial of a row is right about the images of a test."""


def plan_trials(study: StudySpec, store: Store) -> list[TrialSpec]:
    """Return the trials of a study, in the order in which they are run."""
    return [row.spec for row in plan_rows(study, list_databases(study, store))]


def modest(row: TrialRow, test: str) -> float:
    """Networks are right about two in three, which is above all their controls."""
    return 0.66 if not row.control and test != "copycat" else 0.3


def written_study(
    store: Store,
    skill: Skill = modest,
    done: Callable[[TrialRow], bool] = lambda row: True,
    **changes: Any,
) -> StudyResults:
    """Keep a study whose trials were made up, right as often as `skill` says; those that are not
    `done` are missing.
    """
    # or studies of equal trials would share them
    lot = {"seed": derive_seed("study", changes.get("name", "")) % 2**31}
    spec = resolve(table(**{**lot, **changes}), store)
    plan = plan_study(spec, store)
    store.make(spec, lambda out, scratch: write_study(plan, out), alias=spec.title)
    for one in plan.databases:
        side = store.run(spec.faces) if one.split is None else splits.run_split(one.split, store)
        for used in (used for made in one.by_source.values() for used in made.all_used):
            store.make(
                used.generate,
                lambda out, scratch, s=side, m=used.generate: painted(s, m.counts, m.name).save(
                    out
                ),
            )
            if used.filter is not None:
                store.make(
                    used.filter,
                    lambda out, scratch, s=side, u=used: keep_half(
                        s, u.generate.counts, u.name, out
                    ),
                )
    # Many trials are tested on the same faces
    loaded: dict[str, dict[str, Faces]] = {}
    for row in filter(done, plan.rows):
        key = describe_tests(row.spec)
        if key not in loaded:
            _, loaded[key] = trials.load_train_and_tests(row.spec, store)
        tests = loaded[key]
        store.make(row.spec, lambda out, scratch, r=row, t=tests: guess(r, t, skill, out))
    return StudyResults(spec.title, store)


def describe_tests(spec: TrialSpec) -> str:
    """The fields on which the test faces of a trial depend, as text."""
    depends_on = {"faces", "by", "folds", "number", "split_seed", "permuted", "motion"}
    split = spec.model_dump_json(include={*depends_on, "motion_seed", "tests"})
    return f"{split} {spec.has_own_use} {[spec.databases.get(test) for test in spec.tests]}"


def painted(side: Run, counts: dict[str, int], name: str) -> Faces:
    """Grey faces with counts a class, whose generator saw all of `side`."""
    emotions = [emotion for emotion, count in counts.items() for _ in range(count)]
    size = Faces.load(side.path).size
    images = make_rng(name).integers(0, 256, (len(emotions), *size)).astype(np.uint8)
    keys = [f"{name}/{place}" for place in range(len(emotions))]
    index = make_index(images, key=keys, dataset="synthetic", emotion=emotions, source=name)
    seen = Faces.load(side.path)
    return Faces(images, index, seen.index.loc[:, ["key", "subject", "clip"]], seen.channels)


def keep_half(side: Run, counts: dict[str, int], name: str, out: Path) -> dict[str, Any]:
    """Write the half of the grey faces of each class that a filter is said to keep."""
    kept = {emotion: count // 2 for emotion, count in counts.items()}
    painted(side, kept, name).save(out)
    rows = [
        {
            "class": emotion,
            "judged": True,
            "given": count,
            "no_agreement": count - kept[emotion] - 1,
            "outside_band": 1,
            "not_chosen": 0,
            "kept": kept[emotion] - 1,
            "kept_below": 1,
        }
        for emotion, count in counts.items()
    ]
    return {"filtered": rows}


def guess(row: TrialRow, tests: dict[str, Faces], skill: Skill, out: Path) -> None:
    """Write the predictions of a trial, with answers drawn by lot; mien reads no more of it."""
    classes = row.spec.classes
    tables = []
    for name, faces in tests.items():
        way = [str(row.arm)] if row.spec.has_own_use else []
        draw = make_rng(
            row.spec.seed, row.spec.train, row.classifier, row.ablation, row.control, name, *way
        )
        true = faces.number_labels(classes)
        wrong = (true + draw.integers(1, len(classes), len(true))) % len(classes)
        given = np.where(draw.random(len(true)) < skill(row, name), true, wrong)
        tables.append(
            trials.tabulate_predictions(
                np.eye(len(classes), dtype=np.float32)[given], name, faces, row.spec
            )
        )
    pd.concat(tables, ignore_index=True).to_parquet(out / PREDICTIONS_FILE, index=False)


def more_blobs(n: int = 288, subjects: int = 12, **columns: Any) -> Faces:
    """Blobs of more people, two images a clip."""
    faces = blobs(n, size=8, subjects=subjects)
    return Faces(faces.images, faces.index.assign(**columns))
