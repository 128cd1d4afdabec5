"""Real and synthetic faces side by side, as strips of each class."""

from typing import Any

import numpy as np
from PIL import Image

from mien.audit.memorisation.copies import find_copies
from mien.faces import Faces
from mien.pages.html import encode_picture
from mien.pages.sheets import draw_grid, pick_positions
from mien.study.results import StudyResults

FACES_PER_STRIP = 4  # which a telephone shows next to as many others

STRIP_SCALE = 2  # pixels of the page for each pixel of a face


def collect_strips(study: StudyResults, real: bool) -> dict[str, Any] | None:
    """Return strips of up to four faces of each class, or None if there is nothing to show.

    `sides` are the titles of the columns, `rows` the strips of each class with their texts, and
    `text` says how the faces were chosen. Without `real`, copies of real faces are left out.
    """
    # The sides: real faces if they may be shown, and those of the first finished database
    sides: dict[str, Faces] = {"real": study.faces} if real else {}
    if study.databases:
        first = study.databases[0]
        synthetic = first if real else select_without_copies(first, study.faces)
        if synthetic is not None:
            sides["synthetic"] = synthetic
    if not sides:
        return None

    # A strip for each class and side
    names = [name for faces in sides.values() for name in faces.classes if name]
    rows = [
        {"name": name, "strips": [_make_strip(faces, name, side) for side, faces in sides.items()]}
        for name in dict.fromkeys(names)
    ]

    # How the faces were chosen, and from which fold
    finished = [
        database.fold for database in study.plan.databases if study.store.is_done(database.database)
    ]
    text = "Faces are chosen by the order of their names, not by how they look."
    if "synthetic" in sides and next(iter(finished), -1) >= 0:
        text += (
            f" The synthetic ones are of fold {finished[0]}; a class that its training side lacks "
            "has none."
        )
    return {"sides": list(sides), "rows": rows, "text": text}


def _make_strip(faces: Faces, emotion: str, side: str) -> dict[str, str]:
    """Return the picture of up to four faces of a class with its text, "" if there are none."""
    images = faces.show_pictures(pick_positions(faces, emotion, FACES_PER_STRIP))
    if not len(images):
        return {"image": "", "alt": ""}
    padded = np.full((FACES_PER_STRIP, *images.shape[1:]), 255, np.uint8)
    padded[: len(images)] = images
    strip = draw_grid(padded, FACES_PER_STRIP, STRIP_SCALE)
    number = {1: "One", 2: "Two", 3: "Three"}.get(len(images), "Four")
    noun = "face" if len(images) == 1 else "faces"
    return {"image": _encode_image(strip), "alt": f"{number} {side} {noun}, label {emotion}"}


def explain_hidden_faces(study: StudyResults, real: bool, real_faces: bool | None) -> str:
    """Return why no real faces are shown, or "" if they are."""
    if real:
        return ""
    if real_faces is not None:
        return "Real faces are not shown, as requested."
    names = ", ".join(study.withheld)
    return (
        f"Real faces are not shown, since no free licence is known for {names}; `mien report "
        "--real-faces` shows them."
    )


def select_without_copies(faces: Faces, real: Faces) -> Faces | None:
    """Return some synthetic faces of each class without copies of real ones, or None if all are."""
    rows = np.concatenate([pick_positions(faces, name, FACES_PER_STRIP) for name in faces.classes])
    chosen = np.isin(np.arange(len(faces)), rows)
    copied = set(find_copies(faces.select(chosen), real)["image"])
    invented = chosen & ~faces.index["key"].isin(copied).to_numpy()
    return faces.select(invented) if invented.any() else None


def _encode_image(image: Image.Image) -> str:
    """Return an image as a data URL, with one channel if it is grey."""
    grey = image.convert("L")
    smallest = grey if np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(image)) else image
    return encode_picture(smallest)
