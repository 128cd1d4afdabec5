"""Patterns of users: whatever they hold, they end soon and with one message."""

import time

import pytest

from mien.errors import DataError
from mien.ingest import patterns

NAME = "a" * 60 + "!.png"


@pytest.mark.parametrize(
    "pattern", [r"((a|aa)+)$", r"(a|a|b)*c(d)", r"(\w+\s?)*=", r"((a*)*)*z", r"(^(a|[a-c])+)+;"]
)
def test_a_pattern_that_would_never_end_ends(pattern: str):
    began = time.monotonic()
    try:
        found = patterns.search_all(pattern, [NAME] * 50, "the subject pattern")
        assert found == [None] * 50
    except DataError as error:
        assert "takes too long" in str(error) and "\n" not in str(error)
    assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    "pattern",
    ["(" * 5000 + "a" + ")" * 5000, "(a{1,4294967296})", "(?P<", "(?P<1>a)", "[z-a](b)", "(" * 400],
)
def test_what_is_no_pattern_is_refused_in_one_line(pattern: str):
    with pytest.raises(
        ValueError, match=r"^must (be a regular expression|have 1,000 characters)"
    ) as caught:
        patterns.compile_pattern(pattern)
    assert len(str(caught.value)) < 200


def test_an_ordinary_pattern_finds_what_it_names():
    found = patterns.search_all(
        "(?P<subject>S[0-9]+)_", ["happy/S12_3.png", "sad/none.png"], "the pattern"
    )
    assert [match and match["subject"] for match in found] == ["S12", None]
