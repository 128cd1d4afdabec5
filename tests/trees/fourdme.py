"""4DME: several emotions at once, apostrophes in the header, a unit that does not move, junk in the
last row.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

HEAD = [
    "sub_ID'",
    "fold_name'",
    "Emotion",
    "Onset",
    "Apex",
    "Offset",
    "AUs",
    "Positive",
    "Negative",
    "Surprise",
]
HEAD += ["Repression", "Others", "eye blink", "fold", "Total"]
ROWS = [
    [1, "1_a", "Negative", 98, 100, 101, "AU4(k)+L7", 0, 1, 0, 0, 0, 0, 1, 1],
    [1, "1_b", "Surprise+Positive", 1, 2, 3, "AUR2+12(k)+45", 1, 0, 1, 0, 0, 0, 1, 2],
    [2, "1_a", "Others", 8, 9, 11, "14", 0, 0, 0, 0, 1, 0, 1, 1],
    [2, "2_b", "Positive", 1, 2, 3, "12", 0, 1, 0, 0, 0, 0, 1, 1],  # its columns say Negative
    ["Total", None, None, None, None, None, None, 2, 2, 1, 0, 1, 0, 4, 5],
]


def write(root: Path) -> Tree:
    """Write four clips of two people, of which one shows two emotions and one contradicts
    itself.
    """
    images = {}
    for subject, clip, emotion, onset, _, offset, *_ in ROWS[:4]:
        for number in range(int(str(onset)), int(str(offset)) + 1):
            path = f"gray_micro_crop/{subject}/{clip}/{number}.jpg"
            draw(root / path)
            if clip not in ("1_b", "2_b"):
                images[path] = Truth(
                    f"s{subject:>02}", f"s{subject:>02}/{clip}", str(emotion).lower()
                )
    write_sheet(root / "4DME_Labelling_Micro_release v1.xlsx", {"Sheet1": [HEAD, *ROWS]})
    kinds = {"tree", "sheet", "no single emotion", "unusable row", "clip not in the sheet"}
    return Tree(root, images, frozenset(kinds))
