"""Names of people: whether a text tells who was in the sources, however the name is written.

A name is compared as its letters and digits alone, without case, accents or the signs between them,
so that `S 01`, `s01` and `S-01` are one name, and `Müller` is `muller`. What is too short or too
common to be looked for everywhere (`07`, `A`, `Will`) is looked for in what people wrote, where it
is said of a subject or a clip, or with its capitals.
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

LONG = 6  # letters from which a name is found within a longer word
KEYED = 4  # letters and digits that a file's name must have to be looked for
MOST = 12  # words of a name
WHO = frozenset(
    {
        "subject", "subj", "sub", "participant", "person", "patient", "proband", "volunteer",
        "actor", "individual", "vp", "id", "s", "p", "clip", "video", "sequence", "recording",
        "session", "case", "sujet", "patientin", "teilnehmer",
    }
)  # fmt: skip
"""Words that say of what follows that it names a person or a clip."""
FIELDS = frozenset(
    {"subject", "subjects", "person", "people", "clip", "clips", "key", "keys", "file", "path"}
)
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Names:
    """What must not be told, each by its letters and digits, with the name as it was written.

    `plain` are looked for everywhere, `short` only in what people wrote, `after` only behind a word
    of WHO, and `written` as they were written, with their capitals. All of them are looked for in
    fields of subjects and clips.
    """

    plain: dict[str, str] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, whole: str) -> None:
        """Take a name of a subject or clip in, of which the source says `whole`."""
        said = squeezed(name)
        letters = said.isalpha()
        if not said:
            return
        if said.isdigit() or len(said) == 1:
            self.after.setdefault(said.lstrip("0") or "0", whole)
        elif letters and name.isascii() and said in vocabulary():
            self.after.setdefault(said, whole)
            if name != name.lower() and said not in EMOTIONS:
                self.written.setdefault(name, whole)
        elif len(said) <= (3 if letters and name.isascii() else 2):
            self.short.setdefault(said, whole)
        else:
            self.plain.setdefault(said, whole)
        words = [
            word for word in re.findall(r"[^\W\d_]+", name) if word[0].isupper() and len(word) > 3
        ]
        if letters and len(words) > 1:  # a first name and a family's, in either order, each alone
            self.plain.setdefault(squeezed("".join(reversed(words))), whole)
            for word in words:
                if squeezed(word) not in vocabulary():
                    self.written.setdefault(word, whole)

    def find(self, text: str, free: bool = True) -> list[str]:
        """Return the names that stand in a text, as the sources write them; `free`: people or
        strangers wrote it.
        """
        found: dict[str, None] = {}
        for one in _readings(text):
            spoken = _WORD.findall(one)
            words = [squeezed(word) for word in spoken]
            for place, word in enumerate(words):
                found |= dict.fromkeys(self._at(words, place, free))
                first = not place or spoken[place - 1] == ""
                if (
                    free
                    and spoken[place] in self.written
                    and not first
                    and not _begins(one, spoken[place])
                ):
                    found[self.written[spoken[place]]] = None
                told = re.fullmatch(r"([a-z]+?)s?0*([0-9]+)", word) if free else None
                if told and told[1] in WHO and told[2] in self.after:
                    found[self.after[told[2]]] = None
            if free:
                whole = "".join(words)
                found |= {
                    shown: None
                    for name, shown in self.plain.items()
                    if len(name) >= LONG and name in whole
                }
        return list(found)

    def _at(self, words: list[str], place: int, free: bool) -> Iterator[str]:
        """Yield the names that begin at a word."""
        joined = ""
        for word in words[place : place + MOST]:
            joined += word
            if joined in self.plain:
                yield self.plain[joined]
            if free and joined in self.short:
                yield self.short[joined]
        if free and words[place] in WHO and place + 1 < len(words):
            after = words[place + 1]
            after = (after.lstrip("0") or "0") if after.isdigit() else after
            if after in self.after:
                yield self.after[after]

    def told_by(self, key: str, value: str) -> list[str]:
        """Return the name that a field of a subject or clip holds."""
        if key.lower() not in FIELDS:
            return []
        said = squeezed(value)
        said = (said.lstrip("0") or "0") if said.isdigit() else said
        known = {**self.plain, **self.short, **self.after}
        return [known[said]] if said in known else []


def names(rows: Iterable[tuple[str, str, str, str]]) -> Names:
    """Return the names that real images bear: `rows` are dataset, subject, clip and key of each."""
    found = Names()
    told = {row for row in rows if any(row)}
    for dataset, subject, _, _ in sorted(told):
        if subject:
            own = subject.removeprefix(f"{dataset}:")
            found.add(own, subject)
            found.plain.setdefault(squeezed(subject), subject)
    for dataset, _, clip, key in sorted(told):
        for whole in (clip, key):
            if whole:
                found.plain.setdefault(squeezed(whole), whole)
                for part in re.split(
                    r"[:/#\\]", re.sub(r"^[^:/]*[:/]", "", whole) if dataset else whole
                ):
                    _take_part(found, part, whole)
    return found


def _take_part(found: Names, part: str, whole: str) -> None:
    """Take a folder or file of a clip or key in, if it tells more than a number, a class or a
    common word.
    """
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", part)
    said = squeezed(stem)
    mixed = any(sign.isdigit() for sign in said) and any(sign.isalpha() for sign in said)
    name = bool(re.search(r"[a-z][A-Z]", stem)) or not stem.isascii()
    if (
        said
        and said not in vocabulary()
        and ((mixed and len(said) >= KEYED) or (name and len(said) >= KEYED))
    ):
        found.plain.setdefault(said, whole)


def texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text in JSON with the field that it stands in, names of fields too."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield "", str(name)
            yield from texts(value, str(name))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from texts(value, key)
    elif isinstance(content, str):
        yield key, content
    elif isinstance(content, int) and not isinstance(content, bool) and key.lower() in FIELDS:
        yield key, str(content)


def told_in(path: Path, known: Names, free: bool) -> list[str]:
    """Return the names that a file of text tells; JSON is read as what it says."""
    text = path.read_bytes().decode("utf-8", errors="replace")
    if path.suffix != ".json":
        return known.find(text, free)
    found: list[str] = []
    for key, value in texts(json.loads(text)):
        found += [*known.find(value, free), *(known.told_by(key, value) if free else [])]
    return list(dict.fromkeys(found))


@cache
def squeezed(text: str) -> str:
    """Return the letters and digits of a text alone, small and without accents: `Müller, S 01` as
    `mullers01`.
    """
    apart = unicodedata.normalize("NFKD", text).casefold()
    return "".join(sign for sign in unicodedata.normalize("NFKD", apart) if sign.isalnum())


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that mien itself uses: a subject of such a name is not told by a document
    that has it.
    """
    home = Path(__file__).parent.parent
    paths = [path for suffix in ("py", "md", "txt", "html") for path in home.rglob(f"*.{suffix}")]
    words = {
        word
        for path in paths
        for word in re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower())
    }
    return frozenset(words | set(EMOTIONS))


def _readings(text: str) -> list[str]:
    """Return a text as it stands, and as a page or an address would be read."""
    plain = unicodedata.normalize("NFC", text)
    return list(dict.fromkeys([plain, html.unescape(plain), unquote(plain)]))


def _begins(text: str, word: str) -> bool:
    """Whether a word stands only where a sentence begins, and so has its capital from there."""
    places = [found.start() for found in re.finditer(rf"\b{re.escape(word)}\b", text)]
    return all(re.search(r"(^|[.!?:;]\s+|\n\s*)$", text[:place]) for place in places)
