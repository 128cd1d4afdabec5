"""One form for all faces: decodes images to one size and colour, and selects frames and classes.

Grey is the luma of ITU-R BT.601. Pillow does all resizing; its filters widen their support when
they reduce an image, which avoids aliasing. The ratio of height to width is not kept (280×340
becomes 48×48, as in the preprint).
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8
from PIL import Image
from pydantic import Field, field_validator, model_validator

from mien import crops, pictures
from mien.crops import CropSpec, Place
from mien.errors import DataError, UsageError
from mien.faces import CLASS_SETS, COLUMNS, Faces, make_index
from mien.figures import class_sheet
from mien.inputs import INPUTS, stack
from mien.progress import many, say
from mien.spec import Spec, nearest
from mien.store import Run, Store

Colour = Literal["grey", "rgb"]
Filter = Literal["box", "bilinear", "bicubic", "lanczos"]
# A file, the content of a file, or pixels [h, w] or [h, w, 3].
Picture = Path | bytes | UInt8[np.ndarray, "..."]
Box = tuple[int, int, int, int]  # left, top, width, height, in pixels

MIN_SIDE = 8  # pixels; a smaller picture cannot show a face
MAX_PIXELS = 64_000_000  # the largest picture that is opened; it needs about 400 MB of memory
FRAMES, TRANSPARENT = "several frames", "transparent parts"  # the remarks of `decode`
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
Places = dict[str, Place]  # where the face of each image is, by its key
# Classes that several emotions were folded into.
FOLDED = {
    new for classes in CLASS_SETS.values() for old, new in classes.items() if new not in classes
}


class PreprocessSpec(Spec):
    """Which frames and classes of a set are kept, and in which form."""

    stage: ClassVar[str] = "faces"
    faces: str  # the run that holds them
    frames: Literal["all", "apex", "onset+apex"] = "apex"
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

    @field_validator("classes")
    @classmethod
    def _known_class_set(cls, name: str) -> str:
        if name and name not in CLASS_SETS:
            hint = nearest(name, list(CLASS_SETS))
            raise ValueError(f"classes must be a class set: {', '.join(CLASS_SETS)}.{hint}")
        return name

    @field_validator("input")
    @classmethod
    def _known_inputs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in INPUTS:
                raise ValueError(
                    f"inputs must be among {', '.join(INPUTS)}.{nearest(name, list(INPUTS))}"
                )
        if len(set(names)) < len(names):
            raise ValueError("each input must be named only once")
        return names

    @model_validator(mode="after")
    def _options_are_used(self) -> "PreprocessSpec":
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


def decode(
    picture: Picture,
    size: int,
    colour: Colour = "grey",
    filter: Filter = "bilinear",
    *,
    box: Box | None = None,
    face: Place | None = None,
    margin: float = 0.0,
    name: str | None = None,
    white: float | None = None,
    remarks: list[str] | None = None,
) -> UInt8[np.ndarray, "c {size} {size}"]:
    """Return a picture as uint8 [c, size, size], c = 1 for grey and 3 for rgb.

    The orientation in the EXIF data is applied. More than 8 bits become 8, where `white` is the
    value that becomes 255; without it, it is what `pictures.whites` gives for this picture alone.
    Transparent parts are put on black, and of several frames the first is used. The picture is
    cropped to `box`, as far as it is in the picture, and with `face` to the square around it, wider
    by `margin`. It becomes grey at its full size, before it is resized. Error messages call it
    `name`, by default its path. `remarks` receives FRAMES if there are several frames, and
    TRANSPARENT if some pixel is transparent.

    Raises DataError if the file is damaged, is not an image of `pictures.FORMATS`, or has a side
    below 8 or more than 64 million pixels.
    """
    image = _read(picture, colour, box, name, white, remarks)
    return _array(_resize(_cut(image, face, margin), size, filter))


def open_picture(
    picture: Picture,
    colour: Colour = "grey",
    *,
    box: Box | None = None,
    name: str | None = None,
    white: float | None = None,
) -> UInt8[np.ndarray, "h w *c"]:
    """Return a picture at its own size, [h, w] for grey and [h, w, 3] for rgb.

    All else is as in `decode`.
    """
    return np.asarray(_read(picture, colour, box, name, white, None))


def preprocess(faces: Faces, spec: PreprocessSpec, model: Path | None = None) -> Faces:
    """Return the frames of `faces` that `spec` selects, in their order and in its form.

    With frames = "apex", frames within `window` frames of their clip's apex are kept, with
    "onset+apex" the two that are marked so; a clip whose apex is unknown has none (`without_apex`
    lists them). Single photographs are always kept. With `crop`, each image is first cropped to its
    face (`model` is YuNet's file). With `input`, each image becomes the channels that it names.

    Raises DataError if no image is left; if `size` is larger than the images, because enlarging
    adds no detail; if an input needs an onset frame that does not exist; if the images are already
    such inputs; or if a face is missed and `crop` makes that an error.
    """
    return _preprocess(faces, spec, model, None)


def _preprocess(faces: Faces, spec: PreprocessSpec, model: Path | None, out: Path | None) -> Faces:
    """Do what `preprocess` says, and write a report on the crops to `out`, if there are any."""
    # Enlarging would add no detail.
    _, height, width = faces.size
    if spec.size is not None and spec.size > min(height, width):
        raise DataError(
            f"size must be at most that of the images, {height} by {width}, not {spec.size}: "
            f"enlarging adds no detail; ingest the originals again with --size {spec.size}"
        )

    # Crop, select frames, fold classes, and bring the pixels to the new form.
    places: Places = {}
    if spec.crop:
        faces, places = _found(faces, spec, model, out)
    selected = faces.select(_chosen(faces.index, spec))
    if not len(selected):
        clips = len(without_apex(faces))
        raise DataError(
            f"frames = '{spec.frames}' must leave some images, and leaves none of {len(faces)}: "
            f"{many(clips, 'clip')} {'has' if clips == 1 else 'have'} no apex; use frames = 'all'"
        )
    selected = fold_classes(selected, spec.classes)
    return (
        _as_inputs(selected, faces, spec, places)
        if spec.input
        else _with_pixels(selected, _reform(selected, spec, places))
    )


def fold_classes(faces: Faces, name: str) -> Faces:
    """Return the images whose emotion is in the class set `name`, under its names.

    `raw_label` is kept. With an empty name, or if the images are already in these classes, all are
    returned unchanged.

    Raises DataError if no image is left, or if the images were folded into other classes before,
    since emotions that were put together cannot be separated again.
    """
    if not name:
        return faces
    classes = CLASS_SETS[name]
    if set(faces.classes) & FOLDED and set(faces.classes) <= set(classes.values()):
        return faces

    # Emotions that were put together cannot be separated again.
    folded = [emotion for emotion in faces.classes if emotion in FOLDED and emotion not in classes]
    if folded:
        raise DataError(
            f"the class set {name} must be made from single emotions, and these images were folded "
            f"into {', '.join(folded)} before; name the run that they were folded from"
        )

    # Keep the emotions of the set, under their new names.
    selected = faces.select(faces.index["emotion"].isin(list(classes)).to_numpy(dtype=bool))
    if not len(selected):
        raise DataError(
            f"the class set {name} must leave some images, and leaves none of {len(faces)}: it has "
            f"{', '.join(classes)}, and the images show {', '.join(faces.classes)}"
        )
    emotions = pd.Series([classes[emotion] for emotion in selected.index["emotion"]], dtype="str")
    return replace(selected, index=selected.index.assign(emotion=emotions))


def read_frames(text: str, window: int | None = None) -> dict[str, Any]:
    """Return the fields of PreprocessSpec for a choice of frames: apex±3 has a window of 3.

    Raises UsageError if `window` has another value.
    """
    match = re.fullmatch(r"apex(?:±|\+-|\+/-)([0-9]+)", text.replace(" ", ""))
    width = int(match[1]) if match else window
    if match and window not in (None, width):
        raise UsageError(
            f"the window must be given only once: frames are '{text}', and --window is {window}"
        )
    return {"frames": "apex" if match else text, **({} if width is None else {"window": width})}


def read_input(text: str) -> tuple[str, ...]:
    """Return the inputs in a list with commas; "grey" is the same as "gray"."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    if "" in names:
        raise UsageError(
            "inputs must be names with commas between them, such as gray,onset-difference; given: "
            f"'{text}'"
        )
    return tuple("gray" if name == "grey" else name for name in names)


def without_apex(faces: Faces) -> list[str]:
    """Return the clips without a frame that is marked as the apex, sorted."""
    index = faces.index
    return sorted(set(index["clip"]) - set(index["clip"][index["phase"] == "apex"]) - {""})


def run(
    spec: PreprocessSpec, store: Store, *, alias: str | None = None, crop_model: Path | None = None
) -> Run:
    """Return the run of `spec` in `store`: faces, sheet.png and summary.json.

    Clips that are left out are counted on stderr. With `crop` the run also has crops.csv,
    misses.csv and crops.png, which report the faces that were found.
    """
    parent = store.run(spec.faces)
    spec = spec.model_copy(update={"faces": parent.name})
    faces = Faces.load(parent.path)

    # Report the clips that are left out.
    dropped_clips = without_apex(faces) if spec.frames != "all" else []
    if dropped_clips:
        say(
            f"{many(len(dropped_clips), 'clip')} without a known apex "
            f"{'is' if len(dropped_clips) == 1 else 'are'} left out: "
            f"{', '.join(dropped_clips[:5])}{' ...' * (len(dropped_clips) > 5)}"
        )

    def build(out: Path, scratch: Path) -> None:
        processed = _preprocess(faces, spec, crop_model, out)
        no_onset = (
            sorted(_without_onset(faces.index) - set(processed.index["clip"]))
            if _needing(spec)
            else []
        )
        write(
            processed,
            out,
            {
                "clips_without_apex": dropped_clips,
                **({"clips_without_onset": no_onset} if no_onset else {}),
            },
        )

    return store.make(spec, build, alias)


def write(faces: Faces, out: Path, summary: dict[str, Any]) -> None:
    """Write a run's files: the faces, a contact sheet, and summary.json.

    The summary has the number of images per class, and the entries of `summary`.
    """
    faces.save(out)
    class_sheet(faces).save(out / "sheet.png")
    shape = {"shape": list(faces.size), "channels": list(faces.shown)}
    content = {
        "images": len(faces),
        **shape,
        "counts": faces.counts().to_dict("records"),
        **summary,
    }
    (out / "summary.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# Frames


def _chosen(index: pd.DataFrame, spec: PreprocessSpec) -> Bool[np.ndarray, " n"]:
    """Return whether each row is kept."""
    single = index["clip"] == ""
    if spec.frames == "apex":
        apex_frame = index["frame"].where(index["phase"] == "apex")
        # NaN where the clip has no apex; comparisons with NaN are false.
        apex = apex_frame.groupby(index["clip"]).transform("min")
        distance = (index["frame"] - apex).abs()
        selected = (distance <= spec.window) & (distance % spec.every == 0)
    elif spec.frames == "onset+apex":
        clips_with_apex = set(index["clip"][index["phase"] == "apex"])
        selected = index["phase"].isin(["onset", "apex"]) & index["clip"].isin(clips_with_apex)
    else:
        position = index.sort_values(["clip", "frame", "key"]).groupby("clip").cumcount()
        selected = position.reindex(index.index) % spec.every == 0
    return (single | selected).to_numpy(dtype=bool)


def _found(
    faces: Faces, spec: PreprocessSpec, model: Path | None, out: Path | None
) -> tuple[Faces, Places]:
    """Return the images that are not skipped, and the place of each face by key."""
    assert spec.crop is not None
    _require_plain(faces, "a crop")

    # Find all faces.
    index = faces.index

    def open_stored(number: int) -> UInt8[np.ndarray, "h w *c"]:
        return np.asarray(_image(faces.images[number]))

    places = crops.find_all(
        len(faces), list(index["clip"]), list(index["frame"]), open_stored, spec.crop, model
    )

    # Report the faces that were found and missed.
    table = crops.table(list(index["key"]), list(index["emotion"]), places)
    crops.tell(table, spec.size or min(faces.size[1:]), spec.crop.margin)
    if spec.crop.misses == "fail":
        crops.require_found(table)
    if out is not None:
        crops.report(table, places, open_stored, spec.crop.margin, out)

    # Skip the misses, if the spec says so.
    selected = np.array(
        [spec.crop.misses != "skip" or kind != "missed" for kind in table["kind"]], dtype=bool
    )
    if not selected.any():
        raise DataError(
            f"some image must show a face, and none of {len(faces):,} does; they may be crops "
            "already"
        )
    return faces.select(selected), {
        key: place for key, place in zip(index["key"], places, strict=True) if place
    }


def _reform(faces: Faces, spec: PreprocessSpec, places: Places) -> UInt8[np.ndarray, "n k y x"]:
    """Return the images, or their faces, in the spec's colour and size.

    It is the same array if there is nothing to do.
    """
    channels, height, width = faces.size
    same_size = spec.size is None or (height, width) == (spec.size, spec.size)
    if faces.channels:
        if spec.colour is not None:
            _require_plain(faces, f"colour {spec.colour}")
        return (
            faces.images
            if same_size
            else np.stack([_resize_each(image, spec) for image in faces.images])
        )
    colour: Colour = spec.colour or ("grey" if channels == 1 else "rgb")
    if not places:
        return reform(faces.images, spec.size, colour, spec.filter)
    size, margin = spec.size or min(height, width), spec.crop.margin if spec.crop else 0.0
    pairs = zip(faces.images, faces.index["key"], strict=True)
    shown = (_cut(_colour(_image(image), colour), places.get(key), margin) for image, key in pairs)
    return np.stack([_array(_resize(image, size, spec.filter)) for image in shown])


def reform(
    images: UInt8[np.ndarray, "n c h w"],
    size: int | None,
    colour: Colour,
    filter: Filter = "bilinear",
) -> UInt8[np.ndarray, "n k y x"]:
    """Return the images in this colour and size; a size of None keeps theirs.

    It is the same array if there is nothing to do.
    """
    _, channels, height, width = images.shape
    if size in (None, height) and size in (None, width) and channels == len(_channels(colour)):
        return images
    if not len(images):
        return np.empty((0, len(_channels(colour)), size or height, size or width), dtype=np.uint8)
    return np.stack(
        [_array(_resize(_colour(_image(image), colour), size, filter)) for image in images]
    )


def _resize_each(
    image: UInt8[np.ndarray, "c h w"], spec: PreprocessSpec
) -> UInt8[np.ndarray, "c y x"]:
    """Return an image with each channel resized separately."""
    return np.concatenate(
        [_array(_resize(_image(channel[None]), spec.size, spec.filter)) for channel in image]
    )


def _with_pixels(
    faces: Faces, images: UInt8[np.ndarray, "n k y x"], channels: tuple[str, ...] | None = None
) -> Faces:
    """Return the faces with new pixels, their sha256, and the names of their channels."""
    if images is faces.images:
        return faces
    columns: dict[str, Any] = {
        name: list(faces.index[name]) for name in COLUMNS if name != "sha256"
    }
    shown = faces.channels if channels is None else channels
    return replace(faces, images=images, index=make_index(images, **columns), channels=shown)


# Inputs


def _as_inputs(selected: Faces, faces: Faces, spec: PreprocessSpec, places: Places) -> Faces:
    """Return `selected`, a selection of `faces`, as the channels that the spec names.

    The input "gray" without others is a plain picture.
    """
    _require_plain(faces, f"input {','.join(spec.input)}")
    if _needing(spec):
        selected = _with_onset(selected, faces, _needing(spec)[0])
    grey = spec.model_copy(update={"colour": "grey"})
    images = _reform(selected, grey, places)[:, 0]
    needing = _needing(spec)
    onsets = images
    if needing:
        first, where = np.unique(_onsets(selected.index, faces.index), return_inverse=True)
        onsets = _reform(faces.select(first), grey, places)[:, 0][where]
    channels = () if spec.input == ("gray",) else spec.input
    return _with_pixels(selected, stack(images, onsets, spec.input), channels)


def _needing(spec: PreprocessSpec) -> list[str]:
    """Return the inputs that need the onset frame of each clip."""
    return [name for name in spec.input if INPUTS[name].clips]


def _with_onset(selected: Faces, faces: Faces, name: str) -> Faces:
    """Return the images whose clip has an onset frame in `faces`, and warn about other clips.

    Raises DataError for single photographs, or if no clip is left.
    """
    # Photographs have no onset frame.
    photographs = selected.index["key"][selected.index["clip"] == ""]
    if len(photographs):
        raise DataError(
            f"the input {name} needs clips, and {len(photographs):,} of "
            f"{many(len(selected), 'image')} belong to none, such as {photographs.iloc[0]}; omit "
            "it, or ingest with --clip-pattern or a clip column"
        )

    # Leave out clips without an onset frame; it is an error if no clip has one.
    no_onset = _without_onset(faces.index)
    missing_clips = sorted(set(selected.index["clip"]) & no_onset)
    if not missing_clips:
        return selected
    message = (
        f"the input {name} needs the onset frame of each clip, which {len(missing_clips)} of "
        f"{selected.index['clip'].nunique()} clips lack here, such as {missing_clips[0]}"
    )
    remedy = (
        "if frames were selected before, name the run that holds whole clips, and select frames "
        "and input at once"
    )
    if len(missing_clips) == selected.index["clip"].nunique():
        raise DataError(f"{message}; {remedy}")
    ellipsis = " ..." * (len(missing_clips) > 5)
    say(f"warning: {message}; left out: {', '.join(missing_clips[:5])}{ellipsis}; {remedy}")
    return selected.select(~selected.index["clip"].isin(missing_clips).to_numpy(dtype=bool))


def _without_onset(index: pd.DataFrame) -> set[str]:
    """Return the clips whose onset frame is unknown."""
    return set(index["clip"]) - {""} - set(_onset_places(index))


def _onset_places(index: pd.DataFrame) -> dict[str, int]:
    """Return the position of the onset frame by clip, for the clips that have one.

    It is the frame that is marked as the onset. In a clip where no frame except the offset is
    marked, it is the first frame. In a clip that begins with its apex and has its offset, it is the
    apex, because onset and apex are then one frame.
    """
    frames = index.assign(place=np.arange(len(index))).sort_values(["clip", "frame", "key"])
    marked = frames[frames["phase"] == "onset"].drop_duplicates("clip")
    clips_with_phases = set(frames["clip"][~frames["phase"].isin(["", "offset"])])
    ended = set(frames["clip"][frames["phase"] == "offset"])
    first_frames = frames.drop_duplicates("clip")
    first = first_frames[
        ~first_frames["clip"].isin(clips_with_phases)
        | ((first_frames["phase"] == "apex") & first_frames["clip"].isin(ended))
    ]
    return dict(
        zip([*first["clip"], *marked["clip"]], [*first["place"], *marked["place"]], strict=True)
    )


def _onsets(selected: pd.DataFrame, index: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """Return the position in `index` of the onset frame of each selected image's clip."""
    places = _onset_places(index)
    return np.array([places[clip] for clip in selected["clip"]], dtype=np.int64)


def _require_plain(faces: Faces, purpose: str) -> None:
    if faces.channels:
        raise DataError(
            f"{purpose} needs plain pictures, and these show {', '.join(faces.channels)}; name the "
            "run that they were made from"
        )


# Pixels


def _read(
    picture: Picture,
    colour: Colour,
    box: Box | None,
    name: str | None,
    white: float | None,
    remarks: list[str] | None,
) -> Image.Image:
    """Return a picture, or its part within `box`, upright, with 8 bits per channel, in `colour`."""
    description = name or (picture if isinstance(picture, Path) else "the picture")
    with pictures.complained(description):
        if isinstance(picture, np.ndarray):
            _check_size((picture.shape[1], picture.shape[0]))
            return _colour(_within(Image.fromarray(picture), box), colour)
        with pictures.opened(picture) as image:
            _check_size(image.size)
            if remarks is not None and getattr(image, "is_animated", False):
                remarks.append(FRAMES)
            shown = _upright(pictures.eight_bit(image, picture, white), image)
            return _colour(_opaque(_within(shown, box), remarks), colour)


def _cut(image: Image.Image, place: Place | None, margin: float) -> Image.Image:
    return image if place is None else Image.fromarray(crops.cut(np.asarray(image), place, margin))


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise DataError(
            f"each side must have {MIN_SIDE} pixels or more, and it has {width} by {height}"
        )
    if width * height > MAX_PIXELS:
        raise DataError(f"it must have at most {MAX_PIXELS:,} pixels, and has {width} by {height}")


def _within(image: Image.Image, box: Box | None) -> Image.Image:
    if box is None:
        return image
    left, top, width, height = box
    inside = (
        max(left, 0),
        max(top, 0),
        min(left + width, image.width),
        min(top + height, image.height),
    )
    _check_size((inside[2] - inside[0], inside[3] - inside[1]))
    return image.crop(inside)


def _upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """Return the image rotated as the EXIF data of its source says."""
    try:
        orientation = source.getexif().get(_ORIENTATION, 1)
    except Exception:  # the EXIF data can be damaged while the picture is sound
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image, remarks: list[str] | None) -> Image.Image:
    """Return the image as L or RGB, with transparent parts on black."""
    if "transparency" not in image.info and image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    shown = image.convert("RGBA")
    if remarks is not None and np.asarray(shown)[..., 3].min() < 255:
        remarks.append(TRANSPARENT)
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), shown).convert(
        "RGB"
    )


def _channels(colour: Colour) -> str:
    return "L" if colour == "grey" else "RGB"


def _colour(image: Image.Image, colour: Colour) -> Image.Image:
    return image.convert(_channels(colour))


def _resize(image: Image.Image, size: int | None, filter: Filter) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling[filter.upper()])


def _image(array: UInt8[np.ndarray, "c h w"]) -> Image.Image:
    return Image.fromarray(
        array[0] if len(array) == 1 else np.ascontiguousarray(np.moveaxis(array, 0, 2))
    )


def _array(image: Image.Image) -> UInt8[np.ndarray, "c h w"]:
    """Return an L or RGB image as uint8 [c, h, w]."""
    array = np.asarray(image)
    return array[None].copy() if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, 2, 0))
