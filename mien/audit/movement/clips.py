"""Clips in numbers: flow by region of the face, course, noise and drift."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mien.faces import Faces
from mien.prepare.movement import (
    Clip,
    find_still_pixels,
    iterate_clips,
    measure_course,
    measure_flow,
    measure_noise,
    smooth_course,
)

REGIONS: dict[str, tuple[float, float, float, float]] = {
    "left brow": (0.26, 0.42, 0.15, 0.48),
    "right brow": (0.26, 0.42, 0.52, 0.85),
    "eyes": (0.40, 0.52, 0.15, 0.85),
    "nose": (0.48, 0.68, 0.36, 0.64),
    "left mouth corner": (0.64, 0.84, 0.22, 0.47),
    "right mouth corner": (0.64, 0.84, 0.53, 0.78),
    "chin": (0.80, 0.98, 0.32, 0.68),
}
"""The boxes of an aligned face, as shares of its size: top, bottom, left and right of the image."""

DIRECTIONS = ("right", "left", "down", "up")

REGION_COLUMNS = tuple(f"{region}, {way}" for region in REGIONS for way in DIRECTIONS)
"""The columns of `Movements.regions`: how far a region moves each way, in per cent of the width."""

COURSE_COLUMNS = ("apex position", "rise", "decay", "remainder", "roughness")
"""The columns of `Movements.courses`: where the apex is, from 0 (onset) to 1 (offset); the share of
the clip in which the movement goes from a fifth to four fifths before the apex, and back after it;
what is left of it at the offset; and the share of its changes that go the other way.
"""

STILL_COLUMNS = ("noise", "equal pixels")
"""The columns of `Movements.stillness`: the logarithm of the noise of pixels that do not move, in
grey levels, and the share of them that equal those of the frame before.
"""

WORK_PIXELS = 64  # larger faces are made smaller before movements are compared

SLOPE_LEVELS = (0.2, 0.8)  # of the movement, between which rise and decay are measured

DRIFT_FRAMES = 3  # at the beginning and the end of a clip, whose means are compared

DRIFT_BLUR = 1.5  # pixels, as standard deviation: noise is removed, and drift remains

LEAST_NOISE = 0.05  # grey levels, below which noise is not told from none


@dataclass(frozen=True)
class Movements:
    """The n clips of a set in numbers.

    `people` are subjects, and `rows` are those of the apexes in the index of the set. `courses` and
    `stillness` are nan for clips whose frames do not follow each other in time. `drifts` are in
    grey levels. `onsets` and `apexes` are means of frames, of at most WORK_PIXELS per side.
    """

    names: np.ndarray
    people: np.ndarray
    emotions: np.ndarray
    action_units: tuple[str, ...]
    rows: Int[np.ndarray, " n"]
    regions: Float[np.ndarray, "n features"]
    courses: Float[np.ndarray, "n 5"]
    stillness: Float[np.ndarray, "n 2"]
    drifts: Float[np.ndarray, " n"]
    onsets: Float[np.ndarray, "n h w"]
    apexes: Float[np.ndarray, "n h w"]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_timed(self) -> Bool[np.ndarray, " n"]:
        """Whether the frames of each clip follow each other in time."""
        return np.asarray(np.isfinite(self.courses).all(axis=1))

    def count_people(self, which: Bool[np.ndarray, " n"] | None = None) -> int:
        """Return the number of people, or of those of some clips."""
        return len(set(self.people if which is None else self.people[which]))


def measure_clips(faces: Faces) -> Movements:
    """Return the clips of a set in numbers, one clip in memory at a time."""
    # The numbers and the pictures of each clip
    facts, numbers, pictures = list[Clip](), list[tuple[np.ndarray, ...]](), list[np.ndarray]()
    for clip in iterate_clips(faces):
        numbers.append(
            (
                describe_regions(measure_flow(clip)),
                _describe_course(clip),
                _describe_stillness(clip),
                np.array(_measure_drift(clip)),
            )
        )
        pictures.append(np.stack([_shrink(clip.onset_mean), _shrink(clip.apex_mean)]))
        facts.append(clip)

    # One array of each kind, also of no clips
    h, w = pictures[0].shape[1:] if pictures else faces.size[1:]
    widths = (len(REGION_COLUMNS), len(COURSE_COLUMNS), len(STILL_COLUMNS))
    regions, courses, stillness = (
        np.array([row[place] for row in numbers], dtype=np.float64).reshape(-1, width)
        for place, width in enumerate(widths)
    )
    shown = np.array(pictures, dtype=np.float32).reshape(-1, 2, h, w)
    return Movements(
        names=np.array([clip.name for clip in facts], dtype=object),
        people=np.array([clip.subject for clip in facts], dtype=object),
        emotions=np.array([clip.emotion for clip in facts], dtype=object),
        action_units=tuple(clip.action_units for clip in facts),
        rows=np.array([clip.row for clip in facts], dtype=np.int64),
        regions=regions,
        courses=courses,
        stillness=stillness,
        drifts=np.array([row[3] for row in numbers], dtype=np.float64),
        onsets=shown[:, 0],
        apexes=shown[:, 1],
    )


def count_whole_clips(faces: Faces) -> int:
    """Return the number of clips in the index with both an onset and an apex."""
    index = faces.index[faces.index["clip"] != ""]
    with_onset, with_apex = (
        set(index["clip"][index["phase"] == phase]) for phase in ("onset", "apex")
    )
    return len(with_onset & with_apex)


def describe_regions(flow: Float[np.ndarray, "2 h w"]) -> Float[np.ndarray, " features"]:
    """Return how far each region moves to the right, left, down and up, in per cent of the width.

    Each is the mean over the region of what its points move that way, so that two directions in one
    region do not cancel.
    """
    h, w = flow.shape[1:]
    values = []
    for top, bottom, left, right in REGIONS.values():
        box = flow[:, round(top * h) : round(bottom * h), round(left * w) : round(right * w)]
        values += [np.maximum(sign * way, 0).mean() for way in box for sign in (1, -1)]
    return 100 * np.array(values) / w


def _describe_course(clip: Clip) -> Float[np.ndarray, " 5"]:
    """Return the numbers of COURSE_COLUMNS; nan for moments that were chosen for each clip."""
    if not clip.is_timed:
        return np.full(len(COURSE_COLUMNS), np.nan)
    course = smooth_course(measure_course(clip)).clip(-0.5, 1.5)
    last = len(course) - 1
    before, after = course[: clip.apex + 1], course[clip.apex :]
    middle = [(part > SLOPE_LEVELS[0]) & (part < SLOPE_LEVELS[1]) for part in (before, after)]
    steps = np.concatenate([np.diff(before), -np.diff(after)])
    wrong = np.maximum(-steps, 0).sum() / max(np.abs(steps).sum(), 1e-9)
    return np.array(
        [clip.apex / last, middle[0].sum() / last, middle[1].sum() / last, course[-1], wrong]
    )


def _describe_stillness(clip: Clip) -> Float[np.ndarray, " 2"]:
    """Return the numbers of STILL_COLUMNS; nan for moments that were chosen for each clip."""
    if not clip.is_timed:
        return np.full(len(STILL_COLUMNS), np.nan)
    still = clip.frames[:, find_still_pixels(clip)]
    equal = float((still[1:] == still[:-1]).mean())
    return np.array([np.log(max(measure_noise(clip), LEAST_NOISE)), equal])


def _measure_drift(clip: Clip) -> float:
    """Return how much a face changes from the beginning to the end of a clip where it is still.

    It is the root mean square, in grey levels, of the difference of both, without noise.
    """
    count = min(DRIFT_FRAMES, len(clip.frames) // 3) or 1
    first, last = (
        frames.mean(axis=0, dtype=np.float32)
        for frames in (clip.frames[:count], clip.frames[-count:])
    )
    blurred = cv2.GaussianBlur(last - first, (0, 0), DRIFT_BLUR)
    return float(np.sqrt((blurred[find_still_pixels(clip)] ** 2).mean()))


def _shrink(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "y x"]:
    """Return a picture with at most WORK_PIXELS per side."""
    h, w = image.shape
    scale = min(1.0, WORK_PIXELS / max(h, w))
    if scale == 1.0:
        return image
    return cv2.resize(image, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)


def to_bytes(image: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return a picture of grey levels as bytes."""
    return image.round().clip(0, 255).astype(np.uint8)
