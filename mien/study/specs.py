"""The specs of studies and trials: what their results depend on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mien.classifiers.specs import Baseline, ClassifierSpec
from mien.generators.specs import GenerateSpec, GeneratorSpec
from mien.prepare.specs import SplitSpec, Unit
from mien.runs.spec import Spec, Strict
from mien.study.settings import ControlName, SettingName, Source, TrainedOn


class AblationInput(Strict):
    """The input of an ablation: the kinds of image in `input`, which the run `faces` holds."""

    input: tuple[str, ...]
    faces: str


class StudySpec(Spec):
    """A study with everything that it depends on; its run holds the list of its trials."""

    stage: ClassVar[str] = "study"
    title: str
    faces: str
    protocol: Unit
    folds: int
    tested_folds: tuple[int, ...]
    trials: int
    settings: tuple[SettingName, ...]
    class_set: str
    classes: tuple[str, ...]
    ablations: tuple[str, ...]
    inputs: dict[str, AblationInput]  # of ablations that have an input, by name
    controls: tuple[ControlName, ...]
    classifiers: dict[str, dict[str, ClassifierSpec]]  # by name, then by ablation
    generator: dict[str, Any]
    generate: dict[str, Any]
    counts: str
    seed: int


MOST_LISTED_FOLDS = 3  # a plan lists the counts of up to so many different folds one by one


@dataclass(frozen=True)
class Database:
    """The training and the generation that make the synthetic database of one fold.

    `fold` is -1 where one generator serves all folds. `copycat` is the same for the control
    that replaces the generator.
    """

    fold: int
    split: SplitSpec | None
    train: GeneratorSpec
    generate: GenerateSpec
    copycat: "Database | None" = None


class TrialSpec(Spec):
    """One training of one classifier, and its tests.

    `by`, `folds`, `number` and `split_seed` say how the real faces are split; `synthetic` and
    `copycat` are the runs of the databases, or empty if none is used. `permuted` is the seed
    by which the labels of all real faces are permuted, or None.
    """

    stage: ClassVar[str] = "trial"
    faces: str
    synthetic: str
    copycat: str
    by: Unit
    folds: int
    number: int
    split_seed: int
    train: TrainedOn
    tests: tuple[Source, ...]
    classifier: ClassifierSpec | Baseline
    permuted: int | None = None
    classes: tuple[str, ...]
    trial: int
    seed: int

    @property
    def called(self) -> str:
        """The printed name of the classifier."""
        return self.classifier if isinstance(self.classifier, str) else self.classifier.name


@dataclass(frozen=True)
class TrialRow:
    """A trial with its position in the study's table; `control` is empty for a cell."""

    classifier: str
    ablation: str
    control: str
    trial: int
    fold: int
    spec: TrialSpec


@dataclass(frozen=True)
class StudyPlan:
    """The databases and trials of a study, with the runs that are done or failed (by error)."""

    study: StudySpec
    databases: tuple[Database, ...]
    rows: tuple[TrialRow, ...]
    done: frozenset[str]
    failed: dict[str, str]

    @property
    def runs(self) -> list[str]:
        """The names of all runs, in the order in which they are made."""
        names = [name for database in self.databases for name in list_run_names(database)]
        return list(dict.fromkeys([*names, *(row.spec.name for row in self.rows)]))


def list_run_names(database: Database) -> list[str]:
    """Return the runs of a database, in the order in which they are made."""
    copies = list_run_names(database.copycat) if database.copycat else []
    return [database.train.name, database.generate.name, *copies]


def name_folds(folds: Sequence[int]) -> str:
    """Return the numbers of some folds as text: "fold 1", "folds 1, 2"."""
    return f"{'fold' if len(folds) == 1 else 'folds'} {', '.join(map(str, folds))}"


LEAD_METRIC_SUFFIX = "images/accuracy"
