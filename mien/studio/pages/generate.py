"""Generate: a database is drawn by a command that outlives the studio."""

import shlex
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from mien.errors import MienError, UsageError
from mien.generators.orders import order_database
from mien.generators.sampler_table import SAMPLERS
from mien.generators.shard_files import Drawing, load_drawn, read_drawing
from mien.generators.specs import KIND_FACTS, GenerateSpec
from mien.runs.commands import write_command
from mien.runs.files import read_json
from mien.runs.progress import mute_progress
from mien.runs.spec import RUN_NAME, read_spec
from mien.runs.store import Run, Store, require_alias
from mien.studio.base import Here, Studio, render_page
from mien.studio.choices import is_generator, list_choices
from mien.studio.images import draw_sheet, encode_png
from mien.studio.tasks import begin_task, go_back, read_task

router = APIRouter()

PREVIEW_IMAGES, PREVIEW_COLUMNS = 48, 12

SHOWN_RESULTS = 32  # of a finished database


class GenerateForm(BaseModel):
    """The fields of the form, as texts that `mien generate` takes; empty ones are its defaults."""

    generator: str = ""
    counts: str = "20"
    steps: str = ""
    sampler: str = ""
    guidance: str = ""
    seed: str = ""
    alias: str = ""


@dataclass(frozen=True)
class Order:
    """What a form asks for: the spec of the database, and the arguments of the command."""

    spec: GenerateSpec
    arguments: list[str]


def read_order(form: GenerateForm, store: Store) -> Order:
    """Return what a form asks for; raises MienError, with what to change, if it cannot be drawn."""
    # Numbers from texts
    guidance = _read_number("guidance", form.guidance, 1.0)
    seed = int(_read_number("seed", form.seed, 0, whole=True))
    steps = form.steps.strip()
    if form.alias:
        require_alias(form.alias)

    # The spec, checked as the command checks it; a number alone is that of each class
    counts = form.counts.strip()
    counts = f"each:{counts}" if counts.isdecimal() else counts
    with mute_progress():
        spec = order_database(
            store.run(form.generator),
            counts,
            store,
            steps=int(steps) if steps.isdecimal() else steps or None,
            sampler=form.sampler or None,
            guidance=guidance,
            seed=seed,
        )

    # The command that does the same
    options = {
        "--counts": counts,
        "--steps": steps,
        "--sampler": form.sampler,
        "--guidance": f"{guidance:g}" if guidance != 1 else "",
        "--seed": str(seed) if seed else "",
        "--as": form.alias,
    }
    given = [part for name, text in options.items() if text for part in (name, text)]
    return Order(spec, ["generate", form.generator, *given])


def _read_number(name: str, text: str, default: float, whole: bool = False) -> float:
    """Return the number of a field; raises UsageError if it is none."""
    if not text.strip():
        return default
    try:
        return int(text) if whole else float(text)
    except ValueError:
        noun = "whole number" if whole else "number"
        raise UsageError(f"{name} must be a {noun}; given: '{text[:40]}'") from None


@router.get("/generate")
def show_form(
    request: Request, studio: Here, form: Annotated[GenerateForm, Query()]
) -> HTMLResponse:
    """Show the form, and what the database that it describes has become so far."""
    return _render(request, studio, form)


@router.post("/generate")
def generate(request: Request, studio: Here, form: Annotated[GenerateForm, Form()]) -> Response:
    """Start the command that draws the database, or resume it."""
    try:
        order = read_order(form, studio.store)
    except MienError as error:
        return _render(request, studio, form, str(error))
    if not studio.store.is_done(order.spec.name):
        begin_task(order.spec.name, order.arguments, studio.store)
    elif form.alias:
        studio.store.set_alias(form.alias, order.spec.name)
    return go_back(f"/generate?{urlencode(form.model_dump())}")


@router.get("/generate/state")
def show_state(
    request: Request, studio: Here, form: Annotated[GenerateForm, Query()]
) -> HTMLResponse:
    """Show the part of the page that says how far the database of a form is."""
    return _render(request, studio, form, template="generate_state.html")


def _render(
    request: Request,
    studio: Studio,
    form: GenerateForm,
    fault: str = "",
    template: str = "generate.html",
) -> HTMLResponse:
    """Return the page; `fault` says why the form cannot be carried out."""
    generators = list_choices(studio.store, is_generator)
    if not form.generator and generators:
        form = form.model_copy(update={"generator": generators[0].run})

    # What the form asks for, if it can be read
    order, chosen = None, None
    if form.generator:
        try:
            chosen = studio.store.run(form.generator)
            form = form.model_copy(update={"generator": chosen.name})
            order = read_order(form, studio.store)
        except MienError as error:
            fault = fault or str(error)

    # How far it is
    drawing = None if order is None else read_drawing(order.spec, studio.store)
    task = None if order is None else read_task(order.spec.name, studio.store)
    shown, query = _choose_shown(drawing), urlencode(form.model_dump())
    return render_page(
        request,
        template,
        status=400 if fault else 200,
        form=form,
        fault=fault,
        generators=generators,
        chosen=None if chosen is None else _describe_generator(chosen),
        samplers=_list_samplers(chosen),
        command="" if order is None else shlex.join(write_command(order.arguments, studio.store)),
        drawing=drawing,
        task=task,
        back=f"/generate?{query}",
        query=query,
        shown=shown,
        hides=order is not None and hides_drawings(studio, order.spec),
    )


def _choose_shown(drawing: Drawing | None) -> list[int]:
    """Return the positions of the images of a finished database that are shown."""
    if drawing is None or not drawing.finished:
        return []
    count = min(drawing.total, SHOWN_RESULTS)
    return [int(place) for place in np.linspace(0, drawing.total - 1, count).round()]


def _describe_generator(run: Run) -> dict[str, str]:
    """Return what the page says of a generator."""
    facts = KIND_FACTS.get(str(run.spec.get("kind")))
    classes = run.read_json("generator.json")["classes"] if is_generator(run) else []
    return {
        "name": run.name,
        "kind": str(run.spec.get("kind", "")),
        "classes": ", ".join(classes),
        "resamples": facts.resamples if facts else "",
    }


def _list_samplers(run: Run | None) -> list[tuple[str, str]]:
    """Return the samplers that a generator can use, each with a text."""
    facts = None if run is None else KIND_FACTS.get(str(run.spec.get("kind")))
    if facts is None:
        return []
    return [(name, one.text) for name, one in SAMPLERS.items() if facts.can_use(name)]


# The preview


def hides_drawings(studio: Studio, spec: GenerateSpec) -> bool:
    """Whether the images of a database are not shown: they are copies of faces that are hidden."""
    generator = studio.store.run(spec.generator)
    facts = KIND_FACTS.get(str(generator.spec.get("kind")))
    if facts is None or not facts.resamples:
        return False
    return bool(studio.library.open(str(generator.spec["faces"])).is_hidden.any())


@router.get("/generate/preview/{run}")
def answer_preview(studio: Here, run: str) -> Response:
    """Answer with some of the images that are drawn so far."""
    spec = read_noted_spec(run, studio.store)
    if spec is None:
        raise HTTPException(404, "This database is not being drawn.")
    if hides_drawings(studio, spec):
        raise HTTPException(403, "These images are copies of faces that are not shown.")
    drawn = load_drawn(spec, studio.store, PREVIEW_IMAGES)
    if not drawn:
        raise HTTPException(404, "Nothing is drawn yet.")
    images = np.stack([image for _, _, image in drawn])[:, :3]
    images = images if images.shape[1] == 3 else images[:, :1]
    sheet = draw_sheet(images, PREVIEW_COLUMNS)
    return Response(encode_png(sheet), media_type="image/png")


def read_noted_spec(run: str, store: Store) -> GenerateSpec | None:
    """Return the spec of a database that is being drawn, or None if there is none."""
    if not RUN_NAME.match(run):
        return None
    fields = read_json(store.root / "work" / run / "spec.json")
    if not isinstance(fields, dict) or fields.pop("stage", "") != GenerateSpec.stage:
        return None
    try:
        return read_spec(GenerateSpec, fields, run)
    except MienError:
        return None
