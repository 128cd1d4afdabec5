"""Drawn faces in small numbers, straight into memory: people, clips, frames, with labels that their
faces show.
"""

from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from mien.faces import Faces, make_index
from mien.ingest.toy import head
from mien.ingest.toy.head import Identity
from mien.prepare.flow import FLOW_CHANNELS, FlowSpec, show_flow
from mien.runs.spec import Spec
from mien.runs.store import Run, Store

UNITS = {
    "happiness": {"6": 1.0, "12": 1.0},
    "disgust": {"9": 1.0, "4": 1.0},
    "surprise": {"1": 1.0, "2": 1.0, "5": 1.0, "26": 1.0},
    "sadness": {"1": 1.0, "4": 1.0, "15": 1.0},
}
THREE, FOUR = tuple(UNITS)[:3], tuple(UNITS)
CANVAS = (88, 72)  # pixels, height and width, before they are made small


class KeptSpec(Spec):
    """Faces that a test made, in a store."""

    stage: ClassVar[str] = "kept"
    digest_of: str


def people(
    numbers: range,
    clips: int = 2,
    frames: int = 3,
    size: int = 32,
    seed: int = 0,
    emotions: tuple[str, ...] = THREE,
) -> Faces:
    """Faces of the invented people of these numbers: so many clips of each emotion, and frames of
    each clip.
    """
    images, rows = [], []
    for number in numbers:
        who = f"s{number:02d}"
        for place, emotion in enumerate(emotions):
            for clip in range(clips):
                rng = np.random.default_rng([seed, number, clip, len(emotion)])
                home = rng.normal(0, (1.6, 1.6, 2.0, 0.02))
                for frame in range(frames):
                    x, y, angle, scale = home + rng.normal(0, (0.3, 0.3, 0.2, 0.003))
                    pose = head.Pose(float(x), float(y), float(angle), 1 + float(scale))
                    moved = head.apply_pose(_canvas(seed, number, emotion), pose, CANVAS)
                    picture = Image.fromarray(moved).convert("L").resize((size, size))
                    noisy = np.asarray(picture, dtype=np.float64) + rng.normal(0, 2, (size, size))
                    images.append(noisy.clip(0, 255).astype(np.uint8)[None])
                    rows.append((f"{who}/c{place * clips + clip}", frame, emotion))
    pixels = np.stack(images)
    index = make_index(
        pixels,
        key=[f"drawn/{clip}/{frame}" for clip, frame, _ in rows],
        dataset="drawn",
        subject=[f"drawn:{clip.partition('/')[0]}" for clip, _, _ in rows],
        clip=[f"drawn:{clip}" for clip, _, _ in rows],
        frame=[frame for _, frame, _ in rows],
        emotion=[emotion for _, _, emotion in rows],
        licence="CC0",
    )
    return Faces(pixels, index)


def moving_people(
    numbers: range, channels: tuple[str, ...], clips: int = 2, emotions: tuple[str, ...] = FOUR
) -> Faces:
    """Clips of invented people from a neutral face to the apex, one row each.

    `channels` are moments (a blend of both faces, the last one is the apex) or those of optical
    flow from the neutral face to the apex.
    """
    apex, onset = people(numbers, clips, 1, emotions=emotions), []
    for number in numbers:
        for emotion in emotions:
            for clip in range(clips):
                rng = np.random.default_rng([0, number, clip, len(emotion)])
                x, y, angle, scale = rng.normal(0, (1.6, 1.6, 2.0, 0.02))
                pose = head.Pose(float(x), float(y), float(angle), 1 + float(scale))
                moved = head.apply_pose(_canvas(0, number, "neutral"), pose, CANVAS)
                onset.append(np.asarray(Image.fromarray(moved).convert("L").resize((32, 32))))
    first, last = np.stack(onset)[:, None], np.asarray(apex.images)
    if channels == FLOW_CHANNELS:
        pairs = zip(first[:, 0], last[:, 0], strict=True)
        images = np.stack([show_flow(before, after, FlowSpec())[0] for before, after in pairs])
    else:
        shares = np.linspace(0, 1, len(channels))
        blends = [(1 - share) * first + share * last for share in shares]
        images = np.concatenate(blends, axis=1).round().astype(np.uint8)
    return replace(apex, images=images, channels=channels)


# what takes time is the drawing, and several files of tests show the same people
@lru_cache(maxsize=400)
def _canvas(seed: int, number: int, emotion: str) -> np.ndarray:
    return _head(seed, number).draw(UNITS.get(emotion, {}))


@lru_cache(maxsize=64)
def _head(seed: int, number: int) -> head.DrawnHead:
    return head.DrawnHead(head.invent_identity(seed, number), CANVAS)


def keep(faces: Faces, store: Store, alias: str) -> Run:
    """Put faces into a store under a name."""

    def build(out: Path, scratch: Path) -> None:
        faces.save(out)

    return store.make(KeptSpec(digest_of=f"{alias} {len(faces)}"), build, alias)


# People in groups that look alike

# what look-alikes share
SHARED = {"hair_style", "glasses", "background", "cloth", "light", "ambient", "beard"}


def toward(one: Identity, other: Identity, share: float) -> Identity:
    """A person who looks like `one`, moved by a share of the way to `other` in every measure."""
    changed: dict[str, Any] = {"texture": other.texture}
    for field in fields(Identity):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in SHARED or field.name in changed or isinstance(mine, str):
            continue
        if isinstance(mine, tuple):
            changed[field.name] = tuple(
                a + (b - a) * share for a, b in zip(mine, theirs, strict=True)
            )
        else:
            changed[field.name] = mine + (theirs - mine) * share
    return replace(one, **changed)


def look_alikes(
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
