"""Maps of faces: where real and synthetic faces lie, with their numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mien.errors import StoreError
from mien.runs.store import Run

MAP_SIDES = ("training", "held-out", "synthetic")

POINTS_FILE, MAP_FACTS_FILE = "points.parquet", "map.json"

MAP_NUMBERS = {
    "distance": "distance to the nearest training face",
    "agreement": "the judge's probability of the label",
    "entropy": "entropy of the judge's answer",
}
"""The numbers of each face of a map. The first is in the space of the map, without a unit; the
second is from 0 to 1; the third is in bits. The last two are nan unless the space is the judge.
"""

MAP_COLUMNS = {
    "side": "str",  # one of MAP_SIDES
    "run": "str",  # the run that holds the face
    "position": "int64",  # its position in that run
    "key": "str",
    "emotion": "str",
    "x": "float32",
    "y": "float32",
    "distance": "float32",
    "nearest": "str",  # the key of the nearest training face of another clip
    "predicted": "str",  # the class that the judge finds likeliest
    "agreement": "float32",
    "entropy": "float32",
}


@dataclass(frozen=True)
class StoredMap:
    """A map from the store: `points` has MAP_COLUMNS, one row for each face on it.

    `shares` are the shares of the variance of the training faces along the two axes, `space` the
    name of the space and `about` what it is. `sizes` is the number of faces of each side's set.
    """

    run: str
    points: pd.DataFrame
    shares: tuple[float, float]
    space: str
    about: str
    sizes: Mapping[str, int]


def read_map(run: Run) -> StoredMap:
    """Return the map that a run holds; raises StoreError if it holds none."""
    if run.stage != "map":
        raise StoreError(
            f"a map of faces must be named, and {run.name} is none; `mien ls map` lists them"
        )
    facts: dict[str, Any] = json.loads(run.find_file(MAP_FACTS_FILE).read_text(encoding="utf-8"))
    return StoredMap(
        run=run.name,
        points=pd.read_parquet(run.find_file(POINTS_FILE)),
        shares=(float(facts["shares"][0]), float(facts["shares"][1])),
        space=str(facts["space"]),
        about=str(facts["about"]),
        sizes={str(side): int(count) for side, count in facts["sizes"].items()},
    )
