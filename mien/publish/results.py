"""What a database is worth: the table of a study, as Markdown and CSV."""

from pathlib import Path
from typing import Any

import pandas as pd

from mien import stats
from mien.pages import tables
from mien.pages.escape import write_csv
from mien.pages.tables import EMPTY_CELL, ReportTable, make_row
from mien.report.words import format_score, format_test_size
from mien.runs.progress import quantify
from mien.runs.store import Store
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import find_setting

TABLE_METRICS = ("accuracy", "uf1", "uar")


def write_study(folder: Path, name: str, database: str, store: Store) -> str:
    """Write results/TITLE.md and results/TITLE.csv of a study, and return its title.

    A cell whose trials are not all done is a hole. Raises StoreError if the study was never run.
    """
    study = StudyResults(name, store)
    (folder / "results").mkdir(exist_ok=True)
    cells = [*study.cells, *study.controls]
    rows = pd.DataFrame([_make_csv_row(study, cell) for cell in cells])
    write_csv(rows, folder / "results" / f"{study.title}.csv")
    text = "\n".join(tables.format_markdown(_make_study_table(study, cells, database), "#"))
    (folder / "results" / f"{study.title}.md").write_text(text, encoding="utf-8")
    return study.title


def _make_study_table(study: StudyResults, cells: list[ResultCell], database: str) -> ReportTable:
    """Return the table of a study, with a note on whether it used this database."""
    used = [entry.database for entry in study.plan.databases]
    membership = "is one of those" if database in used else "is none of those"
    note = (
        f"Protocol {study.protocol}; {quantify(study.spec['trials'], 'trial')}. Synthetic faces of "
        f"the study come from its own runs, and this database {membership}. Accuracies of "
        "expression labels, never of what a person feels. Rows that name a control show what "
        "needs no learning; a cell means something only where it is above them."
    )

    head = ("train → test", "classifier", "scored", "tested on", "accuracy, %", "UF1", "UAR")
    lines = [
        make_row(
            find_setting(cell.setting).label,
            _label_classifier(study, cell),
            cell.level,
            format_test_size(cell) if cell.done else EMPTY_CELL,
            *(
                format_score(cell.average_trials(name) if cell.whole else None, name)
                for name in TABLE_METRICS
            ),
            kind="control" if cell.control else "",
        )
        for cell in cells
    ]
    return ReportTable(f"Study {study.title}", head, tuple(lines), note)


def _label_classifier(study: StudyResults, cell: ResultCell) -> str:
    if cell.control:
        return study.label_control(cell)
    return cell.classifier + (f", {cell.ablation}" if len(study.ablations) > 1 else "")


def _make_csv_row(study: StudyResults, cell: ResultCell) -> dict[str, Any]:
    values: dict[str, Any] = {
        "study": study.title,
        "protocol": study.protocol,
        "setting": cell.setting,
        "classifier": cell.classifier,
        "ablation": cell.ablation,
        "control": cell.control,
        "level": cell.level,
        "trials": len(cell.trials),
        "done": len(cell.done),
        "n": cell.n,
        "clips": cell.clips,
        "subjects": cell.subjects,
    }
    for name in TABLE_METRICS:
        interval: stats.Interval | None = cell.estimate_interval(name)
        for bound in ("value", "low", "high"):
            values[f"{name}_{bound}"] = None if interval is None else getattr(interval, bound)
    return values
