"""Presets: settings of a training by budget, and how one is changed."""

import math
from collections.abc import Mapping
from typing import Any

from mien.errors import SpecError
from mien.generators.specs import (
    KIND_FACTS,
    GeneratorSpec,
    MotionSpec,
    NetSpec,
    OnePassSpec,
    SteppedSpec,
    TrainSpec,
    read_training,
)
from mien.runs.spec import Strict, suggest


def read_preset(
    name: str,
    faces: str,
    settings: Mapping[str, Any] | None = None,
    size: tuple[int, int, int] | None = None,
) -> GeneratorSpec:
    """Return the spec of a preset for a training on the run `faces`.

    `settings` replace single fields, also nested ones. `size` is that of the images (c, h, w), to
    which the preset is fitted (see `fit_to_size`); None means 48x48. Raises SpecError for an
    unknown preset and for a setting that is not valid.
    """
    # What no preset can do
    if not isinstance(name, str) or name not in PRESETS:  # a study file may hold anything
        raise SpecError(
            f"there is no preset '{name}'.{suggest(str(name), list(PRESETS))} The presets are "
            f"{', '.join(PRESETS)}"
        )
    if (settings or {}).get("kind") in [
        kind for kind, facts in KIND_FACTS.items() if facts.distilled
    ]:
        raise SpecError(
            "a student is made from a trained generator; use `mien distill GENERATOR` instead"
        )
    kind = (settings or {}).get("kind", PRESETS[name]["kind"])
    if (settings or {}).get("condition") and not _takes_units(kind):
        raise SpecError(
            "condition applies to diffusion models, which the presets "
            f"{', '.join(name for name in PRESETS if _takes_units(PRESETS[name]['kind']))} train; "
            f"a {kind} generator is conditioned on the emotion only. Omit action_units"
        )

    # The preset, with the settings in it
    fields = dict(PRESETS[name]) | {"faces": faces}
    if size is not None and kind == PRESETS[name]["kind"]:
        fields |= fit_to_size(PRESETS[name], size)
    for key, value in (settings or {}).items():
        old = fields.get(key)
        fields[key] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return read_training(fields, f"preset {name}")


def fit_to_size(preset: Mapping[str, Any], size: tuple[int, int, int]) -> dict[str, Any]:
    """Return the fields of a preset that differ for images of `size` (c, h, w).

    For images of about twice the size the network gets one more level, at the higher resolution,
    with half as many channels. Its coarser levels, and attention, work at the same resolutions as
    those of the preset, and all levels cost about as much as each other. A level is added only
    where the sides of the images are multiples of what the network then needs.
    """
    facts = KIND_FACTS[preset["kind"]]
    defaults = {name: field.default for name, field in facts.spec.model_fields.items()}
    if not isinstance(defaults.get("net"), Strict):
        return {}

    # How often the size doubles, as far as the sides allow it
    net = type(defaults["net"]).model_validate(preset.get("net", {}))
    _, height, width = size
    doublings = max(0, round(math.log2(max(height, width) / PRESET_SIDE)))
    while doublings and (height % (net.divisor << doublings) or width % (net.divisor << doublings)):
        doublings -= 1
    if not doublings:
        return {}

    # The network
    finer = [2**level for level in range(doublings)]
    fields = {
        **preset.get("net", {}),
        "width": max(4, net.width >> doublings),
        "multipliers": (*finer, *(factor << doublings for factor in net.multipliers)),
    }
    if isinstance(net, NetSpec):
        fields["attention"] = tuple(level + doublings for level in net.attention)
    return {"net": fields}


def _takes_units(kind: object) -> bool:
    """Return whether a kind of generator is a diffusion model, which action units can condition."""
    facts = KIND_FACTS.get(kind) if isinstance(kind, str) else None
    return facts is not None and issubclass(facts.spec, TrainSpec | MotionSpec)


def read_condition(text: str) -> dict[str, Any]:
    """Return the setting that a text such as `emotion,action_units` asks for; it may be empty.

    Raises SpecError for another text.
    """
    names = [name.strip() for name in text.split(",")]
    if "emotion" not in names or set(names) - {"emotion", "action_units"}:
        raise SpecError(
            f"--condition must be emotion or emotion,action_units; given: '{text[:100]}'"
        )
    return {"condition": names} if len(names) > 1 else {}


PRESET_SIDE = 48  # pixels per side of the images for which presets are written

# 0.99 M weights. Levels of 24x24, 12x12 and 6x6 for faces of 48x48: the coarse third level costs
# almost nothing and gives clearer expressions than attention at 12x12, which cost a third of the
# speed.
NANO = {
    "width": 32,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "patch": 2,
    "attention": (2,),
    "dropout": 0.0,
}

# 6.1 M weights at half resolution: two CPU cores show it a million faces in a night.
TINY = {
    "width": 64,
    "multipliers": (1, 2, 2),
    "blocks": 2,
    "patch": 2,
    "attention": (2,),
    "dropout": 0.1,
}

# 48 M weights at full resolution, with attention at 24x24 and 12x12 for faces of 48x48.
LARGE = {
    "width": 128,
    "multipliers": (1, 2, 2, 2),
    "blocks": 3,
    "attention": (1, 2),
    "dropout": 0.2,
}

# Small batches, where training is short: 16,000 images in batches of 16 brought the loss to 0.23,
# of 64 to 0.33.
# The offsets of the classes are given to the network, and Muon trains its convolutions: after
# 30,000 images 0.83 of drawn faces show the expression that was asked for, 0.58 without the two.
_SHORT = {
    "batch": 16,
    "learning_rate": 3e-3,
    "warmup": 0.03,
    "p_mean": -1.0,
    "class_offsets": True,
    "muon": 0.02,
}

# For trainings long enough to memorise faces: augmentations show each face in more ways, and
# held-out people choose the length. Short trainings stop long before that, and do better with all
# people and without augmentation.
_LONG = {"held_out": 0.1, "moves": 0.15}

# 8.5 M weights at full resolution.
BASE = {"kind": "edm", "images_seen": 8_000_000, "precision": "bf16", **_LONG}

# Ordered by budget. Speeds are for 48x48 grey faces on CPU cores with AVX-512; docs/benchmarks.md
# has all of them, and the memory.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # For tests and the demo. A core takes in 85 images a second in training, so 3 to 4 minutes on
    # two free cores and 6 on one, and draws 15 a second.
    "smoke": {"kind": "edm", "net": NANO, "images_seen": 45_000, **_SHORT},
    # CPU minutes, for a first look at real data: the same network, trained nearly twice as long, 8
    # minutes on two free cores. Of 700 drawn faces 0.92 show the expression asked for, without
    # guidance, and 0.95 with guidance 1.5 (by judges that know all subjects; chance 0.14).
    "nano": {"kind": "edm", "net": {**NANO, "dropout": 0.05}, "images_seen": 80_000, **_SHORT},
    # The same network and training as a rectified flow. Its t is logit-normal with mean -1 and
    # deviation 1.2: that of Esser et al. 2024 is for data of unit variance, and faces have a third.
    "rectified": {
        "kind": "rectified",
        "net": {**NANO, "dropout": 0.05},
        "images_seen": 80_000,
        **_SHORT,
    },
    # A night on a CPU: two cores, which other programs used as well, were measured at 33 images a
    # second, so it takes 6 to 9 hours, and a quarter less with `--set precision=bf16` where the
    # processor has products of bf16 (equal losses after 4,000 images). Its quality is not yet
    # measured.
    "tiny": {
        "kind": "edm",
        "net": TINY,
        "images_seen": 1_000_000,
        "batch": 32,
        "learning_rate": 1e-3,
        **_LONG,
    },
    # A night on a GPU with 6 GB, for databases. About 8 hours are expected on a laptop GPU, 20
    # minutes on a data-centre GPU (estimates from the arithmetic, not measured); two busy CPU cores
    # process 9 images a second, so it would take 10 days. Quality at this length is not measured.
    "base": BASE,
    "default": BASE,
    # An evening on one data-centre GPU: six times the arithmetic of `base` per image. Not yet
    # measured.
    "large": {
        "kind": "edm",
        "net": LARGE,
        "images_seen": 10_000_000,
        "batch": 512,
        "precision": "bf16",
        **_LONG,
    },
    # The preprint's Section 2.4 as printed: noise prediction, T = 1000, L_simple, nothing added.
    # What it leaves open is taken from Ho et al. 2020 (T, beta, learning rate, an average of the
    # weights) or from `base` (network, batch, length), so training costs as much. Drawing an image
    # takes 1000 calls of the network instead of 16.
    "paper": {
        "kind": "ddpm",
        "net": {"dropout": 0.0},
        "images_seen": 8_000_000,
        "learning_rate": 2e-4,
        "decay": 0.0,
        "ema": 0.05,
        "mirror": False,
        "balance": 0.0,
        "clip_first": False,
        "label_drop": 0.0,
        "residual": False,
        "early": 0.0,
    },
    # CPU minutes: generators that make an image in one pass, and a thousand in a second, with 0.6 M
    # weights (and 0.4 M that only the training needs). One core trains them in 7 to 10 minutes;
    # docs/benchmarks.md compares the families.
    "vae": {"kind": "vae", "images_seen": 100_000},
    "gan": {"kind": "gan", "images_seen": 60_000},
    "imle": {"kind": "imle", "images_seen": 150_000},
    # CPU minutes: clips of movement, by two networks of the size of `nano`, which share the images
    # seen.
    "motion": {"kind": "motion", "net": {**NANO, "dropout": 0.05}, "images_seen": 80_000, **_SHORT},
    # Baselines for comparison: what is possible without a model of a face, and with copies.
    **{
        name: {"kind": name}
        for name, facts in KIND_FACTS.items()
        if not issubclass(facts.spec, SteppedSpec) and not facts.distilled
    },
}

# Images per second and core in training, measured on two cores for 48x48 grey faces; `smoke` has
# the network of `nano`, and `paper` that of `base` (docs/benchmarks.md)
CPU_SPEEDS = {
    "nano": 75.0,
    "tiny": 17.0,
    "base": 4.4,
    "large": 0.3,
    "vae": 225.0,
    "gan": 90.0,
    "imle": 340.0,
}
MEASURED_PIXELS = PRESET_SIDE**2

# An image of 96x96 takes about so many times as long as one of 48x48: less than four times, because
# the finer level of a fitted network has few channels
FITTED_COST = 1.5


def estimate_cpu_seconds(
    spec: GeneratorSpec, size: tuple[int, int, int], cores: int
) -> float | None:
    """Return about how many seconds a training takes on so many cores of a CPU.

    `size` is that of the images (c, h, w). The speed is that of the preset with the same network;
    where there is none, the time is None.
    """
    if not isinstance(spec, SteppedSpec):
        return None
    network, pixels = _find_network(spec), size[1] * size[2] / MEASURED_PIXELS
    for name, speed in CPU_SPEEDS.items() if network is not None else ():
        fitted = fit_to_size(PRESETS[name], size)
        if network == _find_network(read_preset(name, spec.faces)):
            return spec.images_seen * pixels / (speed * cores)
        if fitted and network == _find_network(read_preset(name, spec.faces, None, size)):
            return spec.images_seen * pixels * FITTED_COST / 4 / (speed * cores)
    return None


def _find_network(spec: GeneratorSpec) -> tuple[str, Strict] | None:
    """Return what the speed of a training depends on: its sort and its network; or None."""
    if isinstance(spec, TrainSpec):
        # Dropout hardly changes the speed
        return "diffusion", spec.net.model_copy(update={"dropout": 0.0})
    if isinstance(spec, MotionSpec):
        return "diffusion", spec.net.model_copy(update={"dropout": 0.0})
    return (spec.kind, spec.net) if isinstance(spec, OnePassSpec) else None
