"""The wheel, in an environment that holds it and what it declares, and nothing else."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
from worlds import TINY_TRAINING

from mien import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

# What releases and exported generators are loaded with by those who have it
IF_INSTALLED = {"datasets", "diffusers", "mlcroissant", "webdataset"}

PIPELINE = """
import sys
from pathlib import Path
import mien
from mien.cli import main

assert "site-packages" in mien.__file__, mien.__file__
for line in Path("commands").read_text().splitlines():
    print("$", line, flush=True)
    sys.argv = ["mien", *line.split()]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (line, ended.code)
"""

COMMANDS = f"""
toy drawn --subjects 4 --clips 8 --balance even --workers 1
ingest casme2 drawn --as drawn
preprocess drawn --window 1 --as faces
split faces --folds 2 --as fold
train fold-train --preset smoke {" ".join(f"--set {text}" for text in TINY_TRAINING)} --as generator
generate generator --counts balanced:7 --steps 2 --as synthetic
leakage fold-train fold-test
study list
study plan smoke --no-timing
"""


def normal(name: str) -> str:
    """The name of a distribution as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirement: str) -> str:
    """The distribution that a requirement names."""
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return normal(match[0])


def closure(names: set[str]) -> dict[str, Distribution]:
    """The distributions that are installed here of those that `names` need, and these themselves.

    Requirements with markers are followed wherever they are installed, except those of extras.
    """
    found: dict[str, Distribution] = {}
    ahead = sorted(names)
    while ahead:
        name = ahead.pop()
        try:
            one = distribution(name)
        except ModuleNotFoundError:
            continue
        if name not in found:
            found[name] = one
            ahead += [named(text) for text in one.requires or [] if "extra ==" not in text]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files of the project."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(out)], cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel and the distributions that it declares, linked to those of this one.

    Neither the repository nor a package for development can be imported there.
    """
    place = tmp_path_factory.mktemp("empty") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    site = next(place.glob("lib/python*/site-packages"))
    for one in closure({named(text) for text in PROJECT["dependencies"]}).values():
        for top in {file.parts[0] for file in one.files or []} - {"..", "__pycache__"}:
            if not top.endswith(".pth") and not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return place / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> str:
    """Run a Python in `folder` and return what it printed."""
    hidden = ("PYTHONPATH", "MIEN_STORE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_wheel_runs_where_only_what_it_declares_is_installed(python: Path, tmp_path: Path):
    assert run(python, tmp_path, "-m", "mien", "--version") == f"mien {__version__}\n"
    (tmp_path / "commands").write_text(COMMANDS.strip())
    text = run(python, tmp_path, "-c", PIPELINE)
    assert "7 synthetic images" in text
    assert re.search(r"site-packages/mien/study/shipped/smoke.toml", text)
    assert text.splitlines()[-1] == "next: mien study run smoke"
    code = "import importlib.util as u; print(u.find_spec('pytest'), u.find_spec('hatchling'))"
    assert run(python, tmp_path, "-c", code) == "None None\n"


def test_the_wheel_holds_all_files_of_the_package_and_no_others(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mien").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == package
    assert {
        "mien/py.typed",
        "mien/study/shipped/preprint.toml",
        "mien/audit/thresholds.toml",
    } <= names


def test_the_description_of_the_wheel_leads_to_no_file_that_an_index_lacks(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    text = str(metadata.get_payload())
    assert metadata["Author"] == "mien contributors" and "mien demo" in text
    assert not re.findall(r"\]\((?!https?://)|<img|src=", text)


def imported() -> dict[str, str]:
    """Each module outside the standard library that mien imports, and a file that does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "mien").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.split(".")[0], str(path.relative_to(ROOT)))
    return {
        name: where
        for name, where in found.items()
        if name not in sys.stdlib_module_names and name != "mien"
    }


def test_everything_that_is_imported_is_declared():
    known = packages_distributions()
    groups = {
        "dependencies": PROJECT["dependencies"],
        **{name: texts for name, texts in EXTRAS.items() if name != "dev"},
    }
    declared = {named(text) for texts in groups.values() for text in texts}
    for name, where in imported().items():
        given = {normal(text) for text in known.get(name, [name])}
        assert given & declared or name in IF_INSTALLED, f"{where} imports {name}"


def test_what_is_declared_is_imported():
    known = packages_distributions()
    used = {normal(text) for name in imported() for text in known.get(name, [name])}
    assert {named(text) for text in PROJECT["dependencies"]} <= used


def locked(name: str) -> set[str]:
    """The distributions that a lock file pins."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return {normal(found) for found in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def test_the_demo_installs_what_running_needs_and_no_more():
    running, development = locked("requirements.lock"), locked("requirements-dev.lock")
    needed = set(closure({named(text) for text in PROJECT["dependencies"]}))
    assert needed <= running | locked("requirements-cuda.lock")
    assert not running & development and not needed & development
    extras = {named(text) for texts in EXTRAS.values() for text in texts}
    assert extras <= running | development
    assert {"pytest", "ray", "ruff", "datasets"} <= development


def test_the_oldest_python_is_the_one_that_the_checks_are_made_for():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert tools["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert tools["pyright"]["pythonVersion"] == oldest
    assert f"Programming Language :: Python :: {oldest}" in PROJECT["classifiers"]
