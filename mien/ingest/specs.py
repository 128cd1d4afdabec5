"""The spec of an ingest: what its result depends on."""

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from mien.faces import EMOTIONS
from mien.ingest import patterns
from mien.pictures import MIN_SIDE, Colour, Filter
from mien.prepare.specs import CropSpec
from mien.runs.spec import Spec, suggest
from mien.spellings import remove_invisible

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}\Z")


class IngestSpec(Spec):
    """A dataset's folder, identified by its files and not by its location, and the form that its
    images get.
    """

    stage: ClassVar[str] = "ingest"
    version: int = 2
    reader: str
    fingerprint: str  # of the files: see `fingerprint`
    dataset: str  # the prefix of keys, subjects and clips
    size: int = Field(default=48, ge=MIN_SIDE, le=1024)
    colour: Colour = "grey"
    filter: Filter = "bilinear"
    crop: CropSpec | None = None  # None: the whole image
    licence: str | None = None  # None: the licence that the reader knows
    # A class name of the source -> one of EMOTIONS.
    map: dict[str, str] = Field(default_factory=dict)
    part: str | None = None  # one of the reader's parts; None: the first one in the folder
    # The file name of the sheet with the labels, and #PAGE of a workbook; None: the newest sheet.
    sheet: str | None = None
    # Clips: files have the sheet's frame numbers, even if they begin with 0 or 1.
    numbers: Literal["sheet"] | None = None
    # Folder: regular expressions that are searched in the path of each file.
    subject_pattern: str | None = None
    clip_pattern: str | None = None
    label_column: str | None = None  # folder: the columns of metadata.csv
    subject_column: str | None = None
    clip_column: str | None = None
    frame_column: str | None = None
    # A subject's name as written -> another name of the same person.
    same_subject: dict[str, str] = Field(default_factory=dict)
    # Different spellings are different people, unless `same_subject` says otherwise.
    subjects_as_written: bool = False
    image_column: str | None = None  # the column of pictures, if there are several
    # The value that is white in pictures of more than 8 bits; None: see the module pictures.
    white: float | None = Field(default=None, gt=0)

    @field_validator("dataset")
    @classmethod
    def _require_short_name(cls, dataset: str) -> str:
        if not DATASET_NAME.match(dataset):
            raise ValueError(
                "a dataset's name must have at most 40 letters, digits and '-', and must not "
                "begin with '-'"
            )
        return dataset

    @field_validator("map")
    @classmethod
    def _require_emotions(cls, names: dict[str, str]) -> dict[str, str]:
        for label, emotion in names.items():
            if emotion not in EMOTIONS:
                hint = suggest(emotion, list(EMOTIONS))
                raise ValueError(
                    f"'{label}' must be mapped to one of {', '.join(EMOTIONS)}, not "
                    f"'{emotion}'.{hint}"
                )
        return {normalise_label(label): emotion for label, emotion in names.items()}

    @field_validator("subject_pattern", "clip_pattern")
    @classmethod
    def _require_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        if not patterns.compile_pattern(pattern).groups:
            raise ValueError(
                "must have a group, in parentheses, around the text to extract, such as "
                "'(s[0-9]+)_'"
            )
        return pattern


def normalise_label(label: str) -> str:
    """Return a label in the form for comparison: without invisible characters, in lower case, and
    0.0 as 0.
    """
    text = remove_invisible(label).lower()
    return text.split(".")[0] if re.fullmatch(r"[0-9]{1,9}\.0+", text) else text
