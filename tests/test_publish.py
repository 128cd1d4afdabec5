"""Releases: what is written, what is refused, and what a picture says of itself."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import drawn as drawn_faces
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from release_world import CHECK, PAGE, World, answer, audit, copycat, faces, overridden, world
from worlds import TINY_DIFFUSION, training_of

from mien.cli import main
from mien.errors import DataError, GateRefused, MienError, SpecError, StoreError, UsageError
from mien.faces import Faces, make_index
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.specs import GaussianSpec, TrainSpec
from mien.generators.train import train_generator
from mien.hashes import compute_perceptual_hash
from mien.ingest.run import run_ingest
from mien.prepare import joins
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec
from mien.publish import (
    card,
    checking,
    croissant,
    formats,
    gates,
    hub,
    marks,
    questions,
    registry,
    release,
)
from mien.publish.formats import ReleaseLayout
from mien.publish.marks import Mark
from mien.publish.origin import find_copies_of_real, trace_origin
from mien.publish.remake import regenerate
from mien.publish.signing import Signer
from mien.runs.files import hash_file
from mien.runs.spec import Spec
from mien.runs.store import Run, Store

ALL = "parquet,imagefolder,webdataset"
WHOLE: dict[str, Any] = {
    "image": "a",
    "run": "b",
    "seed": 1,
    "label": "c",
    "licence": "d",
    "pixels": "0" * 16,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def built(home: World) -> Path:
    return release.build("made", home.root / "release", home.store, home.answers, form=ALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def command(*arguments: str) -> int:
    """Run a command in this process, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mien", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


# What is written


def test_a_release_holds_what_it_must(built: Path):
    assert {str(path.relative_to(built)) for path in built.rglob("*") if path.suffix != ".png"} >= {
        *(
            "README.md",
            "DATASHEET.md",
            "croissant.json",
            "CITATION.cff",
            "LICENSE",
            "checksums.sha256",
        ),
        *(
            "registry.parquet",
            "data/train-00000-of-00001.parquet",
            "imagefolder/train/metadata.csv",
        ),
        *(
            "webdataset/train-000000.tar",
            "audit/audit.json",
            "audit/index.html",
            "provenance/lineage.json",
        ),
    }
    assert checking.check(built, libraries=False).counts == {"train": 24}


def test_two_builds_are_equal_byte_by_byte(home: World, built: Path, tmp_path: Path):
    again = release.build("made", tmp_path / "again", home.store, home.answers, form=ALL)
    assert contents(again) == contents(built)


def test_checksums_are_those_that_sha256sum_reads(built: Path):
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "checksums.sha256"],
        cwd=built,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_pandas_alone_reads_the_images(home: World, built: Path):
    table = pd.read_parquet(built / "data" / "train-00000-of-00001.parquet")
    made = Faces.load(home.made.path)
    assert list(table.columns) == list(formats.RELEASE_COLUMNS)
    for place, row in enumerate(table.to_dict("records")):
        picture = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert picture.mode == "L" and np.array_equal(np.asarray(picture), made.images[place, 0])
        assert made.classes[row["label"]] == made.index["emotion"][place]
        assert (
            row["seed"] == made.index["seed"][place]
            and row["pixels_sha256"] == made.index["sha256"][place]
        )


def test_parquet_has_small_groups_a_page_index_and_class_names(built: Path):
    file = pq.ParquetFile(built / "data" / "train-00000-of-00001.parquet")
    told = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert told["image"] == {"_type": "Image"}
    assert told["label"] == {"names": ["disgust", "fear", "happiness"], "_type": "ClassLabel"}
    column = file.metadata.row_group(0).column(2)
    assert column.has_offset_index and column.has_column_index


def test_groups_hold_a_hundred_rows(tmp_path: Path):
    rows = [
        dict.fromkeys(formats.RELEASE_COLUMNS) | {"image_id": f"fear-{n}", "label": 0}
        for n in range(250)
    ]
    formats.write_parquet(tmp_path / "x.parquet", rows, ["fear"])
    told = pq.read_metadata(tmp_path / "x.parquet")
    assert [told.row_group(n).num_rows for n in range(told.num_row_groups)] == [100, 100, 50]
    assert [row["image_id"] for row in formats.read_parquet(tmp_path / "x.parquet")] == [
        row["image_id"] for row in rows
    ]


def test_folders_and_shards_hold_the_same_files(built: Path):
    table = pd.read_parquet(built / "data" / "train-00000-of-00001.parquet")
    folder = built / "imagefolder" / "train"
    told = pd.read_csv(folder / "metadata.csv")
    assert list(told["image_id"]) == list(table["image_id"])
    assert [(folder / name).read_bytes() for name in told["file_name"]] == [
        row["bytes"] for row in table["image"]
    ]
    assert all(
        name.split("/")[0] == label
        for name, label in zip(told["file_name"], told["label"], strict=True)
    )


def test_no_folder_holds_more_than_hubs_take(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(formats, "MAX_FILES_PER_FOLDER", 5)
    (tmp_path / "data").symlink_to(built / "data")
    formats.write_imagefolder(ReleaseLayout(tmp_path), "train", ["disgust", "fear", "happiness"])
    folders = list((tmp_path / "imagefolder" / "train" / "happiness").iterdir())
    assert sorted(len(list(path.iterdir())) for path in folders) == [2, 5, 5]


def test_a_share_of_each_class_is_set_aside(home: World, tmp_path: Path):
    answer(tmp_path / "dataset.toml", home.store, "made", test_share="0.25")
    folder = release.build(
        "made", tmp_path / "out", home.store, tmp_path / "dataset.toml", form=ALL
    )
    told = json.loads((folder / "provenance" / "release.json").read_text())
    assert told["counts"] == {
        "train": {"disgust": 5, "fear": 4, "happiness": 9},
        "test": {"disgust": 2, "fear": 1, "happiness": 3},
    }
    assert checking.check(folder, libraries=False).counts == {"train": 18, "test": 6}
    ids = pd.concat([pd.read_parquet(path) for path in (folder / "data").iterdir()])["image_id"]
    assert len(set(ids)) == len(ids) == 24


def test_the_card_has_valid_yaml_with_true_numbers(built: Path):
    _, top, body = (built / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(top)
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"]
    assert head["dataset_info"]["splits"][0]["num_examples"] == 24
    table = pd.read_parquet(built / "data" / "train-00000-of-00001.parquet")
    assert head["dataset_info"]["splits"][0]["num_bytes"] == sum(
        len(row["bytes"]) for row in table["image"]
    )
    assert (
        "| 2 | happiness | 12 |" in body
        and "memorisation.copied.pixels" in body
        and "0 to 0.03" in body
    )


def test_every_answer_stands_in_the_documents(built: Path):
    for section in ("people", "uses", "care"):
        for name, value in json.loads((built / "provenance" / "answers.json").read_text())[
            section
        ].items():
            for document in ("README.md", "DATASHEET.md", "croissant.json"):
                there = value in (built / document).read_text()
                assert there or (
                    document == "croissant.json" and name in ("shown", "consent", "ethics")
                ), name


def test_the_datasheet_lists_the_numbers_of_the_classes(built: Path):
    text = (built / "DATASHEET.md").read_text(encoding="utf-8")
    assert "**How many are there?** 24: disgust 7, fear 5, happiness 12." in text


def test_words_never_say_what_a_person_feels(built: Path):
    for name in ("README.md", "DATASHEET.md"):
        text = " ".join((built / name).read_text().split())
        assert "never say what a person feels" in text and "Article 5(1)(f)" in text
        assert not re.search(r"emotion(s)? of (the|a) person|emotion label|feels (happy|sad)", text)


def test_the_citation_and_the_licence_name_what_they_must(built: Path):
    cited = yaml.safe_load((built / "CITATION.cff").read_text())
    assert cited["authors"] == [
        {"family-names": "Doe", "given-names": "Jane"},
        {"name": "A Laboratory"},
    ]
    assert cited["license"] == "CC-BY-4.0" and cited["date-released"] == "2026-11-25"
    licence = (built / "LICENSE").read_text()
    assert (
        "https://creativecommons.org/licenses/by/4.0/" in licence
        and "photos: CC0 1.0" in licence.replace(" (photos)", "")
    )


def test_croissant_has_every_field_and_true_digests(built: Path):
    told = json.loads((built / "croissant.json").read_text())
    assert told["conformsTo"][0].endswith("/1.1") and told["rai:hasSyntheticData"] is True
    assert all(told[f"rai:{name}"] for name in croissant.RAI_FIELDS) and told["prov:wasDerivedFrom"]
    path = built / told["distribution"][0]["contentUrl"]
    assert told["distribution"][0]["sha256"] == hash_file(path)


def test_what_machines_are_called_and_who_ran_them_stays_here(built: Path):
    text = "".join(path.read_text() for path in (built / "provenance").iterdir())
    assert "pytest" not in text and str(Path.cwd()) not in text and '"machine"' not in text


def test_forms_are_named_or_told():
    assert formats.parse_formats("webdataset") == (
        "parquet",
        "webdataset",
    ) and formats.parse_formats("parquet") == ("parquet",)
    with pytest.raises(UsageError, match="Did you mean 'imagefolder'"):
        formats.parse_formats("imagefolders")


# Questions


def test_the_first_build_asks_and_builds_nothing(home: World, tmp_path: Path):
    with pytest.raises(UsageError, match=r"uses\.biases: Which biases") as asked:
        release.build("made", tmp_path / "out", home.store, tmp_path / "dataset.toml")
    assert not (tmp_path / "out").exists()
    told = tomllib.loads((tmp_path / "dataset.toml").read_text())
    assert (
        told["dataset"]["name"] == "made" and told["dataset"]["licence"] == "cc0-1.0"
    )  # what the store knows
    assert "dataset.licence:" not in str(asked.value)


def test_open_questions_are_listed_by_name(home: World, tmp_path: Path):
    text = home.answers.read_text()
    text = text.replace('"What a person says about biases."', '" "')
    text = text.replace('"What a person says about impact."', '"[More Information Needed]"')
    (tmp_path / "dataset.toml").write_text(text)
    with pytest.raises(UsageError) as told:
        release.build("made", tmp_path / "out", home.store, tmp_path / "dataset.toml")
    assert re.findall(r"^  ([a-z.]+):", str(told.value), re.MULTILINE) == [
        "uses.biases",
        "uses.impact",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version = "1.0.0"', 'version = "1"', "three numbers"),
        ('date = "2026-11-25"', 'date = "tomorrow"', "must be a day"),
        ('licence = "cc-by-4.0"', 'licence = "cc-by-40"', "Did you mean 'cc-by-4.0'"),
        ('licence = "cc-by-4.0"', 'licence = "other"', "dataset.licence_text"),
        ("test_share = 0.0", "test_share = 0.9", "0.5 or less"),
        ('name = "drawn-faces"', 'name = "../drawn"', "letters, digits"),
        ("[uses]", "[usage]", "Did you mean 'uses'"),
        ("conditions = []", 'conditions = ["nice"]', "must be among"),
    ],
)
def test_wrong_answers_are_told(home: World, tmp_path: Path, old: str, new: str, said: str):
    assert old in home.answers.read_text()
    (tmp_path / "dataset.toml").write_text(home.answers.read_text().replace(old, new))
    with pytest.raises(UsageError, match=re.escape(said)):
        release.build("made", tmp_path / "out", home.store, tmp_path / "dataset.toml")


def test_a_licence_of_ones_own_brings_its_text(home: World, tmp_path: Path):
    more = {
        "licence": '"other"',
        "licence_name": '"Ours"',
        "licence_text": '"Do good."',
        "conditions": '["by", "nc"]',
    }
    answer(tmp_path / "dataset.toml", home.store, "made", **more)
    folder = release.build("made", tmp_path / "out", home.store, tmp_path / "dataset.toml")
    assert (
        "Do good." in (folder / "LICENSE").read_text()
        and "no commercial use" in (folder / "LICENSE").read_text()
    )
    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (head["license"], head["license_name"], head["license_link"]) == (
        "other",
        "Ours",
        "LICENSE",
    )
    assert checking.check(folder, libraries=False)


# Gates


def shut(caught: pytest.ExceptionInfo[GateRefused]) -> list[str]:
    return re.findall(r"^  ([a-z]+):", str(caught.value), re.MULTILINE)


def outcomes(folder: Path) -> dict[str, str]:
    return {
        one["gate"]: one["outcome"]
        for one in json.loads((folder / "provenance" / "gates.json").read_text())
    }


@pytest.fixture(scope="module")
def restricted(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Faces that are called CASME II, with a person who must not be shown, under a licence nobody
    may give them.
    """
    root = tmp_path_factory.mktemp("restricted")
    return world(root, name="casme2", licence="CC0 1.0", subject_pattern="(subj[0-9]+)_")


def test_what_is_restricted_stays_in(restricted: World, tmp_path: Path):
    with pytest.raises(GateRefused) as caught:
        release.build("made", tmp_path / "out", restricted.store, restricted.answers)
    assert shut(caught) == ["sources", "licence"] and caught.value.exit_code == 3
    assert "no commercial use" in str(caught.value) and not (tmp_path / "out").exists()


def test_what_is_not_known_is_built_in_private_and_says_so(restricted: World, tmp_path: Path):
    folder = release.build(
        "made", tmp_path / "out", restricted.store, restricted.answers, private=True
    )
    assert outcomes(folder)["sources"] == "private"
    assert (
        "not to be passed on" in (folder / "README.md").read_text()
        and "Private build" in (folder / "LICENSE").read_text()
    )
    assert checking.check(folder, libraries=False)
    with pytest.raises(GateRefused, match="built with --private"):
        hub.push(folder, "me/faces", "gated", dry_run=True)


def test_a_restricted_set_suggests_its_own_conditions(restricted: World, tmp_path: Path):
    told = questions.suggest_answers(trace_origin("made", restricted.store), "made")
    assert told["licence"] == "other" and told["conditions"] == [
        "by",
        "nc",
        "research",
        "agreement",
    ]


def test_an_override_is_printed_in_the_card(restricted: World, tmp_path: Path):
    text = overridden(restricted, "sources", tmp_path / "dataset.toml").read_text()
    text += text[text.index("\n[[override]]") :].replace('"sources"', '"licence"')
    (tmp_path / "dataset.toml").write_text(text)
    folder = release.build("made", tmp_path / "out", restricted.store, tmp_path / "dataset.toml")
    card_text = (folder / "README.md").read_text()
    assert outcomes(folder)["sources"] == outcomes(folder)["licence"] == "overridden"
    assert "by Jane Doe on 2026-11-20: The owners agreed to this in a letter to us." in card_text
    assert "Reference: letter 17/2026." in card_text


@pytest.mark.parametrize(
    "change",
    [
        ('reason = "The owners agreed to this in a letter to us."', 'reason = ""'),
        ('reason = "The owners agreed to this in a letter to us."', 'reason = "because"'),
        ('by = "Jane Doe"', 'by = ""'),
        ('date = "2026-11-20"', 'date = "soon"'),
        ('reference = "letter 17/2026"\n', ""),
        ('gate = "sources"', 'gate = "real"'),
    ],
)
def test_an_override_needs_a_reason_a_person_a_day_and_a_reference(
    restricted: World, tmp_path: Path, change: tuple[str, str]
):
    path = overridden(restricted, "sources", tmp_path / "dataset.toml")
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(SpecError, match="override"):
        release.build("made", tmp_path / "out", restricted.store, path)


def test_a_set_whose_derived_data_must_not_be_passed_on_is_not_even_built_in_private(
    tmp_path: Path,
):
    forbidden = world(tmp_path / "w", name="raf-db")
    with pytest.raises(GateRefused) as caught:
        release.build("made", tmp_path / "out", forbidden.store, forbidden.answers, private=True)
    assert shut(caught) == ["sources"]


def test_a_withdrawn_set_is_refused(tmp_path: Path):
    gone = world(tmp_path / "w", name="ms-celeb-1m")
    with pytest.raises(GateRefused, match="withdrawn by its owner"):
        release.build("made", tmp_path / "out", gone.store, gone.answers, private=True)


def test_people_who_must_not_be_shown_are_found(tmp_path: Path):
    store = Store(tmp_path / "store")
    folder = tmp_path / "photos"
    faces(folder, store)
    for path in list(folder.rglob("subj01_*.png")):
        path.rename(path.with_name(path.name.replace("subj01_", "sub12_")))
    real = faces_again(folder, store)
    made = drawn(store, real.name)
    found = gates.list_gates(trace_origin(made, store), questions.Answers(), [])
    told = {one.name: one for one in found}
    assert not told["subjects"].open and "1 of casme2" in told["subjects"].text


def faces_again(folder: Path, store: Store) -> Run:
    return run_ingest(
        "folder", folder, store, name="casme2", size=16, subject_pattern="(subj?[0-9]+)_", workers=1
    )


def drawn(store: Store, real: str) -> str:
    generator = train_generator(GaussianSpec(faces=real), store)
    return generate_database(order_database(generator, "only,fear=3", store), store).name


def test_without_an_audit_nothing_is_published(home: World, tmp_path: Path):
    other = drawn(home.store, home.real.name)
    answer(tmp_path / "dataset.toml", home.store, other)
    with pytest.raises(GateRefused, match="was not audited") as caught:
        release.build(other, tmp_path / "out", home.store, tmp_path / "dataset.toml")
    assert shut(caught) == ["audit"]
    folder = release.build(
        other, tmp_path / "out", home.store, tmp_path / "dataset.toml", private=True
    )
    assert not (folder / "audit").exists() and "Not audited." in (folder / "README.md").read_text()
    assert checking.check(folder, libraries=False)


@pytest.mark.parametrize(
    ("verdict", "told", "passes"),
    [
        ("pass", {}, True),
        ("warn", {}, True),
        ("fail", {}, False),
        ("pass", {"content": "0" * 64}, False),  # of another database under the same name
        ("certainly", {}, False),
        ("pass", {"checks": [{**CHECK, "verdict": "FAIL"}]}, False),
        (
            "pass",
            {"questions": [{"title": "Is it new?", "verdict": "cannot tell", "why": "too few"}]},
            False,
        ),
    ],
)
def test_the_audit_must_have_passed_on_exactly_this(
    small: World, tmp_path: Path, verdict: str, told: dict[str, str], passes: bool
):
    reaudited(small, verdict, **told)
    if passes:
        assert release.build("made", tmp_path / "out", small.store, small.answers)
    else:
        with pytest.raises(GateRefused, match="audit"):
            release.build("made", tmp_path / "out", small.store, small.answers)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {
                "verdict": "cannot tell",
                "questions": [
                    {
                        "title": "Is it new?",
                        "verdict": "cannot tell",
                        "why": "1 person was held out",
                        "enough": "10 people",
                    }
                ],
            },
            r"Is it new\? 1 person was held out; enough would be 10 people",
        ),
        ({"verdict": "pass", "checks": []}, "it holds no check"),
        (
            {
                "verdict": "pass",
                "thresholds_changed": [
                    {
                        "metric": "labels.kept",
                        "field": "off",
                        "default": False,
                        "given": True,
                        "looser": True,
                    }
                ],
            },
            "looser than the default ones: labels.kept was removed",
        ),
        (
            {
                "verdict": "pass",
                "thresholds_changed": [
                    {
                        "metric": "labels.kept",
                        "field": "fail",
                        "default": 0.3,
                        "given": 0.1,
                        "looser": True,
                    }
                ],
            },
            "labels.kept: fail was 0.3, is 0.1",
        ),
    ],
)
def test_an_audit_that_could_not_tell_or_was_made_easier_opens_no_gate(
    small: World, tmp_path: Path, told: dict[str, Any], said: str
):
    reaudited(small, **told)
    with pytest.raises(GateRefused, match=said) as caught:
        release.build("made", tmp_path / "out", small.store, small.answers)
    assert shut(caught) == ["audit"]
    assert release.build("made", tmp_path / "private", small.store, small.answers, private=True)


def test_stricter_limits_are_fine(small: World, tmp_path: Path):
    stricter = {
        "metric": "labels.kept",
        "field": "fail",
        "default": 0.3,
        "given": 0.5,
        "looser": False,
    }
    reaudited(small, "pass", thresholds_changed=[stricter])
    assert release.build("made", tmp_path / "out", small.store, small.answers)


def test_an_audit_against_strangers_opens_no_gate_whatever_it_says(small: World, tmp_path: Path):
    """The store is asked whom the generator saw; more people than that are no fault."""
    (tmp_path / "others" / "fear").mkdir(parents=True)
    Image.fromarray(np.eye(16, dtype=np.uint8) * 200).save(
        tmp_path / "others" / "fear" / "subj05_0.png"
    )
    strangers = faces(tmp_path / "others", small.store, name="others")
    reaudited(small, "pass", train=strangers)
    with pytest.raises(
        GateRefused, match="lacks 120 of 120 images that the generators saw"
    ) as caught:
        release.build("made", tmp_path / "out", small.store, small.answers)
    assert shut(caught) == ["audit"]
    both = joins.run_join(JoinSpec(faces=(small.real.name, strangers.name)), small.store)
    reaudited(small, "pass", train=both)
    assert release.build("made", tmp_path / "out", small.store, small.answers)
    reaudited(small, "pass", train=strangers)
    shutil.rmtree(strangers.path)
    with pytest.raises(GateRefused, match="is not in the store any more"):
        release.build("made", tmp_path / "again", small.store, small.answers)


@pytest.mark.parametrize(
    ("times", "passes"),
    [
        ({"pass": "2026-11-02T10:00:00Z", "fail": "2026-11-01T10:00:00Z"}, True),
        ({"pass": "2026-11-01T10:00:00Z", "fail": "2026-11-02T10:00:00Z"}, False),
        (
            {"pass": "2026-11-02T10:00:00Z", "fail": "2026-11-02T10:00:00Z"},
            False,
        ),  # cannot be told apart
        ({"pass": "2026-11-02T10:00:00Z", "fail": None}, False),
        ({"pass": None, "fail": None}, False),
        (
            {
                "pass": "2026-11-02T10:00:00Z",
                "warn": "2026-11-02T10:00:00Z",
                "fail": "2026-10-02T10:00:00Z",
            },
            True,
        ),
    ],
)
@pytest.mark.parametrize("touched", ["pass", "fail"])
def test_the_newest_audit_decides_by_what_runs_record_and_no_touch_of_a_file_changes_that(
    small: World, tmp_path: Path, times: dict[str, str | None], passes: bool, touched: str
):
    reaudited(small, "pass")
    small.store.remove(next(name for name in small.store.list_names() if name.startswith("audit-")))
    for number, (verdict, made) in enumerate(times.items()):
        run = audit(
            small.store, small.real, small.made, verdict, thresholds={f"labels.{number}": {}}
        )
        about = json.loads((run.path / "about.json").read_text())
        (run.path / "about.json").write_text(
            json.dumps({**about, "made": made} if made else {"seconds": 1})
        )
        if verdict == touched:
            later = time.time() + 1000
            os.utime(run.path / "manifest.json", (later, later))
    if passes:
        assert release.build("made", tmp_path / "out", small.store, small.answers)
    else:
        with pytest.raises(GateRefused, match="says fail"):
            release.build("made", tmp_path / "out", small.store, small.answers)


def test_a_page_with_pictures_stays_in(small: World, tmp_path: Path):
    reaudited(small, "pass", page=PAGE.replace("<p>", '<img src="worst.png"><p>'))
    folder = release.build("made", tmp_path / "out", small.store, small.answers)
    assert [path.name for path in (folder / "audit").iterdir()] == ["audit.json"]
    assert not list(folder.rglob("worst.png"))


def reaudited(small: World, verdict: str, **told: Any) -> None:
    """Put another audit in the place of those that are there."""
    for name in small.store.list_names():
        if name.startswith("audit-"):
            small.store.remove(name)
    audit(small.store, small.real, small.made, verdict, **told)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose audits come and go."""
    return world(tmp_path_factory.mktemp("small"))


def test_a_copycat_is_never_published(home: World, tmp_path: Path):
    made = copycat(home)
    answer(tmp_path / "dataset.toml", home.store, made.name)
    with pytest.raises(GateRefused, match="copycat"):
        release.build(
            made.name, tmp_path / "out", home.store, tmp_path / "dataset.toml", private=True
        )


def test_what_approaches_every_training_image_needs_an_answer_of_the_audit_on_copies(
    home: World, tmp_path: Path
):
    """No written reason opens the gate, and no private build; an answer does, whatever it is."""
    store, out = home.store, tmp_path / "out"
    generator = train_generator(training_of("imle", faces=home.real.name), store, device="cpu")
    made = generate_database(order_database(generator, "only,disgust=3,fear=3", store), store)
    answers = tmp_path / "dataset.toml"
    answer(answers, store, made.name)
    with pytest.raises(GateRefused) as caught:
        release.build(made.name, out, store, answers, private=True)
    assert shut(caught) == ["memorisation"]
    assert "No reason opens this gate" in str(caught.value)

    # An audit that could not tell whether the images are copies answers nothing
    reason = (
        'reason = "All faces are drawn."\nby = "Jane Doe"\ndate = "2026-11-20"\n'
        'reference = "the minutes of 2026-11-19"\n'
    )
    opened = tmp_path / "opened.toml"
    opened.write_text(f'{answers.read_text()}\n[[override]]\ngate = "audit"\n{reason}')
    unsure = [{**CHECK, "verdict": "cannot tell"}, {**CHECK, "name": "memorisation.exact"}]
    audit(store, home.real, made, "cannot tell", checks=unsure)
    with pytest.raises(GateRefused) as caught:
        release.build(made.name, out, store, opened)
    assert shut(caught) == ["memorisation"]
    named = tmp_path / "named.toml"
    named.write_text(f'{answers.read_text()}\n[[override]]\ngate = "memorisation"\n{reason}')
    with pytest.raises(SpecError, match="gate"):
        release.build(made.name, out, store, named)

    # With an answer, the gate of the audit decides; the release says so, and is checked for it
    limits = {"labels.kept": {}}
    audit(store, home.real, made, "fail", thresholds=limits)
    with pytest.raises(GateRefused) as caught:
        release.build(made.name, out, store, answers)
    assert shut(caught) == ["audit"]
    folder = release.build(made.name, out, store, opened)
    assert outcomes(folder)["memorisation"] == "passed"
    assert checking.check(folder, libraries=False)

    # A release without the decision is found
    path = folder / "provenance" / "gates.json"
    decisions = json.loads(path.read_text())
    path.write_text(json.dumps([one for one in decisions if one["gate"] != "memorisation"]))
    with pytest.raises(DataError, match="the gate memorisation must be passed"):
        checking.check(folder, libraries=False)


def test_a_real_image_in_a_database_is_found(tmp_path: Path):
    one = world(tmp_path / "w")
    for path in (
        tmp_path / "w" / "photos" / "fear"
    ).iterdir():  # one picture only: a Gaussian of it is that picture
        if path.name != "subj01_0.png":
            path.unlink()
    real = faces_of(tmp_path / "w" / "photos", one.store)
    made = drawn(one.store, real)
    answer(tmp_path / "dataset.toml", one.store, made)
    with pytest.raises(
        GateRefused, match="are copies of one, also if resized, mirrored or moved: fear-00000"
    ):
        release.build(made, tmp_path / "out", one.store, tmp_path / "dataset.toml", private=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mirrored", [False, True], ids=["as it is", "mirrored"])
def test_a_copy_is_found_after_all_that_was_done_to_the_picture(tmp_path: Path, mirrored: bool):
    store, made = database_of_copies(tmp_path)
    if mirrored:
        drawn_once = made
        made = store.make(
            One(faces=made.name, mirrored=True), lambda out, scratch: turned(drawn_once, out)
        )
    refuse_two_copies(tmp_path, store, made)


@pytest.mark.parametrize("how", [{"size": 9}, {"input": ("lbp",)}, {"input": ("hog",), "size": 32}])
def test_neither_a_small_size_nor_a_filter_hides_a_copy(tmp_path: Path, how: dict[str, Any]):
    store, made = database_of_copies(tmp_path)
    refuse_two_copies(
        tmp_path, store, run_preprocess(PreprocessSpec(faces=made.name, **how), store)
    )


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_is_found_whichever_way_it_lies(quarters: int, mirrored: bool):
    real, others = (
        drawn_faces.people(range(*span), clips=1, frames=1, size=48) for span in ((0, 6), (60, 66))
    )
    shown = np.concatenate([real.images[:4], others.images[4:]])
    lying = np.rot90(shown[:, :, :, ::-1] if mirrored else shown, quarters, (2, 3))
    index = make_index(
        lying, key=[f"made/{k}" for k in range(len(lying))], emotion="fear", source="made"
    )
    assert set(find_copies_of_real(Faces(lying, index), real)) == {f"made/{k}" for k in range(4)}


def database_of_copies(root: Path) -> tuple[Store, Run]:
    """Return a store with a database of two images, both of them pictures that were ingested and
    made smaller.
    """
    store = Store(root / "store")
    everyone = drawn_faces.people(range(5), clips=1, frames=1, size=48)
    for number, row in enumerate(everyone.index.to_dict("records")):
        path = root / "photos" / row["emotion"] / f"{str(row['subject'])[-3:]}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(everyone.images[number][0]).save(path)
    options: dict[str, Any] = {
        "size": 48,
        "subject_pattern": "(s[0-9]+)_",
        "licence": "CC0 1.0",
        "name": "photos",
    }
    read = run_ingest("folder", root / "photos", store, workers=1, **options)
    small = run_preprocess(PreprocessSpec(faces=read.name, size=40), store)
    first = ~Faces.load(small.path).index["emotion"].duplicated().to_numpy()
    one = store.make(
        One(faces=small.name), lambda out, scratch: Faces.load(small.path).select(first).save(out)
    )
    generator = train_generator(GaussianSpec(faces=one.name), store)
    return store, generate_database(
        order_database(generator, "only,disgust=1,happiness=1", store), store
    )


def refuse_two_copies(root: Path, store: Store, made: Run) -> None:
    answer(root / "dataset.toml", store, made.name)
    with pytest.raises(GateRefused, match="2 images of it are copies of one"):
        release.build(made.name, root / "out", store, root / "dataset.toml", private=True)
    assert not (root / "out").exists()


class One(Spec):
    """Some pictures of a set, mirrored or not: what a tool of somebody else may have done to
    them.
    """

    stage: ClassVar[str] = "some"
    faces: str
    mirrored: bool = False


def turned(run: Run, out: Path) -> None:
    found = Faces.load(run.path)
    images = np.ascontiguousarray(found.images[..., ::-1])
    index = found.index.assign(
        sha256=[hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    )
    dataclasses.replace(found, images=images, index=index).save(out)


def faces_of(folder: Path, store: Store) -> str:
    options: dict[str, Any] = {"size": 16, "subject_pattern": "(subj[0-9]+)_", "licence": "CC0 1.0"}
    return run_ingest("folder", folder, store, name="photos", workers=1, **options).name


@pytest.mark.parametrize(
    "told", ["the face of photos:subj01", "like subj03 in the studio", "photos/fear/subj01_0.png"]
)
def test_no_subject_may_be_named(home: World, tmp_path: Path, told: str):
    answer(tmp_path / "dataset.toml", home.store, "made", keywords=json.dumps([told]))
    with pytest.raises(GateRefused, match="no subject may be named"):
        release.build("made", tmp_path / "out", home.store, tmp_path / "dataset.toml")


def test_real_faces_are_no_synthetic_database(home: World, tmp_path: Path):
    with pytest.raises(UsageError, match="holds real images"):
        release.build(home.real.name, tmp_path / "out", home.store, home.answers)
    assert (
        command(
            "publish",
            "build",
            home.real.name,
            "--out",
            str(tmp_path / "x"),
            "--store",
            str(home.store.root),
        )
        == 2
    )


def test_amplification_and_few_people_are_told(home: World):
    found = dataclasses.replace(trace_origin("made", home.store))
    assert found.classes["ratio"].tolist() == pytest.approx([7 / 40, 5 / 40, 12 / 40])
    assert any("4 people" in text for text in card.list_weak_points(found))


# Marks


def image(seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (channels, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mark_is_read_back_and_leaves_the_pixels_alone(channels: int):
    array = image(channels=channels)
    mark = Mark(
        "fear-00001",
        "generate-0123456789ab",
        2**62,
        "fear",
        "cc-by-4.0",
        marks.hash_pixels(array)[:16],
    )
    data = marks.encode_png(array, mark, "mien edm", "0.1.0")
    seen = marks.read_picture(data, "x")
    assert seen.mark == mark and seen.declared and seen.fits and np.array_equal(seen.image, array)
    assert marks.encode_png(array, mark, "mien edm", "0.1.0") == data


def test_xmp_says_it_in_the_words_of_iptc():
    text = marks.make_xmp_packet('mien "edm" <x>', "0.1.0")
    tree = ElementTree.fromstring(re.sub(r"<\?xpacket.*?\?>", "", text))
    found = next(tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")).attrib
    space = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    assert found[f"{space}DigitalSourceType"] == marks.SOURCE_TYPE
    assert (
        found[f"{space}AISystemUsed"] == 'mien "edm" <x>'
        and found[f"{space}AISystemVersionUsed"] == "0.1.0"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "{" * 10**5,
        '{"image": 1}',
        json.dumps({**WHOLE, "seed": True}),
        json.dumps(WHOLE)[:-1],
    ],
)
def test_what_is_no_mark_is_none(text: str):
    assert marks.parse_mark(json.dumps(WHOLE)) == Mark(**WHOLE)
    assert marks.parse_mark(text) is None


def test_a_mark_costs_little(built: Path):
    bare = io.BytesIO()
    path = next((built / "imagefolder").rglob("*.png"))
    Image.fromarray(np.asarray(Image.open(path))).save(bare, "PNG")
    assert path.stat().st_size - len(bare.getvalue()) < 900


def saved(picture: Path, out: Path, **options: object) -> Path:
    Image.open(picture).convert("RGB" if options.pop("rgb", False) else "L").save(out, **options)  # pyright: ignore
    return out


@pytest.fixture
def picture(built: Path) -> Path:
    return built / "imagefolder" / "train" / "fear" / "000" / "fear-00003.png"


def test_a_picture_of_ours_is_known_by_its_mark(picture: Path, built: Path):
    assert (
        registry.identify(picture).from_this_release == "yes"
        and "fear-00003" in registry.identify(picture).text
    )
    assert registry.identify(picture, built).text.endswith("byte for byte")


def test_a_picture_without_its_mark_is_known_by_its_pixels(
    picture: Path, built: Path, tmp_path: Path
):
    for rgb in (False, True):
        bare = saved(picture, tmp_path / f"bare{rgb}.png", rgb=rgb)
        assert (
            registry.identify(bare).from_this_release == "no"
            and "--registry" in registry.identify(bare).text
        )
        known = registry.identify(bare, built)
        assert (known.from_this_release, known.image) == (
            "yes",
            "fear-00003",
        ) and "its mark is lost" in known.text


def test_a_picture_that_was_packed_with_losses_is_likely_ours(
    picture: Path, built: Path, tmp_path: Path
):
    known = registry.identify(saved(picture, tmp_path / "x.jpg", quality=95), built)
    assert (known.from_this_release, known.image) == (
        "likely",
        "fear-00003",
    ) and "no proof" in known.text


def test_a_mark_on_another_picture_is_not_believed(
    home: World, picture: Path, built: Path, tmp_path: Path
):
    stolen = marks.read_file(picture).mark
    assert stolen is not None
    photo = next((home.root / "photos").rglob("*.png"))
    forged = tmp_path / "forged.png"
    forged.write_bytes(marks.encode_png(marks.read_file(photo).image, stolen, "mien", "0"))
    assert (
        registry.identify(forged).from_this_release == "no"
        and "other pixels" in registry.identify(forged).text
    )
    # who forges it well
    own = dataclasses.replace(stolen, pixels=marks.read_file(photo).pixels[:16])
    forged.write_bytes(marks.encode_png(marks.read_file(photo).image, own, "mien", "0"))
    assert registry.identify(forged).from_this_release == "yes"  # by the mark alone
    assert registry.identify(forged, built).from_this_release != "yes"


def test_other_pictures_are_not_ours(home: World, built: Path, tmp_path: Path):
    noise = tmp_path / "noise.png"
    Image.fromarray(image(9)[0]).save(noise)
    assert registry.identify(noise, built).from_this_release == "no"
    assert command("verify", str(noise), "--registry", str(built)) == 2


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"x" * 99])
def test_what_is_no_picture_is_told(tmp_path: Path, data: bytes):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(DataError, match="must be an image"):
        registry.identify(tmp_path / "x.png")


def test_verify_says_whose_a_picture_is(
    home: World, picture: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place = ["--store", str(home.store.root)]
    assert command("verify", str(picture), *place) == 0
    assert "one of ours: marked: image fear-00003" in capsys.readouterr().out
    bare = saved(picture, tmp_path / "bare.png")
    assert command("verify", str(bare), *place) == 2
    assert command("verify", str(bare), "--registry", str(built), *place) == 0
    assert command("verify", "made", *place) == 0  # runs as before
    assert command("verify", "made", "--registry", str(built), *place) == 2
    assert command("verify", "missing.png", *place) == 2
    assert "must be a file that can be read" in capsys.readouterr().err


# Making an image again


@pytest.fixture(scope="module", params=["happiness-00007", "disgust-00000"])
def remade(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_an_image_is_made_again_byte_by_byte(home: World, built: Path, remade: str):
    made = regenerate(built, remade, home.store)
    path = next((built / "imagefolder").rglob(f"{remade}.png"))
    assert (
        made.bytes_equal
        and made.pixels_equal
        and made.data == path.read_bytes()
        and not made.reason
    )


def test_without_the_generator_it_says_so(built: Path, tmp_path: Path):
    with pytest.raises(StoreError, match=r"the generator generator-.* must be in .*, and is not"):
        regenerate(built, "fear-00000", Store(tmp_path / "empty"))


def test_an_image_that_is_not_there_is_told(home: World, built: Path):
    with pytest.raises(DataError, match=r"Did you mean 'fear-0000[0-9]'"):
        regenerate(built, "fear-0000", home.store)


def test_images_with_two_guidances_are_told_apart_and_made_again(home: World, tmp_path: Path):
    training = {**TINY_DIFFUSION, "faces": home.real.name, "images_seen": 96}
    generator = train_generator(TrainSpec.model_validate(training), home.store, device="cpu")
    order = order_database(
        generator, "only,fear=5", home.store, steps=2, guidance=2.1, guidance_mix=1.0
    )
    made = generate_database(order, home.store, device="cpu")
    audit(home.store, home.real, made)
    answers = tmp_path / "dataset.toml"
    answer(answers, home.store, made.name)
    folder = release.build(made.name, tmp_path / "release", home.store, answers)
    rows = list(formats.read_parquet(ReleaseLayout(folder).name_parquet("train")))
    assert {row["image_id"]: round(row["guidance"], 3) for row in rows} == {
        f"fear-{number:05d}": (2.1, 1.0)[number % 2] for number in range(5)
    }
    for number in (0, 3):
        again = regenerate(folder, f"fear-{number:05d}", home.store, "cpu")
        assert again.bytes_equal, again.reason
    assert "with guidance 2.1 and 1 in turn" in (folder / "README.md").read_text(encoding="utf-8")


def test_another_generator_under_the_same_name_is_not_taken(
    home: World, built: Path, tmp_path: Path
):
    folder = tmp_path / "release"
    shutil.copytree(built, folder)
    path = folder / "provenance" / "lineage.json"
    told = json.loads(path.read_text())
    next(one for one in told if one["run"].startswith("generator"))["content"] = "0" * 64
    path.write_text(json.dumps(told))
    with pytest.raises(StoreError, match="is not the generator that the release was made with"):
        regenerate(folder, "fear-00000", home.store)


def test_pixels_that_differ_are_explained(home: World, built: Path, tmp_path: Path):
    folder = tmp_path / "release"
    shutil.copytree(built, folder)
    rows = list(formats.read_parquet(ReleaseLayout(folder).name_parquet("train")))
    for row in rows:
        row["seed"] += 1
    formats.write_parquet(
        ReleaseLayout(folder).name_parquet("train"), rows, ["disgust", "fear", "happiness"]
    )
    made = regenerate(folder, "fear-00001", home.store)
    assert not made.pixels_equal and re.search(r"pixels differ by up to [0-9]+ of 255", made.reason)


def test_regenerate_writes_a_file(
    home: World, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / "again.png")
    arguments = (
        "regenerate",
        str(built),
        "--image",
        "fear-00002",
        "--out",
        out,
        "--store",
        str(home.store.root),
    )
    assert command(*arguments) == 0 and "byte by byte" in capsys.readouterr().out
    assert command(*arguments) == 2  # nothing is overwritten


# C2PA


def test_pictures_are_signed_last(home: World, tmp_path: Path):
    c2pa = pytest.importorskip(
        "c2pa", reason="c2pa-python is not installed: pip install 'mien[c2pa]'"
    )
    chain, key = certificate(tmp_path)
    signer = Signer(chain, key)
    folder = release.build(
        "made", tmp_path / "out", home.store, home.answers, form=ALL, signer=signer
    )
    path = next((folder / "imagefolder").rglob("fear-00000.png"))
    with c2pa.Reader("image/png", io.BytesIO(path.read_bytes())) as reader:
        told = json.loads(reader.json())
    manifest = told["manifests"][told["active_manifest"]]
    assert "trainedAlgorithmicMedia" in json.dumps(manifest) and "thumbnail" not in manifest
    assert path.stat().st_size < 9_000
    assert checking.check(folder, libraries=False)
    made = regenerate(folder, "fear-00000", home.store)
    assert made.pixels_equal and not made.bytes_equal and "signed with C2PA" in made.reason


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a chain of certificates of one's own, as no authority gave it, and its key."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    settings = folder / "openssl.cnf"
    settings.write_text(
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nO=mien tests\nCN=signer\n"
        "[ca]\nbasicConstraints=critical,CA:TRUE\n"
        "keyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n[leaf]\nbasicConstraints=critical,CA:FALSE\n"
        "keyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\nsubjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\n"
    )

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "leaf"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.raw")
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", f"{name}.raw", "-out", f"{name}.key")
    base = ("-config", "openssl.cnf")
    openssl(
        "req",
        "-x509",
        "-new",
        "-key",
        "ca.key",
        "-days",
        "99",
        "-out",
        "ca.pem",
        "-extensions",
        "ca",
        *base,
    )
    openssl("req", "-new", "-key", "leaf.key", "-out", "leaf.csr", *base)
    openssl(
        *(
            "x509",
            "-req",
            "-in",
            "leaf.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "99",
        ),
        *("-out", "leaf.pem", "-extfile", "openssl.cnf", "-extensions", "leaf"),
    )
    chain.write_text((folder / "leaf.pem").read_text() + (folder / "ca.pem").read_text())
    key.write_text((folder / "leaf.key").read_text())
    return chain, key


def test_a_certificate_that_is_none_is_told(tmp_path: Path):
    pytest.importorskip("c2pa", reason="c2pa-python is not installed: pip install 'mien[c2pa]'")
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(UsageError, match="certificate"):
        Signer(tmp_path / "x.pem", tmp_path / "x.pem")
    with pytest.raises(UsageError, match=r"there must be a PEM file at .*missing\.pem"):
        Signer(tmp_path / "missing.pem", tmp_path / "x.pem")


def test_the_registry_says_what_the_images_are(home: World, built: Path):
    table = registry.read_registry(built)
    made = Faces.load(home.made.path)
    assert list(table["pixels_sha256"]) == list(made.index["sha256"])
    assert [int(text, 16) for text in table["phash"]] == compute_perceptual_hash(
        np.asarray(made.images)
    ).tolist()


def test_errors_are_one_message(home: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place = ["--store", str(home.store.root), "--answers", str(home.answers)]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("x")
    assert command("publish", "build", "made", "--out", str(tmp_path / "taken"), *place) == 2
    assert (
        command(
            "publish", "build", "made", "--out", str(tmp_path / "x"), "--certificate", "x", *place
        )
        == 2
    )
    assert command("publish", "check", str(tmp_path)) == 2
    assert capsys.readouterr().err.count("mien: ") == 3
    assert issubclass(GateRefused, MienError)


HOSTILE = (
    "<script src=//e.example/x.js></script> & [free](https://e.example) "
    "![p](https://e.example/p.png) `{x}` | <b onclick=f()>"
)


def test_texts_of_others_do_nothing_in_the_documents(tmp_path: Path):
    one = world(tmp_path / "w", licence=HOSTILE)
    own = {
        name: json.dumps(HOSTILE)
        for name in ("title", "contact", "url", "paper", "licence_name", "description")
    }
    own |= {
        name: json.dumps(HOSTILE)
        for name in ("excluded", "biases", "shown", "maintenance", "licence_text")
    }
    listed = {
        "authors": json.dumps([HOSTILE, "=1+1"]),
        "keywords": json.dumps([HOSTILE]),
        "conditions": '["by"]',
    }
    answer(tmp_path / "dataset.toml", one.store, "made", **own, **listed, licence='"other"')
    folder = release.build(
        "made", tmp_path / "out", one.store, tmp_path / "dataset.toml", private=True
    )
    for name in ("README.md", "DATASHEET.md", "LICENSE", "CITATION.cff"):
        text = (folder / name).read_text()
        assert "e.example" in text and not re.search(r"<(?=[A-Za-z/!])", text), name
        if name.endswith(".md"):
            body = text.split("---\n")[-1].split("```bibtex")[0]
            assert not re.search(r"(?<!\\)\]\(", body), name
    assert checking.check(folder, libraries=False)
