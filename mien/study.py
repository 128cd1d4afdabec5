"""Studies: classifiers trained and tested on real and synthetic faces, in every setting, honestly.

A study is a TOML file. A trial is one training of one classifier on one training set, tested on every test set that its
settings name, so settings that share a training set share the trial. All of it goes through the store: what is done is
never done again, a failed trial is a row with its error, and running a study again makes what is missing.

By clip or subject each fold has a generator of its own, trained on that fold's training side alone, and no trial is
tested on a real image before `splits.require_unseen` has shown that neither classifier nor generator saw its like. By
frame, as in the preprint, one generator sees everything; reports say so.
"""

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pydantic import Field, model_validator

from mien import classifiers, generators, metrics, splits
from mien.classifiers import ClassifierSpec
from mien.errors import MienError, SpecError, TrialsFailed, UsageError
from mien.faces import EMOTIONS, Faces, concat
from mien.progress import duration, say
from mien.seeds import seed as seed_of
from mien.spec import Spec, Strict, nearest, read_spec, read_toml
from mien.stats import Record
from mien.store import Run, Store

Source = Literal["real", "synthetic"]
Training = Literal["real", "synthetic", "both"]
Setting = Literal["real_to_real", "synthetic_to_synthetic", "real_to_synthetic", "synthetic_to_real", "both_to_real"]
SETTINGS: dict[str, tuple[Training, Source]] = {
    "real_to_real": ("real", "real"),
    "synthetic_to_synthetic": ("synthetic", "synthetic"),
    "real_to_synthetic": ("real", "synthetic"),
    "synthetic_to_real": ("synthetic", "real"),
    "both_to_real": ("both", "real"),
}
"""What each setting trains on and tests on."""

HELD_OUT = 5  # one in so many synthetic images tests, the others train
NOT_BEGUN = "its synthetic faces could not be made: "
FAILED = "failed.json"  # in the work folder of a run that could not be made: its first error


class Study(Strict):
    """A study as its file says it.

    `faces` is a run or alias. By `clip` or `subject`, `folds` parts are tested one after the other (or only those in
    `only_folds`), and `trials` are repetitions with other seeds. By `frame` each trial has a random split of its own,
    of which one part in `folds` is tested. `classifiers` are names; a table [classifier] holds what is common to them,
    [classifier.NAME] what is special to one. [generator] is a `preset` with changes, [generate] how images are drawn
    from it, and `counts` how many: like (as the training side has), preprint, balanced:N, or happiness=100,fear=50.
    """

    name: str
    faces: str
    protocol: Literal["frame", "clip", "subject"]
    folds: int = Field(default=5, ge=2)
    only_folds: tuple[int, ...] = ()
    trials: int = Field(default=5, ge=1)
    settings: tuple[Setting, ...] = Field(min_length=1)
    classifiers: tuple[str, ...] = Field(min_length=1)
    classifier: dict[str, Any] = Field(default_factory=dict)
    generator: dict[str, Any] = Field(default_factory=dict)
    generate: dict[str, Any] = Field(default_factory=dict)
    counts: str = "like"
    seed: int = 0

    @model_validator(mode="after")
    def _folds_are_there(self) -> "Study":
        if self.only_folds and self.protocol == "frame":
            raise ValueError("only_folds must stay away by frame: there each trial has a split of its own")
        wrong = [fold for fold in self.only_folds if not 0 <= fold < self.folds]
        if wrong:
            raise ValueError(f"only_folds must be within 0 to {self.folds - 1}; given: {wrong}")
        for name in ("settings", "classifiers", "only_folds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must name each one once")
        return self


class StudySpec(Spec):
    """A study with everything that it depends on: its run holds the list of its trials."""

    stage: ClassVar[str] = "study"
    title: str
    faces: str
    protocol: Literal["frame", "clip", "subject"]
    folds: int
    tested_folds: tuple[int, ...]
    trials: int
    settings: tuple[Setting, ...]
    classes: tuple[str, ...]
    classifiers: dict[str, ClassifierSpec]
    generator: dict[str, Any]
    generate: dict[str, Any]
    counts: str
    seed: int


class TrialSpec(Spec):
    """One training of one classifier, and its tests.

    `by`, `folds`, `number` and `split_seed` say how the real faces are split; `synthetic` is the database's run, empty
    where none is used.
    """

    stage: ClassVar[str] = "trial"
    faces: str
    synthetic: str
    by: Literal["frame", "clip", "subject"]
    folds: int
    number: int
    split_seed: int
    train: Training
    tests: tuple[Source, ...]
    classifier: ClassifierSpec
    classes: tuple[str, ...]
    trial: int
    seed: int


@dataclass(frozen=True)
class Database:
    """How the synthetic database of one fold comes about; `fold` is -1 where one generator serves all."""

    fold: int
    split: splits.SplitSpec | None
    train: generators.TrainSpec
    generate: generators.GenerateSpec


@dataclass(frozen=True)
class Row:
    """A trial with its place in the study's table."""

    classifier: str
    trial: int
    fold: int
    spec: TrialSpec


@dataclass(frozen=True)
class Plan:
    """What a study takes: its databases and trials, and which runs are there already or failed (with their error)."""

    study: StudySpec
    databases: tuple[Database, ...]
    rows: tuple[Row, ...]
    done: frozenset[str]
    failed: dict[str, str]

    @property
    def runs(self) -> list[str]:
        """All runs that it takes, in the order in which they are made."""
        names = [name for one in self.databases for name in (one.train.name, one.generate.name)]
        return [*names, *(row.spec.name for row in self.rows)]


# Reading


def read(path: Path, store: Store) -> StudySpec:
    """Return the study of a TOML file with all its names resolved; weights files are copied into the store.

    Raises SpecError with the nearest known name for one that is not known, StoreError if the faces are not there.
    """
    return resolve(read_spec(Study, read_toml(path), str(path)), store, path.parent, str(path))


def resolve(study: Study, store: Store, folder: Path = Path(), where: str = "study") -> StudySpec:
    """Return what `study` means in `store`; paths of weights begin at `folder`, complaints with `where`."""
    store.check_alias(study.name)
    taken = store.aliases().get(study.name, "study-")
    if not taken.startswith("study-"):
        raise SpecError(f"{where}: name must not be an alias of anything else, and '{study.name}' names {taken}")
    run = store.run(study.faces)
    if "index.parquet" not in run.manifest["files"]:
        raise SpecError(f"{where}: faces must name a run of faces, and {run.name} is none")
    spec = StudySpec(
        title=study.name,
        faces=run.name,
        protocol=study.protocol,
        folds=study.folds,
        tested_folds=(0,) if study.protocol == "frame" else study.only_folds or tuple(range(study.folds)),
        trials=study.trials,
        settings=study.settings,
        classes=_faces(run).classes,
        classifiers={name: _classifier(study, name, store, folder, where) for name in study.classifiers},
        generator=_generator(study, run.name, where),
        generate=study.generate,
        counts=study.counts,
        seed=study.seed,
    )
    _databases(spec, _faces(run), where)  # complains of what does not hold
    return spec


def _classifier(study: Study, name: str, store: Store, folder: Path, where: str) -> ClassifierSpec:
    """Return the specification of one classifier: what is common to all, then what is its own."""
    tables = {key: value for key, value in study.classifier.items() if isinstance(value, dict)}
    for table in tables:
        if table not in study.classifiers:
            raise SpecError(
                f"{where}: [classifier.{table}] belongs to no classifier.{nearest(table, list(study.classifiers))} "
                f"The study has: {', '.join(study.classifiers)}"
            )
    common = {key: value for key, value in study.classifier.items() if key not in tables}
    data = {"name": name, **common, **tables.get(name, {})}
    weights = data.get("weights", "none")
    if isinstance(weights, str) and weights not in ("imagenet", "none") and not weights.startswith("file:"):
        data["weights"] = classifiers.adopt(folder / weights, store)
    return read_spec(ClassifierSpec, data, f"{where}: classifier.{name}")


def _generator(study: Study, faces: str, where: str) -> dict[str, Any]:
    """Return the fields of the generator's TrainSpec, without the faces that it will be trained on."""
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
    """Return how each fold's synthetic database comes about, one for all folds by frame; none if none is used."""
    return _databases(study, _faces(store.run(study.faces)), study.title)


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
            faces=study.faces, by=study.protocol, folds=study.folds, number=fold, side="train", seed=study.seed
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
    train = read_spec(generators.TrainSpec, {**study.generator, "faces": parent}, f"{where}: generator")
    shown = Counter(faces.index.loc[side, "emotion"].tolist())
    there = {name: shown[name] for name in EMOTIONS if name in shown}
    wanted = {
        "sampler": "ancestral" if train.kind == "ddpm" else "dpmpp2m",  # the defaults of `mien generate`
        "seed": study.seed,
        **study.generate,
        "generator": train.name,
        "counts": _counts(study.counts, there, faces.classes, where),
    }
    return Database(fold, split, train, read_spec(generators.GenerateSpec, wanted, f"{where}: generate"))


def _counts(text: str, there: dict[str, int], classes: tuple[str, ...], where: str) -> dict[str, int]:
    """Return how many images of each class are generated; `there` is what the training side has of each.

    A class of the study that a fold's training side lacks is left out there: no generator can know it.
    """
    if text == "like":
        return there
    try:
        wanted = generators.parse_counts(text, _no_dataset, list(there) if text.startswith("balanced:") else classes)
    except UsageError as error:
        raise SpecError(f"{where}: {error}") from None
    return {name: count for name, count in wanted.items() if name in there}


def _no_dataset(name: str) -> dict[str, int]:
    raise UsageError(f"counts must be 'like' in a study, for as many as the training side has; given: 'like:{name}'")


def trials(study: StudySpec, store: Store) -> list[TrialSpec]:
    """Return the trials of a study, in the order in which they are run."""
    return [row.spec for row in rows(study, databases(study, store))]


def rows(study: StudySpec, made: list[Database]) -> list[Row]:
    """Return the trials of a study with their places in its table, given its databases."""
    tests: dict[Training, list[Source]] = {}
    for setting in study.settings:
        train, test = SETTINGS[setting]
        tests.setdefault(train, []).append(test)
    return [
        Row(name, trial, fold, _trial(study, made, name, trial, fold, train, tuple(dict.fromkeys(named))))
        for fold in study.tested_folds
        for trial in range(study.trials)
        for name in study.classifiers
        for train, named in tests.items()
    ]


def _trial(
    study: StudySpec, made: list[Database], name: str, trial: int, fold: int, train: Training, tests: tuple[Source, ...]
) -> TrialSpec:
    synthetic = {one.fold: one.generate.name for one in made}
    by_frame = study.protocol == "frame"
    return TrialSpec(
        faces=study.faces,
        synthetic=synthetic[-1 if by_frame else fold] if {train, *tests} != {"real"} else "",
        by=study.protocol,
        folds=study.folds,
        number=fold,
        split_seed=seed_of("study", study.seed, "trial", trial) if by_frame else study.seed,
        train=train,
        tests=tests,
        classifier=study.classifiers[name],
        classes=study.classes,
        trial=trial,
        seed=seed_of("study", study.seed, "trial", trial, "fold", fold),
    )


# One trial


def run_trial(spec: TrialSpec, store: Store, device: str = "auto") -> Run:
    """Train and test as `spec` says, unless it is done; return its run.

    predictions.parquet has one row a test image: test (which set), key, clip, true, predicted and p_CLASS.
    records.json has accuracy, uf1 and uar of each test set, named `set/level/metric`, at the level of images and, by
    clip or subject, of clips.

    Raises LeakageError if the trial would be tested on what its training saw.
    """

    def build(out: Path, scratch: Path) -> None:
        train, tests = sides(spec, store)
        file = classifiers.adopted(spec.classifier, store)
        fitted = classifiers.fit(train, spec.classifier, spec.classes, spec.seed, scratch, device, file)
        tables = [_predicted(fitted, name, faces, spec) for name, faces in tests.items()]
        table = pd.concat(tables, ignore_index=True)
        table.to_parquet(out / "predictions.parquet", index=False)
        records = [record for name in spec.tests for record in _records(table, name, spec)]
        _write(out / "records.json", [asdict(record) for record in records])
        shown = ", ".join(f"{r.metric.split('/')[0]} {r.value:.1%}" for r in records if r.metric.endswith(LEAD))
        summary = {"holds": f"{spec.classifier.name} trained on {spec.train}, accuracy {shown}", "trained": len(train)}
        _write(out / "summary.json", {**summary, "weights": fitted.origin})

    return store.make(spec, build)


LEAD = "images/accuracy"


def sides(spec: TrialSpec, store: Store) -> tuple[Faces, dict[str, Faces]]:
    """Return the faces that a trial is trained on, and those of each test.

    Raises LeakageError if, by clip or subject, a real test image is of a clip or subject that the training set holds or
    that its generator saw.
    """
    real = _faces(store.run(spec.faces))
    fold = splits.split(real, spec.by, spec.folds, spec.number, spec.split_seed)
    parts: dict[str, tuple[Faces, Faces]] = {}
    if "real" in spec.tests or spec.train != "synthetic":
        parts["real"] = (real.select(fold.train), real.select(fold.test))
    if spec.synthetic:
        made = _faces(store.run(spec.synthetic))
        half = splits.split(made, "frame", HELD_OUT, 0, spec.split_seed)
        parts["synthetic"] = (made.select(half.train), made.select(half.test))
    named = ("real", "synthetic") if spec.train == "both" else (spec.train,)
    train = concat(parts[name][0] for name in named) if len(named) > 1 else parts[named[0]][0]
    tests = {name: parts[name][1] for name in spec.tests}
    # Synthetic test images come from the training side by their nature: nothing in them is unseen, and none is claimed.
    if spec.by != "frame" and "real" in tests:
        splits.require_unseen(train, tests["real"], spec.by)
    return train, tests


def _predicted(fitted: classifiers.Classifier, name: str, faces: Faces, spec: TrialSpec) -> pd.DataFrame:
    probabilities = classifiers.predict(fitted, faces)
    true = faces.labels(spec.classes)
    table = metrics.predictions(list(faces.index["key"]), list(faces.index["clip"]), true, probabilities, spec.classes)
    table.insert(0, "test", name)
    return table


def _records(table: pd.DataFrame, name: str, spec: TrialSpec) -> Iterator[Record]:
    part = table.loc[table["test"] == name]
    for level in metrics.LEVELS[:1] if name == "synthetic" or spec.by == "frame" else metrics.LEVELS:
        scores = metrics.score_table(part, spec.classes, level)
        if scores is not None:
            for metric in metrics.METRICS:
                yield Record(f"{name}/{level}/{metric}", scores.of(metric), scores.n, run=spec.name)


# The whole


def plan(study: StudySpec, store: Store) -> Plan:
    """Return what the study takes, and what of it is done or failed so far. Nothing is made."""
    made = databases(study, store)
    table = rows(study, made)
    names = [name for one in made for name in (one.train.name, one.generate.name)]
    names += [row.spec.name for row in table]
    done = frozenset(name for name in names if store.done(name))
    failed = {name: text for name in names if name not in done and (text := failure(store, name))}
    return Plan(study, tuple(made), tuple(table), done, failed)


def describe(plan: Plan) -> str:
    """Say in a few lines what a study takes and what of it is done."""
    study = plan.study
    cells = len(study.settings) * len(study.classifiers)
    parts = {
        "generators": [one.train.name for one in plan.databases],
        "databases": [one.generate.name for one in plan.databases],
        "trainings of classifiers": [row.spec.name for row in plan.rows],
    }
    lines = [
        f"{study.title}: {cells} cells ({len(study.settings)} settings x {len(study.classifiers)} classifiers), "
        f"{study.trials} trials each, {len(study.tested_folds)} {'fold' if len(study.tested_folds) == 1 else 'folds'}, "
        f"by {study.protocol}"
    ]
    for what, names in parts.items():
        done = sum(name in plan.done for name in names)
        failed = sum(name in plan.failed for name in names)
        lines.append(f"  {len(names):>5} {what:<26}{done:>5} done" + (f", {failed} failed" if failed else ""))
    errors = Counter(text.removeprefix(NOT_BEGUN) for text in plan.failed.values())
    lines += [f"  failed: {text}" + (f" ({n} runs)" if n > 1 else "") for text, n in errors.items()]
    return "\n".join(lines)


def run(study: StudySpec, store: Store, *, device: str = "auto") -> Run:
    """Make what is missing of a study, and return its run, which holds the list of its trials.

    Generators come first, then databases, then trials. What fails is noted with its error and the others go on; the
    next call tries it again.

    Raises TrialsFailed at the end if anything failed, and SpecError or WeightsError at once if a classifier cannot be
    built.
    """
    todo = plan(study, store)
    whole = store.make(study, lambda out, scratch: _write_study(todo, out), alias=study.title)
    missing = [row for row in todo.rows if row.spec.name not in todo.done]
    if not missing:
        say(f"{study.title}: all {len(todo.rows)} trials are done")
        return whole
    for name in dict.fromkeys(row.classifier for row in missing):
        classifiers.check(study.classifiers[name])
    needed = {row.spec.synthetic for row in missing}
    jobs = [job for one in todo.databases if one.generate.name in needed for job in _database_jobs(one, store, device)]
    jobs.sort(key=lambda job: job.order)
    jobs += [_trial_job(row, study, store, device) for row in missing]
    jobs = [job for job in jobs if not store.done(job.run)]
    for job in jobs:
        (store.root / "work" / job.run / FAILED).unlink(missing_ok=True)  # what failed before is tried again
    failed = _work(jobs, store)
    if failed:
        first = next(iter(failed.values()))
        trials_failed = sum(row.spec.name in failed for row in missing)
        raise TrialsFailed(
            f"{trials_failed} of {len(todo.rows)} trials of {study.title} failed, "
            f"{len(todo.rows) - trials_failed} are done; the first error: {first}. The report "
            "lists them, and the same command tries them again"
        )
    return whole


@dataclass(frozen=True)
class Job:
    """A run to be made: `after` is the run that it cannot be made without; `make` returns what to say of it."""

    order: int
    run: str
    label: str
    after: str
    make: Callable[[], str]


def _database_jobs(one: Database, store: Store, device: str) -> list[Job]:
    of = "" if one.fold < 0 else f", fold {one.fold}"

    def train() -> str:
        if one.split is not None:
            splits.run(one.split, store)
        generators.train(one.train, store, device=device)
        return "trained"

    def generate() -> str:
        made = generators.generate(one.generate, store, device=device)
        return f"{sum(one.generate.counts.values()):,} images in {made.name}"

    return [
        Job(0, one.train.name, f"generator{of}", "", train),
        Job(1, one.generate.name, f"database{of}", one.train.name, generate),
    ]


def _trial_job(row: Row, study: StudySpec, store: Store, device: str) -> Job:
    where = f"trial {row.trial + 1}" + ("" if study.protocol == "frame" else f", fold {row.fold}")

    def make() -> str:
        records = run_trial(row.spec, store, device).json("records.json")
        lead = [record for record in records if record["metric"].endswith(LEAD)]
        return "accuracy on " + ", ".join(
            f"{record['metric'].split('/')[0]} {record['value']:.1%} of {record['n']:,}" for record in lead
        )

    return Job(2, row.spec.name, f"{row.classifier} trained on {row.spec.train}, {where}", row.spec.synthetic, make)


def _work(jobs: list[Job], store: Store) -> dict[str, str]:
    """Do the jobs in order, and return the error of each run that failed."""
    failed: dict[str, str] = {}
    idle = 0
    for number, job in enumerate(jobs, start=1):
        began = time.monotonic()
        if job.after in failed:
            reason = MienError(f"{NOT_BEGUN}{failed[job.after].removeprefix(NOT_BEGUN)}")
            failed[job.run] = note_failure(store, job.run, reason)
            idle += 1
            continue
        try:
            text = job.make()
        except Exception as error:
            failed[job.run] = note_failure(store, job.run, error)
            text = f"failed: {failed[job.run]}"
        say(f"[{number}/{len(jobs)}] {job.label}: {text} ({duration(time.monotonic() - began)})")
    if idle:
        say(f"{idle} of {len(jobs)} were not begun, for want of what failed before them")
    return failed


def note_failure(store: Store, run: str, error: Exception) -> str:
    """Write an error beside the unfinished run that it stopped, and return it in one line.

    What mien did not raise on purpose is written with its traceback. The note goes when the run is made: the store
    then removes the run's work folder.
    """
    text = str(error).strip() or type(error).__name__
    text = text.splitlines()[0] if isinstance(error, MienError) else f"{type(error).__name__}: {text.splitlines()[0]}"
    folder = store.root / "work" / run
    folder.mkdir(parents=True, exist_ok=True)
    trace = [] if isinstance(error, MienError) else traceback.format_exception(error)
    _write(folder / FAILED, {"error": text, "traceback": "".join(trace).splitlines()})
    return text


def failure(store: Store, run: str) -> str:
    """Return the error that stopped an unfinished run, or nothing."""
    try:
        return str(json.loads((store.root / "work" / run / FAILED).read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError):
        return ""


def _write_study(plan: Plan, out: Path) -> None:
    """Write all that a report needs to know of a study, so that it can be made without this module."""
    study = plan.study
    table = {
        "settings": {name: dict(zip(("train", "test"), SETTINGS[name], strict=True)) for name in study.settings},
        "classifiers": list(study.classifiers),  # in the order of the file, which a spec on the disk does not keep
        "databases": [
            {
                "fold": one.fold,
                "split": one.split.name if one.split else "",
                "generator": one.train.name,
                "database": one.generate.name,
                "counts": one.generate.counts,
            }
            for one in plan.databases
        ],
        "trials": [
            {
                "run": row.spec.name,
                "note": f"work/{row.spec.name}/{FAILED}",
                "classifier": row.classifier,
                "trial": row.trial,
                "fold": row.fold,
                "train": row.spec.train,
                "tests": row.spec.tests,
                "synthetic": row.spec.synthetic,
            }
            for row in plan.rows
        ],
    }
    _write(out / "plan.json", table)
    _write(out / "summary.json", {"holds": describe(plan).splitlines()[0]})


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _faces(run: Run) -> Faces:
    return Faces.load(run.path)
