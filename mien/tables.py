"""Tables for people: one form, as Markdown and as LaTeX; pages show the same one."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from mien import escape

HOLE = "\u2013"  # what stands where a number would
LOW = "▽"  # what marks a number that does not stand above its controls
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"  # made to fit if too wide
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "\u2013": "--",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    LOW: r"$\nabla$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
}


@dataclass(frozen=True)
class Entry:
    """A place in a table: `text` and smaller print beside it; `mark` says why the number is not to
    be trusted.
    """

    text: str
    small: str = ""
    mark: str = ""
    published: str = ""
    hole: bool = False

    @property
    def plain(self) -> str:
        """The whole in one line."""
        printed = f"published {self.published}" if self.published else ""
        return " ".join(
            part for part in (self.text, self.small, LOW if self.mark else "", printed) if part
        )


@dataclass(frozen=True)
class Line:
    """A row of a table: of a `group` the first entry stands for all rows until the next one."""

    entries: tuple[Entry, ...]
    kind: Literal["", "group", "control", "total"] = ""


@dataclass(frozen=True)
class Sheet:
    """A table with its caption, the names of its columns, and a note on what it rests on."""

    caption: str
    head: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""


def line(*texts: str | Entry, kind: Literal["", "group", "control", "total"] = "") -> Line:
    """Return a row of texts and entries."""
    return Line(tuple(Entry(text) if isinstance(text, str) else text for text in texts), kind)


def markdown(sheet: Sheet, head: str = "###") -> list[str]:
    """Return a table as lines of Markdown, its caption a heading of the level of `head`."""
    width = len(sheet.head)
    rows = [[escape.markdown(text) for text in sheet.head], ["---", *["--:"] * (width - 1)]]
    for one in sheet.lines:
        texts = [escape.markdown(entry.plain) for entry in one.entries]
        if one.kind == "group":
            first = one.entries[0]
            texts = [
                f"**{escape.markdown(first.text)}** {escape.markdown(first.small)}".strip(),
                *texts[1:],
            ]
        rows.append([*texts, *[""] * (width - len(texts))])
    found = [f"| {' | '.join(row)} |" for row in rows]
    note = [escape.markdown(sheet.note), ""] if sheet.note else []
    return [f"{head} {escape.markdown(sheet.caption)}", "", *note, *found, ""]


class Labels:
    """Labels for the tables of one file: what \\ref names them by, no two alike."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, *names: str) -> str:
        """Return `tab:` and the names in letters and digits; a number behind what was given
        before.
        """
        lead = "tab:" + ":".join(_slug(name) for name in names)
        free, number = lead, 2
        while free in self._given:
            free, number = f"{lead}-{number}", number + 1
        self._given.add(free)
        return free


def _slug(name: str) -> str:
    """Return a name in small letters, digits and hyphens; one without any by the digest of what it
    says.
    """
    plain = unicodedata.normalize("NFKD", name.replace("→", " to ").replace("+", " and ")).encode(
        "ascii", "ignore"
    )
    found = re.sub(r"[^a-z0-9]+", "-", plain.decode().lower()).strip("-")
    return found or hashlib.sha256(name.encode()).hexdigest()[:8]


def latex(sheet: Sheet, label: str) -> list[str]:
    """Return a table as lines of LaTeX, for the packages booktabs and graphicx: what is too wide is
    made to fit.

    `label` is what \\ref names it by; it must hold no sign that LaTeX reads as its own.
    """
    width = len(sheet.head)
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{escaped(sheet.caption)}}}",
        rf"\label{{{label}}}",
    ]
    lines += [
        rf"{FIT}\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        _row(list(sheet.head)),
        r"\midrule",
    ]
    for place, one in enumerate(sheet.lines):
        if one.kind in ("group", "total") and place:
            lines.append(r"\addlinespace" if one.kind == "group" else r"\midrule")
        texts = [entry.plain for entry in one.entries]
        whole = one.kind == "group" and len(texts) == 1
        if whole:
            lines.append(
                rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{escaped(one.entries[0].text)}}}{_beside(one)}}} \\"
            )
        else:
            lines.append(_row([*texts, *[""] * (width - len(texts))]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\smallskip\footnotesize {escaped(sheet.note)}"] if sheet.note else []
    return [*lines, r"\end{table}", ""]


def _beside(group: Line) -> str:
    small = group.entries[0].small
    return f" {escaped(small)}" if small else ""


def _row(texts: list[str]) -> str:
    return " & ".join(escaped(text) for text in texts) + r" \\"


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return "".join(LATEX.get(sign, sign) for sign in text)
