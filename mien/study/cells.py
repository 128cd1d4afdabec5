"""Cells and comparisons: scores over trials and folds, with their spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Num

from mien import metrics, published, stats
from mien.faces import OWNER_COLUMNS, OwnerUnit, find_known_unit
from mien.seeds import derive_seed
from mien.stats import Interval, Summary, summarise

MIN_PEOPLE = 6  # the fewest people whose sign flips can give a p below 0.05: 2 / 2 ** 6

SIGNIFICANT_P = 0.05  # a p below this, with an interval that excludes zero, is an answer

# an accuracy above this on held-out people is more likely a leak than a result
LEAK_ACCURACY = 0.95

PUBLISHED_ABLATIONS = {"plain": "none", "augment": "augmentation", "freeze30": "freezing"}
"""The names of the ablations in the preprint's tables."""


@dataclass(frozen=True)
class ResultCell:
    """The scores of each trial of a setting, classifier and ablation, pooled over folds.

    `trials` has None for each trial that is not done. `control` is empty for a cell, or the name of
    the control. `counts` are [trials, groups, classes, classes], the confusion matrices of each
    finished trial and each group (`units`): subjects if all are known, else clips, else
    images. `clips` is the number of clips that a trial tests, the mean over trials. `like` says
    whether its classes are the preprint's; only then can the published numbers be compared with it.
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
    grouped: OwnerUnit
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

    def summarise(self, metric: str) -> Summary | None:
        """Return mean and spread over all trials, or None if a trial is missing."""
        return summarise([scores.get(metric) for scores in self.done]) if self.whole else None

    def estimate_interval(self, metric: str) -> Interval | None:
        """Return the mean over trials with its 95 % interval over subjects, nothing if a trial is
        missing.
        """
        return (
            stats.make_interval(self.average_trials(metric), self.bootstrap(metric))
            if self.whole
            else None
        )

    def average_trials(self, metric: str) -> float:
        """Return the mean over the finished trials."""
        return stats.average_over_trials(self.counts, metrics.make_measure(metric))

    def bootstrap(self, metric: str) -> Float[np.ndarray, " draws"] | None:
        """Return the score of each bootstrap draw of the groups."""
        if metric not in self._bootstraps:
            self._bootstraps[metric] = stats.bootstrap(
                self.counts, metrics.make_measure(metric), self.draw
            )
        return self._bootstraps[metric]

    @cached_property
    def _bootstraps(self) -> dict[str, Float[np.ndarray, " draws"] | None]:
        return {}

    @property
    def draw(self) -> str:
        """The name of its bootstrap: cells with the same groups share the same draws."""
        return f"{derive_seed('units', *self.units):x}"

    def score_constant_answer(self, metric: str) -> float | None:
        """Return the score of always answering the commonest class, or None if no trial is done."""
        return self.commonest.average_trials(metric) if self.done else None

    @cached_property
    def commonest(self) -> "ResultCell":
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
        trials, counts = count_once(scores, counts)
        return replace(self, control="constant", trials=trials, counts=counts)

    @property
    def published(self) -> float | None:
        """The preprint's average for this setting, network and ablation in per cent, or None."""
        ablation = PUBLISHED_ABLATIONS.get(self.ablation)
        if not ablation or not self.like or self.control:
            return None
        return published.find_average(self.setting, self.network, ablation)

    def sum_confusions(self) -> np.ndarray:
        """Return int [classes, classes], rows = true: the sum over folds and finished trials."""
        return np.sum([scores.confusion for scores in self.done], axis=0)

    def compute_recall(self) -> Float[np.ndarray, " c"]:
        """Return the recall of each class over all finished trials, nan for one without samples."""
        counts = self.sum_confusions()
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
    grouped: OwnerUnit
    level: str


def count_once(
    trials: tuple[metrics.Scores | None, ...], counts: Num[np.ndarray, "t g c c"]
) -> tuple[tuple[metrics.Scores | None, ...], Num[np.ndarray, "some g c c"]]:
    """Return only the first trial if all are equal: their spread of 0 would mean nothing."""
    are_equal = None not in trials and all((by_group == counts[0]).all() for by_group in counts)
    return (trials[:1], counts[:1]) if are_equal else (trials, counts)


def group_predictions(
    tables: Sequence[pd.DataFrame], classes: tuple[str, ...], level: str
) -> tuple[Num[np.ndarray, "t g c c"], tuple[str, ...], OwnerUnit, int]:
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
    unit = find_known_unit(rows) if len(rows) else "image"
    column = OWNER_COLUMNS[unit]

    # The group of each scored row; a clip belongs to the group of its images
    by_clip = level == "clips"
    clips_of_rows, groups_of_rows = (rows[name].to_numpy(dtype=object) for name in ("clip", column))
    group_of = dict(zip(clips_of_rows, groups_of_rows, strict=True)) if by_clip else {}
    scored = [metrics.merge_into_clips(table, classes) if by_clip else table for table in tables]
    groups = [
        [group_of[clip] for clip in table["clip"].to_numpy(dtype=object)]
        if by_clip
        else table[column].to_numpy(dtype=object).tolist()
        for table in scored
    ]
    units = tuple(sorted({name for names in groups for name in names}))

    # Count; images as groups are many, with one answer each, so small integers are enough
    unit_index = {name: index for index, name in enumerate(units)}
    class_index = {name: index for index, name in enumerate(classes)}
    shape = (len(scored), len(units), len(classes), len(classes))
    counts = np.zeros(shape, np.uint8 if column == "key" else np.float64)
    for trial, (table, names) in enumerate(zip(scored, groups, strict=True)):
        group = np.array([unit_index[name] for name in names], dtype=np.int64)
        true, predicted = (
            np.array(
                [class_index[name] for name in table[column].to_numpy(dtype=object)], dtype=np.int64
            )
            for column in ("true", "predicted")
        )
        counts[trial] = metrics.count_grouped_confusion(
            group, true, predicted, len(units), len(classes)
        )

    clips = [len(set(table["clip"].unique()) - {""}) for table in tables]
    return counts, units, unit, round(float(np.mean(clips or [0])))


def estimate_gap(ours: ResultCell, theirs: ResultCell, metric: str) -> Interval:
    """Return the difference of two cells with its interval, paired if their groups are the same."""
    first, second = ours.bootstrap(metric), theirs.bootstrap(metric)
    differences = None if first is None or second is None else first - second
    return stats.make_interval(
        ours.average_trials(metric) - theirs.average_trials(metric), differences
    )


def compare_cells(ours: ResultCell, theirs: ResultCell) -> Comparison:
    """Return the comparison of two cells; p is nan if their groups are not the same."""
    right = [
        np.einsum("tgii->g", cell.counts, dtype=np.float64) / len(cell.counts)
        for cell in (ours, theirs)
    ]
    p = (
        stats.test_by_sign_flips(right[0] - right[1], ours.draw)
        if ours.units == theirs.units
        else float("nan")
    )
    gap, trials = estimate_gap(ours, theirs, "accuracy"), len(ours.done)
    return Comparison(
        ours.classifier, ours.ablation, gap, p, trials, len(ours.units), ours.grouped, ours.level
    )
