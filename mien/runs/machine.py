"""This machine: its cores, memory, GPUs and disks, and the installed packages."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

CONTROL_GROUP = Path("/sys/fs/cgroup")  # where Linux keeps the limits of a container

MEMORY_FILE = Path("/proc/meminfo")


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: all that programs may use here, and what is free; None where not known."""

    total: int | None
    free: int | None


@dataclass(frozen=True)
class Package:
    """A package that mien needs: what is declared, the version that is here, and what is wrong.

    `version` is empty if the package is not installed, and `fault` if it is as declared. `extra`
    names the extra that wants it; it is empty for packages that mien always needs.
    """

    name: str
    declared: str
    version: str
    extra: str
    fault: str


def describe_system() -> str:
    """Return the system and its processor in words: Linux 6.1, x86_64."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def count_usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_allowed_cores(group: Path = CONTROL_GROUP) -> float:
    """Return how many cores a container may keep busy; without a limit, those of this process.

    `group` is the folder of the control group.
    """
    cores = float(count_usable_cores())
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()[:2]
        if quota != "max":
            return min(cores, int(quota) / int(period))
    return cores


def read_memory(file: Path = MEMORY_FILE, group: Path = CONTROL_GROUP) -> Memory:
    """Return the memory of this machine, or of the container if its limit is lower.

    `file` is the system's table of memory, and `group` the folder of the control group.
    """
    # The system's own table, in kilobytes
    total, free = None, None
    with suppress(OSError, ValueError):
        table = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        total = int(table["MemTotal"].split()[0]) * 1024
        free = int(table["MemAvailable"].split()[0]) * 1024

    # The limit of the container, of which files that are only cached can be given back
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text())
        table = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(table.get("inactive_file", 0))
        if total is None or limit < total:
            total = limit
        free = min(value for value in (free, limit - used) if value is not None)
    return Memory(total, free)


def measure_free_bytes(path: Path) -> int | None:
    """Return the free bytes on the disk of `path`, or of its first parent that exists."""
    with suppress(OSError, ValueError, RuntimeError):
        absolute = path.expanduser().absolute()
        folder = next(folder for folder in (absolute, *absolute.parents) if folder.exists())
        return shutil.disk_usage(folder).free
    return None


def list_cards() -> list[dict[str, str | int]]:
    """Return the name and the bytes of memory of each GPU that torch can use."""
    import torch

    if torch.cuda.is_available():
        cards = [
            torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())
        ]
        return [{"name": card.name, "memory": card.total_memory} for card in cards]
    if torch.backends.mps.is_available():
        return [{"name": "Apple GPU (mps)", "memory": torch.mps.recommended_max_memory()}]
    return []


def list_nvidia_cards() -> list[str]:
    """Return the NVIDIA GPUs that the driver knows, whether or not torch can use them."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return [line.strip() for line in completed.stdout.splitlines() if line.strip()]
    return []


def list_packages(requirements: Sequence[str] | None = None) -> list[Package]:
    """Return the packages that mien needs, and those of its extras, except for development.

    `requirements` are those of the installed mien by default; the list is empty if mien is not
    installed but only lies in a folder.
    """
    if requirements is None:
        try:
            requirements = metadata.requires("mien") or []
        except metadata.PackageNotFoundError:
            return []

    packages = []
    for text in requirements:
        with suppress(InvalidRequirement):
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                packages.append(_compare(requirement, ""))
            else:
                packages += [
                    _compare(requirement, extra)
                    for extra in metadata.metadata("mien").get_all("Provides-Extra") or []
                    if extra != "dev" and requirement.marker.evaluate({"extra": extra})
                ]
    return packages


def _compare(requirement: Requirement, extra: str) -> Package:
    """Return a package as it is declared and as it is installed here."""
    declared = f"{requirement.name}{requirement.specifier}"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Package(requirement.name, declared, "", extra, "not installed")
    fits = requirement.specifier.contains(version, prereleases=True)
    return Package(requirement.name, declared, version, extra, "" if fits else f"version {version}")


def describe_python() -> str:
    """Return the version of Python, and where it is: 3.11.7 (/usr/bin/python3)."""
    return f"{platform.python_version()} ({sys.executable})"
