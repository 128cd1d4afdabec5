"""CNN-transformer: convolutions for each frame, and attention over time."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.motion.parts.base import MotionNetwork
from mien.classifiers.motion.parts.transformer import Encoder
from mien.classifiers.motion.parts.trunk import Trunk

HYBRID_WIDTH, HYBRID_DEPTH, HYBRID_HEADS = 64, 2, 4
TRUNK_DROPOUT, ENCODER_DROPOUT = 0.3, 0.1


class CnnTransformer(MotionNetwork):
    """A hybrid: convolutions make the tokens of a transformer (Dosovitskiy et al. 2021, ICLR).

    One trunk of two convolutions, described at `Trunk`, and a linear layer turn the channels of
    each moment into a token of 64 numbers. Learnt position embeddings are added, and two layers
    with four heads each, described at `EncoderLayer`, mix the tokens. The mean of the tokens is
    classified.
    """

    def __init__(self, classes: int, moments: int, width: int, size: int) -> None:
        super().__init__()
        self.moments = moments
        self.trunk = Trunk(width, size, TRUNK_DROPOUT)
        self.embed = nn.Linear(self.trunk.width, HYBRID_WIDTH)
        self.encoder = Encoder(moments, HYBRID_WIDTH, HYBRID_DEPTH, HYBRID_HEADS, ENCODER_DROPOUT)
        self.head = nn.Linear(HYBRID_WIDTH, classes)

    def forward_features(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n 64"]:
        """Return the mean of the tokens of each clip."""
        n, channels, size, _ = x.shape
        frames = x.reshape(n * self.moments, channels // self.moments, size, size)
        tokens = functional.relu(self.embed(self.trunk(frames))).view(n, self.moments, HYBRID_WIDTH)
        return self.encoder(tokens)
