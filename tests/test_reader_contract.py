"""What all readers keep, each shown on a tree in exactly its layout."""

import shutil
from pathlib import Path

import pytest
from trees import WRITERS, Tree

from mien.errors import DataError
from mien.faces import EMOTIONS, PHASES, Faces
from mien.ingest.emotions import LEFT_OUT
from mien.ingest.folders import look_at
from mien.ingest.reader import Listing
from mien.ingest.readers import READERS
from mien.ingest.run import (
    choose_reader,
    compute_fingerprint,
    describe_reader,
    run_ingest,
    scan_folder,
)
from mien.ingest.specs import IngestSpec
from mien.ingest.terms import find_terms
from mien.runs.spec import read_spec
from mien.runs.store import Store

each = pytest.mark.parametrize("name", list(READERS))


def spec_for(name: str, root: Path, **options: object) -> IngestSpec:
    given = {"reader": name, "dataset": "set", "fingerprint": "", "size": 16, **options}
    draft = read_spec(IngestSpec, given, "test")
    return draft.model_copy(
        update={"fingerprint": compute_fingerprint(scan_folder(draft, root), workers=1)}
    )


def listed(name: str, tree: Tree) -> Listing:
    return scan_folder(spec_for(name, tree.root, **tree.options), tree.root)


def where(listing: Listing, tree: Tree) -> list[str]:
    """What the listed images are called, relative to the tree."""
    top = listing.root.relative_to(tree.root.resolve())
    return [(top / name).as_posix() for name in listing.list_names()]


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in files
    }


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    """One tree for each reader; tests that change one copy it first."""
    return {
        name: write(tmp_path_factory.mktemp(name) / "release") for name, write in WRITERS.items()
    }


def test_every_reader_has_a_writer():
    assert set(WRITERS) == set(READERS)


@each
def test_a_reader_says_what_people_need_to_know(name: str):
    about = READERS[name].READER
    assert about.needs.startswith("FOLDER") and all((about.title, about.licence, about.obtain))
    assert about.generic or about.citation
    assert set(about.labels.values()) <= {*EMOTIONS, LEFT_OUT} and all(
        raw == raw.lower() for raw in about.labels
    )
    assert about.generic or about.labels
    assert set(about.options) <= set(IngestSpec.model_fields)
    said = dict(describe_reader(name))
    assert {"reader", "needs", "licence", "obtain", "label"} <= set(said)


@each
def test_the_owners_terms_are_known_by_every_name_of_the_set(name: str):
    about = READERS[name].READER
    assert (about.terms is None) == about.generic
    for known_name in (name, about.dataset, *about.other_names) if about.terms else ():
        assert find_terms("folder", known_name, "CC0 1.0", "CC0 1.0") == about.terms


@each
def test_terms_agree_with_the_licence(name: str):
    about = READERS[name].READER
    if "no redistribution" in about.licence:
        assert about.terms and about.terms.originals == "no"
        assert "agreement" in about.terms.conditions


@each
def test_each_image_is_read_with_its_subject_clip_and_emotion(name: str, trees: dict[str, Tree]):
    tree = trees[name]
    listing = listed(name, tree)
    rows = zip(*(listing.rows[column] for column in ("subject", "clip", "emotion")), strict=True)
    assert dict(zip(where(listing, tree), rows, strict=True)) == tree.images


@each
def test_rows_are_whole(name: str, trees: dict[str, Tree]):
    listing = listed(name, trees[name])
    rows = listing.rows
    assert rows["key"].is_unique and len(set(listing.list_names())) == len(rows)
    assert set(rows["phase"]) <= {*PHASES, ""} and all(rows["raw_label"])
    for clip, images in rows.groupby("clip"):
        if clip:
            assert (
                images["frame"].is_monotonic_increasing and images["frame"].is_unique
            )  # 9 before 10
            assert images["phase"].value_counts().get("apex", 0) <= 1
            assert images["subject"].nunique() == images["emotion"].nunique() == 1
            assert (
                str(clip).startswith(f"{images['subject'].iloc[0]}/")
                or not images["subject"].iloc[0]
            )
        else:
            assert set(images["phase"]) == {"still"}


@each
def test_what_is_odd_is_reported_and_names_no_place_outside_the_folder(
    name: str, trees: dict[str, Tree]
):
    findings = listed(name, trees[name]).findings
    assert trees[name].findings <= {finding.kind for finding in findings}
    assert not [
        finding
        for finding in findings
        if str(trees[name].root.parent) in f"{finding.where} {finding.what}"
    ]


@each
def test_a_folder_is_only_read(name: str, trees: dict[str, Tree], tmp_path: Path):
    before = snapshot(trees[name].root)
    made = run_ingest(name, trees[name].root, Store(tmp_path), size=16, **trees[name].options)
    assert snapshot(trees[name].root) == before
    assert len(Faces.load(made.path)) == len(trees[name].images)
    assert made.read_json("summary.json")["citation"] == READERS[name].READER.citation


@each
def test_the_layout_is_recognised_and_taken_for_no_other(name: str, trees: dict[str, Tree]):
    found, reason = choose_reader(trees[name].root)
    assert found == name and reason


@each
def test_other_folders_are_not_recognised(name: str, tmp_path: Path):
    assert READERS[name].recognise(look_at(tmp_path)) is None
    for path in ("photos/2019/img1.jpg", "notes.txt", "table.xlsx"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    assert READERS[name].recognise(look_at(tmp_path)) is None


@each
def test_an_empty_folder_says_what_is_needed(name: str, tmp_path: Path):
    needs = READERS[name].READER.needs.removeprefix("FOLDER with ")
    with pytest.raises(DataError) as error:
        spec_for(name, tmp_path)
    assert needs in str(error.value) and str(tmp_path) in str(error.value)


@each
def test_the_fingerprint_is_of_content_and_not_of_place(
    name: str, trees: dict[str, Tree], tmp_path: Path
):
    tree = trees[name]
    moved = shutil.copytree(tree.root, tmp_path / "elsewhere" / "copy")
    assert spec_for(name, moved, **tree.options) == spec_for(name, tree.root, **tree.options)


def test_a_folder_of_no_layout_is_told_where_to_look(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        DataError, match=r"must have the layout of a dataset .* found: photos\. `mien readers`"
    ):
        choose_reader(tmp_path)
