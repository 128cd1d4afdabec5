"""The nearest real faces of single synthetic ones, and the difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from mien.audit.memorisation.matches import MatchFinder
from mien.audit.memorisation.search import MATCH_WIDTH
from mien.errors import DataError
from mien.faces import Faces
from mien.studio.sets import FaceSet, ImageTables


@dataclass(frozen=True)
class FoundMove:
    """How a synthetic image is moved before it is compared: mirrored, then down and right, in
    pixels of the search, whose images are at most MATCH_WIDTH pixels wide.
    """

    mirrored: bool = False
    down: int = 0
    right: int = 0


@dataclass(frozen=True)
class NearestFace:
    """The real image at `position` of a set that is nearest to a synthetic one.

    `distance` is that of the audit's search; `copy` says whether the audit counts the synthetic
    image as a copy of a training face.
    """

    position: int
    distance: float
    alignment: FoundMove
    copy: bool = False


def read_nearest_training(
    tables: ImageTables, train: FaceSet, positions: Sequence[int]
) -> list[NearestFace | None]:
    """Return the nearest training image of each synthetic image, as the audit found it; None where
    it did not.
    """
    place_of = {str(key): place for place, key in enumerate(train.columns["key"])}
    found: list[NearestFace | None] = []
    for position in positions:
        key = str(tables.texts["nearest"][position]) if "nearest" in tables.texts else ""
        if key not in place_of:
            found.append(None)
            continue
        moves = {name: int(values[position]) for name, values in tables.moves.items()}
        alignment = FoundMove(
            bool(moves.get("mirrored")), moves.get("down", 0), moves.get("right", 0)
        )
        found.append(
            NearestFace(
                place_of[key],
                float(tables.numbers["distance"][position]),
                alignment,
                bool("is_copy" in tables.flags and tables.flags["is_copy"][position]),
            )
        )
    return found


def find_nearest_held_out(
    face_set: FaceSet, test: FaceSet, positions: Int[np.ndarray, " k"]
) -> list[NearestFace | None]:
    """Return the nearest held-out image of each synthetic image, by the search of the audit.

    Nothing is found where the search is not possible, as among held-out faces of a single clip.
    """
    if not len(positions):
        return []
    try:
        chosen = face_set.faces.select(positions)
        match = _make_finder(test.run.path).match_block(chosen, 0, len(chosen))
    except DataError:
        return [None] * len(positions)
    return [
        NearestFace(
            int(match.nearest[row]),
            float(match.distance[row]),
            FoundMove(bool(match.mirrored[row]), int(match.down[row]), int(match.right[row])),
        )
        for row in range(len(positions))
    ]


@lru_cache(maxsize=2)  # the components of its images are measured once
def _make_finder(folder: Path) -> MatchFinder:
    return MatchFinder(Faces.load(folder))


def draw_difference(
    image: UInt8[np.ndarray, "c h w"], real: UInt8[np.ndarray, "c h w"], alignment: FoundMove
) -> UInt8[np.ndarray, "c h w"]:
    """Return how much each pixel of a moved image differs from a real one: black is equal.

    The image first gets the brightness and the contrast of the real one, as in the search.
    """
    # Move it as the search did
    _, height, width = image.shape
    scale = width / min(width, MATCH_WIDTH)
    rows = np.clip(np.arange(height) - round(alignment.down * scale), 0, height - 1)
    columns = np.clip(np.arange(width) - round(alignment.right * scale), 0, width - 1)
    moved = (image[:, :, ::-1] if alignment.mirrored else image)[:, rows][:, :, columns]

    # Compare it
    levels, real_levels = moved.astype(np.float64), real.astype(np.float64)
    spread = max(levels.std(), 1e-9)
    relit = (levels - levels.mean()) / spread * real_levels.std() + real_levels.mean()
    return np.abs(relit - real_levels).clip(0, 255).round().astype(np.uint8)
