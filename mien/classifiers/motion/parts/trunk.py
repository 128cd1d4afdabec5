"""A small convolutional trunk, which SSSNet and two networks of clips share."""

from jaxtyping import Float
from torch import Tensor, nn

FIRST_WIDTH, SECOND_WIDTH = 32, 64


class Trunk(nn.Module):
    """Two convolutions, each with rectification, max-pooling, normalisation and dropout.

    The first has 32 filters of 5 x 5 pixels and pools 3 x 3, the second has 64 filters of 3 x 3
    pixels and pools 2 x 2; neither pads. These are the convolutions of SSSNet. `width` is the
    number of values that come out for an image: 64 * 9 * 9 for 64 pixels. Images have 16 pixels or
    more per side.
    """

    def __init__(self, channels: int, size: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, FIRST_WIDTH, 5),
            nn.ReLU(),
            nn.MaxPool2d(3),
            nn.BatchNorm2d(FIRST_WIDTH),
            nn.Dropout2d(dropout),
            nn.Conv2d(FIRST_WIDTH, SECOND_WIDTH, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(SECOND_WIDTH),
            nn.Dropout2d(dropout),
            nn.Flatten(),
        )
        map_size = ((size - 4) // 3 - 2) // 2
        self.width = SECOND_WIDTH * map_size**2

    def forward(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n width"]:
        """Return the features of images."""
        return self.layers(x)
