"""A user's network that recognises people: its file, and its feature space."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from mien.audit.features import Space
from mien.audit.specs import RecogniserSpec
from mien.classifiers import pretrained
from mien.classifiers.networks import build_outline, name_head, require_known_network, require_size
from mien.classifiers.predict import (
    TrainedNetwork,
    forward,
    normalise_batch,
    resize_batch,
    set_precision,
    start_network,
)
from mien.classifiers.specs import ClassifierSpec
from mien.classifiers.weight_files import read
from mien.errors import WeightsError
from mien.runs import devices
from mien.runs.spec import read_spec
from mien.runs.store import Store


def import_recogniser(spec: RecogniserSpec, store: Store) -> RecogniserSpec:
    """Return the spec with its weights named by their sha256, once they are in the store.

    Raises SpecError if timm has no such network, and WeightsError if the file is not one of weights
    or does not fit the network; then nothing is copied.
    """
    require_known_network([spec.network])
    where = f"the space {spec.space}"
    if not Path(spec.weights).is_file():
        raise WeightsError(
            f"{where}: weights must name a safetensors file, relative to the TOML file; there is "
            f"no file {spec.weights}. Correct the path"
        )
    require_size(where, _make_classifier_spec(spec))
    try:
        _load_network(spec, Path(spec.weights))
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from None
    return spec.model_copy(update={"weights": pretrained.import_weights(Path(spec.weights), store)})


def open_recogniser(spec: RecogniserSpec, store: Store, device: str = "auto") -> Space:
    """Return the space of a network whose weights are in the store; grey images count as colours.

    Raises RunError if the store lacks the weights.
    """
    file = pretrained.find_imported_weights(_make_classifier_spec(spec), store)
    network = _load_network(spec, file)
    network.network.to(devices.find_device(device)).eval()

    def extract_vectors(images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n d"]:
        if spec.output == "head":
            return _forward_head(network, images)
        return forward(network, images)

    return Space(spec.space, spec.about, extract_vectors, "rgb", spec.size)


def _make_classifier_spec(spec: RecogniserSpec) -> ClassifierSpec:
    fields = {"name": spec.network, "size": spec.size, "weights": spec.weights}
    return read_spec(ClassifierSpec, fields, f"the space {spec.space}")


def _load_network(spec: RecogniserSpec, file: Path | None) -> TrainedNetwork:
    """Return the network with the weights of the file, for images as the spec states."""
    classifier_spec = _make_classifier_spec(spec)
    outputs = 1
    if spec.output == "head" and file is not None:
        outputs = _count_outputs(classifier_spec, file)
    names = [str(number) for number in range(outputs)]
    network = start_network(classifier_spec, names, 0, file)
    mean, std = spec.mean or network.mean, spec.std or network.std
    return replace(network, mean=tuple(mean), std=tuple(std))


def _count_outputs(spec: ClassifierSpec, file: Path) -> int:
    """Return the number of outputs of the head in a file; raise WeightsError if it has no head."""
    outline = build_outline(spec, 2)
    head = name_head(outline)
    needed = [key for key in outline.state_dict() if key.startswith(tuple(f"{n}." for n in head))]
    tensors = read(file)
    found = {
        key: tensors[name]
        for key in needed
        for name in tensors
        if name == key or name.endswith(f".{key}")
    }
    if not needed or len(found) < len(needed):
        raise WeightsError(
            f'{file}: with output = "head" it must hold the head of {spec.name}, '
            f"{', '.join(needed) or 'which has none'}; it does not. Give the file with its head, "
            'or set output = "features"'
        )
    return len(found[needed[-1]])


@torch.inference_mode()
def _forward_head(
    network: TrainedNetwork, images: UInt8[np.ndarray, "n c h w"]
) -> Float[np.ndarray, "n d"]:
    """Return the output of the network's head for each image, float32."""
    model: Any = network.network.eval()
    torch_device = next(model.parameters()).device
    with set_precision(network.spec, torch_device):
        pictures = torch.from_numpy(np.array(images)).to(torch_device)
        resized = resize_batch(pictures, network.spec.size)
        return model(normalise_batch(resized, network.mean, network.std)).float().cpu().numpy()
