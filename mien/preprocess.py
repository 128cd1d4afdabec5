"""One form for all faces: any image file decoded to one size and colour, and the frames that are
worth keeping.

Grey is the luma of ITU-R BT.601. All resizing is Pillow's, whose filters widen their support when
they reduce an image: it is antialiased, and the height-to-width ratio is not kept (280×340 becomes
48×48, as in the preprint).
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
Picture = (
    Path | bytes | UInt8[np.ndarray, "..."]
)  # a file, the content of one, or pixels [h, w] or [h, w, 3]
Box = tuple[int, int, int, int]  # left, top, width, height, in pixels

MIN_SIDE = 8  # pixels; below this there is no face to see
MAX_PIXELS = 64_000_000  # the largest picture that is opened; a worker then needs some 400 MB
FRAMES, TRANSPARENT = "several frames", "transparent parts"  # what `decode` remarks
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
FOLDED = {
    new for classes in CLASS_SETS.values() for old, new in classes.items() if new not in classes
}  # of several


class PreprocessSpec(Spec):
    """Which frames and classes of a set are kept, and the form that they are brought to."""

    stage: ClassVar[str] = "faces"
    faces: str  # the run that holds them
    frames: Literal["all", "apex", "onset+apex"] = "apex"
    window: int = Field(default=5, ge=0)  # for "apex": frames kept on either side of it
    every: int = Field(
        default=1, ge=1
    )  # every n-th frame, counted from the apex or the clip's first frame
    size: int | None = Field(
        default=None, ge=MIN_SIDE, le=1024
    )  # height and width; None leaves them
    colour: Colour | None = None  # None leaves it
    crop: CropSpec | None = None  # None: the whole image
    input: tuple[
        str, ...
    ] = ()  # channels, of inputs.INPUTS, made of the grey images at their size; empty leaves them
    filter: Filter = "bilinear"
    classes: str = ""  # a class set of faces.CLASS_SETS; empty leaves the emotions as they are

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
            raise ValueError("inputs must be named once each")
        return names

    @model_validator(mode="after")
    def _options_are_used(self) -> "PreprocessSpec":
        if self.frames != "apex" and self.window != type(self).model_fields["window"].default:
            raise ValueError(
                f"window must be left alone with frames '{self.frames}': it is a window around "
                "each apex"
            )
        if self.frames == "onset+apex" and self.every != 1:
            raise ValueError(
                "every must be left alone with frames 'onset+apex': there are two of each clip"
            )
        if self.input and self.colour:
            raise ValueError(
                "colour must be left alone where inputs are named: they are made of grey images"
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

    An orientation in the EXIF data is applied, more than 8 bits are brought to 8 (`white` is the
    value that becomes 255; without it, what `pictures.whites` says of this picture alone),
    transparent parts lie on black, and of several frames the first is taken. The part within `box`
    is cut out, as far as it lies in the picture. The full image is decoded and turned grey before
    it is resized. With `face`, only the square around it is kept, wider by `margin`. `name` is what
    a complaint calls it, by default the path. `remarks` gets FRAMES where there are several frames,
    and TRANSPARENT where some pixel is.

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
    """Return a picture at its own size, [h, w] for grey and [h, w, 3] for rgb; all else is as in
    `decode`.
    """
    return np.asarray(_read(picture, colour, box, name, white, None))


def preprocess(faces: Faces, spec: PreprocessSpec, model: Path | None = None) -> Faces:
    """Return the frames of `faces` that `spec` keeps, in their order, at its size and colour, under
    its classes.

    With frames = "apex" those within `window` frames of their clip's apex stay, with "onset+apex"
    the two that are marked so; a clip whose apex is not known has none (`without_apex` lists them).
    Single photographs always stay. With `crop` the face is cut out of each image first (`model` is
    YuNet's file), with `input` each image becomes the channels that it names.

    Raises DataError if nothing is left; if `size` is larger than the images: enlarging adds no
    detail, so the originals have to be ingested at that size; if an input needs an onset frame that
    is not there, or if the images are such inputs already, or a face is missed that must not be.
    """
    return _preprocess(faces, spec, model, None)


def _preprocess(faces: Faces, spec: PreprocessSpec, model: Path | None, out: Path | None) -> Faces:
    """Do what `preprocess` says; in `out`, report what was cut out."""
    _, height, width = faces.size
    if spec.size is not None and spec.size > min(height, width):
        raise DataError(
            f"size must be at most that of the images, {height} by {width}, not {spec.size}: "
            f"enlarging adds no detail; ingest the originals again with --size {spec.size}"
        )
    places: Places = {}
    if spec.crop:
        faces, places = _found(faces, spec, model, out)
    kept = faces.select(_chosen(faces.index, spec))
    if not len(kept):
        clips = len(without_apex(faces))
        raise DataError(
            f"frames = '{spec.frames}' must leave some images, and leaves none of {len(faces)}: "
            f"{many(clips, 'clip')} {'has' if clips == 1 else 'have'} no apex; use frames = 'all'"
        )
    kept = fold_classes(kept, spec.classes)
    return (
        _as_inputs(kept, faces, spec, places)
        if spec.input
        else _with_pixels(kept, _reform(kept, spec, places))
    )


def fold_classes(faces: Faces, name: str) -> Faces:
    """Return the images whose emotion is in the class set `name`, under the names that it has
    there.

    `raw_label` still says what the source said. An empty name leaves all as it is, and so do images
    that are in these classes already.

    Raises DataError if no image is left, or if the images were folded into other classes before:
    what was put together cannot be told apart again.
    """
    if not name:
        return faces
    classes = CLASS_SETS[name]
    if set(faces.classes) & FOLDED and set(faces.classes) <= set(classes.values()):
        return faces
    folded = [emotion for emotion in faces.classes if emotion in FOLDED and emotion not in classes]
    if folded:
        raise DataError(
            f"the class set {name} must be made from single emotions, and these images were folded "
            f"into {', '.join(folded)} before; name the run that they were folded from"
        )
    kept = faces.select(faces.index["emotion"].isin(list(classes)).to_numpy(dtype=bool))
    if not len(kept):
        raise DataError(
            f"the class set {name} must leave some images, and leaves none of {len(faces)}: it has "
            f"{', '.join(classes)}, and the images show {', '.join(faces.classes)}"
        )
    emotions = pd.Series([classes[emotion] for emotion in kept.index["emotion"]], dtype="str")
    return replace(kept, index=kept.index.assign(emotion=emotions))


def read_frames(text: str, window: int | None = None) -> dict[str, Any]:
    """Return the fields of PreprocessSpec that a choice of frames stands for: apex±3 has a window
    of 3.

    Raises UsageError if `window` says something else.
    """
    around = re.fullmatch(r"apex(?:±|\+-|\+/-)([0-9]+)", text.replace(" ", ""))
    named = int(around[1]) if around else window
    if around and window not in (None, named):
        raise UsageError(
            f"the window must be said once: frames are '{text}', and --window is {window}"
        )
    return {"frames": "apex" if around else text, **({} if named is None else {"window": named})}


def read_input(text: str) -> tuple[str, ...]:
    """Return the inputs that a list with commas names; grey is the same as gray."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    if "" in names:
        raise UsageError(
            "inputs must be names with commas between them, such as gray,onset-difference; given: "
            f"'{text}'"
        )
    return tuple("gray" if name == "grey" else name for name in names)


def without_apex(faces: Faces) -> list[str]:
    """Return the clips that have no frame marked as the apex, sorted."""
    index = faces.index
    return sorted(set(index["clip"]) - set(index["clip"][index["phase"] == "apex"]) - {""})


def run(
    spec: PreprocessSpec, store: Store, *, alias: str | None = None, crop_model: Path | None = None
) -> Run:
    """Make the run of `spec` in `store`: faces, sheet.png and summary.json; clips left out are
    counted aloud.

    With `crop` it has crops.csv, misses.csv and crops.png too, which say what was found where.
    """
    parent = store.run(spec.faces)
    spec = spec.model_copy(update={"faces": parent.name})
    faces = Faces.load(parent.path)
    lost = without_apex(faces) if spec.frames != "all" else []
    if lost:
        say(
            f"{many(len(lost), 'clip')} without a known apex {'is' if len(lost) == 1 else 'are'} "
            f"left out: {', '.join(lost[:5])}{' ...' * (len(lost) > 5)}"
        )

    def build(out: Path, scratch: Path) -> None:
        made = _preprocess(faces, spec, crop_model, out)
        bare = (
            sorted(_without_onset(faces.index) - set(made.index["clip"])) if _needing(spec) else []
        )
        write(
            made,
            out,
            {"clips_without_apex": lost, **({"clips_without_onset": bare} if bare else {})},
        )

    return store.make(spec, build, alias)


def write(faces: Faces, out: Path, summary: dict[str, Any]) -> None:
    """Write a run's files: the faces, a contact sheet, and summary.json with counts a class and
    what `summary` adds.
    """
    faces.save(out)
    class_sheet(faces).save(out / "sheet.png")
    shape = {"shape": list(faces.size), "channels": list(faces.shown)}
    whole = {"images": len(faces), **shape, "counts": faces.counts().to_dict("records"), **summary}
    (out / "summary.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


# Frames


def _chosen(index: pd.DataFrame, spec: PreprocessSpec) -> Bool[np.ndarray, " n"]:
    """Whether each row is kept."""
    single = index["clip"] == ""
    if spec.frames == "apex":
        marked = index["frame"].where(index["phase"] == "apex")
        apex = marked.groupby(index["clip"]).transform(
            "min"
        )  # nan where the clip has none, and nan is never <=
        distance = (index["frame"] - apex).abs()
        kept = (distance <= spec.window) & (distance % spec.every == 0)
    elif spec.frames == "onset+apex":
        marked = set(index["clip"][index["phase"] == "apex"])
        kept = index["phase"].isin(["onset", "apex"]) & index["clip"].isin(marked)
    else:
        place = index.sort_values(["clip", "frame", "key"]).groupby("clip").cumcount()
        kept = place.reindex(index.index) % spec.every == 0
    return (single | kept).to_numpy(dtype=bool)


def _found(
    faces: Faces, spec: PreprocessSpec, model: Path | None, out: Path | None
) -> tuple[Faces, Places]:
    """Return the faces, without those that are skipped for want of a face, and where the face of
    each is, by key.
    """
    assert spec.crop is not None
    _require_plain(faces, "a crop")
    index = faces.index

    def open_stored(number: int) -> UInt8[np.ndarray, "h w *c"]:
        return np.asarray(_image(faces.images[number]))

    places = crops.find_all(
        len(faces), list(index["clip"]), list(index["frame"]), open_stored, spec.crop, model
    )
    found = crops.table(list(index["key"]), list(index["emotion"]), places)
    crops.tell(found, spec.size or min(faces.size[1:]), spec.crop.margin)
    if spec.crop.misses == "fail":
        crops.require_found(found)
    if out is not None:
        crops.report(found, places, open_stored, spec.crop.margin, out)
    kept = np.array(
        [spec.crop.misses != "skip" or kind != "missed" for kind in found["kind"]], dtype=bool
    )
    if not kept.any():
        raise DataError(
            f"some image must show a face, and none of {len(faces):,} does; they may be cut out "
            "already"
        )
    return faces.select(kept), {
        key: place for key, place in zip(index["key"], places, strict=True) if place
    }


def _reform(faces: Faces, spec: PreprocessSpec, places: Places) -> UInt8[np.ndarray, "n k y x"]:
    """Return the images, or their faces, in the spec's colour and size: the same array if there is
    nothing to do.
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
    """Return the images in this colour and size (None leaves it): the same array if there is
    nothing to do.
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
    return np.concatenate(
        [_array(_resize(_image(channel[None]), spec.size, spec.filter)) for channel in image]
    )


def _with_pixels(
    faces: Faces, images: UInt8[np.ndarray, "n k y x"], channels: tuple[str, ...] | None = None
) -> Faces:
    """Return the faces with other pixels, and their sha256."""
    if images is faces.images:
        return faces
    columns: dict[str, Any] = {
        name: list(faces.index[name]) for name in COLUMNS if name != "sha256"
    }
    shown = faces.channels if channels is None else channels
    return replace(faces, images=images, index=make_index(images, **columns), channels=shown)


# Inputs


def _as_inputs(kept: Faces, whole: Faces, spec: PreprocessSpec, places: Places) -> Faces:
    """Return `kept`, a choice of `whole`, as the channels that the spec names; "gray" alone is a
    plain picture.
    """
    _require_plain(whole, f"input {','.join(spec.input)}")
    if _needing(spec):
        kept = _with_onset(kept, whole, _needing(spec)[0])
    grey = spec.model_copy(update={"colour": "grey"})
    images = _reform(kept, grey, places)[:, 0]
    needing = _needing(spec)
    onsets = images
    if needing:
        first, where = np.unique(_onsets(kept.index, whole.index), return_inverse=True)
        onsets = _reform(whole.select(first), grey, places)[:, 0][where]
    channels = () if spec.input == ("gray",) else spec.input
    return _with_pixels(kept, stack(images, onsets, spec.input), channels)


def _needing(spec: PreprocessSpec) -> list[str]:
    """Return the inputs that need the onset frame of each clip."""
    return [name for name in spec.input if INPUTS[name].clips]


def _with_onset(kept: Faces, whole: Faces, name: str) -> Faces:
    """Return the images whose clip has an onset frame in `whole`, and say aloud which clips have
    none.

    Raises DataError for single photographs, or if no clip is left.
    """
    still = kept.index["key"][kept.index["clip"] == ""]
    if len(still):
        raise DataError(
            f"the input {name} needs clips, and {len(still):,} of {many(len(kept), 'image')} "
            f"belong to none, such as {still.iloc[0]}; leave it out, or ingest with --clip-pattern "
            "or a clip column"
        )
    bare = _without_onset(whole.index)
    lacking = sorted(set(kept.index["clip"]) & bare)
    if not lacking:
        return kept
    told = (
        f"the input {name} needs the onset frame of each clip, which {len(lacking)} of "
        f"{kept.index['clip'].nunique()} clips lack here, such as {lacking[0]}"
    )
    remedy = (
        "if frames were chosen before, name the run that holds whole clips, and choose frames and "
        "input at once"
    )
    if len(lacking) == kept.index["clip"].nunique():
        raise DataError(f"{told}; {remedy}")
    more = " ..." * (len(lacking) > 5)
    say(f"warning: {told}; left out: {', '.join(lacking[:5])}{more}; {remedy}")
    return kept.select(~kept.index["clip"].isin(lacking).to_numpy(dtype=bool))


def _without_onset(whole: pd.DataFrame) -> set[str]:
    """Return the clips of which no frame is known to be the onset."""
    return set(whole["clip"]) - {""} - set(_onset_places(whole))


def _onset_places(whole: pd.DataFrame) -> dict[str, int]:
    """Return by clip the place of its onset frame, of those that have one.

    It is the one marked so; in a clip of which no frame is marked but its offset, the first; and in
    a clip that is there down to its offset and begins with its apex, the apex itself, for then both
    are one frame.
    """
    frames = whole.assign(place=np.arange(len(whole))).sort_values(["clip", "frame", "key"])
    marked = frames[frames["phase"] == "onset"].drop_duplicates("clip")
    known = set(frames["clip"][~frames["phase"].isin(["", "offset"])])
    ended = set(frames["clip"][frames["phase"] == "offset"])
    begin = frames.drop_duplicates("clip")
    first = begin[
        ~begin["clip"].isin(known) | ((begin["phase"] == "apex") & begin["clip"].isin(ended))
    ]
    return dict(
        zip([*first["clip"], *marked["clip"]], [*first["place"], *marked["place"]], strict=True)
    )


def _onsets(kept: pd.DataFrame, whole: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """Return the place in `whole` of the onset frame of each kept image's clip."""
    places = _onset_places(whole)
    return np.array([places[clip] for clip in kept["clip"]], dtype=np.int64)


def _require_plain(faces: Faces, what: str) -> None:
    if faces.channels:
        raise DataError(
            f"{what} must be made of plain pictures, and these show {', '.join(faces.channels)}; "
            "name the run that they were made from"
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
    """Return a picture, or the part of it within `box`, upright, with 8 bits, in its colour."""
    what = name or (picture if isinstance(picture, Path) else "the picture")
    with pictures.complained(what):
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
    """Return the image turned as the EXIF data of what it was opened from says."""
    try:
        orientation = source.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data beside a sound picture
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image, remarks: list[str] | None) -> Image.Image:
    """Return the image as L or RGB, transparent parts on black."""
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
