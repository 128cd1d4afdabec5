"""One person in several spellings: 1, 01, 1.0, S1, sub01, "Subject 1", and what differs in no
visible way.

A name in quotation marks stands for itself: it was said to be somebody else than the one of like
spelling.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mien.errors import DataError
from mien.outside import visible

_NUMBERED = re.compile(r"([^\W\d_]*)[\s_.:#-]*0*([0-9]+)(?:[.,]0+)?")
_BARE = re.compile(r"0*([0-9]+)(?:[.,]0+)?")
_SUBJECT = frozenset(
    {"s", "sub", "subj", "subject"}
)  # before a number these say no more than that it is a subject's
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
_LIKE = str.maketrans(_CYRILLIC, "aeopcyxijs")


@dataclass(frozen=True)
class People:
    """Who is who in a set.

    `names` has each name that is written there, and the one that its person is called. `folded` are
    the names that were taken for one person's, the chosen one first; `alike` those that look alike
    and were kept apart.
    """

    names: dict[str, str]
    folded: list[tuple[str, ...]] = field(default_factory=list)
    alike: list[tuple[str, ...]] = field(default_factory=list)


def clean(text: str) -> str:
    """Return a text without what cannot be seen: characters of no width, outer spaces, and letters
    in two parts.
    """
    composed = unicodedata.normalize("NFC", text)
    return "".join(char for char in composed if unicodedata.category(char) != "Cf").strip()


def plain(text: str) -> str:
    """Return a text as it is compared: clean, in small letters, with full-width and other digits as
    0 to 9.
    """
    known = clean(unicodedata.normalize("NFKC", text)).casefold()
    return "".join(str(unicodedata.digit(char)) if char.isdecimal() else char for char in known)


def person(name: str) -> str:
    """Return what stands for the person of this name: equal for all spellings that are safely one
    person's.

    A dataset's name and a colon before it stay.
    """
    dataset, colon, local = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
    if _quoted(local):
        return name
    text = plain(local)
    bare, numbered = _BARE.fullmatch(text), _NUMBERED.fullmatch(text)
    if bare or (numbered and numbered[1] in _SUBJECT):
        text = f"#{int((bare or numbered or [0, 0])[1 if bare else 2])}"
    elif numbered and numbered[1]:
        text = f"{numbered[1]}#{int(numbered[2])}"
    return f"{dataset}{colon}{text}"


def people(
    names: Mapping[str, int], same: Mapping[str, str] | None = None, as_written: bool = False
) -> People:
    """Return who is who among `names`, each with the number of its images.

    `same` says of a name whose it is, by another name, and `as_written` that all other spellings
    are different people; those that would have been taken for one then stand in quotation marks.
    Raises DataError if `same` has a name that is not there.
    """
    same = same or {}
    strangers = sorted({*same, *same.values()} - set(names))
    if strangers:
        raise DataError(
            "two names of one person must be among those that are there, and "
            f"'{visible(strangers[0])}' is not; there are {_listed(sorted(names)[:20])}"
        )
    own = {name: _followed(name, same) for name in names if name}
    groups: dict[str, dict[str, int]] = {}
    for name, target in own.items():
        inside = groups.setdefault(person(target), {})
        inside[target] = inside.get(target, 0) + names[name]
    called: dict[str, str] = {}
    folded = []
    for inside in groups.values():
        order = sorted(inside, key=lambda name: (-inside[name], len(name), name))
        if as_written and len(order) > 1:
            called |= {name: _in_quotes(name) for name in order}
            continue
        called |= dict.fromkeys(order, clean(order[0]))
        if len(order) > 1:
            folded.append(tuple(order))
    return People(
        {name: called[target] for name, target in own.items()}, folded, _alike(set(called.values()))
    )


def renamed(clip: str, subject: str, name: str) -> str:
    """Return a clip's name with the new name of its subject, if it begins with the old one."""
    return name + clip[len(subject) :] if subject and clip.startswith(f"{subject}/") else clip


def listed(groups: Iterable[tuple[str, ...]], limit: int = 3) -> str:
    """Return a few groups of names, for people to read: '1' = '01' = 'S1'."""
    groups = list(groups)
    shown = ", ".join(
        " = ".join(f"'{visible(name)}'" for name in group[:8]) for group in groups[:limit]
    )
    return shown + (f" and {len(groups) - limit} more" if len(groups) > limit else "")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(visible(name) for name in names if name) or "none"


def _followed(name: str, same: Mapping[str, str]) -> str:
    passed = {name}
    while name in same and same[name] not in passed:
        name = same[name]
        passed.add(name)
    return name


def _quoted(local: str) -> bool:
    return len(local) > 2 and local.startswith('"') and local.endswith('"')


def _in_quotes(name: str) -> str:
    dataset, colon, local = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
    return f'{dataset}{colon}"{visible(local, keep="")}"'


def _alike(names: set[str]) -> list[tuple[str, ...]]:
    """Return the names that people may take for one, though no rule says that they are."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        dataset, _, local = name.rpartition(":") if name.count(":") == 1 else ("", "", name)
        if not _quoted(local):
            groups.setdefault((dataset, _look(local)), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _look(local: str) -> str:
    """Return how a name looks: without accents, signs, leading zeros and words such as "person"."""
    bare = "".join(
        char
        for char in unicodedata.normalize("NFKD", plain(local))
        if not unicodedata.combining(char)
    )
    parts = re.findall(r"[^\W\d_]+|[0-9]+", bare.translate(_LIKE))
    if any(part.isdecimal() for part in parts):
        parts = [part for part in parts if part not in _PERSON]
    text = " ".join(str(int(part)) if part.isdecimal() else part for part in parts)
    return re.sub(r"(?<=[^\W\d_]) (?=[^\W\d_])", "", text) or plain(local)
