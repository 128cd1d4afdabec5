"""Release: its gates, and the questions of dataset.toml as a form."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse

from mien.errors import MienError, SpecError
from mien.publish import questions
from mien.publish.gates import list_gates
from mien.publish.origin import Origin, find_audits, trace_origin
from mien.publish.questions import QUESTIONS_FILE, SECTIONS, Answers
from mien.runs.commands import write_command
from mien.runs.spec import read_spec, read_toml
from mien.runs.store import Store
from mien.studio.base import Here, Studio, render_page
from mien.studio.choices import holds_synthetic, list_choices, name_shortly
from mien.studio.tasks import go_back

router = APIRouter()

RELEASES_FOLDER = "releases"  # in the store: a dataset.toml for each database

LONG_ANSWERS = ("description", "licence_text", "shown", "consent", "ethics", "sensitive")


@router.get("/release")
def show_databases(request: Request, studio: Here) -> HTMLResponse:
    """Show the databases that a release can be made of."""
    return render_page(
        request, "releases.html", databases=list_choices(studio.store, holds_synthetic)
    )


@router.get("/release/{run}")
def show_release(request: Request, studio: Here, run: str, saved: int = 0) -> HTMLResponse:
    """Show the gates of a release, and the form of its questions."""
    origin = trace_origin(run, studio.store)
    answers, fault = _read_stored(origin, studio.store)
    return _render(request, studio, origin, answers, fault, saved=bool(saved))


@router.post("/release/{run}")
async def save_answers(request: Request, studio: Here, run: str) -> Response:
    """Write the answers of the form to the dataset.toml of a database."""
    origin = trace_origin(run, studio.store)
    before, _ = _read_stored(origin, studio.store)
    form = await request.form()
    try:
        fields = read_form(form, origin)
        fields["override"] = [one.model_dump(mode="json") for one in before.override]
        answers = read_spec(Answers, fields, QUESTIONS_FILE)
    except MienError as error:
        given = {name: value for name, value in form.items() if isinstance(value, str)}
        return _render(request, studio, origin, before, str(error), given)
    questions.write_answers(find_answers_file(origin, studio.store), answers, origin)
    return go_back(f"/release/{origin.run.name}?saved=1#questions")


def find_answers_file(origin: Origin, store: Store) -> Path:
    """Return the path of the dataset.toml of a database, in the store."""
    return store.root / RELEASES_FOLDER / origin.run.name / QUESTIONS_FILE


def _read_stored(origin: Origin, store: Store) -> tuple[Answers, str]:
    """Return the stored answers, and why they cannot be read; without a file, what the store
    knows.
    """
    path = find_answers_file(origin, store)
    if not path.exists():
        alias = next((a for a, run in store.read_aliases().items() if run == origin.run.name), "")
        known = questions.suggest_answers(origin, alias)
        return Answers.model_validate({"dataset": known}), ""
    try:
        return read_spec(Answers, read_toml(path), str(path)), ""
    except MienError as error:
        return Answers(), str(error)


def read_form(form: FormData | Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """Return the fields of Answers that a form gives; lists have one entry per line.

    Raises SpecError for a number that is none. Names that no question has are left out.
    """
    fields: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        fields[section] = {}
        for name, field in kind.model_fields.items():
            text = str(form.get(f"{section}.{name}", "")).replace("\r\n", "\n").strip()
            if isinstance(field.default, tuple):
                fields[section][name] = [line.strip() for line in text.split("\n") if line.strip()]
            elif isinstance(field.default, float):
                fields[section][name] = _read_share(name, text)
            elif text or not field.default:
                fields[section][name] = text
    named = {
        source.run: str(form.get(f"sources.{source.run}", "")).strip() for source in origin.sources
    }
    fields["sources"] = {run: name for run, name in named.items() if name}
    return fields


def _read_share(name: str, text: str) -> float:
    try:
        return float(text or 0)
    except ValueError:
        raise SpecError(f"{name} must be a number; given: '{text[:40]}'") from None


def _render(
    request: Request,
    studio: Studio,
    origin: Origin,
    answers: Answers,
    fault: str = "",
    given: Mapping[str, str] | None = None,
    saved: bool = False,
) -> HTMLResponse:
    """Return the page of a database; `given` are texts of a form that could not be saved."""
    # The gates, as `mien publish build` judges them
    audits = find_audits(origin.run, studio.store)
    gates = list_gates(origin.rename_sources(answers.sources), answers, audits)
    reasons = {one.gate: one for one in answers.override}
    path = find_answers_file(origin, studio.store)
    words = ["publish", "build", origin.run.name, "--out", "release", "--answers", str(path)]
    open_questions = questions.list_open(answers, origin)

    return render_page(
        request,
        "release.html",
        status=400 if given is not None else 200,
        run=origin.run.name,
        title=name_shortly(origin.run.name, studio.store),
        images=len(origin.faces),
        fault=fault,
        saved=saved,
        gates=[(gate, reasons.get(gate.name)) for gate in gates],
        sections=_list_sections(answers, origin, given or {}),
        open_questions=open_questions,
        path=str(path),
        stored=path.exists(),
        command=shlex.join(write_command(words, studio.store)),
        private_command=shlex.join(write_command([*words, "--private"], studio.store)),
        last_audit=audits[-1][0].name if audits else "",
    )


def _list_sections(
    answers: Answers, origin: Origin, given: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the questions by section, each with its text, its answer and whether it is open."""
    open_names = set(questions.list_open(answers, origin))
    sections = []
    for section, kind in SECTIONS.items():
        asked = []
        for name, field in kind.model_fields.items():
            key, value = f"{section}.{name}", getattr(getattr(answers, section), name)
            is_list = isinstance(field.default, tuple)
            text = (
                "\n".join(value) if is_list else f"{value:g}" if isinstance(value, float) else value
            )
            asked.append(
                {
                    "name": key,
                    "title": name.replace("_", " "),
                    "text": field.description,
                    "value": given.get(key, text),
                    "is_list": is_list,
                    "is_long": is_list or name in LONG_ANSWERS or section != "dataset",
                    "is_open": key in open_names,
                }
            )
        sections.append(
            {"name": section, "about": " ".join((kind.__doc__ or "").split()), "asked": asked}
        )

    # Sources that only their folder names
    nameless = [source for source in origin.sources if source.named_by == "folder"]
    asked = [
        {
            "name": f"sources.{source.run}",
            "title": source.run,
            "text": f"{questions.SOURCE_NAME_QUESTION} Its folder is named {source.dataset}.",
            "value": given.get(f"sources.{source.run}", answers.sources.get(source.run, "")),
            "is_list": False,
            "is_long": False,
            "is_open": f"sources.{source.run}" in open_names,
        }
        for source in nameless
    ]
    if asked:
        sections.append({"name": "sources", "about": "The names of its sources.", "asked": asked})
    return sections
