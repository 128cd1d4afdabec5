"""How well the audit's measures of variety follow the truth of drawn faces, and when checks warn.

    python benchmarks/audit_variety.py --faces 240 --clean 20 --sets 5

Three tables: the rank correlation of pose, light and skin tone with what was drawn; how far the
tone of skin moves with the light; and how often `pictures.shortcut` and `people.used` warn, on sets
of further drawn people, and on sets in which one class is brighter, or one person is shown too
often.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from audit_power import people as draw_people
from jaxtyping import UInt8
from PIL import Image
from scipy.stats import spearmanr

from mien.audit.memorisation.matches import find_matches
from mien.audit.part import PartInput
from mien.audit.variety import skin
from mien.audit.variety.measures import measure_pictures
from mien.audit.variety.part import measure_part
from mien.audit.verdict import judge, read_thresholds
from mien.faces import Faces
from mien.ingest.toy.head import DrawnHead, Pose, apply_pose, invent_identity

CANVAS = (102, 84)  # height and width that people are drawn at, before they become 48 x 48

MOST = {"yaw": 20.0, "pitch": 15.0, "roll": 12.0}  # degrees to either side

TRUTHS = {
    "yaw": "yaw",
    "roll": "roll",
    "pitch": "pitch",
    "light_across": "light across",
    "light_down": "light down",
    "skin_tone": "tone",
}
"""The truth that each measure should follow."""

CHECKS = ("people.used", "pictures.shortcut")


def turn(
    picture: UInt8[np.ndarray, "h w 3"], yaw: float, pitch: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture on an ellipsoid that turns by degrees to the right, and down."""
    height, width = picture.shape[:2]
    down, across = np.mgrid[0:height, 0:width]
    x, y = across / width * 2 - 1, down / height * 2 - 1
    depth = 0.8 * np.sqrt((1 - x.clip(-1, 1) ** 2 - 0.7 * y.clip(-1, 1) ** 2).clip(0))
    a, b = np.radians(yaw), np.radians(pitch)
    from_x = x * np.cos(a) - depth * np.sin(a)
    from_y = y * np.cos(b) - (x * np.sin(a) + depth * np.cos(a)) * np.sin(b)
    places = [((from_x + 1) * width / 2), ((from_y + 1) * height / 2)]
    columns, rows = (place.astype(np.float32) for place in places)
    return cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def draw_known(
    count: int, seed: int, turned: bool
) -> tuple[UInt8[np.ndarray, "n 3 h w"], dict[str, np.ndarray]]:
    """Return so many drawn people in known light, in colour, and what is known of each.

    If they are `turned`, their pose varies too.
    """
    rng = np.random.default_rng(seed)
    images, known = [], []
    for number in range(count):
        yaw, pitch, roll = (rng.uniform(-1, 1, 3) * tuple(MOST.values()) * turned).tolist()
        light = (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.6, 0.2)))
        person = replace(invent_identity(seed, number), light=light)
        face = turn(DrawnHead(person, CANVAS).draw({}), yaw, pitch)
        small = Image.fromarray(apply_pose(face, Pose(angle=roll), CANVAS)).resize((48, 48))
        images.append(np.asarray(small).transpose(2, 0, 1))
        colour = np.asarray(person.skin, dtype=np.float32)[None, None] / 255
        lightness, _, yellow = cv2.cvtColor(colour, cv2.COLOR_RGB2LAB)[0, 0]
        known.append((yaw, pitch, roll, *light, np.degrees(np.arctan2(lightness - 50, yellow))))
    names = ("yaw", "pitch", "roll", "light across", "light down", "tone")
    return np.stack(images), dict(zip(names, np.array(known).T, strict=True))


def brighten(faces: Faces, emotion: str, factor: float) -> Faces:
    """Return faces with the images of one class brighter."""
    images = np.asarray(faces.images).astype(np.float64)
    images[(faces.index["emotion"] == emotion).to_numpy()] *= factor
    return replace(faces, images=images.round().clip(0, 255).astype(np.uint8))


def repeat_person(faces: Faces, train: Faces, share: float) -> Faces:
    """Return faces of which a share is replaced by moved images of the first training person."""
    rng = np.random.default_rng(0)
    places = rng.permutation(len(faces))[: round(share * len(faces))]
    own = np.flatnonzero(train.index["subject"] == train.index["subject"].iloc[0])
    images = np.array(faces.images)
    images[places] = np.roll(train.images[rng.choice(own, len(places))], 1, axis=3)
    return replace(faces, images=images)


def list_warnings(train: Faces, test: Faces, synthetic: Faces) -> list[str]:
    """Return the checks of variety that warn of a set."""
    made = replace(synthetic, index=synthetic.index.assign(subject="", clip="", source="made"))
    find = partial(find_matches, train, test, made)  # which variety does not need
    measured = measure_part(PartInput(train, test, made, {}, find))
    limits = {name: fields for name, fields in read_thresholds().items() if name in CHECKS}
    return [check.name for check in judge(measured.records, limits) if check.verdict != "pass"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Measures of variety beside the truth.")
    parser.add_argument("--faces", type=int, default=240, help="drawn faces of known pose")
    parser.add_argument("--clean", type=int, default=20, help="sets of further people")
    parser.add_argument("--sets", type=int, default=5, help="sets with each fault")
    parser.add_argument("--seed", type=int, default=0, help="of the people that are drawn")
    given = parser.parse_args()

    _print_correlations(given.faces, given.seed)
    _print_warnings(given.clean, given.sets, given.seed)


def _print_correlations(count: int, seed: int) -> None:
    turned, frontal = (draw_known(count, seed, varied) for varied in (True, False))
    print(f"{count} drawn people, seed {seed}\n| measure | turned heads | frontal heads |")
    print("| --- | --: | --: |")
    for measure, truth in TRUTHS.items():
        ranks = [
            f"{spearmanr(measure_pictures(images)[measure], known[truth])[0]:.2f}"
            if known[truth].std()
            else "-"
            for images, known in (turned, frontal)
        ]
        print(f"| {measure} | {' | '.join(ranks)} |")

    images, known = frontal
    measured = skin.measure_skin(images)
    bias = measured["skin_tone"] - known["tone"]
    print(f"\ntone less the tone of the paint: {bias.mean():.1f} ± {bias.std():.1f}°; ", end="")
    print(f"the paint varies by {known['tone'].std():.1f}°")
    print("| light | factors | tone moves by | hue moves by |\n| --- | --- | --: | --: |")
    for name, factors in skin.RELIGHTS.items():
        relit = skin.measure_skin(skin.relight(images, factors))
        moves = [relit[key] - values for key, values in measured.items()]
        texts = [f"{move.mean():.1f} ± {move.std():.1f}°" for move in moves]
        print(f"| {name} | {', '.join(map(str, factors))} | {' | '.join(texts)} |")


def _print_warnings(clean: int, sets: int, seed: int) -> None:
    base = 1000 * seed
    train, test = (draw_people(base + place, range(20), 4, 1) for place in (0, 1))
    fresh = [draw_people(base + 10 + number, range(16), 4, 1) for number in range(clean)]
    emotion = train.classes[0]
    kinds: dict[str, Sequence[Faces]] = {"none": fresh}
    kinds |= {
        f"{emotion} brighter by {100 * (factor - 1):.0f} %": [
            brighten(faces, emotion, factor) for faces in fresh[:sets]
        ]
        for factor in (1.2, 1.4, 1.8)
    }
    kinds |= {
        f"{100 * share:.0f} % of one person": [
            repeat_person(faces, train, share) for faces in fresh[:sets]
        ]
        for share in (0.3, 0.6, 0.9)
    }
    print(f"\n{len(train)} training images of 20 people, {len(fresh[0])} synthetic images a set")
    print(f"| fault | sets | {' | '.join(CHECKS)} |\n| --- | --: | --: | --: |")
    for kind, found in kinds.items():
        warned = [name for faces in found for name in list_warnings(train, test, faces)]
        counts = [str(warned.count(name)) for name in CHECKS]
        print(f"| {kind} | {len(found)} | {' | '.join(counts)} |", flush=True)


if __name__ == "__main__":
    main()
