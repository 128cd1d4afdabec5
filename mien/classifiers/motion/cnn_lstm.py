"""CNN-LSTM: convolutions for each frame, and a recurrent layer over time."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.motion.parts.base import MotionNetwork
from mien.classifiers.motion.parts.trunk import Trunk

LSTM_WIDTH = 64  # of a frame's features, and of the memory
LSTM_DROPOUT = 0.5


class CnnLstm(MotionNetwork):
    """A long-term recurrent convolutional network, as Donahue et al. (2015, CVPR) describe it.

    One trunk of two convolutions, described at `Trunk`, and a linear layer turn the channels of
    each moment into 64 numbers. A long short-term memory of 64 units (Hochreiter and
    Schmidhuber 1997) reads them in the order of time; its last state is classified.

    Weights for 48 pixels, one channel per moment and 3 classes: 832 and 18,496 in the
    convolutions, 192 in the normalisation, 147,520 in the linear layer, 4 * 64 * (64 + 64 + 2) in
    the memory and 195 in the head; in all 200,515. The number of moments changes nothing.
    """

    def __init__(self, classes: int, moments: int, width: int, size: int) -> None:
        super().__init__()
        self.moments = moments
        self.trunk = Trunk(width, size, LSTM_DROPOUT)
        self.embed = nn.Linear(self.trunk.width, LSTM_WIDTH)
        self.memory = nn.LSTM(LSTM_WIDTH, LSTM_WIDTH, batch_first=True)
        self.drop = nn.Dropout(LSTM_DROPOUT)
        self.head = nn.Linear(LSTM_WIDTH, classes)

    def forward_features(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n 64"]:
        """Return the state of the memory after the last moment."""
        n, channels, size, _ = x.shape
        frames = x.reshape(n * self.moments, channels // self.moments, size, size)
        embedded = functional.relu(self.embed(self.trunk(frames))).view(n, self.moments, LSTM_WIDTH)
        states, _ = self.memory(embedded)
        return self.drop(states[:, -1])
