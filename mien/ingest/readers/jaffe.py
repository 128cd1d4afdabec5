"""JAFFE (Lyons et al. 1998): ten Japanese women, seven posed expressions.

KA.AN1.39.tiff    subject KA, her first photograph of anger, number 39 of 213
"""

import re
from pathlib import Path

from mien.findings import Finding, list_some
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import ImageRow, make_listing, match_paths, report_incomplete_release
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="jaffe",
    title="JAFFE",
    needs="FOLDER with KA.AN1.39.tiff and the other photographs",
    subjects="the names of the files",
    clips="nowhere: single photographs",
    licence="JAFFE terms: non-commercial research, no redistribution",
    terms=make_request_terms("JAFFE", "https://zenodo.org/records/3451524"),
    citation=(
        "Lyons M, Akamatsu S, Kamachi M, Gyoba J (1998) Coding Facial Expressions with Gabor "
        "Wavelets. IEEE International Conference on Automatic Face and Gesture Recognition, 200-205"
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

JAFFE_RELEASED_IMAGES = 213

SUBJECT_CODES = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")

_CODES = "|".join(READER.labels)

# Copies differ in case, in the marks between the parts, and in a second suffix (.tiff.png).
_JAFFE_IMAGE_PATTERN = re.compile(
    rf"(?:.*/)?(({'|'.join(SUBJECT_CODES)})[ ._-]*({_CODES})[ ._-]*([0-9])[ ._-]+([0-9]{{1,3}}) "
    r"*(\.tiff?)?)\.[a-z]+",
    re.IGNORECASE,
)

_EXACT_PATTERN = re.compile(
    rf"(?:.*/)?({'|'.join(SUBJECT_CODES)})\.({_CODES.upper()})[0-9]\.[0-9]{{1,3}}\.[a-z]+"
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the photographs with the subject and the posed expression that their names say.

    A misspelt name is read and reported if it has only one meaning; any other is left out. Raises
    DataError as `make_listing` does.
    """
    images, findings = walk(root)
    matched, stray = match_paths(images, _JAFFE_IMAGE_PATTERN, "SUBJECT.EMOTIONk.NUMBER.tiff")

    # Report names that are misspelt and still have only one meaning.
    misspelt = [image[0] for image in matched if not _EXACT_PATTERN.fullmatch(image[0])]
    if misspelt:
        message = (
            f"names that differ from the form KA.AN1.39.tiff and were still read: {len(misspelt)}"
        )
        findings.append(Finding("warning", "misspelt name", list_some(misspelt), message))

    # Each photograph is an image without a clip.
    rows = [
        ImageRow(
            path=image[0],
            key=f"{image[2].upper()}.{image[3].upper()}{image[4]}.{int(image[5])}",
            raw_label=image[3],
            subject=image[2].upper(),
        )
        for image in matched
    ]
    return make_listing(
        root,
        rows,
        [
            *findings,
            *stray,
            *report_incomplete_release(len(matched), JAFFE_RELEASED_IMAGES, "images"),
        ],
        spec,
        READER,
    )


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is JAFFE: the name of a photograph."""
    # Exact names come first, because the user sees this name.
    image = look.find_first(_EXACT_PATTERN.pattern) or look.find_first(_JAFFE_IMAGE_PATTERN.pattern)
    return f"{image} has the name of one of its photographs" if image else None
