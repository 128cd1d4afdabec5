"""KDEF (Lundqvist et al. 1998): seventy people, seven expressions, five angles, each photographed
twice.

    AF01ANS.JPG     series A, female 01, angry, straight; with or without a folder AF01 around it

AF01 and BF01 are one person: the subject is F01, and no split may part the two series.
"""

import re
from pathlib import Path

from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, some, walk
from mien.ingest.rows import Row, listing, matches, whole

READER = Reader(
    dataset="kdef",
    title="KDEF",
    needs="FOLDER with AF01ANS.JPG or AF01/AF01ANS.JPG and others of that kind",
    subjects=(
        "the names of the files, without the letter of the series: AF01 and BF01 are one person"
    ),
    clips="nowhere: single photographs",
    licence="KDEF terms: non-commercial research, no redistribution, no use in apps",
    citation=(
        "Lundqvist D, Flykt A, Öhman A (1998) The Karolinska Directed Emotional Faces - KDEF. CD "
        "ROM from Department of Clinical Neuroscience, Psychology section, Karolinska Institutet, "
        "ISBN 91-630-7164-9"
    ),
    obtain="accept the terms at kdef.se",
    labels={
        "af": "fear",  # afraid
        "an": "anger",
        "di": "disgust",
        "ha": "happiness",
        "ne": "neutral",
        "sa": "sadness",
        "su": "surprise",
    },
    parts={
        "all": "all five angles",
        "straight": "faces seen from the front",
        "half": "faces turned half to a side",
        "full": "profiles",
    },
)

IMAGES = 4900
ANGLES = {"S": "straight", "HL": "half", "HR": "half", "FL": "full", "FR": "full"}
_IMAGE = re.compile(
    rf"(?:.*/)?([AB])([FM])([0-9]{{2}})({'|'.join(READER.labels)})(S|HL|HR|FL|FR)\.[a-z]+",
    re.IGNORECASE,
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the photographs of the angles that `spec.part` names.

    A name that is cut short says no longer what it shows; such images are reported and left out.
    Raises DataError as `listing` does.
    """
    part = spec.part or "all"
    images, findings = walk(root)
    found, stray = matches(images, _IMAGE, "[AB][FM]NN, expression and angle, as in AF01ANS.JPG")
    kept = [image for image in found if part in ("all", ANGLES[image[5].upper()])]
    if len(kept) < len(found):
        what = f"images of other angles than '{part}', left out: {len(found) - len(kept)}"
        lost = tuple(image[0] for image in found if ANGLES[image[5].upper()] != part)
        findings.append(Finding("note", "other angles", ".", what, pictures=lost))
    pairs = {
        series: {f"{image[2]}{image[3]}".upper() for image in found if image[1].upper() == series}
        for series in "AB"
    }
    single = sorted(pairs["A"] ^ pairs["B"])
    if single:
        what = f"people of whom one series of the two is there: {len(single)}"
        findings.append(Finding("note", "one series", some(single), what))
    rows = [
        Row(
            path=image[0],
            key="".join(image.groups()).upper(),
            raw_label=image[4],
            subject=f"{image[2]}{image[3]}".upper(),
        )
        for image in kept
    ]
    told = [*findings, *stray, *whole(len(found), IMAGES, "images")]
    return listing(root, rows, told, spec, READER, part=part)


def recognise(look: Look) -> str | None:
    """Say by what the folder is KDEF: one name of its kind."""
    image = look.first(_IMAGE.pattern)
    return f"{image} is named as its photographs are" if image else None
