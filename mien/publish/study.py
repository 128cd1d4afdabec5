"""What a database is worth: the table of a study, as Markdown and CSV."""

from pathlib import Path
from typing import Any

import pandas as pd

from mien import results, tables
from mien.escape import write_csv
from mien.progress import many
from mien.results import Cell, Study
from mien.store import Store
from mien.tables import HOLE, Sheet, line
from mien.words import SETTINGS, printed, tested

METRICS = ("accuracy", "uf1", "uar")


def write(folder: Path, name: str, database: str, store: Store) -> str:
    """Write results/TITLE.md and results/TITLE.csv of a study, and return its title.

    A cell whose trials are not all done is a hole. Raises StoreError if the study was never run.
    """
    study = Study(name, store)
    (folder / "results").mkdir(exist_ok=True)
    cells = [*study.cells, *study.controls]
    rows = pd.DataFrame([_row(study, cell) for cell in cells])
    write_csv(rows, folder / "results" / f"{study.title}.csv")
    text = "\n".join(tables.markdown(_sheet(study, cells, database), "#"))
    (folder / "results" / f"{study.title}.md").write_text(text, encoding="utf-8")
    return study.title


def _sheet(study: Study, cells: list[Cell], database: str) -> Sheet:
    """Return the table of a study, with a note on whether it used this database."""
    used = [entry["database"] for entry in study.plan["databases"]]
    membership = "is one of those" if database in used else "is none of those"
    note = (
        f"Protocol {study.protocol}; {many(study.spec['trials'], 'trial')}. Synthetic faces of the "
        f"study come from its own runs, and this database {membership}. Accuracies of expression "
        "labels, never of what a person feels. Rows that name a control show what needs no "
        "learning; a cell means something only where it is above them."
    )

    head = ("train → test", "classifier", "scored", "tested on", "accuracy, %", "UF1", "UAR")
    lines = [
        line(
            SETTINGS[cell.setting],
            _who(study, cell),
            cell.level,
            tested(cell) if cell.done else HOLE,
            *(printed(cell.mean(name) if cell.whole else None, name) for name in METRICS),
            kind="control" if cell.control else "",
        )
        for cell in cells
    ]
    return Sheet(f"Study {study.title}", head, tuple(lines), note)


def _who(study: Study, cell: Cell) -> str:
    if cell.control:
        return study.named(cell)
    return cell.classifier + (f", {cell.ablation}" if len(study.ablations) > 1 else "")


def _row(study: Study, cell: Cell) -> dict[str, Any]:
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
    for name in METRICS:
        interval: results.Interval | None = cell.interval(name)
        for bound in ("value", "low", "high"):
            values[f"{name}_{bound}"] = None if interval is None else getattr(interval, bound)
    return values
