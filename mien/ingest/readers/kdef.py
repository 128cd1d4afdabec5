"""KDEF (Lundqvist et al. 1998): 70 people, 7 expressions, 5 angles, 2 series.

    AF01ANS.JPG    series A, female 01, angry, straight; with or without a folder AF01 around it

AF01 and BF01 are one person. The subject is F01, so that no split separates the two series.
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
    dataset="kdef",
    title="KDEF",
    needs="FOLDER with AF01ANS.JPG or AF01/AF01ANS.JPG and the other photographs",
    subjects=(
        "the names of the files, without the letter of the series: AF01 and BF01 are one person"
    ),
    clips="nowhere: single photographs",
    licence="KDEF terms: non-commercial research, no redistribution, no use in apps",
    terms=make_request_terms("KDEF", "the terms of Karolinska Institutet"),
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

KDEF_RELEASED_IMAGES = 4900

ANGLES = {"S": "straight", "HL": "half", "HR": "half", "FL": "full", "FR": "full"}

_KDEF_IMAGE_PATTERN = re.compile(
    rf"(?:.*/)?([AB])([FM])([0-9]{{2}})({'|'.join(READER.labels)})(S|HL|HR|FL|FR)\.[a-z]+",
    re.IGNORECASE,
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the photographs of the angles that `spec.part` names.

    Images with an incomplete name are reported and left out, since it does not say what they show.
    Raises DataError as `make_listing` does.
    """
    part = spec.part or "all"
    images, findings = walk(root)
    matched, stray = match_paths(
        images, _KDEF_IMAGE_PATTERN, "[AB][FM]NN, expression and angle, as in AF01ANS.JPG"
    )

    # Select the angles that are asked for.
    selected = [image for image in matched if part in ("all", ANGLES[image[5].upper()])]
    if len(selected) < len(matched):
        message = f"images of other angles than '{part}', left out: {len(matched) - len(selected)}"
        lost_images = tuple(image[0] for image in matched if ANGLES[image[5].upper()] != part)
        findings.append(Finding("note", "other angles", ".", message, pictures=lost_images))

    # Report people of whom only one series is present.
    subjects = {
        series: {f"{image[2]}{image[3]}".upper() for image in matched if image[1].upper() == series}
        for series in "AB"
    }
    unpaired = sorted(subjects["A"] ^ subjects["B"])
    if unpaired:
        message = f"people with only one of the two series: {len(unpaired)}"
        findings.append(Finding("note", "one series", list_some(unpaired), message))

    # The letter of the series is not part of the subject.
    rows = [
        ImageRow(
            path=image[0],
            key="".join(image.groups()).upper(),
            raw_label=image[4],
            subject=f"{image[2]}{image[3]}".upper(),
        )
        for image in selected
    ]
    reported = [
        *findings,
        *stray,
        *report_incomplete_release(len(matched), KDEF_RELEASED_IMAGES, "images"),
    ]
    return make_listing(root, rows, reported, spec, READER, part=part)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is KDEF: the name of a photograph."""
    image = look.find_first(_KDEF_IMAGE_PATTERN.pattern)
    return f"{image} has the name of one of its photographs" if image else None
