"""Imports point one way; heavy libraries stay where they belong. The list below is the diagram."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mien"
LAYERS = [
    {"errors", "licences", "operators", "seeds", "stopping"},
    {"outside"},
    {"escape"},
    {"spec", "faces", "patterns", "spellings", "stats", "published", "progress", "tables"},
    {"store", "figures", "charts", "drawing", "facs", "folders", "hashes", "inputs"},
    {"crops", "pictures", "sources"},
    {"preprocess", "splits", "training", "metrics", "fidelity"},
    {"augment", "controls", "engine", "ingest", "joins", "weights", "workload"},
    {"generators", "classifiers", "views"},
    {"trials", "export", "features"},
    {"audit"},
    {"study"},
    {"cost", "results"},
    {"words"},
    {"beside"},
    {"report", "publish"},
    {"demo", "album"},
    {"cli"},
    {"__main__"},
]
ONLY_IN = {
    "torch": {
        "training",
        "augment",
        "generators",
        "classifiers",
        "export",
        "features",
        "weights",
        "workload",
    },
    "ray": {"engine"},
    "timm": {"classifiers"},
    "sklearn": {"controls", "audit"},
    "cv2": {"drawing", "ingest", "inputs", "crops", "pictures", "audit"},  # crops: the detectors
    "jinja2": {"report", "audit", "publish"},
    "huggingface_hub": {"publish", "weights"},
    "c2pa": {"publish"},
    "matplotlib": {"charts"},
    "typer": {"cli"},
}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The first part of the name below mien: mien/ingest/toy.py -> ingest."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """All that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "mien" else node.module
                for alias in node.names
            }
    return found


def wrong(name: str, imported: set[str]) -> list[str]:
    """What module `name` must not import."""
    faults = []
    for target in imported:
        top, *rest = target.split(".")
        if (
            top == "mien"
            and rest
            and rest[0] in RANK
            and rest[0] != name
            and RANK[rest[0]] >= RANK[name]
        ):
            faults.append(f"mien.{name} imports mien.{rest[0]}, which is not below it")
        if top in ONLY_IN and name not in ONLY_IN[top]:
            faults.append(
                f"mien.{name} imports {top}, which belongs in {', '.join(sorted(ONLY_IN[top]))}"
            )
    return faults


def test_every_module_has_a_layer():
    assert {module_of(path) for path in FILES} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    if module_of(path) != "__init__":
        assert wrong(module_of(path), imports(path)) == []


def test_the_check_would_see_a_wrong_import():
    assert (
        wrong("store", {"mien.study"})
        and wrong("report", {"torch.nn"})
        and wrong("faces", {"mien.stats"})
    )
    assert not wrong("study", {"mien.store", "numpy"})


def test_the_command_line_reports_and_releases_start_without_torch():
    code = (
        "import sys, mien.cli, mien.report, mien.publish, mien.ingest, mien.store\n"
        "sys.exit(bool({'torch', 'datasets', 'mlcroissant', 'c2pa', 'huggingface_hub'} & "
        "set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shapes_are_checked_while_the_tests_run():
    import jaxtyping
    import numpy as np

    from mien.training import from_model

    with pytest.raises(jaxtyping.TypeCheckError):
        from_model(np.zeros(3))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_postponed_annotations_would_switch_the_shape_checks_off(path: Path):
    assert "from __future__ import annotations" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
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
