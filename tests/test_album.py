"""Faces as pictures, and what is looked at: files of their own, real ones only when asked for."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worlds import blobs, keep

from mien.errors import UsageError
from mien.export import album
from mien.faces import Faces, make_index
from mien.generators import presets
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.train import train_generator
from mien.ingest.run import run_ingest
from mien.ingest.toy import dataset
from mien.prepare.specs import SplitSpec
from mien.prepare.splits import find_test_side, run_split
from mien.publish import registry
from mien.runs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = Store(tmp_path / "store")
    keep(blobs(24), home, "blobs")
    made = train_generator(presets.read_preset("gaussian", "blobs"), home, alias="generator")
    generate_database(order_database(made, "balanced:9", home), home, alias="synthetic")
    return home


def test_synthetic_faces_become_marked_files_in_a_folder_a_class(store: Store, tmp_path: Path):
    run = store.run("synthetic")
    made = album.write_album(run, store, tmp_path / "out")
    faces = Faces.load(run.path)
    assert sum(made.counts.values()) == len(faces) == 9 and made.kept_back == 0
    with (tmp_path / "out" / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == list(faces.index["key"])
    for row, image in zip(rows, faces.images, strict=True):
        path = tmp_path / "out" / row["file_name"]
        assert path.parent.name == row["emotion"]
        assert np.array_equal(np.asarray(Image.open(path)), image[0])
        assert registry.identify(path).from_this_release == "yes"


def test_real_faces_leave_the_store_only_when_that_is_said(store: Store, tmp_path: Path):
    with pytest.raises(UsageError, match=r"24 images of real people.*--real"):
        album.write_album(store.run("blobs"), store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    album.write_album(store.run("blobs"), store, tmp_path / "out", real=True)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 24
    assert all(
        registry.identify(path).from_this_release == "no"
        for path in (tmp_path / "out").rglob("*.png")
    )


def test_drawn_faces_are_not_called_real_people(store: Store, tmp_path: Path):
    dataset.draw(tmp_path / "toy", subjects=2, clips=7, seed=1, workers=1)
    drawn = run_ingest("casme2", tmp_path / "toy", store)
    with pytest.raises(UsageError, match=r"of drawn faces, which show nobody.*--real") as refusal:
        album.write_album(drawn, store, tmp_path / "out")
    assert "real people" not in str(refusal.value)


def test_a_copy_among_synthetic_faces_stays_in_the_store(store: Store, tmp_path: Path):
    made, real = Faces.load(store.run("synthetic").path), Faces.load(store.run("blobs").path)
    columns = {str(name): list(made.index[name]) for name in made.index if name != "sha256"}
    images = np.array(made.images)
    images[[2, 5]] = real.images[[7, 1]]
    index = make_index(images, **columns)
    keep(Faces(images, index, made.seen), store, "mixed")
    done = album.write_album(store.run("mixed"), store, tmp_path / "out")
    assert (done.kept_back, sum(done.counts.values())) == (2, 7)
    images[:] = real.images[:9]
    index = make_index(images, **columns)
    keep(Faces(images, index, made.seen), store, "copied")
    with pytest.raises(UsageError, match=r"all 9 images .* are copies"):
        album.write_album(store.run("copied"), store, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_channels_that_are_no_colours_are_files_of_their_own(store: Store, tmp_path: Path):
    faces = blobs(6)
    double = np.concatenate([faces.images, 255 - faces.images], axis=1)
    index = faces.index.assign(source="elsewhere")
    keep(Faces(double, index, None, ("gray", "onset-difference")), store, "double")
    album.write_album(store.run("double"), store, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.png"))
    assert len(names) == 12 and sum(name.endswith(".onset-difference.png") for name in names) == 6


def test_a_folder_that_holds_something_is_refused_and_left_alone(store: Store, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files"):
        album.write_album(store.run("synthetic"), store, tmp_path / "out")
    with pytest.raises(UsageError, match="run of faces"):
        album.write_album(store.run("generator"), store, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_the_people_that_a_generator_did_not_see_are_found_by_the_split(store: Store):
    sides = {}
    for side in ("train", "test"):
        sides[side] = run_split(
            SplitSpec.model_validate(
                {
                    "faces": store.resolve("blobs"),
                    "by": "subject",
                    "folds": 3,
                    "number": 1,
                    "side": side,
                }
            ),
            store,
        )
    assert find_test_side(sides["train"], store) == sides["test"].name
    assert find_test_side(store.run("blobs"), store) == "" == find_test_side(sides["test"], store)


def mien(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MIEN_STORE": str(folder / "store"), **changes}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", *(() if "BROWSER" in changes else ("BROWSER",))):
        environment.pop(name, None)
    command = [sys.executable, "-m", "mien", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_list_of_runs_begins_with_aliases_and_has_no_blanks_at_the_ends(
    store: Store, tmp_path: Path
):
    lines = mien(tmp_path, "ls").stdout.splitlines()
    assert lines[0].split() == ["alias", "run", "made", "holds"]
    assert [line.split()[0] for line in lines[1:]] == ["blobs", "generator", "synthetic"]
    assert all(line == line.rstrip() for line in lines)
    assert store.resolve("synthetic") in lines[-1]


def test_what_people_look_at_is_opened_by_the_viewer_that_is_named(store: Store, tmp_path: Path):
    sheet = str(store.run("synthetic").path / "sheet.png")
    (tmp_path / "viewer").write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened"\n')
    (tmp_path / "viewer").chmod(0o755)
    for name in ("MIEN_VIEWER", "BROWSER"):
        done = mien(tmp_path, "show", "synthetic", "--open", **{name: str(tmp_path / "viewer")})
        assert done.stdout.strip() == sheet == (tmp_path / "opened").read_text().strip()
        (tmp_path / "opened").unlink()
    without = mien(tmp_path, "show", "synthetic", "--open")
    assert (without.returncode, without.stdout.strip()) == (
        0,
        sheet,
    ) and "no viewer" in without.stderr
    assert (
        "did not open it"
        in mien(tmp_path, "show", "synthetic", "--open", MIEN_VIEWER="/nowhere/at-all").stderr
    )
    nothing = mien(tmp_path, "show", "blobs", "--open")
    assert nothing.returncode == 2 and "mien export" in nothing.stderr
