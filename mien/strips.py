"""Strips: what channels are called, and how they become one grey picture.

Picture files hold one channel (grey) or three (RGB). The moments of a clip, or optical flow, become
one grey picture for other programs, in which the channels stand next to each other.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from mien.errors import DataError

Place = tuple[int, int]

MOMENT = re.compile("(?:(?P<input>.+)-)?(?P<moment>t[0-9]+|onset|apex)")  # of a channel's name


def split_channel(name: str) -> tuple[str, str]:
    """Return the input that a channel shows, and its moment in a clip: flow-right and t3.

    The moment is empty for channels of single images. The channels of a clip in grey have the name
    of the moment alone: t0, t1, ..., or onset and apex.
    """
    match = MOMENT.fullmatch(name)
    return (name, "") if match is None else (match["input"] or "gray", match["moment"])


def lay_out_channels(channels: Sequence[str]) -> tuple[Place, ...]:
    """Return the row and the column of each channel in a strip.

    In a strip of a clip, a column is a moment, from the first on the left to the last, and a row is
    an input. All other channels stand in one row.
    """
    pairs = [split_channel(name) for name in channels]
    inputs = list(dict.fromkeys(shown for shown, _ in pairs))
    moments = list(dict.fromkeys(moment for _, moment in pairs))
    if len(set(pairs)) == len(pairs) == len(inputs) * len(moments) and "" not in moments:
        return tuple((inputs.index(shown), moments.index(moment)) for shown, moment in pairs)
    return tuple((0, number) for number in range(len(channels)))


def count_parts(channels: Sequence[str]) -> Place:
    """Return the numbers of rows and of columns of a strip."""
    places = lay_out_channels(channels)
    return 1 + max(row for row, _ in places), 1 + max(column for _, column in places)


def join_channels(
    images: UInt8[np.ndarray, "n c h w"], channels: Sequence[str]
) -> UInt8[np.ndarray, "n 1 y x"]:
    """Return the strip of each image: its channels next to each other, in grey."""
    n, _, h, w = images.shape
    rows, columns = count_parts(channels)
    strips = np.zeros((n, 1, rows * h, columns * w), dtype=np.uint8)
    for number, (row, column) in enumerate(lay_out_channels(channels)):
        strips[:, 0, row * h : (row + 1) * h, column * w : (column + 1) * w] = images[:, number]
    return strips


def show_as_pictures(
    images: UInt8[np.ndarray, "n c h w"], channels: Sequence[str]
) -> UInt8[np.ndarray, "n colours y x"]:
    """Return images as people see them, with one channel (grey) or three (RGB).

    Without names of `channels`, grey and RGB pictures stay as they are. All other images become
    strips.
    """
    count = images.shape[1]
    if not channels and count in (1, 3):
        return images
    return join_channels(images, channels or [str(number) for number in range(count)])


def cut_channels(
    strips: UInt8[np.ndarray, "n 1 y x"], channels: Sequence[str]
) -> UInt8[np.ndarray, "n c h w"]:
    """Return the images whose strips `join_channels` made.

    Raises DataError if a strip cannot be cut into as many parts of one size.
    """
    rows, columns = count_parts(channels)
    height, width = strips.shape[2:]
    if height % rows or width % columns:
        raise DataError(
            f"a strip of {len(channels)} channels must be {rows} x {columns} pictures of one size; "
            f"given: {height} x {width} pixels"
        )
    h, w = height // rows, width // columns
    return np.stack(
        [
            strips[:, 0, row * h : (row + 1) * h, column * w : (column + 1) * w]
            for row, column in lay_out_channels(channels)
        ],
        axis=1,
    )


def describe_strip(channels: Sequence[str]) -> str:
    """Return what a strip shows, in a sentence: the size of its parts is that of one channel."""
    pairs = [split_channel(name) for name in channels]
    inputs, moments = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    if "" in moments:
        if len(channels) == 1:
            return f"Each picture shows one channel in grey: {channels[0]}."
        return (
            f"Each picture is a strip of {len(channels)} channels of one face, from left to right: "
            f"{', '.join(channels)}."
        )
    below = f" The rows, from above, are {', '.join(inputs)}." if len(inputs) > 1 else ""
    alone = "" if inputs == ["gray"] or below else f" All show {inputs[0]}."
    return (
        f"Each picture is a strip of {len(moments)} moments of one clip, from left to right: "
        f"{', '.join(moments)}.{below}{alone}"
    )
