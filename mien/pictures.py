"""Picture files: read and decoded to one form; faces are cut out of them.

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
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from mien.errors import DataError

DetectionKind = Literal["found", "no eyes", "missed"]


@dataclass(frozen=True)
class FacePlace:
    """Where a face is in its picture: a square and its rotation."""

    kind: DetectionKind  # whether a face was found, and its eyes where these are needed
    x: float  # the centre, in pixels from the left
    y: float  # the centre, in pixels from the top
    side: float  # in pixels, without a margin
    turn: float = 0.0  # degrees clockwise from one eye to the other; 0 unless eyes were found


def crop(
    picture: UInt8[np.ndarray, "h w *c"], place: FacePlace, margin: float
) -> UInt8[np.ndarray, "side side *c"]:
    """Return the square around a face with its margin, rotated until the eyes are level.

    Outside the picture, its border is repeated. A miss has no margin.
    """
    factor = 1 if place.kind == "missed" else 1 + 2 * margin
    width = max(1, round(place.side * factor))

    # Rotate about the centre, which becomes the centre of the square.
    if place.turn:
        rotation = cv2.getRotationMatrix2D((place.x - 0.5, place.y - 0.5), place.turn, 1)
        rotation[:, 2] += (width - 1) / 2 - np.array([place.x - 0.5, place.y - 0.5])
        pixels = np.ascontiguousarray(picture)
        return np.asarray(
            cv2.warpAffine(pixels, rotation, (width, width), borderMode=cv2.BORDER_REPLICATE)
        )
    across, down = (np.arange(width) + round(middle - width / 2) for middle in (place.x, place.y))
    h, w = picture.shape[:2]
    return np.ascontiguousarray(picture[np.ix_(down.clip(0, h - 1), across.clip(0, w - 1))])


PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000", "AVIF")
"""The formats that are opened, recognised by content, not by suffix. None can hold a program."""

WHITE_OF_16_BITS = 65535.0  # white in 16 bits

# A picture has its own white, instead of the set's, if its highest value reaches this share of it.
OWN_WHITE_SHARE = 0.75

HEADER_BYTES = 32  # bytes at the beginning of a file that show its format

_MAX_SAMPLE, _BITS, _POLARITY = (281, 341), 258, 262  # tags of TIFF

# Raw formats of cameras, which begin like TIFF.
_RAW_SUFFIXES = frozenset({".arw", ".cr2", ".dng", ".nef", ".pef", ".raw", ".rw2", ".srw"})

# A picture that is too large raises an error; Pillow's warning would be a second message.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ValueRange:
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
def describe_errors(name: object) -> Iterator[None]:
    """Turn every error of a decoder in this context into a DataError about the picture `name`."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"{name} must be an image of at most 64,000,000 pixels, and has far more: a small file "
            "may hold a picture that fills the memory"
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{name} must be an image that can be read, and is not: it begins as no picture does "
            f"of {', '.join(PICTURE_FORMATS)}"
        ) from None
    except Exception as error:  # decoders raise anything on damaged files
        reason = str(error) or type(error).__name__
        raise DataError(f"{name} must be an image that can be read, and is not: {reason}") from None


def open_image(picture: Path | bytes) -> Image.Image:
    """Return a picture of which only the header was read; the caller loads and closes it.

    Raises DataError if the path is not a file, and any error of Pillow.
    """
    if isinstance(picture, Path) and picture.exists() and not picture.is_file():
        raise DataError("it must be a file, and is a folder, a pipe or a device")
    return Image.open(
        BytesIO(picture) if isinstance(picture, bytes) else picture,
        formats=_find_available_formats(),
    )


@cache
def _find_available_formats() -> tuple[str, ...]:
    """Return those of PICTURE_FORMATS that this machine's Pillow was built with."""
    Image.init()
    return tuple(name for name in PICTURE_FORMATS if name in Image.OPEN)


def recognise_format(head: bytes, suffix: str = "") -> str:
    """Return the format that the first bytes of a file show, or "" if they are not conclusive.

    Raw files of cameras begin like TIFF, and are known by `suffix`.
    """
    if head.startswith((b"II*\0", b"MM\0*")):
        return "" if suffix.lower() in _RAW_SUFFIXES else "TIFF"
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


def read_value_range(picture: Path | bytes) -> ValueRange | None:
    """Return the range of values of a picture, or None if it has 8 bits.

    Raises DataError if the picture cannot be read.
    """
    with describe_errors("the picture"), open_image(picture) as image:
        deep = _read_deep_values(image, picture)
        return None if deep is None else deep[1]


def choose_whites(depths: Sequence[ValueRange]) -> list[float]:
    """Return the value of white in each picture of a set.

    It is the one that the file names. If it names none, it is the largest number of as many bits as
    the highest value of all such pictures needs. A picture that needs fewer bits, and nearly fills
    them, has the white of these.
    """
    silent = [depth for depth in depths if depth.declared is None]
    common = {
        is_whole: max((depth.own for depth in silent if depth.whole == is_whole), default=1.0)
        for is_whole in (True, False)
    }
    values = []
    for depth in depths:
        has_own = depth.own < common[depth.whole] and depth.highest >= OWN_WHITE_SHARE * depth.own
        values.append(depth.declared or (depth.own if has_own else common[depth.whole]))
    return values


def convert_to_eight_bits(
    image: Image.Image, picture: Path | bytes, white: float | None
) -> Image.Image:
    """Return an opened image with 8 bits per channel, in any mode; `white` becomes 255.

    The default of `white` is that of `choose_whites` for this picture alone. Raises DataError if
    the values are not those of a picture.
    """
    deep = _read_deep_values(image, picture)
    if deep is None:
        return image
    values, value_range = deep
    white = white or choose_whites([value_range])[0]
    if value_range.whole and values.ndim == 3 and white == WHITE_OF_16_BITS:
        return image  # Pillow has already kept the upper 8 of the 16 bits
    scaled = _scale_to_255(values, white)
    if values.ndim == 3 and values.shape[2] in (2, 4):  # opacity has its own range
        scaled[..., -1] = _scale_to_255(
            values[..., -1], WHITE_OF_16_BITS if values[..., -1].max() > white else white
        )
    return Image.fromarray(255 - scaled if value_range.inverted else scaled)


def _scale_to_255(
    values: Shaped[np.ndarray, "*shape"], white: float
) -> UInt8[np.ndarray, "*shape"]:
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
    if highest > WHITE_OF_16_BITS and white <= WHITE_OF_16_BITS:
        raise DataError(
            f"its pixels must be within 16 bits, and run from {lowest} to {highest}; name a larger "
            "white with --white"
        )
    clipped, full = values.astype(np.int64).clip(0, int(white)), int(white)
    return ((clipped * 255 + full // 2) // full).astype(np.uint8)


def _read_deep_values(
    image: Image.Image, picture: Path | bytes
) -> tuple[Shaped[np.ndarray, "h w *c"], ValueRange] | None:
    """Return the values of a picture with more than 8 bits and their range; None for 8 bits.

    The image is loaded.
    """
    # Read the header before the image is loaded, which changes it.
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (8,))
    raw = _read_raw_mode(image)
    image.load()

    # Read the values: Pillow keeps those of one channel, OpenCV those of colours.
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
    elif ";16" in raw or (image.mode in ("RGB", "RGBA", "RGBX") and 16 in bits):
        sixteen_bits = _decode_with_opencv(picture, image.size)
        if sixteen_bits is None:
            return None
        values = sixteen_bits
    else:
        return None

    # Find the range of the colours, without the opacity.
    colours = values[..., :-1] if values.ndim == 3 and values.shape[2] in (2, 4) else values
    highest = float(np.nanmax(colours)) if colours.size else 0.0
    is_whole = bool(np.issubdtype(values.dtype, np.integer))
    declared = (
        _read_declared_white(image, picture, bits, highest)
        if is_whole
        else _read_max_sample(tags, highest)
    )
    return values, ValueRange(
        highest if math.isfinite(highest) else 0.0, declared, tags.get(_POLARITY) == 0, is_whole
    )


def _read_raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the layout of samples in the file, known before it is loaded."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _decode_with_opencv(
    picture: Path | bytes, size: tuple[int, int]
) -> Shaped[np.ndarray, "h w c"] | None:
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


def _read_declared_white(
    image: Image.Image, picture: Path | bytes, bits: Sequence[int], highest: float
) -> float | None:
    """Return the white that a file with integers names, if no value is above it."""
    if image.format == "PPM":
        return float(
            WHITE_OF_16_BITS
        )  # Pillow has scaled the highest value that the file allows to 65535
    if image.format == "PNG":
        significant = _read_significant_bits(picture)
        return (
            None
            if significant is None
            else float(2**significant - 1 if highest < 2**significant else WHITE_OF_16_BITS)
        )
    tags = getattr(image, "tag_v2", {})
    if 8 < max(bits) < 16:
        return float(2 ** max(bits) - 1)
    return _read_max_sample(tags, highest)


def _read_max_sample(tags: Mapping[int, Any], highest: float) -> float | None:
    """Return the highest value that a TIFF allows, if that is less than the full range."""
    for tag in _MAX_SAMPLE:
        entry = tags.get(tag)
        value = max(entry) if isinstance(entry, tuple) and entry else entry
        if isinstance(value, int | float) and highest <= value < WHITE_OF_16_BITS and value > 0:
            return float(value)
    return None


def _read_significant_bits(picture: Path | bytes) -> int | None:
    """Return the number of significant bits per sample, from the sBIT chunk of a PNG."""
    content = picture if isinstance(picture, bytes) else _read_beginning(picture)
    start = content.find(b"sBIT", 0, content.find(b"IDAT") if b"IDAT" in content else None)
    if start < 4:
        return None
    count = int.from_bytes(content[start - 4 : start], "big")
    samples = content[start + 4 : start + 4 + count]
    return max(samples) if 0 < count <= 4 and samples and 8 <= max(samples) <= 16 else None


def _read_beginning(path: Path) -> bytes:
    """Return the first 64 KiB of a file."""
    with path.open("rb") as file:
        return file.read(65_536)


Colour = Literal["grey", "rgb"]

Filter = Literal["box", "bilinear", "bicubic", "lanczos"]

# A file, the content of a file, or pixels [h, w] or [h, w, 3].
Picture = Path | bytes | UInt8[np.ndarray, "..."]

Box = tuple[int, int, int, int]  # left, top, width, height, in pixels

MIN_SIDE = 8  # pixels; a smaller picture cannot show a face

MAX_PIXELS = 64_000_000  # the largest picture that is opened; it needs about 400 MB of memory

SEVERAL_FRAMES, TRANSPARENT_PARTS = "several frames", "transparent parts"  # the remarks of `decode`

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ORIENTATION_TAG = 0x0112


def decode(
    picture: Picture,
    size: int,
    colour: Colour = "grey",
    filter: Filter = "bilinear",
    *,
    box: Box | None = None,
    face: FacePlace | None = None,
    margin: float = 0.0,
    name: str | None = None,
    white: float | None = None,
    remarks: list[str] | None = None,
) -> UInt8[np.ndarray, "c {size} {size}"]:
    """Return a picture as uint8 [c, size, size], c = 1 for grey and 3 for rgb.

    The orientation in the EXIF data is applied. More than 8 bits become 8, where `white` is the
    value that becomes 255; without it, it is what `pictures.choose_whites` gives for this picture
    alone. Transparent parts are put on black, and of several frames the first is used. The picture
    is cropped to `box`, as far as it is in the picture, and with `face` to the square around
    it, wider by `margin`. It becomes grey at its full size, before it is resized. Error messages
    call it `name`, by default its path. `remarks` receives FRAMES if there are several frames, and
    TRANSPARENT if some pixel is transparent.

    Raises DataError if the file is damaged, is not an image of PICTURE_FORMATS, or has a side below
    8 or more than 64 million pixels.
    """
    image = _open_image(picture, colour, box, name, white, remarks)
    return convert_to_array(resize_image(cut_face(image, face, margin), size, filter))


def open_picture(
    picture: Picture,
    colour: Colour = "grey",
    *,
    box: Box | None = None,
    name: str | None = None,
    white: float | None = None,
) -> UInt8[np.ndarray, "h w *c"]:
    """Return a picture at its own size, [h, w] for grey and [h, w, 3] for rgb.

    All else is as in `decode`.
    """
    return np.asarray(_open_image(picture, colour, box, name, white, None))


# Pixels


def _open_image(
    picture: Picture,
    colour: Colour,
    box: Box | None,
    name: str | None,
    white: float | None,
    remarks: list[str] | None,
) -> Image.Image:
    """Return a picture, or its part within `box`, upright, with 8 bits per channel, in `colour`."""
    description = name or (picture if isinstance(picture, Path) else "the picture")
    with describe_errors(description):
        if isinstance(picture, np.ndarray):
            _check_size((picture.shape[1], picture.shape[0]))
            return convert_colour(_crop_to_box(Image.fromarray(picture), box), colour)
        with open_image(picture) as image:
            _check_size(image.size)
            if remarks is not None and getattr(image, "is_animated", False):
                remarks.append(SEVERAL_FRAMES)
            upright = _rotate_upright(convert_to_eight_bits(image, picture, white), image)
            return convert_colour(_remove_transparency(_crop_to_box(upright, box), remarks), colour)


def cut_face(image: Image.Image, place: FacePlace | None, margin: float) -> Image.Image:
    """Return the face at `place` with a margin around it; the whole image if `place` is None."""
    return image if place is None else Image.fromarray(crop(np.asarray(image), place, margin))


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise DataError(
            f"each side must have {MIN_SIDE} pixels or more, and it has {width} by {height}"
        )
    if width * height > MAX_PIXELS:
        raise DataError(f"it must have at most {MAX_PIXELS:,} pixels, and has {width} by {height}")


def _crop_to_box(image: Image.Image, box: Box | None) -> Image.Image:
    if box is None:
        return image
    left, top, width, height = box
    inside = (
        max(left, 0),
        max(top, 0),
        min(left + width, image.width),
        min(top + height, image.height),
    )
    _check_size((inside[2] - inside[0], inside[3] - inside[1]))
    return image.crop(inside)


def _rotate_upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """Return the image rotated as the EXIF data of its source says."""
    try:
        orientation = source.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # the EXIF data can be damaged while the picture is sound
        return image
    turn = _TRANSPOSE_OF_ORIENTATION.get(orientation)
    return image if turn is None else image.transpose(turn)


def _remove_transparency(image: Image.Image, remarks: list[str] | None) -> Image.Image:
    """Return the image as L or RGB, with transparent parts on black."""
    if "transparency" not in image.info and image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    layered = image.convert("RGBA")
    if remarks is not None and np.asarray(layered)[..., 3].min() < 255:
        remarks.append(TRANSPARENT_PARTS)
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), layered).convert(
        "RGB"
    )


def name_mode(colour: Colour) -> str:
    """Return Pillow's name of a colour: L or RGB."""
    return "L" if colour == "grey" else "RGB"


def convert_colour(image: Image.Image, colour: Colour) -> Image.Image:
    """Return an image in grey or RGB."""
    return image.convert(name_mode(colour))


def resize_image(image: Image.Image, size: int | None, filter: Filter) -> Image.Image:
    """Return an image at `size` by `size` pixels; unchanged if `size` is None."""
    if size is None or image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling[filter.upper()])


def convert_to_image(array: UInt8[np.ndarray, "c h w"]) -> Image.Image:
    """Return an array of channels as an image of Pillow.

    One channel is grey and three are RGB. Other numbers of channels, such as the moments of a clip,
    stand next to each other in grey.
    """
    if len(array) not in (1, 3):
        array = np.concatenate(list(array), axis=1)[None]
    return Image.fromarray(
        array[0] if len(array) == 1 else np.ascontiguousarray(np.moveaxis(array, 0, 2))
    )


def convert_to_array(image: Image.Image) -> UInt8[np.ndarray, "c h w"]:
    """Return an L or RGB image as uint8 [c, h, w]."""
    array = np.asarray(image)
    return array[None].copy() if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, 2, 0))
