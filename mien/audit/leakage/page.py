"""The page of a leakage report: one HTML file with its pictures."""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from mien.audit.leakage.measure import (
    DUPLICATE_KINDS,
    WAYS_SEEN,
    LeakageMeasurements,
    describe_nearness,
    list_forbidden_ways,
    name_images,
)
from mien.faces import Faces
from mien.pages.html import encode_picture, render_html
from mien.pages.sheets import draw_grid, make_picture
from mien.runs.progress import quantify
from mien.stats import Record

MAX_PICTURES = 24  # pairs of a kind, and pictures of a person, at most

GRID_COLUMNS = 12  # pictures of a person in a row

LEAKAGE_PICTURE_WIDTH = 96  # pixels per side that a picture is enlarged to, at least

WAY_TITLES = {
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
class PagePicture:
    """A picture for the page, with the text below it."""

    image: str
    caption: str
    more: str = ""


def render_page(
    measurements: LeakageMeasurements, train: Faces, test: Faces, names: tuple[str, str]
) -> str:
    """Return the page as HTML; `names` are the labels of the training and the test side."""
    image = name_images(test)

    # Records, tables and pictures for the template
    content = dict(  # noqa: C408
        found=measurements,
        names=names,
        image=image,
        total=len(test),
        tested=quantify(len(test), image),
        trained=quantify(len(train), "training image"),
        nearness=describe_nearness,
        ways=list(_list_ways(measurements)),
        nearest=_select_overall(
            measurements, ("leakage.nearest", "leakage.nearest_unaffected", "leakage.nearest_gap")
        ),
        parts=[
            record
            for record in measurements.records
            if record.metric == "leakage.affected" and record.part
        ],
        nuisance=list(_list_nuisances(measurements)),
        kinds=[
            (WAY_TITLES[kind], list(_draw_pairs(measurements, kind, train, test)))
            for kind in DUPLICATE_KINDS
            if measurements.rows[kind].any()
        ],
        people=list(_draw_people(measurements, train, test)),
        licences=sorted(list_real_licences(train) | list_real_licences(test)),
        real=bool(
            (train.index["source"] == "real").any() or (test.index["source"] == "real").any()
        ),
    )
    return render_html("leakage.html", content)


def list_real_licences(faces: Faces) -> set[str]:
    """Return the licences of the real images."""
    return set(faces.index["licence"][faces.index["source"] == "real"])


def _list_ways(measurements: LeakageMeasurements) -> Iterator[dict[str, Any]]:
    for way in WAYS_SEEN:
        count = int(measurements.rows[way].sum())
        yield {
            "name": WAY_TITLES[way],
            "count": count,
            "share": count / len(measurements.rows),
            "barred": way in list_forbidden_ways(measurements.by),
        }


def _select_overall(measurements: LeakageMeasurements, names: tuple[str, ...]) -> list[Record]:
    return [
        record
        for name in names
        for record in measurements.records
        if record.metric == name and not record.part
    ]


def _list_nuisances(
    measurements: LeakageMeasurements,
) -> Iterator[tuple[str, Record, Record, list[Record]]]:
    for name in NUISANCES:
        overall = _select_overall(measurements, (f"nuisance.{name}", f"nuisance.{name}_chance"))
        if len(overall) == 2:
            parts = [
                record
                for record in measurements.records
                if record.metric == f"nuisance.{name}" and record.part
            ]
            yield name, overall[0], overall[1], sorted(parts, key=lambda record: -record.value)[:2]


def _draw_pairs(
    measurements: LeakageMeasurements, kind: str, train: Faces, test: Faces
) -> Iterator[PagePicture]:
    """Yield one pair for each test image, of as many people as possible."""
    # One pair per test image; the first of each person come first
    selected = (
        (measurements.pairs["kind"] == "exact")
        if kind == "exact"
        else (measurements.pairs["kind"] == "near")
    )
    selected &= measurements.pairs["mirrored"] == (kind == "mirrored")
    pairs = measurements.pairs[selected].drop_duplicates("test")
    pairs = pairs.assign(turn=pairs.groupby("test_subject").cumcount())

    # Both pictures next to each other, with their labels
    for row in (
        pairs.sort_values(["turn", "correlation", "test"], ascending=[True, False, True])
        .head(MAX_PICTURES)
        .to_dict("records")
    ):
        images = [_enlarge(test, row["test"]), _enlarge(train, row["train"])]
        labels = [_find_emotion(test, row["test"]), _find_emotion(train, row["train"])]
        label_text = labels[0] if labels[0] == labels[1] else f"{labels[0]} / {labels[1]}"
        caption = f"{label_text}, correlation {row['correlation']:.3f}, {row['bits']} bits"
        yield PagePicture(
            encode_picture(_join_pictures(images)),
            _make_breakable(f"{row['test']} = {row['train']}"),
            caption,
        )


def _draw_people(
    measurements: LeakageMeasurements, train: Faces, test: Faces
) -> Iterator[tuple[dict[Hashable, Any], list[PagePicture]]]:
    """Yield each pair of names that look like one person, with the pictures of both."""
    # Strips of channels are wider than pictures, so that fewer are shown
    parts = max(_count_parts(faces) for faces in (train, test))
    most, columns = max(1, MAX_PICTURES // parts), max(1, GRID_COLUMNS // parts)
    for row in measurements.people.to_dict("records"):
        pictures = []
        for name in (row["a"], row["b"]):
            images = [
                image
                for faces in (train, test)
                for image in _list_pictures(faces, name, most, parts)
            ]
            grid = draw_grid(np.stack(images[:most]), columns, 1)
            pictures.append(PagePicture(encode_picture(grid), name))
        yield row, pictures


def _make_breakable(name: str) -> Markup:
    """Return a file's name that can break between its parts, rather than within a word."""
    return Markup(re.sub(r"([/_=.-]+)", r"\1<wbr>", str(escape(name))))


def _list_pictures(faces: Faces, subject: str, most: int, parts: int) -> np.ndarray:
    """Return up to `most` pictures of a subject, from as many clips as possible, in the form of the
    page: each is `parts` times as wide as high.
    """
    rows = faces.index[faces.index["subject"] == subject]
    rows = rows.assign(turn=rows.groupby("clip").cumcount()).sort_values(
        ["turn", "key"], kind="stable"
    )
    return np.array(
        [_resize(image, parts) for image in faces.show_pictures(rows.index[:most].to_numpy())]
    )


def _count_parts(faces: Faces) -> int:
    """Return how many times as wide as high the pictures of faces are, one at least."""
    height, width = faces.show_pictures([0]).shape[2:] if len(faces) else (1, 1)
    return max(1, round(width / height))


def _resize(image: np.ndarray, parts: int) -> np.ndarray:
    height = LEAKAGE_PICTURE_WIDTH // 2
    small = make_picture(image).resize((parts * height, height), Image.Resampling.BILINEAR)
    return np.moveaxis(np.asarray(small), 2, 0)


def _enlarge(faces: Faces, key: str) -> Image.Image:
    image = faces.show_pictures([_find_position(faces, key)])[0]
    return make_picture(image, max(1, LEAKAGE_PICTURE_WIDTH // image.shape[1]))


def _find_emotion(faces: Faces, key: str) -> str:
    return str(faces.index["emotion"].iloc[_find_position(faces, key)])


def _find_position(faces: Faces, key: str) -> int:
    return int(np.flatnonzero(faces.index["key"] == key)[0])


def _join_pictures(images: list[Image.Image]) -> Image.Image:
    sheet = Image.new(
        "RGB",
        (sum(image.width for image in images) + 2, max(image.height for image in images)),
        (255, 255, 255),
    )
    sheet.paste(images[0], (0, 0))
    sheet.paste(images[1], (images[0].width + 2, 0))
    return sheet
