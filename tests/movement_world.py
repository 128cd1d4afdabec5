"""Drawn clips whose people move as their label says, each in an own way, for tests of movement."""

from collections.abc import Sequence

import cv2
import numpy as np

from mien.faces import Faces, make_index
from mien.prepare.flow import warp_image

SIZE = 36

# Of each class: action units, and places that move: down and right from 0 to 1, and how far
MOVES = {
    "happiness": ("6+12", [((0.74, 0.36), (-1.2, -1.0)), ((0.74, 0.64), (-1.2, 1.0))]),
    "surprise": ("1+2", [((0.34, 0.3), (-1.8, 0.0)), ((0.34, 0.7), (-1.8, 0.0))]),
    "disgust": (
        "4+9",
        [((0.36, 0.4), (1.1, 0.7)), ((0.36, 0.6), (1.1, -0.7)), ((0.58, 0.5), (-1, 0))],
    ),
}

CLASSES = tuple(MOVES)


def draw_person(rng: np.random.Generator) -> np.ndarray:
    """A face of about the usual proportions: brows, eyes, nose and mouth on a mottled skin."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    skin = cv2.GaussianBlur(rng.standard_normal((SIZE, SIZE)), (0, 0), 1.5)
    face = 150 + 9 * skin / skin.std() + 25 * np.cos(3 * (x - 0.5)) * np.cos(2 * (y - 0.5))
    down, wide = rng.normal(0, 0.015), rng.normal(1, 0.06)
    spots = [(0.34, 0.3, 0.03, 0.11), (0.34, 0.7, 0.03, 0.11), (0.44, 0.32, 0.03, 0.07)]
    spots += [(0.44, 0.68, 0.03, 0.07), (0.6, 0.5, 0.05, 0.06), (0.74, 0.5, 0.025, 0.15)]
    for row, column, tall, broad in spots:
        place = ((y - row - down) / tall) ** 2 + ((x - 0.5 - wide * (column - 0.5)) / broad) ** 2
        face -= rng.uniform(45, 75) * np.exp(-place)
    return face.astype(np.float32)


def draw_clips(
    people: int, seed: int, classes: Sequence[str] = CLASSES, repeats: int = 1, name: str = "drawn"
) -> Faces:
    """Clips of `people`, `repeats` of each class, of 17 to 27 frames, with sensor noise."""
    images, rows = list[np.ndarray](), list[dict[str, object]]()
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    for person in range(people):
        rng = np.random.default_rng([seed, person])
        face, habit = draw_person(rng), rng.normal(0, 0.03, (3, 2))
        for number, emotion in enumerate(list(classes) * repeats):
            units, moves = MOVES[emotion]
            flow = np.zeros((2, SIZE, SIZE), dtype=np.float32)
            for (row, column), (down, right) in moves:
                row, column = (row, column) + habit[0] + rng.normal(0, 0.01, 2)
                reach = 0.09 * rng.uniform(0.75, 1.3)
                bump = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * reach**2))
                turn = rng.normal(0, 0.35, 2)
                flow -= np.stack([(right + turn[0]) * bump, (down + turn[1]) * bump])
            flow *= rng.uniform(0.7, 1.1)
            count = int(rng.integers(17, 28))
            apex = round(count * rng.uniform(0.35, 0.5))
            course = np.interp(np.arange(count), [0, apex, count - 1], [0, 1, rng.uniform(0, 0.1)])
            course = course**2 * (3 - 2 * course)
            for frame in range(count):
                moved = warp_image(face, course[frame] * flow) + rng.normal(0, 1, face.shape)
                images.append(moved.round().clip(0, 255).astype(np.uint8)[None])
                phase = "rise" if frame < apex else "apex" if frame == apex else "fall"
                phase = {0: "onset", count - 1: "offset"}.get(frame, phase)
                clip = f"{name}:s{person}/c{number}"
                rows.append({"key": f"{clip}/{frame + 1}", "clip": clip, "frame": frame + 1})
                rows[-1] |= {"phase": phase, "emotion": emotion, "action_units": units}
                rows[-1] |= {"subject": f"{name}:s{person}"}
    pixels = np.stack(images)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return Faces(pixels, make_index(pixels, dataset=name, licence="CC0 1.0", **columns))
