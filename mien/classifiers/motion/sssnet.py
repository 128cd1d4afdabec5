"""SSSNet: a shallow network of a single stream, on optical flow and strain."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.motion.parts.base import MotionNetwork
from mien.classifiers.motion.parts.trunk import Trunk

SSSNET_FEATURES = 256
SSSNET_DROPOUT = 0.5


class SssNet(MotionNetwork):
    """The shallow single-stream network of the benchmark MEB of Varanka, Li, Peng and Zhao (2023),
    "Data leakage and evaluation issues in micro-expression analysis", IEEE Transactions on
    Affective Computing.

    Two convolutions, described at `Trunk`, and a fully connected layer of 256 units with dropout.

    Weights for 64 pixels and 3 classes: 2,432 and 18,496 in the convolutions, 192 in the
    normalisation, 64 * 9 * 9 * 256 + 256 in the fully connected layer and 771 in the head; in all
    1,349,251.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.trunk = Trunk(3, size, SSSNET_DROPOUT)
        self.join = nn.Linear(self.trunk.width, SSSNET_FEATURES)
        self.drop = nn.Dropout(SSSNET_DROPOUT)
        self.head = nn.Linear(SSSNET_FEATURES, classes)

    def forward_features(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 256"]:
        """Return the output of the fully connected layer."""
        return self.drop(functional.relu(self.join(self.trunk(x))))
