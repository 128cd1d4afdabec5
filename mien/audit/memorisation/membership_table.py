"""The table of membership: who can tell training images, and how well."""

from collections.abc import Callable, Sequence

from mien.audit.memorisation.membership import FALSE_SHARES, MIN_PEOPLE_COMPARED
from mien.pages.tables import ReportTable, TableCell, make_row
from mien.stats import Record

TESTS = {
    "generator": "the generator: error of denoising",
    "density": "the published images: ratio of densities",
}

CANNOT_RESOLVE = "cannot resolve"


def draw_membership(
    records: Sequence[Record], format_number: Callable[[float | None], str]
) -> ReportTable:
    """Return the table of membership, without lines if it was not measured."""
    by_name = {record.metric: record for record in records if not record.part}
    lines = []
    for name, title in TESTS.items():
        if f"membership.auc.{name}" not in by_name:
            continue
        cells = [_write(by_name.get(f"membership.auc.{name}"), "", format_number)]
        needed = f"{MIN_PEOPLE_COMPARED} people on each side are needed"
        cells.append(_write(by_name.get(f"membership.people.{name}"), needed, format_number))
        for share, count in FALSE_SHARES.items():
            record = by_name.get(f"membership.found_{100 * share:.0f}.{name}")
            cells.append(_write(record, f"{count} held-out images are needed", format_number))
        lines.append(make_row(title, *cells))
    return ReportTable(
        "Who can tell training images from held-out ones",
        ("by", "AUC by image", "AUC by person", "found at 1 % false", "found at 5 % false"),
        tuple(lines),
        "0.5 is chance. Whoever has only the published images cannot use the first line, which is "
        "there if the generator is in the store.",
    )


def _write(
    record: Record | None, needed: str, format_number: Callable[[float | None], str]
) -> TableCell:
    if record is None:
        return TableCell(CANNOT_RESOLVE, needed)
    if record.low is None or record.high is None:
        return TableCell(format_number(record.value))
    interval = f"[{format_number(record.low)}, {format_number(record.high)}]"
    return TableCell(format_number(record.value), interval)
