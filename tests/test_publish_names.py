"""Nobody's name leaves: whatever it looks like, wherever it could stand, and without alarms where
there is none.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from release_world import World, answer, world

from mien.errors import GateRefused, UsageError
from mien.publish import checking, lineage, release
from mien.publish.name_search import collect_names, walk_texts
from mien.publish.origin import trace_origin


def found(subject: str, text: str, clip: str = "", key: str = "", free: bool = True) -> bool:
    row = (
        "set",
        f"set:{subject}" if subject else "",
        f"set:{clip}" if clip else "",
        f"set/{key}" if key else "",
    )
    return bool(collect_names([row]).find(text, free))


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("OlgaP", "faces of olgap"),
        ("OlgaP", "Olga P."),
        ("Søren", "after SØREN"),
        ("Jürgen", "Ju\u0308rgen's face"),
        ("q_02", "as in q-02"),
        ("q_02", "Q02"),
        ("person-11", "Person 11"),
        ("T 04", "T04 and others"),
        ("t4", "the one t4"),
        ("eva", "after Eva"),
        ("K2", "k2 is best"),
        ("09", "subject 9"),
        ("09", "Participant No. 09 and subj09"),
        ("3", "S03 smiles"),
        ("Maria Lopez", "thanks to Maria Lopez"),
        ("Maria Lopez", "Lopez, Maria"),
        ("Maria Lopez", "of Lopez alone"),
        ("MariaLopez", "maria_lopez"),
        ("B", "subject B"),
        ("Will", ("we thank Will for it")),
        ("山田", "山田 さん"),
        ("Zoë", "zoe's"),
        ("Zoë", "Zoe&#x308; is here"),
        ("vp77", "files/vp77-x"),
        ("Ekaterina", "photosOfEkaterina"),
        ("Jürgen", "J%C3%BCrgen"),
    ],
)
def test_a_subject_is_found_however_it_is_written(subject: str, text: str):
    assert found(subject, text)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("07", "published on 2026-07-02, version 1.0.7, 07:30"),
        ("21", "21 people, aged 21 to 40, subjects of both sexes"),
        ("1", "1 of 3 classes; ISO 1"),
        ("Will", "Will it work? It will."),
        ("A", "A face that a machine drew"),
        ("fear", "12 images of fear"),
        ("test", "a test on it"),
        ("s1", "as1, s12, ss1"),
        ("p_01", "p_011"),
        ("OlgaP", "Olga Petrowna"),
        ("Mark", "a mark; Mark it. Marks are gone"),
        ("anger", "subjects of anger"),
    ],
)
def test_what_is_no_name_is_none(subject: str, text: str):
    assert not found(subject, text)


@pytest.mark.parametrize("text", ["EP07_13g", "ep07-13g", "in ep07 13g", "DSC_4412.jpg", "dsc4412"])
def test_clips_and_files_are_names_too(text: str):
    assert found("", text, clip="sub44/EP07_13g", key="sub44/EP07_13g/DSC_4412.jpg")


def test_short_names_do_not_alarm_in_what_mien_wrote():
    assert not found("k2", "k2", free=False) and not found("B", "subject B", free=False)
    assert found("Ingrid", "Ingrid", free=False)


def test_fields_of_people_are_read_as_such():
    known = collect_names([("set", "set:12", "", "")])
    told = {"n": 12, "person": 12, "rows": [{"subject": "012"}], "12": 1}
    assert [key for key, value in walk_texts(told) if known.find_in_field(key, value)] == [
        "person",
        "subject",
    ]


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A set that nobody named, whose folder and options name people."""
    root = tmp_path_factory.mktemp("secret")
    options: dict[str, Any] = {
        "name": None,
        "subject_pattern": "(subj[0-9]+|OlgaPetrowna|Ignatius)_",
        "clip_pattern": "_(Ekaterina|[0-9]+)",
        "map": {"fear": "fear"},
    }
    return world(root, folder="patients-of-dr-lindqvist", **options)


SECRETS = ("OlgaPetrowna", "Ignatius", "Ekaterina", "lindqvist", "subj0", "patients")


def everything(folder: Path) -> str:
    said = [
        path.read_bytes().decode("latin-1") for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    tables = [pd.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))]
    return "\n".join(
        [*said, *(table.to_string() for table in tables), *map(str, folder.rglob("*"))]
    )


def test_the_name_of_a_folder_is_asked_for_before_it_leaves(secret: World, tmp_path: Path):
    with pytest.raises(
        UsageError, match=r"sources\.ingest-[0-9a-f]{12}: The name of this source for others"
    ):
        release.build("made", tmp_path / "out", secret.store, secret.answers)
    told = tomllib.loads(secret.answers.read_text())
    assert list(told["sources"]) == [secret.real.name]


def test_nothing_that_was_typed_or_named_stands_in_a_release(secret: World, tmp_path: Path):
    text = secret.answers.read_text().replace(
        f'{secret.real.name} = ""', f'{secret.real.name} = "Clinic faces (2025)"'
    )
    (tmp_path / "dataset.toml").write_text(text)
    folder = release.build(
        "made",
        tmp_path / "out",
        secret.store,
        tmp_path / "dataset.toml",
        form="parquet,imagefolder,webdataset",
    )
    said = everything(folder).lower()
    assert not [one for one in SECRETS if one.lower() in said] and "clinic faces (2025)" in said
    spec = next(
        one
        for one in json.loads((folder / lineage_file).read_text())
        if one["run"] == secret.real.name
    )
    assert spec["left_out"] == ["clip_pattern", "licence", "map", "subject_pattern"]
    assert checking.check(folder, libraries=False)


lineage_file = "provenance/lineage.json"


def test_a_private_build_gives_such_a_source_a_number(secret: World, tmp_path: Path):
    folder = release.build(
        "made", tmp_path / "out", secret.store, tmp_path / "none.toml", private=True
    )
    said = everything(folder).lower()
    assert not [one for one in SECRETS if one.lower() in said] and "source 1" in said


def test_what_lineage_tells_is_named_field_by_field(secret: World):
    run = trace_origin("made", secret.store).lineage[0]
    told = lineage.make_lineage_entry(run, {run.name: "x"})
    assert (
        set(told["spec"]) <= lineage.STATED_SPEC_FIELDS | {"dataset"}
        and told["spec"]["dataset"] == "x"
    )
    assert (
        not lineage.is_own_value("Olga")
        and not lineage.is_own_value({"Olga": 1})
        and not lineage.is_own_value(["a b"])
    )


@pytest.mark.parametrize("place", ["excluded", "contact", "keywords", "authors"])
@pytest.mark.parametrize("text", ["as subj 03 does", "SUBJ-03", "Subj03&nbsp;"])
def test_answers_name_nobody(secret: World, tmp_path: Path, place: str, text: str):
    value = json.dumps([text] if place in ("keywords", "authors") else text)
    answer(
        tmp_path / "dataset.toml",
        secret.store,
        "made",
        **{place: value, secret.real.name: '"clinic"'},
    )
    with pytest.raises(GateRefused, match="no subject may be named"):
        release.build("made", tmp_path / "out", secret.store, tmp_path / "dataset.toml")
    assert not (tmp_path / "out").exists()


# Without answers


def test_a_private_build_needs_no_answers_and_marks_what_is_unanswered(
    secret: World, tmp_path: Path
):
    folder = release.build(
        "made", tmp_path / "out", secret.store, tmp_path / "none.toml", private=True
    )
    assert not (tmp_path / "none.toml").exists()
    for name in ("README.md", "DATASHEET.md"):
        assert "[unanswered]" in (folder / name).read_text()
    assert checking.check(folder, libraries=False)
    told = json.loads((folder / "provenance" / "answers.json").read_text())
    assert told["people"]["consent"] == "[unanswered]" and told["dataset"]["name"] == "made"


def test_a_public_build_still_needs_them_and_says_where_they_go(secret: World, tmp_path: Path):
    path = tmp_path / "deep" / "dataset.toml"
    with pytest.raises(UsageError, match="must be a file that can be written"):
        release.build("made", tmp_path / "out", secret.store, path)
    path.parent.mkdir()
    with pytest.raises(UsageError, match=rf"{path} was written.* questions are open"):
        release.build("made", tmp_path / "out", secret.store, path)
    text = path.read_text()
    assert "patients-of-dr-lindqvist" in text  # which the user may see
