"""Rejection: images that the audit would object to are drawn again.

An image is `filter_memorised` if it raises the audit's alarm: it is nearer to one clip of the
training set than 99 of 100 images of held-out people are, or it is a training image. It is
`filter_unlike` if it is not among real training images of its class, as the judge sees them:
farther from each of them than that image's fifth nearest neighbour.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mien import seeds
from mien.audit import distances, features
from mien.audit.fidelity import MAX_IMAGES_PER_SIDE, NEIGHBOUR_RANK, OrderedSide
from mien.audit.memorisation.matches import MatchFinder
from mien.audit.memorisation.people import ALARM_SHARE, ImagePeople
from mien.audit.specs import Reason, RejectSpec
from mien.errors import AuditFailed, DataError, SpecError
from mien.faces import Faces, name_distinct_units
from mien.generators import shards
from mien.generators.base import Generator
from mien.generators.generate import assemble, describe_sampling, read_levels, write_sheet
from mien.generators.kinds import load_generator
from mien.generators.orders import plan_guidance, plan_images
from mien.generators.specs import GenerateSpec
from mien.runs import devices
from mien.runs.progress import quantify, say
from mien.runs.spec import read_spec, suggest
from mien.runs.store import Run, RunSummary, Store

REASONS: tuple[Reason, ...] = get_args(Reason)

RejectFilter = Callable[[Faces], Bool[np.ndarray, " n"]]
"""A function that says for each image whether it must be drawn again."""

MAX_DRAWS = 20  # times that an image is drawn, at most


def require_reasons(reject: Sequence[str]) -> None:
    """Raise SpecError, with the nearest name, unless these are reasons of rejection, each once."""
    known = list(get_args(Reason))
    for name in reject:
        if name not in known:
            raise SpecError(
                f"--reject must be {', '.join(known)}, or both with a comma between them; given: "
                f"'{name}'.{suggest(name, known)}"
            )
    if len(set(reject)) < len(reject):
        raise SpecError(f"--reject must name each reason once; given: {','.join(reject)}")


def make_reject_spec(spec: GenerateSpec, reject: Sequence[str], test: str) -> RejectSpec:
    """Return `spec` with rejection; raises SpecError for an unknown reason, and for clips."""
    if spec.fps is not None:
        raise SpecError(
            "--reject replaces single images, and a generator of movement draws clips; omit it"
        )
    return read_spec(
        RejectSpec, {**spec.model_dump(), "reject": list(reject), "test": test}, "generate --reject"
    )


def generate_filtered(
    spec: RejectSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Run:
    """Return the run of a database with exactly `spec.counts` images per class, none rejected.

    A rejected image keeps its key and is drawn with another seed, up to 20 times. rejected.parquet
    has a row for each rejected image (key, emotion, seed, round, and a column per reason),
    summary.json the rates of each class, next to those of the held-out people. An interrupted
    command resumes if it is given again.

    Raises AuditFailed if an image is still rejected after that, and DataError if the real faces do
    not allow it.
    """
    parent, test_run = store.run(spec.generator), store.run(spec.test)
    spec = spec.model_copy(update={"generator": parent.name, "test": test_run.name})

    def build(out: Path, scratch: Path) -> RunSummary:
        # The rates among held-out people, for comparison
        generator = load_generator(parent, device)
        say(describe_sampling(generator, spec))
        filters, test = _make_filters(spec, parent, store, device), Faces.load(test_run.path)
        heldout_flags = pd.DataFrame(
            {name: mark_rejected(test) for name, mark_rejected in filters.items()}
        ).assign(emotion=test.index["emotion"])

        # Draw the images, and store them with those that were rejected
        how = read_levels(spec, store)
        faces, thrown = draw_until_accepted(how, generator, filters, scratch, device, workers)
        faces.save(out)
        thrown.to_parquet(out / "rejected.parquet", index=False)
        write_sheet(faces, out, 12)
        counts = faces.count_images().drop(columns=["clips", "subjects"]).to_dict("records")
        holds = (
            f"{quantify(len(faces), 'synthetic image')}, {len(thrown):,} more were rejected "
            f"({', '.join(spec.reject)})"
        )
        rates = _compute_rejection_rates(faces.index, thrown, heldout_flags, spec.reject)
        return {"holds": holds, "counts": counts, "rejected": rates}

    return store.make(spec, build, alias)


def list_rejection_lines(run: Run) -> list[str]:
    """Return the rejection rates of a run as lines of text."""
    lines = []
    for row in run.summary["rejected"]:
        rates = [
            f"{name} {row[name]:.1%}, of held-out people {_format_share(row[f'{name}_heldout'])}"
            for name in REASONS
            if name in row
        ]
        lines.append(
            f"{row['class']}: {row['rejected']:,} of {row['drawn']:,} rejected; {'; '.join(rates)}"
        )
    return lines


def _format_share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def draw_until_accepted(
    spec: RejectSpec,
    generator: Generator,
    filters: Mapping[str, RejectFilter],
    scratch: Path,
    device: str,
    workers: int | None,
) -> tuple[Faces, pd.DataFrame]:
    """Return the database and the rejected images; each round draws rejected images again."""
    index, labels, numbers = plan_images(spec.name, spec.counts, spec.seed)
    guidance = plan_guidance(index, spec)
    images = np.empty((len(labels), *generator.size), dtype=np.uint8)
    remaining, thrown = np.arange(len(labels)), []
    for number in range(MAX_DRAWS):
        # Rejected images are drawn again, with other seeds
        if number:
            say(f"drawing {len(remaining)} of {quantify(len(labels), 'image')} again")
            seeds_of_round = [
                seeds.derive_seed("image", spec.seed, *index[position], "again", number)
                for position in remaining
            ]
            numbers[remaining] = np.array(seeds_of_round, dtype=np.int64)

        # Draw
        folder = scratch / f"round-{number}"
        folder.mkdir(exist_ok=True)
        with devices.limit_cores(workers):
            drawn_images = shards.make_shards(
                generator,
                labels[remaining],
                numbers[remaining],
                spec,
                folder,
                device,
                guidance=guidance[remaining],
            )
        faces = assemble(
            generator,
            drawn_images,
            [index[position] for position in remaining],
            spec.name,
            numbers[remaining],
            spec,
        )

        # Reject
        flags = pd.DataFrame(
            {name: mark_rejected(faces) for name, mark_rejected in filters.items()}
        )
        is_rejected = flags.any(axis=1).to_numpy(dtype=bool)
        images[remaining[~is_rejected]] = drawn_images[~is_rejected]
        table = faces.index[["key", "emotion", "seed"]].assign(round=number)
        thrown.append(pd.concat([table, flags], axis=1)[is_rejected])
        remaining = remaining[is_rejected]

        if not len(remaining):
            database = assemble(generator, images, index, spec.name, numbers, spec)
            return database, pd.concat(thrown, ignore_index=True)

    # Give up, and say what is wrong with the last ones
    last = thrown[-1]
    reasons = ", ".join(f"{int(last[name].sum())} {name}" for name in filters)
    raise AuditFailed(
        f"after {MAX_DRAWS} draws each, {len(remaining)} of {quantify(len(labels), 'image')} "
        f"{'is' if len(remaining) == 1 else 'are'} still rejected ({reasons}; "
        f"{', '.join(sorted(set(last['emotion'])))}): the generator makes hardly any other images "
        "of these classes. Train it on more people, or for a shorter time, or reject for fewer "
        "reasons"
    )


def _compute_rejection_rates(
    accepted_table: pd.DataFrame,
    rejected_table: pd.DataFrame,
    heldout_flags: pd.DataFrame,
    reasons: Sequence[str],
) -> list[dict[str, Any]]:
    rows = []
    for emotion in ("", *dict.fromkeys(accepted_table["emotion"])):
        accepted, rejected, heldout = (
            table[table["emotion"] == emotion] if emotion else table
            for table in (accepted_table, rejected_table, heldout_flags)
        )
        count = len(accepted) + len(rejected)
        row: dict[str, Any] = {"class": emotion or "all", "drawn": count, "rejected": len(rejected)}
        for name in reasons:
            row |= {
                name: float(rejected[name].sum() / count),
                f"{name}_heldout": float(heldout[name].mean()) if len(heldout) else None,
            }
        rows.append(row)
    return rows


# Reasons


def _make_filters(
    spec: RejectSpec, generator: Run, store: Store, device: str
) -> dict[str, RejectFilter]:
    train = store.run(generator.spec["faces"])
    real, test = Faces.load(train.path), Faces.load(store.run(spec.test).path)
    if real.size != test.size:
        raise DataError(
            f"held-out faces need the size of the training faces; given: {test.size} and "
            f"{real.size}"
        )
    filters: dict[str, RejectFilter] = {}
    if "memorised" in spec.reject:
        filters["memorised"] = filter_memorised(real, test)
    if "unlike" in spec.reject:
        filters["unlike"] = filter_unlike(
            real, features.make_judge_space(features.load_judge(train, store, device))
        )
    return filters


def filter_memorised(train: Faces, test: Faces) -> RejectFilter:
    """Return a filter of images that raise the audit's alarm: `alarm` of
    `measure.measure_memorisation`.

    The images are compared in pixels.
    """
    # Only people whom training has not seen
    people = name_distinct_units(test.index, "subject")
    unseen = ~np.isin(people, name_distinct_units(train.index, "subject"))
    if not unseen.any():
        raise DataError(
            "the alarm needs people whom training has not seen, and all of these are training "
            "people; name another --test"
        )

    # The level of held-out people, and the images below it
    finder, contents = MatchFinder(train, exact=True), set(train.index["sha256"])

    def measure_ratios(faces: Faces) -> Float[np.ndarray, " n"]:
        return finder.match_block(faces, 0, len(faces)).ratio_clip

    alarm_ratio = (
        ImagePeople.of(people[unseen])
        .estimate_quantile(measure_ratios(test.select(unseen)), ALARM_SHARE)
        .value
    )

    def mark_rejected(faces: Faces) -> Bool[np.ndarray, " n"]:
        return (measure_ratios(faces) < alarm_ratio) | faces.index["sha256"].isin(
            contents
        ).to_numpy()

    return mark_rejected


def filter_unlike(train: Faces, space: features.Space) -> RejectFilter:
    """Return a filter of images within reach of no real image of their class (one image per clip).

    A class of five clips or fewer has no neighbourhoods, and nothing is rejected there.
    """
    # The neighbourhoods of each class
    ordered, rows = OrderedSide.of(train), space.extract(train.images)
    ground: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for emotion in train.classes:
        class_rows = rows[ordered.list_one_per_clip(emotion)[:MAX_IMAGES_PER_SIDE]]
        if len(class_rows) > NEIGHBOUR_RANK:
            ground[emotion] = class_rows, distances.measure_reach(class_rows, NEIGHBOUR_RANK)
        else:
            say(
                f"{emotion} has {quantify(len(class_rows), 'clip')}, which is too few to find "
                "images unlike them: nothing is rejected there"
            )

    # An image in none of the neighbourhoods of its class is rejected
    def mark_rejected(faces: Faces) -> Bool[np.ndarray, " n"]:
        is_rejected, features_of_faces = (
            np.zeros(len(faces), dtype=bool),
            space.extract(faces.images),
        )
        for emotion in set(faces.classes) & set(ground):
            positions = np.flatnonzero((faces.index["emotion"] == emotion).to_numpy())
            class_rows, far = ground[emotion]
            near = [
                (block <= far[None]).any(axis=1)
                for _, block in distances.iterate_distances(
                    features_of_faces[positions], class_rows
                )
            ]
            is_rejected[positions] = ~np.concatenate(near)
        return is_rejected

    return mark_rejected
