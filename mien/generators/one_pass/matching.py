"""Matching: each training image gets the nearest drawn image of its class.

With rejection (RS-IMLE: Vashist et al. 2024, arXiv:2409.17439, Section 4), drawn images that are
already near a training image are left out, so that the latent numbers of the training are spread as
those of later draws are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

BLUR_SIDE = 4  # pixels of the squares whose means are the blurred image

COMPARED_AT_ONCE = 1024  # training images that are compared with all draws at a time


def make_features(x: Float[Tensor, "n c h w"], blurred: float) -> Float[Tensor, "n d"]:
    """Return vectors whose squared distance is the distance between two images.

    That is the mean squared difference of the pixels, and `blurred` times that of the blurred
    images.
    """
    small = F.avg_pool2d(x, BLUR_SIDE, ceil_mode=True)
    scales = [(x, 1.0), (small, blurred)]
    return torch.cat(
        [(weight / image[0].numel()) ** 0.5 * image.flatten(1) for image, weight in scales], dim=1
    )


def match_images(
    images: Float[Tensor, "n d"],
    draws: Float[Tensor, "m d"],
    known: Float[Tensor, "k d"],
    epsilon: float,
) -> tuple[Int[Tensor, " n"], float]:
    """Return the number of the nearest draw for each image, and the share of rejected draws.

    A draw is rejected if its squared distance to one of the `known` images is less than `epsilon`
    (Vashist et al. 2024, Algorithm 1). At least as many draws are kept as there are images: if need
    be, those farthest from all known images.
    """
    # How near each draw is to a known image
    nearest = torch.full((len(draws),), float("inf"), device=draws.device)
    for part in known.split(COMPARED_AT_ONCE):
        nearest = torch.minimum(nearest, torch.cdist(draws, part).square().min(dim=1).values)

    # The draws that are kept, and the nearest of them to each image
    fewest = min(len(images), len(draws))
    limit = min(epsilon, float(nearest.sort(descending=True).values[fewest - 1]))
    kept = torch.nonzero(~(nearest < limit))[:, 0]  # also what is not a number, for a clear error
    chosen = kept[torch.cdist(images, draws[kept]).argmin(dim=1)]
    return chosen, 1 - len(kept) / len(draws)
