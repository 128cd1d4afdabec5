"""WAYS: the ways of training that advice compares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mien.classifiers.channels import are_pictures
from mien.study.settings import name_setting
from mien.study.uses.specs import FilterRule
from mien.study.uses.table import MIXED

Amount = Literal["few", "middle", "all"]
"""How many of the synthetic images are used, as `list_amounts` resolves it."""

MOST_FEW = 1.0  # the smaller number of synthetic images is at most one per real image


@dataclass(frozen=True)
class Way:
    """A way of training a classifier.

    `label` names it in tables, and `advice` says how to do it; `{number}` is the number of images
    that are added per real one. `use` is how these are used, and `amount` how many; "" is none.
    `ablation` is that of the classifier. With `copies`, copies of real images are added in place of
    synthetic ones. A way without synthetic images is a cheap alternative.
    """

    label: str
    advice: str
    use: str = MIXED
    amount: Amount | Literal[""] = ""
    ablation: str = "plain"
    copies: bool = False

    @property
    def is_cheap(self) -> bool:
        """Whether it needs no generator."""
        return self.copies or not self.amount

    def name_setting(self, largest: float) -> str:
        """Return the setting of a study; `largest` is the largest number per real image."""
        if not self.amount:
            return "real_to_real"
        return name_setting("both_to_real", self.use, list_amounts(largest)[self.amount])

    def name_cell(self, largest: float) -> str:
        """Return its cell as an entry of `cells` in a study file."""
        control = "copycat" if self.copies else "none"
        return f"setting={self.name_setting(largest)},ablation={self.ablation},control={control}"

    def describe(self, largest: float) -> str:
        """Return what to do, in words."""
        number = list_amounts(largest)[self.amount] if self.amount else 0
        return self.advice.format(number=f"{number:g}")


WAYS: dict[str, Way] = {
    "real": Way("real faces alone", "train on the real faces as they are"),
    "strong": Way(
        "strong augmentation",
        "train on the real faces with strong augmentation (`[classifier.strong]`)",
        ablation="strong",
    ),
    "copies": Way(
        "copies",
        "add copies of the real faces, {number} per real one (`--preset copycat`)",
        amount="few",
        copies=True,
    ),
    "few": Way(
        "few synthetic faces",
        "add synthetic faces, {number} per real one, mixed with the real ones (`mixed`)",
        amount="few",
    ),
    "many": Way(
        "many synthetic faces",
        "add synthetic faces, {number} per real one, mixed with the real ones (`mixed`)",
        amount="all",
    ),
    "filtered": Way(
        "filtered synthetic faces",
        "add synthetic faces that `mien filter` keeps, up to {number} per real one (`filtered`)",
        use="filtered",
        amount="middle",
    ),
    "pretrain": Way(
        "filtered synthetic faces before real ones",
        "train on synthetic faces that `mien filter` keeps, up to {number} per real one, and then "
        "on the real ones (`filtered+pretrain`)",
        use="filtered+pretrain",
        amount="middle",
    ),
    "filtered-strong": Way(
        "filtered synthetic faces with strong augmentation",
        "add synthetic faces that `mien filter` keeps, up to {number} per real one (`filtered`), "
        "with strong augmentation of all faces (`[classifier.strong]`)",
        use="filtered",
        amount="middle",
        ablation="strong",
    ),
}
"""The ways that are compared; one more is one more entry. All have as many updates."""


def list_amounts(largest: float) -> dict[Amount, float]:
    """Return how many synthetic images per real one each amount is.

    All ways draw from one database with `largest` per real image. A filter keeps its share of it.
    """
    middle = largest * FilterRule().share
    return {"few": min(MOST_FEW, middle), "middle": middle, "all": largest}


def list_ways(shown: Sequence[str]) -> dict[str, Way]:
    """Return the ways that can be compared on faces with the channels `shown`, by name.

    Strong augmentation changes brightness and contrast, so that it needs plain pictures.
    """
    return {
        name: way for name, way in WAYS.items() if way.ablation != "strong" or are_pictures(shown)
    }


def list_uses(ways: Sequence[Way]) -> list[str]:
    """Return the ways of use that some ways of training need, each once."""
    return list(dict.fromkeys(way.use for way in ways if way.amount))
