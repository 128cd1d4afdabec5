"""Tags: in training a network learns which of its images are synthetic."""

from copy import deepcopy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mien.classifiers.networks import name_head
from mien.errors import SpecError

LEAST_IMAGES = 2  # that statistics can be computed of

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)


class NormByOrigin(nn.Module):
    """A normalisation with weights, and statistics if any, of their own for synthetic images.

    `is_synthetic` is bool [n], set by `tell_origin` before each training batch. Without it all
    images count as real. A batch of which fewer than two images are of one origin is normalised
    as a whole, as images of the other origin.
    """

    is_synthetic: Tensor | None

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.real, self.synthetic = norm, deepcopy(norm)
        self.is_synthetic = None

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Return the normalised features, in the order of `x`."""
        mask = self.is_synthetic
        if mask is None or not self.training:
            return self.real(x)
        synthetic = int(mask.sum())
        if synthetic < LEAST_IMAGES:
            return self.real(x)
        if len(x) - synthetic < LEAST_IMAGES:
            return self.synthetic(x)
        order = torch.cat([torch.nonzero(~mask)[:, 0], torch.nonzero(mask)[:, 0]])
        whole = torch.cat([self.real(x[~mask]), self.synthetic(x[mask])])
        return whole[torch.argsort(order)]


class HeadByOrigin(nn.Module):
    """A linear head whose last input is 1 for synthetic images and 0 for real ones."""

    is_synthetic: Tensor | None

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.real = head
        self.token = nn.Linear(1, head.out_features, bias=False)
        self.is_synthetic = None

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Return logits."""
        logits = self.real(x)
        if self.is_synthetic is None or not self.training:
            return logits
        return logits + self.token(self.is_synthetic[:, None].to(logits.dtype))


def add_tag(network: nn.Module, tag: str, name: str) -> None:
    """Give a network layers that treat synthetic images in their own way; `name` names it.

    Layers that are not trained stay as they are. Raises SpecError for `normalisation` if the
    network trains no such layer, and for `token` unless its head is a single linear layer.
    """
    if tag == "token":
        names = name_head(network)
        head = network.get_submodule(names[0]) if len(names) == 1 else None
        if not isinstance(head, nn.Linear):
            raise SpecError(
                f"the tag 'token' needs a network whose last layer is a single linear one; that of "
                f"{name} is not. Use the tag 'normalisation', or another network"
            )
        _replace(network, names[0], HeadByOrigin(head))
        return

    # A normalisation of their own, in each layer that is trained
    trained = [
        path
        for path, module in network.named_modules()
        if isinstance(module, NORMS)
        and any(parameter.requires_grad for parameter in module.parameters())
    ]
    if not trained:
        raise SpecError(
            f"the tag 'normalisation' needs a network that trains normalisation layers; {name} has "
            "none. Use the tag 'token', or another network"
        )
    for path in trained:
        _replace(network, path, NormByOrigin(network.get_submodule(path)))


def tell_origin(network: nn.Module, is_synthetic: Bool[Tensor, " n"]) -> None:
    """Tell a network which images of its next training batch are synthetic."""
    for module in network.modules():
        if isinstance(module, NormByOrigin | HeadByOrigin):
            module.is_synthetic = is_synthetic


def remove_tag(network: nn.Module) -> None:
    """Take away what `add_tag` gave a network: what is left treats all images as real ones."""
    tagged = [
        path
        for path, module in network.named_modules()
        if isinstance(module, NormByOrigin | HeadByOrigin)
    ]
    for path in tagged:
        _replace(network, path, network.get_submodule(path).get_submodule("real"))


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, last = path.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
