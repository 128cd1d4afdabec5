"""Marks: each picture's file says that a machine made it, and names the image.

A PNG file gets two text chunks: an XMP packet with IPTC's DigitalSourceType, which other programs
read, and a small JSON, which `mien verify` reads. A JPEG file gets the same packet, and the JSON as
its comment. They do not change the pixels, and are lost when a program that drops them saves the
picture again.
"""

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from mien import pictures
from mien.errors import DataError
from mien.pictures import MAX_PIXELS

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

XMP_KEYWORD, MARK_KEYWORD = "XML:com.adobe.xmp", "mien"  # the keywords of the two chunks

MARK_DIGITS = 16  # digits of the pixels' sha256 in a mark

COMMENT_LEAD = "synthetic, made by mien "  # before the JSON in the comment of a JPEG file

JPEG_QUALITY = 100  # movements of one or two grey levels survive

ZLIB_LEVEL = 9  # compression level of zlib: 48x48 faces are small, and are written once

_DECLARED = re.compile(rf"DigitalSourceType\s*(?:=\s*[\"']|>\s*){re.escape(SOURCE_TYPE)}\s*[\"'<]")


@dataclass(frozen=True)
class Mark:
    """What a picture says about itself.

    `pixels` is the start of the sha256 of its pixels, so that a mark fits one picture only.
    """

    image: str
    run: str
    seed: int
    label: str
    licence: str
    pixels: str


@dataclass(frozen=True)
class MarkedPicture:
    """The content of a picture file: pixels as uint8 [c, h, w], their sha256, and its marks.

    `declared`: whether its XMP says that a machine made it.
    """

    image: UInt8[np.ndarray, "c h w"]
    pixels: str
    mark: Mark | None
    declared: bool

    @property
    def grey(self) -> bool:
        """Whether all channels are equal."""
        return bool((self.image == self.image[:1]).all())

    @property
    def fits(self) -> bool:
        """Whether there is a mark, and it was made for these pixels."""
        return self.mark is not None and self.pixels.startswith(self.mark.pixels)


def hash_pixels(image: UInt8[np.ndarray, "c h w"]) -> str:
    """Return the sha256 of an image's pixels, as the index of Faces holds it."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def encode_png(image: UInt8[np.ndarray, "c h w"], mark: Mark, system: str, version: str) -> bytes:
    """Return an image as a marked PNG file; `system` and `version` name what made it.

    Equal input gives equal bytes.
    """
    text_chunks = PngInfo()
    text_chunks.add_itxt(XMP_KEYWORD, make_xmp_packet(system, version))
    text_chunks.add_text(MARK_KEYWORD, json.dumps(asdict(mark), separators=(",", ":")))
    array = image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(
        buffer, "PNG", pnginfo=text_chunks, compress_level=ZLIB_LEVEL
    )
    return buffer.getvalue()


def encode_jpeg(image: UInt8[np.ndarray, "c h w"], mark: Mark, system: str, version: str) -> bytes:
    """Return an image as a marked JPEG file; `system` and `version` name what made it.

    JPEG changes pixels by a grey level or two. `pixels` of the mark in the file is therefore the
    digest of what the file holds, whatever `mark` says. Equal input gives equal bytes.
    """
    plain = encode_plain_jpeg(image)
    with pictures.open_image(plain) as picture:
        held = np.asarray(picture)
    pixels = held[None] if held.ndim == 2 else np.ascontiguousarray(np.moveaxis(held, 2, 0))
    fitting = replace(mark, pixels=hash_pixels(pixels)[:MARK_DIGITS])
    comment = COMMENT_LEAD + json.dumps(asdict(fitting), separators=(",", ":"))
    return encode_plain_jpeg(
        image, comment=comment.encode(), xmp=make_xmp_packet(system, version).encode()
    )


def encode_plain_jpeg(image: UInt8[np.ndarray, "c h w"], **segments: bytes) -> bytes:
    """Return an image as a JPEG file of the highest quality; `segments` are comment and xmp."""
    array = image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, **segments
    )
    return buffer.getvalue()


def make_xmp_packet(system: str, version: str) -> str:
    """Return an XMP packet (ISO 16684-1) with the fields of IPTC 2025.1 for AI images."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
        'xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f"Iptc4xmpExt:DigitalSourceType={quoteattr(SOURCE_TYPE)} "
        f"Iptc4xmpExt:AISystemUsed={quoteattr(system)} "
        f"Iptc4xmpExt:AISystemVersionUsed={quoteattr(version)}/></rdf:RDF></x:xmpmeta><?xpacket "
        'end="r"?>'
    )


def read_picture(data: bytes, name: str) -> MarkedPicture:
    """Return the content of the picture in `data`, of any format that Pillow reads.

    `name` is for messages. Raises DataError if it is not a picture, is damaged, or has more than 64
    million pixels.
    """
    with pictures.describe_errors(name), pictures.open_image(data) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS:,} pixels")
        picture.load()
        texts = picture.text if isinstance(picture, PngImageFile) else {}
        packet = picture.info.get("xmp", b"")  # of other formats, such as WebP
        comment = picture.info.get("comment", b"") if picture.format == "JPEG" else b""
        values = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    image = (
        values[None].copy() if values.ndim == 2 else np.ascontiguousarray(np.moveaxis(values, 2, 0))
    )
    packet_text = packet.decode("utf-8", errors="replace") if isinstance(packet, bytes) else ""
    declared = bool(_DECLARED.search(str(texts.get(XMP_KEYWORD, "")) or packet_text))
    mark_text = str(texts.get(MARK_KEYWORD, "")) or _read_comment(comment)
    return MarkedPicture(image, hash_pixels(image), parse_mark(mark_text), declared)


def _read_comment(comment: object) -> str:
    """Return the JSON in the comment of a JPEG file; empty if it has none."""
    text = comment.decode("utf-8", errors="replace") if isinstance(comment, bytes) else ""
    return text.removeprefix(COMMENT_LEAD) if text.startswith(COMMENT_LEAD) else ""


def parse_mark(text: str) -> Mark | None:
    """Return the mark that a JSON text holds, or None if it holds none."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    field_types = {
        "image": str,
        "run": str,
        "seed": int,
        "label": str,
        "licence": str,
        "pixels": str,
    }
    if not isinstance(fields, dict) or fields.keys() != field_types.keys():
        return None
    is_mark = (
        all(type(fields[name]) is kind for name, kind in field_types.items())
        and len(fields["pixels"]) == MARK_DIGITS
    )
    return Mark(**fields) if is_mark else None


def read_file(path: Path) -> MarkedPicture:
    """Return the content of a picture file; raises DataError if it cannot be read as a picture."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} must be a file that can be read: {error.strerror}") from None
    return read_picture(data, str(path))
