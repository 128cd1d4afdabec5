"""Marks: each picture says in its own file that a machine made it, and which one it is.

Two text chunks of PNG: an XMP packet with IPTC's DigitalSourceType, which other programs read, and
a small JSON, which `mien verify` reads. They leave the pixels alone, and are gone once a picture is
saved anew by a program that drops them.
"""

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from mien import pictures
from mien.errors import DataError
from mien.preprocess import MAX_PIXELS

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP, OWN = "XML:com.adobe.xmp", "mien"  # the keywords of the two chunks
DIGITS = 16  # of the pixels' sha256 that a mark carries
LEVEL = 9  # of zlib: 48x48 faces are small, and are written once
_DECLARED = re.compile(rf"DigitalSourceType\s*(?:=\s*[\"']|>\s*){re.escape(SOURCE_TYPE)}\s*[\"'<]")


@dataclass(frozen=True)
class Mark:
    """What a picture says of itself. `pixels` begins the sha256 of its pixels, so that a mark fits
    one picture only.
    """

    image: str
    run: str
    seed: int
    label: str
    licence: str
    pixels: str


@dataclass(frozen=True)
class Seen:
    """What a file shows: pixels as uint8 [c, h, w], their sha256, its mark, and whether XMP says a
    machine made it.
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


def pixels_of(image: UInt8[np.ndarray, "c h w"]) -> str:
    """Return the sha256 of an image's pixels, as the index of Faces has it."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def png(image: UInt8[np.ndarray, "c h w"], mark: Mark, system: str, version: str) -> bytes:
    """Return an image as a marked PNG file; `system` and `version` name what made it. Equal input
    gives equal bytes.
    """
    info = PngInfo()
    info.add_itxt(XMP, packet(system, version))
    info.add_text(OWN, json.dumps(asdict(mark), separators=(",", ":")))
    array = image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(
        buffer, "PNG", pnginfo=info, compress_level=LEVEL
    )
    return buffer.getvalue()


def packet(system: str, version: str) -> str:
    """Return an XMP packet (ISO 16684-1) with what IPTC Photo Metadata 2025.1 has for pictures from
    machines.
    """
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


def read(data: bytes, name: str) -> Seen:
    """Return what the picture in `data` shows, of any format that Pillow reads; `name` is for the
    complaint.

    Raises DataError if it is no picture, damaged, or larger than 64 million pixels.
    """
    with pictures.complained(name), pictures.opened(data) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS:,} pixels")
        picture.load()
        texts = picture.text if isinstance(picture, PngImageFile) else {}
        array = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    image = (
        array[None].copy() if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, 2, 0))
    )
    declared = bool(_DECLARED.search(str(texts.get(XMP, ""))))
    return Seen(image, pixels_of(image), parse(str(texts.get(OWN, ""))), declared)


def parse(text: str) -> Mark | None:
    """Return the mark that a JSON text holds, nothing if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kinds = {"image": str, "run": str, "seed": int, "label": str, "licence": str, "pixels": str}
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        return None
    sound = (
        all(type(found[name]) is kind for name, kind in kinds.items())
        and len(found["pixels"]) == DIGITS
    )
    return Mark(**found) if sound else None


def read_file(path: Path) -> Seen:
    """Return what a picture file shows; raises DataError if it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} must be a file that can be read: {error.strerror}") from None
    return read(data, str(path))
