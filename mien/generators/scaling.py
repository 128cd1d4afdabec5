"""Scaling: from bytes to the numbers from -1 to 1 of models, and back."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mien.errors import TrainingError

# Bytes and models


def scale_for_model(
    images: UInt8[np.ndarray, "n c h w"] | UInt8[Tensor, "n c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return images on the scale of the models, float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    return tensor.float() / 127.5 - 1


def scale_to_bytes(x: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    """Return the output of a model as images, clipped to [-1, 1] and rounded to the nearest byte.

    Raises TrainingError if a value is not a number, because the training of the model failed.
    """
    if bool(torch.isnan(x).any()):
        raise TrainingError(
            "every pixel must be a number, and the network drew some that are not, because its "
            "training failed; train it again with a lower learning_rate"
        )
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
