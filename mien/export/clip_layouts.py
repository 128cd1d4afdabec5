"""CLIP_LAYOUTS: the published layouts of micro-expressions that clips take.

Each is the layout that the reader of the same name reads: where the frames are, and the columns of
the coding sheet. The readers' files describe the releases.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from mien.ingest.emotions import LEFT_OUT
from mien.ingest.readers import casme, casme2, casme_cubed, fourdme, mmew, samm, smic


@dataclass(frozen=True)
class CodedClip:
    """One clip as a coding sheet describes it; `onset`, `apex` and `offset` are frame numbers."""

    subject: int  # from 1
    number: int  # of the clip among those of its subject, from 1
    label: str  # in the words of the layout
    action_units: str
    onset: int
    apex: int | None
    offset: int


Cell = str | int | None


@dataclass(frozen=True)
class PublishedLayout:
    """Where the frames of a clip are, and what its row of the coding sheet holds."""

    reader: ModuleType  # the reader that reads the layout
    rate: int  # frames per second of the release
    sheet: str
    head: tuple[str | None, ...]
    name: Callable[[CodedClip], str]  # the clip's name
    folder: Callable[[CodedClip, str], str]  # of a clip and its name
    file: Callable[[CodedClip, str, int], str]  # of a clip, its name and a frame number
    row: Callable[[CodedClip, str], Sequence[Cell]]
    spell: Callable[[str], str] = str  # how the sheet writes a label
    is_grey: bool = False  # whether the release's files are grey
    is_counted: bool = False  # whether the frames of each clip are counted from 1
    max_subject: int = 9999
    max_clips: int = 9999  # of one subject

    @property
    def title(self) -> str:
        """The name of the dataset: CASME II."""
        return self.reader.READER.title

    @property
    def labels(self) -> Mapping[str, str]:
        """The label of each emotion that the dataset has."""
        known: dict[str, str] = {}
        for label, emotion in self.reader.READER.labels.items():
            if emotion != LEFT_OUT:
                known.setdefault(emotion, self.spell(label))
        return known


def _name_letters(number: int) -> str:
    """Return the letters by which spreadsheets number columns: a, ..., z, aa, ab, ..."""
    letters = ""
    while number:
        number, place = divmod(number - 1, 26)
        letters = chr(ord("a") + place) + letters
    return letters


def _name_episode(clip: CodedClip) -> str:
    """Return the name of a clip of CASME or CASME II: episode, and number within the episode."""
    episode, place = divmod(clip.number - 1, 20)
    return f"EP{episode + 1:02d}_{place + 1:02d}"


_SMIC_CODES = {label: code for code, label in smic.LABEL_OF_CODE.items()}

_FOURDME_LABELS = ("Positive", "Negative", "Surprise", "Repression", "Others")

CLIP_LAYOUTS: dict[str, PublishedLayout] = {
    "casme2": PublishedLayout(
        reader=casme2,
        rate=200,
        sheet="CASME2-coding-20140508.xlsx",
        head=(
            *("Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None),
            *("Action Units", "Estimated Emotion"),
        ),
        name=_name_episode,
        folder=lambda clip, name: f"Cropped/sub{clip.subject:02d}/{name}",
        file=lambda clip, name, frame: f"reg_img{frame}.jpg",
        row=lambda clip, name: (
            *(f"{clip.subject:02d}", name, None, clip.onset),
            *("/" if clip.apex is None else clip.apex, clip.offset, None),
            *(clip.action_units, clip.label),
        ),
    ),
    "casme": PublishedLayout(
        reader=casme,
        rate=60,
        sheet="casme.xlsx",
        head=(
            *("Subject", "Filename", None, "OnsetF", "ApexF1", "ApexF2", "OffsetF", None),
            *("AU", "Emotion"),
        ),
        name=_name_episode,
        folder=lambda clip, name: f"Cropped/sub{clip.subject:02d}/{name}",
        file=lambda clip, name, frame: f"reg_{name}-{frame}.jpg",
        row=lambda clip, name: (
            *(clip.subject, name, None, clip.onset, clip.apex, None, clip.offset, None),
            *(clip.action_units, clip.label),
        ),
    ),
    "casme_cubed": PublishedLayout(
        reader=casme_cubed,
        rate=30,
        sheet="cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        head=("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "emotion"),
        name=lambda clip: _name_letters(clip.number),
        folder=lambda clip, name: f"Part_A_ME_clip/frame/spNO.{clip.subject}_{name}_{clip.onset}",
        file=lambda clip, name, frame: f"{frame}.jpg",
        row=lambda clip, name: (
            *(f"spNO.{clip.subject}", name, clip.onset, clip.apex, clip.offset),
            *(clip.action_units, clip.label),
        ),
        max_clips=26,
    ),
    "samm": PublishedLayout(
        reader=samm,
        rate=200,
        sheet="SAMM_Micro_FACS_Codes_v2.xlsx",
        head=(
            *("Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame"),
            *("Offset Frame", "Duration", "Micro", "Action Units", "Estimated Emotion"),
            *("Objective Classes", "Notes"),
        ),
        name=lambda clip: f"{clip.subject:03d}_1_{clip.number}",
        folder=lambda clip, name: f"SAMM/{clip.subject:03d}/{name}",
        file=lambda clip, name, frame: f"{clip.subject:03d}_{frame:05d}.jpg",
        row=lambda clip, name: (
            *(clip.subject, name, None, clip.onset, -1 if clip.apex is None else clip.apex),
            *(clip.offset, clip.offset - clip.onset + 1, "Micro - 1/2"),
            *(clip.action_units, clip.label, None, "synthetic"),
        ),
        spell=str.capitalize,
        is_grey=True,
        max_subject=999,
    ),
    "smic": PublishedLayout(
        reader=smic,
        rate=100,
        sheet="SMIC-HS-E_annotation.xlsx",
        head=(
            *("Subject", "Filename", "FirstF", "OnsetF", "OffsetF", "OnsetF2", "OffsetF2"),
            "Emotion",
        ),
        name=lambda clip: f"s{clip.subject}_{_SMIC_CODES[clip.label]}_{clip.number:02d}",
        folder=lambda clip, name: f"SMIC-HS-E/s{clip.subject:02d}/{name}",
        file=lambda clip, name, frame: f"image{frame:06d}.jpg",
        row=lambda clip, name: (
            *(clip.subject, name, clip.onset, clip.onset, clip.offset, None, None, clip.label),
        ),
        max_subject=999,
    ),
    "mmew": PublishedLayout(
        reader=mmew,
        rate=90,
        sheet="MMEW_Micro_Exp.xlsx",
        head=(
            *("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units"),
            *("Estimated Emotion", "remarks"),
        ),
        name=lambda clip: f"S{clip.subject:02d}-01-{clip.number:03d}",
        folder=lambda clip, name: f"Micro_Expression/{clip.label}/{name}",
        file=lambda clip, name, frame: f"{frame}.jpg",
        row=lambda clip, name: (
            *(f"S{clip.subject:02d}", name, clip.onset, clip.apex, clip.offset),
            *(clip.action_units, clip.label, None),
        ),
        is_counted=True,
    ),
    "fourdme": PublishedLayout(
        reader=fourdme,
        rate=60,
        sheet="4DME_Labelling_Micro_release v1.xlsx",
        head=(
            *("sub_ID", "fold_name", "Emotion", "Onset", "Apex", "Offset", "AUs"),
            *_FOURDME_LABELS,
        ),
        name=lambda clip: f"{clip.subject}_{_name_letters(clip.number)}",
        folder=lambda clip, name: f"gray_micro_crop/{clip.subject}/{name}",
        file=lambda clip, name, frame: f"{frame}.jpg",
        row=lambda clip, name: (
            *(clip.subject, name, clip.label, clip.onset, clip.apex, clip.offset),
            *(clip.action_units, *(int(label == clip.label) for label in _FOURDME_LABELS)),
        ),
        spell=str.capitalize,
        is_grey=True,
        is_counted=True,
    ),
}
