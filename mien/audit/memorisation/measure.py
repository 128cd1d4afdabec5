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
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32

from mien.audit.features import SpaceFeatures
from mien.audit.memorisation import copying, identity, matches
from mien.audit.memorisation.copies import find_copies
from mien.audit.memorisation.matches import Matches
from mien.audit.memorisation.membership import infer_membership
from mien.audit.memorisation.people import (
    ALARM_SHARE,
    EXTREME_CHANCE,
    ImagePeople,
    SyntheticGroups,
    compute_wilson_interval,
)
from mien.audit.memorisation.search import (
    Coarse,
    Match,
    Owners,
    make_owners,
    match_features,
    soften,
)
from mien.audit.part import require_one_form
from mien.errors import DataError, LeakageError
from mien.faces import Faces, name_distinct_units
from mien.hashes import (
    NEAR_DUPLICATE_BITS,
    count_bits_to_nearest,
    count_bits_to_nearest_other,
    hash_images,
)
from mien.runs.progress import quantify
from mien.stats import Interval, Record

PIXEL_SPACE = "pixels"  # the space that is always there

FEW_PEOPLE = 5  # with fewer held-out people, a note says that intervals are wide


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
    synthetic: Faces,
    features: Mapping[str, SpaceFeatures],
    find: Callable[[], Matches] | None = None,
) -> Memorisation:
    """Return how near `synthetic` is to the training images, compared with the held-out people
    `test`.

    `features` are further spaces by name, in addition to pixels; `find` returns the matches of all
    images in pixels, which are searched for by default. Photographs without a clip are clips of
    their own; if a subject is not known, its clip takes its place, and a note says so. Images of
    `test` whose subject is among the training subjects are left out, and a note says so. Raises
    DataError if a side has no images or another size, or if all training images are of one clip;
    LeakageError if `test` shows only training subjects.
    """
    # Only people whom training has not seen can be compared with
    _require_fit(train, test, synthetic)
    notes = _note_unknown(train, "training") + _note_unknown(test, "held-out")
    is_unseen = ~np.isin(
        name_distinct_units(test.index, "subject"), name_distinct_units(train.index, "subject")
    )
    if not is_unseen.any():
        raise LeakageError(
            "the alarm needs people whom training has not seen, and all held-out images are of "
            "training subjects; split by subject with `mien split`, and audit against the test "
            "side of that fold"
        )

    # The nearest training image of every image
    found_matches = find() if find else matches.find_matches(train, test, synthetic)
    if not is_unseen.all():
        notes.append(
            f"{int((~is_unseen).sum())} of {quantify(len(test), 'held-out image')} are of training "
            "subjects, and were left out"
        )
        test, found_matches = test.select(is_unseen), found_matches.select_test(is_unseen)
        features = {
            name: SpaceFeatures(vectors.train, vectors.test[is_unseen], vectors.synthetic)
            for name, vectors in features.items()
        }

    # Measure in pixels, in every other space, by identity, and by equal pixels and hashes
    sides = _prepare_sides(train, test, synthetic, found_matches.synthetic)
    in_identity, subjects = _measure_identity(sides)
    measured = _join_measured(
        _note_few_people(sides.people),
        _measure_chance(sides.people),
        _measure_in_pixels(sides, found_matches),
        *(_measure_in_features(sides, name, vectors) for name, vectors in features.items()),
        in_identity,
        _measure_duplicates(sides),
    )

    # A copy raises the alarm wherever its nearest image is
    identifiers = {name: list(synthetic.index[name]) for name in ("key", "emotion")}
    rows = pd.DataFrame({**identifiers, **measured.columns})
    rows["alarm"] = rows["alarm"].to_numpy() | (rows["copy"] != "").to_numpy()
    return Memorisation(measured.records, rows, subjects, (*notes, *measured.notes))


def measure_copies(synthetic: Faces, train: Faces) -> tuple[list[Record], pd.DataFrame]:
    """Return what can be measured without held-out people: the records exact and copies, and rows.

    There is one row per image, with the columns key, emotion, exact, copy and copy_of (see
    Memorisation).
    """
    rows = synthetic.index[["key", "emotion"]].reset_index(drop=True)
    copies_found = find_copies(synthetic, train).set_index("image").reindex(rows["key"])
    rows["exact"] = synthetic.index["sha256"].isin(set(train.index["sha256"])).to_numpy()
    for name, column in (("copy", "kind"), ("copy_of", "original")):
        rows[name] = pd.Series(copies_found[column].fillna("").to_numpy(dtype=object), dtype="str")
    shares = {"exact": rows["exact"], "copies": rows["copy"] != ""}
    records = [
        Record(f"memorisation.{name}", float(flags.mean()), len(flags), "images")
        for name, flags in shares.items()
    ]
    return records, rows


def _require_fit(train: Faces, test: Faces, synthetic: Faces) -> None:
    for name, faces in (("training", train), ("held-out", test), ("synthetic", synthetic)):
        if not len(faces):
            raise DataError(f"memorisation needs three sets of images; the {name} set is empty")
    require_one_form({"synthetic": synthetic, "training": train, "held-out": test})


def _note_unknown(faces: Faces, side: str) -> list[str]:
    unknown = int((faces.index["subject"] == "").sum())
    if not unknown:
        return []
    return [
        f"{unknown} of {quantify(len(faces), f'{side} image')} {'is' if unknown == 1 else 'are'} "
        "of unknown subjects: each of their clips counts as one subject"
    ]


# What the measurements share


@dataclass(frozen=True)
class _Measured:
    """What one measurement found.

    It has records, columns of `Memorisation.rows` by name, and notes on what could not be
    measured.
    """

    records: tuple[Record, ...] = ()
    columns: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _join_measured(*measurements: _Measured) -> _Measured:
    """Return all records, columns and notes, in order."""
    return _Measured(
        tuple(record for measurement in measurements for record in measurement.records),
        {
            name: column
            for measurement in measurements
            for name, column in measurement.columns.items()
        },
        tuple(note for measurement in measurements for note in measurement.notes),
    )


def _make_record(
    metric: str, interval: Interval, n: int, unit: str = "", class_name: str = ""
) -> _Measured:
    """Return the record of a number with its interval; if the number is nan, a note instead."""
    if np.isnan(interval.value):
        note = f"memorisation.{metric} could not be measured: too few people or images"
        return _Measured(notes=(note,))
    return _Measured((Record.of(f"memorisation.{metric}", interval, n, unit, class_name),))


@dataclass(frozen=True)
class _Sides:
    """The three sides of a measurement, and which of their images belong together.

    `people` are those of the held-out images, and `groups` those of the generated images.
    `subjects` and `owners` say whom each training image shows, and which clip it is from.
    `soft_train`, `soft_test` and `soft_synthetic` are the images in the form in which they are
    compared, and `coarse` returns their principal components.
    """

    train: Faces
    test: Faces
    synthetic: Faces
    people: ImagePeople
    groups: SyntheticGroups
    subjects: np.ndarray
    owners: Owners
    soft_train: Float32[np.ndarray, "n h w"]
    soft_test: Float32[np.ndarray, "m h w"]
    soft_synthetic: Float32[np.ndarray, "k h w"]
    coarse: Coarse


def _prepare_sides(train: Faces, test: Faces, synthetic: Faces, synthetic_matches: Match) -> _Sides:
    subjects = name_distinct_units(train.index, "subject")
    soft_train = soften(train.images)
    return _Sides(
        train,
        test,
        synthetic,
        ImagePeople.of(name_distinct_units(test.index, "subject")),
        SyntheticGroups.of(subjects[synthetic_matches.nearest]),
        subjects,
        make_owners(name_distinct_units(train.index, "clip"), subjects),
        soft_train,
        soften(test.images),
        soften(synthetic.images),
        Coarse.fit(soft_train),
    )


def _note_few_people(people: ImagePeople) -> _Measured:
    if people.count >= FEW_PEOPLE:
        return _Measured()
    count = quantify(people.count, "held-out person", "held-out people")
    note = f"the comparison is with only {count}; intervals are wide, or unknown"
    return _Measured(notes=(note,))


# In a space


def _measure_chance(people: ImagePeople) -> _Measured:
    """Return the upper bound of alarms expected if nothing was copied."""
    bound = Interval(people.bound_share(ALARM_SHARE), np.nan, np.nan)
    return _make_record("chance", bound, people.count, "people")


def _measure_in_pixels(sides: _Sides, found_matches: Matches) -> _Measured:
    """Return what is measured in pixels; images are mirrored and moved as they fit best."""
    synthetic, test, coarse = found_matches.synthetic, found_matches.test, sides.coarse
    # A generated image may be nearest to a real one after it is mirrored
    synthetic_views = [
        coarse(view) for view in (sides.soft_synthetic, sides.soft_synthetic[:, :, ::-1])
    ]
    components = SpaceFeatures(
        coarse(sides.soft_train), coarse(sides.soft_test), np.concatenate(synthetic_views)
    )
    return _join_measured(
        _compare_nearest(sides, PIXEL_SPACE, synthetic, test, found_matches.nearest_outside_clip),
        _measure_c_t(sides, PIXEL_SPACE, synthetic, test, components.train),
        _measure_membership(sides, components),
        _Measured(
            columns={
                "mirrored": synthetic.mirrored,
                "down": synthetic.down,
                "right": synthetic.right,
            }
        ),
    )


def _measure_in_features(sides: _Sides, name: str, vectors: SpaceFeatures) -> _Measured:
    """Return what is measured in a space of features."""
    # The nearest training image of each image, and the nearest one of these
    synthetic, test = (
        match_features(rows, vectors.train, sides.owners)
        for rows in (vectors.synthetic, vectors.test)
    )
    nearest = np.unique(np.concatenate([synthetic.nearest, test.nearest]))
    nearest_outside_clip = np.full(len(sides.train), np.nan)
    nearest_outside_clip[nearest] = match_features(
        vectors.train[nearest], vectors.train, sides.owners, nearest
    ).distance

    return _join_measured(
        _compare_nearest(sides, name, synthetic, test, nearest_outside_clip),
        _measure_c_t(sides, name, synthetic, test, vectors.train),
    )


def _compare_nearest(
    sides: _Sides,
    name: str,
    synthetic: Match,
    test: Match,
    nearest_outside_clip: Float[np.ndarray, " n"],
) -> _Measured:
    """Compare the nearest training images of generated images with those of held-out people.

    `nearest_outside_clip` is the distance of each training image to the nearest one outside its own
    clip.
    """
    # The nearest image, and alarms by nearness to one clip
    suffix = "" if name == PIXEL_SPACE else f"_{name}"
    columns = {
        f"nearest{suffix}": np.asarray(sides.train.index["key"], dtype=object)[synthetic.nearest],
        f"distance{suffix}": synthetic.distance,
        f"ratio_clip{suffix}": synthetic.ratio_clip,
        f"ratio_subject{suffix}": synthetic.ratio_subject,
    }
    measurements = [
        _Measured(columns=columns),
        _count_alarms(
            sides, f"copied.{name}", f"alarm{suffix}", synthetic.ratio_clip, test.ratio_clip
        ),
    ]

    # Alarms by nearness to one subject, if there is another subject
    if np.isfinite(synthetic.outside_subject).all():
        ratios = synthetic.ratio_subject, test.ratio_subject
        measurements += [
            _count_alarms(sides, f"person.{name}", f"alarm_subject{suffix}", *ratios),
            _count_extremes(sides, f"extreme.{name}", f"extreme{suffix}", *ratios),
        ]
    elif name == PIXEL_SPACE:
        note = "there is only one training subject: nearness to it is nearness to faces"
        measurements.append(_Measured(notes=(note,)))

    # Authenticity (Alaa et al. 2022)
    is_authentic = (
        copying.find_authentic(match, nearest_outside_clip) for match in (synthetic, test)
    )
    return _join_measured(
        *measurements, _compare_shares(sides, f"authentic{{}}.{name}", *is_authentic)
    )


def _count_alarms(
    sides: _Sides,
    metric: str,
    column: str,
    synthetic: Float[np.ndarray, " n"],
    test: Float[np.ndarray, " m"],
) -> _Measured:
    """Return which ratios raise an alarm, and their share, also per class.

    These are the ratios below the level that one in a hundred images of held-out people has.
    """
    alarm_ratio = sides.people.estimate_quantile(test, ALARM_SHARE)
    measurements = [
        _Measured(columns={column: synthetic < alarm_ratio.value}),
        _make_record(
            metric,
            sides.groups.estimate_share_below(synthetic, alarm_ratio),
            len(synthetic),
            "images",
        ),
    ]
    for emotion in sides.synthetic.classes:
        has_emotion = (sides.synthetic.index["emotion"] == emotion).to_numpy()
        share = sides.groups.estimate_share_below(synthetic, alarm_ratio, has_emotion)
        measurements.append(_make_record(metric, share, int(has_emotion.sum()), "images", emotion))
    return _join_measured(*measurements)


def _count_extremes(
    sides: _Sides,
    metric: str,
    column: str,
    synthetic: Float[np.ndarray, " n"],
    test: Float[np.ndarray, " m"],
) -> _Measured:
    """Return which ratios are lower than one more held-out person would have, and their share.

    One in a thousand images is expected below this bound, however few people it was measured on, so
    a few images are meaningful; alarms are raised by one in a hundred.
    """
    is_extreme = synthetic < sides.people.find_extreme_ratio(test)
    return _join_measured(
        _Measured(columns={column: is_extreme}),
        _make_record(metric, compute_wilson_interval(is_extreme), len(synthetic), "images"),
    )


def _compare_shares(
    sides: _Sides, metric: str, synthetic: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " m"]
) -> _Measured:
    """Return a share, the same among held-out people, and the gap between the two."""
    synthetic_share, heldout_share = (
        sides.groups.estimate_share(synthetic),
        sides.people.estimate_mean(test),
    )
    gap = sides.groups.estimate_gap(synthetic, heldout_share)
    return _join_measured(
        _make_record(metric.format(""), synthetic_share.interval, len(synthetic), "images"),
        _make_record(
            metric.format("_heldout"), heldout_share.interval, sides.people.count, "people"
        ),
        _make_record(metric.format("_gap"), gap, len(synthetic), "images"),
    )


def _measure_c_t(
    sides: _Sides, name: str, synthetic: Match, test: Match, train: Float[np.ndarray, "n d"]
) -> _Measured:
    """Return C_T, in regions of the training images."""
    region = copying.assign_regions(train, sides.people.count)
    score = copying.measure_c_t(synthetic, test, region, sides.people, sides.groups.groups)
    return _make_record(f"ct.{name}", score.interval, len(sides.synthetic), "images")


def _measure_membership(sides: _Sides, components: SpaceFeatures) -> _Measured:
    """Return how well generated images tell who was trained on.

    It is measured only in pixels: a space that was learnt from the training subjects shows them
    unlike others by itself.
    """
    heldout_subjects = name_distinct_units(sides.test.index, "subject")
    auc = infer_membership(components, sides.subjects, heldout_subjects)
    count = len(set(sides.subjects)) + sides.people.count
    return _make_record("membership", auc, count, "subjects")


# By identity


def _measure_identity(sides: _Sides) -> tuple[_Measured, pd.DataFrame]:
    """Return what is measured on the subjects that images show, and the subjects that are shown.

    An embedding that separates training subjects finds them.
    """
    is_known = (sides.train.index["subject"] != "").to_numpy()
    embed = identity.learn_embedding(sides.soft_train, sides.subjects, is_known, sides.coarse)
    if embed is None:
        note = "no identity embedding: it needs three known subjects with at least two images each"
        return _Measured(notes=(note,)), pd.DataFrame()

    # Alarms by the nearest subject
    (synthetic_subjects, synthetic_ratios), (test_subjects, test_ratios) = (
        _find_nearest_subjects(sides, embed, soft)
        for soft in (sides.soft_synthetic, sides.soft_test)
    )
    measurements = [
        _count_alarms(sides, "identity", "alarm_identity", synthetic_ratios, test_ratios),
        _count_extremes(
            sides, "identity_extreme", "extreme_identity", synthetic_ratios, test_ratios
        ),
        _Measured(columns={"subject": synthetic_subjects, "ratio_identity": synthetic_ratios}),
    ]

    # Subjects that are shown more often than chance allows
    shown_subjects = identity.find_shown_subjects(
        synthetic_subjects,
        synthetic_ratios,
        sides.people.find_extreme_ratio(test_ratios),
        test_subjects,
        sides.people,
        len(set(sides.subjects)),
    )
    for row in shown_subjects.to_dict("records"):
        if row["low"] > EXTREME_CHANCE:
            times = Interval(row["times"], row["times_low"], row["times_high"])
            measurements.append(
                _make_record("subject", times, row["images"], "images", row["subject"])
            )
    return _join_measured(*measurements), shown_subjects


def _find_nearest_subjects(
    sides: _Sides, embed: identity.Embedding, soft: Float32[np.ndarray, "n h w"]
) -> tuple[np.ndarray, Float[np.ndarray, " n"]]:
    """Return the subject nearest to each image, and its distance over that of the next subject.

    The image is compared as it is and mirrored.
    """
    train = embed(sides.soft_train)
    as_it_is, mirrored = (
        match_features(embed(view), train, sides.owners) for view in (soft, soft[:, :, ::-1])
    )
    is_nearer_mirrored = mirrored.distance < as_it_is.distance
    nearest = np.where(is_nearer_mirrored, mirrored.nearest, as_it_is.nearest)
    ratio = np.where(is_nearer_mirrored, mirrored.ratio_subject, as_it_is.ratio_subject)
    return sides.subjects[nearest], ratio


# By equal pixels and hashes


def _measure_duplicates(sides: _Sides) -> _Measured:
    """Return the shares of images that equal training images or each other.

    They are equal by their pixels, by the search for copies, or by their perceptual hashes.
    """
    # Equal pixels, copies and hashes among the training images
    synthetic, train = sides.synthetic, sides.train
    synthetic_hashes, train_hashes = (hash_images(faces.images) for faces in (synthetic, train))
    synthetic_bits, test_bits = (
        count_bits_to_nearest(faces.images, train_hashes) for faces in (synthetic, sides.test)
    )
    records, rows = measure_copies(synthetic, train)
    copied_columns = {name: rows[name] for name in ("copy", "copy_of")}
    columns = {"exact": rows["exact"], "bits": synthetic_bits, **copied_columns}

    # Equal pixels and hashes within the set
    is_repeated = {
        "exact_within": synthetic.index["sha256"].duplicated(keep=False).to_numpy(),
        "near_within": count_bits_to_nearest_other(synthetic_hashes) <= NEAR_DUPLICATE_BITS,
    }
    repeated = [
        _make_record(name, Interval(float(flags.mean()), np.nan, np.nan), len(flags), "images")
        for name, flags in is_repeated.items()
    ]

    return _join_measured(
        _Measured(tuple(records), columns),
        _compare_near_shares(
            sides, synthetic_bits <= NEAR_DUPLICATE_BITS, test_bits <= NEAR_DUPLICATE_BITS
        ),
        *repeated,
    )


def _compare_near_shares(
    sides: _Sides, synthetic: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " m"]
) -> _Measured:
    """Return the share of near duplicates, that among held-out people, and the gap.

    The hashes of a few people are near those of others, and of most people they are not, so the
    share of 16 people says little of the next 16: the gap is to the upper bound of what is
    expected.
    """
    heldout_share = sides.people.estimate_mean(test)
    gap = sides.groups.estimate_gap(synthetic, sides.people.bound_estimate(heldout_share))
    return _join_measured(
        _make_record(
            "near", sides.groups.estimate_share(synthetic).interval, len(synthetic), "images"
        ),
        _make_record("near_heldout", heldout_share.interval, sides.people.count, "people"),
        _make_record("near_gap", gap, len(synthetic), "images"),
    )
