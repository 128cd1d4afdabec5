"""The tables of variety: real, held-out, synthetic, and the floor."""

from collections.abc import Callable, Mapping, Sequence

from mien.audit.variety.measures import COLOUR_MEASURES, MEASURES
from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, TableRow, make_row
from mien.stats import Record

COMPARED_SETS = ("real", "held-out", "synthetic", "floor")

SUFFIXES = ("_train", "_heldout", "", "_floor")  # of the columns, in the names of numbers

PEOPLE_ROWS = {
    "people.effective": "effective number of people behind the images",
    "people.largest": "largest share of one person",
    "people.used": "effective share of one half of the training people",
    "people.coverage": "held-out images with a synthetic image nearby",
    "people.coverage.dark": "the same, darkest third",
    "people.coverage.middle": "the same, middle third",
    "people.coverage.bright": "the same, brightest third",
}

GREY_SENTENCE = (
    "Skin tone, age, sex and origin were not measured: grey images carry no colour, and mien does "
    "not guess who a person is. Synthetic faces cannot be more varied than the people of their "
    "source; what the source says of them belongs in `people.shown` of `dataset.toml`, and the "
    "card prints it."
)

COLOUR_SENTENCE = (
    "Age, sex and origin were not measured, because mien does not guess who a person is. Skin tone "
    "and hue are those of pixels, and depend on the light: relit by 10 to 30 %, a real image "
    "moves {errors}; smaller differences mean nothing. Synthetic faces cannot be more varied than "
    "the people of their source; what the source says of them belongs in `people.shown` of "
    "`dataset.toml`, and the card prints it."
)

Format = Callable[[float | None], str]

ByName = Mapping[tuple[str, str], Record]


def draw_tables(records: Sequence[Record], format_number: Format) -> list[ReportTable]:
    """Return the tables of people, of their classes, of pictures and of associations.

    The list is empty if nothing was measured. `format_number` writes a number.
    """
    by_name = {(record.metric, record.part): record for record in records}
    tables = [
        _draw_people(by_name, format_number),
        _draw_classes(by_name, format_number),
        _draw_pictures(by_name),
        _draw_associations(by_name, format_number),
    ]
    return [table for table in tables if table.lines]


def say_what_is_not_measured(records: Sequence[Record], format_number: Format) -> str:
    """Return the sentence on skin tone, age, sex and origin; empty if nothing was measured."""
    by_name = {record.metric: record for record in records if not record.part}
    if "people.effective" not in by_name and "pictures.mean.brightness" not in by_name:
        return ""
    errors = [by_name.get(f"pictures.light_error.{name}") for name in COLOUR_MEASURES]
    if None in errors:
        return GREY_SENTENCE
    titles = ("tone", "hue")
    texts = [
        f"by {format_number(error.value)}° in {title}"
        for title, error in zip(titles, errors, strict=True)
        if error is not None
    ]
    return COLOUR_SENTENCE.format(errors=" and ".join(texts))


def _draw_people(by_name: ByName, format_number: Format) -> ReportTable:
    lines = []
    for metric, title in PEOPLE_ROWS.items():
        family, name, *space = metric.split(".")
        records = [
            by_name.get((".".join([family, f"{name}{suffix}", *space]), "")) for suffix in SUFFIXES
        ]
        if any(records):
            lines.append(make_row(title, *(_write(record, format_number) for record in records)))
    return ReportTable(
        "The people behind the images",
        ("number", *COMPARED_SETS),
        tuple(lines),
        "The floor is one half of the real people against the other half.",
    )


def _draw_classes(by_name: ByName, format_number: Format) -> ReportTable:
    """Return the table of the people behind each class."""
    classes = sorted({part for metric, part in by_name if metric == "people.effective" and part})
    lines = []
    for name in classes:
        cells = [
            _write(by_name.get((metric, name)), format_number)
            for metric in (
                "people.effective_train",
                "people.effective",
                "people.largest_train",
                "people.largest",
                "people.coverage",
            )
        ]
        lines.append(make_row(name, *cells))
    head = ("class", "people, real", "people, synthetic", "largest, real", "largest, synthetic")
    return ReportTable("The people behind each class", (*head, "coverage"), tuple(lines))


def _draw_pictures(by_name: ByName) -> ReportTable:
    # A row for each measure, with the mean, spread and distance of each side
    lines: list[TableRow] = []
    for name, measure in MEASURES.items():
        cells = []
        for suffix in SUFFIXES:
            mean, spread, distance = (
                by_name.get((f"pictures.{metric}{suffix}.{name}", ""))
                for metric in ("mean", "spread", "distance")
            )
            away = "" if distance is None else f"{distance.value:.2f}"
            if mean is None or spread is None:
                cells.append(TableCell(away or EMPTY_CELL, hole=not away))
                continue
            digits = 1 if measure.unit else 3
            text = f"{mean.value:.{digits}f}\u00a0±\u00a0{spread.value:.{digits}f}{measure.unit}"
            cells.append(TableCell(f"{text} ({away})" if away else text))
        if any(not cell.hole for cell in cells):
            term = measure.term if measure.term != name.replace("_", "-") else ""
            lines.append(make_row(TableCell(name.replace("_", " "), term), *cells))

    # The table, with what its numbers mean
    return ReportTable(
        "What the pictures look like: mean ± standard deviation over images (distance)",
        ("measure", *COMPARED_SETS),
        tuple(lines),
        "The distance is that of the distribution from one half of the real people, in standard "
        "deviations of real images; the floor is the distance of the other half. In small print: "
        "the term of ISO/IEC 29794-5.",
    )


def _draw_associations(by_name: ByName, format_number: Format) -> ReportTable:
    lines = []
    for name in ("person", *MEASURES):
        records = [by_name.get((f"pictures.association{suffix}.{name}", "")) for suffix in SUFFIXES]
        if any(records):
            cells = [_write(record, format_number) for record in records]
            lines.append(make_row(name.replace("_", " "), *cells))
    return ReportTable(
        "How much each measure tells of the class, from 0 (nothing) to 1",
        ("measure", *COMPARED_SETS),
        tuple(lines),
        "The floor is what 95 of 100 permutations of the synthetic labels stay below.",
    )


def _write(record: Record | None, format_number: Format) -> TableCell:
    """Return a number with its interval, as a cell of a table."""
    if record is None:
        return TableCell(EMPTY_CELL, hole=True)
    if record.low is None or record.high is None:
        return TableCell(format_number(record.value))
    interval = f"[{format_number(record.low)}, {format_number(record.high)}]"
    return TableCell(format_number(record.value), interval)
