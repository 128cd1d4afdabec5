"""torchvision, and what imports it, can be imported beside torch's CPU build."""

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest


def python(
    code: str, first: Path | None = None, autoload: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a piece of code in a Python of its own, with the modules of folder `first` before all
    others.
    """
    paths = [str(path) for path in (first, os.environ.get("PYTHONPATH")) if path]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": str(int(autoload)),
    }
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with the torchvision that is installed, without its compiled libraries."""
    spec = find_spec("torchvision")
    assert spec is not None and spec.origin is not None
    real, fake = Path(spec.origin).parent, tmp_path / "torchvision"
    fake.mkdir()
    for part in real.iterdir():
        if part.name in ("__init__.py", "extension.py"):
            (fake / part.name).write_bytes(
                part.read_bytes()
            )  # what a link points to would name the real folder
        elif part.suffix not in (".so", ".pyd", ".dylib"):
            (fake / part.name).symlink_to(part)
    return tmp_path


@pytest.mark.skipif(
    not any(
        point.value == "mien.classifiers.operators:prepare"
        for point in entry_points(group="torch.backends")
    ),
    reason="mien is not installed with its entry point for torch: run make setup",
)
def test_a_plain_import_of_timm_works_where_mien_is_installed(bare: Path):
    done = python("import timm; print(timm.is_model('vgg16'))", bare)
    assert done.stdout.strip() == "True", done.stderr


def test_torchvision_without_its_library_can_be_imported_after_prepare(bare: Path):
    """An operator that is only declared then says that torchvision has none."""
    code = """
        from mien.classifiers import operators
        operators.prepare()
        operators.prepare()
        import torch, torchvision
        print(torchvision.__path__[0])
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    """
    done = python(code, bare, autoload=False)
    assert done.stdout.split() == [str(bare / "torchvision")]
    assert "Couldn't load custom C++ ops" in done.stderr


def test_an_import_of_torchvision_that_failed_works_after_prepare(bare: Path):
    code = """
        try:
            import torchvision
        except RuntimeError as error:
            print(error)
        from mien.classifiers import operators
        operators.prepare()
        import torchvision.transforms
        print(torchvision.ops.__name__)
    """
    done = python(code, bare, autoload=False)
    assert done.stdout.splitlines() == [
        "operator torchvision::nms does not exist",
        "torchvision.ops",
    ], done.stderr


def test_a_torchvision_whose_library_loads_is_left_as_it_is(tmp_path: Path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("import torch\nfrom . import extension\n")
    (package / "extension.py").write_text("def _has_ops():\n    return True\n")
    code = """
        from mien.classifiers import operators
        operators.prepare()
        import torchvision, torch
        operators.prepare()
        print(hasattr(torch.ops.torchvision, "nms"), operators._LIBRARIES)
    """
    done = python(code, tmp_path)
    assert done.stdout.split() == ["False", "[]"], done.stderr
