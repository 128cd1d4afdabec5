"""Results of a study: the scores of each cell, next to those of its controls.

They are computed from the predictions of finished trials, so they can be read at any time. A cell
with a missing trial is a hole, never a mean of the trials that are done.
"""

from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mien import metrics, published
from mien.classifiers.baselines import BASELINES
from mien.errors import StoreError
from mien.faces import OWNER_COLUMNS, Faces, name_units
from mien.runs.files import read_error
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store
from mien.stats import Record
from mien.study.cells import (
    LEAK_ACCURACY,
    Comparison,
    ResultCell,
    Verdict,
    compare_cells,
    count_once,
    estimate_gap,
    group_predictions,
)
from mien.study.inflation import Inflation, measure_inflation, read_epochs
from mien.study.motion_controls import shows_motion
from mien.study.plan_file import TrialRecord, read_record
from mien.study.predictions import list_levels, read_predictions, score_predictions
from mien.study.settings import CONTROLS, Arm, draws_at_random, find_setting, name_under_control
from mien.study.sources import find_withheld_sources
from mien.study.specs import OwnInput
from mien.study.training_sides import TrainingSide, count_training_side
from mien.study.unit_scores import UnitCell, score_units
from mien.study.uses.table import UseSpec


class StudyResults:
    """The results of a study, read from its runs."""

    def __init__(self, name: str, store: Store) -> None:
        self.store = store
        self.run = find_study_run(name, store)
        self.spec: dict[str, Any] = self.run.spec
        self.plan = read_record(self.run)
        self.title = str(self.spec["title"])
        self.protocol = str(self.spec["protocol"])
        self.classes = tuple(self.spec["classes"])
        self.settings = list(self.plan.settings)
        self.classifiers = list(self.plan.classifiers)
        self.ablations = list(self.plan.ablations)
        self.trials = self.plan.trials
        self._predictions: dict[str, pd.DataFrame] = {}
        self._training_sides: dict[float | None, TrainingSide] = {}
        self._verdicts: dict[tuple[int, str], tuple[ResultCell, list[Verdict]]] = {}

    @property
    def like(self) -> bool:
        """Whether its classes are the preprint's seven, as comparisons with it need."""
        return set(self.classes) == set(published.PREPRINT_CLASSES)

    @cached_property
    def done(self) -> dict[str, Run]:
        """The runs of the finished and unaltered trials, by name."""
        names = [
            name
            for name in self.runs
            if self.store.is_done(name) and not self.store.explain_alteration(name)
        ]
        return {name: self.store.run(name) for name in names}

    @cached_property
    def failed(self) -> list[tuple[TrialRecord, str]]:
        """The failed and altered trials, each run once, with the first error of each."""
        missing = {trial.run: trial for trial in self.trials if trial.run not in self.done}
        with_errors = [
            (trial, self.store.explain_alteration(name) or read_error(self.store.root / trial.note))
            for name, trial in missing.items()
        ]
        return [(trial, error) for trial, error in with_errors if error]

    @cached_property
    def altered(self) -> list[str]:
        """A message for each run, databases included, that was altered after it was made."""
        names = [name for database in self.plan.databases for name in database.runs]
        return [
            text
            for name in dict.fromkeys([*names, *self.runs])
            if (text := self.store.explain_alteration(name))
        ]

    @property
    def runs(self) -> list[str]:
        """The names of all trials, each once: a control without randomness has only one run."""
        return list(dict.fromkeys(trial.run for trial in self.trials))

    @cached_property
    def faces(self) -> Faces:
        """The real faces."""
        return Faces.load(self.store.run(self.spec["faces"]).path)

    def count_training(self, people: float | None = None) -> TrainingSide:
        """Return the real people and images that a share of the people (None: all) trains on."""
        if people not in self._training_sides:
            self._training_sides[people] = count_training_side(self.faces, self.spec, people)
        return self._training_sides[people]

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that the real faces come from, sorted."""
        return tuple(sorted(set(self.faces.index["dataset"]) - {""}))

    @property
    def inputs(self) -> dict[str, OwnInput]:
        """What each ablation sees that has an input, by its name."""
        return {
            name: read_spec(OwnInput, fields, self.run.name)
            for name, fields in self.spec.get("inputs", {}).items()
        }

    @property
    def classifier_inputs(self) -> dict[str, dict[str, OwnInput]]:
        """What each classifier sees that has an input, by its name and then by ablation."""
        return {
            name: {
                ablation: read_spec(OwnInput, fields, self.run.name)
                for ablation, fields in by_ablation.items()
            }
            for name, by_ablation in self.spec.get("classifier_inputs", {}).items()
        }

    @cached_property
    def databases(self) -> list[Faces]:
        """The synthetic databases of all training people that are done and unaltered, in the order
        of folds.
        """
        names = [database.database for database in self.plan.databases if database.people is None]
        intact = [
            name
            for name in names
            if self.store.is_done(name) and not self.store.explain_alteration(name)
        ]
        return [Faces.load(self.store.run(name).path) for name in intact]

    @property
    def levels(self) -> tuple[str, ...]:
        """The units that are scored: images, and clips where the split keeps clips together."""
        return list_levels(self.protocol)

    @cached_property
    def cells(self) -> list[ResultCell]:
        """All cells of the plan, by image and by clip; tests on synthetic faces only by image.

        A study whose target is action units has none; it has `unit_cells`.
        """
        if self.units:
            return []
        cells = [
            self._make_cell(setting, classifier, ablation, level)
            for level in self.levels
            for setting in self.settings
            if self._has(setting, level)
            for classifier in self.classifiers
            if self.can_train(setting, classifier)
            for ablation in self.ablations
        ]
        return [cell for cell in cells if cell.trials]

    @cached_property
    def uses(self) -> dict[str, UseSpec]:
        """The ways in which synthetic faces are used, by name; empty if they are only mixed."""
        return {
            name: read_spec(UseSpec, fields, self.run.name)
            for name, fields in self.spec.get("uses", {}).items()
        }

    def can_train(self, setting: str, classifier: str) -> bool:
        """Whether a classifier can be trained as a setting says."""
        use = self.uses.get(find_setting(setting).use)
        return classifier not in BASELINES or use is None or not use.needs_network

    def find_cell(
        self, setting: str, classifier: str, level: str = "images", ablation: str | None = None
    ) -> ResultCell | None:
        """Return one cell, of the first ablation by default, or None if there is no such cell."""
        key = (setting, classifier, level, ablation or self.ablations[0])
        return next(
            (
                cell
                for cell in self.cells
                if (cell.setting, cell.classifier, cell.level, cell.ablation) == key
            ),
            None,
        )

    @property
    def units(self) -> tuple[int, ...]:
        """The action units that are its target; empty where emotions are."""
        return tuple(self.spec.get("units", ()))

    @cached_property
    def unit_cells(self) -> list[UnitCell]:
        """The scores of action units by each classifier and ablation, if they are the target."""
        if not self.units:
            return []
        return [
            score_units(name, ablation, self._pool_trials(name, ablation), self.units)
            for name in self.classifiers
            for ablation in self.ablations
        ]

    @cached_property
    def unit_controls(self) -> list[UnitCell]:
        """The scores of action units under each control of movement, in the first ablation."""
        first = self.ablations[0]
        return [
            score_units(name, first, self._pool_trials(name, first, control), self.units, control)
            for control in (self.plan.controls if self.units else ())
            for name in self.classifiers
        ]

    def _pool_trials(
        self, classifier: str, ablation: str, control: str = ""
    ) -> list[pd.DataFrame | None]:
        """Return the predictions of each trial on real faces, None where a fold is missing."""
        runs: dict[int, list[str]] = defaultdict(list)
        for trial in self.trials:
            key = (trial.classifier, trial.ablation, trial.control)
            if key == (classifier, ablation, control):
                runs[trial.trial].append(trial.run)
        return [self._pool_predictions(names, "real") for _, names in sorted(runs.items())]

    @cached_property
    def controls(self) -> list[ResultCell]:
        """All planned controls, by image and by clip, in the order of the tables.

        A study whose target is action units has `unit_controls` in their place.
        """
        if self.units:
            return []
        controls = [
            self._make_cell(setting, classifier, ablation, level, control)
            for level in self.levels
            for setting in self.settings
            if self._has(setting, level)
            for control, classifier, ablation in self._list_planned(setting)
        ]
        return [cell for cell in controls if cell.trials]

    def find_controls(self, setting: str, level: str) -> list[ResultCell]:
        """Return the controls of one setting."""
        return [cell for cell in self.controls if (cell.setting, cell.level) == (setting, level)]

    def name_controls(self, setting: str, level: str) -> list[tuple[str, ResultCell]]:
        """Return the controls of a setting with their names, the constant answer first."""
        complete = (
            cell
            for cell in self.cells
            if (cell.setting, cell.level) == (setting, level) and cell.whole
        )
        first = next(complete, None)
        constant = [("constant answer", first.commonest)] if first else []
        return constant + [
            (self.label_control(cell), cell) for cell in self.find_controls(setting, level)
        ]

    @property
    def missing_controls(self) -> list[str]:
        """The printed names of the controls that the study does not have.

        Controls of movement are not missing where the faces of the study show none.
        """
        if self.units:
            return []
        moving = shows_motion(self.faces)
        return [
            control.label
            for name, control in CONTROLS.items()
            if name not in self.plan.controls
            and (moving or not control.needs_movement)
            and not control.ceiling
        ]

    def _has(self, setting: str, level: str) -> bool:
        if level == "images":
            return True
        return self.plan.settings[setting].test == "real" and bool(
            (self.faces.index["clip"] != "").any()
        )

    def _list_planned(self, setting: str) -> list[tuple[str, str, str]]:
        """Return (control, classifier, ablation) of each control that a setting has."""
        first = self.ablations[0]
        sources = self.plan.settings[setting]
        planned: list[tuple[str, str, str]] = []
        for name, control in CONTROLS.items():
            if name not in self.plan.controls or not control.applies_to(setting):
                continue
            if control.baseline:
                planned.append((name, control.baseline, ""))
                continue
            if control.needs_training(sources.train) and find_setting(setting).arm.is_plain:
                planned += [
                    (name, baseline, "") for baseline in BASELINES if BASELINES[baseline].short
                ]
            planned += [
                (name, classifier, first)
                for classifier in self.classifiers
                if self.can_train(setting, classifier)
            ]
        return planned

    def _find_sources(self, setting: str, control: str) -> tuple[str, str, str]:
        """Return training set, test set and control of a setting's trials in the plan."""
        sources = self.plan.settings[setting]
        if not control:
            return sources.train, sources.test, ""
        return (
            name_under_control(control, sources.train),
            name_under_control(control, sources.test),
            control if CONTROLS[control].needs_training(sources.train) else "",
        )

    def _make_cell(
        self, setting: str, classifier: str, ablation: str, level: str, control: str = ""
    ) -> ResultCell:
        """Return one cell or control, from the predictions of its trials."""
        # The answers of each trial by group; a trial where a fold is missing is left out
        _, test, _ = self._find_sources(setting, control)
        runs = self._list_runs(setting, classifier, ablation, control)
        tables = [self._pool_predictions(names, test) for _, names in sorted(runs.items())]
        complete = [table for table in tables if table is not None]
        for table in complete:
            metrics.require_single_predictions(table)
        counts, units, grouped, clips = group_predictions(complete, self.classes, level)

        # The scores of each trial, None where a fold is missing or nothing is scored
        confusions = iter(counts.sum(axis=1, dtype=np.int64))
        scores = tuple(
            None
            if table is None or not (confusion := next(confusions)).any()
            else metrics.score(confusion, self.classes)
            for table in tables
        )

        # Without randomness all trials are the same
        seeded = classifier not in BASELINES or BASELINES[classifier].seeded
        if not seeded and not draws_at_random(control):
            scores, counts = count_once(scores, counts)
        return ResultCell(
            setting=setting,
            classifier=classifier,
            ablation=ablation,
            control=control,
            network=self.find_network(classifier),
            level=level,
            trials=scores,
            counts=counts,
            units=units,
            grouped=grouped,
            clips=clips,
            like=self.like,
        )

    def _list_runs(
        self, setting: str, classifier: str, ablation: str, control: str
    ) -> dict[int, list[str]]:
        """Return the runs of each trial of a cell or control, one per fold, by trial."""
        train, _, listed = self._find_sources(setting, control)
        arm = replace(find_setting(setting).arm, train=train)
        runs: dict[int, list[str]] = defaultdict(list)
        for trial in self.trials:
            key = (trial.classifier, trial.ablation, trial.control, trial.arm)
            if key == (classifier, ablation, listed, arm):
                runs[trial.trial].append(trial.run)
        return runs

    def find_runs(self, cell: ResultCell) -> dict[int, list[str]]:
        """Return the names of the runs of each trial of a cell, one per fold, by trial."""
        return self._list_runs(cell.setting, cell.classifier, cell.ablation, cell.control)

    def find_network(self, classifier: str) -> str:
        """Return timm's name of a classifier's network, without the tag of its weights, or "" for
        a baseline.
        """
        fields = self.spec["classifiers"].get(classifier, {}).get(self.ablations[0], "")
        return "" if isinstance(fields, str) else str(fields["name"]).partition(".")[0]

    def _pool_predictions(self, runs: list[str], test: str) -> pd.DataFrame | None:
        """Return the predictions of one trial's folds as one table, or None if a fold is missing.

        Ratios are formed only after this pooling.
        """
        if not all(run in self.done for run in runs):
            return None
        tables = [self._read_predictions(run) for run in runs]
        return pd.concat([table.loc[table["test"] == test] for table in tables], ignore_index=True)

    @cached_property
    def inflation(self) -> dict[tuple[str, str], list[Inflation]]:
        """What other choices of the epoch would have scored on real images, in each trial.

        It is by classifier and ablation, of those whose trials are done and kept their epochs.
        """
        runs: dict[tuple[str, str], dict[int, list[str]]] = {}
        for trial in self.trials:
            if trial.arm == Arm("real") and not trial.control:
                by_trial = runs.setdefault((trial.classifier, trial.ablation), {})
                by_trial.setdefault(trial.trial, []).append(trial.run)
        measured = {
            position: [self._measure_inflation(names) for _, names in sorted(by_trial.items())]
            for position, by_trial in runs.items()
        }
        return {
            position: [inflation for inflation in trials if inflation is not None]
            for position, trials in measured.items()
            if None not in trials
        }

    def _measure_inflation(self, runs: list[str]) -> Inflation | None:
        """Return the measurement of one trial from its folds, or None if one kept no epochs."""
        table = self._pool_predictions(runs, "real")
        if table is None:
            return None
        answers = [read_epochs(self.done[run].path) for run in runs]
        by_fold = [epochs for epochs in answers if epochs is not None]
        if len(by_fold) < len(runs):
            return None
        number = {name: position for position, name in enumerate(self.classes)}
        true, chosen = (
            table[column].map(number).to_numpy(dtype=np.int64) for column in ("true", "predicted")
        )
        owners = list(name_units(table, "subject"))
        return measure_inflation(
            true, np.concatenate(by_fold, axis=1), chosen, owners, self.classes
        )

    def list_records(self, run: str) -> list[Record]:
        """Return the scores of each test set of a finished trial, from its predictions."""
        return list(score_predictions(self._read_predictions(run), run, self.done[run].spec))

    def _read_predictions(self, run: str) -> pd.DataFrame:
        if run not in self._predictions:
            self._predictions[run] = read_predictions(self.done[run])
        return self._predictions[run]

    # Judging

    def give_verdicts(self, cell: ResultCell, metric: str = "accuracy") -> list[Verdict]:
        """Return a cell's difference from each control of its setting, the constant answer first.

        The list is empty if a trial of the cell is missing.
        """
        # Tables, sentences and figures ask for the same verdicts. A cell restricted to a dataset is
        # another object; the cell is kept, so that no later one has its id.
        key = (id(cell), metric)
        if key not in self._verdicts:
            verdicts = [
                Verdict(name, estimate_gap(cell, control, metric) if control.whole else None)
                for name, control in (self.list_compared_controls(cell) if cell.whole else [])
            ]
            self._verdicts[key] = (cell, verdicts)
        return list(self._verdicts[key][1])

    def list_compared_controls(self, cell: ResultCell) -> list[tuple[str, ResultCell]]:
        """Return the controls that a cell with a finished trial is compared with, and their names.

        They are the constant answer, then those of its setting that are of the same classifier, or
        of none of the study's. A ceiling is none of them.
        """
        return [("the constant answer", cell.commonest)] + [
            (self.label_control(control), control)
            for control in self.find_controls(cell.setting, cell.level)
            if self.serves(control, cell) and not CONTROLS[control.control].ceiling
        ]

    def serves(self, control: ResultCell, cell: ResultCell) -> bool:
        """Whether a control is one of a cell, and not that of another classifier of the study."""
        return control.classifier == cell.classifier or control.classifier not in self.classifiers

    def label_control(self, control: ResultCell) -> str:
        """Return the printed name of a control."""
        baseline = BASELINES.get(control.classifier)
        classifier = control.classifier if baseline is None else baseline.short or baseline.label
        return CONTROLS[control.control].label + (
            "" if CONTROLS[control.control].baseline else f" ({classifier})"
        )

    def restrict_to_dataset(self, cell: ResultCell, dataset: str) -> ResultCell | None:
        """Return a complete cell of tests on real faces, restricted to one dataset.

        It is None if no face of the dataset is tested.
        """
        index = self.faces.index
        column = OWNER_COLUMNS[cell.grouped]
        dataset_units = set(index.loc[index["dataset"] == dataset, column])
        in_dataset = np.array([unit in dataset_units for unit in cell.units], dtype=bool)
        counts = cell.counts[:, in_dataset]
        if not counts.any():
            return None
        trials = tuple(
            metrics.score(by_group.sum(axis=0, dtype=np.int64), self.classes) for by_group in counts
        )
        units = tuple(unit for unit in cell.units if unit in dataset_units)
        return replace(cell, trials=trials, counts=counts, units=units)

    def find_too_good(self) -> list[ResultCell]:
        """Return the cells whose accuracy on held-out people is so high that a leak is likely."""
        if self.protocol not in ("subject", "dataset"):
            return []
        settings = self.plan.settings
        on_real = [cell for cell in self.cells if settings[cell.setting].test == "real"]
        return [
            cell
            for cell in on_real
            if (accuracy := cell.summarise("accuracy")) and accuracy.mean > LEAK_ACCURACY
        ]

    def compare(self, setting: str, other: str = "real_to_real") -> list[Comparison]:
        """Return the comparison of one setting with another on the same real tests.

        It is by clip where clips are scored; there is one per classifier and ablation.
        """
        cells = [
            self.find_scored_cell(setting, name, ablation)
            for name in self.classifiers
            for ablation in self.ablations
        ]
        comparisons = []
        for cell in (cell for cell in cells if cell is not None and cell.whole):
            base = self.find_cell(other, cell.classifier, cell.level, cell.ablation)
            if base is not None and base.whole:
                comparisons.append(compare_cells(cell, base))
        return comparisons

    def compare_with_control(self, control: str, setting: str = "both_to_real") -> list[Comparison]:
        """Return the comparison of a setting with itself under a control, by classifier."""
        comparisons = []
        for name in self.classifiers:
            cell = self.find_scored_cell(setting, name)
            control_cells = [
                control_cell
                for control_cell in self.find_controls(setting, cell.level if cell else "")
                if (control_cell.control, control_cell.classifier) == (control, name)
            ]
            if cell is not None and cell.whole and control_cells and control_cells[0].whole:
                comparisons.append(compare_cells(cell, control_cells[0]))
        return comparisons

    def find_scored_cell(
        self, setting: str, classifier: str, ablation: str | None = None
    ) -> ResultCell | None:
        """Return a cell by clip if clips are scored, else by image, or None if there is none.

        It is of the first ablation by default.
        """
        cells = [self.find_cell(setting, classifier, level, ablation) for level in self.levels]
        return next((cell for cell in reversed(cells) if cell is not None), None)

    # Licences and times

    @cached_property
    def licence(self) -> str:
        """The licences of the real faces."""
        return " and ".join(sorted(set(self.faces.index["licence"])))

    @cached_property
    def withheld(self) -> list[str]:
        """Sources of the real faces, by name and licence, whose images not everybody may show."""
        return find_withheld_sources(self.store.run(self.spec["faces"]), self.store)

    @property
    def restricted(self) -> bool:
        """Whether a licence of the real faces does not clearly allow everybody to show them."""
        return bool(self.withheld)

    @property
    def seconds(self) -> float:
        """The seconds that all its runs took, including those that other studies share."""
        names = [name for database in self.plan.databases for name in database.runs]
        runs = [
            Run(name, self.store.root / "runs" / name) for name in names if self.store.is_done(name)
        ]
        return float(sum(run.seconds for run in [*runs, *self.done.values()]))


# Finding things


def find_study_run(name: str, store: Store) -> Run:
    """Return the run of a study by its alias or its run name; `file.find_recorded_run` does so for
    a file.

    Raises StoreError if it was never run, or if it is not a study.
    """
    run = store.run(name)
    if run.stage != "study":
        raise StoreError(
            f"a study must be named; {name} is {run.name}, which is not a study. `mien ls study` "
            "lists the studies"
        )
    return run
