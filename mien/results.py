"""Results of a study: the scores of each cell, next to those of its controls.

They are computed from the predictions of finished trials, so they can be read at any time. A cell
with a missing trial is a hole, never a mean of the trials that are done.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Num

from mien import metrics, published, sources, stats
from mien.errors import StoreError
from mien.faces import Faces
from mien.progress import duration, many
from mien.seeds import seed
from mien.stats import Interval, Summary, summary
from mien.store import Run, Store, read_error

SURE = 0.05  # a p below this, with an interval that excludes zero, is an answer
LEAK = 0.95  # an accuracy above this on held-out people is more likely a leak than a result
COPIES = {"synthetic": "copycat", "both": "both_copycat"}
CONTROLS = {
    "majority": "majority class",
    "nearest": "1-nearest neighbour",
    "permuted": "labels permuted",
    "copycat": "copycat",
}
PUBLISHED = {"plain": "none", "augment": "augmentation", "freeze30": "freezing"}
"""The names of the ablations in the preprint's tables."""


@dataclass(frozen=True)
class Cell:
    """The scores of each trial of a setting, classifier and ablation, pooled over folds.

    `trials` has None for each trial that is not done. `control` is empty for a cell, or the name of
    the control. `counts` are [trials, groups, classes, classes], the confusion matrices of each
    finished trial and each group (`units`): subjects if all are known, else clips, else images.
    `clips` is the number of clips that a trial tests, the mean over trials. `like` says whether its
    classes are the preprint's; only then can the published numbers be compared with it.
    """

    setting: str
    classifier: str
    ablation: str
    control: str
    network: str
    level: str
    trials: tuple[metrics.Scores | None, ...]
    counts: Num[np.ndarray, "t g c c"]
    units: tuple[str, ...]
    grouped: str
    clips: int
    like: bool = True

    @property
    def done(self) -> list[metrics.Scores]:
        """The scores of the finished trials."""
        return [scores for scores in self.trials if scores is not None]

    @property
    def whole(self) -> bool:
        """Whether all trials are done."""
        return len(self.done) == len(self.trials) > 0

    @property
    def subjects(self) -> int:
        """The number of subjects that are tested in all trials, 0 if subjects are not known."""
        return len(self.units) if self.grouped == "subject" else 0

    @property
    def n(self) -> int:
        """The number of images or clips that a trial tests, the mean over trials."""
        return round(float(np.mean([scores.n for scores in self.done]))) if self.done else 0

    def summary(self, metric: str) -> Summary | None:
        """Return mean and spread over all trials, or None if a trial is missing."""
        return summary([scores.of(metric) for scores in self.done]) if self.whole else None

    def interval(self, metric: str) -> Interval | None:
        """Return the mean over trials with its 95 % interval over subjects, nothing if a trial is
        missing.
        """
        return stats.around(self.mean(metric), self.drawn(metric)) if self.whole else None

    def mean(self, metric: str) -> float:
        """Return the mean over the finished trials."""
        return stats.mean(self.counts, metrics.measure(metric))

    def drawn(self, metric: str) -> Float[np.ndarray, " draws"] | None:
        """Return the score of each bootstrap draw of the groups."""
        if metric not in self._drawn:
            self._drawn[metric] = stats.drawn(self.counts, metrics.measure(metric), self.draw)
        return self._drawn[metric]

    @cached_property
    def _drawn(self) -> dict[str, Float[np.ndarray, " draws"] | None]:
        return {}

    @property
    def draw(self) -> str:
        """The name of its bootstrap: cells with the same groups share the same draws."""
        return f"{seed('units', *self.units):x}"

    def constant(self, metric: str) -> float | None:
        """Return the score of always answering the commonest class, or None if no trial is done."""
        return self.commonest.mean(metric) if self.done else None

    @cached_property
    def commonest(self) -> "Cell":
        """The constant answer as a cell: always the commonest class of the trial's own tests."""
        true = self.counts.sum(axis=3)
        counts = np.zeros_like(self.counts)
        for trial, totals in enumerate(true.sum(axis=1)):
            counts[trial, :, :, int(np.argmax(totals))] = true[trial]
        classes = self.done[0].classes if self.done else ()
        scores = tuple(
            metrics.score(by_group.sum(axis=0, dtype=np.int64), classes)
            for by_group in counts
            if by_group.any()
        )
        trials, counts = _once(scores, counts)
        return replace(self, control="constant", trials=trials, counts=counts)

    @property
    def published(self) -> float | None:
        """The preprint's average for this setting, network and ablation in per cent, or None."""
        ablation = PUBLISHED.get(self.ablation)
        if not ablation or not self.like or self.control:
            return None
        return published.average(self.setting, self.network, ablation)

    def confusion(self) -> np.ndarray:
        """Return int [classes, classes], rows = true: the sum over folds and finished trials."""
        return np.sum([scores.confusion for scores in self.done], axis=0)

    def recall(self) -> Float[np.ndarray, " c"]:
        """Return the recall of each class over all finished trials, nan for one without samples."""
        counts = self.confusion()
        with np.errstate(invalid="ignore"):
            return np.diag(counts) / counts.sum(axis=1)


@dataclass(frozen=True)
class Verdict:
    """The difference between a cell and one control, with a 95 % interval.

    `gap` is None if the control was not run.
    """

    control: str
    gap: Interval | None

    @property
    def cleared(self) -> bool | None:
        """Whether the whole interval is above zero, or None if that cannot be known.

        A gap without an interval, from a single person, can fail, but it cannot pass.
        """
        if self.gap is None or (math.isnan(self.gap.low) and self.gap.value > 0):
            return None
        return self.gap.low > 0


@dataclass(frozen=True)
class Comparison:
    """One training set compared with another on the same tests.

    `gap` is the difference in accuracy, as a share from -1 to 1, and `p` the p-value of a sign-flip
    test over groups.
    """

    classifier: str
    ablation: str
    gap: Interval
    p: float
    trials: int
    groups: int
    grouped: str
    level: str

    @property
    def answer(self) -> str:
        """The answer in words: yes (it is better), no (it is worse), or cannot tell.

        The interval and p must agree, since intervals over few people are too narrow.
        """
        if math.isnan(self.gap.low) or self.gap.low <= 0 <= self.gap.high or not self.p < SURE:
            return "cannot tell"
        return "yes" if self.gap.low > 0 else "no"


class Study:
    """The results of a study, read from its runs."""

    def __init__(self, name: str, store: Store) -> None:
        self.store = store
        self.run = find(name, store)
        self.spec: dict[str, Any] = self.run.spec
        self.plan: dict[str, Any] = self.run.json("plan.json")
        if "ablations" not in self.plan:
            raise StoreError(
                f"{name} was planned by an older version of mien, without ablations; run it again "
                "with this version"
            )
        self.title = str(self.spec["title"])
        self.protocol = str(self.spec["protocol"])
        self.classes = tuple(self.spec["classes"])
        self.settings = list(self.plan["settings"])
        self.classifiers: list[str] = self.plan["classifiers"]
        self.ablations: list[str] = self.plan["ablations"]
        self.trials: list[dict[str, Any]] = self.plan["trials"]
        self._predictions: dict[str, pd.DataFrame] = {}

    @property
    def like(self) -> bool:
        """Whether its classes are the preprint's seven, as comparisons with it need."""
        return set(self.classes) == set(published.EMOTIONS)

    @cached_property
    def done(self) -> dict[str, Run]:
        """The runs of the finished and unaltered trials, by name."""
        names = [
            name for name in self.runs if self.store.done(name) and not self.store.altered(name)
        ]
        return {name: self.store.run(name) for name in names}

    @cached_property
    def failed(self) -> list[dict[str, Any]]:
        """The failed and altered trials, each run once, with the first error as `error`."""
        missing = {trial["run"]: trial for trial in self.trials if trial["run"] not in self.done}
        with_errors = [
            {
                **trial,
                "error": self.store.altered(name) or read_error(self.store.root / trial["note"]),
            }
            for name, trial in missing.items()
        ]
        return [trial for trial in with_errors if trial["error"]]

    @cached_property
    def altered(self) -> list[str]:
        """A message for each run, databases included, that was altered after it was made."""
        names = [
            database[stage]
            for database in self.plan["databases"]
            for stage in ("generator", "database", "copycat")
        ]
        return [
            text
            for name in dict.fromkeys([*names, *self.runs])
            if name and (text := self.store.altered(name))
        ]

    @property
    def runs(self) -> list[str]:
        """The names of all trials, each once: a control without randomness has only one run."""
        return list(dict.fromkeys(trial["run"] for trial in self.trials))

    @cached_property
    def faces(self) -> Faces:
        """The real faces."""
        return Faces.load(self.store.run(self.spec["faces"]).path)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that the real faces come from, sorted."""
        return tuple(sorted(set(self.faces.index["dataset"]) - {""}))

    @property
    def inputs(self) -> dict[str, Any]:
        """The `input` and the run of `faces` of each ablation that has an input, by its name."""
        return dict(self.spec.get("inputs", {}))

    @cached_property
    def databases(self) -> list[Faces]:
        """The synthetic databases that are done and unaltered, in the order of folds."""
        names = [database["database"] for database in self.plan["databases"]]
        intact = [name for name in names if self.store.done(name) and not self.store.altered(name)]
        return [Faces.load(self.store.run(name).path) for name in intact]

    @property
    def levels(self) -> tuple[str, ...]:
        """The units that are scored: images, and clips where the split keeps clips together."""
        return metrics.LEVELS[:1] if self.protocol == "frame" else metrics.LEVELS

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells, by image and by clip; tests on synthetic faces are scored by image only."""
        return [
            self._cell(setting, classifier, ablation, level)
            for level in self.levels
            for setting in self.settings
            if self._has(setting, level)
            for classifier in self.classifiers
            for ablation in self.ablations
        ]

    def cell(
        self, setting: str, classifier: str, level: str = "images", ablation: str | None = None
    ) -> Cell | None:
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

    @cached_property
    def controls(self) -> list[Cell]:
        """All planned controls, by image and by clip, in the order of the tables."""
        controls = [
            self._cell(setting, classifier, ablation, level, control)
            for level in self.levels
            for setting in self.settings
            if self._has(setting, level)
            for control, classifier, ablation in self._planned(setting)
        ]
        return [cell for cell in controls if cell.trials]

    def controls_of(self, setting: str, level: str) -> list[Cell]:
        """Return the controls of one setting."""
        return [cell for cell in self.controls if (cell.setting, cell.level) == (setting, level)]

    def floors(self, setting: str, level: str) -> list[tuple[str, Cell]]:
        """Return the controls of a setting with their names, the constant answer first."""
        complete = (
            cell
            for cell in self.cells
            if (cell.setting, cell.level) == (setting, level) and cell.whole
        )
        first = next(complete, None)
        constant = [("constant answer", first.commonest)] if first else []
        return constant + [(self.named(cell), cell) for cell in self.controls_of(setting, level)]

    @property
    def without(self) -> list[str]:
        """The printed names of the controls that the study does not have."""
        return [name for control, name in CONTROLS.items() if control not in self.plan["controls"]]

    def _has(self, setting: str, level: str) -> bool:
        if level == "images":
            return True
        return self.plan["settings"][setting]["test"] == "real" and bool(
            (self.faces.index["clip"] != "").any()
        )

    def _planned(self, setting: str) -> list[tuple[str, str, str]]:
        """Return (control, classifier, ablation) of each control that a setting has."""
        first = self.ablations[0]
        listed = self.plan["controls"]
        planned = [(name, name, "") for name in ("majority", "nearest") if name in listed]
        if "permuted" in listed and setting == "real_to_real":
            planned += [
                ("permuted", "nearest", ""),
                *(("permuted", name, first) for name in self.classifiers),
            ]
        sources = self.plan["settings"][setting]
        if "copycat" in listed and sources["train"] in COPIES:
            planned.append(("copycat", "nearest", ""))
        if "copycat" in listed and set(COPIES) & set(sources.values()):
            planned += [("copycat", name, first) for name in self.classifiers]
        return planned

    def _sides(self, setting: str, control: str) -> tuple[str, str, str]:
        """Return training set, test set and control of a setting's trials in the plan."""
        sources: dict[str, str] = self.plan["settings"][setting]
        train, test = sources["train"], sources["test"]
        if control != "copycat":
            return train, test, control
        return (
            COPIES.get(train, train),
            COPIES.get(test, test),
            "copycat" if train in COPIES else "",
        )

    def _cell(
        self, setting: str, classifier: str, ablation: str, level: str, control: str = ""
    ) -> Cell:
        """Return one cell or control, from the predictions of its trials."""
        # The runs of each trial, one per fold
        train, test, listed = self._sides(setting, control)
        runs: dict[int, list[str]] = defaultdict(list)
        for trial in self.trials:
            key = (trial["classifier"], trial["ablation"], trial["control"], trial["train"])
            if key == (classifier, ablation, listed, train):
                runs[trial["trial"]].append(trial["run"])

        # The scores of each trial, None where a fold is missing
        tables = [self._pooled(names, test) for _, names in sorted(runs.items())]
        scores = tuple(
            None if table is None else metrics.score_table(table, self.classes, level)
            for table in tables
        )
        counts, units, grouped, clips = _grouped(
            [table for table in tables if table is not None], self.classes, level
        )

        # Without randomness all trials are the same
        if classifier in ("majority", "nearest") and control != "permuted":
            scores, counts = _once(scores, counts)
        return Cell(
            setting=setting,
            classifier=classifier,
            ablation=ablation,
            control=control,
            network="" if control in ("majority", "nearest") else self.network(classifier),
            level=level,
            trials=scores,
            counts=counts,
            units=units,
            grouped=grouped,
            clips=clips,
            like=self.like,
        )

    def network(self, classifier: str) -> str:
        """Return timm's name of a classifier's network, without the tag of its weights."""
        kinds = self.spec["classifiers"].get(classifier)
        return "" if kinds is None else str(kinds[self.ablations[0]]["name"]).partition(".")[0]

    def _pooled(self, runs: list[str], test: str) -> pd.DataFrame | None:
        """Return the predictions of one trial's folds as one table, or None if a fold is missing.

        Ratios are formed only after this pooling.
        """
        if not all(run in self.done for run in runs):
            return None
        tables = [self._predicted(run) for run in runs]
        return pd.concat([table.loc[table["test"] == test] for table in tables], ignore_index=True)

    def _predicted(self, run: str) -> pd.DataFrame:
        if run not in self._predictions:
            self._predictions[run] = pd.read_parquet(self.done[run].file("predictions.parquet"))
        return self._predictions[run]

    # Judging

    def verdicts(self, cell: Cell, metric: str = "accuracy") -> list[Verdict]:
        """Return a cell's difference from each control of its setting, the constant answer first.

        The list is empty if a trial of the cell is missing.
        """
        if not cell.whole:
            return []
        verdicts = [Verdict("the constant answer", _gap(cell, cell.commonest, metric))]
        for control in self.controls_of(cell.setting, cell.level):
            if control.classifier in ("majority", "nearest", cell.classifier):
                gap = _gap(cell, control, metric) if control.whole else None
                verdicts.append(Verdict(self.named(control), gap))
        return verdicts

    def named(self, control: Cell) -> str:
        """Return the printed name of a control."""
        classifier = "1-NN" if control.classifier == "nearest" else control.classifier
        return CONTROLS[control.control] + (
            f" ({classifier})" if control.control in ("permuted", "copycat") else ""
        )

    def within(self, cell: Cell, dataset: str) -> Cell:
        """Return a complete cell of tests on real faces, restricted to one dataset."""
        index = self.faces.index
        column = {"subject": "subject", "clip": "clip", "image": "key"}[cell.grouped]
        dataset_units = set(index.loc[index["dataset"] == dataset, column])
        in_dataset = np.array([unit in dataset_units for unit in cell.units], dtype=bool)
        counts = cell.counts[:, in_dataset]
        trials = tuple(
            metrics.score(by_group.sum(axis=0, dtype=np.int64), self.classes) for by_group in counts
        )
        units = tuple(unit for unit in cell.units if unit in dataset_units)
        return replace(cell, trials=trials, counts=counts, units=units)

    def alarms(self) -> list[Cell]:
        """Return the cells whose accuracy on held-out people is so high that a leak is likely."""
        if self.protocol not in ("subject", "dataset"):
            return []
        settings = self.plan["settings"]
        on_real = [cell for cell in self.cells if settings[cell.setting]["test"] == "real"]
        return [
            cell
            for cell in on_real
            if (accuracy := cell.summary("accuracy")) and accuracy.mean > LEAK
        ]

    def compared(self, setting: str, other: str = "real_to_real") -> list[Comparison]:
        """Return the comparison of one setting with another on the same real tests.

        It is by clip where clips are scored; there is one per classifier and ablation.
        """
        cells = [
            self._level(setting, name, ablation)
            for name in self.classifiers
            for ablation in self.ablations
        ]
        comparisons = []
        for cell in (cell for cell in cells if cell is not None and cell.whole):
            base = self.cell(other, cell.classifier, cell.level, cell.ablation)
            if base is not None and base.whole:
                comparisons.append(_compared(cell, base))
        return comparisons

    def against_copies(self, setting: str = "both_to_real") -> list[Comparison]:
        """Return the comparison of a setting with itself under the copycat as the generator."""
        comparisons = []
        for name in self.classifiers:
            cell = self._level(setting, name, self.ablations[0])
            copies = [
                control
                for control in self.controls_of(setting, cell.level if cell else "")
                if (control.control, control.classifier) == ("copycat", name)
            ]
            if cell is not None and cell.whole and copies and copies[0].whole:
                comparisons.append(_compared(cell, copies[0]))
        return comparisons

    def _level(self, setting: str, classifier: str, ablation: str) -> Cell | None:
        """Return a cell by clip if clips are scored, else by image, or None if there is none."""
        cells = [self.cell(setting, classifier, level, ablation) for level in self.levels]
        return next((cell for cell in reversed(cells) if cell is not None), None)

    # Licences and times

    @cached_property
    def licence(self) -> str:
        """The licences of the real faces."""
        return " and ".join(sorted(set(self.faces.index["licence"])))

    @cached_property
    def withheld(self) -> list[str]:
        """Sources of the real faces, by name and licence, whose images not everybody may show."""
        return sources.withheld(self.store.run(self.spec["faces"]), self.store)

    @property
    def restricted(self) -> bool:
        """Whether a licence of the real faces does not clearly allow everybody to show them."""
        return bool(self.withheld)

    @property
    def seconds(self) -> float:
        """The seconds that all its runs took, including those that other studies share."""
        names = [
            database[stage]
            for database in self.plan["databases"]
            for stage in ("generator", "database", "copycat")
        ]
        runs = [
            Run(name, self.store.root / "runs" / name)
            for name in names
            if name and self.store.done(name)
        ]
        return float(sum(run.seconds for run in [*runs, *self.done.values()]))


def _once(
    trials: tuple[metrics.Scores | None, ...], counts: Num[np.ndarray, "t g c c"]
) -> tuple[tuple[metrics.Scores | None, ...], Num[np.ndarray, "some g c c"]]:
    """Return only the first trial if all are equal: their spread of 0 would mean nothing."""
    same = None not in trials and all((by_group == counts[0]).all() for by_group in counts)
    return (trials[:1], counts[:1]) if same else (trials, counts)


def _grouped(
    tables: Sequence[pd.DataFrame], classes: tuple[str, ...], level: str
) -> tuple[Num[np.ndarray, "t g c c"], tuple[str, ...], str, int]:
    """Return the confusion matrices of each trial and group, and facts of the groups.

    The facts are the groups' names, their kind (subject, clip or image), and the mean number of
    clips per trial.
    """
    # The groups of the bootstrap: the largest unit that is known of all rows
    rows = (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame({"subject": [], "clip": [], "key": []})
    )
    known = [name for name in ("subject", "clip") if len(rows) and "" not in set(rows[name])]
    column = [*known, "key"][0]

    # The group of each scored row; a clip belongs to the group of its images
    by_clip = level == "clips"
    group_of = dict(zip(rows["clip"], rows[column], strict=True)) if by_clip else {}
    scored = [metrics.to_clips(table, classes) if by_clip else table for table in tables]
    groups = [
        [group_of[clip] for clip in table["clip"]] if by_clip else list(table[column])
        for table in scored
    ]
    units = tuple(sorted({name for names in groups for name in names}))

    # Count; images as groups are many, with one answer each, so small integers are enough
    unit_index = {name: index for index, name in enumerate(units)}
    class_index = {name: index for index, name in enumerate(classes)}
    shape = (len(scored), len(units), len(classes), len(classes))
    counts = np.zeros(shape, np.uint8 if column == "key" else np.float64)
    for trial, (table, names) in enumerate(zip(scored, groups, strict=True)):
        unit = [unit_index[name] for name in names]
        true = [class_index[name] for name in table["true"]]
        predicted = [class_index[name] for name in table["predicted"]]
        np.add.at(counts, (trial, unit, true, predicted), 1)

    clips = [len(set(table["clip"]) - {""}) for table in tables]
    kind = "image" if column == "key" else column
    return counts, units, kind, round(float(np.mean(clips or [0])))


def _gap(ours: Cell, theirs: Cell, metric: str) -> Interval:
    """Return the difference of two cells with its interval, paired if their groups are the same."""
    first, second = ours.drawn(metric), theirs.drawn(metric)
    differences = None if first is None or second is None else first - second
    return stats.around(ours.mean(metric) - theirs.mean(metric), differences)


def _compared(ours: Cell, theirs: Cell) -> Comparison:
    """Return the comparison of two cells; p is nan if their groups are not the same."""
    right = [
        np.einsum("tgii->g", cell.counts, dtype=np.float64) / len(cell.counts)
        for cell in (ours, theirs)
    ]
    p = (
        stats.sign_flip(right[0] - right[1], ours.draw)
        if ours.units == theirs.units
        else float("nan")
    )
    gap, trials = _gap(ours, theirs, "accuracy"), len(ours.done)
    return Comparison(
        ours.classifier, ours.ablation, gap, p, trials, len(ours.units), ours.grouped, ours.level
    )


# Progress


def status(name: str, store: Store) -> str:
    """Return the progress of a study as lines: done, under way, to come with its time, failed."""
    study = Study(name, store)
    failed = {trial["run"] for trial in study.failed}
    busy = {run for run in study.runs if run not in study.done and store.working(run)}
    trial_of = {trial["run"]: trial for trial in study.trials}

    # Trials that are done, of the cells and of the controls
    lines = [
        f"{study.title}: {len(study.done)} of {many(len(study.runs), 'trial')} done, in "
        f"{duration(study.seconds)}"
    ]
    for kind, is_control in (("cells", False), ("controls", True)):
        runs = [run for run in study.runs if bool(trial_of[run]["control"]) is is_control]
        if runs:
            lines.append(f"  {kind:<12}{sum(run in study.done for run in runs):>5} of {len(runs)}")

    # Generators and databases
    databases = study.plan["databases"]
    stages = ("generator", "database", "copycat")
    database_runs = [
        database[stage] for database in databases for stage in stages if database[stage]
    ]
    if database_runs:
        with_copies = any(database["copycat"] for database in databases)
        label = "generators, databases and copycats" if with_copies else "generators and databases"
        done = sum(store.done(run) for run in database_runs)
        lines.append(f"  {label:<35}{done:>3} of {len(database_runs)}")

    # What another process works on now, what is still to come, and the errors
    lines += [f"  under way   {described(study, trial_of[run])}" for run in busy]
    lines += [
        f"  under way   {run}"
        for run in database_runs
        if not store.done(run) and store.working(run)
    ]
    to_come = len(study.runs) - len(study.done) - len(failed - busy)
    lines.append(f"  to come     {to_come}{_left(study, trial_of, failed)}")
    errors = Counter(trial["error"] for trial in study.failed if trial["run"] not in busy)
    lines += [f"  failed      {n} x {text}" for text, n in errors.items()]
    return "\n".join(lines)


def _left(study: Study, trial_of: dict[str, dict[str, Any]], failed: set[str]) -> str:
    """Return the expected time of the trials to come, from the finished trials of their kind."""
    seconds_of: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for name, run in study.done.items():
        seconds_of[_kind(trial_of[name])].append(run.seconds)
    mean_of = {kind: float(np.mean(seconds)) for kind, seconds in seconds_of.items()}

    todo = [name for name in study.runs if name not in study.done and name not in failed]
    known = [mean_of[_kind(trial_of[name])] for name in todo if _kind(trial_of[name]) in mean_of]
    if not known:
        return ""
    unknown = len(todo) - len(known)
    note = f", {unknown} of them of a kind of which no trial is done" if unknown else ""
    return f", about {duration(float(np.sum(known)) * len(todo) / len(known))}{note}"


def _kind(trial: dict[str, Any]) -> tuple[str, str, str]:
    """Return the fields on which the time of a trial depends."""
    return trial["classifier"], trial["ablation"], trial["train"]


def described(study: Study, trial: dict[str, Any]) -> str:
    """Return the description of a trial: its classifier, training set, number and fold."""
    # Without randomness one run is all trials, and has no number
    fold = "" if study.protocol == "frame" else f", fold {trial['fold']}"
    shared = sum(other["run"] == trial["run"] for other in study.trials) > 1
    number = "" if shared else f", trial {trial['trial'] + 1}"
    kind = f" {trial['ablation']}" if trial["ablation"] and len(study.ablations) > 1 else ""
    control = f" ({trial['control']})" if trial["control"] else ""
    train = trial["train"].replace("_", " and ")
    return f"{trial['classifier']}{kind}{control} trained on {train}{number}{fold}"


# Finding things


def find(name: str, store: Store) -> Run:
    """Return the run of a study by its alias or its run name; study.recorded does so for a file.

    Raises StoreError if it was never run, or if it is not a study.
    """
    run = store.run(name)
    if run.stage != "study":
        raise StoreError(
            f"a study must be named; {name} is {run.name}, which is not a study. `mien ls study` "
            "lists the studies"
        )
    return run
