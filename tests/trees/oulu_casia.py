"""Oulu-CASIA: the same people in several cells of camera and light, of which one is read unless all
are wanted.
"""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

CLIPS = [
    ("VL/Strong", "P001", "Anger", range(3)),
    ("VL/Strong", "P001", "Happiness", range(8, 12)),
    ("VL/Strong", "P012", "Surprise", (0, 1, 3)),  # a frame is missing
    ("VL/Dark", "P001", "Anger", range(2)),
    ("NI/Strong", "P001", "Anger", range(2)),
]


def write(root: Path) -> Tree:
    """Write five sequences of two people in three cells, and return those of the first."""
    images = {}
    for cell, subject, folder, frames in CLIPS:
        emotion = folder.lower()
        for frame in frames:
            path = f"B_OriginalImg/OriginalImg/{cell}/{subject}/{folder}/{frame:03d}.jpeg"
            shown = "neutral" if frame == frames[0] else emotion
            save(
                root / path,
                int(subject[1:]),
                shown,
                (48, 64),
                "L" if cell.startswith("NI") else "RGB",
            )
            if cell == "VL/Strong":
                images[path] = Truth(subject, f"{subject}/VL-Strong/{folder}", emotion)
        (root / f"B_OriginalImg/OriginalImg/{cell}/{subject}/{folder}/Thumbs.db").write_bytes(b"x")
    return Tree(root, images, frozenset({"part", "missing frames", "foreign files"}))
