"""Drift: how a head moves, turns and comes nearer in a clip of a face.

The pose of a head has four numbers (see prepare/poses.py). Over time each is taken for a smooth
Gaussian process whose values at a distance of t seconds have the correlation exp(-t² / 2 T²). What
is kept is T and the standard deviation of each number over all training clips, and no path of any
of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from mien import seeds
from mien.errors import DataError
from mien.generators.clips.pairs import TrainingClip
from mien.prepare.poses import POSE, measure_poses

DRIFT_VERSION = 1  # of what is written to a file

LEAST_PX = 0.02  # smaller deviations, and movements in the longest clip, may be noise

MIN_DRIFT_SIDE = 24  # pixels: in smaller pictures, expressions reach the border

MIN_LAGS = 4  # distances in time that the fit needs

TRIED_S = np.geomspace(0.03, 3.0, 25)  # the correlation times that are tried

WAVES = 24  # of which a path is the sum


@dataclass(frozen=True)
class HeadDrift:
    """The drift of heads: the standard deviation of each number of POSE, and the time T.

    Deviations are in pixels, and `seconds` is T. The difference of two moments that are much
    further apart has a standard deviation of √2 times these.
    """

    deviations: tuple[float, float, float, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they are written to a file."""
        return {"version": DRIFT_VERSION, "pose": list(POSE), **asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "HeadDrift":
        """Return what `to_json` wrote; raises DataError if a later mien wrote it."""
        if fields["version"] != DRIFT_VERSION:
            raise DataError(
                f"this mien reads the drift of heads in version {DRIFT_VERSION}, and the generator "
                f"has version {fields['version']}; update mien"
            )
        right, down, turn, growth = fields["deviations"]
        return cls((right, down, turn, growth), fields["seconds"])


# Fitting


def fit_drift(
    clips: Sequence[TrainingClip], onsets: Float[np.ndarray, "n h w"], fps: float
) -> HeadDrift | None:
    """Return the drift of the heads of clips, at `fps` frames a second; None if there is none.

    The mean square of the difference of two poses of a clip depends on their distance in time; it
    is fitted by the least squares over distances, with a share that does not depend on it, which
    is the error of the measurement. There is no drift to be found in clips of few frames, or in
    pictures with fewer than MIN_DRIFT_SIDE pixels per side.
    """
    # Each clip's poses, by frame number, where a border is to be seen
    if min(onsets.shape[1:]) < MIN_DRIFT_SIDE:
        return None
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
