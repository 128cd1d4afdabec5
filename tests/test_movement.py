"""Movement of clips: it is measured, and real movements are put on other faces."""

from functools import cache
from typing import Literal

import numpy as np
import pytest
from movement_world import CLASSES, draw_clips

from mien.errors import DataError
from mien.faces import Faces
from mien.prepare.clips import resample_clips
from mien.prepare.movement import (
    Change,
    Clip,
    find_added_noise,
    iterate_clips,
    make_control_clips,
    measure_course,
    measure_flow,
    measure_noise,
)
from mien.prepare.preprocess import preprocess
from mien.prepare.specs import PreprocessSpec

SOURCE = "generate-0123456789ab"


@cache
def drawn() -> Faces:
    return draw_clips(4, seed=1)


@cache
def made(change: Change) -> Faces:
    return make_control_clips(drawn(), dict.fromkeys(CLASSES, 4), 0, SOURCE, change)


def list_clips(faces: Faces) -> list[Clip]:
    return list(iterate_clips(faces))


def test_clips_are_read_from_frames_and_from_rows_of_moments():
    clips = list_clips(drawn())
    assert len(clips) == 12 and {clip.emotion for clip in clips} == set(CLASSES)
    first = drawn().index[drawn().index["clip"] == clips[0].name]
    assert len(clips[0].frames) == len(first)
    assert first["phase"].iloc[clips[0].apex] == "apex"
    assert drawn().index["clip"].iloc[clips[0].row] == clips[0].name

    # Pairs and moments, whose frames do not follow each other in time
    forms: tuple[tuple[int | Literal["onset,apex"], int, int], ...] = (
        (5, 2, 5),
        ("onset,apex", 1, 2),
    )
    for moments, apex, count in forms:
        rows = preprocess(drawn(), PreprocessSpec(faces="drawn", clips=moments))
        shown = {clip.name: clip for clip in iterate_clips(rows)}
        assert set(shown) == {clip.name for clip in clips}
        for clip in clips:
            moment = shown[clip.name]
            assert (moment.apex, len(moment.frames), moment.is_timed) == (apex, count, False)
            assert np.array_equal(moment.frames[apex], clip.frames[clip.apex])


def test_a_clip_without_an_apex_is_left_out():
    faces = draw_clips(2, seed=2)
    faces.index.loc[faces.index["phase"] == "apex", "phase"] = "rise"
    assert list_clips(faces) == []


def test_the_course_rises_to_the_apex_and_falls():
    for clip in list_clips(drawn()):
        course = measure_course(clip)
        assert abs(course[0]) < 0.15 and course[clip.apex] > 0.85
        assert abs(int(course.argmax()) - clip.apex) <= 3
        assert 0.7 < measure_noise(clip) < 1.3  # the drawn noise is 1


def test_pasted_movement_is_that_of_the_class_on_the_face_of_another():
    real, pasted = list_clips(drawn()), list_clips(made("pasted"))
    assert len(pasted) == 12 and set(made("pasted").index["source"]) == {SOURCE}
    own = {
        name: np.mean([measure_flow(c) for c in real if c.emotion == name], 0) for name in CLASSES
    }

    def find_nearest(clip: Clip) -> str:
        flow = measure_flow(clip)
        return max(
            own, key=lambda name: float((own[name] * flow).sum() / np.linalg.norm(own[name]))
        )

    assert np.mean([find_nearest(clip) == clip.emotion for clip in pasted]) >= 0.9
    assert np.mean([find_nearest(c) == c.emotion for c in list_clips(made("shuffled"))]) <= 0.4

    # Two clips of a class have one face, and the labels of the units are those of the class
    assert made("pasted").index["subject"].nunique() == 2
    assert set(made("shuffled").index["action_units"]) == {"6+12", "1+2", "4+9"}
    assert not resample_clips(made("pasted").index, 5, "offset").left_out
    noises = [measure_noise(clip) for clip in pasted]
    assert 0.8 < np.mean(noises) < 1.2


def test_nothing_moves_in_still_clips_but_their_noise():
    real = np.mean([np.abs(measure_flow(clip)).mean() for clip in list_clips(drawn())])
    for clip in list_clips(made("still")):
        change = np.abs(clip.apex_mean - clip.onset_mean)
        assert change.mean() < 1 < clip.frames.astype(float).std(axis=0).mean() + 0.3
        assert np.abs(measure_flow(clip)).mean() < real / 2


def test_faces_can_be_given_and_a_clip_does_not_depend_on_the_counts():
    neutral = np.full((1, 36, 36), 90, dtype=np.uint8)
    arguments = (0, SOURCE, "pasted", neutral)
    few = make_control_clips(drawn(), {"disgust": 1}, *arguments)
    many = make_control_clips(drawn(), {"disgust": 2, "surprise": 1}, *arguments)
    assert np.array_equal(few.images, many.images[: len(few)])
    assert abs(float(few.images.mean()) - 90) < 1  # a face without features shows no movement


def test_clips_of_one_subject_and_unknown_classes_are_refused():
    with pytest.raises(DataError, match="two or more subjects"):
        make_control_clips(draw_clips(1, seed=3), {"disgust": 1}, 0, SOURCE)
    with pytest.raises(DataError, match="they lack fear"):
        make_control_clips(drawn(), {"fear": 1}, 0, SOURCE)


@pytest.mark.parametrize("measured", [0.2, 0.5, 1.0, 2.0])
def test_added_noise_is_measured_as_asked_for_after_rounding(measured: float):
    rng = np.random.default_rng(0)
    values, added = rng.uniform(50, 200, 20_000), find_added_noise(measured)
    pair = (values + added * rng.standard_normal((2, 20_000))).round()
    assert abs(np.sqrt(((pair[0] - pair[1]) ** 2).mean() / 2) - measured) < 0.05
