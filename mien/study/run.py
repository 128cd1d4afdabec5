"""The study meets the store: its jobs, done by an engine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mien.audit.levels import list_levels_jobs
from mien.classifiers import pretrained
from mien.classifiers.specs import select_networks
from mien.errors import StoreError, TrialsFailed
from mien.generators.generate import list_generation_jobs
from mien.generators.specs import read_training
from mien.generators.train import train_generator
from mien.prepare import splits
from mien.prepare.specs import SplitSpec
from mien.runs.engine import run_jobs
from mien.runs.jobs import FAILURE_FILE, Engine, Job
from mien.runs.local import Local
from mien.runs.progress import quantify, say
from mien.runs.store import Run, Store
from mien.study.file import describe_differences
from mien.study.plan import (
    describe_synthetic_counts,
    has_fixed_settings,
    list_frozen_shares,
    make_record,
    plan_study,
    write_study,
)
from mien.study.plan_file import read_record
from mien.study.predictions import list_accuracies, read_predictions
from mien.study.select import Only, explain_generators, select_rows
from mien.study.settings import describe_arm, find_motion_change, permutes_labels
from mien.study.specs import StudyPlan, StudySpec, TrialRow, TrialSpec, UsedDatabase
from mien.study.trials import run_trial
from mien.study.uses.filter_run import filter_database
from mien.study.uses.specs import FilterSpec


def run_study(
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

    Raises TrialsFailed at the end if anything failed, and SpecError or WeightsError at once, before
    anything is written, if a classifier cannot be built or its weights are missing.
    """
    # Only what is missing is made, and what cannot be made is refused first
    todo = plan_study(study, store)
    selected = select_rows(todo.rows, only or {})
    selected_by_run = {row.spec.name: row for row in selected}
    missing = [row for name, row in selected_by_run.items() if name not in todo.done]
    _require_buildable(todo, missing)

    # Write the list of all trials, and move the study's name to it
    before = store.read_aliases().get(study.title, study.name)
    study_run = store.make(study, lambda out, scratch: write_study(todo, out))
    store.set_alias(study.title, study.name, silent=True)  # what differs is said below
    if is_stale(study_run, todo):
        study_run = _plan_again(study_run, todo, store)
    if before != study.name:
        say(
            f"the name {study.title} referred to {before} and now refers to {study.name}: "
            f"{describe_differences(before, study, store)}. `mien report {before}` still shows the "
            "earlier study"
        )

    if not missing:
        scope = " selected by --only" if only else ""
        say(f"{study.title}: {quantify(len(selected_by_run), 'trial')}{scope}, all done")
        return study_run

    # Say what may surprise before hours of work
    reason = explain_generators(missing, only or {})
    if reason:
        say(reason)
    for text in describe_synthetic_counts(todo):
        say(f"synthetic images: {text}")
    for layers in list_frozen_shares(todo):
        say(f"{layers.classifier}, {layers.ablation}: frozen are {layers.text}")

    # Remove the notes of earlier failures, so that these runs are tried again
    engine = engine or Local(0)
    todo_jobs = list_study_jobs(todo, missing, store, device, engine.slots)
    for job in todo_jobs:
        (store.root / "work" / job.run / FAILURE_FILE).unlink(missing_ok=True)

    failed = run_jobs(todo_jobs, store, engine)
    if failed:
        first = next(iter(failed.values()))
        trials_failed = sum(row.spec.name in failed for row in missing)
        trials_done = len(selected_by_run) - trials_failed
        raise TrialsFailed(
            f"{trials_failed} of {quantify(len(selected_by_run), 'trial')} of {study.title} "
            f"failed, {trials_done} done; the first error: {first}. The report lists them, and the "
            "same command tries them again"
        )
    return study_run


def is_stale(run: Run, plan: StudyPlan) -> bool:
    """Return whether the plan of a study's run has other trials or databases than `plan`.

    So it is if an earlier version of mien planned the study, whose runs had other names.
    """
    try:
        written = read_record(run)
    except StoreError:
        return True
    records = (written, make_record(plan))
    names = [
        {trial.run for trial in record.trials}
        | {name for database in record.databases for name in database.runs}
        for record in records
    ]
    return names[0] != names[1]


def _plan_again(run: Run, plan: StudyPlan, store: Store) -> Run:
    """Return the study's run with a new plan, under all of its aliases; trials stay as they are."""
    aliases = [alias for alias, target in store.read_aliases().items() if target == run.name]
    store.remove(run.name)
    planned = store.make(plan.study, lambda out, scratch: write_study(plan, out))
    for alias in aliases:
        store.set_alias(alias, planned.name)
    done = sum(row.spec.name in plan.done for row in plan.rows)
    say(
        f"{plan.study.title}: an earlier version of mien planned this study, and its runs have "
        f"other names now, so it is planned again; {done} of {quantify(len(plan.rows), 'trial')} "
        "are done under the new names, and all earlier runs stay in the store"
    )
    return planned


def require_weights(missing: Sequence[TrialRow], fetch: bool = False) -> None:
    """Raise WeightsError, listing the missing files, unless the ImageNet weights are available.

    With `fetch` they are downloaded; without it the hub is only asked whether it has them.
    """
    specs = {(row.classifier, row.ablation): row.spec.classifier for row in missing}
    pretrained.require_hub_weights(select_networks(specs).values(), fetch)


def _require_buildable(todo: StudyPlan, missing: Sequence[TrialRow]) -> None:
    """Raise an error if a classifier of these rows cannot be built, or cannot see its faces."""
    specs = {f"{row.classifier}, {row.ablation}": row.spec.classifier for row in missing}
    shown = {f"{row.classifier}, {row.ablation}": todo.shown[row.spec.faces] for row in missing}
    pretrained.check_all(select_networks(specs), shown=shown)
    require_weights(missing, fetch=True)


def list_study_jobs(
    todo: StudyPlan, missing: Sequence[TrialRow], store: Store, device: str, slots: int
) -> list[Job]:
    """Return the jobs of the missing trials and of all that they need.

    Trainings of generators come first, then databases, then trials.
    """
    needed = {name for row in missing for name in row.spec.databases.values()} - todo.done

    # The generator and the database of each source in each fold
    training_jobs, database_jobs, filter_jobs = [], [], []
    for database in todo.databases:
        fold = "" if database.fold < 0 else f", fold {database.fold}"
        fold += "" if database.people is None else f", {database.people:.0%} of the people"
        split = database.split.model_dump(mode="json") if database.split else None
        for source, source_database in database.by_source.items():
            wanted = [used for used in source_database.all_used if used.name in needed]
            if not wanted:
                continue
            prefix = "" if source_database is database else f"{source} "
            arguments = {
                "spec": source_database.train.model_dump(mode="json"),
                "split": split,
                "device": device,
            }
            label = f"{prefix}generator{fold}"
            training_jobs.append(Job(source_database.train.name, label, _make_generator, arguments))
            drawn = {used.generate.name: used.generate for used in wanted}
            database_jobs += [
                replace(job, label=f"{prefix}{job.label}{fold}")
                for generate in drawn.values()
                for job in [
                    *list_levels_jobs(generate, device),
                    *list_generation_jobs(generate, store, device, slots),
                ]
            ]
            filter_jobs += [
                _make_filter_job(used, f"filter of the {prefix}database{fold}", split)
                for used in wanted
                if used.filter is not None
            ]

    # Two ways of use may share runs; each is made once
    trial_jobs = [_make_trial_job(row, todo.study, device) for row in missing]
    by_run = {job.run: job for job in [*training_jobs, *database_jobs, *filter_jobs, *trial_jobs]}
    return [job for run, job in by_run.items() if run not in todo.done]


def _make_filter_job(used: UsedDatabase, label: str, split: dict[str, Any] | None) -> Job:
    arguments = {
        "spec": used.filter.model_dump(mode="json") if used.filter else None,
        "split": split,
    }
    return Job(used.name, label, _make_filter, arguments, (used.generate.name,))


def _make_filter(store: Store, spec: dict[str, Any], split: dict[str, Any] | None) -> str:
    if split is not None:
        splits.run_split(SplitSpec.model_validate(split), store)
    run = filter_database(FilterSpec.model_validate(spec), store)
    return str(run.summary.get("holds", "filtered"))


def _make_generator(
    store: Store, spec: dict[str, Any], split: dict[str, Any] | None, device: str
) -> str:
    if split is not None:
        splits.run_split(SplitSpec.model_validate(split), store)
    train_generator(read_training(spec, "generator"), store, device=device)
    return "trained"


def _make_trial_job(row: TrialRow, study: StudySpec, device: str) -> Job:
    # The label, as people read it: vgg16 augment trained on real and synthetic, trial 2, fold 0
    trial = (
        "" if has_fixed_settings(study, row.classifier, row.control) else f", trial {row.trial + 1}"
    )
    fold = "" if study.protocol == "frame" else f", fold {row.fold}"
    ablation_name = row.ablation if len(study.ablations) > 1 else ""
    ablation_name += " with labels permuted" if permutes_labels(row.control) else ""
    change = find_motion_change(row.control)
    ablation_name += f" with motion {change}" if change else ""
    label = (
        f"{f'{row.classifier} {ablation_name.strip()}'.strip()} trained on "
        f"{row.spec.train.replace('_', ' and ')}{describe_arm(row.arm)}{trial}{fold}"
    )

    # The databases must exist before the trial starts
    after = tuple(row.spec.databases.values())
    return Job(
        row.spec.name,
        label,
        _make_trial,
        {"spec": row.spec.model_dump(mode="json"), "device": device},
        after,
    )


def _make_trial(store: Store, spec: dict[str, Any], device: str) -> str:
    run = run_trial(TrialSpec.model_validate(spec), store, device)
    accuracies = list_accuracies(read_predictions(run), run.name, spec)
    if spec.get("units"):
        return ", ".join(
            f"mean F1 on {test} {record.value:.3f} (n = {record.n:,})"
            for test, record in accuracies.items()
        )
    return "accuracy on " + ", ".join(
        f"{test} {record.value:.1%} of {record.n:,}" for test, record in accuracies.items()
    )
