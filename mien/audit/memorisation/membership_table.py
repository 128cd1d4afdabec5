"""The table of membership: who can tell training images, and how well."""

from collections.abc import Callable, Sequence

from mien.audit.memorisation.membership import FALSE_SHARES, MIN_PEOPLE_COMPARED
from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, make_row
from mien.stats import Record

TESTS = {
    "generator": "the generator: error of denoising",
    "density": "the published images: ratio of densities",
}


def draw_membership(
    records: Sequence[Record], format_number: Callable[[float | None], str]
) -> ReportTable:
    """Return the table of membership, without lines if it was not measured."""
    # A line for each way of telling, as far as it was measured
    by_name = {record.metric: record for record in records if not record.part}
    lines = []
    for name, title in TESTS.items():
        if f"membership.auc.{name}" not in by_name:
            continue
        cells = [_write(by_name.get(f"membership.auc.{name}"), format_number)]
        cells.append(_write(by_name.get(f"membership.people.{name}"), format_number))
        for share in FALSE_SHARES:
            record = by_name.get(f"membership.found_{100 * share:.0f}.{name}")
            cells.append(_write(record, format_number))
        lines.append(make_row(title, *cells))

    # The note says what a dash means
    needed = " and ".join(
        f"for {100 * share:.0f} % false, {count} held-out images"
        for share, count in FALSE_SHARES.items()
    )
    return ReportTable(
        "Who can tell training images from held-out ones",
        ("by", "AUC by image", "AUC by person", "found at 1 % false", "found at 5 % false"),
        tuple(lines),
        "0.5 is chance. The line of the generator needs the generator, not only its images. "
        f"A dash: too few people or images. By person, {MIN_PEOPLE_COMPARED} people are needed on "
        f"each side; {needed}.",
    )


def _write(record: Record | None, format_number: Callable[[float | None], str]) -> TableCell:
    if record is None:
        return TableCell(EMPTY_CELL, hole=True)
    if record.low is None or record.high is None:
        return TableCell(format_number(record.value))
    interval = f"[{format_number(record.low)}, {format_number(record.high)}]"
    return TableCell(format_number(record.value), interval)
