"""CK+: sequences with and without an emotion, an empty Emotion folder, FACS codes with intensities,
mixed colour.
"""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

# Subject, sequence, frames, emotion's code, what it is, FACS lines; the first frame is not always
# 1.
SEQUENCES = [
    ("S005", "001", range(1, 4), 3, "disgust", [(9, 4), (17, 3)]),
    (
        "S010",
        "004",
        range(8, 12),
        7,
        "surprise",
        [(1, 0), (2, 0), (25, 5)],
    ),  # two digits follow one
    ("S010", "005", range(1, 3), 2, "contempt", []),
    ("S052", "001", range(1, 3), None, "", [(12, 2)]),
    ("S130", "013", range(1, 3), None, "", []),
]


def number(value: int) -> str:
    """A number as the release writes it."""
    return f"   {value:.7e}\n"


def write(root: Path) -> Tree:
    """Write five sequences of four people, three of them labelled, and return what they are."""
    images = {}
    for person, (subject, sequence, frames, code, emotion, units) in enumerate(SEQUENCES):
        stem = f"{subject}_{sequence}_{max(frames):08d}"
        for frame in frames:
            path = f"cohn-kanade-images/{subject}/{sequence}/{subject}_{sequence}_{frame:08d}.png"
            shown = emotion or "neutral"
            save(
                root / path,
                person,
                "neutral" if frame == frames[0] else shown,
                mode="L" if person % 2 else "RGB",
            )
            if code is not None:
                images[path] = Truth(subject, f"{subject}/{sequence}", emotion)
        (root / "Emotion" / subject / sequence).mkdir(parents=True)
        if code is not None:
            (root / "Emotion" / subject / sequence / f"{stem}_emotion.txt").write_text(number(code))
        for kind, text in (
            ("FACS", "".join(f"{number(unit)[:-1]}{number(level)}" for unit, level in units)),
            ("Landmarks", "   1.0e+02   2.0e+02\n" * 68),
        ):
            (root / kind / subject / sequence).mkdir(parents=True)
            ending = "facs" if kind == "FACS" else "landmarks"
            (root / kind / subject / sequence / f"{stem}_{ending}.txt").write_text(text)
    (root / "cohn-kanade-images/S005/.DS_Store").write_bytes(b"\0")
    return Tree(root, images, frozenset({"no emotion"}))
