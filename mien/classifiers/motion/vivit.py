"""ViViT: attention over the patches of each frame, then over time."""

from jaxtyping import Float
from torch import Tensor, nn

from mien.classifiers.motion.parts.base import MotionNetwork
from mien.classifiers.motion.parts.transformer import Encoder

PATCH = 8  # pixels per side
VIVIT_WIDTH, VIVIT_HEADS, VIVIT_DROPOUT = 64, 4, 0.1
SPATIAL_DEPTH, TEMPORAL_DEPTH = 2, 2


class Vivit(MotionNetwork):
    """The factorised encoder of Arnab, Dehghani, Heigold, Sun, Lucic and Schmid (2021), "ViViT: A
    video vision transformer", ICCV 2021, Model 2, in a small size.

    The patches of 8 x 8 pixels of each moment are tokens of a vision transformer (Dosovitskiy et
    al. 2021, ICLR) of two layers, one for all moments. The means of its tokens are the tokens of a
    second transformer of two layers over time, and the mean of these is classified (means instead
    of class tokens, as Section 3.3 of the paper allows). Tokens have 64 numbers, layers have four
    heads. The size of images is a multiple of 8 pixels.
    """

    def __init__(self, classes: int, moments: int, width: int, size: int) -> None:
        super().__init__()
        self.moments = moments
        self.embed = nn.Conv2d(width, VIVIT_WIDTH, PATCH, stride=PATCH)
        patches = (size // PATCH) ** 2
        self.spatial = Encoder(patches, VIVIT_WIDTH, SPATIAL_DEPTH, VIVIT_HEADS, VIVIT_DROPOUT)
        self.temporal = Encoder(moments, VIVIT_WIDTH, TEMPORAL_DEPTH, VIVIT_HEADS, VIVIT_DROPOUT)
        self.head = nn.Linear(VIVIT_WIDTH, classes)

    def forward_features(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n 64"]:
        """Return the mean of the tokens of each clip."""
        n, channels, size, _ = x.shape
        frames = x.reshape(n * self.moments, channels // self.moments, size, size)
        patches = self.embed(frames).flatten(2).transpose(1, 2)
        return self.temporal(self.spatial(patches).view(n, self.moments, VIVIT_WIDTH))
