"""Action units: do synthetic faces show the units that they were given?

A judge learns each unit from the training people, as the judges of labels learn emotions. The audit
compares its F1 on synthetic faces with its F1 on held-out people, which is what it reaches on real
faces.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from mien import stats
from mien.audit.labels.judges import describe_gradients, fit_judge
from mien.faces import Faces
from mien.findings import Finding, list_some
from mien.prepare.action_units import find_coded, has_units
from mien.prepare.facs import parse_units
from mien.stats import Record

if TYPE_CHECKING:
    import sklearn.pipeline

# A unit is judged if this many clips show it and as many do not, each of two people or more, both
# in training and among held-out people; and if this many synthetic images show it
MIN_JUDGED_CLIPS, MIN_JUDGED_PEOPLE, MIN_JUDGED_IMAGES = 5, 2, 10


def measure_units(
    synthetic: Faces, train: Faces, heldout: Faces
) -> tuple[list[Record], list[Finding]]:
    """Return how well a judge finds the units of synthetic faces, and of held-out real ones.

    `labels.units` is the F1 of the units with which `synthetic` was drawn, and `labels.units_real`
    that of the units which coders found in `heldout`, real people who are not in `train`; for each
    unit, and as the mean over units. 95 % intervals resample images, or people. F1 grows with the
    share of images that show a unit, which each record states. Nothing is returned for synthetic
    faces without units; a finding names the units of which there are too few real faces to tell.
    """
    if not has_units(synthetic):
        return [], []
    sides = {"training": _select_coded(train), "held-out": _select_coded(heldout)}
    shown = {name: _list_units(faces) for name, faces in sides.items()}
    drawn = _list_units(synthetic)

    # Units of which both sides have enough
    units = sorted({unit for units in drawn for unit in units})
    unjudged: dict[int, list[str]] = {}
    for unit in units:
        few = [name for name in sides if not _has_enough(sides[name], _show(shown[name], unit))]
        few += ["synthetic"] if _show(drawn, unit).sum() < MIN_JUDGED_IMAGES else []
        if few:
            unjudged[unit] = few
    judged = [unit for unit in units if unit not in unjudged]
    findings = []
    if unjudged:
        names = list_some([f"AU {unit}" for unit in unjudged], 6)
        where = " or ".join(sorted({name for few in unjudged.values() for name in few}))
        message = (
            f"cannot tell whether synthetic faces show {names}: too few {where} images show it, or "
            f"do not ({MIN_JUDGED_CLIPS} clips of {MIN_JUDGED_PEOPLE} people of each are needed, "
            f"and {MIN_JUDGED_IMAGES} synthetic images)"
        )
        findings.append(Finding("warning", "units not judged", "", message))
    if not judged:
        return [], findings

    # A judge of each unit, and what it finds
    train_features, real_features, features = (
        describe_gradients(faces.images, faces.channels) for faces in (*sides.values(), synthetic)
    )
    tests = {
        "labels.units": (features, drawn, np.arange(len(synthetic)), "images"),
        "labels.units_real": (
            real_features,
            shown["held-out"],
            _number_people(sides["held-out"]),
            "images, interval over people",
        ),
    }
    models = {
        unit: fit_judge(train_features, _show(shown["training"], unit).astype(np.int64), unit)
        for unit in judged
    }
    records: list[Record] = []
    for metric, (seen, texts, groups, words) in tests.items():
        records += _score_units(metric, models, seen, texts, groups, words)
    return records, findings


def _score_units(
    metric: str,
    models: "dict[int, sklearn.pipeline.Pipeline]",
    features: Float[np.ndarray, "n d"],
    shown: Sequence[frozenset[int]],
    groups: Int[np.ndarray, " n"],
    words: str,
) -> list[Record]:
    """Return the F1 of each judge, after their mean; intervals resample `groups` of images."""
    # True positives, and errors of both sorts, of each group in each resample
    draws = stats.draw_resamples(int(groups.max()) + 1, metric).astype(np.float64)
    values, spreads, records = [], [], []
    for unit, model in models.items():
        true, found = _show(shown, unit), model.predict(features) == 1
        hits, errors = (
            np.bincount(groups, weights=rows, minlength=draws.shape[1])
            for rows in (true & found, true ^ found)
        )
        value = _compute_f1(hits.sum(keepdims=True), errors.sum(keepdims=True))[0]
        spread = _compute_f1(draws @ hits, draws @ errors)
        interval = stats.make_interval(float(value), spread if draws.shape[1] > 1 else None)
        text = f"{words}; {int(true.sum()):,} show the unit"
        records.append(Record.of(metric, interval, len(features), text, f"AU {unit}"))
        values.append(float(value))
        spreads.append(spread)

    # The mean over units
    overall = stats.make_interval(
        float(np.mean(values)), np.mean(spreads, axis=0) if draws.shape[1] > 1 else None
    )
    text = f"{words}; mean over {len(models)} units"
    return [Record.of(metric, overall, len(features), text), *records]


def _compute_f1(
    hits: Float[np.ndarray, "*draws"] | np.floating,
    errors: Float[np.ndarray, "*draws"] | np.floating,
) -> Float[np.ndarray, "*draws"]:
    """Return 2 TP / (2 TP + FP + FN); 0 where there are neither hits nor errors."""
    return 2 * hits / np.maximum(2 * hits + errors, 1)


def _select_coded(faces: Faces) -> Faces:
    return faces.select(find_coded(faces))


def _list_units(faces: Faces) -> list[frozenset[int]]:
    """Return the numbers of the units of each image."""
    texts = faces.index["action_units"]
    units = {
        text: frozenset(unit.number for unit in parse_units(text).units) for text in set(texts)
    }
    return [units[text] for text in texts]


def _show(shown: Sequence[frozenset[int]], unit: int) -> Bool[np.ndarray, " n"]:
    """Return which images show a unit."""
    return np.array([unit in units for units in shown], dtype=bool)


def _has_enough(faces: Faces, shows: Bool[np.ndarray, " n"]) -> bool:
    """Whether enough clips and people show a unit, and enough do not."""
    clips, people = faces.name_units("clip"), faces.name_units("subject")
    return all(
        clips[rows].nunique() >= MIN_JUDGED_CLIPS and people[rows].nunique() >= MIN_JUDGED_PEOPLE
        for rows in (shows, ~shows)
    )


def _number_people(faces: Faces) -> Int[np.ndarray, " n"]:
    _, numbers = np.unique(faces.name_units("subject").to_numpy(dtype=str), return_inverse=True)
    return numbers.astype(np.int64)
