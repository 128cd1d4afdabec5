"""Whose face an exported generator reveals, by its mean face and its images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mien.errors import StoreError
from mien.faces import Faces, name_units
from mien.generators.base import Generator
from mien.generators.diffusion import heldout
from mien.generators.specs import TrainSpec
from mien.generators.student import Student
from mien.runs.progress import quantify
from mien.runs.store import Run, Store

# the largest share of the images that one person may have in a mean face of several
MAX_SHARE_OF_ONE = 0.75


@dataclass(frozen=True)
class MeanFaceOwners:
    """Who is in the mean of the training images.

    `subjects` are the known ones, `unknown` the images whose subject nobody knows; `share` is that
    of whoever has most of the `images`, who is told apart by `unit`: a subject, or else the clip or
    the image alone.
    """

    images: int
    subjects: int
    unknown: int
    share: float = 0.0
    unit: str = "subject"

    @property
    def one(self) -> bool:
        """Whether the mean is in effect the face of one person."""
        return self.share > MAX_SHARE_OF_ONE

    @property
    def text(self) -> str:
        """Whose mean it is, in words: `24 images of 3 subjects`."""
        known_text = [quantify(self.subjects, "subject")] if self.subjects else []
        unknown_text = (
            [f"{quantify(self.unknown, 'image')} of unknown subjects"]
            if self.subjects and self.unknown
            else []
        )
        return (
            f"{quantify(self.images, 'image')} of "
            f"{' and '.join([*known_text, *unknown_text]) or 'unknown subjects'}"
        )

    @property
    def recorded(self) -> dict[str, Any]:
        """What an export says of it; no names."""
        return {"images": self.images, "subjects": self.subjects, "unknown_subjects": self.unknown}


def select_trained(generator: Generator, run: Run) -> pd.DataFrame:
    """Return the rows of `seen` of the images that the mean face is of: people who were held out
    are not in it.

    If the faces are no longer in the store, those are left out that leave the fewest people in it.
    """
    spec = generator.network_spec if isinstance(generator, Student) else generator.spec
    seen = generator.seen
    if not isinstance(spec, TrainSpec) or spec.held_out == 0:
        return seen
    try:
        parent = Store(run.path.parents[1]).run(spec.faces)
        index = pd.read_parquet(parent.find_file("index.parquet"))
    except StoreError:
        largest = seen.loc[seen["subject"] != "", "subject"].value_counts().index
        held_out_count = max(1, round(spec.held_out * len(largest)))
        return seen[~seen["subject"].isin(largest[1 : 1 + held_out_count])]
    trained, _ = heldout.hold_out(Faces(np.zeros((len(index), 1, 1, 1), np.uint8), index), spec)
    return seen[seen["key"].isin(set(trained.index["key"]))]


def find_owners(seen: pd.DataFrame) -> MeanFaceOwners:
    """Return who is in the mean of images; `seen` has key, subject, clip and dataset of each.

    Where a subject is unknown, a clip (or else an image) counts as a person. Images that were
    generated count only where nothing is known of whom their generator saw.
    """
    is_synthetic = (seen["dataset"] == "synthetic") & (seen["subject"] == "") & (seen["clip"] == "")
    real = seen if is_synthetic.all() else seen[~is_synthetic]

    # The most certain unit of each image that has one
    units = np.select([real["subject"] != "", real["clip"] != ""], ["subject", "clip"], "image")
    names = name_units(real, "subject")
    counts = pd.Series(
        [f"{unit} {name}" for unit, name in zip(units, names, strict=True)], dtype=str
    ).value_counts()
    return MeanFaceOwners(
        images=len(real),
        subjects=int(real.loc[units == "subject", "subject"].nunique()),
        unknown=int((units != "subject").sum()),
        share=float(counts.iloc[0] / len(real)) if len(real) else 0.0,
        unit=str(counts.index[0]).partition(" ")[0] if len(real) else "image",
    )
