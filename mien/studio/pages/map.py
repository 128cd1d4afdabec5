"""Map: real and synthetic faces in the plane, with numbers to filter by."""

import math
from typing import Any

import numpy as np
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse
from starlette.responses import HTMLResponse

from mien.audit.face_maps import MAP_NUMBERS, MAP_SIDES, StoredMap, read_map
from mien.audit.origin import find_real_sides
from mien.audit.specs import OFFLINE_SPACES, MapSpec
from mien.errors import MienError
from mien.pages.charts import draw_points
from mien.pages.tables import EMPTY_CELL
from mien.runs.spec import read_spec
from mien.studio.base import Here, Studio, render_page
from mien.studio.choices import holds_synthetic, list_choices
from mien.studio.tasks import begin_task, go_back, list_tasks

router = APIRouter()

SPACE_TEXTS = {
    "judge": "what a small classifier of expressions sees (it is trained first, in a minute or so)",
    "random": "random convolutions, which know no labels (seconds)",
    "pixels": "grey values (seconds)",
}
"""What the form says of each space that needs no download."""


@router.get("/map")
def show_maps(request: Request, studio: Here) -> HTMLResponse:
    """Show the maps of the store, and a form that makes one."""
    return _render_maps(request, studio)


def _render_maps(request: Request, studio: Studio, fault: str = "") -> HTMLResponse:
    """Return the page of maps; `fault` says why none was made."""
    store = studio.store
    tasks = list_tasks("map", store)
    maps = [
        {"choice": choice, "synthetic": store.run(choice.run).spec["synthetic"]}
        for choice in list_choices(store, lambda run: run.stage == "map")
    ]
    return render_page(
        request,
        "maps.html",
        status=400 if fault else 200,
        fault=fault,
        maps=maps,
        databases=list_choices(store, holds_synthetic),
        spaces=[(name, SPACE_TEXTS[name]) for name in reversed(OFFLINE_SPACES)],
        tasks=[task for task in tasks if task.state != "done"],
        back="/map",
    )


@router.post("/map")
def make_map(
    request: Request, studio: Here, synthetic: str = Form(), space: str = Form("judge")
) -> Response:
    """Start the command that makes a map of a database and its real faces."""
    store = studio.store
    try:
        database = store.run(synthetic)
        train, test = find_real_sides(database, store)
        fields = {"synthetic": database.name, "train": train, "test": test, "space": space}
        spec = read_spec(MapSpec, fields, "map")
    except MienError as error:
        return _render_maps(request, studio, str(error))
    if store.is_done(spec.name):
        return go_back(f"/map/{spec.name}")
    begin_task(spec.name, ["map", database.name, "--space", space], store)
    return go_back("/map")


@router.get("/map/{run}")
def show_map(request: Request, studio: Here, run: str) -> HTMLResponse:
    """Show a map, with its histograms and the faces that are chosen on it."""
    # The sides, each with the run that holds it
    found = read_map(studio.store.run(run))
    aliases = {name: alias for alias, name in studio.store.read_aliases().items()}
    runs = found.points.groupby("side")["run"].first()
    sides = [
        {
            "name": side,
            "run": str(runs[side]),
            "alias": aliases.get(str(runs[side]), str(runs[side])),
            "shown": int((found.points["side"] == side).sum()),
            "size": found.sizes[side],
        }
        for side in MAP_SIDES
        if side in runs.index
    ]

    return render_page(
        request,
        "map.html",
        map=found,
        sides=sides,
        numbers=[(name, text) for name, text in MAP_NUMBERS.items() if _is_measured(found, name)],
        summary=_summarise(found),
    )


@router.get("/map/{run}/points")
def answer_points(studio: Here, run: str) -> JSONResponse:
    """Answer with the points of a map, column by column; hidden faces have no picture."""
    found = read_map(studio.store.run(run))
    points = found.points
    runs = list(dict.fromkeys(points["run"]))
    emotions = sorted(set(points["emotion"]))
    columns: dict[str, Any] = {
        "side": [MAP_SIDES.index(side) for side in points["side"]],
        "run": [runs.index(name) for name in points["run"]],
        "position": points["position"].tolist(),
        "emotion": [emotions.index(name) for name in points["emotion"]],
        "hidden": _find_hidden(studio, found).tolist(),
        "predicted": list(points["predicted"]),
        "x": _round(points["x"].to_numpy()),
        "y": _round(points["y"].to_numpy()),
        **{name: _round(points[name].to_numpy()) for name in MAP_NUMBERS},
    }
    return JSONResponse({"sides": MAP_SIDES, "runs": runs, "emotions": emotions, **columns})


def _find_hidden(studio: Studio, found: StoredMap) -> np.ndarray:
    """Return bool [n]: which faces of a map are not shown."""
    hidden = np.ones(len(found.points), dtype=bool)
    for run in dict.fromkeys(found.points["run"]):
        here = (found.points["run"] == run).to_numpy()
        mask = studio.library.open(run).is_hidden
        hidden[here] = mask[found.points["position"].to_numpy()[here]]
    return hidden


@router.get("/map/{run}/picture.svg")
def answer_picture(studio: Here, run: str) -> Response:
    """Answer with the map as a picture, for browsers without JavaScript."""
    found = read_map(studio.store.run(run))
    groups = {
        side: found.points.loc[found.points["side"] == side, ["x", "y"]].to_numpy()
        for side in MAP_SIDES
        if (found.points["side"] == side).any()
    }
    svg = draw_points("Faces in the plane", "axis 1", "axis 2", groups)
    return Response(svg, media_type="image/svg+xml")


def _is_measured(found: StoredMap, name: str) -> bool:
    return bool(found.points[name].notna().any())


def _round(values: np.ndarray) -> list[float | None]:
    """Return numbers with four digits for JSON, which has no nan."""
    return [None if math.isnan(value) else float(f"{value:.4g}") for value in values.tolist()]


def _summarise(found: StoredMap) -> list[dict[str, Any]]:
    """Return the number of faces of each side on a map, and the median of each of its numbers."""
    rows = []
    for side in MAP_SIDES:
        points = found.points[found.points["side"] == side]
        medians = {
            name: f"{points[name].median():.3g}" if points[name].notna().any() else EMPTY_CELL
            for name in MAP_NUMBERS
            if _is_measured(found, name)
        }
        if len(points):
            rows.append({"side": side, "count": len(points), "medians": medians})
    return rows
