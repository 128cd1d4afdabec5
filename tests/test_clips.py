"""Clips as samples: resampled moments, their names, sheets, and what takes such rows."""

import base64
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from drawn import moving_people
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.audit.labels import review
from mien.audit.leakage import page as leakage_page
from mien.audit.leakage.measure import LeakageMeasurements
from mien.audit.memorisation.measure import Memorisation
from mien.audit.memorisation.strips import draw_strips
from mien.audit.page import draw_suspects
from mien.errors import DataError, SpecError
from mien.faces import Faces, concatenate, make_index
from mien.pages.sheets import draw_class_sheet
from mien.pictures import convert_to_image
from mien.prepare.clips import Until, choose_moments, find_apexes, find_onsets, resample_clips
from mien.prepare.flow import FLOW_CHANNELS
from mien.prepare.preprocess import keep_arrays, preprocess, run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.report import gallery
from mien.runs.spec import read_spec
from mien.runs.store import Store
from mien.strips import split_channel


def make_clip(
    name: str,
    numbers: list[int],
    onset: int | None,
    apex: int | None,
    offset: int | None,
    side: int = 16,
    emotion: str = "happiness",
) -> Faces:
    """Return a clip whose frame with the number n is n everywhere."""
    pixels = np.stack([np.full((1, side, side), number, dtype=np.uint8) for number in numbers])
    phases = {apex: "apex", offset: "offset", onset: "onset"}
    index = make_index(
        pixels,
        key=[f"set/{name}/{number}" for number in numbers],
        dataset="set",
        subject=f"set:{name[0]}",
        clip=f"set:{name}",
        frame=numbers,
        phase=[phases.get(number, "rise") for number in numbers],
        emotion=emotion,
        licence="CC0",
    )
    return Faces(pixels, index)


def make_spec(**fields: object) -> PreprocessSpec:
    return read_spec(PreprocessSpec, {"faces": "faces-000000000000", **fields}, "test")


def test_a_clip_is_one_row_with_a_channel_for_each_moment():
    faces = make_clip("a1", list(range(10, 51)), onset=10, apex=30, offset=50)
    shown = preprocess(faces, make_spec(clips=5))
    assert len(shown) == 1 and shown.channels == ("t0", "t1", "t2", "t3", "t4")
    assert shown.images[0, :, 0, 0].tolist() == [10, 20, 30, 40, 50]
    row = shown.index.iloc[0]
    assert (row["key"], row["frame"], row["phase"]) == ("set/a1/30", 30, "apex")
    assert shown.moments == shown.channels


def test_moments_between_two_frames_are_blends_by_their_distance():
    faces = make_clip("a1", [0, 10, 20, 40, 80], onset=0, apex=40, offset=80)
    shown = preprocess(faces, make_spec(clips=8))
    # the apex is moment 4; moments between frames have the value between theirs
    assert shown.images[0, :, 0, 0].tolist() == [0, 10, 20, 30, 40, 53, 67, 80]
    plan = resample_clips(faces.index, 8, "offset")
    assert (plan.weight > 0).tolist() == [[False, False, False, True, False, True, True, False]]


def test_a_pair_is_the_onset_and_the_apex_and_until_apex_ends_there():
    faces = make_clip("a1", list(range(0, 41)), onset=4, apex=24, offset=40)
    pair = preprocess(faces, make_spec(clips="onset,apex"))
    assert pair.channels == ("onset", "apex") and pair.images[0, :, 0, 0].tolist() == [4, 24]
    until = preprocess(faces, make_spec(clips=3, until="apex"))
    assert until.images[0, :, 0, 0].tolist() == [4, 14, 24]


def test_inputs_of_each_moment_are_compared_with_the_onset():
    faces = make_clip("a1", list(range(0, 41)), onset=0, apex=20, offset=40)
    shown = preprocess(faces, make_spec(clips=3, input=["gray", "onset-difference"]))
    assert shown.channels == (
        *("gray-t0", "onset-difference-t0", "gray-t1", "onset-difference-t1"),
        *("gray-t2", "onset-difference-t2"),
    )
    assert shown.images[0, :, 0, 0].tolist() == [0, 128, 20, 148, 40, 168]
    assert shown.moments == ("t0", "t1", "t2")


def test_clips_that_cannot_be_resampled_are_left_out_by_reason(store: Store):
    whole = make_clip("a1", [1, 2, 3, 4, 5], onset=1, apex=3, offset=5)
    ends_at_apex = make_clip("b1", [1, 2, 3], onset=1, apex=3, offset=None)
    no_apex = make_clip("c1", [1, 2, 3], onset=1, apex=None, offset=3)
    no_onset = make_clip("d1", [2, 3, 4], onset=None, apex=3, offset=4)
    joined = concatenate([whole, ends_at_apex, no_apex, no_onset])
    plan = resample_clips(joined.index, 4, "offset")
    assert plan.left_out == {
        "no apex": ["set:c1"],
        "no onset": ["set:d1"],
        "no frame after the apex": ["set:b1"],
    }
    until_apex = resample_clips(joined.index, 4, "apex")
    assert until_apex.left_out == {"no apex": ["set:c1"], "no onset": ["set:d1"]}

    run = run_preprocess(make_spec(faces=keep_arrays(joined, store).name, clips=4), store)
    assert list(Faces.load(run.path).index["clip"]) == ["set:a1"]
    assert run.summary["clips_left_out"] == plan.left_out
    table = pd.read_csv(run.path / "clips.csv")
    assert table[["t0", "t1", "t2", "t3"]].to_numpy().tolist() == [[1, 2, 3, 5]]


def test_without_any_whole_clip_the_message_says_what_is_missing():
    faces = make_clip("a1", [1, 2, 3], onset=1, apex=3, offset=None)
    with pytest.raises(DataError, match=r"1 clip with no frame after the apex.*until = 'apex'"):
        preprocess(faces, make_spec(clips=4))
    photographs = replace(faces, index=faces.index.assign(clip=""))
    with pytest.raises(DataError, match="a row for each clip needs clips, and 3 of 3 images"):
        preprocess(photographs, make_spec(clips=4))


def test_clips_of_classes_that_are_not_kept_are_not_shown():
    faces = concatenate(
        [
            make_clip("a1", [1, 2, 3], onset=1, apex=2, offset=3),
            make_clip("b1", [1, 2, 3], onset=1, apex=2, offset=3, emotion="tense"),
            make_clip("c1", [4, 5, 6], onset=4, apex=5, offset=6, emotion="surprise"),
        ]
    )
    shown = preprocess(faces, make_spec(clips=3, classes="megc2019-3"))
    assert list(shown.index["emotion"]) == ["positive", "surprise"]
    assert shown.images[:, :, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clips": 1}, "a number of moments from 2 to 64, or 'onset,apex'"),
        ({"clips": 65}, "a number of moments from 2 to 64"),
        ({"clips": "apex"}, "onset,apex"),
        ({"clips": 8, "window": 3}, "window has no effect with clips"),
        ({"clips": 8, "frames": "all"}, "frames has no effect with clips"),
        ({"clips": 8, "colour": "rgb"}, "colour has no effect with clips"),
        ({"until": "apex"}, "until needs clips of several moments"),
        ({"clips": "onset,apex", "until": "apex"}, "until needs clips of several moments"),
    ],
)
def test_options_that_do_not_go_with_clips_are_refused(fields: dict[str, object], message: str):
    with pytest.raises(SpecError, match=message):
        make_spec(**fields)


def test_specs_without_clips_and_flow_do_not_name_them():
    assert set(make_spec().model_dump(mode="json")) & {"clips", "until", "flow"} == set()
    assert make_spec(clips=8).model_dump(mode="json")["until"] == "offset"


@given(
    st.integers(0, 500),
    st.integers(0, 100),
    st.integers(1, 100),
    st.integers(2, 64),
    st.sampled_from(["apex", "offset"]),
)
def test_moments_rise_from_the_onset_and_meet_the_apex(
    onset: int, rise: int, fall: int, count: int, until: Until
):
    apex, offset = onset + rise, onset + rise + fall
    moments = choose_moments(float(onset), float(apex), float(offset), count, until)
    assert len(moments) == count and moments[0] == onset and (np.diff(moments) >= 0).all()
    place = count - 1 if until == "apex" else count // 2
    assert np.isclose(moments[place], apex)
    if until == "offset" and count > 2:
        assert moments[-1] == offset


def test_order_of_rows_does_not_change_a_clip():
    faces = make_clip("a1", list(range(0, 31)), onset=0, apex=10, offset=30)
    mixed = faces.select(np.random.default_rng(0).permutation(len(faces)))
    plain, other = (preprocess(one, make_spec(clips=6)) for one in (faces, mixed))
    assert np.array_equal(plain.images, other.images)
    assert find_apexes(mixed.index).keys() == find_onsets(mixed.index).keys() == {"set:a1"}


def test_channels_are_named_by_input_and_moment():
    assert split_channel("flow-right-t3") == ("flow-right", "t3")
    assert split_channel("t12") == ("gray", "t12") and split_channel("apex") == ("gray", "apex")
    assert split_channel("onset-difference") == ("onset-difference", "")
    assert split_channel("onset-difference-apex") == ("onset-difference", "apex")
    assert split_channel("gray") == ("gray", "")


def test_clips_are_split_joined_and_drawn_like_images(store: Store):
    faces = concatenate(
        [
            make_clip(f"{who}{number}", [0, 50, 100], onset=0, apex=50, offset=100)
            for who in "abcd"
            for number in range(2)
        ]
    )
    run = run_preprocess(make_spec(faces=keep_arrays(faces, store).name, clips=4), store)
    shown = Faces.load(run.path)
    assert len(concatenate([shown.select(np.arange(4)), shown.select(np.arange(4, 8))])) == 8

    # A strip of moments on the sheet, and an animated picture that shows one moment after another
    with Image.open(run.path / "sheet.png") as sheet:
        assert sheet.width >= 4 * 16 * 2
    with Image.open(run.path / "motion-happiness.webp") as moving:
        assert getattr(moving, "n_frames", 1) == 4
        brightness = []
        for moment in range(4):
            moving.seek(moment)
            brightness.append(np.asarray(moving.convert("L"))[4, 4])
    assert brightness == [0, 25, 50, 100]


def test_an_image_of_clips_is_not_taken_for_a_colour_picture():
    faces = make_clip("a1", [0, 50, 100], onset=0, apex=50, offset=100)
    shown = preprocess(faces, make_spec(clips=4))
    with pytest.raises(DataError, match=r"images must be grey or RGB.*these have 4: t0, t1"):
        shown.require_pictures("images")
    faces.require_pictures("images")
    flow = replace(faces, images=np.repeat(faces.images, 3, axis=1), channels=FLOW_CHANNELS)
    with pytest.raises(DataError, match="these have 3: flow-right"):
        flow.require_pictures("images")


def test_clips_of_other_channels_are_one_wide_picture_where_a_picture_is_needed():
    moments = np.arange(4, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(3, 2)
    wide = np.asarray(convert_to_image(moments))
    assert wide.shape == (2, 12) and wide[0].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def decode(page: str) -> list[np.ndarray]:
    """Return the pictures in a page of HTML as RGB."""
    found = re.findall(r"data:image/(?:png|webp|jpeg);base64,([A-Za-z0-9+/=]+)", page)
    return [
        np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB")) for data in found
    ]


def test_optical_flow_is_never_shown_as_colours():
    """The pictures of flow in a notebook, a report, an audit, a review and a page of leakage."""
    faces = moving_people(range(4), FLOW_CHANNELS, clips=1)
    first = faces.index["key"].iloc[0]
    likeness = pd.DataFrame({"a": ["drawn:s00"], "b": ["drawn:s01"], "evidence": ["nearness"]})
    pairs = pd.DataFrame(
        {"kind": ["near"], "mirrored": [False], "test": [first], "train": [first]}
    ).assign(test_subject="drawn:s00", correlation=0.9, bits=3)
    shared = LeakageMeasurements("subject", (), (), faces.index, pairs, likeness)
    worst = faces.index.assign(rank=1, predicted="fear", margin=0.0, probability=0.5)
    near = faces.index.assign(nearest=faces.index["key"], ratio_clip=0.1).assign(
        mirrored=False, down=0, right=0
    )
    found = Memorisation((), near, near.head(0), ())
    suspects = draw_suspects(worst, faces)
    assert suspects is not None
    pictures = {
        "notebook": decode(faces._repr_html_()),
        "report": decode(str(gallery._make_strip(faces, "happiness", "real"))),
        "suspects": [np.asarray(suspects)],
        "memorisation": [np.asarray(draw_strips(faces, faces, found, 4, 1))],
        "review": decode(review._render_page(faces, worst.head(3), "set")),
        "pairs": decode(next(leakage_page._draw_pairs(shared, "near", faces, faces)).image),
        "people": decode(str(next(leakage_page._draw_people(shared, faces, faces))[1][0].image)),
        "sheet": [np.asarray(draw_class_sheet(faces))],
    }
    for place, shown in pictures.items():
        assert shown, place
        for picture in shown:
            colours = np.ptp(picture.astype(int), axis=2)
            assert picture.shape[2] == 3 and not colours.any(), place


def test_a_notebook_shows_all_moments_of_fewer_clips():
    sizes = []
    for channels in (("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"), ("onset", "apex")):
        page = moving_people(range(8), channels, clips=1)._repr_html_()
        sizes.append({picture.shape[:2] for picture in decode(page)})
    assert sizes == [{(32, 8 * 32)}, {(32, 3 * 2 * 32)}]
