"""Drift: how a head moves, turns and comes nearer in a clip of a face.

The pose of a head is measured at the border of the picture above and on both sides, where
expressions move little. Over time each of its four numbers is taken for a smooth Gaussian process
whose values at a distance of t seconds have the correlation exp(-t² / 2 T²). What is kept is T and
the standard deviation of each number over all training clips, and no path of any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import nnls

from mien import seeds
from mien.errors import DataError
from mien.generators.clips.pairs import TrainingClip

POSE = ("right", "down", "turn", "growth")
"""The numbers of a pose, in pixels: how far the head has moved to the right and down, and how far
turning (clockwise) and growing have moved a point at the middle of a side.
"""

VERSION = 1  # of what is written to a file

BORDER_SHARE = 1 / 6  # of the width on either side, and of the height: there heads are measured

BLUR_SHARE = 1 / 40  # of the width, as standard deviation: less noise, and smooth gradients

LEAST_PX = 0.02  # smaller deviations, and movements in the longest clip, may be noise

MIN_SIDE = 24  # pixels: in smaller pictures, expressions reach the border

MIN_LAGS = 4  # distances in time that the fit needs

TRIED_S = np.geomspace(0.03, 3.0, 25)  # the correlation times that are tried

WAVES = 24  # of which a path is the sum


@dataclass(frozen=True)
class HeadDrift:
    """The drift of heads: the standard deviation of each number of POSE, and the time T.

    Deviations are in pixels, and `seconds` is T. Two moments that are much further apart differ by
    the square root of two times the deviation.
    """

    deviations: tuple[float, float, float, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they are written to a file."""
        return {"version": VERSION, "pose": list(POSE), **asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "HeadDrift":
        """Return what `to_json` wrote; raises DataError if a later mien wrote it."""
        if fields["version"] != VERSION:
            raise DataError(
                f"this mien reads the drift of heads in version {VERSION}, and the generator has "
                f"version {fields['version']}; update mien"
            )
        right, down, turn, growth = fields["deviations"]
        return cls((right, down, turn, growth), fields["seconds"])


# Measuring


def measure_poses(
    frames: UInt8[np.ndarray, "t h w"], onset: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "t 4"]:
    """Return the pose of the head in each frame, compared with the onset, as in POSE.

    It is one step of the method of Lucas and Kanade (1981) over the pixels of the border: the
    change of a pixel is its gradient times the movement there. A change of the light that is the
    same everywhere is taken off. Movements of up to about 2 % of the width are measured well.
    """
    # How each number of the pose changes the pixels of the border
    smooth = _blur(onset)
    by_down, by_right = np.gradient(smooth)
    flows = _make_flows(*onset.shape)
    changes = -(flows[:, 0] * by_right + flows[:, 1] * by_down)
    border = _find_border(*onset.shape)
    table = np.column_stack([*changes[:, border], np.ones(int(border.sum()))])

    # The pose of each frame, by least squares
    differences = np.stack([(_blur(frame) - smooth)[border] for frame in frames])
    return (np.linalg.pinv(table) @ differences.T)[: len(POSE)].T


def fit_drift(
    clips: Sequence[TrainingClip], onsets: Float[np.ndarray, "n h w"], fps: float
) -> HeadDrift | None:
    """Return the drift of the heads of clips, at `fps` frames a second; None if there is none.

    The mean square of the difference of two poses of a clip depends on their distance in time; it
    is fitted by the least squares over distances, with a share that does not depend on it, which
    is the error of the measurement. There is no drift to be found in clips of few frames, or in
    pictures with fewer than MIN_SIDE pixels per side.
    """
    if min(onsets.shape[1:]) < MIN_SIDE:
        return None

    # Each clip's poses, by frame number
    paths = []
    for clip, onset in zip(clips, onsets, strict=True):
        places = clip.numbers - clip.numbers[0]
        path = np.full((int(places[-1]) + 1, len(POSE)), np.nan)
        path[places] = measure_poses(clip.frames, onset)
        paths.append(path)

    # The mean square difference at each distance
    lags, squares, weights = [], [], []
    longest = max(len(path) for path in paths)
    for lag in np.unique(np.geomspace(1, max(longest - 1, 1), 20).round().astype(int)).tolist():
        steps = [path[lag:] - path[:-lag] for path in paths if len(path) > lag]
        known = np.concatenate([step[~np.isnan(step).any(axis=1)] for step in steps] or [[]])
        if len(known):
            lags.append(lag / fps)
            squares.append((known**2).mean(axis=0))
            weights.append(len(known))
    if len(lags) < MIN_LAGS:
        return None
    return _fit_process(np.array(lags), np.array(squares), np.sqrt(weights))


def _fit_process(
    lags: Float[np.ndarray, " k"], squares: Float[np.ndarray, "k 4"], weights: np.ndarray
) -> HeadDrift | None:
    """Return the process with these mean square differences; None if it hardly moves."""
    # For each time T: deviations and errors of measurement, which cannot be negative
    best, found = np.inf, None
    scales = np.maximum(squares.mean(axis=0), 1e-12)
    for seconds in TRIED_S.tolist():
        growing = 2 * (1 - np.exp(-(lags**2) / (2 * seconds**2)))
        table = np.column_stack([growing, np.full(len(lags), 2.0)]) * weights[:, None]
        fits = [nnls(table, weights * squares[:, part]) for part in range(len(POSE))]
        error = sum((fit[1] / scale) ** 2 for fit, scale in zip(fits, scales, strict=True))
        if error < best:
            best, found = error, (seconds, [float(np.sqrt(fit[0][0])) for fit in fits])
    assert found is not None

    # What hardly moves keeps still
    moved = float(np.sqrt(2 * (1 - np.exp(-(lags[-1] ** 2) / (2 * found[0] ** 2)))))
    share = min(1.0, moved)
    right, down, turn, growth = (v if v * share >= LEAST_PX else 0.0 for v in found[1])
    if not any((right, down, turn, growth)):
        return None
    return HeadDrift((right, down, turn, growth), found[0])


def _blur(image: np.ndarray) -> Float[np.ndarray, "h w"]:
    """Return a picture in which the gradient of a pixel says how it changes with movement."""
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(1.0, BLUR_SHARE * image.shape[1]))


def _find_border(h: int, w: int) -> Bool[np.ndarray, "h w"]:
    """Return which pixels belong to the border above and on both sides.

    Below is the jaw, which expressions move. The outermost pixels are left out, as blur distorts
    them.
    """
    border = np.ones((h, w), dtype=bool)
    down, right = max(2, round(BORDER_SHARE * h)), max(2, round(BORDER_SHARE * w))
    border[down:, right : w - right] = False
    border[[0, -1]] = border[:, [0, -1]] = False
    return border


def _make_flows(h: int, w: int) -> Float[np.ndarray, "4 2 h w"]:
    """Return how each point moves, to the right and down, for 1 pixel of each number of POSE."""
    y, x = np.mgrid[:h, :w] - np.array([(h - 1) / 2, (w - 1) / 2])[:, None, None]
    y, x = 2 * y / max(h, w), 2 * x / max(h, w)
    one, none = np.ones((h, w)), np.zeros((h, w))
    return np.stack([[one, none], [none, one], [-y, x], [x, y]])


# Drawing


def draw_drift(
    drift: HeadDrift | None, seed: int, frames: int, fps: float
) -> Float[np.ndarray, "t 4"]:
    """Return the pose of the head in each frame of a clip, as in POSE; that of the first one is 0.

    The path of a head is a function of time, so the frame rate does not change it. It is a sum of
    waves of random frequencies (Rahimi and Recht 2007, "Random features for large-scale kernel
    machines"), and depends on the seed of the clip alone.
    """
    if drift is None:
        return np.zeros((frames, len(POSE)))
    rng = seeds.make_rng("drift", seed)
    speeds = rng.normal(0, 1 / drift.seconds, (WAVES, len(POSE)))
    phases = rng.uniform(0, 2 * np.pi, (WAVES, len(POSE)))
    time = np.arange(frames)[:, None, None] / fps
    path = np.sqrt(2 / WAVES) * np.cos(speeds * time + phases).sum(axis=1)
    return (path - path[0]) * np.array(drift.deviations)


def move_head(
    image: Float[np.ndarray, "h w"], pose: Float[np.ndarray, " 4"]
) -> Float[np.ndarray, "h w"]:
    """Return the picture of a head in a pose, compared with `image`; of no change, the image."""
    if not pose.any():
        return image
    h, w = image.shape
    right, down, turn, growth = pose.tolist()
    turn, growth = 2 * turn / max(h, w), 2 * growth / max(h, w)
    forwards = np.array([[1 + growth, -turn], [turn, 1 + growth]])
    middle = np.array([(w - 1) / 2, (h - 1) / 2])
    shift = middle + np.array([right, down]) - forwards @ middle
    return cv2.warpAffine(
        image.astype(np.float32),
        np.column_stack([forwards, shift]),
        (w, h),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
