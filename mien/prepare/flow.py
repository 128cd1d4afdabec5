"""Optical flow: how far each point of a face moved since the onset frame.

Micro-expressions move the skin by a few pixels at most. Small networks that see this movement
recognise them better than deep networks that see the frames (Liong et al. 2019, STSTNet; Varanka
et al. 2023, Data leakage and evaluation issues in micro-expression analysis).
"""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import Field

from mien.pictures import Filter
from mien.runs.spec import Strict

MID_GREY = 128  # no movement

FlowMethod = Literal["dis", "farneback"]

SMALL_FACE_PX = 128  # smaller faces are searched with smaller patches

FLOW_CHANNELS = ("flow-right", "flow-down", "strain")
"""The channels of optical flow, in the order in which `show_flow` returns them."""


class FlowSpec(Strict):
    """How optical flow is computed, and the fixed scale on which it is shown.

    `method` is dis (dense inverse search, Kroeger et al. 2016) or farneback (Farnebäck 2003), both
    of OpenCV. `reach` is the largest displacement that can be shown, as a share of the width
    (flow-right) or height (flow-down) of the image; `most_strain` is the largest strain. Larger
    values are shown as these.
    """

    method: FlowMethod = "dis"
    reach: float = Field(default=0.04, gt=0, le=1)
    most_strain: float = Field(default=0.8, gt=0, le=10)


def compute_flow(
    onset: UInt8[np.ndarray, "h w"], later: UInt8[np.ndarray, "h w"], method: FlowMethod = "dis"
) -> Float[np.ndarray, "2 h w"]:
    """Return how far the point at each pixel of `onset` is to the right, and down, in `later`.

    The unit is a pixel. Equal pictures have no flow.
    """
    if np.array_equal(onset, later):  # Farnebäck's method would find about 0.01 pixels
        return np.zeros((2, *onset.shape), dtype=np.float32)

    # OpenCV takes arrays in one piece, and an array that it may fill
    first, second = np.ascontiguousarray(onset), np.ascontiguousarray(later)
    start = np.zeros((*onset.shape, 2), dtype=np.float32)
    if method == "dis":
        # OpenCV's presets stop at half of the resolution; their patches of 8 pixels are as large
        # as a mouth in a small face
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)
        if min(onset.shape) < SMALL_FACE_PX:
            search.setPatchSize(4)
            search.setPatchStride(1)
        flow = search.calc(first, second, start)
    else:
        flow = cv2.calcOpticalFlowFarneback(
            first,
            second,
            start,
            pyr_scale=0.5,
            levels=3,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )
    return np.ascontiguousarray(np.moveaxis(np.asarray(flow, dtype=np.float32), 2, 0))


def warp_image(
    image: Float[np.ndarray, "h w"], flow: Float[np.ndarray, "2 h w"]
) -> Float[np.ndarray, "h w"]:
    """Return the picture whose pixel at each place is that of `image` at the place plus `flow`.

    With the flow from a later picture to an earlier one, it is the earlier picture in the positions
    of the later. Between pixels it is interpolated bilinearly; outside the border is repeated.
    """
    h, w = image.shape
    right = np.arange(w, dtype=np.float32) + flow[0].astype(np.float32)
    down = np.arange(h, dtype=np.float32)[:, None] + flow[1].astype(np.float32)
    return cv2.remap(
        np.ascontiguousarray(image, dtype=np.float32),
        right,
        down,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def compute_strain(flow: Float[np.ndarray, "2 h w"]) -> Float[np.ndarray, "h w"]:
    """Return the optical strain: how much the skin at each pixel is stretched or sheared.

    It is the Frobenius norm of the strain tensor e = (J + Jᵀ) / 2, where J is the Jacobian of the
    flow (Shreve et al. 2011). It has no unit; 0 means that the skin moved as a whole.
    """
    right_by_down, right_by_right = np.gradient(flow[0])
    down_by_down, down_by_right = np.gradient(flow[1])
    shear = (right_by_down + down_by_right) / 2
    return np.sqrt(right_by_right**2 + down_by_down**2 + 2 * shear**2).astype(np.float32)


def show_flow(
    onset: UInt8[np.ndarray, "h w"],
    later: UInt8[np.ndarray, "h w"],
    spec: FlowSpec,
    size: int | None = None,
    filter: Filter = "bilinear",
) -> tuple[UInt8[np.ndarray, "3 y x"], Float[np.ndarray, "3 y x"]]:
    """Return the channels of FLOW_CHANNELS, and the same in units of the scale's end.

    The flow is computed at the size of the pictures and then resized to `size`. In the first array
    128 is no movement, 1 and 255 are the largest displacements to the left or up, and to the right
    or down; strain is from 0 to 255. In the second array, values beyond -1 and 1 are saturated.
    """
    flow = compute_flow(onset, later, spec.method)
    h, w = onset.shape
    values = np.stack(
        [
            flow[0] / (spec.reach * w),
            flow[1] / (spec.reach * h),
            compute_strain(flow) / spec.most_strain,
        ]
    )
    if size not in (None, h) or size not in (None, w):
        values = np.stack([_resize(channel, size, filter) for channel in values])

    shown = np.empty(values.shape, dtype=np.uint8)
    shown[:2] = (MID_GREY + 127 * values[:2].clip(-1, 1)).round()
    shown[2] = (255 * values[2].clip(0, 1)).round()
    return shown, values


def _resize(
    channel: Float[np.ndarray, "h w"], size: int | None, filter: Filter
) -> Float[np.ndarray, "y x"]:
    """Return numbers resized as images are, without rounding them to bytes."""
    if size is None:
        return channel
    resized = Image.fromarray(channel.astype(np.float32)).resize(
        (size, size), Image.Resampling[filter.upper()]
    )
    return np.asarray(resized)
