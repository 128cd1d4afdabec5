"""Two operators that torchvision needs and the CPU build of torch lacks.

PyPI's torchvision for Linux is linked to torch's CUDA libraries (libtorch_cuda, libc10_cuda). With
the CPU build of torch its compiled operators do not load, and its import fails on two operators
that it describes without having them. This module declares the two without a body, after
torchvision has found that its library does not load. If the library loads, nothing is changed.
Calling an operator still ends in torchvision's own message that its operators are missing.

torch calls `prepare` whenever it is imported (the entry point `torch.backends` of pyproject.toml),
so a plain `import timm` works wherever mien is installed. If TORCH_DEVICE_BACKEND_AUTOLOAD=0 is
set, call it yourself.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

EXTENSION = "torchvision.extension"  # the module of torchvision that loads its library

OPERATORS = ("nms", "qnms")  # torchvision describes them even if its library did not load

_LIBRARIES: list[Any] = []  # a declared operator lives as long as its library object


def prepare() -> None:
    """Declare the missing operators of torchvision as soon as it has tried to load its library."""
    if EXTENSION in sys.modules:
        _declare(sys.modules[EXTENSION])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _declare(extension: ModuleType) -> None:
    """Declare the operators without a body, if torchvision's library did not load."""
    torch: Any = sys.modules.get("torch")
    has_operators = getattr(extension, "_has_ops", None)
    if torch is None or has_operators is None or has_operators():
        return

    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _LIBRARIES.append(library)


class _Finder(MetaPathFinder):
    """Finds only `torchvision.extension`, as Python does, and gives it to `_Declaring` to load."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of torchvision's extension with `_Declaring` as its loader, else None."""
        if fullname != EXTENSION:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Declaring(spec.loader)
        return spec


class _Declaring(Loader):
    """Loads a module with the loader that Python chose, then declares the missing operators."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the loader that Python chose creates."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and declare the operators that it then lacks."""
        self._loader.exec_module(module)
        _declare(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
