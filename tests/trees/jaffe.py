"""JAFFE: names as they are, and as copies misspell them; a readme beside them."""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

NAMES = {
    "KA.AN1.39.tiff": ("KA", "anger"),
    "KA.HA2.30.tiff": ("KA", "happiness"),
    "KL.NE3.157.tiff": ("KL", "neutral"),
    "MK.SU1.125.tiff": ("MK", "surprise"),
    "YM.FE1.64.tiff": ("YM", "fear"),
    "TM.SA1.184.tiff": ("TM", "sadness"),
    "NA.DI2 .215.tiff": ("NA", "disgust"),  # a blank
    "uy-su3.142.tiff": ("UY", "surprise"),
    "KM.NE1.1.tiff.png": ("KM", "neutral"),  # converted, the old suffix kept
}
ALIEN = ("KA.XX1.1.tiff", "ZZ.AN1.2.tiff", "KA.AN1.tiff")


def write(root: Path) -> Tree:
    """Write nine photographs of eight women, and three whose names say too little."""
    images = {}
    for person, (name, (subject, emotion)) in enumerate(NAMES.items()):
        save(root / "jaffedbase" / name, person, emotion, mode="L")
        images[f"jaffedbase/{name}"] = Truth(subject, "", emotion)
    for name in ALIEN:
        save(root / "jaffedbase" / name, 99, "neutral", mode="L")
    (root / "jaffedbase/README").write_text("ratings")
    return Tree(root, images, frozenset({"misspelt name", "misplaced image", "foreign files"}))
