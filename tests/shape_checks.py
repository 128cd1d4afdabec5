"""Checks of array shapes in `mien` while the tests run.

A function is checked if its annotations give an array a shape, as `UInt8[ndarray, "n h w"]` does.
Other types are left to pyright: to check them at each call takes longer than the tests themselves.
For the same reason, only the first calls of a function are checked in each test (`begin_test`).
Importing this file installs the checks, so `conftest.py` imports it before anything of `mien`.
"""

import ast
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args
from zlib import crc32

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

# Byte code with checks has file names of its own, which change with this file.
BYTE_CODE = f".shapes-{crc32(Path(__file__).read_bytes()):08x}.pyc"

MOST_CALLS = 25  # that are checked, of one function in one test

checked_calls: Counter[Callable[..., Any]] = Counter()  # of each function in this test


def begin_test() -> None:
    """Check the first calls of each function again."""
    checked_calls.clear()


def has_shape(annotation: Any) -> bool:
    """Whether an annotation says the shape of an array, possibly within another type."""
    if isinstance(annotation, list | tuple):  # the arguments of a `Callable`
        return any(has_shape(part) for part in annotation)
    if isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(has_shape(part) for part in get_args(annotation))


def check_shapes(one: Any) -> Any:
    """Return a function or class that checks its arrays, or the same one if it names no shape."""
    if not isclass(one):
        annotations = [*one.__annotations__.values()]
    elif dataclasses.is_dataclass(one):
        annotations = [field.type for field in dataclasses.fields(one)]
    else:
        annotations = []
    if not has_shape(annotations):
        return one
    return jaxtyped(one, typechecker=beartype) if isclass(one) else check_first_calls(one)


def check_first_calls(function: Callable[..., Any]) -> Any:
    """Return `function` with checks of its first `MOST_CALLS` calls in each test.

    The checks are prepared at the first call, since most functions are called in few processes.
    """
    checked: Callable[..., Any] | None = None

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal checked
        if checked_calls[function] >= MOST_CALLS:
            return function(*arguments, **named)
        checked_calls[function] += 1
        if checked is None:
            checked = jaxtyped(function, typechecker=beartype)
        return checked(*arguments, **named)

    return call


class Decorate(ast.NodeTransformer):
    """Decorates each class and each annotated function of a module with `check_shapes`.

    A function within a function is left as it is: each call of the outer one makes it again,
    and to prepare its checks takes a millisecond each time.
    """

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # outermost: it must see what `@dataclass` made
        node.decorator_list.insert(0, self._decorator(node))
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        # innermost: other decorators may return something without annotations
        if node.returns or any(isinstance(part, ast.arg) for part in ast.walk(node.args)):
            node.decorator_list.append(self._decorator(node))
        return node

    def _decorator(self, node: ast.FunctionDef | ast.ClassDef) -> ast.expr:
        [statement] = ast.parse(f"__import__('sys').modules[{__name__!r}].check_shapes").body
        assert isinstance(statement, ast.Expr)
        return ast.copy_location(statement.value, node)


class Loader(SourceFileLoader):
    """Loads a module of `mien` with checks, and keeps its byte code apart from the usual one."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = ast.fix_missing_locations(Decorate().visit(ast.parse(data, path)))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def get_data(self, path: str) -> bytes:
        return super().get_data(self._own(path))

    def set_data(self, path: str, data: Any, **more: Any) -> None:
        super().set_data(self._own(path), data, **more)

    def _own(self, path: str) -> str:
        return path.removesuffix(".pyc") + BYTE_CODE if path.endswith(".pyc") else path


class Finder(MetaPathFinder):
    """Finds the modules of `mien`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "mien":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


if "mien" in sys.modules:
    raise ImportError("shape_checks must be imported before mien: it was imported after it")
sys.meta_path.insert(0, Finder())
