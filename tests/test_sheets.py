"""Coding sheets as people's programs leave them: pages, hidden things, dates, copies, frames,
millions of rows.
"""

import datetime
import re
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from openpyxl.worksheet.worksheet import Worksheet
from trees import casme_squared, draw, jaffe, write_sheet

from mien.errors import DataError, MienError
from mien.findings import Finding
from mien.ingest import accounting, readers
from mien.ingest.copied_files import find_copies
from mien.ingest.decoding import read_listing
from mien.ingest.reader import Listing
from mien.ingest.readers import casme2
from mien.ingest.run import choose_reader, scan_folder
from mien.ingest.specs import IngestSpec
from mien.runs.spec import read_spec

NAME = "CASME2-coding-20190701.xlsx"
HEAD = [
    "Subject",
    "Filename",
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    "Action Units",
    "Estimated Emotion",
]
ROWS = [
    [3, "EP04_02", 21, 23, 25, "4", "disgust"],
    [7, "EP19_01f", 60, 62, 63, "6+12", "happiness"],
    [11, "EP02_03", 5, 6, 9, "1+2", "surprise"],
]
TRUE = {"sub03/EP04_02": "disgust", "sub07/EP19_01f": "happiness", "sub11/EP02_03": "surprise"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three clips of three people, and no sheet."""
    for subject, clip, onset, _, offset, *_ in ROWS:
        for number in range(int(str(onset)), int(str(offset)) + 1):
            draw(tmp_path / f"release/Cropped/sub{subject:02d}/{clip}/reg_img{number}.jpg")
    return tmp_path / "release"


def save(
    root: Path,
    pages: dict[str, Sequence[Sequence[Any]]],
    change: Callable[[Any], Any] | None = None,
) -> Path:
    path = write_sheet(root / NAME, {title: [HEAD, *rows] for title, rows in pages.items()})
    if change:
        book = openpyxl.load_workbook(path)
        change(book)
        book.save(path)
    return path


def scan(root: Path, reader: str = "casme2", **options: Any) -> Listing:
    spec = read_spec(
        IngestSpec,
        {"reader": reader, "dataset": "set", "fingerprint": "", "size": 8, **options},
        "test",
    )
    return scan_folder(spec, root)


def labels(listing: Listing) -> dict[str, str]:
    return dict(zip(listing.rows["clip"], listing.rows["emotion"], strict=True))


def found(listing: Listing) -> dict[str, Finding]:
    return {finding.kind: finding for finding in listing.findings}


def other(label: str) -> list[list[Any]]:
    return [[*row[:6], label] for row in ROWS]


# Pages


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_a_hidden_page_gives_no_labels_wherever_it_stands(root: Path, state: str):
    def hide(book: Any) -> None:
        book["draft"].sheet_state = state

    save(root, {"draft": other("sadness"), "2019": ROWS}, hide)
    listing = scan(root)
    assert labels(listing) == TRUE and "draft" in found(listing)["hidden page"].where
    assert set(labels(scan(root, sheet=f"{NAME}#draft")).values()) == {"sadness"}
    save(root, {"draft": ROWS}, lambda book: (book.create_sheet("notes"), hide(book)))
    with pytest.raises(DataError, match="on a hidden one: draft"):
        scan(root)


def test_two_pages_that_contradict_each_other_are_refused_until_one_is_named(root: Path):
    newer = [[*ROWS[0][:6], "fear"], [*ROWS[1][:4], 64, *ROWS[1][5:]], ROWS[2]]
    save(root, {"first coder": ROWS, "second coder": newer})
    with pytest.raises(
        DataError, match=r"1 have another label, 1 other frames .*0 only in the second.*--sheet"
    ):
        scan(root)
    assert labels(scan(root, sheet=f"{NAME}#First Coder")) == TRUE
    assert labels(scan(root, sheet=f"{NAME}#second coder"))["sub03/EP04_02"] == "fear"
    with pytest.raises(
        DataError, match="must have the page 'third', and has first coder, second coder"
    ):
        scan(root, sheet=f"{NAME}#third")


def test_a_page_that_says_less_of_the_same_is_told(root: Path):
    save(root, {"part": ROWS[:1], "all": ROWS})
    listing = scan(root)
    assert labels(listing) == TRUE and "lacks 2 of its clips" in found(listing)["second page"].what
    save(root, {"part": ROWS[:1], "rest": ROWS[1:]})
    with pytest.raises(DataError, match="only in the first and 1 only in the second"):
        scan(root)


def test_the_codes_of_casme_squared_are_on_the_page_that_is_shown(tmp_path: Path):
    old = [[*row[:6], "positive", *row[7:]] for row in casme_squared.CODES]
    pages: dict[str, Sequence[Sequence[Any]]] = {"old": old, "CASFEcode_final": casme_squared.CODES}
    pages |= {"naming rule1": casme_squared.SUBJECTS, "naming rule2": casme_squared.VIDEOS}
    tree = casme_squared.write(tmp_path)
    path = write_sheet(tmp_path / "CAS(ME)^2code_final.xlsx", pages)
    with pytest.raises(DataError, match="two with the same columns that differ"):
        scan(tmp_path, "casme_squared")
    book = openpyxl.load_workbook(path)
    book["old"].sheet_state = "hidden"
    book.save(path)
    assert labels(scan(tmp_path, "casme_squared")) == {
        true.clip: true.emotion for true in tree.images.values()
    }


# Cells


def test_hidden_rows_and_columns_and_filters_are_told(root: Path):
    def hide(book: Any) -> None:
        page: Worksheet = book.worksheets[0]
        page.row_dimensions[3].hidden = True
        page.column_dimensions["D"].hidden = True

    save(root, {"a": ROWS}, hide)
    listing = scan(root)
    assert labels(listing) == TRUE
    assert found(listing)["hidden rows"].where.endswith("row 3") and found(listing)[
        "hidden column"
    ].where.endswith("D")


def test_of_two_columns_of_one_name_the_one_that_is_shown_is_read_and_two_shown_ones_are_refused(
    root: Path,
):
    rows = [[*row, "sadness"] for row in ROWS]
    write_sheet(root / NAME, {"a": [[*HEAD, "Estimated Emotion"], *rows]})
    with pytest.raises(
        DataError,
        match=r"one column Estimated Emotion, and has 2 \(G and H\), which differ in 3 rows",
    ):
        scan(root)
    book = openpyxl.load_workbook(root / NAME)
    book.worksheets[0].column_dimensions["G"].hidden = True
    book.save(root / NAME)
    assert set(labels(scan(root)).values()) == {"sadness"}


def test_a_merged_cell_counts_for_each_of_its_rows(root: Path):
    rows = [[5, "EP01_01", 1, 2, 3, "4", "fear"], [None, "EP02_02", 4, 5, 6, "4", None]]
    for row in rows:
        for number in range(int(str(row[2])), int(str(row[4])) + 1):
            draw(root / f"Cropped/sub05/{row[1]}/reg_img{number}.jpg")

    def merge(book: Any) -> None:
        book.worksheets[0].merge_cells("A2:A3")
        book.worksheets[0].merge_cells("G2:G3")

    save(root, {"a": [*rows, *ROWS]}, merge)
    listing = scan(root)
    assert labels(listing) == TRUE | {"sub05/EP01_01": "fear", "sub05/EP02_02": "fear"}
    assert found(listing)["merged cells"].where.endswith("A2:A3, G2:G3")


def test_formulas_whose_values_are_not_stored_are_named(root: Path):
    save(root, {"a": [ROWS[0], [*ROWS[1][:3], "=C3+2", *ROWS[1][4:]], ROWS[2]]})
    with pytest.raises(DataError, match="1 hold formulas whose values are not stored: D3"):
        scan(root)


def test_dates_in_place_of_names_and_units_are_told(root: Path):
    day = datetime.datetime(2024, 3, 2)
    rows = [[3, day, *ROWS[0][2:]], [*ROWS[1][:5], day, ROWS[1][6]], ["2-Mar", *ROWS[2][1:]]]
    save(root, {"a": rows})
    listing = scan(root)
    assert labels(listing) == {"sub07/EP19_01f": "happiness"} and set(
        listing.rows["action_units"]
    ) == {""}
    said = [each.what for each in listing.findings if each.kind == "unusable row"]
    assert (
        "its clip is a date (2024-03-02" in said[0] and "its subject is a date (2-Mar)" in said[1]
    )
    assert found(listing)["date for action units"].where == "sub07/EP19_01f"


def test_headers_that_are_repeated_and_notes_below_are_no_clips(root: Path):
    notes = [HEAD, [], ["200 frames a second"], [None, None, None, None, None, None, "n = 3"]]
    save(root, {"a": [ROWS[0], *notes, *ROWS[1:], ["Total", 3]]})
    listing = scan(root)
    assert labels(listing) == TRUE
    told = [each.kind for each in listing.findings if each.severity == "note"]
    assert told.count("note in the sheet") == 2 and told.count("repeated header") == 1
    assert found(listing)["unusable row"].where.endswith("row 9")


@pytest.mark.parametrize("subject", ["7.0", 7.0, "\uff10\uff17", "007", "\u200b07", "\xa07 "])
def test_numbers_are_numbers_in_any_dress(root: Path, subject: object):
    save(root, {"a": [[subject, *[f"{c}.0" if isinstance(c, int) else c for c in ROWS[1][1:]]]]})
    assert labels(scan(root)) == {"sub07/EP19_01f": "happiness"}


@pytest.mark.parametrize("form", ["utf-16", "utf-8-sig", "tsv", "sep", "notes", "renamed"])
def test_other_forms_of_tables_are_read(root: Path, form: str):
    lines = [[str(cell) for cell in row] for row in (HEAD, *ROWS)]
    mark = {"utf-16": "\t", "tsv": "\t", "sep": ";", "notes": ";"}.get(form, ",")
    text = "\r\n".join(mark.join(line) for line in lines)
    text = {"sep": "sep=;\r\n", "notes": "coded by A, B, C, D, E, F, G, H\r\n"}.get(form, "") + text
    if form == "renamed":  # a workbook that was called .csv
        save(root, {"a": ROWS}).rename(root / "CASME2-coding.csv")
    elif form == "notes":
        (root / "CASME2-coding.csv").write_text("coded by A\r\n" + text.split("\r\n", 1)[1])
    else:
        code = form if form.startswith("utf") else "utf-8"
        (root / f"CASME2-coding.{'tsv' if form == 'tsv' else 'csv'}").write_text(
            text, encoding=code
        )
    assert labels(scan(root)) == TRUE


def test_a_sheet_in_a_form_that_is_not_read_is_named(root: Path):
    (root / "CASME2-coding-20140508.ods").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"has CASME2-coding-20140508\.ods; save it as \.xlsx"):
        scan(root)


def test_what_a_system_leaves_is_never_the_sheet_and_a_copy_is_not_preferred(root: Path):
    save(root, {"a": ROWS})
    for name in (f"~${NAME}", f"._{NAME}", ".DS_Store"):
        (root / name).write_bytes(b"\0" * 165)
    write_sheet(root / "CASME2-coding-20190701 (1).xlsx", {"a": [HEAD, *other("fear")]})
    write_sheet(root / "CASME2-coding-20190701 - Copy.xlsx", {"a": [HEAD, *other("fear")]})
    write_sheet(root / "my own.xlsx", {"a": [HEAD, *other("fear")]})
    listing = scan(root)
    assert (
        labels(listing) == TRUE
        and "not from CASME2-coding-20190701" in found(listing)["sheet"].what
    )
    assert set(labels(scan(root, sheet="my own.xlsx")).values()) == {"fear"}


@pytest.mark.parametrize(
    "last", ['<row r="1048576"/>', '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>']
)
def test_a_sparse_workbook_is_read_as_fast_as_its_cells(root: Path, last: str):
    path = save(root, {"a": ROWS})
    with zipfile.ZipFile(path) as packed:
        parts = {each.filename: packed.read(each) for each in packed.infolist()}
    page = parts["xl/worksheets/sheet1.xml"].decode()
    page = re.sub('<dimension ref="[^"]*"', '<dimension ref="A1:XFD1048576"', page).replace(
        "</sheetData>", f"{last}</sheetData>"
    )
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in parts.items():
            packed.writestr(name, page if name == "xl/worksheets/sheet1.xml" else content)
    begin = time.monotonic()
    assert labels(scan(root)) == TRUE
    assert time.monotonic() - begin < 10


def test_a_sheet_of_too_many_rows_is_refused_at_once(root: Path):
    line = ",".join(map(str, ROWS[0]))
    (root / "CASME2-coding.csv").write_text(",".join(HEAD) + f"\n{line}" * 60_000)
    begin = time.monotonic()
    with pytest.raises(DataError, match="at most 50,000 rows"):
        scan(root)
    assert time.monotonic() - begin < 10


# Frames


@pytest.mark.parametrize(
    "before, behind, kept",
    [(0, 0, [21, 22, 23, 24, 25]), (3, 2, None), (0, 4, None), (6, 40, None)],
)
def test_files_counted_anew_are_believed_only_if_they_fit(
    root: Path, before: int, behind: int, kept: list[int] | None
):
    folder = root / "Cropped/sub03/EP04_02"
    for path in sorted(folder.iterdir()):
        path.unlink()
    for number in range(1, before + 5 + behind + 1):
        draw(folder / f"{number}.jpg")
    save(root, {"a": ROWS})
    listing = scan(root)
    assert [
        int(each) for each in listing.rows["frame"][listing.rows["clip"] == "sub03/EP04_02"]
    ] == (kept or [])
    assert {"sub07/EP19_01f", "sub11/EP02_03"} <= set(
        listing.rows["clip"]
    )  # those that were not counted anew
    if kept is None:
        assert found(listing)["unknown numbers"].where == "sub03/EP04_02"
        there = scan(root, numbers="sheet").rows
        own = [number for number in range(21, 26) if number <= before + 5 + behind]
        assert there["frame"][there["clip"] == "sub03/EP04_02"].tolist() == own


def test_whole_recordings_have_the_numbers_of_the_sheet(root: Path):
    folder = root / "Cropped/sub03/EP04_02"
    for number in range(1, 60):
        draw(folder / f"reg_img{number}.jpg")
    (root / "Cropped").rename(root / "CASME2-RAW")
    save(root, {"a": ROWS})
    assert scan(root).rows["frame"].tolist()[:5] == [21, 22, 23, 24, 25]


@pytest.mark.parametrize(
    "name",
    [
        "reg_img22 copy 3.jpg",
        "reg_img22 copy.jpg",
        "reg_img22 - Kopie (2).jpg",
        "Copie de reg_img22.jpg",
        "reg_img22 4.jpg",
        "reg_img22(1).jpg",
        "reg_img22 [2].jpg",
        "Copy (4) of reg_img22.jpg",
        "reg_img22 - 副本.jpg",
        "reg_img22-copy-5.jpg",
    ],
)
def test_copies_of_frames_are_named_and_are_no_frames(root: Path, name: str):
    save(root, {"a": ROWS})
    before = scan(root).rows
    draw(root / "Cropped/sub03/EP04_02" / name)
    listing = scan(root)
    assert listing.rows.equals(before) and found(listing)["copy"].pictures == (
        f"sub03/EP04_02/{name}",
    )


def test_files_that_were_renamed_at_once_are_no_copies():
    assert not find_copies(f"a/P12 ({number}).jpg" for number in range(1, 9))
    assert not find_copies(f"a/img ({number}).jpg" for number in range(3))
    assert (
        find_copies(["a/P12 (1).jpg", "a/P13.jpg"])
        == {"a/P12 (1).jpg"}
        == find_copies(["a/P12 (1).jpg", "b/P12 (2).jpg"]) & {"a/P12 (1).jpg"}
    )


def test_a_clip_within_another_keeps_all_its_frames_and_both_their_apexes(tmp_path: Path):
    inner = [2, "happy3_9", 98, 99, 101, "4", "negative", casme_squared.MICRO, "disgust"]
    tree = casme_squared.write(tmp_path)
    pages = {"a": [*casme_squared.CODES, inner], "naming rule1": casme_squared.SUBJECTS}
    write_sheet(
        tmp_path / "CAS(ME)^2code_final.xlsx", {**pages, "naming rule2": casme_squared.VIDEOS}
    )
    listing = scan(tmp_path, "casme_squared")
    rows = listing.rows
    assert len(rows) == len(tree.images) + 4 and rows["key"].is_unique
    apex = rows[rows["phase"] == "apex"].set_index("clip")["frame"].to_dict()
    assert apex["s40/happy3_1"] == 100 and apex["s40/happy3_9"] == 99
    spec = read_spec(
        IngestSpec,
        {"reader": "casme_squared", "dataset": "set", "fingerprint": "", "size": 8},
        "test",
    )
    faces, _ = read_listing(listing, spec, workers=1, skip_unreadable=False)
    assert faces.index["clip"].nunique() == rows["clip"].nunique()


# Sums


def test_left_out_frames_are_ranges_that_stand_for_each(root: Path):
    for number in [*range(26, 31), 40, 41]:
        draw(root / f"Cropped/sub03/EP04_02/reg_img{number}.jpg")
    save(root, {"a": ROWS})
    listing = scan(root)
    ledgers = accounting.settle(listing, readers.READERS["casme2"].READER, None, listing.findings)
    table = accounting.make_left_out_table(ledgers, listing)
    lines = table[table["reason"] == "extra frames"]
    folder = "Cropped/sub03/EP04_02/reg_img"
    assert lines["where"].tolist() == [f"{folder}40.jpg", f"{folder}41.jpg", f"{folder}[26-30].jpg"]
    assert lines["count"].tolist() == [1, 1, 5] and isinstance(table, pd.DataFrame)


def test_numbers_with_zeros_in_front_stay_apart_in_ranges():
    names = [
        "a/007.png",
        "a/008.png",
        "a/009.png",
        "a/9.png",
        "a/10.png",
        "a/11.png",
        "a/011.png",
        "b/1.jp2",
        "v.avi#4",
    ]
    assert accounting.compress_names(names) == [
        ("a/011.png", 1),
        ("a/[007-009].png", 3),
        ("a/[9-11].png", 3),
        ("b/1.jp2", 1),
        ("v.avi#4", 1),
    ]


def test_a_reader_that_forgets_a_picture_or_a_row_is_found_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    save(root, {"a": ROWS})
    complete = casme2.scan

    def forgetful(folder: Path, spec: IngestSpec) -> Listing:
        listing = complete(folder, spec)
        rows = listing.rows[listing.rows["frame"] != 23].reset_index(drop=True)
        return replace(listing, rows=rows, annotation_rows={**listing.annotation_rows, "a row": ""})

    monkeypatch.setattr(casme2, "scan", forgetful)
    silent = [each for each in scan(root).findings if each.kind == accounting.NO_REASON]
    assert [each.where for each in silent] == ["Cropped/sub03/EP04_02/reg_img23.jpg", "a row"]
    assert {each.severity for each in silent} == {"warning"}


def test_jaffe_with_two_suffixes_keeps_its_people(tmp_path: Path):
    jaffe.write(tmp_path / "jaffe")
    for path in sorted((tmp_path / "jaffe").rglob("*.tiff")):
        path.rename(path.with_name(f"{path.name}.jpg"))
    assert choose_reader(tmp_path / "jaffe")[0] == "jaffe"
    assert scan(tmp_path / "jaffe", "jaffe").rows["subject"].nunique() > 2


def test_labels_of_a_mirror_come_from_its_tables_and_not_from_folders(tmp_path: Path):
    for place in range(1, 5):
        draw(tmp_path / f"DATASET/train/{place}/train_{place:05d}_aligned.jpg")
    lines = [
        "image,label",
        *(f"train_{place:05d}_aligned.jpg,{8 - place}" for place in range(1, 5)),
    ]
    (tmp_path / "train_labels.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    listing = scan(tmp_path, "rafdb")
    assert listing.rows["raw_label"].tolist() == ["7", "6", "5", "4"]
    assert found(listing)["wrong folder"].what.endswith(": 3") and "unusable row" not in found(
        listing
    )


def test_a_table_of_pixels_with_semicolons_says_so(tmp_path: Path):
    (tmp_path / "fer2013.csv").write_text("emotion;pixels;Usage\n0;1 2 3;Training\n")
    with pytest.raises(MienError, match="must have commas between its columns, and has semicolons"):
        scan(tmp_path, "fer2013")


def test_each_misspelt_label_has_its_nearest(root: Path):
    save(root, {"a": [[*ROWS[0][:6], "disgsut"], [*ROWS[1][:6], "hapiness"], ROWS[2]]})
    with pytest.raises(
        DataError, match=r"disgsut: Did you mean 'disgust'\? hapiness: Did you mean 'happiness'\?"
    ):
        scan(root)


@pytest.mark.parametrize("reader, name", [("jaffe", "KL.SU2.163.tiff"), ("kdef", "BM11SUS.JPG")])
def test_a_folder_that_is_called_as_another_emotion_is_told(tmp_path: Path, reader: str, name: str):
    draw(tmp_path / f"sad/{name}")
    draw(tmp_path / f"surprised/{name.replace('2.163', '3.164').replace('11', '12')}")
    listing = scan(tmp_path, reader)
    assert set(listing.rows["emotion"]) == {"surprise"}
    assert found(listing)["folder of another label"].where == f"sad/{name}"


@pytest.mark.parametrize(
    "name", ["reg_img22 - Copy (24).jpg", "reg_img22 24.jpg", "reg_img22 copy 24.jpg"]
)
def test_a_copy_does_not_stand_in_for_a_frame_that_is_not_there(root: Path, name: str):
    save(root, {"a": ROWS})
    (root / "Cropped/sub03/EP04_02/reg_img24.jpg").rename(root / "Cropped/sub03/EP04_02" / name)
    listing = scan(root)
    assert listing.rows["frame"].tolist()[:4] == [21, 22, 23, 25] and "copy" in found(listing)


def test_clips_that_are_left_out_for_their_numbers_are_accounted_for(root: Path):
    save(root, {"a": ROWS})
    for number in range(1, 31):
        draw(root / f"Cropped/sub03/EP04_02/reg_img{number}.jpg")
    listing = scan(root)
    assert len(
        found(listing)["unknown numbers"].pictures
    ) == 30 and accounting.NO_REASON not in found(listing)


def test_votes_on_pictures_that_are_not_there_are_counted(tmp_path: Path):
    draw(tmp_path / "FER2013Test/fer0000002.png")
    head = (
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    )
    lines = [f"PrivateTest,fer{number:07d}.png,9,0,0,0,0,0,0,0,0,0" for number in range(50)]
    (tmp_path / "fer2013new.csv").write_text("\n".join([head, *lines]))
    assert found(scan(tmp_path, "ferplus"))["row without file"].what.endswith(": 49")


def test_images_of_affectnet_that_lie_elsewhere_are_named(tmp_path: Path):
    for name in ("images/3.jpg", "images/3 (1).jpg", "4.jpg"):
        draw(tmp_path / "val_set" / name)
    (tmp_path / "val_set/annotations").mkdir()
    np.save(tmp_path / "val_set/annotations/3_exp.npy", np.array("2"))
    listing = scan(tmp_path, "affectnet")
    assert len(listing.rows) == 1 and found(listing)["misplaced image"].what.endswith(": 2")
    assert accounting.NO_REASON not in found(listing)
