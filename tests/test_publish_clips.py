"""Releases and albums of clips and of optical flow: strips of channels, and back."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from release_world import damaged, write_checksums
from trees import write_sheet
from trees.casme2 import HEAD

from mien.errors import DataError, GateRefused
from mien.export.album import write_album
from mien.faces import Faces
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.specs import CopycatSpec, GaussianSpec
from mien.generators.train import train_generator
from mien.ingest.run import run_ingest
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.publish import marks, registry
from mien.publish.checking import check
from mien.publish.release import build
from mien.publish.remake import regenerate
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store
from mien.strips import cut_channels, describe_strip, join_channels

CLASSES = ("disgust", "happiness", "surprise")
FORMS = "parquet,imagefolder,webdataset"


@dataclass(frozen=True)
class Studio:
    """A store with clips of six people, and databases made from them."""

    store: Store
    root: Path

    def make(self, name: str, **fields: object) -> Run:
        """Return a generated database of six images whose rows show what `fields` say."""
        spec = read_spec(PreprocessSpec, {"faces": "recorded", "size": 12, **fields}, "test")
        shown = run_preprocess(spec, self.store)
        generator = train_generator(GaussianSpec(faces=shown.name), self.store)
        counts = order_database(generator, "each:2", self.store)
        return generate_database(counts, self.store, alias=name)

    def build(self, name: str) -> Path:
        """Return the private release of a database, in every form."""
        answers = self.root / f"{name}.toml"
        return build(name, self.root / name, self.store, answers, form=FORMS, private=True)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    root = tmp_path_factory.mktemp("clips")
    store, rows = Store(root / "store"), list[list[Any]]()
    y, x = np.mgrid[0:24, 0:24] / 24
    for person in range(1, 7):
        for place, emotion in enumerate(CLASSES):
            name = f"EP0{place + 1}_01"
            rows.append([f"{person:02d}", name, None, 1, 4, 7, None, "12", emotion])
            for frame in range(1, 8):
                moved = 0.02 * (3 - abs(frame - 4)) * (place + 1)
                face = 120 + 60 * np.sin(6 * x + person) * np.cos(5 * (y + moved))
                noise = np.random.default_rng([person, place, frame]).normal(0, 14, face.shape)
                path = root / "set" / "Cropped" / f"sub{person:02d}" / name / f"reg_img{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((face + noise).clip(0, 255).astype(np.uint8)).save(path)
    sheet: dict[str, Sequence[Sequence[Any]]] = {"Sheet1": [[*HEAD, "Estimated Emotion"], *rows]}
    write_sheet(root / "set" / "CASME2-coding-20140508.xlsx", sheet)
    run_ingest("casme2", root / "set", store, size=24, name="recorded", alias="recorded", workers=1)
    return Studio(store, root)


def read_back(studio: Studio, folder: Path, size: int = 12, reader: str = "huggingface") -> Faces:
    return Faces.load(run_ingest(reader, folder, studio.store, size=size, workers=1).path)


def require_equal(read: Faces, made: Faces) -> None:
    """The same channels and images, by label and seed, since a release orders them by class."""
    assert read.channels == made.channels and len(read) == len(made)
    keys = zip(made.index["emotion"], made.index["seed"], strict=True)
    rows = {key: row for row, key in enumerate(keys)}
    order = [rows[key] for key in zip(read.index["emotion"], read.index["seed"], strict=True)]
    assert np.array_equal(read.images, made.images[order])
    assert set(read.index["source"]) == set(made.index["source"])


@pytest.mark.parametrize(
    ("name", "fields", "shape"),
    [
        ("moments", {"clips": 5}, [1, 12, 60]),
        ("pairs", {"clips": "onset,apex", "input": ["gray", "onset-difference"]}, [1, 24, 24]),
        ("flow", {"frames": "apex", "window": 0, "input": ["flow"]}, [1, 12, 36]),
    ],
)
def test_a_release_holds_strips_and_reads_back_to_the_same_faces(
    studio: Studio, name: str, fields: dict[str, object], shape: list[int]
):
    if "flow" in name:
        fields = {**fields, "input": ["flow-right", "flow-down", "strain"]}
    made = Faces.load(studio.make(name, **fields).path)
    folder = studio.build(name)
    assert check(folder, libraries=name == "moments").counts == {"train": 6}
    stated = json.loads((folder / "provenance" / "release.json").read_text())
    assert stated["size"] == shape and tuple(stated["channels"]) == made.channels

    # The Parquet files and the image folders, by the readers of any folder
    require_equal(read_back(studio, folder), made)
    require_equal(read_back(studio, folder / "imagefolder" / "train", reader="folder"), made)

    # The card says what the pictures show, and its code cuts a strip as it says
    card = (folder / "README.md").read_text()
    assert f"{len(made.channels)} of 12x12: {', '.join(made.channels)}" in card
    assert ("a moment between two frames was a blend" in " ".join(card.split())) is (name != "flow")
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[2]
    image_id = "happiness-00001"
    with Image.open(folder / "imagefolder/train/happiness/000" / f"{image_id}.png") as image:
        found: dict[str, object] = {"image": image}
        exec(code, found)  # the code of the card, as a reader of it would run it
    happy = made.select((made.index["emotion"] == "happiness").to_numpy(dtype=bool))
    assert np.array_equal(np.asarray(found["channels"]), happy.images[1])

    # An image is generated again, and its file is recognised
    again = regenerate(folder, image_id, studio.store, device="cpu")
    assert again.bytes_equal and again.pixels_equal
    file = folder / "imagefolder/train/happiness/000" / f"{image_id}.png"
    assert registry.identify(file, folder).from_this_release == "yes"


def test_a_release_of_clips_that_states_other_channels_is_found_out(studio: Studio, tmp_path: Path):
    studio.make("altered", clips=4)
    folder = studio.build("altered")
    for number, (channels, fault) in enumerate(
        (
            (["t0", "t1", "t2", "t2"], "each named once"),
            (["t0", "t1", "t2"], "README.md is not what the provenance"),
            (["t0", "t1", "t2", "<b>"], "channels must be names of channels"),
            ([f"t{n}" for n in range(7)], "size must be that of a strip of 7 channels"),
        )
    ):
        changed = damaged(folder, tmp_path / str(number))
        path = changed / "provenance" / "release.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "channels": channels}))
        write_checksums(changed)
        with pytest.raises(Exception, match=fault):
            check(changed, libraries=False)


def test_strips_are_neither_cropped_nor_mixed_with_pictures_of_other_folders(
    studio: Studio, tmp_path: Path
):
    studio.make("mixed", clips=3)
    folder = studio.build("mixed")
    with pytest.raises(DataError, match="strips of 3 channels in grey, which cannot be cropped"):
        run_ingest("huggingface", folder, studio.store, size=12, colour="rgb", workers=1)

    # Releases of clips of three moments and of four, in one folder
    studio.make("longer", clips=4)
    both = tmp_path / "both"
    damaged(folder, both / "three")
    damaged(studio.build("longer"), both / "four")
    with pytest.raises(DataError, match=r"pictures of one release only.*by itself"):
        run_ingest("huggingface", both, studio.store, size=12, workers=1)


def test_a_release_has_no_copy_of_a_real_clip(studio: Studio):
    spec = read_spec(PreprocessSpec, {"faces": "recorded", "size": 12, "clips": 3}, "test")
    real = run_preprocess(spec, studio.store)
    generator = train_generator(CopycatSpec(faces=real.name), studio.store)
    generate_database(
        order_database(generator, "each:1", studio.store), studio.store, alias="twins"
    )
    with pytest.raises(GateRefused, match="no real image may be in a release"):
        studio.build("twins")


def test_an_album_of_clips_has_a_file_for_each_moment_and_the_clip_in_motion(
    studio: Studio, tmp_path: Path
):
    run = studio.make("album", clips=3, input=["gray", "onset-difference"])
    made = Faces.load(run.path)
    write_album(run, studio.store, tmp_path / "album")
    with (tmp_path / "album" / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 6 and {row["channel"] for row in rows} == set(made.channels)

    # The files hold the channels of each clip
    for row in rows:
        position = list(made.index["key"]).index(row["key"])
        expected = made.images[position][made.channels.index(row["channel"])]
        path = tmp_path / "album" / row["file_name"]
        assert np.array_equal(np.asarray(Image.open(path)), expected)
        assert path.stem.endswith(f".{row['channel']}")

    # The clips in motion show the first input, and say that a machine made them
    moving = sorted((tmp_path / "album" / "motion").rglob("*.webp"))
    assert len(moving) == 6 and marks.read_file(moving[0]).declared
    row = next(row for row in rows if Path(row["file_name"]).name.startswith(moving[0].stem))
    image = made.images[list(made.index["key"]).index(row["key"])]
    with Image.open(moving[0]) as picture:
        assert getattr(picture, "n_frames", 1) == 3
        for moment in range(3):
            picture.seek(moment)
            assert np.array_equal(np.asarray(picture.convert("L")), image[2 * moment])

    # Real clips are shown too if that is asked for, without a statement about machines
    spec = read_spec(PreprocessSpec, {"faces": "recorded", "size": 12, "clips": 3}, "test")
    real = run_preprocess(spec, studio.store)
    write_album(real, studio.store, tmp_path / "real", real=True)
    real_motion = next((tmp_path / "real" / "motion").rglob("*.webp"))
    assert not marks.read_file(real_motion).declared


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_a_strip_is_cut_into_the_channels_that_it_was_made_of(
    n: int, moments: int, inputs: int, are_clips: bool
):
    names = ("gray", "hog", "flow-right")[:inputs]
    channels = [f"{name}-t{moment}" for moment in range(moments) for name in names]
    channels = channels if are_clips else list(names)
    images = np.random.default_rng(0).integers(0, 255, (n, len(channels), 4, 6), dtype=np.uint8)
    strips = join_channels(images, channels)
    assert np.array_equal(cut_channels(strips, channels), images)
    if are_clips:  # a column is a moment, and a row is an input
        assert strips.shape == (n, 1, 4 * inputs, 6 * moments)
        assert np.array_equal(strips[:, 0, :4, :6], images[:, 0])


def test_a_strip_of_another_size_is_refused():
    with pytest.raises(DataError, match="a strip of 3 channels must be 1 x 3 pictures of one size"):
        cut_channels(np.zeros((1, 1, 4, 10), dtype=np.uint8), ("t0", "t1", "t2"))


def test_what_a_strip_shows_is_said_in_words():
    assert describe_strip(("t0", "t1")) == (
        "Each picture is a strip of 2 moments of one clip, from left to right: t0, t1."
    )
    assert describe_strip(("gray-t0", "hog-t0", "gray-t1", "hog-t1")).endswith(
        "t0, t1. The rows, from above, are gray, hog."
    )
    assert describe_strip(("hog-t0", "hog-t1")).endswith("t0, t1. All show hog.")
    assert "3 channels of one face" in describe_strip(("flow-right", "flow-down", "strain"))
    assert describe_strip(("hog",)) == "Each picture shows one channel in grey: hog."
