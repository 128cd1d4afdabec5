"""A reviewer with plain folders: the audit and the leakage of them, without a store, patterns or
held-out people.
"""

import hashlib
import json
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from drawn import people
from PIL import Image

from mien.audit import plain_folders
from mien.cli import main
from mien.errors import UsageError
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.runs.store import Store

PATTERN = r"(s\d+)_"


def put(faces: Faces, root: Path, named: bool) -> None:
    """Write faces as class folders; people's names stand in the names of files, if `named`."""
    for place, (image, row) in enumerate(
        zip(faces.images, faces.index.to_dict("records"), strict=True)
    ):
        folder = root / row["emotion"]
        folder.mkdir(parents=True, exist_ok=True)
        who = f"{row['subject'].split(':')[1]}_" if named else "img-"
        Image.fromarray(image[0]).save(folder / f"{who}{place:03d}.png")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, test/ and synthetic/: six of its images are noisy copies, half of them
    mirrored.
    """
    folder = tmp_path_factory.mktemp("desk")
    train = people(range(10), clips=1, frames=2, size=48)
    put(train, folder / "train", True)
    put(people(range(10, 16), clips=1, frames=2, size=48), folder / "test", True)
    made = people(range(30, 44), clips=1, frames=1, size=48, seed=8)
    images, rng = np.array(made.images), np.random.default_rng(2)
    for place in range(6):
        copy = train.images[7 * place].astype(float) + rng.normal(0, 4, train.images[0].shape)
        images[3 * place] = np.clip(copy[..., ::-1] if place % 2 else copy, 0, 255)
        made.index.loc[3 * place, "emotion"] = train.index["emotion"].iloc[7 * place]
    put(Faces(images, made.index), folder / "synthetic", False)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("not a folder", encoding="utf-8")
    return folder


def mien(folder: Path, *arguments: str, code: int = 0, or_else: int | None = None) -> str:
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
        patch.chdir(folder)
        patch.setenv("MIEN_STORE", str(folder / "store"))
        patch.setattr(sys, "argv", ["mien", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    text = out.getvalue()
    assert "Traceback" not in text and int(ended.value.code or 0) in (code, or_else), text
    return text


def content(folder: Path) -> dict[str, str]:
    files = (
        path
        for name in ("train", "test", "synthetic")
        for path in (folder / name).rglob("*")
        if path.is_file()
    )
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_copies_among_the_images_of_a_synthetic_folder_are_found(desk: Path):
    before = content(desk)
    text = mien(
        desk,
        "leakage",
        "train/",
        "synthetic/",
        "--synthetic",
        "--subject-pattern",
        PATTERN,
        "--as",
        "leaks",
        "--out",
        "leak",
    )
    text = " ".join(text.split())  # as wide as a terminal says
    assert (
        "synthetic (42 synthetic images) against train (60 training images), no subject to be "
        "shared:"
    ) in text
    assert "6 of 42 synthetic images (14.3 %) were seen in training" in text
    assert (
        "they cannot be published" in text
        and "licence unknown" in text
        and "test image" not in text
    )
    page = (desk / "leak" / "index.html").read_text(encoding="utf-8")
    assert "<title>Leakage: synthetic against train" in page and "(licence unknown)" in page
    assert "test image" not in page and "<wbr>" in page and "images of unknown" not in page
    told = json.loads((desk / "leak" / "leakage.json").read_text(encoding="utf-8"))
    assert (
        told["names"] == {"train": "train", "test": "synthetic"}
        and told["what"] == "synthetic image"
    )
    assert content(desk) == before


def test_an_audit_of_folders_needs_no_held_out_people(desk: Path):
    before = content(desk)
    text = mien(
        desk,
        "audit",
        "synthetic/",
        "--train",
        "train/",
        "--spaces",
        "pixels",
        "--as",
        "alone",
        or_else=4,
    )
    home = Store(desk / "store")
    told = home.run("alone").read_json("audit.json")
    assert told["images"] == {"made": 42, "train": 60, "test": 0} and told["test"] == ""
    assert any("--test" in note and "nobody was held out" in note for note in told["notes"]), text
    made = Faces.load(home.run(told["synthetic"]).path)
    assert (
        set(made.index["source"]) == {UNKNOWN_SOURCE} and made.subjects == () and made.seen is None
    )
    assert "by nobody held out" not in (
        page := (home.run("alone").path / "index.html").read_text(encoding="utf-8")
    )
    assert "no held-out people" in page
    assert content(desk) == before


def test_an_audit_of_three_folders_compares_people_by_name_and_opens_no_gate(desk: Path):
    text = mien(
        desk,
        "audit",
        "synthetic",
        "--train",
        "train",
        "--test",
        "test",
        "--subject-pattern",
        PATTERN,
        "--spaces",
        "pixels",
        "--as",
        "three",
        or_else=4,
    )
    home = Store(desk / "store")
    told = home.run("three").read_json("audit.json")
    train, test = (Faces.load(home.run(told[side]).path) for side in ("train", "test"))
    assert {name.partition(":")[0] for name in (*train.subjects, *test.subjects)} == {"train"}
    assert not set(train.subjects) & set(test.subjects) and len(test.subjects) == 6, text
    refused = mien(desk, "publish", "build", told["synthetic"], "--out", "release", code=2)
    assert "unknown generator" in " ".join(refused.split()) and not (desk / "release").exists()


def test_one_person_on_both_real_sides_is_seen_in_an_audit_of_folders(desk: Path):
    (desk / "more").mkdir(exist_ok=True)
    for place, path in enumerate(sorted((desk / "train").rglob("s03_*.png"))):
        target = desk / "more" / path.parent.name
        target.mkdir(exist_ok=True)
        image = np.asarray(Image.open(path)).astype(float)
        noisy = image + np.random.default_rng(place).normal(0, 9, image.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target / path.name)
    names = {"synthetic": "synthetic", "train": "train", "test": "more"}
    home = Store(desk / "store")
    how = plain_folders.make_reading(["train", "test"], PATTERN)
    given_sides = [plain_folders.NamedSide(side, name, desk / name) for side, name in names.items()]
    runs = plain_folders.mark_sides(
        given_sides, plain_folders.read_sides(given_sides, how, home), home
    )
    train, test = (Faces.load(runs[side].path) for side in ("train", "test"))
    assert test.subjects == ("train:s03",) and "train:s03" in train.subjects


def test_a_stored_set_and_a_folder_go_together(desk: Path):
    mien(
        desk,
        "ingest",
        "folder",
        "train",
        "--name",
        "drawn",
        "--as",
        "kept",
        "--subject-pattern",
        PATTERN,
    )
    text = mien(desk, "leakage", "kept", "synthetic", "--synthetic")
    assert "synthetic (42 synthetic images) against kept (60 training images)" in text
    refused = mien(
        desk, "leakage", "kept", "synthetic", "--synthetic", "--subject-pattern", PATTERN, code=2
    )
    assert (
        "--subject-pattern says how a folder is read, and kept is in the store already" in refused
    )
    both = mien(desk, "leakage", "kept", "test", "--subject-pattern", f"test:{PATTERN}")
    assert "unknown subjects" not in both


def test_a_pattern_for_one_side_is_of_that_side():
    how = plain_folders.make_reading(["train", "test"], ["train:(a)", "test:(b)"], "(c):x")
    assert how.list_options("train") == {"subject_pattern": "(a)", "clip_pattern": "(c):x"}
    assert how.list_options("test") == {"subject_pattern": "(b)", "clip_pattern": "(c):x"}
    with pytest.raises(UsageError, match="is given twice for train"):
        plain_folders.make_reading(["train", "test"], ["(a)", "train:(b)"])
    with pytest.raises(UsageError, match="is for train, whose people are real"):
        plain_folders.make_reading(["train"], ["test:(a)"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("audit", "synthetic"),
            "--train must name the real faces that the generator was trained on",
        ),
        (
            ("audit", "synthetic", "--train", "synthetic/"),
            "synthetic .* are the same; name another",
        ),
        (
            ("audit", "synthetic", "--train", "train", "--test", "./train"),
            r"train \(train\) and ./train \(test\) are",
        ),
        (
            ("audit", "synthetic", "--train", "empty"),
            "empty must be a folder of images, and it holds no file",
        ),
        (
            ("audit", "empty", "--train", "train"),
            "empty must be a folder of images, and it holds no file",
        ),
        (
            ("audit", "nowhere", "--train", "train"),
            "no run or alias 'nowhere' .* There is no folder of this name either",
        ),
        (
            ("audit", "notes.txt", "--train", "train"),
            "'notes.txt' must be a run, an alias or a folder of images, and",
        ),
        (("audit", "synthetic", "--train", "train", "--size", "2"), "size"),
        (("audit", "synthetic", "--train", ".", "--spaces", "pixels"), "one is in the other"),
        (
            ("audit", "synthetic", "--train", "train", "--subject-pattern", "test:(s)"),
            "--subject-pattern is for train",
        ),
        (("leakage", "train", "train/"), "are the same; name another"),
        (
            ("leakage", "train", "--synthetic"),
            "--synthetic is about the second set, and only one was given",
        ),
        (
            ("leakage", "train", "synthetic", "--synthetic", "--subject-pattern", "(x)_"),
            "finds it in none of 60",
        ),
    ],
)
def test_what_is_wrong_is_told_at_once(desk: Path, arguments: tuple[str, ...], message: str):
    before = sorted(path.name for path in (desk / "store" / "runs").glob("*"))
    text = " ".join(mien(desk, *arguments, code=2).split())
    assert re.search(message, text), text
    assert sorted(path.name for path in (desk / "store" / "runs").glob("*")) == before
