"""Inputs: the channels that show a face, computed from grey images.

The preprint names them as future work: filters that emphasise edges (Laplacian), directions (HOG),
texture (LBP) or local contrast (CLAHE), and the change since the clip's first, neutral frame.
Optical flow shows the movement since that frame. Each keeps the resolution of the image, so that
several can be stacked as channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mien.prepare.flow import FLOW_CHANNELS, MID_GREY, FlowSpec, show_flow
from mien.strips import split_channel

# Of HOG: pixels per side of a cell, and bins of 180 degrees (Dalal and Triggs 2005, section 6).
HOG_CELL_PIXELS, HOG_DIRECTIONS = 8, 9

# Of CLAHE: tiles per side, and the limit of a histogram's bin as a multiple of the mean bin.
CLAHE_TILES, CLAHE_CLIP_LIMIT = 4, 2.0

Grey = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Input:
    """One way to show a grey image.

    `show` computes it from the image and the onset frame of its clip. `rest` is the value that a
    change of brightness keeps: other values move away from it or towards it. It is None if
    brightness changes nothing. Optical flow is computed from images of the size of ingest and then
    resized, all its channels at once; of such an input `show` is what images of one size show.
    """

    show: Callable[[Grey, Grey], Grey]
    rest: int | None
    clips: bool = False  # whether it needs an onset frame
    direction: Literal["", "right", "down"] = ""  # in which its values are lengths of arrows


def compute_laplacian(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return 128 + 4 (pixel - mean of its four neighbours), clipped to 0..255.

    The border is reflected: the outer neighbour of a border pixel is the pixel itself.
    """
    padded = np.pad(grey.astype(np.int16), 1, mode="symmetric")
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return _shift_to_mid_grey(4 * padded[1:-1, 1:-1] - neighbours)


def compute_onset_difference(
    grey: UInt8[np.ndarray, "h w"], onset: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """Return 128 + `grey` - `onset`, clipped to 0..255: mid-grey where nothing changed."""
    return _shift_to_mid_grey(grey.astype(np.int16) - onset)


def compute_lbp(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the local binary pattern of each pixel, 0..255.

    It is Equation 8 of Ojala et al. (2002) with P = 8 and R = 1. Bit p is set where the picture at
    distance 1 in direction p · 45 degrees, counter-clockwise from the right, is at least as bright
    as the pixel. Values between pixels are interpolated; outside the picture it is black.
    """
    h, w = grey.shape
    padded = np.pad(grey.astype(np.float64), 2)
    code = np.zeros((h, w), dtype=np.uint8)
    for bit in range(8):
        angle = 2 * np.pi * bit / 8
        down, right = round(-np.sin(angle), 5), round(np.cos(angle), 5)
        top, left = int(np.floor(down)), int(np.floor(right))
        y, x = down - top, right - left

        # Interpolate between the four pixels around the point.
        corners = [
            [padded[2 + top + i : 2 + top + i + h, 2 + left + j : 2 + left + j + w] for j in (0, 1)]
            for i in (0, 1)
        ]
        upper, lower = ((1 - x) * first + x * second for first, second in corners)
        code |= ((1 - y) * upper + y * lower >= grey).astype(np.uint8) << bit
    return code


def compute_hog(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the histograms of oriented gradients as a picture.

    They are those of Dalal and Triggs (2005, sections 6.2 and 6.3). Each cell of 8 x 8 pixels shows
    a star of nine strokes along the directions of edges, as bright as the mean gradient in that
    direction; where strokes cross, they add up. The brightest pixel is always 255. A picture
    without gradients is black, and so are pixels outside whole cells.
    """
    h, w = (length // HOG_CELL_PIXELS for length in grey.shape)
    inner = np.s_[: h * HOG_CELL_PIXELS, : w * HOG_CELL_PIXELS]

    # Compute the gradient, and the direction of each pixel's edge.
    values = grey.astype(np.float64)
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[1:-1], right[:, 1:-1] = values[2:] - values[:-2], values[:, 2:] - values[:, :-2]
    down, right = down[inner], right[inner]
    bins = (np.rad2deg(np.arctan2(down, right)) % 180 * HOG_DIRECTIONS / 180).astype(
        np.int64
    ) % HOG_DIRECTIONS

    # Average the gradients by direction in each cell, and draw them as strokes.
    votes = np.where(np.arange(HOG_DIRECTIONS)[:, None, None] == bins, np.hypot(down, right), 0)
    cells = votes.reshape(HOG_DIRECTIONS, h, HOG_CELL_PIXELS, w, HOG_CELL_PIXELS).mean(axis=(2, 4))
    stars = np.einsum("ohw,oyx->hywx", cells, _draw_strokes()).reshape(down.shape)
    picture = np.zeros(grey.shape, dtype=np.uint8)
    picture[inner] = (stars * (255 / max(stars.max(), 1e-9))).round()
    return picture


def compute_clahe(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the image with its histogram equalised in 4 x 4 tiles (Zuiderveld 1994).

    A bin of a tile's histogram is clipped at twice the mean bin, which limits the contrast; between
    the centres of tiles, the curves are interpolated.
    """
    return np.asarray(
        cv2.createCLAHE(CLAHE_CLIP_LIMIT, (CLAHE_TILES, CLAHE_TILES)).apply(
            np.ascontiguousarray(grey)
        )
    )


def _make_flow_input(channel: int) -> Callable[[Grey, Grey], Grey]:
    """Return a function that shows one channel of the flow, with the default FlowSpec."""

    def show(grey: UInt8[np.ndarray, "h w"], onset: UInt8[np.ndarray, "h w"]) -> Grey:
        return show_flow(onset, grey, FlowSpec())[0][channel]

    return show


INPUTS: dict[str, Input] = {
    "gray": Input(lambda grey, onset: grey, 0),
    "laplacian": Input(lambda grey, onset: compute_laplacian(grey), MID_GREY),
    "hog": Input(lambda grey, onset: compute_hog(grey), None),
    "lbp": Input(lambda grey, onset: compute_lbp(grey), None),
    "clahe": Input(lambda grey, onset: compute_clahe(grey), None),
    "onset-difference": Input(compute_onset_difference, MID_GREY, clips=True),
    "flow-right": Input(_make_flow_input(0), None, clips=True, direction="right"),
    "flow-down": Input(_make_flow_input(1), None, clips=True, direction="down"),
    "strain": Input(_make_flow_input(2), None, clips=True),
}
"""All inputs, by name."""

INPUT_GROUPS = {"flow": FLOW_CHANNELS}
"""Names that stand for several inputs."""


def stack_inputs(
    grey: UInt8[np.ndarray, "n h w"], onsets: UInt8[np.ndarray, "n h w"], names: Sequence[str]
) -> UInt8[np.ndarray, "n channels h w"]:
    """Return one channel for each of `names`; `onsets` has the onset frame of each image's
    clip.
    """
    planes = np.empty((len(grey), len(names), *grey.shape[1:]), dtype=np.uint8)
    for number, (image, onset) in enumerate(zip(grey, onsets, strict=True)):
        for channel, name in enumerate(names):
            planes[number, channel] = INPUTS[name].show(image, onset)
    return planes


def find_resting_values(channels: Sequence[str]) -> tuple[int | None, ...]:
    """Return the value of each channel that a change of brightness keeps; 0 for plain pictures."""
    inputs = [split_channel(name)[0] for name in channels]
    return tuple(INPUTS[name].rest if name in INPUTS else 0 for name in inputs)


def find_directions(channels: Sequence[str]) -> tuple[Literal["", "right", "down"], ...]:
    """Return the direction in which each channel has lengths of arrows; empty for other values.

    Mirroring an image turns its arrows to the right around.
    """
    inputs = [split_channel(name)[0] for name in channels]
    return tuple(INPUTS[name].direction if name in INPUTS else "" for name in inputs)


def expand_groups(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of inputs, with those in a group in place of its name."""
    return tuple(member for name in names for member in INPUT_GROUPS.get(name, (name,)))


def _shift_to_mid_grey(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    return np.clip(values + MID_GREY, 0, 255).astype(np.uint8)


@cache
def _draw_strokes() -> Float[np.ndarray, "directions cell cell"]:
    """Return the stroke of each direction as a mask.

    It crosses the gradient at a right angle, from border to border through the cell's centre.
    """
    masks = np.zeros((HOG_DIRECTIONS, HOG_CELL_PIXELS, HOG_CELL_PIXELS), dtype=np.uint8)
    centre, reach = HOG_CELL_PIXELS // 2, HOG_CELL_PIXELS // 2 - 1
    for direction in range(HOG_DIRECTIONS):
        angle = np.pi * (direction + 0.5) / HOG_DIRECTIONS
        right, down = reach * np.sin(angle), reach * np.cos(angle)
        start, end = (
            (int(centre + right), int(centre - down)),
            (int(centre - right), int(centre + down)),
        )
        cv2.line(masks[direction], start, end, (1,))
    return masks.astype(np.float64)
