"""Leakage: what a test set shares with what it is tested against, and how much of a score that
explains.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from mien import controls, folders, metrics, stats
from mien.audit import names
from mien.audit.duplicates import duplicates
from mien.audit.nuisance import nuisance
from mien.audit.sides import Sides
from mien.errors import DataError
from mien.escape import write_csv
from mien.faces import UNKNOWN, Faces
from mien.ingest import Finding, some
from mien.preprocess import PreprocessSpec, preprocess
from mien.progress import many, say
from mien.seeds import seed
from mien.spec import Spec
from mien.splits import By, shared
from mien.stats import Record
from mien.store import Run, Store

UNITS: tuple[By, ...] = ("subject", "clip", "frame")
PICTURES = ("exact", "near", "mirrored")
WAYS = ("subjects", "clips", "frames", *PICTURES, "renamed")
"""In which ways a test image can have been seen: columns of `Leakage.rows`, and names of
records.
"""
REPORT = (
    "index.html",
    "leakage.json",
    "images.csv",
    "pairs.csv",
    "people.csv",
)  # what leaves the store, if asked to


class LeakageSpec(Spec):
    """What two sides share: those of two runs, or of one that a table divides."""

    stage: ClassVar[str] = "leakage"
    train: str
    test: str
    table: str = ""  # the sha256 of which key is on which side; empty: all of both runs
    by: By = "subject"
    one_dataset: bool = (
        False  # names mean the same on both sides, whatever their datasets are called
    )
    names: tuple[str, str] = ("", "")  # what the sides are called
    version: int = 2  # two names for one person are told by the distances of all pairs


@dataclass(frozen=True)
class Leakage:
    """What was found.

    `rows` has one row a test image: its key, subject, emotion, and true or false for each way in
    which it was seen: shared subjects, clips, frames; exact, near and mirrored duplicate; renamed
    (its subject goes by another name in training); affected (any of those that `by` says must not
    be). `pairs` are duplicates.duplicates of test against training. `people` are pairs of subjects
    that look like one (`names.doubles`): a, b, evidence (nearness, or pictures: the same picture
    stands under both, `number` of them), and where each stands.
    """

    by: By
    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    rows: pd.DataFrame
    pairs: pd.DataFrame
    people: pd.DataFrame

    @property
    def affected(self) -> int:
        """How many test images were seen in a way that they must not be."""
        return int(self.rows["affected"].sum())

    def value(self, metric: str, part: str = "") -> float:
        """Return the value of one of its records."""
        return next(
            one.value
            for one in self.records
            if (one.metric, one.part) == (f"leakage.{metric}", part)
        )


def leakage(train: Faces, test: Faces, by: By = "subject") -> Leakage:
    """Return what `test` shares with `train`, under the promise that no subject (clip, frame) does.

    Shares are of the test images, of this very set, and have no interval. Records:
    leakage.subjects, .clips, .frames, .exact, .near, .mirrored, .renamed and .affected (also a
    class), shares; leakage.two_names, pairs of subjects on different sides; leakage.nearest,
    .nearest_unaffected and .nearest_gap: the accuracy of one nearest neighbour on raw pixels on all
    test images, on those not affected, and the first less the second, with 95 % intervals over the
    test's subjects (clips or images where those are not known). A synthetic training set stands for
    all that its generator saw, too.

    Raises DataError if a side is empty.
    """
    for side, faces in (("training", train), ("test", test)):
        if not len(faces):
            raise DataError(
                f"the {side} side must hold images, and is empty; name another set or side"
            )
    pairs = duplicates(test, train)
    doubles = names.doubles(train, test)
    people = _people(train, test, pairs, doubles)
    rows = _rows(train, test, pairs, people, by)
    records = (*_shares(rows), *_nearest(train, test, rows["affected"].to_numpy()))
    across = float(len(people[people["across"]].drop_duplicates(["a", "b"])))
    total = len({*train.subjects, *test.subjects})
    two = Record("leakage.two_names", across, total, unit="pairs of subjects")
    findings = [
        *_findings(train, test, rows, pairs, by),
        *_about_people(train, test, people, doubles, by),
    ]
    return Leakage(by, (*records, two), tuple(findings), rows, pairs, people)


def forbidden(by: By) -> list[str]:
    """Return the ways of having been seen (columns of `rows`) that must not be where `by` is said
    to be kept apart.

    Neighbouring frames of one clip are near duplicates, so a split of frames is only held to exact
    ones.
    """
    if by == "frame":
        return ["frames", "exact"]
    return [
        *WAYS[UNITS.index(by) : len(UNITS)],
        *PICTURES,
        *(["renamed"] if by == "subject" else []),
    ]


def run(sides: Sides, store: Store, by: By = "subject", *, alias: str | None = None) -> Run:
    """Make the run of what two sides share: index.html with pictures, leakage.json, records, and
    tables as CSV.

    The training side's nuisance leakage is part of it, where it can be measured. Its pictures are
    of real people if the sets are, and stay in the store.
    """
    from mien.audit import leakage_page

    spec = LeakageSpec(
        train=sides.train.name,
        test=sides.test.name,
        table=sides.digest,
        by=by,
        one_dataset=sides.one_dataset,
        names=sides.names,
    )

    def build(out: Path, scratch: Path) -> None:
        train, test = sides.faces()
        found = leakage(train, test, by)
        try:
            found = replace(found, records=(*found.records, *nuisance(train)))
        except DataError as error:
            more = Finding("note", "nuisance not measured", "the training side", str(error))
            found = replace(found, findings=(*found.findings, more))
        _write(found, train, test, out, sides.names)
        (out / "index.html").write_text(
            leakage_page.page(found, train, test, sides.names), encoding="utf-8"
        )

    return store.make(spec, build, alias)


def hand_out(run: Run, out: Path | None) -> Path:
    """Return the path of a report's page; it is copied to the folder `out` first, whole or not at
    all, if there is one.

    Raises UsageError unless `out` is not there, or an empty folder, and can be written.
    """
    if out is None:
        return run.file("index.html")
    with folders.whole(folders.free(out)) as folder:
        for name in REPORT:
            shutil.copyfile(run.file(name), folder / name)
    about = run.json("leakage.json")
    if about["licences"]:
        say(
            f"{out} contains images that are not synthetic ({_licensed(about['licences'])}); they "
            "have left the store"
        )
    return out / "index.html"


def told(run: Run) -> Iterator[str]:
    """Yield what a leakage run says in a few lines for a terminal."""
    about = run.json("leakage.json")
    total, affected, what = about["test_images"], about["affected"], about["what"]
    seen = "none was found to have been seen in training"
    if affected:
        seen = f"{_share(affected, total, what)} {_was(affected)} seen in training"
    other, trained = about["names"]["test"], many(about["training_images"], "training image")
    yield (
        f"{other} ({many(total, what)}) against {about['names']['train']} ({trained}), no "
        f"{about['by']} to be shared:"
    )
    yield f"{seen}"
    for one in about["findings"]:
        yield (
            f"  {one['severity']}: {one['kind']}: "
            f"{one['what']}{' (' + one['where'] + ')' if one['where'] else ''}"
        )
    values = {one["metric"]: one for one in about["records"] if not one["part"]}
    for name, on in (("nearest", f"all {what}s"), ("nearest_unaffected", "those not affected")):
        one = values[f"leakage.{name}"]
        if one["n"]:
            yield f"  one nearest neighbour on {on}: accuracy {_percent(one)}, n = {one['n']:,}"
    if "nuisance.all" in values:
        one, chance = values["nuisance.all"], values["nuisance.all_chance"]
        yield (
            "  brightness, contrast, sharpness and border alone tell the label: mean recall "
            f"{_percent(one)}; "
            f"by chance {_percent(chance)}"
        )


def _percent(one: dict[str, Any]) -> str:
    bounds = f" [{100 * one['low']:.1f}, {100 * one['high']:.1f}]" if one["low"] is not None else ""
    return f"{100 * one['value']:.1f} %{bounds}"


def _write(found: Leakage, train: Faces, test: Faces, out: Path, called: tuple[str, str]) -> None:
    pd.DataFrame([asdict(one) for one in found.records]).to_parquet(
        out / "records.parquet", index=False
    )
    for name, table in (("images", found.rows), ("pairs", found.pairs), ("people", found.people)):
        write_csv(table, out / f"{name}.csv")
    about = {
        "by": found.by,
        "names": dict(zip(("train", "test"), called, strict=True)),
        "what": noun(test),
        "training_images": len(train),
        "test_images": len(test),
        "affected": found.affected,
        "licences": sorted({licence for faces in (train, test) for licence in _licences(faces)}),
        "findings": [asdict(finding) for finding in found.findings],
        "records": [asdict(one) for one in found.records],
    }
    (out / "leakage.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    share = f"{found.affected:,} of {many(len(found.rows), noun(test))} affected"
    (out / "summary.json").write_text(json.dumps({"holds": share}) + "\n", encoding="utf-8")


def noun(test: Faces) -> str:
    """Return what to call an image of the test side: a synthetic image where all of them are."""
    return "test image" if (test.index["source"] == "real").any() else "synthetic image"


def _licensed(licences: list[str]) -> str:
    return "licence unknown" if licences == ["unknown"] else f"licence: {'; '.join(licences)}"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _licences(faces: Faces) -> set[str]:
    """Return the licences of the real images."""
    return set(faces.index["licence"][faces.index["source"] == "real"])


# Who and what was seen


def _rows(
    train: Faces, test: Faces, pairs: pd.DataFrame, people: pd.DataFrame, by: By
) -> pd.DataFrame:
    rows = test.index[["key", "subject", "emotion"]].reset_index(drop=True)
    for unit in UNITS:
        rows[f"{unit}s"] = met(train, test, unit)[1]
    for kind in PICTURES:
        rows[kind] = rows["key"].isin(pairs["test"][_of_kind(pairs, kind)])
    renamed = people[people["across"] & (people["evidence"] == "nearness")]
    rows["renamed"] = rows["subject"].isin({*renamed["a"], *renamed["b"]}) & ~rows["subjects"]
    rows["affected"] = rows[forbidden(by)].any(axis=1)
    return rows


def _of_kind(pairs: pd.DataFrame, kind: str) -> pd.Series:
    if kind == "exact":
        return pairs["kind"] == "exact"
    return (pairs["kind"] == "near") & (pairs["mirrored"] == (kind == "mirrored"))


def met(train: Faces, test: Faces, unit: By) -> tuple[list[str], Bool[np.ndarray, " n"]]:
    """Return what `splits.shared` does; by name, images of an unknown generator share nothing that
    anybody knows.
    """
    seen, asked = (
        (faces.index["source"] != UNKNOWN).to_numpy(dtype=bool) for faces in (train, test)
    )
    affected = np.zeros(len(test), dtype=bool)
    found, affected[asked] = shared(
        train if seen.all() else train.select(seen),
        test if asked.all() else test.select(asked),
        unit,
    )
    return found, affected


def _people(train: Faces, test: Faces, pairs: pd.DataFrame, doubles: names.Doubles) -> pd.DataFrame:
    """Return the pairs of subjects that look like one person, with the sides on which each stands.

    `pairs` are the duplicates between the sides: all are of other people where all are known and
    nobody is on both. Within a side only equal pictures are looked for: nearly equal ones there are
    no leak, and many to compare.
    """
    named, others = (set(side.index["subject"]) for side in (train, test))
    apart = not named & others and "" not in named | others
    exact = [
        duplicates(one, other, True, near=False)
        for one, other in ((test, train), (train, train), (test, test))
    ]
    near = pairs[pairs["kind"] == "near"] if apart else duplicates(test, train, other_people=True)
    alike = pd.concat([near, *exact], ignore_index=True)
    alike[["a", "b"]] = np.sort(
        alike[["test_subject", "train_subject"]].to_numpy(dtype=str), axis=1
    )
    pictures = alike.groupby(["a", "b"], as_index=False).agg(number=("test", "nunique"))
    unmeasured = dict.fromkeys(("distance", "usual", "nearest", "p"), np.nan)
    found = pd.concat([doubles.pairs, pictures.assign(evidence="pictures", **unmeasured)])
    where = {name: _sides(name, train, test) for name in {*found["a"], *found["b"]}}
    for column in ("a", "b"):
        found[f"{column}_side"] = pd.Series(
            [where[name] for name in found[column]], index=found.index, dtype="str"
        )
    across = (found["a_side"] != found["b_side"]) | (found["a_side"] == "both")
    return found.assign(across=across.astype(bool)).reset_index(drop=True)


def _sides(name: str, train: Faces, test: Faces) -> str:
    here, there = name in train.subjects, name in test.subjects
    return "both" if here and there else "train" if here else "test"


# Numbers


def _shares(rows: pd.DataFrame) -> Iterator[Record]:
    for way in (*WAYS, "affected"):
        yield Record(
            f"leakage.{way}", float(rows[way].mean()), len(rows), unit="share of test images"
        )
    for emotion, part in rows.groupby("emotion", sort=True):
        share = float(part["affected"].mean())
        yield Record(
            "leakage.affected", share, len(part), unit="share of test images", part=str(emotion)
        )


def _nearest(train: Faces, test: Faces, affected: Bool[np.ndarray, " n"]) -> Iterator[Record]:
    """Accuracy of one nearest neighbour with and without the affected images, drawn over the same
    groups.
    """
    train, test = _one_form(train, test)
    classes = [*dict.fromkeys([*train.classes, *test.classes])]
    true = test.labels(classes)
    found = controls.predict("nearest", train, test, classes).argmax(axis=1)
    unit, groups = _groups(test)
    accuracy = metrics.measure("accuracy")
    draw = f"{seed('nearest', *sorted(set(groups))):x}"
    spread: dict[str, np.ndarray | None] = {}
    for name, kept in (("nearest", np.ones_like(affected)), ("nearest_unaffected", ~affected)):
        counts = _by_group(true, found, groups, kept, len(classes))
        spread[name] = stats.drawn(counts, accuracy, draw) if kept.any() else None
        value = stats.mean(counts, accuracy) if kept.any() else float("nan")
        yield _record(name, stats.around(value, spread[name]), int(kept.sum()), unit)
    right = found == true
    if affected.any() and not affected.all():
        one, other = spread["nearest"], spread["nearest_unaffected"]
        draws = None if one is None or other is None else one - other
        gap = stats.around(float(right.mean() - right[~affected].mean()), draws)
        yield _record("nearest_gap", gap, len(test), unit)


def _record(name: str, found: stats.Interval, n: int, unit: str) -> Record:
    low, high = (None if np.isnan(bound) else bound for bound in (found.low, found.high))
    return Record(f"leakage.{name}", found.value, n, f"accuracy, interval over {unit}s", low, high)


def _by_group(
    true: Int[np.ndarray, " n"],
    found: Int[np.ndarray, " n"],
    groups: list[str],
    kept: Bool[np.ndarray, " n"],
    classes: int,
) -> Float[np.ndarray, "1 g c c"]:
    _, place = np.unique(groups, return_inverse=True)
    counts = np.zeros((1, int(place.max()) + 1, classes, classes))
    np.add.at(counts[0], (place[kept], true[kept], found[kept]), 1)
    return counts


def _groups(faces: Faces) -> tuple[str, list[str]]:
    """Return what is drawn in a bootstrap, subjects if all are known, else clips or images, and
    each image's own.
    """
    index = faces.index
    if (index["subject"] != "").all():
        return "subject", list(index["subject"])
    unit = "clip" if (index["clip"] != "").all() else "image"
    return unit, list(index["clip"].where(index["clip"] != "", index["key"]))


def _one_form(train: Faces, test: Faces) -> tuple[Faces, Faces]:
    """Return both sides in one size and colour, the smaller of the two, so that pixels can be
    compared.
    """
    if train.size == test.size:
        return train, test
    size = min(*train.size[1:], *test.size[1:])
    spec = PreprocessSpec(faces="", frames="all", size=size, colour="grey")
    return preprocess(train, spec), preprocess(test, spec)


# Words


def _findings(
    train: Faces, test: Faces, rows: pd.DataFrame, pairs: pd.DataFrame, by: By
) -> Iterator[Finding]:
    total, image = len(test), noun(test)
    for unit in UNITS:
        found, seen = met(train, test, unit)
        if found:
            severity = "warning" if f"{unit}s" in forbidden(by) else "note"
            are = "is" if len(found) == 1 else "are"
            share = _share(int(seen.sum()), total, image)
            what = f"{many(len(found), unit)} of the test side {are} in training: {share}"
            yield Finding(severity, f"shared {unit}s", some(found), what)
    kinds = {"exact": "equal to a training image in every pixel", "near": "nearly a training image"}
    for kind, what in (*kinds.items(), ("mirrored", "nearly a training image, mirrored")):
        if rows[kind].any():
            example = pairs[_of_kind(pairs, kind)].iloc[0]
            where = f"{example['test']} = {example['train']}"
            severity = "warning" if kind in forbidden(by) else "note"
            count = int(rows[kind].sum())
            told = f"{_share(count, total, image)} {'is' if count == 1 else 'are'} {what}"
            yield Finding(severity, f"{kind} duplicates", where, told)
    own, other = (
        dict(zip(faces.index["key"], faces.index["emotion"], strict=True))
        for faces in (test, train)
    )
    torn = pairs[(pairs["kind"] == "exact") & (pairs["test"].map(own) != pairs["train"].map(other))]
    if len(torn):
        what = (
            f"{many(len(torn), image)} {'has' if len(torn) == 1 else 'have'} another label in "
            "training"
        )
        yield Finding(
            "warning",
            "one picture, two labels",
            f"{torn['test'].iloc[0]} = {torn['train'].iloc[0]}",
            what,
        )
    unknown = int((test.index["subject"] == "").sum())
    if unknown and by == "subject" and image == "synthetic image":
        what = (
            "synthetic images have no subjects: only pictures can tell whether training images "
            "are among them"
        )
        yield Finding("note", "no subjects", "", what)
    elif unknown and by == "subject":
        share = _share(unknown, total, image)
        what = f"the subject of {share} is not known: only pictures can tell whether they were seen"
        where = some(list(test.index["key"][test.index["subject"] == ""]), 2)
        yield Finding("warning", "unknown subjects", where, what)


def _about_people(
    train: Faces, test: Faces, people: pd.DataFrame, doubles: names.Doubles, by: By
) -> Iterator[Finding]:
    for row in people.to_dict("records"):
        pair = f"{row['a']} ({row['a_side']}) = {row['b']} ({row['b_side']})"
        severity = "warning" if row["across"] else "note"
        if row["evidence"] == "nearness":
            what = (
                f"their {many(row['number'], 'clip or photograph', 'clips or photographs')} lie "
                "as near each "
                "other as those of one person: "
                f"{nearness(row)}; is this one person, or do two people look very much alike?"
            )
        else:
            stand = "stands" if row["number"] == 1 else "stand"
            what = (
                f"{many(row['number'], 'picture')} {stand} under both names: is this one "
                "person, or is a label wrong?"
            )
        yield Finding(severity, "two names", pair, what)
    if by == "subject":
        yield from _untold(doubles)
    short = {name.partition(":")[2] or name: name for name in train.subjects}
    equal = [(short.get(name.partition(":")[2] or name, name), name) for name in test.subjects]
    doubtful = [f"{one} = {other}" for one, other in equal if one != other]
    if doubtful:
        one = len(doubtful) == 1
        what = (
            f"{many(len(doubtful), 'name')} {'stands' if one else 'stand'} on both sides under "
            "different datasets, and "
            f"{'was' if one else 'were'} taken for different people; --one-dataset takes them for "
            "the same"
        )
        yield Finding("warning", "equal names", some(doubtful), what)


def nearness(row: dict[Any, Any]) -> str:
    """Say how near two names lie, beside one person and the nearest two others."""
    return (
        f"distance {row['distance']:.2g}, where halves of one person usually have "
        f"{row['usual']:.2g} and the nearest "
        f"two other names {row['nearest']:.2g}"
    )


def _untold(doubles: names.Doubles) -> Iterator[Finding]:
    """Say where nothing follows from it that no two names were told to be one person."""
    if not doubles.names + doubles.single or not doubles.silent:
        return
    if doubles.dealt:
        what = (
            f"cannot tell: of {doubles.dealt} people whose own clips or photographs were dealt to "
            "two names, only "
            f"{doubles.found} would be found, so others may have two names unnoticed; more clips "
            "of each person would "
            "tell more"
        )
    else:
        have = (
            f"{many(doubles.names, 'person', 'people')} {'has' if doubles.names == 1 else 'have'}"
        )
        what = (
            f"cannot tell: {have} two clips or photographs or more, which is too few to compare; "
            f"{many(names.LEAST, 'person', 'people')} "
            f"with {names.FREE} beyond the first of each, all together, would do"
        )
    yield Finding("note", "people under two names", "", what)


def _share(count: int, total: int, image: str) -> str:
    return f"{count:,} of {many(total, image)} ({100 * count / total:.1f} %)"
