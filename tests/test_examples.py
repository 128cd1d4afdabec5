"""The notebooks in examples/ run from top to bottom, and show what is written in them."""

import importlib.util
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import mien

ROOT = Path(__file__).parent.parent

MOST_SECONDS = 40  # of processor time; it is about 12 on its own


def load_tool():
    """Return tools/notebooks.py as a module."""
    spec = importlib.util.spec_from_file_location("notebooks_tool", ROOT / "tools/notebooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(notebook: dict[str, Any]) -> list[list[str]]:
    """Return what kinds of output each cell has, and how many pictures."""
    cells = []
    for cell in notebook["cells"]:
        kinds = []
        for output in cell.get("outputs", []):
            page = "".join(output.get("data", {}).get("text/html", []))
            pictures = len(re.findall(r'src="data:image/png;base64,[\w+/=]{200,}"', page))
            kinds.append(f"{output['output_type']}, {pictures} pictures, {bool(page)}")
        cells.append(kinds)
    return cells


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the datasets that notebooks draw: those of both are the same, and drawn once."""
    return tmp_path_factory.mktemp("drawn")


@pytest.mark.parametrize("name", ["first_look", "own_faces"])
def test_a_notebook_runs_and_shows_what_it_shows_in_the_repository(
    name: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MIEN_STORE", raising=False)
    draw_toy = mien.draw_toy

    def draw_once(folder: str, **how: Any) -> Path:
        first = drawn / str(sorted(how.items()))
        if not first.exists():
            draw_toy(first, **how)
        return shutil.copytree(first, Path(folder))

    monkeypatch.setattr(mien, "draw_toy", draw_once)
    written = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    began = time.process_time()
    done = load_tool().run_notebook(written, tmp_path)
    assert time.process_time() - began < MOST_SECONDS
    assert shown(done) == shown(written)
    assert sum("7 pictures" in kind for kinds in shown(done) for kind in kinds) >= 2

    # Jupyter can read it: a format, and a name and the right fields for each cell
    assert (written["nbformat"], written["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in written["cells"]}) == len(written["cells"])
    for cell in written["cells"]:
        fields = {"cell_type", "id", "metadata", "source"}
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == fields | code


def test_what_a_cell_prints_and_its_last_value_are_its_output():
    run = load_tool().run_cell
    space: dict[str, Any] = {}
    assert run("x = 2\nprint(x)", space, 1) == [
        {"output_type": "stream", "name": "stdout", "text": ["2\n"]}
    ]
    (value,) = run("x + 1", space, 2)
    assert value["data"] == {"text/plain": ["3"]} and value["execution_count"] == 2
    with pytest.raises(ZeroDivisionError):
        run("1 / 0", space, 3)
