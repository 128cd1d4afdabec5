"""Class folders below train and test, in several spellings, with the people in the names of the
files.
"""

from pathlib import Path

from trees import Tree, Truth, draw

NAMES = {
    "train/happy/p1_1.png": "happiness",
    "train/happy/deep/p2_2.jpg": "happiness",
    "train/SAD/p1_3.png": "sadness",
    "test/happy/p3_1.png": "happiness",
    "test/surprised/p3_10.png": "surprise",
}


def write(root: Path) -> Tree:
    """Write five images of three people, and return what they are."""
    for name in NAMES:
        draw(root / name)
    (root / "train/happy/Thumbs.db").write_bytes(b"x")
    images = {name: Truth(Path(name).name[:2], "", emotion) for name, emotion in NAMES.items()}
    return Tree(
        root, images, frozenset({"foreign files", "split folders"}), {"subject_pattern": r"(p\d)_"}
    )
