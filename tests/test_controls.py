"""Controls: answers without learning, labels without signal, and a generator that copies."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from test_classifiers import CLASSES, blobs
from test_study import keep

from mien import controls, splits
from mien.errors import DataError, LeakageError
from mien.faces import Faces
from mien.generators import copycat
from mien.generators.copycat import CopycatSpec
from mien.store import Store


def halves() -> tuple[Faces, Faces]:
    faces = blobs()
    fold = splits.split(faces, "subject", 2, 0, 0)
    return faces.select(fold.train), faces.select(fold.test)


def test_majority_answers_the_commonest_training_class_whatever_the_test_shows():
    train, test = halves()
    train = train.select((train.index["emotion"] != CLASSES[0]).to_numpy())
    more = train.select(np.flatnonzero(train.index["emotion"] == CLASSES[2])[:1])
    most = Faces(
        np.concatenate([train.images, more.images]),
        pd.concat([train.index, more.index.assign(key="one more")], ignore_index=True),
    )
    answers = controls.predict("majority", most, test, CLASSES)
    assert answers.shape == (len(test), len(CLASSES))
    assert (answers.argmax(axis=1) == 2).all() and (answers.sum(axis=1) == 1).all()


@pytest.mark.parity
def test_the_nearest_neighbour_is_that_of_all_distances():
    train, test = halves()
    flat = [faces.images.reshape(len(faces), -1) / 255 for faces in (train, test)]
    expected = train.labels(CLASSES)[cdist(flat[1], flat[0]).argmin(axis=1)]
    assert (controls.predict("nearest", train, test, CLASSES).argmax(axis=1) == expected).all()


def test_a_seen_image_is_its_own_nearest_neighbour():
    train, _ = halves()
    found = controls.predict("nearest", train, train, CLASSES).argmax(axis=1)
    assert (found == train.labels(CLASSES)).all()


def test_a_baseline_needs_training_images_of_the_same_size():
    train, test = halves()
    with pytest.raises(DataError, match="needs training images"):
        controls.predict("nearest", train.select(np.zeros(len(train), dtype=bool)), test, CLASSES)
    with pytest.raises(DataError, match="must have one size"):
        controls.predict("nearest", blobs(size=24), test, CLASSES)


def test_permuted_labels_keep_clips_whole_and_classes_as_large():
    faces = blobs()
    dealt = controls.permuted(faces, 3)
    assert set(dealt.index.groupby("clip")["emotion"].nunique()) == {1}
    assert dealt.index["emotion"].value_counts().to_dict() == faces.index["emotion"].value_counts().to_dict()
    assert np.mean(dealt.labels() != faces.labels()) > 0.5
    assert dealt.index.drop(columns="emotion").equals(faces.index.drop(columns="emotion"))


def test_permuted_labels_follow_names_and_the_seed_not_the_order():
    faces = blobs()
    order = np.random.default_rng(0).permutation(len(faces))
    first, second = controls.permuted(faces, 3), controls.permuted(faces.select(order), 3)
    assert list(first.index["emotion"].iloc[order]) == list(second.index["emotion"])
    assert list(controls.permuted(faces, 4).index["emotion"]) != list(first.index["emotion"])


def test_copies_are_training_images_moved_by_a_pixel_with_noise():
    faces = blobs()
    spec = CopycatSpec(faces="made-000000000000", counts={CLASSES[1]: 30, CLASSES[0]: 5})
    made = copycat.copies(faces, spec, "copycat-000000000000")
    assert made.index["emotion"].value_counts().to_dict() == spec.counts
    still = copycat.copies(faces, spec.model_copy(update={"shift": 0, "noise": 0}), "copycat-000000000000")
    originals = {image.tobytes(): emotion for image, emotion in zip(faces.images, faces.index["emotion"], strict=True)}
    assert [originals[image.tobytes()] for image in still.images] == list(still.index["emotion"])
    assert len({image.tobytes() for image in still.images}) == 24 + 5  # of 24 images a class, each before any again
    noisy = copycat.copies(faces, spec.model_copy(update={"shift": 0}), "copycat-000000000000")
    difference = noisy.images.astype(float) - still.images
    assert difference.std() == pytest.approx(0.05 * 255, rel=0.05)
    moved = copycat.copies(faces, spec.model_copy(update={"noise": 0}), "copycat-000000000000")
    assert (moved.images[:, :, 1:-1, 1:-1] != still.images[:, :, 1:-1, 1:-1]).any()


def test_a_copy_is_the_same_whatever_else_is_ordered():
    faces = blobs()
    few = CopycatSpec(faces="made-000000000000", counts={CLASSES[0]: 3})
    many = CopycatSpec(faces="made-000000000000", counts=dict.fromkeys(CLASSES, 9))
    alone, among = copycat.copies(faces, few, "a"), copycat.copies(faces, many, "a")
    place = list(among.index["key"]).index(alone.index["key"].iloc[2])
    assert (among.images[place] == alone.images[2]).all()


def test_a_database_of_copies_says_whom_it_shows_and_may_not_meet_them_in_a_test(tmp_path: Path):
    store = Store(tmp_path / "store")
    train, test = halves()
    parent = keep(train, store, "train")
    run = copycat.run(CopycatSpec(faces=parent.name, counts={CLASSES[0]: 12}), store, alias="copies")
    made = Faces.load(store.run("copies").path)
    assert (run.file("sheet.png").exists(), len(made)) == (True, 12)
    splits.require_unseen(made, test, "subject")
    with pytest.raises(LeakageError):
        splits.require_unseen(made, train, "subject")


def test_what_is_not_there_cannot_be_copied():
    spec = CopycatSpec(faces="made-000000000000", counts={"contempt": 1})
    with pytest.raises(DataError, match="none of contempt"):
        copycat.copies(blobs(), spec, "a")
