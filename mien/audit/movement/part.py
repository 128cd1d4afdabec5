"""Movement as a part of an audit: its numbers, and strips of clips."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image

from mien.audit.movement.clips import STILL_COLUMNS, Movements, count_whole_clips, measure_clips
from mien.audit.movement.copied import CopiedMovement, find_copied
from mien.audit.movement.distances import (
    Group,
    measure_distance,
    measure_halves,
    number_people,
    scale_points,
)
from mien.audit.movement.judges import Judged, judge_labels, judge_origin, judge_units
from mien.audit.part import Part, PartInput, PartResult, try_measure
from mien.faces import Faces
from mien.pages.sheets import draw_rows
from mien.stats import Interval, Record, draw_resamples, make_interval

SHEET_MOMENTS = 9  # of a clip on the sheet of strips

STRIPPED_CLIPS = 6  # clips with the nearest movement, on the sheet

MOVEMENT_MEANINGS = {
    "movement.flow": (
        "Energy distance between the flow of synthetic clips and that of held-out people, by "
        "region of the face and class, as a share of its largest value: 0 is one population."
    ),
    "movement.flow_heldout": "The same between training people and held-out people.",
    "movement.flow_floor": "The same between halves of real people.",
    "movement.course": (
        "The same distance for the course over time: position of the apex, rise, decay, what "
        "remains at the offset, and roughness."
    ),
    "movement.still": "The same distance for the noise of pixels that do not move.",
    "movement.noise": "Noise of pixels that do not move, in grey levels, over clips.",
    "movement.equal": "Share of such pixels that equal those of the frame before.",
    "movement.labels": (
        "Mean recall of a judge of labels that learnt from the flow of training people."
    ),
    "movement.labels_kept": (
        "The same from chance (0) to what the judge reaches on held-out people (1)."
    ),
    "movement.units": (
        "Mean F1 of the intended action units, by a judge that learnt from training people."
    ),
    "movement.units_heldout": "F1 of the same judge on held-out people.",
    "movement.copied": (
        "Share of clips nearer to the movement of one training clip, on any face, than 99 of 100 "
        "clips of held-out people are."
    ),
    "movement.chance": "Upper bound of that share for held-out people.",
    "movement.origin": (
        "How well a judge tells synthetic clips from those of held-out people, by flow, course "
        "and noise: 0.5 is chance, 1 tells all."
    ),
    "movement.drift": (
        "How much a face changes from the first frames of a clip to the last, where it does not "
        "move, in grey levels."
    ),
}


def measure_part(part_input: PartInput) -> PartResult:
    """Return the numbers of movement, and strips of clips; a note for each that cannot be had."""
    # The clips of each side
    measured = PartResult()
    made_faces = part_input.require_synthetic()
    sides = {"training": part_input.train, "held-out": part_input.test, "synthetic": made_faces}
    for name, faces in sides.items():
        if not count_whole_clips(faces):
            measured.notes.append(
                f"movement: the {name} side has no whole clips, with onset and apex; name sides "
                "with all frames of their clips"
            )
            return measured
    train, test, made = (measure_clips(faces) for faces in sides.values())

    # Distances to real people, and what is still
    measured.records += _measure_flow(train, test, made)
    measured.records += _measure_timing(measured, train, test, made)
    measured.records += _measure_medians(
        "drift", {"": made.drifts, "_heldout": test.drifts}, made, test
    )

    # Judges
    judged = try_measure(measured, "labels of movement", lambda: judge_labels(train, [made, test]))
    if judged is not None:
        measured.records += _describe_labels(*judged)
    units = try_measure(measured, "action units", lambda: judge_units(train, [made, test]))
    for suffix, unit_scores in zip(("", "_heldout"), units or (), strict=False):
        if unit_scores is None:
            measured.notes.append("action units: the synthetic clips name none that was learnt")
        else:
            measured.records += _list_judged(f"movement.units{suffix}", unit_scores)
    origin = try_measure(measured, "origin", lambda: judge_origin(made, test))
    if origin is not None:
        measured.records.append(Record.of("movement.origin", origin, len(made), "clips"))

    # Copied movement, clip by clip
    copied = try_measure(measured, "copied movement", lambda: find_copied(train, test, made))
    if copied is not None:
        measured.records += _describe_copied(copied, test)
        measured.rows = _list_rows(made_faces, made, train, copied)
    measured.picture = _draw_strips(part_input, made, train, test, copied)
    return measured


# Numbers


def _measure_flow(train: Movements, test: Movements, made: Movements) -> list[Record]:
    """Return the distances of flow: of all classes together, and of each class."""
    classes = sorted(set(made.emotions) & set(test.emotions))
    if not classes:
        return []
    scale = train.regions
    kinds = {
        "movement.flow": (made, test, ("made", "held-out")),
        "movement.flow_heldout": (train, test, ("training", "held-out")),
    }
    records = []
    for metric, (first, second, names) in kinds.items():
        groups = [
            _group(clips, scale_points(clips.regions, scale), classes) for clips in (first, second)
        ]
        counts = (first.count_people(), second.count_people())
        each, overall = measure_distance(groups[0], groups[1], counts, names)
        records += _keep_finite(metric, overall, len(first))
        for name, interval in zip(classes, each, strict=True):
            records += _keep_finite(metric, interval, int((first.emotions == name).sum()), name)
    points = np.concatenate([scale_points(clips.regions, scale) for clips in (train, test)])
    return records + _measure_floor("movement.flow_floor", train, test, points, classes)


def _measure_timing(
    measured: PartResult, train: Movements, test: Movements, made: Movements
) -> list[Record]:
    """Return the distances of course and stillness; a note if clips have no course."""
    records = []
    if not all(clips.is_timed.any() for clips in (train, test, made)):
        measured.notes.append(
            "course and stillness: the frames of some side do not follow each other in time; name "
            "sides with all frames of their clips"
        )
        return records
    for metric, attribute in (("course", "courses"), ("still", "stillness")):
        values = [getattr(clips, attribute)[clips.is_timed] for clips in (train, test, made)]
        people = [clips.people[clips.is_timed] for clips in (train, test, made)]
        points = [scale_points(value, np.concatenate(values[:2])) for value in values]
        groups = [
            Group(point, number_people(names)[0])
            for point, names in zip(points, people, strict=True)
        ]
        counts = [number_people(names)[1] for names in people]
        for suffix, first, draw_name in (("", 2, "made"), ("_heldout", 0, "training")):
            _, interval = measure_distance(
                [groups[first]], [groups[1]], (counts[first], counts[1]), (draw_name, "held-out")
            )
            records += _keep_finite(f"movement.{metric}{suffix}", interval, len(points[first]))
        joined = number_people(np.concatenate(people[:2]))
        halves = measure_halves([Group(np.concatenate(points[:2]), joined[0])], joined[1], metric)
        records += _describe_halves(f"movement.{metric}_floor", halves, len(joined[0]))

    # What the stillness is, in plain units
    for column, metric in enumerate(("noise", "equal")):
        values = {
            suffix: clips.stillness[:, column] for suffix, clips in (("", made), ("_heldout", test))
        }
        if STILL_COLUMNS[column] == "noise":
            values = {suffix: np.exp(logarithms) for suffix, logarithms in values.items()}
        records += _measure_medians(metric, values, made, test)
    return records


def _measure_floor(
    metric: str, train: Movements, test: Movements, points: np.ndarray, classes: Sequence[str]
) -> list[Record]:
    """Return the distance between halves of all real people, with the spread over halvings."""
    codes, count = number_people(np.concatenate([train.people, test.people]))
    emotions = np.concatenate([train.emotions, test.emotions])
    groups = [Group(points[emotions == name], codes[emotions == name]) for name in classes]
    return _describe_halves(metric, measure_halves(groups, count, metric), len(points))


def _describe_halves(metric: str, halves: np.ndarray, n: int) -> list[Record]:
    """Return the mean over halvings, with their spread as interval."""
    return (
        [Record.of(metric, make_interval(float(halves.mean()), halves), n, "clips")]
        if len(halves)
        else []
    )


def _group(clips: Movements, points: np.ndarray, classes: Sequence[str]) -> list[Group]:
    """Return the clips of each class as a group, with one numbering of people for all."""
    codes, _ = number_people(clips.people)
    return [
        Group(points[clips.emotions == name], codes[clips.emotions == name]) for name in classes
    ]


def _keep_finite(metric: str, interval: Interval, n: int, part: str = "") -> list[Record]:
    """Return a record; none if there were too few people to measure it."""
    if not np.isfinite(interval.value):
        return []
    return [Record.of(metric, interval, n, "clips", part)]


def _measure_medians(
    metric: str, values: dict[str, np.ndarray], made: Movements, test: Movements
) -> list[Record]:
    """Return the mean over people of a number of clips, for the synthetic and the held-out side."""
    records = []
    for suffix, clips in (("", made), ("_heldout", test)):
        known = np.isfinite(values[suffix])
        if not known.any():
            continue
        codes, count = number_people(clips.people[known])
        sums = np.bincount(codes, values[suffix][known], count) / np.bincount(
            codes, minlength=count
        )
        times = draw_resamples(count, "made" if not suffix else "held-out")
        interval = make_interval(float(sums.mean()), times @ sums / count if count > 1 else None)
        records.append(Record.of(f"movement.{metric}{suffix}", interval, int(known.sum()), "clips"))
    return records


def _describe_labels(judged: Sequence[Judged], classes: int) -> list[Record]:
    """Return the agreement of the judge of labels, and the same from chance to held-out people."""
    synthetic, held_out = judged
    records = _list_judged("movement.labels", synthetic)
    records += _list_judged("movement.labels_heldout", held_out)
    chance = 1 / classes
    room = held_out.score.value - chance
    ceiling = Interval(*(bound - chance for bound in _bounds(held_out.score)))
    records.append(Record.of("movement.labels_above_chance", ceiling, held_out.n, "clips"))
    if room > 0:
        kept = Interval(*((bound - chance) / room for bound in _bounds(synthetic.score)))
        records.append(Record.of("movement.labels_kept", kept, synthetic.n, "clips"))
    return records


def _bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _list_judged(metric: str, judged: Judged) -> list[Record]:
    """Return the records of a judge on one side: overall, and of each class or unit."""
    records = [Record.of(metric, judged.score, judged.n, "clips")]
    return records + [
        Record.of(metric, interval, judged.n, "clips", name)
        for name, interval in judged.each.items()
    ]


def _describe_copied(copied: CopiedMovement, test: Movements) -> list[Record]:
    chance = Interval(copied.bound, float("nan"), float("nan"))
    return [
        Record.of("movement.copied", copied.share, len(copied.synthetic.ratio), "clips"),
        Record.of("movement.chance", chance, test.count_people(), "people"),
    ]


def _list_rows(
    faces: Faces, made: Movements, train: Movements, copied: CopiedMovement
) -> pd.DataFrame:
    """Return a row for the apex of each clip: the nearest training movement, and its ratio."""
    return pd.DataFrame(
        {
            "key": faces.index["key"].iloc[made.rows].to_numpy(dtype=object),
            "movement_nearest": train.names[copied.synthetic.clip],
            "movement_likeness": copied.synthetic.likeness,
            "movement_ratio": copied.synthetic.ratio,
            "movement_alarm": (copied.synthetic.ratio < copied.level).astype(np.float64),
        }
    )


# Strips


def _draw_strips(
    part_input: PartInput,
    made: Movements,
    train: Movements,
    test: Movements,
    copied: CopiedMovement | None,
) -> Image.Image:
    """Return strips from onset to offset: a synthetic and a held-out clip of each class, and the
    clips with the nearest training movement, each above that training clip.
    """
    # A clip of each class, the first by name
    titles, pictures = list[str](), list[np.ndarray]()
    made_faces = part_input.require_synthetic()
    for emotion in sorted(set(made.emotions)):
        for clips, faces, side in (
            (made, made_faces, "synthetic"),
            (test, part_input.test, "held-out"),
        ):
            found = np.flatnonzero(clips.emotions == emotion)
            if len(found):
                titles.append(f"{emotion}, {side}")
                pictures.append(_cut_strip(faces, str(clips.names[found[0]])))

    # The nearest movements
    if copied is not None:
        for row in np.argsort(copied.synthetic.ratio, kind="stable")[:STRIPPED_CLIPS]:
            ratio = copied.synthetic.ratio[row]
            titles.append(f"nearest to one movement, ratio {ratio:.2f}: synthetic")
            pictures.append(_cut_strip(made_faces, str(made.names[row])))
            titles.append("the nearest training clip")
            nearest = str(train.names[copied.synthetic.clip[row]])
            pictures.append(_cut_strip(part_input.train, nearest))
    return draw_rows(titles, pictures, SHEET_MOMENTS)


def _cut_strip(faces: Faces, clip: str) -> np.ndarray:
    """Return some frames of a clip, equally spaced, as pictures."""
    rows = np.flatnonzero((faces.index["clip"] == clip).to_numpy())
    rows = rows[np.argsort(faces.index["frame"].to_numpy()[rows], kind="stable")]
    spaced = np.linspace(0, len(rows) - 1, min(SHEET_MOMENTS, len(rows))).round().astype(int)
    return faces.show_pictures(rows[spaced])


PART = Part(
    measure_part,
    question="Does it move as people do?",
    families=("movement",),
    meanings=MOVEMENT_MEANINGS,
    needs_held_out=True,
    needs_clips=True,
    picture="movement",
)
