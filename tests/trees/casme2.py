"""CASME II: cropped frames, the sheet of 2014 with its two blank columns, a shortcut, an apex that
is a slash.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

HEAD = ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units"]
CLIPS = [
    ("01", "EP02_01f", 98, 100, 102, "6+12", "happiness"),  # a step from two digits to three
    ("02", "EP02_01f", 8, 10, 12, 4, "others"),  # the same name, another person
    ("04", "EP12_01f", 21, "/", 25, "4+L10", "disgust"),
    ("17", "EP05_03", 1, 2, 4, "15", "repression"),
]


def write(root: Path) -> Tree:
    """Write four clips of four people, and return what they are."""
    images = {}
    for subject, clip, onset, _, offset, _, emotion in CLIPS:
        for number in range(onset, offset + 1):
            path = f"Cropped/sub{subject}/{clip}/reg_img{number}.jpg"
            draw(root / path)
            images[path] = Truth(f"sub{subject}", f"sub{subject}/{clip}", emotion)
    (root / "Cropped/sub01/Desktop - Shortcut.lnk").write_bytes(b"L\0\0\0")
    rows = [[*clip[:2], None, *clip[2:5], None, *clip[5:]] for clip in CLIPS]
    write_sheet(
        root / "CASME2-coding-20140508.xlsx", {"Sheet1": [[*HEAD, "Estimated Emotion"], *rows]}
    )
    return Tree(root, images, frozenset({"tree", "sheet", "foreign files", "patched"}))
