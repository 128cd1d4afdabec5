"""One part of an audit: what it needs, what it measures, and its question."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from mien.audit.features import Space, SpaceFeatures
from mien.audit.memorisation.matches import Matches
from mien.errors import DataError, LeakageError
from mien.faces import Faces
from mien.findings import Finding, list_some
from mien.generators.base import Generator
from mien.stats import Record

Result = TypeVar("Result")


@dataclass
class PartResult:
    """What a part measured: numbers, notes on what could not be measured, and results per image.

    `rows` has one row per synthetic image: its key, and the part's own columns. `picture`
    illustrates the part, if it has a picture.
    """

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    picture: Image.Image | None = None


def find_no_generator() -> Generator | None:
    """Return None: nobody knows which generator drew the images."""
    return None


def find_no_recogniser() -> Space | None:
    """Return None: the user gave no network that recognises people."""
    return None


@dataclass(frozen=True)
class PartInput:
    """The input of a part: the faces of the sides, their features by space, and their matches.

    `test` is empty if nobody was held out. `synthetic` is None for a part that compares the real
    sides. `find` returns the matches of the images in pixels; it is called only if a part needs
    them. `find_generator` returns the generator that drew the synthetic images, None if it is not
    known or not at hand. `find_recogniser` returns the space of the user's network that recognises
    people, None if none was given.
    """

    train: Faces
    test: Faces
    synthetic: Faces | None
    spaces: Mapping[str, SpaceFeatures]
    find: Callable[[], Matches]
    find_generator: Callable[[], Generator | None] = find_no_generator
    find_recogniser: Callable[[], Space | None] = find_no_recogniser

    def require_synthetic(self) -> Faces:
        """Return the synthetic images; raise DataError if the part was planned without them."""
        if self.synthetic is None:
            raise DataError("this part needs synthetic images, and it was planned without them")
        return self.synthetic


def require_one_form(sides: Mapping[str, Faces]) -> None:
    """Raise DataError unless the images of all sides have one size and as many channels.

    `sides` has the faces of each side by the name that a message gives it.
    """
    if len({faces.size[1:] for faces in sides.values()}) > 1:
        sizes = ", ".join(
            f"{name} {faces.size[1]} x {faces.size[2]}" for name, faces in sides.items()
        )
        raise DataError(
            f"all sides of an audit need one size, height x width; given: {sizes}. Preprocess them "
            "to the same size"
        )
    if len({faces.size[0] for faces in sides.values()}) > 1:
        channels = "; ".join(
            f"{name} {list_some(list(faces.shown), 4)}" for name, faces in sides.items()
        )
        raise DataError(
            f"all sides of an audit need the same channels; given: {channels}. Preprocess them to "
            "the same colours or inputs"
        )


@dataclass(frozen=True)
class Part:
    """One member of PARTS: how it is measured, and how it is shown.

    `question` is the question that its numbers answer, and `families` are the first words of their
    names. `meanings` explains the numbers on the page. `needs_held_out`, `needs_synthetic`,
    `needs_spaces`, `needs_matches`, `needs_generator`, `needs_clips` and `needs_recogniser` say
    what it is measured on. The generator is asked only if it is at hand. A part that needs clips is
    left out, with its question, where the synthetic images are not whole clips; one that needs a
    recogniser is left out where the user gave none. A part that needs held-out people may
    have numbers that do not: `measure_alone` returns these if nobody was held out. `picture` is the
    name of its picture, empty if it has none. `sees_channels` says that it looks at each named
    channel, so that its run is named by these. `version` is a part of the names of its runs:
    another number measures it again.
    """

    measure: Callable[[PartInput], PartResult]
    question: str
    families: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)
    needs_held_out: bool = False
    measure_alone: Callable[[PartInput], PartResult] | None = None
    needs_synthetic: bool = True
    needs_spaces: bool = False
    needs_matches: bool = False
    needs_clips: bool = False
    needs_generator: bool = False
    needs_recogniser: bool = False
    picture: str = ""
    sees_channels: bool = False
    version: int = 1


def make_empty_side(train: Faces) -> Faces:
    """Return an empty held-out side in the form of the training images."""
    return train.select(np.zeros(0, dtype=np.int64))


def try_measure(measured: PartResult, subject: str, work: Callable[[], Result]) -> Result | None:
    """Return the result of `work`; if the data do not allow it, add a note and return None."""
    try:
        return work()
    except (DataError, LeakageError) as error:
        measured.notes.append(f"{subject}: {error}")
        return None


def list_findings(findings: Iterable[Finding]) -> list[str]:
    """Return a note for each finding, with its kind, its place and its text."""
    return [f"{finding.kind} {finding.where}".strip() + f": {finding.what}" for finding in findings]
