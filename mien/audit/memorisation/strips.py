"""Strips: generated images next to the most similar training images."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mien.audit.memorisation.measure import Memorisation
from mien.audit.memorisation.search import MATCH_WIDTH
from mien.faces import Faces
from mien.pages.sheets import draw_rows
from mien.strips import show_as_pictures

DIFFERENCE_FACTOR = 4  # factor by which the strips amplify differences


def draw_strips(
    synthetic: Faces, train: Faces, memorisation: Memorisation, count: int = 12, scale: int = 3
) -> Image.Image:
    """Return a sheet of the worst cases: synthetic image, nearest training image, and difference.

    Each is a row. The training image is shifted and mirrored as it was matched. The difference is
    amplified four times, and grey if there is none. The worst have the lowest ratio to another
    clip; each training image is shown once.
    """
    worst = (
        memorisation.rows.sort_values(["ratio_clip", "key"]).drop_duplicates("nearest").head(count)
    )
    positions = {key: image_number for image_number, key in enumerate(train.index["key"])}
    titles, pictures = [], []
    for image_number, row in zip(worst.index.tolist(), worst.to_dict("records"), strict=True):
        image = np.asarray(synthetic.images[image_number])
        twin = overlay(
            np.asarray(train.images[positions[row["nearest"]]]),
            row["mirrored"],
            row["down"],
            row["right"],
        )
        difference = 128 + DIFFERENCE_FACTOR * (image.astype(np.int64) - twin)
        titles.append(f"{row['ratio_clip']:.2f}  {row['key']}  {row['nearest']}")
        compared = np.stack([image, twin, difference.clip(0, 255).astype(np.uint8)])
        pictures.append(show_as_pictures(compared, synthetic.channels))
    return draw_rows(titles, pictures, 3, scale)


def overlay(
    image: UInt8[np.ndarray, "c h w"], mirrored: bool, down: int, right: int
) -> UInt8[np.ndarray, "c h w"]:
    """Return a training image shifted and mirrored so that it fits under the image matched to it.

    The arguments say how that image, mirrored and then shifted, fits the training image.
    """
    _, height, width = image.shape
    down, right = (
        round(-shift * max(1, length / MATCH_WIDTH))
        for shift, length in ((down, height), (right, width))
    )
    rows, columns = (
        np.arange(length) - shift for length, shift in ((height, down), (width, right))
    )
    shifted = image[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]
    return shifted[:, :, ::-1] if mirrored else shifted
