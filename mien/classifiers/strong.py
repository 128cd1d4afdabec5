"""Strong augmentation: RandAugment, mirroring and mixup, from torchvision.

RandAugment (Cubuk et al. 2020, arXiv:1909.13719) draws operations such as a shear, a contrast or an
equalised histogram for each image. Mixup (Zhang et al. 2018, arXiv:1710.09412) blends each image
and its label with another image of the batch. All random numbers come from torch's generator, which
`checkpoints.begin_step` seeds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from mien.classifiers import operators
from mien.classifiers.channels import are_pictures
from mien.classifiers.specs import ClassifierSpec, StrongSpec
from mien.errors import DataError, SpecError
from mien.findings import list_some

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def require_pictures(label: str, spec: ClassifierSpec, shown: Sequence[str]) -> None:
    """Raise DataError if images with the channels `shown` would lose their meaning by `strong`.

    The message calls the classifier `label`.
    """
    if spec.strong is not None and not are_pictures(shown):
        raise DataError(
            f"classifier {label} has strong augmentation, which needs plain grey or colour "
            f"pictures, because it changes brightness and contrast; these faces show "
            f"{list_some(list(shown), 4)}. Remove strong, or name faces without another input"
        )


def require_labels(spec: ClassifierSpec, units: Sequence[int], where: str = "a classifier") -> None:
    """Raise SpecError if labels are to be mixed where action units are the target."""
    if spec.strong is not None and spec.strong.mixup and units:
        raise SpecError(
            f"{where} must have strong.mixup = 0 if action units are the target, because mixup "
            f"mixes the labels of classes; given: {spec.strong.mixup:g}"
        )


def vary_pictures(images: UInt8[Tensor, "n c h w"], how: StrongSpec) -> UInt8[Tensor, "n c h w"]:
    """Return the pictures, each changed by its own operations of RandAugment, and half mirrored."""
    transforms = _load_transforms()
    change = transforms.RandAugment(
        how.operations, how.magnitude, interpolation=transforms.InterpolationMode.BILINEAR
    )
    varied = torch.stack([change(image) for image in images])
    mirrored = torch.rand(len(images)) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], varied.flip(3), varied)


def make_mix(how: StrongSpec | None, classes: int) -> Mix | None:
    """Return the function that mixes a batch and its labels, or None without mixup.

    It takes n images and the numbers of their classes. It returns lam x_i + (1 - lam) x_(i-1) for
    each image x_i, with one lam for the batch from the distribution Beta(mixup, mixup), and the
    probability of each class, n x `classes`, mixed alike.
    """
    if how is None or not how.mixup:
        return None
    mixup = _load_transforms().MixUp(alpha=how.mixup, num_classes=classes)

    def mix(
        x: Float[Tensor, "n k size size"], labels: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n k size size"], Float[Tensor, "n classes"]]:
        return mixup(x, labels)

    return mix


def find_heavier(labels: Shaped[Tensor, "*labels"]) -> Int[Tensor, " n"]:
    """Return the class number of each label, the more probable class if labels are mixed."""
    return labels if labels.ndim == 1 else labels.argmax(dim=1)


def _load_transforms() -> Any:
    """Return torchvision's transforms, imported here because it takes a second."""
    operators.prepare()
    from torchvision.transforms import v2

    return v2
