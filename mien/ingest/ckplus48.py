"""CK+48: the last three frames of each labelled sequence of CK+, cut to 48x48 grey faces, one
folder a class.

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
        "sign the CK+ agreement (jeffcohn.net/Resources), from which the copies that go around "
        "are cut"
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

    A sequence that stands in two classes is left out, since its label is not known. Raises
    DataError as `listing` does.
    """
    images, findings = walk(root)
    found, stray = matches(images, _IMAGE, "CLASS/S010_004_NNNNNNNN.png")
    classes: dict[str, set[str]] = {}
    last: dict[str, int] = {}
    for image in found:
        classes.setdefault(_clip(image), set()).add(image[1].lower())
        last[_clip(image)] = max(last.get(_clip(image), -1), int(image[4]))
    torn = sorted(clip for clip, names in classes.items() if len(names) > 1)
    if torn:
        what = f"sequences with images in more than one class, left out: {len(torn)}"
        lost = tuple(image[0] for image in found if _clip(image) in torn)
        findings.append(Finding("warning", "contradiction", some(torn), what, pictures=lost))
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
        for image in found
        if _clip(image) not in torn
    ]
    return listing(
        root, rows, [*findings, *stray, *whole(len(found), IMAGES, "images")], spec, READER
    )


def recognise(look: Look) -> str | None:
    """Say by what the folder is CK+48: frames of CK+ in folders called as emotions are."""
    classes = "|".join(READER.labels)
    image = look.first(rf"(.*/)?({classes})/S[0-9]{{3}}_[0-9]{{3}}_[0-9]{{8}}\.[a-z]+")
    return f"{image} is a frame of CK+ in the folder of a class" if image else None


def _clip(match: re.Match[str]) -> str:
    return f"S{match[2]}/{match[3]}"
