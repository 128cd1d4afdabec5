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
from mien.faces import UNKNOWN_SOURCE, Faces, name_distinct_units
from mien.generators.base import Generator
from mien.generators.diffusion.model import Diffusion
from mien.generators.specs import KIND_FACTS, TrainSpec
from mien.prepare.action_units import find_coded
from mien.stats import Record

MAX_COMPARED = 200  # images of each side that are compared, at most

MIN_COMPARED = 10  # images of each side that are needed

MAX_SYNTHETIC = 2000  # synthetic images that a density is measured on, at most

BY_GENERATOR = "membership by the generator was not measured"

BY_IMAGES = "membership by the published images was not measured"

TOO_FEW = (
    f"{MIN_COMPARED} images of two people are needed of those trained on, and of people held out"
)

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

    A comparison that the data do not allow has no number: there are fewer than 10 images or two
    people on a side, or too few images for so small a share of false alarms. A note says why the
    generator was not asked.
    """
    measured = PartResult()
    train, test, synthetic = part_input.train, part_input.test, part_input.require_synthetic()
    generator = part_input.find_generator()

    # By the published images
    outsiders = _choose_images(test, _find_unseen(train, test, generator))
    members = _choose_images(train, np.ones(len(train), dtype=bool))
    if _can_compare(members, outsiders):
        measured.records += _list_records("density", _score_density(members, outsiders, synthetic))
    else:
        measured.notes.append(f"{BY_IMAGES}: {TOO_FEW}")

    # By the generator itself
    obstacle = _find_obstacle(generator, synthetic, train)
    if isinstance(generator, Diffusion) and not obstacle:
        known = [
            faces.index["emotion"].isin(generator.classes).to_numpy() for faces in (train, test)
        ]
        is_member = train.index["key"].isin(set(generator.seen["key"])).to_numpy()
        members = _choose_images(train, is_member & known[0])
        outsiders = _choose_images(test, _find_unseen(train, test, generator) & known[1])
        if _can_compare(members, outsiders):
            scores = score_denoising(generator, *_show_sides(generator, members, outsiders))
            for name, one in scores.items():
                records = _list_records(name, one)
                measured.records += records if name == "generator" else records[:1]
        else:
            obstacle = TOO_FEW
    if obstacle:
        measured.notes.append(f"{BY_GENERATOR}: {obstacle}")
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


def _find_obstacle(generator: Generator | None, synthetic: Faces, train: Faces) -> str:
    """Return why a generator cannot be asked about training images, empty if it can."""
    if generator is None:
        sources = set(synthetic.index["source"])
        if "real" in sources:
            return "some of the images are real"
        if UNKNOWN_SOURCE in sources:
            return "the generator of these images is not known"
        return "the images come from several generators, or theirs is not in the store"
    if not isinstance(generator, Diffusion) or KIND_FACTS[generator.spec.kind].distilled:
        kinds = [name for name, facts in KIND_FACTS.items() if issubclass(facts.spec, TrainSpec)]
        return f"it needs a generator of the kinds {', '.join(kinds)}; given: {generator.spec.kind}"
    if (generator.size, generator.channels) != (train.size, train.channels):
        sizes = (" x ".join(map(str, faces.size)) for faces in (generator, train))
        return (
            "the generator and the real images need one size and the same channels; given "
            f"(channels x height x width): {' and '.join(sizes)}"
        )
    return ""


def _show_sides(
    generator: Diffusion, members: Faces, outsiders: Faces
) -> tuple[RealImages, RealImages]:
    """Return both sides as the generator sees them.

    A generator that is conditioned on action units sees those of each image if they are coded on
    both sides, and otherwise none of any image: one side must not have more help than the other.
    """
    sides, coded = (members, outsiders), (find_coded(members), find_coded(outsiders))
    units: list[np.ndarray | None] = [None, None]
    if generator.units is not None:
        both = bool(coded[0].all() and coded[1].all())
        units = [generator.units.encode_faces(side) * np.float32(both) for side in sides]
    shown = [
        RealImages(
            np.asarray(side.images),
            side.number_labels(),
            name_distinct_units(side.index, "subject"),
            of_side,
        )
        for side, of_side in zip(sides, units, strict=True)
    ]
    return shown[0], shown[1]


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
    version=2,
)
