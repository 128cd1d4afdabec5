"""Generate meets the store: a generator becomes a database with exact counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from mien.errors import UsageError
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.base import Generator
from mien.generators.counts import describe_counts, note_uneven, parse_counts
from mien.generators.kinds import GENERATORS, load_generator
from mien.generators.sampler_table import SAMPLERS
from mien.generators.shards import SHARD_IMAGES, get_shard_path, make_shard, make_shards
from mien.generators.specs import (
    KIND_FACTS,
    MAX_STUDENT_STEPS,
    GenerateSpec,
    SamplerSpec,
    StudentSpec,
    count_steps,
    find_guidance,
    read_steps,
)
from mien.pages.sheets import draw_class_sheet
from mien.runs import devices, progress, stopping
from mien.runs.jobs import Job
from mien.runs.store import Run, RunSummary, Store
from mien.seeds import derive_seed


def order_database(
    generator: Run,
    counts: str,
    store: Store,
    *,
    steps: int | str | None = None,
    sampler: str | None = None,
    guidance: float = 1.0,
    guidance_mix: float | None = None,
    guide: str = "label",
    seed: int = 0,
) -> GenerateSpec:
    """Return the spec that generates `counts` (see `parse_counts`) with the generator of a run.

    The images per class are written to standard error, with 0 for each class that is left out.
    `sampler` None is the default sampler of the generator's kind: for a ddpm ancestral, as in the
    preprint. `steps` may be "auto" or "auto:N" (see `read_steps`); the run of its levels, which
    `mien.audit.levels.prepare_levels` makes, must be there when images are drawn. Raises UsageError
    for a run that is not a generator, a sampler that its kind cannot use and counts that are not
    valid, and SpecError for other settings that are not valid.
    """
    # A generator, and a sampler for its kind
    if "generator.json" not in generator.manifest["files"]:
        raise UsageError(
            f"{generator.name} is not a trained generator, which `mien generate` needs; `mien ls "
            "generator` lists them"
        )
    kind = generator.spec["kind"]
    facts = KIND_FACTS[kind]
    if sampler is not None and not facts.can_use(sampler):
        raise UsageError(f"a {kind} generator cannot use the sampler '{sampler}'; omit --sampler")

    if facts.distilled:
        steps, guidance = settle_student(generator, steps, guidance, guidance_mix)

    # The counts, which may refer to those of a dataset or of the training faces
    def count_faces(name: str) -> dict[str, int]:
        emotions = Faces.load(store.run(name or generator.spec["faces"]).path).index["emotion"]
        return {str(emotion): int(count) for emotion, count in emotions.value_counts().items()}

    classes = generator.read_json("generator.json")["classes"]
    wanted = parse_counts(counts, count_faces, classes)
    fields = {
        "generator": generator.name,
        "counts": wanted,
        "steps": steps,
        "sampler": sampler or facts.sampler,
        "guidance": guidance,
        "guide": guide,
        "seed": seed,
        "guidance_mix": guidance_mix,
    }
    spec = read_steps(fields, "generate")

    # What is wrong is refused before anything is printed
    progress.say(f"images per class: {describe_counts({**dict.fromkeys(classes, 0), **wanted})}")
    if note := note_uneven(wanted, counts):
        progress.say(note)
    return spec


def settle_student(
    student: Run, steps: int | str | None, guidance: float, guidance_mix: float | None
) -> tuple[int, float]:
    """Return the steps and the guidance with which a student draws.

    Raises UsageError unless `steps` is None or 1 to 4, and `guidance` is 1, which means that none
    is asked for, or that of its teacher.
    """
    learnt = float(student.spec["guidance"])
    if guidance not in (1.0, learnt) or guidance_mix is not None:
        raise UsageError(
            f"the student {student.name} draws with the guidance {learnt:g} of its teacher, which "
            "it has learnt and which cannot be changed; omit --guidance and --guidance-mix, or "
            "distill the teacher with another --guidance"
        )
    if steps is not None and steps not in range(1, MAX_STUDENT_STEPS + 1):
        raise UsageError(
            f"a student draws in 1 to {MAX_STUDENT_STEPS} steps; given: {steps}. Its teacher, "
            f"{student.spec['teacher']}, draws in more"
        )
    return int(steps or student.spec["steps"]), learnt


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

    The run also has sheet.png. Images are written to disk as they are drawn, so memory does not
    grow with their number, and an interrupted generation resumes after the last finished shard.
    `workers` is the number of batches that are drawn in parallel (default: all cores), and
    `shard` the number of images that are written at once; no image depends on either.
    """
    spec = spec.model_copy(update={"generator": store.resolve(spec.generator)})

    def build(out: Path, scratch: Path) -> RunSummary:
        generator = load_generator(store.run(spec.generator), device)
        progress.say(describe_sampling(generator, spec))
        index, labels, numbers = plan_images(spec.name, spec.counts, spec.seed)
        how = read_levels(spec, store)
        with devices.limit_cores(workers):
            guidance = plan_guidance(index, spec)
            images = make_shards(generator, labels, numbers, how, scratch, device, shard, guidance)
        faces = assemble(generator, images, index, spec.name, numbers)
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
    index, labels, numbers = plan_images(how.name, how.counts, how.seed)
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


def plan_images(
    run_name: str, counts: Mapping[str, int], seed: int
) -> tuple[list[tuple[str, str]], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return (key, emotion), label and seed of each image of a database, in the order of EMOTIONS.

    Image k of an emotion has the same seed in every database with that `seed`, whatever its
    counts.
    """
    rows = [(emotion, k) for emotion in EMOTIONS for k in range(counts.get(emotion, 0))]
    labels = np.array([EMOTIONS.index(emotion) for emotion, _ in rows], dtype=np.int64)
    numbers = np.array(
        [derive_seed("image", seed, emotion, k) for emotion, k in rows], dtype=np.int64
    )
    return [(f"{run_name}/{emotion}/{k:05d}", emotion) for emotion, k in rows], labels, numbers


def plan_guidance(index: Sequence[tuple[str, str]], how: GenerateSpec) -> Float64[np.ndarray, " n"]:
    """Return the guidance of each image of a database, whose (key, emotion) `index` has."""
    fields = how.model_dump()
    return np.array([find_guidance(fields, key) for key, _ in index], dtype=np.float64)


def assemble(
    generator: Generator,
    images: UInt8[np.ndarray, "n c h w"],
    index: Sequence[tuple[str, str]],
    run_name: str,
    numbers: Int64[np.ndarray, " n"],
) -> Faces:
    """Return generated images as Faces, with the training images of their generator in `seen`."""
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
    )
    return Faces(images, table, generator.seen, generator.channels)


def describe_sampling(generator: Generator, how: SamplerSpec) -> str:
    """Return a line that says how images are drawn, with the choices that the equations leave."""
    lead = f"{generator.run} ({generator.spec.kind})"
    if how.sampler == "direct":
        return f"{lead}: {GENERATORS[generator.spec.kind].summarise(generator)}"
    if isinstance(generator.spec, StudentSpec):
        steps = progress.quantify(count_steps(generator.spec, how), "step")
        return f"{lead}: {steps}, with the guidance {generator.spec.guidance:g} of its teacher"
    steps = count_steps(generator.spec, how)
    choices = [f"{lead}: {how.sampler}, {progress.quantify(steps, 'step')}"]
    if how.levels:
        choices.append("noise levels chosen for this generator")
    if SAMPLERS[how.sampler].adds_noise:
        choices.append(f"{how.variance} variance")
    choices.append("x0 clipped to the range of images" if how.clip_x0 else "x0 not clipped")
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
