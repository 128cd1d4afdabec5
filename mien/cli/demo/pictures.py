"""The five pictures of the demo, in the order in which it tells what it found."""

from pathlib import Path

from mien.cli.demo.findings import ROWS, DemoFindings, Score, read_findings
from mien.faces import Faces
from mien.pages.charts import Dot, draw_intervals
from mien.pages.sheets import draw_class_sheet, draw_side_by_side
from mien.runs.files import write_whole
from mien.runs.store import Store

CHANGE_ROWS = {"synthetic": "synthetic faces added", "copies": "added instead of copies"}


def write_pictures(folder: Path, store: Store) -> list[Path]:
    """Write the five pictures into `folder` and return their paths.

    They are the drawn people; the faces of the generator next to them; accuracies under a random
    split of frames; the same on held-out people; and what synthetic faces add there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    real, synthetic = (Faces.load(store.run(name).path) for name in ("train", "synthetic"))
    findings = read_findings(store)

    # Faces
    sheets = {
        "1-drawn-people.png": draw_class_sheet(real),
        "2-generated-faces.png": draw_side_by_side(real, synthetic, per_class=6),
    }
    for name, sheet in sheets.items():
        sheet.save(folder / name, optimize=True)

    # Numbers
    charts = {
        "3-random-split.svg": _draw_scores(
            "Frames split at random", {"random split of frames": findings.frames}, findings.constant
        ),
        "4-held-out-people.svg": _draw_scores(
            f"What is left on {findings.held_out} held-out people",
            {"random split of frames": findings.frames, "held-out people": findings.held},
            findings.constant,
        ),
        "5-synthetic-faces-added.svg": draw_changes(findings),
    }
    for name, svg in charts.items():
        write_whole(folder / name, svg.encode())
    return [folder / name for name in [*sheets, *charts]]


def _draw_scores(title: str, series: dict[str, dict[str, Score]], constant: float) -> str:
    """Return accuracies with their intervals, a row for each of ROWS; `constant` is marked."""
    return draw_intervals(
        title,
        "accuracy in per cent, 95 % intervals over people\ndashed: the constant answer",
        list(ROWS),
        {
            name: [Dot(*(getattr(scores[row], field) for field in DOT_FIELDS)) for row in ROWS]
            for name, scores in series.items()
        },
        marks=[constant],
    )


def draw_changes(findings: DemoFindings) -> str:
    """Return the changes of accuracy that synthetic faces bring."""
    dots = [
        Dot(*(getattr(findings.changes[name], field) for field in DOT_FIELDS))
        for name in CHANGE_ROWS
    ]
    return draw_intervals(
        f"Synthetic faces, tested on {findings.held_out} held-out people",
        "change of accuracy in points, 95 % intervals over people\ndashed: no change",
        list(CHANGE_ROWS.values()),
        {"difference": dots},
        marks=[0.0],
    )


DOT_FIELDS = ("value", "low", "high")
