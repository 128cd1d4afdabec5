"""Action units of the Facial Action Coding System (Ekman et al. 2002).

Every dataset writes them in its own way; `parse` reads all of these.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from mien.faces import Faces

SIDES = {"L": "left", "R": "right", "A": "asymmetric", "T": "top", "B": "bottom"}

NO_UNITS = frozenset({"", "-", "/", "none", "nan", "n/a", "0"})  # written where no unit moves

_UNIT_PATTERN = re.compile(
    r"(?:AU)?\s*(?P<side>[LRATB])?\s*(?P<number>[0-9]{1,2})\s*"
    r"(?P<intensity>[A-E])?\s*(?P<static>\(k\))?",
    re.IGNORECASE,
)

# the last four are Chinese punctuation
_SEPARATOR_PATTERN = re.compile("[+,;&\uff0b\uff0c\uff1b\u3001]")


class ActionUnit(NamedTuple):
    """One unit as a coder scored it."""

    number: int
    side: str  # one of SIDES, or empty: both sides alike
    intensity: str  # A (trace) to E (maximum), or empty: not scored
    static: bool  # marked (k) in 4DME: present in the whole clip, without movement
    unsure: bool  # one of several that the coder joined by "or"


class ParsedUnits(NamedTuple):
    """The action units in a text, in its order, and the words that are not action units."""

    units: tuple[ActionUnit, ...]
    unread: tuple[str, ...]


def parse_units(text: str) -> ParsedUnits:
    """Return the action units in a text such as `4+L10`, `R14A or 17A` or `AUR2+12(k)+45`.

    A letter before a number is the side, one after it the intensity. Nothing is guessed: words
    that are not action units are returned as unread.
    """
    units: list[ActionUnit] = []
    unread: list[str] = []
    if text.strip().lower() in NO_UNITS:
        return ParsedUnits((), ())
    for term in _SEPARATOR_PATTERN.split(text):
        choices = [word.strip() for word in re.split(r"\bor\b", term, flags=re.IGNORECASE)]
        if not any(choices):  # "or" joins nothing
            choices = [term.strip()]
        for word in choices:
            match = _UNIT_PATTERN.fullmatch(word)
            if match is None or int(match["number"]) == 0:
                unread += [word] if word else []
                continue
            side, intensity = (match["side"] or "").upper(), (match["intensity"] or "").upper()
            units.append(
                ActionUnit(
                    int(match["number"]), side, intensity, bool(match["static"]), len(choices) > 1
                )
            )
    return ParsedUnits(tuple(units), tuple(unread))


def format_units(units: Iterable[ActionUnit]) -> str:
    """Return units as one text, such as `6B+L12C`, in the order of their numbers.

    Whether a unit moves, and whether the coder was sure of it, is left out.
    """
    texts = {(unit.number, unit.side): unit.intensity for unit in units}
    return "+".join(
        f"{side}{number}{intensity}" for (number, side), intensity in sorted(texts.items())
    )


def tabulate_units(faces: Faces) -> pd.DataFrame:
    """Return a row for each action unit of each clip, or of each image that belongs to no clip.

    Columns: clip (the key of an image without one), place (the position in the text, from 0), and
    the fields of ActionUnit.
    """
    index = faces.index
    texts = dict(zip(faces.name_units("clip"), index["action_units"], strict=True))
    rows = [
        {"clip": clip, "place": number, **unit._asdict()}
        for clip, text in texts.items()
        for number, unit in enumerate(parse_units(text).units)
    ]
    types = {"clip": "str", "place": "int64", "number": "int64", "side": "str", "intensity": "str"}
    return pd.DataFrame(rows, columns=["clip", "place", *ActionUnit._fields]).astype(
        {**types, "static": "bool", "unsure": "bool"}
    )
