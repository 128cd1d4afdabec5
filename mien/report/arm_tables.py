"""Tables of the arms of a study: scores, sizes, recalls, and filters."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mien.classifiers.specs import ClassifierSpec
from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, TableRow, make_row
from mien.report.answers import pool_pairs
from mien.report.arms import ALTERNATIVES, ReportArm, compares_uses, list_arms
from mien.report.sentences import format_signed
from mien.report.words import format_classifier, format_score
from mien.runs.progress import quantify
from mien.runs.spec import read_spec
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.uses.specs import DROP_REASONS, KEPT, KEPT_BELOW

ARM_METRICS = {"accuracy": "accuracy, %", "uar": "UAR", "uf1": "UF1"}


def make_arm_table(study: StudyResults) -> ReportTable | None:
    """Return the scores of each arm of all people, with its sizes, or None without such arms.

    The difference is that in UAR from the best alternative of the same classifier.
    """
    arms = list_arms(study) if compares_uses(study) and not study.units else []
    if not any(arm.kind == "way" for arm in arms):
        return None

    # The rows of each classifier, with its own best alternative
    rows: list[TableRow] = []
    for classifier in study.classifiers:
        of_classifier = [arm for arm in arms if classifier in arm.cells]
        if len(study.classifiers) > 1:
            rows.append(make_row(format_classifier(study, classifier), kind="group"))
        best = find_best_alternative(of_classifier, classifier)
        rows += [_make_arm_row(study, arm, classifier, best) for arm in of_classifier]

    # The head, and how to read the numbers
    level = next(iter(arms[0].cells.values())).level[:-1]
    head = ("trained on", *ARM_METRICS.values(), "difference in UAR, points", "images", "updates")
    note = (
        "Tests are on real faces. Numbers are means over trials with the 95 % interval over "
        "people. The difference is that from the best alternative: real faces alone, or with "
        "copies, in the ablation and way with the highest UAR. These intervals are those of each "
        "row by itself; only the answer at the top of the report is corrected for the choice of "
        "the best. Images and updates are those of a training, the mean over trials and folds. "
        f"{describe_updates(study)}"
    )
    return ReportTable(f"Ways of using synthetic faces, by {level}", head, tuple(rows), note)


def find_best_alternative(arms: Sequence[ReportArm], classifier: str) -> ReportArm | None:
    """Return the alternative that a classifier has finished with the highest UAR, or None."""
    finished = [arm for arm in arms if arm.kind in ALTERNATIVES and arm.finished_for([classifier])]
    return max(finished, key=lambda arm: arm.cells[classifier].average_trials("uar"), default=None)


def _make_arm_row(
    study: StudyResults, arm: ReportArm, classifier: str, best: ReportArm | None
) -> TableRow:
    """Return the row of an arm and classifier."""
    cell = arm.cells[classifier]
    if not cell.whole:
        done = f"{len(cell.done)} of {quantify(len(cell.trials), 'trial')}"
        holes = [TableCell(EMPTY_CELL, hole=True)] * (len(ARM_METRICS) + 2)
        return make_row(arm.name(study), TableCell(EMPTY_CELL, done, hole=True), *holes)

    # The difference in UAR; the best alternative has none
    difference = TableCell(EMPTY_CELL, hole=True)
    if best is arm:
        difference = TableCell("best alternative")
    elif best is not None:
        gap, _ = pool_pairs([(cell, best.cells[classifier])], "uar")
        bounds = (
            "" if math.isnan(gap.low) else f"[{format_signed(gap.low)}, {format_signed(gap.high)}]"
        )
        difference = TableCell(format_signed(gap.value), bounds)

    images, updates = find_training_size(study, cell)
    return make_row(
        arm.name(study),
        *(_make_score_entry(cell, metric) for metric in ARM_METRICS),
        difference,
        EMPTY_CELL if images is None else f"{images:,.0f}",
        EMPTY_CELL if updates is None else f"{updates:,.0f}",
        kind="control" if arm.kind in ALTERNATIVES else "",
    )


def _make_score_entry(cell: ResultCell, metric: str) -> TableCell:
    """Return a score of a finished cell with its interval."""
    bounds = cell.estimate_interval(metric)
    if bounds is None:
        return TableCell(EMPTY_CELL, hole=True)
    interval = (
        ""
        if math.isnan(bounds.low)
        else f"[{format_score(bounds.low, metric)}, {format_score(bounds.high, metric)}]"
    )
    return TableCell(format_score(bounds.value, metric), interval)


def collect_arms(study: StudyResults) -> list[ReportTable]:
    """Return the tables of the arms of a study: scores, recalls and filters; [] without arms."""
    makers = (make_arm_table, make_arm_recall_table, make_filter_table)
    return [sheet for make in makers if (sheet := make(study)) is not None]


# The sizes of trainings


def find_training_size(study: StudyResults, cell: ResultCell) -> tuple[float | None, float | None]:
    """Return how many images a cell's trainings have, and how many updates; means over its runs.

    None stands for a number that the runs do not tell. Updates are not known for a baseline, nor if
    a part of the images chooses the epoch.
    """
    runs = [run for names in study.find_runs(cell).values() for run in names if run in study.done]
    sizes = [
        int(size) for run in runs if isinstance(size := study.done[run].summary.get("trained"), int)
    ]
    fields = study.spec["classifiers"].get(cell.classifier, {}).get(cell.ablation)
    images = float(np.mean(sizes)) if sizes else None
    if not isinstance(fields, dict):
        return images, None
    spec = read_spec(ClassifierSpec, fields, study.run.name)
    if spec.updates is not None:
        return images, float(spec.updates)
    if not sizes or spec.validation:
        return images, None
    return images, float(np.mean([spec.count_steps(size) for size in sizes]))


def describe_updates(study: StudyResults) -> str:
    """Return whether all arms were trained for as many updates, in one sentence, or ""."""
    updates_of_arms = []
    for arm in list_arms(study):
        for cell in arm.cells.values():
            _, updates = find_training_size(study, cell)
            if updates is not None:
                updates_of_arms.append((round(updates), arm.name(study)))
    if not updates_of_arms:
        return ""
    (fewest, first), (most, last) = min(updates_of_arms), max(updates_of_arms)
    if fewest == most:
        return f"All arms were trained for {fewest:,} updates."
    return (
        f"The arms differ in their number of updates, from {fewest:,} ({first}) to {most:,} "
        f"({last}), so a part of their differences may come from longer training; `updates` in "
        "[classifier] gives all arms as many."
    )


# Classes


def make_arm_recall_table(study: StudyResults) -> ReportTable | None:
    """Return the recall of each class in each arm in per cent, or None without such arms."""
    arms = list_arms(study) if compares_uses(study) and not study.units else []
    if not any(arm.kind == "way" for arm in arms):
        return None

    # The real images of each class, then a row for each finished arm
    by_class = study.count_training().by_class
    rows = [
        make_row(
            "real training images",
            *(f"{by_class[name]:,.0f}" for name in study.classes),
            kind="total",
        )
    ]
    for classifier in study.classifiers:
        for arm in arms:
            if classifier in arm.cells and arm.cells[classifier].whole:
                name = arm.name(study)
                if len(study.classifiers) > 1:
                    name = f"{format_classifier(study, classifier)}: {name}"
                recall = arm.cells[classifier].compute_recall()
                rows.append(make_row(name, *map(_make_recall_entry, recall)))
    level = next(iter(arms[0].cells.values())).level[:-1]
    return ReportTable(
        f"Recall of each class after each training, in per cent, by {level}",
        ("trained on", *study.classes),
        tuple(rows),
        "The first row has the number of real training images of each class, the mean over folds.",
    )


def _make_recall_entry(share: float) -> TableCell:
    """Return a recall in per cent, with the share that colours it."""
    if math.isnan(share):
        return TableCell(EMPTY_CELL, hole=True)
    return TableCell(format_score(share, "accuracy"), share=float(share))


# Filters


def make_filter_table(study: StudyResults) -> ReportTable | None:
    """Return what the filters of ways keep and drop per class and fold, or None without filters."""
    rows = list(_list_filter_rows(study))
    if not rows:
        return None
    reasons = ", ".join(DROP_REASONS.values())
    note = (
        "Kept images of all synthetic ones of a class, and in small print how many were dropped "
        f"because {reasons}. A filter keeps a share of each class."
    )
    head = ("way and fold", *study.classes)
    return ReportTable("What filters keep of the synthetic faces", head, tuple(rows), note)


def _list_filter_rows(study: StudyResults) -> Iterator[TableRow]:
    """Yield a row for each way with a filter and each fold, where the filter's run is done."""
    for database in study.plan.databases:
        for use, name in database.filtered.items():
            if not study.store.is_done(name):
                continue
            table = {row["class"]: row for row in study.store.run(name).summary["filtered"]}
            share = (
                "" if database.people is None else f", {100 * database.people:g} % of the people"
            )
            entries = [
                _make_filter_entry(table[label]) if label in table else EMPTY_CELL
                for label in study.classes
            ]
            yield make_row(f"{use}, fold {database.fold}{share}", *entries)


def _make_filter_entry(row: dict[str, int]) -> TableCell:
    """Return what is kept of a class, and in small print what was dropped for each reason."""
    below = row.get(KEPT_BELOW, 0)
    dropped = " / ".join(f"{row[reason]:,}" for reason in DROP_REASONS)
    note = f"; {below:,} kept do not pass" if below else ""
    return TableCell(f"{row[KEPT] + below:,} of {row['given']:,}", dropped + note)
