"""CK+48: three last frames of each sequence, grey, in the folders of classes; one person in two
classes.
"""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

SEQUENCES = [
    ("happy", "happiness", "S010_006", (98, 99, 100)),
    ("surprise", "surprise", "S010_002", (12, 13, 14)),
    ("contempt", "contempt", "S138_008", (9, 10, 11)),
    ("anger", "anger", "S014_003", (28, 29, 30)),
]


def write(root: Path) -> Tree:
    """Write four sequences of three people, and return what they are."""
    images = {}
    for folder, emotion, name, frames in SEQUENCES:
        subject, sequence = name.split("_")
        for frame in frames:
            path = f"CK+48/{folder}/{name}_{frame:08d}.png"
            save(root / path, int(subject[1:]), emotion, mode="L")
            images[path] = Truth(subject, f"{subject}/{sequence}", emotion)
    return Tree(root, images, frozenset({"not the whole release"}))
