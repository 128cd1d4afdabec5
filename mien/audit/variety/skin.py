"""Skin tone in colour pictures, with its error under another light.

The individual typology angle (ITA) is atan((L* - 50) / b*) in degrees (Chardon et al. 1991), and
the hue angle is atan(b* / a*): tone alone says too little (Thong et al. 2023, arXiv:2309.05148).
Both move with the light, so each is shown with its change on the same pictures relit. They describe
pixels, and say nothing of anybody's origin.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

# the cheeks and the nose: the centre and the half axes of an ellipse, as shares of the picture
SKIN_CENTRE, SKIN_AXES = (0.5, 0.58), (0.26, 0.2)

# of the pixels there, by lightness: brows, eyes, lips and reflections are left out
SKIN_QUANTILES = (0.3, 0.9)

RELIGHTS: Mapping[str, tuple[float, float, float]] = {
    "darker": (0.7, 0.7, 0.7),
    "brighter": (1.3, 1.3, 1.3),
    "warmer": (1.1, 1.0, 0.9),
    "colder": (0.9, 1.0, 1.1),
}
"""Changes of the light, as factors on red, green and blue."""


def measure_skin(images: UInt8[np.ndarray, "n 3 h w"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Return `skin_tone` and `skin_hue` of RGB pictures, in degrees; light skin has a large tone.

    They are of the mean colour of the pixels of the cheeks and nose of middle lightness.
    """
    lightness, red, yellow = _average_skin(images).T
    return {
        "skin_tone": np.degrees(np.arctan2(lightness - 50, np.maximum(yellow, 1e-3))),
        "skin_hue": np.degrees(np.arctan2(yellow, red)),
    }


def relight(
    images: UInt8[np.ndarray, "n 3 h w"], factors: tuple[float, float, float]
) -> UInt8[np.ndarray, "n 3 h w"]:
    """Return RGB pictures with each colour multiplied by its factor, as under another light."""
    scaled = images * np.asarray(factors, dtype=np.float32)[None, :, None, None]
    return scaled.round().clip(0, 255).astype(np.uint8)


def measure_light_error(images: UInt8[np.ndarray, "n 3 h w"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Return how far tone and hue of each picture move if it is relit, in degrees.

    It is the root mean square over the changes of RELIGHTS.
    """
    as_they_are = measure_skin(images)
    relit = [measure_skin(relight(images, factors)) for factors in RELIGHTS.values()]
    return {
        name: np.sqrt(np.mean([np.square(changed[name] - values) for changed in relit], axis=0))
        for name, values in as_they_are.items()
    }


def _average_skin(images: UInt8[np.ndarray, "n 3 h w"]) -> Float32[np.ndarray, "n 3"]:
    """Return the mean L*, a* and b* of the skin of each picture."""
    _, _, height, width = images.shape
    down, across = np.mgrid[0:height, 0:width]
    right, below = (across + 0.5) / width - SKIN_CENTRE[0], (down + 0.5) / height - SKIN_CENTRE[1]
    in_face = (right / SKIN_AXES[0]) ** 2 + (below / SKIN_AXES[1]) ** 2 < 1

    colours = []
    for image in images:
        rgb = np.ascontiguousarray(image.transpose(1, 2, 0), dtype=np.float32) / 255
        lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[in_face]
        low, high = np.quantile(lab[:, 0], SKIN_QUANTILES)
        colours.append(lab[(lab[:, 0] >= low) & (lab[:, 0] <= high)].mean(axis=0))
    return np.array(colours, dtype=np.float32).reshape(-1, 3)
