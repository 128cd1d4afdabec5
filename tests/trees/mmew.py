"""MMEW: no folder for the person, frames counted from 1, others in the sheet where the folder says
repression.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

HEAD = [
    "Subject",
    "Filename",
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    "Action Units",
    "Estimated Emotion",
    "remarks",
]
CLIPS = [
    ("S03", "S03-01-002", 1, 9, 11, "6+12", "happiness", "happiness"),
    ("S03", "S03-02-001", 1, 2, 3, "4", "others", "repression"),
    ("S12", "S12-01-002", 1, 2, 3, "12", "happiness", "happiness"),
]


def write(root: Path) -> Tree:
    """Write three clips of two people, and a photograph, which is another part."""
    images = {}
    for subject, clip, onset, _, offset, _, emotion, folder in CLIPS:
        for number in range(onset, offset + 1):
            path = f"Micro_Expression/{folder}/{clip}/{number}.jpg"
            draw(root / path)
            images[path] = Truth(subject, f"{subject}/{clip}", emotion)
    draw(root / "Macro_Expression/S03/happiness/S03-01-001.jpg")
    write_sheet(
        root / "MMEW_Micro_Exp.xlsx", {"Sheet1": [HEAD, *([*clip[:7], None] for clip in CLIPS)]}
    )
    return Tree(root, images, frozenset({"tree", "sheet", "folder of another label"}))
