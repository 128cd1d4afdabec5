"""The state of a study: how many trials are done, failed and missing."""

from collections import Counter, defaultdict

import numpy as np

from mien.runs.progress import count_of, format_duration
from mien.runs.store import Store
from mien.study.plan_file import TrialRecord
from mien.study.results import StudyResults

# Progress


def study_status(name: str, store: Store) -> str:
    """Return the progress of a study as lines: done, under way, to come with its time, failed."""
    study = StudyResults(name, store)
    failed = {trial.run for trial, _ in study.failed}
    busy = {run for run in study.runs if run not in study.done and store.is_being_made(run)}
    trial_of = {trial.run: trial for trial in study.trials}

    # Trials that are done, of the cells and of the controls
    lines = [
        f"{study.title}: {len(study.done)} of {count_of(len(study.runs), 'trial')} done, in "
        f"{format_duration(study.seconds)}"
    ]
    for kind, is_control in (("cells", False), ("controls", True)):
        runs = [run for run in study.runs if bool(trial_of[run].control) is is_control]
        if runs:
            lines.append(f"  {kind:<12}{sum(run in study.done for run in runs):>5} of {len(runs)}")

    # Generators and databases
    databases = study.plan.databases
    database_runs = [name for database in databases for name in database.runs]
    if database_runs:
        controlled = any(database.controls for database in databases)
        label = "generators, databases and controls" if controlled else "generators and databases"
        done = sum(store.is_done(run) for run in database_runs)
        lines.append(f"  {label:<35}{done:>3} of {len(database_runs)}")

    # What another process works on now, what is still to come, and the errors
    lines += [f"  under way   {describe_trial(study, trial_of[run])}" for run in busy]
    lines += [
        f"  under way   {run}"
        for run in database_runs
        if not store.is_done(run) and store.is_being_made(run)
    ]
    to_come = len(study.runs) - len(study.done) - len(failed - busy)
    lines.append(f"  to come     {to_come}{_estimate_remaining(study, trial_of, failed)}")
    errors = Counter(error for trial, error in study.failed if trial.run not in busy)
    lines += [f"  failed      {n} x {text}" for text, n in errors.items()]
    return "\n".join(lines)


def _estimate_remaining(
    study: StudyResults, trial_of: dict[str, TrialRecord], failed: set[str]
) -> str:
    """Return the expected time of the trials to come, from the finished trials of their kind."""
    seconds_of: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for name, run in study.done.items():
        seconds_of[_get_kind(trial_of[name])].append(run.seconds)
    mean_of = {kind: float(np.mean(seconds)) for kind, seconds in seconds_of.items()}

    todo = [name for name in study.runs if name not in study.done and name not in failed]
    known = [
        mean_of[_get_kind(trial_of[name])] for name in todo if _get_kind(trial_of[name]) in mean_of
    ]
    if not known:
        return ""
    unknown = len(todo) - len(known)
    note = f", {unknown} of them of a kind of which no trial is done" if unknown else ""
    return f", about {format_duration(float(np.sum(known)) * len(todo) / len(known))}{note}"


def _get_kind(trial: TrialRecord) -> tuple[str, str, str]:
    """Return the fields on which the time of a trial depends."""
    return trial.classifier, trial.ablation, trial.train


def describe_trial(study: StudyResults, trial: TrialRecord) -> str:
    """Return the description of a trial: its classifier, training set, number and fold."""
    # Without randomness one run is all trials, and has no number
    fold = "" if study.protocol == "frame" else f", fold {trial.fold}"
    shared = sum(other.run == trial.run for other in study.trials) > 1
    number = "" if shared else f", trial {trial.trial + 1}"
    kind = f" {trial.ablation}" if trial.ablation and len(study.ablations) > 1 else ""
    control = f" ({trial.control})" if trial.control else ""
    train = trial.train.replace("_", " and ")
    return f"{trial.classifier}{kind}{control} trained on {train}{number}{fold}"
