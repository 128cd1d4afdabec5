"""A run that holds one line of text: for tests of the store, which load no more than the store."""

from pathlib import Path
from typing import ClassVar

from mien.runs.spec import Spec


class Note(Spec):
    """A run that holds one line of text."""

    stage: ClassVar[str] = "letter"
    text: str = "hello"
    parent: str = ""


def write(text: str):
    """What builds the run of a note."""

    def build(out: Path, scratch: Path) -> None:
        (out / "text.txt").write_text(text)

    return build
