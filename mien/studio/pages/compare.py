"""Compare: synthetic faces next to the nearest real ones, or two sets."""

from itertools import zip_longest
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from mien.errors import StoreError
from mien.studio.base import Here, Studio, list_set_choices, render_page
from mien.studio.images import draw_sheet, encode_png, make_answer, open_shown
from mien.studio.nearest import (
    FoundMove,
    NearestFace,
    draw_difference,
    find_nearest_held_out,
    read_nearest_training,
)
from mien.studio.numbers import read_tables
from mien.studio.sets import FaceSet

router = APIRouter()

COMPARED_ROWS = 12  # of a page

PAIRS_PER_CLASS = 12  # of two sets


@router.get("/compare")
def show_comparison(
    request: Request,
    studio: Here,
    set: str = "",
    other: str = "",
    at: int | None = None,
    held_out: bool = False,
    page: int = Query(1, ge=1),
) -> HTMLResponse:
    """Show synthetic faces next to the nearest real ones, or next to another set."""
    # The sets that there are; a synthetic one first, since only such a set has nearest faces
    sets = list_set_choices(studio)
    if not sets:
        return render_page(request, "compare.html", face_set=None, sets=[])
    name = set or _choose_audited(studio) or sets[-1]["name"]
    face_set = studio.library.open(name)
    content: dict[str, Any] = {"face_set": face_set, "sets": sets, "other": None, "rows": None}
    if other:
        other_set = studio.library.open(other)
        content |= {"other": other_set, "groups": _pair_sets(face_set, other_set)}
        content["titles"] = {choice["name"]: choice["title"] for choice in sets}
        return render_page(request, "compare.html", **content)

    # The rows of this page, the nearest first
    tables = read_tables(face_set, studio.store)
    if not tables.train:
        return render_page(request, "compare.html", **content)
    distances = tables.numbers.get("distance", np.full(len(face_set), np.nan))
    order = np.argsort(distances, kind="stable")
    if at is not None and 0 <= at < len(face_set):
        order = np.concatenate([[at], order[order != at]])
    pages = max(1, -(-len(order) // COMPARED_ROWS))
    page = min(page, pages)
    shown = order[(page - 1) * COMPARED_ROWS : page * COMPARED_ROWS]
    try:
        train = studio.library.open(tables.train)
        test = studio.library.open(tables.test) if tables.test else None
    except StoreError as error:
        return render_page(request, "compare.html", **content, missing=str(error))
    nearest = read_nearest_training(tables, train, shown.tolist())
    strangers: list[NearestFace | None] = [None] * len(shown)
    if test and held_out:  # the search takes a second, so the page is shown before it
        strangers = find_nearest_held_out(face_set, test, shown)

    # What each row shows
    rows = []
    for position, training, stranger in zip(shown.tolist(), nearest, strangers, strict=True):
        rows.append(
            {
                "position": position,
                "label": face_set.columns["emotion"][position],
                "key": face_set.columns["key"][position],
                "hidden": bool(face_set.is_hidden[position]),
                "training": None if training is None else _describe_nearest(train, training),
                "held_out": None
                if stranger is None or test is None
                else _describe_nearest(test, stranger),
            }
        )
    reasons = [shown_set.hidden_reason for shown_set in (train, test) if shown_set]
    content |= {"rows": rows, "train": train, "test": test, "page": page, "pages": pages}
    content |= {"at": at, "searched": held_out or test is None}
    content["hidden_reasons"] = [reason for reason in dict.fromkeys(reasons) if reason]
    return render_page(request, "compare.html", **content)


def _choose_audited(studio: Studio) -> str:
    """Return the newest set that has an audit, empty if there is none."""
    for name in reversed(studio.library.list_sets()):
        if name.startswith(("generate-", "filter-", "folder-")):
            face_set = studio.library.open(name)
            if read_tables(face_set, studio.store).train:
                return name
    return ""


def _describe_nearest(face_set: FaceSet, found: NearestFace) -> dict[str, Any]:
    """Return what a row says about a real image."""
    alignment = found.alignment
    return {
        "position": found.position,
        "distance": f"{found.distance:.3f}",
        "label": face_set.columns["emotion"][found.position],
        "subject": face_set.columns["subject"][found.position],
        "copy": found.copy,
        "hidden": bool(face_set.is_hidden[found.position]),
        "moved": f"mirrored={int(alignment.mirrored)}&down={alignment.down}"
        f"&right={alignment.right}",
    }


def _pair_sets(first: FaceSet, second: FaceSet) -> list[dict[str, Any]]:
    """Return for each class the pairs of two sets: images drawn from the same seed, as by a teacher
    and its student, or else those at the same place of the class.
    """
    groups = []
    for emotion in dict.fromkeys([*first.faces.classes, *second.faces.classes]):
        places, by_seed = [], []
        for face_set in (first, second):
            members = np.flatnonzero(face_set.columns["emotion"] == emotion)
            seeds = face_set.columns["seed"][members]
            places.append(members.tolist())
            by_seed.append(dict(zip(seeds.tolist(), members.tolist(), strict=True)))

        # Images of the same seed; a real image has the seed -1
        common = [seed for seed in by_seed[0] if seed in by_seed[1] and seed >= 0]
        if common:
            pairs = [(by_seed[0][seed], by_seed[1][seed]) for seed in common[:PAIRS_PER_CLASS]]
        else:
            pairs = list(zip_longest(*(members[:PAIRS_PER_CLASS] for members in places)))
        counts = [len(members) for members in places]
        groups.append(
            {"emotion": emotion, "same_seed": bool(common), "pairs": pairs, "counts": counts}
        )
    return groups


@router.get("/difference/{run}/{position}/{real}/{real_position}")
def answer_difference(
    studio: Here,
    run: str,
    position: int,
    real: str,
    real_position: int,
    mirrored: bool = False,
    down: int = Query(0, ge=-16, le=16),
    right: int = Query(0, ge=-16, le=16),
) -> Response:
    """Answer with the difference between two images, the brighter the larger."""
    sets = [open_shown(studio, run), open_shown(studio, real)]
    places = [position, real_position]
    for face_set, place in zip(sets, places, strict=True):
        if not 0 <= place < len(face_set):
            raise HTTPException(404, f"This set has {len(face_set):,} images.")
        if face_set.is_hidden[place]:
            raise HTTPException(403, face_set.hidden_reason)
    pictures = [
        face_set.show_thumbnails(np.array([place]))[0]
        for face_set, place in zip(sets, places, strict=True)
    ]
    if pictures[0].shape != pictures[1].shape:
        raise HTTPException(400, "Images of two sizes cannot be compared.")
    difference = draw_difference(pictures[0], pictures[1], FoundMove(mirrored, down, right))
    picture = encode_png(draw_sheet(difference[None], 1))
    return make_answer(picture, max(sets, key=lambda face_set: not face_set.is_free))
