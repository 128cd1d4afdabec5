"""Overview: what is in the store, in the order of the pipeline."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse

from mien.runs.activity import list_activity, request_stop_of
from mien.runs.contents import describe_content
from mien.runs.store import Run
from mien.studio.base import Here, render_page

router = APIRouter()


@router.get("/")
def show_overview(request: Request, studio: Here) -> HTMLResponse:
    """Show the runs of the store by stage."""
    alias_of = {run: alias for alias, run in studio.store.read_aliases().items()}
    names = studio.store.list_names()
    stages: dict[str, list[dict[str, str]]] = {}
    for name in names:
        run = Run(name, studio.store.root / "runs" / name)
        facts = {"name": name, "alias": alias_of.get(name, ""), "holds": describe_content(run)}
        stages.setdefault(run.stage, []).append(facts)
    listed = [{"name": stage, "title": stage, "runs": runs} for stage, runs in stages.items()]
    return render_page(
        request,
        "overview.html",
        total=len(names),
        stages=listed,
        activity=list_activity(studio.store),
    )


@router.get("/activity")
def show_activity(request: Request, studio: Here) -> HTMLResponse:
    """Show the part of the page that says what is running now."""
    return render_page(request, "activity.html", activity=list_activity(studio.store))


@router.post("/runs/{name}/stop")
def stop_run(studio: Here, name: str) -> RedirectResponse:
    """Ask the command that makes a run to stop, as Ctrl-C does."""
    request_stop_of(studio.store, name)
    return RedirectResponse("/", 303)
