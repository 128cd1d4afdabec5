"""Memorisation: whether generated images are new, or copies of training ones.

Every measure is compared with people whom the generator has not seen: an image raises an alarm if
it is nearer to one clip, or one subject, than 99 of 100 images of held-out people are. Metrics, in
each space S (those marked * also per class):

    memorisation.chance              upper bound of alarms expected if nothing was copied
    memorisation.copied.S *          share of alarms by the nearest distance over that to another
                                     clip
    memorisation.person.S *          share of alarms by the nearest distance over that to another
                                     subject
    memorisation.extreme.S           share as near to one subject as one in 1,000 images of
                                     held-out people would be
    memorisation.authentic.S         share farther from its nearest training image than that image
                                     is from other clips
    memorisation.ct.S                C_T: negative if images are nearer to training images than
                                     held-out people are
    memorisation.membership          AUC with which generated images tell training subjects from
                                     held-out ones
    memorisation.identity *          share of alarms by the distance to the nearest subject over
                                     that to the next, in an identity embedding
    memorisation.identity_extreme    share as near to one subject there as one in 1,000 images of
                                     held-out people would be
    memorisation.subject             of a subject that is shown (part): how often it is nearest,
                                     as a multiple of chance
    memorisation.exact               share with the pixels of a training image
    memorisation.copies              share of copies, even if mirrored, moved, resized, encoded
                                     again or noisy
    memorisation.near                share within four bits of a training image's perceptual hash
    memorisation.exact_within        share with the pixels of another generated image; near_within
                                     is the same by perceptual hash

`authentic` and `near` have `_heldout`, the same of held-out people, and `_gap`, the
difference: for `near` it is the difference from the upper bound expected of people like them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mien.audit.features import SpaceFeatures
from mien.audit.memorisation import copying, identity, matches
from mien.audit.memorisation.copies import find_copies
from mien.audit.memorisation.matches import Matches
from mien.audit.memorisation.membership import infer_membership
from mien.audit.memorisation.people import (
    ALARM_SHARE,
    EXTREME_CHANCE,
    ImagePeople,
    MadeGroups,
    wilson_interval,
)
from mien.audit.memorisation.search import (
    MATCH_SIDE,
    Coarse,
    Match,
    Owners,
    make_owners,
    match_features,
    soften,
)
from mien.errors import DataError, LeakageError
from mien.faces import Faces, name_distinct_units
from mien.hashes import NEAR_DUPLICATE_BITS, compute_perceptual_hash, hamming_distances
from mien.pages.sheets import draw_rows
from mien.runs.progress import count_of
from mien.stats import Interval, Record

PIXEL_SPACE = "pixels"  # the space that is always there

DIFFERENCE_FACTOR = 4  # factor by which the strips amplify differences

FEW_PEOPLE = 5  # with fewer held-out people, a note says that intervals are wide

HASH_ROWS = 512  # rows of hashes that are compared at once


@dataclass(frozen=True)
class Memorisation:
    """The results on generated images, with `notes` on what could not be measured.

    `rows` has one row per generated image: key, emotion; nearest, the key of the nearest training
    image in pixels, which the image fits after being mirrored if `mirrored` and moved by (`down`,
    `right`) pixels of a picture 48 wide; distance, to that image; ratio_clip and ratio_subject, the
    distance over that to the nearest of another clip and of another subject; alarm, whether
    ratio_clip is below the level of held-out people or the image is a copy of a training image;
    alarm_subject, the same of ratio_subject; extreme, far below it; exact, whether the pixels are
    those of a training image; copy, how it differs from the training image that it copies
    (`copies.find_copies`), empty if it is no copy; copy_of, the key of that image; bits, of 64,
    between its perceptual hash and the nearest one of a training image, mirrored or not. For every
    other space S: nearest_S, distance_S, ratio_clip_S, ratio_subject_S, alarm_S, alarm_subject_S,
    extreme_S. If there is an identity embedding: subject, the training subject that it finds
    nearest, ratio_identity and alarm_identity.

    `subjects` has a row for each training subject that images were found to show: see
    `identity.find_shown_subjects`.
    """

    records: tuple[Record, ...]
    rows: pd.DataFrame
    subjects: pd.DataFrame
    notes: tuple[str, ...]


def measure_memorisation(
    train: Faces,
    test: Faces,
    made: Faces,
    features: Mapping[str, SpaceFeatures],
    find: Callable[[], Matches] | None = None,
) -> Memorisation:
    """Return how near `made` is to the training images, compared with the held-out people `test`.

    `features` are further spaces by name, in addition to pixels; `find` returns the matches of all
    images in pixels, which are searched for by default. Photographs without a clip are clips of
    their own; if a subject is not known, its clip takes its place, and a note says so. Images of
    `test` whose subject is among the training subjects are left out, and a note says so. Raises
    DataError if a side has no images or another size, or if all training images are of one clip;
    LeakageError if `test` shows only training subjects.
    """
    # Only people whom training has not seen can be compared with
    _require_fit(train, test, made)
    notes = _note_unknown(train, "training") + _note_unknown(test, "held-out")
    unseen = ~np.isin(
        name_distinct_units(test.index, "subject"), name_distinct_units(train.index, "subject")
    )
    if not unseen.any():
        raise LeakageError(
            "the alarm needs people whom training has not seen, and all held-out images are of "
            "training subjects; split by subject with `mien split`, and audit against the test "
            "side of that fold"
        )

    # The nearest training image of every image
    found_matches = find() if find else matches.find_matches(train, test, made)
    if not unseen.all():
        notes.append(
            f"{int((~unseen).sum())} of {count_of(len(test), 'held-out image')} are of training "
            "subjects, and were left out"
        )
        test, found_matches = test.select(unseen), found_matches.select_test(unseen)
        features = {
            name: SpaceFeatures(sides.train, sides.test[unseen], sides.made)
            for name, sides in features.items()
        }

    # Measure in pixels, in every other space, by identity, and by hashes
    people = ImagePeople.of(name_distinct_units(test.index, "subject"))
    if people.count < FEW_PEOPLE:
        notes.append(
            "the comparison is with only "
            f"{count_of(people.count, 'held-out person', 'held-out people')}; intervals are wide, "
            "or unknown"
        )
    audit = _Collector(
        train,
        test,
        made,
        people,
        make_owners(
            name_distinct_units(train.index, "clip"), name_distinct_units(train.index, "subject")
        ),
    )
    audit.note(
        "chance", Interval(people.chance(ALARM_SHARE), np.nan, np.nan), people.count, "people"
    )
    audit.in_pixels(found_matches)
    for name, sides in features.items():
        audit.in_features(name, sides)
    audit.whom()
    audit.duplicates()
    return Memorisation(
        tuple(audit.records), pd.DataFrame(audit.columns), audit.subjects, (*notes, *audit.notes)
    )


def measure_copies(made: Faces, train: Faces) -> tuple[list[Record], pd.DataFrame]:
    """Return what can be measured without held-out people: the records exact and copies, and rows.

    There is one row per image, with the columns key, emotion, exact, copy and copy_of (see
    Memorisation).
    """
    rows = made.index[["key", "emotion"]].reset_index(drop=True)
    copies_found = find_copies(made, train).set_index("image").reindex(rows["key"])
    rows["exact"] = made.index["sha256"].isin(set(train.index["sha256"])).to_numpy()
    for name, column in (("copy", "kind"), ("copy_of", "original")):
        rows[name] = pd.Series(copies_found[column].fillna("").to_numpy(dtype=object), dtype="str")
    shares = {"exact": rows["exact"], "copies": rows["copy"] != ""}
    records = [
        Record(f"memorisation.{name}", float(flags.mean()), len(flags), "images")
        for name, flags in shares.items()
    ]
    return records, rows


def _require_fit(train: Faces, test: Faces, made: Faces) -> None:
    for name, faces in (("training", train), ("held-out", test), ("synthetic", made)):
        if not len(faces):
            raise DataError(f"memorisation needs three sets of images; the {name} set is empty")
    if len({train.size, test.size, made.size}) > 1:
        raise DataError(
            f"training, held-out and synthetic images need one size; given: {train.size}, "
            f"{test.size}, {made.size}. Preprocess them to the same size"
        )


def _note_unknown(faces: Faces, side: str) -> list[str]:
    unknown = int((faces.index["subject"] == "").sum())
    if not unknown:
        return []
    return [
        f"{unknown} of {count_of(len(faces), f'{side} image')} {'is' if unknown == 1 else 'are'} "
        "of unknown subjects: each of their clips counts as one subject"
    ]


class _Collector:
    """Collects the records and columns of one measurement, space by space."""

    def __init__(
        self, train: Faces, test: Faces, made: Faces, people: ImagePeople, who: Owners
    ) -> None:
        self.train, self.test, self.made, self.people, self.who = train, test, made, people, who
        self.records: list[Record] = []
        self.notes: list[str] = []
        self.subjects = pd.DataFrame()
        self.keys, self.owner = (
            np.asarray(train.index["key"], dtype=object),
            name_distinct_units(train.index, "subject"),
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

    def note(self, metric: str, interval: Interval, n: int, unit: str = "", part: str = "") -> None:
        """Add a record, with its interval if there is one."""
        if np.isnan(interval.value):
            self.notes.append(
                f"memorisation.{metric} could not be measured: too few people or images"
            )
            return
        self.records.append(Record.of(f"memorisation.{metric}", interval, n, unit, part))

    def in_pixels(self, found_matches: Matches) -> None:
        """Measure in pixels; images are mirrored and moved as they fit best."""
        soft, coarse, made, test = self.soft, self.coarse, found_matches.made, found_matches.test
        self.groups = MadeGroups.of(self.owner[made.nearest])
        self.compare(PIXEL_SPACE, made, test, found_matches.own)
        made_components = np.concatenate([coarse(soft["made"]), coarse(soft["made"][:, :, ::-1])])
        components = SpaceFeatures(coarse(soft["train"]), coarse(soft["test"]), made_components)
        self.cells(PIXEL_SPACE, made, test, components.train)
        self.membership(components)
        self.columns |= {"mirrored": made.mirrored, "down": made.down, "right": made.right}

    def in_features(self, name: str, sides: SpaceFeatures) -> None:
        """Measure in a space of features."""
        made, test = (
            match_features(side, sides.train, self.who) for side in (sides.made, sides.test)
        )
        nearest_images = np.unique(np.concatenate([made.nearest, test.nearest]))
        distance_of = np.full(len(self.train), np.nan)
        distance_of[nearest_images] = match_features(
            sides.train[nearest_images], sides.train, self.who, nearest_images
        ).distance
        self.compare(name, made, test, distance_of)
        self.cells(name, made, test, sides.train)

    def compare(self, name: str, made: Match, test: Match, own: Float[np.ndarray, " n"]) -> None:
        """Compare each image's nearest neighbour with those of held-out people."""
        suffix = "" if name == PIXEL_SPACE else f"_{name}"

        self.columns |= {
            f"nearest{suffix}": self.keys[made.nearest],
            f"distance{suffix}": made.distance,
            f"ratio_clip{suffix}": made.ratio_clip,
            f"ratio_subject{suffix}": made.ratio_subject,
        }

        # Nearness to one clip, and to one subject
        self.alarm(f"copied.{name}", f"alarm{suffix}", made.ratio_clip, test.ratio_clip)
        if np.isfinite(made.outside_subject).all():
            self.alarm(
                f"person.{name}", f"alarm_subject{suffix}", made.ratio_subject, test.ratio_subject
            )
            self.extreme(
                f"extreme.{name}", f"extreme{suffix}", made.ratio_subject, test.ratio_subject
            )
        elif name == PIXEL_SPACE:
            self.notes.append(
                "there is only one training subject: nearness to it is nearness to faces"
            )

        # Authenticity (Alaa et al. 2022)
        self.beside(
            f"authentic{{}}.{name}",
            copying.find_authentic(made, own),
            copying.find_authentic(test, own),
        )

    def beside(
        self, metric: str, made: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " m"]
    ) -> None:
        """Add a share, the same among held-out people, and the gap between the two."""
        made_share, heldout_share = self.groups.share(made), self.people.mean(test)
        self.note(metric.format(""), made_share.interval, len(made), "images")
        self.note(metric.format("_heldout"), heldout_share.interval, self.people.count, "people")
        self.note(metric.format("_gap"), self.groups.gap(made, heldout_share), len(made), "images")

    def alarm(
        self, metric: str, column: str, made: Float[np.ndarray, " n"], test: Float[np.ndarray, " m"]
    ) -> None:
        """Add which ratios raise an alarm, and their share.

        These are the ratios below the level that one in a hundred images of held-out people has.
        """
        level = self.people.quantile(test, ALARM_SHARE)
        self.columns[column] = made < level.value
        self.note(metric, self.groups.share_below(made, level), len(made), "images")
        for emotion in self.made.classes:
            has_emotion = (self.made.index["emotion"] == emotion).to_numpy()
            self.note(
                metric,
                self.groups.share_below(made, level, has_emotion),
                int(has_emotion.sum()),
                "images",
                emotion,
            )

    def extreme(
        self, metric: str, column: str, made: Float[np.ndarray, " n"], test: Float[np.ndarray, " m"]
    ) -> float:
        """Add which ratios are lower than one more held-out person would have, and their share.

        Returns the bound. One in a thousand images is expected below it, however few people it was
        measured on, so a few images are meaningful; alarms are raised by one in a hundred.
        """
        far = self.people.far_below(test)
        self.columns[column] = made < far
        self.note(metric, wilson_interval(made < far), len(made), "images")
        return far

    def cells(self, name: str, made: Match, test: Match, train: Float[np.ndarray, "n d"]) -> None:
        """Measure C_T, in cells of the training images."""
        cell = copying.assign_cells(train, self.people.count)
        score = copying.measure_c_t(made, test, cell, self.people, self.groups.groups)
        self.note(f"ct.{name}", score.interval, len(self.made), "images")

    def membership(self, sides: SpaceFeatures) -> None:
        """Measure how well generated images tell who was trained on.

        It is measured only in pixels: a space that was learnt from the training subjects shows them
        unlike others by itself.
        """
        heldout_subjects = name_distinct_units(self.test.index, "subject")
        auc = infer_membership(sides, self.owner, heldout_subjects)
        self.note("membership", auc, len(set(self.owner)) + self.people.count, "subjects")

    def whom(self) -> None:
        """Find the subjects that images show, by an embedding that separates training subjects."""
        is_known = (self.train.index["subject"] != "").to_numpy()
        embed = identity.learn_embedding(self.soft["train"], self.owner, is_known, self.coarse)
        if embed is None:
            self.notes.append(
                "no identity embedding: it needs three known subjects with at least two images each"
            )
            return

        # Alarms by the nearest subject
        train = embed(self.soft["train"])
        made, test = (self._nearest_subject(embed, train, side) for side in ("made", "test"))
        self.alarm("identity", "alarm_identity", made[1], test[1])
        far = self.extreme("identity_extreme", "extreme_identity", made[1], test[1])
        self.columns |= {"subject": made[0], "ratio_identity": made[1]}

        # Subjects that are shown more often than chance allows
        self.subjects = identity.find_shown_subjects(
            made[0], made[1], far, test[0], self.people, len(set(self.owner))
        )
        for row in self.subjects.to_dict("records"):
            if row["low"] > EXTREME_CHANCE:
                times = Interval(row["times"], row["times_low"], row["times_high"])
                self.note("subject", times, row["images"], "images", row["subject"])

    def _nearest_subject(
        self, embed: identity.Embedding, train: np.ndarray, side: str
    ) -> tuple[np.ndarray, Float[np.ndarray, " n"]]:
        """Return the subject nearest to each image, and its distance over that of the next subject.

        The image is compared as it is and mirrored.
        """
        matches_of_views = [
            match_features(embed(view), train, self.who)
            for view in (self.soft[side], self.soft[side][:, :, ::-1])
        ]
        best_view = (matches_of_views[1].distance < matches_of_views[0].distance).astype(np.int64)
        image_numbers = np.arange(len(best_view))
        nearest, ratio = (
            np.stack([getattr(view_match, name) for view_match in matches_of_views])[
                best_view, image_numbers
            ]
            for name in ("nearest", "ratio_subject")
        )
        return self.owner[nearest], ratio

    def duplicates(self) -> None:
        """Count images equal to a training image or to each other, by pixels or perceptual hash."""
        # Equal pixels, copies and hashes among the training images
        codes = {
            name: _hash_images(faces.images)
            for name, faces in (("train", self.train), ("made", self.made))
        }
        bits = _bits_to_nearest(self.made.images, codes["train"])
        records, rows = measure_copies(self.made, self.train)
        self.records += records
        self.columns |= {
            "exact": rows["exact"],
            "bits": bits,
            **{name: rows[name] for name in ("copy", "copy_of")},
        }
        self.columns["alarm"] = np.asarray(self.columns["alarm"]) | (rows["copy"] != "").to_numpy()
        self.near(
            bits <= NEAR_DUPLICATE_BITS,
            _bits_to_nearest(self.test.images, codes["train"]) <= NEAR_DUPLICATE_BITS,
        )

        # Equal pixels and hashes within the set
        repeated = (
            self.made.index["sha256"].duplicated(keep=False).to_numpy(),
            _bits_to_nearest_other(codes["made"]) <= NEAR_DUPLICATE_BITS,
        )
        for name, flags in zip(("exact_within", "near_within"), repeated, strict=True):
            self.note(name, Interval(float(flags.mean()), np.nan, np.nan), len(flags), "images")

    def near(self, made: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " m"]) -> None:
        """Add the share of near duplicates, that among held-out people, and the gap.

        The hashes of a few people are near those of others, and of most people they are not, so the
        share of 16 people says little of the next 16: the gap is to the upper bound of what is
        expected.
        """
        heldout_share = self.people.mean(test)
        self.note("near", self.groups.share(made).interval, len(made), "images")
        self.note("near_heldout", heldout_share.interval, self.people.count, "people")
        self.note(
            "near_gap",
            self.groups.gap(made, self.people.expected(heldout_share)),
            len(made),
            "images",
        )


# Perceptual hashes


def _hash_images(images: UInt8[np.ndarray, "n c h w"]) -> np.ndarray:
    parts = [
        compute_perceptual_hash(np.asarray(images[first : first + 1024]))
        for first in range(0, len(images), 1024)
    ]
    return np.concatenate(parts)


def _bits_to_nearest(images: UInt8[np.ndarray, "n c h w"], known: np.ndarray) -> np.ndarray:
    """Return the bits between each image's hash, mirrored or not, and the nearest known hash."""
    views = [_hash_images(images), _hash_images(images[:, :, :, ::-1])]
    least = [
        np.minimum(
            *(
                hamming_distances(codes[first : first + HASH_ROWS], known).min(axis=1)
                for codes in views
            )
        )
        for first in range(0, len(images), HASH_ROWS)
    ]
    return np.concatenate(least)


def _bits_to_nearest_other(codes: np.ndarray) -> np.ndarray:
    """Return the bits between each hash and the nearest other one; 65 if there is no other."""
    least = []
    for first in range(0, len(codes), HASH_ROWS):
        bits = hamming_distances(codes[first : first + HASH_ROWS], codes)
        bits[np.arange(len(bits)), first + np.arange(len(bits))] = 65
        least.append(bits.min(axis=1))
    return np.concatenate(least)


# Pictures


def draw_strips(
    made: Faces, train: Faces, found: Memorisation, count: int = 12, scale: int = 3
) -> Image.Image:
    """Return a sheet of the worst cases: synthetic image, nearest training image, and difference.

    Each is a row. The training image is moved and mirrored as it was matched. The difference is
    amplified four times, and grey if there is none. The worst have the lowest ratio to another
    clip; each training image is shown once.
    """
    worst = found.rows.sort_values(["ratio_clip", "key"]).drop_duplicates("nearest").head(count)
    places = {key: image_number for image_number, key in enumerate(train.index["key"])}
    titles, pictures = [], []
    for image_number, row in zip(worst.index.tolist(), worst.to_dict("records"), strict=True):
        image = np.asarray(made.images[image_number])
        twin = overlay(
            np.asarray(train.images[places[row["nearest"]]]),
            row["mirrored"],
            row["down"],
            row["right"],
        )
        difference = 128 + DIFFERENCE_FACTOR * (image.astype(np.int64) - twin)
        titles.append(f"{row['ratio_clip']:.2f}  {row['key']}  {row['nearest']}")
        pictures.append(np.stack([image, twin, difference.clip(0, 255).astype(np.uint8)]))
    return draw_rows(titles, pictures, 3, scale)


def overlay(
    image: UInt8[np.ndarray, "c h w"], mirrored: bool, down: int, right: int
) -> UInt8[np.ndarray, "c h w"]:
    """Return a training image moved and mirrored so that it fits under the image matched to it.

    The arguments say how that image, mirrored and then moved, fits the training image.
    """
    _, height, width = image.shape
    down, right = (
        round(-move * max(1, side / MATCH_SIDE)) for move, side in ((down, height), (right, width))
    )
    rows, columns = (np.arange(side) - move for side, move in ((height, down), (width, right)))
    moved = image[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]
    return moved[:, :, ::-1] if mirrored else moved
