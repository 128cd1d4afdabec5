"""The tables of studies whose target is action units."""

import math
from collections.abc import Iterator
from typing import Any

from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, TableRow, make_row
from mien.report.words import format_classifier, format_score
from mien.runs.progress import quantify
from mien.stats import Interval
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS
from mien.study.unit_scores import MIN_CLIPS, UnitCell, count_clips, describe_coding

HEAD = ("action unit", "n", "F1", "always yes", "coded as")


def make_unit_table(study: StudyResults) -> ReportTable:
    """Return F1 of each action unit, beside that of the constant answer yes, by classifier.

    Controls of movement, if the study has any, are further columns in the rows of the first
    ablation.
    """
    labels = dict.fromkeys(CONTROLS[cell.control].label for cell in study.unit_controls)
    rows = tuple(row for cell in study.unit_cells for row in _make_rows(study, cell))
    return ReportTable("F1 of action units", (*HEAD[:-1], *labels, HEAD[-1]), rows)


def name_unit_cell(study: StudyResults, cell: UnitCell) -> str:
    """Return the printed name of a cell's classifier, and its ablation if there are several."""
    return format_classifier(study, cell.classifier) + (
        f", {cell.ablation}" if len(study.ablations) > 1 else ""
    )


def compare_unit_studies(studies: list[StudyResults]) -> ReportTable | None:
    """Return the mean F1 of several studies of action units side by side, or None for fewer."""
    studies = [study for study in studies if study.units]
    if len(studies) < 2:
        return None
    cells = [{name_unit_cell(study, cell): cell for cell in study.unit_cells} for study in studies]
    rows = []
    for name in dict.fromkeys(name for by_name in cells for name in by_name):
        study_cells = [by_name.get(name) for by_name in cells]
        means = [None if cell is None else cell.mean_f1 for cell in study_cells]
        entries = [
            TableCell(EMPTY_CELL, hole=True) if mean is None else _make_entry(mean)
            for mean in means
        ]
        rows.append(make_row(name, *entries))
    heads = [
        f"{study.title}, by {study.protocol}, {quantify(len(study.units), 'action unit')}"
        for study in studies
    ]
    return ReportTable("Mean F1 of action units, of all studies", ("", *heads), tuple(rows))


def explain_incomparable(studies: list[StudyResults]) -> str:
    """Return why studies of action units and of emotions are not in one table, or ""."""
    of_units = [study.title for study in studies if study.units]
    of_emotions = [study.title for study in studies if not study.units]
    if not (of_units and of_emotions):
        return ""
    return (
        f"The results of {' and '.join(of_units)} cannot be compared with those of "
        f"{' and '.join(of_emotions)}: the former are F1 scores of action units, and the latter "
        "are accuracies of emotions."
    )


def explain_unit_table(study: StudyResults) -> str:
    """Return what the numbers of the table are, and which units are left out."""
    # The units without scores, each with its number of clips
    left_out = [
        f"{unit} ({n})" for unit, n in count_clips(study.faces).items() if unit not in study.units
    ]

    # What is scored, and what the intervals are over
    finished = next((cell for cell in study.unit_cells if cell.f1), None)
    scored = "clips" if finished is None else finished.level
    spread = (
        ""
        if finished is None or finished.groups < 2
        else f", with its 95 % interval over {finished.groups} {finished.grouped}s"
    )
    return (
        f"n is the number of tested {scored} that show the unit, on any side and at any intensity. "
        f"F1 is pooled over folds first, and is the mean over trials{spread}. Always yes is the "
        "constant answer. The last column says how some of the clips were coded."
        + "".join(
            f" {label[0].upper()}{label[1:]}: {shows}."
            for label, shows in dict.fromkeys(
                (CONTROLS[cell.control].label, CONTROLS[cell.control].shows)
                for cell in study.unit_controls
            )
        )
        + (
            f" Left out, with the number of clips, because a training side has fewer than "
            f"{MIN_CLIPS} of them: {', '.join(left_out)}."
            if left_out
            else ""
        )
    )


def _make_rows(study: StudyResults, cell: UnitCell) -> Iterator[TableRow]:
    """Yield the rows of one classifier in one ablation: its name, its units, their mean."""
    # The head of the rows, which says how many trials are done where some are missing
    name = name_unit_cell(study, cell)
    controls = list_controls_of(study, cell)
    columns = dict.fromkeys(control.control for control in study.unit_controls)
    shown = [controls.get(control) for control in columns]
    if cell.mean_f1 is None or cell.mean_constant is None:
        hole = TableCell(f"{cell.done} of {quantify(cell.trials, 'trial')}", hole=True)
        yield make_row(TableCell(name), EMPTY_CELL, hole, kind="group")
        return
    yield make_row(TableCell(name, f"{cell.n} {cell.level}"), kind="group")

    # A row for each unit, then the mean
    coding = describe_coding(study.faces)
    for position, unit in enumerate(study.units):
        entries = [
            _make_entry(cell.f1[position]),
            format_score(cell.constant[position].value, "f1"),
            *(_make_brief(control, position) for control in shown),
        ]
        yield make_row(f"AU {unit}", str(cell.shown[position]), *entries, coding[unit])
    entries = [
        _make_entry(cell.mean_f1),
        format_score(cell.mean_constant.value, "f1"),
        *(_make_brief(control) for control in shown),
    ]
    yield make_row("mean", "", *entries, "", kind="total")


def list_controls_of(study: StudyResults, cell: UnitCell) -> dict[str, UnitCell]:
    """Return the controls of movement of a cell's classifier, by name, if it is of their ablation.

    Controls are trained in the first ablation only.
    """
    return {
        control.control: control
        for control in study.unit_controls
        if (control.classifier, control.ablation) == (cell.classifier, cell.ablation)
    }


def _make_brief(control: UnitCell | None, position: int | None = None) -> TableCell:
    """Return the F1 of a unit under a control, or the mean of all units; it may be a hole."""
    if control is None:
        return TableCell("")
    if control.mean_f1 is None:
        return TableCell(EMPTY_CELL, hole=True)
    score = control.mean_f1 if position is None else control.f1[position]
    return TableCell(format_score(score.value, "f1"))


def _make_entry(score: Interval) -> TableCell:
    """Return a score with its interval."""
    if math.isnan(score.low):
        return TableCell(format_score(score.value, "f1"))
    return TableCell(format_score(score.value, "f1"), f"[{score.low:.3f}, {score.high:.3f}]")


def list_unit_csv_rows(study: StudyResults, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the means over trials for tables.csv, with the constant answer as a control."""
    for cell in [*study.unit_cells, *study.unit_controls]:
        if cell.mean_f1 is None or cell.mean_constant is None:
            continue
        names = [*(f"f1_{unit}" for unit in study.units), "mean_f1"]
        for control, scores in (
            (cell.control, [*cell.f1, cell.mean_f1]),
            *(() if cell.control else [("constant", [*cell.constant, cell.mean_constant])]),
        ):
            for name, score in zip(names, scores, strict=True):
                yield {
                    **fields, "source": "mean", "setting": "real_to_real", "train": "real",
                    "test": "real", "classifier": cell.classifier, "ablation": cell.ablation,
                    "control": control, "trial": "mean", "fold": "all", "level": cell.level,
                    "metric": name, "value": score.value, "low": score.low, "high": score.high,
                    "n": cell.n,
                }  # fmt: skip
