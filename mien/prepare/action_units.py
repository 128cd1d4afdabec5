"""Action units as numbers: which units a face shows, side and intensity."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mien.errors import DataError
from mien.faces import Faces
from mien.findings import list_some
from mien.prepare.facs import SIDES, ActionUnit, parse_units

INTENSITIES = "ABCDE"
"""Intensities in FACS, from a trace to the maximum; as numbers 0.2, 0.4, 0.6, 0.8 and 1."""


def require_units(faces: Faces, where: str) -> None:
    """Raise DataError unless each dataset has action units.

    The message begins with `where`, which says what needs them.
    """
    shown = [bool(parse_units(str(text)).units) for text in faces.index["action_units"]]
    coded = set(faces.index["dataset"][shown])
    without = sorted(set(faces.index["dataset"]) - coded)
    if without or not len(faces):
        raise DataError(
            f"{where} needs faces whose action units are coded, and no image of "
            f"{list_some(without, 4) or 'an empty set'} has any; use a set whose coding sheet has "
            "action units (`mien data`), or remove it from the study"
        )


def has_units(faces: Faces) -> bool:
    """Whether an image has an action unit."""
    texts = faces.index["action_units"].unique()
    return any(parse_units(text).units for text in texts)


def find_coded(faces: Faces) -> Bool[np.ndarray, " n"]:
    """Return which images belong to a dataset of which some image has coded action units.

    In such a dataset, an image without units shows none.
    """
    shown = faces.index["action_units"].map(lambda text: bool(parse_units(str(text)).units))
    return faces.index["dataset"].isin(set(faces.index["dataset"][shown])).to_numpy(dtype=bool)


def name_columns(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the numbers that describe the units in `texts`, in order.

    Each unit has one, such as `12`. One with a side that occurs has a second, such as `12 left`,
    and one with an intensity that occurs a third, `12 intensity`.
    """
    units = {unit for text in set(texts) for unit in parse_units(text).units}
    names = {name: unit for unit in units for name in _describe_unit(unit)}
    return tuple(sorted(names, key=lambda name: (int(name.partition(" ")[0]), name)))


def encode_units(texts: Sequence[str], columns: Sequence[str]) -> Float[np.ndarray, "n columns"]:
    """Return the units in each text as float32 numbers from 0 to 1, named by `columns`.

    A unit, or a unit with a side, is 1 if the text has it, else 0. An intensity is 0.2 (A) to 1
    (E), and 0 where none was scored. Units that the coder was unsure of or that do not move count
    as present; units that have no column are passed over.
    """
    positions = {name: number for number, name in enumerate(columns)}
    rows = {text: np.zeros(len(columns), dtype=np.float32) for text in set(texts)}
    for text, row in rows.items():
        for unit in parse_units(text).units:
            for name, value in _describe_unit(unit).items():
                if name in positions:
                    row[positions[name]] = max(row[positions[name]], value)
    stacked = [rows[text] for text in texts]
    return np.stack(stacked) if stacked else np.zeros((0, len(columns)), dtype=np.float32)


def _describe_unit(unit: ActionUnit) -> dict[str, float]:
    """Return the numbers of one unit, by the names of their columns."""
    numbers = {str(unit.number): 1.0}
    if unit.side:
        numbers[f"{unit.number} {SIDES[unit.side]}"] = 1.0
    if unit.intensity:
        rank = INTENSITIES.index(unit.intensity) + 1
        numbers[f"{unit.number} intensity"] = rank / len(INTENSITIES)
    return numbers


# What emotions have to do with units


def describe_clashes(faces: Faces) -> str:
    """Return how many clips have a set of units that occurs with more than one emotion, in words.

    Photographs count as clips. Sides count in a set, intensities do not; a clip without units has
    the empty set. The second number is the share of clips whose emotion is the commonest one of
    their set: nobody who knows only the set can be right more often on these clips.
    """
    # A row per clip: its set of units, and its emotion
    sets = {
        text: frozenset((unit.number, unit.side) for unit in parse_units(text).units)
        for text in set(faces.index["action_units"])
    }
    rows = pd.DataFrame(
        {
            "clip": faces.name_units("clip"),
            "units": [tuple(sorted(sets[text])) for text in faces.index["action_units"]],
            "emotion": faces.index["emotion"],
        }
    ).drop_duplicates()

    # How often each emotion occurs with each set
    counts = rows.groupby(["units", "emotion"]).size().unstack(fill_value=0)
    clashing = (counts > 0).sum(axis=1) > 1
    shared = int(counts[clashing].to_numpy().sum())
    commonest = int(counts.max(axis=1).sum())
    n = len(rows)
    return (
        f"{shared} of {n} clips ({100 * shared / n:.1f} %) have a set of units that occurs with "
        f"more than one emotion; the commonest emotion of each set is that of {commonest} clips "
        f"({100 * commonest / n:.1f} %)"
    )
