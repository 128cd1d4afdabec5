"""Drawn people for tests: small sets with subjects and clips, drawn within seconds."""

from functools import lru_cache

import cv2
import numpy as np

from mien.drawing import Head, Pose, identity, moved, parse_units
from mien.faces import Faces, make_index
from mien.seeds import rng

SHOWN = {"happiness": "6+12", "surprise": "1+2+5+25+26", "sadness": "1+4+15", "disgust": "4+9+10"}


def people(names: range, clips: int = 6, frames: int = 2, size: int = 48, seed: int = 0) -> Faces:
    """Faces of drawn people, all of whom show every emotion in turn; frames of a clip differ by a small move."""
    rows = [(who, clip, frame) for who in names for clip in range(clips) for frame in range(frames)]
    images = np.stack([_draw(seed, *row, size) for row in rows])[:, None]
    emotions = list(SHOWN)
    index = make_index(
        images,
        key=[f"drawn/s{who:02d}/c{clip}/{frame}" for who, clip, frame in rows],
        dataset="drawn",
        subject=[f"drawn:s{who:02d}" for who, _, _ in rows],
        clip=[f"drawn:s{who:02d}/c{clip}" for who, clip, _ in rows],
        frame=[frame for _, _, frame in rows],
        emotion=[emotions[(who + clip) % len(emotions)] for who, clip, _ in rows],
        licence="CC0 1.0",
    )
    return Faces(images, index)


def _draw(seed: int, who: int, clip: int, frame: int, size: int) -> np.ndarray:
    dice = rng("people", seed, who, clip)
    x, y, angle = (float(value) for value in dice.normal(0, 2, 3))
    picture = moved(_canvas(seed, who, clip), Pose(x + frame, y, angle), (340, 280))
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=400)
def _canvas(seed: int, who: int, clip: int) -> np.ndarray:
    units = SHOWN[list(SHOWN)[(who + clip) % len(SHOWN)]]
    strength = float(rng("strength", seed, who, clip).uniform(0.7, 1))
    return _head(seed, who).draw({f"{side}{unit}": strength for side, unit in parse_units(units)})


@lru_cache(maxsize=64)
def _head(seed: int, who: int) -> Head:
    return Head(identity(seed, who), (340, 280))
