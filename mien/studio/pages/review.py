"""Review: doubtful labels by keyboard, and the agreement of reviewers."""

import math
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, Response

from mien.audit.labels.reviewers import (
    Review,
    ReviewerAgreement,
    ReviewRow,
    compare_reviewers,
    list_reviewers,
)
from mien.audit.origin import find_real_sides
from mien.audit.specs import QueueSpec
from mien.errors import MienError, UsageError
from mien.faces import EMOTIONS
from mien.runs.spec import read_spec
from mien.runs.store import Run
from mien.studio.base import Here, Studio, is_partial, render_page
from mien.studio.choices import holds_faces, holds_real, list_choices
from mien.studio.tasks import begin_task, go_back, list_tasks

router = APIRouter()

CLASS_KEYS = "1234567890qwe"  # one for each class that a queue may hold

NEXT_IMAGES = 6  # rows after the current one, whose pictures are shown small


@router.get("/review")
def show_queues(request: Request, studio: Here) -> HTMLResponse:
    """Show the queues of the store, and a form that makes one."""
    return _render_queues(request, studio)


def _render_queues(request: Request, studio: Studio, fault: str = "") -> HTMLResponse:
    """Return the page of queues; `fault` says why none was made."""
    # The queues, with what each reviewer has decided
    store = studio.store
    queues = []
    for choice in list_choices(store, lambda run: run.stage == "review"):
        run = store.run(choice.run)
        counts = {
            name: sum(bool(row.decision) for row in Review(run, name, store).rows)
            for name in list_reviewers(run, store)
        }
        queues.append({"choice": choice, "faces": run.spec["faces"], "reviewers": counts})

    return render_page(
        request,
        "review.html",
        status=400 if fault else 200,
        fault=fault,
        queues=queues,
        sets=list_choices(store, holds_faces),
        people=list_choices(store, holds_real),
        tasks=[task for task in list_tasks("review", store) if task.state != "done"],
        back="/review",
    )


@router.post("/review")
def make_queue(
    request: Request,
    studio: Here,
    faces: str = Form(),
    judges: str = Form(""),
    number: str = Form("100"),
) -> Response:
    """Start the command that makes a queue."""
    # The spec of the queue, checked as the command checks it
    store = studio.store
    try:
        if not number.isdecimal():
            raise UsageError(f"the number of labels must be a whole number; given: '{number[:40]}'")
        database = store.run(faces)
        if not judges and not holds_real(database):
            judges = find_real_sides(database, store)[1]
            if not judges:
                raise UsageError(
                    "the labels of synthetic faces need judges, and the store knows no people whom "
                    "the generator never saw: choose a set of real people"
                )
        people = store.run(judges) if judges else None
        channels = studio.library.open((people or database).name).faces.channels
        fields = {
            "faces": database.name,
            "judges": people.name if people else "",
            "number": int(number),
            "channels": channels,
        }
        spec = read_spec(QueueSpec, fields, "review")
    except MienError as error:
        return _render_queues(request, studio, str(error))

    # The command that makes it
    words = ["review", "queue", database.name, "--number", number, "--store-only"]
    if not store.is_done(spec.name):
        begin_task(spec.name, [*words, *(["--judges", judges] if judges else [])], store)
        return go_back("/review")
    return go_back(f"/review/{spec.name}")


# The desk of one reviewer


@router.get("/review/{queue}")
def show_desk(
    request: Request,
    studio: Here,
    queue: str,
    reviewer: str = "",
    at: int | None = Query(None, ge=0),
) -> HTMLResponse:
    """Show one image of a queue with all that a reviewer can decide about it.

    Without its place it is the first one that is undecided.
    """
    return _render_desk(request, studio, queue, reviewer, at)


def _render_desk(
    request: Request, studio: Studio, queue: str, reviewer: str, at: int | None, fault: str = ""
) -> HTMLResponse:
    """Return the page of one image, or its part; without a reviewer, the question who reviews."""
    run = open_queue(studio, queue)
    if not reviewer:
        return render_page(
            request,
            "reviewer.html",
            queue=run.name,
            faces=run.spec["faces"],
            holds=run.summary.get("holds", ""),
            known=list_reviewers(run, studio.store),
        )

    # The current row and those that follow
    review = Review(run, reviewer, studio.store)
    rows = review.rows
    if at is None:
        at = _find_open(rows, -1) or 0
    at = min(at, len(rows) - 1)
    row = rows[at]
    places = _find_positions(studio, run)
    face_set = studio.library.open(str(run.spec["faces"]))
    position = places.get(row.key)
    classes = list_classes(face_set.faces.classes, rows)
    later = range(at + 1, min(at + 1 + NEXT_IMAGES, len(rows)))
    return render_page(
        request,
        "desk_part.html" if is_partial(request) else "desk.html",
        status=400 if fault and not is_partial(request) else 200,
        fault=fault,
        queue=run.name,
        faces=face_set.name,
        reviewer=reviewer,
        row=row,
        at=at,
        total=len(rows),
        decided=sum(bool(one.decision) for one in rows),
        position=position,
        hidden=position is None or bool(face_set.is_hidden[position]),
        hidden_reason=face_set.hidden_reason,
        classes=classes,
        later=[(number, places.get(rows[number].key), rows[number]) for number in later],
        agreements=describe_agreements(run, review, studio),
        table=str(review.path),
        first_open=_find_open(rows, -1),
    )


@router.post("/review/{queue}")
def decide(
    request: Request,
    studio: Here,
    queue: str,
    reviewer: str = Form(),
    at: int = Form(0),
    key: str = Form(""),
    answer: str = Form(),
    note: str = Form(""),
) -> Response:
    """Save what a reviewer decided, and show the next image.

    `answer` is a class, reject, clear or undo.
    """
    run = open_queue(studio, queue)
    review = Review(run, reviewer, studio.store)
    fault = ""
    try:
        if answer == "undo":
            undone = review.undo()
            at = at if undone is None else undone.number - 1
            fault = "" if undone else "Nothing is left to take back."
        else:
            decision = {"reject": "reject", "clear": ""}.get(answer, "relabel")
            review.decide(key, decision, answer if decision == "relabel" else "", note)
            at = at if answer == "clear" else min(at + 1, len(review.rows) - 1)
    except MienError as error:
        fault = str(error)
    address = f"/review/{run.name}?{urlencode({'reviewer': reviewer, 'at': at})}"
    if not is_partial(request) and not fault:
        return go_back(address)
    page = _render_desk(request, studio, queue, reviewer, at, fault)
    page.headers["HX-Replace-Url"] = address  # where a reload finds the same image
    return page


def open_queue(studio: Studio, name: str) -> Run:
    """Return the run of a queue; raises HTTPException if there is none."""
    run = studio.store.run(name)
    if run.stage != "review":
        raise HTTPException(404, "There is no such queue.")
    return run


def list_classes(present: tuple[str, ...], rows: list[ReviewRow]) -> list[tuple[str, str]]:
    """Return the key and the name of each class that a reviewer can choose, in a fixed order."""
    wanted = {*present, *(row.relabel for row in rows), *(row.predicted for row in rows)}
    names = [name for name in EMOTIONS if name in wanted]
    return list(zip(CLASS_KEYS, names, strict=False))


def describe_agreements(run: Run, review: Review, studio: Studio) -> list[dict[str, Any]]:
    """Return the agreement of a reviewer with each other one."""
    others = [name for name in list_reviewers(run, studio.store) if name != review.reviewer]
    rows = review.rows
    number = {row.key: row.number for row in rows}
    found: list[tuple[str, ReviewerAgreement]] = [
        (name, compare_reviewers(rows, Review(run, name, studio.store).rows)) for name in others
    ]
    return [
        {
            "reviewer": name,
            "n": one.n,
            "same": one.same,
            "kappa": format_kappa(one),
            "differing": [number[key] for key in one.differing],
        }
        for name, one in found
    ]


def format_kappa(agreement: ReviewerAgreement) -> str:
    """Return kappa with its interval, or what keeps it from being told."""
    kappa = agreement.kappa
    if math.isnan(kappa.value):
        return "cannot tell"
    if math.isnan(kappa.low):
        return f"{kappa.value:.2f}"
    return f"{kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}]"


def _find_positions(studio: Studio, run: Run) -> dict[str, int]:
    """Return the position of each image in the set of a queue, by its key."""
    keys = studio.library.open(str(run.spec["faces"])).faces.index["key"]
    return {str(key): place for place, key in enumerate(keys)}


def _find_open(rows: list[ReviewRow], after: int) -> int | None:
    """Return the place of the first row after `after` that is undecided, or None."""
    return next(
        (place for place, row in enumerate(rows) if place > after and not row.decision), None
    )
