"""Study: cells beside their controls, charts, and failed trials."""

import threading
from collections import OrderedDict
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import HTMLResponse

from mien.errors import MienError
from mien.pages.charts import Dot, draw_intervals
from mien.pages.tables import ReportTable
from mien.report.comparison import make_result_tables, make_table_note
from mien.report.conclusions import draw_conclusions
from mien.report.plots import plot_accuracies, plot_learning_curves
from mien.report.sentences import describe_findings
from mien.runs.progress import format_duration
from mien.studio.base import Here, Studio, render_page
from mien.studio.choices import list_choices
from mien.studio.tasks import begin_task, go_back, read_task
from mien.study.results import StudyResults
from mien.study.status import describe_trial, read_progress

router = APIRouter()

KEPT_PAGES = 8  # studies whose tables and charts stay in memory, until a trial ends


class StudyPages:
    """The tables and charts of studies, which are made again when a trial ends."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[str, int, int], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, study: StudyResults) -> dict[str, Any]:
        """Return the sentences, tables and charts of a study as it is now."""
        key = (f"{study.store.root}/{study.run.name}", len(study.done), len(study.failed))
        with self._lock:
            if key not in self._pages:
                self._pages[key] = _describe_results(study)
            self._pages.move_to_end(key)
            while len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
            return self._pages[key]


PAGES_OF_STUDIES = StudyPages()


@router.get("/study")
def show_studies(request: Request, studio: Here) -> HTMLResponse:
    """Show the studies of the store, and how far each is."""
    store = studio.store
    studies = []
    for choice in list_choices(store, lambda run: run.stage == "study"):
        try:
            progress, fault = read_progress(choice.run, store), ""
        except MienError as error:
            progress, fault = None, str(error)
        studies.append({"choice": choice, "progress": progress, "fault": fault})
    return render_page(request, "studies.html", studies=studies)


@router.get("/study/{run}")
def show_study(request: Request, studio: Here, run: str) -> HTMLResponse:
    """Show the results of a study as far as it is, and its failed trials."""
    study = open_study(studio, run)
    progress = read_progress(study.run.name, studio.store)
    left = progress.seconds_to_come
    return render_page(
        request,
        "study.html",
        study=study.run.name,
        title=study.title,
        protocol=study.protocol,
        progress=progress,
        time_left="" if left is None else format_duration(left),
        spent=format_duration(progress.seconds),
        failed=[(describe_trial(study, trial), error) for trial, error in study.failed],
        task=read_task(study.run.name, studio.store),
        back=f"/study/{study.run.name}",
        **PAGES_OF_STUDIES.read(study),
    )


@router.get("/study/{run}/chart/{number}.svg")
def answer_chart(studio: Here, run: str, number: int) -> Response:
    """Answer with a chart of a study."""
    charts = PAGES_OF_STUDIES.read(open_study(studio, run))["charts"]
    if not 0 <= number < len(charts):
        raise HTTPException(404, f"This study has {len(charts)} charts.")
    return Response(charts[number]["svg"], media_type="image/svg+xml")


@router.post("/study/{run}/run")
def run_missing(studio: Here, run: str) -> Response:
    """Start the command that runs the missing and failed trials of a study."""
    name = open_study(studio, run).run.name
    begin_task(name, ["study", "run", name], studio.store)
    return go_back(f"/study/{name}")


def open_study(studio: Studio, name: str) -> StudyResults:
    """Return the results of a study; raises HTTPException if there is none."""
    if studio.store.run(name).stage != "study":
        raise HTTPException(404, "There is no such study.")
    return StudyResults(name, studio.store)


def _describe_results(study: StudyResults) -> dict[str, Any]:
    """Return the sentences, tables and charts of a study; all may be empty if nothing is done."""
    tables: list[ReportTable] = []
    charts: list[dict[str, Any]] = []
    if not study.units:
        for level in study.levels:
            tables += make_result_tables(study, level) + make_result_tables(study, level, True)
        charts = [_draw_accuracies(study)] if any(cell.whole for cell in study.cells) else []
    charts += plot_learning_curves(study)
    return {
        "conclusions": draw_conclusions([study]),
        "sentences": describe_findings(study),
        "tables": tables,
        "table_note": make_table_note(study, study.levels[0]) if tables else "",
        "charts": charts,
    }


def _draw_accuracies(study: StudyResults) -> dict[str, Any]:
    """Return the chart of accuracies with their intervals, beside the best of their controls."""
    plot = plot_accuracies(study)
    names: list[str] = []
    own: list[Dot | None] = []
    best: list[Dot | None] = []
    for group in plot["groups"]:
        for row in group["rows"]:
            names.append(f"{group['name']}, {row['name']}")
            has_interval = row["mean"] is not None and row["low"] is not None
            own.append(Dot(row["mean"], row["low"], row["high"]) if has_interval else None)
            controls = [value for _, value in row["controls"]]
            controls += [row["constant"]] if row["constant"] is not None else []
            best.append(Dot(max(controls), max(controls), max(controls)) if controls else None)
    series = {"mean with 95 % interval": own, "the best control": best}
    svg = draw_intervals("Accuracy", "accuracy, %", names, series)
    return {**plot, "svg": svg}
