"""Distill meets the store: a generator becomes a student of few steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from mien import seeds
from mien.errors import UsageError
from mien.faces import EMOTIONS
from mien.generators import student
from mien.generators.base import Generator
from mien.generators.diffusion.model import Diffusion
from mien.generators.generate import assemble, write_sheet
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.orders import plan_images
from mien.generators.sampler_table import list_noisy_samplers
from mien.generators.shards import make_shards
from mien.generators.specs import StudentSpec
from mien.generators.train import PREVIEW_PER_CLASS
from mien.runs import devices, progress
from mien.runs.spec import read_spec
from mien.runs.store import Run, RunSummary, Store

# Of the learning rate of the teacher: a student begins with weights that are already trained
RATE_SHARE = 1 / 3


def order_student(
    teacher: Run,
    *,
    steps: int = 2,
    guidance: float = 2.0,
    guide: str = "label",
    sampler: str | None = None,
    teacher_steps: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> StudentSpec:
    """Return the spec of a student of the generator of a run; `settings` replace its fields.

    Raises UsageError for a run that is not a generator with a network that has not been distilled,
    and for a sampler that adds noise; SpecError for settings that are not valid.
    """
    # A generator that draws in steps
    if "generator.json" not in teacher.manifest["files"]:
        raise UsageError(
            f"{teacher.name} is not a trained generator, which `mien distill` needs; `mien ls "
            "generator` lists them"
        )
    kind = str(teacher.spec["kind"])
    if kind not in student.TEACHERS:
        reasons = {
            "student": "has been distilled already",
            "ddpm": "predicts the noise, which is no image at the highest noise level",
        }
        reason = reasons.get(kind, "draws in one step")
        raise UsageError(
            f"`mien distill` needs a generator of the kind {' or '.join(student.TEACHERS)}, and "
            f"{teacher.name}, a {kind}, {reason}"
        )

    # A sampler that always draws the same image from the same noise
    fields = {
        "faces": teacher.spec["faces"],
        "teacher": teacher.name,
        "steps": steps,
        "guidance": guidance,
        "guide": guide,
        "sampler": sampler or "dpmpp2m",
        "teacher_steps": teacher_steps,
        "seed": seed,
        "learning_rate": float(f"{teacher.spec['learning_rate'] * RATE_SHARE:.3g}"),
        **(settings or {}),
    }
    if fields["sampler"] in list_noisy_samplers():
        raise UsageError(
            f"the sampler '{fields['sampler']}' adds noise on its way, so that its images are no "
            "function of the first noise, and a student cannot learn them; omit it"
        )
    spec = read_spec(StudentSpec, fields, "distill")
    spec.make_sampler()
    return spec


def distill_generator(
    spec: StudentSpec, store: Store, *, alias: str | None = None, device: str = "auto"
) -> Run:
    """Return the run of a student: the generator's files, loss.csv and sheet.png.

    First the teacher draws the images that the student learns from, in shards; then the student is
    trained. A stopped command resumes either.
    """
    teacher_run = store.run(spec.teacher)
    spec = spec.model_copy(update={"teacher": teacher_run.name})

    def build(out: Path, scratch: Path) -> RunSummary:
        # The images of the teacher, with the seed of each
        teacher = load_generator(teacher_run, device)
        assert isinstance(teacher, Diffusion)  # as `order_student` requires
        progress.say(
            f"{teacher_run.name} draws {progress.quantify(spec.images, 'image')} for the student "
            "to learn from"
        )
        labels, numbers = plan_lessons(teacher, spec)
        folder = scratch / "lessons"
        folder.mkdir(exist_ok=True)
        images = make_shards(teacher, labels, numbers, spec.make_sampler(), folder, device)
        index = [(f"{spec.name}/{k}", EMOTIONS[label]) for k, label in enumerate(labels)]
        lessons = assemble(teacher, images, index, spec.name, numbers)

        # The student
        made = student.fit(teacher, lessons, spec, scratch, device)
        student.save(made, out)

        # Some of its images of each class
        counts = dict.fromkeys(made.classes, PREVIEW_PER_CLASS)
        preview, wanted, drawn = plan_images(spec.name, counts, spec.seed)
        write_sheet(
            assemble(made, sample_generator(made, wanted, drawn), preview, spec.name, drawn),
            out,
            PREVIEW_PER_CLASS,
        )
        return {"holds": student.summarise(made)}

    with devices.limit_cores(None):
        return store.make(spec, build, alias)


def plan_lessons(
    teacher: Generator, spec: StudentSpec
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return label and seed of each image that the teacher draws; the classes take turns."""
    classes = [EMOTIONS.index(name) for name in teacher.classes]
    labels = np.array([classes[k % len(classes)] for k in range(spec.images)], dtype=np.int64)
    numbers = [seeds.derive_seed("lesson", spec.seed, k) for k in range(spec.images)]
    return labels, np.array(numbers, dtype=np.int64)
