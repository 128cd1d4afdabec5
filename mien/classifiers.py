"""Classifiers: the preprint's three networks, any other of timm, and a small one of our own;
trained and applied.

Images stay uint8 on the device and become floats a batch at a time: augmented, resized, grey
repeated to the three channels that pretrained networks know, and normalised as their weights
expect. For images of two channels, or of more than three, a network's first layer gets as many. The
last epoch is the result, or the one that does best on a part of the training side: no epoch is ever
chosen by looking at a test set.
"""

import inspect
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mien import metrics, operators, stopping, training, weights
from mien.augment import AugmentSpec, augment, parameters
from mien.errors import DataError, SpecError, TrainingError, WeightsError
from mien.faces import EMOTIONS, Faces, make_index
from mien.inputs import rests
from mien.progress import many, say, track
from mien.seeds import rng
from mien.seeds import seed as seed_of
from mien.spec import Spec, Strict, nearest
from mien.store import Run, Store, sha256
from mien.workload import Workload
from mien.workload import count as work_of

CHECKPOINT_EVERY_S = 60.0  # a killed training loses no more than this
TINY = {
    "size": 48,
    "weights": "none",
    "epochs": 20,
    "batch": 64,
    "learning_rate": 2e-3,
}  # where it differs
SMALLEST = {
    "inception_v3": 75,
    "vgg16": 32,
    "resnet50": 32,
    "tiny": 8,
}  # what the network's strides need, in pixels
CHECK_EVERY = 10  # steps between looks at the loss, which make a graphics card wait
TIMED_ON_CPU = (2, 6)  # images of the batches that a large network is timed on, on a processor
USUAL = (
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
    *("regnety_008", "regnety_016", "tiny"),
)
"""Networks that a file of weights is compared with, where it does not fit the one that was
named.
"""
SHOWN, MOVED = (
    4,
    16,
)  # numbers that are written for each of a picture's, to show it plainly and augmented
NOT_NEEDED = (
    "AuxLogits."  # the second head of torchvision's Inception, which only its own training uses
)


class ClassifierSpec(Strict):
    """A classifier and its training.

    `name` is vgg16, resnet50, inception_v3, any other model of timm, or tiny, a small network of
    our own. `weights` is where it starts: imagenet (what timm's hub has under that name), none (at
    random), or a file, which stands in digests by its content as `file:` and its sha256. Images are
    resized to `size` pixels. The learning rate falls to zero along a cosine over `epochs`. With
    `augment` each training image is turned, moved, mirrored and lit anew in each epoch. `freeze` is
    the share of the layers (convolutions and linear layers in the order of definition, rounded
    down) that stay as they were, with the normalisation that follows them. `validation` is a share
    of the training people (of clips where people are not known, of images where clips are not known
    either): kept out of training, they choose the epoch, by UAR; with 0 it is the last. `threads`
    of a processor share its sums, which makes their number a part of the result; `deterministic`
    asks an NVIDIA card for algorithms that give the same bits each time.
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

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, data: Any) -> Any:
        return {**TINY, **data} if isinstance(data, dict) and data.get("name") == "tiny" else data

    @field_validator("weights")
    @classmethod
    def _digest_is_whole(cls, weights: str) -> str:
        if not weights:
            raise ValueError(
                "weights must be 'imagenet', 'none', or the path of a file, and is empty"
            )
        if weights.startswith("file:") and not _is_sha256(weights.removeprefix("file:")):
            raise ValueError("file: must be followed by the 64 hexadecimal digits of a sha256")
        return weights

    @model_validator(mode="after")
    def _fits(self) -> "ClassifierSpec":
        least = SMALLEST.get(self.name.partition(".")[0], 8)
        if self.size < least:
            raise ValueError(f"size must be {least} or more for {self.name}, and is {self.size}")
        if self.name == "tiny" and self.weights == "imagenet":
            raise ValueError(
                "weights must be 'none' or a file for tiny: nobody trained it on ImageNet"
            )
        return self


class WeightsSpec(Spec):
    """A file of pretrained weights in the store, by its content."""

    stage: ClassVar[str] = "weights"
    sha256: str


@dataclass(frozen=True)
class Classifier:
    """A trained network with what it takes to use it; `classes` are the names of its outputs, in
    order.

    `origin` says where its first weights came from. `mean` and `std` are what images in [0, 1] are
    normalised by, one number for each channel that the network takes. `epoch` is the one whose
    weights it has, from 1.
    """

    network: nn.Module
    spec: ClassifierSpec
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    epoch: int = 0


@dataclass(frozen=True)
class Frozen:
    """What of a network stays as it was: the names of `layers`, of how many, and which share of all
    its weights.
    """

    layers: tuple[str, ...]
    of: int
    weights: float

    @property
    def text(self) -> str:
        """The same in a line for people."""
        named = f": {_some(list(self.layers))}" if self.layers else ""
        return (
            f"{len(self.layers)} of {many(self.of, 'layer')} (convolutions and linear layers, in "
            "the order of "
            "definition), "
            f"{100 * self.weights:.2f} % of the weights{named}"
        )


@dataclass(frozen=True)
class Speed:
    """Images a second in training and in prediction."""

    train: float
    predict: float


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

    In `scratch` it keeps checkpoints, and from there a stopped training goes on exactly. `file` is
    the weights file that a spec with `file:` means.

    Raises DataError on fewer than two images, WeightsError if the pretrained weights are not at
    hand, TrainingError if the training diverges.
    """
    shown, held = _held_out(faces, spec.validation, seed)
    if len(shown) < 2:
        raise DataError(
            f"a classifier needs two images or more to learn from, and was given {len(shown)}"
        )
    if len(classes) < 2:
        raise DataError(
            "a classifier needs two classes or more to tell apart, and was given "
            f"{' '.join(classes)} only"
        )
    where = training.device(device)
    with (
        training.own_randomness(where),
        _as_specified(spec, where),
        stopping.heeded(scratch is not None),
    ):
        work = Training(start(spec, classes, seed, file, shown.size[0]), shown, seed, where)
        best = _Best(held)
        done = _resume(scratch, work, best)
        saved, checked = time.monotonic(), done
        losses: list[Tensor] = []
        with track(f"training {spec.name}", work.steps) as bar:
            for step in range(done, work.steps):
                losses.append(work.step(step))
                last = step + 1 == work.steps
                late = stopping.asked() or time.monotonic() - saved >= CHECKPOINT_EVERY_S
                due = scratch is not None and not last and late
                if last or due or step + 1 - checked >= CHECK_EVERY:
                    value = _finite(torch.stack(losses), checked, work)
                    losses, checked = [], step + 1
                    bar.update(step + 1, f"loss {value:.3f}")
                if (step + 1) % work.a_round == 0:
                    best.look(work.classifier, (step + 1) // work.a_round)
                if due and scratch is not None:
                    _keep(scratch, work, best, step + 1)
                    saved = time.monotonic()
                    stopping.obey()
    network = work.classifier.network
    best.restore(network)
    network.eval()
    _require_answers(work, shown)
    return replace(work.classifier, epoch=best.epoch)


@contextmanager
def _as_specified(spec: ClassifierSpec, where: torch.device) -> Iterator[None]:
    """Let torch work with the threads and the care that a spec asks for."""
    with training.cores(spec.threads), training.repeatable(where, spec.deterministic):
        yield


class Training:
    """A training under way: everything that a step needs lies on the device."""

    def __init__(
        self, classifier: Classifier, faces: Faces, seed: int, where: torch.device
    ) -> None:
        spec = classifier.spec
        self.classifier, self.spec, self.seed, self.where = classifier, spec, seed, where
        self.network = classifier.network.to(where)
        self.still = _freeze(self.network.eval(), spec.freeze)
        self.images = torch.from_numpy(np.array(faces.images)).to(where)
        self.rests = rests(faces.shown)
        self.labels = torch.from_numpy(faces.labels(classifier.classes)).to(where)
        self.batch = min(spec.batch, len(faces))
        self.a_round = (
            len(faces) // self.batch
        )  # what is left over after whole batches waits for another epoch's order
        self.steps = spec.epochs * self.a_round
        self.optimiser = _optimiser(self.network, spec)

    def step(self, step: int) -> Float[Tensor, ""]:
        """Take step 0, 1, 2..., and return its loss, which stays on the device."""
        training.begin_step(self.seed, step)
        rows = torch.from_numpy(
            _rows(len(self.images), self.batch, step, self.a_round, self.seed)
        ).to(self.where)
        x = self.pictures(rows, step)
        for group in self.optimiser.param_groups:
            group["lr"] = (
                self.spec.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            )
        return self.learn(x, self.labels[rows])

    def pictures(self, rows: Int[Tensor, " n"], step: int) -> Float[Tensor, "n k size size"]:
        """Return the images at `rows` as the network takes them in this step."""
        images, size, how = self.images[rows], self.spec.size, self.spec.augment
        if how is None:
            x = _resize(images, size)
        else:
            x = augment(images, parameters(how, len(images), self.seed, step), size, self.rests)
        return _normalise(x, self.classifier.mean, self.classifier.std)

    def learn(
        self, x: Float[Tensor, "n k size size"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Take one step of the optimiser on a batch that is ready, and return its loss."""
        if not self.network.training:
            self.network.train()
            for module in self.still:
                module.eval()
        loss = functional.cross_entropy(self.network(x), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def _finite(losses: Float[Tensor, " n"], first: int, work: Training) -> float:
    """Return the last loss; raises TrainingError if one of those since step `first` is no
    number.
    """
    values = losses.tolist()
    wrong = next((place for place, value in enumerate(values) if not math.isfinite(value)), None)
    if wrong is not None:
        raise TrainingError(
            f"the loss of {work.spec.name} must stay finite, and became {values[wrong]} in step "
            f"{first + wrong + 1} of "
            f"{work.steps}; lower its learning_rate, which is {work.spec.learning_rate:g}"
        )
    return values[-1]


def _require_answers(work: Training, shown: Faces) -> None:
    """Raise TrainingError unless the trained network answers its own training images with
    numbers.
    """
    if not np.isfinite(predict(work.classifier, shown.select(np.arange(min(len(shown), 8))))).all():
        raise TrainingError(
            f"{work.spec.name} must answer with numbers once it is trained, and does not; lower "
            "its "
            f"learning_rate, which is {work.spec.learning_rate:g}"
        )


@torch.no_grad()
def predict(
    classifier: Classifier, faces: Faces, batch: int = 256
) -> Float[np.ndarray, "n classes"]:
    """Return float32 probabilities, one row an image; they do not depend on `batch`, which only
    bounds the memory.
    """
    network = classifier.network.eval()
    where = next(network.parameters()).device
    rows = []
    with _as_specified(classifier.spec, where):
        for first in range(0, len(faces), batch):
            images = torch.from_numpy(np.array(faces.images[first : first + batch])).to(where)
            x = _normalise(_resize(images, classifier.spec.size), classifier.mean, classifier.std)
            rows.append(network(x).float().softmax(dim=1).cpu().numpy())
    return (
        np.concatenate(rows) if rows else np.zeros((0, len(classifier.classes)), dtype=np.float32)
    )


def features(classifier: Classifier, faces: Faces, batch: int = 256) -> Float[np.ndarray, "n d"]:
    """Return what the head sees of each image, float32, a mean over its places."""
    starts = range(0, len(faces), batch)
    rows = [see(classifier, faces.images[first : first + batch]) for first in starts]
    return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)


@torch.inference_mode()
def see(classifier: Classifier, images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n d"]:
    """Return what the head sees of each image, float32: a mean over places, or what stands for all
    in transformers.
    """
    network: Any = classifier.network.eval()
    where = next(network.parameters()).device
    with _as_specified(classifier.spec, where):
        pictures = _resize(torch.from_numpy(np.array(images)).to(where), classifier.spec.size)
        x = _normalise(pictures, classifier.mean, classifier.std)
        if isinstance(network, Tiny):
            return network.features(x).mean(dim=(2, 3)).cpu().numpy()
        return (
            network.forward_head(network.forward_features(x), pre_logits=True).float().cpu().numpy()
        )


def save(classifier: Classifier, folder: Path) -> None:
    """Write weights.safetensors and classifier.json, from which `load` makes the same
    classifier.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training.save_weights(folder / "weights.safetensors", classifier.network.state_dict())
    about = {
        "spec": classifier.spec.model_dump(),
        "classes": classifier.classes,
        "origin": classifier.origin,
    }
    about["channels"] = len(classifier.mean)
    (folder / "classifier.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load(folder: Path, device: str = "auto") -> Classifier:
    """Return the classifier that `save` wrote."""
    about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    spec = ClassifierSpec.model_validate(about["spec"])
    network, mean, std = _build(spec, len(about["classes"]), about.get("channels", 3))
    training.load_weights(folder / "weights.safetensors", network)
    network.to(training.device(device)).eval()
    return Classifier(network, spec, tuple(about["classes"]), mean, std, about["origin"])


# Weights


def check_all(specs: Mapping[str, ClassifierSpec], files: Mapping[str, Path] | None = None) -> None:
    """Raise SpecError or WeightsError if any of some classifiers, by their names, cannot be built:
    before long work.

    Names of networks come first, then sizes of images, then `files`: those that specs with `file:`
    mean, by the spec's `weights`. What comes from the hub is `require_hub`'s.
    """
    _require_known([spec.name for spec in specs.values()])
    for name, spec in {
        (spec.name, spec.size): (name, spec) for name, spec in specs.items()
    }.values():
        _require_size(name, spec)
    for name, path in (files or {}).items():
        tensors = weights.read(path)
        for network in dict.fromkeys(spec.name for spec in specs.values() if spec.weights == name):
            fitting(
                outline(ClassifierSpec(name=network, weights="none"), 2), network, tensors, path
            )


def require_hub(specs: Iterable[ClassifierSpec], fetch: bool = False) -> None:
    """Raise WeightsError, with all files that are missing, unless the ImageNet weights are here or
    can be fetched.

    With `fetch` they are fetched; else the hub is only asked whether it answers.
    """
    weights.require_hub(_hubs(spec.name for spec in specs if spec.weights == "imagenet"), fetch)


def _require_size(name: str, spec: ClassifierSpec) -> None:
    """Raise SpecError if the network takes no images of that size: an empty one goes through its
    outline.
    """
    try:
        outline(spec, 2)(torch.empty(2, 3, spec.size, spec.size, device="meta"))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        called = name if name.startswith(spec.name) else f"{name} ({spec.name})"
        reason = str(error).strip().splitlines()
        raise SpecError(
            f"classifier {called}: size must be one that the network takes, and {spec.size} is not"
            f"{f' ({reason[0]})' if reason else ''}; choose a larger one, such as "
            f"{usual_size(spec.name)}"
        ) from None


def usual_size(name: str) -> int:
    """Return the height and width of the images that the pretrained weights of a network were
    trained on.
    """
    return (
        TINY["size"]
        if name == "tiny"
        else int(_pretrained(name).get("input_size", (3, 224, 224))[1])
    )


def outline(spec: ClassifierSpec, classes: int, channels: int = 3) -> nn.Module:
    """Return the network as a plan of its layers, without any weights: made in no time, and good
    for no images.
    """
    with torch.device("meta"):
        network, _, _ = _build(spec, classes, channels)
    return network.eval()


def adopt(path: Path, store: Store) -> str:
    """Copy a weights file into the store, and return `file:` and its sha256: what specs call it
    from then on.

    Raises WeightsError, and copies nothing, if it is not a file of weights.
    """
    digest = name_file(path)
    spec = WeightsSpec(sha256=digest.removeprefix("file:"))
    if not store.done(spec.name):
        weights.read(path)

    def build(out: Path, scratch: Path) -> None:
        shutil.copyfile(path, out / "weights")
        summary = {
            "holds": f"weights, {many(path.stat().st_size, 'byte')}, from a file named {path.name}",
            "file": path.name,
        }
        (out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")

    store.make(spec, build)
    return digest


def name_file(path: Path) -> str:
    """Return `file:` and the sha256 of a weights file; raises WeightsError if there is no such
    file.
    """
    return f"file:{sha256(weights.find(path))}"


def adopted(spec: ClassifierSpec, store: Store) -> Path | None:
    """Return the file in the store that a spec with `file:` means, nothing for other specs."""
    if not spec.weights.startswith("file:"):
        return None
    run: Run = store.run(WeightsSpec(sha256=spec.weights.removeprefix("file:")).name)
    return run.file("weights")


def start(
    spec: ClassifierSpec, classes: Sequence[str], seed: int, file: Path | None, channels: int = 3
) -> Classifier:
    """Return the classifier before its first step, for images of so many channels."""
    torch.manual_seed(seed_of("classifier", seed))
    network, mean, std = _build(spec, len(classes), 3 if channels == 1 else channels)
    path = _weights_path(spec, file)
    origin = "none"
    if path is not None:
        name = Path(weights.shown(path)).name
        origin = (
            f"{spec.weights if spec.weights == 'imagenet' else 'file'} ({name}, sha256 "
            f"{sha256(path)})"
        )
        _take(network, spec.name, weights.read(path), path)
    return Classifier(network, spec, tuple(classes), mean, std, origin)


def _weights_path(spec: ClassifierSpec, file: Path | None) -> Path | None:
    if spec.weights == "none":
        return None
    if spec.weights == "imagenet":
        return weights.of_hub(_hubs([spec.name]))[spec.name]
    if not spec.weights.startswith("file:"):
        return weights.find(Path(spec.weights))
    if file is None or name_file(file) != spec.weights:
        raise WeightsError(
            f"the weights of {spec.name} must be the file with sha256 "
            f"{spec.weights.removeprefix('file:')}, and "
            f"{'no file' if file is None else f'{file}, another one,'} was given; "
            "bring that file, or name the one you mean in the specification"
        )
    return file


def _hubs(names: Iterable[str]) -> dict[str, str]:
    """Return where the hub has timm's weights of some networks, as OWNER/NAME; raises WeightsError
    if it has none.
    """
    found = {name: str(_pretrained(name).get("hf_hub_id") or "") for name in names}
    for name in (name for name, hub in found.items() if not hub):
        raise WeightsError(
            f"timm has no pretrained weights of {name}; say weights = 'none', or name a file"
        )
    return found


def _take(network: nn.Module, name: str, given: dict[str, Tensor], path: Path) -> None:
    """Load the tensors into the network, all but a head for other classes."""
    fitted, told = fitting(network, name, given, path)
    network.load_state_dict(fitted, strict=False)
    if told:
        say(f"{Path(weights.shown(path)).name}: {told}")


def fitting(
    network: nn.Module, name: str, given: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file under the network's own names, and what was left out, in words.

    A head that does not fit is left out, and so is what stands beside a whole network, such as a
    projector.

    Raises WeightsError if they do not fit, with the network that they look like.
    """
    wanted = network.state_dict()
    head = tuple(f"{part}." for part in _head(network))
    body = [
        key
        for key in wanted
        if not key.startswith(head) and not key.endswith("num_batches_tracked")
    ]
    file = weights.shown(path)

    # Names: without a wrapper's prefix, and as timm has them
    given, prefix = weights.unprefixed(given, body, file)
    given = _widened(network, _renamed(network, given), wanted)
    given = {key: value for key, value in given.items() if not key.startswith(NOT_NEEDED)}

    # The head stays out if any of it is for other classes, and so does what stands beside the
    # network
    ends = [key for key in given if key.startswith(head)]
    fits = all(key in wanted and given[key].shape == wanted[key].shape for key in ends)
    parts = {key.partition(".")[0] for key in wanted}
    beside = [
        key for key in given if key.partition(".")[0] not in parts and not key.startswith(head)
    ]
    left = {*(ends if not fits else ()), *beside}
    kept = {key: value for key, value in given.items() if key not in left}

    wrong = weights.faults(kept, wanted, body)
    if wrong:
        text = (
            f"{file}: it must hold the weights of {name} as timm names them, but "
            f"{', and '.join(wrong)}"
        )
        raise WeightsError(
            f"{text}.{_resembled(given, head, name) or ' Name the network that the file is of'}"
        )
    told = (
        [f"its head, for other classes than the {_outputs(wanted, head)} here, was left out"]
        if ends and not fits
        else []
    )
    told += [
        (
            f"{', '.join(beside[:3])}{' and more' * (len(beside) > 3)} stand beside the network, "
            "and "
            "were left out"
        )
    ] * bool(beside)
    told += [f"its names begin with '{prefix}', which was taken off"] * bool(prefix)
    return kept, "; ".join(told)


def _resembled(given: Mapping[str, Tensor], head: tuple[str, ...], name: str) -> str:
    """Say which usual network the tensors are of, if they are of one, as ` It looks like
    resnet34.`
    """
    shapes = {key: tuple(value.shape) for key, value in given.items()}
    for other in (one for one in USUAL if one != name and _first_layer(one) in shapes):
        network = outline(
            ClassifierSpec(name=other, size=max(usual_size(other), 75), weights="none"), 2
        )
        own = tuple(f"{part}." for part in _head(network))
        wanted = {
            key: tuple(value.shape)
            for key, value in network.state_dict().items()
            if not key.startswith(own)
        }
        wanted = {
            key: shape for key, shape in wanted.items() if not key.endswith("num_batches_tracked")
        }
        if all(shapes.get(key) == shape for key, shape in wanted.items()):
            rest = [
                key for key in shapes if key not in wanted and not key.startswith((*own, *head))
            ]
            if not [key for key in rest if not key.endswith("num_batches_tracked")]:
                return f" It looks like {other}"
    return ""


def _first_layer(name: str) -> str:
    return (
        "features.0.weight"
        if name == "tiny"
        else f"{_pretrained(name).get('first_conv', '')}.weight"
    )


def _outputs(wanted: Mapping[str, Tensor], head: tuple[str, ...]) -> int:
    return next(len(wanted[key]) for key in reversed(list(wanted)) if key.startswith(head))


def _renamed(network: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names: its modules know how to read what torchvision and
    others wrote.
    """
    module = sys.modules[type(network).__module__]
    rename = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
    if rename is None:
        return given
    needed = [
        part for part in inspect.signature(rename).parameters.values() if part.default is part.empty
    ]
    return dict(rename(given, network) if len(needed) > 1 else rename(given))


def _widened(
    network: nn.Module, given: dict[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors with a first layer for as many channels as `wanted` has.

    As timm does it: its filters for red, green and blue are repeated in turn, and scaled so that
    their sum stays.
    """
    key = f"{getattr(network, 'pretrained_cfg', {}).get('first_conv', '')}.weight"
    if key not in given or given[key].shape[1] != 3 or wanted[key].shape[1] == 3:
        return given
    return {**given, key: _timm().models.adapt_input_conv(wanted[key].shape[1], given[key])}


def _head(network: nn.Module) -> tuple[str, ...]:
    names: str | tuple[str, ...] = getattr(network, "pretrained_cfg", {}).get("classifier", "head")
    return (names,) if isinstance(names, str) else tuple(names)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


# Networks


class Tiny(nn.Module):
    """A small network for tests, the demo and a first look: three convolutions, a linear layer,
    30,000 weights.
    """

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
        return self.head(functional.adaptive_avg_pool2d(self.features(x), 4).flatten(1))


def _build(
    spec: ClassifierSpec, classes: int, channels: int = 3
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """Return the network with random weights, and the mean and deviation that its images are
    normalised by.
    """
    if spec.name == "tiny":
        return Tiny(classes, channels), (0.5,) * channels, (0.5,) * channels
    _require_known([spec.name])
    about = _pretrained(spec.name)
    sized = {"img_size": spec.size} if about.get("fixed_input_size") else {}
    wide = {"in_chans": channels} if channels != 3 else {}
    network = _timm().create_model(
        spec.name, pretrained=False, num_classes=classes, **sized, **wide
    )
    mean, std = (tuple(about.get(name, (0.5,) * 3)) for name in ("mean", "std"))
    if channels != 3:  # no channel is red, green or blue
        mean, std = ((sum(values) / 3,) * channels for values in (mean, std))
    return network, mean, std


def _require_known(names: Iterable[str]) -> None:
    """Raise SpecError, with all that are not known, unless each is tiny or a network of timm."""
    unknown: list[str] = []
    for name in dict.fromkeys(name for name in names if name != "tiny"):
        timm = _timm()
        architecture, _, tag = name.partition(".")
        known = timm.is_model(architecture) and (
            not tag or name in timm.list_pretrained(architecture)
        )
        if not known:
            unknown.append(f"'{name}' is neither{_alike(name)}")
    if unknown:
        raise SpecError(f"a classifier must be 'tiny' or a model of timm, and {'; '.join(unknown)}")


def _alike(name: str) -> str:
    """Say which networks of timm have names that contain this one, the plainest first, or else
    which is nearest.
    """
    timm, lower = _timm(), name.partition(".")[0].lower().replace("-", "").replace("_", "")
    models = ["tiny", *timm.list_models()]
    inside = [one for one in models if lower and lower in one.replace("_", "")]
    leading = [one for one in inside if one.replace("_", "").startswith(lower)]
    usual = [one for one in USUAL if one in inside]
    near = list(dict.fromkeys([*usual, *sorted(leading, key=len), *sorted(inside, key=len)]))[:3]
    if near:
        more = f" or another of {len(inside)} that contain it" if len(inside) > len(near) else ""
        return f" (there are {', '.join(near)}{more})"
    return nearest(name.lower(), models).replace(" Did", ". Did")


def _pretrained(name: str) -> dict[str, Any]:
    """Return what timm knows about the pretrained weights of a network."""
    known = _timm().get_pretrained_cfg(name)
    return {} if known is None else known.to_dict()


def _timm() -> Any:
    """Return timm, imported late: it takes seconds, and needs torchvision."""
    operators.prepare()
    import timm

    return timm


# One step


def _rows(n: int, batch: int, step: int, a_round: int, seed: int) -> Int[np.ndarray, " batch"]:
    """Return the images of a step: each epoch goes through all of them in an order of its own."""
    epoch, place = divmod(step, a_round)
    return rng("classifier", seed, "epoch", epoch).permutation(n)[
        place * batch : (place + 1) * batch
    ]


def _resize(images: UInt8[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Return the images in [0, 1], resized: bilinear, antialiased where they shrink."""
    x = images.float() / 255
    if images.shape[2:] == (size, size):
        return x
    return functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)


def _normalise(
    x: Float[Tensor, "n c size size"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "n k size size"]:
    """Return what the network takes: its channels, with the mean and deviation of its weights.

    Raises DataError if the images have other channels than those that it was trained on.
    """
    if x.shape[1] not in (1, len(mean)):
        raise DataError(
            f"the classifier was made for images of {len(mean)} channels, and these have "
            f"{x.shape[1]}; show it the "
            "inputs that it was trained on"
        )
    x = x.expand(-1, len(mean), -1, -1)
    return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]


def _optimiser(network: nn.Module, spec: ClassifierSpec) -> torch.optim.Optimizer:
    learnable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if spec.optimiser == "adamw":
        return torch.optim.AdamW(learnable, lr=spec.learning_rate, weight_decay=spec.weight_decay)
    return torch.optim.SGD(
        learnable,
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        momentum=0.9,
        nesterov=True,
    )


# Freezing


def frozen(spec: ClassifierSpec, classes: int) -> Frozen | None:
    """Return what stays as it was under `spec.freeze`, nothing if that is 0. No weights are needed
    for it.
    """
    if not spec.freeze:
        return None
    with torch.device("meta"):
        network, _, _ = _build(spec, classes)
    layers = _layers(network)
    count = math.floor(spec.freeze * len(layers) + 1e-9)
    _freeze(network, spec.freeze)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    kept = sum(size for size, learns in sizes if not learns)
    return Frozen(
        tuple(name for name, _ in layers[:count]),
        len(layers),
        kept / sum(size for size, _ in sizes),
    )


def _layers(network: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """Return the learnable layers in the order of definition, each with the normalisation that
    follows it.
    """
    found: list[tuple[str, list[nn.Module]]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            found.append((name, [module]))
        elif (
            found
            and not list(module.children())
            and (list(module.parameters()) or list(module.buffers()))
        ):
            found[-1][1].append(module)
    return found


def _freeze(network: nn.Module, share: float) -> list[nn.Module]:
    """Make the first `share` of the layers unlearnable; return the modules that must stay in
    evaluation mode.
    """
    layers = _layers(network)
    still = [
        module for _, group in layers[: math.floor(share * len(layers) + 1e-9)] for module in group
    ]
    for module in still:
        module.requires_grad_(False)
    return still


# Choosing an epoch


def _held_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces | None]:
    """Return the images to learn from, and those kept out to choose an epoch by: about `share` of
    people, or clips.
    """
    if not share:
        return faces, None
    units = _units(faces)
    names = sorted(set(units))
    if len(names) < 2:
        raise DataError(
            "validation needs two people, clips or images or more, and the training side has "
            f"{len(names)}"
        )
    count = min(len(names) - 1, max(1, round(share * len(names))))
    out = {names[place] for place in rng("validation", seed).permutation(len(names))[:count]}
    held: Bool[np.ndarray, " n"] = np.array([name in out for name in units], dtype=bool)
    return faces.select(~held), faces.select(held)


def _units(faces: Faces) -> list[str]:
    """Return what is held out together: the subject of each image, else its clip, else the image
    alone.
    """
    columns = zip(faces.index["subject"], faces.index["clip"], faces.index["key"], strict=True)
    return [subject or clip or key for subject, clip, key in columns]


class _Best:
    """The epoch whose weights a training ends with: the best on `held`, the earliest of equals;
    else the last.
    """

    def __init__(self, held: Faces | None) -> None:
        self.held, self.epoch, self.score = held, 0, -1.0
        self.weights: dict[str, Tensor] = {}

    def look(self, classifier: Classifier, epoch: int) -> None:
        """Take in the state of the network at the end of an epoch."""
        if self.held is None:
            self.epoch = epoch
            return
        found = predict(classifier, self.held).argmax(axis=1)
        true = self.held.labels(classifier.classes)
        counts = metrics.confusion(true, found.astype(np.int64), len(classifier.classes))
        score = metrics.score(counts, classifier.classes).uar
        if score > self.score:
            self.score, self.epoch = score, epoch
            self.weights = {
                name: tensor.detach().clone()
                for name, tensor in classifier.network.state_dict().items()
            }

    def restore(self, network: nn.Module) -> None:
        """Give the network the weights of the best epoch."""
        if self.weights:
            network.load_state_dict(self.weights)


# Going on


def _keep(scratch: Path, work: Training, best: _Best, step: int) -> None:
    parts = {
        "network": work.network.state_dict(),
        "optimiser": training.pack_optimiser(work.optimiser),
        "best": best.weights,
    }
    tensors = {
        f"{part}.{name}": tensor for part, group in parts.items() for name, tensor in group.items()
    }
    training.save_checkpoint(
        scratch, tensors, {"step": step, "epoch": best.epoch, "score": best.score}
    )


def _resume(scratch: Path | None, work: Training, best: _Best) -> int:
    """Return the number of steps that are done, with their weights in place."""
    found = training.load_checkpoint(scratch) if scratch is not None else None
    if found is None:
        return 0
    tensors, state = found
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimiser": {}, "best": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    work.network.load_state_dict(parts["network"])
    training.unpack_optimiser(work.optimiser, parts["optimiser"])
    best.weights, best.epoch, best.score = parts["best"], int(state["epoch"]), float(state["score"])
    return int(state["step"])


# Speed


def workload(spec: ClassifierSpec, classes: int, image: tuple[int, int, int]) -> Workload:
    """Return what an image of this size (c, h, w) takes in a network, frozen and augmented as its
    spec says.
    """
    channels = 3 if image[0] == 1 else image[0]
    network = outline(spec, classes, channels)
    still = _freeze(network, spec.freeze)
    found = work_of(
        network, 2, torch.empty(2, channels, spec.size, spec.size, device="meta"), still=still
    )
    shown = (
        channels * spec.size**2 * (MOVED if spec.augment is not None else SHOWN)
    )  # resized, moved, normalised
    return replace(found, numbers=found.numbers + shown)


def speed(
    spec: ClassifierSpec, classes: int, image: tuple[int, int, int], device: str = "auto"
) -> Speed:
    """Return how fast a network is here on images of this size (c, h, w), with random weights, from
    a batch or two.

    On a processor a large network is timed on two small batches, so that it takes seconds: what a
    step costs whatever its batch (the optimiser), and what each image adds, give the time of a
    whole batch.
    """
    where = training.device(device)
    counts = TIMED_ON_CPU if where.type == "cpu" and spec.name != "tiny" else (spec.batch,)
    timed = [_timed(spec, classes, image, where, min(count, spec.batch)) for count in counts]
    (few, *first), (many, *second) = timed[0], timed[-1]
    if few == many:
        return Speed(*(many / seconds for seconds in second))
    each = [
        max(later - sooner, 0.1 * later) / (many - few)
        for sooner, later in zip(first, second, strict=True)
    ]
    whole = [later + one * (spec.batch - many) for one, later in zip(each, second, strict=True)]
    return Speed(*(spec.batch / seconds for seconds in whole))


def _timed(
    spec: ClassifierSpec, classes: int, image: tuple[int, int, int], where: torch.device, count: int
) -> tuple[int, float, float]:
    """Return `count` and the seconds that a training step and a prediction take with a batch of so
    many.
    """
    spec = spec.model_copy(update={"weights": "none", "batch": count})
    names = EMOTIONS[:classes]
    images = rng("speed").integers(0, 256, (count, *image), dtype=np.uint8)
    key = [str(number) for number in range(count)]
    shown = Faces(
        images, make_index(images, key=key, emotion=[names[n % classes] for n in range(count)])
    )
    with training.own_randomness(where), _as_specified(spec, where):
        work = Training(start(spec, names, 0, None, image[0]), shown, 0, where)
        train = _seconds(lambda: work.step(0), where)
        return count, train, _seconds(lambda: predict(work.classifier, shown), where)


def _seconds(work: Callable[[], object], where: torch.device) -> float:
    """Return how long the second call of `work` takes: the first prepares."""
    work()
    finish(where)
    began = time.monotonic()
    work()
    finish(where)
    return time.monotonic() - began


def finish(where: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
