"""Action units as the target of a study: which ones, and F1 of each."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from mien import metrics, stats
from mien.errors import DataError
from mien.faces import OWNER_COLUMNS, Faces, find_known_unit
from mien.prepare.facs import SIDES, tabulate_units
from mien.seeds import derive_seed
from mien.stats import Interval

MIN_CLIPS = 10
"""A unit is a target if so many clips (or photographs) of every training side show it."""

YES = 0.5  # an answer with this probability or more is yes


# Which units


def choose_units(faces: Faces, sides: Sequence[np.ndarray], where: str) -> tuple[int, ...]:
    """Return the units that MIN_CLIPS clips or more of each training side show, in order.

    `sides` has the mask or the positions of each training side. Raises DataError if there is no
    such unit; its message begins with `where`, which says what needs them.
    """
    counts = [count_clips(faces.select(side)) for side in sides]
    units = sorted(set().union(*counts))
    fewest = {unit: min(clips.get(unit, 0) for clips in counts) for unit in units}
    chosen = tuple(unit for unit, clips in fewest.items() if clips >= MIN_CLIPS)
    if not chosen:
        most = max(fewest.values(), default=0)
        raise DataError(
            f"{where} needs an action unit that {MIN_CLIPS} clips of every training side show; no "
            f"unit is shown by more than {most}. Use more faces, or fewer folds"
        )
    return chosen


def count_clips(faces: Faces) -> dict[int, int]:
    """Return the number of clips that show each unit; a photograph counts as a clip."""
    rows = tabulate_units(faces).drop_duplicates(["clip", "number"])
    return {
        int(str(unit)): int(n) for unit, n in rows["number"].value_counts().sort_index().items()
    }


def describe_coding(faces: Faces) -> dict[int, str]:
    """Return how each unit was coded in some clips: on one side, unsurely, or without movement."""
    rows = tabulate_units(faces)
    texts = {}
    for unit, unit_rows in rows.groupby("number"):
        codings = {
            name: set(unit_rows["clip"][unit_rows["side"] == letter])
            for letter, name in SIDES.items()
        }
        codings["unsure"] = set(unit_rows["clip"][unit_rows["unsure"]])
        codings["without movement"] = set(unit_rows["clip"][unit_rows["static"]])
        counts = [f"{len(clips)} {name}" for name, clips in codings.items() if clips]
        texts[int(str(unit))] = ", ".join(counts)
    return texts


# Predictions of a trial


def tabulate_answers(
    chances: Float[np.ndarray, "n units"],
    true: Float[np.ndarray, "n units"],
    name: str,
    faces: Faces,
    units: Sequence[int],
) -> pd.DataFrame:
    """Return the predictions of a test set: a row per image, true_UNIT (0 or 1) and p_UNIT."""
    owners = {name: list(faces.index[name]) for name in ("key", "subject", "clip")}
    answers = {f"true_{unit}": true[:, n].astype(np.int64) for n, unit in enumerate(units)}
    answers |= {f"p_{unit}": chances[:, n] for n, unit in enumerate(units)}
    return pd.DataFrame({"test": name, **owners, **answers})


def merge_into_clips(table: pd.DataFrame, units: Sequence[int]) -> tuple[str, pd.DataFrame]:
    """Return what is scored, clips or images, and a row for each.

    A clip has the mean of its frames' probabilities. Where no clip is known, images are scored;
    where some are, a photograph counts as a clip.

    Raises DataError if an image was predicted twice, since it would count twice.
    """
    repeated = table.loc[table["key"].duplicated(), "key"].tolist()
    if repeated:
        raise DataError(
            f"each image must be predicted once in a pooled test set; '{repeated[0]}' was "
            "predicted more than once"
        )
    level = "clips" if (table["clip"] != "").any() else "images"
    names = table["clip"].where(table["clip"] != "", table["key"])
    how = {
        **dict.fromkeys(("key", "subject", "clip"), "first"),
        **{f"true_{unit}": "max" for unit in units},
        **{f"p_{unit}": "mean" for unit in units},
    }
    return level, table.groupby(names.rename("scored"), sort=True).agg(how).reset_index(drop=True)


# Scores


def count_answers(
    rows: pd.DataFrame, units: Sequence[int]
) -> tuple[Float[np.ndarray, "g units 2 2"], tuple[str, ...], str]:
    """Return how often each group has each truth (row: no, yes) and answer, by unit.

    The groups are the largest unit that is known of all rows: subjects, else clips, else images;
    their names and their kind are also returned.
    """
    kind = find_known_unit(rows)
    names, group = np.unique(rows[OWNER_COLUMNS[kind]].to_numpy(dtype=str), return_inverse=True)
    group = np.asarray(group, dtype=np.int64)
    counts = [
        metrics.count_grouped_confusion(
            group,
            rows[f"true_{unit}"].to_numpy(dtype=np.int64),
            (rows[f"p_{unit}"].to_numpy() >= YES).astype(np.int64),
            len(names),
            2,
        )
        for unit in units
    ]
    return np.stack(counts, axis=1), tuple(str(name) for name in names), str(kind)


def measure_f1(counts: Float[np.ndarray, "*some 2 2"]) -> Float[np.ndarray, "*some"]:
    """Return 2 TP / (2 TP + FP + FN) of yes, nan where the truth is never yes."""
    right, wrong = counts[..., 1, 1], counts[..., 0, 1] + counts[..., 1, 0]
    shown = counts[..., 1, :].sum(axis=-1) > 0
    return np.where(shown, 2 * right / np.maximum(2 * right + wrong, 1), np.nan)


def measure_mean(f1: Float[np.ndarray, " units"]) -> float:
    """Return the mean F1 of the units that occur, nan if none does."""
    return float(np.nanmean(f1)) if not np.isnan(f1).all() else float("nan")


@dataclass(frozen=True)
class UnitCell:
    """The F1 of each action unit by one classifier in one ablation, pooled over folds.

    `control` is empty, or the name of the control under which the classifier was trained. `f1` and
    `constant` have the interval of each unit, and `mean_f1` and `mean_constant` those of their mean
    over units; intervals are over `groups` groups of the kind `grouped`. The constant answer says
    yes to each image. `n` is the number of what `level` says is scored. Without a finished trial
    there are none; `done` of `trials` trials are done. `mean_draws` and `constant_draws` have the
    mean F1 of each resample of the groups; cells with the same groups share the resamples, so that
    their differences are paired.
    """

    classifier: str
    ablation: str
    done: int
    trials: int
    level: str = ""
    n: int = 0
    grouped: str = ""
    groups: int = 0
    f1: tuple[Interval, ...] = ()
    constant: tuple[Interval, ...] = ()
    mean_f1: Interval | None = None
    mean_constant: Interval | None = None
    shown: tuple[int, ...] = ()
    control: str = ""
    mean_draws: Float[np.ndarray, " draws"] | None = field(default=None, compare=False, repr=False)
    constant_draws: Float[np.ndarray, " draws"] | None = field(
        default=None, compare=False, repr=False
    )


def score_units(
    classifier: str,
    ablation: str,
    tables: Sequence[pd.DataFrame | None],
    units: Sequence[int],
    control: str = "",
) -> UnitCell:
    """Return the scores of the pooled predictions of each trial; None is one that is not done.

    The scores are the mean over trials; as with other cells, none is given while one is missing.
    """
    done = [table for table in tables if table is not None]
    if not done or len(done) < len(tables):
        return UnitCell(classifier, ablation, len(done), len(tables), control=control)

    # The counts of each trial, and those of the constant answer
    merged = [merge_into_clips(table, units) for table in done]
    counted = [count_answers(rows, units) for _, rows in merged]
    counts = np.stack([trial_counts for trial_counts, _, _ in counted])
    _, names, kind = counted[0]
    constant = np.zeros_like(counts)
    constant[..., 1] = counts.sum(axis=-1)

    # Each resample of the groups is the same for both
    draws = stats.draw_resamples(len(names), f"{derive_seed('units', *names):x}")
    measured, measured_draws = _estimate(counts, draws)
    constant_f1, constant_draws = _estimate(constant, draws)
    return UnitCell(
        classifier, ablation, len(done), len(tables), merged[0][0], len(merged[0][1]), kind,
        len(names), measured[:-1], constant_f1[:-1], measured[-1], constant_f1[-1],
        tuple(int(n) for n in counts[0].sum(axis=0)[:, 1].sum(axis=-1)),
        control, measured_draws, constant_draws,
    )  # fmt: skip


def estimate_gap(ours: UnitCell, theirs: UnitCell | None = None) -> Interval | None:
    """Return the difference of two cells in mean F1 with its interval, paired by group.

    Without `theirs` it is the difference from the constant answer. It is None if a trial is
    missing.
    """
    first, second = ours.mean_f1, ours.mean_constant if theirs is None else theirs.mean_f1
    if first is None or second is None:
        return None
    draws = ours.mean_draws
    other = ours.constant_draws if theirs is None else theirs.mean_draws
    gaps = None if draws is None or other is None else draws - other
    return stats.make_interval(first.value - second.value, gaps)


def _estimate(
    counts: Float[np.ndarray, "t g units 2 2"], draws: np.ndarray
) -> tuple[tuple[Interval, ...], Float[np.ndarray, " draws"] | None]:
    """Return the F1 of each unit with its interval, then that of their mean, and its resamples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample may lack a unit
        f1 = np.nanmean(measure_f1(counts.sum(axis=1)), axis=0)
        values = [*f1, np.nanmean(f1)]
        if counts.shape[1] < 2:
            return tuple(stats.make_interval(float(value), None) for value in values), None

        # Sum the counts of the groups in each resample, and score each
        flat = counts.transpose(1, 0, 2, 3, 4).reshape(counts.shape[1], -1)
        summed = (draws.astype(np.float64) @ flat).reshape(
            len(draws), counts.shape[0], *counts.shape[2:]
        )
        resampled = np.nanmean(measure_f1(summed), axis=1)
        columns = [*resampled.T, np.nanmean(resampled, axis=1)]
    intervals = tuple(
        stats.make_interval(float(value), None if np.isnan(value) else column)
        for value, column in zip(values, columns, strict=True)
    )
    return intervals, columns[-1]
