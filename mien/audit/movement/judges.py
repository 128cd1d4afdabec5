"""Judges of movement: labels, action units and origin, told from flow.

They learn from the flow by region of training people within a second, and never see a face.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mien.audit.movement.clips import Movements
from mien.audit.movement.distances import average_known, number_people
from mien.errors import DataError
from mien.prepare import facs
from mien.seeds import make_rng
from mien.stats import Interval, draw_resamples, make_interval

STRENGTH = 0.3  # inverse of the regularisation of all judges, as few clips have many numbers

MIN_CLASS_PEOPLE = 3  # training people who show a class or an action unit that judges learn

ORIGIN_FOLDS = 5  # of people, in the test that tells synthetic clips from real ones


@dataclass(frozen=True)
class Judged:
    """A score of judges on a set of clips with its interval over people; n is that of the clips."""

    score: Interval
    n: int
    each: dict[str, Interval]  # by class or action unit


def judge_labels(train: Movements, sets: Sequence[Movements]) -> tuple[list[Judged], int]:
    """Return the mean recall of a judge of labels on each set, and the number of its classes.

    The judge learns from the clips of `train`. Raises DataError if it lacks two classes.
    """
    # The classes that enough training people show
    classes = [
        emotion
        for emotion in sorted(set(train.emotions))
        if train.count_people(train.emotions == emotion) >= MIN_CLASS_PEOPLE
    ]
    if len(classes) < 2:
        raise DataError(
            f"two classes or more need clips of {MIN_CLASS_PEOPLE} training people; "
            f"{len(classes)} has them"
        )
    is_learnt = np.isin(train.emotions.astype(str), classes)
    model = _fit(train.regions[is_learnt], train.emotions[is_learnt].astype(str))

    # Recall of each class, and their mean
    judged = []
    for clips in sets:
        known = np.isin(clips.emotions.astype(str), classes)
        if not known.any():
            raise DataError("no clip has a class that the judge of movement learnt")
        emotions = clips.emotions[known].astype(str)
        hits = model.predict(clips.regions[known]) == emotions
        codes, count = number_people(clips.people[known])
        shown = [name for name in classes if (emotions == name).any()]
        recalls = np.stack(
            [_weigh_mean(hits, emotions == name, codes, count, "judged labels") for name in shown]
        )
        each = {
            name: make_interval(float(row[0]), row[1:])
            for name, row in zip(shown, recalls, strict=True)
        }
        judged.append(Judged(_average(recalls), int(known.sum()), each))
    return judged, len(classes)


def judge_units(train: Movements, sets: Sequence[Movements]) -> list[Judged | None]:
    """Return the mean F1 of a judge of action units on each set; None where no units are named.

    The judge learns one unit at a time, with both sides as one. Raises DataError if fewer than two
    units are shown by enough training people.
    """
    # The units that enough training people show, and do not show
    coded = [_code_units(clips.action_units) for clips in (train, *sets)]
    units = sorted({unit for clip in coded[0] for unit in clip})
    shown = {unit: np.array([unit in clip for clip in coded[0]]) for unit in units}
    learnt = [
        unit
        for unit in units
        if min(train.count_people(shown[unit]), train.count_people(~shown[unit]))
        >= MIN_CLASS_PEOPLE
    ]
    if len(learnt) < 2:
        raise DataError(
            f"two action units or more need clips of {MIN_CLASS_PEOPLE} training people; "
            f"{len(learnt)} has them"
        )
    models = {unit: _fit(train.regions, shown[unit].astype(int)) for unit in learnt}

    # F1 of each unit that a set shows, and their mean
    judged: list[Judged | None] = []
    for clips, units_of in zip(sets, coded[1:], strict=True):
        codes, count = number_people(clips.people)
        scores: dict[int, Float[np.ndarray, " draws"]] = {}
        for unit in learnt:
            intended = np.array([unit in clip for clip in units_of])
            if intended.any():
                found = models[unit].predict(clips.regions) == 1
                scores[unit] = _weigh_f1(found, intended, codes, count)
        if not scores:
            judged.append(None)
            continue
        each = {f"AU{unit}": make_interval(float(row[0]), row[1:]) for unit, row in scores.items()}
        judged.append(Judged(_average(np.stack(list(scores.values()))), len(clips), each))
    return judged


def judge_origin(synthetic: Movements, real: Movements) -> Interval:
    """Return how well a judge distinguishes synthetic clips from real ones, as area under ROC.

    0.5 is chance, 1 tells all. Clips of people whom the judge did not learn from are scored, by
    flow, course and stillness. The interval is over resamples of people. Raises DataError with
    fewer than ORIGIN_FOLDS people on a side.
    """
    sides = (synthetic, real)
    if min(clips.count_people() for clips in sides) < ORIGIN_FOLDS:
        counts = " and ".join(str(clips.count_people()) for clips in sides)
        raise DataError(
            f"clips can be told apart only with {ORIGIN_FOLDS} people or more on each side; given: "
            f"{counts} synthetic and held-out people"
        )
    points = [_describe_all(clips, all(other.is_timed.all() for other in sides)) for clips in sides]
    people = [number_people(clips.people) for clips in sides]

    # Scores of people who are left out
    folds = [
        make_rng("folds of origin", side, count).permutation(count)[codes] % ORIGIN_FOLDS
        for side, (codes, count) in enumerate(people)
    ]
    scores = [np.zeros(len(clips)) for clips in sides]
    for fold in range(ORIGIN_FOLDS):
        kept = [folds[side] != fold for side in range(2)]
        values = np.concatenate([points[side][kept[side]] for side in range(2)])
        is_synthetic = np.repeat([1, 0], [int(kept[0].sum()), int(kept[1].sum())])
        model = _fit(values, is_synthetic)
        for side in range(2):
            scores[side][~kept[side]] = model.decision_function(points[side][~kept[side]])

    # The share of pairs in the right order, in resamples of people
    shape = (people[0][1], people[1][1])
    wins, numbers = np.zeros(shape), np.zeros(shape)
    above = scores[0][:, None] - scores[1][None]
    order = (above > 0) + 0.5 * (above == 0)
    places = (people[0][0][:, None], people[1][0][None])
    np.add.at(wins, places, order)
    np.add.at(numbers, places, 1.0)
    times = [
        np.concatenate([np.ones((1, count), dtype=np.int64), draw_resamples(count, name)])
        for (_, count), name in zip(people, ("made", "held-out"), strict=True)
    ]
    areas = ((times[0] @ wins) * times[1]).sum(1) / ((times[0] @ numbers) * times[1]).sum(1)
    return make_interval(float(areas[0]), areas[1:])


def _fit(points: Float[np.ndarray, "n features"], targets: np.ndarray):
    """Return a logistic regression on standardised numbers, with equal weights of the classes."""
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), model).fit(points, targets)


def _describe_all(clips: Movements, is_timed: bool) -> Float[np.ndarray, "n features"]:
    """Return all numbers of clips; those that need a course only where all clips have one."""
    parts = [clips.regions, *([clips.courses, clips.stillness] if is_timed else [])]
    return np.concatenate(parts, axis=1)


def _code_units(texts: Sequence[str]) -> list[set[int]]:
    """Return the numbers of the action units of each clip, without sides and intensities."""
    return [{unit.number for unit in facs.parse_units(text).units} for text in texts]


def _resample(codes: Int[np.ndarray, " n"], count: int, name: str) -> Int[np.ndarray, "draws n"]:
    """Return how often each clip counts: once, and then as often as its person is drawn."""
    times = np.concatenate([np.ones((1, count), dtype=np.int64), draw_resamples(count, name)])
    return times[:, codes]


def _weigh_mean(
    hits: Bool[np.ndarray, " n"],
    which: Bool[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    count: int,
    name: str,
) -> Float[np.ndarray, " draws"]:
    """Return the share of hits among some clips: over all people, then in each resample."""
    times = _resample(codes, count, name)[:, which]
    with np.errstate(invalid="ignore"):
        return (times * hits[which]).sum(1) / times.sum(1)


def _weigh_f1(
    found: Bool[np.ndarray, " n"],
    intended: Bool[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    count: int,
) -> Float[np.ndarray, " draws"]:
    """Return F1 of a unit: over all people, then in each resample."""
    times = _resample(codes, count, "judged units")
    both = times[:, found & intended].sum(1)
    either = times[:, found].sum(1) + times[:, intended].sum(1)
    with np.errstate(invalid="ignore"):
        return 2 * both / either


def _average(rows: Float[np.ndarray, "k draws"]) -> Interval:
    """Return the mean over classes or units, with its interval."""
    means = average_known(rows)
    return make_interval(float(means[0]), means[1:])
