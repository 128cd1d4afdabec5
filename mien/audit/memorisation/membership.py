"""Membership inference: do generated images reveal who was trained on?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial.distance import cdist

from mien.audit.features import SpaceFeatures
from mien.audit.memorisation.people import ImagePeople
from mien.audit.memorisation.search import make_owners, match_features
from mien.stats import Interval, draw_resamples, make_interval

# share of a person's images that count: those nearest to generated images
NEAREST_SHARE = 0.1


# false positives at which the true positives are counted, and the held-out images that are needed
FALSE_SHARES = {0.01: 100, 0.05: 20}

MIN_PEOPLE_COMPARED = 20  # people on each side that a comparison by person needs


@dataclass(frozen=True)
class MembershipScores:
    """How much training images and held-out images look like training images, and whom they show.

    The more an image looks like one, the higher is its score.
    """

    members: Float[np.ndarray, " n"]
    outsiders: Float[np.ndarray, " m"]
    member_people: np.ndarray
    outsider_people: np.ndarray


def measure_auc(scores: MembershipScores) -> Interval:
    """Return the AUC of the scores by image, with its interval over resamples of people.

    It is the chance that a training image has a higher score than a held-out one; 0.5 is chance.
    The interval is nan unless there are two people on each side.
    """
    wins = _compare_scores(scores.members, scores.outsiders)
    sides = [ImagePeople.of(names.astype(str)) for names in _name_both(scores)]
    value = float(wins.mean())
    if min(side.count for side in sides) < 2:
        return Interval(value, float("nan"), float("nan"))

    # The wins of each pair of people, summed in resamples of the people
    by_member = np.zeros((sides[0].count, len(scores.outsiders)))
    np.add.at(by_member, sides[0].codes, wins)
    by_pair = np.zeros((sides[0].count, sides[1].count))
    np.add.at(by_pair.T, sides[1].codes, by_member.T)
    sizes = [np.bincount(side.codes, minlength=side.count) for side in sides]
    times = [
        draw_resamples(side.count, "membership images", name)
        for side, name in zip(sides, ("in", "out"), strict=True)
    ]
    total = (times[0] @ sizes[0]) * (times[1] @ sizes[1])
    return make_interval(value, ((times[0] @ by_pair) * times[1]).sum(axis=1) / total)


def measure_auc_of_people(scores: MembershipScores) -> Interval | None:
    """Return the AUC of the mean score of each person; None unless 20 people are on each side."""
    sides = [ImagePeople.of(names.astype(str)) for names in _name_both(scores)]
    if min(side.count for side in sides) < MIN_PEOPLE_COMPARED:
        return None
    means = [
        np.bincount(side.codes, values, side.count) / np.bincount(side.codes)
        for side, values in zip(sides, (scores.members, scores.outsiders), strict=True)
    ]
    names = [np.arange(side.count) for side in sides]
    return measure_auc(MembershipScores(means[0], means[1], names[0], names[1]))


def measure_found(scores: MembershipScores, false_share: float) -> float | None:
    """Return the share of training images that are found at a share of false positives.

    It is None if so small a share cannot be resolved: 1 % needs 100 held-out images, 5 % needs 20.
    """
    if len(scores.outsiders) < FALSE_SHARES[false_share]:
        return None
    limit = np.quantile(scores.outsiders, 1 - false_share, method="higher")
    return float((scores.members > limit).mean())


def score_density(
    synthetic: Float32[np.ndarray, "k d"],
    members: Float32[np.ndarray, "n d"],
    outsiders: Float32[np.ndarray, "m d"],
    member_people: np.ndarray,
    outsider_people: np.ndarray,
) -> MembershipScores:
    """Return the log ratio of two densities at each real image: of synthetic and of real images.

    That is what somebody can know who has only the published images, and others of the same source
    (DOMIAS, van Breugel et al. 2023, arXiv:2302.12580). The real images are those of held-out
    people, for a held-out image without its own person. Both densities are those of the nearest
    neighbour, so the ratio is the log of the distance to the nearest real image over that to the
    nearest synthetic one: sums of Gaussians are too wide to see single images.
    """
    is_own = outsider_people[:, None] == outsider_people[None]
    to_real = [cdist(members, outsiders), np.where(is_own, np.inf, cdist(outsiders, outsiders))]
    to_synthetic = [cdist(rows, synthetic) for rows in (members, outsiders)]
    ratios = [
        np.log(np.maximum(real.min(axis=1), 1e-9) / np.maximum(made.min(axis=1), 1e-9))
        for real, made in zip(to_real, to_synthetic, strict=True)
    ]
    return MembershipScores(ratios[0], ratios[1], member_people, outsider_people)


def _name_both(scores: MembershipScores) -> tuple[np.ndarray, np.ndarray]:
    return scores.member_people, scores.outsider_people


def _compare_scores(
    members: Float[np.ndarray, " n"], outsiders: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "n m"]:
    """Return 1 for each pair in which the member's score is higher, 0.5 if they are equal."""
    return (members[:, None] > outsiders[None]) + (members[:, None] == outsiders[None]) / 2


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
    wins = _compare_scores(-member, -outsider)

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
