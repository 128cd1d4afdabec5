"""JAFFE (Lyons et al. 1998): ten Japanese women, seven posed expressions, a few photographs of
each.

KA.AN1.39.tiff     subject KA, anger, the first of it, number 39 of 213
"""

import re
from pathlib import Path

from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, some, walk
from mien.ingest.rows import Row, listing, matches, whole

READER = Reader(
    dataset="jaffe",
    title="JAFFE",
    needs="FOLDER with KA.AN1.39.tiff and others of that kind",
    subjects="the names of the files",
    clips="nowhere: single photographs",
    licence="JAFFE terms: non-commercial research, no redistribution",
    citation=(
        "Lyons M, Akamatsu S, Kamachi M, Gyoba J (1998) Coding Facial Expressions with Gabor "
        "Wavelets. IEEE International Conference on Automatic Face and Gesture Recognition, "
        "200-205"
    ),
    obtain="ask for access at zenodo.org/records/3451524",
    labels={
        "an": "anger",
        "di": "disgust",
        "fe": "fear",
        "ha": "happiness",
        "ne": "neutral",
        "sa": "sadness",
        "su": "surprise",
    },
)

IMAGES = 213
SUBJECTS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
_CODES = "|".join(READER.labels)
# Copies differ in case, in the marks between the parts, and in a second suffix (.tiff.png).
_IMAGE = re.compile(
    (
        rf"(?:.*/)?(({'|'.join(SUBJECTS)})[ ._-]*({_CODES})[ ._-]*([0-9])[ ._-]+([0-9]{{1,3}}) "
        rf"*(\.tiff?)?)\.[a-z]+"
    ),
    re.IGNORECASE,
)
_EXACT = re.compile(
    rf"(?:.*/)?({'|'.join(SUBJECTS)})\.({_CODES.upper()})[0-9]\.[0-9]{{1,3}}\.[a-z]+"
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the photographs by what their names say; posed labels, as everyone uses them.

    A name that is written in another way, and can still be read in one way only, is read and
    reported; any other is left out. Raises DataError as `listing` does.
    """
    images, findings = walk(root)
    found, stray = matches(images, _IMAGE, "SUBJECT.EMOTIONk.NUMBER.tiff")
    mended = [image[0] for image in found if not _EXACT.fullmatch(image[0])]
    if mended:
        what = (
            "names that are not written as KA.AN1.39.tiff is, and were read all the same: "
            f"{len(mended)}"
        )
        findings.append(Finding("warning", "misspelt name", some(mended), what))
    rows = [
        Row(
            path=image[0],
            key=f"{image[2].upper()}.{image[3].upper()}{image[4]}.{int(image[5])}",
            raw_label=image[3],
            subject=image[2].upper(),
        )
        for image in found
    ]
    return listing(
        root, rows, [*findings, *stray, *whole(len(found), IMAGES, "images")], spec, READER
    )


def recognise(look: Look) -> str | None:
    """Say by what the folder is JAFFE: one name of its kind."""
    image = look.first(_EXACT.pattern) or look.first(
        _IMAGE.pattern
    )  # exact ones first: the reason is shown
    return f"{image} is named as its photographs are" if image else None
