"""Trials: one training of a classifier, and its tests on faces it never saw."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from mien import metrics
from mien.classifiers.curves import CURVE_FILE, write_curve
from mien.classifiers.kinds import fit_classifier
from mien.faces import Faces, concatenate
from mien.prepare import splits
from mien.runs.store import Run, RunSummary, Store
from mien.study.controls import permute_labels
from mien.study.motion_controls import MOTION_CHANGES
from mien.study.predictions import list_accuracies, write_predictions
from mien.study.settings import SOURCES_OF, SYNTHETIC_TEST_DIVISOR, Source
from mien.study.specs import TrialSpec


def run_trial(spec: TrialSpec, store: Store, device: str = "auto") -> Run:
    """Return the run of a trial, trained and tested now if it is not done yet.

    predictions.parquet has one row per test image: test (which set), key, subject, clip, true,
    predicted and p_CLASS. records.json has accuracy, uf1 and uar of each test set, named
    `set/level/metric`, by image and, except with splits by frame, by clip. curve.csv has the
    learning curve of a network, a row per epoch: epoch, loss, accuracy, validation_accuracy.

    Raises LeakageError if a test set holds a clip, subject or dataset that the training saw.
    """

    def build(out: Path, scratch: Path) -> RunSummary:
        # Train, and predict each test set
        train, tests = load_train_and_tests(spec, store)
        fitted = fit_classifier(
            train, spec.classifier, spec.classes, spec.seed, store, scratch=scratch, device=device
        )
        tables = [
            tabulate_predictions(fitted.predict(faces), name, faces, spec)
            for name, faces in tests.items()
        ]
        table = pd.concat(tables, ignore_index=True)

        # Write the learning curve, and the predictions with their scores; name the accuracies
        fields = spec.model_dump(mode="json")
        if fitted.curve:
            write_curve(fitted.curve, out / CURVE_FILE)
        write_predictions(table, spec.name, fields, out)
        accuracies = ", ".join(
            f"{test} {record.value:.1%}"
            for test, record in list_accuracies(table, spec.name, fields).items()
        )
        return {
            "holds": f"{spec.called} trained on {spec.train}, accuracy {accuracies}",
            "trained": len(train),
            **fitted.facts,
        }

    return store.make(spec, build)


def load_train_and_tests(spec: TrialSpec, store: Store) -> tuple[Faces, dict[str, Faces]]:
    """Return the faces that a trial is trained on, and those of each test.

    Raises LeakageError if, by clip, subject or dataset, a real test image is of a clip, subject or
    dataset that is in the training set or that its generator saw.
    """
    # The split of the real faces; labels are permuted after it, so it stays the same
    real = Faces.load(store.run(spec.faces).path)
    fold = splits.split(real, spec.by, spec.folds, spec.number, spec.split_seed)
    if spec.permuted is not None:
        real = permute_labels(real, spec.permuted)
    if spec.motion is not None:
        real = MOTION_CHANGES[spec.motion](real, spec.motion_seed or 0)
    sources: dict[Source, tuple[Faces, Faces]] = {}
    if "real" in {*SOURCES_OF[spec.train], *spec.tests}:
        sources["real"] = (real.select(fold.train), real.select(fold.test))

    # One in five images of each database is kept for tests
    for name, run in spec.databases.items():
        faces = Faces.load(store.run(run).path)
        split = splits.split(faces, "frame", SYNTHETIC_TEST_DIVISOR, 0, spec.split_seed)
        sources[name] = (faces.select(split.train), faces.select(split.test))

    first, *rest = SOURCES_OF[spec.train]
    train = concatenate(sources[name][0] for name in (first, *rest)) if rest else sources[first][0]
    tests = {str(name): sources[name][1] for name in spec.tests}

    # Only real test images can be unseen: synthetic ones are made from the training side
    if spec.by != "frame" and "real" in tests:
        splits.require_unseen(train, tests["real"], spec.by)
    return train, tests


def tabulate_predictions(
    probabilities: Float[np.ndarray, "n classes"], name: str, faces: Faces, spec: TrialSpec
) -> pd.DataFrame:
    """Return the predictions of one test set as a table with a row per image."""
    true = faces.labels(spec.classes)
    table = metrics.make_predictions(
        list(faces.index["key"]), list(faces.index["clip"]), true, probabilities, spec.classes
    )
    table.insert(0, "test", name)
    table.insert(2, "subject", list(faces.index["subject"]))
    return table
