"""Maps of faces in a plane: real training, held-out and synthetic ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mien.faces import Faces
from mien.pages import charts
from mien.pages.charts import make_figure
from mien.pages.tables import ReportTable, make_row

MAP_POINTS = 300  # points of each group on a map, at most, evenly spaced in the set


@dataclass(frozen=True)
class FaceMap:
    """Where faces of each group lie on the two principal axes of a space of features.

    - `points` are float32 [n, 2] by group: "real training", "real held-out" (if any), "synthetic".
    - `classes` are the label of each point, by group.
    - `shares` are the shares of the variance of the real training faces along the two axes.
    - `fold` is the fold whose faces these are, -1 if there are no folds.
    """

    points: dict[str, Float[np.ndarray, "n 2"]]
    classes: dict[str, list[str]]
    shares: tuple[float, float]
    fold: int = -1


def choose_points(count: int, most: int = MAP_POINTS) -> np.ndarray:
    """Return at most `most` positions of `count` faces, evenly spaced."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.int64)


def measure_shares(
    vectors: Float[np.ndarray, "n d"], points: Float[np.ndarray, "n 2"]
) -> tuple[float, float]:
    """Return the shares of the variance of vectors along the two axes of their points."""
    total = float(vectors.var(axis=0, dtype=np.float64).sum())
    first, second = points.var(axis=0, dtype=np.float64) / max(total, 1e-12)
    return float(first), float(second)


def place_faces(
    sides: dict[str, Faces],
    vectors: dict[str, Float[np.ndarray, "_ d"]],
    centre: Float[np.ndarray, " d"],
    axes: Float[np.ndarray, "d 2"],
    fold: int = -1,
) -> FaceMap:
    """Return the map of the faces of each group, by their vectors.

    `centre` and `axes` are those of the real training faces, whose shares of variance are given.
    """
    points = {group: (rows - centre) @ axes for group, rows in vectors.items()}
    return FaceMap(
        points,
        {group: list(faces.index["emotion"]) for group, faces in sides.items()},
        measure_shares(vectors["real training"], points["real training"]),
        fold,
    )


def draw_map(
    name: str, caption: str, text: str, classes: Sequence[str], faces: FaceMap
) -> dict[str, Any]:
    """Return the chart of a map of faces, and a table of the centres of each group and class."""
    # For each class the number, centre and spread of each group's points
    rows = []
    for group, points in faces.points.items():
        labels = np.array(faces.classes[group])
        rows.append(make_row(group, *_describe_points(points), kind="total"))
        rows += [
            make_row(class_name, *_describe_points(points[labels == class_name]))
            for class_name in classes
            if (labels == class_name).any()
        ]
    head = ("faces", "points", "centre, axis 1", "centre, axis 2", "sd, axis 1", "sd, axis 2")
    numbers = ReportTable(f"{caption}: numbers", head, tuple(rows))
    return make_figure(
        name, caption, charts.draw_points(caption, "axis 1", "axis 2", faces.points), numbers, text
    )


def _describe_points(points: Float[np.ndarray, "n 2"]) -> list[str]:
    """Return number, centre and standard deviation of points as texts."""
    centre, spread = points.mean(axis=0), points.std(axis=0)
    return [f"{len(points):,}", *(f"{value:.2f}" for value in (*centre, *spread))]
