"""The specs of classifiers: what their training depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mien.classifiers.baselines import BASELINES
from mien.errors import SpecError
from mien.runs.spec import Spec, Strict, is_unset, suggest

Key = TypeVar("Key")

MOST_BRIGHTNESS_FACTOR = 10  # a face that is ten times as bright is white


class AugmentSpec(Strict):
    """The ranges from which each image's parameters are drawn uniformly.

    `rotation` is the largest angle in degrees, in both directions; `shift` is the largest shift as
    a share of width and of height, in both directions; `brightness` is the range of the factor;
    `flip` mirrors half of the images.
    """

    rotation: float = Field(default=15.0, ge=0, le=180)
    shift: float = Field(default=0.1, ge=0, lt=1)
    brightness: tuple[float, float] = (0.8, 1.2)
    flip: bool = True

    @field_validator("brightness")
    @classmethod
    def _require_rising(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1] <= MOST_BRIGHTNESS_FACTOR:
            raise ValueError(
                f"brightness must be two factors above 0 and up to {MOST_BRIGHTNESS_FACTOR}, the "
                "smaller one first"
            )
        return pair


class StrongSpec(Strict):
    """Strong augmentation: RandAugment, mirroring of half of the images, and mixup.

    Each image is changed by `operations` random operations of the strength `magnitude`, from 0 to
    30. `mixup` is the parameter of the symmetric Beta distribution from which the share of the
    other image is drawn; with 0 no images are mixed.
    """

    operations: int = Field(default=2, ge=0, le=14)
    magnitude: int = Field(default=9, ge=0, le=30)
    mixup: float = Field(default=0.2, ge=0, le=10)


@dataclass(frozen=True)
class OwnNetwork:
    """What is known of a network that is defined in mien.classifiers, by its class.

    `defaults` are the fields of its spec that differ from those of other networks. `smallest_px`
    is the smallest image that it can take. `first_layer` names the weights of its first layer, and
    `small` says that a whole batch takes a processor little time. `takes` says what the images must
    show: anything, optical flow, or clips. `file` is the file of the class in mien.classifiers.
    The size of images must be a multiple of `size_multiple`.
    """

    class_name: str
    defaults: Mapping[str, Any]
    smallest_px: int
    first_layer: str
    small: bool
    takes: Literal["images", "flow", "clips"] = "images"
    file: str = "networks"
    size_multiple: int = 1


# Fields that the networks of motion share; they see little change, and too few clips to learn much
MOTION = {"weights": "none", "batch": 32, "weight_decay": 1e-3}

OWN_NETWORKS = {
    "tiny": OwnNetwork(
        "Tiny",
        {"size": 48, "weights": "none", "epochs": 20, "batch": 64, "learning_rate": 2e-3},
        smallest_px=8,
        first_layer="features.0.weight",
        small=True,
    ),
    "off_apexnet": OwnNetwork(
        "OffApexNet",
        {**MOTION, "size": 28, "epochs": 100, "learning_rate": 3e-4},
        smallest_px=8,
        first_layer="right.0.weight",
        small=True,
        takes="flow",
        file="motion.off_apexnet",
    ),
    "ststnet": OwnNetwork(
        "StstNet",
        {**MOTION, "size": 28, "epochs": 200, "learning_rate": 2e-3},
        smallest_px=12,
        first_layer="branches.0.0.weight",
        small=True,
        takes="flow",
        file="motion.ststnet",
    ),
    "sssnet": OwnNetwork(
        "SssNet",
        {**MOTION, "size": 64, "epochs": 60, "learning_rate": 5e-4},
        smallest_px=16,
        first_layer="trunk.layers.0.weight",
        small=True,
        takes="flow",
        file="motion.sssnet",
    ),
    "cnn_lstm": OwnNetwork(
        "CnnLstm",
        {**MOTION, "size": 48, "epochs": 20, "learning_rate": 1e-3},
        smallest_px=16,
        first_layer="trunk.layers.0.weight",
        small=False,
        takes="clips",
        file="motion.cnn_lstm",
    ),
    "cnn3d": OwnNetwork(
        "Cnn3d",
        {**MOTION, "size": 48, "epochs": 30, "learning_rate": 1e-3},
        smallest_px=8,
        first_layer="stem.0.weight",
        small=False,
        takes="clips",
        file="motion.cnn3d",
    ),
    "cnn_transformer": OwnNetwork(
        "CnnTransformer",
        {**MOTION, "size": 48, "epochs": 20, "learning_rate": 1e-3},
        smallest_px=16,
        first_layer="trunk.layers.0.weight",
        small=False,
        takes="clips",
        file="motion.hybrid",
    ),
    "vivit": OwnNetwork(
        "Vivit",
        {**MOTION, "size": 48, "epochs": 35, "learning_rate": 5e-4},
        smallest_px=8,
        first_layer="embed.weight",
        small=False,
        takes="clips",
        file="motion.vivit",
        size_multiple=8,
    ),
}
"""The networks that are not timm's: one more is an entry here and the class that it names."""

# The smallest image that a network's strides allow, in pixels; others are tried with outlines
SMALLEST_SIZE_PX = {
    "inception_v3": 75,
    "vgg16": 32,
    "resnet50": 32,
    **{name: network.smallest_px for name, network in OWN_NETWORKS.items()},
}

USUAL_NETWORKS = (
    *(f"resnet{n}" for n in (18, 34, 50, 101, 152)),
    *("resnet18d", "resnet50d", "wide_resnet50_2", "resnext50_32x4d", "seresnet50"),
    *(f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn")),
    *("inception_v3", "inception_v4", "densenet121", "densenet169", "xception"),
    *(f"efficientnet_b{n}" for n in range(5)),
    *(
        "tf_efficientnet_lite0",
        "tf_efficientnet_b0",
        "mobilenetv2_100",
        "mobilenetv3_large_100",
        "mobilenetv3_small_100",
    ),
    *("convnext_tiny", "convnext_small", "convnext_base", "swin_tiny_patch4_window7_224"),
    *(
        f"{kind}_{size}_patch16_224"
        for kind in ("vit", "deit")
        for size in ("tiny", "small", "base")
    ),
    *("regnety_008", "regnety_016"),
    *OWN_NETWORKS,
)
"""Networks that a weights file is compared with if it does not fit the network that was named."""


class ClassifierSpec(Strict):
    """A network and its training.

    `name` is vgg16, resnet50, inception_v3, any other model of timm, or one of OWN_NETWORKS, which
    are defined here. `weights` is what the training starts from: imagenet (the weights that timm's
    hub has under that name), none (random weights), or a file, which digests name by its content,
    as `file:` and its sha256. Images are resized to `size` pixels. The learning rate falls to zero
    along a cosine over `epochs`, or over `updates` optimiser steps, which take the place of
    `epochs` and are as many for every number of images. With `augment` each training image is
    rotated, shifted, mirrored and relit at random in each epoch; `strong`, which comes first,
    changes images by RandAugment and mixes them. `freeze` is the share of the
    layers (convolutions, linear and recurrent layers in the order of definition, rounded down) that
    are not trained, with the normalisation that follows them. `validation` is the share of the
    training subjects (of clips if subjects are not known, of images if clips are not known either)
    that are held out to choose the epoch by UAR; with 0 the last epoch is taken. `threads` is the
    number of processor threads that share a sum, so it is part of the result; `deterministic` makes
    an NVIDIA card use algorithms that give the same bits each time. With `units` the last layer
    also sees the coded action units of each image, next to the features of the picture. With
    `class_weights` the loss of an image is divided by the number of training images of its class,
    so that each class weighs as much in total.
    """

    name: str = Field(min_length=1)
    size: int = Field(default=160, ge=8, le=1024)
    weights: str = "imagenet"
    epochs: int = Field(default=10, ge=1, le=100_000)
    batch: int = Field(default=64, ge=2, le=65_536)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    augment: AugmentSpec | None = None
    freeze: float = Field(default=0.0, ge=0, lt=1)
    validation: float = Field(default=0.0, ge=0, le=0.5)
    threads: int = Field(default=1, ge=1, le=1024)
    deterministic: bool = True
    # Omitted without a value, as in the specs of all classifiers before these fields
    units: bool = Field(default=False, exclude_if=is_unset)
    updates: int | None = Field(default=None, ge=1, le=100_000_000, exclude_if=is_unset)
    class_weights: bool = Field(default=False, exclude_if=is_unset)
    strong: StrongSpec | None = Field(default=None, exclude_if=is_unset)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        if fields.get("updates") is not None and "epochs" in fields:
            raise ValueError(
                "either updates or epochs must be given, because both say how long the training "
                f"is; given: updates = {fields['updates']} and epochs = {fields['epochs']}. Remove "
                "one"
            )
        own_network = OWN_NETWORKS.get(str(fields.get("name")))
        return fields if own_network is None else {**own_network.defaults, **fields}

    @model_serializer(mode="wrap")
    def _omit_unused_epochs(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = handler(self)
        if self.updates is not None:
            fields.pop("epochs", None)
        return fields

    def count_steps(self, images: int) -> int:
        """Return the number of optimiser steps of a training on so many images."""
        return self.updates or self.epochs * (images // min(self.batch, images))

    @field_validator("weights")
    @classmethod
    def _require_whole_digest(cls, weights: str) -> str:
        if not weights:
            raise ValueError(
                "weights must be 'imagenet', 'none', or the path of a file; it is empty"
            )
        if weights.startswith("file:") and not _is_sha256(weights.removeprefix("file:")):
            raise ValueError("file: must be followed by the 64 hexadecimal digits of a sha256")
        return weights

    @model_validator(mode="after")
    def _require_consistency(self) -> "ClassifierSpec":
        if self.name in BASELINES:
            raise ValueError(
                f"{self.name} is no network and has no fields; list it under this name, without a "
                "table of its own"
            )
        least = SMALLEST_SIZE_PX.get(self.name.partition(".")[0], 8)
        if self.size < least:
            raise ValueError(f"size must be {least} or more for {self.name}; given: {self.size}")
        own_network = OWN_NETWORKS.get(self.name)
        if own_network is not None and self.size % own_network.size_multiple:
            raise ValueError(
                f"size must be a multiple of {own_network.size_multiple} for {self.name}; given: "
                f"{self.size}"
            )
        if self.name in OWN_NETWORKS and self.weights == "imagenet":
            raise ValueError(
                f"weights must be 'none' or a file for {self.name}, which has no ImageNet weights"
            )
        return self

    @model_validator(mode="after")
    def _refuse_mixed_units(self) -> "ClassifierSpec":
        if self.units and self.strong is not None and self.strong.mixup:
            raise ValueError(
                "strong.mixup must be 0 with units = true, because a mixed image shows no coded "
                f"action units; given: {self.strong.mixup:g}"
            )
        return self


class TrainingUse(Strict):
    """When and how a network is trained on the synthetic images among its training images.

    With `pretrain` this share of the updates is made on synthetic images alone. In the updates
    after it the learning rate is multiplied by `rate`, and `keep` is about the share of images that
    are synthetic. `tag` tells the network which images are synthetic: `normalisation` gives these
    normalisation layers of their own (Xie et al. 2020, arXiv:1911.09665, for adversarial images),
    and `token` gives the last layer a number that is 1 for them and 0 for real ones. All images
    that are predicted later count as real.
    """

    pretrain: float = Field(default=0.0, ge=0, lt=1, exclude_if=is_unset)
    rate: float | None = Field(default=None, gt=0, le=1, exclude_if=is_unset)
    keep: float = Field(default=0.0, ge=0, lt=1, exclude_if=is_unset)
    tag: Literal["", "normalisation", "token"] = Field(default="", exclude_if=is_unset)

    @model_validator(mode="after")
    def _refuse_unused_fields(self) -> "TrainingUse":
        if not self.pretrain and (self.rate is not None or self.keep):
            name = "rate" if self.rate is not None else "keep"
            raise ValueError(
                f"{name} is about the updates after a pretraining; add pretrain, or remove {name}"
            )
        return self

    @property
    def needs_network(self) -> bool:
        """Whether only networks can be trained so."""
        return bool(self.pretrain or self.tag)


class WeightsSpec(Spec):
    """A file of pretrained weights in the store, by its content."""

    stage: ClassVar[str] = "weights"
    summary_indent: ClassVar[int | None] = None
    sha256: str


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _require_baseline(name: str) -> str:
    if name not in BASELINES:
        raise SpecError(
            f"a classifier that is no network must be one of {', '.join(BASELINES)}; given: "
            f"'{name}'.{suggest(name, list(BASELINES))}"
        )
    return name


BaselineName = Annotated[str, AfterValidator(_require_baseline)]

AnyClassifier = ClassifierSpec | BaselineName
"""A classifier with its training: a network with its fields, or the name of a baseline."""


def get_classifier_name(classifier: AnyClassifier) -> str:
    """Return the printed name of a classifier."""
    return classifier if isinstance(classifier, str) else classifier.name


def require_classes_to_weight(
    spec: ClassifierSpec, units: Sequence[int], where: str = "a classifier"
) -> None:
    """Raise SpecError if classes are to be weighted where action units are the target."""
    if spec.class_weights and units:
        raise SpecError(
            f"{where} must not have class_weights = true if action units are the target: their "
            "loss already weights the images with a unit like those without it. Remove "
            "class_weights"
        )


def select_networks(classifiers: Mapping[Key, AnyClassifier]) -> dict[Key, ClassifierSpec]:
    """Return the classifiers that are networks: only these have weights."""
    return {key: spec for key, spec in classifiers.items() if isinstance(spec, ClassifierSpec)}
