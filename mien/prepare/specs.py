"""The specs of prepare: what chosen frames, crops, splits and joins depend on."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mien.faces import CLASS_SETS
from mien.pictures import MIN_SIDE, Colour, Filter
from mien.prepare.clips import PAIR, FrameChoice, Until
from mien.prepare.flow import FLOW_CHANNELS, FlowSpec
from mien.prepare.inputs import INPUT_GROUPS, INPUTS, expand_groups
from mien.runs.spec import Spec, Strict, is_unset, suggest

MOST_MOMENTS = 64  # of a clip that is one row


class CropSpec(Strict):
    """How a face is found and cropped.

    `detector` is haar, or yunet, whose file has the sha256 `model`. The crop is a square with the
    longer side of the face's box, plus a `margin` on each side, as a share of that length; outside
    the picture its border is repeated. With `align` the picture is rotated until the eyes are
    level. `misses` says what happens with a picture without a face: "fail" is an error, "skip"
    leaves the picture out, and "centre" uses the largest square at its centre.
    """

    detector: Literal["haar", "yunet"] = "haar"
    model: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    margin: float = Field(default=0.1, ge=0, le=1)
    align: bool = False
    misses: Literal["fail", "skip", "centre"] = "fail"

    @model_validator(mode="after")
    def _require_model_file(self) -> "CropSpec":
        if (self.detector == "yunet") != bool(self.model):
            raise ValueError(
                "model must be the file of a YuNet (face_detection_yunet_2023mar.onnx of OpenCV's "
                "model zoo) with the detector yunet, and empty with haar, which OpenCV includes"
            )
        return self


class ArraysSpec(Spec):
    """Faces that were made of arrays in Python, identified by the sha256 of images and table."""

    stage: ClassVar[str] = "arrays"
    sha256: str


ClassRule = Literal["common", "union", "megc2019"]


class JoinSpec(Spec):
    """Several runs of faces to join, and the classes of the result.

    `common` keeps the classes that all sets show, `union` those that any set shows, and `megc2019`
    the three of MEGC 2019.
    """

    stage: ClassVar[str] = "join"
    faces: tuple[str, ...] = Field(min_length=2)
    classes: ClassRule = "common"
    # dataset:name of a subject -> another name of the same person
    same_subject: dict[str, str] = Field(default_factory=dict)
    # Different spellings are different people, unless `same_subject` says otherwise.
    subjects_as_written: bool = False


class PreprocessSpec(Spec):
    """Which frames and classes of a set are kept, and in which form.

    With `clips`, each row of the result is a whole clip, resampled at so many moments from its
    onset over its apex `until` its offset, or at its onset and apex.
    """

    stage: ClassVar[str] = "faces"
    faces: str  # the run that holds them
    frames: FrameChoice = "apex"
    # For "apex": how many frames are kept on either side of it.
    window: int = Field(default=5, ge=0)
    # Every n-th frame is kept, counted from the apex or the first frame of the clip.
    every: int = Field(default=1, ge=1)
    # Height and width in pixels; None keeps them.
    size: int | None = Field(default=None, ge=MIN_SIDE, le=1024)
    colour: Colour | None = None  # None keeps it
    crop: CropSpec | None = None  # None keeps the whole image
    # Channels, from inputs.INPUTS, computed from grey images of the final size; empty for none.
    input: tuple[str, ...] = ()
    filter: Filter = "bilinear"
    classes: str = ""  # a class set of faces.CLASS_SETS; empty keeps the emotions
    # Each of the following is omitted from the spec where it has no effect, as in the specs of all
    # sets before there were clips and optical flow.
    clips: int | Literal["onset,apex"] | None = Field(default=None, exclude_if=is_unset)
    until: Until | None = Field(default=None, exclude_if=is_unset)  # with `clips`; else None
    flow: FlowSpec | None = Field(default=None, exclude_if=is_unset)  # of an input with flow

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, fields: Any) -> Any:
        # Clips and flow have defaults of their own only where there are clips and flow
        if not isinstance(fields, dict):
            return fields
        filled = dict(fields)
        if isinstance(filled.get("input"), list | tuple) and filled["input"]:
            filled["input"] = expand_groups(tuple(filled["input"]))
            if set(filled["input"]) & set(FLOW_CHANNELS) and filled.get("flow") is None:
                filled["flow"] = FlowSpec()
        if isinstance(filled.get("clips"), int) and filled.get("until") is None:
            filled["until"] = "offset"
        return filled

    @field_validator("clips")
    @classmethod
    def _require_moments(cls, clips: int | str | None) -> int | str | None:
        if isinstance(clips, int) and not 2 <= clips <= MOST_MOMENTS:
            raise ValueError(
                f"clips must be a number of moments from 2 to {MOST_MOMENTS}, or '{PAIR}'"
            )
        return clips

    @field_validator("classes")
    @classmethod
    def _require_known_class_set(cls, name: str) -> str:
        if name and name not in CLASS_SETS:
            hint = suggest(name, list(CLASS_SETS))
            raise ValueError(f"classes must be a class set: {', '.join(CLASS_SETS)}.{hint}")
        return name

    @field_validator("input")
    @classmethod
    def _require_known_inputs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = [*INPUTS, *INPUT_GROUPS]
        for name in names:
            if name not in INPUTS:
                raise ValueError(f"inputs must be among {', '.join(known)}.{suggest(name, known)}")
        if len(set(names)) < len(names):
            raise ValueError("each input must be named only once")
        return names

    @model_validator(mode="after")
    def _refuse_unused_options(self) -> "PreprocessSpec":
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        for name in ("frames", "window", "every", "colour") if self.clips is not None else ():
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{name} has no effect with clips, each of which is resampled from its onset "
                    "on and shown in grey or as its input; remove it"
                )
        if self.until is not None and not isinstance(self.clips, int):
            raise ValueError(
                "until needs clips of several moments, such as clips = 8, since it says where they "
                "end; remove it, or add clips"
            )
        if self.flow is not None and not set(self.input) & set(FLOW_CHANNELS):
            raise ValueError(
                "flow has no effect without an input that shows optical flow; add input = "
                "['flow'], or remove it"
            )
        return self

    @model_validator(mode="after")
    def _refuse_options_of_other_frames(self) -> "PreprocessSpec":
        if self.frames != "apex" and self.window != type(self).model_fields["window"].default:
            raise ValueError(
                f"window has no effect with frames '{self.frames}', since it is a window around "
                "each apex; remove it"
            )
        if self.frames == "onset+apex" and self.every != 1:
            raise ValueError(
                "every has no effect with frames 'onset+apex', which keeps two frames per clip; "
                "remove it"
            )
        if self.input and self.colour:
            raise ValueError(
                "colour has no effect with input, which is computed from grey; remove it"
            )
        return self


Unit = Literal["frame", "clip", "subject", "dataset"]


class SplitSpec(Spec):
    """One side of one fold of a run of faces."""

    stage: ClassVar[str] = "split"
    faces: str  # the run that is split
    by: Unit
    folds: int = Field(ge=2)
    number: int = Field(ge=0)  # the fold that is the test side
    side: Literal["train", "test"]
    seed: int = 0
    # The share of the training people that is kept; omitted where all are
    people: float | None = Field(default=None, gt=0, lt=1, exclude_if=is_unset)

    @model_validator(mode="after")
    def _require_training_side(self) -> "SplitSpec":
        if self.people is not None and self.side != "train":
            raise ValueError("people is about the training side; remove it, or set side to 'train'")
        return self
