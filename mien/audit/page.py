"""The page of an audit: one HTML file with the verdict, then the questions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from mien.audit.memorisation.membership_part import BY_GENERATOR, BY_IMAGES
from mien.audit.memorisation.membership_table import draw_membership
from mien.audit.parts import PARTS
from mien.audit.variety.table import draw_tables, say_what_is_not_measured
from mien.audit.verdict import ORDER, QUESTIONS
from mien.faces import Faces
from mien.pages import charts
from mien.pages.charts import Dot
from mien.pages.html import encode_picture, render_html
from mien.pages.planes import MAP_POINTS, FaceMap, draw_map
from mien.pages.sheets import draw_rows
from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, make_row
from mien.stats import Record

Name = TypeVar("Name", bound=str)

ROUNDING_ERROR = 1e-9  # values below this are rounding errors of 0

SUSPECTS_PER_CLASS = 12  # images per class on the sheet of suspects

NOT_MEASURED = (BY_GENERATOR, BY_IMAGES)  # what notes that belong to a table begin with

MAX_WORST_ROWS = 20  # rows of a table of single images

SERIES_LABELS = {"": "synthetic", "_heldout": "held-out people", "_floor": "real against real"}

HELD_OUT_LABELS = {"": "synthetic", "_heldout": "real held-out people"}

RecordsByName: TypeAlias = Mapping[tuple[str, str], Record]


def render(
    contents: Mapping[str, Any],
    records: Sequence[Record],
    rows: pd.DataFrame,
    pictures: Mapping[str, Image.Image],
    face_map: FaceMap | None = None,
) -> str:
    """Return the page as HTML.

    `contents` is the content of audit.json; `pictures` are shown under their names. `face_map` is
    the map of the faces of all sides, if there is one.
    """
    # The content of audit.json, with charts, pictures and tables
    charts_of = _draw_charts(records)
    families = {check["family"] for check in contents["checks"]}
    if face_map is not None:
        charts_of["fidelity"].insert(0, _draw_face_map(face_map, contents["spaces"]))
    of_membership = [note for note in contents["notes"] if note.startswith(NOT_MEASURED)]
    content = {
        **contents,
        "notes": [note for note in contents["notes"] if note not in of_membership],
        "membership_notes": of_membership,
        "title": contents["synthetic"],
        "counted": {
            name: sum(check["verdict"] == name for check in contents["checks"]) for name in ORDER
        },
        "questions": [
            _describe_question(question, contents["checks"], charts_of)
            for question in contents["questions"]
        ],
        "pictures": {
            name: {"data": encode_picture(image, colours=256), "width": image.width}
            for name, image in pictures.items()
        },
        "records": [_describe_record(record) for record in records if not record.part],
        "sources": _list_sources(records),
        "worst": _list_worst(rows),
        "variety": draw_tables(records, format_number),
        "membership": draw_membership(records, format_number),
        "not_measured": say_what_is_not_measured(records, format_number),
        "meanings": {
            name: text
            for part in PARTS.values()
            if not part.needs_recogniser or families & set(part.families)
            for name, text in part.meanings.items()
        },
        "number": format_number,
    }

    return render_html("audit.html", content)


def format_number(value: float | None) -> str:
    """Return a number with three significant digits, as text; a dash for None, nan and infinity."""
    if value is None or not np.isfinite(value):
        return "\u2013"
    if abs(value) < ROUNDING_ERROR:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _describe_question(
    question: Mapping[str, Any],
    checks: Sequence[Mapping[str, Any]],
    charts_of: Mapping[str, Sequence[dict[str, Any]]],
) -> dict[str, Any]:
    families = QUESTIONS[question["title"]]
    return {
        **question,
        "name": families[0],
        "checks": [check for check in checks if check["family"] in families],
        "charts": [chart for family in families for chart in charts_of.get(family, ())],
    }


def _describe_record(record: Record) -> dict[str, Any]:
    return {
        "name": record.metric,
        "value": record.value,
        "low": record.low,
        "high": record.high,
        "n": record.n,
        "unit": record.unit,
    }


# Charts


def _draw_face_map(faces: FaceMap, spaces: Mapping[str, str]) -> dict[str, Any]:
    """Return the map of the faces of all sides, with what its axes are."""
    first, second = (f"{100 * share:.0f} %" for share in faces.shares)
    space = choose_map_space(spaces)
    learnt = (
        ", which the judge learnt from the training faces, so these are farther apart by class"
        if space == "judge"
        else ""
    )
    text = (
        f"Each point is a face, at most {MAP_POINTS} of each set; no face is shown. The axes are "
        f"those on which the real training faces vary most ({first} and {second} of their "
        f"variance) in the space {space}{learnt}. Where synthetic points leave out a part of the "
        "real ones, variety is missing; training and held-out points differ by as much as new "
        "people do. Two axes show a part of the variance only, so the numbers decide, not the map."
    )
    classes = sorted({name for names in faces.classes.values() for name in names})
    return draw_map("map", "Real and synthetic faces in the plane", text, classes, faces)


def choose_map_space(spaces: Iterable[Name]) -> Name:
    """Return the space of the map: the judge, or else the first."""
    return min(spaces, key=lambda name: name != "judge")


def _draw_charts(records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    """Return the charts of each family, by class, each with the table of its numbers."""
    by_name = {(record.metric, record.part): record for record in records}
    of_fidelity = [record for record in records if record.metric.startswith("fidelity")]
    class_names = list(dict.fromkeys(record.part for record in of_fidelity))
    spaces = list(dict.fromkeys(record.metric.split(".")[2] for record in of_fidelity))
    return {
        "fidelity": _draw_fidelity(by_name, class_names, spaces),
        "memorisation": _draw_copies(by_name, class_names, spaces),
        "labels": _draw_labels(by_name, class_names),
        "movement": _draw_movement(by_name),
    }


def _draw_fidelity(
    by_name: RecordsByName, class_names: list[str], spaces: list[str]
) -> list[dict[str, Any]]:
    """Return distances and variety of synthetic images, held-out people and the floor."""
    return [
        _draw_chart(
            f"{title}, {space}",
            "",
            class_names,
            {label: f"{metric}{suffix}.{space}" for suffix, label in SERIES_LABELS.items()},
            by_name,
        )
        for title, metric in (
            ("Fréchet distance", "fidelity.frechet"),
            ("precision", "fidelity.precision"),
            ("coverage", "variety.coverage"),
        )
        for space in [name for name in spaces if name != "pixels"] or spaces
    ]


def _draw_copies(
    by_name: RecordsByName, class_names: list[str], spaces: list[str]
) -> list[dict[str, Any]]:
    """Return the share of copies in each space."""
    copied = [
        name for name in ("pixels", *spaces) if (f"memorisation.copied.{name}", "") in by_name
    ]
    if not copied:
        return []
    series = {name: f"memorisation.copied.{name}" for name in dict.fromkeys(copied)}
    title = "nearer to one clip than held-out people are"
    return [_draw_chart(title, "share", class_names, series, by_name)]


def _draw_labels(by_name: RecordsByName, class_names: list[str]) -> list[dict[str, Any]]:
    """Return the agreement with labels, and what tells the label without the expression."""
    charts: list[dict[str, Any]] = []
    if ("labels.agreement", "") in by_name:
        series = {"synthetic": "labels.agreement", "real held-out people": "labels.ceiling"}
        charts.append(
            _draw_chart("agreement with the label", "share", class_names, series, by_name)
        )
    names = [
        name
        for name in ("brightness", "contrast", "sharpness", "border", "all")
        if (f"nuisance.{name}", "") in by_name
    ]
    if not names:
        return charts

    # The same features of synthetic and real faces, and with permuted labels
    suffixes = {"": "synthetic", "_train": "real", "_chance": "permuted labels"}
    dots = {
        label: [_make_dot(by_name.get((f"nuisance.{name}{suffix}", ""))) for name in names]
        for suffix, label in suffixes.items()
    }
    title = "the label predicted from other features than the face"
    return [*charts, _make_interval_figure(title, "mean recall", "feature", names, dots)]


def _draw_movement(by_name: RecordsByName) -> list[dict[str, Any]]:
    """Return flow against real people, and what a judge of it says of labels and action units."""
    charts: list[dict[str, Any]] = []
    for title, metric, kinds in (
        ("flow by region of the face, energy distance", "movement.flow", SERIES_LABELS),
        ("label predicted from flow, recall", "movement.labels", HELD_OUT_LABELS),
        ("action units predicted from flow, F1", "movement.units", HELD_OUT_LABELS),
    ):
        parts = [part for name, part in by_name if name == metric]
        if parts:
            series = {label: f"{metric}{suffix}" for suffix, label in kinds.items()}
            charts.append(_draw_chart(title, "", parts, series, by_name))
    return charts


def _draw_chart(
    title: str,
    unit: str,
    class_names: Sequence[str],
    series: Mapping[str, str],
    by_name: RecordsByName,
) -> dict[str, Any]:
    dots = {
        label: [_make_dot(by_name.get((metric, class_name))) for class_name in class_names]
        for label, metric in series.items()
    }
    return _make_interval_figure(
        title, unit, "class", [class_name or "all" for class_name in class_names], dots
    )


def _make_interval_figure(
    title: str,
    unit: str,
    row_kind: str,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Dot | None]],
) -> dict[str, Any]:
    """Return a chart of intervals with its numbers as a table, a column for each series.

    `row_kind` says what the rows are.
    """
    lines = [
        make_row(row, *(_format_dot(dots[position]) for dots in series.values()))
        for position, row in enumerate(rows)
    ]
    caption = f"{title}{f' ({unit})' * bool(unit)}: numbers"
    numbers = ReportTable(caption, (row_kind, *series), tuple(lines))
    svg = charts.draw_intervals(title, unit, rows, series, width=charts.PLOT_INCHES[0])
    return charts.make_figure(title, title, svg, numbers)


def _format_dot(dot: Dot | None) -> TableCell | str:
    """Return a number with its interval, as a cell of a table."""
    if dot is None or not np.isfinite(dot.value):
        return EMPTY_CELL
    known = np.isfinite(dot.low) and np.isfinite(dot.high)
    interval = f"[{format_number(dot.low)}, {format_number(dot.high)}]" if known else ""
    return TableCell(format_number(dot.value), interval)


def _make_dot(record: Record | None) -> Dot | None:
    if record is None:
        return None
    return Dot(
        record.value,
        *(float("nan") if bound is None else bound for bound in (record.low, record.high)),
    )


# Tables and pictures


def _list_sources(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a table row for each class: its images, its real sources, and images per real image.

    The sources are the effective numbers of clips and subjects.
    """
    names = ("labels.amplification", "labels.clips", "labels.subjects")
    by_name = {(record.metric, record.part): record for record in records if record.metric in names}
    rows = []
    for (metric, class_name), record in by_name.items():
        if metric == "labels.amplification":
            clips, subjects = (by_name.get((name, class_name)) for name in names[1:])
            sources = {
                "clips": clips.value if clips else None,
                "subjects": subjects.value if subjects else None,
            }
            rows.append(
                {"class": class_name, "images": record.n, "amplification": record.value, **sources}
            )
    return rows


def _list_worst(rows: pd.DataFrame) -> Sequence[Mapping[Any, Any]]:
    """Return the images nearest to one clip of the training set, the nearest first."""
    if "ratio_clip" not in rows:
        return []
    columns = ["key", "emotion", "nearest", "ratio_clip", "alarm"]
    return (
        rows.loc[:, columns]
        .sort_values(["ratio_clip", "key"])
        .head(MAX_WORST_ROWS)
        .to_dict("records")
    )


def draw_suspects(rows: pd.DataFrame, synthetic: Faces) -> Image.Image | None:
    """Return a sheet of the images whose label is likeliest wrong, a row per class.

    Returns None if no label was judged.
    """
    if "rank" not in rows or not (rows["rank"] > 0).any():
        return None
    titles, pictures = [], []
    for emotion, judged in rows[rows["rank"] > 0].groupby("emotion", sort=True):
        worst = judged.sort_values("rank").head(SUSPECTS_PER_CLASS)
        predicted = ", ".join(dict.fromkeys(worst["predicted"]))
        titles.append(f"{emotion}   judged {predicted}")
        pictures.append(synthetic.show_pictures(worst.index.to_numpy()))
    return draw_rows(titles, pictures, SUSPECTS_PER_CLASS)
