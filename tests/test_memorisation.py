"""Memorisation: planted copies are found and named, clean faces are not, and searches are held
against brute force.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from mien.audit.features import SpaceFeatures
from mien.audit.memorisation import copying, membership, search
from mien.audit.memorisation.measure import Memorisation, measure_memorisation
from mien.audit.memorisation.people import (
    Estimate,
    ImagePeople,
    SyntheticGroups,
    compute_wilson_interval,
)
from mien.audit.memorisation.strips import draw_strips, overlay
from mien.errors import DataError, LeakageError
from mien.faces import EMOTIONS, Faces, name_distinct_units
from mien.generators import edm
from mien.generators.diffusion.model import Diffusion
from mien.generators.kinds import fit_generator, sample_generator
from mien.generators.specs import SamplerSpec, TrainSpec, read_training
from mien.stats import Record

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from audit_power import as_made, copies, fired, people, planted  # pyright: ignore[reportMissingImports]

COPIES = 40
KINDS = ("exact", "shifted", "noisy", "mirrored")


@pytest.fixture(scope="module")
def train() -> Faces:
    return people(0, range(12), clips=3, frames=5)


@pytest.fixture(scope="module")
def test() -> Faces:
    return people(1, range(10), clips=2, frames=5)


@pytest.fixture(scope="module")
def clean() -> Faces:
    return people(2, range(20), clips=3, frames=5)


@pytest.fixture(scope="module")
def mixed(train: Faces, clean: Faces) -> tuple[Faces, np.ndarray]:
    """Clean images of which forty are copies, ten of each kind, and the places of these."""
    images, places = np.array(clean.images), np.arange(COPIES) * 7
    for number, kind in enumerate(KINDS):
        images[places[number::4]] = copies(train, kind, COPIES // 4, 0)[0]
    return as_made(images, clean.index["emotion"].tolist()), places


@pytest.fixture(scope="module")
def found(train: Faces, test: Faces, mixed: tuple[Faces, np.ndarray]) -> Memorisation:
    return measure_memorisation(train, test, mixed[0], {})


@pytest.fixture(scope="module")
def free(train: Faces, test: Faces, clean: Faces) -> Memorisation:
    """What is found among people whom nobody has seen."""
    return measure_memorisation(train, test, strangers(clean), {})


def strangers(clean: Faces) -> Faces:
    return as_made(clean.images, clean.index["emotion"].tolist())


def record(found: Memorisation, name: str, part: str = "") -> Record:
    (one,) = [
        one for one in found.records if one.metric == f"memorisation.{name}" and one.part == part
    ]
    return one


# Ground truth


def test_forty_copies_of_four_kinds_are_found_and_little_else(
    found: Memorisation, mixed: tuple[Faces, np.ndarray]
):
    copied = np.zeros(len(mixed[0]), dtype=bool)
    copied[mixed[1]] = True
    extreme = found.rows["extreme"].to_numpy()
    assert extreme[copied].sum() >= 38 and extreme[~copied].sum() <= 2
    assert found.rows["alarm"].to_numpy()[copied].sum() >= 38
    told = fired(found.records)
    assert (
        told["copied.pixels"]
        and told["extreme.pixels"]
        and told["authentic_gap.pixels"]
        and told["exact"]
    )


def test_each_copy_is_traced_to_its_original(
    found: Memorisation, train: Faces, mixed: tuple[Faces, np.ndarray]
):
    images, places = mixed
    key = {
        image.tobytes(): name for image, name in zip(train.images, train.index["key"], strict=True)
    }
    rows = found.rows.iloc[places].reset_index(drop=True)
    exact = [key[image.tobytes()] for image in images.images[places[0::4]]]
    assert rows["nearest"][0::4].tolist() == exact
    assert record(found, "exact").value == len(exact) / len(images) == found.rows["exact"].mean()
    mirrored = [
        key[np.ascontiguousarray(image[:, :, ::-1]).tobytes()]
        for image in images.images[places[3::4]]
    ]
    assert rows["nearest"][3::4].tolist() == mirrored and rows["mirrored"][3::4].all()


def test_people_whom_nobody_has_seen_are_not_alarmed(free: Memorisation):
    assert [name for name, fires in fired(free.records).items() if fires] == []
    assert record(free, "extreme.pixels").value == 0 and free.subjects.empty
    assert record(free, "authentic.pixels").value > 0.95


def test_what_the_copycat_makes_is_alarmed_nearly_all_of_it(train: Faces, test: Faces):
    """Moved by up to a pixel, with noise of deviation 0.05."""
    images, emotions = copies(train, "copycat", 80, 0)
    told = measure_memorisation(train, test, as_made(images, emotions), {})
    assert record(told, "copied.pixels").value > 0.9 and record(told, "extreme.pixels").value > 0.9
    assert record(told, "membership").value > 0.9
    assert (record(told, "ct.pixels").high or 0) < -2
    assert record(told, "authentic.pixels").value < 0.3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_generator_trained_on_fifty_images_for_far_too_long_hands_them_out_again(tmp_path: Path):
    learnt, others = (
        halved(people(seed, range(count), clips=2, frames=5)) for seed, count in ((0, 5), (1, 10))
    )
    net = {
        "width": 32,
        "multipliers": (1, 2),
        "blocks": 1,
        "patch": 2,
        "attention": (),
        "dropout": 0.0,
    }
    how = {
        "images_seen": 32_000,
        "batch": 16,
        "learning_rate": 4e-3,
        "mirror": False,
        "label_drop": 0.0,
        "early": 0.0,
    }
    spec = TrainSpec.model_validate({"faces": "drawn", "kind": "edm", "net": net, **how})
    model = fit_generator(learnt, spec, tmp_path, device="cpu")
    assert isinstance(model, Diffusion)
    labels = np.resize(learnt.number_labels(), 60)
    images = edm.sample(model, labels, np.arange(60), SamplerSpec())
    told = measure_memorisation(
        learnt, others, as_made(images, [EMOTIONS[label] for label in labels]), {}
    )
    assert record(told, "copied.pixels").value > 0.9 and record(told, "extreme.pixels").value > 0.5
    assert record(told, "authentic.pixels").value < 0.1 and record(told, "exact").value == 0


def test_an_imle_trained_for_long_is_objected_to(tmp_path: Path):
    """It approaches every training image, so it shows that the audit sees copies."""
    learnt, others = (
        halved(people(seed, range(count), clips=2, frames=3)) for seed, count in ((0, 2), (1, 10))
    )
    net = {"width": 16, "multipliers": (1, 2), "latent": 4}
    rounds = {"batch": 30, "matched": 30, "repeats": 10, "epsilon": 0.0}
    how = {"images_seen": 3_600, "learning_rate": 6e-3, **rounds}
    spec = read_training({"faces": "drawn", "kind": "imle", "net": net, **how}, "test")
    model = fit_generator(learnt, spec, tmp_path, device="cpu")
    labels = np.resize(learnt.number_labels(), 60)
    images = sample_generator(model, labels, np.arange(60))
    told = measure_memorisation(
        learnt, others, as_made(images, [EMOTIONS[label] for label in labels]), {}
    )
    assert record(told, "copied.pixels").value > 0.4  # chance is 0.01


def halved(faces: Faces) -> Faces:
    """Faces of 24 pixels a side."""
    blocks = faces.images.reshape(len(faces), 1, 24, 2, 24, 2).astype(np.float32)
    return Faces(blocks.mean(axis=(3, 5)).round().astype(np.uint8), faces.index)


def test_blends_of_two_frames_of_a_clip_are_copies(train: Faces, test: Faces):
    images, emotions = copies(train, "blended", 40, 0)
    told = measure_memorisation(train, test, as_made(images, emotions), {})
    assert record(told, "copied.pixels").value > 0.9 and record(told, "exact").value == 0


def test_a_subject_that_leaked_is_named(train: Faces, test: Faces, clean: Faces):
    leaked = copies(train, "person", 1, 0)[0][0]
    (place,) = np.flatnonzero((train.images == leaked).all(axis=(1, 2, 3)))
    subject = train.index["subject"].iloc[int(place)]
    told = measure_memorisation(train, test, planted(train, clean, "person", 45, 0), {})
    assert [one.part for one in told.records if one.metric == "memorisation.subject"] == [subject]
    assert told.subjects["subject"].iloc[0] == subject and told.subjects["images"].iloc[0] >= 40
    times = record(told, "subject", subject)
    assert times.value > 1.5 and times.low is not None and times.low < times.value


def test_subjects_that_were_copied_are_told_from_those_held_out(
    train: Faces, test: Faces, found: Memorisation
):
    auc = record(found, "membership")
    assert (
        auc.low is not None and auc.low > 0.5 and auc.n == len(train.subjects) + len(test.subjects)
    )


def test_alarms_stand_for_each_class_too(found: Memorisation, mixed: tuple[Faces, np.ndarray]):
    parts = {
        one.part: one
        for one in found.records
        if one.metric == "memorisation.copied.pixels" and one.part
    }
    assert set(parts) == set(mixed[0].classes)
    whole = sum(one.value * one.n for one in parts.values()) / len(found.rows)
    assert whole == pytest.approx(record(found, "copied.pixels").value)


def test_the_order_of_images_plays_no_part(
    train: Faces, test: Faces, mixed: tuple[Faces, np.ndarray], found: Memorisation
):
    sides = [faces.select(np.arange(len(faces))[::-1].copy()) for faces in (train, test, mixed[0])]
    rows = (
        measure_memorisation(sides[0], sides[1], sides[2], {})
        .rows.iloc[::-1]
        .reset_index(drop=True)
    )
    assert rows["key"].equals(found.rows["key"]) and rows["extreme"].equals(found.rows["extreme"])
    assert np.allclose(rows["ratio_clip"], found.rows["ratio_clip"], atol=1e-3)


def test_duplicates_are_counted_against_training_and_within_the_set(
    train: Faces, test: Faces, clean: Faces
):
    brighter = (train.images[50:51] * 0.9 + 10).astype(np.uint8)
    parts = [
        train.images[:3],
        train.images[30:32, :, :, ::-1],
        brighter,
        clean.images[::30],
        clean.images[:1],
    ]
    made = as_made(np.concatenate(parts), ["fear"] * 17)
    told = measure_memorisation(train, test, made, {})
    assert (
        record(told, "exact").value == 3 / 17
        and told.rows["exact"].tolist() == [True] * 3 + [False] * 14
    )
    assert (told.rows["bits"][:5] == 0).all() and told.rows["bits"][
        5
    ] <= 4  # mirrored and brighter ones too
    assert record(told, "exact_within").value == 2 / 17  # the first stranger, twice
    assert 2 / 17 <= record(told, "near_within").value < 1
    usual, own = record(told, "near_heldout").value, record(told, "near").value
    # one more person, of whom all images are near
    expected = (usual * len(test.subjects) + 1) / (len(test.subjects) + 1)
    assert own >= 6 / 17 and record(told, "near_gap").value == pytest.approx(own - expected)


def test_a_copy_of_what_two_clips_share_is_alarmed_though_no_clip_is_nearer(
    train: Faces, test: Faces
):
    images, contents = np.array(train.images), train.index["sha256"].to_numpy(copy=True)
    images[100:130], contents[100:130] = images[:30], contents[:30]
    shared = Faces(images, train.index.assign(sha256=pd.Series(contents, dtype="str")))
    told = measure_memorisation(shared, test, as_made(images[:30], ["fear"] * 30), {})
    assert told.rows["exact"].all() and told.rows["alarm"].all()


def test_further_spaces_stand_beside_pixels(
    train: Faces, test: Faces, mixed: tuple[Faces, np.ndarray]
):
    flat = [
        faces.images.reshape(len(faces), -1).astype(np.float32) for faces in (train, test, mixed[0])
    ]
    told = measure_memorisation(
        train, test, mixed[0], {"raw": SpaceFeatures(flat[0], flat[1], flat[2])}
    )
    exact = told.rows["exact"].to_numpy()
    assert (
        told.rows["alarm_raw"].to_numpy()[exact].all()
        and (told.rows["distance_raw"].to_numpy()[exact] == 0).all()
    )
    names = {one.metric for one in told.records}
    assert {
        f"memorisation.{name}.raw" for name in ("copied", "person", "extreme", "authentic", "ct")
    } <= names


# What is not known


def test_photographs_are_clips_of_their_own_and_unknown_people_are_said(train: Faces, test: Faces):
    loose = Faces(train.images, train.index.assign(clip="", subject=""))
    told = measure_memorisation(loose, test, as_made(train.images[:9], ["fear"] * 9), {})
    assert any("180 of 180 training images are of unknown subjects" in note for note in told.notes)
    assert any("no identity embedding" in note for note in told.notes)
    assert record(told, "exact").value == 1 and told.rows["alarm"].all()


def test_held_out_images_of_training_subjects_are_no_yardstick(
    train: Faces, test: Faces, free: Memorisation, clean: Faces
):
    both = Faces(
        np.concatenate([test.images, train.images[:30]]), pd.concat([test.index, train.index[:30]])
    )
    told = measure_memorisation(train, both, strangers(clean), {})
    assert any("30 of 130 held-out images are of training subjects" in note for note in told.notes)
    assert record(told, "copied.pixels") == record(free, "copied.pixels")
    with pytest.raises(LeakageError, match="split by subject"):
        measure_memorisation(train, train.select(np.arange(20)), strangers(clean), {})


def test_one_training_subject_and_one_held_out_leave_some_things_unknown(train: Faces, test: Faces):
    made = as_made(train.images[:20], ["fear"] * 20)
    told = measure_memorisation(train.select(np.arange(15)), test.select(np.arange(10)), made, {})
    assert record(told, "copied.pixels").low is None
    assert any("one training subject" in note for note in told.notes)
    assert any("only 1 held-out person" in note for note in told.notes)
    assert any("membership could not be measured" in note for note in told.notes)


def test_sets_that_do_not_fit_are_refused(train: Faces, test: Faces):
    made = as_made(train.images[:3], ["fear"] * 3)
    with pytest.raises(DataError, match="synthetic set is empty"):
        measure_memorisation(train, test, made.select(np.arange(0)), {})
    with pytest.raises(DataError, match="one size"):
        measure_memorisation(
            train, test, as_made(np.zeros((3, 1, 16, 16), np.uint8), ["fear"] * 3), {}
        )
    with pytest.raises(DataError, match="two clips"):
        measure_memorisation(train.select(np.arange(5)), test, made, {})
    small = [Faces(np.zeros((6, 1, 4, 4), np.uint8), faces.index[:6]) for faces in (train, test)]
    with pytest.raises(DataError, match="8 pixels"):
        measure_memorisation(
            small[0], small[1], as_made(np.zeros((2, 1, 4, 4), np.uint8), ["fear"] * 2), {}
        )


# Parity


def brute(asked: np.ndarray, train: np.ndarray) -> np.ndarray:
    """All distances of softened images, over all fifty ways to lay one on the other."""
    known, best = search.normalise_inside(train), np.full((len(asked), len(train)), np.inf)
    for seen in (asked, np.ascontiguousarray(asked[:, :, ::-1])):
        for down in range(-search.MATCH_SHIFT_PIXELS, search.MATCH_SHIFT_PIXELS + 1):
            for right in range(-search.MATCH_SHIFT_PIXELS, search.MATCH_SHIFT_PIXELS + 1):
                moved = search.normalise_inside(seen, down, right)
                best = np.minimum(best, np.sqrt(np.maximum(2 - 2 * moved @ known.T, 0)))
    return best


@pytest.mark.parity
def test_the_short_list_finds_what_trying_everything_finds(
    train: Faces, mixed: tuple[Faces, np.ndarray], monkeypatch
):
    monkeypatch.setattr(search, "SEARCH_DISTANCES", 20 * len(train))
    monkeypatch.setattr(search, "EXACT_BATCH_IMAGES", 7)
    asked, known = search.soften(mixed[0].images[:120]), search.soften(train.images)
    clips, subjects = (
        name_distinct_units(train.index, "clip"),
        name_distinct_units(train.index, "subject"),
    )
    seen = search.match_pixels(
        asked, known, search.make_owners(clips, subjects), search.Coarse.fit(known)
    )
    far = brute(asked, known)
    near = far.argmin(axis=1)
    over = seen.distance - far.min(axis=1)
    assert over.min() > -1e-3 and over.max() < 0.05 and over.mean() < 0.005
    for names, told in ((clips, seen.outside_clip), (subjects, seen.outside_subject)):
        other = np.where(names[near][:, None] == names[None], np.inf, far).min(axis=1)
        right = names[seen.nearest] == names[near]
        assert right.mean() > 0.9 and np.median(told[right] / other[right]) < 1.02


def test_a_match_says_how_the_image_lies_on_its_original(train: Faces):
    known = search.soften(train.images)
    who, coarse = owners(train), search.Coarse.fit(known)
    for mirrored, down, right in ((False, 2, -1), (True, -1, 2), (True, 0, 0)):
        copy = overlay(train.images[17], mirrored, down, right)
        seen = search.match_pixels(search.soften(copy[None]), known, who, coarse)
        assert (seen.nearest[0], seen.mirrored[0], seen.down[0], seen.right[0]) == (
            17,
            mirrored,
            down,
            right,
        )
        assert seen.distance[0] < 0.05  # borders differ


def owners(faces: Faces) -> search.Owners:
    return search.make_owners(
        name_distinct_units(faces.index, "clip"), name_distinct_units(faces.index, "subject")
    )


def cloud(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


@pytest.mark.parity
def test_nearest_rows_of_features_are_scikit_learns(monkeypatch):
    monkeypatch.setattr(search, "SEARCH_DISTANCES", 600)
    train, asked = cloud(90, 0), cloud(40, 1)
    clips = np.array([f"c{place // 3}" for place in range(90)], dtype=object)
    subjects = np.array([f"s{place // 15}" for place in range(90)], dtype=object)
    seen = search.match_features(asked, train, search.make_owners(clips, subjects))
    far, near = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(asked)
    assert (seen.nearest == near[:, 0]).all() and np.allclose(seen.distance, far[:, 0], atol=1e-5)
    for row, place in enumerate(seen.nearest):
        for names, told in ((clips, seen.outside_clip), (subjects, seen.outside_subject)):
            model = NearestNeighbors(n_neighbors=1).fit(train[names != names[place]])
            assert told[row] == pytest.approx(
                model.kneighbors(asked[row : row + 1])[0][0, 0], abs=1e-5
            )
    each = np.arange(90)
    alone = search.match_features(
        train, train, search.make_owners(each, each), positions_in_train=each
    )
    assert np.allclose(
        alone.distance,
        NearestNeighbors(n_neighbors=2).fit(train).kneighbors(train)[0][:, 1],
        atol=1e-5,
    )


@pytest.mark.parity
def test_authenticity_is_the_papers_where_every_image_is_a_clip():
    train, each = cloud(80, 2), np.arange(80)
    made = np.concatenate([cloud(30, 3), train[:10] + np.float32(0.01)])
    model = NearestNeighbors(n_neighbors=2).fit(train)
    to_real, nearest = model.kneighbors(made, n_neighbors=1)
    expected = to_real[:, 0] > model.kneighbors(train)[0][nearest[:, 0], 1]
    who = search.make_owners(each, each)
    fresh = copying.find_authentic(
        search.match_features(made, train, who),
        search.match_features(train, train, who, positions_in_train=each).distance,
    )
    assert (fresh == expected).all() and not fresh[30:].any() and fresh[:30].any()


@pytest.mark.parity
def test_c_t_is_the_weighted_mean_of_scipys_z():
    rng, each = np.random.default_rng(0), np.arange(200)
    train, test, made = cloud(200, 4), cloud(90, 5), cloud(120, 6) * np.float32(0.7)
    cell = copying.assign_regions(train, 9)
    seen = [
        search.match_features(side, train, search.make_owners(each, each)) for side in (made, test)
    ]
    scores, weights = [], []
    for number in range(cell.max() + 1):
        q, p = (one.distance[cell[one.nearest] == number] for one in seen)
        u = mannwhitneyu(q, p).statistic
        scores.append(
            (u - len(q) * len(p) / 2) / (len(q) * len(p) * (len(q) + len(p) + 1) / 12) ** 0.5
        )
        weights.append(len(p) if min(len(p), len(q)) >= copying.MIN_IMAGES_PER_REGION else 0)
    crowd, groups = (
        ImagePeople.of(rng.integers(0, 9, 90)),
        ImagePeople.of(rng.integers(0, 5, 120), "made"),
    )
    told = copying.measure_c_t(seen[0], seen[1], cell, crowd, groups)
    assert len(scores) == 3 and told.value == pytest.approx(np.average(scores, weights=weights))
    assert told.resamples is not None and told.resamples.std() > 0
    assert np.isnan(
        copying.measure_c_t(seen[0], seen[1], each, crowd, groups).value
    )  # cells too small


@pytest.mark.parity
def test_membership_is_the_share_of_pairs_that_scipy_counts():
    train, test = cloud(60, 7), cloud(60, 8)
    members, others = (
        np.array([f"{side}{place // 6}" for place in range(60)], dtype=object) for side in "ab"
    )
    made = np.concatenate([train[:30:6] + np.float32(0.3), cloud(60, 9)])
    told = membership.infer_membership(SpaceFeatures(train, test, made), members, others)
    real, names = np.concatenate([train, test]), np.concatenate([members, others])
    near = NearestNeighbors(n_neighbors=1).fit(made).kneighbors(real)[0][:, 0]
    usual = [
        NearestNeighbors(n_neighbors=1).fit(real[names != name]).kneighbors(row[None])[0][0, 0]
        for row, name in zip(real, names, strict=True)
    ]
    best = np.log(near / np.array(usual)).reshape(20, 6).min(axis=1)  # a tenth of six images is one
    u = mannwhitneyu(best[10:], best[:10]).statistic
    assert told.value == pytest.approx(u / 100) and told.low < told.value < told.high


# Held-out people


def test_each_held_out_person_weighs_the_same():
    crowd = ImagePeople.of(np.array(["one"] * 98 + ["two"] * 2, dtype=object))
    values = np.r_[np.linspace(0, 1, 98), [5.0, 6.0]]
    assert crowd.estimate_mean(values).value == pytest.approx((0.5 + 5.5) / 2)
    assert (
        crowd.estimate_quantile(values, 0.49).value
        < 1
        < crowd.estimate_quantile(values, 0.51).value
    )
    drawn = crowd.estimate_quantile(values, 0.01).resamples
    assert drawn is not None and set(drawn) == {
        values[0],
        values[1],
        5.0,
    }  # the first alone, both, the second alone


def test_a_share_below_a_level_has_an_interval_over_both_draws():
    rng = np.random.default_rng(0)
    crowd, values = ImagePeople.of(np.arange(200) // 10), rng.random(200)
    level = crowd.estimate_quantile(values, 0.1)
    assert level.resamples is not None
    made, groups = rng.random(500), SyntheticGroups.of(np.arange(500) // 25)
    share = groups.estimate_share_below(made, level)
    assert share.value == (made < level.value).mean() and share.low < 0.1 < share.high
    some = np.arange(500) < 250
    assert groups.estimate_share_below(made, level, some).value == (made[some] < level.value).mean()
    fixed = groups.estimate_share_below(
        made, Estimate(level.value, np.full_like(level.resamples, level.value))
    )
    own = groups.estimate_share(made < level.value).interval
    assert (fixed.low, fixed.high) == pytest.approx((own.low, own.high))


def test_the_bound_is_passed_by_one_more_person_as_rarely_as_it_says():
    """By the exponential law, whatever its mean; with few people it lies farther."""
    rng = np.random.default_rng(0)
    for count in (3, 20):
        draws = rng.exponential(0.3, (20_000, count + 1))
        crowd = ImagePeople.of(np.arange(count))
        bounds = np.array([crowd.find_extreme_ratio(np.exp(-row[:count])) for row in draws[:2000]])
        assert np.mean(np.exp(-draws[:2000, count]) < bounds) < 0.004
        reach = -np.log(bounds) / draws[:2000, :count].mean(axis=1)
        assert np.allclose(reach, count * (1000 ** (1 / count) - 1))
        beyond = draws[:, count] > reach[0] * draws[:, :count].mean(axis=1)
        assert beyond.mean() == pytest.approx(0.001, abs=0.0008)


def test_a_rare_share_has_wilsons_interval():
    """3 of 1,000: 0.00102 to 0.00878, as in Newcombe 1998's formula 3."""
    few = compute_wilson_interval(np.arange(1000) < 3)
    assert (few.value, few.low, few.high) == pytest.approx((0.003, 0.0010209, 0.0087826), rel=1e-3)
    none = compute_wilson_interval(np.zeros(50, dtype=bool))
    assert none.low == 0 and none.high == pytest.approx(0.0713, abs=1e-3)


# Pictures


def test_strips_show_the_worst_first_with_the_original_laid_under(
    found: Memorisation, train: Faces, mixed: tuple[Faces, np.ndarray]
):
    sheet = draw_strips(mixed[0], train, found, count=4, scale=1)
    assert (
        sheet.height == 4 * (18 + 48 + 2) and sheet.width > 3 * 50
    )  # wide enough for the keys in its titles
    strip = np.asarray(sheet)[18 : 18 + 48]
    assert (strip[:, :48] == strip[:, 50:98]).all() and (strip[:, 100:148] == 128).all()
