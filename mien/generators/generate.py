"""Generate meets the store: a generator becomes a database with exact counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.base import Generator
from mien.generators.clips.database import assemble_clips, write_clips
from mien.generators.clips.timing import MovingGenerator
from mien.generators.diffusion.model import Diffusion
from mien.generators.kinds import GENERATORS, load_generator
from mien.generators.motion import Motion
from mien.generators.orders import plan_database, plan_guidance
from mien.generators.sampler_table import SAMPLERS
from mien.generators.shards import SHARD_IMAGES, get_shard_path, make_shard, make_shards
from mien.generators.specs import GenerateSpec, SamplerSpec, StudentSpec, count_steps
from mien.generators.units import describe_order
from mien.pages.sheets import draw_class_sheet
from mien.runs import devices, progress, stopping
from mien.runs.jobs import Job
from mien.runs.store import Run, RunSummary, Store


def generate_database(
    spec: GenerateSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    shard: int | None = None,
) -> Run:
    """Return the run of a generated database: faces with exactly `spec.counts` images per class.

    A generator of movement draws so many clips, and the faces are their frames; the run then has
    clips.csv, with a row for each clip, and an animated picture for each class. Every run has
    sheet.png. Images are written to disk as they are drawn, so memory does not grow with their
    number, and an interrupted generation resumes after the last finished shard. `workers` is the
    number of batches that are drawn in parallel (default: all cores), and `shard` the number of
    images that are written at once; no image depends on either.
    """
    spec = spec.model_copy(update={"generator": store.resolve(spec.generator)})

    def build(out: Path, scratch: Path) -> RunSummary:
        # Draw the images, or the moments of clips
        generator = load_generator(store.run(spec.generator), device)
        progress.say(describe_sampling(generator, spec))
        index, labels, numbers = plan_database(spec)
        how = read_levels(spec, store)
        with devices.limit_cores(workers):
            guidance = plan_guidance(index, spec)
            images = make_shards(generator, labels, numbers, how, scratch, device, shard, guidance)

        # Write them, or the frames of clips
        if isinstance(generator, MovingGenerator):
            units = name_units(generator, [emotion for _, emotion in index], numbers, spec)
            faces, clips = assemble_clips(generator, images, index, spec, numbers, units, scratch)
            return write_clips(faces, clips, out)
        faces = assemble(generator, images, index, spec.name, numbers, spec)
        faces.save(out)
        write_sheet(faces, out, 12)
        counts = faces.count_images().drop(columns=["clips", "subjects"]).to_dict("records")
        return {"holds": progress.quantify(len(faces), "synthetic image"), "counts": counts}

    return store.make(spec, build, alias)


def list_generation_jobs(
    spec: GenerateSpec, store: Store, device: str = "auto", slots: int = 1
) -> list[Job]:
    """Return the jobs that make a database: up to `slots` draw images in parallel, one joins."""
    total, size = sum(spec.counts.values()), SHARD_IMAGES[devices.find_device(device).type]
    share = -(-total // (slots * size)) * size
    common = {"spec": spec.model_dump(mode="json"), "device": device, "shard": size}
    needed = (spec.generator, spec.levels) if isinstance(spec.levels, str) else (spec.generator,)
    spans = [(first, min(first + share, total)) for first in range(0, total, share)]
    drawing = [
        Job(
            f"{spec.name}.{first:07d}",
            f"images {first + 1:,} to {last:,} of {total:,}",
            draw_part,
            {**common, "first": first, "last": last},
            needed,
        )
        for first, last in spans
    ]
    drawing = drawing if len(spans) > 1 else []
    return [
        *drawing,
        Job(spec.name, "database", draw, common, (*needed, *(job.run for job in drawing))),
    ]


def draw_part(
    store: Store, spec: dict[str, Any], device: str, shard: int, first: int, last: int
) -> str:
    """Draw the images `first` to `last` - 1 of a database in shards, for `draw` to join.

    Return a message for the log.
    """
    how = GenerateSpec.model_validate(spec)
    index, labels, numbers = plan_database(how)
    guidance, sampler = plan_guidance(index, how), read_levels(how, store)
    with store.claim(f"{how.name}.{first:07d}"), stopping.defer_signals():
        if store.is_done(how.name):
            return "there already"
        store.note_spec(how)
        generator = load_generator(store.run(how.generator), device)
        with progress.track("generating", last - first) as tracker:
            for start in range(first, last, shard):
                rows = slice(start, min(start + shard, last))
                path = get_shard_path(store.make_scratch(how.name), rows)
                make_shard(generator, labels[rows], numbers[rows], sampler, path, guidance[rows])
                tracker.update(rows.stop - first)
                stopping.raise_if_asked()
    return "drawn"


def draw(store: Store, spec: dict[str, Any], device: str, shard: int) -> str:
    """Make a database from its finished shards and new ones; return a message for the log."""
    how = GenerateSpec.model_validate(spec)
    run = generate_database(how, store, device=device, shard=shard)
    return f"{progress.quantify(sum(how.counts.values()), 'image')} in {run.name}"


AnySampler = TypeVar("AnySampler", bound=SamplerSpec)


def read_levels(how: AnySampler, store: Store) -> AnySampler:
    """Return `how` with the noise levels that a run has found, if it names one.

    Raises StoreError if that run is not in the store.
    """
    if not isinstance(how.levels, str):
        return how
    found = store.run(how.levels).read_json("levels.json")["levels"]
    return how.model_copy(update={"levels": tuple(found)})


def assemble(
    generator: Generator,
    images: UInt8[np.ndarray, "n c h w"],
    index: Sequence[tuple[str, str]],
    run_name: str,
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec | None = None,
) -> Faces:
    """Return generated images as Faces, with the training images of their generator in `seen`.

    `numbers` are their seeds. If the generator takes action units, the table has those of each
    image, as `how` orders them.
    """
    emotions = [emotion for _, emotion in index]
    table = make_index(
        images,
        key=[key for key, _ in index],
        dataset="synthetic",
        emotion=emotions,
        raw_label=emotions,
        source=run_name,
        seed=numbers.tolist(),
        licence=generator.licence,
        action_units=name_units(generator, emotions, numbers, how),
    )
    return Faces(images, table, generator.seen, generator.channels)


def name_units(
    generator: Generator,
    emotions: Sequence[str],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec | None,
) -> list[str]:
    """Return the action units that each image was drawn with; empty if the generator takes none."""
    known = generator.units if isinstance(generator, Diffusion | Motion) else None
    if known is None:
        return [""] * len(emotions)
    if how is not None and how.units:
        return [describe_order(how.units)] * len(emotions)
    labels = np.array([EMOTIONS.index(emotion) for emotion in emotions], dtype=np.int64)
    return known.choose_texts(labels, numbers)


def describe_sampling(generator: Generator, how: SamplerSpec) -> str:
    """Return a line that says how images are drawn, with the choices that the equations leave."""
    # Kinds that draw in one step, and students
    lead = f"{generator.run} ({generator.spec.kind})"
    if how.sampler == "direct":
        return f"{lead}: {GENERATORS[generator.spec.kind].summarise(generator)}"
    if isinstance(generator.spec, StudentSpec):
        steps = progress.quantify(count_steps(generator.spec, how), "step")
        return f"{lead}: {steps}, with the guidance {generator.spec.guidance:g} of its teacher"

    # What the sampler does in each step
    steps = count_steps(generator.spec, how)
    choices = [f"{lead}: {how.sampler}, {progress.quantify(steps, 'step')}"]
    if how.levels:
        choices.append("noise levels chosen for this generator")
    if SAMPLERS[how.sampler].adds_noise:
        choices.append(f"{how.variance} variance")
    if isinstance(generator, MovingGenerator):  # a difference has no limits
        rate = how.fps if isinstance(how, GenerateSpec) else None
        choices.append(f"clips of {rate:g} frames a second" if rate else "clips")
    else:
        choices.append("x0 clipped to the range of images" if how.clip_x0 else "x0 not clipped")

    # Guidance
    mixed = how.guidance_mix if isinstance(how, GenerateSpec) else None
    if how.guidance > 1 or mixed is not None:
        scales = f"{how.guidance:g}" if mixed is None else f"{how.guidance:g} and {mixed:g} in turn"
        worse = {"label": "no label", "early": "an early step of training"}[how.guide]
        interval = f"sigma/sigma_data {how.guidance_low:g}..{how.guidance_high:g}"
        choices.append(f"guidance {scales} away from {worse} for {interval}")
    return ", ".join(choices)


def write_sheet(faces: Faces, out: Path, per_class: int) -> None:
    """Write sheet.png, with a row of images for each class."""
    draw_class_sheet(faces, per_class=per_class).save(out / "sheet.png")
