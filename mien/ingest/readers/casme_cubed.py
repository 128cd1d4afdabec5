"""CAS(ME)^3 part A (Li et al. 2023): long videos of 100 people.

    part_A/spNo.1/a/color/46.jpg               the whole videos
    Part_A_ME_clip/frame/spNO.1_a_46/46.jpg    or a folder for each expression, named by its onset
    annotation/cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx
                                               Subject, Filename, Onset, Apex, Offset, AU, ...,
                                               emotion

One video holds several expressions, so the onset is part of a clip's name. Depth images are not
read.
"""

import re
from dataclasses import replace
from pathlib import Path

from mien.ingest.folders import FolderGlance
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.clips import (
    ClipLayout,
    RowRepairs,
    SheetClip,
    parse_clip_row,
    repair_number,
    scan_release,
)
from mien.ingest.readers.sheets import ColumnSpellings
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="casme-cubed",
    title="CAS(ME)^3, part A",
    needs=(
        "FOLDER with spNo.1/a/color/N.jpg or frame/spNO.1_a_ONSET/N.jpg, and "
        "cas(me)3_part_A_ME_label_*.xlsx"
    ),
    subjects="the sheet",
    clips="the sheet",
    licence="CAS(ME)^3 agreement: research only, no redistribution",
    terms=make_request_terms("CAS(ME)^3", "http://casme.psych.ac.cn/casme/e4"),
    other_names=("casme3", "cas(me)^3"),
    citation=(
        "Li J, Dong Z, Lu S, Wang S-J, Yan W-J, Ma Y, Liu Y, Huang C, Fu X (2023) CAS(ME)^3: A "
        "Third Generation Facial Spontaneous Micro-Expression Database With Depth Information and "
        "High Ecological Validity. IEEE Transactions on Pattern Analysis and Machine Intelligence "
        "45(3): 2782-2800"
    ),
    obtain="apply and sign the licence at http://casme.psych.ac.cn/casme/e4",
    labels={
        "anger": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happiness",
        "others": "others",
        "sad": "sadness",
        "surprise": "surprise",
    },
    options=("sheet", "numbers"),
    parts={"micro": "micro-expressions", "macro": "macro-expressions"},
)

# Corrections by subject and by video with the onset that the sheet has.
CASME_CUBED_ROW_REPAIRS: RowRepairs = {
    ("spNO.216", "d_3647"): repair_number(
        "onset", 3647, 2647, "a typing error: the clip would end before it begins"
    ),
    ("spNO.216", "e_0"): repair_number("onset", 0, 1, "there is no frame 0"),
}

_COLUMNS: ColumnSpellings = {
    "subject": ("subject", "sub"),
    "clip": ("filename", "seq"),
    "onset": ("onset", "onsetframe"),
    "apex": ("apex", "apexframe"),
    "offset": ("offset", "offsetframe"),
    "action_units": ("au", "aus", "actionunits"),
    "emotion": ("emotion",),
}

_CASME_CUBED_SUBJECT_PATTERN = re.compile(r"^(?:spno\.?)?0*([0-9]{1,4})$", re.IGNORECASE)


def _make_layout(short: str, other_name: str, usual: str) -> ClipLayout:
    """Return the layout of a part whose sheet and folders have `short` in their names."""
    return ClipLayout(
        folder_pattern=re.compile(
            rf"(?:^|(?<=/))(?<!depth/)(?<!_{other_name}_clip/frame/)spno\.(?P<subject>[0-9]{{1,4}})"
            r"[/_](?P<clip>[a-z](?:_[0-9]+)?)/(?:color/)?[^/]+$",
            re.IGNORECASE,
        ),
        form="spNo.1/a/color/N.jpg or spNO.1_a_ONSET/N.jpg",
        sheet=re.compile(rf"^cas\(?me\)?\^?3_part_?a_{short}_.*\.(xlsx?|csv)$", re.IGNORECASE),
        usual=usual,
        columns=_COLUMNS,
        subject=lambda number: f"spNO.{int(number)}",
        shared=True,
        beside="/depth/",
    )


LAYOUTS = {
    "micro": _make_layout("me", "mae", "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"),
    "macro": _make_layout("mae", "me", "cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx"),
}


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is CAS(ME)^3: a folder that begins with spNO."""
    folder = look.find_first(r"(.*/)?spno\.[0-9]+(/[a-z]|_[a-z]_[0-9]+)?/")
    return f"{folder} has the name of one of its subjects or clips" if folder else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the listing of `scan_release` for `spec.part`, by default "micro"."""
    part = spec.part or "micro"
    return scan_release(
        root, spec, READER, LAYOUTS[part], _parse_clip, CASME_CUBED_ROW_REPAIRS, part
    )


def _parse_clip(values: dict[str, str]) -> SheetClip:
    subject = _CASME_CUBED_SUBJECT_PATTERN.match(values["subject"])
    clip = parse_clip_row(values, f"spNO.{int(subject[1])}" if subject else None)
    if not re.fullmatch("[A-Za-z]", clip.name):
        raise ValueError(f"the video must be a letter, and is '{clip.name}'")
    return replace(clip, name=f"{clip.name.lower()}_{clip.onset}", candidate_folders=(clip.name,))
