"""The plan of a study: its cells, and the trials that fill them."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mien.classifiers.baselines import BASELINES
from mien.classifiers.channels import name_network_channels
from mien.classifiers.networks import find_frozen_layers
from mien.classifiers.specs import ClassifierSpec, select_networks
from mien.faces import Faces
from mien.runs.jobs import FAILURE_FILE, NOT_BEGUN_PREFIX, read_failure
from mien.runs.progress import quantify
from mien.runs.store import RunSummary, Store
from mien.seeds import derive_seed
from mien.study.controls import TrialKind, list_trial_kinds
from mien.study.databases import find_missing_classes, list_databases
from mien.study.plan_file import (
    DatabaseRecord,
    FrozenRecord,
    SourcesRecord,
    StudyRecord,
    TrialRecord,
    list_control_fields,
)
from mien.study.select import select_cells
from mien.study.settings import (
    SOURCES_OF,
    Arm,
    draws_at_random,
    find_motion_change,
    find_setting,
    permutes_labels,
)
from mien.study.specs import (
    MOST_LISTED_FOLDS,
    Database,
    StudyPlan,
    StudySpec,
    TrialRow,
    TrialSpec,
    list_database_fields,
    list_run_names,
    name_folds,
)
from mien.study.uses.table import MIXED


def plan_rows(study: StudySpec, databases: list[Database]) -> list[TrialRow]:
    """Return the trials of a study with their positions in its table, given its databases."""
    rows = [
        TrialRow(
            kind.classifier,
            kind.ablation,
            kind.control,
            trial,
            fold,
            kind.arm,
            _make_trial_spec(study, databases, kind, trial, fold),
        )
        for fold in study.tested_folds
        for trial in range(study.trials)
        for kind in list_trial_kinds(study)
    ]
    return select_cells(rows, study)


def _make_trial_spec(
    study: StudySpec, databases: list[Database], kind: TrialKind, trial: int, fold: int
) -> TrialSpec:
    # The images: the fold's database is named only where the training or a test uses it
    by_frame = study.protocol == "frame"
    number = -1 if by_frame else fold
    arm = kind.arm
    database = next(
        (
            database
            for database in databases
            if (database.fold, database.people) == (number, arm.people)
        ),
        None,
    )
    needed = {*SOURCES_OF[arm.train], *kind.tests}
    runs = {
        source: source_database.find_used(arm.use).name
        for source, source_database in (database.by_source if database else {}).items()
        if source in needed
    }

    # The classifier; without randomness all trials are one and the same run
    change = find_motion_change(kind.control)
    classifier = study.classifiers.get(kind.classifier, {}).get(kind.ablation, kind.classifier)
    repetition = 0 if has_fixed_settings(study, kind.classifier, kind.control) else trial
    return TrialSpec(
        faces=study.find_faces(kind.classifier, kind.ablation),
        **list_database_fields(runs),
        by=study.protocol,
        folds=study.folds,
        number=fold,
        split_seed=derive_seed("study", study.seed, "trial", trial) if by_frame else study.seed,
        train=arm.train,
        tests=kind.tests,
        classifier=classifier,
        use=None if arm.use == MIXED else study.uses[arm.use],
        ratio=arm.ratio,
        people=arm.people,
        permuted=derive_seed("study", study.seed, "permuted", trial)
        if permutes_labels(kind.control)
        else None,
        motion=change or None,
        motion_seed=derive_seed("study", study.seed, "motion", trial)
        if change and draws_at_random(kind.control)
        else None,
        keeps_epochs=study.inflation
        and not kind.control
        and arm == Arm("real")
        and isinstance(classifier, ClassifierSpec),
        classes=study.classes,
        units=study.units,
        trial=repetition,
        seed=derive_seed("study", study.seed, "trial", repetition, "fold", fold),
    )


def has_fixed_settings(study: StudySpec, classifier: str, control: str) -> bool:
    """Whether a trial has no randomness, so that one run serves as all trials."""
    seeded = classifier not in BASELINES or BASELINES[classifier].seeded
    return not seeded and study.protocol != "frame" and not draws_at_random(control)


# The whole


def plan_study(study: StudySpec, store: Store) -> StudyPlan:
    """Return the databases and trials of a study, and which runs are done or failed.

    Nothing is made. A run whose files were altered after it was made counts as failed, and the
    alteration is its error.
    """
    databases = list_databases(study, store)
    rows = plan_rows(study, databases)
    names = dict.fromkeys(
        [name for database in databases for name in list_run_names(database)]
        + [row.spec.name for row in rows]
    )
    altered = {name: text for name in names if (text := store.explain_alteration(name))}
    done = frozenset(name for name in names if store.is_done(name) and name not in altered)
    failed = {
        name: text
        for name in names
        if name not in done and (text := altered.get(name) or read_failure(store, name))
    }
    shown = read_channels(study, store)
    return StudyPlan(study, tuple(databases), tuple(rows), done, failed, shown)


def read_channels(study: StudySpec, store: Store) -> dict[str, tuple[str, ...]]:
    """Return the names of the channels of each run of faces that a study shows, by run."""
    inputs = [
        *study.inputs.values(),
        *(
            own_input
            for by_ablation in study.classifier_inputs.values()
            for own_input in by_ablation.values()
        ),
    ]
    runs = dict.fromkeys([study.faces, *(own_input.faces for own_input in inputs)])
    return {run: Faces.load(store.run(run).path).shown for run in runs}


def describe_plan(plan: StudyPlan) -> str:
    """Return the results, runs, images and errors of a plan, as text; no network is built."""
    study = plan.study

    # The first line: how many results, each of one cell in one trial, and the axes
    axes = {
        "settings": study.setting_names,
        "classifiers": study.classifiers,
        "ablations": study.ablations,
    }
    sizes = {**{name: len(axis) for name, axis in axes.items()}, "trials": study.trials}
    results = math.prod(sizes.values())
    if study.cells:
        cells = {(row.classifier, row.ablation, row.arm) for row in plan.rows if not row.control}
        results = len(cells) * study.trials
    folds = (
        ""
        if study.protocol == "frame"
        else f", folds tested: {len(study.tested_folds)} of {study.folds}"
    )
    product = " x ".join(quantify(n, name.removesuffix("s")) for name, n in sizes.items())
    product = f"some of {product}" if study.cells else product
    lines = [
        f"{study.title}: {quantify(results, 'test result')} ({product}), by {study.protocol}"
        f"{folds}, " + quantify(study.outputs, "action unit" if study.units else "class")
    ]

    # A line per kind of run
    for kind, (total, done, failed) in count_runs(plan).items():
        if total or kind != "trial of controls":
            noun, _, owner = kind.partition(" of ")
            label = quantify(total, noun).partition(" ")[2] + (f" of {owner}" if owner else "")
            lines.append(
                f"  {total:>5} {label:<26}{done:>5} done" + (f", {failed} failed" if failed else "")
            )

    # What the settings lead to: synthetic images, and classes without any
    lines += [f"  synthetic images: {text}" for text in describe_synthetic_counts(plan)]
    lines += [
        f"  no synthetic {text}, with counts = '{study.counts}'"
        for text in find_missing_classes(plan)
    ]

    # Each error once, with the number of runs that ended with it
    errors = Counter(text.removeprefix(NOT_BEGUN_PREFIX) for text in plan.failed.values())
    lines += [
        f"  failed: {text}" + (f" ({quantify(n, 'run')})" if n > 1 else "")
        for text, n in errors.items()
    ]
    return "\n".join(lines)


def count_runs(plan: StudyPlan) -> dict[str, tuple[int, int, int]]:
    """Return for each kind of run how many there are, how many are done, and how many failed.

    A control without randomness is one run for all trials.
    """
    databases = plan.databases
    needed = {name for row in plan.rows for name in row.spec.databases.values()}
    kinds = {
        "generator": [database.train.name for database in databases],
        "database": [used.generate.name for database in databases for used in database.all_used],
        "filtered database": [
            used.name
            for database in plan.all_databases
            for used in database.all_used
            if used.filter is not None and used.name in needed
        ],
        **{
            f"{source} database": [
                database.controls[source].generate.name for database in databases
            ]
            for source in (databases[0].controls if databases else ())
        },
        "training of classifiers": [row.spec.name for row in plan.rows if not row.control],
        "trial of controls": [row.spec.name for row in plan.rows if row.control],
    }

    # How many of each kind are done, and failed
    counts = {}
    for kind, run_names in kinds.items():
        names = dict.fromkeys(run_names)
        done, failed = (sum(name in group for name in names) for group in (plan.done, plan.failed))
        counts[kind] = len(names), done, failed
    return counts


def describe_frozen_layers(plan: StudyPlan) -> str:
    """Return a line for each classifier and ablation that freezes layers, and which these are."""
    return "\n".join(
        f"  {layers.classifier}, {layers.ablation}: frozen are {layers.text}"
        for layers in list_frozen_shares(plan)
    )


def describe_synthetic_counts(plan: StudyPlan) -> list[str]:
    """Return the number of synthetic images per class, and the folds where the numbers differ."""
    folds_of: dict[str, list[int]] = {}
    for database in plan.databases:
        if database.people is not None:
            continue
        counts = database.generate.counts
        text = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        folds_of.setdefault(f"{sum(counts.values()):,} ({text})", []).append(database.fold)
    if len(folds_of) > MOST_LISTED_FOLDS:
        by_fold = [database.generate.counts for database in plan.databases]
        per_class = ", ".join(
            f"{name} {_format_range([counts.get(name, 0) for counts in by_fold])}"
            for name in plan.study.classes
        )
        totals = _format_range([sum(counts.values()) for counts in by_fold])
        return [f"{totals} in each fold ({per_class}), with counts = '{plan.study.counts}'"]
    everywhere = len(folds_of) == 1
    return [
        text if everywhere else f"{text} in {name_folds(folds)}" for text, folds in folds_of.items()
    ]


def _format_range(numbers: Sequence[int]) -> str:
    """Return the least and the greatest of some numbers: `3 to 5`, or `3` if all are 3."""
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def list_frozen_shares(plan: StudyPlan) -> list[FrozenRecord]:
    """Return the frozen layers of each classifier and ablation that freezes any."""
    records = []
    for name, by_ablation in plan.study.classifiers.items():
        for ablation, spec in select_networks(by_ablation).items():
            channels = name_network_channels(plan.shown[plan.study.find_faces(name, ablation)])
            layers = find_frozen_layers(spec, plan.study.outputs, channels)
            if layers is not None:
                records.append(FrozenRecord(classifier=name, ablation=ablation, text=layers.text))
    return records


def write_study(plan: StudyPlan, out: Path) -> RunSummary:
    """Write the record of a plan, and return the run's summary."""
    make_record(plan).save(out)
    return {"holds": describe_plan(plan).splitlines()[0]}


def make_record(plan: StudyPlan) -> StudyRecord:
    """Return what results and reports need of a plan."""
    # The databases, each with its split, generator and counts
    study = plan.study
    databases = [
        DatabaseRecord(
            fold=database.fold,
            split=database.split.name if database.split else "",
            generator=database.train.name,
            database=database.generate.name,
            **list_control_fields(
                {
                    source: control_database.generate.name
                    for source, control_database in database.controls.items()
                }
            ),
            counts=database.generate.counts,
            people=database.people,
            filtered={
                name: used.name for name, used in database.uses.items() if used.filter is not None
            },
        )
        for database in plan.databases
    ]

    # The trials, each with its place in the tables
    trials = [
        TrialRecord(
            run=row.spec.name,
            note=f"work/{row.spec.name}/{FAILURE_FILE}",
            classifier=row.classifier,
            ablation=row.ablation,
            control=row.control,
            trial=row.trial,
            fold=row.fold,
            train=row.spec.train,
            use=row.arm.use if row.arm.use != MIXED else "",
            ratio=row.arm.ratio,
            people=row.arm.people,
            tests=row.spec.tests,
            synthetic=row.spec.synthetic,
        )
        for row in plan.rows
    ]

    return StudyRecord(
        settings={
            name: SourcesRecord(train=setting.train, test=setting.test)
            for name, setting in ((name, find_setting(name)) for name in study.setting_names)
        },
        classifiers=tuple(study.classifiers),
        ablations=study.ablations,
        controls=study.controls,
        frozen=tuple(list_frozen_shares(plan)),
        databases=tuple(databases),
        trials=tuple(trials),
    )
