"""Studies: classifiers trained and tested on real and synthetic faces, in every setting.

A study is a TOML file. A cell is a setting, a classifier, an ablation and a trial. A trial is one
training, tested on every test set that its settings name, so settings that share a training set
share the trial. Every result is a run in the store: a finished run is never repeated, a failed
trial is a row with its error, and running a study again makes only what is missing.

By clip, subject or dataset each fold has its own generator, trained only on that fold's training
side, and no trial is tested on a real image before `splits.require_unseen` has shown that neither
the classifier nor the generator saw the same clip, subject or dataset. By frame, as in the
preprint, one generator sees everything; reports say so.

Controls use the same splits, tests and scores as the cells that they are compared with.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool
from pydantic import Field, model_validator

from mien import classifiers, generators, preprocess, splits, views, weights
from mien.classifiers import ClassifierSpec
from mien.controls import BASELINES, Baseline
from mien.engine import FAILED, NOT_BEGUN, Engine, Job, Local, failure, work
from mien.errors import DataError, SpecError, StoreError, TrialsFailed, UsageError, WeightsError
from mien.faces import CLASS_SETS, EMOTIONS, Faces
from mien.progress import many, say
from mien.seeds import seed as seed_of
from mien.spec import Spec, Strict, nearest, read_spec, read_toml
from mien.store import Run, Store, require_alias
from mien.trials import (
    COPIES,
    HELD_OUT,
    LEAD,
    PARTS,
    SETTINGS,
    Setting,
    Source,
    Training,
    TrialSpec,
    run_trial,
    write_json,
)

Control = Literal["majority", "nearest", "permuted", "copycat"]

ABLATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augment": {"augment": {}},
    "freeze30": {"freeze": 0.3},
}
"""What an ablation changes in every classifier; a study may define more, in [ablation.NAME]."""

MADE_HERE = {
    "generate": {
        "counts": "write counts = above all tables, where it applies to every fold",
        "generator": "a study trains a generator of its own for each fold, as [generator] says",
    },
    "generator": {
        "faces": "generators are trained on the study's own faces, on each fold's training side"
    },
}
"""The fields that the study itself sets and a table must omit: table to field to the reason."""


class Study(Strict):
    """The fields of a study file.

    `faces` is a run or alias; `class_set` is one of faces.CLASS_SETS that its emotions are mapped
    to (none by default).

    With `protocol` clip, subject or dataset, each of the `folds` is tested in turn (or only those
    in `only_folds`), and `trials` are repetitions with other seeds. folds = "subjects" leaves one
    subject out at a time, and "datasets" one dataset; "datasets" is the default by dataset. With
    `protocol` frame each trial draws its own random split and tests one part in `folds`.

    `classifiers` are names; the table [classifier] holds the fields that they share, and
    [classifier.NAME] those of one. Each is trained once for each of `ablations`: plain, augment,
    freeze30, or one that a table [ablation.NAME] defines by fields of ClassifierSpec, and by
    `input`, a list of inputs.INPUTS in which the same images are shown.

    [generator] is a `preset` with changes, [generate] says how images are drawn from it, and
    `counts` how many: like (as many as the training side has), preprint, balanced:N (N in total,
    shared equally), or happiness=100,fear=50, which after one of the others changes single
    classes: like,happiness=40. `controls` are the baselines that the cells must exceed.
    """

    name: str
    faces: str
    class_set: str = ""
    protocol: splits.By
    folds: Annotated[int, Field(ge=2)] | Literal["subjects", "datasets"] = 5
    only_folds: tuple[int, ...] = ()
    trials: int = Field(default=5, ge=1, le=1000)
    settings: tuple[Setting, ...] = Field(min_length=1)
    classifiers: tuple[str, ...] = Field(min_length=1)
    ablations: tuple[str, ...] = Field(default=("plain",), min_length=1)
    controls: tuple[Control, ...] = ()
    classifier: dict[str, Any] = Field(default_factory=dict)
    ablation: dict[str, dict[str, Any]] = Field(default_factory=dict)
    generator: dict[str, Any] = Field(default_factory=dict)
    generate: dict[str, Any] = Field(default_factory=dict)
    counts: str = "like"
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _one_dataset_out(cls, data: Any) -> Any:
        return (
            {"folds": "datasets", **data}
            if isinstance(data, dict) and data.get("protocol") == "dataset"
            else data
        )

    @model_validator(mode="after")
    def _folds_are_there(self) -> "Study":
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
        for name in ("settings", "classifiers", "ablations", "controls", "only_folds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(
                    f"{name} must list each one once; given: {', '.join(map(str, values))}"
                )
        return self

    @model_validator(mode="after")
    def _names_mean_one_thing(self) -> "Study":
        if self.class_set and self.class_set not in CLASS_SETS:
            hint = nearest(self.class_set, list(CLASS_SETS))
            raise ValueError(
                f"class_set must be one of {', '.join(CLASS_SETS)}, or be omitted; given: "
                f"'{self.class_set}'.{hint}"
            )

        # Ablations: each is known, built-in ones keep their meaning, and none changes the network
        known = [*ABLATIONS, *self.ablation]
        for name in self.ablations:
            if name not in known:
                raise ValueError(
                    f"an ablation must be one of {', '.join(known)}; given: '{name}'."
                    f"{nearest(name, known)}"
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

        # Synthetic faces exist only in the input of `faces`
        with_input = [name for name in self.ablations if "input" in self.ablation.get(name, {})]
        with_synthetic = [name for name in self.settings if set(SETTINGS[name]) != {"real"}]
        if with_input and with_synthetic:
            raise ValueError(
                f"the ablation {with_input[0]} has its own input and can be used only with the "
                f"setting real_to_real; {with_synthetic[0]} needs synthetic faces, which exist "
                "only in the input of the study's faces. Make another study, whose faces are a "
                "run of that input (`mien preprocess --input`)"
            )

        # Fields that the study sets itself
        for table, reasons in MADE_HERE.items():
            for name in (name for name in getattr(self, table) if name in reasons):
                raise ValueError(
                    f"[{table}] must not have {name}; it has {name} = "
                    f"{getattr(self, table)[name]!r}. Remove it: {reasons[name]}"
                )

        # Controls, and the settings that they need
        baselines = sorted(set(self.classifiers) & set(BASELINES))
        if baselines:
            raise ValueError(f"{baselines[0]} is a control; move it from classifiers to controls")
        if "permuted" in self.controls and "real_to_real" not in self.settings:
            raise ValueError(
                "the control 'permuted' needs the setting real_to_real; the settings are "
                f"{', '.join(self.settings)}"
            )
        if "copycat" in self.controls and not any(
            set(SETTINGS[name]) & set(COPIES) for name in self.settings
        ):
            raise ValueError(
                "the control 'copycat' needs a setting that uses synthetic faces; the settings "
                f"are {', '.join(self.settings)}"
            )
        return self


class Shown(Strict):
    """The input of an ablation: the kinds of image in `input`, which the run `faces` holds."""

    input: tuple[str, ...]
    faces: str


class StudySpec(Spec):
    """A study with everything that it depends on; its run holds the list of its trials."""

    stage: ClassVar[str] = "study"
    title: str
    faces: str
    protocol: splits.By
    folds: int
    tested_folds: tuple[int, ...]
    trials: int
    settings: tuple[Setting, ...]
    class_set: str
    classes: tuple[str, ...]
    ablations: tuple[str, ...]
    inputs: dict[str, Shown]  # of ablations that have an input, by name
    controls: tuple[Control, ...]
    classifiers: dict[str, dict[str, ClassifierSpec]]  # by name, then by ablation
    generator: dict[str, Any]
    generate: dict[str, Any]
    counts: str
    seed: int


MOST_FOLDS = 3  # a plan lists the counts of up to so many different folds one by one


@dataclass(frozen=True)
class Database:
    """The training and the generation that make the synthetic database of one fold.

    `fold` is -1 where one generator serves all folds. `copycat` is the same for the control that
    replaces the generator.
    """

    fold: int
    split: splits.SplitSpec | None
    train: generators.GeneratorSpec
    generate: generators.GenerateSpec
    copycat: "Database | None" = None


@dataclass(frozen=True)
class Row:
    """A trial with its position in the study's table; `control` is empty for a cell."""

    classifier: str
    ablation: str
    control: str
    trial: int
    fold: int
    spec: TrialSpec


@dataclass(frozen=True)
class Plan:
    """The databases and trials of a study, with the runs that are done or failed (by error)."""

    study: StudySpec
    databases: tuple[Database, ...]
    rows: tuple[Row, ...]
    done: frozenset[str]
    failed: dict[str, str]

    @property
    def runs(self) -> list[str]:
        """The names of all runs, in the order in which they are made."""
        names = [name for database in self.databases for name in _run_names(database)]
        return list(dict.fromkeys([*names, *(row.spec.name for row in self.rows)]))


# Reading


def read(path: Path, store: Store, check: bool = True) -> StudySpec:
    """Return the study of a TOML file with all its names resolved.

    With `check`, everything that is still to be trained is checked first (networks, image sizes,
    weights), and then the weights files are copied into the store.

    Raises SpecError with the nearest known name for an unknown one, StoreError if the faces are
    missing, WeightsError if weights are missing or do not fit, and DataError if the faces cannot
    be split as asked; all of them name the file.
    """
    files: dict[str, Path] = {}
    try:
        spec = resolve(
            read_spec(Study, read_toml(path), str(path)), store, path.parent, str(path), files
        )
        if check:
            require_classifiers(spec, files, store)
            for file in files.values():
                classifiers.adopt(file, store)
        return spec
    except UsageError as error:
        if str(error).startswith((str(path), "there must be a TOML file")):
            raise
        raise type(error)(f"{path}: {error}") from None


def recorded(path: Path, store: Store) -> str:
    """Return the run of a study file or, if the file as it is was never run, the run of its name.

    Where the two differ, the differences are printed to stderr. Raises StoreError if neither was
    ever run.
    """
    spec = read(path, store, check=False)
    named_run = store.aliases().get(spec.title)
    if store.done(spec.name):
        if named_run not in (None, spec.name):
            say(
                f"{path} is {spec.name}, but the name {spec.title} refers to {named_run}: "
                f"{differences(named_run, spec, store)}"
            )
        return spec.name
    if named_run is None:
        raise StoreError(
            f"the study {spec.title} has not been run in {store.root}; run it: mien study run "
            f"{path}"
        )
    say(
        f"{path} is not the study that was run as {spec.title}: "
        f"{differences(named_run, spec, store)}. The output below is of that run, {named_run}; "
        f"`mien study run {path}` runs the file as it is"
    )
    return named_run


def differences(run: str, study: StudySpec, store: Store, most: int = 4) -> str:
    """Return the fields in which `study` differs from that of a run, as `trials was 2, is 3`.

    At most `most` fields are listed; the rest are counted.
    """
    try:
        old, new = (_flat(spec) for spec in (store.run(run).spec, study.model_dump(mode="json")))
    except StoreError:
        return f"{run} cannot be read"
    names = [
        name
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name) and name != "stage"
    ]
    changes = [f"{name} was {_shown(old.get(name))}, is {_shown(new.get(name))}" for name in names]
    more = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*changes[:most], *more])


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, whose names are paths: classifiers.tiny.plain.epochs."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat


def _shown(value: Any) -> str:
    """Return a value for people: a list without brackets, and None as `not there`."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not there" if value is None else str(value)


def require_classifiers(study: StudySpec, files: dict[str, Path], store: Store) -> None:
    """Raise SpecError or WeightsError if a classifier that is still to be trained cannot be built.

    `files` maps the names that specs give to weights files to their paths.
    """
    specs = {
        f"{name}, {ablation}": spec
        for name, by_ablation in study.classifiers.items()
        for ablation, spec in by_ablation.items()
    }

    # The names of networks first: without them no plan can be made
    networks = {spec.name: spec.model_copy(update={"weights": "none"}) for spec in specs.values()}
    classifiers.check_all(networks)

    # Weights matter only to the trials that are not done yet
    if any(spec.weights != "none" for spec in specs.values()):
        todo = plan(study, store)
        untrained = [
            row
            for row in todo.rows
            if row.spec.name not in todo.done and not isinstance(row.spec.classifier, str)
        ]
        specs = {
            f"{row.classifier}, {row.ablation}": study.classifiers[row.classifier][row.ablation]
            for row in untrained
        }
    needed = {spec.weights for spec in specs.values()}
    classifiers.check_all(specs, {name: path for name, path in files.items() if name in needed})


def resolve(
    study: Study,
    store: Store,
    folder: Path = Path(),
    where: str = "study",
    files: dict[str, Path] | None = None,
) -> StudySpec:
    """Return the specification of `study` with all names resolved in `store`.

    Error messages begin with `where`. Paths of weights are relative to `folder`, or else to the
    current folder. The files are copied into the store or, if `files` is given, their paths are
    added to it under the names that specs give them.

    Raises SpecError, StoreError, WeightsError and DataError as `read` does.
    """
    weights_files: dict[str, Path] = {}

    # The name: an alias of another stage must not be overwritten
    require_alias(study.name)
    named_run = store.aliases().get(study.name, "study-")
    if not named_run.startswith("study-"):
        raise SpecError(
            f"{where}: name must not be an alias of another stage's run; '{study.name}' names "
            f"{named_run}. Choose another name"
        )

    # The faces, with their emotions mapped to the class set
    run = store.run(study.faces)
    if "index.parquet" not in run.manifest["files"]:
        raise SpecError(
            f"{where}: faces must name a run of faces; {run.name} is not one. `mien ls` lists the "
            "runs"
        )
    if study.class_set:
        folded = {"faces": run.name, "frames": "all", "classes": study.class_set}
        run = preprocess.run(read_spec(preprocess.PreprocessSpec, folded, where), store)
    faces = Faces.load(run.path)
    faces.require_real(f"{where}: the faces of a study")
    if len(faces.classes) < 2:
        raise DataError(
            f"{where}: the faces of a study must show at least two classes; they show only "
            f"{' '.join(faces.classes)}"
        )

    # The folds; splitting once raises the error of a split that is not possible
    folds = (
        study.folds
        if isinstance(study.folds, int)
        else len(set(faces.index[study.protocol]) - {""})
    )
    beyond = [fold for fold in study.only_folds if fold >= folds]
    if beyond:
        raise SpecError(f"{where}: only_folds must be from 0 to {folds - 1}; given: {beyond}")
    splits.split(faces, study.protocol, folds, 0, study.seed)

    spec = StudySpec(
        title=study.name,
        faces=run.name,
        protocol=study.protocol,
        folds=folds,
        tested_folds=(0,) if study.protocol == "frame" else study.only_folds or tuple(range(folds)),
        trials=study.trials,
        settings=study.settings,
        class_set=study.class_set,
        classes=faces.classes,
        ablations=study.ablations,
        inputs=_inputs(study, run, store, where),
        controls=study.controls,
        classifiers={
            name: _classifier(study, name, store, folder, where, weights_files)
            for name in study.classifiers
        },
        generator=_generator(study, run.name, where),
        generate=study.generate,
        counts=study.counts,
        seed=study.seed,
    )

    # Errors in [generator], [generate] and counts are raised here, before anything is copied
    _databases(spec, faces, where)
    if files is None:
        for path in weights_files.values():
            classifiers.adopt(path, store)
    else:
        files |= weights_files
    return spec


def _inputs(study: Study, run: Run, store: Store, where: str) -> dict[str, Shown]:
    """Return the input of each ablation that has one, and make its run of faces."""
    inputs = {}
    for name in (name for name in study.ablations if "input" in study.ablation.get(name, {})):
        kinds = study.ablation[name]["input"]
        faces = views.view(run, kinds, store, f"{where}: ablation.{name}")
        inputs[name] = Shown(input=tuple(kinds), faces=faces.name)
    return inputs


def _classifier(
    study: Study, name: str, store: Store, folder: Path, where: str, files: dict[str, Path]
) -> dict[str, ClassifierSpec]:
    """Return the specification of one classifier under each ablation.

    The fields of [ablation.NAME] override those of [classifier.NAME], which override [classifier].
    """
    # A table with the name of a field, such as [classifier.augment], is common to all classifiers
    fields = ClassifierSpec.model_fields
    by_name = {
        key: value
        for key, value in study.classifier.items()
        if isinstance(value, dict) and key not in fields
    }
    for table in by_name:
        if table not in study.classifiers:
            raise SpecError(
                f"{where}: [classifier.{table}] belongs to no "
                f"classifier.{nearest(table, list(study.classifiers))} "
                f"The study has: {', '.join(study.classifiers)}"
            )
    common = {key: value for key, value in study.classifier.items() if key not in by_name}
    data = {"name": name, **common, **by_name.get(name, {})}

    # Each ablation changes these fields; its input is part of the study, not of the classifier
    tables = {**ABLATIONS, **study.ablation}
    changes = {
        ablation: {key: value for key, value in tables[ablation].items() if key != "input"}
        for ablation in study.ablations
    }
    return {
        ablation: _one(
            _by_content({**data, **change}, folder, files),
            store,
            f"{where}: classifier.{name}, {ablation}",
            files,
        )
        for ablation, change in changes.items()
    }


def _by_content(data: dict[str, Any], folder: Path, files: dict[str, Path]) -> dict[str, Any]:
    """Return the fields of a classifier, with a path of weights replaced by the file's digest.

    The path is added to `files` under that digest.
    """
    file_name = data.get("weights", "")
    if (
        not isinstance(file_name, str)
        or file_name in ("", "imagenet", "none")
        or file_name.startswith("file:")
    ):
        return data
    path = weights.find(Path(file_name), (folder, Path()))
    digest = classifiers.name_file(path)
    files[digest] = path
    return {**data, "weights": digest}


def _one(data: dict[str, Any], store: Store, where: str, files: dict[str, Path]) -> ClassifierSpec:
    """Return the specification of one classifier.

    Raises WeightsError if its weights file is neither in `files` nor in the store.
    """
    spec = read_spec(ClassifierSpec, data, where)
    digest = spec.weights.removeprefix("file:")
    if spec.weights.startswith("file:") and spec.weights not in files:
        run_name = classifiers.WeightsSpec(sha256=digest).name
        if not store.done(run_name):
            raise WeightsError(
                f"{where}: weights must be a file in the store, and none there has the sha256 "
                f"{digest}; give the path of the file, and it is copied there"
            )
        files[spec.weights] = store.run(run_name).file("weights")
    return spec


def _generator(study: Study, faces: str, where: str) -> dict[str, Any]:
    """Return the fields of the generator's TrainSpec, without the faces that it is trained on."""
    changes = {"seed": study.seed, **study.generator}
    preset = changes.pop("preset", "default")
    try:
        spec = generators.preset(preset, faces, changes)
    except SpecError as error:
        raise SpecError(f"{where}: generator: {error}") from None
    return {name: value for name, value in spec.model_dump(mode="json").items() if name != "faces"}


# What a study consists of


def needs_database(study: StudySpec) -> bool:
    """Whether any setting uses synthetic faces."""
    return any(source != "real" for name in study.settings for source in SETTINGS[name])


def databases(study: StudySpec, store: Store) -> list[Database]:
    """Return the synthetic database of each fold: one for all folds by frame, none if unused."""
    return _databases(study, Faces.load(store.run(study.faces).path), study.title)


def _databases(study: StudySpec, faces: Faces, where: str) -> list[Database]:
    if not needs_database(study):
        return []
    if study.protocol == "frame":
        everything = np.ones(len(faces), dtype=bool)
        return [_database(study, faces, -1, None, study.faces, everything, where)]
    by_fold = []
    for fold in study.tested_folds:
        train_side = splits.split(faces, study.protocol, study.folds, fold, study.seed).train
        split = splits.SplitSpec(
            faces=study.faces,
            by=study.protocol,
            folds=study.folds,
            number=fold,
            side="train",
            seed=study.seed,
        )
        by_fold.append(_database(study, faces, fold, split, split.name, train_side, where))
    return by_fold


def _database(
    study: StudySpec,
    faces: Faces,
    fold: int,
    split: splits.SplitSpec | None,
    parent: str,
    side: Bool[np.ndarray, " n"],
    where: str,
) -> Database:
    train = generators.read_training({**study.generator, "faces": parent}, f"{where}: generator")

    # What is generated, relative to the images of each class on the training side
    images = Counter(faces.index.loc[side, "emotion"].tolist())
    on_side = {name: images[name] for name in EMOTIONS if name in images}
    fields = {
        "sampler": generators.GENERATORS[train.kind].sampler,
        "seed": study.seed,
        **study.generate,
        "generator": train.name,
        "counts": _counts(study.counts, on_side, faces.classes, where),
    }
    generate = read_spec(generators.GenerateSpec, fields, f"{where}: generate")

    # What only the kind of generator and the counts together decide
    if (generate.sampler == "direct") != (generators.GENERATORS[train.kind].sampler == "direct"):
        raise SpecError(
            f"{where}: generate: a {train.kind} generator cannot use the sampler "
            f"'{generate.sampler}'; omit sampler"
        )
    total = sum(generate.counts.values())
    if total < HELD_OUT:
        raise SpecError(
            f"{where}: counts must make {many(HELD_OUT, 'image')} or more, because one in "
            f"{HELD_OUT} is kept for tests; '{study.counts}' makes {total}"
            f"{'' if fold < 0 else f' in fold {fold}'}"
        )

    copies = (
        _copies(study, fold, split, parent, generate.counts)
        if "copycat" in study.controls
        else None
    )
    return Database(fold, split, train, generate, copies)


def _copies(
    study: StudySpec, fold: int, split: splits.SplitSpec | None, parent: str, counts: dict[str, int]
) -> Database:
    """Return the database of a copycat that has the training images of the fold's generator."""
    train = generators.CopycatSpec(faces=parent)
    fields = {"generator": train.name, "counts": counts, "seed": study.seed, "sampler": "direct"}
    return Database(fold, split, train, generators.GenerateSpec.model_validate(fields))


def _run_names(database: Database) -> list[str]:
    """Return the runs of a database, in the order in which they are made."""
    copies = _run_names(database.copycat) if database.copycat else []
    return [database.train.name, database.generate.name, *copies]


def _counts(
    text: str, on_side: dict[str, int], classes: tuple[str, ...], where: str
) -> dict[str, int]:
    """Return how many images of each class are generated; `on_side` counts the training side.

    A class of the study that a fold's training side lacks is omitted: no generator of that fold
    can know it.
    """

    def like(name: str) -> dict[str, int]:
        if name:
            raise UsageError(
                "counts must be 'like' in a study, for as many as the training side has; given: "
                f"'like:{name}'"
            )
        return dict(on_side)

    try:
        counts = generators.parse_counts(
            text, like, list(on_side) if text.startswith("balanced:") else classes
        )
    except UsageError as error:
        message = str(error).replace(" 'like:DATASET',", "")
        raise SpecError(
            f"{where}: {message}. 'like' is as many of each class as the training side has"
        ) from None
    return {name: count for name, count in counts.items() if name in on_side}


def trials(study: StudySpec, store: Store) -> list[TrialSpec]:
    """Return the trials of a study, in the order in which they are run."""
    return [row.spec for row in rows(study, databases(study, store))]


def rows(study: StudySpec, made: list[Database]) -> list[Row]:
    """Return the trials of a study with their positions in its table, given its databases."""
    return [
        Row(
            kind.classifier,
            kind.ablation,
            kind.control,
            trial,
            fold,
            _trial(study, made, kind, trial, fold),
        )
        for fold in study.tested_folds
        for trial in range(study.trials)
        for kind in _kinds(study)
    ]


@dataclass(frozen=True)
class Kind:
    """The fields that all trials and folds of one position in the table share."""

    classifier: str
    ablation: str
    control: str
    train: Training
    tests: tuple[Source, ...]


def _kinds(study: StudySpec) -> list[Kind]:
    """Return the trainings of one trial of one fold: those of the cells, then of the controls."""
    tests: dict[Training, list[Source]] = {}
    for setting in study.settings:
        train, test = SETTINGS[setting]
        tests.setdefault(train, []).append(test)
    tests_of: dict[Training, tuple[Source, ...]] = {
        train: tuple(dict.fromkeys(sources)) for train, sources in tests.items()
    }
    cells = [
        Kind(name, ablation, "", train, (*sources, *_copied_tests(study, ablation, train, sources)))
        for name in study.classifiers
        for ablation in study.ablations
        for train, sources in tests_of.items()
    ]
    baselines = [
        Kind(control, "", control, train, sources)
        for control in study.controls
        if control in BASELINES
        for train, sources in tests_of.items()
    ]
    return [*cells, *baselines, *_permuted_kinds(study), *_copycat_kinds(study, tests_of)]


def _copied_tests(
    study: StudySpec, ablation: str, train: Training, tests: tuple[Source, ...]
) -> tuple[Source, ...]:
    """Return the copycat as a further test of a training on real faces.

    It is the control of the setting real_to_synthetic.
    """
    wanted = "copycat" in study.controls and ablation == study.ablations[0]
    return ("copycat",) if wanted and train == "real" and "synthetic" in tests else ()


def _permuted_kinds(study: StudySpec) -> list[Kind]:
    if "permuted" not in study.controls:
        return []
    return [
        Kind(name, ablation, "permuted", "real", ("real",))
        for name, ablation in _under_control(study)
    ]


def _copycat_kinds(study: StudySpec, tests_of: dict[Training, tuple[Source, ...]]) -> list[Kind]:
    if "copycat" not in study.controls:
        return []
    return [
        Kind(
            name,
            ablation,
            "copycat",
            COPIES[train],
            tuple(COPIES.get(test, test) for test in sources),
        )
        for name, ablation in _under_control(study)
        for train, sources in tests_of.items()
        if train in COPIES
    ]


def _under_control(study: StudySpec) -> list[tuple[str, str]]:
    """Return who is trained on permuted labels and on copies, as pairs of name and ablation.

    They are a nearest neighbour, and each classifier in the study's first ablation.
    """
    return [("nearest", ""), *((name, study.ablations[0]) for name in study.classifiers)]


def _trial(
    study: StudySpec, databases: list[Database], kind: Kind, trial: int, fold: int
) -> TrialSpec:
    # The images: the fold's database is named only where the training or a test uses it
    by_frame = study.protocol == "frame"
    number = -1 if by_frame else fold
    database = next((database for database in databases if database.fold == number), None)
    copycat = database.copycat if database else None
    used = {*PARTS[kind.train], *kind.tests}
    faces = study.inputs[kind.ablation].faces if kind.ablation in study.inputs else study.faces

    # The classifier; without randomness all trials are one and the same run
    baseline: Baseline | None = next((name for name in BASELINES if name == kind.classifier), None)
    repetition = 0 if _fixed(study, kind.classifier, kind.control) else trial
    return TrialSpec(
        faces=faces,
        synthetic=database.generate.name if database and "synthetic" in used else "",
        copycat=copycat.generate.name if copycat and "copycat" in used else "",
        by=study.protocol,
        folds=study.folds,
        number=fold,
        split_seed=seed_of("study", study.seed, "trial", trial) if by_frame else study.seed,
        train=kind.train,
        tests=kind.tests,
        classifier=baseline or study.classifiers[kind.classifier][kind.ablation],
        permuted=seed_of("study", study.seed, "permuted", trial)
        if kind.control == "permuted"
        else None,
        classes=study.classes,
        trial=repetition,
        seed=seed_of("study", study.seed, "trial", repetition, "fold", fold),
    )


def _fixed(study: StudySpec, classifier: str, control: str) -> bool:
    """Whether a trial has no randomness, so that one run serves as all trials."""
    return classifier in BASELINES and study.protocol != "frame" and control != "permuted"


# The whole


def plan(study: StudySpec, store: Store) -> Plan:
    """Return the databases and trials of a study, and which runs are done or failed.

    Nothing is made. A run whose files were altered after it was made counts as failed, and the
    alteration is its error.
    """
    all_databases = databases(study, store)
    table = rows(study, all_databases)
    names = dict.fromkeys(
        [name for database in all_databases for name in _run_names(database)]
        + [row.spec.name for row in table]
    )
    altered = {name: text for name in names if (text := store.altered(name))}
    done = frozenset(name for name in names if store.done(name) and name not in altered)
    failed = {
        name: text
        for name in names
        if name not in done and (text := altered.get(name) or failure(store, name))
    }
    return Plan(study, tuple(all_databases), tuple(table), done, failed)


def describe(plan: Plan) -> str:
    """Return the cells, runs, frozen layers, counts and errors of a plan, as lines of text."""
    study, databases = plan.study, plan.databases

    # The first line: how many cells, and the axes that they are the product of
    axes = {
        "settings": study.settings,
        "classifiers": study.classifiers,
        "ablations": study.ablations,
    }
    sizes = {**{name: len(axis) for name, axis in axes.items()}, "trials": study.trials}
    cells = math.prod(sizes.values())
    folds = (
        ""
        if study.protocol == "frame"
        else f", folds tested: {len(study.tested_folds)} of {study.folds}"
    )
    product = " x ".join(many(n, name.removesuffix("s")) for name, n in sizes.items())
    lines = [
        f"{study.title}: {many(cells, 'cell')} ({product}), by {study.protocol}{folds}, "
        f"{many(len(study.classes), 'class')}"
    ]

    # A line per kind of run; a control without randomness is one run for all trials
    kinds = {
        "generator": [database.train.name for database in databases],
        "database": [database.generate.name for database in databases],
        "copycat database": [
            database.copycat.generate.name for database in databases if database.copycat
        ],
        "training of classifiers": [row.spec.name for row in plan.rows if not row.control],
        "trial of controls": [row.spec.name for row in plan.rows if row.control],
    }
    for kind, run_names in kinds.items():
        names = dict.fromkeys(run_names)
        done, failed = (sum(name in group for name in names) for group in (plan.done, plan.failed))
        if names or not kind.startswith(("copycat", "trial ")):
            noun, _, owner = kind.partition(" of ")
            label = many(len(names), noun).partition(" ")[2] + (f" of {owner}" if owner else "")
            lines.append(
                f"  {len(names):>5} {label:<26}{done:>5} done"
                + (f", {failed} failed" if failed else "")
            )

    # What the settings lead to: frozen layers, synthetic images, and classes without any
    lines += [
        f"  {layers['classifier']}, {layers['ablation']}: frozen are {layers['text']}"
        for layers in frozen(study)
    ]
    lines += [f"  synthetic images: {text}" for text in _drawn(plan)]
    lines += [f"  no synthetic {text}, with counts = '{study.counts}'" for text in _lacking(plan)]

    # Each error once, with the number of runs that ended with it
    errors = Counter(text.removeprefix(NOT_BEGUN) for text in plan.failed.values())
    lines += [
        f"  failed: {text}" + (f" ({many(n, 'run')})" if n > 1 else "")
        for text, n in errors.items()
    ]
    return "\n".join(lines)


def _drawn(plan: Plan) -> list[str]:
    """Return the number of synthetic images per class, and the folds where the numbers differ."""
    folds_of: dict[str, list[int]] = {}
    for database in plan.databases:
        counts = database.generate.counts
        text = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        folds_of.setdefault(f"{sum(counts.values()):,} ({text})", []).append(database.fold)
    if len(folds_of) > MOST_FOLDS:
        totals = [sum(database.generate.counts.values()) for database in plan.databases]
        return [
            f"{min(totals):,} to {max(totals):,} in each fold, with counts = '{plan.study.counts}'"
        ]
    everywhere = len(folds_of) == 1
    return [
        text if everywhere else f"{text} in {_in_folds(folds)}" for text, folds in folds_of.items()
    ]


def _in_folds(folds: Sequence[int]) -> str:
    return f"{'fold' if len(folds) == 1 else 'folds'} {', '.join(map(str, folds))}"


def _lacking(plan: Plan) -> list[str]:
    """Return which classes have no synthetic faces, and in which folds."""
    folds_of: dict[str, list[int]] = {}
    for database in plan.databases:
        counts = database.generate.counts
        classes = ", ".join(name for name in plan.study.classes if name not in counts)
        folds_of.setdefault(classes, []).append(database.fold)
    return [
        classes + ("" if -1 in folds else f" in {_in_folds(folds)}")
        for classes, folds in folds_of.items()
        if classes
    ]


def frozen(study: StudySpec) -> list[dict[str, str]]:
    """Return the frozen layers of each classifier and ablation that freezes any."""
    table = []
    for name, by_ablation in study.classifiers.items():
        for ablation, spec in by_ablation.items():
            layers = classifiers.frozen(spec, len(study.classes))
            if layers is not None:
                table.append({"classifier": name, "ablation": ablation, "text": layers.text})
    return table


Only = dict[str, frozenset[str]]
"""A selection of trials: the allowed names by axis (setting, classifier, ablation, control, trial,
fold). An axis that is absent allows every name.
"""

AXES = ("setting", "classifier", "ablation", "control", "trial", "fold")


def parse_only(texts: Sequence[str], study: StudySpec) -> Only:
    """Return the selection of `--only` texts such as setting=real_to_real,classifier=vgg16.

    An axis that is given twice allows either name. Trials count from 1, folds from 0;
    control=none is the cells without controls.

    Raises UsageError for an axis or a name that the study does not have.
    """
    # The names that each axis of this study has
    known = {
        "setting": list(study.settings),
        "classifier": [*study.classifiers, *(name for name in BASELINES if name in study.controls)],
        "ablation": list(study.ablations),
        "control": ["none", *study.controls],
        "trial": [str(number + 1) for number in range(study.trials)],
        "fold": [str(fold) for fold in study.tested_folds],
    }

    # Each text is a list of axis=name
    only: dict[str, set[str]] = {}
    for item in (item.strip() for text in texts for item in text.split(",")):
        axis, equals, name = (piece.strip() for piece in item.partition("="))
        if not equals or axis not in known:
            raise UsageError(
                "--only must be like setting=real_to_real,classifier=vgg16 with "
                f"{', '.join(AXES)}; given: '{item}'."
                f"{nearest(axis, list(AXES))}"
            )
        if name not in known[axis]:
            # A similar number is no help, so there is no hint for trials and folds
            hint = "" if axis in ("trial", "fold") else nearest(name, known[axis])
            raise UsageError(
                f"--only {axis}={name}: the study has {', '.join(known[axis]) or 'none'}.{hint}"
            )
        only.setdefault(axis, set()).add(name)
    return {axis: frozenset(names) for axis, names in only.items()}


def chosen(rows: Sequence[Row], only: Only) -> list[Row]:
    """Return the rows that `only` selects; a training belongs to every setting that it serves.

    Raises UsageError if there are rows but none is selected.
    """
    selected = [row for row in rows if _within(row, only)]
    if rows and not selected:
        # Say for each axis which names it could have if the others stay as they are
        choices = []
        for axis in only:
            others = {other: names for other, names in only.items() if other != axis}
            names = [
                name for row in rows if _within(row, others) for name in sorted(_place(row)[axis])
            ]
            choices.append(
                f"with {_only_text(others)} there is "
                f"{axis}={' or '.join(dict.fromkeys(names)) or 'nothing'}"
            )
        raise UsageError(f"--only {_only_text(only)} selects no trial: {'; '.join(choices)}")
    return selected


def _only_text(only: Only) -> str:
    """Return a selection as it is written after `--only`."""
    return ",".join(f"{axis}={name}" for axis, names in only.items() for name in sorted(names))


def _within(row: Row, only: Only) -> bool:
    return all(_place(row)[axis] & names for axis, names in only.items())


def explain(rows: Sequence[Row], only: Only) -> str:
    """Return why a selection of real settings needs generators, or "" where it needs none."""
    settings = only.get("setting", frozenset())
    if not settings or any(source != "real" for name in settings for source in SETTINGS[name]):
        return ""
    if not any(row.spec.synthetic or row.spec.copycat for row in rows):
        return ""
    return (
        f"a trial is one training with all its tests: those of {', '.join(sorted(settings))} are "
        "also tested on synthetic faces, for the study's other settings, so generators and "
        "databases come first"
    )


def _place(row: Row) -> dict[str, frozenset[str]]:
    settings = {
        name
        for name, (train, test) in SETTINGS.items()
        if (row.spec.train in (train, COPIES.get(train)))
        and (test in row.spec.tests or COPIES.get(test) in row.spec.tests)
    }
    return {
        "setting": frozenset(settings),
        "classifier": frozenset({row.classifier}),
        "ablation": frozenset({row.ablation}),
        "control": frozenset({row.control or "none"}),
        "trial": frozenset({str(row.trial + 1)}),
        "fold": frozenset({str(row.fold)}),
    }


def run(
    study: StudySpec,
    store: Store,
    *,
    device: str = "auto",
    only: Only | None = None,
    engine: Engine | None = None,
) -> Run:
    """Make the missing runs of a study, or of the trials in `only`; return the study's run.

    The study's run lists all its trials. Each trial starts when its own generator is ready. A
    failure is recorded with its error and the other trials continue; the next call tries it
    again. `engine` says where the work is done; None is this process.

    Raises TrialsFailed at the end if anything failed, and SpecError or WeightsError at once if a
    classifier cannot be built.
    """
    # Write the list of all trials, and move the study's name to it
    todo = plan(study, store)
    selected = chosen(todo.rows, only or {})
    before = store.aliases().get(study.title, study.name)
    study_run = store.make(study, lambda out, scratch: _write_study(todo, out), alias=study.title)
    if before != study.name:
        say(
            f"the name {study.title} referred to {before} and now refers to {study.name}: "
            f"{differences(before, study, store)}. `mien report {before}` still shows the earlier "
            "study"
        )

    # Only what is missing is made
    wanted = {row.spec.name: row for row in selected}
    missing = [row for name, row in wanted.items() if name not in todo.done]
    if not missing:
        scope = " selected by --only" if only else ""
        say(f"{study.title}: {many(len(wanted), 'trial')}{scope}, all done")
        return study_run

    # Check the classifiers before hours of work, and say what may surprise
    _check(missing)
    reason = explain(missing, only or {})
    if reason:
        say(reason)
    for layers in frozen(study):
        say(f"{layers['classifier']}, {layers['ablation']}: frozen are {layers['text']}")

    # Remove the notes of earlier failures, so that these runs are tried again
    engine = engine or Local(0)
    todo_jobs = jobs(todo, missing, store, device, engine.slots)
    for job in todo_jobs:
        (store.root / "work" / job.run / FAILED).unlink(missing_ok=True)

    failed = work(todo_jobs, store, engine)
    if failed:
        first = next(iter(failed.values()))
        trials_failed = sum(row.spec.name in failed for row in missing)
        raise TrialsFailed(
            f"{trials_failed} of {many(len(wanted), 'trial')} of {study.title} failed, "
            f"{len(wanted) - trials_failed} done; the first error: {first}. The report "
            "lists them, and the same command tries them again"
        )
    return study_run


def require_weights(missing: Sequence[Row], fetch: bool = False) -> None:
    """Raise WeightsError, listing the missing files, unless the ImageNet weights are available.

    With `fetch` they are downloaded; without it the hub is only asked whether it has them.
    """
    specs = {(row.classifier, row.ablation): row.spec.classifier for row in missing}
    classifiers.require_hub([spec for spec in specs.values() if not isinstance(spec, str)], fetch)


def _check(missing: Sequence[Row]) -> None:
    """Raise SpecError or WeightsError if a classifier of these rows cannot be built."""
    specs = {f"{row.classifier}, {row.ablation}": row.spec.classifier for row in missing}
    classifiers.check_all({name: spec for name, spec in specs.items() if not isinstance(spec, str)})
    require_weights(missing, fetch=True)


def jobs(todo: Plan, missing: Sequence[Row], store: Store, device: str, slots: int) -> list[Job]:
    """Return the jobs of the missing trials and of all that they need.

    Trainings of generators come first, then databases, then trials.
    """
    needed = {
        name for row in missing for name in (row.spec.synthetic, row.spec.copycat)
    } - todo.done

    # The generator and the database of each fold, and those of its copycat
    training_jobs, database_jobs = [], []
    for database in todo.databases:
        fold = "" if database.fold < 0 else f", fold {database.fold}"
        split = database.split.model_dump(mode="json") if database.split else None
        for prefix, source in (("", database), ("copycat ", database.copycat)):
            if source is not None and source.generate.name in needed:
                arguments = {
                    "spec": source.train.model_dump(mode="json"),
                    "split": split,
                    "device": device,
                }
                label = f"{prefix}generator{fold}"
                training_jobs.append(Job(source.train.name, label, _make_generator, arguments))
                database_jobs += [
                    replace(job, label=f"{prefix}{job.label}{fold}")
                    for job in generators.parts(source.generate, store, device, slots)
                ]

    trial_jobs = [_trial_job(row, todo.study, device) for row in missing]
    all_jobs = [*training_jobs, *database_jobs, *trial_jobs]
    return [job for job in all_jobs if job.run not in todo.done]


def _make_generator(
    store: Store, spec: dict[str, Any], split: dict[str, Any] | None, device: str
) -> str:
    if split is not None:
        splits.run(splits.SplitSpec.model_validate(split), store)
    generators.train(generators.read_training(spec, "generator"), store, device=device)
    return "trained"


def _trial_job(row: Row, study: StudySpec, device: str) -> Job:
    # The label, as people read it: vgg16 augment trained on real and synthetic, trial 2, fold 0
    trial = "" if _fixed(study, row.classifier, row.control) else f", trial {row.trial + 1}"
    fold = "" if study.protocol == "frame" else f", fold {row.fold}"
    kind = row.ablation if len(study.ablations) > 1 else ""
    kind += " with labels permuted" if row.control == "permuted" else ""
    label = (
        f"{f'{row.classifier} {kind.strip()}'.strip()} trained on "
        f"{row.spec.train.replace('_', ' and ')}{trial}{fold}"
    )

    # The databases must exist before the trial starts
    after = tuple(name for name in (row.spec.synthetic, row.spec.copycat) if name)
    return Job(
        row.spec.name,
        label,
        _make_trial,
        {"spec": row.spec.model_dump(mode="json"), "device": device},
        after,
    )


def _make_trial(store: Store, spec: dict[str, Any], device: str) -> str:
    records = run_trial(TrialSpec.model_validate(spec), store, device).json("records.json")
    lead = [record for record in records if record["metric"].endswith(LEAD)]
    return "accuracy on " + ", ".join(
        f"{record['metric'].split('/')[0]} {record['value']:.1%} of {record['n']:,}"
        for record in lead
    )


def _write_study(plan: Plan, out: Path) -> None:
    """Write plan.json and summary.json: all that a report, which does not import torch, needs."""
    study = plan.study
    settings = {
        name: dict(zip(("train", "test"), SETTINGS[name], strict=True)) for name in study.settings
    }

    # The runs of each fold's database
    databases = [
        {
            "fold": database.fold,
            "split": database.split.name if database.split else "",
            "generator": database.train.name,
            "database": database.generate.name,
            "copycat": database.copycat.generate.name if database.copycat else "",
            "counts": database.generate.counts,
        }
        for database in plan.databases
    ]

    # The run of each trial; `note` is the file with its error, if it failed
    trials = [
        {
            "run": row.spec.name,
            "note": f"work/{row.spec.name}/{FAILED}",
            "classifier": row.classifier,
            "ablation": row.ablation,
            "control": row.control,
            "trial": row.trial,
            "fold": row.fold,
            "train": row.spec.train,
            "tests": row.spec.tests,
            "synthetic": row.spec.synthetic,
        }
        for row in plan.rows
    ]

    # Classifiers are listed in the order of the file, which a spec on the disk does not keep
    table = {
        "settings": settings,
        "classifiers": list(study.classifiers),
        "ablations": list(study.ablations),
        "controls": list(study.controls),
        "frozen": frozen(study),
        "databases": databases,
        "trials": trials,
    }
    write_json(out / "plan.json", table)
    write_json(out / "summary.json", {"holds": describe(plan).splitlines()[0]})
