"""Pretrained weights: which file a network takes, whether it fits, loading it."""

import inspect
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from mien.classifiers.channels import PICTURE, name_network_channels, require_input
from mien.classifiers.networks import (
    build_outline,
    find_pretrained_config,
    get_pretrained_size,
    load_timm,
    name_head,
    require_known_network,
    require_size,
)
from mien.classifiers.specs import OWN_NETWORKS, USUAL_NETWORKS, ClassifierSpec, WeightsSpec
from mien.classifiers.strong import require_pictures
from mien.classifiers.weight_files import (
    fetch_from_hub,
    find,
    find_faults,
    find_in_cache,
    get_display_name,
    read,
    remove_prefix,
    require_hub,
)
from mien.errors import WeightsError
from mien.runs.files import hash_file
from mien.runs.progress import quantify, say
from mien.runs.store import Run, RunSummary, Store

# The second head of torchvision's Inception, which only torchvision's training uses
AUXILIARY_HEAD_PREFIX = "AuxLogits."

# Weights


def check_all(
    specs: Mapping[str, ClassifierSpec],
    files: Mapping[str, Path] | None = None,
    shown: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Raise an error if any classifier cannot be built or trained; for use before long work.

    `specs` maps the names that messages use to the classifiers; `files` maps the `weights` of
    specs with `file:` to their paths; `shown` maps the names of `specs` to the channels of the
    faces that the classifier sees, which are plain pictures without it. Networks' names are checked
    first, then whether they take such faces, then image sizes, then `files`. `require_hub` checks
    the weights that come from the hub.

    Raises SpecError, DataError and WeightsError.
    """
    require_known_network([spec.name for spec in specs.values()])

    # Whether each network takes its faces, then each network, size and input once
    seen = {name: tuple((shown or {}).get(name, PICTURE)) for name in specs}
    for name, spec in specs.items():
        require_input(name, spec, seen[name])
        require_pictures(name, spec, seen[name])
    seen = {name: name_network_channels(channels) for name, channels in seen.items()}
    sizes = {(spec.name, spec.size, seen[name]): (name, spec) for name, spec in specs.items()}
    for (_, _, channels), (name, spec) in sizes.items():
        require_size(name, spec, channels)

    # Each file with each network that starts from it
    for name, path in (files or {}).items():
        tensors = read(path)
        starting = {
            (spec.name, spec.size, seen[label]): spec
            for label, spec in specs.items()
            if spec.weights == name
        }
        for (network, _, channels), spec in starting.items():
            fit_tensors(build_outline(spec, 2, channels), network, tensors, path)


def require_hub_weights(specs: Iterable[ClassifierSpec], fetch: bool = False) -> None:
    """Raise WeightsError, listing the missing files, unless the ImageNet weights are available.

    With `fetch` they are downloaded; without it the hub is only asked whether it answers.
    """
    require_hub(
        _find_repositories(spec.name for spec in specs if spec.weights == "imagenet"), fetch
    )


def import_weights(path: Path, store: Store) -> str:
    """Copy a weights file into the store; return its name in specs, `file:` and its sha256.

    Raises WeightsError, and copies nothing, if it is not a file of weights.
    """
    digest = hash_file_name(path)
    spec = WeightsSpec(sha256=digest.removeprefix("file:"))
    if not store.is_done(spec.name):
        read(path)

    def build(out: Path, scratch: Path) -> RunSummary:
        shutil.copyfile(path, out / "weights")
        return {
            "holds": (
                f"weights, {quantify(path.stat().st_size, 'byte')}, from a file named {path.name}"
            ),
            "file": path.name,
        }

    store.make(spec, build)
    return digest


def hash_file_name(path: Path) -> str:
    """Return `file:` and the sha256 of a weights file; raises WeightsError if it does not exist."""
    return f"file:{hash_file(find(path))}"


def find_imported_weights(spec: ClassifierSpec, store: Store) -> Path | None:
    """Return the file in the store that a spec with `file:` refers to, or None for other specs."""
    if not spec.weights.startswith("file:"):
        return None
    run: Run = store.run(WeightsSpec(sha256=spec.weights.removeprefix("file:")).name)
    return run.find_file("weights")


def find_weights(spec: ClassifierSpec, file: Path | None) -> Path | None:
    """Return the file of the weights that a specification names, or None if it names none.

    `file` is the file that was given for weights named by their hash. Raises WeightsError if it is
    missing or another one.
    """
    if spec.weights == "none":
        return None
    if spec.weights == "imagenet":
        return fetch_from_hub(_find_repositories([spec.name]))[spec.name]
    if not spec.weights.startswith("file:"):
        return find(Path(spec.weights))
    if file is None or hash_file_name(file) != spec.weights:
        raise WeightsError(
            f"the weights of {spec.name} must be the file with sha256 "
            f"{spec.weights.removeprefix('file:')}; given: "
            f"{'no file' if file is None else f'{file}, which is another one'}. Give that file, or "
            "name the right one in the specification"
        )
    return file


def find_cached_weights(names: Iterable[str]) -> dict[str, Path | None]:
    """Return the file of each network's weights in the hub's cache here, or None without one."""
    return {name: find_in_cache(hub) for name, hub in _find_repositories(names).items()}


def _find_repositories(names: Iterable[str]) -> dict[str, str]:
    """Return the hub's repository, as OWNER/NAME, of timm's weights of each network.

    Raises WeightsError if timm has no weights of one.
    """
    repositories = {
        name: str(find_pretrained_config(name).get("hf_hub_id") or "") for name in names
    }
    for name in (name for name, repository in repositories.items() if not repository):
        raise WeightsError(
            f"timm has no pretrained weights of {name}; set weights = 'none', or name a file"
        )
    return repositories


def load_into(network: nn.Module, name: str, tensors: dict[str, Tensor], path: Path) -> None:
    """Load the tensors into the network, except for a head for other classes."""
    fitted, note = fit_tensors(network, name, tensors, path)
    network.load_state_dict(fitted, strict=False)
    if note:
        say(f"{Path(get_display_name(path)).name}: {note}")


def fit_tensors(
    network: nn.Module, name: str, tensors: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file under the network's own names, and a note on those left out.

    `tensors` are the tensors of the file at `path`, `name` is the network's name. A head that does
    not fit is left out, and so are modules that the network does not have, such as a projector.

    Raises WeightsError if the tensors do not fit, with the network that they look like.
    """
    expected = network.state_dict()
    head = tuple(f"{module}." for module in name_head(network))
    body = [
        key
        for key in expected
        if not key.startswith(head) and not key.endswith("num_batches_tracked")
    ]
    file = get_display_name(path)

    # Rename the tensors as timm does, without a wrapper's prefix
    tensors, prefix = remove_prefix(tensors, body, file)
    tensors = widen_first_layer(network, _rename_as_timm(network, tensors), expected)
    tensors = {
        key: value for key, value in tensors.items() if not key.startswith(AUXILIARY_HEAD_PREFIX)
    }

    # Leave out the head if any of it is for other classes, and modules that the network lacks
    head_keys = [key for key in tensors if key.startswith(head)]
    head_fits = all(
        key in expected and tensors[key].shape == expected[key].shape for key in head_keys
    )
    modules = {key.partition(".")[0] for key in expected}
    extra = [
        key for key in tensors if key.partition(".")[0] not in modules and not key.startswith(head)
    ]
    left_out = {*(head_keys if not head_fits else ()), *extra}
    fitted = {key: value for key, value in tensors.items() if key not in left_out}

    # All others must fit; if not, the file may be of another network
    faults = find_faults(fitted, expected, body)
    if faults:
        text = (
            f"{file}: it must hold the weights of {name} as timm names them, but "
            f"{', and '.join(faults)}"
        )
        hint = _find_similar_network(tensors, head, name) or " Name the network of the file"
        raise WeightsError(f"{text}.{hint}")

    # What a reader should know of the tensors that were left out or renamed
    notes = []
    if head_keys and not head_fits:
        outputs = _count_outputs(expected, head)
        notes.append(f"its head, for other classes than the {outputs} here, was left out")
    if extra:
        notes.append(
            f"{', '.join(extra[:3])}{' and more' * (len(extra) > 3)} are not part of the network "
            "and were left out"
        )
    if prefix:
        notes.append(f"the prefix '{prefix}' of its names was removed")
    return fitted, "; ".join(notes)


def _find_similar_network(tensors: Mapping[str, Tensor], head: tuple[str, ...], name: str) -> str:
    """Return ` It looks like NAME` for the usual network that the tensors belong to, or ""."""
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    for candidate in (
        usual for usual in USUAL_NETWORKS if usual != name and _name_first_layer(usual) in shapes
    ):
        # The shapes of that network without its head, which may be for other classes
        network = build_outline(
            ClassifierSpec(
                name=candidate, size=max(get_pretrained_size(candidate), 75), weights="none"
            ),
            2,
        )
        other_head = tuple(f"{module}." for module in name_head(network))
        expected = {
            key: tuple(value.shape)
            for key, value in network.state_dict().items()
            if not key.startswith(other_head) and not key.endswith("num_batches_tracked")
        }

        # The same network has all of these, and nothing else but a head
        if all(shapes.get(key) == shape for key, shape in expected.items()):
            extra = [
                key
                for key in shapes
                if key not in expected
                and not key.startswith((*other_head, *head))
                and not key.endswith("num_batches_tracked")
            ]
            if not extra:
                return f" It looks like {candidate}"
    return ""


def _name_first_layer(name: str) -> str:
    if name in OWN_NETWORKS:
        return OWN_NETWORKS[name].first_layer
    return f"{find_pretrained_config(name).get('first_conv', '')}.weight"


def _count_outputs(expected: Mapping[str, Tensor], head: tuple[str, ...]) -> int:
    """Return the number of classes of a network's head."""
    return next(len(expected[key]) for key in reversed(list(expected)) if key.startswith(head))


def _rename_as_timm(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
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


def widen_first_layer(
    network: nn.Module, tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors with a first layer for as many channels as `expected` has.

    As in timm, the filters for red, green and blue are repeated in turn, and scaled so that their
    sum stays the same.
    """
    key = f"{getattr(network, 'pretrained_cfg', {}).get('first_conv', '')}.weight"
    if key not in tensors or tensors[key].shape[1] != 3 or expected[key].shape[1] == 3:
        return tensors
    return {
        **tensors,
        key: load_timm().models.adapt_input_conv(expected[key].shape[1], tensors[key]),
    }
