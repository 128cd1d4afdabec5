"""Write docs/cli.md from each command's --help, and the table of datasets in docs/data.md from the
readers.
"""

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- readers: written by `make docs` -->", "<!-- end of readers -->"
COMMANDS = (
    *(
        "",
        "readers",
        "demo",
        "toy",
        "ingest",
        "preprocess",
        "join",
        "split",
        "train",
        "generate",
        "export",
    ),
    *("audit", "leakage", "review", "review queue", "review apply"),
    *("study", "study plan", "study run", "study status", "report"),
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
            "the "
            "program."
        )
    ]
    for command in COMMANDS:
        parts.append(f"## mien {command}".rstrip() + f"\n\n```\n{help_of(command.split())}\n```")
    return "\n\n".join(parts) + "\n"


def help_of(command: list[str]) -> str:
    """Return what `mien COMMAND --help` prints at a width of 80 columns."""
    from mien.cli import app

    os.environ["COLUMNS"] = "80"
    out = io.StringIO()
    with redirect_stdout(out):
        app([*command, "--help"], prog_name="mien", standalone_mode=False)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def with_readers(text: str) -> str:
    """Return a page with the table of all readers between its two marks."""
    from mien.ingest import READERS

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


if __name__ == "__main__":
    (ROOT / "docs" / "cli.md").write_text(page(), encoding="utf-8")
    data = ROOT / "docs" / "data.md"
    data.write_text(with_readers(data.read_text(encoding="utf-8")), encoding="utf-8")
