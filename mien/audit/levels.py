"""Levels meet the store: noise levels are chosen for a generator.

`mien.generators.diffusion.levels` chooses them. They are used only if images that are drawn with
them are closer to real faces than images with the levels of Karras et al. 2022, from the same noise
and with the sampler that will be used. The distance is the Fréchet distance in the space of the
judge, to the people who were held out of the training of the generator, or else to those that it
was trained on.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from mien import seeds
from mien.audit import distances, features
from mien.errors import UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.diffusion import levels
from mien.generators.diffusion.heldout import hold_out
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.samplers import make_karras_levels
from mien.generators.kinds import GENERATORS, load_generator, sample_generator
from mien.generators.specs import GenerateSpec, LevelsSpec, SamplerSpec, make_levels_spec
from mien.runs.files import write_whole
from mien.runs.jobs import Job
from mien.runs.progress import say, track
from mien.runs.store import Run, RunSummary, Store


def find_levels(spec: LevelsSpec, store: Store, *, device: str = "auto") -> Run:
    """Return the run of a search for noise levels: levels.json, with what was compared.

    Its entries are `levels` (those to draw with), `used` ("chosen" or "usual"), `chosen`, `usual`,
    `distances` (of both, in the space of the judge), `images` and `compared_with`. Raises
    UsageError for a generator that does not draw in steps.
    """

    def build(out: Path, scratch: Path) -> RunSummary:
        run = store.run(spec.generator)
        generator = load_generator(run, device)
        if not isinstance(generator, Diffusion):
            raise UsageError(
                "--steps auto needs a generator that draws in steps, and "
                f"{run.name} is a {run.spec['kind']}; omit --steps"
            )
        found = compare_levels(spec, generator, run, store, device)
        write_whole(out / "levels.json", (json.dumps(found, indent=1) + "\n").encode())
        say(describe_levels(found))
        return {"holds": describe_levels(found)}

    return store.make(spec, build)


def prepare_levels(how: GenerateSpec, store: Store, device: str = "auto") -> None:
    """Find the noise levels of a database that is drawn with `--steps auto`; say what was found.

    Levels that were found before are read from the store.
    """
    if isinstance(how.levels, str):
        known = store.is_done(how.levels)
        run = find_levels(make_levels_spec(how), store, device=device)
        if known:
            say(describe_levels(run.read_json("levels.json")))


def list_levels_jobs(how: GenerateSpec, device: str = "auto") -> list[Job]:
    """Return the job that finds the noise levels of a database, if it is drawn with them."""
    if not isinstance(how.levels, str):
        return []
    arguments = {"spec": make_levels_spec(how).model_dump(mode="json"), "device": device}
    return [Job(how.levels, "noise levels", find, arguments, (how.generator,))]


def find(store: Store, spec: dict[str, Any], device: str) -> str:
    """Find noise levels; return a message for the log."""
    run = find_levels(LevelsSpec.model_validate(spec), store, device=device)
    return describe_levels(run.read_json("levels.json"))


def describe_levels(found: dict[str, Any]) -> str:
    """Return the distances with both sets of levels, and which is used, in one sentence."""
    chosen, usual = (found["distances"][name] for name in ("chosen", "usual"))
    used = {"chosen": "these levels are used", "usual": "so the usual levels are used"}[
        found["used"]
    ]
    return (
        f"{len(found['levels'])} noise levels chosen for this generator: distance {chosen:.3g} to "
        f"{found['compared_with']}, and {usual:.3g} with the usual levels "
        f"({found['images']:,} images each); {used}"
    )


def compare_levels(
    spec: LevelsSpec, generator: Diffusion, run: Run, store: Store, device: str
) -> dict[str, Any]:
    """Return the content of levels.json: chosen and usual levels, and the distance of each."""
    # The levels that the fine trajectories suggest, and those of Karras et al.
    kind = GENERATORS[generator.spec.kind]
    assert kind.make_denoiser is not None and kind.make_noise_schedule is not None
    schedule = kind.make_noise_schedule(generator)
    fields = spec.model_dump(include=set(SamplerSpec.model_fields) - {"version"})
    how = SamplerSpec.model_validate(fields)
    say(f"choosing {spec.steps} noise levels by {spec.walks} trajectories")
    chosen = levels.find_levels(
        generator,
        kind.make_denoiser,
        (schedule.low, schedule.high, schedule.start),
        *plan_labels(generator, spec.walks, ("levels", "walk", spec.seed)),
        how,
        spec.steps,
        spec.fine,
    )
    usual = make_karras_levels(spec.steps, schedule.low, schedule.high)[:-1]

    # Images of both, from the same noise, against real faces
    train = store.run(str(run.spec["faces"]))
    shown, held_out = hold_out(Faces.load(train.path), generator.spec)
    real, people = (held_out, "held-out") if held_out is not None else (shown, "training")
    space = features.make_judge_space(features.load_judge(train, store, device))
    expected = space.extract(real.images)
    labels, numbers = plan_labels(generator, spec.images, ("levels", "image", spec.seed))
    measured: dict[str, float] = {}
    with track("comparing noise levels", 2) as tracker:
        for name, tried in (("chosen", chosen), ("usual", usual)):
            sampler = how.model_copy(update={"levels": tuple(tried)})
            images = sample_generator(generator, labels, numbers, sampler=sampler)
            drawn = space.extract(images)
            measured[name] = distances.compute_frechet_distance(drawn, expected)
            tracker.update(len(measured))

    used = "chosen" if measured["chosen"] < measured["usual"] else "usual"
    return {
        "levels": chosen if used == "chosen" else usual,
        "used": used,
        "chosen": chosen,
        "usual": usual,
        "distances": measured,
        "images": spec.images,
        "compared_with": f"{len(real):,} images of {people} people",
    }


def plan_labels(
    generator: Diffusion, count: int, names: tuple[str | int, ...]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return labels in which the classes take turns, and seeds that depend on `names`."""
    classes = [EMOTIONS.index(name) for name in generator.classes]
    labels = np.array([classes[k % len(classes)] for k in range(count)], dtype=np.int64)
    numbers = [seeds.derive_seed(*names, k) for k in range(count)]
    return labels, np.array(numbers, dtype=np.int64)
