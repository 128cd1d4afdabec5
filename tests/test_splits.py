"""Splits: parts cover everything, groups stay whole, and what was seen is found out."""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import DataError, LeakageError, SpecError, UsageError
from mien.faces import EMOTIONS, Faces, make_index
from mien.prepare.specs import SplitSpec, Unit
from mien.prepare.splits import (
    find_missing_classes,
    measure_overlap,
    require_unseen,
    run_split,
    split,
)
from mien.runs.spec import Spec, read_spec
from mien.runs.store import Store
from mien.spellings import identify_person

BYS: tuple[Unit, ...] = ("frame", "clip", "subject")


def faces_of(
    rows: list[tuple[str, str, int, str]], source: str = "real", seen: pd.DataFrame | None = None
) -> Faces:
    """Rows are subject, clip, number of frames, emotion."""
    table = [(s, c, k, e) for s, c, frames, e in rows for k in range(frames)]
    images = np.zeros((len(table), 1, 8, 8), np.uint8)
    index = make_index(
        images,
        key=[f"{s}/{c}/{k}/{place if not c else ''}" for place, (s, c, k, _) in enumerate(table)],
        subject=[row[0] for row in table],
        clip=[f"{row[0]}/{row[1]}" if row[1] else "" for row in table],
        frame=[row[2] for row in table],
        emotion=[row[3] for row in table],
        source=source,
    )
    return Faces(images, index, seen)


def some_faces(seed: int, subjects: int = 8, clips: int = 40) -> Faces:
    rng = np.random.default_rng(seed)
    owners = [*range(subjects), *rng.integers(0, subjects, clips - subjects)]
    emotions = [EMOTIONS[int(k)] for k in rng.choice([2, 3, 4, 7], clips, p=[0.3, 0.1, 0.2, 0.4])]
    return faces_of(
        [(f"s{s}", f"c{k}", int(rng.integers(1, 9)), emotions[k]) for k, s in enumerate(owners)]
    )


def known(faces: Faces) -> pd.DataFrame:
    return pd.DataFrame(faces.index, columns=["key", "subject", "clip"])


def column(faces: Faces, by: Unit) -> np.ndarray:
    return np.asarray(faces.index["key" if by == "frame" else by], dtype=object)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(BYS), st.integers(2, 8), st.integers(0, 5))
def test_parts_are_disjoint_cover_everything_and_cross_no_group(
    seed: int, by: Unit, folds: int, draw: int
):
    faces = some_faces(seed)
    parts = [split(faces, by, folds, number, draw) for number in range(folds)]
    assert np.array_equal(sum(part.test.astype(int) for part in parts), np.ones(len(faces)))
    for part in parts:
        assert np.array_equal(part.train, ~part.test) and part.test.any()
        assert set(column(faces, by)[part.train]).isdisjoint(column(faces, by)[part.test])


# Photographs and clips, with one subject who is spelled in two ways.
TABLES = st.lists(
    st.tuples(
        st.sampled_from(["1", "01", "2", "10", "anna"]),
        st.sampled_from(["", "a", "b", "c"]),
        st.integers(1, 4),
        st.sampled_from(EMOTIONS),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[:2] if row[1] else row,
)


@settings(max_examples=150, deadline=None)
@given(TABLES, st.sampled_from(BYS), st.integers(2, 5), st.integers(0, 3))
def test_no_unit_of_any_table_is_on_both_sides(
    rows: list[tuple[str, str, int, str]], by: Unit, folds: int, seed: int
):
    faces = faces_of(rows)
    try:
        sides = [split(faces, by, folds, number, seed) for number in range(folds)]
    except DataError as error:
        assert f"need as many {by}s" in str(error)  # too few units for so many folds
        return
    index = faces.index
    persons = [identify_person(subject) for subject in index["subject"]]
    of_clips = index["clip"].where(index["clip"] != "", index["key"])
    units = {"frame": index["key"], "clip": of_clips, "subject": persons}[by]
    for fold in sides:
        assert np.array_equal(fold.train, ~fold.test) and fold.train.any() and fold.test.any()
        assert set(np.asarray(units)[fold.train]).isdisjoint(np.asarray(units)[fold.test])
    assert np.array_equal(sum(fold.test.astype(int) for fold in sides), np.ones(len(faces)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(BYS))
def test_the_order_of_rows_plays_no_part(seed: int, by: Unit):
    faces = some_faces(seed)
    order = np.random.default_rng(seed).permutation(len(faces))
    straight, mixed = split(faces, by, 4, 1, 7), split(faces.select(order), by, 4, 1, 7)
    assert np.array_equal(straight.test[order], mixed.test)


@pytest.mark.parametrize("by", BYS)
def test_another_seed_makes_other_folds(by: Unit):
    faces = some_faces(0, subjects=20)
    tests = {split(faces, by, 4, 0, seed).test.tobytes() for seed in range(6)}
    assert len(tests) > 3
    assert np.array_equal(split(faces, by, 4, 0, 3).test, split(faces, by, 4, 0, 3).test)


def test_folds_are_golden():
    faces = faces_of(
        [(f"s{s}", f"c{k}", 2, EMOTIONS[(s + k) % 3]) for s in range(9) for k in range(1 + s % 4)]
    )
    folds = {by: split(faces, by, 4, 1, 0).test for by in BYS}
    assert sorted(set(faces.index["subject"][folds["subject"]])) == ["s3", "s4"]
    assert sorted(set(faces.index["clip"][folds["clip"]])) == [
        "s0/c0",
        "s2/c0",
        "s2/c2",
        "s3/c2",
        "s6/c1",
    ]
    assert faces.index["key"][folds["frame"]].tolist()[:3] == ["s0/c0/1/", "s1/c0/1/", "s2/c0/1/"]


def test_random_frames_are_stratified():
    faces = faces_of(
        [("s0", "a", 500, "others"), ("s1", "b", 105, "happiness"), ("s2", "c", 7, "sadness")]
    )
    for number in range(5):
        fold = split(faces, "frame", 5, number, 0)
        counts = Counter(faces.index["emotion"][fold.test])
        assert counts["others"] == 100 and counts["happiness"] == 21 and counts["sadness"] in (1, 2)
        assert abs(fold.test.mean() - 0.2) < 0.002


def test_classes_are_balanced_over_groups():
    rows = [(f"s{s}", f"c{s}-{k}", 10, EMOTIONS[k]) for s in range(20) for k in range(5)]
    rows += [(f"s{s}", f"rare{s}", 10, "surprise") for s in (3, 7, 11, 19, 2)]
    for by in BYS[1:]:
        for number in range(5):
            counts = Counter(
                faces_of(rows).index["emotion"][split(faces_of(rows), by, 5, number, 1).test]
            )
            assert counts["surprise"] == 10 and all(counts[EMOTIONS[k]] == 40 for k in range(5)), by


def test_as_many_folds_as_subjects_leaves_one_out_in_the_order_of_names():
    faces = some_faces(3, subjects=6)
    for number, subject in enumerate(faces.subjects):
        fold = split(faces, "subject", 6, number, seed=number)
        assert set(faces.index["subject"][fold.test]) == {subject}


def test_a_photograph_is_a_clip_of_its_own():
    faces = faces_of([("s0", "", 3, "fear"), ("s1", "a", 5, "fear"), ("s2", "b", 2, "fear")])
    fold = [split(faces, "clip", 5, number, 0) for number in range(5)]
    assert sorted(int(part.test.sum()) for part in fold) == [1, 1, 1, 2, 5]


def test_what_cannot_be_split_is_said():
    faces = faces_of([("s0", "a", 3, "fear"), ("", "b", 2, "fear")])
    with pytest.raises(
        DataError, match=r"2 of 5 have none, such as /b/0/; ingest with --subject-pattern"
    ):
        split(faces, "subject", 2, 0, 0)
    with pytest.raises(
        DataError, match="3 folds by clip need as many clips, and these faces have 2"
    ):
        split(faces, "clip", 3, 0, 0)
    for folds, number in ((1, 0), (2, 2), (2, -1)):
        with pytest.raises(UsageError, match="folds must be 2 or more"):
            split(faces, "frame", folds, number, 0)
    with pytest.raises(SpecError, match="folds"):
        read_spec(
            SplitSpec,
            {"faces": "a", "by": "clip", "folds": 1, "number": 0, "side": "test"},
            "split",
        )


def test_a_class_that_training_lacks_is_named():
    faces = faces_of([("s0", "a", 3, "fear"), ("s1", "b", 2, "sadness"), ("s2", "c", 2, "sadness")])
    assert find_missing_classes(faces, split(faces, "subject", 3, 0, 0)) == ("fear",)
    assert find_missing_classes(faces, split(faces, "subject", 3, 1, 0)) == ()


def test_overlap_has_known_answers():
    seen = faces_of([("s0", "a", 3, "fear"), ("s1", "b", 2, "fear")])
    test = faces_of([("s0", "a", 1, "fear"), ("s0", "x", 4, "fear"), ("s9", "y", 5, "fear")])
    expected = {
        "frames": 1,
        "frames_share": 0.1,
        "clips": 1,
        "clips_share": 0.1,
        "subjects": 1,
        "subjects_share": 0.5,
    }
    assert measure_overlap(seen, test) == expected
    assert measure_overlap(known(seen), test) == expected
    assert measure_overlap(test, test)["frames_share"] == 1.0


def test_unseen_subjects_pass_and_seen_ones_are_named():
    seen = faces_of([(f"s{k}", "a", 2, "fear") for k in range(9)])
    require_unseen(seen, faces_of([("t0", "a", 3, "fear")]), "subject")
    test = faces_of([(f"s{k}", "b", 2, "fear") for k in range(7)] + [("t0", "b", 6, "fear")])
    require_unseen(seen, test, "clip")
    with pytest.raises(
        LeakageError, match=r"7 of its 8 were seen: s0, s1, s2, s3, s4 and 2 more \(14 of 20 test"
    ):
        require_unseen(seen, test, "subject")
    with pytest.raises(
        LeakageError,
        match=r"no clip that training has seen, and 1 of its 1 were seen: s3/a \(2 of 2",
    ):
        require_unseen(seen, seen.select(np.array([6, 7])), "clip")


def test_photographs_are_known_by_their_keys():
    photos = faces_of([("s0", "", 4, "fear")])
    require_unseen(photos.select(np.array([0, 1])), photos.select(np.array([2, 3])), "clip")
    with pytest.raises(LeakageError, match="1 of its 2"):
        require_unseen(photos.select(np.array([0, 1])), photos.select(np.array([1, 2])), "clip")


@pytest.mark.parametrize("side", ["training", "test"])
def test_unknown_subjects_are_an_error(side: str):
    known, unknown = (
        faces_of([("s0", "a", 2, "fear")]),
        faces_of([("", "b", 3, "fear"), ("s1", "b", 1, "fear")]),
    )
    pair = (unknown, known) if side == "training" else (known, unknown)
    with pytest.raises(LeakageError, match=f"3 of 4 images of the {side} side have none"):
        require_unseen(*pair, "subject")


def test_synthetic_faces_stand_for_what_their_generator_saw():
    real = faces_of([("s0", "a", 2, "fear"), ("s1", "b", 2, "fear")])
    synthetic = faces_of([("", "", 5, "fear")], source="edm-0123456789ab", seen=known(real))
    with pytest.raises(LeakageError, match=r"1 of its 2 were seen: s1 \(1 of 2"):
        require_unseen(
            synthetic, faces_of([("s1", "z", 1, "fear"), ("s2", "z", 1, "fear")]), "subject"
        )
    require_unseen(synthetic, faces_of([("s2", "z", 1, "fear")]), "subject")
    with pytest.raises(LeakageError, match=r"2 of its 2 were seen: s0, s1 \(5 of 5"):
        require_unseen(real, synthetic, "subject")
    require_unseen(faces_of([("s2", "z", 1, "fear")]), synthetic, "subject")
    with pytest.raises(DataError, match="must say what their generator has seen, and 5 of these 5"):
        require_unseen(Faces(synthetic.images, synthetic.index), real, "subject")
    with pytest.raises(DataError, match="lacks subject"):
        require_unseen(known(real).drop(columns="subject"), real, "subject")


class Root(Spec):
    """A parent that holds faces."""

    stage: ClassVar[str] = "root"


def test_the_two_sides_are_runs_that_share_no_subject(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    whole = faces_of([("s0", "a", 3, "fear"), ("s1", "b", 2, "sadness"), ("s2", "c", 2, "sadness")])
    parent = store.make(Root(), lambda out, scratch: whole.save(out), alias="all")
    fields = {"faces": "all", "by": "subject", "folds": 3, "number": 0}
    sides = {}
    for side in ("train", "test"):
        made = run_split(
            read_spec(SplitSpec, {**fields, "side": side}, "split"), store, alias=f"all-{side}"
        )
        assert made.stage == "split" and made.spec["faces"] == parent.name
        sides[side] = Faces.load(made.path)
        summary = made.read_json("summary.json")
        assert summary["missing_from_training"] == ["fear"] and summary["overlap"]["subjects"] == 0
        assert summary["images"] == len(sides[side]) and made.find_file("sheet.png").exists()
    assert sides["train"].subjects == ("s1", "s2") and sides["test"].subjects == ("s0",)
    require_unseen(sides["train"], sides["test"], "subject")
    assert capfd.readouterr().err.count("the training side of fold 0 by subject has no fear") == 1


def test_the_digest_is_a_golden_value():
    spec = SplitSpec(faces="ingest-0123456789ab", by="subject", folds=5, number=0, side="test")
    assert spec.name == "split-eaf3b3a37551"
