"""Timing: the courses of movements, the drift of heads, and sensor noise.

The course of a clip is how far each frame has moved from onset (0) to apex (1). Rise and decay each
follow the distribution function of Kumaraswamy (1980, "A generalized probability density function
for double-bounded random processes"), which has the shapes of a Beta distribution and a closed
form: K(u) = 1 - (1 - u^p)^q. What is kept is a normal distribution of the parameters over all
training clips, within their limits, and no course of any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mien import seeds
from mien.generators.base import Generator
from mien.generators.clips.drift import HeadDrift, fit_drift
from mien.generators.clips.pairs import Pairs, TrainingClip
from mien.prepare.movement import compute_course

PARAMETERS = ("rise", "decay", "rise_p", "rise_q", "decay_p", "decay_q", "rest")
"""The parameters of a course: the natural logarithms of rise and decay in seconds and of the two
shapes of each, and the share of the movement that is left at the offset.
"""

# What stands for the shapes of a set whose clips have too few frames to show them: a smooth rise
# and a smooth decay to nothing (the nearest of the shapes to 3 u^2 - 2 u^3)
PLAIN_SHAPES = (0.6, 0.9, 0.6, 0.9, 0.0)

SHAPES = np.geomspace(0.5, 8, 17)  # the p and q that are tried

MIN_FRAMES = 3  # between onset and apex, or apex and offset, for a shape

SHORTEST_S = 0.01  # of a rise and of a decay


@dataclass(frozen=True)
class MotionTiming:
    """The courses of training clips, their sensor noise, and the drift of their heads.

    `mean` and `covariance` are those of PARAMETERS over `clips` clips; `low` and `high` are the
    smallest and largest value of each. `noise` is the standard deviation of the noise of a pixel
    from frame to frame, in grey levels; it is 0 where the clips have too few frames to show it.
    `drift` is None where heads keep still, or the clips have too few frames to show it.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    noise: float
    clips: int
    drift: HeadDrift | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they are written to a file."""
        drift = self.drift.to_json() if self.drift else None
        return {"parameters": list(PARAMETERS), **asdict(self), "drift": drift}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "MotionTiming":
        """Return what `to_json` wrote; files from before heads drifted have no drift."""
        rows = {name: tuple(fields[name]) for name in ("mean", "low", "high")}
        covariance = tuple(tuple(row) for row in fields["covariance"])
        return cls(
            **rows,
            covariance=covariance,
            noise=fields["noise"],
            clips=fields["clips"],
            drift=HeadDrift.from_json(fields["drift"]) if fields.get("drift") else None,
        )


@dataclass(frozen=True)
class MovingGenerator(Generator):
    """A generator whose images are the moments of a clip, which become frames by its timing."""

    timing: MotionTiming


@dataclass(frozen=True)
class Course:
    """The course of one clip: `positions` has the share of the movement in each frame, 0 to 1.

    Frames are numbered from 0, which is the onset; `apex` is the number of the apex, and the last
    frame is the offset.
    """

    positions: Float[np.ndarray, " t"]
    apex: int

    @property
    def phases(self) -> list[str]:
        """The phase of each frame, as in mien.faces.PHASES."""
        last = len(self.positions) - 1
        named = {0: "onset", last: "offset", self.apex: "apex"}
        return [
            named.get(frame, "rise" if frame < self.apex else "fall") for frame in range(last + 1)
        ]


def draw_course(timing: MotionTiming, seed: int, fps: float) -> Course:
    """Return the course of a clip at `fps` frames a second; it depends on these alone."""
    rng = seeds.make_rng("course", seed)
    drawn = rng.multivariate_normal(timing.mean, np.array(timing.covariance), method="eigh")
    values = dict(zip(PARAMETERS, drawn.clip(timing.low, timing.high), strict=True))
    shapes = {name: float(np.exp(values[name])) for name in PARAMETERS[2:6]}

    # One frame or more for each part
    rise, decay = (max(1, round(float(np.exp(values[name])) * fps)) for name in PARAMETERS[:2])
    up = _rise(np.arange(rise + 1) / rise, shapes["rise_p"], shapes["rise_q"])
    down = _rise(np.arange(1, decay + 1) / decay, shapes["decay_p"], shapes["decay_q"])
    return Course(np.concatenate([up, 1 - (1 - values["rest"]) * down]), rise)


def fit_timing(clips: Sequence[TrainingClip], pairs: Pairs, fps: float) -> MotionTiming:
    """Return the timing of the clips, whose pairs have the same order, at `fps` frames a second."""
    rows, noises = [], []
    for clip, onset, apex in zip(clips, pairs.onsets, pairs.apexes, strict=True):
        rise = max((clip.apex - clip.onset) / fps, SHORTEST_S)
        decay = max((clip.offset - clip.apex) / fps, SHORTEST_S)
        shapes = _fit_shapes(clip, compute_course(clip.frames, onset, apex))
        rows.append([np.log(rise), np.log(decay), *shapes])
        if (variance := _measure_noise(clip)) is not None:
            noises.append(variance)

    # A clip without a shape has that of the others
    table = np.array(rows)
    for column, plain in enumerate(PLAIN_SHAPES, start=2):
        unknown = np.isnan(table[:, column])
        known = table[~unknown, column]
        table[unknown, column] = known.mean() if len(known) else plain
    return MotionTiming(
        tuple(table.mean(axis=0).tolist()),
        tuple(tuple(row) for row in np.cov(table.T, bias=True).tolist()),
        tuple(table.min(axis=0).tolist()),
        tuple(table.max(axis=0).tolist()),
        float(np.sqrt(np.median(noises))) if noises else 0.0,
        len(rows),
        fit_drift(clips, pairs.onsets, fps),
    )


def _rise(u: Float[np.ndarray, " t"], p: float, q: float) -> Float[np.ndarray, " t"]:
    """Return K(u), which goes from 0 at 0 to 1 at 1."""
    return 1 - (1 - u**p) ** q


def _fit_shapes(clip: TrainingClip, course: Float[np.ndarray, " t"]) -> list[float]:
    """Return the shapes of rise and decay and what is left at the offset; NaN where unknown."""
    before = (clip.numbers >= clip.onset) & (clip.numbers <= clip.apex)
    after = clip.numbers >= clip.apex
    shapes = [np.nan] * 4
    rest = np.nan
    if before.sum() >= MIN_FRAMES + 2:
        u = (clip.numbers[before] - clip.onset) / (clip.apex - clip.onset)
        shapes[:2] = _fit_rise(u, course[before])
    if after.sum() >= MIN_FRAMES + 2:
        v = (clip.numbers[after] - clip.apex) / (clip.offset - clip.apex)
        rest = float(course[after][-MIN_FRAMES:].mean().clip(0, 0.9))
        shapes[2:] = _fit_rise(v, (1 - course[after]) / (1 - rest))
    return [*shapes, rest]


def _fit_rise(u: Float[np.ndarray, " t"], course: Float[np.ndarray, " t"]) -> list[float]:
    """Return ln p and ln q of the K that is closest to a course, by least squares over SHAPES."""
    p, q = np.meshgrid(SHAPES, SHAPES, indexing="ij")
    curves = 1 - (1 - u[:, None, None] ** p) ** q
    errors = ((curves - course[:, None, None]) ** 2).sum(axis=0)
    best = np.unravel_index(errors.argmin(), errors.shape)
    return [float(np.log(p[best])), float(np.log(q[best]))]


def _measure_noise(clip: TrainingClip) -> float | None:
    """Return the variance of a pixel from frame to frame, in grey levels; None if unknown.

    It is the mean square of the second difference in time, divided by 6, in the pixel that is the
    median of all: movement is smooth in time and leaves few pixels much of it.
    """
    consecutive = np.flatnonzero(
        (np.diff(clip.numbers, n=2) == 0) & (np.diff(clip.numbers)[1:] == 1)
    )
    if len(consecutive) < MIN_FRAMES:
        return None
    frames = clip.frames.astype(np.float32)
    second = frames[consecutive] - 2 * frames[consecutive + 1] + frames[consecutive + 2]
    return float(np.median((second**2).mean(axis=0)) / 6)
