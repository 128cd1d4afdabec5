"""Memorisation: whether generated images are new, or training images handed out again.

Every measure stands against people whom the generator has not seen: an image is alarmed where it
lies nearer to one clip, or one subject, than 99 of 100 images of held-out people do, never below a
fixed number. Metrics, in each space S:

    memorisation.chance              the most that is expected of alarms where nothing was copied
    memorisation.copied.S            share alarmed: nearest distance over that to another clip; also a class
    memorisation.person.S            share alarmed: nearest distance over that to another subject; also a class
    memorisation.extreme.S           share so near to one subject as one in 1,000 of people unseen would be
    memorisation.authentic.S         share farther from its nearest training image than other clips are
    memorisation.ct.S                C_T: below 0 where images are nearer to training than held-out people are
    memorisation.membership          AUC by which generated images tell training subjects from held-out ones
    memorisation.identity            share alarmed: subject over the next, in an identity embedding; also a class
    memorisation.identity_extreme    share so near to one subject there as one in 1,000 of people unseen would be
    memorisation.subject             for a subject that is shown (part): how often it is nearest, in times of chance
    memorisation.exact               share with the pixels of a training image
    memorisation.copies              share that are one, though mirrored, moved, resized, encoded again or noisy
    memorisation.near                share with the perceptual hash of one, but for four bits
    memorisation.exact_within        share with the pixels of another generated image; near_within likewise

`authentic` and `near` have `_heldout`, the same of held-out people, and `_gap`: the difference from
it, for `near` from the most that is expected of people like them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mien.audit import copying, identity, matches
from mien.audit.copies import copies
from mien.audit.matches import Matches
from mien.audit.membership import inference
from mien.audit.people import ALARM, FAR, Made, People, rare
from mien.audit.search import (
    SIDE,
    Coarse,
    Match,
    Owners,
    clips_of,
    match,
    owners,
    soften,
    subjects_of,
)
from mien.errors import DataError, LeakageError
from mien.faces import Faces
from mien.features import Sides
from mien.figures import rows
from mien.hashes import NEAR, bits_apart, perceptual_hash
from mien.progress import many
from mien.stats import Interval, Record

PIXELS = "pixels"  # the space that is always there
AMPLIFIED = 4  # times that the strips' difference is
FEW = 5  # held-out people below which the yardstick is called short
BLOCK = 512  # rows of hashes that are held at once


@dataclass(frozen=True)
class Memorisation:
    """What was found, with `notes` on what could not be.

    `rows` has one row a generated image: key, emotion; nearest, the key of the nearest training
    image in pixels, which the image lies on after being mirrored where `mirrored` and moved by
    (`down`, `right`) pixels of a picture 48 wide; its distance there; ratio_clip and ratio_subject,
    the distance over that to the nearest of another clip and of another subject; alarm, whether
    ratio_clip lies below the level of held-out people or the pixels are those of a training image;
    alarm_subject, the same of ratio_subject; extreme, far below it; exact, whether the pixels are
    those of a training image; copy, what sets it apart from the training image that it is
    (`copies.copies`), empty where it is none; copy_of, the key of that; bits, of 64, that its
    perceptual hash lies from a training image's, mirrored or not. For every other space S:
    nearest_S, distance_S, ratio_clip_S, ratio_subject_S, alarm_S, alarm_subject_S, extreme_S. Where
    there is an identity embedding: subject, the training subject that it finds nearest,
    ratio_identity and alarm_identity.

    `subjects` has a row for each training subject that images were found to show: see
    `identity.named`.
    """

    records: tuple[Record, ...]
    rows: pd.DataFrame
    subjects: pd.DataFrame
    notes: tuple[str, ...]


def measure(
    train: Faces,
    test: Faces,
    made: Faces,
    features: Mapping[str, Sides],
    find: Callable[[], Matches] | None = None,
) -> Memorisation:
    """Return how near `made` lies to the training images, held against how near `test`, people held
    out, lies to them.

    `features` are further spaces by name, beside pixels; `find` gives the matches of all images in
    pixels, which are looked for here by default. Photographs that belong to no clip are clips of
    their own; where a subject is not known, its clip stands for it, and a note says so. Images of
    `test` whose subject is among the training subjects are left out of the yardstick, and a note
    says so.

    Raises DataError if a side has no images or another size, or if training images are of a single
    clip; LeakageError if `test` holds nobody but training subjects.
    """
    _check(train, test, made)
    notes = _unknown(train, "training") + _unknown(test, "held-out")
    kept = ~np.isin(subjects_of(test.index), subjects_of(train.index))
    if not kept.any():
        raise LeakageError(
            "the alarm is calibrated on people whom training has not seen, and all held-out "
            "images are of training "
            "subjects; split by subject with `mien split`, and audit against the test side of "
            "that fold"
        )
    found = find() if find else matches.find(train, test, made)
    if not kept.all():
        notes.append(
            f"{int((~kept).sum())} of {many(len(test), 'held-out image')} are of training "
            "subjects, and were left out"
        )
        test, found = test.select(kept), found.of_test(kept)
        features = {
            name: Sides(sides.train, sides.test[kept], sides.made)
            for name, sides in features.items()
        }
    people = People.of(subjects_of(test.index))
    if people.count < FEW:
        notes.append(
            f"the yardstick is of {people.count} held-out people only; its intervals are wide, or "
            "unknown"
        )
    audit = _Audit(
        train, test, made, people, owners(clips_of(train.index), subjects_of(train.index))
    )
    audit.note("chance", Interval(people.chance(ALARM), np.nan, np.nan), people.count, "people")
    audit.in_pixels(found)
    for name, sides in features.items():
        audit.in_features(name, sides)
    audit.whom()
    audit.duplicates()
    return Memorisation(
        tuple(audit.records), pd.DataFrame(audit.columns), audit.subjects, (*notes, *audit.notes)
    )


def direct(made: Faces, train: Faces) -> tuple[list[Record], pd.DataFrame]:
    """Return what can be told of copies without anybody held out: the records exact and copies, and
    a row an image.

    The columns are key, emotion, exact, copy and copy_of (see Memorisation).
    """
    rows = made.index[["key", "emotion"]].reset_index(drop=True)
    found = copies(made, train).set_index("image").reindex(rows["key"])
    rows["exact"] = made.index["sha256"].isin(set(train.index["sha256"])).to_numpy()
    for name, column in (("copy", "kind"), ("copy_of", "original")):
        rows[name] = pd.Series(found[column].fillna("").to_numpy(dtype=object), dtype="str")
    shares = {"exact": rows["exact"], "copies": rows["copy"] != ""}
    told = [
        Record(f"memorisation.{name}", float(one.mean()), len(one), "images")
        for name, one in shares.items()
    ]
    return told, rows


def _check(train: Faces, test: Faces, made: Faces) -> None:
    for name, faces in (("training", train), ("held-out", test), ("synthetic", made)):
        if not len(faces):
            raise DataError(
                f"memorisation is measured on three sets of images, and the {name} one is empty"
            )
    if len({train.size, test.size, made.size}) > 1:
        raise DataError(
            "training, held-out and synthetic images must have one size; given: "
            f"{train.size}, {test.size}, {made.size}. Preprocess them to the same size"
        )


def _unknown(faces: Faces, side: str) -> list[str]:
    unknown = int((faces.index["subject"] == "").sum())
    if not unknown:
        return []
    return [
        f"{unknown} of {many(len(faces), f'{side} image')} {'is' if unknown == 1 else 'are'} of "
        "unknown subjects: "
        "each of their clips stands for one"
    ]


class _Audit:
    """Gathers records and columns, space by space."""

    def __init__(self, train: Faces, test: Faces, made: Faces, people: People, who: Owners) -> None:
        self.train, self.test, self.made, self.people, self.who = train, test, made, people, who
        self.records: list[Record] = []
        self.notes: list[str] = []
        self.subjects = pd.DataFrame()
        self.keys, self.owner = (
            np.asarray(train.index["key"], dtype=object),
            subjects_of(train.index),
        )
        self.soft = {
            name: soften(faces.images)
            for name, faces in (("train", train), ("test", test), ("made", made))
        }
        self.coarse = Coarse.fit(self.soft["train"])
        self.columns: dict[str, object] = {
            "key": list(made.index["key"]),
            "emotion": list(made.index["emotion"]),
        }

    def note(self, metric: str, found: Interval, n: int, unit: str = "", part: str = "") -> None:
        """Keep a number, with its interval where there is one."""
        if np.isnan(found.value):
            self.notes.append(
                f"memorisation.{metric} could not be measured: too few people or images"
            )
            return
        low, high = (None if np.isnan(bound) else bound for bound in (found.low, found.high))
        self.records.append(
            Record(f"memorisation.{metric}", found.value, n, unit, low, high, part=part)
        )

    def in_pixels(self, found: Matches) -> None:
        """Measure in pixels, images mirrored and moved as they lie best."""
        soft, coarse, made, test = self.soft, self.coarse, found.made, found.test
        self.groups = Made.of(self.owner[made.nearest])
        self.compare(PIXELS, made, test, found.own)
        both = np.concatenate([coarse(soft["made"]), coarse(soft["made"][:, :, ::-1])])
        flat = Sides(coarse(soft["train"]), coarse(soft["test"]), both)
        self.cells(PIXELS, made, test, flat.train)
        self.membership(flat)
        self.columns |= {"mirrored": made.mirrored, "down": made.down, "right": made.right}

    def in_features(self, name: str, sides: Sides) -> None:
        """Measure in a space of features."""
        made, test = (match(side, sides.train, self.who) for side in (sides.made, sides.test))
        needed = np.unique(np.concatenate([made.nearest, test.nearest]))
        own = np.full(len(self.train), np.nan)
        own[needed] = match(sides.train[needed], sides.train, self.who, needed).distance
        self.compare(name, made, test, own)
        self.cells(name, made, test, sides.train)

    def compare(self, name: str, made: Match, test: Match, own: Float[np.ndarray, " n"]) -> None:
        """Hold each image's nearest neighbour against those of held-out people."""
        behind = "" if name == PIXELS else f"_{name}"
        self.columns |= {
            f"nearest{behind}": self.keys[made.nearest],
            f"distance{behind}": made.distance,
            f"ratio_clip{behind}": made.ratio_clip,
            f"ratio_subject{behind}": made.ratio_subject,
        }
        self.alarm(f"copied.{name}", f"alarm{behind}", made.ratio_clip, test.ratio_clip)
        if np.isfinite(made.outside_subject).all():
            self.alarm(
                f"person.{name}", f"alarm_subject{behind}", made.ratio_subject, test.ratio_subject
            )
            self.extreme(
                f"extreme.{name}", f"extreme{behind}", made.ratio_subject, test.ratio_subject
            )
        elif name == PIXELS:
            self.notes.append(
                "there is one training subject: nearness to a subject cannot be told from that to "
                "faces"
            )
        self.beside(
            f"authentic{{}}.{name}", copying.authentic(made, own), copying.authentic(test, own)
        )

    def beside(
        self, metric: str, made: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " m"]
    ) -> None:
        """Keep a share, that among held-out people, and the gap between the two."""
        own, usual = self.groups.share(made), self.people.mean(test)
        self.note(metric.format(""), own.interval, len(made), "images")
        self.note(metric.format("_heldout"), usual.interval, self.people.count, "people")
        self.note(metric.format("_gap"), self.groups.gap(made, usual), len(made), "images")

    def alarm(
        self, metric: str, column: str, made: Float[np.ndarray, " n"], test: Float[np.ndarray, " m"]
    ) -> None:
        """Keep which ratios lie below the level that one in a hundred of held-out people's does,
        and their share.
        """
        level = self.people.quantile(test, ALARM)
        self.columns[column] = made < level.value
        self.note(metric, self.groups.below(made, level), len(made), "images")
        for emotion in self.made.classes:
            part = (self.made.index["emotion"] == emotion).to_numpy()
            self.note(
                metric, self.groups.below(made, level, part), int(part.sum()), "images", emotion
            )

    def extreme(
        self, metric: str, column: str, made: Float[np.ndarray, " n"], test: Float[np.ndarray, " m"]
    ) -> float:
        """Keep which ratios lie below what one more held-out person should ever have, and their
        share.

        One in a thousand is expected there, however few people the bound was measured on, so that a
        few images mean something; alarms are raised by one in a hundred.
        """
        far = self.people.far_below(test)
        self.columns[column] = made < far
        self.note(metric, rare(made < far), len(made), "images")
        return far

    def cells(self, name: str, made: Match, test: Match, train: Float[np.ndarray, "n d"]) -> None:
        """Measure C_T, in cells of the training images."""
        cell = copying.cells(train, self.people.count)
        found = copying.c_t(made, test, cell, self.people, self.groups.groups)
        self.note(f"ct.{name}", found.interval, len(self.made), "images")

    def membership(self, sides: Sides) -> None:
        """Measure how well generated images tell who was trained on.

        In pixels alone: a space that was learnt from the training subjects shows them unlike others
        by itself.
        """
        outside = subjects_of(self.test.index)
        found = inference(sides, self.owner, outside)
        self.note("membership", found, len(set(self.owner)) + self.people.count, "subjects")

    def whom(self) -> None:
        """Find out whom the images show, by an embedding that tells training subjects apart."""
        known = (self.train.index["subject"] != "").to_numpy()
        embed = identity.embedding(self.soft["train"], self.owner, known, self.coarse)
        if embed is None:
            self.notes.append(
                "no identity embedding: it needs three known subjects with two images or more each"
            )
            return
        train = embed(self.soft["train"])
        made, test = (self._nearest_subject(embed, train, side) for side in ("made", "test"))
        self.alarm("identity", "alarm_identity", made[1], test[1])
        far = self.extreme("identity_extreme", "extreme_identity", made[1], test[1])
        self.columns |= {"subject": made[0], "ratio_identity": made[1]}
        self.subjects = identity.named(
            made[0], made[1], far, test[0], self.people, len(set(self.owner))
        )
        for row in self.subjects.to_dict("records"):
            if row["low"] > FAR:
                found = Interval(row["times"], row["times_low"], row["times_high"])
                self.note("subject", found, row["images"], "images", row["subject"])

    def _nearest_subject(
        self, embed: identity.Embedding, train: np.ndarray, side: str
    ) -> tuple[np.ndarray, Float[np.ndarray, " n"]]:
        """Return the subject nearest to each image, mirrored or not, and the ratio of distances to
        it and the next.
        """
        both = [
            match(embed(seen), train, self.who)
            for seen in (self.soft[side], self.soft[side][:, :, ::-1])
        ]
        which = (both[1].distance < both[0].distance).astype(np.int64)
        each = np.arange(len(which))
        nearest, ratio = (
            np.stack([getattr(found, name) for found in both])[which, each]
            for name in ("nearest", "ratio_subject")
        )
        return self.owner[nearest], ratio

    def duplicates(self) -> None:
        """Count what is equal, pixel by pixel or by perceptual hash, to a training image or within
        the set.
        """
        codes = {
            name: _hashes(faces.images)
            for name, faces in (("train", self.train), ("made", self.made))
        }
        bits = _least_bits(self.made.images, codes["train"])
        records, rows = direct(self.made, self.train)
        self.records += records
        self.columns |= {
            "exact": rows["exact"],
            "bits": bits,
            **{name: rows[name] for name in ("copy", "copy_of")},
        }
        self.columns["alarm"] = np.asarray(self.columns["alarm"]) | (rows["copy"] != "").to_numpy()
        self.near(bits <= NEAR, _least_bits(self.test.images, codes["train"]) <= NEAR)
        twins = (
            self.made.index["sha256"].duplicated(keep=False).to_numpy(),
            _least_bits_within(codes["made"]) <= NEAR,
        )
        for name, found in zip(("exact_within", "near_within"), twins, strict=True):
            self.note(name, Interval(float(found.mean()), np.nan, np.nan), len(found), "images")

    def near(self, made: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " m"]) -> None:
        """Keep the share of near duplicates, that among held-out people, and how far it lies above
        what they allow.

        Hashes of a few people lie near those of others and of most do not, so the share of 16
        people says little of the next 16: the gap is to the most that is expected.
        """
        usual = self.people.mean(test)
        self.note("near", self.groups.share(made).interval, len(made), "images")
        self.note("near_heldout", usual.interval, self.people.count, "people")
        self.note(
            "near_gap", self.groups.gap(made, self.people.expected(usual)), len(made), "images"
        )


# Perceptual hashes


def _hashes(images: UInt8[np.ndarray, "n c h w"]) -> np.ndarray:
    parts = [
        perceptual_hash(np.asarray(images[first : first + 1024]))
        for first in range(0, len(images), 1024)
    ]
    return np.concatenate(parts)


def _least_bits(images: UInt8[np.ndarray, "n c h w"], known: np.ndarray) -> np.ndarray:
    """Return how many bits each image, mirrored or not, lies from the nearest known hash."""
    sides = [_hashes(images), _hashes(images[:, :, :, ::-1])]
    found = [
        np.minimum(
            *(bits_apart(codes[first : first + BLOCK], known).min(axis=1) for codes in sides)
        )
        for first in range(0, len(images), BLOCK)
    ]
    return np.concatenate(found)


def _least_bits_within(codes: np.ndarray) -> np.ndarray:
    """Return how many bits each hash lies from the nearest other one; 65 where there is no
    other.
    """
    found = []
    for first in range(0, len(codes), BLOCK):
        apart = bits_apart(codes[first : first + BLOCK], codes)
        apart[np.arange(len(apart)), first + np.arange(len(apart))] = 65
        found.append(apart.min(axis=1))
    return np.concatenate(found)


# Pictures


def strips(
    made: Faces, train: Faces, found: Memorisation, count: int = 12, scale: int = 3
) -> Image.Image:
    """Return a sheet of the worst cases, a row each: synthetic image, nearest training image, their
    difference.

    The training image is moved and mirrored as it was matched. The difference is four times
    amplified, grey where there is none. Worst is the lowest ratio to another clip; each training
    image is shown once.
    """
    worst = found.rows.sort_values(["ratio_clip", "key"]).drop_duplicates("nearest").head(count)
    places = {key: place for place, key in enumerate(train.index["key"])}
    titles, pictures = [], []
    for place, row in zip(worst.index.tolist(), worst.to_dict("records"), strict=True):
        image = np.asarray(made.images[place])
        twin = laid(
            np.asarray(train.images[places[row["nearest"]]]),
            row["mirrored"],
            row["down"],
            row["right"],
        )
        apart = 128 + AMPLIFIED * (image.astype(np.int64) - twin)
        titles.append(f"{row['ratio_clip']:.2f}  {row['key']}  {row['nearest']}")
        pictures.append(np.stack([image, twin, apart.clip(0, 255).astype(np.uint8)]))
    return rows(titles, pictures, 3, scale)


def laid(
    image: UInt8[np.ndarray, "c h w"], mirrored: bool, down: int, right: int
) -> UInt8[np.ndarray, "c h w"]:
    """Return a training image as it lies under the image that, mirrored and then moved so, lies on
    it.
    """
    _, height, width = image.shape
    down, right = (
        round(-move * max(1, side / SIDE)) for move, side in ((down, height), (right, width))
    )
    rows, columns = (np.arange(side) - move for side, move in ((height, down), (width, right)))
    moved = image[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]
    return moved[:, :, ::-1] if mirrored else moved
