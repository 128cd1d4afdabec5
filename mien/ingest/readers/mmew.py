"""MMEW (Ben et al. 2022): 300 micro-, 900 macro-expressions of 36 people.

    Micro_Expression/happiness/S03-01-002/1.jpg      frames counted from 1; some copies have S03/
                                                     above the emotion
    Macro_Expression/S03/happiness/S03-01-001.jpg    single photographs
    MMEW_Micro_Exp.xlsx                              Subject, Filename, OnsetFrame, ApexFrame,
                                                     OffsetFrame, ...

Clips have the label of the sheet. Photographs have that of their folder, because no sheet lists
them.
"""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mien.findings import Finding, list_some
from mien.ingest.emotions import label_rows
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.clips import (
    ONSET_APEX_COLUMNS,
    ClipLayout,
    SheetClip,
    find_tree,
    parse_clip_row,
    scan_release,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms
from mien.runs.progress import quantify

READER = Reader(
    dataset="mmew",
    title="MMEW",
    needs="FOLDER with Micro_Expression/EMOTION/S03-01-002/N.jpg and MMEW_Micro_Exp.xlsx",
    subjects="the sheet (macro: the file's name)",
    clips="the sheet (macro: none)",
    licence="MMEW licence: research only, no redistribution",
    terms=make_request_terms("MMEW", "the form of its authors"),
    citation=(
        "Ben X, Ren Y, Zhang J, Wang S-J, Kpalma K, Meng W, Liu Y-J (2022) Video-Based Facial "
        "Micro-Expression Analysis: A Survey of Datasets, Features and Algorithms. IEEE "
        "Transactions on Pattern Analysis and Machine Intelligence 44(9): 5826-5846"
    ),
    obtain="sign the licence and mail it to benxianyeye@163.com",
    labels={
        "anger": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "others": "others",  # in the sheet; the folder of this class is called repression
        "repression": "others",
        "sadness": "sadness",
        "surprise": "surprise",
    },
    options=("sheet",),
    parts={
        "micro": "micro-expressions, as clips",
        "macro": "macro-expressions, as single photographs",
    },
)

MMEW_LAYOUT = ClipLayout(
    folder_pattern=re.compile(
        r"(?:^|(?<=/))(?:S[0-9]+/)?[a-z]+/(?P<clip>S0*(?P<subject>[0-9]{1,4})-[0-9]+-[0-9]+)/[^/]+$",
        re.IGNORECASE,
    ),
    form="EMOTION/S03-01-002/N.suffix",
    sheet=re.compile(r"^mmew_micro.*\.(xlsx?|csv)$", re.IGNORECASE),
    usual="MMEW_Micro_Exp.xlsx",
    columns=ONSET_APEX_COLUMNS,
    subject=lambda number: f"S{int(number):02d}",
    counted=True,
)

PHOTOGRAPH_PATTERN = re.compile(
    r"(?:^|(?<=/))(?:S[0-9]+/)?(?P<label>[a-z]+)/S0*(?P<subject>[0-9]{1,4})-[0-9]+-[0-9]+\.[a-z]+$",
    re.IGNORECASE,
)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is MMEW: its sheet, or a clip EMOTION/S03-01-002."""
    path = look.find_first(r"(.*/)?mmew_micro[^/]*\.(xlsx?|csv)") or look.find_first(
        r"(.*/)?[a-z]+/S[0-9]+-[0-9]+-[0-9]+(/|\.[a-z]+)"
    )
    return f"{path} has the name of its sheet or of one of its clips" if path else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the listing of `scan_release`, or with the part "macro" the single photographs.

    Raises DataError as `scan_release` does.
    """
    if spec.part == "macro":
        return _scan_photographs(root, spec)
    listing = scan_release(root, spec, READER, MMEW_LAYOUT, _parse_clip, part="micro")
    return replace(listing, findings=(*listing.findings, *_report_disagreements(listing.rows)))


def _parse_clip(values: dict[str, str]) -> SheetClip:
    clip_subject = re.match(r"S0*([0-9]{1,4})-", values["clip"], re.IGNORECASE)
    subject = re.fullmatch(r"S?0*([0-9]{1,4})", values["subject"], re.IGNORECASE)
    if clip_subject and subject and int(clip_subject[1]) != int(subject[1]):
        raise ValueError(
            f"subject {values['subject']} and clip {values['clip']} must be of one person"
        )
    return parse_clip_row(values, MMEW_LAYOUT.subject(clip_subject[1]) if clip_subject else None)


def _report_disagreements(rows: pd.DataFrame) -> list[Finding]:
    """Return findings about folders with another emotion than the sheet, which is believed."""
    clips = rows.drop_duplicates("clip")
    folders = [path.split("/")[-3].lower() for path in clips["path"]]
    unequal: dict[tuple[str, str], list[str]] = {}
    for folder, raw, clip in zip(folders, clips["raw_label"], clips["clip"], strict=True):
        if folder != raw.lower():
            unequal.setdefault((folder, raw), []).append(clip)
    return [
        Finding(
            "note" if READER.labels.get(folder) == READER.labels.get(raw.lower()) else "warning",
            "folder of another label",
            list_some(names),
            (
                f"the folder says {folder} and the sheet {raw}, which is used: "
                f"{quantify(len(names), 'clip')}"
            ),
        )
        for (folder, raw), names in sorted(unequal.items())
    ]


def _scan_photographs(root: Path, spec: IngestSpec) -> Listing:
    """Return the single photographs, each with its folder's label and its name's subject."""
    # Read subject and label from each path.
    tree, findings = find_tree(
        root, PHOTOGRAPH_PATTERN, READER, "has no photographs at EMOTION/S03-01-001.jpg"
    )
    images, other_files = walk(tree)
    matches = {path: PHOTOGRAPH_PATTERN.search(path) for path in images}
    rows = pd.DataFrame(
        {
            "path": path,
            "key": path,
            "subject": MMEW_LAYOUT.subject(match["subject"]),
            "clip": "",
            "frame": -1,
            "phase": "still",
            "raw_label": match["label"],
            "action_units": "",
        }
        for path, match in matches.items()
        if match
    )
    rows, left_out = label_rows(rows, spec, READER, str(tree))

    # Report the images that are not photographs of the part.
    other_images = tuple(path for path, match in matches.items() if not match)
    if other_images:
        message = (
            "images that are not photographs at EMOTION/S03-01-001.jpg, left out: "
            f"{len(other_images)}"
        )
        folders = sorted({path.rpartition("/")[0] for path in other_images})
        findings.append(
            Finding("note", "other images", list_some(folders), message, pictures=other_images)
        )
    return Listing(tree, rows, (), (*findings, *other_files, *left_out), READER.licence, "macro")
