"""Phrases that stop a reader must not come back to the pages, messages, docstrings and comments."""

import io
import re
import tokenize
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "cli.md"),
    *sorted((ROOT / "mien" / "study" / "shipped").glob("*.toml")),
]
TEMPLATES = sorted(
    path for path in (ROOT / "mien").rglob("*") if path.suffix in {".html", ".md", ".toml", ".txt"}
)

# A regular expression (spaces match any white space, case does not matter), and what to write
# instead. Each phrase is wrong wherever it occurs; do not add words that are right in some place.
PHRASES = {
    r"must stand (with|only|alone)": "X needs Y; X works only with Y",
    r"must stay away": "remove X",
    r"and (is|has|are|that is) none\b": "X is not a Y; X has no Y",
    r"\bis no (trained|stored)\b": "X is not a Y",
    r"\bleave (it|them|that) away\b|\bleft away\b": "omit X",
    r"(people|subjects|persons) (that were |who were )?never seen": "held-out people",
    r"people (unseen|not seen)": "held-out people",
    r"counts? an? class": "counts per class",
    r"(images|clips|people|pictures|rate) an? (class|clip|side|card)": "images per class",
    r"(a|one) (job|worker) a (card|core)": "one job per GPU",
    r"\banew\b": "again; differently",
    r"\bdealt out\b|\bdeals? out\b": "permuted; divided",
    r"\b(is|are|was|were|be) told of\b": "is reported; is conditioned on",
    r"\b(is|are) told\b(?! apart)": "is reported; X says so",
    r"\bit is said\b|\bis said (aloud|then|so)\b|\bsaid aloud\b": "X reports it; X warns",
    r"\blearnt? by heart\b": "memorised",
    r"\bgoes? on from\b": "resumes from",
    r"\bin another number\b": "with a different number",
    r"\bwhat (it|this|that) rests on\b": "what X is based on",
    r"\bset beside\b|\bsets? \w+ beside\b": "compare with; next to",
    r"\bstands? (beside|alone)\b": "is next to; is the only",
    r"\bhow datasets must lie\b|\bmust lie\b": "the folder layout",
    r"\bwhose apex nobody knows\b": "without a known apex",
    r"\bout of hand\b": "at once",
    r"\bgive \w+ or leave \w+ away\b": "give X or omit it",
    r"\bis like nothing\b": "has no structure",
    r"\bfor want of\b": "because X is missing",
    r"\bas the (sheet|table|page) has it\b": "as in the sheet",
}

# Texts that the results of earlier versions contain: the reasons of limits, which the digest of an
# audit covers, and two values in tables. They stay as they are.
REASONS_OF_LIMITS = {
    r"(people|subjects|persons) (that were |who were )?never seen",
    r"\bdealt out\b|\bdeals? out\b",
}
STORED_VALUES = {"files counted anew", "images a side"}


def find_phrases(text: str, except_for: Collection[str] = ()) -> list[tuple[str, str]]:
    """Each phrase of `text` that is in the list, with what to write instead."""
    found = []
    for pattern, instead in PHRASES.items():
        if pattern in except_for:
            continue
        spaced = pattern.replace(" ", r"\s+")
        found += [(match.group(), instead) for match in re.finditer(spaced, text, re.IGNORECASE)]
    return found


def words_of_code(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each string literal, docstring and comment of a Python file.

    Comments on consecutive lines, and strings that only white space separates, are one text,
    because a phrase may continue on the next line.
    """
    words: list[str] = []
    start, last = 0, None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            continue
        name = tokenize.tok_name[token.type]
        kind = name if name == "COMMENT" else "STRING" if "STRING" in name else None
        if kind != last and words:
            yield start, " ".join(words)
            words = []
        if kind:
            start = start if words else token.start[0]
            words.append(re.sub(r"^\w{0,2}[\"']+|^#+|[\"']+$", "", token.string))
        last = kind
    if words:
        yield start, " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_no_phrase_of_the_list(page: Path):
    assert find_phrases(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_and_limits_use_no_phrase_of_the_list(path: Path):
    excepted = REASONS_OF_LIMITS if path.name == "thresholds.toml" else ()
    assert find_phrases(path.read_text(encoding="utf-8"), excepted) == []


def test_the_code_uses_no_phrase_of_the_list():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {phrase!r}; write: {instead}"
        for path in sorted((ROOT / "mien").rglob("*.py"))
        for line, text in words_of_code(path.read_text(encoding="utf-8"))
        if text not in STORED_VALUES
        for phrase, instead in find_phrases(text)
    ]
    assert found == [], "\n".join(found)


def test_a_phrase_is_found_across_lines_in_strings_docstrings_and_comments():
    source = '"""Two\ncounts\n  a class."""\n# people never\n# seen\nx = f"a {1} is" " told"\n'
    found = [phrase for _, text in words_of_code(source) for phrase, _ in find_phrases(text)]
    assert [" ".join(phrase.split()) for phrase in found] == [
        "counts a class",
        "people never seen",
        "is told",
    ]
