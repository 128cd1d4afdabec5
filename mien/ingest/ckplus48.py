"""CK+48: the last three frames of each labelled sequence of CK+, cropped to 48x48 grey faces.

Each class has a folder of its own.

CK+48/disgust/S010_004_00000017.png     subject S010, sequence 004, frame 17
"""

import re
from pathlib import Path

from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, some, walk
from mien.ingest.rows import Row, listing, matches, whole

READER = Reader(
    dataset="ckplus48",
    title="CK+48",
    needs="FOLDER with {anger,contempt,disgust,fear,happy,sadness,surprise}/S010_004_00000017.png",
    subjects="the names of the files",
    clips="the names of the files",
    licence="CK+ agreement: non-commercial research, no redistribution",
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

IMAGES = 981
_IMAGE = re.compile(r"(?:.*/)?([^/]+)/S([0-9]{3})_([0-9]{3})_([0-9]{1,8})\.[a-z]+", re.IGNORECASE)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames, by subject and sequence; the last of a sequence is its apex.

    A sequence with images in two classes is left out, since its label is unknown. Raises DataError
    as `listing` does.
    """
    images, findings = walk(root)
    matched, stray = matches(images, _IMAGE, "CLASS/S010_004_NNNNNNNN.png")

    # Find the classes and the last frame of each sequence.
    classes: dict[str, set[str]] = {}
    last: dict[str, int] = {}
    for image in matched:
        classes.setdefault(_clip(image), set()).add(image[1].lower())
        last[_clip(image)] = max(last.get(_clip(image), -1), int(image[4]))

    # Leave out sequences that are in more than one class.
    contradictory = sorted(clip for clip, names in classes.items() if len(names) > 1)
    if contradictory:
        message = f"sequences with images in more than one class, left out: {len(contradictory)}"
        lost_images = tuple(image[0] for image in matched if _clip(image) in contradictory)
        findings.append(
            Finding("warning", "contradiction", some(contradictory), message, pictures=lost_images)
        )

    # The last frame of a sequence is its apex.
    rows = [
        Row(
            path=image[0],
            key=f"{_clip(image)}/{int(image[4])}",
            raw_label=image[1],
            subject=f"S{image[2]}",
            clip=_clip(image),
            frame=int(image[4]),
            phase="apex" if int(image[4]) == last[_clip(image)] else "rise",
        )
        for image in matched
        if _clip(image) not in contradictory
    ]
    return listing(
        root, rows, [*findings, *stray, *whole(len(matched), IMAGES, "images")], spec, READER
    )


def recognise(look: Look) -> str | None:
    """Return what shows that the folder is CK+48: a frame of CK+ in the folder of a class."""
    classes = "|".join(READER.labels)
    image = look.first(rf"(.*/)?({classes})/S[0-9]{{3}}_[0-9]{{3}}_[0-9]{{8}}\.[a-z]+")
    return f"{image} is a frame of CK+ in the folder of a class" if image else None


def _clip(match: re.Match[str]) -> str:
    return f"S{match[2]}/{match[3]}"
