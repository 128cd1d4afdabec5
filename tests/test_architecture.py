"""Imports point one way, and heavy libraries stay where they belong.

The list of layers below is the diagram of the package. What is checked is each file, not each
folder: no circle, no import from a lower layer to a higher one, no import inside a function.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mien"
# Files and folders of mien/, from the ground up. Within a layer nothing imports its neighbour.
LAYERS = [
    {"errors", "seeds", "licences", "published", "hashes", "findings"},
    {"outside", "faces", "stats", "metrics", "pictures"},
    {"runs", "spellings"},
    {"pages"},
    {"toy", "prepare"},
    {"ingest", "generators"},
    {"classifiers", "sources"},
    {"audit"},
    {"study"},
    {"report"},
    {"publish"},
    {"export", "demo"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# The files and folders that may import a heavy library, as paths below mien/.
ONLY_IN = {
    "torch": ("runs", "generators", "classifiers", "audit", "export"),
    "ray": ("runs/ray.py",),
    "timm": ("classifiers/networks.py",),
    "sklearn": ("classifiers/baselines.py", "audit"),
    "cv2": ("toy", "ingest", "prepare", "pictures.py", "audit"),
    "jinja2": ("pages/html.py", "publish/card.py"),
    "huggingface_hub": ("publish", "classifiers/weights.py"),
    "c2pa": ("publish",),
    "matplotlib": ("pages/charts.py",),
    "typer": ("cli",),
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
by_path = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def module_of(path: Path) -> str:
    """Return the dotted name of a file: mien/toy/head.py is mien.toy.head."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports(source: str) -> set[str]:
    """Return the names of all that a source imports, wherever it does: modules where they are
    modules of mien, else the name in the statement.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else node.module)
    return names


def layer_of(module: str) -> str:
    """Return the file or folder of mien/ that a module belongs to: mien.toy.head is in toy."""
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


def late_imports(source: str) -> list[str]:
    """Return what a source imports inside functions, other than heavy libraries."""
    names = []
    for function in ast.walk(ast.parse(source)):
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


@by_path
def test_imports_point_down(path: Path):
    module = module_of(path)
    if layer_of(module):
        assert upward(module, imports(path.read_text(encoding="utf-8"))) == []


def test_no_files_import_each_other_in_a_circle():
    graph = {
        module: imports(path.read_text(encoding="utf-8")) & set(MODULES) - {module}
        for module, path in MODULES.items()
    }
    assert circles(graph) == []


@by_path
def test_heavy_libraries_stay_where_they_belong(path: Path):
    place = path.relative_to(PACKAGE).as_posix()
    assert misplaced(place, imports(path.read_text(encoding="utf-8"))) == []


@by_path
def test_only_heavy_libraries_are_imported_inside_a_function(path: Path):
    if "cli" not in path.parts:
        assert late_imports(path.read_text(encoding="utf-8")) == []


def test_the_checks_would_see_a_wrong_import():
    assert upward("mien.runs.store", {"mien.study.run"}) and upward("mien.faces", {"mien.stats"})
    assert not upward("mien.study.run", {"mien.runs.store", "mien.study.plan", "numpy"})
    assert misplaced("report/write.py", {"torch.nn"}) and not misplaced("runs/ray.py", {"ray"})
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert late_imports("def f():\n    from mien.faces import Faces\n    import torch") == [
        "mien.faces"
    ]


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.name == "specs.py"] + [PACKAGE / "study" / "settings.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_what_a_result_depends_on_loads_without_torch(path: Path):
    code = f"import sys, {module_of(path)}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_reports_and_releases_start_without_torch():
    code = (
        "import sys, mien.cli, mien.report.write, mien.publish.release, mien.ingest.run\n"
        "heavy = {'torch', 'datasets', 'mlcroissant', 'c2pa', 'huggingface_hub'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shapes_are_checked_while_the_tests_run():
    import jaxtyping
    import numpy as np

    from mien.generators.scaling import from_model

    with pytest.raises(jaxtyping.TypeCheckError):
        from_model(np.zeros(3))  # pyright: ignore[reportArgumentType]


@by_path
def test_postponed_annotations_would_switch_the_shape_checks_off(path: Path):
    assert "from __future__ import annotations" not in path.read_text(encoding="utf-8")


@by_path
def test_every_public_function_and_class_says_what_it_is(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    silent = [
        node.name
        for parent in ast.walk(tree)
        if isinstance(parent, ast.Module | ast.ClassDef)
        for node in parent.body
        if isinstance(node, named) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_test_imports_a_file_of_tests():
    """What tests share is in worlds.py, drawn.py, notes.py and conftest.py; the scripts that tests
    start are text, so text is searched.
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
    faults = {
        str(path.relative_to(PACKAGE)): names
        for path in FILES
        if (names := without_paragraphs(path.read_text(encoding="utf-8")))
    }
    assert faults == {}
    long = "def f():\n" + "    x = 1\n" * 21
    assert without_paragraphs(long) == ["f"]
    assert without_paragraphs(long + "\n    # Why\n    x = 2\n") == []
