"""The fields of a study file, and where study files are; needs no torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mien.classifiers.baselines import BASELINES
from mien.classifiers.specs import ClassifierSpec
from mien.errors import SpecError
from mien.faces import CLASS_SETS
from mien.generators import presets
from mien.generators.specs import KIND_FACTS
from mien.prepare import views
from mien.prepare.specs import Unit
from mien.runs.spec import RUN_NAME, Strict, read_spec, read_toml, suggest
from mien.runs.store import Store
from mien.study.settings import CONTROLS, SETTINGS, ControlName, SettingName
from mien.study.specs import StudySpec
from mien.study.uses.table import USES

USE_NAME = re.compile(r"(?!x\d|people\d)[a-z][a-z0-9-]*")

ABLATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augment": {"augment": {}},
    "freeze30": {"freeze": 0.3},
    "weighted": {"class_weights": True},
    "strong": {"strong": {}},
}
"""What an ablation changes in every classifier; a study may define more, in [ablation.NAME]."""

SET_BY_THE_STUDY = {
    "generate": {
        "counts": "write counts = above all tables, where it applies to every fold",
        "generator": "a study trains a generator of its own for each fold, as [generator] says",
    },
    "generator": {
        "faces": "generators are trained on the study's own faces, on each fold's training side"
    },
}
"""The fields that the study itself sets and a table must omit: table to field to the reason."""


class StudyFile(Strict):
    """The fields of a study file.

    `faces` is a run or alias; `class_set` is one of faces.CLASS_SETS that its emotions are mapped
    to (none by default).

    With `protocol` clip, subject or dataset, each of the `folds` is tested in turn (or only those
    in `only_folds`), and `trials` are repetitions with other seeds. folds = "subjects" leaves one
    subject out at a time, and "datasets" one dataset; "datasets" is the default by dataset. With
    `protocol` frame each trial draws its own random split and tests one part in `folds`.

    `target` is what networks answer: the emotion, or which action units a face shows
    ("action_units"). The latter needs the setting real_to_real alone and no controls but those of
    movement, and answers for each unit that unit_scores.MIN_CLIPS clips or more of every training
    side show.

    `classifiers` are names of networks, or of BASELINES that are no controls; the table
    [classifier] holds the fields that they share, and [classifier.NAME] those of one. A table that
    sets `updates` takes the place of the `epochs` of a more general table, and the reverse. Each is
    trained once for each of `ablations`: plain, augment, freeze30, weighted, strong, or one that a
    table [ablation.NAME] defines by fields of ClassifierSpec. Both [ablation.NAME] and
    [classifier.NAME] may also say in what the same images are shown: `input`, a list of
    inputs.INPUTS, and `clips`, `until` and `flow` as in a PreprocessSpec.

    [generator] is a `preset` with changes, [generate] says how images are drawn from it, and
    `counts` how many: like (as many as the training side has), like*N (N times as many, such as
    like*2 or like*0.5), preprint, each:N (N per class),
    balanced:N (N in total, shared equally), or happiness=100,fear=50, which after one of the others
    changes single classes: like,happiness=40. Every class on the training side must have images,
    unless it is given 0, or `only` comes first: only,happiness=100. `controls` are the baselines
    that the cells must exceed.

    `uses` are the ways in which synthetic faces are used beside real ones: those of uses.table.USES
    (mixed, pretrain, filtered, tagged, balanced, half-guided), any that a table [use.NAME] defines
    by fields of a UseSpec, or several joined by "+". `ratios` are numbers of synthetic images per
    real training image. `people` are shares of the training people, 1.0 among them: each smaller
    share is part of the larger ones, and has a generator of its own. Each way, ratio and share is a
    setting of its own, tested on the same real faces. Copies are used in the same ways.

    `cells` are the combinations that the study has, where it has not all: texts such as
    "setting=both_to_real:x4,ablation=plain,control=none" with the terms of `mien study run --only`.
    """

    name: str
    faces: str
    class_set: str = ""
    protocol: Unit
    target: Literal["emotion", "action_units"] = "emotion"
    folds: Annotated[int, Field(ge=2)] | Literal["subjects", "datasets"] = 5
    only_folds: tuple[int, ...] = ()
    trials: int = Field(default=5, ge=1, le=1000)
    settings: tuple[SettingName, ...] = Field(min_length=1)
    classifiers: tuple[str, ...] = Field(min_length=1)
    ablations: tuple[str, ...] = Field(default=("plain",), min_length=1)
    controls: tuple[ControlName, ...] = ()
    classifier: dict[str, Any] = Field(default_factory=dict)
    ablation: dict[str, dict[str, Any]] = Field(default_factory=dict)
    generator: dict[str, Any] = Field(default_factory=dict)
    generate: dict[str, Any] = Field(default_factory=dict)
    counts: str = "like"
    uses: tuple[str, ...] = ()
    use: dict[str, dict[str, Any]] = Field(default_factory=dict)
    ratios: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    people: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    cells: tuple[str, ...] = ()
    seed: int = 0
    inflation: bool = False

    @model_validator(mode="before")
    @classmethod
    def _expand_one_dataset_out(cls, fields: Any) -> Any:
        return (
            {"folds": "datasets", **fields}
            if isinstance(fields, dict) and fields.get("protocol") == "dataset"
            else fields
        )

    @model_validator(mode="after")
    def _require_folds(self) -> "StudyFile":
        if isinstance(self.folds, str) and self.folds != f"{self.protocol}s":
            protocol = self.folds.removesuffix("s")
            raise ValueError(
                f"folds = '{self.folds}' needs protocol '{protocol}'; given: '{self.protocol}'"
            )

        # Where the folds are "subjects" or "datasets", `resolve` checks the upper bound
        if self.only_folds and self.protocol == "frame":
            raise ValueError(
                "remove only_folds: with protocol 'frame' every trial draws its own split"
            )
        outside = [
            fold
            for fold in self.only_folds
            if fold < 0 or (isinstance(self.folds, int) and fold >= self.folds)
        ]
        if outside:
            last = (
                self.folds - 1 if isinstance(self.folds, int) else f"the number of {self.folds} - 1"
            )
            raise ValueError(f"only_folds must be from 0 to {last}; given: {outside}")

        # A name that is listed twice would be run and reported twice
        several = ("settings", "classifiers", "ablations", "controls", "only_folds")
        for name in (*several, "uses", "ratios", "people", "cells"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(
                    f"{name} must list each one once; given: {', '.join(map(str, values))}"
                )
        return self

    @model_validator(mode="after")
    def _require_tests_of_inflation(self) -> "StudyFile":
        if self.inflation and (self.protocol == "frame" or "real_to_real" not in self.settings):
            raise ValueError(
                "inflation needs the setting real_to_real and a protocol that holds out clips, "
                "subjects or datasets: it says what choosing an epoch on them would add"
            )
        return self

    @model_validator(mode="after")
    def _require_what_action_units_allow(self) -> "StudyFile":
        if self.target != "action_units":
            return self

        # Only networks have an output for each unit
        baselines = [name for name in self.classifiers if name in BASELINES]
        if baselines:
            raise ValueError(
                "the target action_units needs classifiers that are networks; "
                f"{baselines[0]} is none. Remove it"
            )

        # Synthetic faces have no coding, and controls other than those of movement answer for
        # emotions
        if self.settings != ("real_to_real",):
            raise ValueError(
                "the target action_units needs settings = ['real_to_real'], because synthetic "
                f"faces have no coded action units; given: {', '.join(self.settings)}"
            )
        moving = [name for name, control in CONTROLS.items() if control.motion]
        others = [name for name in self.controls if name not in moving]
        if others:
            raise ValueError(
                f"the target action_units needs controls among {', '.join(moving)}, or none: each "
                "F1 has the constant answer beside it, and other controls answer for emotions; "
                f"given: {', '.join(others)}"
            )

        if self.inflation:
            raise ValueError("the target action_units cannot be combined with inflation; remove it")

        # The training sides of random splits are other ones in each trial
        if self.protocol == "frame":
            raise ValueError(
                "the target action_units needs protocol 'clip', 'subject' or 'dataset'; given: "
                "'frame'"
            )
        return self

    @model_validator(mode="after")
    def _require_known_class_set(self) -> "StudyFile":
        if self.class_set and self.class_set not in CLASS_SETS:
            hint = suggest(self.class_set, list(CLASS_SETS))
            raise ValueError(
                f"class_set must be one of {', '.join(CLASS_SETS)}, or be omitted; given: "
                f"'{self.class_set}'.{hint}"
            )

        return self

    @model_validator(mode="after")
    def _require_known_ablations(self) -> "StudyFile":
        # Each is known, built-in ones keep their meaning, and none changes the network
        known_ablations = [*ABLATIONS, *self.ablation]
        for name in self.ablations:
            if name not in known_ablations:
                raise ValueError(
                    f"an ablation must be one of {', '.join(known_ablations)}; given: "
                    f"'{name}'.{suggest(name, known_ablations)}"
                )
        for name, fields in self.ablation.items():
            if name in ABLATIONS:
                raise ValueError(
                    f"[ablation.{name}] needs another name, since {name} means the same in every "
                    f"study; call it my-{name}, both in its table and in ablations"
                )
            if "name" in fields:
                raise ValueError(
                    f"[ablation.{name}] must not change the network; it has name = "
                    f"{fields['name']!r}. Add the other network to classifiers, with a table "
                    "[classifier.NAME]"
                )
        unused = sorted(set(self.ablation) - set(self.ablations))
        if unused:
            raise ValueError(
                f"[ablation.{unused[0]}] belongs to no ablation; the study has "
                f"{', '.join(self.ablations)}"
            )

        return self

    @model_validator(mode="after")
    def _require_inputs_in_tables_of_their_own(self) -> "StudyFile":
        # What all classifiers see is what `faces` shows
        for name in (name for name in views.VIEW_FIELDS if name in self.classifier):
            raise ValueError(
                f"[classifier] must not have {name}; it has {name} = {self.classifier[name]!r}. "
                "What images show belongs to one classifier or ablation: write it in "
                f"[classifier.NAME], here [classifier.{self.classifiers[0]}], or in [ablation.NAME]"
            )
        return self

    @model_validator(mode="after")
    def _require_one_input_of_synthetic_faces(self) -> "StudyFile":
        # Synthetic faces exist only in the input of `faces`; clips can be shown in any
        if draws_clips(self.generator):
            return self
        with_input = [
            *(
                f"ablation {name}"
                for name in self.ablations
                if select_view(self.ablation.get(name, {}))
            ),
            *(
                f"classifier {name}"
                for name, table in list_classifier_tables(self).items()
                if select_view(table)
            ),
        ]
        with_synthetic = [name for name in self.settings if SETTINGS[name].needs_synthetic]
        if with_input and with_synthetic:
            raise ValueError(
                f"the {with_input[0]} has its own input and can be used only with the "
                f"setting real_to_real; {with_synthetic[0]} needs synthetic faces, which exist "
                "only in the input of the study's faces. Make another study, whose faces are a "
                "run of that input (`mien preprocess --input`)"
            )

        return self

    @model_validator(mode="after")
    def _omit_fields_that_the_study_sets(self) -> "StudyFile":
        for table, reasons in SET_BY_THE_STUDY.items():
            for name in (name for name in getattr(self, table) if name in reasons):
                raise ValueError(
                    f"[{table}] must not have {name}; it has {name} = "
                    f"{getattr(self, table)[name]!r}. Remove it: {reasons[name]}"
                )

        return self

    @model_validator(mode="after")
    def _require_settings_of_uses(self) -> "StudyFile":
        # A table that no way refers to does nothing
        used = {part for name in self.uses for part in name.split("+")}
        unused = sorted(set(self.use) - used)
        if unused:
            raise ValueError(
                f"[use.{unused[0]}] belongs to no way of use; uses lists "
                f"{', '.join(self.uses) or 'none'}"
            )
        redefined = sorted(set(self.use) & set(USES))
        if redefined:
            raise ValueError(
                f"[use.{redefined[0]}] needs another name, since {redefined[0]} means the same in "
                "every study"
            )
        odd = [name for name in self.use if not USE_NAME.fullmatch(name)]
        if odd:
            raise ValueError(
                "the name of a way of use must be of small letters, digits and hyphens, begin with "
                f"a letter, and not look like a ratio; given: [use.{odd[0]}]"
            )

        # Ways and ratios are about synthetic faces; shares are about people who are held out
        trained = [SETTINGS[name] for name in self.settings if SETTINGS[name].test == "real"]
        if (self.uses or self.ratios) and not any(setting.needs_synthetic for setting in trained):
            raise ValueError(
                f"{'uses' if self.uses else 'ratios'} needs the setting both_to_real or "
                f"synthetic_to_real; the settings are {', '.join(self.settings)}"
            )
        if self.people and 1.0 not in self.people:
            raise ValueError(
                "people must include 1.0, all training people, which the smaller shares are "
                f"compared with; given: {', '.join(map(str, self.people))}"
            )
        if self.people and (self.protocol not in ("subject", "dataset") or not trained):
            raise ValueError(
                "people needs protocol 'subject' or 'dataset' and a setting that is tested on real "
                f"faces; given: protocol '{self.protocol}', {', '.join(self.settings)}"
            )
        if self.protocol == "frame" and (self.uses or self.ratios):
            raise ValueError(
                "uses and ratios need a protocol that holds out clips, subjects or datasets; "
                "given: 'frame'"
            )
        return self

    @model_validator(mode="after")
    def _require_settings_of_controls(self) -> "StudyFile":
        misplaced = sorted(set(self.classifiers) & set(CONTROLS))
        if misplaced:
            raise ValueError(f"{misplaced[0]} is a control; move it from classifiers to controls")
        for name, control in CONTROLS.items():
            if name in self.controls and not any(
                control.applies_to(setting) for setting in self.settings
            ):
                raise ValueError(
                    f"the control '{name}' needs {control.needs}; the settings are "
                    f"{', '.join(self.settings)}"
                )
        return self


def draws_clips(generator: Mapping[str, Any]) -> bool:
    """Return whether the generator of a study file draws clips with all their frames."""
    preset = presets.PRESETS.get(str(generator.get("preset")), {})
    kind = generator.get("kind", preset.get("kind"))
    return kind in KIND_FACTS and KIND_FACTS[str(kind)].moves


def select_view(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a table that say what images show."""
    return {name: value for name, value in table.items() if name in views.VIEW_FIELDS}


def list_classifier_tables(study: StudyFile) -> dict[str, dict[str, Any]]:
    """Return the tables [classifier.NAME] by the name of a classifier.

    A table with the name of a field, such as [classifier.augment], is common to all classifiers.
    """
    return {
        key: value
        for key, value in study.classifier.items()
        if isinstance(value, dict) and key not in ClassifierSpec.model_fields
    }


# Files


STUDIES_FOLDER = Path(__file__).parent / "shipped"
"""The studies that come with mien, one TOML file each."""


def list_studies() -> dict[str, Path]:
    """Return the files of the studies that come with mien, by name."""
    return {path.stem: path for path in sorted(STUDIES_FOLDER.glob("*.toml"))}


def describe_study(path: Path) -> str:
    """Return the first line of a study file's comment, which says what the study is."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def find_study(name: str) -> Path:
    """Return the path of a study file: `name` itself, or the file of a study that comes with mien.

    A name without the suffix .toml that is no file here is that of such a study. Raises SpecError
    for a name that is neither.
    """
    path, shipped = Path(name), list_studies()
    if path.suffix == ".toml" or path.is_file():
        return path
    if name not in shipped:
        raise SpecError(
            f"a study must be a TOML file, or one that comes with mien ({', '.join(shipped)}); "
            f"given: '{name}'.{suggest(name, list(shipped))}"
        )
    return shipped[name]


def find_stored_study(name: str, store: Store) -> str:
    """Return the run of the study that `name`, a run or an alias, names in the store, or "".

    It is "" for the path of a file, and for a study that comes with mien.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file() or name in list_studies():
        return ""
    run = store.read_aliases().get(name, name)
    is_study = RUN_NAME.match(run) and run.startswith(f"{StudySpec.stage}-")
    return run if is_study and store.is_done(run) else ""


def require_readable(name: str, store: Store) -> None:
    """Raise what is wrong with a study file by itself, which takes no time to find.

    `name` is as in `find_stored_study`. Raises SpecError for a name that is no study, a file that
    is not TOML, and fields that a study cannot have.
    """
    if not find_stored_study(name, store):
        path = find_study(name)
        read_spec(StudyFile, read_toml(path), str(path))
