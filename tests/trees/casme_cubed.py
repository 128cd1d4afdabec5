"""CAS(ME)^3: spNO in the sheet and spNo on the disk, several expressions in a video, a known slip,
depth images.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

HEAD = ["Subject", "Filename ", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"]
ROWS = [
    ["spNO.1", "a", 9, 10, 11, "4", "IV", "disgust"],
    ["spNO.1", "a", 20, 21, 22, "1+2\uff0c5", "I", "Surprise"],
    ["spNO.2", "a", 9, 10, 11, "12", "I", "happy"],
    ["spNO.216", "d", 3647, 2649, 2650, "4+R10", "IV", "anger"],  # 2647 is meant
]
FILES = {"spNo.1/a": range(8, 24), "spNo.2/a": range(9, 12), "spNo.216/d": range(2646, 2652)}


def write(root: Path) -> Tree:
    """Write three videos with four expressions of three people."""
    for video, numbers in FILES.items():
        for number in numbers:
            draw(root / f"part_A/data/{video}/color/{number}.jpg")
    draw(root / "part_A/data/spNo.1/a/depth/9.png")
    known = [("1", "a", 9, 9, "disgust"), ("1", "a", 20, 20, "surprise")]
    known += [("2", "a", 9, 9, "happiness"), ("216", "d", 3647, 2647, "anger")]
    images = {}
    for person, video, name, onset, emotion in known:
        for number in range(onset, onset + (4 if person == "216" else 3)):
            truth = Truth(f"spNO.{person}", f"spNO.{person}/{video}_{name}", emotion)
            images[f"part_A/data/spNo.{person}/{video}/color/{number}.jpg"] = truth
    write_sheet(
        root / "annotation/cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", {"label": [HEAD, *ROWS]}
    )
    return Tree(root, images, frozenset({"tree", "sheet", "patched", "other images"}))
