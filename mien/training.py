"""The common parts of the training loops: image scaling, batches, averages and checkpoints.

Randomness is a function of (seed, step), never of what ran before, so a training that resumes from
a checkpoint gives bit for bit the same result as one that was never interrupted.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor, nn

from mien import seeds
from mien.errors import DataError, TrainingError, UsageError, WeightsError

DEVICES = re.compile(r"(?P<kind>auto|cpu|cuda|mps)|cuda:(?P<card>[0-9]{1,3})")
# A training ends with an error
BAD_STEPS = 5  # after this many steps in a row without a finite loss,
BAD_SHARE = 0.1  # if more than this share of its steps have no finite loss,
EXPLODED = 5.0  # or if the loss exceeds this many times its early median,
EARLY = 5  # the median of this many first rows of the loss table


def device(choice: str) -> torch.device:
    """Return the device that `choice` (auto, cpu, cuda, cuda:N or mps) names.

    auto is the first of cuda, mps and cpu that this machine has. Raises UsageError if `choice` is
    not a device, or if this machine does not have it.
    """
    match = DEVICES.fullmatch(choice)
    if match is None:
        raise UsageError(
            f"the device must be auto, cpu, cuda, one GPU such as cuda:1, or mps; given: '{choice}'"
        )

    # The first device that this machine has
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if choice == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))

    # Or the named device, if this machine has it
    if not available[choice.partition(":")[0]]:
        raise UsageError(
            f"the device '{choice}' must be in this machine, and torch finds none; use --device "
            "auto"
        )
    if match["card"] is not None and int(match["card"]) >= torch.cuda.device_count():
        raise UsageError(
            f"the device '{choice}' must be in this machine, whose GPUs are cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device(choice)


# Bytes and models


def to_model(
    images: UInt8[np.ndarray, "n c h w"] | UInt8[Tensor, "n c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return images on the scale of the models, float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    return tensor.float() / 127.5 - 1


def from_model(x: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    """Return the output of a model as images, clipped to [-1, 1] and rounded to the nearest byte.

    Raises TrainingError if a value is not a number, because the training of the model failed.
    """
    if bool(torch.isnan(x).any()):
        raise TrainingError(
            "every pixel must be a number, and the network drew some that are not, because its "
            "training failed; train it again with a lower learning_rate"
        )
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


# Batches


def chances(index: pd.DataFrame, balance: float, clip_first: bool) -> Float64[np.ndarray, " n"]:
    """Return the probability of each row of a Faces index to be drawn next; they add up to 1.

    An image of a class of n images has the weight n**-balance: 0 keeps the shares of the classes, 1
    makes them equal. With `clip_first` all clips of a class are equally likely, however many frames
    they have; a photograph without a clip counts as a clip.
    """
    size = index.groupby("emotion")["emotion"].transform("size").to_numpy(dtype=np.float64)
    weight = size**-balance
    if clip_first:
        clip = index["clip"].where(index["clip"] != "", index["key"])
        frames = clip.groupby([index["emotion"], clip]).transform("size").to_numpy(dtype=np.float64)
        clips = clip.groupby(index["emotion"]).transform("nunique").to_numpy(dtype=np.float64)
        weight = weight * size / (clips * frames)
    return weight / weight.sum()


def batch(
    chances: Float64[np.ndarray, " n"], size: int, seed: int, step: int
) -> Int64[np.ndarray, " size"]:
    """Return the row numbers of the images of batch number `step`, drawn with replacement.

    Sampling is systematic (one random offset, then even steps through the cumulative
    probabilities), so every batch has the classes in nearly their expected shares.
    """
    rng = seeds.rng("batch", seed, step)
    ends = np.cumsum(chances)
    points = (np.arange(size) + rng.random()) / size * ends[-1]
    return rng.permutation(
        np.minimum(np.searchsorted(ends, points, side="right"), len(ends) - 1)
    ).astype(np.int64)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Restore torch's global random state afterwards; inside, `begin_step` sets it."""
    devices = [device] if device.type in ("cuda", "mps") else []
    with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
        yield


def begin_step(seed: int, step: int) -> None:
    """Make torch's following random numbers (noise, dropout) a function of `seed` and `step`."""
    torch.manual_seed(seeds.seed("step", seed, step))


@contextmanager
def workers(where: torch.device, pieces: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that work on `pieces` of a job, with one core each.

    On devices other than a CPU it is one thread. The operations of a small network are too short to
    be split over cores. Worse, torch's own threads wait for each other after every operation: on
    two cores that other programs used as well, two such threads had a sixth of the speed of one.
    """
    cores = torch.get_num_threads()
    count = max(1, min(cores, pieces)) if where.type == "cpu" else 1
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        torch.set_num_threads(1)
        try:
            yield pool
        finally:
            torch.set_num_threads(cores)


def cards(choice: str) -> list[str]:
    """Return the NVIDIA GPUs that `choice` lets this process use; often none.

    Their names are those of CUDA_VISIBLE_DEVICES.
    """
    if choice in ("cpu", "mps") or not torch.cuda.is_available():
        return []
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = names or [str(number) for number in range(torch.cuda.device_count())]
    _, colon, number = choice.partition(":")
    return [names[int(number)]] if colon else names


@contextmanager
def repeatable(where: torch.device, wanted: bool) -> Iterator[None]:
    """Let an NVIDIA GPU use deterministic algorithms where they exist, if `wanted`.

    On a CPU this is not needed: its results depend only on the number of threads, which is fixed.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    if wanted and where.type == "cuda":
        # Read when the GPU is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=True)
        torch.backends.cudnn.deterministic = before[1]


@contextmanager
def cores(count: int | None) -> Iterator[None]:
    """Let torch use `count` cores inside; None changes nothing.

    Raises UsageError for a count below 1.
    """
    if count is not None and count < 1:
        raise UsageError(f"there must be at least one worker; given: {count}")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate(step: int, steps: int, peak: float, warmup: float, decay: float) -> float:
    """Return the learning rate of step 0..steps-1: a linear rise, `peak`, and a linear fall.

    `warmup` and `decay` are the shares of all steps that rise and fall take.
    """
    rise = min(1.0, (step + 1) / (warmup * steps)) if warmup > 0 else 1.0
    fall = min(1.0, (steps - step) / (decay * steps)) if decay > 0 else 1.0
    return peak * min(rise, fall)


# Averages


class Average:
    """The power-function average of a module's parameters.

    Source: Karras et al. 2024 (arXiv:2312.02696), Eq. 127. `width` is its standard deviation as a
    share of the training so far, so the first weights are forgotten in short and in long trainings;
    0 keeps only the last weights. Integer buffers are copied.
    """

    def __init__(self, module: nn.Module, width: float) -> None:
        self.width, self.exponent = width, power(width) if width > 0 else 0.0
        self.tensors = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Add the parameters after step 0, 1, 2...

        beta = (1 - 1/t)^(exponent + 1) with t = step + 1.
        """
        beta = (1 - 1 / (step + 1)) ** (self.exponent + 1) if self.width > 0 else 0.0
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - beta)
            else:
                self.tensors[name].copy_(tensor)


def power(width: float) -> float:
    """Return the exponent of the power-function average with a relative standard deviation `width`.

    `width` is below 0.288. Solves width = sqrt(g + 1) / ((g + 2) sqrt(g + 3)) for g by bisection
    (Karras et al. 2024, Eq. 126).
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        too_wide = (middle + 1) ** 0.5 / ((middle + 2) * (middle + 3) ** 0.5) > width
        low, high = (middle, high) if too_wide else (low, middle)
    return (low + high) / 2


def blend(
    kept: Sequence[tuple[int, float]], wanted: tuple[int, float]
) -> Float64[np.ndarray, " k"]:
    """Return the coefficients of the kept averages, (step, width), whose sum is the `wanted` one.

    Source: Karras et al. 2024, appendix C. An average of width w at step t weighs the weights at
    step s by (g + 1) s^g / t^(g + 1), g = power(w). The coefficients are the least-squares fit to
    the wanted profile.
    """
    steps = np.array([step for step, _ in [*kept, wanted]], dtype=np.float64)
    powers = np.array([power(width) for _, width in [*kept, wanted]])
    earlier = np.minimum(steps[:, None], steps[None])
    exponents = powers[:, None] + powers[None] + 1
    logs = (
        exponents * np.log(earlier)
        - (powers + 1)[:, None] * np.log(steps)[:, None]
        - (powers + 1) * np.log(steps)
    )
    products = (powers + 1)[:, None] * (powers + 1) / exponents * np.exp(logs)
    return np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=None)[0]


# Watching over the loss


class LossWatch:
    """The loss table of a training, and the rules that end it with an error.

    `rows` are (step, images seen, mean loss since the last row). `state` is the part of a
    checkpoint that belongs to this object.
    """

    def __init__(self, every: int, batch: int, state: dict[str, Any] | None = None) -> None:
        self.every, self.batch = every, batch
        state = state or {}
        self.rows: list[list[float]] = state.get("rows", [])
        self.total, self.count = state.get("total", 0.0), state.get("count", 0)
        self.bad, self.skipped = state.get("bad", 0), state.get("skipped", 0)

    @property
    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        return {name: getattr(self, name) for name in ("rows", "total", "count", "bad", "skipped")}

    @property
    def note(self) -> str:
        """The last loss as text; empty before the first row."""
        return f"loss {self.rows[-1][2]:.4f}" if self.rows else ""

    @property
    def first(self) -> float:
        """The first loss of the table, 0 if there is none yet."""
        return float(self.rows[0][2]) if self.rows else 0.0

    def skip(self, step: int) -> None:
        """Count a step whose loss or gradient is not finite.

        Raises TrainingError after BAD_STEPS such steps in a row.
        """
        self.bad, self.skipped = self.bad + 1, self.skipped + 1
        if self.bad >= BAD_STEPS:
            raise TrainingError(
                f"the loss must be a number, and was not one in {self.bad} steps in a row up to "
                f"step {step}; lower learning_rate, or look for broken images"
            )

    def end(self, steps: int) -> None:
        """Raise TrainingError if more than BAD_SHARE of all `steps` were skipped."""
        if self.skipped > BAD_SHARE * steps:
            raise TrainingError(
                f"the loss must be a number in nine of ten steps, and was not one in "
                f"{self.skipped} of {steps}; lower learning_rate, or look for broken images"
            )

    def take(self, step: int, loss: float) -> None:
        """Record the loss of a good step; raises TrainingError if the loss explodes."""
        self.bad = 0
        self.total, self.count = self.total + loss, self.count + 1
        if (step + 1) % self.every:
            return
        self.rows.append([step + 1, (step + 1) * self.batch, self.total / self.count])
        self.total, self.count = 0.0, 0
        early = float(np.median([row[2] for row in self.rows[:EARLY]]))
        if len(self.rows) > EARLY and self.rows[-1][2] > EXPLODED * early:
            raise TrainingError(
                f"the loss must fall, and rose to {self.rows[-1][2]:.4g} at step {step + 1} from "
                f"{early:.4g} at the start; lower learning_rate"
            )

    def table(self) -> pd.DataFrame:
        """Return the loss table."""
        table = pd.DataFrame(self.rows, columns=["step", "images_seen", "loss"])
        return table.astype({"step": "int64", "images_seen": "int64", "loss": "float64"})


# Files


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint: `tensors` as safetensors, `state` (with its number under "step") as JSON.

    The JSON is written last and has the sha256 of the tensors, so an incomplete checkpoint is never
    read. The two newest checkpoints are kept.
    """
    name = f"checkpoint-{state['step']:09d}"
    data = pack_tensors(
        {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    )
    write_whole(folder / f"{name}.safetensors", data)
    head = {"sha256": hashlib.sha256(data).hexdigest(), "state": state}
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
            data = path.with_suffix(".safetensors").read_bytes()
            digests = head["state"].get("beside", {}).items()
            if hashlib.sha256(data).hexdigest() == head["sha256"] and all(
                hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
                for name, digest in digests
            ):
                return read_tensors(data), head["state"]
    return None


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


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it appears complete or not at all: a temporary file, then a rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def pack_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's tensors by name: `0.exp_avg`, `0.step`..."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}.{name}": tensor
        for number, tensors in state.items()
        for name, tensor in tensors.items()
    }


def unpack_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state of an optimiser that `pack_optimiser` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def require_side(height: int, width: int, divisor: int) -> None:
    """Raise DataError unless height and width are multiples of `divisor`."""
    if height % divisor or width % divisor:
        raise DataError(
            f"height and width must be multiples of {divisor} for this network, and the images "
            f"are {height}x{width}; resize them, or give the network fewer multipliers"
        )
