"""The spec of a filter: which synthetic faces are kept, and by which rule."""

from typing import ClassVar

from pydantic import Field, field_validator

from mien.errors import UsageError
from mien.runs.spec import Spec, Strict

KEPT = "kept"

KEPT_BELOW = "kept_below"
"""Kept although the image does not pass, because too few of its class do."""

DROP_REASONS = {
    "no_agreement": "the judges do not agree with the label",
    "outside_band": "the entropy is outside the band",
    "not_chosen": "more images than needed pass",
}
"""Why an image is not kept, in the order in which it is asked."""


class FilterRule(Strict):
    """Which synthetic images are kept: a share of each class.

    Judges learn from real faces, and from `views` of each of these, shifted and noisy ones, so that
    they judge the expression and not its exact place. An image passes if the judges give its label
    a mean probability of at least `agreement`, and if the entropy of their mean prediction is in
    the `band` between two quantiles of its class. Of each class `share` of the mean number of
    images per class is kept, or of its own number if that is smaller. Where more pass, `spread`
    chooses those that lie far apart in the space of the judges, else chance does; where fewer pass,
    the others with the most probable labels are kept too.
    """

    agreement: float = Field(default=0.5, ge=0, le=1)  # 0: whatever the judges think
    band: tuple[float, float] = (0.2, 0.8)  # (0, 1): whatever the entropy is
    share: float = Field(default=0.5, gt=0, le=1)
    spread: bool = True
    views: int = Field(default=2, ge=0, le=20)

    @field_validator("band")
    @classmethod
    def _require_quantiles(cls, band: tuple[float, float]) -> tuple[float, float]:
        low, high = band
        if not 0 <= low < high <= 1:
            raise ValueError(
                "band must be two quantiles from 0 to 1, the lower one first, such as 0.2 and 0.8"
            )
        return band


class FilterSpec(FilterRule, Spec):
    """A synthetic database, of which a part is kept by a FilterRule.

    `database` is the run of synthetic faces. `training` is the run of real faces that the judges
    learn from: nobody whom a classifier is tested on may be among them.
    """

    stage: ClassVar[str] = "filter"
    database: str
    training: str
    seed: int = 0  # of the first image of each class with `spread`, else of all images


def read_band(text: str) -> tuple[float, float]:
    """Return the two quantiles of a band as on the command line: 0.2,0.8.

    Raises UsageError unless these are two numbers.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            "band must be two quantiles with a comma between them, such as 0.2,0.8; given: "
            f"'{text}'"
        ) from None
    return low, high
