"""Picture files of every depth: what people's programs write becomes what it shows, and nothing
else is started.
"""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien import pictures
from mien.errors import DataError
from mien.faces import Faces
from mien.ingest.run import run_ingest
from mien.pictures import SEVERAL_FRAMES, TRANSPARENT_PARTS, ValueRange, choose_whites, decode
from mien.runs.store import Store

# 0..250, no symmetry
FACE = np.clip(np.add.outer(np.arange(20) * 7, np.arange(16) * 8), 0, 250).astype(np.uint8)
FACE[0, 0] = 255
COLOURS = np.stack([FACE, FACE[::-1], 255 - FACE], axis=-1)


def png16(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of 16 bits, grey [h, w] or with 2, 3 or 4 channels, written by hand, as cameras'
    programs do.
    """
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def tiff(values: np.ndarray, **tags: int) -> bytes:
    """Return a grey TIFF with other tags than Pillow would write."""
    numbers = {"polarity": 262, "highest": 281}
    buffer = io.BytesIO()
    Image.fromarray(values).save(
        buffer, "TIFF", tiffinfo={numbers[name]: value for name, value in tags.items()}
    )
    return buffer.getvalue()


def grey(content: bytes | Path, white: float | None = None) -> np.ndarray:
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        size = image.size
    side = max(size)
    shown = decode(content, side, white=white)[0]
    expected = np.asarray(Image.fromarray(FACE).resize((side, side), Image.Resampling.BILINEAR))
    return np.abs(shown.astype(int) - expected.astype(int)).max()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_grey_picture_of_so_many_bits_in_sixteen_is_as_bright_as_the_same_in_eight(bits: int):
    values = np.rint(FACE.astype(float) * (2**bits - 1) / 255).astype(np.uint16)
    assert grey(png16(values)) <= 1 and grey(tiff(values)) <= 1


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_colour_picture_of_so_many_bits_in_sixteen_keeps_its_colours(bits: int, channels: int):
    values = np.rint(COLOURS.astype(float) * (2**bits - 1) / 255).astype(np.uint16)
    if channels == 4:
        values = np.dstack([values, np.full(FACE.shape, 65535, np.uint16)])
    side = COLOURS.shape[0]
    shown = decode(png16(values), side, "rgb").astype(int)
    expected = np.asarray(
        Image.fromarray(COLOURS).resize((side, side), Image.Resampling.BILINEAR)
    ).astype(int)
    assert np.abs(shown - expected.transpose(2, 0, 1)).max() <= 1


def test_a_dark_picture_of_a_bright_set_stays_dark():
    set_of = [
        ValueRange(4000.0, None, False, True),
        ValueRange(300.0, None, False, True),
        ValueRange(90.0, None, False, True),
    ]
    assert choose_whites(set_of) == [4095, 4095, 4095]


def test_a_picture_that_fills_fewer_bits_than_the_others_of_its_set_goes_by_its_own():
    set_of = [
        ValueRange(65000.0, None, False, True),
        ValueRange(251.0, None, False, True),
        ValueRange(0.98, None, False, False),
    ]
    assert choose_whites(set_of) == [65535, 255, 1]


def test_the_file_is_believed_where_it_says_how_many_bits_are_meant():
    dim = (FACE.astype(np.uint16) // 8) * 16  # of 12 bits, and never above 500
    shown = decode(png16(dim, (b"sBIT", b"\x0c")), 20)
    assert 20 <= shown.max() <= 33
    assert (
        grey(png16(FACE.astype(np.uint16) * 257, (b"sBIT", b"\x0c"))) <= 1
    )  # brought to 16 bits, as the norm asks
    assert 20 <= decode(tiff(dim, highest=4095), 20).max() <= 33


@pytest.mark.parametrize("white", [65535, 4095])
def test_a_tiff_of_sixteen_bits_in_which_zero_is_white_is_turned(white: int):
    values = np.rint((255 - FACE.astype(float)) * white / 255).astype(np.uint16)
    assert grey(tiff(values, polarity=0)) <= 1


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floating_point_numbers_are_read_from_zero_to_one_or_to_255(scale: float):
    assert grey(tiff((FACE.astype(np.float32) / 255 * scale).astype(np.float32))) <= 1


@pytest.mark.parametrize(
    ("value", "complaint"), [(np.nan, "finite"), (-40.0, "darkest pixel must be 0")]
)
def test_numbers_that_no_picture_has_are_refused(value: float, complaint: str):
    values = FACE.astype(np.float32)
    values[3, 3] = value
    with pytest.raises(DataError, match=complaint):
        decode(tiff(values), 16)


def test_who_knows_what_is_white_can_say_so():
    assert decode(png16(FACE.astype(np.uint16)), 20, white=1023.0).max() == pytest.approx(
        255 * 255 / 1023, abs=2
    )


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_remarked(fmt: str):
    first, second = Image.fromarray(FACE), Image.fromarray(255 - FACE)
    buffer, remarks = io.BytesIO(), []
    more = {"lossless": True} if fmt == "WEBP" else {}
    first.save(buffer, fmt, save_all=True, append_images=[second], **more)
    shown = decode(buffer.getvalue(), 16, remarks=remarks)
    assert remarks == [SEVERAL_FRAMES] and shown[0, -1].mean() > shown[0, 0].mean()


def test_transparent_parts_lie_on_black_and_are_remarked_where_there_are_any():
    half = np.full(FACE.shape, 255, np.uint8)
    buffer, remarks = io.BytesIO(), []
    Image.fromarray(np.dstack([COLOURS, half])).save(buffer, "PNG")
    decode(buffer.getvalue(), 16, remarks=remarks)
    assert remarks == []
    half[:, :8] = 0
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([COLOURS, half])).save(buffer, "PNG")
    assert decode(buffer.getvalue(), 16, remarks=remarks)[0, :, :6].max() == 0 and remarks == [
        TRANSPARENT_PARTS
    ]


def test_a_file_that_would_start_another_program_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A PostScript file called .png is what Ghostscript would be started for; a stand-in on the
    PATH tells.
    """
    stand_in = tmp_path / "bin" / "gs"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n"
    )
    with pytest.raises(
        DataError, match="must be an image that can be read, and is not: it begins as no picture"
    ):
        decode(tmp_path / "a.png", 16)
    assert not (tmp_path / "started").exists()


def test_a_complaint_names_no_place_in_memory():
    with pytest.raises(DataError) as caught:
        decode(b"nothing of the kind, but long enough to be one", 16, name="p07.png")
    assert "0x" not in str(caught.value) and str(caught.value).startswith(
        "p07.png must be an image"
    )


def test_a_pipe_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="a folder, a pipe or a device"):
        decode(tmp_path / "a.png", 16)


def stored(root: Path, store: Store, **options: Any) -> Faces:
    return Faces.load(run_ingest("folder", root, store, size=16, workers=2, **options).path)


def test_a_set_of_twelve_bits_keeps_its_dark_picture_dark_and_says_how_it_was_read(tmp_path: Path):
    for place, share in enumerate((1.0, 0.9, 0.02)):
        path = tmp_path / "faces" / "fear" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png16((FACE.astype(float) * 16 * share).astype(np.uint16)))
    run = run_ingest("folder", tmp_path / "faces", Store(tmp_path / "store"), size=16)
    highest = Faces.load(run.path).images.max(axis=(1, 2, 3))
    assert highest[0] > 240 and highest[1] > 215 and highest[2] < 8
    told = pd.read_csv(run.find_file("findings.csv")).set_index("kind")
    assert "4,095 is white, by their highest values" in str(told.loc["more than 8 bits", "what"])
    assert told.loc["more than 8 bits", "severity"] == "warning"


def test_white_can_be_said_for_a_whole_set(tmp_path: Path):
    path = tmp_path / "faces" / "fear" / "1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(png16(FACE.astype(np.uint16) * 2))
    as_told = stored(tmp_path / "faces", Store(tmp_path / "store"), white=4095.0)
    assert as_told.images.max() <= 32
    assert stored(tmp_path / "faces", Store(tmp_path / "store")).images.max() > 120


def test_pictures_in_a_table_are_measured_too(tmp_path: Path):
    rows = [{"image": {"bytes": png16(FACE.astype(np.uint16)), "path": "1.png"}, "label": "fear"}]
    (tmp_path / "faces" / "data").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows), tmp_path / "faces" / "data" / "train-00000-of-00001.parquet"
    )
    run = run_ingest("huggingface", tmp_path / "faces", Store(tmp_path / "store"), size=16)
    assert Faces.load(run.path).images.max() > 240


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"])
def test_a_kind_is_told_by_its_first_bytes(fmt: str):
    buffer = io.BytesIO()
    Image.fromarray(FACE).save(buffer, fmt)
    assert pictures.recognise_format(buffer.getvalue()[: pictures.HEADER_BYTES]) == fmt
    assert pictures.recognise_format(b"key,label\np1.png,fear\n and more") == ""
