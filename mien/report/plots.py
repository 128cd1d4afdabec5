"""The numbers of a report's charts, and the tables that repeat them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mien.classifiers.curves import CURVE_FILE
from mien.pages import charts
from mien.pages.charts import make_figure
from mien.pages.planes import FaceMap, draw_map
from mien.pages.tables import EMPTY_CELL, ReportTable, make_row
from mien.report.words import format_cell_name, format_classifier
from mien.runs.progress import quantify
from mien.runs.store import Run
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS, describe_arm, find_setting, is_of_all_people

CURVE_POINTS = 20  # points of a learning curve, at most

MOST_CURVES = 6  # curves of one chart; more are divided by their training sets


# Accuracies with their intervals and controls


def plot_accuracies(study: StudyResults) -> dict[str, Any]:
    """Return the rows of the chart of accuracies by image, in per cent, and their table.

    They are the cells of the first ablation with all training people; the tables of settings have
    the others.
    """
    cells = [
        cell
        for cell in study.cells
        if cell.level == "images" and cell.ablation == study.ablations[0]
    ]
    groups = [
        {
            "name": find_setting(setting).label,
            "rows": [_make_plot_row(study, cell) for cell in cells if cell.setting == setting],
        }
        for setting in filter(is_of_all_people, study.settings)
    ]

    # The same numbers as a table, and as one sentence
    rows = [row for group in groups for row in group["rows"]]
    published = any(row["published"] is not None for row in rows)
    lines = []
    for group in groups:
        lines.append(make_row(group["name"], kind="group"))
        lines += [make_row(*_list_row_texts(row, published)) for row in group["rows"]]
    head = (
        "train → test",
        "mean, %",
        "95 % interval",
        "trials",
        "constant answer",
        "other controls",
        *(["published"] if published else []),
    )
    numbers = ReportTable(f"Accuracy at a glance, by image, {study.title}", head, tuple(lines))
    means = [
        f"{group['name']}, {row['name']}: "
        + (f"{row['mean']:.1f} %" if row["mean"] is not None else row["done"])
        for group in groups
        for row in group["rows"]
    ]
    return {
        "groups": groups,
        "alt": f"Mean accuracies. {'; '.join(means)}. The table below has all numbers.",
        "unit": _name_units(cells),
        "controlled": any(row["controls"] for row in rows),
        "published": published,
        "numbers": numbers,
    }


def _name_units(cells: Sequence[ResultCell]) -> str:
    """Return what the intervals of cells are over, in words."""
    words = {"subject": "tested people", "clip": "tested clips", "image": "tested images"}
    units = [words[cell.grouped] for cell in cells if cell.done]
    return " or ".join(dict.fromkeys(units)) or words["subject"]


def _make_plot_row(study: StudyResults, cell: ResultCell) -> dict[str, Any]:
    """Return one row of the chart: a cell, its trials, and its controls."""
    # The scores of the cell; an interval can be missing, or unknown
    mean, bounds, constant = (
        cell.summarise("accuracy"),
        cell.estimate_interval("accuracy"),
        cell.score_constant_answer("accuracy"),
    )
    known = bounds is not None and not math.isnan(bounds.low)

    # Finished controls that answer for this cell; the constant answer has a mark of its own
    controls = [
        (study.label_control(control), round(100 * control.average_trials("accuracy"), 2))
        for control in study.find_controls(cell.setting, "images")
        if control.whole and study.serves(control, cell) and not CONTROLS[control.control].constant
    ]

    return {
        "name": format_cell_name(study, cell),
        "done": f"{len(cell.done)} of {quantify(len(cell.trials), 'trial')}",
        "dots": [round(100 * scores.accuracy, 2) for scores in cell.done],
        "mean": None if mean is None else round(100 * mean.mean, 2),
        "low": round(100 * bounds.low, 2) if bounds is not None and known else None,
        "high": round(100 * bounds.high, 2) if bounds is not None and known else None,
        "constant": None if constant is None else round(100 * constant, 2),
        "controls": controls,
        "published": cell.published,
    }


def _list_row_texts(row: Mapping[str, Any], published: bool) -> list[str]:
    """Return the texts of a row of the chart's table, with a column of published numbers or not."""
    return [
        row["name"],
        EMPTY_CELL if row["mean"] is None else f"{row['mean']:.2f}",
        EMPTY_CELL if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
        ", ".join(f"{dot:.2f}" for dot in row["dots"]) or EMPTY_CELL,
        EMPTY_CELL if row["constant"] is None else f"{row['constant']:.2f}",
        "; ".join(f"{name} {value:.2f}" for name, value in row["controls"]) or EMPTY_CELL,
        *([EMPTY_CELL if row["published"] is None else f"{row['published']:.2f}"] * published),
    ]


# Learning curves


def plot_learning_curves(study: StudyResults) -> list[dict[str, Any]]:
    """Return the charts of generators' losses and of classifiers' losses and accuracies.

    Trainings that kept no curve are left out; without any there is no chart.
    """
    generators = _plot_generators(study)
    return [*([generators] if generators is not None else []), *_plot_classifiers(study)]


def _plot_generators(study: StudyResults) -> dict[str, Any] | None:
    """Return the chart of the generators' losses over images seen, or None if there are none."""
    curves = {}
    for database in study.plan.databases:
        name = f"fold {database.fold}" if database.fold >= 0 else "all images"
        run = _find_run(study, database.generator)
        table = None if run is None else _read_csv(run, "loss.csv")
        if table is not None and len(table) > 1:
            curves[name] = _thin(table["images_seen"], table["loss"])
    if not curves:
        return None
    caption = f"Training loss of the generator, {study.title}"
    return make_figure(
        f"generator-loss-{study.title}",
        caption,
        charts.draw_curves(caption, "images seen", "loss", curves),
        _tabulate_curves(f"{caption}: numbers", "images seen", curves),
        f"Each point is a mean over one of up to {CURVE_POINTS} stretches of the training.",
    )


CURVE_TEXTS = {
    "loss": (
        "Training loss",
        "Mean cross-entropy of the training images in each epoch, over trials and folds.",
    ),
    "accuracy": (
        "Training accuracy",
        "Share of training images answered right in each epoch, over trials and folds. An accuracy "
        "near 1 says that the training images are known by heart, not that new people are "
        "recognised.",
    ),
}
"""The title and text of the charts of classifiers, by the column of a learning curve."""


def _plot_classifiers(study: StudyResults) -> list[dict[str, Any]]:
    """Return charts of the classifiers' losses and accuracies by epoch.

    They are of the first ablation and without controls. All classifiers are in one chart, or in one
    chart for each training set if they are many.
    """
    # The curves of each classifier on each training set: a table per trial
    tables: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for trial in study.trials:
        if trial.control or trial.ablation != study.ablations[0] or trial.run not in study.done:
            continue
        table = _read_csv(study.done[trial.run], CURVE_FILE)
        if table is not None and len(table):
            trained_on = {"both": "real + synthetic"}.get(trial.train, trial.train)
            trained_on += describe_arm(trial.arm)
            name = format_classifier(study, trial.classifier)
            tables.setdefault((name, trained_on), []).append(table.set_index("epoch"))

    # One chart for all, or one for each training set
    sets = dict.fromkeys(trained_on for _, trained_on in tables)
    together = len(tables) <= MOST_CURVES
    groups = (
        [list(tables)] if together else [[key for key in tables if key[1] == name] for name in sets]
    )
    return [
        _plot_classifier_column(study, column, {key: tables[key] for key in group}, together)
        for column in CURVE_TEXTS
        for group in groups
        if group
    ]


def _plot_classifier_column(
    study: StudyResults,
    column: str,
    tables: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    together: bool,
) -> dict[str, Any]:
    """Return the chart of one column of learning curves: its mean over trials, by epoch."""
    curves = {}
    for (classifier, trained_on), trial_tables in tables.items():
        mean = pd.concat([table[column] for table in trial_tables], axis=1).mean(axis=1)
        name = f"{classifier} on {trained_on}" if together else classifier
        curves[name] = _thin(mean.index.to_series(), mean)

    # The training set is in the caption where it is not in the names of the curves
    title, text = CURVE_TEXTS[column]
    trained_on = "" if together else next(iter(tables))[1]
    caption = f"{title} of the classifiers{f' on {trained_on}' * (not together)}, {study.title}"
    name = "-".join([f"classifier-{column}", study.title, *trained_on.replace("+", "").split()])
    return make_figure(
        name,
        caption,
        charts.draw_curves(caption, "epoch", column, curves),
        _tabulate_curves(f"{caption}: numbers", "epoch", curves),
        text,
    )


def _find_run(study: StudyResults, name: str) -> Run | None:
    return study.store.run(name) if name and study.store.is_done(name) else None


def _read_csv(run: Run, file: str) -> pd.DataFrame | None:
    """Return a table of a run, or None if the run has no such file."""
    return pd.read_csv(run.find_file(file)) if (run.path / file).exists() else None


def _thin(x: pd.Series, y: pd.Series) -> tuple[list[float], list[float]]:
    """Return up to CURVE_POINTS points: the last x and the mean y of stretches of equal length."""
    stretches = np.array_split(np.arange(len(x)), min(CURVE_POINTS, len(x)))
    xs, ys = x.to_numpy(np.float64), y.to_numpy(np.float64)
    return (
        [float(xs[stretch[-1]]) for stretch in stretches],
        [float(ys[stretch].mean()) for stretch in stretches],
    )


def _tabulate_curves(
    caption: str, head: str, curves: Mapping[str, tuple[list[float], list[float]]]
) -> ReportTable:
    """Return the points of curves as a table, one row for each value of x."""
    by_x = {name: dict(zip(*points, strict=True)) for name, points in curves.items()}
    rows = [
        make_row(
            f"{x:,.0f}",
            *(f"{points[x]:.4f}" if x in points else EMPTY_CELL for points in by_x.values()),
        )
        for x in sorted({x for points in by_x.values() for x in points})
    ]
    return ReportTable(caption, (head, *curves), tuple(rows))


# The map of real and synthetic faces


def plot_map(study: StudyResults, faces: FaceMap) -> dict[str, Any]:
    """Return the chart of a map of faces, and a table of the centres of each group and class."""
    first, second = (f"{100 * share:.0f} %" for share in faces.shares)
    fold = f" of fold {faces.fold}" if faces.fold >= 0 else ""
    text = (
        f"Each point is a face{fold}; no face is shown. The axes are those of most variance of the "
        f"real training faces ({first} and {second} of it) in the features of a small classifier, "
        "the judge, which learns the classes from these faces alone. Where synthetic points leave "
        "out a part of the real ones, variety is missing; training and held-out points differ by "
        "as much as new people do."
    )
    caption = f"Real and synthetic faces in the plane, {study.title}"
    return draw_map(f"map-{study.title}", caption, text, study.classes, faces)
