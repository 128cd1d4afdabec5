"""Code in the documentation: commands and options exist; TOML and Python can be parsed."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from mien.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
STUDIES = sorted(ROOT.glob("mien/study/shipped/*.toml"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of the languages; "" is a block without one."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[str]:
    """Each call of mien in a block of a page, or in the head of a study file."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".toml":
        lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#   ")]
    else:
        indented = FENCE.sub("", text).splitlines()
        lines = [line for line in indented if line.startswith("    ")]
        lines += [line for block in blocks(page, "", "sh", "bash") for line in block.splitlines()]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line.strip() for line in lines))
    joined = joined.replace("&&", "\n").replace("\n ", "\n")
    return [
        call[1] for line in joined.splitlines() if (call := re.match(r"(?:\$ )?(mien .*)", line))
    ]


def complaint(call: str) -> str:
    """What is wrong with the command and the options of a call; empty if they exist."""
    words = shlex.split(re.sub(r"\s#.*", "", call))[1:]
    words = words[: next((n for n, word in enumerate(words) if word in "|>&"), len(words))]
    command = typer.main.get_command(app)
    while (members := getattr(command, "commands", None)) and words:
        if words[0].startswith("-"):
            break
        if words[0] not in members:
            return f"no command {words[0]}"
        command = members[words.pop(0)]
    known = {"--help"}.union(*(option.opts + option.secondary_opts for option in command.params))
    unknown = {word.split("=")[0] for word in words if re.match("--?[a-z]", word)} - known
    return f"no option {', '.join(sorted(unknown))}" if unknown else ""


@pytest.mark.parametrize("page", [*PAGES, *STUDIES], ids=lambda page: page.name)
def test_every_command_of_a_page_exists_with_its_options(page: Path):
    for call in commands(page):
        if "..." in call or "[" in call:
            continue  # a usage line, not a call
        assert not complaint(call), f"{page.name}: {call}"


def test_a_wrong_option_or_command_would_be_found():
    assert len(commands(ROOT / "README.md")) > 8
    for call in ("mien train x --epoch 3", "mien learn x", "mien study make x.toml"):
        assert complaint(call)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_and_python_blocks_of_a_page_parse(page: Path):
    for text in blocks(page, "toml"):
        tomllib.loads(text)
    if page.name == "extending.md":
        return  # its blocks are entries of tables; tests/test_extending.py runs them
    for text in blocks(page, "python"):
        ast.parse(text)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_server(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)"', home)
    reference = (tmp_path / "reference" / "study.html").read_text(encoding="utf-8")
    assert "run_study" in reference


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f" {page.name}" in navigation, page.name
