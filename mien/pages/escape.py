"""Texts of other people, shown safely in documents, sheets and terminals.

A licence, a name or a title may come from a stranger's dataset card, a study file, or the name of a
folder. Code that writes such a text into Markdown, CSV or a terminal passes it through here.
"""

import html
import re
import textwrap
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from mien.outside import show_controls

Value = TypeVar("Value")

PARAGRAPH_COLUMNS = 120  # columns of a paragraph of Markdown

# the beginning of HTML (CommonMark 0.31, section 6.6) or of an entity
_OPENS = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)|>")

# code, tables, formulas, links and their addresses
_ACTS = re.compile(r"[\\`|$]|\](?=[(\[:])|~(?=~)")

_BEGINS = re.compile(r"^(?=[#+*_~-](?:[\s#+*_~-]|$)|=+\s*$)")  # a heading, a list, a rule

_LINK = re.compile(r"&lt;(https?://[^\s<>]+|[^\s<>@]+@[^\s<>]+)&gt;")

_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the first characters of a formula, in full width too

_FORMULA = re.compile(
    rf"^(?=[\s'\"]*[{_SIGNS}])|^(?=[ '\"]*[\t\r\n])|(?<=[;\t\r\n])(?='*[{_SIGNS}])"
)

_MARKED = re.compile(
    rf"^'(?=[\s'\"]*[{_SIGNS}])|^'(?=[ '\"]*[\t\r\n])|(?<=[;\t\r\n])'(?='*[{_SIGNS}])"
)

_NUMERIC_TEXT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def make_printable(text: object) -> str:
    """Return a text in one line, without characters that control a terminal."""
    return show_controls(re.sub(r"[\t\n\r\v\f\x85\u2028\u2029]", " ", str(text)), keep="")


def escape_markup(text: object) -> str:
    """Return a text for HTML and YAML that shows tags and entities as written."""
    return _OPENS.sub(lambda match: html.escape(match[0]), str(text))


def escape_markdown(text: object) -> str:
    """Return a text for a line of Markdown: no HTML, link, picture, code or formula."""
    return _ACTS.sub(r"\\\g<0>", escape_markup(" ".join(make_printable(text).split())))


def wrap_paragraph(text: object) -> str:
    """Return a text as a paragraph of Markdown, whose lines begin no heading or list."""
    lines = textwrap.wrap(
        escape_markdown(text), PARAGRAPH_COLUMNS, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(_escape_block_start(line) for line in lines)


def _escape_block_start(line: str) -> str:
    """Return the first line of a block, escaped so that it does not begin a block of its own."""
    numbered = re.match(r"\d+(?=[.)](\s|$))", line)
    return f"{numbered[0]}\\{line[numbered.end() :]}" if numbered else _BEGINS.sub(r"\\", line)


def escape_licence_text(text: object) -> str:
    """Return the text of a licence, line by line: tags as written, <addresses> kept."""
    lines = (" ".join([make_printable(line)]) for line in str(text).splitlines())
    return "\n".join(_LINK.sub(r"<\1>", escape_markup(line)).replace("&gt;", ">") for line in lines)


def escape_cell(value: Value) -> Value | str:
    """Return the value of a cell in a table for people; a text like a formula gets a leading '.

    Numbers, and texts that are numbers, are not changed; `unescape_cell` reverses it for texts.
    """
    if not isinstance(value, str) or _NUMERIC_TEXT.fullmatch(value):
        return value
    return _FORMULA.sub("'", value)


def unescape_cell(text: str) -> str:
    """Return the text that `escape_cell` was given."""
    return _MARKED.sub("", text)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table for people as CSV, with no cell that a spreadsheet would run as a formula."""
    path.write_text(format_csv(table), encoding="utf-8", newline="")


def format_csv(table: pd.DataFrame) -> str:
    """Return a table for people as CSV, with no cell that a spreadsheet would run as a formula."""
    safe = table.rename(columns=escape_cell)
    text_columns = [
        column
        for column, dtype in enumerate(safe.dtypes)
        if not pd.api.types.is_numeric_dtype(dtype)
    ]
    for column in text_columns:
        cells = [escape_cell(value) for value in safe.iloc[:, column]]
        safe.isetitem(column, np.array(cells, dtype="object"))
    return safe.to_csv(index=False, lineterminator="\n")
