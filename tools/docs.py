"""Write docs/cli.md from each command's --help."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = (
    *("", "readers", "demo", "toy", "ingest", "preprocess", "split", "train", "generate", "export"),
    *("study", "study plan", "study run", "study status", "report", "ls", "show", "verify", "rm"),
)


def page() -> str:
    """Return the text of docs/cli.md."""
    parts = ["# The command line\n\nWritten by `make docs` from `mien --help`; a test holds it to the program."]
    for command in COMMANDS:
        parts.append(f"## mien {command}".rstrip() + f"\n\n```\n{help_of(command.split())}\n```")
    return "\n\n".join(parts) + "\n"


def help_of(command: list[str]) -> str:
    """Return what `mien COMMAND --help` prints at a width of 80 columns."""
    code = "import os, sys; os.environ['COLUMNS'] = '80'; sys.argv[0] = 'mien'; from mien.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


if __name__ == "__main__":
    (ROOT / "docs" / "cli.md").write_text(page(), encoding="utf-8")
