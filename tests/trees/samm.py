"""SAMM: notes above the header, subjects as numbers, frames padded to four or five digits, a unit
that is unsure.
"""

from pathlib import Path

from trees import Tree, Truth, draw, write_sheet

HEAD = [
    "Subject",
    "Filename",
    "Inducement Code",
    "Onset Frame",
    "Apex Frame",
    "Offset Frame",
    "Duration",
    "Micro",
]
HEAD += ["Action Units", "Estimated Emotion", "Objective Classes", "Notes"]
CLIPS = [
    (6, "006_1_2", 9998, 10000, 10001, "AU12A or AU14A", "Anger", 5),
    (11, "011_1_1", 98, 100, 101, "R12 + R15", "Other", 7),
    (37, "037_3_1", 1, -1, 3, "A1B+A2C", "Sadness", 1),  # its apex is not known
]


def write(root: Path) -> Tree:
    """Write three clips of three people."""
    images = {}
    for subject, clip, onset, _, offset, _, emotion, _ in CLIPS:
        for number in range(onset, offset + 1):
            path = (
                f"SAMM/{subject:03d}/{clip}/{subject:03d}_{number:0{5 if subject == 6 else 4}d}.jpg"
            )
            draw(root / path)
            folded = {"Anger": "anger", "Other": "others", "Sadness": "sadness"}[emotion]
            images[path] = Truth(f"{subject:03d}", f"{subject:03d}/{clip}", folded)
    notes = [
        ["SAMM: Micro-facial movements"],
        [],
        ["Subject numbers are not consecutive"],
        *[[]] * 10,
    ]
    rows = [
        [
            subject,
            clip,
            3,
            onset,
            apex,
            offset,
            offset - onset + 1,
            "Micro - 1/2",
            units,
            emotion,
            objective,
            None,
        ]
        for subject, clip, onset, apex, offset, units, emotion, objective in CLIPS
    ]
    write_sheet(root / "SAMM_Micro_FACS_Codes_v2.xlsx", {"MICRO ONLY": [*notes, HEAD, *rows]})
    return Tree(root, images, frozenset({"tree", "sheet", "no apex"}))
