"""Overview: the runs of the store by stage, and what runs now."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from mien.errors import StoreError
from mien.pages.sheets import pick_positions
from mien.runs.activity import list_activity, request_stop_of
from mien.runs.contents import describe_content
from mien.runs.progress import format_duration
from mien.runs.spec import RUN_NAME, list_parents
from mien.runs.store import Run, Store
from mien.studio.base import Here, Studio, render_page
from mien.studio.images import draw_sheet, encode_png, make_answer, open_shown
from mien.study.made_for_others import INTERNAL_STAGES, find_made_for_others
from mien.study.sources import INDEX_FILE

router = APIRouter()

STRIP_IMAGES, STRIP_PIXELS = 8, 64

PIPELINE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("real", "Real faces", ("ingest", "arrays", "folder", "join", "faces")),
    ("splits", "Splits", ("split",)),
    ("generators", "Generators", ("generator", "levels")),
    ("databases", "Synthetic databases", ("generate", "filter")),
    ("audits", "Audits, maps and reviews", ("audit", "leakage", "map", "review", "reviewed")),
    ("studies", "Studies", ("study",)),
    ("parts", "Made for other runs", ()),
)
"""The parts of the page: a name, a title, and the stages of its runs; the last has all others."""


TOOLS_OF_STAGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "generator": (("Generate", "/generate?generator={}"),),
    "generate": (("Map", "/map"), ("Audit", "/audit"), ("Release", "/release/{}")),
    "filter": (("Map", "/map"), ("Audit", "/audit"), ("Release", "/release/{}")),
    "audit": (("Checks", "/audit/{}"),),
    "map": (("Open the map", "/map/{}"),),
    "review": (("Review", "/review/{}"),),
    "study": (("Results", "/study/{}"),),
}
"""The pages that open the runs of a stage: titles and addresses, with {} for the name of a run."""


@dataclass(frozen=True)
class ShownRun:
    """What the page says about a run; `parents` and `children` are names with titles, those with
    aliases first.
    """

    name: str
    title: str
    stage: str
    holds: str
    made: str
    took: str
    has_faces: bool
    parents: list[tuple[str, str]]
    children: list[tuple[str, str]]

    @property
    def tools(self) -> list[tuple[str, str]]:
        """The pages that open the run: titles and addresses."""
        found = TOOLS_OF_STAGES.get(self.stage, ())
        return [(title, address.format(self.name)) for title, address in found]


@router.get("/")
def show_overview(request: Request, studio: Here, all: bool = False) -> HTMLResponse:
    """Show the runs of the store by stage, without those that were made for others."""
    # The runs, each with its parents
    store = studio.store
    names = store.list_names()
    aliases = read_titles(store)
    parents_of = {name: _list_stored_parents(name, store) for name in names}
    hidden = set() if all else find_made_for_others(store) - set(aliases)

    # Their children
    children_of: dict[str, list[str]] = {name: [] for name in names}
    for name, parents in parents_of.items():
        for parent in parents:
            children_of.setdefault(parent, []).append(name)

    # The parts of the page
    title_of = {name: aliases.get(name, name) for name in names}
    place_of = {stage: part for part, _, stages in PIPELINE for stage in stages}
    parts: dict[str, list[ShownRun]] = {part: [] for part, _, _ in PIPELINE}
    for name in reversed(names):
        if name not in hidden:
            shown = _describe_run(name, store, title_of, parents_of[name], children_of[name])
            parts[place_of.get(shown.stage, "parts")].append(shown)
    return render_page(
        request,
        "overview.html",
        total=len(names),
        hidden=len(hidden),
        parts=[{"name": part, "title": title, "runs": parts[part]} for part, title, _ in PIPELINE],
        activity=list_activity(store),
    )


def read_titles(store: Store) -> dict[str, str]:
    """Return what people call the runs that have aliases."""
    aliases: dict[str, list[str]] = {}
    for alias, name in store.read_aliases().items():
        aliases.setdefault(name, []).append(alias)
    return {name: ", ".join(several) for name, several in aliases.items()}


def _list_stored_parents(name: str, store: Store) -> list[str]:
    """Return the parents of a run, none if its spec cannot be read."""
    try:
        return list_parents(Run(name, store.root / "runs" / name).spec)
    except StoreError:
        return []


def _describe_run(
    name: str, store: Store, title_of: Mapping[str, str], parents: list[str], children: list[str]
) -> ShownRun:
    """Return what the page says about a run."""
    run = Run(name, store.root / "runs" / name)
    return ShownRun(
        name,
        title_of.get(name, name),
        run.stage,
        describe_content(run),
        str(run.about.get("made", ""))[:16].replace("T", " "),
        format_duration(run.seconds),
        (run.path / INDEX_FILE).exists(),
        [(parent, title_of.get(parent, parent)) for parent in parents],
        sorted(
            [(child, title_of.get(child, child)) for child in children],
            key=lambda pair: (pair[0] == pair[1], pair[0].startswith(INTERNAL_STAGES)),
        ),
    )


@router.get("/runs/{name}")
def show_run(request: Request, studio: Here, name: str) -> HTMLResponse:
    """Show one run: its counts, parents, children, files and spec."""
    run = open_run(studio, name)
    store, titles = studio.store, read_titles(studio.store)
    children = [child for child in store.list_names() if name in _list_stored_parents(child, store)]
    shown = _describe_run(name, store, titles, list_parents(run.spec), children)
    return render_page(
        request,
        "run.html",
        run=shown,
        folder=str(run.path),
        command=str(run.about.get("command") or ""),
        counts=run.summary.get("counts") or [],
        files={file: record["size"] for file, record in run.manifest["files"].items()},
        spec=json.dumps(run.spec, indent=2),
    )


def open_run(studio: Studio, name: str) -> Run:
    """Return a finished run by its own name; raises HTTPException if there is none."""
    if not RUN_NAME.match(name) or not studio.store.is_done(name):
        raise HTTPException(404, "There is no such run.")
    return studio.store.run(name)


@router.get("/preview/{run}")
def answer_preview(studio: Here, run: str) -> Response:
    """Answer with some faces of a run side by side, from every class in turn."""
    face_set = open_shown(studio, run)
    classes = face_set.faces.classes
    each = -(-STRIP_IMAGES // max(1, len(classes)))
    picked = [pick_positions(face_set.faces, emotion, each) for emotion in classes]
    positions = [
        int(places[turn]) for turn in range(each) for places in picked if turn < len(places)
    ][:STRIP_IMAGES]
    pictures = face_set.show_thumbnails(np.array(positions, dtype=np.int64))
    return make_answer(encode_png(draw_sheet(pictures, STRIP_IMAGES, STRIP_PIXELS)), face_set)


# What runs now


@router.get("/activity")
def show_activity(request: Request, studio: Here) -> HTMLResponse:
    """Show the part of the page that says what is running now."""
    return render_page(request, "activity.html", activity=list_activity(studio.store))


@router.post("/runs/{name}/stop")
def stop_run(studio: Here, name: str) -> RedirectResponse:
    """Ask the command that makes a run to stop, as Ctrl-C does."""
    request_stop_of(studio.store, name)
    return RedirectResponse("/", 303)
