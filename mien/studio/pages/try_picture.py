"""Try: one picture is named by a trained classifier, in memory only."""

import secrets
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, File, Form, HTTPException, Request, Response, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.responses import HTMLResponse

from mien.classifiers.stored import CLASSIFIER_NOTICE, StoredClassifier, list_classifiers
from mien.errors import MienError, UsageError
from mien.pictures import convert_to_image
from mien.studio.base import Here, Studio, is_partial, render_page
from mien.studio.images import encode_png
from mien.studio.security import UPLOAD_BYTES

if TYPE_CHECKING:
    from mien.classifiers.one_picture import NamedPicture
    from mien.classifiers.predict import TrainedNetwork

router = APIRouter()

KEPT_FACES = 8  # cropped faces that wait in memory until the page asks for them, once

# An upload would otherwise be written to a temporary file if it is larger than a megabyte
MultiPartParser.spool_max_size = UPLOAD_BYTES


class WaitingFaces:
    """Cropped faces in memory, by a secret name; each is given out once."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, picture: bytes) -> str:
        """Keep a picture, and return its name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._pictures[name] = picture
            while len(self._pictures) > KEPT_FACES:
                self._pictures.popitem(last=False)
        return name

    def take(self, name: str) -> bytes | None:
        """Return a picture and forget it; None if there is none of this name."""
        with self._lock:
            return self._pictures.pop(name, None)


WAITING = WaitingFaces()


@router.get("/try")
def show_form(request: Request, studio: Here) -> HTMLResponse:
    """Show the form for a picture, and the notice."""
    return _render(request, studio)


@router.post("/try")
def try_picture(
    request: Request,
    studio: Here,
    picture: Annotated[UploadFile, File()],
    classifier: Annotated[str, Form()] = "",
    crop: Annotated[str, Form()] = "",
) -> HTMLResponse:
    """Name the expression of a picture; nothing of it is written to a disk."""
    try:
        known = {one.run: one for one in list_classifiers(studio.store)}
        if classifier not in known:
            raise UsageError("a classifier of the list must be chosen; choose one and try again")
        content = picture.file.read()
        if not content:
            raise UsageError("a picture must be given; choose a file and try again")
        named = _name(content, known[classifier], studio, bool(crop))
    except MienError as error:
        return _render(request, studio, fault=str(error), chosen=classifier)
    face = WAITING.put(encode_png(convert_to_image(named.face)))
    return _render(request, studio, named=named, face=face, chosen=classifier)


def _name(content: bytes, chosen: StoredClassifier, studio: Studio, crop: bool) -> "NamedPicture":
    """Return what a classifier says of a picture.

    torch is loaded here, since it takes seconds and memory that no other page needs.
    """
    from mien.classifiers.one_picture import name_picture

    run = studio.store.run(chosen.run)
    return name_picture(content, _load(run.path), chosen.colour, crop)


@lru_cache(maxsize=2)
def _load(folder: Path) -> "TrainedNetwork":
    from mien.classifiers.predict import load_network

    return load_network(folder, "cpu")


@router.get("/try/face/{name}")
def answer_face(name: str) -> Response:
    """Answer with the face that was cut out of a picture, once."""
    face = WAITING.take(name)
    if face is None:
        raise HTTPException(404, "This face is no longer kept.")
    return Response(face, media_type="image/png", headers={"cache-control": "no-store"})


def _render(
    request: Request,
    studio: Studio,
    *,
    fault: str = "",
    named: "NamedPicture | None" = None,
    face: str = "",
    chosen: str = "",
) -> HTMLResponse:
    """Return the page, with the answer if there is one."""
    aliases = {run: alias for alias, run in studio.store.read_aliases().items()}
    classifiers = [
        (one, aliases.get(one.run, one.run), aliases.get(one.faces, one.faces))
        for one in list_classifiers(studio.store)
    ]
    template = "try_answer.html" if is_partial(request) else "try.html"
    return render_page(
        request,
        template,
        status=400 if fault and not is_partial(request) else 200,
        classifiers=classifiers,
        chosen=chosen,
        fault=fault,
        named=named,
        face=face,
        notice=CLASSIFIER_NOTICE,
    )
