"""Trials: one training of one classifier, and its tests on faces that it must not have seen."""

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
"""What each setting trains on and tests on."""

PARTS: dict[Training, tuple[Source, ...]] = {
    "real": ("real",),
    "synthetic": ("synthetic",),
    "both": ("real", "synthetic"),
    "copycat": ("copycat",),
    "both_copycat": ("real", "copycat"),
}
"""What a training set is put together from."""

COPIES: dict[str, Any] = {"synthetic": "copycat", "both": "both_copycat"}
"""What stands for a training or test set where the copycat takes the generator's place."""

HELD_OUT = 5  # one in so many synthetic images tests, the others train


class TrialSpec(Spec):
    """One training of one classifier, and its tests.

    `by`, `folds`, `number` and `split_seed` say how the real faces are split; `synthetic` and
    `copycat` are the runs of the databases, empty where none is used. With `permuted`, a seed, the
    labels of all real faces are dealt out anew.
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
        """The classifier's name for people."""
        return self.classifier if isinstance(self.classifier, str) else self.classifier.name


def run_trial(spec: TrialSpec, store: Store, device: str = "auto") -> Run:
    """Train and test as `spec` says, unless it is done; return its run.

    predictions.parquet has one row a test image: test (which set), key, subject, clip, true,
    predicted and p_CLASS. records.json has accuracy, uf1 and uar of each test set, named
    `set/level/metric`, at the level of images and, but for splits by frame, of clips.

    Raises LeakageError if the trial would be tested on what its training saw.
    """

    def build(out: Path, scratch: Path) -> None:
        train, tests = sides(spec, store)
        answer, about = _answerer(spec, train, store, scratch, device)
        tables = [_predicted(answer(faces), name, faces, spec) for name, faces in tests.items()]
        table = pd.concat(tables, ignore_index=True)
        table.to_parquet(out / "predictions.parquet", index=False)
        records = [record for name in spec.tests for record in _records(table, name, spec)]
        write_json(out / "records.json", [asdict(record) for record in records])
        shown = ", ".join(
            f"{r.metric.split('/')[0]} {r.value:.1%}" for r in records if r.metric.endswith(LEAD)
        )
        summary = {
            "holds": f"{spec.called} trained on {spec.train}, accuracy {shown}",
            "trained": len(train),
        }
        write_json(out / "summary.json", {**summary, **about})

    return store.make(spec, build)


Answer = Callable[[Faces], Float[np.ndarray, "n classes"]]


def _answerer(
    spec: TrialSpec, train: Faces, store: Store, scratch: Path, device: str
) -> tuple[Answer, dict[str, Any]]:
    """Return what gives each image the probabilities of the classes, and what there is to say of
    its training.
    """
    one = spec.classifier
    if isinstance(one, str):
        return lambda faces: controls.predict(one, train, faces, spec.classes), {}
    file = classifiers.adopted(one, store)
    fitted = classifiers.fit(train, one, spec.classes, spec.seed, scratch, device, file)
    return lambda faces: classifiers.predict(fitted, faces), {"weights": fitted.origin}


LEAD = "images/accuracy"


def sides(spec: TrialSpec, store: Store) -> tuple[Faces, dict[str, Faces]]:
    """Return the faces that a trial is trained on, and those of each test.

    Raises LeakageError if, by clip, subject or dataset, a real test image is of one that the
    training set holds or that its generator saw.
    """
    real = Faces.load(store.run(spec.faces).path)
    fold = splits.split(real, spec.by, spec.folds, spec.number, spec.split_seed)
    if spec.permuted is not None:
        real = controls.permuted(real, spec.permuted)
    parts: dict[Source, tuple[Faces, Faces]] = {}
    if "real" in {*PARTS[spec.train], *spec.tests}:
        parts["real"] = (real.select(fold.train), real.select(fold.test))
    databases: tuple[tuple[Source, str], ...] = (
        ("synthetic", spec.synthetic),
        ("copycat", spec.copycat),
    )
    for name, run in databases:
        if run:
            made = Faces.load(store.run(run).path)
            half = splits.split(made, "frame", HELD_OUT, 0, spec.split_seed)
            parts[name] = (made.select(half.train), made.select(half.test))
    first, *more = PARTS[spec.train]
    train = concat(parts[name][0] for name in (first, *more)) if more else parts[first][0]
    tests = {str(name): parts[name][1] for name in spec.tests}
    # Synthetic test images come from the training side by their nature: nothing in them is unseen,
    # and none is claimed.
    if spec.by != "frame" and "real" in tests:
        splits.require_unseen(train, tests["real"], spec.by)
    return train, tests


def _predicted(
    probabilities: Float[np.ndarray, "n classes"], name: str, faces: Faces, spec: TrialSpec
) -> pd.DataFrame:
    true = faces.labels(spec.classes)
    table = metrics.predictions(
        list(faces.index["key"]), list(faces.index["clip"]), true, probabilities, spec.classes
    )
    table.insert(0, "test", name)
    table.insert(2, "subject", list(faces.index["subject"]))
    return table


def _records(table: pd.DataFrame, name: str, spec: TrialSpec) -> Iterator[Record]:
    part = table.loc[table["test"] == name]
    for level in metrics.LEVELS[:1] if name != "real" or spec.by == "frame" else metrics.LEVELS:
        scores = metrics.score_table(part, spec.classes, level)
        if scores is not None:
            for metric in metrics.METRICS:
                yield Record(f"{name}/{level}/{metric}", scores.of(metric), scores.n, run=spec.name)


# Files


def write_json(path: Path, data: Any) -> None:
    """Write `data` as JSON that people can read."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
