"""Units: action units on which a generator is conditioned, and orders of them.

A generator that is trained with `condition` emotion,action_units gets a number for each action unit
beside the class: its strength, from 0 (absent) to 1. Where coders scored the intensity, A to E, it
is 0.2 to 1. A unit whose intensity was not scored has the mean strength that was scored of it in
the training set, and 1 where none was.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from mien import seeds
from mien.errors import DataError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.diffusion.batches import compute_chances
from mien.generators.specs import OrderedUnit, SamplerSpec
from mien.prepare.action_units import INTENSITIES, find_coded
from mien.prepare.facs import SIDES, ActionUnit, format_units, parse_units

MIN_UNIT_CLIPS = 3
"""A unit that fewer clips show has no number: it would stand for a clip, not for a movement."""

UNITS_FORM = "units with strengths from 0 to 1, such as 12:0.8,6:0.5 or L10:0.6"

_TERM = re.compile(r"(?:AU)?([LRATB]?)([0-9]{1,2})(?::([0-9.]{1,12}))?", re.IGNORECASE)


@dataclass(frozen=True)
class KnownUnits:
    """The action units on which a generator is conditioned.

    `columns` are units, such as `12`, and units with a side, such as `12 left`; `typical` is the
    strength of each where its intensity was not scored. `classes` has, for each emotion, the units
    of its training images in the notation of FACS, each with the share of the images that were
    shown with them; it is empty for an emotion without coded images.
    """

    columns: tuple[str, ...]
    typical: tuple[float, ...]
    classes: Mapping[str, Mapping[str, float]]

    @property
    def width(self) -> int:
        """The number of values that a network gets: 1 if units are given, then the strengths."""
        return 1 + len(self.columns)

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Return the numbers for the units in each text, as float32."""
        rows = {text: self._encode_units(parse_units(text).units) for text in set(texts)}
        stacked = [rows[text] for text in texts]
        return np.stack(stacked) if stacked else np.zeros((0, self.width), dtype=np.float32)

    def encode_faces(self, faces: Faces) -> Float[np.ndarray, "n width"]:
        """Return the numbers for each image; zeros where no unit of its set is coded."""
        coded = find_coded(faces)
        return self.encode(faces.index["action_units"].tolist()) * coded[:, None]

    def encode_order(self, units: Iterable[OrderedUnit]) -> Float[np.ndarray, " width"]:
        """Return the numbers for ordered units.

        Raises UsageError for a unit that the generator does not know.
        """
        row = np.zeros(self.width, dtype=np.float32)
        row[0] = 1
        for unit in units:
            names = [str(unit.number), *([f"{unit.number} {unit.side}"] if unit.side else [])]
            unknown = [name for name in names if name not in self.columns]
            if unknown:
                raise UsageError(
                    f"units must be among those that the generator knows, which are "
                    f"{', '.join(self.columns)}; given: {unknown[0]}"
                )
            for name in names:
                place = self.columns.index(name)
                row[1 + place] = self.typical[place] if unit.strength is None else unit.strength
        return row

    def choose_texts(
        self, labels: Int64[np.ndarray, " n"], numbers: Int64[np.ndarray, " n"]
    ) -> list[str]:
        """Return for each image the units of a training image of its class, in FACS.

        Labels are positions in EMOTIONS. The choice depends on the label and on the seed of the
        image in `numbers`.
        """
        texts = []
        for label, number in zip(labels.tolist(), numbers.tolist(), strict=True):
            shares = self.classes.get(EMOTIONS[label], {})
            ends = np.cumsum([*shares.values()])
            point = seeds.make_rng("units", number).random()
            place = int(np.searchsorted(ends / ends[-1], point, side="right")) if shares else 0
            texts.append([*shares, ""][place])
        return texts

    def encode_images(
        self,
        labels: Int64[np.ndarray, " n"],
        numbers: Int64[np.ndarray, " n"],
        how: SamplerSpec | None = None,
    ) -> Float[np.ndarray, "n width"]:
        """Return the numbers for each image that is drawn: of the units that `how` orders, or
        those of `choose_texts`.
        """
        if how is not None and how.units:
            return np.tile(self.encode_order(how.units), (len(labels), 1))
        coded = [bool(self.classes.get(EMOTIONS[label])) for label in labels.tolist()]
        return self.encode(self.choose_texts(labels, numbers)) * np.array(coded)[:, None]

    def _encode_units(self, units: Iterable[ActionUnit]) -> Float[np.ndarray, " width"]:
        row = np.zeros(self.width, dtype=np.float32)
        row[0] = 1
        for unit in units:
            for name in _name_columns(unit):
                if name in self.columns:
                    place = self.columns.index(name)
                    strength = _scale_intensity(unit) if unit.intensity else self.typical[place]
                    row[1 + place] = max(row[1 + place], strength)
        return row


def learn_units(faces: Faces, balance: float, clip_first: bool) -> KnownUnits:
    """Return the units that condition a generator in a training on `faces`.

    `balance` and `clip_first` are those of the training. Raises DataError if no image has coded
    units, or no unit is shown by MIN_UNIT_CLIPS clips.
    """
    # The units that enough clips show
    coded = find_coded(faces)
    texts = faces.index["action_units"].to_numpy(dtype=object)
    units = {text: parse_units(text).units for text in set(texts[coded])}
    clips = pd.DataFrame({"clip": faces.name_units("clip")[coded], "text": texts[coded]})
    counts: dict[str, int] = {}
    for text, rows in clips.groupby("text"):
        for name in {name for unit in units[str(text)] for name in _name_columns(unit)}:
            counts[name] = counts.get(name, 0) + rows["clip"].nunique()
    columns = sorted(
        (name for name, count in counts.items() if count >= MIN_UNIT_CLIPS),
        key=lambda name: (int(name.partition(" ")[0]), name),
    )
    if not columns:
        raise DataError(
            "the condition action_units needs training faces whose action units are coded, each "
            f"shown by {MIN_UNIT_CLIPS} clips or more, and {len(faces):,} images have none; train "
            "on a set whose coding sheet has action units, or omit action_units"
        )

    # The mean strength of those that were scored
    scored: dict[str, list[float]] = {name: [] for name in columns}
    for text in texts[coded]:
        for unit in units[text]:
            for name in _name_columns(unit):
                if unit.intensity and name in scored:
                    scored[name].append(_scale_intensity(unit))
    typical = [round(float(np.mean(scored[name])), 4) if scored[name] else 1.0 for name in columns]

    # How often each class is shown with which units
    chances = compute_chances(faces.index, balance, clip_first)
    classes: dict[str, dict[str, float]] = {}
    for emotion in faces.classes:
        rows = coded & (faces.index["emotion"] == emotion).to_numpy()
        plain = [format_units(units[text]) for text in texts[rows]]
        shares = pd.Series(chances[rows]).groupby(plain, sort=True).sum()
        classes[emotion] = {
            str(text): float(share) for text, share in (shares / shares.sum()).items()
        }
    return KnownUnits(tuple(columns), tuple(typical), classes)


def parse_order(text: str) -> list[dict[str, object]]:
    """Return the fields of the units in an order such as `12:0.8,6:0.5`.

    Raises UsageError for any other text, and for a unit that is named twice.
    """
    units: list[dict[str, object]] = []
    for term in text.split(","):
        match = _TERM.fullmatch(term.strip())
        strength = _read_strength(match[3]) if match else -1.0
        if match is None or int(match[2]) == 0 or strength == -1.0:
            raise UsageError(f"--units must be {UNITS_FORM}; given: '{text[:100]}'")
        side = SIDES[match[1].upper()] if match[1] else ""
        units.append({"number": int(match[2]), "side": side, "strength": strength})
    names = [(unit["number"], unit["side"]) for unit in units]
    if len(set(names)) < len(names):
        raise UsageError(f"--units must name each unit once; given: '{text[:100]}'")
    return units


def read_units(about: Mapping[str, Any]) -> KnownUnits | None:
    """Return the action units that generator.json has, or None."""
    content = about.get("units")
    if content is None:
        return None
    return KnownUnits(tuple(content["columns"]), tuple(content["typical"]), content["classes"])


def require_known_units(known: KnownUnits | None, how: SamplerSpec) -> None:
    """Raise UsageError if units are ordered that a generator with the units `known` cannot draw."""
    if known is not None:
        known.encode_order(how.units or ())
    elif how.units:
        raise UsageError(
            "units need a generator that is conditioned on action units, and this one is not; omit "
            "them, or train one with --condition emotion,action_units"
        )


def _read_strength(text: str | None) -> float | None:
    """Return a strength from 0 to 1; None where none is given, -1 where it is not valid."""
    if text is None:
        return None
    valid = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is not None and float(text) <= 1
    return float(text) if valid else -1.0


def describe_order(units: Iterable[OrderedUnit]) -> str:
    """Return ordered units in the notation of FACS, with the nearest intensity: `6C+L12D`.

    Units of strength 0 are absent.
    """
    letters = {side: letter for letter, side in SIDES.items()}
    coded = []
    for unit in units:
        # Strengths of 0.2 to 1 are A to E
        rank = 0 if unit.strength is None else max(1, int(unit.strength * len(INTENSITIES) + 0.5))
        if unit.strength != 0:
            intensity = INTENSITIES[rank - 1] if rank else ""
            coded.append(
                ActionUnit(unit.number, letters.get(unit.side, ""), intensity, False, False)
            )
    return format_units(coded)


def _name_columns(unit: ActionUnit) -> tuple[str, ...]:
    """Return the names of the numbers that a unit has: one, and a second for its side."""
    side = (f"{unit.number} {SIDES[unit.side]}",) if unit.side else ()
    return (str(unit.number), *side)


def _scale_intensity(unit: ActionUnit) -> float:
    """Return a scored intensity as a number, from 0.2 (A) to 1 (E)."""
    return (INTENSITIES.index(unit.intensity) + 1) / len(INTENSITIES)
