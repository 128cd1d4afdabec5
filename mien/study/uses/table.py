"""USES: the ways in which synthetic faces are used in a training.

Two ways can be combined: `filtered+pretrain` has the fields of both.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from mien.classifiers.specs import TrainingUse
from mien.errors import SpecError
from mien.runs.spec import is_unset, read_spec, suggest
from mien.study.uses.specs import FilterRule

MIXED = "mixed"


class UseSpec(TrainingUse):
    """A way of using synthetic faces: which of them, and when in the training.

    With `balance` the rarest classes get synthetic images first, until all classes have as many
    images as the largest class of real ones or, under a ratio, until there are no more. Images that
    the rule `filter` does not keep are not used. `generate` has fields of
    [generate] that are other ones for this way, such as the guidance. The other fields are those of
    a TrainingUse.
    """

    balance: bool = Field(default=False, exclude_if=is_unset)
    filter: FilterRule | None = Field(default=None, exclude_if=is_unset)
    generate: dict[str, Any] = Field(default_factory=dict, exclude_if=is_unset)

    @model_validator(mode="after")
    def _require_one_choice_of_numbers(self) -> "UseSpec":
        own_numbers = [name for name in ("counts", "generator") if name in self.generate]
        if own_numbers:
            raise ValueError(
                f"generate must not have {own_numbers[0]}, which is the same for all ways of use"
            )
        return self

    @property
    def needs_real(self) -> bool:
        """Whether it needs real images next to the synthetic ones."""
        return self.balance or self.needs_network


USES: Mapping[str, dict[str, Any]] = {
    MIXED: {},
    "pretrain": {"pretrain": 0.4},
    "filtered": {"filter": {}},
    "tagged": {"tag": "normalisation"},
    "balanced": {"balance": True},
    "half-guided": {"generate": {"guidance_mix": 2.0}},
}
"""The ways that every study knows; a study may define more, in [use.NAME]."""


def resolve_use(name: str, own: Mapping[str, Mapping[str, Any]], where: str) -> UseSpec:
    """Return the way of a name such as `filtered+pretrain`; `own` are those of the study.

    Raises SpecError for an unknown way, and for two that set the same field.
    """
    known = {**USES, **own}
    fields: dict[str, Any] = {}
    for part in name.split("+"):
        if part not in known:
            raise SpecError(
                f"{where}: a way of use must be one of {', '.join(known)}, or several joined by "
                f"'+'; given: '{name}'.{suggest(part, list(known))}"
            )
        shared = sorted(set(fields) & set(known[part]))
        if shared:
            raise SpecError(
                f"{where}: the ways in '{name}' cannot be combined, since more than one of them "
                f"sets {shared[0]}"
            )
        fields |= known[part]
    return read_spec(UseSpec, fields, f"{where}: use.{name}")
