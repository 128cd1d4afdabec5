"""Studies: classifiers trained and tested on real and synthetic faces, in every setting, honestly.

A study is a TOML file. A cell is a setting, a classifier, an ablation and a trial. A trial is one
training, tested on every test set that its settings name, so settings that share a training set
share the trial. All of it goes through the store: what is done is never done again, a failed trial
is a row with its error, and running a study again makes what is missing.

By clip, subject or dataset each fold has a generator of its own, trained on that fold's training
side alone, and no trial is tested on a real image before `splits.require_unseen` has shown that
neither classifier nor generator saw its like. By frame, as in the preprint, one generator sees
everything; reports say so.

Controls go through the same splits, tests and scores as the cells that they stand beside.
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
        "counts": "counts = must stand above all tables, where it holds for every fold",
        "generator": "a study trains a generator of its own for each fold, as [generator] says",
    },
    "generator": {
        "faces": "generators are trained on the study's own faces, on each fold's training side"
    },
}
"""What a table must not say, because the study says it: by table, field, and why."""


class Study(Strict):
    """A study as its file says it.

    `faces` is a run or alias, `class_set` one of faces.CLASS_SETS to fold its emotions to (none by
    default). By `clip`, `subject` or `dataset`, `folds` parts are tested one after the other (or
    only those in `only_folds`), and `trials` are repetitions with other seeds; folds = "subjects"
    leaves one subject out at a time, "datasets" one dataset, which is what happens by dataset if
    nothing else is said. By `frame` each trial has a random split of its own, of which one part in
    `folds` is tested. `classifiers` are names; a table [classifier] holds what is common to them,
    [classifier.NAME] what is special to one. Each is trained once for each of `ablations`: plain,
    augment, freeze30, or one that a table [ablation.NAME] defines by fields of ClassifierSpec, and
    by `input`, a list of inputs.INPUTS that the same images are shown as. [generator] is a `preset`
    with changes, [generate] how images are drawn from it, and `counts` how many: like (as the
    training side has), preprint, balanced:N (N in all, shared equally), or happiness=100,fear=50,
    which behind one of the others changes single classes: like,happiness=40. `controls` are what
    the cells have to stand above.
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
                f"folds = '{self.folds}' must stand with protocol '{protocol}', which is "
                f"'{self.protocol}'"
            )
        if self.only_folds and self.protocol == "frame":
            raise ValueError(
                "only_folds must stay away by frame: there each trial has a split of its own"
            )
        wrong = [
            one
            for one in self.only_folds
            if one < 0 or (isinstance(self.folds, int) and one >= self.folds)
        ]
        if wrong:
            most = (
                self.folds - 1 if isinstance(self.folds, int) else f"the number of {self.folds} - 1"
            )
            raise ValueError(f"only_folds must be within 0 to {most}; given: {wrong}")
        for name in ("settings", "classifiers", "ablations", "controls", "only_folds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must name each one once")
        return self

    @model_validator(mode="after")
    def _names_mean_one_thing(self) -> "Study":
        if self.class_set and self.class_set not in CLASS_SETS:
            hint = nearest(self.class_set, list(CLASS_SETS))
            raise ValueError(
                f"class_set must be one of {', '.join(CLASS_SETS)}, or stay away.{hint}"
            )
        known = [*ABLATIONS, *self.ablation]
        for name in self.ablations:
            if name not in known:
                raise ValueError(
                    f"there is no ablation '{name}'.{nearest(name, known)} There are: "
                    f"{', '.join(known)}"
                )
        for name, fields in self.ablation.items():
            if name in ABLATIONS:
                raise ValueError(
                    f"[ablation.{name}] must have a name of its own: {name} means the same in "
                    "every study; call it "
                    f"my-{name}, there and in ablations"
                )
            if "name" in fields:
                raise ValueError(
                    f"[ablation.{name}] must not change the network, and has name = "
                    f"{fields['name']!r}; a network of "
                    "its own belongs in classifiers, with a table [classifier.NAME]"
                )
        shown = [name for name in self.ablations if "input" in self.ablation.get(name, {})]
        made = [name for name in self.settings if set(SETTINGS[name]) != {"real"}]
        if shown and made:
            raise ValueError(
                f"the ablation {shown[0]} has an input of its own and must stand with "
                "real_to_real alone, since nobody "
                f"drew synthetic faces of it for {made[0]}; for these, make a study of a run of "
                "that input "
                "(`mien preprocess --input`)"
            )
        for table, idle in MADE_HERE.items():
            for name in (name for name in getattr(self, table) if name in idle):
                raise ValueError(
                    f"[{table}] must not have {name}, and has {name} = "
                    f"{getattr(self, table)[name]!r}; {idle[name]}"
                )
        unused = sorted(set(self.ablation) - set(self.ablations))
        if unused:
            raise ValueError(
                f"[ablation.{unused[0]}] belongs to no ablation; the study has "
                f"{', '.join(self.ablations)}"
            )
        taken = sorted(set(self.classifiers) & set(BASELINES))
        if taken:
            raise ValueError(f"{taken[0]} must stand among controls, not classifiers")
        if "permuted" in self.controls and "real_to_real" not in self.settings:
            raise ValueError(
                "the control 'permuted' must stand with the setting real_to_real, which is not "
                "there"
            )
        if "copycat" in self.controls and not any(
            set(SETTINGS[name]) & set(COPIES) for name in self.settings
        ):
            raise ValueError(
                "the control 'copycat' must stand with a setting that uses synthetic faces"
            )
        return self


class Shown(Strict):
    """What an ablation shows of the study's images: `input`, which the run `faces` holds."""

    input: tuple[str, ...]
    faces: str


class StudySpec(Spec):
    """A study with everything that it depends on: its run holds the list of its trials."""

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


MOST_FOLDS = 3  # different counts that a plan tells fold by fold


@dataclass(frozen=True)
class Database:
    """How the synthetic database of one fold comes about; `fold` is -1 where one generator serves
    all.

    `copycat` is how the control does that takes the generator's place.
    """

    fold: int
    split: splits.SplitSpec | None
    train: generators.GeneratorSpec
    generate: generators.GenerateSpec
    copycat: "Database | None" = None


@dataclass(frozen=True)
class Row:
    """A trial with its place in the study's table; `control` is empty for the cells themselves."""

    classifier: str
    ablation: str
    control: str
    trial: int
    fold: int
    spec: TrialSpec


@dataclass(frozen=True)
class Plan:
    """What a study takes: its databases and trials, and which runs are there already or failed
    (with their error).
    """

    study: StudySpec
    databases: tuple[Database, ...]
    rows: tuple[Row, ...]
    done: frozenset[str]
    failed: dict[str, str]

    @property
    def runs(self) -> list[str]:
        """All runs that it takes, in the order in which they are made."""
        names = [name for one in self.databases for name in _run_names(one)]
        return list(dict.fromkeys([*names, *(row.spec.name for row in self.rows)]))


# Reading


def read(path: Path, store: Store, check: bool = True) -> StudySpec:
    """Return the study of a TOML file with all its names resolved; weights files are copied into
    the store.

    With `check` all that is still to be trained is looked at before anything is copied: networks,
    the sizes of their images, weights.

    Raises SpecError with the nearest known name for one that is not known, StoreError if the faces
    are not there, WeightsError if weights are not or do not fit, DataError if the faces cannot be
    split like that; all of them name the file.
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
    """Return the run of a study file, or, if that was not run as it is, the run that its name
    stands for.

    Where the two are not the same, it says so on stderr, with what differs. Raises StoreError if
    neither was ever run.
    """
    spec = read(path, store, check=False)
    named = store.aliases().get(spec.title)
    if store.done(spec.name):
        if named not in (None, spec.name):
            say(
                f"{path} is {spec.name}; the name {spec.title} stands for {named}: "
                f"{differences(named, spec, store)}"
            )
        return spec.name
    if named is None:
        raise StoreError(
            f"the study {spec.title} has not been run in {store.root}; run it: mien study run "
            f"{path}"
        )
    say(
        f"{path} is not the study that was run as {spec.title}: "
        f"{differences(named, spec, store)}. What follows is of "
        f"that one, {named}; `mien study run {path}` runs the file as it is"
    )
    return named


def differences(run: str, study: StudySpec, store: Store, most: int = 4) -> str:
    """Say in which fields the study of a run differs from another, as `trials was 2, is 3`."""
    try:
        old, new = (_flat(one) for one in (store.run(run).spec, study.model_dump(mode="json")))
    except StoreError:
        return f"{run} cannot be read"
    names = [
        name
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name) and name != "stage"
    ]
    found = [f"{name} was {_shown(old.get(name))}, is {_shown(new.get(name))}" for name in names]
    return "; ".join(
        [*found[:most], *([f"and {len(found) - most} more"] if len(found) > most else [])]
    )


def _flat(data: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested tables as one, whose names are paths: classifiers.tiny.plain.epochs."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= (
            _flat(value, f"{before}{name}.")
            if isinstance(value, dict)
            else {f"{before}{name}": value}
        )
    return found


def _shown(value: Any) -> str:
    """Return a value in a few words: lists without brackets, nothing as such."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not there" if value is None else str(value)


def require_classifiers(study: StudySpec, files: dict[str, Path], store: Store) -> None:
    """Raise SpecError or WeightsError if a classifier that is still to be trained cannot be built.

    `files` are the files of weights, by what specs call them.
    """
    kinds = {
        f"{name}, {kind}": one
        for name, each in study.classifiers.items()
        for kind, one in each.items()
    }
    names = {one.name: one.model_copy(update={"weights": "none"}) for one in kinds.values()}
    classifiers.check_all(names)
    if any(one.weights != "none" for one in kinds.values()):
        todo = plan(study, store)
        left = [
            row
            for row in todo.rows
            if row.spec.name not in todo.done and not isinstance(row.spec.classifier, str)
        ]
        kinds = {
            f"{row.classifier}, {row.ablation}": study.classifiers[row.classifier][row.ablation]
            for row in left
        }
    needed = {one.weights for one in kinds.values()}
    classifiers.check_all(kinds, {name: path for name, path in files.items() if name in needed})


def resolve(
    study: Study,
    store: Store,
    folder: Path = Path(),
    where: str = "study",
    files: dict[str, Path] | None = None,
) -> StudySpec:
    """Return what `study` means in `store`; complaints begin with `where`.

    Paths of weights begin at `folder`, or in the current folder. The files are copied into the
    store, or, where `files` is given, noted there by what specs call them.
    """
    found: dict[str, Path] = {}
    require_alias(study.name)
    taken = store.aliases().get(study.name, "study-")
    if not taken.startswith("study-"):
        raise SpecError(
            f"{where}: name must not be an alias of anything else, and '{study.name}' names {taken}"
        )
    run = store.run(study.faces)
    if "index.parquet" not in run.manifest["files"]:
        raise SpecError(f"{where}: faces must name a run of faces, and {run.name} is none")
    if study.class_set:
        folded = {"faces": run.name, "frames": "all", "classes": study.class_set}
        run = preprocess.run(read_spec(preprocess.PreprocessSpec, folded, where), store)
    faces = Faces.load(run.path)
    faces.require_real(f"{where}: the faces of a study")
    if len(faces.classes) < 2:
        raise DataError(
            f"{where}: the faces of a study must show two classes or more, and show "
            f"{' '.join(faces.classes)} only"
        )
    folds = (
        study.folds
        if isinstance(study.folds, int)
        else len(set(faces.index[study.protocol]) - {""})
    )
    beyond = [fold for fold in study.only_folds if fold >= folds]
    if beyond:
        raise SpecError(f"{where}: only_folds must be within 0 to {folds - 1}; given: {beyond}")
    splits.split(faces, study.protocol, folds, 0, study.seed)  # complains if it cannot be done
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
            name: _classifier(study, name, store, folder, where, found)
            for name in study.classifiers
        },
        generator=_generator(study, run.name, where),
        generate=study.generate,
        counts=study.counts,
        seed=study.seed,
    )
    _databases(spec, faces, where)  # complains of what does not hold
    if files is None:
        for file in found.values():
            classifiers.adopt(file, store)
    else:
        files |= found
    return spec


def _inputs(study: Study, run: Run, store: Store, where: str) -> dict[str, Shown]:
    """Return what each ablation with an input shows in place of the study's faces; its run is made
    here.
    """
    found = {}
    for name in (name for name in study.ablations if "input" in study.ablation.get(name, {})):
        named = study.ablation[name]["input"]
        made = views.view(run, named, store, f"{where}: ablation.{name}")
        found[name] = Shown(input=tuple(named), faces=made.name)
    return found


def _classifier(
    study: Study, name: str, store: Store, folder: Path, where: str, files: dict[str, Path]
) -> dict[str, ClassifierSpec]:
    """Return what one classifier is under each ablation: what is common to all, what is its own,
    then the ablation.
    """
    fields = (
        ClassifierSpec.model_fields
    )  # a table of that name, such as augment, is common to all classifiers
    own = {
        key: value
        for key, value in study.classifier.items()
        if isinstance(value, dict) and key not in fields
    }
    for table in own:
        if table not in study.classifiers:
            raise SpecError(
                f"{where}: [classifier.{table}] belongs to no "
                f"classifier.{nearest(table, list(study.classifiers))} "
                f"The study has: {', '.join(study.classifiers)}"
            )
    common = {key: value for key, value in study.classifier.items() if key not in own}
    data = {"name": name, **common, **own.get(name, {})}
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
    """Return the fields of a classifier, its file of weights (if it names any) by its content;
    `files` notes where.
    """
    named = data.get("weights", "")
    if not isinstance(named, str) or named in ("", "imagenet", "none") or named.startswith("file:"):
        return data
    path = weights.find(Path(named), (folder, Path()))
    digest = classifiers.name_file(path)
    files[digest] = path
    return {**data, "weights": digest}


def _one(data: dict[str, Any], store: Store, where: str, files: dict[str, Path]) -> ClassifierSpec:
    """Return one classifier; raises WeightsError if the file that it means is neither named nor in
    the store.
    """
    spec = read_spec(ClassifierSpec, data, where)
    digest = spec.weights.removeprefix("file:")
    if spec.weights.startswith("file:") and spec.weights not in files:
        kept = classifiers.WeightsSpec(sha256=digest).name
        if not store.done(kept):
            raise WeightsError(
                f"{where}: weights must be of a file that is in the store, and none there has the "
                f"sha256 {digest}; "
                "give the path of the file, and it is copied there"
            )
        files[spec.weights] = store.run(kept).file("weights")
    return spec


def _generator(study: Study, faces: str, where: str) -> dict[str, Any]:
    """Return the fields of the generator's TrainSpec, without the faces that it will be trained
    on.
    """
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
    """Return how each fold's synthetic database comes about, one for all folds by frame; none if
    none is used.
    """
    return _databases(study, Faces.load(store.run(study.faces).path), study.title)


def _databases(study: StudySpec, faces: Faces, where: str) -> list[Database]:
    if not needs_database(study):
        return []
    if study.protocol == "frame":
        everything = np.ones(len(faces), dtype=bool)
        return [_database(study, faces, -1, None, study.faces, everything, where)]
    found = []
    for fold in study.tested_folds:
        side = splits.split(faces, study.protocol, study.folds, fold, study.seed).train
        split = splits.SplitSpec(
            faces=study.faces,
            by=study.protocol,
            folds=study.folds,
            number=fold,
            side="train",
            seed=study.seed,
        )
        found.append(_database(study, faces, fold, split, split.name, side, where))
    return found


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
    shown = Counter(faces.index.loc[side, "emotion"].tolist())
    there = {name: shown[name] for name in EMOTIONS if name in shown}
    wanted = {
        "sampler": generators.GENERATORS[train.kind].sampler,
        "seed": study.seed,
        **study.generate,
        "generator": train.name,
        "counts": _counts(study.counts, there, faces.classes, where),
    }
    generate = read_spec(generators.GenerateSpec, wanted, f"{where}: generate")
    if (generate.sampler == "direct") != (generators.GENERATORS[train.kind].sampler == "direct"):
        raise SpecError(
            f"{where}: generate: the sampler '{generate.sampler}' does not go with a generator of "
            f"kind {train.kind}"
        )
    total = sum(generate.counts.values())
    if total < HELD_OUT:
        raise SpecError(
            f"{where}: counts must make {many(HELD_OUT, 'image')} or more, of which one in "
            f"{HELD_OUT} tests and "
            "the others "
            f"train; '{study.counts}' makes {total}{'' if fold < 0 else f' in fold {fold}'}"
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
    """Return the database of a copycat that saw what the generator of the fold sees."""
    train = generators.CopycatSpec(faces=parent)
    drawn = {"generator": train.name, "counts": counts, "seed": study.seed, "sampler": "direct"}
    return Database(fold, split, train, generators.GenerateSpec.model_validate(drawn))


def _run_names(one: Database) -> list[str]:
    """Return the runs of a database, in the order in which they are made."""
    return [one.train.name, one.generate.name, *(_run_names(one.copycat) if one.copycat else [])]


def _counts(
    text: str, there: dict[str, int], classes: tuple[str, ...], where: str
) -> dict[str, int]:
    """Return how many images of each class are generated; `there` is what the training side has of
    each.

    A class of the study that a fold's training side lacks is left out there: no generator can know
    it.
    """

    def own(name: str) -> dict[str, int]:
        if name:
            raise UsageError(
                "counts must be 'like' in a study, for as many as the training side has; given: "
                f"'like:{name}'"
            )
        return dict(there)

    try:
        wanted = generators.parse_counts(
            text, own, list(there) if text.startswith("balanced:") else classes
        )
    except UsageError as error:
        told = str(error).replace(" 'like:DATASET',", "")
        raise SpecError(
            f"{where}: {told}. 'like' is as many of each class as the training side has"
        ) from None
    return {name: count for name, count in wanted.items() if name in there}


def trials(study: StudySpec, store: Store) -> list[TrialSpec]:
    """Return the trials of a study, in the order in which they are run."""
    return [row.spec for row in rows(study, databases(study, store))]


def rows(study: StudySpec, made: list[Database]) -> list[Row]:
    """Return the trials of a study with their places in its table, given its databases."""
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
    """What the trials of one place in the table have in common."""

    classifier: str
    ablation: str
    control: str
    train: Training
    tests: tuple[Source, ...]


def _kinds(study: StudySpec) -> list[Kind]:
    """Return the trainings that one trial of one fold takes: those of the cells, then those of the
    controls.
    """
    tests: dict[Training, list[Source]] = {}
    for setting in study.settings:
        train, test = SETTINGS[setting]
        tests.setdefault(train, []).append(test)
    named: dict[Training, tuple[Source, ...]] = {
        train: tuple(dict.fromkeys(found)) for train, found in tests.items()
    }
    cells = [
        Kind(name, ablation, "", train, (*found, *_copied_tests(study, ablation, train, found)))
        for name in study.classifiers
        for ablation in study.ablations
        for train, found in named.items()
    ]
    baselines = [
        Kind(control, "", control, train, found)
        for control in study.controls
        if control in BASELINES
        for train, found in named.items()
    ]
    return [*cells, *baselines, *_permuted_kinds(study), *_copycat_kinds(study, named)]


def _copied_tests(
    study: StudySpec, ablation: str, train: Training, tests: tuple[Source, ...]
) -> tuple[Source, ...]:
    """Return the copycat as one more test of what was trained on real faces: real to synthetic has
    a control then.
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


def _copycat_kinds(study: StudySpec, named: dict[Training, tuple[Source, ...]]) -> list[Kind]:
    if "copycat" not in study.controls:
        return []
    return [
        Kind(
            name,
            ablation,
            "copycat",
            COPIES[train],
            tuple(COPIES.get(test, test) for test in found),
        )
        for name, ablation in _under_control(study)
        for train, found in named.items()
        if train in COPIES
    ]


def _under_control(study: StudySpec) -> list[tuple[str, str]]:
    """Return who is trained on permuted labels and on copies: a nearest neighbour, and each
    classifier as it comes.
    """
    return [("nearest", ""), *((name, study.ablations[0]) for name in study.classifiers)]


def _trial(study: StudySpec, made: list[Database], kind: Kind, trial: int, fold: int) -> TrialSpec:
    by_frame = study.protocol == "frame"
    one = next((one for one in made if one.fold == (-1 if by_frame else fold)), None)
    used = {*PARTS[kind.train], *kind.tests}
    baseline: Baseline | None = next((one for one in BASELINES if one == kind.classifier), None)
    number = 0 if _fixed(study, kind.classifier, kind.control) else trial
    return TrialSpec(
        faces=study.inputs[kind.ablation].faces if kind.ablation in study.inputs else study.faces,
        synthetic=one.generate.name if one and "synthetic" in used else "",
        copycat=one.copycat.generate.name if one and one.copycat and "copycat" in used else "",
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
        trial=number,
        seed=seed_of("study", study.seed, "trial", number, "fold", fold),
    )


def _fixed(study: StudySpec, classifier: str, control: str) -> bool:
    """Whether nothing in a trial is drawn by lot, so that one run is all trials."""
    return classifier in BASELINES and study.protocol != "frame" and control != "permuted"


# The whole


def plan(study: StudySpec, store: Store) -> Plan:
    """Return what the study takes, and what of it is done or failed so far. Nothing is made.

    A run that was altered after it was made is not done: it failed, and what is wrong with it is
    its error.
    """
    made = databases(study, store)
    table = rows(study, made)
    names = dict.fromkeys(
        [name for one in made for name in _run_names(one)] + [row.spec.name for row in table]
    )
    altered = {name: text for name in names if (text := store.altered(name))}
    done = frozenset(name for name in names if store.done(name) and name not in altered)
    failed = {
        name: text
        for name in names
        if name not in done and (text := altered.get(name) or failure(store, name))
    }
    return Plan(study, tuple(made), tuple(table), done, failed)


def describe(plan: Plan) -> str:
    """Say in a few lines what a study takes and what of it is done."""
    study, databases = plan.study, plan.databases
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
    parts = {
        "generator": [one.train.name for one in databases],
        "database": [one.generate.name for one in databases],
        "copycat database": [one.copycat.generate.name for one in databases if one.copycat],
        "training of classifiers": [row.spec.name for row in plan.rows if not row.control],
        "trial of controls": [row.spec.name for row in plan.rows if row.control],
    }
    product = " x ".join(many(n, name.removesuffix("s")) for name, n in sizes.items())
    lines = [
        f"{study.title}: {many(cells, 'cell')} ({product}), by {study.protocol}{folds}, "
        f"{many(len(study.classes), 'class')}"
    ]
    for what, found in parts.items():
        names = dict.fromkeys(found)  # a control without randomness is one run for all trials
        done, failed = (sum(name in group for name in names) for group in (plan.done, plan.failed))
        if names or not what.startswith(("copycat", "trial ")):
            noun, _, rest = what.partition(" of ")
            called = many(len(names), noun).partition(" ")[2] + (f" of {rest}" if rest else "")
            lines.append(
                f"  {len(names):>5} {called:<26}{done:>5} done"
                + (f", {failed} failed" if failed else "")
            )
    lines += [
        f"  {one['classifier']}, {one['ablation']}: frozen are {one['text']}"
        for one in frozen(study)
    ]
    lines += [f"  synthetic images: {text}" for text in _drawn(plan)]
    lines += [f"  no synthetic {text}, with counts = '{study.counts}'" for text in _lacking(plan)]
    errors = Counter(text.removeprefix(NOT_BEGUN) for text in plan.failed.values())
    lines += [
        f"  failed: {text}" + (f" ({many(n, 'run')})" if n > 1 else "")
        for text, n in errors.items()
    ]
    return "\n".join(lines)


def _drawn(plan: Plan) -> list[str]:
    """Return how many synthetic images of each class there are, and in which folds where these
    differ.
    """
    folds: dict[str, list[int]] = {}
    for one in plan.databases:
        text = ", ".join(f"{name} {count:,}" for name, count in one.generate.counts.items())
        folds.setdefault(f"{sum(one.generate.counts.values()):,} ({text})", []).append(one.fold)
    if len(folds) > MOST_FOLDS:
        totals = [sum(one.generate.counts.values()) for one in plan.databases]
        return [
            f"{min(totals):,} to {max(totals):,} in each fold, with counts = '{plan.study.counts}'"
        ]
    everywhere = len(folds) == 1
    return [
        text if everywhere else f"{text} in {_in_folds(where)}" for text, where in folds.items()
    ]


def _in_folds(folds: Sequence[int]) -> str:
    return f"{'fold' if len(folds) == 1 else 'folds'} {', '.join(map(str, folds))}"


def _lacking(plan: Plan) -> list[str]:
    """Return which classes have no synthetic faces, and in which folds."""
    folds: dict[str, list[str]] = {}
    for one in plan.databases:
        lacking = ", ".join(name for name in plan.study.classes if name not in one.generate.counts)
        folds.setdefault(lacking, []).append(str(one.fold))
    return [
        names
        + (
            f" in {'fold' if len(where) == 1 else 'folds'} {', '.join(where)}"
            if "-1" not in where
            else ""
        )
        for names, where in folds.items()
        if names
    ]


def frozen(study: StudySpec) -> list[dict[str, str]]:
    """Return which layers stay as they were, for each classifier and ablation that freezes any."""
    found = []
    for name, kinds in study.classifiers.items():
        for ablation, one in kinds.items():
            layers = classifiers.frozen(one, len(study.classes))
            if layers is not None:
                found.append({"classifier": name, "ablation": ablation, "text": layers.text})
    return found


Only = dict[str, frozenset[str]]
"""What is wanted of a study: by axis (setting, classifier, ablation, control, trial, fold), any of
some names.
"""

AXES = ("setting", "classifier", "ablation", "control", "trial", "fold")


def parse_only(texts: Sequence[str], study: StudySpec) -> Only:
    """Return what `--only` asks for: setting=real_to_real,classifier=vgg16; an axis that comes
    twice allows either.

    Trials count from 1, folds from 0 as everywhere; control=none is the cells without controls.

    Raises UsageError for an axis or a name that the study does not have.
    """
    known = {
        "setting": list(study.settings),
        "classifier": [*study.classifiers, *(name for name in BASELINES if name in study.controls)],
        "ablation": list(study.ablations),
        "control": ["none", *study.controls],
        "trial": [str(number + 1) for number in range(study.trials)],
        "fold": [str(fold) for fold in study.tested_folds],
    }
    found: dict[str, set[str]] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        axis, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or axis not in known:
            raise UsageError(
                "--only must be like setting=real_to_real,classifier=vgg16 with "
                f"{', '.join(AXES)}; given: '{part}'."
                f"{nearest(axis, list(AXES))}"
            )
        if name not in known[axis]:
            hint = (
                "" if axis in ("trial", "fold") else nearest(name, known[axis])
            )  # no number is nearly another
            raise UsageError(
                f"--only {axis}={name}: the study has {', '.join(known[axis]) or 'none'}.{hint}"
            )
        found.setdefault(axis, set()).add(name)
    return {axis: frozenset(names) for axis, names in found.items()}


def chosen(rows: Sequence[Row], only: Only) -> list[Row]:
    """Return the rows that `only` asks for; a training counts for every setting that it serves.

    Raises UsageError if there are rows, and none is asked for.
    """
    found = [row for row in rows if _within(row, only)]
    if rows and not found:
        asked = ",".join(f"{axis}={name}" for axis, names in only.items() for name in sorted(names))
        parts = []
        for axis in only:
            rest = {other: names for other, names in only.items() if other != axis}
            there = [
                name for row in rows if _within(row, rest) for name in sorted(_place(row)[axis])
            ]
            others = ",".join(
                f"{other}={name}" for other, names in rest.items() for name in sorted(names)
            )
            parts.append(
                f"beside {others} there is {axis}={' or '.join(dict.fromkeys(there)) or 'nothing'}"
            )
        raise UsageError(
            f"--only must leave some trial, and {asked} leaves none: {'; '.join(parts)}"
        )
    return found


def _within(row: Row, only: Only) -> bool:
    return all(_place(row)[axis] & names for axis, names in only.items())


def explain(rows: Sequence[Row], only: Only) -> str:
    """Say why a part of a study needs generators that its settings do not, or nothing where that is
    not so.
    """
    asked = only.get("setting", frozenset())
    if not asked or any(source != "real" for name in asked for source in SETTINGS[name]):
        return ""
    if not any(row.spec.synthetic or row.spec.copycat for row in rows):
        return ""
    return (
        f"a trial is one training with all its tests: those of {', '.join(sorted(asked))} are "
        "tested on synthetic "
        "faces too, for the study's other settings, so generators and databases come first"
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
    """Make what is missing of a study, or of what `only` asks for; return its run, which lists all
    its trials.

    Each trial starts when its own generator is ready. What fails is noted with its error and the
    others go on; the next call tries it again. `engine` says where all this is done: in this
    process, if None.

    Raises TrialsFailed at the end if anything failed, and SpecError or WeightsError at once if a
    classifier cannot be built.
    """
    todo = plan(study, store)
    part = chosen(todo.rows, only or {})
    before = store.aliases().get(study.title, study.name)
    whole = store.make(study, lambda out, scratch: _write_study(todo, out), alias=study.title)
    if before != study.name:
        say(
            f"the name {study.title} stood for {before} and stands for {study.name} now: "
            f"{differences(before, study, store)}. `mien report {before}` still shows the one "
            "before"
        )
    wanted = {row.spec.name: row for row in part}
    missing = [row for name, row in wanted.items() if name not in todo.done]
    if not missing:
        asked = " asked for" if only else ""
        say(f"{study.title}: {many(len(wanted), 'trial')}{asked}, all done")
        return whole
    _check(missing)
    why = explain(missing, only or {})
    if why:
        say(why)
    for one in frozen(study):
        say(f"{one['classifier']}, {one['ablation']}: frozen are {one['text']}")
    engine = engine or Local(0)
    todo_jobs = jobs(todo, missing, store, device, engine.slots)
    for job in todo_jobs:
        (store.root / "work" / job.run / FAILED).unlink(
            missing_ok=True
        )  # what failed before is tried again
    failed = work(todo_jobs, store, engine)
    if failed:
        first = next(iter(failed.values()))
        trials_failed = sum(row.spec.name in failed for row in missing)
        raise TrialsFailed(
            f"{trials_failed} of {many(len(wanted), 'trial')} of {study.title} failed, "
            f"{len(wanted) - trials_failed} done; the first error: {first}. The report "
            "lists them, and the same command tries them again"
        )
    return whole


def require_weights(missing: Sequence[Row], fetch: bool = False) -> None:
    """Raise WeightsError, with all that are missing, unless the hub's weights are here or, with
    `fetch`, come now.
    """
    found = {(row.classifier, row.ablation): row.spec.classifier for row in missing}
    classifiers.require_hub([one for one in found.values() if not isinstance(one, str)], fetch)


def _check(missing: Sequence[Row]) -> None:
    """Raise SpecError or WeightsError if a classifier cannot be built: before long work."""
    found = {f"{row.classifier}, {row.ablation}": row.spec.classifier for row in missing}
    classifiers.check_all({name: one for name, one in found.items() if not isinstance(one, str)})
    require_weights(missing, fetch=True)


def jobs(todo: Plan, missing: Sequence[Row], store: Store, device: str, slots: int) -> list[Job]:
    """Return what makes the missing trials and what they need: generators first, then databases,
    then trials.
    """
    needed = {
        name for row in missing for name in (row.spec.synthetic, row.spec.copycat)
    } - todo.done
    learning, drawing = [], []
    for one in todo.databases:
        of = "" if one.fold < 0 else f", fold {one.fold}"
        for lead, made in (("", one), ("copycat ", one.copycat)):
            if made is not None and made.generate.name in needed:
                split = one.split.model_dump(mode="json") if one.split else None
                told = {
                    "spec": made.train.model_dump(mode="json"),
                    "split": split,
                    "device": device,
                }
                learning.append(Job(made.train.name, f"{lead}generator{of}", _make_generator, told))
                parts = generators.parts(made.generate, store, device, slots)
                drawing += [replace(job, label=f"{lead}{job.label}{of}") for job in parts]
    found = [*learning, *drawing, *(_trial_job(row, todo.study, device) for row in missing)]
    return [job for job in found if job.run not in todo.done]


def _make_generator(
    store: Store, spec: dict[str, Any], split: dict[str, Any] | None, device: str
) -> str:
    if split is not None:
        splits.run(splits.SplitSpec.model_validate(split), store)
    generators.train(generators.read_training(spec, "generator"), store, device=device)
    return "trained"


def _trial_job(row: Row, study: StudySpec, device: str) -> Job:
    number = "" if _fixed(study, row.classifier, row.control) else f", trial {row.trial + 1}"
    where = number + ("" if study.protocol == "frame" else f", fold {row.fold}")
    kind = row.ablation if len(study.ablations) > 1 else ""
    kind += " with labels permuted" if row.control == "permuted" else ""
    label = (
        f"{f'{row.classifier} {kind.strip()}'.strip()} trained on "
        f"{row.spec.train.replace('_', ' and ')}{where}"
    )
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
    """Write all that a report needs to know of a study, so that it can be made without this
    module.
    """
    study = plan.study
    table = {
        "settings": {
            name: dict(zip(("train", "test"), SETTINGS[name], strict=True))
            for name in study.settings
        },
        "classifiers": list(
            study.classifiers
        ),  # in the order of the file, which a spec on the disk does not keep
        "ablations": list(study.ablations),
        "controls": list(study.controls),
        "frozen": frozen(study),
        "databases": [
            {
                "fold": one.fold,
                "split": one.split.name if one.split else "",
                "generator": one.train.name,
                "database": one.generate.name,
                "copycat": one.copycat.generate.name if one.copycat else "",
                "counts": one.generate.counts,
            }
            for one in plan.databases
        ],
        "trials": [
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
        ],
    }
    write_json(out / "plan.json", table)
    write_json(out / "summary.json", {"holds": describe(plan).splitlines()[0]})
