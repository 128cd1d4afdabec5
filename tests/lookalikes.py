"""Drawn people in groups that look alike, with two or three photographs in their own light or in
shared sessions.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
from drawn import CANVAS, FOUR, UNITS
from PIL import Image

from mien.faces import Faces, make_index
from mien.toy import head
from mien.toy.head import Identity

# what look-alikes share
KEPT = {"hair_style", "glasses", "background", "cloth", "light", "ambient", "beard"}


def toward(one: Identity, other: Identity, share: float) -> Identity:
    """A person who looks like `one`, moved by a share of the way to `other` in every measure."""
    changed: dict[str, Any] = {"texture": other.texture}
    for field in fields(Identity):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in KEPT or field.name in changed or isinstance(mine, str):
            continue
        if isinstance(mine, tuple):
            changed[field.name] = tuple(
                a + (b - a) * share for a, b in zip(mine, theirs, strict=True)
            )
        else:
            changed[field.name] = mine + (theirs - mine) * share
    return replace(one, **changed)


def crowd(
    number: int, group: int, seed: int, clips: tuple[int, int] = (2, 3), sessions: int = 0
) -> Faces:
    """Faces of so many people, every `group` of whom look alike; of one frame a clip."""
    rng = np.random.default_rng([seed, 77])
    people: list[Identity] = []
    for place in range(number):
        new = head.invent_identity(seed, place)
        people.append(
            new if place % group == 0 else toward(people[place - place % group], new, 0.15)
        )
    lights = [
        (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, -0.1))) for _ in range(sessions)
    ]
    images, rows = [], []
    for place, person in enumerate(people):
        for clip in range(int(rng.integers(clips[0], clips[1] + 1))):
            lit = replace(person, light=lights[int(rng.integers(sessions))]) if sessions else person
            emotion = FOUR[clip % len(FOUR)]
            x, y, angle, scale = rng.normal(0, (1.6, 1.6, 2.0, 0.02))
            pose = head.Pose(float(x), float(y), float(angle), 1 + float(scale))
            moved = head.apply_pose(head.DrawnHead(lit, CANVAS).draw(UNITS[emotion]), pose, CANVAS)
            images.append(np.asarray(Image.fromarray(moved).convert("L").resize((32, 32)))[None])
            rows.append((f"s{place:03d}", clip, emotion))
    pixels = np.stack(images)
    index = make_index(
        pixels,
        key=[f"crowd/{who}/{clip}" for who, clip, _ in rows],
        dataset="crowd",
        subject=[f"crowd:{who}" for who, _, _ in rows],
        clip=[f"crowd:{who}/{clip}" for who, clip, _ in rows],
        emotion=[emotion for _, _, emotion in rows],
        licence="CC0",
    )
    return Faces(pixels, index)
