"""Fidelity of a database: better is nearer, smallness is no distance, and people are drawn, not
frames.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import pytest
from drawn import people

from mien.audit import distances, fidelity
from mien.audit.features import SpaceFeatures, Vectors
from mien.faces import Faces, concatenate
from mien.stats import Record

SIDES = {"train": range(20), "test": range(20, 30), "made": range(30, 50)}


@cache
def side(name: str) -> Faces:
    """The faces of one side, drawn when a test first needs them."""
    return people(SIDES[name], clips=1, size=16)


def renamed(faces: Faces, lead: str) -> Faces:
    """The same images under other keys, belonging to no clip and nobody, as synthetic ones do."""
    nobody = {name: pd.Series([""] * len(faces), dtype="str") for name in ("subject", "clip")}
    return Faces(
        faces.images,
        faces.index.assign(key=[f"{lead}/{key}" for key in faces.index["key"]], **nobody),
    )


def noisy(faces: Faces, size: float) -> Faces:
    noise = np.random.default_rng(0).normal(0, size, faces.images.shape)
    return Faces((faces.images + noise).clip(0, 255).astype(np.uint8), faces.index)


def flat(faces: Faces) -> Vectors:
    return faces.images.reshape(len(faces), -1).astype(np.float32) / 255


def measured(
    made: Faces, train: Faces | None = None, test: Faces | None = None
) -> Mapping[tuple[str, str], Record]:
    train = side("train") if train is None else train
    test = side("test") if test is None else test
    sides = SpaceFeatures(flat(train), flat(test), flat(made))
    found = fidelity.measure_fidelity(train, test, made, {"pixels": sides})
    return {(one.metric.removesuffix(".pixels"), one.part): one for one in found}


@pytest.fixture(scope="module")
def unseen() -> Mapping[tuple[str, str], Record]:
    return measured(side("made"))


def test_unseen_people_are_as_far_as_unseen_people_are(unseen: Mapping[tuple[str, str], Record]):
    for metric in ("fidelity.frechet", "fidelity.kernel"):
        value, held = unseen[metric, ""], unseen[f"{metric}_heldout", ""]
        assert value.value < 2 * held.value and value.n == held.n == 90
    assert unseen["fidelity.frechet_floor", ""].value < unseen["fidelity.frechet", ""].value
    assert abs(unseen["fidelity.kernel_floor", ""].value) < unseen["fidelity.kernel", ""].value


def test_noise_takes_faces_away_from_real_ones(unseen: Mapping[tuple[str, str], Record]):
    found = measured(noisy(side("made"), 60))
    assert found["fidelity.frechet", ""].value > 1.5 * unseen["fidelity.frechet", ""].value
    assert found["fidelity.precision", ""].value < 0.1 < unseen["fidelity.precision", ""].value


def test_one_face_again_and_again_has_no_variety(unseen: Mapping[tuple[str, str], Record]):
    one = people(range(30, 31), clips=1, size=16)
    found = measured(concatenate([renamed(noisy(one, 2), str(number)) for number in range(20)]))
    for metric in ("variety.coverage", "variety.vendi"):
        assert found[metric, ""].value < 0.5 * unseen[metric, ""].value
    assert found["variety.similarity", ""].value > 0.5 > unseen["variety.similarity", ""].value
    assert found["variety.vendi", "surprise"].value < 3


def test_each_class_has_its_own_numbers_and_few_images_none(
    unseen: Mapping[tuple[str, str], Record],
):
    assert {part for _, part in unseen} == {"", "disgust", "happiness", "surprise"}
    few = side("made").select(
        np.flatnonzero((side("made").index["emotion"] != "surprise").to_numpy())[:120]
    )
    some = concatenate(
        [
            few,
            side("made").select(
                np.flatnonzero((side("made").index["emotion"] == "surprise").to_numpy())[:9]
            ),
        ]
    )
    assert {part for _, part in measured(some)} == {"", "disgust", "happiness"}


def test_without_people_never_seen_in_a_class_it_still_has_floor_and_distance():
    test = side("test").select((side("test").index["emotion"] != "surprise").to_numpy())
    found = measured(side("made"), test=test)
    assert ("fidelity.frechet", "surprise") in found and (
        "fidelity.frechet_floor",
        "surprise",
    ) in found
    assert ("fidelity.frechet_heldout", "surprise") not in found


def test_the_numbers_do_not_hang_on_the_order_of_rows(unseen: Mapping[tuple[str, str], Record]):
    mixed = side("made").select(np.random.default_rng(0).permutation(len(side("made"))))
    found = measured(mixed)
    for key, one in unseen.items():
        assert found[key].value == pytest.approx(one.value, rel=1e-3, abs=1e-4)


def test_intervals_draw_people_not_frames():
    """Ten times as many frames of the same people say no more about people."""
    wide = {}
    for frames in (2, 12):
        train, test = (
            people(range(8), clips=1, frames=frames, size=16),
            people(range(8, 12), clips=1, frames=frames, size=16),
        )
        one = measured(people(range(20, 24), clips=1, frames=frames, size=16), train, test)[
            "fidelity.frechet", ""
        ]
        assert one.low is not None and one.high is not None and one.low <= one.value <= one.high
        wide[frames] = (one.high - one.low) / one.value
    assert wide[12] > 0.6 * wide[2]


@pytest.mark.parity
def test_the_vendi_score_is_that_of_the_whole_matrix_and_counts_what_is_different():
    rows = np.random.default_rng(0).normal(size=(12, 40)).astype(np.float32)
    ways = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(ways.astype(np.float64) @ ways.T / 12)
    expected = np.exp(-sum(value * np.log(value) for value in values if value > 0))
    assert distances.compute_vendi_score(rows, np.zeros(40)) == pytest.approx(expected, rel=1e-5)
    assert distances.compute_vendi_score(np.concatenate([rows] * 9), np.zeros(40)) == pytest.approx(
        expected, rel=1e-5
    )
    assert distances.compute_vendi_score(np.eye(7, dtype=np.float32), np.zeros(7)) == pytest.approx(
        7
    )
    assert distances.compute_vendi_score(np.ones((5, 3), np.float32), np.zeros(3)) == pytest.approx(
        1
    )


@pytest.mark.parity
def test_similarity_is_the_mean_cosine_of_pairs():
    rows = np.random.default_rng(0).normal(1, 1, size=(9, 5)).astype(np.float32)
    pairs = [
        a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
        if i != j
    ]
    assert distances.compute_mean_similarity(rows, np.zeros(5)) == pytest.approx(
        np.mean(pairs), rel=1e-5
    )


def test_people_are_the_unit_where_they_are_known_else_clips_else_images():
    faces = people(range(3), clips=2, frames=2)
    places = np.arange(len(faces))
    for lost, units in (([], 3), (["subject"], 18), (["subject", "clip"], 36)):
        index = faces.index.assign(
            **{name: pd.Series([""] * len(faces), dtype="str") for name in lost}
        )
        weights = fidelity.OrderedSide.of(Faces(faces.images, index)).resample(places, "x")
        assert (weights.sum(axis=1) % (len(faces) / units) == 0).all()
        assert len(np.unique(weights, axis=1).T) == units
