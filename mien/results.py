"""Results: what the records of a study say, cell by cell, beside its controls.

All of it is worked out from the predictions of finished trials, at any time. A cell of which a
trial is missing is a hole, never a mean of what is there.
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

SURE = 0.05  # a p below this, with an interval that leaves zero out, is an answer
LEAK = 0.95  # an accuracy above this on people never seen is not believed before it was looked into
COPIES = {"synthetic": "copycat", "both": "both_copycat"}
CONTROLS = {
    "majority": "majority class",
    "nearest": "1-nearest neighbour",
    "permuted": "labels permuted",
    "copycat": "copycat",
}
PUBLISHED = {"plain": "none", "augment": "augmentation", "freeze30": "freezing"}
"""What the preprint's tables call our ablations."""


@dataclass(frozen=True)
class Cell:
    """The scores of each trial of a setting, classifier and ablation, pooled over folds; nothing
    where one is missing.

    `control` is empty, or says which control it is. `counts` are [trials, groups, classes,
    classes], the confusion matrices of each trial that is there and each group (`units`): subjects
    where all are known, else clips, else images. `clips` is how many clips a trial tests, the mean
    over trials. `like` says whether its classes are the preprint's, without which its numbers are
    no match for these.
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
        """The scores of the trials that are there."""
        return [scores for scores in self.trials if scores is not None]

    @property
    def whole(self) -> bool:
        """Whether all trials are there."""
        return len(self.done) == len(self.trials) > 0

    @property
    def subjects(self) -> int:
        """How many subjects are tested in all trials, 0 where they are not known."""
        return len(self.units) if self.grouped == "subject" else 0

    @property
    def n(self) -> int:
        """How many images or clips a trial tests: the mean over trials, which differ by frame."""
        return round(float(np.mean([scores.n for scores in self.done]))) if self.done else 0

    def summary(self, metric: str) -> Summary | None:
        """Return mean and spread over all trials, nothing if one is missing."""
        return summary([scores.of(metric) for scores in self.done]) if self.whole else None

    def interval(self, metric: str) -> Interval | None:
        """Return the mean over trials with its 95 % interval over subjects, nothing if a trial is
        missing.
        """
        return stats.around(self.mean(metric), self.drawn(metric)) if self.whole else None

    def mean(self, metric: str) -> float:
        """Return the mean over the trials that are there."""
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
        """A name for its groups: cells with the same groups are drawn together."""
        return f"{seed('units', *self.units):x}"

    def constant(self, metric: str) -> float | None:
        """Return what the constant answer "the commonest class" scores on the same tests, nothing
        if none is done.
        """
        return self.commonest.mean(metric) if self.done else None

    @cached_property
    def commonest(self) -> "Cell":
        """The constant answer as a cell: each trial's own commonest class, always."""
        true = self.counts.sum(axis=3)
        counts = np.zeros_like(self.counts)
        for trial, totals in enumerate(true.sum(axis=1)):
            counts[trial, :, :, int(np.argmax(totals))] = true[trial]
        classes = self.done[0].classes if self.done else ()
        trials = [
            metrics.score(one.sum(axis=0, dtype=np.int64), classes) for one in counts if one.any()
        ]
        once, counts = _once(tuple(trials), counts)
        return replace(self, control="constant", trials=once, counts=counts)

    @property
    def published(self) -> float | None:
        """The average that the preprint prints for this setting, network and ablation, in per cent,
        if it has one.
        """
        ablation = PUBLISHED.get(self.ablation)
        known = self.like and ablation and not self.control
        return (
            published.average(self.setting, self.network, ablation) if known and ablation else None
        )

    def confusion(self) -> np.ndarray:
        """Return int [classes, classes], rows = true: the sum over folds and the trials that are
        there.
        """
        return np.sum([scores.confusion for scores in self.done], axis=0)

    def recall(self) -> Float[np.ndarray, " c"]:
        """Return the recall of each class over all trials that are there, nan where there is no
        sample.
        """
        counts = self.confusion()
        with np.errstate(invalid="ignore"):
            return np.diag(counts) / counts.sum(axis=1)


@dataclass(frozen=True)
class Verdict:
    """How far a cell lies above one control, with a 95 % interval; no gap where the control was not
    run.
    """

    control: str
    gap: Interval | None

    @property
    def cleared(self) -> bool | None:
        """Whether the whole interval lies above zero; nothing where nobody knows.

        A gap without an interval, from a single person, can fail, but not clear.
        """
        if self.gap is None or (math.isnan(self.gap.low) and self.gap.value > 0):
            return None
        return self.gap.low > 0


@dataclass(frozen=True)
class Comparison:
    """One training set against another on the same tests: the gap in accuracy, in a share, and p by
    sign flips.
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
        """Yes (it is better), no (it is worse), or cannot tell.

        Interval and p must agree, since the intervals of few people are too narrow.
        """
        if math.isnan(self.gap.low) or self.gap.low <= 0 <= self.gap.high or not self.p < SURE:
            return "cannot tell"
        return "yes" if self.gap.low > 0 else "no"


class Study:
    """A study as its records show it."""

    def __init__(self, name: str, store: Store) -> None:
        self.store = store
        self.run = find(name, store)
        self.spec: dict[str, Any] = self.run.spec
        self.plan: dict[str, Any] = self.run.json("plan.json")
        if "ablations" not in self.plan:
            raise StoreError(
                f"{name} was planned by an older mien, without ablations; run it again with this "
                "one"
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
        """Whether its classes are the preprint's seven: numbers of fewer classes are no match for
        published ones.
        """
        return set(self.classes) == set(published.EMOTIONS)

    @cached_property
    def done(self) -> dict[str, Run]:
        """The trials that are there, as they were made, by run name."""
        names = [
            name for name in self.runs if self.store.done(name) and not self.store.altered(name)
        ]
        return {name: self.store.run(name) for name in names}

    @cached_property
    def failed(self) -> list[dict[str, Any]]:
        """The trials that failed or were altered, each run once, with its first error under
        `error`.
        """
        missing = {trial["run"]: trial for trial in self.trials if trial["run"] not in self.done}
        noted = [
            {
                **trial,
                "error": self.store.altered(name) or read_error(self.store.root / trial["note"]),
            }
            for name, trial in missing.items()
        ]
        return [trial for trial in noted if trial["error"]]

    @cached_property
    def altered(self) -> list[str]:
        """What is wrong with the runs that were altered after they were made, databases among
        them.
        """
        names = [
            one[part]
            for one in self.plan["databases"]
            for part in ("generator", "database", "copycat")
        ]
        return [
            text
            for name in dict.fromkeys([*names, *self.runs])
            if name and (text := self.store.altered(name))
        ]

    @property
    def runs(self) -> list[str]:
        """The names of all trials, each once: a control without randomness is one run for all
        trials.
        """
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
        """What each ablation with an input of its own shows: `input` and the run of `faces`, by its
        name.
        """
        return dict(self.spec.get("inputs", {}))

    @cached_property
    def databases(self) -> list[Faces]:
        """The synthetic databases that are there, as they were made, in the order of folds."""
        names = [one["database"] for one in self.plan["databases"]]
        there = [name for name in names if self.store.done(name) and not self.store.altered(name)]
        return [Faces.load(self.store.run(name).path) for name in there]

    @property
    def levels(self) -> tuple[str, ...]:
        """What is scored: images, and clips where clips or subjects are kept together."""
        return metrics.LEVELS[:1] if self.protocol == "frame" else metrics.LEVELS

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells at all levels; tests on synthetic faces, which form no clips, at the level of
        images only.
        """
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
        """Return one cell, of the first ablation unless another is named, or nothing if there is no
        such cell.
        """
        key = (setting, classifier, level, ablation or self.ablations[0])
        return next(
            (
                one
                for one in self.cells
                if (one.setting, one.classifier, one.level, one.ablation) == key
            ),
            None,
        )

    @cached_property
    def controls(self) -> list[Cell]:
        """The controls of all settings and levels that were planned, in the order of the tables."""
        found = [
            self._cell(setting, classifier, ablation, level, control)
            for level in self.levels
            for setting in self.settings
            if self._has(setting, level)
            for control, classifier, ablation in self._planned(setting)
        ]
        return [cell for cell in found if cell.trials]

    def controls_of(self, setting: str, level: str) -> list[Cell]:
        """Return the controls of one setting."""
        return [one for one in self.controls if (one.setting, one.level) == (setting, level)]

    def floors(self, setting: str, level: str) -> list[tuple[str, Cell]]:
        """Return what stands under a setting's cells, by name: the constant answer, and the
        controls as planned.
        """
        own = (
            cell
            for cell in self.cells
            if (cell.setting, cell.level) == (setting, level) and cell.whole
        )
        first = next(own, None)
        constant = [("constant answer", first.commonest)] if first else []
        return constant + [(self.named(cell), cell) for cell in self.controls_of(setting, level)]

    @property
    def without(self) -> list[str]:
        """Names for people of the controls that the study does not have."""
        return [name for control, name in CONTROLS.items() if control not in self.plan["controls"]]

    def _has(self, setting: str, level: str) -> bool:
        if level == "images":
            return True
        return self.plan["settings"][setting]["test"] == "real" and bool(
            (self.faces.index["clip"] != "").any()
        )

    def _planned(self, setting: str) -> list[tuple[str, str, str]]:
        """Return (control, classifier, ablation) of each control that stands beside a setting."""
        first = self.ablations[0]
        listed = self.plan["controls"]
        found = [(name, name, "") for name in ("majority", "nearest") if name in listed]
        if "permuted" in listed and setting == "real_to_real":
            found += [
                ("permuted", "nearest", ""),
                *(("permuted", name, first) for name in self.classifiers),
            ]
        sides = self.plan["settings"][setting]
        if "copycat" in listed and sides["train"] in COPIES:
            found.append(("copycat", "nearest", ""))
        if "copycat" in listed and set(COPIES) & set(sides.values()):
            found += [("copycat", name, first) for name in self.classifiers]
        return found

    def _sides(self, setting: str, control: str) -> tuple[str, str, str]:
        """Return training set, test set, and under which control the trials of a setting are
        listed.
        """
        sides: dict[str, str] = self.plan["settings"][setting]
        train, test = sides["train"], sides["test"]
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
        train, test, listed = self._sides(setting, control)
        runs: dict[int, list[str]] = defaultdict(list)
        for one in self.trials:
            key = (one["classifier"], one["ablation"], one["control"], one["train"])
            if key == (classifier, ablation, listed, train):
                runs[one["trial"]].append(one["run"])
        tables = [self._pooled(names, test) for _, names in sorted(runs.items())]
        scores = tuple(
            None if one is None else metrics.score_table(one, self.classes, level) for one in tables
        )
        counts, units, grouped, clips = _grouped(
            [one for one in tables if one is not None], self.classes, level
        )
        if classifier in ("majority", "nearest") and control != "permuted":
            scores, counts = _once(scores, counts)
        network = "" if control in ("majority", "nearest") else self.network(classifier)
        return Cell(
            setting, classifier, ablation, control, network, level, scores, counts, units, grouped, clips, self.like
        )  # fmt: skip

    def network(self, classifier: str) -> str:
        """Return the network behind a classifier's name, as timm calls it, without the tag of its
        weights.
        """
        kinds = self.spec["classifiers"].get(classifier)
        return "" if kinds is None else str(kinds[self.ablations[0]]["name"]).partition(".")[0]

    def _pooled(self, runs: list[str], test: str) -> pd.DataFrame | None:
        """Return the predictions of all folds of one trial, put together before any ratio is
        formed.
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
        """Return how a cell stands to each control of its setting, the constant answer first; none
        with a hole.
        """
        if not cell.whole:
            return []
        found = [Verdict("the constant answer", _gap(cell, cell.commonest, metric))]
        for one in self.controls_of(cell.setting, cell.level):
            if one.classifier in ("majority", "nearest", cell.classifier):
                found.append(
                    Verdict(self.named(one), _gap(cell, one, metric) if one.whole else None)
                )
        return found

    def named(self, control: Cell) -> str:
        """Return a control's name for people."""
        who = "1-NN" if control.classifier == "nearest" else control.classifier
        return CONTROLS[control.control] + (
            f" ({who})" if control.control in ("permuted", "copycat") else ""
        )

    def within(self, cell: Cell, dataset: str) -> Cell:
        """Return a whole cell of tests on real faces as it is for one dataset alone."""
        index = self.faces.index
        column = {"subject": "subject", "clip": "clip", "image": "key"}[cell.grouped]
        own = set(index.loc[index["dataset"] == dataset, column])
        kept = np.array([unit in own for unit in cell.units], dtype=bool)
        counts = cell.counts[:, kept]
        trials = tuple(
            metrics.score(one.sum(axis=0, dtype=np.int64), self.classes) for one in counts
        )
        units = tuple(unit for unit in cell.units if unit in own)
        return replace(cell, trials=trials, counts=counts, units=units)

    def alarms(self) -> list[Cell]:
        """Return the cells whose accuracy on people never seen is too high to be believed."""
        if self.protocol not in ("subject", "dataset"):
            return []
        real = [one for one in self.cells if self.plan["settings"][one.setting]["test"] == "real"]
        return [one for one in real if (found := one.summary("accuracy")) and found.mean > LEAK]

    def compared(self, setting: str, other: str = "real_to_real") -> list[Comparison]:
        """Return how one setting stands to another on the same real tests, by clip where clips are
        scored.
        """
        cells = [
            self._level(setting, name, ablation)
            for name in self.classifiers
            for ablation in self.ablations
        ]
        found = []
        for cell in (cell for cell in cells if cell is not None and cell.whole):
            base = self.cell(other, cell.classifier, cell.level, cell.ablation)
            if base is not None and base.whole:
                found.append(_compared(cell, base))
        return found

    def against_copies(self, setting: str = "both_to_real") -> list[Comparison]:
        """Return how a setting stands to itself with the copycat in the generator's place."""
        found = []
        for name in self.classifiers:
            cell = self._level(setting, name, self.ablations[0])
            copies = [
                one
                for one in self.controls_of(setting, cell.level if cell else "")
                if (one.control, one.classifier) == ("copycat", name)
            ]
            if cell is not None and cell.whole and copies and copies[0].whole:
                found.append(_compared(cell, copies[0]))
        return found

    def _level(self, setting: str, classifier: str, ablation: str) -> Cell | None:
        found = [self.cell(setting, classifier, level, ablation) for level in self.levels]
        return next((cell for cell in reversed(found) if cell is not None), None)

    # Around it

    @cached_property
    def licence(self) -> str:
        """The licences of the real faces."""
        return " and ".join(sorted(set(self.faces.index["licence"])))

    @cached_property
    def withheld(self) -> list[str]:
        """The sources of the real faces, by name and licence, whose pictures not everybody may
        show.
        """
        return sources.withheld(self.store.run(self.spec["faces"]), self.store)

    @property
    def restricted(self) -> bool:
        """Whether the licences of the real faces do not plainly allow everybody to show pictures of
        them.
        """
        return bool(self.withheld)

    @property
    def seconds(self) -> float:
        """How long all its runs took, those that other studies share too."""
        names = [
            one[part]
            for one in self.plan["databases"]
            for part in ("generator", "database", "copycat")
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
    """Return one trial for all where nothing is drawn by lot and all tests are the same: a spread
    of 0 says nothing.
    """
    same = None not in trials and all((one == counts[0]).all() for one in counts)
    return (trials[:1], counts[:1]) if same else (trials, counts)


def _grouped(
    tables: Sequence[pd.DataFrame], classes: tuple[str, ...], level: str
) -> tuple[Num[np.ndarray, "t g c c"], tuple[str, ...], str, int]:
    """Return the confusion matrices of each trial and group, the groups' names, what they are, and
    clips a trial.
    """
    whole = (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame({"subject": [], "clip": [], "key": []})
    )
    known = [name for name in ("subject", "clip") if len(whole) and "" not in set(whole[name])]
    grouped = [*known, "key"][0]
    owner = dict(zip(whole["clip"], whole[grouped], strict=True)) if level == "clips" else {}
    parts = [metrics.to_clips(table, classes) if level == "clips" else table for table in tables]
    owners = [
        [owner[clip] for clip in part["clip"]] if level == "clips" else list(part[grouped])
        for part in parts
    ]
    units = tuple(sorted({name for one in owners for name in one}))
    place = {name: number for number, name in enumerate(units)}
    number = {name: place for place, name in enumerate(classes)}
    shape = (len(parts), len(units), len(classes), len(classes))
    counts = np.zeros(
        shape, np.uint8 if grouped == "key" else np.float64
    )  # of images there are many, and one of each
    for trial, (part, owner_of) in enumerate(zip(parts, owners, strict=True)):
        where = [place[name] for name in owner_of]
        true, given = ([number[name] for name in part[column]] for column in ("true", "predicted"))
        np.add.at(counts, (trial, where, true, given), 1)
    clips = [len(set(table["clip"]) - {""}) for table in tables]
    return (
        counts,
        units,
        "image" if grouped == "key" else grouped,
        round(float(np.mean(clips or [0]))),
    )


def _gap(ours: Cell, theirs: Cell, metric: str) -> Interval:
    """Return how far one cell lies above another; paired where both were tested on the same
    groups.
    """
    first, second = ours.drawn(metric), theirs.drawn(metric)
    drawn = None if first is None or second is None else first - second
    return stats.around(ours.mean(metric) - theirs.mean(metric), drawn)


def _compared(ours: Cell, theirs: Cell) -> Comparison:
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


# How far it is


def status(name: str, store: Store) -> str:
    """Say how far a study is, in some lines: done, failed, under way, to come, and how long that
    should take.
    """
    study = Study(name, store)
    failed = {trial["run"] for trial in study.failed}
    busy = {run for run in study.runs if run not in study.done and store.working(run)}
    kinds = {trial["run"]: trial for trial in study.trials}
    lines = [
        (
            f"{study.title}: {len(study.done)} of {many(len(study.runs), 'trial')} done, in "
            f"{duration(study.seconds)}"
        )
    ]
    for what, control in (("cells", False), ("controls", True)):
        runs = [run for run in study.runs if bool(kinds[run]["control"]) is control]
        if runs:
            lines.append(f"  {what:<12}{sum(run in study.done for run in runs):>5} of {len(runs)}")
    databases = study.plan["databases"]
    made = [
        one[part] for one in databases for part in ("generator", "database", "copycat") if one[part]
    ]
    if made:
        kinds_of = (
            "generators, databases and copycats"
            if any(one["copycat"] for one in databases)
            else ("generators and databases")
        )
        lines.append(f"  {kinds_of:<35}{sum(store.done(run) for run in made):>3} of {len(made)}")
    lines += [f"  under way   {described(study, kinds[run])}" for run in busy]
    lines += [f"  under way   {run}" for run in made if not store.done(run) and store.working(run)]
    lines.append(
        "  to come     "
        f"{len(study.runs) - len(study.done) - len(failed - busy)}{_left(study, kinds, failed)}"
    )
    errors = Counter(trial["error"] for trial in study.failed if trial["run"] not in busy)
    lines += [f"  failed      {n} x {text}" for text, n in errors.items()]
    return "\n".join(lines)


def _left(study: Study, kinds: dict[str, dict[str, Any]], failed: set[str]) -> str:
    """Return how long the trials to come should take, judged by those of their kind that are
    done.
    """
    taken: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for name, run in study.done.items():
        taken[_kind(kinds[name])].append(run.seconds)
    means = {kind: float(np.mean(seconds)) for kind, seconds in taken.items()}
    todo = [name for name in study.runs if name not in study.done and name not in failed]
    known = [means[_kind(kinds[name])] for name in todo if _kind(kinds[name]) in means]
    if not known:
        return ""
    rest = (
        f", {len(todo) - len(known)} of them of a kind that none is done of"
        if len(known) < len(todo)
        else ""
    )
    return f", about {duration(float(np.sum(known)) * len(todo) / len(known))}{rest}"


def _kind(trial: dict[str, Any]) -> tuple[str, str, str]:
    return trial["classifier"], trial["ablation"], trial["train"]


def described(study: Study, trial: dict[str, Any]) -> str:
    """Return what a trial is, in words."""
    fold = "" if study.protocol == "frame" else f", fold {trial['fold']}"
    shared = (
        sum(one["run"] == trial["run"] for one in study.trials) > 1
    )  # without randomness one run is all trials
    number = "" if shared else f", trial {trial['trial'] + 1}"
    kind = f" {trial['ablation']}" if trial["ablation"] and len(study.ablations) > 1 else ""
    control = f" ({trial['control']})" if trial["control"] else ""
    train = trial["train"].replace("_", " and ")
    return f"{trial['classifier']}{kind}{control} trained on {train}{number}{fold}"


# Finding things


def find(name: str, store: Store) -> Run:
    """Return the run of a study that `name`, an alias or a run, stands for (study.recorded reads
    files).

    Raises StoreError if it was never run or is something else.
    """
    run = store.run(name)
    if run.stage != "study":
        raise StoreError(
            f"a study must be named, and {name} is {run.name}; `mien ls study` lists the studies"
        )
    return run
