"""Generators: from faces to a trained model, and from that to new faces."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from mien import figures, progress, seeds, stopping, training
from mien.engine import Job
from mien.errors import SpecError, UsageError
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators import board, copycat, ddpm, diffusion, edm, gaussian
from mien.generators.base import Generator
from mien.generators.board import require as require_board
from mien.generators.copycat import Copycat
from mien.generators.counts import parse_counts, uneven
from mien.generators.crew import joined
from mien.generators.diffusion import Diffusion, side_by_side
from mien.generators.gaussian import Gaussian
from mien.generators.means import PLAIN, Means, bytes_of
from mien.generators.precision import suited
from mien.generators.specs import (
    PRESETS,
    CopycatSpec,
    GaussianSpec,
    GenerateSpec,
    GeneratorSpec,
    NetSpec,
    SamplerSpec,
    TrainSpec,
    read_training,
)
from mien.spec import nearest, read_spec
from mien.store import Run, Store
from mien.workload import Workload

__all__ = [
    "GENERATORS",
    "PRESETS",
    "Copycat",
    "CopycatSpec",
    "Diffusion",
    "Gaussian",
    "GaussianSpec",
    "GenerateSpec",
    "Generator",
    "GeneratorSpec",
    "Means",
    "NetSpec",
    "SamplerSpec",
    "TrainSpec",
    "bytes_of",
    "calibrated",
    "fit",
    "generate",
    "joined",
    "load",
    "order",
    "parse_counts",
    "preset",
    "read_training",
    "require_board",
    "sample",
    "save",
    "side_by_side",
    "suited",
    "train",
]


@dataclass(frozen=True)
class Member:
    """A kind of generator: a new kind is a module and a line in GENERATORS.

    - `fit(faces, spec, scratch, device, label, means)` returns a trained Generator.
    - `sample(generator, labels, seeds, how)` returns images, uint8 [n, c, h, w].
    - `save(generator, folder)` writes a generator, and `load(run, spec, device)` reads it.
    - `holds(generator)` returns a one-line summary of it.
    - `sampler` is the default sampler, and `steps(spec, how)` returns its number of steps.
    - `speed(faces, spec, device)` measures the speed of a training in images per second.
    - `workload(spec, size)` counts the work per image.

    `speed` and `workload` are None for a kind that is not trained in steps.
    """

    fit: Callable[..., Generator]
    sample: Callable[..., UInt8[np.ndarray, "n c h w"]]
    save: Callable[..., None]
    load: Callable[..., Generator]
    holds: Callable[..., str]
    sampler: str = "direct"
    steps: Callable[[Any, SamplerSpec], int] = lambda spec, how: 1
    speed: Callable[[Faces, Any, str], float] | None = None
    workload: Callable[[TrainSpec, tuple[int, int, int]], Workload] | None = None


def _diffusion(kind: Any, sampler: str) -> Member:
    def fit(
        faces: Faces, spec: TrainSpec, scratch: Path, device: str, label: str, means: Means
    ) -> Diffusion:
        return diffusion.fit(faces, spec, scratch, kind.objective(spec), device, label, means)

    def speed(faces: Faces, spec: TrainSpec, device: str) -> float:
        return diffusion.speed(faces, spec, kind.objective(spec), device)

    files = (diffusion.save, diffusion.load, diffusion.holds)
    return Member(fit, kind.sample, *files, sampler, kind.steps, speed, diffusion.workload)


def _direct(kind: Any) -> Member:
    def fit(
        faces: Faces, spec: GeneratorSpec, scratch: Path, device: str, label: str, means: Means
    ) -> Generator:
        if means != PLAIN:
            raise UsageError(
                "--memory, --tensorboard and several processes need a generator that is trained "
                f"in steps, and a {spec.kind} generator is not; omit them"
            )
        return kind.fit(faces, spec, scratch, device, label)

    return Member(fit, kind.sample, kind.save, kind.load, kind.holds)


GENERATORS: Mapping[str, Member] = {
    "ddpm": _diffusion(ddpm, "ancestral"),
    "edm": _diffusion(edm, "dpmpp2m"),
    "gaussian": _direct(gaussian),
    "copycat": _direct(copycat),
}

MONTH = 60 * 24 * 30  # in minutes
PREVIEW = 8  # images per class on the sheet of a trained generator
# Images that are written at once, a multiple of diffusion.BATCH
SHARD = {"cpu": 64, "cuda": 512, "mps": 128}


def preset(name: str, faces: str, settings: Mapping[str, Any] | None = None) -> GeneratorSpec:
    """Return the spec of a preset for a training on the run `faces`.

    `settings` replace single fields, also nested ones. Raises SpecError for an unknown preset and
    for a setting that is not valid.
    """
    if not isinstance(name, str) or name not in PRESETS:  # a study file may hold anything
        raise SpecError(
            f"there is no preset '{name}'.{nearest(str(name), list(PRESETS))} The presets are "
            f"{', '.join(PRESETS)}"
        )
    fields = dict(PRESETS[name]) | {"faces": faces}
    for key, value in (settings or {}).items():
        old = fields.get(key)
        fields[key] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return read_training(fields, f"preset {name}")


def calibrated(
    spec: GeneratorSpec, minutes: float, store: Store, device: str = "auto"
) -> GeneratorSpec:
    """Return `spec` with the length that takes about `minutes` on this machine.

    The speed is measured once per spec, device and number of minutes, so the same command gives the
    same length again. Raises UsageError unless `minutes` is above 0 and at most a month, and for a
    generator that is not trained in steps.
    """
    # Only a training in steps has a length
    if not 0 < minutes <= MONTH:
        raise UsageError(
            f"the minutes of training must be above 0 and at most {MONTH:,}, a month; given: "
            f"{minutes:g}"
        )
    spec = spec.model_copy(update={"faces": store.resolve(spec.faces)})
    speed = GENERATORS[spec.kind].speed
    if speed is None or not isinstance(spec, TrainSpec):
        raise UsageError(
            f"minutes needs a generator that is trained in steps, and a {spec.kind} generator is "
            "not; remove it"
        )

    # Measure the speed, or take the stored number of steps
    faces, batch = Faces.load(store.run(spec.faces).path), spec.batch
    where = training.device(device).type

    def measure() -> float:
        progress.say("measuring the speed of training on this machine")
        return float(round(speed(faces, spec, device) * minutes * 60 / batch))

    updates = store.memo(f"updates-{spec.digest()}-{where}-{minutes:g}min", measure)

    # The length in whole steps
    spec = spec.model_copy(update={"images_seen": max(1, int(updates)) * spec.batch})
    progress.say(
        f"{minutes:g} min of training on this machine are about "
        f"{progress.many(spec.images_seen, 'image')}"
    )
    return spec


def fit(
    faces: Faces,
    spec: GeneratorSpec,
    scratch: Path,
    *,
    device: str = "auto",
    label: str = "training",
    means: Means = PLAIN,
) -> Generator:
    """Return a generator that is trained on `faces`.

    The training resumes exactly from the last checkpoint in the folder `scratch`, if there is one.
    Raises DataError if the images do not fit the network, TrainingError if the loss explodes or is
    not a number.
    """
    return GENERATORS[spec.kind].fit(faces, spec, scratch, device, label, means)


def sample(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    *,
    sampler: SamplerSpec | None = None,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a position in EMOTIONS) and seed.

    An image is bit for bit the same whatever other images are drawn with it. `sampler` None is the
    default sampler of the generator's kind. Raises UsageError for a class that the generator was
    not trained on, and for a sampler that its kind cannot use.
    """
    kind = GENERATORS[generator.spec.kind]
    how = sampler or SamplerSpec.model_validate({"sampler": kind.sampler})
    if (how.sampler == "direct") != (kind.sampler == "direct"):
        raise UsageError(
            f"a {generator.spec.kind} generator cannot use the sampler '{how.sampler}'; omit it"
        )
    return kind.sample(generator, labels, seeds, how)


def save(generator: Generator, out: Path) -> None:
    """Write a generator to a folder."""
    GENERATORS[generator.spec.kind].save(generator, out)


def load(run: Run, device: str = "auto") -> Generator:
    """Return the generator of a run; raises UsageError if the run is not a trained generator."""
    if "generator.json" not in run.manifest["files"]:
        raise UsageError(f"{run.name} is not a trained generator; `mien ls generator` lists them")
    spec = read_training(
        {name: value for name, value in run.spec.items() if name != "stage"}, run.name
    )
    return GENERATORS[spec.kind].load(run, spec, device)


def train(
    spec: GeneratorSpec,
    store: Store,
    *,
    alias: str | None = None,
    device: str = "auto",
    means: Means = PLAIN,
) -> Run:
    """Return the run of a training: the generator's files, loss.csv and sheet.png.

    sheet.png shows some images of each class. With several processes (`means.crew`) the first one
    makes the run, and the others work for it until the run exists.
    """
    spec, crew = spec.model_copy(update={"faces": store.resolve(spec.faces)}), means.crew

    def build(out: Path, scratch: Path) -> None:
        # Train, together with the other processes
        faces = Faces.load(store.run(spec.faces).path)
        crew.agree("train")
        generator = fit(
            faces, spec, scratch, device=device, label=f"training {spec.kind}", means=means
        )
        save(generator, out)

        # Draw some images of each class; a ddpm in fewer steps, for speed
        how = SamplerSpec(sampler="ancestral", steps=100) if spec.kind == "ddpm" else None
        counts = dict.fromkeys(generator.classes, PREVIEW)
        index, labels, numbers = plan(spec.name, counts, spec.seed)
        images = sample(generator, labels, numbers, sampler=how)
        write_sheet(assemble(generator, images, index, spec.name, numbers), out, PREVIEW)
        if means.tensorboard is not None and isinstance(spec, TrainSpec):
            board.show_sheet(
                means.tensorboard, spec.name, out / "sheet.png", spec.updates * spec.batch
            )
        write_summary(out, {"holds": GENERATORS[spec.kind].holds(generator)})

    # The first process makes the run; the others join each training that it begins
    if means.tensorboard is not None:
        require_board(means.tensorboard)
    if crew.leads:
        run = store.make(spec, build, alias)
        crew.agree("done")
        return run
    while crew.agree(None) == "train":
        fit(Faces.load(store.run(spec.faces).path), spec, Path(), device=device, means=means)
    return store.run(spec.name)


def order(
    generator: Run,
    counts: str,
    store: Store,
    *,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float = 1.0,
    guide: str = "label",
    seed: int = 0,
) -> GenerateSpec:
    """Return the spec that generates `counts` (see `parse_counts`) with the generator of a run.

    `sampler` None is the default sampler of the generator's kind: for a ddpm ancestral, as in the
    preprint. Raises UsageError for a run that is not a generator, a sampler that its kind cannot
    use and counts that are not valid, and SpecError for other settings that are not valid.
    """
    # A generator, and a sampler for its kind
    if "generator.json" not in generator.manifest["files"]:
        raise UsageError(
            f"{generator.name} is not a trained generator, which `mien generate` needs; "
            "`mien ls generator` lists them"
        )
    kind = generator.spec["kind"]
    default = GENERATORS[kind].sampler
    if sampler is not None and (sampler == "direct") != (default == "direct"):
        raise UsageError(f"a {kind} generator cannot use the sampler '{sampler}'; omit --sampler")

    # The counts, which may refer to those of a dataset or of the training faces
    def faces_counts(name: str) -> dict[str, int]:
        emotions = Faces.load(store.run(name or generator.spec["faces"]).path).index["emotion"]
        return {str(emotion): int(count) for emotion, count in emotions.value_counts().items()}

    wanted = parse_counts(counts, faces_counts, generator.json("generator.json")["classes"])
    if note := uneven(wanted, counts):
        progress.say(note)

    fields = {
        "generator": generator.name,
        "counts": wanted,
        "steps": steps,
        "sampler": sampler or default,
        "guidance": guidance,
        "guide": guide,
        "seed": seed,
    }
    return read_spec(GenerateSpec, fields, "generate")


def generate(
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
    `workers` is the number of batches that are drawn in parallel (default: all cores), and `shard`
    the number of images that are written at once; no image depends on either.
    """
    spec = spec.model_copy(update={"generator": store.resolve(spec.generator)})

    def build(out: Path, scratch: Path) -> None:
        generator = load(store.run(spec.generator), device)
        progress.say(describe(generator, spec))
        index, labels, numbers = plan(spec.name, spec.counts, spec.seed)
        with training.cores(workers):
            images = make_shards(generator, labels, numbers, spec, scratch, device, shard)
        faces = assemble(generator, images, index, spec.name, numbers)
        faces.save(out)
        write_sheet(faces, out, 12)
        counts = faces.counts().drop(columns=["clips", "subjects"]).to_dict("records")
        write_summary(
            out, {"holds": progress.many(len(faces), "synthetic image"), "counts": counts}
        )

    return store.make(spec, build, alias)


def make_shards(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
    scratch: Path,
    device: str = "auto",
    shard: int | None = None,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label and seed, in shards; finished ones in `scratch` are reused.

    The images are in a file in `scratch`, which is memory-mapped only after all are written: on a
    full disk, writing to a mapped file would end the process without a message.
    """
    path, size = scratch / "images.npy", shard or SHARD[training.device(device).type]
    head = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *generator.size)}
    with (
        path.open("wb") as file,
        progress.track("generating", len(labels)) as tracker,
        stopping.heeded(),
    ):
        np.lib.format.write_array_header_1_0(file, head)
        for first in range(0, len(labels), size):
            rows = slice(first, min(first + size, len(labels)))
            images = make_shard(
                generator, labels[rows], numbers[rows], how, shard_path(scratch, rows)
            )
            file.write(np.ascontiguousarray(images).data)
            tracker.update(rows.stop)
            stopping.obey()
    return np.load(path, mmap_mode="r", allow_pickle=False)


def make_shard(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
    path: Path,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label and seed, read from the file `path` if it is complete.

    Otherwise the images are drawn, and written to the file.
    """
    shard = read_shard(path, (len(labels), *generator.size))
    if shard is None:
        shard = sample(generator, labels, numbers, sampler=how)
        write_shard(path, shard)
    return shard


def write_shard(path: Path, shard: UInt8[np.ndarray, "n c h w"]) -> None:
    """Write the images of a shard, preceded by their sha256."""
    buffer = io.BytesIO()
    np.save(buffer, shard, allow_pickle=False)
    data = buffer.getvalue()
    training.write_whole(path, hashlib.sha256(data).digest() + data)


def shard_path(scratch: Path, rows: slice) -> Path:
    """Return the path of the shard of the images in `rows`."""
    return scratch / f"images-{rows.start:07d}-{rows.stop:07d}.npy"


def parts(spec: GenerateSpec, store: Store, device: str = "auto", most: int = 1) -> list[Job]:
    """Return the jobs that make a database: up to `most` draw images in parallel, one joins."""
    total, size = sum(spec.counts.values()), SHARD[training.device(device).type]
    share = -(-total // (most * size)) * size
    common = {"spec": spec.model_dump(mode="json"), "device": device, "shard": size}
    spans = [(first, min(first + share, total)) for first in range(0, total, share)]
    drawing = [
        Job(
            f"{spec.name}.{first:07d}",
            f"images {first + 1:,} to {last:,} of {total:,}",
            draw_part,
            {**common, "first": first, "last": last},
            (spec.generator,),
        )
        for first, last in spans
    ]
    drawing = drawing if len(spans) > 1 else []
    return [
        *drawing,
        Job(spec.name, "database", draw, common, (spec.generator, *(job.run for job in drawing))),
    ]


def draw_part(
    store: Store, spec: dict[str, Any], device: str, shard: int, first: int, last: int
) -> str:
    """Draw the images `first` to `last` - 1 of a database in shards, for `draw` to join.

    Return a message for the log.
    """
    how = GenerateSpec.model_validate(spec)
    _, labels, numbers = plan(how.name, how.counts, how.seed)
    with store.claim(f"{how.name}.{first:07d}"), stopping.heeded():
        if store.done(how.name):
            return "there already"
        store.note(how)
        generator = load(store.run(how.generator), device)
        with progress.track("generating", last - first) as tracker:
            for start in range(first, last, shard):
                rows = slice(start, min(start + shard, last))
                path = shard_path(store.scratch(how.name), rows)
                make_shard(generator, labels[rows], numbers[rows], how, path)
                tracker.update(rows.stop - first)
                stopping.obey()
    return "drawn"


def draw(store: Store, spec: dict[str, Any], device: str, shard: int) -> str:
    """Make a database from its finished shards and new ones; return a message for the log."""
    how = GenerateSpec.model_validate(spec)
    run = generate(how, store, device=device, shard=shard)
    return f"{progress.many(sum(how.counts.values()), 'image')} in {run.name}"


def read_shard(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n c h w"] | None:
    """Return the images of a shard, or None if the file is missing or damaged.

    The file is as `write_shard` writes it, and its images must have `shape`.
    """
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        shard = np.load(io.BytesIO(data[32:]), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return shard if shard.shape == shape and shard.dtype == np.uint8 else None


def plan(
    run: str, counts: Mapping[str, int], seed: int
) -> tuple[list[tuple[str, str]], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return (key, emotion), label and seed of each image of a database, in the order of EMOTIONS.

    Image k of an emotion has the same seed in every database with that `seed`, whatever its counts.
    """
    rows = [(emotion, k) for emotion in EMOTIONS for k in range(counts.get(emotion, 0))]
    labels = np.array([EMOTIONS.index(emotion) for emotion, _ in rows], dtype=np.int64)
    numbers = np.array(
        [seeds.seed("image", seed, emotion, k) for emotion, k in rows], dtype=np.int64
    )
    return [(f"{run}/{emotion}/{k:05d}", emotion) for emotion, k in rows], labels, numbers


def assemble(
    generator: Generator,
    images: UInt8[np.ndarray, "n c h w"],
    index: Sequence[tuple[str, str]],
    run: str,
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
        source=run,
        seed=numbers.tolist(),
        licence=generator.licence,
    )
    return Faces(images, table, generator.seen, generator.channels)


def describe(generator: Generator, how: SamplerSpec) -> str:
    """Return a line that says how images are drawn, with the choices that the equations leave."""
    lead = f"{generator.run} ({generator.spec.kind})"
    if how.sampler == "direct":
        return f"{lead}: {GENERATORS[generator.spec.kind].holds(generator)}"
    steps = GENERATORS[generator.spec.kind].steps(generator.spec, how)
    choices = [f"{lead}: {how.sampler}, {progress.many(steps, 'step')}"]
    if how.sampler == "ancestral":
        choices.append(f"{how.variance} variance")
    choices.append("x0 clipped to the range of images" if how.clip_x0 else "x0 not clipped")
    if how.guidance > 1:
        worse = {"label": "no label", "early": "an early step of training"}[how.guide]
        interval = f"sigma/sigma_data {how.guidance_low:g}..{how.guidance_high:g}"
        choices.append(f"guidance {how.guidance:g} away from {worse} for {interval}")
    return ", ".join(choices)


def write_sheet(faces: Faces, out: Path, per_class: int) -> None:
    """Write sheet.png, with a row of images for each class."""
    figures.class_sheet(faces, per_class=per_class).save(out / "sheet.png")


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json: the contents of the run in a few words and as counts."""
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
