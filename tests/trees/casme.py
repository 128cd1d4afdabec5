"""CASME: frames called after their clip, some padded and some not, two apexes in the sheet,
subjects as numbers.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

CLIPS = [
    (1, "EP01_5", 98, 100, 99, 102, "L14+12", "tense"),
    (2, "EP01_5", 8, 10, None, 12, "4", "disgust"),  # the same name, another person
    (19, "EP12_3", 7, 9, None, 11, "1+2", "surprise"),
]
HEAD = ["Subject", "Filename", None, "OnsetF", "ApexF1", "ApexF2", "OffsetF", None, "AU", "Emotion"]


def write(root: Path) -> Tree:
    """Write three clips of three people, the last with padded numbers."""
    images = {}
    for subject, clip, onset, _, _, offset, _, emotion in CLIPS:
        for number in range(onset, offset + 1):
            padded = f"{number:03d}" if subject == 19 else str(number)
            path = f"Cropped/sub{subject:02d}/{clip}/reg_{clip}-{padded}.jpg"
            draw(root / path)
            images[path] = Truth(f"sub{subject:02d}", f"sub{subject:02d}/{clip}", emotion)
    rows = [[*clip[:2], None, *clip[2:6], None, *clip[6:]] for clip in CLIPS]
    draw(root / "CASME_raw_selected/sub01/EP01_5/EP01_5-98.jpg")
    write_sheet(root / "casme.xlsx", {"Sheet1": [HEAD, *rows]})
    return Tree(root, images, frozenset({"tree", "sheet"}))
