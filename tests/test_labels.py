"""Labels: judges agree with true labels and not with shuffled ones; sources are counted; nuisance
is told apart.
"""

import math

import numpy as np
import pandas as pd
import pytest
from drawn import FOUR, moving_people, people

from mien.audit.labels.judges import (
    describe_gradients,
    predict_by_judge,
    predict_out_of_fold,
    train_judges,
)
from mien.audit.labels.measure import (
    Labels,
    compute_effective_number,
    find_suspects,
    measure_labels,
)
from mien.audit.labels.nuisance import measure_features, measure_nuisance
from mien.errors import DataError
from mien.faces import Faces, make_index
from mien.prepare.flow import FLOW_CHANNELS
from mien.seeds import make_rng
from mien.stats import Record

CLASSES = 4


@pytest.fixture(scope="module")
def everyone() -> Faces:
    """Ten drawn people with eight clips, one frame each."""
    return people(range(10), frames=1, size=48, emotions=FOUR)


@pytest.fixture(scope="module")
def sides(everyone: Faces) -> tuple[Faces, Faces]:
    """People whom the generator saw, and others."""
    test = everyone.index["subject"].isin([f"drawn:s{who:02d}" for who in range(5, 10)]).to_numpy()
    return everyone.select(~test), everyone.select(test)


def generated(train: Faces, number: int = 300, shuffled: bool = False) -> Faces:
    """A copycat's database: training images with noise, their labels dealt out anew if so
    wanted.
    """
    rows = make_rng("made").integers(0, len(train), number)
    images = np.clip(
        train.images[rows] + make_rng("noise").normal(0, 6, (number, 1, 48, 48)), 0, 255
    ).astype(np.uint8)
    emotions = train.index["emotion"].to_numpy()[rows]
    index = make_index(
        images,
        key=[f"made/{row:04d}" for row in range(number)],
        emotion=list(make_rng("shuffle").permutation(emotions) if shuffled else emotions),
        source="copycat-0123456789ab",
    )
    return Faces(images, index, train.index[["key", "subject", "clip"]])


@pytest.fixture(scope="module")
def true(sides: tuple[Faces, Faces]) -> Labels:
    return measure_labels(generated(sides[0]), *sides)


def one(found: Labels, metric: str, part: str = "") -> Record:
    return next(
        each for each in found.records if (each.metric, each.part) == (f"labels.{metric}", part)
    )


def test_judges_agree_with_true_labels_about_as_they_do_on_unseen_people(true: Labels):
    agreement, ceiling = one(true, "agreement"), one(true, "ceiling")
    assert agreement.value > 0.6 and ceiling.value > 0.7
    assert agreement.low is not None and agreement.high is not None
    assert agreement.low < agreement.value < agreement.high and agreement.n == 300
    assert one(true, "agreement.seen_people").value > 0.8 and true.findings[0].kind == "amplified"
    assert {each.part for each in true.records if each.metric == "labels.agreement"} == {
        "", "happiness", "surprise", "sadness", "disgust",
    }  # fmt: skip


def test_shuffled_labels_drop_agreement_to_chance(sides: tuple[Faces, Faces], true: Labels):
    found = measure_labels(generated(sides[0], shuffled=True), *sides)
    for mark in ("", ".seen_people"):
        agreement = one(found, f"agreement{mark}")
        assert agreement.low is not None and agreement.high is not None
        assert agreement.low <= 1 / CLASSES + 0.06 and abs(agreement.value - 1 / CLASSES) < 0.1
    assert one(found, "suspects").value > 0.4 and one(true, "suspects").value < 0.1
    assert one(found, "ceiling") == one(
        true, "ceiling"
    )  # what the judges can do has nothing to do with it


def test_wrong_labels_are_the_first_suspects(sides: tuple[Faces, Faces]):
    made = generated(sides[0])
    emotions = made.index["emotion"].to_numpy().copy()
    wrong = make_rng("wrong").choice(300, 20, replace=False)
    emotions[wrong] = [
        {"happiness": "sadness", "surprise": "disgust"}.get(name, "happiness")
        for name in emotions[wrong]
    ]
    rows = measure_labels(
        Faces(
            made.images, made.index.assign(emotion=emotions).astype(made.index.dtypes), made.seen
        ),
        *sides,
    ).rows
    ranks = rows.loc[wrong, "rank"]
    assert (ranks <= 60).mean() > 0.8 and rows.loc[wrong, "suspect"].mean() > 0.5 > rows.drop(
        wrong
    )["suspect"].mean()
    assert sorted(rows["rank"]) == list(range(1, 301))
    assert rows.sort_values("rank")["margin"].is_monotonic_increasing


def test_a_set_judges_itself_by_people_that_were_not_shown(everyone: Faces):
    rows = find_suspects(everyone)
    assert (rows["predicted"] == rows["emotion"]).mean() > 0.8 and set(rows["agreed"]) <= {0.0, 1.0}
    panel = train_judges(everyone)
    for fold in range(5):
        subjects = everyone.index["subject"].to_numpy()
        assert set(subjects[panel.fold == fold]).isdisjoint(subjects[panel.fold != fold])
    assert not np.isnan(predict_out_of_fold(panel, everyone)).any() and np.allclose(
        predict_out_of_fold(panel, everyone).sum(axis=1), 1
    )


def test_people_whom_the_generator_saw_are_no_judges(sides: tuple[Faces, Faces]):
    train, test = sides
    found = measure_labels(generated(train, 60), train, train)
    assert [finding.kind for finding in found.findings][:2] == [
        "people seen",
        "no judges from held-out people",
    ]
    assert not [each for each in found.records if each.metric == "labels.agreement"]
    assert one(found, "agreement.seen_people").value > 0.8
    assert one(measure_labels(generated(train, 60), train, test), "agreement").value > 0.5


def test_a_class_that_too_few_people_show_is_not_judged(sides: tuple[Faces, Faces]):
    train, test = sides
    rare = (test.index["emotion"] != "disgust") | (test.index["subject"] == "drawn:s07")
    found = measure_labels(generated(train, 80), train, test.select(rare.to_numpy()))
    assert [each.what for each in found.findings if each.kind == "classes not judged"] == [
        "too few real people show disgust, so their labels were not judged"
    ]
    rows = found.rows[found.rows["emotion"] == "disgust"]
    assert (
        (rows["rank"] == 0).all() and rows["probability"].isna().all() and not rows["suspect"].any()
    )
    with pytest.raises(
        DataError, match="judges need two classes or more that two subjects or more show"
    ):
        train_judges(train.select((train.index["emotion"] == "sadness").to_numpy()))


def test_sources_behind_a_class_are_counted(sides: tuple[Faces, Faces], true: Labels):
    train, _ = sides
    real = train.index[train.index["emotion"] == "surprise"]
    assert one(true, "clips", "surprise").value == pytest.approx(real["clip"].nunique())
    shares = real["subject"].value_counts() / len(real)
    assert one(true, "subjects", "surprise").value == pytest.approx(
        math.exp(-(shares * np.log(shares)).sum())
    )
    made = generated(train).index["emotion"]
    assert one(true, "amplification", "surprise").value == (made == "surprise").sum() / len(real)
    assert (
        compute_effective_number([5, 5, 5]) == pytest.approx(3)
        and compute_effective_number([7]) == 1
        and compute_effective_number([]) == 0
    )
    assert 1 < compute_effective_number([98, 1, 1]) < 1.2
    told = {each.where: each.what for each in true.findings if each.kind == "amplified"}
    assert "effective clips of" in told["surprise"] and len(told) == CLASSES


def test_gradients_do_not_see_size_or_colour(everyone: Faces):
    images = np.asarray(everyone.images[:3])
    assert describe_gradients(images).shape == (3, 900)
    assert np.allclose(describe_gradients(np.repeat(images, 3, axis=1)), describe_gradients(images))
    large = np.repeat(np.repeat(images, 2, axis=2), 2, axis=3)
    assert (
        np.corrcoef(describe_gradients(large).ravel(), describe_gradients(images).ravel())[0, 1]
        > 0.95
    )


def test_judges_see_every_channel_and_the_direction_of_a_movement():
    images = make_rng("channels").integers(0, 256, (2, 3, 48, 48)).astype(np.uint8)

    # Each channel counts, but a clip says nothing by what it shows at its first moment
    for channels in (FLOW_CHANNELS, ("gray", "laplacian", "hog"), ("t0", "t1", "t2")):
        known = describe_gradients(images, channels)
        for channel in range(3):
            changed = images.copy()
            changed[:, channel] = np.roll(changed[:, channel], 12, axis=2)
            assert not np.allclose(describe_gradients(changed, channels), known)
    assert describe_gradients(images, ("t0", "t1", "t2")).shape == (2, 2 * 900)
    still = np.repeat(images[:, :1], 3, axis=1)
    assert not describe_gradients(still, ("t0", "t1", "t2")).any()

    # Up and down: grey pictures have gradients without a sign, and movements have signed ones
    flat = np.full((1, 3, 48, 48), 128, dtype=np.uint8)
    bump = (100 * np.hanning(48)[:, None] * np.hanning(48)).astype(np.uint8)
    down, up = flat + bump, flat - bump
    assert not np.allclose(
        describe_gradients(down, FLOW_CHANNELS), describe_gradients(up, FLOW_CHANNELS), atol=0.01
    )
    shown = ("gray", "laplacian", "hog")
    assert np.allclose(describe_gradients(down, shown), describe_gradients(up, shown), atol=0.01)


def test_judges_of_clips_refuse_faces_with_other_channels(everyone: Faces):
    panel = train_judges(moving_people(range(4), ("onset", "apex"), clips=1))
    with pytest.raises(DataError, match="learnt from the channels onset, apex"):
        predict_by_judge(panel, everyone)


def nuisances(faces: Faces) -> dict[str, Record]:
    return {
        each.metric.removeprefix("nuisance."): each
        for each in measure_nuisance(faces)
        if not each.part
    }


def shaded(faces: Faces, emotion: str, change: str) -> Faces:
    images = np.array(faces.images, dtype=np.float64)
    rows = (faces.index["emotion"] == emotion).to_numpy()
    if change == "dark":
        images[rows] *= 0.4
    else:
        images[rows, :, :, :4] = 255
    return Faces(images.astype(np.uint8), faces.index)


def test_a_dark_class_is_told_by_brightness(everyone: Faces):
    found, plain = nuisances(shaded(everyone, "sadness", "dark")), nuisances(everyone)
    high = found["brightness_chance"].high
    assert high is not None and found["brightness"].value > high + 0.05
    assert plain["brightness"].value < found["brightness"].value
    parts = {
        each.part: each.value
        for each in measure_nuisance(shaded(everyone, "sadness", "dark"))
        if each.metric == "nuisance.brightness"
    }
    assert parts["sadness"] > 0.9


def test_a_stamp_on_the_border_is_told_by_the_border(everyone: Faces):
    found = nuisances(shaded(everyone, "disgust", "stamp"))
    high = found["border_chance"].high
    assert found["border"].low is not None and high is not None and found["border"].low > high


def test_noise_tells_nothing():
    images = make_rng("noise").integers(0, 256, (400, 1, 16, 16)).astype(np.uint8)
    emotions = ["fear", "happiness", "sadness", "surprise"] * 100
    index = make_index(images, key=[str(row) for row in range(400)], emotion=emotions)
    for name, each in nuisances(Faces(images, index)).items():
        assert abs(each.value - 0.25) < 0.08, name
        assert each.low is not None and each.high is not None and each.low < 0.25 < each.high, name


def test_measures_have_known_answers():
    flat = np.full((1, 1, 24, 24), 51, np.uint8)
    found = measure_features(flat)
    assert found["brightness"] == pytest.approx(0.2) and found["contrast"] == pytest.approx(
        0, abs=1e-6
    )
    assert found["border"].shape == (1, 16) and np.allclose(found["border"], 0.2)
    sharp = flat.copy()
    sharp[..., ::2] = 255
    assert measure_features(sharp)["sharpness"] > found["sharpness"]
    top = flat.copy()
    top[:, :, :2] = 255
    assert np.allclose(measure_features(top)["border"][0, :4], 1) and np.allclose(
        measure_features(top)["border"][0, 4:8], 0.2
    )


def test_nuisance_needs_classes_and_people(everyone: Faces):
    one_class = everyone.select((everyone.index["emotion"] == "sadness").to_numpy())
    with pytest.raises(DataError, match="given: 1 class, 10 subjects"):
        measure_nuisance(one_class)
    one_person = everyone.select((everyone.index["subject"] == "drawn:s01").to_numpy())
    with pytest.raises(DataError, match="given: 4 classes, 1 subject"):
        measure_nuisance(one_person)


def test_the_order_of_rows_plays_no_part(everyone: Faces):
    mixed = everyone.select(make_rng("mixed").permutation(len(everyone)))
    assert measure_nuisance(mixed) == measure_nuisance(everyone)
    rows = find_suspects(mixed).sort_values("key", ignore_index=True)
    pd.testing.assert_series_equal(
        rows["suspect"], find_suspects(everyone).sort_values("key", ignore_index=True)["suspect"]
    )
