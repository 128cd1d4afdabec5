"""Controls of movement: what is left without it, and with the movement of another clip."""

from dataclasses import replace

import numpy as np
import pytest

from mien.errors import DataError
from mien.faces import Faces, make_index
from mien.study.motion_controls import MOTION_CHANGES, remove_motion, require_motion, shuffle_motion
from mien.study.settings import CONTROLS


def make_clips(channels: tuple[str, ...], clips: int = 6, frames: int = 1) -> Faces:
    """Return clips whose channels hold 10 times the clip's number, plus the channel's."""
    values = [
        [10 * clip + channel for channel in range(len(channels))]
        for clip in range(clips)
        for _ in range(frames)
    ]
    pixels = np.array(values, dtype=np.uint8)[:, :, None, None].repeat(4, 2).repeat(4, 3)
    names = [f"c{clip}" for clip in range(clips) for _ in range(frames)]
    index = make_index(
        pixels,
        key=[f"{name}/{row}" for row, name in enumerate(names)],
        clip=names,
        subject=names,
        frame=list(range(frames)) * clips,
        emotion=["fear", "happiness"][:1] * (clips * frames),
    )
    return Faces(pixels, index, channels=channels)


def read_values(faces: Faces) -> np.ndarray:
    return np.asarray(faces.images)[:, :, 0, 0].astype(int)


def test_shuffled_movement_leaves_each_clip_its_face():
    faces = make_clips(("gray", "flow-right", "strain"))
    shuffled = shuffle_motion(faces, seed=1)
    values = read_values(shuffled)
    assert (values[:, 0] == read_values(faces)[:, 0]).all()
    donors = values[:, 1] // 10
    assert sorted(donors) == list(range(6)) and list(donors) != list(range(6))
    assert (values[:, 2] == 10 * donors + 2).all()  # one clip gives all channels of movement
    assert shuffled.index.equals(faces.index)


@pytest.mark.parametrize("channels", [("flow-right", "flow-down"), ("t0", "t1", "t2")])
def test_where_all_channels_show_movement_whole_images_are_exchanged(channels: tuple[str, ...]):
    values = read_values(shuffle_motion(make_clips(channels), seed=1))
    donors = values[:, 0] // 10
    assert sorted(donors) == list(range(6))
    assert (values == 10 * donors[:, None] + np.arange(len(channels))).all()


def test_shuffling_follows_names_and_the_seed_not_the_order_of_rows():
    faces = make_clips(("gray", "flow-right"), frames=3)
    order = np.random.default_rng(0).permutation(len(faces))
    direct = shuffle_motion(faces, 4).select(order)
    assert np.array_equal(direct.images, shuffle_motion(faces.select(order), 4).images)
    assert not np.array_equal(direct.images, shuffle_motion(faces, 5).select(order).images)


def test_without_movement_all_moments_show_the_first_and_flow_is_at_rest():
    clips = make_clips(("t0", "t1", "t2"))
    assert (read_values(remove_motion(clips, 0)) == read_values(clips)[:, [0]]).all()
    flow = make_clips(("gray", "flow-right", "flow-down", "strain", "onset-difference"))
    values = read_values(remove_motion(flow, 0))
    assert (values[:, 0] == read_values(flow)[:, 0]).all()
    assert (values[:, 1:] == [128, 128, 0, 128]).all()
    mixed = make_clips(("gray-t0", "flow-down-t0", "gray-t1", "flow-down-t1"))
    values = read_values(remove_motion(mixed, 0))
    assert (values[:, 0] == values[:, 2]).all() and (values[:, [1, 3]] == 128).all()


def test_images_without_movement_are_refused_with_the_way_out():
    grey = make_clips(("gray",))
    for faces in (replace(grey, channels=()), make_clips(("gray", "hog"))):
        with pytest.raises(DataError, match="show movement, and these show gray"):
            require_motion(faces, "the control no_motion")
    for channels in (("t0", "t1"), ("onset", "apex"), ("gray", "strain")):
        require_motion(make_clips(channels), "the control no_motion")


def test_every_control_of_movement_has_its_change():
    named = {control.motion for control in CONTROLS.values() if control.motion}
    assert named == set(MOTION_CHANGES)
