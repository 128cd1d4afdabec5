"""Generators: from faces to a trained model of them, and from that to new faces."""

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
    """What makes a kind of generator: one more is a module and a line in GENERATORS.

    `fit(faces, spec, scratch, device, label, means)` returns a Generator, `sample(generator,
    labels, seeds, how)` its images, uint8 [n, c, h, w]; `save(generator, folder)` and `load(run,
    spec, device)` keep it, `holds(generator)` is a line on what was learnt. `sampler` is the one
    that it is drawn from unless another is named, `steps(spec, how)` how many steps that takes, and
    `speed(faces, spec, device)` how many images a second a training takes in, measured;
    `workload(spec, size)` is what an image takes, counted. Both are nothing for what is learnt in
    one go.
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

    keeps = (diffusion.save, diffusion.load, diffusion.holds)
    return Member(fit, kind.sample, *keeps, sampler, kind.steps, speed, diffusion.workload)


def _direct(kind: Any) -> Member:
    def fit(
        faces: Faces, spec: GeneratorSpec, scratch: Path, device: str, label: str, means: Means
    ) -> Generator:
        if means != PLAIN:
            raise UsageError(
                "--memory, --tensorboard and several processes must stand with a generator that "
                "learns in steps, and a "
                f"{spec.kind} does not"
            )
        return kind.fit(faces, spec, scratch, device, label)

    return Member(fit, kind.sample, kind.save, kind.load, kind.holds)


GENERATORS: Mapping[str, Member] = {
    "ddpm": _diffusion(ddpm, "ancestral"),
    "edm": _diffusion(edm, "dpmpp2m"),
    "gaussian": _direct(gaussian),
    "copycat": _direct(copycat),
}

MONTH = 60 * 24 * 30  # minutes
PREVIEW = 8  # images a class on the sheet of a trained generator
SHARD = {
    "cpu": 64,
    "cuda": 512,
    "mps": 128,
}  # images that are written at once, a multiple of diffusion.BATCH


def preset(name: str, faces: str, settings: Mapping[str, Any] | None = None) -> GeneratorSpec:
    """Return the training that a preset names, of the run `faces`; `settings` change single fields,
    nested ones too.

    Raises SpecError for a name that is no preset, or a setting that does not hold.
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

    The speed is measured once for a spec, a device and a number of minutes, so the same command
    finds the same length again. Raises UsageError unless `minutes` is above 0 and at most a month,
    and for what does not learn in steps.
    """
    if not 0 < minutes <= MONTH:
        raise UsageError(
            f"the minutes of training must be more than 0, and no month; given: {minutes:g}"
        )
    spec, speed = (
        spec.model_copy(update={"faces": store.resolve(spec.faces)}),
        GENERATORS[spec.kind].speed,
    )
    if speed is None or not isinstance(spec, TrainSpec):
        raise UsageError(
            f"minutes must stand with a generator that learns in steps, and a {spec.kind} does not"
        )
    faces, where, size = (
        Faces.load(store.run(spec.faces).path),
        training.device(device).type,
        spec.batch,
    )

    def measure() -> float:
        progress.say("measuring the speed of training here")
        return float(round(speed(faces, spec, device) * minutes * 60 / size))

    updates = store.memo(f"updates-{spec.digest()}-{where}-{minutes:g}min", measure)
    spec = spec.model_copy(update={"images_seen": max(1, int(updates)) * spec.batch})
    progress.say(
        f"{minutes:g} min of training here are about {progress.many(spec.images_seen, 'image')}"
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
    """Train a generator on `faces`; goes on exactly from the checkpoints in `scratch` if there are
    any.

    Raises DataError if the images do not fit the network, TrainingError if the loss explodes or is
    no number.
    """
    return GENERATORS[spec.kind].fit(faces, spec, scratch, device, label, means)


def sample(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    seeds: Int64[np.ndarray, " n"],
    *,
    sampler: SamplerSpec | None = None,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label (a place in EMOTIONS) and seed, bit for bit the same in any
    company.

    `sampler` None is that of the generator's kind. Raises UsageError for a class that the generator
    never saw, or a sampler that does not go with its kind.
    """
    kind = GENERATORS[generator.spec.kind]
    how = sampler or SamplerSpec.model_validate({"sampler": kind.sampler})
    if (how.sampler == "direct") != (kind.sampler == "direct"):
        raise UsageError(
            f"the sampler '{how.sampler}' does not go with a {generator.spec.kind}; leave it away"
        )
    return kind.sample(generator, labels, seeds, how)


def save(generator: Generator, out: Path) -> None:
    """Write a generator to a folder."""
    GENERATORS[generator.spec.kind].save(generator, out)


def load(run: Run, device: str = "auto") -> Generator:
    """Return the generator that a run holds; raises UsageError if it holds none."""
    if "generator.json" not in run.manifest["files"]:
        raise UsageError(
            f"a trained generator must be named, and {run.name} is none; see `mien ls generator`"
        )
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
    """Return the run of a training: the generator's files, loss.csv, and sheet.png with some images
    of each class.

    In a crew the first process makes the run, and the others work for it until it has one.
    """
    spec, crew = spec.model_copy(update={"faces": store.resolve(spec.faces)}), means.crew

    def build(out: Path, scratch: Path) -> None:
        faces = Faces.load(store.run(spec.faces).path)
        crew.agree("train")
        generator = fit(
            faces, spec, scratch, device=device, label=f"training {spec.kind}", means=means
        )
        save(generator, out)
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
    """Return the generation of `counts` (see `parse_counts`) from the generator of a run.

    `sampler` None is that of the generator's kind: for a ddpm ancestral, as in the preprint. Raises
    UsageError on counts, and SpecError on settings, that do not hold.
    """
    if "generator.json" not in generator.manifest["files"]:
        raise UsageError(
            f"`mien generate` must name a trained generator, and {generator.name} is none; see "
            "`mien ls`"
        )
    kind = generator.spec["kind"]
    own = GENERATORS[kind].sampler
    if sampler is not None and (sampler == "direct") != (own == "direct"):
        raise UsageError(f"the sampler '{sampler}' does not go with a {kind}; leave --sampler away")

    def faces_counts(name: str) -> dict[str, int]:
        emotions = Faces.load(store.run(name or generator.spec["faces"]).path).index["emotion"]
        return {str(emotion): int(count) for emotion, count in emotions.value_counts().items()}

    wanted = parse_counts(counts, faces_counts, generator.json("generator.json")["classes"])
    if told := uneven(wanted, counts):
        progress.say(told)
    fields = {
        "generator": generator.name,
        "counts": wanted,
        "steps": steps,
        "sampler": sampler or own,
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
    """Return the run of a generated database: faces with exactly `spec.counts` images a class, and
    sheet.png.

    Images go to the disk as they are made, so memory does not grow with their number; an
    interrupted generation goes on after the last finished shard. `workers` is how many batches are
    worked on side by side, all cores by default, and `shard` how many images are written at once:
    no image depends on either.
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
    """Return an image for each label and seed, made a shard at a time; shards that lie in `scratch`
    are taken over.

    The images lie in a file in `scratch` and are mapped from there once all are written: a mapped
    file that grows on a full disk would end the process without a word.
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
            part = slice(first, min(first + size, len(labels)))
            images = make_shard(
                generator, labels[part], numbers[part], how, shard_path(scratch, part)
            )
            file.write(np.ascontiguousarray(images).data)
            tracker.update(part.stop)
            stopping.obey()
    return np.load(path, mmap_mode="r", allow_pickle=False)


def make_shard(
    generator: Generator,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
    path: Path,
) -> UInt8[np.ndarray, "n c h w"]:
    """Return an image for each label and seed: those in the file, if it is whole, else new ones,
    which go there.
    """
    shard = read_shard(path, (len(labels), *generator.size))
    if shard is None:
        shard = sample(generator, labels, numbers, sampler=how)
        write_shard(path, shard)
    return shard


def write_shard(path: Path, shard: UInt8[np.ndarray, "n c h w"]) -> None:
    """Write the images of a shard behind their sha256."""
    buffer = io.BytesIO()
    np.save(buffer, shard, allow_pickle=False)
    data = buffer.getvalue()
    training.write_whole(path, hashlib.sha256(data).digest() + data)


def shard_path(scratch: Path, part: slice) -> Path:
    """Return the file of the images from one number up to another."""
    return scratch / f"images-{part.start:07d}-{part.stop:07d}.npy"


def parts(spec: GenerateSpec, store: Store, device: str = "auto", most: int = 1) -> list[Job]:
    """Return jobs that make a database: up to `most` side by side draw its images, and one puts
    them together.
    """
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
    """Draw images `first` up to `last` of a database, a shard at a time, for `draw` to put
    together.
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
                part = slice(start, min(start + shard, last))
                make_shard(
                    generator,
                    labels[part],
                    numbers[part],
                    how,
                    shard_path(store.scratch(how.name), part),
                )
                tracker.update(part.stop - first)
                stopping.obey()
    return "drawn"


def draw(store: Store, spec: dict[str, Any], device: str, shard: int) -> str:
    """Make a database, with those of its images that are drawn already; return what to say of
    it.
    """
    how = GenerateSpec.model_validate(spec)
    made = generate(how, store, device=device, shard=shard)
    return f"{progress.many(sum(how.counts.values()), 'image')} in {made.name}"


def read_shard(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n c h w"] | None:
    """Return the images of a shard, or None if there is none that is as it was written, behind its
    sha256.
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
    """Return (key, emotion), label and seed of each image to be made, in the order of EMOTIONS.

    Image k of an emotion has the same seed in every database of that seed, whatever else is in it.
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
    """Return generated images as faces that know what their generator saw."""
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
    """Return a line that says how images are drawn, with every choice that the equations leave
    open.
    """
    lead = f"{generator.run} ({generator.spec.kind})"
    if how.sampler == "direct":
        return f"{lead}: {GENERATORS[generator.spec.kind].holds(generator)}"
    parts = [
        (
            f"{lead}: {how.sampler}, "
            f"{progress.many(GENERATORS[generator.spec.kind].steps(generator.spec, how), 'step')}"
        )
    ]
    if how.sampler == "ancestral":
        parts.append(f"{how.variance} variance")
    parts.append("x0 clipped to the range of images" if how.clip_x0 else "x0 not clipped")
    if how.guidance > 1:
        away = {"label": "no label", "early": "an early moment of training"}[how.guide]
        between = f"sigma/sigma_data {how.guidance_low:g}..{how.guidance_high:g}"
        parts.append(f"guidance {how.guidance:g} away from {away} for {between}")
    return ", ".join(parts)


def write_sheet(faces: Faces, out: Path, per_class: int) -> None:
    """Write sheet.png, a row of images for each class."""
    figures.class_sheet(faces, per_class=per_class).save(out / "sheet.png")


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json: what the run holds, in a few words and as counts."""
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
