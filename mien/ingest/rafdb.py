"""RAF-DB, basic emotions (Li et al. 2017): 15,339 faces from the web, each labelled by some forty people.

basic/EmoLabel/list_patition_label.txt                  train_00001.jpg 5      (the misspelling is official)
basic/Image/aligned/train_00001_aligned.jpg             100x100, eyes aligned
basic/Image/original/train_00001.jpg                    as found on the web
DATASET/train/5/train_00001_aligned.jpg                 as mirrors write it: labels are the folders' names
"""

import re
from collections import Counter
from pathlib import Path

from mien.ingest import IMAGE_SUFFIXES, Finding, IngestSpec, Listing, Look, Reader, walk
from mien.ingest.rows import Row, listing, matches, text, told, whole

READER = Reader(
    dataset="rafdb",
    title="RAF-DB, basic",
    needs="FOLDER with EmoLabel/list_patition_label.txt and Image/aligned/train_00001_aligned.jpg",
    subjects="nowhere: pictures from the web",
    clips="nowhere: single photographs",
    licence="RAF-DB terms: non-commercial research, no redistribution; its sibling forbids the use of derived data",
    citation=(
        "Li S, Deng W, Du J (2017) Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression "
        "Recognition in the Wild. CVPR 2017, 2852-2861"
    ),
    obtain="ask for it with the form at whdeng.cn/RAF/model1.html",
    labels={
        "1": "surprise",
        "2": "fear",
        "3": "disgust",
        "4": "happiness",
        "5": "sadness",
        "6": "anger",
        "7": "neutral",
    },
    parts={"aligned": "faces cut out and aligned by the owners", "original": "pictures as found on the web"},
)

IMAGES = 15_339
SAID = {
    "file without row": "images without a label, left out: {}",
    "row without file": "rows of the list without an image: {}",
    "wrong folder": "images in another class's folder than the list says; the list was believed: {}",
    "unusable row": "lines of the list that are not a name and a number from 1 to 7, left out: {}; by their numbers",
    "contradiction": "names with more than one label in the list, left out: {}",
}
_IMAGE = re.compile(r"(.*/)?((train|test)_([0-9]{1,6}))(_aligned)?\.[a-z]+", re.IGNORECASE)
_LIST = re.compile(r"(.*/)?list_par?tition_label\.txt", re.IGNORECASE)
_LINE = re.compile(r"((train|test)_[0-9]{1,6})(?:_aligned)?\.[a-z]+[\s,]+([0-9]{1,3})", re.IGNORECASE)
_FOLDER = re.compile(r"(?:.*/)?([1-7])/[^/]+")


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the images of one part, by default the aligned; keys begin with the official partition.

    Labels come from the list if there is one, and only without one from folders called 1 to 7. Raises DataError as
    `listing` does.
    """
    paths, findings = walk(root, IMAGE_SUFFIXES | {".txt"})
    lists = [path for path in paths if _LIST.fullmatch(path)]
    found, stray = matches(
        [path for path in paths if not path.lower().endswith(".txt")], _IMAGE, "{train,test}_NNNNN[_aligned].jpg"
    )
    there = [part for part in READER.parts if any(_part(image) == part for image in found)]
    part = spec.part or (there or list(READER.parts))[0]
    if spec.part is None and len(there) > 1:
        findings.append(Finding("note", "part", part, f"was read, and not {', '.join(there[1:])}"))
    if part == "original":
        findings.append(Finding("warning", "not cropped", ".", "pictures are whole, not cropped to faces"))
    labels, faults = _labels(root, lists[0]) if lists else (None, {})
    rows = _rows([image for image in found if _part(image) == part], labels, faults)
    if rows:
        counts = Counter(row.key.split("/")[0] for row in rows)
        what = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
        findings.append(Finding("note", "official partition", ".", f"{what}; it stands in front of each key"))
    if not lists:
        findings.append(Finding("note", "labels of folders", ".", "there is no list, so labels are the folders' names"))
    findings += [*stray, *told(faults, SAID), *whole(len(rows), IMAGES, "images")]
    return listing(root, rows, findings, spec, READER, [root / path for path in lists[:1]], part=part)


def recognise(look: Look) -> str | None:
    """Say by what the folder is RAF-DB: its list, or images called as its are in folders 1 to 7."""
    table = look.first(_LIST.pattern)
    if table:
        return f"{table} is its list of labels"
    image = look.first(r"(.*/)?(train|test)/[1-7]/(train|test)_[0-9]{5}(_aligned)?\.[a-z]+")
    return f"{image} is named as its images are" if image else None


def _part(image: re.Match[str]) -> str:
    return "aligned" if image[5] else "original"


def _rows(images: list[re.Match[str]], labels: dict[str, str] | None, faults: dict[str, list[str]]) -> list[Row]:
    """Return the images that have a label: the list's if there is one, or the folder's."""
    rows: list[Row] = []
    for image in images:
        folder = _FOLDER.fullmatch(image[0])
        own = folder[1] if folder else None
        code = own if labels is None else labels.get(image[2].lower())
        if code is None:
            faults.setdefault("file without row", []).append(image[0])
            continue
        if own is not None and own != code:
            faults.setdefault("wrong folder", []).append(image[0])
        rows.append(Row(image[0], f"{image[3].lower()}/{image[4]}", code))
    faults["row without file"] = sorted(set(labels or ()) - {image[2].lower() for image in images})
    return rows


def _labels(root: Path, table: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the label of each name in the list, and what is wrong with its lines."""
    labels: dict[str, str] = {}
    faults: dict[str, list[str]] = {}
    torn: set[str] = set()
    for number, line in enumerate(text(root / table).splitlines(), start=1):
        match = _LINE.fullmatch(line.strip())
        if match is None or match[3] not in READER.labels:
            if line.strip():
                faults.setdefault("unusable row", []).append(str(number))
        elif labels.setdefault(match[1].lower(), match[3]) != match[3]:
            torn.add(match[1].lower())
    faults["contradiction"] = sorted(torn)
    return {name: code for name, code in labels.items() if name not in torn}, faults
