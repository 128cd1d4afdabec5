"""Predictions of a trial: the one file that all its scores come from.

A trial writes predictions.parquet, and records.json for people and for other programs. mien itself
never reads records.json: reports compute the same records from the predictions again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien import metrics
from mien.runs.files import write_indented_json
from mien.runs.store import Run
from mien.stats import Record
from mien.study.unit_scores import count_answers, measure_f1, measure_mean, merge_into_clips

PREDICTIONS_FILE, RECORDS_FILE = "predictions.parquet", "records.json"

LEAD_METRIC_SUFFIX, MEAN_F1_SUFFIX = "images/accuracy", "/mean_f1"


def write_predictions(table: pd.DataFrame, run: str, spec: Mapping[str, Any], out: Path) -> None:
    """Write both files of the trial `run`; `spec` has the fields of its TrialSpec."""
    table.to_parquet(out / PREDICTIONS_FILE, index=False)
    records = score_predictions(table, run, spec)
    write_indented_json(out / RECORDS_FILE, [asdict(record) for record in records])


def read_predictions(run: Run) -> pd.DataFrame:
    """Return the predictions of a trial: a row per test image, as `run_trial` describes them."""
    return pd.read_parquet(run.find_file(PREDICTIONS_FILE))


def score_predictions(table: pd.DataFrame, run: str, spec: Mapping[str, Any]) -> Iterator[Record]:
    """Yield accuracy, uf1 and uar of each test set, named `set/level/metric`.

    They are by image and, for real test images that were not split by frame, by clip. Of a trial
    whose target is action units, they are F1 of each unit (f1_12 of unit 12) and their mean.
    """
    if spec.get("units"):
        yield from _score_units(table, run, tuple(spec["units"]))
        return
    for name in spec["tests"]:
        rows = table.loc[table["test"] == name]
        for level in list_levels(spec["by"]) if name == "real" else metrics.SCORED_UNITS[:1]:
            scores = metrics.score_table(rows, tuple(spec["classes"]), level)
            if scores is not None:
                for metric in metrics.SCORES:
                    yield Record(f"{name}/{level}/{metric}", scores.get(metric), scores.n, run=run)


def _score_units(table: pd.DataFrame, run: str, units: tuple[int, ...]) -> Iterator[Record]:
    """Yield the F1 of each action unit that a clip or image of the test set shows, and the mean."""
    level, rows = merge_into_clips(table, units)
    counts, _, _ = count_answers(rows, units)
    f1 = measure_f1(counts.sum(axis=0))
    for unit, value in zip(units, f1, strict=True):
        if not np.isnan(value):
            yield Record(f"real/{level}/f1_{unit}", float(value), len(rows), run=run)
    yield Record(f"real/{level}/mean_f1", measure_mean(f1), len(rows), run=run)


def list_levels(protocol: str) -> tuple[str, ...]:
    """Return the units that are scored: images, and clips where the split keeps clips together."""
    return metrics.SCORED_UNITS[:1] if protocol == "frame" else metrics.SCORED_UNITS


def list_accuracies(table: pd.DataFrame, run: str, spec: Mapping[str, Any]) -> dict[str, Record]:
    """Return the accuracy by image on each test set, or the mean F1 of action units."""
    return {
        record.metric.partition("/")[0]: record
        for record in score_predictions(table, run, spec)
        if record.metric.endswith((LEAD_METRIC_SUFFIX, MEAN_F1_SUFFIX))
    }
