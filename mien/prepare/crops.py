"""Crops: where the face is in a photograph; the margin is in specs.py.

OpenCV comes with the cascade of Viola and Jones (2001); YuNet (Wu et al. 2023) is more accurate and
needs a file of weights. All frames of a clip are cropped at one place, found in one of its first
frames: a box that moves from frame to frame would look like a moving face.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from mien.errors import DataError, UsageError, WeightsError
from mien.findings import list_some
from mien.pages.escape import write_csv
from mien.pages.sheets import draw_rows
from mien.pictures import FacePlace
from mien.prepare.specs import CropSpec
from mien.runs.progress import quantify, say, track
from mien.seeds import make_rng

Pixels = UInt8[np.ndarray, "h w *c"]

SEARCH_SIDE_PIXELS = 640  # pixels of the longer side that a detector works on

MIN_FACE_SHARE = 0.1  # of the shorter side: smaller faces are not searched for

MAX_EYE_ANGLE_DEGREES = 30.0  # degrees: a pair with a steeper line between it is not a pair of eyes

FRAMES_SEARCHED = 5  # the first frames of a clip, which are searched until one shows a face

YUNET_MIN_SCORE = 0.6  # the score of YuNet from which a detection counts as a face

THUMBNAIL_PIXELS = 96  # pixels per side of a picture on the sheet


class FaceFinder:
    """Finds the largest face of a picture; each thread has its own detector.

    Raises WeightsError if YuNet's file is missing or is not a YuNet.
    """

    def __init__(self, spec: CropSpec, model: Path | None = None) -> None:
        self.spec, self.model, self.per_thread = spec, model, threading.local()
        self._load_detectors()  # raises an error now, not in a thread

    def __call__(self, picture: UInt8[np.ndarray, "h w *c"]) -> FacePlace:
        """Return where the largest face is; without a face, the largest square at the centre."""
        h, w = picture.shape[:2]
        scale = min(1.0, SEARCH_SIDE_PIXELS / max(h, w))

        # Search a reduced picture, which is faster.
        small = (
            cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if scale < 1
            else picture
        )
        detection = (
            self._detect_with_yunet(small)
            if self.spec.detector == "yunet"
            else self._detect_with_haar(small)
        )
        if detection is None:
            return FacePlace("missed", w / 2, h / 2, float(min(h, w)))

        # Bring the box back to the full size, as a square.
        (left, top, width, height), eyes = detection
        square = (
            (left + width / 2) / scale,
            (top + height / 2) / scale,
            float(max(width, height) / scale),
        )
        turn = _measure_angle(eyes) if self.spec.align else 0.0
        return (
            FacePlace("found", *square, turn) if turn is not None else FacePlace("no eyes", *square)
        )

    def _load_detectors(self) -> Any:
        """Return the detectors of this thread, made at its first call."""
        if not hasattr(self.per_thread, "detectors"):
            yunet = self.spec.detector == "yunet"
            self.per_thread.detectors = (
                _load_yunet(self.model)
                if yunet
                else (_load_cascade("frontalface_default"), _load_cascade("eye"))
            )
        return self.per_thread.detectors

    def _detect_with_haar(self, picture: UInt8[np.ndarray, "h w *c"]) -> tuple[Any, Any] | None:
        """Return the box of the largest face, and the centres of its eyes where two were found."""
        faces, eyes = self._load_detectors()

        # Find the largest face.
        grey = cv2.equalizeHist(
            picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        )
        smallest = max(20, round(MIN_FACE_SHARE * min(grey.shape)))
        boxes = [
            tuple(map(int, box))
            for box in faces.detectMultiScale(grey, 1.1, 4, minSize=(smallest, smallest))
        ]
        if not boxes:
            return None
        left, top, width, height = max(boxes, key=lambda box: (box[2] * box[3], box))
        if not self.spec.align:
            return (left, top, width, height), None

        # Look for eyes in the upper part of its box.
        upper = np.ascontiguousarray(grey[top : top + round(0.6 * height), left : left + width])
        eye_boxes = [
            tuple(map(int, box))
            for box in eyes.detectMultiScale(upper, 1.05, 3, minSize=(width // 8,) * 2)
        ]
        centres = sorted((left + x + w / 2, top + y + h / 2) for x, y, w, h in eye_boxes)
        return (left, top, width, height), _choose_eyes(centres, left + width / 2, float(width))

    def _detect_with_yunet(self, picture: UInt8[np.ndarray, "h w *c"]) -> tuple[Any, Any] | None:
        """Return the box of the largest face and the centres of its eyes."""
        detector = self._load_detectors()
        colour = cv2.cvtColor(
            picture, cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
        )
        detector.setInputSize(colour.shape[1::-1])
        try:
            _, detections = detector.detect(colour)
        except cv2.error as error:
            raise WeightsError(
                f"{self.model} must be a YuNet, and does not run as one: {_shorten_error(error)}"
            ) from None
        if detections is None:
            return None
        largest = max(detections, key=lambda row: (row[2] * row[3], row[-1]))
        return largest[:4].tolist(), sorted(
            [tuple(largest[4:6].tolist()), tuple(largest[6:8].tolist())]
        )


@dataclass(frozen=True)
class FaceSearch:
    """Where the faces of some pictures are.

    `places` has the place of each, `table` the same as a table, and `in_result` whether each
    picture stays, which depends on what the spec says of misses.
    """

    places: list[FacePlace | None]
    table: pd.DataFrame
    in_result: Bool[np.ndarray, " n"]


def search_faces(
    labels: pd.DataFrame,
    open_picture: Callable[[int], Pixels | None],
    crop: CropSpec,
    *,
    size: int,
    model: Path | None = None,
    threads: int = 1,
    out: Path | None = None,
) -> FaceSearch:
    """Return where the face is in each picture, and report it on stderr and in files below `out`.

    `labels` has the key, emotion, clip and frame of each picture, `open_picture` returns one, or
    None where it cannot be read, and `size` is what the crops are brought to.

    Raises DataError if a face is missed and the spec makes that an error, or if no picture stays.
    """
    # Find the faces.
    clips, frames = list(labels["clip"]), list(labels["frame"])
    places = find_all(len(labels), clips, frames, open_picture, crop, model, threads)

    # Report where they are, before any picture is left out.
    table = tabulate_places(list(labels["key"]), list(labels["emotion"]), places)
    print_counts(table, size, crop.margin)
    if crop.misses == "fail":
        require_found(table)
    if out is not None:
        write_crop_report(table, places, open_picture, crop.margin, out)

    # Leave out the pictures without a face if the spec says so.
    in_result = np.array(
        [crop.misses != "skip" or kind != "missed" for kind in table["kind"]], dtype=bool
    )
    if not in_result.any():
        raise DataError(
            f"some image must show a face, and none of {len(table):,} does; they may be crops "
            "already"
        )
    return FaceSearch(places, table, in_result)


def find_all(
    count: int,
    clips: Sequence[str],
    frames: Sequence[int],
    open_picture: Callable[[int], Pixels | None],
    spec: CropSpec,
    model: Path | None = None,
    threads: int = 1,
) -> list[FacePlace | None]:
    """Return the place of the face in each of `count` pictures.

    `clips` and `frames` have the clip (empty without one) and frame number of each. All pictures
    of a clip have one place: that of its first frame with a face, among the first five.
    `open_picture` returns a picture, or None where it cannot be read; the place is then None,
    unless another frame of the clip has one.
    """
    # All pictures of a clip form a group, and a single photograph forms its own.
    groups: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(clip or f"\0{number}", []).append(number)
    members_of = [sorted(members, key=lambda number: frames[number]) for members in groups.values()]
    finder = FaceFinder(spec, model)

    # Search the groups in parallel.
    def find_one(members: list[int]) -> FacePlace | None:
        last = None
        for number in members[:FRAMES_SEARCHED]:
            picture = open_picture(number)
            last = finder(picture) if picture is not None else last
            if last is not None and last.kind != "missed":
                break
        return last

    places: list[FacePlace | None] = [None] * count
    with ThreadPoolExecutor(threads) as pool, track("finding faces", len(groups)) as bar:
        for done, (members, place) in enumerate(
            zip(members_of, pool.map(find_one, members_of), strict=True)
        ):
            for number in members:
                places[number] = place
            bar.update(done + 1)
    return places


def read_options(
    detector: str | None, model: Path | None, margin: float | None, align: bool, misses: str | None
) -> dict[str, Any] | None:
    """Return the fields of CropSpec that the command line sets, or None without a detector.

    The model's file becomes its sha256. Raises UsageError if an option of the crop is set without
    a detector, WeightsError if the file does not exist.
    """
    options = {"margin": margin, "align": align or None, "misses": misses}
    fields = {name: value for name, value in options.items() if value is not None}

    # Without a detector, no other option makes sense.
    if detector is None:
        if fields or model is not None:
            name = "crop-model" if model is not None else next(iter(fields))
            raise UsageError(
                f"--{name} needs --crop haar or --crop yunet: without them nothing is cropped"
            )
        return None

    # A file of weights is identified by its content.
    if model is None:
        return {"detector": detector, **fields}
    if not model.is_file():
        raise WeightsError(f"--crop-model must be a file, and {model} is not; check the path")
    with model.open("rb") as file:
        return {
            "detector": detector,
            "model": hashlib.file_digest(file, "sha256").hexdigest(),
            **fields,
        }


def tabulate_places(
    keys: Sequence[str], emotions: Sequence[str], places: Sequence[FacePlace | None]
) -> pd.DataFrame:
    """Return key, emotion, kind, x, y, side and turn of each picture.

    The kind of an unreadable picture is empty.
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


def count_faces(table: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of pictures with a face, without level eyes, and missed by class.

    `side` is the median side of the faces, in pixels; None where no face was found.
    """
    side = table["side"][table["kind"].isin(["found", "no eyes"])].median()
    kinds = table["kind"].value_counts()
    missed = table[table["kind"] == "missed"]["emotion"].value_counts().sort_index()
    return {
        "found": int(kinds.get("found", 0) + kinds.get("no eyes", 0)),
        "without_eyes": int(kinds.get("no eyes", 0)),
        "missed": int(kinds.get("missed", 0)),
        "missed_by_class": {str(name): int(number) for name, number in missed.items()},
        "side": None if np.isnan(side) else round(float(side), 1),
    }


def print_counts(table: pd.DataFrame, size: int, margin: float) -> None:
    """Print how many faces were found, and whether most crops must be enlarged to `size`."""
    summary = count_faces(table)
    missed = ", ".join(f"{name} {number:,}" for name, number in summary["missed_by_class"].items())
    say(
        f"faces were found in {summary['found']:,} of {quantify(len(table), 'picture')}"
        + (f"; missed: {missed}" if missed else "")
    )
    if summary["without_eyes"]:
        say(
            f"in {summary['without_eyes']:,} of them no two level eyes were found; they are not "
            "rotated"
        )
    if summary["side"] is not None and summary["side"] * (1 + 2 * margin) < size:
        say(
            f"the median face is {summary['side']:g} pixels wide: most are enlarged to {size}, "
            "which adds no detail"
        )


def require_found(table: pd.DataFrame) -> None:
    """Raise DataError if a face was missed."""
    keys = table["key"][table["kind"] == "missed"].tolist()
    if keys:
        raise DataError(
            f"every picture must show a face, and in {len(keys):,} of {len(table):,} none was "
            f"found: {list_some(keys, 3)}. Leave these pictures out with --misses skip, crop their "
            "centre with --misses centre, or try --crop yunet"
        )


def write_crop_report(
    table: pd.DataFrame,
    places: Sequence[FacePlace | None],
    open_picture: Callable[[int], Pixels | None],
    margin: float,
    out: Path,
) -> None:
    """Write crops.csv (all places), misses.csv (pictures without a face) and crops.png."""
    write_csv(table, out / "crops.csv")
    write_csv(table.loc[table["kind"] == "missed", ["key", "emotion"]], out / "misses.csv")
    draw_sheet(table, places, open_picture, margin).save(out / "crops.png")


def draw_sheet(
    table: pd.DataFrame,
    places: Sequence[FacePlace | None],
    open_picture: Callable[[int], Pixels | None],
    margin: float,
    columns: int = 10,
) -> Image.Image:
    """Return example pictures with the crop drawn on each: two rows for each kind, misses first."""
    titles, thumb_rows = [], []
    for kind in ("missed", "no eyes", "found"):
        numbers = np.flatnonzero(table["kind"] == kind)
        chosen = numbers[
            make_rng("crops", kind, len(numbers)).permutation(len(numbers))[: 2 * columns]
        ]
        pictures = [(open_picture(int(number)), places[number]) for number in chosen]
        thumbs = [
            _draw_thumbnail(picture, place, margin)
            for picture, place in pictures
            if picture is not None and place
        ]
        for first in range(0, len(thumbs), columns):
            titles.append(f"{kind}   {len(numbers):,} in all" if not first else "")
            thumb_rows.append(np.stack(thumbs[first : first + columns]))
    return draw_rows(titles, thumb_rows, columns, 1)


def _draw_thumbnail(
    picture: Pixels, place: FacePlace, margin: float
) -> UInt8[np.ndarray, "3 side side"]:
    """Return a reduced picture with the crop drawn on it, red for a miss and green for a face."""
    image = Image.fromarray(picture).convert("RGB")
    scale = THUMBNAIL_PIXELS / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    canvas = Image.new("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), (255, 255, 255))
    canvas.paste(small, (0, 0))

    # Draw the crop's square, rotated as the crop is.
    half = place.side / 2 * (1 if place.kind == "missed" else 1 + 2 * margin)
    angle = np.deg2rad(place.turn)
    across, down = (
        half * np.array([np.cos(angle), np.sin(angle)]),
        half * np.array([-np.sin(angle), np.cos(angle)]),
    )
    centre = np.array([place.x, place.y])
    corners = [
        centre + i * across + j * down for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    ]
    colour = (214, 39, 40) if place.kind == "missed" else (0, 158, 115)
    ImageDraw.Draw(canvas).line([tuple(corner * scale) for corner in corners], fill=colour, width=2)
    return np.moveaxis(np.asarray(canvas), 2, 0)


# Detectors


def _load_cascade(name: str) -> Any:
    folder: Any = cv2.data  # pyright: ignore[reportAttributeAccessIssue]
    return cv2.CascadeClassifier(str(Path(folder.haarcascades) / f"haarcascade_{name}.xml"))


def _load_yunet(model: Path | None) -> Any:
    if model is None or not model.is_file():
        raise WeightsError(
            "the detector yunet needs its file, and there is no file "
            f"{model or '(none was given)'}; download face_detection_yunet_2023mar.onnx from "
            "OpenCV's model zoo, and name it with --crop-model"
        )
    try:
        return cv2.FaceDetectorYN.create(str(model), "", (320, 320), YUNET_MIN_SCORE, 0.3, 50)
    except cv2.error as error:
        raise WeightsError(
            f"{model} must be an ONNX file of YuNet, and is not: {_shorten_error(error)}"
        ) from None


def _shorten_error(error: cv2.error) -> str:
    return str(error).strip().splitlines()[0][-200:]


def _choose_eyes(centres: list[tuple[float, float]], middle: float, width: float) -> Any:
    """Return the most level pair of eyes, one in each half of the face; None without a pair."""
    pairs = [
        (left, right)
        for left in centres
        for right in centres
        if left[0] < middle < right[0] and right[0] - left[0] > 0.25 * width
    ]
    level_pairs = [
        pair
        for pair in pairs
        if (turn := _measure_angle(pair)) is not None and abs(turn) <= MAX_EYE_ANGLE_DEGREES
    ]
    return (
        min(level_pairs, key=lambda pair: abs(_measure_angle(pair) or 0.0)) if level_pairs else None
    )


def _measure_angle(eyes: Any) -> float | None:
    """Return the angle of the line between two eyes in degrees; None without eyes or above TURN."""
    if eyes is None:
        return None
    (left, upper), (right, lower) = eyes
    angle = float(np.rad2deg(np.arctan2(lower - upper, right - left)))
    return angle if abs(angle) <= MAX_EYE_ANGLE_DEGREES else None
