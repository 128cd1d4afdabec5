"""Orders: what a database shall hold, checked before torch is loaded."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from mien.errors import UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.clips.seeds import plan_clips
from mien.generators.counts import describe_counts, note_uneven, parse_counts
from mien.generators.specs import (
    DEFAULT_FPS,
    KIND_FACTS,
    MAX_STUDENT_STEPS,
    GenerateSpec,
    find_guidance,
    read_steps,
)
from mien.generators.units import parse_order, read_units, require_known_units
from mien.runs import progress
from mien.runs.store import Run, Store
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
    units: str | None = None,
    seed: int = 0,
    fps: float | None = None,
    intensity: tuple[float, float] | None = None,
    per_person: int | None = None,
) -> GenerateSpec:
    """Return the spec that generates `counts` (see `parse_counts`) with the generator of a run.

    The images per class are written to standard error, with 0 for each class that is left out.
    `sampler` None is the default sampler of the generator's kind: for a ddpm ancestral, as in the
    preprint. `steps` may be "auto" or "auto:N" (see `read_steps`); the run of its levels, which
    `mien.audit.levels.prepare_levels` makes, must be there when images are drawn. `fps`,
    `intensity` and `per_person` are for generators of movement (see GenerateSpec), and `units` are
    action units (see `parse_order`). Raises UsageError for a run that is not a generator, a sampler
    that its kind cannot use, and for counts and units that are not valid, and SpecError for other
    settings that are not valid.
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
    if facts.moves and isinstance(steps, str):
        raise UsageError(
            "--steps auto chooses noise levels by images, and a generator of movement draws clips; "
            "give a number of steps, or omit --steps"
        )
    if not facts.moves and any(value is not None for value in (fps, intensity, per_person)):
        raise UsageError(
            f"--fps, --intensity and --per-person are for generators of movement, and "
            f"{generator.name} draws single images (kind {kind}); omit them, or train one with "
            "`mien train DATASET --preset motion`"
        )

    # The counts, which may refer to those of a dataset or of the training faces
    def count_faces(name: str) -> dict[str, int]:
        emotions = Faces.load(store.run(name or generator.spec["faces"]).path).index["emotion"]
        return {str(emotion): int(count) for emotion, count in emotions.value_counts().items()}

    about = generator.read_json("generator.json")
    classes = about["classes"]
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
        "fps": get_usual_fps(kind) if fps is None else fps,
        "intensity": intensity,
        "per_person": per_person,
        "units": None if units is None else parse_order(units),
    }
    spec = read_steps(fields, "generate")
    require_known_units(read_units(about), spec)

    # What is wrong is refused before anything is printed
    noun = "clips" if facts.moves else "images"
    progress.say(f"{noun} per class: {describe_counts({**dict.fromkeys(classes, 0), **wanted})}")
    if note := note_uneven(wanted, counts):
        progress.say(note)
    return spec


def get_usual_fps(kind: str) -> float | None:
    """Return the frames a second of what a kind of generator draws; None for single images."""
    return DEFAULT_FPS if KIND_FACTS[kind].moves else None


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


def plan_database(
    how: GenerateSpec,
) -> tuple[list[tuple[str, str]], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return (key, emotion), label and seed of each image or clip of a database."""
    if how.fps is not None:
        return plan_clips(how.name, how)
    return plan_images(how.name, how.counts, how.seed)


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
