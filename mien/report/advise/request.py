"""What advice is asked for, and the study that fits into its minutes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien.classifiers.baselines import BASELINES
from mien.classifiers.specs import ClassifierSpec
from mien.errors import DataError, SpecError, UsageError
from mien.faces import Faces
from mien.generators.presets import read_preset
from mien.generators.specs import TrainSpec
from mien.prepare import splits
from mien.report.advise.arms import Way, list_amounts, list_uses, list_ways
from mien.report.advise.budget import (
    RATIOS,
    REFERENCE_GPU_RATES,
    REFERENCE_RATES,
    Budget,
    Size,
    estimate_seconds,
    find_least_budget,
    fit_budget,
    require_minutes,
)
from mien.runs.devices import find_device
from mien.runs.progress import format_duration, quantify
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store
from mien.study.cells import MIN_PEOPLE
from mien.study.cost import estimate_image_seconds, estimate_unit_costs, measure_unit_costs
from mien.study.file import read_study_fields
from mien.study.plan import plan_study
from mien.study.specs import StudySpec

PRESETS_BY_SIZE = ("base", "tiny", "nano")
"""The presets of generators; the first that can be trained whole is used, else the last in part."""

GENERATOR_SHARE = 0.5  # a preset may take so much of the minutes

EPOCHS = 20  # a training that sees each real image so often is long enough

LEAST_ENOUGH_UPDATES, MOST_UPDATES = 200, 4_000  # of a training that is long enough

GENERATE = {"guidance": 2.0}  # short trainings know too little of the labels without guidance


@dataclass(frozen=True)
class Request:
    """What advice is asked for.

    `faces` is a run of real faces or its alias. `classifiers` are networks, and `weights` what they
    start from ("" is their default). The people are divided into `folds`, and as many of these
    are tested as the `minutes` allow.
    """

    faces: str
    minutes: float = 20.0
    classifiers: tuple[str, ...] = ("tiny",)
    weights: str = ""
    folds: int = 3
    seed: int = 0


@dataclass(frozen=True)
class PlannedAdvice:
    """The study that advice is based on; `text` says what it does, and how long it should take."""

    study: StudySpec
    budget: Budget
    text: str


def plan_advice(request: Request, store: Store, device: str, workers: int) -> PlannedAdvice:
    """Return the study that fits into the minutes of a request, with `workers` jobs at a time.

    Too few minutes are refused by the work of the smallest comparison at a reference speed, however
    fast or busy this machine is. Its own speed decides how much more is done: it is measured once
    and kept in the store, so that the same request gives the same study.

    Raises DataError or SpecError for faces about which nothing can be said, and UsageError for too
    few minutes, folds or people.
    """
    run, faces = _read_faces(request, store)
    _require_possible(request, faces)
    size, ways = _measure_size(request, faces), list(list_ways(faces.shown).values())
    _require_minutes(request, run, ways, size, store, device, workers)
    preset, images_seen = _choose_preset(request, run, faces, store, device, workers)
    size = replace(size, images_seen=images_seen)

    # A study whose units of work are measured, whatever fits into the minutes
    reference = Budget(1, 1, size.updates, size.images_seen, RATIOS[1])
    plan = plan_study(_make_study(request, run, ways, reference, size, preset, store), store)
    costs = measure_unit_costs(plan, store, device)

    budget = fit_budget(request.minutes, size, costs, workers)
    study = _make_study(request, run, ways, budget, size, preset, store)
    seconds = estimate_seconds(budget, size, costs, workers)
    return PlannedAdvice(study, budget, _describe_plan(study, len(ways), budget, seconds, request))


def _require_minutes(
    request: Request,
    run: Run,
    ways: Sequence[Way],
    size: Size,
    store: Store,
    device: str,
    workers: int,
) -> None:
    """Raise UsageError if the smallest comparison takes longer at the reference speed."""
    preset = PRESETS_BY_SIZE[-1]
    spec = read_preset(preset, run.name)
    size = replace(size, images_seen=spec.images_seen if isinstance(spec, TrainSpec) else 0)
    study = _make_study(request, run, ways, find_least_budget(size), size, preset, store)
    on_cpu = find_device(device).type == "cpu"
    rates = REFERENCE_RATES if on_cpu else REFERENCE_GPU_RATES
    costs = estimate_unit_costs(plan_study(study, store), store, rates)
    require_minutes(request.minutes, size, costs, workers)


def _describe_plan(
    study: StudySpec, ways: int, budget: Budget, seconds: float, request: Request
) -> str:
    """Return in a line what will be done, and how long it should take."""
    longer = (
        f", longer than --minutes {request.minutes:g}, since this is the smallest comparison"
        if seconds > 60 * request.minutes
        else ""
    )
    return (
        f"{study.title}: {ways} ways of training, {budget.updates:,} updates each, "
        f"{quantify(budget.trials, 'trial')}, {budget.folds} of {quantify(study.folds, 'fold')} "
        f"tested; a generator for each fold, which sees {budget.images_seen:,} images and draws "
        f"{budget.ratio:g} per real one; about {format_duration(seconds)} on this machine "
        f"if nothing is done yet{longer}"
    )


def _read_faces(request: Request, store: Store) -> tuple[Run, Faces]:
    """Return the training set; raises an error if nothing can be said about it."""
    # Real pictures of several classes
    run, where = store.run(request.faces), f"advice for {request.faces}"
    if "index.parquet" not in run.manifest["files"]:
        raise SpecError(
            f"{where}: the training set must be a run of faces; {run.name} is not one. `mien ls` "
            "lists the runs"
        )
    faces = Faces.load(run.path)
    faces.require_real(f"{where}: the training faces")
    if len(faces.classes) < 2:
        raise DataError(
            f"{where}: the training faces must show two classes or more; they show "
            f"{'only ' + faces.classes[0] if faces.classes else 'none'}"
        )

    # Of people who are known, and enough of them
    unknown = int((faces.index["subject"] == "").sum())
    if unknown:
        raise DataError(
            f"{where}: the subject of each face must be known, because people are held out; it is "
            f"not known of {unknown:,} of {len(faces):,}. Ingest with --subject-pattern"
        )
    people = len(faces.subjects)
    if people < MIN_PEOPLE:
        raise DataError(
            f"{where}: there must be faces of {MIN_PEOPLE} subjects or more, because fewer "
            f"cannot tell two ways of training apart; given: {people}. Join more with `mien join`"
        )
    return run, faces


def _require_possible(request: Request, faces: Faces) -> None:
    """Raise UsageError for what no budget can do."""
    if not (request.minutes > 0 and math.isfinite(request.minutes)):
        raise UsageError(f"--minutes must be finite and above 0; given: {request.minutes:g}")
    if not 2 <= request.folds <= len(faces.subjects):
        raise UsageError(
            f"--folds must be from 2 to the number of subjects, {len(faces.subjects)}; given: "
            f"{request.folds}"
        )
    others = [name for name in request.classifiers if name in BASELINES]
    if others:
        raise UsageError(
            "--classifier must be a network, because each way of training has as many updates; "
            f"given: {others[0]}"
        )
    if len(set(request.classifiers)) < len(request.classifiers):
        raise UsageError(
            f"--classifier must name each network once; given: {', '.join(request.classifiers)}"
        )


def _measure_size(request: Request, faces: Faces) -> Size:
    """Return the size of the task, with the largest sides of all folds."""
    folds = [
        splits.split(faces, "subject", request.folds, fold, request.seed)
        for fold in range(request.folds)
    ]
    train = max(int(fold.train.sum()) for fold in folds)
    test = max(int(fold.test.sum()) for fold in folds)
    batch = min(
        read_spec(ClassifierSpec, {"name": name}, "--classifier").batch
        for name in request.classifiers
    )
    updates = min(MOST_UPDATES, max(LEAST_ENOUGH_UPDATES, math.ceil(EPOCHS * train / batch)))

    # The fewest folds whose people are enough for an answer
    people = [len(set(faces.index["subject"][fold.test])) for fold in folds]
    tested = [sum(people[: number + 1]) for number in range(request.folds)]
    least_folds = 1 + sum(count < MIN_PEOPLE for count in tested)
    return Size(train, test, request.folds, updates, 0, least_folds)


def _choose_preset(
    request: Request, run: Run, faces: Faces, store: Store, device: str, workers: int
) -> tuple[str, int]:
    """Return the largest preset of which the minutes allow a whole training for each fold.

    The second value is the number of images that the training sees. The speeds are estimates, which
    stay the same in a store.
    """
    chosen = "", 0
    for name in PRESETS_BY_SIZE:
        spec = read_preset(name, run.name)
        if not isinstance(spec, TrainSpec):
            continue
        chosen = name, spec.images_seen
        image_s = estimate_image_seconds(spec, faces.size, store, device)
        seconds = request.folds * spec.images_seen * image_s / min(workers, request.folds)
        if seconds <= 60 * request.minutes * GENERATOR_SHARE:
            break
    return chosen


def make_fields(
    request: Request, run: str, ways: Sequence[Way], budget: Budget, train: int, preset: str
) -> dict[str, Any]:
    """Return the fields of the study file that compares `ways` within a budget.

    `run` holds the training set, and `train` is the size of the largest training side of its folds.
    """
    # Who is trained and tested
    weights = {"weights": request.weights} if request.weights else {}
    who = {
        "name": f"advise-{request.faces}"[:80],
        "faces": run,
        "protocol": "subject",
        "folds": request.folds,
        "only_folds": list(range(budget.folds)),
        "trials": budget.trials,
        "classifiers": list(request.classifiers),
        "classifier": {"updates": budget.updates, **weights},
        "seed": request.seed,
    }

    # The ways of training, and the faces that they add
    return {
        **who,
        "settings": ["real_to_real", "both_to_real"],
        "ablations": list(dict.fromkeys(way.ablation for way in ways)),
        "controls": ["copycat"],
        "uses": list_uses(ways),
        "ratios": sorted(set(list_amounts(budget.ratio).values())),
        "cells": list(dict.fromkeys(way.name_cell(budget.ratio) for way in ways)),
        "counts": f"balanced:{math.ceil(budget.ratio * train) + 1}",
        "generator": {"preset": preset, "images_seen": budget.images_seen},
        "generate": GENERATE,
    }


def _make_study(
    request: Request,
    run: Run,
    ways: Sequence[Way],
    budget: Budget,
    size: Size,
    preset: str,
    store: Store,
) -> StudySpec:
    """Return the study of a budget."""
    fields = make_fields(request, run.name, ways, budget, size.train, preset)
    return read_study_fields(fields, store, Path(fields["name"]))
