"""Controls: what a setting scores without learning or a true generator."""

from dataclasses import dataclass, replace

import pandas as pd

from mien import seeds
from mien.classifiers.specs import BASELINES
from mien.faces import Faces
from mien.study.settings import COPYCAT_VARIANTS, SETTINGS, Source, TrainedOn
from mien.study.specs import StudySpec


def permute_labels(faces: Faces, seed: int) -> Faces:
    """Return `faces` with their labels permuted over clips, so that no label depends on its face.

    All frames of a clip keep the same label, and each label keeps its number of clips. A photograph
    that belongs to no clip counts as a clip. The permutation depends on names and the seed, not on
    the order of the rows.
    """
    # The units: clips, split by label since a clip may show two
    index = faces.index
    clips = faces.units("clip") + "\x1f" + index["emotion"]
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


def trial_kinds(study: StudySpec) -> list[TrialKind]:
    """Return the trainings of one trial of one fold: those of the cells, then of the controls."""
    tests: dict[TrainedOn, list[Source]] = {}
    for setting in study.settings:
        train, test = SETTINGS[setting]
        tests.setdefault(train, []).append(test)
    tests_of: dict[TrainedOn, tuple[Source, ...]] = {
        train: tuple(dict.fromkeys(sources)) for train, sources in tests.items()
    }
    cells = [
        TrialKind(
            name,
            ablation,
            "",
            train,
            (*sources, *_add_copycat_test(study, ablation, train, sources)),
        )
        for name in study.classifiers
        for ablation in study.ablations
        for train, sources in tests_of.items()
    ]
    baselines = [
        TrialKind(control, "", control, train, sources)
        for control in study.controls
        if control in BASELINES
        for train, sources in tests_of.items()
    ]
    return [*cells, *baselines, *_list_permuted_kinds(study), *_list_copycat_kinds(study, tests_of)]


def _add_copycat_test(
    study: StudySpec, ablation: str, train: TrainedOn, tests: tuple[Source, ...]
) -> tuple[Source, ...]:
    """Return the copycat as a further test of a training on real faces.

    It is the control of the setting real_to_synthetic.
    """
    wanted = "copycat" in study.controls and ablation == study.ablations[0]
    return ("copycat",) if wanted and train == "real" and "synthetic" in tests else ()


def _list_permuted_kinds(study: StudySpec) -> list[TrialKind]:
    if "permuted" not in study.controls:
        return []
    return [
        TrialKind(name, ablation, "permuted", "real", ("real",))
        for name, ablation in _list_controlled(study)
    ]


def _list_copycat_kinds(
    study: StudySpec, tests_of: dict[TrainedOn, tuple[Source, ...]]
) -> list[TrialKind]:
    if "copycat" not in study.controls:
        return []
    return [
        TrialKind(
            name,
            ablation,
            "copycat",
            COPYCAT_VARIANTS[train],
            tuple(COPYCAT_VARIANTS.get(test, test) for test in sources),
        )
        for name, ablation in _list_controlled(study)
        for train, sources in tests_of.items()
        if train in COPYCAT_VARIANTS
    ]


def _list_controlled(study: StudySpec) -> list[tuple[str, str]]:
    """Return who is trained on permuted labels and on copies, as pairs of name and ablation.

    They are a nearest neighbour, and each classifier in the study's first ablation.
    """
    return [("nearest", ""), *((name, study.ablations[0]) for name in study.classifiers)]
