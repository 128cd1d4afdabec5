"""Pictures of the studio, by run and position alone, encoded in memory.

Many thumbnails are one picture, a sheet, so that a gallery of thousands needs few requests. Nothing
is written to a disk, neither here nor, of faces that not everybody may show, by the browser.
"""

import io
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Response
from jaxtyping import Int, UInt8
from PIL import Image

from mien.runs.spec import RUN_NAME
from mien.studio.base import Here
from mien.studio.sets import FaceSet

router = APIRouter()

SHEET_CELL_PIXELS = 96  # the longer side of a thumbnail on a sheet, if the image is as large

SHEET_COLUMNS, SHEET_IMAGES = 16, 512

MOVING_PICTURES = 32  # of a clip

KEEP = "private, max-age=86400, immutable"


def open_shown(studio: Here, run: str) -> FaceSet:
    """Return the set of a run by its own name; raises HTTPException if there is none."""
    if not RUN_NAME.match(run):
        raise HTTPException(404, "There is no such run.")
    return studio.library.open(run)


def make_answer(picture: bytes, face_set: FaceSet) -> Response:
    """Return a picture (PNG), which a browser keeps only if everybody may show it."""
    headers = {"cache-control": KEEP if face_set.is_free else "no-store"}
    return Response(picture, media_type="image/png", headers=headers)


def encode_png(picture: Image.Image) -> bytes:
    """Return a picture as PNG, which is fast, since it only goes to this machine's browser."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def draw_sheet(
    pictures: UInt8[np.ndarray, "k c h w"], columns: int, most: int = SHEET_CELL_PIXELS
) -> Image.Image:
    """Return pictures in rows of `columns` without gaps, each at most `most` pixels wide and high.

    Larger pictures are made smaller; smaller ones keep their size, and the page enlarges them.
    """
    # One large array of all of them
    n, c, h, w = pictures.shape
    rows = max(1, -(-n // columns))
    sheet = np.zeros((rows * columns, c, h, w), dtype=np.uint8)
    sheet[:n] = pictures
    pixels = sheet.reshape(rows, columns, c, h, w).transpose(0, 3, 1, 4, 2)
    pixels = np.ascontiguousarray(pixels).reshape(rows * h, columns * w, c)
    picture = Image.fromarray(pixels[:, :, 0] if c == 1 else pixels)

    # Its size in thumbnails of the wanted size
    width, height = fit_size(w, h, most)
    if (width, height) == (w, h):
        return picture
    return picture.resize((columns * width, rows * height), Image.Resampling.BOX)


def fit_size(width: int, height: int, most: int) -> tuple[int, int]:
    """Return the size of a picture that is made so small that its longer side has `most` pixels."""
    share = min(1.0, most / max(width, height))
    return max(1, round(width * share)), max(1, round(height * share))


def draw_thumbnails(face_set: FaceSet, positions: Int[np.ndarray, " k"] | Sequence[int]) -> bytes:
    """Return the sheet of some images of a set (PNG), in rows of SHEET_COLUMNS."""
    pictures = face_set.show_thumbnails(np.asarray(positions, dtype=np.int64))
    return encode_png(draw_sheet(pictures, SHEET_COLUMNS))


@router.get("/image/{run}/{position}")
def answer_image(
    studio: Here, run: str, position: int, size: int = Query(2048, ge=16, le=2048)
) -> Response:
    """Answer with one image, made smaller if it is larger than `size`."""
    face_set = open_shown(studio, run)
    if not 0 <= position < len(face_set):
        raise HTTPException(404, f"This set has {len(face_set):,} images.")
    if face_set.is_hidden[position]:
        raise HTTPException(403, face_set.hidden_reason)
    pictures = face_set.show_thumbnails(np.array([position]))
    return make_answer(encode_png(draw_sheet(pictures, 1, size)), face_set)


@router.get("/moments/{run}/{position}")
def answer_moments(studio: Here, run: str, position: int) -> Response:
    """Answer with the moments of a clip side by side, which the page shows one after the other."""
    face_set = open_shown(studio, run)
    if not 0 <= position < len(face_set):
        raise HTTPException(404, f"This set has {len(face_set):,} images.")
    pictures = face_set.show_moments(position, MOVING_PICTURES)
    return make_answer(encode_png(draw_sheet(pictures, len(pictures))), face_set)


@router.get("/sheet/{run}")
def answer_sheet(studio: Here, run: str, at: str = Query(max_length=8192)) -> Response:
    """Answer with the thumbnails of the positions `at`, separated by commas."""
    face_set = open_shown(studio, run)
    texts = at.split(",")
    if len(texts) > SHEET_IMAGES or not all(text.isdecimal() for text in texts):
        raise HTTPException(400, f"`at` must be at most {SHEET_IMAGES} positions.")
    positions = np.array([int(text) for text in texts])
    if (positions >= len(face_set)).any():
        raise HTTPException(404, f"This set has {len(face_set):,} images.")
    return make_answer(draw_thumbnails(face_set, positions), face_set)
