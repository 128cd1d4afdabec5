"""SMIC: clips cut to their expression, recordings without one beside them, and longer videos with a
sheet.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

LABELS = {"ne": "negative", "po": "positive", "sur": "surprise"}
CUT = {
    "s1_ne_01": (1, range(98, 102)),
    "s1_po_02": (1, range(7, 10)),
    "s3_sur_01": (3, range(308866, 308869)),
}
HEAD = ["Subject", "Filename", "FirstF", "OnsetF", "OffsetF", "OnsetF2", "OffsetF2", "Emotion"]


def write(root: Path) -> Tree:
    """Write three cut clips of two people, and a clip of each of the other kinds, which are other
    parts.
    """
    images = {}
    for clip, (subject, numbers) in CUT.items():
        emotion = LABELS[clip.split("_")[1]]
        for number in numbers:
            path = (
                f"SMIC_all_cropped/HS/s{subject}/micro/{emotion}/{clip}/reg_image{number:06d}.bmp"
            )
            draw(root / path)
            images[path] = Truth(f"s{subject:02d}", f"s{subject:02d}/{clip}", emotion)
    draw(root / "SMIC_all_cropped/HS/s1/non_micro/s1_n1/reg_image000001.bmp")
    draw(root / "SMIC_all_cropped/NIR/s11/micro/positive/s11_po_01/reg_image000001.bmp")
    write_long(root)
    return Tree(root, images, frozenset({"tree", "part", "other images", "no apexes"}))


def write_long(root: Path) -> dict[str, Truth]:
    """Write the extended sheet with one video that holds two expressions, and return what its part
    holds.
    """
    folder = "HS_long/SMIC-HS-E/s03/s3_sur_01"
    for number in range(96, 112):
        draw(root / folder / f"image{number:06d}.jpg")
    rows = [[3, "s3_sur_01", 96, 98, 101, 105, 107, "surprise"], [None] * 8, [None] * 8]
    write_sheet(root / "HS_long/SMIC-HS-E_annotation.xlsx", {"Sheet1": [HEAD, *rows]})
    clips = {"s3_sur_01": range(98, 102), "s3_sur_01-2": range(105, 108)}
    return {
        f"{folder}/image{number:06d}.jpg": Truth("s03", f"s03/{clip}", "surprise")
        for clip, numbers in clips.items()
        for number in numbers
    }
