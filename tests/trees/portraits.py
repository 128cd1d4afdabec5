"""Drawn faces for fixture writers: people of nobody, who show an emotion."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from mien.ingest.toy.head import draw_face, invent_identity

UNITS = {
    "anger": {"4": 1.0, "7": 1.0},
    "contempt": {"L14": 1.0},
    "disgust": {"9": 1.0, "10": 1.0},
    "fear": {"1": 1.0, "2": 1.0, "5": 1.0, "20": 1.0},
    "happiness": {"6": 1.0, "12": 1.0},
    "neutral": {},
    "sadness": {"1": 1.0, "4": 1.0, "15": 1.0},
    "surprise": {"1": 1.0, "2": 1.0, "26": 1.0},
}


PEOPLE = 4  # so many are drawn: drawing takes time


@cache
def _face(person: int, emotion: str, size: tuple[int, int]) -> np.ndarray:
    if size != (48, 48):
        height, width = size
        return np.asarray(Image.fromarray(_face(person, emotion, (48, 48))).resize((width, height)))
    return draw_face(invent_identity(0, person), UNITS[emotion], size)


def portrait(person: int, emotion: str, name: str, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """Return a face, uint8 [h, w, 3], with a little noise that is a function of `name`: unlike any
    other.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    noise = np.random.default_rng(seed).integers(-3, 4, (*size, 3))
    return np.clip(_face(person % PEOPLE, emotion, size) + noise, 0, 255).astype(np.uint8)


def grey(person: int, emotion: str, name: str, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """Return the same in grey, uint8 [h, w]."""
    return np.asarray(Image.fromarray(portrait(person, emotion, name, size)).convert("L"))


def save(
    path: Path, person: int, emotion: str, size: tuple[int, int] = (48, 48), mode: str = "RGB"
) -> Path:
    """Write a face to a file, its content a function of the last parts of its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(portrait(person, emotion, "/".join(path.parts[-4:]), size)).convert(mode).save(
        path
    )
    return path
