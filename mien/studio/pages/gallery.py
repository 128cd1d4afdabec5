"""Gallery: images filtered, sorted by any number, tagged, exported."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from mien.errors import UsageError
from mien.runs.progress import quantify
from mien.studio import selections
from mien.studio.base import Here, is_partial, list_set_choices, render_page
from mien.studio.numbers import describe_column, read_tables
from mien.studio.selections import KEPT_ORDER, FoundImages, ImageQuery
from mien.studio.sets import FaceSet, ImageTables

router = APIRouter()

LISTED_IMAGES = 120  # images on a page without JavaScript

FACTS_AT_ONCE = 1000

SORT_WORDS = {
    KEPT_ORDER: "the order of the set",
    "emotion": "class",
    "subject": "subject",
    "clip": "clip",
    "key": "key",
}


def read_query(
    emotion: str = "",
    subject: str = "",
    clip: str = "",
    phase: str = "",
    flag: str = "",
    split: str = "",
    tag: str = "",
    key: str = "",
    only: str = "",
    sort: str = KEPT_ORDER,
    descending: str = "",
) -> ImageQuery:
    """Return the query of an address; a form sends its empty fields too."""
    fields = (emotion, subject, clip, phase, flag, split, tag, key, only)
    return ImageQuery(*fields, sort or KEPT_ORDER, bool(descending))


Asked = Annotated[ImageQuery, Depends(read_query)]


class TagChange(BaseModel):
    """A change of tags, as the page sends it."""

    set: str
    positions: list[int] = Field(min_length=1)
    tag: str
    add: bool = True


class SelectionExport(BaseModel):
    """Where selected images go: a new run with the alias `name`, or the new folder `name`."""

    set: str
    positions: list[int] = Field(min_length=1)
    to: Literal["list", "folder", "run"]
    name: str = ""


def _find(studio: Here, name: str, query: ImageQuery) -> tuple[FaceSet, ImageTables, FoundImages]:
    """Return a set, its tables, and the images that a query finds in it."""
    face_set = studio.library.open(name)
    tables = read_tables(face_set, studio.store)
    tags = studio.tags.read(face_set.name)
    return face_set, tables, selections.find_images(face_set, tables, tags, query)


@router.get("/gallery")
def show_gallery(
    request: Request,
    studio: Here,
    query: Asked,
    set: str = "",
    page: int = Query(1, ge=1),
    size: int = Query(64, ge=32, le=256),
) -> HTMLResponse:
    """Show the images of a set; without a set, the one that was made last."""
    sets = list_set_choices(studio)
    if not sets:
        return render_page(request, "gallery.html", face_set=None, sets=[])
    face_set = studio.library.open(set or sets[-1]["name"])
    tables = read_tables(face_set, studio.store)
    tags = studio.tags.read(face_set.name)
    query = selections.require_known_query(query, tables, tags)
    found = selections.find_images(face_set, tables, tags, query)

    # What the lists of the form offer
    sorts = {**SORT_WORDS, **{name: describe_column(name) for name in tables.numbers}}
    filters: dict[str, list[tuple[str, str]]] = {
        name: [(value, f"{value} ({count:,})") for value, count in face_set.choices[name]]
        for name in ("emotion", "subject", "clip", "phase")
    }
    filters |= {
        "flag": [
            (name, f"{describe_column(name)} ({int(mask.sum()):,})")
            for name, mask in tables.flags.items()
        ],
        "split": [(name, f"{name} ({int(m.sum()):,})") for name, m in tables.splits.items()],
        "tag": [(name, f"{name} ({len(keys):,})") for name, keys in tags.items()],
    }

    # A page of images for browsers without JavaScript
    pages = max(1, -(-len(found.positions) // LISTED_IMAGES))
    page = min(page, pages)
    first = (page - 1) * LISTED_IMAGES
    return render_page(
        request,
        "gallery.html",
        face_set=face_set,
        sets=sets,
        query=query,
        filters=filters,
        sorts=sorts,
        sort_words=sorts.get(query.sort, query.sort),
        shown_size=size,
        found=len(found.positions),
        listed=[
            describe_image(face_set, found, place)
            for place in range(first, min(first + LISTED_IMAGES, len(found.positions)))
        ],
        page=page,
        pages=pages,
        undoable=studio.tags.count_changes(),
    )


def describe_image(face_set: FaceSet, found: FoundImages, place: int) -> dict[str, Any]:
    """Return what the list of a gallery says about the image at a place of its order."""
    position = int(found.positions[place])
    value = "" if found.values is None else format_number(found.values[place])
    return {
        "position": position,
        "label": str(face_set.columns["emotion"][position]),
        "key": str(face_set.columns["key"][position]),
        "value": value,
        "hidden": bool(face_set.is_hidden[position]),
    }


def format_number(value: float) -> str:
    """Return a number of an audit with four digits; empty if it is not known."""
    if not np.isfinite(value):
        return ""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


@router.get("/gallery/order")
def answer_order(studio: Here, query: Asked, set: str) -> dict[str, Any]:
    """Answer with the positions of the images that a query finds, and the numbers that sort
    them.
    """
    face_set, _, found = _find(studio, set, query)
    height, width = face_set.show_thumbnails(np.arange(min(1, len(face_set)))).shape[2:]
    return {
        "positions": found.positions.tolist(),
        "values": None
        if found.values is None
        else [format_number(float(value)) for value in found.values],
        "width": width,
        "height": height,
    }


@router.get("/gallery/facts")
def answer_facts(studio: Here, set: str, at: str = Query(max_length=8192)) -> list[list[Any]]:
    """Answer with label, subject, moments, tags and flags of the images at some positions."""
    face_set = studio.library.open(set)
    tables = read_tables(face_set, studio.store)
    texts = at.split(",")
    if len(texts) > FACTS_AT_ONCE or not all(text.isdecimal() for text in texts):
        raise HTTPException(400, f"`at` must be at most {FACTS_AT_ONCE} positions.")
    positions = selections.choose_positions(face_set, [int(text) for text in texts])

    # The tags and flags of each image
    columns = face_set.columns
    tagged: dict[str, list[str]] = {}
    for tag, keys in studio.tags.read(face_set.name).items():
        for key in keys:
            tagged.setdefault(key, []).append(tag)
    flags = {describe_column(name): mask for name, mask in tables.flags.items()}
    return [
        [
            columns["emotion"][position],
            columns["subject"][position],
            face_set.count_moments(position),
            tagged.get(str(columns["key"][position]), []),
            [text for text, mask in flags.items() if mask[position]],
            bool(face_set.is_hidden[position]),
        ]
        for position in positions.tolist()
    ]


@router.get("/gallery/image")
def show_image(request: Request, studio: Here, set: str, at: int) -> HTMLResponse:
    """Show one image large, with all that is known about it."""
    face_set = studio.library.open(set)
    if not 0 <= at < len(face_set):
        raise HTTPException(404, f"This set has {len(face_set):,} images.")

    # What its table, the audit and people say about it
    tables = read_tables(face_set, studio.store)
    columns = face_set.columns
    facts = {
        name.replace("_", " "): columns[name][at]
        for name in ("key", "emotion", "subject", "clip", "frame", "phase", "source", "licence")
        if columns[name][at] not in ("", -1)
    }
    numbers = {
        describe_column(name): format_number(float(values[at]))
        for name, values in tables.numbers.items()
        if np.isfinite(values[at])
    }
    texts = {
        describe_column(name): values[at] for name, values in tables.texts.items() if values[at]
    }
    tags = [
        tag for tag, keys in studio.tags.read(face_set.name).items() if columns["key"][at] in keys
    ]
    return render_page(
        request,
        "image_part.html" if is_partial(request) else "image.html",
        face_set=face_set,
        at=at,
        facts=facts,
        numbers={**numbers, **texts},
        flags=[describe_column(name) for name, mask in tables.flags.items() if mask[at]],
        tags=tags,
        compares=bool(tables.train),
        hidden=bool(face_set.is_hidden[at]),
    )


# Changes


@router.post("/gallery/tags")
def change_tags(studio: Here, change: TagChange) -> dict[str, Any]:
    """Give images a tag, or take it from them."""
    face_set = studio.library.open(change.set)
    positions = selections.choose_positions(face_set, change.positions)
    keys = [str(key) for key in face_set.columns["key"][positions]]
    count = studio.tags.change(face_set.name, change.tag, keys, change.add)
    did = f"{'tagged' if change.add else 'no longer tagged'} “{change.tag.strip()}”"
    return {"text": f"{quantify(count, 'image')} {did}.", "undoable": studio.tags.count_changes()}


@router.post("/gallery/undo")
def undo_tags(studio: Here) -> dict[str, Any]:
    """Undo the last change of tags, of any set."""
    change = studio.tags.undo()
    if change is None:
        raise UsageError("there is no change of tags to undo")
    did = "tagged" if change["add"] else "untagged"
    count = quantify(len(change["keys"]), "image")
    return {
        "text": f"Undone: {count} {did} “{change['tag']}”.",
        "undoable": studio.tags.count_changes(),
    }


@router.post("/gallery/export")
def export_images(studio: Here, export: SelectionExport) -> Response:
    """Export selected images: as a list (CSV), as a new folder, or as a new run of the store."""
    face_set = studio.library.open(export.set)
    positions = selections.choose_positions(face_set, export.positions)
    if export.to == "list":
        tables = read_tables(face_set, studio.store)
        return PlainTextResponse(
            selections.make_list(face_set, tables, positions), media_type="text/csv"
        )
    if export.to == "folder":
        text = selections.export_selection(face_set, positions, export.name, studio.store)
        return PlainTextResponse(text)
    run = selections.keep_selection(face_set, positions, export.name.strip(), studio.store)
    alias = f" ({export.name.strip()})" if export.name.strip() else ""
    return PlainTextResponse(f"{quantify(len(positions), 'image')} are the run {run.name}{alias}.")
