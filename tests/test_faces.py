"""Faces: the table and the images always fit each other."""

from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mien.errors import DataError
from mien.faces import COLUMNS, EMOTIONS, Faces, concatenate, make_index
from mien.pages.sheets import draw_class_sheet, draw_rows, draw_side_by_side
from mien.seeds import derive_seed


def some(n: int = 6, name: str = "a", size: int = 8) -> Faces:
    images = np.arange(n * size * size, dtype=np.int64).reshape(n, 1, size, size).astype(np.uint8)
    emotions = [("fear", "happiness")[k % 2] for k in range(n)]
    subjects = [f"{name}:s{k % 3}" for k in range(n)]
    keys = [f"{name}/{k}" for k in range(n)]
    return Faces(
        images,
        make_index(
            images, key=keys, emotion=emotions, subject=subjects, clip=subjects, dataset=name
        ),
    )


def test_faces_come_back_from_disk_as_they_were(tmp_path: Path):
    faces = some()
    faces.save(tmp_path)
    again = Faces.load(tmp_path)
    assert np.array_equal(again.images, faces.images)
    assert_frame_equal(again.index, faces.index)
    assert again.seen is None


def test_what_a_generator_saw_travels_with_its_faces(tmp_path: Path):
    faces = some()
    synthetic = Faces(faces.images, faces.index, faces.index.filter(["key", "subject", "clip"]))
    synthetic.save(tmp_path)
    again = Faces.load(tmp_path)
    assert again.seen is not None and list(again.seen["key"]) == list(faces.index["key"])
    assert again.select(np.array([True] + [False] * 5)).seen is not None
    both = concatenate([some(name="b"), again])
    assert both.seen is not None and len(both.seen) == 6


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 4, 4), np.float32),
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((3, 1, 4, 4), np.uint8),
    ],
)
def test_images_of_another_type_shape_or_number_are_refused(images: np.ndarray):
    with pytest.raises(DataError):
        Faces(images, some(2).index)


def test_unknown_emotions_and_repeated_keys_are_refused():
    faces = some(2)
    with pytest.raises(DataError, match="glee"):
        Faces(faces.images, faces.index.assign(emotion="glee"))
    with pytest.raises(DataError, match="keys must be unique; 'k' occurs 2 times"):
        Faces(faces.images, faces.index.assign(key="k"))


def test_class_numbers_do_not_depend_on_what_is_present():
    faces = some(4)
    assert faces.classes == ("fear", "happiness")
    assert faces.labels().tolist() == [EMOTIONS.index("fear"), EMOTIONS.index("happiness")] * 2
    assert faces.labels(("happiness", "fear")).tolist() == [1, 0] * 2
    with pytest.raises(DataError, match="also show fear"):
        faces.labels(("happiness",))


def test_counts_are_images_clips_and_subjects():
    table = some(6).counts()
    assert table.to_dict("list") == {
        "class": ["fear", "happiness", "total"],
        "images": [3, 3, 6],
        "clips": [3, 3, 3],
        "subjects": [3, 3, 3],
    }


def test_faces_of_two_sizes_are_not_joined():
    with pytest.raises(DataError, match="one size"):
        concatenate([some(), some(name="b", size=4)])


def test_the_index_has_every_column_and_a_hash_of_the_pixels():
    faces = some(2)
    assert list(faces.index.columns) == list(COLUMNS)
    assert len(set(faces.index["sha256"])) == 2
    with pytest.raises(DataError, match="no column mood"):
        make_index(faces.images, mood="grim")


def test_seeds_are_golden_and_know_the_place_of_each_name():
    assert derive_seed("split", "casme2-48") == 797675515070532347
    assert derive_seed("a", "bc") != derive_seed("ab", "c")
    assert 0 <= derive_seed("x", 1) < 2**63


def test_a_contact_sheet_has_a_row_for_each_class():
    sheet = draw_class_sheet(some(6), per_class=4, scale=2)
    assert (
        sheet.height == 2 * (18 + 16 + 2) and sheet.width >= 4 * 18 - 2
    )  # wide enough for its titles
    assert draw_side_by_side(some(6), some(2, "b"), per_class=4).width >= 2 * (4 * 18 - 2) + 16
    assert (
        draw_rows(["a" * 99], [some(1).images], 1).width
        > draw_rows(["a"], [some(1).images], 1).width
        >= 16
    )
