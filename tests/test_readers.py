"""Readers of photographs and their sets: each quirk of a real release is met once here, in trees
drawn for it.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from trees import WRITERS, affectnet, ckplus, fer2013, ferplus, huggingface, portraits, rafdb

from mien.errors import DataError, MienError
from mien.faces import Faces
from mien.ingest.reader import Listing
from mien.ingest.readers.ferplus import NO_MAJORITY, find_majority
from mien.ingest.run import choose_reader, compute_fingerprint, list_folder, read_faces, scan_folder
from mien.ingest.specs import IngestSpec
from mien.pictures import decode
from mien.runs.spec import read_spec


def spec_for(name: str, **options: Any) -> IngestSpec:
    return read_spec(
        IngestSpec,
        {"reader": name, "dataset": "set", "fingerprint": "", "size": 16, **options},
        "test",
    )


def scan(name: str, root: Path, **options: Any) -> Listing:
    return scan_folder(spec_for(name, **options), root)


def read(name: str, root: Path, skip: bool = False, **options: Any) -> Faces:
    spec = spec_for(name, **options)
    spec = spec.model_copy(
        update={"fingerprint": compute_fingerprint(scan_folder(spec, root), workers=1)}
    )
    return read_faces(list_folder(spec, root), spec, workers=2, skip_unreadable=skip).faces


def kinds(listing: Listing) -> dict[str, str]:
    return {finding.kind: f"{finding.where}: {finding.what}" for finding in listing.findings}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tree for each reader, which no test may change."""
    return {
        name: write(tmp_path_factory.mktemp(name) / "release").root
        for name, write in WRITERS.items()
    }


@pytest.fixture
def copied(drawn: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a reader's tree that a test may change."""
    return lambda name: shutil.copytree(drawn[name], tmp_path / "copy")


# CK+


def test_ckplus_rises_from_neutral_to_an_apex_with_coded_units(drawn: dict[str, Path]):
    rows = scan("ckplus", drawn["ckplus"]).rows
    first = rows[rows["clip"] == "S010/004"]
    assert first["frame"].tolist() == [8, 9, 10, 11] and first["phase"].tolist() == [
        "onset",
        "rise",
        "rise",
        "apex",
    ]
    units = rows.groupby("clip")["action_units"].unique().map(list).to_dict()
    assert units == {"S005/001": ["9D+17C"], "S010/004": ["1+2+25E"], "S010/005": [""]}
    assert set(rows["raw_label"]) == {"3", "7", "2"}


def test_ckplus_sequences_without_an_emotion_are_counted(drawn: dict[str, Path]):
    told = kinds(scan("ckplus", drawn["ckplus"]))
    assert told["no emotion"].startswith(
        "S052/001, S130/013: sequences without an emotion, left out: 2"
    )


@pytest.mark.parametrize(
    "content", ["", "happy", "   8.0000000e+00\n", "3.5", "-1", "nan", "3 4", "\x00\xff"]
)
def test_ckplus_an_emotion_that_is_no_code_is_reported_and_not_guessed(
    copied: Callable[[str], Path], content: str
):
    root = copied("ckplus")
    (root / "Emotion/S005/001/S005_001_00000003_emotion.txt").write_text(content)
    listing = scan("ckplus", root)
    assert kinds(listing)["unusable emotion"].startswith("S005/001:") and "S005/001" not in set(
        listing.rows["clip"]
    )


def test_ckplus_reports_what_does_not_fit(copied: Callable[[str], Path]):
    root = copied("ckplus")
    emotions = root / "Emotion/S010/004"
    shutil.move(
        emotions / "S010_004_00000011_emotion.txt", emotions / "S010_004_00000009_emotion.txt"
    )
    (root / "FACS/S005/001/S005_001_00000003_facs.txt").write_text("9 4 17\n")
    (root / "Emotion/S999/001").mkdir(parents=True)
    (root / "Emotion/S999/001/S999_001_00000009_emotion.txt").write_text(ckplus.number(1))
    portraits.save(root / "cohn-kanade-images/S010/004/peak.png", 1, "surprise")
    shutil.copytree(root / "cohn-kanade-images/S010/004", root / "old/S010/004")
    listing = scan("ckplus", root)
    told = kinds(listing)
    assert told["peak is not last"].startswith("S010/004") and told["unusable FACS"].startswith(
        "S005/001"
    )
    assert told["no images"].startswith("S999/001") and told["misplaced image"].endswith(": 2")
    assert told["repeated image"].endswith(": 4")
    assert listing.rows["action_units"][listing.rows["clip"] == "S005/001"].unique().tolist() == [
        ""
    ]


def test_ckplus_a_changed_annotation_is_another_set(copied: Callable[[str], Path]):
    root = copied("ckplus")
    before = compute_fingerprint(scan("ckplus", root))
    (root / "FACS/S005/001/S005_001_00000003_facs.txt").write_text(
        ckplus.number(9) + ckplus.number(1)
    )
    assert compute_fingerprint(scan("ckplus", root)) != before


# CK+48


def test_ckplus48_takes_the_last_frame_for_the_apex(drawn: dict[str, Path]):
    rows = scan("ckplus48", drawn["ckplus48"]).rows
    assert rows["phase"].tolist() == ["rise", "rise", "apex"] * 4
    assert set(rows["subject"]) == {
        "S010",
        "S014",
        "S138",
    }  # four sequences: S010 shows two emotions


def test_ckplus48_a_sequence_in_two_classes_is_left_out(copied: Callable[[str], Path]):
    root = copied("ckplus48")
    shutil.move(
        root / "CK+48/anger/S014_003_00000030.png", root / "CK+48/happy/S014_003_00000030.png"
    )
    listing = scan("ckplus48", root)
    assert kinds(listing)["contradiction"].startswith("S014/003") and "S014" not in set(
        listing.rows["subject"]
    )


# JAFFE and KDEF


def test_jaffe_reads_names_that_are_misspelt_in_one_way_only(drawn: dict[str, Path]):
    listing = scan("jaffe", drawn["jaffe"])
    told = kinds(listing)
    assert told["misspelt name"].endswith(": 3") and "uy-su3.142.tiff" in told["misspelt name"]
    assert told["misplaced image"].endswith(": 3") and "KA.AN1.tiff" in told["misplaced image"]
    assert {"KM.NE1.1", "UY.SU3.142", "NA.DI2.215"} < set(listing.rows["key"])


def test_jaffe_one_photograph_in_two_forms_is_one(copied: Callable[[str], Path]):
    root = copied("jaffe")
    portraits.save(root / "png/KA.AN1.39.png", 0, "anger")
    listing = scan("jaffe", root)
    assert (
        kinds(listing)["repeated image"].startswith("png/KA.AN1.39.png") and len(listing.rows) == 9
    )


def test_kdef_the_two_series_are_one_person(drawn: dict[str, Path]):
    rows = scan("kdef", drawn["kdef"]).rows
    person = dict(zip(rows["key"], rows["subject"], strict=True))
    assert person["AF01ANS"] == person["BF01ANS"] == "F01" and person["AM01SUFL"] == "M01"
    assert set(rows["subject"]) == {"F01", "M01", "M35"} and rows["key"].is_unique


def test_kdef_names_that_are_cut_short_are_reported(drawn: dict[str, Path]):
    assert kinds(scan("kdef", drawn["kdef"]))["misplaced image"].startswith(
        "KDEF/AF31/AF31V.JPG, KDEF/AM35/AM35DI.JPG: "
    )


@pytest.mark.parametrize(
    "part, number", [(None, 8), ("all", 8), ("straight", 4), ("half", 2), ("full", 2)]
)
def test_kdef_angles_are_parts(drawn: dict[str, Path], part: str | None, number: int):
    listing = scan("kdef", drawn["kdef"], part=part)
    assert len(listing.rows) == number and listing.part == (part or "all")
    assert ("other angles" in kinds(listing)) == (number < 8)


# Oulu-CASIA and MMI


def test_oulu_casia_reads_one_cell_unless_all_are_wanted(drawn: dict[str, Path]):
    root = drawn["oulu_casia"]
    listing = scan("oulu_casia", root)
    assert listing.part == "VL-Strong" and set(listing.rows["clip"].str.split("/").str[1]) == {
        "VL-Strong"
    }
    assert kinds(listing)["part"].startswith(
        "VL-Strong: the part VL-Strong was read, and not NI-Strong, VL-Dark"
    )
    whole = scan("oulu_casia", root, part="all").rows
    assert set(whole["subject"]) == {"P001", "P012"}  # the same two people in every cell
    assert Counter(whole["clip"].str.split("/").str[1]) == {
        "VL-Strong": 10,
        "VL-Dark": 2,
        "NI-Strong": 2,
    }
    assert len(scan("oulu_casia", root, part="NI-Strong").rows) == 2
    with pytest.raises(DataError, match="has no such image that can be used"):
        scan("oulu_casia", root, part="NI-Dark")


def test_oulu_casia_clips_rise_to_their_last_frame(drawn: dict[str, Path]):
    listing = scan("oulu_casia", drawn["oulu_casia"])
    clip = listing.rows[listing.rows["clip"] == "P001/VL-Strong/Happiness"]
    assert clip["frame"].tolist() == [8, 9, 10, 11] and clip["phase"].tolist() == [
        "onset",
        "rise",
        "rise",
        "apex",
    ]
    assert kinds(listing)["missing frames"].startswith("P012/VL-Strong/Surprise")


def test_oulu_casia_prefers_cropped_faces(copied: Callable[[str], Path]):
    root = copied("oulu_casia")
    shutil.copytree(
        root / "B_OriginalImg/OriginalImg/VL", root / "PreProcess_Img/PreProcess Img/VL_Acropped"
    )
    listing = scan("oulu_casia", root)
    assert all("VL_Acropped" in path for path in listing.rows["path"]) and len(listing.rows) == 10
    assert "not in B_OriginalImg/OriginalImg/VL/" in kinds(listing)["tree"]


def test_mmi_phases_come_from_the_coding(drawn: dict[str, Path]):
    listing = scan("mmi", drawn["mmi"])
    clip = listing.rows[listing.rows["clip"] == "S001/001"]
    assert clip["frame"].tolist() == list(range(3, 12))  # the blink of frames 1 to 4 does not count
    assert clip["phase"].tolist() == ["onset", "rise", "rise", "apex", *["fall"] * 4, "offset"]
    assert set(clip["action_units"]) == {"4+7+45"} and clip["place"].tolist() == list(range(2, 11))
    sided = listing.rows[listing.rows["clip"] == "S053/009"]
    assert set(sided["action_units"]) == {"1+L2"} and sided["phase"].tolist()[2] == "apex"
    bare = listing.rows[listing.rows["clip"] == "S001/002"]
    assert set(bare["phase"]) == {""} and bare["frame"].tolist() == [1, 2, 3, 4, 5]


def test_mmi_frames_are_those_of_the_video(drawn: dict[str, Path]):
    faces = read("mmi", drawn["mmi"], colour="rgb", size=48)
    numbers = list(zip(faces.index["clip"], faces.index["frame"], strict=True))
    for frame in range(3, 12):
        shown = portraits.portrait(1, "anger", f"S001-001.avi{frame - 1}", (48, 64))
        image = faces.images[numbers.index(("set:S001/001", frame))]
        assert (
            np.abs(image.astype(int) - decode(shown, 48, "rgb").astype(int)).mean() < 6
        )  # Motion JPEG loses a little


def test_mmi_clips_without_an_emotion_or_from_the_side_are_counted(drawn: dict[str, Path]):
    told = kinds(scan("mmi", drawn["mmi"]))
    assert told["no emotion"].startswith("S053/011, S053/012: ") and told["other view"].startswith(
        "S053/010: "
    )
    assert "S053/010" in set(scan("mmi", drawn["mmi"], part="all").rows["clip"])
    assert "S053/011" in set(scan("mmi", drawn["mmi"], map={"8": "others"}).rows["clip"])


BOMB = '<!DOCTYPE a [<!ENTITY b "lol"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize("name", ["session.xml", "S001-001.xml", "S001-001-oao_aucs.xml"])
@pytest.mark.parametrize(
    "content", ["", "<a", "<a/>", BOMB, "<ActionUnit Number='1'><Marker Frame='x'/></ActionUnit>"]
)
def test_mmi_damaged_metadata_is_reported(copied: Callable[[str], Path], name: str, content: str):
    root = copied("mmi")
    (root / "Sessions/1" / name).write_text(content)
    listing = scan("mmi", root)
    told = kinds(listing)
    assert (
        "S001/001"
        in told[
            {"session.xml": "unknown view", "S001-001.xml": "no emotion"}.get(name, "no timing")
        ]
    )


def test_mmi_a_person_who_is_named_otherwise_is_reported(copied: Callable[[str], Path]):
    root = copied("mmi")
    session = root / "Sessions/1/session.xml"
    session.write_text(session.read_text().replace('id="1"/>', 'id="7"/>'))
    listing = scan("mmi", root)
    assert kinds(listing)["two subjects"].startswith("S001/001 (S007)")
    assert "S007/S001-001" in set(listing.rows["clip"])


def test_mmi_a_video_that_ends_early_or_cannot_be_read_is_said(copied: Callable[[str], Path]):
    root = copied("mmi")
    video = root / "Sessions/1/S001-001.avi"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    (root / "Sessions/1767/S001-002.avi").write_bytes(b"no video")
    assert kinds(scan("mmi", root))["unreadable video"].startswith("Sessions/1767/S001-002.avi")
    try:
        faces = read("mmi", root, skip=True)
    except MienError as error:
        assert str(root) in str(error)
    else:
        assert len(faces) < 9 + 6
    with pytest.raises(
        DataError, match=r"S001-001\.avi must have a frame \d+ that can be decoded|S001-001"
    ):
        read("mmi", root)


# FER2013 and FER+


def test_fer2013_pixels_are_taken_as_they_are(drawn: dict[str, Path]):
    faces = read("fer2013", drawn["fer2013"], size=48)
    places = {key: place for place, key in enumerate(faces.index["key"])}
    whole = faces.images[places["set/Training/00005"]][0]
    assert np.array_equal(whole, portraits.grey(5, "surprise", "5"))
    assert set(faces.index["raw_label"]) == set("0123456")


def test_fer2013_usage_stands_in_keys_and_is_a_part(drawn: dict[str, Path]):
    listing = scan("fer2013", drawn["fer2013"])
    assert "PrivateTest 1, PublicTest 2, Training 7" in kinds(listing)["official partition"]
    assert scan("fer2013", drawn["fer2013"], part="publictest").rows["key"].tolist() == [
        "PublicTest/00007",
        "PublicTest/00008",
    ]


def test_fer2013_copies_across_usages_are_reported(drawn: dict[str, Path]):
    assert (
        "in more than one usage: 1;"
        in kinds(scan("fer2013", drawn["fer2013"]))["copies across usages"]
    )


def test_fer2013_headers_may_have_blanks_and_another_order(tmp_path: Path):
    (tmp_path / "icml_face_data.csv").write_text(
        fer2013.table("emotion, pixels, Usage").replace("\n", "\r\n")
    )
    assert len(scan("fer2013", tmp_path).rows) == 10
    assert choose_reader(tmp_path)[0] == "fer2013"


def test_fer2013_rows_that_cannot_be_used_are_reported(copied: Callable[[str], Path]):
    root = copied("fer2013")
    lines = fer2013.table().splitlines()
    lines[1] = lines[1].replace("0,", "9,", 1)
    lines[2] = f"1,{'1 ' * 2303},Training"
    lines[3] = f"2,{'1 ' * 2303}256,Training"
    lines[4] = "3,a b c,Training"
    (root / "fer2013/fer2013.csv").write_text("\n".join([*lines, "6", ""]))
    assert kinds(scan("fer2013", root))["unusable row"].startswith("0: rows whose emotion")
    with pytest.raises(
        DataError, match=r"fer2013\.csv#1 must have 2304 numbers .* There are 4 such images of 10"
    ):
        read("fer2013", root)
    faces = read("fer2013", root, skip=True)
    assert len(faces) == 6 and "set/Training/00004" in set(faces.index["key"])


def test_fer2013_folders_are_believed_by_the_name_of_the_file(tmp_path: Path):
    names = [
        "train/angry/Training_1.jpg",
        "test/happy/PublicTest_2.jpg",
        "train/sad/PrivateTest_88305.jpg",
    ]
    for name in names:
        portraits.save(tmp_path / name, 1, "neutral", mode="L")
    listing = scan("fer2013", tmp_path)
    assert listing.rows["key"].tolist() == ["PublicTest/2", "Training/1", "PrivateTest/88305"]
    assert listing.rows["emotion"].tolist() == ["happiness", "anger", "sadness"]
    assert kinds(listing)["wrong folder"].startswith("train/sad/PrivateTest_88305.jpg")
    shutil.copy(tmp_path / names[0], tmp_path / "train/sad/Training_1.jpg")
    assert kinds(scan("fer2013", tmp_path))["contradiction"].startswith("Training/1")
    assert choose_reader(tmp_path)[0] == "fer2013"


@pytest.mark.parametrize(
    "counts, label",
    [
        ((0, 0, 0, 1, 8, 1, 0, 0, 0, 0), "anger"),
        ((4, 5, 1, 0, 0, 0, 0, 0, 0, 0), "happiness"),  # 5 of 9: the single vote is dropped
        ((5, 5, 0, 0, 0, 0, 0, 0, 0, 0), NO_MAJORITY),
        ((4, 3, 3, 0, 0, 0, 0, 0, 0, 0), NO_MAJORITY),
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), NO_MAJORITY),
        ((0, 0, 0, 0, 0, 0, 0, 0, 6, 4), "unknown"),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), "nf"),
    ],
)
def test_ferplus_the_majority_decides(counts: tuple[int, ...], label: str):
    assert find_majority(counts) == label


def test_ferplus_what_is_no_emotion_is_counted(drawn: dict[str, Path]):
    listing = scan("ferplus", drawn["ferplus"])
    told = [finding.what for finding in listing.findings if finding.kind == "no single emotion"]
    assert [what.split(" image;")[0] for what in told] == [
        "'nf' is not a single emotion; left out: 1",
        "'no majority' is not a single emotion; left out: 1",
        "'unknown' is not a single emotion; left out: 1",
    ]
    assert kinds(listing)["dropped row"].endswith("left out: 1")
    assert all(
        key.split("/")[0] in ("Training", "PublicTest", "PrivateTest")
        for key in listing.rows["key"]
    )


def test_ferplus_votes_and_pictures_must_belong_together(copied: Callable[[str], Path]):
    root = copied("ferplus")
    table = root / "fer2013new.csv"
    head, *lines = ferplus.votes().splitlines()
    table.write_text("\n".join([head, *lines[:-1]]))
    with pytest.raises(DataError, match=r"has 9 rows and .* 10, and must have as many"):
        scan("ferplus", root)
    table.write_text("\n".join([head, *lines[1:], lines[0]]))  # shifted by one
    with pytest.raises(DataError, match="must say the same usage in each row, and in row 8"):
        scan("ferplus", root)
    table.write_text(head.replace(",NF", ""))
    with pytest.raises(DataError, match=r"must have the columns .*; nf are missing"):
        scan("ferplus", root)
    table.write_text("\n".join([head, lines[0].replace(",8,", ",many,"), *lines[1:]]))
    with pytest.raises(DataError, match="row 2: votes must be whole numbers"):
        scan("ferplus", root)


def test_ferplus_a_shift_within_one_usage_is_seen_by_the_labels(tmp_path: Path):
    order = [place % 7 for place in range(140)]
    columns = [ferplus.HEAD.split(",").index(emotion) - 2 for emotion in fer2013.EMOTIONS]
    votes = [
        ",".join("10" if column == columns[code] else "0" for column in range(10)) for code in order
    ]
    lines = [f"Training,fer{place:07d}.png,{counts}" for place, counts in enumerate(votes)]
    (tmp_path / "fer2013.csv").write_text(
        "emotion,pixels,Usage\n" + "".join(f"{code},0,Training\n" for code in order)
    )
    (tmp_path / "fer2013new.csv").write_text("\n".join([ferplus.HEAD, *lines]))
    assert len(scan("ferplus", tmp_path).rows) == 140
    (tmp_path / "fer2013new.csv").write_text("\n".join([ferplus.HEAD, *lines[1:], lines[0]]))
    with pytest.raises(DataError, match="agree in 0 of 140 labels only"):
        scan("ferplus", tmp_path)


def test_ferplus_pictures_may_be_files(tmp_path: Path):
    (tmp_path / "fer2013new.csv").write_text(ferplus.votes())
    names = [
        "Train/fer0000000.png",
        "Train/fer0000003.png",
        "Valid/fer0000007.png",
        "Test/fer0000009.png",
    ]
    for name in [*names, "Test/fer0000000.png"]:  # the last is not of this usage
        portraits.save(tmp_path / f"FER2013{name}", 1, "neutral", mode="L")
    listing = scan("ferplus", tmp_path)
    assert listing.rows["emotion"].tolist() == ["happiness", "anger", "happiness", "happiness"]
    assert kinds(listing)["file without row"].startswith("FER2013Test/fer0000000.png")


# RAF-DB and AffectNet


def test_rafdb_reads_aligned_faces_and_keeps_the_partition(drawn: dict[str, Path]):
    listing = scan("rafdb", drawn["rafdb"])
    assert listing.part == "aligned" and set(listing.rows["raw_label"]) == set("1234567")
    assert kinds(listing)["official partition"].startswith(".: test 2, train 7")
    assert {"train/00001", "test/0001"} < set(listing.rows["key"])
    assert kinds(listing)["row without file"].startswith("train_00100")
    whole = scan("rafdb", drawn["rafdb"], part="original")
    assert whole.rows["path"].str.contains("/original/").all() and "not cropped" in kinds(whole)


def test_rafdb_the_list_is_believed_and_not_folders(tmp_path: Path):
    for name in (
        "train/3/train_00001_aligned.jpg",
        "train/5/train_00002_aligned.jpg",
        "test/7/test_0001_aligned.jpg",
    ):
        portraits.save(tmp_path / "DATASET" / name, 1, "neutral")
    listing = scan("rafdb", tmp_path)
    assert listing.rows["emotion"].tolist() == ["neutral", "disgust", "sadness"]
    assert "labels of folders" in kinds(listing) and choose_reader(tmp_path)[0] == "rafdb"
    (tmp_path / "list_patition_label.txt").write_text(
        "train_00001.jpg 3\ntrain_00002.jpg 1\ntest_0001.jpg 7\nx\n"
    )
    listing = scan("rafdb", tmp_path)
    assert listing.rows["emotion"].tolist() == ["neutral", "disgust", "surprise"]
    assert kinds(listing)["wrong folder"].startswith(
        "DATASET/train/5/train_00002"
    ) and "unusable row" in kinds(listing)


def test_rafdb_a_name_with_two_labels_is_left_out(copied: Callable[[str], Path]):
    root = copied("rafdb")
    table = root / "basic/EmoLabel/list_patition_label.txt"
    table.write_text(table.read_text() + "train_00001.jpg 4\ntrain_00002.jpg 2\n")
    listing = scan("rafdb", root)
    assert (
        kinds(listing)["contradiction"].startswith("train_00001:")
        and len(listing.rows) == len(rafdb.LINES) - 1
    )


def test_affectnet_categories_that_are_no_expression_are_counted(drawn: dict[str, Path]):
    listing = scan("affectnet", drawn["affectnet"])
    told = [finding.what for finding in listing.findings if finding.kind == "no single emotion"]
    assert [what.split(" ")[0] for what in told] == ["'10'", "'8'", "'9'"]
    assert kinds(listing)["official partition"].startswith(".: training 11, validation 2")
    assert Counter(listing.rows["key"].str.split("/").str[0]) == {"training": 8, "validation": 2}


def test_affectnet_faces_are_cut_out_by_their_boxes(drawn: dict[str, Path]):
    root = drawn["affectnet"]
    faces = read("affectnet", root)
    listing = scan("affectnet", root)
    for place, (path, box) in enumerate(
        zip(listing.list_paths(), listing.rows["box"], strict=True)
    ):
        with Image.open(path) as image:
            left, top, width, height = box or (0, 0, *image.size)
            cut = np.asarray(image.crop((left, top, left + width, top + height)).convert("RGB"))
        assert np.array_equal(faces.images[place], decode(cut, 16))
    assert listing.rows["box"].isna().sum() == 1
    assert kinds(listing)["no face box"].endswith(": 1")


def test_affectnet_a_list_without_a_header_is_read(copied: Callable[[str], Path]):
    root = copied("affectnet")
    table = root / "Manually_Annotated_file_lists/validation.csv"
    table.write_text("\n".join(table.read_text().splitlines()[1:]))
    assert scan("affectnet", root).rows.equals(scan("affectnet", root).rows)
    assert Counter(scan("affectnet", root).rows["key"].str.split("/").str[0]) == {
        "training": 8,
        "validation": 2,
    }
    table.write_text("a,b\n1,2\n")
    with pytest.raises(
        DataError,
        match=r"validation\.csv must have the columns .* lacks expression, subdirectory_file",
    ):
        scan("affectnet", root)


def test_affectnet_a_contradiction_is_left_out(copied: Callable[[str], Path]):
    root = copied("affectnet")
    table = root / "Manually_Annotated_file_lists/training.csv"
    first = table.read_text().splitlines()[1].split(",")[0]
    table.write_text(
        table.read_text() + affectnet.row(first, 5) + "\n" + affectnet.row("1/x.jpg", 77) + "\n"
    )
    portraits.save(root / "Manually_Annotated/Manually_Annotated_Images/1/x.jpg", 1, "neutral")
    listing = scan("affectnet", root)
    assert first in kinds(listing)["contradiction"] and len(listing.rows) == 9
    assert kinds(listing)["unusable row"].startswith("1/x.jpg")


def test_affectnet_of_2021_has_one_number_a_file(tmp_path: Path):
    codes: list[Any] = [0, "3", np.int64(7), np.array([6]), "ten", 5]
    for place, code in enumerate(codes):
        part = "val_set" if place == 5 else "train_set"
        portraits.save(tmp_path / part / f"images/{place}.jpg", place, "neutral")
        (tmp_path / part / "annotations").mkdir(exist_ok=True)
        np.save(tmp_path / part / f"annotations/{place}_exp.npy", np.array(code))
        np.save(tmp_path / part / f"annotations/{place}_val.npy", np.array("0.25"))
    portraits.save(tmp_path / "train_set/images/99.jpg", 9, "neutral")
    np.save(tmp_path / "train_set/annotations/98_exp.npy", np.array("1"))
    listing = scan("affectnet", tmp_path)
    found = dict(zip(listing.rows["key"], listing.rows["emotion"], strict=True))
    assert found == {
        "train/0": "neutral",
        "train/1": "surprise",
        "train/2": "contempt",
        "train/3": "anger",
        "val/5": "disgust",
    }
    assert kinds(listing)["unusable annotation"].startswith(
        "train_set/images/4.jpg, train_set/images/99.jpg"
    )
    assert kinds(listing)["row without file"].startswith("train_set/annotations/98_exp.npy")
    assert choose_reader(tmp_path)[0] == "affectnet"
    before = compute_fingerprint(listing)
    np.save(tmp_path / "train_set/annotations/0_exp.npy", np.array("1"))
    assert compute_fingerprint(scan("affectnet", tmp_path)) != before


# Hugging Face


def test_huggingface_labels_are_the_names_of_the_features(drawn: dict[str, Path]):
    listing = scan("huggingface", drawn["huggingface"])
    assert Counter(listing.rows["raw_label"]) == {"sad": 2, "happy": 3, "neutral": 2}
    assert listing.licence == "cc-by-4.0, says its card"
    assert kinds(listing)["row without label"].startswith("data/train-00000-of-00001/4")
    faces = read("huggingface", drawn["huggingface"], size=48, colour="rgb")
    assert np.array_equal(
        faces.images[list(faces.index["key"]).index("set/data/train-00000-of-00001/1")],
        np.moveaxis(portraits.portrait(1, "happiness", "train1"), 2, 0),
    )


@pytest.fixture(scope="module")
def labelled() -> pa.Table:
    return huggingface.picture_table("train", [0, 1, 2, 0])


def test_huggingface_reads_what_save_to_disk_writes(labelled: pa.Table, tmp_path: Path):
    (tmp_path / "train").mkdir()
    path = str(tmp_path / "train/data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, labelled.schema) as stream:
        stream.write_table(labelled, max_chunksize=3)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (tmp_path / "train/state.json").write_text("{}")
    faces = read("huggingface", tmp_path)
    pq.write_table(labelled, tmp_path / "t.parquet")
    (tmp_path / "train/data-00000-of-00001.arrow").unlink()
    assert np.array_equal(faces.images, read("huggingface", tmp_path).images) and len(faces) == 4
    assert list(faces.index["emotion"]) == ["sadness", "happiness", "neutral", "sadness"]


def test_huggingface_numbers_without_names_must_be_mapped(labelled: pa.Table, tmp_path: Path):
    pq.write_table(labelled.replace_schema_metadata(None), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"0, 1, 2 are not; .*--map 0=EMOTION"):
        scan("huggingface", tmp_path)
    listing = scan("huggingface", tmp_path, map={"0": "sadness", "1": "happiness", "2": "neutral"})
    assert listing.rows["emotion"].tolist() == ["sadness", "happiness", "neutral", "sadness"]


def test_huggingface_columns_can_be_named(labelled: pa.Table, tmp_path: Path):
    mood = labelled.drop_columns(["label"]).append_column(
        "mood", pa.array(["sad", "happy", "sad", "joy"])
    )
    mood = mood.append_column("seq", pa.array(["a", "a", "b", None])).append_column(
        "t", pa.array([10, 9, 1, 1])
    )
    pq.write_table(mood.replace_schema_metadata(None), tmp_path / "x.parquet")
    with pytest.raises(
        DataError, match=r"must have a column with the classes .* Name it with --label-column"
    ):
        scan("huggingface", tmp_path)
    rows = scan(
        "huggingface", tmp_path, label_column="Mood", clip_column="seq", frame_column="t"
    ).rows
    assert rows[["subject", "clip", "frame", "phase"]].to_numpy().tolist() == [
        ["t0", "t0/a", 9, ""],
        ["t0", "t0/a", 10, ""],
        ["t1", "", -1, "still"],
        ["t1", "t1/b", 1, ""],
    ]
    with pytest.raises(
        DataError,
        match=r"subject_column must name a column, and 'subjekt' is not one.*Did you mean 'subj",
    ):
        scan("huggingface", tmp_path, label_column="mood", subject_column="subjekt")


def test_huggingface_rows_may_point_to_files_of_the_folder_only(tmp_path: Path):
    portraits.save(tmp_path / "set/images/a.png", 1, "happiness")
    portraits.save(tmp_path / "secret.png", 1, "happiness")
    pictures = [
        {"bytes": None, "path": "images/a.png"},
        {"bytes": None, "path": "../secret.png"},
        {"bytes": None, "path": str(tmp_path / "secret.png")},
        {"bytes": huggingface.encoded(2, "sadness", "x"), "path": None},
        {"bytes": None, "path": None},
    ]
    table = pa.table({"image": pictures, "label": ["happy", "happy", "happy", "sad", "sad"]})
    pq.write_table(table, tmp_path / "set/train.parquet")
    listing = scan("huggingface", tmp_path / "set")
    assert listing.list_names() == ["images/a.png", "train.parquet#3", "train.parquet#4"]
    assert "left out: 2" in kinds(listing)["row without file"]
    with pytest.raises(DataError, match=r"train\.parquet#4 must hold a picture, and is empty"):
        read("huggingface", tmp_path / "set")
    assert len(read("huggingface", tmp_path / "set", skip=True)) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_huggingface_reads_an_image_folder_with_metadata(tmp_path: Path, form: str):
    for split in ("train", "test"):
        lines = []
        for place in range(2):
            portraits.save(tmp_path / split / f"deep/{place}.png", place, "sadness")
            lines.append({"file_name": f"deep/{place}.png", "label": "sad", "subject": f"p{place}"})
        lines += [{"file_name": "../../out.png", "label": "sad", "subject": "p9"}]
        table, columns = tmp_path / split / f"metadata.{form}", list(lines[0])
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(lines), table)
        elif form == "jsonl":
            table.write_text("\n".join(map(json.dumps, lines)))
        else:
            table.write_text(
                "\n".join([",".join(columns), *(",".join(line.values()) for line in lines)])
            )
    portraits.save(tmp_path / "train/extra.png", 1, "sadness")
    listing = scan("huggingface", tmp_path)
    assert listing.rows["subject"].tolist() == ["p0", "p0", "p1", "p1"] and set(
        listing.rows["emotion"]
    ) == {"sadness"}
    assert kinds(listing)["file without row"].startswith("train/extra.png")
    assert kinds(listing)["row without file"].endswith(": 2") and kinds(listing)[
        "splits"
    ].startswith(".: test 2, tr")
    assert choose_reader(tmp_path)[0] == "huggingface"


def test_huggingface_classes_may_be_folders(tmp_path: Path):
    for name in ("train/happy/1.png", "test/sad/1.png", "train/stray.png"):
        portraits.save(tmp_path / name, 1, "neutral")
    listing = scan("huggingface", tmp_path)
    assert listing.rows["emotion"].tolist() == ["sadness", "happiness"]
    assert kinds(listing)["file without row"].startswith("train/stray.png")


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1 and no more PAR1", b"ARROW1\0\0"])
@pytest.mark.parametrize("name", ["train.parquet", "train.arrow"])
def test_huggingface_a_damaged_table_is_one_message(tmp_path: Path, name: str, damage: bytes):
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(
        DataError, match=rf"{name} must be a table in Parquet or Arrow that can be read"
    ):
        scan("huggingface", tmp_path)


def test_huggingface_damage_within_a_table_is_one_message(labelled: pa.Table, tmp_path: Path):
    path = tmp_path / "train.parquet"
    pq.write_table(labelled, path, row_group_size=2)
    content = path.read_bytes()
    for place in range(8, len(content), len(content) // 15):
        path.write_bytes(content[:place] + b"\xff" * 16 + content[place + 16 :])
        try:
            faces = read("huggingface", tmp_path, skip=True)
        except MienError as error:
            assert error.exit_code == 2 and "train.parquet" in str(error)
        else:
            assert len(faces) <= 4


def test_huggingface_reads_what_the_library_writes(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["sad", "happy"]),
            "subject": datasets.Value("string"),
        }
    )
    pictures = [
        Image.fromarray(portraits.portrait(place, "neutral", str(place))) for place in range(3)
    ]
    made = datasets.Dataset.from_dict(
        {"image": pictures, "label": [1, 0, 1], "subject": ["a", "b", "a"]}, features=features
    )
    made.to_parquet(str(tmp_path / "hub.parquet"))
    made.save_to_disk(str(tmp_path / "disk"))
    for folder, name in (
        (tmp_path, "hub.parquet"),
        (tmp_path / "disk", "data-00000-of-00001.arrow"),
    ):
        root = shutil.copytree(
            folder,
            tmp_path.parent / f"{tmp_path.name}-{name}",
            ignore=shutil.ignore_patterns("disk"),
        )
        faces = read("huggingface", root, size=48, colour="rgb")
        assert faces.index["raw_label"].tolist() == ["happy", "happy", "sad"]  # by subject: a, a, b
        for image, place in zip(faces.images, (0, 2, 1), strict=True):
            assert np.array_equal(image, np.moveaxis(np.asarray(made[place]["image"]), 2, 0))


# What they share


def test_pictures_of_one_file_are_taken_a_few_at_a_time(drawn: dict[str, Path]):
    listing = scan("fer2013", drawn["fer2013"])
    assert listing.unpack is not None
    pictures = listing.unpack(listing.list_paths()[0], [1, 4])
    assert not isinstance(pictures, list)
    for picture, place in zip(pictures, (1, 4), strict=True):
        assert isinstance(picture, np.ndarray)
        assert np.array_equal(picture, portraits.grey(place, fer2013.EMOTIONS[place], str(place)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("license: <img src=x onerror=f()>", "unknown"),
        ("license: '=HYPERLINK(\"http://e.example\")'", "unknown"),
        ("licence: [free](https://e.example)", "unknown"),
        ("license: " + "a" * 99, "unknown"),
        ("license: cdla-permissive-2.0  # as asked", "cdla-permissive-2.0, says its card"),
        ("license: 'CC BY-NC 4.0'", "CC BY-NC 4.0, says its card"),
    ],
)
def test_a_card_names_a_licence_by_an_identifier_or_nothing_is_known(
    tmp_path: Path, line: str, said: str
):
    from mien.ingest.readers.huggingface import UNKNOWN_LICENCE, read_licence

    (tmp_path / "README.md").write_text(f"---\n{line}\n---\n")
    assert read_licence(tmp_path)[1] == said and UNKNOWN_LICENCE == "unknown"
