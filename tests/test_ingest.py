"""Readers: each quirk of a real folder is met once here, in small trees written for it."""

import csv
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.errors import DataError, MienError, SpecError, UsageError
from mien.faces import COLUMNS, EMOTIONS, PHASES, Faces
from mien.findings import Finding
from mien.ingest.emotions import find_emotion
from mien.ingest.folders import find_last_number, walk
from mien.ingest.readers import READERS
from mien.ingest.run import compute_fingerprint, list_folder, read_faces, run_ingest, scan_folder
from mien.ingest.specs import IngestSpec
from mien.ingest.toy import dataset
from mien.pictures import decode
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

HEAD = [
    "Subject",
    "Filename",
    None,
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    None,
    "Action Units",
    "Estimated Emotion",
]
SHEET = "CASME2-coding-20140508.xlsx"
Row = Sequence[Any]


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(
        path
    )
    return path


def row(
    subject: object,
    clip: str,
    onset: object,
    apex: object,
    offset: object,
    emotion: str,
    units: object = "4",
) -> Row:
    return [subject, clip, None, onset, apex, offset, None, units, emotion]


def write_sheet(path: Path, rows: Sequence[Row], head: Row = HEAD, above: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [["notes"]] * above + [head, *rows]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                ["" if cell is None else cell for cell in line] for line in lines
            )
        return path
    book = openpyxl.Workbook()
    for line in lines:
        book.worksheets[0].append(list(line))
    book.save(path)
    return path


def frames(tree: Path, clip: str, numbers: Sequence[int], pattern: str = "reg_img{}.jpg") -> None:
    for number in numbers:
        draw(tree / clip / pattern.format(number), number)


ROWS = [
    row("01", "EP02_01f", 8, 10, 12, "happiness", "6+12"),
    row("02", "EP01_11", 98, 100, 102, "others", 4),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "CASME2"
    frames(root / "Cropped", "sub01/EP02_01f", range(8, 13))
    frames(root / "Cropped", "sub02/EP01_11", range(98, 103))
    write_sheet(root / SHEET, ROWS)
    return root


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    root = tmp_path / "Some Faces!"
    for place, name in enumerate(
        ["happy/s1_a_1.png", "happy/s2_a_2.png", "sad/s1_b_1.png", "sad/deep/s3_c_10.png"]
    ):
        draw(root / name, place)
    return root


def spec_for(root: Path, reader: str, **fields: Any) -> IngestSpec:
    draft = read_spec(
        IngestSpec,
        {"reader": reader, "dataset": "set", "fingerprint": "", "size": 8, **fields},
        "test",
    )
    return draft.model_copy(update={"fingerprint": compute_fingerprint(scan_folder(draft, root))})


def read(root: Path, reader: str = "casme2", **fields: Any) -> Faces:
    spec = spec_for(root, reader, **fields)
    return read_faces(list_folder(spec, root), spec, workers=1).faces


def found(root: Path, reader: str = "casme2", **fields: Any) -> dict[str, Finding]:
    findings = scan_folder(spec_for(root, reader, **fields), root).findings
    return {finding.kind: finding for finding in findings}


# CASME II


def test_a_small_tree_has_known_rows(tree: Path):
    faces = read(tree)
    index = faces.index
    assert index["key"].tolist() == [f"set/sub01/EP02_01f/{k}" for k in range(8, 13)] + [
        f"set/sub02/EP01_11/{k}" for k in range(98, 103)
    ]
    assert index["frame"].tolist() == [
        8,
        9,
        10,
        11,
        12,
        98,
        99,
        100,
        101,
        102,
    ]  # not 10, 11, 12, 8, 9
    assert index["phase"].tolist() == ["onset", "rise", "apex", "fall", "offset"] * 2
    assert faces.subjects == ("set:sub01", "set:sub02")
    assert index["clip"].unique().tolist() == ["set:sub01/EP02_01f", "set:sub02/EP01_11"]
    assert index["emotion"].tolist() == ["happiness"] * 5 + ["others"] * 5
    assert index["action_units"].unique().tolist() == ["6+12", "4"]
    assert set(index["source"]) == {"real"} and set(index["licence"]) == {
        READERS["casme2"].READER.licence
    }
    whole = decode(tree / "Cropped/sub01/EP02_01f/reg_img10.jpg", 8)
    assert np.array_equal(faces.images[2], whole)
    assert set(found(tree)) == {"tree", "sheet"}


@pytest.mark.parametrize(
    "layout",
    [
        "Cropped",
        "cropped",
        "Cropped-updated/Cropped",
        "CASME2_RAW_selected",
        "CASME2_RAW_selected/CASME2_RAW_selected",
        "CASME2/Cropped",
        ".",
    ],
)
def test_the_tree_is_found_in_each_layout(tmp_path: Path, layout: str):
    root = tmp_path / "release"
    frames(root / layout, "sub01/EP02_01f", range(8, 13), "img{}.jpg")
    write_sheet(root / SHEET, ROWS[:1])
    assert len(read(root)) == 5
    assert found(root)["tree"].where == layout
    assert ("not cropped" in found(root)) == ("RAW" in layout)
    # pointed at the frames themselves
    straight = scan_folder(spec_for(root / layout, "casme2"), root / layout)
    assert straight.rows.equals(scan_folder(spec_for(root, "casme2"), root).rows)
    assert spec_for(root / layout, "casme2") == spec_for(root, "casme2")


def test_cropped_faces_are_preferred_and_it_is_said(tree: Path):
    frames(tree / "CASME2_RAW_selected", "sub01/EP02_01f", range(8, 13), "img{}.jpg")
    assert found(tree)["tree"] == Finding(
        "note",
        "tree",
        "Cropped",
        "the frames were read from this folder, and not from CASME2_RAW_selected",
    )


@pytest.mark.parametrize("subject", ["01", "1", 1, 1.0, " 01 ", "sub01", "s1"])
def test_a_subject_is_one_person_whatever_the_type_of_the_cell(tree: Path, subject: object):
    write_sheet(tree / SHEET, [row(subject, "EP02_01f", 8, 10, 12, "happiness")])
    assert read(tree).subjects == ("set:sub01",)


@pytest.mark.parametrize(
    "numbers", [(8, 10, 12), (8.0, 10.0, 12.0), ("8", "10", "12"), (" 8 ", "10.0", 12)]
)
@pytest.mark.parametrize(
    "name", [SHEET, "CASME2-coding-20190701.csv", "CASME2-coding-updated.xlsx"]
)
def test_numbers_may_be_text_and_sheets_may_be_csv(
    tree: Path, numbers: tuple[object, object, object], name: str
):
    (tree / SHEET).unlink()
    write_sheet(
        tree / name,
        [row("01", " EP02_01f ", *numbers, " Happiness ")],
        [f" {c} " if c else c for c in HEAD],
    )
    assert read(tree).index["phase"].tolist() == ["onset", "rise", "apex", "fall", "offset"]
    assert set(read(tree).index["raw_label"]) == {"Happiness"}


def test_notes_above_the_header_and_blank_rows_do_not_matter(tree: Path):
    write_sheet(tree / SHEET, [*ROWS, [None] * 9, [None] * 9], above=3)
    assert len(read(tree)) == 10 and set(found(tree)) == {"tree", "sheet"}


def test_a_sheet_written_in_china_can_be_read(tree: Path):
    (tree / SHEET).unlink()
    text = (
        "Subject;Filename;OnsetFrame;ApexFrame;OffsetFrame;备注;Estimated Emotion\r\n"
        "01;EP02_01f;8;10;12;备注;sadness"
    )
    (tree / "CASME2-coding-20190701.csv").write_bytes(text.encode("gb18030"))
    assert set(read(tree).index["emotion"]) == {"sadness"}


def test_the_newest_sheet_is_read_unless_another_is_named(tree: Path):
    write_sheet(tree / "CASME2-coding-20190701.csv", [row("01", "EP02_01f", 8, 10, 12, "sadness")])
    write_sheet(tree / "CASME2-coding-updated.xlsx", [row("01", "EP02_01f", 8, 10, 12, "fear")])
    (tree / f"~${SHEET}").write_bytes(b"a lock of Excel's")
    assert set(read(tree).index["emotion"]) == {"sadness"}
    assert found(tree)["sheet"].what.endswith(f"and not from {SHEET}, CASME2-coding-updated.xlsx")
    assert set(read(tree, sheet="casme2-coding-updated.xlsx").index["emotion"]) == {"fear"}
    with pytest.raises(DataError, match=r"must hold the coding sheet other\.xlsx, and has only"):
        read(tree, sheet="other.xlsx")


def test_equal_clip_names_of_two_subjects_stay_apart(tree: Path):
    frames(tree / "Cropped", "sub02/EP02_01f", range(8, 13))
    write_sheet(tree / SHEET, [ROWS[0], row("02", "EP02_01f", 8, 9, 12, "disgust")])
    faces = read(tree)
    assert faces.index.groupby("clip")["emotion"].unique().map(list).to_dict() == {
        "set:sub01/EP02_01f": ["happiness"],
        "set:sub02/EP02_01f": ["disgust"],
    }


@pytest.mark.parametrize(
    "clip, values, numbers, expected",
    [
        (("04", "EP12_01f"), (21, "/", 31), range(21, 32), "no apex: .* apex is now 26"),
        (("05", "EP09_05f"), (21, 21, 31), range(21, 32), "apex at onset: .* apex is now 26"),
        (("16", "EP01_08"), (90, 93, 110), range(90, 97), "files end early: .* offset is now 96"),
    ],
)
def test_known_bad_rows_are_patched_and_it_is_said(
    tree: Path,
    clip: tuple[str, str],
    values: tuple[object, object, object],
    numbers: range,
    expected: str,
):
    frames(tree / "Cropped", f"sub{clip[0]}/{clip[1]}", numbers)
    write_sheet(tree / SHEET, [*ROWS, row(*clip, *values, "disgust")])
    findings = found(tree)
    assert set(findings) == {"tree", "sheet", "patched"}
    assert re.search(expected, findings["patched"].what)
    index = read(tree).index
    phases = [
        phase
        for phase, name in zip(index["phase"], index["clip"], strict=True)
        if name.endswith(clip[1])
    ]
    apex = 93 if clip[0] == "16" else 26
    assert (phases[0], phases[apex - numbers[0]], phases[-1]) == ("onset", "apex", "offset")
    assert phases.count("apex") == 1


def test_a_clip_that_ends_elsewhere_is_not_patched_either(tree: Path):
    frames(tree / "Cropped", "sub16/EP01_08", range(90, 96))
    write_sheet(tree / SHEET, [*ROWS, row("16", "EP01_08", 90, 93, 110, "others")])
    assert found(tree)["missing frames"].what == "15 of 21 frames have no file: 96-110"
    assert read(tree).index["phase"].tolist()[-3:] == ["apex", "fall", "fall"]


def test_a_row_that_is_right_is_not_patched(tree: Path):
    frames(tree / "Cropped", "sub04/EP12_01f", range(21, 32))
    frames(tree / "Cropped", "sub16/EP01_08", range(90, 111))
    rows = [
        row("04", "EP12_01f", 21, 24, 31, "others"),
        row("16", "EP01_08", 90, 93, 110, "others"),
    ]
    write_sheet(tree / SHEET, [*ROWS, *rows])
    assert set(found(tree)) == {"tree", "sheet"}
    index = read(tree).index
    assert index["frame"][index["phase"] == "apex"].tolist() == [10, 100, 24, 93]


@pytest.mark.parametrize(
    "apex, kind", [("/", "no apex"), (None, "no apex"), (50, "apex outside"), (8, "apex at onset")]
)
def test_an_apex_that_is_not_known_is_not_guessed(tree: Path, apex: object, kind: str):
    write_sheet(tree / SHEET, [row("01", "EP02_01f", 8, apex, 12, "happiness")])
    assert found(tree)[kind].where == "sub01/EP02_01f"
    phases = read(tree).index["phase"].tolist()
    assert phases == (
        ["apex", "fall", "fall", "fall", "offset"] if apex == 8 else ["onset", "", "", "", "offset"]
    )


def test_missing_and_extra_frames_are_reported(tree: Path):
    (tree / "Cropped/sub01/EP02_01f/reg_img9.jpg").unlink()
    frames(tree / "Cropped", "sub01/EP02_01f", [1, 2, 3, 40])
    findings = found(tree)
    assert findings["missing frames"].what == "1 of 5 frames has no file: 9"
    assert "1-3, 40 (4 in all)" in findings["extra frames"].what
    assert read(tree).index["frame"].tolist()[:4] == [8, 10, 11, 12]


def test_clips_without_a_partner_are_reported_and_left_out(tree: Path):
    frames(tree / "Cropped", "sub02/EP09_09", range(3))
    write_sheet(tree / SHEET, [*ROWS, row("26", "EP01_01", 1, 2, 3, "disgust")])
    findings = found(tree)
    assert findings["clip not on disk"].where == "sub26/EP01_01"
    assert findings["clip not in the sheet"].where == "sub02/EP09_09"
    assert len(read(tree)) == 10


def test_rows_that_cannot_be_used_are_reported_with_their_number(tree: Path):
    bad = [
        row("01", "EP03_01", 20, 15, 10, "fear"),
        row("?", "EP03_02", 1, 2, 3, "fear"),
        row("01", "EP04", 1, 2, 3, ""),
    ]
    write_sheet(tree / SHEET, [*ROWS, *bad])
    told = [
        f for f in scan_folder(spec_for(tree, "casme2"), tree).findings if f.kind == "unusable row"
    ]
    assert [finding.where.rsplit(" ", 1)[1] for finding in told] == ["4", "5", "6"]


def test_a_row_that_stands_twice_counts_once_and_a_contradiction_not_at_all(tree: Path):
    write_sheet(tree / SHEET, [*ROWS, ROWS[0], row("2", "EP01_11", 98, 100, 102, "disgust")])
    findings = found(tree)
    assert (
        findings["repeated row"].where == "sub01/EP02_01f"
        and findings["contradiction"].where == "sub02/EP01_11"
    )
    assert len(read(tree)) == 5


def test_foreign_misplaced_and_repeated_files_are_reported(tree: Path):
    for name in ("sub01/Desktop - Shortcut.lnk", "sub01/EP02_01f/Thumbs.db", "sub01/.DS_Store"):
        (tree / "Cropped" / name).write_bytes(b"x")
    draw(tree / "Cropped/sub01/stray7.jpg")
    draw(tree / "Cropped/sub01/EP02_01f/img_10.png")
    told = [
        f for f in scan_folder(spec_for(tree, "casme2"), tree).findings if f.kind == "foreign files"
    ]
    assert [finding.where for finding in told] == [
        "sub01/EP02_01f/Thumbs.db",
        "sub01/Desktop - Shortcut.lnk",
    ]
    findings = found(tree)
    assert findings["misplaced image"].where == "sub01/stray7.jpg"
    assert (
        findings["repeated frame"].where == "sub01/EP02_01f/img_10.png"
    )  # others are called reg_img
    assert len(read(tree)) == 10


@pytest.mark.parametrize(
    "column", ["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Estimated Emotion"]
)
def test_a_missing_column_is_named(tree: Path, column: str):
    write_sheet(tree / SHEET, ROWS, ["" if name == column else name for name in HEAD])
    with pytest.raises(
        DataError,
        match=rf"{SHEET} must have the columns .*; {column.lower().replace(' ', '')} is missing",
    ):
        read(tree)


def test_a_sheet_without_action_units_will_do(tree: Path):
    write_sheet(tree / SHEET, ROWS, [None if name == "Action Units" else name for name in HEAD])
    assert set(read(tree).index["action_units"]) == {""}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no sheet at all"])
def test_a_damaged_sheet_is_one_message(tree: Path, content: bytes):
    (tree / SHEET).write_bytes(content)
    with pytest.raises(DataError, match=rf"{SHEET} must be a sheet that can be read"):
        read(tree)


def test_a_folder_that_is_no_casme2_says_what_it_must_hold(tmp_path: Path, tree: Path):
    (tmp_path / "other/photos").mkdir(parents=True)
    with pytest.raises(
        DataError,
        match=r"must hold Cropped/subNN/EPxx_yy/reg_imgN\.jpg .*; found: photos.*mien toy",
    ):
        read(tmp_path / "other")
    with pytest.raises(
        DataError, match="must be a folder that holds a dataset, and does not exist"
    ):
        read(tmp_path / "nowhere")
    (tree / SHEET).unlink()
    with pytest.raises(DataError, match=r"must hold the coding sheet .* and has none"):
        read(tree)
    write_sheet(tree / SHEET, [row("09", "EP01_01", 1, 2, 3, "fear")])
    with pytest.raises(
        DataError, match="must name the same clips and frames, and have none in common"
    ):
        read(tree)


def test_an_unknown_emotion_is_named_with_the_nearest_and_can_be_mapped(tree: Path):
    write_sheet(tree / SHEET, [ROWS[0], row("02", "EP01_11", 98, 100, 102, "Sur-prise")])
    with pytest.raises(
        DataError,
        match=(
            r"Sur-prise is not; found: Sur-prise, happiness\. Did you mean 'surprise'.*--map "
            r"Sur-prise="
        ),
    ):
        read(tree)
    faces = read(tree, map={"sur-prise": "surprise", "Happiness": "positive"})
    assert set(faces.index["emotion"]) == {"surprise", "positive"}
    assert set(faces.index["raw_label"]) == {"Sur-prise", "happiness"}


def test_subjects_that_must_not_be_published_are_named(tree: Path):
    frames(tree / "Cropped", "sub12/EP01_01", range(1, 4))
    write_sheet(tree / SHEET, [*ROWS, row("12", "EP01_01", 1, 2, 3, "disgust")])
    assert found(tree)["not to be published"].where == "sub12"
    assert "not to be published" not in found(tree, licence="mine")
    (tree / "readme.txt").write_text("Drawn faces, in the public domain (CC0 1.0)")
    assert "not to be published" not in found(tree)
    assert set(read(tree).index["licence"]) == {"CC0 1.0"}


def test_drawn_faces_in_its_layout_are_read(tmp_path: Path, store: Store):
    drawn = dataset.draw(tmp_path / "toy", subjects=2, clips=2, seed=1, workers=1)
    made = run_ingest(
        "casme2", tmp_path / "toy", store, name="drawn", size=16, alias="drawn", workers=2
    )
    faces = Faces.load(made.path)
    assert len(faces) == drawn.images and faces.subjects == ("drawn:sub01", "drawn:sub02")
    assert set(faces.index["licence"]) == {"CC0 1.0"} and set(faces.index["phase"]) <= {*PHASES, ""}
    assert {"tree": 1, "sheet": 1, "foreign files": 1}.items() <= made.read_json("summary.json")[
        "findings"
    ].items()


# Folders of classes


def test_class_folders_have_known_rows(classes: Path):
    faces = read(classes, "folder", subject_pattern=r"(s\d)_", clip_pattern=r"s\d_(?P<clip>[a-z])_")
    index = faces.index
    names = ["happy/s1_a_1.png", "happy/s2_a_2.png", "sad/deep/s3_c_10.png", "sad/s1_b_1.png"]
    assert index["key"].tolist() == [f"set/{name}" for name in names]
    assert index["emotion"].tolist() == ["happiness", "happiness", "sadness", "sadness"]
    assert index["raw_label"].tolist() == ["happy", "happy", "sad", "sad"]
    assert index["subject"].tolist() == ["set:s1", "set:s2", "set:s3", "set:s1"]
    assert index["clip"].tolist() == ["set:s1/a", "set:s2/a", "set:s3/c", "set:s1/b"]
    assert index["frame"].tolist() == [1, 2, 10, 1]
    assert set(index["licence"]) == {"unknown"}
    assert "no subjects" not in found(classes, "folder", subject_pattern=r"(s\d)_")


def test_without_a_pattern_subjects_are_unknown_and_it_is_said(classes: Path):
    faces = read(classes, "folder")
    assert (
        faces.subjects == ()
        and set(faces.index["phase"]) == {"still"}
        and set(faces.index["frame"]) == {-1}
    )
    assert "no result can be subject-independent" in found(classes, "folder")["no subjects"].what


def test_split_folders_stand_above_classes_and_keys_stay_unique(tmp_path: Path):
    for name in ("train/anger/1.png", "test/anger/1.png", "test/anger/1.jpg", "Val/fear/1.png"):
        draw(tmp_path / "set" / name)
    faces = read(tmp_path / "set", "folder")
    assert sorted(faces.index["key"]) == [
        "set/Val/fear/1.png",
        "set/test/anger/1.jpg",
        "set/test/anger/1.png",
        "set/train/anger/1.png",
    ]
    assert sorted(faces.index["emotion"]) == ["anger", "anger", "anger", "fear"]
    assert found(tmp_path / "set", "folder")["split folders"].where == "Val, test, train"


def test_metadata_gives_the_same_faces_as_class_folders(classes: Path, tmp_path: Path):
    by_folder = read(classes, "folder", subject_pattern=r"(s\d)_")
    lines = [f"{path},{path.split('/')[0]},{path.rsplit('/')[-1][:2]}" for path in walk(classes)[0]]
    (classes / "metadata.csv").write_text(
        "\ufefffile_name, Expression ,SUBJECT\r" + "\r".join(reversed(lines)) + "\r\r"
    )
    by_table = read(classes, "folder")
    assert np.array_equal(by_folder.images, by_table.images) and by_folder.index.equals(
        by_table.index
    )
    assert found(classes, "folder") == {}


def test_columns_may_have_other_names(classes: Path):
    text = "image,mood,who,seq,t\nhappy/s1_a_1.png,joy,x,1,7\n.\\sad\\s1_b_1.png,sad,y,1,8.0\n"
    (classes / "metadata.csv").write_text(text)
    columns = {
        "label_column": "Mood",
        "subject_column": "who",
        "clip_column": "seq",
        "frame_column": "t",
    }
    index = read(classes, "folder", **columns).index
    assert index["subject"].tolist() == ["set:x", "set:y"] and index["clip"].tolist() == [
        "set:x/1",
        "set:y/1",
    ]
    assert index["frame"].tolist() == [7, 8] and index["emotion"].tolist() == [
        "happiness",
        "sadness",
    ]
    assert found(classes, "folder", **columns)["file without row"].what.endswith("(2 in all)")
    with pytest.raises(DataError, match=r"must have a column whom; it has .*Did you mean 'who'"):
        read(classes, "folder", **{**columns, "subject_column": "whom"})
    with pytest.raises(
        DataError, match="must have a column expression or emotion or label; it has"
    ):
        read(classes, "folder")


def test_rows_and_files_that_do_not_match_are_reported(classes: Path):
    rows = [
        "happy/s1_a_1.png,happy",
        "happy/s1_a_1.png,happy",
        "happy/s2_a_2.png,sad",
        "happy/s2_a_2.png,fear",
    ]
    rows += ["sad/s1_b_1.png,", "gone.png,sad", "sad/deep/s3_c_10.png,sad"]
    (classes / "metadata.csv").write_text("file_name,label\n" + "\n".join(rows))
    draw(classes / "extra.png")
    findings = found(classes, "folder")
    named = {
        kind: findings[kind].what.split(": ")[1].split(" ")[0]
        for kind in findings
        if kind != "no subjects"
    }
    assert named == {
        "row without file": "gone.png",
        "row without label": "sad/s1_b_1.png",
        "contradiction": "happy/s2_a_2.png",
        "repeated row": "happy/s1_a_1.png",
        "file without row": "extra.png",
    }
    assert read(classes, "folder").index["key"].tolist() == [
        "set/happy/s1_a_1.png",
        "set/sad/deep/s3_c_10.png",
    ]


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", ""]
)
def test_a_row_that_leads_out_of_the_folder_is_refused(classes: Path, name: str):
    draw(classes.parent / "out.png")
    (classes / "metadata.csv").write_text(
        f'file_name,label\nhappy/s1_a_1.png,happy\n"{name}",sad\n'
    )
    with pytest.raises(
        DataError, match=r"metadata\.csv, row 3: a file name must lead to a file inside the folder"
    ):
        read(classes, "folder")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b'file_name,label\n"open', b"file_name,label\na,b,c\n"]
)
def test_a_damaged_table_is_one_message(classes: Path, content: bytes):
    (classes / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"metadata\.csv must"):
        read(classes, "folder")


def test_links_out_of_the_folder_are_not_followed(classes: Path, tmp_path: Path):
    outside = draw(tmp_path / "outside/secret.png")
    (classes / "happy/link.png").symlink_to(outside)
    (classes / "happy/loop.png").symlink_to("loop.png")
    (classes / "sad/more").symlink_to(outside.parent)
    (classes / "sad/inside.png").symlink_to(classes / "happy/s1_a_1.png")
    assert found(classes, "folder")["links"].where == "happy/link.png, happy/loop.png, sad/more"
    assert len(read(classes, "folder")) == 5


def test_hidden_foreign_nameless_and_stray_files_are_passed_over(classes: Path):
    for name in (
        "happy/.hidden.png",
        ".git/a.png",
        "happy/Thumbs.db",
        "sad/Thumbs.db",
        "sad/LICENCE",
    ):
        (classes / name).parent.mkdir(exist_ok=True)
        (classes / name).write_bytes(b"x")
    draw(classes / "stray.png")
    (classes / "surprise").mkdir()
    os.rename(draw(classes / "happy/b.png"), os.fsencode(classes) + b"/happy/\xff.png")  # noqa: PTH104
    findings = found(classes, "folder")
    assert (
        findings["no class"].where == "stray.png" and findings["empty folder"].where == "surprise"
    )
    assert findings["unprintable names"].where == "happy/\\udcff.png"
    told = [
        f
        for f in scan_folder(spec_for(classes, "folder"), classes).findings
        if f.kind == "foreign files"
    ]
    assert [(f.where, f.what[-1]) for f in told] == [
        ("happy/Thumbs.db, sad/Thumbs.db", "2"),
        ("sad/LICENCE", "1"),
    ]
    assert len(read(classes, "folder")) == 4


def test_unknown_classes_are_one_message(classes: Path):
    draw(classes / "hapiness/1.png")
    draw(classes / "dogs/1.png")
    with pytest.raises(
        DataError, match=r"dogs, hapiness are not; found: dogs, hapiness, happy, sad\."
    ) as error:
        read(classes, "folder")
    assert "--map dogs=EMOTION" in str(error.value)
    faces = read(classes, "folder", map={"dogs": "others", "hapiness": "happiness"})
    assert faces.classes == ("happiness", "others", "sadness")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"subject_pattern": "s[0-9"}, "must be a regular expression, and is not"),
        ({"subject_pattern": "s[0-9]"}, "must have a group"),
        ({"map": {"happy": "hapiness"}}, "Did you mean 'happiness'"),
        (
            {"sheet": "a.xlsx"},
            "the reader folder takes subject_pattern, .* and does not take sheet",
        ),
        ({"subject_pattern": "(a)", "subject_column": "a"}, "from a pattern or from a column"),
        ({"reader": "foldr"}, "there is no reader 'foldr'. Did you mean 'folder'"),
        ({"dataset": "a b"}, "letters, digits and '-'"),
        ({"size": 4}, "size: "),
        ({"colour": "gray"}, "colour: "),
        ({"colr": "grey"}, "Did you mean 'colour'"),
    ],
)
def test_wrong_options_are_refused_before_the_folder_is_read(
    tmp_path: Path, fields: dict[str, Any], message: str
):
    with pytest.raises(SpecError, match=message):
        spec_for(tmp_path / "nowhere", **{"reader": "folder", **fields})


def test_options_that_find_nothing_are_refused(classes: Path):
    with pytest.raises(
        DataError,
        match=r"pattern 'q\(\.\)' must find the clip .* none of 4, such as 'happy/s1_a_1\.png'",
    ):
        read(classes, "folder", clip_pattern="q(.)")
    with pytest.raises(
        DataError,
        match="--map must name labels of the dataset, and joyful does not occur; found: happy, sad",
    ):
        read(classes, "folder", map={"joyful": "happiness"})
    with pytest.raises(
        DataError,
        match=r"subject_column names a column of metadata\.csv, and the folder has no such",
    ):
        read(classes, "folder", subject_column="who")
    assert (
        found(classes, "folder", subject_pattern="(s[12])")["no subject"].where
        == "sad/deep/s3_c_10.png"
    )
    mixed = found(classes, "folder", clip_pattern="(s[0-9])")["clip of several classes"]
    assert mixed.where == "s1"


def test_an_empty_folder_says_what_it_must_hold(tmp_path: Path):
    (tmp_path / "set/anger").mkdir(parents=True)
    with pytest.raises(DataError, match=r"must hold images that have a class .*; found nothing"):
        read(tmp_path / "set", "folder")
    (tmp_path / "set/anger/a.heic").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"found 1 file \.heic"):
        read(tmp_path / "set", "folder")


def test_unequal_labels_of_equal_pictures_are_reported(classes: Path, store: Store):
    shutil.copy(classes / "happy/s1_a_1.png", classes / "sad/s9_z_1.png")
    made = run_ingest("folder", classes, store, subject_pattern=r"(s\d)_")
    kinds = made.read_json("summary.json")["findings"]
    assert kinds == {"equal images, unequal subjects": 1, "equal images, unequal emotions": 1}


# What all readers share


def test_unreadable_images_stop_the_work_unless_they_may_be_skipped(classes: Path, store: Store):
    bad = classes / "happy/s2_a_2.png"
    bad.write_bytes(bad.read_bytes()[:100])
    (classes / "sad/empty_1.png").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"happy/s2_a_2\.png must be an image .* There are 2 such images of 5.*--skip-unread",
    ):
        run_ingest("folder", classes, store)
    assert store.list_names() == []
    made = run_ingest("folder", classes, store, skip_unreadable=True)
    assert len(Faces.load(made.path)) == 3
    assert made.read_json("summary.json")["findings"]["unreadable image"] == 2
    assert str(classes) not in made.find_file("findings.csv").read_text()
    for path in classes.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="5 such images of 5"):
        run_ingest("folder", classes, store, skip_unreadable=True)


def test_the_fingerprint_knows_content_and_not_place_or_date(tree: Path, tmp_path: Path):
    spec = spec_for(tree, "casme2")
    moved = tmp_path / "elsewhere"
    shutil.copytree(tree, moved)
    os.utime(moved / SHEET, (1, 1))
    (moved / "Cropped/sub01/Thumbs.db").write_bytes(b"x")
    assert spec_for(moved, "casme2") == spec
    image = moved / "Cropped/sub01/EP02_01f/reg_img9.jpg"
    content = bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(bytes(content))
    assert spec_for(moved, "casme2") != spec


@pytest.mark.parametrize("change", ["sheet", "rename", "remove"])
def test_each_change_changes_the_fingerprint(tree: Path, change: str):
    before = spec_for(tree, "casme2").fingerprint
    image = tree / "Cropped/sub01/EP02_01f/reg_img9.jpg"
    if change == "sheet":
        write_sheet(tree / SHEET, [ROWS[0], row("02", "EP01_11", 98, 101, 102, "others")])
    elif change == "rename":
        image.rename(image.with_name("img9.jpg"))
    else:
        image.unlink()
    assert spec_for(tree, "casme2").fingerprint != before


def test_faces_are_equal_whatever_the_number_of_workers(tree: Path, tmp_path: Path):
    made = [
        run_ingest("casme2", tree, Store(tmp_path / str(n)), workers=n, size=8) for n in (1, 2, 7)
    ]
    assert len({run.name for run in made}) == len({run.content for run in made}) == 1
    with pytest.raises(UsageError, match="workers must be 1 or more, not 0"):
        run_ingest("casme2", tree, Store(tmp_path / "0"), workers=0)


def test_a_run_holds_what_it_says(tree: Path, store: Store, capfd: pytest.CaptureFixture[str]):
    made: Run = run_ingest("casme2", tree, store, alias="mine", colour="rgb", filter="box")
    assert made.stage == "ingest" and store.resolve("mine") == made.name
    faces = Faces.load(made.path)
    assert faces.size == (3, 48, 48) and list(faces.index.columns) == list(COLUMNS)
    assert faces.subjects == ("casme2:sub01", "casme2:sub02")
    summary = made.read_json("summary.json")
    assert summary["dataset"] == "casme2" and "Yan" in summary["citation"]
    assert summary["counts"][-1] == {"class": "total", "images": 10, "clips": 2, "subjects": 2}
    assert made.find_file("findings.csv").read_text().splitlines()[0] == "severity,kind,where,what"
    assert made.find_file("sheet.png").exists()
    assert "note: Cropped: the frames were read from this folder" in capfd.readouterr().err
    (tree / "Cropped/sub01/EP02_01f/reg_img9.jpg").unlink()
    assert run_ingest("casme2", tree, store, colour="rgb", filter="box").name != made.name


def test_a_folder_without_a_given_name_lends_its_own(classes: Path, store: Store):
    made = run_ingest("folder", classes, store)
    assert set(Faces.load(made.path).index["dataset"]) == {"some-faces"}


def test_the_digest_is_a_golden_value():
    assert (
        IngestSpec(reader="folder", dataset="wild", fingerprint="0" * 64).name
        == "ingest-70be087a5f6a"
    )


@pytest.mark.parametrize(
    "label, emotion",
    [
        (" Happy ", "happiness"),
        ("angry", "anger"),
        ("SAD", "sadness"),
        ("surprised", "surprise"),
        ("Other", "others"),
    ]
    + [(name, name) for name in EMOTIONS]
    + [("neutrality", "neutral"), ("dog", None), ("", None)],
)
def test_labels_are_folded(label: str, emotion: str | None):
    assert find_emotion(label, {}) == emotion


@pytest.mark.parametrize(
    "name, number", [("reg_img46.jpg", 46), ("a/0012_007.png", 7), ("a1/b.png", -1), ("9.2.png", 2)]
)
def test_the_last_number_of_the_stem_is_the_frame(name: str, number: int):
    assert find_last_number(name) == number


Damage = Callable[[Path, int], object]
DAMAGES: list[Damage] = [
    lambda path, value: path.write_bytes(path.read_bytes()[:value]),
    lambda path, value: path.write_bytes(bytes([value % 256]) + path.read_bytes()[1:]),
    lambda path, value: path.unlink(),
    lambda path, value: path.rename(path.with_name(f"{value} {path.name}")),
    lambda path, value: path.rename(path.with_suffix(".txt")),
    lambda path, value: path.write_bytes(b""),
]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 10), st.sampled_from(range(len(DAMAGES))), st.integers(0, 700)),
        max_size=5,
    )
)
def test_a_damaged_tree_gives_faces_or_one_message(
    tree: Path, tmp_path: Path, damages: list[tuple[int, int, int]]
):
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tree, copy)
    for place, kind, value in damages:
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        if files:
            DAMAGES[kind](files[place % len(files)], value)
    try:
        spec = spec_for(copy, "casme2")
        listing = list_folder(spec, copy)
        faces = read_faces(listing, spec, workers=1, skip_unreadable=True).faces
    except MienError as error:
        assert error.exit_code == 2 and str(tmp_path) in str(error)
    else:
        labels = {"set:sub01": "happiness", "set:sub02": "others"}
        assert 0 < len(faces) <= 10
        assert all(
            labels[s] == e
            for s, e in zip(faces.index["subject"], faces.index["emotion"], strict=True)
        )
