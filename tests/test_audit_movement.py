"""The audit of movement: real clips pass, and each control is told from them by what it lacks."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from movement_world import CLASSES, SIZE, draw_clips
from worlds import keep

from mien.audit import verdict
from mien.audit.movement.clips import REGION_COLUMNS, describe_regions, measure_clips
from mien.audit.movement.distances import Group, measure_distance
from mien.audit.part import PartInput, PartResult
from mien.audit.parts import holds_clips, measure_part, plan_parts
from mien.audit.run import run_audit
from mien.audit.specs import AuditSpec
from mien.faces import Faces
from mien.prepare.movement import CHANGES, Change, make_control_clips
from mien.runs.store import Store

PEOPLE = 12

SOURCE = "generate-0123456789ab"


@cache
def side(name: str) -> Faces:
    """Clips of people of their own: train, test, or strangers in place of generated clips."""
    if name in CHANGES:
        counts = dict.fromkeys(CLASSES, PEOPLE)
        change: Change = name  # pyright: ignore[reportAssignmentType]
        return make_control_clips(side("train"), counts, 0, SOURCE, change)
    return draw_clips(PEOPLE, seed=["train", "test", "strangers"].index(name), name=name)


@cache
def measured(name: str) -> PartResult:
    return compare(side(name))


def compare(made: Faces, train: Faces | None = None) -> PartResult:
    sides = PartInput(
        side("train") if train is None else train,
        side("test"),
        made,
        {},
        lambda: pytest.fail("no matches are needed"),
    )
    return measure_part("movement", sides)


def keep_phases(faces: Faces, *phases: str) -> Faces:
    return faces.select(faces.index["phase"].isin(phases).to_numpy())


def numbers(name: str) -> dict[str, float]:
    return {
        one.metric.removeprefix("movement."): one.value
        for one in measured(name).records
        if not one.part
    }


def verdicts(name: str) -> dict[str, str]:
    limits = {
        metric: fields
        for metric, fields in verdict.read_thresholds().items()
        if metric.startswith("movement.")
    }
    checks = verdict.judge(measured(name).records, limits, verdict.HeldOut(PEOPLE))
    return {check.name.removeprefix("movement."): check.verdict for check in checks}


def test_clips_of_strangers_move_as_people_do():
    found = verdicts("strangers")
    copied = found.pop("copied")
    assert set(found.values()) == {"pass"} and copied in ("pass", "cannot tell")
    values = numbers("strangers")
    assert values["labels"] > 0.9 and values["units"] > 0.9 and values["copied"] < 0.1
    assert 0.2 < values["origin"] < 0.8
    assert not measured("strangers").notes


def test_pasted_movements_are_copied_ones_on_whatever_face():
    assert verdicts("pasted")["copied"] == "fail"
    assert numbers("pasted")["copied"] > 0.5 and numbers("pasted")["labels_kept"] > 0.9

    # The clip that each was pasted from is found, though the face is that of another
    rows = measured("pasted").rows
    made = side("pasted").index.set_index("key")["emotion"]
    real = side("train").index.drop_duplicates("clip").set_index("clip")["emotion"]
    named = real[rows["movement_nearest"]].to_numpy()
    assert (named == made[rows["key"]].to_numpy()).mean() > 0.95


def test_shuffled_movements_do_not_fit_their_labels():
    found = verdicts("shuffled")
    assert found["labels_kept"] == "fail" and found["flow"] == "fail"
    assert numbers("shuffled")["units"] < 0.2
    assert found["course"] in ("pass", "warn") and found["drift"] == "pass"


def test_clips_without_movement_are_far_from_people():
    found = verdicts("still")
    assert found["flow"] == "fail" and found["course"] == "fail"
    assert numbers("still")["flow"] > 3 * numbers("shuffled")["flow_floor"] + 0.2
    assert found["drift"] == "pass" and numbers("still")["copied"] < 0.2


def test_frames_without_noise_and_faces_that_change_are_found():
    # The noise of each synthetic clip is taken off, and its face fades into another
    strangers = side("strangers")
    images = np.array(strangers.images)
    clips = strangers.index["clip"].to_numpy()
    other = images[0, 0].astype(float)
    for name in dict.fromkeys(clips):
        rows = np.flatnonzero(clips == name)
        mean = images[rows].mean(axis=0)
        share = np.linspace(0, 0.3, len(rows))[:, None, None, None]
        images[rows] = ((1 - share) * mean + share * other).round().astype(np.uint8)
    changed = Faces(images, strangers.index)
    records = {one.metric: one for one in compare(changed).records if not one.part}
    assert records["movement.drift"].value > 3 * records["movement.drift_heldout"].value
    assert records["movement.noise"].value < records["movement.noise_heldout"].value / 2
    assert records["movement.equal"].value > 2 * records["movement.equal_heldout"].value
    assert records["movement.still"].value > 0.5 and records["movement.origin"].value > 0.95


def test_the_flow_of_a_region_is_described_by_its_directions():
    flow = np.zeros((2, 100, 100), dtype=np.float32)
    flow[0, 70:80, 25:45] = -2.0  # the left corner of the mouth moves to the left
    values = dict(zip(REGION_COLUMNS, describe_regions(flow), strict=True))
    moved = {name for name, value in values.items() if value > 0}
    assert moved == {"left mouth corner, left"}
    assert values["left mouth corner, left"] == pytest.approx(2 * 200 / 500)


def test_the_distance_of_two_samples_is_0_and_does_not_depend_on_the_clips_of_a_person():
    rng = np.random.default_rng(0)

    def draw(shift: float, clips: int) -> Group:
        people = np.repeat(np.arange(30), clips)
        means = shift + rng.normal(0, 1, (30, 2))
        return Group(means[people] + 0.01 * rng.normal(size=(len(people), 2)), people)

    def measure(first: Group, second: Group) -> tuple[float, float, float]:
        _, found = measure_distance([first], [second], (30, 30), ("a", "b"))
        return found.low, found.value, found.high

    low, value, high = measure(draw(0, 1), draw(0, 1))
    assert low < 0 < high and abs(value) < 0.05
    many_low, many, _ = measure(draw(0, 9), draw(0, 9))
    assert abs(many) < 0.05 and many_low < 0
    far = measure(draw(0, 2), draw(9, 2))
    assert far[0] > 0.8 and far[2] <= 1
    few = Group(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
    assert np.isnan(measure_distance([few], [few], (2, 2), ("a", "b"))[1].value)


def test_too_few_people_give_a_note_for_each_number_that_cannot_be_had():
    is_few = side("train").index["subject"].isin(["train:s0", "train:s1"])
    result = compare(side("strangers"), side("train").select(is_few.to_numpy()))
    text = " ".join(result.notes)
    assert "labels of movement: two classes or more need clips of 3 training people" in text
    assert "copied movement needs clips of 3 training people or more; given: 2" in text
    assert "movement.labels" not in {one.metric for one in result.records}


def test_sides_without_whole_clips_are_named():
    apexes = keep_phases(side("train"), "apex")
    result = compare(side("strangers"), apexes)
    assert not result.records and "the training side has no whole clips" in result.notes[0]
    assert not holds_clips(apexes) and holds_clips(side("strangers"))


def test_an_audit_of_clips_has_a_fifth_question_and_a_sheet_of_strips(tmp_path: Path):
    store = Store(tmp_path / "store")
    sides = {"synthetic": side("still"), "train": side("train"), "test": side("test")}
    runs = dict[str, str]()
    for name, faces in sides.items():
        clips = list(dict.fromkeys(faces.index["clip"]))[:21]
        few = keep_phases(faces.select(faces.index["clip"].isin(clips).to_numpy()), "onset", "apex")
        runs[name] = keep(few, store, name).name
    spec = AuditSpec.model_validate(
        {**runs, "thresholds": verdict.read_thresholds(), "spaces": ["pixels"]}
    )
    run = run_audit(spec, store)
    content = run.read_json("audit.json")
    answers = {one["title"]: one["verdict"] for one in content["questions"]}
    assert len(answers) == 5 and answers["Does it move as people do?"] == "fail"
    assert content["thresholds_changed"] == []
    checks = {one["name"]: one["verdict"] for one in content["checks"]}
    assert checks["movement.flow"] == "fail" and checks["movement.course"] == "cannot tell"
    assert any("do not follow each other in time" in note for note in content["notes"])
    assert run.find_file("movement.png").stat().st_size > 1000
    page = run.find_file("index.html").read_text(encoding="utf-8")
    assert "Does it move as people do?" in page and "Strips of clips from onset to offset" in page
    assert "flow by region of the face, energy distance" in page


def test_single_images_are_not_asked_about_movement():
    known = verdict.read_thresholds()
    plain = verdict.select_thresholds(known, clips=False)
    assert set(known) - set(plain) == {name for name in known if name.startswith("movement.")}
    assert len(verdict.answer_questions([])) == 4
    assert len(verdict.answer_questions([], clips=True)) == 5
    assert verdict.find_changes(plain, clips=False) == []
    assert {change.field for change in verdict.find_changes(plain, clips=True)} == {"off"}
    names = ("a-0000000000", "b-0000000000", "")
    parts = [
        plan_parts(*names, ("pixels",), "bilinear", {}, clips=clips) for clips in (False, True)
    ]
    assert set(parts[1]) - set(parts[0]) == {"movement"}


def test_clips_are_measured_one_by_one():
    one = side("train").select((side("train").index["clip"] == "train:s1/c1").to_numpy())
    alone, together = measure_clips(one), measure_clips(side("train"))
    row = list(together.names).index("train:s1/c1")
    assert np.allclose(alone.regions[0], together.regions[row])
    assert alone.onsets.shape == (1, SIZE, SIZE) and len(together) == PEOPLE * len(CLASSES)
