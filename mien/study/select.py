"""--only: some of a study's trials, by what they are."""

from collections.abc import Sequence

from mien.errors import UsageError
from mien.findings import list_some
from mien.runs.spec import suggest
from mien.study.settings import (
    CONTROLS,
    SETTINGS,
    SOURCES,
    find_setting,
    name_setting,
    name_under_control,
)
from mien.study.specs import StudySpec, TrialRow

Only = dict[str, frozenset[str]]
"""A selection of trials: the allowed names by axis (setting, classifier, ablation, control, trial,
fold). An axis that is absent allows every name.
"""

MOST_NAMES = 8  # names of an axis that a message lists; studies of ways have dozens of settings

ONLY_AXES = ("setting", "classifier", "ablation", "control", "trial", "fold")


def parse_only(texts: Sequence[str], study: StudySpec, option: str = "--only") -> Only:
    """Return the selection of `--only` texts such as setting=real_to_real,classifier=vgg16.

    An axis that is given twice allows either name. Trials count from 1, folds from 0;
    control=none is the cells without controls. `option` is the name that messages begin with.

    Raises UsageError for an axis or a name that the study does not have.
    """
    # The names that each axis of this study has
    baselines = [
        control.baseline
        for name, control in CONTROLS.items()
        if control.baseline and name in study.controls
    ]
    known_names = {
        "setting": study.setting_names,
        "classifier": [*study.classifiers, *baselines],
        "ablation": list(study.ablations),
        "control": ["none", *study.controls],
        "trial": [str(number + 1) for number in range(study.trials)],
        "fold": [str(fold) for fold in study.tested_folds],
    }

    # Each text is a list of axis=name
    only: dict[str, set[str]] = {}
    for term in (term.strip() for text in texts for term in text.split(",")):
        axis, equals, name = (word.strip() for word in term.partition("="))
        if not equals or axis not in known_names:
            raise UsageError(
                f"{option} must be like setting=real_to_real,classifier=vgg16 with "
                f"{', '.join(ONLY_AXES)}; given: '{term}'.{suggest(axis, list(ONLY_AXES))}"
            )
        if name not in known_names[axis]:
            # A similar number is no help, so there is no hint for trials and folds
            hint = "" if axis in ("trial", "fold") else _suggest_part(name, known_names[axis])
            names = list_some(known_names[axis], MOST_NAMES) if known_names[axis] else "none"
            raise UsageError(f"{option} {axis}={name}: the study has {names}.{hint}")
        only.setdefault(axis, set()).add(name)
    return {axis: frozenset(names) for axis, names in only.items()}


def select_cells(rows: Sequence[TrialRow], study: StudySpec) -> list[TrialRow]:
    """Return the rows of the cells that a study has, which are all unless it lists some."""
    if not study.cells:
        return list(rows)
    selections = [parse_only([text], study, "cells") for text in study.cells]
    return [row for row in rows if any(_is_selected(row, only) for only in selections)]


def select_rows(rows: Sequence[TrialRow], only: Only, option: str = "--only") -> list[TrialRow]:
    """Return the rows that `only` selects; a training belongs to every setting that it serves.

    `option` is the name that messages begin with.

    Raises UsageError if there are rows but none is selected.
    """
    selected = [row for row in rows if _is_selected(row, only)]
    if rows and not selected:
        # Say for each axis which names it could have if the others stay as they are
        choices = []
        for axis in only:
            other_axes = {
                other_axis: names for other_axis, names in only.items() if other_axis != axis
            }
            names = [
                name
                for row in rows
                if _is_selected(row, other_axes)
                for name in sorted(_list_names(row)[axis])
            ]
            choices.append(
                f"with {_format_only(other_axes)} there is "
                f"{axis}={' or '.join(dict.fromkeys(names)) or 'nothing'}"
            )
        raise UsageError(f"{option} {_format_only(only)} selects no trial: {'; '.join(choices)}")
    return selected


def _format_only(only: Only) -> str:
    """Return a selection as it is written after `--only`."""
    return ",".join(f"{axis}={name}" for axis, names in only.items() for name in sorted(names))


def _is_selected(row: TrialRow, only: Only) -> bool:
    return all(_list_names(row)[axis] & names for axis, names in only.items())


def explain_generators(rows: Sequence[TrialRow], only: Only) -> str:
    """Return why a selection of real settings needs generators, or "" where it needs none."""
    settings = only.get("setting", frozenset())
    if not settings or any(find_setting(name).needs_synthetic for name in settings):
        return ""
    if not any(row.spec.databases for row in rows):
        return ""
    return (
        f"a trial is one training with all its tests: those of {', '.join(sorted(settings))} are "
        "also tested on synthetic faces, for the study's other settings, so generators and "
        "databases come first"
    )


def _list_names(row: TrialRow) -> dict[str, frozenset[str]]:
    arm = row.arm
    settings = {
        name_setting(name, arm.use, arm.ratio, arm.people)
        for name, setting in SETTINGS.items()
        if any(
            row.spec.train == name_under_control(control, setting.train)
            and name_under_control(control, setting.test) in row.spec.tests
            for control in ("", *SOURCES)
        )
    }
    return {
        "setting": frozenset(settings),
        "classifier": frozenset({row.classifier}),
        "ablation": frozenset({row.ablation}),
        "control": frozenset({row.control or "none"}),
        "trial": frozenset({str(row.trial + 1)}),
        "fold": frozenset({str(row.fold)}),
    }


def _suggest_part(name: str, known_names: list[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest name, or for the first that has `name` in it."""
    holding = [known for known in known_names if name and name in known]
    return suggest(name, known_names) or (f" Did you mean '{holding[0]}'?" if holding else "")
