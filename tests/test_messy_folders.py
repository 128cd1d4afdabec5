"""Folders as people have them: their own stores inside, releases, copies, odd names and depths."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mien.errors import DataError
from mien.faces import Faces
from mien.ingest.run import choose_reader, run_ingest
from mien.prepare import joins
from mien.prepare.specs import JoinSpec
from mien.runs.store import Run, Store

RUN = "synthetic-0123456789ab"


def draw(path: Path, seed: int = 0, **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)).save(
        path, **save
    )
    return path


def classes(root: Path, count: int = 2) -> Path:
    for place in range(count):
        draw(root / "fear" / f"{place}.png", place)
        draw(root / "anger" / f"{place}.png", 100 + place)
    return root


def read(root: Path, store: Path, reader: str = "folder", **options: Any) -> Run:
    return run_ingest(reader, root, Store(store), size=8, name="set", workers=1, **options)


def kinds(run: Run) -> dict[str, str]:
    table = pd.read_csv(run.find_file("findings.csv"))
    return dict(zip(table["kind"], table["what"], strict=True))


def png(seed: int) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


# Stores


@pytest.mark.parametrize("place", ["results", "fear/kept", "."])
def test_a_store_inside_the_folder_is_no_part_of_the_dataset(tmp_path: Path, place: str):
    root = classes(tmp_path / "faces")
    first = read(root, root / place)
    draw(root / place / "runs" / first.name / "sheet.png", 5)  # a picture that a walk would find
    second = read(root, tmp_path / "elsewhere")
    assert first.name == second.name and len(Faces.load(second.path)) == 4
    assert choose_reader(root)[0] == "folder"


def test_a_folder_that_is_only_called_like_a_store_is_read(tmp_path: Path):
    root = classes(tmp_path / "faces")
    draw(root / "fear" / "runs" / "1.png", 9)
    assert len(Faces.load(read(root, tmp_path / "store").path)) == 5


# Losses


def test_what_was_skipped_once_is_not_forgotten(tmp_path: Path):
    root = classes(tmp_path / "faces", 3)
    (root / "fear" / "0.png").write_bytes(b"no picture, but long enough to be one")
    skipped = read(root, tmp_path / "store", skip_unreadable=True)
    with pytest.raises(
        DataError, match=r"fear/0\.png cannot be read: ingest-.* does not contain them"
    ):
        read(root, tmp_path / "store", alias="whole")
    assert "whole" not in Store(tmp_path / "store").read_aliases()
    assert read(root, tmp_path / "store", skip_unreadable=True).name == skipped.name


@pytest.mark.parametrize("reader", ["folder", "huggingface"])
def test_no_file_of_a_run_tells_where_or_when_it_was_made(tmp_path: Path, reader: str):
    contents = []
    for place in ("one", "another"):
        root = tmp_path / place / "faces"
        if reader == "folder":
            classes(root)
            (root / "fear" / "x.png").write_bytes(b"no picture, but long enough to be one")
        else:
            images = [{"bytes": png(seed), "path": None} for seed in range(3)] + [
                {"bytes": b"none", "path": None}
            ]
            table(root / "data" / "train-00000-of-00001.parquet", image=images, label=["fear"] * 4)
        if place == "one":
            run = run_ingest(
                reader, root, Store(tmp_path / place / "store"), size=8, name="set", workers=1,
                skip_unreadable=True,
            )  # fmt: skip
            contents.append(f"{run.name} {run.content}\n")
            continue
        code = (
            "import sys; from pathlib import Path; from mien.ingest.run import run_ingest\n"
            "from mien.runs.store import Store\n"
            "run = run_ingest(sys.argv[1], Path(sys.argv[2]), Store(Path(sys.argv[3])), size=8, "
            "name='set', "
            "workers=1, skip_unreadable=True); print(run.name, run.content)"
        )
        command = [sys.executable, "-c", code, reader, str(root), str(tmp_path / place / "store")]
        contents.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert contents[0] == contents[1]


# Hugging Face


def test_of_two_columns_of_pictures_one_must_be_named(tmp_path: Path):
    columns = {
        "digest": [bytes([seed]) * 20 for seed in range(3)],
        "first": [{"bytes": png(seed), "path": None} for seed in range(3)],
        "second": [{"bytes": png(10 + seed), "path": None} for seed in range(3)],
        "label": ["fear", "anger", "fear"],
    }
    table(tmp_path / "faces" / "train-00000-of-00001.parquet", **columns)
    with pytest.raises(DataError, match=r"has 2: first, second\. Name one with --image-column"):
        read(tmp_path / "faces", tmp_path / "store", "huggingface")
    one, other = (
        Faces.load(
            read(tmp_path / "faces", tmp_path / "store", "huggingface", image_column=name).path
        )
        for name in ("first", "second")
    )
    assert set(one.index["sha256"]).isdisjoint(other.index["sha256"])


def test_two_columns_of_file_names_are_asked_for_too(tmp_path: Path):
    root = tmp_path / "faces"
    draw(root / "train" / "a.png", 1)
    draw(root / "train" / "b.png", 2)
    (root / "train" / "metadata.csv").write_text(
        "file_name,apex,label\na.png,b.png,fear\n", encoding="utf-8"
    )
    with pytest.raises(DataError, match="2 columns that name pictures: file_name, apex"):
        read(root, tmp_path / "store", "huggingface")
    faces = Faces.load(read(root, tmp_path / "store", "huggingface", image_column="apex").path)
    assert list(faces.index["key"]) == ["set/train/b.png"]


def test_a_table_that_is_there_twice_counts_once(tmp_path: Path):
    images = [{"bytes": png(seed), "path": None} for seed in range(4)]
    for name in ("train.parquet", "data/train-00000-of-00001.parquet"):
        table(tmp_path / "faces" / name, image=images, label=["fear", "anger", "fear", "sadness"])
    run = read(tmp_path / "faces", tmp_path / "store", "huggingface")
    assert len(Faces.load(run.path)) == 4 and kinds(run)["copied table"].endswith("left out: 4")


def test_a_picture_with_two_labels_is_left_out_and_told(tmp_path: Path):
    root = tmp_path / "faces"
    for name in "abc":
        draw(root / "train" / f"{name}.png", ord(name))
    lines = [
        "file_name,label",
        "a.png,fear",
        "b.png,anger",
        "b.png,happy",
        "c.png,happy",
        "c.png,happiness",
    ]
    (root / "train" / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    run = read(root, tmp_path / "store", "huggingface")
    assert list(Faces.load(run.path).index["key"]) == ["set/train/a.png", "set/train/c.png"]
    assert "under several labels, left out: 1" in kinds(run)["contradiction"]


# Releases


def marked(path: Path, seed: int) -> None:
    info = PngInfo()
    mark = {
        "image": "x",
        "run": RUN,
        "seed": 77,
        "label": "fear",
        "licence": "CC0",
        "pixels": "0" * 16,
    }
    info.add_text("mien", json.dumps(mark, separators=(",", ":")))
    draw(path, seed, pnginfo=info)


def test_a_picture_with_a_mark_is_of_the_run_that_it_names(tmp_path: Path):
    root = classes(tmp_path / "faces")
    marked(root / "fear" / "m.png", 8)
    run = read(root, tmp_path / "store")
    index = Faces.load(run.path).index.set_index("key")
    assert (
        index.loc["set/fear/m.png", "source"] == RUN and index.loc["set/fear/m.png", "seed"] == 77
    )
    assert (index["source"] == "real").sum() == 4 and "kept as synthetic: 1" in kinds(run)[
        "made by a machine"
    ]


@pytest.mark.parametrize("below", [".", "imagefolder/train"])
def test_a_release_whose_marks_are_gone_is_still_synthetic_and_no_real_set_can_be_joined_to_it(
    tmp_path: Path, below: str
):
    release = tmp_path / "release"
    classes(release / "imagefolder" / "train")
    (release / "provenance").mkdir()
    told = {"run": RUN, "mien": "0.1.0", "content": "0" * 64}
    (release / "provenance" / "release.json").write_text(json.dumps(told), encoding="utf-8")
    made = read(release / below, tmp_path / "store", "huggingface" if below == "." else "folder")
    faces = Faces.load(made.path)
    assert set(faces.index["source"]) == {RUN}
    with pytest.raises(
        DataError, match=r"the test side must be real pictures, and 4 of 4 were generated"
    ):
        faces.require_real("the test side")
    real = run_ingest("folder", classes(tmp_path / "mine", 3), Store(tmp_path / "store"), size=8)
    with pytest.raises(
        DataError,
        match="joining real and synthetic pictures needs a record of what the generator has seen",
    ):
        joins.run_join(
            JoinSpec(faces=(real.name, made.name), classes="union"), Store(tmp_path / "store")
        )


# Files


def test_folders_may_lie_a_thousand_deep(tmp_path: Path):
    root = classes(tmp_path / "faces")
    deep = root / "fear" / "/".join("d" for _ in range(1300))
    here = Path.cwd()
    try:  # a path may be too long to be made at once
        os.chdir(root / "fear")
        for _ in range(1300):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(here)
    draw(deep / "1.png", 9)
    try:
        assert len(Faces.load(read(root, tmp_path / "store").path)) == 5
    finally:
        subprocess.run(
            ["rm", "-rf", str(root)], check=True
        )  # too deep for what tidies up after tests


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a.jpg_large", "a", "a.foo"])
def test_a_picture_is_read_for_what_it_holds_and_it_is_said(tmp_path: Path, name: str):
    root = classes(tmp_path / "faces")
    draw(root / "fear" / "x.jpg", 9).rename(root / "fear" / name)
    run = read(root, tmp_path / "store")
    assert len(Faces.load(run.path)) == 5 and kinds(run)["pictures by content"].endswith("read: 1")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_have_any_usual_separator_and_byte_order_mark(
    tmp_path: Path, encoding: str, separator: str
):
    root = tmp_path / "faces"
    draw(root / "a.png")
    lines = [["file_name", "expression", "subject"], ["a.png", "Angry\u200b ", "7"]]
    text = "\n".join(separator.join(line) for line in lines)
    (root / "metadata.csv").write_bytes(text.encode(encoding))
    index = Faces.load(read(root, tmp_path / "store").path).index
    assert list(index["emotion"]) == ["anger"] and list(index["subject"]) == ["set:7"]


def test_a_pattern_that_begins_with_a_caret_finds_the_names_of_files(tmp_path: Path):
    root = tmp_path / "faces"
    for place, name in enumerate(["fear/S1_a.png", "fear/S2_a.png", "anger/S1_b.png"]):
        draw(root / name, place)
    run = read(root, tmp_path / "store", subject_pattern=r"^(S\d+)_")
    assert Faces.load(run.path).subjects == ("set:S1", "set:S2")
    assert "searched in the names of the files" in kinds(run)["subject pattern"]
