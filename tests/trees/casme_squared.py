"""CAS(ME)^2: videos with several expressions each, a workbook without a header, and two pages of
naming rules.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

MICRO, MACRO = "micro-expression", "macro-expression"
CODES = [
    [1, "disgust1_1", 3, 4, 5, "4", "negative", MICRO, "disgust"],
    [1, "disgust1_2", 8, 9, 0, "4+L10", "negative", MICRO, "disgust"],  # its offset is not known
    [1, "disgust1_3", 11, 12, 12, "12", "positive", MACRO, "happyiness"],  # sic
    [2, "happy3_1", 99, 100, 101, "6+12", "positive", MICRO, "happyiness"],
    [2, "happy3_2", 1, 2, 3, "1", "surprise", MACRO, "surprise"],
]
SUBJECTS = [[15, "s15", 1], [40, "s40", 2]]
VIDEOS = [["0101", "disgust1"], ["0503", "happy3"]]
FILES = {
    "s15/15_0101disgustingteeth": range(1, 13),
    "s40/40_0503laugh": range(97, 103),
    "s40/40_0102none": range(2),
}


def write(root: Path) -> Tree:
    """Write three videos of two people, one of them without any expression."""
    for video, numbers in FILES.items():
        for number in numbers:
            draw(root / f"rawpic/{video}/img{number}.jpg")
    images = {}
    for number, clip in ((3, 1), (4, 1), (5, 1), (8, 2), (9, 2)):
        images[f"rawpic/s15/15_0101disgustingteeth/img{number}.jpg"] = Truth(
            "s15", f"s15/disgust1_{clip}", "negative"
        )
    for number in (99, 100, 101):
        images[f"rawpic/s40/40_0503laugh/img{number}.jpg"] = Truth(
            "s40", "s40/happy3_1", "positive"
        )
    pages = {"CASFEcode_final": CODES, "naming rule1": SUBJECTS, "naming rule2": VIDEOS}
    write_sheet(root / "CAS(ME)^2code_final.xlsx", pages)
    return Tree(
        root,
        images,
        frozenset({"tree", "not cropped", "sheet", "no offset", "clip not in the sheet"}),
    )
