"""The synthetic databases of a study, one for each fold and number of images."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from mien.errors import SpecError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.counts import parse_counts
from mien.generators.orders import get_usual_fps
from mien.generators.specs import KIND_FACTS, name_levels, read_steps, read_training
from mien.prepare import splits
from mien.prepare.specs import SplitSpec
from mien.runs.progress import quantify
from mien.runs.store import Store
from mien.study.settings import SETTINGS, SOURCES, SYNTHETIC_TEST_DIVISOR
from mien.study.specs import Database, StudyPlan, StudySpec, UsedDatabase, name_folds
from mien.study.uses.specs import FilterSpec

# What a study consists of


def needs_database(study: StudySpec) -> bool:
    """Whether any setting uses synthetic faces."""
    return any(SETTINGS[name].needs_synthetic for name in study.settings)


def list_databases(study: StudySpec, store: Store) -> list[Database]:
    """Return the synthetic database of each fold and share of the people.

    There is one for all folds by frame, and none if no setting uses it.
    """
    return plan_databases(study, Faces.load(store.run(study.faces).path), study.title)


def plan_databases(study: StudySpec, faces: Faces, where: str) -> list[Database]:
    """Return the databases that a study needs, one per generator; none if no setting uses them.

    `where` names the study file in messages.
    """
    if not needs_database(study):
        return []
    if study.protocol == "frame":
        everything = np.ones(len(faces), dtype=bool)
        return [_plan_database(study, faces, -1, None, study.faces, everything, where)]

    # One for each fold and share of its training people
    databases = []
    for fold in study.tested_folds:
        train_side = splits.split(faces, study.protocol, study.folds, fold, study.seed).train
        for share in study.people_shares:
            split = SplitSpec(
                faces=study.faces,
                by=study.protocol,
                folds=study.folds,
                number=fold,
                side="train",
                seed=study.seed,
                people=share,
            )
            is_kept = splits.keep_people(faces, train_side, share, study.seed)
            databases.append(_plan_database(study, faces, fold, split, split.name, is_kept, where))
    return databases


def _plan_database(
    study: StudySpec,
    faces: Faces,
    fold: int,
    split: SplitSpec | None,
    parent: str,
    is_in_training: Bool[np.ndarray, " n"],
    where: str,
) -> Database:
    """Return the database of a fold, with those that take its place under controls.

    `parent` is the run of the training side, whose images are `faces` where `is_in_training` is
    true.
    """
    # What is generated, relative to the images of each class on the training side
    images = Counter(faces.index.loc[is_in_training, "emotion"].tolist())
    on_side = {name: images[name] for name in EMOTIONS if name in images}
    counts = _resolve_counts(study.counts, on_side, faces.classes, where)
    planned = _plan_generation(study, fold, split, parent, counts, study.generator, where)

    total = sum(planned.generate.counts.values())
    if total < SYNTHETIC_TEST_DIVISOR:
        raise SpecError(
            f"{where}: counts must make {quantify(SYNTHETIC_TEST_DIVISOR, 'image')} or more, "
            f"because one in {SYNTHETIC_TEST_DIVISOR} is kept for tests; '{study.counts}' makes "
            f"{total}{'' if fold < 0 else f' in fold {fold}'}"
        )

    # What some ways of use take in its place, and as many images of each other source
    planned = replace(planned, uses=_plan_uses(study, planned, parent, where))
    controls = {
        name: _plan_generation(study, fold, split, parent, counts, source.generator, where, {})
        for name, source in SOURCES.items()
        if name in study.controls
    }
    controls = {
        name: replace(control, uses=_plan_uses(study, control, parent, where))
        for name, control in controls.items()
    }
    return replace(planned, controls=controls)


def _plan_uses(
    study: StudySpec, database: Database, parent: str, where: str
) -> dict[str, UsedDatabase]:
    """Return what the ways of use that draw or filter images in their own way take, by way.

    `parent` is the run of the training side, from which the judges of a filter learn. How images
    are drawn differs only with generators that draw in steps, so not with copies.
    """
    used = {}
    for name, use in study.uses.items():
        generate = database.generate
        if use.generate and KIND_FACTS[database.train.kind].sampler != "direct":
            fields = {**generate.model_dump(mode="json"), **use.generate}
            generate = name_levels(read_steps(fields, f"{where}: use.{name}: generate"))
        chosen = None
        if use.filter is not None:
            runs = {"database": generate.name, "training": parent, "seed": study.seed}
            chosen = FilterSpec(**use.filter.model_dump(), **runs)
        if chosen is not None or generate != database.generate:
            used[name] = UsedDatabase(generate, chosen)
    return used


def _plan_generation(
    study: StudySpec,
    fold: int,
    split: SplitSpec | None,
    parent: str,
    counts: dict[str, int],
    generator: Mapping[str, Any],
    where: str,
    generate: Mapping[str, Any] | None = None,
) -> Database:
    """Return the database of `counts` images from a generator that is trained on `parent`.

    `generator` and `generate` (by default the study's) are the fields of their specs.
    """
    train = read_training({**generator, "faces": parent}, f"{where}: generator")
    fields = {
        "sampler": KIND_FACTS[train.kind].sampler,
        "seed": study.seed,
        **({"fps": fps} if (fps := get_usual_fps(train.kind)) else {}),
        **(study.generate if generate is None else generate),
        "generator": train.name,
        "counts": counts,
    }
    spec = read_steps(fields, f"{where}: generate")

    # What only the kind of generator and the sampler together decide
    if not KIND_FACTS[train.kind].can_use(spec.sampler):
        raise SpecError(
            f"{where}: generate: a {train.kind} generator cannot use the sampler "
            f"'{spec.sampler}'; omit sampler"
        )
    return Database(fold, split, train, spec, people=split.people if split else None)


def _resolve_counts(
    text: str, on_side: dict[str, int], classes: tuple[str, ...], where: str
) -> dict[str, int]:
    """Return how many images of each class are generated; `on_side` counts the training side.

    A class of the study that a fold's training side lacks is omitted: no generator of that fold
    can know it.
    """

    def count_like(name: str) -> dict[str, int]:
        if name:
            raise UsageError(
                "counts must be 'like' or 'like*N' in a study, for as many as the training side "
                f"has, or N times as many; given: 'like:{name}'"
            )
        return dict(on_side)

    try:
        by_rule = text.startswith(("balanced:", "each:"))
        counts = parse_counts(text, count_like, list(on_side) if by_rule else classes, [*on_side])
    except UsageError as error:
        message = str(error).replace(" 'like:DATASET',", "")
        raise SpecError(
            f"{where}: {message}. 'like' is as many of each class as the training side has, "
            "and 'like*2' twice as many"
        ) from None
    return {name: count for name, count in counts.items() if name in on_side}


def find_missing_classes(plan: StudyPlan) -> list[str]:
    """Return which classes have no synthetic faces, and in which folds."""
    folds_of: dict[str, list[int]] = {}
    for database in plan.databases:
        counts = database.generate.counts
        classes = ", ".join(name for name in plan.study.classes if name not in counts)
        folds_of.setdefault(classes, []).append(database.fold)
    return [
        classes + ("" if -1 in folds else f" in {name_folds(folds)}")
        for classes, folds in folds_of.items()
        if classes
    ]
