"""The report in a terminal of 80 columns."""

import sys

from rich.table import Table

from mien.pages.tables import EMPTY_CELL, LOW_MARK
from mien.report.arms import compares_uses
from mien.report.chosen_epochs import describe_inflation
from mien.report.comparison import METRICS, list_dataset_scores
from mien.report.conclusions import draw_conclusions
from mien.report.sentences import NOTICES, copy_alarms
from mien.report.units import explain_unit_table, make_unit_table
from mien.report.words import format_classifier, format_score, list_missed_controls
from mien.report.write import format_plain_value
from mien.runs.progress import make_console, quantify
from mien.runs.store import Store
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS, find_setting, is_of_all_people

TABLE_WIDTH_CHARACTERS = 140  # columns of a table if the output is not a terminal


def make_terminal_table(study: str, store: Store) -> Table:
    """Return the settings table of a study for the terminal; controls are under the cells."""
    loaded = StudyResults(study, store)
    several = len(loaded.ablations) > 1
    cells = [cell for cell in loaded.cells if cell.level == "images"]
    has_published = any(cell.published for cell in cells)

    # The columns; published numbers have one only where there are any
    title = f"{loaded.title}: {NOTICES[loaded.protocol][0].lower()}"
    table = Table(
        title=format_plain_value(title), title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("train → test", no_wrap=not compares_uses(loaded))
    table.add_column("by", no_wrap=True)
    for name in ("accuracy", "UF1", "UAR", *["published"] * has_published):
        table.add_column(name, justify="right", no_wrap=True)

    # For each setting its cells, then its controls
    for setting in filter(is_of_all_people, loaded.settings):
        for index, cell in enumerate(cell for cell in cells if cell.setting == setting):
            name = format_classifier(loaded, cell.classifier) + (
                f" {cell.ablation}" if several else ""
            )
            average = [f"{cell.published:.2f}" if cell.published else ""] * has_published
            mark = f" {LOW_MARK}" if list_missed_controls(loaded, cell, "accuracy") else ""
            table.add_row(
                find_setting(setting).label if index == 0 else "",
                format_plain_value(name + mark),
                *_format_brief(cell),
                *average,
            )
        for name, cell in loaded.name_controls(setting, "images"):
            table.add_row("", format_plain_value(f"  {name}"), *_format_brief(cell), style="dim")

    # The caption: how many trials the means rest on, and what the mark means
    failed = f", {len(loaded.failed)} failed" if loaded.failed else ""
    table.caption = (
        f"by image, means over {quantify(loaded.spec['trials'], 'trial')}; {len(loaded.done)} of "
        f"{quantify(len(loaded.runs), 'trial')} done{failed}\n{LOW_MARK} not above its "
        f"controls{_explain_controls(loaded)}"
    )
    if loaded.spec.get("people"):
        table.caption += "\nshares of the people are in `mien report`, in its folded tables"
    table.caption_justify = "left"
    return table


def _explain_controls(study: StudyResults) -> str:
    """Return lines that explain the controls of the table that never look at a face."""
    names = {
        name for setting in study.settings for name, _ in study.name_controls(setting, "images")
    }
    texts = {
        "constant answer": "always the commonest class of the test images",
        **{control.label: control.shows for control in CONTROLS.values()},
    }
    lines = [f"\n{name}: {text}" for name, text in texts.items() if text and name in names]
    return "".join(lines)


def print_table(study: str, store: Store) -> None:
    """Print the settings table of a study, its leak alarms, and its conclusions."""
    out = make_console(width=None if sys.stdout.isatty() else TABLE_WIDTH_CHARACTERS)
    loaded = StudyResults(study, store)
    if loaded.units:
        out.print(make_terminal_unit_table(loaded))
        for conclusion in draw_conclusions([loaded]):
            out.print(
                format_plain_value(f"{conclusion.asked} {conclusion.sentence}"), soft_wrap=True
            )
        return
    out.print(make_terminal_table(study, store))
    if by_dataset := make_terminal_dataset_table(loaded):
        out.print(by_dataset)
    for text in [
        *(f"Leak alarm: {text}" for text in copy_alarms(loaded)),
        *describe_inflation(loaded),
        *(f"{conclusion.asked} {conclusion.sentence}" for conclusion in draw_conclusions([loaded])),
    ]:
        out.print(format_plain_value(text), soft_wrap=True)


def make_terminal_dataset_table(study: StudyResults) -> Table | None:
    """Return the scores on each dataset for the terminal, or None if there is only one dataset."""
    scores = list_dataset_scores(study)
    if not scores:
        return None
    level = study.levels[-1]
    table = Table(
        title=f"each dataset, by {level[:-1]}", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    for name in ("train → test", "by", "dataset", f"n {level}", "people"):
        table.add_column(name, justify="right" if name in ("people", f"n {level}") else "left")
    for name in METRICS:
        table.add_column({"uf1": "UF1", "uar": "UAR"}.get(name, name), justify="right")

    # A row per cell and dataset; names are repeated only where they change
    last = ("", "")
    for on_dataset in scores:
        setting = find_setting(on_dataset.cell.setting).label
        texts = [
            setting if setting != last[0] else "",
            format_plain_value(on_dataset.by) if (setting, on_dataset.by) != last else "",
            format_plain_value(on_dataset.dataset),
            f"{on_dataset.part.n:,}",
            f"{on_dataset.part.subjects:,}" if on_dataset.part.subjects else EMPTY_CELL,
        ]
        style = "dim" if on_dataset.part.control == "constant" else ""
        table.add_row(*texts, *_format_brief(on_dataset.part), style=style)
        last = (setting, on_dataset.by)
    return table


def make_terminal_unit_table(study: StudyResults) -> Table:
    """Return the F1 of each action unit for the terminal."""
    sheet = make_unit_table(study)
    title = f"{study.title}: {sheet.caption}, {NOTICES[study.protocol][0].lower()}"
    table = Table(
        title=format_plain_value(title), title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    for number, name in enumerate(sheet.head):
        table.add_column(name, justify="left" if number in (0, len(sheet.head) - 1) else "right")
    for row in sheet.lines:
        texts = [format_plain_value(entry.plain) for entry in row.entries]
        table.add_row(*texts, style="bold" if row.kind == "group" else "")
    table.caption, table.caption_justify = explain_unit_table(study), "left"
    return table


def _format_brief(cell: ResultCell) -> list[str]:
    """Return accuracy, UF1 and UAR for the terminal."""
    summary = cell.summarise("accuracy")
    if summary is None:
        return [f"{EMPTY_CELL} ({len(cell.done)}/{len(cell.trials)})", EMPTY_CELL, EMPTY_CELL]
    sd = f" ± {format_score(summary.sd, 'accuracy')}" if summary.n > 1 else ""
    numbers = [format_score(cell.average_trials(metric), metric) for metric in METRICS]
    return [numbers[0] + sd, *numbers[1:]]
