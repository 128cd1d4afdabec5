"""A trained network: saved, loaded and applied."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from mien.classifiers.channels import PICTURE, name_network_channels, require_input
from mien.classifiers.curves import EpochScores
from mien.classifiers.late_units import add_units, give_units
from mien.classifiers.networks import build_network
from mien.classifiers.pretrained import find_weights, load_into
from mien.classifiers.specs import OWN_NETWORKS, ClassifierSpec
from mien.classifiers.weight_files import get_display_name, read
from mien.errors import DataError
from mien.faces import Faces
from mien.findings import list_some
from mien.prepare.action_units import encode_units
from mien.runs import checkpoints, devices
from mien.runs.files import hash_file
from mien.seeds import derive_seed


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with all that is needed to use it.

    `classes` are the names of its outputs, in order. `origin` says where its first weights came
    from. Images in [0, 1] are normalised by `mean` and `std`, one number per input channel.
    `epoch` is the epoch of its weights, counted from 1. `shown` are the names of the channels that
    it sees. `curve` has the scores of each epoch of its training; it is not saved with the network.
    `columns` are the names of the numbers that describe action units, if it also sees these. With
    `units`, the outputs are these action units, each with a probability of its own.
    """

    network: nn.Module
    spec: ClassifierSpec
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    epoch: int = 0
    shown: tuple[str, ...] = PICTURE
    curve: tuple[EpochScores, ...] = ()
    units: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What the summary of a trial says about the training: where the weights came from."""
        return {"weights": self.origin}

    def predict(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return float32 probabilities, one row per image and one column per class."""
        return predict_classes(self, faces)


@contextmanager
def set_precision(spec: ClassifierSpec, torch_device: torch.device) -> Iterator[None]:
    """Let torch use the threads and the deterministic algorithms that a spec asks for."""
    with (
        devices.limit_cores(spec.threads),
        devices.make_repeatable(torch_device, spec.deterministic),
    ):
        yield


@torch.no_grad()
def predict_classes(
    classifier: TrainedNetwork, faces: Faces, batch: int = 256
) -> Float[np.ndarray, "n classes"]:
    """Return float32 probabilities, one row per image; of action units each is that it shows.

    They do not depend on `batch`, which only limits the memory. Raises DataError if the images have
    other channels than those that the network was made for.
    """
    _require_channels(classifier, faces)
    network = classifier.network.eval()
    torch_device = next(network.parameters()).device
    rows = []
    with set_precision(classifier.spec, torch_device):
        for first in range(0, len(faces), batch):
            # The images as the network takes them, and their action units if it sees these
            images = torch.from_numpy(np.array(faces.images[first : first + batch]))
            x = resize_batch(images.to(torch_device), classifier.spec.size)
            x = normalise_batch(x, classifier.mean, classifier.std)
            if classifier.columns:
                texts = list(faces.index["action_units"][first : first + batch])
                coding = torch.from_numpy(encode_units(texts, classifier.columns))
                give_units(network, coding.to(torch_device))

            answers = network(x).float()
            chances = answers.sigmoid() if classifier.units else answers.softmax(dim=1)
            rows.append(chances.cpu().numpy())
    outputs = len(classifier.units or classifier.classes)
    return np.concatenate(rows) if rows else np.zeros((0, outputs), dtype=np.float32)


def extract_features(
    classifier: TrainedNetwork, faces: Faces, batch: int = 256
) -> Float[np.ndarray, "n d"]:
    """Return the input of the classification head for each image, float32; see `forward`."""
    _require_channels(classifier, faces)
    starts = range(0, len(faces), batch)
    rows = [forward(classifier, faces.images[first : first + batch]) for first in starts]
    return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)


@torch.inference_mode()
def forward(
    classifier: TrainedNetwork, images: UInt8[np.ndarray, "n c h w"]
) -> Float[np.ndarray, "n d"]:
    """Return the input of the classification head for each image, float32.

    It is the mean over positions, or whatever timm's head pools in other networks.
    """
    network: Any = classifier.network.eval()
    torch_device = next(network.parameters()).device
    with set_precision(classifier.spec, torch_device):
        pictures = resize_batch(
            torch.from_numpy(np.array(images)).to(torch_device), classifier.spec.size
        )
        x = normalise_batch(pictures, classifier.mean, classifier.std)
        return (
            network.forward_head(network.forward_features(x), pre_logits=True).float().cpu().numpy()
        )


def save_network(classifier: TrainedNetwork, folder: Path) -> None:
    """Write weights.safetensors and classifier.json, which `load_network` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.save_weights(folder / "weights.safetensors", classifier.network.state_dict())
    about = {
        "spec": classifier.spec.model_dump(),
        "classes": classifier.classes,
        "origin": classifier.origin,
    }
    about["channels"] = len(classifier.mean)
    about["shown"] = classifier.shown
    about["units"], about["columns"] = classifier.units, classifier.columns
    (folder / "classifier.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_network(folder: Path, device: str = "auto") -> TrainedNetwork:
    """Return the network that `save_network` wrote."""
    about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    spec = ClassifierSpec.model_validate(about["spec"])

    # The network, as it was made. A folder of an earlier version has the number of channels only
    shown = tuple(
        about.get("shown") or (f"channel {n + 1}" for n in range(about.get("channels", 3)))
    )
    units, columns = tuple(about.get("units", ())), tuple(about.get("columns", ()))
    network, mean, std = build_network(spec, len(units or about["classes"]), shown)
    if columns:
        add_units(network, spec.name, len(columns))

    # Its weights, on the device
    checkpoints.load_weights(folder / "weights.safetensors", network)
    network.to(devices.find_device(device)).eval()
    return TrainedNetwork(
        network,
        spec,
        tuple(about["classes"]),
        mean,
        std,
        about["origin"],
        shown=shown,
        units=units,
        columns=columns,
    )


def start_network(
    spec: ClassifierSpec,
    classes: Sequence[str],
    seed: int,
    file: Path | None,
    shown: Sequence[str] = PICTURE,
    units: Sequence[int] = (),
    columns: Sequence[str] = (),
) -> TrainedNetwork:
    """Return the network before its first step, for images that show the channels `shown`.

    With `units` it has an output for each of them, and else one for each class. With `columns` its
    head also sees these numbers, as in HeadWithUnits.

    Raises DataError if the network does not take such images.
    """
    # A network with random weights, which follow from the seed
    require_input(spec.name, spec, shown)
    shown = name_network_channels(shown)
    torch.manual_seed(derive_seed("classifier", seed))
    network, mean, std = build_network(spec, len(units or classes), shown)

    # Pretrained weights come before the head for units, which they do not have
    path = find_weights(spec, file)
    origin = "none"
    if path is not None:
        name = Path(get_display_name(path)).name
        origin = (
            f"{spec.weights if spec.weights == 'imagenet' else 'file'} ({name}, sha256 "
            f"{hash_file(path)})"
        )
        load_into(network, spec.name, read(path), path)
    if columns:
        add_units(network, spec.name, len(columns))
    return TrainedNetwork(
        network,
        spec,
        tuple(classes),
        mean,
        std,
        origin,
        shown=shown,
        units=tuple(units),
        columns=tuple(columns),
    )


def _require_channels(classifier: TrainedNetwork, faces: Faces) -> None:
    """Raise DataError if a network of motion is given other channels than those it was made for."""
    require_input(classifier.spec.name, classifier.spec, faces.shown)
    own_network = OWN_NETWORKS.get(classifier.spec.name)
    if (
        own_network is not None
        and own_network.takes != "images"
        and faces.shown != classifier.shown
    ):
        raise DataError(
            f"{classifier.spec.name} was trained on the channels "
            f"{list_some(list(classifier.shown), 4)}; these faces show "
            f"{list_some(list(faces.shown), 4)}. Use the inputs that it was trained on"
        )


def resize_batch(images: UInt8[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Return the images in [0, 1], resized: bilinear, antialiased where they shrink."""
    x = images.float() / 255
    if images.shape[2:] == (size, size):
        return x
    return functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)


def normalise_batch(
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
