"""Settings and controls: what is trained on, what is tested on, their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

Source = Literal["real", "synthetic", "copycat"]

TrainedOn = Literal["real", "synthetic", "both", "copycat", "both_copycat"]

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


@dataclass(frozen=True)
class Setting:
    """A training set and a test set, with their printed name."""

    label: str
    train: TrainedOn
    test: Source

    @property
    def needs_synthetic(self) -> bool:
        """Whether it is trained or tested on synthetic faces."""
        return (self.train, self.test) != ("real", "real")


SETTINGS = {
    "real_to_real": Setting("real → real", "real", "real"),
    "synthetic_to_synthetic": Setting("synthetic → synthetic", "synthetic", "synthetic"),
    "real_to_synthetic": Setting("real → synthetic", "real", "synthetic"),
    "synthetic_to_real": Setting("synthetic → real", "synthetic", "real"),
    "both_to_real": Setting("real + synthetic → real", "both", "real"),
}
"""The settings of studies; one more setting is one more entry."""


@dataclass(frozen=True)
class Control:
    """A control: what a setting scores without learning, or without a true generator.

    - `label` is its printed name, and `explanation` what it answers where that is not plain.
    - `constant` says whether it gives one answer to all images.
    - `permutes_labels` says whether the labels of the real faces are permuted.
    - `only` is the one setting that it is a control of; "" is every one.
    - `replaces` maps the training and test sets whose place it takes to its own; if there are
      any, it is a control of settings that have one of them.
    - `needs` says in words which setting a study must have for it.

    A control whose name is in BASELINES takes the place of the classifier; the others are
    trained like the cells.
    """

    label: str
    explanation: str = ""
    constant: bool = False
    permutes_labels: bool = False
    only: str = ""
    replaces: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""

    def applies_to(self, setting: str, train: str, test: str) -> bool:
        """Whether it is a control of a setting with this training set and test set."""
        return self.only in ("", setting) and (
            not self.replaces or bool({train, test} & set(self.replaces))
        )

    def trains_anew(self, train: str) -> bool:
        """Whether it has trainings of its own in place of those on `train`.

        If not, the trainings of the cells are tested on a further test set.
        """
        return not self.replaces or train in self.replaces


CONTROLS = {
    "majority": Control(
        "majority class",
        explanation="always the commonest class of the training images",
        constant=True,
    ),
    "nearest": Control("1-nearest neighbour"),
    "permuted": Control(
        "labels permuted",
        permutes_labels=True,
        only="real_to_real",
        needs="the setting real_to_real",
    ),
    "copycat": Control(
        "copycat", replaces=COPYCAT_VARIANTS, needs="a setting that uses synthetic faces"
    ),
}
"""The controls of studies, in the order of the tables."""


def permutes_labels(control: str) -> bool:
    """Whether the labels of real faces are permuted in the trials of a control ("": a cell)."""
    return bool(control) and CONTROLS[control].permutes_labels


if TYPE_CHECKING:
    SettingName = str
    ControlName = str
else:  # pydantic checks the names
    SettingName = Literal[tuple(SETTINGS)]
    ControlName = Literal[tuple(CONTROLS)]
