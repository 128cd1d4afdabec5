"""Picture files: the formats that are read, and how more than 8 bits become 8.

Only the decoders of Pillow and OpenCV read a file, so no external program is started. The value of
white in a picture of 16 bits, or of floating-point numbers, is read from the file if it has one.
Otherwise it comes from the highest value of the whole set, so that a dark picture does not become a
bright one.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from mien.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000", "AVIF")
"""The formats that are opened, recognised by content, not by suffix. None can hold a program."""

FULL = 65535.0  # white in 16 bits
# A picture has its own white, instead of the set's, if its highest value reaches this share of it.
OWN = 0.75
HEAD = 32  # bytes at the beginning of a file that show its format
_MAX_SAMPLE, _BITS, _POLARITY = (281, 341), 258, 262  # tags of TIFF
# Raw formats of cameras, which begin like TIFF.
_RAW = frozenset({".arw", ".cr2", ".dng", ".nef", ".pef", ".raw", ".rw2", ".srw"})

# A picture that is too large raises an error; Pillow's warning would be a second message.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Depth:
    """The range of values of a picture with more than 8 bits."""

    highest: float
    declared: float | None  # the white that the file names, if any
    inverted: bool  # whether 0 is white
    whole: bool  # whether values are integers

    @property
    def own(self) -> float:
        """The white that the highest value suggests: 1, or the limit of 8, 10, 12 or more bits."""
        if not self.whole and self.highest < 2:
            return 1.0
        bits = max(8, math.ceil(self.highest).bit_length())
        return float(2 ** (bits + bits % 2) - 1)


@contextmanager
def complained(what: object) -> Iterator[None]:
    """Turn every error of a decoder in this context into a DataError about the picture `what`."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"{what} must be an image of at most 64,000,000 pixels, and has far more: a small file "
            "may hold a picture that fills the memory"
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{what} must be an image that can be read, and is not: it begins as no picture does "
            f"of {', '.join(FORMATS)}"
        ) from None
    except Exception as error:  # decoders raise anything on damaged files
        reason = str(error) or type(error).__name__
        raise DataError(f"{what} must be an image that can be read, and is not: {reason}") from None


def opened(picture: Path | bytes) -> Image.Image:
    """Return a picture of which only the header was read; the caller loads and closes it.

    Raises DataError if the path is not a file, and any error of Pillow.
    """
    if isinstance(picture, Path) and picture.exists() and not picture.is_file():
        raise DataError("it must be a file, and is a folder, a pipe or a device")
    return Image.open(
        BytesIO(picture) if isinstance(picture, bytes) else picture, formats=_formats()
    )


@cache
def _formats() -> tuple[str, ...]:
    """Return those of FORMATS that this machine's Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def kind(head: bytes, suffix: str = "") -> str:
    """Return the format that the first bytes of a file show, or "" if they are not conclusive.

    Raw files of cameras begin like TIFF, and are known by `suffix`.
    """
    if head.startswith((b"II*\0", b"MM\0*")):
        return "" if suffix.lower() in _RAW else "TIFF"
    format_of = {
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"GIF87a": "GIF",
        b"GIF89a": "GIF",
    }
    format = next((name for signature, name in format_of.items() if head.startswith(signature)), "")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and head[6:10] == bytes(4) and len(head) > 18:
        return "BMP"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return "JPEG2000" if head.startswith(b"\0\0\0\x0cjP  ") else format


def may_be_deep(head: bytes) -> bool:
    """Return whether a file that begins like this can have more than 8 bits."""
    if head.startswith(b"\x89PNG"):
        return head[24:25] == b"\x10"
    return head.startswith(
        (b"II", b"MM", b"P2", b"P3", b"P5", b"P6", b"Pf", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
    )


def depth(picture: Path | bytes) -> Depth | None:
    """Return the range of values of a picture, or None if it has 8 bits.

    Raises DataError if the picture cannot be read.
    """
    with complained("the picture"), opened(picture) as image:
        deep = _deep(image, picture)
        return None if deep is None else deep[1]


def whites(depths: Sequence[Depth]) -> list[float]:
    """Return the value of white in each picture of a set.

    It is the one that the file names. If it names none, it is the largest number of as many bits as
    the highest value of all such pictures needs. A picture that needs fewer bits, and nearly fills
    them, has the white of these.
    """
    silent = [depth for depth in depths if depth.declared is None]
    common = {
        whole: max((depth.own for depth in silent if depth.whole == whole), default=1.0)
        for whole in (True, False)
    }
    values = []
    for depth in depths:
        has_own = depth.own < common[depth.whole] and depth.highest >= OWN * depth.own
        values.append(depth.declared or (depth.own if has_own else common[depth.whole]))
    return values


def eight_bit(image: Image.Image, picture: Path | bytes, white: float | None) -> Image.Image:
    """Return an opened image with 8 bits per channel, in any mode; `white` becomes 255.

    The default of `white` is that of `whites` for this picture alone. Raises DataError if the
    values are not those of a picture.
    """
    deep = _deep(image, picture)
    if deep is None:
        return image
    values, value_range = deep
    white = white or whites([value_range])[0]
    if value_range.whole and values.ndim == 3 and white == FULL:
        return image  # Pillow has already kept the upper 8 of the 16 bits
    scaled = _scaled(values, white)
    if values.ndim == 3 and values.shape[2] in (2, 4):  # opacity has its own range
        scaled[..., -1] = _scaled(values[..., -1], FULL if values[..., -1].max() > white else white)
    return Image.fromarray(255 - scaled if value_range.inverted else scaled)


def _scaled(values: Shaped[np.ndarray, "*shape"], white: float) -> UInt8[np.ndarray, "*shape"]:
    """Return values 0..white as 0..255, rounded; larger values become 255."""
    if not np.isfinite(values).all():
        raise DataError("its pixels must be numbers, and some are not finite")
    lowest, highest = values.min(), values.max()
    if lowest < -0.05 * white:
        raise DataError(
            f"its darkest pixel must be 0, and its pixels run from {lowest} to {highest}"
        )
    if np.issubdtype(values.dtype, np.floating):
        return np.rint(values.astype(np.float64).clip(0, white) * (255 / white)).astype(np.uint8)
    if highest > FULL and white <= FULL:
        raise DataError(
            f"its pixels must be within 16 bits, and run from {lowest} to {highest}; name a larger "
            "white with --white"
        )
    clipped, full = values.astype(np.int64).clip(0, int(white)), int(white)
    return ((clipped * 255 + full // 2) // full).astype(np.uint8)


def _deep(
    image: Image.Image, picture: Path | bytes
) -> tuple[Shaped[np.ndarray, "h w *c"], Depth] | None:
    """Return the values of a picture with more than 8 bits and their range; None for 8 bits.

    The image is loaded.
    """
    # Read the header before the image is loaded, which changes it.
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (8,))
    raw = _raw_mode(image)
    image.load()

    # Read the values: Pillow keeps those of one channel, OpenCV those of colours.
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
    elif ";16" in raw or (image.mode in ("RGB", "RGBA", "RGBX") and 16 in bits):
        sixteen_bits = _by_opencv(picture, image.size)
        if sixteen_bits is None:
            return None
        values = sixteen_bits
    else:
        return None

    # Find the range of the colours, without the opacity.
    colours = values[..., :-1] if values.ndim == 3 and values.shape[2] in (2, 4) else values
    highest = float(np.nanmax(colours)) if colours.size else 0.0
    is_whole = bool(np.issubdtype(values.dtype, np.integer))
    declared = _declared(image, picture, bits, highest) if is_whole else _sample(tags, highest)
    return values, Depth(
        highest if math.isfinite(highest) else 0.0, declared, tags.get(_POLARITY) == 0, is_whole
    )


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the layout of samples in the file, known before it is loaded."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _by_opencv(picture: Path | bytes, size: tuple[int, int]) -> Shaped[np.ndarray, "h w c"] | None:
    """Return the 16 bits of a colour picture, of which Pillow keeps 8; None if OpenCV cannot."""
    content = picture.read_bytes() if isinstance(picture, Path) else picture
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if (
        values is None
        or values.dtype != np.uint16
        or values.ndim != 3
        or values.shape[1::-1] != size
    ):
        return None
    order = [2, 1, 0, 3][: values.shape[2]]
    return values[..., order]


def _declared(
    image: Image.Image, picture: Path | bytes, bits: Sequence[int], highest: float
) -> float | None:
    """Return the white that a file with integers names, if no value is above it."""
    if image.format == "PPM":
        return float(FULL)  # Pillow has scaled the highest value that the file allows to 65535
    if image.format == "PNG":
        significant = _significant(picture)
        return (
            None
            if significant is None
            else float(2**significant - 1 if highest < 2**significant else FULL)
        )
    tags = getattr(image, "tag_v2", {})
    if 8 < max(bits) < 16:
        return float(2 ** max(bits) - 1)
    return _sample(tags, highest)


def _sample(tags: Mapping[int, Any], highest: float) -> float | None:
    """Return the highest value that a TIFF allows, if that is less than the full range."""
    for tag in _MAX_SAMPLE:
        entry = tags.get(tag)
        value = max(entry) if isinstance(entry, tuple) and entry else entry
        if isinstance(value, int | float) and highest <= value < FULL and value > 0:
            return float(value)
    return None


def _significant(picture: Path | bytes) -> int | None:
    """Return the number of significant bits per sample, from the sBIT chunk of a PNG."""
    content = picture if isinstance(picture, bytes) else _beginning(picture)
    start = content.find(b"sBIT", 0, content.find(b"IDAT") if b"IDAT" in content else None)
    if start < 4:
        return None
    count = int.from_bytes(content[start - 4 : start], "big")
    samples = content[start + 4 : start + 4 + count]
    return max(samples) if 0 < count <= 4 and samples and 8 <= max(samples) <= 16 else None


def _beginning(path: Path) -> bytes:
    """Return the first 64 KiB of a file."""
    with path.open("rb") as file:
        return file.read(65_536)
