"""Networks by name: built, outlined, and partly frozen."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers import operators
from mien.classifiers.baselines import BASELINES
from mien.classifiers.channels import PICTURE, find_centre_and_scale, read_clip_channels
from mien.classifiers.specs import OWN_NETWORKS, USUAL_NETWORKS, ClassifierSpec
from mien.errors import SpecError
from mien.findings import list_some
from mien.runs.progress import quantify
from mien.runs.spec import suggest
from mien.seeds import make_rng

SIZE_GRID = 32  # the stride of most networks, in pixels


@dataclass(frozen=True)
class Frozen:
    """The frozen part of a network.

    `layers` are the names of the frozen layers, `all_layers` is the number of all layers, and
    `weights` is the frozen share of all weights.
    """

    layers: tuple[str, ...]
    all_layers: int
    weights: float

    @property
    def text(self) -> str:
        """The same as a line of text."""
        layer_names = f": {list_some(list(self.layers), 3)}" if self.layers else ""
        return (
            f"{len(self.layers)} of {quantify(self.all_layers, 'layer')} (convolutions and linear "
            "layers, "
            f"in the order of definition), {100 * self.weights:.2f} % of the weights{layer_names}"
        )


def require_size(name: str, spec: ClassifierSpec, shown: Sequence[str] = PICTURE) -> None:
    """Raise SpecError if the network cannot take images of that size with the channels `shown`.

    Images without data go through an outline of a network of timm. The spec has compared the size
    with the smallest one of mien's own networks, which saves torch from loading 86 MB for outlines.
    """
    if spec.name in OWN_NETWORKS:
        return
    fault = _find_size_fault(spec, shown)
    if fault is None:
        return
    label = name if name.startswith(spec.name) else f"{name} ({spec.name})"
    sizes = _find_near_sizes(spec, shown) or [get_pretrained_size(spec.name)]
    raise SpecError(
        f"classifier {label}: size must be one that the network can take; {spec.size} is "
        f"not{f' ({fault})' if fault else ''}; choose {' or '.join(map(str, sizes))}"
    )


def _find_size_fault(spec: ClassifierSpec, shown: Sequence[str]) -> str | None:
    """Return why the network cannot take images of its size, or None if it can.

    The reason is the first line of torch's message, which can be empty.
    """
    try:
        build_outline(spec, 2, shown)(
            torch.empty(2, len(shown), spec.size, spec.size, device="meta")
        )
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        return next(iter(str(error).strip().splitlines()), "")
    return None


def _find_near_sizes(spec: ClassifierSpec, shown: Sequence[str]) -> list[int]:
    """Return the nearest sizes below and above that the network can take, if there are any near.

    Networks whose strides or windows do not fit every size fit multiples of 32.
    """
    below, above = (spec.size - 1) // SIZE_GRID * SIZE_GRID, spec.size // SIZE_GRID * SIZE_GRID
    candidates = [
        [below - SIZE_GRID * number for number in range(2)],
        [above + SIZE_GRID * number for number in range(1, 4)],
    ]
    near = []
    for sizes in candidates:
        possible = (
            size
            for size in sizes
            if size >= SIZE_GRID
            and _find_size_fault(spec.model_copy(update={"size": size}), shown) is None
        )
        near += [size for size in [next(possible, None)] if size is not None]
    return near


def get_pretrained_size(name: str) -> int:
    """Return the height and width of the images that a network's ImageNet weights expect."""
    if name in OWN_NETWORKS:
        return OWN_NETWORKS[name].defaults["size"]
    return int(find_pretrained_config(name).get("input_size", (3, 224, 224))[1])


def build_outline(spec: ClassifierSpec, classes: int, shown: Sequence[str] = PICTURE) -> nn.Module:
    """Return the network's layers on the meta device: without weights, so for shapes only."""
    with torch.device("meta"):
        network, _, _ = build_network(spec, classes, shown)
    return network.eval()


def name_head(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's last layers, which tell the classes apart."""
    names: str | tuple[str, ...] = getattr(network, "pretrained_cfg", {}).get("classifier", "head")
    return (names,) if isinstance(names, str) else tuple(names)


# Networks


class Tiny(nn.Module):
    """A small network for tests and the demo: three convolutions, one linear layer, 30k weights."""

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            nn.GroupNorm(8, 16),
            nn.ReLU(),
        ]
        for narrow, wide in ((16, 32), (32, 64)):
            layers += [
                nn.Conv2d(narrow, wide, 3, padding=1),
                nn.GroupNorm(8, wide),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(64 * 16, classes)

    def forward(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n classes"]:
        """Return logits of images in [-1, 1]."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Float[Tensor, "n k s s"]) -> Float[Tensor, "n 64 t t"]:
        """Return the output of the convolutions."""
        return self.features(x)

    def forward_head(
        self, x: Float[Tensor, "n 64 t t"], pre_logits: bool = False
    ) -> Float[Tensor, "n d"]:
        """Return logits, or with `pre_logits` the mean over positions, as timm's networks do."""
        if pre_logits:
            return x.mean(dim=(2, 3))
        return self.head(functional.adaptive_avg_pool2d(x, 4).flatten(1))


def build_network(
    spec: ClassifierSpec, classes: int, shown: Sequence[str] = PICTURE
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """Return the network with random weights, and the mean and deviation for its images.

    `shown` has the names of the channels that the network sees. The mean and deviation have one
    number per channel, for images in [0, 1].

    Raises SpecError for an unknown network.
    """
    if spec.name in OWN_NETWORKS:
        return _build_own_network(spec, classes, shown), *find_centre_and_scale(shown)
    require_known_network([spec.name])
    channels = len(shown)
    about = find_pretrained_config(spec.name)
    sized = {"img_size": spec.size} if about.get("fixed_input_size") else {}
    wide = {"in_chans": channels} if channels != 3 else {}
    network = load_timm().create_model(
        spec.name, pretrained=False, num_classes=classes, **sized, **wide
    )
    mean, std = (tuple(about.get(name, (0.5,) * 3)) for name in ("mean", "std"))
    if channels != 3:  # no channel is red, green or blue
        mean, std = ((sum(values) / 3,) * channels for values in (mean, std))
    return network, mean, std


def _build_own_network(spec: ClassifierSpec, classes: int, shown: Sequence[str]) -> nn.Module:
    """Return one of OWN_NETWORKS, with the arguments that networks of its input take."""
    facts = OWN_NETWORKS[spec.name]
    network_class = getattr(import_module(f"mien.classifiers.{facts.file}"), facts.class_name)
    if facts.takes == "flow":
        return network_class(classes, spec.size)
    clip = read_clip_channels(shown)
    if facts.takes == "clips" and clip is not None:
        return network_class(classes, len(clip.moments), len(clip.inputs), spec.size)
    return network_class(classes, len(shown))


def require_known_network(names: Iterable[str]) -> None:
    """Raise SpecError, listing the unknown names, unless each is one of OWN_NETWORKS or a network
    of timm.
    """
    unknown: list[str] = []
    for name in dict.fromkeys(name for name in names if name not in OWN_NETWORKS):
        timm = load_timm()
        architecture, _, tag = name.partition(".")
        is_known = timm.is_model(architecture) and (
            not tag or name in timm.list_pretrained(architecture)
        )
        if not is_known:
            unknown.append(f"'{name}' is neither{_suggest_networks(name)}")
    if unknown:
        own_names = " or ".join(f"'{name}'" for name in OWN_NETWORKS)
        raise SpecError(
            f"a classifier must be {own_names} or a model of timm; {'; '.join(unknown)}"
        )


def _suggest_networks(name: str) -> str:
    """Return a hint: the networks of timm whose names contain this one, or else the nearest name.

    Usual networks come first, then names that begin with it, then the shortest.
    """
    timm, lower = load_timm(), name.partition(".")[0].lower().replace("-", "").replace("_", "")
    models = [*OWN_NETWORKS, *BASELINES, *timm.list_models()]
    inside = [model for model in models if lower and lower in model.replace("_", "")]
    leading = [model for model in inside if model.replace("_", "").startswith(lower)]
    usual = [model for model in USUAL_NETWORKS if model in inside]
    near = list(dict.fromkeys([*usual, *sorted(leading, key=len), *sorted(inside, key=len)]))[:3]
    if near:
        rest_text = (
            f" or another of {len(inside)} that contain it" if len(inside) > len(near) else ""
        )
        return f" (there are {', '.join(near)}{rest_text})"
    return suggest(name.lower(), models).replace(" Did", ". Did")


def find_pretrained_config(name: str) -> dict[str, Any]:
    """Return timm's description of the pretrained weights of a network."""
    config = load_timm().get_pretrained_cfg(name)
    return {} if config is None else config.to_dict()


def load_timm() -> Any:
    """Return timm, imported here because it takes seconds, and needs torchvision."""
    operators.prepare()
    import timm

    return timm


# One step


def choose_batch_rows(
    n: int, batch: int, step: int, steps_per_epoch: int, seed: int
) -> Int[np.ndarray, " batch"]:
    """Return the rows of the images of a step: each epoch has its own order of all images."""
    epoch, index = divmod(step, steps_per_epoch)
    order = make_rng("classifier", seed, "epoch", epoch).permutation(n)
    return order[index * batch : (index + 1) * batch]


# Freezing


def find_frozen_layers(
    spec: ClassifierSpec, classes: int, shown: Sequence[str] = PICTURE
) -> Frozen | None:
    """Return the layers and weights that `spec.freeze` freezes, or None if it is 0.

    `shown` has the names of the channels that the network sees. The weights themselves are not
    needed.
    """
    if not spec.freeze:
        return None
    with torch.device("meta"):
        network, _, _ = build_network(spec, classes, shown)
    layers = _list_layers(network)
    count = math.floor(spec.freeze * len(layers) + 1e-9)
    freeze_layers(network, spec.freeze)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    frozen_weights = sum(size for size, learns in sizes if not learns)
    return Frozen(
        tuple(name for name, _ in layers[:count]),
        len(layers),
        frozen_weights / sum(size for size, _ in sizes),
    )


def _list_layers(network: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """Return the layers in the order of definition, each with the normalisation that follows it.

    A layer is a convolution, a linear layer, or a recurrent one.
    """
    layers: list[tuple[str, list[nn.Module]]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.RNNBase):
            layers.append((name, [module]))
        elif (
            layers
            and not list(module.children())
            and (list(module.parameters()) or list(module.buffers()))
        ):
            layers[-1][1].append(module)
    return layers


def freeze_layers(network: nn.Module, share: float) -> list[nn.Module]:
    """Freeze the first `share` of the layers; return their modules, to be kept in eval mode."""
    layers = _list_layers(network)
    count = math.floor(share * len(layers) + 1e-9)
    modules = [module for _, group in layers[:count] for module in group]
    for module in modules:
        module.requires_grad_(False)
    return modules
