"""Membership inference: whether the generated images tell which people the generator was trained
on.
"""

import numpy as np
from jaxtyping import Float

from mien.audit.people import People
from mien.audit.search import match, owners
from mien.features import Sides
from mien.stats import Interval, around, draws

# share of a person's images, those that generated ones come nearest to, that speak for them
NEAREST = 0.1


def inference(sides: Sides, members: np.ndarray, others: np.ndarray) -> Interval:
    """Return how well nearness to generated images tells training subjects from held-out ones: an
    AUC with interval.

    `members` and `others` name the subject of each row of `sides.train` and `sides.test`. A real
    image scores the log of its distance to the nearest generated one, over that to the nearest real
    one of another subject of either side, without which usual faces would pass for members (Watson
    et al. 2022, arXiv:2111.08440). A subject scores the mean over the nearest tenth of its images.
    0.5 is chance; the interval is over draws of the subjects of both sides. nan unless there are
    two on each.
    """
    people = [People.of(names) for names in (members, others)]
    if min(side.count for side in people) < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    real = np.concatenate([sides.train, sides.test])
    names = np.concatenate(
        [np.char.add("m", members.astype(str)), np.char.add("o", others.astype(str))]
    )
    usual = match(real, real, owners(names, names), own=np.arange(len(real))).distance
    each = np.arange(len(sides.made))
    near = (
        match(real, sides.made, owners(each, each)).distance
        if len(each) > 1
        else _to_one(real, sides.made)
    )
    scores = np.log(np.maximum(near, 1e-9) / np.maximum(usual, 1e-9))
    member, other = (
        _per_person(part, side)
        for part, side in zip(np.split(scores, [len(members)]), people, strict=True)
    )
    wins = (member[:, None] < other[None]) + (member[:, None] == other[None]) / 2
    times = [
        draws(side.count, "membership", name)
        for side, name in zip(people, ("in", "out"), strict=True)
    ]
    drawn = ((times[0] @ wins) * times[1]).sum(axis=1) / wins.size
    return around(float(wins.mean()), drawn)


def _to_one(
    real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "1 d"]
) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(real - made, axis=1)


def _per_person(scores: Float[np.ndarray, " n"], people: People) -> Float[np.ndarray, " people"]:
    """Return the mean of the lowest tenth of each person's scores, of one at least."""
    order = np.lexsort((scores, people.codes))
    parts = np.split(
        scores[order], np.cumsum(np.bincount(people.codes, minlength=people.count))[:-1]
    )
    return np.array([part[: max(1, round(NEAREST * len(part)))].mean() for part in parts])
