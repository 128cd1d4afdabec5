"""Poses of heads: where a head is, compared with the onset of its clip.

They are measured at the border of the picture, above and on both sides, where expressions move
little.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

POSE = ("right", "down", "turn", "growth")
"""The numbers of a pose, in pixels: how far the head has moved to the right and down, and how far
turning (clockwise) and growing have moved a point at the middle of a side.
"""

POSE_BORDER = 1 / 6  # of the width on either side, and of the height: there heads are measured

POSE_BLUR = 1 / 40  # of the width, as standard deviation: less noise, and smooth gradients


def measure_poses(
    frames: UInt8[np.ndarray, "t h w"], onset: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "t 4"]:
    """Return the pose of the head in each frame, compared with the onset, as in POSE.

    It is one step of the method of Lucas and Kanade (1981) over the pixels of the border: the
    change of a pixel is its gradient times the movement there. A change of the light that is the
    same everywhere is taken off. Movements of up to about 2 % of the width are measured well.
    """
    # How each number of the pose changes the pixels of the border
    smooth = _blur(onset)
    by_down, by_right = np.gradient(smooth)
    flows = _make_flows(*onset.shape)
    changes = -(flows[:, 0] * by_right + flows[:, 1] * by_down)
    border = _find_border(*onset.shape)
    table = np.column_stack([*changes[:, border], np.ones(int(border.sum()))])

    # The pose of each frame, by least squares
    differences = np.stack([(_blur(frame) - smooth)[border] for frame in frames])
    return (np.linalg.pinv(table) @ differences.T)[: len(POSE)].T


def move_head(
    image: Float[np.ndarray, "h w"], pose: Float[np.ndarray, " 4"]
) -> Float[np.ndarray, "h w"]:
    """Return the picture of a head in a pose, compared with `image`; of no change, the image."""
    if not pose.any():
        return image
    h, w = image.shape
    right, down, turn, growth = pose.tolist()
    turn, growth = 2 * turn / max(h, w), 2 * growth / max(h, w)
    forwards = np.array([[1 + growth, -turn], [turn, 1 + growth]])
    middle = np.array([(w - 1) / 2, (h - 1) / 2])
    shift = middle + np.array([right, down]) - forwards @ middle
    return cv2.warpAffine(
        image.astype(np.float32),
        np.column_stack([forwards, shift]),
        (w, h),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _blur(image: np.ndarray) -> Float[np.ndarray, "h w"]:
    """Return a picture in which the gradient of a pixel says how it changes with movement."""
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(1.0, POSE_BLUR * image.shape[1]))


def _find_border(h: int, w: int) -> Bool[np.ndarray, "h w"]:
    """Return which pixels belong to the border above and on both sides.

    Below is the jaw, which expressions move. The outermost pixels are left out, as blur distorts
    them.
    """
    border = np.ones((h, w), dtype=bool)
    down, right = max(2, round(POSE_BORDER * h)), max(2, round(POSE_BORDER * w))
    border[down:, right : w - right] = False
    border[[0, -1]] = border[:, [0, -1]] = False
    return border


def _make_flows(h: int, w: int) -> Float[np.ndarray, "4 2 h w"]:
    """Return how each point moves, to the right and down, for 1 pixel of each number of POSE."""
    y, x = np.mgrid[:h, :w] - np.array([(h - 1) / 2, (w - 1) / 2])[:, None, None]
    y, x = 2 * y / max(h, w), 2 * x / max(h, w)
    one, none = np.ones((h, w)), np.zeros((h, w))
    return np.stack([[one, none], [none, one], [-y, x], [x, y]])
