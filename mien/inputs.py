"""Inputs: what a classifier is shown of a face. Each is a function of grey images that loses no
resolution.

The preprint names them as future work: filters that stress edges (Laplacian), directions (HOG),
texture (LBP) or local contrast (CLAHE), and what changed since the clip's first, neutral frame.
They stand beside each other as channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

MIDDLE = 128  # what stands for zero where values can be negative
CELL, DIRECTIONS = (
    8,
    9,
)  # of HOG: pixels a side, and bins of 180 degrees (Dalal and Triggs 2005, section 6)
TILES, CLIP = (
    4,
    2.0,
)  # of CLAHE: tiles a side, and the limit of a histogram's bin, in times its mean

Grey = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Input:
    """One way to show a grey image.

    `show` makes it from the image and the onset frame of its clip. `rest` is the value that a
    change of light leaves as it is: others move away from it or towards it. None: light changes
    nothing.
    """

    show: Callable[[Grey, Grey], Grey]
    rest: int | None
    clips: bool = False  # whether it needs an onset frame


def laplacian(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return 128 + what each pixel has more than the mean of its four neighbours, times four, cut
    to 0..255.

    The border is reflected: its outer neighbour is the pixel itself.
    """
    wide = np.pad(grey.astype(np.int16), 1, mode="symmetric")
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return _about_the_middle(4 * wide[1:-1, 1:-1] - around)


def onset_difference(
    grey: UInt8[np.ndarray, "h w"], onset: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """Return 128 + `grey` - `onset`, cut to 0..255: mid-grey where nothing changed, one level for
    one level.
    """
    return _about_the_middle(grey.astype(np.int16) - onset)


def lbp(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the local binary pattern of each pixel, 0..255 (Ojala et al. 2002, Equation 8 with P =
    8, R = 1).

    Bit p is set where the picture at distance 1 in direction p · 45 degrees, counter-clockwise from
    the right, is at least as light as the pixel. Between pixels it is interpolated; outside the
    picture it is black.
    """
    h, w = grey.shape
    wide = np.pad(grey.astype(np.float64), 2)
    code = np.zeros((h, w), dtype=np.uint8)
    for bit in range(8):
        angle = 2 * np.pi * bit / 8
        down, right = round(-np.sin(angle), 5), round(np.cos(angle), 5)
        top, left = int(np.floor(down)), int(np.floor(right))
        y, x = down - top, right - left
        corners = [
            [wide[2 + top + i : 2 + top + i + h, 2 + left + j : 2 + left + j + w] for j in (0, 1)]
            for i in (0, 1)
        ]
        upper, lower = ((1 - x) * one + x * other for one, other in corners)
        code |= ((1 - y) * upper + y * lower >= grey).astype(np.uint8) << bit
    return code


def hog(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the histograms of oriented gradients as a picture (Dalal and Triggs 2005, sections 6.2
    and 6.3).

    In each cell of 8 x 8 pixels stands a star of nine strokes along the edges' directions, as light
    as the mean gradient in that direction; where strokes cross they add up. The lightest pixel is
    255, whatever the contrast; a picture without gradients is black, and so is what is left over
    beside whole cells.
    """
    h, w = (side // CELL for side in grey.shape)
    inner = np.s_[: h * CELL, : w * CELL]
    values = grey.astype(np.float64)
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[1:-1], right[:, 1:-1] = values[2:] - values[:-2], values[:, 2:] - values[:, :-2]
    down, right = down[inner], right[inner]
    bins = (np.rad2deg(np.arctan2(down, right)) % 180 * DIRECTIONS / 180).astype(
        np.int64
    ) % DIRECTIONS
    votes = np.where(np.arange(DIRECTIONS)[:, None, None] == bins, np.hypot(down, right), 0)
    cells = votes.reshape(DIRECTIONS, h, CELL, w, CELL).mean(axis=(2, 4))
    stars = np.einsum("ohw,oyx->hywx", cells, _strokes()).reshape(down.shape)
    picture = np.zeros(grey.shape, dtype=np.uint8)
    picture[inner] = (stars * (255 / max(stars.max(), 1e-9))).round()
    return picture


def clahe(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the image with its contrast evened out in 4 x 4 tiles, at most doubled (Zuiderveld
    1994).

    A bin of a tile's histogram counts up to twice the mean of all; between the centres of tiles,
    curves are mixed.
    """
    return np.asarray(cv2.createCLAHE(CLIP, (TILES, TILES)).apply(np.ascontiguousarray(grey)))


INPUTS: dict[str, Input] = {
    "gray": Input(lambda grey, onset: grey, 0),
    "laplacian": Input(lambda grey, onset: laplacian(grey), MIDDLE),
    "hog": Input(lambda grey, onset: hog(grey), None),
    "lbp": Input(lambda grey, onset: lbp(grey), None),
    "clahe": Input(lambda grey, onset: clahe(grey), None),
    "onset-difference": Input(onset_difference, MIDDLE, clips=True),
}
"""All inputs, by name."""


def stack(
    grey: UInt8[np.ndarray, "n h w"], onsets: UInt8[np.ndarray, "n h w"], names: Sequence[str]
) -> UInt8[np.ndarray, "n channels h w"]:
    """Return one channel for each of `names`; `onsets` are the onset frames of the images'
    clips.
    """
    shown = np.empty((len(grey), len(names), *grey.shape[1:]), dtype=np.uint8)
    for place, (one, onset) in enumerate(zip(grey, onsets, strict=True)):
        for channel, name in enumerate(names):
            shown[place, channel] = INPUTS[name].show(one, onset)
    return shown


def rests(channels: Sequence[str]) -> tuple[int | None, ...]:
    """Return for each channel the value that light leaves as it is; those of plain pictures are
    black.
    """
    return tuple(INPUTS[name].rest if name in INPUTS else 0 for name in channels)


def _about_the_middle(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    return np.clip(values + MIDDLE, 0, 255).astype(np.uint8)


@cache
def _strokes() -> Float[np.ndarray, "directions cell cell"]:
    """Return the stroke of each direction as a mask: across the gradient, through the cell's
    centre, to its border.
    """
    masks = np.zeros((DIRECTIONS, CELL, CELL), dtype=np.uint8)
    centre, reach = CELL // 2, CELL // 2 - 1
    for place in range(DIRECTIONS):
        angle = np.pi * (place + 0.5) / DIRECTIONS
        right, down = reach * np.sin(angle), reach * np.cos(angle)
        start, end = (
            (int(centre + right), int(centre - down)),
            (int(centre - right), int(centre + down)),
        )
        cv2.line(masks[place], start, end, (1,))
    return masks.astype(np.float64)
