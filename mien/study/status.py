"""The state of a study: how many trials are done, failed and missing."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from mien.runs.progress import format_duration, quantify
from mien.runs.store import Store
from mien.study.plan_file import TrialRecord
from mien.study.results import StudyResults
from mien.study.settings import Arm, describe_arm


@dataclass(frozen=True)
class Progress:
    """How far a study has come.

    `cells` and `controls` have the numbers of trials that are done and of all; `databases` those of
    the generators and databases, including the controls' if `has_control_databases`.
    `seconds_to_come` is None if no trial of a kind that is to come is done, and `unknown` counts
    the trials to come of such kinds. `under_way` describes what another process works on, and
    `errors` has the number of trials that ended with each error.
    """

    study: str
    run: str
    trials: int
    done: int
    failed: int
    to_come: int
    cells: tuple[int, int]
    controls: tuple[int, int]
    databases: tuple[int, int]
    has_control_databases: bool
    seconds: float
    seconds_to_come: float | None
    unknown: int
    under_way: tuple[str, ...]
    errors: dict[str, int]


def read_progress(name: str, store: Store) -> Progress:
    """Return the progress of a study, which another process may be running."""
    study = StudyResults(name, store)
    failed = {trial.run for trial, _ in study.failed}
    busy = {run for run in study.runs if run not in study.done and store.is_being_made(run)}
    trial_of = {trial.run: trial for trial in study.trials}

    # Trials of the cells and of the controls
    counts = {}
    for is_control in (False, True):
        runs = [run for run in study.runs if bool(trial_of[run].control) is is_control]
        counts[is_control] = sum(run in study.done for run in runs), len(runs)

    # Generators and databases
    databases = study.plan.databases
    database_runs = list(dict.fromkeys(name for database in databases for name in database.runs))
    done_runs = {run for run in database_runs if store.is_done(run)}
    being_made = [run for run in database_runs if run not in done_runs and store.is_being_made(run)]

    # What is still to come, and the errors
    seconds, unknown = _estimate_remaining(study, trial_of, failed)
    errors = Counter(error for trial, error in study.failed if trial.run not in busy)
    return Progress(
        study=study.title,
        run=store.run(name).name,
        trials=len(study.runs),
        done=len(study.done),
        failed=len(failed - busy),
        to_come=len(study.runs) - len(study.done) - len(failed - busy),
        cells=counts[False],
        controls=counts[True],
        databases=(len(done_runs), len(database_runs)),
        has_control_databases=any(database.controls for database in databases),
        seconds=study.seconds,
        seconds_to_come=seconds,
        unknown=unknown,
        under_way=(*(describe_trial(study, trial_of[run]) for run in busy), *being_made),
        errors=dict(errors),
    )


def describe_progress(progress: Progress) -> str:
    """Return the progress as lines: done, under way, to come with its time, failed."""
    # What is done
    lines = [
        f"{progress.study}: {progress.done} of {quantify(progress.trials, 'trial')} done, in "
        f"{format_duration(progress.seconds)}"
    ]
    for kind, (done, total) in (("cells", progress.cells), ("controls", progress.controls)):
        if total:
            lines.append(f"  {kind:<12}{done:>5} of {total}")
    if progress.databases[1]:
        label = "generators and databases"
        if progress.has_control_databases:
            label = "generators, databases and controls"
        lines.append(f"  {label:<35}{progress.databases[0]:>3} of {progress.databases[1]}")

    # What another process works on now, what is still to come, and the errors
    lines += [f"  under way   {text}" for text in progress.under_way]
    time = ""
    if progress.seconds_to_come is not None:
        time = f", about {format_duration(progress.seconds_to_come)}"
        if progress.unknown:
            time += f", {progress.unknown} of them of a kind of which no trial is done"
    lines.append(f"  to come     {progress.to_come}{time}")
    lines += [f"  failed      {n} x {text}" for text, n in progress.errors.items()]
    return "\n".join(lines)


def _estimate_remaining(
    study: StudyResults, trial_of: dict[str, TrialRecord], failed: set[str]
) -> tuple[float | None, int]:
    """Return the expected seconds of the trials to come, from the finished trials of their kind.

    The second value is the number of trials to come of a kind of which none is finished; they count
    as much as the others do on average. The first is None if there are no others.
    """
    seconds_of: dict[tuple[str, str, Arm], list[float]] = defaultdict(list)
    for name, run in study.done.items():
        seconds_of[_get_kind(trial_of[name])].append(run.seconds)
    mean_of = {kind: float(np.mean(seconds)) for kind, seconds in seconds_of.items()}

    todo = [name for name in study.runs if name not in study.done and name not in failed]
    known_seconds = [
        mean_of[_get_kind(trial_of[name])] for name in todo if _get_kind(trial_of[name]) in mean_of
    ]
    unknown = len(todo) - len(known_seconds)
    if not known_seconds:
        return None, unknown
    return float(np.sum(known_seconds)) * len(todo) / len(known_seconds), unknown


def _get_kind(trial: TrialRecord) -> tuple[str, str, Arm]:
    """Return the fields on which the time of a trial depends."""
    return trial.classifier, trial.ablation, trial.arm


def describe_trial(study: StudyResults, trial: TrialRecord) -> str:
    """Return the description of a trial: its classifier, training set, number and fold."""
    # Without randomness one run is all trials, and has no number
    fold = "" if study.protocol == "frame" else f", fold {trial.fold}"
    shared = sum(other_trial.run == trial.run for other_trial in study.trials) > 1
    number = "" if shared else f", trial {trial.trial + 1}"
    ablation_note = f" {trial.ablation}" if trial.ablation and len(study.ablations) > 1 else ""
    control = f" ({trial.control})" if trial.control else ""
    train = trial.train.replace("_", " and ") + describe_arm(trial.arm)
    return f"{trial.classifier}{ablation_note}{control} trained on {train}{number}{fold}"
