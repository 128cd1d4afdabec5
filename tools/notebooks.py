"""Run the notebooks in examples/ from top to bottom, and write their output into them.

    python tools/notebooks.py [NAME ...]

The cells are run as a notebook runs them, in this process and in an empty folder: what they print,
and the value of a cell's last line as text and, if it has `_repr_html_`, as HTML. Cells must not
use what only IPython has.
"""

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples"


def run_cell(source: str, space: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run a cell in the namespace `space`; return its outputs in the format of notebooks."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, name = io.StringIO(), f"<cell {number}>"
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), space)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), space)

    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": data,
            }
        )
    return outputs


def run_notebook(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a notebook with the outputs of its cells, which are run in `folder`."""
    space: dict[str, Any] = {"__name__": "__main__"}
    cells, number = [], 0
    with contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number += 1
                outputs = run_cell("".join(cell["source"]), space, number)
                cell = {**cell, "execution_count": number, "outputs": outputs}
            cells.append(cell)
    return {**notebook, "cells": cells}


def main() -> None:
    """Run the notebooks that are named, or all, and write them."""
    os.environ.pop("MIEN_STORE", None)
    for path in sorted(FOLDER.glob("*.ipynb")):
        if sys.argv[1:] and path.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = run_notebook(json.loads(path.read_text(encoding="utf-8")), Path(folder))
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
