"""Files of pretrained weights: recognised by what they hold, whatever they are called, and read
without running code.

Two forms are read: safetensors, and what torch.save writes (a zip archive, or the older form with a
magic number), the latter by torch's restricted reader, which knows tensors alone. All else is
refused with what it is.
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
from mien.outside import expanded
from mien.store import read_json

# torch.save before 1.6, and with its old form today
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
HUB_FILE = "model.safetensors"
HUB_WAIT_S = 1.5  # so long a hub may take to answer, before it counts as out of reach
HEADER_MOST = 100_000_000  # bytes of a safetensors header, as the format limits it
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "state_dict_ema",
    "model_ema",
    "weights",
)
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "network.",
    "net.",
    "base_model.",
)
SAVE = (
    "save it anew with torch.save(model.state_dict(), FILE) or "
    "safetensors.torch.save_file(model.state_dict(), FILE)"
)
FETCH = "fetch it again, and compare its size with that at its source"
STARTS = {
    b"version https://git-lfs": (
        "a pointer of Git LFS, not the file itself; run `git lfs pull` where it came from"
    ),
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file, as Keras writes it; load it there and {SAVE}",
    b"\x93NUMPY": f"an array of NumPy; {SAVE}",
    b"GGUF": f"a GGUF file; {SAVE}",
    b"\x1f\x8b": "packed with gzip; unpack it, and name what was inside",
    b"<!DOCTYPE": "a web page, not what stands behind it; fetch the file itself",
    b"<!doctype": "a web page, not what stands behind it; fetch the file itself",
    b"<html": "a web page, not what stands behind it; fetch the file itself",
}
"""What a file is that begins so, and what to do."""


def find(path: Path, places: Sequence[Path] = (Path(),)) -> Path:
    """Return the file that `path` names, the first that is there of those taken from `places`.

    Raises WeightsError with all places where it was looked for, or what lies there instead of a
    file.
    """
    looked = list(dict.fromkeys(place / expanded(path) for place in places))
    for one in looked:
        if one.is_dir():
            inside = sorted(
                each.name
                for each in one.iterdir()
                if each.suffix in (".safetensors", ".pth", ".pt", ".bin")
            )
            hint = f", such as {one / inside[0]}" if inside else ""
            raise WeightsError(
                f"{one}: weights must be a file, and this is a folder; name a file in it{hint}"
            )
        if one.is_file():
            return one
        if one.exists():
            raise WeightsError(
                f"{one}: weights must be an ordinary file, and this is a device or a pipe"
            )
        if one.is_symlink():
            raise WeightsError(
                f"{one}: this is a link to {one.readlink()}, which is not there; mend the link"
            )
    places_text = " and ".join(str(one.absolute()) for one in looked)
    raise WeightsError(
        f"weights must be 'imagenet', 'none', or the path of a file, and there is no file {path}; "
        "looked for "
        f"{places_text}; check the path"
    )


def shown(path: Path) -> str:
    """Return the name by which people know a file: a copy in the store has that of the file it was
    copied from.
    """
    told = read_json(path.with_name("summary.json")) if path.name == "weights" else None
    return str(told["file"]) if isinstance(told, dict) and "file" in told else str(path)


def read(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a weights file, finite numbers all of them.

    Raises WeightsError, with the file's name, what is wrong and what to do.
    """
    name = shown(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
        state = _tensors(path, start, name)
    except OSError as error:
        raise WeightsError(
            f"{name}: it cannot be read: {error.strerror or error}; check its permissions"
        ) from None
    state = _unwrapped(state, name)
    _require_numbers(state, name)
    return state


def _tensors(path: Path, start: bytes, name: str) -> Any:
    """Return what the file holds, read in the form that its content has."""
    size = path.stat().st_size
    if not size:
        raise WeightsError(f"{name}: the file is empty; {FETCH}")
    if _is_safetensors(start):
        return _read_safetensors(path, size, name)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        _require_torch_zip(path, name)
        return _read_torch(path, name)
    if start.startswith(OLD_TORCH):
        return _read_torch(path, name)
    raise WeightsError(
        f"{name}: this must be a .safetensors or .pth file of tensors, and is "
        f"{_described(start, size)}"
    )


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins as safetensors: eight bytes with the length of a header, and the
    header's brace.
    """
    return start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= HEADER_MOST


def _described(start: bytes, size: int) -> str:
    """Say what a file is that holds no tensors, and what to do."""
    for lead, text in STARTS.items():
        if start.startswith(lead):
            return text
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":  # a single byte too: it may have been one
        return (
            f"a bare pickle ({size:,} {'byte' if size == 1 else 'bytes'}), which could run code "
            "when it is read; where "
            f"it was made, {SAVE}"
        )
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return "text; name the file with the weights themselves, or fetch it again"
    return f"neither; {FETCH}, or {SAVE}"


def _read_safetensors(path: Path, size: int, name: str) -> dict[str, Tensor]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    try:
        told = json.loads(header)
        ends = [one["data_offsets"][1] for key, one in told.items() if key != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
        whole = 8 + length
    if size < whole:
        raise WeightsError(
            f"{name}: the file was cut: {size:,} of {whole:,} bytes are there; {FETCH}"
        )
    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise WeightsError(
            f"{name}: it begins as safetensors, and cannot be read as such: {reason}; {FETCH}"
        ) from None


def _require_torch_zip(path: Path, name: str) -> None:
    """Raise WeightsError unless the zip archive is whole, and one that torch.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError):
        raise WeightsError(
            f"{name}: the file was cut or damaged: it begins as a zip archive, without an end; "
            f"{FETCH}"
        ) from None
    if any(each.endswith("/constants.pkl") or "/code/" in each for each in inside):
        raise WeightsError(
            f"{name}: this is a TorchScript program, not weights alone; load it with torch.jit "
            f"and {SAVE}"
        )
    if not any(each.endswith("data.pkl") for each in inside):
        some = ", ".join(inside[:2]) or "nothing"
        raise WeightsError(
            f"{name}: this is a zip archive, but not one of torch.save (it holds {some}); unpack "
            "it and name the file "
            "with the weights"
        )


def _read_torch(path: Path, name: str) -> Any:
    """Return what torch.save wrote, by the reader that knows tensors alone and runs nothing."""
    try:
        with (
            warnings.catch_warnings(),
            path.open("rb") as file,
        ):  # by its path, torch would go by the suffix
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported" in str(error):
            raise WeightsError(
                f"{name}: it holds Python objects beside tensors, such as a whole model, which "
                "could run code when "
                f"they are read; where it was made, {SAVE}"
            ) from None
        raise WeightsError(f"{name}: the file was cut or damaged; {FETCH}") from None
    except Exception as error:  # a damaged file fails in many ways, all of which mean the same
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise WeightsError(
            f"{name}: the file was cut or damaged ({type(error).__name__}); {FETCH}"
        ) from None


def _unwrapped(state: Any, name: str) -> dict[str, Tensor]:
    """Return the table of tensors, also where a checkpoint keeps it among other things."""
    for _ in range(3):
        inner = next(
            (
                state[key]
                for key in WRAPPERS
                if isinstance(state, Mapping) and _is_table(state.get(key))
            ),
            None,
        )
        if inner is None:
            break
        state = inner
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{name}: it must hold tensors by name, and holds a {type(state).__name__}; {SAVE}"
        )
    other = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if other or not state:
        text = f"holds {_some(other)} beside them" if other else "holds none"
        raise WeightsError(
            f"{name}: it must hold tensors by name and nothing else, and {text}; {SAVE}"
        )
    return {str(key): value for key, value in state.items()}


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _require_numbers(state: Mapping[str, Tensor], name: str) -> None:
    """Raise WeightsError if a tensor holds NaN or infinity, or is not stored in full."""
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise WeightsError(f"{name}: {key} is stored sparsely or quantised; {SAVE}, in float32")
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if not bool(torch.isfinite(tensor.float() if tensor.dtype.itemsize < 4 else tensor).all()):
            wrong = int((~torch.isfinite(tensor.float())).sum())
            raise WeightsError(
                f"{name}: weights must be finite numbers, and {wrong:,} of {tensor.numel():,} in "
                f"{key} are not (NaN or "
                "infinity): the training that made it diverged, or the file is damaged; take an "
                "earlier checkpoint"
            )


# From a hub


def require_hub(hubs: Mapping[str, str], fetch: bool = False) -> None:
    """Raise WeightsError unless the weights of some networks are on this machine, or can be fetched
    from the hub.

    `hubs` says where the hub has them, as OWNER/NAME, by network. All files that are missing are
    named at once.
    """
    lacking = {name: hub for name, hub in hubs.items() if _kept(hub) is None}
    if fetch:
        of_hub(lacking)
    elif lacking and not _hub_answers():
        raise WeightsError(_to_bring(lacking))


def of_hub(hubs: Mapping[str, str]) -> dict[str, Path]:
    """Return the files of weights of some networks on this machine, fetched where they are not here
    yet.

    Raises WeightsError, with all files that are missing, if the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    found = {name: path for name, hub in hubs.items() if (path := _kept(hub)) is not None}
    lacking = {name: hub for name, hub in hubs.items() if name not in found}
    if lacking and not _hub_answers():
        raise WeightsError(_to_bring(lacking))
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    for name, hub in lacking.items():
        logger.setLevel(logging.ERROR)  # its retries are not for the user
        try:
            found[name] = Path(huggingface_hub.hf_hub_download(hub, HUB_FILE))
        except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
            rest = {each: lacking[each] for each in lacking if each not in found}
            raise WeightsError(_to_bring(rest, type(error).__name__)) from None
        finally:
            logger.setLevel(before)
    return found


def _kept(hub: str) -> Path | None:
    """Return the file of weights as it lies in the hub's cache on this machine, nothing if it does
    not.
    """
    import huggingface_hub

    kept = huggingface_hub.try_to_load_from_cache(hub, HUB_FILE)
    return Path(kept) if isinstance(kept, str) else None


def _hub_answers() -> bool:
    """Whether the hub can be reached: asked once, and not waited for longer than HUB_WAIT_S."""
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
            answers.append(True)  # it answers, if only with a complaint
        except (OSError, ValueError):
            answers.append(False)

    asking = threading.Thread(target=ask, daemon=True)  # a silent name server knows no time limit
    asking.start()
    asking.join(HUB_WAIT_S)
    return answers == [True]


def _to_bring(hubs: Mapping[str, str], why: str = "") -> str:
    """Say which files of weights must be brought from the hub, and how they are given."""
    from huggingface_hub import constants

    files = "".join(
        f"\n  {name}: the file {HUB_FILE} of {hub} ({constants.ENDPOINT}/{hub})"
        for name, hub in hubs.items()
    )
    one = len(hubs) == 1
    table = f"[classifier.{next(iter(hubs))}]"
    return (
        f"the ImageNet weights of {', '.join(hubs)} must come from the hub, which cannot be reached"
        f"{f' ({why})' if why else ''}. Where there is a network, fetch{files}\n"
        f"Bring {'it here under any name' if one else 'them here, each under a name of its own'}, "
        "and say "
        f'weights = "FILE" with the path{"" if one else f", each in a table such as {table}"}. To '
        "train from random "
        'weights instead, say weights = "none"; every table then repeats it'
    )


# Fitting a network


def unprefixed(
    given: dict[str, Tensor], wanted: Iterable[str], name: str
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors without what a wrapper wrote before their names, such as `module.`, and
    the prefix.

    Raises WeightsError if two parts of the file would do alike.
    """
    wanted = set(wanted)
    if wanted & set(given):
        return given, ""
    found: dict[str, int] = {}
    for key in given:
        parts = key.split(".")
        for depth in range(1, len(parts)):
            if ".".join(parts[depth:]) in wanted:
                prefix = ".".join(parts[:depth]) + "."
                found[prefix] = found.get(prefix, 0) + 1
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if not found or 2 * most < len(wanted):
        return _plainly(given)
    if len(best) > 1:
        raise WeightsError(
            f"{name}: it holds the network {len(best)} times, as "
            f"{_some([f'{one}*' for one in best])}; save the one "
            "that is meant in a file of its own"
        )
    return {
        key.removeprefix(best[0]): value for key, value in given.items() if key.startswith(best[0])
    }, best[0]


def _plainly(given: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors without the prefixes that all their names have."""
    lead = ""
    while True:
        one = next((one for one in PREFIXES if all(key.startswith(one) for key in given)), None)
        if one is None:
            return given, lead
        given, lead = {key.removeprefix(one): value for key, value in given.items()}, lead + one


def faults(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], needed: Iterable[str]
) -> list[str]:
    """Say what keeps the tensors from fitting: missing names, other shapes, other kinds of numbers,
    strange names.
    """
    parts = []
    missing = [key for key in needed if key not in given]
    if missing:
        parts.append(f"it lacks {_some(missing)}")
    shapes = [key for key in given if key in wanted and given[key].shape != wanted[key].shape]
    if shapes:
        one = shapes[0]
        more = f" (and {len(shapes) - 1} more like it)" if len(shapes) > 1 else ""
        parts.append(f"{one} is {_size(given[one])} and must be {_size(wanted[one])}{more}")
    kinds = [
        key
        for key in given
        if key in wanted and wanted[key].is_floating_point() and not given[key].is_floating_point()
    ]
    if kinds:
        kind = str(given[kinds[0]].dtype).removeprefix("torch.")
        parts.append(
            f"{_some(kinds)} {'holds' if len(kinds) == 1 else 'hold'} {kind}, and must hold "
            "floating-point numbers"
        )
    strange = [key for key in given if key not in wanted]
    if strange:
        parts.append(f"{_some(strange)} {'has' if len(strange) == 1 else 'have'} no place in it")
    return parts


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
