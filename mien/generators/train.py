"""Train meets the store: faces become a trained generator."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mien.errors import UsageError
from mien.faces import Faces
from mien.generators.base import SEEN_COLUMNS
from mien.generators.diffusion import tensorboard
from mien.generators.diffusion.resources import DEFAULT, Resources
from mien.generators.diffusion.tensorboard import require_tensorboard
from mien.generators.generate import assemble, write_sheet
from mien.generators.kinds import GENERATORS, fit_generator, sample_generator, save_generator
from mien.generators.orders import plan_images
from mien.generators.specs import KIND_FACTS, GeneratorSpec, SteppedSpec
from mien.prepare.views import load_whole_clips
from mien.runs import devices, progress
from mien.runs.store import Run, RunSummary, Store

MONTH_MINUTES = 60 * 24 * 30  # in minutes

PREVIEW_PER_CLASS = 8  # images per class on the sheet of a trained generator


def calibrate(
    spec: GeneratorSpec, minutes: float, store: Store, device: str = "auto"
) -> GeneratorSpec:
    """Return `spec` with the length that takes about `minutes` on this machine.

    The speed is measured once per spec, device and number of minutes, so the same command gives the
    same length again. Raises UsageError unless `minutes` is above 0 and at most a month, and for a
    generator that is not trained in steps.
    """
    # Only a training in steps has a length
    if not 0 < minutes <= MONTH_MINUTES:
        raise UsageError(
            f"the minutes of training must be above 0 and at most {MONTH_MINUTES:,}, a month; "
            f"given: {minutes:g}"
        )
    spec = spec.model_copy(update={"faces": store.resolve(spec.faces)})
    speed = GENERATORS[spec.kind].measure_speed
    if speed is None or not isinstance(spec, SteppedSpec):
        raise UsageError(
            f"minutes needs a generator that is trained in steps, and a {spec.kind} generator is "
            "not; remove it"
        )

    # Measure the speed, or take the stored number of steps
    faces = load_training_faces(spec, store)
    device_type = devices.find_device(device).type

    def measure() -> float:
        progress.say("measuring the speed of training on this machine")
        return float(round(minutes * 60 / speed(faces, spec, device).mean))

    updates = store.measure_once(f"updates-{spec.digest()}-{device_type}-{minutes:g}min", measure)

    # The length in whole steps
    spec = spec.model_copy(update={"images_seen": max(1, int(updates)) * spec.batch})
    progress.say(
        f"{minutes:g} min of training on this machine are about "
        f"{progress.quantify(spec.images_seen, 'image')}"
    )
    return spec


def load_training_faces(spec: GeneratorSpec, store: Store) -> Faces:
    """Return the faces that a generator is trained on.

    A generator of movement learns from all frames of the clips that the run `spec.faces` holds.
    """
    run = store.run(spec.faces)
    if KIND_FACTS[spec.kind].moves:
        return load_whole_clips(run, store)
    return Faces.load(run.path)


def _list_rows(spec: GeneratorSpec, store: Store, seen: pd.DataFrame) -> pd.DataFrame:
    """Return what a generator of movement has seen, as the rows of its training run.

    Of a run with one row for each clip, this row stands for all frames of the clip.
    """
    rows = Faces.load(store.run(spec.faces).path).index
    clips = set(seen["clip"])
    return rows.loc[rows["clip"].isin(clips), SEEN_COLUMNS].reset_index(drop=True)


def train_generator(
    spec: GeneratorSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    resources: Resources = DEFAULT,
) -> Run:
    """Return the run of a training: the generator's files, loss.csv and sheet.png.

    sheet.png shows some images of each class. With several processes (`resources.group`) the first
    one makes the run, and the others work for it until the run exists.
    """
    spec, group = spec.model_copy(update={"faces": store.resolve(spec.faces)}), resources.group

    def build(out: Path, scratch: Path) -> RunSummary:
        # Train, together with the other processes
        faces = load_training_faces(spec, store)
        group.broadcast("train")
        generator = fit_generator(
            faces, spec, scratch, device=device, label=f"training {spec.kind}", resources=resources
        )
        if KIND_FACTS[spec.kind].moves:
            generator = replace(generator, seen=_list_rows(spec, store, generator.seen))
        save_generator(generator, out)

        # Draw some images of each class
        how = KIND_FACTS[spec.kind].preview
        counts = dict.fromkeys(generator.classes, PREVIEW_PER_CLASS)
        index, labels, numbers = plan_images(spec.name, counts, spec.seed)
        images = sample_generator(generator, labels, numbers, sampler=how)
        write_sheet(assemble(generator, images, index, spec.name, numbers), out, PREVIEW_PER_CLASS)
        if resources.tensorboard is not None and isinstance(spec, SteppedSpec):
            tensorboard.show_sheet(
                resources.tensorboard, spec.name, out / "sheet.png", spec.updates * spec.batch
            )
        return {"holds": GENERATORS[spec.kind].summarise(generator)}

    # The first process makes the run; the others join each training that it begins
    if resources.tensorboard is not None:
        require_tensorboard(resources.tensorboard)
    if group.is_first:
        run = store.make(spec, build, alias)
        group.broadcast("done")
        return run
    while group.broadcast(None) == "train":
        fit_generator(
            load_training_faces(spec, store), spec, Path(), device=device, resources=resources
        )
    return store.run(spec.name)
