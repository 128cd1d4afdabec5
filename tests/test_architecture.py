"""Imports point one way, and heavy libraries stay where they belong.

The list of layers below is the diagram of the package. What is checked is each file, not each
folder: no circle, no import from a lower layer to a higher one, no import inside a function.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mien"
# Files and folders of mien/, from the ground up. Within a layer nothing imports its neighbour.
LAYERS = [
    {"errors", "seeds", "licences", "published", "hashes", "findings"},
    {"strips"},
    {"outside", "faces", "stats", "metrics", "pictures"},
    {"runs", "spellings"},
    {"pages"},
    {"prepare"},
    {"ingest", "generators"},
    {"classifiers"},
    {"audit"},
    {"study"},
    {"report"},
    {"publish"},
    {"export"},
    {"api"},
    {"studio"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# The files and folders that may import a heavy library, as paths below mien/.
ONLY_IN = {
    "torch": ("runs", "generators", "classifiers", "audit", "export"),
    "ray": ("runs/ray.py",),
    "timm": ("classifiers/networks.py",),
    "sklearn": ("classifiers/baselines.py", "audit", "generators/one_pass/mixture.py"),
    "cv2": ("ingest", "prepare", "pictures.py", "audit"),
    "jinja2": ("pages/html.py", "publish/card.py"),
    "huggingface_hub": ("publish", "classifiers/weight_files.py"),
    "c2pa": ("publish",),
    "matplotlib": ("pages/charts.py",),
    "typer": ("cli",),
    "fastapi": ("studio",),
    "starlette": ("studio",),
    "uvicorn": ("studio",),
}
# Heavy libraries, most of them optional extras, that may be imported late, inside a function.
LATE = {
    "torch",
    "torchvision",
    "ray",
    "timm",
    "sklearn",
    "cv2",
    "jinja2",
    "huggingface_hub",
    "datasets",
    "c2pa",
    "matplotlib",
    "mlcroissant",
    "tensorboard",
    "pyarrow",
    "PIL",
    # modules of the standard library that not every system has
    "fcntl",
    "resource",
}
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in FILES}


@cache
def tree_of(place: str) -> ast.Module:
    """Return the syntax tree of a file, given as a path below mien/."""
    return ast.parse(SOURCES[place])


def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of all files of mien/."""
    return {place: tree_of(place) for place in SOURCES}


def module_of(path: Path) -> str:
    """Return the dotted name of a file: mien/ingest/toy/head.py is mien.ingest.toy.head."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path.relative_to(PACKAGE).as_posix() for path in FILES}


def imports(tree: ast.Module) -> set[str]:
    """Return the names of all that a file imports, wherever it does: modules where they are
    modules of mien, else the name in the statement.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else node.module)
    return names


@cache
def imports_of(module: str) -> set[str]:
    """Return what a module of mien imports, as `imports` does."""
    return imports(tree_of(MODULES[module]))


def faults(check: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """Return what a check finds in each file, given as a path below mien/, where it finds any."""
    return {place: found for place in SOURCES if (found := check(place))}


def layer_of(module: str) -> str:
    """Return the file or folder of mien/ that a module is in: mien.ingest.toy.head is in ingest."""
    return module.split(".")[1] if "." in module else ""


def upward(module: str, imported: set[str]) -> list[str]:
    """Return the imports of a module that do not point to a lower layer."""
    own = layer_of(module)
    return sorted(
        name
        for name in imported
        if name.split(".")[0] == "mien"
        and layer_of(name) not in ("", own)
        and RANK[layer_of(name)] >= RANK[own]
    )


def misplaced(path: str, imported: set[str]) -> list[str]:
    """Return the heavy libraries that the file at a path below mien/ must not import."""
    return sorted(
        library
        for library in {name.split(".")[0] for name in imported} & set(ONLY_IN)
        if not any(path == place or path.startswith(f"{place}/") for place in ONLY_IN[library])
    )


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the circles of a graph, each as the names that reach each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead.extend(graph.get(name, ()))
        reach[start] = seen
    groups = {
        frozenset({name} | {other for other in reach[name] if name in reach.get(other, ())})
        for name in graph
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def late_imports(tree: ast.Module) -> list[str]:
    """Return what a file imports inside functions, other than heavy libraries."""
    names = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    names += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names.append(node.module or "")
    return sorted({name for name in names if name.split(".")[0] not in LATE})


def test_every_file_and_folder_has_a_layer():
    assert {layer_of(module) for module in MODULES} - {""} == set(RANK)


def test_few_files_and_folders_lie_at_the_top():
    folders = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert len(list(PACKAGE.glob("*.py"))) <= 16 and len(folders) <= 13


def test_imports_point_down():
    wrong = {module: upward(module, imports_of(module)) for module in MODULES if layer_of(module)}
    assert len(wrong) > 200 and {module: names for module, names in wrong.items() if names} == {}


def test_no_files_import_each_other_in_a_circle():
    assert (
        circles({module: imports_of(module) & set(MODULES) - {module} for module in MODULES}) == []
    )


def test_heavy_libraries_stay_where_they_belong():
    wrong = {place: misplaced(place, imports_of(module)) for module, place in MODULES.items()}
    assert {place: libraries for place, libraries in wrong.items() if libraries} == {}


def test_only_heavy_libraries_are_imported_inside_a_function():
    """The command line and the page that tries a classifier load torch only where they need it."""
    late = ("cli/", "studio/pages/try_picture.py")
    assert faults(lambda at: [] if at.startswith(late) else late_imports(tree_of(at))) == {}


def test_the_checks_would_see_a_wrong_import():
    assert upward("mien.runs.store", {"mien.study.run"}) and upward("mien.faces", {"mien.stats"})
    assert not upward("mien.study.run", {"mien.runs.store", "mien.study.plan", "numpy"})
    assert misplaced("report/write.py", {"torch.nn"}) and not misplaced("runs/ray.py", {"ray"})
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    late = ast.parse("def f():\n    from mien.faces import Faces\n    import torch")
    assert late_imports(late) == ["mien.faces"]


def first_with_heavy_library(modules: list[str]) -> str:
    """Return the first of these modules whose import loads a heavy library, in a new process."""
    code = """
import importlib, sys
heavy = {'torch', 'datasets', 'mlcroissant', 'c2pa', 'huggingface_hub'}
for module in sys.argv[1:]:
    importlib.import_module(module)
    if heavy & set(sys.modules):
        print(module)
        break
"""
    command = [sys.executable, "-c", code, *modules]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_specs_the_command_line_reports_and_releases_start_without_torch():
    """What a result depends on is read by many programs, and help must not take seconds."""
    specs = [module for module in MODULES if module.endswith(".specs")]
    others = ["study.settings", "cli", "report.write", "publish.release", "ingest.run"]
    light = [*specs, *(f"mien.{name}" for name in others)]
    assert len(specs) > 5 and first_with_heavy_library(light) == ""
    assert first_with_heavy_library(["mien.errors", "huggingface_hub"]) == "huggingface_hub"


def test_the_first_calls_of_each_test_are_checked_for_their_shapes():
    import jaxtyping
    import numpy as np
    import shape_checks
    import torch

    from mien.generators.scaling import scale_to_bytes

    for _ in range(shape_checks.MOST_CALLS - 1):
        scale_to_bytes(torch.zeros(1, 1, 2, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        scale_to_bytes(np.zeros(3))  # pyright: ignore[reportArgumentType]

    # Later calls are not checked, until the next test begins
    with pytest.raises(TypeError, match="isnan"):
        scale_to_bytes(np.zeros(3))  # pyright: ignore[reportArgumentType]
    shape_checks.begin_test()
    with pytest.raises(jaxtyping.TypeCheckError):
        scale_to_bytes(np.zeros(3))  # pyright: ignore[reportArgumentType]


def test_postponed_annotations_would_switch_the_shape_checks_off():
    postponed = "from __future__ import annotations"
    assert [place for place, source in SOURCES.items() if postponed in source] == []


def without_docstring(tree: ast.Module) -> list[str]:
    """Return the public functions and classes of a file that have no docstring."""
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [
        node.name
        for parent in ast.walk(tree)
        if isinstance(parent, ast.Module | ast.ClassDef)
        for node in parent.body
        if isinstance(node, named) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]


def test_every_public_function_and_class_says_what_it_is():
    assert faults(lambda place: without_docstring(tree_of(place))) == {}
    silent = ast.parse("def f(): ...\nclass C:\n    def g(self): 'Text.'\ndef _h(): ...")
    assert without_docstring(silent) == ["f", "C"]


def class_names(tree: ast.Module) -> list[str]:
    """Return the names of the classes that a file defines."""
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def constant_names(tree: ast.Module) -> list[str]:
    """Return the names of constants and types to which a file gives a value, outside functions and
    classes.
    """
    names = []
    for node in tree.body:
        given = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            given = [node.target]
        for target in given:
            found = [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
            names += [name for name in found if name.lstrip("_")[:1].isupper()]
    return names


def shared_names(trees: Mapping[str, ast.Module], list_names: Callable) -> dict[str, list[str]]:
    """Return the names that several files define, with these files."""
    places: dict[str, list[str]] = {}
    for place, tree in trees.items():
        for name in sorted(set(list_names(tree))):
            places.setdefault(name, []).append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_two_classes_share_a_name():
    assert shared_names(trees(), class_names) == {}
    twice = {"a.py": ast.parse("class Faces: ..."), "b.py": ast.parse("class Faces(Base): ...")}
    assert shared_names(twice, class_names) == {"Faces": ["a.py", "b.py"]}


def test_no_two_files_define_a_constant_or_a_type_of_one_name():
    """A fact is written once, and two facts have two names. Only the name under which a family's
    table finds its members is the same in each of their files.
    """
    shared = shared_names(trees(), constant_names)
    assert set(shared) == {"PART", "READER"}
    assert all(place.startswith("ingest/readers/") for place in shared["READER"])
    assert all(place.startswith("audit/") for place in shared["PART"])
    twice = {
        "a.py": ast.parse("FEW, MANY, few = 3, 9, 1"),
        "b.py": ast.parse("FEW: int = 4\nMANY: int\nfew = 2"),
        "c.py": ast.parse("def f():\n    FEW = 5"),
    }
    assert shared_names(twice, constant_names) == {"FEW": ["a.py", "b.py"]}


def test_no_test_imports_a_file_of_tests():
    """What tests share is in worlds.py, drawn.py, spots.py, notes.py and conftest.py.

    The scripts that tests start are text, so text is searched.
    """
    importing = re.compile(r"^\s*(?:from|import)\s+test_\w+", re.MULTILINE)
    files = sorted(Path(__file__).parent.rglob("*.py"))
    assert [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in importing.findall(file.read_text(encoding="utf-8"))
    ] == []


def without_paragraphs(source: str) -> list[str]:
    """Return the functions of a source whose body has over 20 lines and neither a blank line nor a
    comment between them.
    """
    lines = source.splitlines()
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and (node.end_lineno or 0) - body[0].lineno >= 20:
                text = lines[body[0].lineno - 1 : node.end_lineno]
                if not any(not line.strip() or line.strip().startswith("#") for line in text):
                    names.append(node.name)
    return names


def test_long_bodies_are_cut_into_paragraphs():
    assert faults(lambda place: without_paragraphs(SOURCES[place])) == {}
    long = "def f():\n" + "    x = 1\n" * 21
    assert without_paragraphs(long) == ["f"]
    assert without_paragraphs(long + "\n    # Why\n    x = 2\n") == []
