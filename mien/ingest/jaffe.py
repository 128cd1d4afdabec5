"""JAFFE (Lyons et al. 1998): ten Japanese women, seven posed expressions.

KA.AN1.39.tiff    subject KA, her first photograph of anger, number 39 of 213
"""

import re
from pathlib import Path

from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, some, walk
from mien.ingest.rows import Row, listing, matches, whole

READER = Reader(
    dataset="jaffe",
    title="JAFFE",
    needs="FOLDER with KA.AN1.39.tiff and the other photographs",
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
    rf"(?:.*/)?(({'|'.join(SUBJECTS)})[ ._-]*({_CODES})[ ._-]*([0-9])[ ._-]+([0-9]{{1,3}}) "
    r"*(\.tiff?)?)\.[a-z]+",
    re.IGNORECASE,
)
_EXACT = re.compile(
    rf"(?:.*/)?({'|'.join(SUBJECTS)})\.({_CODES.upper()})[0-9]\.[0-9]{{1,3}}\.[a-z]+"
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the photographs with the subject and the posed expression that their names say.

    A misspelt name is read and reported if it has only one meaning; any other is left out. Raises
    DataError as `listing` does.
    """
    images, findings = walk(root)
    matched, stray = matches(images, _IMAGE, "SUBJECT.EMOTIONk.NUMBER.tiff")

    # Report names that are misspelt and still have only one meaning.
    misspelt = [image[0] for image in matched if not _EXACT.fullmatch(image[0])]
    if misspelt:
        message = (
            f"names that differ from the form KA.AN1.39.tiff and were still read: {len(misspelt)}"
        )
        findings.append(Finding("warning", "misspelt name", some(misspelt), message))

    # Each photograph is an image without a clip.
    rows = [
        Row(
            path=image[0],
            key=f"{image[2].upper()}.{image[3].upper()}{image[4]}.{int(image[5])}",
            raw_label=image[3],
            subject=image[2].upper(),
        )
        for image in matched
    ]
    return listing(
        root, rows, [*findings, *stray, *whole(len(matched), IMAGES, "images")], spec, READER
    )


def recognise(look: Look) -> str | None:
    """Return what shows that the folder is JAFFE: the name of a photograph."""
    # Exact names come first, because the user sees this name.
    image = look.first(_EXACT.pattern) or look.first(_IMAGE.pattern)
    return f"{image} has the name of one of its photographs" if image else None
