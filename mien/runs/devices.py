"""Devices: which processor is used, with how many threads, and repeatably."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from mien.errors import UsageError

DEVICES = re.compile(r"(?P<kind>auto|cpu|cuda|mps)|cuda:(?P<card>[0-9]{1,3})")


def find_device(device: str) -> torch.device:
    """Return the device that `device` (auto, cpu, cuda, cuda:N or mps) names.

    auto is the first of cuda, mps and cpu that this machine has. Raises UsageError if `device` is
    not a device, or if this machine does not have it.
    """
    match = DEVICES.fullmatch(device)
    if match is None:
        raise UsageError(
            f"the device must be auto, cpu, cuda, one GPU such as cuda:1, or mps; given: '{device}'"
        )

    # The first device that this machine has
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))

    # Or the named device, if this machine has it
    if not available[device.partition(":")[0]]:
        raise UsageError(
            f"the device '{device}' must be in this machine, and torch finds none; use --device "
            "auto"
        )
    if match["card"] is not None and int(match["card"]) >= torch.cuda.device_count():
        raise UsageError(
            f"the device '{device}' must be in this machine, whose GPUs are cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device(device)


@contextmanager
def isolate_randomness(torch_device: torch.device) -> Iterator[None]:
    """Restore torch's global random state afterwards; inside, `begin_step` sets it."""
    devices = [torch_device] if torch_device.type in ("cuda", "mps") else []
    with torch.random.fork_rng(
        devices=devices, device_type=torch_device.type if devices else "cuda"
    ):
        yield


@contextmanager
def open_workers(torch_device: torch.device, piece_count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that work on the pieces of a job, with one core each.

    On devices other than a CPU it is one thread. The operations of a small network are too short to
    be split over cores. Worse, torch's own threads wait for each other after every operation: on
    two cores that other programs used as well, two such threads had a sixth of the speed of one.
    """
    cores = torch.get_num_threads()
    count = max(1, min(cores, piece_count)) if torch_device.type == "cpu" else 1
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        torch.set_num_threads(1)
        try:
            yield pool
        finally:
            torch.set_num_threads(cores)


def list_gpus(choice: str) -> list[str]:
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
def make_repeatable(torch_device: torch.device, deterministic: bool) -> Iterator[None]:
    """Let an NVIDIA GPU use deterministic algorithms where they exist, if `deterministic`.

    On a CPU this is not needed: its results depend only on the number of threads, which is fixed.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    if deterministic and torch_device.type == "cuda":
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
def limit_cores(count: int | None) -> Iterator[None]:
    """Let torch use `count` cores inside; None changes nothing.

    Raises UsageError for a count below 1.
    """
    if count is not None and count < 1:
        raise UsageError(f"the number of workers must be 1 or more; given: {count}")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_for_device(torch_device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if torch_device.type == "cuda":
        torch.cuda.synchronize(torch_device)
