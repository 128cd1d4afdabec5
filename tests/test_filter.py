"""A filter keeps synthetic faces that show their label and differ, equally many of each class."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import FOUR, keep, moving_people, people
from release_world import answer, audit, copycat, world
from worlds import inside

import mien
from mien.audit.labels.judges import predict_by_judge, predict_with_components, train_judges
from mien.errors import DataError, GateRefused, SpecError
from mien.faces import Faces, concatenate, make_index
from mien.prepare.flow import FLOW_CHANNELS
from mien.publish import checking
from mien.publish.release import build
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store
from mien.seeds import make_rng
from mien.study.uses.filter import (
    KEPT,
    KEPT_BELOW,
    Judgements,
    choose_images,
    choose_spread,
    count_outcomes,
    judge_labels,
)
from mien.study.uses.filter_run import add_views, filter_database, list_filter_lines
from mien.study.uses.specs import FilterSpec

NOT_FILTERED = {"agreement": 0.0, "band": (0.0, 1.0)}


@pytest.fixture(scope="module")
def training() -> Faces:
    """Eight drawn people, whom generator and judges know."""
    return people(range(8), clips=2, frames=1, emotions=FOUR)


CHANNELS = {"pairs": ("onset", "apex"), "clips": ("t0", "t1", "t2", "t3"), "flow": FLOW_CHANNELS}


@pytest.fixture(scope="module", params=CHANNELS)
def moving(request: pytest.FixtureRequest) -> Faces:
    """Clips of twelve drawn people, each kind of them in turn."""
    return moving_people(range(12), CHANNELS[request.param], clips=1)


def make_synthetic(real: Faces, each: int, name: str = "made", noise: float = 8) -> Faces:
    """Noisy copies of real faces, as from a generator: so many of each class."""
    emotions = real.index["emotion"].to_numpy(dtype=str)
    rows = np.concatenate([np.resize(np.flatnonzero(emotions == c), each) for c in real.classes])
    noisy = real.images[rows] + make_rng(name).normal(0, noise, real.images[rows].shape)
    images = noisy.clip(0, 255).astype(np.uint8)
    index = make_index(
        images,
        key=[f"{name}/{number:05d}" for number in range(len(rows))],
        dataset="synthetic",
        emotion=list(emotions[rows]),
        source="generate-0123456789ab",
        seed=list(range(len(rows))),
    )
    seen = real.index[["key", "subject", "clip", "dataset"]]
    return Faces(images, index, seen, real.channels)


def mislabel(faces: Faces, every: int) -> tuple[Faces, np.ndarray]:
    """Give each n-th image the label of the next class; return the mask of these, too."""
    wrong = np.arange(len(faces)) % every == 0
    following = dict(zip(FOUR, FOUR[1:] + FOUR[:1], strict=True))
    labels = faces.index["emotion"]
    changed = labels.where(~wrong, labels.map(following)).astype("str")
    return replace(faces, index=faces.index.assign(emotion=changed)), wrong


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    yield Store(tmp_path / "store")


def run_filter(database: Faces, training: Faces, store: Store, **fields: object) -> Run:
    """Put both sets into a store, and filter."""
    given = {
        "database": keep(database, store, "database").name,
        "training": keep(training, store, "training").name,
    }
    return filter_database(read_spec(FilterSpec, {**given, **fields}, "filter"), store)


def read_outcomes(run: Run) -> np.ndarray:
    return pd.read_parquet(run.find_file("judgements.parquet"))["outcome"].to_numpy(dtype=str)


# The choice


def test_wrong_labels_are_dropped_and_right_ones_are_kept(training: Faces, store: Store):
    database, wrong = mislabel(make_synthetic(training, 60), 5)
    run = run_filter(database, training, store, band=[0.0, 1.0], share=0.5)
    disagreed = read_outcomes(run) == "no_agreement"
    assert disagreed[wrong].mean() > 0.9 and disagreed[~wrong].mean() < 0.1


def test_clips_and_flow_are_judged_like_pictures(moving: Faces, store: Store):
    database, wrong = mislabel(make_synthetic(moving, 20, noise=2), 5)
    run = run_filter(database, moving, store, band=[0.0, 1.0], share=0.5)
    disagreed = read_outcomes(run) == "no_agreement"
    assert disagreed[wrong].mean() > 0.9 and disagreed[~wrong].mean() < 0.2
    kept = Faces.load(run.path)
    assert kept.channels == moving.channels and len(kept) == len(database) / 2


def test_no_label_is_dropped_where_the_parts_of_the_filter_are_off(training: Faces, store: Store):
    """Wrong labels stay; at most the mean number per class is kept."""
    database, _ = mislabel(make_synthetic(training, 20), 5)
    database = database.select(np.arange(len(database)) >= 5)
    run = run_filter(database, training, store, **NOT_FILTERED, share=1.0)
    assert set(read_outcomes(run)) == {KEPT, "not_chosen"}
    counts = database.index["emotion"].value_counts()
    mean = len(database) // 4
    assert len(Faces.load(run.path)) == counts.clip(upper=mean).sum() < len(database)


def test_a_spread_choice_keeps_few_images_of_a_cluster(training: Faces, store: Store):
    """Half of each class is one image again and again; a random choice keeps half of these."""
    varied = make_synthetic(training, 24)
    one_each = [np.flatnonzero(varied.index["emotion"] == name)[:1] for name in FOUR]
    cluster = make_synthetic(varied.select(np.concatenate(one_each)), 24, "cluster", noise=1)
    database = replace(concatenate([varied, cluster]), seen=varied.seen)
    kept = {
        spread: Faces.load(
            run_filter(database, training, store, **NOT_FILTERED, share=0.25, spread=spread).path
        )
        for spread in (True, False)
    }
    in_cluster = {
        spread: faces.index["key"].str.startswith("cluster").mean()
        for spread, faces in kept.items()
    }
    assert len(kept[True]) == len(kept[False]) == 48
    assert in_cluster[True] < 0.15 and 0.35 < in_cluster[False] < 0.65


def test_the_band_keeps_the_middle_of_the_entropy_of_each_class():
    faces = make_blank({"anger": 10, "fear": 10})
    entropy = np.concatenate([np.arange(10.0), 100 + np.arange(10.0)])
    outcomes = choose_images(
        faces,
        Judgements(np.ones(20), entropy, np.zeros((20, 1), np.float32)),
        make_spec(band=(0.2, 0.8), share=1.0),
    )
    inside = [1, 2, 3, 4, 5, 6, 7, 8]  # the 1.8th of 0 to 9 is bounded by 1, the 7.2nd by 8
    assert np.flatnonzero(outcomes == KEPT).tolist() == [*inside, *(row + 10 for row in inside)]


def make_blank(counts: dict[str, int]) -> Faces:
    labels = [name for name, count in counts.items() for _ in range(count)]
    return Faces.from_arrays(np.zeros((len(labels), 8, 8), np.uint8), labels, synthetic=True)


def make_spec(**fields: object) -> FilterSpec:
    runs = {"database": "generate-000000000000", "training": "split-000000000000"}
    return FilterSpec.model_validate({**runs, **fields})


@pytest.mark.parametrize(
    ("share", "kept"),
    [(1.0, (7, 10)), (0.5, (4, 5)), (0.05, None)],
    ids=["all of the smaller class", "half of each", "less than one image"],
)
def test_each_class_keeps_a_share_of_the_mean_or_of_its_own_images(
    share: float, kept: tuple[int, int] | None
):
    """The classes have 7 and 13 images, so the mean is 10."""
    faces = make_blank({"anger": 7, "fear": 13})
    points = make_rng("points").normal(size=(20, 3)).astype(np.float32)
    judgements = Judgements(np.ones(20), np.ones(20), points)
    if kept is None:
        with pytest.raises(DataError, match="share must leave one image of each class"):
            choose_images(faces, judgements, make_spec(share=share))
        return
    outcomes = choose_images(faces, judgements, make_spec(share=share))
    counts = faces.index["emotion"][outcomes == KEPT].value_counts().to_dict()
    assert (counts["anger"], counts["fear"]) == kept


def test_a_class_of_which_too_few_pass_is_filled_with_the_most_probable_labels():
    faces = make_blank({"anger": 4, "fear": 4})
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.3, 0.7, 0.2])
    judgements = Judgements(probability, np.ones(8), np.zeros((8, 2), np.float32))
    outcomes = choose_images(faces, judgements, make_spec(share=0.5))
    assert list(outcomes[4:]) == ["no_agreement", KEPT_BELOW, KEPT, "no_agreement"]
    counts = count_outcomes(faces, outcomes, judgements.judged)
    assert list(counts["kept"]) == [2, 1] and list(counts["kept_below"]) == [0, 1]


@pytest.mark.parametrize("first", [0, 7])
def test_the_spread_choice_is_that_of_the_definition(first: int):
    """Parity with the definition: all distances, and each time the farthest of all."""
    points = make_rng("spread").normal(size=(60, 5)).astype(np.float32)
    distances = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    naive = [first]
    while len(naive) < 25:
        left = [row for row in range(60) if row not in naive]
        naive.append(max(left, key=lambda row: min(distances[row, one] for one in naive)))
    assert choose_spread(points, 25, first).tolist() == naive


def test_equal_images_are_each_chosen_once_at_most():
    assert sorted(choose_spread(np.ones((5, 2), np.float32), 5, 3)) == [0, 1, 2, 3, 4]


# The judges


def test_the_judges_learn_from_the_training_people_alone(training: Faces, store: Store):
    """The same judgements come from a panel that was trained on nothing else, and other labels of
    the database change no probability of a class.
    """
    database = make_synthetic(training, 12)
    run = run_filter(database, training, store, **NOT_FILTERED)
    panel = train_judges(add_views(training, make_spec()))
    alone = judge_labels(panel, database)
    table = pd.read_parquet(run.find_file("judgements.parquet"))
    np.testing.assert_array_equal(table["probability"], alone.probability)
    np.testing.assert_array_equal(table["entropy"], alone.entropy)

    relabelled, wrong = mislabel(database, 3)
    again = judge_labels(panel, relabelled)
    np.testing.assert_array_equal(again.entropy, alone.entropy)
    np.testing.assert_array_equal(again.probability[~wrong], alone.probability[~wrong])


def test_views_of_an_image_belong_to_its_person_and_are_none_of_the_others(training: Faces):
    faces = add_views(training, make_spec(views=2))
    assert len(faces) == 3 * len(training) and faces.subjects == training.subjects
    assert (faces.images[len(training) :] != np.tile(training.images, (2, 1, 1, 1))).any()
    assert add_views(training, make_spec(views=0)) is training


def test_components_come_with_the_probabilities_of_each_judge(training: Faces):
    panel, faces = train_judges(training), make_synthetic(training, 3)
    probabilities, components = predict_with_components(panel, faces)
    np.testing.assert_array_equal(probabilities, predict_by_judge(panel, faces))
    points = judge_labels(panel, faces).points
    expected = np.mean([((one[0] - one[5]) ** 2).sum() for one in components])
    assert ((points[0] - points[5]) ** 2).sum() == pytest.approx(expected, rel=1e-4)


def test_a_judge_that_does_not_know_a_class_does_not_count_against_it(training: Faces):
    """Of two judges one knows no surprise, the last class. Its probabilities of the others sum to
    1, so with p from the other judge, the sum of the means is (1 - p + 1) / 2 + p.
    """
    surprised = (training.index["emotion"] == "surprise").to_numpy(dtype=bool)
    whole, partial = train_judges(training), train_judges(training.select(~surprised))
    assert whole.classes == (*partial.classes, "surprise")
    panel = replace(whole, models=(whole.models[0], partial.models[0]))
    faces = training.select(surprised)
    p = predict_by_judge(panel, faces)[0, :, 3]
    np.testing.assert_allclose(judge_labels(panel, faces).probability, p / (1 + p / 2))


def test_a_class_that_no_judge_knows_is_kept_unjudged(
    training: Faces, store: Store, capsys: pytest.CaptureFixture[str]
):
    rare = (training.index["emotion"] == "sadness").to_numpy(dtype=bool)
    one_person = (training.index["subject"] == "drawn:s00").to_numpy(dtype=bool)
    run = run_filter(make_synthetic(training, 12), training.select(~rare | one_person), store)
    kept = Faces.load(run.path)
    assert kept.index["emotion"].value_counts().nunique() == 1 and "sadness" in kept.classes
    assert "no judge knows sadness" in capsys.readouterr().err
    assert "sadness: " in " ".join(list_filter_lines(run))
    row = next(row for row in run.summary["filtered"] if row["class"] == "sadness")
    assert not row["judged"] and row["no_agreement"] == row["outside_band"] == 0


# The run


def test_the_run_counts_what_it_dropped_and_keeps_rows_as_they_were(training: Faces, store: Store):
    database, _ = mislabel(make_synthetic(training, 30), 6)
    run = run_filter(database, training, store)
    kept, dropped = Faces.load(run.path), pd.read_csv(run.find_file("dropped.csv"))
    assert list(dropped.columns) == [
        "class", "judged", "given", "no_agreement", "outside_band", "not_chosen", "kept",
        "kept_below",
    ]  # fmt: skip
    parts = dropped[["no_agreement", "outside_band", "not_chosen", "kept", "kept_below"]]
    assert (parts.sum(axis=1) == dropped["given"]).all() and (parts.sum().iloc[:4] > 0).all()
    each = dropped["kept"] + dropped["kept_below"]
    assert dropped["given"].sum() == len(database) and each.nunique() == 1
    assert each.sum() == len(kept)

    rows = database.index["key"].isin(kept.index["key"])
    pd.testing.assert_frame_equal(kept.index, database.index[rows].reset_index(drop=True))
    assert kept.seen is not None and database.seen is not None
    pd.testing.assert_frame_equal(kept.seen, database.seen)
    assert (kept.images == database.images[rows]).all()


def test_a_filter_gives_the_same_images_again_and_others_with_another_seed(
    training: Faces, tmp_path: Path
):
    database = make_synthetic(training, 24)
    runs = [
        run_filter(database, training, Store(tmp_path / str(place)), **NOT_FILTERED, seed=seed)
        for place, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (set(Faces.load(run.path).index["key"]) for run in runs)
    assert runs[0].content == runs[1].content and first == again != other


def test_people_whom_only_the_judges_saw_count_as_seen(training: Faces, store: Store):
    """A test on these people would not be a test on held-out people."""
    others = people(range(20, 26), clips=1, frames=1, emotions=FOUR)
    run = run_filter(make_synthetic(training, 12), others, store, agreement=0.0)
    seen = Faces.load(run.path).seen
    assert seen is not None
    assert set(others.index["key"]) | set(training.index["key"]) == set(seen["key"])


def test_what_cannot_be_filtered_is_an_error(training: Faces, store: Store):
    database = make_synthetic(training, 12)
    small = people(range(8), clips=1, frames=1, size=24, emotions=FOUR)
    lone = training.select((training.index["subject"] == "drawn:s00").to_numpy(dtype=bool))
    happy = training.select(training.index["emotion"].isin(["happiness"]).to_numpy(dtype=bool))
    elsewhere = database.select((database.index["emotion"] == "sadness").to_numpy(dtype=bool))
    without = training.select((training.index["emotion"] != "sadness").to_numpy(dtype=bool))
    cases = [
        (training, training, "holds 64 real ones"),
        (database, database, "the faces that judges learn from must be real"),
        (database, small, r"32 by 32 pixels \(gray\) and 24 by 24 pixels \(gray\)"),
        (database, lone, "judges need two classes or more that two subjects"),
        (database, happy, "only happiness is such a class"),
        (elsewhere, without, "they know disgust, happiness, surprise, and it has sadness"),
    ]
    for number, (given, real, message) in enumerate(cases):
        with pytest.raises(DataError, match=message):
            run_filter(given, real, Store(store.root / str(number)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"band": (0.8, 0.2)}, "band must be two quantiles"),
        ({"band": (0.5, 0.5)}, "band must be two quantiles"),
        ({"band": (0, 1.5)}, "band must be two quantiles"),
        ({"agreement": 1.5}, "agreement: must be 1.0 or less"),
        ({"share": 0.0}, "share: must be more than 0.0"),
    ],
)
def test_settings_that_are_not_valid_are_refused(fields: dict[str, object], message: str):
    given = {"database": "generate-000000000000", "training": "split-000000000000", **fields}
    with pytest.raises(SpecError, match=message):
        read_spec(FilterSpec, given, "filter")


# What comes after it


def test_the_command_the_function_and_the_next_command(training: Faces, tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(make_synthetic(training, 20), store, "many")
    keep(training, store, "real")
    text = inside(
        tmp_path, "filter", "many", "--train", "real", "--band", "0.1,1", "--no-spread",
        "--agreement", "0.4", "--as", "chosen",
    )  # fmt: skip
    assert "synthetic images, chosen from 80 by a filter" in text
    assert re.search(r"happiness: \d+ of 20 kept; \d+ without agreement, \d+ outside the", text)
    assert "next: mien audit chosen --train real" in text
    faces = mien.filter_faces(
        "many", "real", agreement=0.4, band=(0.1, 1), spread=False, store=store
    )
    assert faces.run is not None and faces.run.name == store.resolve("chosen")

    wrong = inside(tmp_path, "filter", "many", "--train", "real", "--band", "middle", code=2)
    assert "band must be two quantiles with a comma between them" in wrong
    real = inside(tmp_path, "filter", "real", "--train", "real", code=2)
    assert "holds 64 real ones" in real


def test_a_release_of_a_filtered_database_says_so_and_is_traced(tmp_path: Path):
    home = world(tmp_path)
    spec = FilterSpec(database=home.made.name, training=home.real.name, **NOT_FILTERED, share=0.5)
    run = filter_database(spec, home.store, alias="chosen")
    audit(home.store, home.real, run)
    answer(home.answers, home.store, "chosen")
    folder = build("chosen", tmp_path / "release", home.store, home.answers)
    kept = len(Faces.load(run.path))
    assert checking.check(folder, libraries=False).counts == {"train": kept} and 8 < kept <= 12
    card = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert f"Of the 24 images of {home.made.name}, a filter kept {kept}, a share of each" in card
    lineage = json.loads((folder / "provenance" / "lineage.json").read_text(encoding="utf-8"))
    entry = next(entry for entry in lineage if entry["run"] == run.name)
    assert entry["spec"]["database"] == home.made.name and "left_out" not in entry
    assert {home.made.name, home.real.name} <= {entry["run"] for entry in lineage}


def test_copies_that_went_through_a_filter_are_not_published(tmp_path: Path):
    home = world(tmp_path)
    fields = {"database": copycat(home).name, "training": home.real.name, "share": 1.0}
    run = filter_database(read_spec(FilterSpec, {**fields, **NOT_FILTERED}, ""), home.store)
    audit(home.store, home.real, run)
    with pytest.raises(GateRefused, match="copycat"):
        build(run.name, tmp_path / "release", home.store, home.answers)
