"""Copies: what systems and browsers call the copy of a file, in the languages that people's systems
speak.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_WORDS = "copy|kopie|kopi|kopia|copie|copia|cópia|másolat|копия|副本|拷贝|複製|コピー|사본"
_BEFORE = re.compile(
    rf"(?:{_WORDS})\s*(?:\([0-9]+\)\s*)?(?:of|von|van|de|di|av|z)\s", re.IGNORECASE
)
_BEHIND = re.compile(
    rf"(?:[\s_-]|(?<=[^a-z]))(?:{_WORDS})(?:\s*\([0-9]{{1,4}}\)|[\s-]+[0-9]{{1,4}})?", re.IGNORECASE
)
_NUMBERED = re.compile(
    r"(?P<base>.*\S)(?:\s*\([0-9]{1,4}\)|\s*\[[0-9]{1,4}\]|(?<=[0-9])\s+[0-9]{1,4})"
)


def copies(paths: Iterable[str]) -> set[str]:
    """Return those of some files that are copies of others by their names: "img15 copy 2.jpg",
    "img15 (1).jpg".

    A word for copy tells by itself. A number in parentheses, or behind a blank, tells one where the
    file without it is there, or its name has a number of its own: "img (15).jpg" beside "img
    (16).jpg" is no copy, and neither are files that have all been renamed at once, "S01 (1).jpg",
    "S01 (2).jpg" and so on.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    return {path for inside in folders.values() for path in _copies_in(inside)}


def _copies_in(paths: list[str]) -> set[str]:
    stems = {path: PurePosixPath(path).stem for path in paths}
    found = {path for path, stem in stems.items() if _worded(stem)}
    others = {path: stem for path, stem in stems.items() if path not in found}
    there = {stem.lower() for stem in others.values()}
    matches = {path: match for path, stem in others.items() if (match := _NUMBERED.fullmatch(stem))}
    bases = {match["base"].lower() for match in matches.values()}
    renamed = len(bases) == 1 and len(matches) == len(others) > 1  # all at once
    for path, match in matches.items():
        original = match["base"].lower() in there
        if original or (re.search("[0-9]", match["base"]) and not renamed):
            found.add(path)
    return found


def _worded(stem: str) -> bool:
    behind = list(_BEHIND.finditer(stem))
    return bool(_BEFORE.match(stem) or (behind and behind[-1].end() == len(stem)))
