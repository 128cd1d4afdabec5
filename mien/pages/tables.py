"""Tables for people, as Markdown and LaTeX; pages show the same tables."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from mien.pages import escape

EMPTY_CELL = "\u2013"  # the text of a cell without a number

LOW_MARK = "▽"  # the mark of a number that is not above its controls

# shrinks a wide table
LATEX_RESIZE = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "\u2013": "--",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    LOW_MARK: r"$\nabla$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
}


@dataclass(frozen=True)
class TableCell:
    """A cell of a table: `text`, with `small` print next to it.

    `mark` says why the number is not to be trusted; `hole`: there is no number. `share`, from 0 to
    1, colours the cell in a heat map.
    """

    text: str
    small: str = ""
    mark: str = ""
    published: str = ""
    hole: bool = False
    share: float | None = None

    @property
    def plain(self) -> str:
        """All texts of the cell in one line."""
        printed = f"published {self.published}" if self.published else ""
        return " ".join(
            text for text in (self.text, self.small, LOW_MARK if self.mark else "", printed) if text
        )


@dataclass(frozen=True)
class TableRow:
    """A row of a table; the first entry of a `group` is the title of the rows below it."""

    entries: tuple[TableCell, ...]
    kind: Literal["", "group", "control", "total"] = ""


@dataclass(frozen=True)
class ReportTable:
    """A table with its caption, the names of its columns, and a note on its sources."""

    caption: str
    head: tuple[str, ...]
    lines: tuple[TableRow, ...]
    note: str = ""


def make_row(
    *texts: str | TableCell, kind: Literal["", "group", "control", "total"] = ""
) -> TableRow:
    """Return a row of texts and entries."""
    return TableRow(
        tuple(TableCell(text) if isinstance(text, str) else text for text in texts), kind
    )


def format_markdown(sheet: ReportTable, head: str = "###") -> list[str]:
    """Return a table as lines of Markdown; its caption is a heading with the marks of `head`."""
    width = len(sheet.head)
    rows = [[escape.escape_markdown(text) for text in sheet.head], ["---", *["--:"] * (width - 1)]]
    for row_line in sheet.lines:
        texts = [escape.escape_markdown(entry.plain) for entry in row_line.entries]
        if row_line.kind == "group":
            first = row_line.entries[0]
            texts = [
                (
                    f"**{escape.escape_markdown(first.text)}** "
                    f"{escape.escape_markdown(first.small)}"
                ).strip(),
                *texts[1:],
            ]
        rows.append([*texts, *[""] * (width - len(texts))])
    body = [f"| {' | '.join(row)} |" for row in rows]
    note = [escape.escape_markdown(sheet.note), ""] if sheet.note else []
    return [f"{head} {escape.escape_markdown(sheet.caption)}", "", *note, *body, ""]


class LatexLabels:
    """Labels for the tables of one file, by which \\ref names them, all different."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, *names: str) -> str:
        """Return `tab:` and the names in letters and digits, with a number if that is taken."""
        label = "tab:" + ":".join(_make_slug(name) for name in names)
        unused, number = label, 2
        while unused in self._given:
            unused, number = f"{label}-{number}", number + 1
        self._given.add(unused)
        return unused


def _make_slug(name: str) -> str:
    """Return a name in lower-case letters, digits and hyphens, or its digest if none is left."""
    ascii_bytes = unicodedata.normalize(
        "NFKD", name.replace("→", " to ").replace("+", " and ")
    ).encode("ascii", "ignore")
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_bytes.decode().lower()).strip("-")
    return slug or hashlib.sha256(name.encode()).hexdigest()[:8]


def format_latex(sheet: ReportTable, label: str) -> list[str]:
    """Return a table as lines of LaTeX, for the packages booktabs and graphicx.

    A table that is too wide is shrunk. `label` is the name for \\ref; it must hold no character
    that is special in LaTeX.
    """
    # Caption, label and head
    width = len(sheet.head)
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{escape_latex(sheet.caption)}}}",
        rf"\label{{{label}}}",
        rf"{LATEX_RESIZE}\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        _format_latex_row(list(sheet.head)),
        r"\midrule",
    ]

    # Rows; the title of a group spans the table if nothing else is in its row
    for position, row in enumerate(sheet.lines):
        if row.kind in ("group", "total") and position:
            lines.append(r"\addlinespace" if row.kind == "group" else r"\midrule")
        texts = [entry.plain for entry in row.entries]
        if row.kind == "group" and len(texts) == 1:
            title = rf"\textbf{{{escape_latex(row.entries[0].text)}}}{_format_small_print(row)}"
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{{title}}} \\")
        else:
            lines.append(_format_latex_row([*texts, *[""] * (width - len(texts))]))

    # Foot and note
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\smallskip\footnotesize {escape_latex(sheet.note)}"] if sheet.note else []
    return [*lines, r"\end{table}", ""]


def _format_small_print(group: TableRow) -> str:
    small = group.entries[0].small
    return f" {escape_latex(small)}" if small else ""


def _format_latex_row(texts: list[str]) -> str:
    return " & ".join(escape_latex(text) for text in texts) + r" \\"


def escape_latex(text: str) -> str:
    """Return a text in which LaTeX prints every character as it is."""
    return "".join(LATEX_ESCAPES.get(sign, sign) for sign in text)
