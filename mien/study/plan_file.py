"""plan.json: the databases and trials of a study, as a typed record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mien.errors import StoreError
from mien.runs.files import write_indented_json
from mien.runs.spec import is_unset
from mien.runs.store import Run
from mien.study.settings import Arm
from mien.study.uses.table import MIXED

PLAN_FILE = "plan.json"


class _Frozen(BaseModel):
    """A record whose fields cannot be set; unknown names in a file are ignored."""

    model_config = ConfigDict(frozen=True)


class SourcesRecord(_Frozen):
    """The training set and the test set of a setting."""

    train: str
    test: str


class FrozenRecord(_Frozen):
    """Which layers of a classifier are frozen in an ablation, as text."""

    classifier: str
    ablation: str
    text: str


class DatabaseRecord(_Frozen):
    """The runs that make the database of one fold; `fold` is -1 if it serves all folds.

    `split` is empty if the generator is trained on all faces. `copycat` and `others` are the
    databases that take its place under controls, by source; `copycat` is empty if there is none.
    `people` is the share of the training people that it is made from, and `filtered` has what the
    filters of ways of use keep of it, by way.
    """

    fold: int
    split: str = ""
    generator: str
    database: str
    copycat: str
    # Omitted where it is empty, as in the plans of all studies before there were other sources
    others: dict[str, str] = Field(default_factory=dict, exclude_if=is_unset)
    counts: dict[str, int]
    # Omitted where it is made from all training people, or where no way of use filters it
    people: float | None = Field(default=None, exclude_if=is_unset)
    filtered: dict[str, str] = Field(default_factory=dict, exclude_if=is_unset)

    @property
    def runs(self) -> list[str]:
        """The generator, the database, and those that take its place under controls."""
        return [self.generator, self.database, *self.filtered.values(), *self.controls.values()]

    @property
    def controls(self) -> dict[str, str]:
        """The databases that take its place under controls, by source."""
        return {**({"copycat": self.copycat} if self.copycat else {}), **self.others}


def list_control_fields(runs: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a DatabaseRecord for the databases of controls, by source."""
    others = {source: run for source, run in runs.items() if source != "copycat"}
    return {"copycat": runs.get("copycat", ""), "others": others}


class TrialRecord(_Frozen):
    """A trial with its position in the study's table; `control` is empty for a cell.

    `note` is the file that holds the error if it failed, relative to the store.
    """

    run: str
    note: str
    classifier: str
    ablation: str
    control: str
    trial: int
    fold: int
    train: str
    tests: tuple[str, ...] = ()
    synthetic: str = ""
    # Omitted where images are mixed, where all synthetic ones are used, and those of all people
    use: str = Field(default="", exclude_if=is_unset)
    ratio: float | None = Field(default=None, exclude_if=is_unset)
    people: float | None = Field(default=None, exclude_if=is_unset)

    @property
    def arm(self) -> Arm:
        """What it is trained on, and how."""
        return Arm(self.train, self.use or MIXED, self.ratio, self.people)


class StudyRecord(_Frozen):
    """All that results and reports, which do not import torch, need of a study's plan.

    Classifiers are in the order of the study file, which a spec on the disk does not keep.
    """

    settings: dict[str, SourcesRecord]
    classifiers: tuple[str, ...]
    ablations: tuple[str, ...]
    controls: tuple[str, ...]
    frozen: tuple[FrozenRecord, ...]
    databases: tuple[DatabaseRecord, ...]
    trials: tuple[TrialRecord, ...]

    def save(self, folder: Path) -> None:
        """Write the record as plan.json."""
        write_indented_json(folder / PLAN_FILE, self.model_dump(mode="json"))


def read_record(run: Run) -> StudyRecord:
    """Return the record of a study's run.

    Raises StoreError if an older version of mien wrote it and left out fields.
    """
    try:
        return StudyRecord.model_validate(run.read_json(PLAN_FILE))
    except ValidationError as error:
        names = dict.fromkeys(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise StoreError(
            f"{run.name} was planned by another version of mien, so its {PLAN_FILE} lacks "
            f"{', '.join(names)}; run the study again with this version"
        ) from None
