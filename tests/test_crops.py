"""Crops: faces are found where they were drawn, clips are cut in one place, and misses are never
silent.
"""

from pathlib import Path

import numpy as np
import onnx_files
import pandas as pd
import pytest
from PIL import Image

from mien.errors import DataError, SpecError, UsageError, WeightsError
from mien.faces import Faces, make_index
from mien.ingest.run import run_ingest
from mien.ingest.toy.head import Pose, draw_face, invent_identity
from mien.pictures import FacePlace, crop
from mien.prepare.crops import FaceFinder, find_all, read_options
from mien.prepare.preprocess import preprocess
from mien.prepare.specs import CropSpec, PreprocessSpec
from mien.runs.spec import read_spec
from mien.runs.store import Store

LEFT, TOP, HEIGHT, WIDTH = 150, 60, 340, 280  # where a drawn face stands in its photograph


def backdrop(height: int = 480, width: int = 560) -> np.ndarray:
    """A room without a face: two soft slopes of grey."""
    down, across = np.mgrid[:height, :width]
    return np.repeat(
        (90 + 60 * down / height + 40 * across / width).astype(np.uint8)[..., None], 3, axis=2
    )


def photograph(person: int = 1, angle: float = 0.0, left: int = LEFT) -> np.ndarray:
    picture = backdrop()
    picture[TOP : TOP + HEIGHT, left : left + WIDTH] = draw_face(
        invent_identity(0, person), {"12": 0.8}, pose=Pose(angle=angle)
    )
    return picture


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(CropSpec(align=True))


@pytest.mark.parametrize("person", [1, 2, 3])
def test_a_face_is_found_where_it_was_drawn(finder: FaceFinder, person: int):
    place = finder(photograph(person))
    assert place.kind != "missed"
    assert abs(place.x - (LEFT + WIDTH / 2)) < 30 and abs(place.y - (TOP + HEIGHT / 2)) < 45
    assert 170 < place.side < 320
    moved = finder(photograph(person, left=LEFT + 100))
    assert moved.x - place.x == pytest.approx(100, abs=6) and moved.side == pytest.approx(
        place.side, rel=0.1
    )


def test_a_large_picture_is_searched_at_a_smaller_size_and_answered_in_its_own(finder: FaceFinder):
    small = photograph()
    large = np.asarray(Image.fromarray(small).resize((1680, 1440), Image.Resampling.BICUBIC))
    one, other = finder(small), finder(large)
    assert (other.x / 3, other.y / 3) == pytest.approx((one.x, one.y), abs=8)
    assert other.side / 3 == pytest.approx(one.side, rel=0.12)


@pytest.mark.parametrize("angle", [-12.0, 12.0])
def test_a_turned_face_is_turned_back(finder: FaceFinder, angle: float):
    picture = photograph(angle=angle)  # counter-clockwise, as the drawing counts
    place = finder(picture)
    assert place.kind == "found" and place.turn == pytest.approx(-angle, abs=4)
    level = finder(
        crop(np.pad(picture, ((80, 80), (80, 80), (0, 0)), "edge"), shifted(place, 80), 0.4)
    )
    assert abs(level.turn) < 4


def shifted(place: FacePlace, by: int) -> FacePlace:
    return FacePlace(place.kind, place.x + by, place.y + by, place.side, place.turn)


def test_a_room_without_a_face_is_a_miss_and_its_middle_is_known(finder: FaceFinder):
    assert finder(backdrop()) == FacePlace("missed", 280.0, 240.0, 480.0)
    assert crop(backdrop(), finder(backdrop()), 0.5).shape == (
        480,
        480,
        3,
    )  # no margin around a miss


def test_what_is_cut_has_its_margin_and_repeats_the_border_beyond_the_picture():
    picture = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert np.array_equal(crop(picture, FacePlace("found", 5.0, 5.0, 4.0), 0.0), picture[3:7, 3:7])
    assert np.array_equal(crop(picture, FacePlace("found", 5.0, 5.0, 4.0), 0.25), picture[2:8, 2:8])
    corner = crop(picture, FacePlace("found", 0.0, 0.0, 4.0), 0.0)
    assert np.array_equal(corner[2:, 2:], picture[:2, :2]) and np.all(
        corner[:3, :3] == picture[0, 0]
    )
    # by interpolation, and the same
    barely = crop(picture, FacePlace("found", 5.0, 5.0, 4.0, turn=1e-9), 0.0)
    assert np.array_equal(barely, picture[3:7, 3:7])


def test_a_clip_is_cut_in_one_place_found_in_an_early_frame():
    pictures = [backdrop(), photograph(), photograph(left=LEFT + 60), backdrop(), photograph(2)]
    places = find_all(
        5, ["c", "c", "c", "", ""], [2, 4, 9, -1, -1], pictures.__getitem__, CropSpec()
    )
    kinds = [place.kind for place in places if place]
    assert (
        kinds
        == ["found" if kind != "missed" else kind for kind in kinds]
        == ["found"] * 3 + ["missed", "found"]
    )
    assert places[0] == places[1] == places[2] != places[4]
    mixed = find_all(
        3, ["c"] * 3, [9, 2, 4], [pictures[2], pictures[0], pictures[1]].__getitem__, CropSpec()
    )
    assert mixed[0] == places[0]  # the order of rows plays no part

    def unread(number: int) -> np.ndarray | None:
        return None if number == 0 else pictures[number]

    assert find_all(2, ["", ""], [-1, -1], unread, CropSpec())[0] is None


# YuNet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "yunet.onnx"
    path.write_bytes(onnx_files.yunet())
    return path


def test_a_yunet_is_loaded_and_its_box_and_eyes_are_read(model: Path):
    finder = FaceFinder(CropSpec(detector="yunet", model="0" * 64, align=True), model)
    picture = np.zeros((320, 384, 3), np.uint8)
    picture[96:128, 160:192] = 255
    place = finder(picture)
    assert (place.kind, place.x, place.y) == ("found", 176, 112)
    assert place.side == pytest.approx(128) and place.turn == pytest.approx(
        np.rad2deg(np.arctan2(16, 64))
    )
    assert finder(np.zeros((320, 384), np.uint8)).kind == "missed"


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08"])
def test_a_file_that_is_no_yunet_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"other\.onnx must be"):
        FaceFinder(CropSpec(detector="yunet", model="0" * 64), path)(
            np.zeros((64, 64, 3), np.uint8)
        )


def test_a_file_that_is_missing_and_options_without_a_crop_are_refused(tmp_path: Path, model: Path):
    with pytest.raises(WeightsError, match=r"must be a file, and .*none\.onnx is not"):
        read_options("yunet", tmp_path / "none.onnx", None, False, None)
    with pytest.raises(WeightsError, match="none was given"):
        FaceFinder(CropSpec(detector="yunet", model="0" * 64))
    for given in (
        (None, model, None, False, None),
        (None, None, 0.1, False, None),
        (None, None, None, True, None),
    ):
        with pytest.raises(UsageError, match="needs --crop haar or --crop yunet"):
            read_options(*given)
    assert read_options(None, None, None, False, None) is None
    named = read_options("yunet", model, 0.2, True, "skip")
    assert named is not None and len(named["model"]) == 64 and named["margin"] == 0.2
    for wrong in ({"detector": "yunet"}, {"model": "0" * 64}, {"detector": "hog"}, {"margin": 2}):
        with pytest.raises(SpecError):
            read_spec(CropSpec, wrong, "crop")


# Whole sets


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes: three with a face, one without."""
    folder = tmp_path_factory.mktemp("album")
    for emotion, name, picture in (
        ("fear", "a", photograph(1)),
        ("fear", "b", backdrop()),
        ("happiness", "c", photograph(2)),
        ("happiness", "d", photograph(3, left=40)),
    ):
        (folder / emotion).mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / emotion / f"{name}.png")
    return folder


def test_an_album_is_cut_before_it_is_resized_and_misses_are_listed(
    tmp_path: Path, album: Path, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    run = run_ingest(
        "folder", album, store, name="album", size=64, crop={"misses": "skip"}, workers=1
    )
    faces = Faces.load(run.path)
    assert list(faces.index["key"]) == [
        "album/fear/a.png",
        "album/happiness/c.png",
        "album/happiness/d.png",
    ]
    found = pd.read_csv(run.find_file("crops.csv"))
    assert list(found["kind"]) == ["found", "missed", "found", "found"]
    place = found.iloc[0]
    by_hand = crop(photograph(1), FacePlace("found", place["x"], place["y"], place["side"]), 0.1)
    expected = np.asarray(
        Image.fromarray(by_hand).convert("L").resize((64, 64), Image.Resampling.BILINEAR)
    )
    assert np.abs(faces.images[0, 0].astype(int) - expected).max() <= 1
    assert pd.read_csv(run.find_file("misses.csv")).to_dict("list") == {
        "key": ["album/fear/b.png"],
        "emotion": ["fear"],
    }
    assert run.read_json("summary.json")["crop"]["missed_by_class"] == {"fear": 1}
    with Image.open(run.find_file("crops.png")) as sheet:
        assert sheet.height > 2 * 96
    assert "faces were found in 3 of 4 pictures; missed: fear 1" in capfd.readouterr().err


def test_a_miss_fails_unless_its_middle_is_wanted(tmp_path: Path, album: Path):
    store = Store(tmp_path / "store")
    with pytest.raises(
        DataError, match=r"in 1 of 4 none was found: album/fear/b\.png.*--misses skip"
    ):
        run_ingest("folder", album, store, name="album", size=64, crop={}, workers=1)
    run = run_ingest(
        "folder", album, store, name="album", size=64, crop={"misses": "centre"}, workers=1
    )
    middle = (
        Image.fromarray(backdrop()[:, 40:520])
        .convert("L")
        .resize((64, 64), Image.Resampling.BILINEAR)
    )
    assert np.array_equal(Faces.load(run.path).images[1, 0], np.asarray(middle))


def test_stored_images_are_cut_too_and_the_difference_is_of_equal_cuts():
    frames = [photograph(1), photograph(1), photograph(1)]
    images = np.stack(
        [np.asarray(Image.fromarray(one).convert("L").resize((200, 200)))[None] for one in frames]
    )
    index = make_index(
        images,
        key=["0", "1", "2"],
        emotion="fear",
        clip="c",
        frame=[1, 2, 3],
        phase=["onset", "rise", "apex"],
    )
    fields = {
        "faces": "ingest-0123456789ab",
        "size": 48,
        "crop": {},
        "input": ["gray", "onset-difference"],
    }
    spec = read_spec(PreprocessSpec, {**fields, "frames": "onset+apex"}, "test")
    made = preprocess(Faces(images, index), spec)
    assert made.size == (2, 48, 48) and np.all(made.images[:, 1] == 128)
    whole = preprocess(Faces(images, index), spec.model_copy(update={"crop": None}))
    assert made.images[0, 0].std() != whole.images[0, 0].std()


def test_images_of_which_none_shows_a_face_are_refused():
    images = np.full((2, 1, 64, 64), 90, np.uint8)
    faces = Faces(images, make_index(images, key=["a", "b"], emotion="fear"))
    spec = read_spec(
        PreprocessSpec,
        {"faces": "ingest-0123456789ab", "frames": "all", "crop": {"misses": "skip"}},
        "test",
    )
    with pytest.raises(DataError, match="some image must show a face, and none of 2 does"):
        preprocess(faces, spec)
