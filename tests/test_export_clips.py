"""Clips in published layouts: the readers of these sets read them, and find them synthetic."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image
from worlds import MadeSpec, inside, keep

from mien.errors import DataError, UsageError
from mien.export.clip_layouts import CLIP_LAYOUTS
from mien.export.clips import write_clips
from mien.faces import Faces, make_index
from mien.generators import presets
from mien.generators.clips.database import CLIPS_FILE
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.train import train_generator
from mien.ingest.run import run_ingest
from mien.publish import marks, registry
from mien.runs.store import Store

SOURCE = "generate-0123456789ab"
PHASES = ("still", "onset", "rise", "apex", "fall", "offset", "still")
EXAMPLE = Path(__file__).parent.parent / "examples" / "read_casme2_layout.py"


def draw_clips(
    emotions: tuple[str, ...], source: str = SOURCE, first: int = 97, subject: str = "made:p{}"
) -> Faces:
    """Two clips of each of three people, of seven frames; only five are between onset and
    offset.
    """
    rows, images = list[dict[str, object]](), list[np.ndarray]()
    for person in range(3):
        for number in range(2):
            rng = np.random.default_rng([person, number])
            y, x = np.mgrid[0:16, 0:16]
            face = 120 + 50 * np.sin(x / 3 + rng.uniform(0, 6)) * np.cos(y / 4 + rng.uniform(0, 6))
            for place, phase in enumerate(PHASES):
                moved = face + 2 * (3 - abs(place - 3)) + rng.normal(0, 1, face.shape)
                images.append(moved.clip(0, 255).astype(np.uint8)[None])
                rows.append(
                    {
                        "key": f"made/{person}/{number}/{place}",
                        "subject": subject.format(person + 9),
                        "clip": f"made:p{person + 9}/c{number}",
                        "frame": first + place,
                        "phase": phase,
                        "emotion": emotions[(2 * person + number) % len(emotions)],
                        "action_units": "6+12",
                        "seed": 100 * person + 10 * number + place,
                    }
                )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pixels = np.stack(images)
    index = make_index(pixels, dataset="made", source=source, licence="CC0 1.0", **columns)
    return Faces(pixels, index)


@pytest.mark.parametrize("name", CLIP_LAYOUTS)
def test_the_reader_of_each_layout_finds_the_clips_that_were_written(name: str, tmp_path: Path):
    layout, store = CLIP_LAYOUTS[name], Store(tmp_path / "store")
    emotions = tuple(sorted(layout.labels))
    made = draw_clips(emotions)
    written = write_clips(keep(made, store, "clips"), store, tmp_path / "out", name)
    assert (written.subjects, written.frames, written.outside) == (3, 30, 12)

    # Everything but the frames before the onset and after the offset is read
    run = run_ingest(name, tmp_path / "out", store, size=16, workers=1)
    read = Faces.load(run.path)
    expected = made.select((made.index["phase"] != "still").to_numpy())
    seeds = {seed: row for row, seed in enumerate(expected.index["seed"])}
    order = [seeds[seed] for seed in read.index["seed"]]
    assert sorted(order) == list(range(30))
    for column in ("emotion", "source"):
        assert list(read.index[column]) == list(expected.index[column].iloc[order])
    assert read.index["clip"].nunique() == 6 and read.index["subject"].nunique() == 3

    # A reader of a set without apexes or units has none
    has_apex = name != "smic"
    kinds = set(expected.index["phase"]) if has_apex else {"onset", "", "offset"}
    assert set(read.index["phase"]) == kinds
    assert set(read.index["action_units"]) == ({"6+12"} if has_apex else {""})

    # JPEG of the highest quality moves no pixel by more than three grey levels
    change = read.images.astype(int) - expected.images[order].astype(int)
    assert np.abs(change).max() <= 3


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store")
    made = draw_clips(("happiness", "disgust", "others"))
    write_clips(keep(made, store, "clips"), store, tmp_path / "out", "casme2")
    return tmp_path / "out"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("read_casme2_layout", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_program_that_does_not_know_mien_reads_the_same_clips(exported: Path):
    clips = load_example().read_clips(exported)
    assert clips["emotion"].value_counts().to_dict() == {
        "happiness": 2, "disgust": 2, "others": 2
    }  # fmt: skip
    assert set(clips["subject"]) == {"501", "502", "503"}
    assert [len(paths) for paths in clips["frames"]] == [5] * 6
    assert set(clips["apex"] - clips["onset"]) == {2}
    assert "import mien" not in EXAMPLE.read_text() and "from mien" not in EXAMPLE.read_text()
    with Image.open(clips["frames"][0][0]) as picture:
        assert picture.mode == "RGB" and picture.size == (16, 16)


def test_everything_says_that_it_is_synthetic(exported: Path):
    readme = (exported / "readme.txt").read_text()
    assert readme.startswith("EVERYTHING IN THIS FOLDER IS SYNTHETIC: a machine made all 6 clips")
    book = openpyxl.load_workbook(exported / "CASME2-coding-20140508.xlsx")
    assert book.sheetnames == ["Sheet1", "About"]
    assert "SYNTHETIC" in str(book.properties.title) and "SYNTHETIC" in str(
        book["About"]["A1"].value
    )

    # Each file has the mark that fits its pixels, and the table has its row
    table = pd.read_csv(exported / "provenance.csv")
    files = sorted(path.relative_to(exported).as_posix() for path in exported.rglob("*.jpg"))
    assert sorted(table["file_name"]) == files and len(files) == 30
    for file in files[::7]:
        picture = marks.read_file(exported / file)
        assert picture.declared and picture.fits and picture.mark is not None
        row = table[table["file_name"] == file].iloc[0]
        assert (picture.mark.image, picture.mark.seed) == (row["key"], row["seed"])
        assert registry.identify(exported / file).from_this_release == "yes"


def test_equal_clips_give_equal_bytes(exported: Path, tmp_path: Path):
    store = Store(tmp_path / "store")
    write_clips(store.run("clips"), store, tmp_path / "again", "casme2")
    for path in (path for path in exported.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(exported)).read_bytes() == path.read_bytes()


def test_the_intensity_of_generated_clips_is_in_the_table(tmp_path: Path):
    store, made = Store(tmp_path / "store"), draw_clips(("fear",))
    clips = pd.DataFrame({"clip": sorted(set(made.index["clip"]))})
    clips["intensity"] = np.arange(1, 7) / 4

    def build(out: Path, scratch: Path) -> None:
        made.save(out)
        clips.to_csv(out / CLIPS_FILE, index=False)

    run = store.make(MadeSpec(what="clips with intensities"), build)
    write_clips(run, store, tmp_path / "out", "casme2")
    table = pd.read_csv(tmp_path / "out" / "provenance.csv")
    expected = clips.set_index("clip")["intensity"]
    assert len(table) == 30 and "fps" not in table
    assert (expected[table["clip"]].to_numpy() == table["intensity"].to_numpy()).all()


def test_frames_from_0_are_counted_from_1(tmp_path: Path):
    store = Store(tmp_path / "store")
    made = draw_clips(("fear",), first=-1)
    made.index["frame"] = made.index["frame"].clip(lower=0) + (made.index["frame"] == 5)
    frames = made.select((made.index["phase"] != "still").to_numpy())
    write_clips(keep(frames, store, "clips"), store, tmp_path / "out", "casme2")
    clips = load_example().read_clips(tmp_path / "out")
    assert set(clips["onset"]) == {1} and set(clips["apex"]) == {3} and set(clips["offset"]) == {5}


def test_originals_leave_the_store_only_on_request(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = keep(draw_clips(("fear",), source="real", subject="casme2:sub{}"), store, "recorded")
    with pytest.raises(UsageError, match=r"42 frames of real people, which leave .* --real"):
        write_clips(run, store, tmp_path / "out", "casme2")
    assert not (tmp_path / "out").exists()
    write_clips(run, store, tmp_path / "out", "casme2", real=True)
    assert (tmp_path / "out" / "Cropped" / "sub01").is_dir()
    assert "synthetic: a machine" not in (tmp_path / "out" / "readme.txt").read_text().lower()
    picture = marks.read_file(next((tmp_path / "out").rglob("*.jpg")))
    assert picture.mark is None and not picture.declared


def test_a_clip_whose_apex_is_a_training_face_stays_in_the_store(tmp_path: Path):
    store = Store(tmp_path / "store")
    recorded = draw_clips(("fear", "others"), source="real", subject="casme2:sub{}")
    keep(recorded, store, "recorded")
    trained = train_generator(presets.read_preset("gaussian", "recorded"), store)
    source = generate_database(order_database(trained, "each:1", store), store).name

    # Other faces, but one apex is that of a training clip
    made = draw_clips(("fear", "others"), source=source)
    images = np.random.default_rng(5).integers(0, 255, made.images.shape, dtype=np.uint8)
    apex = int(np.flatnonzero(made.index["phase"] == "apex")[3])
    images[apex] = recorded.images[10]
    columns = {str(name): list(made.index[name]) for name in made.index if name != "sha256"}
    clips = keep(Faces(images, make_index(images, **columns)), store, "clips")
    written = write_clips(clips, store, tmp_path / "out", "casme2")
    assert (written.kept_back, sum(written.counts.values())) == (1, 5)
    table = pd.read_csv(tmp_path / "out" / "provenance.csv")
    assert made.index["clip"].iloc[apex] not in set(table["clip"])


def test_what_a_layout_cannot_hold_is_refused_with_the_formats_that_can(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = keep(draw_clips(("anger", "fear")), store, "clips")
    with pytest.raises(DataError, match=r"no label for anger; these formats have all: .*samm"):
        write_clips(run, store, tmp_path / "out", "casme2")
    with pytest.raises(UsageError, match="'casme3'"):
        write_clips(run, store, tmp_path / "out", "casme3")
    photographs = draw_clips(("fear",))
    photographs.index["clip"] = ""
    with pytest.raises(UsageError, match="must name its clip and its frame, and 42 of 42"):
        write_clips(keep(photographs, store, "single"), store, tmp_path / "out", "casme2")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_clips_and_says_how_to_read_them(tmp_path: Path):
    keep(draw_clips(("fear", "others")), Store(tmp_path / "store"), "clips")
    text = inside(tmp_path, "export", "clips", "--format", "casme2", "--out", "made")
    assert "6 clips of 3 subjects, 30 frames" in text and "next: mien ingest casme2" in text
    assert "made by a machine" in inside(tmp_path, "ingest", "casme2", "made", "--size", "16")
    refused = inside(tmp_path, "export", "clips", "--format", "program", "--out", "b", code=2)
    assert "needs a generator" in refused
