"""Crops: where the face is in a photograph, and the square around it.

The detector that OpenCV's wheel brings is Viola and Jones's cascade (2001); YuNet (Wu et al. 2023)
is more exact and comes as a file. Every picture of a clip is cut in one place, found in one of its
first frames: a box that trembles from frame to frame would look like a moving face.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from mien.errors import DataError, UsageError, WeightsError
from mien.escape import write_csv
from mien.figures import rows
from mien.progress import many, say, track
from mien.seeds import rng
from mien.spec import Strict

Picture = UInt8[np.ndarray, "h w *c"]
Kind = Literal["found", "no eyes", "missed"]

LONGEST = 640  # pixels of the longer side that a detector works on
SMALLEST = 0.1  # of the shorter side: faces below are not looked for
TURN = 30.0  # degrees: what is steeper between two eyes are no two eyes
TRIED = 5  # frames of a clip that are looked at, from its first on, until one shows a face
SURE = 0.6  # of YuNet: the score from which it is a face
THUMB = 96  # pixels a side on the sheet


class CropSpec(Strict):
    """How a face is found and cut out.

    `detector` is haar, or yunet, whose file has the sha256 `model`. The square that is cut is as
    large as the longer side of the face's box and a `margin` on each side, a share of it; beyond
    the picture, its border is repeated. With `align` the picture is turned until the eyes lie
    level. `misses` says what becomes of a picture without a face: the work fails, skips it, or
    takes the largest square at its centre.
    """

    detector: Literal["haar", "yunet"] = "haar"
    model: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    margin: float = Field(default=0.1, ge=0, le=1)
    align: bool = False
    misses: Literal["fail", "skip", "centre"] = "fail"

    @model_validator(mode="after")
    def _with_its_file(self) -> "CropSpec":
        if (self.detector == "yunet") != bool(self.model):
            raise ValueError(
                "model must be the file of a YuNet (face_detection_yunet_2023mar.onnx of OpenCV's "
                "model zoo) with the detector yunet, and nothing with haar, which OpenCV brings"
            )
        return self


@dataclass(frozen=True)
class Place:
    """Where a face is, in pixels of its picture: the middle and side of a square, and how far it is
    turned.

    `turn` is in degrees: the angle of the line from one eye to the other, clockwise; 0 unless eyes
    were looked for and found.
    """

    kind: Kind
    x: float
    y: float
    side: float
    turn: float = 0.0


class Finder:
    """Finds the largest face of a picture; each thread has a detector of its own.

    Raises WeightsError if YuNet's file is missing or is none.
    """

    def __init__(self, spec: CropSpec, model: Path | None = None) -> None:
        self.spec, self.model, self.own = spec, model, threading.local()
        self._detectors()  # complains at once

    def __call__(self, picture: UInt8[np.ndarray, "h w *c"]) -> Place:
        """Return where the largest face is; of a miss, the largest square at the centre."""
        h, w = picture.shape[:2]
        scale = min(1.0, LONGEST / max(h, w))
        small = (
            cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if scale < 1
            else picture
        )
        found = self._yunet(small) if self.spec.detector == "yunet" else self._haar(small)
        if found is None:
            return Place("missed", w / 2, h / 2, float(min(h, w)))
        (left, top, width, height), eyes = found
        middle = (
            (left + width / 2) / scale,
            (top + height / 2) / scale,
            float(max(width, height) / scale),
        )
        turn = _turn(eyes) if self.spec.align else 0.0
        return Place("found", *middle, turn) if turn is not None else Place("no eyes", *middle)

    def _detectors(self) -> Any:
        if not hasattr(self.own, "detectors"):
            yunet = self.spec.detector == "yunet"
            self.own.detectors = (
                _load_yunet(self.model)
                if yunet
                else (_cascade("frontalface_default"), _cascade("eye"))
            )
        return self.own.detectors

    def _haar(self, picture: UInt8[np.ndarray, "h w *c"]) -> tuple[Any, Any] | None:
        """Return the box of the largest face, and the middles of its eyes where two were found."""
        faces, eyes = self._detectors()
        grey = cv2.equalizeHist(
            picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        )
        least = max(20, round(SMALLEST * min(grey.shape)))
        boxes = [
            tuple(map(int, box))
            for box in faces.detectMultiScale(grey, 1.1, 4, minSize=(least, least))
        ]
        if not boxes:
            return None
        left, top, width, height = max(boxes, key=lambda box: (box[2] * box[3], box))
        if not self.spec.align:
            return (left, top, width, height), None
        upper = np.ascontiguousarray(grey[top : top + round(0.6 * height), left : left + width])
        found = [
            tuple(map(int, box))
            for box in eyes.detectMultiScale(upper, 1.05, 3, minSize=(width // 8,) * 2)
        ]
        middles = sorted((left + x + w / 2, top + y + h / 2) for x, y, w, h in found)
        return (left, top, width, height), _pair(middles, left + width / 2, float(width))

    def _yunet(self, picture: UInt8[np.ndarray, "h w *c"]) -> tuple[Any, Any] | None:
        """Return the box of the largest face and the middles of its eyes."""
        detector = self._detectors()
        colour = cv2.cvtColor(
            picture, cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
        )
        detector.setInputSize(colour.shape[1::-1])
        try:
            _, found = detector.detect(colour)
        except cv2.error as error:
            raise WeightsError(
                f"{self.model} must be a YuNet, and cannot be run as one: {_reason(error)}"
            ) from None
        if found is None:
            return None
        best = max(found, key=lambda row: (row[2] * row[3], row[-1]))
        return best[:4].tolist(), sorted([tuple(best[4:6].tolist()), tuple(best[6:8].tolist())])


def cut(
    picture: UInt8[np.ndarray, "h w *c"], place: Place, margin: float
) -> UInt8[np.ndarray, "side side *c"]:
    """Return the square around a place with its margin, turned level; beyond the picture its border
    is repeated.
    """
    wide = 1 if place.kind == "missed" else 1 + 2 * margin
    side = max(1, round(place.side * wide))
    if place.turn:
        turn = cv2.getRotationMatrix2D((place.x - 0.5, place.y - 0.5), place.turn, 1)
        turn[:, 2] += (side - 1) / 2 - np.array([place.x - 0.5, place.y - 0.5])
        whole = np.ascontiguousarray(picture)
        return np.asarray(
            cv2.warpAffine(whole, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
        )
    across, down = (np.arange(side) + round(middle - side / 2) for middle in (place.x, place.y))
    h, w = picture.shape[:2]
    return np.ascontiguousarray(picture[np.ix_(down.clip(0, h - 1), across.clip(0, w - 1))])


def find_all(
    count: int,
    clips: Sequence[str],
    frames: Sequence[int],
    open_picture: Callable[[int], Picture | None],
    spec: CropSpec,
    model: Path | None = None,
    threads: int = 1,
) -> list[Place | None]:
    """Return the place of the face in each of `count` pictures, with the clip (empty for none) and
    frame of each.

    All pictures of a clip have one place: that of its first frame with a face, of the first five.
    `open_picture` gives a picture, or nothing where it cannot be read: its place is nothing, too,
    unless its clip has one.
    """
    groups: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(clip or f"\0{number}", []).append(number)
    members_of = [sorted(members, key=lambda number: frames[number]) for members in groups.values()]
    finder = Finder(spec, model)

    def work(members: list[int]) -> Place | None:
        last = None
        for number in members[:TRIED]:
            picture = open_picture(number)
            last = finder(picture) if picture is not None else last
            if last is not None and last.kind != "missed":
                break
        return last

    places: list[Place | None] = [None] * count
    with ThreadPoolExecutor(threads) as pool, track("finding faces", len(groups)) as bar:
        for done, (members, place) in enumerate(
            zip(members_of, pool.map(work, members_of), strict=True)
        ):
            for number in members:
                places[number] = place
            bar.update(done + 1)
    return places


def read(
    detector: str | None, model: Path | None, margin: float | None, align: bool, misses: str | None
) -> dict[str, Any] | None:
    """Return the fields of CropSpec that the command line gives, a file by its sha256; nothing
    without a detector.

    Raises UsageError if something is said about a crop that is not asked for, WeightsError if there
    is no such file.
    """
    given = {"margin": margin, "align": align or None, "misses": misses}
    said = {name: value for name, value in given.items() if value is not None}
    if detector is None:
        if said or model is not None:
            name = "crop-model" if model is not None else next(iter(said))
            raise UsageError(
                f"--{name} must stand with --crop haar or --crop yunet: nothing is cut out without "
                "it"
            )
        return None
    if model is None:
        return {"detector": detector, **said}
    if not model.is_file():
        raise WeightsError(
            f"--crop-model must be a file, and there is none at {model}; check the path"
        )
    with model.open("rb") as file:
        return {
            "detector": detector,
            "model": hashlib.file_digest(file, "sha256").hexdigest(),
            **said,
        }


def table(
    keys: Sequence[str], emotions: Sequence[str], places: Sequence[Place | None]
) -> pd.DataFrame:
    """Return key, emotion, kind, x, y, side and turn of each picture; of unreadable ones the kind
    is empty.
    """
    columns = ["key", "emotion", "kind", "x", "y", "side", "turn"]
    lines = [
        (
            key,
            emotion,
            *(
                (place.kind, place.x, place.y, place.side, place.turn)
                if place
                else ("", *[np.nan] * 4)
            ),
        )
        for key, emotion, place in zip(keys, emotions, places, strict=True)
    ]
    return pd.DataFrame(lines, columns=columns).round(2)


def counted(found: pd.DataFrame) -> dict[str, Any]:
    """Return how many pictures have a face, and of them no level eyes, how many of each class were
    missed, and sizes.

    `side` is the median of the faces' sides, in pixels; nothing where none was found.
    """
    side = found["side"][found["kind"].isin(["found", "no eyes"])].median()
    kinds = found["kind"].value_counts()
    missed = found[found["kind"] == "missed"]["emotion"].value_counts().sort_index()
    return {
        "found": int(kinds.get("found", 0) + kinds.get("no eyes", 0)),
        "without_eyes": int(kinds.get("no eyes", 0)),
        "missed": int(kinds.get("missed", 0)),
        "missed_by_class": {str(name): int(number) for name, number in missed.items()},
        "side": None if np.isnan(side) else round(float(side), 1),
    }


def tell(found: pd.DataFrame, size: int, margin: float) -> None:
    """Say what came of the search, and whether what is cut out is smaller than what becomes of
    it.
    """
    about = counted(found)
    missed = ", ".join(f"{name} {number:,}" for name, number in about["missed_by_class"].items())
    say(
        f"faces were found in {about['found']:,} of {many(len(found), 'picture')}"
        + (f"; missed: {missed}" if missed else "")
    )
    if about["without_eyes"]:
        say(
            f"in {about['without_eyes']:,} of them no two level eyes were found; they are not "
            "turned"
        )
    if about["side"] is not None and about["side"] * (1 + 2 * margin) < size:
        say(
            f"the median face is {about['side']:g} pixels wide: most are enlarged to {size}, which "
            "adds no detail"
        )


def require_found(found: pd.DataFrame) -> None:
    """Raise DataError if a face was missed."""
    keys = found["key"][found["kind"] == "missed"].tolist()
    if keys:
        some = ", ".join(keys[:3]) + (f" and {len(keys) - 3:,} more" if len(keys) > 3 else "")
        raise DataError(
            f"every picture must show a face, and in {len(keys):,} of {len(found):,} none was "
            f"found: {some}. What to do: leave them out with --misses skip, take their middle with "
            "--misses centre, or try --crop yunet"
        )


def report(
    found: pd.DataFrame,
    places: Sequence[Place | None],
    open_picture: Callable[[int], Picture | None],
    margin: float,
    out: Path,
) -> None:
    """Write crops.csv (what was found where), misses.csv (the keys of those without a face) and
    crops.png.
    """
    write_csv(found, out / "crops.csv")
    write_csv(found.loc[found["kind"] == "missed", ["key", "emotion"]], out / "misses.csv")
    sheet(found, places, open_picture, margin).save(out / "crops.png")


def sheet(
    found: pd.DataFrame,
    places: Sequence[Place | None],
    open_picture: Callable[[int], Picture | None],
    margin: float,
    columns: int = 10,
) -> Image.Image:
    """Return some pictures with what is cut out of each marked on it: two titled rows for each
    kind, misses first.
    """
    titles, parts = [], []
    for kind in ("missed", "no eyes", "found"):
        numbers = np.flatnonzero(found["kind"] == kind)
        chosen = numbers[rng("crops", kind, len(numbers)).permutation(len(numbers))[: 2 * columns]]
        pictures = [(open_picture(int(number)), places[number]) for number in chosen]
        thumbs = [
            _thumb(picture, place, margin)
            for picture, place in pictures
            if picture is not None and place
        ]
        for first in range(0, len(thumbs), columns):
            titles.append(f"{kind}   {len(numbers):,} in all" if not first else "")
            parts.append(np.stack(thumbs[first : first + columns]))
    return rows(titles, parts, columns, 1)


def _thumb(picture: Picture, place: Place, margin: float) -> UInt8[np.ndarray, "3 side side"]:
    whole = Image.fromarray(picture).convert("RGB")
    scale = THUMB / max(whole.size)
    small = whole.resize((max(1, round(whole.width * scale)), max(1, round(whole.height * scale))))
    paper = Image.new("RGB", (THUMB, THUMB), (255, 255, 255))
    paper.paste(small, (0, 0))
    half = place.side / 2 * (1 if place.kind == "missed" else 1 + 2 * margin)
    angle = np.deg2rad(place.turn)
    across, down = (
        half * np.array([np.cos(angle), np.sin(angle)]),
        half * np.array([-np.sin(angle), np.cos(angle)]),
    )
    middle = np.array([place.x, place.y])
    corners = [
        middle + i * across + j * down for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    ]
    colour = (214, 39, 40) if place.kind == "missed" else (0, 158, 115)
    ImageDraw.Draw(paper).line([tuple(corner * scale) for corner in corners], fill=colour, width=2)
    return np.moveaxis(np.asarray(paper), 2, 0)


# Detectors


def _cascade(name: str) -> Any:
    folder: Any = cv2.data  # pyright: ignore[reportAttributeAccessIssue]
    return cv2.CascadeClassifier(str(Path(folder.haarcascades) / f"haarcascade_{name}.xml"))


def _load_yunet(model: Path | None) -> Any:
    if model is None or not model.is_file():
        raise WeightsError(
            "the detector yunet needs its file, and there is no file "
            f"{model or '(none was given)'}; fetch face_detection_yunet_2023mar.onnx of OpenCV's "
            "model zoo, and name it with --crop-model"
        )
    try:
        return cv2.FaceDetectorYN.create(str(model), "", (320, 320), SURE, 0.3, 50)
    except cv2.error as error:
        raise WeightsError(
            f"{model} must be an ONNX file of YuNet, and is not: {_reason(error)}"
        ) from None


def _reason(error: cv2.error) -> str:
    return str(error).strip().splitlines()[0][-200:]


def _pair(middles: list[tuple[float, float]], centre: float, width: float) -> Any:
    """Return the two eyes, of either half of a face one: the pair that lies most level and apart
    enough.
    """
    pairs = [
        (one, other)
        for one in middles
        for other in middles
        if one[0] < centre < other[0] and other[0] - one[0] > 0.25 * width
    ]
    level = [pair for pair in pairs if (turn := _turn(pair)) is not None and abs(turn) <= TURN]
    return min(level, key=lambda pair: abs(_turn(pair) or 0.0)) if level else None


def _turn(eyes: Any) -> float | None:
    """Return how far the line between two eyes is turned, in degrees, nothing where there are none
    or too steep.
    """
    if eyes is None:
        return None
    (left, upper), (right, lower) = eyes
    angle = float(np.rad2deg(np.arctan2(lower - upper, right - left)))
    return angle if abs(angle) <= TURN else None
