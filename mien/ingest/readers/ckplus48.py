"""CK+48: the last three frames of the sequences of CK+, at 48x48 in grey.

Each class has a folder of its own.

CK+48/disgust/S010_004_00000017.png     subject S010, sequence 004, frame 17
"""

import re
from pathlib import Path

from mien.findings import Finding, list_some
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.ckplus import READER as CKPLUS
from mien.ingest.readers.rows import ImageRow, make_listing, match_paths, report_incomplete_release
from mien.ingest.specs import IngestSpec

READER = Reader(
    dataset="ckplus48",
    title="CK+48",
    needs="FOLDER with {anger,contempt,disgust,fear,happy,sadness,surprise}/S010_004_00000017.png",
    subjects="the names of the files",
    clips="the names of the files",
    licence="CK+ agreement: non-commercial research, no redistribution",
    terms=CKPLUS.terms,
    other_names=("ck48", "ck+48"),
    citation=(
        "Lucey P, Cohn JF, Kanade T, Saragih J, Ambadar Z, Matthews I (2010) The Extended "
        "Cohn-Kanade Dataset (CK+): A complete dataset for action unit and emotion-specified "
        "expression. CVPR Workshops, 94-101"
    ),
    obtain=(
        "sign the CK+ agreement (jeffcohn.net/Resources), from which the public copies are cut"
    ),
    labels={
        "anger": "anger",
        "contempt": "contempt",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happiness",
        "sadness": "sadness",
        "surprise": "surprise",
    },
)

CKPLUS48_RELEASED_IMAGES = 981

_CKPLUS48_IMAGE_PATTERN = re.compile(
    r"(?:.*/)?([^/]+)/S([0-9]{3})_([0-9]{3})_([0-9]{1,8})\.[a-z]+", re.IGNORECASE
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames, by subject and sequence; the last of a sequence is its apex.

    A sequence with images in two classes is left out, since its label is unknown. Raises DataError
    as `make_listing` does.
    """
    images, findings = walk(root)
    matched, stray = match_paths(images, _CKPLUS48_IMAGE_PATTERN, "CLASS/S010_004_NNNNNNNN.png")

    # Find the classes and the last frame of each sequence.
    classes: dict[str, set[str]] = {}
    last: dict[str, int] = {}
    for image in matched:
        classes.setdefault(_name_clip(image), set()).add(image[1].lower())
        last[_name_clip(image)] = max(last.get(_name_clip(image), -1), int(image[4]))

    # Leave out sequences that are in more than one class.
    contradictory = sorted(clip for clip, names in classes.items() if len(names) > 1)
    if contradictory:
        message = f"sequences with images in more than one class, left out: {len(contradictory)}"
        lost_images = tuple(image[0] for image in matched if _name_clip(image) in contradictory)
        findings.append(
            Finding(
                "warning", "contradiction", list_some(contradictory), message, pictures=lost_images
            )
        )

    # The last frame of a sequence is its apex.
    rows = [
        ImageRow(
            path=image[0],
            key=f"{_name_clip(image)}/{int(image[4])}",
            raw_label=image[1],
            subject=f"S{image[2]}",
            clip=_name_clip(image),
            frame=int(image[4]),
            phase="apex" if int(image[4]) == last[_name_clip(image)] else "rise",
        )
        for image in matched
        if _name_clip(image) not in contradictory
    ]
    return make_listing(
        root,
        rows,
        [
            *findings,
            *stray,
            *report_incomplete_release(len(matched), CKPLUS48_RELEASED_IMAGES, "images"),
        ],
        spec,
        READER,
    )


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is CK+48: a frame of CK+ in the folder of a class."""
    classes = "|".join(READER.labels)
    image = look.find_first(rf"(.*/)?({classes})/S[0-9]{{3}}_[0-9]{{3}}_[0-9]{{8}}\.[a-z]+")
    return f"{image} is a frame of CK+ in the folder of a class" if image else None


def _name_clip(match: re.Match[str]) -> str:
    return f"S{match[2]}/{match[3]}"
