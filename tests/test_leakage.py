"""Leakage: what a test set shares with training is found, named and counted, and nobody is accused
without cause.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn import FOUR, people

from mien.audit.leakage.duplicates import find_duplicates
from mien.audit.leakage.measure import list_forbidden_ways, measure_leakage
from mien.audit.leakage.names import find_doubles
from mien.classifiers.baselines import Nearest
from mien.errors import DataError
from mien.faces import Faces, concatenate, make_index
from mien.prepare.splits import measure_overlap, split
from mien.seeds import make_rng


@pytest.fixture(scope="module")
def everyone() -> Faces:
    """Ten drawn people with six clips of two frames each."""
    return people(range(10), frames=2, size=64)


@pytest.fixture(scope="module")
def sides(everyone: Faces) -> tuple[Faces, Faces]:
    return halves(everyone)


def halves(faces: Faces) -> tuple[Faces, Faces]:
    """Seven people to train on, three to test."""
    test = faces.index["subject"].isin([f"drawn:s{who:02d}" for who in (0, 4, 7)]).to_numpy()
    return faces.select(~test), faces.select(test)


def where(faces: Faces, column: str, value: str) -> np.ndarray:
    return (faces.index[column] == value).to_numpy()


def changed(faces: Faces, images: np.ndarray, **columns: Any) -> Faces:
    """The same rows with other pixels, as an index would hold them."""
    import hashlib

    content = [
        hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images
    ]
    index = faces.index.assign(sha256=content, **columns).astype(faces.index.dtypes)
    return Faces(np.ascontiguousarray(images), index)


def planted(train: Faces, test: Faces, images: np.ndarray, number: int = 5) -> Faces:
    """The test side with copies of training images, as `number` more photographs of a stranger."""
    rows = np.arange(number)
    part = train.select(rows)
    keys = [f"drawn/planted/{row}" for row in rows]
    return concatenate([test, changed(part, images, key=keys, subject="drawn:stranger", clip="")])


def moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    wide = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    return wide[:, :, 2 - down : wide.shape[2] - 2 - down, 2 - right : wide.shape[3] - 2 - right]


def halved(images: np.ndarray) -> np.ndarray:
    n, c, h, w = images.shape
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5)).astype(np.uint8)


CHANGES = {
    "exact": lambda images: images,
    "mirrored": lambda images: images[..., ::-1],
    "moved": lambda images: moved(images, 1, -1),
    "noisy": lambda images: images + make_rng("noise").normal(0, 8, images.shape),
    "brighter": lambda images: images * 1.2 + 10,
    "mirrored, moved and noisy": lambda images: (
        moved(images, 0, 1)[..., ::-1] + make_rng("n").normal(0, 5, images.shape)
    ),
}


def test_people_kept_apart_are_not_said_to_leak(sides: tuple[Faces, Faces]):
    found = measure_leakage(*sides)
    assert (
        found.affected == 0
        and found.findings == ()
        and not len(found.pairs)
        and not len(found.people)
    )
    assert found.find_value("affected") == 0 and found.find_value("nearest") == found.find_value(
        "nearest_unaffected"
    )


def test_one_subject_on_both_sides_is_named(everyone: Faces, sides: tuple[Faces, Faces]):
    train, test = sides
    leaked = np.flatnonzero(where(train, "subject", "drawn:s03"))[:6]
    rest = np.setdiff1d(np.arange(len(train)), leaked)
    more = concatenate([test, train.select(leaked)])
    found = measure_leakage(train.select(rest), more)
    assert found.find_value("subjects") == 6 / 42 and found.affected == 6
    assert [finding.where for finding in found.findings if finding.kind == "shared subjects"] == [
        "drawn:s03"
    ]
    assert set(found.rows["key"][found.rows["affected"]]) == set(train.index["key"].iloc[leaked])
    expected = measure_overlap(train.select(rest), more)
    assert (
        found.find_value("subjects") == expected["subjects_share"]
        and found.find_value("clips") == expected["clips_share"]
    )


def test_a_random_split_of_frames_leaks_everything_and_remembering_is_right(everyone: Faces):
    part = split(everyone, "frame", 4, 0, 0)
    train, test = everyone.select(part.train), everyone.select(part.test)
    found = measure_leakage(train, test)
    assert (
        found.find_value("subjects") == 1
        and found.find_value("affected") == 1
        and found.find_value("frames") == 0
    )
    assert (
        found.find_value("clips") > 0.5
        and found.find_value("near") > 0.5
        and found.find_value("nearest") > 0.8
    )
    assert np.isnan(found.find_value("nearest_unaffected"))


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_training_images_are_found_however_they_were_changed(
    sides: tuple[Faces, Faces], change: str
):
    train, test = sides
    images = np.clip(CHANGES[change](train.images[:5].astype(float)), 0, 255).astype(np.uint8)
    more = planted(train, test, images)
    pairs = find_duplicates(more, train)
    assert set(pairs["test"]) == {f"drawn/planted/{row}" for row in range(5)}
    origin = dict(zip(more.index["key"].iloc[-5:], train.index["clip"], strict=False))
    clips = dict(zip(train.index["key"], train.index["clip"], strict=True))
    own = pairs[pairs["test"].map(origin) == pairs["train"].map(clips)]
    assert own["test"].nunique() == 5 and own["mirrored"].all() == ("mirrored" in change)
    assert (own["kind"] == "exact").sum() == (5 if change == "exact" else 0)


def test_copies_are_counted_and_taken_out_of_what_remembering_scores(sides: tuple[Faces, Faces]):
    train, test = sides
    found = measure_leakage(train, planted(train, test, np.asarray(train.images[:5])))
    assert found.find_value("exact") == 5 / 41 and found.affected == 5
    answers = Nearest(train, train.classes).predict(test).argmax(axis=1)
    clean = answers == test.number_labels(train.classes)
    assert found.find_value("nearest_unaffected") == pytest.approx(clean.mean())
    assert found.find_value("nearest") == pytest.approx((clean.sum() + 5) / 41)
    assert found.find_value("nearest_gap") == pytest.approx(
        found.find_value("nearest") - clean.mean()
    )
    interval = next(one for one in found.records if one.metric == "leakage.nearest")
    assert (
        interval.low is not None
        and interval.high is not None
        and interval.low <= interval.value <= interval.high
    )


def test_one_picture_with_two_labels_is_told(sides: tuple[Faces, Faces]):
    train, test = sides
    more = planted(train, test, np.asarray(train.images[:5]))
    index = more.index.copy()
    index.loc[len(test), "emotion"] = next(
        name for name in train.classes if name != index["emotion"].iloc[len(test)]
    )
    found = measure_leakage(train, Faces(more.images, index))
    assert [one.what for one in found.findings if one.kind == "one picture, two labels"] == [
        "1 test image has another label in training"
    ]


@pytest.mark.parametrize("who", [1, 4, 8])
def test_a_person_whose_name_was_split_in_two_is_found(everyone: Faces, who: int):
    name = f"drawn:s{who:02d}"
    half = [f"{name}/c{clip}" for clip in (0, 2, 5)]
    renamed = where(everyone, "subject", name) & everyone.index["clip"].isin(half).to_numpy()
    subjects = np.where(renamed, "drawn:other", everyone.index["subject"])
    faces = Faces(everyone.images, everyone.index.assign(subject=pd.Series(subjects, dtype="str")))
    table = find_doubles(faces).pairs
    assert table[["a", "b"]].to_numpy().tolist() == [["drawn:other", name]]
    found = measure_leakage(faces.select(~renamed), faces.select(renamed))
    assert (
        found.find_value("two_names") == 1
        and found.find_value("renamed") == 1
        and found.find_value("subjects") == 0
    )
    assert any(
        one.kind == "two names" and f"drawn:other (test) = {name} (train)" in one.where
        for one in found.findings
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_distinct_people_are_not_taken_for_one(seed: int):
    faces = people(range(10), clips=1, frames=1, size=48, seed=seed, emotions=FOUR)
    assert (
        find_doubles(faces).pairs.empty and find_duplicates(faces, faces, other_people=True).empty
    )


def test_people_of_single_photographs_are_not_accused(everyone: Faces):
    first = everyone.index.groupby("subject").head(1).index.to_numpy()
    faces = everyone.select(first)
    assert find_doubles(faces).pairs.empty and find_doubles(faces.select(np.arange(0))).pairs.empty


def test_a_picture_under_two_names_is_told(sides: tuple[Faces, Faces]):
    train, test = sides
    found = measure_leakage(train, planted(train, test, np.asarray(train.images[:1]), 1))
    told = [one for one in found.findings if one.kind == "two names"]
    assert len(told) == 1 and "1 picture has both names" in told[0].what
    assert found.find_value("renamed") == 0  # one picture is no proof about the others


def test_a_picture_is_told_although_its_own_person_has_it_too(sides: tuple[Faces, Faces]):
    train, _ = sides
    shown = planted(train, train, np.asarray(train.images[:1]), 1)
    asked = changed(shown.select(np.array([len(shown) - 1])), train.images[:1], key=["drawn/again"])
    pairs = find_duplicates(asked, shown, other_people=True)
    assert pairs["train_subject"].iloc[0] == "drawn:s01" and pairs["kind"].iloc[0] == "exact"


def test_noise_accuses_nobody():
    images = make_rng("noise").integers(0, 256, (90, 1, 16, 16)).astype(np.uint8)
    keys, subjects = [f"{row}" for row in range(90)], [f"s{row % 30}" for row in range(90)]
    faces = Faces(images, make_index(images, key=keys, subject=subjects, emotion="fear"))
    assert (
        find_doubles(faces).pairs.empty and find_duplicates(faces, faces, other_people=True).empty
    )


def test_what_counts_as_seen_depends_on_what_the_split_keeps_apart(everyone: Faces):
    part = split(everyone, "clip", 4, 0, 0)
    train, test = everyone.select(part.train), everyone.select(part.test)
    by_subject, by_clip = measure_leakage(train, test), measure_leakage(train, test, "clip")
    assert by_subject.affected == len(test) and by_clip.affected < len(test)
    assert "subjects" not in list_forbidden_ways("clip") and list_forbidden_ways("frame") == [
        "frames",
        "exact",
    ]
    kinds = {one.kind: one.severity for one in by_clip.findings}
    assert kinds["shared subjects"] == "note"


def test_equal_names_in_two_datasets_are_doubted(sides: tuple[Faces, Faces]):
    train, test = sides
    names = test.index["subject"].str.replace("drawn:s00", "copy:s01")
    found = measure_leakage(
        train, Faces(test.images, test.index.assign(subject=names.astype("str")))
    )
    told = [one for one in found.findings if one.kind == "equal names"]
    assert [one.where for one in told] == ["drawn:s01 = copy:s01"] and "--one-dataset" in told[
        0
    ].what


def test_unknown_people_are_said(sides: tuple[Faces, Faces]):
    train, test = sides
    nobody = Faces(test.images, test.index.assign(subject=pd.Series([""] * len(test), dtype="str")))
    told = [
        one.what
        for one in measure_leakage(train, nobody).findings
        if one.kind == "unknown subjects"
    ]
    assert told and told[0].startswith("the subject of 36 of 36 test images (100.0 %) is not known")


def test_the_order_of_rows_and_the_size_of_one_side_change_nothing_much(sides: tuple[Faces, Faces]):
    train, test = sides
    more = planted(train, test, np.asarray(train.images[:5])[..., ::-1])
    mixed = measure_leakage(
        train.select(make_rng("a").permutation(len(train))),
        more.select(make_rng("b").permutation(len(more))),
    )
    straight = measure_leakage(train, more)
    assert mixed.records == straight.records
    pd.testing.assert_frame_equal(mixed.pairs, straight.pairs)
    small = changed(more, np.repeat(halved(more.images), 3, axis=1))
    assert set(find_duplicates(small, train)["test"]) == {
        f"drawn/planted/{row}" for row in range(5)
    }
    assert measure_leakage(train, small).find_value("mirrored") == 5 / 41


def test_synthetic_training_images_stand_for_what_their_generator_saw(sides: tuple[Faces, Faces]):
    train, test = sides
    made = changed(
        train,
        255 - np.asarray(train.images),
        key=[f"m/{k}" for k in range(len(train))],
        source="edm-0123456789ab",
        subject="",
        clip="",
    )
    seen = pd.DataFrame({"key": [""], "subject": ["drawn:s04"], "clip": [""]}, dtype="str")
    found = measure_leakage(Faces(made.images, made.index, seen), test)
    assert found.find_value("subjects") == 12 / 36 and found.find_value("near") == 0


def test_an_empty_side_is_refused(sides: tuple[Faces, Faces]):
    train, test = sides
    with pytest.raises(DataError, match="the test side needs images"):
        measure_leakage(train, test.select(np.arange(0)))
    with pytest.raises(DataError, match="the training side needs images"):
        measure_leakage(train.select(np.arange(0)), test)
    assert find_duplicates(test.select(np.arange(0)), train).empty
