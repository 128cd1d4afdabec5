"""Controls in the plan: the trainings and tests that each adds to the cells."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from mien import seeds
from mien.classifiers.baselines import BASELINES
from mien.faces import Faces
from mien.study.settings import (
    CONTROLS,
    SOURCES,
    SYNTHETIC,
    Arm,
    Source,
    find_setting,
    name_under_control,
)
from mien.study.specs import StudySpec


def permute_labels(faces: Faces, seed: int) -> Faces:
    """Return `faces` with their labels permuted over clips, so that no label depends on its face.

    All frames of a clip keep the same label, and each label keeps its number of clips. A photograph
    that belongs to no clip counts as a clip. The permutation depends on names and the seed, not on
    the order of the rows.
    """
    # The units: clips, split by label since a clip may show two
    index = faces.index
    clips = faces.name_units("clip") + "\x1f" + index["emotion"]
    labels = pd.Series(index["emotion"].to_numpy(), index=clips).groupby(level=0).first()

    shuffled = seeds.make_rng("permuted", seed).permutation(labels.to_numpy())
    label_of = dict(zip(labels.index, shuffled, strict=True))
    emotions = pd.Series([label_of[clip] for clip in clips], dtype="str")
    return replace(faces, index=index.assign(emotion=emotions))


@dataclass(frozen=True)
class TrialKind:
    """The fields that all trials and folds of one position in the table share."""

    classifier: str
    ablation: str
    control: str
    arm: Arm
    tests: tuple[Source, ...]


def list_trial_kinds(study: StudySpec) -> list[TrialKind]:
    """Return the trainings of one trial of one fold: those of the cells, then of the controls."""
    tests: dict[Arm, list[Source]] = {}
    for name in study.setting_names:
        setting = find_setting(name)
        tests.setdefault(setting.arm, []).append(setting.test)
    tests_of = {arm: tuple(dict.fromkeys(sources)) for arm, sources in tests.items()}

    cells = [
        TrialKind(
            name, ablation, "", arm, (*sources, *_list_further_tests(study, ablation, arm, sources))
        )
        for name in study.classifiers
        for ablation in study.ablations
        for arm, sources in tests_of.items()
        if _can_train(study, name, arm)
    ]
    baselines = [
        TrialKind(CONTROLS[name].baseline, "", name, arm, sources)
        for name in study.controls
        if CONTROLS[name].baseline
        for arm, sources in _list_trainings(name, tests_of)
    ]
    retrained = [
        TrialKind(classifier, ablation, name, arm, sources)
        for name in CONTROLS
        if name in study.controls and not CONTROLS[name].baseline
        for classifier, ablation in _list_controlled(study, name)
        for arm, sources in _list_trainings(name, tests_of)
        if _can_train(study, classifier, arm) and (arm.is_plain or classifier in study.classifiers)
    ]
    return [*cells, *baselines, *retrained]


def _can_train(study: StudySpec, classifier: str, arm: Arm) -> bool:
    """Whether a classifier can be trained in the way of an arm, which may be for networks alone."""
    use = study.uses.get(arm.use)
    return classifier not in BASELINES or use is None or not use.needs_network


def _list_further_tests(
    study: StudySpec, ablation: str, arm: Arm, tests: tuple[Source, ...]
) -> tuple[Source, ...]:
    """Return the tests that controls add to a training of the first ablation.

    So a cell that is trained on real images is also tested on those of each source.
    """
    if ablation != study.ablations[0]:
        return ()
    return tuple(
        name_under_control(name, test)
        for name in study.controls
        for test in tests
        if name in SOURCES and test == SYNTHETIC and not CONTROLS[name].needs_training(arm.train)
    )


def _list_trainings(
    name: str, tests_of: Mapping[Arm, tuple[Source, ...]]
) -> list[tuple[Arm, tuple[Source, ...]]]:
    """Return the arm and the tests of each training that a control has of its own.

    Only images that take the place of synthetic ones are used in all the ways that those are.
    """
    control = CONTROLS[name]
    if control.only:
        setting = find_setting(control.only)
        tests_of = {setting.arm: (setting.test,)}
    return [
        (
            replace(arm, train=name_under_control(name, arm.train)),
            tuple(name_under_control(name, test) for test in sources),
        )
        for arm, sources in tests_of.items()
        if control.needs_training(arm.train) and (arm.is_plain or control.source is not None)
    ]


def _list_controlled(study: StudySpec, control: str) -> list[tuple[str, str]]:
    """Return who is trained for such a control, as pairs of name and ablation.

    They are baselines such as a nearest neighbour, unless the control changes the movement, and
    each classifier in the first ablation.
    """
    baselines = [
        (name, "")
        for name, baseline in BASELINES.items()
        if baseline.short and not CONTROLS[control].motion
    ]
    return [*baselines, *((name, study.ablations[0]) for name in study.classifiers)]
