"""Copies of files: they are known by the names that operating systems and browsers give to a copy,
in several languages.
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
    """Return the files that are copies of others by their names: "img15 copy 2.jpg",
    "img15 (1).jpg".

    A word for copy is enough. A number in parentheses, or after a blank, marks a copy if the file
    without it exists, or if the name has another number: "img (15).jpg" next to "img (16).jpg" is
    not a copy. Files that were all renamed at once are not copies either: "S01 (1).jpg", "S01
    (2).jpg" and so on.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    return {path for inside in folders.values() for path in _copies_in(inside)}


def _copies_in(paths: list[str]) -> set[str]:
    # Files with a word for copy in their names.
    stems = {path: PurePosixPath(path).stem for path in paths}
    doubles = {path for path, stem in stems.items() if _worded(stem)}

    # Files with a number that a system adds to the name of a copy.
    others = {path: stem for path, stem in stems.items() if path not in doubles}
    existing = {stem.lower() for stem in others.values()}
    matches = {path: match for path, stem in others.items() if (match := _NUMBERED.fullmatch(stem))}
    bases = {match["base"].lower() for match in matches.values()}
    renamed = len(bases) == 1 and len(matches) == len(others) > 1  # all at once
    for path, match in matches.items():
        original = match["base"].lower() in existing
        if original or (re.search("[0-9]", match["base"]) and not renamed):
            doubles.add(path)
    return doubles


def _worded(stem: str) -> bool:
    behind = list(_BEHIND.finditer(stem))
    return bool(_BEFORE.match(stem) or (behind and behind[-1].end() == len(stem)))
