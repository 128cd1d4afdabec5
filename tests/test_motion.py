"""Generators of movement: what they learn from clips, and the clips that they draw."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from worlds import MOVED, SMALL_NET, films, inside, keep, table, toy, training_of

from mien.errors import DataError, SpecError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.clips.database import CLIPS_FILE
from mien.generators.clips.drift import HeadDrift, draw_drift, fit_drift
from mien.generators.clips.pairs import collect_pairs, list_clips
from mien.generators.clips.rendering import place_in_moments, render_frames
from mien.generators.clips.seeds import find_person_seeds, plan_clips
from mien.generators.clips.timing import PARAMETERS, Course, MotionTiming, draw_course, fit_timing
from mien.generators.generate import generate_database
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.motion import Motion, scale_pairs, stack_pairs
from mien.generators.orders import order_database
from mien.generators.pasted import Pasted
from mien.generators.specs import GenerateSpec, SamplerSpec, read_intensity, read_steps
from mien.generators.train import load_training_faces, train_generator
from mien.generators.units import parse_order
from mien.prepare.flow import compute_flow, warp_image
from mien.prepare.movement import iterate_clips, measure_noise
from mien.prepare.poses import measure_poses, move_head
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec, SplitSpec
from mien.prepare.splits import run_split
from mien.prepare.views import load_like
from mien.report.conclusions import draw_conclusions
from mien.runs.store import Run, Store
from mien.study.file import resolve
from mien.study.results import StudyResults
from mien.study.run import run_study

pytestmark = pytest.mark.usefixtures("one_thread")

HAPPY, AFRAID = EMOTIONS.index("happiness"), EMOTIONS.index("fear")
FPS = 40.0  # of the films: a rise of 8 frames is 0.2 s
LEARNT = {"images_seen": 960, "batch": 16, "learning_rate": 1e-3, "neutral": 0.5, "fps": FPS}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = Store(tmp_path_factory.mktemp("store"))
    keep(films(), home, "films")
    return home


@pytest.fixture(scope="module")
def run(store: Store) -> Run:
    """A generator that has learnt the movements."""
    spec = training_of("motion", faces="films", **LEARNT)
    return train_generator(spec, store, alias="motion", device="cpu")


@pytest.fixture(scope="module")
def generator(run: Run) -> Motion:
    loaded = load_generator(run, "cpu")
    assert isinstance(loaded, Motion)
    return loaded


@pytest.fixture(scope="module")
def database(store: Store, run: Run) -> Run:
    spec = order_database(run, "each:4", store, steps=6, fps=50.0, intensity=(0.5, 1.5))
    return generate_database(spec, store, alias="clips", device="cpu")


# What is learnt


def test_onset_and_apex_are_means_of_the_frames_around_them():
    faces = films(subjects=1, clips=1, noise=0.0)
    pairs = collect_pairs(faces, fps=200.0, where="films")  # two frames on each side
    clip = next(list_clips(faces))
    assert (clip.onset, clip.apex, clip.offset) == (0, 8, 24)
    np.testing.assert_allclose(pairs.onsets[0], faces.images[:3, 0].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(pairs.apexes[0], faces.images[6:11, 0].mean(axis=0), atol=1e-4)
    single = collect_pairs(faces, fps=FPS, where="films")
    np.testing.assert_array_equal(single.apexes[0], faces.images[8, 0])


def test_the_gain_makes_movements_as_strong_as_faces():
    pairs = collect_pairs(films(), FPS, "films")
    mean, offsets, gain, deviation = scale_pairs(pairs, class_offsets=True)
    centred = stack_pairs(pairs, gain) - mean - offsets[torch.from_numpy(pairs.number_labels())]
    assert gain > 2
    for channel in (0, 1):
        assert float(centred[:, channel].square().mean() ** 0.5) == pytest.approx(deviation, 1e-3)
    assert not offsets[:, 1].any()  # the neutral face has no class


def test_the_timing_of_clips_is_found_again():
    faces = films(noise=1.5)
    clips, pairs = list(list_clips(faces)), collect_pairs(faces, FPS, "films")
    timing = fit_timing(clips, pairs, FPS)
    means = dict(zip(PARAMETERS, timing.mean, strict=True))
    assert np.exp(means["rise"]) == pytest.approx(8 / FPS)
    assert np.exp(means["decay"]) == pytest.approx(16 / FPS)
    assert means["rest"] == pytest.approx(0.05, abs=0.1)  # everything returns
    assert timing.noise == pytest.approx(1.5, rel=0.1)
    course = draw_course(timing, seed=3, fps=2 * FPS)
    assert (course.apex, len(course.positions)) == (16, 49)
    assert course.positions[[0, 16]].tolist() == pytest.approx([0, 1])
    straight = np.interp(np.arange(49), [0, 16, 48], [0, 1, 0])
    assert np.abs(course.positions - straight).mean() < 0.12
    assert MotionTiming.from_json(json.loads(json.dumps(timing.to_json()))) == timing


DRIFT = HeadDrift((0.3, 0.2, 0.25, 0.0), seconds=0.15)


def drifting_films() -> Faces:
    """Films whose heads drift: each frame is moved, and has its sensor noise afterwards."""
    faces = films(subjects=10, size=32, noise=0.0)
    images = np.asarray(faces.images).astype(np.float32)
    rng = np.random.default_rng(0)
    for number, (_, frames) in enumerate(faces.index.groupby("clip", sort=False)):
        rows = frames.index.to_numpy()
        for row, pose in zip(rows, draw_drift(DRIFT, number, len(rows), FPS), strict=True):
            images[row, 0] = move_head(images[row, 0], pose) + rng.normal(0, 1, images.shape[2:])
    return replace(faces, images=images.round().clip(0, 255).astype(np.uint8))


def measure_border(clips: list[np.ndarray]) -> float:
    """How far the border of a picture moves in eight frames, in pixels: the median."""
    moved = [np.hypot(*compute_flow(clip[0], clip[8])) for clip in clips]
    return float(np.median([np.concatenate([one[:4], one[-4:]]) for one in moved]))


def test_a_head_in_another_pose_is_measured():
    face = collect_pairs(films(noise=0.0, size=48), FPS, "films").onsets[0]
    for part in range(4):
        pose = 0.4 * np.eye(4)[part]
        moved = move_head(face, pose).round().clip(0, 255).astype(np.uint8)
        np.testing.assert_allclose(measure_poses(moved[None], face)[0], pose, atol=0.15)
    np.testing.assert_array_equal(move_head(face, np.zeros(4)), face)
    right = move_head(face, np.array([1.0, 0, 0, 0]))
    np.testing.assert_allclose(right[:, 1:], face[:, :-1], atol=0.1)


def test_the_drift_of_heads_is_found_again_and_generated_heads_drift_as_far():
    faces = drifting_films()
    clips, pairs = list(list_clips(faces)), collect_pairs(faces, FPS, "films")
    timing = fit_timing(clips, pairs, FPS)
    assert timing.drift is not None
    np.testing.assert_allclose(timing.drift.deviations, DRIFT.deviations, atol=0.12)
    assert 0.5 < timing.drift.seconds / DRIFT.seconds < 2
    assert MotionTiming.from_json(json.loads(json.dumps(timing.to_json()))) == timing

    # neutral faces that move with nothing but the drift: the border moves as in the films
    made = []
    for number, onset in enumerate(pairs.onsets.round().astype(np.uint8)):
        poses = draw_drift(timing.drift, 500 + number, 25, FPS)
        moments = np.stack([onset, onset])
        made.append(render_frames(moments, np.zeros(25), 1.0, 500 + number, poses))
        grain = render_frames(moments, np.zeros(1), 1.0, 500 + number)
        np.testing.assert_array_equal(made[-1][:1], grain)  # the onset has not drifted
    real = measure_border([clip.frames for clip in clips])
    assert 0.6 < measure_border(made) / real < 1.6
    still = [render_frames(clip[:1].repeat(2, 0), np.zeros(25), 1.0, 1) for clip in made]
    assert measure_border(still) < 0.5 * real


def test_heads_that_keep_still_or_are_hardly_seen_get_no_drift():
    faces = films(subjects=10, size=32, noise=0.0)
    images = np.asarray(faces.images).astype(np.float32)
    for _, frames in faces.index.groupby("clip", sort=False):  # the mouth moves, and no border
        rows = frames.index.to_numpy()
        for side in (np.s_[:, :, :7], np.s_[:, :, :, :7], np.s_[:, :, :, -7:]):
            whole = images[rows]
            whole[side] = whole[:1][side]
            images[rows] = whole
    images += np.random.default_rng(0).normal(0, 1, images.shape)
    still = replace(faces, images=images.round().clip(0, 255).astype(np.uint8))
    pairs = collect_pairs(still, FPS, "films")
    assert fit_drift(list(list_clips(still)), pairs.onsets, FPS) is None

    # of three frames each, no path is seen
    moved = drifting_films()
    few = moved.select(moved.index["frame"].isin([0, 8, 24]).to_numpy())
    assert fit_drift(list(list_clips(few)), collect_pairs(few, FPS, "few").onsets, FPS) is None
    small = films(size=16)  # the mouth reaches the border
    onsets = collect_pairs(small, FPS, "small").onsets
    assert fit_drift(list(list_clips(small)), onsets, FPS) is None
    assert not draw_drift(None, 1, 20, FPS).any()


def test_a_path_of_a_head_belongs_to_its_clip_and_not_to_the_frame_rate():
    path = draw_drift(DRIFT, 3, 40, 200.0)
    np.testing.assert_allclose(draw_drift(DRIFT, 3, 20, 100.0), path[::2], atol=1e-9)
    np.testing.assert_array_equal(path[0], 0)
    assert not np.allclose(draw_drift(DRIFT, 4, 40, 200.0)[1:], path[1:])
    far = np.stack([draw_drift(DRIFT, seed, 2, 0.5)[1] for seed in range(1000)]).std(axis=0)
    np.testing.assert_allclose(far, np.sqrt(2) * np.array(DRIFT.deviations), rtol=0.1)
    assert np.abs(np.diff(path, axis=0)).max() < 0.1  # smooth: a frame is near the last one


def test_generators_from_before_heads_drifted_are_read_and_later_versions_refused():
    pairs = collect_pairs(films(), FPS, "films")
    timing = replace(fit_timing(list(list_clips(films())), pairs, FPS), drift=DRIFT)
    fields = json.loads(json.dumps(timing.to_json()))
    assert MotionTiming.from_json(fields) == timing
    later = {**fields, "drift": {**fields["drift"], "version": 2}}
    with pytest.raises(DataError, match=r"version 1.*version 2.*update mien"):
        MotionTiming.from_json(later)
    del fields["drift"]
    assert MotionTiming.from_json(fields) == replace(timing, drift=None)


def test_courses_differ_from_clip_to_clip_within_the_limits_of_the_training_clips():
    timing = MotionTiming(
        mean=(-1.5, -0.7, 0.5, 0.9, 0.6, 0.9, 0.1),
        covariance=tuple(tuple(row) for row in (0.2 * np.eye(7)).tolist()),
        low=(-2.0, -1.0, 0.0, 0.5, 0.2, 0.5, 0.0),
        high=(-1.0, -0.5, 1.0, 1.2, 1.0, 1.2, 0.3),
        noise=0.0,
        clips=9,
    )
    courses = [draw_course(timing, seed, fps=200.0) for seed in range(40)]
    rises = np.array([course.apex for course in courses]) / 200
    assert len(set(rises)) > 10
    assert np.exp(-2.0) - 0.01 < rises.min() and rises.max() < np.exp(-1.0) + 0.01
    for course in courses:
        assert (np.diff(course.positions[: course.apex + 1]) >= 0).all()
        assert (np.diff(course.positions[course.apex :]) <= 0).all()
        assert course.phases[0] == "onset" and course.phases[-1] == "offset"
        assert course.phases.index("apex") == course.apex


def test_sets_that_cannot_teach_movement_are_refused():
    with pytest.raises(DataError, match="needs 2 clips or more that have an onset"):
        collect_pairs(toy(), FPS, "toy")
    faces = films(subjects=1)
    colours = Faces(np.repeat(faces.images, 3, axis=1), faces.index)
    with pytest.raises(DataError, match="learnt from grey frames"):
        collect_pairs(colours, FPS, "colours")


def test_whole_clips_are_found_behind_a_run_of_apex_frames_and_its_split(store: Store):
    apexes = run_preprocess(PreprocessSpec(faces="films", frames="apex", window=0), store)
    side = SplitSpec(faces=apexes.name, by="subject", folds=2, number=0, side="train")
    split = run_split(side, store)
    spec = training_of("motion", faces=split.name)
    rows, faces = Faces.load(split.path).index, load_training_faces(spec, store)
    assert set(faces.index["clip"]) == set(rows["clip"]) and len(faces) == 25 * len(rows)
    assert {"onset", "apex", "offset"} <= set(faces.index["phase"])


# Drawing


def test_the_mouth_moves_as_the_class_says(generator: Motion):
    labels, seeds = np.repeat([HAPPY, AFRAID], 8), np.arange(16) << 34
    made = sample_generator(generator, labels, seeds, sampler=SamplerSpec(steps=8))
    assert made.shape == (16, 2, 16, 16) and generator.channels == ("onset", "apex")
    difference = made[:, 1].astype(float) - made[:, 0]
    mouth = difference[:, 8:15]
    right = mouth[:, :, 9:].sum(axis=(1, 2)) - mouth[:, :, :8].sum(axis=(1, 2))
    assert MOVED["happiness"] > 0 > MOVED["fear"]
    assert right[:8].mean() > 0 > right[8:].mean() and right[:8].min() > right[8:].max()


def test_clips_of_one_person_have_one_neutral_face(generator: Motion):
    person = 5 << 32
    seeds = np.array([person | 1, person | 2, (6 << 32) | 1])
    labels = np.array([HAPPY, AFRAID, HAPPY])
    made = sample_generator(generator, labels, seeds, sampler=SamplerSpec(steps=4))
    np.testing.assert_array_equal(made[0, 0], made[1, 0])
    assert (made[0, 0] != made[2, 0]).any() and (made[0, 1] != made[1, 1]).any()
    assert len(set(find_person_seeds(seeds))) == 2


def test_a_frame_on_the_way_is_warped_and_not_faded():
    rows, columns = np.mgrid[:32, :32]
    spots = [200 * np.exp(-((rows - 16) ** 2 + (columns - place) ** 2) / 10) for place in (14, 18)]
    moments = np.stack(spots).round().astype(np.uint8)
    frames = render_frames(moments, np.array([0.0, 0.5, 1.0]), 0.0, seed=0)
    np.testing.assert_array_equal(frames[[0, 2]], moments)
    middle = frames[1].astype(float)
    assert (middle * columns).sum() / middle.sum() == pytest.approx(16, abs=0.3)
    assert middle.max() > 180  # two faded spots would have 115 in the middle


def test_a_picture_is_warped_by_the_flow_between_two():
    rows, columns = np.mgrid[:32, :32]
    first, later = (
        (200 * np.exp(-((rows - 16) ** 2 + (columns - place) ** 2) / 20)).astype(np.uint8)
        for place in (15, 17)
    )
    flow = compute_flow(later, first)
    assert np.abs(warp_image(first.astype(np.float32), flow) - later).max() < 30
    shifted = warp_image(
        first.astype(np.float32), np.stack([np.ones((32, 32)), np.zeros((32, 32))])
    )
    np.testing.assert_array_equal(shifted[:, :-1], first[:, 1:])


def test_still_pixels_have_the_sensor_noise_of_the_training_clips():
    moments = np.full((2, 24, 24), 100, dtype=np.uint8)
    frames = render_frames(moments, np.linspace(0, 1, 40), 1.5, seed=1).astype(float)
    assert frames.std(axis=0).mean() == pytest.approx(1.5, rel=0.05)
    again = render_frames(moments, np.linspace(0, 1, 40)[:7], 1.5, seed=1)
    np.testing.assert_array_equal(again, frames[:7])  # a frame depends on no other


def test_moments_of_longer_clips_lie_between_onset_apex_and_offset():
    course = Course(np.array([0, 0.5, 1, 0.7, 0.4, 0.1]), apex=2)
    assert place_in_moments(course, 2).tolist() == course.positions.tolist()
    assert place_in_moments(course, 8)[[0, 2, 5]].tolist() == [0, 4, 7]


# Databases


def test_a_database_of_clips_has_whole_clips_of_people_with_names(database: Run, generator: Motion):
    faces, clips = Faces.load(database.path), pd.read_csv(database.path / CLIPS_FILE)
    assert len(clips) == 8 and len(set(clips["subject"])) == 2  # two of each class each
    for _, clip in clips.iterrows():
        frames = faces.index[faces.index["clip"] == clip["clip"]]
        assert frames["frame"].tolist() == list(range(1, clip["offset"] + 1))
        assert frames["phase"].iloc[[0, clip["apex"] - 1, -1]].tolist() == [
            "onset",
            "apex",
            "offset",
        ]
        assert set(frames["subject"]) == {clip["subject"]}
        assert set(frames["seed"]) == {clip["seed"]}
    measured = np.median([measure_noise(clip) for clip in iterate_clips(faces)])
    assert measured == pytest.approx(generator.timing.noise, rel=0.15)
    assert clips["intensity"].between(0.5, 1.5).all() and clips["intensity"].nunique() == 8
    assert set(faces.index["source"]) == {database.name}
    names = set(database.manifest["files"])
    assert {"sheet.png", "motion-happiness.webp", "motion-fear.webp"} <= names


def test_each_clip_can_be_made_alone(database: Run, store: Store, run: Run):
    few = order_database(run, "only,fear=3", store, steps=6, fps=50.0, intensity=(0.5, 1.5))
    alone = generate_database(few, store, device="cpu")
    one, all_frames = Faces.load(alone.path), Faces.load(database.path)
    name = "fear-00002"
    first = one.select(one.index["clip"].str.endswith(name).to_numpy())
    again = all_frames.select(all_frames.index["clip"].str.endswith(name).to_numpy())
    np.testing.assert_array_equal(first.images, again.images)
    assert first.index["seed"].iloc[0] == again.index["seed"].iloc[0]


def test_intensity_multiplies_the_movement(generator: Motion):
    labels, seeds = np.array([HAPPY] * 4), np.arange(4) << 34
    made = []
    for factor in (0.5, 1.0):
        how = GenerateSpec(
            generator="g", counts={"happiness": 4}, fps=50, steps=4, intensity=(factor, factor)
        )
        made.append(sample_generator(generator, labels, seeds, sampler=how).astype(float))
    weak, full = (pair[:, 1] - pair[:, 0] for pair in made)
    np.testing.assert_allclose(weak, full / 2, atol=1.01)
    np.testing.assert_array_equal(made[0][:, 0], made[1][:, 0])


def test_the_frame_rate_changes_the_number_of_frames_and_not_the_movement(store: Store, run: Run):
    slow, fast = (
        generate_database(
            order_database(run, "only,fear=1", store, steps=3, fps=fps), store, device="cpu"
        )
        for fps in (25.0, 100.0)
    )
    tables = [pd.read_csv(made.path / CLIPS_FILE) for made in (slow, fast)]
    assert tables[1]["offset"][0] - 1 == pytest.approx(4 * (tables[0]["offset"][0] - 1), abs=4)
    first, last = (Faces.load(made.path).images[0].astype(float) for made in (slow, fast))
    assert np.abs(first - last).mean() < 3  # the onset, but for sensor noise


def test_action_units_condition_the_movement_and_are_in_the_table(store: Store):
    condition = ("emotion", "action_units")
    spec = training_of("motion", faces="films", fps=FPS, condition=condition)
    run = train_generator(spec, store, device="cpu")
    generator = load_generator(run, "cpu")
    assert isinstance(generator, Motion) and generator.units is not None
    assert generator.units.columns == ("12", "20")
    with torch.no_grad():  # an untrained network says nothing
        for parameter in generator.movement.network.parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(0)
            )
    labels, seeds = np.array([HAPPY]), np.array([7])
    pairs = [
        sample_generator(
            generator,
            labels,
            seeds,
            sampler=read_steps(
                {
                    "generator": "g",
                    "counts": {"fear": 1},
                    "steps": 3,
                    "fps": 50.0,
                    "units": parse_order(units),
                },
                "test",
            ),
        )
        for units in ("12", "20")
    ]
    np.testing.assert_array_equal(pairs[0][0, 0], pairs[1][0, 0])  # the neutral face
    assert (pairs[0][0, 1] != pairs[1][0, 1]).any()

    # The units of a clip are those of training clips of its class, or those that were ordered
    for units, expected in ((None, ["20", "12"]), ("12:0.8", ["12D", "12D"])):
        order = order_database(run, "each:1", store, steps=2, units=units)
        made = generate_database(order, store, device="cpu")
        assert pd.read_csv(made.path / CLIPS_FILE, dtype=str)["action_units"].tolist() == expected
        assert set(Faces.load(made.path).index["action_units"]) == set(expected)


@pytest.mark.parametrize(("form", "channels"), [("joint", 2), ("frames", 4)])
def test_the_other_forms_draw_clips_too(form: str, channels: int, store: Store):
    moments = {"moments": 4} if form == "frames" else {}
    spec = training_of("motion", faces="films", form=form, fps=FPS, **moments)
    run = train_generator(spec, store, device="cpu")
    generator = load_generator(run, "cpu")
    made = sample_generator(
        generator, np.array([HAPPY]), np.array([7]), sampler=SamplerSpec(steps=2)
    )
    assert made.shape == (1, channels, 16, 16)
    clips = generate_database(order_database(run, "each:1", store, steps=2), store, device="cpu")
    assert set(Faces.load(clips.path).index["phase"]) == {
        "onset", "rise", "apex", "fall", "offset",
    }  # fmt: skip


# Pasted movements


def fit_pasted(store: Store, of: str = "same") -> Pasted:
    run = train_generator(training_of("pasted", faces="films", of=of, fps=FPS), store)
    loaded = load_generator(run, "cpu")
    assert isinstance(loaded, Pasted)
    return loaded


def test_pasted_movements_are_those_of_the_class_on_other_people(store: Store):
    labels, seeds = np.repeat([HAPPY, AFRAID], 10), np.arange(20) << 33
    right = {}
    for of in ("same", "other"):
        generator = fit_pasted(store, of)
        made = sample_generator(generator, labels, seeds)
        onsets = [image.tobytes() for image in generator.pairs[:, 0]]
        assert all(image.tobytes() in onsets for image in made[:, 0])
        assert not any((image == generator.pairs[:, 1]).all((1, 2)).any() for image in made[:, 1])
        mouth = made[:, 1, 8:15].astype(float) - made[:, 0, 8:15]
        right[of] = mouth[:, :, 9:].sum(axis=(1, 2)) - mouth[:, :, :8].sum(axis=(1, 2))
    assert (right["same"][:10] > 0).all() and (right["same"][10:] < 0).all()
    assert (right["other"][:10] < 0).all() and (right["other"][10:] > 0).all()


def test_movements_are_pasted_only_on_other_people(tmp_path: Path):
    alone = Store(tmp_path / "store")
    keep(films(subjects=1, clips=2), alone, "films")
    with pytest.raises(DataError, match=r"faces of other people.*1 subject"):
        fit_pasted(alone)


# Studies


def test_clips_are_shown_to_classifiers_as_real_ones_are(store: Store, database: Run):
    real = {
        "flow": {"input": ("flow",), "window": 0},
        "moments": {"clips": 4, "input": ("onset-difference",)},
        "apexes": {"window": 1, "size": 8},
    }
    for fields in real.values():
        model = run_preprocess(PreprocessSpec(faces="films", **fields), store)
        side = SplitSpec(faces=model.name, by="subject", folds=2, number=0, side="train")
        for like in (model, run_split(side, store)):
            shown = load_like(database, like, store)
            faces = Faces.load(like.path)
            assert (shown.size, shown.channels) == (faces.size, faces.channels)
            per_clip = len(faces) / faces.index["clip"].nunique()
            assert len(shown) == 8 * per_clip


def test_a_study_trains_networks_of_movement_on_generated_clips(store: Store):
    fields = PreprocessSpec(faces="films", input=("flow-right", "flow-down"), window=0)
    run_preprocess(fields, store, alias="flow")
    own = {"preset": "motion", "images_seen": 64, "batch": 16, "net": SMALL_NET, "fps": FPS}
    file = table(
        faces="flow",
        settings=["real_to_real", "synthetic_to_real", "both_to_real"],
        classifiers=["svm"],
        classifier={},
        controls=["pasted", "copycat"],
        generator=own,
        generate={"steps": 2, "intensity": (0.8, 1.2), "fps": 50.0},
        counts="each:5",
        trials=1,
        only_folds=[0],
    )
    study = resolve(file, store)
    results = StudyResults(run_study(study, store, device="cpu").name, store)
    cells = {(cell.setting, cell.control) for cell in [*results.cells, *results.controls]}
    for setting in ("synthetic_to_real", "both_to_real"):
        assert {(setting, ""), (setting, "pasted"), (setting, "copycat")} <= cells
    told = " ".join(conclusion.sentence for conclusion in draw_conclusions([results]))
    assert "pasted on the faces of other training people" in told


def test_a_study_of_photographs_cannot_have_clips(store: Store):
    still = toy()
    plain = Faces(still.images, still.index.assign(clip="", subject=[f"s{n}" for n in range(24)]))
    keep(plain, store, "photographs")
    for fields in ({"generator": {"preset": "motion"}}, {"controls": ["pasted"]}):
        with pytest.raises(DataError, match=r"draws clips of movement.*belong to no clip"):
            resolve(table(faces="photographs", settings=["both_to_real"], **fields), store)


def test_options_of_clips_are_for_generators_of_movement(store: Store, run: Run, tmp_path: Path):
    keep(toy(), store, "toy")
    still = train_generator(training_of("gaussian", faces="toy"), store, device="cpu")
    with pytest.raises(UsageError, match="are for generators of movement"):
        order_database(still, "each:1", store, fps=100.0)
    with pytest.raises(UsageError, match="omit --steps"):
        order_database(run, "each:1", store, steps="auto")
    with pytest.raises(SpecError, match="first limit of intensity must be the lower"):
        order_database(run, "each:1", store, intensity=(1.5, 0.5))
    with pytest.raises(SpecError, match=r"fps: must be more than 0.0 \(given: 0"):
        order_database(run, "each:1", store, fps=0.0)
    for wrong in ("strong", "nan", "1.5..0.5", "-1", "11", "1..inf", "1..", "..1", ""):
        with pytest.raises(UsageError, match=re.escape(f"such as 0.5..1.5; given: '{wrong}'")):
            read_intensity(wrong)
    assert read_intensity("0.5..1.5") == (0.5, 1.5) and read_intensity("2") == (2, 2)
    text = inside(tmp_path, "generate", run.name, "--fps", "0", "--store", str(store.root), code=2)
    assert "fps: must be more than 0.0" in text
    text = inside(tmp_path, "generate", "x", "--intensity", "strong", code=2)
    assert "there is no run or alias 'x'" in text


def test_the_plan_of_clips_does_not_depend_on_the_counts(run: Run):
    small = GenerateSpec(generator=run.name, counts={"fear": 3}, fps=50)
    large = small.model_copy(update={"counts": {"fear": 5, "happiness": 2}})
    few, many = plan_clips("a", small), plan_clips("a", large)
    assert few[2].tolist() == many[2][:3].tolist()
