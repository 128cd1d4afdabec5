"""Drawings of invented faces: shaded, and moved by the action units of FACS.

An `Identity` describes a person; action units of the Facial Action Coding System (Ekman & Friesen
1978) describe the expression. Lengths are in pixels of a picture that is 280 wide, measured from
the point between the eyes.
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

Number = float | int  # the shape checker of the tests does not accept an int as a float

# The edge of the hair on the face, from the picture's right to its left: x as a share of half the
# head's width, y from the eyes, and whether (1) or not (0) the point moves with the hairline.
_HAIR_EDGES: dict[str, tuple[tuple[float, float, int], ...]] = {
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

_HAIR_STYLES = tuple(_HAIR_EDGES)

# pixels drawn beyond the picture's edge, so that a moving head never shows a border
MARGIN_PIXELS = 10

# what covers less than this share of what is below it is not drawn
MIN_ALPHA = 0.004


@dataclass(frozen=True)
class Pose:
    """The position of the head: shift in pixels, angle in degrees, and size as a factor."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Identity:
    """One invented person.

    Lengths are in pixels of a picture 280 wide, colours are RGB in 0..255, other values factors.
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
    eye_width: float  # half of it
    eye_upper: float  # height of the upper lid above the corners' line
    eye_lower: float
    eye_tilt: float
    eye_crease: float  # height of the fold above the edge of the upper lid; 0 for none
    brow_y: float  # above the eyes
    brow_arch: float
    brow_thickness: float
    brow_tilt: float
    brow_density: float
    nose_y: float  # of the tip, below the eyes
    nose_width: float
    nose_height: float
    mouth_y: float
    mouth_width: float  # half of it
    lip_upper: float
    lip_lower: float
    cheeks: float
    folds: float  # naso-labial, at rest
    ears: float
    glasses: float  # the size of a lens; 0 for no glasses
    beard: float  # 0 is shaven, 1 a dark stubble
    light: tuple[float, float]  # its direction: right, down
    ambient: float
    offset: tuple[float, float]
    scale: float
    texture: int  # seed of skin, brow and hair texture


def invent_identity(seed: int, number: int) -> Identity:
    """Return the invented person `number` of `seed`; equal numbers always give the same
    person.
    """
    rng = seeds.make_rng("toy", "identity", seed, number)

    def draw_between(low: Number, high: Number) -> float:
        return float(rng.uniform(low, high))

    def draw_colour(*ranges: tuple[Number, Number]) -> tuple[float, float, float]:
        red, green, blue = (draw_between(*limits) for limits in ranges)
        return red, green, blue

    # Steps by the golden ratio spread the tones of consecutive people better than chance.
    tone = (
        0.618034 * number + draw_between(0, 0.25) + seeds.derive_seed("toy-tone", seed) % 997 / 997
    ) % 1.0
    skin = np.array([238, 200, 175]) * (1 - tone) + np.array([146, 103, 78]) * tone

    # Lips and hair have colours that go with the skin.
    lip = skin * np.array([0.80, 0.56, 0.58]) + np.array([14.0, 4.0, 6.0]) + draw_between(-6, 6)
    dark_hair = _limit_colour(np.array([1.0, 0.84, 0.76]) * draw_between(22, 50))
    fair_hair = _limit_colour(np.array([1.0, 0.74, 0.5]) * draw_between(80, 175))
    hair = dark_hair if tone > 0.35 or draw_between(0, 1) < 0.5 else fair_hair
    style = _HAIR_STYLES[(number + seeds.derive_seed("toy-style", seed)) % len(_HAIR_STYLES)]

    # The order of these draws determines the person, so it must not change.
    # fmt: off
    return Identity(
        width=draw_between(88, 106), chin=draw_between(134, 160), crown=draw_between(112, 128),
        jaw=draw_between(2.0, 2.9), taper=draw_between(0.02, 0.22),
        skin=_limit_colour(skin), lip=_limit_colour(lip), hair=hair,
        iris=draw_colour((38, 70), (26, 50), (18, 40)),
        background=_limit_colour(np.full(3, draw_between(70, 205)) + rng.uniform(-8, 8, 3)),
        cloth=draw_colour((30, 210), (30, 210), (30, 210)),
        hair_style=style, hairline=draw_between(62, 84), hair_volume=draw_between(8, 20),
        eye_x=draw_between(41, 50), eye_width=draw_between(19, 24.5),
        eye_upper=draw_between(7.5, 11), eye_lower=draw_between(4.5, 6.5),
        eye_tilt=draw_between(-1.2, 2.8), eye_crease=max(0.0, draw_between(-3, 7)),
        brow_y=draw_between(23, 30), brow_arch=draw_between(1, 7),
        brow_thickness=draw_between(4.0, 8.5),
        brow_tilt=draw_between(-3, 3),
        brow_density=draw_between(0.65, 1.0) if tone > 0.35 else draw_between(0.5, 0.95),
        nose_y=draw_between(52, 62), nose_width=draw_between(13, 20),
        nose_height=draw_between(0.75, 1.2),
        mouth_y=draw_between(94, 103), mouth_width=draw_between(30, 40),
        lip_upper=draw_between(5, 9.5), lip_lower=draw_between(8, 13),
        cheeks=draw_between(0.5, 1.3), folds=draw_between(0.05, 0.35), ears=draw_between(0.7, 1.25),
        glasses=draw_between(25, 30) if draw_between(0, 1) < 0.27 else 0.0,
        beard=(
            draw_between(0.3, 0.9)
            if style in ("short", "bald", "parted") and draw_between(0, 1) < 0.45 else 0.0
        ),
        light=(draw_between(-0.55, 0.55), draw_between(-0.5, -0.15)),
        ambient=draw_between(0.34, 0.5),
        offset=(draw_between(-3, 3), draw_between(-3, 3)), scale=draw_between(1.07, 1.14),
        texture=int(rng.integers(2**31)),
    )


def draw_face(
    identity: Identity,
    action_units: Mapping[str, Number],
    size: tuple[int, int] = (340, 280),
    pose: Pose = Pose(),
) -> Array:
    """Return a drawing of one face: uint8 [height, width, 3], RGB, for `size` (height, width).

    `action_units` maps units of the Facial Action Coding System (Ekman & Friesen 1978) to
    intensities in 0..1: `"12"` moves both sides, `"L12"` the subject's left (the picture's right).
    The units 1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 25 and 26 can be drawn; any other raises
    UsageError.
    """
    return apply_pose(DrawnHead(identity, size).draw(action_units), pose, size)


# Drawing


def apply_pose(canvas: Array, pose: Pose, size: tuple[int, int]) -> Array:
    """Return the picture inside the margin of a canvas, shifted and rotated about its centre."""
    height, width = size
    centre = (canvas.shape[1] / 2, canvas.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(centre, pose.angle, pose.scale)
    matrix[:, 2] += (pose.x - MARGIN_PIXELS, pose.y - MARGIN_PIXELS)
    return cv2.warpAffine(
        canvas, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def parse_drawn_units(action_units: str) -> list[tuple[str, int]]:
    """Return (side, number) for each unit of a text such as `4+L10`; both sides have an empty side.

    Raises UsageError for any other text.
    """
    units: list[tuple[str, int]] = []
    for term in action_units.replace(" ", "").split("+"):
        match = re.fullmatch(r"([LR]?)(\d+)", term)
        if match is None:
            raise UsageError(
                f"Action units must look like '6+12' or '4+L10', not '{action_units}'; correct the "
                "string."
            )
        units.append((match[1], int(match[2])))
    return units


def _limit_colour(values: Iterable[Number]) -> tuple[float, float, float]:
    red, green, blue = (float(min(max(value, 0), 255)) for value in values)
    return red, green, blue


_DRAWN_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 25, 26)


def _split_intensities(action_units: Mapping[str, Number]) -> dict[int, dict[int, float]]:
    """Return the intensity by unit and by side of the picture: -1 is its left, +1 its right."""
    sides = {unit: {-1: 0.0, 1: 0.0} for unit in _DRAWN_UNITS}
    for text, value in action_units.items():
        for side, unit in parse_drawn_units(text):
            if unit not in sides:
                raise UsageError(
                    f"Action units must be among {', '.join(map(str, _DRAWN_UNITS))}, not {unit}; "
                    "choose from these."
                )
            for sign in {"": (-1, 1), "R": (-1,), "L": (1,)}[side]:
                sides[unit][sign] = max(sides[unit][sign], float(value))
    return sides


def _outline_stroke(points: Array, widths: Array) -> Array:
    """Return the outline of a stroke along `points` [n, 2] with `widths` [n]."""
    slope = np.gradient(points, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    half = normal * widths[:, None] / 2
    return np.concatenate([points + half, (points - half)[::-1]])


def _compute_bezier_points(*corners: tuple[Number, Number], count: int = 14) -> Array:
    """Return `count` points of the Bezier curve with three control points."""
    first, control, last = (np.array(corner) for corner in corners)
    t = np.linspace(0, 1, count)[:, None]
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * control + t**2 * last


def _compute_ellipse_points(
    x: Number, y: Number, across: Number, down: Number, count: int = 28
) -> Array:
    """Return `count` points of an ellipse about (x, y) with the half axes `across` and `down`."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


# Positions along an eye and along the lips, from one corner (-1) to the other (1)
_EYE_LINE = np.linspace(-1, 1, 21)
_MOUTH_LINE = np.linspace(-1, 1, 33)
_BROW_LINE = np.linspace(0, 1, 13)


@dataclass(frozen=True)
class MouthShape:
    """The lines of a mouth at the positions of `_MOUTH_LINE`, in pixels of the drawing.

    `x` and `line` are where the lips meet when they are closed. `inner_up`, `inner_down`,
    `outer_up` and `outer_down` are the heights of the edges of the lips. `gap` is how far the mouth
    is open, and `thin` is how thick the lips are, as a share of their thickness at rest.
    """

    x: Array
    line: Array
    inner_up: Array
    inner_down: Array
    outer_up: Array
    outer_down: Array
    gap: Number
    thin: Number


class DrawnHead:
    """One person at one picture size.

    The parts that no expression changes are drawn once; `draw` then adds each expression.
    """

    def __init__(self, person: Identity, size: tuple[int, int]) -> None:
        self.person = person

        # Set up the coordinates of the canvas.
        self.height, self.width = size[0] + 2 * MARGIN_PIXELS, size[1] + 2 * MARGIN_PIXELS
        self.unit = size[1] / 280 * person.scale  # pixels per unit of length
        self.origin = np.array(
            [self.width / 2 + person.offset[0], self.height * 0.45 + person.offset[1]]
        )
        self.x = ((np.arange(self.width, dtype=np.float32) - self.origin[0]) / self.unit).astype(
            np.float32
        )
        self.y = ((np.arange(self.height, dtype=np.float32) - self.origin[1]) / self.unit).astype(
            np.float32
        )

        # Draw the random textures; their order determines them.
        self.rng = np.random.default_rng(person.texture)
        self.skin = np.array(person.skin, np.float32)
        self.hair = np.array(person.hair, np.float32)
        self.fine = self._make_noise(1.0)  # pores
        self.mottle = self._make_noise(9.0)
        self.strokes = self.rng.uniform(0, 1, (2, 90, 4))

        # Draw the parts that no expression changes.
        self.bones = self._model_bones()
        self.back = self._draw_backdrop()
        self.albedo = self._draw_complexion()
        self.cover, self.cover_alpha = self._draw_hair_cap()

        # Prepare the window of the head, the only part that an expression changes.
        rows = np.searchsorted(self.y, (-person.crown - 4, person.chin + 18))
        columns = np.searchsorted(self.x, (-person.width - 4, person.width + 4))
        self.window = (slice(*map(int, rows)), slice(*map(int, columns)))
        self.scene = self._prepare_scene(0.0)
        resting = self.back + (self.cover - self.back) * self.cover_alpha
        self.resting_image = np.clip(resting + 0.5, 0, 255).astype(np.uint8)

    # Tools: all lengths are in units from the point between the eyes

    def _make_noise(self, grain: Number) -> Array:
        """Return smooth noise of standard deviation 1, [h, w], with grains of `grain` units."""
        noise = self.rng.standard_normal((self.height, self.width)).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), grain * self.unit)
        return noise / noise.std()

    def _add_bell(
        self, field: Array, x: Number, y: Number, across: Number, down: Number, size: Number
    ) -> None:
        """Add a Gaussian bell to `field`, in place, where it is not close to zero."""
        left, right = np.searchsorted(self.x, (x - 3.5 * across, x + 3.5 * across))
        top, bottom = np.searchsorted(self.y, (y - 3.5 * down, y + 3.5 * down))
        column = size * np.exp(-0.5 * ((self.y[top:bottom] - y) / down) ** 2)
        field[top:bottom, left:right] += np.outer(
            column, np.exp(-0.5 * ((self.x[left:right] - x) / across) ** 2)
        )

    def _rasterise(self, outline: Array, soft: Number) -> tuple[Array, slice, slice]:
        """Return a polygon's coverage 0..1 in its window of the canvas; `soft` blurs its edge."""
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
        """Blend `colour` into `target` inside a polygon, in place.

        With `within` [h, w], the polygon's coverage is multiplied by it.
        """
        if alpha <= MIN_ALPHA:
            return
        mask, rows, columns = self._rasterise(outline, soft)
        mask *= alpha
        window = target[rows, columns]
        if within is not None:
            mask *= within[rows, columns]
        if target.ndim == 3:
            mask = mask[:, :, None]
        window += (np.asarray(colour, np.float32) - window) * mask[
            : window.shape[0], : window.shape[1]
        ]

    def _draw_crease(
        self, target: Array, points: Array, width: Number, depth: Number, soft: Number = 1.3
    ) -> None:
        """Darken the skin along a line that becomes thin at both ends."""
        if depth <= MIN_ALPHA:
            return
        taper = np.sin(np.linspace(0.12, np.pi - 0.12, len(points)))
        self._paint(target, _outline_stroke(points, width * taper), 0.45, min(depth, 0.95), soft)

    # Parts that no expression changes

    def _measure_skull(self, jaw_drop: Number) -> Array:
        """Return a map that is 0 at the face's centre and 1 on its outline, [h, w].

        The chin is `jaw_drop` lower than at rest.
        """
        person = self.person
        chin = person.chin + jaw_drop
        low = np.clip(self.y / chin, 0, 1)[:, None]
        across = np.abs(self.x)[None, :] / (person.width * (1 - person.taper * low**1.5))
        down = np.where(self.y > 0, self.y / chin, -self.y / person.crown)[:, None]
        shape = np.where(self.y > 0, person.jaw, 2.3)[:, None].astype(np.float32)
        return np.power(np.power(across, shape) + np.power(down, shape), 1 / shape)

    def _model_bones(self) -> Array:
        """Return the relief of nose, eye sockets, brow ridge, cheeks and chin, [h, w]."""
        person = self.person
        field = np.zeros((self.height, self.width), np.float32)

        # Sockets, brows, cheeks and nostrils are on both sides.
        for side in (-1, 1):
            self._add_bell(field, side * person.eye_x, -3, 25, 13, -9)
            self._add_bell(field, side * person.eye_x, -1, 15, 8, 5)  # the eyeball in its socket
            self._add_bell(field, side * person.eye_x * 0.9, -person.brow_y - 2, 30, 8, 3.5)
            self._add_bell(field, side * (person.width * 0.58), 40, 24, 18, 8 * person.cheeks)
            self._add_bell(field, side * 62, 92, 18, 22, -4 * (1.6 - person.cheeks))
            self._add_bell(field, side * person.nose_width * 0.78, person.nose_y + 3, 6.5, 6, 8)

        # The ridge of the nose rises towards its tip, which is a bell of its own.
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
        self._add_bell(field, 0, length, 8.5, 7.5, 7)
        return field

    def _draw_backdrop(self) -> Array:
        """Return wall, hair behind the head, neck, shoulders and ears: float32 [h, w, 3]."""
        person = self.person
        # The wall is brighter towards the light.
        brightness = (
            1 + 0.10 * person.light[0] * self.x[None, :] / 140 - 0.06 * self.y[:, None] / 170
        )
        image = np.array(person.background, np.float32) * brightness[:, :, None]

        # Draw long hair behind the head.
        if person.hair_style in ("long", "bob"):
            end = 240 if person.hair_style == "long" else 120
            wide = person.width + 10 + person.hair_volume
            # fmt: off
            hang = np.array([
                (-wide, -40), (-wide - 5, 40), (-wide + 2, end), (wide - 2, end), (wide + 5, 40),
                (wide, -40), (wide * 0.7, -110), (0, -138), (-wide * 0.7, -110),
            ], float)
            # fmt: on
            self._paint(image, hang, self.hair * 0.75, 1, 3)

        # Draw the neck, the shoulders, and the shadow under the chin.
        neck = person.width * 0.62
        # fmt: off
        throat = np.array([
            (-neck, 60), (-neck, 150), (-neck - 16, 210),
            (neck + 16, 210), (neck, 150), (neck, 60),
        ], float)
        shoulders = np.array([
            (-190, 205), (-neck - 10, 172), (-neck * 0.6, 186), (0, 196), (neck * 0.6, 186),
            (neck + 10, 172), (190, 205), (190, 300), (-190, 300),
        ], float)
        # fmt: on
        self._paint(image, throat, self.skin * 0.66, 1, 2.5)
        self._paint(image, shoulders, np.array(person.cloth) * 0.75, 1, 1.5)
        self._paint(
            image,
            _compute_ellipse_points(0, person.chin + 2, person.width * 0.66, 26),
            self.skin * 0.38,
            0.75,
            9,
        )

        # Draw the ears, which long hair covers.
        if person.hair_style not in ("long", "bob"):
            for sign in (-1, 1):
                lit = 0.8 + 0.22 * sign * person.light[0]
                ear = _compute_ellipse_points(
                    sign * (person.width + 3), 14, 10 * person.ears, 25 * person.ears
                )
                self._paint(image, ear, self.skin * lit, 1, 1)
                inner = _compute_ellipse_points(
                    sign * (person.width + 4), 12, 5 * person.ears, 16 * person.ears
                )
                self._paint(image, inner, self.skin * lit * 0.68, 0.8, 2)
        return image

    def _draw_complexion(self) -> Array:
        """Return the colour of the bare skin, float32 [h, w, 3]."""
        person = self.person
        image = self.skin * (1 + 0.012 * self.fine + 0.022 * self.mottle)[:, :, None]

        # Redden the cheeks and the nose, and darken the skin around the eyes.
        for side in (-1, 1):
            self._paint(
                image,
                _compute_ellipse_points(side * 50, 48, 24, 18),
                self.skin * (1.03, 0.9, 0.9),
                0.5,
                10,
            )
            self._paint(
                image,
                _compute_ellipse_points(side * person.eye_x, -2, 27, 15),
                self.skin * (0.8, 0.75, 0.74),
                0.55,
                7,
            )
        self._paint(
            image,
            _compute_ellipse_points(0, person.nose_y, 13, 10),
            self.skin * (1.02, 0.9, 0.9),
            0.4,
            5,
        )

        # Darken the chin and the cheeks with stubble.
        if person.beard > 0:
            chin = np.clip(
                (self.y[:, None] - 66 - 0.004 * (60 - np.abs(self.x[None, :])) ** 2 / 2) / 30, 0, 1
            )
            cheeks = np.clip((np.abs(self.x)[None, :] - 62) / 16, 0, 1) * np.clip(
                (self.y[:, None] - 28) / 40, 0, 1
            )
            stubble = (person.beard * np.maximum(chin, cheeks) * (0.5 + 0.07 * self.fine))[
                :, :, None
            ]
            image = image + (self.hair * 0.9 + self.skin * 0.1 - image) * np.clip(stubble, 0, 0.9)
        return image.astype(np.float32)

    def _draw_hair_cap(self) -> tuple[Array, Array]:
        """Return colour [h, w, 3] and cover [h, w, 1] of the hair over the forehead."""
        person = self.person
        shape = (self.height, self.width)
        alpha = np.zeros(shape, np.float32)

        # Cover the skull with a dome down to the edge of the hair.
        half_width, top, hairline = (
            person.width + person.hair_volume * 0.55,
            person.crown + person.hair_volume,
            person.hairline,
        )
        arc = np.linspace(np.pi, 2 * np.pi, 40)
        dome = np.stack([half_width * np.cos(arc), top * np.sin(arc)], axis=1)
        hem = [
            (person.width * x, y - hairline * follows)
            for x, y, follows in _HAIR_EDGES[person.hair_style]
        ]
        colour = self.hair
        if hem:
            self._paint(alpha, np.concatenate([dome, np.array(hem, float)]), 1.0, 1, 1.6)

        # Add the cropped sides, the bun or the curls.
        if person.hair_style == "bald":
            for sign in (-1, 1):
                # fmt: off
                temple = np.array(
                    [(1.0, -2), (0.93, -36), (0.84, -62), (0.8, -84), (1.0, -60), (1.06, -30)]
                ) * (sign * person.width, 1)
                # fmt: on
                self._paint(alpha, temple, 0.75, 1, 4)
        if person.hair_style == "bun":
            self._paint(alpha, _compute_ellipse_points(0, -top - 10, 30, 24), 1.0, 1, 1.5)
        if person.hair_style == "curly":
            for angle in np.linspace(np.pi * 0.98, 2.02 * np.pi, 22):
                radius = 13 + 5 * self.rng.random()
                ball = _compute_ellipse_points(
                    (half_width + 2) * np.cos(angle), (top + 2) * np.sin(angle), radius, radius
                )
                self._paint(alpha, ball, 1.0, 1, 1.2)

        # Draw strands as noise stretched downwards, with a soft band of light from above.
        grain = 2.2 if person.hair_style == "curly" else 14
        strand = cv2.GaussianBlur(
            self.rng.standard_normal(shape).astype(np.float32), (0, 0), 0.9, sigmaY=grain
        )
        strand /= strand.std()
        shine = np.exp(
            -0.5 * ((self.y[:, None] + top * 0.78 - 0.1 * np.abs(self.x)[None, :]) / 16) ** 2
        )
        sheen = 1.15 - max(person.hair) / 190  # only dark hair shines: fair hair would become white
        light = (
            0.85
            + 0.18 * strand * (0.4 + 0.6 * sheen)
            + sheen * shine * (0.55 + 0.25 * strand)
            + 0.2 * person.light[0] * self.x[None, :] / 100
        )
        cap = np.clip(colour * light[:, :, None] + 12 * shine[:, :, None], 3, 255).astype(
            np.float32
        )
        if person.glasses:
            self._draw_glasses(cap, alpha)
        return cap, alpha[:, :, None]

    # Parts that an expression changes

    def locate(self, action_units: Mapping[str, Number]) -> Array:
        """Return where lids and lips are with these action units: [points, 2], right and down.

        The unit is a pixel of the picture without its margin. The order of points is always the
        same, so the difference between two expressions is the movement that was drawn.
        """
        sides = _split_intensities(action_units)
        both = {unit: sum(values.values()) / 2 for unit, values in sides.items()}
        mouth = self._shape_mouth(sides, both, 13 * max(sides[26].values()))
        lids = [
            edge[1:-1]  # the corners of an eye do not move
            for side in (-1, 1)
            for edge in self._outline_lids(side, *self._open_lids(sides, side))
        ]
        lips = [
            np.stack([mouth.x, line], axis=1)
            for line in (mouth.line, mouth.outer_up, mouth.outer_down)
        ]
        return np.concatenate([*lids, *lips]) * self.unit + self.origin - MARGIN_PIXELS

    def draw(self, action_units: Mapping[str, Number]) -> Array:
        """Return the face with these action units: uint8 [height + margins, width + margins, 3]."""
        sides = _split_intensities(action_units)
        jaw = 13 * max(sides[26].values())
        height = self.bones.copy()
        albedo = self.albedo.copy()
        # A factor on the light, which is 1 on smooth skin.
        folds = np.ones((self.height, self.width), np.float32)
        self._draw_brows(albedo, folds, height, sides)
        self._draw_eyes(albedo, folds, height, sides)
        self._draw_nose(albedo, folds, sides)
        self._draw_mouth(albedo, folds, height, sides, jaw)
        return self._light_face(
            self.scene if jaw == 0 else self._prepare_scene(jaw), height, albedo, folds
        )

    def _draw_brows(
        self, albedo: Array, folds: Array, height: Array, sides: dict[int, dict[int, float]]
    ) -> None:
        """Draw the brows, and the furrows of the forehead that they cause."""
        person = self.person
        t = _BROW_LINE
        for row, side in enumerate((-1, 1)):
            inner_rise, outer_rise, lowering = sides[1][side], sides[2][side], sides[4][side]
            wrinkle = sides[9][side]

            # Paint the brow and its hairs.
            line = self._outline_brow(sides, side)
            width = (
                person.brow_thickness
                * (0.75 + 0.45 * np.sin(np.pi * np.clip(t * 0.9 + 0.12, 0, 1)))
                * (1 - 0.55 * t**3)
            )
            dark = self.hair * 0.7 + self.skin * 0.06
            self._paint(albedo, _outline_stroke(line, width), dark, 0.72 * person.brow_density, 1.1)
            self._draw_brow_hairs(albedo, line, width, row, dark * 0.8)

            # Draw the horizontal furrows of the forehead above the raised part.
            for above in (18, 31, 43):
                depth = 0.42 * max(inner_rise, outer_rise) * (1 - above / 70)
                reach = (2 if inner_rise > 0 else 26, 66 if outer_rise > 0 else 34)
                y = -person.brow_y - above
                points = _compute_bezier_points(
                    (side * reach[0], y),
                    (side * 40, y - 9 * outer_rise - 3),
                    (side * reach[1], y + 6),
                )
                self._draw_crease(folds, points, 3.2, depth)

            # Draw the vertical furrow of a frown, and its bulge.
            frown = max(lowering, 0.6 * wrinkle)
            furrow = _compute_bezier_points(
                (side * 7, -person.brow_y - 14),
                (side * 5, -person.brow_y),
                (side * 8, -person.brow_y + 13),
            )
            self._draw_crease(folds, furrow, 5, 0.75 * frown, 1.7)
            self._add_bell(height, side * 13, -person.brow_y - 3 + 6 * frown, 8, 8, 4 * frown)

            # A lowered brow shades the eye; a raised one opens the socket to the light.
            self._paint(
                folds,
                _compute_ellipse_points(side * (person.eye_x - 4), -15, 24, 8),
                0.6,
                0.5 * frown,
                4,
            )
            self._paint(
                folds,
                _compute_ellipse_points(side * person.eye_x, -person.brow_y + 2, 24, 8),
                1.18,
                0.5 * max(inner_rise, outer_rise) * (1 - lowering),
                4,
            )

    def _outline_brow(self, sides: dict[int, dict[int, float]], side: int) -> Array:
        """Return the line of a brow: units 1 and 2 raise its inner and outer end, 4 and 9 lower
        it.
        """
        person, t = self.person, _BROW_LINE
        inner_rise, outer_rise, lowering = sides[1][side], sides[2][side], sides[4][side]
        wrinkle = sides[9][side]

        # How far its points are up
        rise = 19 * inner_rise * (1 - t) ** 1.2 + 17 * outer_rise * np.clip(t, 0, 1) ** 0.8
        fall = (
            lowering * (1 - 0.6 * inner_rise) * (13 - 5 * t)
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

        # How far they are from the middle of the face
        start = person.eye_x - person.eye_width * 1.02 - 8 * lowering - 3 * wrinkle
        end = person.eye_x + person.eye_width * 1.28 - 2 * lowering
        x = side * (start + t * (end - start))
        return np.stack([x, y], axis=1)

    def _draw_brow_hairs(
        self, albedo: Array, line: Array, width: Array, row: int, colour: Array
    ) -> None:
        """Draw the single hairs of a brow."""
        # Place the hairs along the brow; they point outwards and up.
        along, across, slant, _ = self.strokes[row].T
        position = along * (len(line) - 1)
        root = np.stack(
            [np.interp(position, np.arange(len(line)), line[:, axis]) for axis in (0, 1)], axis=1
        )
        thickness = np.interp(position, np.arange(len(line)), width)
        root[:, 1] += (across - 0.35) * thickness
        side = np.sign(line[-1, 0])
        tip = root + np.stack(
            [side * (3 + 3 * slant), -(1 - along) * (4 + 2 * slant) + 1.5 * along], axis=1
        )

        # Draw the lines in a mask with fractional pixels, and blend them into the skin.
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

    def _draw_eyes(
        self, albedo: Array, folds: Array, height: Array, sides: dict[int, dict[int, float]]
    ) -> None:
        """Draw the eyes, their lids, and the skin around them."""
        for side in (-1, 1):
            up, down = self._open_lids(sides, side)
            upper, lower = self._outline_lids(side, up, down)
            self._draw_eyeball(albedo, side, np.concatenate([upper, lower[::-1]]), upper)
            self._draw_lids(albedo, folds, upper, lower)
            self._draw_eye_folds(folds, height, sides, side, down)

    def _open_lids(self, sides: dict[int, dict[int, float]], side: int) -> tuple[float, float]:
        """Return how far the upper lid of an eye is up, and its lower lid down, in pixels."""
        person = self.person
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
        return up, down

    def _outline_lids(self, side: int, up: float, down: float) -> tuple[Array, Array]:
        """Return the edges of the upper and the lower lid, which meet in both corners."""
        person = self.person
        base = -person.eye_tilt * _EYE_LINE
        x = side * (person.eye_x + _EYE_LINE * person.eye_width)
        bow = np.clip(1 - np.abs(_EYE_LINE + 0.08) ** 2.3, 0, 1) ** 0.75
        upper = np.stack([x, base - up * bow], axis=1)
        lower = np.stack(
            [x, base + down * np.clip(1 - np.abs(_EYE_LINE - 0.1) ** 2.2, 0, 1) ** 0.85], axis=1
        )
        upper[[0, -1], 1] = lower[[0, -1], 1] = base[[0, -1]]
        return upper, lower

    def _draw_lids(self, albedo: Array, folds: Array, upper: Array, lower: Array) -> None:
        """Draw the lashes, the edge of the lower lid, and the fold of the upper lid."""
        lash = (2.2 + 1.4 * np.linspace(0, 1, 21)) * np.sin(
            np.linspace(0.25, np.pi - 0.3, 21)
        ) ** 0.5
        self._paint(albedo, _outline_stroke(upper, lash * 1.25), self.skin * 0.10 + 12, 0.92, 0.45)
        self._paint(
            albedo,
            _outline_stroke(lower, 1.1 * np.sin(np.linspace(0.1, 3.0, 21))),
            self.skin * 0.42,
            0.6,
            0.6,
        )
        if self.person.eye_crease > 1:
            crease = (
                upper
                - (0, self.person.eye_crease + 1)
                + np.stack([0 * _EYE_LINE, 1.5 * np.abs(_EYE_LINE) ** 2], axis=1)
            )
            self._draw_crease(folds, crease[1:-1], 2.2, 0.5, 0.7)

    def _draw_eye_folds(
        self,
        folds: Array,
        height: Array,
        sides: dict[int, dict[int, float]],
        side: int,
        down: float,
    ) -> None:
        """Draw the bag below an eye, and the crow's feet at its outer corner."""
        # The bag is deeper with raised cheeks.
        person = self.person
        cheek, tight = sides[6][side], sides[7][side]
        base = -person.eye_tilt * _EYE_LINE
        lift = max(cheek, 0.6 * tight)
        low = base[10] + down
        pouch = _compute_bezier_points(
            (side * (person.eye_x - 18), low + 5),
            (side * person.eye_x, low + 13 - 4 * lift),
            (side * (person.eye_x + 20), low + 3),
        )
        self._draw_crease(folds, pouch, 3.5, 0.16 + 0.5 * lift, 1.4)
        self._add_bell(height, side * person.eye_x, low + 5, 15, 3.5, 1.0 + 2.2 * lift)

        # Crow's feet come with raised cheeks too.
        for angle in (-0.45, 0.0, 0.42):
            root = np.array([side * (person.eye_x + person.eye_width + 5), base[-1] + 14 * angle])
            tip = root + np.array((side * 15, 15 * math.sin(angle)))
            self._draw_crease(folds, np.linspace(root, tip, 6), 3.2, 0.55 * cheek, 1.4)

    def _draw_eyeball(self, albedo: Array, side: int, outline: Array, upper: Array) -> None:
        """Draw an eyeball inside the `outline` of its lids; `upper` is the upper lid's
        edge.
        """
        person = self.person
        mask, rows, columns = self._rasterise(outline, 0.35)
        opening = np.zeros((self.height, self.width), np.float32)
        opening[rows, columns] = mask

        # Paint the white, the iris with its lighter middle, and the pupil.
        self._paint(albedo, outline, (204, 196, 190), 1, 0.3)
        x, y = side * person.eye_x, -1.6
        iris = np.array(person.iris)
        self._paint(albedo, _compute_ellipse_points(x, y, 9.6, 9.6), iris * 0.6, 1, 0.5, opening)
        self._paint(
            albedo, _compute_ellipse_points(x, y + 1.2, 7.8, 7.4), iris * 1.25, 0.8, 1.0, opening
        )
        self._paint(albedo, _compute_ellipse_points(x, y, 4.2, 4.2), (10, 8, 8), 1, 0.4, opening)

        # Paint the shadow of the upper lid, and the reflection of the light over all.
        shadow = _outline_stroke(upper + np.array((0, 1.5)), np.full(21, 6.0))
        self._paint(albedo, shadow, (60, 45, 42), 0.55, 1.2, opening)
        glint = _compute_ellipse_points(x + 3.2 * np.sign(person.light[0]), y - 3, 1.9, 1.9)
        self._paint(albedo, glint, (255, 255, 255), 0.95, 0.3, opening)

    def _draw_nose(self, albedo: Array, folds: Array, sides: dict[int, dict[int, float]]) -> None:
        """Draw the nose, with its wrinkles."""
        person = self.person
        for side in (-1, 1):
            wrinkle, raised = sides[9][side], sides[10][side]

            # Wrinkling (9) and raising the lip (10) lift the nose; smiling (12) widens it.
            lift = 5 * wrinkle + 2 * raised
            spread = person.nose_width + 2.2 * wrinkle + 1.5 * sides[12][side]
            base = person.nose_y + 8 - lift

            # Draw the side, the nostril and the wing.
            shade = _compute_bezier_points(
                (side * 5, -6),
                (side * 8, person.nose_y * 0.5),
                (side * spread * 0.72, person.nose_y - 8),
            )
            self._paint(folds, _outline_stroke(shade, np.linspace(7, 9, 14)), 0.8, 0.38, 3.2)
            self._paint(
                albedo,
                _compute_ellipse_points(side * spread * 0.5, base, 4.0, 2.2),
                self.skin * 0.22,
                0.85,
                0.9,
            )
            wing = _compute_bezier_points(
                (side * (spread - 2), base - 14),
                (side * (spread + 5), base - 3),
                (side * (spread - 5), base + 2),
            )
            self._draw_crease(folds, wing, 3.2, 0.55, 0.9)

            # Draw wrinkles from the root of the nose to its wings.
            for share in (0.05, 0.3, 0.55):
                y = person.nose_y * share - 6
                points = _compute_bezier_points(
                    (side * 1, y - 3), (side * 8, y - 1), (side * 15, y + 8)
                )
                self._draw_crease(folds, points, 4.5, 0.8 * wrinkle, 1.6)

        # Draw the shadow below the nose, and the light on its tip.
        self._paint(
            folds,
            _compute_ellipse_points(0, person.nose_y + 12, person.nose_width * 0.7, 3),
            0.75,
            0.45,
            2.6,
        )
        self._paint(folds, _compute_ellipse_points(0, person.nose_y - 2, 4.5, 4), 1.16, 0.7, 2.2)

    def _draw_mouth(
        self,
        albedo: Array,
        folds: Array,
        height: Array,
        sides: dict[int, dict[int, float]],
        jaw: Number,
    ) -> None:
        """Draw the mouth, the chin, and the folds around the corners of the mouth."""
        both = {unit: (sides[unit][-1] + sides[unit][1]) / 2 for unit in _DRAWN_UNITS}
        mouth = self._shape_mouth(sides, both, jaw)
        self._paint_lips(albedo, mouth)
        self._shade_lips(folds, mouth, both[17])
        self._draw_chin(folds, height, mouth.outer_down[16], both[17])
        for side, corner in ((-1, 0), (1, -1)):
            x_corner, y_corner = float(mouth.x[corner]), float(mouth.line[corner])
            self._draw_mouth_corner(folds, height, sides, side, x_corner, y_corner)

    def _shape_mouth(
        self, sides: dict[int, dict[int, float]], both: dict[int, float], jaw: Number
    ) -> MouthShape:
        """Return the lines of the mouth.

        `both` has the intensity of each action unit, as the mean of the two sides of the face.
        """
        person = self.person
        t = _MOUTH_LINE
        bell = np.clip(1 - np.abs(t) ** 2.2, 0, 1)
        side_of = np.where(t < 0, 0, 1)

        def pull(amounts: Mapping[int, Number]) -> Array:
            """Return a weight for each point of the lip line, by side; the middle has the mean."""
            values = np.array(
                [sum(a * sides[unit][s] for unit, a in amounts.items()) for s in (-1, 1)]
            )
            blend = np.clip(np.abs(t) * 3, 0, 1)
            return values[side_of] * blend + values.mean() * (1 - blend)

        # Move the line between the lips: its corners, its middle, and the gap of an open mouth.
        out = pull({12: 12, 14: 6, 15: -1, 20: 17, 17: -4, 26: -4, 10: 1})
        lift = pull({12: -15, 15: 17, 20: 3, 14: -4, 17: 3})
        x = t * person.mouth_width + np.sign(t) * out * np.abs(t) ** 1.3
        middle = person.mouth_y + 2 * both[12] - 7.5 * both[17] - 1.5 * both[15] + jaw * 0.25
        line = middle + lift * np.abs(t) ** 1.9
        gap = 15 * both[25] + jaw * 1.0 + 4.5 * both[10] + 1.5 * both[9]
        raised = pull({10: 11, 9: 6}) * (1 - np.abs(t) ** 2)
        inner_up = line - bell * gap * 0.35 - raised
        inner_down = line + bell * gap * 0.65 - raised * 0.1

        # Shape the outer edges of the lips.
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
        return MouthShape(x, line, inner_up, inner_down, outer_up, outer_down, gap, thin)

    def _paint_lips(self, albedo: Array, mouth: MouthShape) -> None:
        """Paint the lips, the teeth in an open mouth, and the line between the lips."""
        x, gap, lip = mouth.x, mouth.gap, np.array(self.person.lip)
        top, bottom = np.stack([x, mouth.outer_up], 1), np.stack([x, mouth.outer_down], 1)
        parting_up, parting_down = (
            np.stack([x, mouth.inner_up], 1),
            np.stack([x, mouth.inner_down], 1),
        )
        self._paint(albedo, np.concatenate([top, parting_up[::-1]]), lip * 0.80, 0.92, 0.8)
        self._paint(albedo, np.concatenate([parting_down, bottom[::-1]]), lip * 1.06, 0.88, 0.9)

        # The inside of an open mouth, and its teeth.
        if gap > 0.5:
            inside = np.concatenate([parting_up, parting_down[::-1]])
            mask, rows, columns = self._rasterise(inside, 0.4)
            opening = np.zeros((self.height, self.width), np.float32)
            opening[rows, columns] = mask
            self._paint(albedo, inside, (42, 16, 16), min(gap / 3, 1), 0.4)
            teeth = np.concatenate(
                [parting_up, (parting_up + np.array((0, min(gap * 0.3, 5.5))))[::-1]]
            )
            self._paint(albedo, teeth, (212, 205, 196), min(gap / 8, 1) * 0.75, 0.9, opening)

        # The line between the lips.
        seam = 2.4 * np.clip(1 - np.abs(_MOUTH_LINE) ** 6, 0.35, 1)
        y = (mouth.inner_up + mouth.inner_down) / 2 if gap < 1 else mouth.inner_up
        self._paint(albedo, _outline_stroke(np.stack([x, y], 1), seam), lip * 0.26, 0.9, 0.6)

    def _shade_lips(self, folds: Array, mouth: MouthShape, chin_raised: float) -> None:
        """Shade the lips, and the skin below and above them."""
        # The upper lip turns away from the light, the lower one reflects it.
        person, x = self.person, mouth.x
        top, parting_up = np.stack([x, mouth.outer_up], 1), np.stack([x, mouth.inner_up], 1)
        self._paint(folds, np.concatenate([top, parting_up[::-1]]), 0.80, 0.6, 1.2)
        shine = person.lip_lower * max(mouth.thin, 0.3) * 0.38
        self._paint(
            folds,
            _compute_ellipse_points(
                x[16] - 3, mouth.inner_down[16] + shine, person.mouth_width * 0.42, shine * 0.8
            ),
            1.25,
            0.7,
            2,
        )

        # The skin below and above.
        under = mouth.outer_down[16] + 5
        self._paint(
            folds,
            _compute_ellipse_points(0, under, person.mouth_width * 0.55, 3.2),
            0.72,
            0.55 + 0.35 * chin_raised,
            3,
        )
        self._paint(
            folds,
            _compute_ellipse_points(0, (person.nose_y + 12 + mouth.outer_up[16]) / 2, 3.0, 6),
            0.84,
            0.6,
            1.6,
        )

    def _draw_chin(self, folds: Array, height: Array, y: Number, raised: Number) -> None:
        """Draw the chin below the lower lip at `y`; unit 17 raises it and gives it dimples."""
        self._add_bell(height, 0, y + 24, 19, 12, 6 + 5 * raised)
        if raised <= 0:
            return
        # fmt: off
        dimples = (
            (-11, 16), (-4, 24), (5, 19), (11, 27), (-9, 31), (2, 12), (8, 35), (0, 32),
        )
        # fmt: on
        for across, down in dimples:
            self._paint(
                folds, _compute_ellipse_points(across, y + down, 4.2, 2.6), 0.6, 0.5 * raised, 2.0
            )
        under = y + 5
        arc = _compute_bezier_points((-26, under + 16), (0, under - 8), (26, under + 16))
        self._draw_crease(folds, arc, 5, 0.55 * raised, 1.5)

    def _draw_mouth_corner(
        self,
        folds: Array,
        height: Array,
        sides: dict[int, dict[int, float]],
        side: int,
        cx: float,
        cy: float,
    ) -> None:
        """Draw the folds of one side around the corner of the mouth, which is at (cx, cy)."""
        person = self.person
        smile, wrinkle, raising = sides[12][side], sides[9][side], sides[10][side]
        self._paint(folds, _compute_ellipse_points(cx + side * 1.5, cy, 4, 3.2), 0.66, 0.55, 1.6)

        # Draw the fold from the nose to the mouth, and the raised cheek.
        depth = person.folds + 0.6 * smile + 0.55 * wrinkle + 0.65 * raising + 0.2 * sides[6][side]
        foot = (cx + side * (9 + 3 * smile), cy + 4 - 6 * smile)
        start = (side * (person.nose_width + 3), person.nose_y - 4 - 6 * wrinkle - 4 * raising)
        control = (side * (person.nose_width + 17 + 9 * smile), person.nose_y + 9 - 4 * raising)
        self._draw_crease(
            folds, _compute_bezier_points(start, control, foot), 6.5, 0.95 * depth, 2.6
        )
        puff = 0.8 * smile + 0.9 * sides[6][side] + 0.4 * wrinkle + 0.4 * raising
        self._add_bell(height, side * 50, 36 - 5 * sides[6][side], 19, 12, 7 * puff)

        # Draw the dimple (14), and the lines of a lowered (15) or stretched (20) corner.
        dimple = sides[14][side]
        self._paint(
            folds, _compute_ellipse_points(cx + side * 6, cy, 3.6, 8.0), 0.4, 0.75 * dimple, 2.6
        )
        pit = _compute_bezier_points(
            (cx + side * 7, cy - 15), (cx + side * 15, cy), (cx + side * 7, cy + 13)
        )
        self._draw_crease(folds, pit, 5, 0.75 * dimple, 1.9)
        self._add_bell(height, side * (abs(cx) + 17), cy, 8, 12, 6 * dimple)
        sag = _compute_bezier_points(
            (cx + side * 1, cy + 2), (cx + side * 7, cy + 10), (cx + side * 3, cy + 24)
        )
        self._draw_crease(folds, sag, 4.5, 0.75 * sides[15][side], 1.6)
        stretch = _compute_bezier_points(
            (cx + side * 5, cy - 12), (cx + side * 11, cy + 2), (cx + side * 6, cy + 16)
        )
        self._draw_crease(folds, stretch, 4, 0.5 * sides[20][side], 1.8)

    def _prepare_scene(self, jaw_drop: Number) -> tuple[Array, Array, Array]:
        """Return the head's relief, its share of the picture, and the background.

        They depend only on the jaw. All are windows on the head, where the picture is
        `lit * share + background`.
        """
        rows, columns = self.window
        skull = self._measure_skull(jaw_drop)[rows, columns]
        relief = 74 * np.sqrt(np.maximum(1 - np.minimum(skull, 1) ** 2.6, 0.0004))
        edge = np.clip((1 - skull) * (self.person.width * self.unit * 0.55) + 0.5, 0, 1)[:, :, None]
        bare = 1 - self.cover_alpha[rows, columns]
        background = self.back[rows, columns] * (1 - edge) * bare + self.cover[rows, columns] * (
            1 - bare
        )
        share = np.repeat(edge * bare, 3, axis=2)
        return relief.astype(np.float32), share.astype(np.float32), background.astype(np.float32)

    def _light_face(
        self, scene: tuple[Array, Array, Array], height: Array, albedo: Array, folds: Array
    ) -> Array:
        """Return the lit picture: Lambert's law on the relief, some gloss, and the hair."""
        relief, share, background = scene
        window = self.window

        # Compute the cosine between the light and the normal of the surface.
        relief = cv2.GaussianBlur(relief + height[window], (0, 0), 1.6 * self.unit)
        across = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=self.unit / 8)
        down = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=self.unit / 8)
        right, below = self.person.light
        length = math.sqrt(right * right + below * below + 1)
        facing = (1 - across * right - down * below) / (
            np.sqrt(across * across + down * down + 1) * length
        )
        facing = np.maximum(facing, 0)

        # Gloss is the 16th power of the cosine, computed by squaring.
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

        # Put the head into the picture that no expression changes.
        image = self.resting_image.copy()
        image[window] = cv2.add(cv2.multiply(lit, share), background, dtype=cv2.CV_8U)
        return image

    def _draw_glasses(self, colour: Array, alpha: Array) -> None:
        """Paint the glasses into the layer that covers the face."""
        person = self.person
        far, near = person.eye_x + person.glasses, person.eye_x - person.glasses
        bridge = _compute_bezier_points((-near, 0), (0, -6), (near, 0))
        shapes = [_outline_stroke(bridge, np.full(14, 2.8))]
        for side in (-1, 1):
            ring = _compute_ellipse_points(
                side * person.eye_x, 2.0, person.glasses, person.glasses * 0.8, 40
            )
            shapes.append(_outline_stroke(np.concatenate([ring, ring[:2]]), np.full(42, 2.6)))
            arm = np.linspace((side * far, -2), (side * (person.width + 2), -5), 4)
            shapes.append(_outline_stroke(arm, np.full(4, 3.0)))
        for shape in shapes:
            self._paint(colour, shape, (34, 30, 32), 1.0, 1.0)
            self._paint(alpha, shape, 1.0, 0.92, 0.4)
