"""The sides that variety compares, and halves of the real people."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mien.audit.fidelity import OrderedSide
from mien.faces import Faces, name_distinct_units
from mien.seeds import make_rng

MAX_IMAGES = 600  # images of a side that are measured, at most, one of each clip

MIN_IMAGES = 10  # images of a side, or of a half of the real people, that a comparison needs

HALVES = 10  # times that the real people are divided at random


@dataclass(frozen=True)
class VarietySide:
    """The images of one side that are measured, one of each clip, in an order drawn by their keys.

    `people` names the person of each of them: the clip, or the image itself, if the person is not
    known. A synthetic image is a person of its own.
    """

    faces: Faces
    ordered: OrderedSide
    positions: Int[np.ndarray, " n"]
    people: np.ndarray

    @classmethod
    def of(cls, faces: Faces) -> "VarietySide":
        """Return the side of `faces`, at most 600 images."""
        ordered = OrderedSide.of(faces)
        positions = ordered.list_one_per_clip("")[:MAX_IMAGES]
        return cls(
            faces, ordered, positions, name_distinct_units(faces.index, "subject")[positions]
        )

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def emotions(self) -> np.ndarray:
        """The class of each image."""
        return self.ordered.emotion[self.positions]


@dataclass(frozen=True)
class Half:
    """Two halves of the real people: the places of their images in the measured side."""

    one: Int[np.ndarray, " n"]
    other: Int[np.ndarray, " m"]


def divide_people(side: VarietySide) -> list[Half]:
    """Return ten random divisions of the people of a side; none if a half has too few images."""
    names, codes = np.unique(side.people.astype(str), return_inverse=True)
    halves = []
    for draw in range(HALVES):
        order = make_rng("variety", "halves", draw).permutation(len(names))
        in_one = np.isin(codes, order[: len(names) // 2])
        halves.append(Half(np.flatnonzero(in_one), np.flatnonzero(~in_one)))
    fewest = min(min(len(half.one), len(half.other)) for half in halves)
    return halves if fewest >= MIN_IMAGES else []


def count_compared(halves: list[Half], *sides: VarietySide) -> int:
    """Return the number of images that each set of a comparison has: that of the smallest.

    Sides with fewer than 10 images have no part in it.
    """
    sizes = [len(places) for half in halves for places in (half.one, half.other)]
    return min([*sizes, *(len(side) for side in sides if len(side) >= MIN_IMAGES)])
