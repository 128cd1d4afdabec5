"""CASME II (Yan et al. 2014): micro-expressions with a coding sheet.

Cropped/sub01/EP02_01f/reg_img46.jpg    46 is the frame's number in the recording and in the sheet
CASME2-coding-20140508.xlsx             Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame,
                                        Action Units, ...

Other copies of the set have other folders around the clips; all that keep subNN/CLIP are read.
"""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mien.findings import Finding
from mien.ingest.folders import FolderGlance
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.clips import (
    ONSET_APEX_COLUMNS,
    ClipLayout,
    RowRepairs,
    SheetClip,
    parse_clip_row,
    repair_apex_at_onset,
    repair_early_end,
    repair_missing_apex,
    scan_release,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="casme2",
    title="CASME II",
    needs="FOLDER with Cropped/subNN/EPxx_yy/reg_imgN.jpg and CASME2-coding-*.xlsx",
    subjects="the sheet",
    clips="the sheet",
    licence="CASME II agreement: research only, no redistribution",
    terms=make_request_terms(
        "CASME II", "http://casme.psych.ac.cn/casme/e2", blocked=("sub12", "sub22")
    ),
    other_names=("casmeii",),
    citation=(
        "Yan W-J, Li X, Wang S-J, Zhao G, Liu Y-J, Chen Y-H, Fu X (2014) CASME II: An Improved "
        "Spontaneous Micro-Expression Database and the Baseline Evaluation. PLoS ONE 9(1): e86041"
    ),
    obtain=(
        "sign the agreement at http://casme.psych.ac.cn/casme/e2; `mien toy` draws faces in its "
        "layout"
    ),
    labels={
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "others": "others",
        "repression": "repression",
        "sadness": "sadness",
        "surprise": "surprise",
    },
    options=("sheet", "numbers"),
)

FREE_LICENCE = "CC0 1.0"  # the licence that the readme of a drawn set in this layout names

CASME2_ROW_REPAIRS: RowRepairs = {
    ("sub04", "EP12_01f"): repair_missing_apex(
        "the sheet has '/'; the middle of the clip is used, as other readers of the set do"
    ),
    ("sub05", "EP09_05f"): repair_apex_at_onset(
        "an expression cannot peak where it begins; the middle of the clip is used"
    ),
    ("sub16", "EP01_08"): repair_early_end(
        96, "the release has no later files; the last one is used as offset"
    ),
}

CASME2_LAYOUT = ClipLayout(
    folder_pattern=re.compile(
        r"(?:^|(?<=/))sub[-_ ]?0*(?P<subject>[0-9]{1,4})/(?P<clip>[^/]+)/[^/]+$", re.IGNORECASE
    ),
    form="subNN/EPxx_yy/...N.suffix",
    sheet=re.compile(r"^casme2[-_ ]?coding.*\.(xlsx?|csv)$", re.IGNORECASE),
    usual="CASME2-coding-20140508.xlsx (or another date, or .csv)",
    columns={**ONSET_APEX_COLUMNS, "action_units": ("actionunits", "actionunit", "au")},
    subject=lambda number: f"sub{int(number):02d}",
)

_CASME2_SUBJECT_PATTERN = re.compile(
    r"^(?:s|sub|subject)?[-_ ]?0*([0-9]{1,4})(?:\.0+)?$", re.IGNORECASE
)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is CASME II: its sheet, or a clip called EPxx_yy."""
    sheet = look.find_first(r"(.*/)?casme2[-_ ]?coding[^/]*\.(xlsx?|csv)")
    if sheet:
        return f"{sheet} is its coding sheet"
    clip = look.find_first(r"(.*/)?sub[0-9]+/EP[0-9]+_[0-9]+f?/(reg_)?img[0-9]+\.[a-z]+")
    return f"{clip} has the name of one of its frames" if clip else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the listing of `scan_release`.

    A drawn set in this layout is free, and says so in its readme. Of recorded faces, the subjects
    that must not be published are reported.
    """
    listing = scan_release(root, spec, READER, CASME2_LAYOUT, _parse_clip, CASME2_ROW_REPAIRS)
    readme = _find_free_readme(root, listing.root)
    if readme is not None:
        return replace(listing, annotations=(*listing.annotations, readme), licence=FREE_LICENCE)
    if spec.licence is not None:
        return listing
    return replace(listing, findings=(*listing.findings, *_report_blocked_subjects(listing.rows)))


def _parse_clip(values: dict[str, str]) -> SheetClip:
    subject = _CASME2_SUBJECT_PATTERN.match(values["subject"])
    return parse_clip_row(values, CASME2_LAYOUT.subject(subject[1]) if subject else None)


# Licence


def _find_free_readme(root: Path, tree: Path) -> Path | None:
    """Return the readme of a drawn set, which puts it in the public domain; None without one."""
    for folder in dict.fromkeys([root, tree, tree.parent]):
        readme = folder / "readme.txt"
        if (
            readme.is_file()
            and FREE_LICENCE in readme.read_text(encoding="utf-8", errors="replace")[:10_000]
        ):
            return readme
    return None


def _report_blocked_subjects(rows: pd.DataFrame) -> list[Finding]:
    """Return a warning about subjects whose images must not be published, if there are any."""
    blocked = READER.terms.blocked if READER.terms else ()
    subjects = sorted(set(rows["subject"]) & set(blocked))
    if not subjects:
        return []
    message = (
        "images of these subjects must never be published, nor synthetic ones that resemble them"
    )
    return [Finding("warning", "not to be published", ", ".join(subjects), message)]
