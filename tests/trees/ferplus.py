"""FER+: votes beside the table of pictures, joined by position; unknown, no face, no majority, a
dropped row.
"""

from pathlib import Path

from trees import Tree, Truth, fer2013

HEAD = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
# Ten votes each, in the order of the rows of fer2013.py, and what the majority says.
VOTES = [
    ("0,0,0,1,8,1,0,0,0,0", "anger"),
    ("0,0,0,0,0,2,0,8,0,0", "contempt"),  # FER2013 has no contempt: disgust there
    ("0,0,2,0,0,0,8,0,0,0", "fear"),
    ("4,5,1,0,0,0,0,0,0,0", "happiness"),  # five of nine, when the single vote is dropped
    ("5,0,0,5,0,0,0,0,0,0", ""),  # no majority
    ("0,0,0,0,0,0,0,0,8,2", ""),  # unknown
    ("0,0,0,0,0,0,0,0,0,10", ""),  # no face
    ("0,10,0,0,0,0,0,0,0,0", "happiness"),
    ("0,0,0,0,0,0,0,0,0,0", ""),  # its name is blank: dropped by the authors
    ("0,10,0,0,0,0,0,0,0,0", "happiness"),
]


def votes() -> str:
    """The whole table."""
    lines = [HEAD]
    for place, ((counts, _), (_, usage)) in enumerate(zip(VOTES, fer2013.ROWS, strict=True)):
        lines.append(f"{usage},{'' if place == 8 else f'fer{place:07d}.png'},{counts}")
    return "\r\n".join(lines) + "\r\n"


def write(root: Path) -> Tree:
    """Write ten rows, of which six are an emotion."""
    fer2013.write(root)
    (root / "fer2013new.csv").write_text(votes())
    images = {
        f"fer2013/fer2013.csv#{place}": Truth("", "", emotion)
        for place, (_, emotion) in enumerate(VOTES)
        if emotion
    }
    return Tree(
        root,
        images,
        frozenset({"no single emotion", "dropped row", "joined by position", "no subjects"}),
    )
