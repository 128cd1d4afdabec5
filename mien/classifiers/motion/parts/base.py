"""The parts of a network of motion: features, and a head."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class MotionNetwork(nn.Module, ABC):
    """A network whose last layer, `head`, is linear.

    A network of optical flow is made with (classes, size): images are [n, 3, size, size] and show
    the displacement to the right, the displacement down, and the strain. A network of clips is made
    with (classes, moments, width, size): images are [n, moments * width, size, size], with all
    `width` channels of a moment before those of the next.
    """

    head: nn.Linear

    def forward(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n classes"]:
        """Return logits of images that are normalised as `find_centre_and_scale` says."""
        return self.forward_head(self.forward_features(x))

    @abstractmethod
    def forward_features(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n d"]:
        """Return the features of which the head makes logits."""

    def forward_head(
        self, x: Float[Tensor, "n d"], pre_logits: bool = False
    ) -> Float[Tensor, "n k"]:
        """Return logits, or with `pre_logits` the features, as timm's networks do."""
        return x if pre_logits else self.head(x)
