"""Rendering: moments of a clip become frames, by warping along optical flow.

A frame between two moments is the earlier one, warped along a share of the flow to the later one,
plus the same share of what the flow does not explain, such as a furrow that appears. At the later
moment this is the later moment itself. Fading from one to the other would show both at once.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from mien import seeds
from mien.generators.clips.timing import Course
from mien.prepare.flow import compute_flow, warp_image
from mien.prepare.poses import move_head


def place_in_moments(course: Course, moments: int) -> Float[np.ndarray, " t"]:
    """Return where each frame lies among the moments of a clip, from 0 to `moments` - 1.

    Two moments are onset and apex, between which a frame lies as its course says. More of them are
    equally spaced from onset to apex and from apex to offset, as in `choose_moments`, and show the
    course themselves.
    """
    if moments == 2:
        return course.positions
    frames = len(course.positions)
    ends = [0, course.apex, frames - 1]
    return np.interp(np.arange(frames), ends, [0, moments // 2, moments - 1])


def render_frames(
    moments: UInt8[np.ndarray, "k h w"],
    places: Float[np.ndarray, " t"],
    noise: float,
    seed: int,
    poses: Float[np.ndarray, "t 4"] | None = None,
) -> UInt8[np.ndarray, "t h w"]:
    """Return the frames at `places` among the moments, with independent sensor noise in each.

    `noise` is the standard deviation of the noise in grey levels, before the frame is rounded to
    bytes. `poses` are those of the head in each frame, as in prepare/poses.py; without them it
    keeps still. A frame depends on its clip and on its number, but not on the other frames.
    """
    # From each moment to the next: the flow, and what it leaves
    steps = []
    for first, later in pairwise(moments):
        flow = compute_flow(later, first)  # where in `first` the points of `later` were
        steps.append((flow, later - warp_image(first.astype(np.float32), flow)))

    # Each frame on the way
    frames = np.empty((len(places), *moments.shape[1:]), dtype=np.uint8)
    for number, place in enumerate(places.tolist()):
        before = min(int(place), len(steps) - 1)
        share, (flow, rest) = place - before, steps[before]
        frame = warp_image(moments[before].astype(np.float32), share * flow) + share * rest
        if poses is not None:
            frame = move_head(frame, poses[number])
        grain = seeds.make_rng("sensor", seed, number).normal(0, 1, frame.shape)
        frames[number] = (frame + noise * grain).round().clip(0, 255)
    return frames
