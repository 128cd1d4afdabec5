"""Optical flow as an input: known movements, its scale, and how it is cropped and resized."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from jaxtyping import Float, UInt8

from mien.errors import SpecError
from mien.faces import Faces, make_index
from mien.ingest.toy.head import DrawnHead, Pose, apply_pose, invent_identity
from mien.pictures import FacePlace
from mien.prepare.clips import hold_frames
from mien.prepare.flow import (
    FLOW_CHANNELS,
    FlowMethod,
    FlowSpec,
    compute_flow,
    compute_strain,
    show_flow,
)
from mien.prepare.inputs import find_directions, find_resting_values
from mien.prepare.moments import show_moments
from mien.prepare.preprocess import keep_arrays, preprocess, run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.runs.spec import read_spec
from mien.runs.store import Store

CANVAS = (340, 280)
WEAK = 0.3  # the intensity of an action unit: a micro-expression moves the skin by a few pixels


@cache
def make_head(person: int) -> DrawnHead:
    return DrawnHead(invent_identity(0, person), CANVAS)


@cache
def draw_canvas(person: int, *units: str) -> np.ndarray:
    return make_head(person).draw(dict.fromkeys(units, WEAK))


def draw_face(person: int, size: int, pose: Pose, *units: str) -> UInt8[np.ndarray, "h w"]:
    """Return a drawn face in grey; `pose` moves it by pixels of CANVAS."""
    moved = apply_pose(draw_canvas(person, *units), pose, CANVAS)
    grey = cv2.cvtColor(moved, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize("size", [16, 48, 96])
def test_equal_frames_have_no_flow_and_no_strain(method: FlowMethod, size: int):
    face = draw_face(0, size, Pose())
    assert not compute_flow(face, face.copy(), method).any()
    shown, values = show_flow(face, face, FlowSpec(method=method))
    assert (shown[:2] == 128).all() and not shown[2].any() and not values.any()


def measure_errors(size: int, method: FlowMethod) -> tuple[float, float]:
    """Return the mean error of the flow where lids and lips were drawn to move, and that movement.

    Both are in pixels of a picture of `size`.
    """
    errors, movements = [], []
    scale = np.array([size / CANVAS[1], size / CANVAS[0]])
    for person in range(3):
        head = make_head(person)
        before = draw_face(person, size, Pose())
        at_rest = head.locate({})
        for units in (("12",), ("15", "17"), ("4", "9"), ("1", "2", "5")):
            truth = (head.locate(dict.fromkeys(units, WEAK)) - at_rest) * scale
            flow = compute_flow(before, draw_face(person, size, Pose(), *units), method)
            column, row = np.rint(at_rest * scale).astype(int).clip(0, size - 1).T
            moved = np.hypot(*truth.T) > size / 500
            errors.append(np.hypot(*(flow[:, row, column] - truth.T))[moved])
            movements.append(np.hypot(*truth.T)[moved])
    return float(np.concatenate(errors).mean()), float(np.concatenate(movements).mean())


@pytest.mark.parametrize(("size", "most"), [(48, 0.85), (96, 0.65), (160, 0.65)])
def test_flow_follows_the_movement_that_was_drawn(size: int, most: float):
    """The error is a share of the movement; a flow of zero has an error of 1."""
    error, movement = measure_errors(size, "dis")
    assert movement > 0 and error / movement < most


@pytest.mark.parametrize("size", [48, 96, 160])
def test_a_shift_of_the_head_is_found_to_a_fraction_of_a_pixel(size: int):
    """The error is the mean distance from the true shift, away from the border of the picture."""
    pose = Pose(x=2.8, y=-2.0)  # of 280 by 340 pixels
    truth = np.array([2.8 * size / CANVAS[1], -2.0 * size / CANVAS[0]])[:, None, None]
    errors = []
    for person in range(3):
        flow = compute_flow(draw_face(person, size, Pose()), draw_face(person, size, pose))
        inside = np.s_[:, size // 8 : -size // 8, size // 8 : -size // 8]
        errors.append(np.hypot(*(flow - truth)[inside]).mean())
    assert np.mean(errors) < 0.15


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_a_shift_of_whole_pixels_of_noise_is_found(method: FlowMethod):
    noise = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.float32), (0, 0), 1.5
    )
    picture = cv2.normalize(noise, np.zeros_like(noise), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    moved = np.roll(picture, (1, 2), axis=(0, 1))
    flow = compute_flow(picture, moved, method)[:, 12:-12, 12:-12]
    assert abs(flow[0].mean() - 2) < 0.1 and abs(flow[1].mean() - 1) < 0.1


def test_raised_brows_move_up_and_a_smile_moves_its_corners_apart():
    still = draw_face(1, 96, Pose())
    brows = compute_flow(still, draw_face(1, 96, Pose(), "1", "2"))
    frown = compute_flow(still, draw_face(1, 96, Pose(), "4"))
    forehead = np.s_[1, 20:45, 20:76]
    assert brows[forehead].mean() < -0.1 and frown[forehead].mean() > 0.1

    smile = compute_flow(still, draw_face(1, 96, Pose(), "12"))
    left, right = smile[0, 58:80, 24:48].mean(), smile[0, 58:80, 48:72].mean()
    assert left < -0.05 and right > 0.05


def test_strain_of_known_movements():
    down, right = np.mgrid[0:16, 0:16].astype(np.float32)
    still = np.zeros_like(right)
    assert not compute_strain(np.stack([still + 3, still - 2])).any()  # all move together
    rotation = np.stack([-0.1 * down, 0.1 * right])
    assert np.abs(compute_strain(rotation)).max() < 1e-6
    stretch = np.stack([0.2 * right, still])
    assert np.allclose(compute_strain(stretch), 0.2)
    shear = np.stack([0.2 * down, still])
    assert np.allclose(compute_strain(shear), 0.2 / np.sqrt(2))


def test_flow_is_shown_on_the_scale_of_its_spec():
    before, after = draw_face(0, 64, Pose()), draw_face(0, 64, Pose(x=2.8))  # 1 % of the width
    wide, narrow = (
        show_flow(before, after, FlowSpec(reach=reach))[0][0].astype(float) - 128
        for reach in (0.08, 0.04)
    )
    inside = np.s_[16:-16, 16:-16]
    assert np.allclose(2 * wide[inside], narrow[inside], atol=2)
    assert abs(np.median(narrow[inside]) - 127 * 0.01 / 0.04) < 8

    shown, values = show_flow(before, after, FlowSpec(reach=0.001))
    assert (np.abs(values[0]) > 1).mean() > 0.5 and shown[0].max() == 255


def test_mirrored_frames_have_mirrored_flow():
    before, after = draw_face(2, 64, Pose()), draw_face(2, 64, Pose(), "12")
    plain = show_flow(before, after, FlowSpec())[0].astype(int)
    mirrored = show_flow(before[:, ::-1], after[:, ::-1], FlowSpec())[0].astype(int)
    back = np.stack([256 - mirrored[0, :, ::-1], mirrored[1, :, ::-1], mirrored[2, :, ::-1]])
    assert np.abs(plain - back).mean() < 3
    assert find_directions(["flow-right", "flow-down-t3", "strain", "gray"]) == (
        *("right", "down", "", ""),
    )
    assert find_resting_values(["flow-right-t1", "t0", "onset-difference-t2"]) == (None, 0, 128)


# In a set


def make_faces(size: int, shift: float) -> Faces:
    """Return clips of three people: an onset, and an apex at which the head is shifted."""
    pixels = np.stack(
        [
            draw_face(person, size, Pose(x=shift * frame))[None]
            for person in range(3)
            for frame in range(2)
        ]
    )
    index = make_index(
        pixels,
        key=[f"set/p{person}/{frame}" for person in range(3) for frame in range(2)],
        subject=[f"set:p{person}" for person in range(3) for _ in range(2)],
        clip=[f"set:p{person}/c" for person in range(3) for _ in range(2)],
        frame=[0, 1] * 3,
        phase=["onset", "apex"] * 3,
        emotion="happiness",
    )
    return Faces(pixels, index)


def make_spec(**fields: object) -> PreprocessSpec:
    return read_spec(PreprocessSpec, {"faces": "faces-000000000000", **fields}, "test")


def test_flow_is_computed_at_the_size_of_ingest_and_then_resized():
    faces = make_faces(96, shift=2.8)
    shown = preprocess(faces, make_spec(window=0, size=24, input=["flow"]))
    assert shown.channels == FLOW_CHANNELS and shown.size == (3, 24, 24) and len(shown) == 3
    large = show_flow(faces.images[0, 0], faces.images[1, 0], FlowSpec(), 24, "bilinear")[0]
    assert np.array_equal(shown.images[0], large)
    small = preprocess(faces, make_spec(window=0, size=24))
    assert small.size == (1, 24, 24)  # frames of 24 pixels show less movement than this flow


def test_the_summary_has_the_share_of_values_beyond_the_scale(
    store: Store, capsys: pytest.CaptureFixture[str]
):
    run = keep_arrays(make_faces(48, shift=8.0), store)
    low = run_preprocess(make_spec(faces=run.name, window=0, input=["flow"]), store)
    assert max(low.summary["flow_saturation"].values()) < 0.02
    assert "warning" not in capsys.readouterr().err
    flow = {"reach": 0.005}
    high = run_preprocess(
        make_spec(faces=run.name, window=0, input=["flow-right"], flow=flow), store
    )
    assert high.summary["flow_saturation"].keys() == {"flow-right"}
    assert high.summary["flow_saturation"]["flow-right"] > 0.3
    assert "a larger --flow-reach" in capsys.readouterr().err
    assert high.name != low.name


def test_both_frames_are_cropped_where_the_later_face_is():
    faces = make_faces(96, shift=0.0)
    spec = make_spec(window=0, size=32, input=["flow"], crop={"margin": 0.0})
    places = {
        key: FacePlace("found", 48.0 + (row % 2) * 5, 48.0, 60.0)
        for row, key in enumerate(faces.index["key"])
    }
    rows, onsets = np.array([1, 3, 5]), np.array([0, 2, 4])
    shown = show_moments(faces, hold_frames(faces.index, rows, onsets), spec, places)
    # the head does not move, only the place where it was found
    assert (shown.images[:, :2] == 128).all()


def test_flow_over_the_time_of_a_clip_begins_at_rest():
    faces = make_faces(48, shift=4.0)
    shown = preprocess(faces, make_spec(clips=3, until="apex", input=["flow"]))
    assert shown.channels[:4] == ("flow-right-t0", "flow-down-t0", "strain-t0", "flow-right-t1")
    assert (shown.images[:, :2] == 128).all()
    means = shown.images[:, 6, 12:36, 12:36].mean(axis=(1, 2)) - 128
    assert (means > 10).all()  # to the right


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flow": {}}, "flow has no effect without an input that shows optical flow"),
        ({"input": ["flow"], "flow": {"method": "tvl1"}}, "method"),
        ({"input": ["flow"], "flow": {"reach": 0}}, "reach"),
        ({"input": ["flow", "strain"]}, "each input must be named only once"),
        ({"input": ["flaw"]}, "Did you mean 'flow'"),
    ],
)
def test_wrong_fields_of_flow_are_refused(fields: dict[str, object], message: str):
    with pytest.raises(SpecError, match=message):
        make_spec(**fields)


def test_the_number_of_threads_does_not_change_the_flow():
    before, after = draw_face(0, 96, Pose()), draw_face(0, 96, Pose(x=1.0), "12")
    threads = cv2.getNumThreads()
    try:
        flows: list[Float[np.ndarray, "2 h w"]] = []
        for number in (1, 2):
            cv2.setNumThreads(number)
            flows.append(compute_flow(before, after))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(flows[0], flows[1])


def test_replacing_the_pixels_keeps_the_table():
    faces = make_faces(48, shift=2.0)
    shown = preprocess(faces, make_spec(window=0, input=["flow"]))
    apexes = faces.select(np.array([1, 3, 5]))
    columns = [name for name in faces.index if name != "sha256"]
    assert shown.index[columns].equals(apexes.index[columns])
    assert replace(shown, channels=()).shown == ("red", "green", "blue")
