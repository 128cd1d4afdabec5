"""STSTNet: three branches of one convolution each, on optical flow and strain."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.motion.parts.base import MotionNetwork

FILTERS = (3, 5, 8)  # of each branch
POOLED_SIDE = 5
STSTNET_DROPOUT = 0.5


class StstNet(MotionNetwork):
    """The network of Liong, Gan, See, Khor and Huang (2019), "Shallow triple stream
    three-dimensional CNN (STSTNet) for micro-expression recognition", FG 2019.

    Three branches with 3, 5 and 8 filters of 3 x 3 pixels over all three channels, each rectified,
    normalised and max-pooled 3 x 3. Their maps are joined and averaged to 5 x 5 places, which are
    the 400 features.

    Weights for 3 classes: the convolutions have 27 * 16 + 16 = 448 and the head has 1,203; in all
    1,651, and 1,683 with the scales and shifts of the normalisation. The paper gives 0.00167
    million.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, filters, 3, padding=2),
                nn.ReLU(),
                nn.BatchNorm2d(filters),
                nn.MaxPool2d(3, padding=1),
                nn.Dropout(STSTNET_DROPOUT),
            )
            for filters in FILTERS
        )
        self.head = nn.Linear(sum(FILTERS) * POOLED_SIDE**2, classes)

    def forward_features(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 400"]:
        """Return the averages of the maps of all branches."""
        maps = torch.cat([branch(x) for branch in self.branches], dim=1)
        return functional.adaptive_avg_pool2d(maps, POOLED_SIDE).flatten(1)
