"""SAMM (Davison et al. 2018): 159 grey micro-expressions at 200 fps.

SAMM/006/006_1_2/006_05562.jpg    a frame of the recording, its number padded to 4 or 5 digits
SAMM_Micro_FACS_Codes_v2.xlsx     notes, and below them Subject, Filename, Inducement Code,
                                  Onset Frame, ...
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
    dataset="samm",
    title="SAMM",
    needs="FOLDER with 006/006_1_2/006_N.jpg and SAMM_Micro_FACS_Codes_v2.xlsx",
    subjects="the sheet",
    clips="the sheet",
    licence="SAMM licence: research only, no redistribution",
    terms=make_request_terms("SAMM", "the form of Manchester Metropolitan University"),
    citation=(
        "Davison A K, Lansley C, Costen N, Tan K, Yap M H (2018) SAMM: A Spontaneous Micro-Facial "
        "Movement Dataset. IEEE Transactions on Affective Computing 9(1): 116-129"
    ),
    obtain=(
        "ask Manchester Metropolitan University with its form: "
        "http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php"
    ),
    labels={
        "anger": "anger",
        "contempt": "contempt",
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "other": "others",
        "others": "others",
        "sadness": "sadness",
        "surprise": "surprise",
    },
    options=("sheet", "numbers"),
)

SAMM_LAYOUT = ClipLayout(
    folder_pattern=re.compile(
        r"(?:^|(?<=/))(?P<subject>[0-9]{1,3})/(?P<clip>0*(?P=subject)_[0-9]+_[0-9]+)/[^/]+$"
    ),
    form="006/006_1_2/...N.suffix",
    sheet=re.compile(r"^samm(?!.*long).*\.(xlsx?|csv)$", re.IGNORECASE),
    usual="SAMM_Micro_FACS_Codes_v2.xlsx",
    columns=ONSET_APEX_COLUMNS,
    subject=lambda number: f"{int(number):03d}",
)

_SAMM_SUBJECT_PATTERN = re.compile(r"^0*([0-9]{1,3})$")


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is SAMM: a frame called 006/006_1_2/006_05562."""
    frame = look.find_first(r"(.*/)?([0-9]{3})/\2_[0-9]+_[0-9]+/\2_[0-9]+\.[a-z]+")
    return f"{frame} has the name of one of its frames" if frame else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the listing of `scan_release`."""
    return scan_release(root, spec, READER, SAMM_LAYOUT, _parse_clip)


def _parse_clip(values: dict[str, str]) -> SheetClip:
    subject = _SAMM_SUBJECT_PATTERN.match(values["subject"])
    clip = parse_clip_row(values, SAMM_LAYOUT.subject(subject[1]) if subject else None)
    if not re.match(rf"0*{int(clip.subject)}_", clip.name):
        raise ValueError(f"subject {clip.subject} and clip {clip.name} must be of one person")
    return clip
