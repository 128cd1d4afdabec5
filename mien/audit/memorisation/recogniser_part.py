"""An outside recogniser as a part: faces that show a training person."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from PIL import Image

from mien.audit.features import Space
from mien.audit.fidelity import OrderedSide
from mien.audit.memorisation.people import SyntheticGroups
from mien.audit.memorisation.recognition import (
    LEVELS,
    RealFaces,
    RealPairs,
    exceed,
    find_most_similar,
    find_threshold,
    measure_power,
)
from mien.audit.part import Part, PartInput, PartResult, try_measure
from mien.errors import DataError
from mien.faces import Faces
from mien.pages.sheets import draw_rows
from mien.stats import Record
from mien.strips import show_as_pictures

MIN_AUC = 0.9  # below it, the recogniser has no power

LEVEL_NAMES = {0.01: "1", 0.001: "01"}  # percent, in the names of numbers

MIN_RECOGNISER_PEOPLE = 5  # known people on each side, and people with two images

IMAGES_PER_PERSON = 3  # of different clips, at most

MAX_RECOGNISED = 5000  # synthetic images that are looked at, at most

MAX_FLOOR = 0.5  # share of held-out images beyond the threshold that leaves room for an alarm

STRIPS = 12  # pairs on the sheet, at most

RECOGNISER_MEANINGS = {
    "recogniser.auc": (
        "Chance that the given recogniser finds two images of one real person more similar than "
        "images of two real people."
    ),
    "recogniser.shown_1": (
        "Share of images that are more similar to a training person than 99 of 100 pairs of "
        "different real people are."
    ),
    "recogniser.shown_01": "The same for 999 of 1,000 pairs.",
    "recogniser.gap": (
        "The latter share (the former, if 1,000 pairs are not at hand), less the most that is "
        "expected of held-out people."
    ),
}


@dataclass(frozen=True)
class RealSides:
    """The real faces that are compared, their pairs, and the positions of the training images."""

    train: RealFaces
    test: RealFaces
    pairs: RealPairs
    positions: Int[np.ndarray, " n"]


def measure_part(part_input: PartInput) -> PartResult:
    """Return how many synthetic faces the given recogniser takes for a training person.

    Its power on real people is measured first: without power there is no other number, and a note
    says so. Images of other channels than grey or colours, and too few known people, have no
    number.
    """
    measured = PartResult()
    synthetic, space = part_input.require_synthetic(), part_input.find_recogniser()
    if space is None:
        measured.notes.append("recogniser: no network was given; give one with --space")
        return measured
    found = try_measure(measured, "recogniser", lambda: _compare_real(part_input, space))
    if found is None:
        return measured

    # Its power; without it, no alarm
    power = measure_power(found.pairs)
    people = found.pairs.train.people.count + found.pairs.test.people.count
    measured.records.append(Record.of("recogniser.auc", power, people, "people"))
    if power.value < MIN_AUC:
        measured.notes.append(
            f"recogniser: the space {space.name} has no power on these faces (AUC "
            f"{power.value:.2f} of pairs of one person against pairs of different people, "
            f"{MIN_AUC} is needed), so no alarm is raised from it"
        )
        return measured
    _measure_shown(measured, part_input.train, synthetic, space, found)
    return measured


def _compare_real(part_input: PartInput, space: Space) -> RealSides:
    """Return the real faces; raise DataError if too few people are known."""
    # Images of known people: of each up to three clips, and of nobody on both sides
    train, test = part_input.train, part_input.test
    if train.channels:
        raise DataError(
            f"the space {space.name} needs grey images or colours; these faces show "
            f"{', '.join(train.channels[:4])}"
        )
    chosen = [_choose_images(train, np.ones(len(train), dtype=bool))]
    unseen = ~test.index["subject"].isin(set(train.index["subject"])).to_numpy()
    chosen.append(_choose_images(test, unseen))
    counts = [
        len(set(faces.index["subject"].iloc[positions]))
        for faces, positions in zip((train, test), chosen, strict=True)
    ]
    if min(counts) < MIN_RECOGNISER_PEOPLE:
        raise DataError(
            f"{MIN_RECOGNISER_PEOPLE} known people are needed on each side; there are "
            f"{counts[0]} training people and {counts[1]} held-out people"
        )

    # Their vectors, and the pairs that show the power
    sides = []
    for faces, positions in zip((train, test), chosen, strict=True):
        index = faces.index.iloc[positions]
        vectors = space.extract(np.asarray(faces.images)[positions])
        sides.append(RealFaces.of(vectors, list(index["subject"]), list(index["dataset"])))
    pairs = RealPairs.of(sides[0], sides[1])
    if pairs.people_with_pairs < MIN_RECOGNISER_PEOPLE:
        raise DataError(
            f"{MIN_RECOGNISER_PEOPLE} people with images of two clips are needed; there are "
            f"{pairs.people_with_pairs}"
        )
    return RealSides(sides[0], sides[1], pairs, chosen[0])


def _measure_shown(
    measured: PartResult, train: Faces, synthetic: Faces, space: Space, real: RealSides
) -> None:
    """Add the shares of synthetic and held-out images beyond each threshold, rows and strips."""
    # The most similar training image of each synthetic and each held-out image
    looked_at = np.sort(OrderedSide.of(synthetic).order[:MAX_RECOGNISED])
    vectors = space.extract(np.asarray(synthetic.images)[looked_at])
    similar, nearest = find_most_similar(vectors, real.train.vectors)
    floor, _ = find_most_similar(real.test.vectors, real.train.vectors)
    groups = SyntheticGroups.of(real.train.people.codes[nearest].astype(str))

    # The shares beyond the thresholds that so many pairs can resolve, the smallest last
    gap, alarm = None, np.zeros(len(similar), dtype=bool)
    for share in sorted(LEVELS, reverse=True):
        threshold = find_threshold(real.pairs, share)
        if threshold is None:
            continue
        metric = f"recogniser.shown_{LEVEL_NAMES[share]}"
        alarm, of_others = exceed(similar, threshold), exceed(floor, threshold)
        shown, expected = groups.estimate_share(alarm), real.test.people.estimate_mean(of_others)
        count = len(alarm), real.test.people.count
        measured.records += [
            Record.of(metric, shown.interval, count[0], "images"),
            Record.of(f"{metric}_heldout", expected.interval, count[1], "people"),
        ]
        bound = real.test.people.bound_estimate(expected)
        gap = groups.estimate_gap(alarm, bound) if expected.value <= MAX_FLOOR else None

    # Without room for an alarm, a note in place of the number
    if gap is not None:
        measured.records.append(Record.of("recogniser.gap", gap, len(alarm), "images"))
    else:
        measured.notes.append(
            f"recogniser: in the space {space.name} no alarm can be raised: "
            f"{min(LEVELS.values())} pairs of different people are needed, and at most "
            f"{MAX_FLOOR:.0%} of the held-out faces may be as similar to a training person as "
            "hardly two people are"
        )

    # What was found of each image, and the most similar pairs
    rows = pd.DataFrame({"key": synthetic.index["key"].to_numpy()})
    rows["recognised_as"], rows["recogniser_similarity"] = "", np.nan
    rows["recogniser_alarm"] = False
    keys = train.index["key"].to_numpy()[real.positions[nearest]]
    rows.loc[looked_at, "recognised_as"] = keys
    rows.loc[looked_at, "recogniser_similarity"] = similar
    rows.loc[looked_at, "recogniser_alarm"] = alarm
    measured.rows = rows
    owners = real.train.people.codes[nearest]
    measured.picture = _draw_pairs(synthetic, train, rows.loc[looked_at], owners)


def _draw_pairs(
    synthetic: Faces, train: Faces, rows: pd.DataFrame, owners: Int[np.ndarray, " k"]
) -> Image.Image:
    """Return a sheet of the most similar pairs, one of each training person."""
    positions = {key: position for position, key in enumerate(train.index["key"])}
    worst = rows.assign(owner=owners).sort_values(
        ["recogniser_similarity", "key"], ascending=[False, True]
    )
    worst = worst.drop_duplicates("owner").head(STRIPS)
    titles, pictures = [], []
    for number, row in zip(worst.index.tolist(), worst.to_dict("records"), strict=True):
        titles.append(f"{row['recogniser_similarity']:.3f}  {row['key']}  {row['recognised_as']}")
        twin = np.asarray(train.images[positions[row["recognised_as"]]])
        pair = np.stack([np.asarray(synthetic.images[number]), twin])
        pictures.append(show_as_pictures(pair, synthetic.channels))
    return draw_rows(titles, pictures, 2, 3)


def _choose_images(faces: Faces, is_usable: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Return up to three usable images of each known person, of different clips, by person."""
    subjects = faces.index["subject"].to_numpy(dtype=str)
    positions = OrderedSide.of(faces).list_one_per_clip("")
    positions = positions[is_usable[positions] & (subjects[positions] != "")]
    positions = positions[np.argsort(subjects[positions], kind="stable")]
    _, first, counts = np.unique(subjects[positions], return_index=True, return_counts=True)
    turn = np.arange(len(positions)) - np.repeat(first, counts)
    return positions[turn < IMAGES_PER_PERSON]


PART = Part(
    measure_part,
    question="Is it new?",
    families=("recogniser",),
    meanings=RECOGNISER_MEANINGS,
    needs_held_out=True,
    needs_recogniser=True,
    picture="recogniser",
)
