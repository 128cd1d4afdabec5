"""Faces: the table and the images always fit each other."""

from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from mien.errors import DataError
from mien.faces import (
    COLUMNS,
    EMOTIONS,
    Faces,
    concatenate,
    find_first_known,
    make_index,
    name_distinct_units,
)
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
    fear, happiness = EMOTIONS.index("fear"), EMOTIONS.index("happiness")
    assert faces.number_labels().tolist() == [fear, happiness] * 2
    assert faces.number_labels(("happiness", "fear")).tolist() == [1, 0] * 2
    with pytest.raises(DataError, match="also show fear"):
        faces.number_labels(("happiness",))


def test_counts_are_images_clips_and_subjects():
    table = some(6).count_images()
    assert table.to_dict("list") == {
        "class": ["fear", "happiness", "total"],
        "images": [3, 3, 6],
        "clips": [3, 3, 3],
        "subjects": [3, 3, 3],
    }


def mixed(subjects: list[str], clips: list[str]) -> Faces:
    images = np.zeros((len(clips), 1, 8, 8), np.uint8)
    keys = [f"k{number}" for number in range(len(clips))]
    return Faces(images, make_index(images, key=keys, subject=subjects, clip=clips, emotion="fear"))


def test_an_image_belongs_to_its_subject_else_to_its_clip_else_to_itself():
    faces = mixed(["s", "", "", "s"], ["c", "d", "", ""])
    assert list(faces.name_units("subject")) == ["s", "d", "k2", "s"]
    assert list(faces.name_units("clip")) == ["c", "d", "k2", "k3"]
    assert list(faces.name_units("image")) == ["k0", "k1", "k2", "k3"]
    assert list(find_first_known(faces.index, "subject", "key")) == ["s", "k1", "k2", "s"]


def test_no_clip_is_taken_for_a_subject_of_the_same_name():
    faces = mixed(["c", "", ""], ["", "c", ""])
    assert list(faces.name_units("subject")) == ["c", "c", "k2"]
    subjects, clips = (name_distinct_units(faces.index, unit) for unit in ("subject", "clip"))
    assert list(subjects) == ["c", "\x1fc", "\x1f\x1fk2"]
    assert list(clips) == ["\x1fk0", "c", "\x1fk2"]


@pytest.mark.parametrize(
    ("subjects", "clips", "unit", "names"),
    [
        (["s", "t"], ["", "c"], "subject", ["s", "t"]),
        (["s", ""], ["c", "d"], "clip", ["c", "d"]),
        (["s", ""], ["", "d"], "image", ["k0", "d"]),
    ],
)
def test_the_largest_unit_that_is_known_of_all_images(
    subjects: list[str], clips: list[str], unit: str, names: list[str]
):
    faces = mixed(subjects, clips)
    assert faces.find_unit() == unit
    assert faces.find_independent_units()[0] == unit
    assert list(faces.find_independent_units()[1]) == names


ODD_TEXTS = ("", " ", "é 表情", "a\nb", 'quote " and , comma', "\x1f", "NA", "nan", "0012", "=1+1")


@pytest.mark.parametrize("seed", range(5))
def test_faces_with_odd_tables_come_back_from_disk_as_they_were(tmp_path: Path, seed: int):
    # Texts that other formats change, extreme numbers, no rows, and every number of channels
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 12))
    images = rng.integers(0, 256, (n, seed + 1, 4, 5)).astype(np.uint8)
    texts = {
        name: list(rng.choice(ODD_TEXTS, n)) for name in ("dataset", "subject", "clip", "raw_label")
    }
    index = make_index(
        images,
        key=[f"{rng.choice(ODD_TEXTS)}/{number}" for number in range(n)],
        emotion=list(rng.choice(EMOTIONS, n)),
        frame=list(rng.integers(-1, 2**62, n)),
        seed=list(rng.integers(-1, 2**62, n)),
        **texts,
    )
    seen = index.filter(["key", "subject", "clip", "dataset"]) if seed % 2 else None
    channels = tuple(ODD_TEXTS[1 : seed + 2])
    Faces(images, index, seen, channels).save(tmp_path)

    again = Faces.load(tmp_path)
    assert np.array_equal(again.images, images) and again.images.dtype == np.uint8
    assert_frame_equal(again.index, index)
    assert again.channels == channels
    assert (again.seen is None) == (seen is None)
    if seen is not None and again.seen is not None:
        assert_frame_equal(again.seen, seen)


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
