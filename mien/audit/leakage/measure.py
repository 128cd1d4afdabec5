"""What a test set shares with its training set, and how that changes scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from mien import metrics, stats
from mien.audit.leakage import names
from mien.audit.leakage.duplicates import find_duplicates
from mien.classifiers.baselines import Nearest
from mien.errors import DataError
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.findings import Finding, list_some
from mien.prepare.preprocess import preprocess
from mien.prepare.specs import PreprocessSpec, Unit
from mien.prepare.splits import find_shared
from mien.runs.progress import quantify
from mien.seeds import derive_seed
from mien.stats import Record

UNITS: tuple[Unit, ...] = ("subject", "clip", "frame")

DUPLICATE_KINDS = ("exact", "near", "mirrored")

WAYS_SEEN = ("subjects", "clips", "frames", *DUPLICATE_KINDS, "renamed")
"""How a test image can have been seen: columns of `rows` below, and names of records."""


@dataclass(frozen=True)
class LeakageMeasurements:
    """What two sides share: records, findings, and tables of images, pairs and people.

    `rows` has one row per test image: its key, subject, emotion, and true or false for each way in
    which it was seen: shared subjects, clips, frames; exact, near and mirrored duplicate; renamed
    (its subject has another name in training); affected (any of those that `by` rules out).
    `pairs` are the duplicates of test and training images (`duplicates.find_duplicates`).
    `people` are pairs of subjects that look like one person (`names.find_doubles`): a, b,
    evidence (nearness, or pictures: `number` equal pictures have both names), and on which side
    each is.
    """

    by: Unit
    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    rows: pd.DataFrame
    pairs: pd.DataFrame
    people: pd.DataFrame

    @property
    def affected(self) -> int:
        """The number of test images that were seen in a way that `by` rules out."""
        return int(self.rows["affected"].sum())

    def find_value(self, metric: str, part: str = "") -> float:
        """Return the value of the record of a metric, over all images or of a class (`part`)."""
        return next(
            record.value
            for record in self.records
            if (record.metric, record.part) == (f"leakage.{metric}", part)
        )


def measure_leakage(train: Faces, test: Faces, by: Unit = "subject") -> LeakageMeasurements:
    """Return what `test` shares with `train`, given that no subject (clip, frame) may be on both.

    Shares are of this very set of test images, and have no interval. Records: leakage.subjects,
    .clips, .frames, .exact, .near, .mirrored, .renamed and .affected (also per class), shares;
    leakage.two_names, pairs of subjects on different sides; leakage.nearest, .nearest_unaffected
    and .nearest_gap: the accuracy of one nearest neighbour on raw pixels on all test images, on
    those not affected, and the first less the second, with 95 % intervals over the test's subjects
    (clips or images if those are not known). A synthetic training set counts as all that its
    generator saw, too.

    Raises DataError if a side is empty.
    """
    for side, faces in (("training", train), ("test", test)):
        if not len(faces):
            raise DataError(
                f"the {side} side needs images, and it has none; name another set or side"
            )

    # Which images and people of the test side are in training
    pairs = find_duplicates(test, train)
    doubles = names.find_doubles(train, test)
    people = _find_doubles(train, test, pairs, doubles)
    rows = _make_rows(train, test, pairs, people, by)

    # The numbers, and the findings in words
    records = (*_measure_shares(rows), *_score_nearest(train, test, rows["affected"].to_numpy()))

    across = float(len(people[people["across"]].drop_duplicates(["a", "b"])))
    total = len({*train.subjects, *test.subjects})
    two_names = Record("leakage.two_names", across, total, unit="pairs of subjects")
    findings = [
        *_report_shared(train, test, rows, pairs, by),
        *_report_people(train, test, people, doubles, by),
    ]
    return LeakageMeasurements(by, (*records, two_names), tuple(findings), rows, pairs, people)


def list_forbidden_ways(by: Unit) -> list[str]:
    """Return the ways of having been seen (columns of `rows`) that a split by `by` rules out.

    Neighbouring frames of a clip are near duplicates, so a split by frames only rules out exact
    ones.
    """
    if by == "frame":
        return ["frames", "exact"]
    return [
        *WAYS_SEEN[UNITS.index(by) : len(UNITS)],
        *DUPLICATE_KINDS,
        *(["renamed"] if by == "subject" else []),
    ]


def name_images(test: Faces) -> str:
    """Return the noun for an image of the test side: a synthetic image if all are synthetic."""
    return "test image" if (test.index["source"] == "real").any() else "synthetic image"


# People and images that were seen


def _make_rows(
    train: Faces, test: Faces, pairs: pd.DataFrame, people: pd.DataFrame, by: Unit
) -> pd.DataFrame:
    rows = test.index[["key", "subject", "emotion"]].reset_index(drop=True)
    for unit in UNITS:
        rows[f"{unit}s"] = list_shared(train, test, unit)[1]
    for kind in DUPLICATE_KINDS:
        rows[kind] = rows["key"].isin(pairs["test"][_select_kind(pairs, kind)])
    renamed = people[people["across"] & (people["evidence"] == "nearness")]
    rows["renamed"] = rows["subject"].isin({*renamed["a"], *renamed["b"]}) & ~rows["subjects"]
    rows["affected"] = rows[list_forbidden_ways(by)].any(axis=1)
    return rows


def _select_kind(pairs: pd.DataFrame, kind: str) -> pd.Series:
    if kind == "exact":
        return pairs["kind"] == "exact"
    return (pairs["kind"] == "near") & (pairs["mirrored"] == (kind == "mirrored"))


def list_shared(train: Faces, test: Faces, unit: Unit) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """Return shared names and affected images, as `splits.find_shared` does.

    Images of an unknown generator have no names that anybody knows, and share nothing by name.
    """
    named, comparable = (
        (faces.index["source"] != UNKNOWN_SOURCE).to_numpy(dtype=bool) for faces in (train, test)
    )
    affected = np.zeros(len(test), dtype=bool)
    shared_names, affected[comparable] = find_shared(
        train if named.all() else train.select(named),
        test if comparable.all() else test.select(comparable),
        unit,
    )
    return shared_names, affected


def _find_doubles(
    train: Faces, test: Faces, pairs: pd.DataFrame, doubles: names.Doubles
) -> pd.DataFrame:
    """Return the pairs of subjects that look like one person, with the side on which each is.

    `pairs` are the duplicates between the sides; if all people are known and nobody is on both
    sides, they are all of different people. Within a side only equal pictures are compared: nearly
    equal ones are no leak there, and would be many to compare.
    """
    # Equal pictures on any side, and nearly equal ones between the sides
    train_names, test_names = (set(faces.index["subject"]) for faces in (train, test))
    apart = not train_names & test_names and "" not in train_names | test_names
    exact = [
        find_duplicates(first, second, True, near=False)
        for first, second in ((test, train), (train, train), (test, test))
    ]
    near = (
        pairs[pairs["kind"] == "near"] if apart else find_duplicates(test, train, other_people=True)
    )
    alike = pd.concat([near, *exact], ignore_index=True)

    # Count the pictures of each pair of names
    alike[["a", "b"]] = np.sort(
        alike[["test_subject", "train_subject"]].to_numpy(dtype=str), axis=1
    )
    pictures = alike.groupby(["a", "b"], as_index=False).agg(number=("test", "nunique"))
    unmeasured = dict.fromkeys(("distance", "usual", "nearest", "p"), np.nan)

    # Add the pairs that are near each other, and the side of each name
    pairs_of_names = pd.concat([doubles.pairs, pictures.assign(evidence="pictures", **unmeasured)])
    side_of = {
        name: _find_side(name, train, test) for name in {*pairs_of_names["a"], *pairs_of_names["b"]}
    }
    for column in ("a", "b"):
        pairs_of_names[f"{column}_side"] = pd.Series(
            [side_of[name] for name in pairs_of_names[column]],
            index=pairs_of_names.index,
            dtype="str",
        )
    across = (pairs_of_names["a_side"] != pairs_of_names["b_side"]) | (
        pairs_of_names["a_side"] == "both"
    )
    return pairs_of_names.assign(across=across.astype(bool)).reset_index(drop=True)


def _find_side(name: str, train: Faces, test: Faces) -> str:
    in_train, in_test = name in train.subjects, name in test.subjects
    return "both" if in_train and in_test else "train" if in_train else "test"


# Numbers


def _measure_shares(rows: pd.DataFrame) -> Iterator[Record]:
    for way in (*WAYS_SEEN, "affected"):
        yield Record(
            f"leakage.{way}", float(rows[way].mean()), len(rows), unit="share of test images"
        )
    for emotion, group in rows.groupby("emotion", sort=True):
        share = float(group["affected"].mean())
        yield Record(
            "leakage.affected", share, len(group), unit="share of test images", part=str(emotion)
        )


def _score_nearest(train: Faces, test: Faces, affected: Bool[np.ndarray, " n"]) -> Iterator[Record]:
    """Yield the accuracy of one nearest neighbour, with and without the affected images.

    Both are resampled over the same groups, so their gap is paired.
    """
    # The prediction of each test image
    train, test = _bring_to_one_size(train, test)
    classes = [*dict.fromkeys([*train.classes, *test.classes])]
    true = test.number_labels(classes)
    predicted = Nearest(train, classes).predict(test).argmax(axis=1)

    # The accuracy on all images, and on those not affected
    unit, names = test.find_independent_units()
    group_names, group = np.unique(list(names), return_inverse=True)
    unit_text = f"accuracy, interval over {unit}s"
    accuracy = metrics.make_measure("accuracy")
    draw = f"{derive_seed('nearest', *group_names):x}"
    spread: dict[str, np.ndarray | None] = {}
    for name, included in (("nearest", np.ones_like(affected)), ("nearest_unaffected", ~affected)):
        counts = metrics.count_grouped_confusion(
            group[included], true[included], predicted[included], len(group_names), len(classes)
        )[None]
        spread[name] = stats.bootstrap(counts, accuracy, draw) if included.any() else None
        value = stats.average_over_trials(counts, accuracy) if included.any() else float("nan")
        score = stats.make_interval(value, spread[name])
        yield Record.of(f"leakage.{name}", score, int(included.sum()), unit_text)

    # The gap between the two
    correct = predicted == true
    if affected.any() and not affected.all():
        first, second = spread["nearest"], spread["nearest_unaffected"]
        draws = None if first is None or second is None else first - second
        gap = stats.make_interval(float(correct.mean() - correct[~affected].mean()), draws)
        yield Record.of("leakage.nearest_gap", gap, len(test), unit_text)


def _bring_to_one_size(train: Faces, test: Faces) -> tuple[Faces, Faces]:
    """Return both sides in the smaller size and in grey, so that pixels can be compared."""
    if train.size == test.size:
        return train, test
    size = min(*train.size[1:], *test.size[1:])
    spec = PreprocessSpec(faces="", frames="all", size=size, colour="grey")
    return preprocess(train, spec), preprocess(test, spec)


# Words


def _report_shared(
    train: Faces, test: Faces, rows: pd.DataFrame, pairs: pd.DataFrame, by: Unit
) -> Iterator[Finding]:
    # Subjects, clips and frames on both sides
    total, image = len(test), name_images(test)
    for unit in UNITS:
        shared_names, affected = list_shared(train, test, unit)
        if shared_names:
            severity = "warning" if f"{unit}s" in list_forbidden_ways(by) else "note"
            are = "is" if len(shared_names) == 1 else "are"
            share = format_percentage(int(affected.sum()), total, image)
            message = (
                f"{quantify(len(shared_names), unit)} of the test side {are} in training: {share}"
            )
            yield Finding(severity, f"shared {unit}s", list_some(shared_names), message)

    # Pictures on both sides
    kinds = {"exact": "equal to a training image in every pixel", "near": "nearly a training image"}
    for kind, message in (*kinds.items(), ("mirrored", "nearly a training image, mirrored")):
        if rows[kind].any():
            example = pairs[_select_kind(pairs, kind)].iloc[0]
            where = f"{example['test']} = {example['train']}"
            severity = "warning" if kind in list_forbidden_ways(by) else "note"
            count = int(rows[kind].sum())
            are = "is" if count == 1 else "are"
            text = f"{format_percentage(count, total, image)} {are} {message}"
            yield Finding(severity, f"{kind} duplicates", where, text)

    # Equal pictures with different labels
    test_labels, train_labels = (
        dict(zip(faces.index["key"], faces.index["emotion"], strict=True))
        for faces in (test, train)
    )
    relabelled = pairs[
        (pairs["kind"] == "exact")
        & (pairs["test"].map(test_labels) != pairs["train"].map(train_labels))
    ]
    if len(relabelled):
        have = "has" if len(relabelled) == 1 else "have"
        message = f"{quantify(len(relabelled), image)} {have} another label in training"
        yield Finding(
            "warning",
            "one picture, two labels",
            f"{relabelled['test'].iloc[0]} = {relabelled['train'].iloc[0]}",
            message,
        )

    # People who cannot be compared by name
    unknown = int((test.index["subject"] == "").sum())
    if unknown and by == "subject" and image == "synthetic image":
        message = (
            "synthetic images have no subjects: only by pictures can training images be found "
            "among them"
        )
        yield Finding("note", "no subjects", "", message)
    elif unknown and by == "subject":
        share = format_percentage(unknown, total, image)
        message = (
            f"the subject of {share} is not known: only pictures can tell whether they were seen"
        )
        where = list_some(list(test.index["key"][test.index["subject"] == ""]), 2)
        yield Finding("warning", "unknown subjects", where, message)


def _report_people(
    train: Faces, test: Faces, people: pd.DataFrame, doubles: names.Doubles, by: Unit
) -> Iterator[Finding]:
    # Pairs of names that look like one person
    for row in people.to_dict("records"):
        pair = f"{row['a']} ({row['a_side']}) = {row['b']} ({row['b_side']})"
        severity = "warning" if row["across"] else "note"
        if row["evidence"] == "nearness":
            message = (
                f"their {quantify(row['number'], 'clip or photograph', 'clips or photographs')} "
                f"are as near to each other as those of one person: {describe_nearness(row)}; is "
                "this one person, or do two people look very much alike?"
            )
        else:
            have = "has" if row["number"] == 1 else "have"
            message = (
                f"{quantify(row['number'], 'picture')} {have} both names: is this one person, or "
                "is a label wrong?"
            )
        yield Finding(severity, "two names", pair, message)

    # What could not be found, if nothing was
    if by == "subject":
        yield from _report_inconclusive(doubles)

    # Equal names of different datasets
    short = {name.partition(":")[2] or name: name for name in train.subjects}
    pairs_of_names = [
        (short.get(name.partition(":")[2] or name, name), name) for name in test.subjects
    ]
    equal_names = [
        f"{train_name} = {test_name}"
        for train_name, test_name in pairs_of_names
        if train_name != test_name
    ]
    if equal_names:
        are, were = ("is", "was") if len(equal_names) == 1 else ("are", "were")
        message = (
            f"{quantify(len(equal_names), 'name')} {are} on both sides in different datasets, and "
            f"{were} taken for different people; --one-dataset takes them for the same"
        )
        yield Finding("warning", "equal names", list_some(equal_names), message)


def describe_nearness(row: dict[Any, Any]) -> str:
    """Return how near two names are, in words, compared with one person and other names."""
    return (
        f"distance {row['distance']:.2g}, compared with {row['usual']:.2g} usually between halves "
        f"of one person and {row['nearest']:.2g} between the nearest two other names"
    )


def _report_inconclusive(doubles: names.Doubles) -> Iterator[Finding]:
    """Yield a finding if it means nothing that no two names were found to be one person."""
    if not doubles.names + doubles.single or not doubles.is_inconclusive:
        return
    if doubles.divided:
        message = (
            f"cannot tell: of {doubles.divided} people whose own clips or photographs were divided "
            f"between two names, only {doubles.found} would be found, so others may have two names "
            "unnoticed; more clips of each person would help"
        )
    else:
        have = (
            f"{quantify(doubles.names, 'person', 'people')} "
            f"{'has' if doubles.names == 1 else 'have'}"
        )
        message = (
            f"cannot tell: {have} two clips or photographs or more, which is too few to compare; "
            f"{quantify(names.MIN_NAMES, 'person', 'people')} with {names.MIN_FREE_UNITS} beyond "
            "the first of each, in total, would suffice"
        )
    yield Finding("note", "people under two names", "", message)


def format_percentage(count: int, total: int, image: str) -> str:
    """Return a number of images with the total and its share, as text."""
    return f"{count:,} of {quantify(total, image)} ({100 * count / total:.1f} %)"
