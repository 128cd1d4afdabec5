"""A face that is nobody's: two-dimensional, shaded, moved by the action units of FACS.

A person is an `Identity`; the Facial Action Coding System (Ekman & Friesen 1978) names what moves.
Lengths are in pixels of a picture 280 wide, measured from the point between the eyes.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mien import seeds
from mien.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
Number = float | int  # the shape checker of the tests takes `float` at its word

# Where the hair ends on the face, from the picture's right to its left: x as a share of the head's
# half width, y from the eyes, and how far that point follows the person's hairline.
_HEMS: dict[str, tuple[tuple[float, float, int], ...]] = {
    "short": (
        *((0.98, -18, 0), (0.9, -42, 0), (0.74, 4, 1), (0.3, -6, 1), (0, -3, 1)),
        *((-0.3, -6, 1), (-0.74, 4, 1), (-0.9, -42, 0), (-0.98, -18, 0)),
    ),
    "fringe": (
        *((1.0, 10, 0), (0.88, -22, 0), (0.78, -44, 0), (0.4, -47, 0), (0, -44, 0)),
        *((-0.42, -48, 0), (-0.78, -44, 0), (-0.88, -22, 0), (-1.0, 10, 0)),
    ),
    "long": (
        *((1.12, 90, 0), (0.9, 60, 0), (0.84, -10, 0), (0.62, 14, 1), (0, -22, 1)),
        *((-0.62, 14, 1), (-0.84, -10, 0), (-0.9, 60, 0), (-1.12, 90, 0)),
    ),
    "parted": (
        *((0.99, -8, 0), (0.9, -36, 0), (0.8, 18, 1), (0.2, 4, 1)),
        *((-0.35, -16, 1), (-0.75, -2, 1), (-0.9, -34, 0), (-0.99, -8, 0)),
    ),
    "bald": (),
    "bun": (
        *((0.99, -20, 0), (0.88, -50, 0), (0.6, -8, 1), (0, -16, 1)),
        *((-0.6, -8, 1), (-0.88, -50, 0), (-0.99, -20, 0)),
    ),
    "curly": (
        *((1.04, 0, 0), (0.88, -30, 0), (0.72, 10, 1), (0.36, 2, 1), (0, 9, 1)),
        *((-0.36, 0, 1), (-0.72, 10, 1), (-0.88, -30, 0), (-1.04, 0, 0)),
    ),
    "bob": (
        *((1.12, 100, 0), (0.86, 80, 0), (0.86, -20, 0), (0.76, -42, 0), (0.2, -50, 0)),
        *((-0.5, -46, 0), (-0.76, -42, 0), (-0.86, -20, 0), (-0.86, 80, 0), (-1.12, 100, 0)),
    ),
}
_HAIR = tuple(_HEMS)
MARGIN = 10  # pixels drawn beyond the picture's edge, so that a moving head never shows a border


@dataclass(frozen=True)
class Pose:
    """Where the head is: shift in pixels, turn in degrees, and size as a factor."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Identity:
    """One invented person: lengths in pixels of a picture 280 wide, colours RGB in 0..255, the rest
    factors.
    """

    width: float  # half of the head's width at the eyes
    chin: float  # from the eyes down to the chin
    crown: float  # from the eyes up to the top of the skull
    jaw: float  # exponent of the jaw's outline: 2 is oval, 3 square
    taper: float  # how much the jaw narrows
    skin: tuple[float, float, float]
    lip: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    background: tuple[float, float, float]
    cloth: tuple[float, float, float]
    hair_style: str
    hairline: float  # how far above the eyes the hair ends
    hair_volume: float
    eye_x: float  # from the middle line to each eye's centre
    eye_width: float  # half
    eye_upper: float  # height of the upper lid above the corners' line
    eye_lower: float
    eye_tilt: float
    eye_crease: float  # of the upper lid above its edge; 0 is none
    brow_y: float  # above the eyes
    brow_arch: float
    brow_thickness: float
    brow_tilt: float
    brow_density: float
    nose_y: float  # of the tip, below the eyes
    nose_width: float
    nose_height: float
    mouth_y: float
    mouth_width: float  # half
    lip_upper: float
    lip_lower: float
    cheeks: float
    folds: float  # naso-labial, at rest
    ears: float
    glasses: float  # 0 is none, else the size of a lens
    beard: float  # 0 is shaven, 1 a dark stubble
    light: tuple[float, float]  # from where it comes: right, down
    ambient: float
    offset: tuple[float, float]
    scale: float
    texture: int  # seed of skin, brow and hair texture


def identity(seed: int, number: int) -> Identity:
    """Return the invented person `number` of `seed`: the same two numbers give the same person,
    always.
    """
    rng = seeds.rng("toy", "identity", seed, number)

    def between(low: Number, high: Number) -> float:
        return float(rng.uniform(low, high))

    def colour(*ranges: tuple[Number, Number]) -> tuple[float, float, float]:
        red, green, blue = (between(*limits) for limits in ranges)
        return red, green, blue

    # Steps by the golden ratio spread tone and style over consecutive people better than chance
    # would.
    tone = (0.618034 * number + between(0, 0.25) + seeds.seed("toy-tone", seed) % 997 / 997) % 1.0
    skin = np.array([238, 200, 175]) * (1 - tone) + np.array([146, 103, 78]) * tone
    lip = skin * np.array([0.80, 0.56, 0.58]) + np.array([14.0, 4.0, 6.0]) + between(-6, 6)
    dark_hair = _rgb(np.array([1.0, 0.84, 0.76]) * between(22, 50))
    fair_hair = _rgb(np.array([1.0, 0.74, 0.5]) * between(80, 175))
    hair = dark_hair if tone > 0.35 or between(0, 1) < 0.5 else fair_hair
    style = _HAIR[(number + seeds.seed("toy-style", seed)) % len(_HAIR)]
    return Identity(
        width=between(88, 106), chin=between(134, 160), crown=between(112, 128), jaw=between(2.0, 2.9),
        taper=between(0.02, 0.22), skin=_rgb(skin), lip=_rgb(lip), hair=hair,
        iris=colour((38, 70), (26, 50), (18, 40)),
        background=_rgb(np.full(3, between(70, 205)) + rng.uniform(-8, 8, 3)),
        cloth=colour((30, 210), (30, 210), (30, 210)), hair_style=style,
        hairline=between(62, 84), hair_volume=between(8, 20),
        eye_x=between(41, 50), eye_width=between(19, 24.5), eye_upper=between(7.5, 11), eye_lower=between(4.5, 6.5),
        eye_tilt=between(-1.2, 2.8), eye_crease=max(0.0, between(-3, 7)),
        brow_y=between(23, 30), brow_arch=between(1, 7), brow_thickness=between(4.0, 8.5), brow_tilt=between(-3, 3),
        brow_density=between(0.65, 1.0) if tone > 0.35 else between(0.5, 0.95),
        nose_y=between(52, 62), nose_width=between(13, 20), nose_height=between(0.75, 1.2),
        mouth_y=between(94, 103), mouth_width=between(30, 40), lip_upper=between(5, 9.5), lip_lower=between(8, 13),
        cheeks=between(0.5, 1.3), folds=between(0.05, 0.35), ears=between(0.7, 1.25),
        glasses=between(25, 30) if between(0, 1) < 0.27 else 0.0,
        beard=between(0.3, 0.9) if style in ("short", "bald", "parted") and between(0, 1) < 0.45 else 0.0,
        light=(between(-0.55, 0.55), between(-0.5, -0.15)), ambient=between(0.34, 0.5),
        offset=(between(-3, 3), between(-3, 3)), scale=between(1.07, 1.14), texture=int(rng.integers(2**31)),
    )  # fmt: skip


def face(
    identity: Identity,
    action_units: Mapping[str, Number],
    size: tuple[int, int] = (340, 280),
    pose: Pose = Pose(),
) -> Array:
    """Draw one face: uint8 [height, width, 3], RGB, for `size` (height, width).

    `action_units` maps units of the Facial Action Coding System (Ekman & Friesen 1978) to
    intensities in 0..1: `"12"` moves both sides, `"L12"` the subject's left (the picture's right).
    Known are 1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 25 and 26; any other is a UsageError.
    """
    return moved(Head(identity, size).draw(action_units), pose, size)


# Drawing


def moved(canvas: Array, pose: Pose, size: tuple[int, int]) -> Array:
    """Cut the picture out of a canvas drawn with a margin, moved and turned about its middle."""
    height, width = size
    middle = (canvas.shape[1] / 2, canvas.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(middle, pose.angle, pose.scale)
    matrix[:, 2] += (pose.x - MARGIN, pose.y - MARGIN)
    return cv2.warpAffine(
        canvas, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def parse_units(action_units: str) -> list[tuple[str, int]]:
    """Return (side, number) for each unit of a string such as `4+L10`; the side of a bilateral unit
    is empty.
    """
    found: list[tuple[str, int]] = []
    for part in action_units.replace(" ", "").split("+"):
        match = re.fullmatch(r"([LR]?)(\d+)", part)
        if match is None:
            raise UsageError(
                f"Action units must look like '6+12' or '4+L10', not '{action_units}'; correct the "
                "string."
            )
        found.append((match[1], int(match[2])))
    return found


def _rgb(values: Iterable[Number]) -> tuple[float, float, float]:
    red, green, blue = (float(min(max(value, 0), 255)) for value in values)
    return red, green, blue


_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 25, 26)


def _sides(action_units: Mapping[str, Number]) -> dict[int, dict[int, float]]:
    """Return intensity by unit and side: -1 is the picture's left (the subject's right), +1 its
    right.
    """
    sides = {unit: {-1: 0.0, 1: 0.0} for unit in _UNITS}
    for text, value in action_units.items():
        for side, unit in parse_units(text):
            if unit not in sides:
                raise UsageError(
                    f"Action units must be among {', '.join(map(str, _UNITS))}, not {unit}; choose "
                    "from these."
                )
            for sign in {"": (-1, 1), "R": (-1,), "L": (1,)}[side]:
                sides[unit][sign] = max(sides[unit][sign], float(value))
    return sides


def _strip(points: Array, widths: Array) -> Array:
    """Return the outline of a stroke along `points` [n, 2] with `widths` [n]."""
    slope = np.gradient(points, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    half = normal * widths[:, None] / 2
    return np.concatenate([points + half, (points - half)[::-1]])


def _curve(*corners: tuple[Number, Number], count: int = 14) -> Array:
    """Return `count` points of the Bezier curve with three control points."""
    first, control, last = (np.array(corner) for corner in corners)
    t = np.linspace(0, 1, count)[:, None]
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * control + t**2 * last


def _ellipse(x: Number, y: Number, across: Number, down: Number, count: int = 28) -> Array:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


class Head:
    """One person at one picture size: what no expression changes is made once, then `draw` adds the
    face.
    """

    def __init__(self, person: Identity, size: tuple[int, int]) -> None:
        self.person = person
        self.height, self.width = size[0] + 2 * MARGIN, size[1] + 2 * MARGIN
        self.unit = size[1] / 280 * person.scale  # pixels a unit of length
        self.origin = np.array(
            [self.width / 2 + person.offset[0], self.height * 0.45 + person.offset[1]]
        )
        self.x = ((np.arange(self.width, dtype=np.float32) - self.origin[0]) / self.unit).astype(
            np.float32
        )
        self.y = ((np.arange(self.height, dtype=np.float32) - self.origin[1]) / self.unit).astype(
            np.float32
        )
        self.rng = np.random.default_rng(person.texture)
        self.skin = np.array(person.skin, np.float32)
        self.hair = np.array(person.hair, np.float32)
        self.fine = self._noise(1.0)  # pores
        self.mottle = self._noise(9.0)
        self.strokes = self.rng.uniform(0, 1, (2, 90, 4))
        self.bones = self._bones()
        self.back = self._backdrop()
        self.albedo = self._complexion()
        self.cover, self.cover_alpha = self._hair_cap()
        rows = np.searchsorted(self.y, (-person.crown - 4, person.chin + 18))
        columns = np.searchsorted(self.x, (-person.width - 4, person.width + 4))
        self.window = (slice(*map(int, rows)), slice(*map(int, columns)))
        self.scene = self._scene(0.0)
        still = self.back + (self.cover - self.back) * self.cover_alpha
        self.still = np.clip(still + 0.5, 0, 255).astype(np.uint8)

    # Tools: all take lengths in units from the point between the eyes.

    def _noise(self, grain: Number) -> Array:
        noise = self.rng.standard_normal((self.height, self.width)).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), grain * self.unit)
        return noise / noise.std()

    def _add(
        self, field: Array, x: Number, y: Number, across: Number, down: Number, size: Number
    ) -> None:
        """Add a bell to `field`, touching only where it is not zero."""
        left, right = np.searchsorted(self.x, (x - 3.5 * across, x + 3.5 * across))
        top, bottom = np.searchsorted(self.y, (y - 3.5 * down, y + 3.5 * down))
        column = size * np.exp(-0.5 * ((self.y[top:bottom] - y) / down) ** 2)
        field[top:bottom, left:right] += np.outer(
            column, np.exp(-0.5 * ((self.x[left:right] - x) / across) ** 2)
        )

    def _mask(self, outline: Array, soft: Number) -> tuple[Array, slice, slice]:
        """Return a polygon's coverage 0..1 with its window of the canvas; `soft` is the blur of its
        edge.
        """
        points = outline * self.unit + self.origin
        edge = 3 * soft * self.unit + 2
        left, top = np.maximum(np.floor(points.min(0) - edge), 0).astype(int)
        right, bottom = np.minimum(np.ceil(points.max(0) + edge), (self.width, self.height)).astype(
            int
        )
        mask = np.zeros((max(bottom - top, 1), max(right - left, 1)), np.uint8)
        fixed = np.round((points - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, 4)
        if soft > 0:
            mask = cv2.GaussianBlur(mask, (0, 0), soft * self.unit)
        return (
            mask.astype(np.float32) / 255,
            slice(top, top + mask.shape[0]),
            slice(left, left + mask.shape[1]),
        )

    def _paint(
        self,
        target: Array,
        outline: Array,
        colour: Any,
        alpha: Number = 1.0,
        soft: Number = 0.4,
        within: Any = None,
    ) -> None:
        """Blend `colour` into `target` inside a polygon, and inside the coverage `within` [h, w] if
        given.
        """
        if alpha <= 0.004:
            return
        mask, rows, columns = self._mask(outline, soft)
        mask *= alpha
        window = target[rows, columns]
        if within is not None:
            mask *= within[rows, columns]
        if target.ndim == 3:
            mask = mask[:, :, None]
        window += (np.asarray(colour, np.float32) - window) * mask[
            : window.shape[0], : window.shape[1]
        ]

    def _crease(
        self, target: Array, points: Array, width: Number, depth: Number, soft: Number = 1.3
    ) -> None:
        """Darken the skin along a line that thins out at both ends."""
        taper = np.sin(np.linspace(0.12, np.pi - 0.12, len(points)))
        self._paint(target, _strip(points, width * taper), 0.45, min(depth, 0.95), soft)

    # What stays the same

    def _skull(self, jaw_drop: Number) -> Array:
        """Return 0 at the face's middle, 1 on its outline, [h, w]; the jaw hangs by `jaw_drop`."""
        person = self.person
        chin = person.chin + jaw_drop
        low = np.clip(self.y / chin, 0, 1)[:, None]
        across = np.abs(self.x)[None, :] / (person.width * (1 - person.taper * low**1.5))
        down = np.where(self.y > 0, self.y / chin, -self.y / person.crown)[:, None]
        shape = np.where(self.y > 0, person.jaw, 2.3)[:, None].astype(np.float32)
        return np.power(np.power(across, shape) + np.power(down, shape), 1 / shape)

    def _bones(self) -> Array:
        """Return the height of nose, sockets, brow ridge, cheeks and chin, [h, w]."""
        person = self.person
        field = np.zeros((self.height, self.width), np.float32)
        for side in (-1, 1):
            self._add(field, side * person.eye_x, -3, 25, 13, -9)
            self._add(field, side * person.eye_x, -1, 15, 8, 5)  # the eyeball in its socket
            self._add(field, side * person.eye_x * 0.9, -person.brow_y - 2, 30, 8, 3.5)
            self._add(field, side * (person.width * 0.58), 40, 24, 18, 8 * person.cheeks)
            self._add(field, side * 62, 92, 18, 22, -4 * (1.6 - person.cheeks))
            self._add(field, side * person.nose_width * 0.78, person.nose_y + 3, 6.5, 6, 8)
        length = person.nose_y
        down = np.clip((self.y + 12) / (length + 12), 0, 1)[:, None]
        ridge = (
            (5 + 17 * down**1.3)
            * person.nose_height
            / (1 + np.exp((self.y[:, None] - length - 4) / 3))
        )
        ridge = ridge * np.clip((self.y[:, None] + 26) / 26, 0, 1) ** 2
        field += ridge * np.exp(
            -0.5 * (self.x[None, :] / (6.5 + 0.28 * person.nose_width * down)) ** 2
        )
        self._add(field, 0, length, 8.5, 7.5, 7)
        return field

    def _backdrop(self) -> Array:
        """Return wall, hair behind the head, neck, shoulders and ears: float32 [h, w, 3]."""
        person = self.person
        slope = 1 + 0.10 * person.light[0] * self.x[None, :] / 140 - 0.06 * self.y[:, None] / 170
        image = np.array(person.background, np.float32) * slope[:, :, None]
        if person.hair_style in ("long", "bob"):
            end = 240 if person.hair_style == "long" else 120
            wide = person.width + 10 + person.hair_volume
            hang = np.array([(-wide, -40), (-wide - 5, 40), (-wide + 2, end), (wide - 2, end), (wide + 5, 40),
                             (wide, -40), (wide * 0.7, -110), (0, -138), (-wide * 0.7, -110)], float)  # fmt: skip
            self._paint(image, hang, self.hair * 0.75, 1, 3)
        neck = person.width * 0.62
        side = np.array(
            [
                (-neck, 60),
                (-neck, 150),
                (-neck - 16, 210),
                (neck + 16, 210),
                (neck, 150),
                (neck, 60),
            ],
            float,
        )
        self._paint(image, side, self.skin * 0.66, 1, 2.5)
        shoulders = np.array(
            [
                (-190, 205),
                (-neck - 10, 172),
                (-neck * 0.6, 186),
                (0, 196),
                (neck * 0.6, 186),
                (neck + 10, 172),
                (190, 205),
                (190, 300),
                (-190, 300),
            ],
            float,
        )
        self._paint(image, shoulders, np.array(person.cloth) * 0.75, 1, 1.5)
        self._paint(
            image, _ellipse(0, person.chin + 2, person.width * 0.66, 26), self.skin * 0.38, 0.75, 9
        )
        if person.hair_style not in ("long", "bob"):
            for sign in (-1, 1):
                lit = 0.8 + 0.22 * sign * person.light[0]
                ear = _ellipse(sign * (person.width + 3), 14, 10 * person.ears, 25 * person.ears)
                self._paint(image, ear, self.skin * lit, 1, 1)
                inner = _ellipse(sign * (person.width + 4), 12, 5 * person.ears, 16 * person.ears)
                self._paint(image, inner, self.skin * lit * 0.68, 0.8, 2)
        return image

    def _complexion(self) -> Array:
        """Return the colour of the bare skin, float32 [h, w, 3]."""
        person = self.person
        image = self.skin * (1 + 0.012 * self.fine + 0.022 * self.mottle)[:, :, None]
        for side in (-1, 1):
            self._paint(
                image, _ellipse(side * 50, 48, 24, 18), self.skin * (1.03, 0.9, 0.9), 0.5, 10
            )
            self._paint(
                image,
                _ellipse(side * person.eye_x, -2, 27, 15),
                self.skin * (0.8, 0.75, 0.74),
                0.55,
                7,
            )
        self._paint(image, _ellipse(0, person.nose_y, 13, 10), self.skin * (1.02, 0.9, 0.9), 0.4, 5)
        if person.beard > 0:
            low = np.clip(
                (self.y[:, None] - 66 - 0.004 * (60 - np.abs(self.x[None, :])) ** 2 / 2) / 30, 0, 1
            )
            cheeks = np.clip((np.abs(self.x)[None, :] - 62) / 16, 0, 1) * np.clip(
                (self.y[:, None] - 28) / 40, 0, 1
            )
            stubble = (person.beard * np.maximum(low, cheeks) * (0.5 + 0.07 * self.fine))[
                :, :, None
            ]
            image = image + (self.hair * 0.9 + self.skin * 0.1 - image) * np.clip(stubble, 0, 0.9)
        return image.astype(np.float32)

    def _hair_cap(self) -> tuple[Array, Array]:
        """Return colour [h, w, 3] and cover [h, w, 1] of the hair over the forehead."""
        person = self.person
        shape = (self.height, self.width)
        alpha = np.zeros(shape, np.float32)
        wide, top, line = (
            person.width + person.hair_volume * 0.55,
            person.crown + person.hair_volume,
            person.hairline,
        )
        arc = np.linspace(np.pi, 2 * np.pi, 40)
        dome = np.stack([wide * np.cos(arc), top * np.sin(arc)], axis=1)
        side = person.width
        hem = [(side * x, y - line * follows) for x, y, follows in _HEMS[person.hair_style]]
        colour = self.hair
        if hem:
            self._paint(alpha, np.concatenate([dome, np.array(hem, float)]), 1.0, 1, 1.6)
        if person.hair_style == "bald":  # cropped sides only
            for sign in (-1, 1):
                temple = np.array(
                    [(1.0, -2), (0.93, -36), (0.84, -62), (0.8, -84), (1.0, -60), (1.06, -30)]
                ) * (
                    sign * side,
                    1,
                )
                self._paint(alpha, temple, 0.75, 1, 4)
        if person.hair_style == "bun":
            self._paint(alpha, _ellipse(0, -top - 10, 30, 24), 1.0, 1, 1.5)
        if person.hair_style == "curly":
            for angle in np.linspace(np.pi * 0.98, 2.02 * np.pi, 22):
                radius = 13 + 5 * self.rng.random()
                ball = _ellipse(
                    (wide + 2) * np.cos(angle), (top + 2) * np.sin(angle), radius, radius
                )
                self._paint(alpha, ball, 1.0, 1, 1.2)
        # Strands: noise drawn out downwards, lit from above with a soft band.
        grain = 2.2 if person.hair_style == "curly" else 14
        strand = cv2.GaussianBlur(
            self.rng.standard_normal(shape).astype(np.float32), (0, 0), 0.9, sigmaY=grain
        )
        strand /= strand.std()
        band = np.exp(
            -0.5 * ((self.y[:, None] + top * 0.78 - 0.1 * np.abs(self.x)[None, :]) / 16) ** 2
        )
        sheen = 1.15 - max(person.hair) / 190  # dark hair shines, fair hair would burn out
        lit = (
            0.85
            + 0.18 * strand * (0.4 + 0.6 * sheen)
            + sheen * band * (0.55 + 0.25 * strand)
            + 0.2 * person.light[0] * self.x[None, :] / 100
        )
        cap = np.clip(colour * lit[:, :, None] + 12 * band[:, :, None], 3, 255).astype(np.float32)
        if person.glasses:
            self._glasses(cap, alpha)
        return cap, alpha[:, :, None]

    # What an expression changes

    def draw(self, action_units: Mapping[str, Number]) -> Array:
        """Draw the face with its action units: uint8 [height + margins, width + margins, 3]."""
        sides = _sides(action_units)
        jaw = 13 * max(sides[26].values())
        height = self.bones.copy()
        albedo = self.albedo.copy()
        folds = np.ones(
            (self.height, self.width), np.float32
        )  # factor on the light: 1 is smooth skin
        self._brows(albedo, folds, height, sides)
        self._eyes(albedo, folds, height, sides)
        self._nose(albedo, folds, sides)
        self._mouth(albedo, folds, height, sides, jaw)
        return self._light(self.scene if jaw == 0 else self._scene(jaw), height, albedo, folds)

    def _brows(
        self, albedo: Array, folds: Array, height: Array, sides: dict[int, dict[int, float]]
    ) -> None:
        person = self.person
        t = np.linspace(0, 1, 13)
        for row, side in enumerate((-1, 1)):
            inner, outer, lower = sides[1][side], sides[2][side], sides[4][side]
            wrinkle = sides[9][side]
            rise = 19 * inner * (1 - t) ** 1.2 + 17 * outer * np.clip(t, 0, 1) ** 0.8
            fall = (
                lower * (1 - 0.6 * inner) * (13 - 5 * t)
                + wrinkle * 8 * (1 - t) ** 1.2
                + 2.5 * sides[6][side] * t
            )
            y = (
                -person.brow_y
                - person.brow_arch * np.sin(np.pi * t**1.25)
                + person.brow_tilt * (0.5 - t)
                - rise
                + fall
            )
            start = person.eye_x - person.eye_width * 1.02 - 8 * lower - 3 * wrinkle
            end = person.eye_x + person.eye_width * 1.28 - 2 * lower
            x = side * (start + t * (end - start))
            line = np.stack([x, y], axis=1)
            width = (
                person.brow_thickness
                * (0.75 + 0.45 * np.sin(np.pi * np.clip(t * 0.9 + 0.12, 0, 1)))
                * (1 - 0.55 * t**3)
            )
            dark = self.hair * 0.7 + self.skin * 0.06
            self._paint(albedo, _strip(line, width), dark, 0.72 * person.brow_density, 1.1)
            self._hairs(albedo, line, width, row, dark * 0.8)
            # Horizontal furrows of the forehead, above what is raised.
            for level in (18, 31, 43):
                depth = 0.42 * max(inner, outer) * (1 - level / 70)
                reach = (2 if inner > 0 else 26, 66 if outer > 0 else 34)
                y = -person.brow_y - level
                points = _curve(
                    (side * reach[0], y), (side * 40, y - 9 * outer - 3), (side * reach[1], y + 6)
                )
                self._crease(folds, points, 3.2, depth)
            frown = max(lower, 0.6 * wrinkle)
            furrow = _curve(
                (side * 7, -person.brow_y - 14),
                (side * 5, -person.brow_y),
                (side * 8, -person.brow_y + 13),
            )
            self._crease(folds, furrow, 5, 0.75 * frown, 1.7)
            self._add(height, side * 13, -person.brow_y - 3 + 6 * frown, 8, 8, 4 * frown)
            # A lowered brow hoods the eye; a raised one opens the socket to the light.
            self._paint(folds, _ellipse(side * (person.eye_x - 4), -15, 24, 8), 0.6, 0.5 * frown, 4)
            self._paint(
                folds,
                _ellipse(side * person.eye_x, -person.brow_y + 2, 24, 8),
                1.18,
                0.5 * max(inner, outer) * (1 - lower),
                4,
            )

    def _hairs(self, albedo: Array, line: Array, width: Array, row: int, colour: Array) -> None:
        """Draw the single hairs of a brow."""
        place, across, lean, _ = self.strokes[row].T
        at = place * (len(line) - 1)
        root = np.stack(
            [np.interp(at, np.arange(len(line)), line[:, axis]) for axis in (0, 1)], axis=1
        )
        thick = np.interp(at, np.arange(len(line)), width)
        root[:, 1] += (across - 0.35) * thick
        side = np.sign(line[-1, 0])
        tip = root + np.stack(
            [side * (3 + 3 * lean), -(1 - place) * (4 + 2 * lean) + 1.5 * place], axis=1
        )
        ends = np.stack([root, tip], axis=1) * self.unit + self.origin
        left, top = np.floor(ends.min((0, 1)) - 3).astype(int)
        right, bottom = np.ceil(ends.max((0, 1)) + 3).astype(int)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.polylines(
            mask,
            list(np.round((ends - (left, top)) * 16).astype(np.int32)),
            False,
            190,
            1,
            cv2.LINE_AA,
            4,
        )
        window = albedo[top:bottom, left:right]
        cover = mask[: window.shape[0], : window.shape[1], None] * np.float32(
            0.55 * self.person.brow_density / 255
        )
        window += (colour - window) * cover

    def _eyes(
        self, albedo: Array, folds: Array, height: Array, sides: dict[int, dict[int, float]]
    ) -> None:
        person = self.person
        t = np.linspace(-1, 1, 21)
        for side in (-1, 1):
            cheek, tight, wide = sides[6][side], sides[7][side], sides[5][side]
            up = (
                person.eye_upper
                + 6 * wide
                - 2.2 * cheek
                - 4.0 * tight
                - 2 * sides[4][side]
                - 2 * sides[9][side]
            )
            up = max(up + 1.2 * sides[2][side] + 1.0 * sides[1][side], 2.0)
            down = max(
                person.eye_lower + 0.8 * wide - 3.6 * cheek - 4.2 * tight - 2 * sides[9][side], 0.6
            )
            base = -person.eye_tilt * t
            x = side * (person.eye_x + t * person.eye_width)
            bow = np.clip(1 - np.abs(t + 0.08) ** 2.3, 0, 1) ** 0.75
            upper = np.stack([x, base - up * bow], axis=1)
            lower = np.stack(
                [x, base + down * np.clip(1 - np.abs(t - 0.1) ** 2.2, 0, 1) ** 0.85], axis=1
            )
            upper[[0, -1], 1] = lower[[0, -1], 1] = base[[0, -1]]
            outline = np.concatenate([upper, lower[::-1]])
            mask, rows, columns = self._mask(outline, 0.35)
            opening = np.zeros((self.height, self.width), np.float32)
            opening[rows, columns] = mask
            self._paint(albedo, outline, (204, 196, 190), 1, 0.3)
            centre = (side * person.eye_x, -1.6)
            iris = np.array(person.iris)
            self._paint(albedo, _ellipse(*centre, 9.6, 9.6), iris * 0.6, 1, 0.5, opening)
            self._paint(
                albedo,
                _ellipse(centre[0], centre[1] + 1.2, 7.8, 7.4),
                iris * 1.25,
                0.8,
                1.0,
                opening,
            )
            self._paint(albedo, _ellipse(*centre, 4.2, 4.2), (10, 8, 8), 1, 0.4, opening)
            # The lid's shadow on the eyeball, then the glint over all.
            self._paint(
                albedo,
                _strip(upper + np.array((0, 1.5)), np.full(21, 6.0)),
                (60, 45, 42),
                0.55,
                1.2,
                opening,
            )
            glint = (centre[0] + 3.2 * np.sign(person.light[0]), centre[1] - 3)
            self._paint(albedo, _ellipse(*glint, 1.9, 1.9), (255, 255, 255), 0.95, 0.3, opening)
            lash = (2.2 + 1.4 * np.linspace(0, 1, 21)) * np.sin(
                np.linspace(0.25, np.pi - 0.3, 21)
            ) ** 0.5
            self._paint(albedo, _strip(upper, lash * 1.25), self.skin * 0.10 + 12, 0.92, 0.45)
            self._paint(
                albedo,
                _strip(lower, 1.1 * np.sin(np.linspace(0.1, 3.0, 21))),
                self.skin * 0.42,
                0.6,
                0.6,
            )
            if person.eye_crease > 1:
                crease = (
                    upper
                    - (0, person.eye_crease + 1)
                    + np.stack([0 * t, 1.5 * np.abs(t) ** 2], axis=1)
                )
                self._crease(folds, crease[1:-1], 2.2, 0.5, 0.7)
            # Bag below the eye, deeper as the cheek comes up; then crow's feet at the outer corner.
            lift = max(cheek, 0.6 * tight)
            low = base[10] + down
            pouch = _curve((side * (person.eye_x - 18), low + 5), (side * person.eye_x, low + 13 - 4 * lift),
                           (side * (person.eye_x + 20), low + 3))  # fmt: skip
            self._crease(folds, pouch, 3.5, 0.16 + 0.5 * lift, 1.4)
            self._add(height, side * person.eye_x, low + 5, 15, 3.5, 1.0 + 2.2 * lift)
            for angle in (-0.45, 0.0, 0.42):
                root = np.array(
                    [side * (person.eye_x + person.eye_width + 5), base[-1] + 14 * angle]
                )
                tip = root + np.array((side * 15, 15 * math.sin(angle)))
                self._crease(folds, np.linspace(root, tip, 6), 3.2, 0.55 * cheek, 1.4)

    def _nose(self, albedo: Array, folds: Array, sides: dict[int, dict[int, float]]) -> None:
        person = self.person
        for side in (-1, 1):
            wrinkle, raised = sides[9][side], sides[10][side]
            lift = 5 * wrinkle + 2 * raised
            spread = person.nose_width + 2.2 * wrinkle + 1.5 * sides[12][side]
            base = person.nose_y + 8 - lift
            shade = _curve(
                (side * 5, -6),
                (side * 8, person.nose_y * 0.5),
                (side * spread * 0.72, person.nose_y - 8),
            )
            self._paint(folds, _strip(shade, np.linspace(7, 9, 14)), 0.8, 0.38, 3.2)
            self._paint(
                albedo, _ellipse(side * spread * 0.5, base, 4.0, 2.2), self.skin * 0.22, 0.85, 0.9
            )
            wing = _curve(
                (side * (spread - 2), base - 14),
                (side * (spread + 5), base - 3),
                (side * (spread - 5), base + 2),
            )
            self._crease(folds, wing, 3.2, 0.55, 0.9)
            # Wrinkles run from the root of the nose to its wings.
            for level in (0.05, 0.3, 0.55):
                y = person.nose_y * level - 6
                points = _curve((side * 1, y - 3), (side * 8, y - 1), (side * 15, y + 8))
                self._crease(folds, points, 4.5, 0.8 * wrinkle, 1.6)
        self._paint(
            folds, _ellipse(0, person.nose_y + 12, person.nose_width * 0.7, 3), 0.75, 0.45, 2.6
        )
        self._paint(folds, _ellipse(0, person.nose_y - 2, 4.5, 4), 1.16, 0.7, 2.2)

    def _mouth(
        self,
        albedo: Array,
        folds: Array,
        height: Array,
        sides: dict[int, dict[int, float]],
        jaw: Number,
    ) -> None:
        person = self.person
        both = {unit: (sides[unit][-1] + sides[unit][1]) / 2 for unit in _UNITS}
        t = np.linspace(-1, 1, 33)
        bell = np.clip(1 - np.abs(t) ** 2.2, 0, 1)
        side_of = np.where(t < 0, 0, 1)

        def pull(amounts: Mapping[int, Number]) -> Array:
            """Return one weight a point of the lip line, by its side; the middle takes the mean."""
            values = np.array(
                [sum(a * sides[unit][s] for unit, a in amounts.items()) for s in (-1, 1)]
            )
            blend = np.clip(np.abs(t) * 3, 0, 1)
            return values[side_of] * blend + values.mean() * (1 - blend)

        out = pull({12: 12, 14: 6, 15: -1, 20: 17, 17: -4, 26: -4, 10: 1})
        lift = pull({12: -15, 15: 17, 20: 3, 14: -4, 17: 3})
        x = t * person.mouth_width + np.sign(t) * out * np.abs(t) ** 1.3
        middle = person.mouth_y + 2 * both[12] - 7.5 * both[17] - 1.5 * both[15] + jaw * 0.25
        line = middle + lift * np.abs(t) ** 1.9
        gap = 15 * both[25] + jaw * 1.0 + 4.5 * both[10] + 1.5 * both[9]
        raised = pull({10: 11, 9: 6}) * (1 - np.abs(t) ** 2)
        inner_up = line - bell * gap * 0.35 - raised
        inner_down = line + bell * gap * 0.65 - raised * 0.1
        thin = (
            1
            - 0.35 * both[12]
            - 0.45 * both[14]
            - 0.3 * both[20]
            - 0.35 * both[17]
            - 0.15 * both[15]
        )
        bow = bell**0.8 * (
            1
            - 0.26 * np.exp(-((t / 0.10) ** 2))
            + 0.10 * np.exp(-(((np.abs(t) - 0.22) / 0.12) ** 2))
        )
        outer_up = inner_up - person.lip_upper * max(thin, 0.3) * bow * 1.15
        pout = 1 + 0.35 * both[17]
        outer_down = inner_down + person.lip_lower * max(thin, 0.3) * pout * bell**0.75

        lip = np.array(person.lip)
        top = np.stack([x, outer_up], 1)
        bottom = np.stack([x, outer_down], 1)
        parting_up, parting_down = np.stack([x, inner_up], 1), np.stack([x, inner_down], 1)
        self._paint(albedo, np.concatenate([top, parting_up[::-1]]), lip * 0.80, 0.92, 0.8)
        self._paint(albedo, np.concatenate([parting_down, bottom[::-1]]), lip * 1.06, 0.88, 0.9)
        if gap > 0.5:
            inside = np.concatenate([parting_up, parting_down[::-1]])
            mask, rows, columns = self._mask(inside, 0.4)
            opening = np.zeros((self.height, self.width), np.float32)
            opening[rows, columns] = mask
            self._paint(albedo, inside, (42, 16, 16), min(gap / 3, 1), 0.4)
            teeth = np.concatenate(
                [parting_up, (parting_up + np.array((0, min(gap * 0.3, 5.5))))[::-1]]
            )
            self._paint(albedo, teeth, (212, 205, 196), min(gap / 8, 1) * 0.75, 0.9, opening)
        seam = 2.4 * np.clip(1 - np.abs(t) ** 6, 0.35, 1)
        self._paint(
            albedo,
            _strip(np.stack([x, (inner_up + inner_down) / 2 if gap < 1 else inner_up], 1), seam),
            lip * 0.26,
            0.9,
            0.6,
        )
        # Light on the lips: the upper one turns from it, the lower one catches it.
        self._paint(folds, np.concatenate([top, parting_up[::-1]]), 0.80, 0.6, 1.2)
        shine = person.lip_lower * max(thin, 0.3) * 0.38
        self._paint(
            folds,
            _ellipse(x[16] - 3, inner_down[16] + shine, person.mouth_width * 0.42, shine * 0.8),
            1.25,
            0.7,
            2,
        )
        under = outer_down[16] + 5
        self._paint(
            folds,
            _ellipse(0, under, person.mouth_width * 0.55, 3.2),
            0.72,
            0.55 + 0.35 * both[17],
            3,
        )
        self._paint(
            folds, _ellipse(0, (person.nose_y + 12 + outer_up[16]) / 2, 3.0, 6), 0.84, 0.6, 1.6
        )
        self._add(height, 0, outer_down[16] + 24, 19, 12, 6 + 5 * both[17])
        if both[17] > 0:  # the chin bunches up and dimples
            for place, level in (
                (-11, 16),
                (-4, 24),
                (5, 19),
                (11, 27),
                (-9, 31),
                (2, 12),
                (8, 35),
                (0, 32),
            ):
                self._paint(
                    folds,
                    _ellipse(place, outer_down[16] + level, 4.2, 2.6),
                    0.6,
                    0.5 * both[17],
                    2.0,
                )
            arc = _curve((-26, under + 16), (0, under - 8), (26, under + 16))
            self._crease(folds, arc, 5, 0.55 * both[17], 1.5)
        for side, corner in ((-1, 0), (1, -1)):
            smile, wrinkle, raising = sides[12][side], sides[9][side], sides[10][side]
            cx, cy = float(x[corner]), float(line[corner])
            self._paint(folds, _ellipse(cx + side * 1.5, cy, 4, 3.2), 0.66, 0.55, 1.6)
            depth = (
                person.folds + 0.6 * smile + 0.55 * wrinkle + 0.65 * raising + 0.2 * sides[6][side]
            )
            foot = (cx + side * (9 + 3 * smile), cy + 4 - 6 * smile)
            start = (side * (person.nose_width + 3), person.nose_y - 4 - 6 * wrinkle - 4 * raising)
            control = (side * (person.nose_width + 17 + 9 * smile), person.nose_y + 9 - 4 * raising)
            self._crease(folds, _curve(start, control, foot), 6.5, 0.95 * depth, 2.6)
            puff = 0.8 * smile + 0.9 * sides[6][side] + 0.4 * wrinkle + 0.4 * raising
            self._add(height, side * 50, 36 - 5 * sides[6][side], 19, 12, 7 * puff)
            dimple = sides[14][side]
            self._paint(folds, _ellipse(cx + side * 6, cy, 3.6, 8.0), 0.4, 0.75 * dimple, 2.6)
            pit = _curve((cx + side * 7, cy - 15), (cx + side * 15, cy), (cx + side * 7, cy + 13))
            self._crease(folds, pit, 5, 0.75 * dimple, 1.9)
            self._add(height, side * (abs(cx) + 17), cy, 8, 12, 6 * dimple)
            sag = _curve(
                (cx + side * 1, cy + 2), (cx + side * 7, cy + 10), (cx + side * 3, cy + 24)
            )
            self._crease(folds, sag, 4.5, 0.75 * sides[15][side], 1.6)
            stretch = _curve(
                (cx + side * 5, cy - 12), (cx + side * 11, cy + 2), (cx + side * 6, cy + 16)
            )
            self._crease(folds, stretch, 4, 0.5 * sides[20][side], 1.8)

    def _scene(self, jaw_drop: Number) -> tuple[Array, Array, Array]:
        """Return what an expression needs but cannot change: the head's relief, its share of the
        picture, and the rest.

        All are windows on the head; the picture there is `lit * share + rest`.
        """
        rows, columns = self.window
        skull = self._skull(jaw_drop)[rows, columns]
        relief = 74 * np.sqrt(np.maximum(1 - np.minimum(skull, 1) ** 2.6, 0.0004))
        edge = np.clip((1 - skull) * (self.person.width * self.unit * 0.55) + 0.5, 0, 1)[:, :, None]
        bare = 1 - self.cover_alpha[rows, columns]
        rest = self.back[rows, columns] * (1 - edge) * bare + self.cover[rows, columns] * (1 - bare)
        share = np.repeat(edge * bare, 3, axis=2)
        return relief.astype(np.float32), share.astype(np.float32), rest.astype(np.float32)

    def _light(
        self, scene: tuple[Array, Array, Array], height: Array, albedo: Array, folds: Array
    ) -> Array:
        """Return the lit picture: Lambert's law on the height field, a little gloss, and the hair
        over it.
        """
        relief, share, rest = scene
        window = self.window
        relief = cv2.GaussianBlur(relief + height[window], (0, 0), 1.6 * self.unit)
        across = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=self.unit / 8)
        down = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=self.unit / 8)
        right, below = self.person.light
        length = math.sqrt(right * right + below * below + 1)
        facing = (1 - across * right - down * below) / (
            np.sqrt(across * across + down * down + 1) * length
        )
        facing = np.maximum(facing, 0)
        gloss = facing * facing
        gloss *= gloss
        gloss *= gloss
        ambient = self.person.ambient
        shade = (ambient + (1.12 - ambient) * facing) * folds[window]
        gloss = 16 * gloss * gloss * folds[window]
        lit = cv2.add(
            cv2.multiply(albedo[window], cv2.merge((shade, shade, shade))),
            cv2.merge((gloss, gloss, gloss)),
        )
        image = self.still.copy()
        image[window] = cv2.add(cv2.multiply(lit, share), rest, dtype=cv2.CV_8U)
        return image

    def _glasses(self, colour: Array, alpha: Array) -> None:
        """Paint the glasses into the layer that covers the face."""
        person = self.person
        far, near = person.eye_x + person.glasses, person.eye_x - person.glasses
        bridge = _curve((-near, 0), (0, -6), (near, 0))
        shapes = [_strip(bridge, np.full(14, 2.8))]
        for side in (-1, 1):
            ring = _ellipse(side * person.eye_x, 2.0, person.glasses, person.glasses * 0.8, 40)
            shapes.append(_strip(np.concatenate([ring, ring[:2]]), np.full(42, 2.6)))
            arm = np.linspace((side * far, -2), (side * (person.width + 2), -5), 4)
            shapes.append(_strip(arm, np.full(4, 3.0)))
        for shape in shapes:
            self._paint(colour, shape, (34, 30, 32), 1.0, 1.0)
            self._paint(alpha, shape, 1.0, 0.92, 0.4)
