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


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the torchvision that is installed, without its compiled libraries."""
    spec = find_spec("torchvision")
    assert spec is not None and spec.origin is not None
    folder = tmp_path_factory.mktemp("bare")
    real, fake = Path(spec.origin).parent, folder / "torchvision"
    fake.mkdir()
    for part in real.iterdir():
        if part.name in ("__init__.py", "extension.py"):
            (fake / part.name).write_bytes(
                part.read_bytes()
            )  # what a link points to would name the real folder
        elif part.suffix not in (".so", ".pyd", ".dylib"):
            (fake / part.name).symlink_to(part)
    return folder


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


# What is done with a torchvision without its library, by a name
USES = {
    "after prepare": """
        from mien.classifiers import operators
        operators.prepare()
        operators.prepare()
        import torchvision
        print(torchvision.__path__[0])
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    """,
    "after it failed": """
        try:
            import torchvision
        except RuntimeError as error:
            print(error)
        from mien.classifiers import operators
        operators.prepare()
        import torchvision.transforms
        print(torchvision.ops.__name__)
    """,
}

# A process loads torch once, then does each use in a process of its own, which says in FILE.out and
# FILE.err what it printed.
RUN_EACH = """
import gc, os, sys
import torch, torch._dynamo

gc.collect()
gc.freeze()

for file in sys.argv[1:]:
    if not os.fork():
        for stream, end in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(file + end, os.O_WRONLY | os.O_CREAT), stream)
        exec(compile(open(file).read(), file, "exec"))
        sys.exit()
    os.wait()
"""


@pytest.fixture(scope="module")
def said(bare: Path) -> dict[str, tuple[str, str]]:
    """What each use wrote to its output and to its errors."""
    files = {name: bare / f"{number}.py" for number, name in enumerate(USES)}
    for name, file in files.items():
        file.write_text(textwrap.dedent(USES[name]), encoding="utf-8")
    done = python(
        f"import sys; sys.argv[1:] = {[*map(str, files.values())]}{RUN_EACH}", bare, False
    )
    return {
        name: (Path(f"{file}.out").read_text(), Path(f"{file}.err").read_text() + done.stderr)
        for name, file in files.items()
    }


def test_torchvision_without_its_library_can_be_imported_after_prepare(
    bare: Path, said: dict[str, tuple[str, str]]
):
    """An operator that is only declared then says that torchvision has none."""
    out, err = said["after prepare"]
    assert out.split() == [str(bare / "torchvision")]
    assert "Couldn't load custom C++ ops" in err


def test_an_import_of_torchvision_that_failed_works_after_prepare(said: dict[str, tuple[str, str]]):
    out, err = said["after it failed"]
    assert out.splitlines() == ["operator torchvision::nms does not exist", "torchvision.ops"], err


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
