"""Copied files, such as "face (1).png", known by names that systems give."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_COPY_WORDS = "copy|kopie|kopi|kopia|copie|copia|cópia|másolat|копия|副本|拷贝|複製|コピー|사본"

_COPY_PREFIX = re.compile(
    rf"(?:{_COPY_WORDS})\s*(?:\([0-9]+\)\s*)?(?:of|von|van|de|di|av|z)\s", re.IGNORECASE
)

_COPY_SUFFIX = re.compile(
    rf"(?:[\s_-]|(?<=[^a-z]))(?:{_COPY_WORDS})(?:\s*\([0-9]{{1,4}}\)|[\s-]+[0-9]{{1,4}})?",
    re.IGNORECASE,
)

_COPY_NUMBER = re.compile(
    r"(?P<base>.*\S)(?:\s*\([0-9]{1,4}\)|\s*\[[0-9]{1,4}\]|(?<=[0-9])\s+[0-9]{1,4})"
)


def find_copies(paths: Iterable[str]) -> set[str]:
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
    return {path for inside in folders.values() for path in _find_copies_in_folder(inside)}


def _find_copies_in_folder(paths: list[str]) -> set[str]:
    # Files with a word for copy in their names.
    stems = {path: PurePosixPath(path).stem for path in paths}
    doubles = {path for path, stem in stems.items() if _has_copy_word(stem)}

    # Files with a number that a system adds to the name of a copy.
    single = {path: stem for path, stem in stems.items() if path not in doubles}
    existing = {stem.lower() for stem in single.values()}
    matches = {
        path: match for path, stem in single.items() if (match := _COPY_NUMBER.fullmatch(stem))
    }
    bases = {match["base"].lower() for match in matches.values()}
    renamed = len(bases) == 1 and len(matches) == len(single) > 1  # all at once
    for path, match in matches.items():
        original = match["base"].lower() in existing
        if original or (re.search("[0-9]", match["base"]) and not renamed):
            doubles.add(path)
    return doubles


def _has_copy_word(stem: str) -> bool:
    behind = list(_COPY_SUFFIX.finditer(stem))
    return bool(_COPY_PREFIX.match(stem) or (behind and behind[-1].end() == len(stem)))
