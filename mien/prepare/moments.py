"""Moments: what each moment of a clip shows, as channels of one image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mien.faces import Faces
from mien.pictures import (
    FacePlace,
    convert_colour,
    convert_to_array,
    convert_to_image,
    cut_face,
    resize_image,
)
from mien.prepare.clips import Resampled
from mien.prepare.flow import FLOW_CHANNELS, show_flow
from mien.prepare.inputs import INPUTS
from mien.prepare.specs import PreprocessSpec
from mien.runs.progress import track


@dataclass(frozen=True)
class Shown:
    """Images of n rows, uint8 [n, k * inputs, y, x], the inputs of the first moment first.

    `saturation` is the share of the values of each channel of optical flow that lie beyond its
    scale.
    """

    images: UInt8[np.ndarray, "n c y x"]
    saturation: dict[str, float]


def show_moments(
    faces: Faces, clips: Resampled, spec: PreprocessSpec, places: Mapping[str, FacePlace]
) -> Shown:
    """Return what each of `clips`, whose rows are those of `faces`, shows at its moments.

    Inputs compare each moment with the onset. All frames of a clip are cropped where the face of
    the apex is: else a face that was found one pixel further left would seem to have moved.
    """
    inputs = spec.input or ("gray",)
    size = spec.size or (min(faces.size[1:]) if places else None)
    margin = spec.crop.margin if spec.crop else 0.0

    def open_grey(position: int, place: FacePlace | None) -> UInt8[np.ndarray, "h w"]:
        """Return a frame in grey, cropped, at the size of ingest."""
        image = convert_colour(convert_to_image(np.asarray(faces.images[position])), "grey")
        return np.asarray(cut_face(image, place, margin))

    def resize(frame: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "y x"]:
        return convert_to_array(resize_image(convert_to_image(frame[None]), size, spec.filter))[0]

    beyond = np.zeros(len(FLOW_CHANNELS))
    images: list[np.ndarray] = []
    count, moments = clips.before.shape
    with track("clips" if moments > 1 else "optical flow", count) as tracker:
        for number in range(count):
            place = places.get(str(faces.index["key"].iloc[clips.apexes[number]]))
            first = open_grey(int(clips.onsets[number]), place)
            small_first = resize(first)
            channels: list[np.ndarray] = []
            for moment in range(moments):
                # The frame of the moment, or a blend of its neighbours
                frame = open_grey(int(clips.before[number, moment]), place)
                share = float(clips.weight[number, moment])
                if share:
                    next_frame = open_grey(int(clips.after[number, moment]), place)
                    frame = ((1 - share) * frame + share * next_frame).round().astype(np.uint8)

                # Optical flow at the size of ingest, all other inputs at the final size
                small = resize(frame)
                shown = {}
                if spec.flow is not None:
                    movement, values = show_flow(first, frame, spec.flow, size, spec.filter)
                    shown = dict(zip(FLOW_CHANNELS, movement, strict=True))
                    beyond += (np.abs(values) > 1).mean(axis=(1, 2))
                channels += [
                    shown[name] if name in shown else INPUTS[name].show(small, small_first)
                    for name in inputs
                ]
            images.append(np.stack(channels))
            tracker.update(number + 1)

    shares = zip(FLOW_CHANNELS, beyond / clips.before.size, strict=True)
    saturation = {name: float(share) for name, share in shares if name in inputs}
    return Shown(np.stack(images), saturation)
