"""The report is written: HTML, Markdown, LaTeX and CSV in one folder."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from mien.errors import UsageError
from mien.outside import expand_home
from mien.pages import escape
from mien.pages.html import render_html
from mien.pages.planes import FaceMap
from mien.report.content import collect_content
from mien.report.documents import write_latex, write_markdown
from mien.report.programs import CSV_COLUMNS, list_csv_rows
from mien.runs.folders import require_fillable
from mien.runs.progress import say
from mien.runs.store import Store
from mien.study.results import StudyResults

MapFaces = Callable[[StudyResults, Store], FaceMap | None]
"""A function that maps the faces of a study: `maps.map_faces`, which needs torch."""


def write_report(
    studies: str | Sequence[str],
    store: Store,
    out: Path | None = None,
    real_faces: bool | None = None,
    map_faces: MapFaces | None = None,
) -> Path:
    """Write report.html, report.md, tables.tex, tables.csv and figures; return the HTML's path.

    Each of `studies` is an alias or a run. The page shows real faces if `real_faces` is true; None
    shows those of studies whose sources all have free licences. Where real faces are not shown,
    synthetic images that copy one are not shown either. `map_faces` draws the map of each study;
    without it there is none. `out` is report-NAME by default, with the
    names of all studies. Raises StoreError if a study was never run, and UsageError if one is named
    twice.
    """
    names = [studies] if isinstance(studies, str) else list(studies)
    loaded = [StudyResults(name, store) for name in names]
    titles = [study.title for study in loaded]
    if not loaded or len(set(titles)) < len(titles):
        raise UsageError(
            "a report needs one or more studies, each named once; given: "
            f"{', '.join(map(str, names))}"
        )
    folder = expand_home(out or Path(f"report-{'-'.join(titles)}"))
    require_fillable(folder)
    folder.mkdir(parents=True, exist_ok=True)

    # The pages for people
    maps = {
        study.title: face_map
        for study in (loaded if map_faces is not None else [])
        if map_faces is not None and (face_map := map_faces(study, store)) is not None
    }
    content = collect_content(loaded, real_faces, maps)
    page = render_html("report.html", content)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(write_markdown(content), encoding="utf-8")
    (folder / "tables.tex").write_text(write_latex(content), encoding="utf-8")
    for chart in list_charts(content):
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{chart['name']}.svg").write_text(chart["svg"], encoding="utf-8")

    # The table for programs
    with (folder / "tables.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for study in loaded:
            writer.writerows(
                {name: escape.escape_cell(value) for name, value in row.items()}
                for row in list_csv_rows(study)
            )

    # What the reader must know before using or passing on the folder
    for text in dict.fromkeys(text for study in loaded for text in study.altered):
        say(f"left out: {text}")
    private = [study.licence for study in loaded if study.restricted and real_faces]
    for licence in dict.fromkeys(private):
        say(f"{folder} contains images under this licence: {licence}; do not publish it")
    withheld = dict.fromkeys(name for study in loaded for name in study.withheld)
    if real_faces is None and withheld:
        say(
            f"real faces are not shown in {folder / 'report.html'}: no free licence is known for "
            f"{', '.join(withheld)}"
        )
    return folder / "report.html"


def list_charts(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all charts that are files in the folder figures, in the order of the page."""
    study_charts = [
        chart
        for study in content["studies"]
        for chart in [*study["arm_curves"], *study["curves"], study["map"]]
        if chart is not None
    ]
    return [*study_charts, *content["charts"]]


def format_plain_value(text: str) -> Text:
    """Return a text for the terminal without markup."""
    return Text(escape.make_printable(text))
