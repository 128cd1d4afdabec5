"""Preprocess meets the store: frames and classes are chosen, images resized.

Grey is the luma of ITU-R BT.601. Pillow does all resizing; its filters widen their support when
they reduce an image, which avoids aliasing. The ratio of height to width is not kept (280×340
becomes 48×48, as in the preprint).
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from mien.errors import DataError, UsageError
from mien.faces import COLUMNS, Faces, make_index
from mien.findings import list_some
from mien.pages.sheets import draw_class_sheet, write_moving_sheets
from mien.pictures import (
    Colour,
    FacePlace,
    Filter,
    convert_colour,
    convert_to_array,
    convert_to_image,
    cut_face,
    name_mode,
    resize_image,
)
from mien.prepare import crops
from mien.prepare.classes import merge_classes
from mien.prepare.clips import (
    PAIR,
    Resampled,
    find_clips_without_apex,
    find_clips_without_onset,
    find_onsets,
    hold_frames,
    name_moments,
    resample_clips,
    select_frames,
)
from mien.prepare.inputs import INPUTS, expand_groups, stack_inputs
from mien.prepare.moments import show_moments
from mien.prepare.specs import ArraysSpec, PreprocessSpec
from mien.runs.progress import quantify, say
from mien.runs.store import Run, RunSummary, Store

MOST_SATURATION = 0.02  # of the values of a channel; with more, `preprocess` warns

PlaceByKey = dict[str, FacePlace]  # where the face of each image is, by its key


def preprocess(faces: Faces, spec: PreprocessSpec, model: Path | None = None) -> Faces:
    """Return the frames of `faces` that `spec` selects, in their order and in its form.

    With frames = "apex", frames within `window` frames of their clip's apex are kept, with
    "onset+apex" the two that are marked so; a clip whose apex is unknown has none
    (`find_clips_without_apex` lists them). Single photographs are always kept. With `crop`, each
    image is first cropped to its face (`model` is YuNet's file). With `input`, each image becomes
    the channels that it names.

    Raises DataError if no image is left; if `size` is larger than the images, because enlarging
    adds no detail; if an input needs an onset frame that does not exist; if the images are already
    such inputs; or if a face is missed and `crop` makes that an error.
    """
    return _preprocess(faces, spec, model, None).faces


@dataclass(frozen=True)
class Preprocessed:
    """Preprocessed faces, with what there is to report of clips and of optical flow.

    `saturation` has the share of the values of each channel of optical flow beyond its scale.
    """

    faces: Faces
    clips: Resampled | None = None
    saturation: dict[str, float] = field(default_factory=dict)


def _preprocess(
    faces: Faces, spec: PreprocessSpec, model: Path | None, out: Path | None
) -> Preprocessed:
    """Do what `preprocess` says, and write a report on the crops to `out`, if there are any."""
    # Enlarging would add no detail.
    _, height, width = faces.size
    if spec.size is not None and spec.size > min(height, width):
        raise DataError(
            f"size must be at most that of the images, {height} by {width}, not {spec.size}: "
            f"enlarging adds no detail; ingest the originals again with --size {spec.size}"
        )

    # Crop, select frames, fold classes, and bring the pixels to the new form.
    places: PlaceByKey = {}
    if spec.crop:
        faces, places = _find_faces(faces, spec, model, out)
    if spec.clips is not None:
        return _make_clips(faces, spec, places)
    selected = faces.select(select_frames(faces.index, spec.frames, spec.window, spec.every))
    if not len(selected):
        clips = len(find_clips_without_apex(faces.index))
        raise DataError(
            f"frames = '{spec.frames}' must leave some images, and leaves none of {len(faces)}: "
            f"{quantify(clips, 'clip')} {'has' if clips == 1 else 'have'} no apex; use frames = "
            "'all'"
        )
    selected = merge_classes(selected, spec.classes)
    return (
        _compute_inputs(selected, faces, spec, places)
        if spec.input
        else Preprocessed(_replace_pixels(selected, reform_one(selected, spec, places)))
    )


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
    return expand_groups(tuple("gray" if name == "grey" else name for name in names))


def read_clips(
    clips: str | None,
    until: str | None,
    method: str | None,
    reach: float | None,
    most_strain: float | None,
) -> dict[str, Any]:
    """Return the fields of PreprocessSpec for options of clips and of optical flow.

    Raises UsageError if `clips` is neither a number nor onset,apex.
    """
    text = "" if clips is None else clips.replace(" ", "")
    if clips is not None and text != PAIR and not re.fullmatch("[0-9]{1,4}", text):
        raise UsageError(
            f"clips must be a number of moments, such as 8, or {PAIR}; given: '{clips}'"
        )
    flow = {"method": method, "reach": reach, "most_strain": most_strain}
    flow = {name: value for name, value in flow.items() if value is not None}
    return {
        **({} if clips is None else {"clips": text if text == PAIR else int(text)}),
        **({} if until is None else {"until": until}),
        **({"flow": flow} if flow else {}),
    }


def run_preprocess(
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
    selects_apex = spec.frames != "all" or spec.clips is not None
    dropped_clips = find_clips_without_apex(faces.index) if selects_apex else []
    if dropped_clips:
        say(
            f"{quantify(len(dropped_clips), 'clip')} without a known apex "
            f"{'is' if len(dropped_clips) == 1 else 'are'} left out: "
            f"{list_some(dropped_clips)}"
        )

    def build(out: Path, scratch: Path) -> RunSummary:
        processed = _preprocess(faces, spec, crop_model, out)
        no_onset = (
            sorted(find_clips_without_onset(faces.index) - set(processed.faces.index["clip"]))
            if _list_inputs_with_onset(spec)
            else []
        )
        write_with_sheet(processed.faces, out)
        return {
            **summarise_faces(processed.faces),
            "clips_without_apex": dropped_clips,
            **({"clips_without_onset": no_onset} if no_onset else {}),
            **_report_clips(processed, out),
            **_report_saturation(processed),
        }

    return store.make(spec, build, alias)


def _report_clips(processed: Preprocessed, out: Path) -> dict[str, Any]:
    """Return what the summary says of resampled clips, say it, and write clips.csv.

    The table has the frame number of each moment; a number between two frames is a blend of both.
    """
    clips = processed.clips
    if clips is None:
        return {}
    moments = processed.faces.moments
    table = processed.faces.index[["key", "clip", "emotion"]]
    numbers = pd.DataFrame(clips.frames.round(3), columns=list(moments))
    pd.concat([table, numbers], axis=1).to_csv(out / "clips.csv", index=False)

    blended = clips.weight > 0
    say(
        f"{quantify(len(table), 'clip')} at {len(moments)} moments; {int(blended.sum()):,} of "
        f"{quantify(blended.size, 'moment')} lie between two frames and are blends of both"
    )
    for reason, names in clips.left_out.items():
        if reason != "no apex":  # said for all sets
            say(f"{quantify(len(names), 'clip')} with {reason} left out: {list_some(names)}")
    return {
        "blended_moments": int(blended.sum()),
        "all_moments": int(blended.size),
        "clips_left_out": clips.left_out,
    }


def _report_saturation(processed: Preprocessed) -> dict[str, Any]:
    """Return what the summary says of values beyond the scale of optical flow, and say it."""
    shares = processed.saturation
    if not shares:
        return {}
    listed = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items())
    say(f"beyond the scale of optical flow, and shown as its end: {listed}")
    if max(shares.values()) > MOST_SATURATION:
        say(
            f"warning: more than {100 * MOST_SATURATION:.0f} % of a channel is beyond the scale; a "
            "larger --flow-reach or --flow-strain shows it"
        )
    return {"flow_saturation": {name: round(share, 6) for name, share in shares.items()}}


def keep_arrays(faces: Faces, store: Store, *, alias: str | None = None) -> Run:
    """Return the run of faces that were made of arrays in Python; equal faces are one run."""
    content = hashlib.sha256(faces.index.to_csv(index=False).encode())
    content.update(json.dumps([*faces.size, *faces.channels]).encode())
    content.update(np.ascontiguousarray(faces.images).tobytes())
    if faces.seen is not None:
        content.update(faces.seen.to_csv(index=False).encode())

    def build(out: Path, scratch: Path) -> RunSummary:
        write_with_sheet(faces, out)
        return summarise_faces(faces)

    return store.make(ArraysSpec(sha256=content.hexdigest()), build, alias)


def write_with_sheet(faces: Faces, out: Path) -> None:
    """Write faces into the folder of a run, with sheet.png, some images of each class.

    Clips also get an animated picture for each class.
    """
    faces.save(out)
    draw_class_sheet(faces).save(out / "sheet.png")
    if faces.moments:
        write_moving_sheets(faces, out)


def summarise_faces(faces: Faces) -> dict[str, Any]:
    """Return the entries that the summary of every prepared set begins with."""
    return {
        "images": len(faces),
        "shape": list(faces.size),
        "channels": list(faces.shown),
        "counts": faces.count_images().to_dict("records"),
    }


# Frames


def _find_faces(
    faces: Faces, spec: PreprocessSpec, model: Path | None, out: Path | None
) -> tuple[Faces, PlaceByKey]:
    """Return the images that are not skipped, and the place of each face by key."""
    assert spec.crop is not None
    require_grey(faces, "a crop")

    index = faces.index

    def open_stored(number: int) -> UInt8[np.ndarray, "h w *c"]:
        return np.asarray(convert_to_image(faces.images[number]))

    size = spec.size or min(faces.size[1:])
    search = crops.search_faces(index, open_stored, spec.crop, size=size, model=model, out=out)
    return faces.select(search.in_result), {
        key: place for key, place in zip(index["key"], search.places, strict=True) if place
    }


def reform_one(
    faces: Faces, spec: PreprocessSpec, places: PlaceByKey
) -> UInt8[np.ndarray, "n k y x"]:
    """Return the images, or their faces, in the spec's colour and size.

    It is the same array if there is nothing to do.
    """
    # Images of named channels keep them, and have no colour to convert
    channels, height, width = faces.size
    same_size = spec.size is None or (height, width) == (spec.size, spec.size)
    if faces.channels:
        if spec.colour is not None:
            require_grey(faces, f"colour {spec.colour}")
        return (
            faces.images
            if same_size
            else np.stack([resize_each(image, spec) for image in faces.images])
        )

    # Other images change their colour, are cropped to the face, and resized
    colour: Colour = spec.colour or ("grey" if channels == 1 else "rgb")
    if not places:
        return reform(faces.images, spec.size, colour, spec.filter)
    size, margin = spec.size or min(height, width), spec.crop.margin if spec.crop else 0.0
    pairs = zip(faces.images, faces.index["key"], strict=True)
    pictures = (
        cut_face(convert_colour(convert_to_image(image), colour), places.get(key), margin)
        for image, key in pairs
    )
    return np.stack(
        [convert_to_array(resize_image(image, size, spec.filter)) for image in pictures]
    )


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
    if size in (None, height) and size in (None, width) and channels == len(name_mode(colour)):
        return images
    if not len(images):
        return np.empty((0, len(name_mode(colour)), size or height, size or width), dtype=np.uint8)
    return np.stack(
        [
            convert_to_array(
                resize_image(convert_colour(convert_to_image(image), colour), size, filter)
            )
            for image in images
        ]
    )


def resize_each(
    image: UInt8[np.ndarray, "c h w"], spec: PreprocessSpec
) -> UInt8[np.ndarray, "c y x"]:
    """Return an image with each channel resized separately."""
    return np.concatenate(
        [
            convert_to_array(resize_image(convert_to_image(channel[None]), spec.size, spec.filter))
            for channel in image
        ]
    )


def _replace_pixels(
    faces: Faces, images: UInt8[np.ndarray, "n k y x"], channels: tuple[str, ...] | None = None
) -> Faces:
    """Return the faces with new pixels, their sha256, and the names of their channels."""
    if images is faces.images:
        return faces
    columns: dict[str, Any] = {
        name: list(faces.index[name]) for name in COLUMNS if name != "sha256"
    }
    new_channels = faces.channels if channels is None else channels
    return replace(faces, images=images, index=make_index(images, **columns), channels=new_channels)


# Inputs and clips


def _compute_inputs(
    selected: Faces, faces: Faces, spec: PreprocessSpec, places: PlaceByKey
) -> Preprocessed:
    """Return `selected`, a selection of `faces`, as the channels that the spec names.

    The input "gray" without others is a plain picture.
    """
    require_grey(faces, f"input {','.join(spec.input)}")
    needing = _list_inputs_with_onset(spec)
    if needing:
        selected = _drop_clips_without_onset(selected, faces, needing[0])
    if spec.flow is not None:
        return _show_with_flow(selected, faces, spec, places)

    channels = () if spec.input == ("gray",) else spec.input
    grey = spec.model_copy(update={"colour": "grey"})
    images = reform_one(selected, grey, places)[:, 0]
    onsets = images
    if needing:
        first, where = np.unique(
            _find_onset_positions(selected.index, faces.index), return_inverse=True
        )
        onsets = reform_one(faces.select(first), grey, places)[:, 0][where]
    shown = stack_inputs(images, onsets, spec.input)
    return Preprocessed(_replace_pixels(selected, shown, channels))


def _show_with_flow(
    selected: Faces, faces: Faces, spec: PreprocessSpec, places: PlaceByKey
) -> Preprocessed:
    """Return `selected` as inputs of which some are channels of optical flow."""
    row_of = {key: row for row, key in enumerate(faces.index["key"])}
    rows = np.array([row_of[key] for key in selected.index["key"]], dtype=np.int64)
    onsets = _find_onset_positions(selected.index, faces.index)
    shown = show_moments(faces, hold_frames(faces.index, rows, onsets), spec, places)
    return Preprocessed(
        _replace_pixels(selected, shown.images, spec.input), saturation=shown.saturation
    )


def _make_clips(faces: Faces, spec: PreprocessSpec, places: PlaceByKey) -> Preprocessed:
    """Return one row for each clip, with a channel for each moment and input.

    The row has the key, frame and phase of the clip's apex.

    Raises DataError for single photographs, and if no clip can be resampled.
    """
    assert spec.clips is not None
    require_grey(faces, "clips")
    _require_clips(faces.index, "a row for each clip")
    clips = resample_clips(faces.index, spec.clips, spec.until or "apex")
    if not len(clips.apexes):
        reasons = ", ".join(
            f"{quantify(len(names), 'clip')} with {reason}"
            for reason, names in clips.left_out.items()
        )
        raise DataError(
            "clips need an onset, an apex and, until the offset, a frame after the apex; there are "
            f"{reasons}. Name the run that holds whole clips, or end at the apex (until = 'apex')"
        )

    # Only clips of the classes that are kept
    merged = merge_classes(faces.select(clips.apexes), spec.classes)
    clips = clips.select(
        np.flatnonzero(np.isin(faces.index["key"].iloc[clips.apexes], merged.index["key"]))
    )
    shown = show_moments(faces, clips, spec, places)
    inputs = ("",) if spec.input in ((), ("gray",)) else spec.input
    channels = tuple(
        f"{name}-{moment}" if name else moment
        for moment in name_moments(spec.clips)
        for name in inputs
    )
    return Preprocessed(_replace_pixels(merged, shown.images, channels), clips, shown.saturation)


def _list_inputs_with_onset(spec: PreprocessSpec) -> list[str]:
    """Return the inputs that need the onset frame of each clip."""
    return [name for name in spec.input if INPUTS[name].clips]


def _require_clips(index: pd.DataFrame, purpose: str) -> None:
    """Raise DataError if images belong to no clip, as photographs do."""
    photographs = index["key"][index["clip"] == ""]
    if len(photographs):
        raise DataError(
            f"{purpose} needs clips, and {len(photographs):,} of "
            f"{quantify(len(index), 'image')} belong to none, such as {photographs.iloc[0]}; "
            "omit it, or ingest with --clip-pattern or a clip column"
        )


def _drop_clips_without_onset(selected: Faces, faces: Faces, name: str) -> Faces:
    """Return the images whose clip has an onset frame in `faces`, and warn about other clips.

    Raises DataError for single photographs, or if no clip is left.
    """
    _require_clips(selected.index, f"the input {name}")

    # Leave out clips without an onset frame; it is an error if no clip has one.
    no_onset = find_clips_without_onset(faces.index)
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
    say(f"warning: {message}; left out: {list_some(missing_clips)}; {remedy}")
    return selected.select(~selected.index["clip"].isin(missing_clips).to_numpy(dtype=bool))


def _find_onset_positions(selected: pd.DataFrame, index: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """Return the position in `index` of the onset frame of each selected image's clip."""
    onsets = find_onsets(index)
    return np.array([onsets[clip] for clip in selected["clip"]], dtype=np.int64)


def require_grey(faces: Faces, purpose: str) -> None:
    """Raise DataError if the faces have channels made by `--input`, which `purpose` cannot use."""
    if faces.channels:
        raise DataError(
            f"{purpose} needs plain pictures, and these show {', '.join(faces.channels)}; name the "
            "run that they were made from"
        )
