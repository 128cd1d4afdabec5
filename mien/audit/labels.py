"""Labels: whether synthetic faces show what they are called, who is behind each class, and which to
look at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from mien import stats
from mien.audit.judges import Judges, ask, judges, unseen
from mien.errors import DataError
from mien.faces import Faces
from mien.ingest import Finding, some
from mien.progress import many
from mien.seeds import rng, seed
from mien.stats import DRAWS, Record

AMPLIFIED = 5  # synthetic images for each real one of a class, above which it is said aloud

COLUMNS = {
    "key": "str",
    "emotion": "str",
    "predicted": "str",  # the likeliest class; empty where the label could not be judged
    "probability": "float64",  # of the label, the mean over judges
    "margin": "float64",  # of the label over the likeliest other class
    "agreed": "float64",  # the share of judges whose likeliest class is the label
    # most judges hold another class for as likely as it is for real faces of that class
    "suspect": "bool",
    "rank": "int64",  # 1 has the lowest margin; 0 where the label could not be judged
}


@dataclass(frozen=True)
class Labels:
    """What was found: records, what is to be said of it, and `rows`, one a synthetic image
    (COLUMNS).
    """

    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    rows: pd.DataFrame

    def value(self, metric: str, part: str = "") -> float:
        """Return the value of one of its records."""
        return next(
            one.value
            for one in self.records
            if (one.metric, one.part) == (f"labels.{metric}", part)
        )


def labels(made: Faces, train: Faces, test: Faces) -> Labels:
    """Return how far judges agree with the labels of synthetic faces, and how many real sources
    each class has.

    The judges learn from the people of `test` that neither `train` nor the generator has seen.
    `labels.agreement` is the share of images whose label is a judge's likeliest class, the mean
    over judges, for each class and as the mean over classes; the 95 % interval draws images and
    judges anew. `labels.ceiling` is what the same judges score on real people, each asked about
    those that it did not see, with the interval over them; synthetic faces can be expected to come
    near it and not to exceed it. `.seen_people` marks the same two numbers by judges who learnt
    from `train`, the people that the generator knows.

    `labels.suspects` is the share of images where most judges hold another class, more than the
    label, for at least as likely as they do, on the average, for real faces of that class (the
    threshold of confident learning, Northcutt et al. 2021, section 3.1). For each class,
    `labels.clips` and `labels.subjects` are the effective numbers of real clips and subjects behind
    it, the exponential of the entropy of their shares of its training images, and
    `labels.amplification` is synthetic images for each real one.

    Raises DataError if no side gives judges: fewer than two classes, each of two people or more.
    """
    findings: list[Finding] = []
    records: list[Record] = []
    panels: list[tuple[Judges, Faces]] = []
    held = test.select(~_known(test, train, made))
    if len(held) < len(test):
        what = (
            f"{len(test) - len(held)} of {len(test)} test images show people that the "
            "generator has seen; left out"
        )
        findings.append(Finding("warning", "people seen", "", what))
    for people, mark in ((held, ""), (train, ".seen_people")):
        try:
            panel = judges(people)
        except DataError as error:
            who = "people never seen" if not mark else "training people"
            findings.append(Finding("warning", f"no judges from {who}", "", str(error)))
            continue
        panels.append((panel, people))
        records += _agreement(panel, people, made, mark)
        left_out = sorted(set(made.classes) - set(panel.classes))
        if left_out:
            what = f"too few real people show {some(left_out)}, so their labels were not judged"
            findings.append(Finding("warning", f"classes not judged{mark}", "", what))
    if not panels:
        raise DataError("; ".join(finding.what for finding in findings))
    panel, people = panels[0]
    rows = _rows(made, panel, ask(panel, made), _typical(panel, people))
    records += _shares(rows)
    records += _sources(made, train)
    findings += _amplified(records)
    return Labels(tuple(records), tuple(findings), rows)


def suspects(faces: Faces, people: Faces | None = None) -> pd.DataFrame:
    """Return COLUMNS for each image, as judges see it who learnt from real `people`.

    Without them the set judges itself: each image is judged by who saw nothing of its subject
    (clip, where subjects are not known). Raises DataError if there are fewer than two classes, each
    of two people (clips, images) or more.
    """
    if people is not None:
        panel = judges(people)
        return _rows(faces, panel, ask(panel, faces), _typical(panel, people))
    panel = judges(faces)
    return _rows(faces, panel, unseen(panel, faces)[None], _typical(panel, faces))


# Agreement


def _agreement(panel: Judges, people: Faces, made: Faces, mark: str) -> Iterator[Record]:
    """Yield agreement and ceiling, the mean over classes first, then each class."""
    thought = ask(panel, made)
    emotions = made.index["emotion"].to_numpy(dtype=str)
    dealer = rng("agreement", mark, len(made))
    several = len(panel.models)
    drawn_judges = dealer.multinomial(several, np.full(several, 1 / several), DRAWS)
    values, spreads, counted = {}, {}, {}
    for place, name in enumerate(panel.classes):
        mine = emotions == name
        able = panel.knows[:, place]
        if not mine.any() or not able.any():
            continue
        right = (thought[able][:, mine].argmax(axis=2) == place).astype(np.float32)
        draws = stats.draws(int(mine.sum()), "agreement", mark, name).astype(np.float32)
        weights = drawn_judges[:, able].astype(np.float32)
        with np.errstate(invalid="ignore"):
            spreads[name] = np.einsum(
                "dj,dj->d", weights, draws @ right.T / mine.sum()
            ) / weights.sum(axis=1)
        values[name], counted[name] = float(right.mean()), int(mine.sum())
    if values:
        whole = stats.around(
            float(np.mean([*values.values()])), np.mean([*spreads.values()], axis=0)
        )
        yield _record(f"agreement{mark}", whole, sum(counted.values()), "images, mean over classes")
    for name, value in values.items():
        yield _record(
            f"agreement{mark}", stats.around(value, spreads[name]), counted[name], "images", name
        )
    yield from _ceiling(panel, people, mark, list(values))


def _ceiling(panel: Judges, people: Faces, mark: str, classes: Sequence[str]) -> Iterator[Record]:
    found = _likeliest(unseen(panel, people))
    judged = found >= 0
    true = _numbers(people, panel)[judged]
    names, place = np.unique(np.array(panel.groups)[judged], return_inverse=True)
    counts = np.zeros((1, len(names), len(panel.classes), len(panel.classes)))
    np.add.at(counts[0], (place, true, found[judged]), 1)
    kept = [number for number, name in enumerate(panel.classes) if name in classes]
    draw = f"{seed('ceiling', *names):x}"
    for part, numbers in (("", kept), *((panel.classes[number], [number]) for number in kept)):
        measure = _recall(numbers)
        n = int(np.isin(true, numbers).sum())
        unit = f"images{'' if part else ', mean over classes'}, interval over {panel.unit}s"
        interval = stats.around(stats.mean(counts, measure), stats.drawn(counts, measure, draw))
        yield _record(f"ceiling{mark}", interval, n, unit, part)


def _recall(places: Sequence[int]) -> stats.Measure:
    """Return what gives the mean recall of some classes for each confusion matrix, of those that
    have a sample.
    """

    def of(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        right, true = (
            np.einsum("...ii->...i", counts)[..., places],
            counts.sum(axis=-1)[..., places],
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return (right / np.maximum(true, 1)).sum(axis=-1) / (true > 0).sum(axis=-1)

    return of


def _record(name: str, found: stats.Interval, n: int, unit: str, part: str = "") -> Record:
    low, high = (None if np.isnan(bound) else bound for bound in (found.low, found.high))
    return Record(f"labels.{name}", found.value, n, unit, low, high, part=part)


def _numbers(faces: Faces, panel: Judges) -> Int[np.ndarray, " n"]:
    """Return the place of each label in the panel's classes, -1 where it is none of them."""
    number = {name: place for place, name in enumerate(panel.classes)}
    return np.array([number.get(name, -1) for name in faces.index["emotion"]], dtype=np.int64)


def _likeliest(found: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
    """Return the likeliest class of each row, -1 where nobody was asked."""
    asked = ~np.isnan(found).any(axis=1)
    return np.where(asked, np.nan_to_num(found).argmax(axis=1), -1)


def _known(test: Faces, train: Faces, made: Faces) -> Bool[np.ndarray, " n"]:
    """Return which test images show people, or are images, that training or the generator has
    seen.
    """
    seen = [train.index, *([made.seen] if made.seen is not None else [])]
    subjects = {name for table in seen for name in table["subject"]} - {""}
    keys = {key for table in seen for key in table["key"]}
    return (test.index["subject"].isin(subjects) | test.index["key"].isin(keys)).to_numpy()


# Suspects


def _typical(panel: Judges, people: Faces) -> Float[np.ndarray, " c"]:
    """Return how likely each class is held to be, on the average, where real people show it."""
    found, numbers = unseen(panel, people), _numbers(people, panel)
    return np.array(
        [np.nanmean(found[numbers == place, place]) for place in range(len(panel.classes))]
    )


def _rows(
    faces: Faces,
    panel: Judges,
    thought: Float[np.ndarray, "judges n c"],
    typical: Float[np.ndarray, " c"],
) -> pd.DataFrame:
    numbers, rows, found = _numbers(faces, panel), np.arange(len(faces)), thought.mean(axis=0)
    judged = (numbers >= 0) & ~np.isnan(found).any(axis=1)
    own = np.where(judged, found[rows, numbers], np.nan)
    others = np.nan_to_num(found)
    others[rows, numbers] = -1
    claimed = np.where(thought >= typical, np.nan_to_num(thought), 0)
    another = (claimed.max(axis=2) > 0) & (claimed.argmax(axis=2) != numbers)
    agreed = np.nan_to_num(thought).argmax(axis=2) == numbers
    names = np.array([*panel.classes, ""], dtype=object)
    table = pd.DataFrame(
        {
            "key": faces.index["key"],
            "emotion": faces.index["emotion"],
            "predicted": names[np.where(judged, _likeliest(found), len(panel.classes))],
            "probability": own,
            "margin": own - others.max(axis=1),
            "agreed": np.where(judged, agreed.mean(axis=0), np.nan),
            "suspect": judged & (another.mean(axis=0) > 0.5),
            "rank": 0,
        }
    )
    order = table[judged].sort_values(["margin", "key"]).index
    table.loc[order, "rank"] = np.arange(1, len(order) + 1)
    return table.astype(COLUMNS)


def _shares(rows: pd.DataFrame) -> Iterator[Record]:
    judged = rows[rows["rank"] > 0]
    if len(judged):
        yield Record(
            "labels.suspects", float(judged["suspect"].mean()), len(judged), "share of images"
        )
    for emotion, part in judged.groupby("emotion", sort=True):
        share = float(part["suspect"].mean())
        yield Record("labels.suspects", share, len(part), "share of images", part=str(emotion))


# Sources


def effective(counts: Sequence[int]) -> float:
    """Return how many equal parts are as diverse as these: exp of the entropy of their shares (Hill
    1973, order 1).
    """
    shares = np.asarray(counts, dtype=np.float64)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def _sources(made: Faces, train: Faces) -> Iterator[Record]:
    for emotion in made.classes:
        real = train.index[train.index["emotion"] == emotion]
        for column, unit in (("clip", "clips"), ("subject", "subjects")):
            counts = real[column][real[column] != ""].value_counts()
            if len(counts):
                told = f"effective {unit} of {len(counts)}"
                yield Record(
                    f"labels.{unit}", effective(counts.tolist()), len(real), told, part=emotion
                )
        if len(real):
            images = int((made.index["emotion"] == emotion).sum())
            yield Record(
                "labels.amplification",
                images / len(real),
                images,
                f"of {len(real)} real images",
                part=emotion,
            )


def _amplified(records: Sequence[Record]) -> Iterator[Finding]:
    for one in records:
        if one.metric == "labels.amplification" and one.value > AMPLIFIED:
            behind = [
                f"{other.value:.1f} {other.unit}"
                for other in records
                if other.part == one.part and other.metric in ("labels.clips", "labels.subjects")
            ]
            sources = f" ({' and '.join(behind)})" if behind else ""
            real = one.unit.removeprefix("of ")
            what = (
                f"{many(one.n, f'{one.part} image')} {'comes' if one.n == 1 else 'come'} from "
                f"{real}{sources}: "
                f"{one.value:.1f} for each"
            )
            yield Finding("warning", "amplified", one.part, what)
