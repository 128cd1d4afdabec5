"""What a training and a generation depend on, and the presets."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mien.errors import SpecError
from mien.faces import EMOTIONS
from mien.spec import Spec, Strict, nearest, read_spec

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[int, Field(ge=0)]


class NetSpec(Strict):
    """The shape of a U-Net.

    Level l works at 1 / (patch * 2**l) of the image's side with `width * multipliers[l]` channels.
    `attention` names levels, not sides: a side that no level has would switch attention off without
    a word.
    """

    width: int = Field(default=64, ge=4, le=1024)
    multipliers: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        default=(1, 2, 2, 2), min_length=1
    )
    blocks: int = Field(default=2, ge=1, le=16)  # a level, on the way down; one more on the way up
    patch: Literal[1, 2] = (
        1  # 2: four pixels become four channels, three times faster on a processor
    )
    attention: tuple[Level, ...] = (2,)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _attention_has_levels(self) -> "NetSpec":
        missing = [level for level in self.attention if level >= len(self.multipliers)]
        if missing:
            raise ValueError(
                f"attention must name levels among 0..{len(self.multipliers) - 1}, not {missing}"
            )
        return self

    @property
    def divisor(self) -> int:
        """What height and width of the images must be a multiple of."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


# Fields that only one kind reads; the other kind must leave them as they are, or a digest would
# name nothing.
ONLY_FOR = {"ddpm": ("steps", "beta_first", "beta_last"), "edm": ("p_mean", "p_std")}


Kind = Literal["ddpm", "edm", "gaussian", "copycat"]


class GeneratorSpec(Spec):
    """What the trainings of all generators have in common: `faces` is the run that is learnt
    from.
    """

    stage: ClassVar[str] = "generator"
    faces: str
    kind: Kind
    seed: int = 0


class CopycatSpec(GeneratorSpec):
    """A generator that learns by heart.

    Each copy is moved by up to `shift` pixels either way, with Gaussian noise of deviation `noise`,
    where 1 is the step from black to white. Nothing in the training is random, so `seed` stays 0.
    """

    kind: Literal["copycat"] = "copycat"  # pyright: ignore[reportIncompatibleVariableOverride]
    shift: int = Field(default=1, ge=0, le=16)
    noise: float = Field(default=0.05, ge=0)


class GaussianSpec(GeneratorSpec):
    """A mean and a covariance of pixels for each class."""

    kind: Literal["gaussian"] = "gaussian"  # pyright: ignore[reportIncompatibleVariableOverride]


class TrainSpec(GeneratorSpec):
    """The training of a diffusion model. Lengths are counted in images seen, shares are of the
    whole training.
    """

    kind: Literal["ddpm", "edm"] = "edm"  # pyright: ignore[reportIncompatibleVariableOverride]
    net: NetSpec = NetSpec()
    images_seen: int = Field(default=8_000_000, ge=1)
    batch: int = Field(default=128, ge=1, le=65_536)
    learning_rate: float = Field(default=3e-4, gt=0)
    warmup: Share = 0.02  # the learning rate rises from 0 over this share, stays,
    decay: Share = 0.4  # and falls to 0 over this one, the last
    ema: float = Field(
        default=0.1, ge=0, le=0.25
    )  # width of the average of the weights, as a share of training; 0 = none
    # each image half of the time from the other side; the network is told, so nothing leaks
    mirror: bool = True
    # the chance of each other change of an image (place, size, turn, light), which it is told too
    moves: Share = 0.0
    balance: float = Field(
        default=0.5, ge=0, le=1
    )  # g: an image of a class of n is drawn with weight n**-g
    clip_first: bool = True  # draw a clip, then its frame, so that long clips do not lead
    label_drop: float = Field(default=0.1, ge=0, lt=1)  # share of images shown without their label
    residual: bool = True  # learn the difference from the mean face
    held_out: float = Field(
        default=0.0, ge=0, le=0.5
    )  # share of subjects kept aside, to choose length and average by
    early: Share = (
        0.125  # the share of training after which a copy is kept, for guidance by it; 0 = none
    )
    precision: Literal["float32", "bf16", "fp16"] = (
        "float32"  # of the network's arithmetic in training, never after it
    )
    # on an NVIDIA card: algorithms that give the same bits each time, where there are some
    deterministic: bool = True
    p_mean: float = -1.2  # edm: ln sigma is normal with this mean
    p_std: float = Field(default=1.2, gt=0)  # and deviation
    steps: int = Field(default=1000, ge=2)  # ddpm: T
    beta_first: float = Field(default=1e-4, gt=0, lt=1)
    beta_last: float = Field(default=0.02, gt=0, lt=1)

    @model_validator(mode="after")
    def _own_fields(self) -> "TrainSpec":
        for kind, names in ONLY_FOR.items():
            given = [
                name
                for name in names
                if getattr(self, name) != type(self).model_fields[name].default
            ]
            if kind != self.kind and given:
                raise ValueError(
                    f"{', '.join(given)} must stand only with kind '{kind}', and the kind is "
                    f"'{self.kind}'"
                )
        return self

    @property
    def updates(self) -> int:
        """The number of steps of the optimiser."""
        return max(1, round(self.images_seen / self.batch))


SPECS: Mapping[str, type[GeneratorSpec]] = {
    "ddpm": TrainSpec, "edm": TrainSpec, "gaussian": GaussianSpec, "copycat": CopycatSpec,
}  # fmt: skip


def read_training(fields: Mapping[str, Any], where: str) -> GeneratorSpec:
    """Return the training that `fields` describe, of the kind that they name (edm if none); raises
    SpecError.
    """
    kind = fields.get("kind", "edm")
    if not isinstance(kind, str) or kind not in SPECS:
        raise SpecError(f"{where}: kind must be one of {', '.join(SPECS)}; given: {kind!r}")
    return read_spec(SPECS[kind], dict(fields), where)


SAMPLERS = ("dpmpp2m", "unipc", "heun", "euler", "ancestral")


class SamplerSpec(Spec):
    """How images are drawn from a trained generator.

    `steps` None is the sampler's own number: dpmpp2m and unipc 16, heun 18, euler 50, ancestral
    100, or all T (ddpm). `guidance` w > 1 pushes away from a worse prediction (D_worse + w (D -
    D_worse)) while sigma / sigma_data lies within [guidance_low, guidance_high]; 1 is none. The
    worse one is that without a label (`guide` label), or that of the same network early in its
    training (early). `clip_x0` keeps every prediction within the range of images. `variance` is
    that of the ancestral step: of the posterior, or beta. `direct` is for generators that draw an
    image in one go, and for them alone: nothing else applies to them.
    """

    stage: ClassVar[str] = "sampler"
    sampler: Literal["dpmpp2m", "unipc", "heun", "euler", "ancestral", "direct"] = "dpmpp2m"
    steps: int | None = Field(default=None, ge=1, le=100_000)
    guidance: float = Field(default=1.0, ge=1, le=100)
    guide: Literal["label", "early"] = "label"
    guidance_low: float = Field(default=0.4, ge=0)
    guidance_high: float = Field(default=3.0, gt=0)
    clip_x0: bool = True
    variance: Literal["posterior", "beta"] = "posterior"

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> "SamplerSpec":
        if self.variance != "posterior" and self.sampler != "ancestral":
            raise ValueError(
                f"variance must be left alone with the sampler '{self.sampler}': only ancestral "
                "adds noise"
            )
        if self.guide != "label" and self.guidance == 1:
            raise ValueError(
                f"guide '{self.guide}' must stand with a guidance above 1, and that is 1: none"
            )
        if self.sampler == "direct" and (self.steps is not None or self.guidance > 1):
            raise ValueError(
                "steps and guidance must be left alone with the sampler 'direct': it draws in one "
                "go"
            )
        return self


class GenerateSpec(SamplerSpec):
    """A generated database: `counts` images of each emotion from the generator of a run."""

    stage: ClassVar[str] = "generate"
    generator: str
    counts: dict[str, Annotated[int, Field(ge=1, le=10_000_000)]]
    seed: int = 0

    @field_validator("counts")
    @classmethod
    def _known_emotions(cls, counts: dict[str, int]) -> dict[str, int]:
        for name in counts:
            if name not in EMOTIONS:
                raise SpecError(f"there is no emotion '{name}'.{nearest(name, list(EMOTIONS))}")
        if not counts:
            raise SpecError("counts must name at least one emotion with a number of images")
        return counts


# 0.99 M weights. Levels of 24x24, 12x12 and 6x6 for faces of 48x48: the coarse third level costs
# next to nothing and makes expressions come out clearer than attention at 12x12 did, which cost a
# third of the speed.
NANO = {
    "width": 32,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "patch": 2,
    "attention": (2,),
    "dropout": 0.0,
}

# 6.1 M weights at half resolution: two cores show it a million faces in a night.
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
_SHORT = {"batch": 16, "learning_rate": 3e-3, "warmup": 0.03, "p_mean": -1.0}

# Where training is long enough to learn faces by heart: moves show each face in more ways, and
# people held out choose the length. Short trainings stop long before that, and need all the people
# and all the plain looks they can get.
_LONG = {"held_out": 0.1, "moves": 0.15}

# 8.5 M weights at full resolution.
BASE = {"kind": "edm", "images_seen": 8_000_000, "precision": "bf16", **_LONG}

# By budget. Speeds are of 48x48 grey faces on processor cores with AVX-512; docs/benchmarks.md has
# all, and memory.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # For tests and the demo. A core takes in 85 images a second in training, so 3 to 4 minutes on
    # two free cores and 6 on one, and draws 15 a second. On 2,233 apex frames of drawn faces: clean
    # faces, just over half of them with the expression asked for (0.54 by a classifier that knows
    # all subjects; chance 0.14), 0.65 with guidance 3.
    "smoke": {"kind": "edm", "net": NANO, "images_seen": 45_000, **_SHORT},
    # Processor minutes, for a first look at real data: the same network, trained 2.5 times as long,
    # 8 minutes on two free cores.
    "nano": {"kind": "edm", "net": {**NANO, "dropout": 0.05}, "images_seen": 80_000, **_SHORT},
    # A processor's night: two cores were measured at 33 images a second beside other work, so 6 to
    # 9 hours. Its quality is not yet measured.
    "tiny": {
        "kind": "edm",
        "net": TINY,
        "images_seen": 1_000_000,
        "batch": 32,
        "learning_rate": 1e-3,
        **_LONG,
    },
    # A card of 6 GB, overnight, for databases. About 8 hours are expected on a laptop's, 20 minutes
    # on a data centre's (estimates from the arithmetic, not measured); two busy cores see 9 images
    # a second, so that it would take 10 days. Quality at this length is not yet measured.
    "base": BASE,
    "default": BASE,
    # One card of a data centre, for an evening: six times the arithmetic of `base` for each image.
    # Not yet measured.
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
    # weights) or from `base` (network, batch, length), so training costs as much. To draw an image
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
    # Floors, for comparison: what no notion of a face reaches, and what copies do.
    "gaussian": {"kind": "gaussian"},
    "copycat": {"kind": "copycat"},
}
