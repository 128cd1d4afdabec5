"""Membership inference: do generated images reveal who was trained on?"""

import numpy as np
from jaxtyping import Float

from mien.audit.features import SpaceFeatures
from mien.audit.memorisation.people import ImagePeople
from mien.audit.memorisation.search import make_owners, match_features
from mien.stats import Interval, draw_resamples, make_interval

# share of a person's images that count: those nearest to generated images
NEAREST_SHARE = 0.1


def infer_membership(
    vectors: SpaceFeatures, members: np.ndarray, outsiders: np.ndarray
) -> Interval:
    """Return how well nearness to generated images tells training subjects from held-out ones.

    The result is an AUC with its interval over resamples of the subjects of both sides; 0.5 is
    chance. `members` and `outsiders` name the subject of each row of `vectors.train` and
    `vectors.test`. A real image scores the log of its distance to the nearest generated image over
    that to the nearest real image of another subject of either side; without the latter, usual
    faces would count as members (Watson et al. 2022, arXiv:2111.08440). A subject scores the mean
    over the tenth of its images with the lowest scores. nan unless there are two subjects on each
    side.
    """
    people = [ImagePeople.of(names) for names in (members, outsiders)]
    if min(side_people.count for side_people in people) < 2:
        return Interval(float("nan"), float("nan"), float("nan"))

    # The distance of each real image to other subjects, and to generated images
    real = np.concatenate([vectors.train, vectors.test])
    names = np.concatenate(
        [np.char.add("m", members.astype(str)), np.char.add("o", outsiders.astype(str))]
    )
    to_others = match_features(
        real, real, make_owners(names, names), positions_in_train=np.arange(len(real))
    ).distance
    numbers = np.arange(len(vectors.synthetic))
    to_synthetic = (
        match_features(real, vectors.synthetic, make_owners(numbers, numbers)).distance
        if len(numbers) > 1
        else _measure_distances_to_one(real, vectors.synthetic)
    )

    # The score of each subject
    scores = np.log(np.maximum(to_synthetic, 1e-9) / np.maximum(to_others, 1e-9))
    member, outsider = (
        _score_per_person(person_scores, side_people)
        for person_scores, side_people in zip(np.split(scores, [len(members)]), people, strict=True)
    )

    # The AUC: pairs in which the member is nearer; ties count half
    wins = (member[:, None] < outsider[None]) + (member[:, None] == outsider[None]) / 2

    # The same in resamples of the subjects of both sides
    times = [
        draw_resamples(side_people.count, "membership", name)
        for side_people, name in zip(people, ("in", "out"), strict=True)
    ]
    resampled = ((times[0] @ wins) * times[1]).sum(axis=1) / wins.size
    return make_interval(float(wins.mean()), resampled)


def _measure_distances_to_one(
    real: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "1 d"]
) -> Float[np.ndarray, " n"]:
    """Return the distance of each real image to the only generated image."""
    return np.linalg.norm(real - synthetic, axis=1)


def _score_per_person(
    scores: Float[np.ndarray, " n"], people: ImagePeople
) -> Float[np.ndarray, " people"]:
    """Return the mean of the lowest tenth of each person's scores, of at least one score."""
    order = np.lexsort((scores, people.codes))
    parts = np.split(
        scores[order], np.cumsum(np.bincount(people.codes, minlength=people.count))[:-1]
    )
    return np.array(
        [
            person_scores[: max(1, round(NEAREST_SHARE * len(person_scores)))].mean()
            for person_scores in parts
        ]
    )
