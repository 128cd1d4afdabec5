"""Features: what a space makes of images, for the three sides that an audit compares."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Sides:
    """The features of the three sides in one space."""

    train: Float[np.ndarray, "n d"]
    test: Float[np.ndarray, "m d"]
    made: Float[np.ndarray, "k d"]
