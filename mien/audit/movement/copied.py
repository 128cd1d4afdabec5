"""Copied movement: clips that move as one training clip does, on any face.

For each training clip, its flow from onset to apex moves the onset of the judged clip. The change
that this makes is compared with the change that the clip shows. A copied movement explains it
nearly whole, whatever the face; flows of two faces are not compared, because the flow that is found
depends on the texture of the face.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int

from mien.audit.memorisation.people import ALARM_SHARE, Estimate, ImagePeople, SyntheticGroups
from mien.audit.movement.clips import Movements, to_bytes
from mien.errors import DataError
from mien.prepare.flow import compute_flow, warp_image
from mien.stats import Interval

CHANGE_BLUR = 0.7  # pixels, as standard deviation: noise of single pixels is not compared

LEAST_DISTANCE = 1e-6  # from a training clip, so that ratios are finite

MIN_TRAINING_PEOPLE = 3  # whose clips are compared with


@dataclass(frozen=True)
class NearestMovement:
    """The training clip whose movement is most like that of each clip.

    `likeness` is the cosine of the changes, at most 1. `ratio` is the distance 1 - likeness to that
    clip over the distance to the likest clip of any other training person: 1 if it is like many, 0
    if it is like this one only.
    """

    clip: Int[np.ndarray, " n"]
    likeness: Float[np.ndarray, " n"]
    ratio: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class CopiedMovement:
    """How many clips copy a movement: the share below the alarm level, and what chance allows.

    `bound` is the upper bound of the share of further held-out people below the level.
    """

    share: Interval
    bound: float
    level: float
    synthetic: NearestMovement
    held_out: NearestMovement


def find_copied(train: Movements, test: Movements, synthetic: Movements) -> CopiedMovement:
    """Return the share of clips that are nearer to one training movement than strangers are.

    The alarm level is the ratio that 1 in 100 clips of held-out people are below, each person with
    equal weight. Raises DataError if there are too few training people.
    """
    if train.count_people() < MIN_TRAINING_PEOPLE:
        raise DataError(
            f"copied movement needs clips of {MIN_TRAINING_PEOPLE} training people or more; given: "
            f"{train.count_people()}"
        )
    held_out, made = (find_nearest(train, clips) for clips in (test, synthetic))
    people = ImagePeople.of(test.people.astype(str))
    level: Estimate = people.estimate_quantile(held_out.ratio, ALARM_SHARE)
    groups = SyntheticGroups.of(train.people[made.clip].astype(str))
    share = groups.estimate_share_below(made.ratio, level)
    return CopiedMovement(share, people.bound_share(ALARM_SHARE), level.value, made, held_out)


def find_nearest(train: Movements, clips: Movements) -> NearestMovement:
    """Return the training clip whose movement is most like that of each of `clips`."""
    # The flow of each training clip, and what it changes on its own face
    flows = [
        compute_flow(to_bytes(apex), to_bytes(onset))
        for onset, apex in zip(train.onsets, train.apexes, strict=True)
    ]
    own = np.stack(
        [_normalise(apex - onset) for onset, apex in zip(train.onsets, train.apexes, strict=True)]
    )

    # Its likeness to each clip: of the flow on the clip's face, or of the difference itself
    likeness = np.empty((len(clips), len(train)), dtype=np.float64)
    for row, (onset, apex) in enumerate(zip(clips.onsets, clips.apexes, strict=True)):
        shown = _normalise(apex - onset)
        moved = [_normalise(warp_image(onset, flow) - onset) for flow in flows]
        likeness[row] = np.maximum(np.stack(moved) @ shown, own @ shown)

    # The nearest, and the nearest of another person
    nearest = likeness.argmax(axis=1)
    best = likeness.max(axis=1)
    is_same = train.people[None] == train.people[nearest][:, None]
    other = np.where(is_same.astype(bool), -np.inf, likeness).max(axis=1)
    ratio = np.maximum(1 - best, LEAST_DISTANCE) / np.maximum(1 - other, LEAST_DISTANCE)
    return NearestMovement(nearest.astype(np.int64), best, ratio)


def _normalise(change: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " pixels"]:
    """Return a change without noise and without its mean, with length 1; 0 if nothing changes."""
    smooth = cv2.GaussianBlur(change.astype(np.float32), (0, 0), CHANGE_BLUR)
    flat = (smooth - smooth.mean()).ravel().astype(np.float64)
    return flat / max(float(np.linalg.norm(flat)), 1e-9)
