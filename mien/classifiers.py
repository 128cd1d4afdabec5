"""Classifiers, trained and applied: the preprint's three networks, any other of timm, and `tiny`.

Images stay uint8 on the device and become floats batch by batch: augmented, resized, grey
repeated to the three channels of pretrained networks, and normalised as their weights expect. For
images of two channels, or of more than three, the network's first layer has as many inputs. The
result is the last epoch, or the one that scores best on a held-out part of the training side: no
epoch is ever chosen by looking at a test set.
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

# The defaults of `tiny` that differ from those of other networks
TINY = {
    "size": 48,
    "weights": "none",
    "epochs": 20,
    "batch": 64,
    "learning_rate": 2e-3,
}

# The smallest image that a network's strides allow, in pixels
SMALLEST = {
    "inception_v3": 75,
    "vgg16": 32,
    "resnet50": 32,
    "tiny": 8,
}

CHECK_EVERY = 10  # steps between two reads of the loss, each of which makes a graphics card wait
TIMED_ON_CPU = (2, 6)  # batch sizes at which a large network is timed on a processor
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
"""Networks that a weights file is compared with if it does not fit the network that was named."""

# Numbers written per number of an image: resized and normalised only, and also augmented
SHOWN, MOVED = 4, 16

# The second head of torchvision's Inception, which only torchvision's training uses
NOT_NEEDED = "AuxLogits."


class ClassifierSpec(Strict):
    """A classifier and its training.

    `name` is vgg16, resnet50, inception_v3, any other model of timm, or tiny, a small network
    defined here. `weights` is what the training starts from: imagenet (the weights that timm's hub
    has under that name), none (random weights), or a file, which digests name by its content, as
    `file:` and its sha256. Images are resized to `size` pixels. The learning rate falls to zero
    along a cosine over `epochs`. With `augment` each training image is rotated, shifted, mirrored
    and relit at random in each epoch. `freeze` is the share of the layers (convolutions and linear
    layers in the order of definition, rounded down) that are not trained, with the normalisation
    that follows them. `validation` is the share of the training subjects (of clips if subjects are
    not known, of images if clips are not known either) that are held out to choose the epoch by
    UAR; with 0 the last epoch is taken. `threads` is the number of processor threads that share a
    sum, so it is part of the result; `deterministic` makes an NVIDIA card use algorithms that give
    the same bits each time.
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
                "weights must be 'imagenet', 'none', or the path of a file; it is empty"
            )
        if weights.startswith("file:") and not _is_sha256(weights.removeprefix("file:")):
            raise ValueError("file: must be followed by the 64 hexadecimal digits of a sha256")
        return weights

    @model_validator(mode="after")
    def _fits(self) -> "ClassifierSpec":
        least = SMALLEST.get(self.name.partition(".")[0], 8)
        if self.size < least:
            raise ValueError(f"size must be {least} or more for {self.name}; given: {self.size}")
        if self.name == "tiny" and self.weights == "imagenet":
            raise ValueError(
                "weights must be 'none' or a file for tiny, which has no ImageNet weights"
            )
        return self


class WeightsSpec(Spec):
    """A file of pretrained weights in the store, by its content."""

    stage: ClassVar[str] = "weights"
    sha256: str


@dataclass(frozen=True)
class Classifier:
    """A trained network with all that is needed to use it.

    `classes` are the names of its outputs, in order. `origin` says where its first weights came
    from. Images in [0, 1] are normalised by `mean` and `std`, one number per input channel.
    `epoch` is the epoch of its weights, counted from 1.
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
    """The frozen part of a network.

    `layers` are the names of the frozen layers, `of` is the number of all layers, and `weights` is
    the frozen share of all weights.
    """

    layers: tuple[str, ...]
    of: int
    weights: float

    @property
    def text(self) -> str:
        """The same as a line of text."""
        layer_names = f": {_some(list(self.layers))}" if self.layers else ""
        return (
            f"{len(self.layers)} of {many(self.of, 'layer')} (convolutions and linear layers, in "
            f"the order of definition), {100 * self.weights:.2f} % of the weights{layer_names}"
        )


@dataclass(frozen=True)
class Speed:
    """Images per second in training and in prediction."""

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
    """Return a classifier of `classes` trained on `faces`; equal arguments give equal weights.

    Checkpoints are written to `scratch`, and a training that was stopped resumes from there with
    the same result. `file` is the weights file that a spec with `file:` refers to.

    Raises DataError for fewer than two images or classes, WeightsError if the pretrained weights
    are missing, and TrainingError if the training diverges.
    """
    # Hold out the images that choose the epoch
    train_faces, held_out = _held_out(faces, spec.validation, seed)
    if len(train_faces) < 2:
        raise DataError(
            f"a classifier needs two images or more to learn from; it was given {len(train_faces)}"
        )
    if len(classes) < 2:
        raise DataError(
            "a classifier needs two classes or more to distinguish; it was given only "
            f"{' '.join(classes)}"
        )

    where = training.device(device)
    with (
        training.own_randomness(where),
        _as_specified(spec, where),
        stopping.heeded(scratch is not None),
    ):
        # Resume from the last checkpoint, if there is one
        first = start(spec, classes, seed, file, train_faces.size[0])
        work = Training(first, train_faces, seed, where)
        best = _Best(held_out)
        done = _resume(scratch, work, best)
        saved, checked = time.monotonic(), done
        losses: list[Tensor] = []

        with track(f"training {spec.name}", work.steps) as bar:
            for step in range(done, work.steps):
                losses.append(work.step(step))

                # Read the losses seldom, and always before a checkpoint and at the end
                last = step + 1 == work.steps
                late = stopping.asked() or time.monotonic() - saved >= CHECKPOINT_EVERY_S
                due = scratch is not None and not last and late
                if last or due or step + 1 - checked >= CHECK_EVERY:
                    value = _finite(torch.stack(losses), checked, work)
                    losses, checked = [], step + 1
                    bar.update(step + 1, f"loss {value:.3f}")

                # Score the held-out images at the end of each epoch
                if (step + 1) % work.a_round == 0:
                    best.look(work.classifier, (step + 1) // work.a_round)

                # Save, then stop here if a signal asked for it
                if due and scratch is not None:
                    _keep(scratch, work, best, step + 1)
                    saved = time.monotonic()
                    stopping.obey()

    # The best epoch's weights, which must give finite answers
    network = work.classifier.network
    best.restore(network)
    network.eval()
    _require_answers(work, train_faces)
    return replace(work.classifier, epoch=best.epoch)


@contextmanager
def _as_specified(spec: ClassifierSpec, where: torch.device) -> Iterator[None]:
    """Let torch use the threads and the deterministic algorithms that a spec asks for."""
    with training.cores(spec.threads), training.repeatable(where, spec.deterministic):
        yield


class Training:
    """A training in progress: everything that a step needs is on the device."""

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

        # The images left over after whole batches get their turn in another epoch's order
        self.batch = min(spec.batch, len(faces))
        self.a_round = len(faces) // self.batch
        self.steps = spec.epochs * self.a_round
        self.optimiser = _optimiser(self.network, spec)

    def step(self, step: int) -> Float[Tensor, ""]:
        """Take step number `step` (from 0), and return its loss, which stays on the device."""
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
        images, size, changes = self.images[rows], self.spec.size, self.spec.augment
        if changes is None:
            x = _resize(images, size)
        else:
            movements = parameters(changes, len(images), self.seed, step)
            x = augment(images, movements, size, self.rests)
        return _normalise(x, self.classifier.mean, self.classifier.std)

    def learn(
        self, x: Float[Tensor, "n k size size"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Take one optimiser step on a prepared batch, and return its loss."""
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
    """Return the last loss; raises TrainingError if a loss since step `first` is not finite."""
    values = losses.tolist()
    bad = next((index for index, value in enumerate(values) if not math.isfinite(value)), None)
    if bad is not None:
        raise TrainingError(
            f"the loss of {work.spec.name} must stay finite; it became {values[bad]} in step "
            f"{first + bad + 1} of {work.steps}; lower its learning_rate, which is "
            f"{work.spec.learning_rate:g}"
        )
    return values[-1]


def _require_answers(work: Training, faces: Faces) -> None:
    """Raise TrainingError unless the network's answers to some training images are finite."""
    sample = faces.select(np.arange(min(len(faces), 8)))
    if not np.isfinite(predict(work.classifier, sample)).all():
        raise TrainingError(
            f"the answers of {work.spec.name} must be finite after training, and are not; lower "
            f"its learning_rate, which is {work.spec.learning_rate:g}"
        )


@torch.no_grad()
def predict(
    classifier: Classifier, faces: Faces, batch: int = 256
) -> Float[np.ndarray, "n classes"]:
    """Return float32 probabilities, one row per image.

    They do not depend on `batch`, which only limits the memory.
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
    """Return the input of the classification head for each image, float32; see `see`."""
    starts = range(0, len(faces), batch)
    rows = [see(classifier, faces.images[first : first + batch]) for first in starts]
    return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)


@torch.inference_mode()
def see(classifier: Classifier, images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n d"]:
    """Return the input of the classification head for each image, float32.

    It is the mean over positions, or whatever timm's head pools in other networks.
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
    """Write weights.safetensors and classifier.json, which `load` reads."""
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
    """Raise SpecError or WeightsError if any classifier cannot be built; for use before long work.

    `specs` maps the names that messages use to the classifiers; `files` maps the `weights` of
    specs with `file:` to their paths. Networks' names are checked first, then image sizes, then
    `files`. `require_hub` checks the weights that come from the hub.
    """
    _require_known([spec.name for spec in specs.values()])

    # Each network and size once
    sizes = {(spec.name, spec.size): (name, spec) for name, spec in specs.items()}
    for name, spec in sizes.values():
        _require_size(name, spec)

    # Each file with each network that starts from it
    for name, path in (files or {}).items():
        tensors = weights.read(path)
        for network in dict.fromkeys(spec.name for spec in specs.values() if spec.weights == name):
            fitting(
                outline(ClassifierSpec(name=network, weights="none"), 2), network, tensors, path
            )


def require_hub(specs: Iterable[ClassifierSpec], fetch: bool = False) -> None:
    """Raise WeightsError, listing the missing files, unless the ImageNet weights are available.

    With `fetch` they are downloaded; without it the hub is only asked whether it answers.
    """
    weights.require_hub(_hubs(spec.name for spec in specs if spec.weights == "imagenet"), fetch)


def _require_size(name: str, spec: ClassifierSpec) -> None:
    """Raise SpecError if the network cannot take images of that size.

    Images without data go through an outline of the network.
    """
    try:
        outline(spec, 2)(torch.empty(2, 3, spec.size, spec.size, device="meta"))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        label = name if name.startswith(spec.name) else f"{name} ({spec.name})"
        reason = str(error).strip().splitlines()
        raise SpecError(
            f"classifier {label}: size must be one that the network can take; {spec.size} is not"
            f"{f' ({reason[0]})' if reason else ''}; choose a larger one, such as "
            f"{usual_size(spec.name)}"
        ) from None


def usual_size(name: str) -> int:
    """Return the height and width of the images that a network's ImageNet weights expect."""
    return (
        TINY["size"]
        if name == "tiny"
        else int(_pretrained(name).get("input_size", (3, 224, 224))[1])
    )


def outline(spec: ClassifierSpec, classes: int, channels: int = 3) -> nn.Module:
    """Return the network's layers on the meta device: without weights, so for shapes only."""
    with torch.device("meta"):
        network, _, _ = _build(spec, classes, channels)
    return network.eval()


def adopt(path: Path, store: Store) -> str:
    """Copy a weights file into the store; return its name in specs, `file:` and its sha256.

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
    """Return `file:` and the sha256 of a weights file; raises WeightsError if it does not exist."""
    return f"file:{sha256(weights.find(path))}"


def adopted(spec: ClassifierSpec, store: Store) -> Path | None:
    """Return the file in the store that a spec with `file:` refers to, or None for other specs."""
    if not spec.weights.startswith("file:"):
        return None
    run: Run = store.run(WeightsSpec(sha256=spec.weights.removeprefix("file:")).name)
    return run.file("weights")


def start(
    spec: ClassifierSpec, classes: Sequence[str], seed: int, file: Path | None, channels: int = 3
) -> Classifier:
    """Return the classifier before its first step, for images of `channels` channels."""
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
            f"{spec.weights.removeprefix('file:')}; given: "
            f"{'no file' if file is None else f'{file}, which is another one'}. Give that file, "
            "or name the right one in the specification"
        )
    return file


def _hubs(names: Iterable[str]) -> dict[str, str]:
    """Return the hub's repository, as OWNER/NAME, of timm's weights of each network.

    Raises WeightsError if timm has no weights of one.
    """
    repositories = {name: str(_pretrained(name).get("hf_hub_id") or "") for name in names}
    for name in (name for name, repository in repositories.items() if not repository):
        raise WeightsError(
            f"timm has no pretrained weights of {name}; set weights = 'none', or name a file"
        )
    return repositories


def _take(network: nn.Module, name: str, tensors: dict[str, Tensor], path: Path) -> None:
    """Load the tensors into the network, except for a head for other classes."""
    fitted, note = fitting(network, name, tensors, path)
    network.load_state_dict(fitted, strict=False)
    if note:
        say(f"{Path(weights.shown(path)).name}: {note}")


def fitting(
    network: nn.Module, name: str, given: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file under the network's own names, and a note on those left out.

    `given` are the tensors of the file at `path`, `name` is the network's name. A head that does
    not fit is left out, and so are modules that the network does not have, such as a projector.

    Raises WeightsError if the tensors do not fit, with the network that they look like.
    """
    wanted = network.state_dict()
    head = tuple(f"{module}." for module in _head(network))
    body = [
        key
        for key in wanted
        if not key.startswith(head) and not key.endswith("num_batches_tracked")
    ]
    file = weights.shown(path)

    # Rename the tensors as timm does, without a wrapper's prefix
    given, prefix = weights.unprefixed(given, body, file)
    given = _widened(network, _renamed(network, given), wanted)
    given = {key: value for key, value in given.items() if not key.startswith(NOT_NEEDED)}

    # Leave out the head if any of it is for other classes, and modules that the network lacks
    head_keys = [key for key in given if key.startswith(head)]
    head_fits = all(key in wanted and given[key].shape == wanted[key].shape for key in head_keys)
    modules = {key.partition(".")[0] for key in wanted}
    extra = [
        key for key in given if key.partition(".")[0] not in modules and not key.startswith(head)
    ]
    left_out = {*(head_keys if not head_fits else ()), *extra}
    fitted = {key: value for key, value in given.items() if key not in left_out}

    # All others must fit; if not, the file may be of another network
    faults = weights.faults(fitted, wanted, body)
    if faults:
        text = (
            f"{file}: it must hold the weights of {name} as timm names them, but "
            f"{', and '.join(faults)}"
        )
        raise WeightsError(
            f"{text}.{_resembled(given, head, name) or ' Name the network of the file'}"
        )

    # What a reader should know of the tensors that were left out or renamed
    notes = []
    if head_keys and not head_fits:
        outputs = _outputs(wanted, head)
        notes.append(f"its head, for other classes than the {outputs} here, was left out")
    if extra:
        notes.append(
            f"{', '.join(extra[:3])}{' and more' * (len(extra) > 3)} are not part of the network "
            "and were left out"
        )
    if prefix:
        notes.append(f"the prefix '{prefix}' of its names was removed")
    return fitted, "; ".join(notes)


def _resembled(tensors: Mapping[str, Tensor], head: tuple[str, ...], name: str) -> str:
    """Return ` It looks like NAME` for the usual network that the tensors belong to, or ""."""
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    for other in (usual for usual in USUAL if usual != name and _first_layer(usual) in shapes):
        # The shapes of that network without its head, which may be for other classes
        network = outline(
            ClassifierSpec(name=other, size=max(usual_size(other), 75), weights="none"), 2
        )
        other_head = tuple(f"{module}." for module in _head(network))
        wanted = {
            key: tuple(value.shape)
            for key, value in network.state_dict().items()
            if not key.startswith(other_head) and not key.endswith("num_batches_tracked")
        }

        # The same network has all of these, and nothing else but a head
        if all(shapes.get(key) == shape for key, shape in wanted.items()):
            extra = [
                key
                for key in shapes
                if key not in wanted
                and not key.startswith((*other_head, *head))
                and not key.endswith("num_batches_tracked")
            ]
            if not extra:
                return f" It looks like {other}"
    return ""


def _first_layer(name: str) -> str:
    return (
        "features.0.weight"
        if name == "tiny"
        else f"{_pretrained(name).get('first_conv', '')}.weight"
    )


def _outputs(wanted: Mapping[str, Tensor], head: tuple[str, ...]) -> int:
    """Return the number of classes of a network's head."""
    return next(len(wanted[key]) for key in reversed(list(wanted)) if key.startswith(head))


def _renamed(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names, by timm's own converter of other libraries' files."""
    module = sys.modules[type(network).__module__]
    rename = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
    if rename is None:
        return tensors
    needed = [
        parameter
        for parameter in inspect.signature(rename).parameters.values()
        if parameter.default is parameter.empty
    ]
    return dict(rename(tensors, network) if len(needed) > 1 else rename(tensors))


def _widened(
    network: nn.Module, tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors with a first layer for as many channels as `wanted` has.

    As in timm, the filters for red, green and blue are repeated in turn, and scaled so that their
    sum stays the same.
    """
    key = f"{getattr(network, 'pretrained_cfg', {}).get('first_conv', '')}.weight"
    if key not in tensors or tensors[key].shape[1] != 3 or wanted[key].shape[1] == 3:
        return tensors
    return {**tensors, key: _timm().models.adapt_input_conv(wanted[key].shape[1], tensors[key])}


def _head(network: nn.Module) -> tuple[str, ...]:
    names: str | tuple[str, ...] = getattr(network, "pretrained_cfg", {}).get("classifier", "head")
    return (names,) if isinstance(names, str) else tuple(names)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _some(keys: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


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
        return self.head(functional.adaptive_avg_pool2d(self.features(x), 4).flatten(1))


def _build(
    spec: ClassifierSpec, classes: int, channels: int = 3
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """Return the network with random weights, and the mean and deviation for its images.

    The mean and deviation have one number per channel, for images in [0, 1].
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
    """Raise SpecError, listing the unknown names, unless each is tiny or a network of timm."""
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
        raise SpecError(f"a classifier must be 'tiny' or a model of timm; {'; '.join(unknown)}")


def _alike(name: str) -> str:
    """Return a hint: the networks of timm whose names contain this one, or else the nearest name.

    Usual networks come first, then names that begin with it, then the shortest.
    """
    timm, lower = _timm(), name.partition(".")[0].lower().replace("-", "").replace("_", "")
    models = ["tiny", *timm.list_models()]
    inside = [model for model in models if lower and lower in model.replace("_", "")]
    leading = [model for model in inside if model.replace("_", "").startswith(lower)]
    usual = [model for model in USUAL if model in inside]
    near = list(dict.fromkeys([*usual, *sorted(leading, key=len), *sorted(inside, key=len)]))[:3]
    if near:
        more = f" or another of {len(inside)} that contain it" if len(inside) > len(near) else ""
        return f" (there are {', '.join(near)}{more})"
    return nearest(name.lower(), models).replace(" Did", ". Did")


def _pretrained(name: str) -> dict[str, Any]:
    """Return timm's description of the pretrained weights of a network."""
    known = _timm().get_pretrained_cfg(name)
    return {} if known is None else known.to_dict()


def _timm() -> Any:
    """Return timm, imported here because it takes seconds, and needs torchvision."""
    operators.prepare()
    import timm

    return timm


# One step


def _rows(n: int, batch: int, step: int, a_round: int, seed: int) -> Int[np.ndarray, " batch"]:
    """Return the rows of the images of a step: each epoch has its own order of all images."""
    epoch, index = divmod(step, a_round)
    order = rng("classifier", seed, "epoch", epoch).permutation(n)
    return order[index * batch : (index + 1) * batch]


def _resize(images: UInt8[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Return the images in [0, 1], resized: bilinear, antialiased where they shrink."""
    x = images.float() / 255
    if images.shape[2:] == (size, size):
        return x
    return functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)


def _normalise(
    x: Float[Tensor, "n c size size"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "n k size size"]:
    """Return the network's input: all its channels, normalised by the mean and deviation.

    Raises DataError if the images have other channels than those that the network was made for.
    """
    if x.shape[1] not in (1, len(mean)):
        raise DataError(
            f"the classifier needs images of {len(mean)} channels; these have {x.shape[1]}. Use "
            "the inputs that it was trained on"
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
    """Return the layers and weights that `spec.freeze` freezes, or None if it is 0.

    The weights themselves are not needed.
    """
    if not spec.freeze:
        return None
    with torch.device("meta"):
        network, _, _ = _build(spec, classes)
    layers = _layers(network)
    count = math.floor(spec.freeze * len(layers) + 1e-9)
    _freeze(network, spec.freeze)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    frozen_weights = sum(size for size, learns in sizes if not learns)
    return Frozen(
        tuple(name for name, _ in layers[:count]),
        len(layers),
        frozen_weights / sum(size for size, _ in sizes),
    )


def _layers(network: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """Return the layers in the order of definition, each with the normalisation that follows it."""
    layers: list[tuple[str, list[nn.Module]]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            layers.append((name, [module]))
        elif (
            layers
            and not list(module.children())
            and (list(module.parameters()) or list(module.buffers()))
        ):
            layers[-1][1].append(module)
    return layers


def _freeze(network: nn.Module, share: float) -> list[nn.Module]:
    """Freeze the first `share` of the layers; return their modules, to be kept in eval mode."""
    layers = _layers(network)
    count = math.floor(share * len(layers) + 1e-9)
    modules = [module for _, group in layers[:count] for module in group]
    for module in modules:
        module.requires_grad_(False)
    return modules


# Choosing an epoch


def _held_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces | None]:
    """Return the images to learn from, and the held-out ones that choose the epoch, or None.

    About `share` of the subjects, or else of the clips or images, are held out.
    """
    if not share:
        return faces, None
    units = _units(faces)
    names = sorted(set(units))
    if len(names) < 2:
        raise DataError(
            "validation needs at least two subjects, clips or images; the training side has "
            f"{len(names)}. Set validation = 0, or give more faces"
        )
    count = min(len(names) - 1, max(1, round(share * len(names))))
    order = rng("validation", seed).permutation(len(names))
    held_names = {names[index] for index in order[:count]}
    is_held_out: Bool[np.ndarray, " n"] = np.array(
        [name in held_names for name in units], dtype=bool
    )
    return faces.select(~is_held_out), faces.select(is_held_out)


def _units(faces: Faces) -> list[str]:
    """Return the unit of each image that is held out as a whole: its subject, clip or own key."""
    columns = zip(faces.index["subject"], faces.index["clip"], faces.index["key"], strict=True)
    return [subject or clip or key for subject, clip, key in columns]


class _Best:
    """The epoch whose weights a training ends with.

    It is the one with the highest UAR on `held`, the earliest of equals, or the last if `held` is
    None.
    """

    def __init__(self, held: Faces | None) -> None:
        self.held, self.epoch, self.score = held, 0, -1.0
        self.weights: dict[str, Tensor] = {}

    def look(self, classifier: Classifier, epoch: int) -> None:
        """Score the network after an epoch, and copy its weights if it is the best so far."""
        if self.held is None:
            self.epoch = epoch
            return
        predicted = predict(classifier, self.held).argmax(axis=1)
        true = self.held.labels(classifier.classes)
        counts = metrics.confusion(true, predicted.astype(np.int64), len(classifier.classes))
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


# Checkpoints


def _keep(scratch: Path, work: Training, best: _Best, step: int) -> None:
    """Write a checkpoint after `step` steps; tensors are named GROUP.NAME."""
    groups = {
        "network": work.network.state_dict(),
        "optimiser": training.pack_optimiser(work.optimiser),
        "best": best.weights,
    }
    tensors = {
        f"{group}.{name}": tensor
        for group, named_tensors in groups.items()
        for name, tensor in named_tensors.items()
    }
    training.save_checkpoint(
        scratch, tensors, {"step": step, "epoch": best.epoch, "score": best.score}
    )


def _resume(scratch: Path | None, work: Training, best: _Best) -> int:
    """Restore the last checkpoint, if there is one; return the number of steps that are done."""
    checkpoint = training.load_checkpoint(scratch) if scratch is not None else None
    if checkpoint is None:
        return 0
    tensors, state = checkpoint
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimiser": {}, "best": {}}
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        groups[group][name] = tensor
    work.network.load_state_dict(groups["network"])
    training.unpack_optimiser(work.optimiser, groups["optimiser"])
    best.weights, best.epoch = groups["best"], int(state["epoch"])
    best.score = float(state["score"])
    return int(state["step"])


# Speed


def workload(spec: ClassifierSpec, classes: int, image: tuple[int, int, int]) -> Workload:
    """Return the work per image of size (c, h, w), frozen and augmented as the spec says."""
    channels = 3 if image[0] == 1 else image[0]
    network = outline(spec, classes, channels)
    frozen_modules = _freeze(network, spec.freeze)
    images = torch.empty(2, channels, spec.size, spec.size, device="meta")
    network_work = work_of(network, 2, images, still=frozen_modules)

    # The preparation of the image: resized, normalised, and augmented if the spec says so
    prepared = channels * spec.size**2 * (MOVED if spec.augment is not None else SHOWN)
    return replace(network_work, numbers=network_work.numbers + prepared)


def speed(
    spec: ClassifierSpec, classes: int, image: tuple[int, int, int], device: str = "auto"
) -> Speed:
    """Return the speed of a network on this machine, for images of size (c, h, w).

    The weights are random, and one or two batches are timed. On a processor a large network is
    timed on two small batches, which takes seconds: the constant cost of a step (the optimiser)
    and the cost of each further image give the time of a whole batch.
    """
    where = training.device(device)
    counts = TIMED_ON_CPU if where.type == "cpu" and spec.name != "tiny" else (spec.batch,)
    timings = [_timed(spec, classes, image, where, min(count, spec.batch)) for count in counts]
    (small, *small_seconds), (large, *large_seconds) = timings[0], timings[-1]
    if small == large:
        return Speed(*(large / seconds for seconds in large_seconds))

    # Extrapolate to the whole batch; noise must not make a further image free
    per_image = [
        max(later - sooner, 0.1 * later) / (large - small)
        for sooner, later in zip(small_seconds, large_seconds, strict=True)
    ]
    batch_seconds = [
        seconds + image_seconds * (spec.batch - large)
        for image_seconds, seconds in zip(per_image, large_seconds, strict=True)
    ]
    return Speed(*(spec.batch / seconds for seconds in batch_seconds))


def _timed(
    spec: ClassifierSpec, classes: int, image: tuple[int, int, int], where: torch.device, count: int
) -> tuple[int, float, float]:
    """Return `count`, and the seconds of a training step and a prediction with so many images."""
    # Random images, with the classes in turn
    spec = spec.model_copy(update={"weights": "none", "batch": count})
    names = EMOTIONS[:classes]
    images = rng("speed").integers(0, 256, (count, *image), dtype=np.uint8)
    key = [str(number) for number in range(count)]
    faces = Faces(
        images, make_index(images, key=key, emotion=[names[n % classes] for n in range(count)])
    )

    with training.own_randomness(where), _as_specified(spec, where):
        work = Training(start(spec, names, 0, None, image[0]), faces, 0, where)
        train = _seconds(lambda: work.step(0), where)
        return count, train, _seconds(lambda: predict(work.classifier, faces), where)


def _seconds(work: Callable[[], object], where: torch.device) -> float:
    """Return the seconds of the second call of `work`; the first one warms up."""
    work()
    finish(where)
    began = time.monotonic()
    work()
    finish(where)
    return time.monotonic() - began


def finish(where: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
