"""Checkpoints and weights: named tensors in files, never read by pickle."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor, nn

from mien import seeds
from mien.errors import UsageError, WeightsError
from mien.runs.files import write_whole


def begin_step(seed: int, step: int) -> None:
    """Make torch's following random numbers (noise, dropout) a function of `seed` and
    `step`.
    """
    torch.manual_seed(seeds.derive_seed("step", seed, step))


# Files


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint: `tensors` as safetensors, `state` (with its number under "step") as JSON.

    The JSON is written last and has the sha256 of the tensors, so an incomplete checkpoint is never
    read. The two newest checkpoints are kept.
    """
    name = f"checkpoint-{state['step']:09d}"
    content = pack_tensors(
        {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    )
    write_whole(folder / f"{name}.safetensors", content)
    head = {"sha256": hashlib.sha256(content).hexdigest(), "state": state}
    write_whole(folder / f"{name}.json", json.dumps(head).encode())
    for old in sorted(folder.glob("checkpoint-*.json"))[:-2]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and state of the newest complete checkpoint, or None if there is none.

    Its state has under "beside" the sha256 of other files in the folder, which must match, too.
    """
    for path in sorted(folder.glob("checkpoint-*.json"), reverse=True):
        with suppress(OSError, ValueError, KeyError, TypeError, SafetensorError):
            head = json.loads(path.read_bytes())
            content = path.with_suffix(".safetensors").read_bytes()
            digests = head["state"].get("beside", {}).items()
            if hashlib.sha256(content).hexdigest() == head["sha256"] and all(
                hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
                for name, digest in digests
            ):
                return read_tensors(content), head["state"]
    return None


def require_origin(state: Mapping[str, Any], origin: int, folder: Path) -> None:
    """Raise UsageError if the state of a checkpoint in `folder` is of another training."""
    if state["origin"] != origin:
        raise UsageError(
            f"{folder} must contain only checkpoints of this training, and has one of another "
            "training; give an empty folder"
        )


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write parameters and buffers as safetensors, equal bytes for equal weights."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_whole(path, pack_tensors(dict(sorted(tensors.items()))))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises WeightsError if it cannot be read."""
    try:
        return read_tensors(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} must be a safetensors file, and cannot be read: {error}"
        ) from None


def load_weights(path: Path, module: nn.Module) -> None:
    """Read parameters and buffers into `module`.

    Raises WeightsError if their names or shapes are not those of the module, or if a value is not
    finite.
    """
    tensors = read_weights(path)
    needed = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    in_file = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if needed != in_file:
        differing = sorted(
            name for name in needed.keys() | in_file.keys() if needed.get(name) != in_file.get(name)
        )
        raise WeightsError(
            f"{path} must hold the weights of this {type(module).__name__}, and differs in "
            f"{', '.join(differing[:5])}"
        )
    require_finite(tensors, path)
    module.load_state_dict(tensors)


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError unless all weights are finite numbers."""
    infinite = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if infinite:
        raise WeightsError(
            f"{path} must hold finite weights, and {len(infinite)} of its {len(tensors)} tensors "
            f"are not, such as {infinite[0]}, because its training failed; train it again with a "
            "lower learning_rate"
        )


def pack_groups(groups: Mapping[str, Mapping[str, Tensor]], separator: str) -> dict[str, Tensor]:
    """Return the tensors of several groups in one dict, as GROUP, separator, NAME."""
    return {
        f"{group}{separator}{name}": tensor
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def unpack_groups(
    tensors: Mapping[str, Tensor], separator: str, groups: Iterable[str] = ()
) -> dict[str, dict[str, Tensor]]:
    """Return the groups that `pack_groups` put together; those named in `groups` may be empty."""
    unpacked: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
    for key, tensor in tensors.items():
        group, _, name = key.partition(separator)
        unpacked.setdefault(group, {})[name] = tensor
    return unpacked


def pack_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's tensors by name: `0.exp_avg`, `0.step`..."""
    state = optimiser.state_dict()["state"]
    return pack_groups({str(number): tensors for number, tensors in state.items()}, ".")


def unpack_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state of an optimiser that `pack_optimiser` returned."""
    groups = unpack_groups(tensors, ".")
    state = {int(number): group for number, group in groups.items()}
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
