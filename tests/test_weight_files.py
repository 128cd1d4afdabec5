"""Files of weights: known by their content, refused with their own name, what is wrong and what to
do.
"""

import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from mien.classifiers import pretrained, weight_files
from mien.classifiers.networks import build_network
from mien.classifiers.predict import start_network
from mien.classifiers.specs import ClassifierSpec
from mien.errors import WeightsError
from mien.runs.store import Store

REAL = (
    Path(__file__).parent.parent.parent
    / "shared"
    / "data"
    / "weights"
    / "efficientnet_lite0.safetensors"
)


def state(name: str = "resnet18", classes: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(3)
    network, _, _ = build_network(ClassifierSpec(name=name, size=32, weights="none"), classes)
    return {key: value.clone() for key, value in network.state_dict().items()}


def loaded(path: Path, name: str = "resnet18") -> dict[str, Tensor]:
    spec = ClassifierSpec(name=name, size=32, weights=str(path))
    return start_network(spec, ("anger", "fear", "sadness"), 0, None).network.state_dict()


def refusal(path: Path, name: str = "resnet18", store: Path | None = None) -> str:
    """The message with which a file is refused, which names it and is no warning of anybody
    else's.
    """
    with warnings.catch_warnings(record=True) as caught, pytest.raises(WeightsError) as error:
        warnings.simplefilter("always")
        loaded(path, name)
    assert not caught and str(path) in str(error.value)
    assert "torch.load" not in str(error.value) and "documentation" not in str(error.value)
    return str(error.value)


# Recognised by content


@pytest.mark.parametrize("low", [0x80, 0x50, 0x00, 0x38])
@pytest.mark.parametrize("called", ["w.safetensors", "w", "w.pth"])
def test_safetensors_are_known_whatever_the_length_of_their_header(
    tmp_path: Path, low: int, called: str
):
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    lengths = {}
    for pad in range(0, 256, 8):
        data = save(tensors, {"pad": "x" * pad})
        lengths[data[0]] = data
    (tmp_path / called).write_bytes(lengths[low])
    assert torch.equal(weight_files.read(tmp_path / called)["a.weight"], tensors["a.weight"])


@pytest.mark.parametrize("old", [True, False])
def test_what_torch_saves_is_known_in_both_of_its_forms(tmp_path: Path, old: bool):
    path = tmp_path / "named.safetensors"  # the name says nothing
    torch.save(
        {"epoch": 3, "state_dict": {"b": torch.ones(2)}},
        path,
        _use_new_zipfile_serialization=not old,
    )
    assert torch.equal(weight_files.read(path)["b"], torch.ones(2))


class Evil:
    """What runs something when a pickle of it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("ran",)


def damaged(kind: str, path: Path) -> None:
    """Write what is no file of weights."""
    whole = save({"a": torch.ones(500)})
    if kind == "cut zip":
        torch.save({"a": torch.ones(500)}, path)
        path.write_bytes(path.read_bytes()[:-700])
    elif kind == "cut old":
        torch.save({"a": torch.ones(500)}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:-700])
    elif kind == "module":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", "<a/>")
    elif kind == "evil zip":
        torch.save({"a": Evil()}, path)
    elif kind == "script":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("net/data.pkl", "net/constants.pkl", "net/code/x.py"):
                archive.writestr(name, "")
    else:
        path.write_bytes(
            {
                "empty": b"",
                "one byte": b"\x80",
                "pickle": pickle.dumps({"a": np.ones(3)}),
                "evil pickle": pickle.dumps(Evil(), protocol=2),
                "text": b"dear all,\nplease find the weights attached",
                "page": b"<!DOCTYPE html><html>",
                "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
                "cut": whole[:-9],
                "cut header": whole[:20],
                "long header": struct.pack("<Q", 10**15) + b"{}",
                "bad header": struct.pack("<Q", 8) + b"{not one",
                "noise": bytes(range(250, 100, -1)),
                "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
            }[kind]
        )


KINDS = {
    "empty": "is empty",
    "one byte": "bare pickle",
    "pickle": "bare pickle",
    "evil pickle": "could run code",
    "text": "it is text",
    "page": "a web page",
    "pointer": "git lfs pull",
    "cut": "was cut: 2,0",
    "cut header": "was cut: 20 of",
    "cut zip": "was cut or damaged",
    "cut old": "was cut or damaged",
    "long header": "must be a .safetensors or .pth file",
    "bad header": "begins like safetensors",
    "noise": "must be a .safetensors or .pth file",
    "hdf5": "an HDF5 file",
    "module": "other Python objects than tensors",
    "evil zip": "could run code",
    "other zip": "word/document.xml",
    "script": "TorchScript",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_of_weights_is_refused_by_its_name_and_leaves_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path, store = tmp_path / f"my {kind}.pth", Store(tmp_path / "store")
    damaged(kind, path)
    assert KINDS[kind] in refusal(path)
    with pytest.raises(WeightsError, match=KINDS[kind].replace("(", ".")):
        pretrained.import_weights(path, store)
    assert not (tmp_path / "ran").exists() and not store.list_names()


def test_what_is_not_a_file_at_all_is_said(tmp_path: Path):
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "link.pth").symlink_to(tmp_path / "gone.pth")
    (tmp_path / "good.pth").symlink_to(tmp_path / "model.safetensors")
    os.mkfifo(tmp_path / "pipe")
    assert "name a file in it, such as" in refusal(tmp_path) and "good.pth" in refusal(tmp_path)
    assert "gone.pth, which does not exist" in refusal(tmp_path / "link.pth")
    assert "a device or a pipe" in refusal(tmp_path / "pipe")
    assert list(weight_files.read(tmp_path / "good.pth")) == ["a"]
    with pytest.raises(WeightsError, match=r"looked for .*one/w.pth and .*two/w.pth"):
        weight_files.find(Path("w.pth"), (tmp_path / "one", tmp_path / "two"))


# Numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_that_are_not_finite_are_refused_as_the_file_is_read(
    tmp_path: Path, value: float, dtype: torch.dtype
):
    path, tensors = tmp_path / "diverged.safetensors", state()
    tensors = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in tensors.items()
    }
    tensors["layer2.0.conv1.weight"][0, 0, 0, :2] = value
    save_file(tensors, path)
    message = refusal(path)
    assert (
        "2 of 73,728 in layer2.0.conv1.weight are not" in message and "learning_rate" not in message
    )


def test_whole_numbers_in_place_of_weights_are_refused(tmp_path: Path):
    path = tmp_path / "quantised.safetensors"
    save_file(
        {k: v.to(torch.int8) if v.is_floating_point() else v for k, v in state().items()}, path
    )
    assert "int8" in refusal(path)


# Names and shapes


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "student.net.", "_orig_mod.module.", "a.b.c."]
)
def test_what_wrappers_write_before_names_is_taken_off(tmp_path: Path, prefix: str):
    path, tensors = tmp_path / "wrapped.pth", state()
    torch.save({"model": {f"{prefix}{key}": value for key, value in tensors.items()}}, path)
    assert torch.equal(loaded(path)["layer4.1.conv2.weight"], tensors["layer4.1.conv2.weight"])


def test_a_file_with_the_network_twice_is_refused(tmp_path: Path):
    path, tensors = tmp_path / "twice.pth", state()
    torch.save(
        {f"{side}.{key}": value for side in ("query", "key") for key, value in tensors.items()},
        path,
    )
    assert "2 times, as query.*, key.*" in refusal(path)


@pytest.mark.parametrize(
    "head",
    [
        {"fc.1.weight": (9, 512), "fc.1.bias": (9,)},
        {"fc.0.weight": (64, 512), "fc.0.bias": (64,), "fc.3.weight": (3, 64), "fc.3.bias": (3,)},
        {"fc.weight": (1000, 512), "fc.bias": (1000,)},
        {"projector.0.weight": (128, 512)},
        {},
    ],
)
def test_heads_of_any_kind_are_left_out_and_told(
    tmp_path: Path, head: dict[str, tuple[int, ...]], capfd: pytest.CaptureFixture[str]
):
    path, tensors = tmp_path / "w.safetensors", state()
    body = {key: value for key, value in tensors.items() if not key.startswith("fc.")}
    save_file({**body, **{key: torch.ones(shape) for key, shape in head.items()}}, path)
    assert torch.equal(loaded(path)["conv1.weight"], tensors["conv1.weight"])
    assert ("left out" in capfd.readouterr().err) == bool(head)


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("resnet34", "resnet18"),
        ("mobilenetv3_small_100", "mobilenetv3_large_100"),
        ("resnet18", "densenet121"),
    ],
)
def test_a_file_of_another_network_says_which_it_looks_like(tmp_path: Path, held: str, asked: str):
    path = tmp_path / "w.safetensors"
    save_file(state(held), path)
    message = refusal(path, asked)
    assert (
        f"must hold the weights of {asked} as timm names them" in message
        and f"looks like {held}" in message
    )


def test_a_wrong_shape_is_told_with_the_right_one(tmp_path: Path):
    path, tensors = tmp_path / "w.safetensors", state()
    tensors["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    save_file(tensors, path)
    assert "layer1.0.conv1.weight is 64 x 64 x 5 x 5 and must be 64 x 64 x 3 x 3" in refusal(path)


def test_half_precision_is_taken(tmp_path: Path):
    path, tensors = tmp_path / "w.safetensors", state()
    save_file({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, path)
    assert torch.equal(loaded(path)["conv1.weight"], tensors["conv1.weight"].half().float())


@pytest.mark.skipif(
    not REAL.exists(), reason="needs ../shared/data/weights/efficientnet_lite0.safetensors"
)
def test_weights_that_were_really_trained_are_taken_and_refused_for_another_network():
    kept = loaded(REAL, "tf_efficientnet_lite0")
    assert torch.equal(kept["conv_stem.weight"], weight_files.read(REAL)["conv_stem.weight"])
    assert "looks like tf_efficientnet_lite0" in refusal(REAL, "efficientnet_b0")


def test_a_copy_in_the_store_is_called_as_the_file_was(tmp_path: Path):
    path, store = tmp_path / "mine.safetensors", Store(tmp_path / "store")
    save_file(state(), path)
    spec = ClassifierSpec(name="resnet18", size=32, weights=pretrained.import_weights(path, store))
    kept = pretrained.find_imported_weights(spec, store)
    assert kept is not None and weight_files.get_display_name(kept) == "mine.safetensors"
    assert json.loads(kept.with_name("summary.json").read_text())["file"] == "mine.safetensors"
    assert start_network(spec, ("fear",), 0, kept).origin.startswith(
        "file (mine.safetensors, sha256"
    )
