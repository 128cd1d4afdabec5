"""Decoding and frame selection: known answers, and parity with a plain Pillow pipeline."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.errors import DataError, SpecError, UsageError
from mien.faces import CLASS_SETS, EMOTIONS, Faces, make_index
from mien.pages.sheets import draw_class_sheet, draw_grid
from mien.pictures import decode
from mien.prepare.classes import merge_classes
from mien.prepare.clips import find_clips_without_apex
from mien.prepare.inputs import compute_hog, compute_onset_difference
from mien.prepare.preprocess import preprocess, read_frames, read_input, run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.published import CLIPS_PER_CLASS, TABLE_1
from mien.runs.spec import Spec, read_spec
from mien.runs.store import Store


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    whole = np.stack(
        [
            np.asarray(Image.fromarray(small[..., c]).resize((width, height), 3))
            for c in range(channels)
        ],
        2,
    )
    return whole[..., 0] if channels == 1 else whole


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def clips(lengths: dict[str, tuple[int, int, int | None]], size: int = 8) -> Faces:
    """Clips by name: first frame, last frame, apex; and two photographs."""
    rows = [("", -1, "still", "p0"), ("", -1, "still", "p1")]
    for clip, (first, last, apex) in lengths.items():
        rows += [
            (clip, k, "apex" if k == apex else "rise", f"{clip}/{k}")
            for k in range(first, last + 1)
        ]
    images = np.random.default_rng(0).integers(0, 256, (len(rows), 1, size, size), dtype=np.uint8)
    names = ("clip", "frame", "phase", "key")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return Faces(images, make_index(images, emotion="fear", subject="s", **columns))


def spec(**fields: object) -> PreprocessSpec:
    return read_spec(PreprocessSpec, {"faces": "ingest-0123456789ab", **fields}, "test")


@pytest.mark.parametrize("name", ["box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_decoding_is_pillow_step_by_step(tmp_path: Path, name, suffix: str):
    path = saved(Image.fromarray(picture(340, 280)), tmp_path / f"a.{suffix}")
    with Image.open(path) as image:
        whole = image.convert("RGB")
    plain = whole.convert("L").resize((48, 48), Image.Resampling[name.upper()])
    assert np.array_equal(decode(path, 48, "grey", name), np.asarray(plain)[None])
    colour = whole.resize((48, 48), Image.Resampling[name.upper()])
    assert np.array_equal(decode(path, 48, "rgb", name), np.moveaxis(np.asarray(colour), 2, 0))


@pytest.mark.parametrize(
    "colour, grey",
    [
        ((255, 0, 0), 76),
        ((0, 255, 0), 150),
        ((0, 0, 255), 29),
        ((255, 255, 255), 255),
        ((9, 9, 9), 9),
    ],
)
def test_grey_is_the_luma_of_bt_601(tmp_path: Path, colour: tuple[int, int, int], grey: int):
    path = saved(Image.new("RGB", (20, 30), colour), tmp_path / "a.png")
    assert np.all(decode(path, 8, "grey") == grey)


def test_reduction_is_antialiased(tmp_path: Path):
    stripes = np.tile(np.array([0, 255], np.uint8), (96, 48))
    path = saved(Image.fromarray(stripes), tmp_path / "a.png")
    # without it, columns would be black or white
    inner = decode(path, 12, "grey", "bilinear")[0, :, 1:-1]
    assert np.all(np.abs(inner.astype(int) - 127) <= 2)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_white_is_white_in_every_mode(tmp_path: Path, mode: str):
    values = np.full((12, 12), 65535, np.uint16)
    image = (
        Image.fromarray(values) if mode == "I;16" else Image.new("L", (12, 12), 255).convert(mode)
    )
    path = saved(image, tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    with Image.open(path) as stored:
        assert stored.mode == mode
    assert np.all(decode(path, 12, "rgb") == 255)
    assert decode(path, 12, "grey").shape == (1, 12, 12)


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path):
    values = np.repeat(
        np.array([[0, 128, 257, 32768, 65278, 65535, 200, 40000]], np.uint16), 8, axis=0
    )
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    expected = np.round(values[0] / 257).astype(np.uint8)
    assert np.array_equal(decode(path, 8, "grey")[0, 0], expected)


def test_transparent_parts_are_black(tmp_path: Path):
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 255))
    image.paste((255, 255, 255, 0), (0, 0, 8, 16))
    decoded = decode(saved(image, tmp_path / "a.png"), 16, "grey")[0]
    assert np.all(decoded[:, :8] == 0) and np.all(decoded[:, 8:] == 255)
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert np.all(decode(saved(palette, tmp_path / "b.png", transparency=1), 16, "grey") == 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str):
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16, :16] = 255  # the brightest corner is upper left, the next is upper right
    upright[:16, 16:] = 128
    # Pillow's transpositions, inverse to the tag's
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = Image.fromarray(upright)
    stored = image.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(stored, tmp_path / f"a.{suffix}", exif=exif)
    decoded = decode(path, 32, "grey")[0].astype(int)
    assert [decoded[4, 4] // 100, decoded[4, 28] // 100, decoded[28, 4] // 100] == [2, 1, 0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(tmp_path: Path):
    path = saved(
        Image.new("L", (16, 16), 200), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01"
    )
    assert np.all(decode(path, 16, "grey") == 200)


@pytest.mark.parametrize("size", [(7, 100), (100, 1), (8000, 8001)])
def test_absurd_sizes_are_refused(tmp_path: Path, size: tuple[int, int]):
    path = saved(Image.new("1", size), tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png must be an image .* pixels"):
        decode(path, 8)


def test_a_decompression_bomb_is_refused(tmp_path: Path):
    path = saved(Image.new("1", (20_000, 20_000)), tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png must be an image of at most 64,000,000 pixels"):
        decode(path, 8)


def test_a_truncated_or_missing_image_is_named(tmp_path: Path):
    path = saved(Image.fromarray(picture(64, 64)), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-300])
    for bad in (path, tmp_path / "none.png"):
        with pytest.raises(DataError, match=f"{bad.name} must be an image that can be read"):
            decode(bad, 8)


WHOLE = io.BytesIO()
Image.fromarray(picture(24, 24)).save(WHOLE, "png")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    place=st.integers(0, len(WHOLE.getvalue()) - 1),
    value=st.integers(0, 255),
    cut=st.integers(0, 400),
)
def test_any_bytes_are_an_image_or_a_data_error(tmp_path: Path, place: int, value: int, cut: int):
    content = bytearray(WHOLE.getvalue())
    content[place] = value
    (tmp_path / "a.png").write_bytes(bytes(content[: len(content) - cut]))
    try:
        assert decode(tmp_path / "a.png", 8).shape == (1, 8, 8)
    except DataError as error:
        assert "a.png must be" in str(error)


def test_the_apex_window_has_known_frames():
    faces = clips({"a": (46, 80, 60), "b": (1, 9, 2), "c": (5, 30, None)})
    kept = preprocess(faces, spec(window=3))
    assert [key for key in kept.index["key"] if key[0] == "a"] == [f"a/{k}" for k in range(57, 64)]
    assert [key for key in kept.index["key"] if key[0] == "b"] == [f"b/{k}" for k in range(1, 6)]
    assert [key for key in kept.index["key"] if key[0] == "p"] == ["p0", "p1"]
    assert find_clips_without_apex(faces.index) == ["c"] and "c" not in set(kept.index["clip"])
    assert preprocess(faces, spec(window=0)).index["key"].tolist() == ["p0", "p1", "a/60", "b/2"]


def test_every_counts_from_the_apex_or_from_the_first_frame():
    faces = clips({"a": (46, 80, 61), "c": (5, 9, None)})
    frames = preprocess(faces, spec(window=5, every=2)).index["frame"].tolist()
    assert frames == [-1, -1, 57, 59, 61, 63, 65]
    whole = preprocess(faces, spec(frames="all", every=10)).index["key"].tolist()
    assert whole == ["p0", "p1", "a/46", "a/56", "a/66", "a/76", "c/5"]


def test_onset_and_apex_are_two_frames_a_clip_and_photographs_stay():
    faces = clips({"a": (46, 80, 61), "c": (5, 9, None)})
    phases = faces.index["phase"].where(~faces.index["key"].isin(["a/46", "c/5"]), "onset")
    marked = Faces(faces.images, faces.index.assign(phase=phases))
    kept = preprocess(marked, spec(frames="onset+apex"))
    assert kept.index["key"].tolist() == ["p0", "p1", "a/46", "a/61"]
    for wrong in ({"window": 3}, {"every": 2}):
        with pytest.raises(SpecError, match="has no effect with frames 'onset\\+apex'"):
            spec(frames="onset+apex", **wrong)


def test_a_window_is_written_as_people_write_it():
    assert read_frames("apex±3") == read_frames("apex +- 3") == {"frames": "apex", "window": 3}
    assert read_frames("all") == {"frames": "all"} and read_frames("apex", 4) == {
        "frames": "apex",
        "window": 4,
    }
    with pytest.raises(UsageError, match="must be given only once"):
        read_frames("apex±3", 4)


def test_inputs_become_channels_after_the_size_and_keep_their_names(tmp_path: Path):
    faces = clips({"a": (1, 5, 3), "b": (7, 9, 8)}, size=32)
    moving = faces.select(np.arange(2, len(faces)))
    phases = moving.index["phase"].where(~moving.index["key"].isin(["a/1", "b/7"]), "onset")
    moving = Faces(moving.images, moving.index.assign(phase=phases))
    names = ("onset-difference", "hog")
    shown = preprocess(moving, spec(window=1, size=16, input=names))
    plain = preprocess(moving, spec(frames="all", size=16))
    grey = {key: image[0] for key, image in zip(plain.index["key"], plain.images, strict=True)}
    assert shown.channels == names and shown.size == (2, 16, 16)
    for key, image in zip(shown.index["key"], shown.images, strict=True):
        assert np.array_equal(
            image[0], compute_onset_difference(grey[key], grey["a/1" if key[0] == "a" else "b/7"])
        )
        assert np.array_equal(image[1], compute_hog(grey[key]))
    (tmp_path / "run").mkdir()
    shown.save(tmp_path / "run")
    assert Faces.load(tmp_path / "run").channels == names
    assert (
        shown.select(np.array([1, 0])).channels
        == merge_classes(shown, "preprint-7").channels
        == names
    )
    smaller = preprocess(shown, spec(frames="all", size=8))
    assert smaller.channels == names and smaller.size == (2, 8, 8)
    for again in ({"input": ("hog",)}, {"colour": "rgb"}, {"crop": {}}):
        with pytest.raises(DataError, match="plain pictures, and these show onset-difference, hog"):
            preprocess(shown, spec(frames="all", **again))


def test_gray_alone_is_a_plain_picture_whatever_it_is_called():
    faces = clips({"a": (1, 5, 3)}, size=16)
    assert read_input("grey") == read_input(" gray ") == ("gray",) and read_input("") == ()
    colour = preprocess(faces, spec(frames="all", colour="rgb"))
    shown = preprocess(colour, spec(frames="all", input=("gray",)))
    assert shown.channels == () and np.array_equal(shown.images, faces.images)
    for wrong in ("gray,,hog", ","):
        with pytest.raises(UsageError, match="commas between"):
            read_input(wrong)
    for wrong, message in ((("hogg",), "Did you mean 'hog'"), (("hog", "hog"), "only once")):
        with pytest.raises(SpecError, match=message):
            spec(input=wrong)


def test_a_difference_needs_clips_and_their_onset_frame():
    faces = clips({"a": (1, 9, 5), "c": (5, 9, None)}, size=16)
    with pytest.raises(
        DataError, match="needs clips, and 2 of 16 images belong to none, such as p0"
    ):
        preprocess(faces, spec(frames="all", input=("onset-difference",)))
    moving = faces.select(np.arange(2, len(faces)))
    with pytest.raises(
        DataError,
        match=r"which 2 of 2 clips lack here, such as a; .* the run that holds whole clips",
    ):
        preprocess(moving, spec(frames="all", input=("onset-difference",)))
    # nothing is marked: the first frame it is
    unknown = Faces(moving.images, moving.index.assign(phase=""))
    shown = preprocess(unknown, spec(frames="all", input=("onset-difference",)))
    assert np.all(shown.images[0] == 128) and not np.all(shown.images[1] == 128)


def test_a_clip_whose_apex_is_its_onset_has_one_and_a_clip_without_is_left_out(
    capfd: pytest.CaptureFixture[str],
):
    faces = clips({"level": (30, 34, 30), "cut": (8, 11, 8), "usual": (4, 8, 6)}, size=16)
    moving = faces.select(np.arange(2, len(faces)))
    # the offset of "cut" is not there
    ends = {"level/34": "offset", "usual/4": "onset", "usual/8": "offset"}
    phases = [
        ends.get(str(key), str(phase))
        for key, phase in zip(moving.index["key"], moving.index["phase"], strict=True)
    ]
    whole = Faces(moving.images, moving.index.assign(phase=phases))
    shown = preprocess(whole, spec(frames="all", input=("onset-difference",)))
    assert set(shown.index["clip"]) == {"level", "usual"}
    assert "which 1 of 3 clips lack here, such as cut; left out: cut" in capfd.readouterr().err
    images = {key: image[0] for key, image in zip(whole.index["key"], whole.images, strict=True)}
    for key, image in zip(shown.index["key"], shown.images, strict=True):
        first = images["level/30" if key.startswith("level") else "usual/4"]
        assert np.array_equal(image[0], compute_onset_difference(images[key], first))
    # frames were chosen before
    cut = whole.select((whole.index["phase"] == "apex").to_numpy(dtype=bool))
    with pytest.raises(DataError, match="3 of 3 clips lack here"):
        preprocess(cut, spec(frames="all", input=("onset-difference",)))


def test_a_sheet_shows_every_channel():
    faces = clips({"a": (1, 5, 3)}, size=16)
    shown = preprocess(faces, spec(frames="all", input=("laplacian", "hog")))
    plain, both = draw_class_sheet(faces), draw_class_sheet(shown)
    assert both.width == plain.width and both.height == 2 * plain.height
    strips = shown.show_pictures(range(len(shown)))
    assert draw_grid(strips, 4).width == 4 * (2 * 16 * 2 + 2) - 2


def test_selection_does_not_depend_on_the_order_of_rows():
    faces = clips({"a": (46, 80, 60), "b": (1, 40, 20)})
    order = np.random.default_rng(1).permutation(len(faces))
    for fields in ({"window": 4, "every": 3}, {"frames": "all", "every": 4}):
        straight, mixed = (
            preprocess(faces, spec(**fields)),
            preprocess(faces.select(order), spec(**fields)),
        )
        assert set(straight.index["key"]) == set(mixed.index["key"])


def test_nothing_to_do_changes_nothing():
    faces = clips({"a": (1, 5, 3)})
    again = preprocess(faces, spec(frames="all"))
    assert np.array_equal(again.images, faces.images) and again.index.equals(faces.index)


def test_size_and_colour_change_the_pixels_and_their_sha256():
    faces = clips({"a": (1, 5, 3)}, size=32)
    small = preprocess(faces, spec(frames="all", size=16, colour="rgb", filter="box"))
    assert small.size == (3, 16, 16)
    means = faces.images.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4))
    assert np.all(np.abs(small.images[:, 0] - means) <= 1)
    assert small.index["key"].tolist() == faces.index["key"].tolist()
    assert set(small.index["sha256"]).isdisjoint(faces.index["sha256"])
    back = preprocess(small, spec(frames="all", colour="grey"))
    assert np.array_equal(back.images[:, 0], small.images[:, 0])


def test_what_was_seen_is_kept():
    faces = clips({"a": (1, 5, 3)})
    seen = pd.DataFrame(faces.index, columns=["key", "subject", "clip"])
    kept = preprocess(Faces(faces.images, faces.index, seen), spec(window=1, colour="rgb"))
    assert kept.seen is not None and kept.seen.equals(seen)


def test_enlarging_and_an_empty_result_are_refused():
    faces = clips({"c": (5, 9, None)})
    with pytest.raises(DataError, match="ingest the originals again with --size 16"):
        preprocess(faces, spec(size=16))
    moving = faces.select(np.arange(2, len(faces)))
    with pytest.raises(DataError, match="1 clip has no apex; use frames = 'all'"):
        preprocess(moving, spec())
    with pytest.raises(SpecError, match="window"):
        spec(window=-1)


class Root(Spec):
    """A parent that holds faces."""


def test_a_run_names_its_parent_and_holds_its_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    faces = clips({"a": (46, 80, 60), "c": (5, 9, None)})
    parent = store.make(Root(), lambda out, scratch: faces.save(out), alias="raw")
    made = run_preprocess(spec(faces="raw", window=1), store, alias="apexes")
    assert made.spec["faces"] == parent.name and made.stage == "faces"
    assert len(Faces.load(made.path)) == 5
    summary = made.read_json("summary.json")
    assert summary["images"] == 5 and summary["clips_without_apex"] == ["c"]
    assert summary["counts"][-1] == {"class": "total", "images": 5, "clips": 1, "subjects": 1}
    with Image.open(made.find_file("sheet.png")) as sheet:
        assert sheet.width > 8
    assert "1 clip without a known apex is left out: c" in capfd.readouterr().err


def test_the_digest_is_a_golden_value():
    assert spec().name == "faces-90cf21ebfbce"


# Class sets


def test_the_class_sets_have_the_fields_own_sizes():

    sizes = {
        name: sum(CLIPS_PER_CLASS.get(emotion, 0) for emotion in folded)
        for name, folded in CLASS_SETS.items()
    }
    assert sizes == {"preprint-7": 255, "casme2-5": 246, "megc2019-3": 147, "megc2019-wide": 156}
    samm = {
        "anger": 57,
        "happiness": 26,
        "others": 26,
        "surprise": 15,
        "contempt": 12,
        "disgust": 9,
        "fear": 8,
    }
    assert (
        sum({**samm, "sadness": 6}.get(emotion, 0) for emotion in CLASS_SETS["megc2019-wide"])
        == 133
    )
    assert set(CLASS_SETS["preprint-7"]) == set(TABLE_1)
    assert {new for folded in CLASS_SETS.values() for new in folded.values()} <= set(EMOTIONS)


def test_a_class_set_renames_drops_and_keeps_what_the_source_said():
    emotions = ["disgust", "repression", "happiness", "others", "surprise", "fear"]
    images = np.zeros((6, 1, 8, 8), dtype=np.uint8)
    index = make_index(images, key=list("abcdef"), emotion=emotions, raw_label=emotions)
    folded = merge_classes(Faces(images, index), "megc2019-3")
    assert list(folded.index["key"]) == ["a", "b", "c", "e"]
    assert list(folded.index["emotion"]) == ["negative", "negative", "positive", "surprise"]
    assert list(folded.index["raw_label"]) == ["disgust", "repression", "happiness", "surprise"]
    with pytest.raises(DataError, match="leaves none of 1: it has disgust, happiness"):
        merge_classes(Faces(images[:1], index.iloc[[5]].reset_index(drop=True)), "casme2-5")
    assert (
        merge_classes(folded, "megc2019-3") is folded
    )  # also for a source that labels in these three
    with pytest.raises(DataError, match="folded into negative, positive before"):
        merge_classes(folded, "casme2-5")


def test_a_class_set_that_is_not_known_is_refused():
    with pytest.raises(SpecError, match="Did you mean 'casme2-5'"):
        read_spec(PreprocessSpec, {"faces": "made-000000000000", "classes": "casme5"}, "here")
