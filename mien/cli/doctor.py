"""What this machine has, and what would fail here: `mien doctor`."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mien import __version__
from mien.cli.base import DEFAULT_STORE, JsonOption, StoreOption, app, print_json, print_wrapped
from mien.errors import UsageError

if TYPE_CHECKING:
    from mien.runs.machine import Memory, Package

# A worker of a study should have 4 GiB (runs.local.WORKER_BYTES); `mien demo` needs 1.3 GB
ENOUGH_MEMORY, LEAST_MEMORY = 4 << 30, 1.4e9  # bytes

ENOUGH_DISK, LEAST_DISK = 5e9, 0.5e9  # bytes

LABEL_WIDTH = 10  # columns for what a line is about

Level = Literal["fail", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """Something that is missing here: what, what follows from it, and what to do.

    The level is fail if something would fail, warning if it would be slow or might fail, and note
    for what is only needed by some.
    """

    level: Level
    what: str
    consequence: str
    remedy: str


@app.command(short_help="Show what this machine has, and what is missing.")
def doctor(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show what this machine has, what is missing, and what to do about it.

    Nothing is changed and no network is used. The exit code is 2 if something would fail.
    """
    facts = examine(store)
    problems = find_problems(facts)
    failing = [problem for problem in problems if problem.level == "fail"]
    if as_json:
        print_json({**facts, "problems": [asdict(problem) for problem in problems]})
    else:
        _print_facts(facts)
        for problem in problems:
            text = f"{problem.what}. {problem.consequence}. {problem.remedy}."
            print_wrapped(problem.level.ljust(LABEL_WIDTH), text)
        print("nothing would fail" if not failing else f"{len(failing)} would fail")
    if failing:
        raise UsageError(f"something would fail on this machine: {failing[0].what}")


def examine(store: Path) -> dict[str, Any]:
    """Return the facts that `mien doctor --json` prints, without the problems.

    Sizes are in bytes, and null where the system does not say.
    """
    from mien.runs import machine

    # The machine, and the disks that results and temporary files go to
    memory, cards, torch_fault = machine.read_memory(), [], ""
    try:
        cards = machine.list_cards()
    except Exception as error:  # a broken installation raises errors of any kind
        torch_fault = _read_first_line(error)
    folders = {"store": store.expanduser(), "temporary": Path(tempfile.gettempdir())}
    disks = {
        name: {
            "path": str(path),
            "free": machine.measure_free_bytes(path),
            "fault": _find_folder_fault(path),
        }
        for name, path in folders.items()
    }

    # The packages, and the weights that are in the cache
    packages = machine.list_packages()
    weights, timm_fault = {}, ""
    if not torch_fault:
        timm_fault = _find_timm_fault()
    if not torch_fault and not timm_fault:
        weights = _list_weights()
    return {
        "mien": __version__,
        "python": machine.describe_python(),
        "system": machine.describe_system(),
        "cores": machine.count_usable_cores(),
        "cores_allowed": machine.count_allowed_cores(),
        "memory": asdict(memory),
        "cards": cards,
        "cards_unused": [] if cards else machine.list_nvidia_cards(),
        "disks": disks,
        "packages": [asdict(package) for package in packages],
        "faults": {"torch": torch_fault, "timm": timm_fault},
        "weights": weights,
        "offline": _is_offline(),
        "encoding": getattr(sys.stdout, "encoding", None) or "",
    }


def find_problems(facts: dict[str, Any]) -> list[Problem]:
    """Return what is wrong according to the facts of `examine`, the worst first."""
    from mien.runs.machine import Memory, Package

    problems = [
        *_check_packages([Package(**entry) for entry in facts["packages"]], facts["faults"]),
        *_check_processors(facts),
        *_check_memory(Memory(**facts["memory"])),
        *_check_disks(facts["disks"]),
        *_check_weights(facts["weights"], facts["offline"]),
    ]
    if facts["encoding"].lower().replace("-", "") not in ("utf8", ""):
        problems.append(
            Problem(
                "note",
                f"Standard output is written as {facts['encoding']}",
                "Signs such as → and ± appear as ?",
                "Set PYTHONUTF8=1",
            )
        )
    order = ("fail", "warning", "note")
    return sorted(problems, key=lambda problem: order.index(problem.level))


def _check_packages(packages: "Sequence[Package]", faults: dict[str, str]) -> Iterator[Problem]:
    """Yield the packages that are missing or too old, and libraries that cannot be loaded."""
    # What mien always needs
    if not packages:
        yield Problem(
            "warning",
            "mien is not installed, but only lies in a folder",
            "The versions of its packages cannot be compared with what it needs",
            "Install it: pip install FOLDER",
        )
    wrong = [package for package in packages if package.fault and not package.extra]
    for package in wrong:
        yield Problem(
            "fail",
            f"mien needs {package.declared}: {package.fault}",
            f"What uses {package.name} fails or gives other results",
            f"pip install '{package.declared}'",
        )

    # Libraries that are there and cannot be loaded
    for name, consequence in (
        ("torch", "Generators and classifiers cannot be trained"),
        ("timm", "Studies cannot train the classifiers of timm, such as vgg16"),
    ):
        if faults[name] and name not in {package.name for package in wrong}:
            yield Problem(
                "fail",
                f"{name} cannot be loaded: {faults[name]}",
                consequence,
                "Install torch, torchvision and timm again, in versions that belong together: "
                "pip install --force-reinstall torch torchvision timm",
            )

    # Extras
    extras: dict[str, list[Package]] = {}
    for package in packages:
        if package.extra:
            extras.setdefault(package.extra, []).append(package)
    uses = {
        "c2pa": "`mien publish build --certificate` cannot sign images",
        "hub": "`mien publish push` cannot send a release",
        "ray": "--engine ray cannot use a cluster",
        "studio": "`mien studio` cannot show the store in a browser",
        "tensorboard": "`mien train --tensorboard` cannot write logs",
    }
    for extra, members in extras.items():
        missing = [f"{package.name} ({package.fault})" for package in members if package.fault]
        if missing:
            yield Problem(
                "note",
                f"The extra {extra} is not complete: {', '.join(missing)}",
                uses.get(extra, f"What the extra {extra} is for cannot be used"),
                f"If you need it: pip install 'mien[{extra}]'",
            )


def _check_processors(facts: dict[str, Any]) -> Iterator[Problem]:
    """Yield GPUs that are not used, a machine without any, and cores that are not allowed."""
    # GPUs, if torch is there to use them
    if facts["cards_unused"] and not facts["faults"]["torch"]:
        yield Problem(
            "warning",
            f"torch does not use the GPU that is here ({', '.join(facts['cards_unused'])})",
            "Trainings run on the CPU, tens of times slower",
            "Install a torch that was built for this GPU's driver, and check CUDA_VISIBLE_DEVICES",
        )
    elif not facts["cards"] and not facts["faults"]["torch"]:
        yield Problem(
            "note",
            "This machine has no GPU that torch can use",
            "The presets base and large would take days or weeks, and so would the study preprint",
            "Train with --preset nano or --minutes 30, and see the hours of a study first: "
            "mien study plan",
        )

    # Cores that a container may not keep busy
    if facts["cores_allowed"] < 0.9 * facts["cores"]:
        allowed = max(1, int(facts["cores_allowed"]))
        yield Problem(
            "warning",
            f"This container may keep {facts['cores_allowed']:g} of {facts['cores']} cores busy",
            "Threads and workers beyond these only wait for each other",
            f"Set OMP_NUM_THREADS={allowed}, and give --workers {allowed}",
        )


def _check_memory(memory: "Memory") -> Iterator[Problem]:
    """Yield too little free memory."""
    if memory.free is not None and memory.free < ENOUGH_MEMORY:
        is_least = memory.free < LEAST_MEMORY
        yield Problem(
            "fail" if is_least else "warning",
            f"{_format_gigabytes(memory.free)} of memory are free",
            "`mien demo` needs 1.3 GB, and stops without it"
            if is_least
            else "Studies with large networks, or several workers, may not fit",
            "Close other programs"
            if is_least
            else "Use --workers 1, smaller batches (batch in a study), or train --memory 1GB",
        )


def _check_disks(disks: dict[str, Any]) -> Iterator[Problem]:
    """Yield folders that cannot be written, and disks that are nearly full."""
    options = {"store": "--store DIR or MIEN_STORE", "temporary": "TMPDIR"}
    for name, disk in disks.items():
        remedy = f"Name another folder by {options[name]}"
        title = "The store" if name == "store" else "The folder for temporary files"
        if disk["fault"]:
            yield Problem(
                "fail", f"{title}, {disk['path']}, {disk['fault']}", "No run can be made", remedy
            )
        elif disk["free"] is not None and disk["free"] < ENOUGH_DISK:
            yield Problem(
                "fail" if disk["free"] < LEAST_DISK else "warning",
                f"{title}, {disk['path']}, has {_format_gigabytes(disk['free'])} of free disk",
                "A run that fills the disk stops; the same command continues when there is space",
                f"Free some space. Or: {remedy[0].lower()}{remedy[1:]}",
            )


def _check_weights(weights: dict[str, str | None], offline: bool) -> Iterator[Problem]:
    """Yield the weights that are not on this machine."""
    missing = [name for name, path in weights.items() if path is None]
    if missing:
        yield Problem(
            "note",
            f"The ImageNet weights of {', '.join(missing)} are not on this machine",
            'Studies with weights = "imagenet", and the audit spaces inception and dinov2, '
            + (
                "cannot run, since HF_HUB_OFFLINE forbids the download"
                if offline
                else "download them first"
            ),
            'Without a network, set weights = "FILE" in the study, or audit --weights SPACE=FILE; '
            "`mien study plan` names the files",
        )


def _find_timm_fault() -> str:
    """Return why timm cannot be loaded; empty if it can."""
    from mien.classifiers.networks import load_timm

    try:
        load_timm()
    except Exception as error:  # a broken installation raises errors of any kind
        return _read_first_line(error)
    return ""


def _list_weights() -> dict[str, str | None]:
    """Return the file of each network's weights in the cache; None where it is not there.

    The networks are those of the preprint and of the audit's feature spaces.
    """
    from mien.audit.features import NETWORKS
    from mien.classifiers.pretrained import find_cached_weights
    from mien.published import MODELS

    names = dict.fromkeys([*MODELS, *(spec.name for spec in NETWORKS.values())])
    cached = find_cached_weights(list(names))
    return {name: None if path is None else str(path) for name, path in cached.items()}


def _is_offline() -> bool:
    """Whether the user forbids downloads by HF_HUB_OFFLINE."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _find_folder_fault(path: Path) -> str:
    """Return why a folder cannot be written; empty if it can, or can be made."""
    absolute = path.absolute()
    folder = next(ancestor for ancestor in (absolute, *absolute.parents) if ancestor.exists())
    if not folder.is_dir():
        return f"cannot be a folder, since {folder} is a file"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"cannot be written: {folder}"


def _print_facts(facts: dict[str, Any]) -> None:
    """Print the facts, one line for each kind."""
    # What is installed
    versions = {package["name"]: package["version"] for package in facts["packages"]}
    main = [
        f"{name} {versions[name]}"
        for name in ("torch", "torchvision", "timm", "numpy")
        if versions.get(name)
    ]
    extras = {package["extra"] for package in facts["packages"]} - {""}
    incomplete = {package["extra"] for package in facts["packages"] if package["fault"]}

    # What the machine has
    allowed, memory, store = facts["cores_allowed"], facts["memory"], facts["disks"]["store"]
    limit = f", of which {allowed:g} may be busy" if allowed < facts["cores"] else ""
    cards = [f"{card['name']} ({_format_gigabytes(card['memory'])})" for card in facts["cards"]]
    cached = [name for name, path in facts["weights"].items() if path is not None]

    lines = {
        "mien": f"{facts['mien']}, Python {facts['python']}",
        "system": facts["system"],
        "packages": ", ".join(main) or "not known",
        "extras": ", ".join(sorted(extras - incomplete)) or "none",
        "cores": f"{facts['cores']}{limit}",
        "memory": (
            f"{_format_gigabytes(memory['free'])} of {_format_gigabytes(memory['total'])} are free"
        ),
        "GPUs": ", ".join(cards) or "none that torch can use",
        "store": f"{store['path']}, {_format_gigabytes(store['free'])} of free disk",
        "weights": ", ".join(cached) or "none in the cache",
    }
    for title, text in lines.items():
        print_wrapped(title.ljust(LABEL_WIDTH), text)


def _format_gigabytes(count: int | None) -> str:
    """Return a number of bytes for people: 3.1 GB."""
    return "an unknown amount" if count is None else f"{count / 1e9:.1f} GB"


def _read_first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
