"""Settings and controls: what is trained on and tested on, and their names."""

from typing import Any, Literal

CONTROL_NAMES = {
    "majority": "majority class",
    "nearest": "1-nearest neighbour",
    "permuted": "labels permuted",
    "copycat": "copycat",
}

Control = Literal["majority", "nearest", "permuted", "copycat"]

Source = Literal["real", "synthetic", "copycat"]

TrainedOn = Literal["real", "synthetic", "both", "copycat", "both_copycat"]

Setting = Literal[
    "real_to_real",
    "synthetic_to_synthetic",
    "real_to_synthetic",
    "synthetic_to_real",
    "both_to_real",
]

SETTINGS: dict[str, tuple[TrainedOn, Source]] = {
    "real_to_real": ("real", "real"),
    "synthetic_to_synthetic": ("synthetic", "synthetic"),
    "real_to_synthetic": ("real", "synthetic"),
    "synthetic_to_real": ("synthetic", "real"),
    "both_to_real": ("both", "real"),
}
"""The training set and the test set of each setting."""

SOURCES_OF: dict[TrainedOn, tuple[Source, ...]] = {
    "real": ("real",),
    "synthetic": ("synthetic",),
    "both": ("real", "synthetic"),
    "copycat": ("copycat",),
    "both_copycat": ("real", "copycat"),
}
"""The sources that make up each training set."""

COPYCAT_VARIANTS: dict[str, Any] = {"synthetic": "copycat", "both": "both_copycat"}
"""The training or test set that replaces a synthetic one if the copycat is the generator."""

# one in five synthetic images is used for tests, the others for training
SYNTHETIC_TEST_DIVISOR = 5
