"""Oulu-CASIA (Zhao et al. 2011): eighty people, six expressions, filmed by two cameras in three
lights.

    B_OriginalImg/OriginalImg/VL/Strong/P012/Anger/000.jpeg       VL: visible light; NI: near infrared

A sequence goes from a neutral face up to the expression. The same person is in all six cells, so a
split must be of people, never of files.
"""

import re
from pathlib import Path

from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, some, walk
from mien.ingest.rows import Row, climb, listing, matches

CELLS = {
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
    clips="one in each camera, light and expression",
    licence="Oulu-CASIA agreement: research only, no redistribution",
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
    parts={**CELLS, "all": "both cameras in all lights"},
)

_LABELS = "|".join(READER.labels)
_IMAGE = re.compile(
    rf"(.*/)?(?:(VL|NI)[^/]*)/(Strong|Weak|Dark)/P([0-9]{{1,3}})/({_LABELS}|[A-Za-z]+)/0*([0-9]{{1,6}})\.[a-z]+",
    re.IGNORECASE,
)


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of the cells that `spec.part` names: by default the first that is there, VL
    in strong light.

    The first frame of a sequence is its onset, the last its apex. Where a release has both original
    and cropped trees, cropped faces are read, and it is said. Raises DataError as `listing` does.
    """
    images, findings = walk(root)
    found, stray = matches(images, _IMAGE, "{VL,NI}/{Strong,Weak,Dark}/Pnnn/EXPRESSION/NNN.jpeg")
    found, trees = _one_tree(found)
    cells = {_cell(image) for image in found}
    part = spec.part or next((cell for cell in CELLS if cell in cells), "all")
    findings += [*stray, *trees]
    if part != "all" and cells - {part}:
        what = (
            f"the part {part} was read, and not {', '.join(sorted(cells - {part}))}; --part all "
            "takes all"
        )
        others = tuple(image[0] for image in found if _cell(image) != part)
        findings.append(Finding("note", "part", part, what, pictures=others))
    clips: dict[tuple[str, str, str], dict[int, str]] = {}
    twice = []
    for image in found:
        if part in ("all", _cell(image)):
            known = (_cell(image), f"P{int(image[4]):03d}", image[5].capitalize())
            if clips.setdefault(known, {}).setdefault(int(image[6]), image[0]) != image[0]:
                twice.append(image[0])
    if twice:
        what = (
            f"images with the frame number of another in the same sequence, left out: {len(twice)}"
        )
        findings.append(
            Finding("warning", "repeated frame", some(twice), what, pictures=tuple(twice))
        )
    rows = []
    for (cell, subject, emotion), frames in clips.items():
        clip = f"{subject}/{cell}/{emotion}"
        findings += _gaps(clip, frames)
        rows += [
            Row(path, f"{clip}/{number}", emotion, subject, clip, number, phase)
            for number, (path, phase) in climb(frames).items()
        ]
    return listing(root, rows, findings, spec, READER, part=part)


def recognise(look: Look) -> str | None:
    """Say by what the folder is Oulu-CASIA: camera, light, person and expression, one within the
    other.
    """
    image = look.first(rf"(.*/)?(VL|NI)[^/]*/(Strong|Weak|Dark)/P[0-9]+/({_LABELS})/[0-9]+\.[a-z]+")
    return f"{image} lies below camera, light, person and expression" if image else None


def _cell(image: re.Match[str]) -> str:
    return f"{image[2].upper()}-{image[3].capitalize()}"


def _one_tree(found: list[re.Match[str]]) -> tuple[list[re.Match[str]], list[Finding]]:
    """Return the images of one of the trees that hold the same clips: cropped faces rather than
    whole pictures.
    """
    trees = {image[0][: image.start(3)] for image in found}  # ../VL_Acropped/
    chosen = {}
    for tree in sorted(trees, key=lambda tree: ("crop" not in tree.lower(), tree)):
        chosen.setdefault(tree.rstrip("/").rsplit("/", 1)[-1][:2].upper(), tree)
    others = sorted(trees - set(chosen.values()))
    if not others:
        return found, []
    what = f"the frames were read here, and not in {some(others)}"
    kept = [image for image in found if image[0][: image.start(3)] in chosen.values()]
    lost = tuple(image[0] for image in found if image[0][: image.start(3)] not in chosen.values())
    return kept, [Finding("note", "tree", some(sorted(chosen.values())), what, pictures=lost)]


def _gaps(clip: str, frames: dict[int, str]) -> list[Finding]:
    absent = sorted(set(range(min(frames), max(frames))) - set(frames))
    if not absent:
        return []
    what = (
        "numbers between the first frame and the last without a file: "
        f"{some([str(number) for number in absent])}"
    )
    return [Finding("warning", "missing frames", clip, what)]
