"""The documentation is held to the program."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from mien import __version__

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def load_tool():
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_line_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "")  # and put back
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == load_tool().page(), "run `make docs`"


def test_the_table_of_datasets_is_up_to_date():
    written = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert written == load_tool().with_readers(written), "run `make docs`"


def test_every_command_is_in_the_reference():
    from mien.cli.base import app
    from mien.cli.leaks import review_app
    from mien.cli.studies import study_app

    named = {
        command.name or str(getattr(command.callback, "__name__", ""))
        for command in app.registered_commands
    }
    for name, below in (("review", review_app), ("study", study_app)):
        named |= {f"{name} {command.name}" for command in below.registered_commands}
    assert named <= set(load_tool().COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_tree_in_the_readme_has_a_line_for_every_file_as_its_docstring_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == load_tool().with_tree(text)
    assert all((ROOT / "mien" / name).exists() for name in load_tool().DATA)
    lines = [line.split() for line in text.splitlines()]
    for path in (ROOT / "mien").rglob("*.py"):
        if path.name != "__init__.py" and path.read_text(encoding="utf-8").strip():
            assert any(line and line[0] == path.name and len(line) > 2 for line in lines), path
    tree = text.split("<!-- tree:")[1].split("<!-- end of tree")[0]
    assert max(map(len, tree.splitlines())) <= 100


@pytest.mark.parametrize(
    "path", sorted((ROOT / "mien").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_first_line_of_a_file_says_in_one_short_sentence_what_is_in_it(path: Path):
    sentence = load_tool().first_sentence(path)
    assert len(sentence.split()) >= 3 and len(sentence) <= 75


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text


def test_the_walk_shows_the_smoke_study_as_it_is():
    blocks = re.findall(
        r"```toml\n(.*?)```", (ROOT / "docs" / "walk.md").read_text(encoding="utf-8"), re.DOTALL
    )
    study = (ROOT / "mien" / "study" / "shipped" / "smoke.toml").read_text(encoding="utf-8")
    assert tomllib.loads(blocks[0]) == tomllib.loads(study)


@pytest.mark.parametrize("name", ["smoke", "controls", "honest"])
def test_studies_read_the_alias_that_the_commands_of_the_walk_make(name: str):
    text = (ROOT / "mien" / "study" / "shipped" / f"{name}.toml").read_text(encoding="utf-8")
    alias = tomllib.loads(text)["faces"]
    for page in (text, (ROOT / "docs" / "walk.md").read_text(encoding="utf-8")):
        assert re.search(rf"mien preprocess \w+ --frames apex .*--as {alias}\b", page)


def test_the_glossary_is_alphabetical_and_names_each_term_once():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [
        term.casefold().replace("é", "e") for term in re.findall(r"^\*\*(.+?)\.\*\*", text, re.M)
    ]
    assert len(terms) > 40 and terms == sorted(set(terms))


def test_the_words_of_the_code_are_few_alphabetical_and_said_once():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([a-z][a-z -]*) \|", text.partition("| --- |")[2], re.M)
    assert 40 < len(words) <= 60 and words == sorted(set(words))


def test_a_release_can_be_cut_from_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    titles = [part.partition("\n")[0] for part in versions]
    released = r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}"
    assert titles[0] == "[Unreleased]"
    assert all(re.fullmatch(released, title) for title in titles[1:]), titles

    # Each entry is under one of the kinds, and each kind has entries
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for part in versions:
        head, *lists = re.split(r"^### ", part, flags=re.MULTILINE)
        names = [entry.partition("\n")[0] for entry in lists]
        assert "\n- " not in head and set(names) <= kinds and len(set(names)) == len(names)
        assert all("\n- " in entry for entry in lists)

    # The version of the code is that of the last release, or of the one to come
    assert len(titles) == 1 or __version__ in text


def test_the_citation_names_this_version_and_is_valid():
    known = {
        *("cff-version", "message", "type", "title", "abstract", "authors", "version", "license"),
        *("keywords", "doi", "date-released", "url", "repository-code", "references"),
    }
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= known
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == __version__ and citation["license"] == project["license"]
    assert citation["authors"] == project["authors"] and citation["keywords"] == project["keywords"]
    assert all(isinstance(citation[name], str) for name in ("message", "title", "abstract"))


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "requirements-dev.lock",
        "requirements-cpu.lock",
        "requirements-cuda.lock",
    ],
)
def test_lock_files_hold_no_addresses(name: str):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text and "--hash=sha256:" in text
