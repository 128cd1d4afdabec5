"""Trials: one training of a classifier, and its tests on faces that it must not have seen."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from mien import classifiers, controls, metrics, splits
from mien.classifiers import ClassifierSpec
from mien.controls import Baseline
from mien.faces import Faces, concat
from mien.spec import Spec
from mien.stats import Record
from mien.store import Run, Store

Source = Literal["real", "synthetic", "copycat"]
Training = Literal["real", "synthetic", "both", "copycat", "both_copycat"]
Setting = Literal[
    "real_to_real",
    "synthetic_to_synthetic",
    "real_to_synthetic",
    "synthetic_to_real",
    "both_to_real",
]
SETTINGS: dict[str, tuple[Training, Source]] = {
    "real_to_real": ("real", "real"),
    "synthetic_to_synthetic": ("synthetic", "synthetic"),
    "real_to_synthetic": ("real", "synthetic"),
    "synthetic_to_real": ("synthetic", "real"),
    "both_to_real": ("both", "real"),
}
"""The training set and the test set of each setting."""

PARTS: dict[Training, tuple[Source, ...]] = {
    "real": ("real",),
    "synthetic": ("synthetic",),
    "both": ("real", "synthetic"),
    "copycat": ("copycat",),
    "both_copycat": ("real", "copycat"),
}
"""The sources that make up each training set."""

COPIES: dict[str, Any] = {"synthetic": "copycat", "both": "both_copycat"}
"""The training or test set that replaces a synthetic one if the copycat is the generator."""

HELD_OUT = 5  # one in five synthetic images is used for tests, the others for training


class TrialSpec(Spec):
    """One training of one classifier, and its tests.

    `by`, `folds`, `number` and `split_seed` say how the real faces are split; `synthetic` and
    `copycat` are the runs of the databases, or empty if none is used. `permuted` is the seed by
    which the labels of all real faces are permuted, or None.
    """

    stage: ClassVar[str] = "trial"
    faces: str
    synthetic: str
    copycat: str
    by: splits.By
    folds: int
    number: int
    split_seed: int
    train: Training
    tests: tuple[Source, ...]
    classifier: ClassifierSpec | Baseline
    permuted: int | None = None
    classes: tuple[str, ...]
    trial: int
    seed: int

    @property
    def called(self) -> str:
        """The printed name of the classifier."""
        return self.classifier if isinstance(self.classifier, str) else self.classifier.name


def run_trial(spec: TrialSpec, store: Store, device: str = "auto") -> Run:
    """Return the run of a trial, trained and tested now if it is not done yet.

    predictions.parquet has one row per test image: test (which set), key, subject, clip, true,
    predicted and p_CLASS. records.json has accuracy, uf1 and uar of each test set, named
    `set/level/metric`, by image and, except with splits by frame, by clip.

    Raises LeakageError if a test set holds a clip, subject or dataset that the training saw.
    """

    def build(out: Path, scratch: Path) -> None:
        train, tests = sides(spec, store)
        answer, about = _answerer(spec, train, store, scratch, device)
        tables = [_predicted(answer(faces), name, faces, spec) for name, faces in tests.items()]
        table = pd.concat(tables, ignore_index=True)
        table.to_parquet(out / "predictions.parquet", index=False)
        records = [record for name in spec.tests for record in _records(table, name, spec)]
        write_json(out / "records.json", [asdict(record) for record in records])
        accuracies = ", ".join(
            f"{r.metric.split('/')[0]} {r.value:.1%}" for r in records if r.metric.endswith(LEAD)
        )
        summary = {
            "holds": f"{spec.called} trained on {spec.train}, accuracy {accuracies}",
            "trained": len(train),
        }
        write_json(out / "summary.json", {**summary, **about})

    return store.make(spec, build)


Answer = Callable[[Faces], Float[np.ndarray, "n classes"]]


def _answerer(
    spec: TrialSpec, train: Faces, store: Store, scratch: Path, device: str
) -> tuple[Answer, dict[str, Any]]:
    """Return a function from faces to class probabilities, and facts of its training."""
    classifier = spec.classifier
    if isinstance(classifier, str):
        return lambda faces: controls.predict(classifier, train, faces, spec.classes), {}
    file = classifiers.adopted(classifier, store)
    fitted = classifiers.fit(train, classifier, spec.classes, spec.seed, scratch, device, file)
    return lambda faces: classifiers.predict(fitted, faces), {"weights": fitted.origin}


LEAD = "images/accuracy"


def sides(spec: TrialSpec, store: Store) -> tuple[Faces, dict[str, Faces]]:
    """Return the faces that a trial is trained on, and those of each test.

    Raises LeakageError if, by clip, subject or dataset, a real test image is of a clip, subject or
    dataset that is in the training set or that its generator saw.
    """
    # The split of the real faces; labels are permuted after it, so it stays the same
    real = Faces.load(store.run(spec.faces).path)
    fold = splits.split(real, spec.by, spec.folds, spec.number, spec.split_seed)
    if spec.permuted is not None:
        real = controls.permuted(real, spec.permuted)
    sources: dict[Source, tuple[Faces, Faces]] = {}
    if "real" in {*PARTS[spec.train], *spec.tests}:
        sources["real"] = (real.select(fold.train), real.select(fold.test))

    # One in five images of each database is kept for tests
    databases: tuple[tuple[Source, str], ...] = (
        ("synthetic", spec.synthetic),
        ("copycat", spec.copycat),
    )
    for name, run in databases:
        if run:
            faces = Faces.load(store.run(run).path)
            split = splits.split(faces, "frame", HELD_OUT, 0, spec.split_seed)
            sources[name] = (faces.select(split.train), faces.select(split.test))

    first, *more = PARTS[spec.train]
    train = concat(sources[name][0] for name in (first, *more)) if more else sources[first][0]
    tests = {str(name): sources[name][1] for name in spec.tests}

    # Only real test images can be unseen: synthetic ones are made from the training side
    if spec.by != "frame" and "real" in tests:
        splits.require_unseen(train, tests["real"], spec.by)
    return train, tests


def _predicted(
    probabilities: Float[np.ndarray, "n classes"], name: str, faces: Faces, spec: TrialSpec
) -> pd.DataFrame:
    """Return the predictions of one test set as a table with a row per image."""
    true = faces.labels(spec.classes)
    table = metrics.predictions(
        list(faces.index["key"]), list(faces.index["clip"]), true, probabilities, spec.classes
    )
    table.insert(0, "test", name)
    table.insert(2, "subject", list(faces.index["subject"]))
    return table


def _records(table: pd.DataFrame, name: str, spec: TrialSpec) -> Iterator[Record]:
    """Yield the records of one test set, by image and, for real tests without frames, by clip."""
    rows = table.loc[table["test"] == name]
    for level in metrics.LEVELS[:1] if name != "real" or spec.by == "frame" else metrics.LEVELS:
        scores = metrics.score_table(rows, spec.classes, level)
        if scores is not None:
            for metric in metrics.METRICS:
                yield Record(f"{name}/{level}/{metric}", scores.of(metric), scores.n, run=spec.name)


# Files


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
