"""Rejection: what the audit would hold against a database is drawn anew, until each class has its
number.

An image is `memorised` where the audit's alarm rings: it lies nearer to one clip of the training
set than 99 of 100 images of people never seen, or is a training image. It is `unlike` where it lies
among no real training images of its class, as the judge sees them: further from each than that
one's fifth nearest.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from pydantic import field_validator

from mien import features, fidelity, generators, seeds, training
from mien.audit.fidelity import MOST, NEAREST, Side
from mien.audit.matches import Finder
from mien.audit.people import ALARM, People
from mien.audit.search import subjects_of
from mien.errors import AuditFailed, DataError
from mien.faces import Faces
from mien.generators import GenerateSpec
from mien.progress import many, say
from mien.spec import read_spec
from mien.store import Run, Store

Reason = Literal["memorised", "unlike"]
REASONS: tuple[Reason, ...] = get_args(Reason)
Filter = Callable[[Faces], Bool[np.ndarray, " n"]]
"""What says of each image whether it is to be drawn anew."""

ROUNDS = 20  # times that an image is drawn before it is given up


class RejectSpec(GenerateSpec):
    """A generated database without what is rejected for these reasons, with `test`, people never
    seen, as yardstick.
    """

    reject: tuple[Reason, ...]
    test: str
    stage: ClassVar[str] = "generate"

    @field_validator("reject")
    @classmethod
    def _each_once(cls, reject: tuple[Reason, ...]) -> tuple[Reason, ...]:
        if not reject or len(set(reject)) < len(reject):
            raise ValueError("reject must name one reason or more, each once")
        return tuple(sorted(reject))


def order(spec: GenerateSpec, reject: Sequence[str], test: str) -> RejectSpec:
    """Return `spec` with rejection; raises SpecError for a reason that there is none of."""
    return read_spec(
        RejectSpec, {**spec.model_dump(), "reject": list(reject), "test": test}, "generate --reject"
    )


def generate(
    spec: RejectSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Run:
    """Return the run of a database with exactly `spec.counts` images a class, none of them
    rejected.

    An image that is rejected keeps its key and is drawn with another seed, up to 20 times.
    rejected.parquet has a row for each image that was thrown away (key, emotion, seed, round, and
    whether for each reason), summary.json the rate of each class beside that of the people never
    seen. Stopped, the same command continues.

    Raises AuditFailed if an image is still rejected after that, and DataError if the real faces do
    not allow it.
    """
    parent, held = store.run(spec.generator), store.run(spec.test)
    spec = spec.model_copy(update={"generator": parent.name, "test": held.name})

    def build(out: Path, scratch: Path) -> None:
        generator = generators.load(parent, device)
        say(generators.describe(generator, spec))
        filters, test = _filters(spec, parent, store, device), Faces.load(held.path)
        usual = pd.DataFrame({name: ask(test) for name, ask in filters.items()}).assign(
            emotion=test.index["emotion"]
        )
        faces, thrown = _draw(spec, generator, filters, scratch, device, workers)
        faces.save(out)
        thrown.to_parquet(out / "rejected.parquet", index=False)
        generators.write_sheet(faces, out, 12)
        counts = faces.counts().drop(columns=["clips", "subjects"]).to_dict("records")
        holds = (
            f"{many(len(faces), 'synthetic image')}, {len(thrown):,} more were rejected "
            f"({', '.join(spec.reject)})"
        )
        rates = _rates(faces.index, thrown, usual, spec.reject)
        generators.write_summary(out, {"holds": holds, "counts": counts, "rejected": rates})

    return store.make(spec, build, alias)


def told(run: Run) -> list[str]:
    """Return the rejection rates of a run in lines for people."""
    lines = []
    for row in run.summary["rejected"]:
        seen = [f"{name} {row[name]:.1%}, of people never seen {_share(row[f'{name}_heldout'])}"
                for name in REASONS if name in row]  # fmt: skip
        lines.append(
            f"{row['class']}: {row['rejected']:,} of {row['drawn']:,} rejected; {'; '.join(seen)}"
        )
    return lines


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _draw(
    spec: RejectSpec,
    generator: generators.Generator,
    filters: Mapping[str, Filter],
    scratch: Path,
    device: str,
    workers: int | None,
) -> tuple[Faces, pd.DataFrame]:
    """Return the database and what was thrown away; each round draws again what the one before
    rejected.
    """
    index, labels, numbers = generators.plan(spec.name, spec.counts, spec.seed)
    images = np.empty((len(labels), *generator.size), dtype=np.uint8)
    left, thrown = np.arange(len(labels)), []
    for number in range(ROUNDS):
        if number:
            say(f"drawing {len(left)} of {many(len(labels), 'image')} anew")
            again = [
                seeds.seed("image", spec.seed, *index[place], "again", number) for place in left
            ]
            numbers[left] = np.array(again, dtype=np.int64)
        folder = scratch / f"round-{number}"
        folder.mkdir(exist_ok=True)
        with training.cores(workers):
            drawn = generators.make_shards(
                generator, labels[left], numbers[left], spec, folder, device
            )
        faces = generators.assemble(
            generator, drawn, [index[place] for place in left], spec.name, numbers[left]
        )
        found = pd.DataFrame({name: ask(faces) for name, ask in filters.items()})
        bad = found.any(axis=1).to_numpy(dtype=bool)
        images[left[~bad]] = drawn[~bad]
        table = faces.index[["key", "emotion", "seed"]].assign(round=number)
        thrown.append(pd.concat([table, found], axis=1)[bad])
        left = left[bad]
        if not len(left):
            whole = generators.assemble(generator, images, index, spec.name, numbers)
            return whole, pd.concat(thrown, ignore_index=True)
    last = thrown[-1]
    why = ", ".join(f"{int(last[name].sum())} {name}" for name in filters)
    raise AuditFailed(
        f"after {ROUNDS} draws each, {len(left)} of {many(len(labels), 'image')} "
        f"{'is' if len(left) == 1 else 'are'} still rejected ({why}; "
        f"{', '.join(sorted(set(last['emotion'])))}): this generator makes hardly anything else "
        "there. Train it on "
        "more people or less long, or reject for fewer reasons"
    )


def _rates(
    kept: pd.DataFrame, thrown: pd.DataFrame, usual: pd.DataFrame, reasons: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for emotion in ("", *dict.fromkeys(kept["emotion"])):
        mine, lost, held = (
            table[table["emotion"] == emotion] if emotion else table
            for table in (kept, thrown, usual)
        )
        drawn = len(mine) + len(lost)
        row: dict[str, Any] = {"class": emotion or "all", "drawn": drawn, "rejected": len(lost)}
        for name in reasons:
            row |= {
                name: float(lost[name].sum() / drawn),
                f"{name}_heldout": float(held[name].mean()) if len(held) else None,
            }
        rows.append(row)
    return rows


# Reasons


def _filters(spec: RejectSpec, generator: Run, store: Store, device: str) -> dict[str, Filter]:
    train = store.run(generator.spec["faces"])
    real, test = Faces.load(train.path), Faces.load(store.run(spec.test).path)
    if real.size != test.size:
        raise DataError(
            f"people never seen must have the size of the training faces; given: {test.size} and "
            f"{real.size}"
        )
    made: dict[str, Filter] = {}
    if "memorised" in spec.reject:
        made["memorised"] = memorised(real, test)
    if "unlike" in spec.reject:
        made["unlike"] = unlike(real, features.judged(features.judge(train, store, device)))
    return made


def memorised(train: Faces, test: Faces) -> Filter:
    """Return what tells which images ring the audit's alarm: `alarm` of memorisation.measure in
    pixels.
    """
    people = subjects_of(test.index)
    unseen = ~np.isin(people, subjects_of(train.index))
    if not unseen.any():
        raise DataError(
            "the yardstick must be people whom training has not seen, and all of these are "
            "training people"
        )
    finder, contents = Finder(train), set(train.index["sha256"])

    def ratios(faces: Faces) -> Float[np.ndarray, " n"]:
        return finder.of(faces, 0, len(faces)).ratio_clip

    level = People.of(people[unseen]).quantile(ratios(test.select(unseen)), ALARM).value

    def ask(faces: Faces) -> Bool[np.ndarray, " n"]:
        return (ratios(faces) < level) | faces.index["sha256"].isin(contents).to_numpy()

    return ask


def unlike(train: Faces, space: features.Space) -> Filter:
    """Return what tells which images lie within reach of no real image of their class, one a clip.

    A class of five clips or fewer has no neighbourhoods, and nothing is rejected there.
    """
    side, rows = Side.of(train), space.extract(train.images)
    ground: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for emotion in train.classes:
        own = rows[side.one_a_clip(emotion)[:MOST]]
        if len(own) > NEAREST:
            ground[emotion] = own, fidelity.reach(own, NEAREST)
        else:
            say(
                f"{emotion} has {many(len(own), 'clip')}, too few to tell what is unlike them: "
                "nothing is "
                "rejected there"
            )

    def ask(faces: Faces) -> Bool[np.ndarray, " n"]:
        found, seen = np.zeros(len(faces), dtype=bool), space.extract(faces.images)
        for emotion in set(faces.classes) & set(ground):
            places = np.flatnonzero((faces.index["emotion"] == emotion).to_numpy())
            own, far = ground[emotion]
            near = [
                (block <= far[None]).any(axis=1)
                for _, block in fidelity.distances(seen[places], own)
            ]
            found[places] = ~np.concatenate(near)
        return found

    return ask
