"""One person in several spellings is one person, everywhere; two people are never made one without
a word.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn import people
from PIL import Image

from mien.errors import DataError
from mien.faces import Faces
from mien.ingest.run import run_ingest
from mien.prepare import joins, splits
from mien.prepare.specs import JoinSpec
from mien.runs.store import Run, Store
from mien.spellings import identify_people, identify_person, remove_invisible

SEVEN = [
    "7",
    "007",
    "7.0",
    "s7",
    "S-07",
    "subj_7",
    "SUBJECT 007",
    "\uff17",
    " 7",
    "s\u200b7",
    "Sub.07",
]


def folder(root: Path, subjects: list[str], column: str = "expression") -> Path:
    """Draw a picture for each of these people, with a table that names them."""
    root.mkdir(parents=True)
    lines = [["file_name", column, "subject"]]
    for place, subject in enumerate(subjects):
        pixels = np.random.default_rng(place).integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"p{place}.png")
        lines.append([f"p{place}.png", ["fear", "anger", "sadness"][place % 3], subject])
    with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    return root


def stored(root: Path, store: Store, reader: str = "folder", **options: Any) -> tuple[Run, Faces]:
    run = run_ingest(reader, root, store, size=8, name="set", workers=1, **options)
    return run, Faces.load(run.path)


def told(run: Run) -> dict[str, str]:
    table = pd.read_csv(run.find_file("findings.csv"))
    return dict(zip(table["kind"], table["where"], strict=True))


@pytest.mark.parametrize("other", SEVEN)
def test_spellings_of_a_numbered_name_are_one_persons(other: str):
    assert identify_person(other) == identify_person("S007") and identify_person(
        f"set:{other}"
    ) == identify_person("set:7")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("S1", "S10"),
        ("1", "-1"),
        ("M01", "F01"),
        ("S1", "P1"),
        ("1.5", "15"),
        ("a:1", "b:1"),
        ("Ann", "Anna"),
        ("", "0"),
    ],
)
def test_different_people_stay_different(one: str, other: str):
    assert identify_person(one) != identify_person(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Zoe\u0308", "Zo\u00eb"), ("ANNA", "anna"), ("P-03", "p3")]
)
def test_what_differs_in_case_or_in_no_visible_way_is_one_name(one: str, other: str):
    assert identify_person(one) == identify_person(other) and remove_invisible(
        one
    ) == remove_invisible(remove_invisible(one))


@pytest.mark.parametrize("reader", ["folder", "huggingface"])
def test_a_set_with_eleven_spellings_has_one_person_and_says_so(tmp_path: Path, reader: str):
    root = folder(
        tmp_path / "faces", [*SEVEN, "8"], "label" if reader == "huggingface" else "expression"
    )
    run, faces = stored(root, Store(tmp_path / "store"), reader)
    assert len(faces.subjects) == 2
    assert "'007'" in told(run)["one person, several spellings"]


def test_names_that_only_look_alike_are_told_and_can_be_said_to_be_one_persons(tmp_path: Path):
    root = folder(tmp_path / "faces", ["Anna K", "anna_k", "S3", "Person 3", "Bea"])
    run, faces = stored(root, Store(tmp_path / "store"))
    assert len(faces.subjects) == 5
    where = told(run)["look-alike subjects"]
    assert "'Anna K' = 'anna_k'" in where and "'Person 3' = 'S3'" in where and "Bea" not in where
    run, faces = stored(
        root, Store(tmp_path / "store"), same_subject={"anna_k": "Anna K", "Person 3": "S3"}
    )
    assert faces.subjects == (
        "set:Anna K",
        "set:Bea",
        "set:S3",
    ) and "look-alike subjects" not in told(run)


def test_who_says_that_spellings_are_different_people_is_believed_by_splits_too(tmp_path: Path):
    root = folder(tmp_path / "faces", ["1", "S1", "2", "S2"] * 3)
    run, faces = stored(root, Store(tmp_path / "store"), subjects_as_written=True)
    assert faces.subjects == ('set:"1"', 'set:"2"', 'set:"S1"', 'set:"S2"')
    fold = splits.split(faces, "subject", 4, 0, 0)
    assert fold.test.sum() == 3 and "one person, several spellings" not in told(run)


def test_a_name_that_is_not_there_cannot_be_said_to_be_somebodys(tmp_path: Path):
    root = folder(tmp_path / "faces", ["1", "2"])
    with pytest.raises(DataError, match="'3' is not; there are 1, 2"):
        stored(root, Store(tmp_path / "store"), same_subject={"3": "1"})


def spelled(faces: Faces, names: dict[str, str]) -> Faces:
    called = pd.Series([names.get(name, name) for name in faces.index["subject"]], dtype="str")
    index = faces.index.assign(subject=called)
    return Faces(faces.images, index)


def test_no_split_by_subject_has_a_person_on_both_sides_by_another_spelling():
    faces = people(range(1, 7), clips=2, frames=1, size=8)
    half = spelled(faces, {"drawn:s01": "drawn:1", "drawn:s03": "drawn:Subject 3"})
    both = Faces(
        np.concatenate([faces.images, half.images]),
        pd.concat(
            [faces.index, half.index.assign(key="again/" + half.index["key"])], ignore_index=True
        ),
    )
    for number in range(3):
        fold = splits.split(both, "subject", 3, number, 0)
        sides = [
            {identify_person(name) for name in both.index["subject"][side]}
            for side in (fold.train, fold.test)
        ]
        assert not sides[0] & sides[1]
    assert splits.measure_overlap(faces, spelled(faces, {"drawn:s02": "drawn:2"}))["subjects"] == 6


def test_splits_of_ordinary_names_are_as_they_were():
    faces = people(range(1, 7), clips=1, frames=1, size=8)
    fold = splits.split(faces, "subject", 3, 0, 0)
    assert sorted(set(faces.index["subject"][fold.test])) == ["drawn:s02", "drawn:s04"]


def test_a_join_folds_spellings_within_a_dataset_and_keeps_equal_numbers_of_two_apart(
    tmp_path: Path,
):
    store = Store(tmp_path / "store")
    one = run_ingest("folder", folder(tmp_path / "a", ["7", "8", "7"]), store, size=8, name="a")
    two = run_ingest("folder", folder(tmp_path / "b", ["07", "9", "9"]), store, size=8, name="b")
    joined = Faces.load(joins.run_join(JoinSpec(faces=(one.name, two.name)), store).path)
    assert joined.subjects == ("a:7", "a:8", "b:07", "b:9")
    spec = JoinSpec(faces=(one.name, two.name), same_subject={"b:07": "a:7"})
    assert Faces.load(joins.run_join(spec, store).path).subjects == ("a:7", "a:8", "b:9")


def test_a_clip_goes_with_its_person(tmp_path: Path):
    root = folder(tmp_path / "faces", ["1", "01", "01"])
    text = (root / "metadata.csv").read_text(encoding="utf-8").splitlines()
    lines = [f"{line},{'clip' if not place else 'c1'}" for place, line in enumerate(text)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    faces = Faces.load(
        run_ingest("folder", root, Store(tmp_path / "store"), size=8, name="set").path
    )
    assert set(faces.index["clip"]) == {"set:01/c1"} and faces.subjects == ("set:01",)


def test_the_commonest_spelling_is_kept():
    known = identify_people({"S1": 2, "1": 5, "01": 5})
    assert set(known.names.values()) == {"1"} and known.folded == [("1", "01", "S1")]
