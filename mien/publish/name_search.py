"""Search for names of people: whether a text names a person of the sources.

Names are compared by their letters and digits only, without case, accents or separators: `S 01`,
`s01` and `S-01` are one name, and `Müller` is `muller`. Names that are too short or too common to
be looked for everywhere (`07`, `A`, `Will`) are looked for in texts that people wrote, in fields of
subjects and clips, or with their capitals.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mien.faces import EMOTIONS

MIN_LETTERS_WITHIN_WORDS = 6  # fewest letters of a name that is looked for within longer words

MIN_FILE_NAME_LETTERS = 4  # fewest letters and digits of a file name that is looked for

MAX_NAME_WORDS = 12  # most words of a name

PERSON_WORDS = frozenset(
    {
        "subject", "subj", "sub", "participant", "person", "patient", "proband", "volunteer",
        "actor", "individual", "vp", "id", "s", "p", "clip", "video", "sequence", "recording",
        "session", "case", "sujet", "patientin", "teilnehmer",
    }
)  # fmt: skip
"""Words after which the name of a person or a clip follows."""

NAME_FIELDS = frozenset(
    {"subject", "subjects", "person", "people", "clip", "clips", "key", "keys", "file", "path"}
)

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Names:
    """Names that a release must not contain: from letters and digits to the name as it was written.

    `plain` are looked for everywhere, `short` only in texts that people wrote, `after_person_word`
    only after one of PERSON_WORDS, and `as_written` with their capitals. All of them are looked for
    in fields of subjects and clips.
    """

    plain: dict[str, str] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)
    after_person_word: dict[str, str] = field(default_factory=dict)
    as_written: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, shown_name: str) -> None:
        """Add a name of a subject or clip, which the source writes as `whole`."""
        normal = normalise_name(name)
        letters = normal.isalpha()
        if not normal:
            return

        # The shorter or more common a name is, the narrower the search for it
        if normal.isdigit() or len(normal) == 1:
            self.after_person_word.setdefault(normal.lstrip("0") or "0", shown_name)
        elif letters and name.isascii() and normal in collect_vocabulary():
            self.after_person_word.setdefault(normal, shown_name)
            if name != name.lower() and normal not in EMOTIONS:
                self.as_written.setdefault(name, shown_name)
        elif len(normal) <= (3 if letters and name.isascii() else 2):
            self.short.setdefault(normal, shown_name)
        else:
            self.plain.setdefault(normal, shown_name)

        # A first name and a family name: in either order, and each on its own
        words = [
            word for word in re.findall(r"[^\W\d_]+", name) if word[0].isupper() and len(word) > 3
        ]
        if letters and len(words) > 1:
            self.plain.setdefault(normalise_name("".join(reversed(words))), shown_name)
            for word in words:
                if normalise_name(word) not in collect_vocabulary():
                    self.as_written.setdefault(word, shown_name)

    def find(self, text: str, free: bool = True) -> list[str]:
        """Return the names in a text, as the sources write them; `free`: a person wrote
        it.
        """
        names: dict[str, None] = {}
        for reading in _list_readings(text):
            spoken = _WORD.findall(reading)
            words = [normalise_name(word) for word in spoken]
            for position, word in enumerate(words):
                # Names of one or more words that begin here
                names |= dict.fromkeys(self._find_at(words, position, free))
                if not free:
                    continue

                # A name that is a common word too, if its capital is not that of a sentence
                spoken_word = spoken[position]
                first = not position or spoken[position - 1] == ""
                if (
                    spoken_word in self.as_written
                    and not first
                    and not _is_only_at_sentence_start(reading, spoken_word)
                ):
                    names[self.as_written[spoken_word]] = None

                # A number joined to one of PERSON_WORDS, such as `subject07`
                match = re.fullmatch(r"([a-z]+?)s?0*([0-9]+)", word)
                if match and match[1] in PERSON_WORDS and match[2] in self.after_person_word:
                    names[self.after_person_word[match[2]]] = None

            # Long names within longer words
            if free:
                joined = "".join(words)
                names |= {
                    printed_name: None
                    for name, printed_name in self.plain.items()
                    if len(name) >= MIN_LETTERS_WITHIN_WORDS and name in joined
                }
        return list(names)

    def _find_at(self, words: list[str], position: int, free: bool) -> Iterator[str]:
        """Yield the names that begin at a word."""
        joined = ""
        for word in words[position : position + MAX_NAME_WORDS]:
            joined += word
            if joined in self.plain:
                yield self.plain[joined]
            if free and joined in self.short:
                yield self.short[joined]
        if free and words[position] in PERSON_WORDS and position + 1 < len(words):
            after = words[position + 1]
            after = (after.lstrip("0") or "0") if after.isdigit() else after
            if after in self.after_person_word:
                yield self.after_person_word[after]

    def find_in_field(self, key: str, value: str) -> list[str]:
        """Return the name, if any, that the field `key` of a subject or clip holds."""
        if key.lower() not in NAME_FIELDS:
            return []
        normal = normalise_name(value)
        normal = (normal.lstrip("0") or "0") if normal.isdigit() else normal
        names = {**self.plain, **self.short, **self.after_person_word}
        return [names[normal]] if normal in names else []


def collect_names(rows: Iterable[tuple[str, str, str, str]]) -> Names:
    """Return the names of real images; `rows` are the dataset, subject, clip and key of each."""
    collected = Names()
    distinct = sorted({row for row in rows if any(row)})

    # Subjects, with and without their dataset
    for dataset, subject, _, _ in distinct:
        if subject:
            collected.add(subject.removeprefix(f"{dataset}:"), subject)
            collected.plain.setdefault(normalise_name(subject), subject)

    # Clips and keys, as a whole and by their folders and files
    for dataset, _, clip, key in distinct:
        for path in (clip, key):
            if path:
                collected.plain.setdefault(normalise_name(path), path)
                within = re.sub(r"^[^:/]*[:/]", "", path) if dataset else path
                for name in re.split(r"[:/#\\]", within):
                    _add_path_part(collected, name, path)
    return collected


def _add_path_part(collected: Names, name: str, path: str) -> None:
    """Add a folder or file of a clip or key, unless it is a number, a class or a common word."""
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", name)
    normal = normalise_name(stem)
    has_digit = any(sign.isdigit() for sign in normal)
    has_letter = any(sign.isalpha() for sign in normal)
    like_a_name = bool(re.search(r"[a-z][A-Z]", stem)) or not stem.isascii()
    if (
        normal not in collect_vocabulary()
        and len(normal) >= MIN_FILE_NAME_LETTERS
        and ((has_digit and has_letter) or like_a_name)
    ):
        collected.plain.setdefault(normal, path)


def walk_texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text in JSON with the field that holds it; names of fields too, with no field."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield "", str(name)
            yield from walk_texts(value, str(name))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from walk_texts(value, key)
    elif isinstance(content, str):
        yield key, content
    elif isinstance(content, int) and not isinstance(content, bool) and key.lower() in NAME_FIELDS:
        yield key, str(content)


def find_in_file(path: Path, real_names: Names, free: bool) -> list[str]:
    """Return the names in a text file; JSON is read value by value, with its fields."""
    text = path.read_bytes().decode("utf-8", errors="replace")
    if path.suffix != ".json":
        return real_names.find(text, free)
    matches: list[str] = []
    for key, value in walk_texts(json.loads(text)):
        matches += [
            *real_names.find(value, free),
            *(real_names.find_in_field(key, value) if free else []),
        ]
    return list(dict.fromkeys(matches))


@cache
def normalise_name(text: str) -> str:
    """Return only the letters and digits of a text, in lower case and without accents.

    `Müller, S 01` becomes `mullers01`.
    """
    apart = unicodedata.normalize("NFKD", text).casefold()
    return "".join(sign for sign in unicodedata.normalize("NFKD", apart) if sign.isalnum())


@cache
def collect_vocabulary() -> frozenset[str]:
    """Return the words of mien's own files.

    A subject with such a name is not named by a document that has the word.
    """
    home = Path(__file__).parent.parent
    paths = [path for suffix in ("py", "md", "txt", "html") for path in home.rglob(f"*.{suffix}")]
    words = {
        word
        for path in paths
        for word in re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower())
    }
    return frozenset(words | set(EMOTIONS))


def _list_readings(text: str) -> list[str]:
    """Return a text as it is, and as a web page or an address would be read."""
    plain = unicodedata.normalize("NFC", text)
    return list(dict.fromkeys([plain, html.unescape(plain), unquote(plain)]))


def _is_only_at_sentence_start(text: str, word: str) -> bool:
    """Whether a word appears only at the beginning of sentences, which explains its capital."""
    starts = [match.start() for match in re.finditer(rf"\b{re.escape(word)}\b", text)]
    return all(re.search(r"(^|[.!?:;]\s+|\n\s*)$", text[:start]) for start in starts)
