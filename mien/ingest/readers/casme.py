"""CASME (Yan et al. 2013): the first CASME set, 195 clips at 60 fps.

Cropped/sub01/EP01_5/reg_EP01_5-30.jpg    30 is the frame's number, padded to three digits in some
                                          clips only
casme.xlsx                                Subject, Filename, OnsetF, ApexF1, ApexF2, OffsetF, AU,
                                          Emotion
"""

import re
from pathlib import Path

from mien.ingest.folders import FolderGlance
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.clips import (
    ONSET_APEX_COLUMNS,
    ClipLayout,
    SheetClip,
    parse_clip_row,
    scan_release,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="casme",
    title="CASME",
    needs="FOLDER with Cropped/subNN/EPxx_y/reg_EPxx_y-N.jpg and casme.xlsx",
    subjects="the sheet",
    clips="the sheet",
    licence="CASME agreement: research only, no redistribution",
    terms=make_request_terms("CASME", "http://casme.psych.ac.cn/casme/e1"),
    citation=(
        "Yan W-J, Wu Q, Liu Y-J, Wang S-J, Fu X (2013) CASME Database: A Dataset of Spontaneous "
        "Micro-Expressions Collected From Neutralized Faces. IEEE FG 2013"
    ),
    obtain="sign the form at http://casme.psych.ac.cn/casme/e1",
    labels={
        "contempt": "contempt",
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "repression": "repression",
        "sadness": "sadness",
        "surprise": "surprise",
        "tense": "tense",
    },
    options=("sheet", "numbers"),
)

CASME_LAYOUT = ClipLayout(
    folder_pattern=re.compile(
        r"(?:^|(?<=/))sub[-_ ]?0*(?P<subject>[0-9]{1,4})/(?P<clip>[^/]+)/[^/]+$", re.IGNORECASE
    ),
    form="subNN/EPxx_y/...N.suffix",
    sheet=re.compile(r"^casme1?([-_ ](?!2|sq|3).*)?\.(xlsx?|csv)$", re.IGNORECASE),
    usual="casme.xlsx",
    columns={
        **ONSET_APEX_COLUMNS,
        "onset": ("onsetf", "onsetframe", "onset"),
        # ApexF2 is a second coder's opinion, and is not read.
        "apex": ("apexf1", "apexf", "apexframe", "apex"),
        "offset": ("offsetf", "offsetframe", "offset"),
        "action_units": ("au", "aus", "actionunits"),
        "emotion": ("emotion", "estimatedemotion"),
    },
    subject=lambda number: f"sub{int(number):02d}",
)

_CASME_SUBJECT_PATTERN = re.compile(r"^(?:s|sub|subject)?[-_ ]?0*([0-9]{1,4})$", re.IGNORECASE)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is CASME: a frame called CLIP-N in a folder CLIP."""
    frame = look.find_first(r"(.*/)?sub[0-9]+/([^/]+)/(reg_)?\2-[0-9]+\.[a-z]+")
    return f"{frame} has the name of one of its frames" if frame else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the listing of `scan_release`; the apex is the sheet's ApexF1."""
    return scan_release(root, spec, READER, CASME_LAYOUT, _parse_clip)


def _parse_clip(values: dict[str, str]) -> SheetClip:
    subject = _CASME_SUBJECT_PATTERN.match(values["subject"])
    return parse_clip_row(values, CASME_LAYOUT.subject(subject[1]) if subject else None)
