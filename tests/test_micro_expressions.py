"""What is peculiar to one set of micro-expressions or another, beside what the contract shows of
all.
"""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from trees import (
    Truth,
    casme,
    casme2,
    casme_cubed,
    casme_squared,
    draw,
    fourdme,
    mmew,
    samm,
    smic,
    write_sheet,
)

from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.findings import Finding
from mien.ingest.reader import Listing
from mien.ingest.run import run_ingest, scan_folder
from mien.ingest.specs import IngestSpec
from mien.runs.spec import read_spec
from mien.runs.store import Store


def scan(name: str, root: Path, **options: Any) -> Listing:
    given = {"reader": name, "dataset": "set", "fingerprint": "", **options}
    return scan_folder(read_spec(IngestSpec, given, "test"), root)


def found(listing: Listing) -> dict[str, Finding]:
    return {finding.kind: finding for finding in listing.findings}


def clips(listing: Listing) -> dict[str, str]:
    """Each clip's emotion."""
    return dict(zip(listing.rows["clip"], listing.rows["emotion"], strict=True))


def frames(listing: Listing, clip: str) -> list[int]:
    return listing.rows["frame"][listing.rows["clip"] == clip].tolist()


def phases(listing: Listing, clip: str) -> list[str]:
    return listing.rows["phase"][listing.rows["clip"] == clip].tolist()


# CASME


def test_casme_takes_the_first_apex_and_both_ways_of_numbering(tmp_path: Path):
    casme.write(tmp_path)
    listing = scan("casme", tmp_path)
    assert phases(listing, "sub01/EP01_5") == ["onset", "rise", "apex", "fall", "offset"]
    assert frames(listing, "sub19/EP12_3") == [7, 8, 9, 10, 11]
    assert set(listing.rows["action_units"]) == {"L14+12", "4", "1+2"}
    assert (
        found(listing)["tree"].what
        == "the frames were read from this folder, and not from CASME_raw_selected"
    )


# CAS(ME)^2


@pytest.mark.parametrize(
    "part, names", [("macro", {"disgust1_3", "happy3_2"}), ("all", {"disgust1_1", "disgust1_3"})]
)
def test_casme_squared_has_macro_expressions_too(tmp_path: Path, part: str, names: set[str]):
    casme_squared.write(tmp_path)
    draw(tmp_path / "rawpic/s40/40_0503laugh/img1.jpg")
    read = {clip.split("/")[1] for clip in clips(scan("casme_squared", tmp_path, part=part))}
    assert names <= read and (part == "all" or read <= names)


def test_casme_squared_can_be_labelled_by_what_people_said_of_themselves(tmp_path: Path):
    casme_squared.write(tmp_path)
    told = clips(scan("casme_squared", tmp_path, part="micro", label_column="self-report"))
    assert told == {
        "s15/disgust1_1": "disgust",
        "s15/disgust1_2": "disgust",
        "s40/happy3_1": "happiness",
    }
    with pytest.raises(DataError, match="label_column must be one of category, self-report"):
        scan("casme_squared", tmp_path, label_column="mood")


def test_casme_squared_is_read_from_a_folder_for_each_expression_too(tmp_path: Path):
    tree = casme_squared.write(tmp_path)
    whole = scan("casme_squared", tmp_path)
    for path, true in tree.images.items():
        target = tmp_path / "cropped" / true.clip / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / path, target)
    cropped = scan("casme_squared", tmp_path)
    assert found(cropped)["tree"].where == "cropped" and "not cropped" not in found(cropped)
    assert cropped.rows.drop(columns="path").equals(whole.rows.drop(columns="path"))


def test_casme_squared_pages_are_known_by_name_or_by_place(tmp_path: Path):
    casme_squared.write(tmp_path)
    sheet = tmp_path / "CAS(ME)^2code_final.xlsx"
    whole = scan("casme_squared", tmp_path)
    pages = {
        "CASMEcode_final": casme_squared.CODES,
        "a": casme_squared.SUBJECTS,
        "b": casme_squared.VIDEOS,
    }
    write_sheet(sheet, pages)
    assert scan("casme_squared", tmp_path).rows.equals(whole.rows)
    numbers = [[101, "disgust1"], [503, "happy3"]]  # Excel took the codes for numbers
    write_sheet(
        sheet,
        {"x": casme_squared.CODES, "naming rule2": numbers, "naming rule1": casme_squared.SUBJECTS},
    )
    assert scan("casme_squared", tmp_path).rows.equals(whole.rows)
    write_sheet(sheet, {"CASFEcode_final": casme_squared.CODES})
    with pytest.raises(DataError, match=r"must have three pages, .* no subjects can be read"):
        scan("casme_squared", tmp_path)


def test_frames_that_two_expressions_claim_stand_in_both(tmp_path: Path):
    casme_squared.write(tmp_path)
    codes = [
        *casme_squared.CODES,
        [1, "disgust1_4", 5, 6, 7, "4", "surprise", "micro-expression", "surprise"],
    ]
    pages = {
        "CASFEcode_final": codes,
        "naming rule1": casme_squared.SUBJECTS,
        "naming rule2": casme_squared.VIDEOS,
    }
    write_sheet(tmp_path / "CAS(ME)^2code_final.xlsx", pages)
    listing = scan("casme_squared", tmp_path)
    assert found(listing)["overlapping clips"].where == "s15/disgust1_1, s15/disgust1_4"
    assert frames(listing, "s15/disgust1_1") == [3, 4, 5] and frames(listing, "s15/disgust1_4") == [
        5,
        6,
        7,
    ]
    assert (
        "1, of 2 clips; each clip gets a copy, 1 of them with different"
        in found(listing)["overlapping clips"].what
    )


# CAS(ME)^3


def test_casme_cubed_keeps_two_expressions_of_one_video_apart(tmp_path: Path):
    casme_cubed.write(tmp_path)
    listing = scan("casme_cubed", tmp_path)
    assert clips(listing) == {
        "spNO.1/a_9": "disgust",
        "spNO.1/a_20": "surprise",
        "spNO.2/a_9": "happiness",
        "spNO.216/d_3647": "anger",
    }
    assert "onset is now 2647" in found(listing)["patched"].what
    assert phases(listing, "spNO.216/d_3647") == ["onset", "rise", "apex", "offset"]


def test_casme_cubed_is_read_from_clips_too(tmp_path: Path):
    casme_cubed.write(tmp_path)
    whole = scan("casme_cubed", tmp_path)
    for path, clip, frame in zip(
        whole.list_paths(), whole.rows["clip"], whole.rows["frame"], strict=True
    ):
        for kind in ("frame", "depth"):
            target = (
                tmp_path / "clips/Part_A_ME_clip" / kind / clip.replace("/", "_") / f"{frame}.jpg"
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.rmtree(tmp_path / "part_A")
    listing = scan("casme_cubed", tmp_path)
    assert found(listing)["tree"].where == "clips/Part_A_ME_clip/frame"
    assert listing.rows.drop(columns="path").equals(whole.rows.drop(columns="path"))


def test_casme_cubed_has_macro_expressions_in_a_sheet_of_their_own(tmp_path: Path):
    casme_cubed.write(tmp_path)
    head = ["sub", "seq", "onset", "apex", "offset", "emotion"]
    name = "annotation/cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx"
    write_sheet(tmp_path / name, {"Sheet1": [head, ["spNO.1", "a", 8, 9, 10, "happy"]]})
    listing = scan("casme_cubed", tmp_path, part="macro")
    assert clips(listing) == {"spNO.1/a_8": "happiness"} and listing.part == "macro"
    assert "no action units" in found(listing)
    assert scan("casme_cubed", tmp_path).part == "micro"
    with pytest.raises(
        SpecError,
        match="the reader casme_cubed has the parts micro, macro, and does not have 'depth'",
    ):
        scan("casme_cubed", tmp_path, part="depth")


# SAMM


def test_samm_reads_what_stands_below_the_notes(tmp_path: Path):
    samm.write(tmp_path)
    listing = scan("samm", tmp_path)
    assert frames(listing, "006/006_1_2") == [9998, 9999, 10000, 10001]
    assert phases(listing, "037/037_3_1") == ["onset", "", "offset"]  # an apex of -1 is none
    assert set(listing.rows["action_units"]) == {"AU12A or AU14A", "R12 + R15", "A1B+A2C"}


def test_a_clip_of_another_person_than_the_row_says_is_no_clip(tmp_path: Path):
    samm.write(tmp_path)
    row = [11, "006_1_2", 3, 9998, 10000, 10001, 4, "Micro - 1/2", "4", "Fear", 5, None]
    write_sheet(
        tmp_path / "SAMM_Micro_FACS_Codes_v3.xlsx",
        {"a": [samm.HEAD, row, *[[*r] for r in ROWS_OF_SAMM]]},
    )
    listing = scan("samm", tmp_path)
    assert "must be of one person" in found(listing)["unusable row"].what
    assert clips(listing) == {"011/011_1_1": "others"}
    assert found(listing)["sheet"].where.endswith("_v3.xlsx")


ROWS_OF_SAMM = [[11, "011_1_1", 3, 98, 100, 101, 4, "Micro - 1/2", "4", "Others", 7, None]]


# SMIC


def test_smic_has_cut_clips_of_three_cameras_and_longer_videos(tmp_path: Path):
    smic.write(tmp_path)
    whole = scan("smic", tmp_path)
    assert whole.part == "HS" and found(whole)["part"].what.endswith(
        "not NIR, HS-E; --part selects another"
    )
    assert clips(scan("smic", tmp_path, part="NIR")) == {"s11/s11_po_01": "positive"}
    with pytest.raises(DataError, match="must hold the part VIS of SMIC, and holds HS, NIR, HS-E"):
        scan("smic", tmp_path, part="VIS")


def test_smic_extended_has_a_second_expression_in_some_videos(tmp_path: Path):
    truth = smic.write_long(tmp_path)
    listing = scan("smic", tmp_path)
    paths = [path.relative_to(tmp_path.resolve()).as_posix() for path in listing.list_paths()]
    rows = zip(*(listing.rows[name] for name in ("subject", "clip", "emotion")), strict=True)
    assert {
        path: Truth(*row) for path, row in zip(paths, rows, strict=True)
    } == truth and listing.part == "HS-E"
    assert phases(listing, "s03/s3_sur_01-2") == ["onset", "", "offset"]
    inside = scan("smic", tmp_path / "HS_long/SMIC-HS-E")
    assert inside.rows.equals(listing.rows)


@pytest.mark.parametrize("below", [".", "SMIC_all_cropped", "SMIC_all_cropped/HS"])
def test_smic_is_the_same_wherever_one_points(tmp_path: Path, below: str):
    smic.write(tmp_path)
    assert scan("smic", tmp_path / below, part="HS").rows.equals(scan("smic", tmp_path).rows)


def test_smic_clips_whose_name_and_folder_disagree_are_left_out(tmp_path: Path):
    smic.write(tmp_path)
    base = tmp_path / "SMIC_all_cropped/HS/s1/micro"
    for folder in ("positive/s1_ne_07", "negative/s2_ne_01", "negative/notes"):
        draw(base / folder / "reg_image000001.bmp")
    listing = scan("smic", tmp_path)
    assert found(listing)["contradiction"].what.endswith("left out: 3") and len(clips(listing)) == 3


# MMEW


def test_mmew_says_where_folder_and_sheet_differ(tmp_path: Path):
    mmew.write(tmp_path)
    listing = scan("mmew", tmp_path)
    told = found(listing)["folder of another label"]
    assert (told.severity, told.where) == (
        "note",
        "S03/S03-02-001",
    ) and "the sheet others" in told.what
    rows = [
        [*clip[:6], "disgust" if clip[1] == "S12-01-002" else clip[6], None] for clip in mmew.CLIPS
    ]
    write_sheet(tmp_path / "MMEW_Micro_Exp.xlsx", {"Sheet1": [mmew.HEAD, *rows]})
    again = [
        each for each in scan("mmew", tmp_path).findings if each.kind == "folder of another label"
    ]
    assert [each.severity for each in again] == ["warning", "note"]


def test_mmew_with_the_folder_of_the_person_is_the_same(tmp_path: Path):
    tree = mmew.write(tmp_path)
    whole = scan("mmew", tmp_path)
    for path, true in tree.images.items():
        target = (
            tmp_path
            / "Micro_Expression"
            / true.subject
            / Path(path).relative_to("Micro_Expression")
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).rename(target)
    assert scan("mmew", tmp_path).rows.drop(columns="path").equals(whole.rows.drop(columns="path"))


def test_mmew_photographs_of_macro_expressions_are_stills(tmp_path: Path):
    mmew.write(tmp_path)
    draw(tmp_path / "Macro_Expression/S04/anger/S04-02-011.jpg")
    rows = scan("mmew", tmp_path, part="macro").rows
    assert rows["subject"].tolist() == ["S03", "S04"] and rows["emotion"].tolist() == [
        "happiness",
        "anger",
    ]
    assert set(rows["clip"]) == {""} and set(rows["phase"]) == {"still"}


# 4DME


def test_fourdme_leaves_several_emotions_out_unless_they_are_mapped(tmp_path: Path):
    fourdme.write(tmp_path)
    listing = scan("fourdme", tmp_path)
    assert (
        "'Surprise+Positive' is not a single emotion; left out: 3 images"
        in found(listing)["no single emotion"].what
    )
    mapped = scan("fourdme", tmp_path, map={"surprise+positive": "surprise"})
    assert clips(mapped)["s01/1_b"] == "surprise"
    said = [each for each in listing.findings if each.kind == "unusable row"]
    assert [each.where.rsplit(" ", 1)[1] for each in said] == ["5", "6"]
    assert "the columns of 0 and 1 say negative" in said[0].what


# What they share


@pytest.mark.parametrize("first, clip", [(0, "003/003_1_1"), (1, "003/003_1_1")])
def test_files_that_a_release_counts_anew_get_the_numbers_of_the_sheet(
    tmp_path: Path, first: int, clip: str
):
    for number in range(first, first + 4):
        draw(tmp_path / f"003/003_1_1/003_{number:05d}.jpg")
    row = [3, "003_1_1", 3, 9998, 10000, 10001, 4, "Micro - 1/2", "4", "Fear", 5, None]
    write_sheet(tmp_path / "SAMM_Micro_FACS_Codes_v2.xlsx", {"a": [samm.HEAD, row]})
    listing = scan("samm", tmp_path)
    assert frames(listing, clip) == [9998, 9999, 10000, 10001]
    assert phases(listing, clip) == ["onset", "rise", "apex", "offset"]
    assert f"files are counted from {first}" in found(listing)["files counted anew"].what
    (tmp_path / f"003/003_1_1/003_{first:05d}.jpg").unlink()  # now nobody knows which is which
    with pytest.raises(DataError, match="have none in common"):
        scan("samm", tmp_path)


def test_a_run_keeps_how_labels_were_folded_and_the_units_of_each_clip(tmp_path: Path):
    samm.write(tmp_path / "SAMM")
    made = run_ingest("auto", tmp_path / "SAMM", Store(tmp_path / "store"), size=8)
    assert set(Faces.load(made.path).index["dataset"]) == {"samm"} and made.spec["reader"] == "samm"
    labels = pd.read_csv(made.find_file("labels.csv"))
    assert labels.to_dict("records")[1] == {
        "raw_label": "Other",
        "emotion": "others",
        "images": 4,
        "clips": 1,
    }
    units = pd.read_parquet(made.find_file("action_units.parquet"))
    assert units["clip"].unique().tolist() == [
        "samm:006/006_1_2",
        "samm:011/011_1_1",
        "samm:037/037_3_1",
    ]
    assert units["side"].tolist() == ["", "", "R", "R", "A", "A"] and units["unsure"].sum() == 2


def test_words_that_are_no_action_unit_are_reported(tmp_path: Path):
    fourdme.write(tmp_path)
    rows = [[*fourdme.ROWS[0][:6], "4+smirk", *fourdme.ROWS[0][7:]]]
    write_sheet(tmp_path / "4DME_Labelling_Micro_release v1.xlsx", {"a": [fourdme.HEAD, *rows]})
    listing = scan("fourdme", tmp_path)
    assert found(listing)["action units not understood"].what.endswith("smirk")
    assert set(listing.rows["action_units"]) == {"4+smirk"}


def test_a_sheet_that_unpacks_to_a_giant_is_refused(tmp_path: Path):
    casme.write(tmp_path)
    with (
        zipfile.ZipFile(
            tmp_path / "casme.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as book,
        book.open("xl/worksheets/sheet1.xml", "w") as page,
    ):
        for _ in range(201):
            page.write(bytes(1_000_000))
    assert (tmp_path / "casme.xlsx").stat().st_size < 2_000_000
    with pytest.raises(
        DataError, match=r"must have at most 200,000,000 bytes, and unpacked it has 201,000,000"
    ):
        scan("casme", tmp_path)


def test_a_folder_that_holds_two_sets_is_not_guessed(tmp_path: Path):
    samm.write(tmp_path / "a")
    mmew.write(tmp_path / "b")
    with pytest.raises(DataError) as error:
        run_ingest("auto", tmp_path, Store(tmp_path / "store"))
    assert "2 readers recognise it" in str(error.value) and str(error.value).endswith(
        "Name the reader to use"
    )
    assert "samm: a/SAMM/006/006_1_2/006_09998.jpg has the name of one of its frames" in str(
        error.value
    )
    assert "mmew: b/MMEW_Micro_Exp.xlsx" in str(error.value)
    run_ingest("auto", tmp_path / "b", Store(tmp_path / "store"))


def test_a_sheet_in_the_old_form_says_what_to_do(tmp_path: Path):
    casme_cubed.write(tmp_path)
    sheet = next((tmp_path / "annotation").iterdir())
    (sheet.parent / "cas(me)3_part_A_ME_label_JpgIndex_v1.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    assert found(scan("casme_cubed", tmp_path))["sheet"].where == sheet.name
    sheet.unlink()
    with pytest.raises(
        DataError,
        match=r"v1\.xls must be a sheet in \.xlsx or \.csv, and is in the old \.xls; open",
    ):
        scan("casme_cubed", tmp_path)


@pytest.mark.parametrize(
    "trees, expected",
    [
        (["CASME2-RAW", "CASME2_RAW_selected", "Cropped"], "Cropped"),
        (
            ["CASME2-RAW/CASME2-RAW", "CASME2_RAW_selected/CASME2_RAW_selected"],
            "CASME2_RAW_selected/CASME2_RAW_selected",
        ),
        (["CASME2-RAW", "faces"], "faces"),
    ],
)
def test_cropped_faces_are_read_before_selected_frames_and_those_before_recordings(
    tmp_path: Path, trees: list[str], expected: str
):
    for tree in trees:
        for frame in (1, 2, 3):
            draw(tmp_path / tree / f"sub01/EP01_01/img{frame}.jpg")
    row = ["01", "EP01_01", None, 1, 2, 3, None, "4", "others"]
    write_sheet(
        tmp_path / "CASME2-coding-20140508.xlsx",
        {"Sheet1": [[*casme2.HEAD, "Estimated Emotion"], row]},
    )
    assert found(scan("casme2", tmp_path))["tree"].where == expected


def test_a_second_download_of_a_frame_is_no_frame(tmp_path: Path):
    mmew.write(tmp_path)
    folder = tmp_path / "Micro_Expression/happiness/S12-01-002"
    (folder / "1.jpg").unlink()
    draw(folder / "3 (1).jpg")
    listing = scan("mmew", tmp_path)
    assert frames(listing, "S12/S12-01-002") == [2, 3]
    assert found(listing)["copy"].where.endswith("3 (1).jpg")
