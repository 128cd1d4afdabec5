"""Joins: people stay apart, classes are what all understand, and what must not be put together is
refused.
"""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from mien.errors import DataError, LeakageError, SpecError
from mien.faces import Faces, make_index
from mien.ingest.run import run_ingest
from mien.prepare import splits
from mien.prepare.joins import join, run_join
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec, SplitSpec
from mien.runs.spec import Spec, read_spec
from mien.runs.store import Run, Store


def some(name: str, emotions: list[str], seed: int = 0) -> Faces:
    images = np.random.default_rng([seed, *name.encode()]).integers(
        0, 256, (len(emotions), 1, 8, 8), dtype=np.uint8
    )
    numbers = range(len(emotions))
    index = make_index(
        images,
        key=[f"{name}/{k}" for k in numbers],
        dataset=name,
        subject=[f"{name}:s{k % 3}" for k in numbers],
        clip=[f"{name}:s{k % 3}/{k}" for k in numbers],
        emotion=emotions,
    )
    return Faces(images, index)


class RootSpec(Spec):
    stage: ClassVar[str] = "root"
    what: str


def keep(faces: Faces, store: Store, alias: str) -> Run:
    return store.make(RootSpec(what=alias), lambda out, scratch: faces.save(out), alias)


def test_common_classes_are_those_of_all_sets_and_union_those_of_any():
    one, other = (
        some("a", ["fear", "anger", "happiness"]),
        some("b", ["happiness", "fear", "contempt", "fear"]),
    )
    common = join([one, other], "common")
    assert list(common.index["emotion"]) == ["fear", "happiness", "happiness", "fear", "fear"]
    assert len(join([one, other], "union")) == 7
    assert set(common.subjects) == {"a:s0", "a:s2", "b:s0", "b:s1"}
    with pytest.raises(DataError, match="some class in common, and have none: anger; fear"):
        join([some("a", ["anger"]), some("b", ["fear"])], "common")


def test_megc_2019_folds_each_dataset_its_own_way():
    casme2 = some(
        "c2", ["disgust", "repression", "fear", "sadness", "others", "happiness", "surprise"]
    )
    samm = some(
        "sa", ["anger", "contempt", "disgust", "fear", "sadness", "others", "happiness", "surprise"]
    )
    smic = some("sm", ["negative", "positive", "surprise"])
    joined = join([casme2, samm, smic], "megc2019", {"c2": "casme2", "sa": "samm", "sm": "smic"})
    counts = Counter(zip(joined.index["dataset"], joined.index["emotion"], strict=True))
    assert counts == {
        **{("c2", "negative"): 2, ("c2", "positive"): 1, ("c2", "surprise"): 1},
        **{("sa", "negative"): 5, ("sa", "positive"): 1, ("sa", "surprise"): 1},
        **{("sm", "negative"): 1, ("sm", "positive"): 1, ("sm", "surprise"): 1},
    }
    mixed = some("f", ["positive", "repression", "others", "surprise"])  # as 4DME labels
    assert list(join([mixed, smic], "megc2019").index["emotion"][:2]) == ["positive", "surprise"]


def test_sizes_channels_and_images_must_fit():
    one = some("a", ["fear", "anger"])
    larger = Faces(np.zeros((1, 1, 16, 16), np.uint8), some("b", ["fear"]).index)
    with pytest.raises(DataError, match="must have one size"):
        join([one, larger])
    shown = Faces(some("b", ["fear"]).images, some("b", ["fear"]).index, channels=("hog",))
    with pytest.raises(DataError, match="hog and plain pictures"):
        join([one, shown])
    with pytest.raises(DataError, match="must not share images, and 1 is in two, such as a/1"):
        join([one, one.select(np.array([1]))])
    with pytest.raises(SpecError, match="faces: must have 2 or more"):
        read_spec(JoinSpec, {"faces": ["root-000000000000"]}, "join")


def test_two_datasets_of_one_name_are_refused_and_parts_of_one_are_not(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(some("a", ["fear", "anger", "fear"]), store, "one")
    keep(some("a", ["fear", "anger"], seed=1), store, "other")
    with pytest.raises(
        DataError,
        match="two different ones are called 'a': the subject a:1 would be a different person",
    ):
        run_join(JoinSpec(faces=("one", "other")), store)
    sides = [
        splits.run_split(SplitSpec(faces="one", by="clip", folds=3, number=0, side=side), store)
        for side in ("train", "test")
    ]
    again = run_join(JoinSpec(faces=(sides[0].name, sides[1].name), classes="union"), store)
    assert sorted(Faces.load(again.path).index["key"]) == ["a/0", "a/1", "a/2"]
    with pytest.raises(DataError, match="must be different runs"):
        run_join(JoinSpec(faces=("one", "one")), store)


def test_one_folder_under_two_names_is_refused(tmp_path: Path):
    store = Store(tmp_path / "store")
    for place in range(2):
        (tmp_path / "album" / "fear").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(place).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "album" / "fear" / f"{place}.png")
    for name in ("a", "b"):
        run_ingest("folder", tmp_path / "album", store, name=name, size=16, alias=name, workers=1)
    with pytest.raises(DataError, match="the same files were ingested as 'a' and as 'b'"):
        run_join(JoinSpec(faces=("a", "b")), store)


def test_a_join_to_the_three_classes_names_only_what_it_leaves_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    keep(some("a", ["fear", "others", "happiness"]), store, "one")
    keep(some("b", ["anger", "others", "surprise"]), store, "other")
    run_join(JoinSpec(faces=("one", "other"), classes="megc2019"), store)
    assert (
        capfd.readouterr().err == "2 images are left out, of classes that are not kept: others 2\n"
    )


def test_a_run_says_what_it_holds_of_each_set_and_what_was_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    keep(some("a", ["fear", "anger", "happiness"]), store, "one")
    keep(some("b", ["fear", "fear", "contempt"]), store, "other")
    made = run_join(JoinSpec(faces=("one", "other")), store, alias="both")
    summary = made.read_json("summary.json")
    assert summary["datasets"] == {"a": {"fear": 1}, "b": {"fear": 2}} and summary["left_out"] == 3
    assert made.spec["faces"] == [store.run("one").name, store.run("other").name]
    assert (
        "3 images are left out, of classes that are not kept: anger 1, contempt 1, happiness 1"
        in capfd.readouterr().err
    )
    twin = Faces(
        np.repeat(some("a", ["fear"]).images, 2, axis=0), some("t", ["fear", "anger"]).index
    )
    twin = Faces(
        twin.images,
        make_index(twin.images, **{n: list(twin.index[n]) for n in ("key", "dataset", "emotion")}),
    )
    keep(twin, store, "twins")
    run_join(JoinSpec(faces=("one", "twins"), classes="union"), store)
    assert "1 picture is equal, pixel by pixel, in several datasets" in capfd.readouterr().err


# Cross-dataset splits


def test_by_dataset_one_is_left_out_at_a_time_in_the_order_of_names():
    whole = join(
        [
            some("b", ["fear", "anger"] * 3),
            some("a", ["fear", "anger"] * 2),
            some("c", ["anger", "fear"]),
        ]
    )
    tested = [
        set(whole.index["dataset"][splits.split(whole, "dataset", 3, k, 0).test]) for k in range(3)
    ]
    assert tested == [{"a"}, {"b"}, {"c"}]
    two = splits.split(whole, "dataset", 2, 0, 0)
    assert not set(whole.index["dataset"][two.test]) & set(whole.index["dataset"][two.train])
    assert (
        splits.choose_fold_count(whole, "dataset") == 3
        and splits.choose_fold_count(whole, "subject") == 5
    )
    with pytest.raises(DataError, match="join another one"):
        splits.split(some("a", ["fear"]), "dataset", 2, 0, 0)
    nameless = Faces(whole.images, whole.index.assign(dataset=""))
    with pytest.raises(DataError, match="needs the dataset of every image"):
        splits.split(nameless, "dataset", 2, 0, 0)


def test_a_test_on_a_dataset_that_was_seen_is_a_leak_by_generators_too():
    one, other = some("a", ["fear", "anger"]), some("b", ["fear", "anger"])
    splits.require_unseen(one, other, "dataset")
    with pytest.raises(LeakageError, match="no dataset that training has seen"):
        splits.require_unseen(join([one, other]), other, "dataset")
    made = one.index.assign(source="edm-000000000000", dataset="synthetic", subject="", clip="")
    seen = other.index.filter(["key", "subject", "clip", "dataset"])
    with pytest.raises(LeakageError, match="no dataset that training has seen"):
        splits.require_unseen(Faces(one.images, made, seen), other, "dataset")
    splits.require_unseen(Faces(one.images, made, seen), one, "dataset")
    with pytest.raises(LeakageError, match="datasets must be known"):
        splits.require_unseen(
            Faces(one.images, made, seen.drop(columns="dataset")), other, "dataset"
        )


def test_a_join_is_preprocessed_as_any_set_is(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(some("a", ["fear", "anger", "fear"]), store, "one")
    keep(some("b", ["fear", "anger"]), store, "other")
    joined = run_join(JoinSpec(faces=("one", "other")), store)
    spec = PreprocessSpec(faces=joined.name, frames="all", input=("laplacian",))
    assert Faces.load(run_preprocess(spec, store).path).channels == ("laplacian",)


def moving(name: str) -> Faces:
    """A clip of five frames of each of two people."""
    faces = some(name, ["fear"] * 10)
    who = [f"{name}:s{k // 5}" for k in range(10)]
    phases = ["onset", "rise", "apex", "fall", "offset"] * 2
    names = {"subject": who, "clip": [f"{person}/1" for person in who], "phase": phases}
    return Faces(faces.images, faces.index.assign(**names, frame=[0, 1, 2, 3, 4] * 2))


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            {"clips": 3},
            {"clips": 3, "until": "apex"},
            "clips until offset; .*clips until apex.* the same --until",
        ),
        (
            {"frames": "apex", "window": 0, "input": ["flow-right", "strain"]},
            {
                "frames": "apex",
                "window": 0,
                "input": ["flow-right", "strain"],
                "flow": {"reach": 0.02},
            },
            "reach 0.04.*reach 0.02",
        ),
    ],
)
def test_moments_and_movement_must_mean_the_same_in_all_sets(
    tmp_path: Path, one: dict[str, object], other: dict[str, object], message: str
):
    store = Store(tmp_path / "store")
    runs = []
    for name in ("a", "b"):
        keep(moving(name), store, name)
        for fields in (one, other):
            spec = read_spec(PreprocessSpec, {"faces": name, **fields}, "test")
            runs.append(run_preprocess(spec, store).name)
    with pytest.raises(DataError, match=f"show moments and movement in the same way.*{message}"):
        run_join(JoinSpec(faces=(runs[0], runs[3])), store)
    joined = Faces.load(run_join(JoinSpec(faces=(runs[0], runs[2])), store).path)
    assert len(joined) == 4 and set(joined.index["dataset"]) == {"a", "b"}
