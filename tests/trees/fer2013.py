"""FER2013 as its table: usages in order, a picture that is in two of them."""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import grey

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
ROWS = [(code, "Training") for code in range(7)] + [
    (3, "PublicTest"),
    (6, "PublicTest"),
    (3, "PrivateTest"),
]


def pixels(place: int) -> str:
    """The numbers of a row; the last row is a copy of the fourth."""
    code, _ = ROWS[place]
    place = 3 if place == len(ROWS) - 1 else place
    return " ".join(map(str, grey(place, EMOTIONS[code], str(place)).ravel()))


def table(head: str = "emotion,pixels,Usage") -> str:
    """The whole table."""
    return (
        "\n".join(
            [head, *(f"{code},{pixels(place)},{usage}" for place, (code, usage) in enumerate(ROWS))]
        )
        + "\n"
    )


def write(root: Path) -> Tree:
    """Write ten rows, and return what they are."""
    (root / "fer2013").mkdir(parents=True)
    (root / "fer2013/fer2013.csv").write_text(table())
    (root / "fer2013/fer2013.bib").write_text("@article{}")
    images = {
        f"fer2013/fer2013.csv#{place}": Truth("", "", EMOTIONS[code])
        for place, (code, _) in enumerate(ROWS)
    }
    return Tree(
        root,
        images,
        frozenset({"copies across usages", "no subjects", "official partition", "foreign files"}),
    )
