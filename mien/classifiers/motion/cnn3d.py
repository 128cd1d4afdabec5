"""R(2+1)D: convolutions over space and over time, in turn."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.motion.parts.base import MotionNetwork

STEM_WIDTH = 16
# Of the residual blocks; from the second on, each halves space and time
CNN3D_WIDTHS = (16, 32, 64)
CNN3D_DROPOUT = 0.3


class Cnn3d(MotionNetwork):
    """A small R(2+1)D of Tran, Wang, Torresani, Ray, LeCun and Paluri (2018), "A closer look at
    spatiotemporal convolutions for action recognition", CVPR 2018.

    The stem convolves 5 x 5 pixels and then three moments, and halves the image twice. Three
    residual blocks of 16, 32 and 64 maps follow, with two factorised convolutions each. The mean
    over space and time is classified.
    """

    def __init__(self, classes: int, moments: int, width: int, size: int) -> None:
        super().__init__()
        self.moments = moments
        self.stem = nn.Sequential(
            *_factorise(width, STEM_WIDTH, size=5, space_stride=2),
            nn.BatchNorm3d(STEM_WIDTH),
            nn.ReLU(),
            nn.MaxPool3d((1, 2, 2)),
        )
        narrow = (STEM_WIDTH, *CNN3D_WIDTHS)
        self.blocks = nn.Sequential(
            *(
                FactorisedBlock(before, after, stride=1 if number == 0 else 2)
                for number, (before, after) in enumerate(zip(narrow, CNN3D_WIDTHS, strict=False))
            )
        )
        self.drop = nn.Dropout(CNN3D_DROPOUT)
        self.head = nn.Linear(CNN3D_WIDTHS[-1], classes)

    def forward_features(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n 64"]:
        """Return the mean of each map over space and time."""
        n, channels, size, _ = x.shape
        clips = x.reshape(n, self.moments, channels // self.moments, size, size).transpose(1, 2)
        return self.drop(self.blocks(self.stem(clips)).mean(dim=(2, 3, 4)))


class FactorisedBlock(nn.Module):
    """A residual block (He et al. 2016) of two factorised convolutions."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_factorise(before, after, space_stride=stride, time_stride=stride),
            nn.BatchNorm3d(after),
            nn.ReLU(),
            *_factorise(after, after),
            nn.BatchNorm3d(after),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after)
            )

    def forward(self, x: Float[Tensor, "n k t s s"]) -> Float[Tensor, "n k2 t2 s2 s2"]:
        """Return the sum of the convolved maps and of the maps themselves, rectified."""
        return functional.relu(self.layers(x) + self.shortcut(x))


def _factorise(
    before: int, after: int, size: int = 3, space_stride: int = 1, time_stride: int = 1
) -> tuple[nn.Module, ...]:
    """Return a convolution over space and one over three moments, with rectification between.

    The number of maps between them gives both together about as many weights as a full convolution
    of 3 x size x size would have (Section 3.5 of the paper).
    """
    full = 3 * size**2 * before * after
    between = max(1, full // (size**2 * before + 3 * after))
    return (
        nn.Conv3d(
            before,
            between,
            (1, size, size),
            stride=(1, space_stride, space_stride),
            padding=(0, size // 2, size // 2),
            bias=False,
        ),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        nn.Conv3d(
            between, after, (3, 1, 1), stride=(time_stride, 1, 1), padding=(1, 0, 0), bias=False
        ),
    )
