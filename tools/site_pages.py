"""Pages that the documentation site takes from elsewhere: the changelog and the Python reference.

MkDocs calls the functions of this file (`hooks` in mkdocs.yml).
"""

import ast
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent

# Linked files of the repository that are no pages, and their names in the site
LINKED = {"../mien/audit/thresholds.toml": "thresholds.toml"}

# Programs that are copied into exported folders: their docstrings are help texts
PROGRAMS = ("sample.py", "scheduled_ddpm.py", "scheduled_edm.py")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Return the configuration with the pages of the Python reference in its navigation."""
    nav: Any = config.nav
    reference = next(entry["Reference"] for entry in nav if "Reference" in entry)
    reference.append({"Python": [{title: path} for title, path in list_reference()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the site with the generated pages."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=changelog))
    for title, path in list_reference():
        files.append(File.generated(config, path, content=write_reference(title)))
    for link, name in LINKED.items():
        source = (ROOT / "docs" / link).resolve()
        files.append(File.generated(config, name, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose links to files of the repository lead to their copies in the site."""
    for link, name in LINKED.items():
        markdown = markdown.replace(f"]({link})", f"]({name})")
    return markdown


def list_reference() -> list[tuple[str, str]]:
    """Return the title and the path of each page of the Python reference."""
    folders = sorted(path.parent.name for path in (ROOT / "mien").glob("*/__init__.py"))
    return [
        ("mien", "reference/mien.md"),
        *((f"mien.{name}", f"reference/{name}.md") for name in folders if name != "cli"),
    ]


def write_reference(package: str) -> str:
    """Return the page of a package: its sentence, then each module with its public names."""
    folder = ROOT.joinpath(*package.split("."))
    found = [*folder.glob("*.py"), *(folder.glob("*/*.py") if package != "mien" else [])]
    modules = [path for path in sorted(found) if not path.name.startswith("_")]
    about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    parts = [f"# {package}\n\n{about}"]
    for path in modules:
        if path.name in PROGRAMS:
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        parts.append(f"## {name}\n\n::: {name}")
    return "\n\n".join(parts) + "\n"
