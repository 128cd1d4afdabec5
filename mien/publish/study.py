"""What a database is worth: the table of a study, as Markdown and as CSV, from the study's own
records.
"""

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

    Raises StoreError if it was never run. A cell of which a trial is missing is a hole.
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
    used = [one["database"] for one in study.plan["databases"]]
    own = "this database is one of those" if database in used else "this database is none of those"
    note = (
        f"Protocol {study.protocol}; {many(study.spec['trials'], 'trial')}. Synthetic faces of "
        "the study are of "
        "its own runs, "
        f"and {own}. Accuracies of expression labels, never of what a person feels. Rows that "
        "name a control show what "
        "takes no learning; a cell says something only where it stands above them."
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
    found: dict[str, Any] = {
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
        for part in ("value", "low", "high"):
            found[f"{name}_{part}"] = None if interval is None else getattr(interval, part)
    return found
