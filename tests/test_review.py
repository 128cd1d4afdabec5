"""Review and the commands of leakage: decisions come back as a new set, and every mistake has a
message.
"""

import csv
import hashlib
import re
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from drawn import FOUR, people
from PIL import Image
from web_pages import find_faults
from worlds import inside

from mien.audit.labels.review import Decisions, apply_decisions, copy_queue, read_decisions
from mien.audit.leakage import sides
from mien.audit.leakage.measure import measure_leakage
from mien.errors import DataError, StoreError, UsageError
from mien.faces import Faces, make_index
from mien.runs.spec import Spec
from mien.runs.store import Run, Store


class Root(Spec):
    """A parent that holds faces."""

    stage: ClassVar[str] = "root"
    name_of: str


@pytest.fixture(scope="module")
def everyone() -> Faces:
    return people(range(6), clips=1, frames=1, size=48, emotions=FOUR)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, everyone: Faces) -> Path:
    """A folder with a store: everyone, synthetic copies of some, and plain folders of the same
    pictures.
    """
    folder = tmp_path_factory.mktemp("place")
    home = Store(folder / "store")
    keep(home, everyone, "everyone")
    keep(home, synthetic(everyone), "made")
    for number, about in enumerate(everyone.index.to_dict("records")):
        side = "train" if about["subject"] < "drawn:s04" else "test"
        path = folder / "faces" / side / about["emotion"] / f"{about['subject'][6:]}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(everyone.images[number][0]).save(path)
    copied = next((folder / "faces" / "train" / "sadness").iterdir())
    shutil.copy(copied, folder / "faces" / "test" / "sadness" / "s05_900.png")
    return folder


def keep(home: Store, faces: Faces, name: str) -> Run:
    return home.make(Root(name_of=name), lambda out, scratch: faces.save(out), alias=name)


def synthetic(faces: Faces) -> Faces:
    images = np.clip(faces.images[:12] + 8.0, 0, 255).astype(np.uint8)
    emotions = list(faces.index["emotion"].iloc[:12])
    index = make_index(
        images, key=[f"made/{k}" for k in range(12)], emotion=emotions, source="edm-0123456789ab"
    )
    return Faces(images, index, faces.index[["key", "subject", "clip"]].head(12))


def decide(path: Path, decisions: dict[int, tuple[str, str]]) -> list[dict[str, str]]:
    """Fill in rows of a queue, and return them all."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for place, (decision, emotion) in decisions.items():
        rows[place] |= {"decision": decision, "relabel": emotion}
    write(path, rows)
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# Review


def test_decisions_come_back_as_a_new_set_and_the_old_one_stays(place: Path):
    home = Store(place / "store")
    old = home.run("everyone")
    text = inside(place, "review", "queue", "everyone", "--number", "6", "--out", "first.csv")
    assert (
        "first.csv" in text and not (place / "first.html").exists()
    )  # pictures of real people stay
    queue = pd.read_csv(place / "first.csv")
    assert queue["number"].tolist() == list(range(1, 7)) and queue["margin"].is_monotonic_increasing
    rows = decide(
        place / "first.csv", {0: ("reject", ""), 1: ("Relabel", "Happy"), 2: ("accept", "")}
    )
    text = inside(place, "review", "apply", "first.csv", "--as", "reviewed")
    assert "1 accept, 1 reject, 1 relabel" in text and f"the original set is {old.name}" in text
    run = home.run("reviewed")
    before, after = Faces.load(old.path), Faces.load(run.path)
    assert len(after) == len(before) - 1 and rows[0]["key"] not in set(after.index["key"])
    emotions = after.index.set_index("key")["emotion"]
    assert (
        emotions[rows[1]["key"]] == "happiness" and emotions[rows[2]["key"]] == rows[2]["emotion"]
    )
    others = set(after.index["key"]) - {rows[1]["key"]}
    pd.testing.assert_series_equal(
        emotions[sorted(others)],
        before.index.set_index("key")["emotion"][sorted(others)],
        check_names=False,
    )
    told = pd.read_csv(run.find_file("decisions.csv"), keep_default_na=False).set_index("key")
    assert (
        told.loc[rows[1]["key"], "before"] == rows[1]["emotion"]
        and told.loc[rows[1]["key"], "after"] == "happiness"
    )
    assert run.spec["faces"] == old.name and home.find_faults(old, thorough=True) == []


def test_the_same_decisions_in_another_order_are_the_same_run(place: Path):
    home = Store(place / "store")
    decided = Decisions(
        "everyone",
        pd.DataFrame(
            [["drawn/s00/c0/0", "reject", "", ""], ["drawn/s01/c1/0", "relabel", "fear", "brows"]],
            columns=["key", "decision", "relabel", "note"],
        ),
    )
    turned = Decisions("everyone", decided.table.iloc[::-1].reset_index(drop=True))
    assert apply_decisions(decided, home).name == apply_decisions(turned, home).name
    other = Decisions("everyone", decided.table.assign(relabel=["", "anger"]))
    assert apply_decisions(other, home).name != apply_decisions(decided, home).name


def test_a_reviewed_set_shows_in_its_channels_what_the_old_one_did(tmp_path: Path, everyone: Faces):
    home = Store(tmp_path / "store")
    pictures = np.concatenate([everyone.images, 255 - everyone.images], axis=1)
    old = keep(home, Faces(pictures, everyone.index, channels=("grey", "edges")), "channels")
    keys = everyone.index["key"]
    rows = [[keys[0], "reject", "", ""], [keys[2], "relabel", "fear", ""]]
    table = pd.DataFrame(rows, columns=["key", "decision", "relabel", "note"])
    found = Faces.load(apply_decisions(Decisions(old.name, table), home).path)
    assert found.channels == ("grey", "edges") and len(found) == len(everyone) - 1
    assert np.array_equal(found.images, pictures[1:])


def test_synthetic_pictures_may_leave_and_ask_for_real_judges(place: Path):
    text = mien_fails(place, "review", "queue", "made")
    assert "need judges: give --judges REAL" in text
    text = inside(place, "review", "queue", "made", "--judges", "everyone", "--out", "held.csv")
    assert (
        "the page of pictures stays in the store" in text and not (place / "held.html").exists()
    )  # copies, here
    text = inside(
        place, "review", "queue", "made", "--judges", "everyone", "--out", "made.csv", "--pictures"
    )
    assert "has seen people of the judges" in text
    page = (place / "made.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 12 and "http" not in page and "not synthetic" not in page
    assert find_faults(page) == []
    rows = decide(place / "made.csv", dict.fromkeys(range(3), ("reject", "")))
    inside(place, "review", "apply", "made.csv", "--as", "kept")
    kept = Faces.load(Store(place / "store").run("kept").path)
    assert len(kept) == 9 and kept.seen is not None and rows[0]["key"] not in set(kept.index["key"])


def test_a_queue_is_never_written_over(place: Path):
    (place / "taken.csv").write_text("decisions")
    text = mien_fails(place, "review", "queue", "everyone", "--out", "taken.csv")
    assert "taken.csv exists already and may hold decisions" in text
    assert (place / "taken.csv").read_text() == "decisions"
    assert "ends in .csv" in mien_fails(place, "review", "queue", "everyone", "--out", "taken.txt")
    assert "--number must be 1 or more" in mien_fails(
        place, "review", "queue", "everyone", "--number", "0"
    )


@pytest.mark.parametrize(
    ("head", "row", "message"),
    [
        (
            "set,key,decision",
            "everyone,drawn/s00/c0/0,rejct",
            "row 2: a decision must be accept, reject",
        ),
        ("set,key,decision", "everyone,drawn/s00/c0/0,", "has no decision yet"),
        (
            "set,key,decision",
            "everyone,drawn/s00/nowhere,reject",
            "does not have, such as drawn/s00/nowhere",
        ),
        (
            "set,key,decision,relabel",
            "everyone,drawn/s00/c0/0,relabel,hapy",
            "relabel must be one of",
        ),
        ("set,key,decision,relabel", "everyone,drawn/s00/c0/0,relabel,", "relabel must be one of"),
        (
            "set,key,decision,relabel",
            "everyone,drawn/s00/c0/0,,fear",
            "the decision is empty; write relabel",
        ),
        (
            "set,key,decision,relabel",
            "everyone,drawn/s00/c0/0,accept,fear",
            "the decision is 'accept'",
        ),
        (
            "set,key,decision",
            "everyone,drawn/s00/c0/0,accept\neveryone,drawn/s00/c0/0,reject",
            "has several",
        ),
        (
            "set,key,decision",
            "everyone,drawn/s00/c0/0,accept\nmade,made/1,reject",
            "must be about one set; it names",
        ),
        ("key,decision", "drawn/s00/c0/0,accept", r"set \(or give --set\) is missing"),
        ("set,decision", "everyone,accept", "key is missing"),
        ("set,key,decision", "nobody,drawn/s00/c0/0,accept", "there is no run or alias 'nobody'"),
    ],
)
def test_mistakes_in_a_table_are_named(place: Path, head: str, row: str, message: str):
    (place / "wrong.csv").write_text(f"{head}\n{row}\n", encoding="utf-8")
    with pytest.raises((DataError, StoreError), match=message):
        apply_decisions(read_decisions(place / "wrong.csv"), Store(place / "store"))


def test_a_table_as_spreadsheets_write_it_is_read(place: Path):
    (place / "sheet.csv").write_bytes(
        "\ufeffKey;Decision;Relabel\r\ndrawn/s00/c0/0;REJECT;\r\n".encode()
    )
    decisions = read_decisions(place / "sheet.csv", "everyone")
    assert decisions.table["decision"].tolist() == ["reject"]
    everything = decisions.table.merge(
        Faces.load(Store(place / "store").run("everyone").path).index[["key"]], how="right"
    )
    with pytest.raises(DataError, match="are rejected, and no image would be left"):
        apply_decisions(
            Decisions("everyone", everything.fillna("").assign(decision="reject")),
            Store(place / "store"),
        )
    (place / "sheet.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="must be a table in CSV, written in UTF-8"):
        read_decisions(place / "sheet.csv", "everyone")


# The two sides


def mien_fails(folder: Path, *arguments: str, code: int = 2) -> str:
    text = inside(folder, *arguments, code=code)
    assert "Traceback" not in text
    return text


def test_plain_folders_are_compared_by_the_names_of_people(place: Path):
    text = inside(
        place,
        "leakage",
        "faces/train",
        "faces/test",
        "--subject-pattern",
        r"(s\d+)_",
        "--out",
        "report",
        "--as",
        "plain",
    )
    assert (
        "test (9 test images) against train (16 training images), no subject to be shared:" in text
    )
    assert "1 of 9 test images (11.1 %) was seen in training" in text
    assert "equal to a training image in every pixel" in text and "shared subjects" not in text
    page = (place / "report" / "index.html").read_text(encoding="utf-8")
    assert (
        "data:image/png" in page
        and "http" not in page
        and "Keep it only where these images may be" in page
    )
    assert find_faults(page) == []
    pairs = pd.read_csv(place / "report" / "pairs.csv")
    assert pairs["test"].tolist() == ["test/sadness/s05_900.png"] and pairs["kind"].tolist() == [
        "exact"
    ]
    assert Store(place / "store").run("plain").summary["holds"] == "1 of 9 test images affected"
    text = mien_fails(
        place,
        "leakage",
        "faces/train",
        "faces/test",
        "--subject-pattern",
        r"(s\d+)_",
        "--fail",
        code=4,
    )
    assert "1 test image was seen in training, and --fail allows none" in text


def test_a_folder_of_sides_and_a_table_say_the_same(place: Path):
    home = Store(place / "store")
    pattern = r"(s\d+)_"
    by_folder = sides.find_compared_sides(str(place / "faces"), None, home, subject_pattern=pattern)
    paths = sorted((place / "faces").rglob("*.png"))
    for name in (lambda path: path.name, lambda path: str(path.relative_to(place / "faces"))):
        lines = [
            f"{name(path)},{'Training' if '/train/' in str(path) else 'TEST'}" for path in paths
        ]
        (place / "split.csv").write_text("file,Usage\n" + "\n".join(lines) + "\n", encoding="utf-8")
        by_table = sides.find_compared_sides(
            str(place / "faces"), None, home, split=place / "split.csv", subject_pattern=pattern
        )
        assert by_table.digest == by_folder.digest
    train, test = by_table.load_faces()
    assert len(train) == 16 and len(test) == 9 and set(train.subjects).isdisjoint(test.subjects)


def test_an_image_on_both_sides_is_a_shared_frame(place: Path):
    (place / "both.csv").write_text(
        "key,side\ndrawn/s00/c0/0,train\ndrawn/s00/c0/0,test\ndrawn/s01/c0/0,test\ndrawn/s02/c0/0,val\n",
        encoding="utf-8",
    )
    home = Store(place / "store")
    found = sides.find_compared_sides("everyone", None, home, split=place / "both.csv")
    assert measure_leakage(*found.load_faces()).find_value("frames") == 0.5
    other = sides.find_compared_sides(
        "everyone", None, home, split=place / "both.csv", between="val:test"
    )
    assert (
        measure_leakage(*other.load_faces()).find_value("affected") == 0
        and other.digest != found.digest
    )


def test_a_folder_beside_a_stored_set_takes_its_form(place: Path):
    found = sides.find_compared_sides(
        "everyone",
        str(place / "faces" / "test"),
        Store(place / "store"),
        subject_pattern=r"(s\d+)_",
    )
    train, test = found.load_faces()
    assert found.one_dataset and train.size == test.size
    assert measure_leakage(train, test).find_value("subjects") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("everyone",), "leakage needs two sides: give two sets"),
        (
            ("everyone", "made", "--split", "split.csv"),
            "--split divides one set, and two were given",
        ),
        (
            ("everyone", "nowhere"),
            "there is no run or alias 'nowhere' .* There is no folder of this name either",
        ),
        (("everyone", "made", "--size", "32"), "--size says how a folder is read"),
        (("everyone", "--split", "nowhere.csv"), "there must be a table in CSV at nowhere.csv"),
        (("everyone", "--split", "empty.csv"), "needs a line of column names and a row per image"),
        (("everyone", "--split", "columns.csv"), "needs a column side or split"),
        (
            ("everyone", "--split", "names.csv"),
            "1 of 2 names fit no key or several, such as who.png",
        ),
        (("everyone", "--split", "lacking.csv"), "row 2 lacks one"),
        (("everyone", "--split", "one.csv"), "there is no test; found: train"),
        (("everyone", "--split", "one.csv", "--between", "train"), "--between must name two sides"),
        (
            ("everyone", "made", "--out", "faces"),
            "--out must be a folder that does not exist yet, or is empty",
        ),
        (("faces/train", "faces/test", "--map", "joy"), "--map must be given as NAME=VALUE"),
        (("faces/train", "faces/test", "--subject-pattern", "s"), "must have a group"),
        (("everyone", "made", "--by", "person"), "person"),
    ],
)
def test_mistakes_about_sides_have_a_message(place: Path, arguments: tuple[str, ...], message: str):
    tables = {
        "empty.csv": "",
        "columns.csv": "key,what\ndrawn/s00/c0/0,train\n",
        "names.csv": "key,side\ndrawn/s00/c0/0,train\nwho.png,test\n",
        "lacking.csv": "key,side\ndrawn/s00/c0/0,\n",
        "one.csv": "key,side\ndrawn/s00/c0/0,train\n",
    }
    for name, text in tables.items():
        (place / name).write_text(text, encoding="utf-8")
    text = " ".join(mien_fails(place, "leakage", *arguments).split())
    assert re.search(message, text), text


def test_nothing_of_a_folder_is_changed(place: Path):
    def content() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (place / "faces").rglob("*.png")
        }

    before = content()
    sides.find_compared_sides(
        str(place / "faces" / "train"), str(place / "faces" / "test"), Store(place / "store")
    )
    assert content() == before and len(before) == 25


def test_several_wrong_names_are_counted():
    assert sides.match_names(["a.png", "b.png"], ["x/a.png", "y/a.png", "x/b.png"]) == (
        ["", "x/b.png"],
        ["a.png"],
    )


def test_a_queue_needs_a_csv_file(tmp_path: Path):
    with pytest.raises(UsageError, match=r"ends in \.csv"):
        copy_queue(Run("review-0123456789ab", tmp_path), tmp_path / "queue.txt", Store(tmp_path))
