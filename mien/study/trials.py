"""Trials: one training of a classifier, and its tests on faces it never saw."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mien import metrics
from mien.classifiers.curves import CURVE_FILE, write_curve
from mien.classifiers.kinds import FittedClassifier, fit_classifier
from mien.faces import Faces, concatenate
from mien.prepare import splits
from mien.prepare.action_units import encode_units
from mien.prepare.views import load_like
from mien.runs.store import Run, RunSummary, Store
from mien.study.controls import permute_labels
from mien.study.inflation import EPOCHS_FILE
from mien.study.motion_controls import MOTION_CHANGES
from mien.study.predictions import list_accuracies, write_predictions
from mien.study.settings import SOURCES_OF, SYNTHETIC_TEST_DIVISOR, Source
from mien.study.specs import TrialSpec
from mien.study.unit_scores import tabulate_answers
from mien.study.uses.choose import choose_rows


def run_trial(spec: TrialSpec, store: Store, device: str = "auto") -> Run:
    """Return the run of a trial, trained and tested now if it is not done yet.

    predictions.parquet has one row per test image: test (which set), key, subject, clip, true,
    predicted and p_CLASS. Where action units are the target, it has true_UNIT (0 or 1) and p_UNIT
    in place of these three. records.json has accuracy, uf1 and uar of each test set, named
    `set/level/metric`, by image and, except with splits by frame, by clip. curve.csv has the
    learning curve of a network, a row per epoch: epoch, loss, accuracy, validation_accuracy.

    Raises LeakageError if a test set holds a clip, subject or dataset that the training saw.
    """

    def build(out: Path, scratch: Path) -> RunSummary:
        # Train, and predict each test set
        train, tests = load_train_and_tests(spec, store)
        epochs = EpochAnswers(tests["real"], scratch) if spec.keeps_epochs else None
        fitted = fit_classifier(
            train,
            spec.classifier,
            spec.classes,
            spec.seed,
            store,
            scratch=scratch,
            device=device,
            watch=epochs.add if epochs else None,
            units=spec.units,
            use=spec.use,
        )
        if epochs:
            np.save(out / EPOCHS_FILE, epochs.collect(), allow_pickle=False)
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
            f"{test} {record.value:.3f}" if spec.units else f"{test} {record.value:.1%}"
            for test, record in list_accuracies(table, spec.name, fields).items()
        )
        scored = "mean F1" if spec.units else "accuracy"
        return {
            "holds": f"{spec.called} trained on {spec.train}, {scored} {accuracies}",
            "trained": len(train),
            **fitted.facts,
        }

    return store.make(spec, build)


class EpochAnswers:
    """The answers of a network on test images after each epoch.

    They are kept in the folder `scratch`, so that a training that resumes has those of the epochs
    before its checkpoint.
    """

    def __init__(self, faces: Faces, scratch: Path) -> None:
        self.faces, self.folder = faces, scratch / "epochs"
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, network: FittedClassifier, epoch: int) -> None:
        """Keep the answers after an epoch, whose number is from 1."""
        answers = network.predict(self.faces).argmax(axis=1).astype(np.int16)
        np.save(self._name_file(epoch), answers, allow_pickle=False)

    def collect(self) -> Int[np.ndarray, "epochs n"]:
        """Return the class numbers that were predicted, with a row for each epoch."""
        count = len(list(self.folder.glob("*.npy")))
        return np.stack(
            [np.load(self._name_file(epoch), allow_pickle=False) for epoch in range(1, count + 1)]
        )

    def _name_file(self, epoch: int) -> Path:
        return self.folder / f"{epoch:06d}.npy"


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
    train_side = splits.keep_people(real, fold.train, spec.people, spec.split_seed)
    if "real" in {*SOURCES_OF[spec.train], *spec.tests}:
        sources["real"] = (real.select(train_side), real.select(fold.test))

    # One in five images of each database is kept for tests, unless its use is another one
    for name, run in spec.databases.items():
        faces = load_like(store.run(run), store.run(spec.faces), store)
        if spec.has_own_use:
            sources[name] = (_choose_images(faces, real.select(train_side), spec), faces[:0])
            continue
        split = splits.split(faces, "frame", SYNTHETIC_TEST_DIVISOR, 0, spec.split_seed)
        sources[name] = (faces.select(split.train), faces.select(split.test))

    first, *rest = SOURCES_OF[spec.train]
    train = concatenate(sources[name][0] for name in (first, *rest)) if rest else sources[first][0]
    tests = {str(name): sources[name][1] for name in spec.tests}

    # Only real test images can be unseen: synthetic ones are made from the training side
    if spec.by != "frame" and "real" in tests:
        splits.require_unseen(train, tests["real"], spec.by)
    return train, tests


def _choose_images(faces: Faces, real: Faces, spec: TrialSpec) -> Faces:
    """Return the images of a database that the way of use of a trial takes."""
    balance = spec.use is not None and spec.use.balance
    rows = choose_rows(
        list(faces.index["emotion"]), list(real.index["emotion"]), spec.ratio, balance, spec.seed
    )
    return faces.select(rows)


def tabulate_predictions(
    probabilities: Float[np.ndarray, "n classes"], name: str, faces: Faces, spec: TrialSpec
) -> pd.DataFrame:
    """Return the predictions of one test set as a table with a row per image."""
    if spec.units:
        texts, columns = list(faces.index["action_units"]), [str(unit) for unit in spec.units]
        return tabulate_answers(
            probabilities, encode_units(texts, columns), name, faces, spec.units
        )
    true = faces.number_labels(spec.classes)
    table = metrics.make_predictions(
        list(faces.index["key"]), list(faces.index["clip"]), true, probabilities, spec.classes
    )
    table.insert(0, "test", name)
    table.insert(2, "subject", list(faces.index["subject"]))
    return table
