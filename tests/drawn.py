"""Drawn faces in small numbers, straight into memory: people, clips, frames, with labels that their faces show."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from mien import drawing
from mien.faces import Faces, make_index
from mien.spec import Spec
from mien.store import Run, Store

UNITS = {
    "happiness": {"6": 1.0, "12": 1.0},
    "disgust": {"9": 1.0, "4": 1.0},
    "surprise": {"1": 1.0, "2": 1.0, "5": 1.0, "26": 1.0},
}
CANVAS = (88, 72)  # pixels, height and width, before they are made small


class KeptSpec(Spec):
    """Faces that a test made, in a store."""

    stage: ClassVar[str] = "kept"
    digest_of: str


def people(numbers: range, clips: int = 2, frames: int = 3, size: int = 32, seed: int = 0) -> Faces:
    """Faces of the invented people of these numbers: so many clips of each emotion, and frames of each clip."""
    images, rows = [], []
    for number in numbers:
        head = drawing.Head(drawing.identity(seed, number), CANVAS)
        for emotion, units in UNITS.items():
            canvas = head.draw(units)
            for clip in range(clips):
                rng = np.random.default_rng([seed, number, clip, len(emotion)])
                home = rng.normal(0, (1.6, 1.6, 2.0, 0.02))
                for frame in range(frames):
                    x, y, angle, scale = home + rng.normal(0, (0.3, 0.3, 0.2, 0.003))
                    pose = drawing.Pose(float(x), float(y), float(angle), 1 + float(scale))
                    picture = Image.fromarray(drawing.moved(canvas, pose, CANVAS)).convert("L").resize((size, size))
                    noisy = np.asarray(picture, dtype=np.float64) + rng.normal(0, 2, (size, size))
                    images.append(noisy.clip(0, 255).astype(np.uint8)[None])
                    who = f"drawn:p{number:03d}"
                    rows.append((who, f"{who}/{emotion}{clip}", frame, emotion))
    table = pd.DataFrame(rows, columns=["subject", "clip", "frame", "emotion"])
    keys = [f"drawn/{clip}/{frame}" for clip, frame in zip(table["clip"], table["frame"], strict=True)]
    columns = {str(name): list(table[name]) for name in table}
    index = make_index(np.stack(images), key=keys, dataset="drawn", licence="CC0", **columns)
    return Faces(np.stack(images), index)


def keep(faces: Faces, store: Store, alias: str) -> Run:
    """Put faces into a store under a name."""

    def build(out: Path, scratch: Path) -> None:
        faces.save(out)

    return store.make(KeptSpec(digest_of=f"{alias} {len(faces)}"), build, alias)
