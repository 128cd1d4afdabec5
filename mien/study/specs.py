"""The specs of studies and trials: what their results depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from mien.classifiers.specs import AnyClassifier, get_classifier_name
from mien.generators.specs import GenerateSpec, GeneratorSpec
from mien.prepare.flow import FlowSpec
from mien.prepare.specs import SplitSpec, Unit
from mien.runs.spec import Spec, Strict, is_unset
from mien.study.settings import (
    SYNTHETIC,
    Arm,
    ControlName,
    SettingName,
    Source,
    TrainedOn,
    expand_settings,
)
from mien.study.uses.specs import FilterSpec
from mien.study.uses.table import UseSpec


class OwnInput(Strict):
    """What an ablation or a classifier sees in place of the study's faces; `faces` is its run.

    The other fields are those of a PreprocessSpec, as they were given.
    """

    input: tuple[str, ...] = ()
    clips: int | str | None = Field(default=None, exclude_if=is_unset)
    until: str | None = Field(default=None, exclude_if=is_unset)
    flow: FlowSpec | None = Field(default=None, exclude_if=is_unset)
    faces: str

    @property
    def text(self) -> str:
        """What is seen, in words."""
        inputs = " and ".join(self.input) or "frames"
        if self.clips is None:
            return inputs
        if isinstance(self.clips, str):
            return f"{inputs} of each clip's onset and apex"
        until = "" if self.until is None else f" until its {self.until}"
        return f"{inputs} at {self.clips} moments of each clip{until}"


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
    inputs: dict[str, OwnInput]  # of ablations that have an input, by name
    # Of classifiers that have an input, by name, then by ablation; omitted where no one has
    classifier_inputs: dict[str, dict[str, OwnInput]] = Field(
        default_factory=dict, exclude_if=is_unset
    )
    controls: tuple[ControlName, ...]
    classifiers: dict[str, dict[str, AnyClassifier]]  # by name, then by ablation
    generator: dict[str, Any]
    generate: dict[str, Any]
    counts: str
    seed: int
    inflation: bool = Field(default=False, exclude_if=is_unset)
    # The action units that are the target in place of emotions; omitted where there are none
    units: tuple[int, ...] = Field(default=(), exclude_if=is_unset)
    # How synthetic faces are used, how many per real one, and shares of the training people; each
    # is omitted where the study says nothing about it
    uses: dict[str, UseSpec] = Field(default_factory=dict, exclude_if=is_unset)
    ratios: tuple[float, ...] = Field(default=(), exclude_if=is_unset)
    people: tuple[float, ...] = Field(default=(), exclude_if=is_unset)
    # Which combinations of setting, ablation and control there are, as texts of --only; omitted
    # where there are all
    cells: tuple[str, ...] = Field(default=(), exclude_if=is_unset)

    @property
    def outputs(self) -> int:
        """The number of outputs of each network: a class or an action unit each."""
        return len(self.units or self.classes)

    @property
    def setting_names(self) -> list[str]:
        """The names of all settings, with their ways of use, ratios and shares of the people."""
        return expand_settings(self.settings, self.uses, self.ratios, self.people)

    @property
    def people_shares(self) -> list[float | None]:
        """The shares of the training people; None is all of them."""
        return [None if share == 1 else share for share in self.people] or [None]

    def find_faces(self, classifier: str, ablation: str) -> str:
        """Return the run of the real faces that a classifier sees under an ablation."""
        by_ablation = self.classifier_inputs.get(classifier, {})
        own_input = by_ablation.get(ablation) or self.inputs.get(ablation)
        return self.faces if own_input is None else own_input.faces


MOST_LISTED_FOLDS = 3  # a plan lists the counts of up to so many different folds one by one


@dataclass(frozen=True)
class Database:
    """The training and the generation that make the synthetic database of one fold.

    `fold` is -1 where one generator serves all folds. `controls` has the databases that take its
    place under controls, by source; they are made of the same images, with the same counts.
    `people` is the share of the training people that it is made from; None is all of them. `uses`
    has what takes its place in some ways of use, by way.
    """

    fold: int
    split: SplitSpec | None
    train: GeneratorSpec
    generate: GenerateSpec
    controls: "Mapping[str, Database]" = field(default_factory=dict)
    people: float | None = None
    uses: "Mapping[str, UsedDatabase]" = field(default_factory=dict)

    def find_used(self, use: str) -> "UsedDatabase":
        """Return what a way of use takes of this database."""
        return self.uses.get(use) or UsedDatabase(self.generate)

    @property
    def all_used(self) -> "list[UsedDatabase]":
        """What all ways of use take of this database, itself first."""
        return [UsedDatabase(self.generate), *self.uses.values()]

    @property
    def by_source(self) -> "dict[str, Database]":
        """The database and those that take its place, by source."""
        return {SYNTHETIC: self, **self.controls}


@dataclass(frozen=True)
class UsedDatabase:
    """What a way of use takes of a database: images that are drawn, and perhaps filtered."""

    generate: GenerateSpec
    filter: FilterSpec | None = None

    @property
    def name(self) -> str:
        """The run that a trial is trained on."""
        return self.generate.name if self.filter is None else self.filter.name

    @property
    def run_names(self) -> list[str]:
        """The runs that make it, in their order."""
        return list(dict.fromkeys([self.generate.name, self.name]))


class TrialSpec(Spec):
    """One training of one classifier, and its tests.

    `by`, `folds`, `number` and `split_seed` say how the real faces are split. `synthetic` and
    `copycat` are the runs of databases, or empty if none is used, and `others` has those of other
    sources by name (`list_database_fields` makes the three). `permuted` is the seed by which the
    labels of all real faces are permuted, or None. `motion` names what is done with their movement,
    as in motion_controls.MOTION_CHANGES, with the seed `motion_seed` if it is random. With
    `keeps_epochs` the answers on real images are also kept after each epoch. With `units` the
    network answers for each of these action units, and not which of the classes a face shows.

    `use` says how synthetic images are used, `ratio` how many there are per real training image,
    and `people` which share of the training people there are. Where all are None, synthetic images
    are mixed with the real ones, and one in five of them is kept for tests.
    """

    stage: ClassVar[str] = "trial"
    faces: str
    synthetic: str
    copycat: str
    # Omitted where it is empty, as in the specs of all trials before there were other sources
    others: dict[str, str] = Field(default_factory=dict, exclude_if=is_unset)
    by: Unit
    folds: int
    number: int
    split_seed: int
    train: TrainedOn
    tests: tuple[Source, ...]
    classifier: AnyClassifier
    permuted: int | None = None
    # Omitted without a value, as in the specs of all trials before there were such controls
    motion: str | None = Field(default=None, exclude_if=is_unset)
    motion_seed: int | None = Field(default=None, exclude_if=is_unset)
    keeps_epochs: bool = Field(default=False, exclude_if=is_unset)
    classes: tuple[str, ...]
    trial: int
    seed: int
    units: tuple[int, ...] = Field(default=(), exclude_if=is_unset)
    use: UseSpec | None = Field(default=None, exclude_if=is_unset)
    ratio: float | None = Field(default=None, exclude_if=is_unset)
    people: float | None = Field(default=None, exclude_if=is_unset)

    @property
    def databases(self) -> dict[str, str]:
        """The runs of the databases that it uses, by source."""
        runs = {
            **{source: getattr(self, source) for source in SOURCES_WITH_OWN_FIELD},
            **self.others,
        }
        return {source: run for source, run in runs.items() if run}

    @property
    def has_own_use(self) -> bool:
        """Whether synthetic images are used in another way than all of them mixed with all real."""
        return (self.use, self.ratio, self.people) != (None, None, None)

    @property
    def called(self) -> str:
        """The printed name of the classifier."""
        return get_classifier_name(self.classifier)


# Sources whose runs have a field of their own in specs; others share one
SOURCES_WITH_OWN_FIELD = ("synthetic", "copycat")


def list_database_fields(runs: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a TrialSpec for the runs of the databases that it uses, by source."""
    others = {source: run for source, run in runs.items() if source not in SOURCES_WITH_OWN_FIELD}
    return {**{source: runs.get(source, "") for source in SOURCES_WITH_OWN_FIELD}, "others": others}


@dataclass(frozen=True)
class TrialRow:
    """A trial with its position in the study's table; `control` is empty for a cell."""

    classifier: str
    ablation: str
    control: str
    trial: int
    fold: int
    arm: Arm
    spec: TrialSpec


@dataclass(frozen=True)
class StudyPlan:
    """The databases and trials of a study, with the runs that are done or failed (by error).

    `shown` has the names of the channels of each run of real faces, by run.
    """

    study: StudySpec
    databases: tuple[Database, ...]
    rows: tuple[TrialRow, ...]
    done: frozenset[str]
    failed: dict[str, str]
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def all_databases(self) -> list[Database]:
        """The databases of all folds, with those that take their place under controls."""
        return [
            source_database
            for database in self.databases
            for source_database in database.by_source.values()
        ]

    @property
    def runs(self) -> list[str]:
        """The names of all runs, in the order in which they are made."""
        names = [name for database in self.databases for name in list_run_names(database)]
        return list(dict.fromkeys([*names, *(row.spec.name for row in self.rows)]))


def list_run_names(database: Database) -> list[str]:
    """Return the runs of a database, in the order in which they are made."""
    return [
        name
        for source_database in database.by_source.values()
        for name in dict.fromkeys(
            [
                source_database.train.name,
                *(run for used in source_database.all_used for run in used.run_names),
            ]
        )
    ]


def name_folds(folds: Sequence[int]) -> str:
    """Return the numbers of some folds as text: "fold 1", "folds 1, 2"."""
    return f"{'fold' if len(folds) == 1 else 'folds'} {', '.join(map(str, folds))}"
