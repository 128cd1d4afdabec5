"""4DME (Li et al. 2023): the grey videos of 267 micro-expressions.

    gray_micro_crop/SUB_ID/FOLD_NAME/N.jpg    or gray_micro, uncropped
    4DME_Labelling_Micro_release v1.xlsx      sub_ID, fold_name, Emotion, Onset, Apex, Offset, AUs,
                                              Positive, ...

A clip may show several emotions at once, such as Surprise+Positive. It is left out unless the
user maps that label to one emotion.
"""

import re
from pathlib import Path

from mien.ingest.emotions import LEFT_OUT
from mien.ingest.folders import FolderGlance
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.clips import ClipLayout, SheetClip, parse_clip_row, scan_release
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

READER = Reader(
    dataset="fourdme",
    title="4DME",
    needs=(
        "FOLDER with gray_micro_crop/SUB_ID/FOLD_NAME/N.jpg and 4DME_Labelling_Micro_release "
        "v1.xlsx"
    ),
    subjects="the sheet",
    clips="the sheet",
    licence="4DME agreement: research only, no redistribution",
    terms=make_request_terms("4DME", "the form of the University of Oulu"),
    other_names=("4dme",),
    citation=(
        "Li X, Cheng S, Li Y, Behzad M, Shen J, Zafeiriou S, Pantic M, Zhao G (2023) 4DME: A "
        "Spontaneous 4D Micro-Expression Dataset With Multimodalities. IEEE Transactions on "
        "Affective Computing 14(4): 3031-3047"
    ),
    obtain="sign the form of the University of Oulu",
    labels={
        "negative": "negative",
        "others": "others",
        "positive": "positive",
        "repression": "repression",
        "surprise": "surprise",
        "surprise+positive": LEFT_OUT,  # and so is every other label with a "+"
    },
    options=("sheet",),
)

_EMOTION_COLUMNS = ("positive", "negative", "surprise", "repression", "others")

FOURDME_LAYOUT = ClipLayout(
    folder_pattern=re.compile(
        r"(?:^|(?<=gray_micro/)|(?<=gray_micro_crop/))"
        r"[a-z_-]*0*(?P<subject>[0-9]{1,4})[^/0-9]*/(?P<clip>[^/]+)/[^/]+$",
        re.IGNORECASE,
    ),
    form="gray_micro_crop/SUB_ID/FOLD_NAME/...N.suffix",
    sheet=re.compile(r"^4dme_labelling_micro.*\.(xlsx?|csv)$", re.IGNORECASE),
    usual="4DME_Labelling_Micro_release v1.xlsx",
    columns={
        "subject": ("subid", "subject"),
        "clip": ("foldname", "filename"),
        "onset": ("onset",),
        "apex": ("apex",),
        "offset": ("offset",),
        "action_units": ("aus", "au"),
        "emotion": ("emotion",),
        **{name: (name,) for name in _EMOTION_COLUMNS},
    },
    subject=lambda number: f"s{int(number):02d}",
    optional=_EMOTION_COLUMNS,
    counted=True,
)

_FOURDME_SUBJECT_PATTERN = re.compile(r"^[a-z_-]*0*([0-9]{1,4})\D*$", re.IGNORECASE)


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is 4DME: its sheet, or a folder called gray_micro."""
    path = look.find_first(r"(.*/)?4dme_labelling_micro[^/]*\.(xlsx?|csv)") or look.find_first(
        r"(.*/)?gray_micro(_crop)?/"
    )
    return f"{path} has the name of its sheet or folders" if path else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the listing of `scan_release`.

    A row whose Emotion contradicts its five columns of 0 and 1 is reported and left out.
    """
    return scan_release(root, spec, READER, FOURDME_LAYOUT, _parse_clip)


def _parse_clip(values: dict[str, str]) -> SheetClip:
    subject = _FOURDME_SUBJECT_PATTERN.match(values["subject"])
    clip = parse_clip_row(values, FOURDME_LAYOUT.subject(subject[1]) if subject else None)
    marks = {name for name in _EMOTION_COLUMNS if values.get(name, "") not in ("", "0")}
    named = {
        re.sub(r"^other$", "others", emotion.strip().lower())
        for emotion in clip.raw_label.split("+")
    }
    if marks and marks != named:
        raise ValueError(
            f"Emotion is '{clip.raw_label}', and the columns of 0 and 1 say "
            f"{'+'.join(sorted(marks))}"
        )
    return clip
