"""The report as Markdown and LaTeX."""

from dataclasses import replace
from typing import Any

from mien.pages import escape, tables
from mien.pages.tables import ReportTable, make_row

# Markdown and LaTeX


def write_markdown(content: dict[str, Any]) -> str:
    """Return the report as Markdown: its sentences and tables in their order, without images."""
    # The top: what must be read before any number, then what was found
    lines = [f"# {_escape(content['title'])}", ""]
    for section in content["studies"]:
        if section["alarms"]:
            alarms = _escape(" ".join(section["alarms"]))
            lines += [f"> **Leak alarm.** {alarms} {section['alarm']}", ""]
    for section in content["studies"]:
        lines += [f"{section['notice']['title']} ({_escape(section['design'])}). "]
        lines += [section["state"], ""]
    lines += ["## What was found", ""] if content["conclusions"] else []
    for conclusion in content["conclusions"]:
        basis = "; ".join(text for text in (conclusion.basis, conclusion.design) if text)
        sentence = _escape(conclusion.sentence)
        lines += [f"- **{conclusion.asked}** {sentence}{f' ({_escape(basis)})' * bool(basis)}"]

    # The tables of all studies, of each study, and those of the preprint
    lines.append("")
    lines += ["## Side by side", ""] if content["side"] or content["apart"] else []
    lines += [_escape(content["apart"]), ""] if content["apart"] else []
    for sheet in content["side"]:
        lines += tables.format_markdown(sheet)
    for section in content["studies"]:
        lines += _render_section(section, alone=len(content["studies"]) == 1)
    if content["preprint"]:
        lines += ["## The preprint's tables", "", _note_published(content), ""]
        for sheet in _list_preprint_tables(content):
            lines += tables.format_markdown(sheet)
    return "\n".join(lines)


def _list_preprint_tables(content: dict[str, Any]) -> list[ReportTable]:
    """Return the preprint's tables and the numbers of its figures."""
    figures = [chart["numbers"] for chart in content["charts"]]
    return [*content["preprint"], *figures, *content["others"], *content["counts"]]


def _list_chart_tables(section: dict[str, Any]) -> list[ReportTable]:
    """Return the numbers of a study's curves and map."""
    charts = [
        *section["arm_curves"],
        *section["curves"],
        *([section["map"]] if section["map"] else []),
    ]
    return [chart["numbers"] for chart in charts]


def _note_published(content: dict[str, Any]) -> str:
    return (
        f"Published: {content['source']}, on {content['dataset']} under random frames. All numbers "
        f"in per cent. {content['left_out']}"
    )


def _render_section(section: dict[str, Any], alone: bool) -> list[str]:
    """Return the lines of one study; headings are one level deeper if it is not alone."""
    lines = [] if alone else [f"## {_escape(section['title'])}", ""]
    head = "##" if alone else "###"

    # What must be read before any number
    lines += [f"> **{section['notice']['title']}.** {section['notice']['text']}", ""]
    if section["synthetic_test"]:
        lines += [section["synthetic_test"], ""]
    if section["restricted"]:
        lines += [f"The faces are under this licence: {_escape(section['licence'])}.", ""]

    lines += [_escape(section["without"]), ""] if section["without"] else []

    # The arms of a study that compares ways of use
    for sheet in section["arms"]:
        lines += tables.format_markdown(sheet, f"{head}#")

    # Tables; the note of a level goes under the heading of its first one
    for level in section["levels"]:
        for index, sheet in enumerate([*level["sheets"], *level["folded"]]):
            table = tables.format_markdown(sheet, f"{head}#")
            lines += [*table[:2], _escape(level["note"]), "", *table[2:]] if index == 0 else table

    # Sentences
    if section["findings"]:
        lines += [
            f"{head} What the numbers say",
            "",
            *(f"- {_escape(text)}" for text in section["findings"]),
            "",
        ]
    if section["differences"]:
        lines += [
            f"{head} What synthetic images change",
            "",
            *(f"- {_escape(text)}" for text in section["differences"]),
            "",
        ]
    if section["low"]:
        lines += [
            f"{head} Not above their controls",
            "",
            *(f"- {_escape(text)}" for text in section["low"]),
            "",
        ]

    # Classes, curves, the map, and the numbers of images
    sheets = [
        *section["datasets"],
        section["inflation"],
        section["recall"],
        *map(_make_confusion_table, section["confusions"]),
        *_list_chart_tables(section),
        section["counts"],
        section["failures"],
    ]
    for sheet in sheets:
        lines += tables.format_markdown(sheet, f"{head}#") if sheet else []

    return [
        *lines,
        f"{head} What was run",
        "",
        *(f"- {_escape(name)}: {_escape(text)}" for name, text in section["facts"]),
        "",
    ]


def _escape(text: str) -> str:
    """Return a text in Markdown, safe with any names and licences in it."""
    return escape.escape_markdown(text)


def _make_confusion_table(confusion: dict[str, Any]) -> ReportTable:
    """Return a confusion matrix as a table."""
    rows = tuple(
        make_row(row["name"], *(str(cell["count"]) for cell in row["cells"]))
        for row in confusion["rows"]
    )
    note = f"Rows are true classes, columns are predicted ones; {confusion['note']}."
    return ReportTable(f"Confusion: {confusion['title']}", ("", *confusion["columns"]), rows, note)


def write_latex(content: dict[str, Any]) -> str:
    """Return all tables as LaTeX; a table's label does not depend on the other tables."""
    lines = ["% Tables of " + content["title"] + ". Needs \\usepackage{booktabs,graphicx}.", ""]
    label = tables.LatexLabels()

    # The tables of all studies together, then of each, with its title in the caption
    for sheet in content["side"]:
        lines += tables.format_latex(sheet, label("all", sheet.caption))
    for section in content["studies"]:
        title = section["title"]
        for level in section["levels"]:
            for sheet in [*level["sheets"], *level["folded"]]:
                titled = replace(sheet, caption=f"{title}. {sheet.caption}", note=level["note"])
                lines += tables.format_latex(titled, label(title, sheet.caption))
        sheets = [
            *section["arms"],
            *section["datasets"],
            section["recall"],
            *map(_make_confusion_table, section["confusions"]),
            *_list_chart_tables(section),
            section["counts"],
        ]
        for sheet in sheets:
            if sheet:
                titled = replace(sheet, caption=f"{title}. {sheet.caption}")
                lines += tables.format_latex(titled, label(title, sheet.caption))

    # The tables beside the preprint
    for sheet in _list_preprint_tables(content):
        lines += tables.format_latex(sheet, label("all", sheet.caption))
    return "\n".join(lines)
