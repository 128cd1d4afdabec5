"""Oulu-CASIA (Zhao et al. 2011): 80 people, 6 expressions, 2 cameras.

    B_OriginalImg/OriginalImg/VL/Strong/P012/Anger/000.jpeg    VL: visible light; NI: near infrared

A sequence goes from a neutral face to the expression. Every person is in all six combinations of
camera and light, so a split must be by subject, never by file.
"""

import re
from pathlib import Path

from mien.findings import Finding, list_some
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import ImageRow, assign_phases, make_listing, match_paths
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

CAMERAS_AND_LIGHTS = {
    f"{camera}-{light}": f"{name}, {light.lower()} light"
    for camera, name in (("VL", "visible light"), ("NI", "near infrared"))
    for light in ("Strong", "Weak", "Dark")
}

READER = Reader(
    dataset="oulu-casia",
    title="Oulu-CASIA NIR&VIS",
    needs=(
        "FOLDER with {VL,NI}/{Strong,Weak,Dark}/P012/Anger/000.jpeg, as in "
        "B_OriginalImg/OriginalImg"
    ),
    subjects="the folders Pnnn",
    clips="one for each camera, light and expression",
    licence="Oulu-CASIA agreement: research only, no redistribution",
    terms=make_request_terms("Oulu-CASIA", "the form of the University of Oulu"),
    citation=(
        "Zhao G, Huang X, Taini M, Li SZ, Pietikäinen M (2011) Facial expression recognition from "
        "near-infrared videos. Image and Vision Computing 29(9): 607-619"
    ),
    obtain="sign the form of the Center for Machine Vision and Signal Analysis, University of Oulu",
    labels={
        "anger": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "sadness": "sadness",
        "surprise": "surprise",
    },
    parts={**CAMERAS_AND_LIGHTS, "all": "both cameras in all lights"},
)

_LABELS = "|".join(READER.labels)

_OULU_CASIA_IMAGE_PATTERN = re.compile(
    r"(.*/)?(?:(VL|NI)[^/]*)/(Strong|Weak|Dark)/P([0-9]{1,3})/"
    rf"({_LABELS}|[A-Za-z]+)/0*([0-9]{{1,6}})\.[a-z]+",
    re.IGNORECASE,
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of the camera and light that `spec.part` names, or of all.

    By default they are those of the first combination that exists, VL in strong light. The first
    frame of a sequence is its onset, the last its apex. Where a release has both original and
    cropped trees, cropped faces are read, which is reported. Raises DataError as `make_listing`
    does.
    """
    images, findings = walk(root)
    matched, stray = match_paths(
        images, _OULU_CASIA_IMAGE_PATTERN, "{VL,NI}/{Strong,Weak,Dark}/Pnnn/EXPRESSION/NNN.jpeg"
    )
    matched, trees = _choose_trees(matched)

    # Select one combination of camera and light, unless all are asked for.
    cells = {_name_cell(image) for image in matched}
    part = spec.part or next((cell for cell in CAMERAS_AND_LIGHTS if cell in cells), "all")
    findings += [*stray, *trees]
    if part != "all" and cells - {part}:
        message = (
            f"the part {part} was read, and not {', '.join(sorted(cells - {part}))}; --part all "
            "reads all"
        )
        other_images = tuple(image[0] for image in matched if _name_cell(image) != part)
        findings.append(Finding("note", "part", part, message, pictures=other_images))

    # Group the frames by sequence; of two with one number, the first is kept.
    clips: dict[tuple[str, str, str], dict[int, str]] = {}
    repeated = []
    for image in matched:
        if part in ("all", _name_cell(image)):
            sequence = (_name_cell(image), f"P{int(image[4]):03d}", image[5].capitalize())
            if clips.setdefault(sequence, {}).setdefault(int(image[6]), image[0]) != image[0]:
                repeated.append(image[0])
    if repeated:
        message = (
            "images with the frame number of another in the same sequence, left out: "
            f"{len(repeated)}"
        )
        findings.append(
            Finding(
                "warning", "repeated frame", list_some(repeated), message, pictures=tuple(repeated)
            )
        )

    # The first frame of a sequence is its onset, the last its apex.
    rows = []
    for (cell, subject, emotion), frames in clips.items():
        clip = f"{subject}/{cell}/{emotion}"
        findings += _report_gaps(clip, frames)
        rows += [
            ImageRow(path, f"{clip}/{number}", emotion, subject, clip, number, phase)
            for number, (path, phase) in assign_phases(frames).items()
        ]
    return make_listing(root, rows, findings, spec, READER, part=part)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is Oulu-CASIA: an image at VL/Strong/P012/Anger."""
    image = look.find_first(
        rf"(.*/)?(VL|NI)[^/]*/(Strong|Weak|Dark)/P[0-9]+/({_LABELS})/[0-9]+\.[a-z]+"
    )
    return f"{image} is in folders of camera, light, person and expression" if image else None


def _name_cell(image: re.Match[str]) -> str:
    return f"{image[2].upper()}-{image[3].capitalize()}"


def _choose_trees(images: list[re.Match[str]]) -> tuple[list[re.Match[str]], list[Finding]]:
    """Return the images of one tree per camera, and a note about the others.

    The trees of a camera hold the same clips; that of cropped faces is preferred.
    """
    trees = {image[0][: image.start(3)] for image in images}  # ../VL_Acropped/
    chosen = {}
    for tree in sorted(trees, key=lambda tree: ("crop" not in tree.lower(), tree)):
        chosen.setdefault(tree.rstrip("/").rsplit("/", 1)[-1][:2].upper(), tree)
    unread_trees = sorted(trees - set(chosen.values()))
    if not unread_trees:
        return images, []
    message = f"the frames were read here, and not in {list_some(unread_trees)}"
    selected = [image for image in images if image[0][: image.start(3)] in chosen.values()]
    lost_images = tuple(
        image[0] for image in images if image[0][: image.start(3)] not in chosen.values()
    )
    return selected, [
        Finding("note", "tree", list_some(sorted(chosen.values())), message, pictures=lost_images)
    ]


def _report_gaps(clip: str, frames: dict[int, str]) -> list[Finding]:
    """Return a warning about frame numbers of a clip that have no file, if there are any."""
    absent = sorted(set(range(min(frames), max(frames))) - set(frames))
    if not absent:
        return []
    message = (
        "numbers between the first frame and the last without a file: "
        f"{list_some([str(number) for number in absent])}"
    )
    return [Finding("warning", "missing frames", clip, message)]
