"""Variety as a part of an audit: the people behind it, and its pictures."""

import numpy as np

from mien.audit.part import Part, PartInput, PartResult, try_measure
from mien.audit.variety.measures import MEASURES, find_pictures
from mien.audit.variety.people import PeopleBehind, measure_people
from mien.audit.variety.pictures import (
    measure_associations,
    measure_distances,
    measure_means,
    measure_sides,
)
from mien.audit.variety.sides import MIN_IMAGES, VarietySide, divide_people
from mien.audit.variety.skin import measure_light_error
from mien.stats import Record

VARIETY_MEANINGS = {
    "people.effective": (
        "Effective number of training people behind the images: the exponential of the entropy of "
        "the person of the nearest training image."
    ),
    "people.largest": "Share of the images whose nearest person is the most frequent one.",
    "people.used": (
        "Effective number of people, as a share of one half of the training people; the floor is "
        "that of the other half."
    ),
    "people.coverage": (
        "Share of held-out images with a synthetic image as near as every second image of one half "
        "of the training people has one of the other half."
    ),
    "pictures.distance": (
        "Distance of the distribution of a measure from that of one half of the training people, "
        "in standard deviations of real images (Wasserstein's distance)."
    ),
    "pictures.association": (
        "Share of the entropy of the class that a measure explains, less what permuted labels give."
    ),
    "pictures.shortcut": (
        "The largest excess of an association of synthetic images over that of real ones."
    ),
    **{f"pictures.mean.{name}": f"Mean {one.meaning}." for name, one in MEASURES.items()},
}


def measure_part(part_input: PartInput) -> PartResult:
    """Return the numbers of variety; those of pictures only where images are pictures of faces."""
    measured = PartResult()
    faces = (part_input.train, part_input.test, part_input.require_synthetic())
    sides = [VarietySide.of(side) for side in faces]
    if min(len(sides[0]), len(sides[2])) < MIN_IMAGES:
        measured.notes.append(
            f"variety: {MIN_IMAGES} training and {MIN_IMAGES} synthetic images of different clips "
            f"are needed; given: {len(sides[0])} and {len(sides[2])}"
        )
        return measured

    # The people behind the images
    halves = divide_people(sides[0])
    behind = try_measure(measured, "people", lambda: measure_people(sides, halves))
    if behind is not None:
        measured.records += behind.records

    # What the pictures look like
    pictures = [found for side in faces if (found := find_pictures(side)) is not None]
    if len(pictures) < len(faces):
        shown = ", ".join(part_input.train.shown)
        measured.notes.append(
            f"pictures: the images show {shown}, so light, pose and border were not measured"
        )
        return measured
    on_sides = measure_sides(pictures, sides)
    measured.records += measure_means(on_sides)
    if halves:
        measured.records += measure_distances(on_sides, halves)
    if behind is not None:
        people = [_name_people(one.side, sides, behind) for one in on_sides]
        measured.records += measure_associations(on_sides, people, halves)
    if pictures[0].shape[1] == 3:
        errors = measure_light_error(pictures[0][sides[0].positions])
        measured.records += [
            Record(f"pictures.light_error.{name}", float(values.mean()), len(values), "images")
            for name, values in errors.items()
        ]
    return measured


def _name_people(side: VarietySide, sides: list[VarietySide], behind: PeopleBehind) -> np.ndarray:
    """Return the person behind each image: whom a real image shows, or the nearest person."""
    return behind.nearest if side is sides[2] else side.people


PART = Part(
    measure_part, question="Is it good?", families=("people", "pictures"), meanings=VARIETY_MEANINGS
)
