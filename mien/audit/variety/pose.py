"""Pose of a face by proxies that need no detector: yaw, roll, pitch.

A face is nearly symmetric, so the angle at which a picture is most like its mirror image is that of
the head (roll), and the place of the axis of symmetry follows the turn of the head (yaw). Eyes and
mouth are horizontal edges, and their centre moves down with the chin (pitch). On drawn faces of
known pose these proxies rank faces as the truth does (docs/benchmarks.md); they are no angles of a
calibrated camera, so they are read beside those of real faces of the same source.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32
from scipy import fft

POSE_WIDTH = 32  # pixels across at which poses are looked for; wider pictures are shrunk

ROLL_STEP = 6  # degrees between the angles that are tried

MAX_ROLL = 24  # degrees to either side

MAX_AXIS_SHIFT = 3 / 16  # of the axis of symmetry from the middle, as a share of the width

# where the edges of eyes and mouth are looked for: half the width about the axis, and the rows,
# as shares of the picture
PITCH_HALF_WIDTH, PITCH_ROWS = 0.35, (0.2, 0.95)


def measure_pose(grey: Float32[np.ndarray, "n h w"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Return yaw, roll and pitch of faces in pictures with grey values from 0 to 1.

    `yaw` is the place of the axis of symmetry, from the middle of the picture to the right, as a
    share of the width. `roll` is the angle at which the face is most symmetric, in degrees
    counter-clockwise, from -30 to 30. `pitch` is the height of the horizontal edges below the
    middle, as a share of the height.
    """
    small = np.stack([_shrink(picture) for picture in grey])

    # Symmetry at each angle: the best axis, and how symmetric the picture is about it
    angles = np.arange(-MAX_ROLL, MAX_ROLL + 1, ROLL_STEP)
    symmetries, axes = [], []
    for angle in angles:
        symmetry, axis = _find_axis(_rotate(small, float(angle)))
        symmetries.append(symmetry)
        axes.append(axis)
    best, offset = _find_peak(np.stack(symmetries, axis=1))
    roll = -(angles[best] + ROLL_STEP * offset)
    yaw = np.stack(axes, axis=1)[np.arange(len(small)), best]
    return {"yaw": yaw, "roll": roll, "pitch": _measure_pitch(small)}


def _shrink(picture: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "a b"]:
    height, width = picture.shape
    across = min(POSE_WIDTH, width)
    size = (across, max(1, round(height * across / width)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _rotate(pictures: Float32[np.ndarray, "n h w"], angle: float) -> Float32[np.ndarray, "n h w"]:
    """Return pictures rotated about their middle by degrees counter-clockwise."""
    _, height, width = pictures.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    return np.stack(
        [
            cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
            for picture in pictures
        ]
    )


def _find_axis(
    pictures: Float32[np.ndarray, "n h w"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return how symmetric pictures are about their best vertical axis, and where that is.

    Grey values and horizontal edges count alike. The place is from the middle to the right, as a
    share of the width.
    """
    width = pictures.shape[2]
    correlations = _correlate_mirrored(pictures) + _correlate_mirrored(_find_edges(pictures))
    best, offset = _find_peak(correlations)
    shift = (best + offset - correlations.shape[1] // 2) / 2
    return correlations.max(axis=1), shift / width


def _correlate_mirrored(pictures: Float32[np.ndarray, "n h w"]) -> Float[np.ndarray, "n shifts"]:
    """Return the correlation of pictures with their mirror images, moved by each shift.

    A shift by k pixels is an axis k / 2 pixels from the middle.
    """
    width = pictures.shape[2]
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    length = fft.next_fast_len(2 * width)
    spectrum = np.asarray(fft.rfft(centred, length, axis=-1))
    products = np.asarray(fft.irfft(np.square(spectrum).sum(axis=1), length, axis=-1))
    most = max(1, round(2 * MAX_AXIS_SHIFT * width))
    near_middle = products[:, width - 1 - most : width + most]
    return near_middle / (np.square(centred).sum(axis=(1, 2)) + 1e-9)[:, None]


def _find_edges(pictures: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Return how much each pixel differs from the one above, softened."""
    edges = np.abs(np.diff(pictures, axis=1, prepend=pictures[:, :1]))
    sigma = pictures.shape[2] / 48
    return np.stack([cv2.GaussianBlur(picture, (0, 0), sigma) for picture in edges])


def _find_peak(rows: Float[np.ndarray, "n places"]) -> tuple[np.ndarray, Float[np.ndarray, " n"]]:
    """Return the place of the largest value of each row, and the offset of a parabola's top."""
    best = rows.argmax(axis=1).clip(1, rows.shape[1] - 2)
    before, middle, after = (rows[np.arange(len(rows)), best + step] for step in (-1, 0, 1))
    bend = before - 2 * middle + after
    offset = np.where(bend < 0, (before - after) / np.where(bend < 0, 2 * bend, 1), 0)
    return best, offset.clip(-1, 1)


def _measure_pitch(pictures: Float32[np.ndarray, "n h w"]) -> Float[np.ndarray, " n"]:
    _, height, width = pictures.shape
    down = (np.arange(height) + 0.5) / height
    across = np.abs((np.arange(width) + 0.5) / width - 0.5)
    edges = np.abs(np.diff(pictures, axis=1, prepend=pictures[:, :1]))
    in_rows = (down > PITCH_ROWS[0]) & (down < PITCH_ROWS[1])
    mass = edges[:, :, across < PITCH_HALF_WIDTH].sum(axis=2) * in_rows
    return mass @ (down - 0.5) / (mass.sum(axis=1) + 1e-9)
