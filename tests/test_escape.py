"""Texts of others: whatever they hold, documents show it, spreadsheets do not run it, and it comes
back unchanged.
"""

import re
from pathlib import Path

import pandas as pd
import pytest

from mien.pages import escape

FORMULAS = (
    *(
        '=IMPORTXML("//e.example")',
        "+cmd|' /C calc'!A0",
        "-2+3+cmd",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "  =1",
        '"=1',
        "'=1",
    ),
    *("''=1", "x;=HYPERLINK(1)", "a\n+1", "\uff1d1+1", "''", "'", ";'=", "=;=;'="),
)
PLAIN = (
    "",
    "fear",
    "sub01/a b.png",
    "it's",
    "-0.5",
    "+3",
    "-1e-5",
    "a=b",
    "x; -5",
    "1-2",
    "'quoted'",
    "mail@example.org",
)


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_a_cell_comes_back_as_it_was(text: str):
    assert escape.unescape_cell(str(escape.escape_cell(text))) == text


@pytest.mark.parametrize("text", FORMULAS[:9])
def test_what_a_spreadsheet_would_run_begins_with_a_quote(text: str):
    assert str(escape.escape_cell(text)).startswith("'")


def test_no_separator_of_another_country_starts_a_formula():
    assert escape.escape_cell("x;=HYPERLINK(1)") == "x;'=HYPERLINK(1)"


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_stay_as_they_are(text: str):
    assert escape.escape_cell(text) == text and escape.escape_cell(-0.5) == -0.5


def test_a_table_is_written_without_formulas_and_otherwise_as_it_was(tmp_path: Path):
    table = pd.DataFrame(
        {"key": ["=1+1", None, "a,b"], "n": [-1, 2, 3], "x": [-0.5, float("nan"), 1e-9]},
        index=[4, 7, 9],
    )
    escape.write_csv(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == 'key,n,x\n\'=1+1,-1,-0.5\n,2,\n"a,b",3,1e-09\n'
    assert table["key"].iloc[0] == "=1+1"  # the table itself is as it was
    table.iloc[1:].to_csv(tmp_path / "plain.csv", index=False, lineterminator="\n")
    escape.write_csv(table.iloc[1:], tmp_path / "ours.csv")
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "<iframe src=//e.example>",
        "</div><svg onload=f()>",
        "<!-- x -->",
        "<?php ?>",
        "[free](https://e.example)",
        "![x](https://e.example/t.png)",
        "[x]: https://e.example",
        "[x][y]",
        "`x` | y",
        "a\n\n# b\n- c",
        "&lt;b&gt;",
        "\\](x)",
        "<https://e.example>",
    ],
)
def test_markdown_shows_a_text_and_does_nothing_with_it(text: str):
    shown = escape.escape_markdown(text)
    assert "\n" not in shown and not re.search(r"<[A-Za-z/!?]", shown)
    assert not re.search(r"(?<!\\)(\\\\)*\][(\[:]", shown) and not re.search(
        r"(?<!\\)(\\\\)*[`|]", shown
    )


@pytest.mark.parametrize(
    "text", ["n < 5 & p > 3", "0.5 [0.1, 0.9]", "it's 50 %", "sub_01 (a, b)", "Müller"]
)
def test_ordinary_sentences_stay_readable(text: str):
    assert escape.escape_markdown(text).replace("&gt;", ">") == text


@pytest.mark.parametrize(
    "text", ["# x", "- x", "+ x", "* x", "12. x", "3) x", "=====", "---", "~~~"]
)
def test_a_paragraph_begins_no_heading_and_no_list(text: str):
    assert re.match(r"\d*\\", escape.wrap_paragraph(text))
    wrapped = escape.wrap_paragraph("word " * 23 + text)
    assert re.match(r"\d*\\", wrapped.splitlines()[-1]) or len(wrapped.splitlines()) == 1


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\u202eb", "a\x07b", "a\rb", "a\u2066b", "a\x9bb"])
def test_a_terminal_is_sent_no_control_characters(text: str):
    assert escape.make_printable(text).isprintable()


def test_the_text_of_a_licence_keeps_its_lines_and_addresses():
    text = 'Copyright <year>\n\nSee <https://example.org/l>, "n > 5".\n<script>x</script>'
    said = escape.escape_licence_text(text)
    assert (
        said
        == 'Copyright &lt;year>\n\nSee <https://example.org/l>, "n > 5".\n&lt;script>x&lt;/script>'
    )
