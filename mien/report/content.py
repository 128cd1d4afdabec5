"""The content of a report: sentences, charts, faces and tables, in order."""

from collections.abc import Mapping
from typing import Any

from mien import published
from mien.pages.planes import FaceMap
from mien.pages.tables import ReportTable, make_row
from mien.report import preprint
from mien.report.answers import describe_design
from mien.report.arm_curves import plot_arm_curves
from mien.report.arm_tables import collect_arms
from mien.report.chosen_epochs import make_inflation_table
from mien.report.comparison import (
    compare_studies,
    count_sheets,
    make_dataset_tables,
    make_recall_table,
    make_result_tables,
    make_table_note,
)
from mien.report.conclusions import draw_conclusions
from mien.report.facts import list_facts
from mien.report.gallery import collect_strips, explain_hidden_faces
from mien.report.plots import plot_accuracies, plot_learning_curves, plot_map
from mien.report.sentences import (
    LEAK_ADVICE,
    NOTICES,
    SYNTHETIC_TEST,
    copy_alarms,
    describe_differences,
    describe_findings,
    describe_missing,
    describe_state,
    has_synthetic_test,
    list_failure_reasons,
)
from mien.report.units import (
    compare_unit_studies,
    explain_incomparable,
    explain_unit_table,
    make_unit_table,
)
from mien.report.words import format_cell_name
from mien.runs.progress import quantify
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import find_setting
from mien.study.status import describe_trial

MOST_OPEN_CONFUSIONS = 6  # more confusion matrices than these are folded away on the page


def collect_content(
    studies: list[StudyResults],
    real_faces: bool | None = None,
    maps: Mapping[str, FaceMap] | None = None,
) -> dict[str, Any]:
    """Return the content of the pages in their order: sentences, charts, faces, tables.

    `real_faces` is that of `write_report`; `maps` are maps of faces by the titles of studies.
    """
    # Studies that can be compared with the preprint, or with each other by accuracy
    like = [
        study for study in studies if study.like and any(cell.published for cell in study.cells)
    ]
    of_emotions = [study for study in studies if not study.units]

    return {
        "title": ", ".join(study.title for study in studies),
        "side": [
            *([compare_studies(of_emotions)] if len(of_emotions) > 1 else []),
            *([of_units] if (of_units := compare_unit_studies(studies)) else []),
        ],
        "apart": explain_incomparable(studies),
        "conclusions": draw_conclusions(studies),
        "studies": [
            _collect_section(study, real_faces, (maps or {}).get(study.title)) for study in studies
        ],
        "charts": preprint.make_figures(like) if like else [],
        "preprint": preprint.make_tables_3_to_14(like) if like else [],
        "others": [preprint.make_table_15(like)] if like else [],
        "counts": preprint.make_tables_1_and_2(like) if like else [],
        "left_out": preprint.count_left_out(like) if like else "",
        "source": published.SOURCE,
        "dataset": published.DATASET,
    }


def _collect_section(
    study: StudyResults, real_faces: bool | None, faces: FaceMap | None
) -> dict[str, Any]:
    """Return the part of the pages that is about one study."""
    # Whether real faces may be shown, and what is used more than once below
    real = not study.restricted if real_faces is None else real_faces
    title, notice = NOTICES[study.protocol]
    confusions = _collect_confusions(study)

    return {
        # The top of the page: what must be read before any number
        "title": study.title,
        "notice": {"title": title, "text": notice, "warn": study.protocol == "frame"},
        "synthetic_test": SYNTHETIC_TEST if has_synthetic_test(study) else "",
        "alarms": copy_alarms(study),
        "differences": describe_differences(study),
        "alarm": LEAK_ADVICE,
        "design": describe_design(study),
        "state": describe_state(study),
        # Sentences, and the plot
        "findings": describe_findings(study),
        "without": describe_missing(study),
        "low": list_failure_reasons(study),
        "plot": None if study.units else plot_accuracies(study),
        # Tables and images
        "levels": [
            {
                "level": study.unit_cells[0].level or "clips",
                "note": explain_unit_table(study),
                "sheets": [make_unit_table(study)],
                "folded": [],
            }
        ]
        if study.units
        else [
            {
                "level": level,
                "note": make_table_note(study, level),
                "sheets": make_result_tables(study, level),
                "folded": make_result_tables(study, level, of_shares=True),
            }
            for level in study.levels
        ],
        # Ways of use, if they are compared
        "arms": collect_arms(study),
        "arm_curves": plot_arm_curves(study),
        "recall": make_recall_table(study),
        "datasets": make_dataset_tables(study),
        "inflation": make_inflation_table(study),
        "counts": count_sheets(study),
        "strips": collect_strips(study, real),
        "unshown": explain_hidden_faces(study, real, real_faces),
        "confusions": confusions,
        "curves": plot_learning_curves(study),
        "map": None if faces is None else plot_map(study, faces),
        "folded": len(confusions) > MOST_OPEN_CONFUSIONS,
        # What was run, and under which licence
        "failures": _tabulate_failures(study),
        "facts": list_facts(study),
        "licence": study.licence,
        "restricted": study.restricted,
        "private": study.restricted and real,
    }


def _collect_confusions(study: StudyResults) -> list[dict[str, Any]]:
    """Return the confusion matrix of each setting and classifier with a finished trial."""
    return [
        _collect_confusion(study, cell)
        for cell in study.cells
        if cell.level == "images" and cell.done
    ]


def _collect_confusion(study: StudyResults, cell: ResultCell) -> dict[str, Any]:
    """Return one confusion matrix with its title and note."""
    # Only classes that occur, as the truth or as an answer
    counts = cell.sum_confusions()
    true = counts.sum(axis=1)
    occurring = [index for index, n in enumerate(true + counts.sum(axis=0)) if n]
    rows = [
        {
            "name": study.classes[row],
            "total": int(true[row]),
            "cells": [
                {
                    "count": int(counts[row, column]),
                    "share": float(counts[row, column] / max(1, true[row])),
                    "right": row == column,
                }
                for column in occurring
            ],
        }
        for row in occurring
    ]

    trials = quantify(len(cell.trials), "trial")
    return {
        "title": f"{find_setting(cell.setting).label}, {format_cell_name(study, cell)}",
        "columns": [study.classes[index] for index in occurring],
        "rows": rows,
        "note": f"summed over {trials if cell.whole else f'{len(cell.done)} of {trials}'}",
    }


def _tabulate_failures(study: StudyResults) -> ReportTable | None:
    """Return the failed trials with the first error of each, or None if none failed."""
    rows = tuple(
        make_row(describe_trial(study, trial), trial.run, error) for trial, error in study.failed
    )
    head = ("trial", "run", "first error")
    return ReportTable("Failed trials", head, rows) if rows else None
