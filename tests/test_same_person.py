"""Two names for one person: people who look alike are not accused, and where nothing can be told,
that is said.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawn import look_alikes, people

from mien.audit.leakage.measure import measure_leakage
from mien.audit.leakage.names import MAX_P, count_separated, find_doubles
from mien.faces import Faces


def dealt(faces: Faces, who: str, clips: list[str], name: str) -> Faces:
    """The faces with some clips of a person under another name."""
    subjects = faces.index["subject"].where(~faces.index["clip"].isin(clips), name)
    assert set(faces.index["subject"][faces.index["clip"].isin(clips)]) == {who}
    return replace(faces, index=faces.index.assign(subject=subjects.astype("str")))


@pytest.mark.parametrize(
    ("number", "group", "clips", "sessions"),
    [
        (30, 3, (2, 3), 0),
        (24, 2, (3, 5), 0),
        (40, 1, (2, 3), 0),
        (24, 1, (2, 3), 3),
        (40, 1, (1, 3), 0),
    ],
    ids=[
        "in threes",
        "pairs with more clips",
        "many with few clips",
        "in three lights",
        "some with one photograph",
    ],
)
def test_people_who_look_alike_are_not_taken_for_one(
    number: int, group: int, clips: tuple[int, int], sessions: int
):
    faces = look_alikes(number, group, 41, clips, sessions)
    found = find_doubles(faces)
    assert found.pairs.empty
    counts = faces.index.groupby("subject")["clip"].nunique()
    assert (found.names, found.single) == (int((counts > 1).sum()), int((counts == 1).sum()))


def test_where_people_look_alike_it_is_said_that_nothing_can_be_told():
    faces = look_alikes(24, 3, 5)
    held = faces.index["subject"].isin(sorted(faces.subjects)[:6]).to_numpy()
    told = [
        one
        for one in measure_leakage(faces.select(~held), faces.select(held)).findings
        if "two names" in one.kind
    ]
    assert [one.severity for one in told] == ["note"] and "cannot tell: of 24 people" in told[
        0
    ].what
    assert "more clips of each person would help" in told[0].what


def test_people_with_one_photograph_cannot_be_told_and_that_is_said():
    faces = look_alikes(20, 1, 6, (1, 1))
    found = find_doubles(faces)
    assert (
        found.pairs.empty
        and found.is_inconclusive
        and (found.names, found.single, found.divided) == (0, 20, 0)
    )
    told = [
        one.what
        for one in measure_leakage(
            faces.select(np.arange(10)), faces.select(np.arange(10, 20))
        ).findings
    ]
    assert len(told) == 1 and told[0].startswith(
        "cannot tell: 0 people have two clips or photographs or more"
    )


def test_two_people_with_two_names_each_are_both_found_and_nobody_else():
    faces = people(range(12), frames=1, size=48, seed=4)
    for who in ("s02", "s09"):
        clips = [f"drawn:{who}/c{clip}" for clip in (1, 3, 4)]
        faces = dealt(faces, f"drawn:{who}", clips, f"drawn:another-{who}")
    found = find_doubles(faces)
    pairs = {frozenset(pair) for pair in found.pairs[["a", "b"]].to_numpy().tolist()}
    assert pairs == {frozenset({f"drawn:another-{who}", f"drawn:{who}"}) for who in ("s02", "s09")}
    assert (found.pairs["p"] < MAX_P).all() and (
        found.pairs["distance"] < found.pairs["nearest"] / 3
    ).all()
    assert not found.is_inconclusive


def test_the_order_of_images_and_repeated_images_change_nothing():
    faces = dealt(
        people(range(10), frames=1, size=48, seed=4),
        "drawn:s02",
        ["drawn:s02/c1", "drawn:s02/c4"],
        "d:x",
    )
    mixed = faces.select(np.random.default_rng(0).permutation(len(faces)))
    first, other = find_doubles(faces), find_doubles(mixed, faces.select(np.arange(9)))
    pd.testing.assert_frame_equal(first.pairs, other.pairs)
    assert (first.divided, first.found) == (other.divided, other.found)


def test_frames_of_an_unmarked_clip_count_once():
    faces = people(range(8), clips=1, frames=4, size=48)
    loose = replace(faces, index=faces.index.assign(clip=pd.Series([""] * len(faces), dtype="str")))
    assert find_doubles(loose).names == 8 and find_doubles(loose).found <= find_doubles(faces).found


def test_distances_of_different_people_stand_apart_no_oftener_than_said():
    rng = np.random.default_rng(3)
    told = [count_separated(np.sort(rng.exponential(size=190))[::-1])[0] > 0 for _ in range(400)]
    assert np.mean(told) <= 2 * MAX_P
