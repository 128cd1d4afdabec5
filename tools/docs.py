"""Write what the documentation takes from the code: docs/cli.md from each command's --help, the
table of datasets in docs/data.md from the readers, and the tree in README.md from the docstrings.
"""

import ast
import io
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- readers: written by `make docs` -->", "<!-- end of readers -->"
TREE_BEGIN, TREE_END = "<!-- tree: written by `make docs` -->", "<!-- end of tree -->"
# The folders of mien/: the stages in the order of the pipeline, then what they share.
FOLDERS = (
    "toy",
    "ingest",
    "prepare",
    "generators",
    "classifiers",
    "audit",
    "study",
    "report",
    "publish",
    "export",
    "runs",
    "pages",
    "cli",
)
COMMANDS = (
    *(
        "",
        "doctor",
        "studio",
        "readers",
        "demo",
        "toy",
        "ingest",
        "preprocess",
        "join",
        "split",
        "train",
        "distill",
        "generate",
        "filter",
        "export",
    ),
    *("audit", "map", "leakage", "review", "review queue", "review apply"),
    *("study", "study list", "study plan", "study run", "study status", "report", "advise"),
    *(
        "publish",
        "publish build",
        "publish check",
        "publish push",
        "regenerate",
        "ls",
        "show",
        "verify",
        "rm",
    ),
)


def page() -> str:
    """Return the text of docs/cli.md."""
    parts = [
        (
            "# The command line\n\nWritten by `make docs` from `mien --help`; a test holds it to "
            "the program."
        )
    ]
    for command in COMMANDS:
        parts.append(f"## mien {command}".rstrip() + f"\n\n```\n{help_of(command.split())}\n```")
    return "\n\n".join(parts) + "\n"


def help_of(command: list[str]) -> str:
    """Return what `mien COMMAND --help` prints at a width of 80 columns."""
    from mien.cli.base import app

    os.environ["COLUMNS"] = "80"
    out = io.StringIO()
    with redirect_stdout(out):
        app([*command, "--help"], prog_name="mien", standalone_mode=False)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def with_readers(text: str) -> str:
    """Return a page with the table of all readers between its two marks."""
    from mien.ingest.readers import READERS

    before, rest = text.split(BEGIN)
    rows = [
        [
            "reader",
            "dataset",
            "needs",
            "subjects from",
            "clips from",
            "licence",
            "how to obtain it",
        ],
        ["---"] * 7,
    ]
    for name, module in READERS.items():
        about = module.READER
        cells = [about.title, about.needs, about.subjects, about.clips, about.licence, about.obtain]
        rows.append([f"`{name}`", *(cell.replace("|", r"\|") for cell in cells)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}"


# What lies next to the code, by its path below mien/.
DATA = {
    "audit/thresholds.toml": "The limits of all checks of an audit, each with its reason",
    "pages/templates/": "The HTML of the pages of audit, leakage, report and review",
    "publish/templates/": "The text of a release's card, datasheet and licence",
    "study/shipped/": "Studies as TOML files, each with its cost and the result to expect",
}


def first_sentence(path: Path) -> str:
    """Return the first sentence of a file's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    # a full stop after "et al" is no end of a sentence
    return re.split(r"(?<! al)\. ", text.partition("\n")[0])[0].removesuffix(".")


def tree_lines(folder: Path, depth: int) -> list[str]:
    """Return a line for each file of a folder of the package, and for each folder below it."""
    lines = [
        f"{'  ' * depth}{path.name + ' ':<{24 - 2 * depth}}{first_sentence(path)}"
        for path in sorted(folder.glob("*.py"))
        if path.name != "__init__.py" and first_sentence(path)
    ]
    for name, about in DATA.items():
        if (ROOT / "mien" / name).parent == folder:
            own = name.removeprefix(f"{folder.name}/")
            lines.append(f"{'  ' * depth}{own:<{24 - 2 * depth}}{about}")
    below = [path.parent for path in folder.glob("*/__init__.py")]
    rank = {name: number for number, name in enumerate(FOLDERS)}
    for inner in sorted(below, key=lambda path: (rank.get(path.name, 0), path.name)):
        about = first_sentence(inner / "__init__.py")
        lines += [f"{'  ' * depth}{inner.name + '/':<{24 - 2 * depth}}{about}"]
        lines += tree_lines(inner, depth + 1)
    return lines


def with_tree(text: str) -> str:
    """Return the README with the tree of the package between its two marks."""
    before, rest = text.split(TREE_BEGIN)
    tree = "\n".join(["mien/", *tree_lines(ROOT / "mien", 1)])
    return f"{before}{TREE_BEGIN}\n\n```\n{tree}\n```\n\n{TREE_END}{rest.split(TREE_END)[1]}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # the package beside this file, not another one that is installed
    (ROOT / "docs" / "cli.md").write_text(page(), encoding="utf-8")
    data = ROOT / "docs" / "data.md"
    data.write_text(with_readers(data.read_text(encoding="utf-8")), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_tree(readme.read_text(encoding="utf-8")), encoding="utf-8")
