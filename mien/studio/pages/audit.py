"""Audit: verdicts, and each check's number, interval, limit and reason."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Form, HTTPException, Request, Response
from starlette.responses import HTMLResponse

from mien.audit.origin import find_real_sides
from mien.errors import AuditFailed, MienError
from mien.pages.tables import EMPTY_CELL
from mien.runs.spec import compute_digest
from mien.runs.store import Run, Store
from mien.studio.base import Here, Studio, render_page
from mien.studio.choices import holds_real, holds_synthetic, list_choices, name_shortly
from mien.studio.tasks import Task, begin_task, go_back, list_tasks

router = APIRouter()

ANSWERED_CODES = (0, AuditFailed.exit_code)  # exit codes of a command that has given its answer

VERDICT_TITLES = {
    "pass": "Passed",
    "warn": "Passed, with warnings",
    "cannot tell": "Cannot tell",
    "fail": "Failed",
}


@router.get("/audit")
def show_audits(request: Request, studio: Here) -> HTMLResponse:
    """Show the audits of the store, and a form that starts one."""
    return _render_audits(request, studio)


def _render_audits(request: Request, studio: Studio, fault: str = "") -> HTMLResponse:
    """Return the page of audits; `fault` says why none was started."""
    store = studio.store
    tasks = list_tasks("audit", store)
    audits = []
    for choice in list_choices(store, lambda run: run.stage == "audit"):
        contents = _read_contents(Run(choice.run, store.root / "runs" / choice.run))
        audits.append({"choice": choice, **contents})
    return render_page(
        request,
        "audits.html",
        status=400 if fault else 200,
        fault=fault,
        audits=audits,
        titles=VERDICT_TITLES,
        databases=list_choices(store, holds_synthetic),
        people=list_choices(store, holds_real),
        tasks=[task for task in tasks if not _is_answered(task, store)],
        back="/audit",
    )


def _is_answered(task: Task, store: Store) -> bool:
    """Whether an audit that was started here has ended with its answer, good or bad."""
    if task.command.running:
        return False
    if task.command.code is not None:
        return task.command.code in ANSWERED_CODES
    names = [name for name in store.list_names() if name.startswith("audit-")]
    return any(name in task.command.log for name in names)


@router.post("/audit")
def start_audit(
    request: Request,
    studio: Here,
    synthetic: str = Form(),
    train: str = Form(""),
    test: str = Form(""),
) -> Response:
    """Start the command that audits a database."""
    store = studio.store
    try:
        database = store.run(synthetic)
        known = ("", "") if train else find_real_sides(database, store)
        sides = (store.run(train or known[0]).name, test or known[1])
        held_out = store.run(sides[1]).name if sides[1] else ""
    except MienError as error:
        return _render_audits(request, studio, str(error))
    words = ["audit", database.name, "--train", sides[0]]
    words += ["--test", held_out] if held_out else []

    # The name of the run depends on limits that only the command reads; this one is for the log
    begin_task(f"audit-{compute_digest({'words': words})}", words, store)
    return go_back("/audit")


@router.get("/audit/{run}")
def show_audit(request: Request, studio: Here, run: str) -> HTMLResponse:
    """Show the answers of an audit, and each of its checks."""
    audit = studio.store.run(run)
    if audit.stage != "audit":
        raise HTTPException(404, "There is no such audit.")
    contents = _read_contents(audit)
    checks: Sequence[Mapping[str, Any]] = contents["checks"]
    families = dict.fromkeys(str(check["family"]) for check in checks)
    return render_page(
        request,
        "audit.html",
        run=audit.name,
        title=name_shortly(str(contents["synthetic"]), studio.store),
        contents=contents,
        titles=VERDICT_TITLES,
        counts={name: sum(check["verdict"] == name for check in checks) for name in VERDICT_TITLES},
        groups=[
            (name, [check for check in checks if check["family"] == name]) for name in families
        ],
        number=format_number,
    )


def _read_contents(audit: Run) -> dict[str, Any]:
    """Return the audit.json of an audit."""
    return audit.read_json("audit.json")


def format_number(value: float | None) -> str:
    """Return a number with three significant digits; a dash if it is missing."""
    if value is None or not np.isfinite(value):
        return EMPTY_CELL
    if abs(value) < 1e-9:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
