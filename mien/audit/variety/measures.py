"""MEASURES of a picture: light, sharpness, pose, border and skin tone.

The words are those of ISO/IEC 29794-5 (face image quality) where they fit grey pictures of 48
pixels; the numbers are mien's own, and are read beside those of real faces of the same source.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien.audit.labels.nuisance import BORDER_SHARE, measure_features
from mien.audit.variety.pose import measure_pose
from mien.audit.variety.skin import measure_skin
from mien.faces import Faces
from mien.strips import split_channel

DARK_GREY, BRIGHT_GREY = 25, 247  # grey values up to and from which a pixel is badly exposed

NEAR_GREY = 2  # grey values within which a pixel of the border counts as equal to its median

# the ellipse of the face in which the plane of the light is fitted: half axes, and the centre
# below the middle, as shares of the picture
LIGHT_AXES, LIGHT_BELOW = (0.32, 0.28), 0.05

LIGHT_FITS = 4  # fits of the plane; each leaves out the pixels far from the one before

MEASURED_TOGETHER = 256  # pictures that are measured at once


@dataclass(frozen=True)
class Measure:
    """One measure of a picture: its meaning, its unit, and the term of ISO/IEC 29794-5.

    `period` is 360 if the measure is an angle of a whole turn, else 0.
    """

    meaning: str
    unit: str = ""
    term: str = ""
    period: int = 0


MEASURES: Mapping[str, Measure] = {
    "brightness": Measure("mean grey value, from 0 to 1", "", "luminance mean"),
    "contrast": Measure("standard deviation of the grey values", "", "luminance variance"),
    "under_exposure": Measure("share of grey values up to 25", "", "under-exposure"),
    "over_exposure": Measure("share of grey values from 247", "", "over-exposure"),
    "clipped": Measure("share of pixels that are black or white"),
    "light_across": Measure(
        "slope of a plane fitted to the face, from left to right, over its mean; positive if the "
        "right side of the picture is brighter",
        "",
        "illumination uniformity",
    ),
    "light_down": Measure("the same, from top to bottom", "", "illumination uniformity"),
    "light_slope": Measure("steepness of that plane", "", "illumination uniformity"),
    "light_angle": Measure(
        "direction in which that plane rises: 0 to the right, 90 downwards", "°", "", 360
    ),
    "sharpness": Measure("logarithm of the mean square of the Laplacian", "", "sharpness"),
    "yaw": Measure(
        "place of the axis of symmetry, from the middle to the right, as a share of the width",
        "",
        "pose (yaw)",
    ),
    "roll": Measure(
        "angle at which the face is most symmetric, counter-clockwise", "°", "pose (roll)"
    ),
    "pitch": Measure(
        "height of eyes and mouth below the middle, as a share of the height", "", "pose (pitch)"
    ),
    "border_brightness": Measure("mean grey value of the outer twelfth"),
    "border_spread": Measure(
        "standard deviation of the grey values of the outer twelfth", "", "background uniformity"
    ),
    "border_constant": Measure(
        "share of the outer twelfth within 2 grey values of its median: masks and padding"
    ),
    "skin_tone": Measure("individual typology angle of the skin; large for light skin", "°"),
    "skin_hue": Measure("hue angle of the skin in CIELAB", "°"),
}
"""The measures of a picture by name. The last two need colour."""

COLOUR_MEASURES = ("skin_tone", "skin_hue")


def find_pictures(faces: Faces) -> UInt8[np.ndarray, "n c h w"] | None:
    """Return one picture for each row, grey or RGB; None if the rows show no picture.

    Of a row with several moments it is the last grey one, the apex.
    """
    if not faces.channels:
        return faces.images if faces.images.shape[1] in (1, 3) else None
    grey = [place for place, name in enumerate(faces.channels) if split_channel(name)[0] == "gray"]
    return faces.images[:, grey[-1:]] if grey else None


def measure_pictures(images: UInt8[np.ndarray, "n c h w"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Return each measure of MEASURES of grey or RGB pictures; those of skin only for RGB."""
    parts = [
        _measure_batch(np.asarray(images[first : first + MEASURED_TOGETHER]))
        for first in range(0, len(images), MEASURED_TOGETHER)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure_batch(images: UInt8[np.ndarray, "n c h w"]) -> dict[str, Float[np.ndarray, " n"]]:
    # Grey values from 0 to 255, and the features that the check of nuisances uses too
    grey = images.astype(np.float32).mean(axis=1)
    simple = measure_features(images)
    measured = {name: simple[name][:, 0] for name in ("brightness", "contrast", "sharpness")}

    # Exposure, light and pose
    measured["under_exposure"] = (grey <= DARK_GREY).mean(axis=(1, 2))
    measured["over_exposure"] = (grey >= BRIGHT_GREY).mean(axis=(1, 2))
    measured["clipped"] = ((grey <= 0) | (grey >= 255)).mean(axis=(1, 2))
    across, down = _fit_light(grey / 255)
    measured |= {
        "light_across": across,
        "light_down": down,
        "light_slope": np.hypot(across, down),
        "light_angle": np.degrees(np.arctan2(down, across)),
    }
    measured |= measure_pose(grey / 255)

    # The border, and skin where there are colours
    measured |= _measure_border(grey)
    if images.shape[1] == 3:
        measured |= measure_skin(images)
    return {name: np.asarray(measured[name], np.float64) for name in MEASURES if name in measured}


def _fit_light(
    grey: Float32[np.ndarray, "n h w"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the slopes of a plane fitted to each face, across and down, over its mean.

    Pixels farther than one standard deviation from the plane, such as those of eyes and mouth, are
    left out of the next fit.
    """
    # The pixels of the face, with their places
    _, height, width = grey.shape
    down, across = np.mgrid[0:height, 0:width]
    right, below = (across + 0.5) / width - 0.5, (down + 0.5) / height - 0.5
    in_face = (right / LIGHT_AXES[0]) ** 2 + ((below - LIGHT_BELOW) / LIGHT_AXES[1]) ** 2 < 1
    places = np.stack([np.ones(in_face.sum()), right[in_face], below[in_face]], axis=1)
    values = grey[:, in_face].astype(np.float64)

    # Fit, leave out what is far away, and fit again
    weights, plane = np.ones_like(values), np.zeros((len(grey), 3))
    for _ in range(LIGHT_FITS):
        weighted = weights[:, :, None] * places
        squares = weighted.transpose(0, 2, 1) @ places + 1e-6 * np.eye(3)
        plane = np.linalg.solve(squares, weighted.transpose(0, 2, 1) @ values[:, :, None])[:, :, 0]
        residual = np.abs(values - plane @ places.T)
        spread = np.sqrt((weights * residual**2).sum(axis=1) / weights.sum(axis=1))
        weights = (residual <= spread[:, None] + 1e-3).astype(np.float64)
    return plane[:, 1] / (plane[:, 0] + 1e-6), plane[:, 2] / (plane[:, 0] + 1e-6)


def _measure_border(grey: Float32[np.ndarray, "n h w"]) -> dict[str, Float[np.ndarray, " n"]]:
    _, height, width = grey.shape
    down, across = max(1, round(height * BORDER_SHARE)), max(1, round(width * BORDER_SHARE))
    is_border = np.ones((height, width), dtype=bool)
    is_border[down : height - down, across : width - across] = False
    border = grey[:, is_border]
    middle = np.median(border, axis=1, keepdims=True)
    return {
        "border_brightness": border.mean(axis=1) / 255,
        "border_spread": border.std(axis=1) / 255,
        "border_constant": (np.abs(border - middle) <= NEAR_GREY).mean(axis=1),
    }
