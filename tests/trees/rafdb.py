"""RAF-DB: the misspelt list, aligned and original images, attributes, a row without image and an
image without row.
"""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
LINES = [(f"train_{place:05d}", place) for place in range(1, 8)] + [
    ("test_0001", 4),
    ("test_0002", 7),
]


def write(root: Path) -> Tree:
    """Write nine images in both forms, and return the aligned ones."""
    images = {}
    for place, (name, code) in enumerate(LINES):
        path = f"basic/Image/aligned/{name}_aligned.jpg"
        save(root / path, place, EMOTIONS[code - 1], (100, 100))
        save(root / f"basic/Image/original/{name}.jpg", place, EMOTIONS[code - 1], (120, 90))
        images[path] = Truth("", "", EMOTIONS[code - 1])
        manual = root / f"basic/Annotation/manual/{name}_manu_attri.txt"
        manual.parent.mkdir(parents=True, exist_ok=True)
        manual.write_text("10.0\t20.0\n0\n1\n2\n")
    save(root / "basic/Image/aligned/train_00099_aligned.jpg", 99, "neutral", (100, 100))
    lines = [f"{name}.jpg {code}" for name, code in [*LINES, ("train_00100", 1)]]
    (root / "basic/EmoLabel").mkdir()
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    kinds = {"part", "file without row", "row without file", "official partition", "no subjects"}
    return Tree(root, images, frozenset(kinds))
