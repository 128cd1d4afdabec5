"""Fixture writers: each draws a tiny tree in exactly the layout that one reader reads, quirks
included.

A writer is a module of this package with `write(root)`, which fills the empty folder `root` and
returns a Tree: what a right reader makes of it. WRITERS, at the end, names them all by their
readers.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openpyxl
from PIL import Image


class Truth(NamedTuple):
    """What is true of one image, without the dataset's name; subject and clip are empty where
    nobody knows them.
    """

    subject: str
    clip: str
    emotion: str


@dataclass(frozen=True)
class Tree:
    """A written folder, and what a right reader makes of it."""

    root: Path
    # by path relative to the root (and #place): just those that must be read
    images: dict[str, Truth]
    findings: frozenset[str]  # the kinds that must be reported, besides which there may be notes
    options: dict[str, Any] = field(default_factory=dict)  # fields of IngestSpec


def draw(path: Path, size: tuple[int, int] = (24, 20)) -> Path:
    """Draw an image that is unlike any other, for its content is a function of where it lies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256("/".join(path.parts[-5:]).encode()).digest()[:8], "big")
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)).save(path)
    return path


def write_sheet(path: Path, pages: dict[str, Sequence[Sequence[Any]]]) -> Path:
    """Write a workbook of the pages' rows, or a CSV file of the only page's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        (rows,) = pages.values()
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                ["" if cell is None else cell for cell in row] for row in rows
            )
        return path
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in pages.items():
        page = book.create_sheet(title)
        for row in rows:
            page.append(list(row))
    book.save(path)
    return path


from trees import (  # noqa: E402  the writers use what stands above
    affectnet,
    casme,
    casme2,
    casme_cubed,
    casme_squared,
    ckplus,
    ckplus48,
    fer2013,
    ferplus,
    folder,
    fourdme,
    huggingface,
    jaffe,
    kdef,
    mmew,
    mmi,
    oulu_casia,
    rafdb,
    samm,
    smic,
)

WRITERS = {
    "casme": casme.write,
    "casme2": casme2.write,
    "casme_squared": casme_squared.write,
    "casme_cubed": casme_cubed.write,
    "samm": samm.write,
    "smic": smic.write,
    "mmew": mmew.write,
    "fourdme": fourdme.write,
    "ckplus": ckplus.write,
    "ckplus48": ckplus48.write,
    "jaffe": jaffe.write,
    "kdef": kdef.write,
    "oulu_casia": oulu_casia.write,
    "mmi": mmi.write,
    "fer2013": fer2013.write,
    "ferplus": ferplus.write,
    "rafdb": rafdb.write,
    "affectnet": affectnet.write,
    "huggingface": huggingface.write,
    "folder": folder.write,
}
