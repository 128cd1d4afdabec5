"""The drawn data set: CASME II's layout with its flaws, the same bytes always, faces that move
where they should.
"""

import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

from mien.errors import UsageError
from mien.ingest.toy import dataset
from mien.ingest.toy.head import Array, Pose, draw_face, invent_identity, parse_drawn_units

SHEET = "CASME2-coding-20140508.xlsx"


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def rows(root: Path) -> list[tuple[object, ...]]:
    return list(openpyxl.load_workbook(root / SHEET)["Sheet1"].iter_rows(values_only=True))


def label_action_units(action_units: str) -> str:
    """Return the emotion that CASME II's rule gives to action units such as `4+L10`.

    Sides are ignored. The first rule that holds decides: fear 1+2+4 with 5 or 20; sadness 1+4
    without 2; happiness 6 or 12; disgust 9 or 10 or 4+7; surprise 2 or 5 or 25; repression 15 or
    17; else others.
    """
    units = set(parse_drawn_units(action_units))
    numbers = {number for _, number in units}
    if {1, 2, 4} <= numbers and numbers & {5, 20}:
        return "fear"
    if {1, 4} <= numbers and 2 not in numbers:
        return "sadness"
    if numbers & {6, 12}:
        return "happiness"
    if numbers & {9, 10} or {4, 7} <= numbers:
        return "disgust"
    if numbers & {2, 5, 25}:
        return "surprise"
    if numbers & {15, 17}:
        return "repression"
    return "others"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "set"
    counts = dataset.draw(root, subjects=4, clips=4, seed=3, workers=1)
    assert counts == dataset.ToyCounts(4, 4, len(list(root.rglob("*.jpg"))))
    return root


def test_worker_count_does_not_change_a_byte(drawn: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    dataset.draw(
        tmp_path / "two",
        4,
        4,
        seed=3,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert contents(tmp_path / "two") == contents(drawn)
    assert seen == [(done, 4) for done in range(5)]


def test_seed_changes_the_people_and_the_clips() -> None:
    assert invent_identity(0, 1) == invent_identity(0, 1)
    assert len({invent_identity(seed, number) for seed in range(3) for number in range(20)}) == 60
    assert dataset.plan_clips(4, 12, 0, "casme2") != dataset.plan_clips(4, 12, 1, "casme2")


def test_layout_is_that_of_the_release(drawn: Path) -> None:
    head, *body = rows(drawn)
    assert head == (
        *("Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None),
        *("Action Units", "Estimated Emotion"),
    )
    assert (body[0][0], body[0][1], body[0][3]) == ("01", "EP02_01f", 46)
    assert (drawn / "Cropped/sub01/EP02_01f/reg_img46.jpg").is_file()
    assert (drawn / "Cropped/sub01/Desktop - Shortcut.lnk").is_file()
    assert (
        "seed 3" in (drawn / "readme.txt").read_text()
        and "CC0" in (drawn / "readme.txt").read_text()
    )
    assert not list(drawn.glob(".tmp*"))
    for subject, name, gap, onset, apex, offset, other_gap, units, emotion in body:
        assert gap is None and other_gap is None and isinstance(units, str)
        assert emotion == label_action_units(units)
        assert (
            isinstance(onset, int) and isinstance(offset, int) and 31 <= offset - onset + 1 <= 126
        )
        assert apex == "/" or (isinstance(apex, int) and onset <= apex <= offset)
        files = {path.name for path in (drawn / f"Cropped/sub{subject}/{name}").iterdir()}
        assert files == {f"reg_img{number}.jpg" for number in range(onset, offset + 1)}
    assert [row[1] for row in body if row[4] == "/"] == ["EP12_01f"]


def test_sheet_holds_no_time_of_its_making(drawn: Path) -> None:
    with zipfile.ZipFile(drawn / SHEET) as book:
        assert {entry.date_time[0] for entry in book.infolist()} == {2014}
        assert b"2014-05-08T" in book.read("docProps/core.xml") and b"202" not in book.read(
            "docProps/core.xml"
        )


def test_pictures_are_colour_and_show_the_movement_at_the_apex(drawn: Path) -> None:
    to_apex, to_end = 0.0, 0.0
    for clip in dataset.plan_clips(4, 4, 3, "casme2"):
        first, apex, last = (
            np.asarray(
                Image.open(drawn / "Cropped" / clip.folder / f"reg_img{number}.jpg"), dtype=float
            )
            for number in (clip.onset, clip.apex, clip.offset)
        )
        assert first.ndim == 3 and 320 < first.shape[0] < 360 and 260 < first.shape[1] < 300
        to_apex += ((first - apex) ** 2).mean()
        to_end += ((first - last) ** 2).mean()
    assert to_apex > 2 * to_end


def test_movement_rises_holds_and_falls_more_slowly() -> None:
    for clip in dataset.plan_clips(26, 60, 0, "casme2"):
        course = dataset.make_intensity_curve(clip, np.random.default_rng(0))
        apex = clip.apex - clip.onset
        assert course[0] == 0 and course[-1] < 0.1 and course[apex] > 0.99 and course.max() <= 1
        assert (np.diff(course[:apex]) > -1e-9).all() and (np.diff(course[apex + 5 :]) < 1e-9).all()


@pytest.mark.parametrize(
    ("units", "emotion"),
    [
        *(
            ("12", "happiness"),
            ("6+12", "happiness"),
            ("R12", "happiness"),
            ("4+L10", "disgust"),
            ("9", "disgust"),
        ),
        *(
            ("4+7", "disgust"),
            ("L4+R7", "disgust"),
            ("1+2", "surprise"),
            ("25", "surprise"),
            ("5", "surprise"),
        ),
        *(("15", "repression"), ("R17", "repression"), ("1+4", "sadness"), ("1+4+15", "sadness")),
        *(("1+2+4+5+20", "fear"), ("1+2+4+20", "fear"), ("1+2+4", "surprise")),
        *(("4", "others"), ("7", "others"), ("R14", "others"), ("4+14", "others"), ("1", "others")),
    ],
)
def test_emotion_follows_the_rule(units: str, emotion: str) -> None:
    assert label_action_units(units) == emotion


def test_every_combination_drawn_means_its_class() -> None:
    for emotion, combinations in dataset.ACTION_UNIT_WEIGHTS.items():
        assert {label_action_units(units) for units in combinations} == {emotion}


def test_full_plan_has_the_counts_and_the_flaws_of_the_sheet() -> None:
    clips = dataset.plan_clips(26, 255, 0, "casme2")
    assert (
        Counter(clip.emotion for clip in clips) == dataset.CLASS_COUNTS
        and sum(dataset.CLASS_COUNTS.values()) == 255
    )
    assert len({clip.folder for clip in clips}) == 255
    subjects = Counter(clip.subject for clip in clips)
    assert (
        set(subjects) == set(range(1, 27))
        and max(subjects, key=lambda subject: subjects[subject]) == 17
    )
    assert [clip.folder for clip in clips if clip.sheet_apex == "/"] == ["sub04/EP12_01f"]
    assert [clip.folder for clip in clips if clip.sheet_apex == clip.onset] == ["sub05/EP09_05f"]
    short = {clip.folder: clip for clip in clips if clip.last != clip.offset}
    assert list(short) == ["sub16/EP01_08"]
    flawed = short["sub16/EP01_08"]
    assert (flawed.onset, flawed.offset, flawed.last, len(flawed.files)) == (73, 110, 96, 24)
    lengths = [clip.offset - clip.onset + 1 for clip in clips]
    assert min(lengths) >= 31 and max(lengths) <= 126 and 60 <= np.median(lengths) <= 72


def test_small_plans_keep_every_class_and_every_subject() -> None:
    for subjects, clips in [(1, 7), (3, 8), (7, 20), (26, 26), (30, 100)]:
        planned = dataset.plan_clips(subjects, clips, 0, "casme2")
        assert len(planned) == clips and {clip.subject for clip in planned} == set(
            range(1, subjects + 1)
        )
        assert {clip.emotion for clip in planned} == set(dataset.CLASS_COUNTS)
        assert sum(clip.sheet_apex == "/" for clip in planned) == 1
    assert set(Counter(clip.emotion for clip in dataset.plan_clips(5, 21, 0, "even")).values()) == {
        3
    }


@cache
def neutral(number: int) -> Array:
    return draw_face(invent_identity(0, number), {})


def moved(
    units: dict[str, float], rows: slice, columns: slice = slice(None), number: int = 2
) -> float:
    """Return the mean change that action units make in a window of the picture, in grey levels."""
    person = invent_identity(0, number)
    change = np.abs(draw_face(person, units).astype(float) - neutral(number))
    return float(change[rows, columns].mean())


BROWS, MOUTH = slice(85, 125), slice(235, 300)


def test_action_units_move_their_own_part_of_the_face() -> None:
    assert moved({"12": 1.0}, MOUTH) > 2 and moved({"12": 1.0}, BROWS) < 0.1
    assert moved({"1": 1.0, "2": 1.0}, BROWS) > 3 and moved({"1": 1.0, "2": 1.0}, MOUTH) < 0.1
    for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 25, 26):
        assert moved({str(unit): 1.0}, slice(None)) > 0.15, unit


def test_a_side_is_the_subjects_own() -> None:
    # the subject's right is the picture's left
    right_half, left_half = (slice(0, 125), slice(155, 280))
    assert moved({"R14": 1.0}, MOUTH, right_half) > 5 * moved({"R14": 1.0}, MOUTH, left_half)
    assert moved({"L2": 1.0}, BROWS, left_half) > 5 * moved({"L2": 1.0}, BROWS, right_half)


def test_a_pose_moves_the_whole_picture() -> None:
    person = invent_identity(0, 5)
    still, shifted = (
        draw_face(person, {"12": 0.5}),
        draw_face(person, {"12": 0.5}, pose=Pose(x=3.0, y=-2.0)),
    )
    assert still.shape == (340, 280, 3) and still.dtype == np.uint8
    np.testing.assert_array_equal(shifted[:-2, 3:], still[2:, :-3])


def test_an_interrupted_set_is_continued(drawn: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        dataset.draw(root, 4, 4, seed=3, workers=1, progress=stop)
    assert not (root / SHEET).exists()
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    partial = root / ".tmp-sub04-EP12_01f"
    partial.mkdir()
    (partial / "reg_img261.jpg").write_bytes(b"half")
    dataset.draw(root, 4, 4, seed=3, workers=1)
    assert contents(root) == contents(drawn)
    assert kept and all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_a_folder_of_something_else_is_refused(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        dataset.draw(tmp_path, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="seed 3"):
        dataset.draw(drawn, 4, 4, seed=4)
    with pytest.raises(UsageError, match="is a file"):
        dataset.draw(tmp_path / "thesis.txt", 1, 1)


def test_senseless_arguments_are_refused(tmp_path: Path) -> None:
    for arguments, message in [
        ({"subjects": 0}, "subjects must"),
        ({"subjects": 5, "clips": 4}, "clips must"),
        ({"balance": "fair"}, "balance must"),
        ({"workers": 0}, "workers must"),
    ]:
        with pytest.raises(UsageError, match=message):
            dataset.draw(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()
    with pytest.raises(UsageError, match="Action units must"):
        draw_face(invent_identity(0, 1), {"99": 1.0})
    with pytest.raises(UsageError, match="Action units must"):
        parse_drawn_units("6+smile")


def test_a_window_draws_the_same_pictures_as_the_whole_clips_and_fewer(tmp_path: Path):
    dataset.draw(tmp_path / "whole", 5, 8, seed=3, workers=1)
    cut = dataset.draw(tmp_path / "cut", 5, 8, seed=3, workers=1, window=1)
    whole, few = contents(tmp_path / "whole"), contents(tmp_path / "cut")
    pictures = [name for name in few if name.endswith(".jpg")]
    assert len(pictures) == cut.images == 8 * 3
    assert all(few[name] == whole[name] for name in pictures)


def test_the_sheet_of_cut_clips_names_their_first_and_last_frames(tmp_path: Path):
    dataset.draw(tmp_path, 3, 6, workers=1, window=2)
    for subject, clip, _, onset, _, offset, *_ in rows(tmp_path)[1:]:
        files = (tmp_path / f"Cropped/sub{subject}/{clip}").iterdir()
        numbers = sorted(int(path.stem.removeprefix("reg_img")) for path in files)
        assert numbers == list(range(int(str(onset)), int(str(offset)) + 1))


def test_a_window_below_zero_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="window must be 0 or more, not -1"):
        dataset.draw(tmp_path, 3, 6, workers=1, window=-1)
