"""OFF-ApexNet: a branch for each displacement of the optical flow."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.motion.parts.base import MotionNetwork

FULLY_CONNECTED_WIDTH = 1024
OFF_APEXNET_DROPOUT = 0.5


class OffApexNet(MotionNetwork):
    """The network of Gan, Liong, Yau, Huang and Tan (2019), "OFF-ApexNet on micro-expression
    recognition system", Signal Processing: Image Communication 74.

    The displacements between onset and apex, to the right and down, go through a branch each: 6 and
    then 16 filters of 5 x 5 pixels, padded, each with 2 x 2 max-pooling. Two fully connected layers
    of 1,024 units with dropout join the branches. The strain is not looked at.

    Weights for 28 pixels and 3 classes: a branch has 156 + 2,416, the fully connected layers have
    1,568 * 1,024 + 1,024 and 1,024 * 1,024 + 1,024, and the head has 3,075; in all 2,664,475.
    Papers cite 2.77 million, without the layers that they count.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.right, self.down = self._make_branch(), self._make_branch()
        self.join = nn.Linear(2 * 16 * (size // 4) ** 2, FULLY_CONNECTED_WIDTH)
        self.mix = nn.Linear(FULLY_CONNECTED_WIDTH, FULLY_CONNECTED_WIDTH)
        self.drop = nn.Dropout(OFF_APEXNET_DROPOUT)
        self.head = nn.Linear(FULLY_CONNECTED_WIDTH, classes)

    @staticmethod
    def _make_branch() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )

    def forward_features(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 1024"]:
        """Return the output of the last fully connected layer before the head."""
        both = torch.cat([self.right(x[:, :1]), self.down(x[:, 1:2])], dim=1)
        joined = functional.relu(self.join(self.drop(both)))
        return self.drop(functional.relu(self.mix(joined)))
