"""Spellings of one person's name: 1, 01, S1 and sub01 are one.

A name in quotation marks is compared as written: the user has said that it is a different person
from those with similar names.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mien.errors import DataError
from mien.findings import list_some
from mien.outside import show_controls

_NUMBERED = re.compile(r"([^\W\d_]*)[\s_.:#-]*0*([0-9]+)(?:[.,]0+)?")

_BARE = re.compile(r"0*([0-9]+)(?:[.,]0+)?")

_SUBJECT = frozenset({"s", "sub", "subj", "subject"})  # words that add nothing to a number

_PERSON = _SUBJECT | {
    "actor",
    "id",
    "nr",
    "no",
    "p",
    "part",
    "participant",
    "patient",
    "person",
    "user",
    "vp",
}

# Cyrillic letters that look like Latin ones.
_CYRILLIC = "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455"

_LATIN_OF_CYRILLIC = str.maketrans(_CYRILLIC, "aeopcyxijs")


@dataclass(frozen=True)
class SubjectNames:
    """The names of the people in a set.

    `names` has the name of the person for each written name. `folded` has the
    names that are treated as one person's, the chosen one first; `alike` those that look alike and
    are kept apart.
    """

    names: dict[str, str]
    folded: list[tuple[str, ...]] = field(default_factory=list)
    alike: list[tuple[str, ...]] = field(default_factory=list)


def remove_invisible(text: str) -> str:
    """Return a text without invisible differences.

    Characters of no width and outer spaces are removed, and letters in two parts are composed.
    """
    composed = unicodedata.normalize("NFC", text)
    return "".join(char for char in composed if unicodedata.category(char) != "Cf").strip()


def normalise(text: str) -> str:
    """Return a text as it is compared: clean, in lower case, with all digits as 0 to 9."""
    normal = remove_invisible(unicodedata.normalize("NFKC", text)).casefold()
    return "".join(str(unicodedata.digit(char)) if char.isdecimal() else char for char in normal)


def identify_person(name: str) -> str:
    """Return the identity of a name, equal for all spellings that are certainly one person's.

    A dataset's name and a colon before it are kept.
    """
    dataset, colon, local = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
    if _is_quoted(local):
        return name
    text = normalise(local)
    bare, numbered = _BARE.fullmatch(text), _NUMBERED.fullmatch(text)
    if bare or (numbered and numbered[1] in _SUBJECT):
        text = f"#{int((bare or numbered or [0, 0])[1 if bare else 2])}"
    elif numbered and numbered[1]:
        text = f"{numbered[1]}#{int(numbered[2])}"
    return f"{dataset}{colon}{text}"


def identify_people(
    names: Mapping[str, int], main_names: Mapping[str, str] | None = None, as_written: bool = False
) -> SubjectNames:
    """Return the people behind `names`, which has the number of images of each name.

    `main_names` maps a name to another one of the same person. With `as_written`, all other
    spellings are different people, and those that would be treated as one are put in quotation
    marks. Raises DataError if a name in `main_names` is not among `names`.
    """
    main_names = main_names or {}
    unknown = sorted({*main_names, *main_names.values()} - set(names))
    if unknown:
        raise DataError(
            "two names of one person must be among the names of the set, and "
            f"'{show_controls(unknown[0])}' is not; there are {_format_names(sorted(names)[:20])}"
        )

    # Group the names by person, after the pairs of `main_names`.
    target_of = {name: _follow_chain(name, main_names) for name in names if name}
    groups: dict[str, dict[str, int]] = {}
    for name, target in target_of.items():
        counts = groups.setdefault(identify_person(target), {})
        counts[target] = counts.get(target, 0) + names[name]

    # Call each person by the spelling with the most images.
    name_of: dict[str, str] = {}
    folded = []
    for counts in groups.values():
        spellings = sorted(counts, key=lambda name: (-counts[name], len(name), name))
        if as_written and len(spellings) > 1:
            name_of |= {name: _quote(name) for name in spellings}
            continue
        name_of |= dict.fromkeys(spellings, remove_invisible(spellings[0]))
        if len(spellings) > 1:
            folded.append(tuple(spellings))
    return SubjectNames(
        {name: name_of[target] for name, target in target_of.items()},
        folded,
        _find_similar(set(name_of.values())),
    )


def rename_clip(clip: str, subject: str, name: str) -> str:
    """Return a clip's name with the new name of its subject, if it begins with the old one."""
    return name + clip[len(subject) :] if subject and clip.startswith(f"{subject}/") else clip


def format_groups(groups: Iterable[tuple[str, ...]], limit: int = 3) -> str:
    """Return a few groups of names as a text for people: '1' = '01' = 'S1'."""
    texts = [" = ".join(f"'{show_controls(name)}'" for name in group[:8]) for group in groups]
    return list_some(texts, limit)


def _format_names(names: Iterable[str]) -> str:
    return ", ".join(show_controls(name) for name in names if name) or "none"


def _follow_chain(name: str, main_names: Mapping[str, str]) -> str:
    """Return the last name of the chain in `main_names` from `name`; the chain may be a circle."""
    visited = {name}
    while name in main_names and main_names[name] not in visited:
        name = main_names[name]
        visited.add(name)
    return name


def _is_quoted(local: str) -> bool:
    return len(local) > 2 and local.startswith('"') and local.endswith('"')


def _quote(name: str) -> str:
    dataset, colon, local = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
    return f'{dataset}{colon}"{show_controls(local, keep="")}"'


def _find_similar(names: set[str]) -> list[tuple[str, ...]]:
    """Return groups of names that a person might confuse, although no rule makes them equal."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        dataset, _, local = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
        if not _is_quoted(local):
            groups.setdefault((dataset, _reduce_to_look(local)), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _reduce_to_look(local: str) -> str:
    """Return a name without accents, signs, leading zeros and words such as "person"."""
    letters = "".join(
        char
        for char in unicodedata.normalize("NFKD", normalise(local))
        if not unicodedata.combining(char)
    )
    words = re.findall(r"[^\W\d_]+|[0-9]+", letters.translate(_LATIN_OF_CYRILLIC))
    if any(word.isdecimal() for word in words):
        words = [word for word in words if word not in _PERSON]
    text = " ".join(str(int(word)) if word.isdecimal() else word for word in words)
    return re.sub(r"(?<=[^\W\d_]) (?=[^\W\d_])", "", text) or normalise(local)
