"""KDEF: both series of a person, all angles, folders around them, two names that are cut short."""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

NAMES = {
    "AF01/AF01ANS.JPG": ("F01", "anger"),
    "AF01/AF01HAHL.JPG": ("F01", "happiness"),
    "BF01/BF01ANS.JPG": ("F01", "anger"),
    "BF01/BF01AFFR.JPG": ("F01", "fear"),
    "AM01/AM01SUFL.JPG": ("M01", "surprise"),  # another person of the same number
    "AM01/AM01NEHR.JPG": ("M01", "neutral"),
    "BM35/bm35sas.jpg": ("M35", "sadness"),
    "BM35/BM35DIS.JPG": ("M35", "disgust"),
}
CUT = ("AF31/AF31V.JPG", "AM35/AM35DI.JPG")


def write(root: Path) -> Tree:
    """Write eight photographs of three people, and two that no longer say what they show."""
    images = {}
    for name, (subject, emotion) in NAMES.items():
        save(root / "KDEF" / name, int(subject[1:]) + 50 * (subject[0] == "M"), emotion, (76, 56))
        images[f"KDEF/{name}"] = Truth(subject, "", emotion)
    for name in CUT:
        save(root / "KDEF" / name, 99, "neutral", (76, 56))
    return Tree(root, images, frozenset({"misplaced image", "one series"}))
