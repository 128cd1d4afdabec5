"""mien from Python: `import mien`, faces, and the stages as functions."""

import base64
import importlib
import io
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import people
from PIL import Image
from worlds import blobs

import mien
from mien.errors import DataError, UsageError
from mien.faces import UNKNOWN_SOURCE
from mien.runs.store import Run, Store

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder FACES of class folders, whose file names begin with the person."""
    place = tmp_path_factory.mktemp("place")
    faces = people(range(9), clips=1, frames=2, size=32)
    for number, (image, row) in enumerate(
        zip(faces.images, faces.index.to_dict("records"), strict=True)
    ):
        path = place / "FACES" / row["emotion"] / f"{row['subject'][-3:]}_{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)
    return place


def test_import_mien_is_quick_and_loads_no_heavy_library():
    code = (
        "import sys, time; t = time.process_time(); import mien; dir(mien); mien.__all__\n"
        "assert not {'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "print(time.process_time() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1
    code = "import mien, sys; mien.Faces, mien.Store; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_loaded_and_shadow_no_package():
    packages = {path.parent.name for path in (ROOT / "mien").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "mien").glob("*.py")}
    assert not (packages | modules) & set(mien.__all__)
    for name in mien.__all__:
        assert getattr(mien, name) is not None and name in dir(mien)
    audit = importlib.import_module("mien.audit.run")
    assert sys.modules["mien.audit"].run is audit and callable(mien.audit_faces)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mien.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_type_checkers_are_told_the_same_names():
    stub = (ROOT / "mien" / "__init__.pyi").read_text(encoding="utf-8")
    told = set(re.findall(r" as (\w+)$|^(__version__)", stub, re.MULTILINE))
    assert {one or other for one, other in told} == set(mien.__all__)


def test_the_page_goes_from_a_folder_to_an_audit_and_a_study(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIEN_STORE", raising=False)
    (tmp_path / "FACES").symlink_to(folder / "FACES")
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks[0].splitlines()) <= 45
    space: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), space)
    text = capsys.readouterr().out
    assert "54 images" in text and re.search(
        r"^(pass|warn|cannot tell|fail) .*index.html", text, re.M
    )
    results = space["study"].results  # pyright: ignore[reportAttributeAccessIssue]
    assert set(results["setting"]) == {"real_to_real", "synthetic_to_real"}
    assert results["value"].between(0, 1).all() and (results["n"] == 54).all()
    assert (tmp_path / "report" / "report.html").exists() and (tmp_path / "mien-store").is_dir()
    table = page.partition("| command |")[2]
    named = set(re.findall(r"`(\w+)\(", table)) - {"show"}
    assert {name for name in mien.__all__ if "_" in name.strip("_")} <= named | {"open_store"}


@pytest.mark.parametrize("shape", [(6, 8, 9), (6, 8, 9, 3), (6, 1, 8, 9), (6, 3, 8, 9)])
def test_faces_are_made_of_arrays_of_any_usual_shape(shape: tuple[int, ...]):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    faces = mien.Faces.from_arrays(pixels, ["Fear", "anger"] * 3, subjects=["a", "b", ""] * 2)
    colours = 3 if 3 in (shape[1], shape[-1]) and len(shape) == 4 else 1
    assert faces.size == (colours, 8, 9) and faces.classes == ("anger", "fear")
    assert faces.subjects == ("arrays:a", "arrays:b") and faces.find_unit() == "image"
    as_list = mien.Faces.from_arrays(
        list(pixels), ["fear", "anger"] * 3, subjects=["a", "b", ""] * 2
    )
    assert np.array_equal(as_list.images, faces.images)
    first = pixels[0] if colours == 1 else np.moveaxis(pixels[0], shape.index(3, 1) - 1, 0)
    assert np.array_equal(faces.images[0], first.reshape(faces.size))


@pytest.mark.parametrize(
    "images, labels, subjects, message",
    [
        (
            np.zeros((2, 8, 8)),
            ["fear"] * 2,
            None,
            "uint8, 0 = black to 255 = white; given: float64",
        ),
        (np.zeros((2, 8), np.uint8), ["fear"] * 2, None, r"given: \[2, 8\]"),
        (np.zeros((2, 3, 8, 3), np.uint8), ["fear"] * 2, None, r"given: \[2, 3, 8, 3\]"),
        (np.zeros((2, 8, 8), np.uint8), ["fear"], None, "2 images need as many labels; given: 1"),
        (np.zeros((2, 8, 8), np.uint8), ["fear"] * 2, ["a"], "as many subjects; given: 1"),
        (np.zeros((2, 8, 8), np.uint8), ["joy"] * 2, None, "emotions must be among .*given: joy"),
        ([np.zeros((8, 8)), np.zeros((9, 8))], ["fear"] * 2, None, r"one size; given: \(8, 8\), "),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, subjects, message: str):
    with pytest.raises(DataError, match=message):
        mien.Faces.from_arrays(images, labels, subjects=subjects)


def test_faces_are_indexed_and_shown():
    faces = blobs(12)
    assert len(faces[0]) == 1 and len(faces[2:5]) == 3 and len(faces[[1, -1]]) == 2
    assert list(faces[-1].index["key"]) == [faces.index["key"].iloc[-1]]
    assert len(faces[(faces.index["emotion"] == "fear").to_numpy()]) == 3
    assert [len(one) for one in faces] == [1] * 12  # pyright: ignore[reportGeneralTypeIssues]
    with pytest.raises(IndexError):
        _ = faces[12]
    expected = (
        "<Faces: 12 images (1 x 16 x 16; fear 3, happiness 3, sadness 3, surprise 3; 3 subjects)>"
    )
    assert repr(faces) == expected
    assert (
        repr(faces[:0]) == "<Faces: 0 images (1 x 16 x 16)>"
        and "<table>" in faces[:0]._repr_html_()
    )


def test_a_notebook_shows_a_small_contact_sheet_that_needs_no_file():
    faces = people(range(8), clips=1, frames=2, size=96)
    page = faces._repr_html_()
    assert "src=" in page and not re.search(r"https?:|file:", page) and len(page) < 200_000
    pictures = re.findall(r'alt="(.*?)" src="data:image/png;base64,(.*?)"', page)
    assert len(pictures) == len(faces.classes)
    for alt, data in pictures:
        assert alt.startswith("6 faces with the label")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (6 * 64, 64)


def test_a_folder_is_read_once_and_known_by_its_run(folder: Path, tmp_path: Path):
    read = [
        mien.ingest_folder(str(folder / "FACES"), subject_pattern=r"(s\d+)_", store=tmp_path)
        for _ in range(2)
    ]
    assert read[0].run == read[1].run and isinstance(read[0].run, Run)
    assert len(read[0]) == 54 and len(read[0].subjects) == 9
    assert read[0][:3].run is None, "a part is not the run"
    assert read[0].run == mien.load_faces(read[0].run.name, store=str(tmp_path)).run
    made = mien.ingest_folder(folder / "FACES", synthetic=True, store=tmp_path)
    assert set(made.index["source"]) == {UNKNOWN_SOURCE} and made.subjects == ()


def test_faces_in_memory_are_kept_under_their_content(tmp_path: Path):
    faces = mien.Faces.from_arrays(blobs(8).images, ["fear", "anger"] * 4)
    kept = mien.keep_faces(faces, "mine", store=tmp_path)
    assert kept.run == Store(tmp_path).run("mine") and kept.run is not None
    assert kept.run == mien.keep_faces(faces, store=tmp_path).run
    assert (kept.run.path / "sheet.png").exists() and np.array_equal(kept.images, faces.images)
    changed = np.array(faces.images)
    changed[0, 0, 0, 0] ^= 1
    other = mien.keep_faces(mien.Faces(changed, faces.index), store=tmp_path)
    assert other.run != kept.run
    with pytest.raises(UsageError, match="give all sets from one store"):
        mien.split_faces(kept, by="frame", store=tmp_path / "other")
    copied = mien.keep_faces(kept, store=tmp_path / "other")
    assert copied.run is not None and copied.run.path.parts[-3] == "other"
    assert np.array_equal(copied.images, kept.images)


def test_faces_in_memory_and_folders_are_audited_without_a_store_made_by_hand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIEN_STORE", raising=False)
    train, test = people(range(10), clips=1, size=32), people(range(10, 20), clips=1, size=32)
    mine = mien.Faces.from_arrays(train.images[::3], list(train.index["emotion"][::3]))
    copied = mien.audit_faces(mine, train, test, spaces=["pixels"])
    assert copied.verdict == "fail" and "fail " in repr(copied) and copied.page.exists()
    verdicts = dict(zip(copied.checks["name"], copied.checks["verdict"], strict=True))
    assert verdicts["memorisation.exact"] == "fail" and len(copied.rows) == len(mine)
    assert "<table>" in copied._repr_html_() and isinstance(copied.questions, pd.DataFrame)
    printed = repr(copied.questions[["title", "why"]])
    assert all(len(line) <= 100 for line in printed.splitlines()) and "verdict:" not in printed
    flat = " ".join(printed.split())
    assert all(
        f"title: {row['title']}" in flat and " ".join(row["why"].split()) in flat
        for row in copied.content["questions"]
    )
    found = mien.find_leakage(train, train[:5])
    assert found.affected == 5 and len(found.images) == 5 and "5 of 5" in repr(found)
    by_folder = mien.audit_faces(folder / "FACES", train, spaces=["pixels"])
    assert (
        by_folder.verdict == "fail"
    )  # they are the training images, which is found without --test


def test_a_study_that_comes_with_mien_runs_on_faces_in_memory(tmp_path: Path):
    fields = {
        "name": "quick",
        "protocol": "subject",
        "folds": 2,
        "only_folds": [0],
        "trials": 1,
        "settings": ["real_to_real"],
        "classifiers": ["tiny"],
        "classifier": {"epochs": 1, "size": 16, "batch": 16},
    }
    study = mien.run_study(fields, blobs(48), store=tmp_path)
    assert study.run.stage == "study" and "<table" in study._repr_html_()
    assert "quick" in repr(study) and set(study.results["metric"]) >= {"accuracy"}
    with pytest.raises(mien.MienError, match="Did you mean 'smoke'"):
        mien.run_study("smok", blobs(48), store=tmp_path)


def test_a_type_checker_knows_the_names(tmp_path: Path):
    (tmp_path / "use.py").write_text(
        textwrap.dedent("""
            import mien
            from mien import Faces, audit_faces

            faces: Faces = mien.ingest_folder("x")
            left, right = mien.split_faces(faces)
            wrong: int = audit_faces(left, right).verdict
        """)
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "use.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert len(errors) == 1 and 'Type "str" is not assignable' in errors[0], done.stdout
