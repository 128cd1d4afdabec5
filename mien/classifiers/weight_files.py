"""Files of pretrained weights: formats, safe reading, and prefixes of names.

Two formats are read: safetensors, and that of torch.save (a zip archive, or the older format with a
magic number), the latter with torch's restricted reader, which knows only tensors. Every other file
is refused with a message that says what it is.
"""

import json
import logging
import pickle
import threading
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mien.errors import WeightsError
from mien.findings import list_some
from mien.outside import expand_home
from mien.runs.files import read_json

# torch.save before 1.6, and with its old form today
OLD_TORCH_SIGNATURE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

HUB_FILE = "model.safetensors"

HUB_WAIT_S = 1.5  # a hub that does not answer within this time counts as unreachable

HEADER_MOST_BYTES = 100_000_000  # bytes, the format's limit for a safetensors header

CHECKPOINT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "state_dict_ema",
    "model_ema",
    "weights",
)

WRAPPER_PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "network.",
    "net.",
    "base_model.",
)

SAVE_ADVICE = (
    "save it again with torch.save(model.state_dict(), FILE) or "
    "safetensors.torch.save_file(model.state_dict(), FILE)"
)

FETCH_ADVICE = "download it again, and compare its size with that at its source"

OTHER_SIGNATURES = {
    b"version https://git-lfs": (
        "a pointer of Git LFS, not the file itself; run `git lfs pull` where it came from"
    ),
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file, as Keras writes it; load it there and {SAVE_ADVICE}",
    b"\x93NUMPY": f"an array of NumPy; {SAVE_ADVICE}",
    b"GGUF": f"a GGUF file; {SAVE_ADVICE}",
    b"\x1f\x8b": "compressed with gzip; unpack it, and name the file inside",
    b"<!DOCTYPE": "a web page, not the file that it links to; download the file itself",
    b"<!doctype": "a web page, not the file that it links to; download the file itself",
    b"<html": "a web page, not the file that it links to; download the file itself",
}
"""First bytes of files that hold no tensors: to what the file is and what to do."""


def find(path: Path, folders: Sequence[Path] = (Path(),)) -> Path:
    """Return the file that `path` names, relative to the first of `folders` that has it.

    Raises WeightsError with all paths that were tried, or with what is there instead of a file.
    """
    candidates = list(dict.fromkeys(folder / expand_home(path) for folder in folders))
    for candidate in candidates:
        if candidate.is_dir():
            names = sorted(
                entry.name
                for entry in candidate.iterdir()
                if entry.suffix in (".safetensors", ".pth", ".pt", ".bin")
            )
            hint = f", such as {candidate / names[0]}" if names else ""
            raise WeightsError(
                f"{candidate}: weights must be a file, and this is a folder; name a file in "
                f"it{hint}"
            )
        if candidate.is_file():
            return candidate

        # Something with that name that cannot be read as a file
        if candidate.exists():
            raise WeightsError(
                f"{candidate}: weights must be an ordinary file, and this is a device or a pipe"
            )
        if candidate.is_symlink():
            raise WeightsError(
                f"{candidate}: this is a link to {candidate.readlink()}, which does not exist; "
                "correct the link"
            )

    tried = " and ".join(str(candidate.absolute()) for candidate in candidates)
    raise WeightsError(
        f"weights must be 'imagenet', 'none', or the path of a file, and there is no file {path}; "
        f"looked for {tried}; check the path"
    )


def get_display_name(path: Path) -> str:
    """Return a file's name for messages: for a copy in the store the name of the original."""
    summary = read_json(path.with_name("summary.json")) if path.name == "weights" else None
    return str(summary["file"]) if isinstance(summary, dict) and "file" in summary else str(path)


def read(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a weights file; all their numbers are finite.

    Raises WeightsError with the file's name, what is wrong and what to do.
    """
    name = get_display_name(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
        state = _read_object(path, start, name)
    except OSError as error:
        raise WeightsError(
            f"{name}: it cannot be read: {error.strerror or error}; check its permissions"
        ) from None
    state = _unwrap(state, name)
    _require_finite(state, name)
    return state


def _read_object(path: Path, start: bytes, name: str) -> Any:
    """Return the object that the file holds, read in the format that its content shows."""
    size = path.stat().st_size
    if not size:
        raise WeightsError(f"{name}: the file is empty; {FETCH_ADVICE}")
    if _is_safetensors(start):
        return _read_safetensors(path, size, name)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        _require_torch_zip(path, name)
        return _read_torch(path, name)
    if start.startswith(OLD_TORCH_SIGNATURE):
        return _read_torch(path, name)
    raise WeightsError(
        f"{name}: this must be a .safetensors or .pth file of tensors; it is "
        f"{_describe_file(start, size)}"
    )


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins like safetensors: the length of a header in eight bytes, then `{`."""
    return start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= HEADER_MOST_BYTES


def _describe_file(start: bytes, size: int) -> str:
    """Return what a file without tensors is, and what to do."""
    for signature, text in OTHER_SIGNATURES.items():
        if start.startswith(signature):
            return text
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":  # a single byte may be a cut pickle
        return (
            f"a bare pickle ({size:,} {'byte' if size == 1 else 'bytes'}), which could run code "
            f"when it is read; where it was made, {SAVE_ADVICE}"
        )
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return "text; name the file with the weights themselves, or download it again"
    return f"neither; {FETCH_ADVICE}, or {SAVE_ADVICE}"


def _read_safetensors(path: Path, size: int, name: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises WeightsError if it is cut or damaged."""
    # The header gives the size that the whole file must have
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"]
        expected_size = 8 + length + max(ends, default=0)
    except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
        expected_size = 8 + length
    if size < expected_size:
        raise WeightsError(
            f"{name}: the file was cut: {size:,} of {expected_size:,} bytes are there; "
            f"{FETCH_ADVICE}"
        )

    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise WeightsError(
            f"{name}: it begins like safetensors, but cannot be read as such: {reason}; "
            f"{FETCH_ADVICE}"
        ) from None


def _require_torch_zip(path: Path, name: str) -> None:
    """Raise WeightsError unless the zip archive is complete and was written by torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError):
        raise WeightsError(
            f"{name}: the file was cut or damaged: it begins like a zip archive, without an end; "
            f"{FETCH_ADVICE}"
        ) from None
    if any(member.endswith("/constants.pkl") or "/code/" in member for member in names):
        raise WeightsError(
            f"{name}: this is a TorchScript program, not only weights; load it with torch.jit and "
            f"{SAVE_ADVICE}"
        )
    if not any(member.endswith("data.pkl") for member in names):
        members = ", ".join(names[:2]) or "nothing"
        raise WeightsError(
            f"{name}: this is a zip archive, but not one of torch.save (it holds {members}); "
            "unpack it and name the file with the weights"
        )


def _read_torch(path: Path, name: str) -> Any:
    """Return the object of a torch.save file, by torch's reader that runs no code."""
    # An open file, since torch would choose the format of a path by its suffix
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported" in str(error):
            raise WeightsError(
                f"{name}: it holds other Python objects than tensors, such as a whole model, which "
                f"could run code when they are read; where it was made, {SAVE_ADVICE}"
            ) from None
        raise WeightsError(f"{name}: the file was cut or damaged; {FETCH_ADVICE}") from None

    # A damaged file fails in many ways, all of which mean the same
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise WeightsError(
            f"{name}: the file was cut or damaged ({type(error).__name__}); {FETCH_ADVICE}"
        ) from None


def _unwrap(state: Any, name: str) -> dict[str, Tensor]:
    """Return the tensors by name, also where a checkpoint keeps them under a key of its own."""
    # Checkpoints may be nested, as in {"model": {"state_dict": ...}}
    for _ in range(3):
        inner = next(
            (
                state[key]
                for key in CHECKPOINT_KEYS
                if isinstance(state, Mapping) and _is_table(state.get(key))
            ),
            None,
        )
        if inner is None:
            break
        state = inner

    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{name}: it must hold tensors by name; it holds a {type(state).__name__}; "
            f"{SAVE_ADVICE}"
        )
    other_keys = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if other_keys or not state:
        text = f"it also holds {list_some(other_keys, 3)}" if other_keys else "it holds none"
        raise WeightsError(
            f"{name}: it must hold tensors by name and nothing else; {text}; {SAVE_ADVICE}"
        )
    return {str(key): value for key, value in state.items()}


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _require_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Raise WeightsError if a tensor holds NaN or infinity, or is not stored in full."""
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise WeightsError(
                f"{name}: {key} is stored sparsely or quantised; {SAVE_ADVICE}, in float32"
            )
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if not bool(torch.isfinite(tensor.float() if tensor.dtype.itemsize < 4 else tensor).all()):
            count = int((~torch.isfinite(tensor.float())).sum())
            raise WeightsError(
                f"{name}: weights must be finite numbers, and {count:,} of {tensor.numel():,} in "
                f"{key} are not (NaN or infinity): the training that made it diverged, or the file "
                "is damaged; take an earlier checkpoint"
            )


# From a hub


def require_hub(hubs: Mapping[str, str], fetch: bool = False) -> None:
    """Raise WeightsError unless the networks' weights are on this machine or the hub answers.

    `hubs` maps each network to the hub's repository, as OWNER/NAME. With `fetch` missing files are
    downloaded. The error names all missing files at once.
    """
    lacking = {name: hub for name, hub in hubs.items() if find_in_cache(hub) is None}
    if fetch:
        fetch_from_hub(lacking)
    elif lacking and not _can_reach_hub():
        raise WeightsError(_describe_missing(lacking))


def fetch_from_hub(hubs: Mapping[str, str]) -> dict[str, Path]:
    """Return the local weights file of each network, downloaded if it is not here yet.

    `hubs` maps each network to the hub's repository, as OWNER/NAME. Raises WeightsError, listing
    all missing files, if the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = {name: path for name, hub in hubs.items() if (path := find_in_cache(hub)) is not None}
    lacking = {name: hub for name, hub in hubs.items() if name not in files}
    if lacking and not _can_reach_hub():
        raise WeightsError(_describe_missing(lacking))

    # The library logs its retries as warnings, which are of no use to the user
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    for name, hub in lacking.items():
        logger.setLevel(logging.ERROR)
        try:
            files[name] = Path(huggingface_hub.hf_hub_download(hub, HUB_FILE))
        except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
            missing = {network: hub for network, hub in lacking.items() if network not in files}
            raise WeightsError(_describe_missing(missing, type(error).__name__)) from None
        finally:
            logger.setLevel(before)
    return files


def find_in_cache(hub: str) -> Path | None:
    """Return the weights file in the hub's cache on this machine, or None if it is not there."""
    import huggingface_hub

    path = huggingface_hub.try_to_load_from_cache(hub, HUB_FILE)
    return Path(path) if isinstance(path, str) else None


def _can_reach_hub() -> bool:
    """Whether the hub answers one request within HUB_WAIT_S."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=HUB_WAIT_S):
                answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # an error of HTTP is an answer too
        except (OSError, ValueError):
            answers.append(False)

    # In a thread, since a name server that does not answer ignores the timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_WAIT_S)
    return answers == [True]


def _describe_missing(hubs: Mapping[str, str], reason: str = "") -> str:
    """Return a message that lists the files to copy from the hub, and how to name them."""
    from huggingface_hub import constants

    files = "".join(
        f"\n  {name}: the file {HUB_FILE} of {hub} ({constants.ENDPOINT}/{hub})"
        for name, hub in hubs.items()
    )
    single = len(hubs) == 1
    table = f"[classifier.{next(iter(hubs))}]"
    return (
        f"the ImageNet weights of {', '.join(hubs)} must be in {constants.HF_HUB_CACHE} or come "
        f"from the hub, which cannot be reached{f' ({reason})' if reason else ''}. On a machine "
        f"with a network, download{files}\n"
        f"Copy {'it here under any name' if single else 'them here, each under its own name'}, "
        f'and set weights = "FILE" with the path'
        f"{'' if single else f', each in a table such as {table}'}. To train from random weights "
        'instead, set weights = "none"; every table then repeats it'
    )


# Fitting a network


def remove_prefix(
    file_tensors: dict[str, Tensor], expected_names: Iterable[str], name: str
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors without a wrapper's prefix of their names, such as `module.`; the prefix.

    `expected_names` are the names that the network needs, and `name` is the file's name for
    messages. Raises WeightsError if several prefixes fit equally well.
    """
    expected_names = set(expected_names)
    if expected_names & set(file_tensors):
        return file_tensors, ""

    # Count for each prefix how many wanted names it would give
    matches: dict[str, int] = {}
    for key in file_tensors:
        levels = key.split(".")
        for depth in range(1, len(levels)):
            if ".".join(levels[depth:]) in expected_names:
                prefix = ".".join(levels[:depth]) + "."
                matches[prefix] = matches.get(prefix, 0) + 1

    # Take the best prefix, if it gives at least half of the wanted names
    most = max(matches.values(), default=0)
    best = [prefix for prefix, count in matches.items() if count == most]
    if not matches or 2 * most < len(expected_names):
        return _remove_known_prefixes(file_tensors)
    if len(best) > 1:
        raise WeightsError(
            f"{name}: it holds the network {len(best)} times, as "
            f"{list_some([f'{prefix}*' for prefix in best], 3)}; save the right one in a file of "
            "its own"
        )
    prefix = best[0]
    tensors = {
        key.removeprefix(prefix): value
        for key, value in file_tensors.items()
        if key.startswith(prefix)
    }
    return tensors, prefix


def _remove_known_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors without the known prefixes that all their names have, and the prefixes."""
    removed = ""
    while True:
        prefix = next(
            (p for p in WRAPPER_PREFIXES if all(key.startswith(p) for key in tensors)), None
        )
        if prefix is None:
            return tensors, removed
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        removed += prefix


def find_faults(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], needed: Iterable[str]
) -> list[str]:
    """Return why the tensors `tensors` do not fit a network, as clauses; empty if they fit.

    `expected` are the network's own tensors, and `needed` the names that must be there. The reasons
    are missing names, other shapes, other kinds of numbers, and unknown names.
    """
    clauses = []
    missing = [key for key in needed if key not in tensors]
    if missing:
        clauses.append(f"it lacks {list_some(missing, 3)}")

    # Shapes
    shapes = [
        key for key in tensors if key in expected and tensors[key].shape != expected[key].shape
    ]
    if shapes:
        first = shapes[0]
        rest_text = f" (and {len(shapes) - 1} more like it)" if len(shapes) > 1 else ""
        clauses.append(
            f"{first} is {_format_size(tensors[first])} and must be "
            f"{_format_size(expected[first])}{rest_text}"
        )

    # Kinds of numbers
    kinds = [
        key
        for key in tensors
        if key in expected
        and expected[key].is_floating_point()
        and not tensors[key].is_floating_point()
    ]
    if kinds:
        dtype_name = str(tensors[kinds[0]].dtype).removeprefix("torch.")
        clauses.append(
            f"{list_some(kinds, 3)} {'holds' if len(kinds) == 1 else 'hold'} {dtype_name}, and "
            "must hold "
            "floating-point numbers"
        )

    # Names that the network does not have
    unknown = [key for key in tensors if key not in expected]
    if unknown:
        clauses.append(
            f"{list_some(unknown, 3)} {'is' if len(unknown) == 1 else 'are'} not in the network"
        )
    return clauses


def _format_size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
