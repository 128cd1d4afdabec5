"""Classifiers: the preprint's three networks, any other of timm, and a small one of our own; trained and applied.

Images stay uint8 on the device and become floats a batch at a time: resized, grey repeated to the three channels that
pretrained networks know, and normalised as their weights expect. The last epoch is the result: no epoch is ever chosen
by looking at a test set.
"""

import inspect
import json
import math
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field, field_validator, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from mien import training
from mien.errors import DataError, SpecError, TrainingError, WeightsError
from mien.faces import Faces
from mien.progress import say, track
from mien.seeds import rng
from mien.seeds import seed as seed_of
from mien.spec import Spec, Strict, nearest
from mien.store import Run, Store, sha256

CHECKPOINT_EVERY_S = 60.0  # a killed training loses no more than this
TINY = {"size": 48, "weights": "none", "epochs": 20, "batch": 64, "learning_rate": 2e-3}  # where it differs
SMALLEST = {"inception_v3": 75, "vgg16": 32, "resnet50": 32, "tiny": 8}  # what the network's strides need, in pixels
NOT_NEEDED = "AuxLogits."  # the second head of torchvision's Inception, which only its own training uses


class ClassifierSpec(Strict):
    """A classifier and its training.

    `name` is vgg16, resnet50, inception_v3, any other model of timm, or tiny, a small network of our own. `weights` is
    where it starts: imagenet (what timm's hub has under that name), none (at random), or a file, which stands in
    digests by its content as `file:` and its sha256. Images are resized to `size` pixels. The learning rate falls to
    zero along a cosine; `epochs` are all used. `mirror` shows half of the images from the other side.
    """

    name: str = Field(min_length=1)
    size: int = Field(default=160, ge=8)
    weights: str = Field(default="imagenet", min_length=1)
    epochs: int = Field(default=10, ge=1)
    batch: int = Field(default=64, ge=2)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    mirror: bool = True

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, data: Any) -> Any:
        return {**TINY, **data} if isinstance(data, dict) and data.get("name") == "tiny" else data

    @field_validator("weights")
    @classmethod
    def _digest_is_whole(cls, weights: str) -> str:
        if weights.startswith("file:") and not _is_sha256(weights.removeprefix("file:")):
            raise ValueError("file: must be followed by the 64 hexadecimal digits of a sha256")
        return weights

    @model_validator(mode="after")
    def _fits(self) -> "ClassifierSpec":
        least = SMALLEST.get(self.name.partition(".")[0], 8)
        if self.size < least:
            raise ValueError(f"size must be {least} or more for {self.name}, and is {self.size}")
        if self.name == "tiny" and self.weights == "imagenet":
            raise ValueError("weights must be 'none' or a file for tiny: nobody trained it on ImageNet")
        return self


class WeightsSpec(Spec):
    """A file of pretrained weights in the store, by its content."""

    stage: ClassVar[str] = "weights"
    sha256: str


@dataclass(frozen=True)
class Classifier:
    """A trained network with what it takes to use it; `classes` are the names of its outputs, in order.

    `origin` says where its first weights came from. `mean` and `std` are what images in [0, 1] are normalised by.
    """

    network: nn.Module
    spec: ClassifierSpec
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str


def fit(
    faces: Faces,
    spec: ClassifierSpec,
    classes: Sequence[str],
    seed: int,
    scratch: Path | None = None,
    device: str = "auto",
    file: Path | None = None,
) -> Classifier:
    """Train a classifier of `classes` on `faces`; the same arguments give the same weights.

    In `scratch` it keeps checkpoints, and from there a stopped training goes on exactly. `file` is the weights file
    that a spec with `file:` means.

    Raises DataError on fewer than two images, WeightsError if the pretrained weights are not at hand, TrainingError
    if the training diverges.
    """
    if len(faces) < 2:
        raise DataError(f"a classifier needs two images or more to learn from, and was given {len(faces)}")
    where = training.device(device)
    with training.own_randomness(where), training.one_thread(spec.name == "tiny"):
        classifier = _start(spec, classes, seed, file)
        network = classifier.network.to(where)
        images = torch.from_numpy(np.array(faces.images)).to(where)
        labels = torch.from_numpy(faces.labels(classes)).to(where)
        batch = min(spec.batch, len(faces))
        a_round = len(faces) // batch  # what is left over after whole batches waits for another epoch's order
        steps = spec.epochs * a_round
        optimiser = _optimiser(network, spec)
        done = _resume(scratch, network, optimiser)
        saved = time.monotonic()
        network.train()
        with track(f"training {spec.name}", steps) as bar:
            for step in range(done, steps):
                training.begin_step(seed, step)
                rows = torch.from_numpy(_rows(len(faces), batch, step, a_round, seed)).to(where)
                x = _mirrored(images[rows], spec.mirror, step, seed)
                x = _prepare(x, spec.size, classifier.mean, classifier.std)
                for group in optimiser.param_groups:
                    group["lr"] = spec.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
                loss = functional.cross_entropy(network(x), labels[rows])
                value = loss.item()
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss of {spec.name} must stay finite, and became {value} in step {step + 1} of {steps}; "
                        f"lower its learning_rate, which is {spec.learning_rate:g}"
                    )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                bar.update(step + 1, f"loss {value:.3f}")
                if scratch is not None and step + 1 < steps and time.monotonic() - saved >= CHECKPOINT_EVERY_S:
                    _keep(scratch, network, optimiser, step + 1)
                    saved = time.monotonic()
    network.eval()
    return classifier


@torch.no_grad()
def predict(classifier: Classifier, faces: Faces, batch: int = 256) -> Float[np.ndarray, "n classes"]:
    """Return float32 probabilities, one row an image; they do not depend on `batch`, which only bounds the memory."""
    network = classifier.network.eval()
    where = next(network.parameters()).device
    rows = []
    with training.one_thread(classifier.spec.name == "tiny"):
        for first in range(0, len(faces), batch):
            images = torch.from_numpy(np.array(faces.images[first : first + batch])).to(where)
            x = _prepare(images, classifier.spec.size, classifier.mean, classifier.std)
            rows.append(network(x).float().softmax(dim=1).cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, len(classifier.classes)), dtype=np.float32)


def save(classifier: Classifier, folder: Path) -> None:
    """Write weights.safetensors and classifier.json, from which `load` makes the same classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    training.save_weights(folder / "weights.safetensors", classifier.network)
    about = {"spec": classifier.spec.model_dump(), "classes": classifier.classes, "origin": classifier.origin}
    (folder / "classifier.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load(folder: Path, device: str = "auto") -> Classifier:
    """Return the classifier that `save` wrote."""
    about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    spec = ClassifierSpec.model_validate(about["spec"])
    network, mean, std = _build(spec, len(about["classes"]))
    training.load_weights(folder / "weights.safetensors", network)
    network.to(training.device(device)).eval()
    return Classifier(network, spec, tuple(about["classes"]), mean, std, about["origin"])


# Weights


def check(spec: ClassifierSpec) -> None:
    """Raise SpecError if timm has no such network, WeightsError if its weights are not at hand: before long work."""
    if spec.name != "tiny":
        _known(spec.name)
        if spec.weights == "imagenet":
            _hub_file(spec.name)


def adopt(path: Path, store: Store) -> str:
    """Copy a weights file into the store, and return `file:` and its sha256: what specs call it from then on."""
    digest = name_file(path)

    def build(out: Path, scratch: Path) -> None:
        (out / "weights").write_bytes(path.read_bytes())
        summary = {"holds": f"weights, {path.stat().st_size:,} bytes, from a file named {path.name}"}
        (out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")

    store.make(WeightsSpec(sha256=digest.removeprefix("file:")), build)
    return digest


def name_file(path: Path) -> str:
    """Return `file:` and the sha256 of a weights file; raises WeightsError if there is no such file."""
    if not path.is_file():
        raise WeightsError(
            f"weights must be 'imagenet', 'none', or the path of a file, and there is no file {path}; check the path"
        )
    return f"file:{sha256(path)}"


def adopted(spec: ClassifierSpec, store: Store) -> Path | None:
    """Return the file in the store that a spec with `file:` means, nothing for other specs."""
    if not spec.weights.startswith("file:"):
        return None
    run: Run = store.run(WeightsSpec(sha256=spec.weights.removeprefix("file:")).name)
    return run.file("weights")


def _start(spec: ClassifierSpec, classes: Sequence[str], seed: int, file: Path | None) -> Classifier:
    """Return the classifier before its first step."""
    torch.manual_seed(seed_of("classifier", seed))
    network, mean, std = _build(spec, len(classes))
    path = _weights_path(spec, file)
    origin = "none"
    if path is not None:
        origin = f"{spec.weights if spec.weights == 'imagenet' else 'file'} ({path.name}, sha256 {sha256(path)})"
        _take(network, spec.name, _read(path), path)
    return Classifier(network, spec, tuple(classes), mean, std, origin)


def _weights_path(spec: ClassifierSpec, file: Path | None) -> Path | None:
    if spec.weights == "none":
        return None
    if spec.weights == "imagenet":
        return _hub_file(spec.name)
    if not spec.weights.startswith("file:"):
        name_file(Path(spec.weights))  # complains if it is not there
        return Path(spec.weights)
    if file is None or name_file(file) != spec.weights:
        raise WeightsError(
            f"the weights of {spec.name} must be the file with sha256 {spec.weights.removeprefix('file:')}, and "
            f"{'no file' if file is None else f'{file}, another one,'} was given; "
            "bring that file, or name the one you mean in the specification"
        )
    return file


def _hub_file(name: str) -> Path:
    """Return the local copy of timm's weights of a network, fetching it if need be."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    hub = str(_pretrained(name).get("hf_hub_id") or "")
    if not hub:
        raise WeightsError(f"timm has no pretrained weights of {name}; say weights = 'none', or name a file")
    kept = huggingface_hub.try_to_load_from_cache(hub, "model.safetensors")
    if isinstance(kept, str):
        return Path(kept)
    try:
        return Path(huggingface_hub.hf_hub_download(hub, "model.safetensors"))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise WeightsError(
            f"the ImageNet weights of {name} must come from the hub, which cannot be reached ({type(error).__name__}). "
            f"Where there is a network, fetch the file model.safetensors of {hub} (https://huggingface.co/{hub}), "
            'bring it here under any name, and say weights = "FILE" with its path. To train from random weights '
            'instead, say weights = "none"; every table then repeats it'
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a .pth file without running any code that it holds."""
    with path.open("rb") as file:
        start = file.read(2)
    try:
        if start[:2] == b"PK" or start[:1] == b"\x80":  # a zip archive or a pickle: torch.save
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = next((state[key] for key in ("state_dict", "model") if key in state), state)
        else:
            state = load_file(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise WeightsError(f"{path} must be a .safetensors or .pth file of tensors, and is not: {reason}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} must hold named tensors and nothing else, such as timm's model.safetensors")
    return {str(key): value for key, value in state.items()}


def _take(network: nn.Module, name: str, given: dict[str, Tensor], path: Path) -> None:
    """Load the tensors into the network, all but a head for other classes."""
    given = _renamed(network, given)
    wanted = network.state_dict()
    head = tuple(f"{part}." for part in _head(network))
    dropped = [key for key in given if key.startswith(head) and given[key].shape != wanted[key].shape]
    given = {key: value for key, value in given.items() if key not in dropped and not key.startswith(NOT_NEEDED)}
    missing = [key for key in wanted if key not in given and not key.startswith(head)]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    strange = [key for key in given if key not in wanted or given[key].shape != wanted[key].shape]
    if missing or strange:
        parts = [f"it lacks {_some(missing)}"] * bool(missing)
        parts += [f"{_some(strange)} {'does' if len(strange) == 1 else 'do'} not fit"] * bool(strange)
        raise WeightsError(f"{path} must hold the weights of {name} as timm names them, but {' and '.join(parts)}")
    network.load_state_dict(given, strict=False)
    if dropped:
        say(f"{path.name}: its head, for other classes than the {_outputs(wanted, dropped)} here, was left out")


def _outputs(wanted: Mapping[str, Tensor], keys: list[str]) -> int:
    return len(wanted[keys[0]])


def _renamed(network: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names: its modules know how to read what torchvision and others wrote."""
    module = sys.modules[type(network).__module__]
    rename = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
    if rename is None:
        return given
    needed = [part for part in inspect.signature(rename).parameters.values() if part.default is part.empty]
    return dict(rename(given, network) if len(needed) > 1 else rename(given))


def _head(network: nn.Module) -> tuple[str, ...]:
    names: str | tuple[str, ...] = getattr(network, "pretrained_cfg", {}).get("classifier", "head")
    return (names,) if isinstance(names, str) else tuple(names)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


# Networks


class Tiny(nn.Module):
    """A small network for tests, the demo and a first look: three convolutions, a linear layer, 30,000 weights."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.GroupNorm(8, 16), nn.ReLU()]
        for narrow, wide in ((16, 32), (32, 64)):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.GroupNorm(8, wide), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(64 * 16, classes)

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n classes"]:
        """Return logits of images in [-1, 1]."""
        return self.head(functional.adaptive_avg_pool2d(self.features(x), 4).flatten(1))


def _build(spec: ClassifierSpec, classes: int) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """Return the network with random weights, and the mean and deviation that its images are normalised by."""
    if spec.name == "tiny":
        return Tiny(classes), (0.5,) * 3, (0.5,) * 3
    _known(spec.name)
    about = _pretrained(spec.name)
    sized = {"img_size": spec.size} if about.get("fixed_input_size") else {}
    network = _timm().create_model(spec.name, pretrained=False, num_classes=classes, **sized)
    mean, std = about.get("mean", (0.5,) * 3), about.get("std", (0.5,) * 3)
    return network, tuple(mean), tuple(std)


def _known(name: str) -> None:
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture) or (tag and name not in timm.list_pretrained(architecture)):
        near = nearest(name, ["tiny", *timm.list_models()])
        raise SpecError(f"a classifier must be 'tiny' or a model of timm, and '{name}' is neither.{near}")


def _pretrained(name: str) -> dict[str, Any]:
    """Return what timm knows about the pretrained weights of a network."""
    known = _timm().get_pretrained_cfg(name)
    return {} if known is None else known.to_dict()


def _timm() -> Any:
    """Return timm, imported late: it takes seconds, and needs torchvision.

    PyPI's torchvision is built for CUDA. Beside torch's own CPU build its compiled operators do not load, and importing
    it fails where it adds to two operators that were then never declared. timm uses neither; declared here without a
    body, they let the import pass.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        import torchvision  # noqa: F401
    import timm

    return timm


_LIBRARIES: list[Any] = []  # a declared operator lives as long as its library object


# One step


def _rows(n: int, batch: int, step: int, a_round: int, seed: int) -> Int[np.ndarray, " batch"]:
    """Return the images of a step: each epoch goes through all of them in an order of its own."""
    epoch, place = divmod(step, a_round)
    return rng("classifier", seed, "epoch", epoch).permutation(n)[place * batch : (place + 1) * batch]


def _mirrored(images: UInt8[Tensor, "n c h w"], mirror: bool, step: int, seed: int) -> UInt8[Tensor, "n c h w"]:
    if not mirror:
        return images
    turned = torch.from_numpy(rng("classifier", seed, "mirror", step).random(len(images)) < 0.5).to(images.device)
    return torch.where(turned[:, None, None, None], images.flip(3), images)


def _prepare(
    images: UInt8[Tensor, "n c h w"], size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "n 3 size size"]:
    """Return what the network takes: resized (bilinear, antialiased), three channels, normalised."""
    x = images.float() / 255
    if images.shape[2:] != (size, size):
        x = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    x = x.expand(-1, 3, -1, -1)
    return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]


def _optimiser(network: nn.Module, spec: ClassifierSpec) -> torch.optim.Optimizer:
    if spec.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    return torch.optim.SGD(
        network.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay, momentum=0.9, nesterov=True
    )


def _keep(scratch: Path, network: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in training.pack_optimiser(optimiser).items()}
    training.save_checkpoint(scratch, tensors, {"step": step})


def _resume(scratch: Path | None, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Return the number of steps that are done, with their weights in place."""
    found = training.load_checkpoint(scratch) if scratch is not None else None
    if found is None:
        return 0
    tensors, state = found
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimiser": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    network.load_state_dict(parts["network"])
    training.unpack_optimiser(optimiser, parts["optimiser"])
    return int(state["step"])
