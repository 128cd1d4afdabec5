"""Membership as a part: by the generator itself, and by the published images."""

import numpy as np

from mien.audit.fidelity import OrderedSide
from mien.audit.memorisation.denoising import RealImages, score_denoising
from mien.audit.memorisation.membership import (
    FALSE_SHARES,
    MembershipScores,
    measure_auc,
    measure_auc_of_people,
    measure_found,
    score_density,
)
from mien.audit.memorisation.search import Coarse, soften
from mien.audit.part import Part, PartInput, PartResult
from mien.faces import Faces, name_distinct_units
from mien.generators.base import Generator
from mien.generators.diffusion.model import Diffusion
from mien.generators.specs import KIND_FACTS
from mien.stats import Record

MAX_COMPARED = 200  # images of each side that are compared, at most

MIN_COMPARED = 10  # images of each side that are needed

MAX_SYNTHETIC = 2000  # synthetic images that a density is measured on, at most

MEMBERSHIP_MEANINGS = {
    "membership.auc": (
        "Chance that a training image looks more like one than a held-out image does: by how well "
        "the generator denoises it, and by the density of synthetic images around it."
    ),
    "membership.people": "The same for the mean over the images of a person.",
    "membership.found_1": "Share of training images that are found with 1 % of false alarms.",
    "membership.found_5": "Share of training images that are found with 5 % of false alarms.",
}


def measure_part(part_input: PartInput) -> PartResult:
    """Return how well one can tell training images from held-out ones, in both ways.

    A comparison that the data do not allow has no number: the generator is not at hand or has no
    denoiser, there are fewer than 10 images or two people on a side, or too few images for so small
    a share of false alarms.
    """
    measured = PartResult()
    train, test, synthetic = part_input.train, part_input.test, part_input.require_synthetic()
    generator = part_input.find_generator()

    # By the published images
    outsiders = _choose_images(test, _find_unseen(train, test, generator))
    members = _choose_images(train, np.ones(len(train), dtype=bool))
    if _can_compare(members, outsiders):
        measured.records += _list_records("density", _score_density(members, outsiders, synthetic))

    # By the generator itself
    if isinstance(generator, Diffusion) and _can_denoise(generator, train):
        known = [
            faces.index["emotion"].isin(generator.classes).to_numpy() for faces in (train, test)
        ]
        is_member = train.index["key"].isin(set(generator.seen["key"])).to_numpy()
        members = _choose_images(train, is_member & known[0])
        outsiders = _choose_images(test, _find_unseen(train, test, generator) & known[1])
        if _can_compare(members, outsiders):
            scores = score_denoising(generator, _show(members), _show(outsiders))
            for name, one in scores.items():
                records = _list_records(name, one)
                measured.records += records if name == "generator" else records[:1]
    return measured


def _find_unseen(train: Faces, test: Faces, generator: Generator | None) -> np.ndarray:
    """Return which held-out images show nobody of the training, or of the generator's."""
    subjects = name_distinct_units(test.index, "subject")
    seen = set(name_distinct_units(train.index, "subject"))
    if generator is not None:
        seen |= set(generator.seen["subject"]) - {""}
    return ~np.isin(subjects, list(seen))


def _choose_images(faces: Faces, is_usable: np.ndarray) -> Faces:
    """Return up to 200 usable images, one of each clip, as evenly from all people as it goes."""
    positions = OrderedSide.of(faces).list_one_per_clip("")
    positions = positions[is_usable[positions]]
    people = name_distinct_units(faces.index, "subject")[positions].astype(str)
    turn = np.zeros(len(positions), dtype=np.int64)
    for name in np.unique(people):
        turn[people == name] = np.arange((people == name).sum())
    return faces.select(positions[np.argsort(turn, kind="stable")][:MAX_COMPARED])


def _can_compare(members: Faces, outsiders: Faces) -> bool:
    people = [set(name_distinct_units(side.index, "subject")) for side in (members, outsiders)]
    return min(len(members), len(outsiders)) >= MIN_COMPARED and min(map(len, people)) >= 2


def _can_denoise(generator: Diffusion, train: Faces) -> bool:
    """Return whether the generator denoises such images, and by a label alone."""
    return (
        not KIND_FACTS[generator.spec.kind].distilled
        and generator.units is None
        and (generator.size, generator.channels) == (train.size, train.channels)
    )


def _show(faces: Faces) -> RealImages:
    people = name_distinct_units(faces.index, "subject")
    return RealImages(np.asarray(faces.images), faces.number_labels(), people)


def _score_density(members: Faces, outsiders: Faces, synthetic: Faces) -> MembershipScores:
    """Return the scores by density, in principal components of the held-out images."""
    chosen = OrderedSide.of(synthetic).order[:MAX_SYNTHETIC]
    soft = [soften(images) for images in (members.images, outsiders.images)]
    coarse = Coarse.fit(soft[1])
    rows = [coarse(images) for images in (*soft, soften(synthetic.images[chosen]))]
    people = [name_distinct_units(side.index, "subject") for side in (members, outsiders)]
    return score_density(rows[2], rows[0], rows[1], people[0], people[1])


def _list_records(name: str, scores: MembershipScores) -> list[Record]:
    """Return the AUC by image and by person, and the images found, as far as they are known."""
    count = len(scores.members) + len(scores.outsiders)
    records = [Record.of(f"membership.auc.{name}", measure_auc(scores), count, "images")]
    of_people = measure_auc_of_people(scores)
    if of_people is not None:
        names = [set(people) for people in (scores.member_people, scores.outsider_people)]
        people = sum(map(len, names))
        records.append(Record.of(f"membership.people.{name}", of_people, people, "people"))
    for share in FALSE_SHARES:
        found = measure_found(scores, share)
        if found is not None:
            metric = f"membership.found_{100 * share:.0f}.{name}"
            records.append(Record(metric, found, len(scores.members), "training images"))
    return records


PART = Part(
    measure_part,
    question="Is it new?",
    families=("membership",),
    meanings=MEMBERSHIP_MEANINGS,
    needs_held_out=True,
    needs_generator=True,
)
