"""The page of a leakage report: one HTML file with its pictures, which opens without a network."""

import base64
import io
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from mien.audit.leakage import PICTURES, WAYS, Leakage, forbidden, nearness, noun
from mien.faces import Faces
from mien.figures import grid, picture
from mien.progress import many
from mien.stats import Record

SHOWN = 24  # pairs of a kind, and pictures of a person, at most
WIDE = 96  # pixels per side that a picture is enlarged to, at least
TEMPLATES = Path(__file__).parent.parent / "templates"
TOLD = {
    "subjects": "subject in training",
    "clips": "clip in training",
    "frames": "same frame (key) in training",
    "exact": "equal in every pixel to a training image",
    "near": "nearly a training image",
    "mirrored": "nearly a training image, mirrored",
    "renamed": "subject in training under another name",
}
NUISANCES = ("brightness", "contrast", "sharpness", "border", "all")


@dataclass(frozen=True)
class Shown:
    """A picture for the page, with the text below it."""

    image: str
    caption: str
    more: str = ""


def page(found: Leakage, train: Faces, test: Faces, names: tuple[str, str]) -> str:
    """Return the page as HTML; `names` are the labels of the training and the test side."""
    image = noun(test)

    # Undefined names in the template are errors
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    # Records, tables and pictures for the template
    return environment.get_template("leakage.html").render(
        found=found,
        names=names,
        image=image,
        total=len(test),
        tested=many(len(test), image),
        trained=many(len(train), "training image"),
        nearness=nearness,
        many=many,
        ways=list(_ways(found)),
        nearest=_lines(
            found, ("leakage.nearest", "leakage.nearest_unaffected", "leakage.nearest_gap")
        ),
        parts=[
            record
            for record in found.records
            if record.metric == "leakage.affected" and record.part
        ],
        nuisance=list(_nuisance(found)),
        kinds=[
            (TOLD[kind], list(_pairs(found, kind, train, test)))
            for kind in PICTURES
            if found.rows[kind].any()
        ],
        people=list(_people(found, train, test)),
        licences=sorted(_licences(train) | _licences(test)),
        real=bool(
            (train.index["source"] == "real").any() or (test.index["source"] == "real").any()
        ),
    )


def _licences(faces: Faces) -> set[str]:
    """Return the licences of the real images."""
    return set(faces.index["licence"][faces.index["source"] == "real"])


def _ways(found: Leakage) -> Iterator[dict[str, Any]]:
    for way in WAYS:
        count = int(found.rows[way].sum())
        yield {
            "name": TOLD[way],
            "count": count,
            "share": count / len(found.rows),
            "barred": way in forbidden(found.by),
        }


def _lines(found: Leakage, names: tuple[str, ...]) -> list[Record]:
    return [
        record
        for name in names
        for record in found.records
        if record.metric == name and not record.part
    ]


def _nuisance(found: Leakage) -> Iterator[tuple[str, Record, Record, list[Record]]]:
    for name in NUISANCES:
        overall = _lines(found, (f"nuisance.{name}", f"nuisance.{name}_chance"))
        if len(overall) == 2:
            parts = [
                record
                for record in found.records
                if record.metric == f"nuisance.{name}" and record.part
            ]
            yield name, overall[0], overall[1], sorted(parts, key=lambda record: -record.value)[:2]


def _pairs(found: Leakage, kind: str, train: Faces, test: Faces) -> Iterator[Shown]:
    """Yield one pair for each test image, of as many people as possible."""
    # One pair per test image; the first of each person come first
    selected = (
        (found.pairs["kind"] == "exact") if kind == "exact" else (found.pairs["kind"] == "near")
    )
    selected &= found.pairs["mirrored"] == (kind == "mirrored")
    pairs = found.pairs[selected].drop_duplicates("test")
    pairs = pairs.assign(turn=pairs.groupby("test_subject").cumcount())

    # Both pictures next to each other, with their labels
    for row in (
        pairs.sort_values(["turn", "correlation", "test"], ascending=[True, False, True])
        .head(SHOWN)
        .to_dict("records")
    ):
        images = [_image(test, row["test"]), _image(train, row["train"])]
        labels = [_emotion(test, row["test"]), _emotion(train, row["train"])]
        label_text = labels[0] if labels[0] == labels[1] else f"{labels[0]} / {labels[1]}"
        more = f"{label_text}, correlation {row['correlation']:.3f}, {row['bits']} bits"
        yield Shown(_embedded(_beside(images)), _broken(f"{row['test']} = {row['train']}"), more)


def _people(
    found: Leakage, train: Faces, test: Faces
) -> Iterator[tuple[dict[Hashable, Any], list[Shown]]]:
    """Yield each pair of names that look like one person, with the pictures of both."""
    for row in found.people.to_dict("records"):
        shown = []
        for name in (row["a"], row["b"]):
            images = [image for faces in (train, test) for image in _of(faces, name)]
            shown.append(Shown(_embedded(grid(np.stack(images[:SHOWN]), 12, 1)), name))
        yield row, shown


def _broken(name: str) -> Markup:
    """Return a file's name that can break between its parts, rather than within a word."""
    return Markup(re.sub(r"([/_=.-]+)", r"\1<wbr>", str(escape(name))))


def _of(faces: Faces, subject: str) -> np.ndarray:
    """Return pictures of a subject, from as many clips as possible, in the form of the page."""
    rows = faces.index[faces.index["subject"] == subject]
    rows = rows.assign(turn=rows.groupby("clip").cumcount()).sort_values(
        ["turn", "key"], kind="stable"
    )
    return np.array([_square(faces.images[place]) for place in rows.index[:SHOWN]])


def _square(image: np.ndarray) -> np.ndarray:
    small = picture(np.asarray(image)).resize((WIDE // 2, WIDE // 2), Image.Resampling.BILINEAR)
    return np.moveaxis(np.asarray(small), 2, 0)


def _image(faces: Faces, key: str) -> Image.Image:
    image = np.asarray(faces.images[_place(faces, key)])
    return picture(image, max(1, WIDE // image.shape[1]))


def _emotion(faces: Faces, key: str) -> str:
    return str(faces.index["emotion"].iloc[_place(faces, key)])


def _place(faces: Faces, key: str) -> int:
    return int(np.flatnonzero(faces.index["key"] == key)[0])


def _beside(images: list[Image.Image]) -> Image.Image:
    sheet = Image.new(
        "RGB",
        (sum(image.width for image in images) + 2, max(image.height for image in images)),
        (255, 255, 255),
    )
    sheet.paste(images[0], (0, 0))
    sheet.paste(images[1], (images[0].width + 2, 0))
    return sheet


def _embedded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
