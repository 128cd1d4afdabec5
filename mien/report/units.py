"""The tables of studies whose target is action units."""

import math
from collections.abc import Iterator
from typing import Any

from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, TableRow, make_row
from mien.report.words import format_classifier, format_score
from mien.runs.progress import quantify
from mien.stats import Interval
from mien.study.results import StudyResults
from mien.study.unit_scores import MIN_CLIPS, UnitCell, count_clips, describe_coding

HEAD = ("action unit", "n", "F1", "always yes", "coded as")


def make_unit_table(study: StudyResults) -> ReportTable:
    """Return F1 of each action unit, beside that of the constant answer yes, by classifier."""
    rows = tuple(row for cell in study.unit_cells for row in _make_rows(study, cell))
    return ReportTable("F1 of action units", HEAD, rows)


def explain_unit_table(study: StudyResults) -> str:
    """Return what the numbers of the table are, and which units are left out."""
    # The units without scores, each with its number of clips
    left_out = [
        f"{unit} ({n})" for unit, n in count_clips(study.faces).items() if unit not in study.units
    ]

    # What is scored, and what the intervals are over
    whole = next((cell for cell in study.unit_cells if cell.f1), None)
    scored = "clips" if whole is None else whole.level
    spread = (
        ""
        if whole is None or whole.groups < 2
        else f", with its 95 % interval over {whole.groups} {whole.grouped}s"
    )
    return (
        f"n is the number of tested {scored} that show the unit, on any side and at any intensity. "
        f"F1 is pooled over folds first, and is the mean over trials{spread}. Always yes is the "
        "constant answer. The last column says how some of the clips were coded."
        + (
            f" Left out, with the number of clips, because a training side has fewer than "
            f"{MIN_CLIPS} of them: {', '.join(left_out)}."
            if left_out
            else ""
        )
    )


def _make_rows(study: StudyResults, cell: UnitCell) -> Iterator[TableRow]:
    """Yield the rows of one classifier in one ablation: its name, its units, their mean."""
    name = format_classifier(study, cell.classifier) + (
        f", {cell.ablation}" if len(study.ablations) > 1 else ""
    )
    if cell.mean_f1 is None or cell.mean_constant is None:
        hole = TableCell(f"{cell.done} of {quantify(cell.trials, 'trial')}", hole=True)
        yield make_row(TableCell(name), EMPTY_CELL, hole, kind="group")
        return
    yield make_row(TableCell(name, f"{cell.n} {cell.level}"), kind="group")
    coding = describe_coding(study.faces)
    for unit, n, f1, constant in zip(study.units, cell.shown, cell.f1, cell.constant, strict=True):
        entries = (_make_entry(f1), format_score(constant.value, "f1"), coding[unit])
        yield make_row(f"AU {unit}", str(n), *entries)
    mean = (_make_entry(cell.mean_f1), format_score(cell.mean_constant.value, "f1"), "")
    yield make_row("mean", "", *mean, kind="total")


def _make_entry(found: Interval) -> TableCell:
    """Return a score with its interval."""
    if math.isnan(found.low):
        return TableCell(format_score(found.value, "f1"))
    return TableCell(format_score(found.value, "f1"), f"[{found.low:.3f}, {found.high:.3f}]")


def list_unit_csv_rows(study: StudyResults, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the means over trials for tables.csv, with the constant answer as a control."""
    for cell in study.unit_cells:
        if cell.mean_f1 is None or cell.mean_constant is None:
            continue
        names = [*(f"f1_{unit}" for unit in study.units), "mean_f1"]
        for control, scores in (
            ("", [*cell.f1, cell.mean_f1]),
            ("constant", [*cell.constant, cell.mean_constant]),
        ):
            for name, found in zip(names, scores, strict=True):
                yield {
                    **fields, "source": "mean", "setting": "real_to_real", "train": "real",
                    "test": "real", "classifier": cell.classifier, "ablation": cell.ablation,
                    "control": control, "trial": "mean", "fold": "all", "level": cell.level,
                    "metric": name, "value": found.value, "low": found.low, "high": found.high,
                    "n": cell.n,
                }  # fmt: skip
