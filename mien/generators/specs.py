"""The specs of trainings, samplers and generated databases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mien.errors import DataError, SpecError, UsageError
from mien.faces import EMOTIONS
from mien.generators.sampler_table import SAMPLERS, list_noisy_samplers
from mien.runs.spec import Spec, Strict, is_unset, read_spec, suggest

Share = Annotated[float, Field(ge=0, le=1)]

Depth = Annotated[int, Field(ge=0)]

MOST_INTENSITY = 10
Intensity = Annotated[float, Field(ge=0, le=MOST_INTENSITY)]

DEFAULT_FPS = 200.0  # frames a second of generated clips, those of CASME II

PER_PERSON = 2  # clips of each emotion that a synthetic person shows by default
Condition = Literal["emotion", "action_units"]

AUTO_STEPS = 6  # of `--steps auto`

MAX_STUDENT_STEPS = 4  # in which a student can draw


if TYPE_CHECKING:
    SamplerName = str
else:  # pydantic checks the names
    SamplerName = Literal[(*SAMPLERS, "direct")]


class NetSpec(Strict):
    """The shape of a U-Net.

    Level l works at 1 / (patch * 2**l) of the resolution with `width * multipliers[l]` channels.
    `attention` names levels, not resolutions: a resolution that no level has would silently switch
    attention off.
    """

    width: int = Field(default=64, ge=4, le=1024)
    multipliers: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        default=(1, 2, 2, 2), min_length=1
    )
    blocks: int = Field(default=2, ge=1, le=16)  # per level on the way down; one more on the way up
    patch: Literal[1, 2] = 1  # 2: four pixels become four channels, three times faster on a CPU
    attention: tuple[Depth, ...] = (2,)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _require_attention_levels(self) -> "NetSpec":
        missing = [level for level in self.attention if level >= len(self.multipliers)]
        if missing:
            raise ValueError(
                f"attention must name levels among 0..{len(self.multipliers) - 1}, not {missing}"
            )
        return self

    @property
    def divisor(self) -> int:
        """The number that height and width of the images must be a multiple of."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class GeneratorSpec(Spec):
    """The fields that the trainings of all generators share; `faces` is the run to train on."""

    stage: ClassVar[str] = "generator"
    faces: str
    kind: str
    seed: int = 0

    @field_validator("kind")
    @classmethod
    def _require_own_kind(cls, kind: str) -> str:
        own_kinds = [name for name, facts in KIND_FACTS.items() if issubclass(facts.spec, cls)]
        if kind not in own_kinds:
            expected = " or ".join(f"'{name}'" for name in own_kinds)
            raise PydanticCustomError(
                "literal_error", "Input should be {expected}", {"expected": expected}
            )
        return kind


class CopycatSpec(GeneratorSpec):
    """A generator that memorises its images.

    Each copy is shifted by up to `shift` pixels in each direction, with Gaussian noise of standard
    deviation `noise`, where 1 is the step from black to white. Its training is not random, so
    `seed` stays 0.
    """

    kind: str = "copycat"
    shift: int = Field(default=1, ge=0, le=16)
    noise: float = Field(default=0.05, ge=0)


class GaussianSpec(GeneratorSpec):
    """A mean and a covariance of pixels for each class."""

    kind: str = "gaussian"


class SteppedSpec(GeneratorSpec):
    """The training of a network in steps: each step shows it a batch of images.

    Lengths are counted in images seen; shares are shares of the whole training.
    """

    images_seen: int = Field(default=8_000_000, ge=1)
    batch: int = Field(default=128, ge=1, le=65_536)

    @property
    def updates(self) -> int:
        """The number of optimiser steps."""
        return max(1, round(self.images_seen / self.batch))


def _require_emotion(condition: tuple[Condition, ...] | None) -> tuple[Condition, ...] | None:
    """Return a condition in its usual order, None if it is the emotion alone.

    Raises ValueError if it lacks the emotion.
    """
    if condition is None or set(condition) == {"emotion"}:
        return None
    if "emotion" not in condition:
        raise ValueError("condition must name emotion, which every image of a database has")
    return ("emotion", "action_units")


class TrainSpec(SteppedSpec):
    """The training of a diffusion model.

    `condition` is what the network is conditioned on beside the noise: None means the emotion.
    """

    kind: str = "edm"
    net: NetSpec = NetSpec()
    condition: tuple[Condition, ...] | None = Field(default=None, exclude_if=is_unset)
    learning_rate: float = Field(default=3e-4, gt=0)
    # Learning rate of Muon, for the weights of 3x3 convolutions; None means Adam for all weights
    muon: float | None = Field(default=None, gt=0, le=1, exclude_if=is_unset)
    # The learning rate rises linearly from 0 over the first share, stays, and falls to 0 over the
    # last share
    warmup: Share = 0.02
    decay: Share = 0.4
    # Width of the average of the weights, as a share of the training; 0 means no average
    ema: float = Field(default=0.1, ge=0, le=0.25)
    # Mirror each image with probability 1/2; an input of the network, so it does not leak
    mirror: bool = True
    # Probability of each other augmentation (position, size, rotation, light), also an input
    moves: Share = 0.0
    # g: an image of a class of n images is drawn with weight n**-g
    balance: float = Field(default=0.5, ge=0, le=1)
    clip_first: bool = True  # draw a clip, then one of its frames: long clips do not dominate
    label_drop: float = Field(default=0.1, ge=0, lt=1)  # share of images shown without their label
    residual: bool = True  # learn the difference from the mean face
    # Learn the difference from the mean face of the class (see diffusion/centre.py)
    class_offsets: bool = Field(default=False, exclude_if=is_unset)
    # Share of subjects that are held out, to choose the length and the average
    held_out: float = Field(default=0.0, ge=0, le=0.5)
    # Share of the training after which a copy is kept for autoguidance; 0 means no copy
    early: Share = 0.125
    # Of the arithmetic of the network in training; sampling always uses float32
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    # On an NVIDIA GPU: use deterministic algorithms where they exist
    deterministic: bool = True
    # edm and rectified: ln sigma, which is the logit of t, is normal with this mean and deviation
    p_mean: float = -1.2
    p_std: float = Field(default=1.2, gt=0)
    steps: int = Field(default=1000, ge=2)  # ddpm: T
    beta_first: float = Field(default=1e-4, gt=0, lt=1)
    beta_last: float = Field(default=0.02, gt=0, lt=1)

    @field_validator("condition")
    @classmethod
    def _order_condition(
        cls, condition: tuple[Condition, ...] | None
    ) -> tuple[Condition, ...] | None:
        return _require_emotion(condition)

    @property
    def takes_units(self) -> bool:
        """Whether the network is conditioned on action units."""
        return "action_units" in (self.condition or ())

    @model_validator(mode="after")
    def _refuse_unused_fields(self) -> "TrainSpec":
        # Fields of other kinds keep their defaults
        used = KIND_FACTS[self.kind].own_fields
        for facts in KIND_FACTS.values():
            changed = [
                name
                for name in facts.own_fields
                if name not in used and getattr(self, name) != type(self).model_fields[name].default
            ]
            if changed:
                kinds = [
                    f"'{kind}'"
                    for kind, other in KIND_FACTS.items()
                    if changed[0] in other.own_fields
                ]
                raise ValueError(
                    f"{', '.join(changed)} applies only to kind {' and '.join(kinds)}, and the "
                    f"kind is '{self.kind}'; remove it"
                )

        # Offsets need something that they are offsets from
        if self.class_offsets and not self.residual:
            raise ValueError(
                "class_offsets are offsets from the mean face, and need residual = true; remove one"
            )
        return self


class DecoderNetSpec(Strict):
    """The shape of a decoder, from `latent` numbers to an image, and of the network opposite to it.

    Level l works at 1 / (patch * 2**l) of the resolution with `width * multipliers[l]` channels and
    `blocks` blocks.
    """

    width: int = Field(default=32, ge=4, le=1024)
    multipliers: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        default=(1, 2, 4), min_length=1
    )
    blocks: int = Field(default=1, ge=1, le=16)
    patch: Literal[1, 2] = 2  # 2: four pixels become four channels, faster on a CPU
    latent: int = Field(default=64, ge=2, le=4096)

    @property
    def divisor(self) -> int:
        """The number that height and width of the images must be a multiple of."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class OnePassSpec(SteppedSpec):
    """The training of a network that makes an image in one pass, from random numbers and a label.

    Each kind of such a network has fields of its own, in a subclass.
    """

    net: DecoderNetSpec = DecoderNetSpec()
    images_seen: int = Field(default=200_000, ge=1)
    batch: int = Field(default=32, ge=1, le=65_536)
    learning_rate: float = Field(default=1e-3, gt=0)
    # The learning rate rises linearly from 0 over the first share, stays, and falls to 0 over the
    # last share
    warmup: Share = 0.02
    decay: Share = 0.4
    # Width of the average of the weights, as a share of the training; 0 means no average
    ema: float = Field(default=0.1, ge=0, le=0.25)
    # g: an image of a class of n images is drawn with weight n**-g
    balance: float = Field(default=0.5, ge=0, le=1)
    clip_first: bool = True  # draw a clip, then one of its frames: long clips do not dominate
    # On an NVIDIA GPU: use deterministic algorithms where they exist
    deterministic: bool = True


class VaeSpec(OnePassSpec):
    """The training of a variational autoencoder, and of the density of its latent numbers."""

    kind: str = "vae"
    # Mirror each image with probability 1/2; an input of both networks, so it does not leak
    mirror: bool = True
    # Probability of each other augmentation (position, size, rotation, light), also an input
    moves: Share = 0.0
    # The weight of the divergence from the standard normal distribution: beta / 2 is the variance
    # of the noise that the decoder may leave, as a share of the variance of all pixels
    beta: float = Field(default=0.05, ge=0)
    # Nats that each group of four latent numbers may carry free of charge
    free_bits: float = Field(default=0.25, ge=0)
    edges: float = Field(default=0.1, ge=0)  # weight of the difference of gradients
    # The most components of the Gaussian mixture of a class, and the fewest clips that each of them
    # must describe, so that no component stands for a single face
    components: int = Field(default=4, ge=1, le=64)
    least_clips: int = Field(default=12, ge=2)
    # How many images the covariance of all classes counts for in that of a component
    prior: float = Field(default=50.0, gt=0)
    # Factor of all deviations from the means of the mixture in drawing
    temperature: float = Field(default=1.0, gt=0, le=2)


class GanSpec(OnePassSpec):
    """The training of a generator against a critic (a generative adversarial network)."""

    kind: str = "gan"
    batch: int = Field(default=16, ge=1, le=65_536)
    learning_rate: float = Field(default=2e-4, gt=0)
    # The weight of the penalties on the critic's gradients, at the start and at the end
    gamma: float = Field(default=1.0, ge=0)
    gamma_last: float = Field(default=0.1, ge=0)
    # The critic sees real and generated images after the same kinds of augmentation: mirrored with
    # probability 1/2, and each other one with a probability that rises from 0 to `moves`
    mirror: bool = True
    moves: Share = 0.3
    # Shares of the training between which the classes come into play
    classes_from: Share = 0.1
    classes_until: Share = 0.3

    @model_validator(mode="after")
    def _require_rising_classes(self) -> "GanSpec":
        if self.classes_until < self.classes_from:
            raise ValueError(
                f"classes_until must be classes_from or more, which is {self.classes_from:g}; "
                f"given: {self.classes_until:g}"
            )
        return self


class ImleSpec(OnePassSpec):
    """The training of a decoder whose images approach every training image.

    The training goes in rounds: `matched` images are matched with draws, and shown `repeats` times.
    """

    kind: str = "imle"
    matched: int = Field(default=512, ge=1, le=1_000_000)
    pool: int = Field(default=4, ge=1, le=1000)  # draws for each matched image
    repeats: int = Field(default=4, ge=1, le=1000)
    # Draws whose distance to a training image is less are not matched; 1 is the distance of an
    # image from the mean face
    epsilon: float = Field(default=0.1, ge=0)
    blurred: float = Field(default=1.0, ge=0)  # weight of blurred images in the distance


class MotionSpec(SteppedSpec):
    """The training of a generator of movement: from a neutral face to the apex of an expression.

    `form` is what a network draws: the difference between apex and onset, given the neutral face
    that another network has drawn (difference); both at once (joint); or `moments` moments of a
    clip (frames). The other fields have the meaning that they have in TrainSpec.
    """

    kind: str = "motion"
    form: Literal["difference", "joint", "frames"] = "difference"
    moments: int | None = Field(default=None, ge=3, le=64, validate_default=True)
    fps: float = Field(default=200.0, gt=0, le=10_000)  # frames a second of the training clips
    # Share of the images seen that the network of neutral faces sees, with the form difference
    neutral: float = Field(default=0.4, gt=0, lt=1)
    net: NetSpec = NetSpec()
    condition: tuple[Condition, ...] | None = Field(default=None, exclude_if=is_unset)
    learning_rate: float = Field(default=3e-4, gt=0)
    muon: float | None = Field(default=None, gt=0, le=1, exclude_if=is_unset)
    warmup: Share = 0.02
    decay: Share = 0.4
    ema: float = Field(default=0.1, ge=0, le=0.25)
    mirror: bool = True
    balance: float = Field(default=0.5, ge=0, le=1)
    label_drop: float = Field(default=0.1, ge=0, lt=1)
    class_offsets: bool = True
    p_mean: float = -1.2
    p_std: float = Field(default=1.2, gt=0)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    deterministic: bool = True

    @field_validator("condition")
    @classmethod
    def _order_condition(
        cls, condition: tuple[Condition, ...] | None
    ) -> tuple[Condition, ...] | None:
        return _require_emotion(condition)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_moments(cls, fields: Any) -> Any:
        # Only the form frames has moments
        if isinstance(fields, dict) and fields.get("form") == "frames":
            return {**fields, "moments": fields.get("moments") or 8}
        return fields

    @model_validator(mode="after")
    def _refuse_unused_fields(self) -> "MotionSpec":
        if self.moments is not None and self.form != "frames":
            raise ValueError(
                f"moments applies only to form 'frames', and the form is '{self.form}'; remove it"
            )
        if self.form != "difference" and self.neutral != type(self).model_fields["neutral"].default:
            raise ValueError(
                "neutral applies only to form 'difference', in which a network of its own draws "
                f"neutral faces, and the form is '{self.form}'; remove it"
            )
        return self

    def make_trainings(self) -> dict[str, TrainSpec]:
        """Return the training of each network: neutral, if there is one, and movement."""
        shared = set(TrainSpec.model_fields) & set(type(self).model_fields) - {"kind", "version"}
        fields = self.model_dump(include=shared)
        plain = {**fields, "clip_first": False, "early": 0.0}
        if self.form != "difference":
            return {"movement": TrainSpec(**plain)}
        still = max(self.batch, round(self.neutral * self.images_seen))
        moving = max(self.batch, self.images_seen - still)
        neutral = {**plain, "images_seen": still, "class_offsets": False, "condition": None}
        return {
            "neutral": TrainSpec(**neutral),
            "movement": TrainSpec(**{**plain, "images_seen": moving}),
        }


class PastedSpec(GeneratorSpec):
    """A generator that pastes real movements on the faces of other training people.

    `of` says whether they are of the class that is asked for (same), or of other classes (other),
    whose clips then have a wrong label. `fps` are the frames a second of the training clips. Its
    training is not random, so `seed` stays 0.
    """

    kind: str = "pasted"
    of: Literal["same", "other"] = "same"
    fps: float = Field(default=200.0, gt=0, le=10_000)


class StudentSpec(GeneratorSpec):
    """The distillation of a generator, the teacher, into a student that draws in 1 to 4 steps.

    `faces` are those that the teacher was trained on. The teacher draws `images` images, with
    `sampler` in `teacher_steps` steps (None: its default) and with guidance as in SamplerSpec. The
    student learns to draw the same images from the same noise: `images_seen` of them, in batches of
    `batch`. `steps` is the number in which it draws unless told otherwise.
    """

    kind: str = "student"
    teacher: str
    steps: int = Field(default=2, ge=1, le=MAX_STUDENT_STEPS)
    sampler: SamplerName = "dpmpp2m"
    teacher_steps: int | None = Field(default=None, ge=1, le=100_000)
    guidance: float = Field(default=2.0, ge=1, le=100)
    guide: Literal["label", "early"] = "label"
    images: int = Field(default=4096, ge=2)
    images_seen: int = Field(default=32_000, ge=1)
    batch: int = Field(default=32, ge=1, le=65_536)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: Share = 0.05
    decay: Share = 0.5
    ema: float = Field(default=0.1, ge=0, le=0.25)

    def make_sampler(self) -> "SamplerSpec":
        """Return how the teacher draws; raises SpecError if its settings exclude each other."""
        fields = {
            "sampler": self.sampler,
            "steps": self.teacher_steps,
            "guidance": self.guidance,
            "guide": self.guide if self.guidance > 1 else "label",
        }
        return read_spec(SamplerSpec, fields, "distill")


def read_training(fields: Mapping[str, Any], where: str) -> GeneratorSpec:
    """Return the spec that `fields` describe, of the kind that they name; the default is
    edm.

    Raises SpecError if the kind is unknown or a field is not valid.
    """
    kind = fields.get("kind", "edm")
    if not isinstance(kind, str) or kind not in KIND_FACTS:
        raise SpecError(f"{where}: kind must be one of {', '.join(KIND_FACTS)}; given: {kind!r}")
    return read_spec(KIND_FACTS[kind].spec, dict(fields), where)


class OrderedUnit(Strict):
    """An action unit that images are to show, from 0 (not at all) to 1; None: as in training."""

    number: int = Field(ge=1, le=99)
    side: Literal["", "left", "right", "asymmetric", "top", "bottom"] = ""
    strength: float | None = Field(default=None, ge=0, le=1)


class SamplerSpec(Spec):
    """How images are drawn from a trained generator.

    `steps` None is the default number of the sampler (see SAMPLERS), or all T for the ancestral
    sampler of a ddpm. `levels` are the noise levels at which the steps begin, from the highest to
    the lowest; a text is the run that has found them (see LevelsSpec), None the levels of Karras et
    al. 2022. `guidance` w > 1 pushes away from a worse prediction (D_worse + w (D -
    D_worse)) while sigma / sigma_data is within [guidance_low, guidance_high]; 1 switches guidance
    off. The worse prediction is that without a label (`guide` label), or that of the same network
    early in its training (`guide` early). `clip_x0` clips every prediction to the range of images.
    `variance` is that of the noise which a step adds: posterior or beta. The sampler `direct` is
    for generators that draw an image in one step, and the other fields do not apply to it. `units`
    are the action units that all images show; None are those of training images of their class.
    """

    stage: ClassVar[str] = "sampler"
    sampler: SamplerName = "dpmpp2m"
    steps: int | None = Field(default=None, ge=1, le=100_000)
    guidance: float = Field(default=1.0, ge=1, le=100)
    guide: Literal["label", "early"] = "label"
    guidance_low: float = Field(default=0.4, ge=0)
    guidance_high: float = Field(default=3.0, gt=0)
    clip_x0: bool = True
    variance: Literal["posterior", "beta"] = "posterior"
    # Omitted where it is not given, as in the specs of all databases before this field
    levels: str | tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, exclude_if=is_unset
    )
    units: tuple[OrderedUnit, ...] | None = Field(default=None, exclude_if=is_unset)

    @model_validator(mode="after")
    def _require_falling_levels(self) -> "SamplerSpec":
        if not self.levels or self.sampler == "direct":
            return self
        if SAMPLERS[self.sampler].adds_noise:
            raise ValueError(
                f"levels do not apply to the sampler '{self.sampler}', which has its own; remove "
                "them, or choose another sampler"
            )
        if isinstance(self.levels, str):
            if self.steps is None:
                raise ValueError("steps must be given with levels; give the number of levels")
            return self
        if self.steps != len(self.levels):
            raise ValueError(
                f"steps must be the number of levels, which is {len(self.levels)}; given: "
                f"{self.steps}"
            )
        if any(after >= before for before, after in pairwise(self.levels)):
            raise ValueError("levels must fall; order them from the highest to the lowest")
        return self

    @model_validator(mode="after")
    def _refuse_unused_options(self) -> "SamplerSpec":
        noisy = list_noisy_samplers()
        if self.variance != "posterior" and self.sampler not in noisy:
            raise ValueError(
                f"variance does not apply to the sampler '{self.sampler}', because only "
                f"{' and '.join(noisy)} adds noise; remove it"
            )
        if self.guide != "label" and self.guidance == 1:
            raise ValueError(
                f"guide '{self.guide}' needs guidance above 1; guidance is 1, which means off"
            )
        if self.sampler == "direct" and (self.steps is not None or self.guidance > 1):
            raise ValueError(
                "steps and guidance do not apply to the sampler 'direct', which draws in one "
                "step; remove them"
            )
        return self


class GenerateSpec(SamplerSpec):
    """A generated database: `counts` images of each emotion from the generator of a run.

    Every second image of each emotion, the one with number 1, 3, ... from 0, has `guidance_mix` in
    place of `guidance`, if it is given.

    A generator of movement draws clips, and `counts` are theirs. `per_person` of each emotion show
    one synthetic person. The movement of each is multiplied by a number within the limits of
    `intensity`; where there are none, by 1.
    """

    stage: ClassVar[str] = "generate"
    generator: str
    counts: dict[str, Annotated[int, Field(ge=1, le=10_000_000)]]
    seed: int = 0
    # Omitted where it is not given, as in the specs of all databases before this field
    guidance_mix: float | None = Field(default=None, ge=1, le=100, exclude_if=is_unset)
    # Of clips, each of which is rendered at `fps` frames a second; omitted for single images
    fps: float | None = Field(default=None, gt=0, le=10_000, exclude_if=is_unset)
    intensity: tuple[Intensity, Intensity] | None = Field(default=None, exclude_if=is_unset)
    per_person: int | None = Field(default=None, ge=1, exclude_if=is_unset)

    @model_validator(mode="after")
    def _require_clips(self) -> "GenerateSpec":
        # Options of clips, and of no other images
        if self.fps is None and (self.intensity or self.per_person):
            raise ValueError(
                "intensity and per_person need a generator of movement, which draws clips; remove "
                "them"
            )
        if self.intensity is not None and self.intensity[0] > self.intensity[1]:
            raise ValueError(
                "the first limit of intensity must be the lower one; given: "
                f"{self.intensity[0]:g}..{self.intensity[1]:g}"
            )
        if self.fps is not None and self.guidance_mix is not None:
            raise ValueError("guidance_mix does not apply to clips; remove it")
        return self

    @model_validator(mode="after")
    def _require_two_guidances(self) -> "GenerateSpec":
        if self.guidance_mix is not None and self.sampler == "direct":
            raise ValueError(
                "guidance_mix does not apply to the sampler 'direct', which draws in one step; "
                "remove it"
            )
        if self.guidance_mix == self.guidance:
            raise ValueError(
                f"guidance_mix must differ from guidance, which is {self.guidance:g}; change one, "
                "or remove guidance_mix"
            )
        return self

    @field_validator("counts")
    @classmethod
    def _require_known_emotions(cls, counts: dict[str, int]) -> dict[str, int]:
        for name in counts:
            if name not in EMOTIONS:
                raise SpecError(f"there is no emotion '{name}'.{suggest(name, list(EMOTIONS))}")
        if not counts:
            raise SpecError("counts must name at least one emotion with a number of images")
        return counts


class LevelsSpec(Spec):
    """A search for noise levels with which a trained generator draws well in `steps` steps.

    The fields of SamplerSpec say how images are drawn. Levels are chosen among `fine` ones by the
    errors of single steps in `walks` images, and then compared with the levels of Karras et al.
    2022 by `images` images of each.
    """

    stage: ClassVar[str] = "levels"
    generator: str
    sampler: SamplerName
    steps: int = Field(ge=1, le=40)
    guidance: float
    guide: Literal["label", "early"]
    guidance_low: float
    guidance_high: float
    clip_x0: bool
    fine: int = Field(default=60, ge=41)
    walks: int = Field(default=64, ge=1)
    images: int = Field(default=512, ge=2)
    seed: int = 0


def make_levels_spec(how: GenerateSpec) -> LevelsSpec:
    """Return the search for the levels of a database that is drawn with `--steps auto`.

    Raises SpecError for more than 40 steps, where a choice of levels does not help.
    """
    fields = how.model_dump(mode="json")
    shared = {name: fields[name] for name in LevelsSpec.model_fields if name in fields}
    return read_spec(LevelsSpec, {**shared, "seed": 0, "version": 1}, "steps auto")


def read_steps(fields: Mapping[str, Any], where: str) -> GenerateSpec:
    """Return the spec of a database whose `steps` may be "auto" or "auto:N": N chosen levels.

    N is AUTO_STEPS where it is not given. Raises SpecError for another text.
    """
    steps = fields.get("steps")
    if not isinstance(steps, str):
        return read_spec(GenerateSpec, dict(fields), where)
    lead, _, count = steps.partition(":")
    if lead != "auto" or not (count.isdecimal() if ":" in steps else True):
        raise SpecError(
            f"{where}: steps must be a whole number, auto, or auto and a number, such as auto:8; "
            f"given: {steps!r}"
        )
    # A run whose name depends on all other fields
    number = int(count) if count else AUTO_STEPS
    how = read_spec(GenerateSpec, {**fields, "steps": number, "levels": "levels"}, where)
    return name_levels(how)


def read_intensity(text: str | None) -> tuple[float, float] | None:
    """Return the limits of the intensity of clips in a text such as 0.5..1.5, or 1.2 for both.

    Raises UsageError unless both are from 0 to 10, and the lower one is the first.
    """
    if text is None:
        return None
    low, dots, high = text.replace(" ", "").partition("..")
    try:
        limits = float(low), float(high if dots else low)
    except ValueError:
        limits = (math.nan, math.nan)

    if not 0 <= limits[0] <= limits[1] <= MOST_INTENSITY:
        raise UsageError(
            f"--intensity must be a number from 0 to {MOST_INTENSITY}, or two with .. between "
            f"them and the lower one first, such as 0.5..1.5; given: '{text[:100]}'"
        )
    return limits


def name_levels(how: GenerateSpec) -> GenerateSpec:
    """Return `how` with the name of the run that finds its levels, if levels are found at all."""
    if not isinstance(how.levels, str):
        return how
    return how.model_copy(update={"levels": make_levels_spec(how).name})


@dataclass(frozen=True)
class KindFacts:
    """What is known of a kind of generator; its code is the module of the same name.

    `spec` is the class of its trainings. `own_fields` are the fields of it that only this kind and
    few others read: other kinds must keep their defaults, since otherwise two specs with the same
    result would have different digests. `sampler` is the default sampler; `direct` if images are
    drawn in one step. `chain` is the sampler that takes all `steps` of the training, if there is
    one. `preview` draws the sheet of a trained generator, by default the default sampler does.
    `not_exported` completes "the generator ..." with the reason why a kind without a denoiser is
    not exported.

    `resamples` is for a kind that learns nothing, and makes each image of training images (see
    mien.generators.resampling): it says what its images are, as in "adding copies of the real
    images". Such a kind is also a control of every study, and nothing from it is published.

    `approaches` is for a kind whose training brings an image close to every training image. Nothing
    from it is published without an answer of the audit on memorisation.

    `moves` is for a kind that learns from whole clips, and whose images are the moments of a clip,
    which becomes frames (see mien.generators.clips).
    """

    spec: type[GeneratorSpec]
    own_fields: tuple[str, ...] = ()
    sampler: str = "direct"
    chain: str = ""
    preview: SamplerSpec | None = None
    not_exported: str = "has no network that removes noise"
    resamples: str = ""
    approaches: bool = False
    distilled: bool = False
    moves: bool = False

    def can_use(self, sampler: str) -> bool:
        """Return whether a sampler works in steps, as generators of this kind do, or neither.

        A distilled kind has learnt the steps of its own sampler only.
        """
        if self.distilled:
            return sampler == self.sampler
        return (sampler == "direct") == (self.sampler == "direct")


def make_resampling(
    images: str, spec: type[GeneratorSpec] = GeneratorSpec, moves: bool = False
) -> KindFacts:
    """Return what is known of a kind that makes each image, or clip, of training images."""
    reason = "holds the real images themselves, which stay in the store"
    return KindFacts(spec, not_exported=reason, resamples=images, moves=moves)


KIND_FACTS: Mapping[str, KindFacts] = {
    "ddpm": KindFacts(
        TrainSpec,
        own_fields=("steps", "beta_first", "beta_last"),
        sampler="ancestral",
        chain="ancestral",
        preview=SamplerSpec(sampler="ancestral", steps=100),  # not all 1000, for speed
    ),
    "edm": KindFacts(TrainSpec, own_fields=("p_mean", "p_std"), sampler="dpmpp2m"),
    "rectified": KindFacts(TrainSpec, own_fields=("p_mean", "p_std"), sampler="dpmpp2m"),
    "student": KindFacts(StudentSpec, sampler="euler", distilled=True),
    "vae": KindFacts(VaeSpec),
    "gan": KindFacts(GanSpec),
    "imle": KindFacts(ImleSpec, approaches=True),
    "motion": KindFacts(
        MotionSpec,
        sampler="dpmpp2m",
        not_exported="draws the movement of clips, with networks that need each other",
        moves=True,
    ),
    "gaussian": KindFacts(
        GaussianSpec, not_exported="is a mean and a covariance for each class, and no network"
    ),
    "copycat": make_resampling("copies of the real images", CopycatSpec),
    "pasted": make_resampling(
        "real movements, pasted on the faces of other training people", PastedSpec, moves=True
    ),
}
"""The kinds of generator. A new one is an entry here, and the module of the same name."""


def count_steps(spec: GeneratorSpec, how: SamplerSpec) -> int:
    """Return the number of steps in which a sampler draws an image."""
    if how.steps is not None:
        return how.steps
    if how.sampler == "direct":
        return 1
    if isinstance(spec, StudentSpec):
        return spec.steps
    if isinstance(spec, TrainSpec) and how.sampler == KIND_FACTS[spec.kind].chain:
        return spec.steps
    return SAMPLERS[how.sampler].steps


def find_guidance(how: Mapping[str, Any], key: str) -> float:
    """Return the guidance of one image of a generated database, from the fields of its spec.

    The key of the image is RUN/EMOTION/NUMBER. Raises DataError for another key if the database has
    two guidances.
    """
    mixed, number = how.get("guidance_mix"), key.rpartition("/")[2]
    if mixed is None:
        return float(how["guidance"])
    if not number.isdecimal():
        raise DataError(
            "the key of an image of a database with guidance_mix must end in its number, as in "
            f"RUN/fear/00001; given: '{key}'"
        )
    return float(mixed if int(number) % 2 else how["guidance"])
