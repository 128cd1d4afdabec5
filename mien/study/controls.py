"""Controls in the plan: the trainings and tests that each adds to the cells."""

from dataclasses import dataclass, replace

import pandas as pd

from mien import seeds
from mien.classifiers.baselines import BASELINES
from mien.faces import Faces
from mien.study.settings import (
    CONTROLS,
    SETTINGS,
    SOURCES,
    SYNTHETIC,
    Source,
    TrainedOn,
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
    train: TrainedOn
    tests: tuple[Source, ...]


def list_trial_kinds(study: StudySpec) -> list[TrialKind]:
    """Return the trainings of one trial of one fold: those of the cells, then of the controls."""
    tests: dict[TrainedOn, list[Source]] = {}
    for name in study.settings:
        tests.setdefault(SETTINGS[name].train, []).append(SETTINGS[name].test)
    tests_of: dict[TrainedOn, tuple[Source, ...]] = {
        train: tuple(dict.fromkeys(sources)) for train, sources in tests.items()
    }

    cells = [
        TrialKind(
            name,
            ablation,
            "",
            train,
            (*sources, *_list_further_tests(study, ablation, train, sources)),
        )
        for name in study.classifiers
        for ablation in study.ablations
        for train, sources in tests_of.items()
    ]
    baselines = [
        TrialKind(CONTROLS[name].baseline, "", name, train, sources)
        for name in study.controls
        if CONTROLS[name].baseline
        for train, sources in _list_trainings(name, tests_of)
    ]
    retrained = [
        TrialKind(classifier, ablation, name, train, sources)
        for name in CONTROLS
        if name in study.controls and not CONTROLS[name].baseline
        for classifier, ablation in _list_controlled(study, name)
        for train, sources in _list_trainings(name, tests_of)
    ]
    return [*cells, *baselines, *retrained]


def _list_further_tests(
    study: StudySpec, ablation: str, train: TrainedOn, tests: tuple[Source, ...]
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
        if name in SOURCES and test == SYNTHETIC and not CONTROLS[name].needs_training(train)
    )


def _list_trainings(
    name: str, tests_of: dict[TrainedOn, tuple[Source, ...]]
) -> list[tuple[TrainedOn, tuple[Source, ...]]]:
    """Return the training set and the tests of each training that a control has of its own."""
    control = CONTROLS[name]
    if control.only:
        setting = SETTINGS[control.only]
        tests_of = {setting.train: (setting.test,)}
    return [
        (name_under_control(name, train), tuple(name_under_control(name, test) for test in sources))
        for train, sources in tests_of.items()
        if control.needs_training(train)
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
