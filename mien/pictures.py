"""Picture files: which kinds are opened, and how more than 8 bits become 8.

Nothing but Pillow's own decoders and OpenCV's ever looks at a file, so no outside program starts.
What is black and white in a picture of 16 bits, or of floating-point numbers, is read from the file
where it says so; else from the highest value of the whole set, since one dark picture must not
become a bright one.
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
"""What is opened, by content and whatever the suffix says. None of them has anything to run."""

FULL = 65535.0  # white in 16 bits
# of its own white, that the highest value of a picture reaches which does not go by the set's
OWN = 0.75
HEAD = 32  # bytes of a file that tell what kind it is
_MAX_SAMPLE, _BITS, _POLARITY = (281, 341), 258, 262  # tags of TIFF
_RAW = frozenset(
    {".arw", ".cr2", ".dng", ".nef", ".pef", ".raw", ".rw2", ".srw"}
)  # cameras', in TIFF's own frame

# To open a large picture is refused in words; Pillow's own warning would be a second message.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Depth:
    """What a picture of more than 8 bits tells of its values."""

    highest: float
    declared: float | None  # the white that the file itself tells
    inverted: bool  # 0 is white
    whole: bool  # whole numbers

    @property
    def own(self) -> float:
        """The white that its own highest value hints at: 1, or the end of 8, 10, 12, 14, 16 or more
        bits.
        """
        if not self.whole and self.highest < 2:
            return 1.0
        bits = max(8, math.ceil(self.highest).bit_length())
        return float(2 ** (bits + bits % 2) - 1)


@contextmanager
def complained(what: object) -> Iterator[None]:
    """Turn whatever decoders raise inside into a DataError about the picture `what`."""
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
    """Return a picture's header, to be loaded and closed; raises what Pillow does."""
    if isinstance(picture, Path) and picture.exists() and not picture.is_file():
        raise DataError("it must be a file, and is a folder, a pipe or a device")
    return Image.open(
        BytesIO(picture) if isinstance(picture, bytes) else picture, formats=_formats()
    )


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this machine's Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def kind(head: bytes, suffix: str = "") -> str:
    """Return the format that a file's first bytes are of, among those that need no suffix to be
    sure; "" for none.
    """
    if head.startswith((b"II*\0", b"MM\0*")):
        return "" if suffix.lower() in _RAW else "TIFF"
    begins = {
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"GIF87a": "GIF",
        b"GIF89a": "GIF",
    }
    found = next((name for first, name in begins.items() if head.startswith(first)), "")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and head[6:10] == bytes(4) and len(head) > 18:
        return "BMP"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return "JPEG2000" if head.startswith(b"\0\0\0\x0cjP  ") else found


def may_be_deep(head: bytes) -> bool:
    """Whether a file that begins like this may have more than 8 bits; it has not, if this says
    no.
    """
    if head.startswith(b"\x89PNG"):
        return head[24:25] == b"\x10"
    return head.startswith(
        (b"II", b"MM", b"P2", b"P3", b"P5", b"P6", b"Pf", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
    )


def depth(picture: Path | bytes) -> Depth | None:
    """Return what a picture tells of its values, or None if it has 8 bits; raises DataError if it
    cannot be read.
    """
    with complained("the picture"), opened(picture) as image:
        found = _deep(image, picture)
        return None if found is None else found[1]


def whites(depths: Sequence[Depth]) -> list[float]:
    """Return the value that is white in each picture of a set.

    It is what the file itself says. Where it says nothing, it is the end of the bits that the
    highest value of all such pictures needs; but a picture goes by its own bits if these are fewer,
    and it comes near to filling them.
    """
    silent = [each for each in depths if each.declared is None]
    common = {
        whole: max((each.own for each in silent if each.whole == whole), default=1.0)
        for whole in (True, False)
    }
    found = []
    for each in depths:
        own = each.own < common[each.whole] and each.highest >= OWN * each.own
        found.append(each.declared or (each.own if own else common[each.whole]))
    return found


def eight_bit(image: Image.Image, picture: Path | bytes, white: float | None) -> Image.Image:
    """Return an opened image with 8 bits a channel, in whatever mode; `white` becomes 255.

    Without it the picture goes by `whites`, alone. Raises DataError if its values cannot be a
    picture's.
    """
    found = _deep(image, picture)
    if found is None:
        return image
    values, about = found
    white = white or whites([about])[0]
    if about.whole and values.ndim == 3 and white == FULL:
        return image  # Pillow has kept the upper 8 of the 16 bits
    scaled = _scaled(values, white)
    if values.ndim == 3 and values.shape[2] in (2, 4):  # opacity has bits of its own
        scaled[..., -1] = _scaled(values[..., -1], FULL if values[..., -1].max() > white else white)
    return Image.fromarray(255 - scaled if about.inverted else scaled)


def _scaled(values: Shaped[np.ndarray, "*shape"], white: float) -> UInt8[np.ndarray, "*shape"]:
    """0..white to 0..255, rounded; what is brighter is 255."""
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
            f"its pixels must be within 16 bits, and run from {lowest} to {highest}; --white says "
            "more"
        )
    kept, top = values.astype(np.int64).clip(0, int(white)), int(white)
    return ((kept * 255 + top // 2) // top).astype(np.uint8)


def _deep(
    image: Image.Image, picture: Path | bytes
) -> tuple[Shaped[np.ndarray, "h w *c"], Depth] | None:
    """Return the values of a picture of more than 8 bits and what it tells of them; the image is
    loaded.
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (8,))
    raw = _raw_mode(image)
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
    elif ";16" in raw or (image.mode in ("RGB", "RGBA", "RGBX") and 16 in bits):
        whole = _by_opencv(picture, image.size)
        if whole is None:
            return None
        values = whole
    else:
        return None
    shown = values[..., :-1] if values.ndim == 3 and values.shape[2] in (2, 4) else values
    top = float(np.nanmax(shown)) if shown.size else 0.0
    is_whole = bool(np.issubdtype(values.dtype, np.integer))
    declared = _declared(image, picture, bits, top) if is_whole else _sample(tags, top)
    return values, Depth(
        top if math.isfinite(top) else 0.0, declared, tags.get(_POLARITY) == 0, is_whole
    )


def _raw_mode(image: Image.Image) -> str:
    """Return how the samples lie in the file, as Pillow calls it, before it is loaded."""
    tiles = getattr(image, "tile", [])
    parts = tiles[0][3] if tiles else ""
    first = parts[0] if isinstance(parts, tuple) and parts else parts
    return first if isinstance(first, str) else ""


def _by_opencv(picture: Path | bytes, size: tuple[int, int]) -> Shaped[np.ndarray, "h w c"] | None:
    """Return the 16 bits of a colour picture, which Pillow cuts to 8; None if OpenCV does not read
    them.
    """
    content = picture.read_bytes() if isinstance(picture, Path) else picture
    try:
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[1::-1] != size:
        return None
    order = [2, 1, 0, 3][: found.shape[2]]
    return found[..., order]


def _declared(
    image: Image.Image, picture: Path | bytes, bits: Sequence[int], highest: float
) -> float | None:
    """Return the white that a file with whole numbers tells, if no value is above it."""
    if image.format == "PPM":
        return float(FULL)  # Pillow has brought the highest value that the file allows to 65535
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
    """Return the highest value that a TIFF says its samples may have, where that is less than the
    full range.
    """
    for tag in _MAX_SAMPLE:
        given = tags.get(tag)
        value = max(given) if isinstance(given, tuple) and given else given
        if isinstance(value, int | float) and highest <= value < FULL and value > 0:
            return float(value)
    return None


def _significant(picture: Path | bytes) -> int | None:
    """Return how many bits of each sample are meant, as the sBIT chunk of a PNG says."""
    content = picture if isinstance(picture, bytes) else _beginning(picture)
    place = content.find(b"sBIT", 0, content.find(b"IDAT") if b"IDAT" in content else None)
    if place < 4:
        return None
    count = int.from_bytes(content[place - 4 : place], "big")
    samples = content[place + 4 : place + 4 + count]
    return max(samples) if 0 < count <= 4 and samples and 8 <= max(samples) <= 16 else None


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(65_536)
