"""The report for other programs: one CSV row for each number."""

from collections.abc import Iterator
from typing import Any

from mien.report.comparison import METRICS, list_dataset_scores
from mien.report.units import list_unit_csv_rows
from mien.study.plan_file import TrialRecord
from mien.study.results import StudyResults
from mien.study.settings import Arm, find_setting

# For programs


CSV_COLUMNS: tuple[str, ...] = (
    "study", "protocol", "source", "setting", "train", "test", "classifier", "ablation",
    "control", "trial", "fold", "level", "metric", "value", "sd", "low", "high", "n", "run",
    "dataset", "use", "ratio", "people",
)  # fmt: skip


def list_csv_rows(study: StudyResults) -> Iterator[dict[str, Any]]:
    """Yield the rows of tables.csv; `source` says which of four kinds a row is.

    They are the records of trials, the scores pooled over folds, the means over trials with
    intervals, and the published numbers. Values are shares, 0 to 1. `fold` is "all" where
    folds are pooled; `trial` counts from 1, and is "mean" for means over trials, with `sd` (n - 1)
    and the 95 % interval over subjects. `dataset` is empty, or names the dataset of which the
    answers are scored, in means of studies of several datasets.
    """
    # The records of each trial and fold
    same = {"study": study.title, "protocol": study.protocol}
    for trial in study.trials:
        if trial.run in study.done:
            yield from _list_record_rows(study, trial, same)

    # The means of action units, if they are the target
    yield from list_unit_csv_rows(study, same)

    for cell in [*study.cells, *study.controls]:
        sources = study.plan.settings[cell.setting]
        fields = {
            **same,
            "setting": cell.setting,
            "train": sources.train,
            "test": sources.test,
            "fold": "all",
            "classifier": cell.classifier,
            "ablation": cell.ablation,
            "control": cell.control,
            "level": cell.level,
            **_list_arm_columns(find_setting(cell.setting).arm),
        }

        # The scores of each trial, pooled over folds
        for number, scores in enumerate(cell.trials, start=1):
            if scores is not None:
                for metric in METRICS:
                    value = {"metric": metric, "value": scores.get(metric), "n": scores.n}
                    yield {**fields, "source": "pooled", "trial": number, **value}

        # The means over trials, and the published average
        for metric in METRICS:
            summary, bounds = cell.summarise(metric), cell.estimate_interval(metric)
            if summary is not None and bounds is not None:
                uncertainty = {
                    "sd": summary.sd,
                    "low": bounds.low,
                    "high": bounds.high,
                    "n": cell.n,
                }
                value = {"metric": metric, "value": summary.mean, **uncertainty}
                yield {**fields, "source": "mean", "trial": "mean", **value}
        if cell.published is not None and cell.level == "images":
            value = {"metric": "accuracy", "value": round(cell.published / 100, 6)}
            yield {**fields, "source": "published", "trial": "mean", **value}

    # The means on each dataset
    for scores in list_dataset_scores(study):
        sources, cell = study.plan.settings[scores.cell.setting], scores.part
        for metric in METRICS:
            summary, bounds = cell.summarise(metric), cell.estimate_interval(metric)
            if summary is not None and bounds is not None:
                yield {
                    **same, "source": "mean", "setting": scores.cell.setting,
                    "train": sources.train, "test": sources.test, "classifier": cell.classifier,
                    "ablation": cell.ablation, "control": cell.control, "trial": "mean",
                    "fold": "all", "level": cell.level, "metric": metric, "value": summary.mean,
                    "sd": summary.sd, "low": bounds.low, "high": bounds.high, "n": cell.n,
                    "dataset": scores.dataset,
                }  # fmt: skip


def _list_arm_columns(arm: Arm) -> dict[str, str | float]:
    """Return the way of use, ratio and share of the people as columns; "" where there is none."""
    return {
        "use": "" if arm.train == "real" else arm.use,
        "ratio": "" if arm.ratio is None else arm.ratio,
        "people": 1 if arm.people is None else arm.people,
    }


def _list_record_rows(
    study: StudyResults, trial: TrialRecord, same: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the records of one trial and fold."""
    fields = trial.model_dump(include={"classifier", "ablation", "control", "train", "fold", "run"})
    settings = {
        (find_setting(name).arm, sources.test): name
        for name, sources in study.plan.settings.items()
    }
    for record in study.list_records(trial.run):
        test, level, metric = record.metric.split("/")
        setting = {
            "setting": settings.get((trial.arm, test), ""),
            "test": test,
            "trial": trial.trial + 1,
            **_list_arm_columns(trial.arm),
        }
        value = {"level": level, "metric": metric, "value": record.value, "n": record.n}
        yield {**same, "source": "record", **fields, **setting, **value}
