"""The copycat: a generator that memorises its training images.

It returns them again, shifted by up to a few pixels and with noise. A classifier trained on its
images shows what copies are worth; a generator that does more than copy must do better on held-out
people.
"""

import numpy as np
from jaxtyping import Float, Int64, UInt8

from mien.generators.specs import CopycatSpec


def make_image(
    images: UInt8[np.ndarray, "n c h w"],
    rows: Int64[np.ndarray, " m"],
    spec: CopycatSpec,
    rng: np.random.Generator,
) -> Float[np.ndarray, "c h w"]:
    """Return a copy of one of the `rows` of `images`, with values that can be beyond 0 to 255.

    It is shifted by up to `shift` pixels in each direction (the border is repeated). Gaussian noise
    with standard deviation `noise` is added, where 1 is the step from black to white.
    """
    image = images[rows[rng.integers(len(rows))]]
    down, right = rng.integers(0, 2 * spec.shift + 1, 2)
    _, height, width = image.shape
    padded = np.pad(
        image, ((0, 0), (spec.shift, spec.shift), (spec.shift, spec.shift)), mode="edge"
    )
    moved = padded[:, down : down + height, right : right + width]
    return moved + rng.normal(0, 255 * spec.noise, moved.shape)
